// Throw-away projects: folders, databases, child processes, and ways to look at what is in them.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import Database from 'better-sqlite3';

/** The package's own folder. */
export const packageRoot = path.resolve(__dirname, '..', '..');
/** The command. */
export const bin = path.join(packageRoot, 'bin', 'aqe-backup.js');
/** Whether a missing tool must fail a test instead of skipping it. */
export const inCI = process.env.CI !== undefined && process.env.CI !== '' && process.env.CI !== 'false';
export const isRoot = process.getuid?.() === 0;
/** An account that owns nothing. */
export const nobody = 65534;

/** What `t` of node:test offers that is used here. */
export interface Context {
  after(fn: () => void | Promise<void>): void;
}

export interface Run {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A folder that is gone when the test is over. */
export function tempFolder(t: Context, name = 'p'): string {
  const made = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'aqe-backup-test-')));
  t.after(() => {
    fs.rmSync(made, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  });
  const folder = path.join(made, name);
  fs.mkdirSync(folder);
  return folder;
}

/** The environment for children: nothing of the caller's that would change what the package does. */
export function cleanEnv(more: Record<string, string> = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env };
  for (const name of ['AQE_PROJECT_ROOT', 'GITHUB_ENV', 'GITHUB_OUTPUT', 'NO_COLOR', 'FORCE_COLOR', 'NODE_OPTIONS', 'NODE_TEST_CONTEXT', 'TZ']) delete env[name];
  return { ...env, ...more };
}

/** Collects what `child` says until it ends. */
export function finished(child: ChildProcess): Promise<Run> {
  return new Promise((resolve, reject) => {
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout?.on('data', (b: Buffer) => out.push(b));
    child.stderr?.on('data', (b: Buffer) => err.push(b));
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() }));
  });
}

/** Runs a program to its end. */
export function exec(file: string, args: string[], options: SpawnOptions & { input?: string } = {}): Promise<Run> {
  const { input, ...rest } = options;
  const child = spawn(file, args, { env: cleanEnv(), ...rest, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
  if (input !== undefined) child.stdin?.end(input);
  return finished(child);
}

/** Runs Node on `source`, in which `Database` is better-sqlite3, `backup` the package (loaded when first used) and `args` the arguments. */
export function scriptArgs(source: string, args: string[], from = packageRoot): string[] {
  const head = `
    const fs = require('node:fs'), path = require('node:path');
    const args = process.argv.slice(1);
    const lazy = (name) => new Proxy(function () {}, { get: (_, k) => require(name)[k], construct: (_, a) => new (require(name))(...a), apply: (_, t, a) => require(name)(...a) });
    const Database = lazy(${JSON.stringify(path.join(packageRoot, 'node_modules', 'better-sqlite3'))});
    const backup = lazy(${JSON.stringify(path.join(from, 'index.js'))});
    const outcome = (p) => p.then((value) => ({ value }), (e) => ({ name: e.name, code: e.code, message: e.message }));
    const main = async () => {\n${source}\n};
    main().catch((e) => { console.error(e); process.exitCode = 99; });`;
  return ['-e', head, '--', ...args];
}

/** A script of this kind, run to its end; what it prints is JSON. `under`: what Node is started by. */
export async function runScript<T = unknown>(source: string, args: string[] = [], options: SpawnOptions & { from?: string; node?: string[]; under?: string[] } = {}): Promise<T> {
  const { from, node = [], under = [], ...rest } = options;
  const [file, ...before] = [...under, process.execPath];
  const run = await exec(file!, [...before, ...node, ...scriptArgs(source, args, from)], { cwd: os.tmpdir(), ...rest });
  assert.equal(run.status, 0, `the script ended with ${run.status ?? run.signal}: ${run.stderr}`);
  return JSON.parse(run.stdout) as T;
}

/** A child that goes on until it is told to stop. */
export interface Companion {
  child: ChildProcess;
  /** Resolves with the next whole line that it prints. */
  line(): Promise<string>;
  /** Sends a line to its standard input. */
  send(line: string): void;
  /** Closes its standard input and waits for its end. */
  end(): Promise<Run>;
}

/** Starts a script that talks by lines; it is killed when the test is over. */
export function companion(t: Context, source: string, args: string[] = [], options: SpawnOptions & { from?: string } = {}): Companion {
  const { from, ...more } = options;
  const child = spawn(process.execPath, scriptArgs(source, args, from), { cwd: os.tmpdir(), env: cleanEnv(), ...more, stdio: ['pipe', 'pipe', 'pipe'] });
  const lines: string[] = [];
  const waiting: { resolve: (line: string) => void; reject: (e: Error) => void }[] = [];
  let rest = '';
  let over = false;
  child.stdout.on('data', (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) {
      const next = waiting.shift();
      if (next) next.resolve(part);
      else lines.push(part);
    }
  });
  const end = finished(child);
  void end.then((run) => {
    over = true;
    for (const w of waiting) w.reject(new Error(`the companion ended with ${run.status ?? run.signal}: ${run.stderr}`));
  }, () => undefined);
  t.after(async () => {
    if (!over) child.kill('SIGKILL');
    await end.catch(() => undefined);
  });
  return {
    child,
    line: () =>
      new Promise((resolve, reject) => {
        const ready = lines.shift();
        if (ready !== undefined) resolve(ready);
        else if (over) reject(new Error('the companion has ended'));
        else waiting.push({ resolve, reject });
      }),
    send: (line) => void child.stdin.write(line + '\n'),
    end: () => {
      child.stdin.end();
      return end;
    },
  };
}

/** Another process that runs `sql` in a database, says so, and keeps the transaction until it is told to `end`. */
export async function holder(t: Context, db: string, sql: string): Promise<Companion> {
  const other = companion(
    t,
    `const db = new Database(args[0], { timeout: 10000 }); db.exec(args[1]);
     console.log('held');
     process.stdin.on('data', () => {}).on('end', () => { if (db.inTransaction) db.exec('COMMIT'); db.close(); });`,
    [db, sql],
  );
  assert.equal(await other.line(), 'held');
  return other;
}

/** Waits until a run holds the lock of its backups folder; false if it has ended before it was seen to. */
export async function holdsLock(backups: string, end: Promise<unknown>): Promise<boolean> {
  let over = false;
  void end.then(() => (over = true), () => (over = true));
  while (!over && (await exec('flock', ['-n', '-x', path.join(backups, '.lock'), 'true'])).status === 0) await sleep(20);
  return !over;
}

/** One project. */
export interface Project {
  root: string;
  /** The usual backups folder. */
  backups: string;
  /** An absolute path inside it. */
  at(...parts: string[]): string;
  /** Runs the command in the root. */
  run(...args: string[]): Promise<Run>;
  /** Runs the command with `--json` and parses the one document on standard output. */
  json(...args: string[]): Promise<{ status: number | null; document: Record<string, any>; stderr: string }>;
}

/** An empty project. */
export function project(t: Context, name = 'project'): Project {
  return projectAt(tempFolder(t, name));
}

/** The project that lies in `root`. */
export function projectAt(root: string): Project {
  const run = (...args: string[]) => exec(process.execPath, [bin, ...args], { cwd: root });
  return {
    root,
    backups: path.join(root, '.agentic-qe', 'backups'),
    at: (...parts) => path.join(root, ...parts),
    run,
    json: async (...args) => {
      const r = await run(...args, '--json');
      return { status: r.status, document: parseOne(r), stderr: r.stderr };
    },
  };
}

/** The one JSON document that a `--json` run prints. */
export function parseOne(run: Run): Record<string, any> {
  try {
    return JSON.parse(run.stdout) as Record<string, any>;
  } catch {
    return assert.fail(`standard output is not one JSON document (exit ${run.status ?? run.signal}):\n${run.stdout}\n${run.stderr}`);
  }
}

export interface Filling {
  rows?: number;
  journal?: 'wal' | 'delete';
  pageSize?: number;
  before?: string;
  after?: string;
}

/** Makes a database with episodes, patterns and an index, closed and checkpointed. */
export function makeDatabase(file: string, filling: Filling = {}): void {
  const { rows = 50, journal = 'delete', pageSize = 4096, before = '', after = '' } = filling;
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const db = new Database(file);
  try {
    db.pragma(`page_size = ${pageSize}`);
    if (before) db.exec(before);
    db.pragma(`journal_mode = ${journal}`);
    db.exec('CREATE TABLE episodes(id INTEGER PRIMARY KEY, task TEXT NOT NULL, embedding BLOB); CREATE TABLE patterns(id TEXT PRIMARY KEY, content TEXT); CREATE INDEX by_task ON episodes(task)');
    addRows(db, 1, rows);
    if (after) db.exec(after);
  } finally {
    db.close();
  }
}

/** A project with one database. */
export function withData(t: Context, rows = 20): Project {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows });
  return p;
}

/** Adds episodes `from`…`from + count - 1` and as many patterns, in one transaction. */
export function addRows(db: Database.Database, from: number, count: number, bytes = 400): void {
  const episode = db.prepare('INSERT INTO episodes(id, task, embedding) VALUES (?, ?, randomblob(?))');
  const pattern = db.prepare('INSERT INTO patterns VALUES (?, ?)');
  db.transaction(() => {
    for (let i = from; i < from + count; i++) {
      episode.run(i, `task ${i}`, bytes);
      pattern.run(`p${i}`, `pattern of ${i}`);
    }
  })();
}

/** Opens, uses and closes a database. */
export function withDatabase<T>(file: string, use: (db: Database.Database) => T, options: Database.Options = {}): T {
  const db = new Database(file, options);
  try {
    return use(db);
  } finally {
    db.close();
  }
}

/** Everything that SQL can see in a database: its schema and every row of every ordinary table, and that it is sound. */
export function contents(file: string): string {
  return withDatabase(file, (db) => dump(db), { fileMustExist: true });
}

/** As `contents`, through a connection that is open already. */
export function dump(db: Database.Database): string {
  assert.deepEqual(db.pragma('integrity_check'), [{ integrity_check: 'ok' }]);
  const schema = db.prepare<[], { type: string; name: string; tbl_name: string; sql: string | null }>('SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name').all();
  const hash = createHash('sha256');
  hash.update(JSON.stringify(schema));
  for (const { type, name, sql } of schema) {
    if (type !== 'table' || sql === null || /^CREATE VIRTUAL/i.test(sql)) continue;
    hash.update(`\n${name}\n`);
    const rows = db.prepare(`SELECT * FROM "${name.replaceAll('"', '""')}"`).raw().safeIntegers();
    for (const row of rows.iterate() as IterableIterator<unknown[]>) {
      for (const value of row) {
        if (Buffer.isBuffer(value)) hash.update(`\0blob ${value.length} `).update(value);
        else hash.update(`\0${typeof value} ${String(value)}`);
      }
      hash.update('\n');
    }
  }
  return `${schema.map((s) => s.name).join(',')} ${hash.digest('hex')}`;
}

/** Rows of a table. */
export function count(file: string, table = 'episodes'): number {
  return withDatabase(file, (db) => db.prepare(`SELECT count(*) FROM "${table}"`).pluck().get() as number, { fileMustExist: true });
}

/** SHA-256 of a file that no connection of this process holds. */
export function sha256(file: string): string {
  const hash = createHash('sha256');
  const fd = fs.openSync(file, 'r');
  try {
    const block = Buffer.alloc(4 << 20);
    for (let n; (n = fs.readSync(fd, block)) > 0; ) hash.update(block.subarray(0, n));
  } finally {
    fs.closeSync(fd);
  }
  return hash.digest('hex');
}

const counters: [number, number][] = [[18, 20], [24, 28], [40, 44], [92, 100]];

/** Asserts that a restored database is its backup, but for the header bytes in which SQLite counts changes and keeps the journal mode. */
export function assertRestored(live: string, copy: string): void {
  withDatabase(live, (db) => db.pragma('wal_checkpoint(TRUNCATE)'));
  assert.equal(fs.statSync(live).size, fs.statSync(copy).size, `${live} is not as long as its backup`);
  const a = fs.openSync(live, 'r');
  const b = fs.openSync(copy, 'r');
  try {
    const [x, y] = [Buffer.alloc(4 << 20), Buffer.alloc(4 << 20)];
    for (let at = 0; ; ) {
      const n = fs.readSync(a, x, 0, x.length, at);
      assert.equal(fs.readSync(b, y, 0, n || 1, at), n);
      if (n === 0) return;
      if (at === 0) for (const [from, to] of counters) (x.fill(0, from, to), y.fill(0, from, to));
      if (!x.subarray(0, n).equals(y.subarray(0, n))) {
        const off = x.subarray(0, n).findIndex((v, i) => v !== y[i]);
        assert.fail(`${live} differs from its backup at byte ${at + off}`);
      }
      at += n;
    }
  } finally {
    fs.closeSync(a);
    fs.closeSync(b);
  }
}

/** What is in a folder, at any depth: each path with its mode, length and hash. Only while no connection of this process is open on anything in it. */
export function tree(folder: string, leaveOut: (relative: string) => boolean = () => false): Record<string, string> {
  const seen: Record<string, string> = {};
  const walk = (dir: string): void => {
    for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
      const full = path.join(dir, entry.name);
      const relative = path.relative(folder, full);
      if (leaveOut(relative)) continue;
      const stat = fs.lstatSync(full);
      const mode = (stat.mode & 0o7777).toString(8);
      if (entry.isDirectory()) {
        seen[relative] = `folder ${mode}`;
        walk(full);
      } else if (entry.isFile()) seen[relative] = `${mode} ${stat.size} ${sha256(full)}`;
      else seen[relative] = entry.isSymbolicLink() ? `link to ${fs.readlinkSync(full)}` : 'special';
    }
  };
  if (fs.existsSync(folder)) walk(folder);
  return seen;
}

/** `tree` of a backups folder without the two entries that stay for ever. */
export function sets(folder: string): Record<string, string> {
  return tree(folder, (name) => name === '.lock' || name === '.gitignore');
}

/** `tree` of everything around a project, and in it, without those. */
export function surroundings(p: Project): Record<string, string> {
  return tree(path.dirname(p.root), (name) => /\.lock$|\.gitignore$/.test(name));
}

/** Asserts that no run left anything of its own in a backups folder. */
export function assertNoLeftovers(folder: string): void {
  const hidden = fs.existsSync(folder) ? fs.readdirSync(folder).filter((n) => n.startsWith('.') && n !== '.lock' && n !== '.gitignore' && !/\.backup\.\d{8}-\d{6}/.test(n)) : [];
  assert.deepEqual(hidden, [], 'a run left something behind');
}

/** The metadata of a set. */
export interface Metadata {
  timestamp: string;
  date: string;
  hostname: string;
  user: string;
  git_commit: string;
  git_branch: string;
  compressed: boolean;
  format?: number;
  tool?: string;
  sqlite_version?: string;
  project?: string;
  kind?: string;
  operation?: string;
  label?: string;
  verified?: boolean;
  databases: {
    file: string;
    source: string;
    size: number;
    sha256: string;
    sqlite: { page_size: number; page_count: number; journal_mode: string; encoding: string; user_version: number; application_id: number; integrity: string; tables: Record<string, number> } | null;
  }[];
}

export function metadataPath(folder: string, timestamp: string): string {
  return path.join(folder, `backup-metadata.${timestamp}.json`);
}

export function readMetadata(folder: string, timestamp: string): Metadata {
  return JSON.parse(fs.readFileSync(metadataPath(folder, timestamp), 'utf8')) as Metadata;
}

/** The checksum file of a set's metadata. */
export function sealPath(folder: string, timestamp: string): string {
  return `${metadataPath(folder, timestamp)}.sha256`;
}

/** Gives the metadata of a set, as it is now, a new checksum file. */
export function seal(folder: string, timestamp: string): void {
  const file = metadataPath(folder, timestamp);
  fs.writeFileSync(sealPath(folder, timestamp), `${sha256(file)}  ${path.basename(file)}\n`, { mode: 0o600 });
}

/** Rewrites the metadata of a set, with its checksum file if it has one: what somebody would do who knows how. */
export function editMetadata(folder: string, timestamp: string, edit: (m: Metadata & Record<string, unknown>) => void): void {
  const file = metadataPath(folder, timestamp);
  const m = JSON.parse(fs.readFileSync(file, 'utf8')) as Metadata & Record<string, unknown>;
  edit(m);
  fs.writeFileSync(file, JSON.stringify(m, null, 2) + '\n');
  if (fs.existsSync(sealPath(folder, timestamp))) seal(folder, timestamp);
}

/** Path of the copy of `source` in a set. */
export function copyOf(folder: string, timestamp: string, source: string): string {
  const record = readMetadata(folder, timestamp).databases.find((d) => d.source === source);
  assert.ok(record, `the set ${timestamp} has no ${source}`);
  return path.join(folder, record.file);
}

/** Changes one byte of a file in place. */
export function flip(file: string, at: number): void {
  const fd = fs.openSync(file, 'r+');
  try {
    const byte = Buffer.alloc(1);
    assert.equal(fs.readSync(fd, byte, 0, 1, at), 1, `${file} has no byte ${at}`);
    byte[0] = (byte[0] ?? 0) ^ 0x40;
    fs.writeSync(fd, byte, 0, 1, at);
  } finally {
    fs.closeSync(fd);
  }
}

/** `YYYYMMDD-HHMMSS` in UTC. */
export function stamp(date: Date): string {
  return date.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
}

/** The moment that a timestamp names. */
export function momentOf(timestamp: string): Date {
  const m = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)$/.exec(timestamp);
  assert.ok(m, `${timestamp} is not a timestamp`);
  return new Date(`${m[1]}-${m[2]}-${m[3]}T${m[4]}:${m[5]}:${m[6]}Z`);
}

/** A moment `days` ago, to the second. */
export function daysAgo(days: number): Date {
  return new Date(Math.floor(Date.now() / 1000 - days * 86400) * 1000);
}

/** `name` → `name.backup.TS` with its sidecar, as the contract lays a set down; with metadata, unless `legacy`; with an archive on demand. */
export async function craftSet(
  p: Project,
  date: Date,
  options: { kind?: string; legacy?: boolean; archive?: boolean; sources?: string[]; verified?: boolean; edit?: (m: Metadata & Record<string, unknown>) => void } = {},
): Promise<string> {
  const { kind = 'automated', legacy = false, archive = false, sources = ['agentdb.db'], verified = true, edit } = options;
  const timestamp = stamp(date);
  fs.mkdirSync(p.backups, { recursive: true, mode: 0o700 });
  const members: string[] = [];
  const databases: Metadata['databases'] = [];
  for (const source of sources) {
    const file = `${path.basename(source)}.backup.${timestamp}`;
    const copy = path.join(p.backups, file);
    fs.copyFileSync(p.at(source), copy);
    fs.chmodSync(copy, 0o600);
    const hash = sha256(copy);
    fs.writeFileSync(`${copy}.sha256`, `${hash}  ${file}\n`, { mode: 0o600 });
    members.push(file, `${file}.sha256`);
    const sqlite = withDatabase(p.at(source), (db) => ({
      page_size: db.pragma('page_size', { simple: true }) as number,
      page_count: db.pragma('page_count', { simple: true }) as number,
      journal_mode: db.pragma('journal_mode', { simple: true }) as string,
      encoding: db.pragma('encoding', { simple: true }) as string,
      user_version: db.pragma('user_version', { simple: true }) as number,
      application_id: db.pragma('application_id', { simple: true }) as number,
      integrity: verified ? 'ok' : 'not-checked',
      tables: Object.fromEntries(
        db
          .prepare<[], { name: string }>("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
          .all()
          .map(({ name }) => [name, db.prepare(`SELECT count(*) FROM "${name}"`).pluck().get() as number]),
      ),
    }));
    databases.push({ file, source, size: fs.statSync(copy).size, sha256: hash, sqlite });
  }
  if (!legacy) {
    const m: Metadata & Record<string, unknown> = {
      timestamp,
      date: date.toISOString().replace(/\.\d+Z$/, 'Z'),
      hostname: 'crafted',
      user: 'crafted',
      git_commit: 'N/A',
      git_branch: 'N/A',
      compressed: archive,
      format: 1,
      tool: 'crafted',
      sqlite_version: '3.50.0',
      kind,
      verified,
      databases,
    };
    if (kind === 'safety') m.operation = 'crafted';
    edit?.(m);
    fs.writeFileSync(metadataPath(p.backups, timestamp), JSON.stringify(m, null, 2) + '\n', { mode: 0o600 });
    members.push(`backup-metadata.${timestamp}.json`);
  }
  if (archive) {
    const name = `databases-backup-${timestamp}.tar.gz`;
    const run = await exec('tar', ['-czf', name, '--', ...members], { cwd: p.backups });
    assert.equal(run.status, 0, run.stderr);
    fs.chmodSync(path.join(p.backups, name), 0o600);
    fs.writeFileSync(path.join(p.backups, `${name}.sha256`), `${sha256(path.join(p.backups, name))}  ${name}\n`, { mode: 0o600 });
  }
  return timestamp;
}

/** How a promise ended, as a code: of a rejection, or of a result that says `success: false`; `undefined` when it went well. */
export async function codeOf(promise: Promise<unknown>): Promise<{ code: string | undefined; message: string; rejected: boolean }> {
  try {
    const value = (await promise) as { success?: boolean; code?: string; error?: string } | undefined;
    if (value && typeof value === 'object' && value.success === false) return { code: value.code ?? 'no code', message: value.error ?? '', rejected: false };
    return { code: undefined, message: '', rejected: false };
  } catch (e) {
    const { code, message } = e as { code?: string; message: string };
    return { code: code ?? 'no code', message, rejected: true };
  }
}

/** Every code that the contract names. */
export const codes = new Set(
  'NO_DATABASES INVALID_TIMESTAMP BACKUP_NOT_FOUND CHECKSUM_MISMATCH SOURCE_DAMAGED BACKUP_DAMAGED DATABASE_BUSY LOCK_TIMEOUT NO_SPACE PERMISSION_DENIED IO_ERROR NEEDS_FORCE RESTORE_ROLLED_BACK RESTORE_INCOMPLETE UNSUPPORTED_FORMAT UNSAFE_PLATFORM ABORT_ERR ERR_INVALID_ARG_TYPE ERR_INVALID_ARG_VALUE'.split(
    ' ',
  ),
);

/**
 * The locks of this very process on a file's inode, as the kernel tells them. It hands the list out in pieces, and
 * repeats or skips a line when another process locks or unlocks between two; so what is in any of three readings
 * counts. A lock that is gone is in none.
 */
export function ownLocks(file: string): string[] {
  const { ino } = fs.statSync(file);
  const found = new Set<string>();
  for (let reading = 0; reading < 3; reading++) {
    for (const line of fs.readFileSync('/proc/locks', 'utf8').split('\n')) {
      const f = line.trim().split(/\s+/).slice(1);
      if (f[0] === 'POSIX' && f[3] === String(process.pid) && f[4]?.split(':')[2] === String(ino)) found.add(f.join(' '));
    }
  }
  return [...found].sort();
}

/** Descriptors that this process has open. */
export function openDescriptors(): number {
  return fs.readdirSync('/proc/self/fd').length;
}

/** Waits. */
export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A copy of the built package in a place that every account can read. */
export function publicPackage(t: Context): string {
  const folder = tempFolder(t, 'package');
  fs.chmodSync(path.dirname(folder), 0o755);
  for (const name of fs.readdirSync(packageRoot)) {
    if (['index.js', 'index.d.ts', 'package.json', 'bin'].includes(name) || name.endsWith('.node')) fs.cpSync(path.join(packageRoot, name), path.join(folder, name), { recursive: true });
  }
  fs.chmodSync(folder, 0o755);
  return folder;
}

/** Options for a child that may do little: another account if we are root, ourselves otherwise. */
export function unprivileged(): SpawnOptions {
  return isRoot ? { uid: nobody, gid: nobody, env: cleanEnv({ HOME: '/' }) } : {};
}

/** Whether a program is on this machine; in CI, it has to be. */
export async function hasTool(name: string): Promise<boolean> {
  const run = await exec('sh', ['-c', 'command -v -- "$1"', 'sh', name]);
  if (run.status !== 0 && inCI) assert.fail(`${name} is not installed; this test needs it`);
  return run.status === 0;
}
