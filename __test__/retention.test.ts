// What cleanOldBackups and keepLast remove, and what they never do.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertNoLeftovers, codeOf, contents, copyOf, craftSet, daysAgo, flip, makeDatabase, metadataPath, project, projectAt, readMetadata, sets, tempFolder, withData, withDatabase, type Context, type Project } from './helpers/project';

/** The sets that still have their raw files, newest first. */
async function left(p: Project): Promise<string[]> {
  return (await backup.listBackups({ root: p.root })).map((b) => b.timestamp);
}

test('the newest N automated sets stay, whole; the older ones go, whole', async (t) => {
  const p = withData(t);
  const all: string[] = [];
  for (let i = 0; i < 7; i++) all.push(await craftSet(p, daysAgo(7 - i)));
  const newest = all.slice(-3);
  const before = sets(p.backups);
  assert.equal(await backup.cleanOldBackups(3, { root: p.root }), 4);
  assert.deepEqual(await left(p), [...newest].reverse());
  assert.deepEqual(sets(p.backups), Object.fromEntries(Object.entries(before).filter(([name]) => newest.some((ts) => name.includes(ts)))));
  assert.equal(await backup.cleanOldBackups(3, { root: p.root }), 0);
});

test('N is 10 when nothing is said', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 13; i++) await craftSet(p, daysAgo(20 - i));
  assert.equal(await backup.cleanOldBackups(undefined, { root: p.root }), 3);
  assert.equal((await left(p)).length, 10);
});

test('safety sets are counted apart, so that a burst of migrations pushes out no daily one, and the other way round', async (t) => {
  const p = withData(t);
  const daily = [await craftSet(p, daysAgo(9)), await craftSet(p, daysAgo(8))];
  const safety = [];
  for (let i = 0; i < 5; i++) safety.push(await craftSet(p, daysAgo(5 - i), { kind: 'safety' }));
  assert.equal(await backup.cleanOldBackups(2, { root: p.root }), 3);
  assert.deepEqual((await left(p)).sort(), [...daily, ...safety.slice(-2)].sort());
});

test('manual sets are never removed, and do not count', async (t) => {
  const p = withData(t);
  const manual = [];
  for (const days of [900, 400, 12, 1]) manual.push(await craftSet(p, daysAgo(days), { kind: 'manual' }));
  const automated = [];
  for (const days of [10, 9, 8]) automated.push(await craftSet(p, daysAgo(days)));
  assert.equal(await backup.cleanOldBackups(1, { root: p.root }), 2);
  assert.deepEqual((await left(p)).sort(), [...manual, automated[2]!].sort());
});

test('an older set loses its raw files and keeps its archive, from which it can still be restored', async (t) => {
  const p = withData(t);
  const old = await craftSet(p, daysAgo(20), { archive: true });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes WHERE id > 5'));
  const recent = await craftSet(p, daysAgo(1), { archive: true });
  assert.equal(await backup.cleanOldBackups(1, { root: p.root }), 1);
  const names = fs.readdirSync(p.backups).filter((n) => n.includes(old)).sort();
  assert.deepEqual(names, [`databases-backup-${old}.tar.gz`, `databases-backup-${old}.tar.gz.sha256`]);
  assert.deepEqual(await left(p), [recent]);
  assert.deepEqual((await backup.listBackups({ root: p.root, archives: true })).map((b) => [b.timestamp, b.archiveOnly]), [[recent, false], [old, true]]);
  const r = await backup.restoreBackup(old, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.equal(withDatabase(p.at('agentdb.db'), (db) => db.prepare('SELECT count(*) FROM episodes').pluck().get()), 20);
});

test('an archive goes when it is 90 days old', async (t) => {
  const p = withData(t);
  const [old, young] = [await craftSet(p, daysAgo(92), { archive: true }), await craftSet(p, daysAgo(88), { archive: true })];
  await craftSet(p, daysAgo(1), { archive: true });
  await backup.cleanOldBackups(1, { root: p.root });
  const names = fs.readdirSync(p.backups);
  assert.deepEqual(names.filter((n) => n.includes(old)), []);
  assert.deepEqual(names.filter((n) => n.includes(young)).sort(), [`databases-backup-${young}.tar.gz`, `databases-backup-${young}.tar.gz.sha256`]);
});

test('the newest verified set of any database stays, however old', async (t) => {
  const p = withData(t);
  makeDatabase(p.at('.agentic-qe/memory.db'));
  const onlyMemory = await craftSet(p, daysAgo(50), { sources: ['.agentic-qe/memory.db', 'agentdb.db'] });
  const plain = [];
  for (let i = 0; i < 4; i++) plain.push(await craftSet(p, daysAgo(10 - i)));
  assert.equal(await backup.cleanOldBackups(1, { root: p.root }), 3);
  assert.deepEqual((await left(p)).sort(), [onlyMemory, plain[3]!].sort());
});

test('sets that were never verified push out no verified one', async (t) => {
  const p = withData(t);
  const good = await craftSet(p, daysAgo(30));
  const unchecked = [];
  for (let i = 0; i < 4; i++) unchecked.push(await craftSet(p, daysAgo(10 - i), { verified: false }));
  await backup.cleanOldBackups(2, { root: p.root });
  const now = await left(p);
  assert.ok(now.includes(good), 'the only verified set is gone');
  assert.ok(now.includes(unchecked[3]!));
});

test('backups of a damaged database rotate out no good one', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 600 });
  const good = await backup.createBackup({ root: p.root, compress: false });
  assert.equal(good.success, true, good.error);
  const fd = fs.openSync(p.at('agentdb.db'), 'r+');
  fs.writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 3 * 4096);
  fs.closeSync(fd);
  for (let i = 0; i < 4; i++) assert.equal((await backup.createBackup({ root: p.root, compress: false, keepLast: 1 })).code, 'SOURCE_DAMAGED');
  await backup.cleanOldBackups(1, { root: p.root });
  assert.equal(await backup.verifyBackup(good.timestamp, { root: p.root }), true);
});

test('a fresh empty database in the place of a full one rotates out no good set', async (t) => {
  const p = withData(t);
  withDatabase(p.at('agentdb.db'), (db) => db.exec("WITH RECURSIVE c(n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM c WHERE n < 2000) INSERT INTO patterns SELECT 'q' || n, 'x' FROM c"));
  const good = await backup.createBackup({ root: p.root, compress: false });
  fs.rmSync(p.at('agentdb.db'));
  makeDatabase(p.at('agentdb.db'), { rows: 0 });
  for (let i = 0; i < 4; i++) await backup.createBackup({ root: p.root, compress: false, keepLast: 1 });
  assert.equal(await backup.verifyBackup(good.timestamp, { root: p.root }), true, 'the last set with data is gone');
});

test('a set whose record was changed goes by no rule, since what kind it was is not known; of a removed set the seal goes too', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const made = await backup.createBackup({ root: p.root, kind: 'manual', compress: false });
  const file = metadataPath(p.backups, made.timestamp);
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"manual"', '"automated"'));
  const older = await backup.createBackup({ root: p.root, compress: false });
  await backup.createBackup({ root: p.root, compress: false });
  assert.equal(await backup.cleanOldBackups(1, { root: p.root }), 1);
  const left = fs.readdirSync(p.backups);
  assert.ok(left.includes(path.basename(file)) && left.includes(`${path.basename(file)}.sha256`), left.join(' '));
  assert.ok(!left.some((name) => name.includes(older.timestamp)), left.join(' '));
  const deleted = await p.run('delete', made.timestamp, '--force');
  assert.equal(deleted.status, 0, deleted.stderr);
  assert.ok(!fs.readdirSync(p.backups).some((name) => name.includes(made.timestamp)), 'deleting a set left something of it');
});

test('sets without a kind count as automated', async (t) => {
  const p = withData(t);
  const legacy = [];
  for (let i = 0; i < 3; i++) legacy.push(await craftSet(p, daysAgo(30 - i), { legacy: true }));
  const automated = [await craftSet(p, daysAgo(3)), await craftSet(p, daysAgo(2))];
  assert.equal(await backup.cleanOldBackups(3, { root: p.root }), 2);
  assert.deepEqual((await left(p)).sort(), [legacy[2]!, ...automated].sort());
});

test('keepLast of create cleans up after it, and says how many sets it removed', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 5; i++) await craftSet(p, daysAgo(10 - i));
  const made = await backup.createBackup({ root: p.root, keepLast: 2 });
  assert.deepEqual([made.success, made.removed], [true, 4]);
  assert.equal((await left(p)).length, 2);
});

test('the set that was just made is the newest, and stays, however fast they follow each other', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 8; i++) {
    const made = await backup.createBackup({ root: p.root, compress: false, keepLast: 2 });
    assert.equal(made.success, true, made.error);
    assert.ok(fs.existsSync(made.files[0]!), `backup ${i + 1} was removed by its own clean-up`);
    assert.equal((await left(p))[0], made.timestamp, `backup ${i + 1} is not the newest`);
  }
  assert.equal((await left(p)).length, 2);
});

test('create keeps 10 by default, and all with keepLast: null', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 12; i++) await craftSet(p, daysAgo(20 - i));
  assert.equal((await backup.createBackup({ root: p.root, keepLast: null })).removed, 0);
  assert.equal((await left(p)).length, 13);
  assert.equal((await backup.createBackup({ root: p.root })).removed, 4);
  assert.equal((await left(p)).length, 10);
});

test('a backup that was not verified cleans up nothing', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 4; i++) await craftSet(p, daysAgo(10 - i));
  assert.equal((await backup.createBackup({ root: p.root, verify: false, keepLast: 1 })).removed, 0);
  assert.equal((await left(p)).length, 5);
});

test('a failed backup cleans up nothing', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 4; i++) await craftSet(p, daysAgo(10 - i));
  fs.rmSync(p.at('agentdb.db'));
  const before = sets(p.backups);
  assert.equal((await backup.createBackup({ root: p.root, keepLast: 1 })).success, false);
  assert.deepEqual(sets(p.backups), before);
});

for (const [what, n] of [['0', 0], ['negative', -3], ['fractional', 1.5], ['not a number', Number.NaN], ['infinite', Number.POSITIVE_INFINITY], ['beyond 32 bits', 2 ** 40 + 0.5]] as const) {
  test(`N that is ${what} is ERR_INVALID_ARG_VALUE, and removes nothing`, async (t) => {
    const p = withData(t);
    for (let i = 0; i < 3; i++) await craftSet(p, daysAgo(10 - i));
    const before = sets(p.backups);
    await assert.rejects(backup.cleanOldBackups(n, { root: p.root }), (e: { code: string; message: string }) => e.code === 'ERR_INVALID_ARG_VALUE' && /keepLast/.test(e.message));
    await assert.rejects(backup.createBackup({ root: p.root, keepLast: n }), (e: { code: string; message: string }) => e.code === 'ERR_INVALID_ARG_VALUE' && /keepLast/.test(e.message));
    assert.deepEqual(sets(p.backups), before);
  });
}

test('cleaning a folder that is not there removes nothing and makes no fuss', async (t) => {
  const p = withData(t);
  assert.equal(await backup.cleanOldBackups(1, { root: p.root }), 0);
});

test('files that are no part of a set stay', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 3; i++) await craftSet(p, daysAgo(10 - i));
  const mine = ['notes.txt', 'agentdb.db.backup.old', 'backup-metadata.json', 'databases.tar.gz', 'agentdb.db.backup.20250116-120000.gpg'];
  for (const name of mine) fs.writeFileSync(path.join(p.backups, name), 'mine');
  assert.equal(await backup.cleanOldBackups(1, { root: p.root }), 2);
  for (const name of mine) assert.equal(fs.readFileSync(path.join(p.backups, name), 'utf8'), 'mine', name);
  assertNoLeftovers(p.backups);
});

test('a set whose copy was damaged since is not what protects a database', async (t) => {
  const p = withData(t);
  const good = await craftSet(p, daysAgo(10), { kind: 'manual' });
  const bad = await craftSet(p, daysAgo(2));
  flip(path.join(p.backups, `agentdb.db.backup.${bad}`), 5000);
  await backup.cleanOldBackups(1, { root: p.root });
  assert.equal(await backup.verifyBackup(good, { root: p.root }), true);
});

test('the safety backup of withSafetyBackup outlives whatever clean-up runs inside it', async (t) => {
  const p = withData(t);
  const before = contents(p.at('agentdb.db'));
  const inside: [string, () => Promise<unknown>][] = [
    ['a safety backup that keeps one', () => backup.createSafetyBackup('inner', { root: p.root, compress: false, keepLast: 1 })],
    ['a clean-up that keeps one', async () => (await backup.createSafetyBackup('inner', { root: p.root, compress: false }), await backup.cleanOldBackups(1, { root: p.root }))],
    ['three nested ones', () => backup.withSafetyBackup('a', () => backup.withSafetyBackup('b', () => backup.createSafetyBackup('c', { root: p.root, compress: false, keepLast: 1 }), { root: p.root, compress: false, keepLast: 1 }), { root: p.root, compress: false, keepLast: 1 })],
  ];
  for (const [what, clean] of inside) {
    const failing = backup.withSafetyBackup('outer', async () => {
      withDatabase(p.at('agentdb.db'), (db) => db.exec("UPDATE episodes SET task = 'changed'"));
      await clean();
      throw new Error('no');
    }, { root: p.root, compress: false });
    await assert.rejects(failing, /^Error: no$/, what);
    assert.equal(contents(p.at('agentdb.db')), before, what);
  }
  assert.equal(await backup.withSafetyBackup('fine', () => 7, { root: p.root }), 7);
  await assert.rejects(backup.withSafetyBackup('throws at once', () => { throw new Error('at once'); }, { root: p.root }), /at once/);
  await backup.cleanOldBackups(1, { root: p.root });
  assert.equal((await left(p)).length <= 2, true, 'afterwards nothing is in use any more');
  assert.deepEqual(fs.readdirSync(p.backups).filter((n) => n.startsWith('.in-use')), []);
});

test('an archive stays until it is 90 days old, also of a set that lost a file or whose database was damaged', async (t) => {
  const p = withData(t);
  await craftSet(p, daysAgo(1));
  const lost = await craftSet(p, daysAgo(40), { archive: true });
  fs.rmSync(copyOf(p.backups, lost, 'agentdb.db'));
  await craftSet(p, daysAgo(41));
  await backup.cleanOldBackups(1, { root: p.root });
  await backup.cleanOldBackups(1, { root: p.root });
  assert.ok((await backup.listBackups({ root: p.root, archives: true })).some((b) => b.timestamp === lost));
  assert.equal((await backup.restoreBackup(lost, { root: p.root })).success, true);
});

test('a restore after a loss of rows does not hide it from retention: the set from before the loss stays', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 400 });
  makeDatabase(p.at('.agentic-qe', 'memory.db'), { rows: 20 });
  const before = await backup.createBackup({ root: p.root, compress: false });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes WHERE id > 50'));
  const lost = await backup.createBackup({ root: p.root, compress: false });
  assert.ok(lost.warnings.some((w) => w.includes('episodes shrank')), lost.warnings.join('; '));
  withDatabase(p.at('.agentic-qe', 'memory.db'), (db) => db.exec('DELETE FROM patterns'));
  const restored = await backup.restoreBackup(lost.timestamp, { root: p.root });
  assert.equal(restored.success, true, restored.error);
  for (let i = 0; i < 4; i++) {
    const made = await backup.createBackup({ root: p.root, compress: false, keepLast: 2 });
    assert.equal(made.success, true, made.error);
  }
  assert.ok((await left(p)).includes(before.timestamp), 'the last set with all rows is gone');
  assert.equal(await backup.verifyBackup(before.timestamp, { root: p.root }), true);
});

test('what restores saved is counted apart: operations in a burst do not push it out', async (t) => {
  const p = withData(t);
  const saved = await craftSet(p, daysAgo(9), { kind: 'safety', edit: (m) => void (m.operation = 'restore 20250116-120000') });
  const before = [];
  for (let i = 0; i < 4; i++) before.push(await craftSet(p, daysAgo(8 - i), { kind: 'safety' }));
  await craftSet(p, daysAgo(1));
  assert.equal(await backup.cleanOldBackups(2, { root: p.root }), 2);
  const now = await left(p);
  assert.ok(now.includes(saved), 'what a restore saved is gone');
  assert.ok(before.slice(2).every((ts) => now.includes(ts)));
  await craftSet(p, daysAgo(0.5), { kind: 'safety', edit: (m) => void (m.operation = 'restore 20250116-120000') });
  const made = await backup.createBackup({ root: p.root, compress: false, keepLast: 1 });
  assert.ok(made.warnings.some((w) => w.includes(saved) && w.includes('keepLast')), 'what a restore saved went without a word');
});

test('an old archive that is the only copy of a database stays, though archives of its age go', async (t) => {
  const p = withData(t);
  makeDatabase(p.at('gone.db'));
  const only = await craftSet(p, daysAgo(200), { archive: true, sources: ['gone.db'] });
  const older = await craftSet(p, daysAgo(300), { archive: true, sources: ['gone.db'] });
  const other = await craftSet(p, daysAgo(250), { archive: true, sources: ['agentdb.db'] });
  for (const ts of [only, older, other]) for (const name of Object.keys(sets(p.backups))) if (name.includes(ts) && !name.includes('.tar.gz')) fs.rmSync(path.join(p.backups, name));
  fs.rmSync(p.at('gone.db'));
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  const archives = (await backup.listBackups({ root: p.root, archives: true })).filter((b) => b.archiveOnly).map((b) => b.timestamp);
  assert.deepEqual(archives, [only]);
  assert.ok(made.warnings.some((w) => w.includes('2 archives')), made.warnings.join('; '));
  assert.equal((await backup.restoreBackup(only, { root: p.root })).success, true);
});

interface Shared {
  a: Project;
  b: Project;
  /** Options for the one and the other: one backups folder outside both. */
  ofA: { root: string; backupDir: string };
  ofB: { root: string; backupDir: string };
}

/** Two projects with databases of the same name that share a backups folder. */
function sharing(t: Context): Shared {
  const [a, b, backupDir] = [project(t, 'a'), project(t, 'b'), tempFolder(t, 'shared')];
  makeDatabase(a.at('agentdb.db'), { rows: 20 });
  makeDatabase(b.at('agentdb.db'), { rows: 400 });
  return { a, b, ofA: { root: a.root, backupDir }, ofB: { root: b.root, backupDir } };
}

test('where projects share a backups folder, no clean-up of one removes the newest verified set of the other', async (t) => {
  const { a, b, ofA, ofB } = sharing(t);
  const ours = await backup.createBackup({ ...ofA, compress: false });
  for (let i = 0; i < 3; i++) assert.equal((await backup.createBackup({ ...ofB, compress: false, keepLast: 1 })).success, true);
  const all = async (): Promise<string[]> => (await backup.listBackups(ofA)).map((b) => b.timestamp);
  assert.ok((await all()).includes(ours.timestamp), 'keepLast of the other project removed it');
  await backup.createBackup({ ...ofB, compress: false, keepLast: null });
  assert.equal(await backup.cleanOldBackups(1, ofB), 1, 'of its own sets the other project keeps the newest only');
  const left = await all();
  assert.ok(left.includes(ours.timestamp), 'a clean-up of the other project removed it');
  assert.equal(left.length, 2);
  const refused = await b.json('delete', ours.timestamp, '--force', '--backup-dir', ofB.backupDir);
  assert.equal(refused.document.code, 'NEEDS_FORCE', JSON.stringify(refused.document));
  assert.equal(await backup.verifyBackup(ours.timestamp, ofA), true);
  withDatabase(a.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const restored = await backup.restoreBackup(ours.timestamp, ofA);
  assert.equal(restored.success, true, restored.error);
});

test('where projects share a backups folder, the sets of one do not count as those of the other', async (t) => {
  const { a, b, ofA, ofB } = sharing(t);
  const theirs = await backup.createBackup({ ...ofB, compress: false });
  const bare = await backup.checkHealth(ofA);
  assert.deepEqual(bare.findings.map((f) => f.code), ['NO_VERIFIED_BACKUP'], 'the other project made it healthy');
  assert.deepEqual([bare.backups, bare.databases[0]!.newestBackup ?? null], [0, null]);
  const ours = await backup.createBackup({ ...ofA, compress: false });
  assert.deepEqual(ours.warnings, [], 'compared with the other project');
  await backup.createBackup({ ...ofB, compress: false });
  const healthy = await backup.checkHealth(ofA);
  assert.deepEqual([healthy.findings, healthy.backups, healthy.databases[0]!.newestBackup], [[], 1, ours.timestamp]);
  assert.equal((await backup.checkHealth(ofB)).backups, 2);

  const before = contents(a.at('agentdb.db'));
  const refused = await codeOf(backup.restoreBackup(theirs.timestamp, ofA));
  assert.equal(refused.code, 'NEEDS_FORCE', refused.message);
  assert.ok(refused.message.includes(b.root), refused.message);
  assert.equal(contents(a.at('agentdb.db')), before);
  assert.equal((await backup.restoreBackup(theirs.timestamp, { ...ofA, force: true })).success, true);
  assert.equal(contents(a.at('agentdb.db')), contents(b.at('agentdb.db')));
});

test('a project that was moved keeps its backups in a folder outside it', async (t) => {
  const { a, ofA } = sharing(t);
  const made = await backup.createBackup({ ...ofA, compress: false });
  const moved = projectAt(path.join(tempFolder(t), 'moved'));
  fs.renameSync(a.root, moved.root);
  const options = { ...ofA, root: moved.root };
  const health = await backup.checkHealth(options);
  assert.deepEqual([health.findings, health.databases[0]!.newestBackup], [[], made.timestamp]);
  withDatabase(moved.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const restored = await backup.restoreBackup(made.timestamp, options);
  assert.equal(restored.success, true, restored.error);
});

test('a record says whose set it is only where the backups folder lies outside the project', async (t) => {
  const { a, ofA } = sharing(t);
  fs.symlinkSync(ofA.backupDir, a.at('link'));
  for (const [backupDir, says] of [[undefined, undefined], ['kept', undefined], [ofA.backupDir, a.root], [path.relative(a.root, ofA.backupDir), a.root], ['link', a.root]] as const) {
    const made = await backup.createBackup({ root: a.root, backupDir, compress: false });
    assert.equal(readMetadata(path.resolve(a.root, backupDir ?? a.backups), made.timestamp).project, says && fs.realpathSync(says), backupDir);
  }
});
