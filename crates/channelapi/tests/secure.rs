//! The verbs that talk to a server, over TLS: with a server whose certificate is good, and with everything that may be wrong.

#![expect(clippy::unwrap_used, reason = "what fails around the server of a test fails the test")]

mod node;
mod program;

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::{Duration, SystemTime},
};

use node::{KEY, Node, eventually, value_in};
use program::check;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};
use tempfile::TempDir;

/// A certificate for these names in a directory, signed by an authority whose own is there, too.
struct Certified(TempDir);

impl Certified {
    fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        for (name, pem) in
            [("ca.pem", root.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            fs::write(directory.path().join(name), pem).unwrap();
        }
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The lines of a configuration file.
    fn settings(&self) -> String {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        format!("[tls]\ncert = '{}'\nkey = '{}'\n", cert.display(), key.display())
    }

    fn server(&self) -> Node {
        Node::start(&self.settings())
    }
}

/// Runs a verb in a directory, on a system that trusts what is in `trusted`.
fn run(directory: &Path, trusted: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    command.current_dir(directory).env_clear().env("SSL_CERT_FILE", trusted);
    command.args(args).output().unwrap()
}

#[test]
fn verbs_speak_tls_with_a_server_that_shows_who_it_is() {
    let (certified, stranger) = (Certified::new(&["127.0.0.1", "localhost"]), Certified::new(&["localhost"]));
    let node = certified.server();
    let ca = certified.path("ca.pem");
    let ca = ca.to_str().unwrap();
    let url = format!("https://localhost:{}", node.address.port());
    let elsewhere = tempfile::tempdir().unwrap();

    // By an authority that is named, by one that the system trusts, and beside the server without a word about where it is.
    let named = ["publish", "demo", "1", "--key", KEY, "--server", &url, "--ca", ca];
    check(&run(elsewhere.path(), &stranger.path("ca.pem"), &named), 0, &["published demo #1"], &[]);
    let trusted = ["publish", "demo", "2", "--key", KEY, "--server", &url];
    check(&run(elsewhere.path(), &certified.path("ca.pem"), &trusted), 0, &["published demo #2"], &[]);
    let beside = ["publish", "demo", "3", "--ca", ca];
    check(&run(node.dir.path(), &stranger.path("ca.pem"), &beside), 0, &["published demo #3"], &["auth_key"]);

    let socket = url.replace("https", "wss");
    let listen =
        ["subscribe", "demo", "--since=all", "--count=3", "--key", KEY, "--server", &socket, "--ca", ca];
    check(&run(elsewhere.path(), &stranger.path("ca.pem"), &listen), 0, &["1\n2\n3\n"], &[]);
}

#[test]
fn a_server_that_cannot_show_who_it_is_gets_nothing() {
    let (certified, stranger) = (Certified::new(&["127.0.0.1", "a.example"]), Certified::new(&["localhost"]));
    let mut node = certified.server();
    let port = node.address.port();
    let (ours, theirs) = (certified.path("ca.pem"), stranger.path("ca.pem"));
    let url = format!("https://127.0.0.1:{port}");
    let by_name = format!("https://localhost:{port}");
    let plain = format!("http://127.0.0.1:{port}");
    let theirs_text = theirs.to_str().unwrap();
    for verb in [&["publish", "demo", "secret"][..], &["subscribe", "demo"]] {
        for (more, trusted, expected) in [
            (
                &["--server", &url][..],
                &theirs,
                "is signed by nobody whom this machine trusts\n  if it is the right server",
            ),
            (&["--server", &url, "--ca", theirs_text], &ours, "is not signed by the one behind --ca\n"),
            (&["--server", &by_name], &ours, "is for another name: 127.0.0.1, a.example\n"),
            (&["--server", &plain], &ours, "write https:// instead of http://\n"),
            (&["--server", &url, "--ca", "nowhere.pem"], &ours, "cannot check who https://127.0.0.1"),
        ] {
            let args = [verb, more, &["--key", KEY]].concat();
            check(&run(stranger.0.path(), trusted, &args), 1, &[], &["error: ", expected]);
        }
    }
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
}

/// Once, the certificate that `openssl req -x509` makes, which calls itself one of an authority, was never good: not even where it was named.
#[test]
fn a_server_that_signed_its_own_certificate_is_known_by_that() {
    let own = |names: &[&str]| {
        let certified = Certified::new(names);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut certificate = CertificateParams::new(names).unwrap();
        certificate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(certified.path("cert.pem"), certificate.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(certified.path("key.pem"), key.serialize_pem()).unwrap();
        certified
    };
    let (certified, other) = (own(&["127.0.0.1"]), own(&["127.0.0.1"]));
    let node = certified.server();
    let (url, by_name) =
        (format!("https://{}", node.address), format!("https://localhost:{}", node.address.port()));
    let (ours, theirs) = (certified.path("cert.pem"), other.path("cert.pem"));
    let publish = |url: &str, ca: &[&str], trusted: &Path| {
        let args = [&["publish", "demo", "x", "--key", KEY, "--server", url], ca].concat();
        run(certified.0.path(), trusted, &args)
    };
    let named = ["--ca", ours.to_str().unwrap()];
    check(&publish(&url, &named, &theirs), 0, &["published demo #1"], &[]);
    check(&publish(&url, &[], &ours), 0, &["published demo #2"], &[]);
    check(&publish(&by_name, &named, &theirs), 1, &[], &["is for another name: 127.0.0.1\n"]);
    let stranger = "shows the certificate of an authority (CA:TRUE), and not one that is trusted here\n";
    check(&publish(&url, &["--ca", theirs.to_str().unwrap()], &ours), 1, &[], &[stranger, "with --ca FILE"]);
    check(&publish(&url, &[], &theirs), 1, &[], &[stranger]);
}

#[test]
fn a_server_without_tls_is_told_from_one_with_it() {
    let certified = Certified::new(&["127.0.0.1"]);
    let node = Node::start("");
    let url = format!("https://{}", node.address);
    let args = ["publish", "demo", "x", "--key", KEY, "--server", &url];
    let output = run(certified.0.path(), &certified.path("ca.pem"), &args);
    check(&output, 1, &[], &["does not speak TLS\n  if the way there is safe without it, write http://"]);
}

/// Once, whoever published there heard that the key was wrong, and not that everybody on the way could read it.
#[test]
fn a_key_that_was_sent_to_the_port_that_leads_to_https_is_said_to_be_exposed() {
    let certified = Certified::new(&["127.0.0.1"]);
    let port = node::port::free();
    let _node = Node::start(&format!("{}redirect_port = {port}\n", certified.settings()));
    let url = format!("http://127.0.0.1:{port}");
    for (verb, expected) in [
        (&["publish", "demo", "x"][..], "replace a key that was sent here.\n  the key is from --key"),
        (&["subscribe", "demo"], "the key went there without encryption: replace it if others may have read"),
    ] {
        let args = [verb, &["--key", KEY, "--server", &url]].concat();
        check(&run(certified.0.path(), &certified.path("ca.pem"), &args), 1, &[], &[expected, "https://"]);
    }
}

/// Once, `*` was sent on to a host whose port ended with it, and a whole address to the host in the header.
#[test]
fn the_port_that_leads_to_https_leads_to_paths_alone() {
    let certified = Certified::new(&["127.0.0.1"]);
    let free = SocketAddr::from(([127, 0, 0, 1], node::port::free()));
    let node = Node::start(&format!("{}redirect_port = {}\n", certified.settings(), free.port()));
    let https = |path: &str| Some(format!("https://good:{}{path}", node.address.port()));
    let elsewhere = |path: &str| Some(format!("https://elsewhere:{}{path}", node.address.port()));
    for (target, location) in [
        ("/", https("/")),
        ("/a?b", https("/a?b")),
        ("http://elsewhere/a", elsewhere("/a")),
        ("http://elsewhere", elsewhere("/")),
        ("http://good@elsewhere/a", None),
        ("*", None),
        ("elsewhere:80", None),
    ] {
        let mut stream = TcpStream::connect(free).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: good\r\n\r\n").unwrap();
        let answer = node::read_answer(&mut stream).unwrap();
        assert_eq!(answer.header("location").map(str::to_owned), location, "{target}: {answer:?}");
        assert_eq!(answer.status, if location.is_some() { 308 } else { 400 }, "{target}");
    }
}

#[test]
fn a_certificate_in_other_files_is_taken_over_and_the_rest_waits_for_a_restart() {
    let (first, second) = (Certified::new(&["127.0.0.1"]), Certified::new(&["127.0.0.1"]));
    let bad = Certified::new(&["127.0.0.1"]);
    fs::write(bad.path("key.pem"), "no key").unwrap();
    let mut node = first.server();
    let file = node.dir.path().join("channelapi.toml");
    let begun_with = fs::read_to_string(&file).unwrap();
    let reconfigured = |node: &Node, settings: &str| {
        fs::write(&file, begun_with.replace(&first.settings(), settings)).unwrap();
        node.signal("-HUP");
    };
    let reaches = |node: &Node, certified: &Certified| {
        let ca = certified.path("ca.pem");
        let args = ["publish", "demo", "x", "--ca", ca.to_str().unwrap()];
        run(node.dir.path(), &ca, &args).status.success()
    };
    assert!(reaches(&node, &first));

    reconfigured(&node, &second.settings());
    node.await_log("the configuration is reloaded");
    assert!(
        node.said.iter().any(|line| line.contains("tls.cert") && line.contains("an option has changed\""))
    );
    assert!(reaches(&node, &second) && !reaches(&node, &first));

    // One that cannot be used changes nothing, and neither does what else is new.
    reconfigured(&node, &format!("{}[log]\nlevel = 'warn'\n", bad.settings()));
    node.await_log("holds no private key");
    node.await_log("everything stays as it was");
    assert!(reaches(&node, &second));

    // A shorter interval holds from now on: nobody has to say that the files have changed.
    reconfigured(&node, &format!("{}reload_interval = '100ms'\n", second.settings()));
    let line = node.await_log("an option has changed");
    assert!(line.contains("tls.reload_interval") && !line.contains("restart"), "{line}");
    node.await_log("the configuration is reloaded");
    for name in ["cert.pem", "key.pem"] {
        fs::copy(first.path(name), second.path(name)).unwrap();
    }
    node.await_log("new connections get the new certificate");
    assert!(reaches(&node, &first) && !reaches(&node, &second));

    // Whether there is TLS at all is not for a moment in between.
    reconfigured(&node, "");
    let line = node.await_log("needs a restart");
    assert!(line.contains("tls.cert"), "{line}");
    node.await_log("the configuration is reloaded");
    reconfigured(&node, &second.settings());
    node.await_log("the configuration is reloaded");
    assert!(reaches(&node, &first), "they are still the files that were copied");

    // An authority instead of files is taken over; what is shown stays until it has given something.
    let authority = "[acme]\ndomains = ['push.example.test']\nterms_agreed = true\ndirectory = 'https://127.0.0.1:9/dir'\n";
    reconfigured(&node, authority);
    let line = node.await_log(r#""option":"acme.domains""#);
    assert!(!line.contains("restart"), "{line}");
    node.await_log("the configuration is reloaded");
    assert!(reaches(&node, &first));
    // But one that asks on a plain port is not heard before there is one.
    reconfigured(&node, &format!("{authority}challenge = 'http-01'\n[tls]\nredirect_port = 0\n"));
    let line = node.await_log("needs a restart");
    assert!(line.contains("tls.redirect_port"), "{line}");
    let line = node.await_log("needs a restart");
    assert!(line.contains("acme.challenge"), "{line}");
}

/// Once, `check` called valid what the start refused.
#[test]
fn what_an_authority_is_recognised_by_must_be_readable_for_check_as_for_the_start() {
    let certified = Certified::new(&["localhost"]);
    let with = |ca_file: &str, args: &[&str]| {
        let settings =
            format!("[acme]\ndomains = ['push.example.test']\nterms_agreed = true\nca_file = '{ca_file}'\n");
        fs::write(certified.path("channelapi.toml"), settings).unwrap();
        run(certified.0.path(), &certified.path("ca.pem"), args)
    };
    check(&with("ca.pem", &["check"]), 0, &["configuration is valid"], &[]);
    check(&with("none.pem", &["check"]), 2, &[], &["error: acme.ca_file: cannot use none.pem: "]);
    let server = with("none.pem", &["--port=0", "--address=127.0.0.1"]);
    assert_eq!(server.status.code(), Some(78));
}

/// Once, a start in the middle of a renewal was the last: 78 tells a process manager that another would end the same way.
#[test]
fn a_pair_that_a_renewal_mends_is_worth_another_start() {
    let (certified, other) = (Certified::new(&["localhost"]), Certified::new(&["localhost"]));
    fs::write(certified.path("channelapi.toml"), certified.settings()).unwrap();
    let start = || {
        let args = ["--port=0", "--address=127.0.0.1"];
        run(certified.0.path(), &certified.path("ca.pem"), &args)
    };
    fs::copy(other.path("key.pem"), certified.path("key.pem")).unwrap();
    check(&start(), 1, &[], &["does not belong to the first certificate"]);
    let certificate = fs::read(certified.path("cert.pem")).unwrap();
    fs::remove_file(certified.path("cert.pem")).unwrap();
    check(&start(), 1, &[], &["cert.pem: No such file"]);
    fs::write(certified.path("cert.pem"), &certificate[..certificate.len() / 2]).unwrap();
    check(&start(), 1, &[], &["a certificate that is damaged, number 1"]);
    // By now, whoever wrote it has come to the end.
    let file = File::options().write(true).open(certified.path("cert.pem")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_mins(2)).unwrap();
    check(&start(), 78, &[], &["a certificate that is damaged, number 1"]);
}

/// A thousand handshakes would be too slow if each looked for whom to trust; they are as sure nevertheless.
#[test]
fn clients_of_a_benchmark_trust_no_stranger_either() {
    let (certified, stranger) = (Certified::new(&["127.0.0.1"]), Certified::new(&["127.0.0.1"]));
    let node = certified.server();
    let url = format!("https://{}", node.address);
    let bench = |authority: &Certified| {
        let args =
            ["bench", "fanout", "-c", "5", "--rate", "20", "-d", "300ms", "--server", &url, "--key", KEY];
        run(node.dir.path(), &authority.path("ca.pem"), &args)
    };
    check(&bench(&certified), 0, &["connect and join", "publish until delivered"], &["publishing"]);
    check(&bench(&stranger), 1, &[], &["error: the certificate of ", "with --ca FILE"]);
}

/// A connection with TLS to a server that is trusted.
fn connect_to(node: &Node, certified: &Certified) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certified.path("ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "127.0.0.1".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), node.connect())
}

/// Once, such a connection was closed and counted nowhere.
#[test]
fn whoever_breaks_the_rules_of_tls_after_the_handshake_is_counted() {
    let certified = Certified::new(&["127.0.0.1"]);
    let node = certified.server();
    let counted = || {
        let mut stream = connect_to(&node, &certified);
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        value_in(&page, "channelapi_http_refused_total{reason=\"tls\"}")
    };
    // Between two requests, in one that the fast path waits for, and in one that hyper does.
    let begun = [
        "",
        "GET /healthz HTTP/1.1\r\nHost:",
        "PATCH /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
    ];
    for (before, begun) in (0..).zip(begun) {
        assert_eq!(counted(), before);
        let mut stream = connect_to(&node, &certified);
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
        write!(stream, "{begun}").unwrap();
        // A record that nobody has encrypted.
        stream.sock.write_all(&[&[23, 3, 3, 0, 32][..], &[7; 32]].concat()).unwrap();
        eventually("the count", || (counted() == before + 1).then_some(()));
    }
    assert_eq!(counted(), 3, "once each");
}

/// Whatever is wrong with the files of a certificate, and whatever an authority does: keys are only where they were put.
#[test]
fn no_private_key_is_written_down_anywhere_else() {
    let (good, other) = (Certified::new(&["127.0.0.1"]), Certified::new(&["127.0.0.1"]));
    let mut secrets = Vec::new();
    for certified in [&good, &other] {
        let pem = fs::read_to_string(certified.path("key.pem")).unwrap();
        secrets.extend(pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    let talkative = "[log]\nlevel = 'trace'\n";
    let mut node = Node::start(&format!("{}{talkative}", good.settings()));
    let args = ["publish", "demo", "x", "--ca", good.path("ca.pem").to_str().unwrap()].map(str::to_owned);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut said = vec![run(node.dir.path(), &good.path("ca.pem"), &args)];
    assert!(said[0].status.success(), "{said:?}");

    // In each other's place, cut off, another one's, and with something in the middle.
    let key = fs::read_to_string(other.path("key.pem")).unwrap();
    let cut = key.lines().take(2).collect::<Vec<_>>().join("\n");
    for (name, text) in [("cut.pem", cut), ("crooked.pem", key.replacen('\n', "\n!!!", 2))] {
        fs::write(other.path(name), text).unwrap();
    }
    let file = node.dir.path().join("channelapi.toml");
    let begun_with = fs::read_to_string(&file).unwrap();
    let pairs = [
        (other.path("key.pem"), other.path("cert.pem")),
        (other.path("key.pem"), other.path("key.pem")),
        (good.path("cert.pem"), other.path("key.pem")),
        (good.path("cert.pem"), other.path("cut.pem")),
        (good.path("cert.pem"), other.path("crooked.pem")),
    ];
    for (cert, key) in pairs {
        let settings = format!("[tls]\ncert = '{}'\nkey = '{}'\n", cert.display(), key.display());
        fs::write(&file, begun_with.replace(&good.settings(), &settings)).unwrap();
        node.signal("-HUP");
        node.await_log("everything stays as it was");
        let mut check = Command::new(env!("CARGO_BIN_EXE_channelapi"));
        said.push(check.current_dir(node.dir.path()).arg("check").output().unwrap());
    }

    // An account and a certificate of an authority, as they are kept, in files that are damaged.
    let kept = node.dir.path().join("data/acme");
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("account.json"), format!("{{\"credentials\":\"{}\"", secrets[0])).unwrap();
    fs::write(kept.join("certificate.pem"), &key[..key.len() - 40]).unwrap();
    let authority = "[acme]\ndomains = ['push.example.test']\nterms_agreed = true\ndirectory = 'https://127.0.0.1:9/dir'\n";
    fs::write(&file, begun_with.replace(&good.settings(), authority)).unwrap();
    node.signal("-TERM");
    node.ended();
    node.restart();
    node.await_log("the account with the authority cannot be read");

    let mut said: Vec<String> = said
        .iter()
        .flat_map(|output| [&output.stdout, &output.stderr])
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .collect();
    said.extend(node.said.iter().cloned());
    for secret in &secrets {
        assert!(said.iter().all(|text| !text.contains(secret.as_str())), "{secret} in {said:#?}");
    }
}
