//! The keys that count now, and how a reload changes them.

use super::keys::{Key, Keys};
use crate::config::Config;
use crate::config::keys::{Reach, ResolvedKeys, resolve_beside};
use crate::live::Live;
use crate::reload::{Change, Part};
use arc_swap::Guard;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{info, warn};

/// The keys that count now. Its clones are the same ring.
#[derive(Clone)]
pub(crate) struct KeyRing {
    keys: Live<Keys>,
    /// Who can reach the server is known since its start.
    reach: Reach,
    /// Where a key is kept that nobody set: as the data directory of the start, it stays until a restart.
    data_dir: PathBuf,
}

impl KeyRing {
    /// A ring with the keys of the start, which used this data directory.
    pub(crate) fn new(resolved: &ResolvedKeys, reach: Reach, data_dir: PathBuf) -> Self {
        Self { keys: Live::new(Keys::new(&resolved.keys)), reach, data_dir }
    }

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }
}

impl Part for KeyRing {
    fn options(&self, _: &Config) -> &'static [&'static str] {
        &["auth_key", "auth_keys"]
    }

    fn prepare(&self, config: &Config) -> anyhow::Result<Change> {
        let resolved = resolve_beside(&self.data_dir, config, self.reach)?;
        let keys = Keys::new(&resolved.keys);
        let ring = self.keys.clone();
        Ok(Box::new(move || {
            for warning in &resolved.warnings {
                warn!("{warning}");
            }
            let Difference { added, removed, changed } = Difference::between(&ring.load(), &keys);
            let is_other = !(added.is_empty() && removed.is_empty() && changed.is_empty());
            ring.replace(keys);
            if is_other {
                info!(?added, ?removed, ?changed, "the API keys are new");
            }
        }))
    }
}

/// What a reload does to the keys, by their names.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

impl Difference {
    fn between(old: &Keys, new: &Keys) -> Self {
        let named = |keys: &Keys, wanted: &Key| keys.iter().any(|key| key.name() == wanted.name());
        let missing_in = |other: &Keys, keys: &Keys| {
            keys.iter().filter(|key| !named(other, key)).map(|key| key.name().to_owned()).collect()
        };
        let is_changed = |key: &&Key| named(old, key) && !old.iter().any(|before| before.is_same_as(key));
        let changed = new.iter().filter(is_changed).map(|key| key.name().to_owned()).collect();
        Self { added: missing_in(old, new), removed: missing_in(new, old), changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KnownKey;
    use crate::config::secret::Secret;

    #[test]
    fn a_difference_is_told_by_names() {
        let key = |name: &str, secret: &str| KnownKey {
            name: name.to_owned(),
            ..KnownKey::single(&Secret::new(secret))
        };
        let old = Keys::new(&[key("stays", "1"), key("goes", "2"), key("turns", "3")]);
        let new = Keys::new(&[key("turns", "4"), key("comes", "5"), key("stays", "1")]);
        let names = |name: &str| vec![name.to_owned()];
        let expected = Difference { added: names("comes"), removed: names("goes"), changed: names("turns") };
        assert_eq!(Difference::between(&old, &new), expected);
        let same = Difference::between(&old, &old);
        assert_eq!(same, Difference { added: vec![], removed: vec![], changed: vec![] });
    }
}
