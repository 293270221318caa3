//! A socket of somebody with bad intentions: any bytes out, answers in, and the end of the connection awaited.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::http::Response;
use crate::websocket::TIGHT_BUFFER;

/// Long enough for a busy machine, and longer than any deadline of the server that a case waits for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    opened: Instant,
}

impl Wire {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new(), opened: Instant::now() })
    }

    /// From an address of this machine that is not the usual one.
    pub(super) async fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new(), opened: Instant::now() })
    }

    /// Of somebody for whom the kernel keeps next to nothing.
    pub(super) async fn connect_tight(address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(TIGHT_BUFFER)?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new(), opened: Instant::now() })
    }

    /// Sends as much as the server takes. Whether it hangs up in the middle is seen by whoever reads.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(PATIENCE, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Sends as much as the kernel takes at once.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // What it does not take is not missed.
        let _ = self.stream.try_write(bytes);
    }

    /// Whether the server has hung up already.
    pub(super) fn is_over(&mut self) -> bool {
        match self.stream.try_read_buf(&mut self.received) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// The next answer. The connection may stay open behind it.
    pub(super) async fn answer(&mut self) -> Result<Response> {
        let reading = async {
            loop {
                if let Some(response) = Response::take(&mut self.received)? {
                    return Ok(response);
                }
                let read = self.stream.read_buf(&mut self.received).await?;
                ensure!(read > 0, "the server hung up without an answer");
            }
        };
        timeout(PATIENCE, reading).await.context("the server did not answer")?
    }

    /// The head of the next answer, whose body may have no end.
    pub(super) async fn head(&mut self) -> Result<String> {
        let reading = async {
            loop {
                if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                    return Ok(String::from_utf8_lossy(&self.received[..end]).into_owned());
                }
                let read = self.stream.read_buf(&mut self.received).await?;
                ensure!(read > 0, "the server hung up without an answer");
            }
        };
        timeout(PATIENCE, reading).await.context("the server did not answer")?
    }

    /// Everything that is answered before the server hangs up, and how long after the beginning it does.
    pub(super) async fn rest(mut self) -> Result<(Vec<Response>, Duration)> {
        let took = self.read_to_end().await?;
        let mut answers = Vec::new();
        while let Some(answer) = Response::take(&mut self.received).unwrap_or_default() {
            answers.push(answer);
        }
        Ok((answers, took))
    }

    /// The end of the connection, whatever was said before.
    pub(super) async fn ended(mut self) -> Result<Duration> {
        self.read_to_end().await
    }

    async fn read_to_end(&mut self) -> Result<Duration> {
        let reading = async { while let Ok(1..) = self.stream.read_buf(&mut self.received).await {} };
        timeout(PATIENCE, reading).await.context("the server did not hang up")?;
        Ok(self.opened.elapsed())
    }

    /// The end of the connection, with nothing said before.
    pub(super) async fn hung_up(self) -> Result<Duration> {
        let (answers, took) = self.rest().await?;
        ensure!(answers.is_empty(), "the server answered {}", answers[0].head);
        Ok(took)
    }

    /// Ends the connection with a reset instead of a farewell.
    pub(super) fn reset(self) -> Result<()> {
        Ok(self.stream.set_zero_linger()?)
    }
}
