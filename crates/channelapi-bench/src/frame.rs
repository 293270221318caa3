//! WebSocket frames as a client sees them: masked on the way out, plain on the way in.
//!
//! Only what a benchmark needs: whole text frames and pings. Anything else is an error of the server under test.

use anyhow::{Context as _, Result, bail};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// In place of a length: it follows in 16 or 64 bits.
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;

/// Masking keeps web pages from writing chosen bytes through old proxies. There is neither here, so one key will do.
const MASK: [u8; 4] = [0x5c, 0x1a, 0xe3, 0x97];

/// Longest frame taken from a server; the publications of a benchmark are far shorter.
const PAYLOAD_MAX: usize = 1 << 20;

/// What a server may send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a str),
    Ping(&'a [u8]),
    Close,
}

/// A masked text frame.
pub(crate) fn text(payload: &str) -> Vec<u8> {
    encode(TEXT, payload.as_bytes())
}

/// The answer to a ping: a masked pong with the same payload.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
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

/// An unmasked text frame, as a server sends it.
pub(crate) fn server_text(payload: &str) -> Vec<u8> {
    let masked = text(payload);
    let header = masked.len() - payload.len() - MASK.len();
    let mut frame = masked[..header].to_vec();
    frame[1] &= 0x7f;
    frame.extend(payload.as_bytes());
    frame
}

/// Bytes of a text frame of a server.
pub(crate) fn server_bytes(payload: &str) -> usize {
    let header = match payload.len() {
        ..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    header + payload.len()
}

/// One client's frame without its mask, as a server has to read it.
pub(crate) fn unmasked(frame: &[u8]) -> Result<Vec<u8>> {
    let (header, length) = extent(frame).context("the client's frame has no length")?;
    let masked =
        frame[header..].split_first_chunk::<4>().filter(|(_, payload)| payload.len() as u64 == length);
    let (mask, payload) = masked.context("the client's frame did not come in one piece")?;
    let mut plain = frame[..header].to_vec();
    plain[1] &= 0x7f;
    plain.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(plain)
}

/// Where the header ends (before a mask), and the length of the payload; `None` if they are not there yet.
fn extent(frame: &[u8]) -> Option<(usize, u64)> {
    let rest = frame.get(2..)?;
    Some(match frame[1] & 0x7f {
        LENGTH_16 => (4, u16::from_be_bytes(*rest.first_chunk()?).into()),
        LENGTH_64 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        length => (2, length.into()),
    })
}

/// Cuts a byte stream into frames; holds nothing but the beginning of a frame that has not arrived whole.
#[derive(Default)]
pub(crate) struct Decoder {
    rest: Vec<u8>,
}

impl Decoder {
    /// Hands every frame that is complete now to `each`.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Frame<'_>) -> Result<()>) -> Result<()> {
        if self.rest.is_empty() {
            let used = decode_all(bytes, &mut each)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let used = decode_all(&self.rest, &mut each)?;
            self.rest.drain(..used);
        }
        Ok(())
    }
}

/// Returns how many bytes belonged to complete frames.
fn decode_all(bytes: &[u8], each: &mut impl FnMut(Frame<'_>) -> Result<()>) -> Result<usize> {
    let mut used = 0;
    while let Some((frame, length)) = decode(&bytes[used..])? {
        used += length;
        each(frame)?;
    }
    Ok(used)
}

fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let [first, second, ..] = bytes else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        bail!("the server sent a fragmented, compressed or masked frame ({first:#04x} {second:#04x})");
    }
    let Some((header, length)) = extent(bytes) else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > PAYLOAD_MAX {
        bail!("the server sent a frame of {length} bytes, the limit is {PAYLOAD_MAX}");
    }
    let Some(payload) = bytes.get(header..header + length) else { return Ok(None) };
    let frame = match first & 0x0f {
        TEXT => Frame::Text(std::str::from_utf8(payload)?),
        PING => Frame::Ping(payload),
        CLOSE => Frame::Close,
        opcode => bail!("the server sent a frame with opcode {opcode:#x}"),
    };
    Ok(Some((frame, header + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for chunk in chunks {
            let keep = |frame: Frame<'_>| {
                frames.push(format!("{frame:?}"));
                Ok(())
            };
            decoder.feed(chunk, keep).unwrap();
        }
        frames
    }

    #[test]
    fn client_frames_are_masked_and_unmask_to_the_payload() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = "x".repeat(length);
            let frame = text(&payload);
            assert_eq!(frame[0], 0x81);
            assert_eq!(frame[1] & 0x80, 0x80);
            let start = frame.len() - length;
            let mask = &frame[start - 4..start];
            let plain: Vec<u8> = frame[start..].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
            assert_eq!(plain, payload.as_bytes());
        }
    }

    #[test]
    fn unmasking_gives_what_a_server_would_send() {
        for length in [0, 1, 125, 126, 400] {
            let payload = "x".repeat(length);
            let masked = text(&payload);
            assert_eq!(unmasked(&masked).unwrap(), server_text(&payload));
            assert!(unmasked(&masked[..masked.len() - 1]).is_err());
        }
    }

    #[test]
    fn server_frames_of_every_length_form_are_read() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = "y".repeat(length);
            assert_eq!(server_text(&payload).len(), server_bytes(&payload));
            assert_eq!(decoded(&[&server_text(&payload)]), [format!("Text({payload:?})")]);
        }
    }

    #[test]
    fn frames_cut_anywhere_come_out_whole() {
        let mut bytes = server_text("2");
        bytes.extend(server_text(&"z".repeat(300)));
        bytes.extend([0x89, 0x02, b'h', b'i', 0x88, 0x00]);
        let whole = decoded(&[&bytes]);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[2..], ["Ping([104, 105])", "Close"]);
        for cut in 0..=bytes.len() {
            assert_eq!(decoded(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn frames_no_server_may_send_are_refused() {
        for bytes in [
            &[0x01, 0x01, b'a'][..],
            &[0xc1, 0x00],
            &[0x81, 0x80, 0, 0, 0, 0],
            &[0x83, 0x00],
            &[0x81, 0x01, 0xff],
        ] {
            assert!(Decoder::default().feed(bytes, |_| Ok(())).is_err(), "{bytes:02x?}");
        }
    }
}
