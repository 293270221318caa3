//! The verbs that talk to a running server: what is typed, and what is asked for with it.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use clap::{Arg, ArgMatches, Command, builder::OsStringValueParser};

use super::{
    Exit,
    arguments::{config_arg, is_given, is_on, option_arg, output, output_arg, switch, text, value, wrong},
    settings::{EXPOSED, configuration},
};
use crate::{
    client::{Form, Publish, ServerUrl, Since, Source, Subscribe, Target},
    config::{
        auth_keys::{AuthKey, Held},
        env::{Environment, URL_VARIABLE},
        keys,
        options::spec,
        scope::Scope,
        secret::Secret,
        value::Value,
    },
};

/// Longest name of a channel, event and idempotency key, as the server has it: said here, before anything is sent.
const KEY_BYTES_MAX: usize = 255;

/// `channelapi publish`.
pub(super) fn publish_command() -> Command {
    let data = Arg::new("data")
        .value_name("DATA")
        .value_parser(OsStringValueParser::new())
        .allow_negative_numbers(true)
        .help("What to publish, or - for standard input. Published as JSON if it is JSON, else as a string");
    let volatile = switch("volatile", "Reach only clients that are connected now, and store nothing");
    let lines = switch("stdin-lines", "Publish each line of standard input; blank lines are skipped");
    let json = switch("json", "Refuse data that is not JSON").conflicts_with("text");
    let text = switch("text", "Publish the data as a string, whatever it looks like");
    let key =
        value("idempotency-key", "KEY", "Publish only once, however often it is repeated [default: random]");
    Command::new("publish")
        .about("Publish to a channel of a running server")
        .override_usage("channelapi publish [OPTIONS] CHANNEL DATA\n       channelapi publish [OPTIONS] CHANNEL -\n       channelapi publish [OPTIONS] CHANNEL --stdin-lines")
        .args([channel_arg("publish to"), data])
        .arg(value("event", "EVENT", "Name of the event that clients get [default: message]"))
        .args([key, value("ttl", "TIME", "Forget it after this time, such as 30s, 1h or 7d"), volatile, lines, json, text])
        .arg(output_arg())
        .args(target_args())
        .after_help(PUBLISH_EXAMPLES)
}

const PUBLISH_EXAMPLES: &str = "\
Examples:
  channelapi publish demo hello                 A string
  channelapi publish demo '{\"order\": 7}'        JSON, passed on to the byte
  channelapi publish demo --text 42             A string, not a number
  channelapi publish demo - < news.json         A file
  channelapi publish demo --event order 7       An event of its own
  channelapi publish demo --ttl 1h 7            Forgotten after an hour
  channelapi publish demo --idempotency-key order-7 7
                                                Once, even if this line runs twice
  tail -F app.log | channelapi publish logs --stdin-lines
                                                Each line as it comes

When the connection breaks or the server is not ready, it is tried again for half a minute, and
published once even so. Exit codes: 0 published, 1 not published, 2 the command was wrong.";

/// `channelapi subscribe`.
pub(super) fn subscribe_command() -> Command {
    let since = "Begin after this offset, id or cursor, with all that is kept, or with what is unread [default: what comes next]";
    Command::new("subscribe")
        .visible_alias("tail")
        .about("Print what is published to a channel of a running server")
        .override_usage("channelapi subscribe [OPTIONS] CHANNEL")
        .arg(channel_arg("listen to"))
        .arg(value("since", "PLACE", since))
        .arg(value("consumer", "NAME", "Whose unread ones, with --since unread [default: default]"))
        .arg(value("count", "N", "End after this many"))
        .arg(switch(
            "json",
            "Print id, offset, event, time and cursor with the data, one JSON object per line",
        ))
        .arg(value("event", "EVENT", "Print only events of this name"))
        .args(target_args())
        .after_help(SUBSCRIBE_EXAMPLES)
}

const SUBSCRIBE_EXAMPLES: &str = "\
Examples:
  channelapi subscribe demo                     What comes next, until Ctrl-C
  channelapi subscribe demo --since all         What is kept, then what comes
  channelapi subscribe demo --since unread --consumer billing
                                                What billing has not confirmed, then what comes
  channelapi subscribe demo --since 42 --count 1
                                                The one after #42
  channelapi subscribe demo --json | jq .offset
                                                With all that is known about each
  channelapi tail orders --event paid           Only these events

Data is printed as JSON, one line each. A connection that breaks is opened again and goes on where
it was; if something is missing then, standard error says so.";

fn channel_arg(purpose: &str) -> Arg {
    let arg =
        Arg::new("channel").value_name("CHANNEL").required(true).value_parser(OsStringValueParser::new());
    arg.help(format!("Channel to {purpose}"))
}

pub(super) fn target_args() -> [Arg; 5] {
    let heading = "Server";
    let server = value("server", "URL", "Where the server is [default: http://127.0.0.1:8888]");
    let ca =
        value("ca", "FILE", "Certificates to trust behind https://, as PEM [default: those of the system]");
    // The same option as the server's own, so that whatever gives the server its key gives it to us.
    let key = option_arg(spec("auth_key")).long("key").alias("auth-key").help(
        "Key to be let in with [default: CHANNELAPI_AUTH_KEY, or the server's own in the data directory]",
    );
    let data_dir = option_arg(spec("data_dir")).help("Data directory of the server [default: ./data]");
    let config = config_arg().help("Configuration file of the server [default: as for the server]");
    [server, key, ca, data_dir, config].map(|arg| arg.help_heading(heading))
}

/// Understands `publish`.
pub(super) fn publish(
    levels: &[&ArgMatches],
    environment: Environment,
    search: &[PathBuf],
) -> Result<Publish, Exit> {
    let form = match (is_on(levels, "json"), is_on(levels, "text")) {
        (true, _) => Form::Json,
        (_, true) => Form::Text,
        _ => Form::Guessed,
    };
    let data = text(levels, "data")?;
    let source = match (data.as_deref(), is_on(levels, "stdin-lines")) {
        (None | Some("-"), true) => Source::Lines,
        (Some(_), true) => return Err(wrong("give the data either as DATA or with --stdin-lines")),
        (Some("-"), false) => Source::Stdin,
        (Some(data), false) => Source::Data(form.read(data).map_err(|why| wrong(&why))?),
        (None, false) => {
            return Err(wrong(
                "what is to be published? write it behind the channel, or - to read standard input",
            ));
        }
    };
    let is_volatile = is_on(levels, "volatile");
    let idempotency_key = text(levels, "idempotency-key")?;
    if let Some(key) = &idempotency_key {
        // With --stdin-lines the number of the line is put behind it.
        let room = if matches!(source, Source::Lines) { KEY_BYTES_MAX - 21 } else { KEY_BYTES_MAX };
        if is_volatile {
            return Err(wrong(
                "--idempotency-key needs something stored to compare with; leave out --volatile",
            ));
        }
        if key.is_empty() || key.len() > room || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(&format!(
                "--idempotency-key: write 1 to {room} letters, digits and punctuation marks, without spaces"
            )));
        }
    }
    let ttl = text(levels, "ttl")?.map(|text| seconds(&text)).transpose().map_err(|why| wrong(&why))?;
    if ttl.is_some() && is_volatile {
        return Err(wrong("what is --volatile is not kept at all; leave out --ttl"));
    }
    Ok(Publish {
        channel: channel(levels)?,
        source,
        form,
        event: text(levels, "event")?,
        idempotency_key,
        ttl,
        is_volatile,
        output: output(levels)?,
        target: target(levels, environment, search, &[Scope::Publish])?,
    })
}

/// Understands `subscribe`.
pub(super) fn subscribe(
    levels: &[&ArgMatches],
    environment: Environment,
    search: &[PathBuf],
) -> Result<Subscribe, Exit> {
    let since = text(levels, "since")?.map(|text| Since::parse(&text)).transpose();
    let since = since.map_err(|why| wrong(&format!("--since: {why}")))?;
    let consumer = text(levels, "consumer")?;
    if consumer.is_some() && !since.as_ref().is_some_and(Since::is_unread) {
        return Err(wrong("--consumer says whose publications are unread; it goes with --since unread"));
    }
    let count = text(levels, "count")?.map(|text| match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(wrong(&format!("--count: `{text}` is no number of publications; write 1 or more"))),
    });
    Ok(Subscribe {
        channel: channel(levels)?,
        since,
        consumer,
        count: count.transpose()?,
        json: is_on(levels, "json"),
        event: text(levels, "event")?,
        target: target(levels, environment, search, &[Scope::Read])?,
    })
}

/// Whether a server could listen there.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// Where the server is and the key for it. What is not given is what the server itself would run with here: its port,
/// its key. But a key that lies around here is not sent to another machine unless somebody says so.
pub(super) fn target(
    levels: &[&ArgMatches],
    environment: Environment,
    search: &[PathBuf],
    scopes: &[Scope],
) -> Result<Target, Exit> {
    let (server, named_by) = match (text(levels, "server")?, environment.url.clone()) {
        (Some(server), _) => (Some(server), "--server"),
        (None, Some(url)) => {
            let url = url.into_string();
            (
                Some(url.map_err(|_| wrong(&format!("{URL_VARIABLE}: the value is not UTF-8 text")))?),
                URL_VARIABLE,
            )
        }
        (None, None) => (None, ""),
    };
    let server = server.map(|text| ServerUrl::parse(&text)).transpose();
    let server = server.map_err(|why| wrong(&format!("{named_by}: {why}")))?;

    let is_here = server.as_ref().is_none_or(ServerUrl::is_this_machine);
    let may_look = is_here || is_given(levels, "data_dir") || is_given(levels, "config");
    let config = configuration(levels, environment, if may_look { search } else { &[] })?;
    if let Some(why) = &config.distrusted {
        return Err(wrong(why));
    }
    // A command of a moment is not a server that runs for months.
    let warnings = config.warnings.into_iter().filter(|warning| !warning.contains(EXPOSED)).collect();
    // Publishers are served where they have a listener of their own.
    let speaks_tls = config.tls.cert.is_some() || config.acme.domains.is_some();
    let (address, port, is_secure) = config
        .internal
        .port
        .map_or((config.address, config.port, speaks_tls), |port| (config.internal.address, port, false));
    let socket = config.internal.unix.as_ref().or(config
        .http
        .unix
        .as_ref()
        .filter(|_| config.internal.port.is_none()));
    if let (None, Some(socket)) = (&server, socket) {
        let socket = socket.0.display();
        return Err(wrong(&format!(
            "the API is on the socket {socket}, which this command cannot reach; give it a port with internal.port, \
             or use curl --unix-socket {socket}"
        )));
    }
    let here = Some(Ipv4Addr::LOCALHOST.into());
    let expects_header = config.http.proxy_protocol
        && config.internal.port.is_none()
        && config.http.trusted_proxies.as_ref().is_some_and(|trusted| trusted.names(here));
    if server.is_none() && expects_header {
        return Err(wrong(
            "the server takes this machine for a proxy (http.trusted_proxies) and expects a PROXY header from it \
             (http.proxy_protocol), which this command does not send; give the API a port of its own with \
             internal.port, or name the proxy with --server",
        ));
    }
    if server.is_none() && !is_of_this_machine(address) {
        return Err(wrong(&format!(
            "the settings here say that the server is at {address}, which is no address of this machine, and a key goes to another only if that is \
             named with --server"
        )));
    }
    let own = ServerUrl::of_settings(address, port, is_secure);
    // Only those verbs have it that are clients themselves.
    let named = text(levels, "clients")?.map(|text| ServerUrl::parse(&text)).transpose();
    let clients = named
        .map_err(|why| wrong(&format!("--clients: {why}")))?
        .or_else(|| server.clone())
        .or_else(|| ServerUrl::of_settings(config.address, config.port, speaks_tls));
    let Some(server) = server.or(own) else {
        return Err(wrong("where is the server? its port is 0, so say it with --server"));
    };
    let clients = clients.unwrap_or_else(|| server.clone());
    let ca_file = text(levels, "ca")?.map(PathBuf::from);
    if ca_file.is_some() && !server.is_secure() && !clients.is_secure() {
        return Err(wrong(&format!(
            "--ca says whom to trust behind https://, and {server} speaks plain HTTP; leave it out, or write https://"
        )));
    }

    let origin = config.settings.iter().find(|setting| setting.key == "auth_key");
    let origin = origin.map(|setting| setting.source.to_string()).unwrap_or_default();
    let path = keys::key_file(&config.data_dir);
    let (key, about_key) = match config.auth_key {
        Some(key) => (Some(key), format!("the key is from {origin}")),
        None if !may_look => (
            None,
            "there was no key: the one of this machine is not sent to another; set --key, CHANNELAPI_AUTH_KEY or \
             CHANNELAPI_AUTH_KEY_FILE"
                .to_owned(),
        ),
        None if !config.auth_keys.is_empty() => from_list(&config.auth_keys, scopes),
        None => match keys::stored_key(&config.data_dir) {
            Ok(Some(key)) => (Some(key), format!("the key is from {}", path.display())),
            stored => {
                let why = match stored {
                    Err(error) => format!(" ({error})"),
                    Ok(_) => format!(" ({} does not exist)", path.display()),
                };
                let places = "--key, CHANNELAPI_AUTH_KEY, CHANNELAPI_AUTH_KEY_FILE, the configuration file";
                (None, format!("no key was found; looked for in {places} and the data directory{why}"))
            }
        },
    };
    Ok(Target { server, clients, key, about_key, ca_file, warnings })
}

/// The first key of the list that may do all of it and is here; of the others there are hashes only. And what is to be said of it.
fn from_list(list: &[AuthKey], scopes: &[Scope]) -> (Option<Secret>, String) {
    for key in list.iter().filter(|key| scopes.iter().all(|scope| key.scopes.allow(*scope))) {
        if let Held::File(path) = &key.held
            && let Some(secret) = keys::listed_key(path)
        {
            return (Some(secret), format!("the key is `{}`, from {}", key.name.as_str(), path.display()));
        }
    }
    let names: Vec<String> = scopes.iter().map(|scope| format!("`{scope}`")).collect();
    let what = if let [one] = &names[..] {
        format!("scope {one}")
    } else {
        format!("scopes {}", names.join(" and "))
    };
    let text = format!(
        "no key was found: of the [[auth_keys]] none with the {what} is in a file that can be read here; set --key, \
         CHANNELAPI_AUTH_KEY or CHANNELAPI_AUTH_KEY_FILE"
    );
    (None, text)
}

fn channel(levels: &[&ArgMatches]) -> Result<String, Exit> {
    let channel = text(levels, "channel")?.unwrap_or_default();
    match channel.len() {
        0 => Err(wrong("the channel's name is empty; write one, such as demo")),
        1..=KEY_BYTES_MAX => Ok(channel),
        length => Err(wrong(&format!("the channel's name is {length} bytes, the limit is {KEY_BYTES_MAX}"))),
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    let time = Duration::parse(text).map_err(|why| format!("--ttl: {why}"))?;
    match (time.as_secs(), time.subsec_nanos()) {
        (seconds @ 1.., 0) => Ok(seconds),
        _ => Err(format!("--ttl: `{text}` is not a whole number of seconds; write 1s or more")),
    }
}
