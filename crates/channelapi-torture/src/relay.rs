//! A link of its own between a client and the server, as thin as a bad telephone line: what passes it does so a little at a time, and now
//! and then nothing passes for a while, which is all that TCP lets anybody see of packets that were lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::choices::Choices;

/// What of it passes at a time, in parts of a second.
const PIECES: u64 = 40;
/// Once in how many pieces nothing follows for a while, and for how many milliseconds.
const STANDSTILL_RARITY: u64 = 60;
const STANDSTILL: std::ops::RangeInclusive<u64> = 100..=600;
/// On loopback the system takes megabytes for a single connection; across a network, where segments are small, it begins with little.
const SEGMENT: u32 = 1_400;
const BUFFER: u32 = 16 << 10;

pub(crate) struct Relay {
    /// Where the client connects to.
    pub(crate) address: SocketAddr,
    passed: Arc<AtomicU64>,
    /// Ends with this.
    _task: JoinSet<()>,
}

/// How a link is.
#[derive(Clone)]
struct Line {
    bytes_per_second: u64,
    choices: Choices,
    passed: Arc<AtomicU64>,
}

impl Relay {
    /// A link to a server. Each connection has so many bytes a second in each direction.
    pub(crate) async fn open(server: SocketAddr, bytes_per_second: u64, choices: Choices) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let passed = Arc::new(AtomicU64::new(0));
        let line = Line { bytes_per_second, choices, passed: Arc::clone(&passed) };
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connect(client, server, line.clone()));
            }
        });
        Ok(Self { address, passed, _task: task })
    }

    /// Bytes that have reached the client.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// Whatever ends one side ends the other.
async fn connect(client: TcpStream, server: SocketAddr, line: Line) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER)?;
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    let server = socket.connect(server).await?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let up = Line { passed: Arc::default(), ..line.clone() };
    tokio::select! {
        ended = pass(from_server, to_client, line) => ended,
        ended = pass(from_client, to_server, up) => ended,
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: Line) -> Result<()> {
    let mut piece = vec![0; usize::try_from((line.bytes_per_second / PIECES).max(64))?];
    let mut free_at = Instant::now();
    loop {
        sleep_until(free_at).await;
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return Ok(());
        }
        free_at = Instant::now() + Duration::from_secs(count as u64) / u32::try_from(line.bytes_per_second)?;
        if line.choices.one_in(STANDSTILL_RARITY) {
            free_at += line.choices.millis(STANDSTILL);
        }
        sleep_until(free_at).await;
        to.write_all(&piece[..count]).await?;
        line.passed.fetch_add(count as u64, Ordering::Relaxed);
    }
}
