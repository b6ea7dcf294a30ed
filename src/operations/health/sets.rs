//! The backups: which are good, which are damaged, and how old the newest good one of each database is.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::live::{Condition, Conditions};
use super::types::{DatabaseHealth, Finding, FindingCode};
use super::{Findings, Hints};
use crate::backup_set::metadata::{DatabaseRecord, Kind, Metadata};
use crate::backup_set::names::{self, Artefact};
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, Result};
use crate::operations::sources::SIDE_FILE_OF;
use crate::operations::types::{Context, FileReport, Inspection};
use crate::operations::{inspect, shrinkage};
use crate::project::Project;
use crate::store::catalog::{self, SetEntry};
use crate::store::retention;

/// A database that was removed longer ago than this is hardly missed.
const MISSED_DAYS: i64 = 30;

/// A set and what is wrong with it.
pub(super) struct Judged<'a> {
    pub set: &'a SetEntry,
    /// Databases of which it has a good, verified copy.
    good: BTreeSet<String>,
    /// Databases that were damaged when it was made.
    marked: Vec<String>,
    /// What is damaged in it.
    damage: Vec<String>,
    /// A copy is damaged, and the archive was read and is not: a restore takes the files from there.
    archive_helps: bool,
    /// Why it, or a part of it, could not be judged.
    unknown: Option<String>,
    /// Nothing says that its bytes are the right ones.
    no_checksum: bool,
    future: bool,
}

impl Judged<'_> {
    /// Bytes are damaged, or were when they were backed up.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || !self.marked.is_empty()
    }

    fn is_well(&self) -> bool {
        self.damage.is_empty() && self.unknown.is_none() && !self.no_checksum
    }

    fn counts(&self) -> bool {
        !self.future && !self.set.archive_only()
    }
}

/// Judges every set, oldest first: `quick` by its record and its files' sizes, else by every byte.
pub(super) fn judge_all<'a>(
    ctx: &Context,
    project: &Project,
    sets: &'a [SetEntry],
    now: Timestamp,
    quick: bool,
) -> Result<Vec<Judged<'a>>> {
    let mut all = Vec::new();
    for set in sets {
        ctx.monitor.check()?;
        let future = retention::is_future(set.timestamp, now);
        all.push(if quick { read_record(set, future) } else { by_bytes(ctx, project, set, future)? });
    }
    if all.iter().all(Judged::is_well) {
        return Ok(all);
    }
    // Nobody keeps a clean-up, or a backup, from running meanwhile; those that seem unwell are looked at again, all with one
    // look. A set that was removed or cut down to its archive is not damaged.
    let again: HashMap<Timestamp, SetEntry> = catalog::scan(&project.backup_dir)?.into_iter().map(|s| (s.timestamp, s)).collect();
    let look_again = |judged: Judged<'a>| {
        if judged.is_well() {
            return Some(judged);
        }
        let now = again.get(&judged.set.timestamp)?;
        if quick {
            // The folder was listed before the record was read: of a set that was published in between, files seem to be missing.
            let Judged { good, marked, damage, archive_helps, unknown, no_checksum, future, .. } = read_record(now, judged.future);
            return Some(Judged { set: judged.set, good, marked, damage, archive_helps, unknown, no_checksum, future });
        }
        (now.archive_only() == judged.set.archive_only()).then_some(judged)
    };
    Ok(all.into_iter().filter_map(look_again).collect())
}

fn empty(set: &SetEntry, future: bool) -> Judged<'_> {
    let marked = set.metadata().map(Metadata::databases).unwrap_or_default().iter().filter(|d| d.is_damaged()).map(|d| d.source.clone());
    Judged {
        set,
        good: BTreeSet::new(),
        marked: marked.collect(),
        damage: Vec::new(),
        archive_helps: false,
        unknown: None,
        no_checksum: false,
        future,
    }
}

fn read_record(set: &SetEntry, future: bool) -> Judged<'_> {
    let mut judged = empty(set, future);
    if let Some(Err(e)) = &set.metadata {
        note(&mut judged, e.code, e.message.clone());
    } else if let Some((code, message)) = set.seal.problem(set.timestamp) {
        note(&mut judged, code, message);
    } else if let Some(m) = set.metadata() {
        let whole = |d: &DatabaseRecord| set.files.get(&d.file) == Some(&d.size);
        let sealed = |d: &DatabaseRecord| set.sidecars.contains(&d.file);
        let databases = m.databases();
        judged.damage.extend(databases.iter().filter(|d| !whole(d)).map(|d| format!("{} is missing or has another size", d.file)));
        judged.no_checksum = databases.iter().any(|d| whole(d) && !sealed(d));
        if m.verified == Some(true) {
            let good = databases.iter().filter(|d| whole(d) && sealed(d) && !d.is_damaged());
            judged.good = good.map(|d| d.source.clone()).collect();
        }
    }
    judged
}

fn by_bytes<'a>(ctx: &Context, project: &Project, set: &'a SetEntry, future: bool) -> Result<Judged<'a>> {
    let mut judged = empty(set, future);
    match inspect::inspect_set(project, set, &ctx.monitor) {
        Ok(inspection) => sort_out(&inspection, &mut judged),
        Err(e) if e.code == Code::Abort => return Err(e),
        Err(e) => judged.unknown = Some(e.message),
    }
    Ok(judged)
}

fn sort_out(inspection: &Inspection, judged: &mut Judged<'_>) {
    for file in &inspection.files {
        // Of a marked copy the mark itself is one problem; any other is damage that came later.
        let is_marked = file.source.as_ref().is_some_and(|s| judged.marked.contains(s));
        if !(is_marked && file.problems.len() == 1) {
            file.problems.iter().for_each(|(code, message)| note(judged, *code, message.clone()));
        }
    }
    let is_archive_sound = inspection.files.iter().any(|f| f.ok && is_archive(f));
    judged.archive_helps = is_archive_sound && !judged.damage.is_empty() && judged.marked.is_empty();
    let is_record_good = inspection.files.iter().filter(|f| f.source.is_none() && is_metadata(f)).all(|f| f.ok);
    if is_record_good {
        judged.good = inspection.files.iter().filter(|f| f.ok).filter_map(|f| f.source.clone()).collect();
    }
}

fn is_archive(file: &FileReport) -> bool {
    matches!(names::parse(&file.file), Some((_, Artefact::Archive)))
}

fn is_metadata(file: &FileReport) -> bool {
    matches!(names::parse(&file.file), Some((_, Artefact::Metadata)))
}

fn note(judged: &mut Judged<'_>, code: Code, message: String) {
    match code {
        Code::NeedsForce => judged.no_checksum = true,
        Code::UnsupportedFormat => judged.unknown = Some(message),
        _ => judged.damage.push(message),
    }
}

/// The newest set with a good copy of `source` whose rows were counted.
pub(super) fn newest_counted<'a>(judged: &'a [Judged], source: &str) -> Option<&'a Metadata> {
    let good = judged.iter().rev().filter(|s| s.counts() && s.good.contains(source));
    good.filter_map(|s| s.set.metadata()).find(|m| shrinkage::is_counted(m, source))
}

/// The newest set with a good copy of `source`.
pub(super) fn newest_good<'a, 'b>(judged: &'a [Judged<'b>], source: &str) -> Option<&'a Judged<'b>> {
    judged.iter().rev().find(|s| s.counts() && s.good.contains(source))
}

/// Findings about the sets themselves.
pub(super) fn report(judged: &[Judged], hints: &Hints, findings: &mut Findings) {
    for s in judged {
        let t = s.set.timestamp.to_string();
        if let Some(first) = s.damage.first() {
            let more = if s.damage.len() > 1 { format!(" (and {} more)", s.damage.len() - 1) } else { String::new() };
            let archive = if s.archive_helps { "; its archive is sound, and a restore of it takes the files from there" } else { "" };
            let remedy = format!(
                "make a new one with {}, then remove this one with {}; {} says all that is wrong with it{archive}",
                hints.command("create"),
                hints.command(&format!("delete {t}")),
                hints.command(&format!("verify {t}"))
            );
            findings.push(Finding::new(FindingCode::BackupDamaged, &t, format!("backup {t} is damaged: {first}{more}"), remedy));
        }
        if let Some(why) = &s.unknown {
            let remedy = format!("remove the cause and run {}", hints.command(&format!("verify {t}")));
            findings.push(Finding::new(FindingCode::BackupNotChecked, &t, format!("backup {t} could not be checked: {why}"), remedy));
        }
        if s.no_checksum {
            let message = format!("backup {t} has files without a checksum, so nothing says that their bytes are the right ones");
            let remedy = format!("make a new one with {}", hints.command("create"));
            findings.push(Finding::new(FindingCode::BackupWithoutChecksum, &t, message, remedy));
        }
    }
    report_future(judged, hints, findings);
    report_shrunk(judged, hints, findings);
}

/// Sets that are copies of what was damaged.
pub(super) fn report_marked(judged: &[Judged], project: &Project, seen: &Conditions, hints: &Hints, findings: &mut Findings) {
    let condition = |source: &str| match seen.get(source) {
        // There is nothing that a restore would take away.
        None if project.locate(source).is_ok_and(|path| durable::is_there(&path).is_ok_and(|there| !there)) => Some(Condition::Lost),
        known => known.copied(),
    };
    for (i, s) in judged.iter().enumerate().filter(|(_, s)| !s.marked.is_empty()) {
        let is_newest = |source: &&String| !judged[i + 1..].iter().any(|n| n.counts() && n.set.sources().contains(source));
        let open: Vec<(&str, Option<Condition>)> =
            s.marked.iter().filter(is_newest).map(|source| (source.as_str(), condition(source))).collect();
        findings.push(marked(s, &open, judged, hints));
    }
}

/// `open`: those of its damaged databases that no newer set has, and how they are now.
fn marked(s: &Judged, open: &[(&str, Option<Condition>)], all: &[Judged], hints: &Hints) -> Finding {
    let t = s.set.timestamp.to_string();
    let message = format!("backup {t} is a copy of a database that was damaged when it was made: {}", s.marked.join(", "));
    let remedy = marked_remedy(&t, open, all, hints);
    let finding = Finding::new(FindingCode::SourceWasDamaged, t, message, remedy);
    // A safety set is what a restore saved before it put a good copy in the place of a damaged one.
    let is_history = s.set.kind() == Kind::Safety || open.iter().all(|(_, condition)| *condition == Some(Condition::Sound));
    if is_history { finding.only_warning() } else { finding }
}

/// Never a restore over a database that is sound, or may be: it would only take away what has been written since.
fn marked_remedy(t: &str, open: &[(&str, Option<Condition>)], all: &[Judged], hints: &Hints) -> String {
    let delete = hints.command(&format!("delete {t}"));
    if open.is_empty() {
        return format!("remove it, when nobody needs it any more, with {delete}");
    }
    if let Some((source, _)) = open.iter().find(|(_, condition)| *condition == Some(Condition::Lost)) {
        return match newest_good(all, source) {
            Some(good) => {
                format!("restore the last good backup with {}", hints.for_one(&format!("restore {}", good.set.timestamp), source))
            }
            None => format!("repair {source}, then run {}", hints.command("create")),
        };
    }
    let (create, check) = (hints.command("create"), hints.command("check"));
    if open.iter().all(|(_, condition)| *condition == Some(Condition::Sound)) {
        return format!("the database is sound now: make a backup of it with {create}; if nobody needs the damaged one, {delete}");
    }
    format!(
        "see with {check} whether the database is damaged still; if it is sound, make a backup of it with {create}, and if nobody needs the damaged one, {delete}"
    )
}

fn report_future(judged: &[Judged], hints: &Hints, findings: &mut Findings) {
    let future: Vec<String> = judged.iter().filter(|s| s.future).map(|s| s.set.timestamp.to_string()).collect();
    let Some(newest) = future.last() else { return };
    let message = match future.len() {
        1 => format!("backup {newest} is dated in the future, so it does not count as fresh, and no clean-up removes it"),
        n => format!("{n} backups are dated in the future, the last {newest}, so they do not count as fresh, and no clean-up removes them"),
    };
    let remedy = format!("set the clock; a backup that is of no use is removed with {}", hints.command(&format!("delete {newest}")));
    findings.push(Finding::new(FindingCode::BackupInFuture, newest, message, remedy));
}

fn report_shrunk(judged: &[Judged], hints: &Hints, findings: &mut Findings) {
    // What could not be read of a damaged database was not counted either: that it is damaged says enough.
    // Nor does what was saved before a restore speak of the databases as they are: the restore may have been the answer.
    let speaks = |s: &&Judged| s.counts() && !s.set.metadata().is_some_and(Metadata::precedes_restore);
    let Some(newest) = judged.iter().rev().find(speaks).filter(|s| !s.is_damaged()) else { return };
    let Some(since) = newest.set.metadata().and_then(|m| m.shrunk_since.clone()) else { return };
    let t = newest.set.timestamp.to_string();
    let message = format!("in backup {t}, the newest, a table has lost most of the rows that it had in backup {since}");
    let remedy = format!("if that was not meant, see what is gone with {}", hints.command(&format!("compare {since}")));
    findings.push(Finding::new(FindingCode::BackupShrunk, t, message, remedy));
}

/// Databases without a fresh, good backup.
pub(super) fn report_age(databases: &[DatabaseHealth], max: Duration, now: Timestamp, hints: &Hints, findings: &mut Findings) {
    for d in databases {
        let remedy = || format!("make one with {}", hints.command("create"));
        let (Some(newest), Some(age)) = (d.newest_backup, d.age(now)) else {
            let message = format!("{} has no verified, undamaged backup", d.source);
            findings.push(Finding::new(FindingCode::NoVerifiedBackup, &d.source, message, remedy()));
            continue;
        };
        if age > max.as_secs() {
            let message = format!(
                "the newest verified backup of {}, {newest}, is {} old, and {} are allowed",
                d.source,
                spelled(age),
                spelled(max.as_secs())
            );
            findings.push(Finding::new(FindingCode::BackupTooOld, &d.source, message, remedy()));
        }
    }
}

/// A length of time in the largest unit that says it well.
fn spelled(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Databases that a backup of the last [`MISSED_DAYS`] has and that are not there any more: a script that removes `*.db`
/// should not go unnoticed, even if backups went on without them.
pub(super) fn report_missing(
    judged: &[Judged],
    project: &Project,
    now: Timestamp,
    hints: &Hints,
    findings: &mut Findings,
) -> Result<(), Error> {
    let recent = |s: &&Judged| s.counts() && s.set.timestamp.seconds_until(now) <= MISSED_DAYS * 86_400;
    let mut known = BTreeSet::new();
    for s in judged.iter().rev().filter(recent) {
        let records = s.set.metadata().map(Metadata::databases).unwrap_or_default();
        for record in records.iter().filter(|r| !r.extra.contains_key(SIDE_FILE_OF)) {
            // A place where none can be is the metadata's mistake, which `verify` reports.
            let Ok(path) = project.locate(&record.source) else { continue };
            if known.insert(&record.source) && !durable::is_there(&path)? {
                let t = s.set.timestamp;
                let from = newest_good(judged, &record.source).map_or(t, |good| good.set.timestamp);
                let message = format!("{} is gone, and backup {t} has it", record.source);
                let back = hints.for_one(&format!("restore {from}"), &record.source);
                let remedy = format!("if that was not meant, put it back with {back}; if it was, this ends {MISSED_DAYS} days after {t}");
                findings.push(Finding::new(FindingCode::DatabaseMissing, &record.source, message, remedy));
            }
        }
    }
    Ok(())
}
