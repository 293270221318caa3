//! Lines that are not TOML: what their author probably meant, and how they can be quoted without their secrets.

use super::{
    options::{LISTS, OPTIONS},
    value::Shape,
};

/// What to write instead of a line of which the parser knows only that it is wrong.
pub(super) fn hint(line: &str) -> String {
    let Some((key, value)) = line.split_once(['=', ':']) else { return String::new() };
    let (key, value) = (key.trim(), value.split('#').next().unwrap_or_default().trim());
    let lists = LISTS.iter().flat_map(|(_, options)| *options);
    let mut known = OPTIONS.iter().chain(lists).filter(|spec| spec.in_file);
    let Some(spec) = known.find(|spec| spec.name == key || spec.key == key) else {
        return String::new();
    };
    let bare = !value.is_empty() && !value.starts_with(['"', '\'', '[', '=']);
    let right = match spec.shape {
        _ if spec.secret => "auth_key = \"…\", with the key in quotes".replace("auth_key", key),
        Shape::Text | Shape::Quantity if bare && !is_of_secret(key) => {
            format!("{key} = {}", spec.shape.toml(value))
        }
        Shape::Boolean => format!("{key} = true or {key} = false"),
        _ => format!("{key} = {}", spec.shape.toml(spec.example)),
    };
    format!("; write it like {right}")
}

/// What the parser says of a key or a table that it has met before.
pub(super) const DUPLICATE: &str = "duplicate key";

/// What to do about a line that says again what is there already.
pub(super) fn hint_at_duplicate(text: &str, line: usize) -> String {
    match line_before(text, line) {
        Some(before) => format!("; it is there already in line {before}: change that one"),
        None => "; it is there twice: remove one of them".to_owned(),
    }
}

/// The last line before this one that gives the same key or table, or else what is below it. Lines count from 1.
fn line_before(text: &str, line: usize) -> Option<usize> {
    let mut table = String::new();
    let mut given: Vec<String> = Vec::new();
    for (index, line) in text.lines().take(line).enumerate() {
        let line = line.trim_start();
        if let Some(list) = line.strip_prefix("[[") {
            // Each has keys of its own.
            table = format!("{}.{index}", full_name(list.split(']').next().unwrap_or_default()));
            given.push(table.clone());
        } else if let Some(header) = line.strip_prefix('[') {
            table = full_name(header.split(']').next().unwrap_or_default());
            given.push(table.clone());
        } else {
            let key = line.split_once('=').map_or_else(String::new, |(key, _)| full_name(key));
            given.push(if table.is_empty() { key } else { format!("{table}.{key}") });
        }
    }
    let this = given.pop()?;
    let below = format!("{this}.");
    let itself = given.iter().rposition(|one| *one == this);
    itself.or_else(|| given.iter().rposition(|one| one.starts_with(&below))).map(|index| index + 1)
}

/// A key with its dots, without the spaces and quotes that may be around its parts.
fn full_name(key: &str) -> String {
    let parts = key.split('.').map(|part| part.trim().trim_matches(['"', '\'']));
    parts.collect::<Vec<_>>().join(".")
}

/// The text with the values of secrets blotted out, byte for byte as long, so that the caret still points right.
pub(super) fn without_secrets(text: &str) -> String {
    let mut until = None;
    text.split_inclusive('\n').map(|line| blot(line, &mut until)).collect()
}

/// Blots a line; `until` carries the quotes that end a value of several lines.
fn blot(line: &str, until: &mut Option<&str>) -> String {
    let (shown, hidden) = match (*until, secret_value(line)) {
        (Some(_), _) => ("", line),
        (None, Some(start)) => line.split_at(start),
        (None, None) => return line.to_owned(),
    };
    *until = match *until {
        Some(quotes) => Some(quotes).filter(|quotes| !hidden.contains(quotes)),
        None => ["\"\"\"", "'''"].into_iter().find(|quotes| hidden.matches(quotes).count() == 1),
    };
    let stars = hidden.bytes().map(|byte| if byte.is_ascii_whitespace() { char::from(byte) } else { '*' });
    shown.chars().chain(stars).collect()
}

/// Where in a line the first value begins that may be secret.
fn secret_value(line: &str) -> Option<usize> {
    line.match_indices('=')
        .map(|(place, _)| place)
        .find(|place| is_of_secret(&line[..*place]))
        .map(|place| place + 1)
}

/// Whether what stands before an equals sign is the name of a secret. Also a `key`: below `[tls]` it is a file, but
/// elsewhere somebody may have written a key there.
fn is_of_secret(before: &str) -> bool {
    let name = before.trim_end().trim_end_matches(['"', '\'']);
    let name = name.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
    let of_lists = LISTS.iter().flat_map(|(_, options)| *options);
    name == "key"
        || of_lists.filter(|spec| spec.secret).any(|spec| name == spec.name)
        || OPTIONS.iter().any(|spec| spec.secret && name.contains(spec.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = without_secrets(text);
        assert_eq!(shown, expected);
        assert_eq!(shown.len(), text.len(), "the caret points by bytes");
    }

    #[test]
    fn secrets_are_blotted_out_wherever_their_value_goes() {
        check("port = 80\nauth_key = 'x y'\ndebug = true", "port = 80\nauth_key = ** **\ndebug = true");
        check("  auth_key=x # mine\n", "  auth_key=* * ****\n");
        check("auth_key = \"\"\"\nab\nc\"\"\"\nport = 1\n", "auth_key = ***\n**\n****\nport = 1\n");
        check("auth_key = '''a'''\nport = 1\n", "auth_key = *******\nport = 1\n");
        check("auth_key = \"\"\"a\nb = 1", "auth_key = ****\n* * *");
        check("auth_key = é", "auth_key = **");
        check("  key = 'x'\nkeys = 1", "  key = ***\nkeys = 1");
        check("{ name = 'a', key = 'x', b = 'y' }", "{ name = 'a', key = **** * * *** *");
        check("'auth_key' = 'x'", "'auth_key' = ***");
    }

    #[test]
    fn hints_are_given_for_keys_we_know() {
        assert_eq!(hint("level = info"), "; write it like level = \"info\"");
        assert_eq!(hint("match = user-*"), "; write it like match = \"user-*\"");
        assert_eq!(hint("auth_key = hunter2"), "; write it like auth_key = \"…\", with the key in quotes");
        for line in ["colour = red", "no equals sign", "", "host = x"] {
            assert_eq!(hint(line), "", "{line}");
        }
    }
}
