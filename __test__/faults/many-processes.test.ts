// Many processes at work on one project at once: one order of events explains what came of it, and no set is half seen.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as backup from '../../index.js';
import { assertNoLeftovers, bin, companion, copyOf, craftSet, makeDatabase, momentOf, project, readMetadata, withDatabase, type Project } from '../helpers/project';
import { explain, type Made, type Write } from '../helpers/history';
import { full, report, seconds, seed } from '../helpers/proof';

const sources = ['agentdb.db', '.agentic-qe/memory.db'];

interface Event extends Partial<Made> {
  what: 'create' | 'restore' | 'clean' | 'delete' | 'look';
  code?: string;
  message?: string;
  /** A set that was listed and did not verify. */
  half?: string;
}

/** Writes all the time; says at its end what was committed. */
const writer = `
  const [root, me, until] = [args[0], Number(args[1]), Number(args[2])];
  const sources = args.slice(3), writes = [];
  const dbs = sources.map((s) => { const db = new Database(path.join(root, s), { timeout: 120000 }); db.pragma('synchronous = OFF'); return db; });
  for (let n = 1; Date.now() < until; n++) {
    const i = n % sources.length, db = dbs[i], token = me * 1000000 + n;
    let before;
    db.transaction(() => {
      before = db.pragma('user_version', { simple: true });
      db.pragma('user_version = ' + token);
      db.prepare('INSERT INTO writes VALUES (?, ?)').run(token, before);
      db.prepare('UPDATE episodes SET embedding = randomblob(400) WHERE id = 1 + ? % 100').run(n);
    }).immediate();
    writes.push({ source: sources[i], token, before });
    await new Promise((r) => setTimeout(r, 3));
  }
  dbs.forEach((db) => db.close());
  console.log(JSON.stringify(writes));`;

/** Does one thing after the other, at random; says at its end what came of each. */
const operator = `
  const { promisify } = require('node:util'), { execFile } = require('node:child_process');
  const [root, me, until, bin, seed] = [args[0], Number(args[1]), Number(args[2]), args[3], Number(args[4])];
  let state = (seed * 7919 + me * 104729) >>> 0;
  const random = () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 4294967296; };
  const project = { root, lockTimeoutMs: 300000, busyTimeoutMs: 300000 };
  const stateOf = (info) => info && Object.fromEntries(info.metadata.databases.map((d) => [d.source, d.sqlite.user_version]));
  const find = async (ts) => stateOf((await backup.listBackups(project)).find((b) => b.timestamp === ts));
  const any = async () => { const all = (await backup.listBackups(project)).filter((b) => b.complete); return all[Math.floor(random() * all.length)]; };
  const deeds = {
    create: async (event) => {
      const r = await backup.createBackup({ ...project, keepLast: null, compress: random() < 0.3, kind: random() < 0.5 ? 'manual' : 'automated' });
      if (!r.success) return Object.assign(event, { code: r.code, message: r.error });
      Object.assign(event, { made: r.timestamp, state: await find(r.timestamp) });
    },
    restore: async (event) => {
      const set = await any();
      if (!set) return;
      const r = await backup.restoreBackup(set.timestamp, project);
      if (!r.success) return Object.assign(event, { code: r.code, message: r.error });
      if (r.safetyBackup) Object.assign(event, { made: r.safetyBackup, restored: stateOf(set), state: await find(r.safetyBackup) });
    },
    look: async (event) => {
      for (const set of (await backup.listBackups(project)).slice(0, 3)) {
        if (!set.complete) event.half = set.timestamp + ' is listed as incomplete';
        if (await backup.verifyBackup(set.timestamp, project)) continue;
        const again = await backup.inspectBackup(set.timestamp, project).catch((e) => e.code);
        if ((await backup.listBackups(project)).some((b) => b.timestamp === set.timestamp)) event.half = set.timestamp + ' ' + JSON.stringify(again);
      }
    },
    clean: async () => { await backup.cleanOldBackups(3, project); },
    delete: async (event) => {
      const set = await any();
      if (!set) return;
      const args = [bin, 'delete', set.timestamp, '--force', '--even-newest', '--json', '--lock-timeout', '300000'];
      const document = await promisify(execFile)(process.execPath, args, { cwd: root }).then((r) => JSON.parse(r.stdout), (e) => (e.stdout ? JSON.parse(e.stdout) : { code: 'NO DOCUMENT', error: String(e) }));
      if (document.ok === false || document.code) Object.assign(event, { code: document.code, message: document.error });
    },
  };
  const names = ['create', 'restore', 'look', 'clean', 'delete'], weights = [0.35, 0.6, 0.85, 0.93, 1];
  const events = [];
  for (let n = 0; n === 0 || Date.now() < until; n++) {
    const x = random();
    const what = n === 0 ? names[me % 2] : names[weights.findIndex((w) => x < w)];
    const event = { what };
    try { await deeds[what](event); } catch (e) { Object.assign(event, { code: e.code ?? 'no code', message: e.message }); }
    events.push(event);
  }
  console.log(JSON.stringify(events));`;

/** A set's copies are of one moment each: the last write that is in it is the one that its header tells of. */
function assertOneMoment(p: Project, timestamp: string): void {
  for (const source of sources) {
    withDatabase(copyOf(p.backups, timestamp, source), (db) => {
      const token = db.pragma('user_version', { simple: true }) as number;
      const last = db.prepare<[], { token: number }>('SELECT token FROM writes ORDER BY rowid DESC LIMIT 1').get();
      assert.equal(last?.token ?? 1, token, `${timestamp}, ${source}`);
    }, { readonly: true });
  }
}

test('processes that create, restore, clean, delete, list, verify and write at once: one order of events explains every set, every write and the end', { timeout: 3_600_000 }, async (t) => {
  const p = project(t);
  for (const source of sources) makeDatabase(p.at(source), { journal: source === 'agentdb.db' ? 'wal' : 'delete', rows: 100, after: 'CREATE TABLE writes(token INTEGER, before INTEGER); PRAGMA user_version = 1' });
  const first = await backup.createBackup({ root: p.root, kind: 'manual' });
  assert.equal(first.success, true, first.error);
  const until = String(Date.now() + seconds(5, 60) * 1000);
  const writers = Array.from({ length: 2 }, (_, i) => companion(t, writer, [p.root, String(i + 1), until, ...sources]));
  const operators = Array.from({ length: full ? 18 : 5 }, (_, i) => companion(t, operator, [p.root, String(i), until, bin, String(seed)]));
  const writes = (await Promise.all(writers.map((w) => w.line()))).flatMap((l) => JSON.parse(l) as Write[]);
  const events = (await Promise.all(operators.map((o) => o.line()))).flatMap((l) => JSON.parse(l) as Event[]);
  for (const run of await Promise.all([...writers, ...operators].map((c) => c.end()))) assert.equal(run.status, 0, run.stderr);

  for (const e of events) {
    // Somebody else may have removed the set; and a wait has an end.
    assert.ok(e.code === undefined || ['BACKUP_NOT_FOUND', 'LOCK_TIMEOUT', 'DATABASE_BUSY'].includes(e.code), `${e.what}: ${e.code} ${e.message}`);
    assert.equal(e.half, undefined, 'a set was half seen');
  }
  const made = events.flatMap((e) => (e.made === undefined ? [] : [e.made]));
  assert.equal(new Set([first.timestamp, ...made]).size, made.length + 1, 'a name was given twice');
  const count = (what: Event['what']): number => events.filter((e) => e.what === what && e.code === undefined).length;
  assert.ok(count('create') > 0 && count('restore') > 0 && writes.length > 0, JSON.stringify({ create: count('create'), restore: count('restore'), writes: writes.length }));

  await backup.recover({ root: p.root });
  assertNoLeftovers(p.backups);
  const ends = sources.map((source) => withDatabase(p.at(source), (db) => (assert.deepEqual(db.pragma('integrity_check'), [{ integrity_check: 'ok' }]), db.pragma('user_version', { simple: true }) as number)));
  const explained = sources.map((source, i) => explain(source, events.filter((e): e is Event & Made => e.made !== undefined), new Map(writes.filter((w) => w.source === source).map((w) => [w.token, w.before])), ends[i]!));
  const list = await backup.listBackups({ root: p.root, archives: true });
  for (const b of list) {
    assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, b.timestamp);
    if (!b.archiveOnly) assertOneMoment(p, b.timestamp);
  }
  report('many-processes', {
    processes: writers.length + operators.length, creates: count('create'), restores: count('restore'), cleans: count('clean'), deletes: count('delete'), looks: count('look'), writes: writes.length,
    links: explained.reduce((n, e) => n + e.links, 0), unseen: explained.reduce((n, e) => n + e.unseen, 0), refused: events.filter((e) => e.code !== undefined).length,
  });
});

test('the line of events that explains all of it is one that a lost write, or a state out of nowhere, would break', () => {
  const writes = new Map([[2, 1], [3, 2], [4, 3], [5, 1], [6, 5]]);
  const sets = [{ made: 'a', state: { x: 2 } }, { made: 'b', state: { x: 4 }, restored: { x: 1 } }];
  assert.deepEqual(explain('x', sets, writes, 6), { links: 3, unseen: 0 });
  assert.throws(() => explain('x', sets, new Map([...writes, [7, 2]]), 6), /write 7 is in no set/);
  assert.throws(() => explain('x', sets, writes, 9), /does not come from/);
  assert.throws(() => explain('x', [...sets, { made: 'c', state: { x: 3 } }], writes, 6), /write 6, which does not come from 3/);
  // A safety set that nobody saw: what was written before it can't be told from what was lost, what came after can.
  assert.deepEqual(explain('x', [sets[0]!, { made: 'b', restored: { x: 1 } }], writes, 6), { links: 2, unseen: 1 });
});

test('the name of a set that was deleted is not given again, be it in the same second', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 5 });
  const given: string[] = [];
  for (let i = 0; i < 5; i++) {
    const made = await backup.createBackup({ root: p.root, compress: false, kind: 'manual' });
    assert.equal(made.success, true, made.error);
    given.push(made.timestamp);
    const run = await p.run('delete', made.timestamp, '--force', '--even-newest');
    assert.equal(run.status, 0, run.stderr);
  }
  assert.deepEqual(given, [...new Set(given)].sort(), 'a name was given twice, or they are out of order');
  assert.deepEqual(await backup.listBackups({ root: p.root }), []);
});

test('names that are minutes ahead of the clock run no further ahead, however fast sets are made', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 5 });
  // More than one set a second for long: this is where that ends.
  const ahead = new Date(Math.floor(Date.now() / 1000 + 400) * 1000);
  await craftSet(p, ahead, { kind: 'manual' });
  const lead = (timestamp: string): number => momentOf(timestamp).getTime() - Date.now();
  const leads: number[] = [];
  let last = '';
  for (let i = 0; i < 3; i++) {
    const made = await backup.createBackup({ root: p.root, compress: false, kind: 'manual' });
    assert.equal(made.success, true, made.error);
    assert.ok(made.timestamp > last, 'names are not in order');
    last = made.timestamp;
    leads.push(lead(made.timestamp));
  }
  // A slow machine only makes the lead smaller.
  for (const l of leads) assert.ok(l <= 401_000, `the names run ahead: ${leads.join(', ')} ms`);
  // Ten minutes ahead would be taken for a clock that was wrong.
  assert.equal((await backup.listBackups({ root: p.root })).length, leads.length + 1);
  assert.equal(readMetadata(p.backups, last).timestamp, last);
});
