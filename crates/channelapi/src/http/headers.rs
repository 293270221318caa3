//! The headers of a request, wherever they are.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Whatever has headers.
pub(crate) trait Headers {
    /// All values of a header, in their order.
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]>;

    /// The first value of a header.
    fn first<'a>(&'a self, name: &'a HeaderName) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Whether there is such a header.
    fn has(&self, name: &HeaderName) -> bool {
        self.first(name).is_some()
    }
}

/// A value as text.
pub(crate) fn as_text(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    if is_text { std::str::from_utf8(value).ok() } else { None }
}

impl Headers for HeaderMap {
    fn all<'a>(&'a self, name: &'a HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    fn first<'a>(&'a self, name: &'a HeaderName) -> Option<&'a [u8]> {
        self.get(name).map(HeaderValue::as_bytes)
    }
}
