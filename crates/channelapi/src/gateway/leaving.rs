//! Those who are put out and may be here still, and when each of them has to be gone.
//!
//! The wheel of the heartbeats looks too seldom for what is promised of them. Idle connections have no part in this: it costs an entry for each
//! who is put out, and a timer while there are any. Everybody has the same time, so whoever came first is due first.

use super::Gateway;
use channelapi_core::limits::FANOUT_CHUNK;
use channelapi_core::model::ConnectionId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::Notify;

/// Connections in the order in which they are due, each until then: one that is in again by that time stays.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    due: Mutex<VecDeque<(u64, ConnectionId)>>,
    added: Notify,
}

impl Leaving {
    fn first(&self) -> Option<u64> {
        self.due.lock().front().map(|(at, _)| *at)
    }

    fn next(&self, now: u64) -> Option<ConnectionId> {
        self.due.lock().pop_front_if(|(at, _)| *at <= now).map(|(_, connection)| connection)
    }
}

impl Gateway {
    /// Sees to it that somebody who is put out is looked at then.
    pub(super) fn see_out(&self, connection: ConnectionId, at: u64) {
        self.leaving.due.lock().push_back((at, connection));
        self.leaving.added.notify_one();
    }

    /// Ends those whose time is over, until it is dropped.
    pub(super) async fn keep_seeing_out(&self) {
        loop {
            let Some(at) = self.leaving.first() else {
                self.leaving.added.notified().await;
                continue;
            };
            tokio::time::sleep(Duration::from_millis(at.saturating_sub(self.now()))).await;
            self.end_due().await;
        }
    }

    async fn end_due(&self) {
        let mut count = 0;
        while let Some(id) = self.leaving.next(self.now()) {
            if let Some(connection) = self.connection(id) {
                connection.check_sent_away(self.now());
            }
            count += 1;
            if count % FANOUT_CHUNK == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::Echo;
    use super::super::connection::{Connection, PollEnd};
    use super::super::{Settings, random_id};
    use super::*;
    use crate::admission::Admission;
    use crate::config::origins::Origins;
    use crate::live::Live;
    use channelapi_core::clock::Clock;
    use channelapi_core::delivery::Subscriber as _;
    use channelapi_core::limits::{OUTBOX_BYTES_MAX, REVOKED_CLOSE_TIMEOUT};
    use channelapi_protocol::engineio;
    use channelapi_protocol::socketio::ROOT;
    use std::sync::Arc;

    fn gateway(clock: &Clock) -> Arc<Gateway> {
        let settings = Settings::new(25_000, 20_000, 65_536, Live::new(Origins::Any));
        Gateway::new(settings, Box::new(Echo), clock.clone(), Admission::unlimited(clock.clone()))
    }

    fn open(gateway: &Arc<Gateway>) -> Arc<Connection> {
        let pass = gateway.admission.admit_session(None).unwrap();
        let make = |id, gateway, pass| Connection::polling(id, gateway, pass, random_id());
        let connection = gateway.open(&random_id(), false, pass, Vec::new(), make).unwrap();
        connection.namespaces.lock().enter(ROOT);
        fetch(&connection);
        connection
    }

    fn fetch(connection: &Connection) -> String {
        match connection.end_brief_poll() {
            PollEnd::Payload(payload) => String::from_utf8(payload.to_vec()).unwrap(),
            PollEnd::Moved | PollEnd::Ended => String::new(),
        }
    }

    /// Once, the wheel's step of a second came on top of the moment that they have.
    #[tokio::test]
    async fn whoever_is_put_out_is_gone_when_its_moment_is_over_unless_it_is_in_again() {
        let clock = Clock::manual(1_000_000);
        let gateway = gateway(&clock);
        let [goes, stays] = [open(&gateway), open(&gateway)];
        goes.send_away();
        clock.advance(REVOKED_CLOSE_TIMEOUT / 2);
        gateway.end_due().await;
        assert!(goes.is_open());
        stays.send_away();
        stays.namespaces.lock().enter(ROOT);
        stays.let_in();
        clock.advance(REVOKED_CLOSE_TIMEOUT / 2);
        gateway.end_due().await;
        assert!(!goes.is_open());
        assert_eq!(gateway.leaving.first(), Some(gateway.now() + 200), "the other one is not due");
        stays.send_away();
        clock.advance(REVOKED_CLOSE_TIMEOUT / 2);
        gateway.end_due().await;
        assert!(stays.is_open(), "it is put out anew, and has a moment anew");
        clock.advance(REVOKED_CLOSE_TIMEOUT / 2);
        gateway.end_due().await;
        assert!(!stays.is_open() && gateway.leaving.first().is_none());
    }

    #[tokio::test]
    async fn what_waits_for_whoever_is_put_out_is_dropped_but_for_a_ping() {
        let clock = Clock::manual(1_000_000);
        let gateway = gateway(&clock);
        let connection = open(&gateway);
        let message = engineio::Frame::text(&[b"4waits"]).into_wire();
        for expected in ["41", "2\x1e41"] {
            connection.deliver(&message, OUTBOX_BYTES_MAX);
            connection.send_away();
            assert_eq!(fetch(&connection), expected);
            connection.namespaces.lock().enter(ROOT);
            connection.let_in();
            clock.advance(Duration::from_secs(25));
            connection.beat(gateway.now());
        }
    }
}
