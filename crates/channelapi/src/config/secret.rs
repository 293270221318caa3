//! A value that is compared and never shown.
//!
//! Invariants: no formatting prints it, and how long a comparison takes tells nothing about it, not even its length.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::value::{Shape, Value};

/// What stands in for a secret wherever one would be printed.
const MASK: &str = "****";

/// A key that authorizes whoever presents it.
#[derive(Clone)]
pub struct Secret {
    text: String,
    // Hashes have one length, so comparing them leaks none.
    hash: KeyHash,
}

impl Secret {
    /// Wraps the text of a secret.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let hash = KeyHash::of(text.as_bytes());
        Self { text, hash }
    }

    /// What it is recognised by.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    /// Whether somebody presented this secret.
    #[cfg(test)]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.hash == KeyHash::of(presented)
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
    const ACCEPTS: &'static str = "a secret that nobody can guess";
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

/// The SHA-256 of a key, by which it is recognised. A key is random and long, so nobody finds it by trying.
#[derive(Clone, Copy)]
pub struct KeyHash([u64; 4]);

impl KeyHash {
    /// How it is written.
    const PREFIX: &'static str = "sha256:";

    /// The hash of a key.
    pub fn of(key: &[u8]) -> Self {
        let digest = Sha256::digest(key);
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(digest.as_chunks().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Self(words)
    }

    /// The hash as it is written in the file.
    pub fn written(&self) -> String {
        let [a, b, c, d] = self.0;
        format!("{}{a:016x}{b:016x}{c:016x}{d:016x}", Self::PREFIX)
    }
}

impl ConstantTimeEq for KeyHash {
    fn ct_eq(&self, other: &Self) -> Choice {
        let differences = self.0.iter().zip(&other.0).fold(0, |all, (one, other)| all | (one ^ other));
        differences.ct_eq(&0)
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for KeyHash {}

/// Enough to tell it from others.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08x}…", Self::PREFIX, self.0[0] >> 32)
    }
}

impl Value for KeyHash {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "HASH";
    const ACCEPTS: &'static str = "`sha256:` and 64 hexadecimal digits, as `channelapi key hash` prints them";

    fn parse(text: &str) -> Result<Self, String> {
        // Not quoted, because it may be the key itself that was written here.
        let wrong = "it is not the hash of a key; `channelapi key hash` prints it, as sha256: and 64 hexadecimal digits";
        let digits = text
            .strip_prefix(Self::PREFIX)
            .filter(|digits| digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let digits = digits.ok_or(wrong)?;
        let mut words = [0; 4];
        for (index, word) in words.iter_mut().enumerate() {
            *word = u64::from_str_radix(&digits[index * 16..][..16], 16).map_err(|_| wrong)?;
        }
        Ok(Self(words))
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_as_it_is_written() {
        let hash = KeyHash::of(b"Hello World!");
        let written = "sha256:7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069";
        assert_eq!(hash.written(), written);
        assert_eq!(KeyHash::parse(written), Ok(hash));
        assert_eq!(KeyHash::parse(&written.to_uppercase().replace("SHA", "sha")), Ok(hash));
        assert_eq!(hash.show(), "sha256:7f83b165…");
        let other = format!("{}8", &written[..written.len() - 1]);
        assert_ne!(KeyHash::parse(&other), Ok(hash), "the last digit counts");
        for wrong in [
            "",
            "sha256:",
            &written[7..],
            &written[..70],
            &format!("{written}0"),
            &written.replace('7', "g"),
            "sha256:+",
        ] {
            assert!(KeyHash::parse(wrong).is_err(), "{wrong}");
        }
    }

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
