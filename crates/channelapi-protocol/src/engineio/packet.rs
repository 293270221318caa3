//! One packet of a client, on either transport.

use std::borrow::Cow;

/// What a client sent. `Open` is missing on purpose: only servers send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The client ends the session.
    Close,
    /// A ping; in Engine.IO 4 clients only send it as `2probe`, to test a new transport.
    Ping(&'a str),
    /// The answer to our ping.
    Pong(&'a str),
    /// A text message.
    Text(&'a str),
    /// A binary message. Borrowed from a WebSocket message, owned after base64.
    Binary(Cow<'a, [u8]>),
    /// The client has changed its transport.
    Upgrade,
    /// Nothing.
    Noop,
}

/// Why a text is no packet of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// There is not even a type.
    #[error("the packet is empty")]
    Empty,
    /// The first character is not a type that clients send.
    #[error("the packet type is unknown")]
    UnknownType,
    /// A packet that is only a type carries data.
    #[error("the packet carries data that its type does not allow")]
    UnexpectedData,
    /// A binary packet in a polling payload is not base64.
    #[error("the binary packet is not base64")]
    Base64,
    /// The payload holds more packets than allowed.
    #[error("the payload holds too many packets")]
    TooMany,
}

impl<'a> Packet<'a> {
    /// Reads a packet from text: a WebSocket text message, or one part of a polling payload that is not base64.
    pub fn parse(text: &'a str) -> Result<Self, PacketError> {
        let mut characters = text.chars();
        let kind = characters.next().ok_or(PacketError::Empty)?;
        let data = characters.as_str();
        let only = |packet| if data.is_empty() { Ok(packet) } else { Err(PacketError::UnexpectedData) };
        match kind {
            '1' => only(Self::Close),
            '2' => Ok(Self::Ping(data)),
            '3' => Ok(Self::Pong(data)),
            '4' => Ok(Self::Text(data)),
            '5' => only(Self::Upgrade),
            '6' => only(Self::Noop),
            _ => Err(PacketError::UnknownType),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_packet_of_a_client() {
        let check = |text, expected| assert_eq!(Packet::parse(text), expected, "{text:?}");
        check("1", Ok(Packet::Close));
        check("2probe", Ok(Packet::Ping("probe")));
        check("3", Ok(Packet::Pong("")));
        check("4héllo", Ok(Packet::Text("héllo")));
        check("4", Ok(Packet::Text("")));
        check("5", Ok(Packet::Upgrade));
        check("6", Ok(Packet::Noop));
        check("", Err(PacketError::Empty));
        check("0{}", Err(PacketError::UnknownType));
        check("7", Err(PacketError::UnknownType));
        check("€4", Err(PacketError::UnknownType));
        check("1x", Err(PacketError::UnexpectedData));
    }
}
