//! The queue before one client, and the way out of it.
//!
//! Invariants:
//! - `push` never waits. If nothing is queued it writes straight into the socket, from whatever thread it is called on: no task
//!   is woken and nothing is copied for a client that keeps up.
//! - What the socket does not take is queued in order, up to a limit; beyond that the outbox says so, and takes nothing. Nothing is
//!   dropped silently.
//! - What waits for all clients together is counted, and limited too; and so are the answers to polls that are on their way.
//! - Queued frames fit both transports, so that a session may change over with a full queue.

use super::frames;
use super::queue::Queue;
use crate::stream::WriteHalf;
use crate::waiting::{BytesOnTheWay, Owner, is_full_with, room_on_the_way};
use bytes::Bytes;
use channelapi_core::limits::{
    ANSWER_COPIED_BYTES_MAX, OUTBOX_ENTRY_BYTES, PACKETS_PER_POLL_MAX, STREAM_PIECE_BYTES,
};
use channelapi_protocol::engineio::{Frame, payload};
use std::io;
use std::task::{Context, Poll, ready};

/// Packets on their way to one client.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Where packets go; without it (polling) they wait to be fetched.
    socket: Option<WriteHalf>,
    queue: Queue,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The socket took it.
    Sent,
    /// It waits.
    Queued,
    /// There is no room: the client is too slow.
    Full,
    /// The socket is broken.
    Broken,
}

/// What became of frames that were to be held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// They wait, before all others.
    First,
    /// They wait behind others.
    Behind,
    /// There is no room: the client is too slow.
    Full,
}

impl Outbox {
    /// An outbox that writes to a WebSocket.
    pub(super) fn on(socket: WriteHalf) -> Self {
        Self { socket: Some(socket), ..Self::default() }
    }

    /// Sends or queues whole frames, unless something waits already and more than `bytes_max` would then.
    pub(super) fn push(&mut self, frames: &Bytes, bytes_max: usize) -> Pushed {
        let sent = match &self.socket {
            Some(socket) if self.queue.frames.is_empty() => match socket.try_write(frames) {
                Ok(sent) if sent == frames.len() => {
                    return if socket.is_behind() { Pushed::Queued } else { Pushed::Sent };
                }
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Pushed::Broken,
            },
            _ => 0,
        };
        // What was sent in part must go on.
        if !self.queue.frames.is_empty() && !self.has_room(frames, bytes_max) {
            return Pushed::Full;
        }
        self.queue.push(frames.clone());
        self.queue.forget_sent(sent);
        Pushed::Queued
    }

    /// The same, before whatever waits: for what would come too late behind it, and may stand anywhere.
    pub(super) fn push_ahead(&mut self, frame: &Bytes, bytes_max: usize) -> Pushed {
        if self.queue.frames.is_empty() {
            return self.push(frame, bytes_max);
        }
        if !self.has_room(frame, bytes_max) {
            return Pushed::Full;
        }
        self.queue.push_ahead(frame.clone());
        Pushed::Queued
    }

    fn has_room(&self, frames: &Bytes, bytes_max: usize) -> bool {
        let cost = frames.len() + OUTBOX_ENTRY_BYTES;
        self.queue.cost.count() + cost <= bytes_max && !is_full_with(cost)
    }

    /// Queues whole frames behind which more come at once, on the same conditions. Says whether they are the first that wait: then
    /// somebody has to [let them out](Self::let_out).
    pub(super) fn hold(&mut self, frames: &Bytes, bytes_max: usize) -> Held {
        let is_first = self.is_empty();
        if !is_first && !self.has_room(frames, bytes_max) {
            return Held::Full;
        }
        self.queue.push(frames.clone());
        if is_first { Held::First } else { Held::Behind }
    }

    /// Writes what waits, as far as the socket takes it at once. What it does not take waits for [`Self::poll_flush`].
    pub(super) fn let_out(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Ok(()) };
        match self.queue.write(socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// What the queue costs.
    pub(super) fn cost(&self) -> usize {
        self.queue.cost.count()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.frames.is_empty() && !self.socket.as_ref().is_some_and(WriteHalf::is_behind)
    }

    /// Lets the packets out through a WebSocket from now on.
    pub(super) fn attach(&mut self, socket: WriteHalf) {
        self.socket = Some(socket);
    }

    /// Closes the way out; whatever waits is gone.
    pub(super) fn detach(&mut self) {
        *self = Self::default();
    }

    /// Drops whatever waits, but the rest of a frame of which a part is out.
    pub(super) fn forget_unbegun(&mut self) {
        self.queue.forget_unbegun();
    }

    /// Whether there is room on its way for some of what waits, or nothing waits.
    pub(super) fn may_set_out(&self, owner: Owner) -> bool {
        self.has_within(payload_bytes_max(owner))
    }

    fn has_within(&self, bytes_max: usize) -> bool {
        self.queue.frames.front().is_none_or(|frames| packets_within(frames, bytes_max) > 0)
    }

    /// What waits as the body of a poll's answer, up to [`PACKETS_PER_POLL_MAX`] and to what there is room for on its way; the rest is for
    /// the next poll. One publication by itself is the same memory for all who wait for it. If there is room for none of it, a client is told
    /// to ask again.
    pub(super) fn take_payload(&mut self, owner: Owner) -> Bytes {
        self.take_within(payload_bytes_max(owner), owner)
    }

    fn take_within(&mut self, bytes_max: usize, owner: Owner) -> Bytes {
        if self.queue.frames.len() == 1
            && self.queue.frames[0].len() <= bytes_max
            && let Some(body) = payload::shared(&Frame::from_wire(self.queue.frames[0].clone()))
        {
            self.queue.frames.clear();
            self.queue.cost -= self.queue.cost.count();
            return on_its_way(body, owner);
        }
        let mut body = Vec::new();
        let mut room = PACKETS_PER_POLL_MAX;
        while room > 0
            && let Some(frames) = self.queue.frames.pop_front()
        {
            self.queue.cost -= frames.len() + OUTBOX_ENTRY_BYTES;
            let mut frames = Frame::from_wire(frames);
            let fitting = packets_within(frames.wire(), bytes_max.saturating_sub(body.len()));
            let packets_max = room.min(fitting);
            let taken = payload::take(&mut frames, packets_max, frames::is_checkpoint, &mut body);
            if !frames.wire().is_empty() {
                // It ends where it should: what fits besides would be behind that.
                self.queue.cost += frames.wire().len() + OUTBOX_ENTRY_BYTES;
                self.queue.frames.push_front(frames.into_wire());
                break;
            }
            room -= taken;
        }
        if body.is_empty() && !self.queue.frames.is_empty() {
            return payload::shared(&Frame::NOOP).unwrap_or_default();
        }
        on_its_way(body.into(), owner)
    }

    /// Writes what waits, until all of it is out.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &self.socket else {
            let is_stuck = !self.queue.frames.is_empty();
            return Poll::Ready(if is_stuck { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) });
        };
        loop {
            match self.queue.write(socket) {
                Ok(()) => return socket.poll_flush(cx),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Bytes that the body of a poll's answer may have. A small one always sets out.
fn payload_bytes_max(owner: Owner) -> usize {
    room_on_the_way(owner).max(STREAM_PIECE_BYTES)
}

/// How many of the first packets have so many bytes together, at most. Checkpoints go along with what is before them.
fn packets_within(frames: &Bytes, bytes_max: usize) -> usize {
    if frames.len() <= bytes_max {
        return usize::MAX;
    }
    let packets = Frame::from_wire(frames.clone());
    let mut bytes = 0;
    let fitting = packets.frames().take_while(|packet| {
        bytes += if frames::is_checkpoint(packet.payload) { 0 } else { packet.payload.len() };
        bytes <= bytes_max
    });
    fitting.count()
}

/// A body that counts until its client has taken it, or is gone. Small ones are copied into their answers.
fn on_its_way(body: Bytes, owner: Owner) -> Bytes {
    struct Counted {
        body: Bytes,
        _bytes: BytesOnTheWay,
    }

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.body
        }
    }

    if body.len() <= ANSWER_COPIED_BYTES_MAX {
        return body;
    }
    Bytes::from_owner(Counted { _bytes: BytesOnTheWay::new(body.len(), owner), body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;
    use channelapi_core::limits::OUTBOX_BYTES_MAX;
    use channelapi_core::model::{CURSOR_BYTES, Checkpoint, Cursor};
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    fn frame(text: &str) -> Bytes {
        Frame::text(&[text.as_bytes()]).into_wire()
    }

    #[test]
    fn polling_fetches_what_waits_in_portions() {
        let mut outbox = Outbox::default();
        let joined: Vec<u8> = (0..PACKETS_PER_POLL_MAX).flat_map(|_| frame("4x")).collect();
        assert_eq!(outbox.push(&frame("4a"), OUTBOX_BYTES_MAX), Pushed::Queued);
        assert_eq!(outbox.push(&joined.into(), OUTBOX_BYTES_MAX), Pushed::Queued);
        let portion = format!("4a{}", "\x1e4x".repeat(PACKETS_PER_POLL_MAX - 1));
        assert_eq!(outbox.take_payload(Owner::NOBODY), portion);
        assert_eq!(outbox.take_payload(Owner::NOBODY), "4x");
        assert!(outbox.is_empty() && outbox.cost() == 0 && outbox.take_payload(Owner::NOBODY).is_empty());
    }

    /// A client that comes back with a text as its place begins anew, so no answer ends behind one if it need not.
    #[test]
    fn answers_end_behind_a_checkpoint() {
        let mut checkpoint = Vec::new();
        let cursor = Cursor::from_bytes([2; CURSOR_BYTES]);
        frames::checkpoint(&Checkpoint { cursor, has_left: false }, &mut checkpoint);
        let texts: Vec<u8> = (0..10)
            .flat_map(|_| [frame("42[\"message\",\"x\"]").to_vec(), checkpoint.clone()].concat())
            .collect();
        let object = frame("42[\"message\",{}]").to_vec();
        let ping = frame("2").to_vec();
        for entries in [
            vec![[object.clone(), texts.clone()].concat()],
            vec![[object.repeat(PACKETS_PER_POLL_MAX - 1), texts.clone()].concat()],
            vec![ping.clone(), texts.clone()],
            vec![
                [vec![ping.clone(); PACKETS_PER_POLL_MAX - 1].concat(), checkpoint.clone()].concat(),
                texts.clone(),
            ],
            vec![vec![ping; PACKETS_PER_POLL_MAX - 1].concat(), texts.clone()],
            vec![texts.clone(), object, texts],
        ] {
            let mut outbox = Outbox::default();
            for entry in &entries {
                outbox.push(&entry.clone().into(), OUTBOX_BYTES_MAX);
            }
            let mut all = Vec::new();
            while !outbox.is_empty() {
                let body = outbox.take_payload(Owner::NOBODY);
                let packets: Vec<_> = body.split(|byte| *byte == 0x1e).map(<[u8]>::to_vec).collect();
                assert!(packets.len() <= PACKETS_PER_POLL_MAX);
                let last = packets.last().unwrap();
                assert!(
                    !last.ends_with(b",\"x\"]"),
                    "it ends behind a text: {:?}",
                    String::from_utf8_lossy(&body)
                );
                all.extend(packets);
            }
            let expected = Frame::from_wire(entries.concat().into());
            assert!(
                expected.frames().map(|packet| packet.payload).eq(all.iter().map(Vec::as_slice)),
                "in order"
            );
        }
    }

    #[test]
    fn where_there_is_little_room_polling_fetches_what_fits() {
        let mut outbox = Outbox::default();
        for entry in [[frame("4a"), frame("4b")].concat(), frame("4long").to_vec(), frame("4c").to_vec()] {
            outbox.push(&entry.into(), OUTBOX_BYTES_MAX);
        }
        let cost = outbox.cost();
        assert!(!outbox.has_within(1) && outbox.has_within(2));
        assert_eq!(outbox.take_within(1, Owner::NOBODY), "6");
        assert_eq!(outbox.cost(), cost, "it goes on waiting");
        for (bytes_max, expected) in [(2, "4a"), (2, "4b"), (2, "6"), (6, "4long"), (0, "6")] {
            assert_eq!(outbox.take_within(bytes_max, Owner::NOBODY), expected);
        }
        assert_eq!(outbox.take_payload(Owner::NOBODY), "4c");
        assert!(outbox.is_empty() && outbox.cost() == 0 && outbox.has_within(0));
        // Whoever is told a text is told where it stands behind it.
        let mut texts = frame("42[\"message\",\"x\"]").to_vec();
        let text_bytes = Frame::from_wire(texts.clone().into()).frames().next().unwrap().payload.len();
        let cursor = Cursor::from_bytes([2; CURSOR_BYTES]);
        frames::checkpoint(&Checkpoint { cursor, has_left: false }, &mut texts);
        outbox.push(&texts.repeat(2).into(), OUTBOX_BYTES_MAX);
        for _ in 0..2 {
            let body = outbox.take_within(text_bytes, Owner::NOBODY);
            assert_eq!(body.split(|byte| *byte == 0x1e).count(), 2);
        }
        assert!(outbox.is_empty());
    }

    #[test]
    fn all_who_poll_share_a_publication() {
        let large = frame(&"4".repeat(ANSWER_COPIED_BYTES_MAX + 1));
        for publication in [frame("4small"), large] {
            let mut outbox = Outbox::default();
            outbox.push(&publication, OUTBOX_BYTES_MAX);
            let body = outbox.take_payload(Owner::NOBODY);
            assert!(publication.ends_with(&body));
            assert!(publication.as_ptr_range().contains(&body.as_ptr()), "nothing was copied");
            assert!(outbox.is_empty() && outbox.cost() == 0);
        }
    }

    #[test]
    fn a_full_outbox_says_so_and_keeps_what_it_has() {
        let mut outbox = Outbox::default();
        let large = frame(&"4".repeat(OUTBOX_BYTES_MAX / 2));
        assert_eq!(outbox.push(&large, OUTBOX_BYTES_MAX), Pushed::Queued);
        assert_eq!(outbox.push(&large, OUTBOX_BYTES_MAX), Pushed::Full);
        assert_eq!(outbox.push(&frame("4x"), OUTBOX_BYTES_MAX), Pushed::Queued);
    }

    #[test]
    fn many_small_frames_cannot_cost_more_than_the_limit() {
        let mut outbox = Outbox::default();
        let pong = Bytes::from_static(&[0x8A, 0]);
        let taken = std::iter::repeat_with(|| outbox.push(&pong, OUTBOX_BYTES_MAX))
            .take_while(|pushed| *pushed == Pushed::Queued)
            .count();
        assert_eq!(taken, OUTBOX_BYTES_MAX / (pong.len() + OUTBOX_ENTRY_BYTES));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_every_byte_in_order() {
        let (server, mut client) = connected().await;
        server.writable().await.unwrap();
        let (read, write) = Stream::Tcp(server).into_split();
        let mut outbox = Outbox::on(write);
        let mut expected = Vec::new();
        let mut number = 0_u64;
        // Until the kernel takes no more and a good part waits here.
        while outbox.cost() < OUTBOX_BYTES_MAX / 2 {
            let next = frame(&format!("4{number:5000}"));
            number += 1;
            expected.extend_from_slice(&next);
            assert!(matches!(outbox.push(&next, OUTBOX_BYTES_MAX), Pushed::Sent | Pushed::Queued));
        }
        let reading = tokio::spawn(async move {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            received
        });
        poll_fn(|cx| outbox.poll_flush(cx)).await.unwrap();
        assert_eq!(outbox.cost(), 0);
        outbox.detach();
        drop(read);
        assert!(reading.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn what_is_held_goes_out_together_and_in_order() {
        let (server, mut client) = connected().await;
        server.writable().await.unwrap();
        let (_read, write) = Stream::Tcp(server).into_split();
        let mut outbox = Outbox::on(write);
        assert_eq!(outbox.hold(&frame("4first"), OUTBOX_BYTES_MAX), Held::First);
        assert_eq!(outbox.hold(&frame("4second"), OUTBOX_BYTES_MAX), Held::Behind);
        assert_eq!(outbox.push(&frame("4third"), OUTBOX_BYTES_MAX), Pushed::Queued, "behind what is held");
        let mut byte = [0];
        assert_eq!(client.try_read(&mut byte).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        outbox.let_out().unwrap();
        assert!(outbox.is_empty() && outbox.cost() == 0);
        let expected = [frame("4first"), frame("4second"), frame("4third")].concat();
        let mut received = vec![0; expected.len()];
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(received, expected);
        // What the kernel does not take waits for the task.
        let large = frame(&"4".repeat(OUTBOX_BYTES_MAX / 2));
        while outbox.is_empty() {
            assert_eq!(outbox.hold(&large, OUTBOX_BYTES_MAX), Held::First);
            outbox.let_out().unwrap();
        }
        assert_eq!(outbox.hold(&frame("4x"), OUTBOX_BYTES_MAX), Held::Behind);
        assert_eq!(outbox.hold(&large, OUTBOX_BYTES_MAX / 2), Held::Full);
        drop(client);
        let broken = async {
            while outbox.let_out().is_ok() {
                assert!(!outbox.is_empty(), "nobody is there to take it");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), broken).await.unwrap();
    }

    #[tokio::test]
    async fn a_queue_survives_the_change_of_transport() {
        let (server, mut client) = connected().await;
        let (_read, write) = Stream::Tcp(server).into_split();
        let mut outbox = Outbox::default();
        outbox.push(&frame("4first"), OUTBOX_BYTES_MAX);
        outbox.attach(write);
        assert_eq!(
            outbox.push(&frame("4second"), OUTBOX_BYTES_MAX),
            Pushed::Queued,
            "behind what waits, never before it"
        );
        poll_fn(|cx| outbox.poll_flush(cx)).await.unwrap();
        let expected = [frame("4first"), frame("4second")].concat();
        let mut received = vec![0; expected.len()];
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(received, expected);
        client.shutdown().await.unwrap();
    }
}
