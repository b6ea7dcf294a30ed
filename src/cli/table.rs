//! Columns that line up, whatever is in them, within the width of the terminal.

use std::io::IsTerminal;

use console::{Alignment, Term, measure_text_width, pad_str, truncate_str};

use super::style;

/// Between two columns.
const GAP: &str = "  ";
/// A column is not made narrower than this.
const NARROWEST: usize = 8;

/// Rows of cells under titles. Cells may be coloured.
pub(super) struct Table {
    titles: Vec<(&'static str, Alignment)>,
    rows: Vec<Vec<String>>,
    indent: usize,
    /// The column that gives way on a narrow terminal.
    flexible: Option<usize>,
    wraps: bool,
}

impl Table {
    /// `titles` in order. One that begins with `>` is of a column of numbers, which are aligned to the right; one that
    /// begins with `~`, of the column that is cut on a narrow terminal.
    pub fn new(titles: &[&'static str]) -> Self {
        let flexible = titles.iter().position(|t| t.starts_with('~'));
        let aligned = |t: &&'static str| match t.strip_prefix('>') {
            Some(t) => (t, Alignment::Right),
            None => (t.strip_prefix('~').unwrap_or(t), Alignment::Left),
        };
        Table { titles: titles.iter().map(aligned).collect(), rows: Vec::new(), indent: 0, flexible, wraps: false }
    }

    /// Moves the whole table to the right.
    pub fn indented(mut self, by: usize) -> Self {
        self.indent = by;
        self
    }

    /// The column that gives way is not cut but goes on in the next line.
    pub fn wrapped(mut self) -> Self {
        self.wraps = true;
        self
    }

    /// Adds a row; it has as many cells as there are titles.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines, as wide as the terminal at most. In a pipe nothing is cut.
    pub fn render(&self) -> String {
        let out = std::io::stdout();
        self.fit(out.is_terminal().then(|| usize::from(Term::stdout().size().1)))
    }

    fn fit(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let titles: Vec<String> = self.titles.iter().map(|(t, _)| style::faint(t).to_string()).collect();
        let rows = self.rows.iter().flat_map(|cells| self.wrap(cells, &widths));
        std::iter::once(titles).chain(rows).map(|cells| self.line(&cells, &widths)).collect()
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let cells = |i: usize| self.rows.iter().map(move |r| measure_text_width(&r[i]));
        let mut widths: Vec<usize> =
            self.titles.iter().enumerate().map(|(i, (t, _))| cells(i).chain([measure_text_width(t)]).max().unwrap_or(0)).collect();
        let total = self.indent + widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let excess = total.saturating_sub(limit.unwrap_or(usize::MAX));
        let gives_way = self.flexible.or_else(|| (0..widths.len()).max_by_key(|i| widths[*i]));
        if let Some(w) = gives_way.and_then(|i| widths.get_mut(i)) {
            *w = w.saturating_sub(excess).max(NARROWEST.min(*w));
        }
        widths
    }

    /// The lines of one row: one, unless the column that gives way is wrapped.
    fn wrap(&self, cells: &[String], widths: &[usize]) -> Vec<Vec<String>> {
        let Some(flexible) = self.flexible.filter(|i| self.wraps && measure_text_width(&cells[*i]) > widths[*i]) else {
            return vec![cells.to_vec()];
        };
        let parts = wrap_words(&cells[flexible], widths[flexible]);
        let line = |(n, part): (usize, String)| {
            let mut line = if n == 0 { cells.to_vec() } else { vec![String::new(); cells.len()] };
            line[flexible] = part;
            line
        };
        parts.into_iter().enumerate().map(line).collect()
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let padded = cells
            .iter()
            .zip(widths)
            .zip(&self.titles)
            .map(|((cell, width), (_, alignment))| pad_str(&truncate_str(cell, *width, "…"), *width, *alignment, None).into_owned());
        format!("{:indent$}{}", "", padded.collect::<Vec<_>>().join(GAP), indent = self.indent).trim_end().to_owned() + "\n"
    }
}

/// `text` in lines of at most `width` where its words allow.
fn wrap_words(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal_unless_every_column_is_narrow(cells in proptest::collection::vec("[a-zé漢 ]{0,60}", 3), width in 40usize..120) {
            let mut table = Table::new(&["NAME", ">SIZE", "NOTE"]);
            table.row(cells.clone());
            let fixed: usize = { let mut w: Vec<usize> = cells.iter().map(|c| measure_text_width(c).max(4)).collect(); w.sort_unstable(); w[0] + w[1] };
            prop_assume!(fixed + NARROWEST + 4 <= width);
            for line in table.fit(Some(width)).lines() { prop_assert!(measure_text_width(line) <= width, "{line:?}"); }
        }

        #[test]
        fn wrapping_loses_no_word(text in "[a-z]{1,9}( [a-z]{1,9}){0,20}", width in 10usize..40) {
            let mut table = Table::new(&["N", "~WHY"]).wrapped();
            table.row(vec!["1".into(), text.clone()]);
            let shown = table.fit(Some(width + 3));
            let words: Vec<&str> = shown.lines().skip(1).flat_map(str::split_whitespace).collect();
            prop_assert_eq!(words.join(" "), format!("1 {text}"));
        }

        #[test]
        fn in_a_pipe_no_cell_is_cut(cells in proptest::collection::vec("[a-z]{1,200}", 2)) {
            let mut table = Table::new(&["A", "B"]);
            table.row(cells.clone());
            let text = table.fit(None);
            for cell in cells { prop_assert!(text.contains(&cell)); }
        }
    }
}
