//! The name of a request: the one that its client gave it, or a new one. The answer repeats it.

use channelapi_core::limits::REQUEST_ID_BYTES_MAX;
use hyper::header::{HeaderName, HeaderValue};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Its header.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client's name for the request, if it is harmless in a log, or a new one.
pub(super) fn request_id(given: Option<&[u8]>) -> HeaderValue {
    let is_harmless =
        |id: &&[u8]| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    let id = match given.filter(is_harmless) {
        Some(given) => HeaderValue::from_bytes(given),
        None => HeaderValue::from_bytes(&hex(new_id())),
    };
    id.expect("visible ASCII is a header value")
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
        let of = |id: &'static [u8]| request_id(Some(id));
        assert_eq!(of(b"mine-1"), "mine-1");
        for id in [&b"a b"[..], b"", b"\xFF", &[b'x'; 129]] {
            assert_eq!(of(id).len(), 16);
        }
        assert_ne!(request_id(None), request_id(None));
    }
}
