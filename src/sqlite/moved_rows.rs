//! Whether rows that differ by their rowid are the same rows elsewhere: `VACUUM` may number them anew.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sha2::{Digest, Sha256};

use super::cells::{Cell, Line};
use super::row_key::Plan;
use super::row_pair::Counts;

/// Most contents that are remembered: some 20 MB. Beyond, the rows are taken for moved ones, and sorted to find out.
const MOST: usize = 1 << 19;

type Hash = [u8; 16];

/// The contents of rows that differ: how often each is there now, less how often it was in the backup.
#[derive(Default)]
pub(super) struct Moved {
    contents: HashMap<Hash, i64>,
    too_many: bool,
}

impl Moved {
    /// Takes a row that differs: gone from before, come after.
    pub fn take(&mut self, plan: &Plan, before: Option<Line<'_>>, after: Option<Line<'_>>) -> rusqlite::Result<()> {
        for (line, by) in [(before, -1), (after, 1)] {
            if let (Some(line), false) = (line, self.too_many) {
                self.add(hash(plan, line)?, by);
            }
        }
        Ok(())
    }

    fn add(&mut self, hash: Hash, by: i64) {
        match self.contents.entry(hash) {
            Entry::Occupied(mut e) if *e.get() + by != 0 => *e.get_mut() += by,
            Entry::Occupied(e) => drop(e.remove()),
            Entry::Vacant(e) => drop(e.insert(by)),
        }
        if self.contents.len() > MOST {
            self.too_many = true;
            self.contents = HashMap::new();
        }
    }

    /// Whether fewer rows have come and gone than `by_rowid` says, or may have.
    pub fn explains_more_than(&self, by_rowid: Counts) -> bool {
        let by_content: u64 = self.contents.values().map(|n| n.unsigned_abs()).sum();
        self.too_many || by_content < by_rowid.moves()
    }
}

/// Of all columns but the rowid.
fn hash(plan: &Plan, line: Line<'_>) -> rusqlite::Result<Hash> {
    let mut sha = Sha256::new();
    for i in plan.key..plan.columns.len() {
        match line.cell(i)? {
            Cell::Null => sha.update([0]),
            Cell::Integer(n) => {
                sha.update([1]);
                sha.update(n.to_le_bytes());
            }
            Cell::Real(r) => {
                sha.update([2]);
                // 0.0 and -0.0 are one value.
                sha.update((r + 0.0).to_bits().to_le_bytes());
            }
            Cell::Text(bytes) => bytes_of(&mut sha, 3, bytes),
            Cell::Blob(bytes) => bytes_of(&mut sha, 4, bytes),
        }
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(&sha.finalize()[..16]);
    Ok(hash)
}

fn bytes_of(sha: &mut Sha256, class: u8, bytes: &[u8]) {
    sha.update([class]);
    sha.update((bytes.len() as u64).to_le_bytes());
    sha.update(bytes);
}
