//! One client, as unimpressed as a stock JavaScript client 4.8: it comes back after everything, and writes down what it
//! gets.
//!
//! The handshake door is used as the stock client does it by itself: it keeps the pid, takes the last argument of any
//! event for its offset if that is a string, and sends both when it connects again. The explicit door is used as an
//! application would: it keeps the place of the last message that it got in each channel, or leaves that to the server,
//! which knows what it has confirmed.

mod acks;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::broken::{broken, is_broken};
use crate::choices::Choices;
use crate::history::{
    Asked, ChannelId, Client, Connected, Counted, Delivered, Door, Entry, Event, Joined, Pid, Position,
    Reason, Time,
};
use crate::link::{Link, Transport};
use crate::packet::{Packet, parse_data};
use crate::publisher::GOALS;
use crate::site::{Phase, Site, Situation};

/// A server that says nothing for so long does not even ping.
pub(crate) const SILENCE_MAX: Duration = Duration::from_mins(1);
/// For the answers on the way to a connection.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(20);
/// A stock client waits so long before it connects again, more or less.
pub(crate) const BACKOFF_MILLIS: RangeInclusive<u64> = 25..=75;

/// Nobody stays for so long.
const DAY: Duration = Duration::from_hours(24);

pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) door: Door,
    /// Of no meaning for a stream.
    pub(crate) transport: Transport,
    pub(crate) channels: Vec<Ticket>,
    /// Asks for the positions of messages.
    pub(crate) meta: bool,
    /// Milliseconds after which it breaks its own connections.
    pub(crate) breaks: Option<RangeInclusive<u64>>,
    /// Milliseconds that it then stays away.
    pub(crate) away: RangeInclusive<u64>,
    /// Does not read while clients are told to stall.
    pub(crate) stalls: bool,
    /// Channels in which it confirms what it gets; it has to ask for positions.
    pub(crate) confirms: Vec<ChannelId>,
    /// The near end of its link to the server, if it has one of its own.
    pub(crate) via: Option<SocketAddr>,
}

impl Plan {
    /// When it breaks a connection that begins now.
    pub(crate) fn leave(&self, choices: &mut Choices) -> Instant {
        let stays = self.breaks.as_ref().map_or(DAY, |range| choices.millis(range.clone()));
        Instant::now() + stays
    }
}

/// A channel, and what opens it.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) channel: ChannelId,
    pub(crate) name: String,
    pub(crate) token: String,
}

pub(crate) struct Actor {
    plan: Plan,
    site: Arc<Site>,
    situation: watch::Receiver<Situation>,
    choices: Choices,
    log: Vec<Entry>,
    connection: Option<Connection>,
    /// When it began to connect.
    began: Time,
    pid: Option<String>,
    /// The entry with which that came.
    session: usize,
    /// What a stock client would send as its offset, and the entry with which it came, if it is a cursor.
    offset: Option<(String, Option<usize>)>,
    /// Of the last message of each channel, for the explicit door.
    places: HashMap<ChannelId, Place>,
    goals: BTreeMap<ChannelId, u32>,
    /// The goal that it has reached in all channels.
    reached: Arc<AtomicU32>,
    /// Dropped when it has joined all channels for the first time.
    ready: Option<mpsc::Sender<()>>,
    /// A connection that it has forgotten to close.
    stale: Option<Link>,
    /// When it may confirm something again.
    confirms_at: Instant,
}

struct Place {
    entry: usize,
    cursor: String,
    id: String,
}

struct Connection {
    /// What was asked for in each channel, in the order of the ticket.
    asked: Vec<Asked>,
    joined: usize,
}

impl Actor {
    pub(crate) fn new(plan: Plan, site: Arc<Site>, seed: u64, ready: mpsc::Sender<()>) -> Self {
        Self {
            choices: Choices::new(seed, &plan.name),
            situation: site.watch(),
            site,
            log: Vec::new(),
            connection: None,
            began: Time::default(),
            pid: None,
            session: 0,
            offset: None,
            places: HashMap::new(),
            goals: plan.channels.iter().map(|ticket| (ticket.channel, 0)).collect(),
            reached: Arc::default(),
            ready: Some(ready),
            stale: None,
            confirms_at: Instant::now(),
            plan,
        }
    }

    pub(crate) fn reached(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.reached)
    }

    /// Ends when the run does.
    pub(crate) async fn run(mut self) -> Result<Client> {
        while self.phase() != Phase::End {
            match self.visit().await {
                Err(error) if !is_broken(&error) => return Err(error.context(self.plan.name)),
                Ok(()) if self.phase() == Phase::Load => {
                    let away = self.choices.millis(self.plan.away.clone());
                    self.rest(away).await;
                }
                Ok(()) | Err(_) => {
                    let backoff = self.choices.millis(BACKOFF_MILLIS);
                    self.rest(backoff).await;
                }
            }
        }
        for channel in self.plan.confirms.clone() {
            self.read_standing(channel).await.with_context(|| self.plan.name.clone())?;
        }
        let channels = self.plan.channels.iter().map(|ticket| ticket.channel).collect();
        Ok(Client { name: self.plan.name, door: self.plan.door, channels, events: self.log })
    }

    fn phase(&self) -> Phase {
        self.site.situation().phase
    }

    async fn rest(&mut self, time: Duration) {
        let end = self.situation.wait_for(|situation| situation.phase == Phase::End);
        // Both outcomes of the timeout are fine; the site outlives everybody.
        let _ = timeout(time, end).await;
    }

    /// One connection from beginning to end; `Ok` if this side ended it.
    async fn visit(&mut self) -> Result<()> {
        let situation = self.site.situation();
        self.began = self.site.now();
        let address = self.plan.via.unwrap_or(self.site.address);
        let connecting = timeout(ANSWER_MAX, Link::connect(address, self.plan.transport));
        let mut link =
            connecting.await.map_err(|_| broken("the server did not open a session in time"))??;
        if !self.site.is_still(situation) {
            return Ok(());
        }
        let outcome = self.converse(&mut link, situation).await;
        if self.connection.take().is_some() {
            self.write(Event::Closed);
        }
        if outcome.is_ok() && self.choices.one_in(3) {
            self.stale = Some(link);
        }
        outcome
    }

    async fn converse(&mut self, link: &mut Link, situation: Situation) -> Result<()> {
        let (auth, asked) = self.auth();
        link.send(&format!("0{auth}")).await?;
        let leave = self.plan.leave(&mut self.choices);
        loop {
            let now = *self.situation.borrow_and_update();
            if now.phase == Phase::End {
                return Ok(());
            }
            let stalls = self.plan.stalls && now.stall && self.ready.is_none();
            let patience = if self.connection.is_some() { SILENCE_MAX } else { ANSWER_MAX };
            tokio::select! {
                packet = link.receive(), if !stalls => {
                    if let Some(packet) = packet? {
                        self.take(link, Packet::parse(&packet)?, situation, asked).await?;
                    }
                }
                () = sleep_until(leave), if now.phase == Phase::Load => return Ok(()),
                _ = self.situation.changed() => {}
                () = sleep(patience), if !stalls => bail!("it heard nothing for {patience:?}"),
            }
        }
    }

    /// The data of CONNECT, and what it means.
    fn auth(&self) -> (Value, Asked) {
        let mut auth = Map::new();
        let mut asked = Asked::Now;
        if self.plan.door == Door::Handshake {
            if let Some(pid) = &self.pid {
                asked = Asked::Start(self.session);
                auth.insert("pid".to_owned(), pid.as_str().into());
                if let Some((offset, entry)) = &self.offset {
                    asked = entry.map_or(Asked::NoCursor, Asked::After);
                    auth.insert("offset".to_owned(), offset.as_str().into());
                }
            }
            match &self.plan.channels[..] {
                [ticket] => auth.insert("token".to_owned(), ticket.token.as_str().into()),
                tickets => {
                    let tokens: Vec<_> = tickets.iter().map(|ticket| ticket.token.as_str()).collect();
                    auth.insert("tokens".to_owned(), tokens.into())
                }
            };
        }
        if self.plan.meta {
            auth.insert("meta".to_owned(), true.into());
        }
        (auth.into(), asked)
    }

    async fn take(
        &mut self,
        link: &mut Link,
        packet: Packet,
        situation: Situation,
        asked: Asked,
    ) -> Result<()> {
        match packet {
            Packet::Connected { pid } => {
                let told = match (&pid, &self.pid) {
                    (None, _) => Pid::None,
                    (Some(new), Some(old)) if new == old => Pid::Same,
                    (Some(_), _) => Pid::New,
                };
                self.pid = pid;
                let Situation { life, branch, .. } = situation;
                let began = self.began;
                let connected = Connected { began, life, branch, asked, pid: told };
                let entry = self.write(Event::Connected(connected));
                if told == Pid::New {
                    self.session = entry;
                }
                self.connection = Some(Connection { asked: Vec::new(), joined: 0 });
                match self.choices.pick(&self.plan.confirms).copied() {
                    Some(channel) => self.read_standing(channel).await,
                    None => Ok(()),
                }
            }
            Packet::Event(arguments) => self.hear(link, &arguments).await,
            Packet::Ack { id, arguments } => {
                let answer = arguments.first().unwrap_or(&Value::Null);
                if id < acks::FIRST_ID { self.joined(id, answer) } else { self.confirmed(id, answer) }
            }
            Packet::SentAway => bail!("it was sent away, which no client here deserves"),
            Packet::Refused(answer) if answer["data"]["code"] == "unavailable" => {
                bail!(broken("the server is not available"))
            }
            Packet::Refused(answer) => bail!("it was refused with {answer}"),
        }
    }

    async fn hear(&mut self, link: &mut Link, arguments: &[Value]) -> Result<()> {
        let name = arguments.first().and_then(Value::as_str).context("an event without a name")?;
        let argument = arguments.get(1).unwrap_or(&Value::Null);
        ensure!(self.connection.is_some(), "the event {name} came before the answer to CONNECT");
        let mut cursor = None;
        match name {
            "message" => {
                let delivered = self.deliver(argument, arguments.get(2))?;
                self.confirm(link, &delivered).await?;
            }
            "checkpoint" => {
                cursor = Some(self.write(Event::Checkpoint));
                self.ready = None;
            }
            "gap" => {
                let channel = self.channel(&argument["channel"])?;
                let reason = reason(&argument["reason"])?;
                self.write(Event::Gap { channel, reason });
            }
            "clientevent" => self.greeted(link, argument).await?,
            other => bail!("it got the event {other}, which nobody publishes"),
        }
        // As the stock client does it: the name of the event is among the arguments, too.
        if self.pid.is_some()
            && let Some(last) = arguments.last().and_then(Value::as_str)
        {
            self.offset = Some((last.to_owned(), cursor));
        }
        Ok(())
    }

    /// The server is there, or a channel is joined.
    async fn greeted(&mut self, link: &mut Link, said: &Value) -> Result<()> {
        let text = said["data"].as_str().unwrap_or_default();
        let joined = text.strip_prefix("Connected to ").map(str::to_owned);
        match (self.plan.door, joined) {
            (Door::Seed, None) => self.join_live(link).await,
            (Door::Explicit, None) => self.join_explicitly(link).await,
            (Door::Seed, Some(name)) => {
                let channel = self.channel(&name.into())?;
                self.write_joined(Joined { channel, asked: Asked::Now, incomplete: None, counted: None });
                Ok(())
            }
            // A checkpoint follows, or an acknowledgement that says more.
            (Door::Handshake | Door::Stream, _) | (Door::Explicit, Some(_)) => Ok(()),
        }
    }

    async fn join_live(&mut self, link: &mut Link) -> Result<()> {
        for ticket in &self.plan.channels {
            let token = json!({ "token": ticket.token });
            let argument = if self.choices.one_in(2) { token } else { token.to_string().into() };
            link.send(&format!("2{}", json!(["join_channel", argument]))).await?;
        }
        Ok(())
    }

    async fn join_explicitly(&mut self, link: &mut Link) -> Result<()> {
        let mut asked = Vec::new();
        for (index, ticket) in self.plan.channels.iter().enumerate() {
            let confirms = self.plan.confirms.contains(&ticket.channel);
            let (since, from) = match self.places.get(&ticket.channel) {
                _ if confirms && self.choices.one_in(2) => ("unread", Asked::Unread),
                None => ("all", Asked::All),
                Some(place) if self.choices.one_in(2) => (place.id.as_str(), Asked::After(place.entry)),
                Some(place) => (place.cursor.as_str(), Asked::After(place.entry)),
            };
            asked.push(from);
            let mut argument = json!({ "token": ticket.token, "since": since });
            if confirms {
                argument["consumer"] = self.plan.name.as_str().into();
            }
            link.send(&format!("2{index}{}", json!(["join_channel", argument]))).await?;
        }
        if let Some(connection) = &mut self.connection {
            connection.asked = asked;
        }
        Ok(())
    }

    /// The acknowledgement of an explicit join.
    fn joined(&mut self, id: u64, answer: &Value) -> Result<()> {
        let index = usize::try_from(id)?;
        let asked = self.connection.as_ref().and_then(|connection| connection.asked.get(index)).copied();
        let asked =
            asked.with_context(|| format!("it got an acknowledgement {id} that it did not ask for"))?;
        if answer["error"]["code"] == "unavailable" {
            bail!(broken("the server does not know where its consumer stands"));
        }
        let channel = self.channel(&answer["channel"])?;
        let incomplete = match answer["recovered"].as_bool() {
            Some(true) => None,
            Some(false) => Some(reason(&answer["reason"])?),
            None => bail!("the acknowledgement of a join says neither true nor false: {answer}"),
        };
        let count = |name: &str| answer[name].as_u64().with_context(|| format!("no {name} in {answer}"));
        let (unread, newest) = (count("unread")?, count("offset")?);
        let counted = self.plan.confirms.contains(&channel).then_some(Counted { unread, newest });
        self.write_joined(Joined { channel, asked, incomplete, counted });
        Ok(())
    }

    fn write_joined(&mut self, joined: Joined) {
        self.write(Event::Joined(joined));
        if let Some(connection) = &mut self.connection {
            connection.joined += 1;
            if connection.joined == self.plan.channels.len() {
                self.ready = None;
            }
        }
    }

    fn deliver(&mut self, data: &Value, meta: Option<&Value>) -> Result<Delivered> {
        let (id, channel) = parse_data(data).context("it got something wrong")?;
        let Some(meta) = meta.filter(|_| self.plan.meta) else {
            ensure!(meta.is_none() && !self.plan.meta, "it got a message with the wrong arguments");
            let delivered = Delivered { channel, id, position: None };
            self.write(Event::Delivered(delivered));
            self.reach(channel, id.publisher, id.number);
            return Ok(delivered);
        };
        let text = |name: &str| meta[name].as_str().with_context(|| format!("no {name} in {meta}"));
        let position = Position::of_id(text("id")?).with_context(|| format!("unusable id in {meta}"))?;
        ensure!(meta["offset"] == position.offset, "offset and id of {meta} contradict each other");
        ensure!(self.channel(&meta["channel"])? == channel, "{meta} came with {data}");
        let (cursor, place_id) = (text("cursor")?.to_owned(), text("id")?.to_owned());
        let delivered = Delivered { channel, id, position: Some(position) };
        let entry = self.write(Event::Delivered(delivered));
        self.places.insert(channel, Place { entry, cursor, id: place_id });
        self.reach(channel, id.publisher, id.number);
        Ok(delivered)
    }

    fn reach(&mut self, channel: ChannelId, publisher: u32, number: u32) {
        if publisher == GOALS {
            self.goals.insert(channel, number);
            let least = self.plan.channels.iter().filter_map(|ticket| self.goals.get(&ticket.channel)).min();
            self.reached.store(least.copied().unwrap_or(0), Ordering::Relaxed);
        }
    }

    fn channel(&self, name: &Value) -> Result<ChannelId> {
        let found = self.plan.channels.iter().find(|ticket| *name == *ticket.name);
        found
            .map(|ticket| ticket.channel)
            .with_context(|| format!("it heard of channel {name}, which it has no token for"))
    }

    fn write(&mut self, event: Event) -> usize {
        self.log.push(Entry { at: self.site.now(), event });
        self.log.len() - 1
    }
}

pub(crate) fn reason(value: &Value) -> Result<Reason> {
    value.as_str().and_then(Reason::parse).with_context(|| format!("{value} is no reason"))
}
