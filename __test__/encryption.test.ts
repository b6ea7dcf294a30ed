// An archive leaves and comes back: encrypted with gpg, unpacked with tar, checked with sha256sum. No tool of ours in between.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { contents, exec, hasTool, makeDatabase, project, readMetadata, tempFolder, tree, withDatabase, type Context, type Project } from './helpers/project';
import { withKey } from './helpers/gpg';

const sources = ['agentdb.db', '.agentic-qe/qe-learning.db'];

async function withArchive(t: Context): Promise<{ p: Project; timestamp: string; archive: string; then: string[] }> {
  const p = project(t, `it's "a" #1`);
  for (const source of sources) makeDatabase(p.at(source), { rows: 50 });
  const made = await backup.createBackup({ root: p.root });
  assert.ok(made.success && made.archive, made.error);
  return { p, timestamp: made.timestamp, archive: made.archive, then: state(p) };
}

const state = (p: Project): string[] => sources.map((source) => contents(p.at(source)));
function damage(p: Project): void {
  for (const source of sources) withDatabase(p.at(source), (db) => db.exec('DELETE FROM episodes'));
}

test('gpg --encrypt, everything else lost, gpg --decrypt, restore --archive: the data is back', { timeout: 600_000 }, async (t) => {
  if (!(await hasTool('gpg'))) return t.skip('no gpg here');
  const { p, archive, then } = await withArchive(t);
  const env = await withKey(t);
  const away = path.join(tempFolder(t, 'away'), path.basename(archive));
  fs.copyFileSync(archive, away);
  assert.equal((await exec('gpg', ['--encrypt', '--recipient', 'admin@example.com', away], { env })).status, 0);
  const secret = fs.readFileSync(`${away}.gpg`);
  assert.ok(!secret.includes('SQLite format 3') && !secret.subarray(0, 2).equals(Buffer.from([0x1f, 0x8b])), 'that is not encrypted');
  fs.rmSync(away);
  fs.rmSync(p.backups, { recursive: true });
  damage(p);

  const encrypted = await p.json('restore', '--archive', `${away}.gpg`, '--force');
  assert.equal(encrypted.document.ok, false, 'restored from what it can’t read');

  assert.equal((await exec('gpg', ['--output', away, '--decrypt', `${away}.gpg`], { env })).status, 0);
  const restored = await p.json('restore', '--archive', away, '--force');
  assert.deepEqual([restored.status, restored.document.ok], [0, true], JSON.stringify(restored.document));
  assert.deepEqual(state(p), then);
});

test('decrypting into the backups folder makes the set listed and restorable again', { timeout: 600_000 }, async (t) => {
  if (!(await hasTool('gpg'))) return t.skip('no gpg here');
  const { p, timestamp, archive, then } = await withArchive(t);
  const env = await withKey(t);
  assert.equal((await exec('gpg', ['--encrypt', '--recipient', 'admin@example.com', archive], { env })).status, 0);
  const kept = path.join(tempFolder(t), 'kept.gpg');
  fs.renameSync(`${archive}.gpg`, kept);
  for (const name of fs.readdirSync(p.backups)) if (name.includes(timestamp)) fs.rmSync(path.join(p.backups, name));
  damage(p);
  // The shell's redirection, as in the strategy: the file gets the shell's mode, and no checksum file.
  const decrypted = await exec('sh', ['-c', 'umask 022 && gpg --decrypt "$1" > "$2"', 'sh', kept, archive], { env });
  assert.equal(decrypted.status, 0, decrypted.stderr);
  assert.deepEqual((await backup.listBackups({ root: p.root, archives: true })).map((b) => [b.timestamp, b.archiveOnly]), [[timestamp, true]]);
  const restored = await p.json('restore', timestamp, '--force');
  assert.deepEqual([restored.status, restored.document.ok], [0, true], JSON.stringify(restored.document));
  assert.deepEqual(state(p), then);
});

test('an encrypted archive beside a set takes nothing from it: it verifies, and is cleaned up by the rules for sets only', { timeout: 600_000 }, async (t) => {
  if (!(await hasTool('gpg'))) return t.skip('no gpg here');
  const { p, timestamp, archive } = await withArchive(t);
  const env = await withKey(t);
  assert.equal((await exec('gpg', ['--encrypt', '--recipient', 'admin@example.com', archive], { env })).status, 0);
  assert.equal(await backup.verifyBackup(timestamp, { root: p.root }), true);
  for (let i = 0; i < 2; i++) assert.ok((await backup.createBackup({ root: p.root, keepLast: 1 })).success);
  assert.ok(fs.existsSync(`${archive}.gpg`), 'what somebody encrypted was removed');
  assert.deepEqual((await backup.listBackups({ root: p.root, archives: true })).filter((b) => b.timestamp === timestamp).map((b) => b.archiveOnly), [true]);
});

test('sha256sum -c *.sha256 passes in the backups folder, and fails when a byte has changed', async (t) => {
  const { p, timestamp } = await withArchive(t);
  const check = () => exec('sh', ['-c', 'sha256sum -c *.sha256'], { cwd: p.backups });
  const sound = await check();
  assert.equal(sound.status, 0, sound.stderr);
  assert.deepEqual(sound.stdout.trim().split('\n').sort(), [`agentdb.db.backup.${timestamp}: OK`, `backup-metadata.${timestamp}.json: OK`, `databases-backup-${timestamp}.tar.gz: OK`, `qe-learning.db.backup.${timestamp}: OK`]);
  fs.appendFileSync(path.join(p.backups, `agentdb.db.backup.${timestamp}`), 'x');
  assert.notEqual((await check()).status, 0);
});

test('tar -tzf lists the set, flat; tar -xzf gives it back byte for byte, and it opens with any SQLite', async (t) => {
  const { p, timestamp, archive, then } = await withArchive(t);
  const members = ['agentdb.db', 'qe-learning.db'].flatMap((n) => [`${n}.backup.${timestamp}`, `${n}.backup.${timestamp}.sha256`]).concat(`backup-metadata.${timestamp}.json`, `backup-metadata.${timestamp}.json.sha256`);
  const listed = await exec('tar', ['-tzf', archive]);
  assert.equal(listed.status, 0, listed.stderr);
  assert.deepEqual(listed.stdout.trim().split('\n').sort(), [...members].sort());

  const elsewhere = tempFolder(t, 'unpacked');
  assert.equal((await exec('tar', ['-xzf', archive, '-C', elsewhere])).status, 0);
  const bytes = (folder: string) => Object.fromEntries(Object.entries(tree(folder)).filter(([name]) => members.includes(name)));
  assert.deepEqual(bytes(elsewhere), bytes(p.backups));
  const checked = await exec('sh', ['-c', 'sha256sum -c *.sha256'], { cwd: elsewhere });
  assert.equal(checked.status, 0, checked.stderr);
  for (const [i, name] of ['agentdb.db', 'qe-learning.db'].entries()) assert.equal(contents(path.join(elsewhere, `${name}.backup.${timestamp}`)), then[i]);
});

test('tar -xzf … -C .agentic-qe/backups makes a lost set a set again', async (t) => {
  const { p, timestamp, archive, then } = await withArchive(t);
  const record = readMetadata(p.backups, timestamp);
  const kept = path.join(tempFolder(t), 'kept.tar.gz');
  fs.copyFileSync(archive, kept);
  for (const name of fs.readdirSync(p.backups)) if (name.includes(timestamp)) fs.rmSync(path.join(p.backups, name));
  assert.deepEqual(await backup.listBackups({ root: p.root }), []);
  const unpacked = await exec('sh', ['-c', 'tar -xzf "$1" -C .agentic-qe/backups', 'sh', kept], { cwd: p.root });
  assert.equal(unpacked.status, 0, unpacked.stderr);
  assert.deepEqual(readMetadata(p.backups, timestamp), record);
  damage(p);
  const restored = await p.json('restore', timestamp, '--force');
  assert.deepEqual([restored.status, restored.document.ok], [0, true], JSON.stringify(restored.document));
  assert.deepEqual(state(p), then);
});

test('an archive that tar and gzip made of the same files restores like ours', async (t) => {
  const { p, timestamp, archive, then } = await withArchive(t);
  const own = path.join(tempFolder(t), 'own.tar.gz');
  const packed = await exec('sh', ['-c', 'cd "$1" && tar -czf "$2" -- *.backup.* backup-metadata.*', 'sh', p.backups, own]);
  assert.equal(packed.status, 0, packed.stderr);
  fs.rmSync(archive);
  for (const name of fs.readdirSync(p.backups)) if (name.includes(timestamp)) fs.rmSync(path.join(p.backups, name));
  damage(p);
  const restored = await p.json('restore', '--archive', own, '--force');
  assert.deepEqual([restored.status, restored.document.ok], [0, true], JSON.stringify(restored.document));
  assert.deepEqual(state(p), then);
});
