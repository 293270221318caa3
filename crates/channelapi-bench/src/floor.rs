//! The floor: what the operating system alone takes for the same bytes over the same sockets.
//!
//! Blocking threads that say the few sentences of the contract word for word, check nothing, ping nobody, and deliver
//! with one `send` per socket. No server can be cheaper per delivery unless it sends fewer, larger segments.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::client::WEBSOCKET_ACCEPT;
use crate::frame::{self, Decoder, Frame};

/// The subcommand that becomes the floor.
pub(crate) const COMMAND: &str = "floor";

/// A client that says nothing for so long while joining is dropped.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The command line that all peers have in common.
#[derive(Args)]
pub(crate) struct FloorOptions {
    #[arg(long)]
    address: IpAddr,
    #[arg(long)]
    port: u16,
    /// Taken like by the others, but not looked at.
    #[arg(long = "auth-key")]
    _auth_key: String,
}

/// Sockets by channel.
type Channels = Arc<Mutex<HashMap<String, Vec<TcpStream>>>>;

/// Serves until killed; dies with the benchmark that started it.
pub(crate) fn serve(options: &FloorOptions) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    accept(&TcpListener::bind((options.address, options.port))?)
}

fn accept(listener: &TcpListener) -> Result<()> {
    let channels = Channels::default();
    for stream in listener.incoming() {
        // A connection that breaks while it is welcomed concerns its client only.
        let _ = welcome(stream?, &channels);
    }
    Ok(())
}

fn welcome(stream: TcpStream, channels: &Channels) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(JOIN_TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
    if request.path.starts_with("/socket.io/") {
        join(reader.into_inner(), channels)?;
    } else {
        reader.get_ref().set_read_timeout(None)?;
        let channels = channels.clone();
        std::thread::spawn(move || serve_publisher(&mut reader, request, &channels));
    }
    Ok(())
}

/// The server's half of the dialogue; the token is the channel's name.
fn join(mut stream: TcpStream, channels: &Channels) -> Result<()> {
    let upgrade = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
    );
    let open =
        r#"0{"sid":"floor","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}"#;
    stream.write_all(&[upgrade.as_bytes(), &frame::server_text(open)].concat())?;
    client_packet(&mut stream)?;
    let connected = [
        frame::server_text(r#"40{"sid":"floor"}"#),
        frame::server_text(r#"42["clientevent",{"data":"Connected","count":0}]"#),
    ];
    stream.write_all(&connected.concat())?;
    let packet = client_packet(&mut stream)?;
    let channel = packet.rsplit('"').nth(1).context("no token")?.to_owned();
    let joined = frame::server_text(&format!(r#"42["clientevent",{{"data":"Connected to {channel}"}}]"#));
    // Whatever is published after the client has read this must reach it: nobody delivers in between.
    let mut channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
    stream.write_all(&joined)?;
    channels.entry(channel).or_default().push(stream);
    Ok(())
}

/// Reads one packet of our own client, which sends each in one piece and waits for the answer.
fn client_packet(stream: &mut TcpStream) -> Result<String> {
    let mut bytes = [0; 512];
    let count = stream.read(&mut bytes)?;
    let mut packet = String::new();
    Decoder::default().feed(&frame::unmasked(&bytes[..count])?, |frame| {
        if let Frame::Text(text) = frame {
            packet.push_str(text);
        }
        Ok(())
    })?;
    ensure!(!packet.is_empty(), "no packet came");
    Ok(packet)
}

fn serve_publisher(reader: &mut BufReader<TcpStream>, first: Request, channels: &Channels) -> Result<()> {
    let mut next = Some(first);
    while let Some(request) = next {
        if let Some(channel) = request.path.strip_prefix("/message/") {
            deliver(channel, &request.body, channels)?;
        }
        let token = request.path.strip_prefix("/channel/").unwrap_or_default();
        let body = format!(r#"{{"success": true, "token": "{token}"}}"#);
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        reader.get_mut().write_all(response.as_bytes())?;
        next = Request::read(reader)?;
    }
    Ok(())
}

fn deliver(channel: &str, body: &str, channels: &Channels) -> Result<()> {
    let data =
        body.strip_prefix("{\"message\":").and_then(|body| body.strip_suffix('}')).context("no message")?;
    let frame = frame::server_text(&format!("42[\"message\",{data}]"));
    let mut channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
    for stream in channels.entry(channel.to_owned()).or_default() {
        stream.write_all(&frame)?;
    }
    Ok(())
}

/// As much of an HTTP request as our own publisher and client send.
struct Request {
    path: String,
    body: String,
}

impl Request {
    /// `None` if the other side has closed the connection.
    fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line.split(' ').nth(1).context("no path")?.to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse()?,
                Some(_) => {}
                None => break,
            }
        }
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body)?;
        Ok(Some(Self { path, body }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::time::timeout;

    use super::*;
    use crate::client::Door;
    use crate::crowd::Crowd;
    use crate::publisher::{Api, Publisher};
    use crate::receipts::{Receipts, data};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Also the test of everything on the other side: clients, publisher and receipts.
    #[tokio::test]
    async fn every_client_of_a_channel_gets_each_publication_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || accept(&listener));
        let mut publisher = Publisher::connect(address, "any", Api::Contract).await.unwrap();
        publisher.healthy().await.unwrap();
        let mut doors = Vec::new();
        for channel in ["shared", "shared", "other"] {
            doors.push(Door::Seed(publisher.token(channel).await.unwrap()));
        }
        let receipts = Arc::new(Receipts::default());
        let crowd = Crowd::gather(address, doors, &receipts).await.unwrap();

        for (number, channel, subscribers) in [(0, "shared", 0..2), (1, "other", 2..3), (2, "shared", 0..2)] {
            let complete = receipts.expect(Instant::now(), number, 200, subscribers);
            publisher.publish(channel, &data(number, 200)).await.unwrap();
            timeout(PATIENCE, complete).await.unwrap().unwrap();
        }
        crowd.finish(&receipts).await.unwrap();
        assert_eq!(receipts.latencies().len(), 5);
        assert_eq!(receipts.distinct_orders(), 2, "each channel has one order");
    }

    #[tokio::test]
    async fn publication_that_nobody_awaits_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || accept(&listener));
        let mut publisher = Publisher::connect(address, "any", Api::Contract).await.unwrap();
        let token = publisher.token("a").await.unwrap();
        let receipts = Arc::new(Receipts::default());
        let _crowd = Crowd::gather(address, vec![Door::Seed(token)], &receipts).await.unwrap();

        publisher.publish("a", &data(7, 200)).await.unwrap();
        let complete = receipts.expect(Instant::now(), 8, 200, 0..1);
        publisher.publish("a", &data(8, 200)).await.unwrap();
        timeout(PATIENCE, complete).await.unwrap().unwrap();
        assert!(receipts.check().unwrap_err().to_string().starts_with("1 deliveries too many"));
    }
}
