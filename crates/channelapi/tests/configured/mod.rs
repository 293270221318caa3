//! A server with a file that it is configured with, and the keys of `[[auth_keys]]` in it, which a test may change and have read again.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const PUBLISHER: &str = "publisher-key-0123456789";
pub(crate) const READER: &str = "reader-key-0123456789-abc";
pub(crate) const SHOP: &str = "shop-key-0123456789-abcde";

/// A key of the list, in a file of its own.
pub(crate) fn key(name: &str, key: &str, scopes: &str, more: &str) -> (String, String) {
    let lines =
        format!("[[auth_keys]]\nname = '{name}'\nkey_file = '{name}.key'\nscopes = [{scopes}]\n{more}\n");
    (lines, key.to_owned())
}

pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) address: String,
    pub(crate) running: Child,
    log: Receiver<String>,
    pub(crate) heard: Vec<String>,
}

impl Server {
    pub(crate) fn start(top: &str, keys: &[(String, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_configuration(dir.path(), top, keys);
        let mut running = Command::new(env!("CARGO_BIN_EXE_channelapi"))
            .current_dir(dir.path())
            .args(["--log-format", "json"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = mpsc::channel();
        let stderr = running.stderr.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                _ = sender.send(line);
            }
        });
        let mut server = Self { dir, address: String::new(), running, log, heard: Vec::new() };
        let ready = server.wait_for("\"ready\"");
        let (_, rest) = ready.split_once("\"address\":\"").unwrap();
        rest.split('"').next().unwrap().clone_into(&mut server.address);
        server
    }

    /// The next line of the log with this text.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no {part} in {:#?}", self.heard));
            self.heard.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn reload(&mut self, top: &str, keys: &[(String, String)], outcome: &str) {
        write_configuration(self.dir.path(), top, keys);
        self.hang_up(outcome);
    }

    /// Lets the server read its files again, as they are.
    pub(crate) fn hang_up(&mut self, outcome: &str) {
        let pid = Pid::from_raw(i32::try_from(self.running.id()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        self.wait_for(outcome);
    }

    pub(crate) fn ask(&self, method: &str, path: &str, key: &str, body: &str) -> Answer {
        self.ask_with(method, path, &format!("Authorization: {key}\r\n"), body)
    }

    pub(crate) fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let host = if headers.contains("Host: ") { "" } else { "Host: x\r\n" };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Answer::parse(&text)
    }

    /// Opens an event stream and reads its head.
    pub(crate) fn stream(&self, path: &str, key: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n").unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.kill().unwrap();
        self.running.wait().unwrap();
    }
}

fn write_configuration(dir: &Path, top: &str, keys: &[(String, String)]) {
    let lists: String = keys.iter().map(|(lines, _)| lines.as_str()).collect();
    for (lines, key) in keys {
        let (_, rest) = lines.split_once("key_file = '").unwrap();
        fs::write(dir.join(rest.split('\'').next().unwrap()), format!("{key}\n")).unwrap();
    }
    let level = if top.contains("log.level") { "" } else { "log.level = 'trace'\n" };
    let all = format!("{level}port = 0\naddress = '127.0.0.1'\n{top}\n{lists}");
    fs::write(dir.join("channelapi.toml"), all).unwrap();
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, body: body.to_owned() }
    }

    /// Checks the status, and that the body contains this.
    #[track_caller]
    pub(crate) fn check(&self, status: u16, part: &str) {
        assert!(self.status == status && self.body.contains(part), "{status} {part}: {self:?}");
    }
}
