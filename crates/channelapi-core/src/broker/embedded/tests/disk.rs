//! A disk in memory that knows what was synced.

use super::super::log::disk::{Disk, LogFile, sync_failed};
use super::crashes::Damage;
use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct SimulatedDisk(pub(super) Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    files: BTreeMap<String, Inode>,
    pub(super) syncs_fail: bool,
    pub(super) cuts_fail: bool,
    /// What syncing the name of a new file fails with.
    pub(super) names_fail: Option<i32>,
    /// How the names of files end that cannot be made, and what that fails with.
    pub(super) refused: Option<(String, i32)>,
    /// What reading fails with.
    pub(super) reads_fail: Option<i32>,
    /// Bytes of the last segment that cannot be read for now: in their place are ones.
    pub(super) unreadable: Range<usize>,
    /// What writing again what lies there fails with.
    pub(super) rewrites_fail: Option<i32>,
    /// It takes nothing, and gives nothing up.
    pub(super) is_read_only: bool,
    /// How often it has refused to do so.
    pub(super) refusals: usize,
    /// Bytes that may still be written.
    pub(super) room: Option<usize>,
    /// Others write, too, and take so many bytes of what is cut off.
    pub(super) others_take: usize,
    pub(super) syncs: usize,
    pub(super) reads: usize,
    /// After every change, what a power cut would leave, if somebody wants to know.
    pub(super) moments: Option<Vec<Moment>>,
    /// Removed, but a power cut brings them back: nobody waits for that.
    removed: BTreeMap<String, Content>,
}

/// What a power cut would leave at some moment.
#[derive(Clone)]
pub(super) struct Moment {
    files: BTreeMap<String, Content>,
    removed: BTreeMap<String, Content>,
}

type Inode = Arc<Mutex<Content>>;

#[derive(Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    /// What a power cut leaves for sure.
    synced: Vec<u8>,
    /// Which bytes a failed sync did not store, though nothing stores them any more before they are written again.
    forgotten: Vec<bool>,
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy)]
pub(super) enum Left {
    /// The first bytes that differ.
    First(usize),
    /// Any of the sectors, by a random number.
    Sectors(u64),
}

/// See `SECTOR_BYTES` in `segment.rs`.
const SECTOR: usize = 32;

impl Content {
    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[position..end].copy_from_slice(bytes);
        let known = self.forgotten.len();
        self.forgotten[position.min(known)..end.min(known)].fill(false);
    }

    fn store(&mut self) {
        let is_forgotten = |place: &usize| self.forgotten.get(*place).is_some_and(|forgotten| *forgotten);
        self.synced.resize(self.bytes.len(), 0);
        for place in (0..self.bytes.len()).filter(|place| !is_forgotten(place)) {
            self.synced[place] = self.bytes[place];
        }
    }

    fn forget(&mut self) {
        let places = self.bytes.iter().enumerate();
        self.forgotten = places.map(|(place, byte)| self.synced.get(place) != Some(byte)).collect();
    }

    fn after_power_cut(&self, left: Left) -> Vec<u8> {
        let Self { bytes, synced, .. } = self;
        match left {
            Left::First(count) => {
                let same = bytes.iter().zip(synced).take_while(|(new, old)| new == old).count();
                let reach = same.saturating_add(count);
                let mut kept = bytes[..reach.min(bytes.len())].to_vec();
                kept.extend_from_slice(synced.get(reach..).unwrap_or_default());
                kept
            }
            Left::Sectors(seed) => {
                let length = if seed.is_multiple_of(3) { synced.len() } else { bytes.len() };
                let at = |from: &[u8], place: usize| from.get(place).copied().unwrap_or(0);
                let byte = |place: usize| {
                    let chance = seed ^ (place / SECTOR) as u64;
                    let is_new = chance.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 == 0;
                    at(if is_new { bytes } else { synced }, place)
                };
                (0..length).map(byte).collect()
            }
        }
    }
}

struct SimulatedFile(SimulatedDisk, Inode);

impl Moment {
    /// The disk after a power cut: of what was not synced, `kept` bytes of each file happen to be there; and maybe what was removed.
    pub(super) fn disk(&self, kept: usize, is_removed_back: bool) -> SimulatedDisk {
        self.left(Left::First(kept), is_removed_back)
    }

    /// The same, of any part of what was not synced.
    pub(super) fn left(&self, left: Left, is_removed_back: bool) -> SimulatedDisk {
        let mut files = self.files.clone();
        if is_removed_back {
            for (name, content) in &self.removed {
                files.entry(name.clone()).or_insert_with(|| content.clone());
            }
        }
        let files = files.into_iter().map(|(name, mut content)| {
            content.bytes = content.after_power_cut(left);
            content.synced = content.bytes.clone();
            content.forgotten.clear();
            (name, Arc::new(Mutex::new(content)))
        });
        let state = State { files: files.collect(), ..State::default() };
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    /// The disk after the process was killed: everything is there, but a power cut leaves what it would have left before.
    pub(super) fn after_kill(&self) -> SimulatedDisk {
        let files =
            self.files.iter().map(|(name, content)| (name.clone(), Arc::new(Mutex::new(content.clone()))));
        let state = State { files: files.collect(), removed: self.removed.clone(), ..State::default() };
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }
}

impl State {
    fn moment(&self) -> Moment {
        let files = self.files.iter().map(|(name, inode)| (name.clone(), inode.lock().clone()));
        Moment { files: files.collect(), removed: self.removed.clone() }
    }

    fn changed(&mut self) {
        if let Some(mut moments) = self.moments.take() {
            moments.push(self.moment());
            self.moments = Some(moments);
        }
    }

    fn names(&self) -> Vec<String> {
        self.files.keys().filter(|name| name.contains(".log")).cloned().collect()
    }
}

impl SimulatedDisk {
    /// The disk after a power cut: of what was not synced, `kept` bytes of each file happen to be there.
    pub(super) fn after_power_cut(&self, kept: usize) -> Self {
        self.0.lock().moment().disk(kept, false)
    }

    /// The same, but of any sectors that were not synced.
    pub(super) fn after_power_cut_in_parts(&self, seed: u64) -> Self {
        self.0.lock().moment().left(Left::Sectors(seed), false)
    }

    /// The same, and maybe what was removed is back.
    pub(super) fn cut(&self, kept: usize, is_removed_back: bool) -> Self {
        self.0.lock().moment().disk(kept, is_removed_back)
    }

    pub(super) fn with_last_file(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let state = self.0.lock();
        let name = state.names().pop().expect("there is a segment");
        change(&mut state.files[&name].lock().bytes);
    }

    /// Damages one of the segments at some place. The last file stays, because a log without its end is a shorter log.
    pub(super) fn damage(&self, which: prop::sample::Index, place: prop::sample::Index, damage: &Damage) {
        let mut state = self.0.lock();
        let names = state.names();
        let name = &names[which.index(names.len())];
        if let Damage::FileGone = damage {
            if Some(name) != names.last() {
                state.files.remove(name);
            }
            return;
        }
        // In the last segment a zero in place of something may look like what was never written (docs/storage.md, what is assumed).
        let is_last = Some(name) == names.last();
        let change = |byte: &mut u8, damaged: u8| {
            *byte = if is_last && damaged == 0 && *byte != 0 { !*byte | 1 } else { damaged };
        };
        let bytes = &mut state.files[name].lock().bytes;
        let place = place.index(bytes.len());
        match damage {
            Damage::Bit(bit) => {
                let damaged = bytes[place] ^ 1 << bit;
                change(&mut bytes[place], damaged);
            }
            Damage::Stretch(garbage) => {
                bytes.iter_mut().skip(place).zip(garbage).for_each(|(byte, garbage)| change(byte, *garbage));
            }
            Damage::FileGone => {}
        }
    }

    /// The sizes of the segments, the oldest first.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let state = self.0.lock();
        state.names().iter().map(|name| state.files[name].lock().bytes.len()).collect()
    }

    /// Makes an empty file.
    pub(super) fn leave(&self, name: &str) {
        self.0.lock().files.insert(name.to_owned(), Inode::default());
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.lock().files.contains_key(name)
    }

    /// Whether these bytes are anywhere.
    pub(super) fn holds(&self, needle: &[u8]) -> bool {
        let state = self.0.lock();
        state
            .files
            .values()
            .any(|inode| inode.lock().bytes.windows(needle.len()).any(|bytes| bytes == needle))
    }

    /// Flips bits in all places where these bytes are.
    pub(super) fn garble(&self, needle: &[u8]) {
        for inode in self.0.lock().files.values() {
            let bytes = &mut inode.lock().bytes;
            let places: Vec<_> =
                (0..bytes.len()).filter(|place| bytes[*place..].starts_with(needle)).collect();
            for place in places {
                bytes[place] ^= 1;
            }
        }
    }
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().files.keys().cloned().collect())
    }

    fn read_into(&self, name: &str, bytes: &mut Vec<u8>) -> io::Result<()> {
        let state = self.0.lock();
        bytes.clone_from(&state.files[name].lock().bytes);
        if state.names().last().is_some_and(|last| last == name) {
            let end = state.unreadable.end.min(bytes.len());
            bytes[state.unreadable.start.min(end)..end].fill(u8::MAX);
        }
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let inode = Inode::default();
        let mut state = self.0.lock();
        if let Some(number) = state.names_fail {
            return Err(sync_failed(io::Error::from_raw_os_error(number)));
        }
        if let Some((_, number)) = state.refused.as_ref().filter(|(refused, _)| name.ends_with(refused)) {
            return Err(io::Error::from_raw_os_error(*number));
        }
        let before = state.files.insert(name.to_owned(), inode.clone());
        assert!(before.is_none(), "no file is made twice");
        state.changed();
        Ok(Arc::new(SimulatedFile(self.clone(), inode)))
    }

    fn open(&self, name: &str) -> io::Result<(Arc<dyn LogFile>, u64)> {
        let inode = self.0.lock().files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        let length = inode.lock().bytes.len() as u64;
        Ok((Arc::new(SimulatedFile(self.clone(), inode)), length))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let inode = state.files.remove(from).expect("it was made");
        {
            let content = inode.lock();
            assert_eq!(content.synced, content.bytes, "it is whole before it takes a name");
        }
        if let Some(replaced) = state.files.insert(to.to_owned(), inode) {
            let freed = replaced.lock().bytes.len();
            state.room = state.room.map(|room| room + freed);
        }
        state.changed();
        Ok(())
    }

    fn is_there(&self, name: &str, file: &dyn LogFile) -> bool {
        let found = self.0.lock().files.get(name).cloned();
        found.is_some_and(|inode| {
            SimulatedFile(self.clone(), inode).identity().unwrap() == file.identity().unwrap()
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.is_read_only {
            state.refusals += 1;
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if let Some(inode) = state.files.remove(name) {
            let content = inode.lock().clone();
            state.room = state.room.map(|room| room + content.bytes.len());
            state.removed.insert(name.to_owned(), content);
        }
        state.changed();
        Ok(())
    }
}

impl SimulatedFile {
    fn with<T>(&self, act: impl FnOnce(&mut Content) -> T) -> T {
        let mut state = self.0.0.lock();
        let result = act(&mut self.1.lock());
        state.changed();
        result
    }
}

impl LogFile for SimulatedFile {
    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, Arc::as_ptr(&self.1).addr() as u64))
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if self.0.0.lock().is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let position = usize::try_from(position).unwrap();
        if let Some(number) = self.0.0.lock().rewrites_fail.filter(|_| position < self.1.lock().bytes.len()) {
            return Err(io::Error::from_raw_os_error(number));
        }
        let inside = self.1.lock().bytes.len().checked_sub(position).expect("no holes are made");
        let room = {
            let mut state = self.0.0.lock();
            let more = bytes.len().saturating_sub(inside);
            let room = state.room.unwrap_or(usize::MAX).min(more);
            state.room = state.room.map(|left| left - room);
            bytes.len() - more + room
        };
        self.with(|content| content.write(position, &bytes[..room]));
        if room < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        {
            let mut state = self.0.0.lock();
            state.syncs += 1;
            if state.syncs_fail {
                self.1.lock().forget();
                return Err(io::Error::other("I/O error"));
            }
        }
        self.with(Content::store);
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        if self.0.0.lock().is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if self.0.0.lock().cuts_fail {
            return Err(io::Error::other("I/O error"));
        }
        let length = usize::try_from(length).unwrap();
        let cut = self.1.lock().bytes.len() - length;
        {
            let mut state = self.0.0.lock();
            let cut = cut.saturating_sub(state.others_take);
            state.room = state.room.map(|room| room + cut);
        }
        self.with(|content| {
            content.bytes.truncate(length);
            content.forgotten.truncate(length);
        });
        Ok(())
    }

    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        {
            let mut state = self.0.0.lock();
            state.reads += 1;
            if let Some(number) = state.reads_fail {
                return Err(io::Error::from_raw_os_error(number));
            }
        }
        let position = usize::try_from(position).unwrap();
        let bytes = self.1.lock().bytes.get(position..position + length).map(<[u8]>::to_vec);
        bytes.map(Bytes::from).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
