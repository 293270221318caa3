//! What a disk does that cannot read: it says so at once, or only now and then.
//!
//! A place that cannot be read is damage like any other. A controller, a cable or a network that stumbles is not, so whoever gets an
//! error asks again.

use std::io;
use std::thread;
use std::time::Duration;
use tracing::warn;

/// How often it is asked again.
const TRIES: u32 = 4;
/// How long is waited before it is asked again; each time twice as long.
const PAUSE: Duration = Duration::from_millis(25);
/// What is given up at once where a part of it cannot be read.
const BLOCK: usize = 4096;
/// Blocks for which it is asked again; where more are gone, it is no stumble.
const STUMBLES: u32 = 8;

/// Reads again where the operating system says that it cannot.
pub(in super::super) fn insist<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut pause = PAUSE;
    for _ in 0..TRIES {
        match read() {
            Err(error) if error.raw_os_error().is_some() => thread::sleep(pause),
            read => return read,
        }
        pause *= 2;
    }
    read()
}

/// Whether it is the place that cannot be read, and not that nothing can be right now.
pub(in super::super) fn is_damage(error: &io::Error) -> bool {
    /// `EIO`, and what file systems say whose own checksums are wrong: `EBADMSG` and `EUCLEAN`.
    const DAMAGE: [i32; 3] = [5, 74, 117];
    // Without a number it is that there is less than there should be.
    error.raw_os_error().is_none_or(|number| DAMAGE.contains(&number))
}

/// Reads what can be read of a file, block by block. In place of the rest are ones, which are part of no record and of no end either: it
/// is damage.
pub(super) fn read_around(
    name: &str,
    length: usize,
    bytes: &mut Vec<u8>,
    read_at: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    bytes.clear();
    bytes.resize(length, 0);
    let mut unreadable = 0;
    for (number, block) in bytes.chunks_mut(BLOCK).enumerate() {
        let position = (number * BLOCK) as u64;
        let mut read = || read_at(block, position);
        match if unreadable < STUMBLES { insist(&mut read) } else { read() } {
            Err(error) if is_damage(&error) => {
                block.fill(u8::MAX);
                unreadable += 1;
            }
            read => read?,
        }
    }
    if unreadable > 0 {
        warn!(
            segment = name,
            blocks = unreadable,
            "the disk cannot read a part of a segment: that is damage"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn error(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    #[test]
    fn a_stumble_is_no_damage() {
        let left = Cell::new(TRIES);
        let stumbles = || match left.replace(left.get().saturating_sub(1)) {
            0 => Ok("read"),
            _ => Err(error(5)),
        };
        assert_eq!(insist(stumbles).unwrap(), "read");
        left.set(TRIES + 1);
        assert!(is_damage(&insist(stumbles).unwrap_err()));
        let tries = Cell::new(0);
        let short = || -> io::Result<()> {
            tries.set(tries.get() + 1);
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        assert!(is_damage(&insist(short).unwrap_err()));
        assert_eq!(tries.get(), 1, "a file does not grow");
        assert!(!is_damage(&error(110)), "a network that takes too long says nothing of the disk");
    }

    #[test]
    fn what_can_be_read_is_read_around_what_cannot() {
        let whole: Vec<u8> = (0..=u8::MAX - 5).cycle().take(BLOCK * 20 + 7).collect();
        let read = |bad: &[usize], number: i32| {
            let mut bytes = b"what was here before".to_vec();
            let read_at = |block: &mut [u8], position: u64| {
                let position = usize::try_from(position).unwrap();
                if bad.contains(&(position / BLOCK)) {
                    return Err(error(number));
                }
                block.copy_from_slice(&whole[position..position + block.len()]);
                Ok(())
            };
            read_around("a", whole.len(), &mut bytes, read_at).map(|()| bytes)
        };
        assert_eq!(read(&[], 5).unwrap(), whole);
        let around = read(&[1, 20], 5).unwrap();
        let expected = whole.iter().enumerate().map(|(place, byte)| match place / BLOCK {
            1 | 20 => u8::MAX,
            _ => *byte,
        });
        assert!(around.into_iter().eq(expected));
        assert!(read(&[3], 110).is_err(), "that is no place that is bad");
    }
}
