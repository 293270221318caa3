//! The thread that tidies up: what is too old is given up, also where nobody publishes, segments of which nothing is in use are removed, and
//! those of which little is in use are rewritten.
//!
//! It works by time, whether anybody publishes or not, and in small steps: readers and the writer get their turn in between.
//! Whatever has to be written into the log for it is written by the writer.
//!
//! Invariants:
//! - Before a segment is removed, everything that only it says is written down, durably, further back: where the channels stand
//!   whose newest record it holds, and that the log begins behind it.
//! - A segment with a publication whose idempotency key may still be repeated stays, unless the log is over its limit.
//! - What is written for the sake of tidying up is not tidied up at once: it comes to an end.

mod rewrite;

use super::index::forgetting::Room;
use super::index::usage::TOP_BYTES_ABOUT;
use super::index::{Ages, Index};
use super::log::disk::Disk;
use super::log::disk::is_full;
use super::log::reserve::reserve_bytes;
use super::log::segment::name_of;
use super::settings::StoreSettings;
use super::stored::{Segment, Stored};
use super::writer::command::{Command, Done, Poke, Refusal};
use super::writer::repeats::{self, KeysClock};
use crate::clock::Clock;
use crate::counters::COUNTERS;
use crate::failpoint;
use crate::fence::Fence;
use crate::limits::{IDLE_CHANNELS_MAX, LOG_SWEEP_INTERVAL, REWRITE_LIVE_FRACTION, UPKEEP_CHUNK};
use parking_lot::{RwLock, RwLockWriteGuard};
use rewrite::{Failure, Rewritten, rewrite};
use std::cell::Cell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

pub(super) struct Upkeep {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) stored: Arc<RwLock<Stored>>,
    pub(super) clock: Clock,
    pub(super) keys_clock: KeysClock,
    pub(super) settings: StoreSettings,
    /// Nothing is too old before, by [`Clock::monotonic_millis`].
    pub(super) ages_from: u64,
    /// Does not keep the writer alive.
    pub(super) writer: mpsc::WeakSender<Command>,
    pub(super) is_stopping: Arc<AtomicBool>,
    /// See [`Writer::has_reserve`](super::writer::Writer::has_reserve).
    pub(super) has_reserve: Arc<AtomicBool>,
    /// See [`Log::is_displaced`](super::log::Log::is_displaced).
    pub(super) is_displaced: Arc<AtomicBool>,
    pub(super) fence: Fence,
    /// Whether the index took all that it may, the last time.
    pub(super) was_full: Cell<bool>,
}

/// What could not be rewritten this time.
struct Failed {
    segments: HashSet<u64>,
    /// The disk has no room for so many bytes.
    room: u64,
}

impl Failed {
    fn add(&mut self, number: u64, bytes: Option<u64>) {
        self.segments.insert(number);
        self.room = self.room.min(bytes.unwrap_or(u64::MAX));
    }
}

/// So many segments may fail before the rest is left for later: it is not for them then.
const FAILURES_MAX: usize = 16;

/// Milliseconds after a start in which nothing is given up for being too old, neither here nor by what is published: while a machine starts,
/// somebody may set its clock.
pub(super) const AGELESS: u64 = if cfg!(test) { 100 } else { 10_000 };

/// So many publications are given up before others get the lock.
const GIVEN_UP_AT_ONCE: usize = if cfg!(test) { 10 } else { 4_096 };

impl Upkeep {
    /// Tidies up from time to time, until the writer has ended.
    pub(super) fn run(self, pokes: &std_mpsc::Receiver<Poke>) {
        loop {
            let poke = match pokes.recv_timeout(LOG_SWEEP_INTERVAL) {
                Ok(poke) => poke,
                Err(std_mpsc::RecvTimeoutError::Timeout) => Poke::default(),
                Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
            };
            self.tidy();
            if let Some(done) = poke.done {
                _ = done.send(());
            }
        }
    }

    fn tidy(&self) {
        let is_displaced = self.look_where_it_is();
        if self.clock.monotonic_millis() >= self.ages_from {
            let ages = Ages { read: self.clock.cautious_millis(), own: self.clock.unix_millis() };
            self.give_up(|index, ids| index.trim_old(ids, ages, GIVEN_UP_AT_ONCE));
        }
        let (most, bytes) = (self.settings.index_bytes_max, self.stored.read().index.bytes());
        let is_full = bytes > most;
        if is_full && !self.was_full.get() {
            warn!(
                limit = most,
                "what is known of channels takes all of the memory that it may: publications to new ones are refused"
            );
        }
        self.was_full.set(is_full);
        // Those of which nothing is kept would keep others out.
        self.forget_idle(Room { taken: bytes, most });
        self.tend();
        if is_displaced {
            return;
        }
        self.take_all_back();
        // It takes what is left of the room that is set aside, so it is the last thing to try.
        if self.leave_dead_head() {
            self.take_all_back();
        }
    }

    /// Finds out whether what is written is not where a start will look for it.
    fn look_where_it_is(&self) -> bool {
        let newest = {
            let stored = self.stored.read();
            let newest = stored.segments.list.last_key_value();
            newest.and_then(|(number, segment)| Some((*number, stored.segments.file(segment.id)?.clone())))
        };
        let Some((newest, file)) = newest else { return false };
        let is_displaced = !self.disk.is_there(&name_of(newest), &*file);
        if self.is_displaced.swap(is_displaced, Ordering::Relaxed) == is_displaced {
            return is_displaced;
        }
        if is_displaced {
            error!(
                segment = name_of(newest),
                "the newest segment of the log is not in its place: somebody has moved, deleted or replaced the data directory; what is published is refused until it is back; with another one in its place, start the server again"
            );
        } else {
            info!("the data directory is back");
        }
        is_displaced
    }

    fn take_all_back(&self) {
        // Not what is written meanwhile for the sake of tidying up: that could go on for ever.
        let newest = self.stored.read().segments.list.keys().next_back().copied().unwrap_or_default();
        let mut failed = Failed { segments: HashSet::new(), room: u64::MAX };
        while !self.is_stopping() && self.take_back(newest, &mut failed) {}
    }

    fn tend(&self) {
        if let Some(writer) = self.writer.upgrade() {
            _ = writer.blocking_send(Command::Tend);
        }
    }

    /// Where the disk is full and most of the segment that grows is dead, the log goes on in another one: only the ones before give space back.
    fn leave_dead_head(&self) -> bool {
        if self.has_reserve.load(Ordering::Relaxed) {
            return false;
        }
        let is_dead = {
            let stored = self.stored.read();
            let head = stored.segments.list.last_key_value();
            head.is_some_and(|(_, head)| dead_bytes(&stored, head).is_some())
        };
        let is_left = is_dead && self.ask(|done| Command::Roll { done }).is_ok();
        if is_left {
            debug!("what grows is mostly dead, and the disk is full: the log goes on in another segment");
        }
        is_left
    }

    /// There is more room: on a disk that was full, some of it is set aside before others take it.
    fn set_aside(&self) {
        if !self.has_reserve.load(Ordering::Relaxed) {
            self.tend();
        }
    }

    /// Gives up publications until `act` leaves no channel that may have more. Of a whole segment, or behind a start after a long time, that
    /// is a lot.
    fn give_up(&self, act: impl Fn(&mut Index, &mut Range<u32>)) {
        let end = self.stored.read().index.ids();
        for mut ids in chunks(end) {
            while !ids.is_empty() && !self.is_stopping() {
                let mut stored = self.stored.write();
                act(&mut stored.index, &mut ids);
                // Whoever waits comes before the next step.
                RwLockWriteGuard::unlock_fair(stored);
            }
        }
    }

    /// Forgets channels of which nothing is kept, as far as others need the room.
    fn forget_idle(&self, room: Room) {
        let (channels, end) = {
            let stored = self.stored.read();
            (stored.index.size().0, stored.index.ids())
        };
        if room.excess() == 0 && channels <= IDLE_CHANNELS_MAX {
            return;
        }
        let mut idle = Vec::new();
        for ids in chunks(end) {
            idle.extend(self.stored.read().index.idle(ids));
        }
        let Some(mut too_idle) = room.too_idle(idle) else { return };
        for ids in chunks(end) {
            self.stored.write().index.forget_idle(ids, &mut too_idle);
        }
    }

    /// Gives back the space of one segment up to `newest`. Returns whether there may be more to do. Those that could not be rewritten are
    /// passed over, so that the others are.
    fn take_back(&self, newest: u64, failed: &mut Failed) -> bool {
        let now = self.keys_clock.now();
        let (oldest, is_too_much, rewritable) = {
            let stored = self.stored.read();
            let Some((oldest, segment)) = stored.segments.list.first_key_value() else {
                return false;
            };
            if stored.segments.list.len() < 2 || *oldest > newest {
                return false;
            }
            let is_too_much = stored.segments.bytes() > self.settings.disk_bytes_max;
            ((*oldest, segment.clone()), is_too_much, most_dead(&stored, newest, now, failed))
        };
        let (number, segment) = oldest;
        if is_too_much {
            warn!(
                segment = name_of(number),
                limit = self.settings.disk_bytes_max,
                "the log is over its limit: the oldest segment is given up with everything in it"
            );
            let live = self.stored.read().index.usage(segment.id).live;
            COUNTERS.given_up.add(u64::from(live));
            self.give_up(|index, ids| index.give_up(ids, segment.id, GIVEN_UP_AT_ONCE));
        }
        let is_unused = self.stored.read().index.usage(segment.id).live == 0;
        if is_unused && (is_too_much || is_done(&segment, now)) {
            return self.remove(number, &segment);
        }
        let Some((number, segment)) = rewritable else {
            return false;
        };
        let may_go_on = |failed: &Failed| !self.fence.is_closed() && failed.segments.len() < FAILURES_MAX;
        let settle = || self.begin(None);
        match rewrite(&*self.disk, &self.stored, number, &segment, &self.is_stopping, settle) {
            Ok(Rewritten::Done { before, after }) => {
                debug!(segment = name_of(number), before, after, "rewrote a segment");
                self.set_aside();
                true
            }
            Ok(Rewritten::Damaged) => {
                warn!(
                    segment = name_of(number),
                    "a segment is damaged and is left as it is until its time has come"
                );
                let mut stored = self.stored.write();
                stored.segments.list.entry(number).and_modify(|segment| segment.is_damaged = true);
                true
            }
            Ok(Rewritten::Stopped) => false,
            Ok(Rewritten::Unsettled { refusal, bytes }) => {
                failed.add(number, Some(bytes));
                refusal == Refusal::Full && may_go_on(failed)
            }
            Err(Failure { error, bytes }) => {
                warn!(%error, segment = name_of(number), "a segment could not be rewritten");
                // There may be room for one of which less is in use, and then there is more.
                failed.add(number, bytes.filter(|_| is_full(&error)));
                error.kind() != ErrorKind::ReadOnlyFilesystem && may_go_on(failed)
            }
        }
    }

    /// Removes the oldest segment, of which nothing is in use.
    fn remove(&self, number: u64, segment: &Segment) -> bool {
        let next = {
            let stored = self.stored.read();
            stored.segments.list.range(number + 1..).next().map(|(number, _)| *number)
        };
        let Some(next) = next else {
            return false;
        };
        if !self.free_anchors(segment) || self.begin(Some(next)).is_err() {
            return false;
        }
        failpoint::pass("before-remove");
        let mut stored = self.stored.write();
        if stored.index.usage(segment.id) != super::index::Usage::default() {
            return false;
        }
        stored.segments.list.remove(&number);
        stored.segments.close(segment.id);
        drop(stored);
        if let Err(error) = self.disk.remove(&name_of(number)) {
            warn!(%error, segment = name_of(number), "an old segment could not be removed; the next start will do it");
        }
        self.set_aside();
        true
    }

    /// Has it written down where the channels stand whose newest record is in a segment, and of which nothing is kept. Where the disk is
    /// full and there is no room for that, they are forgotten: whoever comes back to them is told so.
    fn free_anchors(&self, segment: &Segment) -> bool {
        let end = self.stored.read().index.ids();
        let (mut idle, mut bytes) = (Vec::new(), 0);
        for ids in chunks(end) {
            let stored = self.stored.read();
            for id in ids {
                let known = stored.index.get(id);
                let anchored = known.filter(|known| known.anchor == segment.id && known.entries.is_empty());
                if let Some(known) = anchored {
                    bytes += TOP_BYTES_ABOUT + known.name.as_str().len() as u64;
                    idle.push(id);
                }
            }
        }
        // The other half is for what is written behind them.
        let room = reserve_bytes(self.settings.segment_bytes) / 2;
        loop {
            let had_reserve = self.has_reserve.load(Ordering::Relaxed);
            let written = if had_reserve || bytes <= room {
                idle.chunks(UPKEEP_CHUNK as usize).try_for_each(|channels| {
                    let channels = channels.to_vec();
                    self.ask(|done| Command::Anchor { channels, segment: segment.id, done })
                })
            } else {
                Err(Refusal::Full)
            };
            match written {
                Ok(()) => return true,
                // It was given up for this.
                Err(Refusal::Full) if had_reserve && !self.has_reserve.load(Ordering::Relaxed) => {}
                Err(Refusal::Full) if !had_reserve => break,
                Err(_) => return false,
            }
        }
        warn!(
            channels = idle.len(),
            "the disk is full: where channels stand of which nothing is kept is forgotten, so that there is room again"
        );
        self.in_chunks(|stored, ids| stored.index.forget_anchored(ids, segment.id));
        true
    }

    /// Has it written down with which segment the log begins: as it is, or with another one.
    fn begin(&self, number: Option<u64>) -> Result<(), Refusal> {
        let number = number.unwrap_or_else(|| self.stored.read().begins);
        self.ask(|done| Command::Begin { number, done })
    }

    fn ask(&self, command: impl FnOnce(Done) -> Command) -> Result<(), Refusal> {
        let (done, is_done) = oneshot::channel();
        let writer = self.writer.upgrade().ok_or(Refusal::Other)?;
        writer.blocking_send(command(done)).map_err(|_| Refusal::Other)?;
        is_done.blocking_recv().unwrap_or(Err(Refusal::Other))
    }

    fn in_chunks(&self, act: impl Fn(&mut Stored, Range<u32>)) {
        let end = self.stored.read().index.ids();
        for ids in chunks(end) {
            act(&mut self.stored.write(), ids);
        }
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

fn chunks(end: u32) -> impl Iterator<Item = Range<u32>> {
    let chunk = UPKEEP_CHUNK;
    (0..end.div_ceil(chunk)).map(move |place| place * chunk..(place * chunk).saturating_add(chunk).min(end))
}

/// Whether no publication in a segment may be repeated any more.
fn is_done(segment: &Segment, now: u64) -> bool {
    segment.keyed_at == 0 || !repeats::is_fresh(segment.keyed_at, now)
}

/// The sealed segment that gives back most if it is rewritten, if it is worth the while. Its size afterwards is not known exactly:
/// what is anchored in it stays.
fn most_dead(stored: &Stored, newest: u64, now: u64, failed: &Failed) -> Option<(u64, Segment)> {
    let head = *stored.segments.list.keys().next_back()?;
    let worth = |segment: &Segment| {
        // What is left of an empty one is not rewritten again and again.
        let fits = stored.index.usage(segment.id).staying_bytes() < failed.room;
        let may_be = fits && !segment.is_damaged && is_done(segment, now);
        dead_bytes(stored, segment).filter(|_| may_be)
    };
    let sealed = stored.segments.list.range(..head.min(newest + 1));
    let sealed = sealed.filter(|(number, _)| !failed.segments.contains(number));
    let worth = sealed.filter_map(|(number, segment)| Some((worth(segment)?, *number, segment)));
    worth
        .max_by_key(|(dead, number, _)| (*dead, *number))
        .map(|(_, number, segment)| (number, segment.clone()))
}

/// The bytes of a segment that nothing uses, if they are most of it, and many. With less, what is written for the sake of tidying up would be
/// what fills the log.
fn dead_bytes(stored: &Stored, segment: &Segment) -> Option<u64> {
    // One with the log's lives stays in it, and another one is written before.
    let dead_min = rewrite::DEAD_BYTES_MIN + 3 * stored.preface_bytes();
    let live = stored.index.usage(segment.id).staying_bytes();
    let length = segment.length.saturating_sub(segment.overhead);
    let dead = length.saturating_sub(live);
    (live.saturating_mul(REWRITE_LIVE_FRACTION) < length && dead >= dead_min).then_some(dead)
}
