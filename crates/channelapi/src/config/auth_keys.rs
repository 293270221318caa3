//! The `[[auth_keys]]` of the file: API keys that may do less than everything, or end.
//!
//! Here is what can be judged by the file alone; what the files say that it names is the business of [`super::keys`].

use std::path::PathBuf;

use channelapi_core::limits::AUTH_KEY_NAME_BYTES_MAX;

use super::{
    moment::Moment,
    pattern::ChannelPatterns,
    scope::Scopes,
    secret::KeyHash,
    source::Setting,
    value::{Shape, Value, not},
};

/// The name under which `auth_key` appears beside the others.
pub const SINGLE_KEY: &str = "auth_key";

/// An API key of the file, checked.
#[derive(Debug, Clone)]
pub struct AuthKey {
    /// What logs call it.
    pub name: KeyName,
    /// Where the key itself is.
    pub held: Held,
    /// What it may do.
    pub scopes: Scopes,
    /// Its channels; `None` is all.
    pub channels: Option<ChannelPatterns>,
    /// When it ends.
    pub expires: Option<Moment>,
    /// All of it as text, and where it came from.
    pub settings: Vec<Setting>,
}

/// How a key is known to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// By its hash.
    Hash(KeyHash),
    /// In this file.
    File(PathBuf),
}

/// What a key is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(pub(super) String);

impl KeyName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for KeyName {
    const SHAPE: Shape = Shape::Text;
    const PLACEHOLDER: &'static str = "NAME";
    const ACCEPTS: &'static str = "1 to 64 letters, digits, dots, dashes and underscores";

    fn parse(text: &str) -> Result<Self, String> {
        let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_harmless) {
            return Err(not(text, "a name", "write letters, digits, dots, dashes and underscores"));
        }
        if text.len() > AUTH_KEY_NAME_BYTES_MAX {
            return Err(format!(
                "the name is {} bytes long, the limit is {AUTH_KEY_NAME_BYTES_MAX}",
                text.len()
            ));
        }
        if text == SINGLE_KEY {
            return Err(format!("`{SINGLE_KEY}` is the name of the option; choose another"));
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    /// No name: it stands in for one that is missing or wrong, which is a problem of its own.
    fn from_default(_: Option<&str>) -> Self {
        Self(String::new())
    }
}
