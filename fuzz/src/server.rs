//! Parsers of the server, taken from its sources as they are: the server has no library, and with all that it is made of the
//! fuzzer would take minutes to build.

#![allow(
    dead_code,
    missing_docs,
    unused_imports,
    reason = "the server uses what the laws do not, and documents it"
)]

use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use tokio::io::AsyncRead;

#[path = "../../crates/channelapi/src/api/message.rs"]
mod message;
#[path = "../../crates/channelapi/src/gateway/pid.rs"]
mod pid;
#[path = "../../crates/channelapi/src/listener/proxy.rs"]
mod proxy;
#[path = "../../crates/channelapi/src/gateway/random.rs"]
mod random;
#[path = "../../crates/channelapi/src/gateway/requests/mod.rs"]
pub(crate) mod requests;

/// The data in the body of a publish request.
pub(crate) fn data_of(body: &Bytes) -> Option<Bytes> {
    message::data_in(body).ok().map(|data| body.slice_ref(data))
}

/// The token in the argument of `join_channel`, and all that it says.
pub(crate) fn join_request(argument: &str) -> Option<(String, String)> {
    let request = requests::JoinRequest::parse(argument)?;
    Some((request.token.clone(), format!("{request:?}")))
}

/// What a text is written as if it is a pid.
pub(crate) fn rewritten_pid(text: &str) -> Option<String> {
    pid::Pid::parse(text).map(|pid| pid.to_string())
}

/// Reads a PROXY header, and leaves what follows it.
pub(crate) async fn proxy_header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    proxy::read(stream).await
}
