// What a hostile tester found once, each named after what was lost or told wrongly.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import { bin, cleanEnv, codeOf, contents, copyOf, count, editMetadata, exec, makeDatabase, metadataPath, ownLocks, project, sealPath, sets, tempFolder, withDatabase, type Context, type Project } from './helpers/project';
import { needStrace } from './helpers/syscalls';

async function twoInRoot(t: Context, options: backup.CreateBackupOptions = {}): Promise<{ p: Project; ts: string }> {
  const p = project(t);
  for (const name of ['a.db', 'b.db']) makeDatabase(p.at(name), { rows: 20 });
  const made = await backup.createBackup({ root: p.root, ...options });
  assert.equal(made.success, true, made.error);
  return { p, ts: made.timestamp };
}

const empty = (file: string): void => withDatabase(file, (db) => void db.exec('DELETE FROM episodes'));

test('half a restore is not called rolled back: whichever fsync, unlink or rename fails, all is old after a failure and all is new after a success', async (t) => {
  needStrace();
  const template = project(t);
  makeDatabase(template.at('agentdb.db'), { rows: 20 });
  makeDatabase(template.at('missing.db'), { rows: 20 });
  fs.writeFileSync(template.at('plain.db'), 'then');
  const made = await backup.createBackup({ root: template.root, compress: false });
  empty(template.at('agentdb.db'));
  fs.rmSync(template.at('missing.db'));
  fs.writeFileSync(template.at('plain.db'), 'now!');

  const folder = tempFolder(t);
  const state = (root: string): string[] => [
    count(path.join(root, 'agentdb.db')) === 20 ? 'new' : 'old',
    fs.existsSync(path.join(root, 'missing.db')) ? 'new' : 'old',
    fs.readFileSync(path.join(root, 'plain.db'), 'utf8') === 'then' ? 'new' : 'old',
  ];
  let failures = 0;
  for (const call of ['fsync', 'unlink', 'renameat2', 'rename']) {
    for (let when = 1; when < 40; when++) {
      const root = path.join(folder, `${call}-${when}`);
      fs.cpSync(template.root, root, { recursive: true });
      const run = await exec('strace', ['-f', '-qq', '-o', path.join(folder, 'trace'), '-e', `trace=${call}`, '-e', `inject=${call}:error=EIO:when=${when}`, process.execPath, bin, 'restore', made.timestamp, '--force', '--json'], { cwd: root, env: cleanEnv() });
      const injected = fs.readFileSync(path.join(folder, 'trace'), 'utf8').includes('INJECTED');
      const point = `${call} ${when}: ${run.status} ${run.stdout}`;
      // What was said must still be so after the next run: no restore that was called failed may be finished later.
      if (run.status !== 6) assert.equal(new Set(state(root)).size, 1, `${point}: ${state(root).join(', ')}`);
      assert.equal((await exec(process.execPath, [bin, 'recover'], { cwd: root, env: cleanEnv() })).status, 0, point);
      const after = state(root);
      assert.equal(new Set(after).size, 1, `${point}: ${after.join(', ')}`);
      if (run.status === 0) assert.equal(after[0], 'new', point);
      else if (run.status !== 6) assert.equal(after[0], 'old', point);
      if (run.status !== 0) failures++;
      fs.rmSync(root, { recursive: true });
      if (!injected) break;
    }
  }
  assert.ok(failures > 5, `only ${failures} runs failed: nothing was injected`);
});

test('a restore that is rolled back under a writer loses none of its commits', async (t) => {
  const p = project(t);
  makeDatabase(p.at('c.db'), { rows: 20 });
  fs.writeFileSync(p.at('a.db'), 'then');
  makeDatabase(p.at('sub/b.db'), { rows: 20 });
  const databases = ['a.db', 'c.db', 'sub/b.db'];
  const made = await backup.createBackup({ root: p.root, databases });
  fs.writeFileSync(p.at('a.db'), 'now');
  withDatabase(p.at('c.db'), (db) => void db.exec('PRAGMA journal_mode = WAL; CREATE TABLE acked(n INTEGER)'));
  // sub/b.db can't be put back: its folder leads nowhere. a.db is replaced before that is found out, and put back after.
  fs.rmSync(p.at('sub'), { recursive: true });
  fs.symlinkSync(p.at('nowhere/at/all'), p.at('sub'));
  const db = new Database(p.at('c.db'));
  t.after(() => void db.close());
  const insert = db.prepare('INSERT INTO acked VALUES (?)');
  let n = 0;
  let on = true;
  const writer = (async () => {
    while (on) {
      try {
        insert.run(n + 1);
        n++;
      } catch (e) {
        assert.equal((e as { code?: string }).code, 'SQLITE_BUSY');
      }
      await new Promise((r) => setTimeout(r, 1));
    }
  })();
  const r = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
  on = false;
  await writer;
  assert.deepEqual([r.success, r.code], [false, 'RESTORE_ROLLED_BACK'], r.error);
  assert.equal(fs.readFileSync(p.at('a.db'), 'utf8'), 'now');
  assert.equal(db.prepare('SELECT count(*) FROM acked').pluck().get(), n, 'an acknowledged commit is gone');
  assert.ok(n > 0);
});

test('a database stays in WAL mode when a restore that changes its page size is killed anywhere and finished by recover', async (t) => {
  const template = project(t);
  makeDatabase(template.at('a.db'), { rows: 20 });
  withDatabase(template.at('a.db'), (db) => void db.exec('PRAGMA journal_mode = DELETE; PRAGMA page_size = 8192; VACUUM; PRAGMA journal_mode = WAL'));
  const made = await backup.createBackup({ root: template.root, compress: false });
  withDatabase(template.at('a.db'), (db) => void db.exec('PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; DELETE FROM episodes; VACUUM; PRAGMA journal_mode = WAL'));
  const folder = tempFolder(t);
  const seen = new Set<string>();
  for (const call of ['fsync', 'fdatasync', 'pwrite64', 'unlink']) {
    for (let when = 1; when < 200; when += call === 'pwrite64' ? 9 : 1) {
      const root = path.join(folder, `${call}-${when}`);
      fs.cpSync(template.root, root, { recursive: true });
      const run = await exec('strace', ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=SIGKILL:when=${when}`, process.execPath, bin, 'restore', made.timestamp, '--force'], { cwd: root, env: cleanEnv() });
      assert.equal((await exec(process.execPath, [bin, 'recover'], { cwd: root, env: cleanEnv() })).status, 0);
      const [rows, mode, size] = withDatabase(path.join(root, 'a.db'), (db) => [db.prepare('SELECT count(*) FROM episodes').pluck().get(), db.pragma('journal_mode', { simple: true }), db.pragma('page_size', { simple: true })]);
      assert.ok((rows === 20 && size === 8192) || (rows === 0 && size === 1024), `${call} ${when}: ${rows} rows, ${size}`);
      assert.equal(mode, 'wal', `${call} ${when}`);
      seen.add(String(rows));
      fs.rmSync(root, { recursive: true });
      if (run.status === 0) break;
    }
  }
  assert.deepEqual([...seen].sort(), ['0', '20']);
});

test('a set that lost its metadata file does not verify while its archive still has one, and goes back to where the archive says', async (t) => {
  const { p, ts } = await twoInRoot(t);
  fs.rmSync(metadataPath(p.backups, ts));
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), false);
  empty(p.at('a.db'));
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.ok(r.warnings.some((w) => w.includes('archive')), r.warnings.join('\n'));
  assert.equal(count(p.at('a.db')), 20);
  assert.equal(fs.existsSync(p.at('.agentic-qe/a.db')), false);
});

test('a set without metadata makes no second database beside the one that is meant, unless forced', async (t) => {
  const { p, ts } = await twoInRoot(t, { compress: false });
  for (const file of [metadataPath(p.backups, ts), sealPath(p.backups, ts)]) fs.rmSync(file);
  const r = await backup.restoreBackup(ts, { root: p.root });
  assert.deepEqual([r.success, r.code], [false, 'NEEDS_FORCE'], r.error);
  assert.equal(fs.existsSync(p.at('.agentic-qe/a.db')), false);
});

const contradictions: [string, (m: { databases: Record<string, unknown>[] }) => void][] = [
  ['does not name a copy that is there', (m) => void m.databases.pop()],
  ['names no database', (m) => void (m.databases = [])],
  ['names one source twice', (m) => void (m.databases[1]!.source = m.databases[0]!.source)],
];
for (const [what, edit] of contradictions) {
  test(`metadata that ${what} does not verify`, async (t) => {
    const { p, ts } = await twoInRoot(t, { compress: false });
    editMetadata(p.backups, ts, edit as never);
    assert.equal(await backup.verifyBackup(ts, { root: p.root }), false);
  });
}

test('metadata that differs from the one in the archive does not verify', async (t) => {
  const { p, ts } = await twoInRoot(t);
  editMetadata(p.backups, ts, (m) => void (m.databases[0]!.source = 'c.db'));
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), false);
});

for (const source of ['b.db-wal', 'b.db-journal', '.agentic-qe/backups/evil.db']) {
  test(`nothing is restored as ${JSON.stringify(source)}, force or not`, async (t) => {
    const { p, ts } = await twoInRoot(t, { compress: false });
    editMetadata(p.backups, ts, (m) => void (m.databases[0]!.source = source));
    const r = await backup.restoreBackup(ts, { root: p.root, force: true });
    assert.deepEqual([r.success, r.code], [false, 'BACKUP_DAMAGED'], r.error);
    assert.equal(fs.existsSync(p.at(source)), false);
  });
}

for (const what of ['copy', 'sidecar', 'metadata', 'archive'] as const) {
  test(`a fifo in the place of a set's ${what} is damage, and hangs neither list, verify nor restore`, async (t) => {
    const { p, ts } = await twoInRoot(t);
    const file = { copy: copyOf(p.backups, ts, 'a.db'), sidecar: `${copyOf(p.backups, ts, 'a.db')}.sha256`, metadata: metadataPath(p.backups, ts), archive: path.join(p.backups, `databases-backup-${ts}.tar.gz`) }[what];
    fs.rmSync(file);
    assert.equal((await exec('mkfifo', [file])).status, 0);
    assert.equal((await backup.listBackups({ root: p.root })).length, 1);
    assert.equal(await backup.verifyBackup(ts, { root: p.root }), false);
    empty(p.at('a.db'));
    const r = await backup.restoreBackup(ts, { root: p.root });
    assert.equal(r.success, true, r.error);
    assert.equal(count(p.at('a.db')), 20);
  });
}

for (const name of ['back\\slash.db', 'new\nline.db']) {
  test(`a database called ${JSON.stringify(name)} is backed up, verified and restored, archive included`, async (t) => {
    const p = project(t);
    makeDatabase(p.at(name), { rows: 20 });
    const then = contents(p.at(name));
    const made = await backup.createBackup({ root: p.root });
    assert.equal(made.success, true, made.error);
    assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
    assert.equal((await exec('sh', ['-c', 'sha256sum -c *.sha256'], { cwd: p.backups })).status, 0);
    for (const file of made.files) fs.rmSync(file);
    fs.rmSync(p.at(name));
    const r = await backup.restoreBackup(made.timestamp, { root: p.root });
    assert.equal(r.success, true, r.error);
    assert.equal(contents(p.at(name)), then);
  });
}

test('restores of the same databases from two backups folders in one process do not take each other for failures', async (t) => {
  const { p } = await twoInRoot(t);
  const made = await Promise.all(['one', 'two'].map((dir) => backup.createBackup({ root: p.root, backupDir: dir, compress: false })));
  for (let round = 0; round < 5; round++) {
    const results = await Promise.all([0, 1, 0, 1].map(async (i) => {
      // Each may have to wait for another one that flushes what it has saved.
      if (i === 0) withDatabase(p.at('a.db'), (db) => db.exec('DELETE FROM episodes'), { timeout: 120_000 });
      return backup.restoreBackup(made[i]!.timestamp, { root: p.root, backupDir: ['one', 'two'][i]!, busyTimeoutMs: 120_000, lockTimeoutMs: 120_000 });
    }));
    for (const r of results) assert.equal(r.success, true, `${r.code} ${r.error}`);
  }
});

test('a backup that was made is not called failed because a workflow file cannot be written', async (t) => {
  const p = project(t);
  makeDatabase(p.at('a.db'), { rows: 5 });
  const run = await exec(process.execPath, [bin, 'create', '--json'], { cwd: p.root, env: cleanEnv({ GITHUB_ENV: path.join(p.root, 'no/such/folder') }) });
  assert.equal(run.status, 0, run.stderr);
  assert.ok((JSON.parse(run.stdout) as { warnings: string[] }).warnings.some((w) => w.includes('no/such/folder')));
  assert.ok(Object.keys(sets(p.backups)).length > 0);
});

/** Everything that takes the lock of the backups folder, `checkHealth` where something was left in it. */
function lockers(root: string, ts: string): Record<string, () => Promise<unknown>> {
  const options = { root, busyTimeoutMs: 50 };
  return {
    createBackup: () => backup.createBackup(options),
    createSafetyBackup: () => backup.createSafetyBackup('x', options),
    withSafetyBackup: () => backup.withSafetyBackup('x', () => Promise.resolve(), options),
    restoreBackup: () => backup.restoreBackup(ts, options),
    cleanOldBackups: () => backup.cleanOldBackups(1, options),
    recover: () => backup.recover(options),
    checkHealth: () => backup.checkHealth(options),
  };
}

for (const link of ['symbolic', 'hard'] as const) {
  for (const to of ['a live database', 'an empty live database', 'a file outside the project'] as const) {
    test(`a ${link} link to ${to} in the place of the lock file is not written to, nor are locks on it lost: IO_ERROR, and how to go on`, async (t) => {
      const { p, ts } = await twoInRoot(t);
      const lock = path.join(p.backups, '.lock');
      const file = to === 'a file outside the project' ? path.join(path.dirname(p.root), 'outside.txt') : p.at(to === 'a live database' ? 'a.db' : 'empty.db');
      if (to === 'a file outside the project') fs.writeFileSync(file, 'a file of somebody else');
      fs.mkdirSync(path.join(p.backups, '.staging-20200101-000000'));
      fs.rmSync(lock);
      const app = new Database(to === 'a file outside the project' ? p.at('a.db') : file);
      t.after(() => void app.close());
      if (link === 'hard') fs.linkSync(file, lock);
      else fs.symlinkSync(file, lock);
      app.exec(to === 'an empty live database' ? 'BEGIN IMMEDIATE' : "BEGIN IMMEDIATE; INSERT INTO patterns VALUES ('mine', 'not yet')");
      // By another process: this one would drop the locks that it looks for.
      const bytes = async (): Promise<string> => (await exec('sha256sum', [file])).stdout;
      const [before, held] = [await bytes(), ownLocks(app.name)];
      assert.ok(held.length > 0, 'the application holds no lock');
      for (const [name, call] of Object.entries(lockers(p.root, ts))) {
        const { code, message } = await codeOf(call());
        assert.equal(code, 'IO_ERROR', `${name}: ${message}`);
        assert.match(message, /\.lock .*link.*[Rr]emove it/s, name);
        assert.equal(await bytes(), before, `${name} wrote to it`);
        assert.deepEqual(ownLocks(app.name), held, name);
      }
      app.exec('COMMIT');
      fs.rmSync(lock);
      const made = await backup.createBackup({ root: p.root });
      assert.equal(made.success, true, made.error);
    });
  }
}

for (const [what, put] of Object.entries({
  'a file': (at: string) => fs.writeFileSync(at, 'a file'),
  'a link to a folder outside': (at: string, outside: string) => fs.symlinkSync(outside, at),
  'a link that leads nowhere': (at: string) => fs.symlinkSync('nowhere', at),
})) {
  for (const name of ['.restore', '.staging-20200101-000000', '.staging-TS', '.in-use-20200101-000000']) {
    test(`${what} called ${name} in the backups folder is removed by recover, as check says, and by create, and nothing that it leads to`, async (t) => {
      const { p, ts } = await twoInRoot(t);
      const outside = tempFolder(t, 'outside');
      fs.writeFileSync(path.join(outside, 'kept'), 'kept');
      const at = path.join(p.backups, name.replace('TS', ts));
      for (const verb of ['recover', 'create']) {
        put(at, outside);
        if (!name.startsWith('.in-use')) assert.match((await p.run('check')).stdout, /recover/, verb);
        const run = await p.run(verb);
        assert.equal(run.status, 0, `${verb}: ${run.stdout}${run.stderr}`);
        assert.equal(fs.lstatSync(at, { throwIfNoEntry: false }), undefined, `${verb} left it`);
        assert.equal(fs.readFileSync(path.join(outside, 'kept'), 'utf8'), 'kept', verb);
      }
      assert.equal((await p.run('check')).status, 0);
      assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
    });
  }
}
