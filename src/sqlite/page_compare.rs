//! How many pages of a pinned live database differ from a copy.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::connection::{Facts, Live};
use super::header;
use super::page_stream;
use crate::error::{IoContext, Result};

/// Pages of the longer of the two, and how many of them differ or are on one side only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageDifference {
    /// All.
    pub total: u64,
    /// Not the same.
    pub different: u64,
}

/// Compares the snapshot of `live` with the copy at `path`, page by page; the header's change counters don't count.
/// With another page size, every page differs. `progress` hears of the bytes done, and ends the comparison with its error.
pub fn compare(live: &Live, facts: &Facts, path: &Path, progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<PageDifference> {
    let mut copy = File::open(path).context("open", path)?;
    let size = copy.metadata().context("look at", path)?.len();
    let page_size = facts.page_size as usize;
    let copy_pages = size / u64::from(facts.page_size.max(1));
    let total = copy_pages.max(facts.page_count);
    let (mut number, mut different) = (0u64, 0u64);
    let mut theirs = vec![0u8; page_size];
    page_stream::stream(live, facts, &mut |block| {
        progress(block.len() as u64)?;
        for ours in block.chunks(page_size) {
            number += 1;
            if number > copy_pages {
                different += 1;
                continue;
            }
            copy.read_exact(&mut theirs).context("read", path)?;
            let same = if number == 1 { header::same_page1(ours, &theirs) } else { ours == theirs };
            different += u64::from(!same);
        }
        Ok(())
    })?;
    Ok(PageDifference { total, different: different + copy_pages.saturating_sub(number) })
}
