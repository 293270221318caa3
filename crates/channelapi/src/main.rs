//! `channelapi`: push notifications to browsers and apps over Socket.IO, from any backend that speaks HTTP.

mod admission;
mod api;
mod aside;
mod auth;
mod banner;
pub mod cli;
pub mod client;
pub mod config;
mod cores;
mod custody;
mod drain;
mod forms;
mod gateway;
mod health;
mod http;
mod identity;
pub mod jwt;
pub mod key;
mod listener;
mod live;
mod logging;
mod metrics;
mod origin;
pub mod output;
mod page;
mod receiving;
mod redirect;
mod reload;
mod secrecy;
mod server;
mod small_file;
mod spread;
pub mod store;
mod stream;
mod tls;
mod trust;
mod upkeep;
mod waiting;
mod watch;

use cli::Invocation;
use client::Failed;
use config::Config;
use cores::Cores;
use server::Failure;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;

/// Gives memory back to the system soon, and spends little on small things; its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let _flushed = logging::Flushed;
    let ended = match cli::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(Invocation::Print(text)) => {
            return finish(output::try_write(&text).map_err(|error| Failed(error.to_string())));
        }
        Ok(Invocation::Serve(config)) => {
            let verbosity = logging::start(config.log.level, config.log.format);
            metrics::count_panics(logging::tell_panic);
            // Whoever develops wants to attach a debugger, and to see a core.
            if !config.debug {
                secrecy::keep();
            }
            let file = config.file.clone();
            let reread = Box::new(move || reread(file.as_deref()));
            run(|cores| server::run(*config, verbosity, reread, cores))
        }
        // These hold a key, too, and may go on for hours.
        Ok(Invocation::Publish(request)) => {
            secrecy::keep();
            return finish(client::publish(request));
        }
        Ok(Invocation::Subscribe(request)) => {
            secrecy::keep();
            return finish(client::subscribe(request));
        }
        Ok(Invocation::Bench(request)) => {
            secrecy::keep();
            return finish(client::bench(*request));
        }
        Ok(Invocation::Jwt(request)) => {
            return finish(jwt::run(request).map_err(|error| Failed(error.to_string())));
        }
        Ok(Invocation::Key(request)) => {
            return finish(key::run(&request).map_err(|error| Failed(error.to_string())));
        }
        Ok(Invocation::Store(request)) => {
            return finish(store::run(&request).map_err(|error| Failed(error.to_string())));
        }
        Ok(Invocation::Conformance { address, port, ping_timeout }) => {
            run(|cores| server::run_conformance(SocketAddr::new(address, port), ping_timeout, cores))
        }
        Err(exit) if exit.to_stderr => {
            output::tell(exit.text.trim_end_matches('\n'));
            return ExitCode::from(exit.code);
        }
        Err(exit) => {
            return match output::try_write(&exit.text) {
                Ok(()) => ExitCode::from(exit.code),
                Err(error) => finish(Err(Failed(error.to_string()))),
            };
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { error, code }) => {
            logging::tell(&format!("error: {error:#}"));
            ExitCode::from(code)
        }
    }
}

/// The configuration as it is now: arguments and variables of the start, files read anew. The file that was found at the start
/// counts as named: without it nothing changes, and no other takes its place.
fn reread(file: Option<&Path>) -> Result<Config, String> {
    let mut args = std::env::args_os();
    let program = args.next();
    // In front of all others, so that they mean what they meant.
    let named = file.into_iter().flat_map(|file| [std::ffi::OsString::from("--config"), file.into()]);
    match cli::parse(program.into_iter().chain(named).chain(args), std::env::vars_os()) {
        Ok(Invocation::Serve(config)) => Ok(*config),
        Ok(_) => Err("error: the command line does not start a server any more".to_owned()),
        Err(exit) => Err(exit.text),
    }
}

/// The end of a verb that ran nothing of its own.
fn finish(outcome: Result<(), Failed>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(text)) => {
            output::tell(&format!("error: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run<S>(server: impl FnOnce(Arc<Cores>) -> S) -> Result<(), Failure>
where
    S: Future<Output = Result<(), Failure>>,
{
    // Each connection is a file descriptor; the usual soft limit of 1,024 is a relic.
    if let Ok((_, hard)) = rlimit::Resource::NOFILE.get() {
        _ = rlimit::Resource::NOFILE.set(hard, hard);
    }
    cores::run(available_parallelism().map_or(1, usize::from), server)?
}
