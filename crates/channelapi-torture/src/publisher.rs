//! One backend that publishes over HTTP, and writes down what it was told.

mod purging;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::broken::is_broken;
use crate::choices::Choices;
use crate::history::{Answer, Branch, ChannelId, MessageId, Outcome, Position, Publish, Purge, Time};
use crate::http::{Http, Request, Response};
use crate::packet::data;
use crate::site::{Phase, Site};

/// The publisher of what clients have to get before a run may end.
pub(crate) const GOALS: u32 = u32::MAX;

const ANSWER_MAX: Duration = Duration::from_secs(20);
const RETRY_MILLIS: RangeInclusive<u64> = 5..=30;
const BATCH: RangeInclusive<u64> = 2..=10;
/// Once in how many messages a key is used again although the outcome is known.
const REPEAT_RARITY: u64 = 10;
/// Once in how many requests a publisher that purges does so.
const PURGE_RARITY: u64 = 40;

/// The shortest there is, so that some messages are over before clients that stay away come back.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Longer than any run.
const LONG_LIFE: Duration = Duration::from_hours(1);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Route {
    /// `POST /message/{channel}`.
    Seed,
    /// One message a request, whose outcome stays unknown if the connection breaks.
    Single,
    /// With an `Idempotency-Key`, tried again until the outcome is known.
    Keyed,
    /// The same, and most messages have a time to live.
    Expiring,
    /// As keyed ones, and at times everything is purged. It has its channels for itself.
    Purging,
    /// Several messages of one channel in one request.
    Batch,
}

/// Where a message may go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) channel: ChannelId,
    pub(crate) name: String,
}

pub(crate) struct Publisher {
    number: u32,
    route: Route,
    targets: Vec<Target>,
    /// Milliseconds between two requests.
    pace: RangeInclusive<u64>,
    site: Arc<Site>,
    choices: Choices,
    connection: Option<(Http, Branch)>,
    next: u32,
    batches: u32,
    log: Vec<Publish>,
    purges: Vec<Purge>,
}

/// What a publisher has written down.
pub(crate) struct Log {
    pub(crate) publishes: Vec<Publish>,
    pub(crate) purges: Vec<Purge>,
}

/// What one attempt came to.
enum Attempt {
    Answered(Response, Branch),
    /// The connection broke, or no answer came in time.
    Broken,
}

impl Publisher {
    pub(crate) fn new(number: u32, route: Route, targets: Vec<Target>, site: Arc<Site>, seed: u64) -> Self {
        let choices = Choices::new(seed, &format!("publisher-{number}"));
        let (connection, log, purges) = (None, Vec::new(), Vec::new());
        Self {
            number,
            route,
            targets,
            pace: 0..=4,
            site,
            choices,
            connection,
            next: 1,
            batches: 0,
            log,
            purges,
        }
    }

    /// Publishes until the load ends.
    pub(crate) async fn run(mut self) -> Result<Log> {
        while self.site.situation().phase == Phase::Load {
            let target = self.choices.pick(&self.targets).context("a publisher without channels")?.clone();
            let publishing = match self.route {
                Route::Batch => {
                    let count = self.choices.number(BATCH);
                    self.publish_batch(&target, count).await
                }
                Route::Purging if self.choices.one_in(PURGE_RARITY) => self.purge(&target).await,
                _ => self.publish(&target).await,
            };
            publishing.with_context(|| format!("publisher {}", self.number))?;
            sleep(self.choices.millis(self.pace.clone())).await;
        }
        Ok(Log { publishes: self.log, purges: self.purges })
    }

    pub(crate) fn into_log(self) -> Vec<Publish> {
        self.log
    }

    /// Publishes something to every channel; whoever got a number that is not below the returned one in each of them
    /// has got everything that was accepted before.
    pub(crate) async fn publish_goals(&mut self) -> Result<u32> {
        let first = self.next;
        for target in self.targets.clone() {
            self.publish(&target).await?;
        }
        Ok(first)
    }

    async fn publish(&mut self, target: &Target) -> Result<()> {
        let id = self.next_id();
        let keyed = matches!(self.route, Route::Keyed | Route::Expiring | Route::Purging);
        let ttl = if self.route == Route::Expiring { self.choose_ttl() } else { None };
        let data = data(id, target.channel);
        let (path, body) = match (self.route, ttl) {
            (Route::Seed, _) => (format!("/message/{}", target.name), json!({ "message": data })),
            (_, None) => (format!("/v1/channels/{}/messages", target.name), json!({ "data": data })),
            (_, Some(ttl)) => {
                let body = json!({ "data": data, "ttl": ttl.as_secs() });
                (format!("/v1/channels/{}/messages", target.name), body)
            }
        };
        let key = if keyed { format!("Idempotency-Key: {id}\r\n") } else { String::new() };
        let (headers, body) = (self.site.authorization() + &key, body.to_string());
        let request = Prepared { method: "POST", path, headers, body };
        let mut invoked = None;
        let mut refused = None;
        let mut answers = Vec::new();
        let mut doubtful = None;
        loop {
            let attempt = self.attempt(&request, &mut invoked).await?;
            match attempt {
                Attempt::Answered(response, branch) => match judge(&response)? {
                    Judgement::Stored => answers.push(self.answer(&response, branch)?),
                    Judgement::Refused => refused = Some(response.status),
                    Judgement::Unknown => _ = doubtful.get_or_insert(self.site.now()),
                },
                Attempt::Broken => _ = doubtful.get_or_insert(self.site.now()),
            }
            let once_more = keyed && answers.len() == 1 && self.choices.one_in(REPEAT_RARITY);
            let known = !(answers.is_empty() || once_more);
            if !keyed || known {
                break;
            }
            sleep(self.choices.millis(RETRY_MILLIS)).await;
        }
        let outcome = match (answers.is_empty(), refused) {
            (false, _) => Outcome::Stored(answers),
            (true, Some(status)) if doubtful.is_none() => Outcome::Refused(status),
            (true, _) => Outcome::Unknown,
        };
        let invoked = invoked.context("published without an attempt")?;
        let channel = target.channel;
        self.log.push(Publish { id, channel, keyed, ttl, batch: None, invoked, doubtful, outcome });
        Ok(())
    }

    /// Several messages in one request.
    pub(crate) async fn publish_batch(&mut self, target: &Target, count: u64) -> Result<()> {
        let ids: Vec<_> = (0..count).map(|_| self.next_id()).collect();
        let mut messages = Vec::new();
        for id in &ids {
            messages.push(json!({ "channel": target.name, "data": data(*id, target.channel) }));
        }
        let body = json!({ "messages": messages }).to_string();
        let (path, headers) = ("/v1/messages".to_owned(), self.site.authorization());
        let request = Prepared { method: "POST", path, headers, body };
        let mut invoked = None;
        let outcomes = match self.attempt(&request, &mut invoked).await? {
            Attempt::Broken => vec![Outcome::Unknown; ids.len()],
            Attempt::Answered(response, branch) => match judge(&response)? {
                Judgement::Stored => self.batch_outcomes(&response, branch, ids.len())?,
                Judgement::Refused => vec![Outcome::Refused(response.status); ids.len()],
                Judgement::Unknown => vec![Outcome::Unknown; ids.len()],
            },
        };
        let invoked = invoked.context("published without an attempt")?;
        let (batch, answered) = (Some(self.batches), self.site.now());
        self.batches += 1;
        self.log.extend(ids.into_iter().zip(outcomes).map(|(id, outcome)| Publish {
            id,
            channel: target.channel,
            keyed: false,
            ttl: None,
            batch,
            invoked,
            doubtful: (outcome == Outcome::Unknown).then_some(answered),
            outcome,
        }));
        Ok(())
    }

    fn batch_outcomes(&self, response: &Response, branch: Branch, count: usize) -> Result<Vec<Outcome>> {
        let parsed: Value = serde_json::from_str(&response.body)?;
        let results = parsed["results"].as_array().filter(|results| results.len() == count);
        let results = results.with_context(|| format!("not {count} results in {}", response.body))?;
        let at = self.site.now();
        for status in results.iter().filter_map(|result| result["status"].as_u64()) {
            if status >= 400 {
                self.site.note_refusal(u16::try_from(status)?);
            }
        }
        let outcome = |result: &Value| match result["status"].as_u64() {
            Some(200 | 201) => Ok(Outcome::Stored(vec![read_answer(result, at, branch)?])),
            Some(504) => Ok(Outcome::Unknown),
            Some(status) => Ok(Outcome::Refused(u16::try_from(status)?)),
            None => bail!("no status in {result}"),
        };
        results.iter().map(outcome).collect()
    }

    /// Sends the request once; `invoked` is when it was first about to be sent.
    async fn attempt(&mut self, request: &Prepared, invoked: &mut Option<Time>) -> Result<Attempt> {
        self.connect().await;
        let Some((mut http, branch)) = self.connection.take() else { bail!("not connected") };
        invoked.get_or_insert(self.site.now());
        let Prepared { method, path, headers, body } = request;
        let request = Request { method, path, headers, body };
        match timeout(ANSWER_MAX, http.exchange(&request)).await {
            Ok(Ok(response)) => {
                if response.status >= 400 {
                    self.site.note_refusal(response.status);
                }
                self.connection = Some((http, branch));
                Ok(Attempt::Answered(response, branch))
            }
            Ok(Err(error)) if !is_broken(&error) => Err(error),
            Ok(Err(_)) | Err(_) => Ok(Attempt::Broken),
        }
    }

    /// Nothing is sent before this succeeds, so as many attempts as it takes leave no doubt.
    async fn connect(&mut self) {
        while self.connection.is_none() {
            let situation = self.site.situation();
            if let Ok(http) = Http::connect(self.site.address).await
                && self.site.is_still(situation)
            {
                self.connection = Some((http, situation.branch));
            } else {
                sleep(self.choices.millis(RETRY_MILLIS)).await;
            }
        }
    }

    fn answer(&self, response: &Response, branch: Branch) -> Result<Answer> {
        let at = self.site.now();
        if self.route == Route::Seed {
            return Ok(Answer { at, branch, position: None, tag: None, duplicate: false });
        }
        read_answer(&serde_json::from_str(&response.body)?, at, branch)
    }

    fn choose_ttl(&mut self) -> Option<Duration> {
        match self.choices.number(0..=3) {
            0 => None,
            1 => Some(LONG_LIFE),
            _ => Some(SHORT_LIFE),
        }
    }

    fn next_id(&mut self) -> MessageId {
        let number = self.next;
        self.next += 1;
        MessageId { publisher: self.number, number }
    }
}

struct Prepared {
    method: &'static str,
    path: String,
    headers: String,
    body: String,
}

enum Judgement {
    Stored,
    Refused,
    Unknown,
}

/// What a status promises.
fn judge(response: &Response) -> Result<Judgement> {
    Ok(match response.status {
        200 | 201 => Judgement::Stored,
        504 => Judgement::Unknown,
        429 | 503 | 507 => Judgement::Refused,
        status => bail!("a publication was answered {status}: {}", response.body),
    })
}

fn read_answer(answer: &Value, at: Time, branch: Branch) -> Result<Answer> {
    let place = answer["id"].as_str().and_then(Position::with_tag_of_id);
    let (position, tag) = place.with_context(|| format!("no usable id in {answer}"))?;
    let duplicate = answer["duplicate"].as_bool().with_context(|| format!("no `duplicate` in {answer}"))?;
    if answer["offset"] != position.offset {
        bail!("offset and id of {answer} contradict each other");
    }
    Ok(Answer { at, branch, position: Some(position), tag: Some(tag), duplicate })
}
