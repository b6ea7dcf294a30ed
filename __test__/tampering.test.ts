// Something else works in the folder in which a set is being made: it is noticed before the set is published.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { assertNoLeftovers, bin, cleanEnv, exec, makeDatabase, parseOne, project, sets, sleep, tempFolder, withDatabase, type Project } from './helpers/project';
import { needStrace } from './helpers/syscalls';

const MiB = 2 ** 20;

/** The files of the set in the making, if one is. */
function staged(p: Project): string[] {
  const staging = fs.existsSync(p.backups) ? fs.readdirSync(p.backups).find((name) => name.startsWith('.staging-')) : undefined;
  try {
    return staging === undefined ? [] : fs.readdirSync(path.join(p.backups, staging)).map((name) => path.join(p.backups, staging, name));
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw e;
  }
}

/** Turns a byte around, and keeps it so: nobody can tell when it was written for good. */
function turned(at: (size: number) => number): (file: string) => void {
  let first: { at: number; wrong: Buffer } | undefined;
  return (file) => {
    const fd = fs.openSync(file, 'r+');
    try {
      if (first === undefined) {
        const byte = Buffer.alloc(1);
        const place = at(fs.fstatSync(fd).size);
        fs.readSync(fd, byte, 0, 1, place);
        first = { at: place, wrong: Buffer.from([byte[0]! ^ 1]) };
      }
      fs.writeSync(fd, first.wrong, 0, 1, first.at);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  };
}

const middle = (size: number): number => Math.floor(size / 2);
const cases: { what: string; which: RegExp; journal?: 'wal' | 'delete'; least?: number; once?: boolean; does: () => (file: string) => void }[] = [
  { what: 'the record has another byte', which: /\/backup-metadata\.[^/]*\.json$/, does: () => turned(middle) },
  { what: 'the seal has another byte', which: /\.json\.sha256$/, does: () => turned(middle) },
  { what: 'the checksum of a copy has another byte', which: /\.db\.backup\.[-0-9]*\.sha256$/, does: () => turned(middle) },
  { what: 'the checksum of the archive has another byte', which: /\.tar\.gz\.sha256$/, does: () => turned(middle) },
  { what: 'the archive has another byte near its beginning', which: /\.tar\.gz$/, least: 3 * MiB, does: () => turned(() => 5000) },
  { what: 'the archive has another byte far behind its beginning', which: /\.tar\.gz$/, least: 3 * MiB, does: () => turned((size) => size - 50_000) },
  ...(['wal', 'delete'] as const).flatMap((journal) => [
    { what: `a copy is replaced (${journal})`, which: /\.db\.backup\.[-0-9]*$/, journal, once: true, does: () => (file: string) => { fs.writeFileSync(`${file}.other`, 'another file'); fs.renameSync(`${file}.other`, file); } },
    { what: `a copy is removed (${journal})`, which: /\.db\.backup\.[-0-9]*$/, journal, once: true, does: () => (file: string) => fs.unlinkSync(file) },
    { what: `a copy gets longer (${journal})`, which: /\.db\.backup\.[-0-9]*$/, journal, does: () => (file: string) => fs.appendFileSync(file, 'more') },
  ]),
];

// They mostly wait.
describe('while a backup is made', { concurrency: cases.length }, () => {
  for (const { what, which, journal = 'wal', least = 1, once = false, does } of cases)
    test(`${what}: there is no backup, and it is told so`, { timeout: 600_000 }, async (t) => {
      needStrace();
      const p = project(t);
      makeDatabase(p.at('agentdb.db'), { journal, rows: 20 });
      withDatabase(p.at('agentdb.db'), (db) => db.exec("INSERT INTO episodes(task, embedding) WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) SELECT 'large ' || i, randomblob(105000) FROM n"));
      let over = false;
      // Between the writing of a file and its reading back there is its flush.
      const command = ['-f', '-qq', '--seccomp-bpf', '-o', path.join(tempFolder(t), 'log'), '-e', 'inject=fsync:delay_enter=1500000', process.execPath, bin, 'create', '--json'];
      const run = exec('strace', command, { cwd: p.root, env: cleanEnv() }).finally(() => (over = true));
      const act = does();
      let acted = 0;
      for (; !over && !(once && acted > 0); await sleep(10)) {
        const file = staged(p).find((name) => which.test(name));
        try {
          if (file === undefined || fs.statSync(file).size < least) continue;
          act(file);
          acted++;
        } catch (e) {
          // It is gone: the run has ended.
          if ((e as NodeJS.ErrnoException).code !== 'ENOENT') throw e;
        }
      }
      const { status, stdout, stderr } = await run;
      assert.ok(acted > 0, 'the file was not seen');
      assert.deepEqual([status, parseOne({ status, stdout, stderr } as never).code], [4, 'CHECKSUM_MISMATCH'], stdout + stderr);
      assert.deepEqual(sets(p.backups), {});
      assertNoLeftovers(p.backups);
    });
});
