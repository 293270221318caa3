//! `subscribe`: prints what is published to a channel, without losing anything when the connection breaks.

use std::{future::pending, io, os::fd::AsFd, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, body::Incoming};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::Interest,
    net::unix::pipe::Sender,
    signal::unix::{SignalKind, signal},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::{
    Failed, Target,
    call::{Call, Client},
    event_stream::{Event, EventStream},
    patience::Patience,
    problem::Problem,
    target::segment,
};
use crate::output::{self, tell};

/// Servers send a comment far more often than this; silence means that nobody is there any more.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// How long a signal waits for somebody to read the lines that are being printed, so that none of them is cut.
const LAST_LINES_WAIT: Duration = Duration::from_secs(1);

/// What to print.
#[derive(Debug)]
pub struct Subscribe {
    /// Where the server is.
    pub target: Target,
    /// The channel to listen to.
    pub channel: String,
    /// Where to begin; without it, with what comes next.
    pub since: Option<Since>,
    /// Whose unread publications, if they are not those of the default consumer.
    pub consumer: Option<String>,
    /// End after this many.
    pub count: Option<u64>,
    /// Print everything known about each, as JSON.
    pub json: bool,
    /// Only events of this name.
    pub event: Option<String>,
}

/// How that place is written which depends on a consumer.
const UNREAD: &str = "unread";

/// A place in a channel's history.
#[derive(Debug, PartialEq, Eq)]
pub struct Since(String);

impl Since {
    /// Reads what somebody typed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        // A sign is not for a server, to which it would be no place at all.
        let is_number =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u64>().is_ok();
        let is_id = || match text.split('-').collect::<Vec<_>>()[..] {
            [epoch, offset, tag] => {
                let is_plain = is_number(offset) && (offset == "0" || !offset.starts_with('0'));
                is_hex(epoch, 16) && is_plain && is_hex(tag, 8)
            }
            _ => false,
        };
        // Of a cursor only its beginning is ours to know.
        if ["all", UNREAD].contains(&text) || is_number(text) || text.starts_with("ca1.") || is_id() {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{text}` is no place in a history; write all, unread, an offset such as 42, or an id or cursor as it was printed with --json"
        ))
    }

    /// Whether it is where what a consumer has not confirmed begins.
    pub fn is_unread(&self) -> bool {
        self.0 == UNREAD
    }
}

/// How listening to one connection ended.
enum Ending {
    /// Everything asked for is printed, or nobody reads any more.
    Done,
    Lost(Problem),
}

pub(super) async fn run(request: Subscribe) -> Result<(), Failed> {
    let mut client = Client::new(request.target.clone())?;
    let mut listener = Listener { request, stream: EventStream::default(), printed: 0, printing: None };
    let cannot = |error: io::Error| Failed(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let ended = tokio::select! {
        ended = listener.follow(&mut client) => ended,
        () = reader_is_gone() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    if let Some(printing) = listener.printing {
        _ = timeout(LAST_LINES_WAIT, printing).await;
    }
    ended
}

/// Waits until whoever reads standard output has gone, which the next line would notice, and there may be none. It goes on forever where
/// nobody can go: in front of a file or a terminal.
async fn reader_is_gone() {
    // Unchecked, because it must stay as it is for whoever else has it: one that is checked never blocks again.
    if let Ok(output) = io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked)
        && output.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    pending::<()>().await;
}

struct Listener {
    request: Subscribe,
    stream: EventStream,
    printed: u64,
    /// Lines on their way to standard output. A reader who does not read holds up their thread, which ends with the process, and
    /// not the one that hears signals.
    printing: Option<JoinHandle<io::Result<()>>>,
}

impl Listener {
    async fn follow(&mut self, client: &mut Client) -> Result<(), Failed> {
        let mut patience = Patience::endless();
        loop {
            let problem = match client.open(&self.call()).await {
                Ok(body) => {
                    if !patience.is_fresh() {
                        tell(&format!("connected again to {}", client.target.server));
                    }
                    match self.listen(body, &mut patience).await {
                        Ok(Ending::Done) => return Ok(()),
                        Ok(Ending::Lost(problem)) => problem,
                        Err(why) => return Err(Failed(why)),
                    }
                }
                Err(problem) => problem,
            };
            let hopeless = client.pause(problem, true, &mut patience).await;
            hopeless.map_err(|problem| Failed(problem.explain(&client.target)))?;
        }
    }

    fn call(&self) -> Call {
        let Subscribe { target, channel, since, consumer, .. } = &self.request;
        // A stream begins with an id, so what is published while a connection is down is not missed even if nothing came
        // before it.
        let mut path = target.server.channel_path(channel, "/stream?meta=true");
        let mut call = Call { method: Method::GET, ..Call::default() };
        match (self.stream.id(), since) {
            (Some(id), _) => call.headers.push(("last-event-id", id.to_owned())),
            (None, Some(since)) => {
                path = format!("{path}&since={}", segment(&since.0));
                if let Some(consumer) = consumer {
                    path = format!("{path}&consumer={}", segment(consumer));
                }
            }
            (None, None) => {}
        }
        Call { path, ..call }
    }

    /// Prints what comes until the connection ends.
    async fn listen(&mut self, mut body: Incoming, patience: &mut Patience) -> Result<Ending, String> {
        // Half an event of the connection before is not continued by this one.
        self.stream.begin_again();
        let server = self.request.target.server.to_string();
        loop {
            let why = match timeout(SILENCE_MAX, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    patience.renew();
                    let bytes: Bytes = frame.into_data().unwrap_or_default();
                    let events = self.stream.read(&bytes)?;
                    if self.take(&events).await? {
                        return Ok(Ending::Done);
                    }
                    continue;
                }
                Ok(Some(Err(error))) => format!("the connection to {server} broke ({error})"),
                Ok(None) => format!("{server} ended the stream"),
                Err(_) => format!("{server} was silent for a minute"),
            };
            return Ok(Ending::Lost(Problem::NoAnswer(why)));
        }
    }

    /// Prints those events that are wanted; true after the last one. What came together is printed together.
    async fn take(&mut self, events: &[Event]) -> Result<bool, String> {
        let mut lines = String::new();
        let mut is_last = Ok(false);
        for event in events {
            if event.name == "gap" {
                // What came before it is printed before it is told.
                if self.print(std::mem::take(&mut lines)).await? {
                    return Ok(true);
                }
                tell(&format!("gap: {}", describe_gap(&event.data)));
                continue;
            }
            if self.request.event.as_ref().is_some_and(|wanted| *wanted != event.name) {
                continue;
            }
            match self.line(event) {
                Ok(line) => lines += &line,
                Err(why) => {
                    is_last = Err(why);
                    break;
                }
            }
            self.printed += 1;
            if Some(self.printed) == self.request.count {
                is_last = Ok(true);
                break;
            }
        }
        // Also what came before one that cannot be read.
        Ok(self.print(lines).await? || is_last?)
    }

    /// What is printed for an event, line end included.
    fn line(&self, event: &Event) -> Result<String, String> {
        let line =
            if self.request.json { one_line(&event.data) } else { one_line(data_of(&event.data)?.get()) };
        Ok(line + "\n")
    }

    /// Prints lines, and waits until they are printed; true if the reader has gone.
    async fn print(&mut self, lines: String) -> Result<bool, String> {
        if lines.is_empty() {
            return Ok(false);
        }
        let printing = self.printing.insert(spawn_blocking(move || output::write(&lines)));
        let printed = printing.await.expect("writing does not panic");
        self.printing = None;
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
            Err(error) => Err(format!("cannot write to standard output: {error}")),
            Ok(()) => Ok(false),
        }
    }
}

fn data_of(meta: &str) -> Result<Box<RawValue>, String> {
    #[derive(Deserialize)]
    struct Meta {
        data: Box<RawValue>,
    }
    let strange = |_| "the server sent an event that is not JSON; is it a channelapi server?".to_owned();
    serde_json::from_str(meta).map(|Meta { data }| data).map_err(strange)
}

/// A line break inside JSON stands between its parts, where it means nothing; for who reads lines it would.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], "")
}

fn describe_gap(data: &str) -> String {
    #[derive(Deserialize)]
    struct Gap {
        channel: String,
        reason: String,
    }
    let Ok(Gap { channel, reason }) = serde_json::from_str(data) else { return data.to_owned() };
    let because = match reason.as_str() {
        "trimmed" => "the history no longer reaches back that far",
        "epoch" => "its history began anew",
        "diverged" => "the server's history is not the one that was read before, perhaps a restored backup",
        "ahead" => "the place asked for is beyond the newest one",
        "no_history" => "the channel keeps no history",
        "no_cursor" => "the place asked for is none that this server has named",
        "limit" => "there was more than is replayed at once",
        _ => "the server gives no other reason",
    };
    format!("publications of {channel} may be missing here: {because} ({reason})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_history_are_recognised() {
        for text in
            ["all", "unread", "0", "42", "ca1.AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "0123456789abcdef-7-89abcdef"]
        {
            assert_eq!(Since::parse(text), Ok(Since(text.to_owned())));
        }
        // Once, some of these were sent to the server, to which they are no place, and it began with all that there is.
        for text in [
            "",
            "yesterday",
            "-1",
            "+42",
            "1h",
            "99999999999999999999",
            "0123456789abcdef-7",
            "g123456789abcdef-7-89abcdef",
            "0123456789ABCDEF-7-89abcdef",
            "0123456789abcdef-7-89ABCDEF",
            "0123456789abcdef-+7-89abcdef",
            "0123456789abcdef-07-89abcdef",
        ] {
            assert!(Since::parse(text).unwrap_err().contains("write all, unread, an offset"), "{text}");
        }
    }

    #[test]
    fn data_comes_out_as_it_was_published_on_one_line() {
        let meta = "{\"id\":\"x\",\"data\":{\"a\" :\n1.0,\"b\":\"\\n\"},\"ts\":1}";
        assert_eq!(one_line(data_of(meta).unwrap().get()), r#"{"a" :1.0,"b":"\n"}"#);
        assert!(data_of("x").is_err());
    }

    #[test]
    fn a_gap_is_told_with_its_reason() {
        let told = describe_gap(r#"{"channel":"demo","reason":"trimmed"}"#);
        assert_eq!(
            told,
            "publications of demo may be missing here: the history no longer reaches back that far (trimmed)"
        );
    }
}
