//! Publishing: what lets a publication in, and what is counted and remembered of what came of it.

use super::gate::Entry;
use super::{Hub, NEVER};
use crate::broker::{self, PublicationSink as _, PublishError, PublishRequest, Published};
use crate::counters::COUNTERS;
use crate::model::{ChannelName, Durability, EventName, Publication};
use bytes::Bytes;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

type Room<'a> = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + 'a>>;

/// A publication on its way: when it is done, it is kept as safely as its channel's policy says. Written by hand, so that one that waits
/// for the disk holds nothing that it does not need.
#[must_use]
pub struct Publishing<'a> {
    hub: &'a Hub,
    stage: Stage<'a>,
}

enum Stage<'a> {
    /// Too much waits for the workers. Boxed, because hardly any publication comes to that.
    Waits(Room<'a>, Box<PublishRequest>),
    /// It is the log's.
    Handed {
        publishing: broker::Publishing<'a>,
        _entry: Entry<'a>,
    },
    Refused(PublishError),
}

impl<'a> Stage<'a> {
    fn begin(hub: &'a Hub, request: PublishRequest) -> Self {
        let entry = match hub.gate.enter(cost_of(&request)) {
            Ok(entry) => entry,
            Err(error) => return Self::Refused(error),
        };
        if !hub.gate.admits(&request.channel, 1, &hub.clock) {
            return Self::Refused(PublishError::TooFast);
        }
        Self::Handed { publishing: hub.broker.publish(request), _entry: entry }
    }
}

impl Future for Publishing<'_> {
    type Output = Result<Published, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { hub, stage } = &mut *self;
        loop {
            match stage {
                Stage::Waits(room, request) => {
                    let room = ready!(room.as_mut().poll(cx));
                    *stage = match room {
                        Ok(()) => Stage::begin(hub, (**request).clone()),
                        Err(error) => Stage::Refused(error),
                    };
                }
                Stage::Handed { publishing, .. } => {
                    let published = ready!(Pin::new(publishing).poll(cx));
                    hub.note(&published);
                    return Poll::Ready(published);
                }
                Stage::Refused(error) => return Poll::Ready(Err(error.clone())),
            }
        }
    }
}

impl Hub {
    /// Publishes to everyone in the channel, now and later. It has begun when this returns.
    pub fn publish(&self, request: PublishRequest) -> Publishing<'_> {
        let stage = if self.fanout.has_room() {
            Stage::begin(self, request)
        } else {
            Stage::Waits(self.wait_for_room(), Box::new(request))
        };
        Publishing { hub: self, stage }
    }

    fn wait_for_room(&self) -> Room<'_> {
        Box::pin(self.gate.wait_for_room(&self.fanout))
    }

    /// Publishes several, next to each other. See [`broker::EmbeddedBroker::publish_all`].
    pub async fn publish_all(&self, requests: Vec<PublishRequest>) -> Vec<Result<Published, PublishError>> {
        let bytes = requests.iter().map(cost_of).sum();
        let refused = |error| vec![Err(error); requests.len()];
        if !self.fanout.has_room()
            && let Err(error) = self.wait_for_room().await
        {
            return refused(error);
        }
        let _entry = match self.gate.enter(bytes) {
            Ok(entry) => entry,
            Err(error) => return refused(error),
        };
        if !self.admits_all(&requests) {
            return refused(PublishError::TooFast);
        }
        let published = self.broker.publish_all(requests).await;
        for published in &published {
            self.note(published);
        }
        published
    }

    /// Whether none of the channels gets too many. Some permits may be used up although it is `false`.
    fn admits_all(&self, requests: &[PublishRequest]) -> bool {
        requests
            .chunk_by(|one, next| one.channel == next.channel)
            .all(|same| self.gate.admits(&same[0].channel, same.len(), &self.clock))
    }

    /// Publishes to everyone who is in the channel right now. It is kept nowhere. Unless too much waits already, it is sent when this returns.
    pub fn publish_volatile(
        &self,
        channel: ChannelName,
        event: EventName,
        data: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + Send {
        let sent = if self.fanout.has_room() {
            Ok(self.send(channel, event, data))
        } else {
            Err(Box::new((channel, event, data)))
        };
        async move {
            match sent {
                Ok(sent) => sent,
                Err(late) => {
                    self.wait_for_room().await?;
                    let (channel, event, data) = *late;
                    self.send(channel, event, data)
                }
            }
        }
    }

    fn send(&self, channel: ChannelName, event: EventName, data: Bytes) -> Result<(), PublishError> {
        let _entry = self.gate.enter(data.len())?;
        if !self.gate.admits(&channel, 1, &self.clock) {
            return Err(PublishError::TooFast);
        }
        COUNTERS.publications.count();
        let published_at = self.clock.unix_millis();
        self.fanout.deliver(Publication { channel, event, data, published_at, kept: None });
        Ok(())
    }

    /// Counts a publication, and remembers when the disk last took nothing.
    fn note(&self, published: &Result<Published, PublishError>) {
        match published {
            Ok(published) if published.is_duplicate => COUNTERS.repeats.count(),
            Ok(_) => COUNTERS.publications.count(),
            Err(_) => {}
        }
        let refused_at = match published {
            Err(PublishError::StorageFull | PublishError::NotStored(_)) => self.clock.monotonic_millis(),
            // What is only in memory, or was stored before, tells nothing of the disk as it is now.
            Ok(published) if published.durability != Durability::Memory && !published.is_duplicate => NEVER,
            _ => return,
        };
        if self.refused_at.load(Ordering::Relaxed) != refused_at {
            self.refused_at.store(refused_at, Ordering::Relaxed);
        }
    }
}

/// About what a publication costs while it is being stored.
fn cost_of(request: &PublishRequest) -> usize {
    request.data.len() + request.channel.as_str().len() + 256
}
