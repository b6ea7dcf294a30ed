//! Makes a set from databases that are already pinned or locked: one pass over the pages into file, hash and archive,
//! read back and checked on the way, then the set is published. Shared by create and by the safety set of a
//! restore.

use serde_json::Map;

use super::archive_run;
use super::blocks::{self, bad_disk, require_in_place};
use super::copier::{Copier, Copy};
use super::provenance::{Asked, Provenance};
use super::shrinkage;
use super::small_files;
use super::sources::{LINKED_TO, Source, State};
use super::types::Context;
use crate::backup_set::metadata::{self, DatabaseRecord, FORMAT, Integrity, Kind, Metadata};
use crate::backup_set::names;
use crate::backup_set::seal;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, Result};
use crate::progress::{Monitor, Phase};
use crate::project::Project;
use crate::sqlite::health::{self, Checked, Verdict};
use crate::store::catalog::SetEntry;
use crate::store::lock::StoreLock;
use crate::store::staging::Staging;

/// What kind of set to make.
pub(super) struct Request {
    pub compress: bool,
    pub verify: bool,
    pub kind: Kind,
    pub label: Option<String>,
    pub operation: Option<String>,
    /// Not of all databases of the project: those of a restore.
    pub partial: bool,
}

/// A set that was published.
pub(super) struct Captured {
    pub metadata: Metadata,
    pub timestamp: Timestamp,
    pub warnings: Vec<String>,
    /// Each database that was found damaged, and how.
    pub damages: Vec<String>,
}

/// Makes and publishes a set from `sources` (sorted by source). `earlier`: the sets there are, for comparison.
pub(super) fn capture(
    ctx: &Context,
    project: &Project,
    lock: &StoreLock,
    sources: &mut [Source],
    request: &Request,
    earlier: &[SetEntry],
) -> Result<Captured> {
    let asked_of_git = Asked::about(&project.root);
    let staging = Staging::begin(lock)?;
    let labels: Vec<&str> = sources.iter().map(|s| s.database.source.as_str()).collect();
    let files: Vec<String> = names::assign(&labels).iter().map(|n| names::database(n, staging.timestamp)).collect();
    let total = sources.iter().map(Source::size_hint).sum::<Result<u64>>()?;
    ctx.monitor.start(Phase::Copy, total);

    let copier = Copier { staging: &staging, verify: request.verify, monitor: &ctx.monitor };
    let (copies, archive) = copier.copy_all(sources, &files, request.compress)?;
    let mut damages = Vec::new();
    let mut warnings = Vec::new();
    if request.verify {
        ctx.monitor.start(Phase::Verify, copies.iter().map(|c| c.record.size).sum());
    }
    let (mut records, mut written) = (Vec::new(), Vec::new());
    for copy in copies {
        written.push((staging.dir.join(&copy.record.file), copy.state));
        let finding = if request.verify { verify_copy(&staging, &copy, &ctx.monitor)? } else { None };
        records.push(noted(copy.record, finding, &mut damages, &mut warnings));
    }
    note_raw_damage(sources, &mut damages);
    note_links(project, sources, &mut records);
    let mut metadata = describe(project, &staging, request, asked_of_git.answered(), records);
    // A safety set says so too, or the sets after it would be compared with what it saved: the loss. Only whoever makes
    // a backup is told; a restore may well be the answer to the loss.
    let mut losses = Vec::new();
    metadata.shrunk_since = shrinkage::find(&metadata, earlier, &mut losses);
    if !request.partial {
        warnings.extend(losses);
        let asked = project.select(ctx.databases.as_deref())?;
        // What can't be looked at is not called gone.
        let is_there = |source: &str| durable::is_there(&project.root.join(source)).unwrap_or(true);
        shrinkage::find_missing(&metadata, earlier, project, &asked, is_there, &mut warnings);
    }

    let json = bounded_json(&mut metadata, &mut warnings)?;
    written.extend(archive_run::finish_archive(&staging, archive, &metadata, &json, request.verify, &ctx.monitor)?);
    small_files::write(&staging.dir.join(names::metadata(staging.timestamp)), &json, request.verify)?;
    let seal = seal::line(&json, staging.timestamp);
    small_files::write(&staging.dir.join(names::seal(staging.timestamp)), seal.as_bytes(), request.verify)?;
    written.iter().try_for_each(|(path, left)| require_in_place(path, left))?;
    ctx.monitor.check()?;
    let timestamp = staging.timestamp;
    staging.publish()?;
    Ok(Captured { metadata, timestamp, warnings, damages })
}

/// What was read back from the disk must be the pages as SQLite gave them. The structure, for the record; `None` of what is
/// no database.
fn verify_copy(staging: &Staging, copy: &Copy, monitor: &Monitor) -> Result<Option<Checked>> {
    let path = staging.dir.join(&copy.record.file);
    if !copy.is_on_disk {
        return Err(bad_disk(&path));
    }
    let checked = match &copy.checked {
        None if copy.record.sqlite.is_some() => {
            let checked = health::check_copy(&path);
            // Before anybody is blamed for what SQLite found.
            require_in_place(&path, &copy.state)?;
            let checked = checked?;
            if matches!(checked.verdict, Verdict::Damaged(_)) && blocks::hash_on_disk(&path, monitor)? != copy.record.sha256 {
                return Err(bad_disk(&path));
            }
            Some(checked)
        }
        checked => checked.clone(),
    };
    monitor.check()?;
    monitor.advance(&copy.record.source, copy.record.size);
    Ok(checked)
}

/// The record with what was found.
fn noted(mut record: DatabaseRecord, finding: Option<Checked>, damages: &mut Vec<String>, warnings: &mut Vec<String>) -> DatabaseRecord {
    let (Some(sqlite), Some(checked)) = (&mut record.sqlite, finding) else { return record };
    sqlite.tables = checked.tables;
    sqlite.integrity = match checked.verdict {
        Verdict::Sound => Integrity::Ok,
        Verdict::Damaged(why) => {
            damages.push(format!("{} is damaged: {why}", record.source));
            Integrity::Damaged
        }
        Verdict::CannotCheck(why) => {
            warnings.push(format!("{}: its structure can't be fully checked here ({why}); its bytes are verified", record.source));
            Integrity::CannotCheck
        }
    };
    record
}

fn note_raw_damage(sources: &[Source], damages: &mut Vec<String>) {
    for source in sources {
        if let State::Raw { damaged: Some(why) } = &source.state {
            damages.push(format!("{} can't be read as a database: {why}; its bytes were saved as they are", source.database.source));
        }
    }
}

/// A database behind a symlink goes back only while that leads to the same place.
fn note_links(project: &Project, sources: &[Source], records: &mut [DatabaseRecord]) {
    for (source, record) in sources.iter().zip(records).filter(|(s, _)| s.side_file_of.is_none()) {
        if let Some(place) = project.note_of_link(&record.source, &source.database.path) {
            record.extra.insert(LINKED_TO.into(), place.into());
        }
    }
}

/// The record as it is written. No reader takes one that is too long, so the rows of the tables are left out first.
fn bounded_json(metadata: &mut Metadata, warnings: &mut Vec<String>) -> Result<Vec<u8>> {
    let fits = |json: &[u8]| json.len() as u64 <= metadata::LIMIT;
    let json = metadata.to_json()?;
    if fits(&json) {
        return Ok(json);
    }
    for sqlite in metadata.databases.iter_mut().flatten().filter_map(|d| d.sqlite.as_mut()) {
        sqlite.tables.clear();
    }
    let json = metadata.to_json()?;
    if !fits(&json) {
        let message = format!(
            "the record of this backup would have {} bytes, and {} are allowed; back up fewer databases at a time (databases, --database), or shorten the label",
            json.len(),
            metadata::LIMIT
        );
        return Err(Error::new(Code::InvalidArgValue, message));
    }
    warnings
        .push("the backup's record leaves out the rows of the tables, of which there are too many; the backup itself is complete".into());
    Ok(json)
}

fn describe(project: &Project, staging: &Staging, request: &Request, provenance: Provenance, databases: Vec<DatabaseRecord>) -> Metadata {
    Metadata {
        timestamp: staging.timestamp.to_string(),
        date: staging.timestamp.to_iso(),
        hostname: provenance.hostname,
        user: provenance.user,
        git_commit: provenance.git_commit,
        git_branch: provenance.git_branch,
        compressed: request.compress,
        format: Some(FORMAT),
        tool: Some(concat!("@agentic-qe/backup ", env!("CARGO_PKG_VERSION")).to_owned()),
        sqlite_version: Some(crate::sqlite::version().to_owned()),
        kind: Some(request.kind),
        operation: request.operation.clone(),
        label: request.label.clone(),
        verified: Some(request.verify),
        shrunk_since: None,
        sealed: Some(true),
        project: project.mark(),
        databases: Some(databases),
        extra: Map::new(),
    }
}
