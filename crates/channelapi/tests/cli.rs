//! The command line as its users meet it: the real program, its output and its exit codes.

mod program;
mod skipped;

use skipped::skipped;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use program::{check, text};

/// Runs the program in `dir` with nothing but these variables.
fn run(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_channelapi"))
        .current_dir(dir)
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program was built for this test")
}

#[test]
fn help_and_version_go_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    check(
        &run(dir.path(), &["--help"], &[]),
        0,
        &["Usage: channelapi", "--auth-key <KEY>", "Examples:"],
        &[],
    );
    let version = concat!("channelapi ", env!("CARGO_PKG_VERSION"), "\n");
    check(&run(dir.path(), &["--version"], &[]), 0, &[version], &[]);
}

#[test]
fn mistakes_go_to_standard_error_with_code_2() {
    let dir = tempfile::tempdir().unwrap();
    check(
        &run(dir.path(), &["--prot", "80"], &[]),
        2,
        &[],
        &["error: unknown option `--prot`; did you mean `--port`?\n"],
    );
    let variables = [("CHANNELAPI_PORT", "http")];
    check(
        &run(dir.path(), &[], &variables),
        2,
        &[],
        &["error: CHANNELAPI_PORT: `http` is not a port number"],
    );
}

/// Once, a variable that was not set was answered with the advice to have a key generated, or to write `<DEST>=VALUE`.
#[test]
fn an_empty_argument_is_asked_about_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (args, name) in [
        (&["publish", "demo", "x", "--key", ""][..], "--key"),
        (&["subscribe", "demo", "--key="], "--key"),
        (&["--auth-key", ""], "--auth-key"),
        (&["store", "backup", ""], "DEST"),
        (&["check", "-c", ""], "--config"),
    ] {
        let said = format!("error: {name}: it is empty; is the variable set that it is from?\n");
        check(&run(dir.path(), args, &[]), 2, &[], &[&said]);
    }
}

/// Once, these ended with 1, as if the command were right, or made something that no server takes.
#[test]
fn what_no_server_would_take_is_a_wrong_command() {
    let dir = tempfile::tempdir().unwrap();
    let check =
        |args: &[&str], expected: &str| check(&run(dir.path(), args, &[]), 2, &[], &["error: ", expected]);
    check(&["jwt", "sign", "--channels", "a"], "the configuration has no [[jwt]]");
    check(&["jwt", "verify", "a.b.c"], "the configuration has no [[jwt]]");
    check(
        &["key", "create", "a", "--expires", "2020-01-01"],
        "2020-01-01 is over, so the key would let nobody in",
    );
    let secret = "[[jwt]]\nsecret = 'a secret of the tests, with more than 32 bytes'\n";
    fs::write(dir.path().join("channelapi.toml"), secret).unwrap();
    check(&["jwt", "sign", "--channels", " , "], "--channels: name one or more");
    check(&["jwt", "sign", "--channels", "a", "--ttl", "400d"], "good for more than 366 days");
    for nothing in ["0s", "900ms"] {
        check(&["jwt", "sign", "--channels", "a", "--ttl", nothing], "--ttl: a JWT ends after whole seconds");
    }
    let nameless = "no [[jwt]] has the issuer `x`; the only one has no name, so leave --issuer out\n";
    check(&["jwt", "sign", "--channels", "a", "--issuer", "x"], nameless);
    fs::write(dir.path().join("channelapi.toml"), format!("{secret}issuer = 'shop'\n")).unwrap();
    check(&["jwt", "sign", "--channels", "a", "--issuer", "x"], "has the issuer `x`; there are: shop\n");
}

/// Once, it was made all the same, and of several entries of an issuer the first made it, whatever it opens.
#[test]
fn a_jwt_that_the_configuration_would_not_take_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let entry = |name: &str, secret: &str, prefix: &str| {
        format!(
            "[[jwt]]\nissuer = '{name}'\nsecret = 'a secret of the tests, with more than 32 bytes{secret}'\ngrants = ['{prefix}:*']\n"
        )
    };
    let shop = [entry("shop", "", "a"), entry("shop", " in another entry", "b")].concat();
    fs::write(dir.path().join("channelapi.toml"), &shop).unwrap();
    let sign = |channels: &str, more: &[&str]| {
        run(dir.path(), &[&["jwt", "sign", "--channels", channels][..], more].concat(), &[])
    };
    for channels in ["a:1", "b:1,b:2"] {
        let output = sign(channels, &[]);
        check(&output, 0, &["eyJ"], &[]);
        let opens = format!("opens    {}", channels.split(',').next().unwrap());
        check(
            &run(dir.path(), &["jwt", "verify", text(&output.stdout).trim()], &[]),
            0,
            &["is good", &opens],
            &[],
        );
    }
    let refused = "error: no JWT was made, for this server would not take it: ";
    check(&sign("c:1", &[]), 1, &[], &[refused, "c:1"]);
    check(&sign("a:*", &[]), 1, &[], &[refused, "a:*"]);
    check(&sign("a:1", &["--sub", &"x".repeat(300)]), 1, &[], &[refused]);

    fs::write(dir.path().join("channelapi.toml"), shop + &entry("other", "", "c")).unwrap();
    check(&sign("a:1", &[]), 2, &[], &["error: say with --issuer who signs it: other, shop\n"]);
    check(&sign("c:1", &["--issuer", "other"]), 0, &["eyJ"], &[]);
}

/// Once, a server that listens on a socket was looked for at the port that it does not have.
#[test]
fn an_api_on_a_socket_is_said_to_be_out_of_reach() {
    let dir = tempfile::tempdir().unwrap();
    for (settings, expected) in [
        (
            "[internal]\nunix = './api.sock'\n",
            "the API is on the socket ./api.sock, which this command cannot reach",
        ),
        (
            "[http]\nunix = './all.sock'\n",
            "the API is on the socket ./all.sock, which this command cannot reach",
        ),
        ("[http]\nunix = './all.sock'\n[internal]\nport = 1\n", "nothing listens at http://127.0.0.1:1"),
        (
            "[http]\ntrusted_proxies = ['127.0.0.0/8']\nproxy_protocol = true\n",
            "expects a PROXY header from it (http.proxy_protocol), which this command does not send",
        ),
        // Whoever left that file there would get the key.
        (
            "address = '192.0.2.1'\n",
            "the server is at 192.0.2.1, which is no address of this machine, and a key goes to another only if",
        ),
        (
            "[http]\ntrusted_proxies = ['127.0.0.0/8']\nproxy_protocol = true\n[internal]\nport = 1\n",
            "nothing listens at http://127.0.0.1:1",
        ),
    ] {
        fs::write(dir.path().join("channelapi.toml"), settings).unwrap();
        let output = run(dir.path(), &["publish", "demo", "x", "--key", "a-key-for-the-tests"], &[]);
        let error = text(&output.stderr);
        assert!(error.contains(expected) && !output.status.success(), "{error}");
    }
}

/// Once, every error of standard output was ignored, or ended in a panic.
#[test]
fn a_result_that_nobody_gets_is_an_error_unless_the_pipe_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "[[jwt]]\nsecret = 'a secret of the tests, with more than 32 bytes'\n";
    fs::write(dir.path().join("channelapi.toml"), secret).unwrap();
    let run_into = |output: Stdio, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
        command.current_dir(dir.path()).args(args).env_clear().stdout(output).output().unwrap()
    };
    for args in [
        &["config", "default"][..],
        &["--help"],
        &["jwt", "sign", "--channels", "a"],
        &["key", "create", "a"],
    ] {
        let (reader, closed) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(run_into(closed.into(), args).status.code(), Some(0), "{args:?}");
        let Ok(full) = File::options().write(true).open("/dev/full") else {
            skipped("there is no /dev/full here, so no output can be full");
            continue;
        };
        let cannot = ["error: cannot write to standard output: "];
        check(&run_into(full.into(), args), 1, &[], &cannot);
    }
}

#[test]
fn the_file_in_the_working_directory_is_found_and_all_its_problems_are_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("channelapi.toml"), "prot = 80\n\n[log]\nlevel = \"loud\"\n").unwrap();
    let problems = [
        "error: channelapi.toml:1:1: unknown key `prot`; did you mean `port`?\n",
        "error: channelapi.toml:4:9: log.level: `loud` is not a log level; write error / warn / info / debug / trace\n",
    ];
    for verb in ["check", "serve"] {
        check(&run(dir.path(), &[verb], &[]), 2, &[], &problems);
    }
}

#[test]
fn show_tells_where_each_value_came_from() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.toml"), "# ours\nport = 80\n").unwrap();
    let variables = [("CHANNELAPI_AUTH_KEY", "hunter2hunter2hunter2"), ("CHANNELAPI_LOG_LEVEL", "warn")];
    let output = run(dir.path(), &["config", "show", "-c", "c.toml", "--data_dir=/srv"], &variables);
    check(
        &output,
        0,
        &[
            "c.toml:2\n",
            "CHANNELAPI_AUTH_KEY\n",
            "CHANNELAPI_LOG_LEVEL\n",
            "--data-dir\n",
            "default\n",
            "****",
        ],
        &[],
    );
    assert!(!text(&output.stdout).contains("hunter2"));
}

#[test]
fn the_example_file_passes_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let example = run(dir.path(), &["config", "default"], &[]);
    fs::write(dir.path().join("channelapi.toml"), &example.stdout).unwrap();
    check(&run(dir.path(), &["check"], &[]), 0, &["configuration is valid (./channelapi.toml)\n"], &[]);
}

#[test]
fn the_reference_page_is_the_one_in_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let page = run(dir.path(), &["config", "doc"], &[]);
    let written = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md")).unwrap();
    assert!(page.stdout == written, "run `cargo run -p channelapi -- config doc > docs/configuration.md`");
}

#[test]
fn keys_for_jwts_that_cannot_be_used_are_refused_by_check_and_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let short = ["error: channelapi.toml:3: jwt.secret: the secret is 20 bytes, and must have 32 or more"];
    let missing =
        ["error: channelapi.toml:3: the keys of a jwt entry cannot be read: /nonexistent.json: No such file"];
    let half = ["error: channelapi.toml:3: half.json: "];
    // What may be mounted late, or is being written, is worth another start.
    for (entry, told, code) in [
        ("secret = '0123456789abcdef0123'", &short, 78),
        ("jwks_file = '/nonexistent.json'", &missing, 1),
        ("jwks_file = 'half.json'", &half, 1),
        ("jwks_file = 'half.json'", &half, 78),
    ] {
        fs::write(dir.path().join("half.json"), r#"{"keys":[{"kty":"#).unwrap();
        if code == 78 {
            let file = File::options().write(true).open(dir.path().join("half.json")).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_mins(2)).unwrap();
        }
        fs::write(dir.path().join("channelapi.toml"), format!("[[jwt]]\nissuer = 'a'\n{entry}\n")).unwrap();
        check(&run(dir.path(), &["check"], &[]), 2, &[], told);
        let server = run(dir.path(), &["--port=0", "--address=127.0.0.1", "--log-format=pretty"], &[]);
        assert_eq!(server.status.code(), Some(code), "{entry}");
    }
}

/// Once, root was told to take a right from `/dev/null` that everybody needs.
#[test]
fn a_device_in_the_place_of_a_file_is_no_reason_to_change_it() {
    let dir = tempfile::tempdir().unwrap();
    check(&run(dir.path(), &["check", "-c", "/dev/null"], &[]), 0, &["configuration is valid"], &[]);
}

#[test]
fn a_key_that_strangers_know_is_refused_with_code_78_and_a_better_one() {
    let dir = tempfile::tempdir().unwrap();
    let fix = ["error: the auth key is publicly known", "CHANNELAPI_AUTH_KEY=", "--address 127.0.0.1"];
    // `0.0.0.0` is the default; nothing is ever bound, as the key is refused first.
    check(&run(dir.path(), &["--port=0", "--auth_key=changeme"], &[]), 78, &[], &fix);
    let variables = [("CHANNELAPI_AUTH_KEY", "changeme"), ("CHANNELAPI_PORT", "0")];
    check(&run(dir.path(), &[], &variables), 78, &[], &fix);
}

/// Runs the program with this on its standard input.
fn run_with_input(dir: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_channelapi"))
        .current_dir(dir)
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built for this test");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("the program reads its input");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_new_key_is_shown_once_and_the_file_gets_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let args =
        ["key", "create", "shop", "--scopes", "publish,tokens", "--channels", "user-*", "--channels", "a,b"];
    let created = run(dir.path(), &args, &[]);
    let lines = "scopes = [\"publish\", \"tokens\"]\nchannels = [\"user-*\", \"a,b\"]\n";
    check(&created, 0, &["[[auth_keys]]\nname = \"shop\"\nhash = \"sha256:", lines], &["the key `shop`"]);
    let key = text(&created.stderr).lines().last().unwrap();
    assert_eq!(key.len(), 43, "{key}");
    assert!(!text(&created.stdout).contains(key));

    // Once, its first line was glued to a last one that did not end.
    let file = dir.path().join("channelapi.toml");
    fs::write(&file, [b"port = 18899", &*created.stdout].concat()).unwrap();
    check(&run(dir.path(), &["check"], &[]), 0, &["configuration is valid"], &[]);
    assert!(!dir.path().join("data").exists());
    let shown = run(dir.path(), &["config", "show"], &[]);
    check(&shown, 0, &["auth_keys.scopes", "publish, tokens", "channelapi.toml:5"], &[]);

    // The same key has the same hash, and cannot be there twice.
    let hashed =
        run_with_input(dir.path(), &["key", "hash", "again", "--expires=2999-01-31"], &format!("{key}\n"));
    let hash = text(&created.stdout).lines().nth(3).unwrap();
    check(&hashed, 0, &[hash, "scopes = [\"publish\"]\nexpires = 2999-01-31\n"], &[]);
    fs::write(&file, [created.stdout, hashed.stdout].concat()).unwrap();
    check(
        &run(dir.path(), &["check"], &[]),
        2,
        &[],
        &["channelapi.toml:10:8: auth_keys.hash: this is the key of `shop`"],
    );

    let json = run(dir.path(), &["key", "create", "ci", "--json"], &[]);
    check(&json, 0, &["\"key\":\"", "\"hash\":\"sha256:", "\"scopes\":[\"publish\"]"], &[]);
}

/// Once, it was lost, and the file had its hash.
#[test]
fn a_new_key_that_cannot_be_shown_is_none() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return skipped("there is no /dev/full here, so no output can be full");
    };
    let mut create = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    let created = create.args(["key", "create", "shop"]).stderr(full).output();
    let created = created.expect("the program was built for this test");
    check(&created, 1, &[], &[]);
}

#[test]
fn a_key_that_cannot_be_described_is_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    for (args, part) in [
        (&["key", "create"][..], "NAME is missing"),
        (&["key", "create", "a b"], "name: `a b` is not a name"),
        (&["key", "create", "a", "--scopes", "write"], "scopes: `write` is not a scope"),
        (&["key", "create", "a", "--expires", "soon"], "expires: `soon` is not a point in time"),
    ] {
        check(&run(dir.path(), args, &[]), 2, &[], &[part]);
    }
    check(&run_with_input(dir.path(), &["key", "hash", "a"], "\n"), 1, &[], &["error: the key is empty"]);
    let weak = run_with_input(dir.path(), &["key", "hash", "a"], "changeme\n");
    check(&weak, 0, &["hash = "], &["warning: the key is publicly known"]);
    fs::write(dir.path().join("channelapi.toml"), &weak.stdout).unwrap();
    let refused = ["error: the auth key `a` is publicly known"];
    check(&run(dir.path(), &["check"], &[]), 2, &[], &refused);
    check(&run(dir.path(), &["--port=0"], &[]), 78, &[], &refused);
}
