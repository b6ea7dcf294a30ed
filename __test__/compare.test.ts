// compareBackup: what differs between a set and the project, seen through SQLite.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import { addRows, holder, makeDatabase, project, tree, withDatabase } from './helpers/project';

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
    assert.ok(d.schema.some((s) => /table newer/.test(s)) && d.schema.some((s) => /index by_task/.test(s)), d.schema.join('; '));
    assert.equal(d.schema.length, 2, d.schema.join('; '));
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
  assert.deepEqual([d?.difference, d?.tables, d?.schema], ['different', [], []]);
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
