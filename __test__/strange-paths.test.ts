// Paths with everything in them that a shell, a URI or a glob would take for something else.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertRestored, contents, copyOf, exec, hasTool, makeDatabase, project, sets, withDatabase } from './helpers/project';

const odd = ['with space', `it's "quoted"`, 'a#b', 'a?b', 'a%20b', 'a%00b', '日本 ünï', 'e\u0301', '[x]{y}*', '$(touch pwned)', '`x`;&|<>', '-rf', '~', 'file:x?mode=memory', 'a:b=c,d', '!history', 'x'.repeat(150)];

for (const name of odd) {
  test(`a project folder and a database named ${JSON.stringify(name)}`, async (t) => {
    const p = project(t, name);
    const sources = [`.agentic-qe/${name}.db`, `${name}.x.db`];
    for (const s of sources) makeDatabase(p.at(s), { rows: 30, journal: s.startsWith('.') ? 'wal' : 'delete' });
    const then = sources.map((s) => contents(p.at(s)));
    const made = await backup.createBackup({ root: p.root });
    assert.equal(made.success, true, made.error);
    assert.deepEqual(made.databases.map((d) => d.source).sort(), [...sources].sort());
    assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
    withDatabase(p.at(sources[0]!), (db) => db.exec('DELETE FROM episodes'));
    fs.rmSync(p.at(sources[1]!));
    const compared = await backup.compareBackup(made.timestamp, { root: p.root });
    assert.deepEqual(Object.fromEntries(compared.databases.map((d) => [d.source, d.difference])), { [sources[0]!]: 'different', [sources[1]!]: 'missing-here' });
    const r = await backup.restoreBackup(made.timestamp, { root: p.root });
    assert.equal(r.success, true, r.error);
    assert.deepEqual(sources.map((s) => contents(p.at(s))), then);
    for (const s of sources) assertRestored(p.at(s), copyOf(p.backups, made.timestamp, s));
    assert.deepEqual(fs.readdirSync(p.root).filter((n) => !n.includes('.x.db') && n !== '.agentic-qe'), [], 'something else came to be in the root');
    if (await hasTool('sha256sum')) {
      const run = await exec('sh', ['-c', 'sha256sum --strict -c -- *.sha256'], { cwd: p.backups });
      assert.equal(run.status, 0, run.stdout + run.stderr);
    }
  });
}

test('the archive of such names unpacks with tar, and stands in for them', async (t) => {
  const p = project(t, 'a b');
  const names = odd.map((n) => `${n}.db`);
  for (const name of names) makeDatabase(p.at(name), { rows: 2 });
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  const before = sets(p.backups);
  for (const file of made.files) fs.rmSync(file);
  const run = await exec('tar', ['-xzf', made.archive!, '-C', p.backups]);
  assert.equal(run.status, 0, run.stderr);
  assert.deepEqual(sets(p.backups), before);
  for (const file of made.files) fs.rmSync(file);
  for (const name of names) fs.rmSync(p.at(name));
  const r = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(r.success, true, r.error);
  assert.deepEqual(fs.readdirSync(p.root).filter((n) => n !== '.agentic-qe').sort(), [...names].sort());
});

test('the command takes such a project by --root and by its current folder', async (t) => {
  const p = project(t, `it's a "b" #1?%20 日本`);
  makeDatabase(p.at('a b#?.db'), { rows: 4 });
  const made = await p.json('create', '--no-compress');
  assert.equal(made.status, 0, made.stderr);
  const elsewhere = project(t);
  const verified = await elsewhere.json('verify', made.document.timestamp as string, '--root', p.root);
  assert.deepEqual([verified.status, verified.document.ok], [0, true]);
  withDatabase(p.at('a b#?.db'), (db) => db.exec('DELETE FROM episodes'));
  const restored = await elsewhere.run('restore', made.document.timestamp as string, '--force', '--root', p.root);
  assert.equal(restored.status, 0, restored.stderr);
  assert.equal(withDatabase(p.at('a b#?.db'), (db) => db.prepare('SELECT count(*) FROM episodes').pluck().get()), 4);
});

test('a relative root, one with .. and one with a trailing slash are the same project', async (t) => {
  const p = project(t, 'inner');
  makeDatabase(p.at('agentdb.db'), { rows: 2 });
  const made = await backup.createBackup({ root: path.join(p.root, '..', 'inner') + path.sep, compress: false });
  assert.equal(made.success, true, made.error);
  const relative = path.relative(process.cwd(), p.root);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: relative }), true);
  const second = await backup.createBackup({ root: relative, compress: false });
  assert.ok(path.isAbsolute(second.files[0]!), second.files[0]);
  assert.equal(fs.realpathSync(path.dirname(second.files[0]!)), fs.realpathSync(p.backups));
});

test('a backups folder with such a name', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 2 });
  for (const name of odd) {
    const options = { root: p.root, backupDir: `b/${name}` };
    const made = await backup.createBackup(options);
    assert.equal(made.success, true, made.error);
    assert.equal(await backup.verifyBackup(made.timestamp, options), true, name);
    assert.equal((await backup.listBackups(options)).length, 1, name);
  }
  assert.deepEqual(fs.readdirSync(p.at('b')).sort(), [...odd].sort());
});

test('a database whose name leaves no room for that of its copy is named, with the way out, and the others can be backed up', async (t) => {
  const p = project(t);
  const long = `${'l'.repeat(230)}.db`;
  makeDatabase(p.at('agentdb.db'), { rows: 2 });
  makeDatabase(p.at(long), { rows: 2 });
  const made = await backup.createBackup({ root: p.root });
  assert.deepEqual([made.success, made.code], [false, 'IO_ERROR']);
  assert.ok(made.error!.includes(long) && made.error!.includes('--database'), made.error);
  assert.equal((await backup.createBackup({ root: p.root, databases: ['agentdb.db'] })).success, true);
});
