//! Who made a set, where, and from which commit.

use std::path::Path;
use std::process::{Command, Stdio};

/// For the metadata's audit trail.
pub(super) struct Provenance {
    pub hostname: String,
    pub user: String,
    /// Short commit, or `N/A`.
    pub git_commit: String,
    /// Branch, or `N/A`.
    pub git_branch: String,
}

impl Provenance {
    pub fn of(root: &Path) -> Self {
        Provenance {
            hostname: gethostname::gethostname().to_string_lossy().into_owned(),
            user: whoami::username().unwrap_or_else(|_| "unknown".into()),
            git_commit: git(root, &["rev-parse", "--short", "HEAD"]),
            git_branch: git(root, &["rev-parse", "--abbrev-ref", "HEAD"]),
        }
    }
}

/// What git prints in one line; `N/A` without git or outside a repository.
fn git(root: &Path, arguments: &[&str]) -> String {
    let run = Command::new("git")
        .args(arguments)
        .current_dir(root)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let line = run.ok().filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok()).map(|s| s.trim().to_owned());
    line.filter(|s| !s.is_empty()).unwrap_or_else(|| "N/A".into())
}
