// Files large enough to be written past the page cache: every byte arrives, is flushed before it counts, and is read back from the disk.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertNoLeftovers, bin, cleanEnv, contents, copyOf, exec, makeDatabase, parseOne, project, readMetadata, scriptArgs, sets, sha256, sleep, tempFolder, withDatabase, type Project, type Run } from './helpers/project';
import { needStrace } from './helpers/syscalls';

const MiB = 2 ** 20;

/** A database of some ten megabytes. */
function makeLarge(file: string, filling: { journal?: 'wal' | 'delete'; pageSize?: number } = {}): void {
  makeDatabase(file, { rows: 200, ...filling });
  withDatabase(file, (db) => db.exec("INSERT INTO episodes(task, embedding) WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT 'large ' || i, randomblob(105000) FROM n"));
  assert.ok(fs.statSync(file).size > 10 * MiB, 'it is not large');
}

/** Runs the command in `p` under strace. */
function traced(p: Project, log: string, options: string[], args: string[]): Promise<Run> {
  needStrace();
  return exec('strace', ['-f', '-y', '-qq', '--seccomp-bpf', '-o', log, ...options, process.execPath, bin, ...args], { cwd: p.root, env: cleanEnv() });
}

/** The newest set of `p` is sound and has the bytes that SQLite gives of `source`. */
async function assertWhole(p: Project, timestamp: string, source: string): Promise<void> {
  assert.equal(await backup.verifyBackup(timestamp, { root: p.root }), true);
  const copy = copyOf(p.backups, timestamp, source);
  assert.equal(sha256(copy), readMetadata(p.backups, timestamp).databases.find((d) => d.source === source)!.sha256);
  assert.equal(contents(copy), contents(p.at(source)));
}

for (const pageSize of [512, 4096, 65536])
  for (const journal of ['wal', 'delete'] as const)
    test(`a large database with pages of ${pageSize} bytes (${journal}) is backed up and restored byte for byte`, async (t) => {
      const p = project(t);
      makeLarge(p.at('agentdb.db'), { pageSize, journal });
      const made = await backup.createBackup({ root: p.root, compress: false });
      assert.equal(made.success, true, made.error);
      await assertWhole(p, made.timestamp, 'agentdb.db');
      const then = contents(p.at('agentdb.db'));
      // Few pages, then all of them, then some that are gone.
      for (const change of ["UPDATE episodes SET task = 'other' WHERE id % 40 = 0", 'UPDATE episodes SET embedding = randomblob(length(embedding))', 'DELETE FROM episodes WHERE id > 20; VACUUM']) {
        withDatabase(p.at('agentdb.db'), (db) => db.exec(change));
        const now = contents(p.at('agentdb.db'));
        const restored = await backup.restoreBackup(made.timestamp, { root: p.root });
        assert.equal(restored.success, true, restored.error);
        assert.equal(contents(p.at('agentdb.db')), then, change);
        assert.equal(await backup.verifyBackup(restored.safetyBackup!, { root: p.root }), true, 'the safety set is not sound');
        assert.equal(contents(copyOf(p.backups, restored.safetyBackup!, 'agentdb.db')), now, 'what was there is not in the safety set');
      }
      assertNoLeftovers(p.backups);
    });

test('a large file that is no database arrives whole, whatever its length', async (t) => {
  const p = project(t);
  for (const length of [8 * MiB, 9 * MiB + 1, 12 * MiB + 4096, 12 * MiB - 513]) {
    fs.writeFileSync(p.at('notes.db'), Buffer.alloc(length, `plain ${length} `));
    const made = await backup.createBackup({ root: p.root, compress: false });
    assert.equal(made.success, true, made.error);
    assert.equal(sha256(copyOf(p.backups, made.timestamp, 'notes.db')), sha256(p.at('notes.db')), `${length} bytes`);
  }
});

for (const [what, injection] of [
  ['can not set room aside', 'fallocate:error=EOPNOTSUPP'],
  ['takes the flag and then no direct write', 'writev:error=EINVAL:when=1'],
] as const)
  test(`on a file system that ${what} a large database is backed up all the same`, async (t) => {
    const p = project(t);
    makeLarge(p.at('agentdb.db'), { journal: 'wal' });
    const log = path.join(tempFolder(t), 'log');
    const run = await traced(p, log, ['-e', `inject=${injection}`], ['create', '--no-compress', '--json']);
    assert.equal(run.status, 0, run.stdout + run.stderr);
    assert.match(fs.readFileSync(log, 'utf8'), /INJECTED/, 'the fault did not come');
    await assertWhole(p, parseOne(run).timestamp as string, 'agentdb.db');
  });

// What can be done past the page cache is up to the file system and the disk's sectors.
const fileSystems: Record<string, { make: string; sector: number }> = {
  XFS: { make: 'mkfs.xfs -q', sector: 512 },
  btrfs: { make: 'mkfs.btrfs -q', sector: 512 },
  'ext4 on a disk with sectors of 4096 bytes': { make: 'mkfs.ext4 -q', sector: 4096 },
};
/** Makes a disk out of the file $1, seen by this process and its children alone, and mounts it at $2. */
const mountDisk = 'truncate -s 400M "$1" && loop=$(losetup --find --show --sector-size "$SECTOR" "$1") || exit 77; trap \'losetup --detach "$loop"\' EXIT; $MAKE "$loop" >&2 && mount "$loop" "$2" || exit 77';
const roundTrip = `
  const [root] = args, file = path.join(root, 'agentdb.db'), seen = [];
  for (const journal of ['wal', 'delete']) {
    const db = new Database(file);
    db.pragma('journal_mode = ' + journal);
    db.exec("CREATE TABLE IF NOT EXISTS t(x, data); DELETE FROM t; INSERT INTO t WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT i, randomblob(105000) FROM n");
    const rows = () => require('crypto').createHash('sha256').update(Buffer.concat(db.prepare('SELECT data FROM t ORDER BY x').pluck().all())).digest('hex');
    const then = rows();
    const made = await backup.createBackup({ root });
    db.exec('UPDATE t SET data = randomblob(105000) WHERE x % 4 = 0');
    const inspected = await backup.inspectBackup(made.timestamp, { root }), restored = await backup.restoreBackup(made.timestamp, { root });
    seen.push({ journal, made: made.error ?? 'ok', sound: inspected.ok, restored: restored.error ?? 'ok', same: rows() === then, integrity: db.pragma('integrity_check', { simple: true }) });
    db.close();
  }
  console.log(JSON.stringify(seen));`;
for (const [name, { make, sector }] of Object.entries(fileSystems))
  test(`on ${name} a large database is backed up and restored in both journal modes, beside an open connection`, { timeout: 120_000 }, async (t) => {
    const folder = tempFolder(t, 'disk');
    const mounted = path.join(folder, 'mounted');
    fs.mkdirSync(mounted);
    const shell = ['--mount', '--', 'sh', '-c', `${mountDisk}; shift 2; "$@"; status=$?; umount "$0"; exit $status`, mounted, path.join(folder, 'image'), mounted];
    const run = await exec('unshare', [...shell, process.execPath, ...scriptArgs(roundTrip, [mounted])], { env: cleanEnv({ MAKE: make, SECTOR: String(sector) }) });
    // Not by everybody, and not in every container of root's.
    if (run.status === 77 || /^unshare: /.test(run.stderr)) return t.skip(`such a disk can't be made here: ${run.stderr.trim().slice(0, 200)}`);
    assert.equal(run.status, 0, run.stderr);
    const sound = { made: 'ok', sound: true, restored: 'ok', same: true, integrity: 'ok' };
    assert.deepEqual(JSON.parse(run.stdout), [{ journal: 'wal', ...sound }, { journal: 'delete', ...sound }]);
  });

for (const injection of ['fallocate:error=ENOSPC', 'writev:error=ENOSPC:when=2', 'writev:error=EIO:when=3', 'fdatasync:error=EIO'])
  test(`when a large copy can't be written (${injection}) the backup fails with the reason, and nothing is left`, async (t) => {
    const p = project(t);
    makeLarge(p.at('agentdb.db'));
    withDatabase(p.at('agentdb.db'), (db) => db.exec("INSERT INTO episodes(task, embedding) WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT 'more ' || i, randomblob(105000) FROM n"));
    const log = path.join(tempFolder(t), 'log');
    const run = await traced(p, log, ['-e', `inject=${injection}`], ['create', '--no-compress', '--json']);
    assert.match(fs.readFileSync(log, 'utf8'), /INJECTED/, 'the fault did not come');
    assert.equal(run.status, injection.includes('ENOSPC') ? 13 : 1, run.stdout + run.stderr);
    assert.equal(parseOne(run).code, injection.includes('ENOSPC') ? 'NO_SPACE' : 'IO_ERROR');
    assert.deepEqual(sets(p.backups), {});
    assertNoLeftovers(p.backups);
  });

test('a large copy is on disk before it gets its name, and what was reserved and not needed is cut off', async (t) => {
  const p = project(t);
  makeLarge(p.at('agentdb.db'), { journal: 'wal' });
  const log = path.join(tempFolder(t), 'log');
  const run = await traced(p, log, ['-e', 'trace=fallocate,writev,write,fsync,renameat2'], ['create', '--no-compress', '--json']);
  assert.equal(run.status, 0, run.stderr);
  const copy = path.basename(copyOf(p.backups, parseOne(run).timestamp as string, 'agentdb.db'));
  const steps = fs.readFileSync(log, 'utf8').split('\n').filter((line) => new RegExp(`${copy}[>"]`).test(line)).map((line) => /^\d+ +(?:<\.\.\. )?(\w+)/.exec(line)![1]!);
  const last = (name: string): number => steps.lastIndexOf(name);
  assert.equal(steps[0], 'fallocate');
  assert.ok(last('writev') > 0 && last('writev') < last('fsync') && last('write') < last('fsync') && last('fsync') < last('renameat2'), steps.join(' '));
});

/** Bytes that this process had the disk read. */
const fromDisk = (): number => Number(/^read_bytes: (\d+)$/m.exec(fs.readFileSync('/proc/self/io', 'utf8'))![1]);
const EXT4 = 0xef53;

test('what was written is read back from the disk, not from memory', async (t) => {
  const p = project(t);
  makeLarge(p.at('agentdb.db'), { journal: 'wal' });
  if (fs.statfsSync(p.root).type !== EXT4) return t.skip('whether a file was read from the disk can be told on ext4');
  const size = fs.statSync(p.at('agentdb.db')).size;
  for (const compress of [false, true]) {
    let before = fromDisk();
    const made = await backup.createBackup({ root: p.root, compress });
    assert.equal(made.success, true, made.error);
    const written = size + (compress ? fs.statSync(made.archive!).size : 0);
    assert.ok(fromDisk() - before >= written, `${fromDisk() - before} bytes were read back of ${written}`);
    before = fromDisk();
    assert.equal((await backup.inspectBackup(made.timestamp, { root: p.root })).ok, true);
    assert.ok(fromDisk() - before >= written, `${fromDisk() - before} bytes were verified of ${written}`);
  }
});

for (const large of [false, true])
  test(`a disk that gives back another byte than was written to it makes no backup (${large ? 'large' : 'small'} database)`, async (t) => {
    const p = project(t);
    if (large) makeLarge(p.at('agentdb.db'), { journal: 'wal' });
    else makeDatabase(p.at('agentdb.db'));
    const log = path.join(tempFolder(t), 'log');
    let done = false;
    // Each thread's first flush is put off: the writer's only one, between the writing and the reading back.
    const run = traced(p, log, ['-e', 'inject=fsync:delay_enter=4000000:when=1'], ['create', '--no-compress', '--json']).finally(() => (done = true));
    assert.equal(await spoil(p, 'agentdb.db', () => done), true, 'no copy was seen');
    const { status, stdout, stderr } = await run;
    assert.equal(status, 4, stdout + stderr);
    assert.equal(JSON.parse(stdout).code, 'CHECKSUM_MISMATCH');
    assert.deepEqual(sets(p.backups), {});
    assertNoLeftovers(p.backups);
  });

/** Gives the copy in the making another byte than it has, again and again: nobody can tell when it was written for good. */
async function spoil(p: Project, source: string, done: () => boolean): Promise<boolean> {
  const bytes = fs.readFileSync(p.at(source));
  const at = bytes.length - 100;
  const wrong = Buffer.from([bytes[at]! ^ 1]);
  const open = (): number | undefined => {
    const staging = fs.existsSync(p.backups) ? fs.readdirSync(p.backups).find((name) => name.startsWith('.staging-')) : undefined;
    const copy = staging && fs.readdirSync(path.join(p.backups, staging)).find((name) => name.startsWith(`${source}.backup.`) && !name.endsWith('.sha256'));
    return copy ? fs.openSync(path.join(p.backups, staging, copy), 'r+') : undefined;
  };
  let fd: number | undefined;
  for (; !done(); await sleep(20)) {
    fd ??= open();
    if (fd === undefined || fs.fstatSync(fd).size < bytes.length) continue;
    fs.writeSync(fd, wrong, 0, 1, at);
    // What is read back comes from the disk.
    fs.fsyncSync(fd);
  }
  if (fd !== undefined) fs.closeSync(fd);
  return fd !== undefined;
}
