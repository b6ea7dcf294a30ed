//! The name of a set: `YYYYMMDD-HHMMSS` in UTC.

use std::fmt;
use std::str::FromStr;

use jiff::{Timestamp as Instant, ToSpan, civil::DateTime, tz::TimeZone};

use crate::error::{Code, Error};

/// A valid point in time, to the second, as it stands in file names. Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime);

/// Length of the text form.
pub const LEN: usize = 15;

impl Timestamp {
    /// `instant` in UTC, cut to the second.
    pub fn from_instant(instant: Instant) -> Self {
        let t = TimeZone::UTC.to_datetime(instant);
        Timestamp(t.with().subsec_nanosecond(0).build().unwrap_or(t))
    }

    /// The next second; the last representable second stays itself.
    #[must_use]
    pub fn next(self) -> Self {
        Timestamp(self.0.checked_add(1.second()).unwrap_or(self.0))
    }

    /// ISO 8601 in UTC, as in metadata: `2025-01-16T12:00:00Z`.
    pub fn to_iso(self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Seconds since 1970, as Unix counts.
    pub fn to_unix(self) -> i64 {
        TimeZone::UTC.to_timestamp(self.0).map_or(0, |t| t.as_second())
    }

    /// The day in UTC: `2025-01-16`.
    pub fn day(self) -> String {
        self.0.strftime("%Y-%m-%d").to_string()
    }

    /// Seconds from `self` to `later`; negative when `later` is earlier.
    pub fn seconds_until(self, later: Timestamp) -> i64 {
        later.0.duration_since(self.0).as_secs()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        write!(f, "{:04}{:02}{:02}-{:02}{:02}{:02}", t.year(), t.month(), t.day(), t.hour(), t.minute(), t.second())
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Takes the exact form and real dates only; anything else is `INVALID_TIMESTAMP`.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| {
            Error::new(
                Code::InvalidTimestamp,
                format!("{text:?} is not a backup timestamp; it must look like 20250116-120000 (YYYYMMDD-HHMMSS, UTC). listBackups() or `aqe-backup list` shows the ones there are"),
            )
        })
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let b = text.as_bytes();
    let shape = b.len() == LEN && b.iter().enumerate().all(|(i, c)| if i == 8 { *c == b'-' } else { c.is_ascii_digit() });
    if !shape {
        return None;
    }
    let part = |from: usize, to: usize| text[from..to].parse::<i16>().ok();
    let small = |from: usize| part(from, from + 2).and_then(|n| i8::try_from(n).ok());
    DateTime::new(part(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_second_survives_the_trip_through_text(seconds in 0i64..253_402_300_799) {
            let t = Timestamp::from_instant(Instant::from_second(seconds)?);
            prop_assert_eq!(t.to_string().parse::<Timestamp>()?, t);
            prop_assert_eq!(t.to_string().len(), LEN);
            prop_assert_eq!(t.to_unix(), seconds);
        }

        #[test]
        fn text_order_is_time_order(a in 0i64..253_402_300_799, b in 0i64..253_402_300_799) {
            let (x, y) = (Timestamp::from_instant(Instant::from_second(a)?), Timestamp::from_instant(Instant::from_second(b)?));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
            prop_assert_eq!(x.seconds_until(y), b - a);
        }

        #[test]
        fn next_is_one_second_later(seconds in 0i64..253_402_300_000) {
            let t = Timestamp::from_instant(Instant::from_second(seconds)?);
            prop_assert_eq!(t.seconds_until(t.next()), 1);
        }

        #[test]
        fn arbitrary_text_is_refused_or_is_its_own_canonical_form(text in ".{0,20}") {
            if let Ok(t) = text.parse::<Timestamp>() {
                prop_assert_eq!(t.to_string(), text);
            }
        }
    }

    #[test]
    fn patterns_paths_and_shell_text_are_refused_with_the_code() {
        for bad in [
            "",
            "*",
            "../x",
            "$(x)",
            "20250116",
            "20250116-120000 ",
            "20250116-12000",
            "20251316-120000",
            "20250230-120000",
            "20250116-240000",
            "20250116-126000",
            "２0250116-120000",
            "20250116_120000",
        ] {
            let e = bad.parse::<Timestamp>().map(|t| t.to_string());
            assert!(matches!(&e, Err(e) if e.code == Code::InvalidTimestamp), "{bad:?} gave {e:?}");
        }
    }
}
