//! Putting out whoever is here with a JWT that was revoked, or in a channel that was.
//!
//! Invariants:
//! - Nobody waits for the fan-out: a connection that has ended takes nothing any more, whatever is on its way to it.
//! - Nobody waits for others to be put out: while many go, what is revoked meanwhile is looked for, and those who are found take turns
//!   with those who were found before.
//! - Nobody goes who is good when it is its turn: it may have brought another JWT meanwhile.

use super::Gateway;
use super::connection::Connection;
use crate::metrics;
use channelapi_core::delivery::Subscriber as _;
use channelapi_core::hub::Hub;
use channelapi_core::limits::{REVOCATION_CHUNK, REVOCATION_PAUSE, REVOKED_TURN};
use channelapi_core::model::ConnectionId;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};
use tracing::info;

/// Those who are to be put out.
struct Found<T> {
    /// Those whom one look has found.
    looks: VecDeque<Vec<T>>,
    /// All of them that are not put out yet: another look finds them again.
    ids: HashSet<ConnectionId>,
}

/// What follows when some were put out.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// Nobody is left.
    Rest,
    /// Something was revoked meanwhile, which nobody has looked for, whether or not somebody is left.
    Look,
}

impl<T> Found<T> {
    fn new() -> Self {
        Self { looks: VecDeque::new(), ids: HashSet::new() }
    }

    /// The next one. Every look has its turn.
    fn next(&mut self) -> Option<T> {
        let mut look = self.looks.pop_front()?;
        let one = look.pop()?;
        if !look.is_empty() {
            self.looks.push_back(look);
        }
        Some(one)
    }
}

impl Gateway {
    /// Puts out whoever is here with what is revoked, whenever something is, until it is dropped.
    pub(crate) async fn keep_revoked_out(self: Arc<Self>, hub: Arc<Hub>) {
        let mut changed = hub.revocations.changed();
        let is_revoked = |one: &Connection| one.is_revoked(&hub.revocations);
        // If this has panicked before, somebody may have been left.
        changed.mark_changed();
        while changed.changed().await.is_ok() {
            let (mut found, mut count) = (Found::new(), 0);
            loop {
                self.look_for_revoked(&is_revoked, &mut found).await;
                let next_look = Instant::now() + REVOCATION_PAUSE;
                let then = put_out(&mut found, &is_revoked, &mut count, || {
                    let is_to_look = Instant::now() >= next_look && changed.has_changed().unwrap_or(false);
                    if is_to_look {
                        changed.mark_unchanged();
                    }
                    is_to_look
                })
                .await;
                if then == Then::Rest {
                    sleep_until(next_look).await;
                    break;
                }
            }
            if count > 0 {
                info!(count, "connections were ended by a revocation");
            }
        }
    }

    /// Adds whoever is here with what is revoked, and is not known yet.
    async fn look_for_revoked(
        &self,
        is_revoked: &(impl Fn(&Connection) -> bool + Sync),
        found: &mut Found<Arc<Connection>>,
    ) {
        let (mut look, mut after) = (Vec::new(), 0);
        while let Some((chunk, next)) = self.connections_from(after, REVOCATION_CHUNK) {
            after = next;
            let revoked = chunk.into_iter().filter(|one| is_revoked(one));
            look.extend(revoked.filter(|one| found.ids.insert(one.id())));
            tokio::task::yield_now().await;
        }
        if !look.is_empty() {
            found.looks.push_back(look);
        }
    }

    /// Some connections, and where the next ones begin; `None` when there are no more.
    fn connections_from(&self, place: usize, count: usize) -> Option<(Vec<Arc<Connection>>, usize)> {
        let connections = self.connections.lock();
        let end = connections.all.capacity();
        if place >= end {
            return None;
        }
        let next = end.min(place + count);
        Some(((place..next).filter_map(|place| connections.all.get(place).cloned()).collect(), next))
    }
}

/// Puts out those who were found and are still revoked, and counts them, until there are none left or it is time to look again.
async fn put_out(
    found: &mut Found<Arc<Connection>>,
    is_revoked: &(impl Fn(&Connection) -> bool + Sync),
    count: &mut u64,
    mut is_to_look: impl FnMut() -> bool,
) -> Then {
    loop {
        let turn_ends = Instant::now() + REVOKED_TURN;
        while Instant::now() < turn_ends {
            let Some(connection) = found.next() else { return Then::Rest };
            // Whoever stays may be revoked again.
            found.ids.remove(&connection.id());
            if is_revoked(&connection) && connection.revoke() {
                metrics::PUT_OUT.count();
                *count += 1;
            }
        }
        tokio::task::yield_now().await;
        if is_to_look() {
            return Then::Look;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::Echo;
    use super::super::{Settings, random_id};
    use super::*;
    use crate::admission::Admission;
    use crate::config::origins::Origins;
    use crate::live::Live;
    use channelapi_core::clock::Clock;
    use parking_lot::Mutex;

    fn gateway() -> Arc<Gateway> {
        let settings = Settings::new(25_000, 20_000, 65_536, Live::new(Origins::Any));
        Gateway::new(settings, Box::new(Echo), Clock::system(), Admission::unlimited(Clock::system()))
    }

    fn open(gateway: &Arc<Gateway>) -> Arc<Connection> {
        let pass = gateway.admission.admit_session(None).unwrap();
        let make = |id, gateway, pass| Connection::polling(id, gateway, pass, random_id());
        gateway.open(&random_id(), false, pass, Vec::new(), make).unwrap()
    }

    /// Once, whoever was found went, even if it had brought a good JWT by then.
    #[tokio::test]
    async fn whoever_brings_a_good_jwt_before_its_turn_stays_until_that_is_revoked() {
        let gateway = gateway();
        let [goes, stays] = [open(&gateway), open(&gateway)];
        let revoked = Mutex::new(HashSet::from([goes.id(), stays.id()]));
        let is_revoked = |one: &Connection| revoked.lock().contains(&one.id());
        let mut found = Found::new();
        gateway.look_for_revoked(&is_revoked, &mut found).await;
        revoked.lock().remove(&stays.id());
        let mut count = 0;
        assert_eq!(put_out(&mut found, &is_revoked, &mut count, || false).await, Then::Rest);
        assert!(count == 1 && !goes.is_open() && stays.is_open());
        revoked.lock().insert(stays.id());
        gateway.look_for_revoked(&is_revoked, &mut found).await;
        assert_eq!(put_out(&mut found, &is_revoked, &mut count, || false).await, Then::Rest);
        assert!(count == 2 && !stays.is_open(), "it is not forgotten that it was found before");
    }

    /// Once, what was revoked then was looked for only with the next revocation, if the turn of the last one was over when it was out.
    #[tokio::test]
    async fn what_is_revoked_while_the_last_one_goes_is_looked_for() {
        let gateway = gateway();
        let last = open(&gateway);
        let is_revoked = |_: &Connection| {
            std::thread::sleep(REVOKED_TURN * 2);
            true
        };
        let mut found = Found::new();
        gateway.look_for_revoked(&|_| true, &mut found).await;
        assert_eq!(put_out(&mut found, &is_revoked, &mut 0, || true).await, Then::Look);
        assert!(!last.is_open());
    }

    #[test]
    fn whoever_is_found_later_does_not_wait_for_all_before() {
        let mut found = Found::new();
        found.looks.push_back((0..1000).collect());
        assert_eq!(found.next(), Some(999));
        found.looks.push_back(vec![1000]);
        assert!(std::iter::from_fn(|| found.next()).take(2).any(|one| one == 1000));
        assert_eq!(std::iter::from_fn(|| found.next()).count(), 998);
        assert!(found.looks.is_empty());
    }
}
