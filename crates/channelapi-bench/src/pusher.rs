//! Pusher's protocol, as Sockudo speaks it: what its clients say, and how its publishers sign what they ask for.

use anyhow::{Context as _, Result};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// The one application of a server: its id, and the key its clients name. The secret is the key of the server under test.
pub(crate) const APP: &str = "bench";

/// Where its clients connect.
pub(crate) const CLIENTS_PATH: &str = "/app/bench?protocol=7";

/// Answers whoever asks whether the server is well.
pub(crate) const HEALTH_PATH: &str = "/up";

/// What a client is told first.
pub(crate) const CONNECTED: &str = "\"pusher:connection_established\"";

/// What a client is told when it is in a channel.
pub(crate) const SUBSCRIBED: &str = "\"pusher_internal:subscription_succeeded\"";

/// What a client says to a ping.
pub(crate) const PONG: &str = r#"{"event":"pusher:pong","data":{}}"#;

/// What precedes the number of a publication: its data is JSON inside of a string.
pub(crate) const NUMBER_PREFIX: &str = r#""data":"{\"n\":"#;

/// What a client says to come into a channel.
pub(crate) fn subscribe(channel: &str) -> String {
    json!({ "event": "pusher:subscribe", "data": { "channel": channel } }).to_string()
}

pub(crate) fn is_ping(packet: &str) -> bool {
    packet.starts_with(r#"{"event":"pusher:ping""#)
}

/// How often an idle client is pinged: Sockudo lets half of the time pass after which it would take it for dead.
pub(crate) fn ping_interval(connected: &str) -> Result<Duration> {
    let connected: Value = serde_json::from_str(connected)?;
    let data = connected["data"].as_str().context("a connection is confirmed without data")?;
    let data: Value = serde_json::from_str(data)?;
    let timeout = data["activity_timeout"].as_u64().context("no activity timeout is announced")?;
    Ok(Duration::from_secs(timeout) / 2)
}

/// A request that publishes JSON: where it goes, signed, and its body.
pub(crate) fn publication(channel: &str, data: &str, secret: &str) -> Result<(String, String)> {
    let body = json!({ "name": "message", "channel": channel, "data": data }).to_string();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    Ok((signed(&format!("/apps/{APP}/events"), &body, secret, now)?, body))
}

/// A path to post to at a time in Unix seconds, with the signature that Pusher's API wants.
fn signed(path: &str, body: &str, secret: &str, now: u64) -> Result<String> {
    let hash = hex(&Md5::digest(body));
    // In the order of the alphabet, as it is signed.
    let query = format!("auth_key={APP}&auth_timestamp={now}&auth_version=1.0&body_md5={hash}");
    let mut signature = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    signature.update(format!("POST\n{path}\n{query}").as_bytes());
    Ok(format!("{path}?{query}&auth_signature={}", hex(&signature.finalize().into_bytes())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both values were computed with Python's hashlib and hmac.
    #[test]
    fn what_is_asked_for_is_signed() {
        let path = signed("/apps/bench/events", r#"{"a":1}"#, "secret", 1_700_000_000).unwrap();
        assert_eq!(
            path,
            "/apps/bench/events?auth_key=bench&auth_timestamp=1700000000&auth_version=1.0\
             &body_md5=bb6cb5c68df4652941caf652a366f2d8&auth_signature=3e00b44fce487182fd3d13ad16a815ea32285e876f9213c53edc372e020cee02"
        );
    }

    #[test]
    fn pings_come_after_half_of_the_announced_time() {
        let connected = r#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":120}"}"#;
        assert!(connected.contains(CONNECTED));
        assert_eq!(ping_interval(connected).unwrap(), Duration::from_mins(1));
        assert!(ping_interval(r#"{"event":"pusher:error","data":{"code":4001}}"#).is_err());
    }
}
