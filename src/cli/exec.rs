//! `exec`: a safety backup, a command, and the backup put back if the command fails.

use std::io::{self, IsTerminal};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::signals;
use super::text::plain;
use super::{Answer, complain, exit_code, json, progress, restore, style};
use crate::backup_set::metadata::Kind;
use crate::backup_set::timestamp::Timestamp;
use crate::error::{Code, Error, Result};
use crate::operations::{self, Context, CreateOptions, RestoreOptions, RestoreOutcome};
use crate::progress::Monitor;
use crate::store::pin::Pin;

pub(super) const EXAMPLES: &str = "Examples:
  aqe-backup exec --operation 'upgrade to 2.0' -- npm run migrate
  aqe-backup exec --operation import -- sh -c 'node import.js && node check.js'

The exit code is the command's own: 128 and the signal's number if a signal
ended it, 127 or 126 if it can't be started. If putting the backup back fails as
well, it is that failure's. The command finds the backup's timestamp in
BACKUP_TIMESTAMP. Databases that did not exist before are left as they are, and
so is the journal mode. Don't run two at once: each puts back what it found.";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub databases: super::args::Databases,
    /// What is about to happen; kept with the backup
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    operation: String,
    /// The command and its arguments, after `--`
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How the command ended.
struct Ended {
    exit: i32,
    /// In words, if it failed.
    failure: Option<String>,
    /// It ran, and so may have changed something.
    ran: bool,
}

pub(super) fn run(ctx: &Context, a: &Arguments, json: bool) -> Result<Answer> {
    let started = Instant::now();
    // Nobody removes it, the command itself included, until its end is known.
    let (safety, _pin) = save(ctx, &a.operation)?;
    say(&format!("Safety backup: {safety}"));
    // From here on the command's end decides, however impatient the signals are.
    signals::shield();
    ctx.monitor.check()?;
    let ended = execute(&a.command, safety, json);
    let Some(failure) = &ended.failure else {
        return Ok(answer(a, safety, &ended, None, started));
    };
    if !ended.ran {
        say(failure);
        return Ok(answer(a, safety, &ended, None, started));
    }
    say(&format!("{} {failure}; putting backup {safety} back", style::bad("Failed:").for_stderr()));
    let restored = put_back(ctx, safety);
    match &restored {
        Ok(outcome) => {
            outcome.warnings.iter().for_each(|w| say(&format!("Warning: {}", plain(w))));
            say(&format!("{} the databases hold what they held at the safety backup", style::good("Restored:").for_stderr()));
        }
        Err(e) if operations::info(ctx, &safety.to_string()).is_err_and(|e| e.code == Code::BackupNotFound) => {
            say(&format!("{} {} ({}); backup {safety} is gone", style::bad("Not restored:").for_stderr(), plain(&e.message), e.code));
        }
        Err(e) => say(&format!("{} {} ({}); backup {safety} is kept", style::bad("Not restored:").for_stderr(), plain(&e.message), e.code)),
    }
    Ok(answer(a, safety, &ended, Some(restored), started))
}

/// The command's output is not ours to mix with: what we say goes to standard error.
fn say(text: &str) {
    complain(&format!("aqe-backup: {text}\n"));
}

fn save(ctx: &Context, operation: &str) -> Result<(Timestamp, Option<Pin>)> {
    let options = CreateOptions { kind: Kind::Safety, operation: Some(operation.to_owned()), pin: true, ..CreateOptions::default() };
    let outcome = operations::create(ctx, &options)?;
    outcome.warnings.iter().for_each(|w| say(&format!("Warning: {}", plain(w))));
    match outcome.failure {
        None => Ok((outcome.timestamp, outcome.pin)),
        Some(e) => Err(Error::new(e.code, format!("the command was not run: {}", e.message))),
    }
}

fn put_back(ctx: &Context, safety: Timestamp) -> Result<RestoreOutcome> {
    // Ctrl-C was for the command.
    let ctx = Context { monitor: progress::shown(Monitor::default()), ..ctx.clone() };
    operations::restore(&ctx, &safety.to_string(), &RestoreOptions { verify: true, force: true })
}

fn execute(command: &[String], safety: Timestamp, json: bool) -> Ended {
    let (program, arguments) = command.split_first().map_or(("", command), |(p, a)| (p.as_str(), a));
    let spawned = inherited(&mut Command::new(program), json)
        .and_then(|child| child.args(arguments).env("BACKUP_TIMESTAMP", safety.to_string()).spawn());
    match spawned.map(wait) {
        Ok(Ok(status)) => ended(program, status),
        // Nobody knows how it ended, and it may have changed anything.
        Ok(Err(e)) => Ended { exit: 1, failure: Some(format!("{program} can't be waited for: {e}")), ran: true },
        Err(e) => {
            let exit = if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            Ended { exit, failure: Some(format!("{program} can't be started: {e}")), ran: false }
        }
    }
}

/// Gives the child our own streams. Node marks them to be closed when another program starts, so each is handed on as
/// a duplicate. With `--json`, standard output is for one document.
fn inherited(child: &mut Command, json: bool) -> io::Result<&mut Command> {
    #[cfg(unix)]
    let stdin = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    #[cfg(windows)]
    let stdin = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned()?;
    let stdout: Stdio = if json { io::stderr().into() } else { io::stdout().into() };
    Ok(child.stdin(stdin).stdout(stdout).stderr(io::stderr()))
}

/// How often the child and the signals are looked at.
const POLL: Duration = Duration::from_millis(20);

fn wait(mut child: Child) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(signal) = signals::take() {
            forward(&child, signal);
        }
        thread::sleep(POLL);
    }
}

/// Hands `signal` on. What is typed at a terminal, the terminal has sent to the child too.
#[cfg(unix)]
fn forward(child: &Child, signal: i32) {
    use rustix::process::{Pid, Signal, kill_process};
    let typed = [Signal::INT, Signal::QUIT].iter().any(|s| s.as_raw() == signal) && io::stdin().is_terminal();
    if let (false, Some(signal)) = (typed, Signal::from_named_raw(signal)) {
        // A child that has just ended needs no signal.
        let _ = kill_process(Pid::from_child(child), signal);
    }
}

/// A console sends Ctrl-C to every process in it.
#[cfg(not(unix))]
fn forward(_child: &Child, _signal: i32) {}

fn ended(program: &str, status: ExitStatus) -> Ended {
    if status.success() {
        return Ended { exit: 0, failure: None, ran: true };
    }
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Ended { exit: 128 + signal, failure: Some(format!("{program} was ended by signal {signal}")), ran: true };
    }
    let exit = status.code().unwrap_or(1);
    Ended { exit, failure: Some(format!("{program} ended with exit code {exit}")), ran: true }
}

fn answer(a: &Arguments, safety: Timestamp, ended: &Ended, restored: Option<Result<RestoreOutcome>>, started: Instant) -> Answer {
    let exit = match &restored {
        Some(Err(e)) => exit_code(e.code),
        _ => ended.exit,
    };
    let mut document = json!({
        "success": ended.failure.is_none(),
        "operation": a.operation,
        "safetyBackup": safety.to_string(),
        "exitCode": ended.exit,
        "restored": matches!(restored, Some(Ok(_))),
        "restore": null,
        "durationMs": json::milliseconds(started),
    });
    if let Some(failure) = &ended.failure {
        document["error"] = json!(failure);
    }
    match restored {
        Some(Ok(outcome)) => document["restore"] = restore::document(&outcome, json::milliseconds(started)),
        Some(Err(e)) => document["restore"] = json!({ "success": false, "error": e.message, "code": e.code.as_str() }),
        None => {}
    }
    Answer { document, text: String::new(), exit }
}
