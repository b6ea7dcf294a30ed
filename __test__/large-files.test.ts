// Files large enough to be written past the page cache: every byte arrives, is flushed before it counts, and is read back from the disk.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertNoLeftovers, bin, cleanEnv, contents, copyOf, exec, makeDatabase, parseOne, project, readMetadata, sets, sha256, sleep, tempFolder, withDatabase, type Context, type Project, type Run } from './helpers/project';

const MiB = 2 ** 20;

/** A database of some ten megabytes. */
function makeLarge(file: string, filling: { journal?: 'wal' | 'delete'; pageSize?: number } = {}): void {
  makeDatabase(file, { rows: 200, ...filling });
  withDatabase(file, (db) => db.exec("INSERT INTO episodes(task, embedding) WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) SELECT 'large ' || i, randomblob(105000) FROM n"));
  assert.ok(fs.statSync(file).size > 10 * MiB, 'it is not large');
}

/** Runs the command in `p` under strace. */
function traced(p: Project, log: string, options: string[], args: string[]): Promise<Run> {
  assert.equal(spawnSync('strace', ['-V']).status, 0, 'strace is not installed; without it no system call can be made to fail (apt-get install strace)');
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
    const before = fromDisk();
    const made = await backup.createBackup({ root: p.root, compress });
    assert.equal(made.success, true, made.error);
    assert.ok(fromDisk() - before >= size, `${fromDisk() - before} bytes were read, and the copy has ${size}`);
  }
});

for (const large of [false, true])
  test(`a disk that gives back another byte than was written to it makes no backup (${large ? 'large' : 'small'} database)`, async (t) => {
    const p = project(t);
    if (large) makeLarge(p.at('agentdb.db'), { journal: 'wal' });
    else makeDatabase(p.at('agentdb.db'));
    const log = path.join(tempFolder(t), 'log');
    let done = false;
    // It is given time between the writing and the reading back.
    const run = traced(p, log, ['-e', 'inject=fadvise64:delay_enter=3000000'], ['create', '--no-compress', '--json']).finally(() => (done = true));
    assert.equal(await spoil(p, 'agentdb.db', () => done), true, 'no copy was seen');
    const { status, stdout, stderr } = await run;
    assert.equal(status, 4, stdout + stderr);
    assert.equal(JSON.parse(stdout).code, 'CHECKSUM_MISMATCH');
    assert.deepEqual(sets(p.backups), {});
    assertNoLeftovers(p.backups);
  });

/** Gives the copy of `source` in the making another byte than it has, again and again: nobody can tell when it was written for good. */
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
    if (fd !== undefined && fs.fstatSync(fd).size === bytes.length) fs.writeSync(fd, wrong, 0, 1, at);
  }
  if (fd !== undefined) fs.closeSync(fd);
  return fd !== undefined;
}
