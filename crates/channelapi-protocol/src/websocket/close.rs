//! The body of a close frame.

use super::code::CloseCode;
use super::error::DecodeError;

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
