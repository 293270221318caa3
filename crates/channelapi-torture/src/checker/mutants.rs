//! The checker, checked: a correct server is accepted, and each kind of mistake is seen.

use std::time::Duration;

use proptest::prelude::*;

use super::findings::Law;
use super::simulation::Simulation;
use super::simulation::flaw::Flaw;
use super::{Findings, Verdict};
use crate::history::{
    Answer, Asked, Branch, Channel, ChannelId, Client, Connected, Door, Dump, Entry, Event, History, Life,
    MessageId, Outcome, Pid, Position, Publish, Reason, Time,
};

const SEEDS: u64 = 60;
const STEPS: usize = 600;

fn findings(seed: u64, flaw: Option<Flaw>, steps: usize) -> (Findings, usize) {
    let (history, struck) = Simulation::new(seed, flaw).play(steps);
    (Verdict::on(&history).findings, struck)
}

/// In every run in which the flaw showed to somebody (or in a quarter of all runs, if it cannot be told whether it did),
/// the checker complains, and names one of these laws at least once.
fn check_caught(flaw: Flaw, laws: &[Law]) {
    let (mut runs, mut caught, mut named) = (0_u64, 0_u64, 0);
    for seed in 0..SEEDS {
        let (findings, struck) = findings(seed, Some(flaw), STEPS);
        runs += u64::from(struck > 0);
        caught += u64::from(!findings.is_clean());
        named += findings.count(laws);
        assert!(struck == 0 || !findings.is_clean(), "{flaw:?} was not seen with seed {seed}");
    }
    assert!(runs == 0 || runs >= 20, "{flaw:?} showed in {runs} runs only");
    assert!(caught >= SEEDS / 4, "{flaw:?} was caught in {caught} of {SEEDS} runs");
    assert!(named > 0, "{flaw:?} was caught, but never as one of {laws:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn correct_histories_pass(seed in any::<u64>(), steps in 0_usize..1500) {
        let (findings, _) = findings(seed, None, steps);
        prop_assert!(findings.is_clean(), "seed {} with {} steps:\n{}", seed, steps, findings);
    }
}

#[test]
fn correct_histories_hold_something_to_be_wrong_about() {
    let mut whole = Verdict::default();
    for seed in 0..20 {
        whole.merge(Verdict::on(&Simulation::new(seed, None).play(STEPS).0));
    }
    assert!(whole.accepted > 1_000 && whole.deliveries > 3_000 && whole.resumes > 300, "{}", whole.line());
    assert!(whole.confirmed > 50 && whole.unread > 50, "{}", whole.line());
}

#[test]
fn accepted_messages_that_are_forgotten_are_seen() {
    check_caught(Flaw::ForgetsTail, &[Law::NothingLost]);
    check_caught(Flaw::AcceptsWithoutStoring, &[Law::NothingLost]);
}

#[test]
fn two_contents_at_one_offset_are_seen() {
    check_caught(Flaw::SwapsTail, &[Law::OneContent, Law::OneKeyOneOffset]);
    check_caught(Flaw::TwoContents, &[Law::OneContent]);
}

#[test]
fn dropped_messages_are_seen() {
    check_caught(Flaw::DropsSome, &[Law::NothingLost]);
    check_caught(Flaw::SkipsOnResume, &[Law::NothingLost]);
    check_caught(Flaw::SkipsInStream, &[Law::NothingLost]);
    check_caught(Flaw::DeafSeed, &[Law::NoHole]);
}

#[test]
fn wrong_order_is_seen() {
    check_caught(Flaw::Reorders, &[Law::NoHole, Law::NothingLost]);
}

#[test]
fn inventions_are_seen() {
    check_caught(Flaw::Phantom, &[Law::NoPhantom]);
    check_caught(Flaw::DeliversRefused, &[Law::RefusedStaysOut]);
    check_caught(Flaw::StoresRefused, &[Law::RefusedStaysOut]);
    check_caught(Flaw::ForeignChannel, &[Law::OwnChannelsOnly]);
}

#[test]
fn repeats_are_seen() {
    check_caught(Flaw::DeliversTwice, &[Law::NoRepeat]);
    check_caught(Flaw::RepeatsOnResume, &[Law::NoRepeat]);
    check_caught(Flaw::StoresKeyTwice, &[Law::OneKeyOneOffset]);
}

#[test]
fn batches_that_are_not_whole_are_seen() {
    check_caught(Flaw::TearsBatch, &[Law::WholeBatch]);
    check_caught(Flaw::MixesBatch, &[Law::WholeBatch]);
}

#[test]
fn consumers_that_stand_where_nobody_said_are_seen() {
    check_caught(Flaw::ForgetsAck, &[Law::AcksKept]);
    check_caught(Flaw::AckGoesAhead, &[Law::AcksKept]);
    check_caught(Flaw::AckOutlivesRestore, &[Law::AcksKept]);
}

#[test]
fn other_messages_than_the_unread_ones_are_seen() {
    check_caught(Flaw::UnreadIsNew, &[Law::NothingLost]);
    check_caught(Flaw::UnreadSkips, &[Law::NothingLost]);
    check_caught(Flaw::UnreadIsConfirmed, &[Law::WhatIsUnread]);
    check_caught(Flaw::UnreadBeginsAnew, &[Law::HonestVerdict]);
    check_caught(Flaw::CountsTooMany, &[Law::WhatIsUnread]);
    check_caught(Flaw::CountsTooFew, &[Law::WhatIsUnread]);
}

#[test]
fn lives_of_another_length_are_seen() {
    check_caught(Flaw::ShowsOver, &[Law::TimeToLive]);
    check_caught(Flaw::ForgetsLongLived, &[Law::NothingLost]);
}

#[test]
fn purges_that_do_not_last_or_are_hidden_are_seen() {
    check_caught(Flaw::PurgeComesBack, &[Law::PurgedStaysOut]);
    check_caught(Flaw::SilentPurge, &[Law::HonestVerdict]);
}

#[test]
fn untrue_verdicts_are_seen() {
    check_caught(Flaw::FalselyIncomplete, &[Law::HonestVerdict]);
    check_caught(Flaw::ForgetsStart, &[Law::HonestVerdict]);
    check_caught(Flaw::SilentlyNotRecovered, &[Law::HonestVerdict]);
    check_caught(Flaw::TrustsReplacedHistory, &[Law::HonestVerdict]);
    check_caught(Flaw::HidesNewEpoch, &[Law::HonestVerdict]);
    check_caught(Flaw::HidesTrim, &[Law::NothingLost, Law::NoHole]);
}

/// No client has to be there to see this one: the history at the end shows it.
#[test]
fn message_stored_before_one_that_was_accepted_earlier_is_seen() {
    let time = |millis| Time(Duration::from_millis(millis));
    let id = |number| MessageId { publisher: 0, number };
    let publish = |number, invoked, at| Publish {
        id: id(number),
        channel: ChannelId(0),
        keyed: false,
        ttl: None,
        batch: None,
        invoked: time(invoked),
        doubtful: None,
        outcome: Outcome::Stored(vec![Answer {
            at: time(at),
            branch: Branch(0),
            position: None,
            tag: None,
            duplicate: false,
        }]),
    };
    let check = |order: [u32; 2], second_invoked: u64| {
        let position = |offset| Position { epoch: 1, offset };
        let history = History {
            channels: vec![Channel { name: "a".to_owned(), durable: true, max_messages: None }],
            publishes: vec![publish(0, 0, 10), publish(1, second_invoked, 30)],
            dumps: vec![Dump {
                branch: Branch(0),
                channel: ChannelId(0),
                began: time(40),
                ended: time(40),
                messages: vec![(position(1), id(order[0])), (position(2), id(order[1]))],
            }],
            ..History::default()
        };
        Verdict::on(&history).findings.count(&[Law::RealTimeOrder])
    };
    assert_eq!(check([0, 1], 20), 0, "in order");
    assert_eq!(check([1, 0], 20), 1, "the first was accepted before the second was sent");
    assert_eq!(check([1, 0], 5), 0, "they were sent side by side");
}

/// Hardly any client breaks off twice before its first cursor.
#[test]
fn beginning_of_a_session_with_gaps_that_passes_for_a_place_is_seen() {
    let check = |pid: Pid, reason: Option<Reason>| {
        let connected = |asked, pid| {
            let (life, branch, began) = (Life::default(), Branch::default(), Time::default());
            Event::Connected(Connected { began, life, branch, asked, pid })
        };
        let gap = |reason| Event::Gap { channel: ChannelId(0), reason };
        let mut events = vec![
            connected(Asked::Now, Pid::New),
            Event::Closed,
            connected(Asked::Start(0), Pid::New),
            Event::Closed,
            connected(Asked::Start(2), pid),
        ];
        events.extend(reason.map(gap));
        events.push(Event::Checkpoint);
        let entry = |(number, event)| Entry { at: Time(Duration::from_millis(number)), event };
        let client = Client {
            name: "client".to_owned(),
            door: Door::Handshake,
            channels: vec![ChannelId(0)],
            events: (0..).zip(events).map(entry).collect(),
        };
        let channel = Channel { name: "a".to_owned(), durable: true, max_messages: Some(1) };
        let history = History { channels: vec![channel], clients: vec![client], ..History::default() };
        Verdict::on(&history).findings.count(&[Law::HonestVerdict])
    };
    assert_eq!(check(Pid::New, Some(Reason::NoCursor)), 0);
    assert_eq!(check(Pid::Same, None), 1, "what was missing may never have been heard of");
}

#[test]
fn client_that_was_waited_for_in_vain_is_seen() {
    let history = History { late: vec!["seed".to_owned()], ..History::default() };
    assert_eq!(Verdict::on(&history).findings.count(&[Law::NothingLost]), 1);
    assert!(Verdict::on(&History::default()).findings.is_clean());
}

#[test]
fn batch_that_was_stored_and_refused_is_seen() {
    let publish = |number, outcome| Publish {
        id: MessageId { publisher: 0, number },
        channel: ChannelId(0),
        keyed: false,
        ttl: None,
        batch: Some(0),
        invoked: Time::default(),
        doubtful: None,
        outcome,
    };
    let stored = || {
        let (at, branch) = (Time::default(), Branch(0));
        Outcome::Stored(vec![Answer { at, branch, position: None, tag: None, duplicate: false }])
    };
    let check = |outcomes: [Outcome; 2]| {
        let history = History {
            channels: vec![Channel { name: "a".to_owned(), durable: true, max_messages: None }],
            publishes: (0..).zip(outcomes).map(|(number, outcome)| publish(number, outcome)).collect(),
            ..History::default()
        };
        Verdict::on(&history).findings.count(&[Law::WholeBatch])
    };
    assert_eq!(check([stored(), stored()]), 0);
    assert_eq!(check([Outcome::Refused(503), Outcome::Refused(503)]), 0);
    assert_eq!(check([stored(), Outcome::Refused(503)]), 1);
}
