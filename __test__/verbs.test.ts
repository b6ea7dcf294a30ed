// The verbs info, size, clean, delete and completions, and what list and unknown timestamps say.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertNoLeftovers, cleanEnv, codeOf, copyOf, craftSet, daysAgo, editMetadata, exec, flip, hasTool, makeDatabase, metadataPath, project, sets, stamp, withData, withDatabase, type Project } from './helpers/project';

interface Decision {
  timestamp: string;
  kind: string | null;
  decision: 'keep' | 'trim' | 'remove';
  freesBytes: number;
  reason: string;
}

async function left(p: Project): Promise<string[]> {
  return (await backup.listBackups({ root: p.root })).map((b) => b.timestamp);
}

async function clean(p: Project, ...args: string[]): Promise<{ removed: number; archivesRemoved: number; freedBytes: number; decisions: Decision[]; dryRun: boolean }> {
  const { status, document, stderr } = await p.json('clean', ...args);
  assert.equal(status, 0, stderr);
  return document as never;
}

// --- clean ----------------------------------------------------------------------------------------------------------

test('clean N keeps the newest N; without N it keeps 10', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 13; i++) await craftSet(p, daysAgo(20 - i));
  const ten = await p.run('clean');
  assert.deepEqual([ten.status, (await left(p)).length], [0, 10]);
  assert.match(ten.stdout, /^Removed 3 old backup\(s\)$/m);
  const five = await p.run('clean', '5');
  assert.match(five.stdout, /^Removed 5 old backup\(s\)$/m);
  const again = await p.run('clean', '5');
  assert.match(again.stdout, /^Removed 0 old backup\(s\)$/m);
  assertNoLeftovers(p.backups);
});

test('clean refuses what is no whole number from 1, with the reason, and removes nothing', async (t) => {
  const p = withData(t);
  await craftSet(p, daysAgo(20));
  await craftSet(p, daysAgo(10));
  for (const args of [['abc'], ['0'], ['-3'], ['1.5'], ['99999999999'], ['5', '6'], ['5', '--policy'], ['--environment', 'staging'], ['--policy', '--environment', 'moon'], ['']]) {
    const run = await p.run('clean', ...args);
    assert.equal(run.status, 2, args.join(' '));
    assert.ok(run.stderr.length > 20, args.join(' '));
  }
  for (const n of ['abc', '0', '-3', '1.5']) assert.match((await p.run('clean', n)).stderr, /whole number from 1/);
  assert.equal((await left(p)).length, 2);
});

const ages: [string[], number, number][] = [
  [[], 30, 7],
  [['--environment', 'development'], 30, 7],
  [['--environment', 'staging'], 60, 7],
  [['--environment', 'production'], 90, 7],
];
for (const [args, automated, safety] of ages) {
  test(`clean --policy ${args.join(' ')}: automated sets stay ${automated} days, safety sets ${safety}, manual ones for ever`, async (t) => {
    const p = withData(t);
    const kept: string[] = [];
    const gone: string[] = [];
    for (const days of [1, 6, 8, 29, 31, 59, 61, 89, 91, 400]) {
      (days <= automated ? kept : gone).push(await craftSet(p, daysAgo(days)));
      (days <= safety ? kept : gone).push(await craftSet(p, daysAgo(days + 0.01), { kind: 'safety' }));
      kept.push(await craftSet(p, daysAgo(days + 0.02), { kind: 'manual' }));
    }
    const planned = await clean(p, '--policy', ...args, '--dry-run');
    assert.equal((await left(p)).length, 30);
    assert.deepEqual(planned.decisions.filter((d) => d.decision === 'remove').map((d) => d.timestamp).sort(), [...gone].sort());
    const done = await clean(p, '--policy', ...args);
    assert.equal(done.removed, gone.length);
    assert.deepEqual((await left(p)).sort(), kept.sort());
    assert.equal((await clean(p, '--policy', ...args)).removed, 0);
  });
}

test('clean --policy: an archive outlives its set until it is 90 days old', async (t) => {
  const p = withData(t);
  const [recent, old, ancient] = [await craftSet(p, daysAgo(1)), await craftSet(p, daysAgo(40), { archive: true }), await craftSet(p, daysAgo(91), { archive: true })];
  const done = await clean(p, '--policy');
  assert.deepEqual(done.decisions.map((d) => [d.timestamp, d.decision]), [[recent, 'keep'], [old, 'trim'], [ancient, 'remove']]);
  assert.deepEqual((await backup.listBackups({ root: p.root, archives: true })).map((b) => [b.timestamp, b.archiveOnly]), [[recent, false], [old, true]]);
  assert.equal(await backup.verifyBackup(old, { root: p.root }), true);
});

test('clean keeps the archive of a manual set, though nothing else is left of it and it is old', async (t) => {
  const p = withData(t);
  await craftSet(p, daysAgo(1));
  const [manual, automated] = [await craftSet(p, daysAgo(200), { kind: 'manual', archive: true }), await craftSet(p, daysAgo(201), { archive: true })];
  for (const ts of [manual, automated]) for (const name of fs.readdirSync(p.backups)) if (name.includes(ts) && !name.includes('.tar.gz')) fs.rmSync(path.join(p.backups, name));
  const done = await clean(p, '--policy');
  assert.deepEqual([done.removed, done.archivesRemoved], [0, 1]);
  assert.deepEqual((await backup.listBackups({ root: p.root, archives: true })).map((b) => b.timestamp).includes(manual), true);
  assert.equal(done.decisions.find((d) => d.timestamp === manual)?.kind, 'manual');
});

test('clean keeps a set whose record can’t be read: it may be a manual one', async (t) => {
  const p = withData(t);
  const broken = await craftSet(p, daysAgo(300), { kind: 'manual' });
  fs.writeFileSync(metadataPath(p.backups, broken), '{');
  const future = await craftSet(p, daysAgo(299));
  editMetadata(p.backups, future, (m) => void (m.kind = 'weekly' as never));
  for (let i = 0; i < 4; i++) await craftSet(p, daysAgo(4 - i));
  for (const args of [['1'], ['--policy']]) {
    const { decisions } = await clean(p, ...args);
    for (const ts of [broken, future]) {
      const d = decisions.find((x) => x.timestamp === ts)!;
      assert.deepEqual([d.decision, d.kind], ['keep', null], JSON.stringify(d));
    }
  }
  assert.ok((await left(p)).includes(broken) && (await left(p)).includes(future));
});

test('clean --policy never removes the newest verified set of any database, however old', async (t) => {
  const p = withData(t);
  makeDatabase(p.at('.agentic-qe', 'memory.db'), { rows: 5 });
  const memory = await craftSet(p, daysAgo(80), { sources: ['.agentic-qe/memory.db'] });
  const unverified = await craftSet(p, daysAgo(50), { sources: ['.agentic-qe/memory.db'], verified: false });
  const agentdb = await craftSet(p, daysAgo(40));
  assert.deepEqual((await clean(p, '--policy')).decisions.map((d) => [d.timestamp, d.decision]), [[agentdb, 'keep'], [unverified, 'remove'], [memory, 'keep']]);
  assert.deepEqual(await left(p), [agentdb, memory]);
});

test('clean --policy removes nothing when there has been no backup for over 90 days: stopped backups or a wrong clock', async (t) => {
  const p = withData(t);
  const all = [await craftSet(p, daysAgo(91)), await craftSet(p, daysAgo(120)), await craftSet(p, daysAgo(2000), { archive: true })];
  const done = await clean(p, '--policy', '--environment', 'production');
  assert.equal(done.removed + done.archivesRemoved, 0);
  assert.match(done.decisions[2]!.reason, /clock|stopped/);
  assert.deepEqual(await left(p), all);
});

test('clean leaves sets from the future, and they push out none of the present', async (t) => {
  const p = withData(t);
  const future = await craftSet(p, daysAgo(-365));
  const present = await craftSet(p, daysAgo(1));
  for (const args of [['1'], ['--policy']]) await clean(p, ...args);
  assert.deepEqual(await left(p), [future, present]);
});

test('clean --dry-run shows every set with a reason, removes nothing, and is what the clean-up then does', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 12; i++) await craftSet(p, daysAgo(i * 11 + 0.1), { kind: ['automated', 'safety', 'manual'][i % 3]!, archive: i % 2 === 0 });
  for (const args of [['2'], ['--policy']]) {
    const before = sets(p.backups);
    const planned = await clean(p, ...args, '--dry-run');
    const shown = await p.run('clean', ...args, '--dry-run');
    assert.deepEqual(sets(p.backups), before);
    assert.equal(planned.dryRun, true);
    for (const d of planned.decisions) {
      assert.ok(d.reason.length > 5);
      assert.match(shown.stdout, new RegExp(`^${d.timestamp} .*\\b${d.decision}\\b.*${d.reason.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`, 'm'));
    }
    const size = () => fs.readdirSync(p.backups).filter((n) => /backup\.[0-9-]+$|gz$/.test(n)).reduce((sum, n) => sum + fs.statSync(path.join(p.backups, n)).size, 0);
    const full = size();
    const done = await clean(p, ...args);
    assert.deepEqual({ ...done, dryRun: true, durationMs: 0 }, { ...planned, durationMs: 0 });
    assert.equal(full - size(), done.freedBytes);
  }
});

test('clean --dry-run needs no right to write', async (t) => {
  const p = withData(t);
  await craftSet(p, daysAgo(2));
  const names = fs.readdirSync(p.backups);
  const run = await p.run('clean', '1', '--dry-run');
  assert.equal(run.status, 0);
  assert.deepEqual(fs.readdirSync(p.backups), names, 'a dry run made a file');
});

test('clean of a project without backups removes none and makes no folder', async (t) => {
  const p = withData(t);
  assert.deepEqual([(await clean(p)).removed, fs.existsSync(p.backups)], [0, false]);
});

test('a set that says it is verified and has rotted since shields no other: the last sound one stays', async (t) => {
  const p = withData(t);
  const sound = await craftSet(p, daysAgo(60));
  const rotten = [await craftSet(p, daysAgo(40)), await craftSet(p, daysAgo(2))];
  for (const ts of rotten) flip(copyOf(p.backups, ts, 'agentdb.db'), 5000);
  for (const args of [['1'], ['--policy']]) {
    const { decisions } = await clean(p, ...args);
    assert.equal(decisions.find((d) => d.timestamp === sound)?.decision, 'keep', JSON.stringify(decisions));
  }
  assert.equal(await backup.verifyBackup(sound, { root: p.root }), true);
});

test('a set of a newer format, which this version can’t restore, shields no other', async (t) => {
  const p = withData(t);
  const sound = await craftSet(p, daysAgo(60));
  const newer = await craftSet(p, daysAgo(2));
  editMetadata(p.backups, newer, (m) => void (m.format = 2));
  for (const args of [['1'], ['--policy']]) await clean(p, ...args);
  assert.ok((await left(p)).includes(sound));
  assert.equal((await backup.restoreBackup(sound, { root: p.root })).success, true);
});

test('a manual set whose record is lost, but for the one in its archive, stays', async (t) => {
  const p = withData(t);
  await craftSet(p, daysAgo(1));
  const manual = await craftSet(p, daysAgo(200), { kind: 'manual', archive: true });
  fs.rmSync(metadataPath(p.backups, manual));
  for (const args of [['1'], ['--policy']]) assert.equal((await clean(p, ...args)).decisions.find((d) => d.timestamp === manual)?.decision, 'keep');
  assert.ok((await left(p)).includes(manual));
});

// --- delete ---------------------------------------------------------------------------------------------------------

test('delete removes one set, its archive too, a manual one too, and no other', async (t) => {
  const p = withData(t);
  const old = await craftSet(p, daysAgo(5), { kind: 'manual', archive: true });
  const recent = await craftSet(p, daysAgo(1), { archive: true });
  const others = Object.keys(sets(p.backups)).filter((n) => !n.includes(old));
  const planned = await p.json('delete', old, '--dry-run');
  assert.deepEqual([planned.status, planned.document.dryRun, (await left(p)).length], [0, true, 2]);
  const done = await p.json('delete', old, '--force');
  assert.equal(done.status, 0, done.stderr);
  assert.deepEqual([done.document.timestamp, done.document.dryRun, done.document.freedBytes], [old, false, planned.document.freedBytes]);
  assert.deepEqual(Object.keys(sets(p.backups)).sort(), others.sort());
  assert.deepEqual(await left(p), [recent]);
  assertNoLeftovers(p.backups);
});

test('delete refuses the newest verified set of a database unless --even-newest says so', async (t) => {
  const p = withData(t);
  const only = await craftSet(p, daysAgo(5));
  await craftSet(p, daysAgo(1), { verified: false });
  const refused = await p.run('delete', only, '--force');
  assert.deepEqual([refused.status, (await left(p)).length], [1, 2]);
  assert.match(refused.stderr, /newest verified.*agentdb\.db.*--even-newest.*NEEDS_FORCE/s);
  assert.equal((await p.run('delete', only, '--force', '--even-newest')).status, 0);
  assert.equal((await left(p)).length, 1);
});

test('delete asks; without a terminal and without --force it refuses', async (t) => {
  const p = withData(t);
  const [old] = [await craftSet(p, daysAgo(5)), await craftSet(p, daysAgo(1))];
  const run = await p.run('delete', old);
  assert.deepEqual([run.status, (await left(p)).length], [1, 2]);
  assert.match(run.stderr, /--force/);
});

test('delete of a set that is not there: exit 10; of no timestamp: exit 2; nothing is removed, no folder is made', async (t) => {
  const p = withData(t);
  assert.equal((await p.run('delete', '20200101-000000', '--force')).status, 10);
  for (const args of [[], ['*', '--force'], ['../x', '--force'], ['20200101-000000', '20200101-000001', '--force']]) assert.equal((await p.run('delete', ...args)).status, 2, args.join(' '));
  assert.equal(fs.existsSync(p.backups), false);
});

// --- list, info, size -----------------------------------------------------------------------------------------------

test('list shows timestamp, age, kind, state, size and note of each set within 80 columns', async (t) => {
  const p = withData(t);
  const damaged = await craftSet(p, daysAgo(40));
  editMetadata(p.backups, damaged, (m) => void (m.databases[0]!.sqlite!.integrity = 'damaged'));
  const cut = await craftSet(p, daysAgo(3), { kind: 'manual' });
  fs.truncateSync(path.join(p.backups, `agentdb.db.backup.${cut}`), 10);
  const unverified = await craftSet(p, daysAgo(2), { kind: 'safety', verified: false });
  const shrunk = await craftSet(p, daysAgo(1.2));
  editMetadata(p.backups, shrunk, (m) => void Object.assign(m, { shrunk_since: damaged, label: '\u001b[5mn' }));
  const verified = await craftSet(p, new Date(Date.now() - 5 * 60_000), { archive: true });
  const legacy = await craftSet(p, daysAgo(100), { legacy: true });
  const archive = await craftSet(p, daysAgo(50), { archive: true });
  for (const name of fs.readdirSync(p.backups)) if (name.includes(archive) && !name.includes('.tar.gz')) fs.rmSync(path.join(p.backups, name));
  const { stdout } = await p.run('list');
  const line = (ts: string) => stdout.split('\n').find((l) => l.includes(ts)) ?? assert.fail(`${ts} is not in ${stdout}`);
  assert.match(line(verified), /5 min  automated  verified .* KB .* yes/);
  assert.match(line(shrunk), /28 h  automated  shrunk .*\\u\{1b\}\[5mn$/);
  assert.match(line(unverified), /2 d  safety +unverified/);
  assert.match(line(cut), /3 d  manual +incomplete/);
  assert.match(line(damaged), /40 d  automated +damaged/);
  assert.match(line(legacy), /100 d  automated +unverified/);
  assert.ok(stdout.indexOf('Archives only') < stdout.indexOf(archive), stdout);
  assert.match(stdout, /^Total backups: 6$/m);
  assert.ok(stdout.split('\n').every((l) => l.length <= 80), stdout);
  assert.doesNotMatch(stdout, /\u001b/);
});

test('list in a folder without backups says where it looked, and which project is above', async (t) => {
  const p = withData(t);
  await craftSet(p, daysAgo(1));
  fs.mkdirSync(p.at('src'));
  const run = await exec(process.execPath, [path.join(__dirname, '..', 'bin', 'aqe-backup.js'), 'list'], { cwd: p.at('src') });
  assert.equal(run.status, 0);
  assert.ok(run.stdout.includes(p.at('src', '.agentic-qe', 'backups')) && run.stdout.includes(`--root ${JSON.stringify(p.root)}`), run.stdout);
  assert.match(run.stdout, /^Total backups: 0$/m);
});

test('info tells who made a set, when, for what, and what is in it', async (t) => {
  const p = withData(t);
  const made = await backup.createSafetyBackup('upgrade to 2.0', { root: p.root });
  const run = await p.run('info', made.timestamp);
  assert.equal(run.status, 0, run.stderr);
  for (const part of [made.timestamp, 'safety', 'verified', 'upgrade to 2.0', 'agentdb.db', made.databases[0]!.sha256, 'episodes', 'UTF-8', 'pages of 4096 bytes']) assert.ok(run.stdout.includes(part), `${part} is not in\n${run.stdout}`);
  assert.match(run.stdout, /episodes +20/);
  const json = await p.json('info', made.timestamp);
  assert.deepEqual(json.document.backup, JSON.parse(JSON.stringify((await backup.listBackups({ root: p.root }))[0])));
  assert.equal((await p.run('info', '20200101-000000')).status, 10);
  assert.equal((await p.run('info')).status, 2);
});

test('info of an archive-only and of a legacy set', async (t) => {
  const p = withData(t);
  const [legacy, archive] = [await craftSet(p, daysAgo(3), { legacy: true }), await craftSet(p, daysAgo(2), { archive: true })];
  for (const name of fs.readdirSync(p.backups)) if (name.includes(archive) && !name.includes('.tar.gz')) fs.rmSync(path.join(p.backups, name));
  assert.match((await p.run('info', legacy)).stdout, /agentdb\.db\.backup/);
  assert.match((await p.run('info', archive)).stdout, /only the archive/);
});

test('size draws what each kind and each day use; the numbers are those of storageUsage and of the folder', async (t) => {
  const p = withData(t);
  await craftSet(p, daysAgo(3), { archive: true });
  await craftSet(p, daysAgo(2), { kind: 'safety' });
  await craftSet(p, daysAgo(2.001), { kind: 'manual' });
  const trimmed = await craftSet(p, daysAgo(9), { archive: true });
  for (const name of fs.readdirSync(p.backups)) if (name.includes(trimmed) && !name.includes('.tar.gz')) fs.rmSync(path.join(p.backups, name));
  const { document } = await p.json('size');
  const usage = JSON.parse(JSON.stringify(await backup.storageUsage({ root: p.root }))) as Record<string, unknown>;
  for (const key of Object.keys(usage)) if (key !== 'free') assert.deepEqual(document[key], usage[key], key);
  const files = fs.readdirSync(p.backups).map((n) => ({ n, size: fs.statSync(path.join(p.backups, n)).size }));
  assert.equal(document.totalSize, files.reduce((sum, f) => sum + f.size, 0));
  const ofDay = (date: Date) => files.filter((f) => f.n.includes(stamp(date).slice(0, 8)) && /backup\.[0-9-]+$|gz$/.test(f.n)).reduce((sum, f) => sum + f.size, 0);
  const days = document.byDay as { day: string; backups: number; bytes: number }[];
  assert.deepEqual(days.map((d) => d.day), [...days.map((d) => d.day)].sort());
  assert.equal(days[0]!.bytes, ofDay(daysAgo(9)));
  assert.deepEqual((document.byKind as { kind: string; backups: number }[]).map((k) => [k.kind, k.backups]), [['automated', 1], ['manual', 1], ['safety', 1]]);

  const drawn = await exec(process.execPath, [path.join(__dirname, '..', 'bin', 'aqe-backup.js'), 'size'], { cwd: p.root, env: cleanEnv({ LC_ALL: 'C.UTF-8' }) });
  const bar = (word: string) => (drawn.stdout.split('\n').find((l) => l.startsWith(word)) ?? '').match(/[█▏▎▍▌▋▊▉]+/)?.[0].length ?? 0;
  assert.ok(bar('automated') > bar('manual') && bar('manual') > 0, drawn.stdout);
  assert.ok(drawn.stdout.split('\n').every((l) => l.length <= 80), drawn.stdout);
  const plain = await exec(process.execPath, [path.join(__dirname, '..', 'bin', 'aqe-backup.js'), 'size'], { cwd: p.root, env: cleanEnv({ LC_ALL: 'C' }) });
  assert.match(plain.stdout, /^automated .*#{5}/m);
  assert.doesNotMatch(plain.stdout, /[^\x00-\x7f]/);
});

// --- create, restore ------------------------------------------------------------------------------------------------

test('create --keep all removes nothing; flags may be said twice, and the last one counts', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 12; i++) await craftSet(p, daysAgo(20 - i));
  const made = await p.json('create', '--keep', 'all', '--compress', '--no-compress', '--no-compress', '--json');
  assert.deepEqual([made.status, made.document.removed, made.document.compressed], [0, 0, false], made.stderr);
  assert.equal((await left(p)).length, 13);
  assert.match((await p.run('create', '--keep', 'some')).stderr, /whole number.*or all/);
});

test('restore without a terminal tells a wrong timestamp before it asks for --force', async (t) => {
  const p = withData(t);
  const ts = await craftSet(p, daysAgo(1));
  for (const [args, status] of [[['yesterday'], 2], [['20200101-000000'], 10], [[ts], 1]] as const) assert.equal((await p.run('restore', ...args)).status, status, args.join(' '));
});

test('the command without its native part says so in a line', async (t) => {
  const p = project(t);
  fs.mkdirSync(p.at('bin'));
  for (const file of ['bin/aqe-backup.js', 'index.js', 'package.json']) fs.copyFileSync(path.join(__dirname, '..', file), p.at(file));
  const run = await exec(process.execPath, [p.at('bin', 'aqe-backup.js'), 'list'], { cwd: p.root });
  assert.equal(run.status, 1);
  assert.match(run.stderr, /^aqe-backup: the native part for .* can't be loaded; install @agentic-qe\/backup again[^\n]*\n$/);
});

// --- suggestions, completions, help ---------------------------------------------------------------------------------

test('an unknown timestamp names the three nearest ones, in every verb that takes one', async (t) => {
  const p = withData(t);
  const [a, b, c] = [await craftSet(p, new Date('2025-01-10T12:00:00Z')), await craftSet(p, new Date('2025-01-16T11:59:00Z')), await craftSet(p, new Date('2025-01-17T00:00:00Z'))];
  const d = await craftSet(p, new Date('2024-01-01T00:00:00Z'));
  for (const args of [['restore', '20250116-120000', '--force'], ['info', '20250116-120000'], ['compare', '20250116-120000'], ['delete', '20250116-120000', '--force'], ['verify', '20250116-120000']]) {
    const run = await p.run(...args);
    assert.equal(run.status, 10, run.stderr);
    assert.ok(run.stderr.includes(`${b}, ${c}, ${a}`), run.stderr);
    assert.ok(!run.stderr.includes(d), run.stderr);
  }
  const api = await codeOf(backup.inspectBackup('20250116-120000', { root: p.root }));
  assert.ok(api.code === 'BACKUP_NOT_FOUND' && api.message.includes(b), api.message);
});

test('a verb or flag that is nearly right is suggested', async (t) => {
  const p = withData(t);
  for (const [args, hint] of [[['craete'], 'create'], [['create', '--compres'], '--compress'], [['clean', '--polcy'], '--policy']] as const) {
    const run = await p.run(...args);
    assert.deepEqual([run.status, run.stderr.includes(hint)], [2, true], run.stderr);
  }
});

test('completions know every verb, in every shell, and bash takes them', async (t) => {
  const p = withData(t);
  const verbs = ['create', 'restore', 'list', 'verify', 'clean', 'compare', 'info', 'size', 'check', 'delete', 'recover', 'exec'];
  for (const shell of ['bash', 'zsh', 'fish', 'elvish', 'powershell']) {
    const run = await p.run('completions', shell);
    assert.equal(run.status, 0, run.stderr);
    for (const verb of verbs) assert.ok(run.stdout.includes(verb), `${shell}: ${verb}`);
  }
  assert.equal((await p.run('completions', 'tcsh')).status, 2);
  if (!(await hasTool('bash'))) return t.skip('no bash here');
  const script = (await p.run('completions', 'bash')).stdout;
  const words = await exec('bash', ['-c', `${script}\nCOMP_WORDS=(aqe-backup cle) COMP_CWORD=1; _aqe__backup aqe-backup cle aqe-backup; echo "\${COMPREPLY[@]}"`]);
  assert.equal(words.stdout.trim(), 'clean', words.stderr);
});

test('help VERB says what VERB --help says, help what --help does', async (t) => {
  const p = project(t);
  for (const verb of [[], ['restore'], ['clean']]) {
    const [asked, usual] = [await p.run('help', ...verb), await p.run(...verb, '--help')];
    assert.deepEqual([asked.status, asked.stdout], [0, usual.stdout]);
    assert.match(asked.stdout, /^Usage: aqe-backup/m);
  }
  assert.equal((await p.run('help', 'restor')).status, 2);
});

test('the help of every verb has examples that the command understands, and fits 80 columns', async (t) => {
  const p = withData(t);
  const main = await p.run('--help');
  assert.equal(main.status, 0);
  const verbs = [...main.stdout.matchAll(/^  ([a-z]+)  /gm)].map((m) => m[1]!);
  for (const verb of ['create', 'restore', 'list', 'verify', 'clean', 'compare', 'info', 'size', 'check', 'delete', 'recover', 'exec', 'completions']) assert.ok(verbs.includes(verb), verb);
  for (const verb of verbs) {
    const { stdout, status } = await p.run(verb, '--help');
    assert.equal(status, 0);
    const examples = [...stdout.matchAll(/^  (aqe-backup .*?)(?:   .*)?$/gm)].map((m) => m[1]!);
    assert.ok(examples.length > 0, `${verb} shows no example`);
    for (const example of examples) assert.ok(example.startsWith(`aqe-backup ${verb}`), example);
    for (const line of stdout.split('\n')) assert.ok(line.length <= 120, line);
  }
});

test('the databases are not opened by list, info, size, clean and delete: a locked one stops none of them', async (t) => {
  const p = withData(t);
  const [old] = [await craftSet(p, daysAgo(2)), await craftSet(p, daysAgo(1))];
  withDatabase(p.at('agentdb.db'), (db) => db.exec('SELECT 1'));
  fs.chmodSync(p.at('agentdb.db'), 0o000);
  fs.writeFileSync(p.at('agentdb.db-wal'), 'no wal');
  for (const args of [['list'], ['info', old], ['size'], ['clean', '5'], ['delete', old, '--force']]) assert.equal((await p.run(...args)).status, 0, args.join(' '));
});
