// docs/runbook.md: every command in it, at a terminal, in a project in the state that its section is about.
// AQE_RUNBOOK_MB=600 takes a database of that size, any number where the page shows one, and prints how long each section's commands took.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { Names, sectionsOf, shellIn, type Section } from './helpers/documents';
import { withKey } from './helpers/gpg';
import { addRows, bin, cleanEnv, companion, contents, copyOf, count, craftSet, daysAgo, exec, flip, hasTool, inCI, isRoot, makeDatabase, metadataPath, project, stamp, tempFolder, withDatabase, type Context, type Project } from './helpers/project';

const page = 'docs/runbook.md';
const sources = ['agentdb.db', '.agentic-qe/memory.db'];
const [agentdb, memory] = sources as [string, string];
const megabytes = Number(process.env.AQE_RUNBOOK_MB ?? 0);
/** The nights of the page, and how many hours before now they are in the sample. */
const nights = { '20250115-020000': 31.5, '20250116-020000': 7.5 };
const [before, last] = Object.keys(nights) as [string, string];

/** A project with a backup of each of the last two nights, used since. */
interface Sample {
  p: Project;
  names: Names;
  /** The real name of a night's backup. */
  at: Record<string, string>;
  /** What was in the databases then. */
  then: Record<string, string[]>;
}

type Setup = (t: Context, s: Sample) => Promise<State | void>;
interface State {
  /** What must be true when the section's commands have been run. Without it: the databases are those of the last night. */
  after?: (s: Sample) => Promise<void> | void;
  /** Around a block, by its number in the section. */
  around?: Record<number, () => Promise<void> | void>;
  prelude?: string;
  env?: Record<string, string>;
  wrap?: string[];
  /** Why it can't be tried on this machine. */
  skip?: string;
}

const state = (p: Project): string[] => sources.map((s) => contents(p.at(s)));

async function sample(t: Context): Promise<Sample> {
  const p = project(t);
  makeDatabase(p.at(agentdb), { rows: 200 });
  makeDatabase(p.at(memory), { rows: megabytes ? megabytes * 240 : 500, journal: 'wal', after: megabytes ? 'UPDATE episodes SET embedding = randomblob(2900); VACUUM' : '' });
  const s: Sample = { p, names: new Names(p.root, '/srv/app', megabytes > 0), at: {}, then: {} };
  if (megabytes) console.log(`${memory}: ${(fs.statSync(p.at(memory)).size / 1e6).toFixed(0)} MB`);
  let next = 1_000_000;
  for (const [shown, hours] of Object.entries(nights)) {
    s.at[shown] = await craftSet(p, daysAgo(hours / 24), { sources, archive: true });
    s.then[shown] = state(p);
    s.names.bind(shown, s.at[shown]);
    for (const source of sources) withDatabase(p.at(source), (db) => addRows(db, next, 20));
    next += 20;
  }
  return s;
}

function overwrite(file: string, at: number, bytes: number): void {
  const fd = fs.openSync(file, 'r+');
  try {
    fs.writeSync(fd, Buffer.alloc(bytes, 0xa5), 0, bytes, at);
  } finally {
    fs.closeSync(fd);
  }
}

/** Pages in the middle of memory.db, which quick_check sees. */
function corrupt(p: Project): void {
  overwrite(p.at(memory), 4096 * 10, 4096 * 20);
}

function removeDatabases(p: Project): void {
  for (const source of sources) for (const side of ['', '-wal', '-shm']) fs.rmSync(p.at(source + side), { force: true });
}

/** A restore of the last night that is killed when one of the two databases is done. */
async function killRestore(_t: Context, s: Sample): Promise<void> {
  assert.ok(await hasTool('strace'), 'strace is not installed; without it no restore can be killed at a chosen step (apt-get install strace)');
  for (let step = 1; step <= 20; step++) {
    await exec('strace', ['-f', '-qq', '-o', '/dev/null', '-e', 'trace=unlink', '-e', `inject=unlink:signal=SIGKILL:when=${step}`, process.execPath, bin, 'restore', s.at[last]!, '--force'], { cwd: s.p.root, env: cleanEnv() });
    if (!fs.existsSync(path.join(s.p.backups, '.restore-intent.json'))) continue;
    const done = sources.map((source, i) => contents(s.p.at(source)) === s.then[last]![i]);
    return assert.notEqual(done[0], done[1], 'the restore was not killed half-way');
  }
  assert.fail('the restore could not be killed');
}

const sections: Record<string, Setup> = {
  'First look': async (_t, { p }) => {
    corrupt(p);
    return { after: () => undefined };
  },
  'A database is damaged': async (_t, { p, then }) => {
    const newer = contents(p.at(agentdb));
    corrupt(p);
    return { after: () => assert.deepEqual(state(p), [newer, then[last]![1]]) };
  },
  "A database can't be read at all": async (_t, { p, then }) => {
    const newer = contents(p.at(agentdb));
    overwrite(p.at(memory), 0, 4096);
    return { after: () => assert.deepEqual(state(p), [newer, then[last]![1]]) };
  },
  'Rows or tables are gone': async (_t, { p, then }) => {
    for (const source of sources) withDatabase(p.at(source), (db) => db.exec('DELETE FROM episodes WHERE id <= 500 OR id BETWEEN 1000000 AND 1000019; UPDATE patterns SET content = 1'));
    return {
      after: () => {
        assert.equal(contents(p.at(agentdb)), then[last]![0]);
        withDatabase(p.at(memory), (db) => {
          assert.deepEqual(db.prepare('SELECT count(*), max(id) FROM episodes').raw().get(), [520 + 20, 1_000_039]);
          assert.deepEqual(db.pragma('integrity_check'), [{ integrity_check: 'ok' }]);
        });
      },
    };
  },
  'A migration failed': async (_t, { p }) => {
    const now = state(p);
    const harm = () => void withDatabase(p.at(agentdb), (db) => db.exec("DROP TABLE IF EXISTS patterns"));
    const migrate = `const db = new (require(${JSON.stringify(require.resolve('better-sqlite3'))}))('agentdb.db'); db.exec('DROP TABLE patterns'); console.log('migrating'); process.exit(3)`;
    fs.writeFileSync(p.at('migrate.sh'), `#!/bin/sh\nexec '${process.execPath}' -e "${migrate.replaceAll('"', '\\"')}"\n`, { mode: 0o755 });
    return {
      around: { 1: () => assert.deepEqual(state(p), now, 'exec did not put the databases back'), 2: harm },
      after: () => assert.deepEqual(state(p), now),
    };
  },
  'All databases are gone': async (_t, { p }) => removeDatabases(p),
  'Only one of the databases': async (_t, { p, then }) => {
    const newer = contents(p.at(agentdb));
    for (const side of ['', '-wal', '-shm']) fs.rmSync(p.at(memory + side), { force: true });
    return { after: () => assert.deepEqual(state(p), [newer, then[last]![1]]) };
  },
  'A backup is damaged': async (_t, { p, at, then }) => {
    flip(copyOf(p.backups, at[last]!, memory), 20_000);
    return {
      around: { 2: () => assert.deepEqual(state(p), then[last]) },
      after: async () => {
        assert.deepEqual(state(p), then[before]);
        assert.equal(fs.existsSync(metadataPath(p.backups, at[last]!)), false);
        for (const b of await backup.listBackups({ root: p.root })) assert.equal(await backup.verifyBackup(b.timestamp, { root: p.root }), true, b.timestamp);
      },
    };
  },
  'A restore was interrupted': killRestore,
  'Something is busy': async (t, { p }) => {
    const other = companion(t, `const db = new Database(args[0]); db.exec('BEGIN EXCLUSIVE'); console.log('held'); process.stdin.on('data', () => {}).on('end', () => setTimeout(() => { db.exec('COMMIT'); db.close(); }, 300))`, [p.at(agentdb)]);
    assert.equal(await other.line(), 'held');
    return { around: { 1: () => void other.end() } };
  },
  'The disk is full': async (t, s) => {
    if (megabytes) return { skip: 'the disk of this test is in memory' };
    for (let day = 6; day > 2; day--) await craftSet(s.p, daysAgo(day), { sources, archive: true });
    const now = state(s.p);
    const used = fs.readdirSync(s.p.backups).reduce((sum, name) => sum + Math.ceil(fs.statSync(path.join(s.p.backups, name)).size / 4096) * 4096, 0);
    const wrap = ['unshare', '--mount', ...(isRoot ? [] : ['--map-root-user']), '--'];
    const probe = await exec(wrap[0]!, [...wrap.slice(1), 'sh', '-c', 'mount -t tmpfs none "$0"', tempFolder(t, 'disk')]);
    if (probe.status !== 0) return inCI ? assert.fail(`no small file system can be mounted here: ${probe.stderr}`) : { skip: 'no small file system can be mounted here' };
    const prelude = `mv .agentic-qe/backups .agentic-qe/kept && mkdir -m 700 .agentic-qe/backups && mount -t tmpfs -o size=${used + 300_000},mode=0700 none .agentic-qe/backups && cp -a .agentic-qe/kept/. .agentic-qe/backups/`;
    return { wrap, prelude, after: () => assert.deepEqual(state(s.p), now) };
  },
  'The backups are elsewhere': async (_t, { p }) => {
    fs.renameSync(p.backups, p.at('..', 'saved'));
    removeDatabases(p);
  },
  'There is only an archive': async (_t, s) => onlyArchive(s, path.join(path.dirname(s.p.root), 'downloads')),
  'The archive is encrypted': async (t, s) => {
    if (!(await hasTool('gpg'))) return { skip: 'no gpg here' };
    const state = onlyArchive(s, s.p.root);
    const env = await withKey(t);
    const name = `databases-backup-${s.at[last]!}.tar.gz`;
    assert.equal((await exec('gpg', ['--encrypt', '--recipient', 'admin@example.com', s.p.at(name)], { env })).status, 0);
    fs.rmSync(s.p.at(name));
    return { ...state, env: { ...state.env, GNUPGHOME: env.GNUPGHOME! } };
  },
  'Undo a restore': async (_t, { p, at }) => {
    const now = state(p);
    assert.equal((await p.run('restore', at[before]!, '--force')).status, 0);
    return { after: () => assert.deepEqual(state(p), now) };
  },
  'No backup is good': async (t, { p, names }) => {
    if (!(await hasTool('sqlite3'))) return { skip: 'no sqlite3 here' };
    names.bind('20250116-094000', stamp(new Date()));
    const rows = count(p.at(memory));
    fs.rmSync(p.backups, { recursive: true });
    // One leaf of episodes: what is before and behind it can be read.
    const leaf = fs.readFileSync(p.at(memory)).indexOf('task 300');
    overwrite(p.at(memory), leaf - (leaf % 4096), 4096);
    return {
      after: () => {
        assert.ok(count(p.at(memory)) > rows * 0.9, 'hardly anything was rescued');
        assert.ok(contents(p.at(memory)));
      },
    };
  },
};

/** The last night's archive in `folder`, and nothing else. */
function onlyArchive({ p, at }: Sample, folder: string): State {
  fs.mkdirSync(folder, { recursive: true });
  for (const side of ['', '.sha256']) fs.renameSync(path.join(p.backups, `databases-backup-${at[last]!}.tar.gz${side}`), path.join(folder, `databases-backup-${at[last]!}.tar.gz${side}`));
  fs.rmSync(p.backups, { recursive: true });
  removeDatabases(p);
  return { env: { HOME: path.dirname(p.root) } };
}

test('every section of the runbook is run, and none that it does not have', () => {
  assert.deepEqual(
    sectionsOf(page).map((s) => s.heading),
    Object.keys(sections),
  );
  for (const s of sectionsOf(page)) for (const b of s.blocks) assert.equal(b.language, 'sh', `${page}:${b.line}: a block that nobody runs`);
});

async function run(t: Context & { skip(why: string): void }, section: Section, setup: Setup): Promise<void> {
  if (!(await hasTool('script'))) return t.skip('no script(1) here to make a terminal');
  const s = await sample(t);
  const made = (await setup(t, s)) ?? {};
  if (made.skip) return t.skip(made.skip);
  const shell = await shellIn(t, s.p, made);
  const seconds: number[] = [];
  for (const [i, block] of section.blocks.entries()) {
    const where = `${page}:${block.line}`;
    await made.around?.[i]?.();
    const ran = await shell.run(s.names.command(block.text, where));
    seconds.push(ran.ms / 1000);
    assert.equal(ran.exit, block.exit, `${where}: exit code ${ran.exit}\n${ran.printed}`);
    s.names.match(block.expected, ran.printed, where);
  }
  await shell.end();
  if (megabytes) console.log(`${section.heading}: ${seconds.reduce((a, b) => a + b).toFixed(1)} s (${seconds.map((n) => n.toFixed(1)).join(' + ')})`);
  if (made.after) await made.after(s);
  else assert.deepEqual(state(s.p), s.then[last], 'the databases are not as the section promises');
}

for (const section of sectionsOf(page)) {
  test(`runbook: ${section.heading}`, { timeout: 600_000 * (megabytes ? 10 : 1) }, async (t) => {
    const setup = sections[section.heading];
    assert.ok(setup, `${page}: nobody runs “${section.heading}”`);
    await run(t, section, setup);
  });
}
