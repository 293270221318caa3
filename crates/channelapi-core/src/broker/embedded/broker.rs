//! The broker itself: it starts the two threads of the log, and hands over to the one that writes.

use super::log::disk::{Directory, Disk};
use super::open::{OpenError, Opened, open};
use super::place::CursorKey;
use super::request::{Outcome, PublishError, PublishRequest, Published};
use super::settings::StoreSettings;
use super::stored::Stored;
use super::upkeep::{AGELESS, Upkeep};
use super::writer::Writer;
use super::writer::answers::Asker;
use super::writer::command::{Command, Waiting};
use super::writer::repeats::KeysClock;
use crate::broker::permit::Permit;
use crate::broker::sink::PublicationSink;
use crate::clock::Clock;
use crate::failpoint;
use crate::fence::{Fence, Guard};
use crate::limits::{LOG_QUEUE_MAX, PUBLISH_ROOM_WAIT};
use crate::model::{ChannelName, Policies};
use parking_lot::RwLock;
use smallvec::smallvec;
use std::any::Any;
use std::cell::Cell;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// Stores publications on this machine's disk and carries them to this node.
pub struct EmbeddedBroker {
    /// `None` only while it is dropped.
    commands: Option<mpsc::Sender<Command>>,
    pub(super) stored: Arc<RwLock<Stored>>,
    pub(super) policies: Arc<Policies>,
    pub(super) cursors: Arc<CursorKey>,
    pub(super) clock: Clock,
    fence: Fence,
    is_stopping: Arc<AtomicBool>,
    is_refusing: Arc<AtomicBool>,
    is_displaced: Arc<AtomicBool>,
    pub(super) settings: StoreSettings,
    threads: Vec<JoinHandle<()>>,
    /// Let go of when the threads have ended.
    hold: Option<Box<dyn Any + Send + Sync>>,
    /// Asks for upkeep at once.
    #[cfg(test)]
    pub(super) pokes: std_mpsc::SyncSender<super::writer::command::Poke>,
}

/// How large a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of its segments.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Channels that are known, also those of which nothing is kept but where they stand.
    pub channels: u64,
    /// Bytes of memory that what is known of channels and of their publications takes, about.
    pub index_bytes: u64,
    /// Bytes that it may take.
    pub index_bytes_max: u64,
}

/// A publication on its way into the log: when it is done, it is kept as safely as its channel's policy says. Written by hand, so that one
/// that waits for the disk holds nothing that it does not need.
#[must_use]
pub struct Publishing<'a> {
    room: Option<Room<'a>>,
    answered: oneshot::Receiver<Outcome>,
}

/// Waits until a batch is the writer's.
type Room<'a> = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + 'a>>;

impl Future for Publishing<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(room) = &mut self.room {
            ready!(room.as_mut().poll(cx))?;
            self.room = None;
        }
        let answered = ready!(Pin::new(&mut self.answered).poll(cx));
        Poll::Ready(answered.unwrap_or(Err(PublishError::Stopped)))
    }
}

/// What became of a batch that was to be given to the writer.
enum Handed {
    Over,
    /// There is no room.
    Waits(Box<Waiting>),
}

impl EmbeddedBroker {
    /// Opens the log in a directory, making it if it is missing, and starts the thread that writes. Cursors that were given out with
    /// another key are of a life that it does not know.
    pub fn open(
        path: &Path,
        sink: Arc<dyn PublicationSink>,
        clock: Clock,
        policies: Policies,
        settings: StoreSettings,
        cursors: CursorKey,
    ) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(Directory::make(path)?), sink, clock, policies, settings, cursors)
    }

    /// Keeps something until nothing writes to the log any more, and then drops it: whatever keeps others out of its directory.
    pub fn keep(&mut self, hold: impl Any + Send + Sync) {
        self.hold = Some(Box::new(hold));
    }

    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        sink: Arc<dyn PublicationSink>,
        clock: Clock,
        policies: Policies,
        mut settings: StoreSettings,
        cursors: CursorKey,
    ) -> Result<Self, OpenError> {
        settings.segment_bytes = failpoint::segment_bytes().unwrap_or(settings.segment_bytes);
        settings.segment_bytes = settings.segment_bytes_fitting();
        let (policies, cursors) = (Arc::new(policies), Arc::new(cursors));
        let fence = Fence::default();
        let opened = open(&disk, &policies, &settings, &fence, cursors.clone(), clock.cautious_millis())?;
        let Opened { log, stored, repeats, keys_now, next, has_reserve } = opened;
        let keys_clock = KeysClock::new(clock.clone(), keys_now);
        let ages_from = clock.monotonic_millis() + AGELESS;
        let stored = Arc::new(RwLock::new(stored));
        let (commands, queue) = mpsc::channel(LOG_QUEUE_MAX);
        let (pokes, wishes) = std_mpsc::sync_channel(1);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let has_reserve = Arc::new(AtomicBool::new(has_reserve));
        let upkeep = Upkeep {
            disk: disk.clone(),
            stored: stored.clone(),
            clock: clock.clone(),
            keys_clock: keys_clock.clone(),
            settings,
            ages_from,
            writer: commands.downgrade(),
            is_stopping: is_stopping.clone(),
            has_reserve: has_reserve.clone(),
            is_displaced: log.is_displaced.clone(),
            fence: fence.clone(),
            was_full: Cell::default(),
        };
        let is_displaced = log.is_displaced.clone();
        let is_refusing = Arc::new(AtomicBool::new(!has_reserve.load(Ordering::Relaxed)));
        let writer = Writer {
            log,
            disk,
            stored: stored.clone(),
            sink,
            clock: clock.clone(),
            keys_clock,
            ages_from,
            settings,
            next,
            repeats,
            cursors: cursors.clone(),
            told: None,
            unsynced: None,
            has_reserve,
            is_refusing: is_refusing.clone(),
            told_failure: None,
            pokes: pokes.clone(),
        };
        let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let guard = Guard(fence.clone());
            thread::Builder::new().name(name.into()).spawn(move || {
                let _guard = guard;
                work();
            })
        };
        let threads = vec![
            start("log-writer", Box::new(move || writer.run(queue)))?,
            start("log-upkeep", Box::new(move || upkeep.run(&wishes)))?,
        ];
        Ok(Self {
            commands: Some(commands),
            stored,
            policies,
            cursors,
            clock,
            fence,
            is_stopping,
            is_refusing,
            is_displaced,
            threads,
            settings,
            hold: None,
            #[cfg(test)]
            pokes,
        })
    }

    /// Stores a publication and hands it to the sink. It is on its way when this returns.
    pub fn publish(&self, request: PublishRequest) -> Publishing<'_> {
        self.publish_within(Permit::default(), request)
    }

    /// The same, within a permit that lasts until it is known what came of it.
    pub fn publish_within(&self, permit: Permit, request: PublishRequest) -> Publishing<'_> {
        let (asker, answered) = Asker::of_one();
        let room = match self.hand_over(Waiting { requests: smallvec![request], asker, permit }) {
            Handed::Over => None,
            Handed::Waits(waiting) => Some(self.wait_for_room(waiting)),
        };
        Publishing { room, answered }
    }

    /// Stores publications next to each other: nothing comes between those of one channel, and they are stored all or not at all.
    /// If one is refused for its own sake (a reused key), so are the others of its channel, but for repeats of what is stored.
    pub async fn publish_all(&self, requests: Vec<PublishRequest>) -> Vec<Result<Published, PublishError>> {
        self.publish_all_within(Permit::default(), requests).await
    }

    /// The same, within a permit that lasts until it is known what came of all of them.
    pub async fn publish_all_within(
        &self,
        permit: Permit,
        requests: Vec<PublishRequest>,
    ) -> Vec<Result<Published, PublishError>> {
        let count = requests.len();
        let refused = |error| vec![Err(error); count];
        let (asker, answered) = Asker::of_all();
        if let Handed::Waits(waiting) = self.hand_over(Waiting { requests: requests.into(), asker, permit })
            && let Err(error) = self.wait_for_room(waiting).await
        {
            return refused(error);
        }
        answered.await.unwrap_or_else(|_| refused(PublishError::Stopped))
    }

    /// Gives a batch to the writer, if there is room in front of it. Nobody is answered by a writer that has stopped.
    fn hand_over(&self, waiting: Waiting) -> Handed {
        let Some(commands) = &self.commands else { return Handed::Over };
        match commands.try_reserve() {
            Ok(room) => room.send(Command::Publish(waiting)),
            Err(TrySendError::Full(())) => return Handed::Waits(Box::new(waiting)),
            Err(TrySendError::Closed(())) => {}
        }
        Handed::Over
    }

    /// Waits for a moment for room in front of the writer, and gives it a batch.
    fn wait_for_room(&self, waiting: Box<Waiting>) -> Room<'_> {
        Box::pin(async move {
            let commands = self.commands.as_ref().ok_or(PublishError::Stopped)?;
            let room = tokio::time::timeout(PUBLISH_ROOM_WAIT, commands.reserve()).await;
            let room = room.map_err(|_| PublishError::Congested)?.map_err(|_| PublishError::Stopped)?;
            room.send(Command::Publish(*waiting));
            Ok(())
        })
    }

    /// Gives up everything a channel holds, durably, and says how many publications that were. The next one begins a new epoch;
    /// whoever resumes from before is told so. Their bytes leave the disk when their segment is rewritten or removed.
    pub async fn purge(&self, channel: &ChannelName) -> Result<usize, PublishError> {
        let answered = self.ask(|answer| Command::Purge(channel.clone(), answer)).await;
        answered.unwrap_or(Err(PublishError::Stopped))
    }

    /// Makes everything survive a power cut that was published so far. Says whether it does: if not, the log is fenced.
    pub async fn settle(&self) -> bool {
        self.ask(Command::Settle).await.unwrap_or(false)
    }

    /// How large the log is.
    pub fn figures(&self) -> Figures {
        let stored = self.stored.read();
        Figures {
            bytes: stored.segments.bytes(),
            segments: stored.segments.list.len() as u64,
            channels: stored.index.channel_count() as u64,
            index_bytes: stored.index.bytes() as u64,
            index_bytes_max: self.settings.index_bytes_max as u64,
        }
    }

    /// Files that it has open or may come to: as many as a full log, or a few more than there are, if those are smaller than they would
    /// be now.
    pub fn files_max(&self) -> u64 {
        /// Before others have gone.
        const MORE: u64 = 16;
        self.settings.files_max().max(self.figures().segments + MORE)
    }

    /// Whether nothing more is stored, because a sync failed or a thread of the log ended. The process should end, too.
    pub fn is_fenced(&self) -> bool {
        self.fence.is_closed()
    }

    /// Whether the disk takes no publications: it refused one, and neither was one stored there since, nor did upkeep, which tries again and
    /// again, find room.
    pub fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::Relaxed) || self.is_displaced.load(Ordering::Relaxed)
    }

    /// Waits until [`Self::is_fenced`].
    pub async fn fenced(&self) {
        self.fence.closed().await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.commands.as_ref()?.send(command(answer)).await.ok()?;
        answered.await.ok()
    }
}

impl Drop for EmbeddedBroker {
    /// Waits until everything that waits is stored, so that another one can open the same directory.
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.commands = None;
        #[cfg(test)]
        {
            self.pokes = std_mpsc::sync_channel(0).0;
        }
        for thread in self.threads.drain(..) {
            // If it panicked, it has said so.
            _ = thread.join();
        }
    }
}
