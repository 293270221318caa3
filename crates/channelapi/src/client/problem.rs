//! What went wrong between us and the server, and what to do about it.

use std::{fmt::Write, io, time::Duration};

use serde::Deserialize;

use super::Target;

/// A call that did not succeed.
#[derive(Debug)]
pub(super) enum Problem {
    /// Nobody heard it.
    Unreachable(String),
    /// It may have been heard, and no answer came.
    NoAnswer(String),
    /// What answers there does not speak HTTP.
    Foreign(String),
    /// Who answers there cannot show that it is the server.
    Untrusted(String),
    /// It was heard, and what came back is no answer to it.
    Strange,
    /// The server said no.
    Refused(Box<Refusal>),
}

/// A call that is not made again.
#[derive(Debug)]
pub(super) struct GivenUp {
    /// What went wrong last.
    pub(super) problem: Problem,
    /// Whether the server may have done what it was asked all the same, when it was asked last or before.
    pub(super) is_uncertain: bool,
}

/// A server's no.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// What the server says it is about.
    pub(super) body: Body,
    /// When it wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// Where it leads instead.
    pub(super) location: Option<String>,
}

/// The parts of a problem (RFC 9457) or of an item's result that are for people.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    pub(super) title: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) code: Option<String>,
    pub(super) hint: Option<String>,
    /// What the routes of the original call it.
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
}

impl Problem {
    pub(super) fn connecting(target: &Target, error: &io::Error) -> Self {
        let server = &target.server;
        Self::Unreachable(match error.kind() {
            io::ErrorKind::ConnectionRefused => format!(
                "nothing listens at {server}\n  \
                 is the server running? start it with `channelapi`, or say where it is with --server or CHANNELAPI_URL"
            ),
            _ => format!(
                "cannot connect to {server}: {error}\n  say where the server is with --server or CHANNELAPI_URL"
            ),
        })
    }

    /// Whether the same call may be made again: `repeatable` says that being heard twice does no harm.
    pub(super) fn may_try_again(&self, repeatable: bool) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::NoAnswer(_) => repeatable,
            Self::Foreign(_) | Self::Untrusted(_) | Self::Strange => false,
            Self::Refused(refusal) => refusal.may_try_again(repeatable),
        }
    }

    /// The pause that the server asked for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Whether the server may have done what it was asked although this is no success.
    pub(super) fn is_uncertain(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Foreign(_) | Self::Untrusted(_) => false,
            Self::NoAnswer(_) | Self::Strange => true,
            Self::Refused(refusal) => leaves_open(refusal.status),
        }
    }

    /// Whether more was asked than the server lets somebody ask in some time.
    pub(super) fn is_too_much(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 429)
    }

    /// What to print.
    pub(super) fn explain(&self, target: &Target) -> String {
        match self {
            Self::Unreachable(text) | Self::NoAnswer(text) | Self::Foreign(text) | Self::Untrusted(text) => {
                text.clone()
            }
            Self::Strange => format!(
                "what {} answered is no answer: is it a channelapi server, of this version?\n  \
                 say where the server is with --server or CHANNELAPI_URL",
                target.server
            ),
            Self::Refused(refusal) => refusal.explain(target),
        }
    }

    /// The first line of it, for a word in passing.
    pub(super) fn in_short(&self, target: &Target) -> String {
        self.explain(target).lines().next().unwrap_or_default().to_owned()
    }
}

/// Whether this status does not tell if anything was done.
pub(super) fn leaves_open(status: u16) -> bool {
    matches!(status, 502 | 504)
}

impl Refusal {
    /// 503 and 429 say "not now" before anything is done; 502 and 504 do not know.
    pub(super) fn may_try_again(&self, repeatable: bool) -> bool {
        matches!(self.status, 429 | 503) || (repeatable && leaves_open(self.status))
    }

    pub(super) fn explain(&self, target: &Target) -> String {
        let Self { status, body, .. } = self;
        // Other codes say what the key lacks.
        let is_unknown = body.code.as_deref().is_none_or(|code| code == "forbidden");
        if matches!(status, 401 | 403) && is_unknown {
            // What leads to HTTPS has words of its own, and they are of the key that it was sent.
            if let (None, Some(said)) = (&body.code, &body.message) {
                let about_key = target.key.as_ref().map(|_| format!("\n  {}", target.about_key));
                return said.clone() + &about_key.unwrap_or_default();
            }
            let outcome = if target.key.is_some() { "refused the key" } else { "wants a key" };
            return format!("the server at {} {outcome}\n  {}", target.server, target.about_key);
        }
        let said = [&body.detail, &body.title, &body.message].into_iter().flatten().next();
        let Some(said) = said else { return self.explain_silence(target) };
        let mut text = said.clone();
        if let Some(code) = &body.code {
            let _ = write!(text, " ({code})");
        }
        if let Some(hint) = &body.hint {
            let _ = write!(text, "\n  {hint}");
        }
        // Neither a channel nor its stream need creating.
        if *status == 404 {
            let _ = write!(
                text,
                "\n  is the API at {}? a server with [internal] has it there and nowhere else",
                target.server
            );
        }
        // Only where the operator has to look into the log.
        if let Some(id) = body.request_id.as_ref().filter(|_| *status >= 500) {
            let _ = write!(text, "\n  the server's log knows it as request {id}");
        }
        text
    }

    fn explain_silence(&self, target: &Target) -> String {
        let (server, status) = (&target.server, self.status);
        if let (300..400, Some(place)) = (status, &self.location) {
            return explain_redirect(target, place);
        }
        match status {
            404 | 405 | 501 => format!(
                "{server} answered {status}: is it a channelapi server, of this version?\n  \
                 say where the server is with --server or CHANNELAPI_URL"
            ),
            400 if !server.is_secure() => format!(
                "{server} does not understand what we say: if it speaks TLS, write https:// instead of http://"
            ),
            _ => format!(
                "{server} answered {status} without saying why; look into its log, or the proxy's before it"
            ),
        }
    }
}

/// We follow nobody, least of all with a key.
fn explain_redirect(target: &Target, place: &str) -> String {
    let server = &target.server;
    let mut text = format!(
        "{server} only leads to {}\n  say where the server itself is with --server or CHANNELAPI_URL",
        place.escape_debug()
    );
    if target.key.is_some() && !server.is_secure() {
        let _ = write!(
            text,
            "\n  the key went there without encryption: replace it if others may have read it\n  {}",
            target.about_key
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::ServerUrl, config::secret::Secret};

    fn target() -> Target {
        let server = ServerUrl::parse("http://a:1").unwrap();
        Target {
            clients: server.clone(),
            server,
            key: Some(Secret::new("k")),
            about_key: "it is from --key".to_owned(),
            ca_file: None,
            warnings: Vec::new(),
        }
    }

    fn refused(status: u16, body: &str) -> Problem {
        let body = serde_json::from_str(body).unwrap();
        Problem::Refused(Box::new(Refusal { status, body, ..Refusal::default() }))
    }

    #[test]
    fn only_what_cannot_be_doubled_is_tried_again() {
        for (problem, once, many) in [
            (Problem::Unreachable(String::new()), true, true),
            (Problem::NoAnswer(String::new()), false, true),
            (Problem::Strange, false, false),
            (refused(503, "{}"), true, true),
            (refused(429, "{}"), true, true),
            (refused(504, "{}"), false, true),
            (refused(502, "{}"), false, true),
            (refused(500, "{}"), false, false),
            (refused(400, "{}"), false, false),
            (refused(507, "{}"), false, false),
        ] {
            assert_eq!(
                (problem.may_try_again(false), problem.may_try_again(true)),
                (once, many),
                "{problem:?}"
            );
        }
    }

    #[test]
    fn the_servers_own_words_come_first() {
        for (status, body, expected) in [
            (
                400,
                r#"{"title":"T","detail":"D","code":"c","hint":"H","request_id":"r","status":400}"#,
                "D (c)\n  H",
            ),
            (507, r#"{"title":"T","request_id":"r"}"#, "T\n  the server's log knows it as request r"),
            (400, r#"{"success":false,"message":"M"}"#, "M"),
            (
                404,
                r#"{"detail":"D"}"#,
                "D\n  is the API at http://a:1? a server with [internal] has it there and nowhere else",
            ),
            (403, r#"{"success":false,"message":"M"}"#, "M\n  it is from --key"),
            (403, r#"{"detail":"D"}"#, "the server at http://a:1 refused the key\n  it is from --key"),
        ] {
            assert_eq!(refused(status, body).explain(&target()), expected);
        }
        assert!(refused(404, "{}").explain(&target()).contains("is it a channelapi server"));
        assert!(refused(400, "{}").explain(&target()).contains("write https://"));
        assert!(refused(500, "{}").explain(&target()).contains("answered 500 without saying why"));
    }
}
