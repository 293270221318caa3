//! Heads as they arrive, and what in them could be read in two ways. Requests are smuggled with that: what one reader takes for a body is a
//! request to another.
//!
//! - A line feed alone is the end of a line to some and a part of it to others (RFC 9112 §2.2 leaves the choice).
//! - A length beside another one, or beside a transfer coding, lets a body end in two places (RFC 9112 §6.3).
//! - A transfer coding that is not `chunked`, once, is one that nobody here undoes: the body would pass for what it is not.
//! - The size of a chunk may have any number of zeros before it. Whoever cuts it short reads another one.
//!
//! Those who read heads here would take some of it for good, so it never comes to them.
//!
//! A request that may leave HTTP is the last one of its connection: it is answered with 101, or the connection ends behind its answer.

/// Bytes of a line that are looked at: more than the names that matter have, and the longest length that makes sense.
const LINE_BYTES: usize = 64;

/// Whether a line feed stands alone in a head.
pub(crate) fn has_line_feed_alone(head: &[u8]) -> bool {
    let pairs = head.iter().zip(head.iter().skip(1));
    // All of them, for that is faster than to stop at the first.
    let alone =
        pairs.fold(0, |alone, (byte, next)| alone | (u8::from(*byte != b'\r') & u8::from(*next == b'\n')));
    alone != 0 || head.starts_with(b"\n")
}

/// Whether a client that asks for this `Upgrade` may get it, so that what it sends behind its request may not be HTTP. One that is too long
/// to look at may hold anything.
pub(crate) fn may_leave(upgrade: &[u8]) -> bool {
    const NAME: &[u8] = b"websocket";
    let text: Vec<u8> = upgrade.iter().copied().filter(|byte| !matches!(byte, b' ' | b'\t')).collect();
    text.len() >= LINE_BYTES - "upgrade:\r".len()
        || text.windows(NAME.len()).any(|part| part.eq_ignore_ascii_case(NAME))
}

/// Reads along while requests arrive, in whatever pieces, and knows where the next head begins, for lengths and chunks say so.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    place: Place,
    /// The beginning of a line that is still to end; of a field without spaces, of which there may be any number.
    line: Vec<u8>,
    /// Bytes of that line.
    line_bytes: usize,
    /// The last of them was a carriage return.
    is_return: bool,
    /// What the head says about its body.
    length: Option<u64>,
    in_chunks: bool,
    /// What follows the head may not be HTTP.
    leaves: bool,
}

/// Where the next byte belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Place {
    /// Before the head. Empty lines may come first.
    #[default]
    Before,
    /// In the head.
    Head,
    /// In a body, of which so many bytes are still to come.
    Body(u64),
    /// In a body in chunks, in the line before one that says how long it is.
    Size,
    /// In a chunk, of which so many bytes are still to come.
    Chunk(u64),
    /// In the line that ends a chunk, which is empty.
    ChunkEnd,
    /// Behind the last chunk. There may be fields, and then there is an empty line.
    Trailer,
    /// Behind what is refused, or a request that may leave HTTP: no other request is read.
    Behind,
}

impl Heads {
    /// Puts NUL in the place of the first line feed that stands alone in a head, or behind a length that is one too many, a transfer coding that
    /// is none of ours, or the size of a chunk that is none: whoever reads that refuses it. Bodies stay as they are, and so does what may be
    /// something else than HTTP.
    pub(crate) fn check(&mut self, bytes: &mut [u8]) {
        if let Some(feed) = self.ambiguous(bytes) {
            bytes[feed] = 0;
            self.place = Place::Behind;
        }
    }

    /// Where the line ends that must not be read.
    fn ambiguous(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.place {
                Place::Behind => return None,
                Place::Body(left) => {
                    let here = left.min((bytes.len() - at) as u64);
                    self.place = if here == left { self.behind_body() } else { Place::Body(left - here) };
                    at += usize::try_from(here).expect("it is here");
                }
                Place::Chunk(left) => {
                    let here = left.min((bytes.len() - at) as u64);
                    self.place = if here == left { Place::ChunkEnd } else { Place::Chunk(left - here) };
                    at += usize::try_from(here).expect("it is here");
                }
                Place::Before | Place::Head | Place::Size | Place::ChunkEnd | Place::Trailer => {
                    let rest = &bytes[at..];
                    let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
                        self.keep(rest);
                        return None;
                    };
                    self.keep(&rest[..length]);
                    at += length + 1;
                    if !self.end_line() {
                        return Some(at - 1);
                    }
                }
            }
        }
        None
    }

    fn keep(&mut self, part: &[u8]) {
        let is_field = self.place == Place::Head;
        let kept = part.iter().filter(|byte| !(is_field && matches!(byte, b' ' | b'\t')));
        // One more than is looked at, to know that there is more.
        let room = LINE_BYTES + 1 - self.line.len();
        self.line.extend(kept.take(room));
        self.line_bytes += part.len();
        self.is_return = part.last().map_or(self.is_return, |last| *last == b'\r');
    }

    /// A line feed has come. Says whether the line can be read in one way only.
    fn end_line(&mut self) -> bool {
        let (line, bytes) = (std::mem::take(&mut self.line), std::mem::take(&mut self.line_bytes));
        if !std::mem::take(&mut self.is_return) {
            let is_framing = matches!(self.place, Place::Size | Place::ChunkEnd);
            // There, a line feed alone is refused as it is, and NUL in its place might not be.
            self.place = if is_framing { Place::Behind } else { self.place };
            return is_framing;
        }
        match (self.place, bytes) {
            (Place::Before, 1) => true,
            (Place::Before, _) => {
                self.place = Place::Head;
                true
            }
            (Place::Size, _) => {
                let bytes = chunk_bytes(&line);
                self.place = match bytes {
                    Some(0) => Place::Trailer,
                    Some(bytes) => Place::Chunk(bytes),
                    None => Place::Behind,
                };
                bytes.is_some()
            }
            (Place::ChunkEnd, _) => {
                self.place = if bytes == 1 { Place::Size } else { Place::Behind };
                true
            }
            (Place::Trailer, _) => {
                if bytes == 1 {
                    self.place = self.behind_body();
                }
                true
            }
            (_, 1) => {
                self.end_head();
                true
            }
            _ => self.field(&line, line.len() <= LINE_BYTES),
        }
    }

    /// Notes what a field says about the body. Says whether it does not contradict what was said before.
    fn field(&mut self, line: &[u8], is_whole: bool) -> bool {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return true };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let is_alone = self.length.is_none() && !self.in_chunks;
            let digits =
                std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            self.length = digits.and_then(|digits| digits.parse().ok());
            return is_alone && is_whole && self.length.is_some();
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_alone = self.length.is_none() && !self.in_chunks;
            self.in_chunks = true;
            return is_alone && is_whole && value.eq_ignore_ascii_case(b"chunked");
        }
        self.leaves |= name.eq_ignore_ascii_case(b"upgrade") && may_leave(value);
        true
    }

    fn end_head(&mut self) {
        let place = match self.length {
            _ if self.in_chunks => Place::Size,
            Some(length @ 1..) => Place::Body(length),
            _ => self.behind_body(),
        };
        *self = Self { place, leaves: self.leaves, ..Self::default() };
    }

    fn behind_body(&self) -> Place {
        if self.leaves { Place::Behind } else { Place::Before }
    }
}

/// How long a chunk is, by the beginning of the line before it; `None` if that is no size (RFC 9112 §7.1), or its end is not here.
fn chunk_bytes(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let digits = std::str::from_utf8(&line[..end]).ok()?;
    let ends = matches!(line[end], b'\r' | b';' | b' ' | b'\t');
    u64::from_str_radix(digits, 16).ok().filter(|_| ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrives of a text, in whatever pieces.
    fn checked(text: &str) -> String {
        let arrives = |pieces: usize| {
            let mut bytes = text.as_bytes().to_vec();
            let mut heads = Heads::default();
            for piece in bytes.chunks_mut(pieces) {
                heads.check(piece);
            }
            String::from_utf8(bytes).unwrap()
        };
        let whole = arrives(text.len().max(1));
        for pieces in 1..text.len() {
            assert_eq!(arrives(pieces), whole, "in pieces of {pieces}");
        }
        whole
    }

    /// What comes before the first empty line.
    fn head_of(text: &str) -> &[u8] {
        let empty = text.trim_start_matches("\r\n").find("\r\n\r\n").map(|at| at + 4);
        let before = text.len() - text.trim_start_matches("\r\n").len();
        &text.as_bytes()[..empty.map_or(text.len(), |end| before + end)]
    }

    #[test]
    fn a_line_feed_alone_does_not_arrive() {
        for (sent, arrives) in [
            (
                "GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\nc\nd\n",
                "GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\nc\nd\n",
            ),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
            ("GET / HTTP/1.1\nA: b\r\n\r\n", "GET / HTTP/1.1\0A: b\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "GET / HTTP/1.1\r\nA: b\0C: d\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\r\n\n", "GET / HTTP/1.1\r\nA: b\r\n\0"),
            ("GET / HTTP/1.1\r\n\n", "GET / HTTP/1.1\r\n\0"),
            ("\nGET / HTTP/1.1\r\n\r\n", "\0GET / HTTP/1.1\r\n\r\n"),
            ("G\rET / HTTP/1.1\r\r\n\r\n", "G\rET / HTTP/1.1\r\r\n\r\n"),
            ("", ""),
        ] {
            assert_eq!(checked(sent), arrives);
            assert_eq!(has_line_feed_alone(head_of(sent)), sent != arrives, "{sent:?}");
        }
    }

    /// Once, two lengths that are the same were one, and chunks counted although there was a length.
    #[test]
    fn a_body_that_could_end_in_two_places_does_not_arrive() {
        let long = format!("Content-Length: {}4\r\n", "0".repeat(60));
        let spaces = " ".repeat(200);
        let length = |name: &str, value: &str| format!("{name}:{value}\r\n");
        let good = [
            length("Content-Length", " 4"),
            length("content-length", "04 "),
            length("X-Content-Length", "4"),
            length("Content-Length", &format!("{spaces}4{spaces}")),
            String::new(),
        ];
        for fields in good {
            let sent = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            assert_eq!(checked(&sent), sent);
        }
        for fields in [
            "Content-Length: 4\r\nContent-Length: 4\r\n",
            "Content-Length: 4\r\nX: y\r\ncontent-length: 5\r\n",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nX: y\r\nCONTENT-LENGTH: 4\r\n",
            "Content-Length: 4, 4\r\n",
            "Content-Length: +4\r\n",
            "Content-Length:\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nX: y\r\ntransfer-encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding:\r\n",
            &long,
        ] {
            let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}");
            let refused = format!("{}\0", head.strip_suffix('\n').unwrap());
            assert_eq!(checked(&format!("{head}\r\nab\nc")), format!("{refused}\r\nab\nc"), "{fields}");
        }
    }

    /// Once, a head was looked at only if its client had waited for the answer before.
    #[test]
    fn heads_right_behind_others_are_checked() {
        let bad = ["GET / HTTP/1.1\nA: b\r\n\r\n", "GET / HTTP/1.1\0A: b\r\n\r\n"];
        for before in [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\n\n\nb",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\n\n\nbGET / HTTP/1.1\r\n\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "CONNECT x:1 HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\n\na\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\n\n\r\n00000000000000000000a;x=\"y\"\r\n\n\n\r\n\n\n\n\n\n\n\r\n0 \r\nA: b\r\nContent-Length: 9\r\n\r\n",
        ] {
            assert_eq!(checked(&format!("{before}{}", bad[0])), format!("{before}{}", bad[1]), "{before}");
        }
        // Nobody reads what is behind these as a request.
        for before in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nUpgrade: h2c,  Web Socket\r\nContent-Length: 1\r\n\r\n\n",
            &format!("GET / HTTP/1.1\r\nUpgrade: {}websocket\r\n\r\n", "a,".repeat(40)),
        ] {
            let sent = format!("{before}{}", bad[0]);
            assert_eq!(checked(&sent), sent);
        }
    }

    #[test]
    fn line_feeds_around_chunks_stay_where_the_chunks_are_refused_for_them() {
        const HEAD: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (sent, arrives) in [
            ("1;a\nb\r\na\r\n0\r\n\r\n", "1;a\nb\r\na\r\n0\r\n\r\n"),
            ("1\na\r\n0\r\n\r\n", "1\na\r\n0\r\n\r\n"),
            ("1\r\na\n0\r\n\r\n", "1\r\na\n0\r\n\r\n"),
            ("1\r\na\r\n0\r\nA: b\nC: d\r\n\r\n", "1\r\na\r\n0\r\nA: b\0C: d\r\n\r\n"),
            ("0\r\n\n", "0\r\n\0"),
        ] {
            assert_eq!(checked(&format!("{HEAD}{sent}")), format!("{HEAD}{arrives}"));
        }
    }

    /// Once, whoever wrote seventy zeros before a size was not looked at any more, while its chunk was read.
    #[test]
    fn a_size_of_a_chunk_that_is_none_does_not_arrive() {
        const HEAD: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let [some, many] = [40, 70].map(|zeros| "0".repeat(zeros));
        let good = format!("{HEAD}{some}1\r\na\r\n0\r\n\r\n");
        assert_eq!(checked(&good), good);
        for size in ["1x", "", "+1", "10000000000000000", &format!("{many}1"), &many] {
            let sent = format!("{HEAD}{size}\r\na\r\n0\r\n\r\n");
            assert_eq!(checked(&sent), format!("{HEAD}{size}\r\0a\r\n0\r\n\r\n"));
        }
    }
}
