//! The options: each is written down exactly once, in `options/table.rs`, or in `options/lists.rs` if the items of a list can hold it.
//!
//! Its place gives the TOML key (`log.level`), from which follow the flag (`--log-level`) and the variable
//! (`CHANNELAPI_LOG_LEVEL`); its doc comment becomes the help text (first paragraph), the example file and the
//! reference page. `docs/configuration.md` is printed from here, and a test fails when it differs. What the lists hold has neither
//! flag nor variable.

#[macro_use]
mod declare;
mod lists;
mod spec;
mod table;

pub use self::{
    lists::{AUTH_KEY_OPTIONS, AUTH_KEYS, JWT, JWT_OPTIONS, LISTS, POLICY, POLICY_OPTIONS},
    spec::Spec,
    table::{Config, History, Limits, OPTIONS},
};

/// The option with this key.
pub fn spec(key: &str) -> &'static Spec {
    OPTIONS.iter().find(|spec| spec.key == key).expect("keys come from the table")
}

/// The option with this key, among those that the items of a list can hold.
pub fn list_spec(key: &str) -> &'static Spec {
    let mut all = LISTS.iter().flat_map(|(_, options)| *options);
    all.find(|spec| spec.key == key).expect("keys come from the table")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{source::Resolver, units::ByteSize, value::Value as _};

    #[test]
    fn names_follow_from_the_key() {
        let level = spec("log.level");
        assert_eq!((level.section, level.name), (Some("log"), "level"));
        assert_eq!((level.flag().as_str(), level.variable().as_str()), ("log-level", "CHANNELAPI_LOG_LEVEL"));
        assert_eq!(level.file_variable(), None);

        let key = spec("auth_key");
        assert_eq!((key.section, key.flag().as_str()), (None, "auth-key"));
        assert_eq!(key.file_variable().as_deref(), Some("CHANNELAPI_AUTH_KEY_FILE"));
    }

    #[test]
    fn no_two_options_share_a_name() {
        for (index, one) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[index + 1..] {
                assert_ne!(one.flag(), other.flag());
                assert_ne!(one.variable(), other.variable());
            }
        }
    }

    #[test]
    fn every_option_explains_itself() {
        for spec in OPTIONS.iter().chain(LISTS.iter().flat_map(|(_, options)| *options)) {
            let summary = spec.summary();
            assert!(summary.len() > 10 && summary.len() <= 90, "{}: {summary}", spec.key);
            assert!(!spec.accepts.is_empty() && !spec.placeholder.is_empty(), "{}", spec.key);
        }
    }

    #[test]
    fn defaults_are_inside_their_ranges() {
        let mut values = Resolver::new(&[]);
        let config = Config::resolve(&mut values);
        assert_eq!((config.port, config.data_dir.to_str()), (8888, Some("./data")));
        assert_eq!(
            (config.socketio.ping_interval, config.socketio.ping_timeout),
            (Duration::from_secs(25), Duration::from_secs(20))
        );
        assert_eq!(config.socketio.max_payload.bytes(), 65_536);
        assert!(
            config.auth_key.is_none()
                && config.redis.host.is_none()
                && !config.debug
                && !config.is_loopback()
        );

        for spec in OPTIONS.iter().filter(|spec| spec.range.is_some()) {
            let text = spec.default.unwrap();
            let shown = match spec.placeholder {
                "SIZE" => spec.parse::<ByteSize>(text).map(|value| value.show()),
                "N" => spec.parse::<u64>(text).map(|value| value.show()),
                _ => spec.parse::<Duration>(text).map(|value| value.show()),
            };
            // `config show` prints what the documentation says.
            assert_eq!(shown.as_deref(), Ok(text), "{}", spec.key);
        }
    }

    #[test]
    fn ranges_are_enforced_at_both_ends() {
        let interval = spec("socketio.ping_interval");
        for (text, fits) in [("99ms", false), ("100ms", true), ("10m", true), ("601s", false), ("0s", false)]
        {
            assert_eq!(interval.parse::<Duration>(text).is_ok(), fits, "{text}");
        }
        for (text, fits) in [("0", true), ("1000000", true), ("1000001", false)] {
            assert_eq!(spec("history.max_messages").parse::<u64>(text).is_ok(), fits, "{text}");
        }
        for (text, fits) in [("127MiB", false), ("128MiB", true), ("48TiB", true), ("1000TiB", false)] {
            assert_eq!(spec("store.max_disk").parse::<ByteSize>(text).is_ok(), fits, "{text}");
        }
        let no_unit = spec("drain.timeout").parse::<Duration>("0");
        assert_eq!(no_unit, Err("`0` has no unit; write 0s".to_owned()));
        let message = interval.parse::<Duration>("1d").unwrap_err();
        assert_eq!(message, "`1d` is out of range; write 100ms to 10m");
        assert!(
            spec("socketio.max_payload")
                .parse::<ByteSize>("2MiB")
                .unwrap_err()
                .contains("write 1KiB to 1MiB")
        );
    }
}
