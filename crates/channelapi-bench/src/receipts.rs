//! Who received what, and when: the proof that a measured delivery took place.
//!
//! Invariant: a publication is complete only when each of the expected connections has it, whole and once. What comes twice, comes to
//! somebody else or is cut short makes up for nothing; it is counted. Every connection's order is folded into one number, so differing
//! orders show.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
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
    cut_short: u64,
    /// Of all packets, WebSocket framing included.
    bytes: usize,
    /// By connection: a hash over the numbers in the order they came.
    orders: HashMap<usize, u64>,
}

struct Waiting {
    since: Instant,
    /// Of its data.
    bytes: usize,
    subscribers: Range<usize>,
    /// A bit for each subscriber.
    has: Vec<u64>,
    missing: usize,
    complete: oneshot::Sender<()>,
}

impl Waiting {
    /// Whether this connection should have it and has not.
    fn take(&mut self, connection: usize) -> bool {
        if !self.subscribers.contains(&connection) {
            return false;
        }
        let index = connection - self.subscribers.start;
        let (word, bit) = (&mut self.has[index / 64], 1 << (index % 64));
        let is_first = *word & bit == 0;
        *word |= bit;
        self.missing -= usize::from(is_first);
        is_first
    }
}

impl Receipts {
    /// Announces a publication with so many bytes of data that is about to be sent, or should have been. Resolves when all these
    /// connections have it.
    pub(crate) fn expect(
        &self,
        since: Instant,
        number: u64,
        bytes: usize,
        subscribers: Range<usize>,
    ) -> oneshot::Receiver<()> {
        let (complete, completed) = oneshot::channel();
        let (missing, has) = (subscribers.len(), vec![0; subscribers.len().div_ceil(64)]);
        let waiting = Waiting { since, bytes, subscribers, has, missing, complete };
        self.state().waiting.insert(number, waiting);
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
        if packet.len() < waiting.bytes {
            state.cut_short += 1;
            return;
        }
        if !waiting.take(connection) {
            state.unexpected += 1;
            return;
        }
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

    /// Fails if something came twice, to somebody who should not have it, or not as a whole.
    pub(crate) fn check(&self) -> Result<()> {
        let state = self.state();
        let (unexpected, cut_short) = (state.unexpected, state.cut_short);
        ensure!(unexpected == 0, "{unexpected} deliveries too many, or to the wrong connection");
        ensure!(cut_short == 0, "{cut_short} deliveries that are shorter than what was published");
        Ok(())
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
        let mut complete = receipts.expect(Instant::now(), 5, 200, 0..2);
        receipts.received(0, &packet(5));
        receipts.received(0, "42[\"clientevent\",{}]");
        assert!(complete.try_recv().is_err());
        assert_eq!(receipts.missing(5), 1);
        let bytes =
            [packet(5), "42[\"clientevent\",{}]".to_owned()].map(|packet| frame::server_text(&packet).len());
        assert_eq!(receipts.bytes(), bytes.iter().sum::<usize>());
        receipts.received(1, &packet(5));
        assert!(complete.try_recv().is_ok());
        receipts.check().unwrap();
        receipts.received(1, &packet(5));
        assert!(receipts.check().unwrap_err().to_string().starts_with("1 deliveries too many"));
        assert_eq!(receipts.latencies().len(), 2);
    }

    /// A server that delivered twice to one client and never to another was taken for one that had delivered to both, and one that
    /// delivered to the wrong client for one that had delivered to the right one.
    #[test]
    fn what_comes_twice_or_elsewhere_or_in_part_makes_up_for_nothing() {
        for (connection, text, problem) in [
            (0, packet(5), "1 deliveries too many"),
            (2, packet(5), "1 deliveries too many"),
            (1, format!("42[\"message\",{}]", data(5, 60)), "1 deliveries that are shorter"),
        ] {
            let receipts = Receipts::default();
            let mut complete = receipts.expect(Instant::now(), 5, 200, 0..2);
            receipts.received(0, &packet(5));
            receipts.received(connection, &text);
            assert!(complete.try_recv().is_err(), "{problem}");
            assert_eq!((receipts.missing(5), receipts.latencies().len()), (1, 1), "{problem}");
            let said = receipts.check().unwrap_err().to_string();
            assert!(said.starts_with(problem), "{said}");
            receipts.received(1, &packet(5));
            assert!(complete.try_recv().is_ok(), "{problem}");
        }
    }

    #[test]
    fn subscribers_need_not_begin_with_the_first_connection() {
        let receipts = Receipts::default();
        let mut complete = receipts.expect(Instant::now(), 0, 200, 60..200);
        (60..199).for_each(|connection| receipts.received(connection, &packet(0)));
        assert!(complete.try_recv().is_err());
        receipts.received(199, &packet(0));
        assert!(complete.try_recv().is_ok());
        receipts.check().unwrap();
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
