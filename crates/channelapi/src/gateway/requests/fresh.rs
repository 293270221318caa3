//! The argument of `auth`: the JWTs with which a client stays.

use super::fields::Fields;
use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;

/// The JWTs that take the place of all that a client has brought before.
#[derive(Debug, PartialEq)]
pub(crate) struct Fresh {
    pub(crate) tokens: Vec<String>,
}

impl Fresh {
    /// Reads the argument of `auth`: an object with `token`, `jwt` or `tokens`.
    pub(crate) fn parse(argument: Option<&str>) -> Option<Self> {
        let fields = Fields::parse(argument?).ok()?;
        let mut tokens = Vec::new();
        for name in ["token", "jwt"] {
            tokens.extend(fields.get::<String>(name).ok()?);
        }
        tokens.extend(fields.get::<Vec<String>>("tokens").ok()?.unwrap_or_default());
        (1..=CHANNELS_PER_CONNECTION_MAX).contains(&tokens.len()).then_some(Self { tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_jwts_are_read_from_all_forms_and_no_other() {
        let check = |argument: &str, expected: Option<&[&str]>| {
            let fresh = Fresh::parse(Some(argument)).map(|fresh| fresh.tokens);
            let expected = expected.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
            assert_eq!(fresh, expected, "{argument}");
        };
        check(r#"{"token":"a"}"#, Some(&["a"]));
        check(r#"{"jwt":"a"}"#, Some(&["a"]));
        check(r#"{"token":"a","tokens":["b","c"]}"#, Some(&["a", "b", "c"]));
        for argument in [
            "{}",
            "null",
            "7",
            r#""a""#,
            "[]",
            r#"["a"]"#,
            r#"{"token":7}"#,
            r#"{"tokens":"a"}"#,
            r#"{"tokens":[]}"#,
            r#"{"tokens":[null]}"#,
            r#"{"token":{"$serde_json::private::RawValue":"\"a\""}}"#,
            r#"{"tokens":{"$serde_json::private::RawValue":"[\"a\"]"}}"#,
            r#"{"tokens":[{"$serde_json::private::RawValue":"\"a\""}]}"#,
            r#"{"$serde_json::private::RawValue":"{\"token\":\"a\"}"}"#,
            "{",
        ] {
            check(argument, None);
        }
        let many = vec![r#""x""#; CHANNELS_PER_CONNECTION_MAX + 1].join(",");
        check(&format!(r#"{{"tokens":[{many}]}}"#), None);
        assert_eq!(Fresh::parse(None), None);
    }
}
