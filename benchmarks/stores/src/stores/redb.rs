//! redb: one table, keys of channel and offset, with two-phase commit: without it a checksum decides after a crash whether the
//! last commit is whole.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use redb::{Database, Durability, ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition};

use super::{Store, data_in, value_of};
use crate::job::Job;

const PUBLICATIONS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("publications");

pub(crate) struct Redb {
    database: Database,
    job: Job,
}

impl Redb {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Ok(Self { database: Database::create(folder.join("publications.redb"))?, job: Job::new() })
    }
}

impl Store for Redb {
    fn append(&mut self, batch: usize, numbers: Range<u64>, until: Instant) -> Result<u64> {
        let database = &self.database;
        self.job.in_batches(batch, numbers, until, |records| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.set_two_phase_commit(true);
            {
                let mut table = transaction.open_table(PUBLICATIONS)?;
                for record in records {
                    table.insert((record.channel, record.offset), &*value_of(record))?;
                }
            }
            Ok(transaction.commit()?)
        })
    }

    fn newest(&mut self, channel: u32) -> Result<Vec<u8>> {
        let table = self.database.begin_read()?.open_table(PUBLICATIONS)?;
        let newest = table.range((channel, 0)..=(channel, u64::MAX))?.next_back();
        Ok(data_in(newest.context("the channel is empty")??.1.value()))
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.database.begin_read()?.open_table(PUBLICATIONS)?.len()?)
    }
}
