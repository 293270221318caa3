//! A server that keeps every promise, with its publishers and clients, played step by step without a network.
//!
//! Told to have a flaw, it breaks one promise now and then, and notes when somebody could have noticed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::mutants::Flaw;
use crate::choices::Choices;
use crate::history::{
    Answer, Asked, Branch, Channel, ChannelId, Client, Connected, Delivered, Door, Dump, Entry, Event,
    History, Joined, Life, MessageId, Outcome, Pid, Position, Publish, Reason, Restore, Time,
};

const DURABLE: ChannelId = ChannelId(0);
const OTHER: ChannelId = ChannelId(1);
const TRIMMED: ChannelId = ChannelId(2);
const MEMORY: ChannelId = ChannelId(3);
const CHANNELS: [ChannelId; 4] = [DURABLE, OTHER, TRIMMED, MEMORY];
const KEPT: u64 = 8;

/// Once in how many opportunities a flaw shows.
const FLAW_RARITY: u64 = 6;

pub(super) struct Simulation {
    choices: Choices,
    flaw: Option<Flaw>,
    /// How often the flaw showed in a way that somebody outside was told.
    pub(super) struck: usize,
    now: u64,
    life: Life,
    branch: Branch,
    logs: BTreeMap<ChannelId, Log>,
    /// The directory as it was copied.
    copy: Option<(Time, BTreeMap<ChannelId, Log>)>,
    publishers: Vec<Publisher>,
    clients: Vec<Player>,
    publishes: Vec<Publish>,
    restores: Vec<Restore>,
}

#[derive(Clone)]
struct Log {
    epoch: u64,
    /// How many were trimmed.
    gone: u64,
    messages: Vec<MessageId>,
    keys: HashMap<MessageId, Position>,
}

struct Publisher {
    number: u32,
    /// Index of what it is busy with.
    pending: Option<Pending>,
}

#[derive(Clone, Copy)]
struct Pending {
    publish: usize,
    /// What the server has for this attempt.
    stored: Option<(Position, bool)>,
}

struct Player {
    client: Client,
    wire: Option<VecDeque<Item>>,
    had_pid: bool,
    /// By channel for the explicit door; the handshake door has one for all.
    cursors: BTreeMap<ChannelId, Cursor>,
    /// Its last string argument was a message and no cursor.
    foreign: bool,
}

#[derive(Clone)]
struct Cursor {
    entry: usize,
    life: Life,
    branch: Branch,
    at: Time,
    positions: BTreeMap<ChannelId, Position>,
}

enum Item {
    Event(Event),
    Checkpoint(BTreeMap<ChannelId, Position>),
}

impl Log {
    fn new(choices: &mut Choices) -> Self {
        Self { epoch: choices.number(1..=u64::MAX - 1), gone: 0, messages: Vec::new(), keys: HashMap::new() }
    }

    fn newest(&self) -> Position {
        Position { epoch: self.epoch, offset: self.gone + self.messages.len() as u64 }
    }

    /// Everything behind a position, with its own.
    fn after(&self, position: Position) -> Vec<(Position, MessageId)> {
        let skipped = usize::try_from(position.offset.saturating_sub(self.gone)).unwrap();
        let first = position.offset.max(self.gone) + 1;
        let messages = self.messages.iter().skip(skipped).zip(first..);
        messages.map(|(id, offset)| (Position { epoch: self.epoch, offset }, *id)).collect()
    }
}

impl Simulation {
    pub(super) fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut choices = Choices::new(seed, "simulation");
        let logs = CHANNELS.into_iter().map(|channel| (channel, Log::new(&mut choices))).collect();
        let client = |name: &str, door, channels: &[ChannelId]| Player {
            client: Client { name: name.to_owned(), door, channels: channels.to_vec(), events: Vec::new() },
            wire: None,
            had_pid: false,
            cursors: BTreeMap::new(),
            foreign: false,
        };
        let clients = vec![
            client("explicit", Door::Explicit, &[DURABLE, OTHER]),
            client("explicit-trimmed", Door::Explicit, &[TRIMMED]),
            client("explicit-memory", Door::Explicit, &[MEMORY]),
            client("one", Door::Handshake, &[DURABLE]),
            client("all", Door::Handshake, &CHANNELS),
            client("weak", Door::Handshake, &[TRIMMED, MEMORY]),
            client("seed", Door::Seed, &[DURABLE]),
            client("seeds", Door::Seed, &[OTHER, MEMORY]),
        ];
        let publishers = (0..4).map(|_| Publisher { number: 0, pending: None }).collect();
        Self {
            choices,
            flaw,
            struck: 0,
            now: 0,
            life: Life(0),
            branch: Branch(0),
            logs,
            copy: None,
            publishers,
            clients,
            publishes: Vec::new(),
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
            clients: self.clients.into_iter().map(|player| player.client).collect(),
            restores: self.restores,
            dumps,
        };
        (history, self.struck)
    }

    fn tick(&mut self) -> Time {
        self.now += 1;
        Time(Duration::from_micros(self.now))
    }

    fn has(&mut self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw) && self.choices.one_in(FLAW_RARITY)
    }

    /// Publishers and the store go one step further.
    fn work(&mut self) {
        let index = usize::try_from(self.choices.number(0..=3)).unwrap();
        match self.publishers[index].pending {
            None => self.invoke(index),
            Some(Pending { stored: None, .. }) => self.store(index),
            Some(Pending { publish, stored: Some((position, duplicate)) }) => {
                self.answer(publish, position, duplicate);
                self.publishers[index].pending = None;
                // Some repeat what they know to be stored.
                if self.publishes[publish].keyed && self.choices.one_in(4) {
                    self.publishers[index].pending = Some(Pending { publish, stored: None });
                }
            }
        }
    }

    fn invoke(&mut self, index: usize) {
        let number = self.publishers[index].number;
        self.publishers[index].number += 1;
        let id = MessageId { publisher: u32::try_from(index).unwrap(), number };
        let channel = *self.choices.pick(&CHANNELS).unwrap();
        // A memory channel forgets its keys with everything else, so nobody relies on them.
        let keyed = channel != MEMORY && self.choices.one_in(2);
        let invoked = self.tick();
        let refused = self.choices.one_in(12);
        let outcome = if refused { Outcome::Refused(503) } else { Outcome::Unknown };
        self.publishes.push(Publish { id, channel, keyed, invoked, outcome });
        let publish = self.publishes.len() - 1;
        if !refused {
            self.publishers[index].pending = Some(Pending { publish, stored: None });
        } else if self.has(Flaw::DeliversRefused) {
            let position = self.logs[&channel].newest().next();
            self.logs.get_mut(&channel).unwrap().messages.push(id);
            self.fan_out(channel, position, id);
            // Its place in the history is seen by whoever reads that at the end.
            self.struck += usize::from(channel == DURABLE || channel == OTHER);
        }
    }

    fn store(&mut self, index: usize) {
        let Some(pending) = self.publishers[index].pending else { return };
        let publish = self.publishes[pending.publish].clone();
        let known = self.logs[&publish.channel].keys.get(&publish.id).copied();
        let again = known.is_some() && publish.channel != TRIMMED && self.has(Flaw::StoresKeyTwice);
        let stored = match known {
            Some(position) if publish.keyed && !again => (position, true),
            _ if publish.channel == DURABLE && self.has(Flaw::AcceptsWithoutStoring) => {
                self.struck += 1;
                // Told of a place, the publisher would be contradicted by the next message: too easy to see.
                let at = self.tick();
                self.record(
                    pending.publish,
                    Answer { at, branch: self.branch, position: None, duplicate: false },
                );
                self.publishers[index].pending = None;
                return;
            }
            _ => {
                self.struck += usize::from(again);
                let log = self.logs.get_mut(&publish.channel).unwrap();
                log.messages.push(publish.id);
                let position = log.newest();
                log.keys.insert(publish.id, position);
                if publish.channel == TRIMMED && log.messages.len() as u64 > KEPT {
                    log.messages.remove(0);
                    log.gone += 1;
                }
                self.fan_out(publish.channel, position, publish.id);
                (position, false)
            }
        };
        if let Some(pending) = &mut self.publishers[index].pending {
            pending.stored = Some(stored);
        }
    }

    fn answer(&mut self, publish: usize, position: Position, duplicate: bool) {
        let position =
            (!self.choices.one_in(4) || self.publishes[publish].channel == MEMORY).then_some(position);
        let answer = Answer { at: self.tick(), branch: self.branch, position, duplicate };
        self.record(publish, answer);
    }

    fn record(&mut self, publish: usize, answer: Answer) {
        match &mut self.publishes[publish].outcome {
            Outcome::Stored(answers) => answers.push(answer),
            outcome => *outcome = Outcome::Stored(vec![answer]),
        }
    }

    fn fan_out(&mut self, channel: ChannelId, position: Position, id: MessageId) {
        let batch_ends = self.choices.one_in(2);
        let newest: BTreeMap<_, _> =
            self.logs.iter().map(|(channel, log)| (*channel, log.newest())).collect();
        let foreign = self.has(Flaw::ForeignChannel);
        for player in &mut self.clients {
            let Some(wire) = &mut player.wire else { continue };
            let covered = player.client.channels.contains(&channel);
            if !covered && !foreign {
                continue;
            }
            let position = (player.client.door == Door::Explicit).then_some(position);
            wire.push_back(Item::Event(Event::Delivered(Delivered { channel, id, position })));
            if player.client.door == Door::Handshake && batch_ends {
                wire.push_back(Item::Checkpoint(newest.clone()));
            }
        }
    }

    fn connect_somebody(&mut self) {
        let absent: Vec<_> =
            (0..self.clients.len()).filter(|index| self.clients[*index].wire.is_none()).collect();
        if let Some(index) = self.choices.pick(&absent) {
            self.connect(*index);
        }
    }

    fn connect(&mut self, index: usize) {
        self.tick();
        let wire = match self.clients[index].client.door {
            Door::Seed => self.join_live(index),
            Door::Handshake => self.resume_by_handshake(index),
            Door::Explicit => self.resume_explicitly(index),
        };
        self.clients[index].wire = Some(wire);
    }

    fn connected(&self, asked: Asked, pid: Pid) -> Item {
        Item::Event(Event::Connected(Connected { life: self.life, branch: self.branch, asked, pid }))
    }

    fn join_live(&self, index: usize) -> VecDeque<Item> {
        let joined = self.clients[index].client.channels.iter().map(|&channel| {
            Item::Event(Event::Joined(Joined { channel, asked: Asked::Now, incomplete: None }))
        });
        std::iter::once(self.connected(Asked::Now, Pid::None)).chain(joined).collect()
    }

    fn resume_by_handshake(&mut self, index: usize) -> VecDeque<Item> {
        let player = &self.clients[index];
        let cursor = player.cursors.get(&DURABLE).filter(|_| !player.foreign).cloned();
        let asked = match (&cursor, player.had_pid) {
            (_, false) => Asked::Now,
            (Some(cursor), true) => Asked::After(cursor.entry),
            (None, true) => Asked::NoCursor,
        };
        let channels = player.client.channels.clone();
        let (mut gaps, mut replay) = (Vec::new(), Vec::new());
        for &channel in &channels {
            let reason = match (&cursor, asked) {
                (_, Asked::Now) => None,
                (Some(cursor), _) => self.judge(channel, cursor),
                (None, _) => Some(Reason::NoCursor),
            };
            gaps.extend(reason.map(|reason| Item::Event(Event::Gap { channel, reason })));
            let from =
                cursor.as_ref().filter(|_| asked != Asked::Now).map(|cursor| cursor.positions[&channel]);
            replay.extend(from.into_iter().flat_map(|from| self.replay(channel, from, reason)));
        }
        if self.flaw == Some(Flaw::SilentlyNotRecovered) && asked != Asked::Now && gaps.is_empty() {
            return VecDeque::from([self.connected(asked, Pid::New), Item::Checkpoint(self.newest())]);
        }
        let pid = if asked == Asked::Now || !gaps.is_empty() { Pid::New } else { Pid::Same };
        let mut wire = VecDeque::from([self.connected(asked, pid)]);
        wire.extend(gaps);
        wire.extend(
            replay.into_iter().map(|(channel, id)| {
                Item::Event(Event::Delivered(Delivered { channel, id, position: None }))
            }),
        );
        wire.push_back(Item::Checkpoint(self.newest()));
        wire
    }

    fn resume_explicitly(&mut self, index: usize) -> VecDeque<Item> {
        let mut wire = VecDeque::from([self.connected(Asked::Now, Pid::None)]);
        for channel in self.clients[index].client.channels.clone() {
            let cursor = self.clients[index].cursors.get(&channel).cloned();
            let asked = match &cursor {
                Some(cursor) => Asked::After(cursor.entry),
                None if channel == TRIMMED || channel == MEMORY => Asked::Now,
                None => Asked::All,
            };
            let incomplete = cursor.as_ref().and_then(|cursor| self.judge(channel, cursor));
            wire.push_back(Item::Event(Event::Joined(Joined { channel, asked, incomplete })));
            let from = match (&cursor, asked) {
                (Some(cursor), _) => Some(cursor.positions[&channel]),
                (None, Asked::All) => Some(Position { epoch: self.logs[&channel].epoch, offset: 0 }),
                (None, _) => None,
            };
            let replay = from.map(|from| self.replay_with_positions(channel, from, incomplete));
            for (position, id) in replay.into_iter().flatten() {
                let delivered = Delivered { channel, id, position: Some(position) };
                wire.push_back(Item::Event(Event::Delivered(delivered)));
            }
        }
        wire
    }

    /// Why what the cursor's owner missed in the channel is not complete, if it is not.
    fn judge(&mut self, channel: ChannelId, cursor: &Cursor) -> Option<Reason> {
        let log = &self.logs[&channel];
        let position = cursor.positions[&channel];
        let copied = self.restores.get(usize::from(cursor.branch.0)).map(|restore| restore.copied);
        let gone = log.gone;
        if cursor.branch != self.branch && copied.is_some_and(|copied| cursor.at > copied) {
            if self.flaw == Some(Flaw::TrustsReplacedHistory) {
                return None;
            }
            return Some(Reason::Diverged);
        }
        if position.epoch != log.epoch {
            assert_ne!(cursor.life, self.life);
            if self.has(Flaw::HidesNewEpoch) {
                return None;
            }
            return Some(Reason::Epoch);
        }
        if position.offset < gone {
            if self.flaw == Some(Flaw::HidesTrim) {
                return None;
            }
            return Some(Reason::Trimmed);
        }
        (channel != TRIMMED && self.has(Flaw::FalselyIncomplete)).then_some(Reason::Trimmed)
    }

    fn replay(
        &mut self,
        channel: ChannelId,
        from: Position,
        reason: Option<Reason>,
    ) -> Vec<(ChannelId, MessageId)> {
        let replay = self.replay_with_positions(channel, from, reason);
        replay.into_iter().map(|(_, id)| (channel, id)).collect()
    }

    fn replay_with_positions(
        &mut self,
        channel: ChannelId,
        from: Position,
        reason: Option<Reason>,
    ) -> Vec<(Position, MessageId)> {
        let log = &self.logs[&channel];
        match reason {
            // Whose history is another one starts from now.
            Some(Reason::Diverged | Reason::Epoch | Reason::NoCursor) => return Vec::new(),
            // What follows is not known to be wrong by anybody, unless there is something.
            None if from.epoch != log.epoch => return log.after(Position { offset: 0, ..from }),
            _ => {}
        }
        let mut replay = log.after(from);
        if replay.len() > 1 && self.has(Flaw::SkipsOnResume) {
            replay.remove(0);
        }
        if from.offset > self.logs[&channel].gone && self.has(Flaw::RepeatsOnResume) {
            replay.insert(0, self.logs[&channel].after(Position { offset: from.offset - 1, ..from })[0]);
        }
        if replay.len() > 1 && self.has(Flaw::Reorders) {
            replay.swap(0, 1);
        }
        replay
    }

    fn newest(&self) -> BTreeMap<ChannelId, Position> {
        self.logs.iter().map(|(channel, log)| (*channel, log.newest())).collect()
    }

    fn read_somewhere(&mut self) {
        let index = usize::try_from(self.choices.number(0..=self.clients.len() as u64 - 1)).unwrap();
        let count = usize::try_from(self.choices.number(1..=8)).unwrap();
        self.read(index, count);
    }

    fn read(&mut self, index: usize, count: usize) {
        for _ in 0..count {
            let Some(item) = self.clients[index].wire.as_mut().and_then(VecDeque::pop_front) else { return };
            match item {
                Item::Event(Event::Delivered(delivered)) => self.read_message(index, delivered),
                Item::Event(event) => {
                    if let Event::Connected(connected) = &event
                        && connected.pid != Pid::None
                    {
                        self.clients[index].had_pid = true;
                    }
                    self.log(index, event);
                }
                Item::Checkpoint(positions) => {
                    let entry = self.log(index, Event::Checkpoint);
                    let cursor = self.cursor(entry, positions);
                    self.clients[index].cursors.insert(DURABLE, cursor);
                    self.clients[index].foreign = false;
                }
            }
        }
    }

    fn read_message(&mut self, index: usize, mut delivered: Delivered) {
        if self.has(Flaw::DropsSome) {
            return;
        }
        if self.has(Flaw::Phantom) {
            delivered.id.number += 1_000_000;
            self.struck += 1;
        }
        if self.clients[index].client.door == Door::Explicit && self.has(Flaw::TwoContents) {
            let position = delivered.position.as_mut().unwrap();
            position.offset += 1;
        }
        let twice = self.has(Flaw::DeliversTwice);
        if !self.clients[index].client.channels.contains(&delivered.channel) {
            self.struck += 1;
        }
        let entry = self.log(index, Event::Delivered(delivered));
        if twice {
            self.struck += 1;
            self.log(index, Event::Delivered(delivered));
        }
        match self.clients[index].client.door {
            Door::Seed => {}
            Door::Handshake => self.clients[index].foreign = delivered.id.number.is_multiple_of(7),
            Door::Explicit => {
                let positions = BTreeMap::from([(delivered.channel, delivered.position.unwrap())]);
                let cursor = self.cursor(entry, positions);
                self.clients[index].cursors.insert(delivered.channel, cursor);
            }
        }
    }

    fn cursor(&self, entry: usize, positions: BTreeMap<ChannelId, Position>) -> Cursor {
        let at = Time(Duration::from_micros(self.now));
        Cursor { entry, life: self.life, branch: self.branch, at, positions }
    }

    fn log(&mut self, index: usize, event: Event) -> usize {
        let at = self.tick();
        let events = &mut self.clients[index].client.events;
        events.push(Entry { at, event });
        events.len() - 1
    }

    fn break_a_connection(&mut self) {
        let index = usize::try_from(self.choices.number(0..=self.clients.len() as u64 - 1)).unwrap();
        self.cut(index);
    }

    /// What was already on its way arrives, up to anywhere.
    fn cut(&mut self, index: usize) {
        let Some(length) = self.clients[index].wire.as_ref().map(VecDeque::len) else { return };
        let arrives = usize::try_from(self.choices.number(0..=length as u64)).unwrap();
        self.read(index, arrives);
        self.clients[index].wire = None;
        self.log(index, Event::Closed);
    }

    fn stop(&mut self) {
        for index in 0..self.clients.len() {
            self.cut(index);
        }
        for index in 0..self.publishers.len() {
            let Some(Pending { publish, stored }) = self.publishers[index].pending else { continue };
            if stored.is_none() && self.choices.one_in(2) {
                // It is stored, and nobody is told.
                self.store(index);
            }
            let keyed = self.publishes[publish].keyed;
            self.publishers[index].pending = keyed.then_some(Pending { publish, stored: None });
        }
        self.life.0 += 1;
        let log = Log::new(&mut self.choices);
        self.logs.insert(MEMORY, log);
    }

    fn kill(&mut self) {
        self.stop();
        if self.flaw == Some(Flaw::ForgetsTail) {
            let log = self.logs.get_mut(&DURABLE).unwrap();
            if let Some(id) = log.messages.pop() {
                log.keys.remove(&id);
                let accepted =
                    self.publishes.iter().any(|it| it.id == id && !it.answers().is_empty() && !it.keyed);
                self.struck += usize::from(accepted);
            }
        }
        if self.flaw == Some(Flaw::SwapsTail) {
            let log = self.logs.get_mut(&DURABLE).unwrap();
            let count = log.messages.len();
            if count > 1 {
                log.messages.swap(count - 2, count - 1);
                let placed = |id: MessageId| {
                    self.publishes
                        .iter()
                        .any(|it| it.id == id && it.answers().iter().any(|a| a.position.is_some()))
                };
                self.struck += usize::from(placed(log.messages[count - 1]));
            }
        }
    }

    fn copy_directory(&mut self) {
        self.stop();
        let at = self.tick();
        let mut logs = self.logs.clone();
        logs.remove(&MEMORY);
        self.copy = Some((at, logs));
    }

    fn restore_directory(&mut self) {
        let Some((copied, logs)) = self.copy.take() else { return };
        self.stop();
        self.logs.extend(logs);
        // What was wrong in the history before is gone with it.
        self.struck = 0;
        self.restores.push(Restore { copied });
        self.branch.0 += 1;
    }

    /// Everybody gets what there is: publishers finish, clients return and read.
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
    }

    fn dumps(&self) -> Vec<Dump> {
        let dump = |(channel, log): (&ChannelId, &Log)| Dump {
            branch: self.branch,
            channel: *channel,
            messages: log.after(Position { epoch: log.epoch, offset: log.gone }),
        };
        self.logs.iter().map(dump).collect()
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
