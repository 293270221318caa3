//! What the program prints on a terminal of what others have written.

#![expect(clippy::unwrap_used, reason = "what fails around the program of a test fails the test")]

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::{ffi::OsStringExt, fs::OpenOptionsExt},
    process::{Command, Stdio},
    thread,
};

/// A terminal: the side of whoever looks at it, and that of a program.
fn terminal() -> (File, File) {
    let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&outer).unwrap();
    unlockpt(&outer).unwrap();
    let name = OsString::from_vec(ptsname(&outer, Vec::new()).unwrap().into_bytes());
    let flags = i32::try_from(OpenptFlags::NOCTTY.bits()).unwrap();
    let inner = OpenOptions::new().read(true).write(true).custom_flags(flags).open(name).unwrap();
    (outer.into(), inner)
}

/// What somebody sees of it until the program is gone, which Linux tells with an error.
fn seen(mut outer: File) -> String {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = outer.read(&mut piece) {
        seen.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(seen).unwrap().replace("\r\n", "\n")
}

/// A server that gives one answer, and where it is.
fn server(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut connection = listener.accept().unwrap().0;
        let lines = BufReader::new(&connection).lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        connection.write_all(answer.as_bytes()).unwrap();
    });
    url
}

/// A stream with two publications and a gap, by somebody who means no good.
fn stream() -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let gap = r#"{"channel":"de\u001b[2Jmo","reason":"trimmed"}"#;
    format!(
        "{head}id: ca1.0\n\nevent: gap\ndata: {gap}\n\n\
         event: message\ndata: {{\"data\":\"\u{9B}2J\u{202E}\u{7F}\"}}\n\n\
         event: message\ndata: {{\"data\":\"👩\u{200D}🚀 \\u009b\"}}\n\n"
    )
}

fn program(server: &str, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    command.env_clear().args(arguments).args(["--server", server, "--key", "a-key-of-sixteen-bytes"]);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    command
}

const SUBSCRIBE: [&str; 4] = ["subscribe", "demo", "--count", "2"];

/// Once, whoever may publish could clear the terminals of those who look on, give them titles, and turn their text around.
#[test]
fn a_terminal_gets_no_commands_from_publishers_and_servers() {
    let check = |answer: String, arguments: &[&str], out: &str, err: &str| {
        let ((outer, stdout), (outer_err, stderr)) = (terminal(), terminal());
        let mut child = program(&server(answer), arguments, stdout.into(), stderr.into()).spawn().unwrap();
        assert_eq!(seen(outer), out, "{arguments:?}");
        let told = seen(outer_err);
        assert!(told.contains(err) && !told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
        child.wait().unwrap();
    };
    let (gap, last) = (r"gap: publications of de\u001b[2Jmo may be missing", r#""👩‍🚀 \u009b""#);
    check(stream(), &SUBSCRIBE, &format!("\"\\u009b2J\\u202e\\u007f\"\n{last}\n"), gap);
    let lines = format!("{{\"data\":\"\\u009b2J\\u202e\\u007f\"}}\n{{\"data\":{last}}}\n");
    check(stream(), &[&SUBSCRIBE[..], &["--json"]].concat(), &lines, gap);
    let body = r#"{"detail":"Look: \u001b]0;owned\u0007\u009b2J"}"#;
    let refusal = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let told = r"error: Look: \u001b]0;owned\u0007\u009b2J";
    check(refusal.clone(), &SUBSCRIBE, "", told);
    check(refusal, &["publish", "demo", "x"], "", told);
    let body = "{\"offset\":1,\"durability\":\"\u{9B}2J\"}";
    let answer = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    check(
        answer,
        &["publish", "demo", "x", "-o", "json"],
        &format!("{}\n", body.replace('\u{9B}', r"\u009b")),
        "",
    );
}

#[test]
fn whoever_is_no_terminal_gets_each_byte() {
    let output = program(&server(stream()), &SUBSCRIBE, Stdio::piped(), Stdio::piped()).output().unwrap();
    let out = "\"\u{9B}2J\u{202E}\u{7F}\"\n\"👩\u{200D}🚀 \\u009b\"\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), out);
    assert!(String::from_utf8(output.stderr).unwrap().contains("de\u{1B}[2Jmo"));
}
