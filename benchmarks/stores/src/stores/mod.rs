//! The contenders, each as its users would use it, with its defaults wherever they are durable.

pub(crate) mod fjall;
pub(crate) mod floor;
pub(crate) mod log;
pub(crate) mod redb;
pub(crate) mod redis;
mod resp;
pub(crate) mod sqlite;

use std::ops::Range;
use std::time::Instant;

use anyhow::Result;

/// Something that keeps records.
pub(crate) trait Store {
    /// Stores the records with these numbers, `batch` of them at a time, each batch durable before the next, until all are stored or
    /// the time has come. Returns how many were.
    fn append(&mut self, batch: usize, numbers: Range<u64>, until: Instant) -> Result<u64>;

    /// The data of a channel's newest record.
    fn newest(&mut self, channel: u32) -> Result<Vec<u8>>;

    /// How many records there are.
    fn count(&mut self) -> Result<u64>;

    /// The process that does the work, if it is not this one.
    fn server(&self) -> Option<u32> {
        None
    }
}

/// What a store of keys and values keeps beside the data: the time of publishing, in front of it.
fn value_of(record: &crate::job::Record<'_>) -> Vec<u8> {
    [&record.published_at.to_be_bytes()[..], record.data].concat()
}

/// The data in what [`value_of`] made.
fn data_in(value: &[u8]) -> Vec<u8> {
    value.get(8..).unwrap_or_default().to_vec()
}
