//! Publishes what the clients of a run can recognise.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use hyper::Method;

use super::course::Course;
use crate::client::{
    call::{Call, Client},
    problem::Problem,
};

/// Name of the event of all publications of a run.
const EVENT: &str = "bench";

/// How long the server keeps what is left of a run.
const TTL: &str = "1h";

/// Pause after a publication that failed, if the server asks for no longer one: a server that refuses everything is not to be
/// asked a hundred thousand times a second.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Publishes over one connection of its own.
pub(super) struct Publisher {
    client: Client,
    /// Of each channel; publications take turns.
    paths: Vec<String>,
    before: String,
    behind: String,
    mark: String,
}

impl Publisher {
    /// To the channel of the run, or to this many that are called after it. The server has been reached before.
    pub(super) fn new(course: &Course, channels: u64) -> Self {
        let bench = &course.bench;
        let path = |channel: &str| bench.target.server.channel_path(channel, "/messages");
        let paths = if channels == 1 {
            vec![path(&bench.channel)]
        } else {
            (0..channels).map(|number| path(&format!("{}-{number}", bench.channel))).collect()
        };
        let before = format!("{{\"event\":\"{EVENT}\",\"data\":{}", data_before(&course.mark));
        let keeping =
            if bench.is_volatile { "\"volatile\":true".into() } else { format!("\"ttl\":\"{TTL}\"") };
        let behind = format!(",{keeping}}}");
        Self { client: course.client.another(), paths, before, behind, mark: course.mark.clone() }
    }

    /// Publishes once.
    pub(super) async fn publish(&mut self, course: &Course, number: u64) -> Result<(), Problem> {
        let call = self.call(course, number);
        self.client.ask(&call).await.map(drop)
    }

    /// Publishes until it is known to be stored, exactly once, or that cannot be hoped for any more.
    pub(super) async fn insist(&mut self, course: &Course, number: u64) -> Result<(), Problem> {
        let mut call = self.call(course, number);
        call.headers.push(("idempotency-key", format!("{}-{number}", self.mark)));
        call.is_repeatable = true;
        self.client.insist(&call).await.map(drop).map_err(|given_up| given_up.problem)
    }

    fn call(&self, course: &Course, number: u64) -> Call {
        let body =
            format!("{}{}{}", self.before, data_behind(&course.mark, number, course.bench.size), self.behind);
        let which = usize::try_from(number).unwrap_or_default() % self.paths.len();
        Call {
            method: Method::POST,
            path: self.paths[which].clone(),
            content_type: Some("application/json"),
            body: Bytes::from(body),
            ..Call::default()
        }
    }

    /// What went wrong, for the result.
    pub(super) fn explain(&self, problem: &Problem) -> String {
        problem.in_short(&self.client.target)
    }

    /// Waits before the next one, after a problem.
    pub(super) async fn rest(problem: &Problem) {
        tokio::time::sleep(problem.retry_after().unwrap_or_default().clamp(PAUSE, PAUSE_MAX)).await;
    }
}

fn data_before(mark: &str) -> String {
    format!("{{\"run\":\"{mark}\",\"n\":")
}

/// The number and as much as is missing to the size.
fn data_behind(mark: &str, number: u64, size: usize) -> String {
    let mut text = number.to_string();
    let bare = data_before(mark).len() + text.len() + 1;
    let padding = size.saturating_sub(bare + ",\"pad\":\"\"".len());
    if padding > 0 {
        let _ = write!(text, ",\"pad\":\"{:x<padding$}\"", "");
    }
    text.push('}');
    text
}

/// Recognises what a run has published in what its clients are sent.
#[derive(Clone)]
pub(super) struct Recogniser(String);

impl Recogniser {
    pub(super) fn new(course: &Course) -> Self {
        Self(format!("42[\"{EVENT}\",{}", data_before(&course.mark)))
    }

    /// The number of the publication; `None` if the packet is something else.
    pub(super) fn number(&self, packet: &str) -> Option<u64> {
        let rest = packet.strip_prefix(&self.0)?;
        rest[..rest.find([',', '}'])?].parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_its_size_and_is_recognised() {
        for size in [super::super::SIZE_MIN, 200, 5000] {
            let data = data_before("cli-0123456789abcdefghijklmn")
                + &data_behind("cli-0123456789abcdefghijklmn", 12_345, size);
            assert_eq!(data.len(), size, "{data}");
            serde_json::from_str::<serde_json::Value>(&data).unwrap();
            let recogniser =
                Recogniser(format!("42[\"bench\",{}", data_before("cli-0123456789abcdefghijklmn")));
            assert_eq!(recogniser.number(&format!("42[\"bench\",{data}]")), Some(12_345));
            assert_eq!(recogniser.number("42[\"bench\",{\"run\":\"cli-another\",\"n\":1}]"), None);
        }
    }
}
