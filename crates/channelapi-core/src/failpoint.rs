//! Places at which a test of the whole program lets it die or fail. Nothing of this is in a release: it needs the feature
//! `failpoints`.
//!
//! `CHANNELAPI_FAILPOINT=<place>:<action>[:<n>]` acts when the place is passed for the n-th time (1 if left out). The actions:
//! `abort` ends the process at once, as `kill -9` would; `error` lets the operation fail with an I/O error, for the places
//! `append` and `sync`; `full` lets it fail as on a full disk; `panic` panics. The places, in the order of a group:
//! `append`, `after-append`, `sync`, `after-sync`, `before-index`, `before-deliver`, `before-answer`; and of upkeep:
//! `before-remove`, `before-rename`, `after-rename`. `CHANNELAPI_SEGMENT_BYTES` is how large segments are, for tests that are to see them come
//! and go.

use std::io;

/// Passes a place where an operation may be told to fail.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it fails")]
pub(crate) fn hit(_place: &str) -> io::Result<()> {
    Ok(())
}

/// Passes a place where an operation may be told to fail.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(place: &str) -> io::Result<()> {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static SPEC: OnceLock<Option<String>> = OnceLock::new();
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    let Some(spec) = SPEC.get_or_init(|| std::env::var("CHANNELAPI_FAILPOINT").ok()) else {
        return Ok(());
    };
    let mut parts = spec.split(':');
    let (wanted, action) = (parts.next(), parts.next());
    if wanted != Some(place) {
        return Ok(());
    }
    let nth = parts.next().and_then(|number| number.parse().ok()).unwrap_or(1);
    if PASSED.fetch_add(1, Ordering::Relaxed) + 1 != nth {
        return Ok(());
    }
    match action {
        Some("abort") => std::process::abort(),
        Some("panic") => panic!("failpoint {place}"),
        Some("full") => Err(io::ErrorKind::StorageFull.into()),
        _ => Err(io::Error::other(format!("failpoint {place}"))),
    }
}

/// How large segments are to be, if a test wants them other than they are.
pub(crate) fn segment_bytes() -> Option<u64> {
    if !cfg!(feature = "failpoints") {
        return None;
    }
    std::env::var("CHANNELAPI_SEGMENT_BYTES").ok()?.parse().ok()
}

/// Passes a place where the process may be told to end.
pub(crate) fn pass(place: &str) {
    _ = hit(place);
}
