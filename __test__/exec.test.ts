// exec: a safety backup, the command, and the databases put back if it fails.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import { assertNoLeftovers, bin, cleanEnv, contents, count, finished, holder, makeDatabase, parseOne, project, readMetadata, sleep, type Companion, type Context, type Project } from './helpers/project';

function withData(t: Context): Project {
  const p = project(t, 'a project # 1');
  makeDatabase(p.at('agentdb.db'), { rows: 20, journal: 'wal' });
  return p;
}

/** A node program for the command to run. */
function program(p: Project, source: string): string[] {
  const file = p.at('program.cjs');
  fs.writeFileSync(file, `const Database = require(${JSON.stringify(require.resolve('better-sqlite3'))});\nconst empty = () => { const db = new Database('agentdb.db'); db.exec('DELETE FROM episodes'); db.close() };\n${source}`);
  return [process.execPath, file];
}

/** As `json` of a project: here `--json` has to stand before the command. */
async function json(p: Project, ...args: string[]): Promise<{ status: number | null; document: Record<string, any>; stderr: string }> {
  const run = await p.run('exec', '--json', ...args);
  return { status: run.status, document: parseOne(run), stderr: run.stderr };
}

async function safetySets(p: Project): Promise<string[]> {
  return (await backup.listBackups({ root: p.root })).filter((b) => b.kind === 'safety').map((b) => b.timestamp);
}

test('a command that succeeds keeps what it did, and the safety backup says what it was for', async (t) => {
  const p = withData(t);
  const run = await p.run('exec', '--operation', 'empty "it"', '--', ...program(p, "empty(); console.log('out ' + process.env.BACKUP_TIMESTAMP)"));
  assert.equal(run.status, 0, run.stderr);
  assert.equal(count(p.at('agentdb.db')), 0);
  const [ts] = await safetySets(p);
  assert.ok(ts);
  assert.equal(readMetadata(p.backups, ts).operation, 'empty "it"');
  assert.equal(run.stdout, `out ${ts}\n`);
  assert.match(run.stderr, new RegExp(ts));
});

test('a command that fails is undone, and its exit code is ours', async (t) => {
  const p = withData(t);
  const before = contents(p.at('agentdb.db'));
  const run = await p.run('exec', '--operation', 'migrate', '--', ...program(p, 'empty(); process.exit(7)'));
  assert.equal(run.status, 7, run.stderr);
  assert.equal(contents(p.at('agentdb.db')), before);
  assert.match(run.stderr, /exit code 7/);
  assert.match(run.stderr, /Restored:/);
  assertNoLeftovers(p.backups);
});

test('a command that a signal ends is undone, and the exit code is 128 and the signal', async (t) => {
  const p = withData(t);
  const before = contents(p.at('agentdb.db'));
  const run = await p.run('exec', '--operation', 'migrate', '--', ...program(p, "empty(); process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000)"));
  assert.equal(run.status, 137, run.stderr);
  assert.equal(contents(p.at('agentdb.db')), before);
});

/** Waits for what a child says, on either stream. */
function listener(child: ChildProcess): (what: RegExp) => Promise<void> {
  let said = '';
  let over = false;
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (b: Buffer) => (said += b.toString()));
  child.on('close', () => (over = true));
  return async (what) => {
    for (; !what.test(said); await sleep(10)) assert.equal(over, false, `it ended and never said ${what}: ${said}`);
  };
}

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const) {
  test(`${signal} reaches the command, and then the databases are put back, however often it comes`, { timeout: 600_000 }, async (t) => {
    const p = withData(t);
    const before = contents(p.at('agentdb.db'));
    // It takes three of them, and has changed everything before the first.
    const source = `empty(); let n = 0; for (const s of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']) process.on(s, () => { console.log('got ' + s); if (++n === 3) process.exit(3) }); console.log('ready'); setInterval(() => {}, 1000)`;
    const child = spawn(process.execPath, [bin, 'exec', '--operation', 'x', '--busy-timeout', '3600000', '--', ...program(p, source)], { cwd: p.root, env: cleanEnv(), stdio: ['ignore', 'pipe', 'pipe'] });
    t.after(() => void child.kill('SIGKILL'));
    const end = finished(child);
    const heard = listener(child);
    await heard(/ready/);
    let other: Companion | undefined;
    for (let i = 1; i <= 3; i++) {
      if (i === 3) other = await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
      child.kill(signal);
      await heard(new RegExp(`(got ${signal}\\n[^]*){${i}}`));
    }
    // While the databases are put back, for which one of them has to be waited.
    await heard(/putting backup/);
    for (let i = 0; i < 3; i++) {
      child.kill(signal);
      await sleep(20);
    }
    await other!.end();
    const run = await end;
    assert.equal(run.status, 3, `${run.status} ${run.signal} ${run.stderr}`);
    assert.equal(contents(p.at('agentdb.db')), before);
    assertNoLeftovers(p.backups);
  });
}

test('a signal that the command survives is no reason to undo what it did', { timeout: 600_000 }, async (t) => {
  const p = withData(t);
  const source = `process.on('SIGTERM', () => { empty(); process.exit(0) }); console.log('ready'); setInterval(() => {}, 1000)`;
  const child = spawn(process.execPath, [bin, 'exec', '--operation', 'x', '--', ...program(p, source)], { cwd: p.root, env: cleanEnv(), stdio: ['ignore', 'pipe', 'pipe'] });
  const end = finished(child);
  await listener(child)(/ready/);
  child.kill('SIGTERM');
  assert.equal((await end).status, 0);
  assert.equal(count(p.at('agentdb.db')), 0);
});

test('without a safety backup the command is not run', async (t) => {
  const p = project(t);
  const none = await p.run('exec', '--operation', 'x', '--', 'touch', p.at('ran'));
  assert.equal(none.status, 10, none.stderr);
  makeDatabase(p.at('agentdb.db'), { rows: 5 });
  const other = await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  const busy = await p.run('exec', '--operation', 'x', '--busy-timeout', '200', '--', 'touch', p.at('ran'));
  assert.equal(busy.status, 11, busy.stderr);
  await other.end();
  assert.equal(fs.existsSync(p.at('ran')), false);
});

test('a command that is not there: exit 127; one that is no program: 126; nothing is restored', async (t) => {
  const p = withData(t);
  const missing = await json(p, '--operation', 'x', '--', 'no-such-command-of-ours');
  assert.deepEqual([missing.status, missing.document.exitCode, missing.document.restored, missing.document.restore], [127, 127, false, null]);
  assert.match(missing.document.error as string, /no-such-command-of-ours/);
  fs.writeFileSync(p.at('no-program'), 'text', { mode: 0o644 });
  const run = await p.run('exec', '--operation', 'x', '--', p.at('no-program'));
  assert.equal(run.status, 126, run.stderr);
  assert.match(run.stderr, /can't be started/);
});

test('a restore that fails too is told, with its own exit code, and the safety backup is kept', { timeout: 600_000 }, async (t) => {
  const p = withData(t);
  // The command damages its own safety backup, in copy and archive.
  const source = `const fs = require('fs'); for (const f of fs.readdirSync('.agentic-qe/backups')) if (/agentdb.db.backup.[0-9-]+$|gz$/.test(f)) fs.truncateSync('.agentic-qe/backups/' + f, 100); empty(); process.exit(9)`;
  const { status, document, stderr } = await json(p, '--operation', 'x', '--', ...program(p, source));
  assert.equal(status, 4, stderr);
  assert.deepEqual([document.exitCode, document.restored, document.ok], [9, false, false]);
  assert.deepEqual([(document.restore as { success: boolean }).success, (document.restore as { code: string }).code], [false, 'CHECKSUM_MISMATCH']);
  assert.match(stderr, /Not restored/);
});

test('--json prints one document: the command’s own output goes to standard error', async (t) => {
  const p = withData(t);
  const { status, document, stderr } = await json(p, '--operation', 'x', '--', ...program(p, "console.log('{}'); empty(); process.exit(2)"));
  assert.deepEqual([status, document.command, document.ok, document.exitCode, document.restored], [2, 'exec', false, 2, true]);
  assert.match(stderr, /^\{\}$/m);
});

test('the command’s own flags are its own, and a missing operation or command is a usage error', async (t) => {
  const p = withData(t);
  const run = await p.run('exec', '--operation', 'x', '--', 'echo', '--json', '--root', 'elsewhere', '--help');
  assert.deepEqual([run.status, run.stdout], [0, '--json --root elsewhere --help\n']);
  for (const args of [['exec', '--', 'true'], ['exec', '--operation', 'x'], ['exec', '--operation', '', '--', 'true'], ['exec', '--operation', 'x', 'true'], ['exec', '--operation', 'x', '--']]) {
    assert.equal((await p.run(...args)).status, 2, args.join(' '));
  }
  assert.equal((await safetySets(p)).length, 1);
});

test('an application that has the database open goes on through a command that fails', async (t) => {
  const p = withData(t);
  const db = new Database(p.at('agentdb.db'));
  t.after(() => db.close());
  const run = await p.run('exec', '--operation', 'x', '--', ...program(p, 'empty(); process.exit(1)'));
  assert.equal(run.status, 1, run.stderr);
  assert.equal(db.prepare('SELECT count(*) FROM episodes').pluck().get(), 20);
  db.exec("INSERT INTO episodes(task) VALUES ('after')");
  assert.deepEqual(db.pragma('integrity_check'), [{ integrity_check: 'ok' }]);
});

test('a safety backup that the command has removed is not said to be kept', async (t) => {
  const p = withData(t);
  const run = await p.run('exec', '--operation', 'x', '--', 'sh', '-c', 'rm -rf .agentic-qe/backups; exit 5');
  assert.equal(run.status, 10);
  assert.match(run.stderr, /is gone$/m);
  assert.doesNotMatch(run.stderr, /is kept/);
});

test('the safety backup can’t be removed from inside, whatever the command tries', async (t) => {
  const p = withData(t);
  const before = contents(p.at('agentdb.db'));
  const run = await p.run('exec', '--operation', 'x', '--', 'sh', '-c', `"${process.execPath}" program.cjs; "${process.execPath}" "${bin}" create; "${process.execPath}" "${bin}" clean 1; "${process.execPath}" "${bin}" delete $BACKUP_TIMESTAMP --force --even-newest; echo "delete $?"; exit 9`.replace('program.cjs', program(p, 'empty()')[1]!.replaceAll(' ', '\\ ').replace('#', '\\#')));
  assert.equal(run.status, 9, run.stderr);
  assert.match(run.stdout, /delete 11/);
  assert.match(run.stderr, /in use/);
  assert.equal(contents(p.at('agentdb.db')), before);
});
