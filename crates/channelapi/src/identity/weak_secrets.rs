//! Secrets that somebody else has, though they are long: they stand in documentation, or in what is copied from it.

use std::collections::HashSet;

/// Of tutorials, and of servers that ship with one. Whoever reads them can make JWTs.
const PUBLIC: [&str; 10] = [
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    "reallyreallyreallyreallyverysafe",
    "!ChangeThisMercureHubJWTSecretKey!",
    "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
    "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
    "9a4f2c8d3b7a1e6f45c8a0b3f267d8b1d4e6f3c8a9d2b5f8e3a9c8b5f6v8a3d9",
];

/// No random secret is a part of at most so many bytes, over and over.
const PERIOD_MAX: usize = 16;

/// No random secret of 32 characters has fewer different ones, also if they are digits.
const CHARACTERS_MIN: usize = 6;

/// What is wrong with a secret that is long enough, if somebody may have or guess it.
pub(super) fn weakness(secret: &[u8]) -> Option<&'static str> {
    let secret = secret.trim_ascii();
    if PUBLIC.iter().any(|public| public.as_bytes().eq_ignore_ascii_case(secret)) {
        return Some("is publicly known");
    }
    let repeats =
        |period: usize| secret.len() > period && secret[period..] == secret[..secret.len() - period];
    if (1..=PERIOD_MAX).any(repeats) {
        return Some("is the same few characters over and over");
    }
    let characters: HashSet<&u8> = secret.iter().collect();
    (characters.len() < CHARACTERS_MIN).then_some("has hardly any different characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_or_guess_is_weak() {
        for secret in PUBLIC {
            assert_eq!(weakness(secret.as_bytes()), Some("is publicly known"), "{secret}");
            assert!(weakness(format!("{}\n", secret.to_uppercase()).as_bytes()).is_some(), "{secret}");
        }
        let again = "is the same few characters over and over";
        for secret in
            ["a".repeat(51), "secret".repeat(7), "0123456789abcdef".repeat(2), "changeme".repeat(5) + "ch"]
        {
            assert_eq!(weakness(secret.as_bytes()), Some(again), "{secret}");
        }
        assert_eq!(
            weakness(b"abbaabbbabaabbbbabababbbaaabaabbaabb"),
            Some("has hardly any different characters")
        );
    }

    #[test]
    fn random_ones_are_not() {
        let mut bytes = [0; 48];
        for _ in 0..2_000 {
            getrandom::fill(&mut bytes).unwrap();
            let hex = format!("{:032x}", u128::from_le_bytes(*bytes.first_chunk().unwrap()));
            let digits: String = bytes[..32].iter().map(|byte| char::from(b'0' + byte % 10)).collect();
            for secret in [&bytes[..32], hex.as_bytes(), digits.as_bytes()] {
                assert_eq!(weakness(secret), None, "{secret:?}");
            }
        }
    }
}
