//! A log that a server is started on.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use channelapi_core::broker::{
    CursorKey, EmbeddedBroker, HistoryQuery, PublicationSink, PublishError, PublishRequest, StoreSettings,
    fuzzing::segment, verify_log,
};
use channelapi_core::clock::Clock;
use channelapi_core::model::{ChannelName, Durability, EventName, Policies, Policy, Publication, Retention};

/// Where the first byte of the input becomes the first sequence.
const FIRST: u64 = 1;

struct Nobody;

impl PublicationSink for Nobody {
    fn deliver(&self, _: Publication) {}
}

/// The input is a segment: bodies of records, each behind a byte with its length, which get checksums that are right; from
/// the first length of zero on, bytes as they are.
///
/// - Looking at it from outside never fails, and changes nothing.
/// - A server starts on it, or says why not; if it starts, it can publish, and finds what it published, unless no number is left for that.
/// - Publishing gives up nothing that was there, unless the offsets have come to their end.
/// - The next start finds the same, and the channel's offsets have no holes but for what is not shown, because its time is over.
pub fn store_recovery(data: &[u8]) -> bool {
    let (bodies, raw) = split(data);
    let (name, mut bytes) = segment(FIRST, &bodies);
    bytes.extend_from_slice(raw);
    let folder = folder().expect("there is room for a directory");
    let path = folder.path().join("log");
    fs::create_dir(&path).expect("there is room for a directory");
    fs::write(path.join(&name), &bytes).expect("there is room for a file");

    let report = verify_log(&path);
    assert_eq!(fs::read(path.join(&name)).ok().as_deref(), Some(&bytes[..]), "looking has changed it");
    let Ok(broker) = open(&path) else { return false };
    let found = history(&broker);
    if !publish(&broker) {
        let before = history(&broker);
        let purged = runtime().block_on(broker.purge(&channel()));
        assert!(matches!(purged, Err(_) | Ok(0)), "a purge takes a number, too");
        drop(broker);
        let broker = open(&path).expect("what one server wrote, another can read");
        assert_eq!(history(&broker), before, "at the end of the numbers");
        return false;
    }
    let before = history(&broker);
    let ((offset, newest), rest) = before.split_last().expect("what was published is there");
    assert_eq!(&newest[..], b"1", "what was published is the newest");
    assert!(*offset == 1 || *rest == found, "publishing has given up what was there");
    drop(broker);
    let broker = open(&path).expect("what one server wrote, another can read");
    assert_eq!(history(&broker), before, "after another start");
    let standing = broker.standing_and_expired(&channel(), |standing| {
        (standing.first_offset - 1..standing.next_offset).collect()
    });
    let (standing, behind) = standing.expect("it was published to");
    // Of two that follow each other, the second has expired if there is one less behind it.
    let expired = (standing.first_offset..).zip(behind.windows(2)).filter(|(_, pair)| pair[0] > pair[1]);
    let expired = expired.map(|(offset, _)| offset);
    let mut kept: Vec<_> = before.iter().map(|(offset, _)| *offset).chain(expired).collect();
    kept.sort_unstable();
    let all: Vec<_> = (standing.first_offset..standing.next_offset).collect();
    assert_eq!(kept, all, "a hole in the offsets");
    report.is_ok_and(|report| report.records > 0 && report.damage.is_empty())
}

/// In memory where that is possible: what is tried here is reading, and a real disk takes its time for each sync.
fn folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

fn split(mut data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut bodies = Vec::new();
    loop {
        match data.split_first() {
            None => return (bodies, &[]),
            Some((0, rest)) => return (bodies, rest),
            Some((length, rest)) => {
                let (body, rest) = rest.split_at(usize::from(*length).min(rest.len()));
                bodies.push(body);
                data = rest;
            }
        }
    }
}

fn open(path: &Path) -> Result<EmbeddedBroker, channelapi_core::broker::OpenError> {
    let retention = Retention { messages: usize::MAX, age: u64::MAX, bytes: u64::MAX };
    let policy = Policy { durability: Durability::Fsync, retention, replay_on_join: 0 };
    let policies = Policies::new(Vec::new(), policy);
    let settings = StoreSettings { ahead_bytes: 0, ..StoreSettings::default() };
    let cursors = CursorKey::from_secret(&[1; 32]);
    EmbeddedBroker::open(path, Arc::new(Nobody), Clock::manual(1_000), policies, settings, cursors)
}

/// One that the seeds know, too.
fn channel() -> ChannelName {
    ChannelName::parse("c").expect("it is a name")
}

/// Publishes, if the log has not come to its end.
fn publish(broker: &EmbeddedBroker) -> bool {
    let request = PublishRequest {
        channel: channel(),
        event: EventName::default(),
        data: Bytes::from_static(b"1"),
        expires_at: 0,
        idempotency_key: None,
    };
    match runtime().block_on(broker.publish(request)) {
        Err(PublishError::NotStored(why)) if why.contains("no sequence left") => false,
        published => published.map(|_| true).expect("what can be opened can be written"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made")
}

fn history(broker: &EmbeddedBroker) -> Vec<(u64, Bytes)> {
    let query = HistoryQuery { after: 0, before: u64::MAX, limit: 1000, is_reverse: false };
    let page = broker.history(&channel(), query).expect("what can be opened can be read");
    let kept = page.publications.iter().map(|publication| {
        let kept = publication.kept.expect("history is what is kept");
        (kept.position.offset, publication.data.clone())
    });
    kept.collect()
}
