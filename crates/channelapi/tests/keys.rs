//! API keys as backends meet them: what each may do.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod configured;

use configured::{PUBLISHER, READER, SHOP, Server, key};
use std::fs;

const MASTER: &str = "master-key-of-everything";
const TOKENS: &str = "tokens-key-0123456789-abc";
const ADMIN: &str = "admin-key-0123456789-abcd";
const PAST: &str = "past-key-0123456789-abcde";

fn usual_keys() -> Vec<(String, String)> {
    vec![
        key("publisher", PUBLISHER, "'publish'", ""),
        key("reader", READER, "'read'", ""),
        key("tokens", TOKENS, "'tokens'", ""),
        key("admin", ADMIN, "'admin'", ""),
        key("shop", SHOP, "'publish', 'tokens', 'read'", "channels = ['user-*', 'a,b']"),
        key("past", PAST, "'admin'", "expires = 2020-01-01"),
    ]
}

/// Every route with the scope that it needs; a body that it takes.
const ROUTES: [(&str, &str, &str, &str); 15] = [
    ("POST", "/message/a", "publish", r#"{"message":1}"#),
    ("POST", "/channel/a", "tokens", ""),
    ("POST", "/v1/channels/a/messages", "publish", r#"{"data":1}"#),
    ("POST", "/v1/channels/a/messages", "publish", r#"{"data":1,"volatile":true}"#),
    ("POST", "/v1/messages", "publish", r#"{"channels":["a"],"data":1}"#),
    ("GET", "/v1/channels/a/messages", "read", ""),
    ("GET", "/v1/channels/a/messages/1", "read", ""),
    ("GET", "/v1/channels/a", "read", ""),
    ("GET", "/v1/channels/a/consumers", "read", ""),
    ("GET", "/v1/channels/a/consumers/c", "read", ""),
    ("POST", "/v1/channels/a/tokens", "tokens", ""),
    ("DELETE", "/v1/channels/a/tokens", "tokens", ""),
    ("DELETE", "/v1/channels/a/messages", "admin", ""),
    ("PUT", "/v1/channels/a/consumers/c", "admin", r#"{"offset":0}"#),
    ("DELETE", "/v1/channels/a/consumers/c", "admin", ""),
];

#[test]
fn each_scope_opens_its_routes_and_no_other() {
    let server = Server::start(&format!("auth_key = '{MASTER}'"), &usual_keys());
    for (method, path, scope, body) in ROUTES {
        for (key, name) in [
            (PUBLISHER, "publish"),
            (READER, "read"),
            (TOKENS, "tokens"),
            (ADMIN, "admin"),
            (MASTER, "admin"),
        ] {
            let answer = server.ask(method, path, key, body);
            if name == scope || name == "admin" {
                assert!((200..300).contains(&answer.status), "{method} {path} {name}: {answer:?}");
            } else if path.starts_with("/v1") {
                answer.check(403, r#""code":"missing_scope""#);
                answer.check(403, &format!("The API key does not have the scope `{scope}`."));
            } else {
                answer.check(
                    403,
                    &format!(
                        r#"{{"success": false, "message": "The API key does not have the scope `{scope}`."}}"#
                    ),
                );
            }
        }
        let stranger = server.ask(method, path, "wrong", body);
        stranger.check(
            403,
            if path.starts_with("/v1") {
                r#""code":"forbidden""#
            } else {
                r#"{"success": false, "message": "The Authorization header does not carry the API key."}"#
            },
        );
        let past = server.ask(method, path, &format!("Bearer {PAST}"), body);
        past.check(
            403,
            if path.starts_with("/v1") {
                r#""code":"key_expired""#
            } else {
                r#"{"success": false, "message": "The API key has expired."}"#
            },
        );
    }
    let token = server.ask("POST", "/channel/a", TOKENS, "").body;
    let token = token.split('"').nth(5).unwrap().to_owned();
    let path = format!("/v1/tokens/{token}");
    server.ask("DELETE", &path, READER, "").check(403, "missing_scope");
    server.ask("DELETE", &path, TOKENS, "").check(200, r#""revoked":true"#);
    server.ask("GET", "/v1/channels/a/stream", PUBLISHER, "").check(403, "missing_scope");
    drop(server.stream("/v1/channels/a/stream", READER));
    server.ask("GET", "/v1/nothing", PUBLISHER, "").check(404, "not_found");
    server.ask("GET", "/v1/nothing", "wrong", "").check(403, "forbidden");
}

#[test]
fn a_key_reaches_its_channels_and_no_other() {
    let server = Server::start(&format!("auth_key = '{MASTER}'"), &usual_keys());
    for (channel, is_own) in [
        ("user-1", true),
        ("user-", true),
        ("a%2Cb", true),
        ("users", false),
        ("a", false),
        ("b", false),
        ("user%2D1x%2Fy", true),
        ("USER-1", false),
    ] {
        for (method, path, body) in [
            ("POST", format!("/message/{channel}"), r#"{"message":1}"#),
            ("POST", format!("/channel/{channel}"), ""),
            ("POST", format!("/v1/channels/{channel}/messages"), r#"{"data":1}"#),
            ("GET", format!("/v1/channels/{channel}/messages"), ""),
            ("POST", format!("/v1/channels/{channel}/tokens"), ""),
        ] {
            let answer = server.ask(method, &path, SHOP, body);
            if is_own {
                assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
            } else if path.starts_with("/v1") {
                answer.check(403, r#""code":"channel_not_allowed""#);
            } else {
                answer.check(403, r#"{"success": false, "message": "The API key is not for this channel."}"#);
            }
        }
    }

    let batch = r#"{"channels":["user-7","elsewhere",""],"data":1}"#;
    let answer = server.ask("POST", "/v1/messages", SHOP, batch);
    answer.check(200, r#"{"stored":1,"failed":2,"results":[{"channel":"user-7","status":201,"#);
    answer.check(200, r#"{"channel":"elsewhere","status":403,"code":"channel_not_allowed","detail":"The API key is not for this channel."}"#);
    answer.check(200, r#"{"channel":"","status":400,"code":"invalid_channel""#);
    server.ask("GET", "/v1/channels/elsewhere", MASTER, "").check(200, r#""next_offset":1,"#);

    let token = |channel: &str| {
        let answer = server.ask("POST", &format!("/channel/{channel}"), MASTER, "");
        answer.body.split('"').nth(5).unwrap().to_owned()
    };
    let (own, other) = (token("user-9"), token("elsewhere"));
    server.ask("DELETE", &format!("/v1/tokens/{other}"), SHOP, "").check(403, "channel_not_allowed");
    assert_eq!(token("elsewhere"), other, "it still opens its channel");
    server.ask("DELETE", "/v1/tokens/unknown", SHOP, "").check(404, "not_found");
    server.ask("DELETE", &format!("/v1/tokens/{own}"), SHOP, "").check(200, r#""revoked":true"#);
}

#[test]
fn a_key_in_a_url_is_refused_and_never_logged() {
    let mut server = Server::start(&format!("auth_key = '{MASTER}'"), &usual_keys());
    for name in ["key", "api_key", "auth_key", "Authorization", "access_token", "x-api-key"] {
        for (method, path, body) in [
            ("POST", "/message/a", r#"{"message":1}"#),
            ("POST", "/channel/a", ""),
            ("POST", "/v1/channels/a/messages", r#"{"data":1}"#),
            ("GET", "/v1/channels/a/stream", ""),
        ] {
            // Also of a stranger, and also with the right key in its right place.
            for header in ["", &format!("Authorization: {MASTER}\r\n")] {
                let path = format!("{path}?a=1&{name}={PUBLISHER}");
                let answer = server.ask_with(method, &path, header, body);
                answer.check(400, "Send it in the header Authorization, and replace this one");
                answer.check(
                    400,
                    if path.starts_with("/v1") {
                        r#""code":"key_in_url""#
                    } else {
                        r#"{"success": false, "message": ""#
                    },
                );
            }
        }
    }
    server.ask("GET", "/v1/channels/a", MASTER, "").check(200, r#""next_offset":1,"#);
    server.reload("", &usual_keys(), "the configuration is reloaded");
    let log = server.heard.join("\n");
    for secret in [MASTER, PUBLISHER, READER, TOKENS, ADMIN, SHOP, PAST] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// A page of the internet can have its own name lead to a server that only this machine reaches, and speaks to it under that name then.
#[test]
fn a_weak_key_opens_nothing_under_a_name_that_anybody_can_make() {
    let strong = key("strong", READER, "'read'", "");
    let listed = key("weak", "short", "'read'", "");
    let server = Server::start("auth_key = 'changeme'", &[strong, listed]);
    let ask = |(method, path, body): (&str, &str, &str), key: &str, host: &str| {
        let form = if path.starts_with("/v1") { "X-API-Key" } else { "Authorization" };
        server.ask_with(method, path, &format!("Host: {host}\r\n{form}: {key}\r\n"), body)
    };
    let reading = ("GET", "/v1/channels/a", "");
    let all = [
        ("POST", "/message/a", r#"{"message":1}"#),
        ("POST", "/channel/a", ""),
        ("POST", "/v1/channels/a/messages", r#"{"data":1}"#),
        reading,
        ("GET", "/metrics", ""),
    ];
    for request in all {
        for host in ["127.0.0.1:3000", "localhost:3000", "host.docker.internal"] {
            let answer = ask(request, "changeme", host);
            assert!((200..300).contains(&answer.status), "{request:?} {host}: {answer:?}");
        }
        for host in ["evil.example", "evil.example:3000", "localhost.evil.example"] {
            let form = if request.1.starts_with("/v1") {
                r#""code":"weak_key""#
            } else {
                r#"{"success": false, "message": "The API key is "#
            };
            ask(request, "changeme", host).check(403, form);
        }
    }
    ask(("GET", "/v1/channels/a/stream", ""), "changeme", "evil.example").check(403, "weak_key");
    ask(reading, "short", "evil.example").check(403, "weak_key");
    ask(reading, "short", "localhost").check(200, "channel");
    ask(reading, READER, "push.example").check(200, "channel");
    ask(reading, "wrong", "evil.example").check(403, "forbidden");
    let metrics = ask(("GET", "/metrics", ""), "changeme", "localhost").body;
    assert!(metrics.contains("\nchannelapi_requests_refused_total{reason=\"weak_key\"} 17\n"), "{metrics}");
}

#[test]
fn each_refusal_is_counted_with_its_reason() {
    let server = Server::start(&format!("auth_key = '{MASTER}'"), &usual_keys());
    let count = |counter: &str| -> u64 {
        let page = server.ask("GET", "/metrics", MASTER, "").body;
        let value = page.lines().find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    };
    let message = r#"{"message":1}"#;
    let of_channel = "channelapi_requests_refused_total{reason=\"channel\"}";
    for (counter, seed, v1) in [
        (r#"channelapi_requests_refused_total{reason="no_key"}"#, ("/message/a", ""), "/v1/channels/a"),
        (
            r#"channelapi_requests_refused_total{reason="wrong_key"}"#,
            ("/message/a", "wrong"),
            "/v1/channels/a",
        ),
        (r#"channelapi_requests_refused_total{reason="wrong_key"}"#, ("/message/a", PAST), "/v1/channels/a"),
        (r#"channelapi_requests_refused_total{reason="scope"}"#, ("/message/a", TOKENS), "/v1/channels/a"),
        (of_channel, ("/message/a", SHOP), "/v1/channels/a"),
        (
            r#"channelapi_requests_refused_total{reason="query"}"#,
            ("/message/a?key=x", MASTER),
            "/v1/channels/a?key=x",
        ),
        // Once, these were answered as if nothing was wrong.
        (r#"channelapi_requests_refused_total{reason="query"}"#, ("/readyz?api_key=x", ""), "/healthz?key=x"),
    ] {
        let before = count(counter);
        let header = if seed.1.is_empty() { String::new() } else { format!("Authorization: {}\r\n", seed.1) };
        server.ask_with("POST", seed.0, &header, message);
        server.ask_with("GET", v1, &header, "");
        assert_eq!(count(counter) - before, 2, "{counter}");
    }
    let before = count(of_channel);
    server
        .ask("POST", "/v1/messages", SHOP, r#"{"channels":["a","b","user-1"],"data":1}"#)
        .check(200, r#""failed":2"#);
    assert_eq!(count(of_channel) - before, 2);

    // The figures are about all channels, so a key for some does not see them.
    for (key, status) in
        [(READER, 200), (ADMIN, 200), (SHOP, 403), (PUBLISHER, 403), (PAST, 403), ("wrong", 403)]
    {
        assert_eq!(server.ask("GET", "/metrics", key, "").status, status, "{key}");
    }
}

#[test]
fn the_process_leaves_no_core() {
    let server = Server::start("", &[key("backend", PUBLISHER, "'publish'", "")]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.running.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}
