//! clean and delete: remove old sets by the plan of `store::retention`, or one set by name.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::copy_check;
use super::inspect;
use super::session;
use super::types::{CleanDecision, CleanOptions, CleanOutcome, Context, DeleteOutcome};
use crate::backup_set::archive;
use crate::backup_set::metadata::{Kind, Metadata};
use crate::backup_set::names::{self, Artefact};
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, Result};
use crate::progress::Monitor;
use crate::store::catalog::{self, SetEntry};
use crate::store::folder;
use crate::store::lock::StoreLock;
use crate::store::pin;
use crate::store::retention::{self, Fate, Rule};
use crate::store::set_facts::SetFacts;
use crate::store::staging::{self, NotRemoved};

/// Removes what `options.rule` gives up (see [`retention::plan`]), or with `dry_run` only says what that would be. What
/// was removed is durably gone when it returns. A missing backups folder has nothing to remove.
pub fn clean(ctx: &Context, options: &CleanOptions) -> Result<CleanOutcome> {
    let project = ctx.project()?;
    let outcome = if options.dry_run || !durable::is_there(&project.backup_dir)? {
        outcome(plan(&project.backup_dir, options.rule, None, &ctx.monitor)?, options.dry_run)
    } else {
        let (lock, recovery) = session::enter(ctx, &project)?;
        let cleaned = clean_locked(&lock, options.rule, None, &ctx.monitor)?;
        if let Some(e) = cleaned.failure {
            return Err(stopped(&cleaned.outcome, e));
        }
        CleanOutcome { warnings: recovery.warnings, ..cleaned.outcome }
    };
    ctx.monitor.finish();
    Ok(outcome)
}

fn stopped(outcome: &CleanOutcome, e: Error) -> Error {
    let (done, code) = (outcome.removed + outcome.archives_removed, e.code);
    if done == 0 || code == Code::Abort { e } else { e.wrap(code, format!("{done} old backups were removed, then the clean-up stopped")) }
}

/// What a clean-up did, and why it stopped before the end.
pub(super) struct Cleaned {
    pub outcome: CleanOutcome,
    pub failure: Option<Error>,
}

/// The same, under a lock that is held already. `trusted`: a set that has just been read back.
pub(super) fn clean_locked(lock: &StoreLock, rule: Rule, trusted: Option<Timestamp>, monitor: &Monitor) -> Result<Cleaned> {
    let mut planned = plan(&lock.dir, rule, trusted, monitor)?;
    let listed = folder::artefacts(&lock.dir)?;
    let mut failure = None;
    let mut done = 0;
    for (_, decision) in &planned {
        let removed = monitor.check().map_err(NotRemoved::whole).and_then(|()| match decision.fate {
            Fate::Keep => Ok(()),
            fate => staging::remove_listed(lock, decision.timestamp, fate == Fate::Trim, &listed),
        });
        if let Err(e) = removed {
            done += usize::from(e.is_gone);
            failure = Some(e.error);
            break;
        }
        done += 1;
    }
    planned.truncate(done);
    Ok(Cleaned { outcome: outcome(planned, false), failure })
}

fn now() -> Timestamp {
    Timestamp::from_instant(jiff::Timestamp::now())
}

/// What happens to each set, newest first. Whether it is more than an archive goes with it. `trusted`: a set that has
/// just been read back.
fn plan(dir: &Path, rule: Rule, trusted: Option<Timestamp>, monitor: &Monitor) -> Result<Vec<(bool, CleanDecision)>> {
    let sets = catalog::scan(dir)?;
    let mut facts: Vec<SetFacts> = sets.iter().map(SetFacts::from).collect();
    let held = pin::held(dir)?;
    facts.iter_mut().for_each(|f| f.in_use = held.contains(&f.timestamp));
    // One of each for each set, in the same order.
    let place: HashMap<Timestamp, usize> = sets.iter().enumerate().map(|(i, s)| (s.timestamp, i)).collect();
    let mut known: BTreeSet<Timestamp> = trusted.into_iter().collect();
    loop {
        let decisions = retention::plan(&facts, rule, now());
        // What a set says of itself is enough to keep it, and not enough to remove another for its sake.
        let unsure = unsure(&sets, &facts, &decisions, &known);
        if unsure.is_empty() {
            let described = decisions.into_iter().filter_map(|d| place.get(&d.timestamp).map(|i| describe(&sets[*i], &facts[*i], d)));
            return Ok(described.collect());
        }
        for t in unsure {
            known.insert(t);
            if let Some(i) = place.get(&t) {
                make_sure(dir, &sets[*i], &mut facts[*i], monitor)?;
            }
        }
    }
}

fn describe(set: &SetEntry, facts: &SetFacts, d: retention::Decision) -> (bool, CleanDecision) {
    let SetFacts { kind, before_restore, .. } = *facts;
    let frees = frees(set, d.fate);
    let decision = CleanDecision { timestamp: d.timestamp, kind, before_restore, fate: d.fate, frees, reason: d.reason };
    (!set.archive_only(), decision)
}

/// Sets of which more must be known before anything is removed: the newest verified ones, whose bytes may have rotted
/// since, and those that are to go and say what they are only inside their archive.
fn unsure(sets: &[SetEntry], facts: &[SetFacts], decisions: &[retention::Decision], known: &BTreeSet<Timestamp>) -> Vec<Timestamp> {
    let going: HashSet<Timestamp> = decisions.iter().filter(|d| d.fate != Fate::Keep).map(|d| d.timestamp).collect();
    if going.is_empty() {
        return Vec::new();
    }
    let silent = sets.iter().filter(|s| s.metadata.is_none() && s.archive.is_some()).map(|s| s.timestamp).filter(|t| going.contains(t));
    let shields = retention::shields(facts, now());
    silent.chain(shields).filter(|t| !known.contains(t)).collect()
}

fn make_sure(dir: &Path, set: &SetEntry, fact: &mut SetFacts, monitor: &Monitor) -> Result<()> {
    if set.metadata.is_none() && set.archive.is_some() {
        (fact.kind, fact.project, fact.sources) = within_archive(&dir.join(names::archive(set.timestamp)), monitor)?;
    }
    for copy in copy_check::copies(dir, set) {
        let problems = copy_check::inspect(&copy, monitor, &mut Vec::new())?.problems;
        // What lacks a checksum is not known to be rotten.
        if problems.iter().any(|(code, _)| *code != Code::NeedsForce) {
            fact.verified = false;
            fact.damaged = true;
        }
    }
    Ok(())
}

/// The kind, the project and the databases of an archive that is about to be removed, from the record in it or the names of its members:
/// a manual set stays, whatever is left of it, and so does the only copy of a database. No kind for an archive that can't be read.
fn within_archive(path: &Path, monitor: &Monitor) -> Result<(Option<Kind>, Option<String>, Vec<String>)> {
    let mut kind = Kind::default();
    let mut project = None;
    let mut sources = Vec::new();
    let mut by_name = Vec::new();
    let read = archive::read(path, |member, body| {
        monitor.check()?;
        match member.artefact {
            Artefact::Metadata => {
                let metadata = Metadata::parse(&Metadata::read_bytes(body, member.name)?, member.name)?;
                kind = metadata.kind();
                project = metadata.project.clone();
                sources = metadata.databases().iter().map(|d| d.source.clone()).collect();
            }
            _ => by_name.extend(catalog::legacy_source(member.name)),
        }
        Ok(())
    });
    match read {
        Ok(_) => Ok((Some(kind), project, if sources.is_empty() { by_name } else { sources })),
        Err(e) if matches!(e.code, Code::BackupDamaged | Code::UnsupportedFormat) => Ok((None, None, Vec::new())),
        Err(e) => Err(e),
    }
}

/// Bytes of all that goes.
fn frees(set: &SetEntry, fate: Fate) -> u64 {
    let raw: u64 = set.files.values().sum();
    match fate {
        Fate::Keep => 0,
        Fate::Trim => raw,
        Fate::Remove => raw + set.archive.unwrap_or(0),
    }
}

fn outcome(planned: Vec<(bool, CleanDecision)>, dry_run: bool) -> CleanOutcome {
    let gone = |archive_only: bool| planned.iter().filter(|(listed, d)| *listed != archive_only && d.fate != Fate::Keep).count();
    CleanOutcome {
        dry_run,
        removed: u32::try_from(gone(false)).unwrap_or(u32::MAX),
        archives_removed: u32::try_from(gone(true)).unwrap_or(u32::MAX),
        freed: planned.iter().map(|(_, d)| d.frees).sum(),
        decisions: planned.into_iter().map(|(_, d)| d).collect(),
        warnings: Vec::new(),
    }
}

/// Removes one set with its archive, whatever its kind. `NEEDS_FORCE` for the newest verified set of a database unless
/// `even_newest`. With `dry_run` only says what it would remove. Durably gone when it returns.
pub fn delete(ctx: &Context, timestamp: &str, even_newest: bool, dry_run: bool) -> Result<DeleteOutcome> {
    let timestamp: Timestamp = timestamp.parse()?;
    let project = ctx.project()?;
    let dir = &project.backup_dir;
    // A wrong name should neither make a folder nor wait for a lock.
    let planned = plan_deletion(dir, timestamp, even_newest, &ctx.monitor)?;
    if dry_run {
        return Ok(planned);
    }
    let (lock, recovery) = session::enter(ctx, &project)?;
    let planned = plan_deletion(dir, timestamp, even_newest, &ctx.monitor)?;
    staging::remove(&lock, timestamp, false)?;
    ctx.monitor.finish();
    Ok(DeleteOutcome { warnings: recovery.warnings, ..planned })
}

/// The sets as they are said to be, except that those which would be the newest ones without `going` have been read.
fn proven(dir: &Path, sets: &[SetEntry], going: Timestamp, monitor: &Monitor) -> Result<Vec<SetFacts>> {
    let mut facts: Vec<SetFacts> = sets.iter().map(SetFacts::from).collect();
    let mut known = BTreeSet::from([going]);
    loop {
        let next = retention::newest_verified(&facts, now()).into_iter().find(|t| !known.contains(t));
        let Some(t) = next else { return Ok(facts) };
        known.insert(t);
        for (set, fact) in sets.iter().zip(&mut facts).filter(|(s, _)| s.timestamp == t) {
            make_sure(dir, set, fact, monitor)?;
        }
    }
}

fn plan_deletion(dir: &Path, timestamp: Timestamp, even_newest: bool, monitor: &Monitor) -> Result<DeleteOutcome> {
    let sets = catalog::scan(dir)?;
    let set = sets.iter().find(|s| s.timestamp == timestamp).ok_or_else(|| inspect::not_found(timestamp, dir))?;
    if pin::is_held(dir, timestamp)? {
        let message = format!("backup {timestamp} is in use: a command runs behind it that may still fail; wait for its end");
        return Err(Error::new(Code::LockTimeout, message));
    }
    let facts = proven(dir, &sets, timestamp, monitor)?;
    if !even_newest && retention::newest_verified(&facts, now()).contains(&timestamp) {
        return Err(Error::new(
            Code::NeedsForce,
            format!(
                "backup {timestamp} is the newest verified one of {}; make a new backup first, or pass --even-newest",
                set.sources().join(", ")
            ),
        ));
    }
    Ok(DeleteOutcome {
        timestamp,
        files: set.files.len() + usize::from(set.archive.is_some()),
        freed: frees(set, Fate::Remove),
        warnings: Vec::new(),
    })
}
