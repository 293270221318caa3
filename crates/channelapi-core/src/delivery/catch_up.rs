//! Serving a connection from history: after it joined with a place to start from, or when it was too slow to be served live.
//!
//! ```text
//!           join with a place                too much waits
//!                  │                               │
//!                  v                               v
//!   ┌─> read a page ──> deliver it ──> wait until the connection has room
//!   │                       │                      │
//!   └───────────────────────┼──────────────────────┘
//!                           v  nothing follows
//!                         live
//! ```
//!
//! Invariants:
//! - A page is delivered as a whole or not at all, and reading goes on behind it only if it was delivered.
//! - A subscription becomes live with the turn behind the last page's, and only if the worker has not passed that turn yet: so
//!   nothing is delivered twice, and nothing is left out.
//! - One page at a time is in memory for one connection, and one read at a time is under way for it.
//! - A checkpoint never promises what is still being read: as long as some of what counts for a connection's place is read, none of its
//!   channels is live.

use super::Form;
use super::encoded::{Checkpoints, FrameEncoder};
use crate::broker::{Loss, Page, Reading, Top};
use crate::model::ChannelName;
use std::sync::{Arc, Weak};

/// A connection that is served from history.
pub(super) struct CatchUp {
    /// What is read, and how far.
    pub(super) readings: Vec<Reading>,
    pub(super) form: Form,
    /// Whether what is read decides where the connection stands. Otherwise that is where its live channels do, and what is read has no
    /// part in it.
    pub(super) counts: bool,
    pub(super) awaits: Awaits,
    /// The readings were changed since the page was asked for that is awaited from disk: it is of no use.
    is_stale: bool,
}

/// What has to happen before the next page is read.
#[derive(Debug)]
pub(super) enum Awaits {
    /// Nothing.
    Nothing,
    /// That nothing waits for the connection any more.
    Room,
    /// That somebody has read a page from disk. It is not read any more if this ticket is gone by then, as when the client has left; and
    /// when the client has come in again, the page for what it was in before has another ticket.
    Disk(Arc<()>),
}

impl CatchUp {
    pub(super) fn new(form: Form) -> Self {
        Self { readings: Vec::new(), form, counts: false, awaits: Awaits::Nothing, is_stale: false }
    }

    /// Reads a channel from somewhere, whether it is read already or not. See [`Reading::is_first`].
    pub(super) fn start(&mut self, channel: &ChannelName, after: u64, is_first: bool) {
        self.is_stale = true;
        self.readings.retain(|reading| reading.channel != *channel);
        self.readings.push(Reading { channel: channel.clone(), after, is_first });
    }

    /// How far a channel is read, if it is.
    pub(super) fn place_in(&self, channel: &ChannelName) -> Option<u64> {
        self.readings.iter().find(|reading| reading.channel == *channel).map(|reading| reading.after)
    }

    /// Reads a channel no more.
    pub(super) fn stop(&mut self, channel: &ChannelName) {
        let count = self.readings.len();
        self.readings.retain(|reading| reading.channel != *channel);
        // A page names channels by their places.
        self.is_stale |= self.readings.len() != count;
    }

    /// A page is to be read from disk. Whoever reads it holds on to the ticket.
    pub(super) fn await_disk(&mut self) -> Weak<()> {
        let ticket = Arc::new(());
        let held = Arc::downgrade(&ticket);
        (self.awaits, self.is_stale) = (Awaits::Disk(ticket), false);
        held
    }

    /// Whether a page is the one that is awaited from disk.
    pub(super) fn expects(&self, held: &Weak<()>) -> bool {
        matches!(&self.awaits, Awaits::Disk(ticket) if held.as_ptr() == Arc::as_ptr(ticket))
    }

    /// The page that was awaited is here, and this says whether it is of use.
    pub(super) fn end_wait(&mut self) -> bool {
        self.awaits = Awaits::Nothing;
        !self.is_stale
    }

    /// What follows up to a turn was delivered, or said to be missing.
    pub(super) fn advance(&mut self, turn: u64, losses: &[Loss]) {
        for loss in losses {
            let reading = &mut self.readings[loss.reading];
            reading.after = reading.after.max(loss.after);
        }
        for reading in &mut self.readings {
            reading.after = reading.after.max(turn);
            reading.is_first = false;
        }
    }
}

/// The turn of a place, 0 if there is none.
pub(super) fn turn_of(top: Option<Top>) -> u64 {
    top.map_or(0, |top| top.turn)
}

/// The later one of two places.
pub(super) fn later(one: Option<Top>, other: Option<Top>) -> Option<Top> {
    if turn_of(one) > turn_of(other) { one } else { other.or(one) }
}

/// Bytes of a frame besides its data, roughly.
const FRAME_BYTES_ABOUT: usize = 128;

/// The frames of a page: what is missing, what there is, and where the client stands then. It stands at `stands` already; what is read
/// moves it on if it counts.
pub(super) fn encode(
    page: &Page,
    catch_up: &CatchUp,
    stands: Option<Top>,
    encoder: &dyn FrameEncoder,
) -> Vec<u8> {
    let about = page.publications.iter().map(|publication| publication.data.len() + FRAME_BYTES_ABOUT);
    let mut frames = Vec::with_capacity(about.sum());
    for loss in &page.losses {
        encoder.gap(&catch_up.readings[loss.reading].channel, loss.gap, catch_up.form, &mut frames);
    }
    let behind = |top: Option<Top>| later(stands, top.filter(|_| catch_up.counts)).map(|top| top.cursor);
    let mut checkpoints = Checkpoints::new(catch_up.form);
    let last = page.publications.len().wrapping_sub(1);
    for (index, publication) in page.publications.iter().enumerate() {
        encoder.publication(publication, catch_up.form.base(), &mut frames);
        let own = publication.kept.map(|kept| Top { turn: kept.turn, cursor: kept.cursor });
        // Behind the last one, the client stands where the page ends.
        let top = if index == last { Some(page.reached) } else { own };
        checkpoints.follow(publication, behind(top), encoder, &mut frames);
    }
    match behind(Some(page.reached)) {
        Some(cursor) if catch_up.counts => checkpoints.finish_at(cursor, encoder, &mut frames),
        _ => checkpoints.finish(encoder, &mut frames),
    }
    // It is nobody else's, and is counted by its length for as long as it waits.
    frames.shrink_to_fit();
    frames
}
