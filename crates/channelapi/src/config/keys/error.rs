//! Why a server has no key to run with, or may not run with one.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why there is no key to run with.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Strangers may know or guess it.
    #[error(
        "the auth key {why}, so anybody who can reach this server could publish to its users\n  \
         set a better one, for example this new one:  CHANNELAPI_AUTH_KEY={suggestion}\n  \
         or set none, and one is generated and kept in the data directory\n  \
         or, while developing, listen on this machine only, and name no trusted proxies:  --address 127.0.0.1"
    )]
    Weak {
        /// What is wrong with it, to be read after "the auth key".
        why: String,
        /// A fresh key.
        suggestion: String,
    },
    /// No client could present it.
    #[error("the auth key {why}; set one of letters, digits and punctuation, for example {suggestion}")]
    Unusable {
        /// What is wrong with it, to be read after "the auth key".
        why: String,
        /// A fresh key.
        suggestion: String,
    },
    /// Strangers may know or guess the key that was found in the data directory.
    #[error(
        "the auth key in {} {why}, so anybody who can reach this server could publish to its users\n  \
         delete the file to have one generated, or write a better one into it, for example this new one:  {suggestion}\n  \
         or, while developing, listen on this machine only, and name no trusted proxies:  --address 127.0.0.1",
        path.display()
    )]
    WeakStored {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, to be read after the file.
        why: String,
        /// A fresh key.
        suggestion: String,
    },
    /// The stored key is there but says nothing, or nothing that a client could present.
    #[error("the key file {} {why}; delete it to have a new key generated, or write a key into it", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Strangers may know or guess a key of the list.
    #[error(
        "the auth key `{name}` {why}, so anybody who can reach this server could use it\n  \
         make a better one:  channelapi key create NAME\n  \
         or, while developing, listen on this machine only, and name no trusted proxies:  --address 127.0.0.1"
    )]
    WeakListed {
        /// What the key is called.
        name: String,
        /// What is wrong with it, to be read after its name.
        why: String,
    },
    /// No client could present a key of the list.
    #[error(
        "the auth key `{name}` {why}; make one of letters, digits and punctuation:  channelapi key create NAME"
    )]
    UnusableListed {
        /// What the key is called.
        name: String,
        /// What is wrong with it, to be read after its name.
        why: String,
    },
    /// The file of a key of the list does not hold one.
    #[error("the key file {} of the auth key `{name}` {why}; write the key into it", path.display())]
    BadListedFile {
        /// What the key is called.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file of a key of the list cannot be read.
    #[error("cannot read the key file {} of the auth key `{name}`: {error}; check the path, and that the user running channelapi may read it", path.display())]
    ListedIo {
        /// What the key is called.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// Two names for one key: nobody could say what it may do.
    #[error("`{one}` and `{other}` are the same key; make one for each, or join their scopes and channels")]
    Same {
        /// What one of them is called.
        one: String,
        /// What the other is called.
        other: String,
    },
    /// The disk said no.
    #[error("cannot {action} {}: {error}; check that the user running channelapi may do that, or set CHANNELAPI_AUTH_KEY", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
    /// What should be the data directory is none.
    #[error("the data directory {} is a file, and no directory; choose another with --data-dir", .0.display())]
    NoDirectory(PathBuf),
    /// The system has no randomness to give.
    #[error("cannot generate an auth key, the system gave no random bytes: {0}; set CHANNELAPI_AUTH_KEY")]
    Random(getrandom::Error),
}

impl KeyError {
    /// The code the process exits with: 78 (`EX_CONFIG`) says that a restart will not help, 2 that something must be changed first, 1 that it
    /// passes.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Weak { .. }
            | Self::WeakStored { .. }
            | Self::Unusable { .. }
            | Self::BadFile { .. }
            | Self::WeakListed { .. }
            | Self::UnusableListed { .. }
            | Self::BadListedFile { .. }
            | Self::Same { .. } => 78,
            Self::Io { error, .. }
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                1
            }
            Self::Io { .. } | Self::ListedIo { .. } | Self::NoDirectory(_) | Self::Random(_) => 2,
        }
    }
}
