//! The argument of the event `auth`.

use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;
use serde_json::{Value, json};

use crate::server::requests::Fresh;

/// The input is the argument as it stands in the event.
///
/// - There is a token, and there are no more than a connection may have channels.
/// - Each stands in the argument, and there is no other text where a token may stand.
/// - The same tokens in one list are the same.
pub fn auth_event(data: &[u8]) -> bool {
    let Ok(argument) = std::str::from_utf8(data) else { return false };
    let Some(Fresh { tokens }) = Fresh::parse(Some(argument)) else { return false };
    assert!((1..=CHANNELS_PER_CONNECTION_MAX).contains(&tokens.len()));
    // Numbers like 1e400 and lone surrogates are JSON that no `Value` can hold; they may be beside the tokens.
    if let Ok(plain) = serde_json::from_str::<Value>(argument) {
        let several = plain["tokens"].as_array().into_iter().flatten();
        let single = [&plain["token"], &plain["jwt"]].into_iter().filter(|token| !token.is_null());
        let text = |token: &'_ Value| token.as_str().expect("a token is text").to_owned();
        let all: Vec<_> = single.chain(several).map(text).collect();
        assert_eq!(all, tokens);
    }
    let again = json!({ "tokens": tokens }).to_string();
    assert_eq!(Fresh::parse(Some(&again)), Some(Fresh { tokens }));
    true
}
