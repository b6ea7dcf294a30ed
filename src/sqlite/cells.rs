//! Values of a row as SQLite stores them, and the order it keeps them in.

use std::borrow::Cow;
use std::cmp::Ordering;

use rusqlite::Row;
use rusqlite::types::ValueRef;

/// How a database stores text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// One to four bytes a character.
    Utf8,
    /// Two bytes a unit, low byte first.
    Utf16le,
    /// Two bytes a unit, high byte first.
    Utf16be,
}

impl Encoding {
    /// From `PRAGMA encoding`.
    pub fn parse(pragma: &str) -> Self {
        match pragma {
            "UTF-16le" => Encoding::Utf16le,
            "UTF-16be" => Encoding::Utf16be,
            _ => Encoding::Utf8,
        }
    }

    /// As `PRAGMA encoding` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16le => "UTF-16le",
            Encoding::Utf16be => "UTF-16be",
        }
    }

    /// Text for people; what is no text becomes U+FFFD.
    pub fn decode(self, bytes: &[u8]) -> Cow<'_, str> {
        let wide = |unit: fn([u8; 2]) -> u16| {
            let units = bytes.as_chunks::<2>().0.iter().map(|c| unit(*c));
            Cow::Owned(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        };
        match self {
            Encoding::Utf8 => String::from_utf8_lossy(bytes),
            Encoding::Utf16le => wide(u16::from_le_bytes),
            Encoding::Utf16be => wide(u16::from_be_bytes),
        }
    }

    /// The start of the character that the byte at `at` belongs to.
    pub fn boundary(self, bytes: &[u8], at: usize) -> usize {
        let low_surrogate = |i: usize, high: usize| bytes.get(i + high).is_some_and(|b| (0xdc..=0xdf).contains(b));
        let continues = |i: usize| match self {
            Encoding::Utf8 => bytes.get(i).is_some_and(|b| b & 0xc0 == 0x80),
            Encoding::Utf16le => i % 2 == 1 || low_surrogate(i, 1),
            Encoding::Utf16be => i % 2 == 1 || low_surrogate(i, 0),
        };
        // No character is longer than four bytes; what goes on longer is no text.
        (0..4).map(|back| at.saturating_sub(back)).find(|i| !continues(*i)).unwrap_or(at)
    }
}

/// A collation whose order is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// Bytes as they are stored.
    Binary,
    /// ASCII letters without their case.
    NoCase,
    /// Without the spaces at the end.
    Rtrim,
}

impl Collation {
    /// One of SQLite's own; `None` for an application's.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "BINARY" => Some(Collation::Binary),
            "NOCASE" => Some(Collation::NoCase),
            "RTRIM" => Some(Collation::Rtrim),
            _ => None,
        }
    }

    /// The name for SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Collation::Binary => "BINARY",
            Collation::NoCase => "NOCASE",
            Collation::Rtrim => "RTRIM",
        }
    }

    fn compare(self, a: &[u8], b: &[u8], encoding: Encoding) -> Ordering {
        // SQLite has the other two for UTF-8 only, and converts.
        let utf8 = |f: fn(&[u8], &[u8]) -> Ordering| match encoding {
            Encoding::Utf8 => f(a, b),
            _ => f(encoding.decode(a).as_bytes(), encoding.decode(b).as_bytes()),
        };
        match self {
            Collation::Binary => a.cmp(b),
            Collation::NoCase => utf8(nocase),
            Collation::Rtrim => utf8(|a, b| rtrim(a).cmp(rtrim(b))),
        }
    }
}

/// As SQLite has it: a NUL in both ends the comparison of characters, then the lengths decide.
fn nocase(a: &[u8], b: &[u8]) -> Ordering {
    let upto = a.iter().zip(b).position(|(x, y)| *x == 0 || !x.eq_ignore_ascii_case(y));
    upto.map_or(Ordering::Equal, |i| a[i].to_ascii_lowercase().cmp(&b[i].to_ascii_lowercase())).then(a.len().cmp(&b.len()))
}

fn rtrim(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| *b != b' ').map_or(0, |i| i + 1);
    &text[..end]
}

/// A value that lies in SQLite's memory, or in ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT, in the encoding of its database.
    Text(&'a [u8]),
    /// BLOB.
    Blob(&'a [u8]),
}

impl Cell<'_> {
    /// Numbers before text before blobs, NULL first of all.
    fn class(self) -> u8 {
        match self {
            Cell::Null => 0,
            Cell::Integer(_) | Cell::Real(_) => 1,
            Cell::Text(_) => 2,
            Cell::Blob(_) => 3,
        }
    }

    /// The order of an index with this collation.
    pub fn order(self, other: Cell<'_>, collation: Collation, encoding: Encoding) -> Ordering {
        match (self, other) {
            (Cell::Integer(a), Cell::Integer(b)) => a.cmp(&b),
            (Cell::Real(a), Cell::Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Cell::Integer(a), Cell::Real(b)) => integer_and_real(a, b),
            (Cell::Real(a), Cell::Integer(b)) => integer_and_real(b, a).reverse(),
            (Cell::Text(a), Cell::Text(b)) => collation.compare(a, b, encoding),
            (Cell::Blob(a), Cell::Blob(b)) => a.cmp(b),
            (a, b) => a.class().cmp(&b.class()),
        }
    }

    /// A total order of values: no two different ones are equal in it, save 0.0 and -0.0.
    pub fn total_order(self, other: Cell<'_>, encoding: Encoding) -> Ordering {
        let is_real = |c: Cell<'_>| matches!(c, Cell::Real(_));
        self.order(other, Collation::Binary, encoding).then(is_real(self).cmp(&is_real(other)))
    }
}

/// Exact, unlike a comparison of both as floating point.
fn integer_and_real(a: i64, b: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if b < -LIMIT {
        return Ordering::Greater;
    }
    if b >= LIMIT {
        return Ordering::Less;
    }
    // In range, so only the fraction is cut off.
    #[allow(clippy::cast_possible_truncation)]
    let whole = b as i64;
    a.cmp(&whole).then_with(|| (whole as f64).partial_cmp(&b).unwrap_or(Ordering::Equal))
}

/// How columns are asked for, so that every byte of them can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading(pub Encoding);

impl Reading {
    /// SQL of one column. From UTF-16, text comes as bytes with a flag: converting it would make different texts equal.
    pub fn select(self, column: &str) -> String {
        match self.0 {
            Encoding::Utf8 => column.to_owned(),
            _ => format!("CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} END, typeof({column}) = 'text'"),
        }
    }

    /// Column `i` of a row that was asked for so.
    pub fn cell<'r>(self, row: &'r Row<'_>, i: usize) -> rusqlite::Result<Cell<'r>> {
        if self.0 == Encoding::Utf8 {
            return Ok(plain(row.get_ref(i)?));
        }
        match (plain(row.get_ref(2 * i)?), row.get_ref(2 * i + 1)?) {
            (Cell::Blob(bytes), ValueRef::Integer(1)) => Ok(Cell::Text(bytes)),
            (cell, _) => Ok(cell),
        }
    }
}

fn plain(value: ValueRef<'_>) -> Cell<'_> {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(i) => Cell::Integer(i),
        ValueRef::Real(r) => Cell::Real(r),
        ValueRef::Text(t) => Cell::Text(t),
        ValueRef::Blob(b) => Cell::Blob(b),
    }
}

/// A row of either side.
#[derive(Clone, Copy)]
pub struct Line<'r> {
    row: &'r Row<'r>,
    reading: Reading,
}

impl<'r> Line<'r> {
    /// A row that is read in this way.
    pub fn new(row: &'r Row<'r>, reading: Reading) -> Self {
        Line { row, reading }
    }

    /// Its value of column `i`.
    pub fn cell(self, i: usize) -> rusqlite::Result<Cell<'r>> {
        self.reading.cell(self.row, i)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;
    use rusqlite::types::Value;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let edge = prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(1 << 53), Just((1 << 53) + 1), -3i64..3];
        let text = proptest::collection::vec(
            prop_oneof![Just('a'), Just('A'), Just(' '), Just('Z'), Just('_'), Just('\0'), Just('é'), Just('\u{ff5e}'), Just('😀')],
            0..4,
        );
        prop_oneof![
            Just(Value::Null),
            edge.clone().prop_map(Value::Integer),
            edge.prop_map(|i| Value::Real(i as f64)),
            prop_oneof![Just(0.5), Just(-1.5), Just(1e300), Just(f64::INFINITY), Just(-0.0)].prop_map(Value::Real),
            text.prop_map(|t| Value::Text(t.into_iter().collect())),
            proptest::collection::vec(any::<u8>(), 0..3).prop_map(Value::Blob),
        ]
    }

    fn check(a: &Value, b: &Value, pragma: &str, collation: Collation) -> Result<(), TestCaseError> {
        let e = |e: rusqlite::Error| TestCaseError::fail(e.to_string());
        let c = Connection::open_in_memory().map_err(e)?;
        c.execute_batch(&format!("PRAGMA encoding = '{pragma}'; CREATE TABLE t(a, b)")).map_err(e)?;
        c.execute("INSERT INTO t VALUES (?1, ?2)", (a, b)).map_err(e)?;
        let reading = Reading(Encoding::parse(pragma));
        let sql = format!(
            // An index orders NULL too, which `<` does not.
            "SELECT {}, {}, a IS b COLLATE {collation}, (SELECT x FROM (SELECT 1 AS x, a AS y FROM t UNION ALL SELECT 2, b FROM t) ORDER BY y COLLATE {collation} LIMIT 1) FROM t",
            reading.select("a"),
            reading.select("b"),
            collation = collation.as_str()
        );
        let mut statement = c.prepare(&sql).map_err(e)?;
        let mut rows = statement.query([]).map_err(e)?;
        let row = rows.next().map_err(e)?.ok_or_else(|| TestCaseError::fail("no row"))?;
        let width = row.as_ref().column_count();
        let (x, y) = (reading.cell(row, 0).map_err(e)?, reading.cell(row, 1).map_err(e)?);
        let equal: bool = row.get(width - 2).map_err(e)?;
        let first: i64 = row.get(width - 1).map_err(e)?;
        let wanted = if equal {
            Ordering::Equal
        } else if first == 1 {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        prop_assert_eq!(x.order(y, collation, reading.0), wanted, "{:?} {:?} {:?}", x, y, collation);
        Ok(())
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_sqlite(a in value(), b in value(), encoding in 0usize..3, collation in 0usize..3) {
            let collation = [Collation::Binary, Collation::NoCase, Collation::Rtrim][collation];
            check(&a, &b, ["UTF-8", "UTF-16le", "UTF-16be"][encoding], collation)?;
        }

        #[test]
        fn a_boundary_is_never_inside_a_character(text in "[a-é漢😀]{0,20}", at in 0usize..80) {
            let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            for (encoding, bytes) in [(Encoding::Utf8, text.as_bytes()), (Encoding::Utf16le, &wide)] {
                let at = encoding.boundary(bytes, at.min(bytes.len()));
                let whole = !encoding.decode(&bytes[at..]).contains(char::REPLACEMENT_CHARACTER);
                prop_assert!(whole);
            }
        }
    }
}
