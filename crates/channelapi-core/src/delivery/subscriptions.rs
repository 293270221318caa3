//! Which connections are in which channels, for one worker.
//!
//! Invariant: each entry of a channel's list knows its connection, and the connection knows the entry's place, so that joining
//! and leaving take constant time however large a channel is.

use super::catch_up::CatchUp;
use super::{Form, SharedSubscriber};
use crate::broker::Top;
use crate::model::{ChannelName, ConnectionId, Position};
use slab::Slab;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The subscriptions of one worker's connections.
#[derive(Default)]
pub struct Subscriptions {
    channels: Slab<Channel>,
    names: HashMap<ChannelName, usize>,
    members: HashMap<ConnectionId, Member>,
}

struct Channel {
    name: ChannelName,
    subscriptions: Vec<Subscription>,
    /// The history and the offset of the last publication that was served here. The offset is 0 before the first.
    served: (u64, u64),
}

/// One connection in one channel.
pub(super) struct Subscription {
    pub(super) subscriber: SharedSubscriber,
    /// Publications of a lower turn are not for it. [`NOT_LIVE`] while it catches up.
    pub(super) live_from: u64,
    pub(super) form: Form,
    /// Whether the connection has been in other channels, too, since it is in this one.
    pub(super) is_elsewhere: bool,
}

/// A subscription that catches up takes no publication as it comes.
pub(super) const NOT_LIVE: u64 = u64::MAX;

/// What is known of one connection.
#[derive(Default)]
pub(super) struct Member {
    places: Vec<Place>,
    /// Whether the client understands that something is missing. Others are closed then, so that they come back.
    pub(super) is_aware: bool,
    /// Where a resumable client stands at least, by what it was served from history. While it is live it stands where the worker does,
    /// if that is later.
    pub(super) stands: Option<Top>,
    /// How it is served from history, if it is.
    pub(super) catch_up: Option<Box<CatchUp>>,
}

/// Where a connection stands: the channel's index, and its place in the channel's list.
#[derive(Clone, Copy)]
struct Place {
    channel: usize,
    position: usize,
}

impl Subscriptions {
    /// The subscriptions in `channel`, in no particular order.
    pub(super) fn of(&self, channel: &ChannelName) -> &[Subscription] {
        self.names.get(channel).map_or(&[], |&index| &self.channels[index].subscriptions)
    }

    /// Notes which publications of a channel are served, and says whether they go on where the last one was: as long as somebody
    /// subscribes to a channel, nothing of it is left out or comes twice.
    pub(super) fn goes_on(
        &mut self,
        channel: &ChannelName,
        positions: impl Iterator<Item = Position>,
    ) -> bool {
        let Some(channel) = self.names.get(channel).map(|index| &mut self.channels[*index]) else {
            return true;
        };
        let mut goes_on = true;
        for Position { epoch, offset, .. } in positions {
            let (known, last) = channel.served;
            goes_on &= last == 0 || known != epoch || offset == last + 1;
            channel.served = (epoch, offset);
        }
        goes_on
    }

    /// Adds a subscription. Says `false` if it was there already.
    pub(super) fn insert(&mut self, channel: &ChannelName, subscription: Subscription) -> bool {
        let index = match self.names.entry(channel.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let subscriptions = Vec::with_capacity(1);
                let channel = Channel { name: channel.clone(), subscriptions, served: (0, 0) };
                *new.insert(self.channels.insert(channel))
            }
        };
        let member = self.members.entry(subscription.subscriber.id()).or_default();
        if member.places.iter().any(|place| place.channel == index) {
            return false;
        }
        let subscriptions = &mut self.channels[index].subscriptions;
        member.places.reserve_exact(1);
        member.places.push(Place { channel: index, position: subscriptions.len() });
        subscriptions.push(Subscription { is_elsewhere: member.places.len() > 1, ..subscription });
        if let [first, _] = member.places[..] {
            self.channels[first.channel].subscriptions[first.position].is_elsewhere = true;
        }
        true
    }

    /// Removes all subscriptions of a connection and returns the channels it was in.
    pub fn remove(&mut self, connection: ConnectionId) -> Vec<ChannelName> {
        let places = self.members.remove(&connection).unwrap_or_default().places;
        places.into_iter().map(|place| self.remove_at(place)).collect()
    }

    /// Removes one subscription of a connection. Says `false` if there was none.
    pub(super) fn remove_one(&mut self, connection: ConnectionId, channel: &ChannelName) -> bool {
        let index = self.names.get(channel).copied();
        let Some(member) = self.members.get_mut(&connection) else {
            return false;
        };
        let Some(own) = member.places.iter().position(|place| Some(place.channel) == index) else {
            return false;
        };
        let place = member.places.swap_remove(own);
        if member.places.is_empty() {
            self.members.remove(&connection);
        }
        self.remove_at(place);
        true
    }

    /// A connection that is in some channel.
    pub(super) fn member(&mut self, connection: ConnectionId) -> Option<&mut Member> {
        self.members.get_mut(&connection)
    }

    /// The connection itself.
    pub(super) fn subscriber(&self, connection: ConnectionId) -> Option<&SharedSubscriber> {
        let place = self.members.get(&connection)?.places.first()?;
        Some(&self.channels[place.channel].subscriptions[place.position].subscriber)
    }

    /// The subscriptions of a connection, and their channels.
    pub(super) fn for_each_of(
        &mut self,
        connection: ConnectionId,
        mut act: impl FnMut(&ChannelName, &mut Subscription),
    ) {
        let places = self.members.get(&connection).map_or(&[][..], |member| &member.places);
        for place in places {
            let channel = &mut self.channels[place.channel];
            act(&channel.name, &mut channel.subscriptions[place.position]);
        }
    }

    fn remove_at(&mut self, place: Place) -> ChannelName {
        let channel = &mut self.channels[place.channel];
        channel.subscriptions.swap_remove(place.position);
        if let Some(moved) = channel.subscriptions.get(place.position) {
            let member = self.members.get_mut(&moved.subscriber.id());
            let places = &mut member.expect("every subscriber has its places").places;
            let own = places.iter_mut().find(|own| own.channel == place.channel);
            own.expect("a subscriber knows its channel").position = place.position;
        }
        let name = channel.name.clone();
        if channel.subscriptions.is_empty() {
            self.names.remove(&name);
            self.channels.remove(place.channel);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Delivery, End, Subscriber};
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

        fn deliver(&self, _: &Bytes, _: usize) -> Delivery {
            Delivery::Taken
        }

        fn is_drained(&self) -> bool {
            true
        }

        fn is_open(&self) -> bool {
            true
        }

        fn end(&self, _: End) {}
    }

    /// Every connection pays for these: a field more is a decision.
    #[test]
    fn a_subscription_stays_small() {
        assert!(size_of::<Subscription>() <= 32, "{} bytes", size_of::<Subscription>());
        assert!(size_of::<Place>() <= 16, "{} bytes", size_of::<Place>());
        assert!(size_of::<Member>() <= 80, "{} bytes", size_of::<Member>());
    }

    #[test]
    fn what_is_left_out_or_comes_twice_is_noticed() {
        let name = ChannelName::parse("a").unwrap();
        let mut subscriptions = Subscriptions::default();
        let serve = |subscriptions: &mut Subscriptions, epoch, offsets: &[u64]| {
            let positions = offsets.iter().map(|offset| Position { epoch, offset: *offset, tag: 0 });
            subscriptions.goes_on(&name, positions)
        };
        assert!(serve(&mut subscriptions, 1, &[9, 7]), "nobody is here");
        let (subscriber, form) = (Arc::new(Number(1)), Form::Plain);
        subscriptions.insert(&name, Subscription { subscriber, live_from: 0, form, is_elsewhere: false });
        assert!(serve(&mut subscriptions, 1, &[5, 6]) && serve(&mut subscriptions, 1, &[7]));
        assert!(serve(&mut subscriptions, 2, &[1, 2]), "another history");
        for wrong in [&[4_u64][..], &[4], &[4, 5, 7]] {
            assert!(!serve(&mut subscriptions, 2, wrong), "{wrong:?}");
        }
    }

    proptest! {
        /// Joining and leaving in any order is the same as in a plain set of pairs.
        #[test]
        fn behaves_like_a_set_of_pairs(steps in prop::collection::vec((0..3, 0_u64..8, 0_u8..5), 0..200)) {
            let mut subscriptions = Subscriptions::default();
            let mut model = BTreeSet::new();
            for (step, connection, channel) in steps {
                let name = ChannelName::parse(&channel.to_string()).unwrap();
                if step == 0 {
                    let is_new = subscriptions.insert(
                        &name,
                        Subscription {
                            subscriber: Arc::new(Number(connection)),
                            live_from: 0,
                            form: Form::Plain,
                            is_elsewhere: false,
                        },
                    );
                    prop_assert_eq!(is_new, model.insert((channel, connection)));
                } else if step == 1 {
                    let was_there = subscriptions.remove_one(ConnectionId(connection), &name);
                    prop_assert_eq!(was_there, model.remove(&(channel, connection)));
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
                    let here: BTreeSet<_> = subscriptions.of(&name).iter().map(|one| one.subscriber.id().0).collect();
                    let expected = model.iter().filter(|pair| pair.0 == channel).map(|pair| pair.1).collect();
                    prop_assert_eq!(here, expected);
                    for one in subscriptions.of(&name) {
                        let in_all = model.iter().filter(|pair| pair.1 == one.subscriber.id().0).count();
                        prop_assert!(one.is_elsewhere || in_all == 1);
                    }
                }
            }
            prop_assert_eq!(subscriptions.names.len(), subscriptions.channels.len());
            prop_assert!(subscriptions.channels.iter().all(|(_, channel)| !channel.subscriptions.is_empty()));
        }
    }
}
