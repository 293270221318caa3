//! What must hold for the parsers whatever bytes come in: the laws, shared by the fuzzer and the tests.
//!
//! `cargo xtask fuzz` feeds them with inputs of libFuzzer, `cargo test` with the seeds in `seeds/`. A law
//! panics when it is broken. An input that broke one becomes a seed, so that it stays mended.

#[allow(dead_code, reason = "as in `server`")]
mod api;
// At the root, where its own files look for it.
#[allow(dead_code, missing_docs, unreachable_pub, unused_imports, reason = "as in `server`")]
#[path = "../../crates/channelapi/src/config/mod.rs"]
mod config;
#[allow(dead_code, reason = "as in `server`")]
mod http;
mod identity;
pub mod laws;
mod server;
// At the root, as `config`.
#[path = "../../crates/channelapi/src/small_file.rs"]
mod small_file;
mod trust;
mod upkeep;

#[cfg(test)]
mod cost;
#[cfg(test)]
mod seeds;
