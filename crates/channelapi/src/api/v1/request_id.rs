//! The name of a request: the one that its client gave it, or a new one. The answer repeats it.

use channelapi_core::limits::REQUEST_ID_BYTES_MAX;
use hyper::header::{HeaderName, HeaderValue};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Its header.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The name of a request.
pub(super) enum RequestId {
    /// The client's, which is harmless in a log.
    Given(HeaderValue),
    /// One of ours. It is written down when the request is answered: until then it needs no memory of its own.
    New(u64),
}

impl RequestId {
    /// The client's name for the request, if it is harmless in a log, or a new one.
    pub(super) fn of(given: Option<&[u8]>) -> Self {
        let is_harmless = |id: &&[u8]| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
        };
        match given.filter(is_harmless) {
            Some(given) => Self::Given(value(given)),
            None => Self::New(new_id()),
        }
    }

    /// The value of its header.
    pub(super) fn into_value(self) -> HeaderValue {
        match self {
            Self::Given(value) => value,
            Self::New(id) => value(&hex(id)),
        }
    }
}

fn value(id: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(id).expect("visible ASCII is a header value")
}

/// A number as 16 digits.
fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (digit, shift) in digits.iter_mut().rev().zip((0..u64::BITS).step_by(4)) {
        *digit = b"0123456789abcdef"[(number >> shift & 0xF) as usize];
    }
    digits
}

/// A name that no other request of this process has, and hardly any of another. It is no secret: asking the system for random
/// numbers each time would cost more than all else that is done for it.
fn new_id() -> u64 {
    static FIRST: LazyLock<u64> =
        LazyLock::new(|| getrandom::u64().expect("the operating system has random numbers"));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Steps of an odd constant visit every number once, and neighbours look different.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    FIRST.wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_the_name_it_has_if_that_is_harmless() {
        let of = |id: &'static [u8]| RequestId::of(Some(id)).into_value();
        assert_eq!(of(b"mine-1"), "mine-1");
        for id in [&b"a b"[..], b"", b"\xFF", &[b'x'; 129]] {
            assert_eq!(of(id).len(), 16);
        }
        let new = || RequestId::of(None).into_value();
        assert_ne!(new(), new());
    }
}
