//! The command line: what is common to all verbs, and the list of them. Each verb's own flags are in its file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::{check, clean, compare, completions, create, delete, exec, info, list, recover, restore, size, verify};
use crate::operations::Context;
use crate::progress::Monitor;

const EXIT_CODES: &str = "Exit codes:
   0  ok                        6  restore failed, not rolled back: run `recover`
   1  failed                   10  no such backup or database
   2  usage                    11  busy or locked
   4  damage found             13  no space
   5  restore rolled back     130  cancelled

`aqe-backup VERB --help` has examples.";

/// Verified backups of live SQLite databases, and their restore.
#[derive(Debug, Parser)]
#[command(name = "aqe-backup", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
    /// Print one JSON document instead of text
    #[arg(long, global = true, overrides_with = "json", help_heading = "Everywhere")]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Place {
    /// The project's folder [default: $AQE_PROJECT_ROOT, else the current folder]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where the backups are [default: .agentic-qe/backups in the root]
    #[arg(long, global = true, value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// Milliseconds to wait for a busy database
    #[arg(long, global = true, value_name = "MS", default_value_t = 5000, allow_negative_numbers = true, value_parser = milliseconds())]
    busy_timeout: u64,
    /// Milliseconds to wait for another backup or restore
    #[arg(long, global = true, value_name = "MS", default_value_t = 30000, allow_negative_numbers = true, value_parser = milliseconds())]
    lock_timeout: u64,
}

/// As in the API.
fn milliseconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=2_147_483_647)
}

/// Of the verbs that work on databases.
#[derive(Debug, Default, Args)]
pub(super) struct Databases {
    /// Only this database, or those of this pattern, relative to the root; may be repeated
    #[arg(long = "database", value_name = "PATH")]
    databases: Vec<String>,
}

impl Place {
    pub fn context(self, databases: Databases, monitor: Monitor) -> Context {
        let databases = databases.databases;
        Context {
            root: self.root,
            backup_dir: self.backup_dir,
            databases: (!databases.is_empty()).then_some(databases),
            busy_timeout: Duration::from_millis(self.busy_timeout),
            lock_timeout: Duration::from_millis(self.lock_timeout),
            monitor,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Back every database up, verified, while programs go on using them
    #[command(after_help = create::EXAMPLES)]
    Create(create::Arguments),
    /// List the backups, newest first
    #[command(after_help = list::EXAMPLES)]
    List(list::Arguments),
    /// Check one backup, or all: checksums, metadata, structure, archive
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Arguments),
    /// Put a backup back, also under running programs
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::Arguments),
    /// Show how the databases differ from a backup
    #[command(after_help = compare::EXAMPLES)]
    Compare(compare::Arguments),
    /// Say whether backups, databases and what is around them are well: for cron, monitoring and people
    #[command(after_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// Show all that a backup says of itself
    #[command(after_help = info::EXAMPLES)]
    Info(info::Arguments),
    /// Show what the backups use, by kind and by day
    #[command(after_help = size::EXAMPLES)]
    Size,
    /// Remove old backups, by number or by age
    #[command(after_help = clean::EXAMPLES)]
    Clean(clean::Arguments),
    /// Remove one backup for good
    #[command(after_help = delete::EXAMPLES)]
    Delete(delete::Arguments),
    /// Run a command; put the databases back if it fails
    #[command(after_help = exec::EXAMPLES)]
    Exec(exec::Arguments),
    /// Finish or undo what an interrupted run left
    #[command(after_help = recover::EXAMPLES)]
    Recover,
    /// Print a completion script for a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Arguments),
}

impl Verb {
    /// The databases it is to work on.
    pub fn databases(&mut self) -> Databases {
        let databases = match self {
            Verb::Create(a) => &mut a.databases,
            Verb::Restore(a) => &mut a.databases,
            Verb::Compare(a) => &mut a.databases,
            Verb::Check(a) => &mut a.databases,
            Verb::Exec(a) => &mut a.databases,
            _ => return Databases::default(),
        };
        std::mem::take(databases)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Verb::Create(_) => "create",
            Verb::List(_) => "list",
            Verb::Verify(_) => "verify",
            Verb::Restore(_) => "restore",
            Verb::Compare(_) => "compare",
            Verb::Check(_) => "check",
            Verb::Info(_) => "info",
            Verb::Size => "size",
            Verb::Clean(_) => "clean",
            Verb::Delete(_) => "delete",
            Verb::Exec(_) => "exec",
            Verb::Completions(_) => "completions",
            Verb::Recover => "recover",
        }
    }
}
