// A long run among living applications: another SQLite in the same process, two writers, a long reader, every operation in random order.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../../index.js';
import { assertNoLeftovers, companion, makeDatabase, project, tempFolder } from '../helpers/project';
import { explain, type Made } from '../helpers/history';
import { report, seconds, seed } from '../helpers/proof';

const sources = ['agentdb.db', '.agentic-qe/memory.db'];
const accounts = 20;

/** What every process here does with a database: transfers, each a write with a number of its own, and the books looked over. */
const bank = `
  const open = (file) => {
    const db = new Database(file, { timeout: 120000 });
    db.pragma('mmap_size = 67108864'); db.pragma('wal_autocheckpoint = 20'); db.pragma('synchronous = OFF'); db.pragma('cache_size = -512');
    return db;
  };
  /** Moves money and returns what was written last before. Old transfers are added up, so that the books stay small. */
  const transfer = (db, token, random) => {
    const [a, b] = [1 + Math.floor(random() * ${accounts}), 1 + Math.floor(random() * ${accounts})], amount = 1 + Math.floor(random() * 100);
    const before = db.pragma('user_version', { simple: true });
    db.pragma('user_version = ' + token);
    db.prepare('INSERT INTO transfers(token, before, payer, payee, amount) VALUES (?, ?, ?, ?, ?)').run(token, before, a, b, amount);
    db.prepare('UPDATE accounts SET balance = balance - ? WHERE id = ?').run(amount, a);
    db.prepare('UPDATE accounts SET balance = balance + ? WHERE id = ?').run(amount, b);
    if (db.prepare('SELECT count(*) FROM transfers').pluck().get() > 300) {
      for (const r of db.prepare('SELECT id, payer, payee, amount FROM transfers ORDER BY id LIMIT 100').all()) {
        db.prepare('UPDATE accounts SET opening = opening - ? WHERE id = ?').run(r.amount, r.payer);
        db.prepare('UPDATE accounts SET opening = opening + ? WHERE id = ?').run(r.amount, r.payee);
        db.prepare('DELETE FROM transfers WHERE id = ?').run(r.id);
      }
    }
    db.prepare('UPDATE episodes SET embedding = randomblob(600) WHERE id = ?').run(1 + token % 60);
    return before;
  };
  /** Throws unless the books are balanced, in one snapshot. */
  const audit = (db, what) => db.transaction(() => {
    const token = db.pragma('user_version', { simple: true });
    const last = db.prepare('SELECT token FROM transfers ORDER BY id DESC LIMIT 1').pluck().get() ?? 1;
    if (last !== token) throw new Error(what + ': the last transfer is ' + last + ', the header tells of ' + token);
    const sum = db.prepare('SELECT sum(balance) FROM accounts').pluck().get();
    if (sum !== ${accounts} * 1000) throw new Error(what + ': the balances add up to ' + sum);
    const wrong = db.prepare(\`SELECT id FROM accounts a WHERE balance <> opening + coalesce((SELECT sum(amount) FROM transfers WHERE payee = a.id), 0) - coalesce((SELECT sum(amount) FROM transfers WHERE payer = a.id), 0)\`).all();
    if (wrong.length) throw new Error(what + ': accounts ' + JSON.stringify(wrong) + ' are not what their transfers make of them');
    return token;
  })();
  const generator = (seed) => { let state = seed >>> 0; return () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 4294967296; }; };
  /** [database, write, the write before] of every commit, one after the other. */
  const writes = [];
  let serial = 0;
  const one = (dbs, me, random) => {
    const i = Math.floor(random() * dbs.length), token = me * 500000000 + ++serial;
    let before;
    dbs[i].transaction(() => { before = transfer(dbs[i], token, random); }).immediate();
    writes.push(i, token, before);
  };
`;

const writer = `${bank}
  const [root, me, until, seed, log] = [args[0], Number(args[1]), Number(args[2]), Number(args[3]), args[4]];
  const random = generator(seed * 31 + me), dbs = args.slice(5).map((s) => open(path.join(root, s)));
  while (Date.now() < until) { one(dbs, me, random); await new Promise((r) => setTimeout(r, 4)); }
  dbs.forEach((db) => db.close());
  fs.writeFileSync(log, JSON.stringify({ writes }));
  console.log('done');`;

/** Keeps snapshots for long, and finds them unchanged. */
const reader = `${bank}
  const [root, until, log] = [args[0], Number(args[1]), args[2]];
  const dbs = args.slice(3).map((s) => open(path.join(root, s)));
  const see = (db) => JSON.stringify(db.prepare('SELECT * FROM accounts').raw().all());
  let reads = 0;
  while (Date.now() < until) {
    for (const db of dbs) {
      db.exec('BEGIN');
      const first = see(db);
      await new Promise((r) => setTimeout(r, 150));
      if (see(db) !== first) throw new Error('a snapshot has changed under its reader');
      db.exec('COMMIT');
      audit(db, 'the reader');
      reads++;
      await new Promise((r) => setTimeout(r, 20));
    }
  }
  dbs.forEach((db) => db.close());
  fs.writeFileSync(log, JSON.stringify({ reads }));
  console.log('done');`;

/** The application that has the package and better-sqlite3 in one process. */
const host = `${bank}
  const [root, until, seed, log, temporary] = [args[0], Number(args[1]), Number(args[2]), args[3], args[4]];
  const sources = args.slice(5), files = sources.map((s) => path.join(root, s)), random = generator(seed), me = 3;
  const dbs = files.map(open), others = files.map(open);
  const store = path.join(root, '.agentic-qe', 'backups');
  const project = { root, busyTimeoutMs: 300000, lockTimeoutMs: 300000 };
  const sets = [], states = {}, done = {}, refused = {};
  const begun = Date.now();
  let held = 0, warm;

  /** Our own POSIX locks on the databases and their -shm. */
  const locks = () => {
    const inodes = new Set(files.flatMap((f) => [f, f + '-shm']).filter((f) => fs.existsSync(f)).map((f) => String(fs.statSync(f).ino)));
    const found = new Set();
    // The kernel tells the list in pieces: what is in any of three readings is there.
    for (let i = 0; i < 3; i++) for (const line of fs.readFileSync('/proc/locks', 'utf8').split('\\n')) {
      const f = line.trim().split(/\\s+/).slice(1);
      if (f[0] === 'POSIX' && f[3] === String(process.pid) && inodes.has(f[4].split(':')[2])) found.add(f.join(' '));
    }
    return [...found].sort();
  };
  const lost = (before, after) => before.filter((l) => !after.includes(l));

  /** Notes the sets that have come, and looks over the books in them. */
  const look = async () => {
    for (const set of (await backup.listBackups(project)).reverse()) {
      if (states[set.timestamp]) continue;
      const state = {};
      for (const d of set.metadata.databases) {
        const copy = path.join(temporary, 'copy.db');
        fs.copyFileSync(path.join(store, d.file), copy);
        const db = new Database(copy);
        if (db.pragma('integrity_check', { simple: true }) !== 'ok') throw new Error(d.file + ' is damaged');
        state[d.source] = audit(db, d.file);
        db.close();
        for (const s of ['', '-wal', '-shm']) fs.rmSync(copy + s, { force: true });
      }
      states[set.timestamp] = state;
      const back = /^restore (\\S+)$/.exec(set.metadata.operation ?? '');
      sets.push({ made: set.timestamp, state, ...(back ? { restored: states[back[1]] } : {}) });
    }
  };

  /** While the application is in the middle of transactions of its own, which an operation must neither see nor break. */
  const inTransaction = async (call) => {
    const mine = [];
    others.forEach((db, i) => { db.exec('BEGIN IMMEDIATE'); const token = me * 500000000 + ++serial; mine.push([i, token, transfer(db, token, random)]); });
    const before = locks();
    if (before.length < 2) throw new Error('the application holds no locks, so nothing is seen here: ' + before);
    const result = await call();
    const gone = lost(before, locks());
    if (gone.length) throw new Error('locks of the application are gone: ' + gone.join(', '));
    others.forEach((db) => db.exec('COMMIT'));
    for (const w of mine) writes.push(...w);
    held++;
    return result;
  };
  const must = (r) => { if (!r.success) throw Object.assign(new Error(r.error), { code: r.code }); return r; };
  const any = async () => { const all = await backup.listBackups(project); return all[Math.floor(random() * all.length)].timestamp; };
  const verified = async () => { const ts = await any(); if (!await backup.verifyBackup(ts, project)) throw new Error(ts + ' does not verify'); };
  const quiet = { create: async () => must(await backup.createBackup({ ...project, keepLast: null, compress: random() < 0.3 })), list: () => backup.listBackups(project), verify: verified, check: () => backup.checkHealth({ ...project, quick: random() < 0.8 }), usage: () => backup.storageUsage(project) };
  const verbs = {
    ...quiet,
    restore: async () => must(await backup.restoreBackup(await any(), project)),
    compare: async () => backup.compareBackup(await any(), project),
    rows: async () => backup.compareBackup(await any(), { ...project, table: 'accounts' }),
    safety: async () => must(await backup.createSafetyBackup('a migration', { ...project, keepLast: null })),
    undone: async () => {
      const oops = new Error('the migration failed');
      const end = await backup.withSafetyBackup('a migration', () => { one(dbs, me, random); throw oops; }, { ...project, keepLast: null }).catch((e) => e);
      if (end !== oops) throw end;
    },
    clean: () => backup.cleanOldBackups(4, project),
    recover: () => backup.recover(project),
    ...Object.fromEntries(Object.entries(quiet).map(([name, call]) => [name + ' in a transaction', () => inTransaction(call)])),
  };
  const names = Object.keys(verbs);

  must(await backup.createBackup({ ...project, kind: 'manual' }));
  await look();
  for (let n = 0; n < names.length || Date.now() < until; n++) {
    // Each of them once, then as it comes; restores more often.
    const name = n < names.length ? names[n] : random() < 0.2 ? 'restore' : names[Math.floor(random() * names.length)];
    const before = locks();
    let over = false;
    const call = verbs[name]().finally(() => { over = true; });
    // The application goes on meanwhile, unless it is in a transaction.
    const goesOn = (async () => { while (!over) { if (!name.endsWith('transaction')) one(dbs, me, random); await new Promise((r) => setTimeout(r, 5)); } })();
    const end = await outcome(call);
    await goesOn;
    if (end.message !== undefined) {
      if (end.code !== 'DATABASE_BUSY') throw new Error(name + ': ' + end.code + ' ' + end.message);
      refused[name] = (refused[name] ?? 0) + 1;
    } else done[name] = (done[name] ?? 0) + 1;
    const gone = lost(before, locks());
    if (gone.length) throw new Error(name + ': locks of the application are gone: ' + gone.join(', '));
    await look();
    dbs.forEach((db, i) => audit(db, 'after ' + name + ', ' + sources[i]));
    if (!warm && n >= names.length && (Date.now() - begun) * 4 >= until - begun) warm = { memory: process.memoryUsage().rss, descriptors: fs.readdirSync('/proc/self/fd').length };
  }
  const last = { memory: process.memoryUsage().rss, descriptors: fs.readdirSync('/proc/self/fd').length };
  [...dbs, ...others].forEach((db) => db.close());
  fs.writeFileSync(log, JSON.stringify({ writes, sets, done, refused, held, warm: warm ?? last, last }));
  console.log('done');`;

interface HostLog {
  writes: number[];
  sets: Made[];
  done: Record<string, number>;
  refused: Record<string, number>;
  held: number;
  warm: { memory: number; descriptors: number };
  last: { memory: number; descriptors: number };
}

test('among applications that write and read: every snapshot is balanced, no commit is lost but to a restore, no lock is taken away, nothing grows', { timeout: 4_500_000 }, async (t) => {
  const p = project(t);
  const books = `CREATE TABLE accounts(id INTEGER PRIMARY KEY, opening INTEGER, balance INTEGER); CREATE TABLE transfers(id INTEGER PRIMARY KEY, token INTEGER, before INTEGER, payer INTEGER, payee INTEGER, amount INTEGER);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${accounts}) INSERT INTO accounts SELECT i, 1000, 1000 FROM n; PRAGMA user_version = 1`;
  for (const source of sources) makeDatabase(p.at(source), { journal: source === 'agentdb.db' ? 'wal' : 'delete', rows: 60, after: books });
  const logs = tempFolder(t, 'logs');
  const until = String(Date.now() + seconds(9, 3600) * 1000);
  const log = (name: string): string => path.join(logs, name);
  const all = [
    companion(t, host, [p.root, until, String(seed), log('host'), tempFolder(t, 'copies'), ...sources]),
    ...[1, 2].map((me) => companion(t, writer, [p.root, String(me), until, String(seed), log(`writer${me}`), ...sources])),
    companion(t, reader, [p.root, until, log('reader'), ...sources]),
  ];
  for (const c of all) assert.equal(await c.line(), 'done');
  for (const c of all) assert.equal((await c.end()).status, 0);
  const read = <T>(name: string): T => JSON.parse(fs.readFileSync(log(name), 'utf8')) as T;
  const ours = read<HostLog>('host');

  const before = sources.map(() => new Map<number, number>());
  let writes = 0;
  for (const list of [ours, ...[1, 2].map((me) => read<{ writes: number[] }>(`writer${me}`))]) {
    for (let i = 0; i < list.writes.length; i += 3, writes++) before[list.writes[i]!]!.set(list.writes[i + 1]!, list.writes[i + 2]!);
  }
  // The last word on what is there comes from a set like all the others.
  const end = await backup.createBackup({ root: p.root, kind: 'manual' });
  assert.equal(end.success, true, end.error);
  const ends = (await backup.listBackups({ root: p.root })).find((b) => b.timestamp === end.timestamp)!.metadata!.databases!;
  const links = sources.map((source, i) => explain(source, ours.sets, before[i]!, ends.find((d) => d.source === source)!.sqlite!.user_version).links);
  for (const b of await backup.listBackups({ root: p.root })) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, b.timestamp);
  assertNoLeftovers(p.backups);

  assert.ok((ours.done.restore ?? 0) > 0 && (ours.done.create ?? 0) > 0 && ours.held > 0, JSON.stringify(ours.done));
  assert.ok(ours.last.descriptors <= ours.warm.descriptors + 8, `descriptors: ${ours.warm.descriptors} became ${ours.last.descriptors}`);
  const grown = Math.round((ours.last.memory - ours.warm.memory) / 2 ** 20);
  assert.ok(grown < 200, `memory has grown by ${grown} MiB`);
  const sum = (o: Record<string, number>): number => Object.values(o).reduce((a, b) => a + b, 0);
  report('live', {
    seconds: seconds(9, 3600), operations: sum(ours.done), busy: sum(ours.refused), restores: ours.done.restore ?? 0, sets: ours.sets.length, writes, links: links.reduce((a, b) => a + b, 0),
    'in transactions': ours.held, reads: read<{ reads: number }>('reader').reads, 'descriptors grown': ours.last.descriptors - ours.warm.descriptors, 'MiB grown': grown,
  });
});
