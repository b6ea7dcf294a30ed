//! Text for people, line by line. Some lines are looked for by scripts and never change: `Timestamp: …`,
//! `Backup complete!`, `Restore complete!`, `All files verified`, `Total backups: N`, `Removed N old backup(s)`.

use super::style;

/// Adds a line to a `String`. Writing to a string can't fail.
macro_rules! line {
    ($text:expr) => {{ $text.push('\n'); }};
    ($text:expr, $($arguments:tt)*) => {{ use std::fmt::Write as _; let _ = writeln!($text, $($arguments)*); }};
}
pub(super) use line;

/// One line for each warning.
pub(super) fn warnings(text: &mut String, warnings: &[String]) {
    for w in warnings {
        line!(text, "{} {w}", style::doubtful("Warning:"));
    }
}
