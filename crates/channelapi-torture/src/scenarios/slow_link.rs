//! Clients behind links that pass little, and at times nothing: they get everything, in order, on the connections that they have, and
//! nobody else notices.
//!
//! The server runs twice under the same load, with and without them: what they cost is the difference.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use super::slow::latency;
use super::{Orders, Report, no_doubts, open};
use crate::choices::Choices;
use crate::client::Plan;
use crate::crowd::{Crowd, tickets};
use crate::history::{Channel, ChannelId, Door, Event, History};
use crate::link::Transport;
use crate::publisher::{Publisher, Route, Target};
use crate::relay::Relay;
use crate::town;

/// More than all buffers on the way take, and what waits in the server's memory.
const MESSAGES: u64 = 4_000;
/// What they take on their way to one client.
const BYTES_MAX: u64 = 2 << 20;
const BATCH: u64 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Over a line of 64 kbit/s clients with the usual 20 seconds for an answer stay, and others have as many bytes of time.
const TIMEOUT_BYTES: u64 = 20 * (8 << 10);
/// A machine that has other things to do takes its time, too.
const TIMEOUT_MIN: Duration = Duration::from_secs(4);

/// What one slow client may have waiting in the server's memory, and a page of history on its way there.
const OUTBOX: i64 = 1 << 20;
/// Two runs of the same load never take quite the same memory.
const NOISE: i64 = 6 << 20;
/// Nor the same time, above all on a machine that has other things to do. A server that waits for slow clients does so for seconds.
const LATENCY_FACTOR: u32 = 2;
const LATENCY_NOISE: Duration = Duration::from_secs(1);
/// A link that nobody had to wait for was not slow.
const SLOW: Duration = Duration::from_secs(2);

/// Who is behind a slow link.
const SLOW_CLIENTS: [(&str, Door, Transport, bool); 5] = [
    ("slow", Door::Handshake, Transport::WebSocket, false),
    ("slow-meta", Door::Handshake, Transport::WebSocket, true),
    ("slow-polling", Door::Handshake, Transport::Polling, false),
    ("slow-explicit", Door::Explicit, Transport::WebSocket, true),
    ("slow-seed", Door::Seed, Transport::WebSocket, false),
];

struct Outcome {
    growth: i64,
    /// 99 of 100 messages reached the reader within this time after they were accepted.
    latency: Duration,
    /// The same of the slow client that was the quickest.
    slowest: Duration,
    passed: u64,
}

/// `rate`: bytes a second of each link.
pub(crate) async fn run(orders: &Orders, rate: u64) -> Result<()> {
    let mut report = Report::new();
    for cycle in 0..orders.cycles {
        let seed = orders.seed + u64::from(cycle);
        let without = measure(orders, 0, seed, rate, &mut report).await?;
        let with = measure(orders, SLOW_CLIENTS.len(), seed, rate, &mut report).await?;
        let line = format!(
            "{} clients at {} KiB/s got {} KiB, up to {:?} later; they cost {} KiB, the others' p99 went from {:?} to {:?}",
            SLOW_CLIENTS.len(),
            rate >> 10,
            with.passed >> 10,
            with.slowest,
            (with.growth - without.growth) >> 10,
            without.latency,
            with.latency
        );
        println!("{line}");
        let allowed = OUTBOX * i64::try_from(SLOW_CLIENTS.len())? + NOISE;
        ensure!(
            with.growth - without.growth <= allowed,
            "slow-link: {line}, {} KiB are allowed",
            allowed >> 10
        );
        let in_time = with.latency <= without.latency * LATENCY_FACTOR + LATENCY_NOISE;
        ensure!(in_time, "slow-link: {line}, so others noticed");
        ensure!(with.slowest >= SLOW, "slow-link: {line}, which is not slow");
    }
    report.close(&format!("slow-link: {} times {MESSAGES} messages", orders.cycles * 2))
}

async fn measure(orders: &Orders, slow: usize, seed: u64, rate: u64, report: &mut Report) -> Result<Outcome> {
    let (server, site) = open(&orders.binary, &(town::configuration() + &heartbeat(rate))).await?;
    let channels = vec![Channel { name: "busy".to_owned(), durable: true, max_messages: None }];
    let tickets = tickets(&site, &channels).await?;
    let plan = |name: &str, door, transport, meta| Plan {
        name: name.to_owned(),
        door,
        transport,
        channels: tickets.clone(),
        meta,
        breaks: None,
        away: 0..=0,
        stalls: false,
        confirms: Vec::new(),
        via: None,
    };
    let mut plans = vec![plan("reader", Door::Handshake, Transport::WebSocket, false)];
    let mut links = Vec::new();
    for (name, door, transport, meta) in SLOW_CLIENTS.into_iter().take(slow) {
        let link = Relay::open(server.address, rate, Choices::new(seed, name)).await?;
        plans.push(Plan { via: Some(link.address), ..plan(name, door, transport, meta) });
        links.push(link);
    }
    let mut crowd = Crowd::gather(Arc::clone(&site), channels, plans, seed).await?;
    crowd.patience += Duration::from_secs(BYTES_MAX / rate);

    let before = server.memory()?;
    let mut peak = before;
    let target = Target { channel: ChannelId(0), name: "busy".to_owned() };
    let mut publisher = Publisher::new(0, Route::Batch, vec![target.clone()], Arc::clone(&site), seed);
    for _ in 0..MESSAGES / BATCH {
        publisher.publish_batch(&target, BATCH).await?;
        peak = peak.max(server.memory()?);
        crowd.complain().await?;
        sleep(PAUSE).await;
    }
    let mut history = crowd.disperse().await?;
    peak = peak.max(server.memory()?);
    history.publishes.extend(publisher.into_log());
    no_doubts(&history)?;
    stayed(&history, &server.metrics().await?)?;
    report.add(&history, &server).await?;
    let slowest = SLOW_CLIENTS.iter().take(slow).map(|(name, ..)| latency(&history, name)).min();
    Ok(Outcome {
        growth: i64::try_from(peak)? - i64::try_from(before)?,
        latency: latency(&history, "reader"),
        slowest: slowest.unwrap_or_default(),
        passed: links.iter().map(Relay::passed).sum(),
    })
}

fn heartbeat(rate: u64) -> String {
    let timeout = TIMEOUT_MIN.max(Duration::from_millis(1_000 * TIMEOUT_BYTES / rate)).as_millis();
    format!("\n[socketio]\nping_interval = \"1s\"\nping_timeout = \"{timeout}ms\"\n")
}

/// A link that is slow is no reason to come back on another connection, which would be as slow.
fn stayed(history: &History, metrics: &str) -> Result<()> {
    for client in &history.clients {
        let is_connected = |event: &Event| matches!(event, Event::Connected(_));
        let count = client.events.iter().filter(|entry| is_connected(&entry.event)).count();
        let ends = || {
            metrics
                .lines()
                .filter(|line| line.starts_with("channelapi_disconnects_total") && !line.ends_with(" 0"))
        };
        let ended = || ends().collect::<Vec<_>>().join(", ");
        ensure!(count == 1, "{} connected {count} times: {}", client.name, ended());
    }
    history.clients.first().map(drop).context("there are no clients")
}
