// The command: one JSON document, exit codes, the phrases that scripts look for, and the question before a restore.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertNoLeftovers, bin, cleanEnv, contents, copyOf, count, exec, finished, flip, hasTool, holder, holdsLock, makeDatabase, packageRoot, parseOne, project, readMetadata, sets, sleep, tempFolder, tree, withData, withDatabase } from './helpers/project';
import { onTerminal, type Seen } from './helpers/terminal';

test('create prints the timestamp and “Backup complete!”, and exits 0', async (t) => {
  const p = withData(t);
  const run = await p.run('create');
  assert.equal(run.status, 0, run.stderr);
  const ts = /Timestamp: (\d{8}-\d{6})/.exec(run.stdout)?.[1];
  assert.ok(ts, run.stdout);
  assert.match(run.stdout, /Backup complete!/);
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
  assert.equal(readMetadata(p.backups, ts).compressed, true);
});

test('create takes --compress, --no-compress, --no-verify, --kind, --label and --keep', async (t) => {
  const p = withData(t);
  const plain = await p.json('create', '--no-compress', '--no-verify', '--label', 'a "label"');
  assert.deepEqual([plain.status, plain.document.compressed], [0, false]);
  const m = readMetadata(p.backups, plain.document.timestamp as string);
  assert.deepEqual([m.kind, m.verified, m.label], ['automated', false, 'a "label"']);
  const manual = await p.json('create', '--compress', '--kind', 'manual');
  assert.deepEqual([manual.status, manual.document.compressed, manual.document.kind], [0, true, 'manual']);
  for (let i = 0; i < 3; i++) assert.equal((await p.json('create', '--no-compress')).status, 0);
  const kept = await p.json('create', '--no-compress', '--keep', '2');
  assert.equal(kept.document.removed, 3);
  assert.deepEqual((await backup.listBackups({ root: p.root })).map((b) => b.kind).sort(), ['automated', 'automated', 'manual']);
});

test('--json prints one document with version, command, ok and the API’s result, and nothing else', async (t) => {
  const p = withData(t);
  const made = await p.json('create');
  assert.deepEqual([made.status, made.document.version, made.document.command, made.document.ok, made.document.success], [0, 1, 'create', true, true]);
  const ts = made.document.timestamp as string;
  assert.deepEqual(made.document.files, [path.join(p.backups, `agentdb.db.backup.${ts}`)]);
  assert.equal(made.document.totalSize, fs.statSync(p.at('agentdb.db')).size);

  const list = await p.json('list');
  assert.deepEqual([list.status, list.document.version, list.document.command, list.document.ok], [0, 1, 'list', true]);
  assert.deepEqual(list.document.backups, JSON.parse(JSON.stringify(await backup.listBackups({ root: p.root }))));

  const verified = await p.json('verify', ts);
  assert.deepEqual([verified.status, verified.document.command, verified.document.ok], [0, 'verify', true]);

  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const restored = await p.json('restore', ts, '--force');
  assert.deepEqual([restored.status, restored.document.command, restored.document.ok, restored.document.success, restored.document.filesRestored, restored.document.timestamp], [0, 'restore', true, true, 1, ts]);
  assert.match(restored.document.safetyBackup as string, /^\d{8}-\d{6}$/);

  const recovered = await p.json('recover');
  assert.deepEqual([recovered.status, recovered.document.command, recovered.document.ok], [0, 'recover', true]);
});

test('a failure is one JSON document too, with code and error, and ok: false', async (t) => {
  const p = withData(t);
  const made = await p.json('create', '--no-compress');
  flip(copyOf(p.backups, made.document.timestamp as string, 'agentdb.db'), 9000 % 4096);
  const cases: [string[], number, string | undefined][] = [
    [['verify', made.document.timestamp as string], 4, undefined],
    [['restore', made.document.timestamp as string, '--force'], 4, 'CHECKSUM_MISMATCH'],
    [['restore', '20010101-000000', '--force'], 10, 'BACKUP_NOT_FOUND'],
    [['verify', '20010101-000000'], 10, undefined],
  ];
  for (const [args, status, code] of cases) {
    const r = await p.json(...args);
    assert.deepEqual([r.status, r.document.ok, r.document.version, r.document.command], [status, false, 1, args[0]], `${args.join(' ')}: ${JSON.stringify(r.document)}`);
    if (code) {
      assert.equal(r.document.code, code);
      assert.ok(String(r.document.error).length > 10);
    }
  }
  const empty = project(t);
  const none = await empty.json('create');
  assert.deepEqual([none.status, none.document.ok, none.document.code], [10, false, 'NO_DATABASES']);
});

test('exit 2 for what is no command line: unknown verbs, options, values, and too many or too few arguments', async (t) => {
  const p = withData(t);
  for (const args of [['frobnicate'], ['create', '--compres'], ['create', '--kind', 'weekly'], ['create', '--keep', '0'], ['create', '--keep', '-3'], ['create', '--keep', '1.5'], ['create', '--keep', 'abc'], ['create', 'extra'], ['verify', 'a', 'b'], ['restore', '*', '--force'], ['restore', '../x', '--force'], ['restore', '$(x)', '--force'], ['verify', '../x']]) {
    const run = await p.run(...args);
    assert.equal(run.status, 2, `${args.join(' ')}: ${run.status} ${run.stderr}`);
    assert.ok(run.stderr.length > 0, `${args.join(' ')} says nothing on standard error`);
  }
  assert.deepEqual(sets(p.backups), {});
});

test('exit 11 for a busy database and for a folder that another run holds', async (t) => {
  const p = withData(t);
  await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  const r = await p.json('create');
  assert.deepEqual([r.status, r.document.ok, r.document.code], [11, false, 'DATABASE_BUSY']);
  assert.deepEqual(sets(p.backups), {});
});

test('exit 13 for no space, and nothing is left', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 2000 });
  const limit = Math.floor(fs.statSync(p.at('agentdb.db')).size / 2);
  const run = await exec('prlimit', [`--fsize=${limit}`, process.execPath, bin, 'create', '--json'], { cwd: p.root });
  assert.deepEqual([run.status, parseOne(run).code], [13, 'NO_SPACE'], run.stderr);
  assert.deepEqual(sets(p.backups), {});
});

test('exit 13 for a restore that finds no room, and nothing has changed', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 3000 });
  const made = await backup.createBackup({ root: p.root, compress: false });
  const limit = Math.floor(fs.statSync(p.at('agentdb.db')).size / 2);
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes; DELETE FROM patterns; VACUUM'));
  const now = contents(p.at('agentdb.db'));
  const run = await exec('prlimit', [`--fsize=${limit}`, process.execPath, bin, 'restore', made.timestamp, '--force', '--json'], { cwd: p.root });
  const document = parseOne(run);
  assert.deepEqual([run.status, document.code], [13, 'NO_SPACE'], run.stdout);
  assert.equal(contents(p.at('agentdb.db')), now);
});

test('exit 5 for a restore that failed half-way and was rolled back: what it had created is out of the way again', async (t) => {
  const p = project(t);
  makeDatabase(p.at('a.db'), { rows: 20 });
  makeDatabase(p.at('sub/b.db'), { rows: 20 });
  makeDatabase(p.at('c.db'), { rows: 20 });
  const made = await backup.createBackup({ root: p.root, databases: ['a.db', 'c.db', 'sub/b.db'] });
  withDatabase(p.at('c.db'), (db) => db.exec('DELETE FROM episodes'));
  const now = contents(p.at('c.db'));
  fs.rmSync(p.at('a.db'));
  // A folder that can't be made: its name leads nowhere. a.db comes first and gets as far as its place.
  fs.rmSync(p.at('sub'), { recursive: true });
  fs.symlinkSync(p.at('nowhere/at/all'), p.at('sub'));
  const run = await p.run('restore', made.timestamp, '--force', '--json');
  const document = parseOne(run);
  assert.deepEqual([run.status, document.code, document.ok], [5, 'RESTORE_ROLLED_BACK', false], run.stdout);
  assert.equal(contents(p.at('c.db')), now);
  assert.equal(fs.existsSync(p.at('a.db')), false);
  const after = await p.run('recover', '--json');
  assert.deepEqual([after.status, parseOne(after).finishedRestore], [0, null], 'no intent is left');
});

test('a damaged database: exit not 0, and the set is there, marked', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 600 });
  const fd = fs.openSync(p.at('agentdb.db'), 'r+');
  fs.writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 3 * 4096);
  fs.closeSync(fd);
  const r = await p.json('create');
  assert.equal(r.document.code, 'SOURCE_DAMAGED');
  assert.equal(r.document.ok, false);
  assert.ok([1, 4].includes(r.status ?? -1), String(r.status));
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} in the middle of a create: exit 130, and nothing is left`, { timeout: 600_000 }, async (t) => {
    const p = withData(t);
    const first = await backup.createBackup({ root: p.root, compress: false });
    await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
    const before = sets(p.backups);
    const child = spawn(process.execPath, [bin, 'create', '--busy-timeout', '3600000'], { cwd: p.root, env: cleanEnv(), stdio: ['ignore', 'pipe', 'pipe'] });
    const end = finished(child);
    // The run waits for the database, and holds the folder while it does: then it is in the middle.
    assert.ok(await holdsLock(p.backups, end), 'it did not wait');
    child.kill(signal);
    const run = await end;
    assert.ok(run.status === 130 || (signal === 'SIGTERM' && (run.status === 143 || run.signal === 'SIGTERM')), `${run.status} ${run.signal} ${run.stderr}`);
    await backup.recover({ root: p.root });
    assert.deepEqual(sets(p.backups), before);
    assert.ok(first.success);
  });
}

test('list says how many there are, names each, and is quiet about none', async (t) => {
  const p = withData(t);
  const none = await p.run('list');
  assert.equal(none.status, 0, none.stderr);
  assert.match(none.stdout, /Total backups: 0/);
  const made = [await backup.createBackup({ root: p.root }), await backup.createSafetyBackup('x', { root: p.root })];
  const run = await p.run('list');
  assert.match(run.stdout, /Total backups: 2/);
  for (const m of made) assert.ok(run.stdout.includes(m.timestamp));
  assert.ok(run.stdout.indexOf(made[1]!.timestamp) < run.stdout.indexOf(made[0]!.timestamp), 'the newest is not first');
  assert.equal((await project(t).json('list')).document.backups.length, 0);
});

test('verify says “All files verified” of a good set only', async (t) => {
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root, compress: false });
  const good = await p.run('verify', made.timestamp);
  assert.equal(good.status, 0, good.stderr);
  assert.match(good.stdout, /All files verified/);
  flip(made.files[0]!, 5000);
  const bad = await p.run('verify', made.timestamp);
  assert.equal(bad.status, 4);
  assert.doesNotMatch(bad.stdout + bad.stderr, /All files verified/);
  assert.match(bad.stdout + bad.stderr, /agentdb\.db\.backup\./);
  const missing = await p.run('verify', '20010101-000000');
  assert.equal(missing.status, 10);
  assert.doesNotMatch(missing.stdout + missing.stderr, /All files verified/);
});

test('restore says “Restore complete!”, and names the safety set', async (t) => {
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const run = await p.run('restore', made.timestamp, '--force');
  assert.equal(run.status, 0, run.stderr);
  assert.match(run.stdout, /Restore complete!/);
  const safety = (await backup.listBackups({ root: p.root })).find((b) => b.kind === 'safety');
  assert.ok(safety && run.stdout.includes(safety.timestamp), run.stdout);
});

test('without a terminal and without --force, restore refuses, names --force and changes nothing', async (t) => {
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const before = tree(p.root);
  for (const input of [undefined, 'y\n', '']) {
    const run = await exec(process.execPath, [bin, 'restore', made.timestamp], { cwd: p.root, ...(input === undefined ? {} : { input }) });
    assert.notEqual(run.status, 0);
    assert.match(run.stderr, /--force/);
  }
  assert.deepEqual(tree(p.root), before);
});

test('on a terminal restore asks first: no is no, yes is yes', { timeout: 600_000 }, async (t) => {
  if (!(await hasTool('script'))) return t.skip('no script(1) here to make a terminal');
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const ask = (answer: string): Promise<Seen> => onTerminal(p, ['restore', made.timestamp], { answers: [answer] });
  const no = await ask('n\n');
  assert.notEqual(no.status, 0);
  assert.equal(count(p.at('agentdb.db')), 0);
  assert.ok(no.said.includes('agentdb.db'), `the question does not say what changes: ${no.said}`);
  const yes = await ask('y\n');
  assert.equal(yes.status, 0, yes.said);
  assert.equal(count(p.at('agentdb.db')), 20);
});

test('restore --archive takes an archive that lies anywhere', async (t) => {
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root });
  const then = contents(p.at('agentdb.db'));
  const elsewhere = path.join(tempFolder(t), 'down loaded.tar.gz');
  fs.copyFileSync(made.archive!, elsewhere);
  fs.rmSync(p.backups, { recursive: true });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const run = await p.json('restore', '--archive', elsewhere, '--force');
  assert.deepEqual([run.status, run.document.ok], [0, true], JSON.stringify(run.document) + run.stderr);
  assert.equal(contents(p.at('agentdb.db')), then);
  assertNoLeftovers(p.backups);
  const broken = path.join(path.dirname(elsewhere), 'broken.tar.gz');
  fs.writeFileSync(broken, fs.readFileSync(elsewhere).subarray(0, 500));
  const bad = await p.json('restore', '--archive', broken, '--force');
  assert.deepEqual([bad.document.ok, bad.status === 0], [false, false]);
  assert.equal(contents(p.at('agentdb.db')), then);
  assert.equal((await p.json('restore', '--archive', path.join(path.dirname(elsewhere), 'none.tar.gz'), '--force')).document.ok, false);
});

test('create tells GitHub the timestamp, by appending', async (t) => {
  const p = withData(t);
  const folder = tempFolder(t);
  const [GITHUB_ENV, GITHUB_OUTPUT] = [path.join(folder, 'env'), path.join(folder, 'output')];
  fs.writeFileSync(GITHUB_ENV, 'BEFORE=1\n');
  fs.writeFileSync(GITHUB_OUTPUT, '');
  const run = await exec(process.execPath, [bin, 'create', '--json'], { cwd: p.root, env: cleanEnv({ GITHUB_ENV, GITHUB_OUTPUT }) });
  assert.equal(run.status, 0, run.stderr);
  const ts = parseOne(run).timestamp as string;
  assert.equal(fs.readFileSync(GITHUB_ENV, 'utf8'), `BEFORE=1\nBACKUP_TIMESTAMP=${ts}\n`);
  assert.equal(fs.readFileSync(GITHUB_OUTPUT, 'utf8'), `timestamp=${ts}\n`);
});

test('--help and --version answer at once; --help names every option of its verb', async (t) => {
  const p = project(t);
  const version = await p.run('--version');
  assert.equal(version.status, 0);
  assert.ok(version.stdout.includes((JSON.parse(fs.readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version), version.stdout);
  const help = await p.run('--help');
  assert.equal(help.status, 0);
  for (const verb of ['create', 'restore', 'list', 'verify', 'recover']) assert.match(help.stdout, new RegExp(`\\b${verb}\\b`));
  for (const [verb, options] of Object.entries({ create: ['--compress', '--no-compress', '--no-verify', '--kind', '--label', '--keep', '--json', '--root'], restore: ['--force', '--archive', '--no-verify', '--json', '--root'], list: ['--json', '--root'], verify: ['--json', '--root'], recover: ['--json', '--root'] })) {
    const run = await p.run(verb, '--help');
    assert.equal(run.status, 0, run.stderr);
    for (const option of options) assert.ok(run.stdout.includes(option), `${verb} --help does not name ${option}`);
  }
  assert.deepEqual(fs.readdirSync(p.root), []);
});

test('in a pipe there are no colours and no progress', async (t) => {
  const p = withData(t);
  const escape = '\u001b';
  const plain = await p.run('create');
  assert.ok(!plain.stdout.includes(escape) && !plain.stderr.includes(escape));
  const listed = await p.run('list');
  assert.ok(!listed.stdout.includes(escape) && !listed.stderr.includes(escape));
});

test('AQE_PROJECT_ROOT names the project, and --root goes before it', async (t) => {
  const [p, q, elsewhere] = [withData(t), withData(t), project(t)];
  const env = cleanEnv({ AQE_PROJECT_ROOT: p.root });
  assert.equal((await exec(process.execPath, [bin, 'create'], { cwd: elsewhere.root, env })).status, 0);
  assert.equal((await exec(process.execPath, [bin, 'create', '--root', q.root], { cwd: elsewhere.root, env })).status, 0);
  assert.deepEqual([(await backup.listBackups({ root: p.root })).length, (await backup.listBackups({ root: q.root })).length], [1, 1]);
  assert.deepEqual(fs.readdirSync(elsewhere.root), []);
});

test('a reader that has gone away is no error', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 3; i++) await backup.createBackup({ root: p.root, compress: false });
  const run = await exec('sh', ['-c', '"$0" "$1" list | true; "$0" "$1" list 2>"$2" | head -c 1 >/dev/null; cat "$2"', process.execPath, bin, path.join(tempFolder(t), 'err')], { cwd: p.root });
  assert.equal(run.stdout, '', 'a closed pipe is complained about');
  assert.doesNotMatch(run.stderr, /panic|EPIPE|Broken/);
});

test('the messages of a failure name the thing and the way out', async (t) => {
  const p = withData(t);
  const missing = await p.run('restore', '20010101-000000', '--force');
  assert.match(missing.stderr, /20010101-000000/);
  assert.match(missing.stderr, /list|create/);
  const malformed = await p.run('restore', 'yesterday', '--force');
  assert.match(malformed.stderr, /yesterday/);
  assert.match(malformed.stderr, /20250116-120000|YYYYMMDD-HHMMSS/);
});
