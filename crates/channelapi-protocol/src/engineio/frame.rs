//! One encoded packet, ready for every client and both transports.

use crate::websocket::frame::{Opcode, encode, payload_span, write_header};
use bytes::Bytes;

/// Packets of a server as WebSocket frames. Polling takes the same bytes without their headers, so whatever the transports of
/// a channel's clients are, a publication is encoded once. Cloning shares the bytes.
///
/// Usually one packet; several that were joined travel as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Engine.IO's ping.
    pub const PING: Self = Self(Bytes::from_static(b"\x81\x012"));
    /// Engine.IO's close: the client reconnects, unlike after a Socket.IO disconnect.
    pub const CLOSE: Self = Self(Bytes::from_static(b"\x81\x011"));
    /// Engine.IO's noop, which ends a waiting poll.
    pub const NOOP: Self = Self(Bytes::from_static(b"\x81\x016"));
    /// The answer to a client's `2probe`.
    pub const PROBE_PONG: Self = Self(Bytes::from_static(b"\x81\x063probe"));

    /// A text packet made of `parts`, the first of which begins with the packet's type.
    pub fn text(parts: &[&[u8]]) -> Self {
        Self(encode(Opcode::Text, parts).into())
    }

    /// Appends the bytes of a text packet made of `parts`, the first of which begins with the packet's type.
    pub fn write_text(parts: &[&[u8]], out: &mut Vec<u8>) {
        let length = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        write_header(Opcode::Text, length, out);
        for part in parts {
            out.extend_from_slice(part);
        }
    }

    /// A binary message.
    pub fn binary(bytes: &[u8]) -> Self {
        Self(encode(Opcode::Binary, &[bytes]).into())
    }

    /// Takes bytes that are whole frames of this module, for instance several joined ones.
    pub fn from_wire(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes as they go to a WebSocket.
    pub fn wire(&self) -> &Bytes {
        &self.0
    }

    /// The bytes as they go to a WebSocket, owned.
    pub fn into_wire(self) -> Bytes {
        self.0
    }

    /// How many of the bytes behind the first `sent` belong to a frame that begins before them.
    pub fn rest_of_frame(&self, sent: usize) -> usize {
        let mut frames = self.frames();
        loop {
            let walked = self.0.len().saturating_sub(frames.as_bytes().len());
            if let Some(rest) = walked.checked_sub(sent) {
                return rest;
            }
            if frames.next().is_none() {
                return self.0.len().saturating_sub(sent);
            }
        }
    }

    /// Drops all but the last `length` bytes, which must begin with a frame.
    pub(super) fn keep_last(&mut self, length: usize) {
        let start = self.0.len().saturating_sub(length);
        _ = self.0.split_to(start);
    }

    /// The packets one by one, for polling.
    pub fn frames(&self) -> Frames<'_> {
        Frames(&self.0)
    }
}

/// Walks over the packets of a [`Frame`].
#[derive(Debug, Clone)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    /// The frames that were not walked over yet.
    pub(super) fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// One packet of a [`Frame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePacket<'a> {
    /// Whether it is a binary message.
    pub is_binary: bool,
    /// Its bytes, with the packet's type in front if it is text.
    pub payload: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = FramePacket<'a>;

    fn next(&mut self) -> Option<FramePacket<'a>> {
        let (start, length) = payload_span(self.0)?;
        let is_binary = self.0.first()? & 0x0F == Opcode::Binary as u8;
        let (payload, rest) = self.0.get(start..)?.split_at_checked(length)?;
        self.0 = rest;
        Some(FramePacket { is_binary, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_frames_are_walked_one_by_one() {
        let long = vec![b'4'; 70_000];
        let parts = [Frame::text(&[b"42", b"[1]"]), Frame::binary(&[7]), Frame::text(&[&long]), Frame::PING];
        let joined: Vec<u8> = parts.iter().flat_map(|frame| frame.wire().to_vec()).collect();
        let joined = Frame::from_wire(joined.into());
        let walked: Vec<_> = joined.frames().map(|packet| (packet.is_binary, packet.payload)).collect();
        let rests: Vec<_> = [0, 1, 7, 8, 10, 11, 70_000].map(|sent| joined.rest_of_frame(sent)).into();
        assert_eq!(rests, [0, 6, 0, 2, 0, 70_009, 20]);
        assert_eq!(walked, [(false, &b"42[1]"[..]), (true, &[7]), (false, &long), (false, b"2")]);
    }
}
