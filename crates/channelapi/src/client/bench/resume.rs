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
    publish::try_to_publish,
    publisher::{Publisher, Recogniser},
    seen::Seen,
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

/// How long after the last publication it is waited at most, whatever still comes.
const LAST: Duration = Duration::from_mins(2);

/// How often it is looked whether all are there.
const LOOK: Duration = Duration::from_millis(50);

/// What a client has heard.
#[derive(Debug, Default)]
struct Heard {
    seen: Seen,
    /// Those that no checkpoint followed: a connection that breaks right there brings them again.
    unsettled: Vec<u64>,
}

impl Heard {
    /// Whether it is a new one.
    fn take(&mut self, number: u64) -> bool {
        self.unsettled.push(number);
        self.seen.take(number)
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

impl Ledger {
    /// How many a client should have and has not.
    fn missing(&self, seen: &Seen) -> u64 {
        let excused = self.failed.iter().filter(|number| !seen.has(**number)).count() as u64;
        self.issued - seen.count().min(self.issued) - excused
    }
}

/// Everything that a client needs for its life.
struct Client {
    course: Course,
    door: Arc<Door>,
    recogniser: Recogniser,
    heard: Arc<Mutex<Heard>>,
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
    // What would go wrong each time is said once, before anybody waits for it.
    try_to_publish(course).await?;
    let heard: Vec<_> = (0..course.bench.connections).map(|_| Arc::default()).collect();
    // Nobody is cut off before everybody is there; the clock starts then.
    let (start, started) = tokio::sync::watch::channel(None);
    let recogniser = Recogniser::new(course);
    let away_now = Arc::new(AtomicU64::new(0));
    let live = |number: u64, socket: Socket| {
        let heard: Arc<Mutex<Heard>> = Arc::clone(&heard[usize::try_from(number).unwrap_or_default()]);
        let mut client = Client {
            course: course.clone(),
            door: Arc::clone(&door),
            recogniser: recogniser.clone(),
            heard,
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
        heard.iter().map(|heard: &Arc<Mutex<Heard>>| ledger.missing(&heard.lock().seen)).sum::<u64>()
    };
    // Who could not join in the beginning has missed everything, and that is said already.
    let absent = (course.bench.connections - crowd.joined) * {
        let ledger = ledger.lock();
        ledger.issued - ledger.failed.len() as u64
    };
    let (mut known, mut since, ends) = (u64::MAX, Instant::now(), Instant::now() + LAST);
    let still = loop {
        let still = missing() - absent;
        if still < known {
            (known, since) = (still, Instant::now());
        }
        // Who is away comes back or gives up by itself.
        let is_quiet = away_now.load(Ordering::Relaxed) == 0 && since.elapsed() > QUIET;
        if still == 0 || is_quiet || Instant::now() > ends {
            break still;
        }
        sleep(LOOK).await;
    };
    let why = || {
        let late = format!("they had not come {} s after the last publication", LAST.as_secs());
        if Instant::now() > ends { late } else { format!("nothing came any more for {} s", QUIET.as_secs()) }
    };
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
        // Of connections that are lost again at once: whatever closes them is not to be asked a thousand times a second.
        let mut patience = Patience::endless();
        loop {
            let began = Instant::now();
            let is_cut_again = self.cut < self.ends;
            let cut = self.cut;
            tokio::select! {
                _why = self.listen(&mut socket) => {
                    self.away_now.fetch_add(1, Ordering::Relaxed);
                    if began.elapsed() > QUIET {
                        patience.renew();
                    }
                    sleep(patience.pause(Instant::now(), None).unwrap_or(QUIET)).await;
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
            if !self.heard.lock().take(number) && !again.contains(&number) {
                tally.mishap(Trouble::new(Mishap::Twice, format!("publication {number}")));
            }
        } else if let Some(cursor) = checkpoint(packet) {
            cursor.clone_into(&mut self.place.cursor);
            self.heard.lock().unsettled.clear();
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
                    let again = std::mem::take(&mut self.heard.lock().unsettled).into_iter().collect();
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
    fn what_is_missing_is_what_is_stored_and_was_not_seen() {
        let mut seen = Seen::default();
        for number in [0, 1, 3, 6] {
            seen.take(number);
        }
        // 3 came although nobody knows that it is stored; 2 and 4 need not have come.
        let ledger = Ledger { issued: 8, failed: BTreeSet::from([2, 3, 4]) };
        assert_eq!(ledger.missing(&seen), 2, "5 and 7");
        assert_eq!(Ledger::default().missing(&Seen::default()), 0);
    }
}
