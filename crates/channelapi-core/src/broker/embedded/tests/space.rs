//! Giving space back: retention, removal, rewriting, the disk's cap, purges.

use super::super::place::Place;
use super::*;
use crate::counters::COUNTERS;
use crate::limits::{IDEMPOTENCY_WINDOW, LOG_SWEEP_INTERVAL};

const FEW: Retention = Retention { messages: 2, ..ALL };

/// Fills some segments with what is soon given up.
pub(super) async fn churn(broker: &EmbeddedBroker, count: usize) {
    for number in 0..count {
        broker.publish(request(9, &format!("{number}:{}", "x".repeat(60)))).await.unwrap();
    }
}

#[test]
fn a_quiet_channel_goes_on_where_it_was_after_its_segment_is_gone() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let age = Retention { age: 1_000_000, messages: 5, ..ALL };
        let broker = open_with(&disk, age, &clock);
        let quiet = broker.publish(request(0, "quiet")).await.unwrap();
        let other = broker.publish(request(1, "before")).await.unwrap();
        clock.advance(Duration::from_secs(2_000));
        churn(&broker, 100).await;
        tidy(&broker);
        assert!(!disk.has("0000000000000001.log"), "the oldest segment is given back");
        let check = |broker: &EmbeddedBroker| {
            assert!(data_of(broker, 0).is_empty());
            assert_eq!(gap(broker, 0, quiet.cursor), None, "nothing was missed");
            assert_eq!(broker.locate(&channel(0), Since::Position(quiet.position)).gap, None);
            assert_eq!(gap(broker, 1, quiet.cursor), Some(Gap::Trimmed), "one was missed");
            assert_eq!(gap(broker, 1, other.cursor), None);
            assert_eq!(gap(broker, 5, quiet.cursor), None, "nothing was ever published there");
        };
        check(&broker);
        drop(broker);
        let disk = disk.after_power_cut(0);
        let broker = open_with(&disk, age, &clock);
        check(&broker);
        // Its top is carried on as often as its segment goes.
        churn(&broker, 100).await;
        tidy(&broker);
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), age, &clock);
        check(&broker);
        let next = broker.publish(request(0, "again")).await.unwrap();
        assert_eq!((next.position.epoch, next.position.offset), (quiet.position.epoch, 2));
        assert_eq!(gap(&broker, 0, quiet.cursor), None);
    });
}

#[test]
fn mostly_dead_segments_are_rewritten_and_nothing_that_lives_is_touched() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, FEW, &Clock::manual(1_000));
        let mut cursors = Vec::new();
        for name in 0..5 {
            cursors.push(broker.publish(request(name, &format!("live {name}"))).await.unwrap().cursor);
            churn(&broker, 20).await;
        }
        tidy(&broker);
        let bytes: usize = disk.sizes().iter().sum();
        assert!(bytes < 5_000, "of about 15,000 bytes {bytes} are left");
        let check = |broker: &EmbeddedBroker| {
            for (name, cursor) in cursors.iter().enumerate() {
                assert_eq!(data_of(broker, name), [format!("live {name}")]);
                assert_eq!(gap(broker, name, *cursor), None);
                assert_eq!(broker.locate(&channel(name), Since::All).gap, None);
            }
            assert_eq!(data_of(broker, 9).len(), 2);
            assert_eq!(gap(broker, 9, cursors[0]), Some(Gap::Trimmed));
        };
        check(&broker);
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), FEW, &Clock::manual(1_000));
        check(&broker);
        assert_eq!(broker.publish(request(0, "next")).await.unwrap().position.offset, 2);
    });
}

/// A segment begins with the log's lives, which no rewriting takes away: with many of them it is never worth its while again.
#[test]
fn what_cannot_become_smaller_is_not_rewritten_again_and_again() {
    run(async {
        let mut disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        for name in 0..40 {
            let broker = open_with(&disk, FEW, &clock);
            broker.publish(request(name, "of a life")).await.unwrap();
            drop(broker);
            disk = disk.after_power_cut(0);
        }
        let broker = open_with(&disk, FEW, &clock);
        for name in 0..5 {
            broker.publish(request(name, &format!("live {name}"))).await.unwrap();
            churn(&broker, 20).await;
        }
        tidy(&broker);
        let sizes = disk.sizes();
        tidy(&broker);
        assert_eq!(disk.sizes(), sizes, "what was tidied up stays as it is");
        churn(&broker, 20).await;
        tidy(&broker);
        for name in 0..5 {
            assert_eq!(data_of(&broker, name), ["of a life".to_owned(), format!("live {name}")]);
        }
    });
}

/// Where many channels stand of which nothing is kept may take more than a segment: it is carried on once, not for ever.
#[test]
fn more_channels_than_a_segment_holds_are_carried_on_and_upkeep_comes_to_an_end() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let age = Retention { age: 1_000, messages: 5, ..ALL };
        let broker = open_with(&disk, age, &clock);
        let mut cursors = Vec::new();
        for name in 100..200 {
            cursors.push((name, broker.publish(request(name, "soon too old")).await.unwrap().cursor));
        }
        clock.advance(Duration::from_secs(2));
        churn(&broker, 100).await;
        for _ in 0..3 {
            tidy(&broker);
        }
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), age, &clock);
        for (name, cursor) in cursors {
            assert_eq!(gap(&broker, name, cursor), None, "{name}");
        }
    });
}

/// A channel that was forgotten may still have old records, and the newer ones may be gone.
#[test]
fn what_was_forgotten_does_not_come_back_as_if_it_were_all() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let age = Retention { age: 1_000, messages: 2, ..ALL };
        let broker = open_with(&disk, age, &clock);
        // Its segment stays as it is, because it has a key.
        let keyed = PublishRequest { idempotency_key: Some("key".into()), ..request(5, "keyed") };
        broker.publish(keyed).await.unwrap();
        broker.publish(request(0, "1")).await.unwrap();
        churn(&broker, 30).await;
        let before = broker.stored.read().top().cursor;
        broker.publish(request(0, "2")).await.unwrap();
        churn(&broker, 30).await;
        clock.advance(Duration::from_secs(2));
        tidy(&broker);
        forget_idle(&broker);
        churn(&broker, 30).await;
        tidy(&broker);
        assert!(disk.has("0000000000000001.log"));
        assert_eq!(gap(&broker, 0, before), Some(Gap::Trimmed));
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), age, &clock);
        clock.advance(Duration::from_millis(AGELESS));
        tidy(&broker);
        assert!(gap(&broker, 0, before).is_some(), "2 was missed");
        let next = broker.publish(request(0, "3")).await.unwrap();
        assert_eq!(next.position.offset, 3, "its newest record is in the log, as those of all others are");
    });
}

/// The segment of the purge is rewritten, the one with what was purged is not.
#[test]
fn what_was_purged_does_not_come_back_though_its_channel_was_forgotten() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let broker = open_with(&disk, FEW, &clock);
        let keyed = PublishRequest { idempotency_key: Some("key".into()), ..request(5, "keyed") };
        broker.publish(keyed).await.unwrap();
        broker.publish(request(0, "secret")).await.unwrap();
        broker.publish(request(1, "another secret")).await.unwrap();
        churn(&broker, 30).await;
        assert_eq!(broker.purge(&channel(0)).await, Ok(1));
        forget_idle(&broker);
        assert_eq!(broker.purge(&channel(0)).await, Ok(0), "nobody knows it");
        forget_idle(&broker);
        assert_eq!(broker.purge(&channel(1)).await, Ok(1));
        churn(&broker, 40).await;
        tidy(&broker);
        assert!(disk.has("0000000000000001.log"));
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), FEW, &clock);
        for name in [0, 1] {
            assert!(data_of(&broker, name).is_empty(), "{name}");
        }
    });
}

/// A power cut at every moment of rewriting and removing, with what was removed back or not, and with any part of what was not
/// synced: what lived lives, at its place, and nothing is called complete that is not.
#[test]
fn a_power_cut_at_any_moment_of_upkeep_loses_nothing() {
    run(async {
        let clock = Clock::manual(1_000);
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, FEW, &clock);
        // The oldest segment is to go as a whole, with a channel whose newest record it holds.
        let gone = broker.publish(request(7, "gone")).await.unwrap().cursor;
        broker.purge(&channel(7)).await.unwrap();
        let mut cursors = Vec::new();
        disk.0.lock().moments = Some(Vec::new());
        churn(&broker, 40).await;
        tidy(&broker);
        assert!(!disk.has("0000000000000001.log"), "it was removed");
        let removal = disk.0.lock().moments.take().unwrap();
        for (place, moment) in removal.iter().enumerate() {
            for is_removed_back in [false, true] {
                let broker = open_with(&moment.disk(0, is_removed_back), FEW, &clock);
                let story = format!("moment {place}, removed files back: {is_removed_back}");
                assert_eq!(gap(&broker, 7, gone), Some(Gap::Epoch), "{story}");
                assert_eq!(gap(&broker, 5, gone), None, "{story}");
                let newest = data_of(&broker, 9).len();
                assert!(newest == 2 || place < 10 && newest < 2, "{story}: {newest}");
            }
        }
        for name in 0..4 {
            cursors.push(broker.publish(request(name, &format!("live {name}"))).await.unwrap().cursor);
            churn(&broker, 18).await;
        }
        broker.publish(request(4, "purged")).await.unwrap();
        let purged = broker.publish(request(4, "purged")).await.unwrap().cursor;
        broker.purge(&channel(4)).await.unwrap();
        disk.0.lock().moments = Some(Vec::new());
        churn(&broker, 40).await;
        tidy(&broker);
        let moments = disk.0.lock().moments.take().unwrap();
        assert!(moments.len() > 10, "there was something to do");
        drop(broker);
        for (place, moment) in moments.iter().enumerate() {
            for (kept, is_removed_back) in [(0, false), (0, true), (7, true), (40, false), (usize::MAX, true)]
            {
                let disk = moment.disk(kept, is_removed_back);
                let broker = open_with(&disk, FEW, &clock);
                let story =
                    format!("moment {place}, {kept} bytes kept, removed files back: {is_removed_back}");
                for (name, cursor) in cursors.iter().enumerate() {
                    assert_eq!(data_of(&broker, name), [format!("live {name}")], "{story}");
                    assert_eq!(gap(&broker, name, *cursor), None, "{story}");
                }
                assert!(data_of(&broker, 9).len() >= 2, "{story}");
                assert_eq!(gap(&broker, 9, cursors[0]), Some(Gap::Trimmed), "{story}");
                assert_eq!(gap(&broker, 4, purged), Some(Gap::Epoch), "{story}");
                assert_eq!(gap(&broker, 5, cursors[0]), None, "{story}");
                assert_eq!(broker.publish(request(0, "next")).await.unwrap().position.offset, 2, "{story}");
                tidy(&broker);
                assert_eq!(data_of(&broker, 1), ["live 1"], "{story}");
            }
        }
    });
}

#[test]
fn lives_are_known_after_their_segments_are_gone() {
    run(async {
        let mut disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let mut cursors = Vec::new();
        for _ in 0..4 {
            let broker = open_with(&disk, FEW, &clock);
            cursors.push(broker.publish(request(0, "one per life")).await.unwrap().cursor);
            churn(&broker, 60).await;
            tidy(&broker);
            drop(broker);
            disk = disk.after_power_cut(0);
        }
        let broker = open_with(&disk, FEW, &clock);
        assert!(!disk.has("0000000000000001.log"));
        let gaps: Vec<_> = cursors.iter().map(|cursor| gap(&broker, 0, *cursor)).collect();
        assert_eq!(gaps, [Some(Gap::Trimmed), None, None, None]);
        let [first, second] = [cursors[0], cursors[1]].map(|cursor| key().open(cursor));
        let beyond = key().of_publication(Place { sequence: second.sequence, ..first });
        assert_eq!(gap(&broker, 0, beyond), Some(Gap::Diverged), "the first life did not come that far");
    });
}

#[test]
fn over_the_disks_cap_the_oldest_goes_and_its_channels_say_so() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let settings = StoreSettings { disk_bytes_max: 16_000, ..settings() };
        let broker = open_as(&disk, &clock, policies(ALL), settings);
        let first = broker.publish(request(0, "first")).await.unwrap();
        let first_at = key().open(first.cursor);
        let nothing = key().of_publication(Place { sequence: first_at.sequence - 1, ..first_at });
        let given_up = COUNTERS.given_up.value();
        churn(&broker, 300).await;
        tidy(&broker);
        assert!(COUNTERS.given_up.value() > given_up);
        let bytes: usize = disk.sizes().iter().sum();
        // What upkeep has just noted about the last one that went may be beyond it.
        assert!((8_000..=16_200).contains(&bytes), "{bytes} bytes are left");
        let check = |broker: &EmbeddedBroker| {
            assert!(data_of(broker, 0).is_empty());
            assert_eq!(gap(broker, 0, first.cursor), None);
            assert_eq!(gap(broker, 0, nothing), Some(Gap::Trimmed));
            assert_eq!(gap(broker, 9, first.cursor), Some(Gap::Trimmed));
            let kept = data_of(broker, 9);
            assert!(kept.len() > 20 && kept.last().unwrap().starts_with("299:"));
        };
        check(&broker);
        drop(broker);
        check(&open_as(&disk.after_power_cut(0), &clock, policies(ALL), settings));
    });
}

#[test]
fn a_purged_channel_is_empty_begins_anew_and_says_so() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        assert_eq!(broker.purge(&channel(0)).await, Ok(0), "there is nothing");
        let first = broker.publish(request(0, "a")).await.unwrap();
        let second = broker.publish(request(0, "b")).await.unwrap();
        let other = broker.publish(request(1, "other")).await.unwrap();
        assert_eq!(broker.purge(&channel(0)).await, Ok(2));
        let check = |broker: &EmbeddedBroker| {
            assert!(data_of(broker, 0).is_empty());
            for published in [first, second] {
                assert_eq!(gap(broker, 0, published.cursor), Some(Gap::Epoch));
                assert_eq!(
                    broker.locate(&channel(0), Since::Position(published.position)).gap,
                    Some(Gap::Epoch)
                );
                assert_eq!(gap(broker, 1, published.cursor), None, "the others are as they were");
            }
            assert_eq!(gap(broker, 0, other.cursor), Some(Gap::Epoch));
        };
        check(&broker);
        drop(broker);
        let broker = open(&disk.after_power_cut(0));
        check(&broker);
        let again = broker.publish(request(0, "c")).await.unwrap();
        assert_ne!(again.position.epoch, first.position.epoch);
        assert_eq!(again.position.offset, 1);
        assert_eq!(gap(&broker, 0, again.cursor), None);
        let memory = ChannelName::parse("memory-1").unwrap();
        let publish = || PublishRequest { channel: memory.clone(), ..request(0, "m") };
        let before = broker.publish(publish()).await.unwrap();
        assert_eq!(broker.purge(&memory).await, Ok(1));
        assert_eq!(broker.locate(&memory, Since::Cursor(before.cursor)).gap, Some(Gap::Epoch));
        assert_eq!(broker.publish(publish()).await.unwrap().position.offset, 1);
    });
}

#[test]
fn a_key_is_remembered_after_a_restart_though_its_publication_is_long_given_up() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let broker = open_with(&disk, FEW, &clock);
        let keyed = || PublishRequest { idempotency_key: Some("key".into()), ..request(9, "keyed") };
        let first = broker.publish(keyed()).await.unwrap();
        churn(&broker, 100).await;
        tidy(&broker);
        drop(broker);
        let disk = disk.after_power_cut(0);
        let broker = open_with(&disk, FEW, &clock);
        let again = broker.publish(keyed()).await.unwrap();
        assert_eq!((again.position, again.is_duplicate), (first.position, true));
        clock.advance(IDEMPOTENCY_WINDOW + Duration::from_secs(1));
        tidy(&broker);
        assert!(!disk.has("0000000000000001.log"), "nobody may repeat it any more");
        assert!(!broker.publish(keyed()).await.unwrap().is_duplicate);
    });
}

#[test]
fn what_is_too_old_goes_though_nobody_publishes() {
    run(async {
        let clock = Clock::manual(1_000);
        let broker = open_with(&SimulatedDisk::default(), Retention { age: 1_000, ..ALL }, &clock);
        broker.publish(request(0, "a")).await.unwrap();
        clock.advance(LOG_SWEEP_INTERVAL);
        assert_eq!(data_of(&broker, 0).len(), 1);
        tidy(&broker);
        assert!(data_of(&broker, 0).is_empty());
    });
}

/// A machine that has just started may not know yet what time it is.
#[test]
fn a_start_with_a_clock_that_is_ahead_takes_nothing_away_at_once() {
    run(async {
        let age = Retention { age: 1_000, ..ALL };
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, age, &Clock::manual(1_000));
        broker.publish(request(0, "a")).await.unwrap();
        drop(broker);
        let broker = open_with(&disk, age, &Clock::manual(1_000_000));
        assert_eq!(data_of(&broker, 0), ["a"]);
        drop(broker);
        let broker = open_with(&disk, age, &Clock::manual(1_001));
        tidy(&broker);
        assert_eq!(data_of(&broker, 0), ["a"]);
    });
}

/// A log that was written where there was more memory: its segments are read one by one.
#[test]
fn segments_that_are_longer_than_they_would_be_now_are_read_all_the_same() {
    run(async {
        let disk = SimulatedDisk::default();
        let long = StoreSettings { segment_bytes: 20_000, ..settings() };
        let broker = open_as(&disk, &Clock::manual(1_000), policies(ALL), long);
        let data: Vec<_> = (0..90).map(|number| format!("{number}:{}", "x".repeat(1_000))).collect();
        for data in &data {
            broker.publish(request(0, data)).await.unwrap();
        }
        drop(broker);
        let broker = open(&disk.after_power_cut(0));
        assert_eq!(data_of(&broker, 0), data);
        broker.publish(request(0, "life goes on")).await.unwrap();
        assert!(complete_since(&broker, 0) <= 1);
    });
}
