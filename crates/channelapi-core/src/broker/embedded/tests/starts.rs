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

/// A disk that stumbles for a moment: the start took ones for what it could not read, and wrote them over what had been answered.
#[test]
fn what_a_start_cannot_read_is_there_for_the_next_one() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        let batch = || (0..6).map(|number| request(0, &format!("{number} of a batch"))).collect();
        for result in [broker.publish_all(batch()).await, broker.publish_all(batch()).await].concat() {
            result.unwrap();
        }
        drop(broker);
        let [length] = disk.sizes()[..] else { panic!("one segment, for this test") };
        for from in (0..length).step_by(5) {
            for bytes in [1, 60, 300] {
                let disk = disk.after_power_cut(0);
                disk.0.lock().unreadable = from..from + bytes;
                drop(open(&disk));
                disk.0.lock().unreadable = 0..0;
                assert_eq!(data_of(&open(&disk), 0).len(), 12, "{bytes} bytes from {from} on");
            }
        }
    });
}

/// Once, what came back had everything of the channel given up.
#[test]
fn what_was_taken_over_while_the_rest_could_not_be_read_stays_when_it_can_be_again() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        for number in 0..8 {
            broker.publish(request(0, &format!("number {number}"))).await.unwrap();
        }
        drop(broker);
        let [length] = disk.sizes()[..] else { panic!("one segment, for this test") };
        let mut taken_over = 0;
        for from in (0..length).step_by(7) {
            let disk = disk.after_power_cut(0);
            disk.0.lock().unreadable = from..length;
            let broker = open(&disk);
            let kept = broker.standing(&channel(0)).map_or(0, |standing| standing.next_offset - 1);
            let next = broker.publish(request(0, "next")).await.unwrap();
            let shown = data_of(&broker, 0);
            drop(broker);
            disk.0.lock().unreadable = 0..0;
            let broker = open(&disk);
            assert_eq!(data_of(&broker, 0), shown, "unreadable from {from} on");
            assert_eq!(gap(&broker, 0, next.cursor), None);
            let lost = Since::InEpoch { epoch: next.position.epoch, offset: next.position.offset - 1 };
            let gap = broker.locate(&channel(0), lost).gap;
            assert_eq!(gap, (kept > 0).then_some(Gap::Epoch), "unreadable from {from} on");
            taken_over += usize::from(kept > 1 && shown.len() > 1);
        }
        assert!(taken_over > 5, "{taken_over} were");
    });
}

#[test]
fn a_start_that_cannot_write_says_what_to_do() {
    run(async {
        let disk = SimulatedDisk::default();
        open(&disk).publish(request(0, "a")).await.unwrap();
        disk.0.lock().rewrites_fail = Some(5); // EIO
        let sink = Arc::new(Delivered::default());
        let clock = Clock::manual(1_000);
        let opened =
            EmbeddedBroker::open_on(Arc::new(disk.clone()), sink, clock, policies(ALL), settings(), key());
        let error = opened.err().expect("it cannot be made to survive").to_string();
        assert!(error.contains("0000000000000001.log") && error.contains("store backup"), "{error}");
    });
}

/// An older version took names that hide something. What is in their channels is not lost by a start, a rewriting, or a repeat.
#[test]
fn what_was_published_to_a_name_that_is_none_any_more_is_read() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        let hiding = ChannelName::stored("channel\u{AD}-0").unwrap();
        assert!(ChannelName::parse(hiding.as_str()).is_err());
        let keyed = || PublishRequest {
            channel: hiding.clone(),
            idempotency_key: Some("once".into()),
            ..request(0, "hidden")
        };
        let first = broker.publish(keyed()).await.unwrap();
        // A segment that is rewritten, because the others of it are given up: not the first, which has a key.
        for number in 0..40 {
            broker.publish(request(9, &"x".repeat(100))).await.unwrap();
            if number == 15 {
                broker.publish(PublishRequest { idempotency_key: None, ..keyed() }).await.unwrap();
            }
        }
        assert!(disk.sizes()[1] > 1_800, "{:?}", disk.sizes());
        broker.purge(&channel(9)).await.unwrap();
        let check = async |broker: &EmbeddedBroker, when: &str| {
            let page = broker.history(&hiding, EVERYTHING).unwrap();
            let kept: Vec<_> = page.publications.iter().map(|publication| &*publication.data).collect();
            assert_eq!(kept, [b"hidden"; 2], "{when}");
            assert_eq!(broker.locate(&hiding, Since::Cursor(first.cursor)).gap, None, "{when}");
            let again = broker.publish(keyed()).await.unwrap();
            assert!(again.is_duplicate && again.position == first.position, "{when}");
        };
        check(&broker, "in the life that took it").await;
        drop(broker);
        let broker = open(&disk);
        check(&broker, "after a start").await;
        tidy(&broker);
        assert!(disk.sizes()[1] < 700, "it was rewritten: {:?}", disk.sizes());
        check(&broker, "after a rewriting").await;
        drop(broker);
        check(&open(&disk), "after a start behind a rewriting").await;
    });
}
