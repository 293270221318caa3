//! `auth` in the handshake.

use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;
use serde_json::{Value, json};

use crate::server::requests::Auth;

/// The input is what stands behind the `0` of a CONNECT.
///
/// - There are no more tokens and channels than a connection may have.
/// - A flag, a text or a token is what a plain parser finds; whatever is no object brings nothing.
/// - Written down again, it says the same.
pub fn handshake_auth(data: &[u8]) -> bool {
    let Ok(auth) = std::str::from_utf8(data) else { return false };
    let Ok(read) = Auth::parse(auth) else { return false };
    assert!(read.tokens.len() <= CHANNELS_PER_CONNECTION_MAX);
    assert!(read.channels.as_ref().is_none_or(|channels| channels.len() <= CHANNELS_PER_CONNECTION_MAX));
    let plain: Value = serde_json::from_str(auth).unwrap_or_default();
    if !plain.is_object() {
        assert_eq!(Ok(&read), Auth::parse("").as_ref(), "{auth}");
    }
    assert_eq!(read.is_resumable, plain["resume"].as_bool().unwrap_or(true));
    assert_eq!(read.is_meta, plain["meta"].as_bool().unwrap_or(false));
    assert_eq!(read.has_tokens(), !read.tokens.is_empty());
    let texts = [("since", &read.since), ("pid", &read.pid), ("offset", &read.offset)];
    for (name, text) in texts {
        assert_eq!(plain[name].as_str(), text.as_deref(), "{name}");
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
