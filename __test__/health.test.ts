// check and checkHealth: every finding and its absence, exit codes, metrics; nothing is changed by looking.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import Ajv2020 from 'ajv/dist/2020';
import Database from 'better-sqlite3';
import * as backup from '../index.js';
import {
  addRows, bin, cleanEnv, companion, copyOf, craftSet, daysAgo, editMetadata, exec, finished, flip, hasTool, holder, isRoot, makeDatabase, nobody, openDescriptors, ownLocks, packageRoot, project, publicPackage, sets,
  stamp, tempFolder, tree, withData, withDatabase, type Companion, type Context, type Project,
} from './helpers/project';

const linux = process.platform === 'linux';
const day = 86_400;

async function withBackup(t: Context, options: backup.CreateBackupOptions = {}): Promise<{ p: Project; ts: string }> {
  const p = withData(t, 40);
  const made = await backup.createBackup({ root: p.root, ...options });
  assert.equal(made.success, true, made.error);
  return { p, ts: made.timestamp };
}

type Options = Omit<backup.CheckHealthOptions, 'root'>;

/** The check of the API, and that of the command with the same options: they must agree. */
async function check(p: Project, options: Options = {}): Promise<backup.Health> {
  const health = await backup.checkHealth({ root: p.root, ...options });
  const args = [
    ...(options.maxAgeHours === undefined ? [] : ['--max-age', `${Math.round(options.maxAgeHours * 3600)}s`]),
    ...(options.maxSizeBytes === undefined ? [] : ['--max-size', String(options.maxSizeBytes)]),
    ...(options.busyTimeoutMs === undefined ? [] : ['--busy-timeout', String(options.busyTimeoutMs)]),
    ...(options.quick ? ['--quick'] : []),
  ];
  const { status, document } = await p.json('check', ...args);
  // Free space changes from one to the other.
  const shown = (findings: backup.HealthFinding[]): backup.HealthFinding[] => findings.map((f) => ({ ...f, message: f.code === 'NO_SPACE' ? f.message.replace(/only \d+/, '') : f.message }));
  assert.deepEqual(shown(document.findings), shown(health.findings), 'the command and the API find different things');
  assert.equal(document.healthy, health.healthy);
  const damage = health.findings.some((f) => f.severity === 'critical' && ['SOURCE_DAMAGED', 'BACKUP_DAMAGED', 'SOURCE_WAS_DAMAGED'].includes(f.code));
  assert.equal(status, damage ? 4 : health.healthy ? 0 : 1);
  assert.equal(document.ok, status === 0);
  assert.equal(health.healthy, !health.findings.some((f) => f.severity === 'critical'));
  for (const f of health.findings) for (const text of [f.message, f.remedy, f.subject]) assert.ok(text.length > 0, JSON.stringify(f));
  return health;
}

/** Codes with severities, in the order in which they came. */
function said(health: backup.Health): string[] {
  return health.findings.map((f) => `${f.severity} ${f.code}`);
}

function finding(health: backup.Health, code: backup.HealthFindingCode): backup.HealthFinding {
  const found = health.findings.find((f) => f.code === code);
  assert.ok(found, `${code} is not among ${said(health).join(', ') || 'no findings'}`);
  return found;
}

// Well

test('a project with a fresh backup is healthy: no findings, exit 0, and nothing is changed by looking', async (t) => {
  for (const journal of ['delete', 'wal'] as const) {
    const p = project(t);
    makeDatabase(p.at('agentdb.db'), { journal });
    makeDatabase(p.at('.agentic-qe/memory.db'), { journal });
    const made = await backup.createBackup({ root: p.root });
    const before = tree(p.root);
    for (const quick of [false, true]) {
      const h = await check(p, { quick });
      assert.deepEqual([h.healthy, said(h), h.newestBackup], [true, [], made.timestamp]);
      assert.deepEqual(h.databases.map((d) => [d.source, d.newestBackup]), [['.agentic-qe/memory.db', made.timestamp], ['agentdb.db', made.timestamp]]);
      assert.ok(h.databases.every((d) => d.size > 0 && (d.ageSeconds ?? -1) >= 0 && (d.ageSeconds ?? day) < 600));
      const usage = await backup.storageUsage({ root: p.root });
      assert.deepEqual([h.backups, h.archivesOnly, h.damagedBackups, h.totalSize, h.maxSizeBytes], [1, 0, 0, usage.totalSize, undefined]);
      assert.ok(h.free > 0 && h.nextBackupSize > h.databases.reduce((sum, d) => sum + d.size, 0));
      assert.ok(Math.abs(Date.parse(h.checkedAt) - Date.now()) < 60_000 && h.durationMs >= 0);
      if (linux) assert.ok((h.processes?.examined ?? 0) > 0);
      else assert.equal(h.processes, undefined);
      assert.equal(h.notes.some((n) => /looked at/.test(n)), !linux || (h.processes?.unreadable ?? 0) > 0);
    }
    assert.deepEqual(tree(p.root), before);
  }
});

test('the text begins with the verdict, names what is known, and each finding has a remedy that works from any folder', async (t) => {
  const { p, ts } = await withBackup(t);
  const well = await p.run('check', '--max-size', '1GB');
  assert.equal(well.status, 0);
  assert.match(well.stdout, /^Healthy\n/);
  assert.match(well.stdout, new RegExp(`agentdb\\.db .*${ts} +(now|\\d+ min)`));
  assert.match(well.stdout, /1 backup, .* of 1\.0 GB \(\d+ %\)/);
  assert.match(well.stdout, /free, the next backup needs up to/);

  makeDatabase(p.at('.agentic-qe/second.db'));
  fs.mkdirSync(path.join(p.backups, '.removing-20200101-000000'));
  const ill = await p.run('check');
  assert.equal(ill.status, 1);
  assert.match(ill.stdout, /^1 problem, 1 warning\n {2}critical {2}NO_VERIFIED_BACKUP\n +\.agentic-qe\/second\.db has no .*\n +What to do: make one with `aqe-backup create --root '/);
  const remedy = /`aqe-backup (create|recover) (--root '[^`]*)`/g;
  const commands = [...ill.stdout.matchAll(remedy)];
  assert.equal(commands.length, 2);
  for (const [, verb, flags] of commands) {
    const run = await exec('sh', ['-c', `"$1" "$2" ${verb} ${flags}`, 'sh', process.execPath, bin], { cwd: os.tmpdir() });
    assert.equal(run.status, 0, run.stderr);
  }
  assert.match((await p.run('check')).stdout, /^Healthy\n/);
});

test('the document is what its schema says, healthy or not', async (t) => {
  const schema = JSON.parse(fs.readFileSync(path.join(packageRoot, 'docs', 'schema', 'output.v1.json'), 'utf8')) as { $defs: Record<string, object> };
  const validate = new Ajv2020({ strict: true, strictTypes: false, allowUnionTypes: true }).compile({ ...schema, anyOf: undefined, $ref: '#/$defs/check' });
  const { p } = await withBackup(t);
  makeDatabase(p.at('.agentic-qe/second.db'));
  for (const args of [[], ['--quick', '--max-size', '1kb'], ['--database', 'agentdb.db']]) {
    const { document } = await p.json('check', ...args);
    assert.ok(validate(document), JSON.stringify(validate.errors));
  }
});

test('the page on health lists every finding there can be', async () => {
  const types = fs.readFileSync(path.join(packageRoot, 'index.d.ts'), 'utf8');
  const codes = [.../HealthFindingCode =\n((?: {2}\| '\w+'\n?)+)/.exec(types)![1]!.matchAll(/'(\w+)'/g)].map((m) => m[1]!);
  assert.ok(codes.length > 15);
  const page = fs.readFileSync(path.join(packageRoot, 'docs', 'health.md'), 'utf8');
  const listed = [...page.matchAll(/^\| `([A-Z_]+)` \|/gm)].map((m) => m[1]!);
  assert.deepEqual(listed.sort(), [...codes].sort());
});

test('without databases there is nothing to look after: NO_DATABASES, exit 10', async (t) => {
  const p = project(t);
  await assert.rejects(backup.checkHealth({ root: p.root }), { code: 'NO_DATABASES' });
  const { status, document } = await p.json('check');
  assert.deepEqual([status, document.code, document.ok], [10, 'NO_DATABASES', false]);
  assert.deepEqual(fs.readdirSync(p.root), []);
});

test('a check that is called off rejects with ABORT_ERR', async (t) => {
  const { p } = await withBackup(t);
  await assert.rejects(backup.checkHealth({ root: p.root, signal: AbortSignal.abort() }), { code: 'ABORT_ERR', name: 'AbortError' });
  await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  const controller = new AbortController();
  const waiting = backup.checkHealth({ root: p.root, signal: controller.signal, busyTimeoutMs: 60_000 });
  setTimeout(() => controller.abort(), 100);
  await assert.rejects(waiting, { code: 'ABORT_ERR' });
});

test('BackupHelper checks its own project, and progress ends with done', async (t) => {
  const { p, ts } = await withBackup(t);
  const phases: string[] = [];
  const h = await new backup.BackupHelper({ root: p.root }).checkHealth({ onProgress: (e) => void phases.push(e.phase) });
  assert.deepEqual([h.newestBackup, phases.at(-1)], [ts, 'done']);
  const thrown = await backup.checkHealth({ root: p.root, onProgress: () => { throw new Error('of mine'); } });
  assert.ok(thrown.notes.some((n) => /of mine/.test(n)));
});

test('limits that cannot be meant are refused, in the API and on the command line', async (t) => {
  const { p } = await withBackup(t);
  for (const maxAgeHours of ['26', true, null]) await assert.rejects(backup.checkHealth({ root: p.root, maxAgeHours } as never), { code: 'ERR_INVALID_ARG_TYPE', message: /maxAgeHours/ });
  for (const maxAgeHours of [0, -1, Number.NaN, Infinity]) await assert.rejects(backup.checkHealth({ root: p.root, maxAgeHours }), { code: 'ERR_INVALID_ARG_VALUE', message: /maxAgeHours/ });
  for (const maxSizeBytes of ['5GB', [], null]) await assert.rejects(backup.checkHealth({ root: p.root, maxSizeBytes } as never), { code: 'ERR_INVALID_ARG_TYPE', message: /maxSizeBytes/ });
  for (const maxSizeBytes of [0, -1, 1.5, Infinity]) await assert.rejects(backup.checkHealth({ root: p.root, maxSizeBytes }), { code: 'ERR_INVALID_ARG_VALUE', message: /maxSizeBytes/ });
  await assert.rejects(backup.checkHealth({ root: p.root, quick: 1 } as never), { code: 'ERR_INVALID_ARG_TYPE', message: /quick/ });
  await assert.rejects(backup.checkHealth({ root: p.root, maxAge: 1 } as never), { code: 'ERR_INVALID_ARG_VALUE', message: /maxAge/ });
  for (const args of [['--max-age', '26'], ['--max-age', '-1h'], ['--max-size', '5XB'], ['--max-size', '0'], ['--prometheus'], ['x']]) assert.equal((await p.run('check', ...args)).status, 2, args.join(' '));
});

// Backups: there, fresh, sound

test('a database without a verified backup is critical, one by one, and a backup ends it', async (t) => {
  const p = withData(t, 40);
  makeDatabase(p.at('.agentic-qe/memory.db'));
  let h = await check(p);
  assert.deepEqual(h.findings.map((f) => [f.severity, f.code, f.subject]), [['critical', 'NO_VERIFIED_BACKUP', '.agentic-qe/memory.db'], ['critical', 'NO_VERIFIED_BACKUP', 'agentdb.db']]);
  assert.equal(h.newestBackup, undefined);
  assert.deepEqual(h.databases.map((d) => [d.newestBackup, d.ageSeconds]), [[undefined, undefined], [undefined, undefined]]);
  assert.deepEqual(fs.readdirSync(p.at('.agentic-qe')), ['memory.db'], 'the check made a backups folder');
  await backup.createBackup({ root: p.root, databases: ['agentdb.db'] });
  h = await check(p);
  assert.deepEqual(h.findings.map((f) => [f.code, f.subject]), [['NO_VERIFIED_BACKUP', '.agentic-qe/memory.db']]);
  await backup.createBackup({ root: p.root });
  assert.deepEqual(said(await check(p)), []);
});

test('a backup made without verify counts once the check itself has verified it, and not in a quick check', async (t) => {
  const { p } = await withBackup(t, { verify: false });
  assert.deepEqual(said(await check(p)), []);
  assert.deepEqual(said(await check(p, { quick: true })), ['critical NO_VERIFIED_BACKUP']);
});

test('the newest good backup must not be older than allowed', async (t) => {
  const p = withData(t, 40);
  await craftSet(p, daysAgo(3));
  const ts = await craftSet(p, daysAgo(2));
  for (const quick of [false, true]) {
    const h = await check(p, { quick });
    assert.deepEqual(said(h), ['critical BACKUP_TOO_OLD']);
    assert.match(finding(h, 'BACKUP_TOO_OLD').message, new RegExp(`agentdb\\.db, ${ts}, is 2 days old, and 26 hours`));
    assert.deepEqual(said(await check(p, { quick, maxAgeHours: 49 })), []);
    assert.deepEqual(said(await check(p, { quick, maxAgeHours: 47.5 })), ['critical BACKUP_TOO_OLD']);
  }
  await craftSet(p, daysAgo(0.5), { kind: 'safety' });
  assert.deepEqual(said(await check(p)), [], 'a safety backup is a backup');
});

test('a backup from the future is not fresh, one that is ahead by minutes is', async (t) => {
  const p = withData(t, 40);
  await craftSet(p, daysAgo(2));
  const future = await craftSet(p, daysAgo(-1));
  const h = await check(p);
  assert.deepEqual(said(h), ['critical BACKUP_TOO_OLD', 'warning BACKUP_IN_FUTURE']);
  assert.equal(finding(h, 'BACKUP_IN_FUTURE').subject, future);
  const ahead = await craftSet(p, daysAgo(-300 / day));
  const now = await check(p);
  assert.deepEqual(said(now), ['warning BACKUP_IN_FUTURE']);
  assert.deepEqual([now.newestBackup, now.databases[0]?.ageSeconds], [ahead, 0]);
});

test('a damaged backup is critical and exit 4, does not count as fresh, and only its size shows in a quick check', async (t) => {
  const p = withData(t, 40);
  const good = await craftSet(p, daysAgo(0.9));
  const made = await backup.createBackup({ root: p.root });
  flip(copyOf(p.backups, made.timestamp, 'agentdb.db'), 5000);
  const h = await check(p);
  assert.deepEqual(said(h), ['critical BACKUP_DAMAGED']);
  assert.deepEqual([finding(h, 'BACKUP_DAMAGED').subject, h.newestBackup, h.damagedBackups], [made.timestamp, good, 1]);
  assert.deepEqual(said(await check(p, { maxAgeHours: 10 })), ['critical BACKUP_DAMAGED', 'critical BACKUP_TOO_OLD']);
  assert.deepEqual(said(await check(p, { quick: true })), []);
  fs.truncateSync(copyOf(p.backups, made.timestamp, 'agentdb.db'), 4096);
  for (const quick of [false, true]) assert.deepEqual(said(await check(p, { quick })), ['critical BACKUP_DAMAGED']);
  assert.equal((await check(p, { quick: true })).newestBackup, good);
});

test('damage is found in archives, in old backups, and in metadata', async (t) => {
  const { p, ts } = await withBackup(t);
  const archive = path.join(p.backups, `databases-backup-${ts}.tar.gz`);
  const only = await craftSet(p, daysAgo(30), { archive: true });
  for (const name of fs.readdirSync(p.backups)) if (name.includes(only) && !name.includes('tar.gz')) fs.rmSync(path.join(p.backups, name));
  const old = await craftSet(p, daysAgo(40));
  assert.deepEqual(said(await check(p)), []);
  flip(archive, 200);
  let h = await check(p);
  assert.deepEqual(h.findings.map((f) => [f.code, f.subject]), [['BACKUP_DAMAGED', ts]]);
  assert.equal(h.newestBackup, ts, 'the copy beside the archive is good');
  flip(path.join(p.backups, `databases-backup-${only}.tar.gz`), 200);
  fs.writeFileSync(path.join(p.backups, `backup-metadata.${old}.json`), '{');
  h = await check(p);
  assert.deepEqual(h.findings.map((f) => [f.code, f.subject]).sort(), [['BACKUP_DAMAGED', only], ['BACKUP_DAMAGED', old], ['BACKUP_DAMAGED', ts]].sort());
  fs.rmSync(archive);
  assert.deepEqual((await check(p, { quick: true })).findings.map((f) => f.subject), [old], 'an archive that somebody removed is no damage: the copies are there');
});

test('a record that was changed, or lost its seal, is found, by the quick check too', async (t) => {
  const { p, ts } = await withBackup(t);
  const record = path.join(p.backups, `backup-metadata.${ts}.json`);
  const good = fs.readFileSync(record);
  fs.writeFileSync(record, good.toString().replace('"agentdb.db"', '"agentdb.dB"'));
  for (const quick of [true, false]) assert.ok((await check(p, { quick })).findings.some((f) => f.code === 'BACKUP_DAMAGED' && f.subject === ts), `quick: ${quick}`);
  fs.writeFileSync(record, good);
  fs.rmSync(`${record}.sha256`);
  for (const quick of [true, false]) assert.ok((await check(p, { quick })).findings.some((f) => f.code === 'BACKUP_WITHOUT_CHECKSUM' && f.subject === ts), `quick: ${quick}`);
});

test('a marked copy of a damaged database is critical while it is the newest, and a warning when a good one came after it', async (t) => {
  const p = withData(t, 600);
  const good = await craftSet(p, daysAgo(0.5));
  const sound = fs.readFileSync(p.at('agentdb.db'));
  const fd = fs.openSync(p.at('agentdb.db'), 'r+');
  fs.writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 3 * 4096);
  fs.closeSync(fd);
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.code, 'SOURCE_DAMAGED');
  const h = await check(p);
  assert.deepEqual(said(h), ['critical SOURCE_DAMAGED', 'critical SOURCE_WAS_DAMAGED']);
  for (const code of ['SOURCE_DAMAGED', 'SOURCE_WAS_DAMAGED'] as const) assert.match(finding(h, code).remedy, new RegExp(`restore ${good}`));
  assert.deepEqual([h.newestBackup, h.damagedBackups], [good, 1]);
  assert.deepEqual(said(await check(p, { quick: true })), ['critical SOURCE_WAS_DAMAGED']);

  fs.writeFileSync(p.at('agentdb.db'), sound);
  await backup.createBackup({ root: p.root });
  for (const quick of [false, true]) assert.deepEqual(said(await check(p, { quick })), ['warning SOURCE_WAS_DAMAGED']);
  flip(copyOf(p.backups, made.timestamp, 'agentdb.db'), 5000);
  assert.deepEqual(said(await check(p)), ['critical BACKUP_DAMAGED', 'warning SOURCE_WAS_DAMAGED'], 'damage that came later is more than the mark');
});

test('a set without checksums, and one of a newer format, are warnings: nothing says that they are damaged', async (t) => {
  const { p, ts } = await withBackup(t, { compress: false });
  const other = await craftSet(p, daysAgo(1));
  fs.rmSync(`${copyOf(p.backups, other, 'agentdb.db')}.sha256`);
  const newer = await craftSet(p, daysAgo(2), { edit: (m) => void (m.format = 99) });
  const h = await check(p);
  assert.deepEqual(h.findings.map((f) => [f.severity, f.code, f.subject]), [['warning', 'BACKUP_NOT_CHECKED', newer], ['warning', 'BACKUP_WITHOUT_CHECKSUM', other]]);
  assert.equal(h.newestBackup, ts);
  assert.deepEqual(said(await check(p, { quick: true })), ['warning BACKUP_WITHOUT_CHECKSUM']);
});

test('a backup of an older tool is good if its checksum is, and unverified in a quick check', async (t) => {
  const p = withData(t, 40);
  const ts = await craftSet(p, daysAgo(0.5), { legacy: true });
  const h = await check(p);
  assert.deepEqual([said(h), h.newestBackup], [[], ts]);
  assert.deepEqual(said(await check(p, { quick: true })), ['critical NO_VERIFIED_BACKUP']);
});

test('a database of the newest backup that is gone is a warning', async (t) => {
  const p = withData(t, 40);
  makeDatabase(p.at('.agentic-qe/memory.db'));
  makeDatabase(p.at('data/own.db'));
  const made = await backup.createBackup({ root: p.root, databases: ['*.db', '.agentic-qe/*.db', 'data/own.db'] });
  assert.deepEqual(said(await check(p)), [], 'one outside the usual places is there');
  fs.rmSync(p.at('.agentic-qe/memory.db'));
  const h = await check(p);
  assert.deepEqual(h.findings.map((f) => [f.severity, f.code, f.subject]), [['warning', 'DATABASE_MISSING', '.agentic-qe/memory.db']]);
  assert.match(h.findings[0]!.remedy, new RegExp(`restore ${made.timestamp}`));
  assert.deepEqual((await backup.checkHealth({ root: p.root, databases: ['agentdb.db'] })).findings, [], 'only some were asked about');
});

test('clean-ups that run meanwhile are no damage', { timeout: 600_000 }, async (t) => {
  const p = withData(t, 40);
  let [stop, over] = [false, false];
  const writer = (async () => {
    // Most have no archive: those stay, and a check that reads ever more of them lets ever more of them be made.
    for (let i = 0; i < 150 && !stop; i++) assert.equal((await backup.createBackup({ root: p.root, keepLast: 1, compress: i % 5 === 0 })).success, true);
  })().finally(() => (over = true));
  try {
    for (let i = 0; !over || i < 4; i++) {
      const h = await backup.checkHealth({ root: p.root, quick: i % 2 === 0, lockTimeoutMs: 0 });
      // Backups faster than one a second run ahead of the clock, in the end beyond what counts.
      assert.deepEqual(said(h).filter((s) => !/FUTURE|NO_VERIFIED|TOO_OLD/.test(s)), []);
    }
  } finally {
    stop = true;
    await writer;
  }
});

// Rows

test('rows are compared with the newest good backup that counted them, and an emptied database is critical however small', async (t) => {
  const p = withData(t, 300);
  await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  await backup.createBackup({ root: p.root, verify: false });
  assert.ok(said(await check(p)).some((s) => s.includes('ROWS_LOST')), 'an unverified backup has no counts and hides nothing');
  const small = withData(t, 5);
  const made = await backup.createBackup({ root: small.root });
  fs.truncateSync(small.at('agentdb.db'), 0);
  const f = finding(await check(small), 'ROWS_LOST');
  assert.deepEqual([f.severity, f.remedy.includes(`restore ${made.timestamp} --database 'agentdb.db'`)], ['critical', true], f.remedy);
});

test('a database that is gone is missed as long as a backup of the last 30 days has it, though newer ones have it not', async (t) => {
  const p = withData(t, 40);
  makeDatabase(p.at('other.db'), { rows: 5 });
  const had = await backup.createBackup({ root: p.root });
  fs.rmSync(p.at('other.db'));
  for (let i = 0; i < 3; i++) await backup.createBackup({ root: p.root });
  const f = finding(await check(p), 'DATABASE_MISSING');
  assert.deepEqual([f.subject, f.remedy.includes(`restore ${had.timestamp} --database 'other.db'`)], ['other.db', true], f.remedy);
});

test('after a restore over a damaged database nothing says to restore again', async (t) => {
  const p = withData(t, 40);
  const made = await backup.createBackup({ root: p.root });
  fs.writeFileSync(p.at('agentdb.db'), Buffer.alloc(9000));
  const broken = finding(await check(p), 'SOURCE_DAMAGED');
  assert.ok(broken.remedy.includes(`restore ${made.timestamp} --database 'agentdb.db'`), broken.remedy);
  const restored = await backup.restoreBackup(made.timestamp, { root: p.root, force: true });
  assert.equal(restored.success, true, restored.error);
  for (const quick of [false, true]) {
    const h = await check(p, { quick });
    const f = finding(h, 'SOURCE_WAS_DAMAGED');
    assert.deepEqual([h.healthy, f.severity, f.subject], [true, 'warning', restored.safetyBackup]);
    assert.doesNotMatch(f.remedy, /aqe-backup restore/);
  }
  const h = await p.run('check');
  assert.equal(h.status, 0, h.stdout);
});

test('the remedy for a damaged backup makes the finding go away', async (t) => {
  const p = withData(t, 40);
  const made = await backup.createBackup({ root: p.root, compress: false });
  flip(copyOf(p.backups, made.timestamp, 'agentdb.db'), 5000);
  const { remedy } = finding(await check(p), 'BACKUP_DAMAGED');
  const commands = [...remedy.matchAll(/`aqe-backup ([^`]+)`/g)].map((m) => m[1]!).filter((c) => /^(create|delete)/.test(c));
  assert.deepEqual(commands.map((c) => c.split(' ')[0]), ['create', 'delete']);
  for (const c of commands) {
    const run = await exec('sh', ['-c', `"${process.execPath}" "${bin}" ${c} ${c.startsWith('delete') ? '--force' : ''}`], { cwd: p.root });
    assert.equal(run.status, 0, run.stderr);
  }
  assert.deepEqual(said(await check(p)), []);
});

/** Overwrites a page in the middle of a database. */
function breakDatabase(file: string): void {
  const fd = fs.openSync(file, 'r+');
  fs.writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 3 * 4096);
  fs.closeSync(fd);
}

test('one sound database does not excuse another that is damaged still in the same marked backup', async (t) => {
  const p = withData(t, 600);
  makeDatabase(p.at('other.db'), { rows: 600 });
  const good = await craftSet(p, daysAgo(0.5), { sources: ['agentdb.db', 'other.db'] });
  const sound = fs.readFileSync(p.at('agentdb.db'));
  for (const name of ['agentdb.db', 'other.db']) breakDatabase(p.at(name));
  assert.equal((await backup.createBackup({ root: p.root })).code, 'SOURCE_DAMAGED');
  fs.writeFileSync(p.at('agentdb.db'), sound);
  const f = finding(await check(p), 'SOURCE_WAS_DAMAGED');
  assert.equal(f.severity, 'critical');
  assert.ok(f.remedy.includes(`restore ${good} --database 'other.db'`) && !f.remedy.includes('agentdb.db'), f.remedy);
  fs.copyFileSync(copyOf(p.backups, good, 'other.db'), p.at('other.db'));
  const mended = finding(await check(p), 'SOURCE_WAS_DAMAGED');
  assert.equal(mended.severity, 'warning');
  assert.match(mended.remedy, /`aqe-backup create [^`]*`.*`aqe-backup delete /);
  assert.doesNotMatch(mended.remedy, /aqe-backup restore/);
});

test('a quick check, which does not know whether the database is sound now, tells to look before anything is restored', async (t) => {
  const p = withData(t, 600);
  await craftSet(p, daysAgo(0.5));
  const sound = fs.readFileSync(p.at('agentdb.db'));
  breakDatabase(p.at('agentdb.db'));
  await backup.createBackup({ root: p.root });
  fs.writeFileSync(p.at('agentdb.db'), sound);
  const f = finding(await check(p, { quick: true }), 'SOURCE_WAS_DAMAGED');
  assert.deepEqual([f.severity, /aqe-backup check/.test(f.remedy), /aqe-backup restore/.test(f.remedy)], ['critical', true, false], f.remedy);
});

test('a database that could not be checked, or has become empty, is not sound: its marked backup stays critical', async (t) => {
  const p = withData(t, 600);
  const good = await craftSet(p, daysAgo(0.5));
  const sound = fs.readFileSync(p.at('agentdb.db'));
  breakDatabase(p.at('agentdb.db'));
  await backup.createBackup({ root: p.root });
  fs.truncateSync(p.at('agentdb.db'), 0);
  let h = await check(p);
  assert.deepEqual(said(h), ['critical SOURCE_WAS_DAMAGED', 'critical ROWS_LOST']);
  assert.ok(finding(h, 'SOURCE_WAS_DAMAGED').remedy.includes(`restore ${good} --database 'agentdb.db'`));

  fs.writeFileSync(p.at('agentdb.db'), sound);
  withDatabase(p.at('agentdb.db'), (db) => {
    db.unsafeMode();
    db.exec("CREATE TABLE c(x TEXT); CREATE INDEX ci ON c(x); INSERT INTO c VALUES ('a'), ('b'); PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE INDEX ci ON c(x COLLATE nobody_has_this)' WHERE name = 'ci'");
  });
  h = await check(p);
  assert.deepEqual(said(h), ['critical SOURCE_WAS_DAMAGED', 'warning DATABASE_NOT_CHECKED']);
  assert.doesNotMatch(finding(h, 'SOURCE_WAS_DAMAGED').remedy, /aqe-backup restore/);
});

test('a missing database is to come back from the newest backup that is good, and not from one older than 30 days', async (t) => {
  const p = withData(t, 40);
  makeDatabase(p.at('other.db'));
  makeDatabase(p.at('forgotten.db'));
  await craftSet(p, daysAgo(31), { sources: ['agentdb.db', 'forgotten.db'] });
  await craftSet(p, daysAgo(-2), { sources: ['agentdb.db', 'forgotten.db'] });
  const good = await craftSet(p, daysAgo(29), { sources: ['agentdb.db', 'other.db'] });
  const bad = await craftSet(p, daysAgo(1), { sources: ['agentdb.db', 'other.db'] });
  flip(copyOf(p.backups, bad, 'other.db'), 5000);
  await craftSet(p, daysAgo(0.5));
  for (const name of ['other.db', 'forgotten.db']) fs.rmSync(p.at(name));
  const missing = (await check(p)).findings.filter((f) => f.code === 'DATABASE_MISSING');
  assert.deepEqual(missing.map((f) => f.subject), ['other.db']);
  assert.ok(missing[0]!.remedy.includes(`restore ${good} --database 'other.db'`), missing[0]!.remedy);
  const [, command] = /`aqe-backup (restore [^`]*)`/.exec(missing[0]!.remedy)!;
  const run = await exec('sh', ['-c', `"${process.execPath}" "${bin}" ${command} --force`], { cwd: os.tmpdir() });
  assert.equal(run.status, 0, run.stderr);
  assert.ok(fs.existsSync(p.at('other.db')) && !(await check(p)).findings.some((f) => f.code === 'DATABASE_MISSING'));
});

test('of a damaged backup with a sound archive it is said that a restore takes that; of one whose archive is damaged it is not', async (t) => {
  const { p, ts } = await withBackup(t, { compress: true });
  flip(copyOf(p.backups, ts, 'agentdb.db'), 5000);
  assert.match(finding(await check(p), 'BACKUP_DAMAGED').remedy, /archive is sound.* a restore of it takes/);
  flip(path.join(p.backups, `databases-backup-${ts}.tar.gz`), 200);
  assert.doesNotMatch(finding(await check(p), 'BACKUP_DAMAGED').remedy, /archive is sound/);
});

test('a database without a table is empty though a view is left, and the metrics count it as critical', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 1, after: 'CREATE VIEW one AS SELECT 1' });
  await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DROP TABLE episodes; DROP TABLE patterns'));
  assert.deepEqual(said(await check(p)), ['critical ROWS_LOST']);
  const file = path.join(tempFolder(t), 'm.prom');
  assert.equal((await p.run('check', '--prometheus', file)).status, 1);
  const samples = parseMetrics(fs.readFileSync(file, 'utf8'));
  assert.deepEqual(['critical', 'warning'].map((severity) => value(samples, 'findings', { code: 'ROWS_LOST', severity })), [1, 0]);
});

test('a live table that lost most of its rows is a warning; so is the backup that was made of it', async (t) => {
  const p = withData(t, 300);
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes WHERE id > 160'));
  assert.deepEqual(said(await check(p)), [], 'less than half is gone');
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes WHERE id > 20; DROP TABLE patterns'));
  const h = await check(p);
  assert.deepEqual(said(h), ['warning ROWS_LOST', 'warning ROWS_LOST']);
  assert.deepEqual(h.findings.map((f) => f.message).sort(), [
    `agentdb.db: table episodes has 20 rows, and had 300 in backup ${made.timestamp}`,
    `agentdb.db: table patterns has 0 rows, and had 300 in backup ${made.timestamp}`,
  ]);
  assert.deepEqual(said(await check(p, { quick: true })), []);
  await backup.createBackup({ root: p.root });
  for (const quick of [false, true]) {
    const after = await check(p, { quick });
    assert.deepEqual(said(after), ['warning BACKUP_SHRUNK']);
    assert.match(finding(after, 'BACKUP_SHRUNK').remedy, new RegExp(`compare ${made.timestamp}`));
  }
  assert.equal((await p.run('check', '--strict')).status, 1);
});

test('after a loss of rows is restored, what the restore saved does not speak of a loss', async (t) => {
  const p = withData(t, 400);
  const good = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  await backup.createBackup({ root: p.root });
  const restored = await backup.restoreBackup(good.timestamp, { root: p.root });
  assert.equal(restored.success, true, restored.error);
  await backup.createBackup({ root: p.root });
  assert.deepEqual(said(await check(p)), []);
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes WHERE id > 30'));
  const second = await backup.restoreBackup(good.timestamp, { root: p.root });
  assert.equal(second.success, true, second.error);
  assert.deepEqual(said(await check(p)), []);
});

test('a small table may be emptied', async (t) => {
  const { p } = await withBackup(t);
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes; DELETE FROM patterns'));
  assert.deepEqual(said(await check(p)), []);
});

// Room

test('the size limit: a warning from 80 %, critical above it', async (t) => {
  const { p } = await withBackup(t);
  const { totalSize } = await backup.storageUsage({ root: p.root });
  const at = async (maxSizeBytes: number): Promise<string[]> => said(await check(p, { maxSizeBytes }));
  assert.deepEqual(await at(Math.floor(totalSize / 0.8) + 2), []);
  assert.deepEqual(await at(Math.floor(totalSize / 0.8)), ['warning STORAGE_NEARLY_FULL']);
  assert.deepEqual(await at(totalSize), ['warning STORAGE_NEARLY_FULL']);
  assert.deepEqual(await at(totalSize - 1), ['critical STORAGE_FULL']);
});

test('far beyond the limit, sizes are named in units that can be read, and no percentage', async (t) => {
  const { p } = await withBackup(t);
  for (const [limit, percent] of [['1', false], ['10KB', false], ['1GB', true]] as const) {
    const run = await p.run('check', '--max-size', limit);
    assert.equal(/\d %/.test(run.stdout), percent, run.stdout);
  }
  const { message } = finding(await check(p, { maxSizeBytes: 1 }), 'STORAGE_FULL');
  assert.match(message, /^the backups take \d+\.\d [KM]B, and 1 B are allowed in /);
  const { totalSize } = await backup.storageUsage({ root: p.root });
  assert.match(finding(await check(p, { maxSizeBytes: totalSize }), 'STORAGE_NEARLY_FULL').message, /^the backups take \d+\.\d [KM]B, 100 % of the \d+\.\d [KM]B that are allowed in /);
});

test('too little free space for the next backup is critical, before the backup fails', async (t) => {
  const { p } = await withBackup(t);
  const { free } = await backup.storageUsage({ root: p.root });
  // Not a byte of it is on disk, but a backup would have to write it all.
  const big = p.at('sparse.db');
  fs.writeFileSync(big, 'plain');
  try {
    fs.truncateSync(big, free);
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'EFBIG') return t.skip('this file system has no files of that size');
    throw e;
  }
  const h = await check(p, { quick: true });
  assert.deepEqual(said(h), ['critical NO_VERIFIED_BACKUP', 'critical NO_SPACE']);
  assert.ok(h.nextBackupSize > h.free);
  assert.equal((await backup.createBackup({ root: p.root })).code, 'NO_SPACE');
  assert.match((await p.run('check', '--quick')).stdout, /the next backup needs up to/);
});

// What dead runs leave

/** A process that has locked the backups folder, as every run does that changes it. */
async function lockHolder(t: Context, p: Project): Promise<ChildProcess> {
  const child = spawn('flock', ['-x', path.join(p.backups, '.lock'), 'sh', '-c', 'echo held; cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const end = finished(child);
  t.after(async () => {
    child.stdin?.end();
    await end;
  });
  await new Promise<void>((resolve) => child.stdout?.once('data', () => resolve()));
  return child;
}

test('what a dead run left is found and recover removes it; what a living one has made is not', async (t) => {
  if (!(await hasTool('flock'))) return t.skip('no flock here');
  const { p } = await withBackup(t);
  const before = sets(p.backups);
  const leave = (): void => {
    for (const name of ['.staging-20200101-000000', '.removing-20200101-000001', '.trimming-20200101-000002', '.restore']) fs.mkdirSync(path.join(p.backups, name));
  };
  leave();
  for (const quick of [false, true]) {
    const h = await check(p, { quick });
    assert.deepEqual(said(h), ['warning LEFTOVERS']);
    for (const name of ['.staging-', '.removing-', '.trimming-', '.restore']) assert.ok(h.findings[0]!.message.includes(name), name);
    assert.match(h.findings[0]!.remedy, /recover/);
  }
  const living = await lockHolder(t, p);
  assert.deepEqual(said(await check(p, { lockTimeoutMs: 0 })), []);
  living.stdin?.end();
  await new Promise((resolve) => living.once('close', resolve));
  await backup.recover({ root: p.root });
  assert.deepEqual(said(await check(p)), []);
  assert.deepEqual(sets(p.backups), before);
});

test('a restore that died is critical, and its remedy is recover', async (t) => {
  if (!(await hasTool('flock'))) return t.skip('no flock here');
  const { p } = await withBackup(t);
  fs.writeFileSync(path.join(p.backups, '.restore-intent.json'), '{}');
  fs.mkdirSync(path.join(p.backups, '.restore'));
  const h = await check(p);
  assert.deepEqual(said(h), ['critical RESTORE_PENDING']);
  assert.match(h.findings[0]!.remedy, /`aqe-backup recover --root/);
  await lockHolder(t, p);
  assert.deepEqual(said(await check(p)), [], 'a restore is at work');
});

// Live databases

test('a database that is busy or needs an extension could not be checked: a warning, never damage', async (t) => {
  const { p } = await withBackup(t);
  const busy = await holder(t, p.at('agentdb.db'), 'BEGIN EXCLUSIVE');
  const h = await check(p, { busyTimeoutMs: 50 });
  assert.deepEqual(said(h), ['warning DATABASE_NOT_CHECKED']);
  assert.match(h.findings[0]!.message, /agentdb\.db could not be checked: .*busy/);
  assert.equal((await p.run('check', '--busy-timeout', '50', '--strict')).status, 1);
  const shown = await p.run('check', '--busy-timeout', '50');
  assert.equal(shown.status, 0);
  assert.match(shown.stdout, /^No trouble found, but not everything could be checked, 1 warning\n/);
  assert.deepEqual(said(await check(p, { busyTimeoutMs: 50, quick: true })), []);
  await busy.end();
  assert.deepEqual(said(await check(p)), []);

  withDatabase(p.at('agentdb.db'), (db) => {
    db.unsafeMode();
    db.exec("CREATE TABLE c(x TEXT); CREATE INDEX ci ON c(x); INSERT INTO c VALUES ('a'), ('b'); PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE INDEX ci ON c(x COLLATE nobody_has_this)' WHERE name = 'ci'");
  });
  assert.deepEqual(said(await check(p)), ['warning DATABASE_NOT_CHECKED']);
});

test('a damaged database is critical and exit 4, and its remedy is the last good backup', async (t) => {
  const { p, ts } = await withBackup(t);
  const fd = fs.openSync(p.at('agentdb.db'), 'r+');
  fs.writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 2 * 4096);
  fs.closeSync(fd);
  const h = await check(p);
  assert.deepEqual(said(h), ['critical SOURCE_DAMAGED']);
  assert.ok(h.findings[0]!.remedy.includes(`aqe-backup restore ${ts}`));
  assert.deepEqual(said(await check(p, { quick: true })), []);
});

test('a file that was a database and is none any more is damaged; one that never was is not', async (t) => {
  const { p } = await withBackup(t);
  fs.writeFileSync(p.at('plain.db'), 'never one');
  await backup.createBackup({ root: p.root });
  assert.deepEqual(said(await check(p)), []);
  fs.writeFileSync(p.at('agentdb.db'), 'not any more');
  const h = await check(p);
  assert.deepEqual(said(h), ['critical SOURCE_DAMAGED']);
  assert.match(h.findings[0]!.message, /it was an SQLite database in backup/);
});

// Other processes

const elsewhere = linux ? undefined : 'Linux tells what processes have open';
/** What counts here: the SQLite of whoever holds the database may be old. */
const odd = (h: backup.Health): string[] => h.findings.filter((f) => f.code !== 'OLD_SQLITE').map((f) => `${f.severity} ${f.code}`);

/** A process that has `file` open through better-sqlite3, as `open` says, and waits. `open` is a script with `args`. */
async function user(t: Context, open: string, args: string[]): Promise<Companion> {
  const other = companion(t, `${open}\nconsole.log('open'); await new Promise((r) => process.stdin.on('data', () => {}).on('end', r)); keep.forEach((d) => d.close());`, args);
  assert.equal(await other.line(), 'open');
  return other;
}
const connect = (mode: string): string => `const db = new Database(args[0]); db.pragma('journal_mode = ${mode}'); db.exec("INSERT INTO patterns VALUES ('theirs ' || random(), 'x')"); const keep = [db];`;

for (const mode of ['wal', 'delete'] as const) {
  test(`a process that uses a database as it should is no finding (${mode})`, { skip: elsewhere }, async (t) => {
    const { p } = await withBackup(t);
    const other = await user(t, connect(mode), [p.at('agentdb.db')]);
    const second = await user(t, `${connect(mode)} keep.push(new Database(args[0])); keep[1].prepare('SELECT count(*) FROM episodes').get();`, [p.at('agentdb.db')]);
    const h = await check(p);
    assert.deepEqual(said(h), []);
    assert.ok((h.processes?.using ?? 0) >= 2);
    await other.end();
    await second.end();
    assert.deepEqual(said(await check(p)), []);
    assert.equal((await p.json('check')).document.processes.using, 1, 'this very process, which keeps descriptors since it looked itself');
  });
}

test('a process that holds a removed -wal is critical, until it ends', { skip: elsewhere }, async (t) => {
  const { p } = await withBackup(t);
  const file = p.at('agentdb.db');
  const other = await user(t, connect('wal'), [file]);
  fs.rmSync(`${file}-wal`);
  const before = fs.readdirSync(p.root);
  for (const quick of [true, false]) {
    const h = await check(p, { quick });
    assert.deepEqual(odd(h), quick ? ['critical NAMELESS_WAL'] : ['critical NAMELESS_WAL', 'warning DATABASE_NOT_CHECKED']);
    const f = finding(h, 'NAMELESS_WAL');
    assert.ok(f.message.includes(`process ${other.child.pid} (`) && f.message.includes(`${file}-wal`), f.message);
    // The remedy saves what nobody else can see any more.
    const rescue = /`(cp \/proc\/[^`]*)`/.exec(f.remedy)?.[1];
    const run = await exec('sh', ['-c', rescue ?? 'false'], { cwd: tempFolder(t) });
    assert.equal(run.status, 0, run.stderr);
  }
  assert.deepEqual(fs.readdirSync(p.root), before, 'no new -wal took the place of the removed one');
  await other.end();
  fs.rmSync(`${file}-shm`, { force: true });
  assert.deepEqual(said(await check(p)), []);
});

test('the same, seen from the process itself through the API, and with python', { skip: elsewhere }, async (t) => {
  const { p } = await withBackup(t);
  const file = p.at('agentdb.db');
  const app = new Database(file);
  try {
    app.pragma('journal_mode = wal');
    addRows(app, 1000, 1);
    assert.deepEqual(said(await backup.checkHealth({ root: p.root })), [], 'all is well while the -wal is there');
    fs.rmSync(`${file}-wal`);
    fs.rmSync(`${file}-shm`);
    const h = await backup.checkHealth({ root: p.root });
    assert.ok(finding(h, 'NAMELESS_WAL').message.includes(`process ${process.pid} (`));
    assert.match(finding(h, 'NAMELESS_WAL').message, /-wal and .*-shm/);
  } finally {
    app.close();
  }
  assert.deepEqual(said(await backup.checkHealth({ root: p.root })), []);

  if (!(await hasTool('python3'))) return;
  const python = pythonUser(t, file);
  assert.match(await python.version, /^3\./);
  fs.rmSync(`${file}-wal`);
  assert.ok(finding(await check(p), 'NAMELESS_WAL').message.includes('python'));
});

/** Python with the database open in WAL mode; resolves with its SQLite's version. */
function pythonUser(t: Context, file: string): { child: ChildProcess; version: Promise<string> } {
  const script = `import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=10)
c.execute('PRAGMA journal_mode = wal'); c.execute("INSERT INTO patterns VALUES ('python', 'x')"); c.commit()
print(sqlite3.sqlite_version, flush=True); sys.stdin.read()
c.execute("DELETE FROM patterns WHERE id = 'python'"); c.commit(); c.close()`;
  const child = spawn('python3', ['-c', script, file], { env: cleanEnv(), stdio: ['pipe', 'pipe', 'pipe'] });
  const end = finished(child);
  t.after(async () => {
    child.stdin?.end();
    await end;
  });
  return { child, version: new Promise((resolve, reject) => (child.stdout?.once('data', (b: Buffer) => resolve(b.toString().trim())), child.once('close', () => reject(new Error('python has ended'))))) };
}

test('an SQLite with the WAL-reset bug is a warning that names library, version and process; one without is none', { skip: elsewhere }, async (t) => {
  if (!(await hasTool('python3'))) return t.skip('no python3 here');
  const { p } = await withBackup(t);
  const python = pythonUser(t, p.at('agentdb.db'));
  const version = await python.version;
  const [, minor = 0, patch = 0] = version.split('.').map(Number);
  const corrected = minor > 51 || (minor === 51 && patch >= 3) || (minor === 50 && patch >= 7) || (minor === 44 && patch >= 6);
  const h = await check(p);
  if (corrected) return assert.deepEqual(said(h), []);
  assert.deepEqual(said(h), ['warning OLD_SQLITE']);
  const { message, subject, remedy } = h.findings[0]!;
  assert.ok(message.includes(`SQLite ${version} in ${subject}`) && message.includes(`process ${python.child.pid} (python`) && message.includes('agentdb.db'), message);
  assert.match(remedy, /3\.51\.3/);
  assert.ok(fs.existsSync(subject));
});

test('an old SQLite is none of our business with a rollback journal', { skip: elsewhere }, async (t) => {
  if (!(await hasTool('python3'))) return t.skip('no python3 here');
  const { p } = await withBackup(t);
  const child = spawn('python3', ['-c', `import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT count(*) FROM patterns').fetchone(); print('open', flush=True); sys.stdin.read()`, p.at('agentdb.db')], { stdio: ['pipe', 'pipe', 'inherit'] });
  const end = finished(child);
  t.after(async () => {
    child.stdin.end();
    await end;
  });
  await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
  assert.deepEqual(said(await check(p)), []);
});

test('a database that was removed or replaced under a process is critical', { skip: elsewhere }, async (t) => {
  const { p } = await withBackup(t);
  const file = p.at('agentdb.db');
  const other = await user(t, connect('delete'), [file]);
  fs.copyFileSync(file, `${file}.new`);
  fs.renameSync(`${file}.new`, file);
  const h = await check(p, { quick: true });
  assert.deepEqual(odd(h), ['critical NAMELESS_DATABASE']);
  assert.ok(h.findings[0]!.message.includes(`process ${other.child.pid} (`));
  // A reader loses nothing.
  const fd = fs.openSync(file, 'r');
  try {
    await other.end();
    fs.copyFileSync(file, `${file}.new`);
    fs.renameSync(`${file}.new`, file);
    assert.deepEqual(said(await check(p)), []);
  } finally {
    fs.closeSync(fd);
  }
});

test('a process that reaches the database by another name has another -wal: critical', { skip: elsewhere }, async (t) => {
  const { p } = await withBackup(t);
  fs.mkdirSync(p.at('other'));
  fs.linkSync(p.at('agentdb.db'), p.at('other/alias.db'));
  const other = await user(t, connect('wal'), [p.at('other/alias.db')]);
  const h = await check(p);
  assert.deepEqual(odd(h), ['critical FOREIGN_WAL', 'warning DATABASE_NOT_CHECKED']);
  assert.ok(finding(h, 'FOREIGN_WAL').message.includes(p.at('other/alias.db-wal')));
  await other.end();
  assert.deepEqual(said(await check(p)), []);
});

test('the same through another mount of the folder is no finding, and a removed -wal is found there too', { skip: elsewhere }, async (t) => {
  const { p } = await withBackup(t);
  const place = tempFolder(t);
  const script = `mount --bind "$1" "$2" && exec "$3" -e 'const D = require(process.argv[1]); const db = new D(process.argv[2]); db.pragma("journal_mode = wal"); db.exec("DELETE FROM patterns WHERE id = 1"); db.exec("INSERT INTO patterns VALUES (1, 2)"); console.log("open"); process.stdin.on("data", () => {}).on("end", () => db.close())' "$4" "$2/agentdb.db"`;
  const child = spawn('unshare', ['-rm', 'sh', '-c', script, 'sh', p.root, place, process.execPath, path.join(packageRoot, 'node_modules', 'better-sqlite3')], { stdio: ['pipe', 'pipe', 'pipe'] });
  const end = finished(child);
  t.after(async () => {
    child.stdin.end();
    await end;
  });
  const opened = await Promise.race([new Promise<boolean>((resolve) => child.stdout.once('data', () => resolve(true))), end.then((run) => (assert.match(run.stderr, /unshare|mount/), false))]);
  if (!opened) return t.skip('no mount namespaces here');
  assert.deepEqual(said(await check(p)), []);
  assert.equal((await p.json('check')).document.processes.using, 2, 'that one, and this one, which keeps descriptors since it looked itself');
  fs.rmSync(p.at('agentdb.db-wal'));
  assert.match(finding(await check(p), 'NAMELESS_WAL').message, new RegExp(`${place}/agentdb.db-wal`));
});

/** A second copy of better-sqlite3's library: another file, so another SQLite. */
function secondLibrary(t: Context): string {
  const copy = path.join(tempFolder(t), 'second_sqlite3.node');
  fs.copyFileSync(path.join(packageRoot, 'node_modules', 'better-sqlite3', 'build', 'Release', 'better_sqlite3.node'), copy);
  return copy;
}

test('two SQLite libraries on one database in one process: critical where it shows (WAL), a warning where it may be', { skip: elsewhere }, async (t) => {
  const { p } = await withBackup(t);
  const library = secondLibrary(t);
  const both = (mode: string): string => `${connect(mode)} keep.push(new Database(args[0], { nativeBinding: args[1] })); keep[1].prepare('SELECT count(*) FROM episodes').get();`;
  const wal = await user(t, both('wal'), [p.at('agentdb.db'), library]);
  const h = await check(p);
  assert.deepEqual(said(h), ['critical TWO_SQLITE_LIBRARIES']);
  const { message } = h.findings[0]!;
  assert.ok(message.includes(library) && message.includes('better_sqlite3.node') && message.includes(`process ${wal.child.pid} (`) && /SQLite 3\.\d+\.\d+/.test(message), message);
  wal.child.kill('SIGKILL');
  await new Promise((resolve) => wal.child.once('close', resolve));

  withDatabase(p.at('agentdb.db'), (db) => db.pragma('journal_mode = delete'));
  const rollback = await user(t, both('delete'), [p.at('agentdb.db'), library]);
  assert.deepEqual(said(await check(p)), ['warning SQLITE_LOADED_TWICE']);
  rollback.child.kill('SIGKILL');
  await new Promise((resolve) => rollback.child.once('close', resolve));
  assert.deepEqual(said(await check(p)), []);
});

test('a second library that is loaded and has not opened the database is no finding', { skip: elsewhere }, async (t) => {
  for (const mode of ['wal', 'delete']) {
    const { p } = await withBackup(t);
    const own = path.join(tempFolder(t), 'own.db');
    await user(t, `${connect(mode)} keep.push(new Database(args[2], { nativeBinding: args[1] })); keep[1].exec('CREATE TABLE x(y)');`, [p.at('agentdb.db'), secondLibrary(t), own]);
    assert.deepEqual(said(await check(p)), [], mode);
  }
});

test('our own library beside another one is no finding, nor are the descriptors that it keeps', { skip: elsewhere }, async (t) => {
  const p = withData(t, 40);
  withDatabase(p.at('agentdb.db'), (db) => db.pragma('journal_mode = wal'));
  const daemon = companion(
    t,
    `const root = args[0], file = args[1];
     let app = new Database(file); app.exec("INSERT INTO patterns VALUES ('a', 'x')");
     let made = await backup.createBackup({ root });
     app.close();
     console.log(made.success + ' ' + fs.existsSync(file + '-wal'));
     let next; process.stdin.on('data', () => next()).on('end', () => process.exit(0));
     await new Promise((r) => { next = r; });
     app = new Database(file); app.exec("INSERT INTO patterns VALUES ('b', 'x')");
     await backup.createBackup({ root });
     const own = await backup.checkHealth({ root });
     console.log(JSON.stringify(own.findings));
     await new Promise((r) => { next = r; });`,
    [p.root, p.at('agentdb.db')],
  );
  assert.equal(await daemon.line(), 'true false', 'the application has removed its -wal, which the daemon’s kept descriptors still name');
  assert.deepEqual(said(await check(p)), []);
  daemon.send('go');
  assert.equal(await daemon.line(), '[]');
  const h = await check(p);
  assert.deepEqual(said(h), []);
  assert.ok((h.processes?.using ?? 0) >= 1);
  daemon.child.kill('SIGKILL');
});

test('processes of other accounts that cannot be looked at are counted, and said', { skip: elsewhere }, async (t) => {
  if (!isRoot) return t.skip('needs another account');
  const p = withData(t, 40);
  for (const dir of [path.dirname(p.root), p.root]) fs.chownSync(dir, nobody, nobody);
  fs.chownSync(p.at('agentdb.db'), nobody, nobody);
  const folder = publicPackage(t);
  const run = await exec(process.execPath, [path.join(folder, 'bin', 'aqe-backup.js'), 'check', '--json'], { cwd: p.root, uid: nobody, gid: nobody, env: cleanEnv({ HOME: '/' }) });
  const document = JSON.parse(run.stdout) as backup.Health;
  assert.ok(document.processes!.unreadable > 0, run.stdout);
  assert.ok(document.notes.some((n) => n.startsWith(`${document.processes!.unreadable} process(es)`)));
  assert.equal(run.status, 1);
});

// Nothing is touched

test('no lock is taken: while another run works in the folder, the check answers at once', async (t) => {
  if (!(await hasTool('flock'))) return t.skip('no flock here');
  const { p } = await withBackup(t);
  await lockHolder(t, p);
  assert.deepEqual(said(await check(p, { lockTimeoutMs: 0 })), []);
});

test('a check that finds nothing wrong and one that looks at processes keep no more descriptors than the last one', async (t) => {
  const { p } = await withBackup(t);
  const app = new Database(p.at('agentdb.db'));
  t.after(() => void app.close());
  app.pragma('journal_mode = wal');
  addRows(app, 1000, 1);
  const look = (): Promise<backup.Health> => backup.checkHealth({ root: p.root });
  for (let i = 0; i < 3; i++) await look();
  const before = openDescriptors();
  for (let i = 0; i < 20; i++) assert.deepEqual(said(await look()), []);
  assert.ok(openDescriptors() <= before + 1, `${before} descriptors became ${openDescriptors()}`);
  if (linux) {
    app.exec("BEGIN IMMEDIATE; INSERT INTO patterns VALUES ('mine', 'x')");
    const locks = (): string[] => ['agentdb.db', 'agentdb.db-shm'].flatMap((f) => ownLocks(p.at(f)));
    const held = locks();
    assert.ok(held.length > 0);
    await look();
    assert.deepEqual(locks(), held);
    app.exec('COMMIT');
  }
});

// Prometheus

interface Sample { name: string; labels: Record<string, string>; value: number }

/** Reads the text format, strictly: a metric's HELP, TYPE and samples together, each metric and each sample once. */
function parseMetrics(text: string): Sample[] {
  assert.ok(text.endsWith('\n') && !text.includes('\r'), 'lines end with a line feed');
  const samples: Sample[] = [];
  const seen = new Set<string>();
  let current = '';
  let typed = true;
  for (const line of text.slice(0, -1).split('\n')) {
    const help = /^# HELP ([a-z_]+) ([^\\]+)$/.exec(line);
    const type = /^# TYPE ([a-z_]+) gauge$/.exec(line);
    if (help) {
      assert.ok(typed && !seen.has(help[1]!), line);
      current = help[1]!;
      seen.add(current);
      typed = false;
      continue;
    }
    if (type) {
      assert.ok(type[1] === current && !typed, line);
      typed = true;
      continue;
    }
    const sample = /^([a-z_]+)\{(.*)\} (-?\d+(?:\.\d+)?)$/.exec(line);
    assert.ok(sample && typed && sample[1] === current, line);
    const labels: Record<string, string> = {};
    let rest = sample[2]!;
    while (rest !== '') {
      const label = /^([a-z_]+)="((?:[^"\\]|\\["\\n])*)"(?:,|$)/.exec(rest);
      assert.ok(label && !(label[1]! in labels), line);
      labels[label[1]!] = label[2]!.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
      rest = rest.slice(label[0].length);
    }
    const key = `${current} ${JSON.stringify(Object.entries(labels).sort())}`;
    assert.ok(!seen.has(key), `twice: ${line}`);
    seen.add(key);
    samples.push({ name: current, labels, value: Number(sample[3]) });
  }
  assert.ok(typed);
  return samples;
}

/** The value of the one sample with this name and these labels. */
function value(samples: Sample[], name: string, labels: Record<string, string> = {}): number {
  const found = samples.filter((s) => s.name === `aqe_backup_${name}` && Object.entries(labels).every(([k, v]) => s.labels[k] === v));
  assert.equal(found.length, 1, `${name} ${JSON.stringify(labels)}`);
  return found[0]!.value;
}

test('metrics: well-formed, complete, whatever the names are, readable for all, and nothing else is left in the folder', async (t) => {
  const p = project(t, 'we"ird\\ro\not ß');
  makeDatabase(p.at('agentdb.db'), { journal: 'wal' });
  makeDatabase(p.at('.agentic-qe/a"b\\c.db'));
  await backup.createBackup({ root: p.root, databases: ['agentdb.db'], kind: 'manual' });
  const made = await backup.createBackup({ root: p.root, databases: ['agentdb.db'] });
  const folder = tempFolder(t);
  const file = path.join(folder, 'aqe-backup.prom');
  fs.writeFileSync(file, '# HELP aqe_backup_old old\n', { mode: 0o600 });
  const { status, document } = await p.json('check', '--max-size', '5GB', '--prometheus', file);
  assert.equal(status, 1);
  assert.deepEqual(fs.readdirSync(folder), ['aqe-backup.prom']);
  assert.equal(fs.statSync(file).mode & 0o777, 0o644);
  const samples = parseMetrics(fs.readFileSync(file, 'utf8'));
  assert.ok(samples.every((s) => s.name.startsWith('aqe_backup_') && s.labels.root === p.root));
  const momentMs = Date.parse(made.timestamp.replace(/(....)(..)(..)-(..)(..)(..)/, '$1-$2-$3T$4:$5:$6Z'));
  assert.deepEqual(
    [
      value(samples, 'check_success'), value(samples, 'healthy'), value(samples, 'findings', { code: 'NO_VERIFIED_BACKUP', severity: 'critical' }), value(samples, 'findings', { code: 'SOURCE_DAMAGED' }),
      value(samples, 'last_verified_timestamp_seconds', { database: 'agentdb.db' }), value(samples, 'last_verified_timestamp_seconds', { database: '.agentic-qe/a"b\\c.db' }),
      value(samples, 'sets', { kind: 'automated' }), value(samples, 'sets', { kind: 'manual' }), value(samples, 'sets', { kind: 'safety' }), value(samples, 'sets', { kind: 'archive' }),
      value(samples, 'damaged_sets'), value(samples, 'storage_limit_bytes'), value(samples, 'next_backup_bytes'),
    ],
    [1, 0, 1, 0, momentMs / 1000, 0, 1, 1, 0, 0, 0, 5e9, document.nextBackupSize],
  );
  assert.equal(['databases', 'archives', 'other'].reduce((sum, kind) => sum + value(samples, 'storage_bytes', { kind }), 0), document.totalSize);
  assert.ok(Math.abs(value(samples, 'check_timestamp_seconds') - Date.now() / 1000) < 60 && value(samples, 'free_bytes') > 0 && value(samples, 'check_duration_seconds') >= 0);
  if (linux) assert.ok(value(samples, 'processes', { state: 'examined' }) > 0);
});

test('metrics of two projects can lie in one folder: no sample is in both', async (t) => {
  const keys: string[] = [];
  for (let i = 0; i < 2; i++) {
    const { p } = await withBackup(t);
    assert.equal((await p.run('check', '--prometheus', 'here.prom')).status, 0);
    keys.push(...parseMetrics(fs.readFileSync(p.at('here.prom'), 'utf8')).map((s) => `${s.name}${JSON.stringify(s.labels)}`));
  }
  assert.equal(new Set(keys).size, keys.length);
});

test('a check that cannot be made says so in the metrics, and replaces the old ones', async (t) => {
  const p = project(t);
  const file = p.at('m.prom');
  for (const args of [[], ['--root', p.at('missing')]]) {
    fs.writeFileSync(file, '# HELP aqe_backup_healthy old\naqe_backup_healthy 1\n');
    assert.notEqual((await p.run('check', ...args, '--prometheus', file)).status, 0);
    const samples = parseMetrics(fs.readFileSync(file, 'utf8'));
    assert.deepEqual(samples.map((s) => [s.name, s.labels.root]), [['aqe_backup_check_success', args[1] ?? p.root], ['aqe_backup_check_timestamp_seconds', args[1] ?? p.root]]);
    assert.equal(value(samples, 'check_success'), 0);
  }
});

test('metrics that cannot be written fail the check, and do not hide what was found', async (t) => {
  const { p } = await withBackup(t);
  const nowhere = p.at('missing', 'm.prom');
  const well = await p.json('check', '--prometheus', nowhere);
  assert.deepEqual([well.status, well.document.ok, well.document.healthy], [1, false, true]);
  assert.ok(well.document.notes.some((n: string) => /metrics are not written/.test(n) && n.includes(p.at('missing'))));
  fs.truncateSync(copyOf(p.backups, well.document.newestBackup, 'agentdb.db'), 100);
  const ill = await p.run('check', '--prometheus', nowhere);
  assert.equal(ill.status, 4);
  assert.match(ill.stdout, /BACKUP_DAMAGED[^]*metrics are not written/);
  fs.mkdirSync(p.at('folder'));
  assert.equal((await p.run('check', '--prometheus', p.at('folder'))).status, 4);
  assert.deepEqual(fs.readdirSync(p.at('folder')), []);
  const failed = await p.json('check', '--database', 'none.db', '--prometheus', nowhere);
  assert.deepEqual([failed.status, failed.document.code], [10, 'NO_DATABASES']);
  assert.match(failed.document.error, /metrics are not written/);
});

test('--prometheus replaces only what check has written: no database, backup, device, link or other file', async (t) => {
  const p = withData(t, 40);
  const made = await backup.createBackup({ root: p.root, compress: false });
  const before = tree(p.root);
  fs.writeFileSync(p.at('notes.txt'), 'mine');
  fs.symlinkSync('nowhere', p.at('dangling'));
  fs.symlinkSync('notes.txt', p.at('link'));
  assert.equal((await exec('mkfifo', [p.at('fifo')])).status, 0);
  for (const target of ['agentdb.db', copyOf(p.backups, made.timestamp, 'agentdb.db'), 'notes.txt', 'dangling', 'link', 'fifo']) {
    const run = await p.run('check', '--prometheus', target);
    assert.equal(run.status, 1, `${target}: ${run.stdout}`);
    assert.match(run.stdout, /was not written by check/);
  }
  assert.equal(fs.readFileSync(p.at('notes.txt'), 'utf8'), 'mine');
  assert.deepEqual([fs.lstatSync(p.at('dangling')).isSymbolicLink(), fs.lstatSync(p.at('link')).isSymbolicLink(), fs.lstatSync(p.at('fifo')).isFIFO()], [true, true, true]);
  for (const [name, state] of Object.entries(before)) assert.equal(tree(p.root, (r) => r === 'fifo')[name], state, name);
  for (let i = 0; i < 2; i++) assert.equal((await p.run('check', '--prometheus', 'm.prom')).status, 0);
});
