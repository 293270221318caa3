//! Room in memory, for channels and for what is kept there only.

use super::*;
use crate::counters::COUNTERS;

/// Whoever may make up names took all memory with them, and the whole node refused everybody until what it had published was too old.
#[test]
fn names_that_are_made_up_keep_nobody_out_of_channels_that_are_known() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let retention = Retention { age: 1_000, messages: 5, ..ALL };
        let small = StoreSettings { index_bytes_max: 40_000, ..settings() };
        let open = || open_as(&disk, &clock, policies(retention), small);
        let broker = open();
        broker.publish(request(0, "was here first")).await.unwrap();
        broker.publish(on("memory-1", "so was this")).await.unwrap();
        let mut count = 0;
        while broker.publish(request(100 + count, "one of many")).await.is_ok() {
            count += 1;
        }
        assert!((60..120).contains(&count), "{count} channels of some 450 bytes each");
        let check_full = async |broker: &EmbeddedBroker| {
            for name in ["channel-99", "memory-2", "relaxed-1"] {
                assert_eq!(broker.publish(on(name, "")).await, Err(PublishError::TooManyChannels), "{name}");
            }
            let keyed = PublishRequest { idempotency_key: Some("key".into()), ..request(98, "keyed") };
            let batch =
                vec![request(0, "goes on"), keyed, request(98, ""), on("memory-1", ""), request(100, "")];
            let kept = broker.publish_all(batch).await;
            let expected = [true, false, false, true, true];
            assert_eq!(kept.iter().map(Result::is_ok).collect::<Vec<_>>(), expected, "{kept:?}");
            // Nor does a purge make one known, which has to be written down if there may have been something of it.
            let may_have_forgotten = broker.stored.read().index.may_have_forgotten();
            let purged = broker.purge(&channel(97)).await;
            assert_eq!(purged, if may_have_forgotten { Err(PublishError::TooManyChannels) } else { Ok(0) });
            assert_eq!(broker.publish(request(97, "")).await, Err(PublishError::TooManyChannels));
        };
        check_full(&broker).await;
        drop(broker);
        // What was in memory only is gone, and another one comes in its place.
        let broker = open();
        broker.publish(on("memory-1", "here again")).await.unwrap();
        check_full(&broker).await;

        // What is too old makes room, also of channels that somebody may ask for again.
        clock.advance(Duration::from_secs(2));
        tidy(&broker);
        let (channels, publications) = broker.size();
        assert!(channels < count && publications == 0, "{channels} of {count} stay known");
        let keyed = PublishRequest { idempotency_key: Some("key".into()), ..request(98, "keyed") };
        assert!(!broker.publish(keyed).await.unwrap().is_duplicate, "what was refused is not remembered");
    });
}

/// All channels of which nothing was kept were forgotten with every sweep, as long as others took much: whoever came back to an empty one was
/// told that something may be missing.
#[test]
fn channels_without_history_are_forgotten_only_as_far_as_others_need_the_room() {
    run(async {
        let policies = {
            let kept = Policy { durability: Durability::Fsync, retention: ALL, replay_on_join: 0 };
            let none = Policy { retention: Retention { messages: 0, ..ALL }, ..kept };
            Policies::new(vec![(Pattern::new("none-*"), none)], kept)
        };
        let before = COUNTERS.channels_forgotten.value();
        let small = StoreSettings { index_bytes_max: 160_000, ..settings() };
        let broker = open_as(&SimulatedDisk::default(), &Clock::manual(1_000), policies, small);
        let on_none = |number: usize| on(&format!("none-{number}"), "");
        for number in 0..40 {
            broker.publish(on_none(number)).await.unwrap();
        }
        let seen = broker.publish(on_none(0)).await.unwrap().cursor;
        let mut count = 0;
        while broker.stored.read().index.bytes() < 145_000 {
            broker.publish(request(count, "kept")).await.unwrap();
            count += 1;
        }
        let known = |broker: &EmbeddedBroker| {
            let is_known = |number| broker.standing(&on_none(number).channel).is_some();
            (0..40).map(is_known).collect::<Vec<_>>()
        };
        tidy(&broker);
        let left = known(&broker);
        let forgotten = left.iter().filter(|is_known| !**is_known).count();
        assert!((10..35).contains(&forgotten), "{forgotten} of 40, for what is more than three quarters");
        assert!(COUNTERS.channels_forgotten.value() >= before + forgotten as u64);
        assert!(left[0] && !left[1] && left[39], "the longest idle are: {left:?}");
        // Also where what is kept takes more than that by itself, the others keep a part.
        let mut more = 1_000;
        while broker.publish(request(more, "kept")).await.is_ok() {
            more += 1;
            tidy(&broker);
        }
        assert!(known(&broker)[0]);
        let empty = ChannelName::parse("none-empty").unwrap();
        assert_eq!(broker.locate(&empty, Since::Cursor(seen)).gap, None, "nothing was ever there");
    });
}

/// A start knew every channel again that the log has a word of: one publication that is kept for long keeps the words of all that were
/// forgotten since, so that nothing of them comes back, and there was no memory left for anything else.
#[test]
fn a_start_forgets_what_was_forgotten_before() {
    run(async {
        let none = Policy {
            durability: Durability::Fsync,
            retention: Retention { messages: 0, ..ALL },
            replay_on_join: 0,
        };
        let policies = Policies::new(vec![(Pattern::new("none-*"), none)], Policy { retention: ALL, ..none });
        let small = StoreSettings { index_bytes_max: 40_000, ..settings() };
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let on_none = |number: usize| on(&format!("none-{number}"), "");
        let broker = open_as(&disk, &clock, policies.clone(), small);
        broker.publish(request(0, "is kept")).await.unwrap();
        for number in 0..2_000 {
            broker.publish(on_none(number)).await.unwrap();
            if number % 20 == 0 {
                tidy(&broker);
            }
        }
        tidy(&broker);
        let known = |broker: &EmbeddedBroker| {
            (0..2_000)
                .filter(|number| broker.standing(&on_none(*number).channel).is_some())
                .collect::<Vec<_>>()
        };
        let before = known(&broker);
        assert!((30..90).contains(&before.len()), "{before:?}");
        let seen = broker.publish(on_none(1_999)).await.unwrap().cursor;
        drop(broker);
        let forgotten = COUNTERS.channels_forgotten.value();
        let broker = open_as(&disk, &clock, policies, small);
        let bytes = broker.stored.read().index.bytes();
        assert!(bytes <= small.index_bytes_max + 1_000, "{bytes}");
        assert!(known(&broker).ends_with(&before));
        tidy(&broker);
        assert_eq!(known(&broker), before);
        assert!(COUNTERS.channels_forgotten.value() >= forgotten + 1_900);
        assert_eq!(data_of(&broker, 0), ["is kept".to_owned()]);
        for number in [0, 1_000, 1_999] {
            let located = broker.locate(&on_none(number).channel, Since::Cursor(seen));
            assert_eq!(located.gap, None, "{number}");
        }
        broker.publish(on_none(0)).await.unwrap();
    });
}

/// A start takes everything for new: what was too old kept channels out that had been known.
#[test]
fn a_start_forgets_nothing_that_was_known_for_what_is_too_old() {
    run(async {
        let kept =
            Policy { durability: Durability::Fsync, retention: RETENTION_OF_A_SECOND, replay_on_join: 0 };
        let none = Policy { retention: Retention { messages: 0, ..ALL }, ..kept };
        let policies = Policies::new(vec![(Pattern::new("none-*"), none)], kept);
        let small = StoreSettings { index_bytes_max: 40_000, ..settings() };
        let (disk, clock) = (SimulatedDisk::default(), Clock::manual(1_000));
        let on_none = |number: usize| on(&format!("none-{number}"), "");
        let broker = open_as(&disk, &clock, policies.clone(), small);
        for number in 0..30 {
            broker.publish(on_none(number)).await.unwrap();
        }
        // Their keys keep them in the log.
        for round in 0..20 {
            for number in 0..40 {
                let key = Some(format!("{round}/{number}").into());
                let keyed = PublishRequest { idempotency_key: key, ..request(number, "old") };
                broker.publish(keyed).await.unwrap();
            }
            clock.advance(Duration::from_secs(2));
            tidy(&broker);
        }
        let known = |broker: &EmbeddedBroker| {
            (0..30).filter(|number| broker.standing(&on_none(*number).channel).is_some()).count()
        };
        assert_eq!(known(&broker), 30);
        drop(broker);
        let broker = open_as(&disk, &clock, policies, small);
        assert!(broker.stored.read().index.bytes() > small.index_bytes_max, "it takes all of it for new");
        assert_eq!(known(&broker), 30);
        clock.advance(Duration::from_millis(AGELESS));
        tidy(&broker);
        assert_eq!(known(&broker), 30);
    });
}

const RETENTION_OF_A_SECOND: Retention = Retention { age: 1_000, ..ALL };

#[test]
fn what_memory_has_no_room_for_is_counted() {
    run(async {
        let small = StoreSettings { held_bytes_max: 10_000, ..settings() };
        let broker = open_as(&SimulatedDisk::default(), &Clock::manual(1_000), policies(ALL), small);
        let before = COUNTERS.given_up_in_memory.value();
        for number in 0..100 {
            broker.publish(on(&format!("memory-{}", number % 7), &"x".repeat(900))).await.unwrap();
        }
        let kept = broker.size().1;
        assert!((5..15).contains(&kept), "{kept}");
        assert!(COUNTERS.given_up_in_memory.value() >= before + 100 - kept as u64);
    });
}
