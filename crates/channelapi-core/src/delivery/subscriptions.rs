//! Which connections are in which channels, for one worker.
//!
//! Invariant: each entry of a channel's list knows its connection, and the connection knows the entry's place, so that joining
//! and leaving take constant time however large a channel is.

use super::SharedSubscriber;
use crate::model::{ChannelName, ConnectionId};
use slab::Slab;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The subscriptions of one worker's connections.
#[derive(Default)]
pub struct Subscriptions {
    channels: Slab<Channel>,
    names: HashMap<ChannelName, usize>,
    connections: HashMap<ConnectionId, Vec<Place>>,
}

struct Channel {
    name: ChannelName,
    subscribers: Vec<SharedSubscriber>,
}

/// Where a connection stands: the channel's index, and its place in the channel's list.
#[derive(Clone, Copy)]
struct Place {
    channel: usize,
    position: usize,
}

impl Subscriptions {
    /// The connections in `channel`, in no particular order.
    pub fn of(&self, channel: &ChannelName) -> &[SharedSubscriber] {
        self.names.get(channel).map_or(&[], |&index| &self.channels[index].subscribers)
    }

    /// Adds a subscription. Says `false` if it was there already.
    pub fn insert(&mut self, channel: &ChannelName, subscriber: SharedSubscriber) -> bool {
        let index = match self.names.entry(channel.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let channel = Channel { name: channel.clone(), subscribers: Vec::with_capacity(1) };
                *new.insert(self.channels.insert(channel))
            }
        };
        let places = self.connections.entry(subscriber.id()).or_insert_with(|| Vec::with_capacity(1));
        if places.iter().any(|place| place.channel == index) {
            return false;
        }
        let subscribers = &mut self.channels[index].subscribers;
        places.push(Place { channel: index, position: subscribers.len() });
        subscribers.push(subscriber);
        true
    }

    /// Removes all subscriptions of a connection and returns the channels it was in.
    pub fn remove(&mut self, connection: ConnectionId) -> Vec<ChannelName> {
        let places = self.connections.remove(&connection).unwrap_or_default();
        places.into_iter().map(|place| self.remove_at(place)).collect()
    }

    fn remove_at(&mut self, place: Place) -> ChannelName {
        let channel = &mut self.channels[place.channel];
        channel.subscribers.swap_remove(place.position);
        if let Some(moved) = channel.subscribers.get(place.position) {
            let places = self.connections.get_mut(&moved.id()).expect("every subscriber has its places");
            let own = places.iter_mut().find(|own| own.channel == place.channel);
            own.expect("a subscriber knows its channel").position = place.position;
        }
        let name = channel.name.clone();
        if channel.subscribers.is_empty() {
            self.names.remove(&name);
            self.channels.remove(place.channel);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::super::Subscriber;
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    struct Number(u64);

    impl Subscriber for Number {
        fn id(&self) -> ConnectionId {
            ConnectionId(self.0)
        }

        fn deliver(&self, _: &Bytes) {}

        fn is_open(&self) -> bool {
            true
        }
    }

    proptest! {
        /// Joining and leaving in any order is the same as in a plain set of pairs.
        #[test]
        fn behaves_like_a_set_of_pairs(steps in prop::collection::vec((any::<bool>(), 0_u64..8, 0_u8..5), 0..200)) {
            let mut subscriptions = Subscriptions::default();
            let mut model = BTreeSet::new();
            for (joins, connection, channel) in steps {
                if joins {
                    let name = ChannelName::parse(&channel.to_string()).unwrap();
                    let is_new = subscriptions.insert(&name, Arc::new(Number(connection)));
                    prop_assert_eq!(is_new, model.insert((channel, connection)));
                } else {
                    let left: BTreeSet<_> = subscriptions.remove(ConnectionId(connection)).into_iter().collect();
                    let expected = model.iter().filter(|pair| pair.1 == connection);
                    let expected: BTreeSet<_> =
                        expected.map(|pair| ChannelName::parse(&pair.0.to_string()).unwrap()).collect();
                    prop_assert_eq!(left, expected);
                    model.retain(|pair| pair.1 != connection);
                }
                for channel in 0..5 {
                    let name = ChannelName::parse(&channel.to_string()).unwrap();
                    let here: BTreeSet<_> = subscriptions.of(&name).iter().map(|member| member.id().0).collect();
                    let expected = model.iter().filter(|pair| pair.0 == channel).map(|pair| pair.1).collect();
                    prop_assert_eq!(here, expected);
                }
            }
            prop_assert_eq!(subscriptions.names.len(), subscriptions.channels.len());
            prop_assert!(subscriptions.channels.iter().all(|(_, channel)| !channel.subscribers.is_empty()));
        }
    }
}
