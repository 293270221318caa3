//! The two threads that own the state file: one writes, one reads. What they write and read is the business of `tokens.rs`,
//! `consumers.rs` and `revocations.rs`.

use super::directory::{DataDirectory, advice};
use super::schema;
use crate::fence::{Fence, Guard};
use crate::limits::{STATE_BATCH_MAX, STATE_BUSY_TIMEOUT, STATE_QUEUE_MAX};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

/// The state of this server. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct StateStore {
    pub(super) path: PathBuf,
    writes: mpsc::Sender<Write>,
    reads: mpsc::Sender<Read>,
    fence: Fence,
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
    #[error("{path}: {error}; nothing was changed: {advice}", advice = about_file(error))]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        error: rusqlite::Error,
    },
    /// Its pages are not as SQLite wrote them.
    #[error(
        "{path} is damaged ({damage}); nothing was changed, because tokens and revocations in it would come and go unnoticed: restore a backup, or move the file away to start with none"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing that SQLite found.
        damage: String,
    },
    /// A revocation is not as it was written. A start without it would make good again what was revoked.
    #[error(
        "{path}: revocation {id} cannot be read: {error}; nothing was changed, because without it something would be good again that was revoked: restore a backup, or remove it (with sqlite3: DELETE FROM revocation WHERE id = {id}), start, and revoke anew what it was about"
    )]
    Revocation {
        /// The file.
        path: PathBuf,
        /// The row.
        id: i64,
        /// What is wrong with it.
        error: rusqlite::Error,
    },
    /// A request failed. It was not carried out.
    #[error("the state store failed: {0}")]
    Failed(String),
}

/// What to do about a file that cannot be used. A full disk is no reason to lose what is in it.
fn about_file(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "make room on its disk",
        Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "let the user that runs channelapi read and write it, with everything beside it (`chown -R`)"
        }
        Some(ErrorCode::ReadOnly) => {
            "let the user that runs channelapi write it, and its file system be written"
        }
        Some(ErrorCode::SystemIoFailure) => {
            "look whether its disk is well and has room; if it is damaged, restore a backup"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "stop what else has it open",
        _ => "restore a backup, or move the file away to start empty",
    }
}

/// Something to write. It is answered after the commit. Without a transaction it is not tried.
type Write = Box<dyn FnOnce(Option<&Transaction<'_>>) -> Answer + Send>;

/// An answer that waits for the commit, or its failure's text.
type Answer = Box<dyn FnOnce(Result<(), &str>)>;

/// Something to read.
type Read = Box<dyn FnOnce(&Connection) + Send>;

impl StateStore {
    /// Opens or creates the state file of a data directory.
    pub fn open(directory: &DataDirectory) -> Result<Self, StateError> {
        let path = file_in(directory.path());
        let read_write = open_writer(&path)?;
        let reader = open_reader(&path).map_err(|error| StateError::Open { path: path.clone(), error })?;
        let (writes, to_write) = mpsc::channel(STATE_QUEUE_MAX);
        let (reads, to_read) = mpsc::channel(STATE_QUEUE_MAX);
        let fence = Fence::default();
        spawn("state-writer", &fence, move || write_loop(read_write, to_write));
        spawn("state-reader", &fence, move || read_loop(&reader, to_read));
        Ok(Self { path, writes, reads, fence })
    }

    /// Whether nothing more is read or written, because one of the threads panicked. The process should end, too.
    pub fn is_fenced(&self) -> bool {
        self.fence.is_closed()
    }

    /// Waits until [`Self::is_fenced`].
    pub async fn fenced(&self) {
        self.fence.closed().await;
    }

    /// Changes something. When this returns, it is on disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        self.write_then(change, |_| {}).await
    }

    /// Like [`StateStore::write`], for what memory knows as well: `learn` is told what is on disk as soon as it is there, whether or not
    /// somebody still waits for it, and in the order of the disk, which those who wait need not keep. It runs on the writing thread.
    pub(super) async fn write_then<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        learn: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        let write = write_request(change, move |result| {
            if let Ok(done) = &result {
                learn(done);
            }
            // Whoever asked may be gone; the write stands all the same.
            _ = answer.send(result);
        });
        self.writes.send(write).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Like [`StateStore::write`], for a starting server: it blocks the thread, and nothing else may be waiting yet. A failure names
    /// the file, because it keeps the server from starting.
    pub(super) fn write_at_start<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = std::sync::mpsc::channel();
        let write = write_request(change, move |result| _ = answer.send(result));
        self.writes.try_send(write).map_err(|_| stopped())?;
        answered.recv().map_err(|_| stopped())?.map_err(|error| match error {
            StateError::Failed(text) => StateError::Failed(format!("{}: {text}", self.path.display())),
            error => error,
        })
    }

    /// The state file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks something up.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |connection| _ = answer.send(question(connection).map_err(failed)));
        self.reads.send(read).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

/// The state file of a data directory.
pub(super) fn file_in(directory: &Path) -> PathBuf {
    directory.join("state.db")
}

/// A connection that changes nothing.
fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(STATE_BUSY_TIMEOUT)?;
    Ok(connection)
}

/// The same for whoever looks from outside, also where nothing can be written: to read a file that others may write, SQLite makes
/// files beside it. On a disk that is read-only nobody writes, unless somebody has begun to: then those files are there.
pub(super) fn open_from_outside(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open_reader(path)?;
    match schema::version(&connection) {
        Err(rusqlite::Error::SqliteFailure(failure, _))
            if matches!(failure.code, ErrorCode::ReadOnly | ErrorCode::CannotOpen)
                && !path.with_extension("db-wal").exists() =>
        {
            open_unwritten(path)
        }
        version => version.map(|_| connection),
    }
}

/// Opens a file that nobody writes: no files beside it are needed.
fn open_unwritten(path: &Path) -> rusqlite::Result<Connection> {
    // It is said in a URI, in which these mean something else.
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)
}

fn write_request<T: 'static>(
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    answer: impl FnOnce(Result<T, StateError>) + Send + 'static,
) -> Write {
    Box::new(move |transaction: Option<&Transaction<'_>>| {
        let result = match transaction {
            Some(transaction) => change(transaction).map_err(failed),
            None => Err(StateError::Failed("another write failed, and this one was not tried".into())),
        };
        Box::new(move |committed: Result<(), &str>| {
            answer(result.and_then(|done| match committed {
                Ok(()) => Ok(done),
                Err(text) => Err(StateError::Failed(text.to_owned())),
            }));
        })
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is made for `map_err`")]
fn failed(error: rusqlite::Error) -> StateError {
    StateError::Failed(error.to_string())
}

pub(super) fn stopped() -> StateError {
    StateError::Failed("its thread has stopped".into())
}

fn spawn(name: &str, fence: &Fence, run: impl FnOnce() + Send + 'static) {
    let guard = Guard(fence.clone());
    let started = thread::Builder::new().name(name.into()).spawn(move || {
        let _guard = guard;
        run();
    });
    started.expect("a starting process can make threads");
}

fn open_writer(path: &Path) -> Result<Connection, StateError> {
    let failed = |error| StateError::Open { path: path.to_owned(), error };
    // SQLite would make a file that everybody can read; the files beside it take this one's mode.
    let private = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    private
        .map_err(|error| StateError::Failed(format!("{}: {error}; {}", path.display(), advice(&error))))?;
    let mut connection = Connection::open(path).map_err(failed)?;
    match schema::version(&connection).map_err(failed)? {
        Ok(version) => {
            if let Some(damage) = damage_in(&connection).map_err(failed)? {
                return Err(StateError::Damaged { path: path.to_owned(), damage });
            }
            set_up(&connection).map_err(failed)?;
            schema::migrate(&mut connection, version).map_err(failed)?;
            Ok(connection)
        }
        Err(found) => Err(StateError::Newer { path: path.to_owned(), found, known: schema::VERSION }),
    }
}

/// The first damage to its pages that SQLite finds: a server would come upon it sooner or later, and until then nobody would know.
fn damage_in(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok(Some(found).filter(|found| found != "ok"))
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(STATE_BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "temp_store", "memory")
}

/// Takes what waits, does it in one transaction, and answers after the commit.
fn write_loop(mut connection: Connection, mut queue: mpsc::Receiver<Write>) {
    let mut batch = Vec::with_capacity(STATE_BATCH_MAX);
    while queue.blocking_recv_many(&mut batch, STATE_BATCH_MAX) > 0 {
        write_batch(&mut connection, batch.drain(..));
    }
}

fn write_batch(connection: &mut Connection, mut batch: impl Iterator<Item = Write>) {
    // What to say if the commit succeeds; on failure each of them says that instead.
    let mut answers: Vec<Answer> = Vec::new();
    let committed = (|| {
        let transaction = connection.transaction().map_err(|error| error.to_string())?;
        for write in batch.by_ref() {
            answers.push(write(Some(&transaction)));
            // A full or failing disk, or no memory, may end the transaction at once. What follows would be committed one by one, and
            // then called failed.
            if transaction.is_autocommit() {
                return Err("a write failed, and took back all that were made with it".to_owned());
            }
        }
        transaction.commit().map_err(|error| error.to_string())
    })();
    if let Err(text) = &committed {
        error!(error = %text, "the state store could not write");
    }
    answers.extend(batch.map(|write| write(None)));
    for answer in answers {
        answer(committed.as_ref().copied().map_err(String::as_str));
    }
}

fn read_loop(connection: &Connection, mut queue: mpsc::Receiver<Read>) {
    while let Some(read) = queue.blocking_recv() {
        read(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &str =
        "INSERT INTO consumer (channel, consumer, epoch, offset, acked_at) VALUES ('a', ?1, '0', 1, 1)";

    #[test]
    fn a_full_disk_is_no_reason_to_move_the_state_away() {
        let told = |code| {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            StateError::Open { path: "state.db".into(), error }.to_string()
        };
        assert!(told(rusqlite::ffi::SQLITE_FULL).ends_with("nothing was changed: make room on its disk"));
        assert!(told(rusqlite::ffi::SQLITE_CANTOPEN).contains("chown -R"));
        assert!(!told(rusqlite::ffi::SQLITE_IOERR).contains("start empty"));
        assert!(told(rusqlite::ffi::SQLITE_NOTADB).ends_with("or move the file away to start empty"));
    }

    /// When the disk is full, SQLite takes back the whole transaction in the middle of it. The writes behind that were on disk one by
    /// one, and were called failed.
    #[test]
    fn what_follows_a_write_that_ended_the_transaction_is_not_tried() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let mut connection = open_writer(&path).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        let request = |change: fn(&Transaction<'_>) -> rusqlite::Result<usize>| {
            let answer = answer.clone();
            write_request(change, move |result| answer.send(result.is_ok()).unwrap())
        };
        let add: fn(&Transaction<'_>) -> rusqlite::Result<usize> =
            |transaction| transaction.execute(ADD, ["small"]);
        let fill: fn(&Transaction<'_>) -> rusqlite::Result<usize> = |transaction| {
            let pages: i64 = transaction.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let limit = format!("PRAGMA max_page_count = {pages}");
            transaction.query_row(&limit, [], |row| row.get::<_, i64>(0))?;
            for number in 0.. {
                transaction.execute(ADD, [format!("{number}{}", "x".repeat(100))])?;
            }
            Ok(0)
        };
        write_batch(&mut connection, [request(add), request(fill), request(add)].into_iter());
        assert_eq!(answered.try_iter().collect::<Vec<_>>(), [false; 3]);
        let count = "SELECT count(*) FROM consumer";
        assert_eq!(connection.query_row(count, [], |row| row.get::<_, u64>(0)), Ok(0));
        write_batch(&mut connection, [request(add)].into_iter());
        assert_eq!(answered.try_iter().collect::<Vec<_>>(), [true], "there is room for that");
        assert_eq!(connection.query_row(count, [], |row| row.get::<_, u64>(0)), Ok(1));
    }

    /// State could not be read on a disk that was mounted read-only, of which a test has none.
    #[test]
    fn a_file_that_nobody_writes_is_read_without_others_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("100% sure? #1");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("state.db");
        drop(open_writer(&path).unwrap());
        let connection = open_unwritten(&path).unwrap();
        assert_eq!(schema::version(&connection).unwrap(), Ok(3));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        drop(connection);
        let connection = open_from_outside(&path).unwrap();
        assert_eq!(schema::version(&connection).unwrap(), Ok(3));
        assert!(open_from_outside(&folder.join("missing.db")).is_err());
    }

    /// The server started, said that it was ready, and refused every new token for ever.
    #[test]
    fn a_damaged_page_is_found_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let connection = open_writer(&path).unwrap();
        for number in 0..1_000 {
            connection.execute(ADD, [format!("{number}")]).unwrap();
        }
        drop(connection);
        drop(open_writer(&path).unwrap());
        let sound = std::fs::read(&path).unwrap();
        for page in (1..sound.len() / 4096).step_by(3) {
            let mut damaged = sound.clone();
            damaged[page * 4096..][..12].copy_from_slice(b"garbage here");
            std::fs::write(&path, &damaged).unwrap();
            let error = open_writer(&path).unwrap_err().to_string();
            assert!(error.contains("restore a backup") && error.contains("state.db"), "page {page}: {error}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
        std::fs::write(&path, &sound).unwrap();
        drop(open_writer(&path).unwrap());
    }

    /// Every token, confirmation and revocation failed from then on, while the server called itself ready.
    #[tokio::test]
    async fn a_panic_of_either_thread_is_said_and_nobody_waits_for_ever() {
        for writes in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let store = StateStore::open(&DataDirectory::open(folder.path()).unwrap()).unwrap();
            store.write(|_| Ok(())).await.unwrap();
            store.read(|_| Ok(())).await.unwrap();
            assert!(!store.is_fenced());
            let failed = if writes {
                store.write(|_| -> rusqlite::Result<()> { panic!("a bug, for this test") }).await
            } else {
                store.read(|_| -> rusqlite::Result<()> { panic!("a bug, for this test") }).await
            };
            assert!(failed.unwrap_err().to_string().contains("has stopped"));
            let said = tokio::time::timeout(std::time::Duration::from_secs(30), store.fenced());
            said.await.expect("it is said");
            assert!(store.is_fenced());
        }
    }

    #[tokio::test]
    async fn only_its_owner_can_read_the_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        store.write(|transaction| transaction.execute("DELETE FROM token", [])).await.unwrap();
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
        assert!(refused.contains("has format 99, this version knows up to 3"), "{refused}");
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
