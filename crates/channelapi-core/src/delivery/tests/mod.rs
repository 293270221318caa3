//! The fan-out with connections that read at their own pace, over a history that is sometimes on disk.

use super::*;
use crate::broker::{Depth, Gap, History, Loss, Page, PublicationSink as _, Reading, Top};
use crate::limits::{FANOUT_WAITING_BYTES_MAX, OUTBOX_LIVE_BYTES_MAX};
use crate::model::{ChannelName, Cursor, EventName, Kept, Position, Publication};
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
        if state.reads_at_once {
            state.received += frames;
        } else if frames == REPLY || state.waiting.is_empty() || state.waiting.len() + frames.len() <= room {
            state.waiting += frames;
        } else {
            return Delivery::Full;
        }
        Delivery::Taken
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

    fn checkpoint(&self, cursor: &Cursor, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("@{} ", cursor.sequence).as_bytes());
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
        let turn = self.publications.lock().len() as u64 + 1;
        let kept = Kept {
            position: Position { epoch: 1, offset: 1, tag: 0 },
            turn,
            cursor: Cursor { generation: 1, sequence: turn, memory: 0 },
        };
        let publication = Publication {
            channel: channel(to),
            event: EventName::default(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            published_at: 0,
            kept: Some(kept),
        };
        self.publications.lock().push(publication.clone());
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
            .filter(|index| gone > readings[*index].after + 1 && readings[*index].channel != whole);
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

fn top_of(publications: &[Publication]) -> Top {
    let turn = publications.len() as u64;
    Top { turn, cursor: Cursor { generation: 1, sequence: turn, memory: 0 } }
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

#[tokio::test]
async fn all_subscribers_see_one_order_after_their_reply() {
    let list = List::new(10);
    let fanout = start(3, &list);
    list.publish(&fanout, "a", "early");
    let clients: Vec<_> = (0..700).map(|id| Client::new(id, true)).collect();
    for client in &clients {
        for _ in 0..2 {
            drop(fanout.join(join(client, &[("a", From::Now)], Form::Plain)));
        }
    }
    fanout.disconnect(ConnectionId(9_999)).await.unwrap();
    for client in &clients {
        until(|| client.events().len() == 2).await;
    }
    let mut expected = vec!["joined".to_owned(); 2];
    for number in 0..300 {
        list.publish(&fanout, "a", &number.to_string());
        list.publish(&fanout, "b", "nobody's");
        expected.push(number.to_string());
    }
    for client in &clients {
        until(|| client.events().len() >= expected.len()).await;
        assert_eq!(client.events(), expected, "joining twice repeats the reply, never a publication");
    }
}

#[tokio::test]
async fn closed_connections_leave_nothing_behind() {
    let list = List::new(10);
    let fanout = start(2, &list);
    let [stays, leaves, late] = [1, 2, 3].map(|id| Client::new(id, true));
    for client in [&stays, &leaves] {
        fanout.join(join(client, &[("a", From::Now), ("b", From::Now)], Form::Plain)).await.unwrap();
    }
    late.state.lock().is_closed = true;
    fanout.disconnect(late.id).await.unwrap();
    fanout.join(join(&late, &[("c", From::After(0))], Form::Plain)).await.unwrap();
    fanout.disconnect(leaves.id).await.unwrap();
    list.publish(&fanout, "a", "x");
    until(|| stays.events().ends_with(&["x".into()])).await;
    assert_eq!(leaves.events(), ["joined"]);
    fanout.disconnect(stays.id).await.unwrap();
    assert_eq!(fanout.channels(), 0);
    assert_eq!((Arc::strong_count(&leaves), Arc::strong_count(&late)), (1, 1));
}

#[tokio::test]
async fn publishers_wait_while_too_much_waits() {
    let list = List::new(10);
    let fanout = start(1, &list);
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Plain)).await.unwrap();
    // This test's runtime has one thread: nothing is served before it waits.
    let large = "x".repeat(FANOUT_WAITING_BYTES_MAX / 2);
    list.publish(&fanout, "a", &large);
    list.publish(&fanout, "a", &large);
    let room = fanout.room();
    tokio::pin!(room);
    let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(room.as_mut().poll(cx).is_pending())).await;
    assert!(waits, "there is no room");
    tokio::time::timeout(Duration::from_mins(1), room).await.expect("there is room again");
    assert_eq!(client.text().len(), "joined ".len() + 2 * (large.len() + 1));
}

#[tokio::test]
async fn a_resumed_connection_gets_what_it_missed_then_where_it_stands_then_what_comes() {
    let list = List::new(2);
    let fanout = start(1, &list);
    for number in 1..=5 {
        list.publish(&fanout, if number == 4 { "b" } else { "a" }, &number.to_string());
    }
    let client = Client::new(1, true);
    let channels = [("a", From::After(1)), ("b", From::After(1)), ("new", From::Now)];
    fanout.join(join(&client, &channels, Form::Resumable)).await.unwrap();
    until(|| client.events().len() >= 7).await;
    list.publish(&fanout, "new", "6");
    until(|| client.events().len() >= 9).await;
    assert_eq!(client.events(), ["joined", "2", "3", "@3", "4", "5", "@5", "6", "@6"]);
}

#[tokio::test]
async fn what_is_joined_on_the_way_does_not_move_where_a_client_stands() {
    let list = List::new(10);
    let fanout = start(1, &list);
    for number in 1..=3 {
        list.publish(&fanout, "old", &format!("\"{number}\""));
    }
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Resumable)).await.unwrap();
    let explicit = Join { is_resumable: false, ..join(&client, &[("old", From::After(1))], Form::Resumable) };
    fanout.join(explicit).await.unwrap();
    // Behind a text the place is said again, because the client took the text for it.
    assert_eq!(client.events(), ["joined", "@3", "joined", "\"2\"", "@3", "\"3\"", "@3"]);
}

#[tokio::test]
async fn who_does_not_understand_gaps_is_closed_and_the_others_are_told() {
    let list = List::new(10);
    let fanout = start(1, &list);
    for _ in 0..3 {
        list.publish(&fanout, "a", "x");
    }
    list.complete_since.store(3, Ordering::Relaxed);
    let [plain, aware] = [1, 2].map(|id| Client::new(id, true));
    fanout.join(join(&plain, &[("a", From::After(0))], Form::Plain)).await.unwrap();
    fanout.join(join(&aware, &[("a", From::After(0))], Form::Meta)).await.unwrap();
    assert_eq!(plain.state.lock().end, Some(End::Slow));
    assert_eq!(aware.events(), ["joined", "gap:a:trimmed", "x"]);
}

#[tokio::test]
async fn revoking_ends_everybody_in_the_channel_and_nobody_else() {
    let list = List::new(10);
    let fanout = start(2, &list);
    let clients: Vec<_> = (0..4).map(|id| Client::new(id, true)).collect();
    for client in &clients {
        let name = if client.id.0 == 3 { "b" } else { "a" };
        fanout.join(join(client, &[(name, From::Now)], Form::Plain)).await.unwrap();
    }
    assert_eq!((fanout.subscribers(&channel("a")), fanout.revoke(&channel("a")).await), (3, 3));
    let ended = clients.iter().filter(|client| client.state.lock().end == Some(End::Revoked)).count();
    assert_eq!((ended, fanout.channels()), (3, 1));
}

#[tokio::test]
async fn whoever_leaves_one_channel_hears_the_others_go_on() {
    let list = List::new(10);
    let fanout = start(1, &list);
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now), ("b", From::Now)], Form::Plain)).await.unwrap();
    list.publish(&fanout, "a", "1:a");
    fanout.leave(client.id, &channel("a")).await.unwrap();
    fanout.leave(client.id, &channel("c")).await.unwrap();
    list.publish(&fanout, "a", "2:a");
    list.publish(&fanout, "b", "2:b");
    until(|| client.events().last().is_some_and(|last| last == "2:b")).await;
    assert_eq!(client.events(), ["joined", "1:a", "2:b"]);
    assert_eq!((fanout.subscribers(&channel("a")), fanout.channels()), (0, 1));
}

#[tokio::test]
async fn a_page_that_was_read_for_a_channel_that_was_left_is_read_again_without_it() {
    let list = List::new(10);
    let fanout = start(1, &list);
    for number in 1..=2 {
        list.publish(&fanout, "a", &format!("{number}:a"));
        list.publish(&fanout, "b", &format!("{number}:b"));
    }
    list.is_on_disk.store(true, Ordering::Relaxed);
    let client = Client::new(1, true);
    drop(fanout.join(join(&client, &[("a", From::After(0)), ("b", From::After(0))], Form::Resumable)));
    // Queued right behind it: the page is still being read.
    fanout.leave(client.id, &channel("a")).await.unwrap();
    until(|| client.events().last().is_some_and(|last| last == "@4")).await;
    assert_eq!(client.events(), ["joined", "1:b", "2:b", "@4"]);
}

#[tokio::test]
async fn a_page_that_was_read_for_what_a_connection_has_left_is_not_for_it() {
    let list = List::new(10);
    let fanout = start(1, &list);
    for number in 1..=2 {
        list.publish(&fanout, "a", &format!("{number}:a"));
        list.publish(&fanout, "b", &format!("{number}:b"));
    }
    list.is_on_disk.store(true, Ordering::Relaxed);
    list.complete_since.store(2, Ordering::Relaxed);
    let client = Client::new(1, true);
    drop(fanout.join(join(&client, &[("c", From::After(0)), ("b", From::After(0))], Form::Resumable)));
    // A client may leave all channels, and come in again on the same connection.
    drop(fanout.disconnect(client.id));
    fanout.join(join(&client, &[("a", From::After(1))], Form::Resumable)).await.unwrap();
    until(|| client.events().last().is_some_and(|last| last == "@4")).await;
    assert_eq!(client.events(), ["joined", "joined", "2:a", "@4"]);
}

#[tokio::test]
async fn what_is_joined_live_while_catching_up_promises_nothing() {
    let list = List::new(1);
    let fanout = start(1, &list);
    for number in 1..=3 {
        list.publish(&fanout, "a", &number.to_string());
    }
    let client = Client::new(1, false);
    fanout.join(join(&client, &[("a", From::After(0))], Form::Resumable)).await.unwrap();
    assert_eq!(client.events(), ["joined", "1", "@1"]);
    let live = Join { is_resumable: false, ..join(&client, &[("b", From::Now)], Form::Resumable) };
    fanout.join(live).await.unwrap();
    list.publish(&fanout, "b", "4");
    until(|| {
        if client.drain() {
            fanout.drained(client.id);
        }
        client.events().len() >= 10
    })
    .await;
    assert_eq!(client.events(), ["joined", "1", "@1", "joined", "2", "@2", "3", "@3", "4", "@4"]);
}

#[tokio::test]
async fn what_is_kept_nowhere_moves_nobody_even_as_text() {
    let list = List::new(10);
    let (fanout, workers) = Fanout::new(1, Arc::new(Words));
    for worker in workers {
        tokio::spawn(worker.run(list.clone()));
    }
    fanout.begin(list.top());
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Resumable)).await.unwrap();
    for data in ["\"text\"", "1", "null"] {
        let (event, data) = (EventName::default(), Bytes::from_static(data.as_bytes()));
        fanout.deliver(Publication { channel: channel("a"), event, data, published_at: 0, kept: None });
    }
    until(|| client.events().len() >= 7).await;
    // Behind what a client takes for its place follows the real one.
    assert_eq!(client.events(), ["joined", "@0", "\"text\"", "@0", "1", "null", "@0"]);
}

#[tokio::test]
async fn what_is_missing_is_said_once() {
    let list = List::new(1);
    let fanout = start(1, &list);
    for (name, data) in [("whole", "1"), ("a", "2"), ("whole", "3"), ("a", "4")] {
        list.publish(&fanout, name, data);
    }
    list.complete_since.store(4, Ordering::Relaxed);
    let client = Client::new(1, true);
    let channels = [("whole", From::After(0)), ("a", From::After(0))];
    fanout.join(join(&client, &channels, Form::Meta)).await.unwrap();
    until(|| client.events().len() >= 5).await;
    assert_eq!(client.events(), ["joined", "gap:a:trimmed", "1", "3", "4"]);
}

/// Real threads: one stores and hands over, others join and leave. Between storing and handing over anything can happen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_joins_while_something_is_published_gets_all_of_it_from_there_on() {
    const COUNT: u64 = 3_000;
    let list = List::new(100);
    let fanout = start(2, &list);
    let publisher = {
        let (list, fanout) = (list.clone(), fanout.clone());
        std::thread::spawn(move || {
            for number in 1..=COUNT {
                let publication = list.store("a", &number.to_string());
                list.is_on_disk.store(number % 7 == 0, Ordering::Relaxed);
                std::thread::yield_now();
                fanout.deliver(publication);
            }
        })
    };
    let clients: Vec<_> = (0..200).map(|id| Client::new(id, true)).collect();
    let forms = [Form::Plain, Form::Meta, Form::Resumable].into_iter().cycle();
    for (client, form) in clients.iter().zip(forms) {
        let from = if client.id.0 % 2 == 0 { From::Now } else { From::After(0) };
        let passing = Client::new(1_000 + client.id.0, true);
        drop(fanout.join(join(&passing, &[("a", From::After(0))], form)));
        fanout.join(join(client, &[("a", from)], form)).await.unwrap();
        fanout.disconnect(passing.id).await.unwrap();
    }
    tokio::task::spawn_blocking(move || publisher.join().unwrap()).await.unwrap();
    for client in &clients {
        let received = || client.events().iter().filter_map(|event| event.parse().ok()).collect::<Vec<u64>>();
        // Whoever joined behind everything gets nothing.
        until(|| received().last().map_or(client.id.0 % 2 == 0, |last| *last == COUNT)).await;
        let received = received();
        let first = received.first().copied().unwrap_or(COUNT + 1);
        assert!(client.id.0 % 2 == 0 || first == 1, "{first}");
        assert!(received.iter().copied().eq(first..=COUNT), "{received:?}");
    }
}

#[tokio::test]
async fn what_is_stored_but_not_handed_over_is_not_promised() {
    let list = List::new(10);
    let fanout = start(1, &list);
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Resumable)).await.unwrap();
    let late = [list.store("a", "1"), list.store("b", "2")];
    let explicit = Join { is_resumable: false, ..join(&client, &[("b", From::After(0))], Form::Resumable) };
    fanout.join(explicit).await.unwrap();
    for publication in late {
        fanout.deliver(publication);
    }
    until(|| client.events().len() >= 7).await;
    assert_eq!(client.events(), ["joined", "@0", "joined", "2", "@0", "1", "@1"]);
}
