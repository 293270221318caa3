//! Rewriting segments that resist, and what is left of what was given up.

use super::*;
use std::ops::Range;

/// Some segments of which nearly everything is dead at once. The second one is the longest.
async fn mostly_dead(broker: &EmbeddedBroker, disk: &SimulatedDisk) {
    for name in 0..4 {
        broker.publish(request(name, "lives")).await.unwrap();
        let segments = disk.sizes().len();
        while disk.sizes().len() == segments {
            let size = if segments == 2 && *disk.sizes().last().unwrap() > 1_800 { 900 } else { 60 };
            broker.publish(request(9, &"x".repeat(size))).await.unwrap();
        }
    }
    // Nothing is dead yet. Whoever asks for upkeep from here on is the first to.
    tidy(broker);
    broker.purge(&channel(9)).await.unwrap();
}

/// Nothing is kept any more of these channels, and their newest records are where they were.
fn make_idle(broker: &EmbeddedBroker, names: Range<usize>) {
    for name in names {
        broker.stored.write().index.lose(&channel(name), u64::MAX);
    }
}

fn segment(number: u64) -> String {
    format!("{number:016x}")
}

/// What was left of a rewriting made each later one fail, and so nothing was ever rewritten again.
#[test]
fn what_is_left_of_a_rewriting_that_failed_is_no_hindrance() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        mostly_dead(&broker, &disk).await;
        disk.leave(&format!("{}.new", segment(2)));
        tidy(&broker);
        assert!(disk.sizes()[..4].iter().all(|size| *size < 700), "{:?}", disk.sizes());
    });
}

#[test]
fn a_segment_that_cannot_be_rewritten_is_passed_over() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        disk.0.lock().refused = Some((format!("{}.new", segment(2)), 5)); // EIO
        mostly_dead(&broker, &disk).await;
        tidy(&broker);
        let is_large: Vec<_> = disk.sizes()[..4].iter().map(|size| *size > 1_800).collect();
        assert_eq!(is_large, [false, true, false, false]);
        disk.0.lock().refused = None;
        tidy(&broker);
        assert!(disk.sizes()[1] < 700);
        for name in 0..4 {
            assert_eq!(data_of(&broker, name), ["lives"]);
        }
    });
}

/// Once, no other one was tried, because none is smaller than one of which nothing is kept.
#[test]
fn a_segment_that_the_disk_has_no_room_for_is_no_hindrance_to_smaller_ones() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        disk.0.lock().refused = Some((format!("{}.new", segment(2)), 28)); // ENOSPC
        mostly_dead(&broker, &disk).await;
        broker.purge(&channel(1)).await.unwrap();
        tidy(&broker);
        let is_large: Vec<_> = disk.sizes()[..4].iter().map(|size| *size > 1_800).collect();
        assert_eq!(is_large, [false, true, false, false]);
    });
}

/// The new segment fits, but not what the log says of it: then there is room for that once the reserve is given up, and for another one.
#[test]
fn what_cannot_be_synced_before_a_segment_is_replaced_is_no_hindrance_to_others() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        mostly_dead(&broker, &disk).await;
        tidy(&broker);
        let longest = disk.sizes()[1];
        drop(broker);
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        mostly_dead(&broker, &disk).await;
        assert!(disk.has("reserve"));
        disk.0.lock().room = Some(longest + 10);
        tidy(&broker);
        let is_large = [0, 2, 3].map(|place| disk.sizes()[place] > 1_800);
        assert_eq!(is_large, [false; 3]);
    });
}

/// Once, it was not if channels had their newest record there and nothing else.
#[test]
fn a_disk_that_is_read_only_is_tried_once() {
    run(async {
        for has_idle in [false, true] {
            let disk = SimulatedDisk::default();
            let broker = open(&disk);
            mostly_dead(&broker, &disk).await;
            disk.0.lock().is_read_only = true;
            if has_idle {
                make_idle(&broker, 1..4);
            }
            tidy(&broker);
            assert_eq!(disk.0.lock().refusals, 1, "not each of four segments was tried");
            disk.0.lock().is_read_only = false;
            tidy(&broker);
            assert!(disk.sizes()[..4].iter().all(|size| *size < 700), "{:?}", disk.sizes());
        }
    });
}

/// Once, where such channels stand was written again and again, for each segment that was tried, until no room was left for anything.
#[test]
fn segments_that_the_disk_has_no_room_for_take_none_of_what_is_left() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        disk.0.lock().refused = Some((".new".into(), 28)); // ENOSPC
        mostly_dead(&broker, &disk).await;
        make_idle(&broker, 1..4);
        let before = disk.sizes();
        for _ in 0..3 {
            tidy(&broker);
        }
        assert_eq!(disk.sizes(), before);
    });
}

/// The newest publication of a channel in a segment stayed when that was rewritten, with its data, if the channel was forgotten or is
/// kept in memory by now.
#[test]
fn what_was_purged_leaves_the_disk_also_if_its_channel_is_not_known_any_more() {
    run(async {
        for is_in_memory in [false, true] {
            let clock = Clock::manual(1_000);
            let live = |disk: &SimulatedDisk, durability| {
                let policy = |durability| Policy { durability, retention: ALL, replay_on_join: 0 };
                let own = vec![(Pattern::new("channel-0"), policy(durability))];
                open_as(disk, &clock, Policies::new(own, policy(Durability::Fsync)), settings())
            };
            let fill = async |broker: &EmbeddedBroker| {
                for _ in 0..40 {
                    broker.publish(request(9, &"x".repeat(60))).await.unwrap();
                }
            };
            let disk = SimulatedDisk::default();
            let broker = live(&disk, Durability::Fsync);
            // So that the segment is rewritten when the rest of it is purged, and not removed.
            broker.publish(request(1, "stays")).await.unwrap();
            let first = broker.publish(request(0, "secret")).await.unwrap().position;
            drop(broker);
            let broker = live(&disk, if is_in_memory { Durability::Memory } else { Durability::Fsync });
            // The purge is in another segment.
            fill(&broker).await;
            if is_in_memory {
                broker.publish(request(0, "in memory")).await.unwrap();
            }
            broker.purge(&channel(0)).await.unwrap();
            if is_in_memory {
                broker.publish(request(0, "in memory")).await.unwrap();
            } else {
                forget_idle(&broker);
            }
            broker.purge(&channel(9)).await.unwrap();
            tidy(&broker);
            assert!(disk.has("0000000000000001.log") && disk.holds(b"stays"));
            assert!(!disk.holds(b"secret"), "in memory: {is_in_memory}");
            drop(broker);
            let broker = live(&disk.after_power_cut(0), Durability::Fsync);
            assert!(data_of(&broker, 0).is_empty());
            assert_eq!(broker.locate(&channel(0), Since::Position(first)).gap, Some(Gap::Epoch));
            let next = broker.publish(request(0, "next")).await.unwrap().position;
            assert_ne!(next.epoch, first.epoch);
        }
    });
}

/// What stays of a publication says where its channel stood, and claims nothing of what was before.
#[test]
fn whoever_stood_before_what_left_the_disk_is_told() {
    run(async {
        for (is_forgotten, told) in [(true, Gap::Trimmed), (false, Gap::Epoch)] {
            let disk = SimulatedDisk::default();
            let few = Retention { messages: 2, ..ALL };
            let broker = open_with(&disk, few, &Clock::manual(1_000));
            broker.publish(request(1, "stays")).await.unwrap();
            let before = broker.publish(request(0, "given up")).await.unwrap();
            let newest = broker.publish(request(0, "given up, too")).await.unwrap();
            make_idle(&broker, 0..1);
            if is_forgotten {
                forget_idle(&broker);
            }
            for _ in 0..40 {
                broker.publish(request(9, &"x".repeat(60))).await.unwrap();
            }
            tidy(&broker);
            assert!(!disk.holds(b"given up"));
            drop(broker);
            let broker = open_with(&disk.after_power_cut(0), few, &Clock::manual(1_000));
            assert_eq!(gap(&broker, 0, before.cursor), Some(told));
            assert_eq!(gap(&broker, 0, newest.cursor), None, "nothing follows it");
            assert!(data_of(&broker, 0).is_empty());
            let next = broker.publish(request(0, "next")).await.unwrap().position;
            assert_eq!((next.epoch, next.offset), (newest.position.epoch, 3));
        }
    });
}

/// Once, it was left out where its channel had something newer: when that was damaged, what had been purged was back.
#[test]
fn a_purge_stays_as_long_as_what_it_took_may_be_on_the_disk() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        let fill = async |name: usize| {
            let segments = disk.sizes().len();
            while disk.sizes().len() == segments {
                broker.publish(request(name, &"x".repeat(60))).await.unwrap();
            }
        };
        broker.publish(request(0, "purged")).await.unwrap();
        // All of it lives, so that the segment stays as it is.
        fill(1).await;
        broker.purge(&channel(0)).await.unwrap();
        fill(9).await;
        broker.publish(request(0, "rots")).await.unwrap();
        fill(1).await;
        tidy(&broker);
        broker.purge(&channel(9)).await.unwrap();
        let before = disk.sizes()[1];
        tidy(&broker);
        assert!(disk.sizes()[1] < before / 2, "it was rewritten: {:?}", disk.sizes());
        drop(broker);
        disk.garble(b"rots");
        for _ in 0..2 {
            let broker = open(&disk);
            assert!(data_of(&broker, 0).is_empty(), "{:?}", data_of(&broker, 0));
        }
    });
}

/// Once, a full disk stayed full if the segment of which most is dead did not fit on it a second time.
#[test]
fn a_full_disk_has_room_for_a_segment_of_which_less_is_in_use() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        disk.0.lock().refused = Some((format!("{}.new", segment(2)), 28)); // ENOSPC
        mostly_dead(&broker, &disk).await;
        for name in [0, 2, 3] {
            // Of the others nothing is in use but where the channels stand.
            broker.purge(&channel(name)).await.unwrap();
        }
        tidy(&broker);
        let is_large: Vec<_> = disk.sizes()[..3].iter().map(|size| *size > 1_800).collect();
        assert_eq!(
            is_large,
            [true, false, false],
            "the first one is gone, and the next is the one: {:?}",
            disk.sizes()
        );
    });
}
