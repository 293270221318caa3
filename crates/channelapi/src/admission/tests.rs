//! What strangers may have, and get back.

use super::rate::Rate;
use super::resting::tests::Resting;
use super::*;
use std::hash::Hash;
use std::time::Duration;

fn admission(change: impl FnOnce(&mut Limits)) -> (Arc<Admission>, Clock) {
    let clock = Clock::manual(1_000_000);
    let mut limits = Limits::NONE;
    change(&mut limits);
    (Admission::new(limits, clock.clone()), clock)
}

/// A connection that may rest, and has for so many seconds.
fn introduced(
    admission: &Arc<Admission>,
    address: Option<IpAddr>,
    rest: Option<u64>,
) -> Result<(Arc<Resting>, SocketPass), ConnectionRefused> {
    let (resting, mut pass) = (Resting::since(rest), admission.admit_socket(address)?);
    pass.may_rest(resting.clone());
    Ok((resting, pass))
}

const A: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1)));
const B: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 2)));

#[test]
fn one_address_takes_no_room_from_another_and_gets_its_own_back() {
    let (admission, _) = admission(|limits| limits.connections_per_address = 2);
    let first = admission.admit_session(A).unwrap();
    admission.admit_session(A).unwrap().keep();
    assert_eq!(admission.admit_session(A).err(), Some(HandshakeRefused::Address));
    assert!(admission.admit_session(B).is_ok());
    for _ in 0..10 {
        admission.admit_session(None).unwrap().keep();
    }
    drop(first);
    let second = admission.admit_session(A).unwrap().keep();
    assert_eq!(admission.sessions(), 12);
    admission.end_session(second);
    assert_eq!(admission.sessions(), 11);

    let sockets: Vec<_> = (0..2).map(|_| admission.admit_socket(A).unwrap()).collect();
    assert_eq!(admission.admit_socket(A).err(), Some(ConnectionRefused::Address));
    drop(sockets);
    assert!(admission.admit_socket(A).is_ok());
    assert_eq!(admission.sockets(), 0);
    admission.live_limits().replace(Limits { connections_per_address: 1, ..admission.limits() });
    assert_eq!(admission.admit_session(A).err(), Some(HandshakeRefused::Address));
}

#[test]
fn the_node_has_a_limit_that_lets_others_in() {
    let (admission, _) = admission(|limits| (limits.connections, limits.sockets) = (2, 3));
    for _ in 0..2 {
        admission.admit_session(None).unwrap().keep();
        admission.begin_websocket();
    }
    assert_eq!(admission.admit_session(None).err(), Some(HandshakeRefused::Node));
    let publisher = admission.admit_socket(None).unwrap();
    assert_eq!(admission.admit_socket(None).err(), Some(ConnectionRefused::Node));
    drop(publisher);
    assert!(admission.admit_socket(None).is_ok());
}

/// Clients that poll counted twice, and took what is kept for publishers.
#[test]
fn sessions_that_poll_leave_the_reserve_to_others() {
    let (admission, _) = admission(|limits| (limits.connections, limits.sockets) = (2, 3));
    let polls: Vec<_> = (0..2)
        .map(|_| (admission.admit_session(None).unwrap(), admission.admit_socket(None).unwrap()))
        .collect();
    let publisher = admission.admit_socket(None).unwrap();
    assert_eq!(admission.admit_socket(None).err(), Some(ConnectionRefused::Node));
    drop((polls, publisher));
    for _ in 0..3 {
        admission.begin_websocket();
    }
    assert_eq!(admission.admit_socket(None).err(), Some(ConnectionRefused::Node));
    for _ in 0..3 {
        admission.end_websocket();
    }
    assert!(admission.admit_socket(None).is_ok());
    assert_eq!((admission.sockets(), admission.websockets()), (0, 0));
}

#[test]
fn an_address_connects_and_fails_only_so_often() {
    let (admission, clock) = admission(|limits| {
        limits.connecting = Rate::per_second(2, 5);
        limits.failed_tokens = Rate::per_minute(3);
        limits.unknown_sessions = Rate::per_minute(2);
    });
    let connect = |address| admission.admit_socket(address).map(drop);
    assert_eq!((0..9).take_while(|_| connect(A).is_ok()).count(), 5);
    assert_eq!((connect(A), connect(B)), (Err(ConnectionRefused::AddressRate), Ok(())));
    clock.advance(Duration::from_secs(1));
    assert_eq!((0..9).take_while(|_| connect(A).is_ok()).count(), 2);

    let number = admission.admit_session(A).unwrap().keep();
    assert_eq!(failed(&admission, number, 0..9), 3);
    assert!(admission.is_out_of_tokens(number));
    assert_eq!(admission.admit_session(A).err(), Some(HandshakeRefused::TokenRate));
    assert!(!admission.may_present_token(A) && admission.may_present_token(B));
    assert_eq!((0..9).take_while(|_| admission.unknown_session(A)).count(), 2);
    assert!(admission.unknown_session(B) && admission.unknown_session(None));
    clock.advance(Duration::from_mins(1));
    assert!(admission.admit_session(A).is_ok() && admission.unknown_session(A));
}

/// After a token was rotated, those who still had the old one kept everybody else at their address out: old stock clients come back with it
/// for as long as they run.
#[test]
fn the_same_token_again_is_hardly_another_guess() {
    let (admission, clock) = admission(|limits| limits.failed_tokens = Rate::per_minute(10));
    let number = admission.admit_session(A).unwrap().keep();
    let others = ["a", "b", "c"];
    assert_eq!(failed(&admission, number, others), 3);
    let old = failed(&admission, number, ["old"; 999]);
    assert!((80..=97).contains(&old), "one, and sixteen for each of six: {old}");
    assert!(admission.is_out_of_tokens(number));
    clock.advance(Duration::from_secs(6));
    assert_eq!(failed(&admission, number, ["another"]), 1);
    admission.failed_token(number, "another");
    assert!(admission.is_out_of_tokens(number), "also when a new one took the last");
    clock.advance(Duration::from_mins(2));
    assert_eq!(failed(&admission, number, 0..99), 10, "others count as ever");
}

/// With many connections there were as many guesses for each permit that came.
#[test]
fn tokens_that_are_judged_at_the_same_time_are_owed() {
    let (admission, clock) = admission(|limits| limits.failed_tokens = Rate::per_minute(60));
    let number = admission.admit_session(A).unwrap().keep();
    assert_eq!(failed(&admission, number, 0..99), 60);
    let mut judged = 0;
    for second in 0..600 {
        clock.advance(Duration::from_secs(1));
        if !admission.is_out_of_tokens(number) {
            (0..16).for_each(|connection| admission.failed_token(number, &(second, connection)));
            judged += 16;
        }
    }
    assert!((580..=616).contains(&judged), "one in a second: {judged}");
}

/// How many of these an address may present.
fn failed<T: Hash>(
    admission: &Admission,
    number: AddressNumber,
    tokens: impl IntoIterator<Item = T>,
) -> usize {
    let judged = tokens.into_iter().take_while(|token| {
        let may = !admission.is_out_of_tokens(number);
        if may {
            admission.failed_token(number, token);
        }
        may
    });
    judged.count()
}

#[test]
fn a_connection_that_rests_goes_in_favour_of_another_of_its_address() {
    let (admission, clock) = admission(|limits| limits.connections_per_address = 3);
    let introduced = |address, rest| introduced(&admission, address, rest).unwrap();
    let (busy, _busy) = introduced(A, None);
    let (longest, longest_pass) = introduced(A, Some(70));
    let (brief, brief_pass) = introduced(A, Some(2));
    let (other, _other) = introduced(B, Some(99));
    let _fourth = admission.admit_socket(A).unwrap();
    assert_eq!(longest.ended(), Some(RestEnded::Address));
    assert_eq!([busy, brief.clone(), other].map(|one| one.ended()), [None; 3]);
    drop(longest_pass);
    let _fifth = admission.admit_socket(A).unwrap();
    assert_eq!(brief.ended(), Some(RestEnded::Address));
    assert_eq!(admission.admit_socket(A).err(), Some(ConnectionRefused::Address), "none rests");
    drop(brief_pass);
    assert_eq!(admission.admit_socket(A).err(), Some(ConnectionRefused::Address), "it was replaced");
    clock.advance(Duration::from_secs(1));
    assert_eq!(admission.admit_socket(A).err(), Some(ConnectionRefused::Address));
}

/// Once, whoever was told to go and asked for something first counted as gone, so that an address had more and more.
#[test]
fn an_address_whose_connections_go_on_instead_of_leaving_keeps_to_its_limit() {
    const MOST: u32 = 32;
    let (admission, clock) = admission(|limits| limits.connections_per_address = MOST);
    let connect = || introduced(&admission, A, Some(5));
    let mut all: Vec<_> = (0..MOST).map(|_| connect().unwrap()).collect();
    for _ in 0..100 {
        clock.advance(Duration::from_secs(1));
        while let Ok(one) = connect() {
            all.push(one);
            assert!(all.len() <= 34, "one in sixteen beyond it, until those are gone that were told to go");
        }
        for (resting, _) in &all {
            resting.goes_on();
        }
    }
    assert_eq!(all.len(), 34);
    // Those that do as they are told make room.
    assert_eq!(connect().err(), Some(ConnectionRefused::Address));
    all.retain(|(resting, _)| resting.ended().is_none());
    assert!(all.len() < MOST as usize);
    all.push(connect().unwrap());
    assert!(all.iter().all(|(resting, _)| resting.ended().is_none()), "nobody goes while there is room");
}

#[test]
fn on_a_full_node_strangers_that_rest_go_in_favour_of_who_comes_again() {
    let (admission, clock) = admission(|limits| limits.sockets = 3);
    let introduced = |address, rest| introduced(&admission, address, rest).unwrap();
    let (publisher, _publisher) = introduced(None, Some(99));
    let (longest, longest_pass) = introduced(A, Some(70));
    let (other, _other) = introduced(B, Some(60));
    assert_eq!(admission.admit_socket(None).err(), Some(ConnectionRefused::Node));
    assert_eq!(longest.ended(), Some(RestEnded::Node));
    assert_eq!(admission.admit_socket(None).err(), Some(ConnectionRefused::Node), "it is not gone yet");
    assert_eq!([publisher.ended(), other.ended()], [None; 2], "one at a time");
    drop(longest_pass);
    let _fourth = admission.admit_socket(None).unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(admission.admit_socket(None).err(), Some(ConnectionRefused::Node));
    assert_eq!((publisher.ended(), other.ended()), (None, Some(RestEnded::Node)), "neighbours stay");
}

/// Once, what clients of a private network left behind kept publishers out for up to 75 seconds: nobody but strangers made room.
#[test]
fn on_a_full_node_without_strangers_that_rest_neighbours_make_room_for_their_like() {
    let (admission, clock) = admission(|limits| (limits.sockets, limits.sockets_of_strangers) = (4, 4));
    let introduced = |address, rest| introduced(&admission, address, rest).unwrap();
    let (stranger, _stranger) = introduced(A, Some(0));
    let (longest, longest_pass) = introduced(None, Some(20));
    let (other, _other) = introduced(None, Some(11));
    let (brief, _brief) = introduced(None, Some(9));
    let refused = |address| assert_eq!(admission.admit_socket(address).err(), Some(ConnectionRefused::Node));
    refused(B);
    assert_eq!(longest.ended(), None, "not in favour of a stranger");
    refused(None);
    assert_eq!(longest.ended(), Some(RestEnded::Node), "the look for a stranger was none for a neighbour");
    refused(None);
    assert_eq!([stranger, other.clone(), brief.clone()].map(|one| one.ended()), [None; 3], "one at a time");
    drop(longest_pass);
    let _publisher = admission.admit_socket(None).unwrap();
    for _ in 0..2 {
        clock.advance(Duration::from_secs(1));
        refused(None);
    }
    assert_eq!((other.ended(), brief.ended()), (Some(RestEnded::Node), None), "it has not rested for long");
}

/// Whether a connection has to make room for others.
async fn is_evicted(pass: &SocketPass) -> bool {
    tokio::time::timeout(Duration::ZERO, pass.evicted()).await.is_ok()
}

/// Once, strangers that said nothing, or that asked for something slowly, took what is kept for publishers.
#[tokio::test]
async fn strangers_do_not_take_what_is_kept_for_others_whatever_they_do() {
    let (admission, _) = admission(|limits| (limits.sockets_of_strangers, limits.sockets) = (30, 40));
    let connect = |address| admission.admit_socket(address);
    // As many as come are here at first, but are told to go.
    let silent: Vec<_> = (0..99).map_while(|_| connect(A).ok()).collect();
    assert_eq!((silent.len(), connect(B).err()), (30, Some(ConnectionRefused::Node)));
    let mut staying = Vec::new();
    for pass in silent {
        if !is_evicted(&pass).await {
            staying.push(pass);
        }
    }
    assert_eq!(staying.len(), 10, "a third of the room");
    // Those whom nothing can be said against.
    while let Ok(pass) = connect(A) {
        pass.has_spoken();
        staying.push(pass);
    }
    assert_eq!(staying.len(), 30);
    assert_eq!(connect(B).err(), Some(ConnectionRefused::Node));
    let publishers: Vec<_> = (0..99).map_while(|_| connect(None).ok()).collect();
    assert_eq!(publishers.len(), 10);
}

/// Once, a flood behind a proxy closed what publishers kept, as if it were one of them.
#[test]
fn whoever_has_still_to_be_announced_has_no_more_than_a_stranger() {
    let (admission, _) = admission(|limits| (limits.sockets_of_strangers, limits.sockets) = (3, 4));
    let (publisher, _publisher) = introduced(&admission, None, Some(99)).unwrap();
    let mut crowd: Vec<_> = (0..2).map(|_| admission.admit_unannounced().unwrap()).collect();
    assert_eq!(admission.admit_unannounced().err(), Some(ConnectionRefused::Node));
    assert_eq!(publisher.ended(), None);
    // What it turns out to be, it counts as from then on.
    assert_eq!(crowd[0].count_for(None), Ok(()));
    crowd[1].count_for(A).unwrap();
    assert_eq!(admission.admit_unannounced().err(), Some(ConnectionRefused::Node));
    assert!(admission.admit_socket(None).is_ok());
    assert_eq!(admission.addresses.lock().known(A.unwrap()).map(|entry| entry.sockets), Some(1));
}

/// Once, each of them cost as much as a client, so that a company could not come back within seconds.
#[test]
fn the_further_connections_of_a_client_are_not_held_to_the_rate() {
    let (admission, _) = admission(|limits| limits.connecting = Rate::per_second(1, 10));
    let connect = || admission.admit_socket(A).map(drop);
    let opens = || (0..99).take_while(|_| connect().is_ok()).count();
    for _ in 0..10 {
        connect().unwrap();
    }
    assert_eq!(connect(), Err(ConnectionRefused::AddressRate));
    for _ in 0..4 {
        admission.admit_session(A).unwrap().keep();
    }
    assert_eq!(opens(), 8);
    for _ in 0..99 {
        admission.admit_session(A).unwrap().keep();
    }
    assert_eq!(opens(), 12, "three for each that came at the rate");
    admission.admit_session(A).unwrap().keep();
    assert_eq!(opens(), 0);
}

#[test]
fn an_address_without_connections_has_no_room_for_them() {
    let (admission, _) = admission(|_| ());
    let number = admission.admit_session(A).unwrap().keep();
    let mut crowd: Vec<_> = (0..100).map(|_| admission.admit_socket(A).unwrap()).collect();
    for pass in &mut crowd {
        pass.may_rest(Resting::since(None));
    }
    let room = || admission.addresses.lock().known(A.unwrap()).unwrap().resting.capacity();
    assert!(room() >= 100);
    drop(crowd);
    assert_eq!(room(), 0);
    admission.end_session(number);
}

#[test]
fn nothing_is_remembered_of_whoever_has_left() {
    let (admission, _) = admission(|_| ());
    let number = admission.admit_session(A).unwrap().keep();
    let socket = admission.admit_socket(B).unwrap();
    assert_eq!(admission.addresses.lock().count(), 2);
    admission.end_session(number);
    drop(socket);
    assert_eq!(admission.addresses.lock().count(), 0);
    assert_eq!((admission.sessions(), admission.sockets()), (0, 0));
}

#[test]
fn short_memory_lets_nobody_in() {
    let (admission, _) = admission(|_| ());
    admission.note_memory(90, 100, Pressure::High);
    assert_eq!(admission.admit_session(None).err(), Some(HandshakeRefused::Memory));
    admission.note_memory(10, 100, Pressure::None);
    assert!(admission.admit_session(None).is_ok());
}

#[test]
fn short_memory_leaves_strangers_a_few_connections() {
    let (admission, _) = admission(|_| ());
    let mut few: Vec<_> =
        (0..HTTP_CONNECTIONS_WHEN_SHORT).map(|_| admission.admit_socket(A).unwrap()).collect();
    admission.note_memory(90, 100, Pressure::High);
    assert_eq!(admission.admit_socket(B).err(), Some(ConnectionRefused::Memory));
    let mut behind_proxy = admission.admit_socket(None).unwrap();
    assert_eq!(behind_proxy.count_for(B).err(), Some(ConnectionRefused::Memory));
    drop(behind_proxy);
    few.pop();
    assert!(admission.admit_socket(B).is_ok());
    few.push(admission.admit_socket(None).unwrap());
    admission.note_memory(10, 100, Pressure::None);
    assert!(admission.admit_socket(B).is_ok());
}

/// Once, 64 of them kept everybody out, and whoever had no connection for its next answer to a ping was lost.
#[test]
fn clients_that_poll_or_stream_do_not_take_the_few_connections_there_are_when_memory_is_short() {
    let (admission, _) = admission(|_| ());
    let connect = |address| admission.admit_socket(address);
    let mut polling = Vec::new();
    for _ in 0..HTTP_CONNECTIONS_WHEN_SHORT {
        polling.push((connect(A).unwrap(), connect(A).unwrap(), admission.admit_session(A).unwrap()));
    }
    let streams: Vec<_> =
        polling.iter().map(|_| (connect(B).unwrap(), admission.admit_stream(B).unwrap())).collect();
    for _ in &polling {
        admission.admit_session(B).unwrap().keep();
        admission.begin_websocket();
    }
    admission.note_memory(90, 100, Pressure::High);
    let mut others: Vec<_> = (0..99).map_while(|_| connect(B).ok()).collect();
    assert_eq!(others.len(), HTTP_CONNECTIONS_WHEN_SHORT);
    // Once, whoever proved that it may change over counted as one that does not poll any more.
    for _ in &polling {
        admission.begin_websocket_of_nobody();
    }
    assert_eq!(connect(B).err(), Some(ConnectionRefused::Memory));
    others.pop();
    others.push(connect(B).unwrap());
    let (poll, _, session) = polling.pop().unwrap();
    polling.push((poll, connect(A).unwrap(), session));
    assert_eq!(connect(A).err(), Some(ConnectionRefused::Memory));
    others.pop();
    assert!(connect(A).is_ok());
    drop((polling, streams));
    assert_eq!(admission.further_sockets(), others.len());
}

#[test]
fn the_shorter_memory_is_the_less_a_connection_may_rest() {
    let (admission, _) = admission(|_| ());
    let rests = |address, rest| introduced(&admission, address, rest).unwrap();
    let all = [
        rests(A, Some(70)),
        rests(B, Some(64)),
        rests(A, Some(2)),
        rests(A, None),
        rests(None, Some(70)),
        rests(B, Some(0)),
    ];
    let gone = |pressure| {
        admission.end_rests(pressure, Duration::from_mins(1));
        (0..all.len()).filter(|index| all[*index].0.ended() == Some(RestEnded::Memory)).collect::<Vec<_>>()
    };
    assert!(gone(Pressure::None).is_empty());
    assert_eq!(gone(Pressure::High), [0]);
    assert_eq!(gone(Pressure::High), [0], "a client that polls may rest so long, and so may a neighbour");
    assert_eq!(gone(Pressure::Critical), [0, 1, 4]);
    assert_eq!(gone(Pressure::Critical), [0, 1, 2, 4]);
    assert_eq!(gone(Pressure::Critical), [0, 1, 2, 4]);
    drop(all);
    assert!(admission.addresses.lock().others_resting.is_empty());
    assert_eq!(admission.addresses.lock().count(), 0);
}
