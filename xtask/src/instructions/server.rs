//! Publications over HTTP to a whole server that valgrind runs: all that lies between the bytes of a request and those of its answer.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tree::Tree;

/// Of this server alone, which lives for some seconds and listens on loopback.
const KEY: &str = "the-key-of-a-server-that-is-counted";

/// The file in which valgrind says what it has counted, apart from the server's log.
const SAID: &str = "valgrind";

/// How long the server may take for an answer: valgrind makes it fifty times slower.
const PATIENCE: Duration = Duration::from_mins(1);

/// What valgrind says of a server that has answered `count` publications, one after the other on one connection.
pub(super) fn published(tree: &Tree, count: u64) -> Result<String> {
    let folder = tree.target("instructions");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut server = start(tree, &folder)?;
    let mut log = BufReader::new(server.stderr.take().context("the server has no log")?);
    let told = publish(&mut log, count);
    if told.is_ok() {
        let id = server.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().context("cannot run `kill`")?;
    } else {
        server.kill().context("cannot end the server that is counted")?;
    }
    let mut rest = String::new();
    log.read_to_string(&mut rest).context("the server's log cannot be read")?;
    let status = server.wait().context("the server does not end")?;
    told.with_context(|| {
        format!("publishing to the server that is counted failed; its log ends with: {rest}")
    })?;
    ensure!(status.success(), "the server that is counted failed ({status}): {rest}");
    let said = fs::read_to_string(folder.join(SAID)).context("valgrind left no word")?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(said)
}

fn start(tree: &Tree, folder: &Path) -> Result<Child> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(format!("--log-file={}", folder.join(SAID).display()));
    valgrind.arg(tree.target("release").join("channelapi"));
    valgrind.args(["--address", "127.0.0.1", "--port", "0", "--data-dir"]).arg(folder.join("data"));
    valgrind.env("CHANNELAPI_AUTH_KEY", KEY);
    valgrind.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    valgrind.spawn().context("cannot start valgrind")
}

fn publish(log: &mut impl BufRead, count: u64) -> Result<()> {
    let address = address(log)?;
    let mut connection = TcpStream::connect(&address).with_context(|| format!("cannot reach {address}"))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_nodelay(true)?;
    let body = format!(r#"{{"data":"{}","volatile":true}}"#, "x".repeat(200));
    let request = format!(
        "POST /v1/channels/news/messages HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..count {
        connection.write_all(request.as_bytes())?;
        answer(&mut connection)?;
    }
    Ok(())
}

/// Where the server listens, which is in its line that it is ready.
fn address(log: &mut impl BufRead) -> Result<String> {
    for line in log.lines() {
        let line: Value = serde_json::from_str(&line?).context("its log is not JSON")?;
        if line["message"] == "ready" {
            return Ok(line["address"].as_str().context("it does not say where it listens")?.to_owned());
        }
    }
    anyhow::bail!("it ended before it was ready")
}

/// Reads one answer, which must say that the publication was taken.
fn answer(connection: &mut TcpStream) -> Result<()> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = connection.read(&mut buffer)?;
        ensure!(count > 0, "it closed the connection");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        ensure!(head.starts_with("HTTP/1.1 2"), "it refused a publication: {text}");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return Ok(());
        }
    }
}
