// Several processes at once: creating, restoring, cleaning, and a writer that never stops.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import { assertNoLeftovers, companion, contents, copyOf, dump, makeDatabase, parseOne, project, sets, sleep, withDatabase, type Run } from './helpers/project';

/** A run waits for the others, and a slow disk lets them wait for long. */
const patient = ['--lock-timeout', '600000', '--busy-timeout', '600000'];

test('two processes that create at once both succeed, each with a set of its own', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { journal: 'wal', rows: 500 });
  makeDatabase(p.at('.agentic-qe/memory.db'), { rows: 500 });
  const run = (...args: string[]): Promise<Run> => p.run(...args, ...patient);
  for (let round = 0; round < 3; round++) {
    const runs = await Promise.all([run('create', '--json'), run('create', '--json', '--no-compress'), run('create', '--json', '--kind', 'manual')]);
    const documents = runs.map(parseOne);
    assert.deepEqual(runs.map((r) => r.status), [0, 0, 0], runs.map((r) => r.stderr + r.stdout).join('\n'));
    assert.equal(new Set(documents.map((d) => d.timestamp as string)).size, 3);
    for (const d of documents) assert.equal(await backup.verifyBackup(d.timestamp as string, { root: p.root }), true);
  }
  assert.equal((await backup.listBackups({ root: p.root })).length, 9);
  assertNoLeftovers(p.backups);
});

test('processes that create, restore, clean, list and verify at once end with whole sets and one of the two states', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  const both = ['agentdb.db', '.agentic-qe/memory.db'];
  const state = (): string[] => both.map((s) => contents(p.at(s)));
  for (const s of both) makeDatabase(p.at(s), { journal: s === 'agentdb.db' ? 'wal' : 'delete', rows: 300 });
  const one = await backup.createBackup({ root: p.root, kind: 'manual' });
  const first = state();
  for (const s of both) withDatabase(p.at(s), (db) => db.exec("UPDATE patterns SET content = 'second'; DELETE FROM episodes WHERE id > 100"));
  const two = await backup.createBackup({ root: p.root, kind: 'manual' });
  const second = state();
  const runs = await Promise.all([
    p.run('restore', one.timestamp, '--force', ...patient), p.run('create', ...patient), p.run('restore', two.timestamp, '--force', ...patient), p.run('create', '--keep', '1', ...patient), p.run('list'), p.run('verify', one.timestamp),
    p.run('restore', one.timestamp, '--force', ...patient), p.run('recover', ...patient),
  ]);
  runs.forEach((r, i) => assert.equal(r.status, 0, `run ${i}: ${r.stderr}${r.stdout}`));
  const end = state();
  assert.ok([first, second].some((s) => s.every((c, i) => c === end[i])), 'the databases are of two different states');
  const sets = await backup.listBackups({ root: p.root });
  for (const b of sets) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, b.timestamp);
  assert.ok(sets.some((b) => b.timestamp === one.timestamp) && sets.some((b) => b.timestamp === two.timestamp));
  assertNoLeftovers(p.backups);
});

test('calls in one process that overlap, on one project, all end well', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 200 });
  const made = await backup.createBackup({ root: p.root, kind: 'manual' });
  const options = { root: p.root, lockTimeoutMs: 300_000, busyTimeoutMs: 300_000 };
  const results = await Promise.all([
    backup.createBackup(options), backup.restoreBackup(made.timestamp, options), backup.createSafetyBackup('x', options), backup.verifyBackup(made.timestamp, options),
    backup.compareBackup(made.timestamp, options), backup.listBackups(options), backup.cleanOldBackups(2, options), backup.createBackup(options), backup.inspectBackup(made.timestamp, options),
  ]);
  for (const r of results) if (typeof r === 'object' && 'success' in r) assert.equal(r.success, true, r.error);
  assert.equal(results[3], true);
  for (const b of await backup.listBackups({ root: p.root })) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true);
});

for (const journal of ['delete', 'wal'] as const) {
  test(`a writer that never stops during a restore: every acknowledged commit is in the safety set or made after it (${journal})`, { timeout: 600_000 }, async (t) => {
    const p = project(t);
    const file = p.at('agentdb.db');
    makeDatabase(file, { journal, rows: 400, after: 'CREATE TABLE acks(n INTEGER PRIMARY KEY)' });
    const made = await backup.createBackup({ root: p.root, compress: false });
    // The transactions carry a page of ballast, so that a restore has much to write back.
    const writer = companion(
      t,
      `const db = new Database(args[0], { timeout: 300000 }); db.pragma('synchronous = OFF');
       const ack = db.prepare('INSERT INTO acks VALUES (?)'), ballast = db.prepare("UPDATE episodes SET embedding = randomblob(400) WHERE id = 1 + ? % 400");
       const one = db.transaction((n) => { ballast.run(n); ack.run(n); });
       const done = []; let n = 0, on = true;
       process.stdin.on('data', () => { console.log(n); }).on('end', () => { on = false; });
       console.log('writing');
       while (on) { one.immediate(n + 1); done.push(++n); await new Promise((r) => setTimeout(r, 1)); }
       db.close(); console.log(JSON.stringify(done));`,
      [file],
    );
    assert.equal(await writer.line(), 'writing');
    let commits = 0;
    const goesOn = async (): Promise<void> => {
      for (const from = commits; commits < from + 20; await sleep(5)) {
        writer.send('?');
        commits = Number(await writer.line());
      }
    };
    const safeties: string[] = [];
    for (let round = 0; round < 4; round++) {
      await goesOn();
      const r = await backup.restoreBackup(made.timestamp, { root: p.root, busyTimeoutMs: 300_000 });
      assert.equal(r.success, true, r.error);
      assert.ok(r.safetyBackup);
      safeties.push(r.safetyBackup);
    }
    await goesOn();
    writer.child.stdin?.end();
    const acknowledged = JSON.parse(await writer.line()) as number[];
    const run = await writer.end();
    assert.equal(run.status, 0, run.stderr);

    const acksIn = (f: string): number[] => withDatabase(f, (db) => (dump(db), db.prepare<[], number>('SELECT n FROM acks').pluck().all()));
    const found = new Set([...safeties.map((ts) => copyOf(p.backups, ts, 'agentdb.db')), file].flatMap(acksIn));
    assert.ok(acknowledged.length >= 100, `only ${acknowledged.length} commits`);
    assert.deepEqual(acknowledged.filter((n) => !found.has(n)), [], 'acknowledged commits are in no safety set and not in the database');
    // And a restore is a restore: what was committed before it is not in the database after it.
    const last = Math.max(...acksIn(copyOf(p.backups, safeties[3]!, 'agentdb.db')));
    assert.ok(acksIn(file).every((n) => n > last), 'a commit from before the restore survived it');
    for (const ts of safeties) assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
  });
}

test('a reader that opens and closes the database all the time disturbs neither backup nor restore', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  const file = p.at('agentdb.db');
  makeDatabase(file, { journal: 'wal', rows: 200 });
  const made = await backup.createBackup({ root: p.root, compress: false });
  const reader = companion(
    t,
    `let n = 0, on = true; process.stdin.on('data', () => {}).on('end', () => { on = false; });
     console.log('reading');
     while (on) { const db = new Database(args[0], { timeout: 300000 }); if (db.pragma('quick_check', { simple: true }) !== 'ok') throw new Error('damaged'); db.close(); n++; await new Promise((r) => setTimeout(r, 1)); }
     console.log(n);`,
    [file],
  );
  assert.equal(await reader.line(), 'reading');
  const app = new Database(file, { timeout: 300_000 });
  for (let i = 0; i < 6; i++) {
    app.exec("UPDATE patterns SET content = content || 'x'");
    const r = await backup.restoreBackup(made.timestamp, { root: p.root, busyTimeoutMs: 300_000 });
    assert.equal(r.success, true, r.error);
    const again = await backup.createBackup({ root: p.root, compress: false, busyTimeoutMs: 300_000 });
    assert.equal(again.success, true, again.error);
  }
  app.close();
  reader.child.stdin?.end();
  assert.ok(Number(await reader.line()) > 0);
  const run = await reader.end();
  assert.equal(run.status, 0, run.stderr);
  assert.ok(Object.keys(sets(p.backups)).length > 0);
});

test('a set that is being published, or removed, is listed whole or not at all', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  for (const name of ['a.db', 'b.db', 'c.db']) makeDatabase(p.at(name), { rows: 3 });
  let writing = true;
  const writer = (async () => {
    for (let i = 0; i < 60; i++) assert.equal((await backup.createBackup({ root: p.root, compress: i % 4 === 0, keepLast: 5 })).success, true);
  })().finally(() => (writing = false));
  let seen = 0;
  while (writing) {
    for (const b of await backup.listBackups({ root: p.root, archives: true })) {
      seen++;
      assert.ok(b.complete, `${b.timestamp} is listed with ${b.files} of 3 files`);
      assert.ok(b.compressed || !b.metadata?.compressed, `${b.timestamp} is listed without its archive`);
    }
  }
  await writer;
  assert.ok(seen > 60, `only ${seen} sets were seen`);
});
