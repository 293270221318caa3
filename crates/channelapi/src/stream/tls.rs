//! TLS on a TCP connection, as small as it can be while nothing happens.
//!
//! A session of rustls reads and writes memory that it is lent. So there is one buffer for each thread instead of several for each
//! connection, a frame is encrypted and written by whoever has it, and only what cannot be helped stays with the
//! connection: half a record that has arrived, and what the socket did not take of the last one that was encrypted.
//!
//! Invariants:
//! - What was encrypted is sent in that order, once. Nothing is encrypted while something waits behind the socket, so that
//!   what waits is one record at most, and whatever TLS itself has to say.
//! - The session is locked for moments, and nothing else while it is.

use channelapi_core::limits::{TLS_HANDSHAKE_TIMEOUT, TLS_INCOMING_BYTES_MAX};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::server::ServerConnectionData;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use socket2::SockRef;
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of the data that one record carries.
const RECORD_DATA_BYTES: usize = 16 * 1024;

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
    static GATHERED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(RECORD_DATA_BYTES));
}

/// A connection with TLS.
#[derive(Debug)]
pub(crate) struct TlsStream(Arc<Secured>);

/// The half of it that is read.
#[derive(Debug)]
pub(crate) struct TlsReader(Arc<Secured>);

/// The half of it that is written. Dropping it says goodbye and ends our side.
#[derive(Debug)]
pub(crate) struct TlsWriter(Arc<Secured>);

/// What the halves share.
struct Secured {
    socket: TcpStream,
    session: Mutex<Session>,
}

struct Session {
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
    /// Whether the client broke the rules. Then the session must not be asked for anything any more.
    is_broken: bool,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// Shakes hands with a client, which must be quick about it.
    pub(crate) async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let session = Session {
            tls,
            incoming: Vec::new(),
            plaintext: Vec::new(),
            behind: Vec::new(),
            is_open: false,
            is_closed: false,
            is_broken: false,
        };
        let secured = Secured { socket, session: Mutex::new(session) };
        let shaking = poll_fn(|cx| secured.poll_handshake(cx));
        match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, shaking).await {
            Ok(done) => done?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        Ok(Self(Arc::new(secured)))
    }

    /// The protocol that both agreed on to speak over it.
    pub(crate) fn protocol(&self) -> Option<Vec<u8>> {
        self.0.session.lock().tls.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// One half to read from, and one to write to.
    pub(super) fn into_split(self) -> (TlsReader, TlsWriter) {
        (TlsReader(self.0.clone()), TlsWriter(self.0))
    }
}

impl Secured {
    fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.lock();
        loop {
            ready!(self.poll_send_behind(&mut session, cx))?;
            if session.is_open {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(&mut session, &mut ReadBuf::new(&mut []), cx))?;
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.lock();
        let before = buffer.filled().len();
        loop {
            session.hand_out(buffer);
            if buffer.filled().len() > before || session.is_closed {
                return Poll::Ready(Ok(()));
            }
            // What TLS has to say on its own account leaves when it can; data need not wait for it.
            if let Poll::Ready(Err(error)) = self.poll_send_behind(&mut session, cx) {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_receive(&mut session, buffer, cx))?;
        }
    }

    /// Takes what the socket has, once. Ready though nothing for `buffer` may have come.
    fn poll_receive(
        &self,
        session: &mut Session,
        buffer: &mut ReadBuf<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        // Asked each time, so that a client that never stops sending gives the other tasks a turn.
        ready!(self.socket.poll_read_ready(cx))?;
        INCOMING
            .with_borrow_mut(|incoming| {
                let waiting = session.incoming.len();
                incoming[..waiting].copy_from_slice(&session.incoming);
                let most = buffer.remaining().clamp(RECEIVE_BYTES_MIN, RECEIVE_BYTES_MAX);
                let received = match self.socket.try_read(&mut incoming[waiting..waiting + most]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                };
                let incoming = &mut incoming[..waiting + received];
                match session.process(incoming, buffer) {
                    Ok(done) => session.keep(&incoming[done..]),
                    Err(error) => {
                        if !session.is_open && incoming[0].is_ascii_uppercase() {
                            session.behind = PLAIN_HTTP_ANSWER.to_vec();
                        }
                        // The client should learn why, if it can be told at once.
                        _ = self.send_behind(session);
                        Err(io::Error::new(io::ErrorKind::InvalidData, error))
                    }
                }
            })
            .into()
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        self.send_behind(&mut session)?;
        let mut taken = 0;
        while taken < bytes.len() && session.behind.is_empty() {
            let record = &bytes[taken..bytes.len().min(taken + RECORD_DATA_BYTES)];
            self.send(&mut session, record)?;
            taken += record.len();
        }
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// The same for bytes in several places, as much of them as one record takes.
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [] => Ok(0),
            [only] => self.try_write(only),
            [first, ..] if first.len() >= RECORD_DATA_BYTES => self.try_write(first),
            _ => GATHERED.with_borrow_mut(|gathered| {
                gathered.clear();
                for slice in slices {
                    let room = RECORD_DATA_BYTES - gathered.len();
                    gathered.extend_from_slice(&slice[..slice.len().min(room)]);
                }
                self.try_write(gathered)
            }),
        }
    }

    /// Encrypts one record. What the socket does not take of it waits.
    fn send(&self, session: &mut Session, data: &[u8]) -> io::Result<()> {
        OUTGOING.with_borrow_mut(|outgoing| {
            let length = session.write(|traffic| traffic.encrypt(data, outgoing))?;
            let sent = match self.socket.try_write(&outgoing[..length]) {
                // TLS has just said something on its own account, and that comes first.
                _ if !session.behind.is_empty() => 0,
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            session.behind.extend_from_slice(&outgoing[sent..length]);
            Ok(())
        })
    }

    /// Sends what waits, as far as the socket takes it.
    fn send_behind(&self, session: &mut Session) -> io::Result<()> {
        while !session.behind.is_empty() {
            match self.socket.try_write(&session.behind) {
                Ok(sent) => drop(session.behind.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        session.behind = Vec::new();
        Ok(())
    }

    fn poll_send_behind(&self, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.send_behind(session)?;
            if session.behind.is_empty() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_write_ready(cx))?;
        }
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send_behind(&mut self.session.lock(), cx)
    }

    /// Says goodbye, and ends our side. Who wants everything to arrive flushes before.
    fn end(&self) {
        let mut session = self.session.lock();
        let mut goodbye = [0; RECORD_MORE_BYTES];
        if let Ok(length) = session.write(|traffic| traffic.queue_close_notify(&mut goodbye)) {
            session.behind.extend_from_slice(&goodbye[..length]);
        }
        _ = self.send_behind(&mut session);
        // It fails when the connection is gone already.
        _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
    }
}

impl Session {
    /// Reads records. What they carry goes into `buffer`, or waits. Returns how much of `input` they were.
    fn process(&mut self, input: &mut [u8], buffer: &mut ReadBuf<'_>) -> Result<usize, rustls::Error> {
        let mut at = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut input[at..]);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.is_broken = true;
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
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of TLS is too long"));
        }
        self.incoming.clear();
        self.incoming.extend_from_slice(rest);
        if rest.is_empty() {
            self.incoming = Vec::new();
        }
        Ok(())
    }

    fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) {
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

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |secured| secured.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, |secured| secured.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_flush(cx))?;
        self.0.end();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buffer)
    }
}

impl TlsWriter {
    /// Takes what can be sent at once, and at most one record more, which waits: see [`TlsWriter::is_behind`].
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    /// The same for bytes in several places.
    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    /// Waits until something can be taken.
    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.socket.poll_write_ready(cx)
    }

    /// Whether something was taken that is not sent. [`TlsWriter::poll_flush`] sends it.
    pub(super) fn is_behind(&self) -> bool {
        !self.0.session.lock().behind.is_empty()
    }

    /// Sends what was taken.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }
}

impl Drop for TlsWriter {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ReadHalf, Stream, WriteHalf};
    use super::*;
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::version::{TLS12, TLS13};
    use rustls::{
        ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore, StreamOwned,
        SupportedProtocolVersion,
    };
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream as StdStream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    type Client = StreamOwned<ClientConnection, StdStream>;

    fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, ClientConfig) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let mut provider = default_provider();
        provider.cipher_suites = vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ];
        let provider = Arc::new(provider);
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.enable_secret_extraction = true;
        (Arc::new(server), client)
    }

    /// Both ends of a connection. The client blocks, so it belongs to a thread of its own.
    async fn connected(version: &'static SupportedProtocolVersion) -> (TlsStream, Client) {
        let (server, client) = configs(version);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::task::spawn_blocking(move || {
            let socket = StdStream::connect(address).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = StreamOwned::new(ClientConnection::new(Arc::new(client), name).unwrap(), socket);
            while client.conn.is_handshaking() {
                client.conn.complete_io(&mut client.sock).unwrap();
            }
            client
        });
        let (socket, _) = listener.accept().await.unwrap();
        let stream = TlsStream::accept(socket, server).await.unwrap();
        (stream, client.await.unwrap())
    }

    fn halves(stream: TlsStream) -> (ReadHalf, WriteHalf) {
        Stream::Tls(stream).into_split()
    }

    #[tokio::test]
    async fn what_is_sent_arrives_in_both_directions() {
        for version in [&TLS12, &TLS13] {
            let (mut stream, mut client) = connected(version).await;
            let text = "x".repeat(100_000);
            let sent = text.clone();
            let client = tokio::task::spawn_blocking(move || {
                client.write_all(sent.as_bytes()).unwrap();
                let mut answer = vec![0; sent.len()];
                client.read_exact(&mut answer).unwrap();
                assert!(answer == sent.as_bytes());
                client.conn.send_close_notify();
                client.flush().unwrap();
                let mut rest = Vec::new();
                client.read_to_end(&mut rest).unwrap();
                assert!(rest.is_empty(), "the server said goodbye");
            });
            let mut received = vec![0; text.len()];
            stream.read_exact(&mut received).await.unwrap();
            assert!(received == text.as_bytes());
            stream.write_all(&received).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(stream.read(&mut received).await.unwrap(), 0, "the client said goodbye");
            stream.shutdown().await.unwrap();
            client.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_is_not_one_that_ended() {
        let (mut stream, client) = connected(&TLS13).await;
        drop(client.sock);
        let error = stream.read(&mut [0; 16]).await.unwrap_err();
        // The client may have left something unread, and then the kernel says so.
        assert!(
            matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
            "{error}"
        );
    }

    /// Whoever writes sees at most one record more than the socket has taken, and it is sent when there is room.
    #[tokio::test]
    async fn what_the_socket_does_not_take_waits_in_order() {
        let (stream, mut client) = connected(&TLS13).await;
        let (_read, write) = halves(stream);
        let mut expected = Vec::new();
        let mut number = 0_u32;
        loop {
            let message: Vec<u8> = number.to_be_bytes().repeat(5_000);
            let slices = [IoSlice::new(&message[..7]), IoSlice::new(&message[7..])];
            let written = match write.try_write_vectored(&slices) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            };
            assert!(written <= message.len());
            expected.extend_from_slice(&message[..written]);
            number += 1;
        }
        assert!(write.is_behind());
        let client = tokio::task::spawn_blocking(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            received
        });
        poll_fn(|cx| write.poll_flush(cx)).await.unwrap();
        assert!(!write.is_behind());
        write.write_all(b"the end").await.unwrap();
        drop(write);
        expected.extend_from_slice(b"the end");
        assert!(client.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn nothing_is_kept_for_a_connection_that_is_idle() {
        let (stream, mut client) = connected(&TLS13).await;
        let (mut read, write) = halves(stream);
        client.write_all(b"hello").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(read.read(&mut buffer).await.unwrap(), 5);
        write.write_all(b"hello").await.unwrap();
        let ReadHalf::Tls(TlsReader(secured)) = &read else { panic!("it is with TLS") };
        let session = secured.session.lock();
        for (name, kept) in
            [("incoming", &session.incoming), ("plaintext", &session.plaintext), ("behind", &session.behind)]
        {
            assert_eq!(kept.capacity(), 0, "{name}");
        }
    }

    /// The session remembers where the half of a message is that it has seen. It must see it again when something is written,
    /// or it looks for it in vain: that would end the thread that delivers a publication.
    #[tokio::test]
    async fn half_a_message_of_tls_does_not_disturb_what_is_written() {
        let (stream, mut client) = connected(&TLS13).await;
        let (mut read, write) = halves(stream);
        write.write_all(b"first").await.unwrap();
        let mut first = [0; 5];
        client.read_exact(&mut first).unwrap();
        let StreamOwned { conn, mut sock } = client;
        let secrets = conn.dangerous_extract_secrets().unwrap();
        let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
            panic!("the suite was chosen above")
        };
        // The first bytes of a request for new keys, whose length says that more is to come.
        let mut record = vec![24, 0, 22];
        let header = [23, 3, 3, 0, u8::try_from(record.len() + AES_256_GCM.tag_len()).unwrap()];
        let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
        for (byte, of) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= of;
        }
        let sealing = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
        let nonce = Nonce::assume_unique_for_key(nonce);
        sealing.seal_in_place_append_tag(nonce, Aad::from(header), &mut record).unwrap();
        sock.write_all(&header).unwrap();
        sock.write_all(&record).unwrap();

        let ReadHalf::Tls(TlsReader(secured)) = &read else { panic!("it is with TLS") };
        let secured = secured.clone();
        let arrived = async {
            while secured.session.lock().incoming.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let mut buffer = [0; 64];
        tokio::select! {
            read = read.read(&mut buffer) => panic!("nothing was sent that can be read: {read:?}"),
            () = arrived => {}
        }
        write.write_all(b"second").await.unwrap();
        let mut sealed = [0; 5 + 6 + 1 + 16];
        sock.read_exact(&mut sealed).unwrap();
        assert_eq!(sealed[0], 23, "a record of data");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_is_slow_is_given_up() {
        let (server, _) = configs(&TLS13);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let error = TlsStream::accept(socket, server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn whoever_breaks_the_rules_is_told_and_gets_nothing_more() {
        let (stream, client) = connected(&TLS13).await;
        let (mut read, write) = halves(stream);
        let mut sock = client.sock;
        // A record that nobody encrypted with these keys, and half of another.
        let mut forged = vec![23, 3, 3, 0, 32];
        forged.resize(5 + 32, 7);
        forged.extend([23, 3, 3, 0, 32, 1]);
        sock.write_all(&forged).unwrap();
        let error = read.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(write.try_write(b"data").is_err());
        drop((read, write));
        let mut answer = Vec::new();
        _ = sock.read_to_end(&mut answer);
        assert!(answer.len() > 5, "an alert");
    }

    #[tokio::test]
    async fn whoever_speaks_plain_http_is_told_so() {
        let (server, _) = configs(&TLS13);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(TlsStream::accept(socket, server).await.is_err());
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.ends_with("begin the URL with https\n"),
            "{answer}"
        );
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(answer.contains(&format!("Content-Length: {}\r\n", body.len())));
    }

    #[tokio::test]
    async fn a_hello_of_any_length_is_kept_within_the_limit() {
        let (server, _) = configs(&TLS13);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let sending = tokio::task::spawn_blocking(move || {
            // Fragments of a hello of 64,000 bytes.
            let mut fragment = vec![22, 3, 1, 0x40, 0];
            fragment.resize(5 + 0x4000, 0);
            fragment[5..9].copy_from_slice(&[1, 0, 0xfa, 0]);
            for _ in 0..4 {
                if client.write_all(&fragment).is_err() {
                    break;
                }
                fragment[5..9].fill(0);
            }
        });
        let error = TlsStream::accept(socket, server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        sending.await.unwrap();
    }
}
