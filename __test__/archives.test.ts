// How often an archive is gone through, by verify and by restore, and that a call which is stopped meanwhile leaves nothing.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertNoLeftovers, bin, cleanEnv, contents, exec, makeDatabase, project, sha256, tempFolder, withDatabase, type Context, type Project } from './helpers/project';
import { needStrace, wholeLines } from './helpers/syscalls';

interface Archived {
  p: Project;
  ts: string;
  archive: string;
  then: string;
  now: string;
}

/** A project of whose set nothing but the archive is left, unless `all` of it is to stay, with a database of several MiB that has changed since. */
async function archived(t: Context, all = false): Promise<Archived> {
  const p = project(t);
  const live = p.at('agentdb.db');
  makeDatabase(live, { rows: 2000, after: 'UPDATE episodes SET embedding = randomblob(5000)' });
  const then = contents(live);
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  if (!all) for (const name of fs.readdirSync(p.backups)) if (name.includes(made.timestamp) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(p.backups, name));
  withDatabase(live, (db) => db.exec('DELETE FROM episodes WHERE id > 1900'));
  return { p, ts: made.timestamp, archive: path.join(p.backups, `databases-backup-${made.timestamp}.tar.gz`), then, now: contents(live) };
}

/** How many times its length is read of `file` by a run of the command that goes well. */
async function timesRead(t: Context, p: Project, file: string, ...args: string[]): Promise<number> {
  const log = path.join(tempFolder(t), 'trace');
  const run = await exec('strace', ['-f', '-qq', '-y', '-s', '0', '-e', 'trace=read,pread64,readv,preadv', '-o', log, process.execPath, bin, ...args], { cwd: p.root, env: cleanEnv() });
  assert.equal(run.status, 0, run.stderr + run.stdout);
  const lines = wholeLines(fs.readFileSync(log, 'utf8')).filter((line) => line.includes(`<${file}>`));
  const bytes = lines.reduce((sum, line) => sum + Number(/ = (\d+)$/.exec(line.trim())?.[1] ?? assert.fail(line)), 0);
  return bytes / fs.statSync(file).size;
}

test('verify reads an archive once, with its copies beside it and without them', { timeout: 1_800_000 }, async (t) => {
  needStrace();
  for (const all of [true, false]) {
    const { p, ts, archive } = await archived(t, all);
    const times = await timesRead(t, p, archive, 'verify', ts);
    assert.ok(times >= 1 && times < 1.3, `read ${times} times, ${all ? 'with' : 'without'} its copies`);
  }
});

test('restore reads an archive of ours once', { timeout: 1_800_000 }, async (t) => {
  needStrace();
  const { p, ts, archive, then } = await archived(t);
  const times = await timesRead(t, p, archive, 'restore', ts, '--force');
  assert.ok(times >= 1 && times < 1.3, `read ${times} times`);
  assert.equal(contents(p.at('agentdb.db')), then);
  assertNoLeftovers(p.backups);
});

test('an archive that another tool has packed anew is restored, and read twice: before anything is written it is known what is in it', { timeout: 1_800_000 }, async (t) => {
  needStrace();
  const { p, ts, archive, then } = await archived(t);
  const work = tempFolder(t);
  assert.equal((await exec('tar', ['-xzf', archive, '-C', work])).status, 0);
  assert.equal((await exec('tar', ['-czf', archive, '--', ...fs.readdirSync(work)], { cwd: work })).status, 0);
  fs.writeFileSync(`${archive}.sha256`, `${sha256(archive)}  ${path.basename(archive)}\n`);
  const times = await timesRead(t, p, archive, 'restore', ts, '--force');
  assert.ok(times >= 2 && times < 2.3, `read ${times} times`);
  assert.equal(contents(p.at('agentdb.db')), then);
  assertNoLeftovers(p.backups);
});

test('a restore that is stopped while its archive is unpacked changes nothing and leaves nothing', { timeout: 600_000 }, async (t) => {
  const { p, ts, then, now } = await archived(t);
  const before = fs.readdirSync(p.backups).sort();
  const controller = new AbortController();
  let reached = false;
  const stopped = backup.restoreBackup(ts, {
    root: p.root,
    signal: controller.signal,
    onProgress: ({ phase }) => {
      if (phase === 'verify') (reached = true), controller.abort();
    },
  });
  const outcome = await stopped.then((r) => r, (e: Error & { code?: string }) => e);
  assert.ok(reached, 'nothing was reported');
  if (outcome instanceof Error) {
    assert.equal(outcome.code, 'ABORT_ERR', outcome.message);
    assert.equal(contents(p.at('agentdb.db')), now);
    assert.deepEqual(fs.readdirSync(p.backups).sort(), before);
  } else {
    // The call was faster than its own report of it.
    assert.equal(outcome.success, true, outcome.error);
    assert.equal(contents(p.at('agentdb.db')), then);
  }
  assertNoLeftovers(p.backups);
});
