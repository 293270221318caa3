//! A container with little memory is flooded with publications, with clients that read nothing, with requests and messages that are not
//! sent to their end, and with connections that rest behind a request: what is too much is refused, the kernel never has to end the server, and those who mean it well lose nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Orders, Report};
use crate::cgroup::Cgroup;
use crate::http::{Http, Request};
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::town;
use crate::websocket::WebSocket;

const MEMORY: u64 = 128 << 20;
/// What is kept in memory, as much as there is.
const FLOOD: &str = "flood";
const POLICY: &str = "\n[[policy]]\nmatch = \"flood\"\ndurability = \"memory\"\nhistory = { max_messages = 1000000, max_age = \"24h\", max_bytes = \"4GiB\" }\n";
const DATA_BYTES: usize = 200_000;
const PUBLISHERS: usize = 4;
/// Of each kind that reads nothing.
const DEAF: usize = 60;
/// Of each kind that does not send what it began.
const HOARDERS: usize = 60;
/// How long it is held. A server gives them ten seconds.
const HOARD_FOR: Duration = Duration::from_millis(900);
/// Bytes that a publisher announces, and sends all but one of.
const BODY_BYTES: usize = 1_000_000;
/// The same of a client's message.
const MESSAGE_BYTES: u16 = 60_000;
/// Connections that ask for something once and stay. They have headers that are remembered as long as the connection is.
const RESTING: usize = 2_000;
/// For them, on a machine that has other things to do.
const REST_MAX: Duration = Duration::from_secs(30);
/// Addresses that they come from, so that none of them is told that it has too many.
const NEIGHBOURS: usize = 2;
const REST_FOR: Duration = Duration::from_secs(3);
const HEADER_BYTES: usize = 8_000;
/// Long enough for much to wait for them.
const DEAF_FOR: Duration = Duration::from_millis(700);
/// So many at once would be a flood of connections alone.
const REST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);
const CALM_MAX: Duration = Duration::from_secs(30);

const RESTS_ENDED: &str = "channelapi_http_rests_ended_total{reason=\"memory\"}";
const OVERLOADED: &str = "channelapi_requests_refused_total{reason=\"overloaded\"}";

/// What became of the flood.
#[derive(Default)]
struct Flood {
    stored: AtomicU64,
    refused: AtomicU64,
    opened: AtomicU64,
    turned_away: AtomicU64,
    hoarded: AtomicU64,
    rested: AtomicU64,
}

pub(crate) async fn run(orders: &Orders, seconds: u64) -> Result<()> {
    let mut report = Report::new();
    for cycle in 0..orders.cycles {
        round(orders, orders.seed + u64::from(cycle), Duration::from_secs(seconds), &mut report).await?;
    }
    report.close(&format!("short-memory: {} floods of {seconds} s", orders.cycles))
}

async fn round(orders: &Orders, seed: u64, length: Duration, report: &mut Report) -> Result<()> {
    let group = Cgroup::make(MEMORY)?;
    let mut server = Server::prepare(&orders.binary, &(town::configuration() + POLICY))?;
    server.wrapper = group.wrapper();
    server.start().await?;
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    let token = token(&site).await?;
    let mut crowd = town::gather_on_disk(&site, seed).await?;

    let flood = Arc::new(Flood::default());
    let mut floods = JoinSet::new();
    for _ in 0..PUBLISHERS {
        floods.spawn(publish(Arc::clone(&site), Arc::clone(&flood)));
    }
    for index in 0..2 * DEAF {
        floods.spawn(be_deaf(Arc::clone(&site), token.clone(), index % 2 == 0, Arc::clone(&flood)));
    }
    for index in 0..2 * HOARDERS {
        floods.spawn(hoard(Arc::clone(&site), index % 2 == 0, Arc::clone(&flood)));
    }
    for index in 0..RESTING {
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(index % NEIGHBOURS)?);
        floods.spawn(rest(Arc::clone(&site), from, Arc::clone(&flood)));
    }
    let (began, mut peak) = (Instant::now(), 0);
    let rested = || flood.rested.load(Ordering::Relaxed) >= RESTING as u64;
    while began.elapsed() < length || (!rested() && began.elapsed() < length + REST_MAX) {
        crowd.complain().await.context("while memory was short")?;
        ensure!(!server.has_ended()?, "the server ended; it said:\n{}", server.log());
        peak = peak.max(group.usage()?);
        sleep(PAUSE).await;
    }
    let alive = timeout(PATIENCE, Http::connect(site.address)).await.context("no connection any more");
    drop(alive??);
    floods.shutdown().await;
    ensure!(group.kills()? == 0, "the kernel ended the server");

    let calm = Instant::now();
    delete(&site).await?;
    while get(&site, "/readyz").await? != 200 {
        ensure!(calm.elapsed() < CALM_MAX, "it is not ready {CALM_MAX:?} after the flood");
        sleep(PAUSE).await;
    }
    let ready_after = calm.elapsed();
    let history = crowd.disperse().await?;
    report.add(&history, &server).await?;
    ensure!(group.kills()? == 0, "the kernel ended the server");
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let page = server.metrics().await?;
    let metric = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)).unwrap_or(" ?").trim();
    println!(
        "of the flood {} messages were stored and {} refused, {} clients came and {} were turned away; {} hoarders, of which {} requests and {} clients were turned away; {} answers were given up; {} connections came to rest, and {} of them were ended; \
         at most {} of {} MiB were used, and all was well {} ms after it",
        count(&flood.stored),
        count(&flood.refused),
        count(&flood.opened),
        count(&flood.turned_away),
        count(&flood.hoarded),
        metric(OVERLOADED),
        metric("channelapi_disconnects_total{reason=\"memory\"}"),
        metric("channelapi_answers_given_up_total"),
        count(&flood.rested),
        metric(RESTS_ENDED),
        peak >> 20,
        MEMORY >> 20,
        ready_after.as_millis()
    );
    ensure!(
        metric(OVERLOADED).parse::<u64>().is_ok_and(|refused| refused > 0),
        "nobody who hoards was refused"
    );
    ensure!(count(&flood.rested) >= RESTING as u64, "connections could not come to rest");
    ensure!(count(&flood.stored) > 0, "nothing was taken at all");
    server.stop().await
}

/// Publishes what is kept in memory, as much as the server takes.
async fn publish(site: Arc<Site>, flood: Arc<Flood>) {
    let path = format!("/v1/channels/{FLOOD}/messages");
    let body = json!({ "data": "x".repeat(DATA_BYTES) }).to_string();
    loop {
        let headers = site.authorization();
        let request = Request { method: "POST", path: &path, headers: &headers, body: &body };
        let answered = async { Http::connect(site.address).await?.exchange(&request).await };
        match timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) if answer.status == 201 => flood.stored.fetch_add(1, Ordering::Relaxed),
            Ok(Ok(_)) => flood.refused.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        sleep(PAUSE).await;
    }
}

/// Joins and reads nothing, for as long as it is let, and comes again.
async fn be_deaf(site: Arc<Site>, token: String, polls: bool, flood: Arc<Flood>) {
    loop {
        let joined = timeout(PATIENCE, join(&site, &token, polls)).await;
        match joined {
            Ok(Ok(deaf)) => {
                flood.opened.fetch_add(1, Ordering::Relaxed);
                sleep(DEAF_FOR).await;
                drop(deaf);
            }
            _ => _ = flood.turned_away.fetch_add(1, Ordering::Relaxed),
        }
        sleep(PAUSE).await;
    }
}

/// Begins what it does not end, for as long as it is let, and comes again.
async fn hoard(site: Arc<Site>, publishes: bool, flood: Arc<Flood>) {
    loop {
        let begun = timeout(PATIENCE, async {
            if publishes { begin_body(&site).await.map(drop) } else { begin_message(&site).await.map(drop) }
        });
        if begun.await.is_ok_and(|begun| begun.is_ok()) {
            flood.hoarded.fetch_add(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

/// Asks for something small with much around it, says nothing more for as long as it is let, and comes again.
async fn rest(site: Arc<Site>, from: Ipv4Addr, flood: Arc<Flood>) {
    let headers = format!("X-Something: {}\r\n", "x".repeat(HEADER_BYTES));
    let request = Request { method: "GET", path: "/healthz", headers: &headers, body: "" };
    loop {
        let asked = async {
            let mut http = Http::connect_from(from, site.address).await?;
            http.exchange(&request).await.map(|_| http)
        };
        if let Ok(Ok(mut http)) = timeout(PATIENCE, asked).await {
            flood.rested.fetch_add(1, Ordering::Relaxed);
            // Nothing more is asked, so what comes is the end.
            _ = timeout(REST_FOR, http.response()).await;
        }
        sleep(REST_PAUSE).await;
    }
}

async fn begin_body(site: &Site) -> Result<()> {
    let mut stream = TcpStream::connect(site.address).await?;
    let head = format!(
        "POST /v1/channels/{FLOOD}/messages HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n{}\r\n",
        site.authorization()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&vec![b'x'; BODY_BYTES - 1]).await?;
    sleep(HOARD_FOR).await;
    Ok(())
}

async fn begin_message(site: &Site) -> Result<()> {
    let mut socket = WebSocket::connect(site.address, true).await?;
    socket.receive().await?;
    // A text, masked with zeros, of which the last byte is missing.
    let head = [&[0x81, 0xFE][..], &MESSAGE_BYTES.to_be_bytes(), &[0; 4]].concat();
    socket.send_bytes(&head).await?;
    socket.send_bytes(&vec![b'x'; usize::from(MESSAGE_BYTES) - 1]).await?;
    sleep(HOARD_FOR).await;
    Ok(())
}

/// Kept, so that it stays open.
#[expect(dead_code, reason = "nobody reads, that is the point")]
enum Deaf {
    Socket(WebSocket),
    Poll(Http),
}

async fn join(site: &Site, token: &str, polls: bool) -> Result<Deaf> {
    let entry = format!("40{}", json!({ "token": token }));
    if !polls {
        let mut socket = WebSocket::connect(site.address, true).await?;
        socket.receive().await?;
        socket.send(&entry).await?;
        ensure!(socket.receive().await?.starts_with("40"), "it was not let in");
        return Ok(Deaf::Socket(socket));
    }
    let mut http = Http::connect(site.address).await?;
    let path = "/socket.io/?EIO=4&transport=polling";
    let open = http.exchange(&Request { method: "GET", path, headers: "", body: "" }).await?;
    let open: Value = serde_json::from_str(open.body.trim_start_matches('0'))?;
    let path = format!("{path}&sid={}", open["sid"].as_str().context("no sid")?);
    let poll = Request { method: "GET", path: &path, headers: "", body: "" };
    http.exchange(&Request { method: "POST", path: &path, headers: "", body: &entry }).await?;
    let greeting = http.exchange(&poll).await?.body;
    ensure!(greeting.starts_with("40"), "it was not let in");
    // Something is there by then.
    sleep(Duration::from_millis(300)).await;
    http.send(&poll).await?;
    Ok(Deaf::Poll(http))
}

async fn token(site: &Site) -> Result<String> {
    let (path, headers) = (format!("/channel/{FLOOD}"), site.authorization());
    let request = Request { method: "POST", path: &path, headers: &headers, body: "" };
    let answer = Http::connect(site.address).await?.exchange(&request).await?;
    let answer: Value = serde_json::from_str(&answer.body)?;
    Ok(answer["token"].as_str().context("no token")?.to_owned())
}

async fn delete(site: &Site) -> Result<()> {
    let (path, headers) = (format!("/v1/channels/{FLOOD}/messages"), site.authorization());
    let request = Request { method: "DELETE", path: &path, headers: &headers, body: "" };
    let answer = Http::connect(site.address).await?.exchange(&request).await?;
    ensure!(answer.status == 200, "the flood could not be removed: {} {}", answer.status, answer.body);
    Ok(())
}

async fn get(site: &Site, path: &str) -> Result<u16> {
    let request = Request { method: "GET", path, headers: "", body: "" };
    Ok(Http::connect(site.address).await?.exchange(&request).await?.status)
}
