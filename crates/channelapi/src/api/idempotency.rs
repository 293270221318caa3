//! The key under which a publisher may repeat a request without publishing twice.

use crate::http::Headers;
use channelapi_core::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use hyper::header::HeaderName;

/// Its header.
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why there is no key that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// Nobody knows which one is meant.
    #[error("The header Idempotency-Key is there twice.")]
    Twice,
    /// It is not written as keys are.
    #[error("The key must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters.")]
    Form,
}

/// The key in the header of a request, if there is one.
pub(super) fn key_of(headers: &impl Headers) -> Result<Option<Box<str>>, KeyError> {
    let mut values = headers.all(&IDEMPOTENCY_KEY);
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(KeyError::Twice);
    }
    first.map(checked).transpose()
}

/// A key, checked.
pub(super) fn checked(key: &[u8]) -> Result<Box<str>, KeyError> {
    let is_good =
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(key).ok().filter(|_| is_good);
    text.map(Into::into).ok_or(KeyError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderMap, HeaderValue};

    #[test]
    fn a_key_is_one_short_visible_word() {
        let of = |keys: &[&str]| {
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append(IDEMPOTENCY_KEY.clone(), HeaderValue::from_bytes(key.as_bytes()).unwrap());
            }
            key_of(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["order-17/paid"]), Ok(Some("order-17/paid".into())));
        assert_eq!(of(&["a", "a"]), Err(KeyError::Twice));
        for key in ["", "a b", "\u{fc}", &"x".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1)] {
            assert_eq!(of(&[key]), Err(KeyError::Form), "{key:?}");
        }
    }
}
