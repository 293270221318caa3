//! The log under a disk that crashes, fails and rots.

use super::disk::{Disk, LogFile};
use super::*;
use crate::model::Publication;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A disk in memory that knows what was synced.
#[derive(Clone, Default)]
struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, Content>,
    syncs_fail: bool,
    cuts_fail: bool,
    /// Bytes that may still be written.
    room: Option<usize>,
}

#[derive(Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    /// How much of them survives a power cut for sure.
    synced: usize,
}

struct SimulatedFile(SimulatedDisk, String);

impl SimulatedDisk {
    /// The disk after a power cut: of what was not synced, `kept` bytes of each file happen to be there.
    fn after_power_cut(&self, kept: usize) -> Self {
        let files = self.0.lock().files.clone().into_iter().map(|(name, mut content)| {
            content.bytes.truncate(content.synced + kept);
            content.synced = content.bytes.len();
            (name, content)
        });
        Self(Arc::new(Mutex::new(State { files: files.collect(), ..State::default() })))
    }

    fn with_last_file(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.lock().files.values_mut().next_back().expect("there is a file").bytes);
    }

    /// Damages one of the files at some place. The last file stays, because a log without its end is a shorter log.
    fn damage(&self, which: prop::sample::Index, place: prop::sample::Index, damage: &Damage) {
        let mut state = self.0.lock();
        let names: Vec<String> = state.files.keys().cloned().collect();
        let name = &names[which.index(names.len())];
        if let Damage::FileGone = damage {
            if name != names.last().expect("there are files") {
                state.files.remove(name);
            }
            return;
        }
        let bytes = &mut state.files.get_mut(name).expect("it was listed").bytes;
        let place = place.index(bytes.len());
        match damage {
            Damage::Bit(bit) => bytes[place] ^= 1 << bit,
            Damage::Stretch(garbage) => {
                bytes.iter_mut().skip(place).zip(garbage).for_each(|(byte, garbage)| *byte = *garbage);
            }
            Damage::FileGone => {}
        }
    }

    fn sizes(&self) -> Vec<usize> {
        self.0.lock().files.values().map(|content| content.bytes.len()).collect()
    }
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Bytes> {
        Ok(self.0.lock().files[name].bytes.clone().into())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let before = self.0.lock().files.insert(name.to_owned(), Content::default());
        assert!(before.is_none(), "no file is made twice");
        Ok(Arc::new(SimulatedFile(self.clone(), name.to_owned())))
    }

    fn open_cut(&self, name: &str, length: u64) -> io::Result<Arc<dyn LogFile>> {
        let content = &mut *self.0.lock();
        let content = content.files.get_mut(name).expect("it was listed");
        content.bytes.truncate(usize::try_from(length).unwrap());
        content.synced = content.bytes.len();
        Ok(Arc::new(SimulatedFile(self.clone(), name.to_owned())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().files.remove(name);
        Ok(())
    }
}

impl SimulatedFile {
    fn with<T>(&self, act: impl FnOnce(&mut Content) -> T) -> T {
        act(self.0.0.lock().files.get_mut(&self.1).expect("it was made"))
    }
}

impl LogFile for SimulatedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let room = {
            let mut state = self.0.0.lock();
            let room = state.room.unwrap_or(usize::MAX).min(bytes.len());
            state.room = state.room.map(|left| left - room);
            room
        };
        self.with(|content| content.bytes.extend_from_slice(&bytes[..room]));
        if room < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        if self.0.0.lock().syncs_fail {
            return Err(io::Error::other("I/O error"));
        }
        self.with(|content| content.synced = content.bytes.len());
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        if self.0.0.lock().cuts_fail {
            return Err(io::Error::other("I/O error"));
        }
        let length = usize::try_from(length).unwrap();
        self.with(|content| {
            content.bytes.truncate(length);
            content.synced = content.synced.min(length);
        });
        Ok(())
    }

    fn read_at(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let position = usize::try_from(position).unwrap();
        Ok(self.with(|content| content.bytes[position..position + length].to_vec()).into())
    }
}

/// Remembers the sequences it was handed.
#[derive(Default)]
struct Delivered(Mutex<Vec<u64>>);

impl PublicationSink for Delivered {
    fn deliver(&self, publication: Publication) {
        self.0.lock().push(publication.sequence);
    }
}

const ALL: Retention = Retention { messages: usize::MAX, age: u64::MAX, bytes: u64::MAX };

fn open(disk: &SimulatedDisk) -> EmbeddedBroker {
    open_with(disk, ALL, &Clock::manual(1_000))
}

fn open_with(disk: &SimulatedDisk, retention: Retention, clock: &Clock) -> EmbeddedBroker {
    let sink = Arc::new(Delivered::default());
    EmbeddedBroker::open_on(Box::new(disk.clone()), 2_000, sink, clock.clone(), retention).unwrap()
}

fn channel(number: usize) -> ChannelName {
    ChannelName::parse(&format!("channel-{number}")).unwrap()
}

fn request(number: usize, data: &str) -> PublishRequest {
    let data = Bytes::copy_from_slice(data.as_bytes());
    PublishRequest { channel: channel(number), data, expires_at: 0, idempotency_key: None }
}

fn data_of(broker: &EmbeddedBroker, number: usize) -> Vec<String> {
    let page = broker.history(&channel(number), 0, usize::MAX).unwrap();
    let items = page.map_or_else(Vec::new, |page| page.items);
    items.iter().map(|item| String::from_utf8(item.data.to_vec()).unwrap()).collect()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Lives, each ended by a power cut that keeps any part of what was not synced: what was answered is there, once, in
    /// order, and nothing else is.
    #[test]
    fn what_was_answered_survives_every_power_cut(
        lives in prop::collection::vec((prop::collection::vec((0_usize..4, 0_usize..120), 0..25), any::<prop::sample::Index>()), 1..5),
    ) {
        run(async {
            let mut disk = SimulatedDisk::default();
            let mut answered: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            let mut number = 0;
            for (publications, kept) in lives {
                let broker = open(&disk);
                for (name, size) in publications {
                    number += 1;
                    let data = format!("{number}:{}", "x".repeat(size));
                    let published = broker.publish(request(name, &data)).await.unwrap();
                    let history = answered.entry(name).or_default();
                    history.push(data);
                    assert_eq!(published.offset, history.len() as u64, "offsets go on over restarts");
                }
                for name in 0..4 {
                    assert_eq!(data_of(&broker, name), answered.get(&name).cloned().unwrap_or_default());
                    assert!(broker.complete_since(&channel(name)) <= 1, "nothing is missing");
                }
                drop(broker);
                disk = disk.after_power_cut(kept.index(200));
            }
        });
    }

    /// Damage anywhere (a flipped bit, a garbled stretch, a file that is gone): what is read is right, and where something is
    /// missing, it is said to be.
    #[test]
    fn damage_is_never_read_and_never_silent(
        place in any::<prop::sample::Index>(),
        which in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        run(async {
            let disk = SimulatedDisk::default();
            let broker = open(&disk);
            let mut written: BTreeMap<usize, Vec<(u64, String)>> = BTreeMap::new();
            for number in 0..60 {
                let data = format!("{number}:{}", "x".repeat(number % 50));
                let published = broker.publish(request(number % 3, &data)).await.unwrap();
                written.entry(number % 3).or_default().push((published.sequence, data));
            }
            drop(broker);
            let disk = disk.after_power_cut(0);
            disk.damage(which, place, &damage);
            let broker = open(&disk);
            for (name, written) in &written {
                let since = broker.complete_since(&channel(*name));
                let expected: Vec<_> = written.iter().filter(|(sequence, _)| *sequence >= since).collect();
                let read = data_of(&broker, *name);
                assert!(read.len() >= expected.len(), "channel {name} claims to be complete since {since}");
                let tail = &read[read.len() - expected.len()..];
                assert!(tail.iter().zip(&expected).all(|(read, (_, written))| read == written));
                assert!(read.iter().all(|read| written.iter().any(|(_, written)| written == read)));
                broker.publish(request(*name, "life goes on")).await.unwrap();
            }
        });
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Bit(u8),
    Stretch(Vec<u8>),
    FileGone,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (0_u8..8).prop_map(Damage::Bit),
        4 => prop::collection::vec(any::<u8>(), 1..400).prop_map(Damage::Stretch),
        1 => Just(Damage::FileGone),
    ]
}

#[test]
fn a_log_cut_at_every_byte_opens_with_what_is_whole() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        for number in 0..12 {
            broker.publish(request(0, &number.to_string())).await.unwrap();
        }
        drop(broker);
        let whole = disk.sizes();
        assert_eq!(whole.len(), 1, "one segment, for this test");
        for length in 0..=whole[0] {
            let disk = disk.after_power_cut(0);
            disk.with_last_file(|bytes| bytes.truncate(length));
            let broker = open(&disk);
            let read = data_of(&broker, 0);
            let expected: Vec<_> = (0..read.len()).map(|number| number.to_string()).collect();
            assert_eq!(read, expected, "cut at {length}");
            let next = broker.publish(request(0, "next")).await.unwrap();
            assert_eq!(next.offset, read.len() as u64 + 1);
            assert_eq!(data_of(&broker, 0).last().map(String::as_str), Some("next"));
        }
    });
}

#[test]
fn a_full_disk_refuses_and_recovers_without_a_trace() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        broker.publish(request(0, "before")).await.unwrap();
        disk.0.lock().room = Some(30);
        for _ in 0..3 {
            assert_eq!(broker.publish(request(0, "too much")).await, Err(PublishError::StorageFull));
        }
        assert_eq!(data_of(&broker, 0), ["before"], "reading goes on");
        disk.0.lock().room = None;
        assert_eq!(broker.publish(request(0, "after")).await.unwrap().offset, 2);
        drop(broker);
        assert_eq!(data_of(&open(&disk.after_power_cut(usize::MAX / 2)), 0), ["before", "after"]);
    });
}

#[test]
fn a_failed_sync_closes_the_log_for_good() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        broker.publish(request(0, "before")).await.unwrap();
        disk.0.lock().syncs_fail = true;
        assert_eq!(broker.publish(request(0, "lost")).await, Err(PublishError::Fenced));
        disk.0.lock().syncs_fail = false;
        assert_eq!(
            broker.publish(request(0, "later")).await,
            Err(PublishError::Fenced),
            "it is not tried again"
        );
        assert_eq!(data_of(&broker, 0), ["before"]);
        drop(broker);
        assert_eq!(data_of(&open(&disk.after_power_cut(0)), 0), ["before"]);
    });
}

#[test]
fn a_write_that_cannot_be_taken_back_closes_the_log() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        broker.publish(request(0, "before")).await.unwrap();
        {
            let mut state = disk.0.lock();
            (state.cuts_fail, state.room) = (true, Some(5));
        }
        assert_eq!(broker.publish(request(0, "half")).await, Err(PublishError::Fenced));
    });
}

#[test]
fn a_repeat_is_answered_with_the_first_and_stored_once() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let broker = open_with(&disk, ALL, &clock);
        let keyed = |data| PublishRequest { idempotency_key: Some("key".into()), ..request(0, data) };
        let first = broker.publish(keyed("a")).await.unwrap();
        assert_eq!(broker.publish(keyed("a")).await.unwrap(), Published { is_duplicate: true, ..first });
        assert_eq!(broker.publish(keyed("b")).await, Err(PublishError::KeyReused));
        let other = PublishRequest { channel: channel(1), ..keyed("b") };
        assert!(!broker.publish(other).await.unwrap().is_duplicate, "keys belong to channels");
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), ALL, &clock);
        assert_eq!(broker.publish(keyed("a")).await.unwrap(), Published { is_duplicate: true, ..first });
        let racing: Vec<_> = (0..20)
            .map(|_| {
                broker.publish(PublishRequest { idempotency_key: Some("race".into()), ..request(2, "c") })
            })
            .collect();
        let mut fresh = 0;
        for publish in racing {
            fresh += usize::from(!publish.await.unwrap().is_duplicate);
        }
        assert_eq!((fresh, data_of(&broker, 2).len()), (1, 1));
    });
}

#[test]
fn retention_gives_up_the_oldest_and_says_so() {
    run(async {
        let disk = SimulatedDisk::default();
        let retention = Retention { messages: 3, ..ALL };
        let broker = open_with(&disk, retention, &Clock::manual(1_000));
        let mut sequences = Vec::new();
        for number in 0..5 {
            sequences.push(broker.publish(request(0, &number.to_string())).await.unwrap().sequence);
        }
        assert_eq!(data_of(&broker, 0), ["2", "3", "4"]);
        assert_eq!(broker.complete_since(&channel(0)), sequences[2]);
        let page = broker.history(&channel(0), 4, 1).unwrap().unwrap();
        assert_eq!((page.items[0].offset, &page.items[0].data[..], page.next_offset), (4, &b"3"[..], 6));
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), retention, &Clock::manual(1_000));
        assert_eq!(data_of(&broker, 0), ["2", "3", "4"]);
    });
}

#[test]
fn a_restored_backup_does_not_know_positions_of_the_life_after_it() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        let seen = broker.publish(request(0, "in the backup")).await.unwrap().sequence;
        let life = broker.generation();
        let backup = disk.after_power_cut(0);
        let later = broker.publish(request(0, "after the backup")).await.unwrap().sequence;
        assert!(broker.has_lived(life, later));
        drop(broker);
        let broker = open(&backup);
        assert!(broker.has_lived(life, seen));
        assert!(!broker.has_lived(life, later), "another publication has this sequence now");
        assert!(!broker.has_lived(life ^ 1, seen), "nobody knows this life");
    });
}
