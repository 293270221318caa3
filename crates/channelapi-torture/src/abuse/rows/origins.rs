//! Pages that are not on the list of those that may connect.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::super::case::{Case, case};
use super::super::yard::Yard;
use crate::websocket::{WebSocket, upgrade_request};

pub(super) const CONFIGURATION: &str = r#"[http]
cors_origins = ["https://good.com"]

[log]
level = "trace"
"#;

pub(super) fn cases() -> Vec<Case> {
    let origins: [(&str, Option<u16>); 12] = [
        ("https://good.com.evil.com", Some(403)),
        ("https://evilgood.com", Some(403)),
        ("https://good.com@evil.com", Some(403)),
        ("null", Some(403)),
        ("https://good.com:8443", Some(403)),
        ("http://good.com", Some(403)),
        ("https://GOOD.com", Some(403)),
        ("https://good.com/", Some(403)),
        ("https://good.com, https://evil.com", Some(403)),
        ("", Some(403)),
        ("https://good.com\u{e9}", Some(400)),
        ("https://good.com", None),
    ];
    let mut cases: Vec<Case> = origins
        .into_iter()
        .map(|(origin, refused)| {
            case("O1", format!("the origin `{origin}` is judged alike on both transports"), move |yard| {
                judged(yard, format!("Origin: {origin}\r\n"), refused)
            })
        })
        .zip(origins)
        .map(|(case, (_, refused))| match refused {
            Some(403) => case.handshake_refused("origin"),
            Some(_) => case.handshake_refused("bad_request"),
            None => case,
        })
        .collect();
    cases.extend([
        case("O1", "a client that is no page has no origin", |yard| judged(yard, String::new(), None)),
        case("O1", "two origins are none", |yard| {
            judged(yard, "Origin: https://good.com\r\nOrigin: https://evil.com\r\n".to_owned(), Some(400))
        })
        .handshake_refused("bad_request"),
        case("O1", "a carriage return in an origin is no origin", |yard| async move {
            let request = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nOrigin: https://good.com\rX: y\r\n\r\n";
            let (answers, _) = yard.wire(request.as_bytes()).await?.rest().await?;
            ensure!(answers.iter().all(|answer| answer.status == 400), "it was answered {}", answers[0].status);
            Ok(())
        })
        .http_refused("malformed"),
    ]);
    cases
}

async fn judged(yard: Arc<Yard>, origin: String, refused: Option<u16>) -> Result<()> {
    let upgrade = upgrade_request("EIO=4&transport=websocket", &origin);
    let poll = format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n{origin}\r\n");
    let Some(expected) = refused else {
        let answer = yard.wire(poll.as_bytes()).await?.answer().await?;
        ensure!(answer.status == 200, "it was answered {}", answer.status);
        WebSocket::open(yard.address, "EIO=4&transport=websocket", &origin).await?;
        return Ok(());
    };
    for request in [poll, upgrade] {
        let answer = yard.wire(request.as_bytes()).await?.answer().await?;
        ensure!(answer.status == expected, "it was answered {} {}", answer.status, answer.body);
        ensure!(answer.header("Access-Control-Allow-Origin").is_none(), "and the page may read it");
    }
    Ok(())
}
