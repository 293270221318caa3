//! Zeros behind the end of the log, and groups that a power cut leaves in parts.

use super::*;
use inspect::verify_on;
use proptest::prelude::*;

/// The file ends far behind the log, or not: both have to be so small that it matters.
fn ahead(ahead_bytes: u64) -> StoreSettings {
    StoreSettings { ahead_bytes, relaxed_sync: Duration::from_hours(1), ..settings() }
}

fn open_ahead(disk: &SimulatedDisk, ahead_bytes: u64) -> EmbeddedBroker {
    open_as(disk, &Clock::manual(1_000), policies(ALL), ahead(ahead_bytes))
}

fn relaxed(data: &str) -> PublishRequest {
    PublishRequest { channel: ChannelName::parse("relaxed-1").unwrap(), ..request(0, data) }
}

fn relaxed_data(broker: &EmbeddedBroker) -> Vec<String> {
    let page = broker.history(&relaxed("").channel, EVERYTHING).unwrap();
    page.publications
        .iter()
        .map(|publication| String::from_utf8(publication.data.to_vec()).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// A power cut at every moment that keeps any sectors of what was not synced: what was answered is there, a batch is there as
    /// a whole or not at all, and nothing is called damage.
    #[test]
    fn a_group_in_parts_is_cut_off_and_never_called_damage(
        batches in prop::collection::vec((1_usize..5, 0_usize..150), 1..12),
        ahead_bytes in prop_oneof![Just(0_u64), Just(1_500), Just(5_000)],
        seeds in prop::collection::vec(any::<u64>(), 3),
    ) {
        run(async {
            let disk = SimulatedDisk::default();
            let broker = open_ahead(&disk, ahead_bytes);
            disk.0.lock().moments = Some(Vec::new());
            // After so many moments so much was answered.
            let mut answered = vec![(0, 0)];
            let (mut all, mut ends) = (Vec::new(), vec![0]);
            for (number, (count, size)) in batches.into_iter().enumerate() {
                let batch: Vec<_> = (0..count).map(|item| format!("{number}/{item}:{}", "x".repeat(size))).collect();
                for result in broker.publish_all(batch.iter().map(|data| request(0, data)).collect()).await {
                    result.unwrap();
                }
                all.extend(batch);
                ends.push(all.len());
                answered.push((disk.0.lock().moments.as_ref().unwrap().len(), all.len()));
            }
            let moments = disk.0.lock().moments.take().unwrap();
            for (place, moment) in moments.iter().enumerate() {
                let least = answered.iter().rfind(|(moments, _)| *moments <= place + 1).unwrap().1;
                for seed in &seeds {
                    let disk = moment.left(disk::Left::Sectors(*seed), false);
                    assert_eq!(verify_on(&disk).unwrap().damage, [], "moment {place}");
                    let broker = open_ahead(&disk, ahead_bytes);
                    let read = data_of(&broker, 0);
                    assert!(read.len() >= least, "moment {place}: {} of {least} are there", read.len());
                    assert!(ends.contains(&read.len()), "moment {place}: a part of a batch is there");
                    assert_eq!(read, all[..read.len()]);
                    assert!(complete_since(&broker, 0) <= 1, "moment {place}: nothing is in doubt");
                    broker.publish(request(0, "next")).await.unwrap();
                    drop(broker);
                    assert_eq!(data_of(&open_ahead(&disk, ahead_bytes), 0).len(), read.len() + 1);
                }
            }
        });
    }

    /// Several groups that nobody synced: of them is left what comes first, everything before is there.
    #[test]
    fn of_relaxed_groups_in_parts_the_first_are_left(
        lives in prop::collection::vec((prop::collection::vec((any::<bool>(), 0_usize..120), 0..20), any::<u64>()), 1..4),
        ahead_bytes in prop_oneof![Just(0_u64), Just(1_500), Just(5_000)],
    ) {
        run(async {
            let mut disk = SimulatedDisk::default();
            let (mut safe, mut maybe) = (Vec::new(), Vec::new());
            let mut number = 0;
            for (publications, seed) in lives {
                let broker = open_ahead(&disk, ahead_bytes);
                for (must_survive, size) in publications {
                    number += 1;
                    let data = format!("{number}:{}", "x".repeat(size));
                    if must_survive {
                        broker.publish(request(0, &data)).await.unwrap();
                        safe.push(data);
                    } else {
                        broker.publish(relaxed(&data)).await.unwrap();
                        maybe.push((safe.len(), data));
                    }
                }
                let cut = disk.after_power_cut_in_parts(seed);
                drop(broker);
                disk = cut;
                assert_eq!(verify_on(&disk).unwrap().damage, []);
                let broker = open_ahead(&disk, ahead_bytes);
                assert_eq!(data_of(&broker, 0), safe);
                let left = relaxed_data(&broker);
                let sure = maybe.iter().filter(|(before, _)| *before < safe.len()).count();
                assert!(left.len() >= sure, "what was synced with others is there");
                assert!(left.iter().zip(&maybe).all(|(left, (_, data))| left == data), "and nothing else");
                maybe.truncate(left.len());
                for (before, _) in &mut maybe {
                    *before = 0;
                }
                assert!(complete_since(&broker, 0) <= 1);
                drop(broker);
                disk = disk.after_power_cut(usize::MAX / 2);
            }
        });
    }
}

/// A sector that rots to zeros is damage if anything behind it was written after it had been synced.
#[test]
fn a_missing_sector_that_was_synced_is_damage() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_ahead(&disk, 5_000);
        for number in 0..4 {
            broker.publish(request(0, &format!("{number}:{}", "x".repeat(100)))).await.unwrap();
        }
        drop(broker);
        let mut place = 0;
        disk.with_last_file(|bytes| {
            place = bytes.windows(2).position(|data| data == b"1:").unwrap().next_multiple_of(32);
            bytes[place..place + 32].fill(0);
        });
        assert!(!verify_on(&disk).unwrap().damage.is_empty());
        let broker = open_ahead(&disk, 5_000);
        assert_eq!(data_of(&broker, 0).len(), 2);
        assert_eq!(broker.locate(&channel(0), Since::Offset(1)).gap, Some(Gap::Epoch));
    });
}

#[test]
fn the_end_of_the_log_is_not_the_end_of_its_file() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_ahead(&disk, 1_000);
        broker.publish(request(0, "a")).await.unwrap();
        let running = disk.after_power_cut(0);
        let report = verify_on(&running).unwrap();
        assert_eq!((report.publications, report.torn_bytes, report.damage.len()), (1, 0, 0));
        assert!(running.sizes()[0] > 500 && report.bytes < 500, "zeros do not count");
        drop(broker);
        assert!(disk.sizes()[0] < 500, "an orderly end leaves none");
        // A full disk has no room for zeros, but for publications until it is really full.
        let broker = open_ahead(&disk, 0);
        disk.0.lock().room = Some(500);
        drop(broker);
        let broker = open_ahead(&disk, 1_000);
        for name in ["b", "c"] {
            broker.publish(request(0, name)).await.unwrap();
        }
        disk.0.lock().room = Some(10);
        assert_eq!(broker.publish(request(0, "full")).await, Err(PublishError::StorageFull));
        assert_eq!(data_of(&open(&disk.after_power_cut(0)), 0), ["a", "b", "c"]);
    });
}
