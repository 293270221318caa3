//! The doors of the real server, where what a client brings is not what it seems.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Client, KEY, Node};
use std::process::Command;

/// Takes JWTs that the program signs.
const ISSUER: &str = "[[jwt]]\nsecret = 'a secret of the tests, with more than 32 bytes'\n";

/// A JWT for these channels.
fn sign(node: &Node, channels: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    command.current_dir(node.dir.path()).args(["jwt", "sign", "--channels", channels]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Publishes a text to a channel.
fn publish(node: &Node, channel: &str, text: &str) {
    assert_eq!(
        node.call("POST", &format!("/message/{channel}"), &format!(r#"{{"message":"{text}"}}"#)).status,
        200
    );
}

/// Brings this to the handshake door, and returns what it is admitted or refused with.
fn bring(node: &Node, auth: &str) -> (Client, String) {
    let mut client = Client::open(node, &[]).unwrap();
    client.send(&format!("40{auth}")).unwrap();
    let answer = loop {
        let text = client.receive().unwrap();
        if text.starts_with("40") || text.starts_with("44") {
            break text;
        }
    };
    (client, answer)
}

/// What a client is told up to its first checkpoint.
fn until_checkpoint(client: &mut Client) -> String {
    let mut told = String::new();
    while !told.contains("checkpoint") {
        told += &client.receive().unwrap();
    }
    told
}

/// The value of a key in some JSON.
fn value_of<'a>(json: &'a str, key: &str) -> &'a str {
    json.split(&format!(r#""{key}":""#)).nth(1).unwrap().split('"').next().unwrap()
}

/// Once, it was let in as a client without a token, and never heard anything.
#[test]
fn a_token_that_cannot_be_read_is_refused_and_counted() {
    let node = Node::start("");
    let (_, answer) = bring(&node, r#"{"token":"cut \ud83d"}"#);
    assert!(answer.starts_with("44") && answer.contains(r#""code":"bad_auth""#), "{answer}");
    assert_eq!(node.metric("channelapi_joins_refused_total{reason=\"bad_request\"}"), 1);
}

/// A client of JWTs that was in `a` and `b`, has left `b`, and stands behind what was published in both since: its pid and its place.
fn one_that_left(node: &Node) -> (String, String) {
    let (mut client, admission) = bring(node, &format!(r#"{{"token":"{}"}}"#, sign(node, "a,b")));
    client.await_text("checkpoint");
    client.send(&format!(r#"421["auth",{{"token":"{}"}}]"#, sign(node, "a"))).unwrap();
    client.await_text(r#""left":["b"]"#);
    publish(node, "b", "missed");
    publish(node, "a", "heard");
    let place = client.await_text("cl1.").split('"').nth(3).unwrap().to_owned();
    (value_of(&admission, "pid").to_owned(), place)
}

/// Once, it was the place of its client in all channels, also in the one that it had left, and nobody said that something is missing.
#[test]
fn a_place_behind_which_a_channel_was_left_is_no_place_to_begin_at() {
    let node = Node::start(ISSUER);
    let (_, place) = one_that_left(&node);
    let (mut client, _) = bring(&node, &format!(r#"{{"token":"{}","since":"{place}"}}"#, sign(&node, "a,b")));
    let told = until_checkpoint(&mut client);
    for channel in ["a", "b"] {
        let gap = format!(r#""channel":"{channel}","reason":"no_cursor""#);
        assert!(told.contains(&gap), "{told}");
    }
    assert!(told.contains(r#"42["message","missed"]"#), "{told}");
}

/// Once, the second of two clients that break off right after they were admitted was told that it has everything.
#[test]
fn whoever_breaks_off_before_its_replay_is_told_again_that_something_is_missing() {
    let node = Node::start(ISSUER);
    let (mut pid, place) = one_that_left(&node);
    let token = sign(&node, "a,b");
    for _ in 0..3 {
        let auth = format!(r#"{{"token":"{token}","pid":"{pid}","offset":"{place}"}}"#);
        let (mut client, admission) = bring(&node, &auth);
        assert_ne!(value_of(&admission, "pid"), pid, "it is not recovered");
        pid = value_of(&admission, "pid").to_owned();
        let told = until_checkpoint(&mut client);
        assert!(told.contains(r#""channel":"b","reason":"no_cursor""#), "{told}");
        assert!(told.contains(r#"42["message","missed"]"#), "{told}");
    }
    assert_eq!(node.metric("channelapi_gaps_total"), 3);
}

/// Once, it stood where its session began, and was told that nothing was missing before.
#[test]
fn whoever_breaks_off_before_it_has_heard_of_a_gap_is_told_again_that_something_is_missing() {
    let node = Node::start("[history]\nmax_messages = 1\n");
    let token = format!(r#""token":"{}""#, node.token("a"));
    let (mut client, admission) = bring(&node, &format!("{{{token}}}"));
    let whole = value_of(&admission, "pid").to_owned();
    let place = client.await_text("checkpoint").split('"').nth(3).unwrap().to_owned();
    let (_, again) = bring(&node, &format!(r#"{{{token},"pid":"{whole}"}}"#));
    assert_eq!(
        value_of(&again, "pid"),
        whole,
        "nothing was missing before its beginning, and nothing is now"
    );

    for text in ["gone", "kept"] {
        publish(&node, "a", text);
    }
    // Whoever says goodbye as soon as it is admitted has heard of nothing else.
    let (_, admission) = bring(&node, &format!(r#"{{{token},"since":"{place}"}}"#));
    let mut pid = value_of(&admission, "pid").to_owned();
    for _ in 0..3 {
        let (mut client, admission) = bring(&node, &format!(r#"{{{token},"pid":"{pid}"}}"#));
        assert_ne!(value_of(&admission, "pid"), pid, "it is not recovered");
        pid = value_of(&admission, "pid").to_owned();
        client.await_text(r#""channel":"a","reason":"no_cursor""#);
        client.await_text(r#"["message","kept"]"#);
    }
    let (mut client, _) = bring(&node, &format!(r#"{{{token},"pid":"{pid}","offset":"{place}"}}"#));
    client.await_text(r#""channel":"a","reason":"trimmed""#);
}

/// Once, it held the channel for the client, who was not in it, and closed the connection when it ended.
#[test]
fn a_jwt_opens_nothing_for_a_client_that_does_not_get_in() {
    let node = Node::start(ISSUER);
    let mut client = Client::enter(&node);
    let token = sign(&node, "a");
    let state = rusqlite::Connection::open(node.dir.path().join("data/state.db")).unwrap();
    state.execute_batch("ALTER TABLE consumer RENAME TO away").unwrap();
    client.send(&format!(r#"421["join_channel",{{"token":"{token}","since":"unread"}}]"#)).unwrap();
    client.await_text(r#"431[{"error":{"code":"unavailable""#);
    client.send(&format!(r#"422["auth",{{"token":"{token}"}}]"#)).unwrap();
    let answer = client.await_text("432[");
    assert!(answer.contains("the client is in no channel by a JWT"), "{answer}");
    state.execute_batch("ALTER TABLE away RENAME TO consumer").unwrap();
    client.send(&format!(r#"423["join_channel",{{"token":"{token}","since":"unread"}}]"#)).unwrap();
    client.await_text(r#""recovered":true"#);
    client.send(&format!(r#"424["auth",{{"token":"{token}"}}]"#)).unwrap();
    client.await_text(r#""channels":["a"]"#);
}

/// An ack that names an id and arrives behind a purge confirms nothing; one that names an offset cannot know.
#[test]
fn an_id_of_another_history_confirms_nothing() {
    let node = Node::start("");
    let publish = || {
        let answer = node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#);
        let (_, id) = answer.body.split_once(r#""id":""#).unwrap();
        id.split_once('"').unwrap().0.to_owned()
    };
    let before = publish();
    let mut client = Client::join(&node, &node.token("a"));
    let mut confirm = |id: &str, answer: &str| {
        client.send(&format!(r#"421["ack",{{"channel":"a","id":"{id}"}}]"#)).unwrap();
        let answered = client.await_text("431[");
        assert!(answered.contains(answer), "{answered}");
    };
    confirm(&before, r#"{"offset":1,"unread":0}"#);
    assert_eq!(node.call("DELETE", "/v1/channels/a/messages", "").status, 200);
    let after = publish();
    confirm(&before, r#"{"error":{"code":"epoch""#);
    let (place, tag) = after.rsplit_once('-').unwrap();
    let other = format!("{place}-{:08x}", !u32::from_str_radix(tag, 16).unwrap());
    confirm(&other, r#"{"error":{"code":"diverged""#);
    assert_eq!(node.metric("channelapi_acks_refused_total{reason=\"history\"}"), 2);
    let put = |body: &str| {
        let answer = node.call("PUT", "/v1/channels/a/consumers/x", body);
        (answer.status, answer.body)
    };
    for (body, status, part) in [
        (format!(r#"{{"id":"{before}"}}"#), 409, r#""code":"epoch""#),
        (format!(r#"{{"id":"{other}"}}"#), 409, r#""code":"diverged""#),
        (r#"{"id":"1"}"#.to_owned(), 400, r#""code":"invalid_body""#),
        (format!(r#"{{"id":"{after}","offset":1}}"#), 400, r#""code":"invalid_body""#),
        ("{}".to_owned(), 400, r#""code":"invalid_body""#),
    ] {
        let (answered, said) = put(&body);
        assert!(answered == status && said.contains(part), "{body}: {answered} {said}");
        let standing = node.call("GET", "/v1/channels/a/consumers/x", "").body;
        assert!(standing.contains(r#""offset":0"#), "{body}: {standing}");
    }
    let (status, said) = put(&format!(r#"{{"id":"{after}"}}"#));
    assert!(status == 200 && said.contains(r#""offset":1,"unread":0"#), "{said}");
}

#[test]
fn all_of_a_channel_whose_beginning_is_gone_is_told_to_be_less() {
    let node = Node::start("[history]\nmax_messages = 2\n");
    for _ in 0..3 {
        assert_eq!(node.call("POST", "/message/a", r#"{"message":1}"#).status, 200);
    }
    let token = node.token("a");
    let mut explicit = Client::enter(&node);
    explicit.send(&format!(r#"421["join_channel",{{"token":"{token}","since":"all"}}]"#)).unwrap();
    let answer = explicit.await_text("431[");
    assert!(answer.contains(r#""reason":"trimmed","recovered":false"#), "{answer}");
    let mut handshake = Client::open(&node, &[]).unwrap();
    handshake.send(&format!(r#"40{{"token":"{token}","since":"all"}}"#)).unwrap();
    handshake.await_text(r#"42["gap",{"channel":"a","reason":"trimmed"}]"#);
}

/// Of two keys the first once counted, by whatever way the request was read, and whichever of them a proxy in front had judged.
#[test]
fn two_headers_with_a_key_are_refused_by_every_route() {
    let node = Node::start("");
    assert_eq!(node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#).status, 201);
    let bearer = format!("Bearer {KEY}");
    for (method, path, body) in [
        ("POST", "/message/a", r#"{"message":2}"#),
        ("POST", "/channel/a", ""),
        ("POST", "/v1/channels/a/messages", r#"{"data":2}"#),
        ("POST", "/v1/messages", r#"{"channels":["a"],"data":2}"#),
        ("GET", "/v1/channels/a", ""),
        ("GET", "/v1/channels/a/stream", ""),
        ("GET", "/v1/channels/a/stream?token=t", ""),
        ("DELETE", "/v1/channels/a/messages", ""),
        ("GET", "/metrics", ""),
        ("GET", "/v1/nothing", ""),
    ] {
        let is_v1 = path.starts_with("/v1");
        let form = if is_v1 { r#""code":"several_keys""# } else { r#"{"success": false, "message": ""# };
        for second in [&*bearer, "Bearer other", ""] {
            for pair in [[&*bearer, second], [second, &*bearer]] {
                let answer = node.request(method, path, &pair.map(|key| ("Authorization", key)), body);
                let says =
                    answer.body.contains(form) && answer.body.contains("several headers Authorization");
                assert!(answer.status == 400 && says, "{method} {path} {pair:?}: {answer:?}");
            }
        }
        if is_v1 {
            let twice = [("X-API-Key", KEY), ("X-API-Key", KEY)];
            assert_eq!(node.request(method, path, &twice, body).status, 400, "{method} {path}");
            let each_once = [("Authorization", "Basic of-a-proxy"), ("X-API-Key", "other")];
            let answer = node.request(method, path, &each_once, body);
            assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
        }
    }
    let read = node.call("GET", "/v1/channels/a/messages?since=all", "");
    assert_eq!(read.body.matches(r#""data""#).count(), 1, "{read:?}");
    assert_eq!(node.metric(r#"channelapi_requests_refused_total{reason="invalid"}"#), 67);
}
