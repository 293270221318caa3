//! The one thread that writes: it takes what waits, stores it as one group, and only then lets anyone know.
//!
//! The order of a group: plan (places in channels, repeats), append, sync, index, deliver, answer. Nothing of a group that could
//! not be stored is visible anywhere. A group without a publication that has to survive a power cut is not synced at once, but
//! before [`StoreSettings::relaxed_sync`] has passed.

use super::answers::Asker;
use super::disk::{Disk, LogFile};
use super::group::{Batch, Group, Planned, Ticket};
use super::held::HeldPublication;
use super::index::{Arrival, Entry, MEMORY, Reset};
use super::log::{AppendError, Fence, Log};
use super::record::{Purge, Record, StoredTop};
use super::repeats::{KeysClock, Repeats};
use super::segment::RESERVE;
use super::stored::{Segment, Stored};
use super::upkeep::Poke;
use super::{PublishError, PublishRequest, Published, StoreSettings};
use crate::broker::{Gap, PublicationSink};
use crate::clock::Clock;
use crate::failpoint;
use crate::limits::{LOG_GROUP_BYTES_MAX, LOG_GROUP_MAX, LOG_RESERVE_BYTES};
use crate::model::{ChannelName, Cursor, Durability, Kept, Position, Publication};
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::io;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// What came of each publication of a batch, in its order.
pub(super) type Results = Vec<Result<Published, PublishError>>;

/// What the writer can be asked for.
pub(super) enum Command {
    /// To store a batch.
    Publish(Waiting),
    /// To give up a channel's history; answered with how many publications that were.
    Purge(ChannelName, oneshot::Sender<Result<usize, PublishError>>),
    /// To write down where channels stand of which nothing is kept, because the segment is to go that says so.
    Anchor { channels: Vec<u32>, segment: u32, done: oneshot::Sender<bool> },
    /// To write down that the log begins with another segment.
    Begin { number: u64, done: oneshot::Sender<bool> },
    /// To look after what only the writer has.
    Tend,
}

/// Publications that wait to be stored, next to each other.
pub(super) struct Waiting {
    pub(super) requests: Vec<PublishRequest>,
    pub(super) asker: Asker,
}

pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) stored: Arc<RwLock<Stored>>,
    pub(super) sink: Arc<dyn PublicationSink>,
    pub(super) clock: Clock,
    pub(super) keys_clock: KeysClock,
    pub(super) settings: StoreSettings,
    /// The sequence of the next publication in the log.
    pub(super) next: u64,
    pub(super) repeats: Repeats,
    /// Since when something waits for being synced.
    pub(super) unsynced: Option<Instant>,
    /// Whether the reserve is there. Without it the disk was full: nothing is published until it is there again.
    pub(super) has_reserve: bool,
    pub(super) pokes: std_mpsc::SyncSender<Poke>,
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

/// How long a group may wait for more; one that comes late is in the next group.
const GATHERING_TIME: Duration = Duration::from_micros(500);

/// A publication that is stored, on its way out.
type Stocked = (Ticket, Publication, Published);

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
            let count = match self.unsynced {
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
                    Command::Begin { number, done } => _ = done.send(self.say(|writer| writer.begin(number))),
                    Command::Tend => self.tend(),
                }
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= self.settings.relaxed_sync) {
                self.sync_relaxed();
            }
        }
        self.sync_relaxed();
        // Nothing is written behind the end any more.
        _ = self.log.cut();
    }

    fn sync_relaxed(&mut self) {
        if self.unsynced.take().is_some() {
            // A failure fences the log, and has said so.
            _ = self.log.sync();
        }
    }

    /// Stores as much of what waits as fits into one group; a batch is never divided.
    fn store(&mut self, first: Waiting, rest: &mut Peekable<impl ExactSizeIterator<Item = Command>>) {
        let mut group = Group::with_capacity(1 + rest.len());
        let now = self.clock.unix_millis();
        let keys_now = self.keys_clock.now();
        self.repeats.forget_old(keys_now);
        let mut next = Some(first);
        while let Some(Waiting { requests, asker }) = next {
            let batch = group.batches.len();
            group.batches.push(Batch { results: vec![None; requests.len()], asker });
            self.plan(&mut group, batch, requests, keys_now);
            next = if group.bytes_about < LOG_GROUP_BYTES_MAX
                && let Some(Command::Publish(waiting)) =
                    rest.next_if(|command| matches!(command, Command::Publish(_)))
            {
                Some(waiting)
            } else {
                None
            };
        }
        group.encode(now);
        let bytes = std::mem::take(&mut group.bytes);
        let appended =
            if group.logged == 0 { Ok(None) } else { self.append(bytes, group.must_sync).map(Some) };
        match appended {
            Ok(appended) => self.publish(&mut group, appended, now, keys_now),
            Err(failure) => self.refuse(&mut group, &failure, now, keys_now),
        }
        failpoint::pass("before-answer");
        group.answer();
    }

    /// Makes records survive: all of what was written so far if `must_sync`, soon otherwise.
    fn append(&mut self, bytes: Vec<u8>, must_sync: bool) -> Result<Appended, AppendError> {
        self.restore_reserve()?;
        self.write(bytes, must_sync).inspect_err(|failure| self.meet_full_disk(failure))
    }

    fn write(&mut self, mut bytes: Vec<u8>, must_sync: bool) -> Result<Appended, AppendError> {
        if self.log.is_full() {
            self.roll()?;
        }
        let position = self.log.append(&mut bytes)?;
        if must_sync {
            self.unsynced = None;
            self.log.sync_from(position)?;
        } else {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        Ok(Appended { segment: self.log.head.id, position, bytes })
    }

    /// Goes on in a new segment.
    fn roll(&mut self) -> Result<(), AppendError> {
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
        let segment = Segment { id, length: head.length, is_damaged: false, keyed_at: 0 };
        stored.segments.list.insert(head.number, segment);
        drop(stored);
        // If upkeep is busy, it will see the segment anyway.
        _ = self.pokes.try_send(Poke::default());
        rolled
    }

    /// A group is as durable as it was to be: now it is indexed, delivered and answered, in this order.
    fn publish(&mut self, group: &mut Group, appended: Option<Appended>, now: u64, keys_now: u64) {
        failpoint::pass("before-index");
        self.next += group.logged;
        let planned = std::mem::take(&mut group.planned);
        let mut stocked = Vec::with_capacity(planned.len());
        {
            let stored = self.stored.clone();
            let mut stored = stored.write();
            let is_keyed =
                planned.iter().any(|planned| planned.span.is_some() && planned.idempotency.is_some());
            let place = appended.as_ref().map(|appended| (appended.segment, appended.position));
            for planned in planned {
                stocked.push(self.keep(&mut stored, planned, place, (now, keys_now)));
            }
            if let Some(Appended { segment, position, bytes }) = appended {
                let head = &self.log.head;
                if let Some(known) = stored.segments.list.get_mut(&head.number) {
                    known.length = head.length;
                    known.keyed_at = if is_keyed { keys_now } else { known.keyed_at };
                }
                stored.hot.push(segment, position, bytes);
            }
        }
        failpoint::pass("before-deliver");
        let mut answers = Vec::with_capacity(if group.repeats.is_empty() { 0 } else { stocked.len() });
        for (ticket, publication, answer) in stocked {
            self.sink.deliver(publication);
            group.settle(ticket, Ok(answer));
            if !group.repeats.is_empty() {
                answers.push(answer);
            }
        }
        for (ticket, twin) in std::mem::take(&mut group.repeats) {
            group.settle(ticket, Ok(Published { is_duplicate: true, ..answers[twin] }));
        }
    }

    /// Puts a publication into the index.
    fn keep(
        &mut self,
        stored: &mut Stored,
        planned: Planned,
        place: Option<(u32, u64)>,
        (now, keys_now): (u64, u64),
    ) -> Stocked {
        let Planned {
            ticket, channel, event, data, expires_at, idempotency, standing, sequence, tag, ..
        } = planned;
        let (mut segment, mut position, mut length) = (MEMORY, 0, data.len());
        let mut logged = None;
        if let (Some((start, bytes)), Some((id, at))) = (planned.span, place) {
            stored.index.advance(sequence);
            segment = id;
            position = u32::try_from(at).expect("segments are smaller than 4 GiB") + start;
            length = bytes as usize;
            logged = Some(sequence);
        } else {
            stored.in_memory += 1;
        }
        let top = stored.top();
        let length = u32::try_from(length).expect("data is limited");
        let entry = Entry { turn: top.turn, published_at: now, tag, segment, position, length };
        let held = (segment == MEMORY).then(|| HeldPublication {
            channel: channel.clone(),
            event: event.clone(),
            data: Bytes::copy_from_slice(&data),
            sequence: top.cursor.sequence,
        });
        let id = stored.index.intern_again(planned.id, &channel);
        let arrival = Arrival { standing, sequence: logged, since: None, expires_at, entry };
        stored.index.insert(id, &arrival, held);
        let position = Position { epoch: standing.epoch, offset: standing.offset, tag };
        let durability = planned.durability;
        let published = Published { position, cursor: top.cursor, durability, is_duplicate: false };
        if let Some((key, fingerprint)) = idempotency {
            self.repeats.remember(key, fingerprint, keys_now, published);
        }
        let kept = Some(Kept { position, turn: top.turn, cursor: top.cursor });
        (ticket, Publication { channel, event, data, published_at: now, kept }, published)
    }

    /// What should have gone into the log is not stored. What is kept in memory only needs no disk.
    fn refuse(&mut self, group: &mut Group, failure: &AppendError, now: u64, keys_now: u64) {
        let error = refusal(failure);
        error!(error = %failure, publications = group.logged, "publications could not be stored");
        let repeats = std::mem::take(&mut group.repeats);
        let (mut kept, mut places) = (Vec::new(), HashMap::new());
        for (index, planned) in std::mem::take(&mut group.planned).into_iter().enumerate() {
            if planned.span.is_some() {
                group.settle(planned.ticket, Err(error.clone()));
            } else {
                places.insert(index, kept.len());
                kept.push(planned);
            }
        }
        for (ticket, twin) in repeats {
            match places.get(&twin) {
                Some(place) => group.repeats.push((ticket, *place)),
                None => group.settle(ticket, Err(error.clone())),
            }
        }
        group.logged = 0;
        group.planned = kept;
        self.publish(group, None, now, keys_now);
    }

    /// Gives up a channel's history; the next publication begins a new one.
    fn purge(&mut self, channel: &ChannelName) -> Result<usize, PublishError> {
        let is_in_memory = {
            let stored = self.stored.read();
            if stored.index.channel(channel).is_none() {
                return Ok(0);
            }
            stored.index.durability(channel).0 == Durability::Memory
        };
        let (epoch, sequence) = (random(), self.next);
        let mut bytes = Vec::new();
        Record::Purge(Purge { sequence, epoch, channel: channel.as_str() }).write(&mut bytes);
        let appended = if is_in_memory {
            None
        } else {
            let appended = self.append(bytes, true);
            Some(appended.map_err(|failure| {
                warn!(error = %failure, "a purge could not be stored");
                refusal(&failure)
            })?)
        };
        let mut stored = self.stored.write();
        let segment = appended.as_ref().map_or(MEMORY, |appended| appended.segment);
        if let Some(appended) = appended {
            self.next += 1;
            stored.index.advance(sequence);
            self.lengthen(&mut stored);
            stored.hot.push(appended.segment, appended.position, appended.bytes);
        } else {
            stored.in_memory += 1;
        }
        let turn = stored.top().turn;
        let id = stored.index.intern(channel);
        let last = if is_in_memory { stored.index.get(id).map_or(0, |known| known.last) } else { sequence };
        let reset = Reset { complete_since: turn + 1, last, ..Reset::purge(epoch, sequence, segment) };
        Ok(stored.index.reset(id, &reset))
    }

    /// Writes down where channels stand of which nothing is kept.
    fn anchor(&mut self, channels: &[u32], segment: u32) -> Result<(), AppendError> {
        let (mut bytes, mut anchored) = (Vec::new(), Vec::new());
        {
            let stored = self.stored.read();
            for id in channels {
                let Some(known) = stored.index.get(*id) else {
                    continue;
                };
                if known.anchor != segment || !known.entries.is_empty() {
                    continue;
                }
                let mut top = StoredTop {
                    epoch: known.epoch,
                    next_offset: known.next_offset,
                    last: known.last,
                    tag: known.tag,
                    loss: known.loss,
                    channel: known.name.as_str(),
                };
                if known.is_in_doubt {
                    // What is in doubt stays so under a name of its own, when the damage that tells of it is gone.
                    let last = stored.index.floor().sequence.max(known.last + 1) - 1;
                    top = StoredTop { epoch: random(), next_offset: 1, last, loss: Gap::Epoch, ..top };
                }
                anchored.push((*id, known.is_in_doubt.then_some((top.epoch, top.last))));
                Record::Top(top).write(&mut bytes);
            }
        }
        if anchored.is_empty() {
            return Ok(());
        }
        let Appended { segment: head, .. } = self.write(bytes, true)?;
        let mut stored = self.stored.write();
        self.lengthen(&mut stored);
        for (id, begun) in anchored {
            stored.index.move_anchor(id, segment, head);
            if let Some((epoch, last)) = begun {
                stored.index.begin_epoch(id, epoch, last);
            }
        }
        Ok(())
    }

    /// Writes down that the log begins with a segment, and what is not known of channels that were forgotten.
    fn begin(&mut self, number: u64) -> Result<(), AppendError> {
        let mut bytes = Vec::new();
        Record::Preface(self.stored.read().preface(self.next, number)).write(&mut bytes);
        self.write(bytes, true)?;
        let mut stored = self.stored.write();
        stored.begins = number;
        self.lengthen(&mut stored);
        Ok(())
    }

    /// Tells upkeep whether something was done for it.
    fn say(&mut self, act: impl FnOnce(&mut Self) -> Result<(), AppendError>) -> bool {
        let done = act(self);
        if let Err(failure) = &done {
            self.meet_full_disk(failure);
            warn!(error = %failure, "upkeep of the log could not write");
        }
        done.is_ok()
    }

    fn tend(&mut self) {
        self.repeats.forget_old(self.keys_clock.now());
        // If it fails, the disk is still full.
        _ = self.restore_reserve();
    }

    /// The head holds more than it did.
    fn lengthen(&self, stored: &mut Stored) {
        if let Some(segment) = stored.segments.list.get_mut(&self.log.head.number) {
            segment.length = self.log.head.length;
        }
    }

    /// Gives up the reserve if the disk is full, so that upkeep can go on.
    fn meet_full_disk(&mut self, failure: &AppendError) {
        if let AppendError::NotStored(error) = failure
            && is_full(error)
            && self.has_reserve
        {
            match self.disk.remove(RESERVE) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // The disk is read-only rather than full: there is nothing to make room for.
                    warn!(%error, "the reserve could not be given up");
                }
                _ => {
                    self.has_reserve = false;
                    _ = self.pokes.try_send(Poke::default());
                }
            }
        }
    }

    /// Nothing is published while the reserve is missing.
    fn restore_reserve(&mut self) -> Result<(), AppendError> {
        if !self.has_reserve {
            make_reserve(&*self.disk, self.settings.segment_bytes).map_err(AppendError::NotStored)?;
            self.has_reserve = true;
        }
        Ok(())
    }
}

/// What was appended, and where.
struct Appended {
    segment: u32,
    position: u64,
    bytes: Vec<u8>,
}

/// Sets bytes aside. They are no zeros, because a file system may not give those any room.
pub(super) fn make_reserve(disk: &dyn Disk, segment_bytes: u64) -> io::Result<()> {
    let length = LOG_RESERVE_BYTES.min(segment_bytes);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    // There must be room for twice as much: otherwise the room is the reserve's own, just given up for upkeep.
    let write = |file: Arc<dyn LogFile>| {
        file.write_at(0, &bytes)?;
        file.write_at(bytes.len() as u64, &bytes)?;
        file.cut(bytes.len() as u64)?;
        file.sync()
    };
    let made = disk.create(RESERVE).and_then(write);
    if made.is_err() {
        _ = disk.remove(RESERVE);
    }
    made
}

/// What publishers are told.
fn refusal(failure: &AppendError) -> PublishError {
    match failure {
        AppendError::InDoubt(_) => PublishError::InDoubt,
        AppendError::Fenced => PublishError::Fenced,
        AppendError::NotStored(error) if is_full(error) => PublishError::StorageFull,
        AppendError::NotStored(error) => PublishError::NotStored(error.to_string()),
    }
}

/// Closes the log if the thread that holds it ends otherwise than it should.
pub(super) struct Guard(pub(super) Fence);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("a thread of the log panicked: nothing more is written; this is a bug, please report it");
            self.0.close();
        }
    }
}

/// Never 0.
pub(super) fn random() -> u64 {
    getrandom::u64().expect("the operating system has random numbers").max(1)
}

pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

/// A cursor as the broker gives them out.
pub(super) fn cursor_of(generation: u64, sequence: u64, turn: u64) -> Cursor {
    Cursor { generation, sequence, memory: turn - sequence }
}
