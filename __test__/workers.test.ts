// worker_threads: the addon loads in many, works in many, and survives their end.
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import * as backup from '../index.js';
import { addRows, assertNoLeftovers, makeDatabase, packageRoot, project, sets, withDatabase } from './helpers/project';

const source = `
  const { parentPort, workerData } = require('node:worker_threads');
  const backup = require(workerData.package);
  (async () => {
    for (const job of workerData.jobs) {
      parentPort.postMessage({ start: true });
      const made = await backup.createBackup(job);
      parentPort.postMessage({ made });
    }
  })();`;

interface Message {
  start?: boolean;
  made?: backup.BackupResult;
}

function worker(jobs: backup.CreateBackupOptions[]): Worker {
  return new Worker(source, { eval: true, workerData: { package: path.join(packageRoot, 'index.js'), jobs } });
}

function over(w: Worker): Promise<{ messages: Message[]; code: number }> {
  const messages: Message[] = [];
  w.on('message', (m: Message) => messages.push(m));
  return new Promise((resolve, reject) => {
    w.on('error', reject);
    w.on('exit', (code) => resolve({ messages, code }));
  });
}

test('workers back up side by side, and end by themselves', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 200 });
  const job = { root: p.root, compress: false, lockTimeoutMs: 300_000 };
  const ends = await Promise.all(Array.from({ length: 4 }, () => over(worker([job, job]))));
  const made = ends.flatMap((e) => e.messages).flatMap((m) => (m.made ? [m.made] : []));
  assert.deepEqual(ends.map((e) => e.code), [0, 0, 0, 0]);
  for (const m of made) assert.equal(m.success, true, m.error);
  assert.equal(new Set(made.map((m) => m.timestamp)).size, 8);
  assert.equal((await backup.listBackups({ root: p.root })).length, 8);
});

test('a worker that is terminated in mid-backup takes nothing down and blocks no one', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 20 });
  withDatabase(p.at('agentdb.db'), (db) => addRows(db, 1000, 500, 64 * 1024));
  for (let i = 0; i < 6; i++) {
    const w = worker([{ root: p.root, keepLast: 2 }]);
    const end = over(w);
    await new Promise((resolve) => w.once('message', resolve));
    await new Promise((resolve) => setTimeout(resolve, i * 40));
    await w.terminate();
    await end;
  }
  const made = await backup.createBackup({ root: p.root, compress: false, lockTimeoutMs: 60_000 });
  assert.equal(made.success, true, made.error);
  assertNoLeftovers(p.backups);
  const list = await backup.listBackups({ root: p.root, archives: true });
  for (const b of list) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true);
  for (const name of Object.keys(sets(p.backups))) assert.ok(list.some((b) => name.includes(b.timestamp)), `${name} belongs to no set`);
});

test('loading and ending many workers is no trouble', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  for (let i = 0; i < 12; i++) assert.equal((await over(worker([]))).code, 0);
  assert.deepEqual(await backup.listBackups({ root: p.root }), []);
});
