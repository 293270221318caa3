//! What was measured and what went wrong, kept apart from who does it, so that it is there however a run ends.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Longest time that is told apart; what takes longer counts as this.
const TIME_MAX: Duration = Duration::from_hours(1);

/// Digits that hold of a time: a histogram then takes about 100 KiB.
const DIGITS: u8 = 3;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    /// From connecting to being in the channel.
    Join,
    /// From when a publication was due to its answer.
    Publish,
    /// From when a publication was due to each client that gets it.
    Deliver,
    /// … to the last of them.
    Last,
    /// From connecting again to having everything that was missed.
    Return,
}

impl Figure {
    /// Its name in JSON, and what a person reads.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Join => ("join", "connect and join"),
            Self::Publish => ("publish", "publish until answered"),
            Self::Deliver => ("deliver", "publish until delivered"),
            Self::Last => ("last", "… to the last client"),
            Self::Return => ("return", "come back and catch up"),
        }
    }
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mishap {
    Connect,
    Join,
    Lost,
    Publish,
    Missing,
    Twice,
    Gap,
}

impl Mishap {
    /// Its name in JSON, and what a person reads.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Connect => ("connect", "could not connect"),
            Self::Join => ("join", "were not let in"),
            Self::Lost => ("lost", "connections were lost"),
            Self::Publish => ("publish", "publications failed"),
            Self::Missing => ("missing", "deliveries are missing"),
            Self::Twice => ("twice", "deliveries came twice"),
            Self::Gap => ("gap", "came back to a history with a gap"),
        }
    }
}

/// Something that went wrong, and why.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) mishap: Mishap,
    pub(super) why: String,
}

impl Trouble {
    pub(super) fn new(mishap: Mishap, why: impl Into<String>) -> Self {
        Self { mishap, why: why.into() }
    }
}

/// All times of one figure.
#[derive(Debug, Clone)]
pub(super) struct Times {
    /// In microseconds.
    pub(super) histogram: Histogram<u64>,
    /// Since the first began.
    first: Instant,
    last: Instant,
}

impl Times {
    /// How many there were a second, from the beginning of the first to the end of the last.
    pub(super) fn per_second(&self) -> f64 {
        let count = u32::try_from(self.histogram.len()).map_or(f64::INFINITY, f64::from);
        count / (self.last - self.first).as_secs_f64().max(1e-6)
    }
}

/// How often something went wrong, and why the first time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mishaps {
    pub(super) count: u64,
    pub(super) first: String,
}

/// Everything that a run finds out.
#[derive(Default)]
pub(super) struct Tally {
    times: Mutex<BTreeMap<Figure, Times>>,
    mishaps: Mutex<BTreeMap<Mishap, Mishaps>>,
}

impl Tally {
    /// Something that began then is done now.
    pub(super) fn record(&self, figure: Figure, began: Instant) {
        let now = Instant::now();
        let micros = u64::try_from((now - began).as_micros()).unwrap_or(u64::MAX).max(1);
        let mut all = self.times.lock();
        let times = all.entry(figure).or_insert_with(|| {
            let most = u64::try_from(TIME_MAX.as_micros()).expect("an hour is a small number");
            let histogram = Histogram::new_with_max(most, DIGITS).expect("the bounds are valid");
            Times { histogram, first: began, last: now }
        });
        times.histogram.saturating_record(micros);
        times.first = times.first.min(began);
        times.last = now;
    }

    pub(super) fn mishap(&self, trouble: Trouble) {
        self.mishaps_of(trouble.mishap, 1, || trouble.why);
    }

    /// Several of one kind.
    pub(super) fn mishaps_of(&self, mishap: Mishap, count: u64, why: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        let mut all = self.mishaps.lock();
        let mishaps = all.entry(mishap).or_default();
        if mishaps.count == 0 {
            mishaps.first = why();
        }
        mishaps.count += count;
    }

    /// The figures that there are, in their order.
    pub(super) fn times(&self) -> BTreeMap<Figure, Times> {
        self.times.lock().clone()
    }

    pub(super) fn mishaps(&self) -> BTreeMap<Mishap, Mishaps> {
        self.mishaps.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_apart_to_three_digits_and_never_refused() {
        let (tally, now) = (Tally::default(), Instant::now());
        for _ in 0..99 {
            tally.record(Figure::Join, now.checked_sub(Duration::from_millis(500)).unwrap());
        }
        tally.record(Figure::Join, now.checked_sub(Duration::from_hours(2)).unwrap_or(now));
        let times = &tally.times()[&Figure::Join];
        let p50 = times.histogram.value_at_quantile(0.5);
        assert!((499_000..=510_000).contains(&p50), "{p50}");
        assert_eq!(times.histogram.len(), 100);
        assert!(times.per_second() > 0.0);
    }

    #[test]
    fn the_first_reason_stands_for_all_of_its_kind() {
        let tally = Tally::default();
        tally.mishap(Trouble::new(Mishap::Lost, "one"));
        tally.mishap(Trouble::new(Mishap::Lost, "other"));
        tally.mishaps_of(Mishap::Missing, 0, || unreachable!());
        let expected = Mishaps { count: 2, first: "one".to_owned() };
        assert_eq!(tally.mishaps(), BTreeMap::from([(Mishap::Lost, expected)]));
    }
}
