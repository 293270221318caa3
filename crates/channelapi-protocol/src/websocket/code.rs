//! Close codes (RFC 6455 §7.4).

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
