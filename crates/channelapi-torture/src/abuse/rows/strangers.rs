//! What answers to somebody who has neither a key nor a token, on a server as it is started.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::case::{Case, case};
use super::super::yard::{Yard, expect};

/// Every route, as docs/security.md lists them: method, path, and the status that a stranger gets.
pub(super) const ROUTES: &[(&str, &str, u16)] = &[
    ("GET", "/", 200),
    ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", "/socket.io/?EIO=4&transport=polling", 200),
    ("OPTIONS", "/socket.io/?EIO=4&transport=polling", 204),
    ("POST", "/channel/c", 403),
    ("POST", "/message/c", 403),
    ("POST", "/v1/messages", 403),
    ("GET", "/v1/channels/c", 403),
    ("POST", "/v1/channels/c/messages", 403),
    ("GET", "/v1/channels/c/messages", 403),
    ("DELETE", "/v1/channels/c/messages", 403),
    ("GET", "/v1/channels/c/messages/1", 403),
    ("POST", "/v1/channels/c/tokens", 403),
    ("DELETE", "/v1/channels/c/tokens", 403),
    ("DELETE", "/v1/tokens/t", 403),
    ("OPTIONS", "/v1/channels/c/stream", 204),
    ("GET", "/v1/channels/c/stream", 403),
    ("GET", "/v1/channels/c/consumers", 403),
    ("GET", "/v1/channels/c/consumers/w", 403),
    ("PUT", "/v1/channels/c/consumers/w", 403),
    ("DELETE", "/v1/channels/c/consumers/w", 403),
    ("POST", "/v1/channels/c/disconnect", 403),
    ("POST", "/v1/revocations", 403),
    ("GET", "/v1/revocations", 403),
    ("DELETE", "/v1/revocations/r", 403),
    ("GET", "/v1/nothing", 403),
    ("GET", "/metrics", 403),
    ("GET", "/admin", 404),
    ("GET", "/debug/pprof", 404),
    ("GET", "/.env", 404),
    ("GET", "/nothing", 404),
];

/// Keys that everybody knows, or guesses soon.
const WEAK_KEYS: &[&str] =
    &["", "short", "s3cur3_t0k3n", "changeme", "secret", "password", "0123456789abcde"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = ROUTES
        .iter()
        .map(|(method, path, status)| {
            let promise = format!("{method} {path} answers a stranger with {status}");
            let case = case("A13", promise, move |yard| async move {
                let answer = yard.plain(method, path, "", "").await?;
                ensure!(answer.status == *status, "it was answered {}", answer.head);
                Ok(())
            });
            match status {
                403 => case.request_refused("no_key"),
                404 => case.request_refused("not_found"),
                _ => case,
            }
        })
        .collect();
    cases.extend(WEAK_KEYS.iter().map(|key| {
        case(
            "C1",
            format!("a server that everybody can reach does not start with the key `{key}`"),
            move |yard| async move {
                let proxied = ("CHANNELAPI_HTTP_TRUSTED_PROXIES", "127.0.0.1");
                for (address, setting) in [("0.0.0.0", None), ("127.0.0.1", Some(proxied))] {
                    let arguments = ["--address", address, "--port", "0", "--data-dir", "weak"];
                    let mut environment = vec![("CHANNELAPI_AUTH_KEY", *key)];
                    environment.extend(setting);
                    let (status, said) =
                        yard.server.once(&arguments, &environment, Duration::from_secs(10)).await?;
                    let code = status.and_then(|status| status.code());
                    ensure!(matches!(code, Some(78 | 2)), "{setting:?}: it ended with {code:?}, said {said}");
                    ensure!(key.len() < 8 || !said.contains(key), "it shows the key: {said}");
                }
                Ok(())
            },
        )
    }));
    cases.extend([
        case(
            "C1",
            "a server says what of it everybody can reach, and one for its own machine does not",
            said_to_be_open,
        ),
        case("C2", "a key in a flag is taken with a warning that does not show it", key_in_a_flag),
        case("A12", "opening the page tells nobody anything", page),
        case("A14", "a key in the wrong place opens nothing", misplaced_keys).request_refused("no_key"),
        case("A14", "a key that is nearly right opens nothing", near_keys).request_refused("wrong_key"),
        case("U3", "the page may run nothing but its own script", page_policy),
    ]);
    cases
}

/// What a server says last at its start, and for how long that may be waited for while others attack.
const READY: Option<&str> = Some("ready");
const READY_MAX: Duration = Duration::from_secs(20);

async fn said_to_be_open(yard: Arc<Yard>) -> Result<()> {
    let open = ["keys, tokens and messages travel unencrypted", "pages of every origin"];
    let variants = [("0.0.0.0", None), ("0.0.0.0", Some("127.0.0.1")), ("127.0.0.1", None)];
    for (address, internal) in variants.into_iter().chain([("127.0.0.1", Some("0.0.0.0"))]) {
        let is_public = address == "0.0.0.0";
        let arguments = ["--address", address, "--port", "0", "--data-dir", "open"];
        let mut environment = vec![("CHANNELAPI_AUTH_KEY", crate::server::AUTH_KEY)];
        environment.extend(internal.map(|address| ("CHANNELAPI_INTERNAL_ADDRESS", address)));
        environment.extend(internal.map(|_| ("CHANNELAPI_INTERNAL_PORT", "0")));
        let (status, said) = yard.server.once_until(READY, &arguments, &environment, READY_MAX).await?;
        ensure!(status.is_none() && said.contains("ready"), "it ended with {status:?} and said {said}");
        for part in open {
            ensure!(said.contains(part) == is_public, "on {address}, of `{part}` it said {said}");
        }
        let (of_api, of_internal) = ("the HTTP API can be reached", "unencrypted to the internal listener");
        ensure!(said.contains(of_api) == (is_public && internal.is_none()), "on {address} it said {said}");
        let is_internal_open = internal == Some("0.0.0.0");
        ensure!(said.contains(of_internal) == is_internal_open, "of the API on {internal:?} it said {said}");
    }
    Ok(())
}

/// As the original was started. Whoever sees the list of processes sees it, so that a better way is named.
async fn key_in_a_flag(yard: Arc<Yard>) -> Result<()> {
    let key = "canary-key-of-a-flag";
    let flag = format!("--auth_key={key}");
    let arguments = ["--address", "127.0.0.1", "--port", "0", "--data-dir", "flag", &flag];
    let (status, said) = yard.server.once_until(READY, &arguments, &[], READY_MAX).await?;
    ensure!(status.is_none(), "it ended with {status:?} and said {said}");
    ensure!(said.contains("list of processes") && said.contains("CHANNELAPI_AUTH_KEY"), "it said {said}");
    ensure!(!said.contains(key), "it shows the key: {said}");
    Ok(())
}

/// The original sent a test event to everybody. The honest clients would notice, and so does this one.
async fn page(yard: Arc<Yard>) -> Result<()> {
    let mut witness = yard.member("A12").await?;
    for _ in 0..10 {
        ensure!(yard.plain("GET", "/", "", "").await?.status == 200, "there is no page");
    }
    yard.publish("A12", "1").await?;
    expect(&mut witness, r#"42["message",1]"#).await
}

async fn misplaced_keys(yard: Arc<Yard>) -> Result<()> {
    let key = crate::server::AUTH_KEY;
    let headers = [
        format!("Cookie: auth_key={key}\r\n"),
        format!("Authorization: Basic {key}\r\n"),
        format!("Authorization: Bearer Bearer {key}\r\n"),
        format!("Proxy-Authorization: {key}\r\n"),
        format!("X-Auth-Key: {key}\r\n"),
    ];
    for header in headers {
        let answer = yard.plain("POST", "/channel/A14", &header, "").await?;
        ensure!(answer.status == 403, "{header:?} was answered {}", answer.status);
    }
    for name in ["key", "auth_key", "api_key", "access_token", "authorization", "token"] {
        let answer = yard.plain("POST", &format!("/channel/A14?{name}={key}"), "", "").await?;
        ensure!(matches!(answer.status, 400 | 403), "?{name}= was answered {}", answer.status);
        ensure!(!answer.body.contains(key), "the key is in the answer: {}", answer.body);
    }
    Ok(())
}

async fn near_keys(yard: Arc<Yard>) -> Result<()> {
    let key = crate::server::AUTH_KEY;
    let near = [
        String::new(),
        key[1..].to_owned(),
        key[..key.len() - 1].to_owned(),
        format!("{key}x"),
        format!("{key}\u{e9}"),
        key.to_uppercase(),
        format!("{key},{key}"),
        format!("bearer{key}"),
    ];
    for key in near {
        let headers = format!("Authorization: {key}\r\n");
        for path in ["/channel/A14", "/v1/channels/A14/tokens"] {
            let answer = yard.plain("POST", path, &headers, "").await?;
            ensure!(matches!(answer.status, 401 | 403), "`{key}` was answered {}", answer.status);
        }
    }
    Ok(())
}

async fn page_policy(yard: Arc<Yard>) -> Result<()> {
    let answer = yard.plain("GET", "/", "", "").await?;
    let policy = answer.header("Content-Security-Policy").unwrap_or_default();
    for part in [
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "script-src 'sha256-",
        "require-trusted-types-for 'script'",
    ] {
        ensure!(policy.contains(part), "the policy is {policy}");
    }
    ensure!(!policy.contains("unsafe"), "the policy is {policy}");
    ensure!(answer.header("X-Content-Type-Options") == Some("nosniff"), "the page's type may be guessed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_route() {
        let document = include_str!("../../../../../docs/security.md");
        for (method, path, status) in ROUTES.iter().filter(|(_, _, status)| *status != 404) {
            let row = format!("| `{method} {path}` | {status} |");
            assert!(document.contains(&row), "docs/security.md lacks the row {row}");
        }
    }
}
