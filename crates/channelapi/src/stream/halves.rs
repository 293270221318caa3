//! The two halves of a stream that carries a WebSocket.

use super::tls::{TlsReader, TlsWriter};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{tcp, unix};

/// What a connection's task reads.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    /// Of a TCP connection.
    Tcp(tcp::OwnedReadHalf),
    /// Of a unix socket.
    Unix(unix::OwnedReadHalf),
    /// Of a connection with TLS.
    Tls(TlsReader),
}

/// Where a client's frames go. Dropping it ends our side of the stream.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    /// Of a TCP connection.
    Tcp(tcp::OwnedWriteHalf),
    /// Of a unix socket.
    Unix(unix::OwnedWriteHalf),
    /// Of a connection with TLS.
    Tls(TlsWriter),
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(cx, buffer),
            Self::Unix(half) => Pin::new(half).poll_read(cx, buffer),
            Self::Tls(half) => Pin::new(half).poll_read(cx, buffer),
        }
    }
}

impl WriteHalf {
    /// Writes what the stream takes at once. With TLS some of it may still wait: see [`WriteHalf::is_behind`].
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.as_ref().try_write(bytes),
            Self::Unix(half) => half.as_ref().try_write(bytes),
            Self::Tls(half) => half.try_write(bytes),
        }
    }

    /// The same for bytes in several places.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.as_ref().try_write_vectored(slices),
            Self::Unix(half) => half.as_ref().try_write_vectored(slices),
            Self::Tls(half) => half.try_write_vectored(slices),
        }
    }

    /// Waits until the stream may take something.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => half.as_ref().poll_write_ready(cx),
            Self::Unix(half) => half.as_ref().poll_write_ready(cx),
            Self::Tls(half) => half.poll_write_ready(cx),
        }
    }

    /// Whether some of what was written is not sent. [`WriteHalf::poll_flush`] sends it.
    pub(crate) fn is_behind(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(half) => half.is_behind(),
        }
    }

    /// Sends everything that was written.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(half) => half.poll_flush(cx),
        }
    }

    /// Writes and sends all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| self.poll_write_ready(cx)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }
}
