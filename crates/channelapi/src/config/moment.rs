//! Points in time, as TOML and RFC 3339 write them: `2030-01-31T12:00:00Z`.

use toml::value::{Datetime, Offset};

use super::value::{Shape, Value, not};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// A point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    text: String,
    unix_millis: u64,
}

impl Moment {
    /// Milliseconds since 1970.
    pub fn unix_millis(&self) -> u64 {
        self.unix_millis
    }
}

impl Value for Moment {
    const SHAPE: Shape = Shape::Moment;
    const PLACEHOLDER: &'static str = "TIME";
    const ACCEPTS: &'static str = "a date and time with `Z` or an offset, or a date, which begins at midnight UTC; with or without \
                                   quotes";

    fn parse(text: &str) -> Result<Self, String> {
        let fix = "write a date and time with Z or an offset, such as 2030-01-31T12:00:00Z, or a date, such as 2030-01-31";
        let written: Datetime = text.parse().map_err(|_| not(text, "a point in time", fix))?;
        let date = written.date.ok_or_else(|| not(text, "a point in time", fix))?;
        let mut millis = days(i64::from(date.year), i64::from(date.month), i64::from(date.day)) * DAY;
        if let Some(time) = written.time {
            let offset = match written.offset {
                Some(Offset::Z) => 0,
                Some(Offset::Custom { minutes }) => i64::from(minutes),
                None => {
                    return Err(format!("`{text}` does not say in which time zone; write {text}Z for UTC"));
                }
            };
            let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - offset;
            millis += (minutes * 60 + i64::from(time.second.unwrap_or(0))) * 1000;
            millis += i64::from(time.nanosecond.unwrap_or(0)) / 1_000_000;
        }
        let unix_millis = u64::try_from(millis).map_err(|_| format!("`{text}` is before 1970; {fix}"))?;
        Ok(Self { text: text.to_owned(), unix_millis })
    }

    fn show(&self) -> String {
        self.text.clone()
    }
}

/// Days from 1970-01-01 to a date of the calendar.
///
/// Years are counted from March, so that the day that comes and goes is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Five months from March, and again from August, have 153 days; 719,468 days before 1970 was 0000-03-01.
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (text, expected) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-02T01:00:00+01:00", 86_400_000),
            ("2000-02-29", 951_782_400_000),
            ("2000-03-01T00:00:00.001Z", 951_868_800_001),
            ("2024-02-28 23:59:59-00:00", 1_709_164_799_000),
            ("2023-12-31T18:59:59.001-05:00", 1_704_067_199_001),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            let moment = Moment::parse(text).unwrap();
            assert_eq!((moment.unix_millis(), moment.show().as_str()), (expected, text));
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..2400 {
            for month in 1..=12 {
                let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                let length = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
                for day in 1..=length[month - 1] {
                    assert_eq!(days(year, i64::try_from(month).unwrap(), day), expected);
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn what_is_no_moment_is_answered_with_one() {
        for (text, part) in [
            ("", "the value is empty"),
            ("tomorrow", "such as 2030-01-31T12:00:00Z"),
            ("2030-02-30", "such as 2030-01-31T12:00:00Z"),
            ("12:00:00", "such as 2030-01-31T12:00:00Z"),
            ("30d", "such as 2030-01-31T12:00:00Z"),
            ("2030-01-31T12:00:00", "write 2030-01-31T12:00:00Z for UTC"),
            ("1969-12-31", "before 1970"),
        ] {
            let message = Moment::parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
