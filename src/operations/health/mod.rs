//! check: whether there are good, fresh backups, whether they and the databases are undamaged, and whether anything
//! around them threatens either. Changes nothing.

mod live;
mod processes;
mod sets;
mod store;
pub mod types;

use std::path::Path;

use self::types::{DatabaseHealth, Finding, Health, HealthOptions};
use super::types::Context;
use super::{create, session, sources, usage};
use crate::backup_set::metadata::Kind;
use crate::backup_set::timestamp::Timestamp;
use crate::error::Result;
use crate::progress::Phase;
use crate::project::Project;
use crate::store::{catalog, space};

/// Looks at everything. `NO_DATABASES` if there is nothing to look after; whatever can't be looked at is a finding.
pub fn check(ctx: &Context, options: &HealthOptions) -> Result<Health> {
    let project = ctx.project()?;
    let found = session::databases(ctx, &project)?;
    let hints = Hints::new(ctx, &project);
    let now = Timestamp::from_instant(jiff::Timestamp::now());
    let sets = catalog::scan_own(&project.backup_dir, &project)?;
    ctx.monitor.start(Phase::Verify, if options.quick { 0 } else { sets.iter().flat_map(|s| s.files.values()).sum() });

    let mut findings = Vec::new();
    let mut notes = found.warnings;
    let judged = sets::judge_all(ctx, &project, &sets, now, options.quick)?;
    let databases = found
        .databases
        .iter()
        .map(|d| {
            let newest_backup = sets::newest_good(&judged, &d.source).map(|s| s.set.timestamp);
            Ok(DatabaseHealth { source: d.source.clone(), size: sources::estimate(d)?, newest_backup })
        })
        .collect::<Result<Vec<_>>>()?;
    sets::report(&judged, &hints, &mut findings);
    sets::report_age(&databases, options.max_age, now, &hints, &mut findings);
    if ctx.databases.is_none() {
        sets::report_missing(&judged, &project, now, &hints, &mut findings)?;
    }
    // Before anything is opened: a database whose side files have gone astray is better left alone.
    let processes = processes::report(ctx, &found.databases, &mut findings, &mut notes)?;
    let look = live::Look { ctx, sets: &sets, judged: &judged, hints: &hints };
    let seen = if options.quick { live::Conditions::new() } else { live::report(&look, &found.databases, &mut findings)? };
    sets::report_marked(&judged, &project, &seen, &hints, &mut findings);
    let usage = usage::usage(ctx)?;
    let next_backup = space::with_margin(create::space_needed(&found.databases, true)?);
    store::report(&project, &usage, options.max_size, next_backup, &hints, &mut findings)?;
    findings.sort_by(|a, b| (a.severity, a.code, &a.subject).cmp(&(b.severity, b.code, &b.subject)));
    ctx.monitor.finish();
    Ok(Health {
        root: project.root,
        backup_dir: project.backup_dir,
        checked_at: now,
        findings,
        databases,
        backups: count(sets.iter().filter(|s| !s.archive_only())),
        kinds: Kind::ALL.map(|k| (k, count(sets.iter().filter(|s| !s.archive_only() && s.kind() == k)))),
        archives_only: count(sets.iter().filter(|s| s.archive_only())),
        damaged: count(judged.iter().filter(|s| s.is_damaged())),
        databases_size: usage.databases_size,
        archives_size: usage.archives_size,
        total_size: usage.total_size,
        max_size: options.max_size,
        free: usage.free,
        next_backup,
        processes,
        notes,
    })
}

fn count<T>(of: impl Iterator<Item = T>) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX)
}

/// `text` as a shell takes it for one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Commands that work from any folder.
struct Hints {
    flags: String,
    databases: String,
}

/// Verbs that can be told which databases to work on.
const ON_DATABASES: [&str; 5] = ["check", "compare", "create", "exec", "restore"];

impl Hints {
    fn new(ctx: &Context, project: &Project) -> Self {
        let path = |p: &Path| quoted(&p.display().to_string());
        let mut flags = format!(" --root {}", path(&project.root));
        if ctx.backup_dir.is_some() {
            flags += &format!(" --backup-dir {}", path(&project.backup_dir));
        }
        let databases = ctx.databases.iter().flatten().map(|d| format!(" --database {}", quoted(d)));
        Hints { flags, databases: databases.collect() }
    }

    /// `what` of our command, for this project.
    fn command(&self, what: &str) -> String {
        let takes_databases = what.split(' ').next().is_some_and(|verb| ON_DATABASES.contains(&verb));
        format!("`aqe-backup {what}{}{}`", if takes_databases { &self.databases } else { "" }, self.flags)
    }

    /// The same for one database, so that the others are left alone.
    fn for_one(&self, what: &str, source: &str) -> String {
        format!("`aqe-backup {what} --database {}{}`", quoted(source), self.flags)
    }
}

type Findings = Vec<Finding>;
