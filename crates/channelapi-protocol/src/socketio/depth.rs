//! How deeply JSON is nested, without parsing it.

/// Whether arrays and objects in `json` are nested deeper than `limit`. For text that is not JSON the answer means nothing;
/// it costs one pass and no stack either way.
pub fn is_deeper_than(limit: usize, json: &str) -> bool {
    // What has fewer brackets than levels is not that deep, whatever stands between them. Counting is much cheaper than reading.
    if brackets(json.as_bytes()) <= limit {
        return false;
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            // Whatever is escaped, it does not end the string.
            b'\\' if in_string => _ = bytes.next(),
            b'[' | b'{' if !in_string => {
                depth = depth.saturating_add(1);
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// How many brackets open in `bytes`. Those of so few bytes at once are counted in a byte, which is done for many at a time.
fn brackets(bytes: &[u8]) -> usize {
    let count =
        |few: &[u8]| few.iter().fold(0, |count: u8, byte| count.wrapping_add((byte | 0x20 == b'{').into()));
    bytes.chunks(u8::MAX.into()).map(|few| usize::from(count(few))).sum()
}

#[cfg(test)]
mod tests {
    use super::{brackets, is_deeper_than};

    #[test]
    fn counts_brackets_outside_of_strings() {
        let check = |json, depth: usize| {
            assert!(is_deeper_than(depth - 1, json), "{json} is as deep as {depth}");
            assert!(!is_deeper_than(depth, json), "{json} is not deeper than {depth}");
        };
        check("[]", 1);
        check(r#"[{"a":[1]},[[2]]]"#, 3);
        check(r#"["[[[[\"[[", {}]"#, 2);
        check(r#"["\\", [[]]]"#, 3);
        assert!(is_deeper_than(32, &"[".repeat(100_000)));
        assert!(is_deeper_than(32, &"[{".repeat(17)));
        assert!(!is_deeper_than(32, &format!("\"{}\"", "[".repeat(100))));
        for count in [0, 254, 255, 256, 1000] {
            assert_eq!(brackets("[]{}".repeat(count).as_bytes()), 2 * count);
        }
    }
}
