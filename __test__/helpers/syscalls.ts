// The command under strace from the moment it begins its work: which system calls it makes on a project, and what
// becomes of it when one of them fails or is its last.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { bin, cleanEnv, finished, tempFolder, type Context, type Run } from './project';

/** Everything by which files and folders are looked at, read, changed and locked. */
const calls = [
  'open', 'openat', 'openat2', 'creat', 'close', 'read', 'pread64', 'readv', 'preadv', 'lseek', 'mmap', 'stat', 'lstat', 'fstat', 'newfstatat', 'statx', 'statfs', 'fstatfs',
  'access', 'faccessat', 'faccessat2', 'readlink', 'readlinkat', 'getdents64', 'fcntl', 'flock', 'write', 'pwrite64', 'writev', 'pwritev', 'copy_file_range', 'sendfile', 'fsync', 'fdatasync', 'ftruncate',
  'fallocate', 'rename', 'renameat', 'renameat2', 'link', 'linkat', 'unlink', 'unlinkat', 'mkdir', 'mkdirat', 'rmdir', 'chmod', 'fchmod', 'fchmodat', 'chown', 'fchown', 'fchownat', 'utimensat', 'symlink', 'symlinkat',
]; // prettier-ignore

/** What may happen at a call; with `+` also at each later one of the same name. */
export const faults = ['SIGKILL', 'EIO', 'ENOSPC', 'EACCES', 'EINTR', 'EIO+', 'ENOSPC+'] as const;
export type Fault = (typeof faults)[number];

/** The `when`-th call of this name by the thread that does the work. */
export interface Call {
  name: string;
  when: number;
  /** As strace shows it. */
  line: string;
}

export interface Point extends Call {
  fault: Fault;
}

/** A run under strace. */
export interface Traced extends Run {
  log: string;
  /** Whether the fault came upon a file of the project. */
  hit: boolean;
  /** Whether it came upon something of Node's, which may die of it. */
  astray: boolean;
}

export function needStrace(): void {
  assert.equal(spawnSync('strace', ['-V']).status, 0, 'strace is not installed; without it no system call can be watched, or made to fail or to be the last (apt-get install strace)');
}

/**
 * What Node is to be started by so that no page that it reads of `file` takes less than `milliseconds`. What must not be over
 * before something else happens is then not, however fast the disk is.
 */
export function slowly(file: string, milliseconds: number): string[] {
  needStrace();
  return ['strace', '-f', '--seccomp-bpf', '-qq', '-o', '/dev/null', '-P', file, '-e', 'trace=pread64', '-e', `inject=pread64:delay_enter=${milliseconds * 1000}`];
}

const straceBin = ((): string => {
  const found = spawnSync('sh', ['-c', 'command -v strace'], { encoding: 'utf8' });
  return found.stdout.trim();
})();

// strace is the command's parent, as systems demand that let a process trace only its children. A fault that comes upon Node makes
// it abort, and where cores are kept, that would lie among the files that are judged.
const script = `ulimit -c 0
exec 5>&2
"$NODE" "$GATE" "$@" 2>&5 4>&- 5>&- &
IFS= read -r go
exec 2>&4 3>&- 4>&- 5>&-
exec "$STRACE" -f -y -s 8 -o "$LOG" $EXPRESSIONS -p $!`;

/** The first line that `from` gives and `wanted` takes. */
function lineOf(from: Readable, wanted: (line: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    from.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const line = text.split('\n').slice(0, -1).find(wanted);
      if (line !== undefined) resolve(line);
    });
    from.on('close', () => reject(new Error(`it ended before it said what was waited for: ${text}`)));
  });
}

/** Runs the command in `root` under strace, which traces and injects as `expressions` say. */
async function traced(root: string, log: string, expressions: string[], args: string[]): Promise<Traced> {
  const env = cleanEnv({
    NODE: process.execPath, GATE: path.join(__dirname, 'gate.cjs'), STRACE: straceBin, LOG: log, EXPRESSIONS: expressions.map((e) => `-e ${e}`).join(' '),
    PATH: '/nonexistent', // No git: what that does with files is not our concern.
    MALLOC_ARENA_MAX: '1', // With more, glibc opens a file of /proc now and then, in whichever thread, and calls are told by their number.
  }); // prettier-ignore
  const child = spawn('/bin/sh', ['-c', script, 'sh', bin, ...args], { cwd: root, env, stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'] });
  const end = finished(child);
  const [go, ready, said] = [child.stdio[0] as Writable, child.stdio[3] as Readable, child.stdio[4] as Readable];
  const attached = lineOf(said, (line) => /attached/.test(line));
  const pid = await Promise.race([lineOf(ready, () => true), end.then((run) => assert.fail(`the command did not start: ${run.stderr}`))]);
  go.end('\n');
  await attached;
  // The gate waits for this.
  os.setPriority(Number(pid), os.getPriority(Number(pid)) + 1);
  const run = await end;
  const text = fs.readFileSync(log, 'utf8');
  const last = new RegExp(`^${pid} +\\+\\+\\+ (?:exited with (\\d+)|killed by (\\w+))`, 'm').exec(text);
  assert.ok(last, `strace does not say how the command ended:\n${text.slice(-2000)}\n${run.stderr}`);
  const [, status, signal] = last;
  return { ...run, status: status === undefined ? null : Number(status), signal: (signal as NodeJS.Signals | undefined) ?? null, log: text, ...struck(text, root, signal === 'SIGKILL') };
}

/** Upon what faults came: the calls that were made to fail, or the one that was never ended. */
function struck(log: string, root: string, killed: boolean): { hit: boolean; astray: boolean } {
  const all = log.split('\n');
  const lines = killed ? all.filter((line) => / <unfinished \.\.\.>$/.test(line) && !line.includes('<... ')).slice(-1) : all.filter((line) => line.includes('(INJECTED)'));
  const hit = lines.some((line) => withoutCwd(line).includes(root));
  return { hit, astray: lines.some((line) => !withoutCwd(line).includes(root)) };
}

/** A line without the current folder, which strace adds to what is no relative path at all. */
const withoutCwd = (line: string): string => line.replaceAll(/AT_FDCWD<[^>]*>/g, 'AT_FDCWD');

/** The lines of a log, with the two halves of a call put together that another thread's call came between. */
export function wholeLines(log: string): string[] {
  const lines: string[] = [];
  const begun = new Map<string, number>();
  for (const line of log.split('\n')) {
    const thread = /^\d+/.exec(line)?.[0] ?? '';
    const resumed = /^\d+ +<\.\.\. \w+ resumed>(.*)/.exec(line);
    const at = begun.get(thread);
    if (resumed && at !== undefined) {
      lines[at] += resumed[1]!;
      begun.delete(thread);
    } else if (line.endsWith(' <unfinished ...>')) {
      begun.set(thread, lines.push(line.replace(/ <unfinished \.\.\.>$/, '')) - 1);
    } else {
      lines.push(line);
    }
  }
  return lines;
}

/** The calls on files of the project that a run of the command makes, in order; it has to end with `status`. */
export async function callsOf(t: Context, root: string, args: string[], status = 0): Promise<Call[]> {
  const log = path.join(tempFolder(t), 'trace');
  const run = await traced(root, log, [`trace=${calls.map((c) => `?${c}`).join(',')}`], args);
  assert.equal(run.status, status, `the run without any fault does not end well: ${run.stderr}${run.stdout}`);
  const made = new Map<string, number>();
  const found = new Map<string, Call>();
  for (const line of wholeLines(run.log)) {
    const m = /^(\d+) +(\w+)\((.*)/.exec(line);
    if (!m) continue;
    const [, thread, name, rest] = m as unknown as [string, string, string, string];
    const when = (made.get(`${thread} ${name}`) ?? 0) + 1;
    made.set(`${thread} ${name}`, when);
    // The same number in another thread is met by the same injection.
    if (withoutCwd(rest).includes(root) && !found.has(`${name} ${when}`)) found.set(`${name} ${when}`, { name, when, line: rest.replace(/^AT_FDCWD<[^>]*>, /, '').replaceAll(root, '').slice(0, 120) });
  }
  assert.ok(found.size >= 10, `too few calls to be true: ${[...found.keys()].join(', ')}`);
  return [...found.values()];
}

/** Every fault at every call. A close that is not done, as a failed one would not be, is no fault that a kernel has. */
export function pointsOf(made: Call[]): Point[] {
  return made.flatMap((call) => faults.filter((fault) => call.name !== 'close' || fault === 'SIGKILL').map((fault) => ({ ...call, fault })));
}

/** Runs the command with a fault at a point. */
export function runAt(root: string, log: string, point: Point, args: string[]): Promise<Traced> {
  const persists = point.fault.endsWith('+');
  const what = point.fault === 'SIGKILL' ? 'signal=SIGKILL' : `error=${point.fault.replace('+', '')}`;
  return traced(root, log, [`trace=${point.name}`, `inject=${point.name}:${what}:when=${point.when}${persists ? '+' : ''}`], args);
}
