//! A copy of a data directory, taken while a server runs on it or while none does.
//!
//! Invariants: the copy is complete or it is not there; nothing is ever written over. It is what one moment, the end of copying,
//! could have left behind: the state is copied before the publications, so no consumer's position is ahead of them.

use crate::broker::{CopyError, backup_log};
use crate::state::{StateError, backup as copy_state};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What an authority for certificates has given, if one was asked: its folder.
const ACME: &str = "acme";

/// Small files that are copied as they are. A key that was configured has no file.
const SECRETS: [&str; 4] = ["token_secret", "auth_key", "acme/account.json", "acme/certificate.pem"];

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// Bytes of publications.
    pub log_bytes: u64,
    /// Bytes of everything else.
    pub state_bytes: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No server has ever run there.
    #[error("{0} is no data directory: it has no state.db; say which one with --data-dir")]
    NoData(PathBuf),
    /// The name is taken.
    #[error("{0} exists already; name a directory that does not")]
    Exists(PathBuf),
    /// An earlier one came to its end before its time.
    #[error(
        "{0} is what is left of a backup that was ended before it was complete: remove it, unless one is being made right now"
    )]
    Unfinished(PathBuf),
    /// There is nowhere to put it.
    #[error("there is no directory {0}; make it first, or name a place in one that exists")]
    Nowhere(PathBuf),
    /// It would be lost together with what it is for.
    #[error("{0} is inside the data directory; name a place outside, best on another disk")]
    Inside(PathBuf),
    /// The state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log could not be read, or its copy not be written.
    #[error(transparent)]
    Log(#[from] CopyError),
    /// The operating system says no.
    #[error("{path} cannot be used: {error}; look at its permissions and at the room on its disk")]
    Io {
        /// What was tried on.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// Copies a data directory to a new place.
pub fn backup(data: &Path, destination: &Path) -> Result<Backup, BackupError> {
    if !data.join("state.db").is_file() {
        return Err(BackupError::NoData(data.to_owned()));
    }
    if destination.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(destination.to_owned()));
    }
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| BackupError::Io { path, error }
    };
    let parent =
        destination.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(BackupError::Nowhere(parent.to_owned()));
    }
    let real = |path: &Path| path.canonicalize().map_err(at(path));
    if real(parent)?.starts_with(real(data)?) {
        return Err(BackupError::Inside(destination.to_owned()));
    }
    let mut name = destination.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = parent.join(name);
    DirBuilder::new().mode(0o700).create(&unfinished).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Unfinished(unfinished.clone()),
        _ => at(&unfinished)(error),
    })?;
    let copied = copy(data, &unfinished).and_then(|backup| {
        fs::rename(&unfinished, destination).map_err(at(destination))?;
        sync(parent)?;
        Ok(backup)
    });
    if copied.is_err() {
        // It is ours: it was made just now. Half a copy is worse than none.
        _ = fs::remove_dir_all(&unfinished);
    }
    copied
}

fn copy(data: &Path, to: &Path) -> Result<Backup, BackupError> {
    let failed = |path: PathBuf| move |error| BackupError::Io { path, error };
    let state = to.join("state.db");
    copy_state(data, &state)?;
    let mut state_bytes = state.metadata().map_err(failed(state))?.len();
    let has_acme = data.join(ACME).is_dir();
    if has_acme {
        DirBuilder::new().mode(0o700).create(to.join(ACME)).map_err(failed(to.join(ACME)))?;
    }
    for name in SECRETS {
        state_bytes += copy_secret(&data.join(name), &to.join(name))?;
    }
    if has_acme {
        sync(&to.join(ACME))?;
    }
    let log = data.join("log");
    let log_bytes = if log.is_dir() { backup_log(&log, &to.join("log"))?.bytes } else { 0 };
    sync(to)?;
    Ok(Backup { log_bytes, state_bytes })
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| BackupError::Io { path: folder.to_owned(), error })
}

fn copy_secret(from: &Path, to: &Path) -> Result<u64, BackupError> {
    let failed = |path: &Path, error| BackupError::Io { path: path.to_owned(), error };
    let secret = match fs::read(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        read => read.map_err(|error| failed(from, error))?,
    };
    let written = OpenOptions::new().create_new(true).write(true).mode(0o600).open(to);
    let written = written.and_then(|mut file| {
        file.write_all(&secret)?;
        file.sync_all()
    });
    written.map_err(|error| failed(to, error))?;
    Ok(secret.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{DataDirectory, StateStore};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_backup_has_everything_and_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let directory = DataDirectory::open(&data).unwrap();
        let _running = StateStore::open(&directory).unwrap();
        let secret = directory.token_secret().unwrap();
        fs::create_dir(data.join("log")).unwrap();
        fs::write(data.join("log/0000000000000000.log"), b"publications").unwrap();
        fs::create_dir(data.join("acme")).unwrap();
        fs::write(data.join("acme/account.json"), b"account").unwrap();

        let copy = folder.path().join("copy");
        let taken = backup(&data, &copy).unwrap();
        assert_eq!(taken.log_bytes, 12);
        assert!(taken.state_bytes > 32, "{taken:?}");
        assert_eq!(fs::read(copy.join("log/0000000000000000.log")).unwrap(), b"publications");
        let mode = |path: &str| copy.join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("acme"), mode("acme/account.json")), (0o700, 0o600));
        assert_eq!(fs::read(copy.join("acme/account.json")).unwrap(), b"account");
        assert!(!copy.join("acme/certificate.pem").exists(), "there was none");
        assert_eq!(DataDirectory::open(&copy).unwrap().token_secret().unwrap(), secret);
        StateStore::open(&DataDirectory::open(&copy).unwrap()).unwrap();

        assert!(matches!(backup(&data, &copy), Err(BackupError::Exists(_))));
    }

    /// Whoever tried again was told to look at permissions and room.
    #[test]
    fn what_a_killed_backup_leaves_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
        let directory = DataDirectory::open(&data).unwrap();
        drop(StateStore::open(&directory).unwrap());
        let left = folder.path().join("copy.unfinished");
        fs::create_dir(&left).unwrap();
        let refused = backup(&data, &copy).unwrap_err().to_string();
        assert!(refused.contains("copy.unfinished") && refused.contains("remove it"), "{refused}");
        fs::remove_dir(left).unwrap();
        backup(&data, &copy).unwrap();
    }

    #[test]
    fn what_cannot_be_a_backup_is_refused_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
        assert!(matches!(backup(&data, &copy), Err(BackupError::NoData(_))));
        let directory = DataDirectory::open(&data).unwrap();
        assert!(matches!(backup(&data, &copy), Err(BackupError::NoData(_))));
        drop(StateStore::open(&directory).unwrap());
        assert!(matches!(backup(&data, &data.join("copy")), Err(BackupError::Inside(_))));
        assert!(matches!(backup(&data, &folder.path().join("missing/copy")), Err(BackupError::Nowhere(_))));
        fs::write(data.join("token_secret"), b"x").unwrap();
        fs::write(data.join("log"), b"no directory").unwrap();
        backup(&data, &copy).unwrap();
        fs::remove_dir_all(&copy).unwrap();

        // A log that cannot be read at all.
        fs::remove_file(data.join("log")).unwrap();
        fs::create_dir_all(data.join("log/0000000000000000.log")).unwrap();
        assert!(matches!(backup(&data, &copy), Err(BackupError::Log(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the data");
    }
}
