//! The settings as the broker takes them.

use channelapi_core::{
    broker::StoreSettings,
    model::{self, Pattern, Policies, Retention},
};

use super::{
    Config,
    options::History,
    policy::Replay,
    value::{Durability, Value},
};

impl Config {
    /// What is kept of which channels, and how safely.
    pub fn policies(&self) -> Policies {
        let patterns = self.policy.iter().map(|policy| {
            let kept = History {
                max_messages: policy.max_messages,
                max_age: policy.max_age,
                max_bytes: policy.max_bytes,
            };
            let settings = settings(policy.durability, &kept, policy.replay_on_join);
            (Pattern::new(&policy.pattern.show()), settings)
        });
        let otherwise = settings(self.store.durability.into(), &self.history, Replay::Nothing);
        Policies::new(patterns.collect(), otherwise)
    }

    /// How the log is kept.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings { disk_bytes_max: self.store.max_disk.bytes() as u64, ..StoreSettings::default() }
    }
}

fn settings(durability: Durability, history: &History, replay: Replay) -> model::Policy {
    model::Policy {
        durability: match durability {
            Durability::Fsync => model::Durability::Fsync,
            Durability::Relaxed => model::Durability::Relaxed,
            Durability::Memory => model::Durability::Memory,
        },
        retention: Retention {
            messages: count(history.max_messages),
            age: u64::try_from(history.max_age.as_millis()).unwrap_or(u64::MAX),
            bytes: history.max_bytes.bytes() as u64,
        },
        replay_on_join: match replay {
            Replay::Nothing => 0,
            Replay::Newest(number) => count(number),
            Replay::Everything => usize::MAX,
        },
    }
}

/// More than fits into memory is as good as everything.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use channelapi_core::model::ChannelName;

    use super::*;
    use crate::config::{env, load};

    #[test]
    fn the_broker_gets_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let text = "
            store = { durability = 'relaxed', max_disk = '2TB' }
            history = { max_messages = 7, max_age = '1h' }
            [[policy]]
            match = 'user-vip-*'
            durability = 'fsync'
            history = { max_bytes = '1MiB' }
            replay_on_join = true
            [[policy]]
            match = 'user-*'
            durability = 'memory'
            history = { max_messages = 3, max_age = '1d' }
            replay_on_join = 2
        ";
        std::fs::write(&path, text).unwrap();
        let config = load(vec![], Some(&path), env::load([]), &[]).unwrap();
        let policies = config.policies();

        let check = |name, durability, messages, age, bytes, replay_on_join| {
            let retention = Retention { messages, age, bytes };
            let expected = model::Policy { durability, retention, replay_on_join };
            assert_eq!(policies.of(&ChannelName::parse(name).unwrap()), expected, "{name}");
        };
        check("user-vip-1", model::Durability::Fsync, 7, 3_600_000, 1 << 20, usize::MAX);
        check("user-1", model::Durability::Memory, 3, 86_400_000, 4 << 20, 2);
        check("order-1", model::Durability::Relaxed, 7, 3_600_000, 4 << 20, 0);
        assert_eq!(config.store_settings().disk_bytes_max, 2_000_000_000_000);
        assert_eq!(config.store_settings().segment_bytes, StoreSettings::default().segment_bytes);
    }

    #[test]
    fn without_any_settings_everything_is_durable_for_a_day() {
        let config = load(vec![], None, env::load([]), &[]).unwrap();
        let policy = config.policies().of(&ChannelName::parse("any").unwrap());
        let retention = Retention { messages: 1000, age: 86_400_000, bytes: 4 << 20 };
        assert_eq!(
            policy,
            model::Policy { durability: model::Durability::Fsync, retention, replay_on_join: 0 }
        );
        assert_eq!(config.store_settings().disk_bytes_max, 10_000_000_000);
    }
}
