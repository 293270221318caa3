//! A disk that takes nothing: what can still be done on it, and how it comes right.

use super::space::churn;
use super::*;

#[test]
fn a_full_disk_can_still_be_tidied_and_heals() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let age = Retention { age: 1_000_000, ..ALL };
        let broker = open_with(&disk, age, &clock);
        let quiet = broker.publish(request(0, "quiet")).await.unwrap();
        churn(&broker, 100).await;
        let live = broker.publish(request(1, "too old, too")).await.unwrap();
        tidy(&broker);
        disk.0.lock().room = Some(0);
        assert_eq!(broker.publish(request(9, "full")).await, Err(PublishError::StorageFull));
        clock.advance(Duration::from_secs(2_000));
        tidy(&broker);
        assert!(!disk.has("0000000000000001.log"), "the reserve let it be written down");
        broker.publish(request(9, "there is room again")).await.unwrap();
        assert!(disk.has("reserve"));
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), age, &clock);
        clock.advance(Duration::from_millis(AGELESS));
        tidy(&broker);
        assert_eq!(gap(&broker, 0, quiet.cursor), None);
        assert_eq!(gap(&broker, 1, live.cursor), None);
        assert_eq!(data_of(&broker, 9), ["there is room again"]);
    });
}

/// Once, a node called itself ready ten seconds after each refusal.
#[test]
fn a_disk_that_took_nothing_is_tried_again_by_upkeep() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, ALL, &Clock::manual(1_000));
        broker.publish(request(0, "before")).await.unwrap();
        for is_read_only in [false, true] {
            let take = |nothing: bool| {
                let mut disk = disk.0.lock();
                if is_read_only { disk.is_read_only = nothing } else { disk.room = nothing.then_some(0) }
            };
            take(true);
            assert_eq!(broker.publish(request(0, "full")).await, Err(PublishError::StorageFull));
            tidy(&broker);
            assert!(broker.is_refusing());
            take(false);
            tidy(&broker);
            // What upkeep has asked for is done before that.
            assert_eq!(broker.purge(&channel(7)).await, Ok(0));
            assert!(!broker.is_refusing() && disk.has("reserve"));
        }
    });
}

/// Once, it needed the room that it was to make.
#[test]
fn a_channel_can_be_purged_on_a_full_disk_which_makes_room() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_with(&disk, ALL, &Clock::manual(1_000));
        for has_noticed in [false, true] {
            for _ in 0..200 {
                broker.publish(request(0, "much")).await.unwrap();
            }
            tidy(&broker);
            disk.0.lock().room = Some(0);
            if has_noticed {
                assert_eq!(broker.publish(request(9, "full")).await, Err(PublishError::StorageFull));
            }
            assert_eq!(broker.purge(&channel(0)).await, Ok(200));
            tidy(&broker);
            broker.publish(request(1, "there is room again")).await.unwrap();
            disk.0.lock().room = None;
        }
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), ALL, &Clock::manual(1_000));
        assert_eq!([data_of(&broker, 0), data_of(&broker, 1)], [vec![""; 0], vec!["there is room again"; 2]]);
    });
}

/// Once, nothing but a deleted data directory helped: what grows is not rewritten, and on a full disk it grew no more.
#[test]
fn a_purge_makes_room_also_where_all_is_in_the_segment_that_grows() {
    run(async {
        let large = StoreSettings { segment_bytes: 1 << 20, ..settings() };
        for is_restarted in [false, true] {
            let mut disk = SimulatedDisk::default();
            let clock = Clock::manual(1_000);
            let mut broker = open_as(&disk, &clock, policies(ALL), large);
            broker.publish(request(1, "is kept")).await.unwrap();
            let data = "x".repeat(2_000);
            for _ in 0..200 {
                broker.publish(request(0, &data)).await.unwrap();
            }
            disk.0.lock().room = Some(0);
            assert_eq!(broker.publish(request(9, "full")).await, Err(PublishError::StorageFull));
            if is_restarted {
                drop(broker);
                disk = disk.after_power_cut(0);
                disk.0.lock().room = Some(0);
                broker = open_as(&disk, &clock, policies(ALL), large);
            }
            assert_eq!(disk.sizes().len(), 1);
            assert_eq!(broker.purge(&channel(0)).await, Ok(200));
            tidy(&broker);
            broker.publish(request(1, "there is room again")).await.unwrap();
            assert!(disk.sizes().into_iter().sum::<usize>() < 100_000);
            let check = |broker: &EmbeddedBroker| {
                let kept = ["is kept", "there is room again"].map(str::to_owned);
                assert_eq!([data_of(broker, 0), data_of(broker, 1)], [vec![], kept.to_vec()]);
            };
            check(&broker);
            drop(broker);
            check(&open_as(&disk.after_power_cut(0), &clock, policies(ALL), large));
        }
    });
}

/// Once, the segment was sealed then, and no new one could be begun: nothing could be purged any more, though there was room set aside.
#[test]
fn it_does_so_also_if_others_take_what_was_set_aside() {
    run(async {
        let large = StoreSettings { segment_bytes: 1 << 20, ..settings() };
        let mut purged = 0;
        for room in (0..400).step_by(8) {
            let disk = SimulatedDisk::default();
            let broker = open_as(&disk, &Clock::manual(1_000), policies(ALL), large);
            let data = "x".repeat(2_000);
            for _ in 0..100 {
                broker.publish(request(0, &data)).await.unwrap();
            }
            {
                let mut disk = disk.0.lock();
                (disk.room, disk.others_take) = (Some(0), usize::MAX);
            }
            assert_eq!(broker.publish(request(9, "full")).await, Err(PublishError::StorageFull));
            disk.0.lock().room = Some(room);
            match broker.purge(&channel(0)).await {
                Err(refused) => assert_eq!(refused, PublishError::StorageFull),
                Ok(count) => {
                    purged += 1;
                    assert_eq!(count, 100);
                    tidy(&broker);
                    broker.publish(request(1, "there is room again")).await.unwrap();
                }
            }
        }
        assert!((1..50).contains(&purged), "{purged}");
    });
}

/// Once, it stayed full for ever if something else, like many purges, had taken the room that where they stand was to be written into.
#[test]
fn a_full_disk_heals_though_there_is_no_room_any_more_for_where_channels_stand() {
    run(async {
        for (purges, is_restarted) in
            [(0, false), (3, false), (100, false), (0, true), (3, true), (100, true)]
        {
            let mut disk = SimulatedDisk::default();
            let clock = Clock::manual(1_000);
            let age = Retention { age: 1_000_000, ..ALL };
            let mut broker = open_with(&disk, age, &clock);
            let mut quiet = Vec::new();
            for name in 100..104 {
                quiet.push((name, broker.publish(request(name, "")).await.unwrap()));
            }
            churn(&broker, 100).await;
            tidy(&broker);
            disk.0.lock().room = Some(0);
            assert_eq!(broker.publish(request(9, "full")).await, Err(PublishError::StorageFull));
            for number in 0..purges {
                if broker.purge(&channel(100)).await.is_err() {
                    assert!(number > 3);
                }
            }
            if is_restarted {
                drop(broker);
                disk = disk.after_power_cut(0);
                disk.0.lock().room = Some(0);
                broker = open_with(&disk, age, &clock);
            }
            clock.advance(Duration::from_secs(2_000));
            tidy(&broker);
            assert!(
                !disk.has("0000000000000001.log"),
                "there was room for what is needed, after {purges} purges, started again: {is_restarted}"
            );
            broker.publish(request(9, "there is room again")).await.unwrap();
            let check = |broker: &EmbeddedBroker| {
                for (name, published) in &quiet {
                    let gaps = [
                        gap(broker, *name, published.cursor),
                        broker.locate(&channel(*name), Since::Position(published.position)).gap,
                    ];
                    let told = |gap: &Option<Gap>| match gap {
                        None => purges == 0 || *name > 100,
                        Some(Gap::Trimmed) => purges > 3,
                        Some(Gap::Epoch) => purges > 0,
                        Some(_) => false,
                    };
                    assert!(gaps.iter().all(told), "{name} after {purges} purges: {gaps:?}");
                    assert!(data_of(broker, *name).is_empty());
                }
                assert_eq!(data_of(broker, 9), ["there is room again"]);
            };
            check(&broker);
            drop(broker);
            let broker = open_with(&disk.after_power_cut(0), age, &clock);
            clock.advance(Duration::from_millis(AGELESS));
            tidy(&broker);
            check(&broker);
        }
    });
}

#[test]
fn a_full_disk_heals_though_there_is_no_room_for_where_all_channels_stand() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let age = Retention { age: 1_000_000, ..ALL };
        let broker = open_with(&disk, age, &clock);
        let mut quiet = Vec::new();
        for name in 100..160 {
            quiet.push((name, broker.publish(request(name, "")).await.unwrap().cursor));
        }
        churn(&broker, 100).await;
        tidy(&broker);
        disk.0.lock().room = Some(0);
        assert_eq!(broker.publish(request(9, "full")).await, Err(PublishError::StorageFull));
        clock.advance(Duration::from_secs(2_000));
        tidy(&broker);
        assert!(!disk.has("0000000000000001.log"), "there was room for what is needed");
        broker.publish(request(9, "there is room again")).await.unwrap();
        let check = |broker: &EmbeddedBroker| {
            for (name, cursor) in &quiet {
                assert!(matches!(gap(broker, *name, *cursor), None | Some(Gap::Trimmed)), "{name}");
            }
            assert_eq!(data_of(broker, 9), ["there is room again"]);
        };
        check(&broker);
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), age, &clock);
        clock.advance(Duration::from_millis(AGELESS));
        tidy(&broker);
        check(&broker);
    });
}
