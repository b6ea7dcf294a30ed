// Every byte of every file of a small set, and every length: verify says no, and a restore is refused or heals from the archive.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../../index.js';
import { assertNoLeftovers, codeOf, codes, contents, makeDatabase, metadataPath, project, projectAt, sealPath, sha256, tempFolder, withDatabase, type Context, type Project } from '../helpers/project';
import { chosen, report } from '../helpers/proof';

/** One way to spoil a file: what is there instead, `null` for nothing; or the file is left and something else happens. */
interface Point {
  set: 'with archive' | 'without archive' | 'archive only';
  file: string;
  what: string;
  spoil: (p: Project) => void;
}

interface Subject {
  template: Project;
  sets: Record<Point['set'], string>;
  /** Another set of the same names. */
  other: string;
  /** Of the live databases, as they are and as they were when the sets were made. */
  now: Buffer[];
  then: string[];
}

const sources = ['agentdb.db', '.agentic-qe/memory.db', 'notes.db'];
const copiesIn = 200;

function tiny(file: string, word: string): void {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  withDatabase(file, (db) => {
    db.pragma('page_size = 512');
    db.exec(`CREATE TABLE IF NOT EXISTS words(word TEXT); DELETE FROM words; INSERT INTO words VALUES ('${word}')`);
  });
}

function state(p: Project): string[] {
  return sources.map((s) => (s === 'notes.db' ? fs.readFileSync(p.at(s), 'utf8') : contents(p.at(s))));
}

async function subject(t: Context): Promise<Subject> {
  const template = project(t);
  const write = (word: string): void => {
    for (const s of sources.slice(0, 2)) tiny(template.at(s), word);
    fs.writeFileSync(template.at('notes.db'), `${word}, plainly`);
  };
  const make = async (compress: boolean): Promise<string> => {
    const made = await backup.createBackup({ root: template.root, compress, keepLast: null });
    assert.equal(made.success, true, made.error);
    return made.timestamp;
  };
  write('other');
  const other = await make(true);
  write('then');
  const then = state(template);
  const sets = { 'with archive': await make(true), 'without archive': await make(false), 'archive only': await make(true) };
  for (const name of fs.readdirSync(template.backups)) if (name.includes(sets['archive only']) && !name.startsWith('databases-backup-')) fs.rmSync(path.join(template.backups, name));
  write('now');
  return { template, sets, other, now: sources.map((s) => fs.readFileSync(template.at(s))), then };
}

/** All files of a set. */
const filesOf = (folder: string, ts: string): string[] => fs.readdirSync(folder).filter((n) => n.includes(ts)).sort();

/** What a checksum file says, as sha256sum would take it; `undefined`: nothing. */
function meaning(name: string, bytes: Buffer): string | undefined {
  const m = /^(\\?)([0-9a-fA-F]{64}) [ *](.*?)(\r?\n)?$/s.exec(bytes.toString('latin1'));
  return m && m[1] === '' && m[3] === name.slice(0, -'.sha256'.length) ? m[2]!.toLowerCase() : undefined;
}

function pointsOf(s: Subject): Point[] {
  const points: Point[] = [];
  for (const [set, ts] of Object.entries(s.sets) as [Point['set'], string][]) {
    for (const file of filesOf(s.template.backups, ts)) {
      const at = (p: Project, name = file): string => path.join(p.backups, name);
      const bytes = fs.readFileSync(at(s.template));
      const add = (what: string, spoil: (p: Project) => void): void => void points.push({ set, file, what, spoil });
      const put = (what: string, changed: Buffer): void => {
        if (file.endsWith('.sha256') && meaning(file, changed) === meaning(file, bytes)) return;
        add(what, (p) => fs.writeFileSync(at(p), changed));
      };
      for (let i = 0; i < bytes.length; i++) {
        for (const [mask, how] of [[1 << (i % 8), 'one bit'], [0xff, 'every bit']] as const) {
          const changed = Buffer.from(bytes);
          changed[i]! ^= mask;
          put(`${how} of byte ${i} flipped`, changed);
        }
        put(`cut to ${i} bytes`, bytes.subarray(0, i));
      }
      for (const more of ['\0', 'x', '\n', bytes.toString('latin1')]) put(`lengthened by ${JSON.stringify(more.slice(0, 4))}`, Buffer.concat([bytes, Buffer.from(more, 'latin1')]));
      const twin = file.replaceAll(ts, s.other);
      put('replaced by that of another set', fs.readFileSync(at(s.template, twin)));
      add('renamed to that of another set', (p) => fs.renameSync(at(p), at(p, twin)));
      add('removed', (p) => fs.rmSync(at(p)));
      add('replaced by a folder', (p) => (fs.rmSync(at(p)), fs.mkdirSync(at(p))));
      add('replaced by a link to itself', (p) => (fs.rmSync(at(p)), fs.symlinkSync(file, at(p))));
    }
  }
  return points;
}

/** An archive is no part of what verifies: people remove it to get space back. */
const isRemovedArchive = (p: Point, ts: string): boolean => p.set === 'with archive' && p.file === `databases-backup-${ts}.tar.gz` && (p.what === 'removed' || p.what.startsWith('renamed'));

/** Where there is nothing left of a set, there is no set. */
const isGone = (p: Point, ts: string): boolean => p.set === 'archive only' && p.file === `databases-backup-${ts}.tar.gz` && !/flipped|cut|lengthened|another set/.test(p.what);

test('whichever byte of a set changes, goes or comes, verify says no, and a restore is refused or takes the archive; never is a database half old', { timeout: 7_200_000 }, async (t) => {
  const s = await subject(t);
  const all = pointsOf(s);
  assert.ok(all.length > 10_000, `only ${all.length} points`);
  const counts = { points: 0, healed: 0, refused: 0, unneeded: 0 };
  const kinds = new Map<string, Point[]>();
  for (const point of all) {
    const kind = `${point.set} ${point.file.replace(/\d{8}-\d{6}/, '')} ${point.what.replace(/\d+/g, 'N')}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), point]);
  }
  // At least one of every kind, whatever the sample.
  const each = [...kinds.values()].map((points) => points[Math.floor(points.length / 2)]!);
  const some = [...new Set([...chosen(all, 60), ...chosen(each, 60)])];
  let p = s.template;
  for (const [i, point] of some.entries()) {
    // One folder after the other: every restore makes a safety set, and names must not run ahead of the clock for ever.
    if (i % copiesIn === 0) {
      const root = path.join(tempFolder(t, 'copy'), 'p');
      fs.cpSync(s.template.root, root, { recursive: true });
      p = projectAt(root);
    }
    await tryPoint(s, p, point, counts);
  }
  assert.ok(counts.healed > 0 && counts.refused > 0 && counts.unneeded > 0, JSON.stringify(counts));
  report('every-byte', counts);
});

async function tryPoint(s: Subject, p: Project, point: Point, counts: { points: number; healed: number; refused: number; unneeded: number }): Promise<void> {
  const ts = s.sets[point.set];
  const what = `${point.set}: ${point.file} ${point.what}`;
  const before = new Set(fs.readdirSync(p.backups));
  point.spoil(p);
  counts.points++;
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), isRemovedArchive(point, ts), `${what}: verify`);
  const listed = (await backup.listBackups({ root: p.root, archives: true })).some((b) => b.timestamp === ts);
  assert.equal(listed, !isGone(point, ts), `${what}: listed`);
  const r = await codeOf(backup.restoreBackup(ts, { root: p.root }));
  assert.equal(r.rejected, false, `${what}: ${r.message}`);
  if (r.code === undefined) {
    assert.deepEqual(state(p), s.then, what);
    // Without another source, spoilt bytes must not be used; a checksum file beside an archive is not needed for it.
    assert.ok(point.set === 'with archive' || point.file.endsWith('.tar.gz.sha256'), `${what}: restored`);
    if (point.file.startsWith('databases-backup-')) counts.unneeded++;
    else counts.healed++;
  } else {
    assert.ok(codes.has(r.code) && r.message.length > 20, `${what}: ${r.code} ${r.message}`);
    assert.notEqual(point.set, 'with archive', `${what}: not healed: ${r.message}`);
    sources.forEach((source, k) => assert.ok(fs.readFileSync(p.at(source)).equals(s.now[k]!), `${what}: ${source} was changed`));
    counts.refused++;
  }
  assertNoLeftovers(p.backups);
  for (const name of fs.readdirSync(p.backups)) if (!before.has(name)) fs.rmSync(path.join(p.backups, name), { recursive: true });
  for (const name of before) {
    if (!name.includes(ts) && !name.includes(s.other)) continue;
    const [from, to] = [path.join(s.template.backups, name), path.join(p.backups, name)];
    if (fs.lstatSync(to, { throwIfNoEntry: false })?.isFile() !== true) fs.rmSync(to, { recursive: true, force: true });
    fs.copyFileSync(from, to);
  }
  sources.forEach((source, k) => fs.writeFileSync(p.at(source), s.now[k]!));
}

test('the command says which file is damaged, and exits 4', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 3, pageSize: 512 });
  const ts = (await backup.createBackup({ root: p.root })).timestamp;
  assert.equal((await p.run('verify', ts)).status, 0);
  for (const file of [metadataPath(p.backups, ts), sealPath(p.backups, ts), `${metadataPath(p.backups, ts).replace('backup-metadata.', 'agentdb.db.backup.').replace('.json', '')}`]) {
    const bytes = fs.readFileSync(file);
    fs.writeFileSync(file, Buffer.concat([bytes.subarray(0, 10), Buffer.from('x'), bytes.subarray(11)]));
    const run = await p.run('verify', ts);
    assert.equal(run.status, 4, run.stdout + run.stderr);
    assert.ok((run.stdout + run.stderr).includes(path.basename(file).replace(/\.sha256$/, '')), run.stdout);
    fs.writeFileSync(file, bytes);
  }
});

test('a changed record is believed with verify off, and a warning says so; sealed again on purpose it counts', { timeout: 600_000 }, async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 3 });
  const ts = (await backup.createBackup({ root: p.root, compress: false })).timestamp;
  const file = metadataPath(p.backups, ts);
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"agentdb.db"', '"moved.db"'));
  assert.deepEqual((await backup.listBackups({ root: p.root })).map((b) => [b.timestamp, b.complete]), [[ts, false]]);
  const refused = await codeOf(backup.restoreBackup(ts, { root: p.root }));
  assert.equal(refused.code, 'CHECKSUM_MISMATCH', refused.message);
  const forced = await codeOf(backup.restoreBackup(ts, { root: p.root, force: true }));
  assert.equal(forced.code, 'CHECKSUM_MISMATCH', 'force is no reason to believe a changed record');
  const r = await backup.restoreBackup(ts, { root: p.root, verify: false, force: true });
  assert.equal(r.success, true, r.error);
  assert.ok(r.warnings.some((w) => w.includes(path.basename(file))), r.warnings.join('\n'));
  assert.equal(contents(p.at('moved.db')), contents(p.at('agentdb.db')));
  for (const text of [(h: string, n: string) => `${h}  ${n}\n`, (h: string, n: string) => `${h.toUpperCase()} *${n}\r\n`]) {
    fs.writeFileSync(sealPath(p.backups, ts), text(sha256(file), path.basename(file)));
    assert.equal(await backup.verifyBackup(ts, { root: p.root }), true, JSON.stringify(await backup.inspectBackup(ts, { root: p.root })));
  }
  fs.rmSync(p.at('moved.db'));
  const asked = await codeOf(backup.restoreBackup(ts, { root: p.root }));
  assert.equal(asked.code, 'NEEDS_FORCE', 'the copy is still called after another database');
  assert.equal((await backup.restoreBackup(ts, { root: p.root, force: true })).success, true);
});
