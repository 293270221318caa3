//! Reads an event stream (WHATWG HTML, "Server-sent events") from bytes cut anywhere.

/// Longest line that is taken in. Publications are far smaller; this is for a server that is none.
const LINE_BYTES_MAX: usize = 16 << 20;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name.
    pub(super) name: String,
    /// Its data, the lines joined.
    pub(super) data: String,
    /// The id that the stream had reached with it.
    pub(super) id: Option<String>,
}

/// The state between two pieces.
#[derive(Default)]
pub(super) struct EventStream {
    /// A line whose end has not come.
    line: Vec<u8>,
    /// The last byte was a carriage return, so that a line feed belongs to it.
    returned: bool,
    name: String,
    data: Option<String>,
    /// The id of the event that is being read, which counts only when the event is complete: an event that is cut off
    /// must come again.
    next_id: Option<String>,
    id: Option<String>,
}

impl EventStream {
    /// Takes in the next bytes and returns the events that they complete.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if self.returned => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ if self.line.len() == LINE_BYTES_MAX => {
                    return Err("the server sent a line of more than 16 MiB".to_owned());
                }
                _ => self.line.push(byte),
            }
            self.returned = byte == b'\r';
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "id" if !value.contains('\0') => self.next_id = Some(value.to_owned()),
            "data" => match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            // Comments are heartbeats; `retry` is for browsers; the rest is for later versions.
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<Event> {
        self.id = self.next_id.take().or(self.id.take());
        let name = std::mem::take(&mut self.name);
        let name = if name.is_empty() { "message".to_owned() } else { name };
        self.data.take().map(|data| Event { name, data, id: self.id.clone() })
    }

    /// A new connection goes on where the last one was cut off, and not in the middle of its line.
    pub(super) fn begin_again(&mut self) {
        *self = Self { id: self.id.take(), ..Self::default() };
    }

    /// The id to go on from.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref().filter(|id| !id.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    /// The same events come out however the bytes are cut.
    #[track_caller]
    fn check(text: &str, expected: &[Event]) {
        for size in 1..=text.len() {
            let mut stream = EventStream::default();
            let pieces = text.as_bytes().chunks(size);
            let events: Vec<Event> = pieces.flat_map(|piece| stream.read(piece).unwrap()).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn events_come_out_however_they_are_cut() {
        check(
            ": \n\nid: c1\nevent: order\ndata: {\"a\":\ndata: 1}\n\n: beat\nid: c2\ndata:x\n\ndata: half",
            &[event("order", "{\"a\":\n1}", Some("c1")), event("message", "x", Some("c2"))],
        );
    }

    #[test]
    fn every_line_end_ends_a_line_once() {
        check("data: a\r\ndata: b\r\n\r\n", &[event("message", "a\nb", None)]);
        check("data: a\r\rdata: b\n\n", &[event("message", "a", None), event("message", "b", None)]);
    }

    #[test]
    fn an_id_without_data_still_moves_on() {
        let mut stream = EventStream::default();
        assert_eq!(stream.read(b"id: c7\n\n").unwrap(), []);
        assert_eq!(stream.id(), Some("c7"));
    }

    #[test]
    fn an_event_that_is_cut_off_comes_again() {
        let mut stream = EventStream::default();
        stream.read(b"id: c1\ndata: 1\n\nid: c2\ndata: 2\nda").unwrap();
        stream.begin_again();
        assert_eq!(stream.id(), Some("c1"));
        assert_eq!(stream.read(b"id: c2\ndata: 2\n\n").unwrap(), [event("message", "2", Some("c2"))]);
        assert_eq!(stream.id(), Some("c2"));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut stream = EventStream::default();
        let piece = vec![b'x'; LINE_BYTES_MAX];
        assert!(stream.read(&piece).is_ok());
        assert!(stream.read(b"x").is_err());
    }
}
