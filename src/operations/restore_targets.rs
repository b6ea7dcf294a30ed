//! The live side of a restore: every target locked, and what will be done to it, decided under the lock.

use super::intent::read_header;
use super::set_files::Job;
use crate::error::{Code, Error, Result};
use crate::project::Database;
use crate::sqlite::connection::{Facts, Live, Patience, looks_like_sqlite, side_file};
use crate::sqlite::raw_file::FileState;

/// A target, held.
pub(super) struct Target {
    pub job: Job,
    pub database: Database,
    pub hold: Hold,
}

/// How it is held, and so how it will be changed.
pub(super) enum Hold {
    /// Write-locked; same page layout as the backup: only differing pages are written.
    Delta { live: Live, facts: Facts },
    /// Held exclusively; another page layout, or no pages on one side: the whole content is written.
    Rebuild { live: Live, facts: Facts },
    /// Held exclusively; too damaged to be read as a database.
    Repair { live: Live, why: String },
    /// No database on either side, or none live: a new file takes the place. With a guard: that of a live database.
    Put { replaces: bool, guard: Option<Guard> },
}

/// A database that a plain file is about to replace, held exclusively: what others commit meanwhile would be in the file
/// that goes.
pub(super) struct Guard {
    pub live: Live,
    /// `None`: it is empty.
    pub facts: Option<Facts>,
    /// Only its raw bytes could be saved, and its WAL not at all.
    pub damaged: bool,
}

impl Guard {
    pub fn is_wal(&self) -> bool {
        self.facts.as_ref().is_some_and(Facts::is_wal)
    }
}

/// Locks the target of `job`. `suspicions`: why only `force` should go on.
pub(super) fn hold(job: &Job, patience: &Patience, suspicions: &mut Vec<String>) -> Result<Target> {
    let database = Database { source: job.source.clone(), path: job.target.clone() };
    let hold = if FileState::of(&job.target)?.is_none() {
        Hold::Put { replaces: false, guard: None }
    } else if job.sqlite {
        hold_database(job, patience, suspicions)?
    } else {
        Hold::Put { replaces: true, guard: hold_plain(job, patience, suspicions)? }
    };
    Ok(Target { job: job.clone(), database, hold })
}

fn hold_plain(job: &Job, patience: &Patience, suspicions: &mut Vec<String>) -> Result<Option<Guard>> {
    if !looks_like_sqlite(&job.target)? {
        return Ok(None);
    }
    let was_empty = is_empty(job)?;
    let held = Live::open_exclusive(&job.target, patience, false).and_then(|live| live.facts().map(|facts| (live, facts)));
    // Under the lock: somebody may just have begun it.
    let is_empty = was_empty && is_empty(job)?;
    if !is_empty {
        suspicions.push(format!("{} is an SQLite database now, and the backup is not one", job.target.display()));
    }
    match held {
        Ok((live, facts)) => Ok(Some(Guard { live, facts: (!is_empty).then_some(facts), damaged: false })),
        // Nobody can commit to what can't be read; its bytes are saved as they are.
        Err(e) if e.code == Code::SourceDamaged => Ok(None),
        Err(e) => Err(needs_to_be_alone(e, "the backup of it is not an SQLite database")),
    }
}

fn hold_database(job: &Job, patience: &Patience, suspicions: &mut Vec<String>) -> Result<Hold> {
    let backup = read_header(&job.file)?;
    let (live, facts) = match Live::open_locked(&job.target, patience) {
        Ok(held) => held,
        Err(e) if e.code == Code::SourceDamaged => {
            suspicions.push(format!("{} can't be read, so only its raw bytes can be saved", job.target.display()));
            let live = Live::open_exclusive(&job.target, patience, true).map_err(|e| needs_to_be_alone(e, DIFFERENT))?;
            return Ok(Hold::Repair { live, why: e.message });
        }
        Err(e) => return Err(e),
    };
    let is_empty = is_empty(job)?;
    if let (Some(ours), Some(theirs)) = (facts.header.filter(|_| !is_empty), backup) {
        if ours.application_id != theirs.application_id {
            let (now, then) = (ours.application_id, theirs.application_id);
            suspicions.push(format!(
                "{} has application_id {now} and the backup has {then}: another application's database?",
                job.target.display()
            ));
        }
        if ours.layout == theirs.layout {
            return Ok(Hold::Delta { live, facts });
        }
    }
    drop(live);
    let live = Live::open_exclusive(&job.target, patience, false).map_err(|e| needs_to_be_alone(e, DIFFERENT))?;
    let mut facts = live.facts()?;
    if is_empty && self::is_empty(job)? {
        // The lock itself has begun a first page; nothing of it is in the file.
        facts.page_count = 0;
        facts.header = None;
    }
    Ok(Hold::Rebuild { live, facts })
}

fn is_empty(job: &Job) -> Result<bool> {
    let no_bytes = |s: Option<FileState>| s.is_none_or(|s| s.size == 0);
    Ok(no_bytes(FileState::of(&job.target)?) && no_bytes(FileState::of(&side_file(&job.target, "-wal"))?))
}

const DIFFERENT: &str = "the database and its backup differ in page size, encoding or vacuum mode, or it is damaged";

fn needs_to_be_alone(e: Error, because: &str) -> Error {
    if e.code != Code::DatabaseBusy {
        return e;
    }
    e.wrap(
        Code::DatabaseBusy,
        format!("{because}, so it can be put back only while nobody else has the database; stop the programs that have it open"),
    )
}
