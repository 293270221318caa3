//! What is published while clients are there, come and go.

use super::*;
use crate::counters::COUNTERS;
use crate::delivery::holding::Holding;
use crate::delivery::turn::Turn;
use crate::limits::{
    FANOUT_WAITING_BYTES_MAX, FANOUT_WAITING_FRACTION, HELD_BYTES_MAX, HELD_FRACTION, OUTBOX_ENTRY_BYTES,
};

#[tokio::test]
async fn all_subscribers_see_one_order_after_their_reply() {
    let list = List::new(10);
    let fanout = start(3, &list);
    list.publish(&fanout, "a", "early");
    let clients: Vec<_> = (0..700).map(|id| Client::new(id, true)).collect();
    for client in &clients {
        for _ in 0..2 {
            drop(fanout.join(join(client, &[("a", From::Now)], Form::Plain)));
        }
    }
    fanout.disconnect(ConnectionId(9_999)).await.unwrap();
    for client in &clients {
        until(|| client.events().len() == 2).await;
    }
    let mut expected = vec!["joined".to_owned(); 2];
    for number in 0..300 {
        list.publish(&fanout, "a", &number.to_string());
        list.publish(&fanout, "b", "nobody's");
        expected.push(number.to_string());
    }
    for client in &clients {
        until(|| client.events().len() >= expected.len()).await;
        assert_eq!(client.events(), expected, "joining twice repeats the reply, never a publication");
    }
}

#[tokio::test]
async fn what_has_gathered_of_several_channels_leaves_in_one_write() {
    let list = List::new(10);
    let fanout = start(1, &list);
    let [both, one, other] = [1, 2, 3].map(|id| Client::new(id, true));
    let of_both = [("a", From::Now), ("b", From::Now)];
    fanout.join(join(&both, &of_both, Form::Plain)).await.unwrap();
    fanout.join(join(&one, &of_both[..1], Form::Plain)).await.unwrap();
    fanout.join(join(&other, &of_both[1..], Form::Plain)).await.unwrap();
    // This test's runtime has one thread: nothing is served before it waits.
    for (to, data) in [("a", "1"), ("a", "2"), ("b", "3"), ("nobody's", "4"), ("a", "5"), ("b", "6")] {
        list.publish(&fanout, to, data);
    }
    until(|| other.events().len() == 3).await;
    // Two of one channel are joined anyway; whoever is in one channel waits for nobody.
    for (client, expected, writes) in
        [(&both, "joined 1 2 3 5 6 ", 2), (&one, "joined 1 2 5 ", 3), (&other, "joined 3 6 ", 3)]
    {
        until(|| client.text() == expected).await;
        assert_eq!(client.written(), (writes, String::new()), "{expected}");
    }
    // More than connections may hold, and other jobs in between.
    let large = "x".repeat(HELD_BYTES_MAX / 2);
    for (to, data) in [("a", &*large), ("b", &*large), ("a", "7"), ("b", "8")] {
        list.publish(&fanout, to, data);
    }
    let late = fanout.join(join(&one, &of_both[1..], Form::Plain));
    list.publish(&fanout, "b", "9");
    late.await.unwrap();
    until(|| both.events().last().is_some_and(|event| event == "9")).await;
    assert_eq!(
        both.written(),
        (5, String::new()),
        "two that are large, two that are not, and one behind the join"
    );
}

/// Also within one publication, which very many connections of several channels may get.
#[tokio::test]
async fn what_is_held_is_bounded_and_the_rest_is_sent_at_once() {
    let frames = Bytes::from("x".repeat(HELD_BYTES_MAX / 2));
    let clients: Vec<_> = (0..5).map(|id| Client::new(id, true)).collect();
    let mut holding = Holding::new(HELD_BYTES_MAX);
    let told: Vec<_> = clients.iter().map(|client| holding.hold(&(client.clone() as _), &frames)).collect();
    assert_eq!(told[..2], [Delivery::Held, Delivery::Held]);
    assert_eq!(told[2..], [Delivery::Taken, Delivery::Taken, Delivery::Taken]);
    // Behind what a connection holds, in its order.
    holding.hold(&(clients[0].clone() as _), &Bytes::from_static(b"y"));
    assert!(clients[0].text().ends_with("xy"));
    holding.release(&mut Turn::default()).await;
    for client in &clients {
        assert_eq!(client.written(), (1, String::new()), "one write each, and nothing is left");
    }
}

/// Once, it was served from history then, or closed, as if it did not read.
#[tokio::test]
async fn whoever_holds_as_much_as_it_can_is_not_slow() {
    let client = Client::new(1, true);
    client.state.lock().holds_max = Some(3);
    for bytes_max in [HELD_BYTES_MAX, 0] {
        let mut holding = Holding::new(bytes_max);
        for _ in 0..10 {
            assert_ne!(holding.hold(&(client.clone() as _), &Bytes::from_static(b"xy ")), Delivery::Full);
        }
        holding.release(&mut Turn::default()).await;
    }
    assert_eq!((client.events().len(), client.written().1), (20, String::new()));
    // One that does not read has no room, before and after.
    let slow = Client::new(2, false);
    slow.deliver(&Bytes::from("x".repeat(OUTBOX_LIVE_BYTES_MAX)), usize::MAX);
    let mut holding = Holding::new(HELD_BYTES_MAX);
    assert_eq!(holding.hold(&(slow.clone() as _), &Bytes::from_static(b"y")), Delivery::Full);
    assert!(holding.is_empty());
}

#[tokio::test]
async fn the_less_may_wait_for_clients_the_less_is_held() {
    let (list, workers) = (List::new(10), 2);
    let fanout = start(workers, &list);
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now), ("b", From::Now)], Form::Plain)).await.unwrap();
    let mut writes = 1;
    for (bytes, more) in [(1 << 30, 1), (0, 4), (workers * HELD_FRACTION * (OUTBOX_ENTRY_BYTES + 3), 2)] {
        fanout.set_clients_bytes_max(bytes);
        // This test's runtime has one thread: nothing is served before it waits.
        for to in ["a", "b", "a", "b"] {
            list.publish(&fanout, to, "1");
        }
        writes += more;
        until(|| client.written() == (writes, String::new())).await;
    }
}

/// Once, only those were counted that left without any that is kept, and came to somebody who was live.
#[tokio::test]
async fn what_is_kept_nowhere_counts_as_lost_to_whoever_has_no_room_or_catches_up() {
    const COUNT: u64 = 1_000;
    let list = List::new(10);
    let fanout = start(1, &list);
    let client = Client::new(1, false);
    fanout.join(join(&client, &[("a", From::Now)], Form::Plain)).await.unwrap();
    let before = COUNTERS.volatile_losses.value();
    // This test's runtime has one thread: what is kept leaves with many that are not, and the others come to who catches up.
    list.publish(&fanout, "a", "kept");
    for _ in 0..COUNT {
        let (event, data) = (EventName::default(), Bytes::from_static(b"lost"));
        fanout.deliver(Publication { channel: channel("a"), event, data, published_at: 0, kept: None });
    }
    // Other tests may lose some at the same time.
    until(|| COUNTERS.volatile_losses.value() >= before + COUNT).await;
    assert_eq!(client.events(), ["joined"]);
    until(|| {
        if client.drain() {
            fanout.drained(client.id);
        }
        client.events().len() == 2
    })
    .await;
    assert_eq!(client.events(), ["joined", "kept"]);
}

#[tokio::test]
async fn closed_connections_leave_nothing_behind() {
    let list = List::new(10);
    let fanout = start(2, &list);
    let [stays, leaves, late] = [1, 2, 3].map(|id| Client::new(id, true));
    for client in [&stays, &leaves] {
        fanout.join(join(client, &[("a", From::Now), ("b", From::Now)], Form::Plain)).await.unwrap();
    }
    late.state.lock().is_closed = true;
    fanout.disconnect(late.id).await.unwrap();
    fanout.join(join(&late, &[("c", From::After(0))], Form::Plain)).await.unwrap();
    fanout.disconnect(leaves.id).await.unwrap();
    list.publish(&fanout, "a", "x");
    until(|| stays.events().ends_with(&["x".into()])).await;
    assert_eq!(leaves.events(), ["joined"]);
    fanout.disconnect(stays.id).await.unwrap();
    assert_eq!(fanout.channels(), 0);
    assert_eq!((Arc::strong_count(&leaves), Arc::strong_count(&late)), (1, 1));
}

#[tokio::test]
async fn publishers_wait_while_too_much_waits() {
    let list = List::new(10);
    let fanout = start(1, &list);
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Plain)).await.unwrap();
    // This test's runtime has one thread: nothing is served before it waits.
    let large = "x".repeat(FANOUT_WAITING_BYTES_MAX / 2);
    list.publish(&fanout, "a", &large);
    list.publish(&fanout, "a", &large);
    let room = fanout.room();
    tokio::pin!(room);
    let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(room.as_mut().poll(cx).is_pending())).await;
    assert!(waits, "there is no room");
    tokio::time::timeout(Duration::from_mins(1), room).await.expect("there is room again");
    assert_eq!(client.text().len(), "joined ".len() + 2 * (large.len() + 1));
}

#[tokio::test]
async fn publishers_wait_sooner_where_there_is_little_memory() {
    let list = List::new(10);
    let fanout = start(1, &list);
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Plain)).await.unwrap();
    fanout.set_memory(64 * FANOUT_WAITING_FRACTION);
    assert!(fanout.has_room());
    list.publish(&fanout, "a", "1");
    assert!(!fanout.has_room());
    let mut room = std::pin::pin!(fanout.room());
    let is_pending = std::future::poll_fn(|cx| std::task::Poll::Ready(room.as_mut().poll(cx).is_pending()));
    assert!(is_pending.await, "there is no room");
    fanout.set_memory(u64::MAX);
    room.await;
}

#[tokio::test]
async fn revoking_ends_everybody_in_the_channel_and_nobody_else() {
    let list = List::new(10);
    let fanout = start(2, &list);
    let clients: Vec<_> = (0..4).map(|id| Client::new(id, true)).collect();
    for client in &clients {
        let name = if client.id.0 == 3 { "b" } else { "a" };
        fanout.join(join(client, &[(name, From::Now)], Form::Plain)).await.unwrap();
    }
    assert_eq!((fanout.subscribers(&channel("a")), fanout.revoke(&channel("a")).await), (3, 3));
    let ended = clients.iter().filter(|client| client.state.lock().end == Some(End::Revoked)).count();
    assert_eq!((ended, fanout.channels()), (3, 1));
}

#[tokio::test]
async fn whoever_leaves_one_channel_hears_the_others_go_on() {
    let list = List::new(10);
    let fanout = start(1, &list);
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now), ("b", From::Now)], Form::Plain)).await.unwrap();
    list.publish(&fanout, "a", "1:a");
    fanout.leave(client.id, &channel("a")).await.unwrap();
    fanout.leave(client.id, &channel("c")).await.unwrap();
    list.publish(&fanout, "a", "2:a");
    list.publish(&fanout, "b", "2:b");
    until(|| client.events().last().is_some_and(|last| last == "2:b")).await;
    assert_eq!(client.events(), ["joined", "1:a", "2:b"]);
    assert_eq!((fanout.subscribers(&channel("a")), fanout.channels()), (0, 1));
}

/// Real threads: one stores and hands over, others join and leave. Between storing and handing over anything can happen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_joins_while_something_is_published_gets_all_of_it_from_there_on() {
    const COUNT: u64 = 3_000;
    let list = List::new(100);
    let fanout = start(2, &list);
    let publisher = {
        let (list, fanout) = (list.clone(), fanout.clone());
        std::thread::spawn(move || {
            for number in 1..=COUNT {
                let publication = list.store("a", &number.to_string());
                list.is_on_disk.store(number % 7 == 0, Ordering::Relaxed);
                std::thread::yield_now();
                fanout.deliver(publication);
            }
        })
    };
    let clients: Vec<_> = (0..200).map(|id| Client::new(id, true)).collect();
    let forms = [Form::Plain, Form::Meta, Form::Resumable].into_iter().cycle();
    for (client, form) in clients.iter().zip(forms) {
        let from = if client.id.0 % 2 == 0 { From::Now } else { From::After(0) };
        let passing = Client::new(1_000 + client.id.0, true);
        drop(fanout.join(join(&passing, &[("a", From::After(0))], form)));
        fanout.join(join(client, &[("a", from)], form)).await.unwrap();
        fanout.disconnect(passing.id).await.unwrap();
    }
    tokio::task::spawn_blocking(move || publisher.join().unwrap()).await.unwrap();
    for client in &clients {
        let received = || client.events().iter().filter_map(|event| event.parse().ok()).collect::<Vec<u64>>();
        // Whoever joined behind everything gets nothing.
        until(|| received().last().map_or(client.id.0 % 2 == 0, |last| *last == COUNT)).await;
        let received = received();
        let first = received.first().copied().unwrap_or(COUNT + 1);
        assert!(client.id.0 % 2 == 0 || first == 1, "{first}");
        assert!(received.iter().copied().eq(first..=COUNT), "{received:?}");
    }
}
