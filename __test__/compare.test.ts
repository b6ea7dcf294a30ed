// compareBackup: what differs between a set and the project, seen through SQLite, beside programs that go on writing.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import { addRows, bin, cleanEnv, companion, copyOf, exec, finished, flip, holder, makeDatabase, parseOne, project, runScript, sleep, tempFolder, tree, withDatabase, type Context, type Project } from './helpers/project';
import { slowly } from './helpers/syscalls';

for (const journal of ['delete', 'wal'] as const) {
  test(`a project just backed up is identical (${journal})`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { journal });
    makeDatabase(p.at('.agentic-qe/memory.db'), { journal });
    const made = await backup.createBackup({ root: p.root });
    const c = await backup.compareBackup(made.timestamp, { root: p.root });
    assert.equal(c.timestamp, made.timestamp);
    assert.equal(c.identical, true);
    assert.deepEqual(c.databases.map((d) => [d.source, d.difference, d.pagesDifferent, d.tables, d.schema]), [['.agentic-qe/memory.db', 'identical', 0, [], []], ['agentdb.db', 'identical', 0, [], []]]);
    assert.equal(c.databases[1]!.pagesTotal, fs.statSync(made.files.find((f) => f.includes('agentdb'))!).size / 4096);
  });

  test(`rows and schema objects that differ are named, and pages counted (${journal})`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { journal, rows: 30 });
    const made = await backup.createBackup({ root: p.root });
    withDatabase(p.at('agentdb.db'), (db) => {
      addRows(db, 100, 12);
      db.exec('DROP INDEX by_task; CREATE TABLE newer(x); INSERT INTO newer VALUES (1), (2)');
    });
    const c = await backup.compareBackup(made.timestamp, { root: p.root });
    assert.equal(c.identical, false);
    const [d] = c.databases;
    assert.equal(d?.difference, 'different');
    assert.ok(d.pagesDifferent > 0 && d.pagesDifferent <= d.pagesTotal);
    const tables = Object.fromEntries(d.tables.map((x) => [x.table, [x.backupRows ?? null, x.liveRows ?? null]]));
    assert.deepEqual(tables, { episodes: [30, 42], patterns: [30, 42], newer: [null, 2] });
    assert.deepEqual(d.schema.map((s) => ({ ...s })), [{ type: 'index', name: 'by_task', change: 'removed' }, { type: 'table', name: 'newer', change: 'added' }]);
    assert.equal(d.sameContent, false);
  });
}

test('after a restore the project is identical to the set again', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes; CREATE TABLE x(y)'));
  assert.equal((await backup.compareBackup(made.timestamp, { root: p.root })).identical, false);
  await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal((await backup.compareBackup(made.timestamp, { root: p.root })).identical, true);
});

test('a commit that is only in the -wal is seen', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { journal: 'wal', rows: 10 });
  const made = await backup.createBackup({ root: p.root });
  const app = new Database(p.at('agentdb.db'));
  t.after(() => void app.close());
  addRows(app, 500, 1);
  const c = await backup.compareBackup(made.timestamp, { root: p.root });
  assert.deepEqual([c.identical, c.databases[0]?.difference], [false, 'different']);
  assert.deepEqual(c.databases[0]?.tables.map((x) => [x.table, x.backupRows, x.liveRows]), [['episodes', 10, 11], ['patterns', 10, 11]]);
});

test('a change of one byte in a row is a difference, though no count changes', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec("UPDATE patterns SET content = 'Pattern of 3' WHERE id = 'p3'"));
  const [d] = (await backup.compareBackup(made.timestamp, { root: p.root })).databases;
  assert.deepEqual([d?.difference, d?.tables.map((x) => [x.table, x.added, x.removed, x.changed]), d?.schema], ['different', [['patterns', 0, 0, 1]], []]);
  assert.ok(d!.pagesDifferent >= 1);
});

test('what is missing on either side is told apart', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  makeDatabase(p.at('old.db'));
  const made = await backup.createBackup({ root: p.root });
  fs.rmSync(p.at('old.db'));
  makeDatabase(p.at('.agentic-qe/new.db'));
  const c = await backup.compareBackup(made.timestamp, { root: p.root });
  assert.equal(c.identical, false);
  assert.deepEqual(c.databases.map((d) => [d.source, d.difference]), [['.agentic-qe/new.db', 'missing-there'], ['agentdb.db', 'identical'], ['old.db', 'missing-here']]);
});

test('a plain file is compared by its bytes', async (t) => {
  const p = project(t);
  fs.writeFileSync(p.at('notes.db'), 'some text\n'.repeat(100));
  const made = await backup.createBackup({ root: p.root });
  assert.equal((await backup.compareBackup(made.timestamp, { root: p.root })).identical, true);
  fs.writeFileSync(p.at('notes.db'), 'Some text\n'.repeat(100));
  assert.deepEqual((await backup.compareBackup(made.timestamp, { root: p.root })).databases.map((d) => d.difference), ['different']);
});

test('comparing changes nothing, neither here nor there', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { journal: 'wal' });
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM patterns'));
  const look = (): Record<string, string> => tree(p.root, (n) => /-(wal|shm)$/.test(n) && !n.includes('backups'));
  const before = look();
  await backup.compareBackup(made.timestamp, { root: p.root });
  assert.deepEqual(look(), before);
});

test('a set that is not there is BACKUP_NOT_FOUND, and a locked database DATABASE_BUSY', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  await assert.rejects(backup.compareBackup('20010101-000000', { root: p.root }), { code: 'BACKUP_NOT_FOUND' });
  const made = await backup.createBackup({ root: p.root });
  await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  await assert.rejects(backup.compareBackup(made.timestamp, { root: p.root, busyTimeoutMs: 100 }), (e: { code: string; message: string }) => e.code === 'DATABASE_BUSY' && e.message.includes('agentdb.db'));
});

test('a set of which only the archive is left is compared too', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 10 });
  const made = await backup.createBackup({ root: p.root });
  for (const n of fs.readdirSync(p.backups)) if (n.includes(made.timestamp) && !n.startsWith('databases-backup-')) fs.rmSync(`${p.backups}/${n}`);
  assert.equal((await backup.compareBackup(made.timestamp, { root: p.root })).identical, true);
  withDatabase(p.at('agentdb.db'), (db) => addRows(db, 100, 1));
  assert.equal((await backup.compareBackup(made.timestamp, { root: p.root })).identical, false);
});

test('a changed schema object, a changed version, and nothing else', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { after: 'CREATE VIEW v AS SELECT 1' });
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DROP VIEW v; CREATE VIEW v AS SELECT 2; PRAGMA user_version = 7'));
  const [d] = (await backup.compareBackup(made.timestamp, { root: p.root })).databases;
  assert.deepEqual([d?.tables, d?.schema.map((s) => ({ ...s })), d?.notes, d?.sameContent], [[], [{ type: 'view', name: 'v', change: 'changed' }], ['user_version was 0 and is 7'], false]);
});

/** A project with two ledgers of `rows` rows, of which every commit of `writer` changes both alike. */
async function ledgers(t: Context, journal: string, rows: number): Promise<{ p: Project; ts: string; copy: string }> {
  const p = project(t);
  withDatabase(p.at('a.db'), (db) => {
    db.pragma(`journal_mode = ${journal}`);
    for (const name of ['one', 'two']) db.exec(`CREATE TABLE ${name}(k TEXT PRIMARY KEY, v); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows}) INSERT INTO ${name} SELECT printf('%08x', i * 7919), i FROM n`);
  });
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(made.success, true, made.error);
  return { p, ts: made.timestamp, copy: made.files[0]! };
}

for (const journal of ['wal', 'delete']) {
  test(`a writer in another process goes on, and no comparison sees half of a commit (${journal})`, { timeout: 600_000 }, async (t) => {
    const { p, ts } = await ledgers(t, journal, 60_000);
    const writer = companion(
      t,
      `const db = new Database(args[0], { timeout: 300000 });
       db.pragma('synchronous = OFF');
       const sql = ['one', 'two'].flatMap((t) => ['INSERT INTO ' + t + ' VALUES (?, 0)', 'UPDATE ' + t + ' SET v = -v WHERE v = ?']).map((s) => db.prepare(s));
       const one = db.transaction((n) => { sql[0].run('new ' + n); sql[1].run(n); sql[2].run('new ' + n); sql[3].run(n); });
       let n = 0, on = true;
       process.stdin.on('data', () => { console.log(n); }).on('end', () => { on = false; });
       console.log('writing');
       while (on) { one.immediate(++n); await new Promise((r) => setTimeout(r, 1)); }
       db.close();`,
      [p.at('a.db')],
    );
    assert.equal(await writer.line(), 'writing');
    const commits = async (): Promise<number> => (writer.send('?'), Number(await writer.line()));
    // A round may be over before the writer has got a turn, but not one after the other.
    let wentOn = 0;
    for (let round = 0; wentOn < 5; round++) {
      assert.ok(round < 100, 'the writer stood still');
      const before = await commits();
      const [d] = (await backup.compareBackup(ts, { root: p.root, busyTimeoutMs: 300_000 })).databases;
      const after = await commits();
      const [one, two] = d!.tables;
      assert.deepEqual([one?.table, two?.table], ['one', 'two']);
      assert.deepEqual([one?.added, one?.changed, one?.removed], [two?.added, two?.changed, 0], 'half of a commit was seen');
      assert.equal(one?.added, one?.changed);
      assert.ok(one!.added! >= before && one!.added! <= after, `${one?.added} commits seen, ${before} before, ${after} after`);
      if (after > before) wentOn++;
    }
    const end = await writer.end();
    assert.equal(end.status, 0, end.stderr);
  });
}

test('with a rollback journal the database is free again before rows are compared', { timeout: 600_000 }, async (t) => {
  const { p, ts, copy } = await ledgers(t, 'delete', 50_000);
  withDatabase(p.at('a.db'), (db) => db.exec("UPDATE one SET v = 0 WHERE v = 5"));
  const temporary = tempFolder(t);
  // Once its own copy of the database is whole, the rows are left to be compared, which takes seconds: so slowly is the backup read.
  const [file, ...args] = [...slowly(copy, 2), process.execPath, bin, 'compare', ts, '--json'];
  const child = spawn(file!, args, { cwd: p.root, env: cleanEnv({ TMPDIR: temporary }), stdio: ['ignore', 'pipe', 'pipe'] });
  const end = finished(child);
  const size = fs.statSync(p.at('a.db')).size;
  const copied = (): boolean => fs.readdirSync(temporary, { recursive: true, withFileTypes: true }).some((f) => f.name === 'live' && fs.statSync(path.join(f.parentPath, f.name)).size === size);
  let over = false;
  void end.then(() => (over = true));
  while (!over && !copied()) await sleep(1);
  assert.equal(over, false, 'the copy was never seen');
  let wrote = 0;
  withDatabase(p.at('a.db'), (db) => {
    db.pragma('synchronous = OFF');
    const insert = db.prepare("INSERT INTO two VALUES ('late ' || ?, 0)");
    for (; wrote < 20; wrote++) insert.run(wrote);
  }, { timeout: 60_000 });
  assert.ok(copied(), 'the database was not free before the end');
  const run = await end;
  assert.equal(run.status, 0, run.stderr);
  const tables = parseOne(run).databases[0].tables as { table: string; added: number; changed: number }[];
  assert.deepEqual(tables.map((x) => [x.table, x.added, x.changed]), [['one', 0, 1]], 'what was committed after the pin was seen');
  assert.deepEqual([wrote, fs.readdirSync(temporary)], [20, []]);
});

for (const journal of ['wal', 'delete']) {
  test(`stopped in the middle: AbortError, and nothing is left (${journal})`, { timeout: 600_000 }, async (t) => {
    const { p, ts, copy } = await ledgers(t, journal, 60_000);
    withDatabase(p.at('a.db'), (db) => db.exec('UPDATE one SET v = 0 WHERE v = 5'));
    const temporary = tempFolder(t);
    const r = await runScript<{ reports: number; name: string; code: string }>(
      `const controller = new AbortController();
       let reports = 0, half = 0;
       const found = await outcome(backup.compareBackup(args[1], { root: args[0], signal: controller.signal, onProgress: (x) => {
         reports++;
         if (x.bytesTotal > 0 && x.bytesDone > x.bytesTotal * 0.55) controller.abort();
       } }));
       console.log(JSON.stringify({ reports, ...found }));`,
      [p.root, ts],
      { env: cleanEnv({ TMPDIR: temporary }), under: slowly(copy, 1) },
    );
    assert.deepEqual([r.name, r.code], ['AbortError', 'ABORT_ERR'], JSON.stringify(r));
    assert.deepEqual(fs.readdirSync(temporary), []);
    assert.deepEqual(fs.readdirSync(p.root).filter((n) => n !== '.agentic-qe'), ['a.db']);
  });
}

test('Ctrl-C in the middle of the command: exit 130, and nothing is left', { timeout: 600_000 }, async (t) => {
  const { p, ts, copy } = await ledgers(t, 'delete', 60_000);
  withDatabase(p.at('a.db'), (db) => db.exec('UPDATE one SET v = 0 WHERE v = 5'));
  const temporary = tempFolder(t);
  const [file, ...args] = [...slowly(copy, 1), process.execPath, bin, 'compare', ts];
  const child = spawn(file!, args, { cwd: p.root, env: cleanEnv({ TMPDIR: temporary }), stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  t.after(() => void child.kill('SIGKILL'));
  const end = finished(child);
  let over = false;
  void end.then(() => (over = true));
  const begun = (): boolean => fs.readdirSync(temporary, { recursive: true }).some((f) => path.basename(String(f)) === 'live');
  while (!over && !begun()) await sleep(1);
  assert.equal(over, false, 'it ended before it was in the middle');
  // As a terminal does: to all of the group, of which strace takes no notice.
  process.kill(-child.pid!, 'SIGINT');
  const run = await end;
  assert.equal(run.status, 130, `${run.signal} ${run.stdout} ${run.stderr}`);
  assert.deepEqual(fs.readdirSync(temporary), []);
});

test('progress grows to the end, and the last report is of everything', async (t) => {
  const { p, ts } = await ledgers(t, 'wal', 30_000);
  withDatabase(p.at('a.db'), (db) => db.exec('DELETE FROM one WHERE v < 100'));
  const seen: Parameters<NonNullable<backup.CallOptions['onProgress']>>[0][] = [];
  await backup.compareBackup(ts, { root: p.root, onProgress: (x) => void seen.push(x) });
  for (const x of seen) assert.ok(x.bytesTotal === 0 || x.bytesDone <= x.bytesTotal, JSON.stringify(x));
  const last = seen.at(-1)!;
  assert.deepEqual([last.phase, last.bytesDone], ['done', last.bytesTotal]);
});

for (const [what, schema, insert] of [
  ['by rowid', 'id INTEGER PRIMARY KEY, v TEXT', "i, 'value ' || i"],
  ['by text', 'k TEXT PRIMARY KEY, v', 'hex(randomblob(8)), i'],
  ['sorted, for want of a key', 'v, w', "'value ' || i, i"],
] as const) {
  test(`a million rows take no memory to speak of (${what})`, { timeout: 1_800_000 }, async (t) => {
    const p = project(t);
    withDatabase(p.at('a.db'), (db) => {
      db.pragma('journal_mode = wal');
      db.exec(`CREATE TABLE t(${schema}); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) INSERT INTO t SELECT ${insert} FROM n`);
    });
    const made = await backup.createBackup({ root: p.root, compress: false });
    withDatabase(p.at('a.db'), (db) => db.exec('DELETE FROM t WHERE rowid <= 3; VACUUM'));
    const peak = async (...args: string[]): Promise<{ document: Record<string, any>; megabytes: number }> => {
      const measure = path.join(tempFolder(t), 'measure.cjs');
      fs.writeFileSync(measure, "process.on('exit', () => require('node:fs').writeSync(2, 'peak ' + process.resourceUsage().maxRSS + '\\n'));");
      const run = await exec(process.execPath, ['--require', measure, bin, ...args, '--json'], { cwd: p.root });
      const kilobytes = /peak (\d+)/.exec(run.stderr)?.[1];
      assert.ok(run.status === 0 && kilobytes, run.stderr);
      return { document: parseOne(run), megabytes: Number(kilobytes) / 1024 };
    };
    const idle = await peak('list');
    const { document, megabytes } = await peak('compare', made.timestamp);
    const [table] = document.databases[0].tables;
    assert.deepEqual([table.backupRows, table.liveRows, table.added, table.removed, table.changed], [1_000_000, 999_997, 0, 3, 0]);
    // Both sides together hold two million rows: some 100 bytes each in memory, were they kept.
    assert.ok(megabytes - idle.megabytes < 110, `${megabytes} MB, of which ${idle.megabytes} before anything is compared`);
  });
}

test('a damaged copy: no verdict, but its code; with a good archive, that is compared and the result says so', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 300 });
  const plain = await backup.createBackup({ root: p.root, compress: false });
  const archived = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec("UPDATE patterns SET content = 'x' WHERE id = 'p7'"));
  for (const ts of [plain.timestamp, archived.timestamp]) flip(copyOf(p.backups, ts, 'agentdb.db'), 3 * 4096 + 2000);
  await assert.rejects(backup.compareBackup(plain.timestamp, { root: p.root }), { code: 'CHECKSUM_MISMATCH' });
  assert.equal((await p.run('compare', plain.timestamp)).status, 4);
  const c = await backup.compareBackup(archived.timestamp, { root: p.root });
  assert.deepEqual(c.databases[0]!.tables.map((x) => [x.table, x.added, x.removed, x.changed]), [['patterns', 0, 0, 1]]);
  assert.match(c.warnings.join(), /archive/);
});

for (const journal of ['wal', 'delete'] as const) {
  test(`a damaged live database: SOURCE_DAMAGED, exit 4 (${journal})`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { rows: 600, journal });
    const made = await backup.createBackup({ root: p.root, compress: false });
    const root = withDatabase(p.at('agentdb.db'), (db) => db.prepare("SELECT rootpage FROM sqlite_master WHERE name = 'episodes'").pluck().get() as number);
    const fd = fs.openSync(p.at('agentdb.db'), 'r+');
    fs.writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, (root - 1) * 4096);
    fs.closeSync(fd);
    await assert.rejects(backup.compareBackup(made.timestamp, { root: p.root }), (e: { code: string; message: string }) => e.code === 'SOURCE_DAMAGED' && e.message.includes('agentdb.db'));
    assert.equal((await p.run('compare', made.timestamp)).status, 4);
  });
}

test('an index that has lost rows is damage, not rows that were removed', async (t) => {
  const p = project(t);
  withDatabase(p.at('a.db'), (db) => db.exec("CREATE TABLE t(k TEXT PRIMARY KEY, v); CREATE TABLE u(k TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1), ('b', 2), ('c', 3); INSERT INTO u VALUES ('a', 1), ('b', 2)"));
  const made = await backup.createBackup({ root: p.root, compress: false });
  withDatabase(p.at('a.db'), (db) => {
    db.unsafeMode();
    const page = (name: string): number => db.prepare('SELECT rootpage FROM sqlite_schema WHERE name = ?').pluck().get(name) as number;
    // The index of u has the first two rows of t, and nothing else is wrong with either.
    db.exec(`PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = ${page('sqlite_autoindex_u_1')} WHERE name = 'sqlite_autoindex_t_1'`);
  });
  await assert.rejects(backup.compareBackup(made.timestamp, { root: p.root }), (e: { code: string; message: string }) => e.code === 'SOURCE_DAMAGED' && /"t" leads to 2 rows of 3/.test(e.message));
});

test('no room for the copy that a rollback journal needs: exit 13, and nothing is left', async (t) => {
  const { p, ts } = await ledgers(t, 'delete', 20_000);
  withDatabase(p.at('a.db'), (db) => db.exec('DELETE FROM one'));
  const temporary = tempFolder(t);
  const run = await exec('prlimit', ['--fsize=100000', process.execPath, bin, 'compare', ts, '--json'], { cwd: p.root, env: cleanEnv({ TMPDIR: temporary }) });
  assert.deepEqual([run.status, parseOne(run).code], [13, 'NO_SPACE'], run.stderr);
  assert.deepEqual(fs.readdirSync(temporary), []);
});

test('a table that was asked for: it alone, in every database that has it, whether it differs or not', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  makeDatabase(p.at('.agentic-qe/memory.db'));
  withDatabase(p.at('other.db'), (db) => db.exec('CREATE TABLE elsewhere(x)'));
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec("DELETE FROM episodes; UPDATE patterns SET content = 'x' WHERE id = 'p1'; INSERT INTO patterns VALUES ('q', NULL)"));
  const c = await backup.compareBackup(made.timestamp, { root: p.root, table: 'PATTERNS', limit: 5 });
  const found = c.databases.map((d) => [d.source, d.sameContent, d.tables.map((x) => [x.table, x.backupRows, x.added, x.removed, x.changed, x.rows, x.rowsTruncated])]);
  assert.deepEqual(found, [
    ['.agentic-qe/memory.db', true, [['patterns', 50, 0, 0, 0, [], false]]],
    ['agentdb.db', null, [['patterns', 50, 1, 0, 1, [
      { change: 'changed', key: { id: 'p1' }, before: { content: 'pattern of 1' }, after: { content: 'x' } },
      { change: 'added', key: { id: 'q' }, before: null, after: { id: 'q', content: null } },
    ], false]]],
    ['other.db', true, []],
  ]);
  const all = await backup.compareBackup(made.timestamp, { root: p.root });
  assert.ok(all.databases.every((d) => d.tables.every((x) => x.rows === undefined && x.rowsTruncated === undefined)));
});

test('a table that no database has: ERR_INVALID_ARG_VALUE with the nearest names; one that only a missing database has is known', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  withDatabase(p.at('old.db'), (db) => db.exec('CREATE TABLE only_then(x)'));
  const made = await backup.createBackup({ root: p.root });
  fs.rmSync(p.at('old.db'));
  withDatabase(p.at('new.db'), (db) => db.exec('CREATE TABLE only_now(x)'));
  await assert.rejects(backup.compareBackup(made.timestamp, { root: p.root, table: 'episode' }), (e: { code: string; message: string }) => e.code === 'ERR_INVALID_ARG_VALUE' && /"episode".*nearest: "episodes"/.test(e.message));
  const run = await p.run('compare', made.timestamp, '--table', 'patern');
  assert.equal(run.status, 2);
  assert.match(run.stderr, /nearest: "patterns"/);
  for (const table of ['only_then', 'only_now']) assert.deepEqual((await backup.compareBackup(made.timestamp, { root: p.root, table })).databases.map((d) => d.tables), [[], [], []]);
});

test('table and limit that cannot be meant', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const { timestamp } = await backup.createBackup({ root: p.root });
  const wrong: [Record<string, unknown>, string][] = [
    [{ table: 5 }, 'ERR_INVALID_ARG_TYPE'], [{ table: 'patterns', limit: '5' }, 'ERR_INVALID_ARG_TYPE'], [{ limit: 5 }, 'ERR_INVALID_ARG_VALUE'], [{ rows: 5 }, 'ERR_INVALID_ARG_VALUE'],
    ...[0, 10_001, 1.5, Number.NaN, -1].map((limit): [Record<string, unknown>, string] => [{ table: 'patterns', limit }, 'ERR_INVALID_ARG_VALUE']),
  ];
  for (const [options, code] of wrong) await assert.rejects(backup.compareBackup(timestamp, { root: p.root, ...options } as backup.CompareBackupOptions), { code }, JSON.stringify(options));
  for (const args of [['--limit', '5'], ['--table', 'patterns', '--limit', '0'], ['--table', 'patterns', '--limit', '10001'], ['--table']]) assert.equal((await p.run('compare', timestamp, ...args)).status, 2, args.join(' '));
});

test('the command shows tables and rows in 80 columns, and nothing from the data that a terminal would obey', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => {
    db.exec("DELETE FROM episodes WHERE id = 3; UPDATE patterns SET content = 'a' || char(27) || '[31m' || char(10, 8238) || printf('%.500c', 'x') WHERE id = 'p1'; UPDATE patterns SET content = 'pattern of ' || printf('%.200c', 'y') WHERE id = 'p2'");
    db.exec(`CREATE TABLE "evil\u001b[2Jname"(x); INSERT INTO "evil\u001b[2Jname" VALUES (1)`);
  });
  const run = await p.run('compare', made.timestamp);
  assert.match(run.stdout, /TABLE +ROWS THEN +ROWS NOW +\+ADDED +-REMOVED +~CHANGED/);
  assert.match(run.stdout, /episodes +50 +49 +0 +1 +0 +-+/);
  assert.match(run.stdout, /patterns +50 +50 +0 +0 +2 +~+/);
  assert.match(run.stdout, /evil\\u\{1b\}\[2Jname/);
  const rows = await p.run('compare', made.timestamp, '--table', 'patterns');
  assert.match(rows.stdout, /~ id 'p1'/);
  assert.match(rows.stdout, /'pattern of 1' → 'a\\u\{1b\}\[31m\\n\\u\{202e\}x+…'/);
  const removed = await p.run('compare', made.timestamp, '--table', 'episodes');
  assert.match(removed.stdout, /- id 3 +task 'task 3', embedding x'[0-9a-f]{16}…' \(400 bytes\)/);
  for (const { stdout } of [run, rows, removed]) {
    assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    for (const line of stdout.split('\n')) assert.ok([...line].length <= 80, line);
  }
});
