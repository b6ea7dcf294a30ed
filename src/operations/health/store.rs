//! The backups folder: room, limits, and what dead runs left in it.

use std::path::Path;

use super::types::{Finding, FindingCode};
use super::{Findings, Hints};
use crate::backup_set::names;
use crate::durable;
use crate::error::Result;
use crate::human::bytes;
use crate::operations::types::Usage;
use crate::project::Project;
use crate::store::{folder, lock};

/// Looks at the folder as a whole.
pub(super) fn report(
    project: &Project,
    usage: &Usage,
    max_size: Option<u64>,
    next_backup: u64,
    hints: &Hints,
    findings: &mut Findings,
) -> Result<()> {
    let dir = project.backup_dir.display().to_string();
    findings.extend(max_size.and_then(|max| storage(usage.total_size, max, &dir, hints)));
    if usage.free < next_backup {
        let message = format!("the next backup needs up to {next_backup} bytes, and only {} are free in {dir}", usage.free);
        let remedy = format!("free some space, or remove old backups with {}", hints.command("clean 5"));
        findings.push(Finding::new(FindingCode::NoSpace, &dir, message, remedy));
    }
    let found = remains(&project.backup_dir)?;
    if found.is_nothing() {
        return Ok(());
    }
    // What a run at work has made is none of ours. Only while nobody is at work does it show who has died.
    let Some(found) = lock::while_idle(&project.backup_dir, || remains(&project.backup_dir))? else { return Ok(()) };
    if found.restore {
        let message = format!("a restore was interrupted ({}): databases may be half restored", names::INTENT);
        findings.push(Finding::new(
            FindingCode::RestorePending,
            &dir,
            message,
            format!("finish or undo it with {}", hints.command("recover")),
        ));
    }
    if !found.leftovers.is_empty() {
        let message = format!("an interrupted run left {} in {dir}", found.leftovers.join(", "));
        findings.push(Finding::new(FindingCode::Leftovers, &dir, message, format!("remove it with {}", hints.command("recover"))));
    }
    Ok(())
}

fn storage(total: u64, max: u64, dir: &str, hints: &Hints) -> Option<Finding> {
    let remedy = || format!("remove old backups with {}, or allow more", hints.command("clean 5"));
    let percent = total as f64 * 100.0 / max as f64;
    // Several times the limit reads better as two sizes.
    let relation = if percent <= 200.0 { format!("{percent:.0} % of the {} that", bytes(max)) } else { format!("and {}", bytes(max)) };
    let message = format!("the backups take {}, {relation} are allowed in {dir}", bytes(total));
    if total > max {
        return Some(Finding::new(FindingCode::StorageFull, dir, message, remedy()));
    }
    (percent >= 80.0).then(|| Finding::new(FindingCode::StorageNearlyFull, dir, message, remedy()))
}

struct Remains {
    restore: bool,
    leftovers: Vec<String>,
}

impl Remains {
    fn is_nothing(&self) -> bool {
        !self.restore && self.leftovers.is_empty()
    }
}

fn remains(dir: &Path) -> Result<Remains> {
    let restore = durable::is_there(&dir.join(names::INTENT))?;
    let mut leftovers: Vec<String> = folder::markers(dir)?.into_iter().map(|(t, kind, _)| names::marker(kind, t)).collect();
    // With an intent it is what the restore still needs.
    if !restore && durable::is_there(&dir.join(names::RESTORE_DIR))? {
        leftovers.push(names::RESTORE_DIR.to_owned());
    }
    Ok(Remains { restore, leftovers })
}
