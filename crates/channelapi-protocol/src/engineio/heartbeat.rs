//! Who is still there: the server pings, the client answers.
//!
//! Times are milliseconds of a clock that never goes back, whatever it counts from.

/// The two durations every session is told when it opens.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Milliseconds from the opening, or from an answer, to the next ping.
    pub ping_interval: u64,
    /// Milliseconds a ping may stay unanswered.
    pub ping_timeout: u64,
    /// How late, in milliseconds, the caller's timer may be when all is well. A ping that is later than this (a busy or
    /// suspended machine) starts its timeout when it was really sent, so that no client is dropped for our delay.
    pub lateness: u64,
}

impl Timing {
    /// Whether a look at what was due then comes so late that we have stood still meanwhile. The timer and whoever it wakes may each be
    /// late when all is well.
    fn is_standstill(&self, due: u64, now: u64) -> bool {
        now > due.saturating_add(self.lateness.saturating_mul(2))
    }
}

/// The heartbeat of one session.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    /// When the next ping is due or, while an answer is awaited, when the client counts as gone.
    due: u64,
    awaited: Awaited,
}

/// What the client is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Pong,
    /// The same, and its time ran out while we stood still: it has had more, and has no more than that.
    PongAtLast,
}

/// What there is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing before this time.
    Wait(u64),
    /// Send a ping, and look again at this time.
    Ping(u64),
    /// The client did not answer in time: end the session.
    Dead,
}

impl Heartbeat {
    /// The heartbeat of a session that opens now. The first ping comes one interval later.
    pub fn new(now: u64, timing: &Timing) -> Self {
        Self { due: now.saturating_add(timing.ping_interval), awaited: Awaited::Nothing }
    }

    /// Looks at the clock.
    pub fn tick(&mut self, now: u64, timing: &Timing) -> Beat {
        if now < self.due {
            return Beat::Wait(self.due);
        }
        match self.awaited {
            Awaited::Nothing => {
                let sent = self.due.max(now.saturating_sub(timing.lateness));
                self.due = sent.saturating_add(timing.ping_timeout);
                self.awaited = Awaited::Pong;
                Beat::Ping(self.due)
            }
            // The answer may have come long ago, and nobody has read it yet.
            Awaited::Pong if timing.is_standstill(self.due, now) => {
                self.due = now.saturating_add(timing.ping_timeout);
                self.awaited = Awaited::PongAtLast;
                Beat::Wait(self.due)
            }
            Awaited::Pong | Awaited::PongAtLast => Beat::Dead,
        }
    }

    /// The client answered. Says whether it was asked: an answer to nothing changes nothing, as it could otherwise put off every ping.
    pub fn pong(&mut self, now: u64, timing: &Timing) -> bool {
        let is_awaited = self.is_awaited();
        if is_awaited {
            self.awaited = Awaited::Nothing;
            self.due = now.saturating_add(timing.ping_interval);
        }
        is_awaited
    }

    /// Whether an answer is awaited.
    pub fn is_awaited(&self) -> bool {
        self.awaited != Awaited::Nothing
    }

    /// Whether the client's time has run out, to be asked before a late request is served.
    pub fn is_dead(&self, now: u64, timing: &Timing) -> bool {
        match self.awaited {
            // It was not asked: whatever is late, is so on our side.
            Awaited::Nothing => false,
            Awaited::Pong => now >= self.due && !timing.is_standstill(self.due, now),
            Awaited::PongAtLast => now >= self.due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { ping_interval: 25_000, ping_timeout: 20_000, lateness: 1_000 };

    #[test]
    fn an_answering_client_lives_and_is_pinged_each_interval() {
        let mut heartbeat = Heartbeat::new(0, &TIMING);
        let mut pings = Vec::new();
        for now in (0..=100_000).step_by(500) {
            match heartbeat.tick(now, &TIMING) {
                Beat::Ping(_) => {
                    pings.push(now);
                    heartbeat.pong(now + 100, &TIMING);
                }
                Beat::Wait(until) => assert!(until > now),
                Beat::Dead => panic!("died at {now}"),
            }
        }
        assert_eq!(pings, [25_000, 50_500, 76_000]);
    }

    #[test]
    fn a_silent_client_is_dead_after_interval_and_timeout() {
        let mut heartbeat = Heartbeat::new(0, &TIMING);
        assert_eq!(heartbeat.tick(25_400, &TIMING), Beat::Ping(45_000), "a little late does not count");
        assert_eq!(heartbeat.tick(44_999, &TIMING), Beat::Wait(45_000));
        assert!(!heartbeat.is_dead(44_999, &TIMING) && heartbeat.is_dead(45_000, &TIMING));
        assert!(heartbeat.is_dead(47_000, &TIMING), "a little late does not count here, either");
        assert_eq!(heartbeat.tick(47_000, &TIMING), Beat::Dead);
    }

    /// Every connection has one.
    #[test]
    fn a_heartbeat_stays_small() {
        assert_eq!(size_of::<Heartbeat>(), 16);
    }

    #[test]
    fn a_suspended_server_gives_its_clients_time_to_answer() {
        let mut heartbeat = Heartbeat::new(0, &TIMING);
        assert!(!heartbeat.is_dead(600_000, &TIMING), "it was not asked");
        assert_eq!(heartbeat.tick(600_000, &TIMING), Beat::Ping(619_000));
    }

    /// Once, a server that stood still for longer than the timeout closed clients whose answers had arrived meanwhile.
    #[test]
    fn an_answer_that_arrived_while_the_server_was_suspended_counts() {
        let mut heartbeat = Heartbeat::new(0, &TIMING);
        assert_eq!(heartbeat.tick(25_000, &TIMING), Beat::Ping(45_000));
        assert!(!heartbeat.is_dead(600_000, &TIMING), "its request may be the answer");
        assert_eq!(heartbeat.tick(600_000, &TIMING), Beat::Wait(620_000));
        assert!(heartbeat.pong(600_001, &TIMING));
        assert_eq!(heartbeat.tick(600_002, &TIMING), Beat::Wait(625_001));
        assert_eq!(
            heartbeat.tick(625_001, &TIMING),
            Beat::Ping(645_001),
            "and the next one has its own time"
        );
    }

    #[test]
    fn a_server_that_is_always_late_keeps_no_silent_client() {
        let mut heartbeat = Heartbeat::new(0, &TIMING);
        assert_eq!(heartbeat.tick(25_000, &TIMING), Beat::Ping(45_000));
        assert_eq!(heartbeat.tick(47_001, &TIMING), Beat::Wait(67_001));
        assert_eq!(heartbeat.tick(67_000, &TIMING), Beat::Wait(67_001));
        assert!(!heartbeat.is_dead(67_000, &TIMING) && heartbeat.is_dead(90_000, &TIMING));
        assert_eq!(heartbeat.tick(90_000, &TIMING), Beat::Dead);
    }

    #[test]
    fn unasked_pongs_do_not_put_off_the_ping() {
        let mut heartbeat = Heartbeat::new(0, &TIMING);
        assert!(!heartbeat.pong(24_000, &TIMING));
        assert!(matches!(heartbeat.tick(25_000, &TIMING), Beat::Ping(_)));
    }
}
