//! Revocations while many are connected, and much is published to them.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, Node, PATIENCE, eventually};
use std::io::Read as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How soon whoever is revoked must be gone.
const PROMISE: Duration = Duration::from_secs(1);
/// How often what is promised is tried on a machine that may be busy.
const TAKES: usize = 3;
const CROWD: usize = 2_000;
const OTHERS: usize = 10;
/// As many as keep the fan-out busy.
const PUBLISHERS: usize = 1;
/// Until it is.
const WARM_UP: Duration = Duration::from_millis(500);

const SECRET: &str = "secret = 'a secret of the tests, with more than 32 bytes'\n";

/// A JWT of somebody for the channel `a`.
fn sign(node: &Node, subject: &str) -> String {
    sign_with(node, subject, &[])
}

fn sign_with(node: &Node, subject: &str, more: &[&str]) -> String {
    let mut sign = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    sign.current_dir(node.dir.path()).args(["jwt", "sign", "--sub", subject, "--channels", "a"]).args(more);
    String::from_utf8(sign.output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Comes in with a JWT through the handshake door.
fn enter(node: &Node, jwt: &str) -> Client {
    let mut client = Client::open(node, &[]).unwrap();
    client.send(&format!(r#"40{{"token":"{jwt}"}}"#)).unwrap();
    client.await_text("checkpoint");
    client
}

/// Reads what has arrived, so that everybody is served live.
fn take_what_is_there(client: &Client) {
    client.stream.set_nonblocking(true).unwrap();
    let mut piece = [0; 1 << 12];
    while (&client.stream).read(&mut piece).is_ok_and(|length| length > 0) {}
}

fn revoke(node: &Node, subject: &str) -> Instant {
    revoke_by(node, "subject", subject)
}

fn revoke_by(node: &Node, field: &str, value: &str) -> Instant {
    let answer = node.call("POST", "/v1/revocations", &format!(r#"{{"{field}":"{value}"}}"#));
    assert_eq!(answer.status, 201, "{answer:?}");
    Instant::now()
}

/// Once, everybody waited for what the fan-out had to do before the one in front of them could go, and whoever was revoked meanwhile
/// waited for all of them.
#[test]
fn a_crowd_that_is_published_to_is_gone_within_a_second_and_holds_nobody_up() {
    let mut taken = Vec::new();
    // The machine may be busy, but not each time.
    let is_in_time = (0..TAKES).any(|_| {
        let times = gone_after_a_crowd_is_revoked();
        taken.push(times);
        times.is_some_and(|times| times.iter().all(|time| *time <= PROMISE))
    });
    assert!(is_in_time, "not once within {PROMISE:?}: {taken:?}");
}

/// How long it took until a crowd was gone, and others who were revoked right behind it; unless half of the crowd was too slow for what
/// was published, and gone before.
fn gone_after_a_crowd_is_revoked() -> Option<[Duration; 2]> {
    let node = Node::start(&format!("[[jwt]]\n{SECRET}"));
    let [crowd, other] = ["crowd", "other"].map(|subject| sign(&node, subject));
    let crowd: Vec<_> = (0..CROWD).map(|_| enter(&node, &crowd)).collect();
    let mut others: Vec<_> = (0..OTHERS).map(|_| enter(&node, &other)).collect();

    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let goes_on = || !is_over.load(Ordering::Relaxed) && began.elapsed() < PATIENCE;
    let item = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(200));
    let batch = format!(r#"{{"messages":[{}]}}"#, vec![item; 100].join(","));
    let (of_crowd, of_others) = thread::scope(|scope| {
        scope.spawn(|| {
            while goes_on() {
                crowd.iter().for_each(take_what_is_there);
            }
        });
        for _ in 0..PUBLISHERS {
            scope.spawn(|| {
                while goes_on() {
                    assert_eq!(node.call("POST", "/v1/messages", &batch).status, 200);
                }
            });
        }
        thread::sleep(WARM_UP);
        let crowd_revoked = revoke(&node, "crowd");
        let others_revoked = revoke(&node, "other");
        let of_others = scope.spawn(move || {
            for client in &mut others {
                client.await_text("41");
            }
            others_revoked.elapsed()
        });
        eventually("the end of all", || (node.metric("channelapi_connections") == 0).then_some(()));
        let of_crowd = crowd_revoked.elapsed();
        is_over.store(true, Ordering::Relaxed);
        (of_crowd, of_others.join().unwrap())
    });
    println!(
        "revoked: {CROWD} clients were gone after {of_crowd:.1?}, {OTHERS} others after {of_others:.1?}"
    );
    let put_out = node.metric("channelapi_clients_revoked_total");
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"revoked\"}"), put_out);
    (put_out > (CROWD / 2) as u64).then_some([of_crowd, of_others])
}

const DATA_BYTES: usize = 10_000;

/// Publishes until more waits for a client that reads nothing than the kernel takes. Says how many publications that were, and how many of
/// them have not set out.
fn publish_until_it_waits(node: &Node) -> (usize, usize) {
    let item = format!(r#"{{"channel":"a","data":"{}"}}"#, "x".repeat(DATA_BYTES));
    let batch = format!(r#"{{"messages":[{item}]}}"#);
    let mut published = 0;
    let waiting = eventually("more than the kernel takes", || {
        assert_eq!(node.call("POST", "/v1/messages", &batch).status, 200);
        published += 1;
        let waiting = usize::try_from(node.metric("channelapi_waiting_bytes")).unwrap();
        (waiting > 20 * DATA_BYTES).then_some(waiting)
    });
    // A little of what waits is not data, and one message may have been begun.
    (published, waiting / (DATA_BYTES + DATA_BYTES / 20) - 1)
}

fn await_the_end(node: &Node) {
    eventually("the end", || (node.metric("channelapi_connections") == 0).then_some(()));
}

fn count_of_data(told: &[String]) -> usize {
    told.iter().filter(|text| text.contains("xxx")).count()
}

/// Once, a client that went on reading was sent all that had waited for it, and one that did not was here for five seconds.
#[test]
fn whoever_reads_nothing_is_gone_as_soon_and_gets_nothing_more() {
    for goes_on in [false, true] {
        let is_in_time = (0..TAKES).any(|_| gone_after_jwt_is_revoked(goes_on) <= PROMISE);
        assert!(is_in_time, "not once within {PROMISE:?}");
    }
}

fn gone_after_jwt_is_revoked(goes_on: bool) -> Duration {
    let node = Node::start(&format!("[[jwt]]\n{SECRET}"));
    let mut client = enter(&node, &sign(&node, "slow"));
    let (published, unsent) = publish_until_it_waits(&node);
    let revoked = revoke(&node, "slow");
    node.await_metric("channelapi_clients_revoked_total", |count| count == 1);
    let mut told = if goes_on { client.rest().0 } else { Vec::new() };
    await_the_end(&node);
    let gone_after = revoked.elapsed();
    told.extend(client.rest().0);
    let heard = count_of_data(&told);
    assert!(heard <= published - unsent, "{heard} of {published}, of which {unsent} had waited");
    gone_after
}

/// Once, whoever read nothing when its token was revoked stayed as long as it liked, then for up to two seconds; and whoever read was sent
/// all that had waited.
#[test]
fn whoever_does_not_go_when_its_token_is_revoked_is_gone_as_soon_and_gets_nothing_more() {
    for is_reading in [false, true] {
        let is_in_time = (0..TAKES).any(|_| gone_after_token_is_revoked(is_reading) <= PROMISE);
        assert!(is_in_time, "not once within {PROMISE:?}");
    }
}

fn gone_after_token_is_revoked(is_reading: bool) -> Duration {
    let node = Node::start("");
    let mut client = Client::open(&node, &[]).unwrap();
    client.send(&format!(r#"40{{"token":"{}"}}"#, node.token("a"))).unwrap();
    client.await_text("checkpoint");
    let (published, unsent) = publish_until_it_waits(&node);
    let revoked = Instant::now();
    let answer = node.call("DELETE", "/v1/channels/a/tokens", "");
    assert!(answer.body.contains(r#""disconnected":1"#), "{answer:?}");
    let mut told = Vec::new();
    if is_reading {
        while !told.iter().any(|text| text == "41") {
            told.push(client.receive().expect("the word that it is to go"));
        }
    }
    await_the_end(&node);
    let gone_after = revoked.elapsed();
    told.extend(client.rest().0);
    let heard = count_of_data(&told);
    assert!(heard <= published - unsent, "{heard} of {published}, of which {unsent} had waited");
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"revoked\"}"), 1);
    gone_after
}

/// Once, there was no way to end them but to name each user.
#[test]
fn whoever_came_in_by_an_issuer_can_be_sent_away_also_when_the_configuration_does_not_name_it_any_more() {
    let [stolen, good] = ["stolen", "good"].map(|name| format!("[[jwt]]\nissuer = '{name}'\n{SECRET}"));
    let mut node = Node::start(&format!("{stolen}{good}"));
    let jwts = ["stolen", "good"].map(|issuer| sign_with(&node, "ann", &["--issuer", issuer]));
    let [mut gone, mut stays] = jwts.clone().map(|jwt| enter(&node, &jwt));
    let file = node.dir.path().join("channelapi.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings.replace(&stolen, "")).unwrap();
    node.signal("-HUP");
    node.await_log("reloaded");
    assert_eq!(node.metric("channelapi_disconnects_total{reason=\"revoked\"}"), 0);
    let ask = |what: &str| node.call("POST", "/v1/revocations", what);
    for (what, detail) in [
        (r#"{"issuer":"stolen"}"#, "alone names nobody"),
        (r#"{"issuer":"stoln","all":true}"#, "it would revoke nothing"),
    ] {
        let answer = ask(what);
        assert!(answer.status == 400 && answer.body.contains(detail), "{what}: {answer:?}");
    }
    let answer = ask(r#"{"issuer":"stolen","all":true}"#);
    assert!(answer.status == 201 && answer.body.contains(r#""issuer":"stolen","all":true"#), "{answer:?}");
    gone.await_text("41");
    let answer = node.call("POST", "/v1/channels/a/messages", r#"{"data":"live"}"#);
    assert_eq!(answer.status, 201);
    stays.await_text("live");
    enter(&node, &jwts[1]);
}
