//! The first 100 bytes of a database: what they say, and which of them a restore must not copy. Values in, values out.
//! Offsets are those of the file format (sqlite.org/fileformat2.html, 1.3).

/// Bytes of the header.
pub const LEN: usize = 100;

/// How every SQLite file of at least one page begins.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What decides whether pages of one database can stand in another: like onto like only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a page, 512–65536.
    pub page_size: u32,
    reserved: u8,
    auto_vacuum: bool,
    incremental: bool,
    encoding: u32,
}

/// The fields of a header that this crate acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// See [`Layout`].
    pub layout: Layout,
    /// Changes with every change of the schema; connections trust what they cached under it.
    pub schema_cookie: u32,
    /// `PRAGMA application_id`.
    pub application_id: u32,
    /// `PRAGMA user_version`.
    pub user_version: u32,
    /// Pages, as the header has it.
    pub page_count: u32,
}

/// The header of `page1`, if it is one.
pub fn parse(page1: &[u8]) -> Option<Header> {
    if page1.len() < LEN || !page1.starts_with(MAGIC) {
        return None;
    }
    let page_size = match u16::from_be_bytes([page1[16], page1[17]]) {
        1 => 65536,
        n if n >= 512 && n.is_power_of_two() => u32::from(n),
        _ => return None,
    };
    let layout = Layout {
        page_size,
        reserved: page1[20],
        auto_vacuum: word(page1, 52) != 0,
        incremental: word(page1, 64) != 0,
        // 0 stands for "no table yet", which every connection reads as UTF-8.
        encoding: word(page1, 56).max(1),
    };
    Some(Header {
        layout,
        schema_cookie: word(page1, 40),
        application_id: word(page1, 68),
        user_version: word(page1, 60),
        page_count: word(page1, 28),
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Offsets in page 1 that legitimately differ between a backup and the database restored from it: journal mode,
/// change counter, schema cookie, version-valid-for and the version of the last writer.
fn is_volatile(offset: usize) -> bool {
    matches!(offset, 18..=19 | 24..=27 | 40..=43 | 92..=99)
}

/// Whether two first pages hold the same database.
pub fn same_page1(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).enumerate().all(|(i, (x, y))| x == y || is_volatile(i))
}

/// How far a restore moves the schema cookie. `sqlite3_backup` adds one, which is enough for connections that cached
/// the old schema; the larger step also tells, after a crash, a database that the restore reached from one that it
/// did not, as long as the application changed its schema fewer than [`COOKIE_STEP`]/2 times in between.
pub const COOKIE_STEP: u32 = 1 << 16;

/// The cookie that a restore over a database with cookie `live` leaves.
pub fn next_cookie(live: u32) -> u32 {
    live.wrapping_add(COOKIE_STEP)
}

/// Whether a database whose cookie is `now` was reached by a restore that was to leave `expected`.
pub fn cookie_reached(now: u32, expected: u32) -> bool {
    now.wrapping_sub(expected) < COOKIE_STEP / 2
}

/// Whether `now` is `expected` or any later cookie.
pub fn cookie_is_past(now: u32, expected: u32) -> bool {
    now.wrapping_sub(expected) < u32::MAX / 2
}

/// Page 1 of the backup as it goes into the live database: the live journal mode stays (bytes 18–19), the cookie
/// becomes `cookie`, the change counters are SQLite's own business.
pub fn merge_page1(backup: &[u8], live: &[u8], cookie: u32) -> Vec<u8> {
    let mut page = backup.to_vec();
    page[18..20].copy_from_slice(&live[18..20]);
    page[40..44].copy_from_slice(&cookie.to_be_bytes());
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(size: u16, seed: u8) -> Vec<u8> {
        let mut p = vec![seed; 512];
        p[..16].copy_from_slice(MAGIC);
        p[16..18].copy_from_slice(&size.to_be_bytes());
        p
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_merged_page_is_the_backups_but_for_the_volatile_bytes(backup in any::<u8>(), live in any::<u8>(), cookie in any::<u32>()) {
            let merged = merge_page1(&page(4096, backup), &page(4096, live), cookie);
            prop_assert!(same_page1(&merged, &page(4096, backup)));
            prop_assert_eq!(parse(&merged).map(|h| h.schema_cookie), Some(cookie));
        }

        #[test]
        fn a_cookie_tells_reached_from_not_reached(live in any::<u32>(), changes in 0u32..(COOKIE_STEP / 2)) {
            prop_assert!(cookie_reached(next_cookie(live).wrapping_add(changes), next_cookie(live)));
            prop_assert!(!cookie_reached(live.wrapping_add(changes), next_cookie(live)));
        }
    }

    #[test]
    fn a_difference_outside_the_volatile_bytes_is_seen() {
        for at in [20, 28, 44, 60, 68, 91, 100, 511] {
            let mut other = page(4096, 7);
            other[at] ^= 1;
            assert!(!same_page1(&page(4096, 7), &other), "offset {at}");
        }
    }
}
