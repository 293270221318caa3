//! What a request says that its route does not know, or that could be understood in two ways: it is refused, and nothing is done.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{KEY, Node, POLLING, read_answer};
use std::io::{Read as _, Write as _};

/// Every route that takes no query and, where the last is empty, no body.
const ROUTES: [(&str, &str, &str); 15] = [
    ("POST", "/v1/channels/a/messages", r#"{"data":1}"#),
    ("POST", "/v1/messages", r#"{"channels":["a"],"data":1}"#),
    ("GET", "/v1/channels/a/messages/1", ""),
    ("DELETE", "/v1/channels/a/messages", ""),
    ("GET", "/v1/channels/a", ""),
    ("POST", "/v1/channels/a/tokens", "{}"),
    ("DELETE", "/v1/channels/a/tokens", ""),
    ("DELETE", "/v1/tokens/t", ""),
    ("POST", "/v1/channels/a/disconnect", ""),
    ("POST", "/v1/revocations", r#"{"jti":"1"}"#),
    ("DELETE", "/v1/revocations/1", ""),
    ("GET", "/v1/channels/a/consumers", ""),
    ("GET", "/v1/channels/a/consumers/c", ""),
    ("PUT", "/v1/channels/a/consumers/c", r#"{"offset":0}"#),
    ("DELETE", "/v1/channels/a/consumers/c", ""),
];

fn stored(node: &Node) -> usize {
    node.call("GET", "/v1/channels/a/messages?since=all", "").body.matches("\"data\"").count()
}

/// Once, `DELETE …/messages?before=3` took all messages, and most other routes did not look at their query either.
#[test]
fn a_parameter_that_means_nothing_is_refused_by_every_route() {
    let node = Node::start("");
    assert_eq!(node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#).status, 201);
    for (method, path, body) in ROUTES {
        for query in ["?before=3", "?x=1", "?x"] {
            let answer = node.call(method, &format!("{path}{query}"), body);
            assert_eq!(answer.status, 400, "{method} {path}{query}: {answer:?}");
            assert!(answer.body.contains(r#""code":"invalid_query""#), "{answer:?}");
        }
    }
    for path in ["/v1/channels/a/messages", "/v1/channels/a/stream", "/v1/revocations"] {
        assert_eq!(node.call("GET", &format!("{path}?x=1"), "").status, 400, "{path}");
    }
    assert_eq!(stored(&node), 1, "nothing was done");
    assert_eq!(
        node.call("DELETE", "/v1/channels/a/messages?", "").status,
        200,
        "an empty query says nothing"
    );
    assert_eq!(stored(&node), 0);
    // A stranger is told nothing of it.
    assert_eq!(node.request("DELETE", "/v1/channels/a/messages?before=3", &[], "").status, 403);
}

/// Once, `DELETE …/messages` with a body that named some messages took all of them.
#[test]
fn a_body_that_means_nothing_is_refused_where_none_is_wanted() {
    let node = Node::start("");
    assert_eq!(node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#).status, 201);
    for (method, path, body) in ROUTES.into_iter().filter(|(.., body)| body.is_empty()) {
        for (sent, code) in [(r#"{"before":3}"#, "unknown_field"), ("garbage{", "invalid_body")] {
            let answer = node.call(method, path, sent);
            assert_eq!(answer.status, 400, "{method} {path} {sent}: {answer:?}");
            assert!(answer.body.contains(code), "{answer:?}");
        }
        let empty = [body, "{}", " \n"].map(|empty| node.call(method, path, empty));
        assert!(empty.iter().all(|answer| answer.status != 400), "{method} {path}: {empty:?}");
        assert_eq!(node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#).status, 201);
    }
    for (chunks, status) in [("4\r\nnews\r\n0\r\n\r\n", 400), ("0\r\n\r\n", 200)] {
        let mut stream = node.connect();
        write!(
            stream,
            "DELETE /v1/channels/a/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        )
        .unwrap();
        assert_eq!(read_answer(&mut stream).unwrap().status, status);
    }
}

/// Once, whatever was not there got the hint that retention may have taken a message.
#[test]
fn what_is_not_there_is_said_with_a_hint_that_fits() {
    let node = Node::start("");
    for (method, path, hint) in [
        ("GET", "/v1/nothing", "docs/http-api.md lists the routes."),
        ("GET", "/v1/channels/a/messages/1", "A message is gone when its channel's retention, "),
        ("DELETE", "/v1/revocations/99", "GET /v1/revocations lists those that there are; "),
        ("DELETE", "/v1/tokens/t", "One that was replaced, or is dead for more than a day, is unknown: "),
    ] {
        let answer = node.call(method, path, "");
        assert!(answer.status == 404 && answer.body.contains(&format!(r#""hint":"{hint}"#)), "{answer:?}");
    }
    let hidden = node.call("GET", "/v1/channels/%E2%80%AEb", "");
    assert!(
        hidden.status == 400 && hidden.body.contains("without control or invisible characters"),
        "{hidden:?}"
    );
    // Once, these were names: a soft hyphen, a mark of direction, a filler, a blank, a tag, and a joiner that joins nothing.
    for hidden in
        ["a%C2%AD", "%D8%9Cb", "%E3%85%A4", "a%E2%A0%80b", "a%F3%A0%81%81", "a%E2%80%8D", "%EF%B8%8F"]
    {
        for (method, path, body) in [
            ("POST", format!("/channel/{hidden}"), String::new()),
            ("POST", format!("/message/{hidden}"), r#"{"message":1}"#.to_owned()),
            ("GET", format!("/v1/channels/{hidden}"), String::new()),
        ] {
            let answer = node.call(method, &path, &body);
            let says = answer.body.contains("hannel name holds the invisible character U+");
            assert!(answer.status == 400 && says, "{method} {path}: {answer:?}");
        }
    }
    for seen in ["%D9%85%DB%8C%E2%80%8C%D8%AE", "%E2%9D%A4%EF%B8%8F%E2%80%8D%F0%9F%94%A5"] {
        assert_eq!(node.call("POST", &format!("/channel/{seen}"), "").status, 200, "{seen}");
    }
    let nameless = node.call("GET", "/v1/channels/a/messages?since=unread&consumer=", "");
    assert!(nameless.status == 400 && nameless.body.contains(r#""code":"invalid_consumer""#), "{nameless:?}");
}

/// Once, a number that `state.db` cannot hold was 503, as if the server were at fault, and an error in its log.
#[test]
fn a_number_that_is_too_large_for_the_file_is_one_that_is_not_there() {
    let node = Node::start("");
    assert_eq!(node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#).status, 201);
    assert_eq!(node.call("POST", "/v1/revocations", r#"{"jti":"1"}"#).status, 201);
    for number in ["9223372036854775807", "9223372036854775808", "18446744073709551615"] {
        let page = node.call("GET", &format!("/v1/revocations?after={number}"), "");
        assert_eq!((page.status, &*page.body), (200, r#"{"revocations":[],"has_more":false}"#), "{number}");
        for (method, path, body, status) in [
            ("DELETE", format!("/v1/revocations/{number}"), String::new(), 404),
            ("GET", format!("/v1/channels/a/messages/{number}"), String::new(), 404),
            ("GET", format!("/v1/channels/a/messages?since={number}"), String::new(), 200),
            ("PUT", "/v1/channels/a/consumers/c".into(), format!(r#"{{"offset":{number}}}"#), 409),
            ("PUT", "/v1/channels/none/consumers/c".into(), format!(r#"{{"offset":{number}}}"#), 409),
            ("POST", "/v1/channels/a/tokens".into(), format!(r#"{{"ttl":{number}}}"#), 400),
            ("POST", "/v1/revocations".into(), format!(r#"{{"subject":"x","before":{number}}}"#), 400),
            ("POST", "/v1/revocations".into(), format!(r#"{{"jti":"x","until":{number}}}"#), 400),
        ] {
            let answer = node.call(method, &path, &body);
            assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        }
    }
    assert!(node.call("GET", "/v1/revocations", "").body.contains(r#""jti":"1""#), "it is still there");
}

/// Once, it was a part of another channel's name, as it is for the first version's routes for ever.
#[test]
fn an_escape_that_is_none_is_no_channel_of_version_1() {
    let node = Node::start("");
    let read = node.call("GET", "/v1/channels/a%2", "");
    let sent = node.call("POST", "/v1/channels/a%2/messages", r#"{"data":1}"#);
    for answer in [read, sent] {
        assert_eq!(answer.status, 400, "{answer:?}");
        let why = r#""detail":"A % in the path is not followed by two hexadecimal digits."#;
        assert!(answer.body.contains(why) && answer.body.contains("invalid_channel"), "{answer:?}");
    }
    let seed = node.call("POST", "/message/a%2", r#"{"message":1}"#);
    assert_eq!((seed.status, &*seed.body), (200, r#"{"success": true}"#));
    assert_eq!(node.call("GET", "/v1/channels/a%252", "").body.matches(r#""next_offset":2"#).count(), 1);
}

/// Once, it was 405, while the page, the metrics and the health of the server answered it.
#[test]
fn whatever_can_be_got_can_be_asked_for_its_head_but_for_a_stream() {
    let node = Node::start("");
    assert_eq!(node.call("POST", "/v1/channels/a/messages", r#"{"data":1}"#).status, 201);
    let heads = |method: &str, path: &str| {
        let mut stream = node.connect();
        let key = format!("Authorization: {KEY}");
        stream
            .write_all(
                format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{key}\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let is_lasting = |line: &&str| !line.starts_with("date: ") && !line.starts_with("x-request-id: ");
        let mut head: Vec<_> = head.lines().filter(is_lasting).map(str::to_owned).collect();
        head.sort();
        (head, body.len())
    };
    for path in [
        "/v1/channels/a",
        "/v1/channels/a/messages?since=all",
        "/v1/channels/a/messages/1",
        "/v1/channels/a/consumers",
        "/v1/channels/a/consumers/c",
        "/v1/revocations",
    ] {
        let (got, asked) = (heads("GET", path), heads("HEAD", path));
        assert!(
            got.0[0].contains("200") && got.0.iter().any(|line| line.starts_with("content-length: ")),
            "{got:?}"
        );
        assert_eq!((&asked.0, asked.1), (&got.0, 0), "{path}");
    }
    let (head, _) = heads("HEAD", "/v1/channels/a/stream");
    assert!(head[0].contains("405") && head.contains(&"allow: GET".to_owned()), "{head:?}");
    assert!(heads("HEAD", "/v1/messages").0[0].contains("405"));
}

/// Once, the page that was not there was told to be at the very place that was asked for.
#[test]
fn the_listener_for_publishers_says_where_the_page_and_the_clients_are() {
    let mut node = Node::start("[internal]\nport = 0\n");
    let ready = node.said.last().unwrap();
    let (_, internal) = ready.split_once(r#""internal":""#).unwrap();
    let internal = internal.split('"').next().unwrap().parse().unwrap();
    let nowhere = |node: &Node, path: &str| node.request("GET", path, &[], "").body;
    assert!(nowhere(&node, "/nothing").contains("There is nothing here. See / for what there is."));
    node.address = internal;
    for path in ["/", POLLING] {
        let body = nowhere(&node, path);
        assert!(
            body.contains("There is nothing here: clients and the page are on the public listener."),
            "{body}"
        );
    }
}

/// Once, two lengths that are the same were one, chunks counted beside a length, bodies in another coding passed for plain ones, and a head
/// right behind another request, or one with `Upgrade` or of the method `CONNECT`, was not looked at as closely as the first.
#[test]
fn a_request_that_two_readers_could_end_in_two_places_is_answered_400_and_nothing_behind_it() {
    let node = Node::start("");
    let publish = |fields: &str, body: &str| {
        format!(
            "POST /v1/channels/a/messages HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\n{fields}\r\n{body}"
        )
    };
    let chunked = "a\r\n{\"data\":1}\r\n0\r\n\r\n";
    let bad = [
        publish("Content-Length: 10\r\nContent-Length: 10\r\n", r#"{"data":1}"#),
        publish("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", chunked),
        publish("Transfer-Encoding: chunked\r\nContent-Length: 20\r\n", chunked),
        publish("X: y\nContent-Length: 10\r\n", r#"{"data":1}"#),
        publish("Transfer-Encoding: gzip, chunked\r\n", chunked),
        publish("Transfer-Encoding: chunked, chunked\r\n", chunked),
        publish("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked),
        publish("Transfer-Encoding: chunked\r\n", &format!("{}{chunked}", "0".repeat(70))),
    ];
    let good = [
        String::new(),
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned(),
        "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        publish("Content-Length: 10\r\n", r#"{"data":2}"#),
    ];
    for bad in &bad {
        for good in &good {
            let mut stream = node.connect();
            stream
                .write_all(format!("{good}{bad}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
                .unwrap();
            let mut answers = String::new();
            stream.read_to_string(&mut answers).unwrap();
            let statuses: Vec<_> =
                answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
            let (last, before) = statuses.split_last().unwrap();
            assert_eq!(
                (*last, before.len()),
                ("400", usize::from(!good.is_empty())),
                "{good}{bad}: {answers}"
            );
            let expected = if good.starts_with("CONNECT") { &["404"][..] } else { &["200", "201"] };
            assert!(before.iter().all(|status| expected.contains(status)), "{answers}");
        }
    }
    assert_eq!(stored(&node), bad.len(), "the good ones alone");
    let refused = node.metric("channelapi_http_refused_total{reason=\"malformed\"}");
    assert_eq!(refused, (bad.len() * good.len()) as u64, "each of them is counted");
}

/// RFC 9110, section 7.8: nobody leaves HTTP in the middle of a request. Once, what was sent in place of its body was read as frames.
#[test]
fn a_request_for_a_websocket_that_announces_a_body_is_answered_400_and_nothing_behind_it() {
    const REFUSED: &str = "channelapi_http_refused_total{reason=\"malformed\"}";
    let node = Node::start("");
    let began = std::time::Instant::now();
    let open = node.request("GET", POLLING, &[], "").body;
    let sid = format!("&sid={}", open.split('"').nth(3).unwrap());
    let ask = |sid: &str, fields: &str, body: &[u8]| {
        let mut stream = node.connect();
        write!(stream, "GET /socket.io/?EIO=4&transport=websocket{sid} HTTP/1.1\r\nHost: x\r\n{fields}")
            .unwrap();
        for (name, value) in node::UPGRADE {
            stream.write_all(format!("{name}: {value}\r\n").as_bytes()).unwrap();
        }
        stream.write_all(&[b"\r\n", body].concat()).unwrap();
        stream
    };
    let frame = node::masked("2probe");
    let bodies: [(&str, &[u8]); 6] = [
        ("Transfer-Encoding: chunked\r\n", b"zz\r\n"),
        ("Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", &frame),
        ("Content-Length: 100000\r\n", b""),
        ("Content-Length: 3\r\n", b"abc"),
        ("Content-Length: 3\r\nExpect: 100-continue\r\n", b""),
    ];
    for sid in ["", &sid] {
        for (fields, body) in bodies {
            let before = node.metric(REFUSED);
            let mut answers = Vec::new();
            _ = ask(sid, fields, body).read_to_end(&mut answers);
            let answers = String::from_utf8_lossy(&answers);
            assert!(answers.starts_with("HTTP/1.1 400 "), "{fields}: {answers}");
            assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{fields}: {answers}");
            assert_eq!(answers.to_ascii_lowercase().matches("connection: close").count(), 1, "{answers}");
            assert_eq!(node.metric(REFUSED), before + 1, "{fields}: once");
        }
        // That there is none may be said.
        let answer = read_answer(&mut ask(sid, "Content-Length: 0\r\n", &frame)).unwrap();
        assert_eq!(answer.status, 101, "{answer:?}");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(18), "no body was waited for");
}

/// What is behind it may be frames of a WebSocket, so nobody looks at it. Once, it was read as requests all the same when there was no WebSocket.
#[test]
fn nothing_is_read_behind_a_request_that_could_have_left_http() {
    const SOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
    const KEY: &str = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let node = Node::start("");
    let upgrade = "Connection: Upgrade\r\nUpgrade: WebSocket\r\n";
    let (old, unknown) = (format!("{KEY}Sec-WebSocket-Version: 8\r\n"), format!("{SOCKET}&sid=none"));
    let new = format!("{KEY}Sec-WebSocket-Version: 13\r\n");
    // RFC 6455 §11.3: neither may come twice.
    let (two_keys, two_versions) = (format!("{KEY}{new}"), format!("{new}Sec-WebSocket-Version: 8\r\n"));
    for (method, path, fields, body) in [
        ("GET", SOCKET, &*old, ""),
        ("GET", SOCKET, "", ""),
        ("GET", SOCKET, &*two_keys, ""),
        ("GET", SOCKET, &*two_versions, ""),
        ("GET", &*unknown, &*new, ""),
        ("GET", "/healthz", "", ""),
        ("GET", "/none", "", ""),
        ("GET", "/healthz", "Content-Length: 3\r\n", "a\nb"),
        ("POST", "/v1/channels/a/messages", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ] {
        let mut stream = node.connect();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{upgrade}{fields}\r\n{body}");
        stream.write_all(format!("{request}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{request}{answers}");
        assert!(answers.to_ascii_lowercase().contains("connection: close"), "{request}{answers}");
        assert!(!answers.starts_with("HTTP/1.1 101"), "{request}{answers}");
    }
}
