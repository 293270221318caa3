//! What is kept of a poll, to find out whether its answer was lost: HTTP does not say whether one has arrived.
//!
//! A browser or a proxy that has lost an answer asks for it once more, by itself and under the same name. Then the session must end, because
//! what was in the answer is gone. But some clients name their polls by the second, always the same, or not at all, and with those a name that
//! comes again says nothing.
//!
//! Invariant: no client is taken to have lost an answer because it names its polls by the second, and hardly one because its clock is a little
//! finer ([`TICK_MS`]). `docs/GUARANTEES.md` says what is noticed and what is not.

/// What is known of the last poll of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PollMark {
    /// Polls of this session up to it.
    number: u32,
    /// What its client called it, as a hash; 0 if it has no name.
    name: u32,
    /// When it arrived, in as many milliseconds of the gateway's clock as fit: nobody is away for 49 days.
    arrived: u32,
    names: Names,
    /// It has the name of the one before it.
    is_repeated: bool,
    /// Its name cannot come again unless its answer was lost: that came so late that its client's clock had gone on.
    is_unrepeatable: bool,
}

/// How long a second of a client's clock is at most, by ours.
const SECOND_MS: u32 = 1_050;

/// For how long a poll that is called as the one before it may be one of a client with fine names. Some of those are made of milliseconds
/// and nothing else, or by a clock that goes on every 16 ms (Python's on Windows).
///
/// By when polls arrive, that is a guess: one may be late on its way. Once a client has shown that it has such a clock, only what an answer
/// has waited counts, which is less than what has passed for its client.
const TICK_MS: u32 = 20;

impl PollMark {
    /// Of a session that has just opened.
    pub(super) fn opened(now: u64) -> Self {
        Self { arrived: fitting(now), ..Self::default() }
    }

    pub(super) fn number(self) -> u32 {
        self.number
    }

    /// The next poll, if it can be one: not if the client asks again for what it may never have got.
    pub(super) fn next(self, name: u32, now: u64) -> Option<Self> {
        let arrived = fitting(now);
        let gap = arrived.wrapping_sub(self.arrived);
        let is_repeated = name != 0 && name == self.name;
        if is_repeated && (self.is_unrepeatable || self.names.are_unique() && gap > TICK_MS) {
            return None;
        }
        let is_other = name != 0 && self.name != 0 && !is_repeated;
        let names = if is_repeated { self.names.repeated(gap) } else { self.names.next(is_other, gap) };
        let number = self.number.wrapping_add(1);
        Some(Self { number, name, arrived, names, is_repeated, is_unrepeatable: false })
    }

    /// Its answer goes out.
    pub(super) fn answer(&mut self, now: u64) {
        let waited = fitting(now).wrapping_sub(self.arrived);
        let has_ticked = self.names.are_fine() && waited > TICK_MS;
        self.is_unrepeatable |= has_ticked || self.names.have_changed && waited > SECOND_MS;
    }

    /// Whether an answer that nobody got is missed. Who has asked for something new since then had it after all.
    pub(super) fn is_last_or_repeated(self, answer: u32) -> bool {
        answer == self.number || self.is_repeated && answer == self.number.wrapping_sub(1)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "moments are compared within a part of what 32 bits hold"
)]
fn fitting(millis: u64) -> u32 {
    millis as u32
}

/// How finely a client names its polls.
///
/// A client names a poll after it has the answer to the one before, and before the poll is here. So between the arrival of one poll and that of
/// another, who names by the second has changed names at most once more than seconds have passed, in all the polls behind the first one.
/// `lead` is by how much it has more changes than seconds, with the first poll for which that is most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Names {
    /// In steps of 20 ms. [`FINE`] once it was too much for somebody who names by the second. From [`TICKING`] to that it counts the names since
    /// one came again all the same while nothing was lost.
    lead: i8,
    /// There was more than one, so the client does not call all its polls the same.
    have_changed: bool,
}

const STEP_MS: u32 = 20;
/// What a change of names counts: a second, or a little less, because the client's clock may be faster than ours.
const CHANGE: i8 = 49;
/// The lead that one who names by the second never exceeds.
const LEAD_MAX: i8 = 50;
const TICKING: i8 = 100;
const FINE: i8 = i8::MAX;

impl Names {
    fn are_fine(self) -> bool {
        self.lead >= TICKING
    }

    /// As far as is known.
    fn are_unique(self) -> bool {
        self.lead == FINE
    }

    /// With a poll that comes `gap` milliseconds behind the last one and is called as that.
    fn repeated(self, gap: u32) -> Self {
        if self.are_fine() { Self { lead: TICKING, ..self } } else { self.next(false, gap) }
    }

    /// With the poll that comes `gap` milliseconds behind the last one, and whose name is another one than that had, or may not be.
    fn next(self, is_other: bool, gap: u32) -> Self {
        let have_changed = self.have_changed || is_other;
        if self.are_fine() {
            return Self { lead: self.lead.saturating_add(i8::from(is_other)), have_changed };
        }
        let change = if is_other { CHANGE } else { 0 };
        // Behind the last poll, instead of the best one before it, there is no change yet.
        let before = (self.lead + change).max(0);
        // Who is a second behind, or more, gains nothing from what was before.
        let steps = i8::try_from(gap.div_ceil(STEP_MS));
        let lead = steps.map_or(-LEAD_MAX, |steps| (before - steps).max(-LEAD_MAX));
        Self { lead: if lead > LEAD_MAX { FINE } else { lead }, have_changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session that polls; time goes on as it is told.
    struct Session {
        mark: PollMark,
        now: u64,
    }

    impl Session {
        fn opened(now: u64) -> Self {
            Self { mark: PollMark::opened(now), now }
        }

        /// A poll comes `after` so many milliseconds, and its answer goes out when it has `waited`. Returns whether it may be one.
        fn polls(&mut self, name: u32, after: u64, waited: u64) -> bool {
            self.now += after;
            let Some(next) = self.mark.next(name, self.now) else { return false };
            self.mark = next;
            self.now += waited;
            self.mark.answer(self.now);
            true
        }

        fn all_poll(&mut self, names: &[u32], after: u64) -> &mut Self {
            for name in names {
                assert!(self.polls(*name, after, 0), "{name}");
            }
            self
        }
    }

    #[test]
    fn who_has_shown_three_names_within_a_second_repeats_none() {
        for (began, after) in [(1_000_000, 21), (2_000_000, 100), (3_000_000, 300)] {
            assert!(!Session::opened(began).all_poll(&[1, 2, 3], after).polls(3, after, 0), "{after}");
            let mut unnamed_first = Session::opened(began);
            unnamed_first.all_poll(&[0, 0, 0, 1, 2, 3], after);
            assert!(!unnamed_first.polls(3, after, 0), "{after}");
            // What is shown once holds on.
            let mut later = Session::opened(began);
            later.all_poll(&[1, 2, 3], after).all_poll(&[4, 5], 600_000).all_poll(&[0, 5, 0], 1);
            assert!(later.polls(6, 3, 3) && !later.polls(6, 100, 0), "{after}");
        }
    }

    #[test]
    fn too_few_names_or_too_slow_ones_show_nothing() {
        for (names, after) in [
            (&[1, 2][..], 5),
            (&[1, 2, 2, 2], 5),
            (&[1, 1, 1, 1], 5),
            (&[0, 0, 0, 0, 1], 5),
            (&[1, 0, 2, 0, 3], 5),
            (&[1, 2, 3], 340),
            (&[1, 2, 3, 4, 5, 6, 7, 8], 1_000),
        ] {
            let last = *names.last().unwrap();
            assert!(Session::opened(7).all_poll(names, after).polls(last, after, 0), "{names:?}");
        }
    }

    /// As with a message and a quarter each second.
    #[test]
    fn more_names_than_seconds_show_it_too() {
        let mut session = Session::opened(0);
        assert!(!session.all_poll(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 800).polls(12, 800, 0));
    }

    /// A burst after a long silence must not count together with one before it.
    #[test]
    fn names_behind_a_pause_begin_anew() {
        let mut session = Session::opened(0);
        for _ in 0..100 {
            let last = session.mark.name;
            session.all_poll(&[last + 1, last + 2], 5);
            assert!(session.polls(last + 2, 5, 0));
            session.now += [1_900, 2_600, 30_000, 3_600_000][last as usize / 2 % 4];
        }
    }

    #[test]
    fn the_name_of_one_that_waited_for_more_than_a_second_does_not_come_again() {
        let mut session = Session::opened(0);
        assert!(session.polls(1, 50, 5_000));
        assert!(session.polls(1, 50, 5_000), "it may call all of them the same");
        assert!(session.polls(2, 50, 900) && session.polls(2, 5, 1_051));
        assert!(!session.polls(2, 0, 0));
        assert!(session.polls(3, 0, 5_000) && session.polls(0, 5, 5_000) && session.polls(0, 5, 0));
    }

    /// Python on Windows: a poll that is late on its way must not be taken for another one once it has shown its clock.
    #[test]
    fn who_names_by_ticks_repeats_a_name_though_it_comes_late() {
        let mut session = Session::opened(0);
        session.all_poll(&[1, 2, 3, 3], 10);
        assert!(session.polls(3, 45, 3), "late on its way");
        assert!(session.polls(4, 5, 25) && !session.polls(4, 5, 0), "its clock has gone on while it waited");
        // A proxy that repeats one at once is no such clock: nothing else comes again.
        let others: Vec<u32> = (5..40).collect();
        assert!(!session.all_poll(&others, 45).polls(39, 45, 3), "others came since then");
        // As long as it goes on so.
        let mut session = Session::opened(0);
        session.all_poll(&[1, 2, 3, 4, 5, 5], 3);
        for name in 6..5_000 {
            assert!(session.polls(name, 45, 3), "{name}");
            if name % 25 == 0 {
                assert!(session.polls(name, 45, 3), "{name} is late");
            }
        }
    }

    #[test]
    fn one_that_comes_within_a_tick_may_be_called_as_the_last() {
        for (after, may_be) in [(0, true), (20, true), (21, false)] {
            let mut session = Session::opened(u64::from(u32::MAX) - 12);
            assert_eq!(session.all_poll(&[1, 2, 3, 4, 5, 6, 7], 5).polls(7, after, 0), may_be, "{after}");
        }
    }

    /// Whatever its answers, its way to us and its pauses take: it never says that an answer was lost.
    #[test]
    fn who_names_by_the_second_is_never_taken_to_have_lost_an_answer() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..2_000 {
            let (mut client, mut session) = (random(1_000), Session::opened(0));
            let longest = [3, 30, 300, 1_200, 5_000][round % 5];
            for _ in 0..300 {
                // It thinks, and then names its poll by its own clock, which is up to 1 % faster.
                let (thinks, travels, waits) = (random(longest), random(longest), random(longest));
                client += thinks * (100 + round as u64 % 2) / 100;
                let name = u32::try_from(client / 1_000 + 1).unwrap();
                assert!(session.polls(name, thinks + travels, waits), "round {round}");
                client += (travels + waits) * (100 + round as u64 % 2) / 100;
            }
            assert!(!session.mark.names.are_fine(), "round {round}");
        }
    }
}
