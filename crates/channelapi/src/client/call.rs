//! One call of the HTTP API, over a connection that is kept for the next.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{
    Failed, Target,
    patience::Patience,
    problem::{GivenUp, Problem, Refusal},
    secure::{self, Secure},
};
use crate::config::secret::Secret;
use crate::output::tell;

/// For the connection, and again for a TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server under load answers late, a dead one never.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a call is repeated: a server that is restarted is back within this.
pub(super) const REPEAT_TIME: Duration = Duration::from_secs(30);

/// Servers and proxies close connections that rest for a minute or more; a call must not meet that.
const REST_MAX: Duration = Duration::from_secs(30);

/// A thousand results are a quarter of this.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What is asked.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: Option<&'static str>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// Being heard twice does no harm.
    pub(super) is_repeatable: bool,
}

/// A client of one server.
pub(super) struct Client {
    pub(super) target: Target,
    /// None where the server speaks plain HTTP.
    secure: Option<Secure>,
    key: Option<HeaderValue>,
    kept: Option<(SendRequest<Full<Bytes>>, Instant)>,
    /// Carries the bytes of the connection; ends with us.
    carrier: JoinSet<()>,
    /// Whether somebody has ever listened there. Before, an address that does not answer is more likely wrong than late.
    has_reached: bool,
}

impl Client {
    pub(super) fn new(target: Target) -> Result<Self, Failed> {
        let bearer = |key: &Secret| HeaderValue::from_str(&format!("Bearer {}", key.expose()));
        let key = target.key.as_ref().map(bearer).transpose();
        let key = key.map_err(|_| {
            Failed(format!("the key has characters that HTTP cannot carry\n  {}", target.about_key))
        })?;
        let secure = Secure::of(&target)?;
        Ok(Self { target, secure, key, kept: None, carrier: JoinSet::new(), has_reached: false })
    }

    /// Another client of the server, which has been reached by now: it is worth waiting for when it is gone.
    pub(super) fn another(&self) -> Self {
        let Self { target, secure, key, .. } = self;
        let (target, secure, key) = (target.clone(), secure.clone(), key.clone());
        Self { target, secure, key, kept: None, carrier: JoinSet::new(), has_reached: true }
    }

    /// Asks, and asks again while that may help.
    pub(super) async fn insist(&mut self, call: &Call) -> Result<Bytes, GivenUp> {
        let mut patience = Patience::of(REPEAT_TIME);
        let mut is_uncertain = false;
        loop {
            let problem = match self.ask(call).await {
                Ok(answer) => return Ok(answer),
                Err(problem) => problem,
            };
            // A later no does not take back what an earlier try may have done.
            is_uncertain |= problem.is_uncertain();
            let paused = self.pause(problem, call.is_repeatable, &mut patience).await;
            paused.map_err(|problem| GivenUp { problem, is_uncertain })?;
        }
    }

    /// Waits until another try is due, or gives the problem back when there is to be none.
    pub(super) async fn pause(
        &mut self,
        problem: Problem,
        is_repeatable: bool,
        patience: &mut Patience,
    ) -> Result<(), Problem> {
        let hopeless = matches!(problem, Problem::Unreachable(_)) && !self.has_reached;
        if hopeless || !problem.may_try_again(is_repeatable) {
            return Err(problem);
        }
        let is_first = patience.is_fresh();
        let Some(pause) = patience.pause(Instant::now(), problem.retry_after()) else { return Err(problem) };
        if is_first {
            tell(&format!("warning: {}; trying again", problem.in_short(&self.target)));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Asks once.
    pub(super) async fn ask(&mut self, call: &Call) -> Result<Bytes, Problem> {
        let server = self.target.server.to_string();
        let late = |_| Problem::NoAnswer(format!("{server} did not answer within {ANSWER_TIMEOUT:?}"));
        timeout(ANSWER_TIMEOUT, self.exchange(call)).await.map_err(late)?
    }

    async fn exchange(&mut self, call: &Call) -> Result<Bytes, Problem> {
        let (response, sender) = self.send(call).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.broke_off(&error.to_string()))?.to_bytes();
        self.kept = Some((sender, Instant::now()));
        if head.status.is_success() { Ok(body) } else { Err(refusal(head.status, &head.headers, &body)) }
    }

    /// Asks for something that has no end.
    pub(super) async fn open(&mut self, call: &Call) -> Result<Incoming, Problem> {
        let server = self.target.server.to_string();
        let late = |_| Problem::NoAnswer(format!("{server} did not answer within {ANSWER_TIMEOUT:?}"));
        let (response, _sender) = timeout(ANSWER_TIMEOUT, self.send(call)).await.map_err(late)??;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let body = timeout(ANSWER_TIMEOUT, Limited::new(body, ANSWER_BYTES_MAX).collect()).await;
        let body =
            body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(refusal(head.status, &head.headers, &body))
    }

    async fn send(&mut self, call: &Call) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), Problem> {
        let mut sender = self.connection().await?;
        let request = self.request(call);
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, sender)),
            Err(error) if error.error().is_parse() => Err(self.foreign()),
            Err(mut error) => match error.take_message() {
                Some(_unsent) => {
                    Err(Problem::Unreachable(format!("{} closed the connection", self.target.server)))
                }
                None => Err(self.broke_off(&error.into_error().to_string())),
            },
        }
    }

    fn foreign(&self) -> Problem {
        Problem::Foreign(format!(
            "what answers at {} does not speak HTTP\n  say where the server is with --server or CHANNELAPI_URL",
            self.target.server
        ))
    }

    fn broke_off(&self, why: &str) -> Problem {
        Problem::NoAnswer(format!("the connection to {} broke ({why})", self.target.server))
    }

    async fn connection(&mut self) -> Result<SendRequest<Full<Bytes>>, Problem> {
        if let Some((mut sender, since)) = self.kept.take()
            && since.elapsed() < REST_MAX
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let server = &self.target.server;
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect((server.host(), server.port())));
        let stream = connecting.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| Problem::connecting(&self.target, &error))?;
        _ = stream.set_nodelay(true);
        self.has_reached = true;
        let Some(secure) = &self.secure else { return self.speak_http(stream).await };
        let shaking = timeout(CONNECT_TIMEOUT, secure.connect(stream)).await;
        let stream = shaking.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| secure::explain(&self.target, &error))?;
        self.speak_http(stream).await
    }

    async fn speak_http(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, Problem> {
        let shake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shake.map_err(|error| self.broke_off(&error.to_string()))?;
        self.carrier = JoinSet::new();
        // What goes wrong is told to whoever waits for an answer.
        self.carrier.spawn(async { _ = connection.await });
        Ok(sender)
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.path.parse().expect("paths are percent-encoded");
        let headers = request.headers_mut();
        let text = |text: &str| HeaderValue::from_str(text).expect("checked where it was given");
        headers.insert(HOST, text(self.target.server.authority()));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("channelapi/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(key) = &self.key {
            headers.insert(AUTHORIZATION, key.clone());
        }
        if let Some(content_type) = call.content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, value) in &call.headers {
            headers.insert(*name, text(value));
        }
        request
    }
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Problem {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = text(RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
    Problem::Refused(Box::new(Refusal {
        status: status.as_u16(),
        // A proxy's page is not ours to show.
        body: serde_json::from_slice(body).unwrap_or_default(),
        retry_after: seconds.map(Duration::from_secs),
        location: text(LOCATION).map(str::to_owned),
    }))
}
