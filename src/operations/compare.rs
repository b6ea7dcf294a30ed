//! compare: a set beside the project as SQLite sees it now. Takes no lock of the folder; pins each live database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::compare_tables::{self, Asked};
use super::comparison::{CompareOptions, Comparison, DatabaseComparison, Difference, SchemaDifference};
use super::inspect;
use super::meter::Meter;
use super::restore_prepare::same_bytes;
use super::set_files::{self, Job, Place, SetFiles};
use super::types::Context;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Phase;
use crate::project::Project;
use crate::sqlite::connection::{Facts, Live, looks_like_sqlite};
use crate::sqlite::excerpts::Change;
use crate::sqlite::page_compare::{self, PageDifference};
use crate::sqlite::private_copy::PrivateCopy;
use crate::sqlite::raw_file::FileState;
use crate::sqlite::side::Side;
use crate::store::{catalog, space};

/// Kept free in the folder for temporary files.
const MARGIN: u64 = 1 << 20;
/// Attempts at a database that is rewritten without locks while it is read.
const ATTEMPTS: usize = 3;

/// Compares every database of the set, and every one of the project that the set lacks.
pub fn compare(ctx: &Context, timestamp: &str, options: &CompareOptions) -> Result<Comparison> {
    let timestamp: Timestamp = timestamp.parse()?;
    let project = ctx.project()?;
    let set = catalog::find(&project.backup_dir, timestamp)?.ok_or_else(|| inspect::not_found(timestamp, &project.backup_dir))?;
    // An archive is unpacked outside the backups folder, which is not ours to change without its lock.
    let work = tempfile::tempdir().context("create a folder in", &std::env::temp_dir())?;
    ctx.monitor.start(Phase::Verify, set.files.values().sum());
    // Damage in the copy would pass for changes of rows.
    let files = set_files::resolve(&Place::asked(ctx, &project)?, &set, work.path(), true, &ctx.monitor)?;
    let sizes = files.jobs.iter().map(|job| Ok(job.file.metadata().context("look at", &job.file)?.len())).collect::<Result<Vec<_>>>()?;
    ctx.monitor.start(Phase::Verify, sizes.iter().map(|s| 2 * s).sum());
    let mut asked = options.table.as_deref().map(|table| Asked::new(table, options.limit));
    let mut databases = Vec::new();
    for (job, size) in files.jobs.iter().zip(sizes) {
        let mut meter = Meter::new(&ctx.monitor, &job.source, 2 * size);
        databases.push(compare_one(ctx, job, work.path(), asked.as_mut(), &mut meter)?);
        meter.finish();
    }
    databases.extend(not_in_set(ctx, &project, &files, asked.as_mut())?);
    databases.sort_by(|a, b| a.source.cmp(&b.source));
    if let Some(asked) = asked {
        asked.require_found()?;
    }
    ctx.monitor.finish();
    let identical = databases.iter().all(|d| d.difference == Difference::Identical);
    Ok(Comparison { timestamp, identical, databases, warnings: files.warnings.into_iter().chain(files.suspicions).collect() })
}

fn not_in_set(ctx: &Context, project: &Project, files: &SetFiles, mut asked: Option<&mut Asked>) -> Result<Vec<DatabaseComparison>> {
    let live = match project.databases(ctx.databases.as_deref()) {
        Ok(found) => found.databases,
        Err(e) if e.code == Code::NoDatabases => Vec::new(),
        Err(e) => return Err(e),
    };
    let known: BTreeSet<&Path> = files.jobs.iter().map(|j| j.target.as_path()).collect();
    let mut missing = Vec::new();
    for database in live.into_iter().filter(|d| !known.contains(d.path.as_path())) {
        if let Some(asked) = asked.as_deref_mut()
            && looks_like_sqlite(&database.path)?
        {
            let (live, _) = Live::open_pinned(&database.path, &ctx.patience())?;
            asked.look_for(&Side::live(&live, &ctx.monitor)?);
        }
        missing.push(only(database.source, Difference::MissingThere));
    }
    Ok(missing)
}

fn only(source: String, difference: Difference) -> DatabaseComparison {
    DatabaseComparison {
        source,
        difference,
        pages_different: 0,
        pages_total: 0,
        same_content: Some(difference == Difference::Identical),
        tables: Vec::new(),
        schema: Vec::new(),
        notes: Vec::new(),
    }
}

fn compare_one(ctx: &Context, job: &Job, work: &Path, mut asked: Option<&mut Asked>, meter: &mut Meter<'_>) -> Result<DatabaseComparison> {
    if !durable::is_there(&job.target)? {
        if let Some(asked) = asked.filter(|_| job.sqlite) {
            asked.look_for(&Side::backup(&PrivateCopy::open(&job.file)?, &ctx.monitor)?);
        }
        return Ok(only(job.source.clone(), Difference::MissingHere));
    }
    let live_is_sqlite = looks_like_sqlite(&job.target)?;
    if !job.sqlite || !live_is_sqlite {
        return compare_bytes(job);
    }
    for _ in 0..ATTEMPTS {
        if let Some(compared) = attempt(ctx, job, work, asked.as_deref_mut(), meter)? {
            return Ok(compared);
        }
    }
    let shown = job.target.display();
    Err(Error::new(
        Code::DatabaseBusy,
        format!("{shown} kept changing while it was read: something rewrites it without locks; stop that program meanwhile"),
    ))
}

/// One look at a live database; `None` if it was rewritten behind SQLite's back meanwhile.
fn attempt(ctx: &Context, job: &Job, work: &Path, asked: Option<&mut Asked>, meter: &mut Meter<'_>) -> Result<Option<DatabaseComparison>> {
    let (live, facts) = Live::open_pinned(&job.target, &ctx.patience())?;
    let pages = page_compare::compare(&live, &facts, &job.file, &mut |bytes| meter.advance(bytes))?;
    let backup = PrivateCopy::open(&job.file)?;
    if pages.different == 0 {
        if !stood_still(&facts, &job.target)? {
            return Ok(None);
        }
        drop(live);
        let tables = match asked {
            Some(asked) => compare_tables::unchanged(&Side::backup(&backup, &ctx.monitor)?, asked)?,
            None => Vec::new(),
        };
        return Ok(Some(DatabaseComparison { pages_total: pages.total, tables, ..only(job.source.clone(), Difference::Identical) }));
    }
    if facts.is_wal() {
        // Writers go on, however long it takes.
        let compared = compare_content(job, pages, &Side::backup(&backup, &ctx.monitor)?, &Side::live(&live, &ctx.monitor)?, asked, meter)?;
        return Ok(stood_still(&facts, &job.target)?.then_some(compared));
    }
    // Writers wait for as long as the pin stands: only until the pages are in a file of our own.
    require_space(&job.target, facts.size(), work)?;
    let folder = tempfile::tempdir_in(work).context("create a folder in", work)?;
    let snapshot = PrivateCopy::of_snapshot(&live, &facts, &folder.path().join("live"))?;
    if !stood_still(&facts, &job.target)? {
        return Ok(None);
    }
    drop(live);
    let now = Side::snapshot(&snapshot, &job.target, &ctx.monitor)?;
    compare_content(job, pages, &Side::backup(&backup, &ctx.monitor)?, &now, asked, meter).map(Some)
}

/// Whether what was read is what was pinned. In WAL mode checkpoints change the file under the pin, which is as it should be;
/// otherwise the lock keeps every honest writer out.
fn stood_still(facts: &Facts, path: &Path) -> Result<bool> {
    let (Some(before), Some(after)) = (facts.file, FileState::of(path)?) else { return Ok(false) };
    Ok(if facts.is_wal() { before.same_file(&after) } else { before == after })
}

fn require_space(live: &Path, needed: u64, folder: &Path) -> Result<()> {
    let free = space::free(folder)?;
    if free >= needed.saturating_add(MARGIN) {
        return Ok(());
    }
    let temporary = std::env::temp_dir();
    Err(Error::new(
        Code::NoSpace,
        format!(
            "comparing {} takes {needed} bytes of temporary space, and only {free} are free in {}; free some space, or set TMPDIR to a folder that has more",
            live.display(),
            temporary.display()
        ),
    ))
}

fn compare_content(
    job: &Job,
    pages: PageDifference,
    then: &Side<'_>,
    now: &Side<'_>,
    asked: Option<&mut Asked>,
    meter: &mut Meter<'_>,
) -> Result<DatabaseComparison> {
    let everything = asked.is_none();
    let tables = compare_tables::compare(then, now, asked, meter)?;
    let (schema, notes) = (schema_differences(&then.schema, &now.schema), header_differences(then, now));
    let nothing = tables.is_empty() && schema.is_empty() && notes.is_empty();
    Ok(DatabaseComparison {
        pages_different: pages.different,
        pages_total: pages.total,
        same_content: everything.then_some(nothing),
        tables,
        schema,
        notes,
        ..only(job.source.clone(), Difference::Different)
    })
}

fn compare_bytes(job: &Job) -> Result<DatabaseComparison> {
    let same = same_bytes(&job.target, &job.file)?;
    Ok(only(job.source.clone(), if same { Difference::Identical } else { Difference::Different }))
}

type Schema = BTreeMap<(String, String), String>;

fn schema_differences(then: &Schema, now: &Schema) -> Vec<SchemaDifference> {
    let names: BTreeSet<&(String, String)> = then.keys().chain(now.keys()).collect();
    let change = |key: &(String, String)| match (then.get(key), now.get(key)) {
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
        (a, b) => (a != b).then_some(Change::Changed),
    };
    let difference = |key: &(String, String)| Some(SchemaDifference { kind: key.0.clone(), name: key.1.clone(), change: change(key)? });
    names.into_iter().filter_map(difference).collect()
}

/// What the header says besides, as sentences.
fn header_differences(then: &Side<'_>, now: &Side<'_>) -> Vec<String> {
    let versions = ["user_version", "application_id"].iter().zip(then.versions.iter().zip(&now.versions));
    let mut notes: Vec<String> = versions.filter(|(_, (a, b))| a != b).map(|(name, (a, b))| format!("{name} was {a} and is {b}")).collect();
    if then.encoding != now.encoding {
        notes.push(format!("the text encoding was {} and is {}", then.encoding.as_str(), now.encoding.as_str()));
    }
    notes
}
