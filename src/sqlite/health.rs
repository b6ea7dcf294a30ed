//! Three-valued judgement of a database's structure, and the rows of its tables.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::connection::Live;
use super::failure::translate;
use super::posix_locks;
use super::private_copy::PrivateCopy;
use crate::error::{Code, Error, Result};

/// Three verdicts, not two: a database that can't be checked here is not a damaged one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// `quick_check` found nothing.
    Sound,
    /// What `quick_check`, or the attempt to read, found.
    Damaged(String),
    /// What the check lacks here: a collation, a function, a module.
    CannotCheck(String),
}

/// Verdict and rows.
#[derive(Debug, Clone)]
pub struct Checked {
    /// On the structure.
    pub verdict: Verdict,
    /// Rows of each ordinary table that could be counted.
    pub tables: BTreeMap<String, u64>,
}

/// Findings of one check worth quoting.
const FINDINGS: usize = 3;

/// Checks a copy that is ours alone; no `-wal` or `-shm` appears beside it.
pub fn check_copy(path: &Path) -> Result<Checked> {
    with_private_copy(path, |c| Ok(Checked { verdict: judge(c, path)?, tables: count_rows(c, path)? }))
}

/// Checks the pinned snapshot of a live database, and so every copy of it that has the same bytes.
pub fn check_snapshot(live: &Live) -> Result<Checked> {
    Ok(Checked { verdict: check_live(live)?, tables: count_live_rows(live)? })
}

/// Checks the structure of the pinned snapshot of a live database.
pub fn check_live(live: &Live) -> Result<Verdict> {
    judge(live.connection(), live.path())
}

/// Runs `f` on a read-only connection to a copy that is ours alone. Opening reads nothing, so damage shows in `f`.
pub fn with_private_copy<T>(path: &Path, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    f(PrivateCopy::open(path)?.connection())
}

/// What can't be read is an error, not a verdict.
fn judge(connection: &Connection, path: &Path) -> Result<Verdict> {
    drop(posix_locks::failed_call());
    let findings = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("PRAGMA quick_check({FINDINGS})"))?;
        statement.query_map([], |r| r.get(0))?.collect()
    };
    let found = findings();
    // `quick_check` reports a page that could not be read among its findings.
    if let Some(failed) = posix_locks::failed_call() {
        return Err(Error::io(failed, "read", path));
    }
    Ok(match found {
        Ok(lines) if lines == ["ok"] => Verdict::Sound,
        Ok(lines) if lines.iter().all(|l| is_missing_extension(l)) => Verdict::CannotCheck(lines.join("; ")),
        Ok(lines) => Verdict::Damaged(one_line(&lines)),
        Err(e) => match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Verdict::Damaged(e.to_string()),
            Some(ErrorCode::SystemIoFailure) => return Err(translate(e, "read", path)),
            _ => Verdict::CannotCheck(e.to_string()),
        },
    })
}

/// The findings without the banner that SQLite puts before them.
fn one_line(findings: &[String]) -> String {
    let lines = findings.iter().flat_map(|f| f.lines()).filter(|l| !l.starts_with("***"));
    lines.collect::<Vec<_>>().join("; ")
}

/// Whether a finding speaks of something the application brings along and we don't have.
fn is_missing_extension(finding: &str) -> bool {
    ["no such collation", "no such module", "no such function", "unknown tokenizer", "no such tokenizer"]
        .iter()
        .any(|m| finding.contains(m))
}

/// Rows of every ordinary table; virtual and shadow tables are left out: their rows are the module's business.
pub fn count_rows(connection: &Connection, path: &Path) -> Result<BTreeMap<String, u64>> {
    drop(posix_locks::failed_call());
    let names = || -> rusqlite::Result<Vec<String>> {
        let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        connection.prepare(sql)?.query_map([], |r| r.get(0))?.collect()
    };
    // A table that can't be counted is damaged or needs an extension, which the verdict says already.
    let names = names().unwrap_or_default();
    let rows = names.into_iter().filter_map(|name| count(connection, &name).ok().map(|n| (name, n))).collect();
    posix_locks::failed_call().map_or(Ok(rows), |e| Err(Error::io(e, "read", path)))
}

fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let quoted = table.replace('"', "\"\"");
    let n: i64 = connection.query_row(&format!("SELECT count(*) FROM main.\"{quoted}\""), [], |r| r.get(0))?;
    Ok(u64::try_from(n).unwrap_or(0))
}

/// Rows of a pinned live database.
pub fn count_live_rows(live: &Live) -> Result<BTreeMap<String, u64>> {
    count_rows(live.connection(), live.path())
}

/// `type name` → SQL of every schema object.
pub fn schema(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let sql = "SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    connection.prepare(sql)?.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
}

/// Schema of a pinned live database.
pub fn live_schema(live: &Live) -> Result<BTreeMap<String, String>> {
    schema(live.connection()).map_err(|e| live.translate(e, "read the schema of"))
}

/// Turns a failed check of a copy into the error that names it; `None` when the copy is sound or can't be checked.
pub fn damage_of_copy(verdict: &Verdict, path: &Path) -> Option<Error> {
    match verdict {
        Verdict::Damaged(why) => Some(Error::new(Code::BackupDamaged, format!("{} is damaged: {why}; use another backup", path.display()))),
        Verdict::Sound | Verdict::CannotCheck(_) => None,
    }
}
