//! `publish`: one publication, or one per line.
//!
//! Invariant: a call that may be repeated carries an idempotency key, so that nothing is lost and nothing doubled.

use std::io::{self, Read};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Failed, Form, Target,
    call::{Call, Client},
    problem::{Body, GivenUp, Problem},
};
use crate::output::{Output, try_print};

/// Longest standard input that is taken as one publication; what a server accepts is less.
const INPUT_BYTES_MAX: u64 = 16 << 20;

/// What to publish, and how.
#[derive(Debug)]
pub struct Publish {
    /// Where the server is.
    pub target: Target,
    /// The channel to publish to.
    pub channel: String,
    /// Where the data is.
    pub source: Source,
    /// How text from standard input becomes JSON.
    pub form: Form,
    /// The event's name, if it is not `message`.
    pub event: Option<String>,
    /// What marks a repetition as one. Without it, one is made.
    pub idempotency_key: Option<String>,
    /// After how many seconds it is forgotten.
    pub ttl: Option<u64>,
    /// Only for who is there now; stored nowhere.
    pub is_volatile: bool,
    /// What is printed.
    pub output: Output,
}

/// Where the data is.
#[derive(Debug)]
pub enum Source {
    /// It was typed.
    Data(Box<RawValue>),
    /// All of standard input is one publication.
    Stdin,
    /// Each line of standard input is one.
    Lines,
}

/// A publication as the API takes it.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<&'a str>,
    pub(super) data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) volatile: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idempotency_key: Option<&'a str>,
}

/// What became of one, as the API says it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Outcome {
    /// Only among the results of many.
    pub(super) status: u16,
    pub(super) id: Option<String>,
    pub(super) epoch: Option<String>,
    pub(super) offset: Option<u64>,
    pub(super) durability: Option<String>,
    pub(super) duplicate: bool,
    #[serde(flatten)]
    pub(super) refusal: Body,
}

impl Outcome {
    /// Whether it is published, of a result among those of many.
    pub(super) fn is_published(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it says where it is stored; only what is volatile is nowhere.
    pub(super) fn has_place(&self, is_volatile: bool) -> bool {
        is_volatile || self.offset.is_some()
    }
}

/// Publishes one thing.
pub(super) async fn run(request: Publish, json: &RawValue) -> Result<(), Failed> {
    let Publish { target, channel, output, is_volatile, .. } = request;
    let may_be_older = request.idempotency_key.is_some();
    let key = match request.idempotency_key {
        None if is_volatile => None,
        None => Some(random_key()?),
        given => given,
    };
    let message = Message {
        channel: None,
        data: json,
        event: request.event.as_deref(),
        ttl: request.ttl,
        volatile: is_volatile,
        idempotency_key: None,
    };
    let call = Call {
        method: Method::POST,
        path: target.server.channel_path(&channel, "/messages"),
        content_type: Some("application/json"),
        headers: key.iter().map(|key| ("idempotency-key", key.clone())).collect(),
        body: serde_json::to_vec(&message).expect("text can be written as JSON").into(),
        is_repeatable: !is_volatile,
    };
    let mut client = Client::new(target)?;
    let answered = client.insist(&call).await.and_then(|answer| understand(answer, is_volatile));
    let (answer, mut outcome) = answered.map_err(|GivenUp { problem, is_uncertain }| {
        Failed(problem.explain(&client.target) + &advice(is_uncertain, key.as_deref()))
    })?;
    // With a key of our own, it is there already because we repeated it.
    outcome.duplicate &= may_be_older;
    let described = describe(&channel, &outcome);
    let printed = match output {
        Output::Quiet => Ok(()),
        Output::Json => try_print(&String::from_utf8_lossy(answer.trim_ascii())),
        Output::Table => try_print(&described),
    };
    printed.map_err(|error| Failed(format!("{error}\n  {described}")))
}

/// The answer, and what it says became of the publication.
fn understand(answer: Bytes, is_volatile: bool) -> Result<(Bytes, Outcome), GivenUp> {
    match serde_json::from_slice::<Outcome>(&answer) {
        Ok(outcome) if outcome.has_place(is_volatile) => Ok((answer, outcome)),
        _ => Err(GivenUp { problem: Problem::Strange, is_uncertain: true }),
    }
}

fn describe(channel: &str, outcome: &Outcome) -> String {
    let durability = outcome.durability.as_deref().unwrap_or("unknown durability");
    match outcome.offset {
        Some(offset) if outcome.duplicate => {
            format!("already published as {channel} #{offset} ({durability})")
        }
        Some(offset) => format!("published {channel} #{offset} ({durability})"),
        None => format!("published {channel} (volatile: to who is connected now, stored nowhere)"),
    }
}

/// What to do when nobody knows what became of it.
pub(super) fn advice(is_uncertain: bool, key: Option<&str>) -> String {
    match key {
        _ if !is_uncertain => String::new(),
        Some(key) => format!(
            "\n  it may be published nevertheless; repeat the command with --idempotency-key {key} to be sure that it is, once"
        ),
        None => "\n  it may have reached clients nevertheless".to_owned(),
    }
}

/// A key that nobody else has.
pub(super) fn random_key() -> Result<String, Failed> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failed(format!("the system gave no random bytes: {error}")))?;
    // Not to be taken for a flag when it is typed again.
    Ok(format!("cli-{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

pub(super) fn read_all(form: Form) -> Result<Box<RawValue>, Failed> {
    let mut bytes = Vec::new();
    let read = io::stdin().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failed(format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failed(
            "standard input is larger than 16 MiB; with --stdin-lines each line is published".to_owned(),
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failed("standard input is not UTF-8 text".to_owned()))?;
    // The line end that `echo` adds is not part of what was said.
    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() && form != Form::Text {
        // A command before the pipe that failed says nothing.
        return Err(Failed("standard input is empty; --text publishes an empty string".to_owned()));
    }
    form.read(text).map_err(Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(answer: &str, expected: &str) {
        assert_eq!(describe("demo", &serde_json::from_str(answer).unwrap()), expected);
    }

    #[test]
    fn a_line_says_what_became_of_it() {
        let stored = r#"{"id":"x","channel":"demo","epoch":"e","offset":42,"cursor":"c","durability":"fsync","duplicate":false}"#;
        says(stored, "published demo #42 (fsync)");
        says(&stored.replace("false", "true"), "already published as demo #42 (fsync)");
        says(
            r#"{"channel":"demo","durability":"none"}"#,
            "published demo (volatile: to who is connected now, stored nowhere)",
        );
    }

    #[test]
    fn keys_differ_and_can_be_typed() {
        let (one, other) = (random_key().unwrap(), random_key().unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with("cli-") && one.bytes().all(|byte| byte.is_ascii_graphic()), "{one}");
    }
}
