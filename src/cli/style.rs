//! Colours and symbols: whether a stream gets them, and what each one means.

use console::{StyledObject, style};

/// `FORCE_COLOR` and `NO_COLOR` as Node reads them (the first wins), else colours go to a terminal that has them.
pub(super) fn wants_colour(is_terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    if let Some(force) = set("FORCE_COLOR") {
        return force != "0" && force != "false";
    }
    set("NO_COLOR").is_none() && is_terminal && set("TERM").is_none_or(|t| t != "dumb")
}

/// Decides for standard output and standard error, once for the whole run.
pub(super) fn decide() {
    use std::io::IsTerminal;
    console::set_colors_enabled(wants_colour(std::io::stdout().is_terminal()));
    console::set_colors_enabled_stderr(wants_colour(std::io::stderr().is_terminal()));
}

/// Nothing to worry about.
pub(super) fn good<D>(text: D) -> StyledObject<D> {
    style(text).green()
}

/// Worth a look.
pub(super) fn doubtful<D>(text: D) -> StyledObject<D> {
    style(text).yellow()
}

/// Something is wrong.
pub(super) fn bad<D>(text: D) -> StyledObject<D> {
    style(text).red().bold()
}

/// What the eye should find first.
pub(super) fn strong<D>(text: D) -> StyledObject<D> {
    style(text).bold()
}

/// What is there for completeness.
pub(super) fn faint<D>(text: D) -> StyledObject<D> {
    style(text).dim()
}

/// Whether the terminal's encoding has block characters. Unix says so in its locale; Windows consoles have them.
pub(super) fn has_blocks() -> bool {
    cfg!(windows)
        || ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|v| std::env::var(v).ok().filter(|v| !v.is_empty())).is_some_and(is_utf8)
}

#[allow(clippy::needless_pass_by_value)] // as `is_some_and` hands it over
fn is_utf8(locale: String) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
