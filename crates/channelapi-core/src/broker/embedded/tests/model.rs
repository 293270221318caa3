//! The log beside a plain map: whatever is done to both, the log never claims what the map does not know.

use super::expiry::brief;
use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    Publish(usize, usize),
    Batch(usize, usize),
    /// Some that live for so many milliseconds.
    Brief(usize, usize, u64),
    Purge(usize),
    Wait(u64),
    Tidy,
    /// Channels of which nothing is kept are forgotten.
    Forget,
    /// A power cut and a start; the flag brings removed files back.
    Restart(usize, bool),
    /// A start with so little memory that every channel is forgotten of which nothing is kept, while the log is read; and one with enough.
    Cramped,
    /// A start with other policies for what is kept in memory only: what was quiet is in doubt.
    Edit,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0_usize..6, 0_usize..150).prop_map(|(name, size)| Act::Publish(name, size)),
        2 => (0_usize..6, 2_usize..5).prop_map(|(name, count)| Act::Batch(name, count)),
        4 => (0_usize..6, 1_usize..4, 1_u64..300).prop_map(|(name, count, ttl)| Act::Brief(name, count, ttl)),
        1 => (0_usize..6).prop_map(Act::Purge),
        2 => (1_u64..400).prop_map(Act::Wait),
        2 => Just(Act::Tidy),
        1 => Just(Act::Forget),
        2 => (0_usize..300, any::<bool>()).prop_map(|(kept, is_back)| Act::Restart(kept, is_back)),
        1 => Just(Act::Cramped),
        1 => Just(Act::Edit),
    ]
}

/// Everything that was ever published in a channel, and where clients stood afterwards.
#[derive(Default)]
struct Told {
    data: Vec<String>,
    /// When each of them is over, if ever.
    ends: Vec<Option<u64>>,
    /// Publications before this one were purged.
    purged: usize,
    /// Whether it may have been forgotten, or was in doubt: what is not known is called missing.
    is_forgotten: bool,
    newest: Option<Position>,
}

impl Told {
    fn publish(&mut self, data: String, ends: Option<u64>, published: &Published) {
        self.data.push(data);
        self.ends.push(ends);
        self.newest = Some(published.position);
    }

    /// What was published from a place on, and still lives.
    fn living(&self, from: usize, now: u64) -> Vec<&str> {
        let living = (from..self.data.len()).filter(|place| self.ends[*place].is_none_or(|ends| ends > now));
        living.map(|place| self.data[place].as_str()).collect()
    }
}

/// A client that stood somewhere, how much of each channel had been published then, and what was the newest of it.
struct Client {
    cursor: Cursor,
    had: Vec<usize>,
    newest: Vec<Option<Position>>,
}

const RETENTION: Retention = Retention { messages: 6, age: 1_000, bytes: 2_000 };

/// Where a client stands and what it gets, from memory and from the disk, at one moment: upkeep comes of its own accord, too,
/// and may take what is too old between two looks.
fn read(broker: &EmbeddedBroker, name: usize, since: Since) -> (Start, HistoryPage) {
    let look = || {
        let start = broker.locate(&channel(name), since);
        let query = HistoryQuery { after: start.after, ..EVERYTHING };
        // The cursor of a moment never comes twice.
        let steady = |page: HistoryPage| {
            let cursor = key().of_publication(key().open(page.cursor));
            HistoryPage { cursor, ..page }
        };
        let recent = broker.recent_history(&channel(name), query).map(steady);
        (start, steady(broker.history(&channel(name), query).unwrap()), recent)
    };
    loop {
        let (first, second) = (look(), look());
        // All three: between two of them upkeep may come in the first look as well, and then the second one differs in one only.
        if first == second {
            let (start, page, recent) = first;
            assert!(recent.is_none_or(|recent| recent == page), "what is in memory is what is on disk");
            return (start, page);
        }
    }
}

fn check(broker: &EmbeddedBroker, told: &[Told], clients: &[Client], now: u64) {
    for (name, told) in told.iter().enumerate() {
        let kept = data_of(broker, name);
        let kept: Vec<_> = kept.iter().map(String::as_str).collect();
        assert!(told.living(0, now).ends_with(&kept), "what is kept is the end of what was published");
        assert!(kept.len() <= told.data.len() - told.purged);
        for client in clients {
            let missed = told.living(client.had[name], now);
            if let Some(newest) = client.newest[name] {
                let Position { epoch, offset, .. } = newest;
                for since in [Since::Position(newest), Since::InEpoch { epoch, offset }] {
                    let (Start { gap, .. }, page) = read(broker, name, since);
                    let got = page.publications.iter().map(|it| &it.data[..]);
                    let is_all = got.eq(missed.iter().map(|missed| missed.as_bytes()));
                    assert!(gap.is_some() || is_all, "channel {name}: {since:?} is called complete");
                }
            }
            let (Start { gap, .. }, page) = read(broker, name, Since::Cursor(client.cursor));
            let got: Vec<_> = page.publications.iter().map(|p| String::from_utf8_lossy(&p.data)).collect();
            if gap.is_none() {
                assert!(
                    got == missed,
                    "channel {name}: {got:?} is called complete, but {missed:?} was missed"
                );
            } else {
                assert!(got.len() <= missed.len() && missed.ends_with(&kept[kept.len() - got.len()..]));
            }
            let is_lost = matches!(gap, Some(Gap::Diverged | Gap::Ahead));
            assert!(!is_lost, "no life was lost, but channel {name} says {gap:?}");
            if client.had[name] == told.data.len()
                && client.had[name] >= told.purged.max(1)
                && told.purged == 0
                && !told.is_forgotten
            {
                assert_eq!(gap, None, "channel {name}: nothing was missed");
            }
        }
    }
}

/// Whether a channel can keep one more without giving up another one.
fn has_room(broker: &EmbeddedBroker, name: usize, now: u64) -> bool {
    /// More than one takes.
    const RECORD_BYTES: u64 = 400;
    let stored = broker.stored.read();
    stored.index.channel(&channel(name)).is_none_or(|known| {
        known.entries.len() < RETENTION.messages
            && known.bytes + RECORD_BYTES <= RETENTION.bytes
            && known.entries.front().is_none_or(|oldest| now - oldest.published_at <= RETENTION.age)
    })
}

/// In which channels other than ours are kept in memory differs from one number to the next.
fn open_edited(disk: &SimulatedDisk, clock: &Clock, edit: usize) -> EmbeddedBroker {
    open_within(disk, clock, edit, usize::MAX)
}

fn open_within(disk: &SimulatedDisk, clock: &Clock, edit: usize, index_bytes_max: usize) -> EmbeddedBroker {
    let policy = |durability| Policy { durability, retention: RETENTION, replay_on_join: 0 };
    let in_memory = (Pattern::new(&format!("memory-{edit}-*")), policy(Durability::Memory));
    open_as(
        disk,
        clock,
        Policies::new(vec![in_memory], policy(Durability::Fsync)),
        StoreSettings { index_bytes_max, ..settings() },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_called_complete_that_is_not(acts in prop::collection::vec(act(), 1..120)) {
        run(async {
            let clock = Clock::manual(1_000);
            let mut disk = SimulatedDisk::default();
            let mut edit = 0;
            let mut broker = Some(open_edited(&disk, &clock, edit));
            let mut told: Vec<Told> = (0..6).map(|_| Told::default()).collect();
            let mut clients: Vec<Client> = Vec::new();
            let mut number = 0;
            for act in acts {
                let now = broker.as_ref().expect("it runs");
                match act {
                    Act::Publish(name, size) => {
                        number += 1;
                        let data = format!("{number}:{}", "x".repeat(size));
                        // In this order: where there is room now, nothing that is looked at next is old enough to go.
                        let (has_room, before) = (has_room(now, name, clock.unix_millis()), data_of(now, name));
                        let published = now.publish(request(name, &data)).await.unwrap();
                        let after = data_of(now, name);
                        assert!(!has_room || after[..after.len() - 1] == before, "what was there is still there");
                        told[name].publish(data, None, &published);
                    }
                    Act::Batch(name, count) => {
                        let batch: Vec<_> = (0..count).map(|item| format!("{number}/{item}")).collect();
                        number += 1;
                        let results = now.publish_all(batch.iter().map(|data| request(name, data)).collect()).await;
                        for (data, result) in batch.into_iter().zip(results) {
                            told[name].publish(data, None, &result.unwrap());
                        }
                    }
                    Act::Brief(name, count, ttl) => {
                        for item in 0..count {
                            let data = format!("{number}/{item} for {ttl}");
                            let ttl = Duration::from_millis(ttl);
                            let published = now.publish(brief(name, &data, &clock, ttl)).await.unwrap();
                            let ends = clock.unix_millis() + crate::clock::millis_of(ttl);
                            told[name].publish(data, Some(ends), &published);
                        }
                        number += 1;
                    }
                    Act::Purge(name) => {
                        now.purge(&channel(name)).await.unwrap();
                        told[name].purged = told[name].data.len();
                    }
                    Act::Wait(millis) => clock.advance(Duration::from_millis(millis)),
                    Act::Tidy => tidy(now),
                    Act::Forget => {
                        forget_idle(now);
                        for told in &mut told {
                            told.is_forgotten = true;
                        }
                    }
                    Act::Restart(kept, is_back) => {
                        disk.0.lock().moments = Some(Vec::new());
                        drop(broker.take());
                        disk = disk.cut(kept, is_back);
                        broker = Some(open_edited(&disk, &clock, edit));
                    }
                    Act::Cramped => {
                        drop(broker.take());
                        for told in &mut told {
                            told.is_forgotten = true;
                        }
                        let cramped = open_within(&disk, &clock, edit, 1);
                        check(&cramped, &told, &clients, clock.unix_millis());
                        drop(cramped);
                        broker = Some(open_edited(&disk, &clock, edit));
                    }
                    Act::Edit => {
                        drop(broker.take());
                        edit += 1;
                        broker = Some(open_edited(&disk, &clock, edit));
                        for told in &mut told {
                            told.is_forgotten = true;
                        }
                    }
                }
                let now = broker.as_ref().expect("it runs");
                check(now, &told, &clients, clock.unix_millis());
                if clients.len() < 12 {
                    let had = told.iter().map(|told| told.data.len()).collect();
                    let newest = told.iter().map(|told| told.newest).collect();
                    clients.push(Client { cursor: now.stored.read().top().cursor, had, newest });
                }
            }
        });
    }
}
