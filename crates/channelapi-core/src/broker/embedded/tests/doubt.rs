//! Channels of which something may be missing: what is told, and what is kept.

use super::*;
use crate::broker::history::{Depth, History as _, Reading};

/// Publishes so many in a channel, one by one.
async fn publish(broker: &EmbeddedBroker, number: usize, count: usize) -> Vec<Published> {
    let mut published = Vec::new();
    for item in 0..count {
        published.push(broker.publish(request(number, &format!("{number}/{item}"))).await.unwrap());
    }
    published
}

/// Where somebody is who has this publication and knows its id, its epoch and offset, or the cursor behind it.
fn places(published: &Published) -> [Since; 3] {
    let Position { epoch, offset, .. } = published.position;
    [Since::Position(published.position), Since::InEpoch { epoch, offset }, Since::Cursor(published.cursor)]
}

/// What somebody in channel 0 is told, and the offsets of what follows.
fn follows(broker: &EmbeddedBroker, since: Since) -> (Option<Gap>, Vec<u64>) {
    let Start { after, gap } = broker.locate(&channel(0), since);
    let page = broker.history(&channel(0), HistoryQuery { after, ..EVERYTHING }).unwrap();
    (gap, page.publications.iter().map(|publication| publication.kept.unwrap().position.offset).collect())
}

/// A channel in doubt of which nothing is kept, whose segment goes, begins a new epoch. Whoever came with a place of that one was told of what
/// the one before it had lost, as if it were their own.
#[test]
fn a_channel_in_doubt_whose_segment_goes_begins_an_epoch_of_which_nothing_is_lost() {
    run(async {
        let clock = Clock::manual(1_000);
        let disk = SimulatedDisk::default();
        let short = Retention { age: 1_000, messages: 5, ..ALL };
        let broker = open_with(&disk, short, &clock);
        let before = publish(&broker, 0, 4).await;
        broker.publish(request(1, "rots")).await.unwrap();
        publish(&broker, 1, 1).await;
        drop(broker);
        disk.garble(b"rots");
        clock.advance(Duration::from_secs(2));
        let broker = open_with(&disk, short, &clock);
        publish(&broker, 9, 60).await;
        clock.advance(Duration::from_millis(AGELESS));
        tidy(&broker);
        assert!(!disk.has("0000000000000001.log"), "with the damage, and what told of the channel");
        let after = publish(&broker, 0, 3).await;
        assert_ne!(after[0].position.epoch, before[0].position.epoch);
        let check = |broker: &EmbeddedBroker| {
            for since in before.iter().flat_map(places) {
                assert_eq!(follows(broker, since), (Some(Gap::Epoch), vec![1, 2, 3]), "{since:?}");
            }
            for (place, published) in after.iter().enumerate() {
                for since in places(published) {
                    assert_eq!(follows(broker, since), (None, [2, 3][place.min(2)..].to_vec()), "{since:?}");
                }
            }
        };
        check(&broker);
        drop(broker);
        let broker = open_with(&disk, short, &clock);
        check(&broker);
        drop(broker);
        check(&open_with(&disk, short, &clock));
    });
}

/// Opens with policies for other channels, of which some are kept in memory only: another number, other ones.
fn open_edited(disk: &SimulatedDisk, edit: usize, retention: Retention) -> EmbeddedBroker {
    let policy = |durability| Policy { durability, retention, replay_on_join: edit };
    let others = (Pattern::new(&format!("orders-{edit}-*")), policy(Durability::Fsync));
    let in_memory = (Pattern::new("memory-*"), policy(Durability::Memory));
    let policies = Policies::new(vec![others, in_memory], policy(Durability::Fsync));
    open_as(disk, &Clock::manual(1_000), policies, settings())
}

/// Opens without anything in memory: with it, whoever comes from before damage is told already for that.
fn open_plain(disk: &SimulatedDisk) -> EmbeddedBroker {
    let policy = Policy { durability: Durability::Fsync, retention: ALL, replay_on_join: 0 };
    open_as(disk, &Clock::manual(1_000), Policies::new(vec![], policy), settings())
}

/// What is published in channel 0, and the place of each at the time.
#[derive(Default)]
struct Inbox {
    data: Vec<String>,
    places: Vec<Published>,
    /// Where epochs begin that took over: the places before are in doubt, whatever epoch they are of.
    takeovers: Vec<usize>,
}

impl Inbox {
    async fn publish(&mut self, broker: &EmbeddedBroker, count: usize) {
        for _ in 0..count {
            let data = format!("to the inbox: {}.", self.data.len());
            self.places.push(broker.publish(request(0, &data)).await.unwrap());
            self.data.push(data);
        }
    }

    /// The same, into a channel in doubt.
    async fn take_over(&mut self, broker: &EmbeddedBroker) {
        let offset = self.places.len() as u64;
        self.takeovers.push(self.places.len());
        self.publish(broker, 1).await;
        let [before, now] = &self.places[self.places.len() - 2..] else { panic!("there was something") };
        assert_ne!(now.position.epoch, before.position.epoch);
        assert_eq!(now.position.offset, offset + 1, "the offsets go on");
    }

    /// Everything is there, under ids of one epoch; whoever stood before the last doubt is told, and gets all that follows, and nobody else is told.
    fn check(&self, broker: &EmbeddedBroker, is_in_doubt: bool) {
        let all: Vec<u64> = (1..=self.data.len() as u64).collect();
        assert_eq!(data_of(broker, 0), self.data);
        let newest = self.places.last().unwrap().position;
        let shown: Vec<_> =
            history(broker, 0).publications.iter().map(|it| it.kept.unwrap().position).collect();
        let standing = broker.standing(&channel(0)).unwrap();
        assert_eq!((standing.epoch, standing.next_offset), (newest.epoch, newest.offset + 1));
        assert_eq!(follows(broker, Since::All).1, all);
        let taken_over = self.takeovers.last().copied().unwrap_or(0);
        for (place, (published, shown)) in self.places.iter().zip(&shown).enumerate() {
            let offset = place as u64 + 1;
            assert_eq!(
                *shown,
                Position { epoch: newest.epoch, ..published.position },
                "shown as of one history"
            );
            let (is_of_another, rest) = (published.position.epoch != newest.epoch, &all[place + 1..]);
            let gap = (is_in_doubt || place < taken_over).then_some(Gap::Epoch);
            let [id, in_epoch, cursor] = places(published);
            // Of another epoch, nothing is known to be the same: all of it may be new.
            let expected = (gap, if is_of_another { all.clone() } else { rest.to_vec() });
            assert_eq!(follows(broker, id), expected, "the id of {offset}");
            assert_eq!(follows(broker, in_epoch), expected, "{offset} in its epoch");
            assert_eq!(follows(broker, cursor), (gap, rest.to_vec()), "the cursor behind {offset}");
            let now = Since::InEpoch { epoch: newest.epoch, offset };
            for since in [Since::Position(*shown), now, Since::Offset(offset)] {
                assert_eq!(follows(broker, since), (gap, rest.to_vec()), "{since:?}");
            }
        }
        assert_eq!(
            follows(broker, Since::Cursor(broker.cursor_at(u64::MAX))),
            (None, vec![]),
            "from behind it"
        );
    }

    /// In this life and the next two, also from the disk alone.
    fn check_on(&self, disk: &SimulatedDisk, open: impl Fn(&SimulatedDisk) -> EmbeddedBroker) {
        for _ in 0..2 {
            let broker = open(disk);
            self.check(&broker, false);
            broker.stored.write().hot = Hot::with_room(0);
            self.check(&broker, false);
        }
    }
}

/// A policy for other channels was edited: fifty messages were still shown, and the fifty-first deleted them.
#[test]
fn an_edited_policy_costs_no_other_channel_its_history() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_edited(&disk, 0, ALL);
        let mut inbox = Inbox::default();
        inbox.publish(&broker, 50).await;
        drop(broker);
        drop(open_edited(&disk, 0, ALL));
        for edit in 1..=3 {
            let broker = open_edited(&disk, edit, ALL);
            inbox.check(&broker, true);
            drop(broker);
            let broker = open_edited(&disk, edit, ALL);
            inbox.check(&broker, true);
            let (before, reader) = (broker.cursor_at(u64::MAX), inbox.places[7].cursor);
            broker.publish(request(1, "in between")).await.unwrap();
            let after = broker.locate(&channel(0), Since::Cursor(reader)).after;
            inbox.take_over(&broker).await;
            assert_eq!(follows(&broker, Since::Cursor(before)), (None, vec![inbox.data.len() as u64]));
            let readings = [Reading { channel: channel(0), after, is_first: false }];
            let page = broker.read(&readings, Depth::Disk).unwrap().unwrap();
            assert_eq!((page.losses.len(), page.publications.len()), (0, inbox.data.len() - 8), "told once");
            inbox.check(&broker, false);
            inbox.publish(&broker, 2).await;
            assert_eq!(
                inbox.places[inbox.places.len() - 1].position.epoch,
                broker.standing(&channel(0)).unwrap().epoch
            );
            inbox.check(&broker, false);
            drop(broker);
            inbox.check_on(&disk.after_power_cut(0), |disk| open_edited(disk, edit, ALL));
            // The next one begins where nothing was published since.
            drop(open_edited(&disk, edit, ALL));
        }
    });
}

/// One bit flipped in the message of one user, and all who had got nothing since lost what they had.
#[test]
fn a_damaged_record_costs_no_other_channel_its_history() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_plain(&disk);
        let mut inbox = Inbox::default();
        inbox.publish(&broker, 50).await;
        drop(broker);
        for round in 0..3 {
            let broker = open_plain(&disk);
            let rots = format!("rots in round {round}");
            broker.publish(request(1, &rots)).await.unwrap();
            broker.publish(request(2, "behind it")).await.unwrap();
            drop(broker);
            disk.garble(rots.as_bytes());
            let broker = open_plain(&disk);
            inbox.check(&broker, true);
            inbox.take_over(&broker).await;
            inbox.check(&broker, false);
            inbox.publish(&broker, 1).await;
            drop(broker);
            inbox.check_on(&disk.after_power_cut(0), open_plain);
        }
    });
}

/// What retention gave up is trimmed, wherever the epoch began; and only the record that took over knows of the doubt when all before it is gone.
#[test]
fn what_a_takeover_says_is_known_when_all_that_it_took_over_is_gone() {
    run(async {
        let few = Retention { messages: 2, ..ALL };
        let disk = SimulatedDisk::default();
        let broker = open_edited(&disk, 0, few);
        let before = publish(&broker, 0, 2).await;
        drop(broker);
        // A life in which it is quiet: what was in memory then may have been anything.
        drop(open_edited(&disk, 0, few));
        let broker = open_edited(&disk, 1, few);
        let after = publish(&broker, 0, 2).await;
        let epoch = after[0].position.epoch;
        let check = |broker: &EmbeddedBroker| {
            for since in before.iter().flat_map(places) {
                assert_eq!(follows(broker, since), (Some(Gap::Epoch), vec![3, 4]), "{since:?}");
            }
            assert_eq!(follows(broker, Since::All), (Some(Gap::Epoch), vec![3, 4]));
            // Whoever confirms now what they got before knows nothing of what may be missing behind it.
            for since in [Since::InEpoch { epoch, offset: 2 }, Since::Offset(2)] {
                assert_eq!(follows(broker, since), (Some(Gap::Epoch), vec![3, 4]), "{since:?}");
            }
            let both = after.iter().flat_map(|published| places(published).map(|since| (published, since)));
            for (published, since) in both {
                let rest = (published.position.offset + 1..=4).collect();
                assert_eq!(follows(broker, since), (None, rest), "{since:?}");
            }
        };
        check(&broker);
        publish(&broker, 9, 60).await;
        tidy(&broker);
        check(&broker);
        drop(broker);
        for _ in 0..2 {
            check(&open_edited(&disk, 1, few));
        }
        let broker = open_edited(&disk, 1, few);
        let next = publish(&broker, 0, 2).await[0].position;
        assert_eq!((next.epoch, next.offset), (epoch, 5));
        for since in places(&after[0]) {
            assert_eq!(follows(&broker, since), (Some(Gap::Trimmed), vec![5, 6]), "{since:?}");
        }
        for since in places(&after[1]) {
            assert_eq!(follows(&broker, since), (None, vec![5, 6]), "{since:?}");
        }
        assert_eq!(follows(&broker, places(&before[0])[0]), (Some(Gap::Epoch), vec![5, 6]));
        broker.purge(&channel(0)).await.unwrap();
        let anew = publish(&broker, 0, 2).await;
        assert_eq!(
            follows(&broker, places(&anew[0])[0]),
            (None, vec![2]),
            "an epoch that takes over nothing"
        );
    });
}

/// What was taken over has records of an earlier epoch: they are as needed as others.
#[test]
fn what_was_taken_over_lives_on_when_its_segment_is_rewritten() {
    run(async {
        let few = Retention { messages: 5, ..ALL };
        let disk = SimulatedDisk::default();
        let broker = open_edited(&disk, 0, few);
        let mut inbox = Inbox::default();
        publish(&broker, 9, 16).await;
        inbox.publish(&broker, 2).await;
        drop(broker);
        drop(open_edited(&disk, 0, few));
        for edit in 1..=2 {
            let broker = open_edited(&disk, edit, few);
            inbox.take_over(&broker).await;
            publish(&broker, 9, 80).await;
            tidy(&broker);
            let first = disk.sizes()[0] as u64;
            assert!(
                disk.has("0000000000000001.log") && first < settings().segment_bytes / 2,
                "{first}: it is rewritten"
            );
            inbox.check(&broker, false);
            broker.stored.write().hot = Hot::with_room(0);
            inbox.check(&broker, false);
            drop(broker);
            inbox.check_on(&disk.after_power_cut(0), |disk| open_edited(disk, edit, few));
            drop(open_edited(&disk, edit, few));
        }
    });
}

/// Damage hides a purge and what came of it: what was purged is not taken for what was taken over later, though the offsets fit.
#[test]
fn what_another_epoch_took_over_does_not_come_back() {
    run(async {
        let disk = SimulatedDisk::default();
        let broker = open_edited(&disk, 0, ALL);
        for item in 0..3 {
            broker.publish(request(0, &format!("purged {item}"))).await.unwrap();
        }
        broker.purge(&channel(0)).await.unwrap();
        for item in 0..3 {
            broker.publish(request(0, &format!("rots {item}"))).await.unwrap();
        }
        drop(broker);
        drop(open_edited(&disk, 0, ALL));
        let broker = open_edited(&disk, 1, ALL);
        let next = broker.publish(request(0, "next")).await.unwrap().position;
        assert_eq!((next.offset, data_of(&broker, 0).len()), (4, 4));
        drop(broker);
        disk.with_last_file(|bytes| {
            let last = b"purged 2";
            let place = bytes.windows(last.len()).position(|part| part == last).unwrap();
            // The length of the purge.
            bytes[place + last.len()] ^= 1;
        });
        disk.garble(b"rots");
        for _ in 0..2 {
            let broker = open_edited(&disk, 1, ALL);
            assert_eq!(data_of(&broker, 0), ["next"]);
            assert_eq!(follows(&broker, Since::Position(next)), (None, vec![]));
            let before = Since::InEpoch { epoch: next.epoch, offset: 3 };
            assert_eq!(follows(&broker, before), (Some(Gap::Epoch), vec![4]));
        }
    });
}

/// Where the damage is in the channel itself, what is before it is given up, unless nothing is behind it.
#[test]
fn a_hole_in_a_channel_costs_what_is_before_it() {
    run(async {
        for (rotten, left) in [(1, vec![3, 4]), (3, vec![1, 2, 3])] {
            let disk = SimulatedDisk::default();
            let broker = open_plain(&disk);
            let mut published = Vec::new();
            for item in 0..4 {
                published.push(broker.publish(request(0, &format!("number {item}"))).await.unwrap());
            }
            broker.publish(request(1, "behind it")).await.unwrap();
            drop(broker);
            disk.garble(format!("number {rotten}").as_bytes());
            let broker = open_plain(&disk);
            assert_eq!(follows(&broker, Since::All), (Some(Gap::Epoch), left.clone()));
            let next = broker.publish(request(0, "next")).await.unwrap().position;
            assert_eq!(next.epoch == published[0].position.epoch, rotten == 1, "what is proven goes on");
            drop(broker);
            let broker = open_plain(&disk);
            let all = [&left[..], &[next.offset]].concat();
            assert_eq!(follows(&broker, Since::All), (Some(Gap::Epoch), all));
            for since in published[..rotten].iter().flat_map(places) {
                assert_eq!(follows(&broker, since).0, Some(Gap::Epoch), "{since:?}");
            }
        }
    });
}
