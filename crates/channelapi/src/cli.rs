//! The command line: what was asked for, as a value.
//!
//! Nothing here prints or exits, so every line and every mistake can be tested. The flags of the options are made
//! from the table in `config::options`; here are only the verbs.

mod arguments;
mod bench;
mod client;
mod command;
mod jwt;
mod key;
mod settings;
mod store;
mod usage;

use std::{ffi::OsString, net::IpAddr, path::PathBuf, time::Duration};

use clap::ArgMatches;

use self::{
    arguments::values,
    command::command,
    settings::{check, configuration, show},
};
use crate::{
    client::{Publish, Subscribe, bench::Bench},
    config::{Config, env, file, options::spec, pages, tornado, value::Value},
    jwt::Jwt,
    key::Key,
    store::Store,
};

/// What the process is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Run the server.
    Serve(Box<Config>),
    /// Run the server that the official Socket.IO test suites expect.
    Conformance {
        /// Port to listen on.
        port: u16,
        /// Address to listen on.
        address: IpAddr,
        /// How long a pong may take.
        ping_timeout: Duration,
    },
    /// Publish to a running server.
    Publish(Publish),
    /// Print what a running server's channel gets.
    Subscribe(Subscribe),
    /// Measure what a running server can take.
    Bench(Box<Bench>),
    /// Make a JWT, or judge one.
    Jwt(Jwt),
    /// Make a key, or its hash.
    Key(Key),
    /// Look after a data directory.
    Store(Store),
    /// Print this to standard output, and be done.
    Print(String),
}

/// An end without anything to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code of the process.
    pub code: u8,
    /// What to print, line end included.
    pub text: String,
    /// Whether it goes to standard error.
    pub to_stderr: bool,
}

impl Exit {
    /// A command line or configuration that cannot be used.
    fn unusable(text: String) -> Self {
        Self { code: 2, text, to_stderr: true }
    }
}

/// Understands a command line, the program's name first, together with the environment.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Exit> {
    parse_in(args, variables, &file::SEARCH.map(PathBuf::from))
}

fn parse_in(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    search: &[PathBuf],
) -> Result<Invocation, Exit> {
    let args = tornado::modernize(args);
    let matches = match command().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return usage::explain(&error, &args),
    };
    // A flag may stand before or after the verb, so the levels are searched from the innermost.
    let mut verb = Vec::new();
    let mut levels = vec![&matches];
    while let Some((name, below)) = levels[0].subcommand() {
        verb.push(name);
        levels.insert(0, below);
    }
    let environment = || env::load(variables);
    let effective = |environment| configuration(&levels, environment, search);
    Ok(match verb[..] {
        ["check"] => Invocation::Print(check(&effective(environment())?)?),
        ["config", "default"] => Invocation::Print(pages::example()),
        ["config", "doc"] => Invocation::Print(pages::reference()),
        ["config", "show"] => Invocation::Print(show(&effective(environment())?)),
        ["version"] => Invocation::Print(version()),
        ["publish"] => Invocation::Publish(client::publish(&levels, environment(), search)?),
        ["subscribe"] => Invocation::Subscribe(client::subscribe(&levels, environment(), search)?),
        ["bench", load] => Invocation::Bench(Box::new(bench::bench(load, &levels, environment(), search)?)),
        ["jwt", verb] => Invocation::Jwt(jwt::jwt(verb, &levels, environment(), search)?),
        ["key", verb] => Invocation::Key(key::key(verb, &levels)?),
        ["store", verb] => Invocation::Store(store::store(verb, &levels, environment(), search)?),
        ["conformance"] => conformance(&levels)?,
        _ => Invocation::Serve(Box::new(effective(environment())?)),
    })
}

/// What `version` and `--version` print.
fn version() -> String {
    concat!("channelapi ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
}

fn conformance(levels: &[&ArgMatches]) -> Result<Invocation, Exit> {
    // The upstream suites connect to port 3000 of this machine unless they are told otherwise.
    let port = single(levels, "port", "3000")?;
    let address = single(levels, "address", "127.0.0.1")?;
    // They want exactly this.
    let ping_timeout = single(levels, "socketio.ping_timeout", "200ms")?;
    Ok(Invocation::Conformance { port, address, ping_timeout })
}

fn single<T: Value>(levels: &[&ArgMatches], key: &str, default: &str) -> Result<T, Exit> {
    let spec = spec(key);
    let text = values(levels, spec.key)
        .first()
        .map_or_else(|| default.to_owned(), |text| text.to_string_lossy().into_owned());
    spec.parse(&text).map_err(|reason| Exit::unusable(format!("error: --{}: {reason}\n", spec.flag())))
}

#[cfg(test)]
mod tests;
