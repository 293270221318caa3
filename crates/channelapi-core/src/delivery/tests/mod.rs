//! The fan-out with connections that read at their own pace, over a history that is sometimes on disk.

mod catching_up;
mod live;
mod turns;

use super::*;
use crate::broker::{Depth, Gap, History, Loss, Page, PublicationSink as _, Reading, Top};
use crate::limits::OUTBOX_LIVE_BYTES_MAX;
use crate::model::{CURSOR_BYTES, ChannelName, Checkpoint, Cursor, EventName, Kept, Position, Publication};
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes that may wait for a client of these tests before it is served from history: a few short words.
const LIVE_ROOM: usize = 20;

/// What a client is told that joins. There is always room for it.
const REPLY: &str = "joined ";

/// Bytes of history that may wait.
const ROOM: usize = 40;

/// A connection that reads when the test decides.
pub(super) struct Client {
    pub(super) id: ConnectionId,
    pub(super) state: Mutex<ClientState>,
}

#[derive(Default)]
pub(super) struct ClientState {
    received: String,
    /// Bytes that wait, and are received when the test says so.
    waiting: String,
    reads_at_once: bool,
    /// How often something was written at once.
    writes: usize,
    /// Bytes it can hold, if it cannot hold any number.
    holds_max: Option<usize>,
    wants_to_know: bool,
    is_closed: bool,
    pub(super) end: Option<End>,
}

impl Client {
    pub(super) fn new(id: u64, reads_at_once: bool) -> Arc<Self> {
        let state = ClientState { reads_at_once, ..ClientState::default() };
        Arc::new(Self { id: ConnectionId(id), state: Mutex::new(state) })
    }

    pub(super) fn text(&self) -> String {
        let state = self.state.lock();
        format!("{}{}", state.received, state.waiting)
    }

    /// How often something was written, and what is held.
    pub(super) fn written(&self) -> (usize, String) {
        let state = self.state.lock();
        (state.writes, state.waiting.clone())
    }

    /// Reads all that waits. Whether the fan-out wants to know.
    pub(super) fn drain(&self) -> bool {
        self.read(usize::MAX)
    }

    /// Reads so many bytes of what waits.
    pub(super) fn read(&self, bytes: usize) -> bool {
        let mut state = self.state.lock();
        let bytes = bytes.min(state.waiting.len());
        let rest = state.waiting.split_off(bytes);
        let read = std::mem::replace(&mut state.waiting, rest);
        state.received += &read;
        state.waiting.is_empty() && std::mem::take(&mut state.wants_to_know)
    }

    /// Forgets everything, as a client does that begins anew.
    pub(super) fn forget(&self) {
        let mut state = self.state.lock();
        (state.received, state.waiting, state.wants_to_know) = (String::new(), String::new(), false);
        (state.end, state.is_closed) = (None, false);
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.text().split_whitespace().map(str::to_owned).collect()
    }
}

impl Subscriber for Client {
    fn id(&self) -> ConnectionId {
        self.id
    }

    fn deliver(&self, frames: &Bytes, bytes_max: usize) -> Delivery {
        let mut state = self.state.lock();
        assert!(!frames.is_empty(), "nothing is no frame");
        let frames = std::str::from_utf8(frames).unwrap();
        let room = if bytes_max == OUTBOX_LIVE_BYTES_MAX { LIVE_ROOM } else { ROOM };
        if state.reads_at_once && state.waiting.is_empty() {
            state.received += frames;
            state.writes += 1;
        } else if state.reads_at_once {
            if state.holds_max.is_some_and(|max| state.waiting.len() + frames.len() > max) {
                return Delivery::Full;
            }
            // Behind what is held.
            state.waiting += frames;
        } else if frames == REPLY || state.waiting.is_empty() || state.waiting.len() + frames.len() <= room {
            state.waiting += frames;
        } else {
            return Delivery::Full;
        }
        Delivery::Taken
    }

    fn hold(&self, frames: &Bytes, bytes_max: usize) -> Delivery {
        let mut state = self.state.lock();
        if !state.waiting.is_empty() {
            drop(state);
            return self.deliver(frames, bytes_max);
        }
        state.waiting += std::str::from_utf8(frames).unwrap();
        Delivery::Held
    }

    fn release(&self) {
        let mut state = self.state.lock();
        if state.reads_at_once && !state.waiting.is_empty() {
            let held = std::mem::take(&mut state.waiting);
            state.received += &held;
            state.writes += 1;
        }
    }

    fn is_drained(&self) -> bool {
        let mut state = self.state.lock();
        state.wants_to_know = !state.waiting.is_empty();
        state.waiting.is_empty()
    }

    fn is_open(&self) -> bool {
        !self.state.lock().is_closed
    }

    fn end(&self, reason: End) {
        let mut state = self.state.lock();
        (state.end, state.is_closed) = (Some(reason), true);
    }
}

/// Frames as words.
pub(super) struct Words;

impl FrameEncoder for Words {
    fn publication(&self, publication: &Publication, _: Form, out: &mut Vec<u8>) {
        out.extend_from_slice(&publication.data);
        out.push(b' ');
    }

    fn checkpoint(&self, checkpoint: &Checkpoint, out: &mut Vec<u8>) {
        let left = if checkpoint.has_left { "left" } else { "" };
        out.extend_from_slice(format!("@{}{left} ", turn_of(checkpoint.cursor)).as_bytes());
    }

    fn gap(&self, channel: &ChannelName, gap: Gap, _: Form, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("gap:{channel}:{gap} ").as_bytes());
    }
}

/// A broker in a list: turns from 1 on.
#[derive(Default)]
pub(super) struct List {
    pub(super) publications: Mutex<Vec<Publication>>,
    pub(super) is_on_disk: AtomicBool,
    /// Publications of a lower turn are gone, but those of the channel "whole".
    pub(super) complete_since: AtomicUsize,
    page: usize,
}

impl List {
    pub(super) fn new(page: usize) -> Arc<Self> {
        Arc::new(Self { page, ..Self::default() })
    }

    pub(super) fn publish(&self, fanout: &Fanout, to: &str, data: &str) {
        fanout.deliver(self.store(to, data));
    }

    /// Stores a publication, and leaves it to the test to hand it over.
    pub(super) fn store(&self, to: &str, data: &str) -> Publication {
        let mut publications = self.publications.lock();
        let turn = publications.len() as u64 + 1;
        let before = publications.iter().filter(|one| one.channel == channel(to)).count() as u64;
        let kept =
            Kept { position: Position { epoch: 1, offset: before + 1, tag: 0 }, turn, cursor: cursor(turn) };
        let publication = Publication {
            channel: channel(to),
            event: EventName::default(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            published_at: 0,
            kept: Some(kept),
        };
        publications.push(publication.clone());
        publication
    }
}

impl History for List {
    fn read(&self, readings: &[Reading], depth: Depth) -> io::Result<Option<Page>> {
        let all = self.publications.lock();
        let gone = self.complete_since.load(Ordering::Relaxed) as u64;
        let whole = channel("whole");
        let wanted = |publication: &&Publication| {
            let turn = publication.turn().unwrap();
            let after = readings.iter().find(|reading| reading.channel == publication.channel);
            (turn >= gone || publication.channel == whole)
                && after.is_some_and(|reading| turn > reading.after)
        };
        let found: Vec<_> = all.iter().filter(wanted).take(self.page + 1).cloned().collect();
        if depth == Depth::Memory && self.is_on_disk.load(Ordering::Relaxed) && !found.is_empty() {
            return Ok(None);
        }
        let lost = (0..readings.len())
            .filter(|index| gone > readings[*index].after + 1 && readings[*index].channel != whole)
            .filter(|index| !readings[*index].is_first);
        let losses = lost.map(|reading| Loss { reading, gap: Gap::Trimmed, after: gone - 1 }).collect();
        let is_complete = found.len() <= self.page;
        let publications: Vec<_> = found.into_iter().take(self.page).collect();
        let reached = match publications.last().and_then(|last| last.kept) {
            Some(kept) if !is_complete => Top { turn: kept.turn, cursor: kept.cursor },
            _ => top_of(&all),
        };
        Ok(Some(Page { publications, reached, is_complete, losses }))
    }

    fn top(&self) -> Top {
        top_of(&self.publications.lock())
    }
}

/// A place like any other: nobody here can read it.
fn cursor(turn: u64) -> Cursor {
    let mut bytes = [0; CURSOR_BYTES];
    bytes[..8].copy_from_slice(&turn.to_be_bytes());
    Cursor::from_bytes(bytes)
}

fn turn_of(cursor: Cursor) -> u64 {
    u64::from_be_bytes(*cursor.to_bytes().first_chunk().unwrap())
}

fn top_of(publications: &[Publication]) -> Top {
    let turn = publications.len() as u64;
    Top { turn, cursor: cursor(turn) }
}

pub(super) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

pub(super) fn start(workers: usize, list: &Arc<List>) -> Arc<Fanout> {
    let (fanout, workers) = Fanout::new(workers, Arc::new(Words));
    for worker in workers {
        tokio::spawn(worker.run(list.clone()));
    }
    Arc::new(fanout)
}

pub(super) fn join(client: &Arc<Client>, channels: &[(&str, From)], form: Form) -> Join {
    Join {
        subscriber: client.clone(),
        channels: channels.iter().map(|(name, from)| (channel(name), *from)).collect(),
        form,
        is_aware: form != Form::Plain,
        is_resumable: form.has_checkpoints(),
        reply: Bytes::from_static(REPLY.as_bytes()),
    }
}

pub(super) async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("it happens in time");
}
