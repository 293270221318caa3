//! Whether the time that the server takes tells how much of a secret was right.
//!
//! Two kinds of wrong secrets are tried in an order made by chance, on one connection, and their times compared with Welch's test: a
//! difference that is no accident gives |t| of more than 4.5. The slowest of them are left out, as they are the machine's doing.

use std::path::Path;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::choices::Choices;
use crate::http::{Http, Request};
use crate::server::{AUTH_KEY, Server};

/// |t| above this is no accident: one run in a hundred thousand is beyond it by chance.
const T_MAX: f64 = 4.5;
/// Of a hundred times, the fastest that count.
const KEPT_PERCENT: usize = 90;

/// Tries `count` secrets of each kind, in each of the places where there is one.
pub(crate) async fn run(binary: &Path, count: u32, seed: u64) -> Result<()> {
    let mut server = Server::prepare(binary, "[log]\nlevel = \"error\"\n")?;
    server.start().await?;
    let token = token(&server).await?;
    let first_wrong = |secret: &str| format!("#{}", &secret[1..]);
    let last_wrong = |secret: &str| format!("{}#", &secret[..secret.len() - 1]);
    let key = |key: String| ("/channel/timing".to_owned(), format!("Authorization: {key}\r\n"));
    let bearer = |token: String| {
        ("/v1/channels/timing/stream".to_owned(), format!("Authorization: Bearer {token}\r\n"))
    };
    for (what, one, other) in [
        ("the first or the last byte of a key", key(first_wrong(AUTH_KEY)), key(last_wrong(AUTH_KEY))),
        ("the length of a key", key("x".repeat(AUTH_KEY.len())), key("x".repeat(AUTH_KEY.len() - 1))),
        ("the first or the last byte of a token", bearer(first_wrong(&token)), bearer(last_wrong(&token))),
    ] {
        let t = compare(&server, &one, &other, count, seed).await?;
        println!("timing: {what}: t = {t:.2}");
        ensure!(t.abs() < T_MAX, "the time tells {what}: t = {t:.2}");
    }
    server.stop().await
}

async fn token(server: &Server) -> Result<String> {
    let mut http = Http::connect(server.address).await?;
    let headers = format!("Authorization: {AUTH_KEY}\r\n");
    let request = Request { method: "POST", path: "/channel/timing", headers: &headers, body: "" };
    let answer: serde_json::Value = serde_json::from_str(&http.exchange(&request).await?.body)?;
    Ok(answer["token"].as_str().unwrap_or_default().to_owned())
}

async fn compare(
    server: &Server,
    one: &(String, String),
    other: &(String, String),
    count: u32,
    seed: u64,
) -> Result<f64> {
    let mut http = Http::connect(server.address).await?;
    let mut choices = Choices::new(seed, "timing");
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..count * 2 {
        let index = usize::from(choices.one_in(2));
        let (path, headers) = if index == 0 { one } else { other };
        let method = if path.starts_with("/v1") { "GET" } else { "POST" };
        let began = Instant::now();
        let answer = http.exchange(&Request { method, path, headers, body: "" }).await?;
        times[index].push(began.elapsed().as_secs_f64() * 1e6);
        ensure!(matches!(answer.status, 401 | 403), "a wrong secret was answered {}", answer.status);
    }
    Ok(welch(&kept(&mut times[0]), &kept(&mut times[1])))
}

fn kept(times: &mut [f64]) -> Vec<f64> {
    times.sort_by(f64::total_cmp);
    times[..times.len() * KEPT_PERCENT / 100].to_vec()
}

/// Welch's t.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let figures = |times: &[f64]| {
        #[expect(clippy::cast_precision_loss, reason = "there are not so many")]
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((one, of_one), (other, of_other)) = (figures(one), figures(other));
    (one - other) / (of_one + of_other).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(choices: &mut Choices, mean: u64) -> Vec<f64> {
        (0..5_000).map(|_| f64::from(u32::try_from(choices.number(mean - 10..=mean + 10)).unwrap())).collect()
    }

    #[test]
    fn a_difference_is_told_from_an_accident() {
        let mut choices = Choices::new(1, "welch");
        let (one, same, other) =
            (times(&mut choices, 100), times(&mut choices, 100), times(&mut choices, 101));
        assert!(welch(&one, &same).abs() < T_MAX, "{}", welch(&one, &same));
        assert!(welch(&one, &other).abs() > T_MAX, "{}", welch(&one, &other));
    }
}
