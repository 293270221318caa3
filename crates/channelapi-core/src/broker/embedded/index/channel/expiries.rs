//! When the publications of a channel die that do not live for ever.
//!
//! There may be hundreds of thousands, and how many of them are over is asked often, by whoever likes. So they are in blocks, each of which
//! knows its soonest and its latest end, and all of them by their times: most blocks are over as a whole, or not at all.
//!
//! They come in the order of their turns, and go from both ends. Each takes 24 bytes; a channel of which all live for ever has none of this.

use std::collections::VecDeque;
use std::ops::Range;

/// So many are in a block: few enough to look at each, and so many that there are few blocks.
const BLOCK: usize = if cfg!(test) { 8 } else { 2_048 };

#[derive(Default)]
pub(in super::super::super) struct Expiries(Option<Box<Ends>>);

#[derive(Default)]
struct Ends {
    /// The oldest publication first.
    list: VecDeque<End>,
    /// So many of the first block are gone.
    gone: usize,
    /// The blocks that are or were whole, the oldest first.
    blocks: VecDeque<Block>,
}

#[derive(Clone, Copy)]
struct End {
    turn: u64,
    dies_at: u64,
}

struct Block {
    soonest: u64,
    latest: u64,
    /// By time. In the first block some are of publications that are gone.
    ends: Box<[u64]>,
}

impl Expiries {
    /// A publication came, behind all others.
    pub(in super::super::super) fn push(&mut self, turn: u64, dies_at: u64) {
        self.0.get_or_insert_default().push(End { turn, dies_at });
    }

    /// The oldest or the newest publication of the channel is gone. It may be one that lives for ever.
    pub(in super::super::super) fn remove(&mut self, turn: u64) {
        if let Some(ends) = &mut self.0 {
            ends.remove(turn);
            if ends.list.is_empty() {
                self.0 = None;
            }
        }
    }

    /// Gives back memory of which little is used any more.
    pub(super) fn give_back(&mut self) {
        if let Some(ends) = &mut self.0
            && ends.list.len() < ends.list.capacity() / 4
        {
            ends.list.shrink_to(ends.list.len() * 2);
        }
    }

    /// Publications that do not live for ever. Each has a place, the oldest one 0.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |ends| ends.list.len())
    }

    /// When the publication with a turn dies, unless it lives for ever.
    pub(in super::super::super) fn of(&self, turn: u64) -> Option<u64> {
        self.find(turn).map(|place| self.at(place).dies_at)
    }

    /// The place of the publication with a turn, unless it lives for ever.
    pub(super) fn find(&self, turn: u64) -> Option<usize> {
        self.0.as_ref()?.list.binary_search_by_key(&turn, |end| end.turn).ok()
    }

    /// The place of the first publication with this turn or a later one.
    pub(super) fn first_from(&self, turn: u64) -> usize {
        self.0.as_ref().map_or(0, |ends| ends.list.partition_point(|end| end.turn < turn))
    }

    /// The turn of the publication in a place.
    pub(super) fn turn(&self, place: usize) -> u64 {
        self.at(place).turn
    }

    /// Whether the publication in a place is over.
    pub(super) fn is_over(&self, place: usize, now: u64) -> bool {
        self.at(place).dies_at <= now
    }

    /// How many in a range of places are over.
    pub(super) fn over(&self, range: Range<usize>, now: u64) -> usize {
        let Some(ends) = &self.0 else { return 0 };
        let over = |piece: Range<usize>| match ends.block(&piece) {
            Some(block) if now < block.soonest => 0,
            Some(block) if now >= block.latest => piece.len(),
            Some(block) if piece.len() == BLOCK => block.ends.partition_point(|dies_at| *dies_at <= now),
            _ => ends.list.range(piece).filter(|end| end.dies_at <= now).count(),
        };
        self.pieces(range).map(over).sum()
    }

    /// The first in a range of places that is not over.
    pub(super) fn first_living(&self, range: Range<usize>, now: u64) -> Option<usize> {
        let ends = self.0.as_ref()?;
        self.pieces(range).find_map(|mut piece| match ends.block(&piece) {
            Some(block) if now < block.soonest => Some(piece.start),
            Some(block) if now >= block.latest => None,
            _ => piece.find(|place| !self.is_over(*place, now)),
        })
    }

    /// The last in a range of places that is not over.
    pub(super) fn last_living(&self, range: Range<usize>, now: u64) -> Option<usize> {
        let ends = self.0.as_ref()?;
        self.pieces(range).rev().find_map(|mut piece| match ends.block(&piece) {
            Some(block) if now < block.soonest => Some(piece.end - 1),
            Some(block) if now >= block.latest => None,
            _ => piece.rfind(|place| !self.is_over(*place, now)),
        })
    }

    /// A range of places in pieces, each of one block.
    pub(super) fn pieces(
        &self,
        range: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let gone = self.0.as_ref().map_or(0, |ends| ends.gone);
        let Range { start, end } = range;
        let blocks = if start < end { (start + gone) / BLOCK..(end + gone).div_ceil(BLOCK) } else { 0..0 };
        blocks.map(move |block| {
            let first = (block * BLOCK).saturating_sub(gone);
            first.max(start)..((block + 1) * BLOCK - gone).min(end)
        })
    }

    fn at(&self, place: usize) -> End {
        self.0.as_ref().expect("whoever has a place has found it here").list[place]
    }
}

impl Ends {
    fn push(&mut self, end: End) {
        let count = self.list.len();
        debug_assert!(self.list.back().is_none_or(|newest| newest.turn < end.turn));
        if count == self.list.capacity() {
            // As the entries of the channel do.
            self.list.reserve_exact((count / 4).max(count.min(4)).max(2));
        }
        self.list.push_back(end);
        if self.ends_block() {
            let first = self.list.len().saturating_sub(BLOCK);
            let mut ends: Box<[u64]> = self.list.range(first..).map(|end| end.dies_at).collect();
            ends.sort_unstable();
            let (soonest, latest) = (ends[0], ends[ends.len() - 1]);
            self.blocks.push_back(Block { soonest, latest, ends });
        }
    }

    fn remove(&mut self, turn: u64) {
        if self.list.front().is_some_and(|oldest| oldest.turn == turn) {
            self.list.pop_front();
            self.gone += 1;
            if self.gone == BLOCK {
                self.blocks.pop_front();
                self.gone = 0;
            }
        } else if self.list.back().is_some_and(|newest| newest.turn == turn) {
            if self.ends_block() {
                self.blocks.pop_back();
            }
            self.list.pop_back();
        }
    }

    /// Whether the newest publication is the last one of its block.
    fn ends_block(&self) -> bool {
        (self.gone + self.list.len()).is_multiple_of(BLOCK)
    }

    /// The block that a piece is of, if that is whole.
    fn block(&self, piece: &Range<usize>) -> Option<&Block> {
        self.blocks.get((piece.start + self.gone) / BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever came and went, what is said of any of them is what a look at each of them says.
        #[test]
        fn as_if_each_were_looked_at(
            steps in prop::collection::vec((0_u8..8, 0_u64..6), 1..80),
        ) {
            let mut expiries = Expiries::default();
            let mut plain = VecDeque::new();
            for (turn, (step, dies_at)) in (1..).zip(steps) {
                let gone = match step {
                    0 | 1 => plain.pop_front(),
                    2 => plain.pop_back(),
                    _ => None,
                };
                if let Some((turn, _)) = gone {
                    expiries.remove(turn);
                } else {
                    expiries.push(turn, dies_at);
                    plain.push_back((turn, dies_at));
                }
                prop_assert_eq!(expiries.len(), plain.len());
                prop_assert_eq!(expiries.0.is_some(), !plain.is_empty());
                prop_assert_eq!(expiries.of(turn + 1), None);
                for (place, (turn, dies_at)) in plain.iter().enumerate() {
                    prop_assert_eq!((expiries.turn(place), expiries.of(*turn)), (*turn, Some(*dies_at)));
                    prop_assert_eq!((expiries.find(*turn), expiries.first_from(*turn)), (Some(place), place));
                }
                for now in 0..6 {
                    let is_over = |place: &usize| plain[*place].1 <= now;
                    for range in (0..=plain.len()).flat_map(|end| (0..=end).map(move |start| start..end)) {
                        let all = || range.clone();
                        prop_assert_eq!(expiries.over(all(), now), all().filter(is_over).count());
                        prop_assert_eq!(expiries.first_living(all(), now), all().find(|place| !is_over(place)));
                        prop_assert_eq!(expiries.last_living(all(), now), all().rfind(|place| !is_over(place)));
                    }
                }
            }
        }
    }
}
