//! One bit of a data directory is flipped, or a file is cut somewhere: the server finds out, serves nothing that was not
//! published, and tells nobody that everything is here when it is not. Then it goes on, with everything that it has served.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use super::restored_backup::copy_directory;
use super::{Orders, open};
use crate::archive::{self, Message};
use crate::choices::Choices;
use crate::history::ChannelId;
use crate::publisher::{Publisher, Route, Target};
use crate::server::{AUTH_KEY, Server};
use crate::site::Site;
use crate::town;

const CHANNELS: u16 = 4;
const BATCHES: u64 = 40;
const BATCH: u64 = 10;
/// Places in each channel from which it is read again.
const READERS: u64 = 4;
/// Once in how many copies it is not the log that is damaged.
const OTHERS_RARITY: u64 = 8;

/// What was there before the damage.
struct Before {
    folder: PathBuf,
    /// Of each channel, in order, and the cursor of a client that has seen everything.
    channels: Vec<(String, Vec<Message>, String)>,
}

/// What was done to a file.
struct Damage {
    text: String,
    is_of_log: bool,
}

pub(crate) async fn run(orders: &Orders) -> Result<()> {
    let (mut server, site) = open(&orders.binary, &town::configuration()).await?;
    let channels = publish(&site, orders.seed).await?;
    server.stop().await?;
    let before = Before { folder: server.data_dir(), channels };
    let (mut refused, mut incomplete) = (0, 0);
    for cycle in 0..orders.cycles {
        let seed = orders.seed + u64::from(cycle);
        let mut choices = Choices::new(seed, "bit-rot");
        let mut copy = Server::prepare(&orders.binary, &town::configuration())?;
        copy_directory(&before.folder, &copy.data_dir())?;
        let damage = damage(&copy.data_dir(), &mut choices)?;
        let outcome = judge(&mut copy, &damage, &before, &mut choices).await;
        match outcome.with_context(|| format!("{}, copy {cycle}", damage.text))? {
            Outcome::Refused => refused += 1,
            Outcome::Incomplete => incomplete += 1,
            Outcome::Complete => {}
        }
    }
    ensure!(incomplete > 0, "no damage took anything, so nothing is proven");
    println!(
        "bit-rot: {} damaged copies, {incomplete} with messages missing and said so, {refused} refused clearly, \
         0 false messages, 0 silent gaps",
        orders.cycles
    );
    Ok(())
}

enum Outcome {
    Refused,
    Incomplete,
    Complete,
}

fn targets() -> Vec<Target> {
    (0..CHANNELS)
        .map(|number| Target { channel: ChannelId(number), name: format!("plain-{number}") })
        .collect()
}

async fn publish(site: &Arc<Site>, seed: u64) -> Result<Vec<(String, Vec<Message>, String)>> {
    let targets = targets();
    let mut publisher = Publisher::new(0, Route::Batch, targets.clone(), Arc::clone(site), seed);
    for _ in 0..BATCHES {
        for target in &targets {
            publisher.publish_batch(target, BATCH).await?;
        }
    }
    let mut channels = Vec::new();
    for target in targets {
        let archive = archive::read(site, &target.name, "all").await?;
        ensure!(archive.messages.len() as u64 == BATCHES * BATCH, "not everything is in the history");
        channels.push((target.name, archive.messages, archive.cursor));
    }
    Ok(channels)
}

/// Flips a bit, or cuts a file, at a random place of a random file.
fn damage(folder: &Path, choices: &mut Choices) -> Result<Damage> {
    let is_of_log = !choices.one_in(OTHERS_RARITY);
    let inside = if is_of_log { folder.join("log") } else { folder.to_owned() };
    let mut files = Vec::new();
    for entry in fs::read_dir(&inside)? {
        let path = entry?.path();
        // The reserve is room, and its content nobody's business.
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        if path.is_file() && fs::metadata(&path)?.len() > 0 && (is_segment || !is_of_log) {
            files.push(path);
        }
    }
    files.sort();
    let path = choices.pick(&files).with_context(|| format!("no files in {}", inside.display()))?;
    let name = path.strip_prefix(folder)?.display().to_string();
    let file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let at = choices.number(0..=length - 1);
    if choices.one_in(4) {
        file.set_len(at)?;
        return Ok(Damage { text: format!("{name} cut from {length} to {at} bytes"), is_of_log });
    }
    let (mut byte, bit) = ([0], choices.number(0..=7));
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at)?;
    Ok(Damage { text: format!("bit {bit} of byte {at} of {name} flipped ({length} bytes)"), is_of_log })
}

async fn judge(
    server: &mut Server,
    damage: &Damage,
    before: &Before,
    choices: &mut Choices,
) -> Result<Outcome> {
    let (sound, said) = server.verify_data()?;
    let is_found = !sound || said.contains("never written as a whole");
    ensure!(is_found || !damage.is_of_log, "`store verify` calls it sound:\n{said}");
    if let Some(status) = server.start_unless_refused().await? {
        let said = server.log();
        ensure!(
            status.code().is_some_and(|code| code != 0 && code != 101),
            "the server ended with {status}:\n{said}"
        );
        ensure!(said.contains("data/"), "the refusal does not name the file:\n{said}");
        ensure!(
            !damage.is_of_log || said.contains("format"),
            "a damaged log is no reason not to start:\n{said}"
        );
        return Ok(Outcome::Refused);
    }
    let site = Site::new(server.address, AUTH_KEY.to_owned());
    let mut left = Vec::new();
    for (channel, messages, _) in &before.channels {
        let all = archive::read(&site, channel, "all").await?;
        let mut rest = messages.iter();
        let is_strange = |message: &&Message| !rest.any(|known| known == *message);
        let stranger = all.messages.iter().find(is_strange);
        ensure!(stranger.is_none(), "{channel} serves {stranger:?}, which is not its, or not there");
        left.push(all.messages);
    }
    // A log without its end is as sound as one whose end was never written. Only those know more who have seen it.
    let is_shorter = is_beginning(&left, before);
    for ((channel, messages, cursor), left) in before.channels.iter().zip(&left) {
        for _ in 0..READERS {
            let last = usize::try_from(choices.number(0..=messages.len() as u64 - 1))?;
            let after = archive::read(&site, channel, &messages[last].id).await?;
            let (is_there, rest) = (left.contains(&messages[last]), &messages[last + 1..]);
            let is_true =
                after.messages == rest || is_shorter && is_there && rest.starts_with(&after.messages);
            ensure!(
                is_true || !after.recovered,
                "{channel} after {:?} is called complete",
                messages[last].id
            );
        }
        let end = archive::read(&site, channel, cursor).await?;
        let is_whole = left.last() == messages.last();
        ensure!(
            is_whole || !end.recovered,
            "{channel} lost its end, and who has seen that is called complete"
        );
        ensure!(end.messages.is_empty() || !end.recovered, "{channel} repeats what a client has seen");
    }
    go_on(server, before, &left, choices).await?;
    let is_complete = left.iter().zip(&before.channels).all(|(left, (_, messages, _))| left == messages);
    Ok(if is_complete { Outcome::Complete } else { Outcome::Incomplete })
}

/// Publishes one more to each channel: what was there is still there, also after another start, and nobody is told more than is so.
async fn go_on(
    server: &mut Server,
    before: &Before,
    left: &[Vec<Message>],
    choices: &mut Choices,
) -> Result<()> {
    let is_shorter = is_beginning(left, before);
    let site = Arc::new(Site::new(server.address, AUTH_KEY.to_owned()));
    // With numbers of its own.
    let mut publisher = Publisher::new(1, Route::Batch, targets(), site, choices.number(1..=u64::MAX - 1));
    for target in targets() {
        publisher.publish_batch(&target, 1).await?;
    }
    let mut shown = Vec::new();
    for start in 0..2 {
        if start > 0 {
            server.stop().await?;
            server.start().await?;
        }
        let site = Site::new(server.address, AUTH_KEY.to_owned());
        for (number, ((channel, messages, _), left)) in before.channels.iter().zip(left).enumerate() {
            let all = archive::read(&site, channel, "all").await?.messages;
            let (newest, rest) = all.split_last().with_context(|| format!("{channel} is empty"))?;
            ensure!(data(rest).eq(data(left)), "{channel} has given up what it had, with its next message");
            ensure!(!messages.iter().any(|known| known.data == newest.data), "{channel} has stored nothing");
            let last = usize::try_from(choices.number(0..=messages.len() as u64 - 1))?;
            let after = archive::read(&site, channel, &messages[last].id).await?;
            let missed = data(&messages[last + 1..]).chain([&newest.data]);
            let place = left.iter().position(|known| is_shorter && *known == messages[last]);
            let is_true = data(&after.messages).eq(missed)
                || place.is_some_and(|place| data(&after.messages).eq(data(&all[place + 1..])));
            ensure!(
                is_true || !after.recovered,
                "{channel} after {:?} is called complete",
                messages[last].id
            );
            if start == 0 {
                shown.push(all);
            } else {
                ensure!(shown[number] == all, "{channel} is another one after a start");
            }
        }
    }
    server.stop().await
}

fn data(messages: &[Message]) -> impl Iterator<Item = &serde_json::Value> {
    messages.iter().map(|message| &message.data)
}

/// Whether exactly the last messages are missing, of all channels together, in the order in which they were published.
fn is_beginning(left: &[Vec<Message>], before: &Before) -> bool {
    let count: usize = left.iter().map(Vec::len).sum();
    let (batch, channels) = (usize::try_from(BATCH).unwrap_or(1), usize::from(CHANNELS));
    left.iter().zip(&before.channels).enumerate().all(|(channel, (left, (_, messages, _)))| {
        let turn = |index: usize| (index / batch * channels + channel) * batch + index % batch;
        let expected = (0..messages.len()).take_while(|index| turn(*index) < count).count();
        left[..] == messages[..expected]
    })
}
