//! The head of a request where it lies in a buffer.

use hyper::header::CONTENT_LENGTH;

use crate::http::{Head, Headers as _, Heads, Parsed, headers_room};

/// The first byte of the input says in which pieces the rest arrives. It is accepted if it begins with a plain head.
///
/// - A plain head is one to a reader that knows one form of everything: lines that end with CRLF, three words in the first one, names
///   of letters that a name may have, right before their colons; and it says the same to it.
/// - Every beginning of a plain head is the beginning of one.
/// - As a request it says the same.
pub fn http_head(data: &[u8]) -> bool {
    let Some((pieces, sent)) = data.split_first() else { return false };
    let mut bytes = sent.to_vec();
    let mut heads = Heads::default();
    for piece in bytes.chunks_mut(usize::from(*pieces).max(1)) {
        heads.check(piece);
    }
    let mut room = headers_room();
    let Parsed::Head(head) = Head::parse(sent, &mut room) else { return false };
    let end = head.bytes.saturating_add(head.body_bytes).min(sent.len());
    assert_eq!(bytes[..end], sent[..end], "nothing is changed in a plain head, or in its body");
    let strict = Strict::read(&sent[..head.bytes]).expect("a plain head is one to everybody");
    assert_eq!((head.method, head.path, head.query), (strict.method, strict.path, strict.query));
    let lengths = strict.all("content-length");
    assert!(lengths.len() <= 1);
    let length = lengths.first().map_or("0", |length| length);
    assert!(length.bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(head.body_bytes, length.parse::<usize>().unwrap());
    assert!(strict.all("transfer-encoding").is_empty() && strict.all("expect").is_empty());
    let closes = strict.all("connection").iter().any(|value| value.to_ascii_lowercase().contains("close"));
    assert_eq!(head.is_last, closes);
    assert_eq!(head.has(&CONTENT_LENGTH), !lengths.is_empty());
    for end in 0..head.bytes {
        let mut room = headers_room();
        assert!(matches!(Head::parse(&sent[..end], &mut room), Parsed::Partial), "the first {end} bytes");
    }
    if let Some(request) = head.to_request() {
        assert_eq!((request.method().as_str(), request.uri().path()), (strict.method, strict.path));
        assert_eq!(request.uri().query(), strict.query);
        assert_eq!(request.headers().len(), strict.headers.len());
        for (name, value) in &strict.headers {
            assert!(
                request.headers().get_all(*name).iter().any(|known| known.as_bytes() == *value),
                "{name}"
            );
        }
    }
    true
}

/// A head, read the simplest way.
struct Strict<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Strict<'a> {
    fn read(mut head: &'a [u8]) -> Option<Self> {
        while let Some(rest) = head.strip_prefix(b"\r\n") {
            head = rest;
        }
        let lines = head.strip_suffix(b"\r\n\r\n")?;
        let mut lines = split(lines);
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let [method, target, "HTTP/1.1"] = *first.split(' ').collect::<Vec<_>>() else { return None };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let is_word = !method.is_empty() && method.bytes().all(is_token);
        let mut headers = Vec::new();
        for line in lines {
            if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                return None;
            }
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if name.is_empty() || !name.iter().copied().all(is_token) {
                return None;
            }
            headers.push((std::str::from_utf8(name).ok()?, trimmed(value)));
        }
        (is_word && path.starts_with('/')).then_some(Self { method, path, query, headers })
    }

    fn all(&self, name: &str) -> Vec<&'a str> {
        let named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| std::str::from_utf8(value).expect("a plain value is text")).collect()
    }
}

/// The lines of a head, without what ends them.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_done = false;
    std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
            is_done = true;
            return Some(bytes);
        };
        let line = &bytes[..end];
        bytes = &bytes[end + 2..];
        Some(line)
    })
}

/// A value without the spaces and tabs around it (RFC 9110 §5.5).
fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// A letter of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
