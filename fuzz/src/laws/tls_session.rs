//! The server's half of a connection with TLS, with a real client at the other end of a line that somebody damages.

use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, LazyLock};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::ReadBuf;

use self::session::{RECORD_DATA_BYTES, Session};

#[allow(dead_code, reason = "as in `server`")]
#[path = "../../../crates/channelapi/src/stream/tls/session.rs"]
mod session;

/// The first byte of the input chooses the version, and whether the handshake comes first; each pair behind it is a step (see [`Step`]). It is
/// accepted if the client sent data and all of it arrived.
///
/// - Whatever is read was sent by the other end, in that order, once.
/// - On a line that nobody damages nothing fails, and everything that was sent can be read.
/// - A session that met damage says so again when it is asked again, and sends nothing more than what it had to say about it.
pub fn tls_session(data: &[u8]) -> bool {
    let Some((first, steps)) = data.split_first() else { return false };
    let configs = if first & 1 == 0 { &CONFIGS.0 } else { &CONFIGS.1 };
    let mut line = Line::new(configs);
    if first & 2 == 0 {
        line.shake_hands();
    }
    for step in steps.chunks_exact(2).take(STEPS_MAX) {
        line.step(Step::of(step[0]), usize::from(step[1]));
    }
    line.finish()
}

/// Steps of one input.
const STEPS_MAX: usize = 200;

/// Bytes that one end sends at most, so that neither waits for room.
const SENT_MAX: usize = 48 * 1024;

/// How often a client changes its keys at most: more would be an attack.
const REKEYS_MAX: usize = 20;

/// What happens next, with a number that says how much of it.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The client sends up to 16 KiB, in one record or two.
    ClientSends,
    /// So much of what the client sent arrives.
    Arrives,
    /// Everything that the client sent arrives, in pieces of that length.
    AllArrives,
    /// The server sends up to 16 KiB, of which the socket takes a part at once.
    ServerSends,
    /// The client gets everything that the server sent.
    ClientReceives,
    /// The client changes its keys.
    ClientRekeys,
    /// The client says goodbye.
    ClientLeaves,
    /// The server says goodbye.
    ServerLeaves,
    /// A bit of what is on its way to the server turns.
    Flips,
    /// A byte is lost on its way to the server.
    Drops,
    /// A byte that nobody sent is on its way to the server.
    Adds,
}

impl Step {
    fn of(byte: u8) -> Self {
        match byte % 11 {
            0 => Self::ClientSends,
            1 => Self::Arrives,
            2 => Self::AllArrives,
            3 => Self::ServerSends,
            4 => Self::ClientReceives,
            5 => Self::ClientRekeys,
            6 => Self::ClientLeaves,
            7 => Self::ServerLeaves,
            8 => Self::Flips,
            9 => Self::Drops,
            _ => Self::Adds,
        }
    }
}

/// How both ends are set up.
type Configs = (Arc<ServerConfig>, Arc<ClientConfig>);

static CONFIGS: LazyLock<(Configs, Configs)> = LazyLock::new(|| (configs(&TLS13), configs(&TLS12)));

fn configs(version: &'static SupportedProtocolVersion) -> Configs {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("such a name can be signed");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("it was just made");
    let server = ServerConfig::builder_with_protocol_versions(&[version])
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("they belong together");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("it was just made");
    let mut client = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    // No run knows of another.
    client.resumption = Resumption::disabled();
    (Arc::new(server), Arc::new(client))
}

/// Both ends, and what is on its way between them.
struct Line {
    client: ClientConnection,
    server: Session,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// Bytes of data that each has sent, and that the other has read.
    client_sent: usize,
    server_read: usize,
    server_sent: usize,
    client_read: usize,
    is_damaged: bool,
    /// The server has found out, or the client.
    is_broken: bool,
    client_is_broken: bool,
    rekeys: usize,
    client_has_left: bool,
    server_has_left: bool,
}

/// What is sent at one place, so that it is known where whatever arrives comes from.
fn byte_at(place: usize) -> u8 {
    (place % 251) as u8
}

impl Line {
    fn new((server, client): &Configs) -> Self {
        let name = ServerName::try_from("localhost").expect("it is one");
        let mut line = Self {
            client: ClientConnection::new(client.clone(), name).expect("the settings are good"),
            server: Session::new(server.clone()).expect("the settings are good"),
            to_server: Vec::new(),
            to_client: Vec::new(),
            client_sent: 0,
            server_read: 0,
            server_sent: 0,
            client_read: 0,
            is_damaged: false,
            is_broken: false,
            client_is_broken: false,
            rekeys: 0,
            client_has_left: false,
            server_has_left: false,
        };
        line.client_writes();
        line
    }

    fn shake_hands(&mut self) {
        while self.client.is_handshaking() || !self.server.is_open() {
            self.all_arrives(usize::MAX);
            self.client_receives();
            assert!(!self.is_broken, "the handshake failed");
        }
    }

    fn step(&mut self, step: Step, number: usize) {
        match step {
            _ if self.is_broken => {}
            Step::ClientSends => self.client_sends(number * 64 + 1),
            Step::Arrives => self.arrives(number + 1),
            Step::AllArrives => self.all_arrives(number + 1),
            Step::ServerSends => self.server_sends(number * 64 + 1, number * 7),
            Step::ClientReceives => self.client_receives(),
            Step::ClientRekeys => self.client_rekeys(),
            Step::ClientLeaves => self.client_leaves(),
            // In debug builds, rustls takes an alert behind a goodbye for a mistake of its own.
            Step::Flips | Step::Drops | Step::Adds if self.server_has_left => {}
            Step::ServerLeaves if self.is_damaged => {}
            Step::ServerLeaves => self.server_leaves(),
            Step::Flips if !self.to_server.is_empty() => {
                let place = number * 31 % self.to_server.len();
                self.to_server[place] ^= 1 << (number % 8);
                self.is_damaged = true;
            }
            Step::Drops if !self.to_server.is_empty() => {
                self.to_server.remove(number * 31 % self.to_server.len());
                self.is_damaged = true;
            }
            Step::Flips | Step::Drops => {}
            Step::Adds => {
                let place = number * 31 % (self.to_server.len() + 1);
                self.to_server.insert(place, number as u8);
                self.is_damaged = true;
            }
        }
    }

    /// The client's records go on their way.
    fn client_writes(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.to_server).expect("memory takes everything");
        }
    }

    fn client_sends(&mut self, bytes: usize) {
        if self.client.is_handshaking() || self.client_has_left || self.client_sent + bytes > SENT_MAX {
            return;
        }
        let data: Vec<u8> = (self.client_sent..self.client_sent + bytes).map(byte_at).collect();
        self.client_sent += self.client.writer().write(&data).expect("there is room");
        self.client_writes();
    }

    fn client_rekeys(&mut self) {
        if self.client.is_handshaking() || self.client_has_left || self.rekeys == REKEYS_MAX {
            return;
        }
        // TLS 1.2 has no such thing.
        if self.client.refresh_traffic_keys().is_ok() {
            self.rekeys += 1;
            self.client_writes();
        }
    }

    fn client_leaves(&mut self) {
        if !self.client.is_handshaking() {
            self.client.send_close_notify();
            self.client_has_left = true;
            self.client_writes();
        }
    }

    fn all_arrives(&mut self, pieces: usize) {
        while !self.to_server.is_empty() && !self.is_broken {
            self.arrives(pieces);
        }
    }

    /// As a connection reads: first what waits, then what the socket has, into a buffer of some length.
    fn arrives(&mut self, bytes: usize) {
        self.server_reads();
        if self.to_server.is_empty() || self.server.is_closed() {
            self.to_server.clear();
            return;
        }
        let mut room = vec![0; bytes.min(5_000)];
        let mut buffer = ReadBuf::new(&mut room);
        let arriving = &mut self.to_server;
        let received = self.server.receive(&mut buffer, |space| {
            let length = space.len().min(bytes).min(arriving.len());
            space[..length].copy_from_slice(&arriving[..length]);
            arriving.drain(..length);
            Ok(length)
        });
        let read = buffer.filled().to_vec();
        self.was_read(&read);
        if let Err(error) = received {
            assert!(self.is_damaged, "{error}");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            self.broken();
        }
        self.server_reads();
        self.server_writes(usize::MAX);
    }

    /// The server was told what nobody may say.
    fn broken(&mut self) {
        let again = self.server.receive(&mut ReadBuf::new(&mut [0; 100]), |space| {
            space[0] = 0;
            Ok(1)
        });
        assert!(
            self.is_broken || again.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData),
            "damage is forgotten"
        );
        self.is_broken = true;
        self.server_writes(usize::MAX);
        assert!(self.server.send(b"more", |sealed| Ok(sealed.len())).is_err(), "a broken session sends");
        self.server.say_goodbye();
        assert!(!self.server.is_behind(), "a broken session says goodbye");
    }

    /// What was read and waits is handed out.
    fn server_reads(&mut self) {
        loop {
            let mut room = [0; 700];
            let mut buffer = ReadBuf::new(&mut room);
            self.server.hand_out(&mut buffer);
            if buffer.filled().is_empty() {
                return;
            }
            let read = buffer.filled().to_vec();
            self.was_read(&read);
        }
    }

    fn was_read(&mut self, read: &[u8]) {
        for byte in read {
            assert!(self.server_read < self.client_sent, "nobody sent that");
            assert_eq!(*byte, byte_at(self.server_read), "at {}", self.server_read);
            self.server_read += 1;
        }
    }

    fn server_sends(&mut self, bytes: usize, taken: usize) {
        let bytes = bytes.min(RECORD_DATA_BYTES);
        let may_send = self.server.is_open() && !self.server_has_left && !self.is_broken;
        if !may_send || self.server_sent + bytes > SENT_MAX {
            return;
        }
        let data: Vec<u8> = (self.server_sent..self.server_sent + bytes).map(byte_at).collect();
        self.server_writes(usize::MAX);
        let to_client = &mut self.to_client;
        let sent = self.server.send(&data, |sealed| {
            let taken = taken.min(sealed.len());
            to_client.extend_from_slice(&sealed[..taken]);
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        });
        sent.expect("an open session sends");
        self.server_sent += bytes;
    }

    /// What waits goes on its way, in pieces.
    fn server_writes(&mut self, pieces: usize) {
        let to_client = std::cell::RefCell::new(&mut self.to_client);
        let sent = self.server.send_behind(|waiting| {
            let taken = pieces.min(waiting.len());
            to_client.borrow_mut().extend_from_slice(&waiting[..taken]);
            Ok(taken)
        });
        sent.expect("the socket takes everything");
    }

    fn server_leaves(&mut self) {
        if self.server.is_open() && !self.server_has_left && !self.is_broken {
            self.server.say_goodbye();
            self.server_has_left = true;
        }
    }

    fn client_receives(&mut self) {
        // A client that has left and is told of damage does in debug builds what a server does.
        if self.client_is_broken || (self.client_has_left && self.is_damaged) {
            return;
        }
        self.server_writes(3);
        let mut arriving = std::mem::take(&mut self.to_client);
        let mut rest = &arriving[..];
        while !rest.is_empty() {
            let is_full = self.client.read_tls(&mut rest).is_ok_and(|bytes| bytes == 0);
            if let Err(error) = self.client.process_new_packets() {
                assert!(self.is_damaged, "{error}");
                (self.is_broken, self.client_is_broken) = (true, true);
                break;
            }
            let mut read = Vec::new();
            // It ends with a goodbye, or for now.
            _ = self.client.reader().read_to_end(&mut read);
            for byte in read {
                assert!(self.client_read < self.server_sent, "nobody sent that");
                assert_eq!(byte, byte_at(self.client_read), "at {}", self.client_read);
                self.client_read += 1;
            }
            if is_full {
                break;
            }
        }
        arriving.clear();
        self.client_writes();
    }

    /// Everything on its way arrives. Says whether the client sent data and all of it did.
    fn finish(mut self) -> bool {
        self.all_arrives(1_000);
        self.server_reads();
        self.client_receives();
        let is_whole = self.server_read == self.client_sent && self.client_read == self.server_sent;
        assert!(is_whole || self.is_damaged, "something that was sent did not arrive");
        is_whole && self.client_sent > 0
    }
}
