// The backup strategy's own commands, each as it is written there, and what they must do. <timestamp> and /path/to are filled in.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { cleanEnv, contents, copyOf, craftSet, daysAgo, exec, flip, hasTool, makeDatabase, momentOf, project, readMetadata, sleep, tempFolder, withDatabase, type Context, type Project, type Run } from './helpers/project';
import { linkScripts, timestampIn } from './helpers/scripts';
import { shellOnTerminal } from './helpers/terminal';

const example = '20250116-120000';
const sources = ['agentdb.db', '.agentic-qe/qe-learning.db', '.agentic-qe/memory.db'];

/** The project that the strategy describes. */
function sample(t: Context, name = 'sample'): Project {
  const p = project(t, name);
  for (const source of sources) makeDatabase(p.at(source), { rows: 30 });
  linkScripts(p.root);
  return p;
}

/** The same with a backup of that very name. */
async function sampleWithBackup(t: Context): Promise<Project> {
  const p = sample(t);
  assert.equal(await craftSet(p, momentOf(example), { sources }), example);
  return p;
}

const bash = (p: Project, command: string, env: Record<string, string> = {}): Promise<Run> => exec('bash', ['-c', command], { cwd: p.root, env: cleanEnv(env) });

async function good(p: Project, command: string): Promise<Run> {
  const run = await bash(p, command);
  assert.equal(run.status, 0, `${command}: ${run.stdout}${run.stderr}`);
  return run;
}

const state = (p: Project): string[] => sources.map((source) => contents(p.at(source)));
function damage(p: Project): void {
  for (const source of sources) withDatabase(p.at(source), (db) => db.exec('DELETE FROM episodes; DROP TABLE patterns'));
}
const present = (p: Project): string[] => fs.readdirSync(p.backups).filter((n) => !n.startsWith('.'));

/** Runs `command` on a terminal and says yes. */
async function confirmed(t: Context & { skip(why: string): void }, p: Project, command: string): Promise<string | undefined> {
  if (!(await hasTool('script'))) return void t.skip('no script(1) here to make a terminal');
  const { status, said } = await shellOnTerminal(p.root, command, 'y\n');
  assert.equal(status, 0, said);
  return said;
}

// --- Backup scripts ---------------------------------------------------------------------------------------------------

test('backup-databases.sh [--compress] [--verify] makes the files that are shown, and the archive only with --compress', async (t) => {
  const p = sample(t);
  const plain = timestampIn(await good(p, './scripts/backup-databases.sh'));
  const files = (ts: string) => ['agentdb.db', 'memory.db', 'qe-learning.db'].flatMap((n) => [`${n}.backup.${ts}`, `${n}.backup.${ts}.sha256`]).concat(`backup-metadata.${ts}.json`, `backup-metadata.${ts}.json.sha256`);
  assert.deepEqual(present(p).sort(), files(plain).sort());
  const packed = timestampIn(await good(p, './scripts/backup-databases.sh --compress --verify'));
  assert.deepEqual(present(p).filter((n) => n.includes(packed) && !n.startsWith('databases-backup')).sort(), files(packed).sort());
  assert.ok(present(p).includes(`databases-backup-${packed}.tar.gz`));
  const unverified = timestampIn(await good(p, './scripts/backup-databases.sh --no-verify'));
  assert.equal(readMetadata(p.backups, unverified).verified, false);
});

test('the metadata has the keys that are shown, with the branch and the commit', async (t) => {
  const p = sample(t);
  await good(p, 'git init -q -b main . && git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m first');
  const ts = timestampIn(await good(p, './scripts/backup-databases.sh --compress'));
  const m = readMetadata(p.backups, ts);
  for (const key of ['timestamp', 'date', 'hostname', 'user', 'git_commit', 'git_branch', 'compressed'] as const) assert.ok(m[key], key);
  assert.deepEqual([m.timestamp, m.git_branch, m.compressed], [ts, 'main', true]);
  assert.equal((await good(p, 'git rev-parse HEAD')).stdout.slice(0, m.git_commit.length), m.git_commit);
});

test('the last 10 backups are kept', async (t) => {
  const p = sample(t);
  for (let day = 12; day > 0; day--) await craftSet(p, daysAgo(day), { sources });
  timestampIn(await good(p, './scripts/backup-databases.sh'));
  assert.equal((await backup.listBackups({ root: p.root })).length, 10);
});

test('restore-databases.sh alone lists what can be restored', async (t) => {
  const p = await sampleWithBackup(t);
  const run = await bash(p, './scripts/restore-databases.sh');
  assert.equal(run.status, 1);
  assert.match(run.stderr, /Usage/);
  assert.match(run.stdout, /20250116-120000/);
});

test('restore-databases.sh 20250116-120000 asks, then puts all three databases back and says what it did', async (t) => {
  const p = await sampleWithBackup(t);
  const then = state(p);
  damage(p);
  const refused = await bash(p, './scripts/restore-databases.sh 20250116-120000');
  assert.equal(refused.status, 1);
  const said = await confirmed(t, p, './scripts/restore-databases.sh 20250116-120000');
  if (said === undefined) return;
  assert.deepEqual(state(p), then);
  assert.match(said, /Restore complete!/);
  for (const source of sources) assert.ok(said.includes(source), source);
});

test('restore-databases.sh 20250116-120000 --force asks nobody, and keeps the state before as a safety backup', async (t) => {
  const p = await sampleWithBackup(t);
  const then = state(p);
  damage(p);
  const damaged = state(p);
  await good(p, './scripts/restore-databases.sh 20250116-120000 --force');
  assert.deepEqual(state(p), then);
  const safety = (await backup.listBackups({ root: p.root })).find((b) => b.kind === 'safety');
  assert.ok(safety);
  await good(p, `./scripts/restore-databases.sh ${safety.timestamp} --force`);
  assert.deepEqual(state(p), damaged);
});

test('a restore checks the checksums first, unless --no-verify', async (t) => {
  const p = await sampleWithBackup(t);
  const before = state(p);
  flip(copyOf(p.backups, example, 'agentdb.db'), 9000);
  const run = await bash(p, './scripts/restore-databases.sh 20250116-120000 --force');
  assert.equal(run.status, 4, run.stderr);
  assert.deepEqual(state(p), before);
});

test('manage-backups.sh list, clean 10, verify, compare, info, size: each with the example’s words', async (t) => {
  const p = await sampleWithBackup(t);
  for (let day = 11; day > 0; day--) await craftSet(p, daysAgo(day), { sources });

  const list = await good(p, './scripts/manage-backups.sh list');
  assert.match(list.stdout, /Total backups: 12/);
  assert.match((await good(p, './scripts/manage-backups.sh verify 20250116-120000')).stdout, /All files verified/);

  const same = await good(p, './scripts/manage-backups.sh compare 20250116-120000');
  for (const source of sources) assert.ok(same.stdout.includes(source), same.stdout);
  damage(p);
  const different = await good(p, './scripts/manage-backups.sh compare 20250116-120000');
  assert.notEqual(different.stdout, same.stdout);
  assert.match(different.stdout, /episodes/);
  assert.match(different.stdout, /patterns/);

  const info = await good(p, './scripts/manage-backups.sh info 20250116-120000');
  for (const word of [example, ...sources]) assert.ok(info.stdout.includes(word), `${word}: ${info.stdout}`);
  assert.match((await good(p, './scripts/manage-backups.sh size')).stdout, /\d(\.\d+)? ?(B|KB|KiB|MB|MiB)/);

  assert.match((await good(p, './scripts/manage-backups.sh clean 10')).stdout, /Removed 2 old backup\(s\)/);
  const left = await backup.listBackups({ root: p.root });
  assert.equal(left.length, 10);
  assert.ok(!left.some((b) => b.timestamp === example), 'the oldest is still there');
});

// --- Disaster recovery --------------------------------------------------------------------------------------------------

test('data corruption detected: list, verify, restore', async (t) => {
  const p = await sampleWithBackup(t);
  const then = state(p);
  const fd = fs.openSync(p.at('agentdb.db'), 'r+');
  fs.writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 2 * 4096);
  fs.closeSync(fd);
  await good(p, './scripts/manage-backups.sh list');
  await good(p, './scripts/manage-backups.sh verify 20250116-120000');
  if ((await confirmed(t, p, './scripts/restore-databases.sh 20250116-120000')) === undefined) return;
  assert.deepEqual(state(p), then);
});

const newest = `latest=$(ls -1 .agentic-qe/backups/*.backup.* | \\
  sed 's/.*backup\\.//' | cut -d'.' -f1 | sort -r | head -1)`;

test('accidental deletion: the pipeline finds the newest backup, and the restore brings the files back', async (t) => {
  const p = await sampleWithBackup(t);
  await craftSet(p, daysAgo(2), { sources });
  const ts = timestampIn(await good(p, './scripts/backup-databases.sh'));
  const then = state(p);
  assert.equal((await good(p, `${newest}\necho "$latest"`)).stdout.trim(), ts);
  for (const source of sources) fs.rmSync(p.at(source));
  if ((await confirmed(t, p, `${newest}\n./scripts/restore-databases.sh $latest`)) === undefined) return;
  assert.deepEqual(state(p), then);
});

test('failed migration: the safety backup is restored with --force', async (t) => {
  const p = sample(t);
  const then = state(p);
  const safety = await backup.createSafetyBackup('agentdb-migration', { root: p.root });
  assert.ok(safety.success);
  damage(p);
  await good(p, './scripts/restore-databases.sh <safety-timestamp> --force'.replace('<safety-timestamp>', safety.timestamp));
  assert.deepEqual(state(p), then);
});

// --- Manual testing -------------------------------------------------------------------------------------------------------

test('manual testing: the five steps, with the sqlite3 of the machine', async (t) => {
  if (!(await hasTool('sqlite3'))) return t.skip('no sqlite3 here');
  const p = project(t);
  linkScripts(p.root);
  await good(p, 'sqlite3 test.db "CREATE TABLE test(id INTEGER)"');
  const ts = timestampIn(await good(p, './scripts/backup-databases.sh --verify'));
  await good(p, 'sqlite3 test.db "DROP TABLE test"');
  assert.notEqual((await bash(p, 'sqlite3 test.db "SELECT * FROM test"')).status, 0);
  await good(p, './scripts/restore-databases.sh <timestamp> --force'.replace('<timestamp>', ts));
  assert.equal((await good(p, 'sqlite3 test.db "SELECT * FROM test"')).stdout, '');
});

// --- Monitoring -------------------------------------------------------------------------------------------------------------

test('backup health checks: size, verify of all, list', async (t) => {
  const p = await sampleWithBackup(t);
  const ts = timestampIn(await good(p, './scripts/backup-databases.sh --compress'));
  await good(p, './scripts/manage-backups.sh size');
  const all = await good(p, './scripts/manage-backups.sh verify');
  for (const word of [example, ts, 'All files verified']) assert.ok(all.stdout.includes(word), word);
  const list = await good(p, './scripts/manage-backups.sh list');
  for (const word of [example, ts, 'Total backups: 2']) assert.ok(list.stdout.includes(word), word);
  flip(copyOf(p.backups, example, 'agentdb.db'), 9000);
  const bad = await bash(p, './scripts/manage-backups.sh verify');
  assert.equal(bad.status, 4);
  assert.doesNotMatch(bad.stdout, /All files verified/);
});

// --- Troubleshooting ----------------------------------------------------------------------------------------------------------

test('verification failed: verify says what is wrong, compare still answers, and a new backup is good', async (t) => {
  const p = await sampleWithBackup(t);
  const fill = (command: string) => command.replace('<timestamp>', example);
  flip(copyOf(p.backups, example, 'agentdb.db'), 9000);
  const run = await bash(p, fill('./scripts/manage-backups.sh verify <timestamp>'));
  assert.equal(run.status, 4);
  assert.match(run.stdout + run.stderr, /agentdb\.db\.backup\.20250116-120000/);
  const compared = await bash(p, fill('./scripts/manage-backups.sh compare <timestamp>'));
  assert.ok(compared.status === 0 || compared.status === 4, compared.stderr);
  const ts = timestampIn(await good(p, './scripts/backup-databases.sh --verify'));
  await good(p, `./scripts/manage-backups.sh verify ${ts}`);
});

test('insufficient storage: size, clean 5, archives removed by hand; what is left is sound and restorable', async (t) => {
  const p = sample(t);
  const then = state(p);
  for (let day = 7; day > 0; day--) await craftSet(p, daysAgo(day), { sources, archive: true });
  const ts = timestampIn(await good(p, './scripts/backup-databases.sh --compress'));
  await good(p, './scripts/manage-backups.sh size');
  assert.match((await good(p, './scripts/manage-backups.sh clean 5')).stdout, /Removed 3 old backup\(s\)/);
  assert.equal((await backup.listBackups({ root: p.root })).length, 5);
  await good(p, 'rm .agentic-qe/backups/*.tar.gz');
  assert.match((await good(p, './scripts/manage-backups.sh verify')).stdout, /All files verified/);
  assert.match((await good(p, './scripts/manage-backups.sh list')).stdout, /Total backups: 5/);
  damage(p);
  await good(p, `./scripts/restore-databases.sh ${ts} --force`);
  assert.deepEqual(state(p), then);
});

test('confirmation timeout: --force needs no answer', async (t) => {
  const p = await sampleWithBackup(t);
  const then = state(p);
  damage(p);
  await good(p, './scripts/restore-databases.sh <timestamp> --force'.replace('<timestamp>', example));
  assert.deepEqual(state(p), then);
});

// --- Automation -----------------------------------------------------------------------------------------------------------------
// Left out: `gh workflow run backup-databases.yml`, which needs GitHub. What that workflow does is in workflow.test.ts.

test('pre-push hook: a push makes a backup with an archive; without a backup there is no push', async (t) => {
  const p = sample(t);
  const remote = path.join(tempFolder(t), 'remote.git');
  await good(p, `git init -q --bare '${remote}' && git init -q -b main . && git remote add origin '${remote}'`);
  await good(p, 'git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m first');
  fs.writeFileSync(p.at('.git', 'hooks', 'pre-push'), '#!/bin/bash\n./scripts/backup-databases.sh --compress\n', { mode: 0o755 });
  await good(p, 'git push -q origin main');
  const [made] = await backup.listBackups({ root: p.root });
  assert.deepEqual([made?.compressed, made?.metadata?.git_branch], [true, 'main']);
  for (const source of sources) fs.rmSync(p.at(source));
  const push = await bash(p, 'git push -q origin main:other');
  assert.notEqual(push.status, 0, 'pushed without a backup');
  assert.equal((await good(p, 'git ls-remote origin other')).stdout, '');
});

test('cron line: from another folder, with the little that cron gives', async (t) => {
  const p = sample(t, 'path');
  fs.renameSync(p.at('scripts'), p.at('linked'));
  fs.mkdirSync(p.at('to'));
  for (const entry of fs.readdirSync(p.root)) if (entry !== 'to') fs.renameSync(p.at(entry), p.at('to', entry));
  fs.renameSync(p.at('to', 'linked'), p.at('to', 'scripts'));
  const [when, command] = /^(\S+ \S+ \S+ \S+ \S+) (.*)$/.exec('0 2 * * * /path/to/scripts/backup-databases.sh --compress --verify')!.slice(1) as [string, string];
  assert.equal(when, '0 2 * * *');
  const home = tempFolder(t, 'home');
  const run = await exec('env', ['-i', `HOME=${home}`, `PATH=${path.dirname(process.execPath)}:/usr/bin:/bin`, '/bin/sh', '-c', command.replace('/path', p.root)], { cwd: home });
  const ts = timestampIn(run);
  assert.equal(fs.existsSync(p.at('to', '.agentic-qe', 'backups', `databases-backup-${ts}.tar.gz`)), true);
  assert.deepEqual(fs.readdirSync(home), []);
});

test('CI/CD: create, failing tests, restore of $BACKUP_TIMESTAMP', async (t) => {
  const p = sample(t);
  const then = state(p);
  const files = tempFolder(t, 'runner');
  const env: Record<string, string> = { CI: 'true', GITHUB_ACTIONS: 'true', GITHUB_ENV: path.join(files, 'env'), GITHUB_OUTPUT: path.join(files, 'output') };
  const step = async (command: string): Promise<Run> => {
    fs.writeFileSync(env.GITHUB_ENV!, '', { flag: 'a' });
    const named = Object.fromEntries(fs.readFileSync(env.GITHUB_ENV!, 'utf8').split('\n').filter(Boolean).map((line) => line.split('=') as [string, string]));
    return exec('bash', ['-e', '-c', command], { cwd: p.root, env: cleanEnv({ ...env, ...named }) });
  };
  fs.writeFileSync(p.at('package.json'), JSON.stringify({ name: 'x', version: '1.0.0', scripts: { test: 'rm agentdb.db && exit 3' } }));
  timestampIn(await step('./scripts/backup-databases.sh --compress'));
  // Another set: the newest is not the one that is meant.
  await sleep(1000);
  await backup.createSafetyBackup('tests', { root: p.root });
  assert.notEqual((await step('npm test')).status, 0);
  assert.equal(fs.existsSync(p.at('agentdb.db')), false);
  const restored = await step('./scripts/restore-databases.sh $BACKUP_TIMESTAMP --force');
  assert.equal(restored.status, 0, restored.stderr);
  assert.deepEqual(state(p), then);
});
