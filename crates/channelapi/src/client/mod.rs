//! The verbs that talk to a running server, over the same HTTP API that backends use; `bench` also as its clients do.
//!
//! Invariants: standard output carries what was asked for and nothing else, so that it can be piped; everything said
//! besides goes to standard error. A verb ends with a text that says what to do, never with a bare status.

pub mod bench;
mod call;
mod data;
mod event_stream;
mod lines;
mod patience;
mod problem;
mod publish;
mod secure;
mod subscribe;
mod target;

pub use self::{
    data::Form,
    publish::{Publish, Source},
    subscribe::{Since, Subscribe},
    target::{ServerUrl, Target},
};

/// Why a verb could not do what it was asked; the text is ready to print after "error: ".
#[derive(Debug, PartialEq, Eq)]
pub struct Failed(pub String);

/// Publishes, and says what became of it.
pub fn publish(request: Publish) -> Result<(), Failed> {
    warn(&request.target);
    let json = match &request.source {
        Source::Lines => return run(lines::run(request)),
        Source::Stdin => publish::read_all(request.form)?,
        Source::Data(json) => json.clone(),
    };
    run(publish::run(request, &json))
}

/// Prints what is published until it is told to stop.
pub fn subscribe(request: Subscribe) -> Result<(), Failed> {
    warn(&request.target);
    run(subscribe::run(request))
}

/// Loads a server, and prints what it could take.
pub fn bench(request: bench::Bench) -> Result<(), Failed> {
    warn(&request.target);
    run(bench::run(request))
}

fn warn(target: &Target) {
    for warning in &target.warnings {
        crate::output::tell(&format!("warning: {warning}"));
    }
}

/// One thread is plenty for one connection.
fn run(verb: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(verb);
    // Neither a name that is still being looked up nor a reader who does not read may hold up the end.
    runtime.shutdown_background();
    ended
}
