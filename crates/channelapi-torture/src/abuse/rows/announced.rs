//! What comes before HTTP where a proxy announces its clients: headers that are none, and crowds that never finish a request.
//!
//! The proxy is 127.0.0.2. Everybody else comes from 127.0.0.1, and is not believed.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::time::{Instant, sleep};

use super::super::case::{Case, case};
use super::super::wire::Wire;
use super::super::yard::{Yard, took_about};
use crate::http::Response;

pub(super) const CONFIGURATION: &str = r#"[http]
trusted_proxies = ["127.0.0.2"]
proxy_protocol = true

[limits]
connections_per_address = 100
connection_rate = 20
connection_burst = 200
handshakes = 64

[log]
level = "trace"

"#;

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// New connections a second of one address, and at once, as the configuration has them.
const RATE: usize = 20;
const BURST: usize = 200;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// For the header, from the first byte on, and as long for that.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// More than may be in the middle of a request, and fewer than an address may have.
const CROWD: usize = 90;
/// Newcomers, one after the other, who take their time.
const NEWCOMERS: usize = 10;
/// Far more than an address may open at once, and more than it may on a machine that takes a minute for them.
const RUSH: usize = 2000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = broken()
        .into_iter()
        .map(|(what, bytes)| {
            case("H12", format!("a proxy whose header is {what} is not listened to"), move |yard| {
                hangs_up(yard, bytes)
            })
            .connection_refused("proxy")
        })
        .collect();
    cases.extend([
        case("H12", "a proxy that announces nobody is not waited for", silent).connection_refused("proxy"),
        case("H12", "a header that trickles in is given five seconds", trickling).connection_refused("proxy"),
        case("H12", "whoever is not a proxy announces nobody", stranger).http_refused("malformed"),
        case(
            "H2",
            "an announced address has so many connections and no more, and others are let in",
            too_many,
        )
        .connection_refused("address"),
        case("H2", "an address opens so many connections a second and no more, and others are let in", rush)
            .connection_refused("address_rate"),
        case("H2", format!("{CROWD} unfinished requests of one address cost it its own places"), crowd)
            .connection_refused("handshakes"),
    ]);
    cases
}

/// Headers that are none, each with a request behind it that must not be answered.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let request: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let binary = |head: [u8; 4], rest: &[u8]| [SIGNATURE, &head, rest, request].concat();
    let line = |line: &str| [line.as_bytes(), request].concat();
    vec![
        ("missing", request.to_vec()),
        ("garbage", [&[0xff; 200][..], request].concat()),
        ("the beginning of TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 200]].concat()),
        ("without an end", [b"PROXY TCP4 ".to_vec(), vec![b'1'; 20_000]].concat()),
        ("of another family", line("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n")),
        ("without addresses", line("PROXY TCP4\r\n")),
        ("two lines", line("PROXY TCP4 203.0.113.7\r\n10.0.0.1 1 2\r\n")),
        ("of another version", binary([0x11, 0x11, 0, 0], b"")),
        ("of an unknown command", binary([0x2f, 0x11, 0, 12], &[1; 12])),
        ("shorter than its addresses", binary([0x21, 0x11, 0, 4], &[1; 4])),
        ("longer than there is room for", binary([0x21, 0x11, 0xff, 0xff], &[1; 64])),
    ]
}

async fn from_proxy(yard: &Yard, bytes: &[u8]) -> Result<Wire> {
    let mut wire = Wire::connect_from(PROXY, yard.address).await?;
    wire.send(bytes).await;
    Ok(wire)
}

/// A connection of somebody behind the proxy.
async fn announced(yard: &Yard, client: &str, bytes: &str) -> Result<Wire> {
    from_proxy(yard, format!("PROXY TCP4 {client} 10.0.0.1 4711 443\r\n{bytes}").as_bytes()).await
}

async fn is_served(yard: &Yard, client: &str) -> Result<()> {
    let mut wire = announced(yard, client, "GET /healthz HTTP/1.1\r\n").await?;
    sleep(Duration::from_millis(20)).await;
    ensure!(wire.send(b"Host: x\r\n\r\n").await, "{client} lost its place");
    let answer = wire.answer().await?;
    ensure!(answer.status == 200, "{client} was answered {}", answer.head);
    Ok(())
}

async fn hangs_up(yard: Arc<Yard>, bytes: Vec<u8>) -> Result<()> {
    let took = from_proxy(&yard, &bytes).await?.hung_up().await?;
    ensure!(took < HEADER_TIMEOUT, "it took {took:?}");
    is_served(&yard, "203.0.113.1").await
}

async fn silent(yard: Arc<Yard>) -> Result<()> {
    took_about(from_proxy(&yard, b"").await?.hung_up().await?, HEADER_TIMEOUT)
}

async fn trickling(yard: Arc<Yard>) -> Result<()> {
    let mut wire = from_proxy(&yard, b"").await?;
    for byte in b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n" {
        if !wire.send(&[*byte]).await || wire.is_over() {
            break;
        }
        sleep(Duration::from_millis(500)).await;
    }
    took_about(wire.hung_up().await?, HEADER_TIMEOUT)
}

async fn stranger(yard: Arc<Yard>) -> Result<()> {
    let line = "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let (answers, _) = yard.wire(line.as_bytes()).await?.rest().await?;
    ensure!(answers.len() == 1 && answers[0].status == 400, "it is believed");
    Ok(())
}

async fn too_many(yard: Arc<Yard>) -> Result<()> {
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut wire = announced(&yard, "203.0.113.2", request).await?;
        ensure!(wire.answer().await?.status == 200, "one of the first is not served");
        // One that rests would have to go in favour of the next.
        ensure!(wire.send(b"GET /").await, "one of the first is closed");
        crowd.push(wire);
    }
    // One that has sent no request yet cannot lose its answer with the connection.
    let (answers, _) = announced(&yard, "203.0.113.2", "").await?.rest().await?;
    let is_told = |answer: &Response| answer.status == 429 && answer.header("retry-after").is_some();
    ensure!(
        answers.len() == 1 && answers.iter().all(is_told),
        "it was answered {:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
    is_served(&yard, "203.0.113.3").await
}

/// Each is over before the next one comes: it is only how fast they come that is too much.
async fn rush(yard: Arc<Yard>) -> Result<()> {
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let began = Instant::now();
    let (mut served, mut told) = (0, 0);
    for number in 0..RUSH {
        let (answers, _) = announced(&yard, "203.0.113.5", request).await?.rest().await?;
        // A client that had sent its request before it was refused may lose the answer with the connection.
        let answer = answers.first().map(|answer| (answer.status, answer.header("retry-after").is_some()));
        match answer {
            Some((200, _)) => served += 1,
            Some((429, true)) => told += 1,
            None => {}
            other => bail!("one was answered {other:?}"),
        }
        if number % 200 == 0 {
            is_served(&yard, "203.0.113.6").await?;
        }
    }
    let allowed = BURST + RATE * (usize::try_from(began.elapsed().as_secs())? + 1);
    ensure!((BURST..=allowed).contains(&served), "{served} were served, and {allowed} may be");
    ensure!(told > 0, "nobody was told to come later");
    Ok(())
}

/// Newcomers take a moment for their requests, in which a crowd from one address is in the middle of its own.
async fn crowd(yard: Arc<Yard>) -> Result<()> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(announced(&yard, "203.0.113.4", "GET /healthz HTTP/1.1\r\nX-Slow: ").await?);
    }
    for newcomer in 0..NEWCOMERS {
        is_served(&yard, &format!("203.0.113.{}", 10 + newcomer)).await?;
        crowd.push(announced(&yard, "203.0.113.4", "GET /healthz HTTP/1.1\r\nX-Slow: ").await?);
    }
    sleep(Duration::from_secs(1)).await;
    let gone = crowd.iter_mut().filter_map(|wire| wire.is_over().then_some(())).count();
    ensure!((CROWD - 64..CROWD).contains(&gone), "{gone} of {} had to go", CROWD + NEWCOMERS);
    Ok(())
}
