//! The `[[policy]]`, completed and checked.

use channelapi_core::limits::POLICIES_MAX;

use crate::config::{
    options::{Config, History, list_spec, spec},
    policy::{Policy, Replay},
    source::{GivenItem, Problem, Resolver, Source},
};

/// All policies of the file.
#[derive(Default)]
pub(in crate::config) struct Resolved {
    pub(in crate::config) policies: Vec<Policy>,
    pub(in crate::config) problems: Vec<Problem>,
    pub(in crate::config) warnings: Vec<String>,
}

/// Completes each policy with the settings that hold for all channels, and checks them against each other.
pub(in crate::config) fn resolve(given: &[GivenItem], config: &Config) -> Resolved {
    let mut resolved = Resolved::default();
    if let Some(first_too_many) = given.get(POLICIES_MAX) {
        let number = given.len();
        let message = format!(
            "{number} policies are too many, the limit is {POLICIES_MAX}; join some of them in one pattern"
        );
        resolved.problems.push(Problem::at(first_too_many.source.clone(), message));
        return resolved;
    }
    for given in given {
        let mut values = Resolver::new(&given.given);
        let policy = Policy::resolve(&mut values, config);
        resolved.problems.extend(values.problems);
        let policy = Policy { settings: values.settings, ..policy };
        resolved.problems.extend(policy.is_shadowed(&resolved.policies));
        resolved.problems.extend(policy.replays_nothing());
        resolved.warnings.extend(policy.replays_too_much().map(|problem| problem.to_string()));
        resolved.policies.push(policy);
    }
    resolved
}

impl Policy {
    fn resolve(values: &mut Resolver<'_>, config: &Config) -> Self {
        let setting = |key: &str| {
            config.settings.iter().find(|setting| setting.key == key).expect("every option has a setting")
        };
        let History { max_messages, max_age, max_bytes } = config.history;
        let durability = config.store.durability.into();
        Self {
            pattern: values.take(list_spec("policy.match")),
            durability: values.inherit(
                list_spec("policy.durability"),
                durability,
                setting("store.durability"),
            ),
            max_messages: values.inherit(
                spec("history.max_messages"),
                max_messages,
                setting("history.max_messages"),
            ),
            max_age: values.inherit(spec("history.max_age"), max_age, setting("history.max_age")),
            max_bytes: values.inherit(spec("history.max_bytes"), max_bytes, setting("history.max_bytes")),
            replay_on_join: values.take(list_spec("policy.replay_on_join")),
            settings: Vec::new(),
        }
    }

    /// Where the value of an option came from.
    fn source(&self, key: &str) -> &Source {
        &self.settings.iter().find(|setting| setting.key == key).expect("every option has a setting").source
    }

    fn is_shadowed(&self, above: &[Self]) -> Option<Problem> {
        let first = above.iter().find(|first| first.pattern.covers(&self.pattern))?;
        let (pattern, earlier, place) =
            (self.pattern.as_str(), first.pattern.as_str(), first.source("policy.match"));
        let message = if pattern == earlier {
            format!(
                "`{pattern}` already has a policy ({place}), so this one is never used; remove one of them"
            )
        } else {
            format!(
                "all channels of `{pattern}` match `{earlier}` first ({place}), so this policy is never used; \
                 put it above that one"
            )
        };
        Some(Problem::at(self.source("policy.match").clone(), format!("policy.match: {message}")))
    }

    fn replays_nothing(&self) -> Option<Problem> {
        if self.replay_on_join == Replay::Nothing || self.max_messages > 0 {
            return None;
        }
        let place = self.source("history.max_messages");
        let message = format!(
            "policy.replay_on_join: there is nothing to replay, because max_messages is 0 ({place}); raise it, or \
             remove replay_on_join"
        );
        Some(Problem::at(self.source("policy.replay_on_join").clone(), message))
    }

    fn replays_too_much(&self) -> Option<Problem> {
        let kept = self.max_messages;
        let Replay::Newest(wanted) = self.replay_on_join else { return None };
        let place = self.source("history.max_messages");
        let message =
            format!("policy.replay_on_join is {wanted}, but max_messages keeps only {kept} ({place})");
        (wanted > kept && kept > 0)
            .then(|| Problem::at(self.source("policy.replay_on_join").clone(), message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Setting;
    use crate::config::{Rejected, env, load};

    /// Loads this file under the name `c.toml`, with these variables.
    fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let rename = |text: &str| text.replace(path.to_str().unwrap(), "c.toml");
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let loaded = load(vec![], Some(&path), env::load(variables), &[]);
        loaded
            .map(|mut config| {
                config.warnings.iter_mut().for_each(|warning| *warning = rename(warning));
                config
            })
            .map_err(|Rejected { problems, .. }| {
                problems.iter().map(|problem| rename(&problem.to_string())).collect()
            })
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(load_with(text, &[]).expect_err(text), expected, "{text}");
    }

    /// A file of policies with these patterns, three lines each.
    fn policies(patterns: &[&str]) -> String {
        patterns
            .iter()
            .fold(String::new(), |text, pattern| text + &format!("[[policy]]\nmatch = '{pattern}'\n\n"))
    }

    #[test]
    fn what_a_policy_leaves_out_is_as_for_all_channels() {
        let text = "
            store.durability = 'relaxed'
            [[policy]]
            match = 'user-*'
            [[policy]]
            match = 'order-*'
            durability = 'memory'
            history = { max_age = '7d', max_bytes = '1MiB' }
            replay_on_join = 20
        ";
        let config = load_with(text, &[("CHANNELAPI_HISTORY_MAX_MESSAGES", "5000")]).unwrap();
        let shown = |policy: &Policy| -> Vec<String> {
            let row = |setting: &Setting| {
                let source = setting.source.to_string();
                let place = source.rsplit('/').next().unwrap_or_default();
                format!("{} {} {place}", setting.key, setting.value)
            };
            policy.settings.iter().map(row).collect()
        };
        assert_eq!(
            shown(&config.policy[0]),
            [
                "policy.match user-* c.toml:4",
                "policy.durability relaxed c.toml:2",
                "history.max_messages 5000 CHANNELAPI_HISTORY_MAX_MESSAGES",
                "history.max_age 24h default",
                "history.max_bytes 4MiB default",
                "policy.replay_on_join false default",
            ]
        );
        assert_eq!(
            shown(&config.policy[1]),
            [
                "policy.match order-* c.toml:6",
                "policy.durability memory c.toml:7",
                "history.max_messages 5000 CHANNELAPI_HISTORY_MAX_MESSAGES",
                "history.max_age 7d c.toml:8",
                "history.max_bytes 1MiB c.toml:8",
                "policy.replay_on_join 20 c.toml:9",
            ]
        );
    }

    #[test]
    fn values_of_a_policy_are_held_to_the_rules_of_the_options() {
        check(
            "[[policy]]\nmatch = ''\ndurability = 'ram'\nreplay_on_join = -1\nhistory = { max_messages = 1000001, max_age = '11y' }\n",
            &[
                "c.toml:2:9: policy.match: the pattern is empty; write one, such as user-*, or * for all channels",
                "c.toml:3:14: policy.durability: `ram` is not a durability; write fsync / relaxed / memory",
                "c.toml:4:18: policy.replay_on_join: `-1` is not a number of publications; write true, false or a number, such as 20",
                "c.toml:5:28: history.max_messages: `1000001` is out of range; write 0 to 1000000",
                "c.toml:5:47: history.max_age: `11y` is not a duration; write a whole number and a unit, such as 500ms, 25s, 10m, 2h or 7d",
            ],
        );
        check(
            "[[policy]]\nmatch = 'a'\nhistory = { max_bytes = '1B' }\n[[policy]]\nmatch = 'b'\nhistory = { max_age = '4000d' }",
            &[
                "c.toml:3:25: history.max_bytes: `1B` is out of range; write 1KiB to 1TiB",
                "c.toml:6:23: history.max_age: `4000d` is out of range; write 1s to 3650d",
            ],
        );
    }

    #[test]
    fn a_policy_that_is_never_used_is_refused() {
        check(
            &policies(&["user-*", "order-*", "user-*"]),
            &[
                "c.toml:8:9: policy.match: `user-*` already has a policy (c.toml:2), so this one is never used; remove one of them",
            ],
        );
        check(
            &policies(&["user-*", "user-vip-*"]),
            &[
                "c.toml:5:9: policy.match: all channels of `user-vip-*` match `user-*` first (c.toml:2), so this policy is never used; put it above that one",
            ],
        );
    }

    #[test]
    fn policies_without_a_pattern_are_one_problem_each() {
        check(
            "[[policy]]\ndurability = 'fsync'\n[[policy]]\nreplay_on_join = true\n",
            &[
                "c.toml:1:1: the policy has no `match`; say which channels it is for, such as match = \"user-*\"",
                "c.toml:3:1: the policy has no `match`; say which channels it is for, such as match = \"user-*\"",
            ],
        );
    }

    #[test]
    fn replaying_what_is_not_kept_is_refused() {
        check(
            "[[policy]]\nmatch = 'a'\nhistory.max_messages = 0\nreplay_on_join = true\n",
            &[
                "c.toml:4:18: policy.replay_on_join: there is nothing to replay, because max_messages is 0 (c.toml:3); raise it, or remove replay_on_join",
            ],
        );
        check(
            "[history]\nmax_messages = 0\n[[policy]]\nmatch = 'a'\nreplay_on_join = 5\n",
            &[
                "c.toml:5:18: policy.replay_on_join: there is nothing to replay, because max_messages is 0 (c.toml:2); raise it, or remove replay_on_join",
            ],
        );
        for fine in ["false", "0"] {
            let text =
                format!("[history]\nmax_messages = 0\n[[policy]]\nmatch = 'a'\nreplay_on_join = {fine}\n");
            assert!(load_with(&text, &[]).is_ok(), "{fine}");
        }
    }

    #[test]
    fn replaying_more_than_is_kept_is_a_warning() {
        let text = "[[policy]]\nmatch = 'a'\nreplay_on_join = 1001\n[[policy]]\nmatch = 'b'\nreplay_on_join = 1000\n";
        assert_eq!(
            load_with(text, &[]).unwrap().warnings,
            ["c.toml:3:18: policy.replay_on_join is 1001, but max_messages keeps only 1000 (default)"]
        );
    }

    #[test]
    fn there_can_be_a_thousand_policies() {
        let numbered =
            |count: usize| (0..count).fold(String::new(), |text, n| text + &policies(&[&format!("c{n}")]));
        assert_eq!(load_with(&numbered(1_000), &[]).unwrap().policy.len(), 1_000);
        check(
            &numbered(1_001),
            &[
                "c.toml:3001:1: 1001 policies are too many, the limit is 1000; join some of them in one pattern",
            ],
        );
    }
}
