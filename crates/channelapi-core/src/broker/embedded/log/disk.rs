//! The few things the log asks of a file system, as a seam: the tests put one under it that forgets what was not synced, cuts
//! files anywhere and fails when it is told to.

use super::unreadable::{is_damage, read_around};
use crate::folder;
use bytes::Bytes;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of files.
pub(in super::super) trait Disk: Send + Sync + 'static {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// All bytes of a file, in place of what is in `bytes`: reading many files into the same memory is twice as fast. Where a part of it
    /// cannot be read, something is there that is damage.
    fn read_into(&self, name: &str, bytes: &mut Vec<u8>) -> io::Result<()>;

    /// All bytes of a file.
    fn read(&self, name: &str) -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        self.read_into(name, &mut bytes).map(|()| bytes.into())
    }

    /// Makes an empty file, whose name survives a power cut when this returns. The error may be [that of a sync](is_sync_failure).
    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Opens a file, and how long it is.
    fn open(&self, name: &str) -> io::Result<(Arc<dyn LogFile>, u64)>;

    /// Gives a file the name of another one, which is gone then, and waits until that survives a power cut. After a power cut in
    /// between it is one or the other.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Whether this file is the one that has a name. Where nobody knows, it is.
    fn is_there(&self, name: &str, file: &dyn LogFile) -> bool;

    /// Removes a file. Readers that have it open may go on. A power cut may bring it back.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// One file of the log.
pub(in super::super) trait LogFile: Send + Sync {
    /// Writes at `position`, which is not behind the end. After an error, any part of `bytes` may have been written.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;

    /// Waits until everything written survives a power cut. After an error nobody knows what does: it must not be tried again.
    fn sync(&self) -> io::Result<()>;

    /// Cuts off what lies behind `length`.
    fn cut(&self, length: u64) -> io::Result<()>;

    /// What no other file has as long as it is there.
    fn identity(&self) -> io::Result<(u64, u64)>;

    /// Reads `length` bytes from `position` on.
    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes>;
}

/// A sync that failed for another reason than a full disk. Nobody knows what the disk holds then, and one that succeeds later proves
/// nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SyncFailed(io::Error);

/// Says of an error that a sync ended so. On a full disk nothing is in doubt: what was to be synced is made anew.
pub(in super::super) fn sync_failed(error: io::Error) -> io::Error {
    if is_full(&error) { error } else { io::Error::new(error.kind(), SyncFailed(error)) }
}

/// Whether a sync failed, so that it must not be tried again.
pub(in super::super) fn is_sync_failure(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<SyncFailed>)
}

/// Whether a disk that failed so takes no more bytes.
pub(in super::super) fn is_full(error: &io::Error) -> bool {
    has_no_room(error) || error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Whether it would take some if others were given up.
pub(in super::super) fn has_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a file is not there, or not any more.
pub(in super::super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// A directory of the operating system.
pub(in super::super) struct Directory {
    path: PathBuf,
    /// Files in it are opened for reading alone: whoever only looks needs no disk that can be written.
    is_read_only: bool,
}

impl Directory {
    /// Makes the directory, for this user only, if it is missing. Its name survives a power cut when this returns.
    pub(in super::super) fn make(path: &Path) -> io::Result<Self> {
        folder::make(path)?;
        Ok(Self { path: path.to_owned(), is_read_only: false })
    }

    /// A directory that is there, to look at.
    pub(in super::super) fn existing(path: &Path) -> Self {
        Self { path: path.to_owned(), is_read_only: true }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn read_into(&self, name: &str, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        let mut read = || {
            let mut file = File::open(self.path.join(name))?;
            match file.read_to_end(bytes) {
                Err(error) if is_damage(&error) => {
                    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
                    read_around(name, length, bytes, |block, position| file.read_exact_at(block, position))
                }
                read => read.map(drop),
            }
        };
        read().map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        // First, because there may be no descriptor left for it afterwards.
        let folder = File::open(&self.path)?;
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        let file = options.create_new(true).read(true).write(true).mode(0o600).open(&path)?;
        let synced = folder.sync_all().inspect_err(|_| {
            // What is left would keep its name from whoever tries again.
            _ = fs::remove_file(&path);
        });
        synced.map_err(sync_failed)?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<(Arc<dyn LogFile>, u64)> {
        let file = OpenOptions::new().read(true).write(!self.is_read_only).open(self.path.join(name))?;
        let length = file.metadata()?.len();
        Ok((Arc::new(file), length))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))?;
        self.sync()
    }

    fn is_there(&self, name: &str, file: &dyn LogFile) -> bool {
        match (self.path.join(name).metadata(), file.identity()) {
            (Ok(found), Ok(identity)) => (found.dev(), found.ino()) == identity,
            (Err(error), _) => {
                !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
            (Ok(_), Err(_)) => true,
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }
}

impl LogFile for File {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        // A disk that has become read-only took nothing, and would refuse even this.
        if self.metadata()?.len() == length { Ok(()) } else { self.set_len(length) }
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.metadata().map(|file| (file.dev(), file.ino()))
    }

    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, position)?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A read-only disk closed the log for good, because the cut behind a write that it did not take failed as well.
    #[test]
    fn a_cut_of_nothing_needs_no_disk_that_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "four").unwrap();
        let file = File::open(path).unwrap();
        assert!(LogFile::cut(&file, 4).is_ok());
        assert!(LogFile::cut(&file, 3).is_err(), "it cannot be written");
    }

    /// A log could not be checked, summed up or copied on a disk that was mounted read-only.
    #[test]
    fn whoever_only_looks_opens_nothing_for_writing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "four").unwrap();
        let (file, length) = Directory::existing(folder.path()).open("file").unwrap();
        assert_eq!((length, &file.read_at(0, 4).unwrap()[..]), (4, &b"four"[..]));
        assert!(file.write_at(0, b"five").is_err());
        let (file, _) = Directory::make(folder.path()).unwrap().open("file").unwrap();
        file.write_at(0, b"five").unwrap();
    }
}
