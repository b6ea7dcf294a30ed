// Folders with many sets: a list is handed over in pieces, whole and as it is; and no set costs a look at all the others.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import * as backup from '../index.js';
import { codeOf, craftSet, daysAgo, makeDatabase, metadataPath, packageRoot, project, stamp, type Project } from './helpers/project';
import { callsOf, needStrace, type Call } from './helpers/syscalls';

/** A project with `count` sets, an hour between them; newest first. */
async function withSets(t: TestContext, count: number): Promise<{ p: Project; stamps: string[] }> {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 1, pageSize: 512 });
  const first = await craftSet(p, daysAgo(1));
  const files = fs.readdirSync(p.backups).filter((name) => name.includes(first)).map((name) => [name, fs.readFileSync(path.join(p.backups, name))] as const);
  const stamps = [first];
  for (let i = 1; i < count; i++) {
    const other = stamp(new Date(daysAgo(1).getTime() - i * 3_600_000));
    stamps.push(other);
    for (const [name, bytes] of files) {
      const content = /\.(json|sha256)$/.test(name) ? bytes.toString().replaceAll(first, other) : bytes;
      fs.writeFileSync(path.join(p.backups, name.replaceAll(first, other)), content, { mode: 0o600 });
    }
  }
  return { p, stamps };
}

const recordOf = (p: Project, timestamp: string): unknown => JSON.parse(fs.readFileSync(metadataPath(p.backups, timestamp), 'utf8'));

test('a program goes on while many sets are listed: they come in small pieces, and its event loop turns between them', { timeout: 600_000 }, async (t) => {
  const { p, stamps } = await withSets(t, 1000);
  let [turn, listing] = [0, true];
  const next = (): void => {
    turn++;
    if (listing) setImmediate(next);
  };
  setImmediate(next);
  const pieces: { turn: number; length: number }[] = [];
  const parse = JSON.parse;
  const spy = t.mock.method(JSON, 'parse', (text: string) => {
    pieces.push({ turn, length: text.length });
    return parse(text) as unknown;
  });
  const list = await backup.listBackups({ root: p.root });
  listing = false;
  spy.mock.restore();
  assert.deepEqual(list.map((b) => b.timestamp), stamps);
  for (const b of list) assert.deepEqual([b.complete, b.metadata], [true, recordOf(p, b.timestamp)]);
  assert.ok(pieces.length >= 10, `${pieces.length} pieces`);
  assert.ok(pieces.every(({ length }) => length <= 65 * 1024), 'a piece is too large');
  // That two come in one turn can happen and must not be the rule.
  assert.ok(new Set(pieces.map((one) => one.turn)).size >= pieces.length / 3, `all in few turns: ${pieces.map((one) => one.turn).join(' ')}`);
});

test('what a record says is listed as JSON.parse reads it, all but a key __proto__', async (t) => {
  const { p, stamps } = await withSets(t, 3);
  const odd = String.raw`"odd": { "big": 9007199254740993, "huge": 1.5e300, "small": -0.0, "text": "ä☃𝄞\u0000\u2028\"\\", "2": 1, "1": [null, true, {}], "": "" }`;
  const [file, other] = [metadataPath(p.backups, stamps[1]!), metadataPath(p.backups, stamps[2]!)];
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/^\{/, `{ ${odd},`));
  const plain = recordOf(p, stamps[2]!);
  fs.writeFileSync(other, fs.readFileSync(other, 'utf8').replace(/^\{/, '{ "__proto__": { "polluted": true },').replace('"tables": {', '"tables": { "__proto__": 7,'));
  const list = await backup.listBackups({ root: p.root });
  assert.deepEqual(list.map((b) => b.metadata), [recordOf(p, stamps[0]!), recordOf(p, stamps[1]!), plain]);
  for (const b of list) assert.deepEqual([Object.getPrototypeOf(b), Object.getPrototypeOf(b.metadata), Array.isArray(b.paths)], [Object.prototype, Object.prototype, true]);
  assert.equal(({} as { polluted?: boolean }).polluted, undefined);
});

test('a listing that is stopped while it is handed over rejects with ABORT_ERR', { timeout: 600_000 }, async (t) => {
  const { p } = await withSets(t, 400);
  const stop = new AbortController();
  const parse = JSON.parse;
  const spy = t.mock.method(JSON, 'parse', (text: string) => {
    stop.abort();
    return parse(text) as unknown;
  });
  const end = await codeOf(backup.listBackups({ root: p.root, signal: stop.signal }));
  spy.mock.restore();
  assert.deepEqual([end.rejected, end.code, spy.mock.callCount()], [true, 'ABORT_ERR', 1]);
  assert.equal((await backup.listBackups({ root: p.root })).length, 400);
});

test('a piece that JavaScript can’t take is an error that says so, and the next listing is as ever', { timeout: 600_000 }, async (t) => {
  const { p } = await withSets(t, 400);
  const spy = t.mock.method(JSON, 'parse', () => {
    throw new Error('no JSON today');
  });
  const end = await codeOf(backup.listBackups({ root: p.root }));
  spy.mock.restore();
  assert.deepEqual([end.rejected, end.code], [true, 'IO_ERROR']);
  assert.match(end.message, /no JSON today/);
  assert.equal((await backup.listBackups({ root: p.root })).length, 400);
});

test('workers that are terminated while sets are handed to them block no one', { timeout: 600_000 }, async (t) => {
  const { p } = await withSets(t, 400);
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    // It is in the middle of a piece for as long as it lives.
    JSON.parse = (text) => { for (parentPort.postMessage('a piece'); ; ); };
    require(workerData.package).listBackups({ root: workerData.root });`;
  // More than there are threads for: one that waited for ever would be missed.
  for (let i = 0; i < 20; i++) {
    const worker = new Worker(source, { eval: true, workerData: { package: path.join(packageRoot, 'index.js'), root: p.root } });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await worker.terminate();
  }
  const lists = await Promise.all(Array.from({ length: 16 }, () => backup.listBackups({ root: p.root })));
  assert.deepEqual(lists.map((list) => list.length), Array.from({ length: 16 }, () => 400));
});

/** Does something to each of `count` sets, then what a run of the command does with the files. */
async function callsAmong(t: TestContext, count: number, args: (stamps: string[]) => string[], spoil: (p: Project, timestamp: string) => void = () => {}): Promise<Call[]> {
  const { p, stamps } = await withSets(t, count);
  stamps.forEach((timestamp) => spoil(p, timestamp));
  const { status } = await p.run(...args(stamps));
  return await callsOf(t, p.root, args(stamps), status ?? undefined);
}

const looks = (calls: Call[]): number => calls.filter((c) => c.name === 'getdents64').length;
const opens = (calls: Call[], name: RegExp): number => calls.filter((c) => c.name === 'openat' && name.test(c.line)).length;

test('many sets that lack files cost no more looks at the folder than a few', { timeout: 600_000 }, async (t) => {
  needStrace();
  const spoil = (p: Project, timestamp: string): void => fs.rmSync(path.join(p.backups, `agentdb.db.backup.${timestamp}`));
  for (const args of [['list', '--json'], ['size', '--json'], ['check', '--quick', '--json']]) {
    const [few, many] = await Promise.all([2, 40].map((count) => callsAmong(t, count, () => args, spoil)));
    assert.equal(looks(many!), looks(few!), args.join(' '));
  }
});

test('many sets without checksums cost no more looks at the folder than a few', { timeout: 600_000 }, async (t) => {
  needStrace();
  const spoil = (p: Project, timestamp: string): void => fs.rmSync(path.join(p.backups, `agentdb.db.backup.${timestamp}.sha256`));
  for (const args of [['check', '--json'], ['check', '--quick', '--json']]) {
    const [few, many] = await Promise.all([2, 40].map((count) => callsAmong(t, count, () => args, spoil)));
    assert.equal(looks(many!), looks(few!), args.join(' '));
  }
});

test('many sets that are verified, sound or damaged, cost no more looks at the folder than a few', { timeout: 600_000 }, async (t) => {
  needStrace();
  const spoil = (p: Project, timestamp: string): void => fs.appendFileSync(path.join(p.backups, `agentdb.db.backup.${timestamp}`), 'x');
  for (const spoiled of [undefined, spoil]) {
    const [few, many] = await Promise.all([2, 40].map((count) => callsAmong(t, count, () => ['verify', '--json'], spoiled)));
    assert.equal(looks(many!), looks(few!));
  }
});

test('of one set that is asked for the record is read, and of the others nothing', { timeout: 600_000 }, async (t) => {
  needStrace();
  const calls = await callsAmong(t, 40, (stamps) => ['info', stamps[20]!, '--json']);
  assert.equal(opens(calls, /backup-metadata/), 1);
  assert.ok(calls.filter((c) => c.name === 'statx' && /\.backup\./.test(c.line)).length <= 3, 'the other sets are looked at');
});

test('a clean-up asks once which sets are in use, whatever their number', { timeout: 600_000 }, async (t) => {
  needStrace();
  const calls = await callsAmong(t, 40, () => ['clean', '1', '--dry-run', '--json']);
  assert.equal(opens(calls, /\.in-use-/), 0);
});
