//! Points in time as people and programs write them (RFC 3339), and lifetimes.

use super::fields::invalid;
use super::problem::{Code, Problem};
use crate::config::moment::Moment;
use crate::config::value::Value as _;
use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;
use std::time::Duration;

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// A time in milliseconds since 1970 as `2026-01-31T23:59:59.123Z`.
pub(super) fn rfc3339(unix_millis: u64) -> String {
    let (year, month, day) = date(unix_millis / DAY);
    let millis = unix_millis % DAY;
    let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
    let (second, millis) = (millis / 1000 % 60, millis % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date of a day that is counted from 1970-01-01.
///
/// Years are counted from March, so that the day that comes and goes is the last of its year, and in groups of 400, after which
/// the calendar repeats itself.
fn date(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01.
    let days = days + 719_468;
    let (group, day) = (days / 146_097, days % 146_097);
    // Every 4th year has a day more, but not every 100th, but every 400th.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months from March, and again from August, have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (group * 400 + year + u64::from(is_next_year), month, day)
}

/// A time to live: a number of seconds, or a text with a unit.
pub(super) fn ttl(raw: &RawValue) -> Result<Duration, Problem> {
    let refuse = |detail: String| Problem::new(Code::InvalidTtl, detail);
    let ttl = if let Some(text) = read::<String>(raw) {
        Duration::parse(&text).map_err(|error| refuse(format!("`ttl`: {error}.")))?
    } else if let Some(seconds) = read::<f64>(raw) {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| refuse("`ttl`: the number of seconds is negative or too large.".into()))?
    } else {
        return Err(refuse("`ttl` must be a number of seconds or a text such as \"30s\".".into()));
    };
    if ttl < Duration::from_millis(1) {
        return Err(refuse("`ttl` must be more than 0.".into()));
    }
    Ok(ttl)
}

/// A point in time in milliseconds since 1970: a number of seconds, or a text as in RFC 3339.
pub(super) fn moment(name: &str, raw: &RawValue) -> Result<u64, Problem> {
    let refuse = |what: &str| invalid(format!("`{name}`: {what}."));
    if let Some(text) = read::<String>(raw) {
        return Moment::parse(&text).map(|moment| moment.unix_millis()).map_err(|error| refuse(&error));
    }
    let seconds: Number = read(raw).ok_or_else(|| {
        refuse("write a text such as \"2030-01-31T12:00:00Z\", or a number of seconds since 1970")
    })?;
    let millis = seconds.as_u64().and_then(|seconds| seconds.checked_mul(1_000));
    millis.ok_or_else(|| refuse("a number of seconds since 1970 is whole and not negative"))
}

/// A value, if it is of that type. It is never read as any JSON: that would take some objects for texts and numbers.
fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let check = |unix_millis, expected| assert_eq!(rfc3339(unix_millis), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_704_067_199_001, "2023-12-31T23:59:59.001Z");
        check(1_709_164_800_000, "2024-02-29T00:00:00.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = date(0);
        for day in 1..200_000 {
            let (year, month, of_month) = date(day);
            let is_leap =
                |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let length = match before.1 {
                2 => 28 + u64::from(is_leap(before.0)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let expected = match before {
                (year, month, of_month) if of_month < length => (year, month, of_month + 1),
                (year, 12, _) => (year + 1, 1, 1),
                (year, month, _) => (year, month + 1, 1),
            };
            before = (year, month, of_month);
            assert_eq!(before, expected);
        }
    }

    #[test]
    fn a_lifetime_is_a_number_of_seconds_or_has_a_unit() {
        let of = |json: &str| {
            ttl(&RawValue::from_string(json.to_owned()).unwrap()).map_err(|problem| problem.code)
        };
        assert_eq!(of("30"), Ok(Duration::from_secs(30)));
        assert_eq!(of("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(of(r#""30s""#), Ok(Duration::from_secs(30)));
        assert_eq!(of(r#""7d""#), Ok(Duration::from_hours(7 * 24)));
        let dressed = [
            r#"{"$serde_json::private::RawValue":"30"}"#,
            r#"{"$serde_json::private::RawValue":"\"30s\""}"#,
            r#"{"$serde_json::private::Number":"30"}"#,
        ];
        let wrong = ["0", "-1", "1e300", "1e400", r#""0s""#, r#""30""#, r#""soon""#, "true", "null", "[]"];
        for json in wrong.into_iter().chain(dressed) {
            assert_eq!(of(json), Err(Code::InvalidTtl), "{json}");
        }
    }

    #[test]
    fn a_point_in_time_is_text_or_seconds() {
        let of = |json: &str| {
            moment("t", &RawValue::from_string(json.to_owned()).unwrap()).map_err(|problem| problem.code)
        };
        assert_eq!(of("0"), Ok(0));
        assert_eq!(of("1700000000"), Ok(1_700_000_000_000));
        assert_eq!(of(r#""2000-03-01T00:00:00.001Z""#), Ok(951_868_800_001));
        let dressed = r#"{"$serde_json::private::RawValue":"0"}"#;
        for json in ["-1", "0.5", "18446744073709551615", r#""soon""#, "null", "{}", dressed] {
            assert_eq!(of(json), Err(Code::InvalidBody), "{json}");
        }
    }
}
