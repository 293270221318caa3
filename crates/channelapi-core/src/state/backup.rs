//! A copy of the state file that may be taken while a server runs on it.

use super::store::{StateError, StateStore, file_in, open_from_outside, stopped};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Copies the state of a data directory, as it is at one moment, to a new file that only this user can read. No lock is needed.
///
/// Publications are not in it. Whoever copies them, too, does so afterwards: then no consumer's position is ahead of them.
pub fn backup(directory: &Path, destination: &Path) -> Result<(), StateError> {
    copy(&file_in(directory), destination)
}

fn copy(path: &Path, destination: &Path) -> Result<(), StateError> {
    let failed = |error: io::Error| StateError::Failed(format!("{}: {error}", destination.display()));
    let Some(text) = destination.to_str() else {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "the file's name is not UTF-8")));
    };
    let connection =
        open_from_outside(path).map_err(|error| StateError::Open { path: path.to_owned(), error })?;
    // SQLite takes an empty file as it is, so its mode is ours to choose; and it never overwrites one.
    let file =
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(destination).map_err(failed)?;
    let copied = connection
        .execute("VACUUM INTO ?1", [text])
        .map_err(io::Error::other)
        .and_then(|_| file.sync_all())
        .and_then(|()| File::open(folder_of(destination))?.sync_all());
    copied.map_err(|error| {
        // Half a copy is worse than none.
        _ = std::fs::remove_file(destination);
        failed(error)
    })
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl StateStore {
    /// Copies the state, as it is at one moment, to a new file. See [`backup`].
    pub async fn backup(&self, destination: PathBuf) -> Result<(), StateError> {
        let path = self.path.clone();
        // Not on the reading thread: clients that join need not wait for it.
        let copied = tokio::task::spawn_blocking(move || copy(&path, &destination));
        copied.await.map_err(|_| stopped())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, ConsumerName};
    use crate::state::{Ack, DataDirectory, StateStore, StoredPosition};
    use std::os::unix::fs::PermissionsExt as _;

    fn ack(offset: u64) -> Ack {
        let position = StoredPosition { epoch: 7, offset, acked_at: 1 };
        Ack { channel: ChannelName::parse("a").unwrap(), consumer: ConsumerName::default(), position }
    }

    #[tokio::test]
    async fn a_backup_of_a_running_server_is_a_state_file_of_that_moment() {
        let folder = tempfile::tempdir().unwrap();
        let restored = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let store = StateStore::open(&directory).unwrap();
        store.acknowledge(vec![ack(5)]).await.unwrap();
        let copy = restored.path().join("state.db");
        store.backup(copy.clone()).await.unwrap();
        store.acknowledge(vec![ack(6)]).await.unwrap();
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        let restored = StateStore::open(&DataDirectory::open(restored.path()).unwrap()).unwrap();
        let Ack { channel, consumer, position } = ack(5);
        assert_eq!(restored.position(channel, consumer).await.unwrap(), Some(position));
    }

    #[tokio::test]
    async fn another_process_can_take_one_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let copy = folder.path().join("copy.db");
        assert!(backup(folder.path(), &copy).is_err(), "there is no state yet");
        assert!(!copy.exists());
        let store = StateStore::open(&directory).unwrap();
        backup(folder.path(), &copy).unwrap();
        let before = std::fs::read(&copy).unwrap();
        let refused = backup(folder.path(), &copy).unwrap_err().to_string();
        assert!(refused.contains("copy.db") && refused.contains("exists"), "{refused}");
        assert_eq!(std::fs::read(&copy).unwrap(), before);
        drop(store);
    }
}
