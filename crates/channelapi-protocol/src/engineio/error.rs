//! What a request that cannot be served is answered, in Engine.IO's own numbers.

/// Why a request was refused. Its answer is HTTP 400 (403 for [`RequestError::Forbidden`]) with [`RequestError::to_json`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// `transport` is neither `polling` nor `websocket`.
    #[error("Transport unknown")]
    UnknownTransport,
    /// No session has this `sid` (any more).
    #[error("Session ID unknown")]
    UnknownSession,
    /// A session is opened by GET.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// The request does not fit the session or the protocol.
    #[error("Bad request")]
    BadRequest,
    /// The origin may not connect.
    #[error("Forbidden")]
    Forbidden,
    /// `EIO` is not 4.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

impl RequestError {
    /// The number that clients know this error by.
    pub fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        if self == Self::Forbidden { 403 } else { 400 }
    }

    /// The body of the answer.
    pub fn to_json(self) -> String {
        format!(r#"{{"code":{},"message":"{self}"}}"#, self.code())
    }
}
