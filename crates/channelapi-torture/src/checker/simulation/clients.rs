//! The clients of a simulation: through which door they come, what they read, and where they believe to stand.

use std::collections::{BTreeMap, VecDeque};

use super::flaw::Flaw;
use super::{DURABLE, MEMORY, Simulation, TRIMMED};
use crate::history::{
    Asked, Branch, ChannelId, Client, Connected, Delivered, Door, Entry, Event, Joined, Life, Pid, Position,
    Reason, Time,
};

pub(super) struct Player {
    pub(super) client: Client,
    /// Channels in which it says what it has taken care of.
    pub(super) confirms: Vec<ChannelId>,
    pub(super) wire: Option<VecDeque<Item>>,
    pub(super) had_pid: bool,
    /// By channel for the explicit door; the handshake door has one for all.
    pub(super) cursors: BTreeMap<ChannelId, Cursor>,
    /// Its last string argument was a message and no cursor.
    pub(super) foreign: bool,
    /// Where a session begins whose private id is on its way.
    pub(super) begins: BTreeMap<ChannelId, Position>,
    /// Where its session begins.
    pub(super) start: Option<Cursor>,
    /// Something was missing when it began.
    pub(super) has_gaps: bool,
}

#[derive(Clone)]
pub(super) struct Cursor {
    pub(super) entry: usize,
    pub(super) life: Life,
    pub(super) branch: Branch,
    pub(super) at: Time,
    pub(super) positions: BTreeMap<ChannelId, Position>,
}

pub(super) enum Item {
    Event(Event),
    Checkpoint(BTreeMap<ChannelId, Position>),
}

impl Simulation {
    pub(super) fn connect_somebody(&mut self) {
        let absent: Vec<_> =
            (0..self.clients.len()).filter(|index| self.clients[*index].wire.is_none()).collect();
        if let Some(index) = self.choices.pick(&absent) {
            self.connect(*index);
            // Many are gone before they have heard of any place.
            if self.clients[*index].cursors.is_empty() && self.choices.number(0..=1) == 0 {
                self.cut(*index);
            }
        }
    }

    pub(super) fn connect(&mut self, index: usize) {
        self.tick();
        let wire = match self.clients[index].client.door {
            Door::Seed => self.join_live(index),
            Door::Handshake => self.resume_by_handshake(index),
            Door::Explicit | Door::Stream => self.resume_explicitly(index),
        };
        self.clients[index].wire = Some(wire);
        for channel in self.clients[index].confirms.clone() {
            if self.choices.one_in(2) {
                let (life, branch, offset) = (self.life, self.branch, self.stands_at(index, channel));
                self.log(index, Event::Standing { life, branch, channel, offset });
            }
        }
    }

    fn connected(&self, asked: Asked, pid: Pid) -> Item {
        let (life, branch) = (self.life, self.branch);
        Item::Event(Event::Connected(Connected { began: self.time(), life, branch, asked, pid }))
    }

    fn join_live(&self, index: usize) -> VecDeque<Item> {
        let joined = self.clients[index].client.channels.iter().map(|&channel| {
            let (asked, incomplete, counted) = (Asked::Now, None, None);
            Item::Event(Event::Joined(Joined { channel, asked, incomplete, counted }))
        });
        std::iter::once(self.connected(Asked::Now, Pid::None)).chain(joined).collect()
    }

    fn resume_by_handshake(&mut self, index: usize) -> VecDeque<Item> {
        let player = &self.clients[index];
        let is_first = player.cursors.is_empty() && !player.foreign;
        let place = if is_first { player.start.as_ref() } else { player.cursors.get(&DURABLE) };
        let mut cursor = place.filter(|_| !player.foreign).cloned();
        let asked = match (&cursor, player.had_pid) {
            (_, false) => Asked::Now,
            (Some(start), true) if is_first => Asked::Start(start.entry),
            (Some(cursor), true) => Asked::After(cursor.entry),
            (None, true) => Asked::NoCursor,
        };
        let channels = player.client.channels.clone();
        let forgets_start = player.has_gaps || self.flaw == Some(Flaw::ForgetsStart);
        if matches!(asked, Asked::Start(_)) && forgets_start {
            cursor = None;
        }
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
        if pid == Pid::New {
            self.clients[index].begins = self.newest();
        }
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

    /// Event streams do the same: they have one channel, and their first cursor is where they start.
    fn resume_explicitly(&mut self, index: usize) -> VecDeque<Item> {
        let is_stream = self.clients[index].client.door == Door::Stream;
        let mut wire = VecDeque::from([self.connected(Asked::Now, Pid::None)]);
        for channel in self.clients[index].client.channels.clone() {
            if self.clients[index].confirms.contains(&channel) && self.choices.one_in(2) {
                wire.extend(self.join_unread(index, channel));
                continue;
            }
            let cursor = self.clients[index].cursors.get(&channel).cloned();
            let asked = match &cursor {
                Some(cursor) => Asked::After(cursor.entry),
                None if channel == TRIMMED || channel == MEMORY => Asked::Now,
                None => Asked::All,
            };
            let incomplete = cursor.as_ref().and_then(|cursor| self.judge(channel, cursor));
            let counted = self.count(index, channel);
            wire.push_back(Item::Event(Event::Joined(Joined { channel, asked, incomplete, counted })));
            let from = match (&cursor, asked) {
                (Some(cursor), _) => Some(cursor.positions[&channel]),
                (None, Asked::All) => Some(Position { epoch: self.logs[&channel].epoch, offset: 0 }),
                (None, _) => None,
            };
            let replay = from.map(|from| self.replay_with_positions(channel, from, incomplete));
            let mut replay = replay.unwrap_or_default();
            let newest = self.logs[&channel].newest();
            let before = |first: &Position| Position { offset: first.offset - 1, ..*first };
            let begins = replay.first().map_or(newest, |(first, _)| before(first));
            self.clients[index].begins.insert(channel, begins);
            if is_stream && replay.len() > 1 && self.has(Flaw::SkipsInStream) {
                replay.remove(1);
            }
            for (position, id) in replay {
                let delivered = Delivered { channel, id, position: Some(position) };
                wire.push_back(Item::Event(Event::Delivered(delivered)));
            }
        }
        wire
    }

    pub(super) fn read_somewhere(&mut self) {
        let index = usize::try_from(self.choices.number(0..=self.clients.len() as u64 - 1)).unwrap();
        let count = usize::try_from(self.choices.number(1..=8)).unwrap();
        self.read(index, count);
    }

    pub(super) fn read(&mut self, index: usize, count: usize) {
        for _ in 0..count {
            let Some(item) = self.clients[index].wire.as_mut().and_then(VecDeque::pop_front) else { return };
            match item {
                Item::Event(Event::Delivered(delivered)) => self.read_message(index, delivered),
                Item::Event(event) => {
                    let connected = if let Event::Connected(it) = &event { Some(*it) } else { None };
                    let is_stream = self.clients[index].client.door == Door::Stream;
                    let starts_in = match &event {
                        Event::Joined(joined) if is_stream => Some(joined.channel),
                        _ => None,
                    };
                    let entry = self.log(index, event);
                    let begins = self.clients[index].begins.clone();
                    let start = self.cursor(entry, begins);
                    let client = &mut self.clients[index];
                    if let Some(channel) = starts_in {
                        client.cursors.insert(channel, start.clone());
                    }
                    let Some(Connected { asked, pid, .. }) = connected else { continue };
                    client.had_pid |= pid != Pid::None;
                    if pid == Pid::New {
                        (client.start, client.has_gaps) = (Some(start), asked != Asked::Now);
                    }
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
            Door::Explicit | Door::Stream => {
                let positions = BTreeMap::from([(delivered.channel, delivered.position.unwrap())]);
                let cursor = self.cursor(entry, positions);
                self.clients[index].cursors.insert(delivered.channel, cursor);
                self.confirm(index, &delivered);
            }
        }
    }

    fn cursor(&self, entry: usize, positions: BTreeMap<ChannelId, Position>) -> Cursor {
        Cursor { entry, life: self.life, branch: self.branch, at: self.time(), positions }
    }

    pub(super) fn log(&mut self, index: usize, event: Event) -> usize {
        let at = self.tick();
        let events = &mut self.clients[index].client.events;
        events.push(Entry { at, event });
        events.len() - 1
    }

    pub(super) fn break_a_connection(&mut self) {
        let index = usize::try_from(self.choices.number(0..=self.clients.len() as u64 - 1)).unwrap();
        self.cut(index);
    }

    /// What was already on its way arrives, up to anywhere.
    pub(super) fn cut(&mut self, index: usize) {
        let Some(length) = self.clients[index].wire.as_ref().map(VecDeque::len) else { return };
        let arrives = usize::try_from(self.choices.number(0..=length as u64)).unwrap();
        self.unheard = self.choices.one_in(2).then_some(index);
        self.read(index, arrives);
        self.unheard = None;
        self.clients[index].wire = None;
        self.log(index, Event::Closed);
    }
}
