//! Progress bars on standard error, if that is a terminal.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::progress::{Monitor, Phase, Progress};

/// `monitor`, drawing what it hears. The bar is gone when the operation is done.
pub(super) fn shown(monitor: Monitor) -> Monitor {
    if !std::io::stderr().is_terminal() {
        return monitor;
    }
    let current = Mutex::new(None);
    monitor.reporting_to(move |p| draw(&mut current.lock().unwrap_or_else(PoisonError::into_inner), &p))
}

type Current = Option<(Phase, ProgressBar)>;

fn draw(current: &mut Current, p: &Progress) {
    if current.as_ref().is_none_or(|(phase, _)| *phase != p.phase) {
        if let Some((_, old)) = current.take() {
            old.finish_and_clear();
        }
        *current = start(p).map(|bar| (p.phase, bar));
    }
    if let Some((_, bar)) = current {
        // A new database of the same phase may bring a new total.
        bar.set_length(p.bytes_total.max(p.bytes_done));
        bar.set_position(p.bytes_done);
        bar.set_message(p.file.clone());
    }
}

fn start(p: &Progress) -> Option<ProgressBar> {
    let name = match p.phase {
        Phase::Lock => "Waiting",
        Phase::Copy => "Copying",
        Phase::Verify => "Checking",
        Phase::Write => "Writing",
        Phase::Done => return None,
    };
    // Gone too when the operation fails: the error is what should be read.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_finish(ProgressFinish::AndClear);
    bar.set_style(look(p.bytes_total > 0));
    bar.set_prefix(name);
    bar.enable_steady_tick(Duration::from_millis(100));
    Some(bar)
}

fn look(with_total: bool) -> ProgressStyle {
    let template = if with_total {
        "{prefix:<8} {bar:24} {percent:>3}% {decimal_bytes:>9} {decimal_bytes_per_sec:>11} {eta:>4} left {wide_msg}"
    } else {
        "{prefix:<8} {spinner} {decimal_bytes:>9} {wide_msg}"
    };
    // The templates are constants; a test below reads them.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_understood() {
        for with_total in [true, false] {
            let bar = ProgressBar::with_draw_target(Some(10), ProgressDrawTarget::hidden());
            bar.set_style(look(with_total));
            bar.set_position(5);
            assert_eq!(bar.position(), 5);
        }
        assert!(ProgressStyle::with_template("{bar:24} {decimal_bytes_per_sec:>11} {eta:>4} {wide_msg}").is_ok());
    }
}
