//! What a start and `check` say of whatever other machines, and other users of this one, could do.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use node::{KEY, Node};
use program::check;
use rcgen::{CertificateParams, KeyPair};

/// Once, naming a proxy was enough for silence, and everybody else came past it without encryption.
#[test]
fn a_port_that_is_open_beside_its_proxies_is_told() {
    let everywhere = |proxies: &str| format!("[http]\ntrusted_proxies = [{proxies}]");
    let (unencrypted, beside) = (
        "keys, tokens and messages travel unencrypted",
        "every machine that can reach this port comes past them",
    );
    for (settings, is_unencrypted, is_beside) in [
        (String::new(), true, false),
        (everywhere(""), true, false),
        (everywhere("'127.0.0.1', '::1', 'unix'"), false, true),
        (everywhere("'127.0.0.1', '10.0.0.0/8'"), false, false),
    ] {
        let said = said_in_public(&settings);
        assert_eq!(said.contains(unencrypted), is_unencrypted, "{settings}: {said}");
        assert_eq!(said.contains(beside), is_beside, "{settings}: {said}");
        let is_left_to_a_firewall = said.contains("let nobody but them reach this port");
        assert_eq!(is_left_to_a_firewall, !is_unencrypted && !is_beside, "{settings}: {said}");
    }
}

/// What is said by a server that listens on all addresses for a moment.
fn said_in_public(settings: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("channelapi.toml"), settings).unwrap();
    let mut command = Command::new("timeout");
    command.args(["--signal=TERM", "2", env!("CARGO_BIN_EXE_channelapi"), "--address=0.0.0.0", "--port=0"]);
    command.args(["--log-format=json", "--drain-timeout=0s"]);
    let output =
        command.current_dir(&directory).env_clear().env("CHANNELAPI_AUTH_KEY", KEY).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("pages of every origin may connect"), "{said}");
    said
}

#[test]
fn a_data_directory_that_everybody_may_change_is_told_by_check_and_by_a_start() {
    let mut node = Node::start("data_dir = 'open'");
    assert!(!node.said.iter().any(|line| line.contains("put files into")), "{:?}", node.said);
    let directory = node.dir.path().join("open");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
    node.said.clear();
    node.restart();
    assert!(node.said.iter().any(|line| line.contains("every user of this machine may put files into open")));
    let mut checking = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    let checked = checking.arg("check").current_dir(node.dir.path()).env_clear().output().unwrap();
    check(
        &checked,
        0,
        &["warning: every user of this machine may put files into open", "configuration is valid"],
        &[],
    );
}

#[test]
fn check_tells_what_a_start_could_not_keep_its_data_in() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let of = |data_dir: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
        let command = command.args(["check", "--data-dir", data_dir]).current_dir(&directory).env_clear();
        command.env("CHANNELAPI_AUTH_KEY", KEY).output().unwrap()
    };
    check(&of("file"), 0, &["warning: data_dir: file is no directory; a start by this user would fail"], &[]);
    check(&of("file/below"), 0, &["warning: data_dir: this user cannot "], &[]);
    check(&of("new"), 0, &["configuration is valid"], &[]);
    assert!(!directory.path().join("new").exists(), "nothing is made by looking");
}

#[test]
fn the_port_that_leads_to_https_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("cert.pem"), certificate.pem()).unwrap();
    fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let node = Node::start(&format!(
        "[tls]\nredirect_port = 0\ncert = '{}'\nkey = '{}'",
        cert.display(),
        key.display()
    ));
    let ready = node.said.last().unwrap();
    let port = ready.split("\"redirect\":\"127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next());
    let port: u16 = port.unwrap_or_else(|| panic!("no port in {ready}")).parse().unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "{port}");
}

#[test]
fn fewer_connections_than_were_set_are_told() {
    let node = Node::start_by(&["prlimit", "--nofile=1024:1024"], "[limits]\nconnections = 5000");
    let max = node.metric("channelapi_connections_max");
    let told = format!(
        "limits.connections is 5000, but there is room for {max} only: this process may open 1024 files"
    );
    assert!(node.said.iter().any(|line| line.contains(&told)), "{told}: {:?}", node.said);
}
#[test]
fn a_start_that_fails_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let authority = ["--acme-domains=push.example.test", "--acme-terms-agreed", "--acme-ca-file=none.pem"];
    let ended = Command::new(env!("CARGO_BIN_EXE_channelapi"))
        .current_dir(dir.path())
        .args(["--port=0", "--address=127.0.0.1"])
        .args(authority)
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        said.contains("error: acme.ca_file: cannot use none.pem: ") && said.contains("No such"),
        "{said}"
    );
    assert_eq!(ended.status.code(), Some(78), "{said}");
}
