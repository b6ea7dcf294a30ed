// What lies in a project's place and is not what it seems: links, fifos, folders, and notes of a restore that never was.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../../index.js';
import { assertNoLeftovers, codeOf, contents, count, editMetadata, exec, makeDatabase, project, readMetadata, sha256, surroundings, withDatabase, type Context, type Project } from '../helpers/project';
import { report } from '../helpers/proof';

const operations: Record<string, (p: Project) => Promise<unknown>> = {
  create: (p) => backup.createBackup({ root: p.root }),
  list: (p) => backup.listBackups({ root: p.root }),
  verify: (p) => backup.verifyBackup('20250116-120000', { root: p.root }),
  restore: (p) => backup.restoreBackup('20250116-120000', { root: p.root, force: true }),
  clean: (p) => backup.cleanOldBackups(1, { root: p.root }),
  recover: (p) => backup.recover({ root: p.root }),
};

/** Ways in which the usual backups folder can lead out of the project. */
const detours: [what: string, lead: (p: Project, outside: string) => void][] = [
  ['is a link', (p, outside) => (fs.mkdirSync(p.at('.agentic-qe')), fs.symlinkSync(outside, p.backups))],
  ['is a link to nothing yet', (p, outside) => (fs.mkdirSync(p.at('.agentic-qe')), fs.symlinkSync(path.join(outside, 'not-yet'), p.backups))],
  ['is behind a link', (p, outside) => fs.symlinkSync(outside, p.at('.agentic-qe'))],
  ['is a link that climbs', (p, outside) => (fs.mkdirSync(p.at('.agentic-qe')), fs.symlinkSync(path.relative(p.at('.agentic-qe'), outside), p.backups))],
];
for (const [what, lead] of detours) {
  test(`a usual backups folder that ${what}, out of the project, is used by nothing, and the way out is named`, { timeout: 600_000 }, async (t) => {
    const p = project(t, 'inner');
    makeDatabase(p.at('agentdb.db'), { rows: 3 });
    const outside = path.join(path.dirname(p.root), 'outside');
    fs.mkdirSync(outside);
    lead(p, outside);
    const before = surroundings(p);
    for (const [name, operation] of Object.entries(operations)) {
      const r = await codeOf(operation(p));
      assert.equal(r.code, 'ERR_INVALID_ARG_VALUE', `${name}: ${r.message}`);
      assert.match(r.message, /backupDir/);
      assert.deepEqual(surroundings(p), before, name);
    }
    const asked = await backup.createBackup({ root: p.root, backupDir: outside });
    assert.equal(asked.success, true, asked.error);
  });
}

test('a folder that is to hold the backups and is a link within the project is used from the first backup on', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 3 });
  fs.mkdirSync(p.at('kept'));
  fs.symlinkSync('kept', p.at('.agentic-qe'));
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
});

test('a backups folder that is a link within the project is used', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 3 });
  fs.mkdirSync(p.at('kept'));
  fs.mkdirSync(p.at('.agentic-qe'));
  fs.symlinkSync('../kept', p.backups);
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
  // By its other name neither is it a place for databases.
  editMetadata(p.backups, made.timestamp, (m) => void (m.databases[0]!.source = 'kept/agentdb.db'));
  fs.rmSync(path.join(p.backups, `databases-backup-${made.timestamp}.tar.gz`));
  const r = await codeOf(backup.restoreBackup(made.timestamp, { root: p.root, force: true }));
  assert.equal(r.code, 'BACKUP_DAMAGED', r.message);
  assert.equal(fs.existsSync(p.at('kept/agentdb.db')), false);
});

/** A project whose database lies elsewhere, behind a link to it or to its folder. */
async function linked(t: Context, by: 'file' | 'folder'): Promise<{ p: Project; ts: string; source: string; real: string; lead: (to: string) => void }> {
  const p = project(t, 'inner');
  const elsewhere = path.join(path.dirname(p.root), 'elsewhere');
  const real = path.join(elsewhere, 'real.db');
  makeDatabase(real, { rows: 20 });
  const [link, source, target] = by === 'file' ? ['agentdb.db', 'agentdb.db', real] : ['data', 'data/real.db', elsewhere];
  const lead = (to: string): void => (fs.rmSync(p.at(link), { force: true }), fs.symlinkSync(to, p.at(link)));
  lead(target);
  const made = await backup.createBackup({ root: p.root, databases: [source] });
  assert.equal(made.success, true, made.error);
  assert.equal((readMetadata(p.backups, made.timestamp).databases[0] as Record<string, unknown>)['linked_to'], real);
  return { p, ts: made.timestamp, source, real, lead };
}

for (const by of ['file', 'folder'] as const) {
  test(`a database behind a link to its ${by} goes back through it, and to no other place unless forced`, { timeout: 600_000 }, async (t) => {
    const { p, ts, source, real, lead } = await linked(t, by);
    const then = contents(real);
    withDatabase(real, (db) => db.exec('DELETE FROM episodes'));
    assert.equal((await backup.restoreBackup(ts, { root: p.root })).success, true);
    assert.equal(contents(real), then);
    assert.ok(fs.lstatSync(p.at(source.split('/')[0]!)).isSymbolicLink());

    const victim = path.join(path.dirname(p.root), 'victim', 'real.db');
    makeDatabase(victim, { rows: 3 });
    lead(by === 'file' ? victim : path.dirname(victim));
    const before = surroundings(p);
    const r = await codeOf(backup.restoreBackup(ts, { root: p.root }));
    assert.equal(r.code, 'NEEDS_FORCE', r.message);
    assert.ok(r.message.includes(real) && r.message.includes('victim'), r.message);
    assert.deepEqual(surroundings(p), before);
    // A new file is made there no more than an old one is changed.
    fs.rmSync(victim);
    const gone = surroundings(p);
    const dangling = await codeOf(backup.restoreBackup(ts, { root: p.root }));
    assert.ok(['NEEDS_FORCE', 'IO_ERROR'].includes(dangling.code ?? ''), dangling.message);
    assert.deepEqual(surroundings(p), gone);
  });
}

test('no file is made through a link that leads nowhere, forced or not, and the way out is named', { timeout: 600_000 }, async (t) => {
  const { p, ts, real } = await linked(t, 'file');
  fs.rmSync(real);
  for (const options of [{}, { force: true }, { force: true, verify: false }]) {
    const r = await codeOf(backup.restoreBackup(ts, { root: p.root, ...options }));
    assert.equal(r.code, 'IO_ERROR', r.message);
    assert.match(r.message, /leads nowhere; remove it/);
    assert.equal(fs.existsSync(real), false);
  }
  fs.rmSync(p.at('agentdb.db'));
  assert.equal((await backup.restoreBackup(ts, { root: p.root })).success, true);
  assert.equal(count(p.at('agentdb.db')), 20);
});

test('a record that leads through a link out of the project, which it does not know of, needs force', { timeout: 600_000 }, async (t) => {
  const p = project(t, 'inner');
  makeDatabase(p.at('agentdb.db'), { rows: 3 });
  const ts = (await backup.createBackup({ root: p.root, compress: false })).timestamp;
  const outside = path.join(path.dirname(p.root), 'outside');
  fs.mkdirSync(outside);
  fs.symlinkSync(outside, p.at('out'));
  editMetadata(p.backups, ts, (m) => void (m.databases[0]!.source = 'out/agentdb.db'));
  const before = surroundings(p);
  const r = await codeOf(backup.restoreBackup(ts, { root: p.root }));
  assert.equal(r.code, 'NEEDS_FORCE', r.message);
  assert.deepEqual(surroundings(p), before);
});

const strange: [what: string, make: (p: Project) => Promise<void> | void][] = [
  ['a fifo', async (p) => assert.equal((await exec('mkfifo', [p.at('x.db')])).status, 0)],
  ['a folder', (p) => fs.mkdirSync(p.at('x.db'))],
  ['a link that leads nowhere', (p) => fs.symlinkSync('nowhere', p.at('x.db'))],
  ['a link to itself', (p) => fs.symlinkSync('x.db', p.at('x.db'))],
  ['a link to a device', (p) => fs.symlinkSync('/dev/zero', p.at('x.db'))],
];
for (const [what, make] of strange) {
  test(`${what} called x.db is an error that names it, and everything else goes on when it is left out`, { timeout: 600_000 }, async (t) => {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { rows: 20 });
    await make(p);
    const r = await codeOf(backup.createBackup({ root: p.root }));
    assert.equal(r.code, 'IO_ERROR', r.message);
    assert.match(r.message, /x\.db/);
    const made = await backup.createBackup({ root: p.root, databases: ['agentdb.db'] });
    assert.equal(made.success, true, made.error);
    assert.equal(await backup.verifyBackup(made.timestamp, { root: p.root }), true);
    withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
    assert.equal((await backup.restoreBackup(made.timestamp, { root: p.root })).success, true);
    assert.equal(count(p.at('agentdb.db')), 20);
  });
}

interface Note {
  version: number;
  timestamp: string;
  safety: string | null;
  project: string | null;
  targets: { job: Record<string, unknown>; method: Record<string, unknown> }[];
}

test('a note of a restore that never was is refused by whatever takes the lock, and nothing is written', { timeout: 600_000 }, async (t) => {
  const p = project(t, 'inner');
  makeDatabase(p.at('agentdb.db'), { rows: 20 });
  fs.writeFileSync(p.at('notes.db'), 'notes, then');
  const ts = (await backup.createBackup({ root: p.root })).timestamp;
  const [file, plain] = [`agentdb.db.backup.${ts}`, `notes.db.backup.${ts}`];
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  fs.writeFileSync(p.at('notes.db'), 'notes, now');
  const outside = path.join(path.dirname(p.root), 'outside');
  fs.mkdirSync(outside);
  fs.writeFileSync(path.join(outside, 'secret'), 'secret');
  fs.symlinkSync(outside, p.at('out'));
  fs.copyFileSync(path.join(p.backups, plain), path.join(p.backups, `evil.db.backup.${ts}`));
  const note = path.join(p.backups, '.restore-intent.json');
  const work = path.join(p.backups, '.restore');
  const hash = sha256(path.join(p.backups, file));
  const job = (more: Record<string, unknown> = {}): Record<string, unknown> => ({ source: 'agentdb.db', file, sha256: hash, sqlite: true, mode: null, linked_to: null, ...more });
  const notes = (more: Record<string, unknown> = {}): Record<string, unknown> => job({ source: 'notes.db', file: plain, sqlite: false, sha256: sha256(path.join(p.backups, plain)), ...more });
  const put = (staged: string): Record<string, unknown> => ({ kind: 'put', staged, replaces: false });
  const base = (targets: Note['targets'], more: Partial<Note> = {}): Note => ({ version: 2, timestamp: ts, safety: null, project: null, targets, ...more });
  const one = (j: Record<string, unknown>, method: Record<string, unknown> = { kind: 'delta', cookie: 99999 }): Note => base([{ job: j, method }]);
  const cases: [what: string, text: unknown, before?: () => void][] = [
    ['of the version before, with absolute paths', { ...one(job({ target: path.join(outside, 'x.db') })), version: 1 }],
    ...['../x.db', path.join(outside, 'x.db'), '', 'agentdb.db-wal', '.agentic-qe/backups/x.db', 'out/x.db', 'other.db'].map((source): [string, unknown] => [`to ${JSON.stringify(path.basename(source) === source ? source : source.replace(outside, '/…'))}`, one(job({ source }))]),
    ['to a hidden place', one(notes({ source: '.git/hooks/post-checkout', file: `evil.db.backup.${ts}` }))],
    ...[path.join(outside, 'secret'), '../../../outside/secret', `../backups/${file}`, `.restore/unpacked/../../${file}`, `./${file}`, 'agentdb.db.backup.20010101-000000', '.lock', '', `.restore/${file}`].map((from): [string, unknown] => [`from ${JSON.stringify(from.replace(outside, '/…').replace(ts, 'TS'))}`, one(job({ file: from }))]),
    ...[path.join(outside, 'secret'), '../../../outside/secret', '.restore/../put-0', '.restore/put-', '.restore/put-x', 'put-0', '.restore/unpacked/put-0', '.restore'].map((staged): [string, unknown] => [`that puts ${JSON.stringify(staged.replace(outside, '/…'))} in place`, one(job(), put(staged))]),
    ['that puts a link in place', one(job(), put('.restore/put-0')), () => (fs.mkdirSync(work), fs.symlinkSync(path.join(outside, 'secret'), path.join(work, 'put-0')))],
    ['whose working folder is a link', one(job(), put('.restore/put-0')), () => (fs.writeFileSync(path.join(outside, 'put-0'), 'evil'), fs.symlinkSync(outside, work))],
    ['whose unpacked copies are behind a link', one(job({ file: `.restore/unpacked/${file}` })), () => (fs.mkdirSync(path.join(outside, 'unpacked')), fs.copyFileSync(path.join(p.backups, file), path.join(outside, 'unpacked', file)), fs.symlinkSync(outside, work))],
    ['with another hash than the record', one(job({ sha256: sha256(path.join(p.backups, plain)) }))],
    ['of a copy that the record sends elsewhere', one(notes({ source: 'agentdb.db' }))],
    ['of a copy that the record does not name', one(notes({ file: `evil.db.backup.${ts}`, source: 'evil.db' }))],
    ['of a database that the record calls a file', one(notes({ sqlite: true }))],
    ['that follows a link', one(job({ linked_to: path.join(outside, 'x.db') }))],
    ['twice of one database', base([job(), job()].map((j) => ({ job: j, method: { kind: 'delta', cookie: 99999 } })))],
    ['of a set that has no such name', base([{ job: job(), method: { kind: 'delta', cookie: 99999 } }], { timestamp: '../x' })],
    ['with a safety backup that has no such name', base([{ job: job(), method: { kind: 'delta', cookie: 99999 } }], { safety: '../x' })],
    ['that does not say whose databases these are', { ...one(job()), project: undefined }],
    ['of a version to come', { ...one(job()), version: 99 }],
    ['that is empty', undefined],
    ['that is a list', []],
    ['with a method that there is not', one(job(), { kind: 'exec', command: 'true' })],
    ['that is endless', undefined, () => (fs.rmSync(note), fs.symlinkSync('/dev/zero', note))],
  ];
  let tried = 0;
  for (const [what, text, also] of cases) {
    fs.writeFileSync(note, text === undefined ? '' : JSON.stringify(text));
    also?.();
    const before = surroundings(p);
    const takers = tried % 8 === 0 || also ? ['create', 'clean', 'recover'] : ['recover'];
    for (const name of takers) {
      const r = await codeOf(operations[name]!(p));
      assert.ok(['BACKUP_DAMAGED', 'UNSUPPORTED_FORMAT', 'IO_ERROR'].includes(r.code ?? ''), `a note ${what}: ${name}: ${r.code} ${r.message}`);
      assert.ok(r.message.includes('.restore-intent.json'), r.message);
      assert.deepEqual(surroundings(p), before, `a note ${what}: ${name} wrote something`);
    }
    fs.rmSync(note);
    fs.rmSync(work, { recursive: true, force: true });
    for (const name of ['put-0', 'unpacked']) fs.rmSync(path.join(outside, name), { recursive: true, force: true });
    tried++;
  }
  // The note that all of these were made of is one that is carried out.
  fs.writeFileSync(note, JSON.stringify(base([{ job: job(), method: { kind: 'delta', cookie: 999999 } }, { job: notes(), method: { kind: 'unchanged' } }])));
  const recovered = await backup.recover({ root: p.root });
  assert.equal(recovered.finishedRestore, ts, JSON.stringify(recovered));
  assert.equal(count(p.at('agentdb.db')), 20);
  assertNoLeftovers(p.backups);
  report('hostile-project', { notes: tried });
});
