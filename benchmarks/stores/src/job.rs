//! The work: records of 200 bytes to 100,000 channels, in an order that looks random and is the same every time.

use std::ops::Range;
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;

/// Channels that the records go to.
pub(crate) const CHANNELS: u32 = 100_000;

/// Bytes of a record's data.
pub(crate) const DATA_BYTES: usize = 200;

/// Different data. Enough that no compression finds the same text twice in one block.
const TEXTS: u64 = 4096;

/// One thing to store.
pub(crate) struct Record<'a> {
    pub(crate) channel: u32,
    /// Its place in the channel, from 1 on.
    pub(crate) offset: u64,
    pub(crate) published_at: u64,
    pub(crate) data: &'a Bytes,
}

/// Hands out the records by their number.
pub(crate) struct Job {
    texts: Vec<Bytes>,
    /// How many records each channel has got.
    tops: Vec<u64>,
}

impl Job {
    pub(crate) fn new() -> Self {
        Self { texts: (0..TEXTS).map(text).collect(), tops: vec![0; CHANNELS as usize] }
    }

    /// The channel that a record goes to.
    pub(crate) fn channel(number: u64) -> u32 {
        u32::try_from(mixed(number) % u64::from(CHANNELS)).expect("it is below the number of channels")
    }

    /// A record's data.
    pub(crate) fn data(&self, number: u64) -> &Bytes {
        &self.texts[usize::try_from(number % TEXTS).expect("it is below the number of texts")]
    }

    /// Hands over the records in batches, until there are no more or the time has come. Returns how many were stored.
    pub(crate) fn in_batches(
        &mut self,
        batch: usize,
        numbers: Range<u64>,
        until: Instant,
        mut commit: impl FnMut(&[Record<'_>]) -> Result<()>,
    ) -> Result<u64> {
        let mut next = numbers.start;
        let mut records = Vec::with_capacity(batch);
        while next < numbers.end && Instant::now() < until {
            let published_at = now();
            let end = numbers.end.min(next + batch as u64);
            for number in next..end {
                let channel = Self::channel(number);
                let top = &mut self.tops[channel as usize];
                *top += 1;
                let data = &self.texts[usize::try_from(number % TEXTS)?];
                records.push(Record { channel, offset: *top, published_at, data });
            }
            commit(&records)?;
            records.clear();
            next = end;
        }
        Ok(next - numbers.start)
    }
}

/// A channel's name, where a store wants one.
pub(crate) fn name(channel: u32) -> String {
    format!("user-{channel:06}")
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// JSON of exactly [`DATA_BYTES`] bytes that no compression makes much smaller.
fn text(seed: u64) -> Bytes {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = format!("{{\"n\":{seed},\"text\":\"").into_bytes();
    let mut state = seed << 32;
    while text.len() < DATA_BYTES - 2 {
        state += 1;
        text.push(LETTERS[(mixed(state) & 63) as usize]);
    }
    text.extend(b"\"}");
    text.into()
}

/// The finalizer of SplitMix64: every bit of the input moves every bit of the output.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn records_are_many_small_and_spread() {
        let mut job = Job::new();
        let mut seen = std::collections::HashMap::new();
        let mut sizes = Vec::new();
        let until = Instant::now() + Duration::from_mins(1);
        let stored = job.in_batches(64, 0..1000, until, |records| {
            sizes.push(records.len());
            for record in records {
                assert_eq!(record.data.len(), DATA_BYTES);
                serde_json::from_slice::<serde_json::Value>(record.data)?;
                let top: &mut u64 = seen.entry(record.channel).or_default();
                *top += 1;
                assert_eq!(record.offset, *top);
            }
            Ok(())
        });
        assert_eq!(stored.unwrap(), 1000);
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (16, 1000));
        assert!(seen.len() > 950);
    }

    #[test]
    fn time_ends_the_work() {
        let stored = Job::new().in_batches(1, 0..10, Instant::now(), |_| Ok(()));
        assert_eq!(stored.unwrap(), 0);
    }
}
