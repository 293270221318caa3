//! Requests that two readers could read in two ways, and such that are too much of something.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::super::case::{Case, case};
use super::super::yard::{Yard, with_key};

/// What an attacker hides in the body of another request.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
/// A good body, of thirteen bytes.
const BODY: &str = r#"{"message":1}"#;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = refused()
        .into_iter()
        .map(|(row, what, bytes)| {
            let promise = format!("{what} is refused and the connection closed");
            let must_answer = row == "H4";
            let case = case(row, promise, move |yard| is_refused(yard, bytes, must_answer));
            match (row, what) {
                ("H3", _) => case.http_refused("too_large"),
                (_, "HTTP/2") => case.http_refused("http2"),
                _ => case.http_refused("malformed"),
            }
        })
        .collect();
    let hidden_once = |what: &str, request: String, status: u16| {
        case("H4", format!("{what} is answered once, and the connection closed"), move |yard| async move {
            answered_once(yard, request, status).await
        })
    };
    let long = format!("GET /healthz?{} HTTP/1.1\r\nHost: x\r\n\r\n{HIDDEN}", "a".repeat(9_000));
    cases.push(hidden_once("a path and query of nine kilobytes", long, 414).http_refused("too_large"));
    cases.extend(UNREAD.iter().map(|(head, status)| {
        let promise = format!(
            "a malformed body behind `{head}`, which nobody reads, is counted, and no request follows it"
        );
        let request =
            format!("{head} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{HIDDEN}");
        let attack = move |yard| async move { answered_once(yard, request, *status).await };
        case("H14", promise, attack).http_refused("malformed")
    }));
    let chunked = format!("d\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}");
    cases.extend([
        hidden_once(
            "a length beside chunks",
            post("Content-Length: 3\r\nTransfer-Encoding: chunked", &chunked),
            400,
        )
        .http_refused("malformed"),
        hidden_once(
            "chunks beside a length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 3", &chunked),
            400,
        )
        .http_refused("malformed"),
        case("H4", "a line feed alone is refused behind other requests, too", line_feed_later)
            .http_refused("malformed"),
        case("H6", "the body of a request without one is not taken for a request", body_of_a_get),
        case("H6", "a stranger is refused before a large body is sent", expectation)
            .request_refused("wrong_key"),
        case("H6", "a compressed body is not unpacked", compressed).request_refused("invalid"),
        case("H13", "a connection goes on behind a refusal", goes_on).request_refused("no_key"),
        case("H13", "requests of one connection are answered in their order", pipelined),
        case("H13", "a request for another host is no request for another place", other_hosts)
            .request_refused("not_found"),
    ]);
    cases
}

/// Requests whose body nobody wants, and what they are answered.
const UNREAD: &[(&str, u16)] = &[
    ("GET /healthz", 200),
    ("GET /metrics", 403),
    ("GET /socket.io/?EIO=4&transport=polling&sid=none", 400),
    ("POST /message/H14", 403),
    ("POST /v1/channels/H14/messages", 403),
    ("POST /nothing", 404),
    ("DELETE /", 404),
];

/// Each is refused, and nothing behind it is read.
fn refused() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let get = |headers: &str| format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{HIDDEN}");
    let heads = vec![
        ("H4", "two hosts", get("Host: y").into()),
        ("H4", "a folded line", get("X-Folded: a\r\n b").into()),
        ("H4", "a space before the colon", get("X-Space : a").into()),
        ("H4", "a line without a colon", get("nonsense").into()),
        ("H4", "a NUL in a value", get("X-Nul: a\0b").into()),
        ("H4", "a NUL in a name", get("X-N\0ul: a").into()),
        ("H4", "a carriage return alone", get("X-Return: a\rX-Other: b").into()),
        ("H4", "a line feed alone between two headers", get("X-Feed: a\nX-Other: b").into()),
        (
            "H4",
            "a line feed alone behind the first line",
            format!("GET /healthz HTTP/1.1\nHost: x\r\n\r\n{HIDDEN}").into(),
        ),
        (
            "H4",
            "a line feed alone behind the head",
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\n{HIDDEN}").into(),
        ),
        (
            "H4",
            "a head with nothing but line feeds",
            format!("GET /healthz HTTP/1.1\nHost: x\n\n{HIDDEN}").into(),
        ),
        ("H4", "an unknown version", format!("GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n{HIDDEN}").into()),
        ("H4", "no version", format!("GET /healthz\r\n\r\n{HIDDEN}").into()),
        ("H4", "spaces in the path", format!("GET /health z HTTP/1.1\r\nHost: x\r\n\r\n{HIDDEN}").into()),
        ("H3", "101 header fields", get(&"X-Many: x\r\n".repeat(100)).into()),
        ("H3", "a header field of 20 KiB", get(&format!("X-Long: {}", "x".repeat(20_000))).into()),
        ("H3", "a path of 20 KiB", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000)).into()),
        ("H5", "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        (
            "H5",
            "TLS on a port that speaks none",
            [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 200]].concat(),
        ),
        ("H5", "SSH", b"SSH-2.0-OpenSSH_9.9\r\n\r\n\r\n".to_vec()),
        ("H12", "an unasked PROXY line", format!("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{HIDDEN}").into()),
        (
            "H12",
            "an unasked PROXY header",
            [
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02",
                HIDDEN.as_bytes(),
            ]
            .concat(),
        ),
    ];
    [bodies(), heads].concat()
}

/// Bodies that nobody can tell the end of, or two readers could tell different ends of.
fn bodies() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        (
            "H4",
            "two lengths",
            post("Content-Length: 13\r\nContent-Length: 0", &format!("{BODY}{HIDDEN}")).into(),
        ),
        (
            "H4",
            "a length that is said twice",
            post("Content-Length: 13\r\nContent-Length: 13", &format!("{BODY}{HIDDEN}")).into(),
        ),
        ("H4", "a list of lengths", post("Content-Length: 13, 0", &format!("{BODY}{HIDDEN}")).into()),
        ("H4", "a length with a sign", post("Content-Length: +13", &format!("{BODY}{HIDDEN}")).into()),
        ("H4", "a negative length", post("Content-Length: -1", HIDDEN).into()),
        ("H4", "a length in hexadecimal", post("Content-Length: 0xD", &format!("{BODY}{HIDDEN}")).into()),
        ("H4", "a length beyond all numbers", post("Content-Length: 99999999999999999999", HIDDEN).into()),
        (
            "H4",
            "an unknown transfer coding",
            post("Transfer-Encoding: xchunked", &format!("0\r\n\r\n{HIDDEN}")).into(),
        ),
        (
            "H4",
            "chunks that are not the last coding",
            post("Transfer-Encoding: chunked, gzip", &format!("0\r\n\r\n{HIDDEN}")).into(),
        ),
        (
            "H4",
            "chunks of another coding",
            post("Transfer-Encoding: gzip, chunked", &format!("d\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}")).into(),
        ),
        (
            "H4",
            "chunks that are said twice",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                &format!("d\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}"),
            )
            .into(),
        ),
        (
            "H4",
            "a size of a chunk behind seventy zeros",
            post(
                "Transfer-Encoding: chunked",
                &format!("{:071x}\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}", BODY.len()),
            )
            .into(),
        ),
        (
            "H4",
            "a line feed alone behind the size of a chunk",
            post("Transfer-Encoding: chunked", &format!("d\n{BODY}\n0\n\n{HIDDEN}")).into(),
        ),
        (
            "H4",
            "a chunk without a size",
            post("Transfer-Encoding: chunked", &format!("\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}")).into(),
        ),
        (
            "H4",
            "a chunk with a sign",
            post("Transfer-Encoding: chunked", &format!("+d\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}")).into(),
        ),
        (
            "H4",
            "a chunk of a size beyond all numbers",
            post("Transfer-Encoding: chunked", "fffffffffffffffff\r\n").into(),
        ),
        (
            "H4",
            "a chunk that is longer than its size",
            post("Transfer-Encoding: chunked", &format!("1\r\n{BODY}\r\n0\r\n\r\n{HIDDEN}")).into(),
        ),
        (
            "H4",
            "an extension of 64 KiB on a chunk",
            post("Transfer-Encoding: chunked", &format!("d;{}\r\n{BODY}\r\n0\r\n\r\n", "x".repeat(65_536)))
                .into(),
        ),
    ]
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /message/H4 HTTP/1.1\r\nHost: x\r\n{}{headers}\r\n\r\n{body}", with_key())
}

async fn is_refused(yard: Arc<Yard>, bytes: Vec<u8>, must_answer: bool) -> Result<()> {
    let (answers, _) = yard.wire(&bytes).await?.rest().await?;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    ensure!(statuses.len() <= 1, "more than one request was read: {statuses:?}");
    ensure!(!must_answer || statuses == [400], "the answers were {statuses:?}");
    ensure!(statuses.iter().all(|status| (400..500).contains(status)), "the answer was {statuses:?}");
    Ok(())
}

async fn answered_once(yard: Arc<Yard>, request: String, status: u16) -> Result<()> {
    let (answers, _) = yard.wire(request.as_bytes()).await?.rest().await?;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    ensure!(statuses == [status], "the answers were {statuses:?}");
    Ok(())
}

async fn line_feed_later(yard: Arc<Yard>) -> Result<()> {
    let chunked = post("Transfer-Encoding: chunked", &format!("d\r\n{BODY}\r\n0\r\n\r\n"));
    for before in [post("Content-Length: 13", BODY), chunked] {
        let mut wire = yard.wire(before.as_bytes()).await?;
        let status = wire.answer().await?.status;
        ensure!(status == 200, "the first answer was {status}");
        let bad = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Feed: a\nX-Other: b\r\n\r\n";
        ensure!(
            wire.send(format!("{bad}{HIDDEN}").as_bytes()).await,
            "the connection ended before the second request"
        );
        let (answers, _) = wire.rest().await?;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        ensure!(statuses == [400], "the answers were {statuses:?}");
    }
    Ok(())
}

async fn body_of_a_get(yard: Arc<Yard>) -> Result<()> {
    let length = HIDDEN.len();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{HIDDEN}");
    let end = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (answers, _) = yard.wire(format!("{request}{end}").as_bytes()).await?.rest().await?;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    ensure!(matches!(statuses[..], [200] | [200, 200]), "the answers were {statuses:?}");
    Ok(())
}

async fn expectation(yard: Arc<Yard>) -> Result<()> {
    for path in ["/message/H6", "/v1/channels/H6/messages"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: wrong\r\nContent-Length: 100000000\r\n\
             Expect: 100-continue\r\n\r\n"
        );
        let answer = yard.wire(head.as_bytes()).await?.answer().await?;
        ensure!(matches!(answer.status, 401 | 403), "{path} was answered {}", answer.head);
    }
    Ok(())
}

async fn compressed(yard: Arc<Yard>) -> Result<()> {
    for (path, encoding) in
        [("/message/H6", "gzip"), ("/v1/channels/H6/messages", "br"), ("/message/H6", "identity")]
    {
        let headers = format!("Content-Encoding: {encoding}\r\n");
        let answer = yard.api("POST", path, &headers, r#"{"message":1}"#).await?;
        ensure!(answer.status == 415, "{encoding} to {path} was answered {}", answer.status);
    }
    Ok(())
}

async fn goes_on(yard: Arc<Yard>) -> Result<()> {
    let refused = "POST /message/H13 HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"message\":1}";
    let mut wire = yard.wire(format!("{refused}{HIDDEN}").as_bytes()).await?;
    let statuses = [wire.answer().await?.status, wire.answer().await?.status];
    ensure!(statuses == [403, 404], "the answers were {statuses:?}");
    Ok(())
}

async fn pipelined(yard: Arc<Yard>) -> Result<()> {
    let mut wire = yard
        .wire(
            "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\n"
                .repeat(50)
                .as_bytes(),
        )
        .await?;
    for _ in 0..50 {
        let statuses = [wire.answer().await?.status, wire.answer().await?.status];
        ensure!(statuses == [200, 404], "the answers were {statuses:?}");
    }
    Ok(())
}

async fn other_hosts(yard: Arc<Yard>) -> Result<()> {
    for (target, status) in [
        ("http://evil.example/healthz", 200),
        ("http://evil.example/channel/x", 405),
        ("evil.example:443", 404),
        ("*", 404),
        ("//evil.example/healthz", 404),
        ("/healthz%00", 404),
        ("/./healthz", 404),
        ("/x/../healthz", 404),
        ("/HEALTHZ", 404),
    ] {
        let method = if target.ends_with(":443") {
            "CONNECT"
        } else if target == "*" {
            "OPTIONS"
        } else {
            "GET"
        };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        let answer = yard.wire(request.as_bytes()).await?.answer().await?;
        ensure!(answer.status == status, "{method} {target} was answered {}", answer.status);
    }
    Ok(())
}
