//! The intent file: what a restore is about to commit, written before the first commit and removed after the proof.
//! While it exists, the restore is neither done nor undone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::set_files::Job;
use crate::backup_set::names;
use crate::durable;
use crate::error::{Code, Error, Result};
use crate::sqlite::connection::{Live, Patience};
use crate::sqlite::header;
use crate::sqlite::page_compare;
use crate::sqlite::raw_file;
use crate::store::lock::StoreLock;
use crate::store::record;

/// Format of the file.
const VERSION: u32 = 2;
/// Bytes that it may have: more than those of any record.
const LIMIT: u64 = 16 << 20;

/// A restore that has begun to commit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    version: u32,
    /// The set being put back.
    pub timestamp: String,
    /// The set with the state before; `None` when nothing was there.
    pub safety: Option<String>,
    pub targets: Vec<IntentTarget>,
    /// Whose databases these are, as [`crate::project::Project::mark`] says it. A note that lacks this is not ours.
    #[serde(deserialize_with = "Option::deserialize")]
    pub project: Option<String>,
    /// The restore failed and is being undone: the targets are those that it had reached, and each of them may be either
    /// restored or put back already.
    #[serde(default)]
    pub undoing: bool,
}

/// One database of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IntentTarget {
    pub job: Job,
    pub method: Method,
}

/// How a target is changed, and so how to tell afterwards whether it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Method {
    /// Nothing to do.
    Unchanged,
    /// Pages in one transaction, which leaves this schema cookie.
    Delta { cookie: u32 },
    /// The whole content in one transaction, which changes the page layout (or ends damage), outside WAL mode.
    Rebuild { layout_differed: bool, was_wal: bool },
    /// A new file: `staged` is renamed to its place and so gone from where it was. In the file, relative to the backups folder.
    Put { staged: PathBuf, replaces: bool },
}

impl Intent {
    pub fn new(project: Option<String>, timestamp: String, safety: Option<String>, targets: Vec<IntentTarget>) -> Self {
        Intent { version: VERSION, timestamp, safety, targets, project, undoing: false }
    }

    /// The intent to undo what was done to the targets that `is_reached` names. Written before the first of them is put
    /// back: what is half undone looks to recovery like what is half restored.
    pub fn undoing(&self, is_reached: impl Fn(&Job) -> bool) -> Self {
        let targets = self.targets.iter().filter(|t| is_reached(&t.job)).cloned().collect();
        Intent { undoing: true, ..self.of_others(targets) }
    }

    fn of_others(&self, targets: Vec<IntentTarget>) -> Self {
        let (timestamp, safety, project) = (self.timestamp.clone(), self.safety.clone(), self.project.clone());
        Intent { timestamp, safety, project, targets, ..*self }
    }

    /// The same with other targets.
    pub fn with_targets(self, targets: Vec<IntentTarget>) -> Self {
        Intent { targets, ..self }
    }

    /// Makes the intent durable, after what it speaks of. From here on, the restore will be finished, or undone, by
    /// whoever comes next.
    pub fn write(&self, lock: &StoreLock) -> Result<()> {
        let path = lock.dir.join(names::INTENT);
        let work = lock.dir.join(names::RESTORE_DIR);
        let staged = work.join("intent.json");
        let json = serde_json::to_vec_pretty(&self.relative_to(&lock.dir))
            .map_err(|e| Error::new(Code::IoError, format!("cannot write {}: {e}", path.display())).caused_by(e))?;
        durable::remove_file(&staged)?;
        durable::write_new(&staged, &json)?;
        // Staged files that went with the power would look as if they had been put in place.
        durable::sync_dir(&work)?;
        durable::sync_dir(&lock.dir)?;
        durable::rename_over(&staged, &path)?;
        durable::sync_dir(&lock.dir)
    }

    /// As it is written: the backups folder may be moved, or be mounted elsewhere, before it is read again.
    fn relative_to(&self, dir: &Path) -> Self {
        let inside = |path: &Path| path.strip_prefix(dir).unwrap_or(path).to_path_buf();
        let targets = self.targets.iter().map(|t| IntentTarget {
            job: Job { file: inside(&t.job.file), ..t.job.clone() },
            method: match &t.method {
                Method::Put { staged, replaces } => Method::Put { staged: inside(staged), replaces: *replaces },
                method => method.clone(),
            },
        });
        self.of_others(targets.collect())
    }

    /// The pending intent, if there is one, as it was written: see [`super::intent_trust`] before anything is done.
    pub fn read(lock: &StoreLock) -> Result<Option<Self>> {
        let path = lock.dir.join(names::INTENT);
        let unreadable = |why: String| {
            Error::new(
                Code::UnsupportedFormat,
                format!(
                    "a restore was interrupted and {} can't be understood ({why}); if a newer version wrote it, run that one's `aqe-backup recover`; else move it away, and run the restore again",
                    path.display()
                ),
            )
        };
        if let Some(why) = durable::irregularity(&path) {
            return Err(unreadable(format!("it {why}")));
        }
        let bytes = match fs::File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(e, "read", &path)),
            Ok(file) => record::limited(file, LIMIT).map_err(|e| Error::io(e, "read", &path))?,
        };
        let Some(bytes) = bytes else { return Err(unreadable(format!("it has more than {LIMIT} bytes"))) };
        let intent: Intent = serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
        if intent.version != VERSION { Err(unreadable(format!("its version is {}", intent.version))) } else { Ok(Some(intent)) }
    }

    /// The restore is done or undone.
    pub fn remove(lock: &StoreLock) -> Result<()> {
        durable::remove_file(&lock.dir.join(names::INTENT))?;
        durable::sync_dir(&lock.dir)
    }
}

impl IntentTarget {
    /// Whether the restore got as far as this database before it died. Whatever the application did to the database
    /// since then does not change the answer.
    pub fn reached(&self, patience: &Patience) -> Result<bool> {
        match &self.method {
            Method::Unchanged => Ok(true),
            Method::Put { staged, .. } => durable::is_there(staged).map(|still| !still),
            Method::Delta { cookie } => Ok(self.header(patience)?.is_some_and(|h| header::cookie_reached(h.schema_cookie, *cookie))),
            Method::Rebuild { layout_differed, .. } => self.rebuilt(*layout_differed, patience),
        }
    }

    fn header(&self, patience: &Patience) -> Result<Option<header::Header>> {
        if !durable::is_there(&self.job.target)? {
            return Ok(None);
        }
        match Live::open_pinned(&self.job.target, patience) {
            Ok((_, facts)) => Ok(facts.header),
            Err(e) if e.code == Code::SourceDamaged => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn rebuilt(&self, layout_differed: bool, patience: &Patience) -> Result<bool> {
        let Some(live) = self.header(patience)? else { return Ok(false) };
        if layout_differed && Some(live.layout) == read_header(&self.job.file)?.map(|h| h.layout) {
            return Ok(true);
        }
        let (live, facts) = Live::open_pinned(&self.job.target, patience)?;
        Ok(page_compare::compare(&live, &facts, &self.job.file, &mut |_| Ok(()))?.different == 0)
    }
}

/// The header of a copy; `None` if it has none.
pub(super) fn read_header(path: &Path) -> Result<Option<header::Header>> {
    let mut file = fs::File::open(path).map_err(|e| Error::io(e, "open", path))?;
    let mut start = [0u8; header::LEN];
    Ok(if raw_file::fills(&mut file, &mut start, path)? { header::parse(&start) } else { None })
}
