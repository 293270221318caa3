//! The query string of a request: each parameter once, and none that means nothing.

use super::problem::{Code, Problem};
use channelapi_core::limits::QUERY_PARAMETERS_MAX;
use percent_encoding::percent_decode_str;
use std::str::FromStr;

/// Parameters, which are taken out one by one.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string as HTML forms write it. Each parameter is compared with all before it, and strangers may send thousands: it
    /// goes no further than any route has parameters.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == QUERY_PARAMETERS_MAX {
                return Err(refused(format!("There are more than {QUERY_PARAMETERS_MAX} parameters.")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(refused(format!("`{}` is there twice.", name.escape_debug())));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(place).1)
    }

    /// The value of a parameter that is of one type. `kind` says which.
    pub(super) fn take_as<T: FromStr>(&mut self, name: &str, kind: &str) -> Result<Option<T>, Problem> {
        let parse = |value: String| value.parse().map_err(|_| refused(format!("`{name}` must be {kind}.")));
        self.take(name).map(parse).transpose()
    }

    /// There must be nothing left.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(refused(format!("There is no parameter `{}` here.", name.escape_debug()))),
        }
    }
}

/// Something is wrong with a query string.
pub(super) fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidQuery, detail)
}

fn decoded(text: &str) -> Result<String, Problem> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(Into::into).map_err(|_| refused("The query string is not UTF-8."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_once_and_none_is_left() {
        let mut query = Query::parse("since=a%2Fb+c&limit=5&&meta").unwrap();
        assert_eq!(query.take("since").as_deref(), Some("a/b c"));
        assert_eq!(query.take("since"), None);
        assert_eq!(query.take_as::<usize>("limit", "a number"), Ok(Some(5)));
        assert_eq!(query.take("meta").as_deref(), Some(""));
        assert_eq!(query.finish(), Ok(()));
        assert!(Query::parse("sincE=1").unwrap().finish().is_err());
        assert!(Query::parse("a=1&a=2").is_err());
        assert!(Query::parse("a=%FF").is_err());
        let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join("&");
        assert!(Query::parse(&many(QUERY_PARAMETERS_MAX)).is_ok());
        let too_many = Query::parse(&many(QUERY_PARAMETERS_MAX + 1)).err().unwrap();
        assert_eq!(
            (too_many.code, &*too_many.detail),
            (Code::InvalidQuery, "There are more than 16 parameters.")
        );
        let refused = Query::parse("limit=x").unwrap().take_as::<usize>("limit", "a number").unwrap_err();
        assert_eq!((refused.code, &*refused.detail), (Code::InvalidQuery, "`limit` must be a number."));
    }
}
