// The main flow, as the strategy document tells it: create, verify, modify, restore, verify.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import { addRows, assertNoLeftovers, assertRestored, contents, copyOf, count, dump, makeDatabase, project, runScript, tree, withDatabase } from './helpers/project';

const sources = ['.agentic-qe/memory.db', '.agentic-qe/qe-learning.db', 'agentdb.db'];

for (const journal of ['delete', 'wal'] as const) {
  test(`what was backed up comes back after everything was changed (${journal})`, async (t) => {
    const p = project(t);
    for (const source of sources) makeDatabase(p.at(source), { journal, rows: 80 });
    const before = sources.map((s) => contents(p.at(s)));

    const made = await backup.createBackup({ root: p.root });
    assert.equal(made.success, true, made.error);
    assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);

    withDatabase(p.at(sources[0]!), (db) => db.exec('DROP TABLE patterns'));
    withDatabase(p.at(sources[1]!), (db) => db.exec('DELETE FROM episodes; CREATE TABLE later(x); INSERT INTO later VALUES (1)'));
    withDatabase(p.at(sources[2]!), (db) => addRows(db, 1000, 500));

    const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
    assert.equal(restored.success, true, restored.error);
    assert.equal(restored.timestamp, made.timestamp);
    assert.equal(restored.filesRestored, 3);
    assert.deepEqual(restored.databases.map((d) => [d.source, d.action]), sources.map((s) => [s, 'updated']));
    assert.deepEqual(sources.map((s) => contents(p.at(s))), before);
    for (const s of sources) assertRestored(p.at(s), copyOf(p.backups, made.timestamp, s));
    assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
    assertNoLeftovers(p.backups);
  });

  test(`commits that are only in the -wal, or made by an open application, are in the backup (${journal})`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { journal, rows: 10 });
    const app = new Database(p.at('agentdb.db'));
    t.after(() => void app.close());
    addRows(app, 100, 30);
    const then = dump(app);
    const made = await backup.createBackup({ root: p.root });
    assert.equal(made.success, true, made.error);
    assert.equal(count(made.files[0]!), 40);
    addRows(app, 500, 30);
    const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
    assert.equal(restored.success, true, restored.error);
    assert.equal(dump(app), then);
  });

  test(`the safety set that a restore makes undoes that restore (${journal})`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { journal });
    makeDatabase(p.at('.agentic-qe/memory.db'), { journal });
    const made = await backup.createBackup({ root: p.root });
    withDatabase(p.at('agentdb.db'), (db) => addRows(db, 1000, 77));
    const changed = contents(p.at('agentdb.db'));

    const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
    assert.ok(restored.safetyBackup, 'the restore names no safety set');
    assert.equal(await backup.verifyBackup(restored.safetyBackup, { root: p.root }), true);
    const info = (await backup.listBackups({ root: p.root })).find((b) => b.timestamp === restored.safetyBackup);
    assert.equal(info?.kind, 'safety');

    const undone = await backup.restoreBackup(restored.safetyBackup, { root: p.root });
    assert.equal(undone.success, true, undone.error);
    assert.equal(contents(p.at('agentdb.db')), changed);
  });
}

test('databases that were deleted, folder and all, come back byte for byte from a backups folder elsewhere', async (t) => {
  const p = project(t);
  for (const source of sources) makeDatabase(p.at(source), { journal: 'wal' });
  const options = { root: p.root, backupDir: 'kept' };
  const made = await backup.createBackup(options);
  assert.equal(made.success, true, made.error);
  const copies = Object.fromEntries(sources.map((s) => [s, fs.readFileSync(copyOf(p.at('kept'), made.timestamp, s))]));
  fs.rmSync(p.at('.agentic-qe'), { recursive: true });
  fs.rmSync(p.at('agentdb.db'));

  const restored = await backup.restoreBackup(made.timestamp, options);
  assert.equal(restored.success, true, restored.error);
  assert.deepEqual(restored.databases.map((d) => d.action), ['created', 'created', 'created']);
  for (const s of sources) assert.ok(fs.readFileSync(p.at(s)).equals(copies[s]!), `${s} is not what it was`);
});

test('`rm -f .agentic-qe/*.db` loses nothing: the backups folder survives it and gives the databases back', async (t) => {
  const p = project(t);
  makeDatabase(p.at('.agentic-qe/memory.db'));
  const then = contents(p.at('.agentic-qe/memory.db'));
  const made = await backup.createBackup({ root: p.root });
  for (const name of fs.readdirSync(p.at('.agentic-qe'))) if (name.endsWith('.db')) fs.rmSync(p.at('.agentic-qe', name));
  const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(restored.success, true, restored.error);
  assert.equal(contents(p.at('.agentic-qe/memory.db')), then);
});

test('the document’s manual test passes with the command: create, DROP TABLE, restore, SELECT', async (t) => {
  const p = project(t);
  withDatabase(p.at('test.db'), (db) => db.exec('CREATE TABLE test(id INTEGER); INSERT INTO test VALUES (7)'));
  const created = await p.run('create');
  assert.equal(created.status, 0, created.stderr);
  const timestamp = /Timestamp: (\d{8}-\d{6})/.exec(created.stdout)?.[1];
  assert.ok(timestamp, `no timestamp in ${created.stdout}`);
  withDatabase(p.at('test.db'), (db) => db.exec('DROP TABLE test'));
  const restored = await p.run('restore', timestamp, '--force');
  assert.equal(restored.status, 0, restored.stderr);
  assert.equal(withDatabase(p.at('test.db'), (db) => db.prepare('SELECT id FROM test').pluck().get()), 7);
});

test('the drop-in singleton has the six methods and finds the project in AQE_PROJECT_ROOT, or else in the current folder', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const flow = `
    const { backupHelper: h } = backup;
    const made = await h.createBackup({ compress: true, verify: true });
    const safety = await h.createSafetyBackup('migration');
    const restored = await h.restoreBackup(made.timestamp, { verify: true, force: true });
    const list = await h.listBackups();
    const valid = await h.verifyBackup(made.timestamp);
    const removed = await h.cleanOldBackups(10);
    console.log(JSON.stringify({ made, safety, restored, list: list.map((b) => b.timestamp), valid, removed }));`;
  for (const options of [{ env: { ...process.env, AQE_PROJECT_ROOT: p.root } }, { cwd: p.root }]) {
    const r = await runScript<Record<string, any>>(flow, [], options);
    assert.equal(r.made.success, true, r.made.error);
    assert.equal(r.safety.success, true, r.safety.error);
    assert.equal(r.restored.success, true, r.restored.error);
    assert.ok(r.list.includes(r.made.timestamp) && r.list.includes(r.safety.timestamp));
    assert.deepEqual([r.valid, r.removed], [true, 0]);
    assert.equal(path.dirname(r.made.files[0]), p.backups);
  }
});

test('a BackupHelper keeps the options it was made with, and a call may override them', async (t) => {
  const [p, q] = [project(t, 'one'), project(t, 'two')];
  makeDatabase(p.at('agentdb.db'));
  makeDatabase(q.at('agentdb.db'), { rows: 3 });
  const helper = new backup.BackupHelper({ root: p.root, backupDir: 'mine' });
  const made = await helper.createBackup({ compress: false });
  assert.equal(made.success, true, made.error);
  assert.deepEqual(made.files.map((f) => path.dirname(f)), [p.at('mine')]);
  assert.equal(await helper.verifyBackup(made.timestamp), true);
  assert.deepEqual((await helper.listBackups()).map((b) => b.timestamp), [made.timestamp]);
  assert.equal((await helper.restoreBackup(made.timestamp)).success, true);
  assert.equal(await helper.cleanOldBackups(5), 0);
  const safety = await helper.createSafetyBackup('x');
  assert.equal(safety.kind, 'safety');
  const other = await helper.createBackup({ root: q.root });
  assert.deepEqual(other.files.map((f) => path.dirname(f)), [q.at('mine')]);
});

test('withSafetyBackup returns what the function gives, and keeps its changes', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 5 });
  const value = await backup.withSafetyBackup('grow', async () => {
    withDatabase(p.at('agentdb.db'), (db) => addRows(db, 100, 5));
    return 42;
  }, { root: p.root });
  assert.equal(value, 42);
  assert.equal(count(p.at('agentdb.db')), 10);
  assert.deepEqual((await backup.listBackups({ root: p.root })).map((b) => [b.kind, b.metadata?.operation]), [['safety', 'grow']]);
});

for (const how of ['throws', 'rejects'] as const) {
  test(`withSafetyBackup puts everything back when the function ${how}, and rethrows that very error`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'));
    const then = contents(p.at('agentdb.db'));
    const error = new Error('the migration went wrong');
    const fail = (): never => {
      withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes; DROP TABLE patterns'));
      throw error;
    };
    await assert.rejects(backup.withSafetyBackup('doomed', how === 'throws' ? fail : async () => fail(), { root: p.root }), (e) => e === error);
    assert.equal(contents(p.at('agentdb.db')), then);
  });
}

test('withSafetyBackup does not start the function when there is no safety backup', async (t) => {
  const p = project(t);
  let started = false;
  await assert.rejects(backup.withSafetyBackup('nothing here', () => void (started = true), { root: p.root }), { code: 'NO_DATABASES' });
  assert.equal(started, false);
});

test('restoring what is there already writes nothing', async (t) => {
  const p = project(t);
  for (const source of sources) makeDatabase(p.at(source), { journal: source === 'agentdb.db' ? 'wal' : 'delete' });
  const made = await backup.createBackup({ root: p.root });
  const leaveOut = (name: string): boolean => name.startsWith('.agentic-qe/backups') || /-(wal|shm)$/.test(name);
  const before = tree(p.root, leaveOut);
  const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(restored.success, true, restored.error);
  assert.deepEqual(restored.databases.map((d) => [d.action, d.pagesWritten]), sources.map(() => ['unchanged', 0]));
  assert.equal(restored.safetyBackup, undefined);
  assert.deepEqual((await backup.listBackups({ root: p.root })).map((b) => b.timestamp), [made.timestamp], 'a safety set of what the backup holds anyway');
  assert.deepEqual(tree(p.root, leaveOut), before);
});
