//! Sessions that are opened and left behind.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep, timeout};

use super::super::case::{Case, case};
use super::super::wire::PATIENCE;
use super::super::yard::{Yard, expect_close, took_about};
use crate::websocket::WebSocket;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// The ping's interval and its timeout.
const HEARTBEAT: Duration = Duration::from_secs(45);
/// What a wheel for all timers may be late, on a busy machine.
const LATE: Duration = Duration::from_secs(8);
/// Of each kind.
const LEFT: usize = 60;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("E4", "polling clients that vanish are forgotten", vanished_polling)
            .disconnected("ping_timeout"),
        case("E4", "websocket clients that never answer a ping are forgotten", silent_websockets)
            .disconnected("ping_timeout"),
        case("E4", "an upgrade that is begun and not finished ends after ten seconds", half_upgrades)
            .upgrade_failed("timeout"),
        case("E16", "a websocket that does not enter within ten seconds is closed", never_enters)
            .disconnected("connect_timeout"),
        case(
            "E16",
            "a polling session that does not enter within ten seconds is closed",
            never_enters_polling,
        )
        .disconnected("connect_timeout"),
    ]
}

async fn vanished_polling(yard: Arc<Yard>) -> Result<()> {
    let mut left = Vec::new();
    for _ in 0..LEFT {
        left.push(yard.polling_inside().await?);
    }
    // Nothing on the wire says when: a request would be a sign of life, so only the time can be waited for.
    sleep(HEARTBEAT + LATE).await;
    for session in &left {
        yard.gone(session).await?;
    }
    Ok(())
}

async fn silent_websockets(yard: Arc<Yard>) -> Result<()> {
    let mut left = Vec::new();
    for _ in 0..LEFT {
        left.push(yard.greeted().await?.0);
    }
    let began = Instant::now();
    for socket in &mut left {
        let closed = timeout(HEARTBEAT + LATE, socket.close_code()).await;
        ensure!(closed.is_ok(), "a websocket is kept without an answer to a ping");
    }
    took_about(began.elapsed(), HEARTBEAT)
}

async fn half_upgrades(yard: Arc<Yard>) -> Result<()> {
    let mut candidates = Vec::new();
    for number in 0..LEFT {
        let session = yard.polling_inside().await?;
        let query = format!("EIO=4&transport=websocket&sid={}", session.sid);
        let (mut candidate, _) = WebSocket::open(yard.address, &query, "").await?;
        if number % 2 == 0 {
            candidate.send("2probe").await?;
        }
        candidates.push((candidate, session));
    }
    let began = Instant::now();
    for (candidate, _) in &mut candidates {
        let closed = timeout(PATIENCE, candidate.close_code()).await;
        ensure!(closed.is_ok(), "a websocket may prove itself for ever");
    }
    let took = began.elapsed();
    ensure!(took < UPGRADE_TIMEOUT + LATE, "a websocket had {took:?} to prove itself");
    for (_, session) in &candidates {
        let answer = yard.plain("POST", &session.path, "", "3").await?;
        ensure!(answer.status == 200, "the session ended with the websocket");
    }
    Ok(())
}

async fn never_enters(yard: Arc<Yard>) -> Result<()> {
    let mut socket = yard.websocket().await?;
    let began = Instant::now();
    expect_close(&mut socket, 4501).await?;
    took_about(began.elapsed(), CONNECT_TIMEOUT)
}

async fn never_enters_polling(yard: Arc<Yard>) -> Result<()> {
    let session = yard.polling().await?;
    let began = Instant::now();
    let answer = yard.plain("GET", &session.path, "", "").await?;
    ensure!(answer.body == "1", "the poll was answered {} {}", answer.status, answer.body);
    took_about(began.elapsed(), CONNECT_TIMEOUT)?;
    yard.gone(&session).await
}
