//! Clients that do not read while a hundred thousand messages go to their channel.
//!
//! The server runs twice under the same load, with and without them: what they cost is the difference.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Orders, Report, no_doubts, open};
use crate::client::Plan;
use crate::crowd::{Crowd, tickets};
use crate::history::{Channel, ChannelId, Door, Event, History, MessageId, Time};
use crate::link::Transport;
use crate::publisher::{Publisher, Route, Target};
use crate::town;

const MESSAGES: u64 = 100_000;
const BATCH: u64 = 500;
const SLOW_CLIENTS: u32 = 16;
/// One in so many of them polls.
const POLLING: u32 = 4;

/// What one slow client may have waiting in the server's memory.
const OUTBOX: i64 = 1 << 20;
/// Two runs of the same load never take quite the same memory.
const NOISE: i64 = 2 << 20;
/// Nor the same time, above all on a machine that has other things to do. A server that waits for slow clients does so for seconds.
const LATENCY_FACTOR: u32 = 2;
const LATENCY_NOISE: Duration = Duration::from_secs(1);

struct Outcome {
    growth: i64,
    /// 99 of 100 messages reached the reader within this time after they were accepted.
    latency: Duration,
}

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    let mut report = Report::new();
    let mut lines = Vec::new();
    for cycle in 0..orders.cycles {
        let seed = orders.seed + u64::from(cycle);
        let without = measure(orders, 0, seed, &mut report).await?;
        let with = measure(orders, SLOW_CLIENTS, seed, &mut report).await?;
        lines.push(format!(
            "{SLOW_CLIENTS} slow clients cost {} KiB, the others' p99 went from {:?} to {:?}",
            (with.growth - without.growth) >> 10,
            without.latency,
            with.latency
        ));
        let line = lines.last().map_or("", String::as_str);
        let allowed = OUTBOX * i64::from(SLOW_CLIENTS) + NOISE;
        ensure!(with.growth - without.growth <= allowed, "slow: {line}, {} KiB are allowed", allowed >> 10);
        let in_time = with.latency <= without.latency * LATENCY_FACTOR + LATENCY_NOISE;
        ensure!(in_time, "slow: {line}, so others noticed");
    }
    println!("{}", lines.join("\n"));
    report.close(&format!("slow: {} times {MESSAGES} messages", orders.cycles * 2))
}

async fn measure(orders: &Orders, slow: u32, seed: u64, report: &mut Report) -> Result<Outcome> {
    let (server, site) = open(&orders.binary, &town::configuration()).await?;
    let channels = vec![Channel { name: "busy".to_owned(), durable: true, max_messages: None }];
    let tickets = tickets(&site, &channels).await?;
    let plan = |name: String, transport, stalls| Plan {
        name,
        door: Door::Handshake,
        transport,
        channels: tickets.clone(),
        meta: false,
        breaks: None,
        away: 0..=0,
        stalls,
        confirms: Vec::new(),
        via: None,
    };
    let reader = plan("reader".to_owned(), Transport::WebSocket, false);
    let slow = (0..slow).map(|number| {
        let polls = number % POLLING == 0;
        let transport = if polls { Transport::Polling } else { Transport::TightWebSocket };
        plan(format!("slow-{number}"), transport, true)
    });
    let plans = std::iter::once(reader).chain(slow);
    let mut crowd = Crowd::gather(Arc::clone(&site), channels, plans.collect(), seed).await?;

    site.change(|situation| situation.stall = true);
    let before = server.memory()?;
    let mut peak = before;
    let target = Target { channel: ChannelId(0), name: "busy".to_owned() };
    let mut publisher = Publisher::new(0, Route::Batch, vec![target.clone()], Arc::clone(&site), seed);
    for _ in 0..MESSAGES / BATCH {
        publisher.publish_batch(&target, BATCH).await?;
        peak = peak.max(server.memory()?);
        crowd.complain().await?;
    }
    let mut history = crowd.disperse().await?;
    history.publishes.extend(publisher.into_log());
    no_doubts(&history)?;
    report.add(&history, &server).await?;
    Ok(Outcome { growth: i64::try_from(peak - before)?, latency: latency(&history, "reader") })
}

/// 99 of 100 messages reached a client within this time after they were accepted.
pub(super) fn latency(history: &History, name: &str) -> Duration {
    let accepted: HashMap<MessageId, Time> = history
        .publishes
        .iter()
        .filter_map(|publish| Some((publish.id, publish.answers().first()?.at)))
        .collect();
    let client = history.clients.iter().find(|client| client.name == name);
    let entries = client.into_iter().flat_map(|client| &client.events);
    let mut late: Vec<_> = entries
        .filter_map(|entry| match &entry.event {
            Event::Delivered(delivered) => Some(entry.at.0.saturating_sub(accepted.get(&delivered.id)?.0)),
            _ => None,
        })
        .collect();
    late.sort_unstable();
    late.get(late.len() * 99 / 100).copied().unwrap_or_default()
}
