//! Whoever joins a crowd: a client over WebSocket, or one over HTTP long-polling.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::Result;

use crate::client::{Client, Door};
use crate::poller::Poller;

/// A client that has joined.
pub(crate) enum Visitor {
    WebSocket(Client),
    Polling(Poller),
}

impl Visitor {
    /// Connects and joins; returns when the server has confirmed it.
    pub(crate) async fn join(address: SocketAddr, door: &Door) -> Result<Self> {
        match door {
            Door::Polling(token) => Poller::join(address, token).await.map(Self::Polling),
            _ => Client::join(address, door).await.map(Self::WebSocket),
        }
    }

    /// As the server announced it.
    pub(crate) fn ping_interval(&self) -> Duration {
        match self {
            Self::WebSocket(client) => client.ping_interval,
            Self::Polling(poller) => poller.ping_interval,
        }
    }

    /// From now on, adds each ping that it answers to `pings`.
    pub(crate) fn count_pings(&mut self, pings: Arc<AtomicUsize>) {
        match self {
            Self::WebSocket(client) => client.pings = pings,
            Self::Polling(poller) => poller.pings = pings,
        }
    }

    /// Hands every packet to `each` and answers pings, until the server closes the connection.
    pub(crate) async fn receive(self, each: impl FnMut(&str)) -> Result<()> {
        match self {
            Self::WebSocket(client) => client.receive(each).await,
            Self::Polling(poller) => poller.receive(each).await,
        }
    }
}
