//! How safely things are kept, what is kept in memory, and what happens when nothing can be kept any more.

use super::*;
use crate::broker::history::{Depth, History as _, Reading};

/// Waits until something is so.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} does not happen");
}

/// Once, whatever was published went into files that no start would find, and was answered as stored.
#[test]
fn nothing_is_stored_where_no_start_would_find_it() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("log"), folder.path().join("elsewhere"));
        let clock = Clock::manual(1_000);
        let open = || {
            EmbeddedBroker::open(
                &path,
                Arc::new(Delivered::default()),
                clock.clone(),
                policies(ALL),
                settings(),
                key(),
            )
        };
        let broker = open().unwrap();
        broker.publish(request(0, "before")).await.unwrap();
        for is_made_anew in [false, true] {
            std::fs::rename(&path, &elsewhere).unwrap();
            if is_made_anew {
                std::fs::create_dir(&path).unwrap();
                for file in elsewhere.read_dir().unwrap().map(|file| file.unwrap().path()) {
                    std::fs::copy(&file, path.join(file.file_name().unwrap())).unwrap();
                }
            }
            tidy(&broker);
            assert!(broker.is_refusing());
            let refused = broker.publish(request(0, "lost")).await.unwrap_err();
            assert!(refused.to_string().contains("moved or deleted its directory"), "{refused}");
            assert!(broker.purge(&channel(0)).await.is_err());
            assert_eq!(data_of(&broker, 0)[0], "before", "what is there can be read");
            tidy(&broker);
            assert!(broker.is_refusing());
            if is_made_anew {
                std::fs::remove_dir_all(&path).unwrap();
            }
            std::fs::rename(&elsewhere, &path).unwrap();
            tidy(&broker);
            broker.publish(request(0, "after")).await.unwrap();
            assert!(!broker.is_refusing());
        }
        drop(broker);
        assert_eq!(data_of(&open().unwrap(), 0), ["before", "after", "after"]);
    });
}

#[test]
fn relaxed_publications_are_synced_soon_and_with_the_next_that_must_be() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let slow = StoreSettings { relaxed_sync: Duration::from_hours(1), ..settings() };
        let broker = open_as(&disk, &clock, policies(ALL), slow);
        let before = disk.0.lock().syncs;
        let first = broker.publish(on("relaxed-1", "a")).await.unwrap();
        assert_eq!(first.durability, Durability::Relaxed);
        assert_eq!(disk.0.lock().syncs, before, "nobody waits for the disk");
        let lost = disk.after_power_cut(0);
        broker.publish(request(0, "must survive")).await.unwrap();
        let kept = disk.after_power_cut(0);
        broker.publish(on("relaxed-1", "b")).await.unwrap();
        drop(broker);
        let size = |disk: &SimulatedDisk| open(disk).size().1;
        assert_eq!(
            (size(&lost), size(&kept), size(&disk.after_power_cut(0))),
            (0, 2, 3),
            "an orderly end syncs"
        );
        let after_loss = open(&lost);
        let relaxed = ChannelName::parse("relaxed-1").unwrap();
        let gap = after_loss.locate(&relaxed, Since::Cursor(first.cursor)).gap;
        assert_eq!(gap, Some(Gap::Diverged), "who has seen what is lost is told");

        let disk = SimulatedDisk::default();
        let quick = StoreSettings { relaxed_sync: Duration::from_millis(5), ..settings() };
        let broker = open_as(&disk, &clock, policies(ALL), quick);
        broker.publish(on("relaxed-1", "a")).await.unwrap();
        wait_until("the sync", || open(&disk.after_power_cut(0)).size().1 == 1);
        let syncs = disk.0.lock().syncs;
        thread::sleep(Duration::from_millis(50));
        assert_eq!(disk.0.lock().syncs, syncs, "nothing is synced while nothing is written");
    });
}

#[test]
fn a_relaxed_sync_that_fails_closes_the_log_and_says_so() {
    run(async {
        let disk = SimulatedDisk::default();
        let quick = StoreSettings { relaxed_sync: Duration::from_millis(5), ..settings() };
        let broker = open_as(&disk, &Clock::manual(1_000), policies(ALL), quick);
        assert!(!broker.is_fenced());
        disk.0.lock().syncs_fail = true;
        broker.publish(on("relaxed-1", "a")).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), broker.fenced()).await.expect("it is said");
        assert!(broker.is_fenced());
        assert_eq!(broker.publish(on("relaxed-1", "b")).await, Err(PublishError::Fenced));
    });
}

#[test]
fn a_sync_of_a_new_segments_name_that_fails_closes_the_log() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        broker.publish(request(0, &"x".repeat(2_000))).await.unwrap();
        disk.0.lock().names_fail = Some(5); // EIO
        assert_eq!(broker.publish(request(0, "a")).await, Err(PublishError::InDoubt));
        disk.0.lock().names_fail = None;
        assert_eq!(broker.publish(request(0, "b")).await, Err(PublishError::Fenced), "it is not tried again");
        assert!(broker.is_fenced());
    });
}

#[test]
fn a_sync_of_the_reserve_that_fails_closes_the_log() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        disk.0.lock().room = Some(0);
        assert_eq!(broker.publish(request(0, "a")).await, Err(PublishError::StorageFull));
        disk.0.lock().room = None;
        disk.0.lock().syncs_fail = true;
        assert_eq!(broker.publish(request(0, "b")).await, Err(PublishError::InDoubt));
        disk.0.lock().syncs_fail = false;
        assert_eq!(broker.publish(request(0, "c")).await, Err(PublishError::Fenced), "it is not tried again");
    });
}

/// Once, it was tried again with the first publication, and went on as if nothing had been.
#[test]
fn a_start_whose_sync_of_the_reserve_fails_is_none() {
    let disk = SimulatedDisk::default();
    let start = || {
        let (sink, clock) = (Arc::new(Delivered::default()), Clock::manual(1_000));
        EmbeddedBroker::open_on(Arc::new(disk.clone()), sink, clock, policies(ALL), settings(), key())
            .map(drop)
    };
    disk.0.lock().syncs_fail = true;
    assert!(start().is_err());
    assert!(!disk.has("0000000000000001.log"), "nothing is begun behind it");
    disk.0.lock().syncs_fail = false;
    start().unwrap();
}

#[test]
fn what_is_being_stored_counts_until_it_is_settled_also_if_nobody_waits_for_it() {
    let disk = SimulatedDisk::default();
    let broker = open(&disk);
    let all = Arc::default();
    let permit = || Permit::take(100, &all).0;
    let stands_still = disk.0.lock();
    drop(broker.publish_within(permit(), request(0, "a")));
    let later = broker.publish_all_within(permit(), vec![request(0, "b"), request(0, "c")]);
    assert!(run(async { tokio::time::timeout(Duration::from_millis(50), later).await }).is_err());
    assert_eq!(all.load(Ordering::Relaxed), 200);
    drop(stands_still);
    wait_until("the end of the permits", || all.load(Ordering::Relaxed) == 0);
    assert_eq!(data_of(&broker, 0), ["a", "b", "c"]);
}

/// A sink that panics, as a bug would.
struct Bug;

impl PublicationSink for Bug {
    fn deliver(&self, _: Publication) {
        panic!("a bug, for this test");
    }
}

#[test]
fn a_panic_of_the_writer_is_the_end_and_nobody_waits_for_ever() {
    run(async {
        let disk = Arc::new(SimulatedDisk::default());
        let clock = Clock::manual(1_000);
        let broker =
            EmbeddedBroker::open_on(disk, Arc::new(Bug), clock, policies(ALL), settings(), key()).unwrap();
        assert_eq!(broker.publish(request(0, "a")).await, Err(PublishError::Stopped));
        tokio::time::timeout(Duration::from_secs(30), broker.fenced()).await.expect("it is said");
        assert_eq!(broker.publish(request(0, "b")).await, Err(PublishError::Stopped));
        assert_eq!(broker.purge(&channel(0)).await, Err(PublishError::Stopped));
    });
}

#[test]
fn the_newest_is_read_without_the_disk_also_after_a_restart() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open(&disk);
        for number in 0..40 {
            broker.publish(request(0, &number.to_string())).await.unwrap();
        }
        let newest = |broker: &EmbeddedBroker, after| {
            let reads = disk.0.lock().reads;
            let readings = [Reading { channel: channel(0), after, is_first: false }];
            let page = broker.read(&readings, Depth::Memory).unwrap();
            let query = HistoryQuery { after, ..EVERYTHING };
            let recent = broker.recent_history(&channel(0), query);
            assert_eq!(disk.0.lock().reads, reads, "the disk is left alone");
            let all = broker.history(&channel(0), query).unwrap();
            // The cursor behind everything is another each time.
            let is_same = |recent: &HistoryPage| HistoryPage { cursor: all.cursor, ..recent.clone() } == all;
            assert!(recent.as_ref().is_none_or(is_same));
            let count = page.map(|page| page.publications.len());
            assert_eq!(recent.map(|recent| recent.publications.len()), count);
            count
        };
        assert_eq!(newest(&broker, 0), Some(40));
        drop(broker);
        let broker = open(&disk);
        assert_eq!(newest(&broker, 38), Some(2), "the last segment is in memory");
        assert_eq!(newest(&broker, 0), None, "the others are on the disk");
        assert_eq!(data_of(&broker, 0).len(), 40);
    });
}

#[test]
fn what_is_kept_in_memory_only_is_bounded_over_all_channels() {
    run(async {
        let broker = open(&SimulatedDisk::default());
        let big = "x".repeat(crate::limits::DATA_BYTES_MAX);
        let first = broker.publish(on("memory-0", "first")).await.unwrap();
        let count = crate::limits::MEMORY_HISTORY_BYTES_MAX / crate::limits::DATA_BYTES_MAX + 3;
        for number in 0..count {
            broker.publish(on(&format!("memory-{}", number % 3 + 1), &big)).await.unwrap();
        }
        let (_, kept) = broker.size();
        assert!((count - 5..count).contains(&kept), "{kept} of {count} are kept");
        let name = ChannelName::parse("memory-0").unwrap();
        assert_eq!(broker.locate(&name, Since::All).gap, Some(Gap::Trimmed));
        assert_eq!(broker.locate(&name, Since::Cursor(first.cursor)).gap, None);
        let name = ChannelName::parse("memory-1").unwrap();
        assert_eq!(broker.locate(&name, Since::Cursor(first.cursor)).gap, Some(Gap::Trimmed));
    });
}

/// A channel that was kept in memory only, and is kept on disk after a restart: nothing of the earlier life is called complete.
#[test]
fn a_channel_whose_policy_changed_does_not_hide_what_is_gone() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let broker = open(&disk);
        let before = broker.publish(request(0, "before")).await.unwrap().cursor;
        broker.publish(on("memory-1", "lost with the process")).await.unwrap();
        drop(broker);
        let policy = Policy { durability: Durability::Fsync, retention: ALL, replay_on_join: 0 };
        let disk = disk.after_power_cut(0);
        let broker = open_as(&disk, &clock, Policies::new(Vec::new(), policy), settings());
        let name = ChannelName::parse("memory-1").unwrap();
        assert_eq!(broker.locate(&name, Since::Cursor(before)).gap, Some(Gap::Epoch));
        let later = broker.publish(on("memory-1", "kept")).await.unwrap().cursor;
        drop(broker);
        let broker = open_as(&disk.after_power_cut(0), &clock, Policies::new(Vec::new(), policy), settings());
        assert_eq!(broker.locate(&name, Since::Cursor(later)).gap, None);
    });
}

/// What was kept in memory between two lives is in no log, whatever the channel's policy is afterwards.
#[test]
fn who_stood_before_a_channel_was_kept_in_memory_is_told_and_a_purge_there_is_for_good() {
    run(async {
        let clock = Clock::manual(1_000);
        let policy = |durability| Policy { durability, retention: ALL, replay_on_join: 0 };
        let live = |disk: &SimulatedDisk, durability| {
            open_as(disk, &clock, Policies::new(Vec::new(), policy(durability)), settings())
        };
        let disk = SimulatedDisk::default();
        let broker = live(&disk, Durability::Fsync);
        let first = broker.publish(request(0, "1")).await.unwrap().position;
        let since = [
            Since::Position(first),
            Since::InEpoch { epoch: first.epoch, offset: first.offset },
            Since::Offset(first.offset),
        ];
        drop(broker);
        let disk = disk.after_power_cut(0);
        let broker = live(&disk, Durability::Fsync);
        assert!(since.iter().all(|since| broker.locate(&channel(0), *since).gap.is_none()));
        drop(broker);
        let broker = live(&disk, Durability::Memory);
        broker.publish(request(0, "lost with the process")).await.unwrap();
        drop(broker);
        for durability in [Durability::Memory, Durability::Fsync] {
            let broker = live(&disk.after_power_cut(0), durability);
            for since in since {
                assert_eq!(
                    broker.locate(&channel(0), since).gap,
                    Some(Gap::Epoch),
                    "{since:?}, {durability:?}"
                );
            }
            let next = broker.publish(request(0, "next")).await.unwrap().position;
            assert_ne!(next.epoch, first.epoch);
            assert_eq!(broker.locate(&channel(0), Since::Position(next)).gap, None);
        }
        let broker = live(&disk, Durability::Memory);
        assert_eq!(data_of(&broker, 0), ["1"]);
        broker.purge(&channel(0)).await.unwrap();
        drop(broker);
        for durability in [Durability::Memory, Durability::Fsync] {
            let broker = live(&disk.after_power_cut(0), durability);
            assert!(data_of(&broker, 0).is_empty(), "{durability:?}");
        }
    });
}

/// The purge is in a segment that is rewritten, what was purged in one that is not.
#[test]
fn a_purge_of_a_channel_that_is_kept_in_memory_stays_when_its_segment_is_rewritten() {
    run(async {
        let clock = Clock::manual(1_000);
        let few = Retention { messages: 2, ..ALL };
        let live = |disk: &SimulatedDisk, durability| {
            let policy = |durability| Policy { durability, retention: few, replay_on_join: 0 };
            let own = vec![(Pattern::new("channel-0"), policy(durability))];
            open_as(disk, &clock, Policies::new(own, policy(Durability::Fsync)), settings())
        };
        let disk = SimulatedDisk::default();
        let broker = live(&disk, Durability::Fsync);
        let keyed = PublishRequest { idempotency_key: Some("key".into()), ..request(5, "keyed") };
        broker.publish(keyed).await.unwrap();
        broker.publish(request(0, "secret")).await.unwrap();
        drop(broker);
        let disk = disk.after_power_cut(0);
        let broker = live(&disk, Durability::Memory);
        let fill = async |count: usize| {
            for number in 0..count {
                broker.publish(request(9, &format!("{number}:{}", "x".repeat(60)))).await.unwrap();
            }
        };
        fill(30).await;
        broker.purge(&channel(0)).await.unwrap();
        broker.publish(request(0, "in memory")).await.unwrap();
        fill(40).await;
        tidy(&broker);
        assert!(disk.has("0000000000000001.log"));
        drop(broker);
        assert!(data_of(&live(&disk.after_power_cut(0), Durability::Fsync), 0).is_empty());
    });
}

#[test]
fn what_is_settled_survives_a_power_cut() {
    run(async {
        let clock = Clock::manual(1_000);
        let slow = StoreSettings { relaxed_sync: Duration::from_hours(1), ..settings() };
        for is_settled in [false, true] {
            let disk = SimulatedDisk::default();
            let broker = open_as(&disk, &clock, policies(ALL), slow);
            broker.publish(on("relaxed-1", "a")).await.unwrap();
            if is_settled {
                assert!(broker.settle().await);
            }
            assert_eq!(open(&disk.after_power_cut(0)).size().1, usize::from(is_settled));
        }
    });
}

/// A sync that had failed left nothing to be synced, so whoever asked afterwards was told that everything was: an ack of what was not
/// on the disk was answered 200.
#[test]
fn nothing_is_settled_once_a_sync_has_failed() {
    run(async {
        let clock = Clock::manual(1_000);
        let slow = StoreSettings { relaxed_sync: Duration::from_hours(1), ..settings() };
        for is_synced_by_another in [false, true] {
            let disk = SimulatedDisk::default();
            let broker = open_as(&disk, &clock, policies(ALL), slow);
            broker.publish(on("relaxed-1", "a")).await.unwrap();
            disk.0.lock().syncs_fail = true;
            if is_synced_by_another {
                assert_eq!(broker.publish(request(0, "b")).await, Err(PublishError::InDoubt));
            } else {
                assert!(!broker.settle().await);
            }
            disk.0.lock().syncs_fail = false;
            assert!(!broker.settle().await, "nobody knows what the disk holds");
        }
    });
}

/// The operating system says once that a sync failed, and takes what it could not store for stored.
#[test]
fn what_a_failed_sync_left_in_memory_is_stored_by_the_next_start_before_anybody_reads_it() {
    run(async {
        let clock = Clock::manual(1_000);
        let slow = StoreSettings { relaxed_sync: Duration::from_hours(1), ..settings() };
        let disk = SimulatedDisk::default();
        let broker = open_as(&disk, &clock, policies(ALL), slow);
        broker.publish(request(0, "stored")).await.unwrap();
        broker.publish(on("relaxed-1", "not stored yet")).await.unwrap();
        disk.0.lock().syncs_fail = true;
        assert!(broker.publish(request(0, "refused")).await.is_err());
        drop(broker);
        disk.0.lock().syncs_fail = false;
        let broker = open_as(&disk, &clock, policies(ALL), slow);
        let seen = broker.size().1;
        assert!(seen >= 1);
        drop(broker);
        assert_eq!(open(&disk.after_power_cut(0)).size().1, seen);
    });
}

/// A batch whose end did not reach the disk is not there at all.
#[test]
fn a_batch_is_stored_as_a_whole_or_not_at_all() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let slow = StoreSettings { relaxed_sync: Duration::from_hours(1), ..settings() };
        let broker = open_as(&disk, &clock, policies(ALL), slow);
        broker.publish(request(0, "before")).await.unwrap();
        let batch = || (0..4).map(|number| on("relaxed-1", &format!("{number}"))).collect();
        for result in broker.publish_all(batch()).await {
            result.unwrap();
        }
        let mut seen = Vec::new();
        for kept in 0..400 {
            let broker = open(&disk.after_power_cut(kept));
            seen.push(broker.size().1);
            assert_eq!(
                broker.publish(on("relaxed-1", "next")).await.unwrap().position.offset,
                seen[kept] as u64
            );
        }
        seen.dedup();
        assert_eq!(seen, [1, 5]);
    });
}

#[test]
fn a_page_says_where_it_ends() {
    run(async {
        let broker = open(&SimulatedDisk::default());
        let mut published = Vec::new();
        for number in 0..6 {
            published.push(broker.publish(request(0, &number.to_string())).await.unwrap());
            broker.publish(request(1, "between")).await.unwrap();
        }
        let page = |after, before| {
            broker.history(&channel(0), HistoryQuery { after, before, ..EVERYTHING }).unwrap()
        };
        let follows = |cursor| {
            let Start { after, gap } = broker.locate(&channel(0), Since::Cursor(cursor));
            assert_eq!(gap, None);
            page(after, u64::MAX).publications.len()
        };
        assert_eq!(follows(page(0, 4).cursor), 3, "up to the third one");
        assert_eq!(follows(page(0, 1).cursor), 6, "nothing was read");
        assert_eq!(follows(page(0, u64::MAX).cursor), 0);
    });
}
