//! fjall: one keyspace, keys of channel and offset. Every batch is one write to its journal and one fdatasync.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Store, data_in, value_of};
use crate::job::Job;

pub(crate) struct Fjall {
    database: Database,
    publications: Keyspace,
    job: Job,
}

impl Fjall {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let database = Database::builder(folder).open()?;
        let publications = database.keyspace("publications", KeyspaceCreateOptions::default)?;
        Ok(Self { database, publications, job: Job::new() })
    }
}

impl Store for Fjall {
    fn append(&mut self, batch: usize, numbers: Range<u64>, until: Instant) -> Result<u64> {
        let (database, publications) = (&self.database, &self.publications);
        self.job.in_batches(batch, numbers, until, |records| {
            let mut write = database.batch().durability(Some(PersistMode::SyncData));
            for record in records {
                let mut key = [0; 12];
                key[..4].copy_from_slice(&record.channel.to_be_bytes());
                key[4..].copy_from_slice(&record.offset.to_be_bytes());
                write.insert(publications, key, value_of(record));
            }
            Ok(write.commit()?)
        })
    }

    fn newest(&mut self, channel: u32) -> Result<Vec<u8>> {
        let newest = self.publications.prefix(channel.to_be_bytes()).next_back();
        Ok(data_in(&newest.context("the channel is empty")?.value()?))
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.publications.len()? as u64)
    }
}
