//! Bytes as people read them.

const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];

/// `n` bytes, in powers of 1000 as file managers and disks count.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    // 999.95 would be shown as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_never_shows_a_thousand_of_its_unit() {
        assert_eq!(
            (bytes(999), bytes(1000), bytes(999_949), bytes(999_950), bytes(u64::MAX)),
            ("999 B".into(), "1.0 KB".into(), "999.9 KB".into(), "1.0 MB".into(), "18446744.1 TB".into())
        );
    }
}
