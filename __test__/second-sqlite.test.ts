// A second SQLite in the same process: its locks, files and commits are untouched by every exported function.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import { addRows, companion, contents, count, dump, editMetadata, exec, makeDatabase, openDescriptors, ownLocks, project, sets, sleep, withDatabase, type Context, type Project } from './helpers/project';

/** Every exported function, on a project with one set. Each may fail, as restore does while a target is locked; none may touch a lock. */
function calls(p: Project, ts: string): Record<string, () => Promise<unknown>> {
  const options = { root: p.root, busyTimeoutMs: 50 };
  const helper = new backup.BackupHelper(options);
  return {
    createBackup: () => backup.createBackup(options),
    'createBackup without verify': () => backup.createBackup({ ...options, verify: false, compress: false }),
    createSafetyBackup: () => backup.createSafetyBackup('x', options),
    restoreBackup: () => backup.restoreBackup(ts, options),
    'restoreBackup with force': () => backup.restoreBackup(ts, { ...options, force: true, verify: false }),
    listBackups: () => backup.listBackups({ ...options, archives: true }),
    verifyBackup: () => backup.verifyBackup(ts, options),
    inspectBackup: () => backup.inspectBackup(ts, options),
    compareBackup: () => backup.compareBackup(ts, options),
    'compareBackup of a table': () => backup.compareBackup(ts, { ...options, table: 'patterns' }),
    storageUsage: () => backup.storageUsage(options),
    checkHealth: () => backup.checkHealth(options),
    'quick checkHealth': () => backup.checkHealth({ ...options, quick: true }),
    recover: () => backup.recover(options),
    cleanOldBackups: () => backup.cleanOldBackups(5, options),
    withSafetyBackup: () => backup.withSafetyBackup('x', () => Promise.reject(new Error('back')), options),
    'BackupHelper.createBackup': () => helper.createBackup(),
    'BackupHelper.restoreBackup': () => helper.restoreBackup(ts),
  };
}

/** Looks at the locks for as long as `work` takes. */
async function watched(work: Promise<unknown>, look: () => string[]): Promise<string[][]> {
  let over = false;
  const end = work.then(() => undefined, () => undefined).then(() => void (over = true));
  const seen = [look()];
  while (!over) {
    await new Promise((resolve) => setImmediate(resolve));
    seen.push(look());
  }
  await end;
  return seen;
}

const transactions: Record<string, { journal: 'wal' | 'delete'; sql: string }> = {
  'a write transaction in rollback mode': { journal: 'delete', sql: "BEGIN IMMEDIATE; INSERT INTO patterns VALUES ('mine', 'x')" },
  'an exclusive transaction in rollback mode': { journal: 'delete', sql: "BEGIN EXCLUSIVE; INSERT INTO patterns VALUES ('mine', 'x')" },
  'a read transaction in rollback mode': { journal: 'delete', sql: 'BEGIN; SELECT count(*) FROM episodes' },
  'a write transaction in WAL mode': { journal: 'wal', sql: "BEGIN IMMEDIATE; INSERT INTO patterns VALUES ('mine', 'x')" },
  'a read transaction in WAL mode': { journal: 'wal', sql: 'BEGIN; SELECT count(*) FROM episodes' },
};

for (const [what, { journal, sql }] of Object.entries(transactions)) {
  test(`${what}: its locks are in /proc/locks before, during and after every exported function, and its commit counts`, { timeout: 600_000 }, async (t) => {
    const p = project(t);
    const file = p.at('agentdb.db');
    makeDatabase(file, { journal, rows: 40 });
    const made = await backup.createBackup({ root: p.root });
    assert.equal(made.success, true, made.error);
    withDatabase(file, (db) => addRows(db, 500, 5));
    const app = new Database(file);
    t.after(() => void app.close());
    app.prepare('SELECT count(*) FROM episodes').get();

    for (const [name, call] of Object.entries(calls(p, made.timestamp))) {
      if (sql.includes('SELECT')) (app.exec('BEGIN'), app.prepare('SELECT count(*) FROM episodes').get());
      else app.exec(sql.replace("'mine'", `'mine ${name}'`));
      const locked = journal === 'wal' ? [file, `${file}-shm`] : [file];
      const look = (): string[] => locked.flatMap((f) => ownLocks(f));
      const before = look();
      assert.ok(before.length > 0, `${name}: the transaction holds no lock, so this test sees nothing`);
      for (const seen of await watched(call(), look)) assert.deepEqual(seen, before, name);
      if (journal === 'wal') assert.ok(fs.existsSync(`${file}-wal`) && fs.existsSync(`${file}-shm`), `${name} removed the -wal or -shm`);
      app.exec('COMMIT');
      if (!sql.includes('SELECT')) {
        assert.equal(app.prepare('SELECT count(*) FROM patterns WHERE id = ?').pluck().get(`mine ${name}`), 1, name);
        // A process of its own sees it too: it is in the file, not in one that was unlinked.
        const other = companion(t, `const db = new Database(args[0]); console.log(db.prepare('SELECT count(*) FROM patterns WHERE id = ?').pluck().get(args[1])); db.close();`, [file, `mine ${name}`]);
        assert.equal(await other.line(), '1', name);
        await other.end();
      }
    }
    dump(app);
  });
}

test('an open WAL connection keeps its -wal and -shm, the very same files, through every function', async (t) => {
  const p = project(t);
  const file = p.at('agentdb.db');
  makeDatabase(file, { journal: 'wal', rows: 40 });
  const made = await backup.createBackup({ root: p.root });
  const app = new Database(file);
  t.after(() => void app.close());
  addRows(app, 500, 5);
  const inodes = (): number[] => [`${file}-wal`, `${file}-shm`, file].map((f) => fs.statSync(f).ino);
  const before = inodes();
  let n = 1000;
  for (const [name, call] of Object.entries(calls(p, made.timestamp))) {
    await call().catch(() => undefined);
    assert.deepEqual(inodes(), before, name);
    addRows(app, n++, 1);
    const other = companion(t, `const db = new Database(args[0]); console.log(db.prepare('SELECT count(*) FROM episodes WHERE id = ?').pluck().get(args[1])); db.close();`, [file, String(n - 1)]);
    assert.equal(await other.line(), '1', name);
    await other.end();
  }
  dump(app);
});

for (const journal of ['delete', 'wal'] as const) {
  test(`the application’s own connection sees the restored data, and goes on writing (${journal})`, async (t) => {
    const p = project(t);
    const file = p.at('agentdb.db');
    makeDatabase(file, { journal, rows: 40 });
    const app = new Database(file);
    t.after(() => void app.close());
    const rows = app.prepare('SELECT count(*) FROM episodes').pluck();
    assert.equal(rows.get(), 40);
    const then = dump(app);
    const made = await backup.createBackup({ root: p.root });
    for (let round = 0; round < 5; round++) {
      addRows(app, 1000, 300);
      app.exec(`CREATE TABLE extra${round}(x); DELETE FROM patterns WHERE id LIKE 'p1%'`);
      assert.equal(rows.get(), 340);
      const r = await backup.restoreBackup(made.timestamp, { root: p.root });
      assert.equal(r.success, true, r.error);
      assert.equal(rows.get(), 40);
      assert.equal(dump(app), then);
    }
    addRows(app, 5000, 1);
    const other = companion(t, `const db = new Database(args[0]); console.log(db.prepare('SELECT count(*) FROM episodes').pluck().get()); db.close();`, [file]);
    assert.equal(await other.line(), '41');
    await other.end();
  });

  test(`two writers and a backup in a loop: no acknowledged commit is lost, no snapshot is torn, no writer sees an error (${journal})`, { timeout: 600_000 }, async (t) => {
    const p = project(t);
    const file = p.at('agentdb.db');
    withDatabase(file, (db) => {
      db.pragma(`journal_mode = ${journal}`);
      db.exec('CREATE TABLE ledger(id INTEGER PRIMARY KEY, generation INTEGER, pad BLOB); CREATE TABLE log(writer TEXT, n INTEGER, PRIMARY KEY (writer, n)) WITHOUT ROWID');
      const insert = db.prepare('INSERT INTO ledger VALUES (?, 0, randomblob(3000))');
      db.transaction(() => { for (let i = 0; i < 100; i++) insert.run(i); })();
    });
    // Each commit changes every page of the ledger and says so in the log: a snapshot between two of them is not one.
    const commit = "UPDATE ledger SET generation = generation + 1, pad = randomblob(3000)";
    const seconds = 5;
    const other = companion(
      t,
      `const db = new Database(args[0], { timeout: 300000 });
       db.pragma('synchronous = OFF');
       const log = db.prepare("INSERT INTO log VALUES ('other', ?)"), change = db.prepare(args[1]);
       const one = db.transaction((n) => { change.run(); log.run(n); });
       let n = 0, on = true;
       process.stdin.on('data', () => {}).on('end', () => { on = false; });
       console.log('writing');
       while (on) { one.immediate(n + 1); n++; await new Promise((r) => setTimeout(r, 1)); }
       db.close(); console.log(n);`,
      [file, commit],
    );
    assert.equal(await other.line(), 'writing');

    const app = new Database(file, { timeout: 300_000 });
    app.pragma('synchronous = OFF');
    const [log, change] = [app.prepare("INSERT INTO log VALUES ('app', ?)"), app.prepare(commit)];
    const one = app.transaction((n: number) => { change.run(); log.run(n); });
    let mine = 0;
    let writing = true;
    const writer = (async () => {
      while (writing) {
        one.immediate(mine + 1);
        mine++;
        await sleep(1);
      }
    })();

    let snapshots = 0;
    t.after(async () => {
      writing = false;
      await writer.catch(() => undefined);
      app.close();
    });
    for (const end = Date.now() + seconds * 1000; Date.now() < end || snapshots < 5; snapshots++) {
      const made = await backup.createBackup({ root: p.root, compress: false, keepLast: 3, busyTimeoutMs: 300_000 });
      assert.equal(made.success, true, made.error);
      assert.ok(fs.existsSync(made.files[0]!), 'the set that was just made is gone');
      withDatabase(made.files[0]!, (db) => {
        const generations = db.prepare('SELECT DISTINCT generation FROM ledger').pluck().all();
        assert.equal(generations.length, 1, `a torn snapshot: generations ${generations.join(', ')}`);
        assert.equal(db.prepare('SELECT count(*) FROM log').pluck().get(), generations[0], 'a torn snapshot: log and ledger disagree');
        dump(db);
      });
    }
    writing = false;
    await writer;
    other.child.stdin?.end();
    const theirs = Number(await other.line());
    const run = await other.end();
    assert.equal(run.status, 0, run.stderr);

    assert.ok(snapshots >= 5 && mine > 0 && theirs > 0, `${snapshots} snapshots, ${mine} and ${theirs} commits`);
    const found = app.prepare<[], { writer: string; n: number; top: number }>('SELECT writer, count(*) AS n, max(n) AS top FROM log GROUP BY writer ORDER BY writer').all();
    assert.deepEqual(found, [{ writer: 'app', n: mine, top: mine }, { writer: 'other', n: theirs, top: theirs }]);
    assert.deepEqual(app.prepare('SELECT DISTINCT generation FROM ledger').pluck().all(), [mine + theirs]);
    dump(app);
  });
}

async function afterMany(t: Context, journal: 'wal' | 'delete', open: boolean, times: number, each: (p: Project, ts: string) => Promise<unknown>): Promise<void> {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { journal, rows: 5 });
  makeDatabase(p.at('.agentic-qe/memory.db'), { journal, rows: 5 });
  const made = await backup.createBackup({ root: p.root, compress: false, kind: 'manual' });
  const apps = open ? ['agentdb.db', '.agentic-qe/memory.db'].map((s) => new Database(p.at(s))) : [];
  t.after(() => apps.forEach((db) => void db.close()));
  apps.forEach((db) => addRows(db, 100, 1));
  for (let i = 0; i < 5; i++) await each(p, made.timestamp);
  const before = openDescriptors();
  for (let i = 0; i < times; i++) await each(p, made.timestamp);
  const after = openDescriptors();
  assert.ok(after <= before + 2, `${before} descriptors became ${after}`);
}

for (const journal of ['delete', 'wal'] as const) {
  for (const open of [false, true]) {
    test(`descriptors do not grow over 200 backups (${journal}, ${open ? 'with' : 'without'} an open connection of the application)`, { timeout: 600_000 }, async (t) => {
      await afterMany(t, journal, open, 200, async (p) => {
        const made = await backup.createBackup({ root: p.root, compress: false, keepLast: 2 });
        assert.equal(made.success, true, made.error);
      });
    });
  }
}

test('descriptors do not grow over restores, comparisons and verifications', { timeout: 600_000 }, async (t) => {
  await afterMany(t, 'wal', true, 30, async (p, ts) => {
    const r = await backup.restoreBackup(ts, { root: p.root });
    assert.equal(r.success, true, r.error);
    await backup.compareBackup(ts, { root: p.root });
    assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
    await backup.restoreBackup(r.safetyBackup!, { root: p.root });
    await backup.cleanOldBackups(1, { root: p.root });
  });
});

test('failing runs keep no descriptors either', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 5 });
  const made = await backup.createBackup({ root: p.root, compress: false });
  const app = new Database(p.at('agentdb.db'));
  t.after(() => void app.close());
  app.exec('BEGIN EXCLUSIVE');
  const fail = async (): Promise<void> => {
    assert.equal((await backup.createBackup({ root: p.root, busyTimeoutMs: 0 })).code, 'DATABASE_BUSY');
    assert.equal((await backup.restoreBackup(made.timestamp, { root: p.root, busyTimeoutMs: 0 })).code, 'DATABASE_BUSY');
  };
  for (let i = 0; i < 3; i++) await fail();
  const before = openDescriptors();
  for (let i = 0; i < 50; i++) await fail();
  assert.ok(openDescriptors() <= before + 2, `${before} descriptors became ${openDescriptors()}`);
  app.exec('COMMIT');
  assert.equal(count(p.at('agentdb.db')), 5);
  assert.equal(Object.keys(sets(p.backups)).length, 4, 'copy, checksum, record and seal are all there is');
});

test('a record that names a live database as its copy has it neither opened nor its locks dropped', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(made.success, true, made.error);
  editMetadata(p.backups, made.timestamp, (m) => void (m.databases[0]!.file = '../../agentdb.db'));
  const app = new Database(p.at('agentdb.db'));
  t.after(() => void app.close());
  app.exec("BEGIN IMMEDIATE; INSERT INTO patterns VALUES ('mine', 'not yet')");
  const before = ownLocks(p.at('agentdb.db'));
  assert.ok(before.length > 0, 'the application holds no lock');
  const options = { root: p.root, busyTimeoutMs: 50 };
  assert.equal(await backup.verifyBackup(made.timestamp, options), false);
  assert.equal((await backup.inspectBackup(made.timestamp, options)).ok, false);
  assert.equal((await backup.restoreBackup(made.timestamp, options)).success, false);
  assert.deepEqual(ownLocks(p.at('agentdb.db')), before);
  app.exec('COMMIT');
});

const linkable: Record<string, string> = {
  'a copy': 'agentdb.db.backup.TS',
  'the checksum of a copy': 'agentdb.db.backup.TS.sha256',
  'an archive': 'databases-backup-TS.tar.gz',
  'the checksum of an archive': 'databases-backup-TS.tar.gz.sha256',
  'a record': 'backup-metadata.TS.json',
  'a seal': 'backup-metadata.TS.json.sha256',
  'the note of an interrupted restore': '.restore-intent.json',
  'the sign that a set is in use': '.in-use-TS',
};
for (const [what, artefact] of Object.entries(linkable)) {
  test(`a hard link to a live database in the place of ${what} has it neither opened nor its locks dropped`, { timeout: 600_000 }, async (t) => {
    const p = project(t);
    const file = p.at('agentdb.db');
    makeDatabase(file);
    const made = await backup.createBackup({ root: p.root });
    assert.equal(made.success, true, made.error);
    const ts = made.timestamp;
    const at = path.join(p.backups, artefact.replace('TS', ts));
    const app = new Database(file);
    t.after(() => void app.close());
    const options = { root: p.root, busyTimeoutMs: 50 };
    const functions: Record<string, () => Promise<unknown>> = {
      listBackups: () => backup.listBackups({ ...options, archives: true }),
      verifyBackup: () => backup.verifyBackup(ts, options),
      inspectBackup: () => backup.inspectBackup(ts, options),
      compareBackup: () => backup.compareBackup(ts, options),
      checkHealth: () => backup.checkHealth(options),
      restoreBackup: () => backup.restoreBackup(ts, options),
      'restoreBackup without verify': () => backup.restoreBackup(ts, { ...options, force: true, verify: false }),
      createBackup: () => backup.createBackup(options),
      cleanOldBackups: () => backup.cleanOldBackups(1, options),
      recover: () => backup.recover(options),
    };
    let n = 0;
    for (const [name, call] of Object.entries(functions)) {
      fs.rmSync(at, { force: true });
      fs.linkSync(file, at);
      app.exec(`BEGIN IMMEDIATE; INSERT INTO patterns VALUES ('mine ${n++}', 'not yet')`);
      const before = ownLocks(file);
      assert.ok(before.length > 0, 'the application holds no lock');
      const outcome = await call().catch((e: Error) => e);
      assert.deepEqual(ownLocks(file), before, name);
      if (name === 'verifyBackup' && !artefact.startsWith('.')) assert.equal(outcome, false);
      app.exec('COMMIT');
    }
    assert.equal(count(file, 'patterns'), 50 + n);
    dump(app);
  });
}

test('hard links of a backups folder (cp -al) are backups like any others: listed, verified by many at once, compared, restored, added to', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  const file = p.at('agentdb.db');
  makeDatabase(file);
  const then = contents(file);
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  const snapshot = p.at('snapshot');
  const linked = await exec('cp', ['-al', p.backups, snapshot]);
  assert.equal(linked.status, 0, linked.stderr);
  assert.equal(fs.statSync(made.files[0]!).nlink, 2);
  const app = new Database(file);
  t.after(() => void app.close());
  for (const backupDir of [p.backups, snapshot]) {
    addRows(app, 1000, 5);
    const options = { root: p.root, backupDir };
    assert.deepEqual((await backup.listBackups(options)).map((b) => [b.timestamp, b.complete]), [[made.timestamp, true]]);
    const folders = [p.backups, snapshot];
    const all = await Promise.all(Array.from({ length: 12 }, (_, i) => backup.inspectBackup(made.timestamp, { root: p.root, backupDir: folders[i % 2]! })));
    for (const one of all) assert.equal(one.ok, true, JSON.stringify(one));
    assert.ok(await backup.compareBackup(made.timestamp, options));
    const r = await backup.restoreBackup(made.timestamp, options);
    assert.equal(r.success, true, r.error);
    assert.equal(dump(app), then);
    const again = await backup.createBackup(options);
    assert.equal(again.success, true, again.error);
  }
});
