//! Command lines of `bench`.

use std::{fmt::Write, time::Duration};

use super::*;
use crate::client::bench::Load;

#[track_caller]
fn asked(line: &str) -> Bench {
    match run_with(line, &[]) {
        Ok(Invocation::Bench(bench)) => *bench,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_is_not_said_is_harmless_for_a_small_machine() {
    let seconds = Duration::from_secs;
    for (line, connections, rate) in [
        ("bench connect", 1000, Some(500.0)),
        ("bench fanout", 1000, Some(10.0)),
        ("bench publish", 64, None),
        ("bench resume", 1000, Some(50.0)),
    ] {
        let bench = asked(line);
        assert_eq!(
            (bench.connections, bench.rate, bench.duration),
            (connections, rate, seconds(10)),
            "{line}"
        );
        assert_eq!(
            (bench.channel.as_str(), bench.size, bench.is_volatile, bench.json),
            ("bench", 200, false, false)
        );
        assert_eq!(bench.target.server.to_string(), "http://127.0.0.1:8888");
    }
}

#[test]
fn everything_about_a_load_can_be_said() {
    let bench = asked("bench fanout -c 7 --rate 0.5 -d 1m --size 1KiB --channel c --volatile --json");
    assert_eq!((bench.connections, bench.rate, bench.duration), (7, Some(0.5), Duration::from_mins(1)));
    assert_eq!((bench.channel.as_str(), bench.size, bench.is_volatile, bench.json), ("c", 1024, true, true));
    assert_eq!(asked("bench connect -c 3600 --rate 1").connections, 3600);
    assert_eq!(asked("bench publish --channels 9").load, Load::Publish { channels: 9 });
    let (every, away) = (Duration::from_secs(2), Duration::from_millis(500));
    assert_eq!(asked("bench resume --every 2s --away 500ms").load, Load::Resume { every, away });
}

/// With a port of its own for the API, clients still come through the public one.
#[test]
fn clients_connect_where_clients_do() {
    let urls = |line: &str| {
        let target = asked(line).target;
        (target.server.to_string(), target.clients.to_string())
    };
    let here = |port: u16| format!("http://127.0.0.1:{port}");
    assert_eq!(urls("--port 9000 --internal-port 9001 bench connect"), (here(9001), here(9000)));
    assert_eq!(urls("bench connect --server http://[::1]:1").1, "http://[::1]:1");
    assert_eq!(urls("bench connect --clients http://127.0.0.1:2"), (here(8888), here(2)));
}

#[test]
fn another_machine_is_loaded_only_by_its_owner() {
    for line in ["bench connect --server http://far", "bench connect --clients http://far"] {
        refuses(
            line,
            "http://far is another machine, and this would be an attack on a server that is not yours; if it is yours, add --yes-i-own-it",
        );
        asked(&format!("{line} --yes-i-own-it"));
    }
}

#[test]
fn a_load_has_bounds() {
    for (line, expected) in [
        (
            "bench",
            "which of them? `channelapi bench connect`, `channelapi bench fanout`, `channelapi bench publish` or `channelapi bench resume`",
        ),
        ("bench connect -c 0", "--connections: `0` cannot be; write 1 to 100000"),
        ("bench fanout -c 100001", "--connections: `100001` cannot be; write 1 to 100000"),
        ("bench publish -c 10001", "--connections: `10001` cannot be; write 1 to 10000"),
        ("bench publish --rate 0", "--rate: `0` cannot be; write how many a second, 0.001 to 1000000"),
        ("bench publish --rate NaN", "--rate: `NaN` cannot be; write how many a second, 0.001 to 1000000"),
        ("bench publish --duration 2h", "--duration: `2h` cannot be; write 1ms to 1h"),
        ("bench publish -d 30", "--duration: `30` has no unit; write 30s, 30ms or 30m"),
        ("bench publish --size 63", "--size: 63 bytes are too few or too many; write 64 to 256KiB"),
        ("bench publish --channels 0", "--channels: `0` cannot be; write 1 to 1000000"),
        ("bench resume --every 1ms", "--every: `1ms` cannot be; write 100ms to 1h"),
        (
            "bench fanout --rate 100000 -d 2m",
            "these are more than 10,000,000 publications; lower --rate or --duration",
        ),
        (
            "bench connect -c 3601 --rate 1",
            "until the last of them connects it takes more than an hour; raise --rate or lower --connections",
        ),
        ("bench fanout --chanel x", "unknown option `--chanel`; did you mean `--channel`?"),
        ("bench fanout --rate", "--rate needs a value; write --rate=100"),
        ("bench connct", "unknown command `connct`; did you mean `bench connect`?"),
    ] {
        refuses(line, expected);
    }
}

/// Of several keys it takes one that may do all of it.
#[test]
fn one_key_has_to_open_everything() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("channelapi.toml");
    let mut text = String::new();
    for (name, scopes) in
        [("shop", "\"publish\""), ("login", "\"tokens\""), ("both", "\"publish\", \"tokens\"")]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("key-of-{name}-0123456789\n")).unwrap();
        let _ = write!(
            text,
            "[[auth_keys]]\nname = '{name}'\nscopes = [{scopes}]\nkey_file = '{}'\n",
            path.display()
        );
    }
    std::fs::write(&file, text).unwrap();
    for (line, expected) in
        [("publish", "shop"), ("connect", "login"), ("fanout", "both"), ("resume", "both")]
    {
        let words = ["channelapi", "bench", line].map(OsString::from);
        let Ok(Invocation::Bench(bench)) = parse_in(words, [], std::slice::from_ref(&file)) else {
            panic!("{line}")
        };
        assert_eq!(bench.target.key.unwrap().expose(), format!("key-of-{expected}-0123456789"), "{line}");
    }
}
