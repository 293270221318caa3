//! WebSocket frames as a client sees them (RFC 6455, section 5): masked on the way out, plain on the way in.
//!
//! Only what the server sends: whole text frames, pings, and the end. Anything else is an error. The codec of the server reads
//! the other direction, and a library for clients keeps a buffer per connection, of which there may be a hundred thousand here.

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// In place of a length: it follows in 16 or 64 bits.
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;

/// A mask keeps web pages from writing bytes of their choice through old proxies. What is sent here no web page chose.
const MASK: [u8; 4] = [0x5c, 0x1a, 0xe3, 0x97];

/// Longest frame that is taken: four times the data of the largest publication.
const PAYLOAD_BYTES_MAX: u64 = 1 << 20;

/// What a server may send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Text(&'a str),
    Ping(&'a [u8]),
    Close,
}

/// A text frame.
pub(super) fn text(payload: &str) -> Vec<u8> {
    encode(TEXT, payload.as_bytes())
}

/// The answer to a ping of WebSocket's own.
pub(super) fn pong(payload: &[u8]) -> Vec<u8> {
    encode(PONG, payload)
}

fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < LENGTH_16 => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | LENGTH_16);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | LENGTH_64);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Cuts a stream of bytes into frames; keeps nothing but the beginning of a frame that has not arrived whole.
#[derive(Default)]
pub(super) struct Decoder {
    rest: Vec<u8>,
}

impl Decoder {
    /// Hands every frame that is complete now to `each`.
    pub(super) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>)) -> Result<(), String> {
        if self.rest.is_empty() {
            let used = decode_all(bytes, &mut each)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.rest.extend_from_slice(bytes);
        let used = decode_all(&self.rest, &mut each)?;
        self.rest.drain(..used);
        if self.rest.is_empty() {
            // A long frame is rare, and its room would stay with the connection.
            self.rest = Vec::new();
        }
        Ok(())
    }
}

/// Returns how many bytes belonged to complete frames.
fn decode_all(bytes: &[u8], each: &mut impl FnMut(Frame<'_>)) -> Result<usize, String> {
    let mut used = 0;
    while let Some((frame, length)) = decode(&bytes[used..])? {
        used += length;
        each(frame);
    }
    Ok(used)
}

fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Err(format!("a frame that begins with {first:#04x} {second:#04x} is none of a server"));
    }
    let Some((header, length)) = extent(bytes) else { return Ok(None) };
    if length > PAYLOAD_BYTES_MAX {
        return Err(format!("a frame of {length} bytes is longer than any publication"));
    }
    let end = header + usize::try_from(length).expect("it was compared with a limit");
    let Some(payload) = bytes.get(header..end) else { return Ok(None) };
    let frame = match first & 0x0f {
        TEXT => {
            Frame::Text(std::str::from_utf8(payload).map_err(|_| "a text frame is not UTF-8".to_owned())?)
        }
        PING => Frame::Ping(payload),
        CLOSE => Frame::Close,
        opcode => return Err(format!("a frame with the opcode {opcode:#x} is none that was expected")),
    };
    Ok(Some((frame, end)))
}

/// Where the payload begins, and its length; `None` if that has not arrived.
fn extent(frame: &[u8]) -> Option<(usize, u64)> {
    let rest = frame.get(2..)?;
    Some(match frame[1] & 0x7f {
        LENGTH_16 => (4, u16::from_be_bytes(*rest.first_chunk()?).into()),
        LENGTH_64 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        length => (2, length.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same frame as a server sends it.
    fn plain(payload: &str) -> Vec<u8> {
        let masked = text(payload);
        let header = masked.len() - payload.len() - MASK.len();
        let mut frame = masked[..header].to_vec();
        frame[1] &= 0x7f;
        frame.extend(payload.as_bytes());
        frame
    }

    fn decoded(pieces: &[&[u8]]) -> Vec<String> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, |frame| frames.push(format!("{frame:?}"))).unwrap();
        }
        frames
    }

    #[test]
    fn what_is_sent_is_masked_and_says_its_length() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = "x".repeat(length);
            let frame = text(&payload);
            assert_eq!((frame[0], frame[1] & 0x80), (0x81, 0x80));
            let (header, told) = extent(&frame).unwrap();
            assert_eq!((told, frame.len()), (length as u64, header + 4 + length));
            let mask = &frame[header..header + 4];
            let unmasked =
                frame[header + 4..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            assert!(unmasked.eq(payload.bytes()));
        }
    }

    #[test]
    fn frames_come_out_however_they_are_cut() {
        let mut bytes = plain("2");
        bytes.extend(plain(&"z".repeat(300)));
        bytes.extend([0x89, 0x02, b'h', b'i', 0x88, 0x00]);
        let whole = decoded(&[&bytes]);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[2..], ["Ping([104, 105])", "Close"]);
        for cut in 0..=bytes.len() {
            assert_eq!(decoded(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        for bytes in [
            &[0x01, 0x01, b'a'][..],
            &[0xc1, 0x00],
            &[0x81, 0x80, 0, 0, 0, 0],
            &[0x83, 0x00],
            &[0x81, 0x01, 0xff],
            &[0x81, 0x7f, 0, 0, 0, 0, 0, 0x10, 0, 1],
        ] {
            assert!(Decoder::default().feed(bytes, |_| ()).is_err(), "{bytes:02x?}");
        }
    }
}
