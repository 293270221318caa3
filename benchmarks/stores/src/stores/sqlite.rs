//! SQLite: one table in the order of publishing and an index to find a channel's own, WAL, `synchronous=FULL`.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use rusqlite::Connection;

use super::Store;
use crate::job::Job;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS publications (
        sequence INTEGER PRIMARY KEY,
        channel INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        published_at INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX IF NOT EXISTS by_channel ON publications (channel, offset);
";

pub(crate) struct Sqlite {
    connection: Connection,
    job: Job,
}

impl Sqlite {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let connection = Connection::open(folder.join("publications.db"))?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection, job: Job::new() })
    }
}

impl Store for Sqlite {
    fn append(&mut self, batch: usize, numbers: Range<u64>, until: Instant) -> Result<u64> {
        let connection = &mut self.connection;
        self.job.in_batches(batch, numbers, until, |records| {
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO publications (channel, offset, published_at, data) VALUES (?1, ?2, ?3, ?4)",
                )?;
                for record in records {
                    insert.execute((record.channel, record.offset, record.published_at, &**record.data))?;
                }
            }
            Ok(transaction.commit()?)
        })
    }

    fn newest(&mut self, channel: u32) -> Result<Vec<u8>> {
        let query = "SELECT data FROM publications WHERE channel = ?1 ORDER BY offset DESC LIMIT 1";
        Ok(self.connection.query_row(query, [channel], |row| row.get(0))?)
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.connection.query_row("SELECT count(*) FROM publications", [], |row| row.get(0))?)
    }
}
