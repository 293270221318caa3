//! Channels, publications and tokens, and how a publication reaches the connections of this node.
//!
//! Nothing here knows HTTP or Socket.IO: a frame is opaque bytes made by a [`delivery::FrameEncoder`], a connection is a
//! [`delivery::Subscriber`]. Imports run one way:
//!
//! ```text
//! model, limits, clock, counters  <-  broker, state  <-  delivery  <-  hub
//! ```

pub mod broker;
pub mod clock;
pub mod counters;
pub mod delivery;
mod failpoint;
mod fence;
mod folder;
pub mod hub;
pub mod limits;
pub mod model;
pub mod state;
