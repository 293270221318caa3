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
        clock.set_machine(THEN + 1_000);
        tidy(&broker);
        assert_eq!(data_of(&broker, 0).len(), 5);
        publish(&broker, 1).await;
        assert_eq!(data_of(&broker, 0).len(), 6, "it is a second later");
        drop(broker);
        let clock = Clock::manual(THEN + HOUR);
        let broker = open_with(&disk, A_WEEK, &clock);
        assert_eq!(data_of(&broker, 0).len(), 6, "it is an hour later");
        clock.advance(Duration::from_millis(7 * DAY - 1));
        publish(&broker, 1).await;
        assert_eq!(
            data_of(&broker, 0).len(),
            2,
            "what came while the clock was ahead counts as new at the start"
        );
        clock.advance(Duration::from_millis(2));
        publish(&broker, 1).await;
        assert_eq!(data_of(&broker, 0).len(), 2);
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
