//! Rewriting segments that resist, and what is left of what was given up.

use super::*;

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
    broker.purge(&channel(9)).await.unwrap();
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
        mostly_dead(&broker, &disk).await;
        disk.0.lock().refused = Some(format!("{}.new", segment(2)));
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
