//! What is below HTTP and WebSocket: a TCP connection, with TLS or without, or a unix socket.
//!
//! HTTP reads and writes a [`Stream`]. When a WebSocket takes over, the stream is split: a connection's task reads from one
//! half, and whoever has something for its client writes into the other.

mod buffer;
mod halves;
mod tls;

pub(crate) use buffer::with_read_buffer;
pub(crate) use halves::{ReadHalf, WriteHalf};
pub(crate) use tls::TlsStream;

use rustix::io::ioctl_fionread;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Over the network.
    Tcp(TcpStream),
    /// From this machine.
    Unix(UnixStream),
    /// Over the network, with TLS.
    Tls(TlsStream),
}

/// A connection on its way to another core, or on none yet.
pub(crate) enum Travelling {
    /// It is where it was.
    Stays(Stream),
    /// Nobody waits for it.
    Tcp(std::net::TcpStream),
    /// Nobody waits for it.
    Unix(std::os::unix::net::UnixStream),
}

impl Travelling {
    /// Goes on in the runtime that calls this.
    pub(crate) fn arrive(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Stays(stream) => stream,
            Self::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// Calls the same method of whatever stream it is.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl Stream {
    /// Leaves the runtime that it was accepted in. One that already speaks TLS stays.
    pub(crate) fn leave(self) -> io::Result<Travelling> {
        Ok(match self {
            Self::Tcp(stream) => Travelling::Tcp(stream.into_std()?),
            Self::Unix(stream) => Travelling::Unix(stream.into_std()?),
            Self::Tls(_) => Travelling::Stays(self),
        })
    }

    /// Waits until something has arrived, or the client is gone. It is left where it is.
    pub(crate) async fn first_byte(&self) -> io::Result<()> {
        let mut byte = [MaybeUninit::uninit()];
        let looked = match self {
            Self::Tcp(stream) => {
                stream.async_io(Interest::READABLE, || SockRef::from(stream).peek(&mut byte)).await
            }
            Self::Unix(stream) => {
                stream.async_io(Interest::READABLE, || SockRef::from(stream).peek(&mut byte)).await
            }
            // A client that has shaken hands has sent something.
            Self::Tls(_) => return Ok(()),
        };
        looked.map(drop)
    }

    /// Whether something has arrived, also if nobody was told yet.
    pub(crate) fn has_arrived(&self) -> bool {
        let waiting = match self {
            Self::Tcp(stream) => ioctl_fionread(stream),
            Self::Unix(stream) => ioctl_fionread(stream),
            Self::Tls(_) => return true,
        };
        waiting.is_ok_and(|bytes| bytes > 0)
    }

    /// One half to read from, and one to write to.
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
            Self::Tls(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tls(read), WriteHalf::Tls(write))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
