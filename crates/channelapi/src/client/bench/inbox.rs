//! What a server sends over WebSocket: whole texts, pings, and the end. Anything else is an error.
//!
//! Invariant: nothing is kept but the beginning of a frame that has not arrived whole. A library for clients keeps a buffer per
//! connection, of which there may be a hundred thousand here.

use channelapi_protocol::websocket::frame::{self, Opcode};

/// Longest frame that is taken: four times the data of the largest publication.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// What a server may send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Text(&'a str),
    Ping(&'a [u8]),
    Close,
}

/// Cuts a stream of bytes into messages.
#[derive(Default)]
pub(super) struct Inbox {
    rest: Vec<u8>,
}

impl Inbox {
    /// Hands every message that is complete now to `each`.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Message<'_>)) -> Result<(), String> {
        if self.rest.is_empty() {
            let used = read_all(bytes, &mut each)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.rest.extend_from_slice(bytes);
        let used = read_all(&self.rest, &mut each)?;
        self.rest.drain(..used);
        if self.rest.is_empty() {
            // A long frame is rare, and its room would stay with the connection.
            self.rest = Vec::new();
        }
        Ok(())
    }
}

/// Returns how many bytes belonged to complete frames.
fn read_all(bytes: &[u8], each: &mut impl FnMut(Message<'_>)) -> Result<usize, String> {
    let mut used = 0;
    while let Some(frame) =
        frame::decode(&bytes[used..], PAYLOAD_BYTES_MAX).map_err(|error| error.to_string())?
    {
        used += frame.bytes;
        each(match frame.opcode {
            Opcode::Text => Message::Text(
                std::str::from_utf8(frame.payload).map_err(|_| "a text frame is not UTF-8".to_owned())?,
            ),
            Opcode::Ping => Message::Ping(frame.payload),
            Opcode::Close => Message::Close,
            opcode => return Err(format!("a frame was not expected to be {opcode:?}")),
        });
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use channelapi_protocol::websocket::frame::encode;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let (mut inbox, mut messages) = (Inbox::default(), Vec::new());
        for piece in pieces {
            inbox.feed(piece, |message| messages.push(format!("{message:?}"))).unwrap();
        }
        assert_eq!(inbox.rest.capacity(), 0, "an idle connection keeps nothing");
        messages
    }

    #[test]
    fn messages_come_out_however_they_are_cut() {
        let long = "z".repeat(300);
        let bytes = [
            encode(Opcode::Text, &[b"2"]),
            encode(Opcode::Text, &[long.as_bytes()]),
            encode(Opcode::Ping, &[b"hi"]),
            encode(Opcode::Close, &[]),
        ]
        .concat();
        let whole = read(&[&bytes]);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[2..], ["Ping([104, 105])", "Close"]);
        for cut in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        for bytes in [
            encode(Opcode::Binary, &[b"a"]),
            encode(Opcode::Pong, &[]),
            encode(Opcode::Text, &[&[0xff]]),
            encode(Opcode::Text, &[&vec![b'x'; PAYLOAD_BYTES_MAX + 1]])[..10].to_vec(),
        ] {
            assert!(Inbox::default().feed(&bytes, |_| ()).is_err(), "{bytes:02x?}");
        }
    }
}
