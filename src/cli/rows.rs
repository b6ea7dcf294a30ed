//! Rows that differ, as lines for a terminal: short, and unable to play tricks on it.

use std::io::IsTerminal;

use console::{Term, measure_text_width, truncate_str};

use super::style;
use super::text::plain;
use super::units::{count, plural};
use crate::operations::TableComparison;
use crate::sqlite::excerpts::{Change, Excerpt, RowDifference, Values, hex};

/// Columns of lines that go to no terminal.
const WIDTH: usize = 80;
/// Widest value of a key.
const KEY: usize = 30;
/// Bytes of a blob that are shown.
const BLOB: usize = 8;
/// Characters before a difference that are shown too.
const LEAD: usize = 6;

/// `+`, `-` or `~`.
pub(super) fn sign(change: Change) -> &'static str {
    match change {
        Change::Added => "+",
        Change::Removed => "-",
        Change::Changed => "~",
    }
}

/// `text` in the colour of a change.
pub(super) fn coloured(change: Change, text: impl Into<String>) -> String {
    let text = text.into();
    match change {
        Change::Added => style::good(text).to_string(),
        Change::Removed => style::bad(text).to_string(),
        Change::Changed => style::doubtful(text).to_string(),
    }
}

/// Text from a database: as [`plain`], and a backslash is doubled, so that what stands for a character is told from it.
pub(super) fn escaped(text: &str) -> String {
    plain(&text.replace('\\', "\\\\"))
}

fn width() -> usize {
    let out = std::io::stdout();
    if out.is_terminal() { usize::from(Term::stdout().size().1).max(40) } else { WIDTH }
}

/// `text` broken between words; the first line is indented by `first`, the others by `rest`.
pub(super) fn wrapped(text: &str, first: usize, rest: usize) -> String {
    let width = width();
    let (mut out, mut line, mut empty) = (String::new(), " ".repeat(first), true);
    for word in text.split(' ') {
        if !empty && measure_text_width(&line) + 1 + measure_text_width(word) > width {
            out += &line;
            out.push('\n');
            (line, empty) = (" ".repeat(rest), true);
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    out + &line + "\n"
}

/// The rows that were asked for; nothing if none were.
pub(super) fn list(table: &TableComparison) -> String {
    let Some(rows) = &table.rows else { return String::new() };
    let total = table.counts.map_or(0, |c| c.total());
    let name = escaped(&table.table);
    if rows.is_empty() {
        return if table.counts.is_some() { format!("  No row of {name} differs.\n") } else { String::new() };
    }
    let mut text = String::new();
    let head = if table.rows_truncated {
        format!("{name}: the first {} of {}", count(rows.len() as u64), plural(total, "row that differs", "rows that differ"))
    } else {
        format!("{name}: {}", plural(total, "row differs", "rows differ"))
    };
    text += &wrapped(&head, 2, 4);
    let width = width();
    for row in rows {
        text += &lines(row, width);
    }
    if table.rows_truncated {
        text += &format!("  {}\n", style::faint("… --limit shows more"));
    }
    text
}

fn lines(row: &RowDifference, width: usize) -> String {
    let mark = coloured(row.change, sign(row.change));
    let key = row.key.0.iter().map(|(name, v)| format!("{} {}", escaped(name), value(v, 0, KEY))).collect::<Vec<_>>().join(", ");
    let key = truncate_str(&key, width - 4, "…").into_owned();
    let (Some(before), Some(after)) = (&row.before, &row.after) else {
        let rest = row.after.as_ref().or(row.before.as_ref()).map(|values| others(values, &row.key, width)).unwrap_or_default();
        let gap = if key.is_empty() || rest.is_empty() { "" } else { "  " };
        let line = truncate_str(&format!("{}{gap}{rest}", style::strong(key)), width - 4, "…").into_owned();
        return format!("  {mark} {line}\n");
    };
    let mut text = format!("  {mark} {}\n", style::strong(key));
    for ((name, then), (_, now)) in before.0.iter().zip(&after.0) {
        text += &change(name, then, now, width);
    }
    text
}

/// The values of a row that are not its key.
fn others(values: &Values, key: &Values, width: usize) -> String {
    let rest: Vec<_> = values.0.iter().filter(|(name, _)| !key.0.iter().any(|(k, _)| k == name)).collect();
    let room = (width / rest.len().max(1)).max(KEY);
    rest.iter().map(|(name, v)| format!("{} {}", style::faint(escaped(name)), value(v, 0, room))).collect::<Vec<_>>().join(", ")
}

/// `column  before → after`, around the first difference.
fn change(name: &str, before: &Excerpt, after: &Excerpt, width: usize) -> String {
    const INDENT: usize = 6;
    let name = truncate_str(&escaped(name), width / 3, "…").into_owned();
    let room = width.saturating_sub(INDENT + measure_text_width(&name) + 2 + 3);
    let skip = common(before, after).saturating_sub(LEAD);
    let whole = (value(before, 0, usize::MAX), value(after, 0, usize::MAX));
    let fits = |s: &str| measure_text_width(s);
    let (then, now) = if fits(&whole.0) + fits(&whole.1) <= room {
        whole
    } else {
        // What one side does not need, the other may have.
        let half = room / 2;
        let then = value(before, skip, half.max(room.saturating_sub(fits(&value(after, skip, usize::MAX)))));
        let now = value(after, skip, room.saturating_sub(fits(&then)));
        (then, now)
    };
    // The size of two blobs is said once if it is the same.
    let then = match (before, after) {
        (Excerpt::Blob { bytes: a, .. }, Excerpt::Blob { bytes: b, .. }) if a == b => then.trim_end_matches(&size(*a)).to_owned(),
        _ => then,
    };
    let line = format!("{:INDENT$}{}  {} → {}", "", style::faint(name), coloured(Change::Removed, then), coloured(Change::Added, now));
    // Two numbers under a long name can still be too much.
    truncate_str(&line, width, "…").into_owned() + "\n"
}

/// Characters, or bytes, that two pieces have in common at their start.
fn common(a: &Excerpt, b: &Excerpt) -> usize {
    match (a, b) {
        (Excerpt::Text { piece: a, .. }, Excerpt::Text { piece: b, .. }) => a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count(),
        (Excerpt::Blob { piece: a, .. }, Excerpt::Blob { piece: b, .. }) => a.iter().zip(b).take_while(|(x, y)| x == y).count(),
        _ => 0,
    }
}

/// A value in at most `room` columns, as far as that is possible; text and blobs from their part `skip` on.
fn value(v: &Excerpt, skip: usize, room: usize) -> String {
    match v {
        Excerpt::Null => "NULL".to_owned(),
        Excerpt::Integer(i) => i.to_string(),
        Excerpt::Real(r) => format!("{r:?}"),
        Excerpt::Text { piece, whole, from, bytes } => text(piece, skip, *from > 0, !whole && from + (piece.len() as u64) < *bytes, room),
        Excerpt::Blob { piece, from, bytes } => blob(piece, skip, *from, *bytes),
    }
}

fn text(piece: &str, skip: usize, cut_before: bool, cut_after: bool, room: usize) -> String {
    let shown = escaped(&piece.chars().skip(skip).collect::<String>());
    let lead = if skip > 0 || cut_before { "…" } else { "" };
    let trail = if cut_after { "…" } else { "" };
    let room = room.saturating_sub(lead.chars().count() + 2).max(1);
    if measure_text_width(&shown) + trail.chars().count() <= room {
        return format!("'{lead}{shown}{trail}'");
    }
    format!("'{lead}{}'", truncate_str(&shown, room, "…"))
}

fn blob(piece: &[u8], skip: usize, from: u64, bytes: u64) -> String {
    // Where the start is all the same, what differs is further on.
    let skip = if skip + LEAD < BLOB { 0 } else { skip.min(piece.len()) };
    let end = piece.len().min(skip + BLOB);
    let lead = if skip > 0 || from > 0 { "…" } else { "" };
    let trail = if from + (end as u64) < bytes { "…" } else { "" };
    format!("x'{lead}{}{trail}'{}", hex(&piece[skip..end]), size(bytes))
}

fn size(bytes: u64) -> String {
    format!(" ({})", plural(bytes, "byte", "bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn excerpt() -> impl Strategy<Value = Excerpt> {
        prop_oneof![
            Just(Excerpt::Null),
            any::<i64>().prop_map(Excerpt::Integer),
            any::<f64>().prop_map(Excerpt::Real),
            (any::<bool>(), ".{0,200}").prop_map(|(whole, piece)| Excerpt::Text { from: 0, bytes: piece.len() as u64, whole, piece }),
            (proptest::collection::vec(any::<u8>(), 0..32), 0u64..99).prop_map(|(piece, from)| Excerpt::Blob {
                bytes: from + piece.len() as u64,
                piece,
                from
            }),
        ]
    }

    proptest! {
        #[test]
        fn no_text_keeps_what_a_terminal_obeys(text in any::<String>()) {
            let obeyed = |c: char| c.is_control() || c == '\u{202e}' || c == '\u{200b}';
            prop_assert!(!escaped(&text).chars().any(obeyed));
        }

        #[test]
        fn different_texts_stay_different(a in any::<String>(), b in any::<String>()) {
            prop_assert_eq!(a == b, escaped(&a) == escaped(&b));
        }

        #[test]
        fn no_line_of_a_row_is_wider_than_the_terminal(name in ".{1,80}", a in excerpt(), b in excerpt(), key in excerpt(), width in 60usize..120) {
            let key = Values(vec![("id".to_owned(), key)]);
            let [before, after] = [a, b].map(|v| Some(Values(vec![(name.clone(), v)])));
            for (change, before, after) in [(Change::Changed, before.clone(), after.clone()), (Change::Added, None, after), (Change::Removed, before, None)] {
                for line in lines(&RowDifference { change, key: key.clone(), before, after }, width).lines() {
                    prop_assert!(measure_text_width(line) <= width, "{line:?}");
                }
            }
        }
    }
}
