//! `channelapi jwt`: makes JWTs for trying things out, and says why one is not taken.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use channelapi_core::limits::JWT_LEEWAY;

use crate::{
    config::jwt::{Issuer, KeySource},
    identity::{Issuers, SignRequest, sign},
    output::try_print,
};

/// What is asked for.
#[derive(Debug)]
pub struct Jwt {
    /// Who issues JWTs, by the configuration.
    pub issuers: Vec<Issuer>,
    /// What to do.
    pub verb: Verb,
}

/// What to do.
#[derive(Debug)]
pub enum Verb {
    /// Make a JWT of this issuer, which may have several entries.
    Sign(Vec<Issuer>, Wish),
    /// Judge this one.
    Verify(String),
}

/// What a JWT is to say.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The channels it opens.
    pub channels: Vec<String>,
    /// The user.
    pub subject: Option<String>,
    /// Its own name.
    pub id: Option<String>,
    /// How long it is good.
    pub ttl: Duration,
    /// A private key, where the configuration has only the public one.
    pub key_file: Option<std::path::PathBuf>,
    /// The name of that key.
    pub kid: Option<String>,
    /// How it is signed, where the key leaves a choice.
    pub algorithm: Option<String>,
}

/// Whether all issuers have keys that can be used.
pub fn check(issuers: &[Issuer]) -> anyhow::Result<()> {
    Ok(Issuers::set_up(issuers, None).map(|_| ())?)
}

/// Does it, and prints what came of it.
pub fn run(request: Jwt) -> anyhow::Result<()> {
    let Jwt { issuers, verb } = request;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(async {
        match verb {
            Verb::Sign(entries, wish) => make(&entries, wish).await,
            Verb::Verify(token) => verify(&issuers, &token).await,
        }
    })?;
    Ok(try_print(&said)?)
}

/// A JWT by the first of these entries that can sign it, and takes it. If there is none, the first one says why.
async fn make(entries: &[Issuer], wish: Wish) -> anyhow::Result<String> {
    let Wish { channels, subject, id, ttl, key_file, kid, algorithm } = wish;
    let request = SignRequest { channels, subject, id, ttl, key_file, kid, algorithm };
    let mut reason = None;
    for entry in entries {
        match make_by(entry, &request).await {
            Ok(token) => return Ok(token),
            Err(error) => reason = reason.or(Some(error)),
        }
    }
    Err(reason.unwrap_or_else(|| anyhow::anyhow!("nobody is to sign it")))
}

/// The same by one entry. Whether the keys behind a URL include the one that signs is not looked at.
async fn make_by(entry: &Issuer, request: &SignRequest) -> anyhow::Result<String> {
    let token = sign(entry, request, now_seconds())?;
    if !matches!(entry.keys, KeySource::JwksUrl { .. }) {
        let taker = Issuers::set_up(std::slice::from_ref(entry), None)?;
        let verified = taker.verify(&token, now_seconds() * 1_000).await;
        verified.map_err(|refused| {
            anyhow::anyhow!("no JWT was made, for this server would not take it: {refused}")
        })?;
    }
    Ok(token)
}

/// What a JWT opens, or why it opens nothing.
async fn verify(issuers: &[Issuer], token: &str) -> anyhow::Result<String> {
    let issuers = Issuers::set_up(issuers, None)?;
    let verified = tokio::select! {
        verified = issuers.verify(token.trim(), now_seconds() * 1_000) => verified,
        () = issuers.keep_up() => unreachable!("it fetches keys until it is dropped"),
    };
    let claims = match verified {
        Ok(claims) => claims,
        Err(refused) => anyhow::bail!("the JWT is not good: {refused}"),
    };
    let mut lines = vec![verdict(claims.expires_at / 1_000, now_seconds())];
    let bearer = &claims.bearer;
    let all = [
        ("issuer", Some(&*bearer.issuer)),
        ("subject", bearer.subject.as_deref()),
        ("jti", bearer.id.as_deref()),
    ];
    for (name, value) in all {
        lines.extend(value.filter(|value| !value.is_empty()).map(|value| format!("{name:8} {value}")));
    }
    lines.extend(claims.opened().map(|opened| format!("opens    {opened}")));
    Ok(lines.join("\n"))
}

/// What is said of a JWT that opens something. Times are in seconds.
fn verdict(end: u64, now: u64) -> String {
    let standing = if now < end {
        format!("is good, for {} more seconds", end - now)
    } else {
        let (ago, leeway) = (now - end, JWT_LEEWAY.as_secs());
        format!(
            "ended {ago} seconds ago, and is good until {leeway} seconds after its end, for clocks that differ"
        )
    };
    format!("the JWT {standing} (revocations were not looked at)")
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once, one that had ended was good for 0 more seconds.
    #[test]
    fn a_jwt_that_has_ended_is_said_to() {
        let good = "the JWT is good, for 7 more seconds (revocations were not looked at)";
        assert_eq!(verdict(107, 100), good);
        let ended =
            "the JWT ended 3 seconds ago, and is good until 10 seconds after its end, for clocks that differ";
        assert!(verdict(100, 103).starts_with(ended), "{}", verdict(100, 103));
        assert!(verdict(100, 100).starts_with("the JWT ended 0 seconds ago"));
    }
}
