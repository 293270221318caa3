//! What the log does when the machine's clock is wrong, or is set.

use super::*;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// When the tests begin.
const THEN: u64 = 1_000 * DAY;
const A_WEEK: Retention = Retention { age: 7 * DAY, ..ALL };

async fn publish(broker: &EmbeddedBroker, count: usize) {
    for number in 0..count {
        broker.publish(request(0, &number.to_string())).await.unwrap();
    }
}

/// Each publication took for too old what was kept, by a time that was over for the machine, and so did each start that read it.
#[test]
fn a_start_with_a_clock_that_is_ahead_gives_up_nothing_that_is_young_when_it_was_set_right() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, A_WEEK, &Clock::manual(THEN));
        publish(&broker, 5).await;
        drop(broker);
        let clock = Clock::manual(THEN + 8 * DAY);
        let broker = open_with(&disk, A_WEEK, &clock);
        tidy(&broker);
        publish(&broker, 1).await;
        assert_eq!(data_of(&broker, 0).len(), 6, "it is not set right at once");
        clock.set_machine(THEN + 1_000);
        clock.advance(Duration::from_millis(AGELESS));
        tidy(&broker);
        assert_eq!(data_of(&broker, 0).len(), 6, "it is a second later");
        drop(broker);
        let clock = Clock::manual(THEN + HOUR);
        let broker = open_with(&disk, A_WEEK, &clock);
        assert_eq!(data_of(&broker, 0).len(), 6, "it is an hour later");
        clock.advance(Duration::from_millis(7 * DAY - 1));
        publish(&broker, 1).await;
        tidy(&broker);
        assert_eq!(
            data_of(&broker, 0).len(),
            2,
            "what came while the clock was ahead counts as new at the start"
        );
        clock.advance(Duration::from_millis(2));
        publish(&broker, 1).await;
        tidy(&broker);
        assert_eq!(data_of(&broker, 0).len(), 2);
    });
}

/// Once, `max_age` meant nothing in such a life, and what was known of channels grew until new ones were refused.
#[test]
fn what_is_published_after_a_start_with_a_wrong_clock_grows_old_in_time() {
    run(async {
        for started in [THEN + 400 * DAY, THEN - 400 * DAY, THEN] {
            let clock = Clock::manual(started);
            let broker = open_with(&SimulatedDisk::default(), A_WEEK, &clock);
            for machine in [THEN, THEN - 3 * DAY] {
                clock.set_machine(machine);
                clock.advance(Duration::from_millis(AGELESS));
                publish(&broker, 1).await;
                clock.advance(Duration::from_millis(7 * DAY));
                tidy(&broker);
                assert_eq!(data_of(&broker, 0).len(), 1, "{started} {machine}");
                clock.advance(Duration::from_millis(1));
                tidy(&broker);
                assert_eq!(data_of(&broker, 0).len(), 0, "{started} {machine}");
            }
        }
    });
}

/// Reading the log gave up what was too old for what was published while the clock was ahead.
#[test]
fn a_second_start_with_a_clock_that_is_ahead_gives_up_nothing_either() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, A_WEEK, &Clock::manual(THEN));
        publish(&broker, 30).await;
        drop(broker);
        let broker = open_with(&disk, A_WEEK, &Clock::manual(THEN + 8 * DAY));
        publish(&broker, 30).await;
        drop(broker);
        let clock = Clock::manual(THEN + 8 * DAY + 1_000);
        let broker = open_with(&disk, A_WEEK, &clock);
        assert_eq!(data_of(&broker, 0).len(), 60, "it is not set right at once");
        tidy(&broker);
        assert!(disk.has("0000000000000001.log"));
        clock.set_machine(THEN + 2_000);
        clock.advance(Duration::from_millis(AGELESS));
        tidy(&broker);
        assert_eq!(data_of(&broker, 0).len(), 60);
        drop(broker);
        let clock = Clock::manual(THEN + HOUR);
        let broker = open_with(&disk, A_WEEK, &clock);
        clock.advance(Duration::from_millis(AGELESS));
        tidy(&broker);
        assert_eq!(data_of(&broker, 0).len(), 60);
    });
}

/// Once, only upkeep gave up what was too old, however long the server ran and however much that was.
#[test]
fn what_is_published_gives_up_what_is_too_old_but_not_right_after_a_start() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, A_WEEK, &Clock::manual(THEN));
        publish(&broker, 30).await;
        drop(broker);
        let clock = Clock::manual(THEN + 8 * DAY);
        // One that is large, so that upkeep is not asked for.
        let settings = StoreSettings { segment_bytes: 1_000_000, ..settings() };
        let broker = open_as(&disk, &clock, policies(A_WEEK), settings);
        clock.advance(Duration::from_millis(AGELESS - 1));
        publish(&broker, 1).await;
        assert_eq!(data_of(&broker, 0).len(), 31);
        clock.advance(Duration::from_millis(1));
        publish(&broker, 1).await;
        assert!((3..32).contains(&data_of(&broker, 0).len()), "some of it, so that nobody waits for long");
        publish(&broker, 30).await;
        assert_eq!(data_of(&broker, 0).len(), 32);
        clock.set_machine(THEN);
        clock.advance(Duration::from_millis(8 * DAY));
        publish(&broker, 1).await;
        assert_eq!(data_of(&broker, 0).len(), 17, "some of its own, by how long ago that was");
    });
}

#[test]
fn much_that_is_too_old_is_given_up_in_steps() {
    run(async {
        let clock = Clock::manual(THEN);
        // One that is large, so that upkeep is not asked for.
        let settings = StoreSettings { segment_bytes: 1_000_000, ..settings() };
        let broker = open_as(&SimulatedDisk::default(), &clock, policies(A_WEEK), settings);
        for _ in 0..2 {
            publish(&broker, 35).await;
            broker.publish(request(1, "")).await.unwrap();
            broker.publish(expiry::brief(2, "", &clock, Duration::from_hours(1))).await.unwrap();
        }
        clock.advance(Duration::from_millis(8 * DAY));
        let mut left = Vec::new();
        let mut ids = 0..broker.stored.read().index.ids();
        while left.len() < 2 {
            let index = &mut broker.stored.write().index;
            let now = clock.unix_millis();
            index.trim_old(&mut ids, Ages { read: now, own: now }, 30);
            assert!(!ids.is_empty());
            left.push(index.size().1);
        }
        assert_eq!(left, [44, 14]);
        publish(&broker, 35).await;
        clock.advance(Duration::from_millis(8 * DAY));
        tidy(&broker);
        assert_eq!(broker.stored.read().index.size().1, 0, "upkeep goes on until all is done");
    });
}

#[test]
fn what_lives_for_an_hour_does_so_too_when_the_clock_was_ahead_as_it_was_published() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(THEN + 8 * DAY);
        let broker = open_with(&disk, A_WEEK, &clock);
        broker.publish(expiry::brief(0, "brief", &clock, Duration::from_hours(1))).await.unwrap();
        drop(broker);
        let clock = Clock::manual(THEN);
        let broker = open_with(&disk, A_WEEK, &clock);
        clock.advance(Duration::from_millis(HOUR - 1));
        assert_eq!(data_of(&broker, 0), ["brief"]);
        clock.advance(Duration::from_millis(1));
        assert!(data_of(&broker, 0).is_empty());
    });
}

/// A clock that goes wrong by so much, and is set right.
fn behind(by: u64) -> Clock {
    let clock = Clock::manual(THEN - by);
    clock.set_machine(THEN);
    clock
}

/// What was published by a machine that did not know the time when it started was old for the next start.
#[test]
fn what_is_published_after_a_clock_was_set_forward_is_young_for_the_next_life() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = behind(30 * DAY);
        let broker = open_with(&disk, A_WEEK, &clock);
        publish(&broker, 5).await;
        broker.publish(expiry::brief(0, "brief", &clock, Duration::from_hours(1))).await.unwrap();
        tidy(&broker);
        assert_eq!(data_of(&broker, 0).len(), 6);
        drop(broker);
        let clock = Clock::manual(THEN + HOUR - 1);
        let broker = open_with(&disk, A_WEEK, &clock);
        tidy(&broker);
        assert_eq!(data_of(&broker, 0).len(), 6);
        clock.advance(Duration::from_millis(1));
        assert_eq!(data_of(&broker, 0).len(), 5, "what lives for an hour does so");
        clock.advance(Duration::from_millis(7 * DAY));
        tidy(&broker);
        assert!(data_of(&broker, 0).is_empty());
    });
}

#[test]
fn a_clock_that_is_set_forward_ends_nothing_at_once_and_nothing_later_than_it_should() {
    run(async {
        let clock = Clock::manual(THEN);
        let broker = open_with(&SimulatedDisk::default(), A_WEEK, &clock);
        let hour = Duration::from_hours(1);
        publish(&broker, 1).await;
        broker.publish(expiry::brief(1, "before", &clock, hour)).await.unwrap();
        clock.set_machine(THEN + 30 * DAY);
        broker.publish(expiry::brief(1, "after", &clock, hour)).await.unwrap();
        publish(&broker, 1).await;
        tidy(&broker);
        clock.advance(Duration::from_millis(HOUR - 1));
        assert_eq!((data_of(&broker, 0).len(), data_of(&broker, 1).len()), (2, 2));
        clock.advance(Duration::from_millis(1));
        assert_eq!((data_of(&broker, 0).len(), data_of(&broker, 1).len()), (2, 0));
        clock.advance(Duration::from_millis(7 * DAY));
        tidy(&broker);
        assert!(data_of(&broker, 0).is_empty());
    });
}

#[test]
fn everybody_is_told_the_same_time_of_a_publication() {
    run(async {
        let broker = open_with(&SimulatedDisk::default(), A_WEEK, &behind(30 * DAY));
        let in_memory = ChannelName::parse("memory-1").unwrap();
        publish(&broker, 1).await;
        broker.publish(PublishRequest { channel: in_memory.clone(), ..request(0, "a") }).await.unwrap();
        for channel in [channel(0), in_memory] {
            let page = broker.history(&channel, EVERYTHING).unwrap();
            assert_eq!(page.publications[0].published_at, THEN);
        }
    });
}

/// A start ages keys by the times between publications, and a clock that is set between two of them makes no key older.
#[test]
fn a_key_is_known_after_a_restart_though_the_clock_was_set_before_it() {
    run(async {
        let keyed = || PublishRequest { idempotency_key: Some("key".into()), ..request(0, "keyed") };
        for days in [30, -30] {
            let disk = SimulatedDisk::default();
            let clock = Clock::manual(THEN);
            let broker = open_with(&disk, A_WEEK, &clock);
            publish(&broker, 1).await;
            broker.publish(keyed()).await.unwrap();
            clock.set_machine(THEN.checked_add_signed(days * DAY.cast_signed()).unwrap());
            publish(&broker, 1).await;
            clock.set_machine(THEN);
            publish(&broker, 1).await;
            drop(broker);
            let clock = Clock::manual(THEN + DAY);
            let broker = open_with(&disk, A_WEEK, &clock);
            assert!(broker.publish(keyed()).await.unwrap().is_duplicate, "{days} days");
            clock.advance(crate::limits::IDEMPOTENCY_WINDOW + Duration::from_millis(1));
            assert!(!broker.publish(keyed()).await.unwrap().is_duplicate, "{days} days");
        }
    });
}

/// What says that the clock was set lies right behind the beginning of a segment, of which little is kept for long.
#[test]
fn that_the_clock_was_set_is_not_forgotten_when_its_segment_could_be_rewritten() {
    run(async {
        let few = Retention { messages: 2, ..ALL };
        let disk = SimulatedDisk::default();
        let keyed = || PublishRequest { idempotency_key: Some("key".into()), ..request(0, "keyed") };
        let fill = async |broker: &EmbeddedBroker, count: usize| {
            for number in 0..count {
                broker.publish(request(9, &format!("{number}:{}", "x".repeat(60)))).await.unwrap();
            }
        };
        let clock = Clock::manual(THEN);
        let broker = open_with(&disk, few, &clock);
        broker.publish(keyed()).await.unwrap();
        while disk.sizes().last().is_some_and(|size| *size < 2_000) {
            fill(&broker, 1).await;
        }
        clock.set_machine(THEN + 30 * DAY);
        broker.publish(request(5, "stays")).await.unwrap();
        fill(&broker, 60).await;
        tidy(&broker);
        drop(broker);
        for life in 1..=2 {
            let broker = open_with(&disk, few, &Clock::manual(THEN + 30 * DAY));
            assert!(broker.publish(keyed()).await.unwrap().is_duplicate, "life {life}");
            tidy(&broker);
        }
    });
}
