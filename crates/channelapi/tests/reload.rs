//! What SIGHUP changes while the server runs, and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod configured;

use configured::{PUBLISHER, READER, SHOP, Server, key};
use std::{
    fs,
    io::{BufRead as _, Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

#[test]
fn keys_are_replaced_while_connections_stay() {
    let old = key("backend", PUBLISHER, "'publish', 'read'", "");
    let reader = key("reader", READER, "'read'", "");
    let mut server = Server::start("", &[old.clone(), reader.clone()]);
    let mut stays = server.stream("/v1/channels/a/stream", READER);
    let mut ends = server.stream("/v1/channels/a/stream", PUBLISHER);
    let publish = |server: &Server, key: &str| server.ask("POST", "/message/a", key, r#"{"message":7}"#);
    assert_eq!(publish(&server, PUBLISHER).status, 200);
    assert_eq!(publish(&server, SHOP).status, 403);

    // Both for a while.
    let new = key("backend-2", SHOP, "'publish'", "");
    server.reload("", &[old, reader.clone(), new.clone()], "the configuration is reloaded");
    let told = server.heard.iter().find(|line| line.contains("the API keys are new")).unwrap();
    assert!(told.contains(r#""added":"[\"backend-2\"]","removed":"[]","changed":"[]""#), "{told}");
    assert_eq!((publish(&server, PUBLISHER).status, publish(&server, SHOP).status), (200, 200));

    // Then the old one goes, and whoever came in with it.
    server.reload("", &[reader, new], "the configuration is reloaded");
    assert_eq!((publish(&server, PUBLISHER).status, publish(&server, SHOP).status), (403, 200));
    let mut all = String::new();
    ends.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("data: 7").count(), 3, "{all}");

    let mut line = String::new();
    for _ in 0..4 {
        while !line.starts_with("data: 7") {
            line.clear();
            assert_ne!(stays.read_line(&mut line).unwrap(), 0, "the stream of the other key goes on");
        }
        line.clear();
    }
}

#[test]
fn a_mistake_keeps_everything_as_it_was() {
    let keys = [key("backend", PUBLISHER, "'publish'", "")];
    let mut server = Server::start("", &keys);
    let refused = "everything stays as it was";
    let other = [key("other", SHOP, "'publish'", "")];
    let works = |server: &Server| {
        let status = |key| server.ask("POST", "/message/a", key, r#"{"message":1}"#).status;
        assert_eq!((status(PUBLISHER), status(SHOP)), (200, 403));
    };

    server.reload("prot = 1", &other, "unknown key `prot`; did you mean `port`?");
    server.wait_for(refused);
    works(&server);
    let weak = [key("other", SHOP, "'publish'", ""), key("empty", "", "'publish'", "")];
    server.reload("", &weak, "the key file empty.key of the auth key `empty` is empty");
    server.wait_for(refused);
    works(&server);

    // It can be mended, and what needs a restart is said.
    let top = "data_dir = './elsewhere'\nhttp.cors_origins = ['https://a.example']";
    server.reload(top, &other, "the configuration is reloaded");
    let said = |part: &str| server.heard.iter().any(|line| line.contains(part));
    assert!(
        said(r#""message":"an option has changed and needs a restart","option":"data_dir""#),
        "{:#?}",
        server.heard
    );
    assert!(said(r#""message":"an option has changed","option":"http.cors_origins""#), "{:#?}", server.heard);
    let connect = |origin: &str| {
        let headers = format!("Origin: {origin}\r\n");
        server.ask_with("GET", "/socket.io/?EIO=4&transport=polling", &headers, "").status
    };
    assert_eq!((connect("https://a.example"), connect("https://b.example")), (200, 403));
    let status = |key| server.ask("POST", "/message/a", key, r#"{"message":1}"#).status;
    assert_eq!((status(PUBLISHER), status(SHOP)), (403, 200));
}

/// A reload with another `data_dir`, which needs a restart, made a key there, and the one that every backend had was refused.
#[test]
fn a_key_that_was_made_at_the_start_counts_until_a_restart() {
    let mut server = Server::start("", &[]);
    let made = fs::read_to_string(server.dir.path().join("data/auth_key")).unwrap();
    for keys in [vec![], vec![key("other", SHOP, "'publish'", "")], vec![]] {
        server.reload("data_dir = './elsewhere'", &keys, "the configuration is reloaded");
        let expected = if keys.is_empty() { (200, 403) } else { (403, 200) };
        let status = |key: &str| server.ask("POST", "/message/a", key.trim(), r#"{"message":1}"#).status;
        assert_eq!((status(&made), status(SHOP)), expected);
    }
    assert!(!server.dir.path().join("elsewhere").exists());
}

/// A file that was found by searching once counted as none when it was gone, and nobody was let in any more.
#[test]
fn a_file_that_is_gone_keeps_everything_as_it_was() {
    let keys = [key("backend", PUBLISHER, "'publish'", "")];
    let mut server = Server::start("", &keys);
    fs::remove_file(server.dir.path().join("channelapi.toml")).unwrap();
    server.hang_up("cannot read the configuration file ./channelapi.toml");
    server.wait_for("everything stays as it was");
    server.ask("POST", "/message/a", PUBLISHER, r#"{"message":1}"#).check(200, "");
    server.reload("", &keys, "the configuration is reloaded");
}

#[test]
fn other_issuers_of_jwts_are_said() {
    let keys = [key("backend", PUBLISHER, "'publish'", "")];
    let mut server = Server::start("", &keys);
    for secret in ["one of 32 bytes or more, as it must be", "another of 32 bytes or more, of course"] {
        let issuer = format!("[[jwt]]\nsecret = '{secret}'");
        server.reload(&issuer, &keys, "the issuers of JWTs have changed");
        server.wait_for("the configuration is reloaded");
    }
}

#[test]
fn how_much_is_logged_can_be_changed() {
    let mut server = Server::start("", &[key("backend", PUBLISHER, "'publish'", "")]);
    let quiet = [key("other", SHOP, "'publish'", "")];
    server.reload("log.level = 'warn'", &quiet, "reading the configuration again");
    // Nothing says any more that it is done, but the new key is let in.
    while server.ask("POST", "/message/a", SHOP, r#"{"message":1}"#).status != 200 {}
    server.reload("", &quiet, "the configuration is reloaded");
    let count = |part: &str| server.heard.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("the configuration is reloaded"), 1, "{:#?}", server.heard);
    assert_eq!(count("the API keys are new"), 0, "{:#?}", server.heard);
    assert_eq!(count(r#""option":"log.level","before":"warn","now":"trace""#), 1, "{:#?}", server.heard);
}

/// A key is judged at the beginning, and where a consumer stands is looked up before the stream is one. Once, whoever was in between when
/// the key went stayed until the next heartbeat.
#[test]
fn a_stream_that_is_being_opened_while_its_key_goes_ends_with_it() {
    let reader = key("reader", READER, "'read'", "");
    let without = [key("publisher", PUBLISHER, "'publish'", "")];
    let with = [&without[..], &[reader]].concat();
    let mut server = Server::start("log.level = 'info'", &with);
    for round in 0..4 {
        let (address, is_over) = (server.address.clone(), AtomicBool::new(false));
        let opened: Vec<_> = thread::scope(|scope| {
            let opening = [0, 1].map(|thread| {
                let (address, is_over) = (&address, &is_over);
                scope.spawn(move || {
                    let until_over = (0..150).take_while(|_| !is_over.load(Ordering::Relaxed));
                    until_over.map(|number| ask_for(address, &format!("{round}-{thread}-{number}"))).collect()
                })
            });
            thread::sleep(Duration::from_millis(10));
            server.reload("log.level = 'info'", &without, "the configuration is reloaded");
            is_over.store(true, Ordering::Relaxed);
            opening.into_iter().flat_map(|all| -> Vec<TcpStream> { all.join().unwrap() }).collect()
        });
        assert!(opened.len() > 2, "there were {} streams", opened.len());
        for mut stream in opened {
            let mut all = String::new();
            stream.read_to_string(&mut all).unwrap_or_else(|error| panic!("{error}, behind {all}"));
        }
        server.reload("log.level = 'info'", &with, "the configuration is reloaded");
    }
}

/// Asks for a stream of a consumer, and reads nothing. Whoever reads has less patience than a heartbeat takes.
fn ask_for(address: &str, consumer: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    let path = format!("/v1/channels/a/stream?since=unread&consumer={consumer}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {READER}\r\n\r\n")
        .unwrap();
    stream
}
