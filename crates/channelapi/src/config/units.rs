//! Durations and sizes as people write them: `25s`, `10m`, `7d`, `64KiB`, `1MB`.
//!
//! A duration always has a unit, because `timeout = 30` has been read as seconds and as milliseconds by equally
//! reasonable people. A size may be a bare number: it is bytes, and nobody disagrees.

use std::time::Duration;

use super::value::{Shape, Value, not};

/// A day in milliseconds.
const DAY: u64 = 86_400_000;

/// Units of time in milliseconds, largest first, so that `show` finds the largest that divides.
const TIME_UNITS: [(&str, u64); 5] = [("d", DAY), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size in bytes, largest first. At equal standing the powers of two come first: 64 KiB is not 65.536 kB.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl Value for Duration {
    const SHAPE: Shape = Shape::Quantity;
    const PLACEHOLDER: &'static str = "TIME";
    const ACCEPTS: &'static str = "a whole number and a unit: `ms`, `s`, `m`, `h` or `d`";

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let fix = match (number, unit) {
            // The commonest slip deserves the exact text to paste.
            (_, "") if number.parse::<u64>().is_ok_and(|number| number > 0) => {
                return Err(format!("`{text}` has no unit; write {number}s, {number}ms or {number}m"));
            }
            _ => "write a whole number and a unit, such as 500ms, 25s, 10m, 2h or 7d",
        };
        scale(number, unit, &TIME_UNITS, |a, b| a == b)
            .map(Self::from_millis)
            .ok_or_else(|| not(text, "a duration", fix))
    }

    fn show(&self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        match millis {
            0 => "0s".to_owned(),
            // A single day is written as what it is compared with.
            DAY => "24h".to_owned(),
            _ => largest_unit(millis, &TIME_UNITS),
        }
    }

    fn magnitude(&self) -> Option<u128> {
        Some(self.as_millis())
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

impl ByteSize {
    /// The size in bytes.
    pub fn bytes(self) -> usize {
        self.0
    }
}

impl Value for ByteSize {
    const SHAPE: Shape = Shape::Quantity;
    const PLACEHOLDER: &'static str = "SIZE";
    const ACCEPTS: &'static str = "a whole number of bytes, or one with a unit: `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB` or `TiB`";

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text);
        let unit = if unit.is_empty() { "B" } else { unit };
        scale(number, unit, &SIZE_UNITS, str::eq_ignore_ascii_case)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| {
                not(text, "a size", "write bytes or a number with a unit, such as 65536, 64KiB or 1MB")
            })
    }

    fn show(&self) -> String {
        if self.0 == 0 { "0".to_owned() } else { largest_unit(self.0 as u64, &SIZE_UNITS) }
    }

    fn magnitude(&self) -> Option<u128> {
        Some(self.0 as u128)
    }
}

/// Splits `64 KiB` into its digits and its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn scale(number: &str, unit: &str, units: &[(&str, u64)], same: fn(&str, &str) -> bool) -> Option<u64> {
    let (_, factor) = units.iter().find(|(name, _)| same(name, unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn largest_unit(amount: u64, units: &[(&str, u64)]) -> String {
    let (name, factor) = units
        .iter()
        .find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor))
        .unwrap_or_else(|| units.last().expect("the tables above are not empty"));
    format!("{}{name}", amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: Value>(text: &str, expected: Result<(u128, &str), &str>) {
        match (T::parse(text), expected) {
            (Ok(value), Ok((amount, shown))) => {
                assert_eq!((value.magnitude(), value.show().as_str()), (Some(amount), shown), "{text}");
                let again = T::parse(shown).unwrap();
                assert_eq!(again.magnitude(), Some(amount), "{shown} reads back");
            }
            (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
            (got, want) => panic!("{text}: {:?}, wanted {want:?}", got.map(|value| value.show())),
        }
    }

    #[test]
    fn durations_read_as_written() {
        check::<Duration>("25s", Ok((25_000, "25s")));
        check::<Duration>("300ms", Ok((300, "300ms")));
        check::<Duration>("90s", Ok((90_000, "90s")));
        check::<Duration>("60s", Ok((60_000, "1m")));
        check::<Duration>("10 m", Ok((600_000, "10m")));
        check::<Duration>("48h", Ok((172_800_000, "2d")));
        check::<Duration>("1d", Ok((86_400_000, "24h")));
        check::<Duration>("7d", Ok((604_800_000, "7d")));
        check::<Duration>("0s", Ok((0, "0s")));
    }

    #[test]
    fn durations_without_a_clear_meaning_are_refused() {
        check::<Duration>("25", Err("`25` has no unit; write 25s, 25ms or 25m"));
        check::<Duration>("0", Err("is not a duration"));
        check::<Duration>("1.5s", Err("write a whole number and a unit"));
        check::<Duration>("-1s", Err("is not a duration"));
        check::<Duration>("25 sec", Err("such as 500ms, 25s"));
        check::<Duration>("5M", Err("is not a duration"));
        check::<Duration>("s", Err("is not a duration"));
        check::<Duration>("", Err("the value is empty"));
        check::<Duration>("99999999999999999d", Err("is not a duration"));
    }

    #[test]
    fn sizes_read_as_written() {
        check::<ByteSize>("65536", Ok((65_536, "64KiB")));
        check::<ByteSize>("64KiB", Ok((65_536, "64KiB")));
        check::<ByteSize>("64 kib", Ok((65_536, "64KiB")));
        check::<ByteSize>("1MB", Ok((1_000_000, "1MB")));
        check::<ByteSize>("1MiB", Ok((1_048_576, "1MiB")));
        check::<ByteSize>("1000", Ok((1_000, "1kB")));
        check::<ByteSize>("1001B", Ok((1_001, "1001B")));
        check::<ByteSize>("10GB", Ok((10_000_000_000, "10GB")));
        check::<ByteSize>("10 gib", Ok((10_737_418_240, "10GiB")));
        check::<ByteSize>("48TB", Ok((48_000_000_000_000, "48TB")));
        check::<ByteSize>("2048GiB", Ok((2_199_023_255_552, "2TiB")));
        check::<ByteSize>("0", Ok((0, "0")));
    }

    #[test]
    fn sizes_without_a_clear_meaning_are_refused() {
        for wrong in ["64K", "1.5MB", "-1", "lots", "99999999999GiB"] {
            check::<ByteSize>(wrong, Err("write bytes or a number with a unit"));
        }
        check::<ByteSize>("", Err("the value is empty"));
    }
}
