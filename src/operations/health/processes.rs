//! The processes that have a database open: those whose commits go astray, and those whose SQLite endangers it.
//!
//! A finding that nobody believes is worse than none, so each of these needs evidence from the descriptors at this very
//! moment, not only a possibility:
//!
//! - Node has had an SQLite inside itself since 22.5, and almost no program uses it. So an SQLite in the program counts
//!   only where no library has been loaded that could be the one in use.
//! - Two libraries in one process are a danger only to a database that both have open. In WAL mode that shows: all
//!   connections of one library share one descriptor of the `-shm`, so a second descriptor is a second library. With a
//!   rollback journal two descriptors of the database can also be two connections of one library: hence a warning.
//! - Our own library, in a process that calls it, guards itself and is left out. It keeps ("parks") descriptors that it
//!   does not use; in such a process only what is also mapped is in use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Findings;
use super::types::{Finding, FindingCode, ProcessCount};
use crate::error::Result;
use crate::host::processes::{self, Library, Process, Stray, StrayKind, Use};
use crate::operations::types::Context;
use crate::project::Database;
use crate::sqlite::posix_locks;

/// Longer than SQLite needs between removing a `-shm` and closing it.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Looks at all processes; `None` where the system does not tell.
pub(super) fn report(
    ctx: &Context,
    databases: &[Database],
    findings: &mut Findings,
    notes: &mut Vec<String>,
) -> Result<Option<ProcessCount>> {
    let paths: Vec<PathBuf> = databases.iter().map(|d| d.path.clone()).collect();
    posix_locks::close_nameless();
    let Some(mut survey) = processes::survey(&paths, &ctx.monitor)? else {
        notes.push("which other processes have the databases open was not looked at: this system does not tell".to_owned());
        return Ok(None);
    };
    if survey.is_odd() {
        std::thread::sleep(SECOND_LOOK);
        posix_locks::close_nameless();
        processes::confirm(&mut survey, &paths);
    }
    if posix_locks::is_own_process() {
        // A command of ours uses nothing: it looks.
        survey.processes.retain(|p| p.id != std::process::id());
    }
    let mut old = BTreeMap::new();
    for process in &survey.processes {
        report_process(process, databases, findings);
        collect_old(process, databases, &mut old);
        if process.unread_libraries > 0 {
            let n = process.unread_libraries;
            notes.push(format!("{}: {n} of its program files could not be read and so not searched for SQLite", name(process)));
        }
    }
    findings.extend(old.into_iter().map(|((library, build), users)| old_sqlite(&library, &build, &users)));
    if survey.unreadable > 0 {
        let n = survey.unreadable;
        notes.push(format!("{n} process(es) of other accounts could not be looked at; run the check as root to include them"));
    }
    let using = u32::try_from(survey.processes.len()).unwrap_or(u32::MAX);
    Ok(Some(ProcessCount { using, examined: survey.examined, unreadable: survey.unreadable }))
}

fn name(p: &Process) -> String {
    format!("process {} ({})", p.id, p.name)
}

fn is_guarded(p: &Process) -> bool {
    p.libraries.iter().any(|l| l.build.guarded)
}

/// Libraries, not ours, that somebody had loaded.
fn loaded(p: &Process) -> Vec<&Library> {
    p.libraries.iter().filter(|l| !l.is_program && !l.build.guarded).collect()
}

fn report_process(p: &Process, databases: &[Database], findings: &mut Findings) {
    for u in &p.uses {
        let Some(database) = databases.get(u.database) else { continue };
        for kind in [StrayKind::NamelessDatabase, StrayKind::NamelessSideFile, StrayKind::ForeignSideFile] {
            let strays: Vec<&Stray> = u.strays.iter().filter(|s| s.kind == kind && (s.mapped || !is_guarded(p))).collect();
            if !strays.is_empty() {
                findings.push(astray(p, kind, &strays, database));
            }
        }
        findings.extend(two_libraries(p, u, database));
    }
}

fn astray(p: &Process, kind: StrayKind, strays: &[&Stray], database: &Database) -> Finding {
    let files: Vec<&str> = strays.iter().map(|s| s.name.as_str()).collect();
    let (who, files, source) = (name(p), files.join(" and "), &database.source);
    let rescue: Vec<String> = strays
        .iter()
        .filter(|s| !s.name.ends_with("-shm"))
        .map(|s| {
            let base = Path::new(&s.name).file_name().unwrap_or_default().to_string_lossy();
            format!("`cp /proc/{}/fd/{} '{}.rescued'`", p.id, s.descriptor, base.replace('\'', "'\\''"))
        })
        .collect();
    let rescue = if rescue.is_empty() { String::new() } else { format!("save what is in it with {}, then ", rescue.join(" and ")) };
    let restart = format!("restart process {} (`kill {}`)", p.id, p.id);
    match kind {
        StrayKind::NamelessDatabase => Finding::new(
            FindingCode::NamelessDatabase,
            source,
            format!("{who} works on a file that was {files} and has been removed or replaced: what it commits is lost when it ends"),
            format!("{rescue}{restart}"),
        ),
        StrayKind::NamelessSideFile => Finding::new(
            FindingCode::NamelessWal,
            source,
            format!("{who} has {files} open, which was removed: nobody else sees its commits, and they are lost when it ends"),
            format!("{rescue}{restart}"),
        ),
        StrayKind::ForeignSideFile => Finding::new(
            FindingCode::ForeignWal,
            source,
            format!(
                "{who} uses {files}, which is not the file of that name beside {source}: its commits and those of others destroy each other"
            ),
            format!(
                "{restart}, and let every process reach the database by the same name in the same folder (mount the folder into a container, not the file; no hard links)"
            ),
        ),
    }
}

fn two_libraries(p: &Process, u: &Use, database: &Database) -> Option<Finding> {
    let source = &database.source;
    let others: Vec<&Library> = p.libraries.iter().filter(|l| !l.build.guarded).collect();
    let names =
        |all: &[&Library]| all.iter().map(|l| format!("{} ({})", l.path.display(), l.build.name())).collect::<Vec<_>>().join(" and ");
    let remedy = || format!("let process {} use one of them for it; `ls -l /proc/{}/fd` shows who has what open", p.id, p.id);
    let unread = p.unread_libraries as usize;
    if u.shared_memories > 1 && !is_guarded(p) && others.len() + unread > 1 {
        let message = format!(
            "{} has {source} open through two SQLite libraries at once, {}: one drops the other's locks, and commits vanish",
            name(p),
            names(&others)
        );
        return Some(Finding::new(FindingCode::TwoSqliteLibraries, source, message, remedy()));
    }
    let loaded = loaded(p);
    let may_both_use_it = is_guarded(p) || (!u.wal && u.descriptors > 1);
    (loaded.len() > 1 && may_both_use_it).then(|| {
        let message = format!(
            "{} has {source} open and two SQLite libraries loaded, {}: if both use it, one drops the other's locks, and commits vanish",
            name(p),
            names(&loaded)
        );
        Finding::new(FindingCode::SqliteLoadedTwice, source, message, remedy())
    })
}

/// Library and build → whoever uses a database with it, and which.
type Old = BTreeMap<(PathBuf, String), Vec<String>>;

/// Notes the SQLite of a process that has a database open in WAL mode, if that SQLite has the WAL-reset bug. Where
/// several could be the one, all of them must have it, unless all of them are in use.
fn collect_old(p: &Process, databases: &[Database], old: &mut Old) {
    let mut candidates = loaded(p);
    if candidates.is_empty() && !is_guarded(p) {
        candidates = p.libraries.iter().collect();
    }
    for u in p.uses.iter().filter(|u| u.wal) {
        let Some(database) = databases.get(u.database) else { continue };
        let with_bug: Vec<_> = candidates.iter().filter(|l| l.build.has_wal_reset_bug()).collect();
        if with_bug.len() < candidates.len() && u.shared_memories < 2 {
            continue;
        }
        for l in with_bug {
            old.entry((l.path.clone(), l.build.name())).or_default().push(format!("{} on {}", name(p), database.source));
        }
    }
}

fn old_sqlite(library: &Path, build: &str, users: &[String]) -> Finding {
    let path = library.display().to_string();
    let message = format!(
        "{build} in {path} has the WAL-reset bug: when two connections checkpoint and write at the same moment, it can, rarely, damage the database; used by {}",
        users.join(", ")
    );
    let file = library.file_name().unwrap_or_default().to_string_lossy();
    let update = match &*file {
        "better_sqlite3.node" => "`npm install better-sqlite3@latest`".to_owned(),
        f if f.starts_with("libsqlite3.so") => "`apt-get install --only-upgrade libsqlite3-0` or its like".to_owned(),
        "node" => "a newer Node".to_owned(),
        _ => format!("a newer {file}"),
    };
    let remedy =
        format!("update to SQLite 3.51.3 or later (3.50.7 and 3.44.6 have the correction too) with {update}, and restart what uses it");
    Finding::new(FindingCode::OldSqlite, path, message, remedy)
}
