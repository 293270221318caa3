//! What a disk costs without a store: records behind each other in one file, one write and one fdatasync per batch, no checksums
//! and no index. Opening reads the file once.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::Store;
use crate::job::{DATA_BYTES, Job, Record};

/// Channel, offset and time in front of the data.
const HEAD_BYTES: usize = 4 + 8 + 8;

pub(crate) struct Floor {
    file: File,
    records: u64,
    /// The channel and data of the last record that was read.
    last: Option<(u32, Vec<u8>)>,
    job: Job,
}

impl Floor {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("publications");
        let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let (mut records, mut last) = (0, [0; HEAD_BYTES + DATA_BYTES]);
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let mut record = last;
        loop {
            match reader.read_exact(&mut record) {
                Ok(()) => (records, last) = (records + 1, record),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error.into()),
            }
        }
        let channel = u32::from_be_bytes(last[..4].try_into()?);
        let last = (records > 0).then(|| (channel, last[HEAD_BYTES..].to_vec()));
        Ok(Self { file, records, last, job: Job::new() })
    }
}

impl Store for Floor {
    fn append(&mut self, batch: usize, numbers: Range<u64>, until: Instant) -> Result<u64> {
        let file = &mut self.file;
        let mut bytes = Vec::new();
        let stored = self.job.in_batches(batch, numbers, until, |records| {
            bytes.clear();
            for Record { channel, offset, published_at, data } in records {
                bytes.extend(channel.to_be_bytes());
                bytes.extend(offset.to_be_bytes());
                bytes.extend(published_at.to_be_bytes());
                bytes.extend(&***data);
            }
            file.write_all(&bytes)?;
            Ok(file.sync_data()?)
        })?;
        self.records += stored;
        Ok(stored)
    }

    fn newest(&mut self, channel: u32) -> Result<Vec<u8>> {
        let last = self.last.as_ref().filter(|(of, _)| *of == channel);
        Ok(last.context("without an index, only the last record of all is known")?.1.clone())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.records)
    }
}
