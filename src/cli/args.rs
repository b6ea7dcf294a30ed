//! The command line: verbs, flags, help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::backup_set::metadata::Kind;
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
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
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
    #[command(after_help = "Example: aqe-backup create --root my-project --label 'before the upgrade' --kind manual")]
    Create(CreateArguments),
    /// List the backups, newest first
    #[command(after_help = "Example: aqe-backup list --json | jq -r '.backups[0].timestamp'")]
    List {
        /// Also those of which only the archive is left
        #[arg(long)]
        archives: bool,
    },
    /// Check one backup, or all: checksums, metadata, structure, archive
    #[command(after_help = "Example: aqe-backup verify 20250116-120000")]
    Verify {
        /// YYYYMMDD-HHMMSS; without it, every backup is checked
        timestamp: Option<String>,
    },
    /// Put a backup back, under running programs; the state before is saved first
    #[command(after_help = "Example: aqe-backup restore 20250116-120000 --force")]
    Restore(RestoreArguments),
    /// Finish or undo what an interrupted run left; nothing to do is fine
    #[command(after_help = "Example: aqe-backup recover --root my-project")]
    Recover,
}

impl Verb {
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Create(_) => "create",
            Verb::List { .. } => "list",
            Verb::Verify { .. } => "verify",
            Verb::Restore(_) => "restore",
            Verb::Recover => "recover",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct CreateArguments {
    /// Also write one .tar.gz of the whole set (the default)
    #[arg(long, overrides_with = "no_compress")]
    compress: bool,
    /// No archive
    #[arg(long)]
    no_compress: bool,
    /// Read back and check what was written (the default)
    #[arg(long, overrides_with = "no_verify")]
    verify: bool,
    /// Don't check (not recommended); nothing is cleaned up then
    #[arg(long)]
    no_verify: bool,
    /// What the backup is for: automated, manual (never removed by a rule) or safety
    #[arg(long, value_name = "KIND", default_value = "automated", value_parser = kind)]
    pub kind: Kind,
    /// A note
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// How many backups of each kind to keep
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keep: u32,
}

impl CreateArguments {
    pub fn wants_archive(&self) -> bool {
        self.compress || !self.no_compress
    }

    pub fn wants_verify(&self) -> bool {
        self.verify || !self.no_verify
    }
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// YYYYMMDD-HHMMSS
    #[arg(required_unless_present = "archive", conflicts_with = "archive")]
    pub timestamp: Option<String>,
    /// Restore from an archive that lies anywhere
    #[arg(long, value_name = "FILE")]
    pub archive: Option<PathBuf>,
    /// Check the backup first (the default)
    #[arg(long, overrides_with = "no_verify")]
    verify: bool,
    /// Don't check (not recommended)
    #[arg(long)]
    no_verify: bool,
    /// Don't ask, and go on where the restore can't be undone or is suspect
    #[arg(long)]
    pub force: bool,
}

impl RestoreArguments {
    pub fn wants_verify(&self) -> bool {
        self.verify || !self.no_verify
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| "use automated, manual or safety".to_owned())
}
