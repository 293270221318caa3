//! Parsers of the server, taken from its sources as they are: the server has no library, and with all that it is made of the
//! fuzzer would take minutes to build.

#![allow(dead_code, missing_docs, reason = "the server uses what the laws do not, and documents it")]

use bytes::Bytes;

#[path = "../../crates/channelapi/src/api/message.rs"]
mod message;
#[path = "../../crates/channelapi/src/gateway/pid.rs"]
mod pid;

/// The data in the body of a publish request.
pub(crate) fn data_of(body: &Bytes) -> Option<Bytes> {
    message::data_of(body).ok()
}

/// What a text is written as if it is a pid.
pub(crate) fn rewritten_pid(text: &str) -> Option<String> {
    pid::Pid::parse(text).map(|pid| pid.to_string())
}
