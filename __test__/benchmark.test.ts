// The benchmark: that it runs to its end, leaves nobody out in silence, lists every target, and cleans up. No time is judged.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { cleanEnv, exec, finished, packageRoot, tempFolder } from './helpers/project.ts';

const bench = path.join(packageRoot, 'benchmark', 'bench.mjs');
const linux = process.platform === 'linux' ? false : 'the benchmark is for Linux';

/** The fields of every table line that begins with `name`. */
function rows(output: string, name: string): string[][] {
  return output
    .split('\n')
    .filter((line) => line.startsWith(`| ${name}`))
    .map((line) => line.split('|').slice(1, -1).map((field) => field.trim()));
}

test('the benchmark of a small database ends well, with a ratio for each contender and the name of each tool that is not there', { timeout: 600_000, skip: linux }, async (t) => {
  const dir = tempFolder(t);
  const run = await exec(process.execPath, [bench, '--sizes', '1', '--rounds', '1', '--only', 'create', '--dir', dir]);
  assert.equal(run.status, 0, run.stderr);
  const contenders: [string, string[]][] = [
    ['createBackup({ compress: false })', []],
    ['aqe-backup create --no-compress', []],
    ['cp + fsync', []],
    ['better-sqlite3 .backup() + crypto + quick_check', []],
    ['sqlite3 .backup + sha256sum + sha256sum -c', ['sqlite3']],
    ['sqlite3 VACUUM INTO', ['sqlite3']],
    ['sqlite3 .backup + restic backup', ['sqlite3', 'restic']],
    ['litestream snapshot to a file replica', ['litestream']],
  ];
  for (const [name, tools] of contenders) {
    const [row, ...more] = rows(run.stdout, name);
    assert.ok(row && more.length === 0, `${name} has ${row ? more.length + 1 : 'no'} lines:\n${run.stdout}`);
    const missing = tools.filter((tool) => spawnSync(tool, ['--help'], { stdio: 'ignore' }).error !== undefined);
    for (const tool of missing) assert.match(row[1]!, new RegExp(`${tool} is not there: \\S+ \\((Debian|PyPI)\\)`));
    if (missing.length === 0) assert.match(row[2]!, /^\d+\.\d\d$/, `${name} has no ratio: ${row.join(' | ')}`);
  }
  assert.equal(rows(run.stdout, 'createBackup({ compress: false })')[0]![2], '1.00');
  assert.deepEqual(fs.readdirSync(dir), [], 'the benchmark left something behind');
});

/** The names of all targets, as far as they tell them apart. */
const targets = ['create: faster', 'create: time', 'archive: faster than the tar', 'archive: faster than the pigz', 'archive: size', 'restore-small:', 'restore-all:', 'restore-archive:', 'verify:', 'peak memory', 'event-loop delay', "a writer's p99", 'list of 1,000 sets', 'require', 'a backup of an 8 KB database'];

test('the benchmark writes a page that lists every target, calls none met that was not measured, and keeps earlier figures', { timeout: 600_000, skip: linux }, async (t) => {
  const dir = tempFolder(t);
  const [work, into] = [path.join(dir, 'work'), path.join(dir, 'page')];
  for (const made of [work, into]) fs.mkdirSync(made);
  const page = async (sizes: string): Promise<string> => {
    const run = await exec(process.execPath, [bench, '--sizes', sizes, '--rounds', '1', '--only', 'verify', '--contenders', 'api', '--dir', work, '--write', '--into', into]);
    assert.equal(run.status, 0, run.stderr);
    return fs.readFileSync(path.join(into, 'README.md'), 'utf8');
  };
  const first = await page('1,3');
  const lines = first.split('\n').filter((line) => /^\| [^|]+\| [≥≤] /.test(line));
  assert.equal(lines.length, targets.length, first);
  for (const target of targets) {
    const those = lines.filter((line) => line.startsWith(`| ${target}`));
    assert.equal(those.length, 1, `${target}:\n${first}`);
    assert.match(those[0]!, /not (measured|judged)/, 'nothing here is of 600 MB');
  }
  assert.match(first, /left out: not among --contenders/);
  assert.match(fs.readFileSync(path.join(into, 'time-against-size.svg'), 'utf8'), /^<svg [^]*>Verify<[^]*>ours<[^]*<\/svg>\n$/);
  const second = await page('2');
  for (const size of [1, 2, 3]) assert.equal(second.split(`### Verify a backup: ${size} MB, WAL`).length, 2, second);
  assert.equal(second.split('## Targets').length, 2, 'the page has the figures once');
});

test('the benchmark that is interrupted ends with 130 and takes its databases away', { timeout: 600_000, skip: linux }, async (t) => {
  const dir = tempFolder(t);
  const child = spawn(process.execPath, [bench, '--sizes', '50', '--rounds', '1', '--only', 'create', '--dir', dir], { env: cleanEnv(), stdio: ['ignore', 'ignore', 'pipe'] });
  t.after(() => void child.kill('SIGKILL'));
  child.stderr.once('data', () => child.kill('SIGINT'));
  const run = await finished(child);
  assert.match(run.stderr, /^Making a database of 50 MB/);
  assert.equal(run.status, 130, run.stderr);
  assert.deepEqual(fs.readdirSync(dir), [], 'the benchmark left something behind');
});

test('the benchmark says what is wrong with its options and writes nothing', { timeout: 600_000 }, async () => {
  for (const wrong of [['--sizes', '0'], ['--sizes', 'big'], ['--rounds', '1,2'], ['--only', 'nothing'], ['--journal', 'memory'], ['--fast'], ['20']]) {
    const run = await exec(process.execPath, [bench, ...wrong]);
    assert.equal(run.status, 2, `${wrong.join(' ')}: ${run.stderr}`);
    assert.match(run.stderr, /^bench: /);
    assert.equal(run.stdout, '');
  }
});
