//! `completions`: a script that teaches a shell the command's verbs and flags.

use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use super::Answer;

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup completions bash > /etc/bash_completion.d/aqe-backup
  aqe-backup completions zsh > ~/.zfunc/_aqe-backup
  aqe-backup completions fish > ~/.config/fish/completions/aqe-backup.fish";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(super) fn run(a: &Arguments, mut command: Command) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(a.shell, &mut command, "aqe-backup", &mut script);
    // clap_complete 4.6 takes the hyphen of our name for the one between verbs in half of its bash script.
    let text = String::from_utf8_lossy(&script).replace("aqe__subcmd__backup", "aqe__backup");
    Answer { document: json!({ "shell": a.shell.to_string(), "script": text }), text, exit: 0 }
}
