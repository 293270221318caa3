//! Which token opens which channel, for the life of the process.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;

/// Both directions of the relation: one token per channel.
#[derive(Default)]
pub(crate) struct Tokens {
    maps: RwLock<Maps>,
}

#[derive(Default)]
struct Maps {
    tokens: HashMap<Arc<str>, String>,
    channels: HashMap<String, Arc<str>>,
}

impl Tokens {
    /// The channel's token, made at the first call.
    pub(crate) fn of_channel(&self, channel: String) -> String {
        let mut maps = self.maps.write();
        if let Some(token) = maps.tokens.get(channel.as_str()) {
            return token.clone();
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the system has a random source");
        let token = URL_SAFE_NO_PAD.encode(random);
        let channel: Arc<str> = channel.into();
        maps.tokens.insert(channel.clone(), token.clone());
        maps.channels.insert(token.clone(), channel);
        token
    }

    /// The channel that the token opens, if it is ours.
    pub(crate) fn channel_of(&self, token: &str) -> Option<Arc<str>> {
        self.maps.read().channels.get(token).cloned()
    }
}
