//! The head of a request where it lies in a buffer, for requests that hyper does not read.

use super::Headers;
use super::heads::has_line_feed_alone;
use channelapi_core::limits::HTTP_TARGET_BYTES_MAX;
use hyper::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Uri};
use std::mem::MaybeUninit;

/// Headers of the requests that are read here. More of them are read elsewhere.
const HEADERS_MAX: usize = 48;

/// Room for the headers of one head.
pub(crate) type HeadersRoom<'a> = [MaybeUninit<httparse::Header<'a>>; HEADERS_MAX];

/// Room for a head.
pub(crate) const fn headers_room<'a>() -> HeadersRoom<'a> {
    [const { MaybeUninit::uninit() }; HEADERS_MAX]
}

/// A head of HTTP/1.1 that is here as a whole, and plain: nothing in it can be understood in two ways.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    headers: &'a [httparse::Header<'a>],
    /// Bytes of the body.
    pub(crate) body_bytes: usize,
    /// Where the body begins.
    pub(crate) bytes: usize,
    /// Whether no other request will follow.
    pub(crate) is_last: bool,
}

/// What the bytes that have arrived are.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    /// A plain head.
    Head(Head<'a>),
    /// The beginning of something.
    Partial,
    /// Something that takes a closer look.
    Other,
}

impl<'a> Head<'a> {
    /// Reads the head at the beginning of `bytes`.
    pub(crate) fn parse(bytes: &'a [u8], room: &'a mut HeadersRoom<'a>) -> Parsed<'a> {
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, room) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(_) => return Parsed::Other,
        };
        let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
            return Parsed::Other;
        };
        if !target.starts_with('/') || !target.bytes().all(is_plain) || has_line_feed_alone(&bytes[..length])
        {
            return Parsed::Other;
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let headers = &*request.headers;
        let mut head = Self { method, path, query, headers, body_bytes: 0, bytes: length, is_last: false };
        if head.named(HOST.as_str()).nth(1).is_some() || target.len() > HTTP_TARGET_BYTES_MAX {
            return Parsed::Other;
        }
        // Where a body ends is what requests are smuggled with: of these, only one length is plain.
        if head.has(&TRANSFER_ENCODING) || head.has(&EXPECT) {
            return Parsed::Other;
        }
        let mut lengths = head.named(CONTENT_LENGTH.as_str());
        match (lengths.next().map(length_of), lengths.next()) {
            (None, None) => {}
            (Some(Some(body_bytes)), None) => head.body_bytes = body_bytes,
            _ => return Parsed::Other,
        }
        for option in head.named(CONNECTION.as_str()).flat_map(|value| value.split(|byte| *byte == b',')) {
            match option.trim_ascii() {
                b"keep-alive" | b"Keep-Alive" | b"upgrade" | b"Upgrade" => {}
                b"close" | b"Close" => head.is_last = true,
                _ => return Parsed::Other,
            }
        }
        Parsed::Head(head)
    }

    /// The same as a request, for whoever wants to know all of it. `None` if it cannot be one.
    pub(crate) fn to_request(self) -> Option<Request<()>> {
        let target = match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_owned(),
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).ok()?;
        *request.uri_mut() = Uri::try_from(target).ok()?;
        request.headers_mut().reserve(self.headers.len());
        for header in self.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            request.headers_mut().append(name, HeaderValue::from_bytes(header.value).ok()?);
        }
        Some(request)
    }

    /// All values of a header, in their order.
    pub(super) fn named<'n>(&self, name: &'n str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'n> {
        let headers = self.headers.iter();
        headers.filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }
}

/// Whether a byte of a target stands for itself everywhere: unreserved, a delimiter, or the sign of an escape (RFC 3986 §2).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

/// A length in nothing but digits (RFC 9110 §8.6), of a body that could be here.
fn length_of(value: &[u8]) -> Option<usize> {
    let is_short = (1..=9).contains(&value.len());
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.filter(|_| is_short)?.parse().ok()
}

impl Headers for Head<'_> {
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.named(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{AUTHORIZATION, UPGRADE};

    /// What becomes of some bytes: `None` if they take a closer look, or are only a part.
    fn parsed<R>(bytes: &str, look: impl FnOnce(Head<'_>) -> R) -> Option<R> {
        match Head::parse(bytes.as_bytes(), &mut headers_room()) {
            Parsed::Head(head) => Some(look(head)),
            Parsed::Partial | Parsed::Other => None,
        }
    }

    fn with(header: &str) -> Option<usize> {
        parsed(&format!("POST /a HTTP/1.1\r\nHost: b\r\n{header}\r\n\r\n"), |head| head.body_bytes)
    }

    #[test]
    fn a_plain_head_is_read() {
        let text = "POST /message/a%2Fb?c=d HTTP/1.1\r\nHost: e\r\ncontent-length: 12\r\nAUTHORIZATION:  f \r\n\r\n{}";
        let seen = parsed(text, |head| {
            assert_eq!((head.method, head.path, head.query), ("POST", "/message/a%2Fb", Some("c=d")));
            assert_eq!((head.first(&AUTHORIZATION), head.has(&UPGRADE)), (Some(&b"f"[..]), false));
            let request = head.to_request().unwrap();
            assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/message/a%2Fb"));
            assert_eq!((request.uri().query(), request.headers().len()), (Some("c=d"), 3));
            assert_eq!(request.headers()[AUTHORIZATION], "f");
            (head.body_bytes, &text[head.bytes..] == "{}")
        });
        assert_eq!(seen, Some((12, true)));
        for end in 0..text.len() - 2 {
            let seen = Head::parse(&text.as_bytes()[..end], &mut headers_room()).is_partial();
            assert!(seen, "{end}");
        }
    }

    impl Parsed<'_> {
        fn is_partial(&self) -> bool {
            matches!(self, Self::Partial)
        }
    }

    #[test]
    fn a_body_has_one_length_that_is_plain() {
        assert_eq!(with("Content-Length: 0"), Some(0));
        assert_eq!(with("Content-Length: 007"), Some(7));
        assert_eq!(with("X: y"), Some(0));
        for header in [
            "Content-Length: +7",
            "Content-Length: 7, 7",
            "Content-Length: 7\r\nContent-Length: 7",
            "Content-Length: 7\r\nContent-Length: 8",
            "Content-Length: -1",
            "Content-Length: 0x10",
            "Content-Length: 1 0",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Content-Length: 7\r\nTransfer-Encoding: chunked",
            "transfer-encoding:\tchunked",
            "Expect: 100-continue",
        ] {
            assert_eq!(with(header), None, "{header}");
        }
    }

    #[test]
    fn what_could_be_understood_otherwise_is_left_alone() {
        for connection in ["keep-alive", "Keep-Alive, Upgrade", "upgrade"] {
            assert_eq!(with(&format!("Connection: {connection}")), Some(0), "{connection}");
        }
        let is_last =
            |header: &str| parsed(&format!("GET / HTTP/1.1\r\n{header}\r\n\r\n"), |head| head.is_last);
        assert_eq!(
            (is_last("Connection: close"), is_last("Connection: keep-alive")),
            (Some(true), Some(false))
        );
        for header in [
            "Host: c",
            "Connection: close, TE",
            "Connection: keep-alive, TE",
            "Connection: ",
            "A : b",
            " A: b",
        ] {
            assert_eq!(with(header), None, "{header}");
        }
        for line in [
            "POST /a HTTP/1.0",
            "POST http://b/a HTTP/1.1",
            "POST * HTTP/1.1",
            "POST /a#b HTTP/1.1",
            "POST /a\\b HTTP/1.1",
            "POST /\u{e9} HTTP/1.1",
            "POST /a\"b HTTP/1.1",
            "POST /a b HTTP/1.1",
            "POST /a HTTP/1.1\nX: y",
            "\nPOST /a HTTP/1.1",
        ] {
            assert_eq!(parsed(&format!("{line}\r\nHost: b\r\n\r\n"), |_| ()), None, "{line}");
        }
        let many = "a: b\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(parsed(&format!("POST /a HTTP/1.1\r\n{many}\r\n"), |_| ()), None, "too many headers");
    }
}
