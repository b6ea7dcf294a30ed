// What createBackup and createSafetyBackup write, say and refuse.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import {
  addRows, assertNoLeftovers, cleanEnv, codeOf, companion, contents, copyOf, count, exec, flip, holder, makeDatabase, metadataPath, momentOf, project, readMetadata, runScript, sets, sha256, sleep, tempFolder, tree,
  withDatabase, type Project,
} from './helpers/project';

const timestampForm = /^\d{8}-\d{6}$/;

function names(p: Project): string[] {
  return fs.readdirSync(p.backups).filter((n) => n !== '.lock').sort();
}

test('a set is laid down as promised: copies, sidecars, metadata, archive, in a folder of its own with a .gitignore of *', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  makeDatabase(p.at('.agentic-qe/qe-learning.db'));
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  const ts = made.timestamp;
  assert.match(ts, timestampForm);
  assert.deepEqual(
    names(p),
    [
      '.gitignore',
      `agentdb.db.backup.${ts}`,
      `agentdb.db.backup.${ts}.sha256`,
      `backup-metadata.${ts}.json`,
      `backup-metadata.${ts}.json.sha256`,
      `databases-backup-${ts}.tar.gz`,
      `databases-backup-${ts}.tar.gz.sha256`,
      `qe-learning.db.backup.${ts}`,
      `qe-learning.db.backup.${ts}.sha256`,
    ],
  );
  assert.equal(fs.readFileSync(path.join(p.backups, '.gitignore'), 'utf8').trim(), '*');
  assert.equal(fs.statSync(p.backups).mode & 0o777, 0o700);
  for (const name of [`agentdb.db.backup.${ts}`, `qe-learning.db.backup.${ts}`, `databases-backup-${ts}.tar.gz`]) {
    assert.equal(fs.readFileSync(path.join(p.backups, `${name}.sha256`), 'utf8'), `${sha256(path.join(p.backups, name))}  ${name}\n`);
  }
  assert.equal(sha256(path.join(p.backups, `agentdb.db.backup.${ts}`)), sha256(p.at('agentdb.db')), 'the copy is not the database');
});

test('the result has the replaced helper’s fields and the new ones', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 300 });
  makeDatabase(p.at('.agentic-qe/memory.db'), { journal: 'wal' });
  const made = await backup.createBackup({ root: p.root });
  const ts = made.timestamp;
  const files = [path.join(p.backups, `memory.db.backup.${ts}`), path.join(p.backups, `agentdb.db.backup.${ts}`)];
  assert.equal(made.success, true, made.error);
  assert.equal(made.error, undefined);
  assert.equal(made.code, undefined);
  assert.deepEqual([...made.files].sort(), [...files].sort());
  assert.equal(made.totalSize, files.reduce((sum, f) => sum + fs.statSync(f).size, 0));
  assert.equal(made.compressed, true);
  assert.equal(made.kind, 'automated');
  assert.equal(made.archive, path.join(p.backups, `databases-backup-${ts}.tar.gz`));
  assert.deepEqual(
    made.databases.map((d) => ({ ...d })),
    ['.agentic-qe/memory.db', 'agentdb.db'].map((source, i) => ({ source, file: files[i], size: fs.statSync(files[i]!).size, sha256: sha256(files[i]!), integrity: 'ok' })),
  );
  assert.equal(made.removed, 0);
  assert.deepEqual(made.warnings, []);
  assert.equal(typeof made.durationMs, 'number');
  assert.ok(made.durationMs >= 0);
});

test('the metadata has the document’s keys, and per database what SQLite says of it', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 12, journal: 'wal', pageSize: 8192, after: 'PRAGMA user_version = 7; PRAGMA application_id = 1234567; CREATE VIRTUAL TABLE f USING fts5(x)' });
  const made = await backup.createBackup({ root: p.root });
  const m = readMetadata(p.backups, made.timestamp);
  assert.equal(m.timestamp, made.timestamp);
  assert.equal(new Date(m.date).getTime(), momentOf(made.timestamp).getTime());
  assert.match(m.date, /Z$/);
  assert.ok(m.hostname.length > 0 && m.user.length > 0);
  assert.deepEqual([m.git_commit, m.git_branch, m.compressed, m.format, m.kind], ['N/A', 'N/A', true, 1, 'automated']);
  assert.match(m.tool ?? '', /backup/);
  assert.match(m.sqlite_version ?? '', /^3\.\d+\.\d+/);
  assert.equal(m.databases.length, 1);
  const [d] = m.databases;
  const copy = path.join(p.backups, `agentdb.db.backup.${made.timestamp}`);
  assert.deepEqual([d?.file, d?.source, d?.size, d?.sha256], [path.basename(copy), 'agentdb.db', fs.statSync(copy).size, sha256(copy)]);
  const s = d?.sqlite;
  assert.ok(s);
  assert.deepEqual(
    [s.page_size, s.page_count, s.journal_mode, s.encoding, s.user_version, s.application_id, s.integrity],
    [8192, fs.statSync(copy).size / 8192, 'wal', 'UTF-8', 7, 1234567, 'ok'],
  );
  assert.deepEqual([s.tables.episodes, s.tables.patterns], [12, 12]);
});

test('inside a git work tree the metadata names commit and branch, even a branch with quotes', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const env = cleanEnv({ GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' });
  const git = (...args: string[]): string => execFileSync('git', args, { cwd: p.root, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  git('init', '-q');
  const branch = `it's/"q"`;
  git('checkout', '-q', '-b', branch);
  git('-c', 'user.name=x', '-c', 'user.email=x@example.org', 'commit', '-q', '--allow-empty', '-m', 'one');
  const head = git('rev-parse', 'HEAD');
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  const m = readMetadata(p.backups, made.timestamp);
  assert.ok(m.git_commit.length >= 7 && head.startsWith(m.git_commit), `${m.git_commit} is not ${head}`);
  assert.equal(m.git_branch, branch);
});

test('the archive holds all of the set, flat, and each member is the file beside it', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 500 });
  makeDatabase(p.at('.agentic-qe/memory.db'));
  const made = await backup.createBackup({ root: p.root });
  const out = tempFolder(t);
  const run = await exec('tar', ['-xzf', made.archive!, '-C', out]);
  assert.equal(run.status, 0, run.stderr);
  const expected = names(p).filter((n) => n !== '.gitignore' && !n.startsWith('databases-backup-'));
  assert.deepEqual(fs.readdirSync(out).sort(), expected);
  for (const name of expected) assert.equal(sha256(path.join(out, name)), sha256(path.join(p.backups, name)), name);
});

test('compress: false makes no archive and says so', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.deepEqual([made.success, made.compressed, made.archive], [true, false, undefined]);
  assert.equal(readMetadata(p.backups, made.timestamp).compressed, false);
  assert.deepEqual(names(p).filter((n) => n.includes('tar')), []);
});

test('verify: false makes a set that says it was not checked', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root, verify: false });
  assert.equal(made.success, true, made.error);
  const m = readMetadata(p.backups, made.timestamp);
  assert.deepEqual([m.verified, m.databases[0]?.sqlite?.integrity], [false, 'not-checked']);
  assert.equal((await backup.createBackup({ root: p.root })).success, true);
});

test('kind and label reach the metadata; a safety backup carries its operation, is compressed and verified', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const manual = await backup.createBackup({ root: p.root, kind: 'manual', label: 'before “1.0”\n$(x)' });
  const m = readMetadata(p.backups, manual.timestamp);
  assert.deepEqual([manual.kind, m.kind, m.label], ['manual', 'manual', 'before “1.0”\n$(x)']);
  const safety = await backup.createSafetyBackup('agentdb-migration', { root: p.root });
  const s = readMetadata(p.backups, safety.timestamp);
  assert.deepEqual([safety.success, safety.kind, s.kind, s.operation, s.compressed, s.verified], [true, 'safety', 'safety', 'agentdb-migration', true, true]);
});

test('every file is 0600 whatever the umask', async (t) => {
  for (const umask of ['0', '077', '0277']) {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'));
    const made = await runScript<backup.BackupResult>(`process.umask(parseInt(args[1], 8)); console.log(JSON.stringify(await backup.createBackup({ root: args[0] })))`, [p.root, umask]);
    assert.equal(made.success, true, made.error);
    for (const [name, what] of Object.entries(sets(p.backups))) assert.match(what, /^600 /, `${name} with umask ${umask}: ${what}`);
    assert.equal(fs.statSync(p.backups).mode & 0o777, 0o700, `the folder with umask ${umask}`);
  }
});

test('the timestamp is UTC whatever the time zone', async (t) => {
  for (const TZ of ['Pacific/Kiritimati', 'America/Adak']) {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'));
    const from = Math.floor(Date.now() / 1000) * 1000;
    const made = await runScript<backup.BackupResult>(`console.log(JSON.stringify(await backup.createBackup({ root: args[0] })))`, [p.root], { env: cleanEnv({ TZ }) });
    const moment = momentOf(made.timestamp).getTime();
    assert.ok(moment >= from && moment <= Date.now(), `${made.timestamp} is not now`);
  }
});

test('backups asked for in the same second each get a timestamp and files of their own', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await Promise.all(Array.from({ length: 6 }, () => backup.createBackup({ root: p.root, compress: false, lockTimeoutMs: 300_000 })));
  for (const m of made) assert.equal(m.success, true, m.error);
  assert.equal(new Set(made.map((m) => m.timestamp)).size, 6);
  assert.equal(new Set(made.flatMap((m) => m.files)).size, 6);
  for (const m of made) assert.equal(await backup.verifyBackup(m.timestamp, { root: p.root }), true);
});

test('two databases of one name become two files, and each goes back to where it came from', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 10 });
  makeDatabase(p.at('.agentic-qe/agentdb.db'), { rows: 20 });
  makeDatabase(p.at('memory.db'), { rows: 30 });
  makeDatabase(p.at('.agentic-qe/memory.db'), { rows: 40 });
  const all = { 'agentdb.db': 10, '.agentic-qe/agentdb.db': 20, 'memory.db': 30, '.agentic-qe/memory.db': 40 };
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.equal(new Set(made.files).size, 4);
  const ts = made.timestamp;
  assert.equal(path.basename(copyOf(p.backups, ts, 'agentdb.db')), `agentdb.db.backup.${ts}`);
  assert.equal(path.basename(copyOf(p.backups, ts, '.agentic-qe/memory.db')), `memory.db.backup.${ts}`);
  assert.equal(path.basename(copyOf(p.backups, ts, '.agentic-qe/agentdb.db')), `.agentic-qe__agentdb.db.backup.${ts}`);
  for (const [source, rows] of Object.entries(all)) {
    assert.equal(count(copyOf(p.backups, ts, source)), rows, source);
    withDatabase(p.at(source), (db) => db.exec('DELETE FROM episodes'));
  }
  assert.equal((await backup.restoreBackup(ts, { root: p.root })).success, true);
  for (const [source, rows] of Object.entries(all)) assert.equal(count(p.at(source)), rows, source);
});

test('without a choice, *.db in the root and in .agentic-qe are the databases, and nothing else', async (t) => {
  const p = project(t);
  for (const source of ['agentdb.db', 'other.db', '.agentic-qe/memory.db', 'deep/er.db', '.hidden.db', '.agentic-qe/.hidden.db', 'x.sqlite', '.agentic-qe/sub/y.db']) makeDatabase(p.at(source), { rows: 1 });
  const made = await backup.createBackup({ root: p.root });
  assert.deepEqual(made.databases.map((d) => d.source), ['.agentic-qe/memory.db', 'agentdb.db', 'other.db']);
});

test('databases takes paths and globs relative to the root', async (t) => {
  const p = project(t);
  for (const source of ['agentdb.db', 'data/a.sqlite', 'data/b.sqlite', 'data/deep/c.sqlite', 'x.sqlite']) makeDatabase(p.at(source), { rows: 1 });
  const made = await backup.createBackup({ root: p.root, databases: ['data/*.sqlite', 'x.sqlite'] });
  assert.equal(made.success, true, made.error);
  assert.deepEqual(made.databases.map((d) => d.source), ['data/a.sqlite', 'data/b.sqlite', 'x.sqlite']);
  fs.rmSync(p.at('data'), { recursive: true });
  assert.equal((await backup.restoreBackup(made.timestamp, { root: p.root })).success, true);
  assert.equal(count(p.at('data/a.sqlite')), 1);
});

test('a database that was asked for by name and is not there is an error that names it, and nothing is left', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const r = await backup.createBackup({ root: p.root, databases: ['agentdb.db', 'missing.db'] });
  assert.equal(r.success, false);
  assert.match(r.error ?? '', /missing\.db/);
  assert.deepEqual(sets(p.backups), {});
});

test('backupDir may be absolute', async (t) => {
  const p = project(t);
  const elsewhere = path.join(tempFolder(t), 'deep', 'er');
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root, backupDir: elsewhere });
  assert.equal(made.success, true, made.error);
  assert.deepEqual(made.files.map((f) => path.dirname(f)), [elsewhere]);
  assert.equal(fs.existsSync(p.backups), false);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root, backupDir: elsewhere }), true);
});

test('no database at all is NO_DATABASES, and a parent that looks like a project is pointed out', async (t) => {
  const p = project(t);
  makeDatabase(p.at('.agentic-qe/memory.db'));
  fs.mkdirSync(p.at('src'));
  const r = await backup.createBackup({ root: p.at('src') });
  assert.deepEqual([r.success, r.code], [false, 'NO_DATABASES']);
  assert.ok(r.error?.includes(p.root), `the message does not name ${p.root}: ${r.error}`);
  assert.deepEqual(fs.readdirSync(p.at('src')), []);
  const empty = project(t);
  const s = await backup.createBackup({ root: empty.root });
  assert.deepEqual([s.success, s.code], [false, 'NO_DATABASES']);
});

test('a .db that is not SQLite is backed up as a plain file and comes back as it was', async (t) => {
  const p = project(t);
  const text = 'not a database at all\n'.repeat(3000);
  fs.writeFileSync(p.at('notes.db'), text);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.equal(fs.readFileSync(copyOf(p.backups, made.timestamp, 'notes.db'), 'utf8'), text);
  assert.equal(readMetadata(p.backups, made.timestamp).databases.find((d) => d.source === 'notes.db')?.sqlite, null);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
  fs.writeFileSync(p.at('notes.db'), 'something else');
  const restored = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
  assert.equal(restored.success, true, restored.error);
  assert.equal(fs.readFileSync(p.at('notes.db'), 'utf8'), text);
});

test('a symbolic link is followed to its file, on the way out and on the way back', async (t) => {
  const p = project(t);
  const elsewhere = path.join(tempFolder(t), 'real.db');
  makeDatabase(elsewhere);
  const then = contents(elsewhere);
  fs.mkdirSync(p.at('.agentic-qe'));
  fs.symlinkSync(elsewhere, p.at('.agentic-qe/memory.db'));
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.equal(fs.lstatSync(made.files[0]!).isFile(), true);
  withDatabase(elsewhere, (db) => db.exec('DELETE FROM episodes'));
  const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(restored.success, true, restored.error);
  assert.equal(contents(elsewhere), then);
  assert.equal(fs.lstatSync(p.at('.agentic-qe/memory.db')).isSymbolicLink(), true);
});

const strangers: [string, (file: string) => void][] = [
  ['a dangling link', (f) => fs.symlinkSync('nowhere', f)],
  ['a link to a folder', (f) => fs.symlinkSync('.', f)],
  ['a folder', (f) => fs.mkdirSync(f)],
  ['a FIFO', (f) => void execFileSync('mkfifo', [f])],
  ['a link to a device', (f) => fs.symlinkSync('/dev/zero', f)],
];
for (const [what, make] of strangers) {
  test(`${what} in a database’s place is an error that names it, and leaves nothing`, { timeout: 600_000 }, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'));
    make(p.at('odd.db'));
    const r = await codeOf(backup.createBackup({ root: p.root }));
    assert.notEqual(r.code, undefined, 'it was backed up');
    assert.notEqual(r.code, 'no code');
    assert.match(r.message, /odd\.db/);
    assert.deepEqual(sets(p.backups), {});
  });
}

test('a damaged database is SOURCE_DAMAGED; the set is kept, and marked', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 2000 });
  makeDatabase(p.at('.agentic-qe/memory.db'));
  const size = fs.statSync(p.at('agentdb.db')).size;
  const fd = fs.openSync(p.at('agentdb.db'), 'r+');
  for (let page = 2; page * 4096 < size; page += 3) fs.writeSync(fd, Buffer.alloc(512, 0xa5), 0, 512, page * 4096);
  fs.closeSync(fd);
  const r = await backup.createBackup({ root: p.root });
  assert.deepEqual([r.success, r.code], [false, 'SOURCE_DAMAGED']);
  assert.match(r.error ?? '', /agentdb\.db/);
  const m = readMetadata(p.backups, r.timestamp);
  const record = m.databases.find((d) => d.source === 'agentdb.db');
  assert.equal(record?.sqlite?.integrity, 'damaged');
  assert.equal(m.databases.find((d) => d.source === '.agentic-qe/memory.db')?.sqlite?.integrity, 'ok');
  assert.ok((await backup.listBackups({ root: p.root })).some((b) => b.timestamp === r.timestamp));
  assertNoLeftovers(p.backups);
});

test('a database that another connection keeps to itself is DATABASE_BUSY, and nothing is left', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  makeDatabase(p.at('.agentic-qe/memory.db'));
  await holder(t, p.at('.agentic-qe/memory.db'), 'BEGIN EXCLUSIVE');
  const r = await backup.createBackup({ root: p.root, busyTimeoutMs: 150 });
  assert.deepEqual([r.success, r.code], [false, 'DATABASE_BUSY']);
  assert.match(r.error ?? '', /memory\.db/);
  assert.deepEqual(sets(p.backups), {});
});

test('a short lock is waited out, and the event loop goes on meanwhile', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 5 });
  const app = new Database(p.at('agentdb.db'));
  t.after(() => void app.close());
  app.exec('BEGIN EXCLUSIVE; DELETE FROM episodes WHERE id = 1');
  // Only this thread can end the transaction: a call that blocked it would find the database busy until its time is up.
  const release = sleep(400).then(() => app.exec('COMMIT'));
  const made = await backup.createBackup({ root: p.root, busyTimeoutMs: 60_000 });
  await release;
  assert.equal(made.success, true, made.error);
  assert.equal(count(made.files[0]!), 4);
});

test('a WAL writer in mid-transaction neither stops a backup nor shows in it', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 5, journal: 'wal' });
  const other = await holder(t, p.at('agentdb.db'), "BEGIN IMMEDIATE; INSERT INTO patterns VALUES ('half', 'done')");
  const made = await backup.createBackup({ root: p.root, busyTimeoutMs: 200 });
  assert.equal(made.success, true, made.error);
  assert.equal(count(made.files[0]!, 'patterns'), 5);
  assert.equal((await other.end()).status, 0);
  assert.equal(count(p.at('agentdb.db'), 'patterns'), 6);
});

test('a run that finds the backups folder locked waits for lockTimeoutMs, then says LOCK_TIMEOUT; list and verify need no lock', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root, compress: false });
  const other = companion(
    t,
    `const { spawn } = require('node:child_process');
     const c = spawn('flock', ['-x', args[0], 'sh', '-c', 'echo locked; exec cat'], { stdio: ['pipe', 'inherit', 'inherit'] });
     process.stdin.pipe(c.stdin); c.on('exit', () => process.exit());`,
    [path.join(p.backups, '.lock')],
  );
  assert.equal(await other.line(), 'locked');
  const before = sets(p.backups);
  const options = { root: p.root, lockTimeoutMs: 150 };
  for (const call of [() => backup.createBackup(options), () => backup.createSafetyBackup('x', options), () => backup.restoreBackup(made.timestamp, options), () => backup.cleanOldBackups(1, options), () => backup.recover(options)]) {
    const r = await codeOf(call());
    assert.equal(r.code, 'LOCK_TIMEOUT', call.toString());
    assert.ok(r.message.includes(p.backups), r.message);
  }
  assert.deepEqual((await backup.listBackups(options)).map((b) => b.timestamp), [made.timestamp]);
  assert.equal(await backup.verifyBackup(made.timestamp, options), true);
  assert.equal((await backup.storageUsage(options)).backups, 1);
  assert.deepEqual(sets(p.backups), before);

  const waiting = backup.createBackup({ root: p.root, lockTimeoutMs: 60_000 });
  await sleep(200);
  await other.end();
  assert.equal((await waiting).success, true);
});

test('a table that lost more than half of its rows, and over 100, is a warning that names it', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 300 });
  await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM patterns WHERE rowid > 149'));
  const shrunk = await backup.createBackup({ root: p.root });
  assert.equal(shrunk.success, true, shrunk.error);
  assert.equal(shrunk.warnings.length, 1, shrunk.warnings.join('\n'));
  assert.match(shrunk.warnings[0]!, /patterns/);
  assert.match(shrunk.warnings[0]!, /300/);
  assert.match(shrunk.warnings[0]!, /149/);
});

test('a table that lost half, or no more than 100 rows, is none', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 300 });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM patterns WHERE rowid > 101'));
  await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM patterns WHERE rowid > 1; DELETE FROM episodes WHERE id > 150'));
  const made = await backup.createBackup({ root: p.root });
  assert.deepEqual(made.warnings, []);
});

for (const journal of ['delete', 'wal'] as const) {
  test(`a backup changes nothing of the source: not its bytes, not its journal mode, not its -wal (${journal})`, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { journal });
    // A process that died with commits in the -wal, or none in rollback mode.
    const crashed = companion(t, `const db = new Database(args[0]); db.exec("INSERT INTO patterns VALUES ('late', 'commit')"); console.log('done'); process.kill(process.pid, 'SIGKILL')`, [p.at('agentdb.db')]);
    assert.equal(await crashed.line(), 'done');
    await crashed.end();
    const files = (): Record<string, string> => tree(p.root, (n) => n.startsWith('.agentic-qe') || n.endsWith('-shm'));
    const before = files();
    assert.equal(`agentdb.db-wal` in before, journal === 'wal');
    const made = await backup.createBackup({ root: p.root });
    assert.equal(made.success, true, made.error);
    assert.deepEqual(files(), before);
    assert.equal(count(made.files[0]!, 'patterns'), 51);
  });
}

test('a custom collation makes a database uncheckable, not damaged', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const db = new Database(p.at('agentdb.db'));
  db.unsafeMode(true);
  db.exec("CREATE TABLE c(x TEXT); CREATE INDEX ci ON c(x); INSERT INTO c VALUES ('a'), ('b'); PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE INDEX ci ON c(x COLLATE nobody_has_this)' WHERE name = 'ci'");
  db.close();
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.equal(readMetadata(p.backups, made.timestamp).databases[0]?.sqlite?.integrity, 'cannot-check');
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
  assert.ok(made.warnings.some((w) => w.includes('agentdb.db')), made.warnings.join('\n'));
});

test('the copy stands alone: any SQLite opens it read-only, with nothing beside it', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { journal: 'wal' });
  const made = await backup.createBackup({ root: p.root });
  const alone = path.join(tempFolder(t), 'alone.db');
  fs.copyFileSync(made.files[0]!, alone);
  assert.equal(contents(alone), contents(p.at('agentdb.db')));
});

test('what is not a backup is left alone in the backups folder', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  fs.mkdirSync(path.join(p.backups, 'my folder'), { recursive: true });
  fs.writeFileSync(path.join(p.backups, 'README.txt'), 'mine');
  fs.writeFileSync(path.join(p.backups, 'my folder', 'agentdb.db.backup.20200101-000000'), 'mine too');
  fs.writeFileSync(path.join(p.backups, '.gitignore'), '!README.txt\n');
  const before = tree(p.backups);
  for (let i = 0; i < 3; i++) assert.equal((await backup.createBackup({ root: p.root, compress: false, keepLast: 1 })).success, true);
  const after = tree(p.backups);
  for (const [name, what] of Object.entries(before)) if (what.startsWith('folder') === false) assert.equal(after[name], what, name);
});

test('a file of a set that changes on disk before the check is found out, not blessed', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 20 });
  const made = await backup.createBackup({ root: p.root, compress: false });
  flip(made.files[0]!, 3000);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), false);
});

test('a plain file that is written while it is read is not captured torn', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  const file = p.at('plain.db');
  const size = 24 << 20;
  fs.writeFileSync(file, Buffer.alloc(size, 'a'));
  const writer = companion(
    t,
    `const size = Number(args[1]); let n = 0, on = true;
     process.stdin.on('data', () => {}).on('end', () => { on = false; });
     console.log('writing');
     while (on) { fs.writeFileSync(args[0], Buffer.alloc(size, 97 + (n++ % 20))); await new Promise((r) => setTimeout(r, 30)); }`,
    [file, String(size)],
  );
  assert.equal(await writer.line(), 'writing');
  for (let i = 0; i < 4; i++) {
    const made = await backup.createBackup({ root: p.root, compress: false, verify: false });
    if (!made.success) {
      assert.equal(typeof made.code, 'string');
      assert.match(made.error ?? '', /plain\.db/);
      continue;
    }
    const bytes = fs.readFileSync(made.files[0]!);
    assert.ok(bytes.equals(Buffer.alloc(bytes.length, bytes[0] ?? 0)), 'a torn copy was called a success');
  }
  await writer.end();
  assertNoLeftovers(p.backups);
});

test('metadata keys that this version does not know are kept in listings', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root });
  const file = metadataPath(p.backups, made.timestamp);
  fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), ticket: { id: 12 } }));
  const [info] = await backup.listBackups({ root: p.root });
  assert.deepEqual(info?.metadata?.ticket, { id: 12 });
});

test('a record that would be too long to be read leaves out the rows of the tables, and the backup is whole all the same', async (t) => {
  const p = project(t);
  withDatabase(p.at('agentdb.db'), (db) => db.exec(`BEGIN; ${Array.from({ length: 6000 }, (_, i) => `CREATE TABLE ${'t'.repeat(180)}${i}(x);`).join('')} COMMIT`));
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.ok(made.warnings.some((w) => w.includes('leaves out the rows')), made.warnings.join('\n'));
  assert.ok(fs.statSync(metadataPath(p.backups, made.timestamp)).size < 1 << 20);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
  assert.equal((await backup.restoreBackup(made.timestamp, { root: p.root })).success, true);
});

test('two runs over growing data each hold exactly what was committed before them', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 10, journal: 'wal' });
  const app = new Database(p.at('agentdb.db'));
  t.after(() => void app.close());
  for (const rows of [10, 25, 60]) {
    if (rows > 10) addRows(app, rows * 100, rows - (rows === 25 ? 10 : 25));
    const made = await backup.createBackup({ root: p.root, compress: false });
    assert.equal(made.success, true, made.error);
    assert.equal(count(made.files[0]!), rows);
  }
});

test('with a rollback journal, a writer waits for the copy only, not for check and archive', async (t) => {
  const p = project(t);
  for (const name of ['a.db', 'b.db']) makeDatabase(p.at(name), { rows: 400 });
  const apps = ['a.db', 'b.db'].map((name) => new Database(p.at(name), { timeout: 0 }));
  t.after(() => apps.forEach((app) => app.close()));
  let written = 0;
  const made = await backup.createBackup({
    root: p.root,
    onProgress: ({ phase }) => {
      if (phase !== 'verify') return;
      // With a timeout of 0 this throws if anybody holds the database; what throws here is a warning of the backup.
      for (const app of apps) app.exec('INSERT INTO episodes(task) VALUES (1)');
      written++;
    },
  });
  assert.equal(made.success, true, made.error);
  assert.deepEqual([made.warnings, written > 0], [[], true]);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
  assert.deepEqual(made.files.map((f) => count(f)), [400, 400]);
});
