//! How deeply JSON is nested, without parsing it.

/// Whether arrays and objects in `json` are nested deeper than `limit`. For text that is not JSON the answer means nothing;
/// it costs one pass and no stack either way.
pub fn is_deeper_than(limit: usize, json: &str) -> bool {
    // What has fewer brackets than levels is not that deep, whatever stands between them. Counting is much cheaper than reading.
    if json.bytes().filter(|byte| byte | 0x20 == b'{').count() <= limit {
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

#[cfg(test)]
mod tests {
    use super::is_deeper_than;

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
    }
}
