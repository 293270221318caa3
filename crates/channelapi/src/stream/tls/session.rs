//! The session of a connection: records that have arrived become data, and data becomes records. It knows no socket.
//!
//! rustls reads and writes memory that it is lent. So there is one buffer for each thread instead of several for each
//! connection, and only what cannot be helped stays with the session: half a record that has arrived, data that nobody had
//! room for, and what the socket did not take of the last record that was encrypted.
//!
//! Invariant: what was encrypted leaves in that order, once.

use channelapi_core::limits::TLS_INCOMING_BYTES_MAX;
use rustls::ServerConfig;
use rustls::server::ServerConnectionData;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use std::cell::RefCell;
use std::error::Error;
use std::io;
use std::sync::Arc;
use tokio::io::ReadBuf;

/// Bytes of the data that one record carries.
pub(super) const RECORD_DATA_BYTES: usize = 16 * 1024;

/// What a record adds to them at most, and room for a change of keys in front of it.
const RECORD_MORE_BYTES: usize = 512;

/// The least to ask the socket for, so that small buffers do not mean many calls.
const RECEIVE_BYTES_MIN: usize = 4 * 1024;

/// The most. With what is left from before it is what the buffer of a thread takes.
const RECEIVE_BYTES_MAX: usize = 32 * 1024;

/// For whoever speaks plain HTTP where TLS is spoken.
const PLAIN_HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 49\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: begin the URL with https\n";

thread_local! {
    static INCOMING: RefCell<Vec<u8>> = RefCell::new(vec![0; TLS_INCOMING_BYTES_MAX + RECEIVE_BYTES_MAX]);
    static OUTGOING: RefCell<Vec<u8>> = RefCell::new(vec![0; RECORD_DATA_BYTES + RECORD_MORE_BYTES]);
}

/// What TLS knows of a connection.
pub(super) struct Session {
    tls: UnbufferedServerConnection,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// Data that whoever read last had no room for.
    plaintext: Vec<u8>,
    /// Encrypted, and not yet taken by the socket.
    behind: Vec<u8>,
    /// Whether the handshake is done.
    is_open: bool,
    /// Whether the client said goodbye.
    is_closed: bool,
    /// Whether the client broke the rules. Then the session must not be asked for anything any more: it might go on behind the damage.
    is_broken: bool,
}

impl Session {
    /// A session that waits for a client's hello.
    pub(super) fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Self {
            tls: UnbufferedServerConnection::new(config).map_err(io::Error::other)?,
            incoming: Vec::new(),
            plaintext: Vec::new(),
            behind: Vec::new(),
            is_open: false,
            is_closed: false,
            is_broken: false,
        })
    }

    /// Whether the handshake is done.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the client said goodbye.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether something is encrypted that is not sent.
    pub(super) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// The protocol that both agreed on to speak over it.
    pub(super) fn protocol(&self) -> Option<Vec<u8>> {
        self.tls.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// Takes in what `receive` writes into the memory that it is lent, once. The data in it goes into `buffer`, or waits. An
    /// error of the kind `InvalidData` leaves behind what the client should be told, and is the last word.
    pub(super) fn receive(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if self.is_broken {
            return Err(invalid("the client broke the rules of TLS"));
        }
        INCOMING.with_borrow_mut(|incoming| {
            let waiting = self.incoming.len();
            incoming[..waiting].copy_from_slice(&self.incoming);
            let most = buffer.remaining().clamp(RECEIVE_BYTES_MIN, RECEIVE_BYTES_MAX);
            let received = match receive(&mut incoming[waiting..waiting + most]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let incoming = &mut incoming[..waiting + received];
            match self.process(incoming, buffer) {
                Ok(done) => self.keep(&incoming[done..]),
                Err(error) => {
                    // Behind a hello, that is damage.
                    if self.tls.protocol_version().is_none() && incoming[0].is_ascii_uppercase() {
                        self.behind = PLAIN_HTTP_ANSWER.to_vec();
                    }
                    self.is_broken = true;
                    Err(invalid(error))
                }
            }
        })
    }

    /// Encrypts one record of `data`, and hands it to `socket`. What that does not take waits.
    pub(super) fn send(
        &mut self,
        data: &[u8],
        socket: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        OUTGOING.with_borrow_mut(|outgoing| {
            let length = self.write(|traffic| traffic.encrypt(data, outgoing))?;
            // TLS may just have said something on its own account, and that comes first.
            let sent = if self.is_behind() { 0 } else { taken(socket(&outgoing[..length]))? };
            self.behind.extend_from_slice(&outgoing[sent..length]);
            Ok(())
        })
    }

    /// Hands what waits to `socket`, as far as it takes it.
    pub(super) fn send_behind(&mut self, socket: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while self.is_behind() {
            match taken(socket(&self.behind))? {
                0 => return Ok(()),
                sent => drop(self.behind.drain(..sent)),
            }
        }
        self.behind = Vec::new();
        Ok(())
    }

    /// Says that nothing more follows, behind everything that waits.
    pub(super) fn say_goodbye(&mut self) {
        let mut goodbye = [0; RECORD_MORE_BYTES];
        if let Ok(length) = self.write(|traffic| traffic.queue_close_notify(&mut goodbye)) {
            self.behind.extend_from_slice(&goodbye[..length]);
        }
    }

    /// Reads records. What they carry goes into `buffer`, or waits. Returns how much of `input` they were.
    fn process(&mut self, input: &mut [u8], buffer: &mut ReadBuf<'_>) -> Result<usize, rustls::Error> {
        let mut at = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut input[at..]);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.queue_alert(&mut input[at + discard..]);
                    return Err(error);
                }
            };
            let is_done = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let room = if self.plaintext.is_empty() { buffer.remaining() } else { 0 };
                        let (fits, rest) = record.payload.split_at(record.payload.len().min(room));
                        buffer.put_slice(fits);
                        self.plaintext.extend_from_slice(rest);
                    }
                    false
                }
                ConnectionState::EncodeTlsData(data) => {
                    queue(data, &mut self.behind)?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    // It waits in its turn, and is sent once.
                    data.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    self.is_closed = true;
                    false
                }
                ConnectionState::WriteTraffic(_) => {
                    self.is_open = true;
                    true
                }
                ConnectionState::BlockedHandshake | ConnectionState::Closed => true,
                // Early data is not offered, and there is nothing else.
                _ => return Err(rustls::Error::General("nobody asked for this state".to_owned())),
            };
            at += discard;
            if is_done {
                return Ok(at);
            }
        }
    }

    /// Queues what a broken session has to say to the client, and asks it for nothing more: it would read `rest` again.
    fn queue_alert(&mut self, rest: &mut [u8]) {
        while self.tls.wants_write() {
            match self.tls.process_tls_records(rest).state {
                Ok(ConnectionState::EncodeTlsData(data)) => _ = queue(data, &mut self.behind),
                _ => return,
            }
        }
    }

    /// Keeps the beginning of a record until the rest comes.
    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        if rest.len() > TLS_INCOMING_BYTES_MAX {
            self.is_broken = true;
            return Err(invalid("a message of TLS is too long"));
        }
        self.incoming.clear();
        self.incoming.extend_from_slice(rest);
        if rest.is_empty() {
            self.incoming = Vec::new();
        }
        Ok(())
    }

    /// Puts the data that waits into `buffer`, as much as there is room for.
    pub(super) fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) {
        if self.plaintext.is_empty() {
            return;
        }
        let length = self.plaintext.len().min(buffer.remaining());
        buffer.put_slice(&self.plaintext[..length]);
        self.plaintext.drain(..length);
        if self.plaintext.is_empty() {
            self.plaintext = Vec::new();
        }
    }

    /// Lets `encode` write into a buffer, behind everything that was encoded before.
    fn write(
        &mut self,
        encode: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        loop {
            // The session remembers places in what has arrived, so it must see that here, too.
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.incoming);
            match state.map_err(io::Error::other)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return encode(&mut traffic).map_err(io::Error::other);
                }
                ConnectionState::EncodeTlsData(data) => {
                    queue(data, &mut self.behind).map_err(io::Error::other)?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.is_closed = true,
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            self.incoming.drain(..discard);
        }
    }

    /// What is kept of it between two events, in bytes of memory.
    #[cfg(test)]
    pub(super) fn kept(&self) -> Kept {
        let Self { incoming, plaintext, behind, .. } = self;
        Kept { incoming: incoming.capacity(), plaintext: plaintext.capacity(), behind: behind.capacity() }
    }
}

/// What a session keeps, in bytes of memory.
#[cfg(test)]
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) incoming: usize,
    pub(super) plaintext: usize,
    pub(super) behind: usize,
}

fn invalid(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// How much was taken of what was to be sent.
fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}

/// Puts what TLS has to say on its own account behind what waits.
fn queue(
    mut data: EncodeTlsData<'_, ServerConnectionData>,
    behind: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let start = behind.len();
    let mut room = 0;
    loop {
        behind.resize(start + room, 0);
        match data.encode(&mut behind[start..]) {
            Ok(length) => {
                behind.truncate(start + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => room = size.required_size,
            Err(EncodeError::AlreadyEncoded) => {
                return Err(rustls::Error::General("a message was to be encoded twice".to_owned()));
            }
        }
    }
}
