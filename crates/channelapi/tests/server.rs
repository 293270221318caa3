//! `publish` and `subscribe` against the real server, as users run all three.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod port;
mod program;
mod skipped;

use skipped::skipped;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use program::check;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_mins(1);

fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    command.current_dir(dir).args(args).env_clear().stdin(Stdio::null());
    command
}

/// A server in a directory of its own, on a port that stays the same when it is started again.
struct Server {
    dir: TempDir,
    port: String,
    running: Option<Child>,
}

impl Server {
    fn start() -> Self {
        let port = port::free().to_string();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("channelapi.toml"), format!("port = {port}\naddress = '127.0.0.1'\n"))
            .unwrap();
        let mut server = Self { dir, port, running: None };
        server.run();
        server
    }

    /// Starts it and waits until it says that it is ready.
    fn run(&mut self) {
        let mut child =
            program(self.dir.path(), &["--log-format", "json"]).stderr(Stdio::piped()).spawn().unwrap();
        let log = lines_of(child.stderr.take().unwrap());
        self.running = Some(child);
        let mut said = Vec::new();
        loop {
            let Ok(line) = log.recv_timeout(PATIENCE) else {
                panic!("the server does not get ready:\n{}", said.join("\n"));
            };
            if line.contains("\"ready\"") {
                return;
            }
            said.push(line);
        }
    }

    /// Kills it as a power cut would.
    fn kill(&mut self) {
        let mut child = self.running.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it as a process manager would.
    fn stop(&mut self) {
        let mut child = self.running.take().expect("it runs");
        let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(status.success() && child.wait().unwrap().success());
    }

    /// Tries to start it, and waits until it has ended by itself.
    fn refused(&self) -> Output {
        let mut child =
            program(self.dir.path(), &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        for _ in 0..PATIENCE.as_millis() / 10 {
            if child.try_wait().unwrap().is_some() {
                return child.wait_with_output().unwrap();
            }
            thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        panic!("it did not end: {:?}", child.wait_with_output());
    }

    /// Every file in its data directory, but for the lock and what SQLite makes beside its file while it is open.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![self.dir.path().join("data")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !["lock", "state.db-wal", "state.db-shm"].iter().any(|name| path.ends_with(name)) {
                    files.insert(path.clone(), std::fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// Runs a verb where the server's files are; nothing says where it is but they.
    fn verb(&self, args: &[&str]) -> Output {
        program(self.dir.path(), args).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
    }
}

/// The lines of a program's output as they come.
fn lines_of(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        // Read to the end even if nobody listens, so that the program is never held up.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            _ = sender.send(line);
        }
    });
    lines
}

#[test]
fn the_key_and_the_port_are_found_where_the_server_has_them() {
    let server = Server::start();
    check(&server.verb(&["publish", "a/b", r#"{"n": 1.0}"#]), 0, &["published a/b #1 (fsync)\n"], &[]);
    check(&server.verb(&["publish", "a/b", "two"]), 0, &["published a/b #2 (fsync)\n"], &[]);
    let all = server.verb(&["subscribe", "a/b", "--since", "all", "--count", "2"]);
    check(&all, 0, &["{\"n\": 1.0}\n\"two\"\n"], &[]);
    let known = server.verb(&["subscribe", "a/b", "--since", "1", "--count", "1", "--json"]);
    check(&known, 0, &["\"offset\":2", "\"data\":\"two\"", "\"cursor\":\"ca1."], &[]);

    let elsewhere = tempfile::tempdir().unwrap();
    let url = format!("http://127.0.0.1:{}", server.port);
    let output = program(elsewhere.path(), &["publish", "a", "x", "--server", &url]).output().unwrap();
    check(&output, 1, &[], &["wants a key", "./data/auth_key does not exist"]);
}

#[test]
fn a_repeated_command_publishes_once() {
    let server = Server::start();
    let once = ["publish", "demo", "x", "--idempotency-key", "k"];
    check(&server.verb(&once), 0, &["published demo #1 (fsync)\n"], &[]);
    check(&server.verb(&once), 0, &["already published as demo #1 (fsync)\n"], &[]);
    let other = ["publish", "demo", "y", "--idempotency-key", "k"];
    check(&server.verb(&other), 1, &[], &["(idempotency_key_reused)"]);
}

#[test]
fn a_bad_line_keeps_those_before_it() {
    let server = Server::start();
    let large = "x".repeat(300_000);
    std::fs::write(server.dir.path().join("lines"), format!("one\ntwo\n{large}\nfour\n")).unwrap();
    let input = std::fs::File::open(server.dir.path().join("lines")).unwrap();
    let output =
        program(server.dir.path(), &["publish", "demo", "--stdin-lines"]).stdin(input).output().unwrap();
    let said = ["error: line 3: ", "(too_large)", "everything up to line 2 is published, nothing after it\n"];
    check(&output, 1, &["published 2 lines to demo: #1 to #2 (fsync)\n"], &said);
    check(
        &server.verb(&["subscribe", "demo", "--since", "all", "--count", "2"]),
        0,
        &["\"one\"\n\"two\"\n"],
        &[],
    );
}

#[test]
fn nothing_is_lost_or_doubled_while_the_server_is_killed() {
    let mut server = Server::start();
    let mut subscriber = program(server.dir.path(), &["subscribe", "demo", "--since", "0", "--count", "900"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let printed = lines_of(subscriber.stdout.take().unwrap());
    let said = lines_of(subscriber.stderr.take().unwrap());
    let mut publisher = program(server.dir.path(), &["publish", "demo", "--stdin-lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = publisher.stdin.take().unwrap();

    let mut got = Vec::new();
    for part in 0..3 {
        if part > 0 {
            server.kill();
        }
        for number in part * 300..(part + 1) * 300 {
            writeln!(input, "{number}").unwrap();
        }
        input.flush().unwrap();
        if part > 0 {
            server.run();
        }
        // The server is next killed in the middle of what the publisher sends, or after it.
        let until = if part < 2 { part * 300 + 150 } else { 900 };
        while got.len() < until {
            got.push(printed.recv_timeout(PATIENCE).unwrap());
        }
    }
    drop(input);
    let expected: Vec<String> = (0..900).map(|number: u32| number.to_string()).collect();
    assert_eq!(got, expected);
    let output = publisher.wait_with_output().unwrap();
    check(&output, 0, &["published 900 lines to demo: #1 to #900 (fsync)\n"], &[]);
    assert!(subscriber.wait().unwrap().success());
    assert!(said.iter().all(|line| !line.contains("gap")));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_silently() {
    let server = Server::start();
    let lines = program(server.dir.path(), &["publish", "demo", "1"]).output().unwrap();
    check(&lines, 0, &["published demo #1"], &[]);
    let mut subscriber = program(server.dir.path(), &["subscribe", "demo", "--since", "all"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(subscriber.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    check(&server.verb(&["publish", "demo", "2"]), 0, &["published demo #2"], &[]);
    check(&subscriber.wait_with_output().unwrap(), 0, &[], &[]);
}

/// Once, `subscribe … | head -1` went on until somebody published again.
#[test]
fn a_subscriber_ends_when_its_reader_goes_and_not_only_when_there_is_more_to_print() {
    let server = Server::start();
    check(&server.verb(&["publish", "demo", "only"]), 0, &["#1"], &[]);
    let mut subscriber = program(server.dir.path(), &["subscribe", "demo", "--since", "all"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(subscriber.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "\"only\"\n");
    drop(output);
    for _ in 0..PATIENCE.as_millis() / 10 {
        if subscriber.try_wait().unwrap().is_some() {
            return check(&subscriber.wait_with_output().unwrap(), 0, &[], &[]);
        }
        thread::sleep(Duration::from_millis(10));
    }
    subscriber.kill().unwrap();
    panic!("it goes on");
}

#[test]
fn a_backup_of_a_running_server_is_a_server_of_its_own() {
    let mut server = Server::start();
    let mut publisher = program(server.dir.path(), &["publish", "demo", "--stdin-lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = publisher.stdin.take().unwrap();
    for number in 1..=200 {
        writeln!(input, "{number}").unwrap();
    }
    input.flush().unwrap();
    // All of these are stored; those that follow may be in the copy or not.
    let stored = server.verb(&["subscribe", "demo", "--since", "0", "--count", "200"]);
    check(&stored, 0, &["200\n"], &[]);
    for number in 201..=400 {
        writeln!(input, "{number}").unwrap();
    }
    let outside = tempfile::tempdir().unwrap();
    let copy = outside.path().join("copy");
    let destination = copy.to_str().unwrap();
    check(&server.verb(&["store", "backup", destination]), 0, &["copied to ", " of publications"], &[]);
    check(&server.verb(&["store", "backup", destination]), 1, &[], &["error: ", "exists already"]);
    check(&server.verb(&["store", "backup", "data/copy"]), 1, &[], &["is inside the data directory"]);
    drop(input);
    assert!(publisher.wait().unwrap().success());

    server.kill();
    let data = server.dir.path().join("data");
    std::fs::remove_dir_all(&data).unwrap();
    let restored = Command::new("cp").args(["-a", destination, data.to_str().unwrap()]).status().unwrap();
    assert!(restored.success());
    server.run();
    let newest = server.verb(&["publish", "demo", "the next"]);
    let offset: u32 = program::text(&newest.stdout)
        .strip_prefix("published demo #")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{newest:?}"));
    assert!((201..=401).contains(&offset), "{offset}");
    let count = offset.to_string();
    let all = server.verb(&["subscribe", "demo", "--since", "0", "--count", &count]);
    let mut expected: Vec<String> = (1..offset).map(|number| number.to_string()).collect();
    expected.push("\"the next\"".to_owned());
    check(&all, 0, &[&(expected.join("\n") + "\n")], &[]);
}

#[test]
fn a_data_directory_is_summed_up_and_what_is_wrong_with_it_is_found() {
    let mut server = Server::start();
    for (data, said) in [("one", "published demo #1"), ("two", "published demo #2")] {
        check(&server.verb(&["publish", "demo", data]), 0, &[said], &[]);
    }
    let sums = [
        "1 channel, 2 publications kept\n1 segment, ",
        "\n  0000000000000001.log  ",
        "  2 publications\nlargest channels\n  demo  ",
    ];
    check(&server.verb(&["store", "stats"]), 0, &sums, &[]);
    let stats = from_json(&server.verb(&["store", "stats", "-o", "json"]));
    assert_eq!((&stats["channels"], &stats["publications"]), (&json!(1), &json!(2)), "{stats}");
    assert_eq!(stats["segments"][0]["file"], "0000000000000001.log", "{stats}");
    assert_eq!(stats["segments"][0]["publications"], 2, "{stats}");
    assert_eq!(stats["largest"][0]["channel"], "demo", "{stats}");
    assert!(stats["oldest_ts"].is_u64() && stats["newest_ts"].is_u64(), "{stats}");

    let sound = ["1 segment, ", ", 2 publications\nsound\n"];
    check(&server.verb(&["store", "verify"]), 0, &sound, &[]);
    let report = from_json(&server.verb(&["store", "verify", "-o", "json"]));
    assert_eq!((&report["publications"], &report["torn_bytes"]), (&json!(2), &json!(0)), "{report}");
    assert_eq!((&report["damage"], &report["state_damage"]), (&json!([]), &json!([])), "{report}");

    server.kill();
    let data = server.dir.path().join("data");
    let damaged = |wrong: &[&str]| {
        check(&server.verb(&["store", "verify"]), 1, wrong, &["error: 1 place is damaged in "]);
    };
    let secret = std::fs::read(data.join("token_secret")).unwrap();
    std::fs::write(data.join("token_secret"), "x").unwrap();
    damaged(&["\ntoken_secret: ", "must hold 32 bytes"]);
    std::fs::remove_file(data.join("token_secret")).unwrap();
    damaged(&["\ntoken_secret: missing"]);
    let incomplete = server.verb(&["store", "backup", "copy"]);
    check(
        &incomplete,
        1,
        &["copied to copy: "],
        &["as what was copied: 1 place is damaged or missing in it;"],
    );
    std::fs::write(data.join("token_secret"), secret).unwrap();
    check(&server.verb(&["store", "verify"]), 0, &sound, &[]);
    std::fs::remove_file(data.join("log/0000000000000001.log")).unwrap();
    damaged(&["0 segments, ", "\nlog: missing"]);
    let report = from_json(&server.verb(&["store", "verify", "-o", "json"]));
    assert!(report["state_damage"][0].as_str().unwrap().starts_with("log: missing"), "{report}");
}

/// Once, whoever had lost `state.db` heard nothing of the log, and that there is a file to be moved away.
#[test]
fn damage_of_the_log_is_told_whatever_has_become_of_the_state() {
    let mut server = Server::start();
    for data in ["one", "two"] {
        check(&server.verb(&["publish", "demo", data]), 0, &["published demo"], &[]);
    }
    server.stop();
    let data = server.dir.path().join("data");
    let segment = data.join("log/0000000000000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let place = bytes.windows(5).position(|window| window == b"\"one\"").unwrap();
    bytes[place] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let log = "\nlog/0000000000000001.log at ";
    let copied = server.verb(&["store", "backup", "copy"]);
    let said =
        ["the copy is as incomplete as what was copied: ", "`channelapi store verify --data-dir copy`"];
    check(&copied, 1, &["copied to copy: "], &said);
    check(&server.verb(&["store", "verify", "--data-dir", "copy"]), 1, &[log], &["damaged in copy"]);
    // What SQLite keeps beside it would make it whole again.
    _ = std::fs::remove_file(data.join("state.db-wal"));
    std::fs::write(data.join("state.db"), "no database").unwrap();
    check(&server.verb(&["store", "verify"]), 1, &[log, "state.db: "], &["error: ", " damaged in "]);
    std::fs::remove_file(data.join("state.db")).unwrap();
    let missing = "state.db: missing; all tokens, revocations and positions are gone";
    check(&server.verb(&["store", "verify"]), 1, &[log, missing], &["error: ", " damaged in "]);
    let report = from_json(&server.verb(&["store", "verify", "-o", "json"]));
    assert_eq!(
        (&report["state_damage"], report["damage"].as_array().map(Vec::is_empty)),
        (&json!([missing]), Some(false))
    );
}

/// Once, a directory of another user was called no data directory.
#[test]
fn a_directory_that_cannot_be_entered_is_told_from_one_that_is_not_there() {
    let place = tempfile::tempdir().unwrap();
    let verbs: [&[&str]; 3] =
        [&["store", "verify"], &["store", "stats"], &["store", "backup", "/nowhere/copy"]];
    for verb in verbs {
        let output = program(place.path(), verb).output().unwrap();
        check(&output, 1, &[], &["./data does not exist; say where the data directory is with --data-dir"]);
    }
    let closed = place.path().join("closed");
    std::fs::create_dir_all(closed.join("data/log")).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let data = closed.join("data");
    for verb in verbs {
        // Root may enter everything.
        let as_nobody =
            ["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_channelapi")];
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(as_nobody).args(verb).current_dir("/").env_clear();
            command
        } else {
            program(place.path(), verb)
        };
        let Ok(output) = command.arg("--data-dir").arg(&data).output() else {
            skipped("there is no setpriv here, so root stays root");
            break;
        };
        check(&output, 1, &[], &["/data: Permission denied", "run this as the user that runs the server"]);
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// The checksum in the header of a segment.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// The start is refused with these words, and changes nothing.
fn assert_refused(server: &Server, said: &[&str]) {
    let before = server.files();
    let refused = server.refused();
    let text = program::text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(75), "{text}");
    for part in said {
        assert!(text.contains(part), "{part:?} is missing from {text}");
    }
    let after = server.files();
    assert!(before == after, "changed: {:?} to {:?}", before.keys(), after.keys());
}

#[test]
fn a_directory_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut server = Server::start();
    for number in 0..10 {
        assert!(server.verb(&["publish", "demo", &number.to_string()]).status.success());
    }
    server.stop();
    let data = server.dir.path().join("data");

    let state = data.join("state.db");
    let set_format = |format: i64| {
        let state = rusqlite::Connection::open(&state).unwrap();
        let found: i64 = state.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        state.pragma_update(None, "user_version", format).unwrap();
        found
    };
    let ours = set_format(99);
    let knows = format!("knows up to {ours}");
    assert_refused(&server, &["state.db has format 99", &knows, "start the newer version"]);
    set_format(ours);

    // A segment has its format in its eighth byte.
    let segment = data.join("log/0000000000000001.log");
    let sound = std::fs::read(&segment).unwrap();
    let mut newer = sound.clone();
    newer[7] += 1;
    let checksum = crc32(&newer[..24]);
    newer[24..28].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&segment, newer).unwrap();
    let said = [
        "data/log: ",
        "0000000000000001.log was written in another format",
        "start the version that wrote it",
    ];
    assert_refused(&server, &said);
    std::fs::write(&segment, sound).unwrap();

    // The version that wrote it goes on with it.
    server.run();
    let all = server.verb(&["subscribe", "demo", "--since", "0", "--count", "10"]);
    check(&all, 0, &["0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"], &[]);
}

fn from_json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}
