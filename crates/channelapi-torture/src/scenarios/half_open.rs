//! A link goes down: a thousand clients vanish without a word, and their sockets stay open at both ends.
//!
//! Everything takes place in a network of its own, where the clients' address leads nowhere from one moment on.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::Orders;
use crate::http::{Http, Request};
use crate::link::{Link, Transport};
use crate::machine::{run as run_program, seclude_network, skipped};
use crate::server::{AUTH_KEY, Server};
use crate::websocket::WebSocket;

/// Where the clients are.
const AWAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Of each of four kinds.
const CLIENTS: u64 = 250;
/// The channel in which something happens meanwhile.
const BUSY: &str = "busy";
const QUIET: &str = "quiet";
/// What was written to a client, and not confirmed for so long, tells that it is gone.
const CONFIRMATION: Duration = Duration::from_secs(30);
/// A ping after 25 seconds, and 20 more for its answer.
const HEARTBEAT: Duration = Duration::from_secs(45);
/// The connection that holds a poll was written to with the ping at the latest.
const ALL: Duration = Duration::from_mins(1);
/// What wheels and kernels may be late, on a busy machine.
const LATE: Duration = Duration::from_secs(8);
/// Descriptors for whoever looks.
const NOISE: u64 = 4;
/// What the allocator and the tables keep of a thousand clients that were there.
const MEMORY_NOISE: u64 = 24 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    seclude_network(orders.seed)?;
    run_program("ip", &["link".as_ref(), "set".as_ref(), "lo".as_ref(), "up".as_ref()])
        .map_err(|error| skipped(format!("no network of our own: {error:#}")))?;
    for _ in 0..orders.cycles {
        round(orders).await?;
    }
    Ok(())
}

async fn round(orders: &Orders) -> Result<()> {
    let mut server = Server::prepare(&orders.binary, "[log]\nlevel = \"warn\"\n")?;
    server.start().await?;
    let mut here = Link::connect(server.address, Transport::WebSocket).await?;
    let (busy, quiet) = (token(&server, BUSY).await?, token(&server, QUIET).await?);
    here.send(&format!("0{}", json!({ "token": busy, "resume": false }))).await?;
    let base = descriptors(&server).await?;
    let memory = server.memory()?;

    let (mut sockets, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        sockets.push(websocket(server.address, &busy).await?);
        sockets.push(websocket(server.address, &quiet).await?);
        requests.push(held_poll(server.address, &quiet).await?);
        requests.push(stream(server.address).await?);
    }
    let crowded = descriptors(&server).await?;
    ensure!(crowded >= base + 4 * CLIENTS, "there are only {crowded} descriptors");
    let peak = server.memory()?;

    go_away()?;
    let began = Instant::now();
    let honest = tokio::spawn(hear(here));
    publish(&server).await?;
    let lost =
        until(&server, r#"channelapi_disconnects_total{reason="lost"}"#, began, |lost| lost >= CLIENTS)
            .await?;
    // Some of them had not confirmed the last thing yet that was written to them before, and are lost, too.
    let silent = until(&server, "channelapi_connections", began, |here| here <= 1).await?;
    let timed_out = metric(&server, r#"channelapi_disconnects_total{reason="ping_timeout"}"#).await?;
    ensure!(timed_out > CLIENTS, "only {timed_out} clients did not answer a ping");
    while descriptors(&server).await? > base + NOISE {
        ensure!(began.elapsed() < ALL + LATE, "{} descriptors are left", descriptors(&server).await? - base);
        sleep(Duration::from_millis(250)).await;
    }
    let all = began.elapsed();
    for (what, took, expected) in
        [("written to", lost, CONFIRMATION), ("silent", silent, HEARTBEAT), ("the last", all, ALL)]
    {
        ensure!(took < expected + LATE, "{what} were gone after {took:?} instead of {expected:?}");
    }
    // What is free is given back within a second or two.
    let given_up = Instant::now() + PATIENCE;
    while server.memory()? > memory + MEMORY_NOISE {
        ensure!(Instant::now() < given_up, "{} MiB are kept of them", (server.memory()? - memory) >> 20);
        sleep(Duration::from_millis(250)).await;
    }
    publish(&server).await?;
    timeout(PATIENCE, honest).await.context("the client that was not away heard nothing")???;
    println!(
        "half-open: of {} clients behind a dead link, those that were written to were gone after {:.0} s, silent ones after {:.0} s, \
         the last socket after {:.0} s; memory went from {} over {} to {} MiB",
        4 * CLIENTS,
        lost.as_secs_f64(),
        silent.as_secs_f64(),
        all.as_secs_f64(),
        memory >> 20,
        peak >> 20,
        server.memory()? >> 20
    );
    drop((sockets, requests));
    come_back()?;
    server.stop().await
}

/// From now on nothing reaches the clients, and nothing of theirs arrives.
fn go_away() -> Result<()> {
    route("add")
}

fn come_back() -> Result<()> {
    route("del")
}

fn route(what: &str) -> Result<()> {
    let place = format!("{AWAY}/32");
    let arguments = ["route", what, "blackhole", &place, "table", "local"].map(AsRef::as_ref);
    run_program("ip", &arguments)
}

/// The second of two messages is the last thing to hear.
async fn hear(mut here: Link) -> Result<()> {
    let mut heard = 0;
    while heard < 2 {
        let packet = here.receive().await?;
        heard += usize::from(packet.is_some_and(|packet| packet.starts_with(r#"2["message""#)));
    }
    Ok(())
}

/// How long it took until a metric was as it should be.
async fn until(
    server: &Server,
    name: &str,
    began: Instant,
    is_good: impl Fn(u64) -> bool,
) -> Result<Duration> {
    loop {
        let value = metric(server, name).await?;
        if is_good(value) {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < ALL + LATE, "{name} is {value}");
        sleep(Duration::from_millis(250)).await;
    }
}

async fn post(server: &Server, path: &str, body: &str) -> Result<String> {
    let headers = format!("Authorization: {AUTH_KEY}\r\n");
    let mut http = Http::connect(server.address).await?;
    let answer = http.exchange(&Request { method: "POST", path, headers: &headers, body }).await?;
    ensure!(answer.status == 200, "{path} was answered {}: {}", answer.status, answer.body);
    Ok(answer.body)
}

async fn token(server: &Server, channel: &str) -> Result<String> {
    let answer: Value = serde_json::from_str(&post(server, &format!("/channel/{channel}"), "").await?)?;
    Ok(answer["token"].as_str().context("no token")?.to_owned())
}

async fn publish(server: &Server) -> Result<()> {
    post(server, &format!("/message/{BUSY}"), r#"{"message":"to whoever is here"}"#).await.map(drop)
}

async fn metric(server: &Server, name: &str) -> Result<u64> {
    let page = server.metrics().await?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.with_context(|| format!("no {name} in the metrics"))
}

async fn descriptors(server: &Server) -> Result<u64> {
    metric(server, "process_open_fds").await
}

async fn websocket(address: SocketAddr, token: &str) -> Result<WebSocket> {
    let mut socket = WebSocket::connect_from(AWAY, address).await?;
    ensure!(socket.receive().await?.starts_with("0{"), "no session");
    socket.send(&format!("40{}", json!({ "token": token, "resume": false }))).await?;
    while !socket.receive().await?.contains("Connected") {}
    Ok(socket)
}

/// A polling client whose poll waits for something to happen.
async fn held_poll(address: SocketAddr, token: &str) -> Result<Http> {
    let mut http = Http::connect_from(AWAY, address).await?;
    let path = "/socket.io/?EIO=4&transport=polling";
    let open = http.exchange(&Request { method: "GET", path, headers: "", body: "" }).await?;
    let open: Value = serde_json::from_str(open.body.trim_start_matches('0'))?;
    let path = format!("{path}&sid={}", open["sid"].as_str().context("no sid")?);
    let entry = format!("40{}", json!({ "token": token, "resume": false }));
    http.exchange(&Request { method: "POST", path: &path, headers: "", body: &entry }).await?;
    let poll = Request { method: "GET", path: &path, headers: "", body: "" };
    while !http.exchange(&poll).await?.body.contains("Connected") {}
    http.send(&poll).await?;
    Ok(http)
}

/// An event stream that has begun.
async fn stream(address: SocketAddr) -> Result<Http> {
    let mut http = Http::connect_from(AWAY, address).await?;
    let (path, headers) =
        (format!("/v1/channels/{BUSY}/stream"), format!("Authorization: Bearer {AUTH_KEY}\r\n"));
    http.send(&Request { method: "GET", path: &path, headers: &headers, body: "" }).await?;
    http.begun().await?;
    Ok(http)
}
