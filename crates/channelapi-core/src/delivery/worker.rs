//! One worker: the subscriptions of its connections, and the loop that serves them.
//!
//! Publications that gathered while the worker was busy leave as one write per subscriber ("batch while busy"): those of one channel are
//! joined once for all of its subscribers, those of different channels are held by each connection until the last of them. Nothing waits
//! for company when there is time; behind a long round of several, it does for a moment (`gathering.rs`).

use super::catch_up::{Awaits, CatchUp, encode, later, turn_of};
use super::demand::Demand;
use super::encoded::{Form, FrameEncoder, Run};
use super::gathering::Gathering;
use super::holding::Holding;
use super::job::{From, Job, Join};
use super::subscriptions::{NOT_LIVE, Subscription};
use super::turn::Turn;
use super::{Delivery, End, Subscriptions};
use crate::broker::{Depth, History, Page, Reading, Top};
use crate::counters::COUNTERS;
use crate::limits::{FANOUT_BATCH, FANOUT_CHUNK, OUTBOX_BYTES_MAX, OUTBOX_LIVE_BYTES_MAX};
use crate::model::{ChannelName, ConnectionId};
use std::io;
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tracing::error;

/// Serves a part of the connections.
pub struct Worker {
    index: usize,
    jobs: mpsc::UnboundedReceiver<Job>,
    /// To itself, for what is to be done later.
    later: mpsc::WeakUnboundedSender<Job>,
    demand: Arc<Demand>,
    encoder: Arc<dyn FrameEncoder>,
    /// How many pages may be read from disk at once, for all workers.
    readers: Arc<Semaphore>,
    subscriptions: Subscriptions,
    /// The last publication that was served.
    reached: Option<Top>,
}

impl Worker {
    pub(super) fn new(
        index: usize,
        jobs: mpsc::UnboundedReceiver<Job>,
        later: mpsc::WeakUnboundedSender<Job>,
        demand: Arc<Demand>,
        encoder: Arc<dyn FrameEncoder>,
        readers: Arc<Semaphore>,
    ) -> Self {
        let subscriptions = Subscriptions::default();
        Self { index, jobs, later, demand, encoder, readers, subscriptions, reached: None }
    }

    /// Works until its fan-out is dropped. Whoever catches up is served from `history`.
    pub async fn run(mut self, history: Arc<dyn History>) {
        let mut batch = Vec::with_capacity(FANOUT_BATCH);
        let mut holding = Holding::new(self.demand.held_bytes_max());
        let mut gathering = Gathering::default();
        let mut turn = Turn::default();
        while self.jobs.recv_many(&mut batch, FANOUT_BATCH).await > 0 {
            if matches!(batch[0], Job::Publish(_)) {
                gathering.wait().await;
                while batch.len() < FANOUT_BATCH
                    && let Ok(job) = self.jobs.try_recv()
                {
                    batch.push(job);
                }
            }
            holding.bytes_max = self.demand.held_bytes_max();
            let (began, mut count) = (Instant::now(), 0);
            let mut jobs = batch.drain(..).peekable();
            while let Some(job) = jobs.next() {
                match job {
                    // Whoever asked may not care to know.
                    Job::Join(join, done) => {
                        self.join(join, &history);
                        _ = done.send(());
                    }
                    Job::Disconnect(connection, done) => {
                        self.disconnect(connection);
                        _ = done.send(());
                    }
                    Job::Leave(connection, channel, done) => {
                        self.leave(connection, &channel);
                        _ = done.send(());
                    }
                    Job::Revoke(channel, done) => _ = done.send(self.revoke(&channel, &mut turn).await),
                    Job::Drained(connection) => self.drained(connection, &history),
                    Job::Page { connection, ticket, page, _permit } => {
                        self.take_page(connection, &ticket, page, &history);
                    }
                    Job::Publish(publication) => {
                        let mut run = Run::new(publication);
                        while let Some(Job::Publish(next)) =
                            jobs.next_if(|next| matches!(next, Job::Publish(next) if run.fits(next)))
                        {
                            run.push(next);
                        }
                        if !self.subscriptions.goes_on(run.channel(), run.positions()) {
                            COUNTERS.out_of_order.count();
                            error!(channel = %run.channel(), "a publication does not follow the one before it");
                        }
                        let is_more = matches!(jobs.peek(), Some(Job::Publish(_)));
                        let is_alone = !is_more && holding.is_empty();
                        let together = (!is_alone).then_some(&mut holding);
                        let left_behind = self.publish(&mut run, together, &mut turn).await;
                        if !is_more || holding.is_full() {
                            holding.release(&mut turn).await;
                        }
                        for connection in left_behind {
                            self.fall_behind(connection);
                        }
                        if let Some(last) = run.last_kept() {
                            self.reached = Some(Top { turn: last.turn, cursor: last.cursor });
                        }
                        self.demand.served(run.cost());
                        count += run.count();
                    }
                }
            }
            let is_behind = !self.jobs.is_empty();
            if count > 0 {
                gathering.note(began, count, is_behind);
            }
            if !is_behind {
                turn = Turn::default();
            }
        }
    }

    fn join(&mut self, join: Join, history: &Arc<dyn History>) {
        let Join { subscriber, channels, form, is_aware, is_resumable, reply } = join;
        // A connection that closed has queued its farewell already; added now, it would stay forever.
        let is_open = subscriber.is_open();
        let top = history.top().turn;
        // Whoever is told where it stands is not told so by one channel while it catches up in another.
        let is_read = is_resumable || self.catching_up(subscriber.id()).is_some_and(|one| one.counts);
        let mut readings = Vec::new();
        let mut is_again = false;
        for (channel, from) in channels {
            // Whatever is kept by now was published before this join; a checkpoint must not promise more than what follows it.
            let (live_from, after) = match from {
                From::Now if is_read => (NOT_LIVE, Some(top)),
                From::Now => (top + 1, None),
                From::After(after) | From::Newest(after) => (NOT_LIVE, Some(after)),
            };
            let subscription =
                Subscription { subscriber: subscriber.clone(), live_from, form, is_elsewhere: false };
            let is_new = is_open && self.subscriptions.insert(&channel, subscription);
            if !is_new {
                self.demand.unwant(&channel, self.index);
            }
            // Who is in the channel already and says from where hears it from there again. Nobody is taken forward: who does not say, or
            // says a place that it has not come to, goes on where it is.
            let is_back =
                is_open && !is_new && from != From::Now && after < self.place_in(&channel, subscriber.id());
            is_again |= is_back;
            if is_new || is_back {
                let is_first = matches!(from, From::Newest(_));
                readings.extend(after.map(|after| (channel, after, is_first)));
            }
        }
        if subscriber.deliver(&reply, OUTBOX_BYTES_MAX) == Delivery::Full {
            self.end(subscriber.id(), End::Slow);
        }
        if is_again && form.has_checkpoints() {
            // It may count for where the connection stands.
            self.leave_live(subscriber.id());
        }
        let Some(member) = self.subscriptions.member(subscriber.id()) else {
            return;
        };
        member.is_aware |= is_aware;
        if readings.is_empty() {
            return;
        }
        let catch_up = member.catch_up.get_or_insert_with(|| Box::new(CatchUp::new(form)));
        catch_up.counts |= is_resumable;
        for (channel, after, is_first) in &readings {
            catch_up.start(channel, *after, *is_first);
        }
        let is_idle = matches!(catch_up.awaits, Awaits::Nothing);
        self.subscriptions.for_each_of(subscriber.id(), |channel, subscription| {
            if readings.iter().any(|(read, ..)| read == channel) {
                subscription.live_from = NOT_LIVE;
            }
        });
        if is_idle {
            self.catch_up(subscriber.id(), history);
        }
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        for channel in self.subscriptions.remove(connection) {
            self.demand.unwant(&channel, self.index);
        }
    }

    /// A connection leaves one channel. What is read for it goes on without that one, and where it stands says so.
    fn leave(&mut self, connection: ConnectionId, channel: &ChannelName) {
        if !self.subscriptions.remove_one(connection, channel) {
            return;
        }
        self.demand.unwant(channel, self.index);
        self.subscriptions.for_each_of(connection, |_, other| other.form = other.form.leaving());
        if let Some(catch_up) = self.catching_up(connection) {
            catch_up.stop(channel);
            catch_up.form = catch_up.form.leaving();
        }
    }

    async fn revoke(&mut self, channel: &ChannelName, turn: &mut Turn) -> usize {
        let subscriptions = self.subscriptions.of(channel);
        let members: Vec<_> = subscriptions.iter().map(|one| one.subscriber.clone()).collect();
        for chunk in members.chunks(FANOUT_CHUNK) {
            turn.take(chunk.len()).await;
            for member in chunk {
                self.disconnect(member.id());
                member.end(End::Revoked);
            }
        }
        members.len()
    }

    /// Hands publications to whoever is live. With `holding`, others were just published or follow at once: connections that may be in
    /// their channels, too, hold them. Returns those that had no room for them.
    async fn publish(
        &self,
        run: &mut Run,
        mut holding: Option<&mut Holding>,
        turn: &mut Turn,
    ) -> Vec<ConnectionId> {
        let mut left_behind = Vec::new();
        let channel = run.channel().clone();
        for chunk in self.subscriptions.of(&channel).chunks(FANOUT_CHUNK) {
            turn.take(chunk.len()).await;
            hand_out(run, chunk, holding.as_deref_mut(), &mut left_behind);
        }
        left_behind
    }

    /// A connection has no room for what comes: from now on it is served from history.
    fn fall_behind(&mut self, connection: ConnectionId) {
        COUNTERS.catch_ups.count();
        self.leave_live(connection);
        if self.catching_up(connection).is_some_and(|catch_up| matches!(catch_up.awaits, Awaits::Nothing)) {
            self.await_room(connection);
        }
    }

    /// All live channels of a connection are read from history, from where they are.
    fn leave_live(&mut self, connection: ConnectionId) {
        let reached = self.reached;
        let mut behind = Vec::new();
        let mut form = Form::Plain;
        self.subscriptions.for_each_of(connection, |channel, subscription| {
            form = subscription.form;
            if subscription.live_from != NOT_LIVE {
                behind.push((channel.clone(), turn_of(reached).max(subscription.live_from - 1)));
                subscription.live_from = NOT_LIVE;
            }
        });
        let Some(member) = self.subscriptions.member(connection) else {
            return;
        };
        let catch_up = member.catch_up.get_or_insert_with(|| Box::new(CatchUp::new(form)));
        for (channel, after) in behind {
            catch_up.start(&channel, after, false);
        }
        if form.has_checkpoints() && !catch_up.counts {
            catch_up.counts = true;
            member.stands = later(member.stands, reached);
        }
    }

    /// Goes on as soon as nothing waits for the connection.
    fn await_room(&mut self, connection: ConnectionId) {
        let is_drained = self.subscriptions.subscriber(connection).is_some_and(|one| one.is_drained());
        if let Some(catch_up) = self.catching_up(connection) {
            catch_up.awaits = Awaits::Room;
            if is_drained && let Some(later) = self.later.upgrade() {
                // Others get their turn in between.
                _ = later.send(Job::Drained(connection));
            }
        }
    }

    fn drained(&mut self, connection: ConnectionId, history: &Arc<dyn History>) {
        if self.catching_up(connection).is_some_and(|catch_up| matches!(catch_up.awaits, Awaits::Room)) {
            self.catch_up(connection, history);
        }
    }

    /// How far a connection has been served in a channel that it is in.
    fn place_in(&mut self, channel: &ChannelName, connection: ConnectionId) -> Option<u64> {
        let reached = turn_of(self.reached);
        let mut place = None;
        self.subscriptions.for_each_of(connection, |other, subscription| {
            if other == channel && subscription.live_from != NOT_LIVE {
                place = Some(reached.max(subscription.live_from - 1));
            }
        });
        place.or_else(|| self.catching_up(connection)?.place_in(channel))
    }

    fn catching_up(&mut self, connection: ConnectionId) -> Option<&mut CatchUp> {
        self.subscriptions.member(connection)?.catch_up.as_deref_mut()
    }

    /// Reads the next page for a connection: at once if it is in memory.
    fn catch_up(&mut self, connection: ConnectionId, history: &Arc<dyn History>) {
        let Some(catch_up) = self.catching_up(connection) else {
            return;
        };
        match history.read(&catch_up.readings, Depth::Memory) {
            Ok(None) => {
                let (ticket, readings) = (catch_up.await_disk(), catch_up.readings.clone());
                self.read_from_disk(connection, ticket, readings, history.clone());
            }
            page => self.deliver_page(connection, page, history),
        }
    }

    fn read_from_disk(
        &self,
        connection: ConnectionId,
        ticket: Weak<()>,
        readings: Vec<Reading>,
        history: Arc<dyn History>,
    ) {
        let (readers, later) = (self.readers.clone(), self.later.clone());
        tokio::spawn(async move {
            // Held until the page is delivered: so many pages are in memory at most.
            let permit = readers.acquire_owned().await.expect("nobody closes it");
            if ticket.strong_count() == 0 {
                return;
            }
            let page = tokio::task::spawn_blocking(move || history.read(&readings, Depth::Disk)).await;
            let page = page.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            if let Some(later) = later.upgrade() {
                _ = later.send(Job::Page { connection, ticket, page, _permit: permit });
            }
        });
    }

    /// A page was read from disk, perhaps for somebody who is not here any more or wants something else by now.
    fn take_page(
        &mut self,
        connection: ConnectionId,
        ticket: &Weak<()>,
        page: io::Result<Option<Page>>,
        history: &Arc<dyn History>,
    ) {
        let Some(catch_up) = self.catching_up(connection).filter(|one| one.expects(ticket)) else {
            return;
        };
        if catch_up.end_wait() {
            self.deliver_page(connection, page, history);
        } else {
            self.catch_up(connection, history);
        }
    }

    /// Delivers what was read for a connection.
    fn deliver_page(
        &mut self,
        connection: ConnectionId,
        page: io::Result<Option<Page>>,
        history: &Arc<dyn History>,
    ) {
        let page = match page {
            Ok(Some(page)) => page,
            Ok(None) => unreachable!("whoever may wait for the disk gets a page"),
            Err(error) => {
                error!(%error, "history could not be read");
                self.end(connection, End::Slow);
                return;
            }
        };
        let (reached, encoder) = (self.reached, self.encoder.clone());
        let Some(subscriber) = self.subscriptions.subscriber(connection).cloned() else {
            return;
        };
        let Some(member) = self.subscriptions.member(connection) else {
            return;
        };
        let is_silent = !page.losses.is_empty() && !member.is_aware;
        let Some(catch_up) = &mut member.catch_up else {
            return;
        };
        if is_silent {
            self.end(connection, End::Slow);
            return;
        }
        catch_up.awaits = Awaits::Nothing;
        let stands = if catch_up.counts { member.stands } else { later(member.stands, reached) };
        let frames = encode(&page, catch_up, stands, &*encoder);
        let bytes = frames.len() as u64;
        if !frames.is_empty() && subscriber.deliver(&frames.into(), OUTBOX_BYTES_MAX) == Delivery::Full {
            // It is read again when there is room.
            self.await_room(connection);
            return;
        }
        COUNTERS.deliveries.add(page.publications.len() as u64);
        COUNTERS.delivered_bytes.add(bytes);
        COUNTERS.gaps.add(page.losses.len() as u64);
        if catch_up.counts {
            member.stands = later(stands, Some(page.reached));
        }
        let top = page.reached.turn;
        catch_up.advance(top, &page.losses);
        if !page.is_complete {
            self.await_room(connection);
        } else if top < turn_of(reached) {
            // More was served since this was read.
            self.catch_up(connection, history);
        } else {
            self.go_live(connection, top);
        }
    }

    fn go_live(&mut self, connection: ConnectionId, top: u64) {
        if let Some(member) = self.subscriptions.member(connection) {
            member.catch_up = None;
        }
        self.subscriptions.for_each_of(connection, |_, subscription| {
            if subscription.live_from == NOT_LIVE {
                subscription.live_from = top + 1;
            }
        });
    }

    fn end(&mut self, connection: ConnectionId, reason: End) {
        if let Some(subscriber) = self.subscriptions.subscriber(connection).cloned() {
            self.disconnect(connection);
            subscriber.end(reason);
        }
    }
}

/// The inner loop of the fan-out, which waits for nothing.
fn hand_out(
    run: &Run,
    subscriptions: &[Subscription],
    mut holding: Option<&mut Holding>,
    left_behind: &mut Vec<ConnectionId>,
) {
    let first_turn = run.first_turn();
    let (mut taken, mut bytes, mut lost) = (0, 0, 0);
    // Asked for once, and not for each of a thousand clients.
    let mut in_form = [None; Form::COUNT];
    for Subscription { subscriber, live_from, form, is_elsewhere } in subscriptions {
        let later;
        let frames = match (*live_from, first_turn) {
            (NOT_LIVE, _) => {
                lost += 1;
                continue;
            }
            (live_from, Some(first)) if live_from > first => {
                later = run.frames_from(live_from, *form);
                let Some(frames) = &later else { continue };
                frames
            }
            _ => *in_form[*form as usize].get_or_insert_with(|| run.frames(*form)),
        };
        let delivery = match holding.as_deref_mut() {
            Some(holding) if *is_elsewhere => holding.hold(subscriber, frames),
            _ => subscriber.deliver(frames, OUTBOX_LIVE_BYTES_MAX),
        };
        match delivery {
            Delivery::Taken | Delivery::Held => {
                taken += 1;
                bytes += frames.len();
            }
            Delivery::Full => {
                lost += 1;
                if first_turn.is_some() {
                    left_behind.push(subscriber.id());
                }
            }
        }
    }
    COUNTERS.deliveries.add(taken * run.count() as u64);
    COUNTERS.delivered_bytes.add(bytes as u64);
    // Only what is kept is read from history later.
    COUNTERS.volatile_losses.add(lost * run.volatile() as u64);
}
