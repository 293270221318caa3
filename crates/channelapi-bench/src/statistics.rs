//! Medians, percentiles and quotients.

use std::time::Duration;

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(upper), 0) => Some(f64::midpoint(sorted[middle - 1], *upper)),
        (upper, _) => upper.copied(),
    }
}

/// The smallest value that at least `percent` of a hundred are not above; `sorted` must be, shortest first.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    permille(sorted, percent * 10)
}

/// The same in parts of a thousand.
pub(crate) fn permille(sorted: &[Duration], permille: usize) -> Option<Duration> {
    let rank = (sorted.len() * permille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// For tables; nothing is 0.
pub(crate) fn milliseconds(latency: Option<Duration>) -> f64 {
    latency.map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
}

/// Bytes of one.
pub(crate) const MEBIBYTE: f64 = 1_048_576.0;

/// For tables.
pub(crate) fn mebibytes(bytes: usize) -> f64 {
    real(bytes) / MEBIBYTE
}

/// `total / count` in floating point: what one of `count` cost.
pub(crate) fn each(total: f64, count: usize) -> f64 {
    total / real(count)
}

/// A count as a floating-point number.
#[expect(clippy::cast_precision_loss, reason = "counts of bytes, nanoseconds and clients are far below 2^53")]
pub(crate) fn real(count: usize) -> f64 {
    count as f64
}

/// The same of a number of publications.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn real_u64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 6.0]), Some(5.5));
    }

    #[test]
    fn percentile_is_a_value_that_occurred() {
        let hundred: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(percentile(&hundred, 50), Some(Duration::from_micros(50)));
        assert_eq!(percentile(&hundred, 99), Some(Duration::from_micros(99)));
        assert_eq!(permille(&hundred, 999), Some(Duration::from_micros(100)));
        assert_eq!(percentile(&hundred, 100), Some(Duration::from_micros(100)));
        assert_eq!(percentile(&hundred[..1], 99), Some(Duration::from_micros(1)));
        assert_eq!(percentile(&[], 99), None);
    }

    #[test]
    fn each_is_the_share_of_one() {
        assert!((each(10.0, 4) - 2.5).abs() < f64::EPSILON);
    }
}
