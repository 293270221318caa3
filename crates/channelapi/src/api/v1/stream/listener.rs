//! The queue before one event stream.
//!
//! Invariants:
//! - `deliver` never waits. What is queued is sent in order; beyond the limit nothing is taken, and the fan-out is told.
//! - The fan-out is told that the queue is empty only when the network wants more, and what it gets at a time is small: so what waits
//!   below us, where it is not counted, stays small, too.
//! - What is queued counts for what waits for all clients together.

use super::super::super::sse;
use crate::metrics::{self, Disconnected};
use crate::spread::{Guest, about};
use crate::waiting::{Owner, Reader, Slowest, WaitingBytes, is_full_with};
use bytes::Bytes;
use channelapi_core::delivery::{Delivery, End, Subscriber};
use channelapi_core::hub::Revocations;
use channelapi_core::limits::{OUTBOX_ENTRY_BYTES, STREAM_PIECE_BYTES, STREAM_RETRY};
use channelapi_core::model::{Bearer, ChannelName, ConnectionId};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::task::{Context, Waker};

/// One event stream, as the fan-out sees it.
pub(super) struct Listener {
    id: ConnectionId,
    owner: Owner,
    /// Who opened it with a JWT, and for which channel.
    bearer: Option<(Bearer, ChannelName)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    /// The bytes of the queue, and [`OUTBOX_ENTRY_BYTES`] for each entry.
    cost: WaitingBytes,
    has_ended: bool,
    /// Whether the fan-out wants to know when nothing waits any more.
    tells_when_drained: bool,
    /// Whoever sends, while it sleeps.
    sender: Option<Waker>,
}

/// What there is to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Frames(Bytes),
    /// Nothing, and the fan-out wants to know.
    Drained,
    Nothing,
    /// Nothing any more.
    End,
}

impl Listener {
    pub(super) fn new(id: ConnectionId, owner: Owner, bearer: Option<(Bearer, ChannelName)>) -> Self {
        Self { id, owner, bearer, state: Mutex::default() }
    }

    /// Ends it if its JWT is revoked, or its channel for that.
    pub(super) fn end_if_revoked(&self, revocations: &Revocations) {
        if self.bearer.as_ref().is_some_and(|(bearer, channel)| revocations.cover(bearer, [channel])) {
            self.end(End::Revoked);
        }
    }

    /// What is to be sent next, in pieces. If there is nothing, whoever asks is woken when there is.
    pub(super) fn next(&self, cx: &Context<'_>) -> Next {
        let mut state = self.state.lock();
        if let Some(frames) = state.queue.front_mut().filter(|frames| frames.len() > STREAM_PIECE_BYTES) {
            let piece = frames.split_to(STREAM_PIECE_BYTES);
            state.cost -= piece.len();
            return Next::Frames(piece);
        }
        if let Some(frames) = state.queue.pop_front() {
            state.cost -= frames.len() + OUTBOX_ENTRY_BYTES;
            return Next::Frames(frames);
        }
        if state.has_ended {
            return Next::End;
        }
        state.sender = Some(cx.waker().clone());
        if std::mem::take(&mut state.tells_when_drained) { Next::Drained } else { Next::Nothing }
    }

    /// Nothing is added any more; what waits is sent. Counts why, as only the first reason does.
    pub(super) fn finish(&self, reason: Disconnected) {
        if self.state.lock().finish() {
            reason.count();
        }
    }

    /// The client has gone, or everything was sent. What still waits is nobody's.
    pub(super) fn left(&self) {
        let mut state = self.state.lock();
        state.give_up();
        state.finish();
    }

    /// Nothing is added any more, and what waits is given up: whoever comes back goes on behind what was sent. Counts why, and says whether
    /// it was the first reason.
    fn give_up(&self, reason: Disconnected) -> bool {
        let mut state = self.state.lock();
        state.give_up();
        // Under the same lock: something that was added in between would stand behind a hole.
        let is_first = state.finish();
        if is_first {
            reason.count();
        }
        is_first
    }
}

impl State {
    fn push(&mut self, frames: Bytes) {
        self.cost += frames.len() + OUTBOX_ENTRY_BYTES;
        self.queue.push_back(frames);
        self.wake();
    }

    fn give_up(&mut self) {
        self.queue = VecDeque::new();
        self.cost = WaitingBytes::default();
    }

    /// Says whether it had not ended before.
    fn finish(&mut self) -> bool {
        self.wake();
        !std::mem::replace(&mut self.has_ended, true)
    }

    fn wake(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }
}

impl Subscriber for Listener {
    fn id(&self) -> ConnectionId {
        self.id
    }

    fn deliver(&self, frames: &Bytes, bytes_max: usize) -> Delivery {
        let mut state = self.state.lock();
        if state.has_ended || frames.is_empty() {
            return Delivery::Taken;
        }
        let cost = frames.len() + OUTBOX_ENTRY_BYTES;
        if !state.queue.is_empty() && (state.cost.count() + cost > bytes_max || is_full_with(cost)) {
            return Delivery::Full;
        }
        state.push(frames.clone());
        Delivery::Taken
    }

    fn is_drained(&self) -> bool {
        let mut state = self.state.lock();
        state.tells_when_drained = !state.queue.is_empty();
        !state.tells_when_drained
    }

    fn is_open(&self) -> bool {
        !self.state.lock().has_ended
    }

    fn end(&self, reason: End) {
        match reason {
            End::Revoked => {
                if self.give_up(Disconnected::Revoked) {
                    metrics::PUT_OUT.count();
                }
            }
            End::Slow => self.finish(Disconnected::Slow),
        }
    }
}

impl Guest for Listener {
    /// What waits is sent, and when to come back, which is another time for each.
    fn send_away(&self) {
        let mut state = self.state.lock();
        if state.has_ended {
            return;
        }
        state.push(sse::retry(about(STREAM_RETRY)).into());
        state.finish();
        Disconnected::Drain.count();
    }
}

impl Reader for Listener {
    fn owner(&self) -> Owner {
        self.owner
    }

    fn waiting_bytes(&self) -> usize {
        self.state.lock().cost.count()
    }

    fn put_out(&self, reason: Slowest) {
        self.give_up(match reason {
            Slowest::Node => Disconnected::SlowNode,
            Slowest::Memory => Disconnected::Memory,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Listener {
        Listener::new(ConnectionId(1), Owner::NOBODY, None)
    }

    fn next(listener: &Listener) -> Next {
        listener.next(&Context::from_waker(Waker::noop()))
    }

    fn frames(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    #[test]
    fn what_is_queued_is_sent_in_order_before_the_end() {
        let listener = listener();
        for text in ["a", "b"] {
            assert_eq!(listener.deliver(&text.into(), 1000), Delivery::Taken);
        }
        listener.finish(Disconnected::Drain);
        assert_eq!(listener.deliver(&"c".into(), 1000), Delivery::Taken);
        assert_eq!([next(&listener), next(&listener)], [Next::Frames("a".into()), Next::Frames("b".into())]);
        assert_eq!(next(&listener), Next::End);
        assert!(!listener.is_open());
    }

    #[test]
    fn a_full_queue_takes_nothing_and_tells_when_it_is_empty() {
        let listener = listener();
        assert_eq!(
            listener.deliver(&frames(2000), 1000),
            Delivery::Taken,
            "a single large one has to go somewhere"
        );
        assert_eq!(listener.deliver(&frames(1), 1000), Delivery::Full);
        assert!(!listener.is_drained());
        assert_eq!(listener.waiting_bytes(), 2000 + OUTBOX_ENTRY_BYTES);
        assert_eq!(next(&listener), Next::Frames(frames(2000)));
        assert_eq!(listener.waiting_bytes(), 0);
        assert_eq!([next(&listener), next(&listener)], [Next::Drained, Next::Nothing]);
        assert!(listener.is_drained());
        assert_eq!(listener.deliver(&frames(1), 1000), Delivery::Taken);
    }

    #[test]
    fn a_large_one_goes_in_pieces_and_counts_until_it_has_gone() {
        let listener = listener();
        let large = frames(2 * STREAM_PIECE_BYTES + 1);
        assert_eq!(listener.deliver(&large, 1000), Delivery::Taken);
        let left = [STREAM_PIECE_BYTES + 1 + OUTBOX_ENTRY_BYTES, 1 + OUTBOX_ENTRY_BYTES, 0];
        for (left, piece) in left.into_iter().zip(large.chunks(STREAM_PIECE_BYTES)) {
            assert_eq!(next(&listener), Next::Frames(Bytes::copy_from_slice(piece)));
            assert_eq!(listener.waiting_bytes(), left);
        }
        assert_eq!(next(&listener), Next::Nothing);
    }

    #[test]
    fn one_of_the_slowest_is_put_out_with_all_that_waits_for_it() {
        let listener = listener();
        listener.deliver(&frames(1000), 1000);
        listener.put_out(Slowest::Memory);
        assert_eq!((listener.waiting_bytes(), next(&listener)), (0, Next::End));
    }

    #[test]
    fn who_is_sent_away_is_told_when_to_come_back_behind_everything_else() {
        let listener = listener();
        listener.deliver(&"a".into(), 1000);
        listener.send_away();
        listener.send_away();
        assert_eq!(next(&listener), Next::Frames("a".into()));
        let Next::Frames(last) = next(&listener) else { panic!("nothing behind it") };
        assert!(last.starts_with(b"retry: ") && last.ends_with(b"\n\n"), "{last:?}");
        assert_eq!((next(&listener), listener.waiting_bytes()), (Next::End, 0));
    }

    #[test]
    fn a_revoked_one_sends_nothing_more() {
        let listener = listener();
        listener.deliver(&frames(1), 1000);
        listener.end(End::Revoked);
        assert_eq!(next(&listener), Next::End);
    }
}
