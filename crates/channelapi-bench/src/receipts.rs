//! Who received what, and when: the proof that a measured delivery took place.
//!
//! Invariant: a publication is complete only when exactly the expected number of connections have it; one more is
//! counted as unexpected. Every connection's order is folded into one number, so differing orders show.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

use crate::frame;
use crate::pusher;

/// What precedes the number of a publication in the packet that carries it.
const PREFIX: &str = "42[\"message\",{\"n\":";

/// The data of a publication: JSON of exactly `bytes` bytes that begins with its number.
pub(crate) fn data(number: u64, bytes: usize) -> String {
    let start = format!("{{\"n\":{number},\"pad\":\"");
    let padding = bytes.saturating_sub(start.len() + 2);
    format!("{start}{}\"}}", "p".repeat(padding))
}

/// The same in centrifuge's protocol, behind the name of the channel.
const CENTRIFUGE_PREFIX: &str = "\"pub\":{\"data\":{\"n\":";

/// The number in a packet made of [`data`].
pub(crate) fn number(packet: &str) -> Option<u64> {
    let rest = match packet.strip_prefix(PREFIX) {
        Some(rest) => rest,
        None if packet.starts_with("{\"push\":") => packet.split_once(CENTRIFUGE_PREFIX)?.1,
        None if packet.starts_with("{\"event\":") => packet.split_once(pusher::NUMBER_PREFIX)?.1,
        None => return None,
    };
    rest[..rest.find(',')?].parse().ok()
}

/// Shared by all clients and the publisher of one run.
#[derive(Default)]
pub(crate) struct Receipts {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Waiting>,
    latencies: Vec<Duration>,
    unexpected: u64,
    /// Of all packets, WebSocket framing included.
    bytes: usize,
    /// By connection: a hash over the numbers in the order they came.
    orders: HashMap<usize, u64>,
}

struct Waiting {
    since: Instant,
    missing: usize,
    complete: oneshot::Sender<()>,
}

impl Receipts {
    /// Announces a publication that is about to be sent, or should have been. Resolves when `count` have it.
    pub(crate) fn expect(&self, since: Instant, number: u64, count: usize) -> oneshot::Receiver<()> {
        let (complete, completed) = oneshot::channel();
        self.state().waiting.insert(number, Waiting { since, missing: count, complete });
        completed
    }

    /// Notes a packet that a connection received. Of one that is no publication only the bytes count.
    pub(crate) fn received(&self, connection: usize, packet: &str) {
        let mut state = self.state();
        state.bytes += frame::server_bytes(packet);
        let Some(number) = number(packet) else { return };
        let order = state.orders.entry(connection).or_default();
        *order = order.wrapping_mul(0x0000_0100_0000_01b3).wrapping_add(number + 1);
        let Some(waiting) = state.waiting.get_mut(&number) else {
            state.unexpected += 1;
            return;
        };
        let latency = waiting.since.elapsed();
        waiting.missing -= 1;
        if waiting.missing == 0
            && let Some(done) = state.waiting.remove(&number)
        {
            // Nobody listens any more if the run is being given up.
            let _ = done.complete.send(());
        }
        state.latencies.push(latency);
    }

    /// How many connections still miss the publication.
    pub(crate) fn missing(&self, number: u64) -> usize {
        self.state().waiting.get(&number).map_or(0, |waiting| waiting.missing)
    }

    /// Publications that came twice, or to somebody who should not have them.
    pub(crate) fn unexpected(&self) -> u64 {
        self.state().unexpected
    }

    /// Bytes that all connections have received since the phase began.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Forgets latencies, orders and bytes: a new phase begins.
    pub(crate) fn restart(&self) {
        let mut state = self.state();
        state.latencies.clear();
        state.orders.clear();
        state.bytes = 0;
    }

    /// The latencies since the phase began, shortest first.
    pub(crate) fn latencies(&self) -> Vec<Duration> {
        let mut latencies = self.state().latencies.clone();
        latencies.sort_unstable();
        latencies
    }

    /// In how many different orders the connections saw the phase's publications.
    pub(crate) fn distinct_orders(&self) -> usize {
        self.state().orders.values().collect::<HashSet<_>>().len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counters stay meaningful whatever a panicking holder was doing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u64) -> String {
        format!("42[\"message\",{}]", data(number, 200))
    }

    #[test]
    fn data_is_json_of_the_asked_size() {
        for number in [0, 7, 123_456] {
            let data = data(number, 200);
            assert_eq!(data.len(), 200);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&data).unwrap()["n"], number);
        }
    }

    #[test]
    fn number_is_found_in_every_dialect() {
        let data = data(7, 40);
        assert_eq!(number(&format!("42[\"message\",{data}]")), Some(7));
        assert_eq!(
            number(&format!("{{\"push\":{{\"channel\":\"x\",\"pub\":{{\"data\":{data}}}}}}}")),
            Some(7)
        );
        assert_eq!(number("{\"id\":2,\"subscribe\":{}}"), None);
        let text = serde_json::Value::from(data);
        assert_eq!(number(&format!("{{\"event\":\"message\",\"channel\":\"x\",\"data\":{text}}}")), Some(7));
        assert_eq!(number("{\"event\":\"pusher:pong\"}"), None);
    }

    #[test]
    fn publication_is_complete_when_everybody_has_it() {
        let receipts = Receipts::default();
        let mut complete = receipts.expect(Instant::now(), 5, 2);
        receipts.received(0, &packet(5));
        receipts.received(0, "42[\"clientevent\",{}]");
        assert!(complete.try_recv().is_err());
        assert_eq!(receipts.missing(5), 1);
        let bytes =
            [packet(5), "42[\"clientevent\",{}]".to_owned()].map(|packet| frame::server_text(&packet).len());
        assert_eq!(receipts.bytes(), bytes.iter().sum::<usize>());
        receipts.received(1, &packet(5));
        assert!(complete.try_recv().is_ok());
        assert_eq!(receipts.unexpected(), 0);
        receipts.received(1, &packet(5));
        assert_eq!(receipts.unexpected(), 1);
        assert_eq!(receipts.latencies().len(), 2);
    }

    #[test]
    fn differing_orders_are_told_apart() {
        let receipts = Receipts::default();
        for (connection, numbers) in [(0, [1, 2]), (1, [1, 2]), (2, [2, 1])] {
            for number in numbers {
                receipts.received(connection, &packet(number));
            }
        }
        assert_eq!(receipts.distinct_orders(), 2);
        receipts.restart();
        assert_eq!(receipts.distinct_orders(), 0);
    }
}
