//! Two honest clients, one on each transport, that hear ten publications a second while the attacks go on. Whatever an
//! attacker does, they miss nothing, hear nothing else, and hear it in time.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::http::{Http, Request};
use crate::link::{Link, Transport};
use crate::packet::Packet;
use crate::server::AUTH_KEY;

const CHANNEL: &str = "control";
const INTERVAL: Duration = Duration::from_millis(100);
/// For so long nobody attacks, so that it is known how fast this machine is now.
const QUIET: Duration = Duration::from_secs(2);
/// How many times the slowest of that time something may take under attack.
const SLOWER_MAX: u32 = 20;
/// What it may take at least, and at most: a machine that also builds software is slow at times, which a short time need not show.
const LATENCY: RangeInclusive<Duration> = Duration::from_secs(4)..=Duration::from_secs(8);
/// For everything that is on its way when the attacks are over.
const LAST_MAX: Duration = Duration::from_secs(20);

pub(super) struct Control {
    publisher: JoinHandle<Result<usize>>,
    listeners: Vec<JoinHandle<Result<Vec<Duration>>>>,
    /// How much was sent while nobody attacked.
    quiet: usize,
    stop: watch::Sender<bool>,
}

/// When each publication was sent.
type Sent = Arc<Mutex<Vec<Instant>>>;

impl Control {
    /// Returns when both clients have joined, and have heard what was published while nobody attacked.
    pub(super) async fn start(address: SocketAddr, token: &str) -> Result<Self> {
        let sent = Sent::default();
        let (total, _) = watch::channel(None);
        let mut listeners = Vec::new();
        for transport in [Transport::WebSocket, Transport::Polling] {
            let link = join(address, transport, token).await?;
            listeners.push(tokio::spawn(listen(link, Arc::clone(&sent), total.subscribe())));
        }
        let (stop, stopped) = watch::channel(false);
        let publisher = tokio::spawn(publish(address, Arc::clone(&sent), stopped, total));
        sleep(QUIET).await;
        let quiet = sent.lock().unwrap_or_else(PoisonError::into_inner).len();
        Ok(Self { publisher, listeners, quiet, stop })
    }

    /// Stops publishing and waits until everything was heard. Returns how much that was, and the longest time it took.
    pub(super) async fn finish(self) -> Result<(usize, Duration)> {
        self.stop.send_replace(true);
        let count = timeout(LAST_MAX, self.publisher).await.context("the publisher hangs")???;
        let (mut in_quiet, mut slowest) = (Duration::ZERO, Duration::ZERO);
        for listener in self.listeners {
            let heard = timeout(LAST_MAX, listener).await;
            let heard = heard.context("an honest client did not hear everything")???;
            ensure!(self.quiet > 0 && heard.len() >= self.quiet, "hardly anything was published");
            let (quiet, attacked) = heard.split_at(self.quiet);
            in_quiet = quiet.iter().copied().fold(in_quiet, Duration::max);
            slowest = attacked.iter().copied().fold(slowest, Duration::max);
        }
        let may_take = (in_quiet * SLOWER_MAX).clamp(*LATENCY.start(), *LATENCY.end());
        ensure!(
            slowest <= may_take,
            "an honest client heard something after {slowest:?}, and after {in_quiet:?} at most while nobody attacked"
        );
        Ok((count, slowest))
    }
}

async fn join(address: SocketAddr, transport: Transport, token: &str) -> Result<Link> {
    let mut link = Link::connect(address, transport).await?;
    link.send(&format!("0{}", json!({ "token": token, "resume": false }))).await?;
    loop {
        let packet = link.receive().await?;
        if packet.is_some_and(|packet| packet.starts_with(r#"2["clientevent""#)) {
            return Ok(link);
        }
    }
}

/// Publishes numbers, the first of which is 0.
async fn publish(
    address: SocketAddr,
    sent: Sent,
    mut stopped: watch::Receiver<bool>,
    total: watch::Sender<Option<usize>>,
) -> Result<usize> {
    let mut http = Http::connect(address).await?;
    let headers = format!("Authorization: {AUTH_KEY}\r\nContent-Type: application/json\r\n");
    let path = format!("/message/{CHANNEL}");
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        let body = format!(r#"{{"message": {number}}}"#);
        let request = Request { method: "POST", path: &path, headers: &headers, body: &body };
        let answer = http.exchange(&request).await?;
        ensure!(
            answer.status == 200,
            "an honest publication was answered {}: {}",
            answer.status,
            answer.body
        );
        number += 1;
    }
    total.send_replace(Some(number));
    Ok(number)
}

/// Hears every number, in order. Returns how long each took.
async fn listen(
    mut link: Link,
    sent: Sent,
    mut total: watch::Receiver<Option<usize>>,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    loop {
        let heard = took.len();
        if total.borrow_and_update().is_some_and(|total| total == heard) {
            return Ok(took);
        }
        let packet = tokio::select! {
            packet = link.receive() => packet.context("an honest client was disturbed")?,
            _ = total.changed() => continue,
        };
        let Some(packet) = packet else { continue };
        match Packet::parse(&packet)? {
            Packet::Event(event) if event[..] == [json!("message"), json!(heard)] => {
                let sent = sent.lock().unwrap_or_else(PoisonError::into_inner)[heard];
                took.push(sent.elapsed());
            }
            _ => bail!("an honest client expected the message {heard} and heard {packet:?}"),
        }
    }
}

/// The channel of the honest.
pub(super) fn channel() -> &'static str {
    CHANNEL
}
