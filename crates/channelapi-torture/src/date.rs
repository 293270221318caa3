//! What time it is, as the server's answers say: the machine's clock, as the server sees it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, sleep};

use crate::http::{Http, Request};
use crate::site::Site;

/// For the server to see the new time: it tells it at most once a second.
const SEEN_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// What the dates may be off, in seconds: far less than any jump, and more than any answer takes.
const LATE: i64 = 60;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Waits until the server's clock is so many hours ahead of ours, or behind if that is negative. A test whose clock did not jump
/// would prove nothing.
pub(crate) async fn until_ahead(site: &Site, hours: i64) -> Result<()> {
    let began = Instant::now();
    loop {
        let mut http = Http::connect(site.address).await?;
        let request = Request { method: "GET", path: "/healthz", headers: "", body: "" };
        let response = http.exchange(&request).await?;
        let date = response.header("date").context("an answer without a date")?;
        let seconds = parse(date).with_context(|| format!("unusable date {date:?}"))?;
        if (seconds - unix_seconds()? - hours * 3600).abs() <= LATE {
            return Ok(());
        }
        ensure!(
            began.elapsed() < SEEN_MAX,
            "the server's clock says {date}, and should be {hours} hours ahead of ours"
        );
        sleep(POLL).await;
    }
}

/// Seconds since 1970, by our own clock.
pub(crate) fn unix_seconds() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

/// Seconds since 1970, from a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse(date: &str) -> Option<i64> {
    let words: Vec<_> = date.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = (1_i64..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let time: Vec<i64> = time.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = time[..] else { return None };
    let days = days(year.parse().ok()?, month, day.parse().ok()?);
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

/// Days since the first of January 1970.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin with March have the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_of_months = (153 * month + 2) / 5;
    // The first of March of the year 0 was 719,468 days before 1970, and days are counted from 1.
    year * 365 + leap_days + days_of_months + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        let check = |date: &str, expected| assert_eq!(parse(date), expected, "{date}");
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799));
        check("Wed, 01 Mar 2000 00:00:00 GMT", Some(951_868_800));
        check("Thu, 31 Dec 2026 12:00:00 GMT", Some(1_798_718_400));
        for other in
            ["", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Nox 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37"]
        {
            check(other, None);
        }
    }
}
