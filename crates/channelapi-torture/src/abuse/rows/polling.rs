//! Attacks on polling: bodies, requests at the same time, and secrets that are none.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::{Instant, sleep, timeout};

use super::super::case::{Case, case};
use super::super::wire::{PATIENCE, Wire};
use super::super::yard::{Session, Yard, expect, expect_close};
use crate::websocket::{WebSocket, upgrade_request};

const PAYLOAD_MAX: usize = 65_536;
/// More than may wait in a session.
const WAITING_MIN: u64 = 600_000;
/// More answers than the kernel takes on behalf of somebody who reads none.
const POLLS_MAX: u32 = 30;
/// For the server to notice that a client has hung up.
const GONE_MAX: Duration = Duration::from_secs(5);
/// Between two questions whether it has.
const GONE_PAUSE: Duration = Duration::from_millis(20);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("E1", "a body that is announced too large is refused unread", |yard| async move {
            let session = yard.polling().await?;
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                session.path,
                PAYLOAD_MAX + 1
            );
            ends_with(yard, session, head.into_bytes(), 413).await
        })
        .disconnected("protocol_error"),
        case("E1", "a body that grows too large is refused at the limit", |yard| async move {
            let session = yard.polling().await?;
            let mut bytes =
                format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", session.path)
                    .into_bytes();
            let chunk = [b"1000\r\n".to_vec(), vec![b'4'; 0x1000], b"\r\n".to_vec()].concat();
            bytes.extend(chunk.repeat(PAYLOAD_MAX / 0x1000 + 1));
            ends_with(yard, session, bytes, 413).await
        })
        .disconnected("protocol_error"),
        case("E2", "forty packets at once are taken", |yard| async move {
            let session = yard.polling().await?;
            let answer = yard.plain("POST", &session.path, "", &vec!["3"; 40].join("\x1e")).await?;
            ensure!(answer.status == 200 && answer.body == "ok", "they were answered {}", answer.status);
            Ok(())
        }),
        case("E3", "a second poll ends the session", second_poll).disconnected("protocol_error"),
        case("E3", "a second body ends the session", second_body).disconnected("protocol_error"),
        case("E3", "a poll that is given up ends the session", given_up_poll).disconnected("lost"),
        case("E3", "a body that is given up ends the session", given_up_body).disconnected("lost"),
        case(
            "E1",
            "what somebody polls for and does not read counts as waiting until it is gone",
            unread_polls,
        ),
        case("E11", "a secret that is none never opens a session", unknown_secrets)
            .handshake_refused("unknown_session"),
        case("E12", "no public name opens a session", public_names).handshake_refused("unknown_session"),
        case("E14", "a websocket for an unknown session is refused before it opens", unknown_upgrade)
            .handshake_refused("unknown_session"),
        case("E14", "only one websocket may take over a session", two_upgrades).upgrade_failed("busy"),
        case("E14", "a websocket that proves nothing leaves the session alone", failed_upgrades)
            .upgrade_failed("unproven"),
        case("E14", "a session that ends takes the websocket with it that was to take over", ended_upgrade)
            .upgrade_failed("ended"),
        case("E14", "what has moved to a websocket does not poll any more", moved_session)
            .handshake_refused("bad_request"),
        case("E15", "a session is not opened by anything but GET", other_methods)
            .handshake_refused("bad_request"),
    ];
    let bodies: [(&str, &str, Vec<u8>); 9] = [
        ("E2", "separators alone", vec![0x1E; 60_000]),
        ("E2", "257 packets", vec!["6"; 257].join("\x1e").into_bytes()),
        ("E2", "pings of a client", b"2\x1e2\x1e2".to_vec()),
        ("E7", "a body that is not UTF-8", vec![b'4', 0xFF]),
        ("E13", "nothing", Vec::new()),
        ("E13", "an opening", b"0{}".to_vec()),
        ("E13", "a packet of an unknown kind", b"9".to_vec()),
        ("E13", "binary that is not base64", b"b!!".to_vec()),
        ("S4", "an attachment of nothing", b"bAAAA".to_vec()),
    ];
    cases.extend(bodies.map(|(row, what, body)| {
        case(row, format!("{what} in a body ends the session"), move |yard| async move {
            let session = yard.polling_inside().await?;
            let mut bytes = format!(
                "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                session.path,
                body.len()
            )
            .into_bytes();
            bytes.extend(body);
            ends_with(yard, session, bytes, 400).await
        })
        .disconnected("protocol_error")
    }));
    cases
}

/// The request is answered like this, and its session is over.
async fn ends_with(yard: Arc<Yard>, session: Session, request: Vec<u8>, status: u16) -> Result<()> {
    let answer = yard.wire(&request).await?.answer().await?;
    ensure!(answer.status == status, "it was answered {}: {}", answer.status, answer.body);
    yard.gone(&session).await
}

fn get(session: &Session) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", session.path).into_bytes()
}

/// Whichever of the two comes first.
async fn second_poll(yard: Arc<Yard>) -> Result<()> {
    let session = yard.polling_inside().await?;
    // The greeting is fetched: from here on a poll waits.
    let (mut one, mut other) = (yard.wire(&get(&session)).await?, yard.wire(&get(&session)).await?);
    let answers = [one.answer().await?, other.answer().await?];
    ensure!(answers.iter().any(|answer| answer.status == 400), "both polls were served");
    yard.gone(&session).await
}

async fn second_body(yard: Arc<Yard>) -> Result<()> {
    let session = yard.polling_inside().await?;
    let begun = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n3", session.path);
    let mut begun = yard.wire(begun.as_bytes()).await?;
    // Until the first one is in the server's hands, the second is the only one.
    let end = Instant::now() + PATIENCE;
    while yard.plain("POST", &session.path, "", "3").await?.status == 200 {
        ensure!(Instant::now() < end, "two bodies are read at the same time");
    }
    ensure!(begun.answer().await?.status == 400, "the first body is still waited for");
    yard.gone(&session).await
}

async fn given_up_poll(yard: Arc<Yard>) -> Result<()> {
    given_up(yard, get).await
}

async fn given_up_body(yard: Arc<Yard>) -> Result<()> {
    given_up(yard, |session| {
        let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n3", session.path);
        head.into_bytes()
    })
    .await
}

/// A request that is given up before the server has begun with it ends nothing, and nothing says when it has. So there are some
/// attempts, each with time to begin. That a session is counted as lost says nothing here: others lose theirs meanwhile.
async fn given_up(yard: Arc<Yard>, request: fn(&Session) -> Vec<u8>) -> Result<()> {
    for _ in 0..5 {
        let session = yard.polling_inside().await?;
        let wire = yard.wire(&request(&session)).await?;
        for _ in 0..5 {
            yard.plain("GET", "/healthz", "", "").await?;
        }
        wire.reset()?;
        let gone = async {
            while yard.gone(&session).await.is_err() {
                sleep(GONE_PAUSE).await;
            }
        };
        if timeout(GONE_MAX, gone).await.is_ok() {
            return Ok(());
        }
    }
    bail!("the session outlives its client")
}

/// Both ways through the server: with the second head, hyper writes the answers.
async fn unread_polls(yard: Arc<Yard>) -> Result<()> {
    unread_polls_with(&yard, "E1", "").await?;
    unread_polls_with(&yard, "E1-hyper", "Connection: keep-alive, TE\r\n").await
}

/// The kernel takes the first answers, then none. Beside what is being sent, half a MiB may wait in the session.
async fn unread_polls_with(yard: &Yard, channel: &str, header: &str) -> Result<()> {
    let session = yard.polling_inside().await?;
    let token = yard.token(channel).await?;
    let join = format!(r#"42["join_channel",{{"token":"{token}"}}]"#);
    ensure!(yard.plain("POST", &session.path, "", &join).await?.status == 200, "no join");
    let poll = format!("GET {} HTTP/1.1\r\nHost: x\r\n{header}\r\n", session.path);
    let mut wire = Wire::connect_tight(yard.address).await?;
    // At once: whoever says nothing has to make room when a crowd comes that says nothing either, and one of these cases is that crowd.
    ensure!(wire.send(poll.as_bytes()).await, "the server has hung up");
    let data = format!(r#""{}""#, "x".repeat(200_000));
    let mut polls = 0;
    while waiting_bytes(yard).await? < WAITING_MIN {
        ensure!(polls < POLLS_MAX, "{polls} answers that nobody reads do not count: {header}");
        polls += 1;
        yard.publish(channel, &data).await?;
        yard.publish(channel, &data).await?;
        sleep(Duration::from_millis(100)).await;
        ensure!(wire.send(poll.as_bytes()).await, "the server has hung up");
    }
    wire.reset()?;
    let end = Instant::now() + PATIENCE;
    while waiting_bytes(yard).await? >= WAITING_MIN {
        ensure!(Instant::now() < end, "what waited for somebody who is gone still counts: {header}");
        sleep(Duration::from_millis(100)).await;
    }
    // What still waits in the session goes with it, and does not count for the next one.
    yard.plain("POST", &session.path, "", "9").await?;
    Ok(())
}

async fn waiting_bytes(yard: &Yard) -> Result<u64> {
    yard.metrics().await?.get("channelapi_waiting_bytes").copied().context("no number of bytes that wait")
}

async fn unknown_secrets(yard: Arc<Yard>) -> Result<()> {
    let long = "A".repeat(4000);
    let connections =
        ["AAAAAAAAAAAAAAAAAAAAAA", "__proto__", "%00", "../../etc/passwd", "a&sid=b", &long, "sid", "0"];
    for sid in connections {
        for method in ["GET", "POST"] {
            let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
            let answer = yard.plain(method, &path, "", "40").await?;
            let refused = answer.status == 400 && answer.body.contains("\"code\":1");
            ensure!(refused, "{method} with sid={sid} was answered {}: {}", answer.status, answer.body);
        }
    }
    Ok(())
}

async fn public_names(yard: Arc<Yard>) -> Result<()> {
    let (_socket, name) = yard.greeted().await?;
    let token = yard.token("E12").await?;
    let session = yard.polling().await?;
    let auth = format!(r#"40{{"token":"{token}"}}"#);
    ensure!(yard.plain("POST", &session.path, "", &auth).await?.status == 200, "no admission");
    let admission = yard.plain("GET", &session.path, "", "").await?.body;
    let words = admission.split('"').filter(|word| word.len() >= 20).map(str::to_owned);
    let mut names: Vec<String> = words.collect();
    ensure!(names.len() >= 2, "no sid and no pid in {admission}");
    names.extend([name, token]);
    for name in names {
        ensure!(name != session.sid, "the session's secret is shown: {admission}");
        let path = format!("/socket.io/?EIO=4&transport=polling&sid={name}");
        let answer = yard.plain("GET", &path, "", "").await?;
        ensure!(answer.body.contains("\"code\":1"), "{name} opens a session: {}", answer.body);
    }
    Ok(())
}

async fn upgrade(yard: &Yard, sid: &str) -> Result<Wire> {
    let query = format!("EIO=4&transport=websocket&sid={sid}");
    yard.wire(upgrade_request(&query, "").as_bytes()).await
}

async fn unknown_upgrade(yard: Arc<Yard>) -> Result<()> {
    let answer = upgrade(&yard, "AAAAAAAAAAAAAAAAAAAAAA").await?.answer().await?;
    ensure!(answer.status == 400 && answer.body.contains("\"code\":1"), "it was answered {}", answer.status);
    Ok(())
}

async fn two_upgrades(yard: Arc<Yard>) -> Result<()> {
    let session = yard.polling_inside().await?;
    let query = format!("EIO=4&transport=websocket&sid={}", session.sid);
    let (mut first, _) = WebSocket::open(yard.address, &query, "").await?;
    let (mut second, _) = WebSocket::open(yard.address, &query, "").await?;
    expect_close(&mut second, 4500).await?;
    first.send("2probe").await?;
    expect(&mut first, "3probe").await?;
    first.send("5").await?;
    yard.join(&mut first, "E14").await
}

async fn failed_upgrades(yard: Arc<Yard>) -> Result<()> {
    let session = yard.polling_inside().await?;
    let query = format!("EIO=4&transport=websocket&sid={}", session.sid);
    for lie in ["5", "2", "2prob", "40", "3probe", "1"] {
        let (mut candidate, _) = WebSocket::open(yard.address, &query, "").await?;
        candidate.send(lie).await?;
        let closed = timeout(PATIENCE, candidate.close_code()).await;
        ensure!(closed.is_ok(), "a websocket that says `{lie}` is kept");
    }
    let answer = yard.plain("POST", &session.path, "", "3").await?;
    ensure!(answer.status == 200, "the session ended with the websocket: {}", answer.body);
    Ok(())
}

async fn ended_upgrade(yard: Arc<Yard>) -> Result<()> {
    let session = yard.polling_inside().await?;
    let query = format!("EIO=4&transport=websocket&sid={}", session.sid);
    let (mut candidate, _) = WebSocket::open(yard.address, &query, "").await?;
    candidate.send("2probe").await?;
    expect(&mut candidate, "3probe").await?;
    let answer = yard.plain("POST", &session.path, "", "1").await?;
    ensure!(answer.status == 200, "a farewell was answered {}", answer.status);
    let closed = timeout(PATIENCE, candidate.close_code()).await;
    ensure!(closed.is_ok(), "the websocket outlives its session");
    Ok(())
}

async fn moved_session(yard: Arc<Yard>) -> Result<()> {
    let session = yard.polling_inside().await?;
    let query = format!("EIO=4&transport=websocket&sid={}", session.sid);
    let (mut socket, _) = WebSocket::open(yard.address, &query, "").await?;
    socket.send("2probe").await?;
    expect(&mut socket, "3probe").await?;
    socket.send("5").await?;
    yard.join(&mut socket, "E14").await?;
    for method in ["GET", "POST"] {
        let answer = yard.plain(method, &session.path, "", "42[\"x\"]").await?;
        ensure!(answer.status == 400, "{method} was answered {}", answer.status);
    }
    yard.publish("E14", "1").await?;
    expect(&mut socket, r#"42["message",1]"#).await
}

async fn other_methods(yard: Arc<Yard>) -> Result<()> {
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW"] {
        let head = format!(
            "{method} /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = yard.wire(head.as_bytes()).await?.answer().await?;
        ensure!((400..500).contains(&answer.status), "{method} was answered {}", answer.status);
    }
    Ok(())
}
