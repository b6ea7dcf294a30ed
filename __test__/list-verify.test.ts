// Listing, verifying and inspecting sets, with the tools that everybody has beside it.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { contents, copyOf, craftSet, daysAgo, editMetadata, exec, flip, hasTool, holder, makeDatabase, metadataPath, momentOf, project, sha256, tempFolder, tree, type Context, type Project } from './helpers/project';

async function oneSet(t: Context, options: backup.CreateBackupOptions = {}): Promise<{ p: Project; ts: string; file: string }> {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 200, journal: 'wal' });
  makeDatabase(p.at('.agentic-qe/memory.db'));
  const made = await backup.createBackup({ root: p.root, ...options });
  assert.equal(made.success, true, made.error);
  return { p, ts: made.timestamp, file: copyOf(p.backups, made.timestamp, 'agentdb.db') };
}

test('a folder that is not there is an empty list', async (t) => {
  const p = project(t);
  assert.deepEqual(await backup.listBackups({ root: p.root }), []);
  assert.deepEqual(fs.readdirSync(p.root), [], 'listing made something');
});

test('sets are listed newest first, with what a caller wants to know of each', async (t) => {
  const { p, ts } = await oneSet(t);
  const safety = await backup.createSafetyBackup('x', { root: p.root });
  const manual = await backup.createBackup({ root: p.root, kind: 'manual', compress: false });
  const list = await backup.listBackups({ root: p.root });
  assert.deepEqual(list.map((b) => [b.timestamp, b.kind, b.compressed, b.archiveOnly, b.complete]), [
    [manual.timestamp, 'manual', false, false, true],
    [safety.timestamp, 'safety', true, false, true],
    [ts, 'automated', true, false, true],
  ]);
  for (const b of list) {
    assert.equal(new Date(b.date).getTime(), momentOf(b.timestamp).getTime());
    assert.equal(b.files, 2);
    assert.deepEqual([...b.paths].sort(), [path.join(p.backups, `agentdb.db.backup.${b.timestamp}`), path.join(p.backups, `memory.db.backup.${b.timestamp}`)]);
    assert.equal(b.size, b.paths.reduce((sum, f) => sum + fs.statSync(f).size, 0));
    assert.equal(b.metadata?.timestamp, b.timestamp);
    assert.equal(b.metadata?.databases?.length, 2);
  }
});

test('order is by timestamp, not by the time of the files', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const stamps = [];
  for (const days of [5, 40, 2, 300]) stamps.push(await craftSet(p, daysAgo(days)));
  assert.deepEqual((await backup.listBackups({ root: p.root })).map((b) => b.timestamp), [...stamps].sort().reverse());
});

test('a set of which only the archive is left is listed on demand, and only then', async (t) => {
  const { p, ts } = await oneSet(t);
  const archive = path.join(p.backups, `databases-backup-${ts}.tar.gz`);
  for (const name of fs.readdirSync(p.backups)) if (name.includes(ts) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(p.backups, name));
  assert.deepEqual(await backup.listBackups({ root: p.root }), []);
  const list = await backup.listBackups({ root: p.root, archives: true });
  assert.deepEqual(list.map((b) => [b.timestamp, b.archiveOnly, b.compressed, b.files, b.paths, b.size]), [[ts, true, true, 1, [archive], fs.statSync(archive).size]]);
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
});

test('listing needs no database: it works while they are locked, and when they are gone', async (t) => {
  const { p, ts } = await oneSet(t);
  await holder(t, p.at('.agentic-qe/memory.db'), 'BEGIN EXCLUSIVE');
  fs.rmSync(p.at('agentdb.db'));
  assert.deepEqual((await backup.listBackups({ root: p.root, busyTimeoutMs: 0 })).map((b) => b.timestamp), [ts]);
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
  assert.equal((await backup.storageUsage({ root: p.root })).backups, 1);
});

test('what is no set is not listed', async (t) => {
  const { p, ts } = await oneSet(t, { compress: false });
  for (const name of ['agentdb.db.backup.20259999-000000', 'agentdb.db.backup.latest', 'backup-metadata.x.json', 'agentdb.db', '.staging-20250101-000000', 'agentdb.db.backup.20250116-120000.sha256', 'databases-backup-20250116.tar.gz']) fs.writeFileSync(path.join(p.backups, name), 'x');
  assert.deepEqual((await backup.listBackups({ root: p.root, archives: true })).map((b) => b.timestamp), [ts]);
});

test('metadata of a higher format, or none that can be read, does not hide a set', async (t) => {
  const { p, ts } = await oneSet(t);
  const second = await backup.createBackup({ root: p.root });
  editMetadata(p.backups, ts, (m) => void (m.format = 99));
  fs.writeFileSync(metadataPath(p.backups, second.timestamp), 'no JSON');
  assert.deepEqual((await backup.listBackups({ root: p.root })).map((b) => b.timestamp), [second.timestamp, ts]);
  assert.equal(await backup.verifyBackup(second.timestamp, { root: p.root }), false);
});

test('verify is true for a good set, with and without archive, and leaves nothing beside it', async (t) => {
  for (const compress of [true, false]) {
    const { p, ts } = await oneSet(t, { compress });
    const before = tree(p.backups);
    assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
    const inspection = await backup.inspectBackup(ts, { root: p.root });
    assert.equal(inspection.ok, true);
    assert.equal(inspection.timestamp, ts);
    assert.ok(inspection.files.length >= 3);
    for (const f of inspection.files) assert.deepEqual([f.ok, f.problems], [true, []], f.file);
    assert.deepEqual(tree(p.backups), before);
  }
});

test('verify of a set that is not there is false, and inspect says BACKUP_NOT_FOUND', async (t) => {
  const { p } = await oneSet(t);
  assert.equal(await backup.verifyBackup('20010101-000000', { root: p.root }), false);
  await assert.rejects(backup.inspectBackup('20010101-000000', { root: p.root }), (e: { code: string; message: string }) => e.code === 'BACKUP_NOT_FOUND' && e.message.includes('20010101-000000'));
  const empty = project(t);
  assert.equal(await backup.verifyBackup('20010101-000000', { root: empty.root }), false);
});

const spoilings: [string, (p: Project, ts: string, file: string) => void, RegExp][] = [
  ['one flipped byte in a copy', (_p, _ts, file) => flip(file, 5000), /agentdb\.db\.backup/],
  ['a flipped byte in free space of a page', (_p, _ts, file) => flip(file, fs.statSync(file).size - 4096 + 60), /agentdb\.db\.backup/],
  ['a truncated copy', (_p, _ts, file) => fs.truncateSync(file, 4096), /agentdb\.db\.backup/],
  ['a copy that grew', (_p, _ts, file) => fs.appendFileSync(file, 'x'), /agentdb\.db\.backup/],
  ['a missing copy', (_p, _ts, file) => fs.rmSync(file), /agentdb\.db\.backup/],
  ['a missing sidecar', (_p, _ts, file) => fs.rmSync(`${file}.sha256`), /agentdb\.db\.backup/],
  ['an empty sidecar', (_p, _ts, file) => fs.writeFileSync(`${file}.sha256`, ''), /agentdb\.db\.backup/],
  ['a sidecar with another hash', (_p, _ts, file) => fs.writeFileSync(`${file}.sha256`, `${'0'.repeat(64)}  ${path.basename(file)}\n`), /agentdb\.db\.backup/],
  ['a changed copy whose sidecar was changed with it', (_p, _ts, file) => (flip(file, 5000), fs.writeFileSync(`${file}.sha256`, `${sha256(file)}  ${path.basename(file)}\n`)), /agentdb\.db\.backup/],
  ['metadata that is not JSON', (p, ts) => fs.writeFileSync(metadataPath(p.backups, ts), '[oops'), /backup-metadata/],
  ['a flipped byte in the archive', (p, ts) => flip(path.join(p.backups, `databases-backup-${ts}.tar.gz`), 2000), /databases-backup/],
  ['an archive cut short', (p, ts) => fs.truncateSync(path.join(p.backups, `databases-backup-${ts}.tar.gz`), 2000), /databases-backup/],
];
for (const [what, spoil, names] of spoilings) {
  test(`verify finds ${what}, and inspect names the file with a code and a reason`, async (t) => {
    const { p, ts, file } = await oneSet(t);
    spoil(p, ts, file);
    assert.equal(await backup.verifyBackup(ts, { root: p.root }), false);
    const inspection = await backup.inspectBackup(ts, { root: p.root });
    assert.equal(inspection.ok, false);
    const bad = inspection.files.filter((f) => !f.ok);
    assert.ok(bad.length >= 1);
    assert.ok(bad.some((f) => names.test(f.file)), `${names} is not among ${bad.map((f) => f.file).join(', ')}`);
    for (const f of bad) {
      assert.ok(f.problems.length > 0, f.file);
      for (const problem of f.problems) assert.ok(['CHECKSUM_MISMATCH', 'BACKUP_DAMAGED', 'BACKUP_NOT_FOUND', 'NEEDS_FORCE', 'IO_ERROR'].includes(problem.code) && problem.message.length > 10, JSON.stringify(problem));
    }
  });
}

test('an archive whose members are not the files beside it is found out, though its own checksum is right', async (t) => {
  const { p, ts } = await oneSet(t);
  const work = tempFolder(t);
  const archive = path.join(p.backups, `databases-backup-${ts}.tar.gz`);
  assert.equal((await exec('tar', ['-xzf', archive, '-C', work])).status, 0);
  flip(path.join(work, `agentdb.db.backup.${ts}`), 5000);
  assert.equal((await exec('tar', ['-czf', archive, '--', ...fs.readdirSync(work)], { cwd: work })).status, 0);
  fs.writeFileSync(`${archive}.sha256`, `${sha256(archive)}  ${path.basename(archive)}\n`);
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), false);
});

test('a set of a damaged database does not verify, though every hash is right', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 500 });
  const fd = fs.openSync(p.at('agentdb.db'), 'r+');
  fs.writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 8192);
  fs.closeSync(fd);
  const r = await backup.createBackup({ root: p.root });
  assert.equal(r.code, 'SOURCE_DAMAGED');
  assert.equal(await backup.verifyBackup(r.timestamp, { root: p.root }), false);
});

test('an incomplete set is listed as such', async (t) => {
  const { p, ts, file } = await oneSet(t, { compress: false });
  fs.rmSync(file);
  assert.deepEqual((await backup.listBackups({ root: p.root })).map((b) => [b.timestamp, b.complete]), [[ts, false]]);
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), false);
});

test('`sha256sum -c *.sha256` passes in the backups folder', async (t) => {
  if (!(await hasTool('sha256sum'))) return t.skip('no sha256sum here');
  const { p } = await oneSet(t);
  await backup.createBackup({ root: p.root });
  const run = await exec('sh', ['-c', 'sha256sum --strict -c *.sha256'], { cwd: p.backups });
  assert.equal(run.status, 0, run.stdout + run.stderr);
  assert.equal(run.stdout.trim().split('\n').length, 8);
});

test('`tar -xzf … -C .agentic-qe/backups` gives a set back that was deleted', async (t) => {
  const { p, ts } = await oneSet(t);
  const before = tree(p.backups);
  for (const name of fs.readdirSync(p.backups)) if (name.includes(ts) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(p.backups, name));
  const run = await exec('tar', ['-xzf', `.agentic-qe/backups/databases-backup-${ts}.tar.gz`, '-C', '.agentic-qe/backups'], { cwd: p.root });
  assert.equal(run.status, 0, run.stderr);
  assert.deepEqual(tree(p.backups), before);
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), true);
  assert.equal((await backup.restoreBackup(ts, { root: p.root })).success, true);
});

test('each copy opens as a database of its own', async (t) => {
  const { p, ts } = await oneSet(t);
  const apart = tempFolder(t);
  for (const source of ['agentdb.db', '.agentic-qe/memory.db']) {
    const copy = path.join(apart, 'copy.db');
    fs.copyFileSync(copyOf(p.backups, ts, source), copy);
    assert.equal(contents(copy), contents(p.at(source)));
    fs.rmSync(copy);
  }
});

test('legacy sets, with the seven keys of metadata or none, are listed and verified', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  makeDatabase(p.at('.agentic-qe/memory.db'));
  const bare = await craftSet(p, daysAgo(9), { legacy: true, sources: ['agentdb.db', '.agentic-qe/memory.db'] });
  const seven = await craftSet(p, daysAgo(8), { legacy: true });
  fs.writeFileSync(metadataPath(p.backups, seven), JSON.stringify({ timestamp: seven, date: '2025-01-16T12:00:00Z', hostname: 'dev-machine', user: 'developer', git_commit: '4a58796', git_branch: 'main', compressed: false }));
  const list = await backup.listBackups({ root: p.root });
  assert.deepEqual(list.map((b) => [b.timestamp, b.kind, b.files, b.archiveOnly]), [[seven, 'automated', 1, false], [bare, 'automated', 2, false]]);
  assert.equal(list[0]?.metadata?.git_commit, '4a58796');
  assert.equal(await backup.verifyBackup(bare, { root: p.root }), true);
  assert.equal(await backup.verifyBackup(seven, { root: p.root }), true);
  flip(path.join(p.backups, `agentdb.db.backup.${bare}`), 5000);
  assert.equal(await backup.verifyBackup(bare, { root: p.root }), false);
  fs.rmSync(path.join(p.backups, `agentdb.db.backup.${seven}.sha256`));
  assert.equal(await backup.verifyBackup(seven, { root: p.root }), false, 'a copy without any checksum verified');
});

test('storageUsage adds up the folder', async (t) => {
  const { p, ts } = await oneSet(t);
  const second = await backup.createBackup({ root: p.root });
  for (const name of fs.readdirSync(p.backups)) if (name.includes(ts) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(p.backups, name));
  fs.writeFileSync(path.join(p.backups, 'stray'), 'x'.repeat(1000));
  const u = await backup.storageUsage({ root: p.root });
  const files = fs.readdirSync(p.backups).map((n) => [n, fs.statSync(path.join(p.backups, n)).size] as const);
  const sum = (of: (name: string) => boolean): number => files.filter(([n]) => of(n)).reduce((s, [, size]) => s + size, 0);
  assert.deepEqual([u.backupDir, u.backups, u.archivesOnly], [p.backups, 1, 1]);
  assert.equal(u.databasesSize, second.totalSize);
  assert.equal(u.archivesSize, sum((n) => n.endsWith('.tar.gz')));
  assert.equal(u.totalSize, sum(() => true));
  assert.equal(u.databasesSize + u.archivesSize + u.otherSize, u.totalSize);
  assert.ok(u.free > 0);
});

test('storageUsage of a folder that is not there is all zero', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'));
  const u = await backup.storageUsage({ root: p.root });
  assert.deepEqual([u.backupDir, u.totalSize, u.backups, u.archivesOnly], [p.backups, 0, 0, 0]);
  assert.deepEqual(fs.readdirSync(p.root), ['agentdb.db']);
});
