//! Crashes, damage and failing disks.

use super::*;
use crate::broker::history::{Depth, History as _, Reading};
use proptest::prelude::*;

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
                    assert_eq!(published.position.offset, history.len() as u64, "offsets go on over restarts");
                }
                for name in 0..4 {
                    assert_eq!(data_of(&broker, name), answered.get(&name).cloned().unwrap_or_default());
                    assert!(complete_since(&broker, name) <= 1, "nothing is missing");
                }
                drop(broker);
                disk = disk.after_power_cut(kept.index(200));
            }
        });
    }

    /// Damage anywhere (a flipped bit, a garbled stretch, a file that is gone), again and again: what is read is right, and where something is
    /// missing, it is said to be. What is read stays when life goes on, and after the next start.
    #[test]
    fn damage_is_never_read_and_never_silent(
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), damage()), 1..4),
    ) {
        run(async {
            let mut disk = SimulatedDisk::default();
            let mut broker = open(&disk);
            let mut written: BTreeMap<usize, Vec<(Published, String)>> = BTreeMap::new();
            for number in 0..60 {
                let data = format!("{number}:{}", "x".repeat(number % 50));
                let published = broker.publish(request(number % 3, &data)).await.unwrap();
                written.entry(number % 3).or_default().push((published, data));
            }
            for (round, (which, place, damage)) in damages.into_iter().enumerate() {
                drop(broker);
                disk = disk.after_power_cut(0);
                disk.damage(which, place, &damage);
                broker = open(&disk);
                let mut left = BTreeMap::new();
                for (name, written) in &mut written {
                    let since = complete_since(&broker, *name);
                    let expected: Vec<_> =
                        written.iter().filter(|(published, _)| key().open(published.cursor).sequence >= since).collect();
                    let mut read = data_of(&broker, *name);
                    assert!(read.len() >= expected.len(), "channel {name} claims to be complete since {since}");
                    let tail = &read[read.len() - expected.len()..];
                    assert!(tail.iter().zip(&expected).all(|(read, (_, written))| read == written));
                    assert!(read.iter().all(|read| written.iter().any(|(_, written)| written == read)));
                    assert_eq!(resumed(&broker, *name), read, "whoever comes back gets what is kept, whatever is missing");
                    check_places(&broker, *name, written);
                    let data = format!("life goes on after {round}");
                    written.push((broker.publish(request(*name, &data)).await.unwrap(), data.clone()));
                    read.push(data);
                    assert_eq!(data_of(&broker, *name), read, "what was there is still there");
                    check_places(&broker, *name, written);
                    left.insert(*name, read);
                }
                drop(broker);
                broker = open(&disk);
                for (name, written) in &written {
                    assert_eq!(&data_of(&broker, *name), &left[name], "after another start");
                    check_places(&broker, *name, written);
                }
            }
        });
    }
}

/// Whoever is told that nothing is missing, with whatever they know of their place, gets everything that was written behind it.
fn check_places(broker: &EmbeddedBroker, name: usize, written: &[(Published, String)]) {
    for (place, (Published { position, cursor, .. }, _)) in written.iter().enumerate() {
        let in_epoch = Since::InEpoch { epoch: position.epoch, offset: position.offset };
        for since in [Since::Position(*position), in_epoch, Since::Cursor(*cursor)] {
            let Start { after, gap: None } = broker.locate(&channel(name), since) else { continue };
            let page = broker.history(&channel(name), HistoryQuery { after, ..EVERYTHING }).unwrap();
            let behind = written[place + 1..].iter().map(|(_, data)| data.as_bytes());
            assert!(
                page.publications.iter().map(|it| &it.data[..]).eq(behind),
                "{since:?} is called complete"
            );
        }
    }
}

/// What somebody gets who wants everything, a few at a time.
fn resumed(broker: &EmbeddedBroker, name: usize) -> Vec<String> {
    let mut after = broker.locate(&channel(name), Since::All).after;
    let mut data = Vec::new();
    loop {
        let page = broker.history(&channel(name), HistoryQuery { after, limit: 3, ..EVERYTHING }).unwrap();
        let readings = [Reading { channel: channel(name), after, is_first: false }];
        let losses = broker.read(&readings, Depth::Disk).unwrap().unwrap().losses;
        assert!(losses.is_empty(), "a gap is said once, and nothing was lost since");
        data.extend(page.publications.iter().map(|p| String::from_utf8(p.data.to_vec()).unwrap()));
        match page.publications.last() {
            Some(last) => after = last.turn().unwrap(),
            None => return data,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Damage {
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
        let ends = (0..=whole[0]).flat_map(|length| [(length, length), (length, whole[0] + 500)]);
        for (length, file_length) in ends {
            let disk = disk.after_power_cut(0);
            disk.with_last_file(|bytes| {
                bytes.truncate(length);
                bytes.resize(file_length, 0);
            });
            let broker = open(&disk);
            let read = data_of(&broker, 0);
            let expected: Vec<_> = (0..read.len()).map(|number| number.to_string()).collect();
            assert_eq!(read, expected, "cut at {length}");
            assert!(complete_since(&broker, 0) <= 1, "cut at {length}, of {file_length}");
            let next = broker.publish(request(0, "next")).await.unwrap();
            assert_eq!(next.position.offset, read.len() as u64 + 1);
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
        assert_eq!(broker.publish(request(0, "after")).await.unwrap().position.offset, 2);
        drop(broker);
        assert_eq!(data_of(&open(&disk.after_power_cut(usize::MAX / 2)), 0), ["before", "after"]);
    });
}

/// The reserve, which nobody could remove, was taken for gone. So it was made again, which failed because it was there, and
/// publishers were told of a file that exists.
#[test]
fn a_read_only_disk_refuses_as_a_full_one_does_and_recovers() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        broker.publish(request(0, "before")).await.unwrap();
        disk.0.lock().is_read_only = true;
        for _ in 0..3 {
            assert_eq!(broker.publish(request(0, "not now")).await, Err(PublishError::StorageFull));
        }
        assert_eq!(data_of(&broker, 0), ["before"], "reading goes on");
        disk.0.lock().is_read_only = false;
        assert_eq!(broker.publish(request(0, "after")).await.unwrap().position.offset, 2);
    });
}

#[test]
fn a_failed_sync_closes_the_log_for_good() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        broker.publish(request(0, "before")).await.unwrap();
        disk.0.lock().syncs_fail = true;
        assert_eq!(broker.publish(request(0, "lost")).await, Err(PublishError::InDoubt));
        disk.0.lock().syncs_fail = false;
        assert_eq!(
            broker.publish(request(0, "later")).await,
            Err(PublishError::Fenced),
            "it is not tried again"
        );
        assert_eq!(data_of(&broker, 0), ["before"]);
        drop(broker);
        assert_eq!(data_of(&open(&disk.after_power_cut(0)), 0), ["before"]);
        assert_eq!(data_of(&open(&disk), 0), ["before"], "nobody was told that it is stored");
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
        assert_eq!(broker.publish(request(0, "half")).await, Err(PublishError::InDoubt));
    });
}

#[test]
fn rotten_records_are_given_up_said_to_be_missing_and_the_rest_lives_on() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        let mut published = Vec::new();
        for number in 0..5 {
            published.push(broker.publish(request(0, &format!("number-{number}"))).await.unwrap());
        }
        broker.publish(request(1, "healthy")).await.unwrap();
        // Nothing is in memory any more.
        broker.stored.write().hot = Hot::with_room(0);
        disk.garble(b"number-2");
        assert_eq!(data_of(&broker, 0), ["number-3", "number-4"]);
        assert_eq!(gap(&broker, 0, published[1].cursor), Some(Gap::Epoch));
        assert_eq!(gap(&broker, 0, published[2].cursor), None);
        assert_eq!(data_of(&broker, 1), ["healthy"]);
        assert_eq!(broker.publish(request(0, "next")).await.unwrap().position.offset, 6);
        broker.stored.write().hot = Hot::with_room(0);
        disk.0.lock().reads_fail = Some(110);
        let kind = broker.history(&channel(0), EVERYTHING).map(drop).map_err(|error| error.kind());
        assert_eq!(kind, Err(std::io::ErrorKind::TimedOut), "which says nothing of what is on the disk");
        disk.0.lock().reads_fail = None;
        assert_eq!(data_of(&broker, 0), ["number-3", "number-4", "next"]);
        disk.0.lock().reads_fail = Some(5);
        assert!(data_of(&broker, 0).is_empty(), "it comes to an end");
    });
}
