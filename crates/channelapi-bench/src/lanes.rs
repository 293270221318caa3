//! Publishers under load: each has a connection of its own and one request on its way, and sends the next when that is answered.
//!
//! The same code asks every server, so that what it costs is the same for all.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::backend::{DATA_BYTES, waited_until};
use crate::publisher::response_length;
use crate::receipts;
use crate::statistics::real_u64;

const ANSWER_MAX: usize = 64 << 10;

/// What a publisher says, and what it must hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `POST /message/{channel}`.
    Seed,
    /// `POST /v1/channels/{channel}/messages`.
    V1,
    /// The same with `"volatile":true`.
    V1Volatile,
    /// `XADD` to a stream.
    Redis,
}

/// What is published, and for how long.
pub(crate) struct Work {
    /// How many channels take turns.
    pub(crate) channels: u64,
    /// No more publications than so many.
    pub(crate) publications: u64,
    /// No request is sent after this time.
    pub(crate) until: Instant,
    /// How many are due in a second, from all publishers together; without it each sends as soon as it can.
    pub(crate) rate: Option<f64>,
}

/// What came of it.
pub(crate) struct Load {
    /// From before a request was written until its answer was read; shortest first.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
}

/// The publishers.
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    published: u64,
}

struct Lane {
    stream: TcpStream,
    dialect: Dialect,
    /// What every request's head holds besides its length.
    headers: String,
    request: Vec<u8>,
    body: String,
    answer: Vec<u8>,
}

impl Lanes {
    pub(crate) async fn connect(
        address: SocketAddr,
        auth_key: &str,
        dialect: Dialect,
        count: usize,
    ) -> Result<Self> {
        let mut lanes = Vec::new();
        for _ in 0..count {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let headers = format!(
                "Host: {address}\r\nAuthorization: {auth_key}\r\nContent-Type: application/json\r\n\
                 Content-Length: "
            );
            let (request, body, answer) = Default::default();
            lanes.push(Lane { stream, dialect, headers, request, body, answer });
        }
        Ok(Self { lanes, published: 0 })
    }

    /// Publishes from all lanes at once. Numbers go on where they ended before.
    pub(crate) async fn publish(&mut self, work: &Work) -> Result<Load> {
        let first = self.published;
        let end = first.saturating_add(work.publications);
        let (next, until, channels) = (Arc::new(AtomicU64::new(first)), work.until, work.channels);
        let interval = work.rate.map(|rate| Duration::from_secs(1).div_f64(rate));
        let started = Instant::now();
        let mut running = JoinSet::new();
        for mut lane in self.lanes.drain(..) {
            let next = next.clone();
            running.spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        break;
                    }
                    let (channel, data) = (channel(number, channels), receipts::data(number, DATA_BYTES));
                    let sent = match interval {
                        Some(interval) => {
                            let due = started + interval.mul_f64(real_u64(number - first));
                            if due >= until {
                                break;
                            }
                            waited_until(due).await
                        }
                        None => Instant::now(),
                    };
                    lane.publish(&channel, &data).await?;
                    latencies.push(sent.elapsed());
                }
                anyhow::Ok((lane, latencies))
            });
        }
        let mut latencies = Vec::new();
        while let Some(ended) = running.join_next().await {
            let (lane, of_lane) = ended??;
            self.lanes.push(lane);
            latencies.extend(of_lane);
        }
        let elapsed = started.elapsed();
        latencies.sort_unstable();
        self.published += latencies.len() as u64;
        Ok(Load { latencies, elapsed })
    }
}

/// The channel of a publication: one of so many, in an order that looks random.
pub(crate) fn channel(number: u64, channels: u64) -> String {
    channel_name((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % channels)
}

/// Each of the channels by its index.
pub(crate) fn channel_name(index: u64) -> String {
    format!("user-{index:06}")
}

impl Lane {
    async fn publish(&mut self, channel: &str, data: &str) -> Result<()> {
        self.write(channel, data)?;
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        while !self.dialect.is_answered(&self.answer)? {
            ensure!(self.answer.len() <= ANSWER_MAX, "the answer is longer than {ANSWER_MAX} bytes");
            let count = self.stream.read_buf(&mut self.answer).await?;
            ensure!(count > 0, "the server closed the connection");
        }
        Ok(())
    }

    fn write(&mut self, channel: &str, data: &str) -> Result<()> {
        let Self { dialect, headers, request, body, .. } = self;
        request.clear();
        body.clear();
        let path = match dialect {
            Dialect::Redis => {
                let (name, length) = (channel.len(), data.len());
                write!(request, "*5\r\n$4\r\nXADD\r\n${name}\r\n{channel}\r\n$1\r\n*\r\n")?;
                write!(request, "$4\r\ndata\r\n${length}\r\n{data}\r\n")?;
                return Ok(());
            }
            Dialect::Seed => {
                body.extend(["{\"message\":", data, "}"]);
                ["/message/", channel, ""]
            }
            Dialect::V1 => {
                body.extend(["{\"data\":", data, "}"]);
                ["/v1/channels/", channel, "/messages"]
            }
            Dialect::V1Volatile => {
                body.extend(["{\"data\":", data, ",\"volatile\":true}"]);
                ["/v1/channels/", channel, "/messages"]
            }
        };
        let [before, channel, behind] = path;
        let length = body.len();
        write!(request, "POST {before}{channel}{behind} HTTP/1.1\r\n{headers}{length}\r\n\r\n{body}")?;
        Ok(())
    }
}

impl Dialect {
    /// Whether this is a whole answer. One that does not say what was asked for is an error.
    fn is_answered(self, answer: &[u8]) -> Result<bool> {
        let expected = match self {
            Self::Redis => return is_id(answer),
            Self::Seed => "\"success\": true",
            Self::V1 => "\"durability\":\"fsync\"",
            Self::V1Volatile => "\"durability\":\"none\"",
        };
        let Some((_, total)) = response_length(answer)? else { return Ok(false) };
        if answer.len() < total {
            return Ok(false);
        }
        let is_as_expected = answer.starts_with(b"HTTP/1.1 20")
            && answer.windows(expected.len()).any(|window| window == expected.as_bytes());
        ensure!(is_as_expected, "the server answered {:?}", String::from_utf8_lossy(answer));
        Ok(true)
    }
}

/// Whether this is a whole bulk string of Redis, as `XADD` answers.
fn is_id(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(2).position(|window| window == b"\r\n") else { return Ok(false) };
    let Some(length) = answer[..end].strip_prefix(b"$") else {
        bail!("Redis answered {:?}", String::from_utf8_lossy(answer))
    };
    let length: usize = std::str::from_utf8(length)?.parse().context("Redis gave no id")?;
    Ok(answer.len() >= end + 2 + length + 2)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn channels_are_spread() {
        let channels: HashSet<_> = (0..1000).map(|number| channel(number, 100)).collect();
        assert_eq!(channels.len(), 100);
        assert_eq!(channel(7, 1), "user-000000");
    }

    #[test]
    fn answers_are_whole_and_say_what_was_asked_for() {
        let check = |dialect: Dialect, answer: &str| {
            for length in 0..answer.len() {
                assert!(
                    !dialect.is_answered(&answer.as_bytes()[..length]).unwrap(),
                    "{answer:?} at {length}"
                );
            }
            assert!(dialect.is_answered(answer.as_bytes()).unwrap());
        };
        check(Dialect::Redis, "$15\r\n1526919030474-0\r\n");
        check(Dialect::Seed, "HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"success\": true}");
        check(Dialect::V1, "HTTP/1.1 201 Created\r\ncontent-length: 22\r\n\r\n{\"durability\":\"fsync\"}");
        for (dialect, answer) in [
            (Dialect::Redis, "-ERR no\r\n"),
            (Dialect::Seed, "HTTP/1.1 403 Forbidden\r\ncontent-length: 17\r\n\r\n{\"success\": true}"),
            (Dialect::V1, "HTTP/1.1 201 Created\r\ncontent-length: 23\r\n\r\n{\"durability\":\"memory\"}"),
        ] {
            assert!(dialect.is_answered(answer.as_bytes()).is_err(), "{answer:?}");
        }
    }

    /// At one a second each of 64 publishers waited for its turn, the last one for a minute after the time was over.
    #[tokio::test]
    async fn nothing_is_published_when_the_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut lanes = Lanes::connect(listener.local_addr().unwrap(), "", Dialect::Redis, 4).await.unwrap();
        let server = tokio::spawn(async move {
            let mut streams = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                streams.push(tokio::spawn(async move {
                    while stream.read(&mut request).await.unwrap() > 0 {
                        stream.write_all(b"$3\r\n1-0\r\n").await.unwrap();
                    }
                }));
            }
        });
        let until = Instant::now() + Duration::from_millis(300);
        let work = Work { channels: 1, publications: u64::MAX, until, rate: Some(0.1) };
        let load = tokio::time::timeout(Duration::from_secs(8), lanes.publish(&work)).await.unwrap().unwrap();
        assert_eq!(load.latencies.len(), 1, "the next one is due after ten seconds");
        server.abort();
    }

    #[tokio::test]
    async fn every_lane_publishes_and_all_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut commands = JoinSet::new();
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().await.unwrap();
                commands.spawn(async move {
                    let (mut count, mut received) = (0, Vec::new());
                    while stream.read_buf(&mut received).await.unwrap() > 0 {
                        if received.ends_with(b"\"}\r\n") {
                            assert!(received.starts_with(b"*5\r\n$4\r\nXADD\r\n$11\r\nuser-0000"));
                            received.clear();
                            stream.write_all(b"$3\r\n1-0\r\n").await.unwrap();
                            count += 1;
                        }
                    }
                    count
                });
            }
            commands.join_all().await.into_iter().sum::<usize>()
        });
        let mut lanes = Lanes::connect(address, "", Dialect::Redis, 3).await.unwrap();
        let until = Instant::now() + Duration::from_mins(1);
        let load =
            lanes.publish(&Work { channels: 10, publications: 100, until, rate: Some(1e5) }).await.unwrap();
        assert_eq!(load.latencies.len(), 100);
        drop(lanes);
        assert_eq!(server.await.unwrap(), 100);
    }
}
