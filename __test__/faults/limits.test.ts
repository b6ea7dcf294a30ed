// What the machine refuses: descriptors, threads, longer files, disk space, writing at all. Each gives a coded error that names the way out, and nothing is lost.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test, type TestContext } from 'node:test';
import * as backup from '../../index.js';
import { assertNoLeftovers, companion, contents, copyOf, exec, inCI, isRoot, makeDatabase, nobody, project, publicPackage, scriptArgs, sets, tempFolder, unprivileged, withDatabase, type Context, type Project } from '../helpers/project';
import { chosen, report, shard } from '../helpers/proof';
import { copyOfProject, twoAtATime } from '../helpers/trials';

const tool = (name: string): boolean => spawnSync(name, ['--version']).status === 0;
function needPrlimit(): void {
  assert.ok(tool('prlimit'), 'prlimit is not installed; without it no limit can be set (apt-get install util-linux)');
}

interface Outcome {
  value?: any;
  code?: string;
  message?: string;
}
/** The code of an outcome, of a rejection or of a result alike; `undefined` when all went well. */
const codeIn = (o: Outcome): string | undefined => o.code ?? (o.value?.success === false ? (o.value.code as string) : undefined);
const messageIn = (o: Outcome): string => o.message ?? (o.value?.error as string | undefined) ?? '';

/** A process is killed in the middle of its transaction, of which half is in the database already. */
async function diedHalfWay(t: Context, file: string): Promise<void> {
  const dead = companion(t, `const db = new Database(args[0]); db.pragma('cache_size = 2'); db.exec("BEGIN; UPDATE episodes SET task = 'half', embedding = randomblob(length(embedding))"); console.log('done'); process.kill(process.pid, 'SIGKILL');`, [file]);
  assert.equal(await dead.line(), 'done');
  await dead.end();
  assert.ok(fs.statSync(`${file}-journal`).size > 4096, 'there is no hot journal');
}

/** A process is killed that has commits in the -wal only. */
async function diedWithWal(t: Context, file: string): Promise<void> {
  const dead = companion(t, `const db = new Database(args[0]); db.pragma('wal_autocheckpoint = 0'); db.exec("INSERT INTO patterns VALUES ('late', 'in the -wal')"); console.log('done'); process.kill(process.pid, 'SIGKILL');`, [file]);
  assert.equal(await dead.line(), 'done');
  await dead.end();
  assert.ok(fs.statSync(`${file}-wal`).size > 4096, 'there is nothing in the -wal');
}

// ---- descriptors

/** Calls, as the child makes them; `ts` is the set. */
const calls: Record<string, string> = {
  create: 'backup.createBackup({ root })',
  'create without archive': 'backup.createBackup({ root, compress: false })',
  restore: 'backup.restoreBackup(ts, { root })',
  verify: 'backup.verifyBackup(ts, { root })',
  inspect: 'backup.inspectBackup(ts, { root })',
  compare: 'backup.compareBackup(ts, { root })',
  clean: 'backup.cleanOldBackups(1, { root })',
  recover: 'backup.recover({ root })',
  list: 'backup.listBackups({ root })',
  usage: 'backup.storageUsage({ root })',
};

test('descriptors: a host that has too few left, at any point, gets IO_ERROR with the way out, never a wrong verdict; and the next call works', { timeout: 1_800_000 }, async (t) => {
  needPrlimit();
  const template = project(t);
  makeDatabase(template.at('agentdb.db'), { rows: 60, journal: 'wal' });
  makeDatabase(template.at('memory.db'), { rows: 60 });
  fs.writeFileSync(template.at('notes.db'), 'a note\n');
  const made = await backup.createBackup({ root: template.root, kind: 'manual' });
  assert.equal(made.success, true, made.error);
  const restored = ['agentdb.db', 'memory.db'].map((n) => contents(template.at(n)));
  for (const n of ['agentdb.db', 'memory.db']) withDatabase(template.at(n), (db) => db.exec("UPDATE patterns SET content = 'later'"));
  const later = ['agentdb.db', 'memory.db'].map((n) => contents(template.at(n)));

  const most = 16;
  const points = Object.keys(calls).flatMap((call) => Array.from({ length: most + 1 }, (_, free) => ({ call, free })));
  let refused = 0;
  let went = 0;
  await twoAtATime(chosen(points, 22), async ({ call, free }) => {
    const what = `${call} with ${free} descriptors left`;
    const p = await copyOfProject(t, template);
    const before = sets(p.backups);
    const source = `
      const [root, ts, free] = args;
      void backup.createBackup;
      const held = [];
      try { for (;;) held.push(fs.openSync('/dev/null')); } catch (e) { if (e.code !== 'EMFILE') throw e; }
      for (let i = 0; i < Number(free); i++) fs.closeSync(held.pop());
      const first = await outcome(${calls[call]});
      for (const fd of held) fs.closeSync(fd);
      const left = fs.readdirSync(path.join(root, '.agentic-qe', 'backups')).filter((n) => !['.lock', '.gitignore'].includes(n)).sort();
      const second = await outcome(${calls[call]});
      console.log(JSON.stringify({ first, left, second }));`;
    const run = await exec('prlimit', ['--nofile=160:160', process.execPath, ...scriptArgs(source, [p.root, made.timestamp, String(free)])]);
    assert.equal(run.status, 0, `${what}: ${run.stderr}`);
    const { first, left, second } = JSON.parse(run.stdout) as { first: Outcome; left: string[]; second: Outcome };
    const code = codeIn(first);
    if (code === undefined) {
      went++;
      assert.notEqual(first.value, false, `${what}: a sound set is called damaged`);
      if (call === 'inspect') assert.equal(first.value.ok, true, `${what}: ${JSON.stringify(first.value)}`);
      if (call === 'list') assert.equal(first.value.length, 1, what);
    } else {
      refused++;
      assert.equal(code, 'IO_ERROR', `${what}: ${code} ${messageIn(first)}`);
      assert.match(messageIn(first), /ulimit -n/, what);
      // A run without a descriptor to clean up with leaves what it had under its mark, and the next run sweeps it.
      const orphans = left.filter((n) => !n.startsWith('.') && !Object.hasOwn(before, n));
      assert.ok(orphans.length === 0 || left.some((n) => /^\.(staging|removing|trimming)-/.test(n)), `${what}: ${orphans.join(', ')} was left`);
    }
    assert.equal(codeIn(second), undefined, `${what}, afterwards with all of them: ${codeIn(second)} ${messageIn(second)}`);
    const now = ['agentdb.db', 'memory.db'].map((n) => contents(p.at(n)));
    assert.deepEqual(now, call === 'restore' ? restored : later, what);
    for (const b of await backup.listBackups({ root: p.root })) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, `${what}: ${b.timestamp} does not verify`);
    await backup.recover({ root: p.root });
    assertNoLeftovers(p.backups);
  });
  // A shard may be all of one kind.
  if (shard.of === 1) assert.ok(refused > 0 && went > 0, `refused ${refused}, went well ${went}`);
  report('limits', { what: 'descriptors', points: refused + went, refused });
});

// ---- threads

test('threads: a host that may start no more gets IO_ERROR with the way out, stays alive, and goes on once it may', { timeout: 600_000 }, async (t) => {
  needPrlimit();
  const shared = publicPackage(t);
  // Loaded under the limit; or before it, when one thread of ours is there already and the archive's own is not to be had.
  for (const loaded of [false, true]) {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { rows: 30 });
    if (isRoot) {
      fs.chmodSync(path.dirname(p.root), 0o755);
      for (const name of ['.', 'agentdb.db']) fs.chownSync(p.at(name), nobody, nobody);
    }
    const source = `
      const root = args[0];
      const next = (say) => new Promise((resolve) => { process.stdin.once('data', resolve); console.log(say); });
      const verbs = { create: () => backup.createBackup({ root }), list: () => backup.listBackups({ root }), clean: () => backup.cleanOldBackups(3, { root }), safe: () => backup.withSafetyBackup('x', () => 'called', { root }) };
      // The host's own threads are there before.
      await fs.promises.stat(root);
      if (args[1] === 'true') await backup.listBackups({ root });
      await next('ready');
      const none = {}, then = {};
      for (const [name, call] of Object.entries(verbs)) none[name] = await outcome(call());
      const left = fs.existsSync(path.join(root, '.agentic-qe')) ? fs.readdirSync(path.join(root, '.agentic-qe', 'backups')) : [];
      await next('limited');
      for (const [name, call] of Object.entries(verbs)) then[name] = await outcome(call());
      console.log(JSON.stringify({ none, then, left }));
      process.stdin.destroy();`;
    const child = companion(t, source, [p.root, String(loaded)], { cwd: '/', ...unprivileged(), from: shared });
    // No limit binds root, so the child runs as another account; one is fewer threads than it has already.
    const prlimit = async (...args: string[]): Promise<string> => {
      const run = await exec('prlimit', ['--pid', String(child.child.pid), ...args], unprivileged());
      assert.equal(run.status, 0, run.stderr);
      return run.stdout.trim();
    };
    assert.equal(await child.line(), 'ready');
    const hard = await prlimit('--nproc', '--noheadings', '--raw', '--output', 'HARD');
    await prlimit('--nproc=1:');
    child.send('go');
    assert.equal(await child.line(), 'limited');
    await prlimit(`--nproc=${hard}:`);
    child.send('go');
    const { none, then, left } = JSON.parse(await child.line()) as { none: Record<string, Outcome>; then: Record<string, Outcome>; left: string[] };
    const run = await child.end();
    assert.equal(run.status, 0, `${run.status ?? run.signal}: ${run.stderr}`);
    for (const [name, o] of Object.entries(none)) {
      if (loaded && codeIn(o) === undefined) {
        assert.ok(name === 'list' || name === 'clean', `${name} went well without the threads it needs`);
        continue;
      }
      assert.equal(codeIn(o), 'IO_ERROR', `${name}: ${JSON.stringify(o)}`);
      assert.match(messageIn(o), /thread.*ulimit -u/, name);
    }
    assert.deepEqual(left.filter((n) => !['.lock', '.gitignore'].includes(n)), []);
    for (const [name, o] of Object.entries(then)) assert.equal(codeIn(o), undefined, `${name}, once it may: ${codeIn(o)} ${messageIn(o)}`);
  }
});

// ---- length of files

test('files: a limit on their length is NO_SPACE that names it, also in a host in which the signal for it is deadly', { timeout: 600_000 }, async (t) => {
  needPrlimit();
  const p = project(t);
  makeDatabase(p.at('big.db'), { rows: 1500 });
  const made = await backup.createBackup({ root: p.root, kind: 'manual', compress: false });
  const before = sets(p.backups);
  withDatabase(p.at('big.db'), (db) => db.exec("UPDATE episodes SET task = 'later', embedding = randomblob(400)"));
  const later = contents(p.at('big.db'));
  const limit = Math.floor(fs.statSync(p.at('big.db')).size / 2);
  // Node ignores SIGXFSZ until somebody has listened to it; other hosts never did.
  const source = `
    const listener = () => {};
    process.on('SIGXFSZ', listener); process.off('SIGXFSZ', listener);
    const [root, ts] = args;
    const create = await outcome(backup.createBackup({ root }));
    const restore = await outcome(backup.restoreBackup(ts, { root }));
    console.log(JSON.stringify({ create, restore }));`;
  const run = await exec('prlimit', [`--fsize=${limit}`, process.execPath, ...scriptArgs(source, [p.root, made.timestamp])]);
  assert.equal(run.status, 0, `${run.status ?? run.signal}: ${run.stderr}`);
  const outcomes = JSON.parse(run.stdout) as Record<string, Outcome>;
  for (const [name, o] of Object.entries(outcomes)) {
    assert.equal(codeIn(o), 'NO_SPACE', `${name}: ${JSON.stringify(o)}`);
    assert.match(messageIn(o), /ulimit -f/, name);
  }
  // The safety backup of the restore did not fit, so the restore has not begun.
  assert.deepEqual(sets(p.backups), before);
  assert.equal(contents(p.at('big.db')), later);
});

test('files: a restore that is too long for what is allowed leaves the live database as it was, byte for byte, and no journal beside it', { timeout: 600_000 }, async (t) => {
  needPrlimit();
  const p = project(t);
  makeDatabase(p.at('x.db'), { rows: 15_000 });
  const made = await backup.createBackup({ root: p.root, kind: 'manual', compress: false });
  assert.equal(made.success, true, made.error);
  withDatabase(p.at('x.db'), (db) => db.exec('DELETE FROM episodes WHERE id > 100; DELETE FROM patterns; VACUUM'));
  const before = [fs.readFileSync(p.at('x.db')).toString('base64'), sets(p.backups)];
  const source = 'console.log(JSON.stringify(await outcome(backup.restoreBackup(args[1], { root: args[0] }))))';
  // Longer than what it is now and SQLite's cache, shorter than what it is to be.
  const run = await exec('prlimit', [`--fsize=${4 << 20}`, process.execPath, ...scriptArgs(source, [p.root, made.timestamp])]);
  assert.equal(run.status, 0, `${run.status ?? run.signal}: ${run.stderr}`);
  assert.equal(codeIn(JSON.parse(run.stdout) as Outcome), 'NO_SPACE', run.stdout);
  assert.deepEqual(fs.readdirSync(p.root).filter((n) => n.startsWith('x.db')), ['x.db']);
  assert.ok(fs.readFileSync(p.at('x.db')).toString('base64') === before[0], 'the live database has other bytes than before');
  assert.deepEqual(sets(p.backups), before[1]);
  assertNoLeftovers(p.backups);
});

// ---- disks

/** Whether a small file system can be mounted here, seen by the child alone. In CI it has to be. */
async function cannotMount(t: TestContext): Promise<string | undefined> {
  const probe = await exec('unshare', [...wrap, 'sh', '-c', 'mount -t tmpfs -o size=1m none "$0" && mount -o remount,ro "$0"', tempFolder(t, 'disk')]);
  if (probe.status === 0) return undefined;
  assert.ok(!inCI, `no small file system can be mounted here: ${probe.stderr}`);
  return 'no small file system can be mounted here';
}
const wrap = [...(isRoot ? [] : ['--map-root-user']), '--mount', '--'];

/** Runs a script with a copy of `p` on a disk of its own, mounted at `args[0]`. */
async function onDisk<T>(t: Context, p: Project, how: { size: number; readOnly?: boolean }, source: string, args: string[] = []): Promise<T> {
  const disk = tempFolder(t, 'disk');
  const mount = `mount -t tmpfs -o size=${how.size} none "$1" && cp -a "$2/." "$1" ${how.readOnly ? '&& mount -o remount,ro "$1"' : ''} && shift 2 && exec "$@"`;
  const run = await exec('unshare', [...wrap, 'sh', '-c', mount, 'sh', disk, p.root, process.execPath, ...scriptArgs(prelude + source, [disk, ...args])]);
  assert.equal(run.status, 0, run.stderr);
  return JSON.parse(run.stdout) as T;
}

/** For scripts on a disk: filling it, and what is on it. */
const prelude = `
  const crypto = require('node:crypto');
  const disk = args[0], store = path.join(disk, '.agentic-qe', 'backups');
  /** Takes all room but \`left\` bytes. */
  const fill = (left) => {
    const filler = path.join(disk, 'filler');
    const fd = fs.openSync(filler, 'w');
    for (let size = 1 << 20; size >= 4096; ) try { if (fs.writeSync(fd, Buffer.alloc(size, 1)) < size) size /= 2; } catch (e) { if (e.code !== 'ENOSPC') throw e; size /= 2; }
    fs.ftruncateSync(fd, Math.max(0, Math.floor(fs.fstatSync(fd).size / 4096) * 4096 - left));
    fs.closeSync(fd);
  };
  const empty = () => fs.rmSync(path.join(disk, 'filler'), { force: true });
  // SQLite that finds no room for the -shm leaves it and an empty -wal, which mean nothing, and which only the last one out may remove.
  const nothing = (f) => f.endsWith('-shm') || (f.endsWith('-wal') && fs.statSync(f).size === 0);
  const tree = (folder) => Object.fromEntries(fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((e) => e.isFile() && !['filler', '.lock', '.gitignore'].includes(e.name))
    .map((e) => path.join(e.parentPath ?? e.path, e.name)).filter((f) => !nothing(f)).sort().map((f) => [path.relative(folder, f), crypto.createHash('sha256').update(fs.readFileSync(f)).digest('hex')]));
`;

test('a disk without room: create and restore are NO_SPACE, change and leave nothing; sets can still be listed, verified and removed', { timeout: 1_800_000 }, async (t) => {
  const reason = await cannotMount(t);
  if (reason) return t.skip(reason);
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 500 });
  makeDatabase(p.at('memory.db'), { rows: 100, journal: 'wal' });
  const made = await backup.createBackup({ root: p.root, compress: false });
  for (let i = 0; i < 3; i++) assert.equal((await backup.createBackup({ root: p.root, compress: i === 0 })).success, true);
  withDatabase(p.at('agentdb.db'), (db) => db.exec("UPDATE episodes SET task = 'later', embedding = randomblob(500)"));
  const r = await onDisk<{ rounds: { left: number; create: Outcome; restore: Outcome; same: boolean; tree: unknown; before: unknown }[]; list: number; verified: boolean; removed: Outcome; cleaned: Outcome; create: Outcome }>(t, p, { size: 8 << 20 }, `
    const rounds = [];
    for (const left of args[2].split(',').map(Number)) {
      fill(left);
      const before = tree(disk);
      const create = await outcome(backup.createBackup({ root: disk }));
      const restore = await outcome(backup.restoreBackup(args[1], { root: disk }));
      const after = tree(disk);
      rounds.push({ left, create, restore, same: JSON.stringify(before) === JSON.stringify(after), tree: after, before });
      empty();
    }
    fill(0);
    const list = (await backup.listBackups({ root: disk })).length;
    const verified = await backup.verifyBackup(args[1], { root: disk });
    const removed = await outcome(require('node:util').promisify(require('node:child_process').execFile)(process.execPath, [args[3], 'delete', args[1], '--force', '--root', disk, '--json']));
    const cleaned = await outcome(backup.cleanOldBackups(1, { root: disk }));
    empty();
    const create = await outcome(backup.createBackup({ root: disk, compress: false, keepLast: null }));
    console.log(JSON.stringify({ rounds, list, verified, removed, cleaned, create }));`, [made.timestamp, chosen(Array.from({ length: 12 }, (_, i) => i * 20 * 4096), 4).join(','), path.join(__dirname, '..', '..', 'bin', 'aqe-backup.js')]);
  let refused = 0;
  for (const round of r.rounds) {
    for (const [name, o] of Object.entries({ create: round.create, restore: round.restore })) {
      const code = codeIn(o);
      if (code === undefined) continue;
      refused++;
      assert.equal(code, 'NO_SPACE', `${name} with ${round.left} bytes left: ${code} ${messageIn(o)}`);
      if (name === 'restore') assert.doesNotMatch(messageIn(o), /compress/, 'a restore has no archive to leave out');
    }
    if (codeIn(round.create) && codeIn(round.restore)) assert.ok(round.same, `with ${round.left} bytes left, something changed: ${JSON.stringify([round.before, round.tree], null, 1)}`);
  }
  assert.ok(refused >= 2, `only ${refused} runs were refused`);
  assert.deepEqual([r.list, r.verified], [4, true]);
  assert.equal(r.removed.code, undefined, `a full disk keeps sets from being deleted: ${r.removed.message}`);
  assert.equal(codeIn(r.cleaned), undefined, `a full disk keeps sets from being removed: ${messageIn(r.cleaned)}`);
  assert.equal(r.cleaned.value, 2);
  assert.equal(codeIn(r.create), undefined, `with room again: ${messageIn(r.create)}`);
  report('limits', { what: 'full disk', points: r.rounds.length * 2, refused });
});

test('a disk without room for what is in an archive: restore is NO_SPACE, changes and leaves nothing; an archive that is another is still called that', { timeout: 1_800_000 }, async (t) => {
  const reason = await cannotMount(t);
  if (reason) return t.skip(reason);
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 2000 });
  const made = await backup.createBackup({ root: p.root });
  for (const name of fs.readdirSync(p.backups)) if (name.includes(made.timestamp) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(p.backups, name));
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes WHERE id % 2'));
  const size = fs.statSync(p.at('agentdb.db')).size;
  // From nothing to enough for a copy, its safety backup and a journal, and for what is kept free beside each.
  const lefts = Array.from({ length: 16 }, (_, i) => Math.floor((i * (4 * size + (4 << 20))) / 15 / 4096) * 4096);
  const r = await onDisk<{ rounds: { left: number; spoilt: boolean; restore: Outcome; same: boolean }[]; verified: boolean }>(t, p, { size: 24 << 20 }, `
    const archive = path.join(store, 'databases-backup-' + args[1] + '.tar.gz'), sum = fs.readFileSync(archive + '.sha256', 'utf8');
    const rounds = [];
    for (const left of args[2].split(',').map(Number)) for (const spoilt of [true, false]) {
      fs.writeFileSync(archive + '.sha256', spoilt ? '5'.repeat(64) + sum.slice(64) : sum);
      fill(left);
      const before = tree(disk);
      const restore = await outcome(backup.restoreBackup(args[1], { root: disk }));
      rounds.push({ left, spoilt, restore, same: JSON.stringify(before) === JSON.stringify(tree(disk)) });
      empty();
    }
    console.log(JSON.stringify({ rounds, verified: await backup.verifyBackup(args[1], { root: disk }) }));`, [made.timestamp, lefts.join(',')]);
  for (const { left, spoilt, restore, same } of r.rounds) {
    const code = codeIn(restore);
    if (code !== undefined) assert.ok(same, `with ${left} bytes left, something changed: ${code} ${messageIn(restore)}`);
    // No room for the working folder itself is found out before the archive is looked at.
    if (spoilt) assert.ok(code === 'CHECKSUM_MISMATCH' || (left === 0 && code === 'NO_SPACE'), `with ${left} bytes left: ${code} ${messageIn(restore)}`);
    else assert.ok(code === undefined || code === 'NO_SPACE', `with ${left} bytes left: ${code} ${messageIn(restore)}`);
  }
  const sound = r.rounds.filter((round) => !round.spoilt).map((round) => codeIn(round.restore));
  assert.ok(sound.includes('NO_SPACE') && sound.includes(undefined), `no room was too little, or none enough: ${JSON.stringify(sound)}`);
  assert.equal(r.verified, true);
});

for (const journal of ['delete', 'wal'] as const) {
  test(`a live database on a disk without room for the restored one stays as it was, at any amount of room (${journal})`, { timeout: 600_000 }, async (t) => {
    const reason = await cannotMount(t);
    if (reason) return t.skip(reason);
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { rows: 400, journal });
    const backups = tempFolder(t, 'backups');
    const made = await backup.createBackup({ root: p.root, backupDir: backups, compress: false, kind: 'manual' });
    assert.equal(made.success, true, made.error);
    const size = fs.statSync(p.at('agentdb.db')).size;
    withDatabase(p.at('agentdb.db'), (db) => (db.exec("DELETE FROM episodes WHERE id > 150; UPDATE episodes SET task = 'later'"), db.exec('VACUUM')));
    const pages = Math.ceil(size / 4096);
    const rooms = chosen(Array.from({ length: pages * 3 }, (_, i) => i), 10);
    const r = await onDisk<{ rounds: { room: number; restore: Outcome; same: boolean; restored: boolean; left: string[] }[] }>(t, p, { size: 4 << 20 }, `
      const file = path.join(disk, 'agentdb.db'), [, ts, rooms, backupDir, copy] = args;
      const dump = (f) => { const db = new Database(f, { fileMustExist: true }); const all = JSON.stringify([db.pragma('integrity_check'), db.prepare('SELECT id, task, hex(embedding) FROM episodes ORDER BY id').raw().all(), db.prepare('SELECT * FROM patterns ORDER BY id').raw().all()]); db.close(); return all; };
      const saved = path.join(backupDir, '..', 'saved'); fs.cpSync(file, saved);
      const wanted = dump(copy), before = dump(file);
      const rounds = [];
      for (const room of rooms.split(',').map(Number)) {
        fill(room * 4096);
        const restore = await outcome(backup.restoreBackup(ts, { root: disk, backupDir, force: true }));
        const left = fs.readdirSync(backupDir).filter((n) => n.startsWith('.') && !['.lock', '.gitignore'].includes(n));
        empty();
        const now = dump(file);
        rounds.push({ room, restore, same: now === before, restored: now === wanted, left });
        if (now !== before) { for (const s of ['', '-wal', '-shm', '-journal']) fs.rmSync(file + s, { force: true }); fs.cpSync(saved, file); }
      }
      console.log(JSON.stringify({ rounds }));`, [made.timestamp, rooms.join(','), backups, copyOf(backups, made.timestamp, 'agentdb.db')]);
    let refused = 0;
    for (const { room, restore, same, restored, left } of r.rounds) {
      const code = codeIn(restore);
      if (code === undefined) assert.ok(restored, `${room} pages of room: said to be restored, and is not`);
      else {
        refused++;
        assert.ok(['NO_SPACE', 'RESTORE_ROLLED_BACK'].includes(code), `${room} pages of room: ${code} ${messageIn(restore)}`);
        assert.ok(same, `${room} pages of room: ${code}, and the database has changed`);
      }
      assert.deepEqual(left, [], `${room} pages of room`);
    }
    if (shard.of === 1) assert.ok(refused > 0 && refused < r.rounds.length, `${refused} of ${r.rounds.length} were refused`);
    for (const b of await backup.listBackups({ root: p.root, backupDir: backups })) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root, backupDir: backups }), true);
    report('limits', { what: `room for a restore (${journal})`, points: r.rounds.length, refused });
  });
}

test('a read-only mount: sound databases are backed up to elsewhere; a half-done transaction or commits in a -wal are never left out in silence', { timeout: 600_000 }, async (t) => {
  const reason = await cannotMount(t);
  if (reason) return t.skip(reason);
  const p = project(t);
  for (const [name, journal] of [['rollback', 'delete'], ['clean', 'wal'], ['hot', 'delete'], ['late', 'wal'], ['bare', 'wal']] as const) makeDatabase(p.at(name, 'x.db'), { rows: 400, journal });
  const wanted = Object.fromEntries(['rollback', 'clean', 'hot'].map((n) => [n, contents(p.at(n, 'x.db'))]));
  await diedHalfWay(t, p.at('hot', 'x.db'));
  for (const n of ['late', 'bare']) await diedWithWal(t, p.at(n, 'x.db'));
  fs.rmSync(p.at('bare', 'x.db-shm'));
  const out = tempFolder(t, 'out');
  const r = await onDisk<Record<string, Outcome>>(t, p, { size: 32 << 20, readOnly: true }, `
    const all = {};
    for (const name of ['rollback', 'clean', 'hot', 'late', 'bare']) all[name] = await outcome(backup.createBackup({ root: path.join(disk, name), backupDir: path.join(args[1], name), compress: false }));
    all.inside = await outcome(backup.createBackup({ root: path.join(disk, 'rollback') }));
    console.log(JSON.stringify(all));`, [out]);
  for (const name of ['rollback', 'clean']) {
    assert.equal(codeIn(r[name]!), undefined, `${name}: ${messageIn(r[name]!)}`);
    assert.equal(contents(r[name]!.value.files[0] as string), wanted[name], name);
  }
  // Read as if there were no journal, it would be half a transaction, with a checksum.
  const hot = r.hot!;
  if (codeIn(hot) === undefined) assert.equal(contents(hot.value.files[0] as string), wanted.hot, 'half a transaction was backed up');
  else {
    assert.equal(codeIn(hot), 'PERMISSION_DENIED', messageIn(hot));
    assert.match(messageIn(hot), /journal/);
    assert.deepEqual(sets(path.join(out, 'hot')), {});
  }
  for (const name of ['late', 'bare']) {
    const o = r[name]!;
    if (codeIn(o) !== undefined) assert.equal(codeIn(o), 'PERMISSION_DENIED', `${name}: ${messageIn(o)}`);
    else assert.equal(withDatabase(o.value.files[0] as string, (db) => db.prepare("SELECT count(*) FROM patterns WHERE id = 'late'").pluck().get()), 1, `${name}: a commit is not in its backup`);
  }
  assert.equal(codeIn(r.inside!), 'PERMISSION_DENIED', messageIn(r.inside!));
});
