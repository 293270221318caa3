//! What the writer does when the disk is full: it gives up the reserve, so that upkeep can make room, and tries again.

use super::super::log::AppendError;
use super::super::log::disk::{has_no_room, is_full, is_sync_failure};
use super::super::log::reserve::{cut_reserve, make_reserve, remove_reserve};
use super::command::{Poke, Refusal};
use super::{Appended, Writer};
use std::io;
use std::sync::atomic::Ordering;
use tracing::{debug, info, warn};

impl Writer {
    /// Gives up the reserve if the disk is full, so that upkeep can go on.
    pub(super) fn meet_full_disk(&mut self, failure: &AppendError) {
        if let AppendError::NotStored(error) = failure
            && is_full(error)
            && self.has_reserve.load(Ordering::Relaxed)
        {
            match self.give_up_reserve() {
                // The disk is read-only rather than full: there is nothing to make room for.
                Err(error) if self.told_failure.is_none() => {
                    warn!(%error, "the reserve could not be given up");
                }
                Err(_) => {}
                Ok(()) => _ = self.pokes.try_send(Poke::default()),
            }
        }
    }

    fn give_up_reserve(&self) -> io::Result<()> {
        cut_reserve(&*self.disk, self.settings.segment_bytes)?;
        self.has_reserve.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes down at any cost that the log begins with another segment: the one before it goes then, and with it more bytes than that takes.
    pub(super) fn begin_making_room(&mut self, number: u64) -> Result<(), AppendError> {
        let goes_on = self.stored.read().begins < number;
        if goes_on { self.with_the_reserve(|writer| writer.begin(number)) } else { self.begin(number) }
    }

    /// Goes on in a new segment: most of the one before is dead, and gives its space back then. That is worth all of the reserve if it is the
    /// oldest, which is removed. Another one is rewritten, for which there may be no room, and the oldest would have none to go.
    pub(super) fn roll_making_room(&mut self) -> Result<(), Refusal> {
        let is_oldest = self.stored.read().segments.list.len() == 1;
        let rolled = if is_oldest { self.with_the_reserve(Self::roll) } else { self.roll() };
        rolled.map_err(|failure| {
            // Upkeep comes again soon, for as long as the disk is full, and that was told.
            debug!(error = %failure, "the log could not go on in another segment");
            if matches!(failure, AppendError::NotStored(_)) { Refusal::Full } else { Refusal::Other }
        })
    }

    /// Does what makes more room than it takes, if need be with all that is left of the reserve.
    fn with_the_reserve(
        &mut self,
        act: impl Fn(&mut Self) -> Result<(), AppendError>,
    ) -> Result<(), AppendError> {
        let mut done = act(self);
        for is_last in [false, true] {
            let has_no_room = matches!(&done, Err(AppendError::NotStored(error)) if has_no_room(error));
            if !has_no_room || self.give_up_reserve().is_err() {
                break;
            }
            if is_last && remove_reserve(&*self.disk).is_err() {
                break;
            }
            done = act(self);
        }
        done
    }

    /// Looks whether a disk that took nothing takes something again: the reserve is made anew. Nobody sends a node publications to try with
    /// that calls itself not ready.
    pub(super) fn try_disk_again(&mut self) {
        if self.log.is_displaced.load(Ordering::Relaxed) {
            return;
        }
        let is_refusing = self.is_refusing.load(Ordering::Relaxed);
        if is_refusing && self.has_reserve.load(Ordering::Relaxed) && self.give_up_reserve().is_err() {
            return;
        }
        if self.restore_reserve().is_ok() {
            self.note_disk_takes();
        }
    }

    /// The disk has taken something.
    pub(super) fn note_disk_takes(&mut self) {
        // Almost always there is nothing to write.
        if self.is_refusing.load(Ordering::Relaxed) {
            self.is_refusing.store(false, Ordering::Relaxed);
            self.told_failure = None;
            info!("the disk takes publications again");
        }
    }

    /// Writes down at once what gives up something, also with the room that the reserve has left: whoever is to make room must be able to.
    pub(super) fn append_making_room(&mut self, bytes: Vec<u8>) -> Result<Appended, AppendError> {
        let had_reserve = self.has_reserve.load(Ordering::Relaxed);
        let appended = self.write(bytes.clone(), true);
        let Err(failure) = &appended else { return appended };
        self.meet_full_disk(failure);
        let has_room = had_reserve && !self.has_reserve.load(Ordering::Relaxed);
        if has_room { self.write(bytes, true) } else { appended }
    }

    /// Nothing is written for publishers while the reserve is not whole.
    pub(super) fn restore_reserve(&mut self) -> Result<(), AppendError> {
        if !self.has_reserve.load(Ordering::Relaxed) {
            let made = make_reserve(&*self.disk, self.settings.segment_bytes);
            made.map_err(|error| {
                if is_sync_failure(&error) { self.log.close(error) } else { AppendError::NotStored(error) }
            })?;
            self.has_reserve.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
