// What a stranger stumbled over, one test each.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { bin, cleanEnv, codeOf, contents, copyOf, count, craftSet, daysAgo, exec, flip, hasTool, makeDatabase, project, readMetadata, sets, withDatabase, type Context, type Project } from './helpers/project';
import { onTerminal, type Seen } from './helpers/terminal';

function withTwo(t: Context): Project {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 20, journal: 'wal' });
  makeDatabase(p.at('.agentic-qe', 'memory.db'), { rows: 30 });
  return p;
}

const memory = '.agentic-qe/memory.db';
const empty = (file: string) => withDatabase(file, (db) => db.exec('DELETE FROM episodes'));

/** Runs the command on a terminal that knows no colours and answers its questions in turn. */
async function answered(p: Project, args: string[], answers: string[]): Promise<Seen> {
  const { status, said } = await onTerminal(p, args, { env: { TERM: 'dumb' }, answers });
  return { status, said: said.replaceAll('\r', '') };
}

// --- some of the databases ------------------------------------------------------------------------------------------

test('restore --database puts back that one and leaves the others, in the command and the API', async (t) => {
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root });
  empty(p.at(memory));
  withDatabase(p.at('agentdb.db'), (db) => db.exec("INSERT INTO episodes(id, task) VALUES (8888, 'new')"));
  const others = contents(p.at('agentdb.db'));
  const run = await p.json('restore', made.timestamp, '--force', '--database', memory);
  assert.deepEqual([run.status, (run.document.databases as { source: string }[]).map((d) => d.source)], [0, [memory]], run.stderr);
  assert.deepEqual([count(p.at(memory)), contents(p.at('agentdb.db'))], [30, others]);
  assert.deepEqual(readMetadata(p.backups, run.document.safetyBackup as string).databases.map((d) => d.source), [memory]);

  empty(p.at(memory));
  const api = await backup.restoreBackup(made.timestamp, { root: p.root, databases: ['.agentic-qe/*.db'] });
  assert.deepEqual([api.success, api.filesRestored, count(p.at(memory)), contents(p.at('agentdb.db'))], [true, 1, 30, others]);
});

test('restore of a database that the set has not is refused with the ones it has, and nothing is changed', async (t) => {
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root });
  empty(p.at(memory));
  const run = await p.run('restore', made.timestamp, '--force', '--database', 'nope.db');
  assert.equal(run.status, 10);
  assert.match(run.stderr, /none of the databases.*agentdb\.db.*NO_DATABASES/s);
  assert.equal(count(p.at(memory)), 0);
  for (const bad of ['../x.db', '/etc/x.db', '']) assert.equal((await codeOf(backup.restoreBackup(made.timestamp, { root: p.root, databases: [bad] }))).code, 'ERR_INVALID_ARG_VALUE', bad);
});

test('a damaged copy of another database is no obstacle to restoring this one', async (t) => {
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root, compress: false });
  flip(copyOf(p.backups, made.timestamp, 'agentdb.db'), 5000);
  empty(p.at(memory));
  const whole = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(whole.code, 'CHECKSUM_MISMATCH');
  const one = await backup.restoreBackup(made.timestamp, { root: p.root, databases: [memory] });
  assert.deepEqual([one.success, count(p.at(memory))], [true, 30], one.error);
});

test('restore --archive --database takes one database out of an archive', async (t) => {
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root });
  empty(p.at(memory));
  empty(p.at('agentdb.db'));
  assert.equal((await p.run('restore', '--archive', made.archive!, '--force', '--database', memory)).status, 0);
  assert.deepEqual([count(p.at(memory)), count(p.at('agentdb.db'))], [30, 0]);
});

test('verbs that don’t work on databases take no --database', async (t) => {
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root });
  for (const args of [['list'], ['verify', made.timestamp], ['info', made.timestamp], ['size'], ['clean'], ['delete', made.timestamp], ['recover']]) {
    assert.equal((await p.run(...args, '--database', memory)).status, 2, args.join(' '));
  }
  const compared = await p.json('compare', made.timestamp, '--database', memory);
  assert.deepEqual((compared.document.databases as { source: string }[]).map((d) => d.source), [memory]);
});

// --- what is gone ---------------------------------------------------------------------------------------------------

test('create warns of a database that the backup before had and that is gone, and tells how to get it back', async (t) => {
  const p = withTwo(t);
  const first = await backup.createBackup({ root: p.root });
  fs.rmSync(p.at(memory));
  const run = await p.run('create');
  assert.equal(run.status, 0);
  const way = new RegExp(`memory\\.db is gone.*aqe-backup restore ${first.timestamp} --database '([^']+)' --root '`).exec(run.stdout);
  assert.ok(way, run.stdout);
  assert.equal((await p.run('restore', first.timestamp, '--database', way[1]!, '--force')).status, 0);
  assert.equal(count(p.at(memory)), 30);
  const some = await backup.createBackup({ root: p.root, databases: ['agentdb.db'] });
  assert.deepEqual(some.warnings.filter((w) => w.includes('gone')), [], 'a database that was not asked for is not gone');
});

test('a database that was backed up by name and is still there is not called gone by a backup that does not look there', async (t) => {
  const p = withTwo(t);
  makeDatabase(p.at('data', 'extra.db'));
  await backup.createBackup({ root: p.root, databases: ['agentdb.db', 'data/extra.db'] });
  const usual = await backup.createBackup({ root: p.root });
  assert.deepEqual(usual.warnings.filter((w) => w.includes('gone')), []);
  fs.rmSync(p.at('data', 'extra.db'));
  const other = await backup.createBackup({ root: p.root, databases: ['agentdb.db', 'data/*.db'] });
  assert.deepEqual(other.warnings.filter((w) => w.includes('gone')), [], 'the newest backup did not have it');
});

test('the side file of a damaged database, saved once, is no database that could be gone', async (t) => {
  const p = withTwo(t);
  await backup.createBackup({ root: p.root });
  fs.writeFileSync(p.at('agentdb.db'), Buffer.alloc(8192, 1));
  fs.writeFileSync(p.at('agentdb.db-wal'), Buffer.alloc(4096, 2));
  const damaged = await backup.createBackup({ root: p.root });
  assert.ok(readMetadata(p.backups, damaged.timestamp).databases.some((d) => 'side_file_of' in d), 'the -wal is in the set');
  fs.rmSync(p.at('agentdb.db-wal'));
  const next = await backup.createBackup({ root: p.root });
  assert.deepEqual(next.warnings.filter((w) => w.includes('is gone')), []);
});

test('where all databases are gone, the error says which backup has them', async (t) => {
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root });
  fs.rmSync(p.at(memory));
  fs.rmSync(p.at('agentdb.db'));
  for (const args of [['create'], ['check'], ['exec', '--operation', 'x', '--', 'true']]) {
    const run = await p.run(...args);
    assert.equal(run.status, 10, args.join(' '));
    assert.ok(run.stderr.includes(`aqe-backup restore ${made.timestamp}`) && run.stderr.includes('memory.db'), run.stderr);
  }
});

test('a database cut to zero bytes is a loss, however few rows it had: warned of, and the set from before stays', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 40 });
  const good = await backup.createBackup({ root: p.root, compress: false });
  fs.truncateSync(p.at('agentdb.db'), 0);
  const made = await backup.createBackup({ root: p.root, compress: false });
  assert.ok(made.warnings.some((w) => w.includes('episodes') && w.includes('40')), made.warnings.join('\n'));
  for (let i = 0; i < 4; i++) assert.equal((await backup.createBackup({ root: p.root, compress: false, keepLast: 2 })).success, true);
  assert.equal(await backup.verifyBackup(good.timestamp, { root: p.root }), true);
});

// --- places ---------------------------------------------------------------------------------------------------------

test('a backups folder where databases are is refused, and no .gitignore is put there', async (t) => {
  const p = withTwo(t);
  fs.mkdirSync(p.at('sub'));
  for (const dir of ['.', '..', '.agentic-qe', p.root, path.join('sub', '..')]) {
    const run = await p.run('create', '--backup-dir', dir);
    assert.equal(run.status, 2, `${dir}: ${run.stderr}`);
    assert.match(run.stderr, /backups folder/);
    assert.equal((await codeOf(backup.createBackup({ root: p.root, backupDir: dir }))).code, 'ERR_INVALID_ARG_VALUE');
  }
  assert.equal(fs.existsSync(p.at('.gitignore')), false);
  assert.equal((await p.run('create', '--backup-dir', 'sub')).status, 0);
});

test('a file in the place of the backups folder is named, with a way out', async (t) => {
  const p = withTwo(t);
  fs.writeFileSync(p.backups, 'x');
  const run = await p.run('create');
  assert.equal(run.status, 1);
  assert.match(run.stderr, /is no folder; move it away/);
});

// --- restore over a database that can't be read ---------------------------------------------------------------------

test('on a terminal, a restore that needs force asks once more instead of refusing after the yes; its undo works as printed', { timeout: 600_000 }, async (t) => {
  if (!(await hasTool('script'))) return t.skip('no script(1) here to make a terminal');
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root });
  const garbage = Buffer.alloc(20_000, 0x5a);
  fs.writeFileSync(p.at(memory), garbage);
  const no = await answered(p, ['restore', made.timestamp], ['y\n', 'n\n']);
  assert.notEqual(no.status, 0);
  assert.match(no.said, /no database now/);
  assert.match(no.said, /Go on all the same/);
  assert.deepEqual(fs.readFileSync(p.at(memory)), garbage);
  const yes = await answered(p, ['restore', made.timestamp], ['y\n', 'y\n']);
  assert.equal(yes.status, 0, yes.said);
  assert.equal(count(p.at(memory)), 30);
  const undo = /undo with: aqe-backup (restore [^)]*)\)/.exec(yes.said.replaceAll(/\n/g, ''))?.[1];
  assert.ok(undo, yes.said);
  const run = await exec('sh', ['-c', `"${process.execPath}" "${bin}" ${undo}`], { cwd: p.root, env: cleanEnv() });
  assert.equal(run.status, 0, run.stderr);
  assert.deepEqual(fs.readFileSync(p.at(memory)), garbage);
});

test('the question tells which databases would change and how much of them', { timeout: 600_000 }, async (t) => {
  if (!(await hasTool('script'))) return t.skip('no script(1) here to make a terminal');
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at(memory), (db) => db.exec("UPDATE episodes SET task = 'edited'"));
  const { said } = await answered(p, ['restore', made.timestamp], ['n\n']);
  assert.match(said, /agentdb\.db .* none$/m);
  assert.match(said, /memory\.db .* \d+ of \d+ pages$/m);
  assert.ok(said.split('\n').every((l) => l.length <= 80 || l.includes(p.root)), said);
});

test('restore without a timestamp names the newest backups, exit 2', async (t) => {
  const p = withTwo(t);
  const ts = await craftSet(p, daysAgo(1));
  const run = await p.run('restore');
  assert.deepEqual([run.status, run.stderr.includes(ts), run.stderr.includes('aqe-backup list')], [2, true, true], run.stderr);
});

// --- names that play tricks -----------------------------------------------------------------------------------------

test('names of files and tables reach no terminal as they are: no escape sequence, no forged line', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  const name = 'we\u001b[32mird\nTotal backups: 99\u202e.db';
  makeDatabase(p.at(name), { rows: 200, after: 'CREATE TABLE "E\u001b[31mS\nBackup complete!"(x); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 300) INSERT INTO "E\u001b[31mS\nBackup complete!" SELECT n FROM c' });
  const outputs: string[] = [];
  const see = async (...args: string[]): Promise<string> => {
    const run = await p.run(...args);
    outputs.push(`${args[0]}\n${run.stdout}${run.stderr}`);
    return run.stdout;
  };
  const ts = /Timestamp: (\S+)/.exec(await see('create', '--label', 'a\u001b[5mb\nTotal backups: 7'))![1]!;
  withDatabase(p.at(name), (db) => db.exec('DELETE FROM "E\u001b[31mS\nBackup complete!"; DELETE FROM episodes'));
  for (const args of [['create'], ['list'], ['info', ts], ['verify', ts], ['compare', ts], ['check'], ['restore', ts, '--force'], ['clean', '1', '--dry-run']]) await see(...args);
  fs.truncateSync(copyOf(p.backups, ts, name), 100);
  await see('verify', ts);
  await see('restore', ts, '--force', '--database', 'nope');
  for (const out of outputs) {
    assert.doesNotMatch(out.replaceAll('\n', ''), /[\u0000-\u001f\u007f\u202e]/, out);
    assert.doesNotMatch(out.split('\n').slice(1).join('\n'), /^Total backups: (99|7)|^Backup complete!".*$/m);
  }
});

// --- completions, --json, numbers -----------------------------------------------------------------------------------

test('bash completes the flags and values of a verb', async (t) => {
  if (!(await hasTool('bash'))) return t.skip('no bash here');
  const p = withTwo(t);
  const script = (await p.run('completions', 'bash')).stdout;
  const complete = async (...words: string[]): Promise<string[]> => {
    const run = await exec('bash', ['-c', `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _aqe__backup aqe-backup "\${COMP_WORDS[$COMP_CWORD]}" "\${COMP_WORDS[$COMP_CWORD - 1]}"; printf '%s\\n' "\${COMPREPLY[@]}"`, 'bash', 'aqe-backup', ...words]);
    assert.equal(run.status, 0, run.stderr);
    return run.stdout.trim().split('\n');
  };
  const flags = await complete('restore', '--');
  for (const flag of ['--force', '--archive', '--database', '--root']) assert.ok(flags.includes(flag), flags.join(' '));
  assert.deepEqual((await complete('clean', '--environment', '')).sort(), ['development', 'production', 'staging']);
  assert.ok((await complete('completions', '')).includes('zsh'));
});

test('a wrong command line names its verb in the --json document', async (t) => {
  const p = withTwo(t);
  for (const args of [['clean', '0'], ['create', '--keep', 'x'], ['list', '--nope']]) {
    const run = await p.json(...args);
    assert.deepEqual([run.status, run.document.command], [2, args[0]]);
  }
  assert.equal((await p.json('nonsense')).document.command, '');
});

test('impossible time-outs are told as such', async (t) => {
  const p = withTwo(t);
  for (const args of [['--busy-timeout', '-1'], ['--lock-timeout', '99999999999'], ['--busy-timeout', 'soon']]) {
    const run = await p.run('create', ...args);
    assert.deepEqual([run.status, run.stderr.includes(args[1]!)], [2, true], run.stderr);
  }
  assert.deepEqual(sets(p.backups), {});
});

test('create says of a database that is no database any more that it is damaged, not that it is a plain file', async (t) => {
  const p = withTwo(t);
  await backup.createBackup({ root: p.root });
  fs.writeFileSync(p.at(memory), Buffer.alloc(8192));
  const run = await p.run('create');
  assert.equal(run.status, 4);
  assert.match(run.stdout, /memory\.db .*damaged/);
  const json = await p.json('create');
  assert.equal((json.document.databases as { source: string; integrity: string }[]).find((d) => d.source === memory)?.integrity, 'damaged');
});

test('a file without a checksum is unproven, not damaged', async (t) => {
  const p = withTwo(t);
  const made = await backup.createBackup({ root: p.root, compress: false });
  fs.rmSync(`${copyOf(p.backups, made.timestamp, memory)}.sha256`);
  const run = await p.run('verify', made.timestamp);
  assert.equal(run.status, 4);
  assert.match(run.stdout, /UNPROVEN memory\.db/);
  assert.doesNotMatch(run.stdout, /DAMAGED/);
});
