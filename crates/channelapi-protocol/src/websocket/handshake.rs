//! The opening handshake (RFC 6455 §4.2): is this request an upgrade, and what is its answer?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The value every server appends to the key of the client (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The headers of a request that decide about an upgrade, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpgradeRequest<'a> {
    /// Whether `Upgrade` [names] `websocket`, and `Connection` `upgrade`.
    pub is_upgrade: bool,
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
    /// The value of `Sec-WebSocket-Accept` for this request.
    pub fn accept(&self) -> Result<String, HandshakeError> {
        if !self.is_upgrade {
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

/// Whether one of the lines of a header, each a list, holds `token`, whatever its case.
pub fn names<'a>(lines: impl IntoIterator<Item = &'a str>, token: &str) -> bool {
    lines.into_iter().flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: UpgradeRequest<'_> =
        UpgradeRequest { is_upgrade: true, version: Some("13"), key: Some("dGhlIHNhbXBsZSBub25jZQ==") };

    #[test]
    fn answers_the_example_of_the_rfc() {
        assert_eq!(GOOD.accept().as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn refuses_what_is_not_an_upgrade() {
        let check = |request: UpgradeRequest<'_>, expected| assert_eq!(request.accept(), Err(expected));
        check(UpgradeRequest { is_upgrade: false, ..GOOD }, HandshakeError::NotAnUpgrade);
        check(UpgradeRequest { version: Some("8"), ..GOOD }, HandshakeError::Version);
        check(UpgradeRequest { key: Some("short"), ..GOOD }, HandshakeError::Key);
        check(UpgradeRequest { version: None, ..GOOD }, HandshakeError::Version);
        check(UpgradeRequest { key: None, ..GOOD }, HandshakeError::Key);
    }

    #[test]
    fn a_list_names_what_stands_on_any_of_its_lines() {
        let check = |lines: &[&str], expected| {
            assert_eq!(names(lines.iter().copied(), "upgrade"), expected, "{lines:?}");
        };
        check(&["keep-alive, Upgrade"], true);
        check(&["keep-alive", "UPGRADE"], true);
        check(&["upgrade , close", ""], true);
        check(&["close"], false);
        check(&["upgrades", "up, grade"], false);
        check(&[], false);
    }
}
