//! What is printed from the table of options: the example file, the reference page and the effective values.

mod auth_keys;
mod jwt;
mod list;
mod policies;

use std::fmt::Write;

use super::{
    options::{Config, OPTIONS, Spec},
    source::Setting,
    tornado,
};

/// Width of the comments in the example file.
const COMMENT_WIDTH: usize = 100;

/// An example file: every key with its default, commented out, so that it changes nothing until it is edited.
pub fn example() -> String {
    let mut page = String::from(
        "# channelapi.toml\n#\n# Every key is shown with its default. Remove the leading # of a line to change it, then run\n\
         # `channelapi check`. Flags and CHANNELAPI_* variables win over this file.\n",
    );
    let mut section = None;
    for spec in OPTIONS.iter().filter(|spec| spec.in_file) {
        if spec.section != section {
            section = spec.section;
            let name = section.expect("options without a section come first");
            let _ = write!(page, "\n[{name}]\n");
        }
        page.push('\n');
        comment(&mut page, &spec.paragraphs());
        let _ = writeln!(page, "#{}", assignment(spec));
    }
    page + &auth_keys::LIST.example() + &jwt::LIST.example() + &policies::example()
}

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    let mut title = "";
    for spec in OPTIONS.iter().filter(|spec| spec.in_file) {
        if spec.title != title {
            title = spec.title;
            let _ = write!(page, "\n## {title}\n");
        }
        entry(&mut page, spec);
    }
    page += &auth_keys::LIST.reference();
    page += &jwt::LIST.reference();
    page += &policies::reference();
    page.push_str(ORIGINAL);
    for spec in OPTIONS.iter().filter(|spec| !spec.in_file) {
        let (flag, variable) = (spec.flag(), spec.variable());
        let _ = writeln!(page, "| `--{flag}`, `{variable}` | {} |", spec.summary());
    }
    page.push_str("| `--logging=LEVEL` | Same as `--log-level`; `none` logs errors only |\n");
    let ignored: Vec<String> = tornado::IGNORED.iter().map(|name| format!("`--{name}`")).collect();
    let _ = writeln!(
        page,
        "| {} | Accepted and ignored, with a warning: logs go to standard error |",
        ignored.join(", ")
    );
    page
}

/// Every option with its effective value and where it came from.
pub fn effective(config: &Config) -> String {
    let mut page = match &config.file {
        Some(path) => format!("file: {}\n\n", path.display()),
        None => "file: none\n\n".to_owned(),
    };
    let keys = config.auth_keys.iter().map(|key| &key.settings);
    let issuers = config.jwt.iter().map(|issuer| &issuer.settings);
    let policies = config.policy.iter().map(|policy| &policy.settings);
    let lists: Vec<&Vec<Setting>> = keys.chain(issuers).chain(policies).collect();
    let all = || lists.iter().copied().flatten().chain(&config.settings);
    let key_width = all().map(|setting| setting.key.len()).max().unwrap_or(0);
    let value_width = all().map(|setting| setting.value.chars().count()).max().unwrap_or(0).min(32);
    let rows = |page: &mut String, settings: &[Setting]| {
        for Setting { key, value, source } in settings {
            let _ = writeln!(page, "{key:key_width$}  {value:value_width$}  {source}");
        }
    };
    rows(&mut page, &config.settings);
    for settings in lists {
        page.push('\n');
        rows(&mut page, settings);
    }
    page
}

const INTRODUCTION: &str = "\
# Configuration

This page is printed by `channelapi config doc`.

Every option can be given as a flag, as an environment variable or in a file. When it is given more than once, the
flag wins over the variable, the variable over the file, and the file over the default.

- `channelapi check` tells whether a configuration is valid: it exits with 0 if it is and with 2 if not.
- `channelapi config show` prints the effective values and where each came from, without secrets.
- `channelapi config default` prints an example file.

**File.** The file is the one named by `--config FILE` (`-c FILE`) or by `CHANNELAPI_CONFIG`, else `./channelapi.toml`,
else `/etc/channelapi/channelapi.toml`, else none. It is [TOML](https://toml.io). An unknown key or an impossible
value is an error, and all errors of a file are reported at once, with their lines. What is in the files that it names (keys,
secrets, certificates) is looked at when all of that is right, and the first that cannot be used is reported.
One that belongs to another user of the machine, or that every user can change, is a warning; and if it lies in the directory where
somebody stands and was not named, verbs that send a key to a server do not go by it.

**Flags.** Dashes and underscores are the same (`--data-dir`, `--data_dir`), and so are `--port 80` and `--port=80`.
A switch is turned on by `--debug` and set by `--debug=true` or `--debug=false`.

**Variables.** An empty variable counts as not set. A secret can also be read from a file, named by the variable with
`_FILE` at its end, as container platforms mount it; a newline at the end of that file is not part of the secret. An
unknown variable that starts with `CHANNELAPI_` is a warning.

**Values.** Durations have a unit: `500ms`, `25s`, `10m`, `2h`, `7d`. Sizes are bytes or have a unit: `65536`,
`64KiB`, `1MB`, `10GB`.

**Lists.** API keys that may do less than everything, issuers of JWTs, and settings of the channels that match a pattern,
are lists and can only be written in the file; see [API keys](#api-keys), [JWT](#jwt) and [Policies](#policies).

**Reloading.** On SIGHUP the server reads its configuration again, all of it: flags and variables are as they were at the
start, files are read anew. The file is the one that was found at the start: without it nothing changes, and another that has
appeared meanwhile does not count. A server that was started without a file looks for one each time. A file that says nothing any more,
while something of a file is in effect, changes nothing either, and neither does a pipe or a device: those are read at the start alone.
A secret that came from a pipe (`<(…)`) came once: a reload finds nothing there, says so, and changes nothing. Put it in a file where reloads are wanted.
What is wrong changes nothing, and the log says what. Keys, issuers of JWTs, everything below `[limits]`,
`http.cors_origins` and `log.level` change at once, and so does where the certificate is from: what its files hold and their names
(`tls.cert`, `tls.key`), `tls.reload_interval`, and everything below `[acme]`. Whether there is TLS at all, and everything else that
differs, needs a restart; the log names it.

**Exit codes.** 0: all is well. 1: the server cannot start, for example because its port is taken. 2: the command line, a variable or the
file is wrong. 74: the disk failed, or a bug ended what writes to it, and the server ended rather than guess. 75: another process has the data directory, or another
version wrote it, and nothing in it was changed. 78: the auth key, the certificate or a key of
`[[jwt]]` is refused; tell the process manager not to restart after it, as the next start would end the same way. A certificate that a renewal or the clock mends (it is not there, was changed within the last minute, does not belong to
its key, has expired, is not valid yet) ends the start with 1, as does a file of `[[jwt]]` that is not there or was changed within the last minute. The file of an auth key is part of the configuration: without it, the start ends with 2.
";

const ORIGINAL: &str = "
## The original's flags

Command lines of the original keep working, also with one dash (`-port=80 -debug=true`). They cannot be written in
the file.

| Flag | Meaning |
| --- | --- |
";

fn entry(page: &mut String, spec: &Spec) {
    describe(page, spec);
    let file = match spec.section {
        Some(section) => format!("`{}` below `[{section}]`", assignment(spec)),
        None => format!("`{}` at the top", assignment(spec)),
    };
    let twin = spec.file_variable().map_or_else(String::new, |name| format!(" or `{name}`"));
    let _ = write!(
        page,
        "\n- Flag: `--{}`\n- Variable: `{}`{twin}\n- File: {file}\n- Default: {}\n- Accepts: {}{}\n",
        spec.flag(),
        spec.variable(),
        spec.default.map_or_else(|| "none".to_owned(), |default| format!("`{default}`")),
        spec.accepts,
        spec.range.map_or_else(String::new, |(low, high)| format!("; from `{low}` to `{high}`")),
    );
}

/// The heading of an option, and what it says of itself.
fn describe(page: &mut String, spec: &Spec) {
    let _ = write!(page, "\n### `{}`\n", spec.key);
    for paragraph in spec.paragraphs() {
        let _ = write!(page, "\n{paragraph}\n");
    }
}

fn assignment(spec: &Spec) -> String {
    format!("{} = {}", spec.name, spec.shape.toml(spec.example))
}

/// Paragraphs as a comment of the example file.
fn comment(page: &mut String, paragraphs: &[String]) {
    for (index, paragraph) in paragraphs.iter().enumerate() {
        if index > 0 {
            page.push_str("#\n");
        }
        wrap(page, &plain(paragraph));
    }
}

/// Markdown's backquotes are noise in a comment, and its links lead nowhere.
fn plain(paragraph: &str) -> String {
    let mut text = paragraph.replace('`', "");
    while let Some(link) = text.find("](#") {
        let end = text[link..].find(')').map_or(text.len(), |end| link + end + 1);
        text.replace_range(link..end, "");
        if let Some(begin) = text[..link].rfind('[') {
            text.remove(begin);
        }
    }
    text
}

fn wrap(page: &mut String, paragraph: &str) {
    let mut line = String::from("#");
    for word in paragraph.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COMMENT_WIDTH {
            let _ = writeln!(page, "{line}");
            "#".clone_into(&mut line);
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(page, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{document, env, load, secret::Secret, source::Resolver};

    #[test]
    fn the_reference_page_in_the_repository_is_the_one_we_print() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == reference(),
            "docs/configuration.md differs; run `cargo run -p channelapi -- config doc > docs/configuration.md`"
        );
    }

    #[test]
    fn a_comment_has_no_links() {
        assert_eq!(plain("see [API keys](#api-keys) and `[x]`, [y](#y)."), "see API keys and [x], y.");
        assert!(!example().contains("](#"));
    }

    #[test]
    fn the_example_changes_nothing_until_it_is_edited() {
        let contents = document::parse("channelapi.toml", &example());
        assert_eq!(contents.problems, []);
        assert!(contents.given.is_empty());
    }

    #[test]
    fn the_example_without_its_comment_signs_is_the_default_configuration() {
        // Prose has a space after the sign, settings have none.
        let edited: String = example()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let contents = document::parse("channelapi.toml", &edited);
        assert_eq!(contents.problems, [], "{edited}");
        let keys: Vec<&str> = contents.given.iter().map(|given| given.spec.key).collect();
        for spec in OPTIONS.iter().filter(|spec| spec.in_file) {
            assert!(keys.contains(&spec.key), "{} is missing", spec.key);
        }

        let shown = |given: &[_]| {
            let mut values = Resolver::new(given);
            Config::resolve(&mut values);
            assert_eq!(values.problems, []);
            values.settings.into_iter().map(|setting| (setting.key, setting.value)).collect::<Vec<_>>()
        };
        let differing: Vec<_> =
            shown(&contents.given).into_iter().zip(shown(&[])).filter(|(one, other)| one != other).collect();
        // What has no default shows an example.
        let differing: Vec<_> = differing.into_iter().map(|((key, _), _)| key).collect();
        let without_default = OPTIONS.iter().filter(|spec| spec.in_file && spec.default.is_none());
        assert_eq!(differing, without_default.map(|spec| spec.key).collect::<Vec<_>>());
    }

    #[test]
    fn every_option_is_on_every_page() {
        let (example, reference) = (example(), reference());
        assert!(!example.contains("redis"), "{example}");
        for spec in OPTIONS {
            assert!(reference.contains(&format!("--{}`", spec.flag())), "{}", spec.key);
            assert!(reference.contains(&spec.variable()), "{}", spec.key);
            let in_example = example.contains(&format!("\n#{} = ", spec.name));
            assert!(in_example || !spec.in_file, "{}", spec.key);
        }
    }

    #[test]
    fn effective_values_show_sources_and_no_secrets() {
        let key = ("CHANNELAPI_AUTH_KEY".into(), "hunter2hunter2hunter2".into());
        let config = load(vec![], None, env::load([key]), &[]).unwrap();
        assert!(config.auth_key.as_ref().is_some_and(|key: &Secret| key.matches(b"hunter2hunter2hunter2")));
        let page = effective(&config);
        assert!(!page.contains("hunter2"), "{page}");
        let row = |key: &str| {
            page.lines().find(|line| line.starts_with(key)).unwrap().split_whitespace().collect::<Vec<_>>()
        };
        assert_eq!(row("auth_key"), ["auth_key", "****", "CHANNELAPI_AUTH_KEY"]);
        assert_eq!(row("port"), ["port", "8888", "default"]);
        assert_eq!(page.lines().count(), OPTIONS.len() + 2);
    }

    #[test]
    fn effective_policies_follow_the_options_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(
            &path,
            "[[policy]]\nmatch = 'b*'\nhistory.max_messages = 7\n[[policy]]\nmatch = 'a'\n",
        )
        .unwrap();
        let page = effective(&load(vec![], Some(&path), env::load([]), &[]).unwrap());
        let (options, policies) = page.split_once("\n\npolicy.match").unwrap();
        assert_eq!(options.lines().count(), OPTIONS.len() + 2);
        let file = path.display();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let policies: Vec<String> = policies.lines().map(words).collect();
        assert_eq!(policies[0], format!("b* {file}:2"));
        assert_eq!(policies[1], "policy.durability fsync default");
        assert_eq!(policies[2], format!("history.max_messages 7 {file}:3"));
        assert_eq!(
            policies[6..9].join("|"),
            format!("|policy.match a {file}:5|policy.durability fsync default")
        );
    }
}
