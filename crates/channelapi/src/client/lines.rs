//! `publish --stdin-lines`: each line of standard input is one publication, in order.
//!
//! Lines leave as soon as they come, and those that wait together leave together, in smaller numbers while a server says that
//! it is too much. Every line has an idempotency key made of the run's key and its number, so a batch can be repeated, also by
//! running the command again. Volatile lines have none: what was delivered is not sent again.

use std::io::{self, BufRead, Read};

use hyper::Method;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    Failed, Form,
    call::{Call, Client, REPEAT_TIME},
    patience::Patience,
    problem::{Problem, Refusal, leaves_open},
    publish::{Message, Outcome, Publish, advice, random_key},
};
use crate::output::{Output, Unprinted, try_print};

/// Lines that leave together at most: what a server takes in one request.
const BATCH_LINES_MAX: usize = 1000;

/// Bytes that leave together: half of what a server takes in one request.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// Longest line: no server takes more in one publication.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// The status of an item that was held back because of another one.
const HELD_BACK: u16 = 424;

/// A line to publish.
struct Line {
    number: u64,
    /// As the API takes it, line end included.
    item: Vec<u8>,
}

/// How far we are.
#[derive(Default)]
struct Progress {
    /// Everything up to the line of this number is published.
    line: u64,
    /// The number of the last line that is published. A server may take volatile lines and leave out others before them.
    newest: u64,
    /// Lines that are not counted may be published all the same: whether they are was not answered.
    is_in_doubt: bool,
    /// Lines that leave together now.
    size: usize,
    published: u64,
    /// Lines may have been published by an earlier run.
    may_be_older: bool,
    older: u64,
    first: Option<u64>,
    last: Option<u64>,
    durability: Option<String>,
}

/// Why lines are not published any more.
enum Stuck {
    /// It is the line of this number.
    Line(u64, Problem),
    /// Nobody can be told what became of them.
    Unprinted(Unprinted),
}

/// What is printed for a line with `-o json`.
#[derive(Serialize)]
struct Printed<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<&'a str>,
    duplicate: bool,
}

pub(super) async fn run(mut request: Publish) -> Result<(), Failed> {
    let mut progress = Progress {
        size: BATCH_LINES_MAX,
        // With a key of our own, what is there already is there because we repeated it.
        may_be_older: request.idempotency_key.is_some(),
        ..Progress::default()
    };
    let key = match request.idempotency_key.take() {
        None if request.is_volatile => None,
        None => Some(random_key()?),
        given => given,
    };
    let mut batches = Batches { lines: read_lines(request.form != Form::Text), waiting: None };
    let outcome = publish_all(&request, key.as_deref(), &mut batches, &mut progress).await;
    if request.output == Output::Table && (outcome.is_ok() || progress.published > 0) {
        let described = progress.describe(&request.channel);
        let printed = try_print(&described);
        return outcome.and(printed.map_err(|error| Failed(format!("{error}\n  {described}"))));
    }
    outcome
}

async fn publish_all(
    request: &Publish,
    key: Option<&str>,
    batches: &mut Batches,
    progress: &mut Progress,
) -> Result<(), Failed> {
    let mut client = Client::new(request.target.clone())?;
    while let Some(batch) = batches.next(|number, text| item(request, key, number, text)).await {
        let batch = batch.map_err(|text| Failed(text + &progress.so_far()))?;
        publish_batch(&mut client, request, &batch, progress).await.map_err(|stuck| match stuck {
            Stuck::Line(number, problem) => {
                let text = problem.explain(&client.target);
                let rerun = advice(progress.is_in_doubt, key);
                Failed(format!("line {number}: {text}{rerun}{}", progress.so_far()))
            }
            Stuck::Unprinted(error) => Failed(format!("{error}{}", progress.so_far())),
        })?;
    }
    Ok(())
}

/// Publishes these, or says which line could not be. When one is bad, those before it are published all the same: a
/// server takes the items of a channel all or not at all.
async fn publish_batch(
    client: &mut Client,
    request: &Publish,
    batch: &[Line],
    progress: &mut Progress,
) -> Result<(), Stuck> {
    let mut waiting: Vec<&Line> = batch.iter().collect();
    let mut patience = Patience::of(REPEAT_TIME);
    let mut next = progress.size;
    while !waiting.is_empty() {
        let lines = &waiting[..next.min(waiting.len())];
        let sent = lines.len();
        let problem = match send(client, request, lines).await {
            Ok(results) => {
                progress.note(lines, &results);
                if request.output == Output::Json {
                    print_published(lines, &results, &request.channel).map_err(Stuck::Unprinted)?;
                }
                let mut is_published = results.iter().map(Outcome::is_published);
                waiting.retain(|_| is_published.next() != Some(true));

                let refused: Vec<_> = results.into_iter().filter(|result| !result.is_published()).collect();
                if refused.len() < sent {
                    patience.extend();
                }
                let bad = refused.iter().position(|result| result.status != HELD_BACK).unwrap_or(0);
                if bad > 0 {
                    next = bad;
                    continue;
                }
                let Some(Outcome { status, refusal: body, .. }) = refused.into_iter().next() else {
                    progress.size = (progress.size * 2).min(BATCH_LINES_MAX);
                    next = progress.size;
                    continue;
                };
                Problem::Refused(Box::new(Refusal { status, body, ..Refusal::default() }))
            }
            Err(problem) => problem,
        };
        progress.is_in_doubt |= problem.is_uncertain();
        if problem.is_too_much() {
            // More than a server lets in at once would be refused for ever.
            progress.size = (sent / 2).max(1);
        }
        next = progress.size;
        let number = waiting[0].number;
        let paused = client.pause(problem, !request.is_volatile, &mut patience).await;
        paused.map_err(|problem| Stuck::Line(number, problem))?;
    }
    progress.complete();
    Ok(())
}

/// Sends these together, and returns what became of each.
async fn send(client: &mut Client, request: &Publish, lines: &[&Line]) -> Result<Vec<Outcome>, Problem> {
    let call = Call {
        method: Method::POST,
        path: client.target.server.path("/v1/messages"),
        content_type: Some("application/x-ndjson"),
        headers: Vec::new(),
        body: lines.iter().flat_map(|line| line.item.clone()).collect(),
        is_repeatable: !request.is_volatile,
    };
    let answer = client.ask(&call).await?;
    results(&answer, lines.len(), request.is_volatile)
}

fn results(answer: &[u8], expected: usize, is_volatile: bool) -> Result<Vec<Outcome>, Problem> {
    #[derive(serde::Deserialize)]
    struct Results {
        results: Vec<Outcome>,
    }
    let Results { results } = serde_json::from_slice(answer).map_err(|_| Problem::Strange)?;
    let is_clear = |result: &Outcome| {
        if result.is_published() { result.has_place(is_volatile) } else { result.status >= 300 }
    };
    let are_clear = results.len() == expected && results.iter().all(is_clear);
    if are_clear { Ok(results) } else { Err(Problem::Strange) }
}

/// Prints those of these lines that are published.
fn print_published(lines: &[&Line], results: &[Outcome], channel: &str) -> Result<(), Unprinted> {
    for (line, result) in lines.iter().zip(results).filter(|(_, result)| result.is_published()) {
        try_print(&printed(line.number, channel, result))?;
    }
    Ok(())
}

fn printed(line: u64, channel: &str, outcome: &Outcome) -> String {
    let printed = Printed {
        line,
        id: outcome.id.as_deref(),
        channel,
        epoch: outcome.epoch.as_deref(),
        offset: outcome.offset,
        durability: outcome.durability.as_deref(),
        duplicate: outcome.duplicate,
    };
    serde_json::to_string(&printed).expect("text and numbers can be written as JSON")
}

impl Progress {
    /// Counts what is published of lines that left together.
    fn note(&mut self, lines: &[&Line], results: &[Outcome]) {
        for (line, outcome) in lines.iter().zip(results).filter(|(_, outcome)| outcome.is_published()) {
            self.newest = self.newest.max(line.number);
            self.published += 1;
            self.older += u64::from(outcome.duplicate && self.may_be_older);
            self.first = self.first.or(outcome.offset);
            self.last = outcome.offset.or(self.last);
            self.durability.clone_from(&outcome.durability);
        }
        let without_gap = results.iter().take_while(|outcome| outcome.is_published()).count();
        if let Some(line) = lines[..without_gap].last() {
            self.line = line.number;
        }
        self.is_in_doubt |= results.iter().any(|outcome| leaves_open(outcome.status));
    }

    /// All that was sent is published.
    fn complete(&mut self) {
        self.line = self.newest;
        self.is_in_doubt = false;
    }

    fn describe(&self, channel: &str) -> String {
        let lines = if self.published == 1 { "line" } else { "lines" };
        let durability = self.durability.as_deref().unwrap_or("unknown durability");
        let where_to = match (self.first, self.last) {
            (Some(first), Some(last)) if first < last => format!(": #{first} to #{last} ({durability})"),
            (Some(first), _) => format!(": #{first} ({durability})"),
            _ if self.published > 0 => " (volatile: to who is connected now, stored nowhere)".to_owned(),
            _ => String::new(),
        };
        let older = match self.older {
            0 => String::new(),
            count => format!("; {count} of them were there already"),
        };
        format!("published {} {lines} to {channel}{where_to}{older}", self.published)
    }

    /// What is known of all lines, when no more are published.
    fn so_far(&self) -> String {
        let may_be_more = self.is_in_doubt || self.newest > self.line;
        match (self.line, may_be_more) {
            (0, false) => "\n  nothing is published".to_owned(),
            (0, true) => "\n  some lines may be published".to_owned(),
            (line, false) => format!("\n  everything up to line {line} is published, nothing after it"),
            (line, true) => format!("\n  everything up to line {line} is published, and perhaps more"),
        }
    }
}

/// One line as the API takes it.
fn item(request: &Publish, key: Option<&str>, number: u64, text: &str) -> Result<Vec<u8>, String> {
    let data = request.form.read(text)?;
    let key = key.map(|key| format!("{key}/{number}"));
    let message = Message {
        channel: Some(&request.channel),
        data: &data,
        event: request.event.as_deref(),
        ttl: request.ttl,
        volatile: request.is_volatile,
        idempotency_key: key.as_deref(),
    };
    // A line break inside JSON stands between its parts, where it means nothing.
    let mut item = serde_json::to_vec(&message).expect("text can be written as JSON");
    item.retain(|byte| !matches!(byte, b'\n' | b'\r'));
    item.push(b'\n');
    Ok(item)
}

/// Lines as they arrive, put together as they wait.
struct Batches {
    lines: mpsc::Receiver<(u64, io::Result<String>)>,
    /// The one that did not fit into the last batch, or its mistake.
    waiting: Option<Result<Line, String>>,
}

impl Batches {
    /// The next lines; a mistake comes after everything before it.
    async fn next(
        &mut self,
        item: impl Fn(u64, &str) -> Result<Vec<u8>, String>,
    ) -> Option<Result<Vec<Line>, String>> {
        let read = |(number, text): (u64, io::Result<String>)| {
            let text = text.map_err(|error| error.to_string());
            match text.and_then(|text| item(number, &text)) {
                Ok(item) => Ok(Line { number, item }),
                Err(why) => Err(format!("line {number}: {why}")),
            }
        };
        let first = match self.waiting.take() {
            Some(waiting) => waiting,
            None => read(self.lines.recv().await?),
        };
        let mut batch = match first {
            Ok(line) => vec![line],
            Err(why) => return Some(Err(why)),
        };
        let mut bytes = batch[0].item.len();
        while batch.len() < BATCH_LINES_MAX
            && let Ok(line) = self.lines.try_recv()
        {
            match read(line) {
                Ok(line) if bytes + line.item.len() <= BATCH_BYTES_MAX => {
                    bytes += line.item.len();
                    batch.push(line);
                }
                other => {
                    self.waiting = Some(other);
                    break;
                }
            }
        }
        Some(Ok(batch))
    }
}

/// Reads standard input on a thread of its own, which may wait for a line for ever and ends with the process.
fn read_lines(skips_blank: bool) -> mpsc::Receiver<(u64, io::Result<String>)> {
    let (sender, lines) = mpsc::channel(BATCH_LINES_MAX);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        for number in 1.. {
            let line = match read_line(&mut input) {
                Ok(None) => break,
                Ok(Some(line)) if skips_blank && line.trim().is_empty() => continue,
                Ok(Some(line)) => Ok(line),
                Err(error) => Err(error),
            };
            let is_last = line.is_err();
            if sender.blocking_send((number, line)).is_err() || is_last {
                break;
            }
        }
    });
    lines
}

fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    line.pop_if(|last| *last == b'\n');
    line.pop_if(|last| *last == b'\r');
    String::from_utf8(line).map(Some).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(statuses: &[u16], expected: &str) {
        let lines: Vec<_> = (1..=4).map(|number| Line { number, item: Vec::new() }).collect();
        let lines: Vec<_> = lines.iter().take(statuses.len()).collect();
        let outcome = |status: &u16| Outcome { status: *status, ..Outcome::default() };
        let results: Vec<_> = statuses.iter().map(outcome).collect();
        let mut progress = Progress::default();
        progress.note(&lines, &results);
        assert_eq!(progress.so_far(), format!("\n  {expected}"), "{statuses:?}");
    }

    #[test]
    fn no_more_is_claimed_than_what_is_known() {
        check(&[503, 503], "nothing is published");
        check(&[504, 504], "some lines may be published");
        check(&[429, 200], "some lines may be published");
        check(&[201, 201, 400], "everything up to line 2 is published, nothing after it");
        check(&[201, 504], "everything up to line 1 is published, and perhaps more");
        check(&[200, 429, 200], "everything up to line 1 is published, and perhaps more");
    }
}
