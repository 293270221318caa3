//! Why bytes are refused.

use super::code::CloseCode;

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A rule of RFC 6455 was broken.
    #[error("{0}")]
    Protocol(&'static str),
    /// A message is over [`Limits::message_bytes`](super::Limits::message_bytes) or [`Limits::fragments`](super::Limits::fragments).
    #[error("the message is too big")]
    TooBig,
    /// A text message or a close reason is not UTF-8.
    #[error("the text is not UTF-8")]
    InvalidUtf8,
}

impl DecodeError {
    /// The code to close the connection with.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol(_) => CloseCode::PROTOCOL_ERROR,
            Self::TooBig => CloseCode::TOO_BIG,
            Self::InvalidUtf8 => CloseCode::INVALID_DATA,
        }
    }
}
