// Every shape of database file goes out and comes back byte for byte.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { test } from 'node:test';
import * as backup from '../index.js';
import { addRows, assertRestored, companion, contents, makeDatabase, project, publicPackage, readMetadata, runScript, sha256, unprivileged, withDatabase, isRoot, type Context } from './helpers/project';
import * as path from 'node:path';

/** Out, check, change, back over the live one, remove, back into its place. */
async function roundTrip(t: Context, make: (file: string) => void, options: { change?: string; compress?: boolean } = {}): Promise<void> {
  const { change = 'CREATE TABLE changed_since(x); INSERT INTO changed_since VALUES (zeroblob(20000))', compress = true } = options;
  const p = project(t);
  const file = p.at('agentdb.db');
  make(file);
  const original = sha256(file);
  const then = contents(file);
  assert.equal(sha256(file), original, 'looking at the database changed it');
  const made = await backup.createBackup({ root: p.root, compress });
  assert.equal(made.success, true, made.error);
  assert.equal(made.databases[0]?.integrity, 'ok');
  assert.equal(sha256(made.files[0]!), original, 'the copy is not the database');
  assert.equal(sha256(file), original, 'the backup changed the database');
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);

  withDatabase(file, (db) => db.exec(change));
  assert.notEqual(contents(file), then, 'the change changed nothing');
  const over = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(over.success, true, over.error);
  assert.deepEqual(over.databases.map((d) => d.action), ['updated']);
  assertRestored(file, made.files[0]!);
  assert.equal(contents(file), then);

  for (const suffix of ['', '-wal', '-shm']) fs.rmSync(file + suffix, { force: true });
  const fresh = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(fresh.success, true, fresh.error);
  assert.deepEqual(fresh.databases.map((d) => d.action), ['created']);
  assert.equal(sha256(file), original, 'the recreated file is not what it was');
}

for (const pageSize of [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]) {
  for (const journal of ['delete', 'wal'] as const) {
    test(`pages of ${pageSize} bytes (${journal})`, async (t) => {
      await roundTrip(t, (file) => makeDatabase(file, { pageSize, journal, rows: 300 }));
    });
  }
}

const shapes: Record<string, { before?: string; after?: string }> = {
  'UTF-16le': { before: "PRAGMA encoding = 'UTF-16le'", after: "INSERT INTO patterns VALUES ('ü', 'é日本𝄞')" },
  'UTF-16be': { before: "PRAGMA encoding = 'UTF-16be'", after: "INSERT INTO patterns VALUES ('ü', 'é日本𝄞')" },
  'auto_vacuum full': { before: 'PRAGMA auto_vacuum = FULL', after: 'DELETE FROM episodes WHERE id % 3 = 0' },
  'auto_vacuum incremental': { before: 'PRAGMA auto_vacuum = INCREMENTAL', after: 'DELETE FROM episodes WHERE id % 3 = 0' },
  'free pages': { after: 'DELETE FROM episodes WHERE id > 40' },
  'WITHOUT ROWID': { after: "CREATE TABLE w(a TEXT PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO w SELECT 'k' || id, embedding FROM episodes" },
  'STRICT, generated columns, views and triggers': {
    after:
      "CREATE TABLE s(a INTEGER, b TEXT GENERATED ALWAYS AS ('x' || a) STORED) STRICT; INSERT INTO s(a) VALUES (1), (2); CREATE VIEW v AS SELECT b FROM s; CREATE TRIGGER tr AFTER INSERT ON s BEGIN DELETE FROM patterns WHERE id = 'none'; END",
  },
  FTS5: { after: "CREATE VIRTUAL TABLE f USING fts5(task); INSERT INTO f SELECT task FROM episodes; DELETE FROM f WHERE rowid < 10" },
  'external-content FTS5 keyed on implicit rowids': {
    after: "CREATE VIRTUAL TABLE f USING fts5(content, content='patterns', content_rowid='rowid'); INSERT INTO f(rowid, content) SELECT rowid, content FROM patterns; DELETE FROM patterns WHERE id = 'p3'",
  },
  'R-Tree': { after: 'CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, y0, y1); INSERT INTO r SELECT id, id, id + 1, id, id + 2 FROM episodes' },
  'big rows on overflow pages': { after: 'INSERT INTO episodes VALUES (5000, \'big\', randomblob(3000000))' },
  'names that need quotes': { after: `CREATE TABLE "a ""b"" ' c; --"("select" TEXT); INSERT INTO "a ""b"" ' c; --" VALUES ('x'); CREATE TABLE "日本"(x)` },
};
for (const [what, { before = '', after = '' }] of Object.entries(shapes)) {
  test(what, async (t) => {
    await roundTrip(t, (file) => makeDatabase(file, { rows: 300, before, after }));
  });
}

test('reserved bytes at the end of every page', async (t) => {
  await roundTrip(t, (file) => {
    withDatabase(file, (db) => db.exec('CREATE TABLE x(a); DROP TABLE x; VACUUM'));
    // An empty database of one page: 32 reserved bytes, and a cell area that ends before them.
    const fd = fs.openSync(file, 'r+');
    fs.writeSync(fd, Buffer.from([32]), 0, 1, 20);
    fs.writeSync(fd, Buffer.from([(4096 - 32) >> 8, (4096 - 32) & 255]), 0, 2, 105);
    fs.closeSync(fd);
    withDatabase(file, (db) => {
      db.exec('CREATE TABLE episodes(id INTEGER PRIMARY KEY, task TEXT NOT NULL, embedding BLOB); CREATE TABLE patterns(id TEXT PRIMARY KEY, content TEXT)');
      addRows(db, 1, 300);
    });
    const header = Buffer.alloc(100);
    const look = fs.openSync(file, 'r');
    fs.readSync(look, header, 0, 100, 0);
    fs.closeSync(look);
    assert.equal(header[20], 32, 'the database has no reserved bytes');
  });
});

test('a database of zero bytes', async (t) => {
  const p = project(t);
  const file = p.at('agentdb.db');
  fs.writeFileSync(file, '');
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.deepEqual([made.totalSize, fs.statSync(made.files[0]!).size, fs.statSync(file).size], [0, 0, 0]);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
  assert.equal((await backup.restoreBackup(made.timestamp, { root: p.root })).databases[0]?.action, 'unchanged');

  makeDatabase(file, { rows: 30 });
  const full = contents(file);
  const over = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
  assert.equal(over.success, true, over.error);
  assert.deepEqual(withDatabase(file, (db) => db.prepare('SELECT * FROM sqlite_master').all()), []);
  const undone = await backup.restoreBackup(over.safetyBackup!, { root: p.root, force: true });
  assert.equal(undone.success, true, undone.error);
  assert.equal(contents(file), full);

  fs.rmSync(file);
  const fresh = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(fresh.success, true, fresh.error);
  assert.equal(fs.statSync(file).size, 0);
});

test('a database with a schema and no rows, and one of a single page', async (t) => {
  await roundTrip(t, (file) => makeDatabase(file, { rows: 0 }));
  await roundTrip(t, (file) => withDatabase(file, (db) => db.exec('PRAGMA user_version = 3; CREATE TABLE x(a); DROP TABLE x; VACUUM')), { change: 'CREATE TABLE y(z)' });
});

/** A sound database that reaches beyond 1 GiB and takes little room: all but a few of its pages are free, and free pages may be holes. */
function beyondTheLockPage(file: string): void {
  const size = 65536;
  const lock = 2 ** 30 / size + 1;
  const pages = lock + 15;
  withDatabase(file, (db) => db.exec(`PRAGMA page_size = ${size}; CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)`));
  const free = Array.from({ length: pages - 2 }, (_, i) => i + 3).filter((n) => n !== lock);
  const beyond = free.filter((n) => n > lock);
  const before = free.filter((n) => n < lock);
  const trunks = [beyond, before.slice(0, 16000), before.slice(16000)].filter((c) => c.length > 0);
  const fd = fs.openSync(file, 'r+');
  fs.ftruncateSync(fd, pages * size);
  trunks.forEach(([page, ...leaves], i) => {
    const trunk = Buffer.alloc(8 + 4 * leaves.length);
    trunk.writeUInt32BE(trunks[i + 1]?.[0] ?? 0, 0);
    trunk.writeUInt32BE(leaves.length, 4);
    leaves.forEach((leaf, k) => trunk.writeUInt32BE(leaf, 8 + 4 * k));
    fs.writeSync(fd, trunk, 0, trunk.length, (page! - 1) * size);
  });
  const header = Buffer.alloc(12);
  header.writeUInt32BE(pages, 0);
  header.writeUInt32BE(beyond[0]!, 4);
  header.writeUInt32BE(free.length, 8);
  fs.writeSync(fd, header, 0, 12, 28);
  fs.closeSync(fd);
  withDatabase(file, (db) => {
    const insert = db.prepare('INSERT INTO t(b) VALUES (?)');
    for (let i = 0; i < 6; i++) insert.run(randomBytes(60_000));
  });
}

test('across the lock page at 1 GiB', { timeout: 1_800_000 }, async (t) => {
  const p = project(t);
  const file = p.at('agentdb.db');
  beyondTheLockPage(file);
  assert.ok(fs.statSync(file).size > 2 ** 30);
  const original = sha256(file);
  const then = contents(file);
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(made.success, true, made.error);
  assert.equal(sha256(made.files[0]!), original, 'the copy is not the database');
  withDatabase(file, (db) => db.exec('UPDATE t SET b = randomblob(60000) WHERE a > 3'));
  const over = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(over.success, true, over.error);
  assertRestored(file, made.files[0]!);
  assert.equal(contents(file), then);
  fs.rmSync(file);
  const fresh = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(fresh.success, true, fresh.error);
  assert.equal(sha256(file), original, 'the recreated file is not what it was');
});

test('a hot journal: the state before the transaction that died is backed up and restored', async (t) => {
  const p = project(t);
  const file = p.at('agentdb.db');
  makeDatabase(file, { rows: 2000 });
  const then = contents(file);
  const dead = companion(
    t,
    `const db = new Database(args[0]); db.pragma('cache_size = 5'); db.pragma('synchronous = FULL');
     db.exec("BEGIN; UPDATE episodes SET embedding = randomblob(400); DELETE FROM patterns WHERE id LIKE 'p1%'");
     console.log('spilled'); process.kill(process.pid, 'SIGKILL');`,
    [file],
  );
  assert.equal(await dead.line(), 'spilled');
  await dead.end();
  assert.ok(fs.statSync(`${file}-journal`).size > 512, 'there is no hot journal');
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.equal(contents(made.files[0]!), then);
  assert.equal(contents(file), then);
  withDatabase(file, (db) => db.exec('DELETE FROM episodes'));
  const r = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.equal(contents(file), then);
});

test('a hot journal at the target of a restore is played back first: what it saves is in the safety set', async (t) => {
  const p = project(t);
  const file = p.at('agentdb.db');
  makeDatabase(file, { rows: 2000 });
  const made = await backup.createBackup({ root: p.root });
  withDatabase(file, (db) => addRows(db, 9000, 10));
  const now = contents(file);
  const dead = companion(t, `const db = new Database(args[0]); db.pragma('cache_size = 5'); db.exec('BEGIN; UPDATE episodes SET embedding = randomblob(400)'); console.log('spilled'); process.kill(process.pid, 'SIGKILL');`, [file]);
  assert.equal(await dead.line(), 'spilled');
  await dead.end();
  assert.ok(fs.existsSync(`${file}-journal`));
  const r = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(r.success, true, r.error);
  assertRestored(file, made.files[0]!);
  const undone = await backup.restoreBackup(r.safetyBackup!, { root: p.root });
  assert.equal(undone.success, true, undone.error);
  assert.equal(contents(file), now);
});

test('a crashed WAL: every commit in the -wal is backed up; a restore leaves none of it behind', async (t) => {
  const p = project(t);
  const file = p.at('agentdb.db');
  makeDatabase(file, { rows: 100, journal: 'wal' });
  const first = await backup.createBackup({ root: p.root });
  const crash = async (sql: string): Promise<void> => {
    const dead = companion(t, `const db = new Database(args[0]); db.exec(args[1]); db.exec('BEGIN; DELETE FROM patterns'); console.log('done'); process.kill(process.pid, 'SIGKILL');`, [file, sql]);
    assert.equal(await dead.line(), 'done');
    await dead.end();
    assert.ok(fs.statSync(`${file}-wal`).size > 0, 'there is no -wal');
  };
  await crash("UPDATE patterns SET content = 'from the wal'");
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.equal(withDatabase(made.files[0]!, (db) => db.prepare("SELECT count(*) FROM patterns WHERE content = 'from the wal'").pluck().get()), 100);

  const r = await backup.restoreBackup(first.timestamp, { root: p.root });
  assert.equal(r.success, true, r.error);
  assertRestored(file, first.files[0]!);

  await crash("UPDATE patterns SET content = 'again'");
  const again = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(again.success, true, again.error);
  assertRestored(file, made.files[0]!);
  assert.equal(withDatabase(copyIn(p.backups, again.safetyBackup!), (db) => db.prepare("SELECT count(*) FROM patterns WHERE content = 'again'").pluck().get()), 100);
});

function copyIn(folder: string, ts: string): string {
  return path.join(folder, readMetadata(folder, ts).databases[0]!.file);
}

for (const journal of ['delete', 'wal'] as const) {
  test(`databases in a folder that may only be read are backed up elsewhere, and left as they are (${journal})`, async (t) => {
    const p = project(t);
    const data = p.at('data');
    const file = path.join(data, 'agentdb.db');
    makeDatabase(file, { journal });
    const kept = p.at('kept');
    fs.mkdirSync(kept);
    fs.chmodSync(path.dirname(p.root), 0o755);
    fs.chmodSync(p.root, 0o755);
    fs.chmodSync(kept, 0o777);
    fs.chmodSync(file, 0o444);
    fs.chmodSync(data, 0o555);
    const { made, valid } = await runScript<{ made: backup.BackupResult; valid: boolean | null }>(
      `const options = { root: args[0], backupDir: args[1] };
       const made = await backup.createBackup(options);
       console.log(JSON.stringify({ made, valid: made.success ? await backup.verifyBackup(made.timestamp, options) : null }));`,
      [data, kept],
      { ...unprivileged(), cwd: '/', from: publicPackage(t) },
    );
    assert.deepEqual(fs.readdirSync(data), ['agentdb.db']);
    fs.chmodSync(data, 0o755);
    assert.equal(made.success, true, `${made.code} ${made.error}`);
    assert.equal(valid, true);
    if (!isRoot) fs.chmodSync(file, 0o644);
    assert.equal(sha256(made.files[0]!), sha256(file));
  });
}
