//! What is published, from what was typed.

use serde_json::value::RawValue;

/// How text becomes the JSON that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As JSON if it is JSON, else as a string.
    Guessed,
    /// It must be JSON.
    Json,
    /// As a string, whatever it looks like.
    Text,
}

impl Form {
    /// The JSON to publish. JSON is passed on as it was written, to the byte.
    pub fn read(self, text: &str) -> Result<Box<RawValue>, String> {
        let parsed = serde_json::from_str(text);
        match (self, parsed) {
            (Self::Guessed | Self::Json, Ok(json)) => Ok(json),
            (Self::Json, Err(error)) => {
                Err(format!("the data is not JSON ({error}); leave out --json to publish it as a string"))
            }
            (Self::Guessed, Err(_)) | (Self::Text, _) => {
                Ok(serde_json::value::to_raw_value(text).expect("every string can be written as JSON"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: Form, text: &str, expected: &str) {
        assert_eq!(form.read(text).unwrap().get(), expected, "{text}");
    }

    #[test]
    fn json_stays_as_it_was_written() {
        for json in ["1.0", "12345678901234567890123", r#"{"b" : 1, "a":"\u00e4"}"#, "null", r#""hello""#] {
            check(Form::Guessed, json, json);
            check(Form::Json, json, json);
        }
        check(Form::Guessed, " [1]\n", "[1]");
    }

    #[test]
    fn everything_else_becomes_a_string() {
        check(Form::Guessed, "hello", r#""hello""#);
        check(Form::Guessed, "007", r#""007""#);
        check(Form::Guessed, "{broken", r#""{broken""#);
        check(Form::Guessed, "", r#""""#);
        check(Form::Text, "42", r#""42""#);
        check(Form::Text, "a\"b\n", r#""a\"b\n""#);
    }

    #[test]
    fn json_can_be_demanded() {
        let error = Form::Json.read("{broken").unwrap_err();
        assert!(error.starts_with("the data is not JSON (") && error.contains("leave out --json"), "{error}");
    }
}
