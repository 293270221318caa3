//! Clients with JWTs while somebody sets the wall clock: whoever is here stays, and is told of the end when it would have been; whoever
//! comes is judged by the clock that there is.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use crate::date::unix_seconds;
use crate::http::{Http, Request};
use crate::jwt::{hs256, sign};
use crate::link::{Link, Transport};
use crate::site::Site;

const SECRET: &str = "a secret of the clock, with more than 32 bytes";
const CHANNEL: &str = "timed";
const PATIENCE: Duration = Duration::from_secs(20);

/// When the JWT ends of whom the server has to tell so, in seconds after it came.
const ENDS_AFTER: i64 = 15;
/// So many seconds before that it is told.
const NOTICE: u64 = 10;
/// What the server may be late with it. It looks once a second, and clocks are read to the second.
const LATE: Duration = Duration::from_secs(6);
const EARLY: Duration = Duration::from_secs(2);

/// Added to the server's configuration.
pub(super) fn configuration() -> String {
    format!("\n[[jwt]]\nissuer = \"clock\"\naudience = [\"push\"]\nsecret = \"{SECRET}\"\n")
}

/// Clients that are here before the clock jumps.
pub(super) struct Bearers {
    /// Its JWT is good for longer than the run takes.
    stays: Link,
    /// Its JWT is good for a moment.
    ends: Link,
    came_at: Instant,
    /// When the second of them heard that it ends.
    told_at: Option<Instant>,
    /// What the first of them came with.
    jwt: String,
    published: u32,
}

impl Bearers {
    pub(super) async fn come(site: &Site) -> Result<Self> {
        let jwt = jwt(unix_seconds()?, &json!({}));
        let stays = enter(site, &jwt).await?.map_err(|refused| anyhow::anyhow!("{refused}"));
        let stays = stays.context("a good JWT was refused before any jump")?;
        let short = self::jwt(unix_seconds()?, &json!({ "exp": unix_seconds()? + ENDS_AFTER }));
        let ends = enter(site, &short).await?.map_err(|refused| anyhow::anyhow!("{refused}"));
        let ends = ends.context("a JWT that ends soon was refused")?;
        Ok(Self { stays, ends, came_at: Instant::now(), told_at: None, jwt, published: 0 })
    }

    /// The clock is so many hours ahead of ours, or behind.
    pub(super) async fn jumped(&mut self, site: &Site, hours: i64) -> Result<()> {
        // Whoever was here before hears on.
        self.published += 1;
        publish(site, self.published).await?;
        let event = format!(r#"["message",{}"#, self.published);
        let told = hear(&mut self.stays, &event).await.context("to somebody who may stay")?;
        ensure!(told.is_none(), "somebody who may stay was told of an end");
        let told = hear(&mut self.ends, &event).await.context("to somebody whose JWT ends soon")?;
        self.told_at = self.told_at.or(told);
        // Whoever comes is judged by this clock. An end lies behind an hour's jump; to be early passes, but not by years.
        let (there, here) = (unix_seconds()? + hours * 3600, unix_seconds()?);
        let is_near = hours.abs() <= 24;
        let (old, behind) = match (hours, is_near) {
            (0, _) => (None, None),
            (1.., _) => (Some("token_expired"), Some("token_expired")),
            (_, true) => (Some("token_not_yet_valid"), None),
            (_, false) => (Some("token_invalid"), Some("token_invalid")),
        };
        let (soon, never) = (json!({ "nbf": there + 300 }), json!({ "nbf": there + 3_000 }));
        for (what, jwt, expected) in [
            ("from before the jump", self.jwt.clone(), old),
            ("that was just issued", jwt(there, &json!({})), None),
            ("that is not good yet", jwt(there, &soon), Some("token_not_yet_valid")),
            ("that ends before it begins", jwt(there, &never), Some("token_invalid")),
            ("whose time is over", jwt(there, &json!({ "exp": there - 60 })), Some("token_expired")),
            ("without a time of issue", jwt(there, &json!({ "iat": null, "exp": here + 600 })), behind),
        ] {
            let refused = enter(site, &jwt).await?.err();
            let code = refused.as_ref().and_then(|refused| refused["data"]["code"].as_str());
            ensure!(code == expected, "a JWT {what} should have led to {expected:?}, and led to {refused:?}");
        }
        Ok(())
    }

    /// All jumps are over.
    pub(super) async fn told(mut self) -> Result<()> {
        let due = self.came_at + Duration::from_secs(ENDS_AFTER.unsigned_abs() - NOTICE);
        let told_at = match self.told_at {
            Some(told_at) => told_at,
            None => timeout_at(due + LATE, told(&mut self.ends))
                .await
                .context("nobody was told that a JWT ends")??,
        };
        let after = told_at - self.came_at;
        ensure!(told_at + EARLY > due && told_at < due + LATE, "the end of a JWT was told after {after:?}");
        Ok(())
    }
}

/// A JWT that is issued at a time, and good for ten minutes, with other claims in place of some.
fn jwt(now: i64, others: &Value) -> String {
    let mut claims = json!({"iss": "clock", "aud": "push", "sub": "ann", "iat": now, "exp": now + 600, "channels": [CHANNEL]});
    for (name, value) in others.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    sign(SECRET, &hs256(), &claims.to_string())
}

/// Enters with a JWT, or learns why not.
async fn enter(site: &Site, jwt: &str) -> Result<Result<Link, Value>> {
    let mut link = timeout(PATIENCE, Link::connect(site.address, Transport::WebSocket)).await??;
    link.send(&format!("0{}", json!({ "token": jwt }))).await?;
    let answer = timeout(PATIENCE, next(&mut link)).await.context("a JWT was not answered")??;
    match answer.strip_prefix('4') {
        Some(refused) => Ok(Err(serde_json::from_str(refused)?)),
        None => Ok(Ok(link)),
    }
}

async fn next(link: &mut Link) -> Result<String> {
    loop {
        if let Some(packet) = link.receive().await? {
            return Ok(packet);
        }
    }
}

/// Waits for an event. Says when the end of the JWT was told meanwhile, if it was.
async fn hear(link: &mut Link, event: &str) -> Result<Option<Instant>> {
    let mut told_at = None;
    let heard = async {
        loop {
            let packet = next(link).await?;
            if is_told(&packet) {
                told_at = Some(Instant::now());
            }
            if packet.get(1..).is_some_and(|rest| rest.starts_with(event)) {
                return Ok::<_, anyhow::Error>(());
            }
        }
    };
    timeout(PATIENCE, heard).await.with_context(|| format!("{event} did not come"))??;
    Ok(told_at)
}

/// Waits to be told that the JWT ends.
async fn told(link: &mut Link) -> Result<Instant> {
    while !is_told(&next(link).await?) {}
    Ok(Instant::now())
}

fn is_told(packet: &str) -> bool {
    packet.contains(r#""code":"expiring""#)
}

async fn publish(site: &Site, number: u32) -> Result<()> {
    let (path, headers) = (format!("/message/{CHANNEL}"), site.authorization());
    let body = json!({ "message": number }).to_string();
    let request = Request { method: "POST", path: &path, headers: &headers, body: &body };
    let answer = Http::connect(site.address).await?.exchange(&request).await?;
    ensure!(answer.status == 200, "a publication was answered {}: {}", answer.status, answer.body);
    Ok(())
}
