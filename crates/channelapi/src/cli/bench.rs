//! `bench …`: what is typed, and what is asked for with it.

use std::{path::PathBuf, time::Duration};

use clap::{ArgMatches, Command};

use super::{
    Exit,
    arguments::{is_on, switch, text, value, wrong},
    client::{target, target_args},
};
use crate::{
    client::bench::{
        Bench, CONNECTIONS_MAX, DURATION_MAX, Load, PUBLICATIONS_MAX, PUBLISHERS_MAX, RATE_MAX, SIZE_MAX,
        SIZE_MIN,
    },
    config::{env::Environment, scope::Scope, units::ByteSize, value::Value},
};

/// Shortest time between two cuts of a client: what is shorter measures only connecting.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Longest absence; what is longer is not a connection that broke.
const AWAY_MAX: Duration = Duration::from_mins(10);

/// Most channels that publications are spread over.
const CHANNELS_MAX: u64 = 1_000_000;

/// What is measured if nothing else is said.
struct Defaults {
    connections: u64,
    rate: Option<f64>,
}

/// Enough to see something, and harmless for a small machine.
fn defaults(load: &str) -> Defaults {
    match load {
        "connect" => Defaults { connections: 1000, rate: Some(500.0) },
        "fanout" => Defaults { connections: 1000, rate: Some(10.0) },
        "resume" => Defaults { connections: 1000, rate: Some(50.0) },
        _ => Defaults { connections: 64, rate: None },
    }
}

/// `channelapi bench …`.
pub(super) fn bench_command() -> Command {
    let connect = load("connect", "Let clients connect and join at a rate, and stay")
        .arg(count("Clients [default: 1000]"))
        .arg(rate("Clients that begin to connect in a second [default: 500]"))
        .arg(duration("How long they stay once all are there [default: 10s]"));
    let fanout = load("fanout", "Publish to clients that are all in one channel")
        .arg(count("Clients [default: 1000]"))
        .arg(rate("Publications a second [default: 10]"))
        .arg(duration("How long to publish [default: 10s]"))
        .args([size(), volatile()]);
    let publish = load("publish", "Publish where nobody listens")
        .arg(count("Publishers, each with one publication on its way [default: 64]"))
        .arg(rate("Publications a second [default: as fast as possible]"))
        .arg(duration("How long to publish [default: 10s]"))
        .args([size(), volatile()])
        .arg(value("channels", "N", "Channels to spread them over [default: 1]"));
    let resume = load("resume", "Cut clients off while publishing, and see whether they miss anything")
        .arg(count("Clients [default: 1000]"))
        .arg(rate("Publications a second [default: 50]"))
        .arg(duration("How long to publish [default: 10s]"))
        .arg(size())
        .arg(value("every", "TIME", "How often each client is cut off [default: 5s]"))
        .arg(value("away", "TIME", "How long it stays away [default: 1s]"));
    Command::new("bench")
        .about("Measure what a running server can take")
        .subcommand_required(true)
        .subcommands([connect, fanout, publish, resume])
        .after_help(EXAMPLES)
}

const EXAMPLES: &str = "\
Examples:
  channelapi bench connect -c 10000 --rate 1000 -d 1m
  channelapi bench fanout -c 1000 --rate 100 -d 30s
  channelapi bench publish -c 256 --channels 10000
  channelapi bench publish --rate 500 --volatile
  channelapi bench resume -c 1000 --rate 50 --every 2s --away 500ms
  channelapi bench fanout --json > fanout.json

Times run from when something was due, so that a server that stands still does not look fast. Exit
codes: 0 everything went well, 1 something failed or is missing, 2 the command was wrong.";

fn load(name: &'static str, about: &'static str) -> Command {
    let clients = value("clients", "URL", "Where clients connect, if elsewhere than at --server");
    let consent = switch("yes-i-own-it", "Load a server on another machine, which is yours");
    let heading = "Server";
    // -c counts connections here.
    let target = target_args().map(|arg| if arg.get_id() == "config" { arg.short(None) } else { arg });
    Command::new(name)
        .about(about)
        .arg(value("channel", "CHANNEL", "Channel to use [default: bench]"))
        .arg(switch("json", "Print the result as one JSON object"))
        .args(target)
        .args([clients.help_heading(heading), consent.help_heading(heading)])
}

fn count(help: &'static str) -> clap::Arg {
    value("connections", "N", help).short('c')
}

fn rate(help: &'static str) -> clap::Arg {
    value("rate", "N", help).short('r')
}

fn duration(help: &'static str) -> clap::Arg {
    value("duration", "TIME", help).short('d')
}

fn size() -> clap::Arg {
    value("size", "SIZE", "Bytes of each publication's data [default: 200]")
}

fn volatile() -> clap::Arg {
    switch("volatile", "Publish what is stored nowhere")
}

/// Understands `bench …`.
pub(super) fn bench(
    name: &str,
    levels: &[&ArgMatches],
    environment: Environment,
    search: &[PathBuf],
) -> Result<Bench, Exit> {
    let defaults = defaults(name);
    let (load, most, scopes) = match name {
        "connect" => (Load::Connect, CONNECTIONS_MAX, &[Scope::Tokens][..]),
        "fanout" => (Load::Fanout, CONNECTIONS_MAX, &[Scope::Tokens, Scope::Publish][..]),
        "resume" => {
            let every = time(levels, "every", Duration::from_secs(5), EVERY_MIN, DURATION_MAX)?;
            let away = time(levels, "away", Duration::from_secs(1), Duration::ZERO, AWAY_MAX)?;
            (Load::Resume { every, away }, CONNECTIONS_MAX, &[Scope::Tokens, Scope::Publish][..])
        }
        _ => {
            let channels = whole(levels, "channels", 1, CHANNELS_MAX)?;
            (Load::Publish { channels }, PUBLISHERS_MAX, &[Scope::Publish][..])
        }
    };
    let connections = whole(levels, "connections", defaults.connections, most)?;
    let duration = time(levels, "duration", Duration::from_secs(10), Duration::from_millis(1), DURATION_MAX)?;
    let rate = match text(levels, "rate")? {
        None => defaults.rate,
        Some(text) => Some(positive(&text)?),
    };
    let clients = u32::try_from(connections).map_or(f64::INFINITY, f64::from);
    if load == Load::Connect && rate.is_some_and(|rate| clients / rate > DURATION_MAX.as_secs_f64()) {
        return Err(wrong(
            "until the last of them connects it takes more than an hour; raise --rate or lower --connections",
        ));
    }
    let looks_at_each = matches!(load, Load::Fanout | Load::Resume { .. });
    if looks_at_each && rate.unwrap_or_default() * duration.as_secs_f64() > PUBLICATIONS_MAX {
        return Err(wrong("these are more than 10,000,000 publications; lower --rate or --duration"));
    }
    let size = match text(levels, "size")? {
        None => 200,
        Some(text) => ByteSize::parse(&text).map_err(|why| wrong(&format!("--size: {why}")))?.bytes(),
    };
    if !(SIZE_MIN..=SIZE_MAX).contains(&size) {
        return Err(wrong(&format!("--size: {size} bytes are too few or too many; write 64 to 256KiB")));
    }
    let target = target(levels, environment, search, scopes)?;
    if !is_on(levels, "yes-i-own-it")
        && let Some(far) = [&target.server, &target.clients].into_iter().find(|url| !url.is_this_machine())
    {
        return Err(wrong(&format!(
            "{far} is another machine, and this would be an attack on a server that is not yours; if it is yours, add --yes-i-own-it"
        )));
    }
    Ok(Bench {
        target,
        load,
        connections,
        rate,
        duration,
        channel: channel(levels)?,
        size,
        is_volatile: is_on(levels, "volatile"),
        json: is_on(levels, "json"),
    })
}

/// Longest name of a channel, less what numbers of channels take.
const CHANNEL_BYTES_MAX: usize = 240;

fn channel(levels: &[&ArgMatches]) -> Result<String, Exit> {
    let channel = text(levels, "channel")?.unwrap_or_else(|| "bench".to_owned());
    match channel.len() {
        1..=CHANNEL_BYTES_MAX => Ok(channel),
        length => {
            Err(wrong(&format!("--channel: the name is {length} bytes; write 1 to {CHANNEL_BYTES_MAX}")))
        }
    }
}

fn whole(levels: &[&ArgMatches], name: &str, default: u64, most: u64) -> Result<u64, Exit> {
    let Some(text) = text(levels, name)? else { return Ok(default) };
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(wrong(&format!("--{name}: `{text}` cannot be; write 1 to {most}"))),
    }
}

fn positive(text: &str) -> Result<f64, Exit> {
    // A thing in a thousand seconds is as good as none.
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err(wrong(&format!("--rate: `{text}` cannot be; write how many a second, 0.001 to {RATE_MAX}"))),
    }
}

fn time(
    levels: &[&ArgMatches],
    name: &str,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, Exit> {
    let Some(text) = text(levels, name)? else { return Ok(default) };
    let time = Duration::parse(&text).map_err(|why| wrong(&format!("--{name}: {why}")))?;
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    let (least, most) = (least.show(), most.show());
    Err(wrong(&format!("--{name}: `{text}` cannot be; write {least} to {most}")))
}
