//! The tables of a database: their columns, and what tells one row from another.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::cells::Collation;

/// What a table is to SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One that holds rows.
    Ordinary,
    /// One that a virtual table keeps its content in.
    Shadow,
    /// One whose rows are its module's business.
    Virtual,
}

/// One column of a primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPart {
    /// Column.
    pub column: String,
    /// Name of its collation.
    pub collation: String,
    /// Largest first.
    pub descending: bool,
}

impl KeyPart {
    /// If its order is known here.
    pub fn known_collation(&self) -> Option<Collation> {
        Collation::parse(&self.collation)
    }
}

/// What tells one row of a table from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// `INTEGER PRIMARY KEY`: this column is the rowid.
    Integer(String),
    /// No primary key: the rowid, under a name that no column has.
    Rowid(&'static str),
    /// Any other primary key, and the index that keeps it.
    Primary {
        /// In the order of the index.
        parts: Vec<KeyPart>,
        /// For `INDEXED BY`.
        index: String,
    },
    /// No primary key, and columns by all three names of the rowid.
    Nothing,
}

/// A table.
#[derive(Debug, Clone)]
pub struct Shape {
    /// As it was created.
    pub name: String,
    /// See [`Kind`].
    pub kind: Kind,
    /// Columns that are stored, in order; generated and hidden ones are left out.
    pub columns: Vec<String>,
    /// See [`Key`].
    pub key: Key,
    /// Whether any index exists. Without one, and without a primary key, `VACUUM` numbers the rows anew.
    pub indexed: bool,
}

/// All tables, by their names in lower case: SQLite does not tell ASCII capitals from small letters.
pub fn read(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Shape>> {
    let sql = "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND type <> 'view' AND name <> 'sqlite_schema'";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut shapes = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let kind = match row.get_ref(1)?.as_str()? {
            "virtual" => Kind::Virtual,
            "shadow" => Kind::Shadow,
            _ => Kind::Ordinary,
        };
        shapes.insert(name.to_ascii_lowercase(), shape(connection, name, kind, row.get(2)?)?);
    }
    Ok(shapes)
}

fn shape(connection: &Connection, name: String, kind: Kind, without_rowid: bool) -> rusqlite::Result<Shape> {
    if kind == Kind::Virtual {
        return Ok(Shape { name, kind, columns: Vec::new(), key: Key::Nothing, indexed: false });
    }
    let mut statement = connection.prepare_cached("SELECT name, pk, hidden FROM pragma_table_xinfo(?1, 'main')")?;
    let all: Vec<(String, i64, i64)> =
        statement.query_map([&name], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare_cached("SELECT name, origin = 'pk' FROM pragma_index_list(?1, 'main')")?;
    let indexes: Vec<(String, bool)> = statement.query_map([&name], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
    let primary = indexes.iter().find(|(_, is_primary)| *is_primary);
    let key = match (primary, all.iter().find(|(_, pk, _)| *pk > 0)) {
        (Some((index, _)), _) => Key::Primary { parts: parts(connection, index)?, index: index.clone() },
        (None, Some((column, ..))) if !without_rowid => Key::Integer(column.clone()),
        (None, _) if without_rowid => Key::Nothing,
        (None, _) => {
            let free = |n: &&str| !all.iter().any(|(c, ..)| c.eq_ignore_ascii_case(n));
            ["rowid", "_rowid_", "oid"].into_iter().find(free).map_or(Key::Nothing, Key::Rowid)
        }
    };
    let columns = all.into_iter().filter(|(_, _, hidden)| *hidden == 0).map(|(c, ..)| c).collect();
    Ok(Shape { name, kind, columns, key, indexed: !indexes.is_empty() })
}

fn parts(connection: &Connection, index: &str) -> rusqlite::Result<Vec<KeyPart>> {
    let sql = "SELECT name, coll, \"desc\" FROM pragma_index_xinfo(?1, 'main') WHERE key = 1 ORDER BY seqno";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([index], |r| Ok(KeyPart { column: r.get(0)?, collation: r.get(1)?, descending: r.get(2)? }))?.collect()
}

/// `name` as an SQL identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
