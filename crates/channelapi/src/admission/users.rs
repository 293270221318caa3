//! How many connections each user has.
//!
//! A user is whom JWTs speak of: their subject, and who signed them, because the subjects of two issuers have nothing to do with each
//! other.
//!
//! Invariants:
//! - A user is remembered only as long as there is a [`UserPass`] for one of its connections, whether there is a limit or not: one that
//!   is set later counts those that are here.
//! - Nothing else is locked while the users are.

use super::Admission;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// The users that are here, and how many connections each has.
#[derive(Debug, Default)]
pub(super) struct Users {
    connections: Mutex<HashMap<Arc<User>, u32>>,
}

/// A name of one issuer. They are compared as two texts: no issuer can write a subject that is somebody else's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct User {
    issuer: Arc<str>,
    subject: Box<str>,
}

/// One of a user's connections, counted until this is dropped.
pub(crate) struct UserPass {
    admission: Arc<Admission>,
    user: Arc<User>,
}

/// A user has as many connections as `limits.connections_per_user` allows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UserFull;

impl Admission {
    /// A connection is about to be let in for these users, of an issuer each, and named once each: for all of them or for none, so that no
    /// two who want the same ones turn each other away.
    pub(crate) fn admit_users(
        self: &Arc<Self>,
        users: &[(&Arc<str>, &str)],
    ) -> Result<Vec<UserPass>, UserFull> {
        let most = self.limits().connections_per_user;
        let named = |(issuer, subject): &(&Arc<str>, &str)| {
            Arc::new(User { issuer: Arc::clone(issuer), subject: (*subject).into() })
        };
        let users: Vec<_> = users.iter().map(named).collect();
        let mut connections = self.users.connections.lock();
        if users.iter().any(|user| connections.get(user).is_some_and(|count| *count >= most)) {
            return Err(UserFull);
        }
        let admit = |user| {
            let entry = connections.entry(user);
            let user = entry.key().clone();
            *entry.or_default() += 1;
            UserPass { admission: self.clone(), user }
        };
        Ok(users.into_iter().map(admit).collect())
    }
}

impl UserPass {
    /// Whether it is for this user.
    pub(crate) fn is_of(&self, issuer: &str, subject: &str) -> bool {
        *self.user.issuer == *issuer && *self.user.subject == *subject
    }
}

impl std::fmt::Debug for UserPass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.user.fmt(f)
    }
}

impl Drop for UserPass {
    fn drop(&mut self) {
        let mut connections = self.admission.users.connections.lock();
        let count = connections.get_mut(&self.user).expect("it is counted as long as this lives");
        *count -= 1;
        if *count == 0 {
            connections.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;
    use channelapi_core::clock::Clock;

    fn admission(connections_per_user: u32) -> Arc<Admission> {
        Admission::new(Limits { connections_per_user, ..Limits::NONE }, Clock::system())
    }

    fn admit(admission: &Arc<Admission>, issuer: &str, subject: &str) -> Result<UserPass, UserFull> {
        let mut places = admission.admit_users(&[(&issuer.into(), subject)])?;
        Ok(places.pop().expect("one was asked for"))
    }

    #[test]
    fn a_user_has_so_many_connections_and_each_gives_its_place_back() {
        let admission = admission(2);
        let first = admit(&admission, "i", "ann").unwrap();
        let second = admit(&admission, "i", "ann").unwrap();
        assert_eq!(admit(&admission, "i", "ann").err(), Some(UserFull));
        for (issuer, subject) in [("i", "bob"), ("other", "ann"), ("", "iann"), ("ia", "nn")] {
            assert!(admit(&admission, issuer, subject).is_ok(), "{issuer} {subject}");
        }
        assert!(first.is_of("i", "ann") && !first.is_of("other", "ann") && !first.is_of("i", "bob"));
        drop(first);
        let third = admit(&admission, "i", "ann").unwrap();
        assert_eq!(admit(&admission, "i", "ann").err(), Some(UserFull));
        drop((second, third));
        assert!(admission.users.connections.lock().is_empty(), "nobody is here any more");
    }

    #[test]
    fn who_finds_no_room_for_one_user_takes_none_from_the_others() {
        let admission = admission(1);
        let issuer: Arc<str> = "i".into();
        let ann = admit(&admission, "i", "ann").unwrap();
        assert_eq!(admission.admit_users(&[(&issuer, "bob"), (&issuer, "ann")]).err(), Some(UserFull));
        let bob = admit(&admission, "i", "bob").unwrap();
        drop((ann, bob));
        assert_eq!(admission.admit_users(&[(&issuer, "bob"), (&issuer, "ann")]).map(|all| all.len()), Ok(2));
    }

    #[test]
    fn a_limit_that_is_set_later_counts_those_that_are_here() {
        let admission = admission(u32::MAX);
        let mut all: Vec<_> = (0..3).map(|_| admit(&admission, "i", "ann").unwrap()).collect();
        admission.live_limits().replace(Limits { connections_per_user: 2, ..admission.limits() });
        for _ in 0..2 {
            assert_eq!(admit(&admission, "i", "ann").err(), Some(UserFull));
            all.pop();
        }
        all.push(admit(&admission, "i", "ann").unwrap());
        assert_eq!(all.len(), 2);
    }
}
