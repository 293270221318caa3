//! Whether the time that the server takes tells how much of a secret was right.
//!
//! Two kinds of wrong secrets are tried in an order made by chance, on one connection, so that whatever the machine does meanwhile meets
//! both; and their times are compared with Welch's test: a difference that is no accident gives |t| of more than 4.5. The slowest of
//! them are left out, as they are the machine's doing. A difference is believed only when each of several rounds finds it again, in the same
//! direction and with twice as many tries: what is real becomes clearer that way, and an accident does not happen thrice.
//!
//! A secret that is wrong has no kind that it could be told by but these: one that is right opens something, which tells more than any
//! time.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use tokio::time::Instant;

use crate::choices::Choices;
use crate::http::{Http, Request};
use crate::server::{AUTH_KEY, Server};

/// |t| above this is no accident: one run in a hundred thousand is beyond it by chance.
const T_MAX: f64 = 4.5;
/// Of a hundred times, the fastest that count.
const KEPT_PERCENT: usize = 90;

/// How often a difference must be found before it is one.
const ROUNDS: usize = 3;

/// Makes secrets that are wrong in one way, each another one.
type Guesses = fn(&str, &mut Choices) -> String;

/// Where secrets are tried.
#[derive(Clone, Copy)]
enum Door {
    /// With the key of the API.
    Key,
    /// With the token of a channel.
    Token,
}

/// What the time might tell.
struct Question {
    what: &'static str,
    door: Door,
    kinds: [Guesses; 2],
}

const QUESTIONS: [Question; 5] = [
    Question {
        what: "the first or the last byte of a key",
        door: Door::Key,
        kinds: [|secret, choices| wrong_at(secret, 0, choices), last_wrong],
    },
    Question {
        what: "the length of a key",
        door: Door::Key,
        kinds: [
            |secret, choices| random(secret.len(), choices),
            |secret, choices| random(secret.len() - 1, choices),
        ],
    },
    Question {
        what: "a key that is almost right or not at all",
        door: Door::Key,
        kinds: [last_wrong, |secret, choices| random(secret.len(), choices)],
    },
    Question {
        what: "the first or the last byte of a token",
        door: Door::Token,
        kinds: [|secret, choices| wrong_at(secret, 0, choices), last_wrong],
    },
    Question {
        what: "a token that is almost one of those that are known or not at all",
        door: Door::Token,
        kinds: [last_wrong, |secret, choices| random(secret.len(), choices)],
    },
];

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn letter(choices: &mut Choices) -> char {
    char::from(*choices.pick(LETTERS).unwrap_or(&b'#'))
}

fn random(length: usize, choices: &mut Choices) -> String {
    (0..length).map(|_| letter(choices)).collect()
}

/// Another letter in one place.
fn wrong_at(secret: &str, place: usize, choices: &mut Choices) -> String {
    let mut letters: Vec<char> = secret.chars().collect();
    let right = letters[place];
    while letters[place] == right {
        letters[place] = letter(choices);
    }
    letters.into_iter().collect()
}

fn last_wrong(secret: &str, choices: &mut Choices) -> String {
    wrong_at(secret, secret.len() - 1, choices)
}

/// Tries `count` secrets of each kind, in each of the places where there is one.
pub(crate) async fn run(binary: &Path, count: u32, seed: u64) -> Result<()> {
    let mut server = Server::prepare(binary, "[log]\nlevel = \"error\"\n")?;
    server.start().await?;
    let token = token(&server).await?;
    for question in QUESTIONS {
        let mut found = Vec::new();
        while is_found_again(&found) {
            if found.len() == ROUNDS {
                bail!("the time tells {}: t = {found:.2?}", question.what);
            }
            let t = compare(&server, &question, &token, count << found.len(), seed).await?;
            println!("timing: {}: t = {t:.2}", question.what);
            found.push(t);
        }
    }
    server.stop().await
}

/// Whether each round has found a difference, and always the same.
fn is_found_again(found: &[f64]) -> bool {
    found.iter().all(|t| t.abs() > T_MAX && t.signum() == found[0].signum())
}

async fn token(server: &Server) -> Result<String> {
    let mut http = Http::connect(server.address).await?;
    let headers = format!("Authorization: {AUTH_KEY}\r\n");
    let request = Request { method: "POST", path: "/channel/timing", headers: &headers, body: "" };
    let answer: serde_json::Value = serde_json::from_str(&http.exchange(&request).await?.body)?;
    Ok(answer["token"].as_str().unwrap_or_default().to_owned())
}

async fn compare(server: &Server, question: &Question, token: &str, count: u32, seed: u64) -> Result<f64> {
    let mut http = Http::connect(server.address).await?;
    // Each round makes guesses of its own.
    let mut choices = Choices::new(seed, &format!("timing {} {count}", question.what));
    let mut times = [Vec::new(), Vec::new()];
    let mut said = None;
    for _ in 0..count * 2 {
        let secret = match question.door {
            Door::Key => AUTH_KEY,
            Door::Token => token,
        };
        // Both, and one of them is thrown away: making them must not take the time that the server has to rest.
        let guesses = question.kinds.map(|kind| kind(secret, &mut choices));
        let index = usize::from(choices.one_in(2));
        let guess = &guesses[index];
        let (method, path, headers) = match question.door {
            Door::Key => ("POST", "/channel/timing".to_owned(), format!("Authorization: {guess}\r\n")),
            Door::Token => ("GET", format!("/v1/channels/timing/stream?token={guess}"), String::new()),
        };
        let began = Instant::now();
        let answer = http.exchange(&Request { method, path: &path, headers: &headers, body: "" }).await?;
        times[index].push(began.elapsed().as_secs_f64() * 1e6);
        ensure!(matches!(answer.status, 401 | 403), "a wrong secret was answered {}", answer.status);
        let answer = (answer.status, answer.body.len());
        ensure!(*said.get_or_insert(answer) == answer, "the answer itself tells {}", question.what);
    }
    let t = welch(&kept(&mut times[0]), &kept(&mut times[1]));
    ensure!(t.is_finite(), "{count} tries are too few");
    Ok(t)
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

    #[test]
    fn a_difference_is_one_that_is_found_again() {
        for found in [&[][..], &[5.0], &[-4.6, -9.0], &[5.0, 6.0, 7.0]] {
            assert!(is_found_again(found), "{found:?}");
        }
        for found in [&[4.4][..], &[5.0, 4.4], &[5.0, -6.0], &[5.0, 6.0, 0.0]] {
            assert!(!is_found_again(found), "{found:?}");
        }
    }

    #[test]
    fn guesses_are_wrong_where_they_are_said_to_be() {
        let mut choices = Choices::new(1, "guesses");
        for _ in 0..1_000 {
            let first = wrong_at("secret", 0, &mut choices);
            let last = last_wrong("secret", &mut choices);
            assert!(first.ends_with("ecret") && !first.starts_with('s') && first.len() == 6, "{first}");
            assert!(last.starts_with("secre") && !last.ends_with('t') && last.len() == 6, "{last}");
            assert_eq!(random(6, &mut choices).len(), 6);
        }
    }
}
