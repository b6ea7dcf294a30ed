// docs/scheduling.md: every line of it that can run is taken from there and run.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import * as backup from '../index.js';
import { cleanEnv, contents, copyOf, exec, flip, hasTool, makeDatabase, packageRoot, project, tempFolder, withDatabase, type Context, type Project, type Run } from './helpers/project';
import { withKey } from './helpers/gpg';
import { installPackage, linkScripts, timestampIn } from './helpers/scripts';

const page = fs.readFileSync(path.join(packageRoot, 'docs', 'scheduling.md'), 'utf8');
const blocks = (language: string): string[] => [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter((m) => m[1] === language).map((m) => m[2]!);
const block = (language: string, containing: string): string => {
  const found = blocks(language).filter((b) => b.includes(containing));
  assert.equal(found.length, 1, `${found.length} blocks of ${language} with ${containing}`);
  return found[0]!;
};

function sample(t: Context): Project {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 30 });
  linkScripts(p.root);
  return p;
}

const nodeFolder = path.dirname(process.execPath);

// --- cron -----------------------------------------------------------------------------------------------------------------

const crontab = block('crontab', 'backup-databases.sh').trim().split('\n');
const jobs = crontab.filter((line) => /^\d/.test(line)).map((line) => /^(?:\S+ ){5}(.*)$/.exec(line)![1]!);

/** What cron does with a line: `/bin/sh -c` in the home folder, with next to no environment. */
async function cron(t: Context, p: Project, command: string): Promise<Run> {
  const home = tempFolder(t, 'home');
  const setting = crontab.find((line) => line.startsWith('PATH='));
  assert.ok(setting, 'the crontab sets no PATH');
  return exec('env', ['-i', `HOME=${home}`, 'SHELL=/bin/sh', `${setting}:${nodeFolder}`, '/bin/sh', '-c', command.replaceAll('/path/to/project', p.root)], { cwd: home });
}

test('crontab: two jobs, and no % that would be a new line', () => {
  assert.equal(jobs.length, 2);
  for (const line of crontab) assert.doesNotMatch(line, /%/);
});

test('cron job 1 makes a backup with an archive and prints nothing; a failure is printed', async (t) => {
  const p = sample(t);
  const run = await cron(t, p, jobs[0]!);
  assert.deepEqual([run.status, run.stdout, run.stderr], [0, '', '']);
  const [made] = await backup.listBackups({ root: p.root });
  assert.equal(made?.compressed, true);
  fs.rmSync(p.at('agentdb.db'));
  const failed = await cron(t, p, jobs[0]!);
  assert.ok(failed.stderr.length > 0, 'nobody would hear of it');
});

test('cron job 2 prints nothing when all is well, and what is wrong when it is not', async (t) => {
  const p = sample(t);
  await cron(t, p, jobs[0]!);
  const well = await cron(t, p, jobs[1]!);
  assert.deepEqual([well.status, well.stdout, well.stderr], [0, '', '']);
  const [made] = await backup.listBackups({ root: p.root });
  flip(copyOf(p.backups, made!.timestamp, 'agentdb.db'), 5000);
  const damaged = await cron(t, p, jobs[1]!);
  assert.match(damaged.stdout, /agentdb\.db/);
});

// --- systemd --------------------------------------------------------------------------------------------------------------

const service = block('ini', '[Service]');
const timer = block('ini', '[Timer]');

test('systemd-analyze finds nothing in the units', async (t) => {
  // Not a tool that a machine has to have: most containers don't.
  if ((await exec('sh', ['-c', 'command -v systemd-analyze'])).status !== 0) return t.skip('no systemd-analyze here');
  const p = sample(t);
  const units = tempFolder(t, 'units');
  const files = { 'aqe-backup.service': service, 'aqe-backup.timer': timer };
  for (const [name, unit] of Object.entries(files)) {
    assert.ok(page.includes(name), name);
    fs.writeFileSync(path.join(units, name), unit.replaceAll('/path/to/project', p.root));
  }
  const run = await exec('systemd-analyze', ['verify', ...Object.keys(files).map((name) => path.join(units, name))]);
  assert.deepEqual([run.status, run.stdout, run.stderr], [0, '', '']);
});

test('the service’s commands, run as systemd would: one after the other, each with exit 0', async (t) => {
  const p = sample(t);
  const commands = [...service.matchAll(/^ExecStart=(.*)$/gm)].map((m) => m[1]!.replaceAll('/path/to/project', p.root).split(' '));
  assert.equal(commands.length, 2);
  const [, PATH] = /^Environment=PATH=(.*)$/m.exec(service)!;
  for (const [file, ...args] of commands) {
    const run = await exec(file!, args, { cwd: '/', env: { PATH: `${PATH}:${nodeFolder}` } });
    assert.equal(run.status, 0, run.stderr);
  }
  assert.equal((await backup.listBackups({ root: p.root })).length, 1);
});

// --- by hand --------------------------------------------------------------------------------------------------------------

test('the link to the installed scripts, and the hook before a push', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  await installPackage(t, p.root);
  const remote = path.join(tempFolder(t), 'remote.git');
  const sh = async (command: string) => {
    const run = await exec('sh', ['-ec', command], { cwd: p.root });
    assert.equal(run.status, 0, `${command}: ${run.stderr}`);
  };
  await sh(block('sh', 'ln -s'));
  await sh(`git init -q --bare '${remote}'; git init -q -b main .; git remote add origin '${remote}'; git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m first`);
  fs.writeFileSync(p.at('.git', 'hooks', 'pre-push'), block('bash', '#!/bin/bash'), { mode: 0o755 });
  await sh('git push -q origin main');
  const [made] = await backup.listBackups({ root: p.root });
  assert.equal(made?.compressed, true);
});

test('CI: the steps of the page, with a test run that destroys the data', async (t) => {
  const p = sample(t);
  const then = contents(p.at('agentdb.db'));
  const file = path.join(tempFolder(t), 'env');
  const steps = parse(block('yaml', 'BACKUP_TIMESTAMP')) as { run: string; if?: string }[];
  assert.deepEqual(steps.map((s) => s.if), [undefined, undefined, 'failure()']);
  fs.writeFileSync(p.at('package.json'), JSON.stringify({ name: 'x', version: '1.0.0', scripts: { test: 'rm agentdb.db; exit 1' } }));
  const statuses: (number | null)[] = [];
  for (const step of steps) {
    const named = fs.existsSync(file) ? Object.fromEntries(fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => line.split('='))) : {};
    statuses.push((await exec('bash', ['-e', '-c', step.run], { cwd: p.root, env: cleanEnv({ GITHUB_ENV: file, ...named }) })).status);
  }
  assert.deepEqual(statuses, [0, 1, 0]);
  assert.equal(contents(p.at('agentdb.db')), then);
});

test('off the machine and back: encrypt the newest archive, decrypt it, restore from it', { timeout: 600_000 }, async (t) => {
  if (!(await hasTool('gpg'))) return t.skip('no gpg here');
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 30 });
  await installPackage(t, p.root);
  const env = await withKey(t);
  const bash = async (command: string): Promise<Run> => {
    const run = await exec('bash', ['-ec', command], { cwd: p.root, env });
    assert.equal(run.status, 0, `${command}: ${run.stderr}`);
    return run;
  };
  const older = timestampIn(await bash('npx --no-install aqe-backup create --compress'));
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes WHERE id > 5'));
  const then = contents(p.at('agentdb.db'));
  const ts = timestampIn(await bash('npx --no-install aqe-backup create --compress'));
  assert.notEqual(ts, older);
  await bash(block('bash', 'gpg --encrypt'));
  fs.renameSync(path.join(p.backups, `databases-backup-${ts}.tar.gz.gpg`), p.at('backup.tar.gz.gpg'));
  fs.rmSync(p.backups, { recursive: true });
  fs.rmSync(p.at('agentdb.db'));
  // Without a terminal, the restore wants --force.
  await bash(block('bash', 'gpg --decrypt').trim() + ' --force');
  assert.equal(contents(p.at('agentdb.db')), then);
});
