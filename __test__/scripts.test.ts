// The scripts: which project and which command they find, however they are called, and what they add to the command.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { cleanEnv, contents, copyOf, count, exec, finished, flip, hasTool, holder, holdsLock, isRoot, makeDatabase, packageRoot, project, publicPackage, readMetadata, sets, tempFolder, tree, unprivileged, withDatabase, type Context, type Project } from './helpers/project';
import { installPackage, linkScripts, runScriptFile, scriptNames, scriptsFolder, timestampIn } from './helpers/scripts';

const [backupScript, restoreScript, manageScript] = ['./scripts/backup-databases.sh', './scripts/restore-databases.sh', './scripts/manage-backups.sh'];
const awkward = `it's "a" #1 $project; & more`;

/** A project with a database of 20 rows, and the scripts behind a link. */
function withScripts(t: Context, name = awkward): Project {
  const p = project(t, name);
  makeDatabase(p.at('agentdb.db'), { rows: 20 });
  linkScripts(p.root);
  return p;
}

const run = (p: Project, script: string, ...args: string[]) => runScriptFile(script, args, p.root);
const has = async (p: Project, n: number) => assert.equal((await backup.listBackups({ root: p.root })).length, n, `${p.root} should have ${n} backup(s)`);

// --- as shell -------------------------------------------------------------------------------------------------------

test('shellcheck has nothing to say, for any POSIX shell', async (t) => {
  if (!(await hasTool('shellcheck'))) return t.skip('no shellcheck here');
  const files = fs.readdirSync(scriptsFolder).map((name) => `scripts/${name}`);
  assert.equal(files.length, 4);
  const checked = await exec('shellcheck', ['-x', '-s', 'sh', ...files], { cwd: packageRoot });
  assert.deepEqual([checked.status, checked.stdout], [0, '']);
});

test('the three scripts are executable and say so in git; they have no carriage returns', async () => {
  for (const name of scriptNames) {
    assert.ok(fs.statSync(path.join(scriptsFolder, name)).mode & 0o100, name);
    assert.ok(fs.readFileSync(path.join(scriptsFolder, name), 'utf8').startsWith('#!/bin/sh\n'), name);
  }
  const listed = await exec('git', ['ls-files', '--stage', 'scripts'], { cwd: packageRoot });
  for (const name of scriptNames) assert.match(listed.stdout, new RegExp(`^100755 .*\\tscripts/${name}$`, 'm'));
});

for (const shell of ['dash', 'bash', 'busybox']) {
  test(`${shell} runs all three`, async (t) => {
    // busybox is not among the tools that have to be there.
    if (shell === 'busybox' ? (await exec('sh', ['-c', 'command -v busybox'])).status !== 0 : !(await hasTool(shell))) return t.skip(`no ${shell} here`);
    const p = withScripts(t);
    const shellArgs = shell === 'busybox' ? ['sh'] : [];
    const go = (script: string, ...args: string[]) => exec(shell, [...shellArgs, script, ...args], { cwd: p.root });
    const ts = timestampIn(await go(backupScript));
    withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
    const restored = await go(restoreScript, ts, '--force');
    assert.match(restored.stdout, /Restore complete!/, restored.stderr);
    assert.match((await go(manageScript, 'list')).stdout, /Total backups: 2/);
    assert.equal(count(p.at('agentdb.db')), 20);
  });
}

// --- which project, which command -----------------------------------------------------------------------------------

test('the project is the one whose scripts folder was called, from wherever', async (t) => {
  const p = withScripts(t);
  const elsewhere = tempFolder(t, 'else where #2');
  timestampIn(await runScriptFile(p.at('scripts', 'backup-databases.sh'), [], elsewhere));
  timestampIn(await runScriptFile(p.at('scripts', 'backup-databases.sh'), [], '/'));
  timestampIn(await runScriptFile(path.join('..', path.basename(p.root), 'scripts', 'backup-databases.sh'), [], p.root));
  timestampIn(await exec('sh', ['-c', 'cd scripts && ./backup-databases.sh && sh backup-databases.sh'], { cwd: p.root }));
  timestampIn(await exec('sh', ['-c', 'PATH=$PWD/scripts:$PATH; cd / && backup-databases.sh'], { cwd: p.root }));
  await has(p, 6);
  assert.deepEqual(fs.readdirSync(elsewhere), []);
});

test('a script that is itself a link: the folder of the link counts, then that of the script', async (t) => {
  const p = project(t, awkward);
  makeDatabase(p.at('agentdb.db'));
  fs.mkdirSync(p.at('scripts'));
  fs.mkdirSync(p.at('.git', 'hooks'), { recursive: true });
  fs.symlinkSync(path.relative(p.at('scripts'), path.join(scriptsFolder, 'backup-databases.sh')), p.at('scripts', 'backup-databases.sh'));
  fs.symlinkSync('../../scripts/backup-databases.sh', p.at('.git', 'hooks', 'pre-push'));
  timestampIn(await run(p, backupScript));
  timestampIn(await runScriptFile(p.at('scripts', 'backup-databases.sh'), [], '/'));
  timestampIn(await run(p, '.git/hooks/pre-push'));
  await has(p, 3);
});

test('copies of the scripts find the package in the project, or above it', async (t) => {
  const p = project(t, awkward);
  makeDatabase(p.at('agentdb.db'));
  await installPackage(t, p.root);
  fs.mkdirSync(p.at('scripts'));
  for (const name of fs.readdirSync(p.at('node_modules', '@agentic-qe', 'backup', 'scripts'))) fs.copyFileSync(p.at('node_modules', '@agentic-qe', 'backup', 'scripts', name), p.at('scripts', name));
  timestampIn(await runScriptFile(p.at('scripts', 'backup-databases.sh'), [], '/'));
  fs.cpSync(p.at('scripts'), p.at('packages', 'one', 'scripts'), { recursive: true });
  makeDatabase(p.at('packages', 'one', 'agentdb.db'));
  timestampIn(await runScriptFile(p.at('packages', 'one', 'scripts', 'backup-databases.sh'), [], '/'));
  await has(p, 1);
  fs.rmSync(p.at('scripts', 'aqe-backup.sh'));
  const alone = await run(p, backupScript);
  assert.equal(alone.status, 1);
  assert.match(alone.stderr, /aqe-backup\.sh is missing/);
});

test('in an installed package: called by its path the current folder is the project, through a link the link’s', async (t) => {
  const p = project(t, awkward);
  makeDatabase(p.at('agentdb.db'));
  await installPackage(t, p.root);
  const inside = 'node_modules/@agentic-qe/backup/scripts/backup-databases.sh';
  timestampIn(await run(p, inside, '--compress'));
  timestampIn(await run(p, `./${inside}`));
  fs.symlinkSync('node_modules/@agentic-qe/backup/scripts', p.at('scripts'));
  timestampIn(await runScriptFile(p.at('scripts', 'backup-databases.sh'), [], '/'));
  await has(p, 3);
});

test('--root goes before AQE_PROJECT_ROOT, and that before the folder of the script; relative ones start at the current folder', async (t) => {
  const [p, q, r] = [withScripts(t), project(t, 'q'), project(t, 'r')];
  for (const other of [q, r]) makeDatabase(other.at('agentdb.db'));
  const call = (args: string[], cwd: string, env: Record<string, string>) => runScriptFile(p.at('scripts', 'backup-databases.sh'), args, cwd, env);
  timestampIn(await call([], '/', { AQE_PROJECT_ROOT: q.root }));
  timestampIn(await call([], path.dirname(q.root), { AQE_PROJECT_ROOT: 'q' }));
  timestampIn(await call(['--root', r.root], '/', { AQE_PROJECT_ROOT: q.root }));
  timestampIn(await call([`--root=r`], path.dirname(r.root), {}));
  timestampIn(await call([], '/', { AQE_PROJECT_ROOT: '' }));
  await has(p, 1);
  await has(q, 2);
  await has(r, 2);
});

test('without the package it says what to install, and where', async (t) => {
  const p = project(t, awkward);
  fs.cpSync(scriptsFolder, p.at('scripts'), { recursive: true });
  for (const [script, args] of [[backupScript, []], [restoreScript, []], [manageScript, ['list']]] as [string, string[]][]) {
    const none = await run(p, script, ...args);
    assert.equal(none.status, 1, script);
    assert.match(none.stderr, /npm install @agentic-qe\/backup/);
    assert.ok(none.stderr.includes(p.root), none.stderr);
  }
  assert.deepEqual(fs.readdirSync(p.root), ['scripts']);
});

test('without node it says so, and that a crontab can set PATH: exit 127', async (t) => {
  const p = withScripts(t);
  const tools = tempFolder(t, 'bin');
  for (const name of ['sh', 'dirname', 'readlink', 'cat']) fs.symlinkSync((await exec('sh', ['-c', 'command -v "$1"', 'sh', name])).stdout.trim(), path.join(tools, name));
  for (const [script, args] of [[backupScript, []], [restoreScript, ['20250116-120000']], [manageScript, ['list']]] as [string, string[]][]) {
    const none = await runScriptFile(script, args, p.root, { PATH: tools });
    assert.equal(none.status, 127, script);
    assert.match(none.stderr, /node is not on PATH.*crontab/);
    assert.ok(none.stderr.includes(tools), none.stderr);
  }
});

// --- backup-databases.sh ----------------------------------------------------------------------------------------------

test('backup-databases.sh makes no archive unless told to, checks unless told not to, and passes the rest on', async (t) => {
  const p = withScripts(t);
  const archives = () => fs.readdirSync(p.backups).filter((n) => n.endsWith('.tar.gz')).length;
  const plain = await run(p, backupScript);
  assert.match(plain.stdout, /Backup complete!/);
  assert.deepEqual([readMetadata(p.backups, timestampIn(plain)).compressed, readMetadata(p.backups, timestampIn(plain)).verified, archives()], [false, true, 0]);
  timestampIn(await run(p, backupScript, '--no-compress', '--verify'));
  assert.equal(archives(), 0);
  const packed = timestampIn(await run(p, backupScript, '--verify', '--compress'));
  assert.deepEqual([readMetadata(p.backups, packed).compressed, archives()], [true, 1]);
  const quick = timestampIn(await run(p, backupScript, '--no-verify', '--label', `before "it" 'all' $HOME`, '--kind', 'manual'));
  const m = readMetadata(p.backups, quick);
  assert.deepEqual([m.verified, m.label, m.kind], [false, `before "it" 'all' $HOME`, 'manual']);
  const json = await run(p, backupScript, '--json');
  assert.equal((JSON.parse(json.stdout) as { ok: boolean }).ok, true);
});

test('backup-databases.sh with what it does not know: exit 2, and nothing is made', async (t) => {
  const p = withScripts(t);
  for (const args of [['--compres'], ['20250116-120000'], ['--keep', '0'], ['--kind', 'weekly']]) {
    const wrong = await run(p, backupScript, ...args);
    assert.equal(wrong.status, 2, args.join(' '));
    assert.ok(wrong.stderr.length > 0);
  }
  assert.deepEqual(sets(p.backups), {});
});

test('each script explains itself with --help, on standard output, and does nothing', async (t) => {
  const p = withScripts(t);
  for (const [script, words] of [[backupScript, ['--compress', '--no-verify']], [restoreScript, ['TIMESTAMP', '--force', '--no-verify']], [manageScript, ['list', 'clean', 'verify', 'compare', 'info', 'size', 'check', 'delete']]] as [string, string[]][]) {
    const help = await run(p, script, '--help');
    assert.deepEqual([help.status, help.stderr], [0, ''], script);
    for (const word of words) assert.ok(help.stdout.includes(word), `${script} --help does not name ${word}`);
  }
  assert.deepEqual(fs.readdirSync(p.root).sort(), ['agentdb.db', 'scripts']);
});

test('exit codes come through: 10 no database, 11 busy, 4 damage', async (t) => {
  const p = withScripts(t);
  const ts = timestampIn(await run(p, backupScript));
  const busy = await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  assert.equal((await run(p, backupScript, '--busy-timeout', '50')).status, 11);
  await busy.end();
  flip(copyOf(p.backups, ts, 'agentdb.db'), 5000);
  assert.equal((await run(p, manageScript, 'verify', ts)).status, 4);
  assert.equal((await run(p, restoreScript, ts, '--force')).status, 4);
  assert.equal((await run(p, restoreScript, '20010101-000000', '--force')).status, 10);
  const empty = project(t, 'empty');
  linkScripts(empty.root);
  assert.equal((await run(empty, backupScript)).status, 10);
});

test('a signal to the script reaches the command: exit 130, and nothing is left', { timeout: 600_000 }, async (t) => {
  const p = withScripts(t);
  timestampIn(await run(p, backupScript));
  const before = sets(p.backups);
  await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  const child = spawn(backupScript, ['--busy-timeout', '3600000'], { cwd: p.root, env: cleanEnv(), stdio: ['ignore', 'pipe', 'pipe'] });
  const end = finished(child);
  assert.ok(await holdsLock(p.backups, end), 'it did not wait');
  child.kill('SIGINT');
  assert.equal((await end).status, 130);
  assert.deepEqual(sets(p.backups), before);
});

test('a backups folder that may not be entered is named, and the exit code is 1', async (t) => {
  if (!isRoot) return t.skip('needs another account');
  const from = publicPackage(t);
  fs.cpSync(scriptsFolder, path.join(from, 'scripts'), { recursive: true });
  const p = project(t, 'p #1');
  makeDatabase(p.at('agentdb.db'), { journal: 'delete' });
  fs.mkdirSync(p.backups, { recursive: true });
  for (let folder = p.root; folder !== path.dirname(path.dirname(p.root)); folder = path.dirname(folder)) fs.chmodSync(folder, 0o755);
  fs.chmodSync(p.backups, 0o600);
  for (const [script, args] of [['backup-databases.sh', []], ['manage-backups.sh', ['list']], ['manage-backups.sh', ['verify']], ['restore-databases.sh', ['20250116-120000', '--force']]] as [string, string[]][]) {
    const denied = await exec(path.join(from, 'scripts', script), args, { cwd: p.root, ...unprivileged() });
    assert.equal(denied.status, 1, `${script}: ${denied.stdout}${denied.stderr}`);
    assert.match(denied.stderr, /backups/);
    assert.match(denied.stderr, /ermission/);
  }
});

// --- restore-databases.sh ---------------------------------------------------------------------------------------------

test('restore-databases.sh without a timestamp: usage, the backups, exit 1, and nothing changes', async (t) => {
  const p = withScripts(t);
  const ts = timestampIn(await run(p, backupScript, '--compress'));
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const before = tree(p.root);
  for (const args of [[], ['--force'], ['--verify', '--force'], ['--no-verify'], ['--root', p.root, '--force'], ['--force', '--busy-timeout', '100']]) {
    const listed = await run(p, restoreScript, ...args);
    assert.equal(listed.status, 1, args.join(' '));
    assert.match(listed.stderr, /^Usage: restore-databases\.sh TIMESTAMP/, args.join(' '));
    assert.match(listed.stdout, new RegExp(`${ts}[^]*Total backups: 1`), args.join(' '));
  }
  const other = project(t, 'other one');
  const elsewhere = await run(p, restoreScript, '--root', other.root);
  assert.match(elsewhere.stdout, /Total backups: 0/);
  const json = await run(p, restoreScript, '--json');
  assert.equal((JSON.parse(json.stdout) as { backups: unknown[] }).backups.length, 1);
  assert.deepEqual(tree(p.root), before);
});

test('restore-databases.sh puts a backup back, and takes an archive that lies anywhere', async (t) => {
  const p = withScripts(t);
  const then = contents(p.at('agentdb.db'));
  const ts = timestampIn(await run(p, backupScript, '--compress'));
  const damage = () => withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  damage();
  for (const args of [[ts, '--verify', '--force'], ['--force', ts], ['--no-verify', '--force', '--root', p.root, ts]]) {
    const restored = await run(p, restoreScript, ...args);
    assert.deepEqual([restored.status, contents(p.at('agentdb.db'))], [0, then], restored.stderr);
    assert.match(restored.stdout, /Restore complete!/);
    damage();
  }
  const away = path.join(tempFolder(t), `down "loaded" #1.tar.gz`);
  fs.renameSync(path.join(p.backups, `databases-backup-${ts}.tar.gz`), away);
  for (const args of [['--archive', away, '--force'], [`--archive=${away}`, '--force']]) {
    const restored = await run(p, restoreScript, ...args);
    assert.deepEqual([restored.status, contents(p.at('agentdb.db'))], [0, then], restored.stderr);
    damage();
  }
});

test('restore-databases.sh asks nobody when there is nobody: it refuses, and names --force', async (t) => {
  const p = withScripts(t);
  const ts = timestampIn(await run(p, backupScript));
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const refused = await run(p, restoreScript, ts);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /--force/);
  assert.equal(count(p.at('agentdb.db')), 0);
});

test('restore-databases.sh with what is no timestamp, or no option: exit 2', async (t) => {
  const p = withScripts(t);
  timestampIn(await run(p, backupScript));
  for (const args of [['yesterday', '--force'], ['*', '--force'], ['20250116-120000', '--forse'], ['20250116-120000', '20250116-120001']]) {
    assert.equal((await run(p, restoreScript, ...args)).status, 2, args.join(' '));
  }
});

// --- manage-backups.sh --------------------------------------------------------------------------------------------------

test('manage-backups.sh without a command, or with one that it does not have: usage and exit 2', async (t) => {
  const p = withScripts(t);
  for (const args of [[], ['lst'], ['--list'], ['create'], ['restore'], ['exec', '--', 'ls'], ['']]) {
    const wrong = await run(p, manageScript, ...args);
    assert.deepEqual([wrong.status, wrong.stdout], [2, ''], args.join(' '));
    assert.match(wrong.stderr, /Usage: manage-backups\.sh COMMAND/);
  }
  assert.match((await run(p, manageScript, 'lst')).stderr, /lst/);
});

for (const verb of ['list', 'clean', 'verify', 'compare', 'info', 'size', 'check', 'delete']) {
  test(`manage-backups.sh ${verb} does and says what the command does, with its options`, async (t) => {
    const p = withScripts(t);
    const ts = timestampIn(await run(p, backupScript));
    timestampIn(await run(p, backupScript));
    const args = { compare: [ts], info: [ts], delete: [ts, '--dry-run'], clean: ['1', '--dry-run'], verify: [ts] }[verb] ?? [];
    const byScript = await run(p, manageScript, verb, ...args, '--json');
    const byCommand = await p.run(verb, ...args, '--json');
    // How long it took differs, and what else goes on on the machine.
    const steady = (text: string) => text.replace(/"(durationMs|age\w*|free|examined|unreadable)":\s*\d+/g, '"$1":0').replace(/"checkedAt":"[^"]*"/, '');
    assert.deepEqual([byScript.status, steady(byScript.stdout), byScript.stderr], [byCommand.status, steady(byCommand.stdout), byCommand.stderr]);
    assert.equal((JSON.parse(byScript.stdout) as { ok: boolean }).ok, true, byScript.stdout);
    assert.equal((await run(p, manageScript, verb, '--no-such-option')).status, 2);
  });
}
