//! preview: what a restore would change, for the question before it. Takes no lock of the folder and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::copy_check;
use super::inspect;
use super::types::{Context, LiveState, PreviewedDatabase, RestorePreview};
use crate::backup_set::archive;
use crate::backup_set::metadata::{DatabaseRecord, Metadata};
use crate::backup_set::names::{self, Artefact};
use crate::backup_set::timestamp::Timestamp;
use crate::error::Result;
use crate::project::Project;
use crate::sqlite::connection::{Live, looks_like_sqlite};
use crate::sqlite::{health, page_compare};
use crate::store::catalog::{self, SetEntry};

/// What a set says of one of its databases.
struct Held {
    source: String,
    size: u64,
    rows: Option<BTreeMap<String, u64>>,
    /// The copy, unless it is inside an archive.
    file: Option<PathBuf>,
}

/// Looks at the set called `timestamp` and at the databases it would replace. `BACKUP_NOT_FOUND` if there is none.
pub fn preview(ctx: &Context, timestamp: &str) -> Result<RestorePreview> {
    let timestamp: Timestamp = timestamp.parse()?;
    let project = ctx.project()?;
    let set = catalog::find(&project.backup_dir, timestamp)?.ok_or_else(|| inspect::not_found(timestamp, &project.backup_dir))?;
    let held = if set.archive_only() {
        in_archive(ctx, &project.backup_dir.join(names::archive(timestamp)))?.1
    } else {
        in_folder(&project, &set)?
    };
    look(ctx, &project, timestamp, held)
}

/// The same for an archive that lies anywhere.
pub fn preview_archive(ctx: &Context, archive: &Path) -> Result<RestorePreview> {
    let project = ctx.project()?;
    let (timestamp, held) = in_archive(ctx, archive)?;
    look(ctx, &project, timestamp, held)
}

fn from_metadata(metadata: &Metadata, dir: Option<&Path>) -> Vec<Held> {
    let rows = |d: &DatabaseRecord| d.sqlite.as_ref().map(|s| s.tables.clone());
    metadata
        .databases()
        .iter()
        .map(|d| Held { source: d.source.clone(), size: d.size, rows: rows(d), file: dir.map(|dir| dir.join(&d.file)) })
        .collect()
}

fn in_folder(project: &Project, set: &SetEntry) -> Result<Vec<Held>> {
    if let Some(m) = set.metadata().filter(|m| m.databases.is_some()) {
        return Ok(from_metadata(m, Some(&project.backup_dir)));
    }
    let held = |(file, size): (&String, &u64)| {
        let path = project.backup_dir.join(file);
        // A copy that can't be counted is judged when it is verified; here it just has no number.
        let rows = copy_check::begins_like_sqlite(&path)?
            .then(|| health::with_private_copy(&path, |c| health::count_rows(c, &path)))
            .and_then(Result::ok);
        Ok(catalog::legacy_source(file).map(|source| Held { source, size: *size, rows, file: Some(path) }))
    };
    set.files.iter().map(held).filter_map(Result::transpose).collect()
}

fn in_archive(ctx: &Context, path: &Path) -> Result<(Timestamp, Vec<Held>)> {
    let (mut held, mut members) = (None, Vec::new());
    let timestamp = archive::read(path, |member, body| {
        ctx.monitor.check()?;
        match member.artefact {
            Artefact::Metadata => {
                let m = Metadata::parse(&Metadata::read_bytes(body, member.name)?, member.name)?;
                held = Some(m).filter(|m| m.databases.is_some()).map(|m| from_metadata(&m, None));
            }
            Artefact::Database(_) => {
                members.extend(catalog::legacy_source(member.name).map(|source| Held {
                    source,
                    size: member.size,
                    rows: None,
                    file: None,
                }));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((timestamp, held.unwrap_or(members)))
}

fn look(ctx: &Context, project: &Project, timestamp: Timestamp, held: Vec<Held>) -> Result<RestorePreview> {
    let wanted = project.select(ctx.databases.as_deref())?;
    let mut databases = held.into_iter().filter(|h| wanted.has(&h.source)).map(|h| compare(ctx, project, h)).collect::<Result<Vec<_>>>()?;
    databases.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(RestorePreview { timestamp, databases })
}

fn compare(ctx: &Context, project: &Project, held: Held) -> Result<PreviewedDatabase> {
    let path = project.locate(&held.source)?;
    let live_size = path.metadata().ok().map(|m| m.len());
    let live = if live_size.is_none() { LiveState::Missing } else { live_state(ctx, &path, held.file.as_deref()) };
    // Being called off is no fault of the database's.
    ctx.monitor.check()?;
    Ok(PreviewedDatabase { source: held.source, backup_size: held.size, backup_rows: held.rows, live_size, live })
}

/// What can't be counted now (busy, damaged) is said, and does not stop the question.
fn live_state(ctx: &Context, path: &Path, copy: Option<&Path>) -> LiveState {
    let count = || -> Result<LiveState> {
        if !looks_like_sqlite(path)? {
            return Ok(LiveState::Plain);
        }
        let (live, facts) = Live::open_pinned(path, &ctx.patience())?;
        // A copy that can't be read is the restore's to refuse.
        let pages = copy.and_then(|c| page_compare::compare(&live, &facts, c, &mut |_| ctx.monitor.check()).ok());
        Ok(LiveState::Rows { tables: health::count_live_rows(&live)?, pages: pages.map(|p| (p.different, p.total)) })
    };
    count().unwrap_or_else(|e| LiveState::Unreadable(e.message))
}
