//! The rows of one table on both sides: two cursors in the same order, merged. It takes memory for one row of each side.

use std::cmp::Ordering;

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::{Rows, Statement};

use super::cells::{Cell, Line, Reading};
use super::excerpts::{Change, Excerpt, RowDifference, Sample, Values, first_difference};
use super::moved_rows::Moved;
use super::row_key::{self, Order, Plan};
use super::row_pair::{Counts, Pair};
use super::shapes::{Key, Shape};
use super::side::Side;
use crate::error::{Error, Result};

/// Rows between two reports of progress, which are also the looks at cancellation.
const STRIDE: u64 = 2048;

/// What the comparison of a pair gave.
pub struct Compared {
    /// See [`Counts`].
    pub counts: Counts,
    /// How rows were told apart, where that is worth knowing.
    pub note: Option<&'static str>,
}

/// Why there is no result.
pub enum Stop {
    /// The operation fails.
    Failed(Error),
    /// This table can't be compared here, and nothing is damaged.
    Cannot(String),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Failed(e)
    }
}

/// Told about rows done, now and then; its error ends the comparison.
pub type Progress<'p> = dyn FnMut(u64) -> Result<()> + 'p;

/// Compares a pair and keeps a sample of what differs.
pub fn compare(pair: &Pair<'_, '_>, sample: &mut Sample, progress: &mut Progress<'_>) -> Result<Compared, Stop> {
    let key = row_key::common(pair).map_err(Stop::Cannot)?;
    match &key {
        Key::Nothing => {
            let counts = by_content(pair, None, sample, progress)?;
            Ok(Compared { counts, note: Some("no primary key and no rowid: rows are told apart by their content") })
        }
        Key::Rowid(_) if may_be_renumbered(pair) => by_unsteady_rowid(pair, &key, sample, progress),
        _ => by_key(pair, &key, sample, progress),
    }
}

/// Whether `VACUUM` numbers the rows of the table anew: it does where no index holds their numbers.
fn may_be_renumbered(pair: &Pair<'_, '_>) -> bool {
    matches!((pair.before, pair.after), (Some(a), Some(b)) if !a.indexed || !b.indexed)
}

fn by_key(pair: &Pair<'_, '_>, key: &Key, sample: &mut Sample, progress: &mut Progress<'_>) -> Result<Compared, Stop> {
    let mut merge = Merge::new(pair, row_key::by_key(pair, key), sample, None);
    let [then, now] = merge.run(progress)?;
    let mut compared = Compared { counts: merge.counts, note: None };
    if then.without_key + now.without_key > 0 {
        let rest = by_content(pair, Some(key), sample, progress)?;
        compared.counts.added += rest.added;
        compared.counts.removed += rest.removed;
        compared.note = Some("rows with NULL in the primary key are told apart by their content");
    }
    Ok(compared)
}

/// Equal rows cancel out, so that none is ever changed; with `key`, for the rows that have a NULL in it.
fn by_content(pair: &Pair<'_, '_>, key: Option<&Key>, sample: &mut Sample, progress: &mut Progress<'_>) -> Result<Counts, Stop> {
    let plan = row_key::by_content(pair, key);
    if plan.columns.is_empty() {
        return Err(Stop::Cannot("the two have no column in common".into()));
    }
    let mut merge = Merge::new(pair, plan, sample, None);
    merge.run(progress)?;
    Ok(merge.counts)
}

/// By the rowid, unless the content of the rows that differ says that they have merely moved to other rowids.
fn by_unsteady_rowid(pair: &Pair<'_, '_>, key: &Key, sample: &mut Sample, progress: &mut Progress<'_>) -> Result<Compared, Stop> {
    let mut moved = Moved::default();
    let mut own = sample.like();
    let mut merge = Merge::new(pair, row_key::by_key(pair, key), &mut own, Some(&mut moved));
    merge.run(progress)?;
    let counts = merge.counts;
    if !moved.explains_more_than(counts) {
        sample.rows.append(&mut own.rows);
        return Ok(Compared { counts, note: None });
    }
    let mut others = sample.like();
    let by_content = by_content(pair, None, &mut others, progress)?;
    // Too many contents to be sure before: the rows may have stayed where they were after all.
    if by_content.moves() == counts.moves() {
        sample.rows.append(&mut own.rows);
        return Ok(Compared { counts, note: None });
    }
    sample.rows.append(&mut others.rows);
    Ok(Compared { counts: by_content, note: Some("no primary key, and rowids have changed: rows are told apart by their content") })
}

/// Rows of one side that were read.
#[derive(Clone, Copy, Default)]
struct Seen {
    with_key: u64,
    without_key: u64,
}

/// One merge: what it reads by, and what it has found.
struct Merge<'m, 's, 'c> {
    pair: &'m Pair<'s, 'c>,
    plan: Plan,
    sample: &'m mut Sample,
    moved: Option<&'m mut Moved>,
    counts: Counts,
}

impl<'m, 's, 'c> Merge<'m, 's, 'c> {
    fn new(pair: &'m Pair<'s, 'c>, plan: Plan, sample: &'m mut Sample, moved: Option<&'m mut Moved>) -> Self {
        Merge { pair, plan, sample, moved, counts: Counts::default() }
    }

    fn run(&mut self, progress: &mut Progress<'_>) -> Result<[Seen; 2], Stop> {
        let Merge { pair: Pair { then, now, .. }, plan, .. } = self;
        let (mut a, mut b) = (prepare(then, plan.sql[0].as_deref())?, prepare(now, plan.sql[1].as_deref())?);
        let mut before = Cursor::new(then, a.as_mut(), plan)?;
        let mut after = Cursor::new(now, b.as_mut(), plan)?;
        let mut rows = 0;
        loop {
            let (a, b) = (before.line(), after.line());
            let position = match (a, b) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => order(plan, |i| a.cell(i), |i| b.cell(i)).map_err(|e| then.failure(e, "read"))?,
            };
            let (a, b) = (a.filter(|_| position.is_le()), b.filter(|_| position.is_ge()));
            let change = look(plan, a, b, self.sample, &mut self.moved).map_err(|e| then.failure(e, "read"))?;
            self.counts.add(change);
            if position.is_le() {
                before.advance()?;
            }
            if position.is_ge() {
                after.advance()?;
            }
            rows += 1;
            if rows % STRIDE == 0 {
                progress(STRIDE)?;
            }
        }
        progress(rows % STRIDE)?;
        let seen = [before.seen, after.seen];
        if matches!(plan.order, Order::Key(_)) {
            check_seen(then, self.pair.before, seen[0], self.pair.rows[0])?;
            check_seen(now, self.pair.after, seen[1], self.pair.rows[1])?;
        }
        Ok(seen)
    }
}

/// An index that lacks rows, or has some too many, must not pass for rows that came or went.
fn check_seen(side: &Side<'_>, shape: Option<&Shape>, seen: Seen, counted: u64) -> Result<()> {
    let found = seen.with_key + seen.without_key;
    match shape {
        Some(shape) if found != counted => {
            Err(side.damaged(&format!("the primary key of table {:?} leads to {found} rows of {counted}", shape.name)))
        }
        _ => Ok(()),
    }
}

fn prepare<'c>(side: &Side<'c>, sql: Option<&str>) -> Result<Option<Statement<'c>>, Stop> {
    match sql.map(|sql| side.connection().prepare(sql)).transpose() {
        Ok(statement) => Ok(statement),
        Err(e) => Err(Stop::Cannot(side.unreadable(e)?)),
    }
}

/// Compares two rows, given by their cells, in the order of the plan.
fn order<'x, 'y>(
    plan: &Plan,
    a: impl Fn(usize) -> rusqlite::Result<Cell<'x>>,
    b: impl Fn(usize) -> rusqlite::Result<Cell<'y>>,
) -> rusqlite::Result<Ordering> {
    let width = if let Order::Key(parts) = &plan.order { parts.len() } else { plan.columns.len() };
    for i in 0..width {
        let order = match &plan.order {
            Order::Key(parts) => {
                let (collation, descending) = parts[i];
                let order = a(i)?.order(b(i)?, collation, plan.encoding);
                if descending { order.reverse() } else { order }
            }
            Order::Content => a(i)?.total_order(b(i)?, plan.encoding),
        };
        if order.is_ne() {
            return Ok(order);
        }
    }
    Ok(Ordering::Equal)
}

/// What happened to a row that is there before, after or both.
fn look(
    plan: &Plan,
    before: Option<Line<'_>>,
    after: Option<Line<'_>>,
    sample: &mut Sample,
    moved: &mut Option<&mut Moved>,
) -> rusqlite::Result<Option<Change>> {
    let change = match (before, after) {
        (Some(a), Some(b)) => {
            let mut differing = None;
            for i in 0..plan.columns.len() {
                if a.cell(i)? != b.cell(i)? {
                    differing = Some(Change::Changed);
                    break;
                }
            }
            differing
        }
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
    };
    let Some(change) = change else { return Ok(None) };
    if let Some(moved) = moved {
        moved.take(plan, before, after)?;
    }
    if sample.wants_more() {
        sample.push(excerpt(plan, change, before, after)?);
    }
    Ok(Some(change))
}

fn excerpt(plan: &Plan, change: Change, before: Option<Line<'_>>, after: Option<Line<'_>>) -> rusqlite::Result<RowDifference> {
    let value = |line: Line<'_>, i: usize, near| Ok((plan.columns[i].clone(), Excerpt::of(line.cell(i)?, near, plan.encoding)));
    let values = |line: Option<Line<'_>>, columns: std::ops::Range<usize>| -> rusqlite::Result<Option<Values>> {
        line.map(|line| columns.map(|i| value(line, i, 0)).collect::<rusqlite::Result<_>>().map(Values)).transpose()
    };
    let key = values(after.or(before), 0..plan.key)?.unwrap_or_default();
    let (Some(a), Some(b)) = (before, after) else {
        let all = 0..plan.columns.len();
        return Ok(RowDifference { change, key, before: values(before, all.clone())?, after: values(after, all)? });
    };
    let (mut then, mut now) = (Values::default(), Values::default());
    for i in 0..plan.columns.len() {
        let (x, y) = (a.cell(i)?, b.cell(i)?);
        if x != y {
            let near = first_difference(x, y);
            then.0.push(value(a, i, near)?);
            now.0.push(value(b, i, near)?);
        }
    }
    Ok(RowDifference { change, key, before: Some(then), after: Some(now) })
}

/// The rows of one side, in the order of the plan. That they do come in it is checked: the application may have put a
/// collation of its own in the place of one of SQLite's.
struct Cursor<'r, 's, 'c> {
    side: &'s Side<'c>,
    plan: &'s Plan,
    reading: Reading,
    rows: Option<Rows<'r>>,
    previous: Vec<Kept>,
    seen: Seen,
}

impl<'r, 's, 'c> Cursor<'r, 's, 'c> {
    fn new(side: &'s Side<'c>, statement: Option<&'r mut Statement<'_>>, plan: &'s Plan) -> Result<Self, Stop> {
        let rows = statement.map(|s| s.query([])).transpose().map_err(|e| side.failure(e, "read"))?;
        let mut cursor = Cursor { side, plan, reading: Reading(side.encoding), rows, previous: Vec::new(), seen: Seen::default() };
        cursor.advance()?;
        Ok(cursor)
    }

    fn line(&self) -> Option<Line<'_>> {
        Some(Line::new(self.rows.as_ref()?.get()?, self.reading))
    }

    /// Goes to the next row that has a key.
    fn advance(&mut self) -> Result<(), Stop> {
        let side = self.side;
        loop {
            let Some(rows) = &mut self.rows else { return Ok(()) };
            rows.advance().map_err(|e| side.failure(e, "read"))?;
            if rows.get().is_none() {
                return Ok(());
            }
            match self.admit().map_err(|e| side.failure(e, "read"))? {
                Some(true) => self.seen.with_key += 1,
                Some(false) => {
                    self.seen.without_key += 1;
                    continue;
                }
                None => {
                    let why = "its rows are not in the order of the key: the application has another collation by that name, or an index is damaged";
                    return Err(Stop::Cannot(why.to_owned()));
                }
            }
            return Ok(());
        }
    }

    /// Whether the present row has a key; `None` if it comes out of order.
    fn admit(&mut self) -> rusqlite::Result<Option<bool>> {
        let Order::Key(parts) = &self.plan.order else { return Ok(Some(true)) };
        let width = parts.len();
        let Some(row) = self.rows.as_ref().and_then(FallibleStreamingIterator::get) else { return Ok(Some(true)) };
        let line = Line::new(row, self.reading);
        for i in 0..width {
            if line.cell(i)? == Cell::Null {
                return Ok(Some(false));
            }
        }
        if self.previous.is_empty() {
            self.previous.resize_with(width, || Kept::Integer(0));
        } else if order(self.plan, |i| Ok(self.previous[i].cell()), |i| line.cell(i))?.is_ge() {
            return Ok(None);
        }
        for i in 0..width {
            self.previous[i].keep(line.cell(i)?);
        }
        Ok(Some(true))
    }
}

/// A value of the previous key; its memory serves for the next one.
enum Kept {
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Kept {
    fn cell(&self) -> Cell<'_> {
        match self {
            Kept::Integer(i) => Cell::Integer(*i),
            Kept::Real(r) => Cell::Real(*r),
            Kept::Text(t) => Cell::Text(t),
            Kept::Blob(b) => Cell::Blob(b),
        }
    }

    fn keep(&mut self, cell: Cell<'_>) {
        match (&mut *self, cell) {
            (Kept::Text(kept), Cell::Text(new)) | (Kept::Blob(kept), Cell::Blob(new)) => {
                kept.clear();
                kept.extend_from_slice(new);
            }
            (_, Cell::Integer(i)) => *self = Kept::Integer(i),
            (_, Cell::Real(r)) => *self = Kept::Real(r),
            (_, Cell::Text(t)) => *self = Kept::Text(t.to_vec()),
            (_, Cell::Blob(b)) => *self = Kept::Blob(b.to_vec()),
            // A key with a NULL is none.
            (_, Cell::Null) => {}
        }
    }
}
