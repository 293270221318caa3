//! What arrives on one connection, read by hyper behind the look at its heads.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Buf as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::http::{Heads, may_leave};

/// The first byte of the input says in which pieces the rest arrives. It is accepted if a whole request arrives.
///
/// - The pieces do not matter.
/// - Behind the look at heads, requests arrive as they would without it, up to one that is refused: of bodies nothing is changed, wherever
///   they end.
/// - No request arrives whose body is coded in any way but in chunks, once, nor one whose head could be read in two ways.
pub fn http_pipeline(data: &[u8]) -> bool {
    let Some((pieces, sent)) = data.split_first() else { return false };
    let pieces = usize::from(*pieces).max(1);
    let looked_at = look(sent, pieces);
    assert_eq!(looked_at, look(sent, usize::MAX), "in pieces of {pieces} bytes");
    let (plain, arrived) = (read(sent), read(&looked_at));
    assert!(plain.starts_with(&arrived), "{arrived:?} instead of {plain:?}");
    for request in &arrived {
        assert!(request.codings.iter().all(|coding| coding == "chunked"), "{request:?}");
        assert!(request.codings.len() <= 1, "{request:?}");
    }
    // What is sent behind may be the rest of a request.
    if !sent.windows(BEHIND.len()).any(|part| part == BEHIND.as_bytes()) {
        let is_behind = |request: &Arrived| request.head.ends_with(BEHIND);
        for fields in AMBIGUOUS {
            let behind = format!("GET {BEHIND} HTTP/1.1\r\n{fields}\r\n");
            let all = read(&look(&[sent, behind.as_bytes()].concat(), pieces));
            assert!(!all.iter().any(is_behind), "{fields:?} is read behind {arrived:?}");
        }
    }
    !arrived.is_empty()
}

/// The target of a request behind all others.
const BEHIND: &str = "/behind";

/// What in its head could be read in two ways.
const AMBIGUOUS: [&str; 4] = [
    "A: b\nC: d\r\n",
    "Content-Length: 0\r\nContent-Length: 0\r\n",
    "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n",
];

/// What is left of what was sent.
fn look(sent: &[u8], pieces: usize) -> Vec<u8> {
    let mut bytes = sent.to_vec();
    let mut heads = Heads::default();
    for piece in bytes.chunks_mut(pieces) {
        heads.check(piece);
    }
    bytes
}

/// A request as it arrives.
#[derive(Debug, PartialEq)]
struct Arrived {
    /// Method and target.
    head: String,
    /// What it says of how its body is coded.
    codings: Vec<String>,
    body: Vec<u8>,
}

/// The requests that hyper finds, of which everything is there. They are answered as the server does it: a connection is not turned into
/// anything else, and ends behind a request that asked for what it could have been.
fn read(bytes: &[u8]) -> Vec<Arrived> {
    let all: Arc<Mutex<Vec<Arrived>>> = Arc::default();
    let answer = service_fn(|request: Request<Incoming>| {
        let all = all.clone();
        async move {
            let head = format!("{} {}", request.method(), request.uri());
            let codings = request.headers().get_all(TRANSFER_ENCODING).iter();
            let codings =
                codings.map(|line| String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase()).collect();
            let leaves = request.headers().get_all(UPGRADE).iter().any(|line| may_leave(line.as_bytes()));
            let refused = request.method() == Method::CONNECT;
            let (mut body, mut bytes) = (request.into_body(), Vec::new());
            let is_whole = loop {
                match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    Some(Ok(frame)) => bytes.extend(frame.data_ref().map_or(&[][..], |data| data.chunk())),
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            if is_whole {
                all.lock().expect("nobody panics").push(Arrived { head, codings, body: bytes });
            }
            let mut answer = Response::new(String::new());
            if refused {
                *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            }
            if leaves {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(Wire(bytes), answer));
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    // Whoever waits does so for another part of the same connection, or for more than was sent.
    while woken.0.swap(false, Ordering::Relaxed) {
        if connection.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            break;
        }
    }
    std::mem::take(&mut all.lock().expect("nobody panics"))
}

/// Whether somebody has something to do again.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes that arrive at once, behind which nothing comes, and somebody who takes every answer.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let (read, rest) = self.0.split_at(self.0.len().min(buffer.remaining()));
        buffer.put_slice(read);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
