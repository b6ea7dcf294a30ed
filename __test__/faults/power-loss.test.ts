// Power lost at any moment: of what the kernel may have left, everything lists, verifies and recovers to old or new, and what was reported as done stays done.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../../index.js';
import { assertSame, Disk, imageOf, materialise, remains, type Image, type Remains } from '../helpers/disk';
import { addRows, assertNoLeftovers, contents, copyOf, craftSet, daysAgo, makeDatabase, projectAt, readMetadata, withDatabase, type Context, type Project } from '../helpers/project';
import { chosen, full, report } from '../helpers/proof';
import { record, type Recording, type Step } from '../helpers/recording';
import { needStrace } from '../helpers/syscalls';

needStrace();

/** Images tried of each operation within `npm test`. */
const sample = 28;
const small = { rows: 8, pageSize: 1024 };

/** What an operation does and what has to be true whatever is left of it. */
interface Trial {
  args: string[];
  databases: string[];
  /** Sets that stay listed, if only as archives. */
  stay: string[];
  /** Sets that are gone once the operation has said so. */
  go?: string[];
  /** A set that was made unusable on purpose. */
  broken?: string;
  /** How the databases may be found; both unless told. */
  ends?: End[];
  /** A third way, until the end is reported: what the operation was about to do before it failed. */
  meanwhile?: string[];
  /** Images tried within `npm test`. */
  sample?: number;
  /** The call that fails. */
  failing?: Step['call'];
  /** Anything else. */
  also?(p: Project, end: End, list: backup.BackupInfo[]): void;
}

type End = 'before' | 'after' | 'meanwhile';

/** A project where flushing costs nothing: what is on this disk is decided by the proof, not by the disk. */
function quickProject(t: Context): Project {
  const memory = '/dev/shm';
  const base = fs.existsSync(memory) && fs.statfsSync(memory).bavail * fs.statfsSync(memory).bsize > 32 << 20 ? memory : os.tmpdir();
  const made = fs.realpathSync(fs.mkdtempSync(path.join(base, 'aqe-backup-test-')));
  t.after(() => fs.rmSync(made, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 }));
  fs.mkdirSync(path.join(made, 'project'));
  return projectAt(path.join(made, 'project'));
}

/** SHA-256 of a small file. */
const hashOf = (file: string): string => createHash('sha256').update(fs.readFileSync(file)).digest('hex');

const known = new Map<string, string>();

/** What is in a database, or that it is not there; looked up if the same bytes were seen before. */
function state(file: string): string {
  if (!fs.existsSync(file)) return 'missing';
  const key = ['', '-wal', '-journal'].map((s) => (fs.existsSync(file + s) ? hashOf(file + s) : '')).join(' ');
  let content = known.get(key);
  if (content === undefined) {
    content = fs.readFileSync(file).subarray(0, 6).toString() === 'SQLite' ? contents(file) : `plain ${hashOf(file)}`;
    known.set(key, content);
  }
  return content;
}

const states = (p: Project, names: string[]): string[] => names.map((n) => state(p.at(n)));

/** Runs `change` in a database and leaves its files as a process that dies after `change` would. */
function leaveOpen(file: string, change: (db: Parameters<Parameters<typeof withDatabase>[1]>[0]) => void): void {
  const saved: [string, Buffer][] = [];
  withDatabase(file, (db) => {
    change(db);
    for (const s of ['', '-wal', '-journal']) if (fs.existsSync(file + s)) saved.push([file + s, fs.readFileSync(file + s)]);
    if (db.inTransaction) db.exec('ROLLBACK');
  });
  for (const [name, bytes] of saved) fs.writeFileSync(name, bytes);
}

/** A journal that, beside its database, is rolled back into it. */
function leaveJournal(file: string): void {
  leaveOpen(file, (db) => {
    db.pragma('cache_size = 2');
    db.exec("BEGIN; UPDATE episodes SET embedding = randomblob(900); UPDATE patterns SET content = content || 'x'");
  });
  assert.ok(fs.statSync(`${file}-journal`).size > 512);
}

/** Records an operation and tries what power loss may leave of it. `disk`: what a process that was killed left; all that is there unless told. */
async function prove(t: Context, p: Project, name: string, trial: Trial, disk = new Disk(p.root, imageOf(p.root))): Promise<void> {
  const before = disk.seen;
  assertSame(imageOf(p.root), before, 'the project is not as it is said to be');
  const run = await record(t, p.root, trial.args, trial.failing);
  const wanted = trial.failing ? [5, false, 'RESTORE_ROLLED_BACK'] : [0, true, undefined];
  assert.deepEqual([run.status, run.document.ok, run.document.code], wanted, JSON.stringify(run.document));
  const { all, breaches, end } = remains(disk, run);
  assertSame(imageOf(p.root), end, 'the recording does not say all that was done');
  assert.deepEqual(breaches, [], 'a name came before what it stands for');
  const ends: Record<End, string[]> = { after: states(p, trial.databases), before: [], meanwhile: trial.meanwhile ?? [] };
  materialise(p.root, before);
  ends.before = states(p, trial.databases);

  const some = trial.sample ?? sample;
  const [early, late] = [all.filter((r) => !r.reported), all.filter((r) => r.reported)];
  const tried = full ? chosen(all, sample) : [...chosen(early, some), ...chosen(late, some / 2)];
  const found: Record<End, number> = { before: 0, after: 0, meanwhile: 0 };
  const failures: string[] = [];
  for (const one of tried) {
    try {
      found[await check(p, trial, run, one, ends)]++;
    } catch (e) {
      failures.push(`${one.what}\n  ${(e as Error).message.replaceAll('\n', '\n  ')}`);
    }
  }
  assert.equal(failures.length, 0, `${failures.length} of ${tried.length} remains are no good:\n${failures.slice(0, 8).join('\n')}`);
  if (!full) assert.ok(early.length > 0 && late.length > 0, 'too little was tried to mean anything');
  report('power-loss', { operation: name, points: tried.length, steps: run.steps.length, images: all.length, ...found });
}

async function check(p: Project, trial: Trial, run: Recording, left: Remains, ends: Record<End, string[]>): Promise<End> {
  materialise(p.root, left.image);
  await verifyAll(p, trial, 'before any clean-up');
  await backup.recover({ root: p.root });
  assert.equal((await backup.recover({ root: p.root })).swept, 0, 'there was something left to recover');
  const list = await verifyAll(p, trial, 'after recover');
  assertTidy(p, trial, list);
  for (const ts of trial.stay) assert.ok(list.some((b) => b.timestamp === ts), `the set ${ts} is gone`);

  const now = states(p, trial.databases);
  const end = (['after', 'before', 'meanwhile'] as const).find((e) => now.every((s, k) => s === ends[e][k]));
  assert.ok(end, `the databases are of no one state: ${trial.databases.map((n, k) => `${n} is as ${(Object.keys(ends) as End[]).filter((e) => now[k] === ends[e][k]).join(' and ') || 'never'}`).join(', ')}`);
  if (trial.ends) assert.ok(trial.ends.includes(end), `the databases are as ${end} it`);
  if (left.reported) {
    assert.deepEqual(now, ends.after, 'what was reported as done is undone');
    for (const ts of trial.go ?? []) assert.ok(!list.some((b) => b.timestamp === ts), `the set ${ts} was reported as removed and is back`);
    const made = run.document.timestamp as string | undefined;
    if (trial.args[0] === 'create') assert.ok(list.some((b) => b.timestamp === made && !b.archiveOnly), `the set ${made} was reported as made and is gone`);
    if (run.document.safetyBackup) assert.ok(list.some((b) => b.timestamp === run.document.safetyBackup), 'the safety set that was reported is gone');
  }
  trial.also?.(p, end, list);
  return end;
}

async function verifyAll(p: Project, trial: Trial, when: string): Promise<backup.BackupInfo[]> {
  const list = await backup.listBackups({ root: p.root, archives: true });
  for (const b of list) if (b.timestamp !== trial.broken) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, `the set ${b.timestamp} is listed ${when} and is not whole`);
  return list;
}

/** Nothing lies about that belongs to no set and to no database. */
function assertTidy(p: Project, trial: Trial, list: backup.BackupInfo[]): void {
  assertNoLeftovers(p.backups);
  for (const name of fs.existsSync(p.backups) ? fs.readdirSync(p.backups) : []) if (!name.startsWith('.')) assert.ok(list.some((b) => name.includes(b.timestamp)), `${name} belongs to no set`);
  const belongs = (name: string): boolean => trial.databases.some((d) => name === d || (name.startsWith(`${d}-`) && /^-(wal|journal|shm)(\.stale-[\d-]+)?$/.test(name.slice(d.length))));
  for (const name of fs.readdirSync(p.root, { recursive: true, encoding: 'utf8' })) {
    if (!name.startsWith(path.relative(p.root, p.backups)) && !fs.statSync(p.at(name)).isDirectory()) assert.ok(belongs(name), `${name} was left behind`);
  }
}

/** After a restore, what was there before is in a safety set. */
function assertSaved(p: Project, before: Map<string, string>, list: backup.BackupInfo[]): void {
  const saved = list
    .filter((b) => b.kind === 'safety' && !b.archiveOnly)
    .some((b) => {
      const inIt = new Map(readMetadata(p.backups, b.timestamp).databases.map((d) => [d.source, state(copyOf(p.backups, b.timestamp, d.source))]));
      return [...before].every(([source, content]) => inIt.get(source) === content);
    });
  assert.ok(saved, 'what was there before the restore is in no safety set');
}

const three = ['agentdb.db', '.agentic-qe/memory.db', '.agentic-qe/notes.db'];

/** Three databases: one with a rollback journal, one with a -wal, and a plain file. */
function makeThree(p: Project): void {
  makeDatabase(p.at('agentdb.db'), small);
  makeDatabase(p.at('.agentic-qe/memory.db'), { ...small, journal: 'wal' });
  fs.writeFileSync(p.at('.agentic-qe/notes.db'), 'a note of then\n'.repeat(100));
}

function commitIntoWal(p: Project): void {
  leaveOpen(p.at('.agentic-qe/memory.db'), (db) => db.exec("INSERT INTO patterns VALUES ('late', 'in the -wal')"));
}

/** Changes all three, the middle one again only in its -wal. */
function changeThree(p: Project): void {
  withDatabase(p.at('agentdb.db'), (db) => (addRows(db, 100, 12, 700), db.exec('DELETE FROM episodes WHERE id < 5')));
  leaveOpen(p.at('.agentic-qe/memory.db'), (db) => db.exec("DELETE FROM episodes WHERE id < 6; INSERT INTO patterns VALUES ('later', 'in the -wal')"));
  fs.writeFileSync(p.at('.agentic-qe/notes.db'), 'a note of now\n');
}

async function made(p: Project, options: backup.CreateBackupOptions = {}): Promise<string> {
  const result = await backup.createBackup({ root: p.root, compress: false, keepLast: null, ...options });
  assert.equal(result.success, true, result.error);
  return result.timestamp;
}

/** A changed project with a set of how it was. */
async function changed(t: Context, options: backup.CreateBackupOptions = {}): Promise<{ p: Project; ts: string; before: Map<string, string> }> {
  const p = quickProject(t);
  makeThree(p);
  commitIntoWal(p);
  const ts = await made(p, options);
  changeThree(p);
  const image = imageOf(p.root);
  const before = new Map(three.map((n) => [n, state(p.at(n))]));
  materialise(p.root, image);
  return { p, ts, before };
}

/** A project and a set to be put back. */
interface Restorable {
  p: Project;
  ts: string;
  databases: string[];
}

/** Two of three databases are gone, a -journal and a -wal of theirs are not. */
async function withMissing(t: Context): Promise<Restorable> {
  const p = quickProject(t);
  const databases = ['agentdb.db', 'data/journal.db', 'data/wal.db'];
  makeDatabase(p.at('agentdb.db'), small);
  makeDatabase(p.at('data/journal.db'), small);
  makeDatabase(p.at('data/wal.db'), { ...small, journal: 'wal' });
  const ts = await made(p, { databases });
  withDatabase(p.at('agentdb.db'), (db) => addRows(db, 50, 10));
  for (const n of ['data/journal.db', 'data/wal.db']) withDatabase(p.at(n), (db) => addRows(db, 50, 10));
  leaveJournal(p.at('data/journal.db'));
  leaveOpen(p.at('data/wal.db'), (db) => db.exec('UPDATE episodes SET embedding = randomblob(500)'));
  for (const n of ['data/journal.db', 'data/wal.db']) fs.rmSync(p.at(n));
  return { p, ts, databases };
}

/** Databases whose pages have another size than in their set. */
async function withOtherPages(t: Context): Promise<Restorable> {
  const p = quickProject(t);
  const databases = ['.agentic-qe/memory.db', 'agentdb.db'];
  makeDatabase(p.at('agentdb.db'), small);
  makeDatabase(p.at('.agentic-qe/memory.db'), { ...small, journal: 'wal' });
  const ts = await made(p);
  for (const [n, journal] of [['agentdb.db', 'delete'], ['.agentic-qe/memory.db', 'wal']] as const) {
    fs.rmSync(p.at(n));
    makeDatabase(p.at(n), { rows: 14, pageSize: 2048, journal });
  }
  leaveOpen(p.at('.agentic-qe/memory.db'), (db) => db.exec("INSERT INTO patterns VALUES ('late', 'in the -wal')"));
  return { p, ts, databases };
}

test('power loss while the first backup is made: it is there whole or not at all, and there once it is reported', { timeout: 600_000 }, async (t) => {
  const p = quickProject(t);
  const databases = ['agentdb.db', 'memory.db', 'notes.db'];
  makeDatabase(p.at('agentdb.db'), small);
  makeDatabase(p.at('memory.db'), { ...small, journal: 'wal' });
  fs.writeFileSync(p.at('notes.db'), 'a note\n'.repeat(100));
  await prove(t, p, 'first create', {
    args: ['create'],
    databases,
    stay: [],
    ends: ['after'],
    also: (q, _, list) => {
      if (list.length > 0) assert.equal(fs.readFileSync(path.join(q.backups, '.gitignore'), 'utf8'), '*\n', 'a backup is there that git would take in');
    },
  });
});

test('power loss while a backup is made and old ones are cleaned up: no set is half there, and none is gone that was to stay', { timeout: 600_000 }, async (t) => {
  const p = quickProject(t);
  makeThree(p);
  const archived = await craftSet(p, daysAgo(5), { archive: true });
  const old = await craftSet(p, daysAgo(4));
  const manual = await craftSet(p, daysAgo(3), { kind: 'manual', sources: three.slice(0, 2) });
  const legacy = await craftSet(p, daysAgo(2), { legacy: true });
  commitIntoWal(p);
  await prove(t, p, 'create', { args: ['create', '--keep', '1'], databases: three, stay: [archived, manual], go: [old, legacy] });
});

test('power loss during a restore: all databases are old or all new, what was there is saved, and a reported restore is never taken back', { timeout: 600_000 }, async (t) => {
  const { p, ts, before } = await changed(t);
  await prove(t, p, 'restore', { args: ['restore', ts, '--force'], databases: three, stay: [ts], also: (q, end, list) => end === 'after' && assertSaved(q, before, list) });
});

test('power loss during a restore from an archive: what it unpacks is there as long as it is needed', { timeout: 600_000 }, async (t) => {
  const { p, ts, before } = await changed(t, { compress: true });
  for (const name of fs.readdirSync(p.backups)) if (name.includes(ts) && !name.includes('.tar.gz')) fs.rmSync(path.join(p.backups, name));
  await prove(t, p, 'restore from an archive', { args: ['restore', ts, '--force'], databases: three, stay: [ts], also: (q, end, list) => end === 'after' && assertSaved(q, before, list) });
});

test('power loss while missing databases are restored: none appears beside the -wal or -journal of the one that is gone', { timeout: 600_000 }, async (t) => {
  const { p, ts, databases } = await withMissing(t);
  const stale = new Map(['data/journal.db-journal', 'data/wal.db-wal'].map((n) => [n, hashOf(p.at(n))]));
  await prove(t, p, 'restore of missing databases', {
    args: ['restore', ts, '--force'],
    databases,
    stay: [ts],
    also: (q) => {
      for (const [name, hash] of stale) assert.ok([q.at(name), q.at(`${name}.stale-${ts}`)].some((f) => fs.existsSync(f) && hashOf(f) === hash), `${name} is lost`);
    },
  });
});

test('power loss while a project is restored into an empty folder: its folders are as lasting as what is put into them', { timeout: 600_000 }, async (t) => {
  const p = quickProject(t);
  const databases = ['agentdb.db', 'deep/er/memory.db'];
  makeDatabase(p.at('agentdb.db'), small);
  makeDatabase(p.at('deep/er/memory.db'), { ...small, journal: 'wal' });
  const ts = await made(p, { databases });
  fs.rmSync(p.at('agentdb.db'));
  fs.rmSync(p.at('deep'), { recursive: true });
  await prove(t, p, 'restore into an empty folder', { args: ['restore', ts, '--force'], databases, stay: [ts] });
});

test('power loss while databases are rebuilt with another page size: no -wal or -journal comes back over them', { timeout: 600_000 }, async (t) => {
  const { p, ts, databases } = await withOtherPages(t);
  await prove(t, p, 'restore with another page size', { args: ['restore', ts, '--force'], databases, stay: [ts] });
});

test('power loss during delete and clean: a set is there whole or not at all, and one that was reported as removed stays so', { timeout: 600_000 }, async (t) => {
  const p = quickProject(t);
  makeThree(p);
  const first = await craftSet(p, daysAgo(5), { archive: true });
  const second = await craftSet(p, daysAgo(4), { archive: true, sources: three.slice(0, 2) });
  const third = await craftSet(p, daysAgo(3), { sources: three.slice(0, 2) });
  commitIntoWal(p);
  const start = imageOf(p.root);
  await prove(t, p, 'delete', { args: ['delete', second, '--force'], databases: three, stay: [first, third], go: [second] });
  materialise(p.root, start);
  await prove(t, p, 'clean', { args: ['clean', '1'], databases: three, stay: [first, second, third] });
});

test('power loss after a restore was killed, while it is finished: what the dead run did not flush is not relied on', { timeout: 1_800_000 }, async (t) => {
  const kinds: [string, Restorable][] = [
    ['of changed databases', { ...(await changed(t)), databases: three }],
    ['of missing databases', await withMissing(t)],
    ['with another page size', await withOtherPages(t)],
  ];
  for (const [kind, { p, ts, databases }] of kinds) {
    const start = imageOf(p.root);
    const run = await record(t, p.root, ['restore', ts, '--force']);
    const dead = betweenIntentAndEnd(p, run);
    // Killed before a flush, when what it had done could be seen and did not last; and at the very end.
    const unflushed = dead.filter((n) => run.steps[n]?.do === 'sync');
    const before = (is: (s: Step) => boolean): number[] => unflushed.filter((n) => is(run.steps[n - 1]!)).slice(0, 1);
    const journalEnded = before((s) => s.do === 'write' && s.at === 0 && s.bytes.length === 28);
    const journalBegun = before((s) => s.do === 'write' && s.bytes.length === 4);
    const walWritten = before((s) => s.do === 'write' && s.at !== undefined && s.at > 0 && s.bytes.length > 500);
    for (const n of new Set(full ? [...unflushed, dead.at(-1)!] : [unflushed[0]!, ...journalEnded, ...journalBegun, ...walWritten])) {
      const disk = diskAfter(p, start, run, n);
      materialise(p.root, disk.seen);
      await prove(t, p, `recover, finishing a restore ${kind}`, { args: ['recover'], databases, stay: [ts], sample: 12 }, disk);
    }
  }
});

test('power loss while a dead restore is undone because its backup is gone: it is undone in the end', { timeout: 600_000 }, async (t) => {
  const { p, ts } = await changed(t);
  const start = imageOf(p.root);
  const run = await record(t, p.root, ['restore', ts, '--force']);
  const dead = betweenIntentAndEnd(p, run);
  const { seen } = diskAfter(p, start, run, dead[dead.length >> 1]!);
  for (const name of three.slice(0, 2)) seen.set(path.relative(p.root, copyOf(p.backups, ts, name)), Buffer.alloc(700));
  materialise(p.root, seen);
  await prove(t, p, 'recover, undoing', { args: ['recover'], databases: three, stay: [ts], broken: ts, ends: ['after'] });
});

test('power loss while a failed restore is put back: it is not half finished afterwards', { timeout: 600_000 }, async (t) => {
  const { p, ts } = await changed(t);
  const start = imageOf(p.root);
  const run = await record(t, p.root, ['restore', ts, '--force']);
  const meanwhile = states(p, three);
  const between = betweenIntentAndEnd(p, run);
  const commit = run.steps.findIndex((s, i) => between.includes(i) && s.do === 'unlink' && s.path.endsWith('agentdb.db-journal'));
  assert.ok(commit > 0, 'no journal was deleted');
  materialise(p.root, start);
  await prove(t, p, 'restore that fails', { args: ['restore', ts, '--force'], databases: three, stay: [ts], failing: run.steps[commit]!.call, meanwhile });
});

test('power loss after a backup or a removal was killed: what the next run makes of it lasts', { timeout: 600_000 }, async (t) => {
  const p = quickProject(t);
  makeThree(p);
  const [kept, gone] = [await craftSet(p, daysAgo(4)), await craftSet(p, daysAgo(3), { archive: true })];
  commitIntoWal(p);
  const start = imageOf(p.root);
  for (const args of [['create'], ['delete', gone, '--even-newest', '--force']]) {
    materialise(p.root, start);
    const run = await record(t, p.root, args);
    // Where the record of the set has come or gone, and nothing says yet that it lasts.
    const named = run.steps.findIndex((s) => (s.do === 'rename' || s.do === 'unlink') && /backup-metadata\.[\d-]+\.json$/.test(s.path));
    assert.ok(named > 0, `no record came or went: ${JSON.stringify(run.document)}`);
    for (const n of [named >> 1, named, named + 1]) {
      const disk = diskAfter(p, start, run, n);
      materialise(p.root, disk.seen);
      const go = args[0] === 'delete' && n > named ? [gone] : [];
      await prove(t, p, `recover after a killed ${args[0]}`, { args: ['recover'], databases: three, stay: [kept], go, sample: 12 }, disk);
    }
  }
});

/** A disk after so many steps of a run that was killed then. */
function diskAfter(p: Project, start: Image, run: Recording, steps: number): Disk {
  const disk = new Disk(p.root, start);
  for (const step of run.steps.slice(0, steps)) disk.apply(step);
  return disk;
}

/** The numbers of the steps of a restore between its intent and its end. */
function betweenIntentAndEnd(p: Project, run: Recording): number[] {
  const intent = path.join(p.backups, '.restore-intent.json');
  const from = run.steps.findIndex((s) => s.do === 'rename' && s.to === intent);
  const to = run.steps.findIndex((s) => s.do === 'unlink' && s.path === intent);
  assert.ok(from > 0 && to > from + 5, 'a restore does nothing between intent and end');
  return Array.from({ length: to - from }, (_, i) => from + 1 + i);
}
