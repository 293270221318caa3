//! The log's figures on this machine: time per publication, time to open, memory per publication.
//!
//! ```text
//! cargo run --release -p channelapi-core --example log_figures -- <directory> [publications] [channels] [publishers]
//! ```

use bytes::Bytes;
use channelapi_core::broker::{CursorKey, EmbeddedBroker, PublicationSink, PublishRequest, StoreSettings};
use channelapi_core::clock::Clock;
use channelapi_core::model::{ChannelName, Durability, EventName, Policies, Policy, Publication, Retention};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Nobody listens.
struct Nobody;

impl PublicationSink for Nobody {
    fn deliver(&self, publication: Publication) {
        drop(publication);
    }
}

/// Publishers that wait at the same time, unless another number is given.
const PUBLISHERS: usize = 64;

fn open(path: &Path) -> EmbeddedBroker {
    let retention = Retention { messages: 1000, age: 24 * 3_600_000, bytes: 4 << 20 };
    let policy = Policy { durability: Durability::Fsync, retention, replay_on_join: 0 };
    let policies = Policies::new(Vec::new(), policy);
    let cursors = CursorKey::from_secret(&[1; 32]);
    EmbeddedBroker::open(path, Arc::new(Nobody), Clock::system(), policies, StoreSettings::default(), cursors)
        .expect("the log opens")
}

/// Bytes of memory in use, and seconds of processor time so far.
fn usage() -> (u64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap_or_default();
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
    let mut busy = 0.0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let times = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        if name.trim() == "log-writer" {
            let nanos = times.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
            busy += nanos.unwrap_or(0.0) / 1e9;
        }
    }
    (kilobytes * 1024, busy)
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("name a directory that may be filled");
    let mut number = |otherwise| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (publications, channels): (usize, usize) = (number(1_000_000), number(100_000));
    let publishers_count = number(PUBLISHERS);
    let path = Path::new(&path);
    let broker = Arc::new(open(path));
    if broker.size().1 == 0 {
        let names: Arc<Vec<ChannelName>> = Arc::new(
            (0..channels)
                .map(|number| ChannelName::parse(&format!("user-{number}")).expect("it is a name"))
                .collect(),
        );
        let data = Bytes::from(format!("\"{}\"", "x".repeat(198)));
        let started = Instant::now();
        let publishers: Vec<_> = (0..publishers_count)
            .map(|first| {
                let (broker, names, data) = (broker.clone(), names.clone(), data.clone());
                tokio::spawn(async move {
                    for number in (first..publications).step_by(publishers_count) {
                        let channel = names[number.wrapping_mul(7_919) % names.len()].clone();
                        let event = EventName::default();
                        let request = PublishRequest {
                            channel,
                            event,
                            data: data.clone(),
                            expires_at: 0,
                            idempotency_key: None,
                        };
                        broker.publish(request).await.expect("it is stored");
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.await.expect("a publisher ends");
        }
        let seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
        let count = publications as f64;
        let (_, busy) = usage();
        println!(
            "published {publications} in {seconds:.2} s, {:.2} µs of the writer's time each",
            busy * 1e6 / count
        );
    }
    drop(broker);
    let (before, _) = usage();
    let started = Instant::now();
    let broker = open(path);
    let opened = started.elapsed();
    let (after, _) = usage();
    let (channels, publications) = broker.size();
    println!("opened {publications} publications of {channels} channels in {opened:?}");
    println!("memory: {before} bytes before, {after} bytes after; run it again for a fresh process");
}
