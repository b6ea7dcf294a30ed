// What a person at a terminal sees: colours, bars, questions; and what they don't see in a pipe.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { test } from 'node:test';
import * as backup from '../index.js';
import { assertNoLeftovers, bin, cleanEnv, count, craftSet, daysAgo, exec, hasTool, makeDatabase, project, sets, withData, withDatabase, type Context } from './helpers/project';
import { onTerminal } from './helpers/terminal';
import { slowly } from './helpers/syscalls';

const colour = /\u001b\[[0-9;]*m/;
const strip = (text: string): string => text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '').replaceAll('\r', '\n');

async function terminal(t: Context & { skip(why: string): void }): Promise<boolean> {
  const there = await hasTool('script');
  if (!there) t.skip('no script(1) here to make a terminal');
  return there;
}

test('colours: on a terminal yes, in a pipe no; NO_COLOR and a dumb terminal take them away, FORCE_COLOR brings them everywhere', async (t) => {
  if (!(await terminal(t))) return;
  const p = withData(t);
  await craftSet(p, daysAgo(1));
  assert.match((await onTerminal(p, ['list'])).said, colour);
  assert.doesNotMatch((await onTerminal(p, ['list'], { env: { NO_COLOR: '1' } })).said, colour);
  assert.doesNotMatch((await onTerminal(p, ['list'], { env: { TERM: 'dumb' } })).said, colour);
  assert.doesNotMatch((await onTerminal(p, ['list'], { env: { FORCE_COLOR: '0' } })).said, colour);
  const inPipe = (env: Record<string, string>, ...args: string[]) => exec(process.execPath, [bin, ...args], { cwd: p.root, env: cleanEnv(env) });
  assert.doesNotMatch((await inPipe({}, 'list')).stdout, colour);
  assert.match((await inPipe({ FORCE_COLOR: '1' }, 'list')).stdout, colour);
  assert.match((await inPipe({ FORCE_COLOR: '1', NO_COLOR: '1' }, 'list')).stdout, colour);
  assert.doesNotMatch((await inPipe({ FORCE_COLOR: '', NO_COLOR: '' }, 'list')).stdout, colour);
  for (const args of [['--help'], ['clean', '--help']]) {
    assert.match((await onTerminal(p, args)).said, colour);
    assert.doesNotMatch((await inPipe({}, ...args)).stdout, colour);
  }
  assert.doesNotMatch((await inPipe({}, 'nonsense')).stderr, colour);
  assert.doesNotMatch((await inPipe({ FORCE_COLOR: '1' }, 'list', '--json')).stdout, colour);
});

test('with colours the columns still line up', async (t) => {
  const p = withData(t);
  for (let i = 0; i < 4; i++) await craftSet(p, daysAgo(1 + i * 40), { kind: ['automated', 'manual', 'safety', 'automated'][i]!, archive: i === 1, verified: i !== 2 });
  const run = (env: Record<string, string>) => exec(process.execPath, [bin, 'list'], { cwd: p.root, env: cleanEnv(env) });
  const [plain, coloured] = [await run({}), await run({ FORCE_COLOR: '1' })];
  assert.equal(strip(coloured.stdout), plain.stdout);
  assert.notEqual(coloured.stdout, plain.stdout);
});

test('a create on a terminal draws a bar with rate and time left, and takes it away; in a pipe standard error is empty', { timeout: 600_000 }, async (t) => {
  if (!(await terminal(t))) return;
  const p = project(t);
  const live = p.at('agentdb.db');
  makeDatabase(live, { rows: 1500, after: 'UPDATE episodes SET embedding = randomblob(7000)' });
  const megabytes = Math.floor(fs.statSync(live).size / (1 << 20));
  assert.ok(megabytes >= 10, `only ${megabytes} MB`);
  // A disk may be so fast that all is copied before the bar may be drawn for the second time. Here no megabyte takes less than a
  // quarter of a second, in which it may be drawn several times, and all of them take more than two seconds.
  const begun = process.hrtime.bigint();
  const { said, status } = await onTerminal(p, ['create', '--no-verify'], { under: slowly(live, 1) });
  assert.equal(status, 0, said);
  assert.ok(process.hrtime.bigint() - begun > 2_000_000_000n, 'the reads were not slowed down: the database is read in another way now');
  assert.match(said, /Copying +[#-]* *\d+% .*MB/, strip(said));
  assert.match(said, /\/s/);
  assert.match(said, /left/);
  // The bar is erased: after its last trace the line is cleared before anything else is written.
  assert.match(said.slice(said.lastIndexOf('Copying')), /\u001b\[2?K[^]*Timestamp: /);
  const piped = await p.run('create', '--no-verify', '--no-compress');
  assert.deepEqual([piped.status, piped.stderr], [0, '']);
  assert.doesNotMatch(piped.stdout, /Copying|\u001b/);
});

test('restore’s question shows sizes, rows and age, now and in the backup, before it is answered', { timeout: 600_000 }, async (t) => {
  if (!(await terminal(t))) return;
  const p = withData(t);
  makeDatabase(p.at('.agentic-qe', 'memory.db'), { rows: 1234, journal: 'wal' });
  const ts = await craftSet(p, daysAgo(3), { sources: ['agentdb.db', '.agentic-qe/memory.db'] });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes WHERE id > 7; DROP TABLE patterns'));
  fs.rmSync(p.at('.agentic-qe', 'memory.db'));
  const before = sets(p.backups);
  const no = await onTerminal(p, ['restore', ts], { answers: ['n\n'] });
  const text = strip(no.said);
  assert.notEqual(no.status, 0);
  assert.match(text, /made 3 d ago/);
  assert.match(text, /agentdb\.db .*KB .*KB +7 +40 +\d+ of \d+ pages$/m);
  assert.match(text, /memory\.db +missing .*KB +2,468 +created$/m);
  assert.match(text, /table episodes: 7 rows now, 20 rows then/);
  assert.match(text, /table patterns: no such table now, 20 rows then/);
  assert.match(text, /nothing was changed/);
  assert.ok(text.split('\n').every((l) => l.length <= 80 || l.includes(p.root)), text);
  assert.deepEqual(sets(p.backups), before);
  assert.equal(count(p.at('agentdb.db')), 7);
  const yes = await onTerminal(p, ['restore', ts], { answers: ['y\n'] });
  assert.equal(yes.status, 0, yes.said);
  assert.equal(count(p.at('agentdb.db')), 20);
  assert.equal(count(p.at('.agentic-qe', 'memory.db')), 1234);
});

test('the question of restore --archive shows the same from inside the archive; the end of the input is no', { timeout: 600_000 }, async (t) => {
  if (!(await terminal(t))) return;
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const seen = await onTerminal(p, ['restore', '--archive', made.archive!], { answers: ['\u0004'] });
  assert.match(strip(seen.said), /table episodes: 0 rows now, 20 rows then/);
  assert.notEqual(seen.status, 0);
  assert.equal(count(p.at('agentdb.db')), 0);
});

test('a database that is busy or damaged does not stop the question', { timeout: 600_000 }, async (t) => {
  if (!(await terminal(t))) return;
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root });
  fs.writeFileSync(p.at('agentdb.db'), Buffer.concat([Buffer.from('SQLite format 3\0'), Buffer.alloc(8000, 0xff)]));
  const seen = await onTerminal(p, ['restore', made.timestamp], { answers: ['n\n'] });
  assert.match(strip(seen.said), /agentdb\.db.*damaged/s);
});

test('delete asks too, and says what it is that goes', { timeout: 600_000 }, async (t) => {
  if (!(await terminal(t))) return;
  const p = withData(t);
  const [old] = [await craftSet(p, daysAgo(5), { kind: 'manual', edit: (m) => void (m.label = 'before 2.0') }), await craftSet(p, daysAgo(1))];
  const no = await onTerminal(p, ['delete', old], { answers: ['\n'] });
  assert.match(strip(no.said), /manual backup, made 5 d ago.*"before 2\.0"/);
  assert.deepEqual([no.status === 0, (await backup.listBackups({ root: p.root })).length], [false, 2]);
  const yes = await onTerminal(p, ['delete', old], { answers: ['yes\n'] });
  assert.deepEqual([yes.status, (await backup.listBackups({ root: p.root })).length], [0, 1]);
  assertNoLeftovers(p.backups);
});

test('Ctrl-C at the question changes nothing', { timeout: 600_000 }, async (t) => {
  if (!(await terminal(t))) return;
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root });
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  const seen = await onTerminal(p, ['restore', made.timestamp], { answers: ['\u0003'], keepOpen: true });
  assert.equal(seen.status, 130, seen.said);
  assert.equal(count(p.at('agentdb.db')), 0);
});

test('a table that is wider than the terminal is cut, not broken', async (t) => {
  if (!(await terminal(t))) return;
  const p = withData(t);
  const label = 'a very long note that says more than anybody wants to read in a list of backups, and then some';
  assert.equal((await backup.createBackup({ root: p.root, label })).success, true);
  const { said } = await onTerminal(p, ['list']);
  const line = strip(said).split('\n').find((l) => l.includes('automated'))!;
  assert.ok(line.length <= 80 && line.includes('…'), line);
  const dry = strip((await onTerminal(p, ['clean', '3', '--dry-run'])).said);
  assert.ok(dry.split('\n').every((l) => l.length <= 80), dry);
  assert.match(dry.replaceAll(/\s+/g, ' '), /among the newest 3 automated/);
});
