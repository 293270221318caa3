//! The two threads that own the state file: one writes, one reads.

use super::directory::DataDirectory;
use super::schema;
use crate::limits::{STATE_BATCH_MAX, STATE_QUEUE_MAX};
use crate::model::{ChannelName, TokenHash};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, params};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

/// The state of this server. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct StateStore {
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
}

/// A token as it is stored: enough to recognise it, not enough to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// The channel it opens.
    pub channel: ChannelName,
    /// What, together with the server's secret, it is derived from.
    pub generation: [u8; 16],
    /// What it is recognised by.
    pub hash: TokenHash,
    /// When it dies, in milliseconds since 1970.
    pub expires_at: u64,
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A newer version of this program wrote the file.
    #[error(
        "{path} has format {found}, this version knows up to {known}: start the newer version, or restore a backup"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format we know.
        known: i64,
    },
    /// SQLite cannot use the file.
    #[error("{path}: {error}; nothing was changed: restore a backup, or move the file away to start empty")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        error: rusqlite::Error,
    },
    /// A request failed. It was not carried out.
    #[error("the state store failed: {0}")]
    Failed(String),
}

/// What is written.
enum Write {
    /// Stores the token, unless its channel has one that lives at `now`; answers the one that holds.
    Issue { token: StoredToken, now: u64, answer: oneshot::Sender<Result<StoredToken, StateError>> },
    /// Puts off the deaths of tokens.
    Renew { tokens: Vec<(TokenHash, u64)>, answer: oneshot::Sender<Result<(), StateError>> },
    /// Removes the token of a channel.
    Forget { channel: ChannelName, answer: oneshot::Sender<Result<(), StateError>> },
    /// Removes tokens that died before a time.
    Prune { before: u64, answer: oneshot::Sender<Result<(), StateError>> },
}

/// What is read.
enum Read {
    ByHash(TokenHash, oneshot::Sender<Result<Option<StoredToken>, StateError>>),
    ByChannel(ChannelName, oneshot::Sender<Result<Option<StoredToken>, StateError>>),
}

impl StateStore {
    /// Opens or creates the state file of a data directory.
    pub fn open(directory: &DataDirectory) -> Result<Self, StateError> {
        let path = directory.path().join("state.db");
        let read_write = open_writer(&path)?;
        let reader = open_reader(&path).map_err(|error| StateError::Open { path: path.clone(), error })?;
        let (writes, to_write) = mpsc::channel(STATE_QUEUE_MAX);
        let (reads, to_read) = mpsc::channel(STATE_QUEUE_MAX);
        spawn("state-writer", move || write_loop(read_write, to_write));
        spawn("state-reader", move || read_loop(&reader, to_read));
        Ok(Self { writes, reads })
    }

    /// Stores a token for its channel, unless there is one that lives at `now`. Returns the one that holds: of many that ask at
    /// once, all get the same. When this returns, it is on disk.
    pub async fn issue(&self, token: StoredToken, now: u64) -> Result<StoredToken, StateError> {
        ask(&self.writes, |answer| Write::Issue { token, now, answer }).await
    }

    /// Puts off the deaths of tokens to the given times. Unknown ones are passed over.
    pub async fn renew(&self, tokens: Vec<(TokenHash, u64)>) -> Result<(), StateError> {
        ask(&self.writes, |answer| Write::Renew { tokens, answer }).await
    }

    /// Removes the token of a channel.
    pub async fn forget(&self, channel: ChannelName) -> Result<(), StateError> {
        ask(&self.writes, |answer| Write::Forget { channel, answer }).await
    }

    /// Removes the tokens that died before a time.
    pub async fn prune(&self, before: u64) -> Result<(), StateError> {
        ask(&self.writes, |answer| Write::Prune { before, answer }).await
    }

    /// The token with this hash, dead or alive.
    pub async fn token_by_hash(&self, hash: TokenHash) -> Result<Option<StoredToken>, StateError> {
        ask(&self.reads, |answer| Read::ByHash(hash, answer)).await
    }

    /// The token of a channel, dead or alive.
    pub async fn token_by_channel(&self, channel: ChannelName) -> Result<Option<StoredToken>, StateError> {
        ask(&self.reads, |answer| Read::ByChannel(channel, answer)).await
    }
}

async fn ask<Request, Answer>(
    queue: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<Result<Answer, StateError>>) -> Request,
) -> Result<Answer, StateError> {
    let stopped = || StateError::Failed("its thread has stopped".into());
    let (answer, answered) = oneshot::channel();
    queue.send(request(answer)).await.map_err(|_| stopped())?;
    answered.await.map_err(|_| stopped())?
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.into()).spawn(run).expect("a starting process can make threads");
}

fn open_writer(path: &Path) -> Result<Connection, StateError> {
    let failed = |error| StateError::Open { path: path.to_owned(), error };
    // SQLite would make a file that everybody can read; the files beside it take this one's mode.
    let private = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    private.map_err(|error| StateError::Failed(format!("{}: {error}", path.display())))?;
    let mut connection = Connection::open(path).map_err(failed)?;
    match schema::version(&connection).map_err(failed)? {
        Ok(version) => {
            set_up(&connection).map_err(failed)?;
            schema::migrate(&mut connection, version).map_err(failed)?;
            Ok(connection)
        }
        Err(found) => Err(StateError::Newer { path: path.to_owned(), found, known: schema::VERSION }),
    }
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "temp_store", "memory")
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// Takes what waits, does it in one transaction, and answers after the commit.
fn write_loop(mut connection: Connection, mut queue: mpsc::Receiver<Write>) {
    let mut batch = Vec::with_capacity(STATE_BATCH_MAX);
    while queue.blocking_recv_many(&mut batch, STATE_BATCH_MAX) > 0 {
        write_batch(&mut connection, batch.drain(..));
    }
}

fn write_batch(connection: &mut Connection, batch: impl Iterator<Item = Write>) {
    // What to say if the commit succeeds; on failure each of them says that instead.
    let mut answers: Vec<Answer> = Vec::new();
    let committed = (|| {
        let transaction = connection.transaction()?;
        for write in batch {
            match write {
                Write::Issue { token, now, answer } => {
                    let token = issue(&transaction, token, now);
                    answers.push(reply(answer, token));
                }
                Write::Renew { tokens, answer } => {
                    let renewed = renew(&transaction, &tokens);
                    answers.push(reply(answer, renewed));
                }
                Write::Forget { channel, answer } => {
                    let forgotten =
                        transaction.execute("DELETE FROM token WHERE channel = ?1", [channel.as_str()]);
                    answers.push(reply(answer, forgotten.map(drop)));
                }
                Write::Prune { before, answer } => {
                    let pruned = transaction.execute("DELETE FROM token WHERE expires_at < ?1", [before]);
                    answers.push(reply(answer, pruned.map(drop)));
                }
            }
        }
        transaction.commit()
    })();
    let failure = committed.map_err(|error: rusqlite::Error| error.to_string());
    if let Err(text) = &failure {
        error!(error = %text, "the state store could not write");
    }
    for answer in answers {
        answer(failure.as_ref().copied().map_err(String::as_str));
    }
}

/// An answer that waits for the commit, or its failure's text.
type Answer = Box<dyn FnOnce(Result<(), &str>)>;

fn reply<T: 'static>(answer: oneshot::Sender<Result<T, StateError>>, result: rusqlite::Result<T>) -> Answer {
    Box::new(move |committed| {
        let result = match committed {
            Ok(()) => result.map_err(|error| StateError::Failed(error.to_string())),
            Err(text) => Err(StateError::Failed(text.to_owned())),
        };
        // Whoever asked may be gone; the write stands all the same.
        _ = answer.send(result);
    })
}

fn issue(transaction: &Transaction<'_>, token: StoredToken, now: u64) -> rusqlite::Result<StoredToken> {
    if let Some(held) = by_channel(transaction, &token.channel)?
        && held.expires_at > now
    {
        return Ok(held);
    }
    transaction
        .prepare_cached(
            "INSERT INTO token (channel, generation, hash, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (channel) DO UPDATE SET generation = excluded.generation, hash = excluded.hash,
                 created_at = excluded.created_at, expires_at = excluded.expires_at",
        )?
        .execute(params![token.channel.as_str(), token.generation, token.hash.0, now, token.expires_at])?;
    Ok(token)
}

fn renew(transaction: &Transaction<'_>, tokens: &[(TokenHash, u64)]) -> rusqlite::Result<()> {
    let mut update =
        transaction.prepare_cached("UPDATE token SET expires_at = max(expires_at, ?2) WHERE hash = ?1")?;
    for (hash, expires_at) in tokens {
        update.execute(params![hash.0, expires_at])?;
    }
    Ok(())
}

fn read_loop(connection: &Connection, mut queue: mpsc::Receiver<Read>) {
    while let Some(read) = queue.blocking_recv() {
        let (token, answer) = match read {
            Read::ByHash(hash, answer) => (by_hash(connection, hash), answer),
            Read::ByChannel(channel, answer) => (by_channel(connection, &channel), answer),
        };
        _ = answer.send(token.map_err(|error| StateError::Failed(error.to_string())));
    }
}

fn by_channel(connection: &Connection, channel: &ChannelName) -> rusqlite::Result<Option<StoredToken>> {
    connection
        .prepare_cached("SELECT channel, generation, hash, expires_at FROM token WHERE channel = ?1")?
        .query_row([channel.as_str()], stored_token)
        .optional()
}

fn by_hash(connection: &Connection, hash: TokenHash) -> rusqlite::Result<Option<StoredToken>> {
    connection
        .prepare_cached("SELECT channel, generation, hash, expires_at FROM token WHERE hash = ?1")?
        .query_row([hash.0], stored_token)
        .optional()
}

fn stored_token(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredToken> {
    let channel: String = row.get(0)?;
    let channel = ChannelName::parse(&channel).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(StoredToken {
        channel,
        generation: row.get(1)?,
        hash: TokenHash(row.get(2)?),
        expires_at: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(channel: &str, seed: u8, expires_at: u64) -> StoredToken {
        StoredToken {
            channel: ChannelName::parse(channel).unwrap(),
            generation: [seed; 16],
            hash: TokenHash([seed; 32]),
            expires_at,
        }
    }

    #[tokio::test]
    async fn of_many_that_ask_at_once_all_get_the_same_token() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        let asking = (0..50).map(|seed| {
            let store = store.clone();
            tokio::spawn(async move { store.issue(token("a", seed, 100), 1).await.unwrap() })
        });
        let mut issued = Vec::new();
        for task in asking.collect::<Vec<_>>() {
            issued.push(task.await.unwrap());
        }
        assert!(issued.iter().all(|token| token == &issued[0]));
        assert_eq!(store.token_by_hash(issued[0].hash).await.unwrap().as_ref(), Some(&issued[0]));
    }

    #[tokio::test]
    async fn tokens_die_are_renewed_replaced_and_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        let first = token("a", 1, 100);
        store.issue(first.clone(), 1).await.unwrap();
        assert_eq!(store.issue(token("a", 2, 200), 99).await.unwrap(), first, "alive");
        store.renew(vec![(first.hash, 150), (TokenHash([9; 32]), 1)]).await.unwrap();
        assert_eq!(store.token_by_channel(first.channel.clone()).await.unwrap().unwrap().expires_at, 150);
        let second = token("a", 2, 300);
        assert_eq!(store.issue(second.clone(), 150).await.unwrap(), second, "dead at its very time");
        assert_eq!(store.token_by_hash(first.hash).await.unwrap(), None);
        store.prune(300).await.unwrap();
        assert_eq!(store.token_by_hash(second.hash).await.unwrap(), Some(second.clone()));
        store.prune(301).await.unwrap();
        assert_eq!(store.token_by_hash(second.hash).await.unwrap(), None);
    }

    #[tokio::test]
    async fn only_its_owner_can_read_the_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        store.issue(token("a", 1, 100), 1).await.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
        }
    }

    #[tokio::test]
    async fn a_file_of_a_newer_version_and_a_damaged_one_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let path = folder.path().join("state.db");
        let newer = Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", 99).unwrap();
        drop(newer);
        let before = std::fs::read(&path).unwrap();
        let refused = StateStore::open(&directory).err().unwrap().to_string();
        assert!(refused.contains("has format 99, this version knows up to 1"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), before);

        std::fs::write(&path, b"this is no database, but somebody may want it back").unwrap();
        let refused = StateStore::open(&directory).err().unwrap().to_string();
        assert!(
            refused.contains("file is not a database") && refused.contains("nothing was changed"),
            "{refused}"
        );
        assert!(std::fs::read(&path).unwrap().starts_with(b"this is"));
    }
}
