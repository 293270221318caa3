//! `auth` in the handshake: what a client brings when it connects.

use super::fields::Fields;
use channelapi_core::delivery::Form;
use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;
use channelapi_core::model::{ChannelName, ConsumerName};
use serde::Deserialize;

/// What a client brings.
#[derive(Debug, PartialEq)]
pub(crate) struct Auth {
    /// Tokens of channels, and JWTs. Without any, it is a client of the seed's door.
    pub(crate) tokens: Vec<String>,
    /// The channels it wants to be in, where its JWTs open more, or do not name them one by one.
    pub(crate) channels: Option<Vec<ChannelName>>,
    /// Whether it wants to come back to where it was.
    pub(crate) is_resumable: bool,
    /// Whether it wants to know where and when things were published.
    pub(crate) is_meta: bool,
    /// From where on it hears its channels when it is here for the first time.
    pub(crate) since: Option<String>,
    /// Who it is, where `since` asks for what is unread.
    pub(crate) consumer: ConsumerName,
    /// What it was told when it was here before, and where it stands.
    pub(crate) pid: Option<String>,
    pub(crate) offset: Option<String>,
}

/// Why it cannot be let in with that.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum AuthError {
    /// Something in it is not what it must be.
    #[error("{0}")]
    Bad(String),
    /// There are more than [`CHANNELS_PER_CONNECTION_MAX`] tokens or channels.
    #[error("a client may be in {CHANNELS_PER_CONNECTION_MAX} channels")]
    TooManyChannels,
}

impl Auth {
    /// Reads `auth`, which is an object or nothing. What it holds besides may be anything: JSON can say what no text or number is.
    pub(crate) fn parse(auth: &str) -> Result<Self, AuthError> {
        let fields = if auth.is_empty() { Ok(Fields::default()) } else { Fields::parse(auth) };
        let fields = fields.map_err(|_| bad("auth cannot be read"))?;
        let text = |name| read::<String>(&fields, name, "a string");
        let flag = |name| read::<bool>(&fields, name, "true or false");
        let list = |name, kind| read::<Vec<String>>(&fields, name, kind);
        // Stock clients send whatever text an event ended with, even one that cannot be read.
        let any_text = |name| text(name).ok().flatten();
        let mut tokens: Vec<String> = [text("token")?, text("jwt")?].into_iter().flatten().collect();
        tokens.extend(list("tokens", "an array of strings")?.unwrap_or_default());
        let channels = match list("channels", "an array of names of channels")? {
            None => None,
            Some(names) => {
                let names: Result<Vec<_>, _> = names.iter().map(|name| ChannelName::parse(name)).collect();
                Some(names.map_err(|_| bad("auth.channels must hold names of channels"))?)
            }
        };
        if tokens.len().max(channels.as_ref().map_or(0, Vec::len)) > CHANNELS_PER_CONNECTION_MAX {
            return Err(AuthError::TooManyChannels);
        }
        let consumer =
            text("consumer")?.map_or(Ok(ConsumerName::default()), |name| ConsumerName::parse(&name));
        Ok(Self {
            tokens,
            channels,
            is_resumable: flag("resume")?.unwrap_or(true),
            is_meta: flag("meta")?.unwrap_or(false),
            since: text("since")?,
            consumer: consumer.map_err(|error| bad(&format!("auth.consumer: {error}")))?,
            pid: any_text("pid"),
            offset: any_text("offset"),
        })
    }

    /// Whether the client uses this door at all.
    pub(crate) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// In which form it takes publications.
    pub(crate) fn form(&self) -> Form {
        match (self.is_resumable, self.is_meta) {
            (false, false) => Form::Plain,
            (false, true) => Form::Meta,
            (true, false) => Form::Resumable,
            (true, true) => Form::ResumableMeta,
        }
    }
}

/// A field as the type that it must have, which `kind` tells.
fn read<'a, T: Deserialize<'a>>(fields: &Fields<'a>, name: &str, kind: &str) -> Result<Option<T>, AuthError> {
    fields.get(name).map_err(|error| {
        let is_other = error.is_data();
        bad(&format!(
            "auth.{name} {}",
            if is_other { format!("must be {kind}") } else { "cannot be read".into() }
        ))
    })
}

fn bad(message: &str) -> AuthError {
    AuthError::Bad(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_brings_is_read_or_refused() {
        let tokens = |auth: &str| Auth::parse(auth).unwrap().tokens;
        assert_eq!(tokens(""), [""; 0]);
        assert_eq!(tokens("{}"), [""; 0]);
        assert_eq!(tokens(r#"{"token":"a"}"#), ["a"]);
        assert_eq!(tokens(r#"{"token":"a","tokens":["b","c"]}"#), ["a", "b", "c"]);
        let is_bad = |auth: &str| {
            let error = Auth::parse(auth).unwrap_err();
            assert!(matches!(error, AuthError::Bad(_)), "{auth}: {error:?}");
        };
        assert_eq!(tokens(r#"{"token":"a","jwt":"b","tokens":["c"]}"#), ["a", "b", "c"]);
        is_bad(r#"{"token":1}"#);
        is_bad(r#"{"jwt":{}}"#);
        is_bad(r#"{"jwt":"a","channels":"b"}"#);
        is_bad(r#"{"jwt":"a","channels":[""]}"#);
        is_bad(r#"{"tokens":"a"}"#);
        is_bad(r#"{"tokens":["a",null]}"#);
        is_bad(r#"{"token":"a","resume":"no"}"#);
        is_bad(r#"{"token":"a","consumer":""}"#);
        let many = vec![r#""x""#; CHANNELS_PER_CONNECTION_MAX + 1].join(",");
        assert_eq!(Auth::parse(&format!(r#"{{"tokens":[{many}]}}"#)), Err(AuthError::TooManyChannels));
        assert_eq!(
            Auth::parse(&format!(r#"{{"jwt":"a","channels":[{many}]}}"#)),
            Err(AuthError::TooManyChannels)
        );
    }

    /// Once, such a client passed for one without a token: it was let in, and never heard anything.
    #[test]
    fn what_json_can_say_and_nobody_can_read_does_not_hide_the_token() {
        for unread in [r#""cut \ud83d""#, "1e400"] {
            for name in ["token", "jwt", "tokens", "channels", "resume", "meta", "since", "consumer"] {
                let auth = format!(r#"{{"tokens":["a"],"{name}":{unread}}}"#);
                let bad = AuthError::Bad(format!("auth.{name} cannot be read"));
                assert_eq!(Auth::parse(&auth), Err(bad), "{auth}");
            }
            let auth = Auth::parse(&format!(r#"{{"token":"a","name":{unread}}}"#)).unwrap();
            assert_eq!(auth.tokens, ["a"], "it is nothing of ours");
            // A text that ends an event may be such a one, and comes back as the place of a stock client.
            let auth = Auth::parse(&format!(r#"{{"token":"a","pid":"p","offset":{unread}}}"#)).unwrap();
            assert_eq!((auth.pid.as_deref(), auth.offset), (Some("p"), None));
        }
        for name in ["tokens", "channels"] {
            let bad = AuthError::Bad(format!("auth.{name} cannot be read"));
            assert_eq!(Auth::parse(&format!(r#"{{"token":"a","{name}":["\ud83d"]}}"#)), Err(bad));
        }
        assert_eq!(Auth::parse(r#"{"\ud83d":1}"#), Err(AuthError::Bad("auth cannot be read".to_owned())));
    }

    /// Once, such an object was taken for the value in the text, and JSON in texts in texts was read at any depth.
    #[test]
    fn no_object_passes_for_the_value_in_its_text() {
        for (name, text) in [
            ("token", r#""a""#),
            ("jwt", r#""a""#),
            ("tokens", r#"["a"]"#),
            ("channels", r#"["a"]"#),
            ("resume", "false"),
            ("meta", "true"),
            ("since", r#""all""#),
            ("consumer", r#""phone""#),
            ("token", "null"),
        ] {
            let dressed =
                format!(r#"{{"$serde_json::private::RawValue":{}}}"#, serde_json::Value::from(text));
            let error = Auth::parse(&format!(r#"{{"tokens":["b"],"{name}":{dressed}}}"#)).unwrap_err();
            let starts = format!("auth.{name} must be ");
            assert!(matches!(&error, AuthError::Bad(bad) if bad.starts_with(&starts)), "{name}: {error:?}");
            let inside = Auth::parse(&format!(r#"{{"tokens":["b",{dressed}]}}"#)).unwrap_err();
            assert_eq!(inside, AuthError::Bad("auth.tokens must be an array of strings".to_owned()));
            let auth = Auth::parse(&format!(r#"{{"token":"a","pid":"p","offset":{dressed}}}"#)).unwrap();
            assert_eq!((auth.pid.as_deref(), auth.offset), (Some("p"), None));
        }
    }

    #[test]
    fn clients_come_back_unless_they_do_not_want_to() {
        let form = |auth: &str| Auth::parse(auth).unwrap().form();
        assert_eq!(form(r#"{"token":"a"}"#), Form::Resumable);
        assert_eq!(form(r#"{"token":"a","meta":true}"#), Form::ResumableMeta);
        assert_eq!(form(r#"{"token":"a","resume":false}"#), Form::Plain);
        let auth = Auth::parse(r#"{"token":"a","pid":"p","offset":{"any":"thing"}}"#).unwrap();
        assert_eq!((auth.pid.as_deref(), auth.offset), (Some("p"), None));
    }
}
