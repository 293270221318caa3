//! Looking at a log from outside.

use super::super::log::disk::LogFile;
use super::*;
use inspect::{stats_on, verify_on};
use std::io;

fn open_in(path: &Path, clock: &Clock) -> EmbeddedBroker {
    let sink = Arc::new(Delivered::default());
    EmbeddedBroker::open(path, sink, clock.clone(), policies(ALL), settings(), key()).unwrap()
}

#[test]
fn a_check_counts_everything_and_names_the_place_of_damage() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let clock = Clock::manual(1_000);
        let broker = open_in(&path, &clock);
        for number in 0..50 {
            broker.publish(request(number % 3, &format!("number {number}"))).await.unwrap();
        }
        broker.purge(&channel(2)).await.unwrap();
        let report = verify(&path).unwrap();
        assert_eq!((report.publications, report.damage.len(), report.torn_bytes), (50, 0, 0));
        assert!(report.segments > 2 && report.records > 50);
        let sums = stats(&path, &policies(ALL), 1_000).unwrap();
        assert_eq!((sums.channels, sums.publications, sums.times), (3, 34, Some((1_000, 1_000))));
        assert_eq!(sums.segments.len(), report.segments);
        assert_eq!(sums.segments.iter().map(|segment| segment.publications).sum::<u32>(), 34);
        assert_eq!(sums.largest.len(), 2, "the purged one takes nothing");
        drop(broker);
        let file = path.join("0000000000000001.log");
        let mut bytes = std::fs::read(&file).unwrap();
        let place = bytes.windows(8).position(|window| window == b"number 5").unwrap();
        bytes[place] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let damage = verify(&path).unwrap().damage;
        assert_eq!(damage.len(), 2, "the record, and the hole it leaves: {damage:?}");
        assert_eq!(damage[0].file, "0000000000000001.log");
        assert!(damage[0].position < place as u64 && damage[0].position + 200 > place as u64);
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "nothing was changed");
    });
}

#[test]
fn a_copy_made_while_the_server_writes_holds_everything_that_was_answered() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let clock = Clock::manual(1_000);
        let broker = open_in(&path, &clock);
        for round in 0..5 {
            for number in 0..20 {
                broker.publish(request(0, &format!("{round}/{number}"))).await.unwrap();
            }
            let copy = directory.path().join(format!("copy-{round}"));
            let destination = copy.clone();
            let from = path.clone();
            let copying = thread::spawn(move || backup(&from, &destination).unwrap());
            let mut during = 0;
            while !copying.is_finished() {
                broker.publish(request(1, "meanwhile")).await.unwrap();
                during += 1;
            }
            assert!(copying.join().unwrap().segments > 0);
            assert!(backup(&path, &copy).is_err(), "nothing is overwritten");
            assert_eq!(verify(&copy).unwrap().damage, []);
            let restored = open_in(&copy, &clock);
            assert_eq!(data_of(&restored, 0), data_of(&broker, 0), "{during} were published meanwhile");
            let top = broker.stored.read().top().cursor;
            let later = broker.publish(request(0, "later")).await.unwrap().cursor;
            assert_eq!(gap(&restored, 0, later), Some(Gap::Diverged), "{top}");
        }
    });
}

/// The segment that a server gives up while somebody looks.
const OLDEST: &str = "0000000000000001.log";

/// A disk on which a server gives up the oldest segment behind the back of whoever looks.
struct Fleeting {
    before: SimulatedDisk,
    after: SimulatedDisk,
    /// It does so when the segments were listed, else when this one is read.
    is_early: bool,
    is_gone: AtomicBool,
}

impl Fleeting {
    fn now(&self) -> &SimulatedDisk {
        if self.is_gone.load(Ordering::Relaxed) { &self.after } else { &self.before }
    }

    fn holding(&self, name: &str) -> io::Result<&SimulatedDisk> {
        Some(self.now()).filter(|disk| disk.has(name)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for Fleeting {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.now().list();
        self.is_gone.fetch_or(self.is_early, Ordering::Relaxed);
        names
    }

    fn read_into(&self, name: &str, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.is_gone.fetch_or(name == OLDEST, Ordering::Relaxed);
        self.holding(name)?.read_into(name, bytes)
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn LogFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<(Arc<dyn LogFile>, u64)> {
        self.holding(name)?.open(name)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn is_there(&self, name: &str, file: &dyn LogFile) -> bool {
        self.holding(name).is_ok_and(|disk| disk.is_there(name, file))
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A segment that upkeep removed after it was listed was called missing, or nothing was said but that a file is not there.
#[test]
fn what_a_server_gives_up_while_somebody_looks_is_no_damage() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        while disk.sizes().len() < 2 {
            broker.publish(request(1, "in the oldest segment")).await.unwrap();
        }
        for number in 0..50 {
            broker.publish(request(0, &format!("number {number}"))).await.unwrap();
        }
        let before = disk.after_power_cut(usize::MAX);
        broker.purge(&channel(1)).await.unwrap();
        tidy(&broker);
        let after = disk.after_power_cut(usize::MAX);
        assert!(before.has(OLDEST) && !after.has(OLDEST));
        let left = before.sizes().len() - 1;
        for is_early in [false, true] {
            let fleeting = || {
                let is_gone = AtomicBool::new(false);
                Fleeting { before: before.clone(), after: after.clone(), is_early, is_gone }
            };
            let report = verify_on(&fleeting()).unwrap();
            assert_eq!((report.segments, report.damage), (left, Vec::new()));
            let disk: Arc<dyn Disk> = Arc::new(fleeting());
            assert_eq!(stats_on(&disk, &policies(ALL), 1_000).unwrap().segments.len(), left);
        }
    });
}

/// Whoever gives descriptors away looks at this, and not only at how many segments there would be if all were as long as they may be.
#[test]
fn a_log_of_short_segments_may_need_more_files_than_its_settings_say() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        for number in 0..100 {
            broker.publish(request(number, &"x".repeat(1_000))).await.unwrap();
        }
        drop(broker);
        let settings = StoreSettings { disk_bytes_max: 1 << 30, ..StoreSettings::default() };
        let broker = open_as(&disk, &Clock::manual(1_000), policies(ALL), settings);
        let segments = broker.figures().segments;
        assert!(segments >= 50 && settings.files_max() < 50);
        assert!(broker.files_max() > segments, "it can go on");
        drop(broker);
        let broker = open_as(&SimulatedDisk::default(), &Clock::manual(1_000), policies(ALL), settings);
        assert_eq!(broker.files_max(), settings.files_max());
    });
}
