//! One thing that an attacker does, and the promise that it must not break.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;

use super::yard::Yard;

type Attack = Box<dyn FnOnce(Arc<Yard>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send>;

pub(super) struct Case {
    /// What it is found by: a letter for the room that is attacked, and a number.
    pub(super) row: &'static str,
    pub(super) promise: String,
    /// The counters that go up by at least one, as `/metrics` names them.
    pub(super) counters: Vec<String>,
    attack: Attack,
}

pub(super) fn case<F, R>(row: &'static str, promise: impl Into<String>, attack: F) -> Case
where
    F: FnOnce(Arc<Yard>) -> R + Send + 'static,
    R: Future<Output = Result<()>> + Send + 'static,
{
    let attack: Attack = Box::new(move |yard| Box::pin(attack(yard)));
    Case { row, promise: promise.into(), counters: Vec::new(), attack }
}

impl Case {
    /// What a failure is told by.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.row, self.promise)
    }

    /// The connection is ended for this reason.
    pub(super) fn disconnected(self, reason: &str) -> Self {
        self.counted("disconnects_total", "reason", reason)
    }

    /// A request to open, or to use, a session is refused for this reason.
    pub(super) fn handshake_refused(self, reason: &str) -> Self {
        self.counted("handshakes_refused_total", "reason", reason)
    }

    /// A join is refused for this reason.
    pub(super) fn join_refused(self, reason: &str) -> Self {
        self.counted("joins_refused_total", "reason", reason)
    }

    /// A request to the API is refused for this reason.
    pub(super) fn request_refused(self, reason: &str) -> Self {
        self.counted("requests_refused_total", "reason", reason)
    }

    /// A connection is closed before HTTP for this reason.
    pub(super) fn connection_refused(self, reason: &str) -> Self {
        self.counted("connections_refused_total", "reason", reason)
    }

    /// What came over a connection is no request, for this reason.
    pub(super) fn http_refused(self, reason: &str) -> Self {
        self.counted("http_refused_total", "reason", reason)
    }

    /// A confirmation is refused for this reason.
    pub(super) fn ack_refused(self, reason: &str) -> Self {
        self.counted("acks_refused_total", "reason", reason)
    }

    /// A WebSocket does not take over a session, for this reason.
    pub(super) fn upgrade_failed(self, reason: &str) -> Self {
        self.counted("upgrades_failed_total", "reason", reason)
    }

    /// An event is taken for this one; for `unknown`, if it means nothing.
    pub(super) fn event(self, name: &str) -> Self {
        self.counted("events_total", "event", name)
    }

    /// A connection is closed because this took too long.
    pub(super) fn timed_out(self, stage: &str) -> Self {
        self.counted("http_timeouts_total", "stage", stage)
    }

    fn counted(mut self, family: &str, label: &str, value: &str) -> Self {
        self.counters.push(format!("channelapi_{family}{{{label}=\"{value}\"}}"));
        self
    }

    pub(super) async fn run(self, yard: Arc<Yard>) -> Result<()> {
        (self.attack)(yard).await
    }
}
