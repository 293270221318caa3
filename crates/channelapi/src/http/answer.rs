//! Answers as bytes: what most answers are, and how one is written without hyper.

use super::{Body, Response};
use bytes::{Buf, Bytes};
use channelapi_core::limits::ANSWER_COPIED_BYTES_MAX;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use std::cell::Cell;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// An answer with a short list of headers, each there once.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    /// The others that it has.
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

/// An answer that is still to come. A box as large as what it waits for: a connection has no room for it while it idles, and with many
/// publishers at once it matters how much memory each of them touches.
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// The bytes of an answer.
#[derive(Debug)]
pub(crate) struct Wire {
    /// The head, and a short body behind it.
    head: Vec<u8>,
    /// A long body, which may be shared with other answers. Boxed, because every connection has room for an answer.
    long_body: Option<Box<Bytes>>,
}

impl Wire {
    /// The bytes in one piece.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        let Self { mut head, long_body } = self;
        head.extend_from_slice(&long_body.unwrap_or_default());
        head
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.long_body.as_ref().map_or(0, |body| body.len())
    }

    /// The bytes, if they are in one piece.
    pub(crate) fn as_one(&self) -> Option<&[u8]> {
        self.long_body.is_none().then_some(&self.head)
    }

    /// Writes all of it.
    pub(crate) async fn write_to(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let body = self.long_body.as_deref().map_or(&[][..], |body| body);
        writer.write_all_buf(&mut self.head.chain(body)).await
    }
}

/// As many headers as our answers have beside the usual ones.
const HEADERS_ABOUT: usize = 2;

/// That no cache may keep an answer.
const NO_STORE: &str = "no-store";

impl Answer {
    /// An answer that no cache may keep.
    pub(crate) fn fresh(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, headers: Vec::with_capacity(HEADERS_ABOUT), body: body.into() }
    }

    /// With one more header, which it does not have yet.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The bytes of the answer, on a connection that stays open unless `is_last`.
    pub(crate) fn into_wire(self, is_last: bool) -> Wire {
        let usual = [(CONTENT_TYPE.as_str(), self.content_type), (CACHE_CONTROL.as_str(), NO_STORE)];
        let usual = usual.map(|(name, value)| (name, value.as_bytes()));
        let others = in_bytes(self.headers.iter().map(|(name, value)| (name, value)));
        write(self.status, usual.into_iter().chain(others), &self.body, is_last)
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(Body::whole(answer.body));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
        headers.extend(answer.headers);
        response
    }
}

/// The bytes of a response whose body is known as a whole; `None` for others.
pub(crate) fn to_wire(response: Response, is_last: bool) -> Option<Wire> {
    let (head, body) = response.into_parts();
    Some(write(head.status, in_bytes(&head.headers), &body.into_whole()?, is_last))
}

fn in_bytes<'a>(
    headers: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    headers.into_iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// Bytes of a head of ours.
const HEAD_BYTES_ABOUT: usize = 320;

fn write<'a>(
    status: StatusCode,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: &Bytes,
    is_last: bool,
) -> Wire {
    let copied = if body.len() <= ANSWER_COPIED_BYTES_MAX { body.len() } else { 0 };
    let mut out = Vec::with_capacity(HEAD_BYTES_ABOUT + copied);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut line = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    for (name, value) in headers {
        line(name, value);
    }
    // An answer that has no body of its own kind has no length either (RFC 9110 §8.6).
    if !status.is_informational() && status != StatusCode::NO_CONTENT {
        line("content-length", itoa::Buffer::new().format(body.len()).as_bytes());
    }
    if is_last {
        line("connection", b"close");
    }
    line("date", &date());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body[..copied]);
    let long_body = (copied < body.len()).then(|| Box::new(body.clone()));
    Wire { head: out, long_body }
}

/// Bytes of a date (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

/// What time it is. It is written anew once a second.
fn date() -> [u8; DATE_BYTES] {
    thread_local! {
        static LAST: Cell<(u64, [u8; DATE_BYTES])> = const { Cell::new((u64::MAX, [0; DATE_BYTES])) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (second, written) = LAST.get();
    if second == now {
        return written;
    }
    let mut text = [b' '; DATE_BYTES];
    let time = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(now));
    write!(&mut text[..], "{time}").expect("dates have one length");
    LAST.set((now, text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    fn without_date(wire: Wire) -> String {
        let text = String::from_utf8(wire.into_vec()).unwrap();
        let (before, dated) = text.split_once("date: ").unwrap();
        assert!(dated[..DATE_BYTES].ends_with(" GMT"));
        format!("{before}{}", &dated[DATE_BYTES + 2..])
    }

    #[test]
    fn an_answer_is_written_as_hyper_writes_it() {
        let answer = || Answer::fresh(StatusCode::CREATED, "a/b", "12345678901");
        let expected = "HTTP/1.1 201 Created\r\ncontent-type: a/b\r\ncache-control: no-store\r\ncontent-length: 11\r\n\r\n12345678901";
        assert_eq!(without_date(answer().into_wire(false)), expected);
        let response = Response::from(answer());
        assert_eq!(without_date(to_wire(response, false).unwrap()), expected);
        let last = without_date(answer().into_wire(true));
        assert!(last.contains("\r\nconnection: close\r\n"), "{last}");
        let empty = without_date(to_wire(http::empty(StatusCode::SWITCHING_PROTOCOLS), false).unwrap());
        assert_eq!(empty, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
        let empty = without_date(to_wire(http::empty(StatusCode::OK), false).unwrap());
        assert_eq!(empty, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }

    #[tokio::test]
    async fn a_long_body_is_not_copied() {
        for length in [0, ANSWER_COPIED_BYTES_MAX, ANSWER_COPIED_BYTES_MAX + 1] {
            let body = Bytes::from(vec![b'x'; length]);
            let wire = Answer::fresh(StatusCode::OK, "a/b", body.clone()).into_wire(false);
            let is_shared = wire.long_body.as_ref().is_some_and(|long| long.as_ptr() == body.as_ptr());
            assert_eq!(is_shared, length > ANSWER_COPIED_BYTES_MAX, "{length}");
            let mut written = Vec::new();
            wire.write_to(&mut written).await.unwrap();
            let head = written.strip_suffix(&body[..]).unwrap();
            assert!(head.ends_with(b"\r\n\r\n"), "{length}");
        }
    }
}
