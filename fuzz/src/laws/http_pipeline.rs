//! What arrives on one connection, read by hyper behind the look at its heads.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Buf as _;
use hyper::body::{Body as _, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::http::Heads;

/// The first byte of the input says in which pieces the rest arrives. It is accepted if a whole request arrives.
///
/// - The pieces do not matter.
/// - Behind the look at heads, requests arrive as they would without it, up to one that is refused: of bodies nothing is changed, wherever
///   they end.
pub fn http_pipeline(data: &[u8]) -> bool {
    let Some((pieces, sent)) = data.split_first() else { return false };
    let pieces = usize::from(*pieces).max(1);
    let looked_at = look(sent, pieces);
    assert_eq!(looked_at, look(sent, usize::MAX), "in pieces of {pieces} bytes");
    let (plain, arrived) = (read(sent), read(&looked_at));
    assert!(plain.starts_with(&arrived), "{arrived:?} instead of {plain:?}");
    !arrived.is_empty()
}

/// What is left of what was sent.
fn look(sent: &[u8], pieces: usize) -> Vec<u8> {
    let mut bytes = sent.to_vec();
    let mut heads = Heads::default();
    for piece in bytes.chunks_mut(pieces) {
        heads.check(piece);
    }
    bytes
}

/// A request as it arrives: method and target, and its body.
type Arrived = (String, Vec<u8>);

/// The requests that hyper finds, of which everything is there.
fn read(bytes: &[u8]) -> Vec<Arrived> {
    let all: Arc<Mutex<Vec<Arrived>>> = Arc::default();
    let answer = service_fn(|request: Request<Incoming>| {
        let all = all.clone();
        async move {
            let head = format!("{} {}", request.method(), request.uri());
            let (mut body, mut bytes) = (request.into_body(), Vec::new());
            let is_whole = loop {
                match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    Some(Ok(frame)) => bytes.extend(frame.data_ref().map_or(&[][..], |data| data.chunk())),
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            if is_whole {
                all.lock().expect("nobody panics").push((head, bytes));
            }
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(Wire(bytes), answer));
    let mut cx = Context::from_waker(Waker::noop());
    // Everything is there, so whoever waits does so for another part of the same connection.
    for _ in 0..=bytes.len() {
        if connection.as_mut().poll(&mut cx).is_ready() {
            break;
        }
    }
    std::mem::take(&mut all.lock().expect("nobody panics"))
}

/// Bytes that arrive at once, and somebody who takes every answer.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
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
