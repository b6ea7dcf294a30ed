//! One function per verb: arguments → operation → answer.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::{Arguments, CreateArguments, RestoreArguments, Verb};
use super::{Answer, json, question, render};
use crate::error::{Code, Error, IoContext, Result};
use crate::operations::{self, Context, CreateOptions, CreateOutcome, RestoreOptions};
use crate::progress::Monitor;

pub(super) fn perform(arguments: Arguments, monitor: Monitor) -> Result<Answer> {
    let ctx = arguments.place.context(monitor);
    match arguments.verb {
        Verb::Create(a) => create(&ctx, a),
        Verb::List { archives } => list(&ctx, archives),
        Verb::Verify { timestamp } => verify(&ctx, timestamp),
        Verb::Restore(a) => restore(&ctx, a),
        Verb::Recover => recover(&ctx),
    }
}

fn create(ctx: &Context, a: CreateArguments) -> Result<Answer> {
    let started = Instant::now();
    let options = CreateOptions {
        compress: a.wants_archive(),
        verify: a.wants_verify(),
        kind: a.kind,
        label: a.label,
        operation: None,
        keep_last: Some(a.keep),
    };
    let mut outcome = operations::create(ctx, &options)?;
    // The backup is made: a workflow's file that can't be written must not hide it.
    if let Err(e) = tell_github(&outcome) {
        outcome.warnings.push(e.message);
    }
    let exit = outcome.failure.as_ref().map_or(0, |e| super::exit_code(e.code));
    Ok(Answer { document: json::create(&outcome, started.elapsed()), text: render::create(&outcome), exit })
}

/// Later steps of a workflow find the backup under these names.
fn tell_github(outcome: &CreateOutcome) -> Result<()> {
    for (variable, key) in [("GITHUB_ENV", "BACKUP_TIMESTAMP"), ("GITHUB_OUTPUT", "timestamp")] {
        if let Some(path) = std::env::var_os(variable).filter(|p| !p.is_empty()).map(PathBuf::from) {
            let mut file = OpenOptions::new().append(true).create(true).open(&path).context("open", &path)?;
            writeln!(file, "{key}={}", outcome.timestamp).context("write", &path)?;
        }
    }
    Ok(())
}

fn list(ctx: &Context, archives: bool) -> Result<Answer> {
    let backups = operations::list(ctx, archives)?;
    Ok(Answer { document: json::list(&backups), text: render::list(&backups), exit: 0 })
}

fn verify(ctx: &Context, timestamp: Option<String>) -> Result<Answer> {
    let timestamps = match timestamp {
        Some(t) => vec![t],
        None => operations::list(ctx, true)?.iter().map(|b| b.timestamp.to_string()).collect(),
    };
    if timestamps.is_empty() {
        return Err(Error::new(Code::BackupNotFound, "there are no backups to verify; make one with `aqe-backup create`"));
    }
    let inspections = timestamps.iter().map(|t| operations::inspect(ctx, t)).collect::<Result<Vec<_>>>()?;
    let exit = if inspections.iter().all(|i| i.ok) { 0 } else { super::exit_code(Code::BackupDamaged) };
    Ok(Answer { document: json::verify(&inspections), text: render::verify(&inspections), exit })
}

fn restore(ctx: &Context, a: RestoreArguments) -> Result<Answer> {
    let started = Instant::now();
    let options = RestoreOptions { verify: a.wants_verify(), force: a.force };
    let project = crate::project::Project::open(ctx.root.as_deref(), ctx.backup_dir.as_deref())?;
    let what = a.archive.as_ref().map_or_else(|| format!("backup {}", a.timestamp.as_deref().unwrap_or("")), |f| f.display().to_string());
    if !a.force {
        let backups = operations::list(ctx, true)?;
        let backup = backups.iter().find(|b| Some(b.timestamp.to_string()) == a.timestamp);
        if !question::confirm(&what, backup, &project.root)? {
            return Err(Error::new(Code::Abort, "Not restored; nothing was changed"));
        }
    }
    let outcome = match (&a.archive, &a.timestamp) {
        (Some(file), _) => operations::restore_archive(ctx, Path::new(file), &options)?,
        (None, timestamp) => operations::restore(ctx, timestamp.as_deref().unwrap_or(""), &options)?,
    };
    Ok(Answer { document: json::restore(&outcome, started.elapsed()), text: render::restore(&outcome, &flags(ctx, &project)), exit: 0 })
}

/// The flags with which the same project is found from any folder.
fn flags(ctx: &Context, project: &crate::project::Project) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    let backup_dir = ctx.backup_dir.as_ref().map(|_| format!(" --backup-dir {}", quoted(&project.backup_dir)));
    format!(" --root {}{}", quoted(&project.root), backup_dir.unwrap_or_default())
}

fn recover(ctx: &Context) -> Result<Answer> {
    let recovery = operations::recover(ctx)?;
    Ok(Answer { document: json::recover(&recovery), text: render::recover(&recovery), exit: 0 })
}
