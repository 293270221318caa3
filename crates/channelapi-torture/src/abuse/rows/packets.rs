//! What is sent instead of proper Engine.IO and Socket.IO packets, in frames that are in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::super::case::{Case, case};
use super::super::yard::{Yard, expect, expect_close, heard, took_about};
use crate::websocket::frame;

/// "You broke the protocol, and need not come back."
const BROKEN: u16 = 4500;
/// "You did not finish what you began."
const TOO_LATE: u16 = 4501;

const ATTACHMENTS_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn cases() -> Vec<Case> {
    let deep = "[".repeat(60_000);
    let wide = format!(r#"42["x",{}]"#, r#"{"a":"#.repeat(33) + "1" + &"}".repeat(33));
    let bad: &[(&str, &[&str])] = &[
        ("E13", &["", "0{}", "2", "2probe", "7", "9", "b4AAA", "é", "1x", "5x", "6x"]),
        ("S1", &["45", "45-", "45-1", r#"45x-["m"]"#, r#"451e3-["m"]"#, r#"45-1-["m"]"#]),
        ("S1", &[r#"4511-["m"]"#, r#"4599999999999999999999-["m"]"#]),
        ("S1", &[r#"451000000-["m",{"_placeholder":true,"num":0}]"#]),
        ("S2", &[r#"451-["m",{"_placeholder":true,"num":"splice"}]"#]),
        (
            "S2",
            &[r#"451-["m",{"_placeholder":true,"num":-1}]"#, r#"451-["m",{"_placeholder":true,"num":99}]"#],
        ),
        ("S2", &[r#"451-["m",{"_placeholder":true,"num":0.5}]"#, r#"451-["m",{"_placeholder":true}]"#]),
        ("S2", &[r#"451-["m",{"_placeholder":true,"num":1e99}]"#]),
        (
            "S3",
            &[r#"42["connect"]"#, r#"42["connect_error"]"#, r#"42["disconnect"]"#, r#"42["disconnecting"]"#],
        ),
        ("S3", &[r#"42["newListener"]"#, r#"42["removeListener"]"#, r#"42["\u0063onnect"]"#]),
        (
            "S3",
            &[
                "42",
                "42[]",
                "42[null]",
                "42[{\"toString\":1}]",
                "42{\"a\":1}",
                "42\"x\"",
                "42[\"x\"",
                "42[\"x\"]]",
            ],
        ),
        ("S3", &["43[]", "431{}", r#"44{"message":"x"}"#, "41{}", "40[]", r#"42["x",01]"#, r#"42["x",NaN]"#]),
        ("S4", &["47", "49", "4", "4x"]),
        ("S6", &[r#"4299999999999999999999["x"]"#]),
        ("S7", &["40", r#"42/other,["x"]"#, "43/other,1[]"]),
    ];
    let mut cases = Vec::new();
    for (row, texts) in bad {
        for text in *texts {
            let promise = format!("`{text}` ends the connection");
            let attack = case(row, promise, move |yard| closed(yard, text.to_string()));
            cases.push(attack.disconnected("protocol_error"));
        }
    }
    let deep_event = format!("42[\"x\",{deep}");
    let deep_auth = format!("40{}", r#"{"a":"#.repeat(9_000));
    cases.extend([
        case("S5", "an event that is nested without end ends the connection", |yard| {
            closed(yard, deep_event)
        })
        .disconnected("protocol_error"),
        case("S5", "auth that is nested without end ends the connection", |yard| {
            closed_outside(yard, deep_auth)
        })
        .disconnected("protocol_error"),
        case("S5", "33 objects in each other end the connection", |yard| closed(yard, wide))
            .disconnected("protocol_error"),
        case("S5", "JSON in texts in texts is not read, whatever it is dressed as", texts_in_texts)
            .join_refused("bad_request"),
        case("S5", "an object does not pass for the token in its text", dressed_token)
            .join_refused("bad_request"),
        case("S4", "text among attachments ends the connection", text_among_attachments)
            .disconnected("protocol_error"),
        case("S4", "an attachment of nothing ends the connection", attachment_of_nothing)
            .disconnected("protocol_error"),
        case("S2", "attachments that are too big together end the connection", big_attachments)
            .disconnected("protocol_error"),
        case("S2", "a packet waits ten seconds for its attachments", missing_attachment)
            .disconnected("connect_timeout"),
        case("S2", "nobody waits for the attachments of a client that has not entered", |yard| {
            closed_outside(yard, WAITING.to_owned())
        })
        .disconnected("protocol_error"),
        case("S14", "a client that answers to pings that were never sent is served as others", idle_answers),
        case("S3", "events that mean nothing do nothing", meaningless_events).event("unknown"),
        case("S10", "what a client emits reaches nobody", emits_messages).event("unknown"),
        case("S12", "a client outside of the namespace is not heard", outside).disconnected("protocol_error"),
        case("S13", "namespaces that do not exist are refused one by one", other_namespaces)
            .join_refused("namespace"),
    ]);
    cases
}

async fn closed(yard: Arc<Yard>, text: String) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    socket.send(&text).await?;
    expect_close(&mut socket, BROKEN).await
}

async fn closed_outside(yard: Arc<Yard>, text: String) -> Result<()> {
    let mut socket = yard.websocket().await?;
    socket.send(&text).await?;
    expect_close(&mut socket, BROKEN).await
}

/// What a parser might take for the JSON in a text.
fn dressed(text: &str) -> String {
    json!({ "$serde_json::private::RawValue": text }).to_string()
}

/// Each level of texts doubles the escapes of those inside, so that few of them fit; a parser's own limit holds for each of them alone.
async fn texts_in_texts(yard: Arc<Yard>) -> Result<()> {
    let deep = (0..9).fold("1".to_owned(), |inner, _| {
        format!("{}{}{}", "[".repeat(120), dressed(&inner), "]".repeat(120))
    });
    let deep = dressed(&deep);
    for field in ["token", "tokens", "channels", "since", "resume", "offset"] {
        let mut socket = yard.websocket().await?;
        socket.send(&format!(r#"40{{"token":"x","{field}":{deep}}}"#)).await?;
        let refusal = heard(&mut socket).await?;
        ensure!(refusal.starts_with("44{"), "{field} was answered {refusal}");
        let says = if field == "offset" { "token_invalid" } else { "bad_auth" };
        ensure!(refusal.contains(says), "{field} was answered {refusal}");
    }
    let mut socket = yard.member("S5").await?;
    socket.send(&format!(r#"421["auth",{deep}]"#)).await?;
    let answer = heard(&mut socket).await?;
    ensure!(answer.contains(r#""code":"bad_request""#), "auth was answered {answer}");
    yard.join(&mut socket, "S5").await
}

async fn dressed_token(yard: Arc<Yard>) -> Result<()> {
    let token = yard.token("S5").await?;
    let dressed = dressed(&json!(token).to_string());
    let mut socket = yard.websocket().await?;
    socket.send(&format!(r#"40{{"token":{dressed}}}"#)).await?;
    let refusal = heard(&mut socket).await?;
    ensure!(refusal.starts_with("44{") && refusal.contains("bad_auth"), "it was answered {refusal}");
    let (mut socket, _) = yard.greeted().await?;
    socket.send(&format!(r#"42["join_channel",{{"token":{dressed}}}]"#)).await?;
    expect(&mut socket, "41").await
}

const WAITING: &str = r#"452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
const BINARY: u8 = 0x82;

async fn text_among_attachments(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    socket.send(WAITING).await?;
    socket.send_bytes(&frame(BINARY, b"one")).await?;
    socket.send(r#"42["y"]"#).await?;
    expect_close(&mut socket, BROKEN).await
}

async fn attachment_of_nothing(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    socket.send_bytes(&frame(BINARY, b"one")).await?;
    expect_close(&mut socket, BROKEN).await
}

async fn big_attachments(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    socket.send(WAITING).await?;
    for _ in 0..2 {
        socket.send_bytes(&frame(BINARY, &vec![0; 40_000])).await?;
    }
    expect_close(&mut socket, BROKEN).await
}

/// The client shows all the time that it lives: only the server's own clock can end this.
async fn missing_attachment(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    socket.send(WAITING).await?;
    let began = Instant::now();
    loop {
        let closed = timeout(Duration::from_secs(1), expect_close(&mut socket, TOO_LATE)).await;
        if let Ok(closed) = closed {
            closed?;
            return took_about(began.elapsed(), ATTACHMENTS_TIMEOUT);
        }
        // A websocket's sign of life and Engine.IO's. Neither is an attachment.
        socket.send_bytes(&[frame(0x8A, b""), frame(0x81, b"3")].concat()).await?;
    }
}

/// Answers to pings that were never sent, as many at once as a client may send events.
async fn idle_answers(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    socket.send_bytes(&[frame(0x81, b"3"), frame(0x8A, b"")].concat().repeat(20)).await?;
    yard.join(&mut socket, "S14").await
}

async fn meaningless_events(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    for event in [
        r#"42["error"]"#,
        r#"42["__proto__",{"__proto__":{"x":1}}]"#,
        r#"42["constructor","prototype"]"#,
        r#"42["clientevent",{"data":"Connected"}]"#,
        r#"42["checkpoint","ca1.AAAAAAAAAAAAAAAAAAAAAAAAAAAA"]"#,
        r#"42["gap",{}]"#,
        "42[1e400]",
        r#"42["x",1e400,"\ud800"]"#,
        r#"427["x"]"#,
        "43123[]",
    ] {
        socket.send(event).await?;
    }
    yard.join(&mut socket, "S3").await
}

/// Not even to the client itself, as the original did it.
async fn emits_messages(yard: Arc<Yard>) -> Result<()> {
    let mut witness = yard.member("S10").await?;
    let mut attacker = yard.member("S10").await?;
    attacker.send(r#"42["message","to everybody"]"#).await?;
    attacker.send(r#"42["message",{"channel":"S10","data":1}]"#).await?;
    yard.publish("S10", r#""from the publisher""#).await?;
    for client in [&mut attacker, &mut witness] {
        expect(client, r#"42["message","from the publisher"]"#).await?;
    }
    Ok(())
}

async fn outside(yard: Arc<Yard>) -> Result<()> {
    let token = yard.token("S12").await?;
    for packet in [format!(r#"42["join_channel",{{"token":"{token}"}}]"#), "431[]".to_owned()] {
        closed_outside(Arc::clone(&yard), packet).await?;
    }
    Ok(())
}

async fn other_namespaces(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    for _ in 0..10 {
        socket.send("40/admin,{\"token\":\"x\"}").await?;
        expect(&mut socket, r#"44/admin,{"message":"Invalid namespace"}"#).await?;
    }
    ensure!(yard.connections().await? > 0, "nobody is there");
    yard.join(&mut socket, "S13").await
}
