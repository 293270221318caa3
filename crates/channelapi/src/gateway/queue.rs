//! Frames that wait for a socket, or to be fetched.
//!
//! Invariant: an entry begins with a frame. Only the first one may be the rest of a frame of which a part was sent, and then it is no more
//! than that: so there is always a place before everything else at which another frame may stand.

use crate::stream::WriteHalf;
use crate::waiting::WaitingBytes;
use bytes::{Buf as _, Bytes};
use channelapi_core::limits::OUTBOX_ENTRY_BYTES;
use channelapi_protocol::engineio::Frame;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Buffers that one system call takes.
const SLICES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) frames: VecDeque<Bytes>,
    /// What the queue costs: its bytes, and [`OUTBOX_ENTRY_BYTES`] for each entry.
    pub(super) cost: WaitingBytes,
    /// The first entry is the rest of a frame.
    is_begun: bool,
}

impl Queue {
    /// Adds whole frames at the end.
    pub(super) fn push(&mut self, frames: Bytes) {
        self.cost += frames.len() + OUTBOX_ENTRY_BYTES;
        self.frames.push_back(frames);
    }

    /// Adds whole frames before all others.
    pub(super) fn push_ahead(&mut self, frames: Bytes) {
        self.cost += frames.len() + OUTBOX_ENTRY_BYTES;
        self.frames.insert(usize::from(self.is_begun), frames);
    }

    /// Forgets whatever has not begun.
    pub(super) fn forget_unbegun(&mut self) {
        let begun = self.frames.pop_front().filter(|_| self.is_begun);
        *self = Self::default();
        if let Some(rest) = begun {
            self.push(rest);
            self.is_begun = true;
        }
    }

    /// Writes into a socket, until all of it is out or the socket says why not.
    pub(super) fn write(&mut self, socket: &WriteHalf) -> io::Result<()> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let waiting = self.frames.len().min(SLICES_MAX);
            for (slice, frames) in slices.iter_mut().zip(&self.frames) {
                *slice = IoSlice::new(frames);
            }
            let sent = socket.try_write_vectored(&slices[..waiting])?;
            self.forget_sent(sent);
        }
        // A queue that was long once should not stay large.
        self.frames.shrink_to_fit();
        Ok(())
    }

    /// So many bytes were sent.
    pub(super) fn forget_sent(&mut self, mut sent: usize) {
        self.cost -= sent;
        while sent > 0
            && let Some(first) = self.frames.front_mut()
        {
            if sent < first.len() {
                let rest = if self.is_begun {
                    first.len() - sent
                } else {
                    Frame::from_wire(first.clone()).rest_of_frame(sent)
                };
                first.advance(sent);
                self.is_begun = rest > 0;
                if self.is_begun && rest < first.len() {
                    let rest = first.split_to(rest);
                    self.frames.push_front(rest);
                    self.cost += OUTBOX_ENTRY_BYTES;
                }
                return;
            }
            sent -= first.len();
            self.cost -= OUTBOX_ENTRY_BYTES;
            self.frames.pop_front();
            self.is_begun = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wherever a socket stops, what comes ahead stands between two frames, and before all that have not begun.
    #[test]
    fn what_comes_ahead_stands_between_frames() {
        let frames: Vec<Bytes> = ["4a", "4second", &"4".repeat(200), &"4".repeat(70_000), "4e"]
            .iter()
            .map(|text| Frame::text(&[text.as_bytes()]).into_wire())
            .collect();
        let joined: Bytes = frames.concat().into();
        let ends: Vec<usize> = frames
            .iter()
            .scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            })
            .collect();
        let ping = Frame::PING.into_wire();
        let stops = (0..300).chain(joined.len() - 30..joined.len());
        for entries in
            [vec![joined.clone()], frames.clone(), vec![frames[0].clone(), frames[1..].concat().into()]]
        {
            for stop in stops.clone() {
                for next in [0, 1, 5] {
                    let mut queue = Queue::default();
                    for entry in &entries {
                        queue.push(entry.clone());
                    }
                    queue.forget_sent(stop);
                    queue.forget_sent(next.min(joined.len() - stop));
                    let sent = (stop + next).min(joined.len());
                    let boundary =
                        if sent == 0 { 0 } else { *ends.iter().find(|end| **end >= sent).unwrap() };
                    queue.push_ahead(ping.clone());
                    let left = queue.frames.iter().flatten().copied().collect::<Vec<u8>>();
                    let expected = [&joined[sent..boundary], &ping, &joined[boundary..]].concat();
                    assert!(left == expected, "after {stop} and {next} bytes of {} entries", entries.len());
                    assert_eq!(queue.cost.count(), left.len() + queue.frames.len() * OUTBOX_ENTRY_BYTES);
                    queue.forget_unbegun();
                    queue.push(ping.clone());
                    let left = queue.frames.iter().flatten().copied().collect::<Vec<u8>>();
                    assert!(left == [&joined[sent..boundary], &ping].concat(), "only what had begun is left");
                    assert_eq!(queue.cost.count(), left.len() + queue.frames.len() * OUTBOX_ENTRY_BYTES);
                }
            }
        }
    }
}
