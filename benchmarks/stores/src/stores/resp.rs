//! The language of Redis, as far as it is needed here: commands in a pipeline, replies one by one.

use std::io::{BufRead as _, BufReader, Read, Write};

use anyhow::{Context as _, Result, bail, ensure};

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Reply>),
    Nothing,
}

impl Reply {
    /// One item of a list.
    pub(crate) fn item(&self, index: usize) -> Option<&Self> {
        match self {
            Self::List(items) => items.get(index),
            _ => None,
        }
    }
}

/// One connection to a server.
pub(crate) struct Connection<S> {
    stream: BufReader<S>,
    queued: Vec<u8>,
    line: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufReader::with_capacity(64 << 10, stream), queued: Vec::new(), line: Vec::new() }
    }

    /// Adds a command to the pipeline.
    pub(crate) fn queue(&mut self, words: &[&[u8]]) {
        // Writing to memory cannot fail.
        let _ = write!(self.queued, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(self.queued, "${}\r\n", word.len());
            self.queued.extend_from_slice(word);
            self.queued.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what is in the pipeline.
    pub(crate) fn send(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.queued)?;
        self.queued.clear();
        Ok(())
    }

    /// Waits for the next reply. One that is an error is an error.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line)?;
        let line = self.line.strip_suffix(b"\r\n").context("the server closed the connection")?;
        let (kind, rest) = line.split_first().context("the server sent an empty line")?;
        let rest = std::str::from_utf8(rest)?;
        Ok(match kind {
            b'+' => Reply::Text(rest.to_owned()),
            b'-' => bail!("the server answered {rest:?}"),
            b':' => Reply::Number(rest.parse()?),
            b'$' | b'*' if rest == "-1" => Reply::Nothing,
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.stream.read_exact(&mut bytes)?;
                ensure!(bytes.ends_with(b"\r\n"), "the server sent a text of another length than it said");
                bytes.truncate(bytes.len() - 2);
                Reply::Bytes(bytes)
            }
            b'*' => {
                let count: usize = rest.parse()?;
                Reply::List((0..count).map(|_| self.reply()).collect::<Result<_>>()?)
            }
            kind => bail!("the server sent a reply of kind {kind:#04x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn replies(text: &str) -> Connection<Cursor<Vec<u8>>> {
        Connection::new(Cursor::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn commands_are_lists_of_texts() {
        let mut connection = replies("");
        connection.queue(&[b"XADD", b"a", b"*"]);
        connection.send().unwrap();
        assert_eq!(connection.stream.get_ref().get_ref(), b"*3\r\n$4\r\nXADD\r\n$1\r\na\r\n$1\r\n*\r\n");
    }

    #[test]
    fn replies_of_every_kind_are_read() {
        let mut connection = replies("+PONG\r\n:7\r\n$2\r\nhi\r\n$-1\r\n*2\r\n:1\r\n*1\r\n$0\r\n\r\n");
        let mut check = |expected| assert_eq!(connection.reply().unwrap(), expected);
        check(Reply::Text("PONG".to_owned()));
        check(Reply::Number(7));
        check(Reply::Bytes(b"hi".to_vec()));
        check(Reply::Nothing);
        check(Reply::List(vec![Reply::Number(1), Reply::List(vec![Reply::Bytes(Vec::new())])]));
        assert!(connection.reply().is_err(), "the connection has ended");
    }

    #[test]
    fn errors_and_nonsense_are_errors() {
        for text in ["-LOADING it reads\r\n", "\r\n", "?\r\n", "$3\r\nhi\r\n\r", "$1\r\nhi\r\n"] {
            assert!(replies(text).reply().is_err(), "{text:?}");
        }
        assert!(replies("-LOADING it reads\r\n").reply().unwrap_err().to_string().contains("LOADING"));
    }
}
