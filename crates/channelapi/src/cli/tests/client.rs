//! Command lines of the verbs that talk to a running server.

use super::*;
use crate::{
    client::{Form, Source},
    output::Output,
};

#[track_caller]
fn published(line: &str) -> Publish {
    match run_with(line, &[]) {
        Ok(Invocation::Publish(request)) => request,
        other => panic!("{line}: {other:?}"),
    }
}

#[track_caller]
fn subscribed(line: &str) -> Subscribe {
    match run_with(line, &[]) {
        Ok(Invocation::Subscribe(request)) => request,
        other => panic!("{line}: {other:?}"),
    }
}

fn data(request: &Publish) -> &str {
    match &request.source {
        Source::Data(json) => json.get(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn data_is_json_if_it_is_json() {
    for (line, json) in [
        ("publish demo hello", r#""hello""#),
        ("publish demo {\"a\":1.0}", r#"{"a":1.0}"#),
        ("publish demo -5", "-5"),
        ("publish demo --text 42", r#""42""#),
        ("publish demo --json 42", "42"),
        ("publish demo -- -hello", r#""-hello""#),
    ] {
        assert_eq!(data(&published(line)), json, "{line}");
    }
    assert!(matches!(published("publish demo -").source, Source::Stdin));
    assert!(matches!(published("publish demo --stdin-lines").source, Source::Lines));
    assert!(matches!(published("publish demo - --stdin_lines").source, Source::Lines));
}

#[test]
fn everything_about_a_publication_can_be_said() {
    let request = published("publish a/b 1 --event order --idempotency_key K --ttl 1h -o json");
    assert_eq!((request.channel.as_str(), request.event.as_deref()), ("a/b", Some("order")));
    assert_eq!((request.idempotency_key.as_deref(), request.ttl), (Some("K"), Some(3600)));
    assert_eq!((request.output, request.is_volatile, request.form), (Output::Json, false, Form::Guessed));
    assert!(published("publish demo 1 --volatile").is_volatile);
}

#[test]
fn subscribing_has_two_names() {
    for line in [
        "subscribe demo --since all --count 3 --json --event paid",
        "tail demo --since=all --count=3 --json --event=paid",
    ] {
        let request = subscribed(line);
        assert_eq!((request.channel.as_str(), request.count), ("demo", Some(3)), "{line}");
        assert!(
            request.json && request.since.is_some() && request.event.as_deref() == Some("paid"),
            "{line}"
        );
    }
}

#[test]
fn the_server_is_the_one_that_would_run_here_unless_it_is_named() {
    let at = |line: &str, variables: &[(&str, &str)]| match run_with(line, variables) {
        Ok(Invocation::Publish(request)) => request.target.server.to_string(),
        other => panic!("{line}: {other:?}"),
    };
    let url = ("CHANNELAPI_URL", "http://b:2");
    for (line, variables, expected) in [
        ("publish demo x", &[][..], "http://127.0.0.1:8888"),
        ("publish demo x", &[("CHANNELAPI_PORT", "9000")], "http://127.0.0.1:9000"),
        ("--port 9001 publish demo x", &[("CHANNELAPI_PORT", "9000")], "http://127.0.0.1:9001"),
        ("publish demo x", &[url, ("CHANNELAPI_PORT", "9000")], "http://b:2"),
        ("publish demo x --server http://c:3/push", &[url], "http://c:3/push"),
        ("publish demo x --server wss://c --ca ca.pem", &[url], "https://c"),
        (
            "publish demo x",
            &[("CHANNELAPI_TLS_CERT", "/c.pem"), ("CHANNELAPI_TLS_KEY", "/k.pem")],
            "https://127.0.0.1:8888",
        ),
    ] {
        assert_eq!(at(line, variables), expected, "{line}");
    }
}

#[test]
fn a_key_that_lies_around_here_goes_to_no_other_machine() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("auth_key"), "stored-stored-stored\n").unwrap();
    let file = dir.path().join("channelapi.toml");
    std::fs::write(&file, format!("data_dir = '{}'\n", dir.path().display())).unwrap();
    let key = |line: &str, variables: &[(&str, &str)]| {
        let words = ["channelapi"].into_iter().chain(line.split(' ')).map(OsString::from);
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        match parse_in(words, variables, std::slice::from_ref(&file)) {
            Ok(Invocation::Publish(request)) => request.target.key.map(|key| key.expose().to_owned()),
            other => panic!("{line}: {other:?}"),
        }
    };
    let variable = ("CHANNELAPI_AUTH_KEY", "variable-variable");
    let data_dir = format!("publish demo x --server http://far --data-dir {}", dir.path().display());
    for (line, variables, expected) in [
        ("publish demo x", &[][..], Some("stored-stored-stored")),
        ("publish demo x --server http://localhost:9", &[], Some("stored-stored-stored")),
        ("publish demo x --server http://far", &[], None),
        (&data_dir, &[], Some("stored-stored-stored")),
        ("publish demo x --server http://far", &[variable], Some("variable-variable")),
        ("publish demo x --key=flag-flag-flag-flag", &[variable], Some("flag-flag-flag-flag")),
        ("publish demo x --auth_key=flag-flag-flag-flag", &[], Some("flag-flag-flag-flag")),
    ] {
        assert_eq!(key(line, variables).as_deref(), expected, "{line}");
    }
}

#[test]
fn mistakes_are_said_before_anything_is_sent() {
    for (line, expected) in [
        ("publish", "CHANNEL is missing; write `channelapi publish CHANNEL DATA`"),
        ("subscribe", "CHANNEL is missing; write `channelapi subscribe CHANNEL`"),
        ("publish demo", "what is to be published? write it behind the channel, or - to read standard input"),
        (
            "publish demo hello world",
            "`world` is one word too many; what contains spaces needs quotes around it",
        ),
        ("publish demo x --even y", "unknown option `--even`; did you mean `--event`?"),
        ("publish demo x --port 9", "`--port` is an option of the server; say where it is with --server=URL"),
        (
            "publish demo -hello",
            "unknown option `-hello`; `channelapi publish --help` lists them all, and data that begins with a dash goes behind ` -- `",
        ),
        (
            "subscribe demo --since -1",
            "--since: `-1` is no place in a history; write all, unread, an offset such as 42, or an id or cursor as it was printed with --json",
        ),
        (
            "subscribe demo --since all --consumer billing",
            "--consumer says whose publications are unread; it goes with --since unread",
        ),
        ("subscribe demo --count -1", "--count: `-1` is no number of publications; write 1 or more"),
        ("publish demo x --stdin-lines", "give the data either as DATA or with --stdin-lines"),
        ("publish demo x -o jsn", "--output: `jsn` is none; write table / json / quiet"),
        ("publish demo x --ttl 30", "--ttl: `30` has no unit; write 30s, 30ms or 30m"),
        (
            "publish demo x --ttl 0",
            "--ttl: `0` is not a duration; write a whole number and a unit, such as 500ms, 25s, 10m, 2h or 7d",
        ),
        ("publish demo x --ttl 500ms", "--ttl: `500ms` is not a whole number of seconds; write 1s or more"),
        ("publish demo x --ttl 1h --volatile", "what is --volatile is not kept at all; leave out --ttl"),
        (
            "publish demo x --volatile --idempotency-key k",
            "--idempotency-key needs something stored to compare with; leave out --volatile",
        ),
        (
            "publish demo x --idempotency-key=",
            "--idempotency-key: write 1 to 255 letters, digits and punctuation marks, without spaces",
        ),
        (
            "publish demo x --server localhost:1",
            "--server: `localhost:1` has no scheme; write it as http://localhost:1",
        ),
        (
            "publish demo x --ca ca.pem",
            "--ca says whom to trust behind https://, and http://127.0.0.1:8888 speaks plain HTTP; leave it out, or write https://",
        ),
        ("publish demo x --server", "--server needs a value; write --server=http://127.0.0.1:8888"),
        ("subscribe demo --count 0", "--count: `0` is no number of publications; write 1 or more"),
        ("publsh demo x", "unknown command `publsh`; did you mean `publish`?"),
    ] {
        refuses(line, expected);
    }
    let url = run_with("tail demo", &[("CHANNELAPI_URL", "x:1")]).unwrap_err();
    assert_eq!(url.text, "error: CHANNELAPI_URL: `x:1` has no scheme; write it as http://x:1\n");
    let long = format!("publish {} x", "c".repeat(256));
    refuses(&long, "the channel's name is 256 bytes, the limit is 255");
}

#[test]
fn the_examples_in_the_help_of_each_verb_are_lines_that_work() {
    for (verb, count) in [("publish", 8), ("subscribe", 5), ("store backup", 2), ("bench", 6)] {
        let help = printed(&format!("{verb} --help"));
        let (_, examples) = help.split_once("Examples:").unwrap();
        let lines: Vec<&str> = examples
            .lines()
            .filter_map(|line| line.split_once("channelapi "))
            .map(|(_, line)| line)
            .collect();
        assert!(lines.len() >= count, "{examples}");
        for line in lines {
            let words = line
                .split("   ")
                .next()
                .unwrap()
                .split([' '])
                .take_while(|word| !["|", "<", ">"].contains(word));
            let words = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            // Quotes are for the shell, which would take them away.
            let words = words.replace("'{\"order\": 7}'", "{}");
            let outcome = run(&words);
            assert!(outcome.is_ok(), "{words}: {outcome:?}");
        }
    }
}
