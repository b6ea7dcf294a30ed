// kill -9 between any two steps of create, restore and recover: the next run finishes or undoes what was begun.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertNoLeftovers, bin, cleanEnv, codeOf, contents, craftSet, daysAgo, exec, makeDatabase, parseOne, project, projectAt, readMetadata, sets, tempFolder, tree, withDatabase, type Context, type Project, type Run } from './helpers/project';
import { needStrace } from './helpers/syscalls';
import { copyFolder, copyOfProject, died, twoAtATime } from './helpers/trials';

/** The steps that change a disk. Node itself takes none of them while it only starts and ends. */
const steps = ['rename', 'renameat', 'renameat2', 'link', 'linkat', 'unlink', 'unlinkat', 'fsync', 'fdatasync', 'pwrite64', 'ftruncate', 'mkdir', 'mkdirat', 'rmdir', 'fchmod'];
const perStep = 7;

function traced(p: Project, options: string[], args: string[]): Promise<Run> {
  return exec('strace', ['-f', '-qq', ...options, process.execPath, bin, ...args], { cwd: p.root, env: cleanEnv() });
}

/** How often one thread of a run takes each step. */
async function countSteps(t: Context, p: Project, args: string[]): Promise<Map<string, number>> {
  const log = path.join(tempFolder(t), 'trace');
  const run = await traced(p, ['-o', log, '-e', `trace=${steps.map((s) => `?${s}`).join(',')}`], args);
  assert.equal(run.status, 0, `the run to be killed does not even end well: ${run.stderr}${run.stdout}`);
  const perThread = new Map<string, number>();
  for (const line of fs.readFileSync(log, 'utf8').split('\n')) {
    const m = /^(\d+)\s+(\w+)\(/.exec(line);
    if (m) perThread.set(`${m[2]} ${m[1]}`, (perThread.get(`${m[2]} ${m[1]}`) ?? 0) + 1);
  }
  const most = new Map<string, number>();
  for (const [key, n] of perThread) most.set(key.split(' ')[0]!, Math.max(n, most.get(key.split(' ')[0]!) ?? 0));
  assert.ok([...most.values()].reduce((a, b) => a + b, 0) >= 5, `too few steps to be true: ${JSON.stringify([...most])}`);
  return most;
}

/** Points to kill at: all occurrences of a step, or as many as are allowed, evenly spread, the first and the last among them. */
function points(most: Map<string, number>): { step: string; when: number }[] {
  return [...most].flatMap(([step, n]) => {
    const k = Math.min(n, perStep);
    const chosen = new Set(Array.from({ length: k }, (_, i) => (k === 1 ? 1 : 1 + Math.round((i * (n - 1)) / (k - 1)))));
    return [...chosen].map((when) => ({ step, when }));
  });
}

/** Kills a run at a point; whether it was reached. */
async function killAt(p: Project, point: { step: string; when: number }, args: string[]): Promise<boolean> {
  const run = await traced(p, ['-o', '/dev/null', '-e', `trace=${point.step}`, '-e', `inject=${point.step}:signal=SIGKILL:when=${point.when}`], args);
  const killed = run.signal === 'SIGKILL' || run.status === 137;
  assert.ok(killed || run.status === 0, `neither killed nor well: ${run.status} ${run.signal} ${run.stderr}${run.stdout}`);
  return killed;
}

/** Does `work` for each point in a copy of the template, two at a time. */
async function each<T>(t: Context, template: Project, all: T[], work: (p: Project, point: T, i: number) => Promise<void>): Promise<void> {
  const folder = tempFolder(t);
  await twoAtATime(all, async (point, i) => {
    const root = path.join(folder, String(i));
    await copyFolder(template.root, root);
    await work(projectAt(root), point, i);
    fs.rmSync(root, { recursive: true });
  });
}

/** What is in the databases, or that they are not there. */
function state(p: Project, names: string[]): string[] {
  return names.map((n) => (!fs.existsSync(p.at(n)) ? 'missing' : n === 'notes.db' ? fs.readFileSync(p.at(n), 'utf8') : contents(p.at(n))));
}

/** Either of the ways in which a dead run is cleaned up after. */
async function cleanUp(p: Project, i: number): Promise<void> {
  if (i % 2 === 0) {
    const run = await p.run('recover', '--json');
    assert.equal(run.status, 0, run.stderr + run.stdout);
    assert.equal(parseOne(run).ok, true);
    const again = await p.json('recover');
    assert.deepEqual([again.status, again.document.ok, again.document.swept], [0, true, 0], 'there was something left to recover');
  } else {
    const made = await backup.createBackup({ root: p.root, compress: false, keepLast: null });
    assert.equal(made.success, true, made.error);
  }
}

/** Every set is whole, and every file belongs to one. */
async function assertWhole(p: Project, what: string): Promise<backup.BackupInfo[]> {
  assertNoLeftovers(p.backups);
  const list = await backup.listBackups({ root: p.root, archives: true });
  for (const b of list) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, `${what}: the set ${b.timestamp} is not whole`);
  for (const name of Object.keys(sets(p.backups))) assert.ok(list.some((b) => name.includes(b.timestamp)), `${what}: ${name} belongs to no set`);
  return list;
}

test('create: killed at any step, it leaves the sets before it, and its own whole or not at all', { timeout: 1_800_000 }, async (t) => {
  needStrace();
  const names = ['agentdb.db', '.agentic-qe/memory.db'];
  const template = project(t);
  makeDatabase(template.at('agentdb.db'), { rows: 200 });
  makeDatabase(template.at('.agentic-qe/memory.db'), { rows: 200, journal: 'wal' });
  // Three old sets, of which the clean-up of the run removes two, one of them down to its archive.
  const old = [await craftSet(template, daysAgo(5), { archive: true }), await craftSet(template, daysAgo(4)), await craftSet(template, daysAgo(3))];
  const manual = await craftSet(template, daysAgo(2), { kind: 'manual', sources: names });
  await died(t, template.at('.agentic-qe/memory.db'), "INSERT INTO patterns VALUES ('late', 'in the -wal')");
  const then = state(await copyOfProject(t, template), names);
  const args = ['create', '--keep', '2', '--json'];
  const most = await countSteps(t, await copyOfProject(t, template), args);
  let killed = 0;
  let published = 0;
  await each(t, template, points(most), async (p, point, i) => {
    const what = `killed at ${point.step} ${point.when}`;
    if (await killAt(p, point, args)) killed++;
    const visible = await backup.listBackups({ root: p.root });
    for (const b of visible) assert.equal(b.complete, true, `${what}: a half set is listed before any clean-up`);
    if (visible.some((b) => b.timestamp > manual)) published++;
    await cleanUp(p, i);
    const list = await assertWhole(p, what);
    assert.ok(list.some((b) => b.timestamp === manual), `${what}: a manual set is gone`);
    assert.ok(list.some((b) => b.timestamp === old[0]), `${what}: an old set is gone, archive and all`);
    assert.ok(list.some((b) => b.timestamp === old[2]) , `${what}: a set that was to stay is gone`);
    assert.deepEqual(state(p, names), then, `${what}: a database changed`);
    const after = await backup.createBackup({ root: p.root, compress: false });
    assert.equal(after.success, true, `${what}: ${after.error}`);
  });
  assert.ok(killed >= 10, `only ${killed} runs were killed`);
  assert.ok(published < killed, 'no run was killed before its set was published');
});

test('restore: killed at any step, all databases are as before or all restored, and nothing committed is lost', { timeout: 1_800_000 }, async (t) => {
  needStrace();
  const names = ['agentdb.db', '.agentic-qe/memory.db', 'gone.db', 'notes.db'];
  const template = project(t);
  makeDatabase(template.at('agentdb.db'), { rows: 300 });
  makeDatabase(template.at('.agentic-qe/memory.db'), { rows: 300, journal: 'wal' });
  makeDatabase(template.at('gone.db'), { rows: 50 });
  fs.writeFileSync(template.at('notes.db'), 'a note of then\n'.repeat(50));
  const made = await backup.createBackup({ root: template.root, compress: false });
  assert.equal(made.success, true, made.error);
  const restored = state(template, names);
  withDatabase(template.at('agentdb.db'), (db) => db.exec("UPDATE episodes SET embedding = randomblob(600); DELETE FROM patterns WHERE id LIKE 'p2%'; CREATE TABLE later(x); INSERT INTO later VALUES (zeroblob(50000))"));
  fs.rmSync(template.at('gone.db'));
  fs.writeFileSync(template.at('notes.db'), 'a note of now\n');
  await died(t, template.at('.agentic-qe/memory.db'), "DELETE FROM episodes WHERE id < 100; INSERT INTO patterns VALUES ('late', 'in the -wal')");
  const before = state(await copyOfProject(t, template), names);
  const args = ['restore', made.timestamp, '--force', '--json'];
  const counted = await copyOfProject(t, template);
  const most = await countSteps(t, counted, args);
  assert.deepEqual(state(counted, names), restored);

  const ends = { before: 0, restored: 0 };
  let killed = 0;
  let halfway: Project | undefined;
  const check = async (p: Project, what: string): Promise<void> => {
    const now = state(p, names);
    const end = now.every((s, k) => s === before[k]) ? 'before' : now.every((s, k) => s === restored[k]) ? 'restored' : undefined;
    assert.ok(end, `${what}: ${names.map((n, k) => `${n} is ${now[k] === before[k] ? 'as before' : now[k] === restored[k] ? 'restored' : 'neither'}`).join(', ')}`);
    ends[end]++;
    const list = await assertWhole(p, what);
    assert.ok(list.some((b) => b.timestamp === made.timestamp), `${what}: the set itself is gone`);
    if (end === 'restored') {
      const saved = list
        .filter((b) => b.kind === 'safety')
        .some((b) => readMetadata(p.backups, b.timestamp).databases.filter((d) => names.includes(d.source)).every((d) => {
          const copy = path.join(p.backups, d.file);
          return (d.sqlite ? contents(copy) : fs.readFileSync(copy, 'utf8')) === before[names.indexOf(d.source)];
        }));
      assert.ok(saved, `${what}: what was there before is in no safety set`);
    }
    const again = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
    assert.equal(again.success, true, `${what}: ${again.error}`);
    assert.deepEqual(state(p, names), restored, what);
  };
  await each(t, template, points(most), async (p, point, i) => {
    const what = `killed at ${point.step} ${point.when}`;
    if (await killAt(p, point, args)) killed++;
    if (!halfway && fs.existsSync(path.join(p.backups, '.restore-intent.json'))) halfway = await copyOfProject(t, p);
    await cleanUp(p, i);
    await check(p, what);
  });
  assert.ok(killed >= 10, `only ${killed} runs were killed`);
  assert.ok(ends.before > 0 && ends.restored > 0, `all ends are alike: ${JSON.stringify(ends)}`);

  assert.ok(halfway, 'no run was killed between intent and end');
  const recover = ['recover', '--json'];
  const recovering = await countSteps(t, await copyOfProject(t, halfway), recover);
  await each(t, halfway, points(recovering), async (p, point, i) => {
    const what = `killed between intent and end, and then, recovering, at ${point.step} ${point.when}`;
    await killAt(p, point, recover);
    await cleanUp(p, i);
    await check(p, what);
  });
});

test('a restore that died is finished or undone by the next operation that takes the lock, and listing does not mind it', { timeout: 600_000 }, async (t) => {
  needStrace();
  const template = project(t);
  for (const n of ['a.db', 'b.db']) makeDatabase(template.at(n), { rows: 100 });
  const made = await backup.createBackup({ root: template.root, compress: false });
  const restored = state(template, ['a.db', 'b.db']);
  for (const n of ['a.db', 'b.db']) withDatabase(template.at(n), (db) => db.exec('DELETE FROM episodes; UPDATE patterns SET content = id'));
  const before = state(template, ['a.db', 'b.db']);
  const args = ['restore', made.timestamp, '--force'];
  const most = await countSteps(t, await copyOfProject(t, template), args);
  // The first point at which the intent stands.
  let dead: Project | undefined;
  for (const point of points(most)) {
    const p = await copyOfProject(t, template);
    if ((await killAt(p, point, args)) && fs.existsSync(path.join(p.backups, '.restore-intent.json'))) {
      dead = p;
      break;
    }
  }
  assert.ok(dead, 'no run was killed between intent and end');
  const operations: Record<string, (p: Project) => Promise<unknown>> = {
    create: (p) => backup.createBackup({ root: p.root }),
    safety: (p) => backup.createSafetyBackup('x', { root: p.root }),
    clean: (p) => backup.cleanOldBackups(5, { root: p.root }),
    recover: (p) => backup.recover({ root: p.root }),
  };
  for (const [name, operation] of Object.entries(operations)) {
    const p = await copyOfProject(t, dead);
    assert.ok((await backup.listBackups({ root: p.root })).some((b) => b.timestamp === made.timestamp));
    assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
    await operation(p);
    const now = state(p, ['a.db', 'b.db']);
    assert.ok([before, restored].some((s) => s.every((c, k) => c === now[k])), `${name}: the databases are of two states`);
    await assertWhole(p, name);
  }
});

test('what was begun in a project is not finished in another one that shares its backups folder', { timeout: 1_800_000 }, async (t) => {
  needStrace();
  // The folders of the template are away when the copies are at work, so that these count as the project, moved.
  const first = path.join(tempFolder(t), 'first');
  const template = path.join(tempFolder(t), 'template');
  const [one, other] = ['one', 'other'].map((n) => projectAt(path.join(first, n)));
  for (const n of ['a.db', 'b.db']) makeDatabase(one!.at(n), { rows: 100 });
  for (const n of ['a.db', 'b.db']) makeDatabase(other!.at(n), { rows: 30 });
  const made = await backup.createBackup({ root: one!.root, backupDir: '../shared', compress: false });
  const restored = state(one!, ['a.db', 'b.db']);
  for (const n of ['a.db', 'b.db']) withDatabase(one!.at(n), (db) => db.exec('DELETE FROM episodes'));
  const theirs = state(other!, ['a.db', 'b.db']);
  fs.renameSync(first, template);
  const copy = async (): Promise<Project> => {
    const folder = path.join(tempFolder(t), 'copy');
    await copyFolder(template, folder);
    return projectAt(path.join(folder, 'one'));
  };
  const args = ['restore', made.timestamp, '--backup-dir', '../shared', '--force'];
  const most = await countSteps(t, await copy(), args);
  let dead: Project | undefined;
  for (const point of points(most)) {
    const p = await copy();
    if ((await killAt(p, point, args)) && fs.existsSync(path.join(p.root, '../shared/.restore-intent.json'))) {
      dead = p;
      break;
    }
  }
  assert.ok(dead, 'no run was killed between intent and end');
  const shared = path.resolve(dead.root, '../shared');
  const bystander = projectAt(path.resolve(dead.root, '../other'));
  const options = { root: bystander.root, backupDir: '../shared' };
  const operations: Record<string, () => Promise<unknown>> = {
    create: () => backup.createBackup(options),
    clean: () => backup.cleanOldBackups(1, options),
    recover: () => backup.recover(options),
    restore: () => backup.restoreBackup(made.timestamp, { ...options, force: true }),
  };
  const before = [tree(shared), state(dead, ['a.db', 'b.db'])];
  for (const [name, operation] of Object.entries(operations)) {
    const r = await codeOf(operation());
    assert.deepEqual(state(bystander, ['a.db', 'b.db']), theirs, `${name} carried the restore out in the other project`);
    assert.equal(r.code, 'ERR_INVALID_ARG_VALUE', `${name}: ${r.message}`);
    assert.ok(r.message.includes(`aqe-backup recover --root '${dead.root}' --backup-dir '${shared}'`), r.message);
    assert.deepEqual([tree(shared), state(dead, ['a.db', 'b.db'])], before, `${name} changed something`);
  }
  // The way out that it names; a project that was moved since finds what it had begun.
  const moved = projectAt(`${dead.root}-moved`);
  fs.renameSync(dead.root, moved.root);
  const recovered = await moved.json('recover', '--backup-dir', shared);
  assert.equal(recovered.status, 0, recovered.stderr);
  assert.equal(recovered.document.finishedRestore, made.timestamp, JSON.stringify(recovered.document));
  assert.deepEqual(state(moved, ['a.db', 'b.db']), restored);
  const after = await backup.createBackup({ ...options, compress: false });
  assert.equal(after.success, true, after.error);
  assert.deepEqual(state(bystander, ['a.db', 'b.db']), theirs);
});

test('recover says what it did, and exits 0 when there is nothing to do', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  for (let i = 0; i < 2; i++) {
    const { status, document } = await p.json('recover');
    assert.deepEqual([status, document.version, document.command, document.ok, document.swept], [0, 1, 'recover', true, 0]);
    assert.deepEqual([document.finishedRestore ?? null, document.undoneRestore ?? null, document.warnings], [null, null, []]);
    if (i === 0) assert.equal((await backup.createBackup({ root: p.root, compress: false })).success, true);
  }
});
