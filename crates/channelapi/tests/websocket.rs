//! What RFC 6455 and RFC 9110 say of a server, before and while a WebSocket opens.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;

use node::{Answer, Client, Node, UPGRADE, ask};
use std::io::{Read as _, Write as _};

/// Asks for a WebSocket with these headers in the place of those of the same name, on the fast path and behind it.
fn open_with(node: &Node, headers: &[(&str, &str)]) -> [Answer; 2] {
    let kept = UPGRADE.iter().filter(|(name, _)| headers.iter().all(|(other, _)| other != name));
    let headers: Vec<_> = kept.chain(headers).copied().collect();
    let slow = [&headers[..], &[("Connection", "TE")]].concat();
    [headers, slow].map(|headers| {
        let path = "/socket.io/?EIO=4&transport=websocket";
        ask(&mut node.connect(), "GET", path, &headers, "").unwrap()
    })
}

/// Once, it was a bad request, and did not say what would be a good one.
#[test]
fn another_version_is_told_which_one_is_spoken() {
    let node = Node::start("");
    for answer in open_with(&node, &[("Sec-WebSocket-Version", "8")]) {
        assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")), "{answer:?}");
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert!(answer.head.to_ascii_lowercase().contains("connection: upgrade"), "{answer:?}");
        assert_eq!(answer.body, r#"{"code":3,"message":"Bad request"}"#);
    }
    assert_eq!(node.metric("channelapi_handshakes_refused_total{reason=\"bad_request\"}"), 2);
}

/// Once, only the first line was looked at.
#[test]
fn a_list_may_stand_on_several_lines() {
    let node = Node::start("");
    for headers in [
        &[("Connection", "keep-alive"), ("Connection", "Upgrade")][..],
        &[("Upgrade", "h2c"), ("Upgrade", "websocket")],
    ] {
        assert_eq!(open_with(&node, headers).map(|answer| answer.status), [101, 101], "{headers:?}");
    }
}

/// Once, the pages said that words of this server end a connection, too, and none named the code.
#[test]
fn words_of_socket_io_end_a_connection_and_those_of_the_server_mean_nothing() {
    let node = Node::start("");
    let token = node.token("a");
    let (security, clients) =
        (include_str!("../../../docs/security.md"), include_str!("../../../docs/clients.md"));
    for name in ["clientevent", "gap", "checkpoint", "something"] {
        let mut client = Client::enter(&node);
        client.send(&format!(r#"42["{name}",{{"channel":"a"}}]"#)).unwrap();
        client.send(&format!(r#"42["join_channel",{{"token":"{token}"}}]"#)).unwrap();
        client.await_text("Connected to a");
    }
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        let mut client = Client::enter(&node);
        client.send(&format!(r#"42["{name}"]"#)).unwrap();
        assert_eq!(client.close_code(), Some(4500), "{name}");
        assert!(security.contains(&format!("`{name}`")) && clients.contains(&format!("`{name}`")), "{name}");
    }
    assert!(clients.contains("| `4500` |"));
}

/// Once, nothing answered it.
#[test]
fn a_ping_is_answered_while_a_websocket_takes_over() {
    const PING: &[u8] = b"\x89\x82\0\0\0\0hi";
    const PONG: &[u8] = b"\x8a\x02hi";
    let node = Node::start("");
    let mut client = Client::upgrading(&node);
    for (sent, text, answer) in [(PING, "2probe", b"\x81\x063probe"), (PING, "5", b"")] as [(_, _, &[u8]); 2]
    {
        client.stream.write_all(sent).unwrap();
        client.send(text).unwrap();
        let expected = [PONG, answer].concat();
        let mut answered = vec![0; expected.len()];
        client.stream.read_exact(&mut answered).unwrap();
        assert_eq!(answered, expected);
    }
    client.send("40").unwrap();
    client.await_text("40{");
}
