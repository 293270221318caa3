//! Nobody is told that a message is stored before the sync that makes it so has returned, as strace sees it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Orders;
use crate::choices::Choices;
use crate::http::{Http, Request};
use crate::machine::{skipped, works};
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::town;
use crate::trace::{self, Accepted};

/// Of each cycle.
const MESSAGES: u32 = 1_000;
const PUBLISHERS: u32 = 8;
/// For strace to write down the end.
const TRACE_MAX: Duration = Duration::from_secs(20);

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    if !works("strace", &["--follow-forks", "--seccomp-bpf", "--trace=write"], &["true"]) {
        return Err(skipped("strace is missing or may not trace; install Debian's package `strace`"));
    }
    for cycle in 0..orders.cycles {
        round(orders, orders.seed + u64::from(cycle)).await?;
    }
    println!("sync-order: {} publications, each synced before it was answered", MESSAGES * orders.cycles);
    Ok(())
}

async fn round(orders: &Orders, seed: u64) -> Result<()> {
    let mut server = Server::prepare(&orders.binary, &town::configuration())?;
    let trace = server.folder().join("trace");
    server.wrapper = trace::OPTIONS.map(str::to_owned).to_vec();
    server.wrapper.extend(["--output".to_owned(), trace.display().to_string(), "--".to_owned()]);
    server.start().await?;
    let process = server.process()?;
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    let publishers: Vec<_> =
        (0..PUBLISHERS).map(|number| tokio::spawn(publish(Arc::clone(&site), number, seed))).collect();
    let mut accepted = Vec::new();
    for publisher in publishers {
        accepted.extend(publisher.await??);
    }
    server.stop().await?;
    trace::prove_order(&complete(&trace, &process.as_raw_nonzero().to_string()).await?, &accepted)
}

/// Publishes one message after the other, and keeps what was accepted.
async fn publish(site: Arc<Site>, number: u32, seed: u64) -> Result<Vec<Accepted>> {
    let mut choices = Choices::new(seed, &format!("sync-order-{number}"));
    let mut http = Http::connect(site.address).await?;
    let mut accepted = Vec::new();
    for message in 0..MESSAGES / PUBLISHERS {
        let mark = format!("mark-{number}-{message}");
        let path = format!("/v1/channels/plain-{}/messages", choices.number(0..=3));
        let body = json!({ "data": { "is": mark } }).to_string();
        let request = Request { method: "POST", path: &path, headers: &site.authorization(), body: &body };
        let response = http.exchange(&request).await?;
        ensure!(response.status == 201, "{path} was answered {}: {}", response.status, response.body);
        let answer: Value = serde_json::from_str(&response.body)?;
        let id = answer["id"].as_str().with_context(|| format!("no id in {answer}"))?.to_owned();
        accepted.push(Accepted { mark, id });
    }
    Ok(accepted)
}

/// strace outlives the server for a moment.
async fn complete(trace: &Path, process: &str) -> Result<String> {
    let began = Instant::now();
    loop {
        let text = String::from_utf8_lossy(&fs::read(trace)?).into_owned();
        let ends = |line: &str| {
            line.split_once(' ')
                .is_some_and(|(thread, what)| thread == process && what.contains("+++ exited"))
        };
        if text.lines().rev().take(50).any(ends) {
            return Ok(text);
        }
        ensure!(began.elapsed() < TRACE_MAX, "strace did not finish within {TRACE_MAX:?}");
        sleep(Duration::from_millis(50)).await;
    }
}
