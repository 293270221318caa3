//! What a start does to the disk, and what a power cut in the middle of it leaves.

use super::*;

const FEW: Retention = Retention { messages: 2, ..ALL };

/// A start removed the segments that the log had given up before what gives them up was synced: a power cut in between took that, and
/// left a log without its beginning.
#[test]
fn a_power_cut_while_a_start_removes_what_was_given_up_loses_nothing() {
    run(async {
        let clock = Clock::manual(1_000);
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, FEW, &clock);
        let quiet = broker.publish(request(0, "quiet")).await.unwrap().cursor;
        broker.purge(&channel(0)).await.unwrap();
        // Upkeep comes with each new segment.
        disk.0.lock().moments = Some(Vec::new());
        for number in 0..40 {
            broker.publish(request(9, &format!("{number}:{}", "x".repeat(60)))).await.unwrap();
        }
        tidy(&broker);
        let moments = disk.0.lock().moments.take().unwrap();
        assert!(!disk.has("0000000000000001.log"), "it was removed");
        drop(broker);
        for (killed, moment) in moments.iter().enumerate() {
            let disk = moment.after_kill();
            disk.0.lock().moments = Some(Vec::new());
            drop(open_with(&disk, FEW, &clock));
            let start = disk.0.lock().moments.take().unwrap();
            for (place, moment) in start.iter().enumerate() {
                let broker = open_with(&moment.disk(0, false), FEW, &clock);
                let story = format!("killed at {killed}, power cut at {place}");
                assert_eq!(gap(&broker, 0, quiet), Some(Gap::Epoch), "{story}");
                assert_eq!(gap(&broker, 5, quiet), None, "{story}");
            }
        }
    });
}
