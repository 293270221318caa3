//! What was published before, and where clients stand: pages of history, checkpoints and gaps.

use super::*;

#[tokio::test]
async fn a_resumed_connection_gets_what_it_missed_then_where_it_stands_then_what_comes() {
    let list = List::new(2);
    let fanout = start(1, &list);
    for number in 1..=5 {
        list.publish(&fanout, if number == 4 { "b" } else { "a" }, &number.to_string());
    }
    let client = Client::new(1, true);
    let channels = [("a", From::After(1)), ("b", From::After(1)), ("new", From::Now)];
    fanout.join(join(&client, &channels, Form::Resumable)).await.unwrap();
    until(|| client.events().len() >= 7).await;
    list.publish(&fanout, "new", "6");
    until(|| client.events().len() >= 9).await;
    assert_eq!(client.events(), ["joined", "2", "3", "@3", "4", "5", "@5", "6", "@6"]);
}

#[tokio::test]
async fn what_is_joined_on_the_way_does_not_move_where_a_client_stands() {
    let list = List::new(10);
    let fanout = start(1, &list);
    for number in 1..=3 {
        list.publish(&fanout, "old", &format!("\"{number}\""));
    }
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Resumable)).await.unwrap();
    let explicit = Join { is_resumable: false, ..join(&client, &[("old", From::After(1))], Form::Resumable) };
    fanout.join(explicit).await.unwrap();
    // Behind a text the place is said again, because the client took the text for it.
    assert_eq!(client.events(), ["joined", "@3", "joined", "\"2\"", "@3", "\"3\"", "@3"]);
}

#[tokio::test]
async fn who_does_not_understand_gaps_is_closed_and_the_others_are_told() {
    let list = List::new(10);
    let fanout = start(1, &list);
    for _ in 0..3 {
        list.publish(&fanout, "a", "x");
    }
    list.complete_since.store(3, Ordering::Relaxed);
    let [plain, aware] = [1, 2].map(|id| Client::new(id, true));
    fanout.join(join(&plain, &[("a", From::After(0))], Form::Plain)).await.unwrap();
    fanout.join(join(&aware, &[("a", From::After(0))], Form::Meta)).await.unwrap();
    assert_eq!(plain.state.lock().end, Some(End::Slow));
    assert_eq!(aware.events(), ["joined", "gap:a:trimmed", "x"]);
}

#[tokio::test]
async fn who_never_had_anything_misses_nothing_of_what_goes_before_it_is_read() {
    for is_on_disk in [false, true] {
        let list = List::new(10);
        let fanout = start(1, &list);
        for number in 1..=3 {
            list.publish(&fanout, "a", &number.to_string());
        }
        list.is_on_disk.store(is_on_disk, Ordering::Relaxed);
        let [plain, aware] = [1, 2].map(|id| Client::new(id, true));
        let first = fanout.join(join(&plain, &[("a", From::Newest(0))], Form::Plain));
        let second = fanout.join(join(&aware, &[("a", From::Newest(0))], Form::Meta));
        // This test's runtime has one thread: nobody has read anything yet.
        list.complete_since.store(3, Ordering::Relaxed);
        first.await.unwrap();
        second.await.unwrap();
        until(|| aware.events().len() == 2).await;
        assert_eq!([plain.events(), aware.events()], [["joined", "3"], ["joined", "3"]]);
        assert_eq!(plain.state.lock().end, None);
    }
}

#[tokio::test]
async fn a_page_that_was_read_for_a_channel_that_was_left_is_read_again_without_it() {
    let list = List::new(10);
    let fanout = start(1, &list);
    for number in 1..=2 {
        list.publish(&fanout, "a", &format!("{number}:a"));
        list.publish(&fanout, "b", &format!("{number}:b"));
    }
    list.is_on_disk.store(true, Ordering::Relaxed);
    let client = Client::new(1, true);
    drop(fanout.join(join(&client, &[("a", From::After(0)), ("b", From::After(0))], Form::Resumable)));
    // Queued right behind it: the page is still being read.
    fanout.leave(client.id, &channel("a")).await.unwrap();
    until(|| client.events().last().is_some_and(|last| last == "@4left")).await;
    assert_eq!(client.events(), ["joined", "1:b", "2:b", "@4left"]);
    list.publish(&fanout, "b", "3:b");
    until(|| client.events().len() == 6).await;
    assert_eq!(client.events()[4..], ["3:b", "@5left"], "also what it is sent live");
}

#[tokio::test]
async fn a_page_that_was_read_for_what_a_connection_has_left_is_not_for_it() {
    let list = List::new(10);
    let fanout = start(1, &list);
    for number in 1..=2 {
        list.publish(&fanout, "a", &format!("{number}:a"));
        list.publish(&fanout, "b", &format!("{number}:b"));
    }
    list.is_on_disk.store(true, Ordering::Relaxed);
    list.complete_since.store(2, Ordering::Relaxed);
    let client = Client::new(1, true);
    drop(fanout.join(join(&client, &[("c", From::After(0)), ("b", From::After(0))], Form::Resumable)));
    // A client may leave all channels, and come in again on the same connection.
    drop(fanout.disconnect(client.id));
    fanout.join(join(&client, &[("a", From::After(1))], Form::Resumable)).await.unwrap();
    until(|| client.events().last().is_some_and(|last| last == "@4")).await;
    assert_eq!(client.events(), ["joined", "joined", "2:a", "@4"]);
}

#[tokio::test]
async fn what_is_joined_live_while_catching_up_promises_nothing() {
    let list = List::new(1);
    let fanout = start(1, &list);
    for number in 1..=3 {
        list.publish(&fanout, "a", &number.to_string());
    }
    let client = Client::new(1, false);
    fanout.join(join(&client, &[("a", From::After(0))], Form::Resumable)).await.unwrap();
    assert_eq!(client.events(), ["joined", "1", "@1"]);
    let live = Join { is_resumable: false, ..join(&client, &[("b", From::Now)], Form::Resumable) };
    fanout.join(live).await.unwrap();
    list.publish(&fanout, "b", "4");
    until(|| {
        if client.drain() {
            fanout.drained(client.id);
        }
        client.events().len() >= 10
    })
    .await;
    assert_eq!(client.events(), ["joined", "1", "@1", "joined", "2", "@2", "3", "@3", "4", "@4"]);
}

#[tokio::test]
async fn who_catches_up_and_joins_again_further_on_goes_on_where_it_is() {
    for (from, seen) in [(From::After(2), true), (From::After(4), false), (From::Now, false)] {
        let list = List::new(1);
        let fanout = start(1, &list);
        for number in 1..=4 {
            list.publish(&fanout, "a", &number.to_string());
        }
        let client = Client::new(1, false);
        fanout.join(join(&client, &[("a", From::After(1))], Form::Resumable)).await.unwrap();
        assert!(client.drain());
        fanout.drained(client.id);
        until(|| client.events().len() == 5).await;
        let again = Join { is_resumable: false, ..join(&client, &[("a", from)], Form::Resumable) };
        fanout.join(again).await.unwrap();
        let rest: &[&str] = if seen { &["3", "@3", "4", "@4"] } else { &["4", "@4"] };
        until(|| {
            if client.drain() {
                fanout.drained(client.id);
            }
            client.events().len() >= 6 + rest.len()
        })
        .await;
        assert_eq!(client.events(), [&["joined", "2", "@2", "3", "@3", "joined"], rest].concat(), "{from:?}");
    }
}

#[tokio::test]
async fn who_is_live_and_joins_again_at_the_end_gets_what_is_on_its_way() {
    for form in [Form::Plain, Form::Resumable] {
        let list = List::new(10);
        let fanout = start(1, &list);
        let client = Client::new(1, true);
        fanout.join(join(&client, &[("a", From::Now)], form)).await.unwrap();
        // Stored, and not handed over yet.
        let late = list.store("a", "1");
        let again = Join { is_resumable: false, ..join(&client, &[("a", From::After(1))], form) };
        fanout.join(again).await.unwrap();
        fanout.deliver(late);
        list.publish(&fanout, "a", "2");
        until(|| client.events().iter().any(|event| event == "2")).await;
        let events = client.events();
        let messages: Vec<_> = events.iter().filter(|event| !event.starts_with('@')).collect();
        assert_eq!(messages, ["joined", "joined", "1", "2"]);
    }
}

#[tokio::test]
async fn what_is_kept_nowhere_moves_nobody_even_as_text() {
    let list = List::new(10);
    let (fanout, workers) = Fanout::new(1, Arc::new(Words));
    for worker in workers {
        tokio::spawn(worker.run(list.clone()));
    }
    fanout.begin(list.top());
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Resumable)).await.unwrap();
    for data in ["\"text\"", "1", "null"] {
        let (event, data) = (EventName::default(), Bytes::from_static(data.as_bytes()));
        fanout.deliver(Publication { channel: channel("a"), event, data, published_at: 0, kept: None });
    }
    until(|| client.events().len() >= 7).await;
    // Behind what a client takes for its place follows the real one.
    assert_eq!(client.events(), ["joined", "@0", "\"text\"", "@0", "1", "null", "@0"]);
}

#[tokio::test]
async fn what_is_missing_is_said_once() {
    let list = List::new(1);
    let fanout = start(1, &list);
    for (name, data) in [("whole", "1"), ("a", "2"), ("whole", "3"), ("a", "4")] {
        list.publish(&fanout, name, data);
    }
    list.complete_since.store(4, Ordering::Relaxed);
    let client = Client::new(1, true);
    let channels = [("whole", From::After(0)), ("a", From::After(0))];
    fanout.join(join(&client, &channels, Form::Meta)).await.unwrap();
    until(|| client.events().len() >= 5).await;
    assert_eq!(client.events(), ["joined", "gap:a:trimmed", "1", "3", "4"]);
}

#[tokio::test]
async fn what_is_stored_but_not_handed_over_is_not_promised() {
    let list = List::new(10);
    let fanout = start(1, &list);
    let client = Client::new(1, true);
    fanout.join(join(&client, &[("a", From::Now)], Form::Resumable)).await.unwrap();
    let late = [list.store("a", "1"), list.store("b", "2")];
    let explicit = Join { is_resumable: false, ..join(&client, &[("b", From::After(0))], Form::Resumable) };
    fanout.join(explicit).await.unwrap();
    for publication in late {
        fanout.deliver(publication);
    }
    until(|| client.events().len() >= 7).await;
    assert_eq!(client.events(), ["joined", "@0", "joined", "2", "@0", "1", "@1"]);
}
