//! JWTs for a night: clients come with good ones, forged ones, revoked ones and such whose key nobody knows, and nothing of them stays.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::time::Instant;

use super::rows::jwts;
use super::yard::{Yard, heard};

const CONFIGURATION: &str = "[log]\nlevel = \"warn\"\n";
/// After so many of them the server has everything that it keeps.
const WARM: u32 = 1_000;
/// What the allocator may hold back, and the revocations that have not ended yet.
const MEMORY_NOISE: u64 = 8 << 20;
/// The server asks for keys again after a minute at the earliest.
const PAUSE: Duration = Duration::from_mins(1);

/// So many clients, one after the other.
pub(crate) async fn run(binary: &Path, count: u32) -> Result<()> {
    let configuration = [CONFIGURATION, &jwts::configuration()].concat();
    let yard = Arc::new(Yard::open(binary, &configuration).await?);
    let began = Instant::now();
    for number in 0..WARM {
        one(&yard, number).await.with_context(|| format!("client {number}"))?;
    }
    let (memory, descriptors) = (yard.server.memory()?, yard.descriptors().await?);
    for number in WARM..WARM + count {
        one(&yard, number).await.with_context(|| format!("client {number}"))?;
    }
    let grown = yard.server.memory()?.saturating_sub(memory);
    ensure!(grown <= MEMORY_NOISE, "{count} clients left {} MiB", grown >> 20);
    super::nothing_left(&yard, descriptors).await?;
    let (asked, minutes) = (yard.provider()?.asked("/good"), began.elapsed().as_secs() / PAUSE.as_secs());
    ensure!(asked as u64 <= minutes + 2, "the keys were asked for {asked} times in {minutes} minutes");
    ensure!(!yard.server.whole_log().contains("panicked at"), "the server panicked: {}", yard.server.log());
    println!(
        "issuers: {count} clients in {:.0} s; memory grew by {} KiB, and the keys were asked for {asked} times",
        began.elapsed().as_secs_f64(),
        grown >> 10
    );
    super::stop(yard).await
}

async fn one(yard: &Yard, number: u32) -> Result<()> {
    let (jwt, expected) = match number % 20 {
        1 => (jwts::any_forged(yard, number)?, "\"token_"),
        2 => (jwts::of_unknown_key(number), "\"token_invalid\""),
        3 => {
            let name = format!("revoked-{number}");
            let body = json!({ "jti": name, "until": jwts::now() + 2 }).to_string();
            let answer = yard.api("POST", "/v1/revocations", "", &body).await?;
            ensure!(answer.status == 201, "a revocation was answered {}: {}", answer.status, answer.body);
            (jwts::good_for("soak", &name), "\"token_revoked\"")
        }
        _ => (jwts::good_for("soak", &format!("good-{number}")), "40{"),
    };
    let mut socket = yard.websocket().await?;
    socket.send(&format!("40{}", json!({ "token": jwt, "resume": false }))).await?;
    let answer = heard(&mut socket).await?;
    ensure!(answer.contains(expected), "expected {expected}, heard {answer:.200}");
    Ok(())
}
