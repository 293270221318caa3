//! The worker, and the other tasks of its core.

use super::*;
use crate::limits::{FANOUT_BATCH, FANOUT_CHUNK};

/// A connection that notes how many turns others have had, whenever it is served.
struct Served {
    id: ConnectionId,
    turns: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<usize>>>,
}

impl Served {
    fn note(&self) {
        self.log.lock().push(self.turns.load(Ordering::Relaxed));
    }
}

impl Subscriber for Served {
    fn id(&self) -> ConnectionId {
        self.id
    }

    fn deliver(&self, frames: &Bytes, _: usize) -> Delivery {
        if frames != REPLY {
            self.note();
        }
        Delivery::Taken
    }

    fn is_drained(&self) -> bool {
        true
    }

    fn is_open(&self) -> bool {
        true
    }

    fn end(&self, _: End) {
        self.note();
    }
}

/// Of two tasks that give way to each other, tokio lets each go first in turn, and so twice in a row.
const MOST_AT_ONCE: usize = 2 * FANOUT_CHUNK;

/// Once, a worker with many small channels, or one whose large channel was revoked, let nobody else do anything until all was done.
#[tokio::test]
async fn others_get_a_turn_whatever_the_worker_does() {
    const MEMBERS: usize = FANOUT_CHUNK / 4 + 1;
    let list = List::new(10);
    let fanout = start(1, &list);
    let (turns, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let counted = turns.clone();
    let others = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let names: Vec<_> = (0..FANOUT_BATCH).map(|number| number.to_string()).collect();
    for id in 0..FANOUT_BATCH * MEMBERS {
        let subscriber =
            Arc::new(Served { id: ConnectionId(id as u64), turns: turns.clone(), log: served.clone() });
        // All of them are in one, and each is in another.
        let channels = ["all", &*names[id % FANOUT_BATCH]].map(|name| (channel(name), From::Now)).to_vec();
        let reply = Bytes::from_static(REPLY.as_bytes());
        let form = Form::Plain;
        let join = Join { subscriber, channels, form, is_aware: false, is_resumable: false, reply };
        drop(fanout.join(join));
    }
    fanout.disconnect(ConnectionId(u64::MAX)).await.unwrap();
    let most_at_once = || {
        let served = std::mem::take(&mut *served.lock());
        assert_eq!(served.len(), FANOUT_BATCH * MEMBERS);
        served.chunk_by(|one, next| one == next).map(<[_]>::len).max()
    };
    // This test's runtime has one thread: they are all here when the worker looks.
    for name in &names {
        list.publish(&fanout, name, "1");
    }
    fanout.disconnect(ConnectionId(u64::MAX)).await.unwrap();
    assert!(most_at_once() <= Some(MOST_AT_ONCE), "many small channels");
    assert_eq!(fanout.revoke(&channel("all")).await, FANOUT_BATCH * MEMBERS);
    assert!(most_at_once() <= Some(MOST_AT_ONCE), "the end of a large one");
    others.abort();
}
