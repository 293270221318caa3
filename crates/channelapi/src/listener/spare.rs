//! A file descriptor set aside, for the day when there is no other left.
//!
//! A connection that cannot be accepted for want of a descriptor stays where it is: the kernel reports it again at once, and its
//! client waits for nothing. With the spare one it is accepted, told to come back later, and closed.

use super::bind::Bound;
use crate::metrics::ConnectionRefused;
use std::fs::File;
use std::io;
use std::time::Duration;

/// The descriptor, if it is there.
#[derive(Debug)]
pub(super) struct Spare(Option<File>);

/// How long to wait for a connection that was reported: it may be gone.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(10);

impl Spare {
    pub(super) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Whether an error says that there are no descriptors left, for this process or for the machine.
    pub(super) fn is_needed_for(error: &io::Error) -> bool {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
    }

    /// Sends away one of those who wait. Says whether it could.
    pub(super) async fn shed(&mut self, bound: &Bound) -> bool {
        if self.0.take().is_none() {
            *self = Self::new();
            return false;
        }
        let accepted = tokio::time::timeout(ACCEPT_TIMEOUT, bound.accept()).await;
        let is_shed = if let Ok(Ok((stream, _))) = accepted {
            ConnectionRefused::FileDescriptors.count();
            super::send_away(stream, false);
            true
        } else {
            false
        };
        *self = Self::new();
        is_shed
    }
}
