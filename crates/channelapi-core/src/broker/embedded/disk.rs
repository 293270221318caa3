//! The few things the log asks of a file system, as a seam: the tests put one under it that forgets what was not synced, cuts
//! files anywhere and fails when it is told to.

use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of files.
pub(super) trait Disk: Send + Sync + 'static {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// All bytes of a file.
    fn read(&self, name: &str) -> io::Result<Bytes>;

    /// All bytes of a file, in place of what is in `bytes`: reading many files into the same memory is twice as fast.
    fn read_into(&self, name: &str, bytes: &mut Vec<u8>) -> io::Result<()> {
        *bytes = self.read(name)?.to_vec();
        Ok(())
    }

    /// Makes an empty file, whose name survives a power cut when this returns.
    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Opens a file, and how long it is.
    fn open(&self, name: &str) -> io::Result<(Arc<dyn LogFile>, u64)>;

    /// Gives a file the name of another one, which is gone then, and waits until that survives a power cut. After a power cut in
    /// between it is one or the other.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Readers that have it open may go on. A power cut may bring it back.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// One file of the log.
pub(super) trait LogFile: Send + Sync {
    /// Writes at `position`, which is not behind the end. After an error, any part of `bytes` may have been written.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;

    /// Waits until everything written survives a power cut. After an error nobody knows what does: it must not be tried again.
    fn sync(&self) -> io::Result<()>;

    /// Cuts off what lies behind `length`.
    fn cut(&self, length: u64) -> io::Result<()>;

    /// Reads `length` bytes from `position` on.
    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes>;
}

/// A directory of the operating system.
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes the directory, for this user only, if it is missing.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    /// A directory that is there.
    pub(super) fn existing(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        fs::read(self.0.join(name)).map(Bytes::from)
    }

    fn read_into(&self, name: &str, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        File::open(self.0.join(name))?.read_to_end(bytes).map(drop)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        // First, because there may be no descriptor left for it afterwards.
        let folder = File::open(&self.0)?;
        let path = self.0.join(name);
        let mut options = OpenOptions::new();
        let file = options.create_new(true).read(true).write(true).mode(0o600).open(&path)?;
        folder.sync_all().inspect_err(|_| {
            // What is left would keep its name from whoever tries again.
            _ = fs::remove_file(&path);
        })?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<(Arc<dyn LogFile>, u64)> {
        let file = OpenOptions::new().read(true).write(true).open(self.0.join(name))?;
        let length = file.metadata()?.len();
        Ok((Arc::new(file), length))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
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
}
