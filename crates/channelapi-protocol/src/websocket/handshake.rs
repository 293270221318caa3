//! The opening handshake (RFC 6455 §4.2): is this request an upgrade, and what is its answer?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The value every server appends to the key of the client (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The headers of a request that decide about an upgrade, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpgradeRequest<'a> {
    /// `Upgrade`: must name `websocket`.
    pub upgrade: Option<&'a str>,
    /// `Connection`: must name `upgrade`.
    pub connection: Option<&'a str>,
    /// `Sec-WebSocket-Version`: must be `13`.
    pub version: Option<&'a str>,
    /// `Sec-WebSocket-Key`: 16 bytes in base64.
    pub key: Option<&'a str>,
}

/// Why a request cannot become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// `Upgrade` or `Connection` do not ask for a WebSocket.
    #[error("the request does not ask for an upgrade to websocket")]
    NotAnUpgrade,
    /// A version other than 13; the answer should name the one we speak.
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    /// The key is missing or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
}

impl UpgradeRequest<'_> {
    /// Whether the client means to open a WebSocket at all, however wrong the rest may be.
    pub fn is_upgrade(&self) -> bool {
        has_token(self.upgrade, "websocket") && has_token(self.connection, "upgrade")
    }

    /// The value of `Sec-WebSocket-Accept` for this request.
    pub fn accept(&self) -> Result<String, HandshakeError> {
        if !self.is_upgrade() {
            return Err(HandshakeError::NotAnUpgrade);
        }
        if self.version.map(str::trim) != Some("13") {
            return Err(HandshakeError::Version);
        }
        let key = self.key.map(str::trim).ok_or(HandshakeError::Key)?;
        match STANDARD.decode(key) {
            Ok(nonce) if nonce.len() == 16 => Ok(accept_value(key)),
            _ => Err(HandshakeError::Key),
        }
    }
}

fn accept_value(key: &str) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// Whether a comma-separated header value holds `token`, whatever its case.
fn has_token(value: Option<&str>, token: &str) -> bool {
    value.is_some_and(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: UpgradeRequest<'_> = UpgradeRequest {
        upgrade: Some("WebSocket"),
        connection: Some("keep-alive, Upgrade"),
        version: Some("13"),
        key: Some("dGhlIHNhbXBsZSBub25jZQ=="),
    };

    #[test]
    fn answers_the_example_of_the_rfc() {
        assert_eq!(GOOD.accept().as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn refuses_what_is_not_an_upgrade() {
        let check = |request: UpgradeRequest<'_>, expected| assert_eq!(request.accept(), Err(expected));
        check(UpgradeRequest { upgrade: Some("h2c"), ..GOOD }, HandshakeError::NotAnUpgrade);
        check(UpgradeRequest { connection: Some("close"), ..GOOD }, HandshakeError::NotAnUpgrade);
        check(UpgradeRequest { version: Some("8"), ..GOOD }, HandshakeError::Version);
        check(UpgradeRequest { key: Some("short"), ..GOOD }, HandshakeError::Key);
        check(UpgradeRequest { key: None, ..GOOD }, HandshakeError::Key);
    }
}
