// AbortSignal and onProgress: stopping cleanly, leaking nothing, and telling how far it is.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import * as backup from '../index.js';
import { addRows, assertNoLeftovers, contents, holder, makeDatabase, project, runScript, sets, tempFolder, withDatabase, type Context, type Project } from './helpers/project';
import { slowly } from './helpers/syscalls';

type Progress = Parameters<NonNullable<backup.CreateBackupOptions['onProgress']>>[0];

const isAbort = (e: Error & { code?: string }): boolean => e.name === 'AbortError' && e.code === 'ABORT_ERR';

function withData(t: Context, megabytes = 0): Project {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 20 });
  if (megabytes > 0) withDatabase(p.at('agentdb.db'), (db) => addRows(db, 1000, megabytes * 16, 64 * 1024));
  return p;
}

test('a signal that is aborted already rejects every function with an AbortError, and nothing is done', async (t) => {
  const p = withData(t);
  const signal = AbortSignal.abort();
  const options = { root: p.root, signal };
  let ran = false;
  const ts = '20250116-120000';
  for (const call of [
    () => backup.createBackup(options), () => backup.createSafetyBackup('x', options), () => backup.restoreBackup(ts, options), () => backup.listBackups(options), () => backup.verifyBackup(ts, options),
    () => backup.cleanOldBackups(1, options), () => backup.inspectBackup(ts, options), () => backup.compareBackup(ts, options), () => backup.storageUsage(options), () => backup.recover(options),
    () => backup.withSafetyBackup('x', () => void (ran = true), options),
  ]) {
    await assert.rejects(call(), isAbort, call.toString());
  }
  assert.equal(ran, false);
  assert.deepEqual(sets(p.backups), {});
});

test('the reason that a signal was aborted with changes neither name nor code', async (t) => {
  const p = withData(t);
  await assert.rejects(backup.createBackup({ root: p.root, signal: AbortSignal.abort(new Error('mine')) }), isAbort);
});

test('a create that is stopped while it copies leaves nothing behind', { timeout: 600_000 }, async (t) => {
  const p = withData(t, 16);
  // Each megabyte takes a quarter of a second, so that there is something to be stopped.
  const stopped = await runScript<{ name: string; code: string; copied: number }>(
    `const controller = new AbortController();
     let copied = 0;
     const end = await outcome(backup.createBackup({ root: args[0], signal: controller.signal, onProgress: (x) => {
       if (x.phase !== 'copy' || x.bytesDone === 0) return;
       copied = x.bytesDone / x.bytesTotal;
       controller.abort();
     } }));
     console.log(JSON.stringify({ ...end, copied }));`,
    [p.root],
    { under: slowly(p.at('agentdb.db'), 1) },
  );
  assert.deepEqual([stopped.name, stopped.code], ['AbortError', 'ABORT_ERR']);
  assert.ok(stopped.copied > 0 && stopped.copied < 1, `${stopped.copied} of it was copied`);
  assert.deepEqual(sets(p.backups), {});
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(made.success, true, made.error);
});

test('a create that waits for a busy database can be stopped', { timeout: 600_000 }, async (t) => {
  const p = withData(t);
  await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  const controller = new AbortController();
  const promise = backup.createBackup({ root: p.root, signal: controller.signal, busyTimeoutMs: 3_600_000 });
  setTimeout(() => controller.abort(), 200);
  await assert.rejects(promise, isAbort);
  assert.deepEqual(sets(p.backups), {});
});

test('a run that waits for another run can be stopped', { timeout: 600_000 }, async (t) => {
  const p = withData(t);
  await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  const stopFirst = new AbortController();
  const first = backup.createBackup({ root: p.root, signal: stopFirst.signal, busyTimeoutMs: 3_600_000 });
  await new Promise((resolve) => setTimeout(resolve, 300));
  const stopSecond = new AbortController();
  const second = backup.createBackup({ root: p.root, signal: stopSecond.signal, lockTimeoutMs: 3_600_000, busyTimeoutMs: 3_600_000 });
  setTimeout(() => stopSecond.abort(), 200);
  await assert.rejects(second, isAbort);
  stopFirst.abort();
  await assert.rejects(first, isAbort);
  assert.deepEqual(sets(p.backups), {});
});

test('a restore that is stopped changes nothing and leaves nothing', async (t) => {
  const p = withData(t, 48);
  makeDatabase(p.at('.agentic-qe/memory.db'), { rows: 500, journal: 'wal' });
  const made = await backup.createBackup({ root: p.root, compress: false });
  for (const file of ['agentdb.db', '.agentic-qe/memory.db']) withDatabase(p.at(file), (db) => db.exec('UPDATE episodes SET embedding = randomblob(length(embedding)); DELETE FROM patterns'));
  const now = [contents(p.at('agentdb.db')), contents(p.at('.agentic-qe/memory.db'))];
  const before = sets(p.backups);
  for (const phase of ['verify', 'copy', 'write']) {
    const controller = new AbortController();
    let reached = false;
    const promise = backup.restoreBackup(made.timestamp, {
      root: p.root,
      signal: controller.signal,
      onProgress: (progress) => {
        if (progress.phase === phase) (reached = true), controller.abort();
      },
    });
    const outcome = await promise.then((r) => r, (e: Error & { code?: string }) => e);
    if (outcome instanceof Error) {
      assert.ok(isAbort(outcome), `${phase}: ${outcome.message}`);
      assert.deepEqual([contents(p.at('agentdb.db')), contents(p.at('.agentic-qe/memory.db'))], now, phase);
      assert.deepEqual(sets(p.backups), before, phase);
    } else {
      // Too late to stop: then it is whole.
      assert.equal(outcome.success, true, outcome.error);
      assert.ok(reached || phase === 'copy', `no report of phase ${phase}`);
      const undone = await backup.restoreBackup(outcome.safetyBackup!, { root: p.root });
      assert.equal(undone.success, true, undone.error);
      assert.deepEqual([contents(p.at('agentdb.db')), contents(p.at('.agentic-qe/memory.db'))], now, phase);
      assertNoLeftovers(p.backups);
      Object.assign(before, sets(p.backups));
    }
  }
  const controller = new AbortController();
  const stopped = backup.restoreBackup(made.timestamp, { root: p.root, signal: controller.signal });
  controller.abort();
  await assert.rejects(stopped, isAbort, 'a restore that was stopped at once was not');
  assert.deepEqual([contents(p.at('agentdb.db')), contents(p.at('.agentic-qe/memory.db'))], now);
});

test('one signal serves a thousand calls, keeps no listener of ours and leaves its onabort alone', async (t) => {
  const p = withData(t);
  const warnings: string[] = [];
  const onWarning = (w: Error): void => void warnings.push(`${w.name}: ${w.message}`);
  process.on('warning', onWarning);
  t.after(() => void process.off('warning', onWarning));
  const controller = new AbortController();
  const mine = (): void => undefined;
  controller.signal.onabort = mine;
  const listeners = getEventListeners(controller.signal, 'abort').length;
  for (let i = 0; i < 1000; i++) await backup.listBackups({ root: p.root, signal: controller.signal });
  assert.equal((await backup.createBackup({ root: p.root, signal: controller.signal })).success, true);
  await backup.createBackup({ root: p.root, databases: ['missing.db'], signal: controller.signal }).catch(() => undefined);
  assert.equal(getEventListeners(controller.signal, 'abort').length, listeners);
  assert.equal(controller.signal.onabort, mine);
  const kept = sets(p.backups);
  controller.abort();
  await assert.rejects(backup.listBackups({ root: p.root, signal: controller.signal }), isAbort);
  assert.deepEqual(sets(p.backups), kept, 'aborting after the end did something');
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(warnings, []);
});

test('one signal stops several runs at once', { timeout: 600_000 }, async (t) => {
  const controller = new AbortController();
  const projects = [withData(t), withData(t), withData(t)];
  for (const p of projects) await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  const runs = projects.map((p) => backup.createBackup({ root: p.root, signal: controller.signal, busyTimeoutMs: 3_600_000 }));
  setTimeout(() => controller.abort(), 200);
  for (const run of await Promise.allSettled(runs)) assert.ok(run.status === 'rejected' && isAbort(run.reason as Error), JSON.stringify(run));
  for (const p of projects) assert.deepEqual(sets(p.backups), {});
});

for (const what of ['create', 'restore'] as const) {
  test(`progress of ${what}: known phases, bytes that only grow within one, and a last report of everything before the promise resolves`, async (t) => {
    const p = withData(t, 8);
    const made = await backup.createBackup({ root: p.root });
    withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM patterns'));
    const seen: Progress[] = [];
    const options = { root: p.root, onProgress: (progress: Progress) => void seen.push(progress) };
    const result = what === 'create' ? await backup.createBackup(options) : await backup.restoreBackup(made.timestamp, options);
    const reports = seen.length;
    assert.equal(result.success, true, result.error);
    assert.ok(reports >= 2, `${reports} reports`);
    for (const r of seen) {
      assert.ok(['lock', 'copy', 'verify', 'write', 'done'].includes(r.phase), r.phase);
      assert.deepEqual([typeof r.file, typeof r.bytesDone, typeof r.bytesTotal], ['string', 'number', 'number']);
      assert.ok(r.bytesDone >= 0 && (r.bytesTotal === 0 || r.bytesDone <= r.bytesTotal), JSON.stringify(r));
      assert.ok(['', 'agentdb.db'].includes(r.file), r.file);
    }
    for (let i = 1; i < reports; i++) if (seen[i]!.phase === seen[i - 1]!.phase && seen[i]!.bytesDone !== 0) assert.ok(seen[i]!.bytesDone >= seen[i - 1]!.bytesDone, JSON.stringify(seen.slice(i - 1, i + 1)));
    const last = seen[reports - 1]!;
    assert.deepEqual([last.phase, last.bytesDone], ['done', last.bytesTotal]);
    assert.equal(seen.filter((r) => r.phase === 'done').length, 1);
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.equal(seen.length, reports, 'a report came after the promise');
  });
}

test('a progress callback keeps no process alive', { timeout: 600_000 }, async (t) => {
  const p = withData(t);
  const r = await runScript<{ success: boolean }>(
    `let n = 0;
     const made = await backup.createBackup({ root: args[0], onProgress: () => { n++; } });
     console.log(JSON.stringify({ success: made.success && n > 0 }));`,
    [p.root],
  );
  assert.equal(r.success, true);
});

test('process.exit() in the middle of a backup ends the process, and the next run sweeps up', { timeout: 600_000 }, async (t) => {
  const p = withData(t, 16);
  const kept = tempFolder(t);
  const r = await runScript<{ phase: string }>(
    `backup.createBackup({ root: args[0], backupDir: args[1], onProgress: (x) => {
       if (x.phase === 'copy' && x.bytesDone > 0) { fs.writeSync(1, JSON.stringify({ phase: x.phase })); process.exit(0); }
     } });
     await new Promise((r) => setTimeout(r, 100_000));`,
    [p.root, kept],
    { under: slowly(p.at('agentdb.db'), 1) },
  );
  assert.equal(r.phase, 'copy');
  const made = await backup.createBackup({ root: p.root, backupDir: kept, compress: false });
  assert.equal(made.success, true, made.error);
  assertNoLeftovers(kept);
  assert.deepEqual((await backup.listBackups({ root: p.root, backupDir: kept, archives: true })).map((b) => b.timestamp), [made.timestamp]);
  assert.ok(Object.keys(sets(kept)).every((name) => name.includes(made.timestamp)));
});
