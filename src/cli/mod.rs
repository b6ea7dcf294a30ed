//! FACE: what a terminal sees. `run` parses, calls one verb, renders for people or programs, and gives the exit code.

mod args;
mod bars;
mod check;
mod clean;
mod compare;
mod completions;
mod create;
mod delete;
mod exec;
mod info;
mod json;
mod list;
mod preview;
mod progress;
mod prometheus;
mod question;
mod recover;
mod restore;
mod rows;
pub mod signals;
mod size;
mod style;
mod table;
mod text;
mod units;
mod verify;

use std::io::Write;

use clap::{ColorChoice, CommandFactory, FromArgMatches};
use serde_json::Value;

use crate::error::{Code, Error, Result};
use crate::progress::Monitor;
use args::{Arguments, Verb};

/// What a verb has to say.
struct Answer {
    /// The API's result; `version`, `command` and `ok` are added.
    document: Value,
    /// Lines for people.
    text: String,
    exit: i32,
}

/// Exit code of a usage error.
const USAGE: i32 = 2;

/// Runs the command with `arguments` (without the program's name) and returns its exit code. Results go to stdout,
/// failures to stderr; with `--json` one document goes to stdout whatever happens. `monitor` cancels (exit 130).
pub fn run(arguments: Vec<String>, monitor: Monitor) -> i32 {
    // This process is ours alone, so ordinary locks would do where the better ones don't exist.
    crate::sqlite::posix_locks::declare_own_process();
    style::decide();
    let verb = verb_in(&arguments);
    let wants_json = arguments.iter().take_while(|a| *a != "--").any(|a| a == "--json");
    match parse(arguments) {
        Ok(parsed) => {
            let command = parsed.verb.name();
            let json = parsed.json;
            match perform(parsed, monitor) {
                Ok(answer) if json => print(&json::document(command, answer.exit == 0, answer.document), answer.exit),
                Ok(answer) => print(&answer.text, answer.exit),
                Err(e) => fail(command, &e, json),
            }
        }
        Err(e) if e.use_stderr() => usage(&e, &verb, wants_json),
        Err(e) => print(&rendered(&e, console::colors_enabled()), 0),
    }
}

fn parse(mut arguments: Vec<String>) -> Result<Arguments, clap::Error> {
    // `help VERB`, as people type it; clap's own verb of that name would stand in the list of ours.
    if arguments.first().is_some_and(|a| a == "help") {
        arguments.remove(0);
        arguments.push("--help".to_owned());
    }
    // Colours are ours to decide: `rendered` takes them out again.
    let command = Arguments::command().color(ColorChoice::Always);
    Arguments::from_arg_matches(&command.try_get_matches_from(std::iter::once("aqe-backup".to_owned()).chain(arguments))?)
}

fn perform(mut arguments: Arguments, monitor: Monitor) -> Result<Answer> {
    let ctx = arguments.place.context(arguments.verb.databases(), progress::shown(monitor));
    match arguments.verb {
        Verb::Create(a) => create::run(&ctx, a),
        Verb::List(a) => list::run(&ctx, &a),
        Verb::Verify(a) => verify::run(&ctx, a),
        Verb::Restore(a) => restore::run(&ctx, a),
        Verb::Compare(a) => compare::run(&ctx, &a),
        Verb::Check(a) => check::run(&ctx, &a),
        Verb::Info(a) => info::run(&ctx, &a),
        Verb::Size => size::run(&ctx),
        Verb::Clean(a) => clean::run(&ctx, &a),
        Verb::Delete(a) => delete::run(&ctx, &a),
        Verb::Exec(a) => exec::run(&ctx, &a, arguments.json),
        Verb::Recover => recover::run(&ctx),
        Verb::Completions(a) => Ok(completions::run(&a, Arguments::command())),
    }
}

/// What clap has to say: help, or what is wrong with the arguments.
fn rendered(e: &clap::Error, colour: bool) -> String {
    let text = e.render();
    if colour { text.ansi().to_string() } else { text.to_string() }
}

/// The verb that arguments name which are no command line; empty if they name none.
fn verb_in(arguments: &[String]) -> String {
    let command = Arguments::command();
    let named = |a: &&String| command.get_subcommands().any(|c| c.get_name() == a.as_str());
    arguments.iter().find(named).cloned().unwrap_or_default()
}

fn usage(e: &clap::Error, verb: &str, json: bool) -> i32 {
    if json {
        let text = rendered(e, false);
        let error = Error::new(Code::InvalidArgValue, text.trim().strip_prefix("error: ").unwrap_or(text.trim()));
        return print(&json::failure(verb, &error), USAGE);
    }
    complain(&rendered(e, console::colors_enabled_stderr()));
    USAGE
}

fn fail(command: &str, e: &Error, json: bool) -> i32 {
    let exit = exit_code(e.code);
    if json {
        return print(&json::failure(command, e), exit);
    }
    complain(&format!("aqe-backup {command}: {} ({})\n", text::plain(&e.message), e.code));
    exit
}

/// A reader that went away early (`| head`) has seen what it wanted: that is no failure.
fn print(text: &str, exit: i32) -> i32 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&format!("aqe-backup: cannot write the output: {e}\n"));
            exit.max(1)
        }
        _ => exit,
    }
}

/// Where even stderr is closed there is nobody left to tell; the exit code says it.
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn exit_code(code: Code) -> i32 {
    match code {
        Code::InvalidArgType | Code::InvalidArgValue | Code::InvalidTimestamp => USAGE,
        Code::ChecksumMismatch | Code::BackupDamaged | Code::SourceDamaged => 4,
        Code::RestoreRolledBack => 5,
        Code::RestoreIncomplete => 6,
        Code::BackupNotFound | Code::NoDatabases => 10,
        Code::DatabaseBusy | Code::LockTimeout => 11,
        Code::NoSpace => 13,
        Code::Abort => 130,
        Code::PermissionDenied | Code::IoError | Code::NeedsForce | Code::UnsupportedFormat | Code::UnsafePlatform => 1,
    }
}
