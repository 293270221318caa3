//! Reads packets as the server does, for whoever wants to compare: `conformance/differential.test.js` does.
//!
//! Each line of the input is `E` or `S`, for Engine.IO or Socket.IO, and a packet as a JSON string. Each line of the output says
//! what was read, as JSON, or `null` if the packet was refused.

use std::io::{self, BufRead, BufWriter, Write};

use channelapi_protocol::engineio;
use channelapi_protocol::socketio::{Attachments, Kind, Packet};
use serde_json::Value;

/// As the server has them.
const ATTACHMENTS_MAX: usize = 10;
const BYTES_MAX: usize = 64 * 1024;

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let text: String = line.get(1..).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let read = if line.starts_with('E') { engine_packet(&text) } else { socket_packet(&text) };
        writeln!(out, "{}", read.as_deref().unwrap_or("null"))?;
    }
    out.flush()
}

fn engine_packet(text: &str) -> Option<String> {
    let (kind, data) = match engineio::payload::decode(text, 1).next()?.ok()? {
        engineio::Packet::Close => ("close", String::new()),
        engineio::Packet::Ping(data) => ("ping", data.to_owned()),
        engineio::Packet::Pong(data) => ("pong", data.to_owned()),
        engineio::Packet::Text(data) => ("message", data.to_owned()),
        engineio::Packet::Binary(bytes) => ("binary", format!("{bytes:?}")),
        engineio::Packet::Upgrade => ("upgrade", String::new()),
        engineio::Packet::Noop => ("noop", String::new()),
    };
    Some(format!(r#"{{"kind":"{kind}","data":{}}}"#, Value::from(data)))
}

fn socket_packet(text: &str) -> Option<String> {
    let packet = Packet::parse(text, ATTACHMENTS_MAX).ok()?;
    if packet.kind.is_binary() {
        Attachments::new(text, &packet, BYTES_MAX).ok()?;
    }
    // A packet with attachments is an event or an answer like any other when they are there.
    let kind = match packet.kind {
        Kind::Connect => 0,
        Kind::Disconnect => 1,
        Kind::Event | Kind::BinaryEvent => 2,
        Kind::Ack | Kind::BinaryAck => 3,
        Kind::ConnectError => 4,
    };
    let Packet { attachments, namespace, ack, data, .. } = packet;
    let data = if data.is_empty() { "null" } else { data };
    let (namespace, ack) = (Value::from(namespace), Value::from(ack));
    Some(format!(
        r#"{{"kind":{kind},"attachments":{attachments},"namespace":{namespace},"ack":{ack},"data":{data}}}"#
    ))
}
