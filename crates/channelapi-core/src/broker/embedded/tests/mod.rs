//! The log under a disk that crashes, fails and rots.

mod ahead;
mod clocks;
mod crashes;
mod disk;
mod doubt;
mod expiry;
mod full_disk;
mod inspection;
mod model;
mod places;
mod rewriting;
mod room;
mod safety;
mod space;
mod starts;

use super::index::Ages;
use super::index::forgetting::TooIdle;
use super::log::disk::Disk;
use super::stored::hot::Hot;
use super::upkeep::AGELESS;
use super::writer::command::Poke;
use super::*;
use crate::broker::history::{Gap, Since, Start};
use crate::broker::permit::Permit;
use crate::broker::sink::PublicationSink;
use crate::clock::Clock;
use crate::model::{
    ChannelName, Cursor, Durability, EventName, Pattern, Policies, Policy, Position, Publication, Retention,
};
use bytes::Bytes;
use disk::SimulatedDisk;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

/// Remembers the turns it was handed.
#[derive(Default)]
struct Delivered(Mutex<Vec<u64>>);

impl PublicationSink for Delivered {
    fn deliver(&self, publication: Publication) {
        self.0.lock().push(publication.turn().expect("a broker keeps what it delivers"));
    }
}

const ALL: Retention = Retention { messages: usize::MAX, age: u64::MAX, bytes: u64::MAX };

fn open(disk: &SimulatedDisk) -> EmbeddedBroker {
    open_with(disk, ALL, &Clock::manual(1_000))
}

fn open_with(disk: &SimulatedDisk, retention: Retention, clock: &Clock) -> EmbeddedBroker {
    open_as(disk, clock, policies(retention), settings())
}

fn open_as(
    disk: &SimulatedDisk,
    clock: &Clock,
    policies: Policies,
    settings: StoreSettings,
) -> EmbeddedBroker {
    let sink = Arc::new(Delivered::default());
    EmbeddedBroker::open_on(Arc::new(disk.clone()), sink, clock.clone(), policies, settings, key()).unwrap()
}

/// What its cursors are made with.
fn key() -> CursorKey {
    CursorKey::from_secret(&[1; 32])
}

fn policies(retention: Retention) -> Policies {
    let policy = |durability| Policy { durability, retention, replay_on_join: 0 };
    let in_memory = (Pattern::new("memory-*"), policy(Durability::Memory));
    let relaxed = (Pattern::new("relaxed-*"), policy(Durability::Relaxed));
    Policies::new(vec![in_memory, relaxed], policy(Durability::Fsync))
}

fn settings() -> StoreSettings {
    StoreSettings { segment_bytes: 2_000, ahead_bytes: 0, ..StoreSettings::default() }
}

/// Lets upkeep do all it can.
fn tidy(broker: &EmbeddedBroker) {
    let (done, is_done) = std_mpsc::sync_channel(1);
    broker.pokes.send(Poke { done: Some(done) }).unwrap();
    is_done.recv_timeout(Duration::from_mins(1)).expect("upkeep comes to an end");
}

/// Forgets every channel of which nothing is kept.
fn forget_idle(broker: &EmbeddedBroker) {
    let mut stored = broker.stored.write();
    let ids = stored.index.ids();
    stored.index.forget_idle(0..ids, &mut TooIdle { count: usize::MAX, newest: u64::MAX });
}

fn channel(number: usize) -> ChannelName {
    ChannelName::parse(&format!("channel-{number}")).unwrap()
}

fn request(number: usize, data: &str) -> PublishRequest {
    let data = Bytes::copy_from_slice(data.as_bytes());
    let event = EventName::default();
    PublishRequest { channel: channel(number), event, data, expires_at: 0, idempotency_key: None }
}

fn on(name: &str, data: &str) -> PublishRequest {
    PublishRequest { channel: ChannelName::parse(name).unwrap(), ..request(0, data) }
}

/// Everything that is kept.
const EVERYTHING: HistoryQuery =
    HistoryQuery { after: 0, before: u64::MAX, limit: usize::MAX, is_reverse: false };

fn history(broker: &EmbeddedBroker, number: usize) -> HistoryPage {
    broker.history(&channel(number), EVERYTHING).unwrap()
}

/// Whether a client that stands at `cursor` gets everything that follows, in its channel.
fn gap(broker: &EmbeddedBroker, number: usize, cursor: Cursor) -> Option<Gap> {
    broker.locate(&channel(number), Since::Cursor(cursor)).gap
}

/// The lowest sequence from which on a channel is complete.
fn complete_since(broker: &EmbeddedBroker, number: usize) -> u64 {
    broker.stored.read().index.complete_since(&channel(number)).0
}

fn data_of(broker: &EmbeddedBroker, number: usize) -> Vec<String> {
    let publications = history(broker, number).publications;
    publications.iter().map(|publication| String::from_utf8(publication.data.to_vec()).unwrap()).collect()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}
