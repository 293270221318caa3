//! Everybody around one server: publishers and clients of every kind, gathered, left alone, and sent home.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Actor, Plan, Ticket};
use crate::follower::Follower;
use crate::history::{Channel, ChannelId, Client, Door, Dump, History, Position, Restore};
use crate::http::{Http, Request};
use crate::packet::parse_data;
use crate::publisher::{GOALS, Log, Publisher, Route, Target};
use crate::site::{Phase, Site};

const READY_MAX: Duration = Duration::from_secs(30);
/// For everybody to get what there is, once nothing breaks any more.
const DRAIN_MAX: Duration = Duration::from_mins(1);
/// Goals are published again for those who were not there.
const GOAL_EVERY: Duration = Duration::from_secs(2);
const GOAL_POLL: Duration = Duration::from_millis(10);
const PAGE: usize = 1000;

pub(crate) struct Crowd {
    pub(crate) site: Arc<Site>,
    channels: Vec<Channel>,
    clients: Vec<Guest>,
    publishers: Vec<JoinHandle<Result<Log>>>,
    goals: Publisher,
    pub(crate) restores: Vec<Restore>,
    /// How long everybody has in the end.
    pub(crate) patience: Duration,
}

struct Guest {
    name: String,
    reached: Arc<AtomicU32>,
    task: JoinHandle<Result<Client>>,
}

impl Crowd {
    /// Lets clients join, and returns when all of them have.
    pub(crate) async fn gather(
        site: Arc<Site>,
        channels: Vec<Channel>,
        plans: Vec<Plan>,
        seed: u64,
    ) -> Result<Self> {
        let (ready, mut waiting) = mpsc::channel(1);
        let mut clients = Vec::new();
        for plan in plans {
            let (name, site, ready) = (plan.name.clone(), Arc::clone(&site), ready.clone());
            let (reached, task) = if plan.door == Door::Stream {
                let follower = Follower::new(plan, site, seed, ready)?;
                (follower.reached(), tokio::spawn(follower.run()))
            } else {
                let actor = Actor::new(plan, site, seed, ready);
                (actor.reached(), tokio::spawn(actor.run()))
            };
            clients.push(Guest { name, reached, task });
        }
        drop(ready);
        // Nobody sends: the channel closes when the last one has joined, or failed.
        let joined = timeout(READY_MAX, waiting.recv()).await.is_ok();
        let all = (0..channels.len()).map(|index| ChannelId(u16::try_from(index).unwrap_or(u16::MAX)));
        let targets = all.map(|channel| target(&channels, channel)).collect();
        let goals = Publisher::new(GOALS, Route::Keyed, targets, Arc::clone(&site), seed);
        let (publishers, restores) = (Vec::new(), Vec::new());
        let mut crowd = Self { site, channels, clients, publishers, goals, restores, patience: DRAIN_MAX };
        crowd.complain().await?;
        ensure!(joined, "not all clients had joined within {READY_MAX:?}");
        Ok(crowd)
    }

    /// Adds a publisher that publishes to these channels until the load ends.
    pub(crate) fn publish(&mut self, route: Route, channels: &[ChannelId], seed: u64) {
        let targets = channels.iter().map(|channel| target(&self.channels, *channel)).collect();
        let number = u32::try_from(self.publishers.len()).unwrap_or(GOALS - 1);
        let publisher = Publisher::new(number, route, targets, Arc::clone(&self.site), seed);
        self.publishers.push(tokio::spawn(publisher.run()));
    }

    /// Fails if somebody has met what no server may do.
    pub(crate) async fn complain(&mut self) -> Result<()> {
        if let Some(guest) = self.clients.iter_mut().find(|guest| guest.task.is_finished()) {
            (&mut guest.task).await??;
            bail!("{} went home early", guest.name);
        }
        if let Some(publisher) = self.publishers.iter_mut().find(|publisher| publisher.is_finished()) {
            publisher.await??;
            bail!("a publisher went home early");
        }
        Ok(())
    }

    /// Ends the load, lets everybody get what there is, and collects what they have written down.
    pub(crate) async fn disperse(mut self) -> Result<History> {
        self.complain().await?;
        self.site.change(|situation| {
            situation.phase = Phase::Drain;
            situation.stall = false;
        });
        let (mut publishes, mut purges) = (Vec::new(), Vec::new());
        for publisher in self.publishers.drain(..) {
            let log = timeout(DRAIN_MAX, publisher).await;
            let log = log.context("a publisher did not get an answer until the end")???;
            publishes.extend(log.publishes);
            purges.extend(log.purges);
        }
        let late = self.drain().await?;
        let dumps = self.dump().await?;
        self.site.change(|situation| situation.phase = Phase::End);
        let mut clients = Vec::new();
        for guest in self.clients {
            let left = timeout(DRAIN_MAX, guest.task).await;
            clients.push(left.with_context(|| format!("{} does not go home", guest.name))???);
        }
        publishes.extend(self.goals.into_log());
        let (channels, restores) = (self.channels, self.restores);
        Ok(History { channels, publishes, purges, clients, restores, dumps, late })
    }

    /// Waits until everybody has got everything, and names those who have not after a long time.
    async fn drain(&mut self) -> Result<Vec<String>> {
        let end = Instant::now() + self.patience;
        loop {
            let goal = self.goals.publish_goals().await?;
            let again = Instant::now() + GOAL_EVERY;
            while Instant::now() < again {
                self.complain().await?;
                if self.late(goal).is_empty() {
                    return Ok(Vec::new());
                }
                sleep(GOAL_POLL).await;
            }
            if Instant::now() > end {
                return Ok(self.late(goal));
            }
        }
    }

    fn late(&self, goal: u32) -> Vec<String> {
        let late = self.clients.iter().filter(|guest| guest.reached.load(Ordering::Relaxed) < goal);
        late.map(|guest| guest.name.clone()).collect()
    }

    /// Reads every channel's history, page by page.
    async fn dump(&self) -> Result<Vec<Dump>> {
        let mut http = Http::connect(self.site.address).await?;
        let mut dumps = Vec::new();
        for (index, channel) in self.channels.iter().enumerate() {
            let branch = self.site.situation().branch;
            let id = ChannelId(u16::try_from(index)?);
            let began = self.site.now();
            let mut dump = Dump { branch, channel: id, began, ended: began, messages: Vec::new() };
            let mut since = "all".to_owned();
            loop {
                let path = format!("/v1/channels/{}/messages?since={since}&limit={PAGE}", channel.name);
                let page = get(&mut http, &self.site, &path).await?;
                for message in page["messages"].as_array().context("no messages in a page of history")? {
                    let position = message["id"].as_str().and_then(Position::of_id);
                    let position = position
                        .with_context(|| format!("no usable id in the history of {}", channel.name))?;
                    let parsed = parse_data(&message["data"]);
                    let (id, _) = parsed.with_context(|| format!("at {position} of {}", channel.name))?;
                    dump.messages.push((position, id));
                }
                if page["has_more"] != true {
                    break;
                }
                let cursor = page["cursor"].as_str().context("no cursor in a page of history")?;
                cursor.clone_into(&mut since);
            }
            dump.ended = self.site.now();
            dumps.push(dump);
        }
        Ok(dumps)
    }
}

/// Tokens of all channels, in their order.
pub(crate) async fn tickets(site: &Site, channels: &[Channel]) -> Result<Vec<Ticket>> {
    let mut http = Http::connect(site.address).await?;
    let mut tickets = Vec::new();
    for (index, channel) in channels.iter().enumerate() {
        let (path, headers) = (format!("/channel/{}", channel.name), site.authorization());
        let request = Request { method: "POST", path: &path, headers: &headers, body: "" };
        let answer = http.exchange(&request).await?.body;
        let parsed: Value = serde_json::from_str(&answer)?;
        let token = parsed["token"].as_str().with_context(|| format!("no token in {answer}"))?.to_owned();
        tickets.push(Ticket { channel: ChannelId(u16::try_from(index)?), name: channel.name.clone(), token });
    }
    Ok(tickets)
}

async fn get(http: &mut Http, site: &Site, path: &str) -> Result<Value> {
    let headers = site.authorization();
    let response = http.exchange(&Request { method: "GET", path, headers: &headers, body: "" }).await?;
    ensure!(response.status == 200, "{path} was answered {}: {}", response.status, response.body);
    Ok(serde_json::from_str(&response.body)?)
}

fn target(channels: &[Channel], channel: ChannelId) -> Target {
    Target { channel, name: channels[channel.index()].name.clone() }
}
