//! The command line: what is common to all verbs, and the list of them. Each verb's own flags are in its file.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::{compare, create, list, recover, restore, verify};
use crate::operations::Context;
use crate::progress::Monitor;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 4 damage found, 5 restore failed and was rolled back,
6 restore failed and was not rolled back, 10 no such backup or database, 11 busy or locked,
13 no space, 130 cancelled.";

/// Verified backups of live SQLite databases, and their restore.
#[derive(Debug, Parser)]
#[command(name = "aqe-backup", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
    /// Print one JSON document instead of text
    #[arg(long, global = true, help_heading = "Everywhere")]
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
    /// A database, or a pattern of several, relative to the root; may be repeated [default: *.db and .agentic-qe/*.db]
    #[arg(long = "database", global = true, value_name = "PATH")]
    databases: Vec<String>,
    /// Milliseconds to wait for a busy database
    #[arg(long, global = true, value_name = "MS", default_value_t = 5000)]
    busy_timeout: u64,
    /// Milliseconds to wait for another backup or restore
    #[arg(long, global = true, value_name = "MS", default_value_t = 30000)]
    lock_timeout: u64,
}

impl Place {
    pub fn context(self, monitor: Monitor) -> Context {
        Context {
            root: self.root,
            backup_dir: self.backup_dir,
            databases: (!self.databases.is_empty()).then_some(self.databases),
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
    /// Put a backup back, under running programs; the state before is saved first
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::Arguments),
    /// Show how the databases differ from a backup
    #[command(after_help = compare::EXAMPLES)]
    Compare(compare::Arguments),
    /// Finish or undo what an interrupted run left; nothing to do is fine
    #[command(after_help = recover::EXAMPLES)]
    Recover,
}

impl Verb {
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Create(_) => "create",
            Verb::List(_) => "list",
            Verb::Verify(_) => "verify",
            Verb::Restore(_) => "restore",
            Verb::Compare(_) => "compare",
            Verb::Recover => "recover",
        }
    }
}
