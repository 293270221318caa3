//! What a client of the handshake door comes back with: the name of its session, and the channels it was in.
//!
//! ```text
//! base64url of: name, 12 random bytes | where it began, a cursor's 21 bytes, which only the broker can read
//!     | whether it began with gaps, one bit, and the memory it began in, u63
//!     | for each channel, sorted: 4 bytes of its hash | checksum u32
//! ```
//!
//! It is a name, not a credential: whoever comes back must present the tokens again. The channels are in it, so that one that the
//! client was not in before is not taken for one that it missed something of, and none that it does not bring is called recovered later.
//! Their hashes are the first bytes of SHA-256 over the session's name and theirs: who does not know the session cannot find two names
//! that it takes for one, and by chance it is one in four thousand million. And where the session began, so that a client that has lost its place can be given everything since. If it began with gaps, nobody
//! knows whether its client was told of all of them before it has brought a place: until then, its beginning is no place to stand at.

use super::random::random_bytes;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use channelapi_core::limits::CHANNELS_PER_CONNECTION_MAX;
use channelapi_core::model::{CURSOR_BYTES, ChannelName, Cursor};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Goes into the checksum, so that a pid of another form is none. One was read as this one, and its channels were taken for such as its
/// client had never been in: it went on from now on, and was told nothing.
const FORM: &[u8] = b"channelapi pid 2";

/// The name of a session. Nobody but its client knows it.
pub(super) type PidName = [u8; NAME_BYTES];

/// The name of a session, and the channels it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pid {
    pub(super) name: PidName,
    /// The client was sent everything behind this, or is about to be.
    pub(super) start: Cursor,
    /// Something was missing when it began.
    pub(super) has_gaps: bool,
    /// Which memory of sessions knows what its client has left, see `sessions.rs`: not more than [`MEMORY_MAX`].
    pub(super) memory: u64,
    channels: Vec<u32>,
}

/// The highest name of a memory.
pub(super) const MEMORY_MAX: u64 = u64::MAX >> 1;

const HAS_GAPS: u64 = MEMORY_MAX + 1;
const MEMORY_BYTES: usize = 8;
const NAME_BYTES: usize = 12;
const HASH_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 4;

impl Pid {
    /// A new session in some channels, each of them once.
    pub(super) fn new(start: Cursor, has_gaps: bool, memory: u64, channels: &[ChannelName]) -> Self {
        let name = random_bytes();
        Self { name, start, has_gaps, memory, channels: hashes(&name, channels) }
    }

    /// Reads what a client came back with; `None` if it is not from us.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let channels = CHANNELS_PER_CONNECTION_MAX * HASH_BYTES;
        let longest = NAME_BYTES + CURSOR_BYTES + MEMORY_BYTES + channels + CHECKSUM_BYTES;
        if text.len() > longest * 2 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        let (name, rest) = bytes.split_first_chunk::<NAME_BYTES>()?;
        let (start, rest) = rest.split_first_chunk()?;
        let (memory, hashes) = rest.split_first_chunk::<MEMORY_BYTES>()?;
        let (hashes, []) = hashes.as_chunks::<HASH_BYTES>() else {
            return None;
        };
        let channels = hashes.iter().map(|hash| u32::from_be_bytes(*hash)).collect();
        let memory = u64::from_be_bytes(*memory);
        (self::checksum(bytes) == *checksum).then(|| Self {
            name: *name,
            start: Cursor::from_bytes(*start),
            has_gaps: memory & HAS_GAPS != 0,
            memory: memory & MEMORY_MAX,
            channels,
        })
    }

    /// Whether these, each of them once, are the channels of the session, no more and no less.
    pub(super) fn is_of(&self, channels: &[ChannelName]) -> bool {
        self.channels.len() == channels.len() && self.channels == hashes(&self.name, channels)
    }

    /// Whether the session was in a channel.
    pub(super) fn holds(&self, channel: &ChannelName) -> bool {
        self.channels.binary_search(&hash(&self.name, channel)).is_ok()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.name.to_vec();
        bytes.extend(self.start.to_bytes());
        let has_gaps = if self.has_gaps { HAS_GAPS } else { 0 };
        bytes.extend((has_gaps | self.memory).to_be_bytes());
        bytes.extend(self.channels.iter().flat_map(|hash| hash.to_be_bytes()));
        bytes.extend(checksum(&bytes));
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(FORM);
    hasher.update(bytes);
    hasher.finalize().to_be_bytes()
}

fn hashes(session: &PidName, channels: &[ChannelName]) -> Vec<u32> {
    let mut hashes: Vec<_> = channels.iter().map(|channel| hash(session, channel)).collect();
    hashes.sort_unstable();
    hashes
}

/// What a session knows a channel by.
pub(super) fn hash(session: &PidName, channel: &ChannelName) -> u32 {
    let digest = Sha256::new().chain_update(session).chain_update(channel.as_str()).finalize();
    let (first, _) = digest.split_first_chunk().expect("it has 32 bytes");
    u32::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_recognised_with_its_channels() {
        let channels: Vec<_> =
            ["a", "b/c", "é"].iter().map(|name| ChannelName::parse(name).unwrap()).collect();
        let start = Cursor::from_bytes([2; CURSOR_BYTES]);
        let pid = Pid::new(start, false, MEMORY_MAX, &channels);
        let text = pid.to_string();
        assert_eq!(Pid::parse(&text), Some(pid.clone()));
        let incomplete = Pid { has_gaps: true, ..pid.clone() };
        assert_eq!(Pid::parse(&incomplete.to_string()), Some(incomplete));
        assert!(channels.iter().all(|channel| pid.holds(channel)));
        assert!(!pid.holds(&ChannelName::parse("b").unwrap()));
        let more = [&channels[..], &[ChannelName::parse("b").unwrap()]].concat();
        assert!(pid.is_of(&channels) && !pid.is_of(&channels[1..]) && !pid.is_of(&more));
        assert!(Pid::parse(&Pid::new(start, true, 4, &[]).to_string()).unwrap().channels.is_empty());
        let mut damaged = text.clone();
        damaged.replace_range(3..4, if &text[3..4] == "A" { "B" } else { "A" });
        // One whose checksum is of its bytes alone, as it once was.
        let mut before = URL_SAFE_NO_PAD.decode(&text).unwrap();
        before.truncate(before.len() - CHECKSUM_BYTES);
        before.extend(crc32fast::hash(&before).to_be_bytes());
        let before = URL_SAFE_NO_PAD.encode(before);
        for other in ["", "x", &before, &damaged, &text[1..], &"A".repeat(100_000)] {
            assert_eq!(Pid::parse(other), None);
        }
    }

    #[test]
    fn two_names_with_one_checksum_are_two_channels() {
        // They have the same CRC32.
        let channels = ["user-110048", "room559999515.x"].map(|name| ChannelName::parse(name).unwrap());
        for _ in 0..10 {
            let session: PidName = random_bytes();
            assert_ne!(hash(&session, &channels[0]), hash(&session, &channels[1]));
            assert_ne!(hash(&session, &channels[0]), hash(&random_bytes(), &channels[0]));
        }
        let start = Cursor::from_bytes([2; CURSOR_BYTES]);
        let one = Pid::new(start, false, 1, &channels[..1]);
        assert!(one.is_of(&channels[..1]) && !one.is_of(&channels) && !one.holds(&channels[1]));
    }

    #[test]
    fn two_channels_with_one_hash_are_still_two() {
        let channels = ["a", "b"].map(|name| ChannelName::parse(name).unwrap());
        let start = Cursor::from_bytes([2; CURSOR_BYTES]);
        let pid = Pid::new(start, false, 1, &channels[..1]);
        let both = Pid { channels: vec![pid.channels[0]; 2], ..pid };
        assert!(!both.is_of(&channels[..1]), "it was in one more");
        assert_eq!(Pid::parse(&both.to_string()), Some(both));
    }
}
