//! Clients are cut off again and again while publishing goes on, come back to where they were, and must have missed nothing.
//!
//! The server may be killed and started again meanwhile: publications are repeated until they are stored, and clients come back
//! from that as well.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    course::{Course, Extent},
    crowd::Crowd,
    pace::Pace,
    publisher::{Publisher, Recogniser},
    socket::{Door, Place, Socket, checkpoint},
    tally::{Figure, Mishap, Trouble},
};
use crate::client::{Failed, patience::Patience};

/// Publications on their way at the same time; those that are due then wait.
const PUBLISHERS: usize = 16;

/// How long a client tries to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing may come to clients that are all there. What is missing then will not come any more.
const QUIET: Duration = Duration::from_secs(5);

/// How often it is looked whether all are there.
const LOOK: Duration = Duration::from_millis(50);

/// The numbers that a client has.
#[derive(Debug, Default)]
struct Seen {
    /// All below this.
    below: u64,
    /// Some above: publications that are on their way together are stored in any order.
    above: BTreeSet<u64>,
    /// Those that no checkpoint followed: a connection that breaks right there brings them again.
    unsettled: Vec<u64>,
}

impl Seen {
    /// Whether it is a new one.
    fn take(&mut self, number: u64) -> bool {
        self.unsettled.push(number);
        if number < self.below || !self.above.insert(number) {
            return false;
        }
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        true
    }

    fn has(&self, number: u64) -> bool {
        number < self.below || self.above.contains(&number)
    }
}

/// What has become of the publications.
#[derive(Debug, Default)]
struct Ledger {
    /// How many have a number.
    issued: u64,
    /// Of which it is not known that they are stored.
    failed: BTreeSet<u64>,
}

/// Everything that a client needs for its life.
struct Client {
    course: Course,
    door: Arc<Door>,
    recogniser: Recogniser,
    seen: Arc<Mutex<Seen>>,
    place: Place,
    /// How many clients are away.
    away_now: Arc<AtomicU64>,
    /// When it is cut off next.
    cut: Instant,
    /// When that ends.
    ends: Instant,
    every: Duration,
    away: Duration,
}

pub(super) async fn run(course: &Course, every: Duration, away: Duration) -> Result<(), Failed> {
    let door = Arc::new(course.door(true).await?);
    let seen: Vec<_> = (0..course.bench.connections).map(|_| Arc::default()).collect();
    // Nobody is cut off before everybody is there; the clock starts then.
    let (start, started) = tokio::sync::watch::channel(None);
    let recogniser = Recogniser::new(course);
    let away_now = Arc::new(AtomicU64::new(0));
    let live = |number: u64, socket: Socket| {
        let seen: Arc<Mutex<Seen>> = Arc::clone(&seen[usize::try_from(number).unwrap_or_default()]);
        let mut client = Client {
            course: course.clone(),
            door: Arc::clone(&door),
            recogniser: recogniser.clone(),
            seen,
            place: socket.place.clone(),
            away_now: Arc::clone(&away_now),
            cut: Instant::now(),
            ends: Instant::now(),
            every,
            away,
        };
        let mut started = started.clone();
        #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
        let share = (number + 1) as f64 / course.bench.connections as f64;
        async move {
            let mut socket = Some(socket);
            let waiting = async {
                let begun: Instant = started.wait_for(Option::is_some).await.ok()?.as_ref().copied()?;
                Some(begun)
            };
            // Pings are answered meanwhile.
            let begun = tokio::select! {
                begun = waiting => begun,
                why = client.listen(&mut socket) => return client.lost_early(why),
            };
            let Some(begun) = begun else { return };
            client.ends = begun + client.course.bench.duration;
            client.cut = begun + every.mul_f64(share);
            client.live(socket).await;
        }
    };
    let crowd = Crowd::gather(course, Arc::clone(&door), None, live).await?;

    course.begin("clients are cut off and come back", Extent::Time(course.bench.duration));
    start.send_replace(Some(Instant::now()));
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let pace = Arc::new(Pace::of_time(course.bench.duration, course.bench.rate));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let publisher = Publisher::new(course, 1);
        publishers.spawn(work(course.clone(), Arc::clone(&pace), Arc::clone(&ledger), publisher));
    }
    publishers.join_all().await;
    let missing = || {
        let ledger = ledger.lock();
        let of = |seen: &Arc<Mutex<Seen>>| {
            let seen = seen.lock();
            let is_missing = |number: &u64| !seen.has(*number) && !ledger.failed.contains(number);
            (seen.below..ledger.issued).filter(is_missing).count() as u64
        };
        seen.iter().map(of).sum::<u64>()
    };
    // Who could not join in the beginning has missed everything, and that is said already.
    let absent = (course.bench.connections - crowd.joined) * {
        let ledger = ledger.lock();
        ledger.issued - ledger.failed.len() as u64
    };
    let (mut known, mut since) = (u64::MAX, Instant::now());
    let still = loop {
        let still = missing() - absent;
        if still < known {
            (known, since) = (still, Instant::now());
        }
        // Who is away comes back or gives up by itself.
        let is_quiet = away_now.load(Ordering::Relaxed) == 0 && since.elapsed() > QUIET;
        if still == 0 || is_quiet {
            break still;
        }
        sleep(LOOK).await;
    };
    let why = || format!("nothing came any more for {} s", QUIET.as_secs());
    course.tally.mishaps_of(Mishap::Missing, still, why);
    Ok(())
}

async fn work(course: Course, pace: Arc<Pace>, ledger: Arc<Mutex<Ledger>>, mut publisher: Publisher) {
    while let Some((number, due)) = pace.next().await {
        {
            let mut ledger = ledger.lock();
            ledger.issued = ledger.issued.max(number + 1);
        }
        match publisher.insist(&course, number).await {
            Ok(()) => course.tally.record(Figure::Publish, due),
            Err(problem) => {
                ledger.lock().failed.insert(number);
                course.tally.mishap(Trouble::new(Mishap::Publish, publisher.explain(&problem)));
            }
        }
    }
}

impl Client {
    /// Listens and is cut off in turn, until the run is over.
    async fn live(mut self, mut socket: Option<Socket>) {
        loop {
            let is_cut_again = self.cut < self.ends;
            let cut = self.cut;
            tokio::select! {
                _why = self.listen(&mut socket) => {
                    self.away_now.fetch_add(1, Ordering::Relaxed);
                }
                () = sleep_until(cut.into()), if is_cut_again => {
                    self.away_now.fetch_add(1, Ordering::Relaxed);
                    socket = None;
                    sleep(self.away).await;
                }
            }
            drop(socket.take());
            let back = self.come_back().await;
            self.away_now.fetch_sub(1, Ordering::Relaxed);
            match back {
                Ok(back) => socket = Some(back),
                Err(trouble) => return self.course.tally.mishap(trouble),
            }
            while self.cut <= Instant::now() {
                self.cut += self.every;
            }
        }
    }

    /// Takes what comes until the connection is lost; says why.
    async fn listen(&mut self, socket: &mut Option<Socket>) -> String {
        let Some(socket) = socket else { return "there is no connection".to_owned() };
        loop {
            if let Err(why) = socket.read(|packet| self.hear(packet, &BTreeSet::new())).await {
                return why;
            }
        }
    }

    fn lost_early(&self, why: String) {
        self.course.tally.mishap(Trouble::new(Mishap::Lost, why));
    }

    /// `again` may come once more.
    fn hear(&mut self, packet: &str, again: &BTreeSet<u64>) {
        let tally = &self.course.tally;
        if let Some(number) = self.recogniser.number(packet) {
            self.course.done.fetch_add(1, Ordering::Relaxed);
            if !self.seen.lock().take(number) && !again.contains(&number) {
                tally.mishap(Trouble::new(Mishap::Twice, format!("publication {number}")));
            }
        } else if let Some(cursor) = checkpoint(packet) {
            cursor.clone_into(&mut self.place.cursor);
            self.seen.lock().unsettled.clear();
        } else if packet.starts_with("42[\"gap\",") {
            tally.mishap(Trouble::new(Mishap::Gap, packet));
        }
    }

    /// Connects again, and again, with what it knows of itself.
    async fn come_back(&mut self) -> Result<Socket, Trouble> {
        let mut patience = Patience::of(PATIENCE);
        loop {
            let began = Instant::now();
            let trouble = match Socket::join(&self.door, Some(&self.place)).await {
                Ok(mut socket) => {
                    self.course.tally.record(Figure::Return, began);
                    let place = std::mem::take(&mut socket.place);
                    if place.pid != self.place.pid {
                        let why = "the server did not know the client any more";
                        self.course.tally.mishap(Trouble::new(Mishap::Gap, why));
                    }
                    self.place = place;
                    // What comes again was sent before anything else.
                    let again = std::mem::take(&mut self.seen.lock().unsettled).into_iter().collect();
                    socket.early(|packet| self.hear(packet, &again));
                    return Ok(socket);
                }
                Err(trouble) => trouble,
            };
            match patience.pause(Instant::now(), None) {
                Some(pause) => sleep(pause).await,
                None => return Err(trouble),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_in_any_order() {
        let mut seen = Seen::default();
        for (number, is_new) in [(0, true), (2, true), (2, false), (1, true), (0, false), (4, true)] {
            assert_eq!(seen.take(number), is_new, "{number}");
        }
        assert_eq!((seen.below, seen.above.len()), (3, 1));
        let has: Vec<bool> = (0..6).map(|number| seen.has(number)).collect();
        assert_eq!(has, [true, true, true, false, true, false]);
    }
}
