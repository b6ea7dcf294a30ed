// compareBackup row by row: the numbers are those of a diff that holds everything in memory, or there is a note that says why not.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { test } from 'node:test';
import type Database from 'better-sqlite3';
import * as backup from '../index.js';
import { copyOf, makeDatabase, project, withDatabase, type Context, type Project } from './helpers/project';

type Table = backup.TableComparison;
type Counts = [added: number, removed: number, changed: number];

/** A project whose database was made by `sql`, backed up, and then changed by `change`. */
async function changed(t: Context, sql: string, change: string | ((db: Database.Database) => void), { journal = 'delete', encoding = 'UTF-8' } = {}): Promise<{ p: Project; ts: string }> {
  const p = project(t);
  withDatabase(p.at('a.db'), (db) => (db.pragma(`encoding = '${encoding}'`), db.pragma(`journal_mode = ${journal}`), db.exec(sql)));
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(made.success, true, made.error);
  withDatabase(p.at('a.db'), (db) => void (typeof change === 'string' ? db.exec(change) : change(db)));
  return { p, ts: made.timestamp };
}

async function tablesOf(p: Project, ts: string, options: backup.CompareBackupOptions = {}): Promise<Record<string, Table>> {
  const c = await backup.compareBackup(ts, { root: p.root, ...options });
  return Object.fromEntries(c.databases[0]!.tables.map((x) => [x.table, x]));
}

const counts = (x: Table | undefined): (number | null)[] => [x?.added ?? null, x?.removed ?? null, x?.changed ?? null];

async function expectCounts(t: Context, sql: string, change: string, table: string, wanted: Counts, options = {}): Promise<Table> {
  const { p, ts } = await changed(t, sql, change, options);
  const found = (await tablesOf(p, ts))[table];
  assert.deepEqual(counts(found), wanted, JSON.stringify(found));
  return found!;
}

const numbers = (n: number): string => `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${n})`;

for (const journal of ['delete', 'wal']) {
  test(`rows that came, went and changed are counted apart (${journal})`, async (t) => {
    const sql = `CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); ${numbers(1000)} INSERT INTO t SELECT i, 'row ' || i FROM n; CREATE TABLE same(x); INSERT INTO same VALUES (1)`;
    const { p, ts } = await changed(t, sql, "DELETE FROM t WHERE id BETWEEN 10 AND 16; UPDATE t SET v = 'x' WHERE id % 100 = 0; INSERT INTO t VALUES (5000, 'new'), (0, 'first')", { journal });
    const tables = await tablesOf(p, ts);
    assert.deepEqual(Object.keys(tables), ['t'], 'a table that is the same is listed');
    assert.deepEqual({ ...tables.t }, { table: 't', backupRows: 1000, liveRows: 995, added: 2, removed: 7, changed: 10, columnsAdded: [], columnsRemoved: [], note: null });
  });
}

test('a primary key that is not the rowid: rows are found again after VACUUM has moved them', async (t) => {
  const sql = `CREATE TABLE t(k TEXT PRIMARY KEY, v); ${numbers(500)} INSERT INTO t SELECT printf('%x', i * 7919 % 503), i FROM n`;
  await expectCounts(t, sql, "DELETE FROM t WHERE v < 100; UPDATE t SET v = -1 WHERE v = 300; VACUUM", 't', [0, 99, 1]);
});

test('no primary key: by rowid; after VACUUM, which numbers rows anew, by content and with a note', async (t) => {
  const sql = `CREATE TABLE t(v); ${numbers(500)} INSERT INTO t SELECT i % 100 FROM n`;
  assert.equal((await expectCounts(t, sql, 'DELETE FROM t WHERE rowid = 7; UPDATE t SET v = 1000 WHERE rowid = 9; INSERT INTO t VALUES (2000)', 't', [1, 1, 1])).note, null);
  const after = await expectCounts(t, sql, 'DELETE FROM t WHERE rowid <= 30; UPDATE t SET v = 1000 WHERE rowid = 40; VACUUM', 't', [1, 31, 0]);
  assert.match(after.note ?? '', /content/);
  assert.deepEqual([after.backupRows, after.liveRows], [500, 470]);
});

test('VACUUM alone: pages differ, and nothing else does', async (t) => {
  const sql = `CREATE TABLE none(v); ${numbers(2000)} INSERT INTO none SELECT hex(randomblob(50)) FROM n; CREATE TABLE t(k TEXT PRIMARY KEY, v); INSERT INTO t SELECT hex(randomblob(9)), v FROM none; DELETE FROM none WHERE rowid < 900; DELETE FROM t WHERE k < '8'`;
  const { p, ts } = await changed(t, sql, 'VACUUM');
  const [d] = (await backup.compareBackup(ts, { root: p.root })).databases;
  assert.deepEqual([d?.difference, d?.sameContent, d?.tables, d?.schema, d?.notes], ['different', true, [], [], []]);
  assert.ok(d!.pagesDifferent > 0);
  assert.match((await p.run('compare', ts)).stdout, /rows and the schema are the same/);
});

test('a column named like the rowid, three times over: rows are told apart by their content', async (t) => {
  const found = await expectCounts(t, 'CREATE TABLE t(rowid, _rowid_, oid); INSERT INTO t VALUES (1, 1, 1), (1, 1, 1), (2, 2, 2), (3, 3, 3)', 'DELETE FROM t WHERE oid = 3; INSERT INTO t VALUES (1, 1, 1), (1.0, 1, 1)', 't', [2, 1, 0]);
  assert.match(found.note ?? '', /content/);
  await expectCounts(t, 'CREATE TABLE t(rowid, oid); INSERT INTO t VALUES (1, 1), (2, 2)', 'UPDATE t SET oid = 9 WHERE rowid = 2', 't', [0, 0, 1]);
});

test('NULL in the primary key of a rowid table is no key: those rows are told apart by their content', async (t) => {
  const sql = "CREATE TABLE t(a TEXT, b, v, PRIMARY KEY (a, b)); INSERT INTO t VALUES (NULL, 1, 'x'), (NULL, 1, 'x'), (NULL, 1, 'y'), ('k', NULL, 'z'), ('k', 1, 'one'), ('k', 2, 'two')";
  const found = await expectCounts(t, sql, "DELETE FROM t WHERE v = 'x'; INSERT INTO t VALUES (NULL, 1, 'x'), (NULL, NULL, 'new'); UPDATE t SET v = 'ONE' WHERE b = 1 AND a = 'k'; UPDATE t SET v = 'Z' WHERE v = 'z'", 't', [2, 2, 1]);
  assert.match(found.note ?? '', /NULL/);
  assert.deepEqual([found.backupRows, found.liveRows], [6, 6]);
});

test('keys that are equal and not the same are one row that changed: 1 and 1.0, capitals under NOCASE, spaces under RTRIM', async (t) => {
  await expectCounts(t, "CREATE TABLE t(k PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (9007199254740993, 'c'), ('1', 'd')", "UPDATE t SET k = 1.0 WHERE k = 1; UPDATE t SET k = 9007199254740992.0 WHERE v = 'c'", 't', [1, 1, 1]);
  for (const rowid of ['', ' WITHOUT ROWID']) {
    await expectCounts(t, `CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY, v)${rowid}; INSERT INTO t VALUES ('Abc', 1), ('abd', 2), ('ÄB', 3), ('Z_', 4), ('z^', 5)`, "UPDATE t SET k = 'ABC' WHERE v = 1; UPDATE t SET k = 'äb' WHERE v = 3; INSERT INTO t VALUES ('b', 6)", 't', [2, 1, 1]);
    await expectCounts(t, `CREATE TABLE t(k TEXT COLLATE RTRIM PRIMARY KEY, v)${rowid}; INSERT INTO t VALUES ('a', 1), ('a!', 2), ('b  ', 3)`, "UPDATE t SET k = 'a   ' WHERE v = 1; UPDATE t SET k = ' b' WHERE v = 3", 't', [1, 1, 1]);
  }
});

test('WITHOUT ROWID with keys in both directions', async (t) => {
  const sql = `CREATE TABLE t(a TEXT, b INTEGER, v, PRIMARY KEY (b DESC, a)) WITHOUT ROWID; ${numbers(300)} INSERT INTO t SELECT 'k' || (i % 7), i / 3, i FROM n`;
  await expectCounts(t, sql, "DELETE FROM t WHERE v % 50 = 0; UPDATE t SET v = -v WHERE v = 123; INSERT INTO t VALUES ('zz', 1000, 0), ('', -1, 0)", 't', [2, 6, 1]);
});

for (const encoding of ['UTF-16le', 'UTF-16be']) {
  test(`text in ${encoding} is ordered and compared by its own bytes`, async (t) => {
    const keys = ['a', 'b', 'é', 'ÿ', 'Ā', '漢', '\u{ff5e}', '😀', '𝄞', 'zz', ''];
    const sql = `CREATE TABLE t(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID; CREATE TABLE r(k TEXT PRIMARY KEY COLLATE NOCASE, v TEXT); ${keys.map((k, i) => `INSERT INTO t VALUES ('${k}', 'wörld ${i}'); INSERT INTO r VALUES ('${k}', x'00');`).join('')}`;
    const { p, ts } = await changed(t, sql, "DELETE FROM t WHERE k = '漢'; UPDATE t SET v = 'wörlt' WHERE k = '😀'; INSERT INTO t VALUES ('\u{ff00}', ''), ('\u{1f601}', ''); DELETE FROM r WHERE k = 'A'; UPDATE r SET v = CAST(v AS TEXT) WHERE k = 'é'", { encoding });
    const tables = await tablesOf(p, ts);
    assert.deepEqual([counts(tables.t), counts(tables.r)], [[2, 1, 1], [0, 1, 1]]);
    const rows = (await tablesOf(p, ts, { table: 't' })).t!.rows!;
    assert.deepEqual(rows.find((r) => r.change === 'changed'), { change: 'changed', key: { k: '😀' }, before: { v: 'wörld 7' }, after: { v: 'wörlt' } });
  });
}

test('generated columns are left out; columns that came or went are named, and the others compared', async (t) => {
  const sql = "CREATE TABLE g(id INTEGER PRIMARY KEY, v, twice AS (v * 2), kept AS (v + 1) STORED); INSERT INTO g(id, v) VALUES (1, 1), (2, 2); CREATE TABLE c(id TEXT PRIMARY KEY, a, b); INSERT INTO c VALUES ('x', 1, 1), ('y', 2, 2), ('z', 3, 3)";
  const { p, ts } = await changed(t, sql, "UPDATE g SET v = 3 WHERE id = 1; ALTER TABLE c DROP COLUMN b; ALTER TABLE c ADD COLUMN d DEFAULT 7; UPDATE c SET a = 9 WHERE id = 'y'; DELETE FROM c WHERE id = 'z'");
  const { g, c } = await tablesOf(p, ts);
  assert.deepEqual(counts(g), [0, 0, 1]);
  assert.deepEqual([counts(c), c?.columnsAdded, c?.columnsRemoved], [[0, 1, 1], ['d'], ['b']]);
  const rows = (await tablesOf(p, ts, { table: 'g' })).g!.rows;
  assert.deepEqual(rows, [{ change: 'changed', key: { id: 1 }, before: { v: 1 }, after: { v: 3 } }]);
});

test('another primary key: rows are counted and not compared, and the note says so', async (t) => {
  const { p, ts } = await changed(t, 'CREATE TABLE t(a, b, PRIMARY KEY (a)); INSERT INTO t VALUES (1, 2), (3, 4)', 'DROP TABLE t; CREATE TABLE t(a, b, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 2)');
  const { t: table } = await tablesOf(p, ts);
  assert.deepEqual([table?.backupRows, table?.liveRows, ...counts(table)], [2, 1, null, null, null]);
  assert.match(table?.note ?? '', /primary key was \(a\) and is \(a, b\)/);
});

test('another text encoding: rows are counted and not compared, and the note says so', async (t) => {
  const { p, ts } = await changed(t, "CREATE TABLE t(a PRIMARY KEY); INSERT INTO t VALUES ('ä')", () => undefined);
  fs.rmSync(p.at('a.db'));
  withDatabase(p.at('a.db'), (db) => (db.pragma("encoding = 'UTF-16le'"), db.exec("CREATE TABLE t(a PRIMARY KEY); INSERT INTO t VALUES ('ä'), ('b')")));
  const [d] = (await backup.compareBackup(ts, { root: p.root })).databases;
  assert.deepEqual([d?.tables.map((x) => [x.backupRows, x.liveRows, x.added]), d?.sameContent], [[[1, 2, null]], false]);
  assert.match(d!.tables[0]!.note ?? '', /encoding/);
  assert.match(d!.notes.join(), /UTF-8.*UTF-16le/);
});

test('a key in the order of an application’s own collation: rows are counted if they can be, and not compared', async (t) => {
  const rename = (db: Database.Database): void => {
    db.unsafeMode();
    db.exec("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'GERMAN') WHERE sql LIKE '%NOCASE%'; PRAGMA writable_schema = RESET");
  };
  const p = project(t);
  withDatabase(p.at('a.db'), (db) => {
    db.exec("CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1), ('b', 2); CREATE TABLE w(k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO w VALUES ('a', 1); CREATE TABLE plain(id INTEGER PRIMARY KEY, v TEXT COLLATE NOCASE); INSERT INTO plain VALUES (1, 'a')");
    rename(db);
  });
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(made.success, true, made.error);
  withDatabase(p.at('a.db'), (db) => db.exec("UPDATE t SET v = 3 WHERE rowid = 1; UPDATE plain SET v = 'A'"));
  const tables = await tablesOf(p, made.timestamp);
  assert.deepEqual([tables.t?.backupRows, tables.t?.liveRows, ...counts(tables.t)], [2, 2, null, null, null]);
  assert.match(tables.t?.note ?? '', /GERMAN/);
  assert.deepEqual(counts(tables.w), [null, null, null]);
  assert.match(tables.w?.note ?? '', /GERMAN/);
  assert.deepEqual(counts(tables.plain), [0, 0, 1]);
});

test('a virtual table is not compared itself; the tables that hold its content are', async (t) => {
  const { p, ts } = await changed(t, "CREATE VIRTUAL TABLE docs USING fts5(body); INSERT INTO docs VALUES ('one two'), ('three'); CREATE VIRTUAL TABLE boxes USING rtree(id, a, b); INSERT INTO boxes VALUES (1, 0, 1)", "INSERT INTO docs VALUES ('four'); UPDATE boxes SET b = 2");
  const tables = await tablesOf(p, ts);
  assert.deepEqual(counts(tables.docs_content), [1, 0, 0]);
  assert.match(tables.docs_content?.note ?? '', /virtual table docs/);
  assert.deepEqual(counts(tables.boxes_node), [0, 0, 1]);
  assert.ok(!('docs' in tables) && !('boxes' in tables));
  const asked = (await tablesOf(p, ts, { table: 'docs' })).docs;
  assert.match(asked?.note ?? '', /virtual.*docs_content/);
  assert.deepEqual(counts(asked), [null, null, null]);
});

test('tables on one side only, and a table that became a view', async (t) => {
  const { p, ts } = await changed(t, 'CREATE TABLE gone(x); INSERT INTO gone VALUES (1), (2); CREATE TABLE v(x); INSERT INTO v VALUES (1); CREATE TABLE empty(x)', 'DROP TABLE gone; DROP TABLE v; DROP TABLE empty; CREATE VIEW v AS SELECT 1; CREATE TABLE fresh(a, b); INSERT INTO fresh VALUES (1, 2)');
  const tables = await tablesOf(p, ts);
  assert.deepEqual(Object.fromEntries(Object.entries(tables).map(([n, x]) => [n, [x.backupRows, x.liveRows, ...counts(x)]])), {
    empty: [0, null, 0, 0, 0], fresh: [null, 1, 1, 0, 0], gone: [2, null, 0, 2, 0], v: [1, null, 0, 1, 0],
  });
  assert.deepEqual((await tablesOf(p, ts, { table: 'gone' })).gone!.rows, [1, 2].map((x) => ({ change: 'removed', key: { rowid: x }, before: { rowid: x, x }, after: null })));
});

test('large blobs that differ in one byte far inside', async (t) => {
  const sql = 'CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB, s TEXT); INSERT INTO t VALUES (1, zeroblob(20000000), NULL), (2, zeroblob(1000), NULL)';
  const { p, ts } = await changed(t, sql, "UPDATE t SET b = CAST(substr(b, 1, 15000001) || x'07' || substr(b, 15000003) AS BLOB) WHERE id = 1; UPDATE t SET s = printf('%.9000c', 'x') || 'end' WHERE id = 2");
  const found = (await tablesOf(p, ts, { table: 't' })).t!;
  assert.deepEqual(counts(found), [0, 0, 2]);
  const [one, two] = found.rows!;
  assert.deepEqual(one?.before, { b: { blob: '00'.repeat(32), from: 14999968 + 32, bytes: 20_000_000 } });
  assert.equal((one?.after?.b as { blob: string }).blob.indexOf('07'), 2);
  assert.deepEqual(two?.after, { s: { text: 'x'.repeat(4096), bytes: 9003 } });
});

test('values that JSON has no word for', async (t) => {
  const { p, ts } = await changed(t, 'CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 0)', "UPDATE t SET v = 9007199254740993; INSERT INTO t VALUES (9223372036854775807, 9e999), (3, -9e999), (4, 'a' || char(0, 27)), (5, x'00ff'), (6, 1.5), (7, NULL), (8, 9007199254740991)");
  const rows = (await tablesOf(p, ts, { table: 'T' })).t!.rows!;
  assert.deepEqual(rows[0], { change: 'changed', key: { id: 1 }, before: { v: 0 }, after: { v: '9007199254740993' } });
  assert.deepEqual(rows.slice(1).map((r) => r.after?.v), ['-Infinity', 'a\0\u001b', { blob: '00ff', bytes: 2 }, 1.5, null, 9007199254740991, 'Infinity']);
  assert.deepEqual(rows.at(-1)?.key, { id: '9223372036854775807' });
  assert.deepEqual((await p.json('compare', ts, '--table', 't')).document.databases[0].tables[0].rows, JSON.parse(JSON.stringify(rows)));
});

// --- random tables, random edits ---

/** A stream of numbers that a seed repeats. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) % below;
  };
}

const pool = ['NULL', '-1', '0', '1', '2', '3', '1.0', '2.5', '-0.5', "''", "'a'", "'A'", "'a '", "'b'", "'B '", "'é'", "'\u{ff5e}'", "'😀'", "'漢'", "'1'", "x''", "x'00'", "x'ff61'", '9007199254740993', '9007199254740992.0'];

interface Kind { create: string; columns: string[]; key: string[]; fold?: (text: string) => string; notNull?: boolean; integer?: boolean }
const kinds: Record<string, Kind> = {
  integer: { create: '(id INTEGER PRIMARY KEY, v, w)', columns: ['id', 'v', 'w'], key: ['id'], integer: true },
  any: { create: '(k PRIMARY KEY, v)', columns: ['k', 'v'], key: ['k'] },
  text: { create: '(k TEXT PRIMARY KEY, v)', columns: ['k', 'v'], key: ['k'] },
  descending: { create: '(v, id INTEGER PRIMARY KEY DESC)', columns: ['v', 'id'], key: ['id'], integer: true },
  composite: { create: '(v, b, a, PRIMARY KEY (a, b))', columns: ['v', 'b', 'a'], key: ['a', 'b'] },
  without: { create: '(a, b, v, PRIMARY KEY (b DESC, a)) WITHOUT ROWID', columns: ['a', 'b', 'v'], key: ['b', 'a'], notNull: true },
  nocase: { create: '(k TEXT COLLATE NOCASE PRIMARY KEY, v)', columns: ['k', 'v'], key: ['k'], fold: (s) => s.replaceAll(/[A-Z]/g, (c) => c.toLowerCase()) },
  rtrim: { create: '(k TEXT COLLATE RTRIM, v, PRIMARY KEY (k)) WITHOUT ROWID', columns: ['k', 'v'], key: ['k'], fold: (s) => s.replace(/ +$/, ''), notNull: true },
  real: { create: '(k REAL PRIMARY KEY, v)', columns: ['k', 'v'], key: ['k'] },
  indexed: { create: '(v, w UNIQUE)', columns: ['v', 'w'], key: ['rowid'] },
  bare: { create: '(v, w)', columns: ['v', 'w'], key: ['rowid'] },
};

type Value = null | bigint | number | string | Buffer;
const exact = (v: Value): string => (v === null ? 'null' : Buffer.isBuffer(v) ? `b${v.toString('hex')}` : `${typeof v} ${v}`);
/** As a key: numbers that are equal are one; doubles are exact, and so are the integers of the pool. */
const folded = (v: Value, fold?: (s: string) => string): string =>
  typeof v === 'number' && Number.isInteger(v) ? exact(BigInt(v)) : typeof v === 'string' && fold ? exact(fold(v)) : exact(v);

interface Side { keyed: Map<string, string>; bag: Map<string, number> }
/** A table in memory: rows by key, and how often each content is there among those without one. */
function load(file: string, table: string, kind: Kind): Side {
  const side: Side = { keyed: new Map(), bag: new Map() };
  withDatabase(file, (db) => {
    const select = kind.key[0] === 'rowid' ? ['rowid', ...kind.columns] : kind.columns;
    for (const row of db.prepare(`SELECT ${select.join(', ')} FROM ${table}`).safeIntegers().iterate() as Iterable<Record<string, Value>>) {
      const content = kind.columns.map((c) => exact(row[c]!)).join('|');
      if (kind.key.some((k) => row[k] === null)) side.bag.set(content, (side.bag.get(content) ?? 0) + 1);
      else side.keyed.set(kind.key.map((k) => folded(row[k]!, kind.fold)).join('|'), content);
    }
  });
  return side;
}

function bagDifference(then: Map<string, number>, now: Map<string, number>): Counts {
  const result: Counts = [0, 0, 0];
  for (const content of new Set([...then.keys(), ...now.keys()])) {
    const n = (now.get(content) ?? 0) - (then.get(content) ?? 0);
    if (n > 0) result[0] += n;
    else result[1] -= n;
  }
  return result;
}

const bagOf = (side: Side): Map<string, number> => {
  const bag = new Map(side.bag);
  for (const content of side.keyed.values()) bag.set(content, (bag.get(content) ?? 0) + 1);
  return bag;
};

/** What a diff in memory says. */
function naive(then: Side, now: Side, name: string): Counts {
  const [added, removed] = bagDifference(then.bag, now.bag);
  const result: Counts = [added, removed, 0];
  for (const [key, content] of now.keyed) {
    const before = then.keyed.get(key);
    if (before === undefined) result[0]++;
    else if (before !== content) result[2]++;
  }
  for (const key of then.keyed.keys()) if (!now.keyed.has(key)) result[1]++;
  // Rowids that no index holds may have moved: then the content tells more.
  const byContent = bagDifference(bagOf(then), bagOf(now));
  return name === 'bare' && byContent[0] + byContent[1] < result[0] + result[1] + 2 * result[2] ? byContent : result;
}

function edit(db: Database.Database, next: (below: number) => number, steps: number): void {
  const value = (): string => pool[next(pool.length)]!;
  for (let i = 0; i < steps; i++) {
    const name = Object.keys(kinds)[next(Object.keys(kinds).length)]!;
    const { columns, key, integer, notNull } = kinds[name]!;
    const values = columns.map((c) => (integer && c === 'id' ? String(next(60)) : notNull && key.includes(c) ? value().replace('NULL', "'n'") : value()));
    const column = next(columns.length);
    const where = integer ? `id = ${next(60)}` : `${columns[next(columns.length)]} IS ${value()}`;
    const sql = [`INSERT OR REPLACE INTO ${name}(${columns.join(', ')}) VALUES (${values.join(', ')})`, `UPDATE OR IGNORE ${name} SET ${columns[column]} = ${values[column]} WHERE ${where}`, `DELETE FROM ${name} WHERE ${where}`][[0, 0, 0, 0, 1, 1, 2][next(7)]!]!;
    db.exec(sql);
  }
}

for (const encoding of ['UTF-8', 'UTF-16le', 'UTF-16be']) {
  for (const journal of ['wal', 'delete']) {
    test(`random tables and edits: the counts are those of a diff in memory (${encoding}, ${journal})`, { timeout: 600_000 }, async (t) => {
      for (let round = 0; round < 6; round++) {
        const seed = 1000 * round + encoding.length + journal.length;
        const next = random(seed);
        const p = project(t, `p${round}`);
        withDatabase(p.at('a.db'), (db) => {
          db.pragma(`encoding = '${encoding}'`);
          db.pragma('page_size = 512');
          db.pragma(`journal_mode = ${journal}`);
          for (const [name, { create }] of Object.entries(kinds)) db.exec(`CREATE TABLE ${name}${create}`);
          db.transaction(() => edit(db, next, 900))();
        });
        const made = await backup.createBackup({ root: p.root, compress: false });
        assert.equal(made.success, true, made.error);
        withDatabase(p.at('a.db'), (db) => {
          db.transaction(() => edit(db, next, [1, 20, 400][next(3)]!))();
          if (next(2) === 0) db.exec('VACUUM');
        });
        const tables = await tablesOf(p, made.timestamp);
        const copy = copyOf(p.backups, made.timestamp, 'a.db');
        for (const [name, kind] of Object.entries(kinds)) {
          const [then, now] = [load(copy, name, kind), load(p.at('a.db'), name, kind)];
          const wanted = naive(then, now, name);
          const found = tables[name];
          if (wanted.every((n) => n === 0)) assert.equal(found, undefined, `seed ${seed}, ${name}: ${JSON.stringify(found)}`);
          else assert.deepEqual(counts(found), wanted, `seed ${seed}, ${name}: ${JSON.stringify(found)}`);
          const { rows, rowsTruncated } = (await tablesOf(p, made.timestamp, { table: name, limit: 10_000 }))[name]!;
          const changes = ['added', 'removed', 'changed'].map((c) => rows!.filter((r) => r.change === c).length);
          assert.deepEqual([changes, rowsTruncated], [wanted, false], `seed ${seed}, rows of ${name}`);
        }
      }
    });
  }
}

test('limit cuts the rows, and says so', async (t) => {
  const p = project(t);
  makeDatabase(p.at('a.db'), { rows: 50 });
  const made = await backup.createBackup({ root: p.root, compress: false });
  withDatabase(p.at('a.db'), (db) => db.exec('DELETE FROM episodes'));
  const shown = async (limit?: number): Promise<unknown[]> => {
    const { episodes } = await tablesOf(p, made.timestamp, { table: 'episodes', ...(limit === undefined ? {} : { limit }) });
    return [episodes!.rows!.length, episodes!.rowsTruncated, episodes!.removed];
  };
  assert.deepEqual([await shown(), await shown(1), await shown(49), await shown(50), await shown(10_000)], [[20, true, 50], [1, true, 50], [49, true, 50], [50, false, 50], [50, false, 50]]);
});
