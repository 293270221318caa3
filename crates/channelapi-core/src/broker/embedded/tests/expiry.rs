//! Publications with a time to live: when it is over they are shown to nobody, and later give their space back.

use super::super::index::{EXPIRED_KEPT, Entry};
use super::*;

/// For so long something lives here, and is known when it does not any more.
const A_WHILE: Duration = Duration::from_millis(EXPIRED_KEPT);

/// A publication that lives for so long.
pub(super) fn brief(number: usize, data: &str, clock: &Clock, ttl: Duration) -> PublishRequest {
    let expires_at = clock.unix_millis() + crate::clock::millis_of(ttl);
    PublishRequest { expires_at, ..request(number, data) }
}

#[test]
fn what_is_over_gives_its_space_back_and_nothing_is_missing_without_it() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let broker = open_with(&disk, ALL, &clock);
        let before = broker.publish(request(0, "before")).await.unwrap();
        broker.purge(&channel(0)).await.unwrap();
        let stood = broker.publish(request(0, "stays")).await.unwrap();
        let first = broker.stored.read().top().cursor;
        for number in 0..100 {
            broker.publish(brief(1, &number.to_string(), &clock, A_WHILE)).await.unwrap();
        }
        let newest = broker.publish(brief(1, "newest", &clock, A_WHILE)).await.unwrap();
        let segments = broker.figures().segments;

        clock.advance(A_WHILE);
        tidy(&broker);
        assert!(data_of(&broker, 1).is_empty(), "nobody gets it any more");
        assert_eq!(broker.figures().segments, segments, "whoever was just there can come back");
        assert_eq!(broker.locate(&channel(1), Since::Position(newest.position)).gap, None);

        clock.advance(A_WHILE);
        broker.publish(request(9, &"x".repeat(2_000))).await.unwrap();
        broker.publish(request(9, "another segment")).await.unwrap();
        tidy(&broker);
        assert_eq!(broker.stored.read().index.size().1, 3, "only what lives is known");
        assert!(broker.figures().bytes < 4_000 + 100 * 60, "{:?}", broker.figures());
        let check = |broker: &EmbeddedBroker| {
            assert_eq!(gap(broker, 1, newest.cursor), None);
            assert_eq!(
                broker.locate(&channel(1), Since::Position(newest.position)).gap,
                None,
                "it was the newest"
            );
            assert_eq!(data_of(broker, 0), ["stays"]);
            assert_eq!(gap(broker, 0, stood.cursor), None);
            assert_eq!(gap(broker, 0, before.cursor), Some(Gap::Epoch), "it was purged");
        };
        check(&broker);
        assert_eq!(gap(&broker, 1, first), None, "it missed nothing that it is owed");
        drop(broker);
        let broker = open_with(&disk.after_power_cut(0), ALL, &clock);
        check(&broker);
        let next = broker.publish(request(1, "next")).await.unwrap().position;
        assert_eq!((next.epoch, next.offset), (newest.position.epoch, newest.position.offset + 1));
    });
}

#[test]
fn what_is_over_behind_one_that_lives_stays_as_long_as_that() {
    run(async {
        let clock = Clock::manual(1_000);
        let broker = open_with(&SimulatedDisk::default(), ALL, &clock);
        broker.publish(brief(0, "1", &clock, A_WHILE)).await.unwrap();
        broker.publish(request(0, "2")).await.unwrap();
        broker.publish(brief(0, "3", &clock, A_WHILE)).await.unwrap();
        clock.advance(A_WHILE * 2);
        tidy(&broker);
        let page = history(&broker, 0);
        let standing = page.standing.unwrap();
        assert_eq!(
            (data_of(&broker, 0), standing.first_offset, standing.next_offset),
            (vec!["2".into()], 2, 4)
        );
        assert_eq!(broker.stored.read().index.size().1, 2);
    });
}

/// Once, only a cursor led past what had been over for an hour: whoever came with an offset or an id was told that something was trimmed.
#[test]
fn offsets_and_ids_lead_past_what_is_over_too() {
    run(async {
        let clock = Clock::manual(1_000);
        let broker = open_with(&SimulatedDisk::default(), ALL, &clock);
        for number in 1..=3 {
            broker.publish(request(0, &number.to_string())).await.unwrap();
        }
        broker.purge(&channel(0)).await.unwrap();
        let kept = broker.publish(brief(0, "1", &clock, A_WHILE)).await.unwrap().position;
        let mut brief_ones = vec![kept];
        for number in 2..=4 {
            let published = broker.publish(brief(0, &number.to_string(), &clock, A_WHILE)).await.unwrap();
            brief_ones.push(published.position);
        }
        broker.publish(request(0, "5")).await.unwrap();
        clock.advance(A_WHILE * 2);
        tidy(&broker);
        assert_eq!(history(&broker, 0).standing.unwrap().first_offset, 5);

        let epoch = kept.epoch;
        let served = |since: Since| {
            let start = broker.locate(&channel(0), since);
            let stored = broker.stored.read();
            let known = stored.index.channel(&channel(0)).unwrap();
            (start.gap, known.entries.len() - known.behind(start.after))
        };
        for offset in 0..=4 {
            assert_eq!(served(Since::Offset(offset)), (None, 1), "{offset}");
            assert_eq!(served(Since::InEpoch { epoch, offset }), (None, 1), "{offset}");
        }
        assert_eq!(served(Since::Offset(5)), (None, 0));
        assert_eq!(served(Since::Offset(6)), (Some(Gap::Ahead), 0));
        assert_eq!(served(Since::Position(brief_ones[3])), (None, 1));
        let other = Position { tag: brief_ones[3].tag ^ 1, ..brief_ones[3] };
        assert_eq!(served(Since::Position(other)), (Some(Gap::Diverged), 1));
        // Nobody knows its tag any more, so it may be another one.
        assert_eq!(served(Since::Position(brief_ones[2])), (Some(Gap::Trimmed), 1));
        let endless = Position { offset: u64::MAX, ..brief_ones[3] };
        assert_eq!(served(Since::Position(endless)), (Some(Gap::Ahead), 0));
    });
}

/// What is given up for another reason is missed, also if something behind it is over.
#[test]
fn what_is_lost_before_what_is_over_is_missed() {
    run(async {
        let clock = Clock::manual(1_000);
        let broker = open_with(&SimulatedDisk::default(), Retention { messages: 2, ..ALL }, &clock);
        for number in 1..=2 {
            broker.publish(request(0, &number.to_string())).await.unwrap();
        }
        for number in 3..=4 {
            broker.publish(brief(0, &number.to_string(), &clock, A_WHILE)).await.unwrap();
        }
        clock.advance(A_WHILE * 2);
        tidy(&broker);
        let gap = |offset| broker.locate(&channel(0), Since::Offset(offset)).gap;
        assert_eq!(
            (0..=4).map(gap).collect::<Vec<_>>(),
            [Some(Gap::Trimmed), Some(Gap::Trimmed), None, None, None]
        );
    });
}

/// Once, a channel whose publications are soon over counted as unused since it was made.
#[test]
fn a_channel_in_use_whose_publications_are_over_is_not_the_first_to_be_forgotten() {
    run(async {
        let clock = Clock::manual(1_000);
        let broker = open_with(&SimulatedDisk::default(), ALL, &clock);
        broker.publish(brief(0, "1", &clock, A_WHILE)).await.unwrap();
        broker.publish(request(1, "1")).await.unwrap();
        broker.purge(&channel(1)).await.unwrap();
        broker.publish(brief(0, "2", &clock, A_WHILE)).await.unwrap();
        clock.advance(A_WHILE * 2);
        tidy(&broker);
        let stored = broker.stored.read();
        let idle: Vec<_> = stored.index.idle(0..stored.index.ids()).map(|idle| idle.newest).collect();
        assert_eq!(idle.len(), 2);
        assert!(idle[0] > idle[1], "{idle:?}");
    });
}

/// Once, they counted among the newest, so that nothing came of what lived.
#[test]
fn the_newest_are_the_newest_of_those_that_live() {
    run(async {
        let disk = SimulatedDisk::default();
        let clock = Clock::manual(1_000);
        let broker = open_with(&disk, ALL, &clock);
        let mut turns = Vec::new();
        for data in ["a", "b"] {
            broker.publish(request(0, data)).await.unwrap();
            turns.push(broker.stored.read().top().turn);
        }
        for data in ["c", "d"] {
            broker.publish(brief(0, data, &clock, A_WHILE)).await.unwrap();
        }
        let newest = |count| broker.after_all_but(&channel(0), count);
        assert!(newest(2) > turns[0], "all live, and the newest two are the others");
        clock.advance(A_WHILE);
        assert_eq!(newest(1), turns[0]);
        assert!(newest(2) < turns[0]);
        assert_eq!(newest(3), newest(2));
        assert_eq!(newest(usize::MAX), newest(2));
    });
}

/// Only those are looked at that have an end: what is found is the same as if all were.
#[test]
fn wherever_those_are_that_are_over_the_newest_are_found() {
    run(async {
        let clock = Clock::manual(1_000);
        let broker = open_with(&SimulatedDisk::default(), ALL, &clock);
        for number in 0..200_usize {
            let pattern = number.wrapping_mul(0x9E37_79B9) >> 8;
            for place in 0..11 {
                let one = match pattern >> place & 1 {
                    0 if place % 2 == 0 => request(number, "lives"),
                    0 => brief(number, "lives for longer", &clock, A_WHILE * 2),
                    _ => brief(number, "is soon over", &clock, A_WHILE),
                };
                broker.publish(one).await.unwrap();
            }
        }
        for _ in 0..2 {
            let now = clock.unix_millis();
            let stored = broker.stored.read();
            for known in (0..200).map(|number| stored.index.channel(&channel(number)).unwrap()) {
                let shows = |entry: &Entry| known.expiries.of(entry.turn).is_none_or(|dies_at| dies_at > now);
                for count in 0..13 {
                    let mut living = known.entries.iter().rev().filter(|entry| shows(entry));
                    assert_eq!(known.before_newest(count, now), living.nth(count));
                }
                let count = known.entries.len();
                for (low, high) in (0..=count).flat_map(|high| (0..=high).map(move |low| (low, high))) {
                    let first = (low..high).find(|place| shows(&known.entries[*place]));
                    assert_eq!(known.shown_from(low, high, now), first.unwrap_or(high));
                    let last = (low..high).rfind(|place| shows(&known.entries[*place]));
                    assert_eq!(known.shown_before(high, low, now), last.map_or(low, |last| last + 1));
                }
                let behind: Vec<_> = (0..13).map(|place| place * 7 % 13).collect();
                let expired = |offset: &u64| {
                    let hidden = known.entries.iter().filter(|entry| !shows(entry));
                    hidden.filter(|entry| known.offset_of(entry) > *offset).count() as u64
                };
                assert_eq!(known.expired(&behind, now), behind.iter().map(expired).collect::<Vec<_>>());
            }
            drop(stored);
            clock.advance(A_WHILE);
        }
    });
}

/// Once, each was looked at again whenever somebody asked how much is unread, or read on from a place before them, and publishers waited.
#[test]
fn however_many_are_over_they_cost_whoever_asks_little() {
    const MANY: u64 = 20_000;
    run(async {
        let clock = Clock::manual(1_000);
        let settings = StoreSettings { segment_bytes: 10_000_000, ..settings() };
        let broker = open_as(&SimulatedDisk::default(), &clock, policies(ALL), settings);
        for _ in 0..MANY / 1_000 {
            let requests = (0..1_000).map(|_| brief(0, "", &clock, A_WHILE)).collect();
            assert!(broker.publish_all(requests).await.iter().all(Result::is_ok));
        }
        clock.advance(A_WHILE);
        let now = clock.unix_millis();
        let quickest = |act: &dyn Fn()| {
            let time = || {
                let began = std::time::Instant::now();
                act();
                began.elapsed()
            };
            (0..10).map(|_| time()).min().unwrap()
        };
        let all = quickest(&|| {
            let stored = broker.stored.read();
            let known = stored.index.channel(&channel(0)).unwrap();
            let over = |entry: &&Entry| known.expiries.of(entry.turn).is_some_and(|dies_at| dies_at <= now);
            assert_eq!(known.entries.iter().filter(over).count() as u64, MANY);
        });
        let counted = quickest(&|| {
            let (standing, expired) = broker.standing_and_expired(&channel(0), |_| vec![0]).unwrap();
            assert_eq!((standing.next_offset, expired), (MANY + 1, vec![MANY]));
        });
        let read = quickest(&|| assert!(history(&broker, 0).publications.is_empty()));
        let read_back = quickest(&|| {
            let query = HistoryQuery { is_reverse: true, ..EVERYTHING };
            assert!(broker.history(&channel(0), query).unwrap().publications.is_empty());
        });
        for time in [counted, read, read_back] {
            assert!(time < all / 5, "{time:?}, and looking at each takes {all:?}");
        }
    });
}
