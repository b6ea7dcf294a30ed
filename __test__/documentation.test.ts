// What README.md, docs/upgrading.md and docs/json-output.md show, tried as it stands there. docs/runbook.md has a test of its own.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { Names, sectionsOf, shellIn, type Block } from './helpers/documents';
import { cleanEnv, contents, copyOf, craftSet, daysAgo, exec, flip, hasTool, makeDatabase, packageRoot, project, projectAt, tempFolder, withDatabase, type Context, type Project } from './helpers/project';

const sources = ['agentdb.db', '.agentic-qe/memory.db'];
type Skippable = Context & { skip(why: string): void };

function blocksOf(page: string, language: string): Block[] {
  const blocks = sectionsOf(page).flatMap((s) => s.blocks.filter((b) => b.language === language));
  assert.ok(blocks.length > 0, `${page} shows no ${language}`);
  return blocks;
}

/** A project called my-project in a folder of its own, in which programs find the package. */
function myProject(t: Context): { folder: string; p: Project } {
  const folder = tempFolder(t, 'work');
  fs.mkdirSync(path.join(folder, 'node_modules', '@agentic-qe'), { recursive: true });
  fs.symlinkSync(packageRoot, path.join(folder, 'node_modules', '@agentic-qe', 'backup'));
  const p = projectAt(path.join(folder, 'my-project'));
  for (const source of sources) makeDatabase(p.at(source));
  return { folder, p };
}

const state = (p: Project): string[] => sources.map((s) => contents(p.at(s)));

/** Runs a program that stands in a page, with what it leaves out. */
function runProgram(folder: string, cwd: string, text: string): ReturnType<typeof exec> {
  const file = path.join(folder, 'program.mjs');
  fs.writeFileSync(file, text);
  return exec(process.execPath, [file], { cwd, env: cleanEnv() });
}

test('no page has a block in a language that nobody tries, and every page that is named is there', () => {
  const known: Record<string, string[]> = { 'README.md': ['sh', 'js'], 'docs/json-output.md': ['sh'], 'docs/upgrading.md': ['sh', 'ts'] };
  for (const [page, languages] of Object.entries(known)) {
    for (const b of sectionsOf(page).flatMap((s) => s.blocks)) assert.ok(languages.includes(b.language), `${page}:${b.line}`);
  }
  for (const page of ['README.md', ...fs.readdirSync(path.join(packageRoot, 'docs')).filter((n) => n.endsWith('.md')).map((n) => `docs/${n}`)]) {
    for (const [, target] of fs.readFileSync(path.join(packageRoot, page), 'utf8').matchAll(/\]\((?!https?:)([^)]+)\)/g)) assertThere(page, target!);
  }
});

/** A link leads to a file, and to a heading in it. */
function assertThere(page: string, target: string): void {
  const [file, anchor] = target.split('#') as [string, string | undefined];
  const full = file === '' ? path.join(packageRoot, page) : path.join(packageRoot, path.dirname(page), file);
  assert.ok(fs.existsSync(full), `${page} names ${target}, which is not there`);
  if (anchor === undefined) return;
  const headings = [...fs.readFileSync(full, 'utf8').matchAll(/^#+ (.*)$/gm)].map((m) => m[1]!.toLowerCase().replaceAll(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-'));
  assert.ok(headings.includes(anchor), `${page} names ${target}, and there is no such heading`);
}

test('README: the table of verbs is that of the command', async (t) => {
  const shown = [...fs.readFileSync(path.join(packageRoot, 'README.md'), 'utf8').matchAll(/^\| `([a-z]+)(?: [^`]*)?` \|/gm)].map((m) => m[1]!);
  const help = (await project(t).run('--help')).stdout;
  const verbs = [...help.matchAll(/^  ([a-z]+)  +\S/gm)].map((m) => m[1]!).filter((v) => v !== 'ok' && v !== 'failed' && v !== 'usage');
  for (const verb of verbs) assert.ok(shown.includes(verb), `README says nothing of ${verb}`);
  assert.ok(verbs.length >= 13);
});

test('README: the table of codes is complete, with the exit codes of the command', async (t) => {
  const rows = [...fs.readFileSync(path.join(packageRoot, 'README.md'), 'utf8').matchAll(/^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|.*\| (\d+) \|$/gm)];
  const shown = rows.flatMap((m) => m[1]!.replaceAll('`', '').split(', '));
  const schema = JSON.parse(fs.readFileSync(path.join(packageRoot, 'docs', 'schema', 'output.v1.json'), 'utf8')) as { $defs: { code: { enum: string[] } } };
  assert.deepEqual([...shown].sort(), [...schema.$defs.code.enum].sort());
  const codes = new Set([...(await project(t).run('--help')).stdout.matchAll(/(?:^|  ) *(\d+)  [a-z]/gm)].map((m) => m[1]));
  for (const m of rows) assert.ok(codes.has(m[2]), `${m[1]}: the help knows no exit code ${m[2]}`);
});

test('README: the commands of the quick start', { timeout: 600_000 }, async (t) => {
  if (!(await hasTool('script'))) return (t as Skippable).skip('no script(1) here to make a terminal');
  const { folder, p } = myProject(t);
  const then = state(p);
  const timestamp = await craftSet(p, daysAgo(1), { sources });
  for (const source of sources) withDatabase(p.at(source), (db) => db.exec('DELETE FROM episodes'));
  const names = new Names(folder, '/srv/app');
  names.bind('20250116-120000', timestamp);
  const block = blocksOf('README.md', 'sh').find((b) => b.text.includes('aqe-backup create'));
  assert.ok(block);
  const shell = await shellIn(t, projectAt(folder));
  for (const line of block.text.split('\n')) {
    const ran = await shell.run(names.command(line, 'README.md'));
    assert.equal(ran.exit, 0, `${line}\n${ran.printed}`);
  }
  await shell.end();
  assert.deepEqual(state(p), then);
});

test('README: the programs', { timeout: 600_000 }, async (t) => {
  const [quick, migration, ...more] = blocksOf('README.md', 'js');
  assert.deepEqual(more, []);
  const { folder, p } = myProject(t);
  const start = await runProgram(folder, folder, quick!.text);
  assert.equal(start.status, 0, start.stderr);
  assert.equal((await p.json('list')).document.backups.length, 1);

  const then = state(p);
  const perform = (end: string) => `
    async function performMigration() {
      const Database = (await import(${JSON.stringify(require.resolve('better-sqlite3'))})).default;
      const db = new Database('agentdb.db'); db.exec('DROP TABLE patterns'); db.close();
      ${end}
    }`;
  const failed = await runProgram(folder, p.root, migration!.text + perform("throw new Error('half-way')"));
  assert.equal(failed.status, 1);
  assert.match(failed.stderr, /half-way/);
  assert.deepEqual(state(p), then);
  const done = await runProgram(folder, p.root, migration!.text + perform(''));
  assert.equal(done.status, 0, done.stderr);
  assert.notDeepEqual(state(p), then);
});

test('upgrading: the old scripts make place for links to the new ones, and the old helper hands on', { timeout: 600_000 }, async (t) => {
  const { folder, p } = myProject(t);
  const old = tempFolder(t, 'old');
  fs.renameSync(path.join(folder, 'node_modules'), p.at('node_modules'));
  fs.mkdirSync(p.at('scripts'));
  for (const name of ['backup-databases.sh', 'restore-databases.sh', 'manage-backups.sh']) fs.writeFileSync(p.at('scripts', name), 'exit 1\n');
  const [switching] = blocksOf('docs/upgrading.md', 'sh');
  const ran = await exec('bash', ['-ec', switching!.text.replaceAll('/tmp/', `${old}/`)], { cwd: p.root, env: cleanEnv() });
  assert.equal(ran.status, 0, ran.stderr);
  assert.match(ran.stdout, /Total backups: 0/);
  assert.equal(fs.readdirSync(old).length, 3);
  const made = await exec('./scripts/backup-databases.sh', [], { cwd: p.root, env: cleanEnv() });
  assert.equal(made.status, 0, made.stderr);

  const [helper] = blocksOf('docs/upgrading.md', 'ts');
  fs.writeFileSync(p.at('backup-helper.mjs'), helper!.text);
  const used = await runProgram(p.root, p.root, "import { backupHelper } from './backup-helper.mjs'\nconsole.log((await backupHelper.listBackups()).length)");
  assert.equal(used.stdout, '1\n', used.stderr);
});

test('upgrading: a backup without checksum is listed, fails verification, and takes --force', async (t) => {
  const { p } = myProject(t);
  const then = state(p);
  const timestamp = await craftSet(p, daysAgo(3), { sources, legacy: true });
  for (const source of sources) fs.rmSync(`${copyIn(p, source, timestamp)}.sha256`);
  for (const source of sources) withDatabase(p.at(source), (db) => db.exec('DELETE FROM episodes'));
  assert.equal((await p.json('list')).document.backups.length, 1);
  assert.equal((await p.run('verify', timestamp)).status, 4);
  const refused = await backup.restoreBackup(timestamp, { root: p.root });
  assert.equal(refused.code, 'NEEDS_FORCE', refused.error);
  const restored = await p.run('restore', timestamp, '--force');
  assert.equal(restored.status, 0, restored.stderr);
  assert.deepEqual(state(p), then);
});

const copyIn = (p: Project, source: string, timestamp: string): string => path.join(p.backups, `${path.basename(source)}.backup.${timestamp}`);

for (const section of sectionsOf('docs/json-output.md')) {
  test(`json-output: ${section.heading}`, { timeout: 600_000 }, async (t) => {
    for (const tool of ['script', ...(section.heading === 'With jq' ? ['jq'] : [])]) if (!(await hasTool(tool))) return (t as Skippable).skip(`no ${tool} here`);
    const { p } = myProject(t);
    const names = new Names(p.root, '/srv/app');
    for (const [shown, days] of [['20250115-020000', 2], ['20250116-020000', 1]] as const) names.bind(shown, await craftSet(p, daysAgo(days), { sources }));
    names.bind('20010101-000000', '20010101-000000');
    const [oldest] = (await p.json('list')).document.backups.map((b: { timestamp: string }) => b.timestamp).sort() as string[];
    flip(copyOf(p.backups, oldest!, '.agentic-qe/memory.db'), 9000);
    const shell = await shellIn(t, p);
    for (const block of section.blocks) {
      const where = `docs/json-output.md:${block.line}`;
      const ran = await shell.run(names.command(block.text, where));
      assert.equal(ran.exit, block.exit, `${where}\n${ran.printed}`);
      names.match(block.expected, ran.printed, where);
    }
    await shell.end();
  });
}
