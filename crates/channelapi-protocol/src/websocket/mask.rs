//! Masking (RFC 6455 §5.3): the XOR that clients must apply to everything they send.

/// XORs `payload` with the repeated `key`. Applying it twice gives the original back.
pub fn apply(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    // The words are a multiple of four bytes long, so the key starts anew here.
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_definition_of_the_rfc(mut payload: Vec<u8>, key: [u8; 4]) {
            let expected: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            super::apply(&mut payload, key);
            prop_assert_eq!(payload, expected);
        }
    }
}
