//! TLS on a TCP connection, as small as it can be while nothing happens.
//!
//! `session.rs` turns records into data and data into records; here is the socket, and who reads and writes when. A frame
//! is encrypted and written by whoever has it.
//!
//! Invariants:
//! - Nothing is encrypted while something waits behind the socket, so that what waits is one record at most, and whatever
//!   TLS itself has to say.
//! - The session is locked for moments, and nothing else while it is.

mod session;

use channelapi_core::limits::TLS_HANDSHAKE_TIMEOUT;
use parking_lot::Mutex;
use rustls::ServerConfig;
use session::{RECORD_DATA_BYTES, Session};
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

thread_local! {
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

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// Shakes hands with a client, which must be quick about it.
    pub(crate) async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = Session::new(config)?;
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
        self.0.session.lock().protocol()
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
            if session.is_open() {
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
            if buffer.filled().len() > before || session.is_closed() {
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
        let received = session.receive(buffer, |space| self.socket.try_read(space));
        if received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            // The client should learn why, if it can be told at once.
            _ = self.send_behind(session);
        }
        received.into()
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        self.send_behind(&mut session)?;
        let mut taken = 0;
        while taken < bytes.len() && !session.is_behind() {
            let record = &bytes[taken..bytes.len().min(taken + RECORD_DATA_BYTES)];
            session.send(record, |sealed| self.socket.try_write(sealed))?;
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

    /// Sends what waits, as far as the socket takes it.
    fn send_behind(&self, session: &mut Session) -> io::Result<()> {
        session.send_behind(|waiting| self.socket.try_write(waiting))
    }

    fn poll_send_behind(&self, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.send_behind(session)?;
            if !session.is_behind() {
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
        session.say_goodbye();
        _ = self.send_behind(&mut session);
        // It fails when the connection is gone already.
        _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
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
        self.0.session.lock().is_behind()
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
mod tests;
