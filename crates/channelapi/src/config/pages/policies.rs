//! What the pages say about policies.

use std::fmt::Write;

use super::{assignment, list::List, plain, wrap};
use crate::config::options::{OPTIONS, POLICY, POLICY_OPTIONS, Spec};

pub(super) const LIST: List = List {
    name: POLICY,
    options: POLICY_OPTIONS,
    about: &[ABOUT, ORDER],
    advice: &[],
    rules: "",
    sample: SAMPLE,
    alternatives: &[],
};

/// The part of the example file: the list, and the table that its items can hold.
pub(super) fn example() -> String {
    let mut page = LIST.example();
    page.push('\n');
    wrap(&mut page, &plain(HISTORY));
    let _ = writeln!(page, "#{}", history());
    page
}

/// The chapter of the reference page.
pub(super) fn reference() -> String {
    let mut page = LIST.reference();
    let keys: Vec<String> =
        history_options().map(|spec| format!("[`{}`](#{})", spec.name, spec.key.replace('.', ""))).collect();
    let _ = write!(page, "\n### `policy.history`\n\n{HISTORY}\n\n");
    let _ = write!(page, "- File: `{}` below `[[policy]]`\n- Accepts: {}\n", history(), keys.join(", "));
    page
}

const ABOUT: &str = "A policy gives settings of their own to the channels whose names match a pattern.";

const ORDER: &str =
    "The first policy that matches a channel decides, and what it leaves out is as for all channels.";

const HISTORY: &str = "How much of each of these channels is kept. The keys are those of `[history]`, and what is left out is \
                       as there.";

const SAMPLE: &str = r#"
```toml
# Everything a new device needs to catch up on.
[[policy]]
match = "inbox-*"
history = { max_messages = 500, max_age = "30d" }
replay_on_join = 50

# Where the mouse was a second ago interests nobody.
[[policy]]
match = "*-cursors"
durability = "memory"
history = { max_messages = 0 }
```
"#;

fn history() -> String {
    let keys: Vec<String> = history_options().map(assignment).collect();
    format!("history = {{ {} }}", keys.join(", "))
}

fn history_options() -> impl Iterator<Item = &'static Spec> {
    OPTIONS.iter().filter(|spec| spec.section == Some("history"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::pages::list::tests::uncommented;
    use crate::config::{document, policy::Replay, value::Durability};

    #[test]
    fn the_sample_is_valid_and_means_what_it_says() {
        let config = LIST.sampled();
        let [inbox, cursors] = &config.policy[..] else { panic!("{:?}", config.policy) };
        assert_eq!((inbox.max_messages, inbox.replay_on_join), (500, Replay::Newest(50)));
        assert_eq!((cursors.max_messages, cursors.durability), (0, Durability::Memory));
    }

    #[test]
    fn every_key_of_a_policy_is_on_every_page() {
        LIST.is_on_every_page();
        let (example, reference) = (example(), reference());
        for spec in history_options() {
            assert!(example.contains(&format!("{} = ", spec.name)), "{example}");
            assert!(reference.contains(&format!("[`{}`]", spec.name)), "{reference}");
        }
    }

    #[test]
    fn the_example_without_its_comment_signs_is_a_policy_like_none() {
        let edited = uncommented(&example());
        let contents = document::parse("channelapi.toml", &edited);
        assert_eq!(contents.problems, [], "{edited}");
        assert_eq!(contents.policies.len(), 1, "{edited}");
        assert_eq!(contents.policies[0].given.len(), POLICY_OPTIONS.len() + history_options().count());
    }
}
