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
    /// Whether it may have been forgotten: what is not known is called missing.
    is_forgotten: bool,
}

impl Told {
    fn publish(&mut self, data: String, ends: Option<u64>) {
        self.data.push(data);
        self.ends.push(ends);
    }

    /// What was published from a place on, and still lives.
    fn living(&self, from: usize, now: u64) -> Vec<&str> {
        let living = (from..self.data.len()).filter(|place| self.ends[*place].is_none_or(|ends| ends > now));
        living.map(|place| self.data[place].as_str()).collect()
    }
}

/// A client that stood somewhere, and how much of each channel had been published then.
struct Client {
    cursor: Cursor,
    had: Vec<usize>,
}

const RETENTION: Retention = Retention { messages: 6, age: 1_000, bytes: 2_000 };

/// Where a client stands and what it gets, from memory and from the disk, at one moment: upkeep comes of its own accord, too,
/// and may take what is too old between two looks.
fn read(broker: &EmbeddedBroker, name: usize, cursor: Cursor) -> (Start, HistoryPage) {
    let look = || {
        let start = broker.locate(&channel(name), Since::Cursor(cursor));
        let query = HistoryQuery { after: start.after, ..EVERYTHING };
        (start, broker.history(&channel(name), query).unwrap(), broker.recent_history(&channel(name), query))
    };
    loop {
        let (first, second) = (look(), look());
        if (&first.0, &first.1) == (&second.0, &second.1) {
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
            let (Start { gap, .. }, page) = read(broker, name, client.cursor);
            let missed = told.living(client.had[name], now);
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_called_complete_that_is_not(acts in prop::collection::vec(act(), 1..120)) {
        run(async {
            let clock = Clock::manual(1_000);
            let mut disk = SimulatedDisk::default();
            let mut broker = Some(open_with(&disk, RETENTION, &clock));
            let mut told: Vec<Told> = (0..6).map(|_| Told::default()).collect();
            let mut clients: Vec<Client> = Vec::new();
            let mut number = 0;
            for act in acts {
                let now = broker.as_ref().expect("it runs");
                match act {
                    Act::Publish(name, size) => {
                        number += 1;
                        let data = format!("{number}:{}", "x".repeat(size));
                        now.publish(request(name, &data)).await.unwrap();
                        told[name].publish(data, None);
                    }
                    Act::Batch(name, count) => {
                        let batch: Vec<_> = (0..count).map(|item| format!("{number}/{item}")).collect();
                        number += 1;
                        for result in now.publish_all(batch.iter().map(|data| request(name, data)).collect()).await {
                            result.unwrap();
                        }
                        for data in batch {
                            told[name].publish(data, None);
                        }
                    }
                    Act::Brief(name, count, ttl) => {
                        for item in 0..count {
                            let data = format!("{number}/{item} for {ttl}");
                            let ttl = Duration::from_millis(ttl);
                            now.publish(brief(name, &data, &clock, ttl)).await.unwrap();
                            told[name].publish(data, Some(clock.unix_millis() + crate::clock::millis_of(ttl)));
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
                        broker = Some(open_with(&disk, RETENTION, &clock));
                    }
                }
                let now = broker.as_ref().expect("it runs");
                check(now, &told, &clients, clock.unix_millis());
                if clients.len() < 12 {
                    let had = told.iter().map(|told| told.data.len()).collect();
                    clients.push(Client { cursor: now.stored.read().top().cursor, had });
                }
            }
        });
    }
}
