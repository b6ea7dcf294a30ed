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
}

impl Table {
    /// `titles` in order; one that begins with `>` is of a column of numbers, which are aligned to the right.
    pub fn new(titles: &[&'static str]) -> Self {
        let titles = titles.iter().map(|t| t.strip_prefix('>').map_or((*t, Alignment::Left), |t| (t, Alignment::Right))).collect();
        Table { titles, rows: Vec::new(), indent: 0 }
    }

    /// Moves the whole table to the right.
    pub fn indented(mut self, by: usize) -> Self {
        self.indent = by;
        self
    }

    /// Adds a row; it has as many cells as there are titles.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines. On a terminal that is too narrow, the widest column is cut; in a pipe nothing is.
    pub fn render(&self) -> String {
        let out = std::io::stdout();
        self.fit(out.is_terminal().then(|| usize::from(Term::stdout().size().1)))
    }

    fn fit(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let titles: Vec<String> = self.titles.iter().map(|(t, _)| style::faint(t).to_string()).collect();
        let lines = std::iter::once(&titles).chain(&self.rows).map(|cells| self.line(cells, &widths));
        lines.collect()
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let widest =
            |i: usize| self.rows.iter().map(|r| measure_text_width(&r[i])).chain([measure_text_width(self.titles[i].0)]).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..self.titles.len()).map(widest).collect();
        let total: usize = self.indent + widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let excess = total.saturating_sub(limit.unwrap_or(usize::MAX));
        if let Some(w) = widths.iter_mut().max_by_key(|w| **w) {
            *w = w.saturating_sub(excess).max(NARROWEST.min(*w));
        }
        widths
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
        fn in_a_pipe_no_cell_is_cut(cells in proptest::collection::vec("[a-z]{1,200}", 2)) {
            let mut table = Table::new(&["A", "B"]);
            table.row(cells.clone());
            let text = table.fit(None);
            for cell in cells { prop_assert!(text.contains(&cell)); }
        }
    }
}
