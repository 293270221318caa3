//! One client that follows a channel as an event stream, as an `EventSource` does: it comes back with the last id that it
//! heard, and writes down what it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};

use crate::broken::{broken, is_broken};
use crate::choices::Choices;
use crate::client::{ANSWER_MAX, BACKOFF_MILLIS, Plan, SILENCE_MAX, Ticket, reason};
use crate::event_stream::{EventStream, Told};
use crate::history::{Asked, Client, Connected, Delivered, Entry, Event, Joined, Pid, Position, Reason};
use crate::packet::parse_data;
use crate::publisher::GOALS;
use crate::site::{Phase, Site, Situation};

pub(crate) struct Follower {
    plan: Plan,
    ticket: Ticket,
    site: Arc<Site>,
    situation: watch::Receiver<Situation>,
    choices: Choices,
    log: Vec<Entry>,
    /// The last id that it heard, and the entry with which that came.
    last: Option<(String, usize)>,
    connection: Option<Connection>,
    /// The goal that it has reached.
    reached: Arc<AtomicU32>,
    /// Dropped when it is in the channel for the first time.
    ready: Option<mpsc::Sender<()>>,
}

struct Connection {
    asked: Asked,
    /// What it was told of before it was told where the stream starts.
    gap: Option<Reason>,
    has_joined: bool,
}

impl Follower {
    /// Follows the first channel of the plan.
    pub(crate) fn new(plan: Plan, site: Arc<Site>, seed: u64, ready: mpsc::Sender<()>) -> Result<Self> {
        Ok(Self {
            ticket: plan.channels.first().cloned().context("a stream without a channel")?,
            choices: Choices::new(seed, &plan.name),
            situation: site.watch(),
            site,
            log: Vec::new(),
            last: None,
            connection: None,
            reached: Arc::default(),
            ready: Some(ready),
            plan,
        })
    }

    pub(crate) fn reached(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.reached)
    }

    /// Ends when the run does.
    pub(crate) async fn run(mut self) -> Result<Client> {
        while self.site.situation().phase != Phase::End {
            let visit = self.visit().await;
            if self.connection.take().is_some() {
                self.write(Event::Closed);
            }
            let pause = match visit {
                Err(error) if !is_broken(&error) => return Err(error.context(self.plan.name)),
                Ok(()) if self.site.situation().phase == Phase::Load => self.plan.away.clone(),
                Ok(()) | Err(_) => BACKOFF_MILLIS,
            };
            let pause = self.choices.millis(pause);
            let end = self.situation.wait_for(|situation| situation.phase == Phase::End);
            // Both outcomes of the timeout are fine; the site outlives everybody.
            let _ = timeout(pause, end).await;
        }
        let channels = vec![self.ticket.channel];
        Ok(Client { name: self.plan.name, door: self.plan.door, channels, events: self.log })
    }

    /// One stream from beginning to end; `Ok` if this side ended it.
    async fn visit(&mut self) -> Result<()> {
        let (situation, began) = (self.site.situation(), self.site.now());
        let (path, headers, asked) = self.request();
        let asking = EventStream::ask(self.site.address, &path, &headers);
        let asking = timeout(ANSWER_MAX, asking).await;
        let mut stream = asking.map_err(|_| broken("the server took no connection in time"))??;
        if !self.site.is_still(situation) {
            return Ok(());
        }
        let answered = timeout(ANSWER_MAX, stream.begin()).await;
        answered.map_err(|_| broken("the server did not open a stream in time"))??;
        let Situation { life, branch, .. } = situation;
        self.write(Event::Connected(Connected { began, life, branch, asked: Asked::Now, pid: Pid::None }));
        self.connection = Some(Connection { asked, gap: None, has_joined: false });
        self.follow(&mut stream).await
    }

    /// The path, the headers, and what they ask for.
    fn request(&mut self) -> (String, String, Asked) {
        let (token, mut headers) = if self.choices.one_in(2) {
            (format!("&token={}", self.ticket.token), String::new())
        } else {
            (String::new(), self.site.authorization())
        };
        if self.choices.one_in(2) {
            headers.push_str("Accept: text/event-stream\r\n");
        }
        let mut since = "all";
        let asked = match &self.last {
            None => Asked::All,
            Some((id, entry)) => {
                // An `EventSource` still has its first address, which counts less than what it has heard since.
                if self.choices.one_in(4) {
                    since = id;
                } else {
                    headers.extend(["Last-Event-ID: ", id, "\r\n"]);
                }
                Asked::After(*entry)
            }
        };
        let (name, meta) = (&self.ticket.name, self.plan.meta);
        (format!("/v1/channels/{name}/stream?meta={meta}&since={since}{token}"), headers, asked)
    }

    async fn follow(&mut self, stream: &mut EventStream) -> Result<()> {
        let leave = self.plan.leave(&mut self.choices);
        loop {
            let now = *self.situation.borrow_and_update();
            if now.phase == Phase::End {
                return Ok(());
            }
            tokio::select! {
                told = stream.next() => {
                    if let Some(told) = told? {
                        self.take(&told)?;
                    }
                }
                () = sleep_until(leave), if now.phase == Phase::Load => return Ok(()),
                _ = self.situation.changed() => {}
                () = sleep(SILENCE_MAX) => bail!("it heard nothing for {SILENCE_MAX:?}"),
            }
        }
    }

    fn take(&mut self, told: &Told) -> Result<()> {
        let Some(data) = &told.data else { return self.join(told) };
        let data: Value = serde_json::from_str(data).with_context(|| format!("it got {told:?}"))?;
        match told.event.as_deref() {
            Some("gap") => self.miss(&data),
            Some("message") => self.deliver(told, &data),
            _ => bail!("it got {told:?}, which nobody publishes"),
        }
    }

    /// An id that stands alone says where the stream starts.
    fn join(&mut self, told: &Told) -> Result<()> {
        let connection = self.connection.as_mut().filter(|connection| !connection.has_joined);
        let connection = connection.with_context(|| format!("it got {told:?} in the middle of a stream"))?;
        connection.has_joined = true;
        let (asked, incomplete) = (connection.asked, connection.gap.take());
        let entry = self.write(Event::Joined(Joined {
            channel: self.ticket.channel,
            asked,
            incomplete,
            counted: None,
        }));
        self.last = told.id.clone().map(|id| (id, entry));
        self.ready = None;
        Ok(())
    }

    fn miss(&mut self, data: &Value) -> Result<()> {
        ensure!(data["channel"] == *self.ticket.name, "it got a gap of another channel: {data}");
        let reason = reason(&data["reason"])?;
        match &mut self.connection {
            Some(connection) if !connection.has_joined => connection.gap = Some(reason),
            _ => _ = self.write(Event::Gap { channel: self.ticket.channel, reason }),
        }
        Ok(())
    }

    fn deliver(&mut self, told: &Told, data: &Value) -> Result<()> {
        let has_joined = self.connection.as_ref().is_some_and(|connection| connection.has_joined);
        ensure!(has_joined, "it got {told:?} before it was told where the stream starts");
        let cursor = told.id.clone().with_context(|| format!("no id in {told:?}"))?;
        let (published, position) = if self.plan.meta {
            let position = data["id"].as_str().and_then(Position::of_id);
            let position = position.with_context(|| format!("unusable id in {data}"))?;
            let is_consistent = data["offset"] == position.offset
                && data["channel"] == *self.ticket.name
                && data["cursor"] == *cursor
                && data["event"] == "message";
            ensure!(is_consistent, "{told:?} contradicts itself");
            (&data["data"], Some(position))
        } else {
            (data, None)
        };
        let (id, channel) = parse_data(published).context("it got something wrong")?;
        let entry = self.write(Event::Delivered(Delivered { channel, id, position }));
        self.last = Some((cursor, entry));
        if id.publisher == GOALS {
            self.reached.store(id.number, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&mut self, event: Event) -> usize {
        self.log.push(Entry { at: self.site.now(), event });
        self.log.len() - 1
    }
}
