//! What clients ask for, in the words of the events and of `auth`: read and checked here, and done elsewhere.

mod ack;
mod auth;
mod fields;
mod fresh;
mod join;

pub(crate) use ack::Ack;
pub(crate) use auth::{Auth, AuthError};
pub(crate) use fresh::Fresh;
pub(crate) use join::{JoinRequest, Place, Replay};
