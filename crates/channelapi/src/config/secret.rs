//! A value that is compared and never shown.
//!
//! Invariants: no formatting prints it, and how long a comparison takes tells nothing about it, not even its length.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::value::{Shape, Value};

/// What stands in for a secret wherever one would be printed.
const MASK: &str = "****";

/// A key that authorizes whoever presents it.
#[derive(Clone)]
pub struct Secret {
    text: String,
    // Digests have one length, so comparing them leaks none; kept because it is needed for every request.
    digest: [u8; 32],
}

impl Secret {
    /// Wraps the text of a secret.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let digest = Sha256::digest(text.as_bytes()).into();
        Self { text, digest }
    }

    /// Whether somebody presented this secret.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.digest.ct_eq(&presented).into()
    }

    /// The text itself. Every caller is a place where the secret could leak.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Value for Secret {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "KEY";
    const ACCEPTS: &'static str = "at least 16 bytes that nobody can guess";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the key is empty; remove the setting to have a key generated and stored".to_owned());
        }
        Ok(Self::new(text))
    }

    fn show(&self) -> String {
        MASK.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_itself_alone() {
        let secret = Secret::new("correct horse battery");
        assert!(secret.matches(b"correct horse battery"));
        for wrong in ["", "correct horse batter", "correct horse battery ", "Correct horse battery", "****"] {
            assert!(!secret.matches(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = Secret::new("hunter2-hunter2-hunter2");
        let printed = format!("{secret} {secret:?} {} {:?}", secret.show(), Some(&secret));
        assert_eq!(printed, "**** **** **** Some(****)");
    }

    #[test]
    fn an_empty_secret_is_refused() {
        assert!(Secret::parse("").unwrap_err().contains("the key is empty"));
    }
}
