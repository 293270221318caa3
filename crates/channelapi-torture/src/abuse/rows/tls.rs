//! TLS: who never shakes hands, who does and then says nothing, and who makes it work.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConnection;

use super::super::case::{Case, case};
use super::super::wire::{PATIENCE, Wire};
use super::super::yard::{Yard, took_about, with_key};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// At once, on a busy machine: sooner than any deadline.
const AT_ONCE: Duration = Duration::from_secs(4);
/// Beside a flood it may take longer, but not as long as the flood.
const SERVED_MAX: Duration = Duration::from_secs(8);
const SILENT: usize = 300;
const CROWD: usize = 2000;
/// The crowd comes when those have gone that wait for a deadline: it makes the oldest go early.
const OTHERS_GONE: Duration = Duration::from_secs(40);
/// Changes of keys that are asked for, each of which the server has to answer.
const KEY_CHANGES: usize = 50_000;
/// Connections that end in the middle of a handshake.
const CHURN: usize = 600;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("T1", format!("{SILENT} connections that never begin are closed after five seconds"), silent)
            .connection_refused("tls"),
        case("T1", "a hello that trickles in is given five seconds", trickling_hello)
            .connection_refused("tls"),
        case("T1", "whoever says hello and then nothing is given five seconds", unfinished)
            .connection_refused("tls"),
        case(
            "T1",
            format!("{SILENT} sessions that say nothing are closed after ten seconds"),
            silent_sessions,
        )
        .timed_out("head"),
        case("T1", format!("{CROWD} connections that never shake hands hinder nobody who does"), crowd)
            .connection_refused("handshakes"),
        case("T2", "whoever speaks HTTP is told to speak HTTPS", plain_http).connection_refused("tls"),
        case("T2", "what is no TLS, or of an old one, ends at once", nonsense).connection_refused("tls"),
        case("T2", "a hello that is too long ends before it is here", endless_hello)
            .connection_refused("tls"),
        case("T3", format!("{KEY_CHANGES} changes of keys take no memory and hinder nobody"), key_changes),
        case("T3", "a request in records of one byte is a request", tiny_records),
        case("T3", "a thousand requests whose answers nobody reads are not kept in memory", unread_answers),
        case("T4", "a body that is cut off without a word is not published", cut_off),
        case("T4", "what was not encrypted ends a session, and is no request", unencrypted)
            .http_refused("tls"),
        case("T5", format!("{CHURN} handshakes that end in the middle leave nothing behind"), churn)
            .connection_refused("tls"),
    ]
}

/// What a client says first.
fn hello(yard: &Yard) -> Result<Vec<u8>> {
    let tunnel = yard.tunnel()?;
    let mut client = ClientConnection::new(tunnel.clients(), "abuse.test".try_into()?)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

async fn dial(yard: &Yard) -> Result<Wire> {
    Wire::connect(yard.tunnel()?.end()).await
}

/// Somebody who behaves gets an answer soon.
async fn somebody_is_served(yard: &Yard) -> Result<()> {
    let asked = Instant::now();
    let mut session = yard.tunnel()?.shake_hands().await.context("a newcomer was sent away")?;
    session.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let answer = read_all(&mut session).await?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "a newcomer was answered {answer}");
    ensure!(asked.elapsed() < SERVED_MAX, "a newcomer was answered after {:?}", asked.elapsed());
    Ok(())
}

async fn read_all(session: &mut TlsStream<TcpStream>) -> Result<String> {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, session.read_to_end(&mut bytes)).await;
    read.context("the server did not hang up")?.context("the server hung up without a word")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Until the session ends, in whatever way.
async fn await_the_end(session: &mut TlsStream<TcpStream>) -> Result<()> {
    let mut buffer = [0; 4096];
    let reading = async { while let Ok(1..) = session.read(&mut buffer).await {} };
    timeout(PATIENCE, reading).await.context("the server did not hang up")
}

async fn silent(yard: Arc<Yard>) -> Result<()> {
    let mut crowd = Vec::new();
    for _ in 0..SILENT {
        crowd.push(dial(&yard).await?);
    }
    for wire in crowd {
        took_about(wire.hung_up().await?, HANDSHAKE_TIMEOUT)?;
    }
    Ok(())
}

async fn trickling_hello(yard: Arc<Yard>) -> Result<()> {
    let mut wire = dial(&yard).await?;
    let mut drops = interval(Duration::from_millis(100));
    for byte in hello(&yard)? {
        drops.tick().await;
        if wire.is_over() || !wire.send(&[byte]).await {
            break;
        }
    }
    took_about(wire.hung_up().await?, HANDSHAKE_TIMEOUT)
}

async fn unfinished(yard: Arc<Yard>) -> Result<()> {
    let mut wire = dial(&yard).await?;
    wire.send(&hello(&yard)?).await;
    // The server's part of the handshake comes, and is no HTTP.
    took_about(wire.ended().await?, HANDSHAKE_TIMEOUT)
}

async fn silent_sessions(yard: Arc<Yard>) -> Result<()> {
    let mut crowd = Vec::new();
    for _ in 0..SILENT {
        crowd.push((Instant::now(), yard.tunnel()?.shake_hands().await?));
    }
    for (opened, mut session) in crowd {
        await_the_end(&mut session).await?;
        took_about(opened.elapsed(), HEAD_TIMEOUT)?;
    }
    Ok(())
}

async fn crowd(yard: Arc<Yard>) -> Result<()> {
    sleep(OTHERS_GONE).await;
    let mut crowd = Vec::new();
    let hello = hello(&yard)?;
    while crowd.len() < CROWD {
        for _ in 0..CROWD / 20 {
            let mut wire = dial(&yard).await?;
            match crowd.len() % 3 {
                0 => {}
                1 => wire.push(&hello[..hello.len() / 2]),
                _ => wire.push(&hello),
            }
            crowd.push(wire);
        }
        somebody_is_served(&yard).await?;
    }
    Ok(())
}

async fn plain_http(yard: Arc<Yard>) -> Result<()> {
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /message/T2 HTTP/1.1\r\nHost: x\r\n"] {
        let mut wire = dial(&yard).await?;
        wire.send(request.as_bytes()).await;
        let (answers, took) = wire.rest().await?;
        let answer = answers.first().context("nothing was answered")?;
        ensure!(answer.status == 400 && answer.body.contains("https"), "it was answered {}", answer.head);
        ensure!(took < AT_ONCE, "it took {took:?}");
    }
    Ok(())
}

async fn nonsense(yard: Arc<Yard>) -> Result<()> {
    // The version that it wants stands behind the heads of the record and of the message, and the list of newer ones is unknown.
    let mut old = hello(&yard)?;
    old[9..11].copy_from_slice(&[3, 1]);
    let versions = old.windows(4).position(|four| four[..2] == [0, 43] && four[2] == 0);
    old[versions.context("no versions")? + 1] = 44;
    let beginnings: [&[u8]; 8] = [
        // SSL 2.
        &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10],
        // Data, an alert, and a change of ciphers before any hello.
        &[23, 3, 3, 0, 5, 1, 2, 3, 4, 5],
        &[21, 3, 3, 0, 2, 2, 40],
        &[20, 3, 3, 0, 1, 7],
        // A record of an unknown kind, one of nothing, and one that is longer than any.
        &[99, 3, 3, 0, 5, 1, 2, 3, 4, 5],
        &[22, 3, 3, 0, 0],
        &[22, 3, 3, 0xff, 0xff],
        &old,
    ];
    for bytes in beginnings {
        let mut wire = dial(&yard).await?;
        wire.send(bytes).await;
        let took = wire.ended().await?;
        ensure!(took < AT_ONCE, "{:?} was waited on for {took:?}", &bytes[..5]);
    }
    Ok(())
}

/// A handshake message announces up to 16 MiB.
async fn endless_hello(yard: Arc<Yard>) -> Result<()> {
    let mut wire = dial(&yard).await?;
    let mut message = vec![1, 0xff, 0xff, 0xff, 3, 3];
    message.resize(1024, 7);
    let mut sent = 0;
    while sent < 256 && !wire.is_over() {
        let record = [&[22, 3, 3, 4, 0][..], &message].concat();
        if !wire.send(&record).await {
            break;
        }
        message.fill(7);
        sent += 1;
        sleep(Duration::from_millis(2)).await;
    }
    ensure!(sent < 256, "256 KiB of a hello were taken");
    let took = wire.ended().await?;
    ensure!(took < AT_ONCE, "it took {took:?}");
    Ok(())
}

async fn key_changes(yard: Arc<Yard>) -> Result<()> {
    let before = yard.server.memory()?;
    let mut session = yard.tunnel()?.shake_hands().await?;
    for number in 0..KEY_CHANGES {
        session.get_mut().1.refresh_traffic_keys()?;
        // Nothing is read, not even that the server has had enough.
        if number % 500 == 0 && !matches!(timeout(PATIENCE, session.flush()).await, Ok(Ok(()))) {
            break;
        }
        if number % 10_000 == 0 {
            somebody_is_served(&yard).await?;
        }
    }
    let grown = yard.server.memory()?.saturating_sub(before);
    ensure!(grown < 64 << 20, "changes of keys took {grown} bytes");
    await_the_end(&mut session).await
}

async fn tiny_records(yard: Arc<Yard>) -> Result<()> {
    let mut session = yard.tunnel()?.shake_hands().await?;
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" {
        session.write_all(&[*byte]).await?;
        session.flush().await?;
    }
    let answer = read_all(&mut session).await?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "it was answered {answer}");
    Ok(())
}

async fn unread_answers(yard: Arc<Yard>) -> Result<()> {
    let before = yard.server.memory()?;
    let mut crowd = Vec::new();
    let requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    for _ in 0..50 {
        let mut session = yard.tunnel()?.shake_hands().await?;
        // The server stops to read when its answers are not taken.
        let _ = timeout(Duration::from_millis(50), session.write_all(&requests)).await;
        crowd.push(session);
    }
    for _ in 0..20 {
        let grown = yard.server.memory()?.saturating_sub(before);
        ensure!(grown < 64 << 20, "answers that nobody reads take {grown} bytes");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Whoever sits in the middle can end a connection at any byte, but cannot say goodbye for somebody else.
async fn cut_off(yard: Arc<Yard>) -> Result<()> {
    let whole = r#"{"message":"T4-cut"}"#;
    for (fields, body) in [
        (format!("Content-Length: {}\r\n", whole.len() + 1), whole.to_owned()),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("{:x}\r\n{whole}\r\n", whole.len())),
    ] {
        let mut session = yard.tunnel()?.shake_hands().await?;
        let head = format!("POST /message/T4 HTTP/1.1\r\nHost: x\r\n{}{fields}\r\n", with_key());
        session.write_all(format!("{head}{body}").as_bytes()).await?;
        session.flush().await?;
        session.get_mut().0.shutdown().await?;
        await_the_end(&mut session).await?;
    }
    let history = yard.api("GET", "/v1/channels/T4/messages?since=all", "", "").await?;
    ensure!(history.status == 200 && !history.body.contains("T4-cut"), "it was published: {}", history.body);
    Ok(())
}

async fn unencrypted(yard: Arc<Yard>) -> Result<()> {
    let mut session = yard.tunnel()?.shake_hands().await?;
    session.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    session.read_exact(&mut [0; 12]).await?;
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = [23, 3, 3, 0, u8::try_from(request.len())?];
    session.get_mut().0.write_all(&[&head[..], request].concat()).await?;
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, session.read_to_end(&mut rest)).await.context("it did not hang up")?;
    if ended.is_ok() && String::from_utf8_lossy(&rest).contains("HTTP/1.1 ") {
        bail!("what was not encrypted was answered");
    }
    Ok(())
}

async fn churn(yard: Arc<Yard>) -> Result<()> {
    let hello = hello(&yard)?;
    for number in 0..CHURN {
        let mut wire = dial(&yard).await?;
        wire.push(&hello[..hello.len() * (number % 50) / 49]);
        if number % 2 == 0 {
            wire.reset()?;
        }
        if number % 100 == 0 {
            somebody_is_served(&yard).await?;
        }
    }
    Ok(())
}
