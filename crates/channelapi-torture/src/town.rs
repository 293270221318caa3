//! The crowd of the scenarios: which channels there are, who publishes to them, and what kinds of clients listen.

use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::Result;

use crate::client::{Plan, Ticket};
use crate::crowd::{Crowd, tickets};
use crate::history::{Channel, ChannelId, Door};
use crate::link::Transport;
use crate::publisher::Route;
use crate::site::Site;

/// So few that clients who stay away for a second come back too late.
const TRIMMED_KEEPS: u64 = 200;

pub(crate) const PLAIN: [ChannelId; 4] = [ChannelId(0), ChannelId(1), ChannelId(2), ChannelId(3)];
const TRIMMED: ChannelId = ChannelId(4);
/// Most of what is published there has a time to live.
const EXPIRING: ChannelId = ChannelId(5);
/// Purged now and then, by the only one who publishes there.
pub(crate) const PURGED: ChannelId = ChannelId(6);
/// The last one: there are crowds without it.
const MEMORY: ChannelId = ChannelId(7);

/// Clients that stay as long as the server does.
pub(crate) const STEADY: [&str; 9] =
    ["one", "two", "all", "meta", "polling", "explicit", "stream", "seed", "seed-polling"];
/// Clients that come back several times a second.
pub(crate) const RESTLESS: [&str; 1] = ["flaky"];

/// Says little, and keeps everything for as long as a run takes.
pub(crate) const KEEPS_ALL: &str = r#"[log]
level = "warn"

[history]
max_messages = 1000000
max_age = "24h"
max_bytes = "4GiB"
"#;

/// Keeps everything in the plain channels for as long as a run takes.
pub(crate) fn configuration() -> String {
    format!(
        r#"{KEEPS_ALL}
[[policy]]
match = "trimmed-*"
history = {{ max_messages = {TRIMMED_KEEPS}, max_age = "24h", max_bytes = "64MiB" }}

[[policy]]
match = "memory-*"
durability = "memory"
history = {{ max_messages = 1000000, max_age = "24h", max_bytes = "4GiB" }}
"#
    )
}

pub(crate) fn channels() -> Vec<Channel> {
    let channel = |name: String, durable, max_messages| Channel { name, durable, max_messages };
    let mut channels: Vec<_> =
        (0..PLAIN.len()).map(|index| channel(format!("plain-{index}"), true, None)).collect();
    channels.push(channel("trimmed-0".to_owned(), true, Some(TRIMMED_KEEPS)));
    channels.push(channel("expiring-0".to_owned(), true, None));
    channels.push(channel("purged-0".to_owned(), true, None));
    channels.push(channel("memory-0".to_owned(), false, None));
    channels
}

pub(crate) async fn gather(site: &Arc<Site>, seed: u64) -> Result<Crowd> {
    gather_in(site, seed, channels(), true).await
}

/// Without the channel that is kept in memory, which may have to make room for others.
pub(crate) async fn gather_on_disk(site: &Arc<Site>, seed: u64) -> Result<Crowd> {
    let mut channels = channels();
    channels.retain(|channel| channel.durable);
    gather_in(site, seed, channels, true).await
}

/// Nothing has a time to live: it would be over when a clock says so that jumps.
pub(crate) async fn gather_without_ends(site: &Arc<Site>, seed: u64) -> Result<Crowd> {
    gather_in(site, seed, channels(), false).await
}

async fn gather_in(site: &Arc<Site>, seed: u64, channels: Vec<Channel>, ends: bool) -> Result<Crowd> {
    let tickets = tickets(site, &channels).await?;
    let mut crowd = Crowd::gather(Arc::clone(site), channels, plans(&tickets), seed).await?;
    let mut all: Vec<_> = tickets.iter().map(|ticket| ticket.channel).collect();
    all.retain(|channel| *channel != PURGED);
    // A memory channel forgets its keys with everything else, so nobody relies on them there.
    let durable: Vec<_> = all.iter().copied().filter(|channel| *channel != MEMORY).collect();
    let (all, durable) = (&all[..], &durable[..]);
    for (route, channels) in [
        (Route::Single, all),
        (Route::Single, all),
        (Route::Single, &PLAIN[..1]),
        (Route::Keyed, durable),
        (Route::Keyed, durable),
        (Route::Keyed, &PLAIN[..1]),
        (Route::Batch, all),
        (Route::Seed, durable),
        (Route::Purging, &[PURGED]),
    ] {
        crowd.publish(route, channels, seed);
    }
    if ends {
        crowd.publish(Route::Expiring, &[EXPIRING], seed);
    }
    Ok(crowd)
}

fn plans(tickets: &[Ticket]) -> Vec<Plan> {
    let plan = |name: &str, door, transport, channels: &[ChannelId]| Plan {
        name: name.to_owned(),
        door,
        transport,
        channels: channels.iter().filter_map(|channel| tickets.get(channel.index()).cloned()).collect(),
        meta: door == Door::Explicit,
        breaks: None,
        away: 0..=0,
        stalls: false,
        confirms: Vec::new(),
        via: None,
    };
    let meta = |plan: Plan| Plan { meta: true, ..plan };
    let confirms = |plan: Plan, channels: &[ChannelId]| Plan { confirms: channels.to_vec(), ..plan };
    let flaky = |plan: Plan, breaks: RangeInclusive<u64>, away| Plan { breaks: Some(breaks), away, ..plan };
    let (socket, polling) = (Transport::WebSocket, Transport::Polling);
    let [one, two, three, four] = PLAIN;
    let all = [one, two, three, four, TRIMMED, EXPIRING, PURGED, MEMORY];
    let mut plans = vec![
        // Stays as long as the server does.
        plan("one", Door::Handshake, socket, &[one]),
        plan("two", Door::Handshake, socket, &[two, three]),
        plan("all", Door::Handshake, socket, &all),
        confirms(meta(plan("meta", Door::Handshake, socket, &all)), &[one, three]),
        plan("polling", Door::Handshake, polling, &[two]),
        // Comes back at once, again and again.
        flaky(plan("flaky", Door::Handshake, socket, &[one]), 5..=300, 0..=0),
        flaky(plan("flaky-all", Door::Handshake, socket, &all), 20..=500, 0..=20),
        flaky(plan("flaky-polling", Door::Handshake, polling, &[one, three]), 20..=500, 0..=20),
        // Gone for a while, and sometimes for longer than the trimmed channel remembers.
        flaky(plan("commuter", Door::Handshake, socket, &[one, TRIMMED, EXPIRING]), 100..=400, 300..=3000),
        flaky(plan("commuter-memory", Door::Handshake, socket, &[four, MEMORY]), 100..=400, 300..=3000),
        flaky(plan("commuter-purged", Door::Handshake, socket, &[one, PURGED]), 20..=400, 0..=500),
        // Keeps its own place.
        plan("explicit", Door::Explicit, socket, &PLAIN),
        flaky(
            confirms(plan("explicit-flaky", Door::Explicit, socket, &[one, MEMORY]), &[one, MEMORY]),
            20..=500,
            0..=500,
        ),
        flaky(
            confirms(plan("explicit-polling", Door::Explicit, polling, &[four]), &[four]),
            50..=900,
            0..=50,
        ),
        // Confirms where messages are gone before it comes back: those that are too many, and those whose time is over.
        flaky(
            confirms(plan("explicit-late", Door::Explicit, socket, &[TRIMMED]), &[TRIMMED]),
            100..=400,
            300..=3000,
        ),
        flaky(
            confirms(plan("explicit-polling-late", Door::Explicit, polling, &[EXPIRING]), &[EXPIRING]),
            100..=900,
            300..=3000,
        ),
        // An `EventSource`, which keeps the last id.
        plan("stream", Door::Stream, socket, &[two]),
        flaky(plan("stream-flaky", Door::Stream, socket, &[one]), 5..=300, 0..=50),
        flaky(plan("explicit-commuter", Door::Explicit, socket, &[EXPIRING]), 100..=400, 300..=3000),
        flaky(plan("explicit-purged", Door::Explicit, socket, &[PURGED]), 20..=500, 0..=500),
        flaky(plan("stream-commuter", Door::Stream, socket, &[TRIMMED]), 100..=400, 300..=3000),
        flaky(plan("stream-purged", Door::Stream, socket, &[PURGED]), 20..=500, 0..=500),
        flaky(plan("stream-expiring", Door::Stream, socket, &[EXPIRING]), 100..=400, 300..=3000),
        flaky(meta(plan("stream-memory", Door::Stream, socket, &[MEMORY])), 100..=400, 0..=500),
        // Live only, as ever.
        plan("seed", Door::Seed, socket, &[one]),
        flaky(plan("seed-flaky", Door::Seed, socket, &[two, three]), 50..=500, 0..=100),
        plan("seed-polling", Door::Seed, polling, &[four]),
    ];
    // Where there are fewer channels, some have nowhere to go.
    plans.retain(|plan| !plan.channels.is_empty());
    for Plan { channels, confirms, .. } in &mut plans {
        confirms.retain(|confirmed| channels.iter().any(|ticket| ticket.channel == *confirmed));
    }
    plans
}
