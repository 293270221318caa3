//! Joining with what is no token, with too many, or with somebody else's.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::case::{Case, case};
use super::super::yard::{Yard, expect, heard};

/// Channels of one connection.
const CHANNELS: usize = 128;

pub(super) fn cases() -> Vec<Case> {
    let bad = [
        String::new(),
        ",null".to_owned(),
        ",7".to_owned(),
        ",[]".to_owned(),
        r#",["token"]"#.to_owned(),
        ",{}".to_owned(),
        r#","{""#.to_owned(),
        r#",{"token":""}"#.to_owned(),
        r#",{"token":null}"#.to_owned(),
        r#",{"token":["a"]}"#.to_owned(),
        r#",{"token":{"$gt":""}}"#.to_owned(),
        r#",{"token":"' OR 1=1 --"}"#.to_owned(),
        r#",{"token":"\u0000"}"#.to_owned(),
        r#",{"token":"\ud800"}"#.to_owned(),
        format!(r#",{{"token":"{}"}}"#, "A".repeat(43)),
        format!(r#",{{"token":"{}"}}"#, "A".repeat(9_000)),
        format!(r#",{{"token":"{}"}}"#, "A".repeat(60_000)),
        r#",{"token":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","since":"all"}"#.to_owned(),
    ];
    let mut cases: Vec<Case> = bad
        .into_iter()
        .map(|arguments| {
            let shown = arguments
                .get(..arguments.len().min(50))
                .unwrap_or("no argument")
                .trim_start_matches(',')
                .to_owned();
            // A lone surrogate is no text.
            let has_token = arguments.contains(r#""token":""#) && !arguments.contains("ud800");
            case("S9", format!("joining with `{shown}` ends the client's stay"), move |yard| async move {
                let (mut socket, _) = yard.greeted().await?;
                socket.send(&format!(r#"42["join_channel"{arguments}]"#)).await?;
                expect(&mut socket, "41").await
            })
            .join_refused(if has_token { "token" } else { "bad_request" })
        })
        .collect();
    cases.extend([
        case("S8", "a channel that is joined twice is heard once", twice),
        case("S8", "nobody is in more than 128 channels", too_many).join_refused("channels"),
        case("S8", "more than 128 tokens at once are refused as a whole", too_many_tokens)
            .join_refused("channels"),
        case("A6", "a token opens its own channel and none that is called alike", alike),
        case("A7", "a place in somebody else's session opens nothing", stolen_session).join_refused("token"),
        case("A9", "two hundred requests for a token get the same one", same_token),
        case(
            "A11",
            "a channel called like a room of everybody is a channel like any other",
            room_of_everybody,
        ),
        case("S9", "auth of the wrong types is refused with a reason", wrong_auth)
            .join_refused("bad_request"),
    ]);
    cases.extend(
        [
            ("not understood", "bad_request", r#"{"channel":"S15","offset":"1"}"#),
            ("not understood", "bad_request", r#"{"channel":"S15","offset":-1}"#),
            ("without a channel", "bad_request", r#"{"offset":1}"#),
            ("of a consumer without a name", "bad_request", r#"{"channel":"S15","offset":1,"consumer":""}"#),
            ("for somebody else's channel", "not_joined", r#"{"channel":"S15-other","offset":1}"#),
            ("of what is not there yet", "ahead", r#"{"channel":"S15","offset":18446744073709551615}"#),
        ]
        .map(|(what, code, ack)| {
            let case =
                case("S15", format!("a confirmation {what} is refused: `{ack}`"), move |yard| async move {
                    let mut socket = yard.member("S15").await?;
                    socket.send(&format!(r#"421["ack",{ack}]"#)).await?;
                    let answer = heard(&mut socket).await?;
                    let is_refused = answer.starts_with(&format!(r#"431[{{"error":{{"code":"{code}""#));
                    ensure!(is_refused, "it was answered {answer}");
                    // The client stays.
                    yard.join(&mut socket, "S15").await
                });
            match code {
                "not_joined" => case.ack_refused("not_joined"),
                "ahead" => case.ack_refused("ahead"),
                _ => case.ack_refused("bad_request"),
            }
        }),
    );
    cases
}

async fn twice(yard: Arc<Yard>) -> Result<()> {
    let mut socket = yard.member("S8-twice").await?;
    yard.join(&mut socket, "S8-twice").await?;
    yard.publish("S8-twice", "1").await?;
    yard.publish("S8-twice", "2").await?;
    expect(&mut socket, r#"42["message",1]"#).await?;
    expect(&mut socket, r#"42["message",2]"#).await
}

async fn tokens(yard: &Yard, count: usize) -> Result<Vec<String>> {
    let mut tokens = Vec::new();
    for number in 0..count {
        tokens.push(yard.token(&format!("S8-{number}")).await?);
    }
    Ok(tokens)
}

async fn too_many(yard: Arc<Yard>) -> Result<()> {
    let tokens = tokens(&yard, CHANNELS + 1).await?;
    let mut socket = yard.websocket().await?;
    socket.send(&format!("40{}", json!({ "tokens": tokens[..CHANNELS], "resume": false }))).await?;
    ensure!(heard(&mut socket).await?.starts_with("40{"), "128 channels are refused");
    expect(&mut socket, r#"42["clientevent",{"data":"Connected","count":0}]"#).await?;
    socket.send(&format!("42{}", json!(["join_channel", { "token": tokens[CHANNELS] }]))).await?;
    expect(&mut socket, "41").await
}

async fn too_many_tokens(yard: Arc<Yard>) -> Result<()> {
    let mut socket = yard.websocket().await?;
    socket.send(&format!("40{}", json!({ "tokens": vec!["x"; CHANNELS + 1] }))).await?;
    let refusal = heard(&mut socket).await?;
    ensure!(refusal.starts_with("44{") && refusal.contains("too_many_channels"), "heard {refusal}");
    Ok(())
}

async fn alike(yard: Arc<Yard>) -> Result<()> {
    let mut socket = yard.member("user:1").await?;
    for channel in ["user:10", "user:1%20", "USER:1", "user:", "user%3A1%2F"] {
        yard.publish(channel, "\"for somebody else\"").await?;
    }
    yard.publish("user:1", "\"for this one\"").await?;
    expect(&mut socket, r#"42["message","for this one"]"#).await
}

/// Pid and cursor of a client are in the hands of another, who has a token for another channel.
async fn stolen_session(yard: Arc<Yard>) -> Result<()> {
    let (mine, theirs) = (yard.token("A7-mine").await?, yard.token("A7-theirs").await?);
    let mut victim = yard.websocket().await?;
    victim.send(&format!("40{}", json!({ "token": theirs }))).await?;
    let admission = heard(&mut victim).await?;
    let pid = admission.split('"').nth(7).unwrap_or_default().to_owned();
    expect(&mut victim, r#"42["clientevent",{"data":"Connected","count":0}]"#).await?;
    let checkpoint = heard(&mut victim).await?;
    let cursor = checkpoint.split('"').nth(3).unwrap_or_default().to_owned();
    ensure!(pid.len() > 20 && cursor.starts_with("ca1."), "no session in {admission} {checkpoint}");
    yard.publish("A7-theirs", "\"secret\"").await?;

    let mut thief = yard.websocket().await?;
    thief.send(&format!("40{}", json!({ "token": mine, "pid": pid, "offset": cursor }))).await?;
    yard.publish("A7-theirs", "\"another secret\"").await?;
    yard.publish("A7-mine", "\"mine\"").await?;
    loop {
        let heard = heard(&mut thief).await?;
        ensure!(!heard.contains("secret"), "the thief hears {heard}");
        if heard.contains("mine\"]") {
            break;
        }
    }
    let mut nobody = yard.websocket().await?;
    nobody.send(&format!("40{}", json!({ "token": "no token", "pid": pid, "offset": cursor }))).await?;
    let refusal = heard(&mut nobody).await?;
    ensure!(refusal.starts_with("44{"), "a session without a token was opened: {refusal}");
    Ok(())
}

async fn same_token(yard: Arc<Yard>) -> Result<()> {
    let requests = (0..200).map(|_| {
        let yard = Arc::clone(&yard);
        tokio::spawn(async move { yard.token("A9").await })
    });
    let mut tokens = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        tokens.push(request.await??);
    }
    tokens.dedup();
    ensure!(tokens.len() == 1, "one channel has {} tokens", tokens.len());
    Ok(())
}

async fn room_of_everybody(yard: Arc<Yard>) -> Result<()> {
    let (mut victim, name) = yard.greeted().await?;
    for room in ["global_emit", "__admin", "*", "%23", "/", "..%2f..", "message", &name] {
        yard.publish(room, "\"for everybody\"").await?;
    }
    yard.join(&mut victim, "A11").await
}

async fn wrong_auth(yard: Arc<Yard>) -> Result<()> {
    for auth in [
        r#"{"token":1}"#,
        r#"{"tokens":"a"}"#,
        r#"{"tokens":[{}]}"#,
        r#"{"token":"a","resume":"yes"}"#,
        r#"{"token":"a","meta":1}"#,
        r#"{"token":"a","consumer":"\u0000"}"#,
        r#"{"token":"a","since":[]}"#,
        r#"{"token":"unknown"}"#,
        r#"{"token":"unknown","pid":"AAAA","offset":"BBBB"}"#,
    ] {
        let mut socket = yard.websocket().await?;
        socket.send(&format!("40{auth}")).await?;
        let refusal = heard(&mut socket).await?;
        ensure!(refusal.starts_with("44{") && refusal.contains("\"code\""), "{auth} was answered {refusal}");
    }
    Ok(())
}
