//! One thing that was published.

use super::ChannelName;
use bytes::Bytes;

/// Data on its way to the subscribers of a channel.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Where it was published.
    pub channel: ChannelName,
    /// Its place in the one order of everything this broker carried.
    pub sequence: u64,
    /// JSON, byte for byte as the publisher wrote it.
    pub data: Bytes,
}
