//! What is not good any more although it was signed well: single JWTs, all of a user or an issuer, all that were issued for a channel.
//!
//! Invariants:
//! - A revocation is on disk before it is answered, and counts for everybody who joins from then on.
//! - Memory learns what is revoked and what is taken back in the order in which the disk did, also of requests that come together.
//! - Whoever is connected is judged again within [`REVOCATION_PAUSE`] and the time that a look at all connections takes: this room
//!   tells those who hold connections that something has [`Revocations::changed`].
//! - It is kept until no JWT that it speaks of can be good any more, and counts for as long as it is kept. A machine's clock that is
//!   wrong for a while takes nothing away: nothing is removed at the start, and later only what is over by two clocks, and has been for
//!   a day.

use crate::clock::{Clock, millis_of};
#[cfg(doc)]
use crate::limits::REVOCATION_PAUSE;
use crate::limits::{REVOCATION_PRUNE_INTERVAL, REVOCATIONS_MAX, TOKEN_PRUNE_MARGIN};
use crate::model::{Bearer, ChannelName, Revocation, RevocationRequest, RevokedKind};
use crate::state::{StateError, StateStore};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::error;

/// Knows what is revoked.
pub struct Revocations {
    state: StateStore,
    clock: Clock,
    known: Arc<RwLock<Known>>,
    changed: watch::Sender<()>,
}

/// Why something could not be revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// There are too many.
    #[error("there are {REVOCATIONS_MAX} revocations already, which is the limit")]
    TooMany,
}

/// Everything that is revoked, by what a JWT says of itself.
#[derive(Default)]
struct Known {
    ids: HashMap<Box<str>, Vec<Mark>>,
    subjects: HashMap<Box<str>, Vec<Mark>>,
    channels: HashMap<Box<str>, Vec<Mark>>,
    issuers: HashMap<Box<str>, Vec<Mark>>,
}

/// One revocation, under the name it is about.
struct Mark {
    id: u64,
    issuer: Box<str>,
    before: u64,
    until: u64,
}

impl Revocations {
    /// Reads what was revoked before this start. It blocks the thread.
    pub fn load(state: StateStore, clock: Clock) -> Result<Self, StateError> {
        let mut known = Known::default();
        for revocation in state.load_revocations()? {
            known.insert(&revocation);
        }
        let known = Arc::new(RwLock::new(known));
        Ok(Self { state, clock, known, changed: watch::Sender::new(()) })
    }

    /// Whether a JWT is revoked, or a channel that it is wanted for.
    pub fn cover<'a>(&self, bearer: &Bearer, channels: impl IntoIterator<Item = &'a ChannelName>) -> bool {
        let known = self.known.read();
        let is_covered = |marks: Option<&Vec<Mark>>, issued_at: u64| {
            marks.into_iter().flatten().any(|mark| {
                issued_at < mark.before && (mark.issuer.is_empty() || *mark.issuer == *bearer.issuer)
            })
        };
        // A JWT that is named by its id is revoked whenever it was issued.
        bearer.id.as_ref().is_some_and(|id| is_covered(known.ids.get(id), 0))
            || bearer
                .subject
                .as_ref()
                .is_some_and(|subject| is_covered(known.subjects.get(subject), bearer.issued_at))
            || is_covered(known.issuers.get(&*bearer.issuer), bearer.issued_at)
            || (!known.channels.is_empty()
                && channels
                    .into_iter()
                    .any(|channel| is_covered(known.channels.get(channel.as_str()), bearer.issued_at)))
    }

    /// Revokes something. When this returns, it counts, and it is on disk.
    pub async fn revoke(&self, what: RevocationRequest) -> Result<Revocation, RevocationError> {
        let (known, changed) = (self.known.clone(), self.changed.clone());
        let learn = move |revocation: &Revocation| {
            known.write().insert(revocation);
            changed.send_replace(());
        };
        let revoked = self.state.revoke(what, self.clock.machine_millis(), learn).await?;
        revoked.ok_or(RevocationError::TooMany)
    }

    /// Takes a revocation back, and returns it. What it spoke of is good again for whoever joins from now on.
    pub async fn forgive(&self, id: u64) -> Result<Option<Revocation>, StateError> {
        let known = self.known.clone();
        self.state.remove_revocation(id, move |revocation| known.write().remove(revocation)).await
    }

    /// So many revocations behind one, in the order they were made.
    pub async fn page(&self, after: u64, limit: usize) -> Result<Vec<Revocation>, StateError> {
        self.state.revocations(after, limit).await
    }

    /// Tells whoever holds connections that they are to be judged again.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Removes what has served its time, until it is dropped.
    pub async fn keep_up(&self) {
        loop {
            tokio::time::sleep(REVOCATION_PRUNE_INTERVAL).await;
            self.prune().await;
        }
    }

    async fn prune(&self) {
        let before = self.clock.cautious_millis().saturating_sub(millis_of(TOKEN_PRUNE_MARGIN));
        match self.state.prune_revocations(before).await {
            Ok(()) => self.known.write().prune(before),
            Err(error) => error!(%error, "old revocations could not be removed"),
        }
    }
}

impl Known {
    fn of_kind(&mut self, kind: RevokedKind) -> &mut HashMap<Box<str>, Vec<Mark>> {
        match kind {
            RevokedKind::Id => &mut self.ids,
            RevokedKind::Subject => &mut self.subjects,
            RevokedKind::Channel => &mut self.channels,
            RevokedKind::Issuer => &mut self.issuers,
        }
    }

    fn insert(&mut self, Revocation { id, what, .. }: &Revocation) {
        let RevocationRequest { kind, value, issuer, before, until } = what.clone();
        // An id is revoked whatever time is given with it.
        let before = if kind == RevokedKind::Id { u64::MAX } else { before };
        let marks = self.of_kind(kind).entry(value).or_default();
        marks.retain(|mark| mark.id != *id);
        marks.push(Mark { id: *id, issuer, before, until });
    }

    fn remove(&mut self, Revocation { id, what, .. }: &Revocation) {
        let marks = self.of_kind(what.kind);
        if let Some(own) = marks.get_mut(&what.value) {
            own.retain(|mark| mark.id != *id);
            if own.is_empty() {
                marks.remove(&what.value);
            }
        }
    }

    fn prune(&mut self, before: u64) {
        for kind in RevokedKind::ALL {
            self.of_kind(kind).retain(|_, marks| {
                marks.retain(|mark| mark.until > before);
                !marks.is_empty()
            });
        }
    }
}

/// How long a revocation must be kept that speaks of what was issued before a time, unless somebody knows better.
pub fn kept_until(before: u64) -> u64 {
    before.saturating_add(millis_of(crate::limits::JWT_LIFETIME_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::DataDirectory;
    use std::time::Duration;

    fn open(folder: &std::path::Path, clock: &Clock) -> (Revocations, DataDirectory) {
        let directory = DataDirectory::open(folder).unwrap();
        let state = StateStore::open(&directory).unwrap();
        (Revocations::load(state, clock.clone()).unwrap(), directory)
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    fn bearer(issuer: &str, subject: &str, id: &str, issued_at: u64) -> Bearer {
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        Bearer { issuer: issuer.into(), subject: text(subject), id: text(id), issued_at }
    }

    fn request(kind: RevokedKind, value: &str, issuer: &str, before: u64) -> RevocationRequest {
        let until = kept_until(before);
        RevocationRequest { kind, value: value.into(), issuer: issuer.into(), before, until }
    }

    #[tokio::test]
    async fn a_revocation_covers_what_it_names_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000);
        let (revocations, _directory) = open(folder.path(), &clock);
        let covers = |bearer: &Bearer, name: &str| revocations.cover(bearer, [&channel(name)]);
        let all = [
            (bearer("i", "ann", "1", 900), "a"),
            (bearer("i", "ann", "2", 1_000), "a"),
            (bearer("j", "ann", "1", 900), "a"),
            (bearer("i", "bob", "3", 900), "b"),
            (bearer("i", "", "", 0), "a"),
        ];
        let covered = || all.iter().map(|(bearer, name)| covers(bearer, name)).collect::<Vec<_>>();
        assert_eq!(covered(), [false; 5]);
        for (kind, value, issuer, expected) in [
            (RevokedKind::Id, "1", "i", [true, false, false, false, false]),
            (RevokedKind::Id, "1", "", [true, false, true, false, false]),
            (RevokedKind::Subject, "ann", "", [true, false, true, false, false]),
            (RevokedKind::Subject, "ann", "j", [false, false, true, false, false]),
            (RevokedKind::Subject, "an", "", [false; 5]),
            (RevokedKind::Channel, "a", "", [true, false, true, false, true]),
            (RevokedKind::Channel, "b", "i", [false, false, false, true, false]),
            (RevokedKind::Issuer, "i", "", [true, false, false, true, true]),
            (RevokedKind::Issuer, "ann", "", [false; 5]),
        ] {
            let revocation = revocations.revoke(request(kind, value, issuer, 1_000)).await.unwrap();
            assert_eq!(covered(), expected, "{kind:?} {value} {issuer}");
            assert_eq!(revocations.forgive(revocation.id).await.unwrap(), Some(revocation));
            assert_eq!(covered(), [false; 5], "{kind:?} {value} {issuer}");
        }
        assert_eq!(revocations.forgive(1).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_revoked_stays_so_through_a_restart_until_nothing_could_be_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000);
        let (revocations, directory) = open(folder.path(), &clock);
        let mut changed = revocations.changed();
        let first = revocations.revoke(request(RevokedKind::Subject, "ann", "", 500)).await.unwrap();
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
        let again = revocations.revoke(request(RevokedKind::Subject, "ann", "", 400)).await.unwrap();
        assert_eq!(again, first, "it was said before, and more");
        let later = revocations.revoke(request(RevokedKind::Subject, "ann", "", 700)).await.unwrap();
        assert_eq!((later.id, later.what.before), (first.id, 700));
        drop((revocations, directory));

        let (revocations, _directory) = open(folder.path(), &clock);
        assert!(revocations.cover(&bearer("", "ann", "", 600), []));
        assert!(!revocations.cover(&bearer("", "ann", "", 700), []));
        assert_eq!(revocations.page(0, 10).await.unwrap(), std::slice::from_ref(&later));
        assert_eq!(revocations.page(later.id, 10).await.unwrap(), []);
        clock.advance(Duration::from_millis(later.what.until - 1_000));
        revocations.prune().await;
        assert_eq!(revocations.page(0, 10).await.unwrap().len(), 1, "a clock may be wrong");
        clock.advance(TOKEN_PRUNE_MARGIN);
        revocations.prune().await;
        assert!(!revocations.cover(&bearer("", "ann", "", 600), []));
        assert_eq!(revocations.page(0, 10).await.unwrap(), []);
        let next = revocations.revoke(request(RevokedKind::Subject, "ann", "", 700)).await.unwrap();
        assert!(next.id > later.id, "ids are not used again");
    }

    /// Of two revocations of the same that were written together, the earlier one could be the last that memory heard of, and a
    /// revocation that was taken back while it was repeated stayed in memory alone, where nobody could take it back.
    #[tokio::test]
    async fn what_comes_together_counts_as_the_disk_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let (revocations, _directory) = open(folder.path(), &Clock::manual(1_000));
        let is_out = || revocations.cover(&bearer("", "ann", "", 600), []);
        let ann = |before| request(RevokedKind::Subject, "ann", "", before);
        // Answered behind all that is queued, while no task of this thread has heard of any of it.
        let on_disk = || revocations.state.load_revocations().unwrap();
        // Holds the writer, so that whatever follows is written together.
        let hold = || {
            let (release, held) = std::sync::mpsc::channel::<()>();
            let other = request(RevokedKind::Id, "other", "", 1);
            let holding = revocations.state.revoke(other, 1, move |_| _ = held.recv());
            (release, Box::pin(holding))
        };

        let (mut earlier, mut later) =
            (Box::pin(revocations.revoke(ann(500))), Box::pin(revocations.revoke(ann(700))));
        let (release, mut holding) = hold();
        assert!(waits(&mut holding).await && waits(&mut earlier).await && waits(&mut later).await);
        drop(release);
        assert_eq!(on_disk()[1].what.before, 700);
        assert!(is_out());
        let id = later.await.unwrap().id;
        assert_eq!((earlier.await.unwrap().id, is_out()), (id, true));

        let mut again = Box::pin(revocations.revoke(ann(800)));
        let mut forgiven = Box::pin(revocations.forgive(id));
        let (release, mut holding) = hold();
        assert!(waits(&mut holding).await && waits(&mut again).await && waits(&mut forgiven).await);
        drop(release);
        assert_eq!(on_disk().len(), 1);
        assert!(!is_out());
        assert_eq!(forgiven.await.unwrap().unwrap().what.before, 800);
        assert_eq!((again.await.unwrap().id, is_out()), (id, false));
    }

    /// Lets a future begin, and says whether it waits.
    async fn waits<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        tokio::select! {
            biased;
            _ = future => false,
            () = std::future::ready(()) => true,
        }
    }

    /// A server that started once with a clock that was ahead deleted what was revoked, and all of it was good again.
    #[tokio::test]
    async fn a_clock_that_is_wrong_once_takes_nothing_away() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(1_000);
        let (revocations, directory) = open(folder.path(), &clock);
        revocations.revoke(request(RevokedKind::Subject, "ann", "", 500)).await.unwrap();
        drop((revocations, directory));
        let ahead = Clock::manual(1_000 + 10 * millis_of(crate::limits::JWT_LIFETIME_MAX));
        for clock in [ahead, clock] {
            let (revocations, _directory) = open(folder.path(), &clock);
            assert!(revocations.cover(&bearer("", "ann", "", 400), []));
        }
    }
}
