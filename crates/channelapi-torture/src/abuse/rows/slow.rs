//! Connections that take their time, and many of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::super::case::{Case, case};
use super::super::wire::Wire;
use super::super::yard::{Yard, took_about, with_key};

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Long enough after an answer, and not long before that.
const STILL_KEPT: Duration = Duration::from_secs(70);
/// A server looks at its deadlines every ten seconds.
const LATE: Duration = Duration::from_secs(15);
const UNTAKEN: usize = 1000;
/// Connections that say nothing. With all others they stay below the number beyond which the oldest are sent away early.
const IDLE: usize = 500;
/// Far more than that.
const CROWD: usize = 5000;
/// Connections that come and go, and how many a second: three seconds, or as long as the machine takes for them.
const CHURN: u32 = 6000;
const CHURN_RATE: u32 = 2000;
/// Of these, so many come at the same moment.
const CHURN_AT_ONCE: u32 = 20;
/// Somebody else is served after so many of them.
const CHURN_PART: u32 = 500;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("H2", format!("{IDLE} connections that say nothing are closed after ten seconds"), idle)
            .timed_out("head"),
        case("H2", format!("{CROWD} connections that say nothing hinder nobody who does"), silent_crowd)
            .connection_refused("handshakes"),
        case("H1", "a head that trickles in is given ten seconds", trickling_head).timed_out("head"),
        case("H1", "a body that trickles in is given ten seconds", trickling_body)
            .timed_out("body")
            .request_refused("timeout"),
        case("H1", "a body of a slow line has time", steady_body),
        case("H1", "a polling body that trickles in is given ten seconds", trickling_polling_body)
            .timed_out("body"),
        case("H1", "an answer that nobody takes is given thirty seconds", untaken_answers)
            .timed_out("answer"),
        case("H2", "a connection on which nothing more is asked is kept for 75 seconds", kept)
            .timed_out("idle"),
        case(
            "H2",
            format!(
                "{CHURN_RATE} connections a second that come and go hinder nobody, and leave nothing behind"
            ),
            churn,
        ),
        case("H2", "a thousand requests whose answers nobody reads are not kept in memory", unread_answers),
    ]
}

async fn idle(yard: Arc<Yard>) -> Result<()> {
    let mut crowd = Vec::new();
    for _ in 0..IDLE {
        crowd.push(Wire::connect(yard.address).await?);
    }
    for wire in crowd {
        let took = wire.hung_up().await?;
        ensure!(took < HEAD_TIMEOUT + Duration::from_secs(10), "a silent connection was kept for {took:?}");
    }
    Ok(())
}

async fn kept(yard: Arc<Yard>) -> Result<()> {
    let mut wire = yard.wire(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    ensure!(wire.answer().await?.status == 200, "it is not served");
    sleep(STILL_KEPT).await;
    ensure!(!wire.is_over(), "it is not kept");
    took_about(wire.hung_up().await?, IDLE_TIMEOUT)
}

/// Newcomers take a moment for their requests, while the crowd grows.
async fn silent_crowd(yard: Arc<Yard>) -> Result<()> {
    let mut crowd = Vec::new();
    while crowd.len() < CROWD {
        let mut newcomer = yard.wire(b"GET /healthz HTTP/1.1\r\n").await?;
        for _ in 0..CROWD / 20 {
            crowd.push(Wire::connect(yard.address).await?);
        }
        ensure!(newcomer.send(b"Host: x\r\n\r\n").await, "a newcomer was sent away");
        let answer = newcomer.answer().await?;
        ensure!(answer.status == 200, "a newcomer was answered {}", answer.head);
    }
    // The last of them need not make room.
    let newest = crowd.pop().context("there is a crowd")?;
    took_about(newest.hung_up().await?, HEAD_TIMEOUT)
}

async fn trickle(mut wire: Wire, expected: Duration, status: Option<u16>) -> Result<()> {
    let mut drops = interval(Duration::from_millis(500));
    for _ in 0..60 {
        drops.tick().await;
        if !wire.send(b"x").await {
            break;
        }
        if wire.is_over() {
            break;
        }
    }
    let (answers, took) = wire.rest().await?;
    let answered = answers.first().map(|answer| answer.status);
    ensure!(answered == status, "it was answered {answered:?}");
    took_about(took, expected)
}

async fn trickling_head(yard: Arc<Yard>) -> Result<()> {
    let wire = yard.wire(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await?;
    trickle(wire, HEAD_TIMEOUT, None).await
}

async fn trickling_body(yard: Arc<Yard>) -> Result<()> {
    let head =
        format!("POST /message/H1 HTTP/1.1\r\nHost: x\r\n{}Content-Length: 1000\r\n\r\n{{", with_key());
    trickle(yard.wire(head.as_bytes()).await?, BODY_TIMEOUT, Some(408)).await
}

/// Longer than one that trickles in may take.
async fn steady_body(yard: Arc<Yard>) -> Result<()> {
    let data = "x".repeat(20 << 10);
    let length = 12 * data.len();
    let head = format!(
        "POST /message/H1 HTTP/1.1\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n",
        with_key(),
        length + 14
    );
    let mut wire = yard.wire(head.as_bytes()).await?;
    wire.send(br#"{"message":""#).await;
    for _ in 0..12 {
        sleep(Duration::from_secs(1)).await;
        ensure!(wire.send(data.as_bytes()).await, "the server hung up in the middle");
    }
    wire.send(br#""}"#).await;
    let answer = wire.answer().await?;
    ensure!(answer.status == 200, "it was answered {}: {}", answer.head, answer.body);
    Ok(())
}

async fn trickling_polling_body(yard: Arc<Yard>) -> Result<()> {
    let session = yard.polling_inside().await?;
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n3", session.path);
    trickle(yard.wire(head.as_bytes()).await?, BODY_TIMEOUT, Some(408)).await?;
    yard.gone(&session).await
}

async fn churn(yard: Arc<Yard>) -> Result<()> {
    let mut ticks = interval(Duration::from_secs(1) / (CHURN_RATE / CHURN_AT_ONCE));
    let mut coming = JoinSet::new();
    for number in 0..CHURN {
        if number % CHURN_AT_ONCE == 0 {
            ticks.tick().await;
        }
        let there = Arc::clone(&yard);
        coming.spawn(async move { come_and_go(&there, number).await });
        if number % CHURN_PART == 0 {
            // Somebody else is served in between. That nothing stays is seen when all is over.
            yard.connections().await?;
            while let Some(gone) = coming.try_join_next() {
                gone??;
            }
        }
    }
    coming.join_all().await.into_iter().collect()
}

async fn come_and_go(yard: &Yard, number: u32) -> Result<()> {
    match number % 3 {
        0 => drop(TcpStream::connect(yard.address).await?),
        1 => Wire::connect(yard.address).await?.reset()?,
        _ => drop(yard.wire(b"GET / HT").await?),
    }
    Ok(())
}

async fn untaken_answers(yard: Arc<Yard>) -> Result<()> {
    let mut wire = Wire::connect(yard.address).await?;
    // The page is some kilobytes: these ask for more than all buffers on the way hold.
    wire.push(&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(UNTAKEN));
    // To read would be to take: only the time can be waited for.
    sleep(ANSWER_TIMEOUT + LATE).await;
    let (answers, _) = wire.rest().await?;
    ensure!(answers.len() < UNTAKEN, "the server waited for somebody who took nothing");
    Ok(())
}

async fn unread_answers(yard: Arc<Yard>) -> Result<()> {
    let before = yard.server.memory()?;
    let mut crowd = Vec::new();
    for _ in 0..50 {
        let mut wire = Wire::connect(yard.address).await?;
        // The page is some kilobytes: these requests ask for megabytes on each connection.
        let requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
        wire.push(&requests);
        crowd.push(wire);
    }
    // Nothing on the wire says that a server has stopped to answer: it is watched for a second.
    for _ in 0..20 {
        let grown = yard.server.memory()?.saturating_sub(before);
        ensure!(grown < 64 << 20, "answers that nobody reads take {grown} bytes");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
