//! Too much of what is allowed: events, joins, guesses, connections. Attackers come through a proxy, because only strangers have
//! limits of their own, and everybody in a test is a neighbour.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::super::case::{Case, case};
use super::super::yard::{Yard, heard};
use crate::websocket::{WebSocket, frame};

pub(super) const CONFIGURATION: &str = r#"[http]
trusted_proxies = ["127.0.0.1"]

[limits]
connections_per_address = 20
failed_tokens = 10
unknown_sessions = 10

[log]
level = "trace"
"#;

/// First bytes of frames.
const TEXT: u8 = 0x81;
const PONG: u8 = 0x8A;

/// More than an address may have or do here.
const MANY: usize = 30;

/// Behind a proxy.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "E11",
            "an address that asks for unknown sessions is told to wait, and no other",
            unknown_sessions,
        )
        .handshake_refused("unknown_session_rate"),
        case("S9", "an address that guesses tokens is told to wait, and no other", guesses)
            .handshake_refused("token_rate"),
        case("H2", "an address has so many clients and no more, and others are let in", clients)
            .handshake_refused("address"),
        case("H12", "an address that somebody claims in front of the proxy's word does not count", claims)
            .handshake_refused("unknown_session_rate"),
    ]
}

/// On any server.
pub(super) fn of_clients() -> Vec<Case> {
    vec![
        case("S8", "a client that floods is sent away", |yard| floods(yard, r#"42["x"]"#))
            .disconnected("limit"),
        case("S8", "a client that joins without end is sent away", |yard| {
            floods(yard, r#"42["join_channel",{"token":"TOKEN"}]"#)
        })
        .disconnected("limit"),
        case("S8", "a client that confirms without end is sent away", |yard| {
            floods(yard, r#"42["ack",{"channel":"S8-flood","offset":1}]"#)
        })
        .disconnected("limit"),
        case("S14", "a client that does nothing but answer is sent away", |yard| floods(yard, "3"))
            .disconnected("limit"),
        case("S14", "a client that says without end that it is there is sent away", |yard| {
            floods_with(yard, frame(PONG, b""))
        })
        .disconnected("limit"),
        case("S14", "a client that says nothing without end is sent away", |yard| floods(yard, "6"))
            .disconnected("limit"),
        case("S14", "a client that upgrades without end is sent away", |yard| floods(yard, "5"))
            .disconnected("limit"),
        case("S14", "a client that polls and does nothing but answer is sent away", |yard| polls(yard, "3"))
            .disconnected("limit"),
        case("S14", "a client that polls and says nothing without end is sent away", |yard| polls(yard, "6"))
            .disconnected("limit"),
    ]
}

fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

async fn unknown_sessions(yard: Arc<Yard>) -> Result<()> {
    let ask = async |address: &str| {
        let path = "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAA";
        yard.plain("GET", path, &from(address), "").await.map(|answer| answer.status)
    };
    let mut answers = Vec::new();
    for _ in 0..MANY {
        answers.push(ask("203.0.113.1").await?);
    }
    ensure!(answers.first() == Some(&400) && answers.last() == Some(&429), "they were answered {answers:?}");
    ensure!(ask("203.0.113.2").await? == 400, "another address pays for it");
    Ok(())
}

async fn guesses(yard: Arc<Yard>) -> Result<()> {
    let guess = async |address: &str, number: usize| {
        let (mut socket, _) =
            WebSocket::open(yard.address, "EIO=4&transport=websocket", &from(address)).await?;
        heard(&mut socket).await?;
        socket.send(&format!(r#"40{{"token":"guess {number}"}}"#)).await?;
        heard(&mut socket).await
    };
    let mut refused = 0;
    for number in 0..MANY {
        match guess("203.0.113.3", number).await {
            Ok(answer) if answer.contains("token_invalid") => {}
            // Either the guess is not looked at, or its client is not even let in.
            _ => refused += 1,
        }
    }
    ensure!(refused >= MANY - 11, "only {refused} guesses were refused");
    let other = guess("203.0.113.4", MANY).await?;
    ensure!(other.contains("token_invalid"), "another address is answered {other}");
    Ok(())
}

async fn clients(yard: Arc<Yard>) -> Result<()> {
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(WebSocket::open(yard.address, "EIO=4&transport=websocket", &from("203.0.113.5")).await?);
    }
    let path = "/socket.io/?EIO=4&transport=polling";
    let answer = yard.plain("GET", path, &from("203.0.113.5"), "").await?;
    ensure!(answer.status == 429, "one more was answered {}", answer.status);
    ensure!(answer.header("Retry-After").is_some(), "it is not told when to come back");
    ensure!(
        yard.plain("GET", path, &from("203.0.113.6"), "").await?.status == 200,
        "another address is not let in"
    );
    Ok(())
}

/// The proxy adds the address it sees behind what its client claims.
async fn claims(yard: Arc<Yard>) -> Result<()> {
    let path = "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAA";
    let mut last = 0;
    for number in 0..MANY {
        let claimed = format!("X-Forwarded-For: 198.51.100.{number}, 203.0.113.7\r\n");
        last = yard.plain("GET", path, &claimed, "").await?.status;
    }
    ensure!(last == 429, "a claimed address counts: {last}");
    Ok(())
}

async fn floods(yard: Arc<Yard>, event: &str) -> Result<()> {
    let event = event.replace("TOKEN", &yard.token("S8-flood").await?);
    floods_with(yard, frame(TEXT, event.as_bytes())).await
}

async fn floods_with(yard: Arc<Yard>, frame: Vec<u8>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    for _ in 0..300 {
        socket.send_bytes(&frame).await?;
    }
    loop {
        let heard = heard(&mut socket).await?;
        if heard == "41" {
            return Ok(());
        }
        ensure!(heard.starts_with("42") || heard == "2", "heard {heard}");
    }
}

/// The session's last words wait for whoever fetches them.
async fn polls(yard: Arc<Yard>, packet: &str) -> Result<()> {
    let session = yard.polling_inside().await?;
    yard.plain("POST", &session.path, "", &[packet; 200].join("\x1e")).await?;
    let mut heard = String::new();
    while !heard.split('\x1e').any(|packet| packet == "41") {
        let answer = yard.plain("GET", &session.path, "", "").await?;
        ensure!(answer.status == 200, "was not told to go: {} {}", answer.status, answer.body);
        heard = answer.body;
    }
    Ok(())
}
