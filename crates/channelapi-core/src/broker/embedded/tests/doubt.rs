//! Channels of which something may be missing: what is told, and what is kept.

use super::*;

/// Publishes so many in a channel, one by one.
async fn publish(broker: &EmbeddedBroker, number: usize, count: usize) -> Vec<Published> {
    let mut published = Vec::new();
    for item in 0..count {
        published.push(broker.publish(request(number, &format!("{number}/{item}"))).await.unwrap());
    }
    published
}

/// Where somebody is who has this publication and knows its id, its epoch and offset, or the cursor behind it.
fn places(published: &Published) -> [Since; 3] {
    let Position { epoch, offset, .. } = published.position;
    [Since::Position(published.position), Since::InEpoch { epoch, offset }, Since::Cursor(published.cursor)]
}

/// What somebody in channel 0 is told, and the offsets of what follows.
fn follows(broker: &EmbeddedBroker, since: Since) -> (Option<Gap>, Vec<u64>) {
    let Start { after, gap } = broker.locate(&channel(0), since);
    let page = broker.history(&channel(0), HistoryQuery { after, ..EVERYTHING }).unwrap();
    (gap, page.publications.iter().map(|publication| publication.kept.unwrap().position.offset).collect())
}

/// A channel in doubt of which nothing is kept, whose segment goes, begins a new epoch. Whoever came with a place of that one was told of what
/// the one before it had lost, as if it were their own.
#[test]
fn a_channel_in_doubt_whose_segment_goes_begins_an_epoch_of_which_nothing_is_lost() {
    run(async {
        let clock = Clock::manual(1_000);
        let disk = SimulatedDisk::default();
        let short = Retention { age: 1_000, messages: 5, ..ALL };
        let broker = open_with(&disk, short, &clock);
        let before = publish(&broker, 0, 4).await;
        broker.publish(request(1, "rots")).await.unwrap();
        publish(&broker, 1, 1).await;
        drop(broker);
        disk.garble(b"rots");
        clock.advance(Duration::from_secs(2));
        let broker = open_with(&disk, short, &clock);
        publish(&broker, 9, 60).await;
        tidy(&broker);
        assert!(!disk.has("0000000000000001.log"), "with the damage, and what told of the channel");
        let after = publish(&broker, 0, 3).await;
        assert_ne!(after[0].position.epoch, before[0].position.epoch);
        let check = |broker: &EmbeddedBroker| {
            for since in before.iter().flat_map(places) {
                assert_eq!(follows(broker, since), (Some(Gap::Epoch), vec![1, 2, 3]), "{since:?}");
            }
            for (place, published) in after.iter().enumerate() {
                for since in places(published) {
                    assert_eq!(follows(broker, since), (None, [2, 3][place.min(2)..].to_vec()), "{since:?}");
                }
            }
        };
        check(&broker);
        drop(broker);
        let broker = open_with(&disk, short, &clock);
        check(&broker);
        drop(broker);
        check(&open_with(&disk, short, &clock));
    });
}
