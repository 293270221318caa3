//! A server that keeps every promise, with its publishers and clients, played step by step without a network.
//!
//! Told to have a flaw, it breaks one promise now and then, and notes when somebody could have noticed.

mod clients;
mod confirming;
pub(super) mod flaw;
mod publishers;
mod purging;
mod server;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use self::clients::Player;
use self::publishers::{Pending, Publisher};
use self::server::Log;
use crate::choices::Choices;
use crate::history::{
    Branch, Channel, ChannelId, Client, Door, History, Life, Position, Publish, Purge, Restore, Time,
};
use flaw::Flaw;

const DURABLE: ChannelId = ChannelId(0);
const OTHER: ChannelId = ChannelId(1);
const TRIMMED: ChannelId = ChannelId(2);
const MEMORY: ChannelId = ChannelId(3);
/// Some of what is published here has a time to live.
const EXPIRING: ChannelId = ChannelId(4);
/// One publisher has it for itself, and has it purged.
const PURGED: ChannelId = ChannelId(5);
const CHANNELS: [ChannelId; 6] = [DURABLE, OTHER, TRIMMED, MEMORY, EXPIRING, PURGED];
/// The last of the publishers.
const PURGER: usize = 4;
const KEPT: u64 = 8;
/// Milliseconds; a tick takes some of them, so that a message can be over for long before a run ends.
const TICK: u64 = 5;
const SHORT_LIFE: u64 = 100;
const LONG_LIFE: u64 = 1_000_000_000;

/// Once in how many opportunities a flaw shows.
const FLAW_RARITY: u64 = 6;

pub(super) struct Simulation {
    choices: Choices,
    flaw: Option<Flaw>,
    /// How often the flaw showed in a way that somebody outside was told.
    pub(super) struck: usize,
    has_swapped: bool,
    now: u64,
    life: Life,
    branch: Branch,
    logs: BTreeMap<ChannelId, Log>,
    /// How far clients have confirmed what is in a channel, by their index.
    consumers: BTreeMap<(usize, ChannelId), Position>,
    /// The directory as it was copied.
    copy: Option<Copy>,
    publishers: Vec<Publisher>,
    clients: Vec<Player>,
    /// The client whose connection is breaking, so that what it says does not arrive any more.
    unheard: Option<usize>,
    publishes: Vec<Publish>,
    purges: Vec<Purge>,
    /// What was there before the last purge, which was answered.
    purged: Option<Log>,
    restores: Vec<Restore>,
}

struct Copy {
    at: Time,
    logs: BTreeMap<ChannelId, Log>,
    consumers: BTreeMap<(usize, ChannelId), Position>,
}

impl Simulation {
    pub(super) fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut choices = Choices::new(seed, "simulation");
        let logs = CHANNELS.into_iter().map(|channel| (channel, Log::new(&mut choices))).collect();
        let player = |name: &str, door, channels: &[ChannelId], confirms: &[ChannelId]| Player {
            client: Client { name: name.to_owned(), door, channels: channels.to_vec(), events: Vec::new() },
            confirms: confirms.to_vec(),
            wire: None,
            had_pid: false,
            cursors: BTreeMap::new(),
            foreign: false,
            begins: BTreeMap::new(),
            start: None,
            has_gaps: false,
        };
        let client = |name: &str, door, channels: &[ChannelId]| player(name, door, channels, &[]);
        let clients = vec![
            player("explicit", Door::Explicit, &[DURABLE, OTHER, MEMORY], &[DURABLE, MEMORY]),
            player("confirming", Door::Explicit, &[DURABLE, MEMORY], &[DURABLE, MEMORY]),
            player("confirming-trimmed", Door::Explicit, &[TRIMMED], &[TRIMMED]),
            player("confirming-expiring", Door::Explicit, &[EXPIRING], &[EXPIRING]),
            player("confirming-memory", Door::Explicit, &[MEMORY], &[MEMORY]),
            client("explicit-trimmed", Door::Explicit, &[TRIMMED]),
            client("explicit-expiring", Door::Explicit, &[EXPIRING]),
            client("expiring", Door::Handshake, &[EXPIRING]),
            client("explicit-purged", Door::Explicit, &[PURGED]),
            client("stream-purged", Door::Stream, &[PURGED]),
            client("purged", Door::Handshake, &[PURGED]),
            client("explicit-memory", Door::Explicit, &[MEMORY]),
            client("stream", Door::Stream, &[OTHER]),
            client("stream-trimmed", Door::Stream, &[TRIMMED]),
            client("stream-memory", Door::Stream, &[MEMORY]),
            client("one", Door::Handshake, &[DURABLE]),
            client("all", Door::Handshake, &CHANNELS),
            client("weak", Door::Handshake, &[TRIMMED, MEMORY]),
            client("seed", Door::Seed, &[DURABLE]),
            client("seeds", Door::Seed, &[OTHER, MEMORY]),
        ];
        let publishers = (0..=PURGER).map(|_| Publisher { number: 0, batches: 0, pending: None }).collect();
        Self {
            choices,
            flaw,
            struck: 0,
            has_swapped: false,
            now: 0,
            life: Life(0),
            branch: Branch(0),
            logs,
            consumers: BTreeMap::new(),
            copy: None,
            publishers,
            clients,
            unheard: None,
            publishes: Vec::new(),
            purges: Vec::new(),
            purged: None,
            restores: Vec::new(),
        }
    }

    pub(super) fn play(mut self, steps: usize) -> (History, usize) {
        for _ in 0..steps {
            match self.choices.number(0..=99) {
                0 => self.kill(),
                1 => self.copy_directory(),
                2 if self.choices.one_in(4) => self.restore_directory(),
                3..=6 => self.break_a_connection(),
                7..=16 => self.connect_somebody(),
                17..=55 => self.read_somewhere(),
                _ => self.work(),
            }
        }
        self.drain();
        let dumps = self.dumps();
        let history = History {
            channels: CHANNELS.iter().map(|channel| policy(*channel)).collect(),
            publishes: self.publishes,
            purges: self.purges,
            clients: self.clients.into_iter().map(|player| player.client).collect(),
            restores: self.restores,
            dumps,
            late: Vec::new(),
        };
        (history, self.struck)
    }

    fn tick(&mut self) -> Time {
        self.now += TICK;
        self.time()
    }

    fn time(&self) -> Time {
        Time(Duration::from_millis(self.now))
    }

    fn has(&mut self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw) && self.choices.one_in(FLAW_RARITY)
    }

    /// Everybody gets what there is: publishers finish, clients return and read, and then a last message of each channel.
    fn drain(&mut self) {
        while self.publishers.iter().any(|publisher| publisher.pending.is_some()) {
            for index in 0..self.publishers.len() {
                match self.publishers[index].pending {
                    None => {}
                    Some(Pending { stored: None, .. }) => self.store(index),
                    Some(Pending { publish, stored: Some((position, duplicate)) }) => {
                        self.answer(publish, position, duplicate);
                        self.publishers[index].pending = None;
                    }
                }
            }
        }
        for index in 0..self.clients.len() {
            if self.clients[index].wire.is_none() {
                self.connect(index);
            }
            self.read(index, usize::MAX);
        }
        for channel in CHANNELS {
            let invoked = self.tick();
            let publish = self.begin(0, channel, false, None, invoked);
            let position = self.append(publish);
            self.answer(publish, position, false);
        }
        for index in 0..self.clients.len() {
            self.read(index, usize::MAX);
        }
    }
}

fn policy(channel: ChannelId) -> Channel {
    Channel {
        name: format!("channel-{}", channel.0),
        durable: channel != MEMORY,
        max_messages: (channel == TRIMMED).then_some(KEPT),
    }
}

/// Ids are unique, or nothing that the checker says means anything.
#[test]
fn simulated_publishers_never_use_an_id_twice() {
    let (history, _) = Simulation::new(1, None).play(500);
    let ids: HashSet<_> = history.publishes.iter().map(|publish| publish.id).collect();
    assert_eq!(ids.len(), history.publishes.len());
}
