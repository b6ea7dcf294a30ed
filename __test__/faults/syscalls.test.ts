// Every system call: whichever of them fails, or is a run's last, nothing is lost and nothing is told wrongly.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../../index.js';
import { assertNoLeftovers, codes, contents, copyOf, craftSet, daysAgo, makeDatabase, metadataPath, project, projectAt, readMetadata, sets, tempFolder, withDatabase, type Context, type Project } from '../helpers/project';
import { chosen, report } from '../helpers/proof';
import { callsOf, needStrace, pointsOf, runAt, type Call, type Fault, type Point, type Traced } from '../helpers/syscalls';
import { copyFolder, died, twoAtATime } from '../helpers/trials';

const names = ['agentdb.db', '.agentic-qe/memory.db', 'notes.db', 'gone.db'];
const intentOf = (p: Project): string => path.join(p.backups, '.restore-intent.json');

/** What is in a database; a plain file's text; or that there is none. */
function stateOf(file: string): string {
  if (!fs.existsSync(file)) return 'missing';
  return path.basename(file).startsWith('notes.db') ? fs.readFileSync(file, 'utf8') : contents(file);
}

const state = (p: Project): string[] => names.map((n) => stateOf(p.at(n)));

/** The content of each copy in a set, without touching it: looking at a database may leave files beside it. */
function copied(p: Project, timestamp: string, source: string): string {
  const folder = fs.mkdtempSync(`${p.root}.look-`);
  const to = path.join(folder, path.basename(source));
  fs.copyFileSync(copyOf(p.backups, timestamp, source), to);
  const found = stateOf(to);
  fs.rmSync(folder, { recursive: true });
  return found;
}

/** Copies a project to `root`. The note of a restore that died in it names its files by where they are. */
async function copyTo(p: Project, root: string): Promise<Project> {
  await copyFolder(p.root, root);
  const copy = projectAt(root);
  if (fs.existsSync(intentOf(copy))) fs.writeFileSync(intentOf(copy), fs.readFileSync(intentOf(copy), 'utf8').replaceAll(`"${p.root}/`, `"${root}/`));
  return copy;
}

const copyAnywhere = (t: Context, p: Project): Promise<Project> => copyTo(p, path.join(tempFolder(t), 'copy'));

/** One operation to be disturbed. */
interface Operation {
  name: string;
  template: Project;
  args: string[];
  /** Databases before; the only state there may be, unless the operation restores. */
  before: string[];
  restored?: string[];
  /** Sets that must be there afterwards, whatever happens. */
  stay: string[];
  /** What a run that says it did its work must have done. */
  done?: (p: Project, run: Traced, list: backup.BackupInfo[]) => Promise<void> | void;
  /** Looks without changing anything; nothing is to be recovered. */
  looks?: boolean;
  /** Makes a set, unless it is told as failed. */
  makes?: boolean;
}

interface Seen {
  timestamp: string;
  archiveOnly: boolean;
  complete: boolean;
}

const listed = async (p: Project): Promise<Seen[]> => (await backup.listBackups({ root: p.root, archives: true })).map(({ timestamp, archiveOnly, complete }) => ({ timestamp, archiveOnly, complete }));

/** A rollback-mode database, one in WAL mode, a plain file, and one to be lost. */
function fill(p: Project): void {
  makeDatabase(p.at('agentdb.db'), { rows: 20 });
  makeDatabase(p.at('.agentic-qe/memory.db'), { rows: 20, journal: 'wal' });
  makeDatabase(p.at('gone.db'), { rows: 5 });
  fs.writeFileSync(p.at('notes.db'), 'a note of then\n'.repeat(20));
}

async function change(t: Context, p: Project): Promise<void> {
  withDatabase(p.at('agentdb.db'), (db) => db.exec("UPDATE episodes SET task = 'later'; DELETE FROM patterns WHERE id LIKE 'p2%'; CREATE TABLE later(x); INSERT INTO later VALUES (zeroblob(9000))"));
  fs.rmSync(p.at('gone.db'));
  fs.writeFileSync(p.at('notes.db'), 'a note of now\n');
  await died(t, p.at('.agentic-qe/memory.db'), "DELETE FROM episodes WHERE id < 10; INSERT INTO patterns VALUES ('late', 'in the -wal')");
}

async function toCreate(t: Context): Promise<Operation> {
  const template = project(t);
  fill(template);
  const old = [await craftSet(template, daysAgo(5), { archive: true }), await craftSet(template, daysAgo(4)), await craftSet(template, daysAgo(3))];
  const manual = await craftSet(template, daysAgo(2), { kind: 'manual' });
  await died(t, template.at('.agentic-qe/memory.db'), "INSERT INTO patterns VALUES ('late', 'in the -wal')");
  const before = state(await copyAnywhere(t, template));
  const done: Operation['done'] = async (p, run, list) => {
    const { timestamp, removed, warnings } = JSON.parse(run.stdout) as backup.BackupResult;
    const made = readMetadata(p.backups, timestamp);
    assert.deepEqual(made.databases.map((d) => [d.source, d.sqlite === null, d.sqlite?.integrity ?? 'ok', Object.keys(d.sqlite?.tables ?? {}).length]), names.map((n) => [n, n === 'notes.db', 'ok', n === 'notes.db' ? 0 : 2]).sort(), 'a database was not seen as what it is');
    for (const [i, source] of names.entries()) assert.equal(copied(p, timestamp, source), before[i], `the copy of ${source} is something else`);
    const gone = old.filter((ts) => !list.some((b) => b.timestamp === ts && !b.archiveOnly));
    assert.equal(removed, gone.length, 'the clean-up removed another number than it says');
    if (gone.length < 2) assert.ok(warnings.length > 0, 'the clean-up failed and nothing is said of it');
  };
  return { name: 'create', template, args: ['create', '--keep', '2', '--json'], before, stay: [old[0]!, old[2]!, manual], done, makes: true };
}

async function toRestore(t: Context, archived: boolean): Promise<Operation> {
  const template = project(t);
  fill(template);
  const manual = await craftSet(template, daysAgo(2), { kind: 'manual' });
  const made = await backup.createBackup({ root: template.root, compress: archived });
  assert.equal(made.success, true, made.error);
  const restored = state(template);
  await change(t, template);
  const before = state(await copyAnywhere(t, template));
  if (archived) {
    for (const file of made.files) for (const name of [file, `${file}.sha256`]) fs.rmSync(name);
    fs.rmSync(metadataPath(template.backups, made.timestamp));
  }
  const done: Operation['done'] = (p, run) => {
    const { safetyBackup, databases } = JSON.parse(run.stdout) as backup.RestoreResult;
    assert.ok(safetyBackup);
    for (const [i, source] of names.entries()) if (before[i] !== 'missing') assert.equal(copied(p, safetyBackup, source), before[i], `the safety copy of ${source} is something else`);
    assert.deepEqual(databases.map((d) => d.action), ['updated', 'updated', 'created', 'updated']);
  };
  return { name: archived ? 'restore from an archive' : 'restore', template, args: ['restore', made.timestamp, '--force', '--json'], before, restored, stay: [manual, made.timestamp], done };
}

/** Sets of every kind: to keep, to trim to its archive, to remove. */
async function toRemove(t: Context, verb: 'clean' | 'delete'): Promise<Operation> {
  const template = project(t);
  fill(template);
  const sources = ['agentdb.db', '.agentic-qe/memory.db'];
  const [trimmed, removed, legacy] = [await craftSet(template, daysAgo(5), { archive: true, sources }), await craftSet(template, daysAgo(4), { sources }), await craftSet(template, daysAgo(6), { sources, legacy: true })];
  for (const [name, text] of [['.gitignore', '*\n'], ['.lock', '']] as const) fs.writeFileSync(path.join(template.backups, name), text, { mode: 0o600 });
  const manual = await craftSet(template, daysAgo(3), { kind: 'manual' });
  const newest = await craftSet(template, daysAgo(1), { sources });
  const before = state(await copyAnywhere(t, template));
  const gone: Operation['done'] = (_, run, list) => {
    if (verb === 'delete') return assert.ok(!list.some((b) => b.timestamp === trimmed), 'the set was not deleted');
    assert.deepEqual(list.map((b) => [b.timestamp, b.archiveOnly]), [[newest, false], [manual, false], [trimmed, true]]);
    assert.equal((JSON.parse(run.stdout) as { removed: number }).removed, 3);
  };
  const args = verb === 'clean' ? ['clean', '1', '--json'] : ['delete', trimmed, '--force', '--json'];
  return { name: verb, template, args, before, stay: verb === 'clean' ? [newest, manual, trimmed] : [newest, manual, removed, legacy], done: gone };
}

/** The project of `from` after a run that was killed at the first call of its second half which `wanted` takes. */
async function dead(t: Context, from: Operation, calls: Call[], wanted: (call: Call) => boolean, holds: (p: Project) => boolean): Promise<Project> {
  const last = calls.filter((c) => /^(rename|unlink|fsync|pwrite|rmdir|openat)/.test(c.name) && wanted(c));
  for (const call of last.slice(Math.floor(last.length / 2))) {
    const p = await copyAnywhere(t, from.template);
    const run = await runAt(p.root, path.join(tempFolder(t), 'trace'), { ...call, fault: 'SIGKILL' }, from.args);
    if (run.signal === 'SIGKILL' && holds(p)) return p;
  }
  return assert.fail(`no killed ${from.name} left what was wanted`);
}

/** The project of a restore that failed, and then failed to put back all that it had reached. */
async function halfUndone(t: Context, from: Operation, calls: Call[]): Promise<Project> {
  const writes = calls.filter((c) => c.name === 'pwrite64');
  for (const call of writes.slice(Math.floor(writes.length / 2))) {
    const p = await copyAnywhere(t, from.template);
    const run = await runAt(p.root, path.join(tempFolder(t), 'trace'), { ...call, fault: 'EIO+' }, from.args);
    if (run.status !== 6 || fs.existsSync(p.at('gone.db')) || !fs.existsSync(intentOf(p))) continue;
    if ((JSON.parse(fs.readFileSync(intentOf(p), 'utf8')) as { undoing: boolean }).undoing) return p;
  }
  return assert.fail('no restore was left half undone');
}

const marked = (prefix: string) => (p: Project) => fs.readdirSync(p.backups).some((n) => n.startsWith(prefix));

/** recover, after each kind of death. */
async function toRecover(t: Context, from: Operation, calls: Call[]): Promise<Operation> {
  const kinds: Record<string, [(c: Call) => boolean, (p: Project) => boolean]> = {
    restore: [() => true, (p) => fs.existsSync(intentOf(p)) && stateHalf(p)],
    create: [(c) => /\.staging-/.test(c.line), marked('.staging-')],
    'create that had published': [(c) => /\.staging-/.test(c.line), (p) => marked('.staging-')(p) && fs.readdirSync(p.backups).filter((n) => n.startsWith('backup-metadata')).length > sets],
    delete: [(c) => c.name.startsWith('unlink'), marked('.removing-')],
  };
  const sets = fs.readdirSync(from.template.backups).filter((n) => n.startsWith('backup-metadata')).length;
  const stateHalf = (p: Project): boolean => fs.readFileSync(p.at('notes.db'), 'utf8') === from.restored?.[names.indexOf('notes.db')];
  const [wanted, holds] = kinds[from.name]!;
  const template = await dead(t, from, calls, wanted, holds);
  return { name: `recover after a dead ${from.name}`, template, args: ['recover', '--json'], before: from.before, restored: from.restored, stay: from.stay };
}

/** Verbs that only look: they must not take a healthy thing for a damaged one, nor overlook it. */
async function toLook(t: Context, args: string[]): Promise<Operation> {
  const template = project(t);
  fill(template);
  // Of a set with a record nothing else has to be looked at.
  const legacy = args[0] === 'list' ? [await craftSet(template, daysAgo(4), { legacy: true })] : [];
  const manual = await craftSet(template, daysAgo(2), { kind: 'manual' });
  const made = await backup.createBackup({ root: template.root });
  assert.equal(made.success, true, made.error);
  const before = state(await copyAnywhere(t, template));
  const all = args.map((a) => (a === 'TS' ? made.timestamp : a));
  const right = await template.run(...all);
  const plain = (text: string, root: string): string => text.replaceAll(/"(durationMs|ageSeconds|free)":\d+/g, '').replaceAll(root, 'ROOT');
  const done: Operation['done'] = (p, run) => assert.equal(plain(run.stdout, p.root), plain(right.stdout, template.root), 'the answer is another one than without the fault');
  return { name: args[0]!, template, args: all, before, stay: [...legacy, manual, made.timestamp], done, looks: true };
}

/** exec, whose safety set is pinned before its command runs. */
async function toExec(t: Context): Promise<Operation> {
  const { template, before, stay } = await toLook(t, ['list']);
  return { name: 'exec', template, args: ['exec', '--operation', 'nothing', '--json', '--', '/bin/true'], before, stay, makes: true };
}

/** What went wrong once: a title, where, the calls at which it did, the fault; and whether the run may call it a success. */
const lost: { title: string; in: string; at: (call: Call) => boolean; fault: Fault; fails: boolean }[] = [
  { title: 'a page that could not be read was called damage, and the backup made of raw bytes', in: 'create', at: (c) => c.name === 'pread64' && /agentdb\.db>.*, 4096, 8192\)/.test(c.line), fault: 'EIO', fails: true },
  { title: 'a file of which the first bytes could not be read was called no database', in: 'create', at: (c) => c.name === 'pread64' && /agentdb\.db>.*, 16, 0\)/.test(c.line), fault: 'EIO', fails: true },
  { title: 'a -wal that could not be looked at was called absent, and one that is empty not empty', in: 'create', at: (c) => c.name === 'statx' && /notes\.db-wal"/.test(c.line), fault: 'EIO', fails: true },
  { title: 'a journal that could not be looked at was called absent, and half a transaction would have been read', in: 'create', at: (c) => c.name === 'newfstatat' && /agentdb\.db-journal"/.test(c.line), fault: 'EIO', fails: true },
  { title: 'a page of a copy that could not be read made the copy a damaged one', in: 'verify', at: (c) => c.name === 'pread64' && /\.db\.backup.*, 4096, 4096\)/.test(c.line), fault: 'EIO', fails: true },
  { title: 'an archive that could not be read was called damaged', in: 'restore from an archive', at: (c) => c.name === 'read' && /\.tar\.gz>/.test(c.line), fault: 'EIO', fails: true },
  { title: 'a set that could not be looked at was missing from the list', in: 'list', at: (c) => c.name === 'statx' && /backups\/(\.removing|\.trimming|\.staging)/.test(c.line), fault: 'EIO', fails: true },
  { title: 'a deletion that was told as failed was carried out by the next run', in: 'delete', at: (c) => c.name === 'fsync', fault: 'EIO', fails: true },
  { title: 'a deletion that was told as failed was carried out by the next run, files removed', in: 'delete', at: (c) => c.name.startsWith('unlink'), fault: 'EACCES', fails: true },
  { title: 'a clean-up that was told as failed was carried out by the next run', in: 'clean', at: (c) => c.name.startsWith('unlink'), fault: 'EIO', fails: true },
  { title: 'a backup that was published, and then called failed, stayed', in: 'exec', at: (c) => c.name === 'openat' && /\.in-use-.*O_EXCL/.test(c.line), fault: 'ENOSPC', fails: true },
  { title: 'a backup of which the last flush failed was half removed, and then listed', in: 'create', at: (c) => c.name === 'fsync' && /backups>\)/.test(c.line), fault: 'EIO', fails: false },
  { title: 'a published set was removed by the next run, which could not look at its metadata', in: 'recover after a dead create that had published', at: (c) => c.name === 'statx' && /backup-metadata/.test(c.line), fault: 'EIO', fails: true },
  { title: 'a finished restore was told as failed, because its safety set could not be listed for the hint', in: 'restore', at: (c) => c.name === 'getdents64', fault: 'EIO', fails: false },
  { title: 'a file that a restore had not reached counted as reached, because its staged copy could not be looked at', in: 'recover after a dead restore', at: (c) => c.name === 'statx' && /\.restore\/put-/.test(c.line), fault: 'EIO', fails: true },
  { title: 'what a failed undoing had taken away was missing after the next run, which called the restore complete', in: 'recover after half an undoing', at: (c) => c.name.startsWith('rename'), fault: 'EIO', fails: false },
];

interface Counts {
  points: number;
  hit: number;
  killed: number;
  failed: number;
  succeeded: number;
}

/** Judges what a disturbed run said and left, and what the next run makes of it. */
async function judge(op: Operation, p: Project, point: Point, run: Traced, counts: Counts): Promise<void> {
  const killed = run.signal !== null;
  counts.points++;
  if (run.hit) counts.hit++;
  if (killed) counts.killed++;
  else if (run.status === 0) counts.succeeded++;
  else counts.failed++;
  assert.ok(!killed || point.fault === 'SIGKILL' || run.astray, `it was killed by ${run.signal}: ${run.stderr}`);
  const code = killed ? undefined : codeSaid(run);
  assert.ok(!['SOURCE_DAMAGED', 'BACKUP_DAMAGED', 'CHECKSUM_MISMATCH', 'NO_DATABASES', 'BACKUP_NOT_FOUND'].includes(code ?? ''), `a failed call is told as ${code}`);

  const now = await listed(p);
  if (run.status === 0) await op.done?.(p, run, await backup.listBackups({ root: p.root, archives: true }));
  // Half a set is never seen, neither before nor after the next run.
  assert.deepEqual(now.filter((s) => !s.complete), [], 'half a set is listed');
  if (!op.looks) {
    const next = await p.json('recover');
    assert.deepEqual([next.status, next.document.ok], [0, true], `recover fails: ${next.stderr}${JSON.stringify(next.document)}`);
  }
  const again = await backup.recover({ root: p.root });
  assert.deepEqual([again.swept, again.finishedRestore ?? null, again.undoneRestore ?? null], [0, null, null], 'there was still something to recover');

  // What was told is so: nothing that failed is done later.
  const later = await listed(p);
  const sure = !killed && code !== 'RESTORE_INCOMPLETE' && op.args[0] !== 'recover';
  if (sure) assert.deepEqual(later, now, `told as ${code ?? 'done'}, and the next run changed the sets`);
  judgeDatabases(op, p, killed || run.status !== 0 ? (sure ? 'before' : 'either') : op.restored && op.args[0] === 'restore' ? 'restored' : 'either', later);
  await judgeSets(op, p, later);
  if (op.makes && run.status !== 0) {
    const made = later.filter((s) => s.timestamp > op.stay.at(-1)!).map((s) => s.timestamp);
    // Where only the command behind the backup could not be started, the backup is told as made.
    const told = killed ? undefined : (JSON.parse(run.stdout) as { safetyBackup?: string | null }).safetyBackup;
    if (!killed) assert.deepEqual(made, told ? [told] : [], 'the backup was told as failed, and is there');
  }
  if (op.name === 'delete' && sure && run.status !== 0 && !later.some((s) => s.timestamp === op.args[1])) assert.match(run.stdout, /is removed/, 'the set is gone, and the error does not say so');
}

/** The code of a failed run; that of a run which says that it did its work is undefined. */
function codeSaid(run: Traced): string | undefined {
  let document: Record<string, unknown> | undefined;
  try {
    document = JSON.parse(run.stdout) as Record<string, unknown>;
  } catch {
    assert.notEqual(run.status, 0, `it ends well and says nothing: ${run.stdout}${run.stderr}`);
    assert.fail(`it ends without a document: ${run.status} ${run.stdout}${run.stderr}`);
  }
  const wrong = run.status !== 0;
  assert.equal(document.ok, !wrong, `exit ${run.status} and ${run.stdout}`);
  if (!wrong) return undefined;
  const code = (document.code ?? (document.error as { code?: string } | undefined)?.code) as string | undefined;
  assert.ok(code === undefined || codes.has(code), `no known code: ${run.stdout}`);
  return code ?? 'none';
}

/** All databases are as before, or all are restored. */
function judgeDatabases(op: Operation, p: Project, wanted: 'before' | 'restored' | 'either', later: Seen[]): void {
  const found = state(p);
  const is = (s: string[] | undefined): boolean => s !== undefined && found.every((c, i) => c === s[i]);
  const told = names.map((n, i) => `${n} is ${found[i] === op.before[i] ? 'as before' : found[i] === op.restored?.[i] ? 'restored' : 'neither'}`).join(', ');
  assert.ok(is(op.before) || is(op.restored), told);
  if (wanted === 'before') assert.ok(is(op.before), `told as failed: ${told}`);
  if (wanted === 'restored') assert.ok(is(op.restored), `told as done: ${told}`);
  if (op.restored && !is(op.before)) {
    const saved = later.filter((s) => !op.stay.includes(s.timestamp)).map((s) => s.timestamp);
    const holds = (source: string, i: number): boolean => op.before[i] === 'missing' || op.before[i] === op.restored?.[i] || saved.some((ts) => readMetadata(p.backups, ts).databases.some((d) => d.source === source) && copied(p, ts, source) === op.before[i]);
    for (const [i, source] of names.entries()) assert.ok(holds(source, i), `what ${source} was before is in no safety set`);
  }
  const allowed = new Set(names.flatMap((n) => [n, `${n}-wal`, `${n}-shm`]).concat('.agentic-qe', '.agentic-qe/backups'));
  const there = ['', '.agentic-qe'].flatMap((d) => fs.readdirSync(p.at(d)).map((n) => path.join(d, n)));
  assert.deepEqual(there.filter((n) => !allowed.has(n) && !isVoidJournal(p.at(n))), [], 'a file is left beside the databases');
}

/** A journal that SQLite made and never gave a header, when it could not go on: it means nothing, and the next transaction takes it. */
const isVoidJournal = (file: string): boolean => file.endsWith('.db-journal') && fs.readFileSync(file).subarray(0, 8).every((b) => b === 0);

/** Every set is whole, every file belongs to one, and those that have to be there are. */
async function judgeSets(op: Operation, p: Project, later: Seen[]): Promise<void> {
  assertNoLeftovers(p.backups);
  for (const { timestamp } of later) assert.equal(await backup.verifyBackup(timestamp, { root: p.root }), true, `the set ${timestamp} is not whole: ${JSON.stringify((await backup.inspectBackup(timestamp, { root: p.root })).files.flatMap((f) => f.problems))}`);
  for (const name of Object.keys(sets(p.backups))) assert.ok(later.some((s) => name.includes(s.timestamp)), `${name} belongs to no set`);
  for (const timestamp of op.stay) assert.ok(later.some((s) => s.timestamp === timestamp), `the set ${timestamp} is gone`);
}

const label = (op: Operation, point: Point): string => `${op.name}, ${point.fault} at ${point.name} ${point.when}`;

/** Does `work` for each point in a copy of its project, two at a time; all that went wrong comes out together. */
async function eachPoint(t: Context, all: { op: Operation; point: Point }[], counts: Counts): Promise<void> {
  const folder = tempFolder(t);
  const wrong: string[] = [];
  await twoAtATime(all, async ({ op, point }, i) => {
    const root = path.join(folder, String(i));
    const copy = await copyTo(op.template, root);
    let run: Traced | undefined;
    try {
      run = await runAt(root, `${root}.trace`, point, op.args);
      await judge(op, copy, point, run, counts);
    } catch (e) {
      wrong.push(`${label(op, point)} (${point.line}): ${(e as Error).message}${run ? `\n  it had ended with ${run.status ?? run.signal}: ${run.stdout.slice(0, 400)}${run.stderr.slice(0, 400)}` : ''}`);
    }
    fs.rmSync(root, { recursive: true });
    fs.rmSync(`${root}.trace`, { force: true });
  });
  assert.equal(wrong.length, 0, `${wrong.length} of ${all.length} points:\n\n${wrong.join('\n\n')}`);
}

test('whichever system call fails or is the last: all databases are old or all new, no set is lost, and what is told is so', { timeout: 24 * 3600_000 }, async (t) => {
  needStrace();
  const begun = Date.now();
  const operations = await Promise.all([toCreate(t), toRestore(t, false), toRestore(t, true), toRemove(t, 'clean'), toRemove(t, 'delete'), toExec(t), ...[['verify', 'TS'], ['list', '--archives'], ['compare', 'TS'], ['info', 'TS']].map((a) => toLook(t, [...a, '--json']))]);
  const pointsIn = async (op: Operation): Promise<{ op: Operation; point: Point }[]> => {
    const calls = await callsOf(t, (await copyAnywhere(t, op.template)).root, op.args);
    const next: Operation[] = [];
    if (['restore', 'create', 'delete'].includes(op.name)) next.push(await toRecover(t, op, calls));
    if (op.name === 'create') next.push(await toRecover(t, { ...op, name: 'create that had published' }, calls));
    if (op.name === 'restore') next.push({ ...op, name: 'recover after half an undoing', template: await halfUndone(t, op, calls), args: ['recover', '--json'], done: undefined });
    const own = pointsOf(calls).map((point) => ({ op, point }));
    for (const after of next) own.push(...(await pointsIn(after)));
    return own;
  };
  const points = (await Promise.all(operations.map(pointsIn))).flat();
  const counts: Counts = { points: 0, hit: 0, killed: 0, failed: 0, succeeded: 0 };
  for (const once of lost) {
    const again = points.filter(({ op, point }) => op.name === once.in && point.fault === once.fault && once.at(point));
    await t.test(once.title, async (s) => {
      assert.ok(again.length > 0, `${once.in} makes no such call any more`);
      const seen: Counts = { points: 0, hit: 0, killed: 0, failed: 0, succeeded: 0 };
      await eachPoint(s, chosen(again, 2), seen);
      assert.equal(seen.hit, seen.points, 'a fault did not come');
      if (once.fails) assert.equal(seen.succeeded, 0, 'a run could not look, and says that all is well');
    });
  }
  await t.test('delete and clean need no room: they make no file and no folder', () => {
    for (const op of operations.filter((o) => ['clean', 'delete'].includes(o.name))) {
      const made = points.filter((p) => p.op === op && p.point.fault === 'ENOSPC' && (/^mkdir|write|^link|symlink/.test(p.point.name) || /O_CREAT.*O_EXCL|O_TRUNC/.test(p.point.line)));
      assert.deepEqual(made.map(({ point }) => `${point.name} ${point.line}`), []);
    }
  });
  // To repeat what was found wrong, by a part of its first line.
  const only = process.env.AQE_FAULTS_ONLY;
  await eachPoint(t, chosen(only ? points.filter(({ op, point }) => label(op, point).includes(only)) : points, 28), counts);
  assert.ok(counts.hit >= counts.points * 0.6, `too few faults came: ${JSON.stringify(counts)}`);
  report('syscalls', { ...counts, possible: points.length, seconds: Math.round((Date.now() - begun) / 1000) });
  if (process.env.AQE_FAULTS) console.log(counts, points.length);
});
