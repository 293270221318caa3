//! The one thread that writes: it takes what waits, stores it as one group, and only then lets anyone know.
//!
//! The order of a group: plan (places in channels, repeats), append, sync, index, deliver, answer. Nothing of a group that could
//! not be stored is visible anywhere. A group without a publication that has to survive a power cut is not synced at once, but
//! before [`StoreSettings::relaxed_sync`] has passed.

pub(super) mod answers;
pub(super) mod command;
mod full_disk;
mod group;
mod notes;
mod outcome;
mod plan;
pub(super) mod repeats;
mod times;

use super::index::Ages;
use super::log::disk::Disk;
use super::log::record::{NUMBER_MAX, Record};
use super::log::{AppendError, Log};
use super::place::CursorKey;
use super::settings::StoreSettings;
use super::stored::{Segment, Stored};
use crate::broker::sink::PublicationSink;
use crate::clock::Clock;
use crate::failpoint;
use crate::limits::{LOG_GROUP_BYTES_MAX, LOG_GROUP_MAX};
use command::{Command, Poke, Waiting};
use group::{Batch, Group, record_bytes_about};
use parking_lot::RwLock;
use repeats::{KeysClock, Repeats};
use std::io;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};
use times::Times;
use tokio::sync::mpsc;

pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) stored: Arc<RwLock<Stored>>,
    pub(super) sink: Arc<dyn PublicationSink>,
    pub(super) clock: Clock,
    pub(super) keys_clock: KeysClock,
    /// Nothing is too old before, by [`Clock::monotonic_millis`].
    pub(super) ages_from: u64,
    pub(super) settings: StoreSettings,
    /// The sequence of the next publication in the log.
    pub(super) next: u64,
    pub(super) repeats: Repeats,
    /// Publishers are told of places with it.
    pub(super) cursors: Arc<CursorKey>,
    /// The times of the last group of this life in the log: [`Times::published_at`], and by the [`KeysClock`].
    pub(super) told: Option<(u64, u64)>,
    /// Since when something waits for being synced.
    pub(super) unsynced: Option<Instant>,
    /// Whether the reserve is whole. Without it the disk was full: nothing is published until it is there again. Upkeep looks at it.
    pub(super) has_reserve: Arc<AtomicBool>,
    /// Whether the disk took nothing the last time, see [`EmbeddedBroker::is_refusing`](super::EmbeddedBroker::is_refusing).
    pub(super) is_refusing: Arc<AtomicBool>,
    /// What the log has been told of why, until the disk takes something again.
    pub(super) told_failure: Option<io::ErrorKind>,
    pub(super) pokes: std_mpsc::SyncSender<Poke>,
}

/// What was appended, and where.
pub(super) struct Appended {
    pub(super) segment: u32,
    pub(super) position: u64,
    pub(super) bytes: Vec<u8>,
}

/// Waits for more as long as more comes each time that others are let run: with more in one group, one sync serves more. Where
/// cores are idle this takes about a microsecond; where they are not, the sync would only compete with whoever brings the next
/// publication.
fn gather(waiting: &mut mpsc::Receiver<Command>, commands: &mut Vec<Command>) {
    let started = Instant::now();
    while commands.len() < LOG_GROUP_MAX && started.elapsed() < GATHERING_TIME {
        std::thread::yield_now();
        let before = commands.len();
        while commands.len() < LOG_GROUP_MAX
            && let Ok(command) = waiting.try_recv()
        {
            commands.push(command);
        }
        if commands.len() == before {
            break;
        }
    }
}

/// As much of what waits as fits into one group, which has about `bytes_max` bytes at most.
fn take_group(
    first: Waiting,
    rest: &mut Peekable<impl ExactSizeIterator<Item = Command>>,
    bytes_max: usize,
) -> Vec<Waiting> {
    let mut together = Vec::with_capacity(1 + rest.len());
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(waiting) = next {
        bytes += waiting.requests.iter().map(record_bytes_about).sum::<usize>();
        together.push(waiting);
        next = if bytes < bytes_max
            && let Some(Command::Publish(waiting)) =
                rest.next_if(|command| matches!(command, Command::Publish(_)))
        {
            Some(waiting)
        } else {
            None
        };
    }
    together
}

/// Milliseconds that the machine's clock may gain or lose between two groups without having been set.
const STEP: u64 = 10_000;

/// How long a group may wait for more; one that comes late is in the next group.
const GATHERING_TIME: Duration = Duration::from_micros(500);

impl Writer {
    /// Stores what comes until nobody can send any more.
    pub(super) fn run(mut self, waiting: mpsc::Receiver<Command>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime without I/O needs nothing").block_on(self.serve(waiting));
    }

    async fn serve(&mut self, mut waiting: mpsc::Receiver<Command>) {
        let mut commands = Vec::with_capacity(LOG_GROUP_MAX);
        let mut was_busy = false;
        loop {
            self.log.write_ahead();
            let receive = waiting.recv_many(&mut commands, LOG_GROUP_MAX);
            if was_busy {
                // Whoever has just been answered may have more.
                std::thread::yield_now();
            }
            // What cannot be synced any more is not waited for either.
            let count = match self.unsynced.filter(|_| !self.log.is_closed()) {
                None => receive.await,
                Some(since) => {
                    let due = tokio::time::Instant::from_std(since + self.settings.relaxed_sync);
                    tokio::time::timeout_at(due, receive).await.unwrap_or(usize::MAX)
                }
            };
            if count == 0 {
                break;
            }
            if was_busy && count != usize::MAX {
                gather(&mut waiting, &mut commands);
            }
            was_busy = commands.len() > 1;
            let mut rest = commands.drain(..).peekable();
            while let Some(command) = rest.next() {
                match command {
                    Command::Publish(first) => self.store(first, &mut rest),
                    Command::Purge(channel, answer) => _ = answer.send(self.purge(&channel)),
                    Command::Anchor { channels, segment, done } => {
                        _ = done.send(self.say(|writer| writer.anchor(&channels, segment)));
                    }
                    Command::Begin { number, done } => {
                        _ = done.send(self.say(|writer| writer.begin_making_room(number)));
                    }
                    Command::Roll { done } => _ = done.send(self.roll_making_room()),
                    Command::Settle(done) => _ = done.send(self.settle()),
                    Command::Tend => self.tend(),
                }
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= self.settings.relaxed_sync) {
                self.settle();
            }
        }
        self.settle();
        // Nothing is written behind the end any more.
        _ = self.log.cut();
    }

    /// Syncs what was not synced at once, and says whether everything is. A failure fences the log, and has said so: from then on nobody
    /// knows what the disk holds.
    fn settle(&mut self) -> bool {
        if self.unsynced.is_some() && self.log.sync().is_ok() {
            self.unsynced = None;
        }
        self.unsynced.is_none() && !self.log.is_closed()
    }

    /// Stores as much of what waits as fits into one group; a batch is never divided.
    fn store(&mut self, first: Waiting, rest: &mut Peekable<impl ExactSizeIterator<Item = Command>>) {
        let segment_bytes = usize::try_from(self.settings.segment_bytes).unwrap_or(usize::MAX);
        let together = take_group(first, rest, LOG_GROUP_BYTES_MAX.min(segment_bytes));
        let mut group = Group::with_capacity(together.len());
        let times = self.times();
        self.repeats.forget_old(times.keys);
        self.find(&mut group, &together);
        for Waiting { requests, asker, permit } in together {
            let first = group.outcomes.len();
            group.outcomes.resize(first + requests.len(), None);
            group.batches.push(Batch { items: requests.len(), asker, permit });
            self.plan(&mut group, first, requests, times.keys);
        }
        group.encode(times);
        let bytes = std::mem::take(&mut group.bytes);
        let appended = match group.logged {
            0 => Ok(None),
            count => self
                .check_sequences(count)
                .and_then(|()| self.mind_the_clock(times))
                .and_then(|()| self.append(bytes, group.must_sync))
                .map(Some),
        };
        match appended {
            Ok(appended) => self.publish(&mut group, appended, times),
            Err(failure) => self.refuse(&mut group, &failure, times),
        }
        failpoint::pass("before-answer");
        group.answer();
    }

    fn times(&self) -> Times {
        let (now, machine) = (self.clock.unix_millis(), self.clock.machine_millis());
        let ages = self.clock.monotonic_millis() >= self.ages_from;
        let ages = if ages { Ages { read: now.min(machine), own: now } } else { Ages::LATER };
        Times { now, ages, ahead: machine.saturating_sub(now), keys: self.keys_clock.now() }
    }

    /// When the machine's clock was set since the last group, or the machine has slept, a preface says that these times are not those
    /// between one publication and the next: a start ages keys by those.
    fn mind_the_clock(&mut self, times: Times) -> Result<(), AppendError> {
        let told = (times.published_at(), times.keys);
        let (before, keys) = self.told.unwrap_or(told);
        if told.0.abs_diff(before + (times.keys - keys)) > STEP {
            self.restore_reserve()?;
            let begins = self.stored.read().begins;
            self.begin(begins).inspect_err(|failure| self.meet_full_disk(failure))?;
            let mut stored = self.stored.write();
            if let Some(segment) = stored.segments.list.get_mut(&self.log.head.number) {
                // Rewritten, it might lose that preface.
                segment.keyed_at = times.keys;
            }
        }
        self.told = Some(told);
        Ok(())
    }

    /// Whether the log has so many sequences left, and one behind them.
    pub(super) fn check_sequences(&self, count: u64) -> Result<(), AppendError> {
        if self.next + count < NUMBER_MAX {
            return Ok(());
        }
        let why = "the log has no sequence left: begin a new data directory";
        Err(AppendError::NotStored(io::Error::other(why)))
    }

    /// Makes records survive: all of what was written so far if `must_sync`, soon otherwise.
    pub(super) fn append(&mut self, bytes: Vec<u8>, must_sync: bool) -> Result<Appended, AppendError> {
        self.restore_reserve()?;
        self.write(bytes, must_sync).inspect_err(|failure| self.meet_full_disk(failure))
    }

    pub(super) fn write(&mut self, mut bytes: Vec<u8>, must_sync: bool) -> Result<Appended, AppendError> {
        if self.log.is_full_for(bytes.len()) {
            self.roll()?;
        }
        let position = self.log.append(&mut bytes)?;
        if must_sync {
            self.log.sync_from(position)?;
            self.unsynced = None;
        } else {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        Ok(Appended { segment: self.log.head.id, position, bytes })
    }

    /// Goes on in a new segment.
    pub(super) fn roll(&mut self) -> Result<(), AppendError> {
        let mut preface = Vec::new();
        {
            let stored = self.stored.read();
            Record::Preface(stored.preface(self.next, stored.begins)).write(&mut preface);
        }
        let sealed = self.log.head.number;
        let rolled = self.log.roll(self.next, &preface);
        let mut stored = self.stored.write();
        if self.log.head.number == sealed {
            let length = self.log.head.length;
            stored.segments.list.entry(sealed).and_modify(|segment| segment.length = length);
            return rolled;
        }
        self.unsynced = None;
        let head = &mut self.log.head;
        let id = stored.segments.identify(head.file.clone());
        head.id = id;
        let segment = Segment { id, length: head.length, overhead: 0, is_damaged: false, keyed_at: 0 };
        stored.segments.list.insert(head.number, segment);
        drop(stored);
        // If upkeep is busy, it will see the segment anyway.
        _ = self.pokes.try_send(Poke::default());
        rolled
    }

    fn tend(&mut self) {
        self.repeats.forget_old(self.keys_clock.now());
        self.try_disk_again();
    }
}
