//! Rows that differ, kept to be shown: as many as were asked for, and of long values a piece around the difference.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::cells::{Cell, Encoding};

/// Bytes of a text that are kept; a longer one is cut.
pub const TEXT: usize = 4096;
/// Bytes of a blob that are kept.
pub const BLOB: usize = 32;
/// Bytes of all rows together; beyond, rows are only counted.
const BUDGET: usize = 32 << 20;
/// Bytes before the first difference of two long texts that are kept too.
const LEAD: usize = 32;

/// What happened to a row since the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Live has it, the backup not.
    Added,
    /// The backup has it, live not.
    Removed,
    /// Both have it, with other values.
    Changed,
}

impl Change {
    /// As in JavaScript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        }
    }
}

/// A value, or a piece of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Excerpt {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text {
        /// All of it, or [`TEXT`] bytes of it.
        piece: String,
        /// Whether it is all of it.
        whole: bool,
        /// Byte of the value that the piece begins at.
        from: u64,
        /// Bytes of the value, as its database stores it.
        bytes: u64,
    },
    /// BLOB.
    Blob {
        /// All of it, or [`BLOB`] bytes of it.
        piece: Vec<u8>,
        /// Byte of the value that the piece begins at.
        from: u64,
        /// Bytes of the value.
        bytes: u64,
    },
}

impl Excerpt {
    /// The piece of `cell` that shows a difference at byte `near`.
    pub fn of(cell: Cell<'_>, near: usize, encoding: Encoding) -> Self {
        match cell {
            Cell::Null => Excerpt::Null,
            Cell::Integer(i) => Excerpt::Integer(i),
            Cell::Real(r) => Excerpt::Real(r),
            Cell::Text(t) => {
                let from = if t.len() <= TEXT || near < TEXT { 0 } else { encoding.boundary(t, (near - LEAD).min(t.len())) };
                let to = if t.len() - from <= TEXT { t.len() } else { encoding.boundary(t, from + TEXT) };
                let whole = (from, to) == (0, t.len());
                Excerpt::Text { piece: encoding.decode(&t[from..to]).into_owned(), whole, from: from as u64, bytes: t.len() as u64 }
            }
            Cell::Blob(b) => {
                let from = if near < BLOB { 0 } else { near.min(b.len()) / BLOB * BLOB };
                Excerpt::Blob { piece: b[from..b.len().min(from + BLOB)].to_vec(), from: from as u64, bytes: b.len() as u64 }
            }
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Excerpt::Text { piece, .. } => piece.len(),
                Excerpt::Blob { piece, .. } => piece.len(),
                _ => 0,
            }
    }
}

/// The largest integer that JavaScript's numbers hold exactly, with all below it.
const EXACT: u64 = (1 << 53) - 1;

/// As it goes out in JSON: what JSON has no word for is a string (large integers, infinity) or an object (blobs, pieces).
impl Serialize for Excerpt {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let piece = |name: &str, piece: &str, from: u64, bytes: u64, s: S| {
            let mut map = s.serialize_map(None)?;
            map.serialize_entry(name, piece)?;
            if from > 0 {
                map.serialize_entry("from", &from)?;
            }
            map.serialize_entry("bytes", &bytes)?;
            map.end()
        };
        match self {
            Excerpt::Null => s.serialize_unit(),
            Excerpt::Integer(i) if i.unsigned_abs() <= EXACT => s.serialize_i64(*i),
            Excerpt::Integer(i) => s.collect_str(i),
            Excerpt::Real(r) if r.is_finite() => s.serialize_f64(*r),
            Excerpt::Real(r) => s.serialize_str(if *r > 0.0 { "Infinity" } else { "-Infinity" }),
            Excerpt::Text { piece: text, whole: true, .. } => s.serialize_str(text),
            Excerpt::Text { piece: text, from, bytes, .. } => piece("text", text, *from, *bytes, s),
            Excerpt::Blob { piece: blob, from, bytes } => piece("blob", &hex(blob), *from, *bytes, s),
        }
    }
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Columns and values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(pub Vec<(String, Excerpt)>);

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RowDifference {
    /// What happened to it.
    pub change: Change,
    /// Its key; empty if nothing tells it from other rows.
    pub key: Values,
    /// Its values in the backup: of a changed row those that differ. `None` for one that was added.
    pub before: Option<Values>,
    /// Its values now: of a changed row those that differ. `None` for one that was removed.
    pub after: Option<Values>,
}

/// The first rows that differ.
#[derive(Debug)]
pub struct Sample {
    limit: usize,
    room: usize,
    /// In the order of the key.
    pub rows: Vec<RowDifference>,
}

impl Sample {
    /// For at most `limit` rows.
    pub fn new(limit: usize) -> Self {
        Sample { limit, room: BUDGET, rows: Vec::new() }
    }

    /// An empty one, for as many rows as this one still takes.
    pub fn like(&self) -> Self {
        Sample { limit: self.limit - self.rows.len().min(self.limit), room: self.room, rows: Vec::new() }
    }

    /// Whether one more is wanted.
    pub fn wants_more(&self) -> bool {
        self.rows.len() < self.limit && self.room > 0
    }

    /// Takes one more.
    pub fn push(&mut self, row: RowDifference) {
        let values = [Some(&row.key), row.before.as_ref(), row.after.as_ref()].into_iter().flatten().flat_map(|v| &v.0);
        self.room = self.room.saturating_sub(values.map(|(name, value)| name.len() + value.size()).sum());
        self.rows.push(row);
    }
}

/// Where two values begin to differ, in bytes; 0 if they have no bytes.
pub fn first_difference(a: Cell<'_>, b: Cell<'_>) -> usize {
    match (a, b) {
        (Cell::Text(a), Cell::Text(b)) | (Cell::Blob(a), Cell::Blob(b)) => {
            a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()))
        }
        _ => 0,
    }
}
