//! Close codes (RFC 6455 §7.4) and the body of a close frame.

use super::DecodeError;

/// Why a WebSocket connection is closed, as a number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A text message was not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// A message was larger than the receiver accepts.
    pub const TOO_BIG: Self = Self(1009);

    /// Whether a peer may put this code into a close frame. 1005, 1006 and 1015 describe what was *not* said.
    pub fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What a peer said when it closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The reason as a number.
    pub code: CloseCode,
    /// The reason as a text, possibly empty.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the body of a close frame; an empty body says nothing, which is allowed.
    pub(super) fn parse(body: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        if body.is_empty() {
            return Ok(None);
        }
        let Some((code, reason)) = body.split_first_chunk::<2>() else {
            return Err(DecodeError::Protocol("the body of a close frame is one byte long"));
        };
        let code = CloseCode(u16::from_be_bytes(*code));
        if !code.may_be_sent() {
            return Err(DecodeError::Protocol("a close frame carries a code that must not be sent"));
        }
        let reason = simdutf8::basic::from_utf8(reason).map_err(|_| DecodeError::InvalidUtf8)?;
        Ok(Some(Self { code, reason }))
    }
}
