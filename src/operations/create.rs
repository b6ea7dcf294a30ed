//! create: pin every database, copy them all in one pass, check, publish, clean up.

use super::capture::{self, Captured, Request};
use super::clean;
use super::session;
use super::sources::{self, Source, State};
use super::types::{CapturedDatabase, Context, CreateOptions, CreateOutcome};
use crate::backup_set::metadata::{Integrity, Metadata};
use crate::backup_set::names;
use crate::backup_set::timestamp::Timestamp;
use crate::error::{Code, Error, Result};
use crate::progress::Monitor;
use crate::project::Database;
use crate::sqlite::connection::{Facts, Live, Patience, looks_like_sqlite};
use crate::store::catalog::{self, SetEntry};
use crate::store::lock::StoreLock;
use crate::store::naming;
use crate::store::retention::{ARCHIVE_DAYS, Fate, Rule};
use crate::store::space;
use crate::store::{pin, staging};

/// Makes a set of every database of the project. When it returns, the set is durable and, unless `verify` is off, was
/// read back and found equal to what SQLite read. A damaged database gives a marked set and `failure`.
pub fn create(ctx: &Context, options: &CreateOptions) -> Result<CreateOutcome> {
    let project = ctx.project()?;
    let found = session::databases(ctx, &project)?;
    let (lock, recovery) = session::enter(ctx, &project)?;
    naming::wait_for_turn(&lock, &ctx.monitor)?;
    let earlier = catalog::scan_own(&lock.dir, &project)?;
    require_space(&lock, &found.databases, options.compress)?;

    let mut pins = found.databases.iter().map(|d| pin(d, &ctx.patience(), &earlier)).collect::<Result<Vec<_>>>()?;
    let wals =
        sources::side_files(found.databases.iter().zip(&pins).filter(|(_, p)| matches!(p, Pin::Raw { damaged: Some(_) })).map(|(d, _)| d))?;
    let mut sources: Vec<Source> =
        found.databases.iter().zip(&mut pins).map(|(database, pin)| Source { database, state: pin.state(), side_file_of: None }).collect();
    sources.extend(wals.iter().map(sources::SideFile::source));
    let request = Request {
        compress: options.compress,
        verify: options.verify,
        kind: options.kind,
        label: options.label.clone(),
        operation: options.operation.clone(),
        partial: false,
    };
    let captured = capture::capture(ctx, &project, &lock, &mut sources, &request, &earlier)?;
    drop(sources);
    drop(pins);
    // Of many sets it takes much room, and the clean-up looks for itself.
    drop(earlier);

    let pin = match options.pin.then(|| pin::Pin::take(&lock, captured.timestamp)).transpose() {
        Ok(pin) => pin,
        Err(e) => return Err(unpublish(&lock, captured.timestamp, e)),
    };
    let mut warnings = [found.warnings, recovery.warnings, captured.warnings.clone()].concat();
    let removed = clean_up(&lock, options, &captured, &mut warnings);
    ctx.monitor.finish();
    Ok(CreateOutcome { pin, ..outcome(&lock, options, captured, removed, warnings) })
}

/// A backup that is told as failed is not there.
fn unpublish(lock: &StoreLock, timestamp: Timestamp, cause: Error) -> Error {
    match staging::remove(lock, timestamp, false) {
        Err(e) if !e.is_gone => {
            let code = cause.code;
            cause.wrap(code, format!("backup {timestamp} was made, and could not be removed again ({})", e.error))
        }
        _ => cause,
    }
}

/// A database held still for the copy.
enum Pin {
    Pages(Box<(Live, Facts)>),
    Raw { damaged: Option<String> },
}

impl Pin {
    fn state(&mut self) -> State<'_> {
        match self {
            Pin::Pages(pinned) => State::Pages { live: &mut pinned.0, facts: &mut pinned.1, locked: false },
            Pin::Raw { damaged } => State::Raw { damaged: damaged.clone() },
        }
    }
}

fn pin(database: &Database, patience: &Patience, earlier: &[SetEntry]) -> Result<Pin> {
    if !looks_like_sqlite(&database.path)? {
        return Ok(Pin::Raw { damaged: overwritten(database, earlier) });
    }
    match Live::open_pinned(&database.path, patience) {
        Ok(pinned) => Ok(Pin::Pages(Box::new(pinned))),
        Err(e) if e.code == Code::SourceDamaged => Ok(Pin::Raw { damaged: Some(e.message) }),
        Err(e) => Err(e),
    }
}

/// For a file that is no SQLite database: why that is damage, if it was one in an earlier set.
pub(super) fn overwritten(database: &Database, earlier: &[SetEntry]) -> Option<String> {
    let was_sqlite = earlier.iter().rev().filter_map(SetEntry::metadata).find_map(|m| was_sqlite(m, &database.source));
    was_sqlite.map(|t| format!("it was an SQLite database in backup {t} and does not begin like one any more"))
}

/// The set that has `source` as an SQLite database, if the newest one that has it at all does.
fn was_sqlite(metadata: &Metadata, source: &str) -> Option<String> {
    let record = metadata.databases().iter().find(|d| d.source == source)?;
    record.sqlite.as_ref().map(|_| metadata.timestamp.clone())
}

fn require_space(lock: &StoreLock, databases: &[Database], compress: bool) -> Result<()> {
    let no_archive = if compress { "make no archive (compress: false, --no-compress), " } else { "" };
    let way_out = format!("remove old backups, {no_archive}or choose another backupDir (--backup-dir)");
    space::require(&lock.dir, space_needed(databases, compress)?, "the backup", &way_out)
}

/// Bytes that a set of `databases` takes at most.
pub(super) fn space_needed(databases: &[Database], compress: bool) -> Result<u64> {
    let copies = databases.iter().map(sources::estimate).sum::<Result<u64>>()?;
    // What can't be compressed takes its own size once more.
    Ok(if compress { copies * 2 } else { copies })
}

/// Only a verified, sound set may push older ones out.
fn clean_up(lock: &StoreLock, options: &CreateOptions, captured: &Captured, warnings: &mut Vec<String>) -> u32 {
    let Some(keep) = options.keep_last.filter(|_| options.verify && captured.damages.is_empty()) else { return 0 };
    // Not to be cancelled any more: the backup is made.
    match clean::clean_locked(lock, Rule::Newest(keep), Some(captured.timestamp), &Monitor::default()) {
        Ok(cleaned) => {
            // The backup itself is safe; a failed clean-up must not turn it into a failure.
            warnings.extend(cleaned.failure.map(|e| format!("not all old backups could be removed: {e}")));
            // Somebody's commits may have been in it alone: that must not go without a word.
            let saved = cleaned.outcome.decisions.iter().filter(|d| d.before_restore && d.fate != Fate::Keep);
            warnings.extend(saved.map(|d| {
                format!(
                    "backup {} went, in which a restore had saved what was there before: it was {}; to keep more, raise keepLast (--keep)",
                    d.timestamp, d.reason
                )
            }));
            let archives = cleaned.outcome.archives_removed;
            if archives > 0 {
                let what = if archives == 1 { "1 archive".to_owned() } else { format!("{archives} archives") };
                warnings.push(format!("{what} of removed backups, older than {ARCHIVE_DAYS} days, went too"));
            }
            cleaned.outcome.removed
        }
        Err(e) => {
            warnings.push(format!("old backups could not be removed: {e}"));
            0
        }
    }
}

fn outcome(lock: &StoreLock, options: &CreateOptions, captured: Captured, removed: u32, warnings: Vec<String>) -> CreateOutcome {
    let failure = (!captured.damages.is_empty()).then(|| {
        let message = format!(
            "{}. What could be saved is in backup {}, marked as damaged; restore the database from an earlier backup (`aqe-backup list`)",
            captured.damages.join("; "),
            captured.timestamp
        );
        Error::new(Code::SourceDamaged, message)
    });
    let databases = captured.metadata.databases().iter().map(|d| CapturedDatabase {
        source: d.source.clone(),
        file: lock.dir.join(&d.file),
        size: d.size,
        sha256: d.sha256.clone(),
        integrity: if d.is_damaged() {
            Some(Integrity::Damaged.as_str().to_owned())
        } else {
            d.sqlite.as_ref().map(|s| s.integrity.as_str().to_owned())
        },
    });
    CreateOutcome {
        timestamp: captured.timestamp,
        kind: options.kind,
        compressed: options.compress,
        archive: options.compress.then(|| lock.dir.join(names::archive(captured.timestamp))),
        databases: databases.collect(),
        removed,
        warnings,
        failure,
        pin: None,
    }
}
