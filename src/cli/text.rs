//! Text for people, line by line. Some lines are looked for by scripts and never change: `Timestamp: …`,
//! `Backup complete!`, `Restore complete!`, `All files verified`, `Total backups: N`, `Removed N old backup(s)`.

use super::style;

/// Adds a line to a `String`. Writing to a string can't fail.
macro_rules! line {
    ($text:expr) => {{ $text.push('\n'); }};
    ($text:expr, $($arguments:tt)*) => {{ use std::fmt::Write as _; let _ = writeln!($text, $($arguments)*); }};
}
pub(super) use line;

/// Text that came from outside (names of files and tables, notes, messages with such names) without what a terminal
/// would obey or a reader could not see: control characters, marks that turn the direction of writing, spaces of no width.
pub(super) fn plain(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if hidden(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// One line for each warning.
pub(super) fn warnings(text: &mut String, warnings: &[String]) {
    for w in warnings {
        line!(text, "{} {w}", style::doubtful("Warning:"), w = plain(w));
    }
}
