//! What a record says that can't be: of its set, and of a copy. A record decides where files are written, so it is not
//! believed where it can be seen to be wrong.

use std::collections::BTreeSet;

use super::sources;
use crate::backup_set::metadata::{Integrity, Metadata, SqliteRecord};
use crate::backup_set::names::{self, Artefact};
use crate::backup_set::timestamp::Timestamp;
use crate::error::Code;
use crate::project::Project;
use crate::sqlite::header::Header;
use crate::sqlite::health::Checked;

/// What is wrong with the record of the set `timestamp`, of which `files` are there.
pub(super) fn problem<'a>(
    metadata: &Metadata,
    timestamp: Timestamp,
    files: impl Iterator<Item = &'a str>,
    project: &Project,
) -> Option<(Code, String)> {
    if metadata.timestamp != timestamp.to_string() {
        let message = format!("{} says that it belongs to backup {:?}", names::metadata(timestamp), metadata.timestamp);
        return Some((Code::BackupDamaged, message));
    }
    if let Err(e) = metadata.require_known_format() {
        return Some((e.code, e.message));
    }
    contradiction(metadata, timestamp, files, project)
}

fn contradiction<'a>(
    metadata: &Metadata,
    timestamp: Timestamp,
    mut files: impl Iterator<Item = &'a str>,
    project: &Project,
) -> Option<(Code, String)> {
    let databases = metadata.databases.as_ref()?;
    let sources: BTreeSet<&str> = databases.iter().map(|d| d.source.as_str()).collect();
    let known: BTreeSet<&str> = databases.iter().map(|d| d.file.as_str()).collect();
    let is_wrong = |file: &&str| !is_plausible(file, timestamp);
    let (side, real): (Vec<_>, Vec<_>) = databases.iter().partition(|d| sources::is_side_file(d));
    let why = if real.is_empty() {
        "names no database".to_owned()
    } else if let Some(d) = side.iter().find(|d| !real.iter().any(|r| sources::is_side_file_of(d, r))) {
        format!("calls {:?} the side file of a database that it does not name", d.source)
    } else if sources.len() < databases.len() || known.len() < databases.len() {
        "names a database twice".to_owned()
    } else if let Some(file) = known.iter().copied().find(|file| is_wrong(file)) {
        format!("names a file that can't belong to it: {file:?}")
    } else if let Some(e) = real.iter().find_map(|d| project.place(&d.source).err()) {
        return Some((e.code, e.message));
    } else {
        let unknown = files.find(|f| !known.contains(f))?;
        format!(
            "does not name {unknown:?}, which is there; move that file away, or out of the archive (a Mac's tar adds ._ files unless COPYFILE_DISABLE=1 is set)"
        )
    };
    Some((Code::BackupDamaged, format!("{} {why}", names::metadata(timestamp))))
}

/// Whether a copy of the set can be called so: the flat name of a copy of that set, and not a path to somewhere else.
pub(super) fn is_plausible(file: &str, timestamp: Timestamp) -> bool {
    matches!(names::parse(file), Some((t, Artefact::Database(_))) if t == timestamp)
        && !file.contains(|c| c == '\0' || std::path::is_separator(c))
}

/// What a record says of a database that its copy, of `size` bytes, denies: it may have been changed and given a new checksum.
pub(super) fn denied(record: &SqliteRecord, header: Option<&Header>, size: u64, checked: &Checked) -> Option<String> {
    let mut told: Vec<(String, i64, i64)> = Vec::new();
    if let Some(header) = header {
        let page_size = i64::from(header.layout.page_size);
        let pages = i64::try_from(size).unwrap_or(i64::MAX) / page_size;
        told.push(("page_size".into(), i64::from(record.page_size), page_size));
        told.push(("page_count".into(), i64::try_from(record.page_count).unwrap_or(i64::MAX), pages));
        told.push(("application_id".into(), record.application_id, i64::from(header.application_id.cast_signed())));
        told.push(("user_version".into(), record.user_version, i64::from(header.user_version.cast_signed())));
    }
    if !matches!(record.integrity, Integrity::NotChecked) {
        let rows = |n: &u64| i64::try_from(*n).unwrap_or(i64::MAX);
        // A table that one of the two could not count may have needed what is not there.
        let counted = checked.tables.iter().filter_map(|(table, here)| Some((table, record.tables.get(table)?, here)));
        told.extend(counted.map(|(table, there, here)| (format!("rows of {table}"), rows(there), rows(here))));
    }
    let (what, there, here) = told.into_iter().find(|(_, there, here)| there != here)?;
    Some(format!("the metadata says that {what} is {there}, and in the copy it is {here}; the metadata is not to be trusted"))
}
