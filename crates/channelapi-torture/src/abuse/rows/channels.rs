//! What publishers put into names and bodies.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::super::case::{Case, case};
use super::super::yard::{Yard, expect, heard, json};

/// Distinct keys, all of one length, in one publication.
const KEYS: usize = 20_000;

pub(super) fn cases() -> Vec<Case> {
    let names: [(&str, &str, u16); 25] = [
        ("H7", "..%2f..%2fetc%2fpasswd", 200),
        ("H7", "../../etc/passwd", 200),
        ("H7", "a/b//c/", 200),
        ("H7", "%25%32%65", 200),
        ("H7", "100%", 200),
        ("H7", "%00", 400),
        ("H7", "a%00b", 400),
        ("H7", "%0d%0aX:1", 400),
        ("H7", "%1b%5b31m", 400),
        ("H7", "%c0%ae", 400),
        ("H7", "%ff", 400),
        ("H7", "%ed%a0%80", 400),
        ("H7", "", 400),
        ("H8", "%e2%80%ae", 400),
        ("H8", "a%e2%80%8bb", 400),
        ("H8", "%ef%bb%bfa", 400),
        ("H8", "%f0%9f%91%a8%e2%80%8d%f0%9f%91%a9", 200),
        ("H8", "pay%c2%adments", 400),
        ("H8", "%d8%9cb", 400),
        ("H8", "%e3%85%a4", 400),
        ("H8", "a%f3%a0%81%81", 400),
        ("H8", "user%e2%80%8d-1", 400),
        ("H8", "%d0%b0dmin", 200),
        ("U1", "%3Cimg%20src=x%20onerror=alert(1)%3E", 200),
        ("U1", "%3C/script%3E", 200),
    ];
    let mut cases: Vec<Case> = names
        .into_iter()
        .map(|(row, name, status)| {
            let promise = format!("publishing to `{name}` is answered {status}");
            let case = case(row, promise, move |yard| async move {
                let answer = yard.api("POST", &format!("/message/{name}"), "", r#"{"message":1}"#).await?;
                ensure!(answer.status == status, "it was answered {} {}", answer.status, answer.body);
                json(&answer.body).map(drop)
            });
            if status == 200 { case } else { case.request_refused("invalid") }
        })
        .collect();
    let body = "Body is in incorrect format. Key 'message' not found.";
    let bodies: [(&str, u16, &str); 14] = [
        (r#"{"message":1,"message":2}"#, 200, ""),
        (r#"{"message":null}"#, 200, ""),
        ("{}", 400, body),
        ("null", 400, body),
        ("[]", 400, body),
        ("", 400, body),
        ("message", 400, body),
        (r#""message""#, 400, body),
        (r#"{"message":1}x"#, 400, body),
        (r#"{"message":01}"#, 400, body),
        (r#"{"Message":1}"#, 400, body),
        (r#"{"message":undefined}"#, 400, body),
        (r"{'message':1}", 400, body),
        ("\u{feff}{\"message\":1}", 400, body),
    ];
    cases.extend(bodies.map(|(body, status, text)| {
        let case = case("H10", format!("the body `{body}` is answered {status}"), move |yard| async move {
            let answer = yard.api("POST", "/message/H10", "", body).await?;
            let said = answer.status == status && answer.body.contains(text);
            ensure!(said, "it was answered {} {}", answer.status, answer.body);
            ensure!(json(&answer.body)?["success"] == (status == 200), "it was answered {}", answer.body);
            Ok(())
        });
        if status == 200 { case } else { case.request_refused("invalid") }
    }));
    cases.extend([
        case("H8", "a name in another Unicode form is another channel", unicode_forms),
        case("H7", "a name of 255 bytes is a name, and one of 256 is none", longest_name)
            .request_refused("invalid"),
        case("S5", "a body that is nested without end is refused", deep_body).request_refused("invalid"),
        case("S11", "twenty thousand keys arrive as they were sent", many_keys),
        case("S11", "numbers and escapes that no language holds arrive as they were sent", odd_values),
        case("H11", "a batch of too many is refused as a whole", large_batch).request_refused("too_large"),
        case("H11", "an idempotency key that is too long or broken is refused", bad_keys)
            .request_refused("invalid"),
        case("H11", "an idempotency key is not used for something else", reused_key)
            .request_refused("conflict"),
        case("H9", "a body of more than a megabyte is refused", large_body).request_refused("too_large"),
        case("H9", "a message of more than 256 KiB is refused", large_message).request_refused("too_large"),
        case("U2", "what is published is never taken for a page", never_a_page),
    ]);
    cases
}

async fn unicode_forms(yard: Arc<Yard>) -> Result<()> {
    let (composed, decomposed) = (yard.token("%C3%A9").await?, yard.token("e%CC%81").await?);
    ensure!(composed != decomposed, "two names have one token");
    Ok(())
}

async fn longest_name(yard: Arc<Yard>) -> Result<()> {
    for (length, status) in [(255, 200), (256, 400)] {
        let answer = yard.api("POST", &format!("/channel/{}", "x".repeat(length)), "", "").await?;
        ensure!(answer.status == status, "a name of {length} bytes was answered {}", answer.status);
    }
    Ok(())
}

async fn deep_body(yard: Arc<Yard>) -> Result<()> {
    for (path, open) in
        [("/message/S5", "["), ("/v1/channels/S5/messages", r#"{"a":"#), ("/v1/messages", "[{\"a\":")]
    {
        let body = format!(r#"{{"message":{0},"data":{0}}}"#, open.repeat(100_000));
        let answer = yard.api("POST", path, "Content-Type: application/json\r\n", &body).await?;
        ensure!((400..500).contains(&answer.status), "{path} was answered {}", answer.status);
    }
    Ok(())
}

async fn delivered(yard: &Yard, channel: &str, data: &str) -> Result<()> {
    let mut witness = yard.member(channel).await?;
    yard.publish(channel, data).await?;
    let heard = heard(&mut witness).await?;
    ensure!(heard == format!(r#"42["message",{data}]"#), "something else arrived: {heard:.200}");
    Ok(())
}

async fn many_keys(yard: Arc<Yard>) -> Result<()> {
    let members: Vec<String> = (0..KEYS).map(|number| format!(r#""{number:05}":{}"#, number % 10)).collect();
    delivered(&yard, "S11-keys", &format!("{{{}}}", members.join(","))).await
}

async fn odd_values(yard: Arc<Yard>) -> Result<()> {
    delivered(
        &yard,
        "S11-odd",
        r#"[1e400,-0.0,1E+2,"\ud800","\u0000\/",{"__proto__":1,"__proto__":2},{"":{}}]"#,
    )
    .await
}

async fn large_batch(yard: Arc<Yard>) -> Result<()> {
    let item = r#"{"channel":"H11","data":1}"#;
    let array = vec![item; 1001].join(",");
    let names: Vec<String> = (0..1001).map(|number| format!(r#""H11-{number}""#)).collect();
    let names = format!(r#"{{"channels":[{}],"data":1}}"#, names.join(","));
    let lines = |count| vec![item; count].join("\n");
    for (kind, body, status) in [
        ("json", format!("[{array}]"), 400),
        ("json", format!(r#"{{"messages":[{array}]}}"#), 413),
        ("json", names, 413),
        ("x-ndjson", lines(1001), 413),
        // As many as a body holds, and far more than are looked at.
        ("x-ndjson", lines((1 << 20) / (item.len() + 1)), 413),
        // A million, which do not fit.
        ("x-ndjson", "1\n".repeat(1_000_000), 413),
    ] {
        let kind = format!("Content-Type: application/{kind}\r\n");
        let answer = yard.api("POST", "/v1/messages", &kind, &body).await?;
        ensure!(answer.status == status, "it was answered {} {}", answer.status, answer.body);
        let is_told =
            status != 413 || answer.body.contains("batch_size") || answer.body.contains("too_large");
        ensure!(is_told, "it does not say why: {}", answer.body);
    }
    let answer = yard.api("GET", "/v1/channels/H11/messages?since=all", "", "").await?;
    ensure!(!answer.body.contains("\"data\":1"), "a part of the batch was published");
    Ok(())
}

async fn bad_keys(yard: Arc<Yard>) -> Result<()> {
    for key in
        ["x".repeat(10_000), "x".repeat(256), String::new(), "a\u{7f}".to_owned(), "a\r\n b".to_owned()]
    {
        let headers = format!("Idempotency-Key: {key}\r\n");
        let answer = yard.api("POST", "/v1/channels/H11/messages", &headers, r#"{"data":1}"#).await?;
        ensure!(answer.status == 400, "a key of {} bytes was answered {}", key.len(), answer.status);
    }
    Ok(())
}

async fn reused_key(yard: Arc<Yard>) -> Result<()> {
    let headers = "Idempotency-Key: H11\r\n";
    for (body, status) in [(r#"{"data":1}"#, 201), (r#"{"data":1}"#, 200), (r#"{"data":2}"#, 409)] {
        let answer = yard.api("POST", "/v1/channels/H11-keys/messages", headers, body).await?;
        ensure!(
            answer.status == status || (status == 200 && answer.body.contains("\"duplicate\":true")),
            "{body} was answered {} {}",
            answer.status,
            answer.body
        );
    }
    Ok(())
}

async fn large_body(yard: Arc<Yard>) -> Result<()> {
    for path in ["/message/H9", "/v1/channels/H9/messages", "/v1/messages"] {
        let body = format!(r#"{{"message":"{}"}}"#, "x".repeat(1 << 20));
        let answer = yard.api("POST", path, "", &body).await?;
        ensure!(answer.status == 413, "{path} was answered {}", answer.status);
    }
    Ok(())
}

async fn large_message(yard: Arc<Yard>) -> Result<()> {
    let data = "x".repeat((256 << 10) - 1);
    for (path, name) in [("/message/H9", "message"), ("/v1/channels/H9/messages", "data")] {
        let answer = yard.api("POST", path, "", &format!(r#"{{"{name}":"{data}"}}"#)).await?;
        ensure!(answer.status == 413, "{path} was answered {}", answer.status);
    }
    Ok(())
}

async fn never_a_page(yard: Arc<Yard>) -> Result<()> {
    let markup = r#""<img src=x onerror=alert(1)></script>""#;
    let mut witness = yard.member("U2").await?;
    yard.publish("U2", markup).await?;
    expect(&mut witness, &format!(r#"42["message",{markup}]"#)).await?;
    for (method, path) in [
        ("GET", "/v1/channels/U2/messages?since=all"),
        ("GET", "/v1/channels/%3Cscript%3E/messages"),
        ("GET", "/v1/channels/U2/messages?%3Cscript%3E=1"),
        ("POST", "/message/"),
        ("GET", "/%3Cscript%3Ealert(1)%3C/script%3E"),
        ("GET", "/socket.io/?EIO=4&transport=%3Cscript%3E"),
    ] {
        let answer = yard.api(method, path, "", "").await?;
        let kind = answer.header("Content-Type").unwrap_or_default();
        ensure!(kind.contains("json"), "{method} {path} is answered as {kind}");
    }
    Ok(())
}
