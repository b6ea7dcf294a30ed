// Standard input, output and error that are closed: their numbers never go to a database or a backup.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { test } from 'node:test';
import * as backup from '../index.js';
import { bin, cleanEnv, contents, exec, makeDatabase, project, scriptArgs, withDatabase, type Context, type Project } from './helpers/project';

const names = ['agentdb.db', 'memory.db'];

async function changedProject(t: Context): Promise<{ p: Project; ts: string; then: string[] }> {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  makeDatabase(p.at('memory.db'), { journal: 'wal' });
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(made.success, true, made.error);
  const then = names.map((n) => contents(p.at(n)));
  for (const n of names) withDatabase(p.at(n), (db) => db.exec('DELETE FROM episodes WHERE id < 20'));
  return { p, ts: made.timestamp, then };
}

async function assertSound(p: Project, then: string[]): Promise<void> {
  assert.deepEqual(names.map((n) => contents(p.at(n))), then);
  const list = await backup.listBackups({ root: p.root });
  assert.ok(list.length >= 2);
  for (const b of list) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, b.timestamp);
}

test('a program that closes its standard descriptors and prints all the same prints into no database and no backup', { skip: process.platform !== 'linux' && 'it looks into /proc' }, async (t) => {
  const { p, ts, then } = await changedProject(t);
  const other = (await changedProject(t)).p;
  const result = p.at('result.json');
  // Once with another project before: what SQLite opens when it starts must not be what saves the databases.
  const script = `
    const [root, ts, result, other] = args;
    await backup.createBackup({ root: other, compress: false });
    const seen = [];
    const look = () => {
      for (const fd of [0, 1, 2]) {
        try { seen.push(fs.readlinkSync('/proc/self/fd/' + fd)); } catch { seen.push('closed'); }
        // What a library prints without asking.
        try { fs.writeSync(fd, 'a stray line\\n', 0); } catch (e) { if (e.code !== 'EBADF') seen.push(e.code); }
      }
    };
    for (const fd of [0, 1, 2]) fs.closeSync(fd);
    const made = await backup.createBackup({ root, compress: false, keepLast: null });
    look();
    const restored = await backup.restoreBackup(ts, { root, force: true });
    look();
    fs.writeFileSync(result, JSON.stringify({ made, restored, seen }));`;
  const run = await exec(process.execPath, scriptArgs(script, [p.root, ts, result, other.root]), { cwd: p.root, timeout: 60_000 });
  assert.equal(run.status, 0, `it ended with ${run.status ?? run.signal}`);
  const { made, restored, seen } = JSON.parse(fs.readFileSync(result, 'utf8')) as { made: backup.BackupResult; restored: backup.RestoreResult; seen: string[] };
  assert.deepEqual([made.success, restored.success], [true, true], JSON.stringify({ made, restored }));
  for (const what of seen) assert.ok(!what.startsWith(p.root), `a standard descriptor is ${what}`);
  await assertSound(p, then);
});

test('the command works with its standard descriptors closed', { skip: process.platform === 'win32' && 'it needs sh' }, async (t) => {
  const { p, ts, then } = await changedProject(t);
  for (const args of [['create'], ['restore', ts, '--force']]) {
    const run = await exec('sh', ['-c', 'exec "$@" <&- >&- 2>&-', 'sh', process.execPath, bin, ...args], { cwd: p.root, env: cleanEnv() });
    assert.equal(run.status, 0, args[0]);
  }
  await assertSound(p, then);
});
