//! The data directory: made if it is missing, private, and used by one process at a time.

use crate::folder;
use std::fs::{DirEntry, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A data directory that this process has for itself, until this value is dropped, and every [`Hold`] on it.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    hold: Hold,
}

/// Keeps other processes out of a data directory: the log has one until it is closed.
#[derive(Debug, Clone)]
pub struct Hold(#[expect(dead_code, reason = "it is there to be dropped")] Arc<File>);

/// What a directory consists of that a server has run on.
const PARTS: [&str; 3] = ["log", "state.db", "token_secret"];

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// Another process has it.
    #[error(
        "the data directory {0} is in use by another process; stop that one, or choose another with --data-dir"
    )]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("the data directory {0} is a file, and no directory; choose another with --data-dir")]
    File(PathBuf),
    /// The operating system says no.
    #[error("the data directory cannot be used: {path}: {error}; {advice}", advice = advice(error))]
    Io {
        /// What was tried on: the directory, or a file in it.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// A secret in it is not what was written.
    #[error(
        "{0} is damaged: it must hold 32 bytes; restore it from a backup (without it no token that was given out works)"
    )]
    DamagedSecret(PathBuf),
}

impl DataDirectory {
    /// Opens the directory, making it (for this user only) if it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataDirectoryError> {
        let failed = |error| DataDirectoryError::Io { path: path.to_owned(), error };
        if path.exists() && !path.is_dir() {
            return Err(DataDirectoryError::File(path.to_owned()));
        }
        folder::make(path).map_err(failed)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| DataDirectoryError::Io { path: lock_path, error })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), hold: Hold(Arc::new(lock)) }),
            Err(TryLockError::WouldBlock) => Err(DataDirectoryError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Keeps other processes out for as long as it lives, also when this value is gone.
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Parts that are not here although others are: somebody has removed or forgotten them. Of a new directory, none.
    pub fn missing(&self) -> Vec<&'static str> {
        missing(&self.path)
    }

    /// The 32 secret bytes that tokens are derived from; made at the first call. They lie apart from the database, so that a
    /// copy of that alone reveals no token.
    pub fn token_secret(&self) -> Result<[u8; 32], DataDirectoryError> {
        if let Some(secret) = read_secret(&self.path)? {
            return Ok(secret);
        }
        let failed = |error| DataDirectoryError::Io { path: self.path.join("token_secret"), error };
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| failed(error.into()))?;
        self.write_private("token_secret", &secret).map_err(failed)?;
        Ok(secret)
    }

    /// Writes a file that only this user can read, whole or not at all, and returns when it is on disk.
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.path.join(format!("{name}.new"));
        // One that is there has modes of its own, and may be a link to elsewhere.
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }
}

/// What to do about it. Another directory is an empty one, without the tokens and the messages of this one.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "give it, with everything in it, to the user that runs channelapi (`chown -R`)"
        }
        io::ErrorKind::FileTooLarge => {
            "let this process have larger files (`LimitFSIZE=` of systemd, `ulimit -f` of a shell)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on its disk",
        io::ErrorKind::ReadOnlyFilesystem => "mount its file system for writing",
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "choose another with --data-dir",
        _ => "look at the disk, or restore a backup",
    }
}

/// See [`DataDirectory::missing`].
pub(super) fn missing(directory: &Path) -> Vec<&'static str> {
    let is_segment = |file: io::Result<DirEntry>| {
        file.is_ok_and(|file| file.path().extension().is_some_and(|kind| kind == "log"))
    };
    let is_here = |part: &&str| match directory.join(part).read_dir() {
        // Whatever else lies beside them, publications are in the segments.
        Ok(mut files) => files.any(is_segment),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        // A first start on a full disk leaves an empty one.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            directory.join(part).metadata().is_ok_and(|file| file.len() > 0 || *part != "state.db")
        }
        Err(_) => true,
    };
    let (here, missing): (Vec<_>, Vec<_>) = PARTS.into_iter().partition(is_here);
    if here.is_empty() { Vec::new() } else { missing }
}

/// The secret of a data directory, if it has one.
pub(super) fn read_secret(directory: &Path) -> Result<Option<[u8; 32]>, DataDirectoryError> {
    let path = directory.join("token_secret");
    match std::fs::read(&path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(secret) => Ok(Some(secret)),
            Err(_) => Err(DataDirectoryError::DamagedSecret(path)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataDirectoryError::Io { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_keeps_us_out_is_told_with_its_name_and_what_to_do() {
        let told = |kind: io::ErrorKind| {
            DataDirectoryError::Io { path: PathBuf::from("d/lock"), error: kind.into() }.to_string()
        };
        let denied = told(io::ErrorKind::PermissionDenied);
        assert!(denied.contains("d/lock: permission denied") && denied.contains("chown -R"), "{denied}");
        assert!(told(io::ErrorKind::StorageFull).contains("make room"));
        assert!(told(io::ErrorKind::NotADirectory).contains("--data-dir"));
    }

    #[test]
    fn a_second_process_is_refused_and_the_first_goes_on() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDirectory::open(&path).unwrap();
        assert!(matches!(DataDirectory::open(&path), Err(DataDirectoryError::InUse(_))));
        let hold = first.hold();
        drop(first);
        assert!(matches!(DataDirectory::open(&path), Err(DataDirectoryError::InUse(_))), "it is held");
        drop(hold);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_file_is_no_data_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(DataDirectory::open(file.path()), Err(DataDirectoryError::File(_))));
    }

    #[test]
    fn what_was_taken_away_is_missing() {
        let parent = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(parent.path()).unwrap();
        assert!(directory.missing().is_empty(), "it is new");
        directory.token_secret().unwrap();
        assert_eq!(directory.missing(), ["log", "state.db"]);
        std::fs::write(parent.path().join("state.db"), b"").unwrap();
        assert_eq!(directory.missing(), ["log", "state.db"], "a start ended on a full disk");
        std::fs::write(parent.path().join("state.db"), b"x").unwrap();
        std::fs::create_dir(parent.path().join("log")).unwrap();
        assert_eq!(directory.missing(), ["log"], "an empty one");
        std::fs::write(parent.path().join("log/reserve"), b"").unwrap();
        assert_eq!(directory.missing(), ["log"], "one without a segment");
        std::fs::write(parent.path().join("log/1.log"), b"").unwrap();
        assert!(directory.missing().is_empty());
        std::fs::remove_file(parent.path().join("token_secret")).unwrap();
        assert_eq!(directory.missing(), ["token_secret"]);
        std::fs::remove_file(parent.path().join("state.db")).unwrap();
        std::os::unix::fs::symlink("state.db", parent.path().join("state.db")).unwrap();
        assert_eq!(directory.missing(), ["token_secret"], "what cannot be looked at may be all right");
    }

    /// Once, the secret took over the modes of a file that was there first, or was written to where a link led.
    #[test]
    fn what_is_private_is_a_file_of_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(parent.path()).unwrap();
        let (elsewhere, path) = (parent.path().join("elsewhere"), parent.path().join("a.new"));
        std::fs::write(&elsewhere, b"x").unwrap();
        std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o666)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        directory.write_private("a", b"secret").unwrap();
        let file = parent.path().join("a");
        assert_eq!(std::fs::symlink_metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            (std::fs::read(&file).unwrap(), std::fs::read(&elsewhere).unwrap()),
            (b"secret".into(), b"x".into())
        );
    }

    #[test]
    fn the_secret_is_private_and_stays_the_same() {
        let parent = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(parent.path()).unwrap();
        let secret = directory.token_secret().unwrap();
        assert_eq!(directory.token_secret().unwrap(), secret);
        let file = parent.path().join("token_secret");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(file, b"short").unwrap();
        assert!(matches!(directory.token_secret(), Err(DataDirectoryError::DamagedSecret(_))));
    }
}
