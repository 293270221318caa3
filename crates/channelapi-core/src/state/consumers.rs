//! Consumers' positions in the state file: how far each consumer of a channel has come.

use super::row::shown;
use super::store::{StateError, StateStore};
use crate::limits::{CONSUMER_RENEWAL_STEP, CONSUMERS_PER_CHANNEL_MAX};
use crate::model::{ChannelName, ConsumerName};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension as _, Row, Transaction, params};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use tracing::error;

/// How far a consumer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPosition {
    /// The history of the channel.
    pub epoch: u64,
    /// The last publication in it that was acknowledged, and everything before.
    pub offset: u64,
    /// When it last said so, or up to [`CONSUMER_RENEWAL_STEP`] before, in milliseconds since 1970.
    pub acked_at: u64,
}

/// A consumer says how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Where.
    pub channel: ChannelName,
    /// Who.
    pub consumer: ConsumerName,
    /// How far.
    pub position: StoredPosition,
}

impl StateStore {
    /// Moves consumers forward, and answers for each where it stands now: in one epoch nobody goes back. `None` is one more
    /// consumer than a channel may have.
    pub async fn acknowledge(&self, acks: Vec<Ack>) -> Result<Vec<Option<StoredPosition>>, StateError> {
        self.write(move |transaction| {
            let mut rooms = HashMap::new();
            acks.iter().map(|ack| acknowledge(transaction, ack, &mut rooms)).collect()
        })
        .await
    }

    /// How far a consumer has come, if it ever acknowledged anything.
    pub async fn position(
        &self,
        channel: ChannelName,
        consumer: ConsumerName,
    ) -> Result<Option<StoredPosition>, StateError> {
        self.read(move |connection| position(connection, &channel, &consumer)).await
    }

    /// All consumers of a channel, by name.
    pub async fn positions(
        &self,
        channel: ChannelName,
    ) -> Result<Vec<(ConsumerName, StoredPosition)>, StateError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT epoch, offset, acked_at, consumer FROM consumer WHERE channel = ?1 ORDER BY consumer",
                )?
                .query_map([channel.as_str()], |row| Ok((consumer_name(row, 3)?, stored_position(row)?)))?
                .collect()
        })
        .await
    }

    /// The consumers that have come to an offset of an epoch, by name.
    pub async fn consumers_at(
        &self,
        channel: ChannelName,
        epoch: u64,
        offset: u64,
    ) -> Result<Vec<ConsumerName>, StateError> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT consumer FROM consumer WHERE channel = ?1 AND epoch = ?2 AND offset >= ?3
                         ORDER BY consumer",
                )?
                .query_map(params![channel.as_str(), text_of(epoch), offset], |row| consumer_name(row, 0))?
                .collect()
        })
        .await
    }

    /// Forgets a consumer, and says whether there was one.
    pub async fn remove_consumer(
        &self,
        channel: ChannelName,
        consumer: ConsumerName,
    ) -> Result<bool, StateError> {
        self.write(move |transaction| {
            transaction
                .prepare_cached("DELETE FROM consumer WHERE channel = ?1 AND consumer = ?2")?
                .execute([channel.as_str(), consumer.as_str()])
                .map(|removed| removed > 0)
        })
        .await
    }

    /// Forgets the consumers that have acknowledged nothing since a time. Whoever did so in the future did it now: the clock was ahead
    /// then, and nobody would ever be idle who did so by it.
    pub async fn prune_consumers(&self, before: u64, now: u64) -> Result<(), StateError> {
        self.write(move |transaction| {
            transaction.execute("UPDATE consumer SET acked_at = ?1 WHERE acked_at > ?1", [now])?;
            transaction.execute("DELETE FROM consumer WHERE acked_at < ?1", [before]).map(drop)
        })
        .await
    }

    /// Takes back consumers that are ahead of their channels: a power cut may take the newest publications of a channel with
    /// relaxed durability, and a restored backup may lack some, whose offsets then go to others. `standing` knows the epoch and
    /// the newest offset of a channel. For the start of a server, before anything is published: it blocks the thread.
    ///
    /// A consumer that cannot be read is removed, and the log says so: it gets everything again that is kept, and misses nothing. If it
    /// stayed, whatever is asked about it, or about all of its channel, would fail.
    pub fn take_back_consumers(
        &self,
        standing: impl Fn(&ChannelName) -> Option<(u64, u64)> + Send + 'static,
    ) -> Result<(), StateError> {
        self.write_at_start(move |transaction| take_back(transaction, standing))
    }
}

fn acknowledge(
    transaction: &Transaction<'_>,
    ack: &Ack,
    counts: &mut HashMap<ChannelName, u64>,
) -> rusqlite::Result<Option<StoredPosition>> {
    let Ack { channel, consumer, position: new } = ack;
    match position(transaction, channel, consumer)? {
        Some(held) if held.epoch == new.epoch && held.offset >= new.offset => {
            return renew(transaction, ack, held).map(Some);
        }
        Some(_) => {}
        None => {
            // Counting takes a while in a large channel, so it is done once for all acks that are written together.
            let count = match counts.get(channel) {
                Some(count) => *count,
                None => count_after_making_room(transaction, channel, new.epoch)?,
            };
            let has_room = count < CONSUMERS_PER_CHANNEL_MAX;
            counts.insert(channel.clone(), count + u64::from(has_room));
            if !has_room {
                return Ok(None);
            }
        }
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO consumer (channel, consumer, epoch, offset, acked_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![channel.as_str(), consumer.as_str(), text_of(new.epoch), new.offset, new.acked_at])?;
    Ok(Some(*new))
}

/// A consumer says what it has said before: it stays where it is, and is not idle. What it said by a clock that was ahead does not count.
fn renew(
    transaction: &Transaction<'_>,
    Ack { channel, consumer, position: new }: &Ack,
    held: StoredPosition,
) -> rusqlite::Result<StoredPosition> {
    if Duration::from_millis(new.acked_at.abs_diff(held.acked_at)) < CONSUMER_RENEWAL_STEP {
        return Ok(held);
    }
    transaction
        .prepare_cached("UPDATE consumer SET acked_at = ?3 WHERE channel = ?1 AND consumer = ?2")?
        .execute(params![channel.as_str(), consumer.as_str(), new.acked_at])?;
    Ok(StoredPosition { acked_at: new.acked_at, ..held })
}

/// How many consumers a channel has. If that is the limit, those of earlier epochs go: they stand nowhere.
fn count_after_making_room(
    transaction: &Transaction<'_>,
    channel: &ChannelName,
    epoch: u64,
) -> rusqlite::Result<u64> {
    let count: u64 = transaction
        .prepare_cached("SELECT count(*) FROM consumer WHERE channel = ?1")?
        .query_row([channel.as_str()], |row| row.get(0))?;
    if count < CONSUMERS_PER_CHANNEL_MAX {
        return Ok(count);
    }
    let removed = transaction
        .prepare_cached("DELETE FROM consumer WHERE channel = ?1 AND epoch <> ?2")?
        .execute(params![channel.as_str(), text_of(epoch)])?;
    Ok(count - removed as u64)
}

fn take_back(
    transaction: &Transaction<'_>,
    standing: impl Fn(&ChannelName) -> Option<(u64, u64)>,
) -> rusqlite::Result<()> {
    let mut ahead: Vec<(ChannelName, u64, u64)> = Vec::new();
    let unreadable = read_all(transaction, |channel, held| {
        let is_known = ahead.last().is_some_and(|(known, ..)| *known == channel);
        if !is_known
            && let Some((epoch, newest)) = standing(&channel)
            && epoch == held.epoch
            && newest < held.offset
        {
            ahead.push((channel, epoch, newest));
        }
    })?;
    let mut take_back = transaction
        .prepare("UPDATE consumer SET offset = ?3 WHERE channel = ?1 AND epoch = ?2 AND offset > ?3")?;
    for (channel, epoch, newest) in ahead {
        take_back.execute(params![channel.as_str(), text_of(epoch), newest])?;
    }
    let mut remove = transaction
        .prepare("DELETE FROM consumer WHERE CAST(channel AS BLOB) = ?1 AND CAST(consumer AS BLOB) = ?2")?;
    for Unreadable { key, row } in unreadable {
        error!(file = "state.db", row, "a consumer cannot be read: it is removed, and gets everything again");
        remove.execute(key)?;
    }
    Ok(())
}

/// A consumer that is not as it was written.
pub(super) struct Unreadable {
    /// Its channel and its name, whatever they are now.
    key: [Vec<u8>; 2],
    /// What it is, and what is wrong with it.
    row: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row)
    }
}

/// The consumers that cannot be read.
pub(super) fn unreadable(connection: &Connection) -> rusqlite::Result<Vec<Unreadable>> {
    read_all(connection, |_, _| {})
}

/// Reads all consumers, those of one channel next to each other, and returns the ones that cannot be read.
fn read_all(
    connection: &Connection,
    mut on_consumer: impl FnMut(ChannelName, StoredPosition),
) -> rusqlite::Result<Vec<Unreadable>> {
    let mut statement = connection.prepare(
        "SELECT epoch, offset, acked_at, channel, consumer, CAST(channel AS BLOB), CAST(consumer AS BLOB)
             FROM consumer ORDER BY channel",
    )?;
    let mut rows = statement.query([])?;
    let mut unreadable = Vec::new();
    while let Some(row) = rows.next()? {
        match consumer(row) {
            Ok((channel, position)) => on_consumer(channel, position),
            Err(error) => unreadable.push(Unreadable {
                key: [row.get(5).unwrap_or_default(), row.get(6).unwrap_or_default()],
                row: format!("the consumer {} of channel {}: {error}", shown(row, 6), shown(row, 5)),
            }),
        }
    }
    Ok(unreadable)
}

fn consumer(row: &Row<'_>) -> rusqlite::Result<(ChannelName, StoredPosition)> {
    let channel: String = row.get(3)?;
    let channel = ChannelName::stored(&channel).map_err(|error| wrong(3, error))?;
    consumer_name(row, 4)?;
    Ok((channel, stored_position(row)?))
}

fn position(
    connection: &Connection,
    channel: &ChannelName,
    consumer: &ConsumerName,
) -> rusqlite::Result<Option<StoredPosition>> {
    connection
        .prepare_cached("SELECT epoch, offset, acked_at FROM consumer WHERE channel = ?1 AND consumer = ?2")?
        .query_row([channel.as_str(), consumer.as_str()], stored_position)
        .optional()
}

/// The position in the first three columns.
fn stored_position(row: &Row<'_>) -> rusqlite::Result<StoredPosition> {
    let epoch: String = row.get(0)?;
    let epoch = u64::from_str_radix(&epoch, 16).map_err(|error| wrong(0, error))?;
    Ok(StoredPosition { epoch, offset: row.get(1)?, acked_at: row.get(2)? })
}

fn consumer_name(row: &Row<'_>, column: usize) -> rusqlite::Result<ConsumerName> {
    let name: String = row.get(column)?;
    ConsumerName::parse(&name).map_err(|error| wrong(column, error))
}

fn text_of(epoch: u64) -> String {
    format!("{epoch:016x}")
}

fn wrong(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::DataDirectory;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn consumer(name: &str) -> ConsumerName {
        ConsumerName::parse(name).unwrap()
    }

    fn at(epoch: u64, offset: u64) -> StoredPosition {
        StoredPosition { epoch, offset, acked_at: epoch + offset }
    }

    fn ack(name: &str, position: StoredPosition) -> Ack {
        Ack { channel: channel("a"), consumer: consumer(name), position }
    }

    fn open() -> (StateStore, DataDirectory, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        (StateStore::open(&directory).unwrap(), directory, folder)
    }

    /// An older version took names that hide something: who has read their channels still has.
    #[tokio::test]
    async fn the_consumers_of_a_name_that_is_none_any_more_are_read() {
        let (store, _directory, folder) = open();
        let hiding = ChannelName::stored("a\u{AD}").unwrap();
        let ack = Ack { channel: hiding.clone(), ..ack("x", at(1, 5)) };
        store.acknowledge(vec![ack]).await.unwrap();
        let wrong = crate::state::check(folder.path()).unwrap();
        assert!(!wrong.iter().any(|line| line.starts_with("state.db")), "{wrong:?}");
        let known = hiding.clone();
        store.take_back_consumers(move |channel| (*channel == known).then_some((1, 3))).unwrap();
        let held = store.position(hiding, consumer("x")).await.unwrap().unwrap();
        assert_eq!(held.offset, 3, "it was known, and taken back");
    }

    #[tokio::test]
    async fn nobody_goes_back_but_to_another_epoch() {
        let (store, _directory, _folder) = open();
        let check = async |new, expected| {
            assert_eq!(store.acknowledge(vec![ack("x", new)]).await.unwrap(), [Some(expected)]);
            let held = store.position(channel("a"), consumer("x")).await.unwrap();
            assert_eq!(held, Some(expected));
        };
        let late = u64::MAX - 100;
        check(at(1, 5), at(1, 5)).await;
        check(at(1, 3), at(1, 5)).await;
        check(at(1, 6), at(1, 6)).await;
        check(
            StoredPosition { epoch: late, offset: 2, acked_at: 9 },
            StoredPosition { epoch: late, offset: 2, acked_at: 9 },
        )
        .await;
        assert_eq!(store.position(channel("a"), consumer("y")).await.unwrap(), None);
        assert_eq!(store.position(channel("b"), consumer("x")).await.unwrap(), None);
    }

    /// Whoever confirmed the newest message of a quiet channel again and again was forgotten, as one that had gone.
    #[tokio::test]
    async fn whoever_says_the_same_again_is_not_idle() {
        let (store, _directory, _folder) = open();
        let day = u64::try_from(CONSUMER_RENEWAL_STEP.as_millis()).unwrap();
        let check = async |offset, acked_at, expected| {
            let new = StoredPosition { epoch: 1, offset, acked_at };
            let expected = StoredPosition { epoch: 1, offset: 5, acked_at: expected };
            assert_eq!(store.acknowledge(vec![ack("x", new)]).await.unwrap(), [Some(expected)]);
            let held = store.position(channel("a"), consumer("x")).await.unwrap();
            assert_eq!(held, Some(expected));
        };
        check(5, 100, 100).await;
        check(5, 99 + day, 100).await;
        check(5, 100 + day, 100 + day).await;
        check(3, 100 + 2 * day, 100 + 2 * day).await;
        check(5, 101 + day, 100 + 2 * day).await;
        check(5, 100 + day, 100 + day).await;
        store.prune_consumers(100 + day, 100 + day).await.unwrap();
        assert_eq!(store.positions(channel("a")).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn consumers_are_listed_receipts_given_and_the_idle_forgotten() {
        let (store, _directory, _folder) = open();
        store.acknowledge(vec![ack("y", at(1, 5)), ack("x", at(1, 9)), ack("z", at(2, 9))]).await.unwrap();
        let all = [(consumer("x"), at(1, 9)), (consumer("y"), at(1, 5)), (consumer("z"), at(2, 9))];
        assert_eq!(store.positions(channel("a")).await.unwrap(), all);
        assert_eq!(store.consumers_at(channel("a"), 1, 5).await.unwrap(), [consumer("x"), consumer("y")]);
        assert_eq!(store.consumers_at(channel("a"), 1, 6).await.unwrap(), [consumer("x")]);
        assert!(store.remove_consumer(channel("a"), consumer("x")).await.unwrap());
        assert!(!store.remove_consumer(channel("a"), consumer("x")).await.unwrap());
        store.prune_consumers(at(2, 9).acked_at, 100).await.unwrap();
        assert_eq!(store.positions(channel("a")).await.unwrap(), all[2..]);
    }

    #[tokio::test]
    async fn a_full_channel_takes_no_more_until_its_history_begins_anew() {
        let (store, _directory, _folder) = open();
        let limit = usize::try_from(CONSUMERS_PER_CHANNEL_MAX).unwrap();
        let many = (0..=limit).map(|number| ack(&number.to_string(), at(1, 1))).collect();
        let held = store.acknowledge(many).await.unwrap();
        assert_eq!(held.iter().filter(|held| held.is_some()).count(), limit);
        assert_eq!(held[limit], None);
        let held = store.acknowledge(vec![ack("one more", at(1, 1)), ack("0", at(1, 2))]).await.unwrap();
        assert_eq!(held, [None, Some(at(1, 2))], "who has a place keeps it");
        assert_eq!(store.acknowledge(vec![ack("one more", at(2, 1))]).await.unwrap(), [Some(at(2, 1))]);
        assert_eq!(store.positions(channel("a")).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn whoever_is_ahead_of_what_is_left_is_taken_back() {
        let (store, _directory, _folder) = open();
        store.acknowledge(vec![ack("x", at(1, 9)), ack("y", at(1, 5)), ack("z", at(2, 9))]).await.unwrap();
        store.take_back_consumers(|name| (*name == channel("a")).then_some((1, 7))).unwrap();
        let offsets = store.positions(channel("a")).await.unwrap();
        let offsets: Vec<_> = offsets.iter().map(|(_, position)| position.offset).collect();
        assert_eq!(offsets, [7, 5, 9]);
    }

    /// One flipped bit in one row kept the server down, and the check called the file sound.
    #[tokio::test]
    async fn a_consumer_that_cannot_be_read_is_found_and_keeps_no_server_down() {
        let (store, _directory, folder) = open();
        let found = || {
            let lines = crate::state::check(folder.path()).unwrap();
            lines.into_iter().filter(|line| line.starts_with("state.db: ")).collect::<Vec<_>>()
        };
        store.acknowledge(vec![ack("x", at(1, 5)), ack("y", at(1, 5)), ack("z", at(1, 9))]).await.unwrap();
        assert_eq!(found(), [""; 0]);
        for wrong in [
            "UPDATE consumer SET epoch = 'zzzz' WHERE consumer = 'x'",
            "UPDATE consumer SET consumer = CAST(x'ff' AS TEXT), offset = -1 WHERE consumer = 'y'",
        ] {
            store.write(move |transaction| transaction.execute(wrong, [])).await.unwrap();
        }
        let lines = found();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines.iter().any(|line| line.contains(r#"the consumer "x" of channel "a": "#)), "{lines:?}");
        store.take_back_consumers(|_| Some((1, 7))).unwrap();
        assert_eq!(found(), [""; 0]);
        let position = StoredPosition { offset: 7, ..at(1, 9) };
        assert_eq!(store.positions(channel("a")).await.unwrap(), [(consumer("z"), position)]);
    }
}
