//! Where a reader of history stands, in one of the ways there are to say it.

use super::problem::Problem;
use super::query::{Query, refused};
use channelapi_core::broker::{Gap, Since, Start};
use channelapi_core::hub::Hub;
use channelapi_core::model::{ChannelName, ConsumerName};

/// What a reader says.
pub(super) enum Place {
    /// A place in the channel.
    Known(Since),
    /// Nothing that this server has given out.
    Nowhere,
    /// Where what a consumer has not confirmed begins.
    Unread(ConsumerName),
}

impl Place {
    /// Takes it out of a query, if it is there.
    pub(super) fn take(query: &mut Query) -> Result<Option<Self>, Problem> {
        let consumer = query.take("consumer").map(|name| ConsumerName::parse(&name));
        match (query.take("since"), consumer.transpose()?) {
            (Some(since), consumer) if since == "unread" => {
                Ok(Some(Self::Unread(consumer.unwrap_or_default())))
            }
            (_, Some(_)) => {
                Err(refused("`consumer` says whose messages are unread: it goes with `since=unread`."))
            }
            (since, None) => Ok(since.map(|since| Self::parse(&since))),
        }
    }

    /// A cursor, an id, an offset, or `all`.
    pub(super) fn parse(text: &str) -> Self {
        text.parse().map_or(Self::Nowhere, Self::Known)
    }

    /// Looks up how far a consumer has come, which may change: after that it is a place like any other.
    pub(super) async fn settle(self, hub: &Hub, channel: &ChannelName) -> Result<Self, Problem> {
        match self {
            Self::Unread(consumer) => {
                let since = hub.consumers.unread_since(channel, &consumer).await;
                since.map(Self::Known).map_err(|error| Problem::unavailable(&error))
            }
            place => Ok(place),
        }
    }

    /// The place, if it is one that the broker knows how to look up.
    pub(super) fn known(&self) -> Option<Since> {
        match self {
            Self::Known(since) => Some(*since),
            Self::Nowhere | Self::Unread(_) => None,
        }
    }

    /// What follows it. Whoever says nothing that we know gets everything, and is told.
    pub(super) fn locate(&self, hub: &Hub, channel: &ChannelName) -> Start {
        match self {
            Self::Known(since) => hub.broker.locate(channel, *since),
            Self::Nowhere | Self::Unread(_) => {
                Start { gap: Some(Gap::NoCursor), ..hub.broker.locate(channel, Since::All) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::Code;
    use super::*;

    fn take(query: &str) -> Result<Option<Place>, String> {
        Place::take(&mut Query::parse(query).unwrap()).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_consumer_is_named_for_what_it_has_not_read_and_for_nothing_else() {
        assert!(matches!(take(""), Ok(None)));
        assert!(matches!(take("since=7"), Ok(Some(Place::Known(Since::Offset(7))))));
        assert!(matches!(take("since=yesterday"), Ok(Some(Place::Nowhere))));
        assert!(
            matches!(take("since=unread"), Ok(Some(Place::Unread(name))) if name == ConsumerName::default())
        );
        assert!(
            matches!(take("since=unread&consumer=ann"), Ok(Some(Place::Unread(name))) if name.as_str() == "ann")
        );
        for query in ["consumer=ann", "since=7&consumer=ann"] {
            let detail = take(query).err().unwrap();
            assert_eq!(detail, "`consumer` says whose messages are unread: it goes with `since=unread`.");
        }
        let nameless = Place::take(&mut Query::parse("since=unread&consumer=").unwrap()).err().unwrap();
        assert_eq!(
            (nameless.code, &*nameless.detail),
            (Code::InvalidConsumer, "The consumer's name is empty.")
        );
    }
}
