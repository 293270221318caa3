//! The API keys as requests are compared with them: no key itself, only its hash.

use super::Denied;
use crate::config::keys::KnownKey;
use crate::config::pattern::ChannelPatterns;
use crate::config::scope::{Scope, Scopes};
use crate::config::secret::KeyHash;
use crate::receiving::{KeyShare, Sender};
use channelapi_core::model::{ChannelName, Pattern};
use std::sync::Arc;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

/// A key, and what it allows.
#[derive(Debug)]
pub(crate) struct Key {
    name: Box<str>,
    hash: KeyHash,
    scopes: Scopes,
    /// Patterns of its channels; `None` is all.
    channels: Option<Box<[Pattern]>>,
    /// Milliseconds since 1970 from which on it lets nobody in.
    expires_at: Option<u64>,
    /// Whether everybody may know it, or guess it.
    is_weak: bool,
    /// What is on its way with it.
    receiving: Arc<KeyShare>,
}

impl Key {
    fn new(known: &KnownKey) -> Self {
        let some = |patterns: &ChannelPatterns| patterns.iter().map(Pattern::new).collect();
        Self {
            name: known.name.as_str().into(),
            hash: known.hash,
            scopes: known.scopes,
            channels: known.channels.as_ref().filter(|patterns| !patterns.is_everything()).map(some),
            expires_at: known.expires_at,
            is_weak: known.is_weak,
            receiving: Arc::default(),
        }
    }

    /// Whether it lets in whom another one lets in, to the same.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let all = |key: &Self| (key.name.clone(), key.scopes, key.channels.clone(), key.expires_at);
        self.hash == other.hash && all(self) == all(other)
    }

    /// Whoever sends something with it.
    pub(crate) fn sender(&self) -> Sender {
        Sender::Publisher(self.receiving.clone())
    }

    /// What logs and figures call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has ended. The clock is asked only if it ever does.
    pub(crate) fn has_ended(&self, now: impl FnOnce() -> u64) -> bool {
        self.expires_at.is_some_and(|end| end <= now())
    }

    /// Whether everybody may know it, or guess it.
    pub(super) fn is_weak(&self) -> bool {
        self.is_weak
    }

    /// Whether it allows what needs `scope`, in `channel` if it is about one.
    pub(crate) fn admit(&self, scope: Scope, channel: Option<&ChannelName>) -> Result<(), Denied> {
        if !self.scopes.allow(scope) {
            return Err(Denied::Scope(scope));
        }
        if channel.is_none_or(|channel| self.reaches(channel)) { Ok(()) } else { Err(Denied::Channel) }
    }

    /// Whether it is for some channels only.
    pub(crate) fn is_limited(&self) -> bool {
        self.channels.is_some()
    }

    /// Whether a channel is one of its own.
    pub(crate) fn reaches(&self, channel: &ChannelName) -> bool {
        let patterns = self.channels.as_deref();
        patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(channel.as_str())))
    }
}

/// All keys.
pub(crate) struct Keys(Box<[Arc<Key>]>);

impl Keys {
    pub(super) fn new(known: &[KnownKey]) -> Self {
        Self(known.iter().map(|known| Arc::new(Key::new(known))).collect())
    }

    /// One key that may do everything.
    #[cfg(test)]
    pub(crate) fn of_one(key: &str) -> Self {
        Self::new(&[KnownKey::single(&crate::config::secret::Secret::new(key))])
    }

    /// The key that was presented, if it is one of these.
    pub(super) fn find(&self, presented: &[u8]) -> Option<&Arc<Key>> {
        self.with_hash(&KeyHash::of(presented))
    }

    /// The key that is there now for one that was there before.
    pub(super) fn same(&self, key: &Key) -> Option<&Arc<Key>> {
        self.with_hash(&key.hash)
    }

    fn with_hash(&self, hash: &KeyHash) -> Option<&Arc<Key>> {
        let mut found = 0;
        for (place, key) in (1_u32..).zip(&self.0) {
            found.conditional_assign(&place, key.hash.ct_eq(hash));
        }
        self.0.get(usize::try_from(found).ok()?.checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(|key| &**key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::pattern::ChannelPatterns;
    use crate::config::value::Value as _;

    fn known(name: &str, scopes: &str, channels: Option<&str>) -> KnownKey {
        KnownKey {
            name: name.to_owned(),
            hash: KeyHash::of(name.as_bytes()),
            scopes: Scopes::parse(scopes).unwrap(),
            channels: channels.map(|text| ChannelPatterns::parse(text).unwrap()),
            expires_at: None,
            is_weak: false,
        }
    }

    #[test]
    fn each_key_is_found_wherever_it_stands() {
        let names = ["first", "second", "third"];
        let keys = Keys::new(&names.map(|name| known(name, "read", None)));
        for name in names {
            assert_eq!(keys.find(name.as_bytes()).map(|key| key.name()), Some(name));
        }
        for wrong in ["", "firs", "fourth"] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert!(Keys::new(&[]).find(b"first").is_none());
    }

    #[test]
    fn a_key_admits_to_its_scopes_in_its_channels() {
        let key = Key::new(&known("k", "publish,read", Some("user-*\nnews")));
        let check = |scope, channel: &str, expected| {
            let channel = ChannelName::parse(channel).unwrap();
            assert_eq!(key.admit(scope, Some(&channel)), expected, "{scope} {channel}");
        };
        check(Scope::Publish, "user-42", Ok(()));
        check(Scope::Read, "news", Ok(()));
        check(Scope::Read, "newsletter", Err(Denied::Channel));
        check(Scope::Publish, "users", Err(Denied::Channel));
        check(Scope::Tokens, "user-42", Err(Denied::Scope(Scope::Tokens)));
        check(Scope::Admin, "elsewhere", Err(Denied::Scope(Scope::Admin)));
        assert_eq!(key.admit(Scope::Publish, None), Ok(()), "a batch says later which channels");

        let key = Key::new(&known("k", "admin", Some("user-*")));
        for scope in Scope::ALL {
            assert_eq!(key.admit(scope, Some(&ChannelName::parse("user-1").unwrap())), Ok(()));
            let elsewhere = ChannelName::parse("news").unwrap();
            assert_eq!(
                key.admit(scope, Some(&elsewhere)),
                Err(Denied::Channel),
                "admin of its channels alone"
            );
        }
    }

    #[test]
    fn a_key_ends_at_its_time() {
        let key = Key::new(&KnownKey { expires_at: Some(100), ..known("k", "read", None) });
        assert!(!key.has_ended(|| 99) && key.has_ended(|| 100) && key.has_ended(|| 101));
        let key = Key::new(&known("k", "read", None));
        assert!(!key.has_ended(|| panic!("nobody needs to know the time")));
    }
}
