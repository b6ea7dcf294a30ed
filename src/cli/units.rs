//! Bytes, ages and numbers as people write and read them.

use std::time::Duration;

use crate::backup_set::timestamp::Timestamp;

pub(super) use crate::human::bytes;

/// A whole number with its thousands apart: `12,345`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let grouped: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|c| std::str::from_utf8(c).ok()).collect();
    grouped.join(",")
}

/// One of a thing, or several.
pub(super) fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// How long ago `then` was, in the largest unit that says it well.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = then.seconds_until(now);
    match seconds {
        ..=-600 => "in future".to_owned(),
        -599..60 => "now".to_owned(),
        60..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The same in a sentence.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    match age(then, now).as_str() {
        "now" => "just now".to_owned(),
        "in future" => "in the future: the clock was or is wrong".to_owned(),
        age => format!("{age} ago"),
    }
}

/// Now, to the second.
pub(super) fn now() -> Timestamp {
    Timestamp::from_instant(jiff::Timestamp::now())
}

/// `26h`, `90m`, `7d`, `45s`: a whole number and one of the units.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let usage = || format!("{text:?} is no length of time; write a whole number and s, m, h or d, as in 26h");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(usage)?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(usage()),
    };
    let number: u64 = number.parse().map_err(|_| usage())?;
    number.checked_mul(seconds).filter(|s| *s > 0).map(Duration::from_secs).ok_or_else(usage)
}

/// `500MB`, `1.5 GB`, `2GiB`, `1048576`: a number and a unit, bytes without one.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let usage = || format!("{text:?} is no size; write a number and B, KB, MB, GB or TB (KiB, MiB, GiB, TiB), as in 5GB");
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(usage()),
    };
    let number: f64 = number.parse().map_err(|_| usage())?;
    let bytes = (number * factor).round();
    if (1.0..9.0e15).contains(&bytes) { Ok(bytes as u64) } else { Err(usage()) }
}

/// How many backups to keep.
pub(super) fn keep(text: &str) -> Result<u32, String> {
    let wanted = "write how many backups to keep, a whole number from 1 to 1000000";
    text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, wanted) in [("5GB", 5_000_000_000), ("1.5 MB", 1_500_000), ("2GiB", 2 << 30), ("7", 7), ("10k", 10_000)] {
            assert_eq!(parse_bytes(text), Ok(wanted), "{text}");
        }
        for text in ["", "GB", "-1", "0", "1 XB", "1..5MB", "1e3", "NaN", "99999TB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_read_as_they_are_written() {
        for (text, wanted) in [("26h", 93_600), ("90m", 5400), ("7d", 604_800), ("45s", 45)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(wanted)), "{text}");
        }
        for text in ["", "26", "h", "0h", "-1h", "1.5h", "1 h", "1w", "99999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn thousands_are_apart_and_no_digit_is_lost(n: u64) {
            let text = count(n);
            prop_assert_eq!(text.replace(',', ""), n.to_string());
            prop_assert!(text.split(',').skip(1).all(|part| part.len() == 3));
        }

        #[test]
        fn no_text_is_a_panic(text in ".{0,12}") {
            let _ = (parse_bytes(&text), parse_duration(&text));
        }
    }
}
