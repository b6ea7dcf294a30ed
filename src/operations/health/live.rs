//! The live databases: damaged, or with most of their rows gone since the last good backup.

use std::collections::BTreeMap;

use super::sets::{self, Judged};
use super::types::{Finding, FindingCode};
use super::{Findings, Hints};
use crate::error::{Code, Result};
use crate::operations::types::Context;
use crate::operations::{create, shrinkage};
use crate::project::Database;
use crate::sqlite::connection::{Live, looks_like_sqlite};
use crate::sqlite::health::{self, Verdict};
use crate::store::catalog::SetEntry;

/// What the databases are looked at with.
pub(super) struct Look<'a> {
    pub ctx: &'a Context,
    pub sets: &'a [SetEntry],
    pub judged: &'a [Judged<'a>],
    pub hints: &'a Hints,
}

/// What was seen of a live database. One that is not listed could not be checked, or was not to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Structure sound, and not emptied.
    Sound,
    /// Damaged, or without any table: a restore takes nothing away that is worth keeping.
    Lost,
}

/// Conditions by source.
pub(super) type Conditions = BTreeMap<String, Condition>;

/// Checks each database in a read transaction. What can't be read is not taken for damaged, nor for sound.
pub(super) fn report(look: &Look, databases: &[Database], findings: &mut Findings) -> Result<Conditions> {
    let hints = look.hints;
    let mut seen = Conditions::new();
    for database in databases {
        look.ctx.monitor.check()?;
        let good = sets::newest_good(look.judged, &database.source);
        if is_astray(database, findings) {
            // SQLite would make a new -wal in the place of the one that is still in use.
            findings.push(not_checked(database, "a process uses another -wal, -shm or database file than the one here", hints));
            continue;
        }
        let condition = match check(look, database, findings) {
            Ok(Judgement::Condition(condition)) => Some(condition),
            Ok(Judgement::Damaged(why)) => {
                findings.push(damaged(database, &why, good, hints));
                Some(Condition::Lost)
            }
            Ok(Judgement::Unknown) => None,
            Err(e) if e.code == Code::Abort => return Err(e),
            Err(e) if e.code == Code::SourceDamaged => {
                findings.push(damaged(database, &e.message, good, hints));
                Some(Condition::Lost)
            }
            Err(e) => {
                findings.push(not_checked(database, &e.message, hints));
                None
            }
        };
        seen.extend(condition.map(|c| (database.source.clone(), c)));
    }
    Ok(seen)
}

fn is_astray(database: &Database, findings: &Findings) -> bool {
    let astray = [FindingCode::NamelessDatabase, FindingCode::NamelessWal, FindingCode::ForeignWal];
    findings.iter().any(|f| f.subject == database.source && astray.contains(&f.code))
}

fn damaged(database: &Database, why: &str, good: Option<&Judged>, hints: &Hints) -> Finding {
    let remedy = match good {
        Some(good) => {
            format!("restore the last good backup with {}", hints.for_one(&format!("restore {}", good.set.timestamp), &database.source))
        }
        None => format!("save what is left of it with {} before you repair it", hints.command("create")),
    };
    Finding::new(FindingCode::SourceDamaged, &database.source, format!("{} is damaged: {why}", database.source), remedy)
}

fn not_checked(database: &Database, why: &str, hints: &Hints) -> Finding {
    let remedy = format!("remove the cause, then run {} again", hints.command("check"));
    Finding::new(FindingCode::DatabaseNotChecked, &database.source, format!("{} could not be checked: {why}", database.source), remedy)
}

enum Judgement {
    Condition(Condition),
    /// Why.
    Damaged(String),
    /// A plain file, or a database that needs what we don't have.
    Unknown,
}

fn check(look: &Look, database: &Database, findings: &mut Findings) -> Result<Judgement> {
    if !looks_like_sqlite(&database.path)? {
        return Ok(create::overwritten(database, look.sets).map_or(Judgement::Unknown, Judgement::Damaged));
    }
    let (live, _) = Live::open_pinned(&database.path, &look.ctx.patience())?;
    let verdict = health::check_live(&live)?;
    if let Verdict::Damaged(why) = verdict {
        return Ok(Judgement::Damaged(why));
    }
    let is_emptied = report_losses(look, database, &live, findings)?;
    Ok(match verdict {
        Verdict::CannotCheck(why) => {
            findings.push(not_checked(database, &why, look.hints));
            Judgement::Unknown
        }
        _ if is_emptied => Judgement::Condition(Condition::Lost),
        _ => Judgement::Condition(Condition::Sound),
    })
}

/// Whether all tables are gone.
fn report_losses(look: &Look, database: &Database, live: &Live, findings: &mut Findings) -> Result<bool> {
    let hints = look.hints;
    let Some(then) = sets::newest_counted(look.judged, &database.source) else { return Ok(false) };
    let (rows, schema) = (health::count_live_rows(live)?, health::live_schema(live)?);
    let losses = shrinkage::since(then, &database.source, &rows);
    let has_tables = schema.keys().any(|name| name.starts_with("table "));
    if !has_tables && !losses.is_empty() {
        let message = format!(
            "{} has become empty: it has no table, and had {} with rows in backup {}",
            database.source,
            losses.len(),
            then.timestamp
        );
        let remedy =
            format!("if that was not meant, put it back with {}", hints.for_one(&format!("restore {}", then.timestamp), &database.source));
        findings.push(Finding::new(FindingCode::RowsLost, &database.source, message, remedy).critical());
        return Ok(true);
    }
    for (table, before, now) in losses {
        // A table that is there and can't be counted has not lost anything that we know of.
        if !rows.contains_key(table) && schema.contains_key(&format!("table {table}")) {
            continue;
        }
        let message = format!("{}: table {table} has {now} rows, and had {before} in backup {}", database.source, then.timestamp);
        let remedy = format!("if that was not meant, see what is gone with {}", hints.command(&format!("compare {}", then.timestamp)));
        findings.push(Finding::new(FindingCode::RowsLost, &database.source, message, remedy));
    }
    Ok(false)
}
