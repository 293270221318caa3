//! In the place of whom the server trusts when it fetches keys: nothing is fetched here.

use std::path::Path;

/// Nothing can fail.
#[derive(Debug, thiserror::Error)]
#[error("nothing can fail")]
pub(crate) enum TrustError {}

impl TrustError {
    pub(crate) fn is_of_file(&self) -> bool {
        match *self {}
    }
}

/// No client of TLS.
#[allow(clippy::unnecessary_wraps, reason = "that of the server may fail")]
pub(crate) fn trusting(_: Option<&Path>) -> Result<(), TrustError> {
    Ok(())
}
