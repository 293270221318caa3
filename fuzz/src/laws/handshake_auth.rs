//! `auth` in the handshake.

use std::collections::HashMap;

use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::server::requests::Auth;

/// The input is what stands behind the `0` of a CONNECT.
///
/// - There are no more tokens and channels than a connection may have.
/// - A flag or a text is what a plain parser finds, whatever stands beside it that no parser can read. Of what is ours, only what a stock
///   client has from an event may be such a thing, and counts as not there.
/// - Written down again, it says the same.
pub fn handshake_auth(data: &[u8]) -> bool {
    let Ok(auth) = std::str::from_utf8(data) else { return false };
    let Ok(read) = Auth::parse(auth) else { return false };
    assert!(read.tokens.len() <= CHANNELS_PER_CONNECTION_MAX);
    assert!(read.channels.as_ref().is_none_or(|channels| channels.len() <= CHANNELS_PER_CONNECTION_MAX));
    let fields: HashMap<String, &RawValue> =
        if auth.is_empty() { HashMap::new() } else { serde_json::from_str(auth).expect("it was read") };
    let plain = |name: &str| {
        let value = fields.get(name).map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get()));
        assert!(value.is_ok() || matches!(name, "pid" | "offset"), "{name}");
        value.unwrap_or_default()
    };
    assert_eq!(read.is_resumable, plain("resume").as_bool().unwrap_or(true));
    assert_eq!(read.is_meta, plain("meta").as_bool().unwrap_or(false));
    assert_eq!(read.has_tokens(), !read.tokens.is_empty());
    let texts = [("since", &read.since), ("pid", &read.pid), ("offset", &read.offset)];
    for (name, text) in texts {
        assert_eq!(plain(name).as_str(), text.as_deref(), "{name}");
    }
    let channels: Option<Vec<_>> =
        read.channels.as_ref().map(|channels| channels.iter().map(|channel| channel.as_str()).collect());
    let again = json!({
        "tokens": read.tokens,
        "channels": channels,
        "resume": read.is_resumable,
        "meta": read.is_meta,
        "since": read.since,
        "consumer": read.consumer.as_str(),
        "pid": read.pid,
        "offset": read.offset,
    });
    assert_eq!(Auth::parse(&again.to_string()).as_ref(), Ok(&read));
    true
}
