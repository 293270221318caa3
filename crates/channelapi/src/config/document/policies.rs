//! The `[[policy]]` tables of a file.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Reader, guess, kind, lists::Words, right_place};
use crate::config::{
    options::{OPTIONS, POLICY, POLICY_OPTIONS, Spec},
    source::{Given, GivenItem},
};

/// The section whose options a policy can set for its channels, in a table of the same name.
const HISTORY: &str = "history";

const WORDS: Words = Words { section: POLICY, one: "a policy", several: "policies" };

impl Reader<'_> {
    pub(super) fn policies(&mut self, value: &DeValue<'_>, span: Range<usize>) {
        self.items(&WORDS, value, span, Self::policy);
    }

    fn policy(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        if !table.contains_key("match") {
            let message =
                "the policy has no `match`; say which channels it is for, such as match = \"user-*\"";
            self.problem(span.clone(), message.to_owned());
        }
        let mut given = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if let Some(spec) = POLICY_OPTIONS.iter().find(|spec| spec.name == name) {
                given.extend(self.option(spec, value.get_ref(), value.span()));
            } else if name == HISTORY {
                given.extend(self.history(value.get_ref(), value.span()));
            } else {
                self.problem(key.span(), unknown_key(name));
            }
        }
        let source = self.place(span.start);
        self.contents.policies.push(GivenItem { source, given });
    }

    fn history(&mut self, value: &DeValue<'_>, span: Range<usize>) -> Vec<Given> {
        let DeValue::Table(table) = value else {
            let found = kind(value);
            let message = format!(
                "the history of a policy is {found}, but must be a section; write it like {}",
                example()
            );
            self.problem(span, message);
            return Vec::new();
        };
        let mut given = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            match history_options().find(|spec| spec.name == name) {
                Some(spec) => given.extend(self.option(spec, value.get_ref(), value.span())),
                None => self.problem(key.span(), unknown_history_key(name)),
            }
        }
        given
    }
}

fn history_options() -> impl Iterator<Item = &'static Spec> {
    OPTIONS.iter().filter(|spec| spec.section == Some(HISTORY))
}

fn example() -> String {
    let spec = history_options().next().expect("the section has options");
    format!("history = {{ {} = {} }}", spec.name, spec.shape.toml(spec.example))
}

fn unknown_key(name: &str) -> String {
    let message = format!("unknown key `{name}` in [[policy]]");
    if let Some(spec) = history_options().find(|spec| spec.name == name) {
        let value = spec.shape.toml(spec.example);
        return format!("{message}; write it inside the history, as history = {{ {name} = {value} }}");
    }
    if let Some(place) = right_place(Some(POLICY), name) {
        return message + &place;
    }
    message + &guess(name, POLICY_OPTIONS.iter().map(|spec| spec.name).chain([HISTORY]))
}

fn unknown_history_key(name: &str) -> String {
    let message = format!("unknown key `{name}` in the history of a policy");
    if POLICY_OPTIONS.iter().any(|spec| spec.name == name) {
        return format!("{message}; write it outside the history, below [[policy]]");
    }
    message + &guess(name, history_options().map(|spec| spec.name))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::config::source::Source;

    fn problems(text: &str) -> Vec<String> {
        parse("channelapi.toml", text).problems.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(problems(text), [expected], "{text}");
    }

    #[track_caller]
    fn reads(text: &str, expected: &[&[(&str, &str)]]) {
        let contents = parse("channelapi.toml", text);
        assert_eq!(contents.problems, [], "{text}");
        let policies: Vec<Vec<_>> = contents
            .policies
            .iter()
            .map(|policy| policy.given.iter().map(|given| (given.spec.key, given.text.as_str())).collect())
            .collect();
        assert_eq!(policies, expected, "{text}");
        assert!(contents.given.is_empty(), "{text}");
    }

    #[test]
    fn policies_are_read_in_every_spelling_toml_has() {
        reads(
            "[[policy]]\nmatch = 'a'\n\n[[policy]]\nmatch = 'b'",
            &[&[("policy.match", "a")], &[("policy.match", "b")]],
        );
        reads(
            "policy = [{ match = 'a' }, { match = 'b' }]",
            &[&[("policy.match", "a")], &[("policy.match", "b")]],
        );
        reads("policy = []", &[]);
        let all = &[("history.max_age", "1h"), ("history.max_messages", "5"), ("policy.match", "a")][..];
        reads("[[policy]]\nmatch = 'a'\nhistory = { max_messages = 5, max_age = '1h' }", &[all]);
        reads("[[policy]]\nmatch = 'a'\nhistory.max_messages = 5\nhistory.max_age = '1h'", &[all]);
        reads("[[policy]]\nmatch = 'a'\n[policy.history]\nmax_messages = 5\nmax_age = '1h'", &[all]);
        for (written, text) in [("true", "true"), ("false", "false"), ("20", "20"), ("0x14", "20")] {
            let file = format!("[[policy]]\nmatch = 'a'\nreplay_on_join = {written}");
            reads(&file, &[&[("policy.match", "a"), ("policy.replay_on_join", text)]]);
        }
        reads(
            "[[policy]]\nmatch = 'a'\ndurability = 'memory'",
            &[&[("policy.durability", "memory"), ("policy.match", "a")]],
        );
    }

    #[test]
    fn a_policy_knows_where_it_starts() {
        let contents = parse("c.toml", "port = 1\n\n[[policy]]\nmatch = 'a'");
        let expected = Source::File { path: "c.toml".to_owned(), line: 3, column: 1 };
        assert_eq!(contents.policies[0].source, expected);
    }

    #[test]
    fn a_policy_must_say_which_channels_it_is_for() {
        check(
            "port = 1\n[[policy]]\ndurability = 'memory'",
            "channelapi.toml:2:1: the policy has no `match`; say which channels it is for, such as match = \"user-*\"",
        );
    }

    #[test]
    fn policies_are_a_list() {
        let several =
            "there can be several policies; write [[policy]], with two brackets, and its keys below";
        check("[policy]\nmatch = 'a'", &format!("channelapi.toml:1:1: {several}"));
        check("policy = 'a'", &format!("channelapi.toml:1:10: {several}"));
        check(
            "policy = ['user-*']",
            "channelapi.toml:1:11: a policy is a section, not a string; write [[policy]] and its keys below",
        );
    }

    #[test]
    fn unknown_keys_say_where_they_are_and_what_was_meant() {
        for (line, expected) in [
            ("mach = 'b'", "1: unknown key `mach` in [[policy]]; did you mean `match`?"),
            ("replay = 1", "1: unknown key `replay` in [[policy]]; did you mean `replay_on_join`?"),
            ("color = 1", "1: unknown key `color` in [[policy]]; `channelapi config doc` lists all keys"),
            (
                "max_age = '1h'",
                "1: unknown key `max_age` in [[policy]]; write it inside the history, as history = { max_age = \"24h\" }",
            ),
            (
                "max_disk = '1GB'",
                "1: unknown key `max_disk` in [[policy]]; write it below [store], as `max_disk`",
            ),
            (
                "port = 1",
                "1: unknown key `port` in [[policy]]; `port` belongs at the top of the file, above the first [section]",
            ),
            (
                "history = { max_mesages = 1 }",
                "13: unknown key `max_mesages` in the history of a policy; did you mean `max_messages`?",
            ),
            (
                "history = { durability = 'fsync' }",
                "13: unknown key `durability` in the history of a policy; write it outside the history, below [[policy]]",
            ),
        ] {
            check(&format!("[[policy]]\nmatch = 'a'\n{line}"), &format!("channelapi.toml:3:{expected}"));
        }
        check(
            "[[polices]]\nmatch = 'a'",
            "channelapi.toml:1:3: unknown key `polices`; did you mean `policy`?",
        );
    }

    #[test]
    fn keys_of_a_policy_outside_of_one_are_sent_there() {
        check(
            "match = 'user-*'",
            "channelapi.toml:1:1: unknown key `match`; write it below [[policy]], as `match`",
        );
        check(
            "[history]\nreplay_on_join = 1",
            "channelapi.toml:2:1: unknown key `replay_on_join` in [history]; write it below [[policy]], as `replay_on_join`",
        );
    }

    #[test]
    fn wrong_types_say_what_to_write() {
        for (line, expected) in [
            (
                "replay_on_join = '20'",
                "18: policy.replay_on_join is a string, but must be true, false or a whole number; write it without quotes: replay_on_join = 20",
            ),
            (
                "replay_on_join = 'all'",
                "18: policy.replay_on_join is a string, but must be true, false or a whole number; write it like replay_on_join = false or replay_on_join = 20",
            ),
            (
                "durability = true",
                "14: policy.durability is true or false, but must be a string; write it in quotes: durability = \"fsync\"",
            ),
            (
                "history = 5",
                "11: the history of a policy is a number, but must be a section; write it like history = { max_messages = 1000 }",
            ),
            (
                "history = { max_messages = '5' }",
                "28: history.max_messages is a string, but must be a whole number; write it without quotes: max_messages = 5",
            ),
            (
                "history = { max_age = 5.5 }",
                "23: history.max_age is a number with a fraction, but must be a string with a unit; write it like max_age = \"24h\"",
            ),
        ] {
            check(&format!("[[policy]]\nmatch = 'a'\n{line}"), &format!("channelapi.toml:3:{expected}"));
        }
        check(
            "[[policy]]\nmatch = 5",
            "channelapi.toml:2:9: policy.match is a number, but must be a string; write it in quotes: match = \"user-*\"",
        );
    }

    #[test]
    fn problems_of_all_policies_are_reported_at_once() {
        let text = "[[policy]]\nmach = 'a'\n[[policy]]\nmatch = 1\nhistory = { x = 1 }\n";
        let places: Vec<_> =
            problems(text).iter().map(|problem| problem.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(
            places,
            ["channelapi.toml:1:1", "channelapi.toml:2:1", "channelapi.toml:4:9", "channelapi.toml:5:13"]
        );
    }
}
