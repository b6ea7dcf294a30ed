//! The first half of a restore: everything is written and hashed, nothing is committed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::blocks;
use super::hashed;
use super::intent::read_header;
use super::restore_targets::{Guard, Hold, Target};
use super::set_files::Job;
use crate::backup_set::checksum;
use crate::backup_set::names;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;
use crate::sqlite::connection::{Facts, Live};
use crate::sqlite::page_writer;
use crate::sqlite::raw_file::{RawFile, mode_of};
use crate::store::lock::StoreLock;

/// A target with everything written and nothing committed.
pub(super) enum Ready {
    Unchanged,
    Delta { live: Live, cookie: u32, pages: u64 },
    Rebuild { live: Live, facts: Option<Facts>, layout_differed: bool },
    Put { staged: PathBuf, replaces: bool, mode: Option<u32>, guard: Option<Guard> },
}

/// A target of a restore, as far as it can be taken without changing anything for others.
pub(super) struct Prepared {
    pub job: Job,
    pub ready: Ready,
}

/// Does everything but the commit. `first`: not in the course of finishing or undoing a restore that has begun.
pub(super) fn prepare(target: Target, lock: &StoreLock, first: bool, monitor: &Monitor) -> Result<Prepared> {
    let job = target.job;
    let ready = match target.hold {
        Hold::Delta { mut live, facts } => {
            let size = job.file.metadata().context("look at", &job.file)?.len();
            let mut file = File::open(&job.file).context("open", &job.file)?;
            let pages = size / u64::from(facts.page_size);
            let (delta, sha256) = hashed::aside(&mut file, |backup| {
                page_writer::write_delta(&live, &facts, backup, pages, &mut |n| monitor.advance(&job.source, n))
            })?;
            require_hash(&job, &sha256)?;
            live.flush()?;
            live.ignore_cancellation();
            match delta.pages_written {
                0 => Ready::Unchanged,
                pages => Ready::Delta { live, cookie: delta.cookie, pages },
            }
        }
        Hold::Rebuild { mut live, facts } => {
            let backup = read_header(&job.file)?;
            require_hash(&job, &hash_file(&job, monitor)?)?;
            live.ignore_cancellation();
            match (facts.header, backup) {
                (None, None) => Ready::Unchanged,
                (ours, theirs) => {
                    let layout_differed = matches!((ours, theirs), (Some(a), Some(b)) if a.layout != b.layout);
                    Ready::Rebuild { live, facts: Some(facts), layout_differed }
                }
            }
        }
        Hold::Repair { mut live, .. } => {
            require_hash(&job, &hash_file(&job, monitor)?)?;
            live.ignore_cancellation();
            Ready::Rebuild { live, facts: None, layout_differed: false }
        }
        Hold::Put { replaces, mut guard } => {
            // A database is not what the backup is, even where its file has the same bytes: there may be more in its WAL.
            if replaces && guard.is_none() && same_bytes(&job.target, &job.file)? {
                require_hash(&job, &hash_file(&job, monitor)?)?;
                Ready::Unchanged
            } else {
                let (staged, mode) = stage(&job, replaces, lock, first, monitor)?;
                guard.iter_mut().for_each(|g| g.live.ignore_cancellation());
                Ready::Put { staged, replaces, mode, guard }
            }
        }
    };
    Ok(Prepared { job, ready })
}

fn hash_file(job: &Job, monitor: &Monitor) -> Result<String> {
    let mut file = File::open(&job.file).context("open", &job.file)?;
    blocks::hash(&mut file, &job.file, monitor, |n| monitor.advance(&job.source, n)).map(|(hash, _)| hash)
}

fn require_hash(job: &Job, hash: &str) -> Result<()> {
    if job.sha256.as_deref().is_none_or(|wanted| wanted == hash) {
        return Ok(());
    }
    let message = format!(
        "{} changed while it was being restored: its bytes are not the ones that were backed up. Nothing was changed; use another backup",
        job.file.display()
    );
    Err(Error::new(Code::ChecksumMismatch, message))
}

/// Copies a file that will take the target's place, checked and durable, into our working folder.
fn stage(job: &Job, replaces: bool, lock: &StoreLock, first: bool, monitor: &Monitor) -> Result<(PathBuf, Option<u32>)> {
    let work = lock.dir.join(names::RESTORE_DIR);
    // Never a name that an intent has: whether that file is there says how far its restore got.
    let prefix = if first { "put" } else { "again" };
    let staged = (0..).map(|n: u32| work.join(format!("{prefix}-{n}"))).find(|p| !p.exists()).unwrap_or_default();
    let mut out = durable::create_exclusive(&staged)?;
    let mut file = File::open(&job.file).context("open", &job.file)?;
    io::copy(&mut file, &mut out).context("write", &staged)?;
    let mode = if replaces { mode_of(&job.target)? } else { None }.or(job.mode);
    // Before the flush: owner and mode have to last as long as the bytes. The owner first: a change of it takes some bits away.
    durable::set_owner_like(&out, owner_to_be(job, replaces)).context("set the owner of", &staged)?;
    if let Some(mode) = mode {
        durable::set_mode(&out, mode).context("set the mode of", &staged)?;
    }
    out.sync_all().context("flush", &staged)?;
    require_hash(job, &hash_file(&Job { file: staged.clone(), ..job.clone() }, monitor)?)?;
    Ok((staged, mode))
}

/// Whose owner a file put in place gets: that of the file it replaces, else of the folder (or the nearest there is).
fn owner_to_be(job: &Job, replaces: bool) -> &Path {
    let mut folders = job.target.ancestors().skip(1);
    if replaces { &job.target } else { folders.find(|a| a.is_dir()).unwrap_or(&job.target) }
}

/// Whether a live file has the same bytes as a copy.
pub(super) fn same_bytes(live: &Path, copy: &Path) -> Result<bool> {
    let (here, _) = checksum::hash_reader(&mut RawFile::open(live)?, |_| Ok::<_, io::Error>(())).context("read", live)?;
    let mut file = File::open(copy).context("open", copy)?;
    let (there, _) = checksum::hash_reader(&mut file, |_| Ok::<_, io::Error>(())).context("read", copy)?;
    Ok(here == there)
}
