//! What two tables of one name can be compared by, and the statements that read both in that order.

use super::cells::{Collation, Encoding, Reading};
use super::row_pair::Pair;
use super::shapes::{Key, KeyPart, Shape, quoted};

/// The order that both sides are read in.
pub(super) enum Order {
    /// By the first columns, which no two rows share; those with a NULL there come in any number and are passed over.
    Key(Vec<(Collation, bool)>),
    /// By all columns: equal rows cancel out. SQLite sorts, in a temporary file.
    Content,
}

/// How both sides are read.
pub(super) struct Plan {
    /// Names, those of the key first.
    pub columns: Vec<String>,
    /// How many of them are the key.
    pub key: usize,
    pub order: Order,
    /// Of both sides; where they differ, only one of them is read.
    pub encoding: Encoding,
    /// For the backup and the live database; `None` where there is no such table.
    pub sql: [Option<String>; 2],
}

/// The key that both tables of the pair have, or why there is none.
pub(super) fn common(pair: &Pair<'_, '_>) -> Result<Key, String> {
    let key = match (pair.before, pair.after) {
        (Some(a), Some(b)) if !same(&a.key, &b.key) => {
            return Err(format!("the primary key was {} and is {}", described(&a.key), described(&b.key)));
        }
        (Some(_), Some(_)) if pair.then.encoding != pair.now.encoding => return Err("the text encoding of the database has changed".into()),
        (Some(s), _) | (_, Some(s)) => s.key.clone(),
        (None, None) => Key::Nothing,
    };
    if let Key::Primary { parts, .. } = &key
        && let Some(part) = parts.iter().find(|p| p.known_collation().is_none())
    {
        return Err(format!("the key is ordered by a collation of the application: {}", part.collation));
    }
    Ok(key)
}

fn same(a: &Key, b: &Key) -> bool {
    match (a, b) {
        (Key::Integer(a), Key::Integer(b)) => a.eq_ignore_ascii_case(b),
        (Key::Rowid(_), Key::Rowid(_)) | (Key::Nothing, Key::Nothing) => true,
        (Key::Primary { parts: a, .. }, Key::Primary { parts: b, .. }) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_part(a, b))
        }
        _ => false,
    }
}

fn same_part(a: &KeyPart, b: &KeyPart) -> bool {
    a.column.eq_ignore_ascii_case(&b.column) && a.collation.eq_ignore_ascii_case(&b.collation) && a.descending == b.descending
}

fn described(key: &Key) -> String {
    match key {
        Key::Integer(column) => format!("({column})"),
        Key::Rowid(_) | Key::Nothing => "none".into(),
        Key::Primary { parts, .. } => format!("({})", parts.iter().map(described_part).collect::<Vec<_>>().join(", ")),
    }
}

fn described_part(part: &KeyPart) -> String {
    let collation = if part.collation.eq_ignore_ascii_case("BINARY") { String::new() } else { format!(" {}", part.collation) };
    format!("{}{collation}{}", part.column, if part.descending { " DESC" } else { "" })
}

/// Reads both sides by `key`.
pub(super) fn by_key(pair: &Pair<'_, '_>, key: &Key) -> Plan {
    let (names, order): (Vec<String>, _) = match key {
        Key::Primary { parts, .. } => (
            parts.iter().map(|p| p.column.clone()).collect(),
            // `common` lets no other collation through.
            parts.iter().map(|p| (p.known_collation().unwrap_or(Collation::Binary), p.descending)).collect(),
        ),
        Key::Integer(column) => (vec![column.clone()], vec![(Collation::Binary, false)]),
        Key::Rowid(name) => (vec![(*name).to_owned()], vec![(Collation::Binary, false)]),
        Key::Nothing => (Vec::new(), Vec::new()),
    };
    let rest = shared_columns(pair).into_iter().filter(|c| !names.iter().any(|n| n.eq_ignore_ascii_case(c)));
    let columns: Vec<String> = names.iter().cloned().chain(rest).collect();
    let sql = |shape: Option<&Shape>, reading: Reading| {
        let shape = shape?;
        let (hint, name) = match &shape.key {
            Key::Primary { index, .. } => (format!("INDEXED BY {}", quoted(index)), None),
            // Unquoted: a quoted name that is no column's would be a string.
            Key::Rowid(name) => ("NOT INDEXED".to_owned(), Some(*name)),
            _ => ("NOT INDEXED".to_owned(), None),
        };
        let column = |i: usize| name.filter(|_| i == 0).map_or_else(|| quoted(&columns[i]), str::to_owned);
        let selected = (0..columns.len()).map(|i| reading.select(&column(i))).collect::<Vec<_>>().join(", ");
        let term = |(i, (collation, descending)): (usize, &(Collation, bool))| {
            format!("{} COLLATE {}{}", column(i), collation.as_str(), if *descending { " DESC" } else { "" })
        };
        let terms = order.iter().enumerate().map(term).collect::<Vec<_>>().join(", ");
        Some(format!("SELECT {selected} FROM main.{} {hint} ORDER BY {terms}", quoted(&shape.name)))
    };
    let sql = [sql(pair.before, Reading(pair.then.encoding)), sql(pair.after, Reading(pair.now.encoding))];
    Plan { key: names.len(), columns, order: Order::Key(order), encoding: encoding(pair), sql }
}

/// Reads both sides by content; with `key`, only the rows that have a NULL in it.
pub(super) fn by_content(pair: &Pair<'_, '_>, key: Option<&Key>) -> Plan {
    let columns = shared_columns(pair);
    let nulls = match key {
        Some(Key::Primary { parts, .. }) => {
            let each = parts.iter().map(|p| format!("{} IS NULL", quoted(&p.column)));
            format!("WHERE {}", each.collect::<Vec<_>>().join(" OR "))
        }
        _ => String::new(),
    };
    let sql = |shape: Option<&Shape>, reading: Reading| {
        let selected = columns.iter().map(|c| reading.select(&quoted(c))).collect::<Vec<_>>().join(", ");
        // 1 and 1.0 are equal to ORDER BY and yet two things.
        let terms = columns.iter().map(|c| format!("{0} COLLATE BINARY, typeof({0}) = 'real'", quoted(c))).collect::<Vec<_>>().join(", ");
        Some(format!("SELECT {selected} FROM main.{} NOT INDEXED {nulls} ORDER BY {terms}", quoted(&shape?.name)))
    };
    let sql = [sql(pair.before, Reading(pair.then.encoding)), sql(pair.after, Reading(pair.now.encoding))];
    Plan { columns, key: 0, order: Order::Content, encoding: encoding(pair), sql }
}

fn encoding(pair: &Pair<'_, '_>) -> Encoding {
    if pair.after.is_some() { pair.now.encoding } else { pair.then.encoding }
}

/// Columns that both tables have, as the live one spells them.
fn shared_columns(pair: &Pair<'_, '_>) -> Vec<String> {
    let of = |shape: Option<&Shape>| shape.map(|s| s.columns.clone());
    match (of(pair.after), of(pair.before)) {
        (Some(now), Some(then)) => now.into_iter().filter(|c| then.iter().any(|t| t.eq_ignore_ascii_case(c))).collect(),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => Vec::new(),
    }
}
