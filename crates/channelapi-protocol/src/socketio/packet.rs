//! One packet: `kind [attachments-] [/namespace,] [ack id] [data]`.

use super::{DEPTH_MAX, ROOT, is_deeper_than};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client enters a namespace, or the server lets it in.
    Connect,
    /// Either side leaves a namespace.
    Disconnect,
    /// An event with its arguments.
    Event,
    /// The answer to an event.
    Ack,
    /// The server does not let a client in.
    ConnectError,
    /// An event with attachments.
    BinaryEvent,
    /// An answer with attachments.
    BinaryAck,
}

impl Kind {
    fn from_digit(digit: char) -> Option<Self> {
        Some(match digit {
            '0' => Self::Connect,
            '1' => Self::Disconnect,
            '2' => Self::Event,
            '3' => Self::Ack,
            '4' => Self::ConnectError,
            '5' => Self::BinaryEvent,
            '6' => Self::BinaryAck,
            _ => return None,
        })
    }

    fn digit(self) -> u8 {
        match self {
            Self::Connect => b'0',
            Self::Disconnect => b'1',
            Self::Event => b'2',
            Self::Ack => b'3',
            Self::ConnectError => b'4',
            Self::BinaryEvent => b'5',
            Self::BinaryAck => b'6',
        }
    }

    /// Whether attachments follow the packet.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAck)
    }
}

/// A packet whose parts borrow from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is for.
    pub kind: Kind,
    /// How many binary messages follow it; 0 unless the kind is binary.
    pub attachments: usize,
    /// The namespace, with its slash.
    pub namespace: &'a str,
    /// The number an answer is asked for, or given, under.
    pub ack: Option<u64>,
    /// Its data as JSON text, `""` if it has none.
    pub data: &'a str,
}

/// Why a text is no packet that a client may send. Each of them ends the connection, as in the reference server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The first character is not a kind.
    #[error("the packet kind is unknown")]
    UnknownKind,
    /// A binary packet does not say how many attachments follow.
    #[error("the number of attachments is missing or not a number")]
    Attachments,
    /// More attachments than allowed.
    #[error("too many attachments")]
    TooManyAttachments,
    /// The ack id is larger than any client counts.
    #[error("the ack id is too large")]
    AckId,
    /// The data is not the JSON that this kind takes.
    #[error("the data is not what this kind of packet takes")]
    Data,
    /// Arrays or objects are nested deeper than [`DEPTH_MAX`].
    #[error("the data is nested too deeply")]
    TooDeep,
    /// An event has a name that only the client itself may emit.
    #[error("the event name is reserved")]
    ReservedEvent,
}

/// Events that client libraries emit to their own user. A packet that carries one could pass for the library's word.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// JavaScript counts exactly up to here; no honest ack id is larger.
const ACK_ID_MAX: u64 = (1 << 53) - 1;

impl<'a> Packet<'a> {
    /// A packet without attachments in the root namespace.
    pub fn new(kind: Kind, data: &'a str) -> Self {
        Self { kind, attachments: 0, namespace: ROOT, ack: None, data }
    }

    /// Reads a packet of a client and checks its data as far as its kind tells.
    pub fn parse(text: &'a str, attachments_max: usize) -> Result<Self, ParseError> {
        let mut characters = text.chars();
        let kind = characters.next().and_then(Kind::from_digit).ok_or(ParseError::UnknownKind)?;
        let rest = characters.as_str();
        let (attachments, rest) =
            if kind.is_binary() { parse_attachments(rest, attachments_max)? } else { (0, rest) };
        let (namespace, rest) =
            if rest.starts_with('/') { rest.split_once(',').unwrap_or((rest, "")) } else { (ROOT, rest) };
        let (ack, data) = parse_ack(rest)?;
        let packet = Self { kind, attachments, namespace, ack, data };
        packet.check_data()?;
        Ok(packet)
    }

    /// Appends the packet's text.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind.digit());
        if self.kind.is_binary() {
            out.extend_from_slice(self.attachments.to_string().as_bytes());
            out.push(b'-');
        }
        if self.namespace != ROOT {
            out.extend_from_slice(self.namespace.as_bytes());
            out.push(b',');
        }
        if let Some(ack) = self.ack {
            out.extend_from_slice(ack.to_string().as_bytes());
        }
        out.extend_from_slice(self.data.as_bytes());
    }

    fn check_data(&self) -> Result<(), ParseError> {
        if is_deeper_than(DEPTH_MAX, self.data) {
            return Err(ParseError::TooDeep);
        }
        let is_right = match self.kind {
            Kind::Connect => self.data.is_empty() || is_object(self.data),
            Kind::Disconnect => self.data.is_empty(),
            Kind::Event | Kind::BinaryEvent => return check_event(self.data),
            Kind::Ack | Kind::BinaryAck => self.ack.is_some() && is_array(self.data),
            // Only servers refuse.
            Kind::ConnectError => false,
        };
        if is_right { Ok(()) } else { Err(ParseError::Data) }
    }
}

fn parse_attachments(text: &str, max: usize) -> Result<(usize, &str), ParseError> {
    let (count, rest) = text.split_once('-').ok_or(ParseError::Attachments)?;
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseError::Attachments);
    }
    match count.parse::<usize>() {
        Ok(count) if count <= max => Ok((count, rest)),
        _ => Err(ParseError::TooManyAttachments),
    }
}

fn parse_ack(text: &str) -> Result<(Option<u64>, &str), ParseError> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, data) = text.split_at_checked(end).unwrap_or(("", text));
    if digits.is_empty() {
        return Ok((None, data));
    }
    match digits.parse() {
        Ok(id) if id <= ACK_ID_MAX => Ok((Some(id), data)),
        _ => Err(ParseError::AckId),
    }
}

/// An event's data is an array whose first element is its name. (The reference parser also takes a number for a name.)
fn check_event(data: &str) -> Result<(), ParseError> {
    let elements: Vec<&RawValue> = serde_json::from_str(data).map_err(|_| ParseError::Data)?;
    let name = elements.first().ok_or(ParseError::Data)?.get();
    match name.bytes().next() {
        Some(b'"') => match serde_json::from_str::<Cow<'_, str>>(name) {
            Ok(name) if RESERVED_EVENTS.contains(&&*name) => Err(ParseError::ReservedEvent),
            Ok(_) => Ok(()),
            Err(_) => Err(ParseError::Data),
        },
        Some(b'-' | b'0'..=b'9') => Ok(()),
        _ => Err(ParseError::Data),
    }
}

fn is_array(data: &str) -> bool {
    data.trim_start().starts_with('[') && is_json(data)
}

fn is_object(data: &str) -> bool {
    data.trim_start().starts_with('{') && is_json(data)
}

fn is_json(data: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(data).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet<'a>(kind: Kind, namespace: &'a str, ack: Option<u64>, data: &'a str) -> Packet<'a> {
        Packet { kind, attachments: 0, namespace, ack, data }
    }

    #[test]
    fn reads_and_writes_each_kind() {
        let check = |text: &str, expected: Packet<'_>| {
            assert_eq!(Packet::parse(text, 10), Ok(expected), "{text}");
            let mut written = Vec::new();
            expected.write(&mut written);
            assert_eq!(String::from_utf8(written).unwrap(), text);
        };
        check("0", packet(Kind::Connect, "/", None, ""));
        check(r#"0{"token":"123"}"#, packet(Kind::Connect, "/", None, r#"{"token":"123"}"#));
        check(r#"0/custom,{"a":1}"#, packet(Kind::Connect, "/custom", None, r#"{"a":1}"#));
        check("1", packet(Kind::Disconnect, "/", None, ""));
        check(r#"2["m",1e400,"\ud800"]"#, packet(Kind::Event, "/", None, r#"["m",1e400,"\ud800"]"#));
        check(r#"2/custom,12["m"]"#, packet(Kind::Event, "/custom", Some(12), r#"["m"]"#));
        check("2[5]", packet(Kind::Event, "/", None, "[5]"));
        check("3456[]", packet(Kind::Ack, "/", Some(456), "[]"));
        let data = r#"["m",{"_placeholder":true,"num":0}]"#;
        check(
            &format!("51-/a,7{data}"),
            Packet { attachments: 1, ..packet(Kind::BinaryEvent, "/a", Some(7), data) },
        );
        check("60-7[]", packet(Kind::BinaryAck, "/", Some(7), "[]"));
    }

    #[test]
    fn a_namespace_needs_no_comma_at_the_end() {
        assert_eq!(Packet::parse("0/custom", 0), Ok(packet(Kind::Connect, "/custom", None, "")));
        assert_eq!(Packet::parse("1/custom", 0), Ok(packet(Kind::Disconnect, "/custom", None, "")));
    }

    #[test]
    fn refuses_what_is_no_packet() {
        let check = |text: &str, expected| assert_eq!(Packet::parse(text, 10), Err(expected), "{text}");
        check("", ParseError::UnknownKind);
        check("abc", ParseError::UnknownKind);
        check("7", ParseError::UnknownKind);
        check("0[]", ParseError::Data);
        check("0{", ParseError::Data);
        check("1{}", ParseError::Data);
        check("2", ParseError::Data);
        check("2{}", ParseError::Data);
        check("2[]", ParseError::Data);
        check("2[null]", ParseError::Data);
        check(r#"2[{"toString":1}]"#, ParseError::Data);
        check(r#"2["a"]x"#, ParseError::Data);
        check(r#"2abc["a"]"#, ParseError::Data);
        check(r#"299999999999999999999["a"]"#, ParseError::AckId);
        check(r#"2["connect"]"#, ParseError::ReservedEvent);
        check(r#"2["disconnectin\u0067"]"#, ParseError::ReservedEvent);
        check("3[]", ParseError::Data);
        check("31{}", ParseError::Data);
        check(r#"4{"message":"x"}"#, ParseError::Data);
        check("5", ParseError::Attachments);
        check("5-", ParseError::Attachments);
        check(r#"5["a"]"#, ParseError::Attachments);
        check(r#"5x-["a"]"#, ParseError::Attachments);
        check(r#"51e3-["a"]"#, ParseError::Attachments);
        check(r#"511-["a"]"#, ParseError::TooManyAttachments);
        check(r#"599999999999999999999-["a"]"#, ParseError::TooManyAttachments);
        check(&format!("2{}", "[".repeat(100_000)), ParseError::TooDeep);
        check(&format!("0{}", r#"{"a":"#.repeat(40)), ParseError::TooDeep);
    }
}
