//! What the pages say about a list of the file, `[[name]]`: for people in prose, and of each option of its items.

use std::fmt::Write;

use super::{assignment, comment, describe};
use crate::config::options::Spec;

/// One list as the pages show it.
pub(super) struct List {
    /// Its name between the brackets.
    pub(super) name: &'static str,
    /// What its items can hold.
    pub(super) options: &'static [Spec],
    /// What it is for, one paragraph per item.
    pub(super) about: &'static [&'static str],
    /// Advice for the reference page, in front of its rules.
    pub(super) advice: &'static [&'static str],
    /// The rules that only the reference page tells, after the one that all lists share.
    pub(super) rules: &'static str,
    /// A part of a file, for the reference page.
    pub(super) sample: &'static str,
    /// Options that would be a mistake beside one above them: in the example file they look like prose, with a space after the
    /// sign.
    pub(super) alternatives: &'static [&'static str],
}

/// Holds for every list: no flag or variable could say of which item it speaks.
const FILE_ONLY: &str = "They are written in the file only: there are no flags and no variables for them.";

impl List {
    /// The part of the example file, at its end, where a list does not swallow what follows.
    pub(super) fn example(&self) -> String {
        let mut page = "\n".to_owned();
        let about: Vec<String> = self.about.iter().map(|&paragraph| paragraph.to_owned()).collect();
        comment(&mut page, &about);
        let _ = writeln!(page, "\n#[[{}]]", self.name);
        for spec in self.options {
            page.push('\n');
            comment(&mut page, &spec.paragraphs());
            let space = if self.alternatives.contains(&spec.name) { " " } else { "" };
            let _ = writeln!(page, "#{space}{}", assignment(spec));
        }
        page
    }

    /// The chapter of the reference page.
    pub(super) fn reference(&self) -> String {
        let mut page = format!("\n## {}\n", self.options[0].title);
        for paragraph in self.about.iter().chain(self.advice) {
            let _ = write!(page, "\n{paragraph}\n");
        }
        let _ = write!(page, "\n{}\n{}", format!("{FILE_ONLY} {}", self.rules).trim_end(), self.sample);
        for spec in self.options {
            describe(&mut page, spec);
            let _ = write!(
                page,
                "\n- File: `{}` below `[[{}]]`\n- Accepts: {}\n",
                assignment(spec),
                self.name,
                spec.accepts
            );
        }
        page
    }
}

/// What the tests of every list ask of it.
#[cfg(test)]
pub(super) mod tests {
    use super::List;
    use crate::config::{Config, Rejected, env, load};

    /// The server's configuration by a file.
    pub(in crate::config::pages) fn loaded(toml: &str) -> Result<Config, Rejected> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, toml).unwrap();
        load(vec![], Some(&path), env::load([]), &[])
    }

    /// The settings of an example without their signs, and without the prose, which has a space after it.
    pub(in crate::config::pages) fn uncommented(example: &str) -> String {
        let settings = example.lines().filter_map(|line| line.strip_prefix('#'));
        settings
            .filter(|setting| !setting.starts_with(' '))
            .fold(String::new(), |text, line| text + line + "\n")
    }

    impl List {
        /// What the sample means, without any warning.
        pub(in crate::config::pages) fn sampled(&self) -> Config {
            let config = loaded(self.sample.trim().trim_start_matches("```toml").trim_end_matches("```"));
            let config = config.unwrap();
            assert_eq!(config.warnings, Vec::<String>::new());
            config
        }

        /// Every option of the items is on every page, and so is the rule that all lists share.
        pub(in crate::config::pages) fn is_on_every_page(&self) {
            let (example, reference) = (self.example(), self.reference());
            for spec in self.options {
                assert!(example.contains(&format!("{} = ", spec.name)), "{example}");
                assert!(reference.contains(&format!("\n### `{}`\n", spec.key)), "{reference}");
            }
            assert!(reference.contains("there are no flags and no variables for them"));
        }
    }
}
