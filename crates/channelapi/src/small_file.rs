//! A file that is read as a whole: a key, a list of keys, certificates to trust.
//!
//! Invariant: nothing is waited for without an end. In the place of a file may be a pipe to which nobody writes.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, Timespec};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long after its last change a file may still be in the middle of being written.
const WRITING_TIME: Duration = Duration::from_mins(1);

/// How long something that is no regular file may take to give what is in it: a program may have to ask somewhere else first.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bytes of a file, and what the system knows of it.
///
/// A pipe gives what is in it once: the next time, it is a failure.
///
/// Fails with [`ErrorKind::FileTooLarge`] if there are more than `bytes_max`, and with [`ErrorKind::TimedOut`] if it is a pipe or a device
/// from which not all has come within ten seconds.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<(Vec<u8>, Metadata)> {
    read_within(path, bytes_max, PATIENCE)
}

fn read_within(path: &Path, bytes_max: u64, patience: Duration) -> io::Result<(Vec<u8>, Metadata)> {
    // Opening a pipe waits for a writer otherwise.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let ends_at = Instant::now() + patience;
    let mut bytes = Vec::new();
    loop {
        // A pipe that nobody has opened yet reads as an empty one, unless somebody is waited for.
        if !metadata.is_file() {
            wait_for(&file, ends_at)?;
        }
        match (&mut file).take(bytes_max + 1 - bytes.len() as u64).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > bytes_max => {
                let reason = format!("it is larger than {bytes_max} bytes");
                return Err(io::Error::new(ErrorKind::FileTooLarge, reason));
            }
            Ok(_) if bytes.is_empty() && !metadata.is_file() => {
                let reason = "it is a pipe or a device with nothing in it, or nothing any more; put a file in its place, or restart";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, reason));
            }
            Ok(_) => return Ok((bytes, metadata)),
            // What has come so far is kept; some of it may be there even now.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a file was written so lately that whoever writes it may not have come to its end.
pub(crate) fn is_new(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|found| found.modified());
    written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < WRITING_TIME))
}

/// Waits until there is something to read, or the end of it.
fn wait_for(file: &File, ends_at: Instant) -> io::Result<()> {
    let left = ends_at.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&left)) {
        Ok(0) => Err(io::Error::new(
            ErrorKind::TimedOut,
            "it is a pipe or a device, and not all of it came within ten seconds",
        )),
        // A signal is a reason to look, and the next look waits for what is left.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::thread;

    const SHORT: Duration = Duration::from_millis(50);

    fn pipe(dir: &tempfile::TempDir) -> std::path::PathBuf {
        let path = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().0, b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(dir.path(), 4).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(read(&dir.path().join("other"), 4).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// Once, a pipe in the place of a file of keys kept a reload from ending, and every one after it.
    #[test]
    fn a_pipe_to_which_nobody_writes_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(&dir);
        assert_eq!(read_within(&path, 5, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        let mut silent = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert_eq!(read_within(&path, 5, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        silent.write_all(b"1").unwrap();
        assert_eq!(read_within(&path, 5, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        silent.write_all(b"123456").unwrap();
        assert_eq!(read_within(&path, 5, SHORT).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(&dir);
        let writer = thread::spawn({
            let path = path.clone();
            move || {
                thread::sleep(SHORT);
                let mut writer = fs::OpenOptions::new().write(true).open(path).unwrap();
                for part in ["12", "34", "5"] {
                    writer.write_all(part.as_bytes()).unwrap();
                    thread::sleep(SHORT);
                }
            }
        });
        assert_eq!(read(&path, 5).unwrap().0, b"12345");
        writer.join().unwrap();
        let waiting = thread::spawn({
            let path = path.clone();
            move || read(&path, 5).map(|_| ()).map_err(|error| error.kind())
        });
        // It opens when the other one has, and says nothing.
        drop(File::options().write(true).open(&path).unwrap());
        assert_eq!(waiting.join().unwrap(), Err(ErrorKind::UnexpectedEof));
    }
}
