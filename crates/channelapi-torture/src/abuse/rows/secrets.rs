//! What must never be written down where others read: looked for in everything that a server says at its most talkative.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};

use super::super::case::{Case, case};
use super::super::wire::PATIENCE;
use super::super::yard::{Yard, expect, heard, with_key};
use super::jwts::{self, now};
use crate::jwt::{hs256, sign};
use crate::server::AUTH_KEY;
use crate::websocket::WebSocket;

/// Of a publisher that may do less than everything. The configuration knows its hash.
const SCOPED_KEY: &str = "canary-scoped-key-0123456789abcdef";
/// What an issuer signs with. The configuration has it, and nobody shows it.
const JWT_SECRET: &str = "canary-jwt-secret-0123456789-0123456789";

pub(super) fn configuration() -> String {
    let hash = Sha256::digest(SCOPED_KEY).iter().fold(String::new(), |mut hash, byte| {
        write!(hash, "{byte:02x}").expect("a string takes everything");
        hash
    });
    format!(
        "[log]\nlevel = \"trace\"\nformat = \"json\"\n\
         [[auth_keys]]\nname = \"shop\"\nhash = \"sha256:{hash}\"\nscopes = [\"publish\"]\n\
         [[jwt]]\nissuer = \"shop\"\naudience = [\"push\"]\nsecret = \"{JWT_SECRET}\"\n"
    )
}

/// The file with it, seen from where the program is run once more.
const CONFIGURATION: &str = "../channelapi.toml";

/// What is published, which is nobody's business either.
const DATA: &str = "canary-data-4711";
/// A key that is wrong, but perhaps right elsewhere.
const WRONG_KEY: &str = "canary-wrong-key-0123456789";
/// The same for a token.
const WRONG_TOKEN: &str = "canary-wrong-token-0123456789abcdefghijklmn";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("A10", "no secret is in logs, metrics, errors, settings or the list of processes", everything),
        case("A10", "a crash leaves no core behind", no_core),
    ]
}

/// Whether the log of a server, however it was attacked, holds nothing of what opens something.
pub(in super::super) fn keeps_secrets(log: &str, tokens: &BTreeSet<String>) -> Result<()> {
    let tokens = tokens.iter().map(|token| ("a token", token.as_str()));
    let known = [
        ("the key", AUTH_KEY),
        ("the scoped key", SCOPED_KEY),
        ("the secret of an issuer", JWT_SECRET),
        ("the secret of another", jwts::SECRET),
        ("a wrong key", WRONG_KEY),
        ("a wrong token", WRONG_TOKEN),
        ("what was published", DATA),
    ];
    for (what, secret) in known.into_iter().chain(tokens) {
        let line = log.lines().find(|line| line.contains(secret));
        ensure!(line.is_none(), "the log holds {what}: {line:?}");
    }
    Ok(())
}

async fn everything(yard: Arc<Yard>) -> Result<()> {
    let token = yard.token("A10").await?;
    let mut secrets = vec![("the key", AUTH_KEY.to_owned()), ("the token", token.clone())];
    secrets.extend(
        [("a wrong key", WRONG_KEY), ("a wrong token", WRONG_TOKEN)]
            .map(|(what, secret)| (what, secret.to_owned())),
    );

    let mut said = answers_to_strangers(&yard).await?;
    secrets.push(("the session of a poll", polling_client(&yard, &token).await?));
    secrets.extend(returning_client(&yard, &token).await?);
    said.extend(refused_clients(&yard).await?);
    said.extend(streams(&yard, &token, WRONG_TOKEN).await?);
    secrets.extend(broken_configurations(&yard).await?);
    secrets.extend(backends_and_their_clients(&yard, &mut said).await?);
    said.push(("GET /metrics".to_owned(), yard.api("GET", "/metrics", "", "").await?.body));
    for arguments in [
        &["config", "show", "--config", CONFIGURATION][..],
        &["check", "--config", CONFIGURATION],
        &["--help"],
        &["config", "doc"],
    ] {
        let environment = [("CHANNELAPI_AUTH_KEY", AUTH_KEY)];
        let (_, text) = yard.server.once(arguments, &environment, Duration::from_secs(10)).await?;
        ensure!(
            !arguments.contains(&CONFIGURATION) || text.contains("jwt"),
            "{arguments:?} did not read it: {text}"
        );
        said.push((arguments.join(" "), text));
    }
    said.push(("the list of processes".to_owned(), yard.server.command_line()?));
    let log = yard.server.whole_log();
    ensure!(log.contains("\"level\":\"DEBUG\""), "the server was not talkative: {log:.2000}");
    said.push(("the log".to_owned(), log));

    for (place, text) in &said {
        for (what, secret) in &secrets {
            ensure!(!text.contains(secret), "{what} is in {place}: {text:.3000}");
        }
        ensure!(!text.contains(DATA), "what was published is in {place}");
    }
    let files = yard.server.files_of_data()?;
    ensure!(!files.is_empty(), "there are no files");
    for (name, bytes) in files {
        for (what, secret) in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            ensure!(!found, "{what} is in {}", name.display());
        }
    }
    Ok(())
}

/// An event stream that is opened with a token in its address, and one that is refused.
async fn streams(yard: &Yard, good: &str, bad: &str) -> Result<Vec<(String, String)>> {
    let mut said = Vec::new();
    for (token, status) in [(good, "HTTP/1.1 200 "), (bad, "HTTP/1.1 403 ")] {
        let (head, mut wire) = yard.stream("A10", token).await?;
        ensure!(head.starts_with(status), "a stream is answered with {head}");
        said.push(("the head of a stream".to_owned(), head));
        if status.contains("403") {
            said.push(("the refusal of a stream".to_owned(), wire.answer().await?.body));
        }
    }
    Ok(said)
}

/// What stands in configurations that cannot be used.
const BROKEN_SECRET: &str = "canary-broken-secret-0123456789-0123456789";
const BROKEN_KEY: &str = "canary-broken-key-0123456789abcdef";
const SHORT_SECRET: &str = "canary-short-one";

/// The server is told to read configurations with secrets in which something is wrong, and the right one in the end. Returns the secrets.
async fn broken_configurations(yard: &Yard) -> Result<Vec<(&'static str, String)>> {
    const REFUSED: &str = "the configuration is not usable";
    const TAKEN: &str = "the configuration is reloaded";
    let right = configuration();
    let broken = [
        format!("{right}[[jwt]]\nissuer = \"b\"\naudience = [\"push\"]\nsecret = \"{BROKEN_SECRET}\n"),
        format!("{right}[[jwt]]\nissuer = \"b\"\naudience = [\"push\"]\nsecrets = \"{BROKEN_SECRET}\"\n"),
        format!("{right}[[jwt]]\nissuer = \"b\"\naudience = [\"push\"]\nsecret = [\"{BROKEN_SECRET}\"]\n"),
        format!("{right}[[jwt]]\nissuer = \"b\"\naudience = [\"push\"]\nsecret = \"{SHORT_SECRET}\"\n"),
        format!("{right}[[auth_keys]]\nname = \"b\"\nhash = \"{BROKEN_KEY}\"\nscopes = [\"publish\"]\n"),
        format!("{right}[[auth_keys]]\nname = \"b\"\nkey = \"{BROKEN_KEY}\"\nscopes = [\"publish\"]\n"),
        format!("auth_keys = \"{BROKEN_KEY}\"\n{right}"),
    ];
    let count = |part: &str| yard.server.whole_log().matches(part).count();
    for (configuration, outcome) in broken.iter().map(|broken| (broken, REFUSED)).chain([(&right, TAKEN)]) {
        let before = count(outcome);
        yard.server.reload(configuration)?;
        let told = async {
            while count(outcome) == before {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, told)
            .await
            .with_context(|| format!("a reload did not end so that {outcome}: {configuration}"))?;
    }
    Ok(vec![
        ("a secret of a configuration that is refused", BROKEN_SECRET.to_owned()),
        ("a short secret of a configuration that is refused", SHORT_SECRET.to_owned()),
        ("a key of a configuration that is refused", BROKEN_KEY.to_owned()),
    ])
}

/// Errors of the API, asked for with secrets in every place that there is.
async fn answers_to_strangers(yard: &Yard) -> Result<Vec<(String, String)>> {
    let mut said = Vec::new();
    let wrong =
        format!("Authorization: Bearer {WRONG_KEY}\r\nX-Api-Key: {WRONG_KEY}\r\nCookie: key={WRONG_KEY}\r\n");
    for (method, path) in [
        ("POST", "/channel/A10"),
        ("POST", "/message/A10"),
        ("POST", "/v1/channels/A10/messages"),
        ("GET", "/v1/channels/A10/stream"),
        ("GET", "/metrics"),
        ("GET", "/socket.io/?EIO=4&transport=polling"),
    ] {
        let answer = yard.plain(method, path, &wrong, "").await?;
        said.push((format!("{method} {path}"), format!("{}{}", answer.head, answer.body)));
    }
    for key in [AUTH_KEY, WRONG_KEY] {
        for path in
            [format!("/channel/A10?key={key}"), format!("/v1/channels/A10?auth_key={key}"), format!("/{key}")]
        {
            let answer = yard.plain("POST", &path, "", "").await?;
            said.push((format!("an answer to {key} in a path"), answer.body));
        }
    }
    for body in [
        format!(r#"{{"message":"{DATA}""#),
        format!(r#"{{"data":"{DATA}","{DATA}":1}}"#),
        format!(r#"["{DATA}"]"#),
    ] {
        for path in ["/message/A10", "/v1/messages"] {
            said.push((format!("an error of {path}"), yard.api("POST", path, "", &body).await?.head));
        }
    }
    // A body that is refused with a token in it.
    let answer = yard.api("DELETE", &format!("/v1/tokens/{WRONG_TOKEN}"), "", "").await?;
    said.push(("an answer to an unknown token".to_owned(), answer.body));
    Ok(said)
}

/// Returns the session's secret.
async fn polling_client(yard: &Yard, token: &str) -> Result<String> {
    let session = yard.polling_inside().await?;
    let join = format!(r#"42["join_channel",{{"token":"{token}"}}]"#);
    ensure!(yard.plain("POST", &session.path, "", &join).await?.status == 200, "the join was refused");
    yard.plain("GET", &session.path, "", "").await?;
    let query = format!("EIO=4&transport=websocket&sid={}", session.sid);
    let (mut socket, _) = WebSocket::open(yard.address, &query, "").await?;
    socket.send("2probe").await?;
    expect(&mut socket, "3probe").await?;
    socket.send("5").await?;
    yard.publish("A10", &format!(r#""{DATA}""#)).await?;
    expect(&mut socket, &format!(r#"42["message","{DATA}"]"#)).await?;
    yard.plain("GET", &session.path, "", "").await?;
    Ok(session.sid)
}

/// Returns the session's pid.
async fn returning_client(yard: &Yard, token: &str) -> Result<Vec<(&'static str, String)>> {
    let mut socket = yard.websocket().await?;
    socket.send(&format!("40{}", json!({ "token": token, "meta": true }))).await?;
    let admission = heard(&mut socket).await?;
    let pid = admission.split('"').nth(7).context("no pid")?.to_owned();
    ensure!(pid.len() > 20, "no pid in {admission}");
    let mut again = yard.websocket().await?;
    again.send(&format!("40{}", json!({ "token": token, "pid": pid, "offset": "canary" }))).await?;
    ensure!(heard(&mut again).await?.starts_with("40{"), "it cannot come back");
    Ok(vec![("a pid", pid)])
}

/// A key that may do little, and JWTs: good ones, and some that are refused. Returns all of them.
async fn backends_and_their_clients(
    yard: &Yard,
    said: &mut Vec<(String, String)>,
) -> Result<Vec<(&'static str, String)>> {
    let key = format!("Authorization: Bearer {SCOPED_KEY}\r\nContent-Type: application/json\r\n");
    let body = format!(r#"{{"data":"{DATA}"}}"#);
    let path = "/v1/channels/A10/messages";
    let answer = yard.plain("POST", path, &key, &body).await?;
    ensure!(answer.status == 201, "the scoped key was refused: {}", answer.body);
    for (method, path) in [("GET", path), ("DELETE", path), ("POST", "/v1/channels/A10/tokens")] {
        let answer = yard.plain(method, path, &key, "").await?;
        ensure!(answer.status == 403, "the scoped key may {method} {path}: {}", answer.body);
        said.push((
            format!("{method} {path} with the scoped key"),
            format!("{}{}", answer.head, answer.body),
        ));
    }
    let claims = |end: u64| {
        let claims = json!({"iss": "shop", "aud": "push", "sub": "mallory", "exp": end, "channels": ["A10"]});
        claims.to_string()
    };
    let good = sign(JWT_SECRET, &hs256(), &claims(now() + 600));
    let over = sign(JWT_SECRET, &hs256(), &claims(now() - 600));
    let forged = sign(SCOPED_KEY, &hs256(), &claims(now() + 600));
    for (jwt, beginning) in [(&good, "40{"), (&over, "44{"), (&forged, "44{")] {
        let mut socket = yard.websocket().await?;
        socket.send(&format!("40{}", json!({ "token": jwt }))).await?;
        let answer = heard(&mut socket).await?;
        ensure!(answer.starts_with(beginning), "a JWT is answered with {answer}");
        said.push(("the answer to a JWT".to_owned(), answer));
    }
    said.extend(streams(yard, &good, &over).await?);
    said.extend(streams(yard, &good, &forged).await?);
    // What proves who signed it is worth as much as all of it.
    let signatures = [&good, &over, &forged].map(|jwt| jwt.rsplit('.').next().unwrap_or_default().to_owned());
    let signatures = signatures.map(|signature| ("the signature of a JWT", signature));
    let others =
        [("the scoped key", SCOPED_KEY.to_owned()), ("a secret of an issuer", JWT_SECRET.to_owned())];
    Ok(signatures.into_iter().chain(others).collect())
}

async fn refused_clients(yard: &Yard) -> Result<Vec<(String, String)>> {
    let mut said = Vec::new();
    for auth in [
        json!({ "token": WRONG_TOKEN }),
        json!({ "tokens": [WRONG_TOKEN] }),
        json!({ "token": [WRONG_TOKEN] }),
    ] {
        let mut socket = yard.websocket().await?;
        socket.send(&format!("40{auth}")).await?;
        said.push((format!("the answer to {auth}"), heard(&mut socket).await?));
    }
    let (mut socket, _) = yard.greeted().await?;
    socket.send(&format!(r#"427["join_channel",{{"token":"{WRONG_TOKEN}"}}]"#)).await?;
    said.push(("the answer to a wrong token".to_owned(), heard(&mut socket).await?));
    let bad = format!("GET /{WRONG_KEY} HTTP/1.1\r\n{} bad\r\n\r\n", with_key());
    yard.wire(bad.as_bytes()).await?.rest().await?;
    Ok(said)
}

async fn no_core(yard: Arc<Yard>) -> Result<()> {
    let limits = yard.server.limits()?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core = core.context("no limit of cores")?;
    let numbers: Vec<&str> = core.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    ensure!(numbers == ["0", "0"], "cores are written: {core}");
    Ok(())
}
