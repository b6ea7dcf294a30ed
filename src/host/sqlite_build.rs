//! Which SQLite an executable file carries. SQLite writes the date and hash of its source into every build; that text is
//! looked for in the file's bytes, whatever the file is called and however SQLite was linked into it.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memmem;

use crate::error::{Error, Result};
use crate::sqlite::posix_locks::GUARD_MARK;

/// One build of SQLite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Day of its last source change, `2026-03-13`.
    pub date: String,
    /// `3.51.3`, where the file says it clearly.
    pub version: Option<String>,
    /// It is ours, which guards the locks of other copies in its process.
    pub guarded: bool,
}

/// The first release without the WAL-reset bug has this date, and so, or a later one, have all others without it: 3.51.3
/// and the corrected 3.50.7 and 3.44.6 were made after the bug was found (2026-03-03). So the date decides and no list of
/// versions is needed (sqlite.org/wal.html#walresetbug).
const FIXED: &str = "2026-03-06";

impl Build {
    /// Whether a checkpoint of it may, rarely, skip pages that another connection has just committed.
    pub fn has_wal_reset_bug(&self) -> bool {
        self.date.as_str() < FIXED
    }

    /// `SQLite 3.51.3`, or `SQLite of 2026-03-13`.
    pub fn name(&self) -> String {
        self.version.as_ref().map_or_else(|| format!("SQLite of {}", self.date), |v| format!("SQLite {v}"))
    }
}

const BLOCK: usize = 1 << 20;
/// `2022-12-28 14:03:47 ` and the first 40 digits of a hash: older ids have no more, those of changed sources end otherwise.
const ID: usize = 20 + 40;
/// The version stands near the id: measured 0.1 to 20 KB away in Node, better-sqlite3 and Debian's library. Farther away,
/// `3.x.y` is somebody else's version.
const NEAR: u64 = 64 << 10;

/// Looks through `file`, which must be an ELF file; `None` if it is none or has no SQLite in it. `check` may call it off.
pub fn find(file: &mut (impl Read + Seek), mut check: impl FnMut() -> Result<()>) -> Result<Option<Build>> {
    let mut magic = [0u8; 4];
    if file.read_exact(&mut magic).is_err() || magic != *b"\x7fELF" {
        return Ok(None);
    }
    let mut id = None;
    blocks(file, ID, &mut check, |at, block| {
        id = find_id(block).map(|i| (at + i as u64, String::from_utf8_lossy(&block[i..i + 10]).into_owned()));
        id.is_some()
    })
    .map_err(Stop::into_error)?;
    let Some((at, date)) = id else { return Ok(None) };
    let mut guarded = false;
    blocks(file, GUARD_MARK.len(), &mut check, |_, block| {
        guarded = memmem::find(block, GUARD_MARK).is_some();
        guarded
    })
    .map_err(Stop::into_error)?;
    let version = version_near(file, at).map_err(unread)?;
    Ok(Some(Build { date, version, guarded }))
}

/// An error of ours, or one of reading.
enum Stop {
    Ours(Error),
    Read(io::Error),
}

impl Stop {
    fn into_error(self) -> Error {
        match self {
            Stop::Ours(e) => e,
            Stop::Read(e) => unread(e),
        }
    }
}

fn unread(e: io::Error) -> Error {
    Error::io(e, "read", Path::new("a mapped file"))
}

/// Gives `each` the file block by block, each one beginning with the end of the one before, so that nothing of `length`
/// bytes is cut in two; until it says that it has enough.
fn blocks(
    file: &mut (impl Read + Seek),
    length: usize,
    check: &mut impl FnMut() -> Result<()>,
    mut each: impl FnMut(u64, &[u8]) -> bool,
) -> Result<(), Stop> {
    file.seek(SeekFrom::Start(0)).map_err(Stop::Read)?;
    let mut buffer = vec![0u8; BLOCK + length];
    let (mut kept, mut at) = (0, 0u64);
    loop {
        check().map_err(Stop::Ours)?;
        let n = match file.read(&mut buffer[kept..]) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(Stop::Read)?,
        };
        let filled = kept + n;
        if n == 0 || each(at, &buffer[..filled]) {
            return Ok(());
        }
        let keep = filled.min(length - 1);
        buffer.copy_within(filled - keep..filled, 0);
        at += (filled - keep) as u64;
        kept = keep;
    }
}

/// Where a source id begins. Boyer–Moore–Horspool over classes of characters: most of a program is none of them, so most
/// looks skip 20 bytes.
fn find_id(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at + ID <= bytes.len() {
        let last = bytes[at + 19];
        if last == b' ' && is_id(&bytes[at..at + ID]) {
            return Some(at);
        }
        at += match last {
            b'0'..=b'9' => 1,
            b':' => 3,
            b' ' => 9,
            b'-' => 12,
            _ => 20,
        };
    }
    None
}

fn is_id(bytes: &[u8]) -> bool {
    let shape = b"20dd-dd-dd dd:dd:dd ";
    let fits = |(byte, wanted): (&u8, &u8)| if *wanted == b'd' { byte.is_ascii_digit() } else { byte == wanted };
    bytes.iter().zip(shape).all(fits) && bytes[20..ID].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn version_near(file: &mut (impl Read + Seek), id: u64) -> io::Result<Option<String>> {
    let from = id.saturating_sub(NEAR);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(2 * NEAR).read_to_end(&mut bytes)?;
    let found = versions(&bytes).min_by_key(|(at, _)| (from + *at as u64).abs_diff(id));
    Ok(found.map(|(_, text)| text))
}

/// Every text that is `3.x.y` and nothing else.
fn versions(bytes: &[u8]) -> impl Iterator<Item = (usize, String)> + '_ {
    let starts = bytes.windows(3).enumerate().filter(|(i, w)| w.starts_with(b"3.") && *i > 0 && !bytes[i - 1].is_ascii_graphic());
    starts.filter_map(|(i, _)| {
        let end = bytes[i..].iter().take(8).position(|b| *b == 0)?;
        let text = std::str::from_utf8(&bytes[i..i + end]).ok()?;
        let parts: Vec<u32> = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        // The first with a source id of this form is 3.6.18.
        (parts.len() == 3 && parts[1] >= 6).then(|| (i, text.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    const HASH: &str = "737ae4a34738ffa0c3ff7f9bb18df914dd1cad163f28fd6b6e114a344fe6";

    fn look(bytes: Vec<u8>) -> Option<Build> {
        find(&mut Cursor::new(bytes), || Ok(())).unwrap_or_else(|e| panic!("{e}"))
    }

    fn elf(before: usize, text: &[u8], after: usize) -> Vec<u8> {
        [b"\x7fELF".as_slice(), &vec![0; before], text, &vec![0; after]].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn an_id_is_found_wherever_it_stands_and_whatever_is_around_it(before in (BLOCK - 200)..(BLOCK + 200), noise in proptest::collection::vec(any::<u8>(), 0..300), tail in "[0-9a-z]{0,4}") {
            let text = [&noise[..], format!("\x01{}\x00x 2024-05-23 13:25:27 {HASH}{tail}\0", "3.46.0").as_bytes()].concat();
            prop_assert_eq!(look(elf(before, &text, 70_000)), Some(Build { date: "2024-05-23".into(), version: Some("3.46.0".into()), guarded: false }));
        }

        #[test]
        fn noise_is_no_sqlite(noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(look(elf(0, &noise, 0)), None);
        }
    }

    #[test]
    fn the_guard_is_known_by_its_mark_and_a_file_that_is_not_elf_by_nothing() {
        let id = format!("2026-03-13 10:38:09 {HASH}d618");
        let text = [id.as_bytes(), &vec![0; BLOCK], GUARD_MARK].concat();
        assert_eq!(look(elf(10, &text, 10)), Some(Build { date: "2026-03-13".into(), version: None, guarded: true }));
        assert_eq!(look(text), None);
    }

    #[test]
    fn the_date_tells_builds_with_the_wal_reset_bug_from_those_without() {
        let with = |date: &str| Build { date: date.into(), version: None, guarded: false }.has_wal_reset_bug();
        // 3.40.1, 3.51.2; 3.52.0, 3.51.3, 3.53.0.
        assert_eq!(["2022-12-28", "2026-01-09"].map(with), [true, true]);
        assert_eq!(["2026-03-06", "2026-03-13", "2026-04-09"].map(with), [false, false, false]);
    }

    #[test]
    fn versions_of_others_are_not_taken_for_sqlites() {
        let id = format!("\0\x003.1.2\0v3.46.0\0003.46\0003.46.0.1\x002024-05-23 13:25:27 {HASH}");
        assert_eq!(look(elf(10, id.as_bytes(), 10)).and_then(|b| b.version), None);
    }
}
