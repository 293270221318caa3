//! From the bytes of a client to messages.
//!
//! Invariants:
//! - A frame is judged by its header alone: a length over the limit is an error before a byte of it is stored.
//! - An idle decoder owns no buffer. A frame that arrives whole is unmasked where it lies and lent out without a copy;
//!   only an incomplete one is kept.
//! - However the bytes are cut into reads, the messages and the error are the same.

use super::close::CloseFrame;
use super::error::DecodeError;
use super::frame::{CONTROL_BYTES_MAX, Opcode};
use super::mask;
use std::ops::Range;

/// What a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping; the answer is a pong with the same bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The client closes; nothing after this counts.
    Close(Option<CloseFrame<'a>>),
}

/// How much one message may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one message, its fragments together.
    pub message_bytes: usize,
    /// Fragments of one message.
    pub fragments: u16,
}

/// Reads the frames of one client. Feed it with [`Decoder::next`].
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Bytes of frames that were not complete when they arrived. Empty, without capacity, while idle.
    kept: Vec<u8>,
    /// Where in `kept` the next frame begins.
    start: usize,
    /// How far behind `start` the last message, which may still be lent out, reaches.
    used: usize,
    /// A message of which not all fragments have arrived, or the complete one that was just lent out.
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Fragments {
    opcode: Opcode,
    bytes: Vec<u8>,
    count: u16,
    complete: bool,
}

/// Where the payload of a message that is complete lies.
enum Place {
    Input(Range<usize>),
    Kept(Range<usize>),
    Fragments,
}

impl Decoder {
    /// A decoder that owns no memory yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, kept: Vec::new(), start: 0, used: 0, fragments: None }
    }

    /// The next message in `input` from `*at` on, which is moved behind what was used.
    ///
    /// `None` means that all of `input` was taken and more is needed. The payload is unmasked in place: call again with
    /// the same `input` and `at` until `None`, and do not read `input` yourself. After an error the connection is over.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
        at: &mut usize,
    ) -> Result<Option<Message<'a>>, DecodeError> {
        self.forget_lent();
        let Some((opcode, place)) = self.advance(input, at)? else {
            return Ok(None);
        };
        let payload: &'a [u8] = match place {
            Place::Input(span) => input.get(span).unwrap_or_default(),
            Place::Kept(span) => self.kept.get(span).unwrap_or_default(),
            Place::Fragments => self.fragments.as_ref().map_or(&[], |fragments| &fragments.bytes),
        };
        Ok(Some(match opcode {
            Opcode::Text => {
                Message::Text(simdutf8::basic::from_utf8(payload).map_err(|_| DecodeError::InvalidUtf8)?)
            }
            Opcode::Binary | Opcode::Continuation => Message::Binary(payload),
            Opcode::Ping => Message::Ping(payload),
            Opcode::Pong => Message::Pong(payload),
            Opcode::Close => Message::Close(CloseFrame::parse(payload)?),
        }))
    }

    /// Keeps bytes for later, as if they had arrived in front of the next input: for a reader that must pause.
    pub fn keep(&mut self, rest: &[u8]) {
        self.forget_lent();
        // Moving what is left to the front here, and not after each frame, keeps many small frames cheap.
        self.kept.drain(..self.start);
        self.start = 0;
        self.kept.extend_from_slice(rest);
    }

    /// Whether bytes of an unfinished frame or message wait here.
    pub fn is_mid_message(&self) -> bool {
        self.kept.len() > self.start.saturating_add(self.used)
            || self.fragments.as_ref().is_some_and(|fragments| !fragments.complete)
    }

    /// Bytes of memory held for unfinished messages.
    pub fn held_bytes(&self) -> usize {
        let fragments = self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.capacity());
        self.kept.capacity().saturating_add(fragments)
    }

    /// Frees what the previous message borrowed.
    fn forget_lent(&mut self) {
        self.start = self.start.saturating_add(self.used);
        self.used = 0;
        if self.start >= self.kept.len() {
            self.kept = Vec::new();
            self.start = 0;
        }
        if self.fragments.as_ref().is_some_and(|fragments| fragments.complete) {
            self.fragments = None;
        }
    }

    fn advance(&mut self, input: &mut [u8], at: &mut usize) -> Result<Option<(Opcode, Place)>, DecodeError> {
        loop {
            let Some(frame) = self.next_frame(input, at)? else {
                return Ok(None);
            };
            let Frame { header, place } = frame;
            let payload = match &place {
                Place::Kept(span) => self.kept.get_mut(span.clone()),
                Place::Input(span) => input.get_mut(span.clone()),
                Place::Fragments => None,
            }
            .unwrap_or_default();
            mask(payload, header.mask);
            if header.opcode.is_control() {
                return Ok(Some((header.opcode, place)));
            }
            match &mut self.fragments {
                None if header.fin => return Ok(Some((header.opcode, place))),
                None => {
                    let bytes = payload.to_vec();
                    let first = Fragments { opcode: header.opcode, bytes, count: 1, complete: false };
                    self.fragments = Some(Box::new(first));
                }
                Some(message) => {
                    message.bytes.extend_from_slice(payload);
                    message.count = message.count.saturating_add(1);
                    message.complete = header.fin;
                    if header.fin {
                        return Ok(Some((message.opcode, Place::Fragments)));
                    }
                }
            }
            // A fragment was taken over; its bytes are free before the next frame is looked at.
            self.forget_lent();
        }
    }

    /// The next frame that is there as a whole.
    fn next_frame(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Frame>, DecodeError> {
        loop {
            let rest = input.get(*at..).unwrap_or_default();
            let in_input = self.kept.is_empty();
            let kept = self.kept.get(self.start..).unwrap_or_default();
            let parsed = Header::parse(if in_input { rest } else { kept })?;
            let needed = match parsed {
                Parsed::Needs(bytes) => bytes,
                Parsed::Header(header) => {
                    self.admit(&header)?;
                    let end = header.bytes.saturating_add(header.payload_bytes);
                    let available = if in_input { rest.len() } else { kept.len() };
                    if available >= end {
                        let place = if in_input {
                            let start = *at;
                            *at = start.saturating_add(end);
                            Place::Input(start.saturating_add(header.bytes)..*at)
                        } else {
                            self.used = end;
                            let payload = self.start.saturating_add(header.bytes);
                            Place::Kept(payload..self.start.saturating_add(end))
                        };
                        return Ok(Some(Frame { header, place }));
                    }
                    end
                }
            };
            // Incomplete: keep what is there of this one frame, leave the frames behind it where they lie.
            let missing = needed.saturating_sub(kept.len());
            let take = missing.min(rest.len());
            self.keep(rest.get(..take).unwrap_or_default());
            *at = at.saturating_add(take);
            if take < missing || take == 0 {
                return Ok(None);
            }
        }
    }

    /// Judges a frame by its header, before any of its payload is kept.
    fn admit(&self, header: &Header) -> Result<(), DecodeError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let open = self.fragments.as_ref();
        match (header.opcode, open) {
            (Opcode::Continuation, None) => {
                return Err(DecodeError::Protocol("a continuation frame has nothing to continue"));
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(DecodeError::Protocol("a new message begins inside a fragmented one"));
            }
            _ => {}
        }
        let before = open.map_or(0, |message| message.bytes.len());
        if before.saturating_add(header.payload_bytes) > self.limits.message_bytes {
            return Err(DecodeError::TooBig);
        }
        let fragments = open.map_or(0, |message| message.count).saturating_add(1);
        if fragments > self.limits.fragments {
            return Err(DecodeError::TooBig);
        }
        Ok(())
    }
}

struct Frame {
    header: Header,
    place: Place,
}

/// The header of a client's frame.
struct Header {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    payload_bytes: usize,
    /// The header's own length.
    bytes: usize,
}

enum Parsed {
    Header(Header),
    /// So many bytes of the frame must be there before its header can be read.
    Needs(usize),
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Parsed, DecodeError> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(Parsed::Needs(2));
        };
        if first & 0x70 != 0 {
            return Err(DecodeError::Protocol("a reserved bit is set without an extension"));
        }
        let Some(opcode) = Opcode::from_bits(first & 0x0F) else {
            return Err(DecodeError::Protocol("the opcode is reserved"));
        };
        if second & 0x80 == 0 {
            return Err(DecodeError::Protocol("a frame of a client is not masked"));
        }
        let fin = first & 0x80 != 0;
        let short = usize::from(second & 0x7F);
        if opcode.is_control() && (!fin || short > CONTROL_BYTES_MAX) {
            return Err(DecodeError::Protocol("a control frame is fragmented or longer than 125 bytes"));
        }
        let (payload_bytes, length_bytes, rest) = match short {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(Parsed::Needs(4)) };
                let length = u16::from_be_bytes(*length);
                if length < 126 {
                    return Err(DecodeError::Protocol("a length is not in its shortest form"));
                }
                (usize::from(length), 2, rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(Parsed::Needs(10)) };
                let length = u64::from_be_bytes(*length);
                if u16::try_from(length).is_ok() || i64::try_from(length).is_err() {
                    return Err(DecodeError::Protocol("a length is not in its shortest form or negative"));
                }
                (usize::try_from(length).map_err(|_| DecodeError::TooBig)?, 8, rest)
            }
            _ => (short, 0, rest),
        };
        // The length is judged before the mask has come; without it the frame cannot be complete.
        let mask = rest.first_chunk().copied().unwrap_or_default();
        let bytes = 2_usize.saturating_add(length_bytes).saturating_add(mask.len());
        Ok(Parsed::Header(Self { fin, opcode, mask, payload_bytes, bytes }))
    }
}
