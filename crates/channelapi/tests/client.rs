//! `publish` and `subscribe` against a server that misbehaves on purpose: what it answers is written in each test.

#![expect(clippy::unwrap_used, reason = "what fails in the server of a test fails the test")]

mod port;
mod program;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use program::check;

/// A request as it arrived.
#[derive(Debug)]
struct Request {
    /// Method and path.
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with one request: these bytes are sent; whether the connection stays open.
struct Answer {
    bytes: String,
    stays: bool,
}

fn json(status: &str, body: &str) -> Answer {
    let length = body.len();
    let bytes = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    Answer { bytes, stays: true }
}

/// The connection is closed without a word.
fn silence() -> Answer {
    Answer { bytes: String::new(), stays: false }
}

/// The beginning of an event stream that ends there.
fn stream(events: &str) -> Answer {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    Answer { bytes: format!("{head}{events}"), stays: false }
}

/// A server that gives these answers, one by one, and then returns the requests it got.
fn server(answers: Vec<Answer>) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let mut requests = Vec::new();
        let mut open: Option<BufReader<TcpStream>> = None;
        for answer in answers {
            // An open connection that gets no further request is followed by a new one.
            let request = open.as_mut().and_then(read_request);
            let request = request.unwrap_or_else(|| {
                let connection = open.insert(BufReader::new(listener.accept().unwrap().0));
                read_request(connection).expect("a connection brings a request")
            });
            requests.push(request);
            let connection = open.as_mut().expect("the request came through it").get_mut();
            connection.write_all(answer.bytes.as_bytes()).unwrap();
            if !answer.stays {
                open = None;
            }
        }
        requests
    });
    (url, serving)
}

/// A server that answers whatever comes through one connection as this says, and then returns the requests it got.
fn obeying(
    mut answer: impl FnMut(&Request) -> Answer + Send + 'static,
) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let mut connection = BufReader::new(listener.accept().unwrap().0);
        let mut requests = Vec::new();
        while let Some(request) = read_request(&mut connection) {
            connection.get_mut().write_all(answer(&request).bytes.as_bytes()).unwrap();
            requests.push(request);
        }
        requests
    });
    (url, serving)
}

fn read_request(connection: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    for line in connection.by_ref().lines() {
        match line.ok()? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let mut lines = head.into_iter();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| {
            line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        })
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    Some(Request { line, headers, body: String::from_utf8(body).unwrap() })
}

/// Runs the program against this server, with this standard input.
fn run(url: &str, args: &[&str], input: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_channelapi"))
        .current_dir(dir.path())
        .args(args)
        .args(["--server", url, "--key", "correct-horse-battery"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    program.wait_with_output().unwrap()
}

/// A program that runs until the test lets it end.
struct Running(Option<Child>);

fn in_the_background(args: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_channelapi"));
    command.args(args).env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(Some(command.spawn().expect("the program was built for this test")))
}

impl Running {
    /// Ends it as Ctrl-C does.
    fn interrupt(mut self) -> Output {
        let child = self.0.take().expect("it is taken once");
        signal(&child, "-INT");
        child.wait_with_output().unwrap()
    }

    /// Waits until it prints, and reads no more than that.
    fn prints(&mut self) {
        let child = self.0.as_mut().expect("it is taken at its end");
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    /// Ends it as a service manager does, while nobody reads what it prints.
    fn terminate(mut self) -> ExitStatus {
        let mut child = self.0.take().expect("it is taken once");
        signal(&child, "-TERM");
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait()));
        ended.recv_timeout(Duration::from_secs(30)).expect("it ends").unwrap()
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

const STORED: &str = r#"{"id":"x","channel":"demo","epoch":"e","offset":42,"cursor":"c","durability":"fsync","duplicate":false}"#;

const UNAVAILABLE: &str = r#"{"title":"Unavailable","status":503,"code":"unavailable","detail":"not yet"}"#;

#[test]
fn publishing_is_repeated_with_one_key_until_it_is_known_to_be_stored() {
    let (url, server) = server(vec![
        silence(),
        json("503 Service Unavailable\r\nretry-after: 0", UNAVAILABLE),
        json("504 Gateway Timeout", r#"{"detail":"who knows","indeterminate":true}"#),
        json("201 Created", STORED),
    ]);
    let output = run(&url, &["publish", "demo", r#"{"b":1.0,"a":2}"#, "--event", "order", "--ttl", "1m"], "");
    check(&output, 0, &["published demo #42 (fsync)\n"], &["warning: ", "; trying again\n"]);
    let requests = server.join().unwrap();
    let key = requests[0].header("idempotency-key").unwrap();
    assert!(key.starts_with("cli-"), "{key}");
    for request in &requests {
        assert_eq!(request.line, "POST /v1/channels/demo/messages");
        assert_eq!(request.header("authorization"), Some("Bearer correct-horse-battery"));
        assert_eq!(request.header("idempotency-key"), Some(key));
        assert_eq!(request.body, r#"{"data":{"b":1.0,"a":2},"event":"order","ttl":60}"#);
    }
}

#[test]
fn what_is_volatile_is_never_sent_twice() {
    let (url, server) = server(vec![silence()]);
    let output = run(&url, &["publish", "demo", "x", "--volatile"], "");
    check(&output, 1, &[], &["error: the connection to", "it may have reached clients nevertheless"]);
    let requests = server.join().unwrap();
    assert_eq!(requests[0].header("idempotency-key"), None);
    assert_eq!(requests[0].body, r#"{"data":"x","volatile":true}"#);
}

/// Once, only the last answer was told, as if nothing could have been stored before.
#[test]
fn what_an_earlier_try_may_have_stored_is_told_with_its_key() {
    let later = || json("503 Service Unavailable\r\nretry-after: 60", UNAVAILABLE);
    let advice = ["error: ", "not yet", "it may be published nevertheless", "--idempotency-key cli-"];
    let (url, serving) = server(vec![silence(), later()]);
    check(&run(&url, &["publish", "demo", "x"], ""), 1, &[], &advice);
    serving.join().unwrap();

    let unknown = r#"{"channel":"demo","status":504,"code":"indeterminate","detail":"who knows"}"#.to_owned();
    for first in [silence(), results(&[unknown])] {
        let (url, serving) = server(vec![first, later()]);
        let output = run(&url, &["publish", "demo", "--stdin-lines"], "x\n");
        check(&output, 1, &[], &advice);
        check(&output, 1, &[], &["error: line 1: ", "\n  some lines may be published\n"]);
        serving.join().unwrap();
    }
}

/// Once, that time was added to the time of day, which holds no eternity.
#[test]
fn a_server_that_wants_to_be_left_alone_for_ever_is_not_asked_again() {
    let (url, server) =
        server(vec![json("503 Service Unavailable\r\nretry-after: 18446744073709551615", UNAVAILABLE)]);
    check(&run(&url, &["publish", "demo", "x"], ""), 1, &[], &["error: not yet (unavailable)\n"]);
    server.join().unwrap();
}

#[test]
fn an_answer_that_does_not_say_where_it_is_stored_is_none() {
    for (args, answer) in [
        (&["publish", "demo", "x"][..], json("200 OK", "{}")),
        (&["publish", "demo", "x"], json("200 OK", "<html>")),
        (&["publish", "demo", "--stdin-lines"], results(&["{}".to_owned()])),
        (&["publish", "demo", "--stdin-lines"], results(&[r#"{"status":201}"#.to_owned()])),
    ] {
        let (url, server) = server(vec![answer]);
        let said = ["is no answer: is it a channelapi server", "--idempotency-key cli-"];
        check(&run(&url, args, "x\n"), 1, &[], &said);
        server.join().unwrap();
    }
}

#[test]
fn a_refusal_is_told_in_the_servers_words_and_not_repeated() {
    let problem = r#"{"title":"T","status":400,"detail":"the event is reserved","code":"reserved_event","hint":"choose another"}"#;
    for (status, body, expected) in [
        ("400 Bad Request", problem, "error: the event is reserved (reserved_event)\n  choose another\n"),
        ("403 Forbidden", "{}", "refused the key\n  the key is from --key\n"),
        ("404 Not Found", "<html>", "is it a channelapi server"),
        ("501 Not Implemented", "<html>", "is it a channelapi server"),
    ] {
        let (url, server) = server(vec![json(status, body)]);
        check(&run(&url, &["publish", "demo", "x"], ""), 1, &[], &[expected]);
        server.join().unwrap();
    }
}

#[test]
fn the_answer_can_be_json_or_nothing() {
    for (form, printed) in [("json", &[STORED, "\n"][..]), ("quiet", &[])] {
        let (url, server) = server(vec![json("201 Created", STORED)]);
        check(&run(&url, &["publish", "demo", "-", "-o", form], "[1]\n"), 0, printed, &[]);
        assert_eq!(server.join().unwrap()[0].body, r#"{"data":[1]}"#);
    }
}

#[test]
fn an_empty_standard_input_is_a_mistake() {
    let nothing_is_asked = "http://127.0.0.1:1";
    let output = run(nothing_is_asked, &["publish", "demo", "-"], "");
    check(&output, 1, &[], &["error: standard input is empty; --text publishes an empty string\n"]);
}

fn stored(offset: u64) -> String {
    format!(
        r#"{{"channel":"demo","status":201,"id":"i","epoch":"e","offset":{offset},"durability":"fsync","duplicate":false}}"#
    )
}

/// Answers with a result for each of the lines; the reader may have sent them in any number of requests.
fn results(of: &[String]) -> Answer {
    json("200 OK", &format!(r#"{{"stored":0,"failed":0,"results":[{}]}}"#, of.join(",")))
}

/// All lines at once: they are written before the program gets to read them, except that the first may leave alone.
#[test]
fn lines_are_published_in_order_with_keys_of_their_own() {
    let (url, server) = server(vec![results(&[stored(7)])]);
    let output =
        run(&url, &["publish", "demo", "--stdin-lines", "--idempotency-key", "K"], "\n \n{\"a\": 1}\r\n");
    check(&output, 0, &["published 1 line to demo: #7 (fsync)\n"], &[]);
    let request = &server.join().unwrap()[0];
    assert_eq!(request.line, "POST /v1/messages");
    assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(request.body, "{\"channel\":\"demo\",\"data\":{\"a\": 1},\"idempotency_key\":\"K/3\"}\n");
}

#[test]
fn a_line_that_is_refused_ends_it_with_its_number() {
    let refused = r#"{"channel":"demo","status":413,"code":"too_large","detail":"too large"}"#.to_owned();
    let (url, server) = server(vec![results(&[refused])]);
    let output = run(&url, &["publish", "demo", "--stdin-lines"], "\n\nx\n");
    check(&output, 1, &[], &["error: line 3: too large (too_large)\n  nothing is published\n"]);
    server.join().unwrap();
}

/// Once, only what came before the first one that was refused counted as delivered, and the rest was delivered again.
#[test]
fn volatile_lines_that_were_delivered_are_not_sent_again() {
    let mut known = HashSet::new();
    let (url, server) = obeying(move |request| {
        let result = |line: &str| {
            let is_refused = line.contains("later") && known.insert(line.to_owned());
            let refused = r#"{"channel":"demo","status":429,"code":"rate_limited","detail":"too fast"}"#;
            let sent = r#"{"channel":"demo","status":200,"durability":"none"}"#;
            if is_refused { refused.to_owned() } else { sent.to_owned() }
        };
        results(&request.body.lines().map(result).collect::<Vec<_>>())
    });
    let input: String = (0..10).flat_map(|n| [format!("now {n}\n"), format!("later {n}\n")]).collect();
    let output = run(&url, &["publish", "demo", "--stdin-lines", "--volatile"], &input);
    check(&output, 0, &["published 20 lines to demo (volatile"], &["warning: too fast (rate_limited)"]);
    let requests = server.join().unwrap();
    let came = |part: &str| {
        let lines = requests.iter().flat_map(|request| request.body.lines());
        lines.filter(|line| line.contains(part)).count()
    };
    assert_eq!((came("now"), came("later")), (10, 20));
}

/// Once, the same was sent again and again, and was as much too much each time.
#[test]
fn lines_that_are_too_many_at_once_leave_in_smaller_numbers() {
    const AT_ONCE: u64 = 6;
    let count = |request: &Request| request.body.lines().count() as u64;
    let mut newest = 0;
    let (url, server) = obeying(move |request| {
        let count = count(request);
        if count > AT_ONCE {
            return json("429 Too Many Requests\r\nretry-after: 0", r#"{"detail":"too fast"}"#);
        }
        newest += count;
        results(&(newest - count + 1..=newest).map(stored).collect::<Vec<_>>())
    });
    let args = ["publish", "demo", "--stdin-lines", "--idempotency-key", "K"];
    let output = run(&url, &args, &"x\n".repeat(24));
    check(&output, 0, &["published 24 lines to demo: #1 to #24 (fsync)\n"], &["warning: too fast"]);
    let requests = server.join().unwrap();
    let taken = requests.iter().filter(|request| count(request) <= AT_ONCE);
    let lines: Vec<_> = taken.flat_map(|request| request.body.lines()).collect();
    assert_eq!(lines.len(), 24);
    for (number, line) in (1..).zip(lines) {
        assert!(line.contains(&format!("\"K/{number}\"")), "{number}: {line}");
    }
}

#[test]
fn subscribing_goes_on_where_the_connection_broke() {
    let event = |n: u64, data: &str| {
        format!(
            "id: ca1.{n}\nevent: message\ndata: {{\"id\":\"i{n}\",\"offset\":{n},\"event\":\"message\",\"data\":{data}}}\n\n"
        )
    };
    let first = format!("id: ca1.0\n\n: \n\n{}id: ca1.2\nevent: message\ndata: {{\"half", event(1, "1.0"));
    let gap = "event: gap\ndata: {\"channel\":\"demo\",\"reason\":\"trimmed\"}\n\n";
    let (url, server) = server(vec![
        stream("id: ca1.0\n\n"),
        stream(&first),
        json("503 Service Unavailable\r\nretry-after: 0", "{}"),
        stream(&format!("{gap}{}{}", event(2, "\"two\""), event(3, "3"))),
    ]);
    let output = run(&url, &["subscribe", "demo", "--since", "all", "--count", "2"], "");
    let said = [
        "ended the stream; trying again",
        "connected again",
        "gap: publications of demo may be missing here",
    ];
    check(&output, 0, &["1.0\n\"two\"\n"], &said);
    let requests = server.join().unwrap();
    assert_eq!(requests[0].line, "GET /v1/channels/demo/stream?meta=true&since=all");
    let ids: Vec<_> = requests.iter().map(|request| request.header("last-event-id")).collect();
    assert_eq!(ids, [None, Some("ca1.0"), Some("ca1.1"), Some("ca1.1")]);
}

#[test]
fn what_a_consumer_has_not_confirmed_is_asked_for_by_its_name() {
    let one = "id: ca1.0\n\nid: ca1.1\ndata: {\"offset\":1,\"data\":1}\n\n";
    let (url, server) = server(vec![stream(one)]);
    let args = ["subscribe", "demo", "--since", "unread", "--consumer", "b&c", "--count", "1"];
    check(&run(&url, &args, ""), 0, &["1\n"], &[]);
    let line = &server.join().unwrap()[0].line;
    assert_eq!(line, "GET /v1/channels/demo/stream?meta=true&since=unread&consumer=b%26c");
}

#[test]
fn events_can_be_chosen_and_shown_with_all_that_is_known() {
    let one = "event: other\ndata: {\"offset\":1,\"data\":1}\n\n";
    let two = "event: paid\ndata: {\"offset\":2,\ndata: \"data\":2}\n\n";
    let (url, server) = server(vec![stream(&format!("{one}{two}"))]);
    let output = run(&url, &["tail", "demo", "--event", "paid", "--json", "--count", "1"], "");
    check(&output, 0, &["{\"offset\":2,\"data\":2}\n"], &[]);
    server.join().unwrap();
}

#[test]
fn a_server_that_was_never_there_is_not_waited_for() {
    let url = format!("http://127.0.0.1:{}", port::free());
    for args in [&["publish", "demo", "x"][..], &["subscribe", "demo"]] {
        let expected = [&*format!("error: nothing listens at {url}\n"), "--server or CHANNELAPI_URL"];
        check(&run(&url, args, ""), 1, &[], &expected);
    }
}

#[test]
fn what_is_no_web_server_is_not_asked_again() {
    let (url, server) = server(vec![Answer { bytes: "-ERR unknown command\r\n".to_owned(), stays: false }]);
    check(&run(&url, &["publish", "demo", "x"], ""), 1, &[], &["does not speak HTTP"]);
    server.join().unwrap();
}

#[test]
fn an_interrupt_is_a_normal_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = mpsc::channel();
    thread::spawn(move || {
        let mut connection = BufReader::new(listener.accept().unwrap().0);
        sender.send(read_request(&mut connection)).unwrap();
        connection.get_mut().write_all(stream("").bytes.as_bytes()).unwrap();
        // Until the program is gone.
        connection.read_to_end(&mut Vec::new()).unwrap();
    });
    let program = in_the_background(&["subscribe", "demo", "--server", &url, "--key", "k"]);
    asked.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    check(&program.interrupt(), 0, &[], &[]);
}

/// Once, it printed on the thread that hears signals: only SIGKILL ended it.
#[test]
fn a_reader_who_does_not_read_does_not_keep_it_from_ending() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut connection = BufReader::new(listener.accept().unwrap().0);
        read_request(&mut connection).unwrap();
        let event = format!("event: message\ndata: {{\"data\":\"{}\"}}\n\n", "x".repeat(1000));
        // A mebibyte; the end of it finds nobody any more.
        _ = connection.get_mut().write_all(stream(&event.repeat(1000)).bytes.as_bytes());
        _ = connection.read_to_end(&mut Vec::new());
    });
    let args = ["subscribe", "demo", "--since", "all", "--server", &url, "--key", "k"];
    let mut program = in_the_background(&args);
    program.prints();
    assert!(program.terminate().success());
}
