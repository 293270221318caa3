//! The text of a TOML file turned into given values.
//!
//! All problems of a file are found in one reading, each with line and column, because fixing a file one error per
//! start is misery. A secret is never quoted, not even when the line it stands on is what is wrong.

mod lists;
mod policies;

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    contents::Contents,
    nearest::did_you_mean,
    options::{AUTH_KEYS, JWT, LISTS, OPTIONS, POLICY, Spec},
    source::{Given, Problem, Source},
    syntax,
    value::Shape,
};

/// Reads the text of a file; `name` is what messages call it.
pub(super) fn parse(name: &str, text: &str) -> Contents {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { name, text, contents: Contents::default() };
    // What the parser recovered after a syntax error is a guess, and complaints about a guess mislead.
    if errors.is_empty() {
        reader.table(None, document.get_ref());
    } else {
        for error in errors {
            reader.syntax_error(error);
        }
    }
    reader.contents.problems.sort();
    reader.contents
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    contents: Contents,
}

impl Reader<'_> {
    fn table(&mut self, section: Option<&str>, table: &DeTable<'_>) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let spec =
                OPTIONS.iter().find(|spec| spec.in_file && spec.section == section && spec.name == name);
            if let Some(spec) = spec {
                let given = self.option(spec, value.get_ref(), value.span());
                self.contents.given.extend(given);
            } else if section.is_none() && name == POLICY {
                self.policies(value.get_ref(), value.span());
            } else if section.is_none() && name == JWT {
                self.issuers(value.get_ref(), value.span());
            } else if section.is_none() && name == AUTH_KEYS {
                self.auth_keys(value.get_ref(), value.span());
            } else if section.is_none() && sections().any(|section| section == name) {
                self.section(name, value.get_ref(), value.span());
            } else {
                self.problem(key.span(), unknown_key(section, name));
            }
        }
    }

    fn section(&mut self, name: &str, value: &DeValue<'_>, span: Range<usize>) {
        if let DeValue::Table(table) = value {
            return self.table(Some(name), table);
        }
        let message = match value {
            DeValue::Array(_) => format!("[[{name}]] can be given only once; write [{name}]"),
            _ => format!(
                "`{name}` is a section, not a value; write [{name}] on a line of its own and its keys below"
            ),
        };
        self.problem(span, message);
    }

    fn option(&mut self, spec: &'static Spec, value: &DeValue<'_>, span: Range<usize>) -> Option<Given> {
        let text = text_of(spec.shape, value);
        if text.is_none() {
            self.problem(span.clone(), wrong_type(spec, value));
        }
        Some(Given { spec, text: text?, source: self.place(span.start) })
    }

    fn syntax_error(&mut self, mut error: toml::de::Error) {
        // A file that ends too early is wrong where its text ends, not on the line after it.
        let end = self.text.trim_end().len();
        let source = self.place(error.span().map_or(0, |span| span.start.min(end)));
        let Source::File { line, .. } = source else { return };
        // What else is wrong with a line usually follows from the first thing.
        let same_line =
            |source: &Source| matches!(source, Source::File { line: other, .. } if *other == line);
        if self.contents.problems.iter().filter_map(|problem| problem.source.as_ref()).any(same_line) {
            return;
        }
        error.set_input(Some(&syntax::without_secrets(self.text)));
        let rendered = error.to_string();
        // The rendering is the place, which we write as compilers do, then the picture, then the message.
        let picture = rendered.split_once('\n').map_or("", |(_, picture)| picture).trim_end();
        let picture = picture.strip_suffix(error.message()).unwrap_or(picture).trim_end();
        let hint = if error.message() == syntax::DUPLICATE {
            syntax::hint_at_duplicate(self.text, line)
        } else {
            self.text.lines().nth(line - 1).map_or_else(String::new, syntax::hint)
        };
        let problem = Problem::at(source, format!("{}{hint}\n{picture}", error.message()));
        self.contents.problems.push(problem);
    }

    fn problem(&mut self, span: Range<usize>, message: String) {
        let source = self.place(span.start);
        self.contents.problems.push(Problem::at(source, message));
    }

    fn place(&self, offset: usize) -> Source {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Source::File {
            path: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// The value as the text a flag would carry, or `None` if TOML's type does not fit.
fn text_of(shape: Shape, value: &DeValue<'_>) -> Option<String> {
    match (shape, value) {
        (Shape::Text | Shape::Quantity | Shape::Moment, DeValue::String(text)) => Some(text.to_string()),
        (Shape::Integer | Shape::Quantity | Shape::Amount, DeValue::Integer(number)) => {
            // Written as 0x50 it is still 80; a number too large for any option stays as it was written.
            let value = i128::from_str_radix(number.as_str(), number.radix());
            Some(value.map_or_else(|_| number.to_string(), |value| value.to_string()))
        }
        (Shape::Boolean | Shape::Amount, DeValue::Boolean(value)) => Some(value.to_string()),
        (Shape::List, DeValue::Array(items)) => {
            let items: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            items.map(|items| items.join(","))
        }
        (Shape::Lines, DeValue::Array(items)) => {
            let text = |item: &'_ Spanned<DeValue<'_>>| -> Option<String> {
                let text = item.get_ref().as_str().filter(|text| !text.contains('\n'));
                text.map(str::to_owned)
            };
            let items: Option<Vec<String>> = items.iter().map(text).collect();
            items.map(|items| items.join("\n"))
        }
        (Shape::Moment, DeValue::Datetime(time)) => Some(time.to_string()),
        _ => None,
    }
}

fn wrong_type(spec: &Spec, value: &DeValue<'_>) -> String {
    let key = spec.key;
    let example = spec.shape.toml(spec.example);
    let found = kind(value);
    let (wanted, fix) = match (spec.shape, value) {
        (Shape::Integer, DeValue::String(text)) if text.parse::<u64>().is_ok() => {
            ("a whole number", format!("without quotes: {} = {text}", spec.name))
        }
        (Shape::Boolean, DeValue::String(text)) if matches!(&**text, "true" | "false") => {
            ("true or false", format!("without quotes: {} = {text}", spec.name))
        }
        (Shape::Amount, DeValue::String(text))
            if matches!(&**text, "true" | "false") || text.parse::<u64>().is_ok() =>
        {
            ("true, false or a whole number", format!("without quotes: {} = {text}", spec.name))
        }
        (Shape::List | Shape::Lines, DeValue::String(text)) => {
            ("a list", format!("in brackets: {} = {}", spec.name, spec.shape.toml(text)))
        }
        (Shape::List | Shape::Lines, DeValue::Array(_)) => {
            return format!("{key}: the list may hold only strings; quote each item, as in {example}");
        }
        (Shape::Text | Shape::Quantity, DeValue::Integer(_) | DeValue::Float(_)) if spec.secret => {
            ("a string", "in quotes".to_owned())
        }
        (Shape::Text, DeValue::Array(_)) if spec.key == "auth_key" => {
            ("a string", format!("in quotes, or several keys below [[{AUTH_KEYS}]]"))
        }
        (Shape::Text, _) => ("a string", format!("in quotes: {} = {example}", spec.name)),
        (Shape::Moment, _) => ("a date and time", format!("like {} = {example}", spec.name)),
        (Shape::Quantity, _) => ("a string with a unit", format!("like {} = {example}", spec.name)),
        (Shape::Integer, _) => ("a whole number", format!("like {} = {example}", spec.name)),
        (Shape::Amount, _) => {
            ("true, false or a whole number", format!("like {} = {example} or {} = 20", spec.name, spec.name))
        }
        (Shape::Boolean, _) => ("true or false", format!("like {} = {example}", spec.name)),
        (Shape::List | Shape::Lines, _) => ("a list", format!("like {} = {example}", spec.name)),
    };
    format!("{key} is {found}, but must be {wanted}; write it {fix}")
}

/// What TOML calls a value, in the words of people.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().filter(|spec| spec.in_file).filter_map(|spec| spec.section)
}

fn unknown_key(section: Option<&str>, name: &str) -> String {
    let message = match section {
        Some(section) => format!("unknown key `{name}` in [{section}]"),
        None => format!("unknown key `{name}`"),
    };
    if let Some(secret) = OPTIONS.iter().find(|spec| spec.secret && format!("{}_file", spec.name) == name) {
        let variable = secret.file_variable().expect("secrets have one");
        return format!("{message}; the file of a secret is named by the variable {variable}");
    }
    if let Some(place) = right_place(section, name) {
        return message + &place;
    }
    let here = OPTIONS.iter().filter(|spec| spec.in_file && spec.section == section).map(|spec| spec.name);
    let lists = LISTS.iter().map(|(name, _)| *name);
    let sections = sections().chain(lists).filter(|_| section.is_none());
    message + &guess(name, here.chain(sections))
}

/// Where a key belongs that is right, but not in this section. TOML's own trap is the first: a section lasts until the
/// next one starts.
fn right_place(section: Option<&str>, name: &str) -> Option<String> {
    let flat = name.replace('-', "_");
    let lists = LISTS.iter().flat_map(|(_, options)| *options);
    let known = OPTIONS.iter().chain(lists).filter(|spec| spec.in_file);
    let spec = known.into_iter().find(|spec| spec.name == flat || spec.key.replace('.', "_") == flat)?;
    let name = spec.name;
    match spec.section {
        None if section.is_some() => {
            Some(format!("; `{name}` belongs at the top of the file, above the first [section]"))
        }
        Some(home) if section != Some(home) && LISTS.iter().any(|(list, _)| *list == home) => {
            Some(format!("; write it below [[{home}]], as `{name}`"))
        }
        Some(home) if section != Some(home) => Some(format!("; write it below [{home}], as `{name}`")),
        _ => None,
    }
}

fn guess<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let guess = did_you_mean(name, known);
    if guess.is_empty() { "; `channelapi config doc` lists all keys".to_owned() } else { guess }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let contents = parse("channelapi.toml", text);
        contents.problems.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(problems(text), [expected], "{text}");
    }

    #[track_caller]
    fn reads(text: &str, key: &str, value: &str) {
        let contents = parse("channelapi.toml", text);
        assert_eq!(contents.problems, [], "{text}");
        let given: Vec<_> =
            contents.given.iter().map(|given| (given.spec.key, given.text.as_str())).collect();
        assert_eq!(given, [(key, value)], "{text}");
    }

    #[test]
    fn values_are_read_in_every_spelling_toml_has() {
        reads("port = 80", "port", "80");
        reads("port = 0x50", "port", "80");
        reads("port = 8_888", "port", "8888");
        reads("debug = true", "debug", "true");
        reads("address = '::1'", "address", "::1");
        reads("[log]\nlevel = \"warn\"", "log.level", "warn");
        reads("log.level = \"warn\"", "log.level", "warn");
        reads("log = { level = \"warn\" }", "log.level", "warn");
        reads(
            "[http]\ncors_origins = [\n  \"https://a.example\", # first\n  \"https://b.example\",\n]",
            "http.cors_origins",
            "https://a.example,https://b.example",
        );
        reads("[http]\ncors_origins = []", "http.cors_origins", "");
        reads("[socketio]\nmax_payload = 65536", "socketio.max_payload", "65536");
        reads("\u{feff}port = 80\r\n", "port", "80");
    }

    #[test]
    fn unknown_keys_say_where_they_are_and_what_was_meant() {
        check("prot = 1", "channelapi.toml:1:1: unknown key `prot`; did you mean `port`?");
        check(
            "\n\n  data-dir = 'x'",
            "channelapi.toml:3:3: unknown key `data-dir`; did you mean `data_dir`?",
        );
        check("[htpp]\n", "channelapi.toml:1:2: unknown key `htpp`; did you mean `http`?");
        check(
            "[http]\ncors = []",
            "channelapi.toml:2:1: unknown key `cors` in [http]; did you mean `cors_origins`?",
        );
        check(
            "[log]\nlevle = 'info'",
            "channelapi.toml:2:1: unknown key `levle` in [log]; did you mean `level`?",
        );
        check(
            "colour = 1",
            "channelapi.toml:1:1: unknown key `colour`; `channelapi config doc` lists all keys",
        );
    }

    #[test]
    fn keys_in_the_wrong_place_are_sent_to_the_right_one() {
        check(
            "[http]\ndebug = true",
            "channelapi.toml:2:1: unknown key `debug` in [http]; `debug` belongs at the top of the file, above the first [section]",
        );
        check(
            "log_level = 'info'",
            "channelapi.toml:1:1: unknown key `log_level`; write it below [log], as `level`",
        );
        check(
            "ping_interval = '1s'",
            "channelapi.toml:1:1: unknown key `ping_interval`; write it below [socketio], as `ping_interval`",
        );
        check(
            "auth_key_file = '/x'",
            "channelapi.toml:1:1: unknown key `auth_key_file`; the file of a secret is named by the variable CHANNELAPI_AUTH_KEY_FILE",
        );
        check(
            "[redis]\nhost = 'x'",
            "channelapi.toml:1:2: unknown key `redis`; `channelapi config doc` lists all keys",
        );
    }

    #[test]
    fn wrong_types_say_what_to_write() {
        check(
            "port = \"80\"",
            "channelapi.toml:1:8: port is a string, but must be a whole number; write it without quotes: port = 80",
        );
        check(
            "port = 'http'",
            "channelapi.toml:1:8: port is a string, but must be a whole number; write it like port = 8888",
        );
        check(
            "port = 80.0",
            "channelapi.toml:1:8: port is a number with a fraction, but must be a whole number; write it like port = 8888",
        );
        check(
            "debug = 'true'",
            "channelapi.toml:1:9: debug is a string, but must be true or false; write it without quotes: debug = true",
        );
        check(
            "address = 127",
            "channelapi.toml:1:11: address is a number, but must be a string; write it in quotes: address = \"0.0.0.0\"",
        );
        check(
            "[http]\ncors_origins = 'https://a.example'",
            "channelapi.toml:2:16: http.cors_origins is a string, but must be a list; write it in brackets: cors_origins = [\"https://a.example\"]",
        );
        check(
            "[http]\ncors_origins = [1]",
            "channelapi.toml:2:16: http.cors_origins: the list may hold only strings; quote each item, as in [\"*\"]",
        );
        check(
            "log = 'info'",
            "channelapi.toml:1:7: `log` is a section, not a value; write [log] on a line of its own and its keys below",
        );
        check("[[log]]", "channelapi.toml:1:1: [[log]] can be given only once; write [log]");
    }

    #[test]
    fn every_problem_of_a_file_is_reported_at_once_in_its_order() {
        let text = "prot = 1\ndebug = 'yes'\n[log]\nformt = 'json'\n[nothing_of_ours]\n";
        let lines: Vec<String> =
            problems(text).iter().map(|p| p.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(
            lines,
            ["channelapi.toml:1:1", "channelapi.toml:2:9", "channelapi.toml:4:1", "channelapi.toml:5:2"]
        );
    }

    #[test]
    fn columns_count_characters() {
        check(
            "log = { level = 'é', x = 1 }",
            "channelapi.toml:1:22: unknown key `x` in [log]; `channelapi config doc` lists all keys",
        );
    }

    #[test]
    fn syntax_errors_show_the_line_and_a_caret() {
        let printed = &problems("port = 80\naddress = = 1\n")[0];
        assert!(printed.starts_with("channelapi.toml:2:11: extra `=`"), "{printed}");
        assert!(printed.ends_with("\n  |\n2 | address = = 1\n  |           ^"), "{printed}");
        let printed = &problems("[http\n")[0];
        assert!(printed.starts_with("channelapi.toml:1:6: unclosed table, expected `]`\n"), "{printed}");
    }

    #[test]
    fn syntax_errors_say_what_to_write() {
        for (line, right) in [
            ("address = 0.0.0.0", "address = \"0.0.0.0\""),
            ("data_dir = /srv/push # here", "data_dir = \"/srv/push\""),
            ("socketio.ping_interval = 25s", "socketio.ping_interval = \"25s\""),
            ("debug = True", "debug = true or debug = false"),
            ("port: 80", "port = 8888"),
            ("port = = 80", "port = 8888"),
            ("auth_key = hunter2", "auth_key = \"…\", with the key in quotes"),
        ] {
            let printed = problems(line).join("\n");
            assert!(printed.contains(&format!("; write it like {right}\n")), "{line}: {printed}");
        }
    }

    #[test]
    fn each_wrong_line_is_reported_once() {
        let lines: Vec<String> = problems("port = = 80\ndebug = maybe\nport: 80\n")
            .iter()
            .map(|problem| problem.split(':').nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(lines, ["1", "2", "3"]);
    }

    #[test]
    fn what_is_there_twice_is_named_with_the_line_that_has_it_already() {
        for (text, place, already) in [
            ("port = 1\nport = 2\n", "2:1", "it is there already in line 1: change that one"),
            (
                "[log]\nlevel = 'info'\n[log]\nformat = 'json'",
                "3:2",
                "it is there already in line 1: change that one",
            ),
            (
                "[log]\nlevel = 'info'\n[http]\n[[policy]]\nmatch = 'a'\n[[policy]]\nmatch = 'b'\n \"match\" = 'c'",
                "8:2",
                "it is there already in line 7: change that one",
            ),
            (
                "log.level = 'info'\nport = 1\n[log]\nformat = 'json'",
                "3:2",
                "it is there already in line 1: change that one",
            ),
            ("log = { level = 'info', level = 'warn' }", "1:25", "it is there twice: remove one of them"),
        ] {
            let printed = problems(text).join("\n");
            let expected = format!("channelapi.toml:{place}: duplicate key; {already}\n");
            assert!(printed.starts_with(&expected), "{text}: {printed}");
        }
    }

    #[test]
    fn no_message_quotes_a_secret() {
        for text in [
            "auth_key = hunter2",
            "auth_key = \"hunter2",
            "auth_key = 'x' hunter2",
            "auth_key = [\"hunter2\"]",
            "auth_key = { hunter2 = 1 }",
            "auth_key = \"\"\"\nhunter2\nhunter2\" x\n",
            "auth_key = '''hunter2\nhunter2",
            "auth_key = hunter2 = 1",
            "x = 1\nauth_key = \"\"\"a\n\"\"\" hunter2\ny = = 1",
        ] {
            let printed = problems(text).join("\n");
            assert!(!printed.is_empty() && !printed.contains("hunter2"), "{text}: {printed}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_gets_problems_that_point_into_it() {
        let text = "port = 80\nauth_key = \"\"\"é\nhunter2\"\"\"\n[http]\ncors_origins = [\"https://a.example\"]\nx = 1\n[[policy]]\nmatch = \"é*\"\nhistory = { max_age = \"1h\" }\n[[policy]]\nauth_key = \"hunter2\"\n";
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let cut = &text[..end];
            for problem in parse("c", cut).problems {
                let Some(Source::File { line, column, .. }) = problem.source else { panic!("{problem}") };
                let width = cut.lines().nth(line - 1).unwrap_or_default().chars().count();
                assert!(column <= width + 1, "{end}: {problem}");
                assert!(!problem.message.contains("hunt"), "{end}: {problem}");
            }
        }
    }
}
