//! Publishing: what lets a publication in, until the log has it.

use super::Hub;
use crate::broker::{self, Permit, PublicationSink as _, PublishError, PublishRequest, Published};
use crate::counters::COUNTERS;
use crate::model::{ChannelName, EventName, Publication};
use bytes::Bytes;
use std::collections::HashMap;
use std::pin::Pin;
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
    Waits(Room<'a>, Option<Box<(PublishRequest, Permit)>>),
    /// It is the log's.
    Handed(broker::Publishing<'a>),
    Refused(PublishError),
}

impl<'a> Stage<'a> {
    fn begin(hub: &'a Hub, request: PublishRequest, permit: Permit) -> Self {
        match hub.gate.admit(&request.channel, 1, &hub.clock) {
            Ok(()) => Self::Handed(hub.broker.publish_within(permit, request)),
            Err(error) => Self::Refused(error),
        }
    }
}

impl Future for Publishing<'_> {
    type Output = Result<Published, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { hub, stage } = &mut *self;
        loop {
            match stage {
                Stage::Waits(room, late) => {
                    let room = ready!(room.as_mut().poll(cx));
                    *stage = match (room, late.take()) {
                        (Ok(()), Some(late)) => {
                            let (request, permit) = *late;
                            Stage::begin(hub, request, permit)
                        }
                        (room, _) => Stage::Refused(room.err().unwrap_or(PublishError::Stopped)),
                    };
                }
                Stage::Handed(publishing) => return Pin::new(publishing).poll(cx),
                Stage::Refused(error) => return Poll::Ready(Err(error.clone())),
            }
        }
    }
}

impl Hub {
    /// Publishes to everyone in the channel, now and later. It has begun when this returns.
    pub fn publish(&self, request: PublishRequest) -> Publishing<'_> {
        let stage = match self.gate.enter(cost_of(&request)) {
            Err(error) => Stage::Refused(error),
            Ok(permit) if self.fanout.has_room() => Stage::begin(self, request, permit),
            Ok(permit) => Stage::Waits(self.wait_for_room(), Some(Box::new((request, permit)))),
        };
        Publishing { hub: self, stage }
    }

    fn wait_for_room(&self) -> Room<'_> {
        Box::pin(self.gate.wait_for_room(&self.fanout))
    }

    /// Publishes several, next to each other. See [`broker::EmbeddedBroker::publish_all`]. Those of a channel that would get too many are
    /// all refused, and the others are published.
    pub async fn publish_all(&self, requests: Vec<PublishRequest>) -> Vec<Result<Published, PublishError>> {
        let refused = |error| vec![Err(error); requests.len()];
        let permit = match self.gate.enter(requests.iter().map(cost_of).sum()) {
            Ok(permit) => permit,
            Err(error) => return refused(error),
        };
        if !self.fanout.has_room()
            && let Err(error) = self.wait_for_room().await
        {
            return refused(error);
        }
        let too_many = self.too_many(&requests);
        if too_many.is_empty() {
            return self.broker.publish_all_within(permit, requests).await;
        }
        let verdicts: Vec<_> =
            requests.iter().map(|request| too_many.get(&request.channel).cloned()).collect();
        let admitted = requests.into_iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
        let admitted: Vec<_> = admitted.map(|(request, _)| request).collect();
        if admitted.is_empty() {
            return verdicts.into_iter().flatten().map(Err).collect();
        }
        let mut published = self.broker.publish_all_within(permit, admitted).await.into_iter();
        let outcome = |verdict: Option<PublishError>| match verdict {
            Some(error) => Err(error),
            None => published.next().expect("each that was admitted has an outcome"),
        };
        verdicts.into_iter().map(outcome).collect()
    }

    /// The channels that would get too many of these, and why. The others are let in.
    fn too_many(&self, requests: &[PublishRequest]) -> HashMap<ChannelName, PublishError> {
        let mut counts: HashMap<&ChannelName, usize> = HashMap::new();
        for request in requests {
            *counts.entry(&request.channel).or_default() += 1;
        }
        let refusal = |(channel, count): (&ChannelName, usize)| {
            self.gate.admit(channel, count, &self.clock).err().map(|error| (channel.clone(), error))
        };
        counts.into_iter().filter_map(refusal).collect()
    }

    /// Publishes to everyone who is in the channel right now. It is kept nowhere. Unless too much waits already, it is sent when this returns.
    pub fn publish_volatile(
        &self,
        channel: ChannelName,
        event: EventName,
        data: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + Send {
        let sent = match self.gate.enter(data.len()) {
            Err(error) => Ok(Err(error)),
            Ok(_) if self.fanout.has_room() => Ok(self.send(channel, event, data)),
            Ok(permit) => Err(Box::new((channel, event, data, permit))),
        };
        async move {
            match sent {
                Ok(sent) => sent,
                Err(late) => {
                    self.wait_for_room().await?;
                    let (channel, event, data, _permit) = *late;
                    self.send(channel, event, data)
                }
            }
        }
    }

    /// Publishes several like that, in their order. What follows in a channel does not overtake what was refused there, and if one of them
    /// has waited for room in vain, so have all behind it.
    pub async fn publish_all_volatile(
        &self,
        publications: Vec<(ChannelName, EventName, Bytes)>,
    ) -> Vec<Result<(), PublishError>> {
        let mut outcomes = Vec::with_capacity(publications.len());
        let mut refused: HashMap<ChannelName, PublishError> = HashMap::new();
        for (channel, event, data) in publications {
            if outcomes.last() == Some(&Err(PublishError::Congested)) {
                outcomes.push(Err(PublishError::Congested));
                continue;
            }
            let sent = match refused.get(&channel) {
                Some(error) => Err(error.clone()),
                None => self.publish_volatile(channel.clone(), event, data).await,
            };
            if let Err(error) = &sent {
                refused.entry(channel).or_insert_with(|| error.clone());
            }
            outcomes.push(sent);
        }
        outcomes
    }

    fn send(&self, channel: ChannelName, event: EventName, data: Bytes) -> Result<(), PublishError> {
        self.gate.admit(&channel, 1, &self.clock)?;
        COUNTERS.publications.count();
        let published_at = self.clock.written_millis();
        self.fanout.deliver(Publication { channel, event, data, published_at, kept: None });
        Ok(())
    }
}

/// About what a publication costs while it is being stored.
fn cost_of(request: &PublishRequest) -> usize {
    request.data.len() + request.channel.as_str().len() + 256
}
