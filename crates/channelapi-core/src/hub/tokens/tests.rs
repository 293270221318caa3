//! Tokens over a data directory: how long they live, what a restart keeps, what no race brings back.

use super::*;
use crate::counters::COUNTERS;
use crate::limits::{
    TOKEN_LIFETIME, TOKEN_LIFETIME_MAX, TOKEN_LIFETIME_MIN, TOKEN_RENEWAL_STEP, TOKEN_RENEWALS_MAX,
};
use crate::state::DataDirectory;
use std::path::Path;

const DAY: Duration = Duration::from_hours(24);

fn open(folder: &Path, clock: &Clock) -> (Tokens, DataDirectory) {
    let directory = DataDirectory::open(folder).unwrap();
    let state = StateStore::open(&directory).unwrap();
    (Tokens::new(state, directory.token_secret().unwrap(), clock.clone()), directory)
}

async fn join(tokens: &Tokens, token: &Token) -> Option<String> {
    let channel = match tokens.lookup(token.reveal()) {
        Lookup::Valid(channel) => Some(channel),
        Lookup::Invalid => None,
        Lookup::Unknown(hash) => tokens.find(hash).await.unwrap(),
    };
    channel.map(|channel| channel.to_string())
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

#[tokio::test]
async fn a_channel_has_one_token_and_a_token_one_channel() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, _directory) = open(folder.path(), &Clock::system());
    let token = tokens.get_or_create(&channel("a/b")).await.unwrap();
    assert_eq!(token.reveal().len(), 43);
    assert_eq!(tokens.get_or_create(&channel("a/b")).await.unwrap(), token);
    assert_ne!(tokens.get_or_create(&channel("a/c")).await.unwrap(), token);
    assert_eq!(join(&tokens, &token).await.as_deref(), Some("a/b"));
    assert!(matches!(tokens.lookup(""), Lookup::Invalid));
    assert!(matches!(tokens.lookup(&"x".repeat(TOKEN_BYTES_MAX + 1)), Lookup::Invalid));
    assert_eq!(tokens.find(TokenHash::of("unknown")).await.unwrap(), None);
}

#[tokio::test]
async fn a_token_lives_seven_days_after_its_last_join() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000_000);
    let (tokens, _directory) = open(folder.path(), &clock);
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    for _ in 0..3 {
        clock.advance(6 * DAY);
        assert!(join(&tokens, &token).await.is_some());
    }
    clock.advance(7 * DAY);
    assert_eq!(join(&tokens, &token).await, None, "nobody joined for seven days");
    let next = tokens.get_or_create(&channel("a")).await.unwrap();
    assert_ne!(next, token);
    assert_eq!(join(&tokens, &token).await, None);
    assert!(join(&tokens, &next).await.is_some());
}

/// Once, a machine that started with a wrong clock, and was set right a moment later, took good tokens for dead, put others in their place, or
/// made some that were dead with the next start.
#[tokio::test]
async fn a_wrong_clock_at_the_start_takes_no_token() {
    const THEN: u64 = 1_800_000_000_000;
    let folder = tempfile::tempdir().unwrap();
    let day = millis_of(DAY);
    let (tokens, directory) = open(folder.path(), &Clock::manual(THEN));
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    drop((tokens, directory));

    let ahead = Clock::manual(THEN + 8 * day);
    ahead.set_machine(THEN);
    let (tokens, directory) = open(folder.path(), &ahead);
    assert!(join(&tokens, &token).await.is_some());
    assert_eq!(tokens.get_or_create(&channel("a")).await.unwrap(), token);
    tokens.flush().await;
    drop((tokens, directory));

    let behind = Clock::manual(THEN - 6 * day);
    behind.set_machine(THEN);
    let (tokens, directory) = open(folder.path(), &behind);
    let made = tokens.get_or_create_for(&channel("b"), None).await.unwrap();
    assert_eq!(made.expires_at, THEN + 7 * day);
    drop((tokens, directory));
    let (tokens, _directory) = open(folder.path(), &Clock::manual(THEN + 6 * day));
    assert!(join(&tokens, &made.token).await.is_some());

    let for_a_moment = Clock::manual(THEN);
    for_a_moment.set_machine(THEN + 3_650 * day);
    assert_eq!(end(&for_a_moment, 7 * day), THEN + 14 * day, "it gains no years");
    let at_the_start = Clock::manual(THEN + 3_650 * day);
    at_the_start.set_machine(THEN);
    assert_eq!(end(&at_the_start, 7 * day), THEN + 14 * day, "nor does it by a clock that was set right");
}

#[tokio::test]
async fn renewals_survive_a_restart_once_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000_000);
    let (tokens, directory) = open(folder.path(), &clock);
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    clock.advance(6 * DAY);
    assert!(join(&tokens, &token).await.is_some());
    tokens.flush().await;
    assert!(tokens.known.lock().renewals.is_empty());
    drop((tokens, directory));
    let (tokens, _directory) = open(folder.path(), &clock);
    clock.advance(6 * DAY);
    assert!(join(&tokens, &token).await.is_some());
    assert_eq!(tokens.get_or_create(&channel("a")).await.unwrap(), token);
}

#[tokio::test]
async fn joining_again_soon_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000_000);
    let (tokens, _directory) = open(folder.path(), &clock);
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    clock.advance(TOKEN_RENEWAL_STEP / 2);
    assert!(join(&tokens, &token).await.is_some());
    assert!(tokens.known.lock().renewals.is_empty());
    clock.advance(TOKEN_RENEWAL_STEP);
    assert!(join(&tokens, &token).await.is_some());
    assert_eq!(tokens.known.lock().renewals.len(), 1);
}

#[tokio::test]
async fn a_lost_secret_replaces_tokens_instead_of_failing() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, directory) = open(folder.path(), &Clock::system());
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    drop((tokens, directory));
    std::fs::remove_file(folder.path().join("token_secret")).unwrap();
    let (tokens, _directory) = open(folder.path(), &Clock::system());
    assert_eq!(join(&tokens, &token).await.as_deref(), Some("a"), "nobody has asked for another one");
    let next = tokens.get_or_create(&channel("a")).await.unwrap();
    assert_ne!(next, token);
    assert_eq!(join(&tokens, &next).await.as_deref(), Some("a"));
    assert_eq!(join(&tokens, &token).await, None);
}

#[tokio::test]
async fn a_chosen_lifetime_slides_too_and_only_grows() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(0);
    let (tokens, directory) = open(folder.path(), &clock);
    let minutes = |count| Some(Duration::from_mins(count));
    let millis = |count| millis_of(Duration::from_mins(count));
    let issued = tokens.get_or_create_for(&channel("a"), minutes(30)).await.unwrap();
    assert_eq!(issued.expires_at, millis(30));
    clock.advance(Duration::from_mins(29));
    assert!(join(&tokens, &issued.token).await.is_some());
    clock.advance(Duration::from_mins(2));
    let same = tokens.get_or_create_for(&channel("a"), None).await.unwrap();
    assert_eq!(same, IssuedToken { token: issued.token.clone(), expires_at: millis(59) });
    let shorter = tokens.get_or_create_for(&channel("a"), minutes(5)).await.unwrap();
    assert_eq!(shorter, same, "alive, although on disk it was dead before this minute");
    let longer = tokens.get_or_create_for(&channel("a"), minutes(60)).await.unwrap();
    assert_eq!(longer, IssuedToken { expires_at: millis(31 + 60), ..same });
    drop((tokens, directory));

    let (tokens, _directory) = open(folder.path(), &clock);
    clock.advance(Duration::from_mins(59));
    assert!(join(&tokens, &issued.token).await.is_some());
    clock.advance(Duration::from_mins(59));
    assert!(join(&tokens, &issued.token).await.is_some(), "its hour began again");
    clock.advance(Duration::from_hours(1));
    assert_eq!(join(&tokens, &issued.token).await, None);
    for (lifetime, expected) in [(Duration::ZERO, TOKEN_LIFETIME_MIN), (Duration::MAX, TOKEN_LIFETIME_MAX)] {
        let issued = tokens.rotate(&channel("b"), Some(lifetime)).await.unwrap();
        assert_eq!(issued.expires_at - clock.unix_millis(), millis_of(expected));
    }
}

#[tokio::test]
async fn a_rotated_token_opens_nothing_and_the_new_one_its_channel() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(0);
    let (tokens, directory) = open(folder.path(), &clock);
    let old = tokens.get_or_create(&channel("a")).await.unwrap();
    assert!(matches!(tokens.lookup(old.reveal()), Lookup::Valid(_)), "in memory");
    let new = tokens.rotate(&channel("a"), None).await.unwrap();
    assert_eq!(new.expires_at, millis_of(TOKEN_LIFETIME));
    assert_eq!(join(&tokens, &old).await, None);
    assert_eq!(join(&tokens, &new.token).await.as_deref(), Some("a"));
    assert_eq!(tokens.get_or_create(&channel("a")).await.unwrap(), new.token);
    drop((tokens, directory));
    let (tokens, _directory) = open(folder.path(), &clock);
    assert_eq!(join(&tokens, &old).await, None);
    assert_eq!(join(&tokens, &new.token).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_revoked_token_stays_dead_whatever_waited_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(0);
    let (tokens, directory) = open(folder.path(), &clock);
    let [first, second] = [channel("a"), channel("b")];
    let a = tokens.get_or_create(&first).await.unwrap();
    let b = tokens.get_or_create(&second).await.unwrap();
    clock.advance(DAY);
    assert!(join(&tokens, &a).await.is_some() && join(&tokens, &b).await.is_some());
    assert_eq!(tokens.known.lock().renewals.len(), 2, "they wait");
    assert!(tokens.revoke(&first).await.unwrap());
    assert!(!tokens.revoke(&first).await.unwrap());
    let ended = EndedToken { channel: second, has_lived: true };
    assert_eq!(tokens.revoke_token(b.reveal()).await.unwrap(), Some(ended));
    assert_eq!(tokens.revoke_token(b.reveal()).await.unwrap(), None);
    tokens.flush().await;
    assert_eq!((join(&tokens, &a).await, join(&tokens, &b).await), (None, None));
    assert_ne!(tokens.get_or_create(&first).await.unwrap(), a);
    drop((tokens, directory));
    let (tokens, _directory) = open(folder.path(), &clock);
    assert_eq!((join(&tokens, &a).await, join(&tokens, &b).await), (None, None));
}

/// Whoever came in with a token that had died of age stayed when it was revoked.
#[tokio::test]
async fn a_dead_token_is_revoked_too_and_its_channel_told() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(0);
    let (tokens, _directory) = open(folder.path(), &clock);
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    clock.advance(TOKEN_LIFETIME);
    assert_eq!(join(&tokens, &token).await, None);
    assert_eq!(tokens.channel_of(token.reveal()).await.unwrap(), Some(channel("a")));
    let ended = EndedToken { channel: channel("a"), has_lived: false };
    assert_eq!(tokens.revoke_token(token.reveal()).await.unwrap(), Some(ended));
    assert_eq!(tokens.channel_of(token.reveal()).await.unwrap(), None);
    assert_eq!(tokens.revoke_token(token.reveal()).await.unwrap(), None);
}

/// A removal that was called failed, and had happened on disk, left the token in memory; asking again changed nothing.
#[tokio::test]
async fn memory_forgets_what_the_disk_does_not_have_or_does_not_tell() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, _directory) = open(folder.path(), &Clock::system());
    let channel = channel("a");
    for by_channel in [true, false] {
        let token = tokens.get_or_create(&channel).await.unwrap();
        tokens.state.remove_by_channel(channel.clone()).await.unwrap();
        assert!(join(&tokens, &token).await.is_some(), "memory does not know");
        if by_channel {
            assert!(!tokens.revoke(&channel).await.unwrap());
        } else {
            assert_eq!(tokens.revoke_token(token.reveal()).await.unwrap(), None);
        }
        assert_eq!(join(&tokens, &token).await, None);
    }
    let token = tokens.get_or_create(&channel).await.unwrap();
    let saboteur = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
    saboteur.execute_batch("ALTER TABLE token RENAME TO gone").unwrap();
    assert!(tokens.revoke(&channel).await.is_err());
    saboteur.execute_batch("ALTER TABLE gone RENAME TO token").unwrap();
    assert!(matches!(tokens.lookup(token.reveal()), Lookup::Unknown(_)));
    assert!(join(&tokens, &token).await.is_some(), "it was not removed");
}

/// Each join tried to write all that waited, which could not be written, and there was no limit to them.
#[tokio::test]
async fn a_disk_that_takes_no_renewals_is_left_alone_and_memory_has_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(0);
    let (tokens, _directory) = open(folder.path(), &clock);
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    let other = tokens.get_or_create(&channel("c")).await.unwrap();
    clock.advance(DAY);
    assert!(join(&tokens, &other).await.is_some());
    let use_one = |number: usize| {
        let stale = KnownToken { channel: channel("b"), expires_at: 0, lifetime: millis_of(TOKEN_LIFETIME) };
        tokens.known.lock().renew(
            TokenHash::of(&number.to_string()),
            stale,
            end(&clock, millis_of(TOKEN_LIFETIME)),
        )
    };
    let half = TOKEN_RENEWALS_MAX / 2;
    assert!((2..half).all(|number| use_one(number) == Waiting::Some));
    assert!(use_one(half) == Waiting::Full, "they are written early");
    let saboteur = rusqlite::Connection::open(folder.path().join("state.db")).unwrap();
    let refuse =
        "CREATE TRIGGER refuse BEFORE UPDATE ON token BEGIN SELECT RAISE(FAIL, 'as a full disk'); END";
    saboteur.execute_batch(refuse).unwrap();
    tokens.flush().await;
    let dropped = COUNTERS.renewals_dropped.value();
    assert!((2..=TOKEN_RENEWALS_MAX).all(|number| use_one(number) == Waiting::Some), "the next try can wait");
    assert_eq!(COUNTERS.renewals_dropped.value(), dropped);
    assert_eq!(join(&tokens, &token).await.as_deref(), Some("a"), "it is not late for anybody");
    assert_eq!(COUNTERS.renewals_dropped.value(), dropped + 1);
    assert_eq!(tokens.known.lock().renewals.len(), TOKEN_RENEWALS_MAX);

    saboteur.execute_batch("DROP TRIGGER refuse").unwrap();
    tokens.flush().await;
    assert!(tokens.known.lock().renewals.is_empty());
    assert_eq!(join(&tokens, &token).await.as_deref(), Some("a"));
    assert_eq!(tokens.known.lock().renewals.len(), 1, "what was dropped is made up for");
    assert!((2..half).all(|number| use_one(number) == Waiting::Some));
    assert!(use_one(half) == Waiting::Full, "the disk is well again");
}

/// Runs a future a little, and says whether it waits for something.
async fn waits<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    tokio::select! {
        biased;
        _ = future => false,
        () = std::future::ready(()) => true,
    }
}

#[tokio::test]
async fn whoever_read_the_disk_before_a_revocation_does_not_open_the_channel_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, directory) = open(folder.path(), &Clock::system());
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    drop((tokens, directory));
    let (tokens, _directory) = open(folder.path(), &Clock::system());
    let find = loop {
        let mut find = Box::pin(tokens.find(token.hash()));
        // Else the reader was faster than we.
        if waits(&mut find).await {
            break find;
        }
    };
    // The reader takes one question after the other, so it has answered by now that the token lives.
    assert!(tokens.state.token_by_hash(token.hash()).await.unwrap().is_some());
    assert!(tokens.revoke(&channel("a")).await.unwrap());
    assert_eq!(find.await.unwrap(), None);
    assert!(matches!(tokens.lookup(token.reveal()), Lookup::Unknown(_)));
}

#[tokio::test]
async fn whoever_made_a_token_before_a_rotation_does_not_remember_it_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, _directory) = open(folder.path(), &Clock::system());
    let channel = channel("a");
    let on_disk = || async { tokens.state.token_by_channel(channel.clone()).await.unwrap() };
    let make = loop {
        let mut make = Box::pin(tokens.get_or_create(&channel));
        // First it waits for the reader, who has answered it before us, then for the writer. Else they were faster than we.
        if waits(&mut make).await && on_disk().await.is_none() && waits(&mut make).await {
            break make;
        }
        tokens.revoke(&channel).await.unwrap();
    };
    while on_disk().await.is_none() {}
    tokens.rotate(&channel, None).await.unwrap();
    assert_eq!(join(&tokens, &make.await.unwrap()).await, None);
}

#[tokio::test]
async fn a_revocation_is_finished_even_if_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, _directory) = open(folder.path(), &Clock::system());
    let token = tokens.get_or_create(&channel("a")).await.unwrap();
    assert!(waits(&mut std::pin::pin!(tokens.revoke(&channel("a")))).await);
    tokio::time::timeout(Duration::from_secs(30), async {
        while join(&tokens, &token).await.is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_race_brings_a_rotated_token_back() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(0);
    let (tokens, _directory) = open(folder.path(), &clock);
    let tokens = Arc::new(tokens);
    for _ in 0..50 {
        let old = tokens.get_or_create(&channel("a")).await.unwrap();
        // Every join is worth a renewal.
        clock.advance(DAY);
        let users = (0..4).map(|_| {
            let (tokens, old) = (tokens.clone(), old.clone());
            tokio::spawn(async move {
                while join(&tokens, &old).await.is_some() {
                    tokens.flush().await;
                    tokens.get_or_create_for(&channel("a"), Some(7 * DAY)).await.unwrap();
                }
            })
        });
        let users: Vec<_> = users.collect();
        tokens.rotate(&channel("a"), None).await.unwrap();
        assert_eq!(join(&tokens, &old).await, None);
        for user in users {
            tokio::time::timeout(Duration::from_mins(1), user).await.unwrap().unwrap();
        }
        assert_eq!(join(&tokens, &old).await, None);
    }
}
