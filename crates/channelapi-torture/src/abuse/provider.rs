//! A provider of public keys that behaves as badly as it is asked to, one way for each path.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Nobody has its private half: what it verifies was never signed.
pub(super) const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"published","use":"sig","alg":"ES256","x":"HqQcV5IBmrZcDkEgC8fUbZ6pHK_jpixT0VYyo9B1hNk","y":"POsxG_IGc3F4mxODDl9UDQX5rhMGsvfKCLpJ2d1e7cc"}]}"#;
/// How much of an endless answer is offered.
const ENDLESS: usize = 64 << 20;

/// Ways to behave.
pub(super) const CROOKED: [&str; 8] =
    ["silent", "slow", "huge", "announced", "garbage", "redirect", "empty", "compressed"];

pub(super) struct Provider {
    pub(super) address: SocketAddr,
    asked: Asked,
    task: JoinHandle<()>,
}

/// How often each path was asked for, and how many bytes of the answers were taken at most.
type Asked = Arc<Mutex<BTreeMap<String, (usize, usize)>>>;

impl Provider {
    pub(super) async fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, asked) = (listener.local_addr()?, Asked::default());
        let task = tokio::spawn(serve(listener, Arc::clone(&asked)));
        Ok(Self { address, asked, task })
    }

    /// How often a path was asked for.
    pub(super) fn asked(&self, path: &str) -> usize {
        self.of(path).0
    }

    /// The most bytes that were taken of one of its answers.
    pub(super) fn taken(&self, path: &str) -> usize {
        self.of(path).1
    }

    fn of(&self, path: &str) -> (usize, usize) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(path).copied().unwrap_or_default()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, asked: Asked) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&asked)));
    }
}

/// Whether the server hangs up in the middle is its own business.
async fn answer(mut stream: TcpStream, asked: Asked) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let note = |taken: usize| {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = asked.entry(path.clone()).or_default();
        entry.1 = entry.1.max(taken);
        entry.0 += usize::from(taken == 0);
    };
    note(0);
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let whole = |head: &str, body: &str| format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let text = match &*path {
        "/silent" => {
            let _ = stream.read_buf(&mut Vec::new()).await;
            return;
        }
        "/slow" => return drip(stream, &whole(ok, JWKS)).await,
        "/huge" => return flood(stream, ok, note).await,
        "/announced" => format!("{ok}Content-Length: 1000000000000\r\n\r\n{JWKS}"),
        "/garbage" => whole(ok, "<!doctype html><title>Sign in</title>"),
        "/redirect" => "HTTP/1.1 302 Found\r\nLocation: /good\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/empty" => whole(ok, r#"{"keys":[]}"#),
        "/compressed" => whole(&format!("{ok}Content-Encoding: gzip\r\n"), JWKS),
        _ => whole(ok, JWKS),
    };
    let _ = stream.write_all(text.as_bytes()).await;
}

async fn drip(mut stream: TcpStream, text: &str) {
    for byte in text.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn flood(mut stream: TcpStream, head: &str, note: impl Fn(usize)) {
    let mut taken = 0;
    if stream.write_all(format!("{head}\r\n").as_bytes()).await.is_err() {
        return;
    }
    while taken < ENDLESS && stream.write_all(&[b' '; 16 << 10]).await.is_ok() {
        taken += 16 << 10;
        note(taken);
    }
}
