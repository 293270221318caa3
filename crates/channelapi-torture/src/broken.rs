//! Connections that broke are the business of a torture; answers that no server may give are not.

use std::error::Error;
use std::io;

/// An error that a client gets over by connecting again.
pub(crate) fn broken(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, text)
}

/// Whether the connection broke, as opposed to the server having said something wrong.
pub(crate) fn is_broken(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn Error>::is::<io::Error>)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn only_what_broke_is_broken() {
        let error = Err::<(), _>(broken("gone")).context("while reading").unwrap_err();
        assert!(is_broken(&error));
        assert!(!is_broken(&anyhow!("the server sent nonsense")));
    }
}
