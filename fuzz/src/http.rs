//! How the server reads heads of requests, as in [`crate::server`].

#[path = "../../crates/channelapi/src/http/head.rs"]
mod head;
#[path = "../../crates/channelapi/src/http/headers.rs"]
mod headers;
#[path = "../../crates/channelapi/src/http/heads.rs"]
mod heads;

pub(crate) use head::{Head, Parsed, headers_room};
pub(crate) use headers::Headers;
pub(crate) use heads::{Heads, may_leave};
