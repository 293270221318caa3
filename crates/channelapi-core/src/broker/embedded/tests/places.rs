//! Where somebody stands, and what follows.

use super::super::place::Place;
use super::*;
use crate::broker::history::{Depth, History as _, Reading};

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
        let again = broker.publish(keyed("a")).await.unwrap();
        assert_eq!((again.position, again.is_duplicate), (first.position, true));
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

/// The machine's clock may be set while the server is down: that makes no key older.
#[test]
fn a_repeat_is_known_though_the_clock_was_set_between_two_lives() {
    run(async {
        const HOUR: u64 = 3_600_000;
        let mut disk = SimulatedDisk::default();
        let keyed = || PublishRequest { idempotency_key: Some("key".into()), ..request(0, "a") };
        let mut first = None;
        for now in [5 * HOUR, 6 * HOUR, HOUR, 9 * HOUR] {
            let clock = Clock::manual(now);
            let broker = open_with(&disk, ALL, &clock);
            let published = broker.publish(keyed()).await.unwrap();
            let first = *first.get_or_insert(published);
            assert_eq!(published.position, first.position);
            assert_eq!(published.is_duplicate, now != 5 * HOUR);
            for number in 0..40 {
                clock.advance(Duration::from_secs(1));
                broker.publish(request(1, &format!("{number}:{}", "x".repeat(60)))).await.unwrap();
            }
            tidy(&broker);
            assert!(disk.has("0000000000000001.log"), "its segment stays");
            drop(broker);
            disk = disk.after_power_cut(0);
        }
        // Four lives of 40 seconds are over; what is left of ten minutes passes in this one.
        let clock = Clock::manual(HOUR);
        let broker = open_with(&disk, ALL, &clock);
        clock.advance(Duration::from_secs(600 - 4 * 40 + 5));
        assert!(!broker.publish(keyed()).await.unwrap().is_duplicate);
    });
}

/// The same if the segment in which the second life begins is rewritten: that it begins there is not forgotten.
#[test]
fn a_repeat_is_known_though_the_segment_was_rewritten_in_which_a_life_begins() {
    run(async {
        const HOUR: u64 = 3_600_000;
        let few = Retention { messages: 2, ..ALL };
        let disk = SimulatedDisk::default();
        let keyed = || PublishRequest { idempotency_key: Some("key".into()), ..request(0, "a") };
        let fill = async |broker: &EmbeddedBroker, count: usize| {
            for number in 0..count {
                broker.publish(request(1, &format!("{number}:{}", "x".repeat(60)))).await.unwrap();
            }
        };
        let clock = Clock::manual(5 * HOUR);
        let broker = open_with(&disk, few, &clock);
        broker.publish(keyed()).await.unwrap();
        fill(&broker, 20).await;
        drop(broker);
        let clock = Clock::manual(9 * HOUR);
        let broker = open_with(&disk, few, &clock);
        broker.publish(request(2, "stays")).await.unwrap();
        // More lives in the same segment.
        drop(broker);
        let broker = open_with(&disk, few, &clock);
        fill(&broker, 60).await;
        tidy(&broker);
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), few, &clock);
        assert!(broker.publish(keyed()).await.unwrap().is_duplicate);
    });
}

#[test]
fn a_reused_key_refuses_the_others_of_its_channel_and_nothing_else() {
    run(async {
        let broker = open(&SimulatedDisk::default());
        let keyed = |name, key: &str, data| PublishRequest {
            idempotency_key: Some(key.into()),
            ..request(name, data)
        };
        let first = broker.publish(keyed(0, "first", "a")).await.unwrap();
        let batch = vec![
            request(0, "before it"),
            keyed(0, "first", "other data"),
            keyed(0, "new", "b"),
            keyed(0, "first", "a"),
            request(1, "another channel"),
            keyed(2, "twice", "c"),
            keyed(2, "twice", "d"),
            keyed(3, "twice", "e"),
            keyed(3, "twice", "e"),
        ];
        let results = broker.publish_all(batch).await;
        let (held_back, reused) = (Err(PublishError::BatchRefused), Err(PublishError::KeyReused));
        assert_eq!(results[..3], [held_back.clone(), reused.clone(), held_back.clone()]);
        assert_eq!(results[3], Ok(Published { is_duplicate: true, ..first }), "it is stored already");
        assert_eq!(results[5..7], [held_back, reused]);
        assert!(results[4].is_ok() && results[7].is_ok());
        assert!(results[8].as_ref().unwrap().is_duplicate);
        let kept: Vec<_> = (0..4).map(|name| data_of(&broker, name)).collect();
        assert_eq!(kept, [vec!["a"], vec!["another channel"], vec![], vec!["e"]]);
        let free = broker.publish(keyed(0, "new", "something else")).await.unwrap();
        assert!(!free.is_duplicate, "a key of what was refused is free");
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
            let published = broker.publish(request(0, &number.to_string())).await.unwrap();
            sequences.push(key().open(published.cursor).sequence);
        }
        assert_eq!(data_of(&broker, 0), ["2", "3", "4"]);
        assert_eq!(complete_since(&broker, 0), sequences[2]);
        let after = broker.locate(&channel(0), Since::Offset(3)).after;
        let page = broker.history(&channel(0), HistoryQuery { after, limit: 1, ..EVERYTHING }).unwrap();
        assert_eq!(&page.publications[0].data[..], b"3");
        assert_eq!((page.has_more, page.standing.unwrap().next_offset), (true, 6));
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), retention, &Clock::manual(1_000));
        assert_eq!(data_of(&broker, 0), ["2", "3", "4"]);
    });
}

#[test]
fn retention_by_bytes_gives_up_the_oldest() {
    run(async {
        let data = |number: usize| format!("{number}:{}", "x".repeat(1_000));
        let retention = Retention { bytes: 3_500, ..ALL };
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, retention, &Clock::manual(1_000));
        for number in 0..5 {
            broker.publish(request(0, &data(number))).await.unwrap();
        }
        assert_eq!(data_of(&broker, 0), [data(2), data(3), data(4)]);
        broker.publish(request(0, "small")).await.unwrap();
        assert_eq!(data_of(&broker, 0).len(), 4, "the small one fits beside three large ones");
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), retention, &Clock::manual(1_000));
        assert_eq!(data_of(&broker, 0)[..3], [data(2), data(3), data(4)]);
    });
}

#[test]
fn a_restored_backup_does_not_know_positions_of_the_life_after_it() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        let seen = broker.publish(request(0, "in the backup")).await.unwrap().cursor;
        let backup = disk.after_power_cut(0);
        let later = broker.publish(request(0, "after the backup")).await.unwrap().cursor;
        assert_eq!(gap(&broker, 0, later), None);
        drop(broker);
        let broker = open(&backup);
        assert_eq!(gap(&broker, 0, seen), None);
        assert_eq!(gap(&broker, 0, later), Some(Gap::Diverged), "another publication has this place now");
        broker.publish(request(0, "instead of it")).await.unwrap();
        assert_eq!(gap(&broker, 0, later), Some(Gap::Diverged));
        let seen_at = key().open(seen);
        let unknown = key().of_publication(Place { generation: seen_at.generation ^ 1, ..seen_at });
        assert_eq!(gap(&broker, 0, unknown), Some(Gap::Diverged), "nobody knows this life");
    });
}

#[test]
fn a_place_is_found_by_offset_id_and_cursor() {
    run(async {
        let broker =
            open_with(&SimulatedDisk::default(), Retention { messages: 3, ..ALL }, &Clock::manual(1_000));
        let mut published = Vec::new();
        for number in 0..5 {
            published.push(broker.publish(request(0, &number.to_string())).await.unwrap());
            broker.publish(request(1, "between")).await.unwrap();
        }
        let follows = |since| {
            let Start { after, gap } = broker.locate(&channel(0), since);
            let query = HistoryQuery { after, ..EVERYTHING };
            let page = broker.history(&channel(0), query).unwrap();
            (page.publications.iter().map(|p| p.kept.unwrap().position.offset).collect::<Vec<_>>(), gap)
        };
        assert_eq!(follows(Since::All), (vec![3, 4, 5], Some(Gap::Trimmed)));
        assert_eq!(follows(Since::Offset(1)), (vec![3, 4, 5], Some(Gap::Trimmed)));
        assert_eq!(follows(Since::Offset(2)), (vec![3, 4, 5], None));
        assert_eq!(follows(Since::Offset(4)), (vec![5], None));
        assert_eq!(follows(Since::Offset(5)), (vec![], None));
        assert_eq!(follows(Since::Offset(6)), (vec![], Some(Gap::Ahead)));
        let epoch = published[0].position.epoch;
        assert_eq!(follows(Since::InEpoch { epoch, offset: 4 }), (vec![5], None));
        assert_eq!(follows(Since::InEpoch { epoch, offset: 6 }), (vec![], Some(Gap::Ahead)));
        let another = Since::InEpoch { epoch: epoch ^ 1, offset: 4 };
        assert_eq!(follows(another), (vec![3, 4, 5], Some(Gap::Epoch)));
        for (index, expected) in [(0, Some(Gap::Trimmed)), (1, None), (3, None), (4, None)] {
            let Published { position, cursor, .. } = published[index];
            let rest: Vec<u64> = (3..=5).filter(|offset| *offset > index as u64 + 1).collect();
            assert_eq!(follows(Since::Cursor(cursor)), (rest.clone(), expected), "{index}");
            assert_eq!(follows(Since::Position(position)), (rest, expected), "{index}");
        }
        let other = Position { tag: published[3].position.tag ^ 1, ..published[3].position };
        assert_eq!(follows(Since::Position(other)), (vec![3, 4, 5], Some(Gap::Diverged)));
        let other = Position { epoch: 7, ..published[3].position };
        assert_eq!(follows(Since::Position(other)), (vec![3, 4, 5], Some(Gap::Epoch)));
    });
}

/// Once, an id of another history could confirm the last one that was given up, and whoever had done so was told that nothing was missing.
#[test]
fn an_id_that_nobody_knows_any_more_is_not_recognised_if_all_behind_it_is_kept() {
    run(async {
        let disk = SimulatedDisk::default();
        let few = Retention { messages: 3, ..ALL };
        let broker = open_with(&disk, few, &Clock::manual(1_000));
        let mut ids = Vec::new();
        for number in 0..5 {
            ids.push(broker.publish(request(0, &number.to_string())).await.unwrap().position);
        }
        let other = |offset: usize| Position { tag: !ids[offset - 1].tag, ..ids[offset - 1] };
        let check = |broker: &EmbeddedBroker, last_given_up| {
            let recognize = |id| broker.recognize(&channel(0), id);
            for offset in 3..=5 {
                assert_eq!(recognize(ids[offset - 1]), Ok(()), "{offset} is kept");
                assert_eq!(recognize(other(offset)), Err(Gap::Diverged), "{offset} is kept");
            }
            assert_eq!(recognize(ids[1]), last_given_up);
            assert_eq!(recognize(other(2)), Err(Gap::Diverged));
            assert_eq!(
                [recognize(ids[0]), recognize(other(1))],
                [Ok(()); 2],
                "nobody is complete from there"
            );
            for (offset, gap) in [(1, Some(Gap::Trimmed)), (2, None)] {
                let since = Since::InEpoch { epoch: ids[0].epoch, offset };
                assert_eq!(broker.locate(&channel(0), since).gap, gap, "{offset}");
            }
        };
        check(&broker, Ok(()));
        for _ in 0..40 {
            broker.publish(request(9, &"x".repeat(60))).await.unwrap();
        }
        tidy(&broker);
        assert_eq!(data_of(&broker, 0), ["2", "3", "4"]);
        check(&broker, Ok(()));
        drop(broker);
        // What was given up has left the disk.
        let broker = open_with(&disk.after_power_cut(0), few, &Clock::manual(1_000));
        check(&broker, Err(Gap::Diverged));
        broker.publish(request(0, "5")).await.unwrap();
        let recognize = |id| broker.recognize(&channel(0), id);
        assert_eq!([recognize(ids[1]), recognize(ids[2])], [Ok(()); 2]);
        assert_eq!(recognize(other(3)), Err(Gap::Diverged));
    });
}

#[test]
fn what_is_kept_in_memory_is_lost_with_the_process_and_said_to_be() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        let memory = ChannelName::parse("memory-1").unwrap();
        let start = broker.publish(request(0, "on disk")).await.unwrap();
        disk.0.lock().room = Some(0);
        let first = PublishRequest { channel: memory.clone(), ..request(0, "1") };
        let first = broker.publish(first).await.unwrap();
        assert_eq!(first.durability, Durability::Memory, "it needs no disk");
        assert!(!broker.is_refusing());
        assert_eq!(broker.publish(request(0, "on disk")).await, Err(PublishError::StorageFull));
        assert!(broker.is_refusing());
        broker.publish(PublishRequest { channel: memory.clone(), ..request(0, "2") }).await.unwrap();
        assert!(broker.is_refusing(), "what is in memory only says nothing of the disk");
        disk.0.lock().room = None;
        broker.publish(request(0, "on disk, too")).await.unwrap();
        assert!(!broker.is_refusing());
        let Start { after, gap } = broker.locate(&memory, Since::Cursor(first.cursor));
        assert_eq!(gap, None);
        let page = broker.history(&memory, HistoryQuery { after, ..EVERYTHING }).unwrap();
        assert_eq!(page.publications.iter().map(|p| &p.data[..]).collect::<Vec<_>>(), [&b"2"[..]]);
        drop(broker);
        let broker = open(&disk.after_power_cut(0));
        assert_eq!(broker.locate(&memory, Since::Cursor(first.cursor)).gap, Some(Gap::Epoch));
        assert_eq!(gap_after(&broker, start.cursor), (None, vec!["on disk, too".to_owned()]));
    });
}

fn gap_after(broker: &EmbeddedBroker, cursor: Cursor) -> (Option<Gap>, Vec<String>) {
    let Start { after, gap } = broker.locate(&channel(0), Since::Cursor(cursor));
    let page = broker.history(&channel(0), HistoryQuery { after, ..EVERYTHING }).unwrap();
    let data = page.publications.iter().map(|p| String::from_utf8(p.data.to_vec()).unwrap());
    (gap, data.collect())
}

/// A user whose notifications were waiting got none of them when something else in the log was damaged.
#[test]
fn what_is_kept_of_a_channel_in_doubt_is_found_and_something_is_said_to_be_missing() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        let mut published = Vec::new();
        for number in 0..4 {
            published.push(broker.publish(request(0, &number.to_string())).await.unwrap());
        }
        broker.publish(request(1, "in another channel")).await.unwrap();
        broker.publish(request(1, "behind it")).await.unwrap();
        drop(broker);
        let disk = disk.after_power_cut(0);
        disk.with_last_file(|bytes| {
            let text = b"in another channel";
            let place = bytes.windows(text.len()).position(|part| part == text).unwrap();
            bytes[place] ^= 1;
        });
        let broker = open(&disk);
        let follows = |since| {
            let Start { after, gap } = broker.locate(&channel(0), since);
            let page = broker.history(&channel(0), HistoryQuery { after, ..EVERYTHING }).unwrap();
            (page.publications.len(), gap)
        };
        let (seen, epoch) = (published[1], published[1].position.epoch);
        assert_eq!(follows(Since::All), (4, Some(Gap::Epoch)));
        assert_eq!(follows(Since::Offset(2)), (2, Some(Gap::Epoch)));
        assert_eq!(
            follows(Since::InEpoch { epoch, offset: 2 }),
            (2, Some(Gap::Epoch)),
            "as many as are unread"
        );
        assert_eq!(follows(Since::Position(seen.position)), (2, Some(Gap::Epoch)));
        assert_eq!(follows(Since::Cursor(seen.cursor)), (2, Some(Gap::Epoch)));
        let now = broker.cursor_at(u64::MAX);
        assert_eq!(follows(Since::Cursor(now)), (0, None), "from behind the damage");
        broker.publish(request(0, "life goes on")).await.unwrap();
        assert_eq!(follows(Since::All), (5, Some(Gap::Epoch)), "in a new epoch, which takes it over");
    });
}

/// Whoever kept something in memory only for the first time put all other channels in doubt.
#[test]
fn a_first_policy_for_memory_says_nothing_of_lives_without_one() {
    run(async {
        let disk = SimulatedDisk::default();
        let policy = |durability| Policy { durability, retention: ALL, replay_on_join: 0 };
        let none = || Policies::new(vec![], policy(Durability::Fsync));
        let clock = Clock::manual(1_000);
        let broker = open_as(&disk, &clock, none(), settings());
        let seen = broker.publish(request(0, "long ago")).await.unwrap();
        drop(broker);
        drop(open_as(&disk, &clock, none(), settings()));
        let broker = open(&disk);
        assert_eq!(gap_after(&broker, seen.cursor), (None, vec![]));
        assert_eq!(complete_since(&broker, 0), 1);
        let next = broker.publish(request(0, "now")).await.unwrap();
        assert_eq!((next.position.epoch, next.position.offset), (seen.position.epoch, 2));
        drop(broker);
        // And without one again: what was in memory then may have been anything.
        let broker = open_as(&disk, &clock, none(), settings());
        assert_eq!(gap_after(&broker, seen.cursor).0, Some(Gap::Epoch));
    });
}

/// A purge is in the log in any case. Once, it passed for a proof that nothing had been kept in memory behind it.
#[test]
fn what_followed_a_purge_in_memory_is_missed_when_the_channel_is_stored_now() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let live = |durability| {
            let policy = |durability| Policy { durability, retention: ALL, replay_on_join: 0 };
            let own = vec![(Pattern::new("channel-0"), policy(durability))];
            open_as(&disk, &clock, Policies::new(own, policy(Durability::Fsync)), settings())
        };
        let broker = live(Durability::Memory);
        broker.publish(request(0, "purged")).await.unwrap();
        broker.purge(&channel(0)).await.unwrap();
        let epoch = broker.standing(&channel(0)).unwrap().epoch;
        broker.publish(request(0, "missed")).await.unwrap();
        drop(broker);
        let broker = live(Durability::Fsync);
        let gap = broker.locate(&channel(0), Since::InEpoch { epoch, offset: 0 }).gap;
        assert_eq!(gap, Some(Gap::Epoch));
    });
}

/// A stream that came back after a restart, heard nothing and lost the server again went back behind what it had heard: its place took
/// for publications of the log as many as had been kept in memory meanwhile.
#[test]
fn place_from_before_a_life_stays_where_it_is_in_the_next_one() {
    run(async {
        let disk = SimulatedDisk::default();
        let memory = ChannelName::parse("memory-1").unwrap();
        let in_memory = || PublishRequest { channel: memory.clone(), ..request(0, "soon gone") };
        let broker = open(&disk);
        broker.publish(request(0, "one")).await.unwrap();
        let heard = broker.publish(request(0, "two")).await.unwrap().cursor;
        drop(broker);

        let broker = open(&disk);
        broker.publish(in_memory()).await.unwrap();
        let since = Since::Cursor(heard);
        let Start { after, gap } = broker.locate(&channel(0), since);
        assert_eq!(gap, None);
        let place = broker.cursor_from(Some(since), after);
        // In the same life, too, whoever comes back again keeps its place.
        broker.publish(in_memory()).await.unwrap();
        let newer = broker.publish(request(0, "three")).await.unwrap().cursor;
        broker.publish(in_memory()).await.unwrap();
        let again = broker.locate(&channel(0), Since::Cursor(newer)).after;
        let newer = broker.cursor_from(Some(Since::Cursor(newer)), again);
        drop(broker);

        let broker = open(&disk);
        let follow = |cursor| {
            let Start { after, gap } = broker.locate(&channel(0), Since::Cursor(cursor));
            assert_eq!(gap, None);
            broker.history(&channel(0), HistoryQuery { after, ..EVERYTHING }).unwrap().publications.len()
        };
        assert_eq!((follow(place), follow(newer)), (1, 0));
        let endless = Place { sequence: (1 << 48) - 1, memory: 2, ..broker.stored.read().place() };
        let endless = key().of_publication(endless);
        let places = [broker.cursor_from(Some(Since::Cursor(endless)), 1), broker.cursor_at(1)];
        let [from, at] = places.map(|cursor| key().open(cursor));
        assert_eq!(from, at);
    });
}

/// The cursor of the newest publication, told to whoever reads up to it, said that nothing was stored behind it in any channel.
#[test]
fn who_reads_everything_again_gets_another_cursor_whether_others_published_or_not() {
    run(async {
        let broker = open(&SimulatedDisk::default());
        let own = broker.publish(request(0, "own")).await.unwrap().cursor;
        let mut told = vec![own];
        for is_busy in [false, true, false] {
            if is_busy {
                broker.publish(request(1, "of another channel")).await.unwrap();
            }
            for _ in 0..2 {
                told.push(broker.history(&channel(0), EVERYTHING).unwrap().cursor);
                let readings = [Reading { channel: channel(0), after: 0, is_first: false }];
                let page = broker.read(&readings, Depth::Disk).unwrap().unwrap();
                assert_eq!((page.publications.len(), page.is_complete), (1, true));
                told.push(page.reached.cursor);
                told.push(broker.top().cursor);
            }
        }
        told.sort_unstable_by_key(|cursor| cursor.to_bytes());
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
    });
}
