//! A real server in a directory of its own, and clients that speak to it in bytes.

#![allow(dead_code, reason = "every test binary uses its own part")]

#[path = "../port/mod.rs"]
pub(crate) mod port;

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{OFlags, fcntl_setfl};
use tempfile::TempDir;

/// Enough for a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The key of every server here.
pub(crate) const KEY: &str = "a-key-for-the-tests-of-limits";

/// One server.
pub(crate) struct Node {
    pub(crate) dir: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
    command: Vec<String>,
    log: Mutex<Receiver<String>>,
    /// Where its log is, if nobody reads it.
    unread: Option<PipeReader>,
    /// What it has said so far.
    pub(crate) said: Vec<String>,
}

impl Node {
    /// Starts one with these settings on top, and waits until it is ready.
    pub(crate) fn start(settings: &str) -> Self {
        Self::start_by(&[], settings)
    }

    /// Starts one through another program that ends up being it, as `prlimit`.
    pub(crate) fn start_by(wrapper: &[&str], settings: &str) -> Self {
        Self::start_as(wrapper, &format!("auth_key = '{KEY}'\n{settings}"))
    }

    /// Starts one that makes its key itself.
    pub(crate) fn start_without_key() -> Self {
        Self::start_as(&[], "")
    }

    fn start_as(wrapper: &[&str], settings: &str) -> Self {
        let mut node = Self::spawn(wrapper, settings, Stdio::piped());
        node.await_log("\"ready\"");
        node
    }

    /// Starts one whose log goes into a pipe that is full, and waits until it answers.
    pub(crate) fn start_unread(settings: &str) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        fill(&writer);
        let mut node = Self::spawn(&[], &format!("auth_key = '{KEY}'\n{settings}"), writer.into());
        node.unread = Some(reader);
        eventually("an answer", || {
            let mut stream = node.try_connect().ok()?;
            ask(&mut stream, "GET", "/healthz", &[], "").ok()
        });
        node
    }

    /// Reads the log of such a one from now on.
    pub(crate) fn read_log(&mut self) {
        self.log = Mutex::new(lines_of(self.unread.take().unwrap()));
    }

    fn spawn(wrapper: &[&str], settings: &str, stderr: Stdio) -> Self {
        let port = port::free();
        let dir = tempfile::tempdir().unwrap();
        let settings = format!("port = {port}\naddress = '127.0.0.1'\n{settings}");
        std::fs::write(dir.path().join("channelapi.toml"), settings).unwrap();
        let mut command: Vec<String> = wrapper.iter().map(|part| (*part).to_owned()).collect();
        command.extend([env!("CARGO_BIN_EXE_channelapi").to_owned(), "--log-format=json".to_owned()]);
        let mut child = spawn(&dir, &command, stderr);
        let log = Mutex::new(child.stderr.take().map_or_else(|| mpsc::channel().1, lines_of));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { dir, address, child, command, log, unread: None, said: Vec::new() }
    }

    /// Starts it again, on its directory and port, after it has ended.
    pub(crate) fn restart(&mut self) {
        self.begin_restart();
        self.await_log("\"ready\"");
    }

    /// The same, and does not wait until it is ready.
    pub(crate) fn begin_restart(&mut self) {
        let mut child = spawn(&self.dir, &self.command, Stdio::piped());
        self.log = Mutex::new(lines_of(child.stderr.take().unwrap()));
        self.child = child;
    }

    /// Waits until it logs a line with this part.
    pub(crate) fn await_log(&mut self, part: &str) -> String {
        loop {
            let line = self.log.lock().unwrap().recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line with {part}; it said {:#?}", self.said));
            self.said.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// A connection, if the server takes one.
    pub(crate) fn try_connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self) -> TcpStream {
        self.try_connect().unwrap()
    }

    /// One request on a connection of its own: the status, the head and the body of its answer.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.connect();
        ask(&mut stream, method, path, headers, body).unwrap()
    }

    /// A request with the key.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.request(method, path, &[("Authorization", KEY)], body)
    }

    /// The token of a channel.
    pub(crate) fn token(&self, channel: &str) -> String {
        let body = self.call("POST", &format!("/channel/{channel}"), "").body;
        body.split('"').nth_back(1).unwrap().to_owned()
    }

    /// The value of one metric, with its label if it has one.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let answer = self.call("GET", "/metrics", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        value_in(&answer.body, series)
    }

    /// Waits until a metric has a value that is right.
    pub(crate) fn await_metric(&self, series: &str, is_right: impl Fn(u64) -> bool) -> u64 {
        eventually(series, || Some(self.metric(series)).filter(|value| is_right(*value)))
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended, and returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        eventually("the end of the server", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn spawn(dir: &TempDir, command: &[String], stderr: Stdio) -> Child {
    let mut spawning = Command::new(&command[0]);
    spawning.args(&command[1..]).current_dir(dir.path()).stdin(Stdio::null()).stderr(stderr);
    spawning.spawn().unwrap()
}

/// Fills a pipe with empty lines.
fn fill(mut pipe: &PipeWriter) {
    fcntl_setfl(pipe, OFlags::NONBLOCK).unwrap();
    while pipe.write(&[b'\n'; 4_096]).is_ok() {}
    fcntl_setfl(pipe, OFlags::empty()).unwrap();
}

/// Looks again and again until there is something to see.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "waiting for {what} took too long");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The value of one metric on a page of them.
pub(crate) fn value_in(page: &str, series: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

/// The lines of a program's output as they come.
fn lines_of(output: impl io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        // Read to the end even if nobody listens, so that the program is never held up.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            _ = sender.send(line);
        }
    });
    lines
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// For how many milliseconds a stream that only says so tells to stay away.
pub(crate) fn pause_in(stream: &str) -> u64 {
    let pause = stream.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix("\n\n"));
    pause.and_then(|pause| pause.parse().ok()).unwrap_or_else(|| panic!("no pause alone: {stream:?}"))
}

/// Asks on a connection and reads the answer.
pub(crate) fn ask(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes())?;
    read_answer(stream)
}

/// Reads one answer with a length.
pub(crate) fn read_answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let head = read_head(stream)?;
    let length = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no answer: {head}")))?;
    Ok(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A Socket.IO client on a WebSocket.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

/// Where a session by polling is opened.
pub(crate) const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// The headers that ask for a WebSocket.
pub(crate) const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

impl Client {
    /// Opens a session by polling and asks for a WebSocket for it, which has said nothing yet.
    pub(crate) fn upgrading(node: &Node) -> Self {
        let open = node.request("GET", POLLING, &[], "").body;
        let sid = open.split(r#""sid":""#).nth(1).unwrap().split('"').next().unwrap();
        let mut stream = node.connect();
        let path = format!("/socket.io/?EIO=4&transport=websocket&sid={sid}");
        assert_eq!(ask(&mut stream, "GET", &path, &UPGRADE, "").unwrap().status, 101);
        Self { stream }
    }

    /// Opens a WebSocket; says no more than what Engine.IO says.
    pub(crate) fn open(node: &Node, headers: &[(&str, &str)]) -> Result<Self, Answer> {
        Self::open_on(node.connect(), headers)
    }

    pub(crate) fn open_on(mut stream: TcpStream, headers: &[(&str, &str)]) -> Result<Self, Answer> {
        Self::ask_on(&mut stream, headers).unwrap();
        Self::answered_on(stream)
    }

    /// Asks for a WebSocket, and does not wait for the answer.
    pub(crate) fn ask_on(stream: &mut TcpStream, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: test\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            .to_owned();
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        stream.write_all(format!("{request}\r\n").as_bytes())
    }

    /// Takes the answer to that.
    pub(crate) fn answered_on(mut stream: TcpStream) -> Result<Self, Answer> {
        let answer = read_answer(&mut stream).unwrap_or_else(|error| Answer {
            status: 0,
            head: error.to_string(),
            body: String::new(),
        });
        if answer.status == 101 { Ok(Self { stream }) } else { Err(answer) }
    }

    /// Enters the root namespace.
    pub(crate) fn enter(node: &Node) -> Self {
        let mut client = Self::open(node, &[]).expect("the server takes clients");
        client.send("40").unwrap();
        client.await_text("42[\"clientevent\"");
        client
    }

    /// Enters, and joins a channel.
    pub(crate) fn join(node: &Node, token: &str) -> Self {
        let mut client = Self::enter(node);
        client.send(&format!(r#"42["join_channel",{{"token":"{token}"}}]"#)).unwrap();
        client.await_text("Connected to");
        client
    }

    /// Sends a text.
    pub(crate) fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(&masked(text))
    }

    /// The next text, `None` at the end of the connection or when the server closes the WebSocket.
    pub(crate) fn receive(&mut self) -> Option<String> {
        let (opcode, bytes) = self.frame()?;
        match opcode {
            1 => Some(String::from_utf8(bytes).unwrap()),
            8 => None,
            _ => self.receive(),
        }
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).ok()?;
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length).ok()?;
                usize::try_from(u64::from_be_bytes(length)).unwrap()
            }
            short => usize::from(short),
        };
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok()?;
        Some((head[0] & 15, bytes))
    }

    /// Reads until a text has this part. Pings are answered.
    pub(crate) fn await_text(&mut self, part: &str) -> String {
        let mut before = Vec::new();
        loop {
            let Some(text) = self.receive() else { panic!("the end came before {part}; {before:?}") };
            if text == "2" {
                self.send("3").unwrap();
            }
            if text.contains(part) {
                return text;
            }
            before.push(text);
        }
    }

    /// Reads until the end, and returns the code of the close frame.
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        loop {
            let (opcode, bytes) = self.frame()?;
            if opcode == 8 {
                return bytes.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
    }

    /// Reads until the end, and returns all texts before it, and the close frame's text.
    pub(crate) fn rest(&mut self) -> (Vec<String>, Option<String>) {
        let mut texts = Vec::new();
        while let Some((opcode, bytes)) = self.frame() {
            match opcode {
                1 => texts.push(String::from_utf8(bytes).unwrap()),
                8 => {
                    let reason = bytes.get(2..).unwrap_or_default();
                    return (texts, Some(String::from_utf8_lossy(reason).into_owned()));
                }
                _ => {}
            }
        }
        (texts, None)
    }
}

/// A text as a client's frame.
pub(crate) fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    // A mask of zeros is a mask.
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}
