//! The ends of the lines in a head. A line feed alone is taken for one by some and for a part of the line by others, which is what
//! requests are smuggled with. Those who read heads here are of the first kind, so it never comes to them (RFC 9112 §2.2 leaves the
//! choice).

/// Whether a line feed stands alone in a head.
pub(crate) fn has_line_feed_alone(head: &[u8]) -> bool {
    let pairs = head.iter().zip(head.iter().skip(1));
    // All of them, for that is faster than to stop at the first.
    let alone =
        pairs.fold(0, |alone, (byte, next)| alone | (u8::from(*byte != b'\r') & u8::from(*next == b'\n')));
    alone != 0 || head.starts_with(b"\n")
}

/// Reads along while heads arrive, in whatever pieces.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LineEnds {
    place: Place,
    /// The last byte was a carriage return.
    is_return: bool,
}

/// Where the last byte was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Place {
    /// Before the head. Empty lines may come first.
    #[default]
    Before,
    /// In a line that is not empty.
    Line,
    /// At the end of a line.
    End,
    /// Behind the head.
    Behind,
}

impl LineEnds {
    /// The next head begins with the next byte.
    pub(crate) fn begin(&mut self) {
        self.place = Place::Before;
    }

    /// What comes now is not of a head.
    pub(crate) fn skip(&mut self) {
        self.place = Place::Behind;
    }

    /// Puts NUL in the place of the first line feed that stands alone in the head: whoever reads that refuses it. What is behind the head
    /// stays as it is.
    pub(crate) fn check(&mut self, bytes: &mut [u8]) {
        let alone = self.alone(bytes);
        self.is_return = bytes.last().map_or(self.is_return, |last| *last == b'\r');
        if let Some(feed) = alone {
            bytes[feed] = 0;
            self.skip();
        }
    }

    /// Where the first line feed is that stands alone.
    fn alone(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.place == Place::Behind {
            return None;
        }
        let mut start = 0;
        for (feed, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            let line = &bytes[start..feed];
            if !line.last().map_or(feed == 0 && self.is_return, |last| *last == b'\r') {
                return Some(feed);
            }
            start = feed + 1;
            // The return that ends a line is not in it.
            match self.place {
                _ if line.len() > 1 => self.place = Place::End,
                Place::Before => {}
                Place::Line => self.place = Place::End,
                Place::End | Place::Behind => {
                    self.skip();
                    return None;
                }
            }
        }
        if bytes[start..].iter().any(|byte| *byte != b'\r') {
            self.place = Place::Line;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, pieces: usize) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let mut ends = LineEnds::default();
        for piece in bytes.chunks_mut(pieces) {
            ends.check(piece);
        }
        String::from_utf8(bytes).unwrap()
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
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nc\nd\r\n\n", "GET / HTTP/1.1\r\nA: b\r\n\r\nc\nd\r\n\n"),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n\n", "\r\n\r\nGET / HTTP/1.1\r\n\r\n\n"),
            ("GET / HTTP/1.1\nA: b\r\n\r\n", "GET / HTTP/1.1\0A: b\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "GET / HTTP/1.1\r\nA: b\0C: d\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\r\n\n", "GET / HTTP/1.1\r\nA: b\r\n\0"),
            ("GET / HTTP/1.1\r\n\n", "GET / HTTP/1.1\r\n\0"),
            ("\nGET / HTTP/1.1\r\n\r\n", "\0GET / HTTP/1.1\r\n\r\n"),
            ("G\rET / HTTP/1.1\r\r\n\r\n\n", "G\rET / HTTP/1.1\r\r\n\r\n\n"),
            ("", ""),
        ] {
            assert_eq!(has_line_feed_alone(head_of(sent)), sent != arrives, "{sent:?}");
            for pieces in 1..=sent.len().max(1) {
                assert_eq!(checked(sent, pieces), arrives, "in pieces of {pieces}");
            }
        }
    }

    #[test]
    fn each_head_is_checked() {
        let mut ends = LineEnds::default();
        let mut check = |text: &str, is_next: bool| {
            if is_next {
                ends.begin();
            }
            let mut bytes = text.as_bytes().to_vec();
            ends.check(&mut bytes);
            !bytes.contains(&0)
        };
        assert!(check("POST / HTTP/1.1\r\n\r\na\nb\r", false));
        assert!(check("\nGET / HTTP/1.1\r\n\r\n", true), "the return came before");
        assert!(!check("GET / HTTP/1.1\nA: b\r\n\r\n", true));
        assert!(check("GET / HTTP/1.1\r", true));
        assert!(check("\n\r\n\n", false));
    }
}
