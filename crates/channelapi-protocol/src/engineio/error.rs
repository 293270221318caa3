//! What a request that cannot be served is answered, in Engine.IO's own numbers.

/// Why a request was refused. Its answer is HTTP 400, unless [`RequestError::status`] says otherwise, with [`RequestError::to_json`].
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
    /// It asks for a version of WebSocket that we do not speak. Engine.IO knows it as a bad request.
    #[error("Bad request")]
    WebSocketVersion,
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
            Self::BadRequest | Self::WebSocketVersion => 3,
            Self::Forbidden => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::WebSocketVersion => 426,
            _ => 400,
        }
    }

    /// The body of the answer.
    pub fn to_json(self) -> String {
        format!(r#"{{"code":{},"message":"{self}"}}"#, self.code())
    }
}
