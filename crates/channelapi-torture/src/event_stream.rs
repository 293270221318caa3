//! An event stream as a client reads it: server-sent events (WHATWG HTML) in the chunks of HTTP/1.1.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::broken::broken;
use crate::http::Response;

const HEAD_MAX: usize = 8 << 10;
/// Longest piece of a chunk's frame: its length in hexadecimal.
const LENGTH_MAX: usize = 16;
const EVENT_MAX: usize = 4 << 20;

pub(crate) struct EventStream {
    stream: TcpStream,
    /// What was received, in chunks.
    raw: Vec<u8>,
    /// What the chunks hold, up to the end of the last event.
    text: Vec<u8>,
}

/// One event, or an id that stands alone.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: Option<String>,
}

impl EventStream {
    /// Asks for a stream; the headers are complete lines.
    pub(crate) async fn ask(address: SocketAddr, path: &str, headers: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(Self { stream, raw: Vec::new(), text: Vec::new() })
    }

    /// Returns when the server has begun to answer with a stream.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        loop {
            if let Some(end) = self.raw.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.raw[..end]).to_ascii_lowercase();
                if head.starts_with("http/1.1 200") && head.contains("transfer-encoding: chunked") {
                    ensure!(head.contains("content-type: text/event-stream"), "no stream: {head:?}");
                    self.raw.drain(..end + 4);
                    return Ok(());
                }
                if let Some(Response { status, body, .. }) = Response::take(&mut self.raw)? {
                    // Whoever accepts nothing but streams is told with one that it has to come again.
                    let is_later = status == 503 || status == 200 && body.starts_with("retry: ");
                    ensure!(!is_later, broken("the server opens no streams"));
                    bail!("a stream was answered {status}: {body}");
                }
            }
            ensure!(self.raw.len() < HEAD_MAX, "the answer's head is longer than {HEAD_MAX} bytes");
            self.fill().await?;
        }
    }

    /// The next event, or `None` if the server only showed that it is there; may be given up and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Told>> {
        loop {
            if let Some(told) = take_event(&mut self.text)? {
                let says_something = told.id.is_some() || told.data.is_some();
                return Ok(says_something.then_some(told));
            }
            ensure!(self.text.len() < EVENT_MAX, "an event is longer than {EVENT_MAX} bytes");
            match take_chunk(&mut self.raw)? {
                Some(chunk) => self.text.extend(chunk),
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.raw).await? == 0 {
            bail!(broken("the stream broke"));
        }
        Ok(())
    }
}

/// The first chunk's content, if it is there as a whole; the last chunk is the end of the stream.
fn take_chunk(raw: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let Some(end) = raw.windows(2).position(|window| window == b"\r\n") else {
        ensure!(raw.len() <= LENGTH_MAX, "a chunk begins with {:?}", String::from_utf8_lossy(raw));
        return Ok(None);
    };
    let length = std::str::from_utf8(&raw[..end])?;
    let length = usize::from_str_radix(length, 16).with_context(|| format!("{length:?} is no length"))?;
    ensure!(length > 0, broken("the stream ended"));
    let (start, end) = (end + 2, end + 2 + length);
    let Some(tail) = raw.get(end..end + 2) else { return Ok(None) };
    ensure!(tail == b"\r\n", "a chunk ends with {tail:?}");
    let chunk = raw[start..end].to_vec();
    raw.drain(..end + 2);
    Ok(Some(chunk))
}

/// The first event, if it is there as a whole. It may say nothing.
fn take_event(text: &mut Vec<u8>) -> Result<Option<Told>> {
    let Some(end) = text.windows(2).position(|window| window == b"\n\n") else { return Ok(None) };
    let mut told = Told { id: None, event: None, data: None };
    for line in std::str::from_utf8(&text[..end])?.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => told.id = Some(id.to_owned()),
            Some(("event", event)) => told.event = Some(event.to_owned()),
            Some(("data", data)) => match &mut told.data {
                Some(before) => {
                    before.push('\n');
                    before.push_str(data);
                }
                None => told.data = Some(data.to_owned()),
            },
            Some(("", _)) => {}
            // A server that drains says when to come back. Whoever follows does so by itself.
            Some(("retry", pause)) if pause.parse::<u64>().is_ok() => {}
            _ => bail!("the server sent the line {line:?}"),
        }
    }
    text.drain(..end + 2);
    Ok(Some(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_in_chunks_when_they_are_whole() {
        let wire =
            b"8\r\nid: c1\n\n\r\n13\r\nid: c2\nevent: gap\nd\r\n10\r\nata: 1\ndata: 2\n\n\r\n4\r\n: \n\n\r\n";
        let (mut raw, mut text, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for byte in wire {
            raw.push(*byte);
            while let Some(chunk) = take_chunk(&mut raw).unwrap() {
                text.extend(chunk);
            }
            while let Some(told) = take_event(&mut text).unwrap() {
                events.push(told);
            }
        }
        let told = |id: Option<&str>, event: Option<&str>, data: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Told { id: owned(id), event: owned(event), data: owned(data) }
        };
        let gap = told(Some("c2"), Some("gap"), Some("1\n2"));
        assert_eq!(events, [told(Some("c1"), None, None), gap, told(None, None, None)]);
        assert!(raw.is_empty() && text.is_empty());
    }

    #[test]
    fn end_of_a_stream_is_a_broken_connection() {
        let error = take_chunk(&mut b"0\r\n\r\n".to_vec()).unwrap_err();
        assert!(crate::broken::is_broken(&error));
        for wire in [&b"x\r\n"[..], b"1\r\nabc", b"no length is so long"] {
            let error = take_chunk(&mut wire.to_vec()).unwrap_err();
            assert!(!crate::broken::is_broken(&error));
        }
        assert!(take_event(&mut b"surprise\n\n".to_vec()).is_err());
    }
}
