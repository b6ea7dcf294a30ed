// What restoreBackup does to live, missing, damaged, busy and differing targets, and what it refuses.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import {
  addRows, assertNoLeftovers, assertRestored, companion, contents, copyOf, count, craftSet, daysAgo, dump, editMetadata, exec, flip, holder, isRoot, makeDatabase, metadataPath, nobody, project, readMetadata, runScript, sets, sha256, sleep, tempFolder,
  tree, withDatabase, type Project,
} from './helpers/project';

/** A project with two databases, a set of both, and changes since. */
async function changed(t: Parameters<typeof project>[0], options: { journal?: 'wal' | 'delete'; compress?: boolean } = {}): Promise<{ p: Project; ts: string; then: string[]; now: string[] }> {
  const { journal = 'delete', compress = false } = options;
  const p = project(t);
  const both = ['.agentic-qe/memory.db', 'agentdb.db'];
  for (const s of both) makeDatabase(p.at(s), { journal, rows: 120 });
  const then = both.map((s) => contents(p.at(s)));
  const made = await backup.createBackup({ root: p.root, compress });
  assert.equal(made.success, true, made.error);
  for (const s of both) withDatabase(p.at(s), (db) => (db.exec('DELETE FROM episodes WHERE id < 30'), addRows(db, 900, 40)));
  return { p, ts: made.timestamp, then, now: both.map((s) => contents(p.at(s))) };
}

const live = (p: Project): string[] => ['.agentic-qe/memory.db', 'agentdb.db'].map((s) => contents(p.at(s)));

test('a timestamp that no set has is BACKUP_NOT_FOUND, in a result that names it', async (t) => {
  const { p, now } = await changed(t);
  const before = sets(p.backups);
  const r = await backup.restoreBackup('20010101-000000', { root: p.root, force: true });
  assert.deepEqual([r.success, r.code, r.filesRestored], [false, 'BACKUP_NOT_FOUND', 0]);
  assert.match(r.error ?? '', /20010101-000000/);
  assert.deepEqual(live(p), now);
  assert.deepEqual(sets(p.backups), before);
});

test('each database is told apart: updated with the pages that changed, created, or unchanged', async (t) => {
  const p = project(t);
  for (const s of ['a.db', 'b.db', 'c.db']) makeDatabase(p.at(s), { rows: 2000 });
  const made = await backup.createBackup({ root: p.root, compress: false });
  withDatabase(p.at('a.db'), (db) => db.exec("UPDATE patterns SET content = 'x' WHERE id = 'p7'"));
  fs.rmSync(p.at('b.db'));
  const r = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.deepEqual(r.databases.map((d) => [d.source, d.action]), [['a.db', 'updated'], ['b.db', 'created'], ['c.db', 'unchanged']]);
  const pages = fs.statSync(p.at('a.db')).size / 4096;
  const [a, , c] = r.databases;
  assert.ok(a!.pagesWritten >= 1 && a!.pagesWritten < pages / 2, `${a!.pagesWritten} of ${pages} pages were written for one row`);
  assert.equal(c!.pagesWritten, 0);
  assert.equal(typeof r.durationMs, 'number');
  assert.deepEqual(r.warnings, []);
});

test('databases that the set lacks are left alone', async (t) => {
  const { p, ts } = await changed(t);
  makeDatabase(p.at('newer.db'), { rows: 9 });
  const before = sha256(p.at('newer.db'));
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.equal(sha256(p.at('newer.db')), before);
});

for (const journal of ['delete', 'wal'] as const) {
  test(`the journal mode of a live database stays as it is now (${journal} now)`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { journal: journal === 'wal' ? 'delete' : 'wal' });
    const made = await backup.createBackup({ root: p.root });
    withDatabase(p.at('agentdb.db'), (db) => (db.pragma(`journal_mode = ${journal}`), db.exec('DELETE FROM episodes')));
    const r = await backup.restoreBackup(made.timestamp, { root: p.root });
    assert.equal(r.success, true, r.error);
    assert.equal(withDatabase(p.at('agentdb.db'), (db) => db.pragma('journal_mode', { simple: true })), journal);
    assertRestored(p.at('agentdb.db'), made.files[0]!);
  });

  test(`a target that another connection writes to is DATABASE_BUSY, and no target is changed (${journal})`, async (t) => {
    const { p, ts, now } = await changed(t, { journal });
    const other = await holder(t, p.at('agentdb.db'), 'BEGIN IMMEDIATE');
    const before = sets(p.backups);
    const r = await backup.restoreBackup(ts, { root: p.root, busyTimeoutMs: 150, force: true });
    assert.deepEqual([r.success, r.code, r.filesRestored], [false, 'DATABASE_BUSY', 0]);
    assert.match(r.error ?? '', /agentdb\.db/);
    await other.end();
    assert.deepEqual(live(p), now);
    assert.deepEqual(sets(p.backups), before, 'the failed restore left files');
    assert.equal((await backup.restoreBackup(ts, { root: p.root })).success, true);
  });

  test(`an application that has cached the schema is told that it changed, and damages nothing (${journal})`, async (t) => {
    const p = project(t);
    const file = p.at('agentdb.db');
    const make = (sql: string): unknown => withDatabase(file, (db) => (db.pragma(`journal_mode = ${journal}`), db.exec(sql), db.pragma('schema_version', { simple: true })));
    const cookie = make('CREATE TABLE a(x); CREATE TABLE keep(x); INSERT INTO a VALUES (1); INSERT INTO keep VALUES (1)');
    const made = await backup.createBackup({ root: p.root });
    fs.rmSync(file);
    // Another schema under the same cookie: only the cookie tells a connection that what it has cached is stale.
    assert.equal(make('CREATE TABLE b(x, y, z); CREATE TABLE c(x)'), cookie);
    const app = new Database(file);
    t.after(() => void app.close());
    const insert = app.prepare('INSERT INTO b VALUES (1, 2, 3)');
    insert.run();
    const r = await backup.restoreBackup(made.timestamp, { root: p.root });
    assert.equal(r.success, true, r.error);
    assert.throws(() => insert.run(), /no such table: b/);
    assert.deepEqual(app.prepare('SELECT x FROM a').pluck().all(), [1]);
    assert.deepEqual(app.prepare('SELECT x FROM keep').pluck().all(), [1]);
    dump(app);
  });
}

test('a reader in WAL mode goes on with its snapshot through a restore, and then sees the restored data', async (t) => {
  const { p, ts, then } = await changed(t, { journal: 'wal' });
  const reader = new Database(p.at('agentdb.db'), { readonly: true });
  t.after(() => void reader.close());
  reader.exec('BEGIN');
  const rows = reader.prepare('SELECT count(*) FROM episodes').pluck();
  const before = rows.get();
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.equal(rows.get(), before);
  reader.exec('COMMIT');
  assert.equal(rows.get(), 120);
  assert.equal(dump(reader), then[1]);
});

test('a reader in rollback mode is waited for, then it is DATABASE_BUSY with nothing changed', async (t) => {
  const { p, ts, now, then } = await changed(t);
  const other = await holder(t, p.at('agentdb.db'), 'BEGIN; SELECT count(*) FROM episodes');
  const r = await backup.restoreBackup(ts, { root: p.root, busyTimeoutMs: 150 });
  assert.equal(r.success, false);
  assert.ok(r.code === 'DATABASE_BUSY' || r.code === 'RESTORE_ROLLED_BACK', r.code);
  assert.match(r.error ?? '', /agentdb\.db/);
  const waiting = backup.restoreBackup(ts, { root: p.root, busyTimeoutMs: 60_000 });
  await sleep(300);
  await other.end();
  const s = await waiting;
  assert.equal(s.success, true, s.error);
  assert.deepEqual(live(p), then);
  const undone = await backup.restoreBackup(s.safetyBackup!, { root: p.root });
  assert.equal(undone.success, true, undone.error);
  assert.deepEqual(live(p), now);
});

test('a damaged copy is CHECKSUM_MISMATCH: nothing changes, and force is no way round it', async (t) => {
  const { p, ts, now } = await changed(t);
  flip(copyOf(p.backups, ts, 'agentdb.db'), 9000);
  const before = sets(p.backups);
  for (const force of [false, true]) {
    const r = await backup.restoreBackup(ts, { root: p.root, force });
    assert.deepEqual([r.success, r.code], [false, 'CHECKSUM_MISMATCH'], r.error);
    assert.match(r.error ?? '', /agentdb\.db\.backup\./);
  }
  assert.deepEqual(live(p), now);
  assert.deepEqual(sets(p.backups), before);
});

test('verify: false restores a copy whose hash is wrong', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 0, after: "INSERT INTO patterns VALUES ('p', 'needle in the page')" });
  const made = await backup.createBackup({ root: p.root, compress: false });
  const at = fs.readFileSync(made.files[0]!).indexOf('needle');
  assert.ok(at > 0);
  flip(made.files[0]!, at);
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM patterns'));
  const r = await backup.restoreBackup(made.timestamp, { root: p.root, verify: false });
  assert.equal(r.success, true, r.error);
  assert.equal(withDatabase(p.at('agentdb.db'), (db) => db.prepare('SELECT content FROM patterns').pluck().get()), '.eedle in the page');
});

test('a truncated copy is never restored', async (t) => {
  const { p, ts, now } = await changed(t);
  const copy = copyOf(p.backups, ts, 'agentdb.db');
  fs.truncateSync(copy, fs.statSync(copy).size - 4096);
  const r = await backup.restoreBackup(ts, { root: p.root, force: true });
  assert.equal(r.success, false);
  assert.ok(['CHECKSUM_MISMATCH', 'BACKUP_DAMAGED'].includes(r.code ?? ''), r.code);
  assert.deepEqual(live(p), now);
});

for (const [what, spoil] of [
  ['gone', (f: string) => fs.rmSync(f)],
  ['damaged', (f: string) => flip(f, 9000)],
  ['truncated', (f: string) => fs.truncateSync(f, 100)],
] as const) {
  test(`when a raw copy is ${what}, the archive stands in for it`, async (t) => {
    const { p, ts, then } = await changed(t, { compress: true });
    spoil(copyOf(p.backups, ts, 'agentdb.db'));
    const r = await backup.restoreBackup(ts, { root: p.root });
    assert.equal(r.success, true, r.error);
    assert.deepEqual(live(p), then);
    assertNoLeftovers(p.backups);
  });
}

test('a set of which only the archive is left is restored from it', async (t) => {
  const { p, ts, then } = await changed(t, { compress: true });
  for (const name of fs.readdirSync(p.backups)) if (name.includes(ts) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(p.backups, name));
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.deepEqual(live(p), then);
  assertNoLeftovers(p.backups);
});

for (const way of ['through its set', 'with --archive'] as const) {
  test(`an archive without its .sha256, restored ${way}, comes with a warning of its own that says what is proven and what is not`, async (t) => {
    const { p, ts, then, now } = await changed(t, { compress: true });
    const archive = path.join(p.backups, `databases-backup-${ts}.tar.gz`);
    for (const name of fs.readdirSync(p.backups)) if (name.includes(ts) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(p.backups, name));
    const restore = (): Promise<{ success: boolean; warnings: string[]; safetyBackup?: string }> =>
      way === 'through its set' ? backup.restoreBackup(ts, { root: p.root }) : p.json('restore', '--archive', archive, '--force').then((r) => r.document as never);
    const whole = await restore();
    assert.deepEqual([whole.success, whole.warnings, live(p)], [true, [], then]);

    assert.equal((await backup.restoreBackup(whole.safetyBackup!, { root: p.root })).success, true);
    assert.deepEqual(live(p), now);
    fs.rmSync(`${archive}.sha256`);
    const bare = await restore();
    assert.deepEqual([bare.success, live(p), bare.warnings.length], [true, then, 1], bare.warnings.join('\n'));
    const [warning] = bare.warnings as [string];
    assert.ok(warning.startsWith(`${archive} has no checksum file (.sha256)`), warning);
    assert.match(warning, /its copies agree with the checksums inside it/);
    assert.match(warning, /nothing outside it says that it is the archive that was made/);
    const { ok, files } = await backup.inspectBackup(ts, { root: p.root });
    assert.deepEqual([ok, files.map((f) => [f.file, f.ok])], [false, [[path.basename(archive), false]]]);

    const unasked = await backup.restoreBackup(ts, { root: p.root, verify: false });
    assert.deepEqual([unasked.success, unasked.warnings], [true, []], 'nothing was to be checked, so there is nothing to say of it');
    assertNoLeftovers(p.backups);
  });
}

test('an archive without its .sha256 that stands in for a damaged copy says both', async (t) => {
  const { p, ts, then } = await changed(t, { compress: true });
  fs.rmSync(path.join(p.backups, `databases-backup-${ts}.tar.gz.sha256`));
  flip(copyOf(p.backups, ts, 'agentdb.db'), 9000);
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.deepEqual([r.success, live(p)], [true, then], r.error);
  for (const said of [/\.tar\.gz has no checksum file \(\.sha256\)/, /taken from the archive, because: agentdb\.db\.backup/]) assert.equal(r.warnings.filter((w) => said.test(w)).length, 1, r.warnings.join('\n'));
});

test('an archive without any checksum, inside or beside it, needs force, and is not said to be proven by what is in it', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const then = contents(p.at('agentdb.db'));
  const ts = await craftSet(p, daysAgo(1), { legacy: true });
  const archive = path.join(tempFolder(t), `databases-backup-${ts}.tar.gz`);
  assert.equal((await exec('tar', ['-czf', archive, '--', `agentdb.db.backup.${ts}`], { cwd: p.backups })).status, 0);
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const { status, stdout, stderr } = await p.run('restore', '--archive', archive, '--force');
  assert.equal(status, 0, stderr);
  assert.equal(contents(p.at('agentdb.db')), then);
  assert.match(stdout, /Warning: agentdb\.db\.backup\.\S+ has no checksum file/);
  assert.match(stdout, /Warning: \S+\.tar\.gz has no checksum file \(\.sha256\), and not every copy in it has one: nothing says that it is the archive that was made/);
});

test('an archive that is damaged too restores nothing', async (t) => {
  const { p, ts, now } = await changed(t, { compress: true });
  flip(copyOf(p.backups, ts, 'agentdb.db'), 9000);
  const archive = path.join(p.backups, `databases-backup-${ts}.tar.gz`);
  flip(archive, Math.floor(fs.statSync(archive).size / 2));
  const r = await backup.restoreBackup(ts, { root: p.root, force: true });
  assert.equal(r.success, false);
  assert.ok(['CHECKSUM_MISMATCH', 'BACKUP_DAMAGED'].includes(r.code ?? ''), r.code);
  assert.deepEqual(live(p), now);
  assertNoLeftovers(p.backups);
});

test('a set without any checksum needs force, and then says so', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const then = contents(p.at('agentdb.db'));
  const ts = await craftSet(p, daysAgo(1), { legacy: true });
  fs.rmSync(path.join(p.backups, `agentdb.db.backup.${ts}.sha256`));
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const now = contents(p.at('agentdb.db'));
  const refused = await backup.restoreBackup(ts, { root: p.root });
  assert.deepEqual([refused.success, refused.code], [false, 'NEEDS_FORCE']);
  assert.match(refused.error ?? '', /force/);
  assert.equal(contents(p.at('agentdb.db')), now);
  const forced = await backup.restoreBackup(ts, { root: p.root, force: true });
  assert.equal(forced.success, true, forced.error);
  assert.ok(forced.warnings.some((w) => /checksum/i.test(w)), forced.warnings.join('\n'));
  assert.equal(contents(p.at('agentdb.db')), then);
});

test('another application_id needs force, and then says so', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { after: 'PRAGMA application_id = 111' });
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.pragma('application_id = 222'));
  const refused = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.deepEqual([refused.success, refused.code], [false, 'NEEDS_FORCE']);
  assert.match(refused.error ?? '', /agentdb\.db/);
  assert.equal(withDatabase(p.at('agentdb.db'), (db) => db.pragma('application_id', { simple: true })), 222);
  const forced = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
  assert.equal(forced.success, true, forced.error);
  assert.ok(forced.warnings.some((w) => w.includes('agentdb.db')), forced.warnings.join('\n'));
  assert.equal(withDatabase(p.at('agentdb.db'), (db) => db.pragma('application_id', { simple: true })), 111);
});

const ruins: [string, (file: string) => void][] = [
  ['is text', (f) => fs.writeFileSync(f, 'this was a database once\n'.repeat(500))],
  ['has a damaged header', (f) => flip(f, 3)],
  ['is truncated', (f) => fs.truncateSync(f, fs.statSync(f).size - 2 * 4096 - 100)],
];
for (const [what, ruin] of ruins) {
  test(`a present database that ${what} needs force; its bytes are in the safety set, and the restored one is sound`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { rows: 400 });
    const then = contents(p.at('agentdb.db'));
    const made = await backup.createBackup({ root: p.root });
    ruin(p.at('agentdb.db'));
    const ruined = sha256(p.at('agentdb.db'));
    const refused = await backup.restoreBackup(made.timestamp, { root: p.root });
    assert.deepEqual([refused.success, refused.code], [false, 'NEEDS_FORCE'], refused.error);
    assert.equal(sha256(p.at('agentdb.db')), ruined);

    const forced = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
    assert.equal(forced.success, true, forced.error);
    assert.ok(forced.warnings.length > 0, 'force went on without a word');
    assert.equal(contents(p.at('agentdb.db')), then);
    assert.ok(forced.safetyBackup);
    assert.equal(sha256(copyOf(p.backups, forced.safetyBackup, 'agentdb.db')), ruined, 'the safety set does not hold what was there');
  });
}

test('a present database with damaged pages needs no force: SQLite still reads every page, and the safety set holds them', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 400 });
  const then = contents(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root });
  const fd = fs.openSync(p.at('agentdb.db'), 'r+');
  for (let page = 5; page < 9; page++) fs.writeSync(fd, Buffer.alloc(4096, 0x5a), 0, 4096, page * 4096);
  fs.closeSync(fd);
  const ruined = sha256(p.at('agentdb.db'));
  const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(restored.success, true, restored.error);
  assert.ok(restored.warnings.some((w) => w.includes('agentdb.db') && w.includes('damaged')), restored.warnings.join('\n'));
  assert.equal(contents(p.at('agentdb.db')), then);
  assert.equal(sha256(copyOf(p.backups, restored.safetyBackup!, 'agentdb.db')), ruined);
});

const reshapes: [string, string][] = [
  ['page size', 'PRAGMA page_size = 8192; VACUUM'],
  ['a smaller page size', 'PRAGMA page_size = 1024; VACUUM'],
  ['auto_vacuum', 'PRAGMA auto_vacuum = FULL; VACUUM'],
];
for (const [what, reshape] of reshapes) {
  for (const journal of ['delete', 'wal'] as const) {
    test(`a backup comes back over a database that got another ${what} since (${journal})`, async (t) => {
      const p = project(t);
      makeDatabase(p.at('agentdb.db'), { rows: 300 });
      const then = contents(p.at('agentdb.db'));
      const made = await backup.createBackup({ root: p.root });
      withDatabase(p.at('agentdb.db'), (db) => (db.exec(reshape), db.exec('DELETE FROM patterns'), db.pragma(`journal_mode = ${journal}`)));
      const now = contents(p.at('agentdb.db'));
      const r = await backup.restoreBackup(made.timestamp, { root: p.root });
      assert.equal(r.success, true, r.error);
      assert.equal(contents(p.at('agentdb.db')), then);
      const undone = await backup.restoreBackup(r.safetyBackup!, { root: p.root });
      assert.equal(undone.success, true, undone.error);
      assert.equal(contents(p.at('agentdb.db')), now);
    });
  }
}

test('a backup comes back over a database of another text encoding', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 50, before: "PRAGMA encoding = 'UTF-16le'" });
  const then = contents(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root });
  fs.rmSync(p.at('agentdb.db'));
  makeDatabase(p.at('agentdb.db'), { rows: 70 });
  const r = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.equal(contents(p.at('agentdb.db')), then);
  assert.equal(withDatabase(p.at('agentdb.db'), (db) => db.pragma('encoding', { simple: true })), 'UTF-16le');
});

test('a missing target is never put next to the -wal of the database that was there', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { journal: 'wal' });
  const then = contents(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root });
  // A process dies with commits in the -wal; then somebody removes the database alone.
  await runScript(`const db = new Database(args[0]); db.exec("UPDATE patterns SET content = 'ghost'"); fs.copyFileSync(args[0] + '-wal', args[1]); db.close(); console.log('null')`, [p.at('agentdb.db'), p.at('kept')]);
  fs.rmSync(p.at('agentdb.db'));
  fs.renameSync(p.at('kept'), p.at('agentdb.db-wal'));
  const r = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
  assert.equal(r.success, true, r.error);
  assert.equal(contents(p.at('agentdb.db')), then);
});

/** A set that holds agentdb.db as a plain file, and a database of that name since. */
async function plainSince(t: Parameters<typeof project>[0], journal: 'wal' | 'delete'): Promise<{ p: Project; db: string; ts: string; text: string }> {
  const p = project(t);
  const db = p.at('agentdb.db');
  const text = 'not a database, only a text of that name\n'.repeat(200);
  fs.writeFileSync(db, text);
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(made.success, true, made.error);
  fs.rmSync(db);
  makeDatabase(db, { journal, rows: 400, after: 'CREATE TABLE log(n INTEGER PRIMARY KEY)' });
  return { p, db, ts: made.timestamp, text };
}

/** Asserts that the plain file is back, with nothing beside it, and that what was said is that it is no database any more. */
function assertPlain(p: Project, db: string, text: string, warnings: string[]): void {
  assert.equal(fs.readFileSync(db, 'utf8'), text);
  assert.deepEqual(fs.readdirSync(p.root).filter((n) => n.startsWith('agentdb.db')), ['agentdb.db']);
  assert.equal(warnings.length, 1, warnings.join('\n'));
  assert.match(warnings[0]!, /agentdb\.db is an SQLite database now, and the backup is not one/);
  assertNoLeftovers(p.backups);
}

for (const journal of ['delete', 'wal'] as const) {
  test(`a plain file that takes a database's place loses no row that a program was told is written (${journal})`, { timeout: 1_800_000 }, async (t) => {
    const { p, db, ts, text } = await plainSince(t, journal);
    const writer = companion(
      t,
      `const next = (n) => {
         try {
           const db = new Database(args[0], { timeout: 120000, fileMustExist: true });
           try { db.prepare('INSERT INTO log VALUES (?)').run(n); } finally { db.close(); }
         } catch (e) { console.log('failed ' + e.code); return; }
         console.log(String(n));
         setTimeout(next, 1, n + 1);
       };
       next(1);`,
      [db],
    );
    const told: number[] = [];
    const hear = async (): Promise<string> => {
      const line = await writer.line();
      if (!line.startsWith('failed')) told.push(Number(line));
      return line;
    };
    while (told.length < 20) assert.doesNotMatch(await hear(), /failed/);
    const r = await backup.restoreBackup(ts, { root: p.root, force: true, busyTimeoutMs: 120_000 });
    assert.equal(r.success, true, r.error);
    // No more database is there, so the writer fails, sooner or later.
    let last;
    do last = await hear();
    while (!last.startsWith('failed'));
    assert.match(last, /^failed SQLITE_(?!CORRUPT)/);
    assert.ok(r.safetyBackup);
    const saved = new Set(withDatabase(copyOf(p.backups, r.safetyBackup, 'agentdb.db'), (c) => c.prepare('SELECT n FROM log').pluck().all() as number[]));
    assert.deepEqual(told.filter((n) => !saved.has(n)), [], `of ${told.length} rows that were written, these are in no copy`);
    assertPlain(p, db, text, r.warnings);
  });
}

test('a program in the middle of a transaction commits while a restore that wants the database for itself waits for it', async (t) => {
  const { p, db, ts, text } = await plainSince(t, 'delete');
  const other = companion(
    t,
    `const db = new Database(args[0], { timeout: 5000 });
     db.exec('BEGIN IMMEDIATE; INSERT INTO log VALUES (1)');
     console.log('begun');
     process.stdin.once('data', () => {
       try { db.exec('COMMIT'); console.log('committed'); } catch (e) { console.log(e.code); }
       db.close();
     });`,
    [db],
  );
  assert.equal(await other.line(), 'begun');
  const restored = backup.restoreBackup(ts, { root: p.root, force: true, busyTimeoutMs: 120_000 });
  // By then it waits; if it did not, the commit would only be easier.
  await sleep(1000);
  other.send('commit');
  assert.equal(await other.line(), 'committed');
  await other.end();
  const r = await restored;
  assert.equal(r.success, true, r.error);
  assert.equal(count(copyOf(p.backups, r.safetyBackup!, 'agentdb.db'), 'log'), 1, 'what was committed is in no copy');
  assertPlain(p, db, text, r.warnings);
});

for (const [what, since] of Object.entries({
  'puts a plain file back': async (t: Parameters<typeof project>[0]) => plainSince(t, 'delete'),
  'changes the page size': async (t: Parameters<typeof project>[0]) => {
    const p = project(t);
    const db = p.at('agentdb.db');
    makeDatabase(db, { pageSize: 8192 });
    const made = await backup.createBackup({ root: p.root, compress: false });
    assert.equal(made.success, true, made.error);
    fs.rmSync(db);
    makeDatabase(db, { after: 'CREATE TABLE log(n INTEGER PRIMARY KEY)' });
    return { p, db, ts: made.timestamp };
  },
})) {
  test(`a program in a read transaction gets to write while a restore that ${what} waits for it, and not only now and then`, { timeout: 600_000 }, async (t) => {
    const { p, db, ts } = await since(t);
    // The second one reads all the time, so that the restore can't come between two transactions of the first.
    const [app, reader] = [new Database(db), new Database(db)];
    t.after(() => (app.close(), void reader.close()));
    const read = (c: Database.Database): void => (c.exec('BEGIN'), void c.prepare('SELECT count(*) FROM log').get());
    (read(reader), read(app));
    let over = false;
    const restored = backup.restoreBackup(ts, { root: p.root, force: true, busyTimeoutMs: 300_000 }).finally(() => void (over = true));
    // What SQLite refuses at once cannot be helped while the restore tries for the database; it must not be nearly always.
    let [written, tries] = [0, 0];
    for (; written < 20 && tries < 100; tries++) {
      await sleep(20);
      try {
        app.exec('INSERT INTO log VALUES (1)');
        written++;
        if (written < 20) (app.exec('ROLLBACK'), read(app));
      } catch (e) {
        assert.equal((e as { code?: string }).code, 'SQLITE_BUSY');
      }
    }
    assert.equal(written, 20, `in ${tries} tries`);
    assert.equal(over, false, 'the restore did not wait, so this test sees nothing');
    (reader.close(), app.exec('COMMIT'), app.close());
    const r = await restored;
    assert.equal(r.success, true, r.error);
    assert.equal(count(copyOf(p.backups, r.safetyBackup!, 'agentdb.db'), 'log'), 1, 'what was committed is in no copy');
  });
}

test('a database that a program has open in WAL mode is not replaced by a plain file: DATABASE_BUSY, and nothing is changed', async (t) => {
  const { p, db, ts } = await plainSince(t, 'wal');
  const other = await holder(t, db, 'INSERT INTO log VALUES (1)');
  const before = [sets(p.backups), tree(p.root, (n) => n.startsWith('.agentic-qe'))];
  const r = await backup.restoreBackup(ts, { root: p.root, force: true, busyTimeoutMs: 150 });
  assert.deepEqual([r.success, r.code, r.filesRestored], [false, 'DATABASE_BUSY', 0], r.error);
  assert.match(r.error ?? '', /is not an SQLite database.*stop the programs.*agentdb\.db is busy/s);
  assert.deepEqual([sets(p.backups), tree(p.root, (n) => n.startsWith('.agentic-qe'))], before);
  assertNoLeftovers(p.backups);
  await other.end();
  assert.equal(count(db, 'log'), 1);
});

test('a program that has a database open with a rollback journal is told that a plain file took its place', async (t) => {
  const { p, db, ts, text } = await plainSince(t, 'delete');
  const now = contents(db);
  const other = companion(
    t,
    `const db = new Database(args[0]); db.prepare('SELECT count(*) FROM log').get(); console.log('open');
     process.stdin.on('data', () => { try { db.exec('INSERT INTO log VALUES (1)'); console.log('written'); } catch (e) { console.log(e.code); } }).on('end', () => db.close());`,
    [db],
  );
  assert.equal(await other.line(), 'open');
  const r = await backup.restoreBackup(ts, { root: p.root, force: true });
  assert.equal(r.success, true, r.error);
  other.send('write');
  assert.equal(await other.line(), 'SQLITE_READONLY_DBMOVED');
  assert.equal((await other.end()).status, 0);
  assertPlain(p, db, text, r.warnings);
  assert.ok(r.safetyBackup);
  assert.equal(contents(copyOf(p.backups, r.safetyBackup, 'agentdb.db')), now);
});

test('a plain file takes the place of a database whose last commits are in the -wal of a program that died: they are in the safety set', async (t) => {
  const { p, db, ts, text } = await plainSince(t, 'wal');
  const script = "const db = new Database(args[0]); db.exec('INSERT INTO log VALUES (7)'); process.kill(process.pid, 'SIGKILL')";
  assert.equal((await companion(t, script, [db]).end()).signal, 'SIGKILL');
  assert.ok(fs.statSync(db + '-wal').size > 0);
  const r = await backup.restoreBackup(ts, { root: p.root, force: true });
  assert.equal(r.success, true, r.error);
  assertPlain(p, db, text, r.warnings);
  assert.ok(r.safetyBackup);
  assert.equal(count(copyOf(p.backups, r.safetyBackup, 'agentdb.db'), 'log'), 1);
  // And it comes back from there.
  const back = await backup.restoreBackup(r.safetyBackup, { root: p.root, force: true });
  assert.equal(back.success, true, back.error);
  assert.equal(count(db, 'log'), 1);
});

test('metadata that sends a file outside the project is not followed', async (t) => {
  for (const source of ['../outside.db', '/outside-of-everything.db', 'a/../../outside.db']) {
    const p = project(t, 'inner');
    makeDatabase(p.at('agentdb.db'));
    const made = await backup.createBackup({ root: p.root, compress: false });
    editMetadata(p.backups, made.timestamp, (m) => void (m.databases[0]!.source = source));
    const r = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
    assert.equal(r.success, false, source);
    assert.notEqual(r.code, undefined);
    assert.deepEqual(fs.readdirSync(path.dirname(p.root)), ['inner'], source);
    assert.equal(fs.existsSync('/outside-of-everything.db'), false);
  }
});

test('metadata that names a file outside the backups folder is not followed', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root, compress: false });
  const secret = path.join(tempFolder(t), 'secret.db');
  makeDatabase(secret, { rows: 1 });
  const then = contents(p.at('agentdb.db'));
  editMetadata(p.backups, made.timestamp, (m) => void Object.assign(m.databases[0]!, { file: path.relative(p.backups, secret), sha256: sha256(secret), size: fs.statSync(secret).size }));
  const r = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
  assert.equal(r.success, false);
  assert.equal(contents(p.at('agentdb.db')), then);
});

test('an archive with members that leave the folder writes nothing outside', async (t) => {
  const { p, ts, now } = await changed(t, { compress: true });
  const work = tempFolder(t, 'work');
  const archive = path.join(p.backups, `databases-backup-${ts}.tar.gz`);
  assert.equal((await exec('tar', ['-xzf', archive, '-C', work])).status, 0);
  fs.writeFileSync(path.join(work, 'evil'), 'evil');
  const packed = await exec('tar', ['-czf', archive, '-P', '--transform', 's,^evil$,../../evil,', '--', ...fs.readdirSync(work)], { cwd: work });
  assert.equal(packed.status, 0, packed.stderr);
  fs.writeFileSync(`${archive}.sha256`, `${sha256(archive)}  ${path.basename(archive)}\n`);
  for (const name of fs.readdirSync(p.backups)) if (name.includes(ts) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(p.backups, name));
  const r = await backup.restoreBackup(ts, { root: p.root, force: true });
  const found = (await exec('find', [path.dirname(p.root), '-name', 'evil'])).stdout;
  assert.equal(found, '');
  if (!r.success) assert.deepEqual(live(p), now);
  assertNoLeftovers(p.backups);
});

test('metadata of a higher format is UNSUPPORTED_FORMAT, and the set is still listed', async (t) => {
  const { p, ts, now } = await changed(t);
  editMetadata(p.backups, ts, (m) => void (m.format = 2));
  for (const force of [false, true]) {
    const r = await backup.restoreBackup(ts, { root: p.root, force });
    assert.deepEqual([r.success, r.code], [false, 'UNSUPPORTED_FORMAT']);
    assert.match(r.error ?? '', /format 2/);
  }
  assert.deepEqual(live(p), now);
  assert.ok((await backup.listBackups({ root: p.root })).some((b) => b.timestamp === ts));
});

test('metadata that is not JSON is BACKUP_DAMAGED, and names the file', async (t) => {
  const { p, ts, now } = await changed(t);
  fs.writeFileSync(metadataPath(p.backups, ts), '{"timestamp": ');
  const r = await backup.restoreBackup(ts, { root: p.root, force: true });
  assert.deepEqual([r.success, r.code], [false, 'BACKUP_DAMAGED']);
  assert.match(r.error ?? '', new RegExp(`backup-metadata\\.${ts}\\.json`));
  assert.deepEqual(live(p), now);
});

test('a set that vanishes half-way ends in a coded error or a whole restore, never between', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 2000 });
  makeDatabase(p.at('.agentic-qe/memory.db'), { rows: 2000 });
  withDatabase(p.at('agentdb.db'), (db) => addRows(db, 10_000, 4000, 4000));
  const then = live(p);
  for (const phase of ['lock', 'verify', 'copy', 'write']) {
    const made = await backup.createBackup({ root: p.root, compress: false });
    assert.equal(made.success, true, made.error);
    for (const s of ['agentdb.db', '.agentic-qe/memory.db']) withDatabase(p.at(s), (db) => db.exec("UPDATE patterns SET content = 'later'"));
    const now = live(p);
    const r = await backup.restoreBackup(made.timestamp, {
      root: p.root,
      onProgress: (progress) => {
        if (progress.phase === phase) for (const name of fs.readdirSync(p.backups)) if (name.includes(made.timestamp)) fs.rmSync(path.join(p.backups, name), { force: true });
      },
    });
    if (r.success) assert.deepEqual(live(p), then, phase);
    else {
      assert.equal(typeof r.code, 'string', `${phase}: ${r.error}`);
      assert.deepEqual(live(p), now, phase);
    }
    assertNoLeftovers(p.backups);
    for (const s of ['agentdb.db', '.agentic-qe/memory.db']) withDatabase(p.at(s), (db) => db.exec("UPDATE patterns SET content = 'pattern of ' || substr(id, 2)"));
    assert.deepEqual(live(p), then);
  }
});

test('a legacy set without metadata goes to the usual homes', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 11 });
  makeDatabase(p.at('.agentic-qe/memory.db'), { rows: 22 });
  const ts = await craftSet(p, daysAgo(3), { legacy: true, sources: ['agentdb.db', '.agentic-qe/memory.db'] });
  fs.rmSync(p.at('agentdb.db'));
  fs.rmSync(p.at('.agentic-qe/memory.db'));
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.deepEqual([count(p.at('agentdb.db')), count(p.at('.agentic-qe/memory.db'))], [11, 22]);
});

test('a legacy sidecar whose path is wrong but whose hash is right counts as a checksum', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 11 });
  const ts = await craftSet(p, daysAgo(3), { legacy: true });
  const copy = path.join(p.backups, `agentdb.db.backup.${ts}`);
  fs.writeFileSync(`${copy}.sha256`, `${sha256(copy)}  agentdb.db\n`);
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.equal(count(p.at('agentdb.db')), 11);
});

test('a legacy archive alone is restored', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 11 });
  const ts = await craftSet(p, daysAgo(3), { legacy: true, archive: true });
  for (const name of fs.readdirSync(p.backups)) if (name !== `databases-backup-${ts}.tar.gz`) fs.rmSync(path.join(p.backups, name));
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const r = await backup.restoreBackup(ts, { root: p.root, force: true });
  assert.equal(r.success, true, r.error);
  assert.equal(count(p.at('agentdb.db')), 11);
});

test('a set that another tool laid down by the contract is restored', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 11 });
  const ts = await craftSet(p, daysAgo(3), { archive: true });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.equal(count(p.at('agentdb.db')), 11);
});

test('a restore leaves the mode of a live file as it was', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  fs.chmodSync(p.at('agentdb.db'), 0o640);
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const { ino } = fs.statSync(p.at('agentdb.db'));
  assert.equal((await backup.restoreBackup(made.timestamp, { root: p.root })).success, true);
  assert.deepEqual([fs.statSync(p.at('agentdb.db')).mode & 0o777, fs.statSync(p.at('agentdb.db')).ino], [0o640, ino]);
});

test('the set that was restored, and every other, is as it was', async (t) => {
  const { p, ts } = await changed(t, { compress: true });
  await backup.createBackup({ root: p.root });
  const before = tree(p.backups, (n) => n === '.lock');
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.equal(r.success, true, r.error);
  const after = tree(p.backups, (n) => n === '.lock');
  for (const [name, what] of Object.entries(before)) assert.equal(after[name], what, name);
  for (const name of Object.keys(after)) assert.ok(name in before || name.includes(r.safetyBackup!), name);
  assert.equal(readMetadata(p.backups, r.safetyBackup!).kind, 'safety');
});

test('a file that root puts back belongs to whom it belonged, and a missing one to whom its folder belongs', { skip: isRoot ? false : 'only root can give files away' }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  makeDatabase(p.at('gone.db'));
  fs.writeFileSync(p.at('notes.db'), 'then');
  const made = await backup.createBackup({ root: p.root, compress: false });
  fs.rmSync(p.at('gone.db'));
  fs.writeFileSync(p.at('notes.db'), 'now');
  fs.chownSync(p.at('notes.db'), nobody, nobody);
  fs.chmodSync(p.at('notes.db'), 0o640);
  fs.chownSync(p.root, nobody, nobody);
  const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(restored.success, true, restored.error);
  assert.equal(fs.readFileSync(p.at('notes.db'), 'utf8'), 'then');
  for (const name of ['notes.db', 'gone.db']) {
    const { uid, gid } = fs.statSync(p.at(name));
    assert.deepEqual([name, uid, gid], [name, nobody, nobody]);
  }
  assert.equal(fs.statSync(p.at('notes.db')).mode & 0o777, 0o640);
});
