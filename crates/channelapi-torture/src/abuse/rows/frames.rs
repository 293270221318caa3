//! What is sent instead of proper WebSocket frames.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, timeout};

use super::super::case::{Case, case};
use super::super::yard::{Yard, expect_close, took_about};
use crate::websocket::{WebSocket, frame};

/// The close codes of RFC 6455 that answer an attack.
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// The first byte of frames: the opcode, and whether it is the last of its message.
const TEXT: u8 = 0x81;
const TEXT_BEGINS: u8 = 0x01;
const CONTINUES: u8 = 0x00;
const ENDS: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// More than one message may have.
const FRAGMENTS: usize = 65;
/// Attackers at once, where each would cost megabytes if the server believed what it announces.
const CROWD: usize = 64;

pub(super) fn cases() -> Vec<Case> {
    let begun = |then: &[u8]| [&frame(TEXT_BEGINS, b"4"), then].concat();
    let bad: Vec<(&str, &str, Vec<u8>, u16)> = vec![
        ("E6", "a frame that is not masked", vec![TEXT, 1, b'4'], PROTOCOL_ERROR),
        ("E6", "the first reserved bit", frame(0xC1, b"4"), PROTOCOL_ERROR),
        ("E6", "the second reserved bit", frame(0xA1, b"4"), PROTOCOL_ERROR),
        ("E6", "the third reserved bit", frame(0x91, b"4"), PROTOCOL_ERROR),
        ("E6", "the opcode 3", frame(0x83, b""), PROTOCOL_ERROR),
        ("E6", "the opcode 7", frame(0x87, b""), PROTOCOL_ERROR),
        ("E6", "the opcode B", frame(0x8B, b""), PROTOCOL_ERROR),
        ("E6", "the opcode F", frame(0x8F, b""), PROTOCOL_ERROR),
        ("E6", "a fragmented ping", frame(0x09, b""), PROTOCOL_ERROR),
        ("E6", "a ping of 126 bytes", frame(PING, &[0; 126]), PROTOCOL_ERROR),
        ("E6", "a continuation of nothing", frame(ENDS, b"4"), PROTOCOL_ERROR),
        ("E6", "a message inside a message", begun(&frame(TEXT, b"4")), PROTOCOL_ERROR),
        ("E6", "a close of one byte", frame(CLOSE, &[3]), PROTOCOL_ERROR),
        ("E6", "the close code 1005", frame(CLOSE, &1005_u16.to_be_bytes()), PROTOCOL_ERROR),
        ("E6", "the close code 999", frame(CLOSE, &999_u16.to_be_bytes()), PROTOCOL_ERROR),
        ("E6", "the close code 0", frame(CLOSE, &[0, 0]), PROTOCOL_ERROR),
        (
            "E6",
            "a length in more bytes than it needs",
            [&[TEXT, 0xFE, 0, 1][..], &[0; 5]].concat(),
            PROTOCOL_ERROR,
        ),
        ("E6", "a negative length", [&[TEXT, 0xFF][..], &[0xFF; 8], &[0; 4]].concat(), PROTOCOL_ERROR),
        ("E7", "text that is not UTF-8", frame(TEXT, &[b'4', 0xC3, 0x28]), INVALID_DATA),
        ("E7", "a surrogate in UTF-8", frame(TEXT, &[b'4', 0xED, 0xA0, 0x80]), INVALID_DATA),
        (
            "E7",
            "bad UTF-8 that begins in one fragment and ends in the next",
            [frame(TEXT_BEGINS, &[b'4', 0xC3]), frame(ENDS, &[0x28])].concat(),
            INVALID_DATA,
        ),
        ("E7", "a close reason that is not UTF-8", frame(CLOSE, &[3, 232, 0xFF]), INVALID_DATA),
        ("E8", "65 fragments", fragments(FRAGMENTS, b"x"), TOO_BIG),
        ("E8", "65 fragments of nothing", fragments(FRAGMENTS, &[]), TOO_BIG),
        ("E8", "fragments that are too much together", fragments(60, &[b'x'; 2000]), TOO_BIG),
        ("E9", "a compressed frame that was never agreed upon", frame(0xC1, &[0xCA, 0, 0]), PROTOCOL_ERROR),
    ];
    let bad = bad.into_iter().map(|(row, what, bytes, code)| {
        case(row, format!("{what} is answered with {code}"), move |yard| refused(yard, bytes, code))
            .disconnected("websocket_error")
    });
    let bad: Vec<Case> = bad.collect();
    let mut cases = bad;
    cases.extend([
        case("E5", "nothing is allocated for a length alone", |yard| announces(yard, i64::MAX as u64))
            .disconnected("websocket_error"),
        case("E5", "16 MiB are refused before they come", |yard| announces(yard, 16 << 20))
            .disconnected("websocket_error"),
        case("E5", "one byte more than allowed is refused before it comes", |yard| announces(yard, 65_537))
            .disconnected("websocket_error"),
        case("E5", "the largest message is taken", largest),
        case("E9", "compression is not agreed upon", no_compression),
        case("E8", "a message that is begun and never ended is not waited for", unended)
            .disconnected("connect_timeout"),
        case("E6", "pings between fragments are answered", pings_between),
        case("E10", "a frame that comes byte by byte is one frame", byte_by_byte),
        case("E10", "frames behind the request are read when the upgrade is done", behind_the_request),
    ]);
    cases
}

/// A message in fragments that does not end.
fn fragments(count: usize, each: &[u8]) -> Vec<u8> {
    let mut bytes = frame(TEXT_BEGINS, each);
    for _ in 1..count {
        bytes.extend(frame(CONTINUES, each));
    }
    bytes
}

async fn refused(yard: Arc<Yard>, bytes: Vec<u8>, code: u16) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    socket.send_bytes(&bytes).await?;
    expect_close(&mut socket, code).await
}

async fn announces(yard: Arc<Yard>, length: u64) -> Result<()> {
    let before = yard.server.memory()?;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let (mut socket, _) = yard.greeted().await?;
        // Without a mask or a byte of the payload: the length alone decides.
        socket.send_bytes(&[&[TEXT, 0xFF][..], &length.to_be_bytes()].concat()).await?;
        crowd.push(socket);
    }
    for socket in &mut crowd {
        expect_close(socket, TOO_BIG).await?;
    }
    let grown = yard.server.memory()?.saturating_sub(before);
    ensure!(grown < 64 << 20, "{CROWD} frames of {length} bytes cost {grown} bytes of memory");
    Ok(())
}

async fn largest(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    let event = format!(r#"42["x","{}"]"#, "x".repeat(65_536 - 10));
    ensure!(event.len() == 65_536, "the largest message is {} bytes", event.len());
    socket.send(&event).await?;
    yard.join(&mut socket, "E5").await
}

async fn no_compression(yard: Arc<Yard>) -> Result<()> {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (_, head) = WebSocket::open(yard.address, "EIO=4&transport=websocket", offer).await?;
    ensure!(!head.to_lowercase().contains("sec-websocket-extensions"), "the server agreed: {head}");
    Ok(())
}

/// Pings between fragments are allowed, and show that the client lives: only the message's own time can end this.
async fn unended(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    socket.send_bytes(&frame(TEXT_BEGINS, &vec![b'x'; 60_000])).await?;
    let began = Instant::now();
    loop {
        let closed = timeout(Duration::from_secs(1), expect_close(&mut socket, 4501)).await;
        if let Ok(closed) = closed {
            closed?;
            return took_about(began.elapsed(), Duration::from_secs(10));
        }
        socket.send_bytes(&frame(PING, b"")).await?;
    }
}

async fn pings_between(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    let bytes = [frame(TEXT_BEGINS, b"42[\"x\""), frame(PING, b"?"), frame(ENDS, b"]")].concat();
    socket.send_bytes(&bytes).await?;
    yard.join(&mut socket, "E6").await
}

async fn byte_by_byte(yard: Arc<Yard>) -> Result<()> {
    let (mut socket, _) = yard.greeted().await?;
    for byte in frame(TEXT, br#"42["x",{"and":"so on"}]"#) {
        socket.send_bytes(&[byte]).await?;
    }
    yard.join(&mut socket, "E10").await
}

async fn behind_the_request(yard: Arc<Yard>) -> Result<()> {
    let request = crate::websocket::upgrade_request("EIO=4&transport=websocket", "");
    let mut bytes = request.into_bytes();
    bytes.extend(frame(TEXT, b"40"));
    bytes.extend(frame(CLOSE, &1000_u16.to_be_bytes()));
    let (answers, _) = yard.wire(&bytes).await?.rest().await?;
    ensure!(answers.is_empty(), "an upgrade is no answer with a length");
    Ok(())
}
