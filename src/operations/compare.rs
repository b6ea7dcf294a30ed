//! compare: a set beside the project as SQLite sees it now. Takes no lock of the folder; pins each live database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::inspect;
use super::restore_prepare::same_bytes;
use super::set_files::{self, Job, SetFiles};
use super::types::{Comparison, Context, DatabaseComparison, Difference, TableComparison};
use crate::backup_set::timestamp::Timestamp;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Phase;
use crate::project::Project;
use crate::sqlite::connection::{Live, looks_like_sqlite};
use crate::sqlite::{health, page_compare};
use crate::store::catalog;

/// Compares every database of the set, and every one of the project that the set lacks.
pub fn compare(ctx: &Context, timestamp: &str) -> Result<Comparison> {
    let timestamp: Timestamp = timestamp.parse()?;
    let project = ctx.project()?;
    let set = catalog::find(&project.backup_dir, timestamp)?.ok_or_else(|| inspect::not_found(timestamp, &project.backup_dir))?;
    // An archive is unpacked outside the backups folder, which is not ours to change without its lock.
    let work = tempfile::tempdir().context("create a folder in", &std::env::temp_dir())?;
    ctx.monitor.start(Phase::Verify, set.files.values().sum());
    let files = set_files::resolve(&project, &set, work.path(), false, &ctx.monitor)?;
    let mut databases = files.jobs.iter().map(|job| compare_one(ctx, job)).collect::<Result<Vec<_>>>()?;
    databases.extend(not_in_set(ctx, &project, &files)?);
    databases.sort_by(|a, b| a.source.cmp(&b.source));
    ctx.monitor.finish();
    Ok(Comparison { timestamp, identical: databases.iter().all(|d| d.difference == Difference::Identical), databases })
}

fn not_in_set(ctx: &Context, project: &Project, files: &SetFiles) -> Result<Vec<DatabaseComparison>> {
    let live = match project.databases(ctx.databases.as_deref()) {
        Ok(found) => found.databases,
        Err(e) if e.code == Code::NoDatabases => Vec::new(),
        Err(e) => return Err(e),
    };
    let known: BTreeSet<&Path> = files.jobs.iter().map(|j| j.target.as_path()).collect();
    Ok(live.into_iter().filter(|d| !known.contains(d.path.as_path())).map(|d| only(d.source, Difference::MissingThere)).collect())
}

fn only(source: String, difference: Difference) -> DatabaseComparison {
    DatabaseComparison { source, difference, pages_different: 0, pages_total: 0, tables: Vec::new(), schema: Vec::new() }
}

fn compare_one(ctx: &Context, job: &Job) -> Result<DatabaseComparison> {
    if !job.target.exists() {
        return Ok(only(job.source.clone(), Difference::MissingHere));
    }
    let live_is_sqlite = looks_like_sqlite(&job.target)?;
    if !job.sqlite || !live_is_sqlite {
        return compare_bytes(job);
    }
    let (live, facts) = Live::open_pinned(&job.target, &ctx.patience())?;
    let pages = page_compare::compare(&live, &facts, &job.file, &ctx.monitor)?;
    if pages.different == 0 {
        return Ok(DatabaseComparison { pages_total: pages.total, ..only(job.source.clone(), Difference::Identical) });
    }
    let (here_rows, here_schema) = (health::count_live_rows(&live), health::live_schema(&live)?);
    drop(live);
    let (there_rows, there_schema) = health::with_private_copy(&job.file, |c| {
        let schema = health::schema(c).map_err(|e| {
            Error::new(Code::BackupDamaged, format!("the schema of {} can't be read: {e}", job.file.display())).caused_by(e)
        })?;
        Ok((health::count_rows(c), schema))
    })?;
    Ok(DatabaseComparison {
        pages_different: pages.different,
        pages_total: pages.total,
        tables: differing_tables(&there_rows, &here_rows),
        schema: differing_keys(&there_schema, &here_schema),
        ..only(job.source.clone(), Difference::Different)
    })
}

fn compare_bytes(job: &Job) -> Result<DatabaseComparison> {
    let same = same_bytes(&job.target, &job.file)?;
    Ok(only(job.source.clone(), if same { Difference::Identical } else { Difference::Different }))
}

fn differing_tables(there: &BTreeMap<String, u64>, here: &BTreeMap<String, u64>) -> Vec<TableComparison> {
    let names: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    let compared = names.into_iter().map(|t| TableComparison {
        table: t.clone(),
        backup_rows: there.get(t).copied(),
        live_rows: here.get(t).copied(),
    });
    compared.filter(|t| t.backup_rows != t.live_rows).collect()
}

fn differing_keys(there: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    names.into_iter().filter(|n| there.get(*n) != here.get(*n)).cloned().collect()
}
