//! Keys from a provider that is slow, broken, hostile or gone: a real HTTP server that answers as it is told.

use super::*;
use crate::config::jwt::JwksUrl;
use crate::config::value::Value as _;
use crate::identity::Denied;
use crate::identity::jwks::Times;
use channelapi_core::limits::JWKS_BYTES_MAX;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What a provider answers.
#[derive(Clone)]
enum Answer {
    /// These keys.
    Keys(Vec<Value>),
    /// These bytes.
    Raw(Vec<u8>),
    /// One byte of a good answer now and then.
    Drip(Vec<Value>),
    /// Nothing, although it listens.
    Silence,
}

struct Provider {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    /// How often it was asked.
    asked: Arc<Mutex<u32>>,
    server: JoinSet<()>,
}

impl Provider {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(Mutex::new(0)));
        let mut server = JoinSet::new();
        let (current, count) = (answer.clone(), asked.clone());
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                *count.lock() += 1;
                let answer = current.lock().clone();
                connections.spawn(serve(socket, answer));
            }
        });
        Self { port, answer, asked, server }
    }

    fn say(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn asked(&self) -> u32 {
        *self.asked.lock()
    }

    fn url(&self) -> JwksUrl {
        JwksUrl::parse(&format!("http://127.0.0.1:{}/jwks.json", self.port)).unwrap()
    }
}

async fn serve(mut socket: TcpStream, answer: Answer) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        let count = socket.read(&mut bytes).await.unwrap_or(0);
        if count == 0 {
            return;
        }
        request.extend_from_slice(&bytes[..count]);
    }
    let http = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body.as_bytes()].concat()
    };
    let set = |keys: &[Value]| json!({"keys": keys}).to_string();
    // Whoever asks may hang up early.
    match answer {
        Answer::Keys(keys) => _ = socket.write_all(&http(&set(&keys))).await,
        Answer::Raw(bytes) => _ = socket.write_all(&bytes).await,
        Answer::Drip(keys) => {
            for byte in http(&set(&keys)) {
                if socket.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Answer::Silence => std::future::pending().await,
    }
}

/// Short where it is waited for. The answer of a provider that answers must be there in time even on a busy machine.
const QUICK: Times = Times {
    timeout: Duration::from_secs(10),
    refresh: Duration::from_hours(1),
    pause: Duration::from_millis(20),
    stale_max: Duration::from_hours(1),
};

/// An issuer whose keys come from a provider, with somebody who fetches them.
struct Fetched {
    issuers: Arc<Issuers>,
    keeper: JoinSet<()>,
}

impl Fetched {
    fn new(provider: &Provider, times: Times) -> Self {
        let settings = issuer(KeySource::JwksUrl { url: provider.url(), ca_file: None });
        let issuers = Arc::new(Issuers::set_up_with(&[settings], times));
        let mut keeper = JoinSet::new();
        let kept = issuers.clone();
        keeper.spawn(async move { kept.keep_up().await });
        Self { issuers, keeper }
    }

    async fn verify(&self, signer: &Signer, kid: &str) -> Result<(), Denied> {
        let token = signer.sign_with(&json!({"kid": kid}), &claims());
        verify(&self.issuers, &token).await.map(|_| ()).map_err(|refused| refused.denied())
    }

    /// Tries until this comes of it.
    async fn until(&self, signer: &Signer, kid: &str, expected: Result<(), Denied>) {
        let tried = tokio::time::timeout(Duration::from_secs(30), async {
            while self.verify(signer, kid).await != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        tried.await.expect("it comes in time");
    }
}

#[tokio::test]
async fn keys_are_fetched_when_they_are_needed_and_a_new_one_is_found() {
    let (first, second) = (Signer::new("ES256"), Signer::new("EdDSA"));
    let provider = Provider::start(Answer::Keys(vec![first.jwk("1")])).await;
    let fetched = Fetched::new(&provider, QUICK);
    assert_eq!(
        fetched.verify(&first, "1").await,
        Ok(()),
        "whoever comes before the keys are there waits for them"
    );
    assert_eq!(fetched.verify(&second, "2").await, Err(Denied::Invalid));
    provider.say(Answer::Keys(vec![first.jwk("1"), second.jwk("2")]));
    fetched.until(&second, "2", Ok(())).await;
    assert_eq!(fetched.verify(&first, "1").await, Ok(()));
    assert_eq!(fetched.verify(&first, "2").await, Err(Denied::Invalid), "the name of another key");
}

#[tokio::test]
async fn a_key_that_the_provider_has_removed_is_out_after_the_next_fetch() {
    let (first, second) = (Signer::new("ES256"), Signer::new("ES256"));
    let provider = Provider::start(Answer::Keys(vec![first.jwk("1"), second.jwk("2")])).await;
    let fetched = Fetched::new(&provider, Times { refresh: Duration::from_millis(50), ..QUICK });
    assert_eq!(fetched.verify(&first, "1").await, Ok(()));
    provider.say(Answer::Keys(vec![second.jwk("2")]));
    fetched.until(&first, "1", Err(Denied::Invalid)).await;
    assert_eq!(fetched.verify(&second, "2").await, Ok(()));
}

/// The limits promise more than one can wait for in a test: a key that was removed is out within ten minutes, a new one in within one.
#[test]
fn the_times_keep_what_they_promise() {
    let times = Times::default();
    assert!(times.refresh + times.pause + times.timeout < Duration::from_mins(10));
    assert!(times.pause == Duration::from_mins(1) && times.timeout <= Duration::from_secs(5));
    assert_eq!(times.stale_max, Duration::from_hours(24));
}

#[tokio::test]
async fn unknown_keys_make_nobody_fetch_more_often_than_once_in_a_while() {
    let signer = Signer::new("ES256");
    let provider = Provider::start(Answer::Keys(vec![signer.jwk("1")])).await;
    let fetched = Fetched::new(&provider, Times { pause: Duration::from_hours(1), ..QUICK });
    assert_eq!(fetched.verify(&signer, "1").await, Ok(()));
    for number in 0..1_000 {
        assert_eq!(fetched.verify(&signer, &format!("unknown {number}")).await, Err(Denied::Invalid));
    }
    assert_eq!(provider.asked(), 1);
    assert_eq!(fetched.verify(&signer, "1").await, Ok(()));
}

#[tokio::test]
async fn many_who_wait_for_keys_make_one_fetch() {
    let signer = Signer::new("ES256");
    let provider = Provider::start(Answer::Keys(vec![signer.jwk("1")])).await;
    let fetched = Arc::new(Fetched::new(&provider, Times { pause: Duration::from_hours(1), ..QUICK }));
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let (fetched, signer) = (fetched.clone(), signer.clone());
        all.spawn(async move { fetched.verify(&signer, "1").await });
    }
    assert!(all.join_all().await.into_iter().all(|verified| verified == Ok(())));
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn nothing_that_is_no_answer_takes_the_place_of_a_good_one() {
    let signer = Signer::new("ES256");
    let good = Answer::Keys(vec![signer.jwk("1")]);
    let provider = Provider::start(good.clone()).await;
    let (timeout, refresh) = (Duration::from_secs(1), Duration::from_millis(20));
    let fetched = Fetched::new(&provider, Times { timeout, refresh, ..QUICK });
    fetched.until(&signer, "1", Ok(())).await;
    let raw = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    let mut large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 10_000_000).into_bytes();
    large.resize(10_000_000, b' ');
    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..=JWKS_BYTES_MAX / 1024 {
        endless.extend_from_slice(b"400\r\n");
        endless.resize(endless.len() + 1024, b' ');
        endless.extend_from_slice(b"\r\n");
    }
    let elsewhere = Provider::start(Answer::Keys(vec![signer.jwk("stolen")])).await;
    let location = elsewhere.url();
    for (what, answer) in [
        ("empty", Answer::Keys(Vec::new())),
        ("only secrets", Answer::Keys(vec![hs256().jwk("1")])),
        ("nothing", raw("")),
        ("no body", raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
        ("no JSON", raw("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<xml")),
        ("an error", raw("HTTP/1.1 500 Oh no\r\ncontent-length: 0\r\n\r\n")),
        ("cut off", raw("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"keys\":[")),
        ("10 MB", Answer::Raw(large)),
        ("without end", Answer::Raw(endless)),
        ("a large head", raw(&format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1_000_000)))),
        ("compressed", raw("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}")),
        (
            "elsewhere",
            raw(&format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")),
        ),
        ("too slow", Answer::Drip(vec![signer.jwk("slow")])),
        ("silence", Answer::Silence),
    ] {
        provider.say(answer);
        let asked = provider.asked();
        let waited = tokio::time::timeout(Duration::from_secs(30), async {
            // The second one begins after the first one has ended.
            while provider.asked() < asked + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect(what);
        assert_eq!(fetched.verify(&signer, "1").await, Ok(()), "{what}");
    }
    assert_eq!(elsewhere.asked(), 0, "nobody goes where a provider sends them");
    assert_ne!(fetched.verify(&signer, "stolen").await, Ok(()));
}

#[tokio::test]
async fn a_provider_that_is_gone_is_done_without_until_its_keys_are_too_old() {
    let signer = Signer::new("ES256");
    let mut provider = Provider::start(Answer::Keys(vec![signer.jwk("1")])).await;
    let fetched = Fetched::new(
        &provider,
        Times { stale_max: Duration::from_secs(5), refresh: Duration::from_millis(20), ..QUICK },
    );
    assert_eq!(fetched.verify(&signer, "1").await, Ok(()));
    provider.server.shutdown().await;
    assert_eq!(fetched.verify(&signer, "1").await, Ok(()));
    fetched.until(&signer, "1", Err(Denied::Unavailable)).await;
}

#[tokio::test]
async fn whoever_waits_for_a_provider_that_does_not_answer_waits_no_longer_than_a_fetch() {
    let signer = Signer::new("ES256");
    let provider = Provider::start(Answer::Silence).await;
    let (timeout, pause) = (Duration::from_millis(300), Duration::from_hours(1));
    let fetched = Fetched::new(&provider, Times { timeout, pause, ..QUICK });
    // Whoever comes right behind the first may still be told of the end of its fetch; nobody after that waits for anything.
    for _ in 0..4 {
        let waited = tokio::time::timeout(Duration::from_secs(30), fetched.verify(&signer, "1")).await;
        assert_eq!(waited, Ok(Err(Denied::Unavailable)));
    }
    assert_eq!(provider.asked(), 1, "nobody fetches again: there is nothing to wait for");
}

#[tokio::test]
async fn a_fetch_that_is_given_up_keeps_nobody_waiting() {
    let signer = Signer::new("ES256");
    let provider = Provider::start(Answer::Silence).await;
    let (timeout, pause) = (Duration::from_hours(1), Duration::from_hours(1));
    let mut fetched = Fetched::new(&provider, Times { timeout, pause, ..QUICK });
    let asked = tokio::time::timeout(Duration::from_secs(30), async {
        while provider.asked() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    asked.await.expect("the fetch begins");
    fetched.keeper.shutdown().await;
    let waited = tokio::time::timeout(Duration::from_secs(30), fetched.verify(&signer, "1")).await;
    assert_eq!(waited, Ok(Err(Denied::Unavailable)));
}

/// Once, the first panic was the end: the keys that were there grew old, and all clients of the issuer were locked out for good.
#[tokio::test]
async fn a_panic_costs_an_issuer_no_more_than_a_pause() {
    let (first, second) = (Signer::new("ES256"), Signer::new("ES256"));
    let provider = Provider::start(Answer::Keys(vec![first.jwk("1")])).await;
    // No clock counts that far: whoever wants to know when the next fetch is due panics behind each of them.
    let fetched = Fetched::new(&provider, Times { refresh: Duration::MAX, ..QUICK });
    fetched.until(&first, "1", Ok(())).await;
    provider.say(Answer::Keys(vec![second.jwk("2")]));
    fetched.until(&second, "2", Ok(())).await;
    fetched.until(&first, "1", Err(Denied::Invalid)).await;
}

#[tokio::test]
async fn of_several_keys_with_one_name_each_verifies_what_it_has_signed_but_not_without_that_name() {
    let signers: Vec<_> = (0..3).map(|_| Signer::new("ES256")).collect();
    let provider =
        Provider::start(Answer::Keys(signers.iter().map(|signer| signer.jwk("1")).collect())).await;
    let fetched = Fetched::new(&provider, QUICK);
    for signer in &signers {
        assert_eq!(fetched.verify(signer, "1").await, Ok(()));
        let nameless = signer.sign(&claims());
        assert!(verify(&fetched.issuers, &nameless).await.is_err(), "nobody guesses among keys");
    }
    assert_eq!(fetched.verify(&Signer::new("ES256"), "1").await, Err(Denied::Invalid));
}
