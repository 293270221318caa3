//! What has arrived of requests and messages whose rest is still to come. Strangers decide how much of it there is, so there is a limit for
//! all of it together; it is one for bytes that are here, not for those that are announced.
//!
//! Invariant: neither strangers nor whoever has one API key can fill the room that another key needs; each may fill half of it.

use channelapi_core::limits::{
    RECEIVING_BYTES_MAX, RECEIVING_FRACTION, RECEIVING_FREE_BYTES, RECEIVING_ONE_FRACTION, share,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

static BYTES: AtomicUsize = AtomicUsize::new(0);

static BYTES_MAX: AtomicUsize = AtomicUsize::new(RECEIVING_BYTES_MAX);

/// Bytes that are here of what has not arrived as a whole.
pub(crate) fn receiving_bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// Holds as much at once as befits a process that may use so many bytes of memory.
pub(crate) fn set_memory(memory: u64) {
    BYTES_MAX.store(share(RECEIVING_BYTES_MAX, memory, RECEIVING_FRACTION), Ordering::Relaxed);
}

/// What is here of one thing that a stranger sends. It counts until this is dropped. Small, because every connection has one.
#[derive(Debug, Default)]
pub(crate) struct Receiving(u32);

/// What is here of everything that is sent with one API key.
#[derive(Debug, Default)]
pub(crate) struct KeyShare(AtomicUsize);

/// Who sends something.
#[derive(Debug, Clone)]
pub(crate) enum Sender {
    /// Anybody, also with a token.
    Stranger,
    /// Somebody with an API key that allows it.
    Publisher(Arc<KeyShare>),
}

/// What is here of one thing of a known sender. It counts until this is dropped.
#[derive(Debug)]
pub(crate) struct ReceivingFrom {
    here: Receiving,
    sender: Sender,
}

/// Too much is held for others already: whoever sends this has to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl Receiving {
    /// So many bytes of it are here now. Little always finds room.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let Some(all) = self.count(bytes) else { return Ok(()) };
        if bytes <= RECEIVING_FREE_BYTES || all <= most_of_one() { Ok(()) } else { Err(NoRoom) }
    }

    /// Counts so many bytes from now on, if that is a change. Returns how many there are of everything then.
    fn count(&mut self, bytes: usize) -> Option<usize> {
        let (before, now) = (self.0, u32::try_from(bytes).unwrap_or(u32::MAX));
        self.0 = now;
        (before != now).then(|| change(&BYTES, before as usize, now as usize))
    }
}

impl Sender {
    /// Begins to receive something from there.
    pub(crate) fn receive(self) -> ReceivingFrom {
        ReceivingFrom { here: Receiving::default(), sender: self }
    }
}

impl ReceivingFrom {
    /// So many bytes of it are here now. Little always finds room.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let Sender::Publisher(key) = &self.sender else { return self.here.hold(bytes) };
        let before = self.here.0 as usize;
        let Some(all) = self.here.count(bytes) else { return Ok(()) };
        let of_key = change(&key.0, before, self.here.0 as usize);
        let fits = all <= BYTES_MAX.load(Ordering::Relaxed) && of_key <= most_of_one();
        if bytes <= RECEIVING_FREE_BYTES || fits { Ok(()) } else { Err(NoRoom) }
    }
}

impl Drop for ReceivingFrom {
    fn drop(&mut self) {
        if let Sender::Publisher(key) = &self.sender {
            change(&key.0, self.here.0 as usize, 0);
        }
    }
}

/// How much may be here of strangers, or of one key.
fn most_of_one() -> usize {
    BYTES_MAX.load(Ordering::Relaxed) / RECEIVING_ONE_FRACTION
}

/// Counts `now` bytes in place of `before`. Returns how many there are then.
fn change(all: &AtomicUsize, before: usize, now: usize) -> usize {
    if now >= before {
        all.fetch_add(now - before, Ordering::Relaxed).saturating_add(now - before)
    } else {
        all.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
    }
}

#[cfg(test)]
impl Receiving {
    /// How many are here.
    pub(crate) fn bytes(&self) -> usize {
        self.0 as usize
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.0 as usize, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one test of it, because what is counted is counted for the whole process.
    #[test]
    fn nobody_fills_the_room_of_others() {
        const MIB: usize = 1 << 20;
        let fill = |of: &Sender, held: &mut Vec<ReceivingFrom>| {
            let mut one = of.clone().receive();
            let result = one.hold(MIB);
            held.push(one);
            result
        };
        let count = |of: &Sender, held: &mut Vec<ReceivingFrom>| {
            (0..RECEIVING_BYTES_MAX / MIB).take_while(|_| fill(of, held).is_ok()).count()
        };
        let half = RECEIVING_BYTES_MAX / MIB / 2;
        // Other tests hold a little meanwhile.
        let about = |count: usize, expected: usize| (expected - 4..=expected).contains(&count);
        let keys = [(); 3].map(|()| Sender::Publisher(Arc::default()));
        let mut held = Vec::new();
        let of_strangers = count(&Sender::Stranger, &mut held);
        assert!(about(of_strangers, half), "{of_strangers} of {half}");
        assert_eq!(Sender::Stranger.receive().hold(RECEIVING_FREE_BYTES), Ok(()), "little finds room");
        let of_key = count(&keys[0], &mut held);
        assert!(about(of_key, half), "{of_key} of {half}");
        // Together they have all of it.
        assert_eq!(keys[1].clone().receive().hold(2 * MIB), Err(NoRoom));
        held.clear();
        assert_eq!(count(&keys[0], &mut held), half, "a key has no more than half of it alone");
        assert!(about(count(&keys[1], &mut held), half));
        assert_eq!(fill(&keys[2], &mut held), Err(NoRoom));
        held.clear();
        let Sender::Publisher(share) = &keys[0] else { unreachable!("it is one") };
        assert_eq!(share.0.load(Ordering::Relaxed), 0);
    }
}
