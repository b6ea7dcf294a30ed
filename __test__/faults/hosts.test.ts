// Hosts that end in the middle, load the package twice, or are not Node at all: nothing is lost, and nothing is left once the next run has looked.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { before, test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import * as backup from '../../index.js';
import { addRows, assertNoLeftovers, contents, exec, makeDatabase, ownLocks, packageRoot, project, publicPackage, runScript, scriptArgs, tempFolder, withDatabase, type Context, type Project } from '../helpers/project';
import { chosen, full, report, shard } from '../helpers/proof';
import { copyOfProject } from '../helpers/trials';
import Database from 'better-sqlite3';

const names = ['agentdb.db', 'memory.db'];
const state = (p: Project): string[] => names.map((n) => contents(p.at(n)));

/** A project with a set, and databases that are not as in it any more; large enough for something to happen while it is at work. */
async function template(t: Context): Promise<{ p: Project; ts: string; restored: string[]; now: string[] }> {
  const p = project(t);
  for (const name of names) {
    makeDatabase(p.at(name), { journal: name === 'agentdb.db' ? 'wal' : 'delete', rows: 20 });
    withDatabase(p.at(name), (db) => addRows(db, 1000, 40, 64 * 1024));
  }
  const made = await backup.createBackup({ root: p.root, kind: 'manual', compress: false });
  assert.equal(made.success, true, made.error);
  for (let i = 0; i < 2; i++) assert.equal((await backup.createBackup({ root: p.root, compress: false })).success, true);
  const restored = state(p);
  for (const name of names) withDatabase(p.at(name), (db) => db.exec("UPDATE episodes SET task = 'later', embedding = randomblob(length(embedding))"));
  return { p, ts: made.timestamp, restored, now: state(p) };
}

/** What the next run finds. */
async function assertWhole(p: Project, s: { ts: string; restored: string[]; now: string[] }, what: string): Promise<'before' | 'restored'> {
  await backup.recover({ root: p.root, lockTimeoutMs: 120_000 });
  assertNoLeftovers(p.backups);
  const found = state(p);
  const end = found.every((c, i) => c === s.now[i]) ? 'before' : found.every((c, i) => c === s.restored[i]) ? 'restored' : undefined;
  assert.ok(end, `${what}: the databases are neither as before nor restored, or not the same of both`);
  for (const b of await backup.listBackups({ root: p.root, archives: true })) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, `${what}: ${b.timestamp}`);
  const made = await backup.createBackup({ root: p.root, compress: false, keepLast: null });
  assert.equal(made.success, true, `${what}: ${made.error}`);
  return end;
}

const verbs = ['create', 'restore', 'safety', 'clean', 'withSafety'] as const;
/** The calls, for a script that has `backup`, `root`, `ts` and `onProgress`. */
const calls = `({
  create: () => backup.createBackup({ root, onProgress, keepLast: 1 }),
  restore: () => backup.restoreBackup(ts, { root, onProgress }),
  safety: () => backup.createSafetyBackup('x', { root, onProgress }),
  clean: () => (setImmediate(() => onProgress({ phase: 'clean' })), backup.cleanOldBackups(1, { root })),
  withSafety: () => backup.withSafetyBackup('x', () => { throw new Error('back'); }, { root, onProgress }),
})`;
/** At which report the host ends. */
const moments = [1, 2, 3, 4, 6, 8];

const ends: Record<string, { how: string; status: number }> = {
  'process.exit()': { how: 'process.exit(7);', status: 7 },
  'an uncaught exception': { how: "process.nextTick(() => { throw new Error('on purpose'); });", status: 1 },
  'an unhandled rejection': { how: "void Promise.reject(new Error('on purpose'));", status: 1 },
};

test('a process that ends in the middle, by process.exit(), an uncaught exception or an unhandled rejection, ends at once and loses nothing', { timeout: 1_800_000 }, async (t) => {
  const s = await template(t);
  const points = verbs.flatMap((verb) => Object.keys(ends).flatMap((end) => moments.map((moment) => ({ verb, end, moment }))));
  const found = { before: 0, restored: 0 };
  let cut = 0;
  for (const { verb, end, moment } of chosen(points, 7)) {
    const what = `${end} at report ${moment} of ${verb}`;
    const p = await copyOfProject(t, s.p);
    const source = `
      const [root, ts] = args;
      let n = 0;
      const onProgress = () => { if (++n === ${moment}) { ${ends[end]!.how} } };
      await ${calls}.${verb}().catch((e) => { if (e.message !== 'back') throw e; });
      process.exitCode = 42;`;
    const run = await exec(process.execPath, scriptArgs(source, [p.root, s.ts]));
    // It may have been done before there were so many reports.
    assert.ok(run.status === ends[end]!.status || run.status === 42, `${what}: ${run.status ?? run.signal} ${run.stderr}`);
    if (run.status !== 42) cut++;
    found[await assertWhole(p, s, what)]++;
    fs.rmSync(p.root, { recursive: true });
  }
  // In a shard all may come too late.
  if (shard.of === 1) assert.ok(cut > 0, 'no process ended in the middle');
  report('hosts', { what: 'process ends', points: cut, before: found.before, restored: found.restored });
});

test('a worker that is terminated in the middle of any operation loses nothing, and its process lives', { timeout: 1_800_000 }, async (t) => {
  const s = await template(t);
  const points = verbs.flatMap((verb) => moments.map((moment) => ({ verb, moment })));
  let cut = 0;
  for (const { verb, moment } of chosen(points, 5)) {
    const what = `terminated at report ${moment} of ${verb}`;
    const p = await copyOfProject(t, s.p);
    const source = `
      const { parentPort, workerData: { root, ts, file } } = require('node:worker_threads');
      const backup = require(file);
      const onProgress = () => parentPort.postMessage('report');
      ${calls}.${verb}().then(() => parentPort.postMessage('done'), (e) => parentPort.postMessage(e.message === 'back' ? 'done' : e.message));`;
    const worker = new Worker(source, { eval: true, workerData: { root: p.root, ts: s.ts, file: path.join(packageRoot, 'index.js') } });
    const over = new Promise<number>((resolve, reject) => void worker.on('exit', resolve).on('error', reject));
    let n = 0;
    const reached = await new Promise<string>((resolve) => worker.on('message', (m: string) => (m === 'report' ? ++n === moment && resolve(m) : resolve(m))));
    assert.ok(reached === 'report' || reached === 'done', `${what}: ${reached}`);
    if (reached === 'report') cut++;
    await worker.terminate();
    await over;
    await assertWhole(p, s, what);
    fs.rmSync(p.root, { recursive: true });
  }
  if (shard.of === 1) assert.ok(cut > 0, 'no worker was terminated in the middle');
  report('hosts', { what: 'workers terminated', points: cut });
});

test('a thousand calls at once on one AbortSignal: one listener, no warning, none left; and all of them can be called off', { timeout: 1_800_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 20 });
  assert.equal((await backup.createBackup({ root: p.root })).success, true);
  const r = await runScript<{ warnings: string[]; most: number; left: number; ended: number; aborted: Record<string, number>; mine: number; after: string; leftAtEnd: number }>(
    `const { getEventListeners } = require('node:events');
     const root = args[0], warnings = [];
     process.on('warning', (w) => warnings.push(w.name + ': ' + w.message));
     const controller = new AbortController(), { signal } = controller;
     const ours = () => getEventListeners(signal, 'abort').length;
     const calls = Array.from({ length: 1000 }, () => backup.listBackups({ root, signal }));
     const most = ours();
     const ended = (await Promise.all(calls)).length, left = ours();
     let mine = 0;
     signal.addEventListener('abort', () => { mine++; });
     // One that ends early must not take the others' listener with it.
     const app = new Database(path.join(root, 'agentdb.db'));
     app.exec('BEGIN EXCLUSIVE');
     const pending = Array.from({ length: 10 }, () => backup.createBackup({ root, signal, busyTimeoutMs: 3600000, lockTimeoutMs: 3600000 }));
     await backup.listBackups({ root, signal });
     controller.abort(new Error('enough'));
     const aborted = {};
     for (const o of await Promise.all(pending.map(outcome))) { const key = o.value ? 'done' : o.code + ' ' + o.name; aborted[key] = (aborted[key] ?? 0) + 1; }
     app.close();
     const causes = await outcome(backup.createBackup({ root, signal }));
     await new Promise((r) => setImmediate(r));
     console.log(JSON.stringify({ warnings, most, left, ended, aborted, mine, after: causes.code, leftAtEnd: ours() }));`,
    [p.root],
  );
  assert.deepEqual(r.warnings, []);
  assert.deepEqual([r.most, r.left, r.ended], [1, 0, 1000]);
  assert.deepEqual(r.aborted, { 'ABORT_ERR AbortError': 10 });
  assert.deepEqual([r.mine, r.after, r.leftAtEnd], [1, 'ABORT_ERR', 1], 'the listener of the application is the only one left');
  await backup.recover({ root: p.root });
  assertNoLeftovers(p.backups);
});

/** As a module system would load it that has forgotten it. */
function loadAgain(folder = packageRoot): typeof backup {
  for (const key of Object.keys(require.cache)) if (key.startsWith(folder) && (key.endsWith('.node') || key === path.join(folder, 'index.js'))) delete require.cache[key];
  return require(path.join(folder, 'index.js')) as typeof backup;
}

test('loaded again with the module cache cleared, and from a second copy of the package: all of them work at once, and an application keeps its locks', { timeout: 1_800_000 }, async (t) => {
  const p = project(t);
  for (const name of names) makeDatabase(p.at(name), { journal: name === 'agentdb.db' ? 'wal' : 'delete', rows: 50 });
  const made = await backup.createBackup({ root: p.root, kind: 'manual', compress: false });
  const restored = state(p);
  const other = publicPackage(t);
  const all = [backup, ...Array.from({ length: 6 }, () => loadAgain()), loadAgain(other), loadAgain(other)];
  assert.ok(new Set(all).size > 2, 'it was not loaded again');
  const apps = names.map((n) => new Database(p.at(n), { timeout: 60_000 }));
  t.after(() => apps.forEach((db) => void db.close()));
  for (const app of apps) app.exec("BEGIN IMMEDIATE; INSERT INTO patterns VALUES ('mine', 'x')");
  const look = (): string[] => [...names.map((n) => p.at(n)), `${p.at(names[0]!)}-shm`].flatMap(ownLocks);
  const locks = look();
  assert.ok(locks.length >= 2, 'the application holds no locks, so nothing is seen here');
  const results = await Promise.all(all.map((b) => b.createBackup({ root: p.root, compress: false, keepLast: null, busyTimeoutMs: 60_000, lockTimeoutMs: 120_000 })));
  for (const r of results) assert.equal(r.success, true, r.error);
  assert.equal(new Set(results.map((r) => r.timestamp)).size, all.length);
  assert.deepEqual(look(), locks, 'locks of the application are gone');
  for (const app of apps) app.exec('COMMIT');
  const seen = await runScript<number[]>(`console.log(JSON.stringify(args.map((f) => { const db = new Database(f); const n = db.prepare("SELECT count(*) FROM patterns WHERE id = 'mine'").pluck().get(); db.close(); return n; })))`, names.map((n) => p.at(n)));
  assert.deepEqual(seen, [1, 1], 'a commit of the application is seen by itself alone');
  // One after the other they put it back; whoever comes second finds it done.
  for (const r of await Promise.all([all[0]!, all[3]!, all.at(-1)!].map((b) => b.restoreBackup(made.timestamp, { root: p.root, busyTimeoutMs: 60_000, lockTimeoutMs: 120_000 })))) assert.equal(r.success, true, r.error);
  apps.forEach((db) => void db.close());
  assert.deepEqual(state(p), restored);
});

// ---- other hosts

/** What each of them does with the package. */
const scenario = `
module.exports = async (backup, root) => {
  const assert = require('node:assert/strict');
  const reports = [];
  const made = await backup.createBackup({ root, onProgress: (p) => { reports.push(p.phase); } });
  assert.equal(made.success, true, made.error);
  assert.equal(reports.at(-1), 'done');
  assert.equal(await backup.verifyBackup(made.timestamp, { root }), true);
  const restored = await backup.restoreBackup(made.timestamp, { root });
  assert.equal(restored.success, true, restored.error);
  const missing = await backup.inspectBackup('20010101-000000', { root }).catch((e) => e);
  assert.deepEqual([missing.name, missing.code], ['Error', 'BACKUP_NOT_FOUND']);
  const wrong = await backup.createBackup({ root: 5 }).catch((e) => e);
  assert.equal(wrong.code, 'ERR_INVALID_ARG_TYPE');
  const gone = new AbortController(); gone.abort();
  const aborted = await backup.createBackup({ root, signal: gone.signal }).catch((e) => e);
  assert.deepEqual([aborted.name, aborted.code], ['AbortError', 'ABORT_ERR']);
  const one = new AbortController();
  await Promise.all(Array.from({ length: 100 }, () => backup.listBackups({ root, signal: one.signal })));
  const late = backup.createBackup({ root, signal: one.signal }).then((r) => r.success, (e) => e.code);
  one.abort();
  assert.ok([true, 'ABORT_ERR'].includes(await late));
  const mine = new Error('mine');
  assert.equal(await backup.withSafetyBackup('x', () => { throw mine; }, { root }).catch((e) => e), mine);
  assert.equal(await backup.withSafetyBackup('x', async () => 'value', { root }), 'value');
  assert.equal(await new backup.BackupHelper({ root }).verifyBackup(made.timestamp), true);
  assert.equal((await backup.checkHealth({ root, quick: true })).healthy, true);
};
`;

let hosts = '';
before(async () => {
  if (!full) return;
  const run = await exec(process.execPath, [path.join(packageRoot, 'tools', 'hosts.mjs')]);
  assert.equal(run.status, 0, run.stderr);
  hosts = run.stdout.trim();
}, { timeout: 900_000 });

/** A file of another host in its own package, for this machine. */
function binary(t: TestContext, packages: string[], file: string): string {
  const found = packages.map((name) => path.join(hosts, 'node_modules', name, file)).find((f) => fs.existsSync(f));
  assert.ok(found, `none of ${packages.join(', ')} was installed`);
  fs.chmodSync(found, 0o755);
  return found;
}

const use = (root: string): string => `require(${JSON.stringify(path.join(root, '..', 'scenario.cjs'))})(require(${JSON.stringify(path.join(packageRoot, 'index.js'))}), ${JSON.stringify(root)})`;
const others: Record<string, { files: (root: string) => Record<string, string>; command: (t: TestContext, folder: string) => [string, string[]] }> = {
  Jest: {
    // Two files: each in a context of its own, into which the addon is loaded again.
    files: (root) => Object.fromEntries(['a', 'b'].map((f) => [`${f}.test.js`, `test('all of it', () => ${use(root)}, 120000);`])),
    command: (_t, folder) => [process.execPath, [path.join(hosts, 'node_modules', 'jest', 'bin', 'jest.js'), '--rootDir', folder, '--runInBand', '--no-cache']],
  },
  Vitest: {
    files: (root) => Object.fromEntries(['a', 'b'].map((f) => [`${f}.test.mjs`, `import { createRequire } from 'node:module'; import { test } from ${JSON.stringify(path.join(hosts, 'node_modules', 'vitest', 'dist', 'index.js'))}; const require = createRequire(import.meta.url); test('all of it', () => ${use(root)}, 120000);`])),
    command: (_t, folder) => [process.execPath, [path.join(hosts, 'node_modules', 'vitest', 'vitest.mjs'), 'run', '--root', folder, '--pool', 'threads']],
  },
  Bun: {
    files: (root) => ({ 'main.cjs': `${use(root)}.then(() => console.log('all is well'));` }),
    command: (t, folder) => [binary(t, [`@oven/bun-linux-${process.arch === 'x64' ? 'x64' : 'aarch64'}`, '@oven/bun-linux-x64-baseline'], 'bin/bun'), [path.join(folder, 'main.cjs')]],
  },
  Deno: {
    files: (root) => ({ 'main.cjs': `${use(root)}.then(() => console.log('all is well'));` }),
    command: (t, folder) => [binary(t, [`@deno/linux-${process.arch}-glibc`], 'deno'), ['run', '--allow-all', '--no-config', '--no-lock', path.join(folder, 'main.cjs')]],
  },
};

for (const [name, host] of Object.entries(others)) {
  test(`${name} runs the package: every kind of call, its errors with their codes, cancellation, progress`, { timeout: 1_800_000 }, async (t) => {
    if (!full) return t.skip('only in full (npm run test:faults): it takes 400 MB of packages');
    const folder = tempFolder(t, 'host');
    const root = path.join(folder, 'project');
    for (const db of names) makeDatabase(path.join(root, db), { journal: db === 'agentdb.db' ? 'wal' : 'delete', rows: 100 });
    const now = names.map((n) => contents(path.join(root, n)));
    fs.writeFileSync(path.join(folder, 'scenario.cjs'), scenario);
    fs.writeFileSync(path.join(folder, 'package.json'), '{"private": true}');
    for (const [file, text] of Object.entries(host.files(root))) fs.writeFileSync(path.join(folder, file), text);
    const [file, args] = host.command(t, folder);
    const run = await exec(file, args, { cwd: folder });
    assert.equal(run.status, 0, `${run.status ?? run.signal}: ${run.stdout}${run.stderr}`);
    assert.doesNotMatch(run.stderr, /MaxListenersExceeded|did not exit/);
    await backup.recover({ root });
    assertNoLeftovers(path.join(root, '.agentic-qe', 'backups'));
    assert.deepEqual(names.map((n) => contents(path.join(root, n))), now);
    report('hosts', { what: name, points: 1 });
  });
}
