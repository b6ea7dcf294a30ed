//! Who made a set, where, and from which commit.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// For the metadata's audit trail.
pub(super) struct Provenance {
    pub hostname: String,
    pub user: String,
    /// Short commit, or `N/A`.
    pub git_commit: String,
    /// Branch, or `N/A`.
    pub git_branch: String,
}

/// What is being asked of git, while there is other work to do.
pub(super) struct Asked {
    commit: Question,
    branch: Question,
}

impl Asked {
    /// Asks about the repository that `root` is in.
    pub fn about(root: &Path) -> Self {
        Asked { commit: Question::ask(root, "--short"), branch: Question::ask(root, "--abbrev-ref") }
    }

    /// Waits for the answers.
    pub fn answered(self) -> Provenance {
        Provenance {
            hostname: gethostname::gethostname().to_string_lossy().into_owned(),
            user: whoami::username().unwrap_or_else(|_| "unknown".into()),
            git_commit: self.commit.answer(),
            git_branch: self.branch.answer(),
        }
    }
}

/// A running git; `None` where there is none.
struct Question(Option<Child>);

impl Question {
    fn ask(root: &Path, how: &str) -> Self {
        let git = Command::new("git")
            .args(["rev-parse", how, "HEAD"])
            .current_dir(root)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Question(git.ok())
    }

    /// What git prints in one line; `N/A` without git or outside a repository.
    fn answer(mut self) -> String {
        let output = self.0.take().and_then(|git| git.wait_with_output().ok());
        let line = output.filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok()).map(|s| s.trim().to_owned());
        line.filter(|s| !s.is_empty()).unwrap_or_else(|| "N/A".into())
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(git) = &mut self.0 {
            // The run has failed, and nobody wants to know any more. One that has ended already can't be ended.
            let _ = git.kill();
            let _ = git.wait();
        }
    }
}
