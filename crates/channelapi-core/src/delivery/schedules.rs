//! Random schedules: connections of all kinds join, fall behind, read a little, leave and come in again, while things are published
//! and history is trimmed. Whatever happens, what each of them was told must be true.

use super::tests::{Client, List, channel, join, start, until};
use super::*;
use crate::broker::{History as _, PublicationSink as _};
use crate::model::{EventName, Publication};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

const NAMES: [&str; 3] = ["a", "b", "c"];
const CLIENTS: usize = 6;

/// What happens, one after the other.
#[derive(Debug, Clone)]
enum Step {
    /// Something is stored; a late one is handed over with the next one.
    Publish {
        name: usize,
        is_text: bool,
        is_late: bool,
    },
    Volatile {
        name: usize,
        is_text: bool,
    },
    /// A client comes in, with the channels of which the lowest bits are set.
    Enter {
        id: usize,
        names: u8,
        starts: Start,
    },
    /// It joins one more channel.
    Join {
        id: usize,
        name: usize,
        start: Start,
    },
    /// It leaves everything, and may come in again on the same connection.
    Leave(usize),
    Read {
        id: usize,
        bytes: usize,
    },
    Trim(prop::sample::Index),
    Yield,
    Disk(bool),
}

/// From where on somebody wants to hear a channel.
#[derive(Debug, Clone)]
enum Start {
    Now,
    After(prop::sample::Index),
}

fn place() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::Now), any::<prop::sample::Index>().prop_map(Start::After)]
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0..CLIENTS;
    let name = || 0..NAMES.len();
    prop_oneof![
        12 => (name(), any::<bool>(), prop::bool::weighted(0.4))
            .prop_map(|(name, is_text, is_late)| Step::Publish { name, is_text, is_late }),
        2 => (name(), any::<bool>()).prop_map(|(name, is_text)| Step::Volatile { name, is_text }),
        5 => (id(), 1..8_u8, place()).prop_map(|(id, names, starts)| Step::Enter { id, names, starts }),
        4 => (id(), name(), place()).prop_map(|(id, name, start)| Step::Join { id, name, start }),
        1 => id().prop_map(Step::Leave),
        8 => (id(), 1..60_usize).prop_map(|(id, bytes)| Step::Read { id, bytes }),
        1 => any::<prop::sample::Index>().prop_map(Step::Trim),
        8 => Just(Step::Yield),
        1 => any::<bool>().prop_map(Step::Disk),
    ]
}

/// What a client must be told, since it came in.
struct Expectation {
    form: Form,
    /// What it hears, and from behind which turn on.
    channels: BTreeMap<usize, u64>,
    /// Those that count for where it stands.
    counted: BTreeSet<usize>,
    /// For each reply, the channels that are heard from another place behind it.
    replies: Vec<BTreeMap<usize, u64>>,
}

/// A client that understands no gaps, one that wants to know where things are, and those that come back.
fn form_of(id: usize) -> Form {
    [Form::Plain, Form::Meta, Form::Resumable, Form::Resumable, Form::Resumable, Form::ResumableMeta][id]
}

struct Scene {
    list: Arc<List>,
    fanout: Arc<Fanout>,
    clients: Vec<Arc<Client>>,
    here: Vec<Option<Expectation>>,
    volatile: usize,
    late: Vec<Publication>,
}

impl Scene {
    async fn act(&mut self, step: Step) {
        match step {
            Step::Publish { name, is_text, is_late } => {
                let turn = self.list.top().turn + 1;
                let data = data(&format!("{turn}:{}", NAMES[name]), is_text);
                self.late.push(self.list.store(NAMES[name], &data));
                if !is_late {
                    self.hand_over();
                }
            }
            Step::Volatile { name, is_text } => {
                self.volatile += 1;
                let text = data(&format!("v{}:{}", self.volatile, NAMES[name]), is_text);
                let (channel, event) = (channel(NAMES[name]), EventName::default());
                self.fanout.deliver(Publication {
                    channel,
                    event,
                    data: text.into(),
                    published_at: 0,
                    kept: None,
                });
            }
            Step::Enter { id, names, starts } => {
                self.leave(id).await;
                let form = form_of(id);
                let channels: BTreeMap<usize, (From, u64)> = (0..3)
                    .filter(|name| names >> name & 1 == 1)
                    .map(|name| (name, self.from(&starts)))
                    .collect();
                let named: Vec<_> = channels.iter().map(|(name, (from, _))| (NAMES[*name], *from)).collect();
                let request = join(&self.clients[id], &named, form);
                let counted =
                    if request.is_resumable { channels.keys().copied().collect() } else { BTreeSet::new() };
                let channels: BTreeMap<_, _> =
                    channels.into_iter().map(|(name, (_, after))| (name, after)).collect();
                let replies = vec![channels.clone()];
                self.here[id] = Some(Expectation { form, channels, counted, replies });
                self.fanout.join(request).await.unwrap();
            }
            Step::Join { id, name, start } => {
                let (from, after) = self.from(&start);
                let Some(here) = &mut self.here[id] else { return };
                // Whoever is there already goes on, unless it says from where.
                let is_told = from != From::Now || !here.channels.contains_key(&name);
                here.replies.push(is_told.then_some((name, after)).into_iter().collect());
                if is_told {
                    here.channels.insert(name, after);
                }
                let request = join(&self.clients[id], &[(NAMES[name], from)], here.form);
                self.fanout.join(Join { is_resumable: false, ..request }).await.unwrap();
            }
            Step::Leave(id) => self.leave(id).await,
            Step::Read { id, bytes } => {
                if self.clients[id].read(bytes) {
                    self.fanout.drained(self.clients[id].id);
                }
            }
            Step::Trim(until) => {
                let until = until.index(self.list.publications.lock().len() + 1) + 1;
                self.list.complete_since.fetch_max(until, Ordering::Relaxed);
            }
            Step::Yield => tokio::task::yield_now().await,
            Step::Disk(is_on_disk) => self.list.is_on_disk.store(is_on_disk, Ordering::Relaxed),
        }
    }

    fn hand_over(&mut self) {
        self.late.drain(..).for_each(|publication| self.fanout.deliver(publication));
    }

    fn from(&self, start: &Start) -> (From, u64) {
        let top = self.list.top().turn;
        match start {
            Start::Now => (From::Now, top),
            Start::After(index) => {
                let after = index.index(usize::try_from(top).unwrap() + 1) as u64;
                (From::After(after), after)
            }
        }
    }

    async fn leave(&mut self, id: usize) {
        self.fanout.disconnect(self.clients[id].id).await.unwrap();
        self.judge(id);
        self.clients[id].forget();
        self.here[id] = None;
    }

    /// Of the publications that a client must be told: those in one of its channels, by turn.
    fn expected(&self, name: usize, after: u64) -> Vec<u64> {
        let all = self.list.publications.lock();
        let own = all.iter().filter(|one| one.channel == channel(NAMES[name]));
        own.filter_map(Publication::turn).filter(|turn| *turn > after).collect()
    }

    /// Whether a client has everything that is left.
    fn is_complete(&self, id: usize) -> bool {
        let Some(here) = &self.here[id] else { return true };
        if self.clients[id].state.lock().end.is_some() {
            return true;
        }
        let gone = self.list.complete_since.load(Ordering::Relaxed) as u64;
        let events = self.clients[id].events();
        let received = |name: usize| -> BTreeSet<u64> {
            let last = here.replies.iter().rposition(|reply| reply.contains_key(&name)).unwrap_or_default();
            let behind = events.iter().scan(0, |count, event| {
                *count += usize::from(event == "joined");
                Some((*count, event))
            });
            let told = behind.filter(|(count, _)| *count > last).filter_map(|(_, event)| kept(event));
            told.filter(|(_, one)| *one == name).map(|(turn, _)| turn).collect()
        };
        here.channels.iter().all(|(name, after)| {
            let received = received(*name);
            self.expected(*name, *after).iter().all(|turn| *turn < gone || received.contains(turn))
        })
    }

    /// Whether what a client was told so far is true.
    fn judge(&self, id: usize) {
        let Some(here) = &self.here[id] else { return };
        let events = self.clients[id].events();
        let is_open = self.clients[id].state.lock().end.is_none();
        // Since the place from which a channel was last heard, and ever.
        let mut channels: BTreeMap<usize, (u64, BTreeSet<u64>)> = BTreeMap::new();
        let mut ever: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        let mut replies = here.replies.iter();
        let mut gaps = BTreeSet::new();
        let mut volatile = BTreeSet::new();
        let mut behind_text = false;
        let mut stands = 0;
        for (index, event) in events.iter().enumerate() {
            let story = || format!("{event} ({index}) of client {id}: {events:?}");
            assert!(!behind_text || event.starts_with('@'), "no place behind the text before {}", story());
            behind_text = here.form == Form::Resumable && event.starts_with('"');
            if let Some((turn, name)) = kept(event) {
                let channel = channels.get_mut(&name);
                let (after, told) = channel.unwrap_or_else(|| panic!("not asked for: {}", story()));
                assert!(turn > *after, "seen before: {}", story());
                assert!(told.last().is_none_or(|last| *last < turn), "out of order: {}", story());
                // What is left out was said to be missing before what follows.
                let is_missing =
                    self.expected(name, *after).iter().any(|one| *one < turn && !told.contains(one));
                assert!(!is_missing || gaps.contains(&name), "left out before {}", story());
                told.insert(turn);
                ever.entry(name).or_default().insert(turn);
            } else if let Some(promised) = event.strip_prefix('@') {
                let promised: u64 = promised.parse().unwrap();
                // What is kept nowhere knows only where those stand who were handed everything that is stored.
                let is_old = index > 0 && events[index - 1].starts_with("\"v");
                assert!(is_old || promised >= stands, "stood later before {}", story());
                if !is_old {
                    stands = promised;
                }
                for name in &here.counted {
                    let told = ever.entry(*name).or_default();
                    let expected = self.expected(*name, here.replies[0][name]);
                    let is_missing = expected.iter().any(|turn| *turn <= promised && !told.contains(turn));
                    assert!(!is_missing || gaps.contains(name), "promised too much: {}", story());
                }
            } else if let Some(gap) = event.strip_prefix("gap:") {
                gaps.insert(NAMES.iter().position(|name| gap.starts_with(name)).unwrap());
                assert!(
                    self.list.complete_since.load(Ordering::Relaxed) > 1,
                    "nothing is missing: {}",
                    story()
                );
                assert!(
                    join(&self.clients[id], &[], here.form).is_aware,
                    "it does not understand {}",
                    story()
                );
            } else if event.trim_matches('"').starts_with('v') {
                assert!(volatile.insert(event.clone()), "repeated: {}", story());
            } else {
                assert_eq!(event, "joined");
                for (name, after) in replies.next().expect("it asked for it") {
                    // Nobody is taken forward in a channel that it is in.
                    let place =
                        channels.get(name).map(|(after, told)| told.last().copied().unwrap_or(*after));
                    let after = place.map_or(*after, |place| place.min(*after));
                    channels.insert(*name, (after, BTreeSet::new()));
                }
            }
        }
        assert!(!behind_text, "no place behind the last text of client {id}: {events:?}");
        assert!(is_open || here.form == Form::Plain, "client {id} was closed");
    }
}

fn data(text: &str, is_text: bool) -> String {
    if is_text { format!("\"{text}\"") } else { text.to_owned() }
}

/// The turn and the channel of an event that is kept.
fn kept(event: &str) -> Option<(u64, usize)> {
    let (turn, name) = event.trim_matches('"').split_once(':')?;
    Some((turn.parse().ok()?, NAMES.iter().position(|one| *one == name)?))
}

/// So many random schedules; more where somebody has the time (`SCHEDULES`).
fn cases() -> u32 {
    std::env::var("SCHEDULES").map_or(400, |count| count.parse().expect("SCHEDULES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Whatever they join and however slowly they read: all connections get every publication of their channels that follows where
    /// they started, once and in order, or are told before the next one that something is missing; and no checkpoint promises what
    /// was not delivered.
    #[test]
    fn nothing_is_left_out_or_repeated_or_promised(
        steps in prop::collection::vec(step(), 1..150),
        page in 1_usize..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let list = List::new(page);
            let fanout = start(2, &list);
            fanout.begin(list.top());
            let clients = (0..CLIENTS as u64).map(|id| Client::new(id, id == 4)).collect();
            let here = (0..CLIENTS).map(|_| None).collect();
            let mut scene = Scene { list, fanout, clients, here, volatile: 0, late: Vec::new() };
            for step in steps {
                scene.act(step).await;
            }
            scene.hand_over();
            for id in 0..CLIENTS {
                let client = scene.clients[id].clone();
                until(|| {
                    if client.drain() {
                        scene.fanout.drained(client.id);
                    }
                    scene.is_complete(id)
                })
                .await;
                scene.judge(id);
                scene.fanout.disconnect(client.id).await.unwrap();
            }
            assert_eq!(scene.fanout.channels(), 0, "nothing is left of who is gone");
        });
    }
}
