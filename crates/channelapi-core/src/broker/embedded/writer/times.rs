//! What time it is for a group.

use super::super::index::Ages;
use super::super::log::record::NUMBER_MAX;

/// What time it is for a group.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// By [`Clock::unix_millis`](crate::clock::Clock::unix_millis).
    pub(super) now: u64,
    /// By which is given up what is too old: nothing right after a start, when the clock may be one that somebody is about to set.
    pub(super) ages: Ages,
    /// By how much [`Clock::written_millis`](crate::clock::Clock::written_millis) is later.
    pub(super) ahead: u64,
    /// By the [`KeysClock`](super::repeats::KeysClock).
    pub(super) keys: u64,
}

impl Times {
    /// When something is published now, as it is written down and told.
    pub(super) fn published_at(self) -> u64 {
        (self.now + self.ahead).min(NUMBER_MAX - 2)
    }

    /// An end by [`Clock::unix_millis`](crate::clock::Clock::unix_millis), as it is written down; 0 is never.
    pub(super) fn end(self, expires_at: u64) -> u64 {
        if expires_at == 0 { 0 } else { expires_at.saturating_add(self.ahead) }
    }
}
