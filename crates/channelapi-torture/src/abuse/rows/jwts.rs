//! JWTs that nobody signed, or that say what they must not, and issuers whose keys cannot be had.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::super::case::{Case, case};
use super::super::provider::{CROOKED, JWKS, Provider};
use super::super::wire::PATIENCE;
use super::super::yard::{Yard, expect, heard, took_about};
use crate::jwt::{hs256, part, sign};
use crate::websocket::WebSocket;

pub(super) const SECRET: &str = "a secret of the yard, with more than 32 bytes";
/// What everybody can have: the published key, as the text that it comes in, and in PEM form.
const PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEHqQcV5IBmrZcDkEgC8fUbZ6pHK/j\n\
    pixT0VYyo9B1hNk86zEb8gZzcXibE4MOX1QNBfmuEway98oIuknZ3V7txw==\n\
    -----END PUBLIC KEY-----\n";
/// Fetching keys takes as long at most, and then some on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// For another JWT, after the end of one.
const GRACE: Duration = Duration::from_secs(25);
/// Seconds after its end at which a JWT still lets a client in.
const LATE: u64 = 6;
/// JWTs with names of keys that nobody has.
const UNKNOWN_KEYS: u32 = 200;
/// What a server may have asked for once at its start, and once in each minute.
const FETCHES_MAX: usize = 3;
/// What the system keeps on the way, beside what the server takes.
const TAKEN_MAX: usize = 8 << 20;

/// Issuers: one that signs with a secret, one that publishes its keys, and one for each way to publish none.
pub(in super::super) fn configuration() -> String {
    let by_url = |name: &str| {
        format!(
            "[[jwt]]\nissuer = \"{name}\"\naudience = [\"push\"]\njwks_url = \"http://PROVIDER/{name}\"\n"
        )
    };
    let by_secret = format!("[[jwt]]\nissuer = \"secret\"\naudience = [\"push\"]\nsecret = \"{SECRET}\"\n");
    let crooked: String = CROOKED.iter().map(|name| by_url(name)).collect();
    format!("{by_secret}{}{crooked}", by_url("good"))
}

/// A path and query may have 8 KiB, of which this is left for a token.
const TARGET_MAX: usize = 8_000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = forged("")
        .into_iter()
        .enumerate()
        .map(|(index, (what, _))| {
            let promise = format!("a JWT {what} opens nothing");
            let case = case("A1", promise, move |yard| opens_nothing(yard, index));
            // One that is too long for an address does not get so far.
            let case = if what == "of 10 KB" {
                case.http_refused("too_large")
            } else {
                case.request_refused("token")
            };
            if what == "whose time is over" {
                case.join_refused("expired")
            } else {
                case.join_refused("token")
            }
        })
        .collect();
    cases.extend(CROOKED.map(|name| {
        case(
            "A5",
            format!("an issuer whose keys are {name} costs its own clients, and a few seconds"),
            move |yard| is_unavailable(yard, name),
        )
        .join_refused("unavailable")
    }));
    cases.extend([
        case("A1", "a JWT that is good opens its channels and no other", good),
        case("A1", "a JWT that is good does not open another channel that is asked for", not_granted)
            .request_refused("token")
            .join_refused("not_granted"),
        case("A6", "a JWT that is revoked puts its client out, and opens nothing more", revoked)
            .disconnected("revoked")
            .join_refused("revoked"),
        case("A6", "a client whose JWT has ended has 25 seconds from then on for another one", ended)
            .disconnected("expired"),
        case("A3", format!("{UNKNOWN_KEYS} unknown keys do not make the server ask for them"), unknown_keys)
            .join_refused("token"),
    ]);
    cases
}

/// Seconds since 1970.
pub(in super::super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "aud": "push", "sub": "mallory", "iat": now(), "exp": now() + 600, "channels": ["A1"]})
}

/// Claims of the issuer with a secret, with one of them replaced.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims("secret");
    claims[name] = value;
    claims
}

/// What nobody may get in with. Some name a place of the provider's where nobody must ask.
fn forged(provider: &str) -> Vec<(&'static str, String)> {
    let own = claims("secret").to_string();
    let of_good = claims("good").to_string();
    let unsigned =
        |algorithm: &str| format!("{}.{}.", part(&json!({"alg": algorithm}).to_string()), part(&own));
    let named = |kid: &str| sign("", &json!({"alg": "HS256", "kid": kid}), &of_good);
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    let published = json!({"alg": "ES256", "kid": "published"}).to_string();
    let place = format!("http://{provider}/mallory");
    let mallory = |more: Value| {
        let mut header = json!({"alg": "ES256", "kid": "mallory"});
        header
            .as_object_mut()
            .into_iter()
            .zip(more.as_object())
            .for_each(|(header, more)| header.extend(more.clone()));
        format!("{}.{}.{zeros}", part(&header.to_string()), part(&of_good))
    };
    vec![
        ("that is not signed", unsigned("none")),
        ("that is not signed, by another name", unsigned("nOnE")),
        ("without an algorithm", sign(SECRET, &json!({"typ": "JWT"}), &own)),
        ("of another algorithm", sign(SECRET, &json!({"alg": "HS512"}), &own)),
        ("signed with another secret", sign("another secret of more than 32 bytes", &hs256(), &own)),
        ("signed with nothing", sign("", &hs256(), &own)),
        (
            "signed with the public key",
            sign(PUBLIC_PEM, &json!({"alg": "HS256", "kid": "published"}), &of_good),
        ),
        (
            "signed with the published keys",
            sign(JWKS, &json!({"alg": "HS256", "kid": "published"}), &of_good),
        ),
        ("with a signature of zeros", format!("{}.{}.{zeros}", part(&published), part(&of_good))),
        ("whose key is a file", named("../../../../dev/null")),
        ("whose key is a query", named("' UNION SELECT '' --")),
        ("whose key is an address", named(&place)),
        ("whose key is 5 KB", named(&"k".repeat(5_000))),
        ("that names an address of keys", mallory(json!({"jku": place}))),
        ("that names a certificate", mallory(json!({"x5u": place, "x5c": ["MIIB"]}))),
        ("that brings its key", mallory(json!({"jwk": {"kty": "oct", "k": "AA"}}))),
        ("of an unknown issuer", sign(SECRET, &hs256(), &claims("mallory").to_string())),
        ("of another issuer", sign(SECRET, &hs256(), &of_good)),
        ("for another audience", sign(SECRET, &hs256(), &claims_with("aud", json!("pus")).to_string())),
        ("without an end", sign(SECRET, &hs256(), &claims_with("exp", Value::Null).to_string())),
        ("whose end is text", sign(SECRET, &hs256(), &claims_with("exp", json!("9999999999")).to_string())),
        ("whose time is over", sign(SECRET, &hs256(), &claims_with("exp", json!(now() - 60)).to_string())),
        ("for everything", sign(SECRET, &hs256(), &claims_with("channels", json!(["*"])).to_string())),
        ("of 10 KB", sign(SECRET, &hs256(), &claims_with("x", json!("x".repeat(7_500))).to_string())),
        ("nested without end", sign(SECRET, &hs256(), &"[".repeat(5_000))),
        (
            "with nested claims",
            sign(SECRET, &hs256(), &format!("{}{}", &own[..own.len() - 1], r#","x":{"a":"#.repeat(500))),
        ),
    ]
}

/// One of these, in the yard.
pub(in super::super) fn any_forged(yard: &Yard, number: u32) -> Result<String> {
    let mut forged = forged(&yard.provider()?.address.to_string());
    let index = number as usize % forged.len();
    Ok(forged.swap_remove(index).1)
}

/// Signed by the issuer with a secret, for one channel, and with a name of its own.
pub(in super::super) fn good_for(channel: &str, name: &str) -> String {
    let mut claims = claims_with("channels", json!([channel]));
    claims["jti"] = name.into();
    sign(SECRET, &hs256(), &claims.to_string())
}

/// Of the issuer that publishes its keys, and signed with none of them.
pub(in super::super) fn of_unknown_key(number: u32) -> String {
    let header = json!({"alg": "ES256", "kid": format!("unknown-{number}")});
    sign("", &header, &claims("good").to_string())
}

/// By each door for which it is small enough.
async fn opens_nothing(yard: Arc<Yard>, index: usize) -> Result<()> {
    let provider = yard.provider()?;
    let (_, jwt) = forged(&provider.address.to_string()).swap_remove(index);
    let mut socket = yard.websocket().await?;
    socket.send(&format!("40{}", json!({ "token": jwt }))).await?;
    let refusal = heard(&mut socket).await?;
    ensure!(refusal.starts_with("44{") && refusal.contains("\"token_"), "the first door: {refusal:.200}");
    let (mut socket, _) = yard.greeted().await?;
    socket.send(&format!("42{}", json!(["join_channel", { "token": jwt }]))).await?;
    expect(&mut socket, "41").await?;
    let status = if jwt.len() < TARGET_MAX { "HTTP/1.1 403 " } else { "HTTP/1.1 414 " };
    let (head, _) = yard.stream("A1", &jwt).await?;
    ensure!(head.starts_with(status), "a stream: {head}");
    ensure!(provider.asked("/mallory") == 0, "the server asked where it was sent");
    Ok(())
}

async fn good(yard: Arc<Yard>) -> Result<()> {
    let mut socket = let_in(&yard, &good_for("A1-good", "A1-good")).await?;
    yard.publish("A1-goods", "\"for somebody else\"").await?;
    yard.publish("A1-good", "\"for this one\"").await?;
    expect(&mut socket, r#"42["message","for this one"]"#).await?;
    let (head, _wire) = yard.stream("A1-good", &good_for("A1-good", "A1-good-stream")).await?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "a stream: {head}");
    Ok(())
}

async fn not_granted(yard: Arc<Yard>) -> Result<()> {
    let mut socket = yard.websocket().await?;
    let auth = json!({ "token": good_for("A1-mine", "A1-mine"), "channels": ["A1-theirs"] });
    socket.send(&format!("40{auth}")).await?;
    let refusal = heard(&mut socket).await?;
    ensure!(refusal.starts_with("44{") && refusal.contains("\"not_granted\""), "heard {refusal}");
    let (head, _) = yard.stream("A1-theirs", &good_for("A1-mine", "A1-mine-stream")).await?;
    ensure!(head.starts_with("HTTP/1.1 403 "), "a stream: {head}");
    Ok(())
}

/// A client that a JWT has let in.
async fn let_in(yard: &Yard, jwt: &str) -> Result<WebSocket> {
    let mut socket = yard.websocket().await?;
    socket.send(&format!("40{}", json!({ "token": jwt, "resume": false }))).await?;
    ensure!(heard(&mut socket).await?.starts_with("40{"), "it is not let in");
    expect(&mut socket, r#"42["clientevent",{"data":"Connected","count":0}]"#).await?;
    Ok(socket)
}

async fn revoked(yard: Arc<Yard>) -> Result<()> {
    let jwt = good_for("A6", "A6-revoked");
    let mut socket = let_in(&yard, &jwt).await?;
    let body = json!({ "jti": "A6-revoked", "until": now() + 600 }).to_string();
    let answer = yard.api("POST", "/v1/revocations", "", &body).await?;
    ensure!(answer.status == 201, "a revocation was answered {}: {}", answer.status, answer.body);
    expect(&mut socket, "41").await?;
    let mut again = yard.websocket().await?;
    again.send(&format!("40{}", json!({ "token": jwt }))).await?;
    let refusal = heard(&mut again).await?;
    ensure!(refusal.starts_with("44{") && refusal.contains("\"token_revoked\""), "heard {refusal}");
    Ok(())
}

/// They have ended, but clocks may differ by ten seconds. Whoever comes late has as much less of the grace.
async fn ended(yard: Arc<Yard>) -> Result<()> {
    let began = Instant::now();
    let (late, in_time) =
        tokio::join!(stays(&yard, Duration::from_secs(LATE), began), stays(&yard, Duration::ZERO, began));
    let (late, in_time) = (late?, in_time?);
    took_about(late, GRACE.saturating_sub(Duration::from_secs(LATE)))?;
    took_about(in_time, GRACE)?;
    ensure!(late + Duration::from_secs(LATE / 2) < in_time, "{late:?} and {in_time:?}: the leeway is added");
    Ok(())
}

/// How long after `began` a client goes whose JWT has ended for so long.
async fn stays(yard: &Yard, ended_for: Duration, began: Instant) -> Result<Duration> {
    let mut claims = claims_with("exp", json!(now() - ended_for.as_secs()));
    claims["channels"] = json!(["A6"]);
    let mut socket = let_in(yard, &sign(SECRET, &hs256(), &claims.to_string())).await?;
    loop {
        match timeout(PATIENCE, socket.receive()).await.context("it may stay")? {
            Ok(ping) if ping == "2" => socket.send("3").await?,
            // It is told that its JWT ends.
            Ok(text) => ensure!(text.starts_with(r#"42["auth""#), "heard {text}"),
            Err(_) => return Ok(began.elapsed()),
        }
    }
}

async fn is_unavailable(yard: Arc<Yard>, name: &str) -> Result<()> {
    let (path, provider) = (format!("/{name}"), yard.provider()?);
    let jwt = sign("", &json!({"alg": "ES256", "kid": "published"}), &claims(name).to_string());
    let began = Instant::now();
    let mut socket = yard.websocket().await?;
    socket.send(&format!("40{}", json!({ "token": jwt }))).await?;
    let refusal = heard(&mut socket).await?;
    ensure!(refusal.starts_with("44{") && refusal.contains("\"unavailable\""), "heard {refusal}");
    ensure!(began.elapsed() < ANSWER_MAX, "it took {:?}", began.elapsed());
    let asked = provider.asked(&path);
    ensure!((1..=FETCHES_MAX).contains(&asked), "{path} was asked for {asked} times");
    let taken = provider.taken(&path);
    ensure!(taken < TAKEN_MAX, "{taken} bytes of it were taken");
    let metrics = yard.metrics().await?;
    let failed = metrics.get(r#"channelapi_jwks_fetches_total{result="failed"}"#).copied();
    ensure!(failed.is_some_and(|failed| failed > 0), "no fetch is counted as failed");
    Ok(())
}

async fn unknown_keys(yard: Arc<Yard>) -> Result<()> {
    let provider: &Provider = yard.provider()?;
    for number in 0..UNKNOWN_KEYS {
        let mut socket = yard.websocket().await?;
        socket.send(&format!("40{}", json!({ "token": of_unknown_key(number) }))).await?;
        let refusal = heard(&mut socket).await.with_context(|| format!("key {number}"))?;
        ensure!(refusal.contains("token_invalid"), "heard {refusal}");
    }
    let asked = provider.asked("/good");
    ensure!((1..=FETCHES_MAX).contains(&asked), "the keys were asked for {asked} times");
    let metrics = yard.metrics().await?;
    let fetched = metrics.get(r#"channelapi_jwks_fetches_total{result="fetched"}"#).copied();
    ensure!(fetched.is_some_and(|fetched| fetched > 0), "no fetch is counted");
    Ok(())
}
