// What a run of the command did to the files of a project, call by call, as strace saw it.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { bin, cleanEnv, exec, parseOne, tempFolder, type Context } from './project';

/** One call that succeeded. Paths are absolute and inside the project. */
export type Step = Action & {
  /** Which call it was, and the how many-th of its name in its thread: a point at which strace can make it fail. */
  call: { name: string; when: number };
};

export type Action =
  | { do: 'open'; fd: number; path: string; create: boolean; truncate: boolean; append: boolean }
  | { do: 'write'; fd: number; bytes: Buffer; at?: number }
  | { do: 'copy'; from: number; fd: number; count: number }
  | { do: 'resize'; fd: number; size: number }
  | { do: 'seek'; fd: number; at: number }
  | { do: 'sync'; fd: number }
  | { do: 'rename' | 'link'; path: string; to: string }
  | { do: 'unlink' | 'mkdir' | 'rmdir'; path: string };

export interface Recording {
  steps: Step[];
  /** How many of the steps came before the command said how it ended. */
  reported: number;
  status: number | null;
  document: Record<string, any>;
}

const traced = 'open openat creat write writev pwrite64 pwritev pwritev2 ftruncate truncate fallocate fsync fdatasync rename renameat renameat2 link linkat unlink unlinkat mkdir mkdirat rmdir copy_file_range sendfile splice lseek'.split(' ');

/** Runs the command with `--json` in `root` and records it; one call fails on demand. */
export async function record(t: Context, root: string, args: string[], failing?: Step['call']): Promise<Recording> {
  const log = path.join(tempFolder(t), 'trace');
  // Everything in hexadecimal: no byte of a name or a page can then be taken for strace's own punctuation.
  const options = ['-f', '-qq', '-y', '-xx', '-s', '4000000', '-e', 'signal=none', '-e', `trace=${traced.map((s) => `?${s}`).join(',')}`, '-o', log];
  if (failing) options.push('-e', `inject=${failing.name}:error=EIO:when=${failing.when}`);
  const run = await exec('strace', [...options, process.execPath, bin, ...args, '--json'], { cwd: root, env: cleanEnv() });
  const { steps, reported } = parse(fs.readFileSync(log, 'latin1'), root);
  return { steps, reported, status: run.status, document: parseOne(run) };
}

/** The steps in a log of strace that touch what is in `root`. */
function parse(log: string, root: string): { steps: Step[]; reported: number } {
  const steps: Step[] = [];
  const unfinished = new Map<string, string>();
  const counts = new Map<string, number>();
  let reported: number | undefined;
  for (const line of log.split('\n')) {
    const m = /^(\d+)\s+(.*)$/.exec(line);
    if (!m) continue;
    const [, thread, rest] = m as unknown as [string, string, string];
    const resumed = /^<\.\.\. (\w+) resumed>/.exec(rest);
    const name = resumed?.[1] ?? /^(\w+)\(/.exec(rest)?.[1];
    if (name === undefined) continue;
    const counter = `${thread} ${name}`;
    const when = (counts.get(counter) ?? 0) + (resumed ? 0 : 1);
    counts.set(counter, when);
    if (rest.endsWith('<unfinished ...>')) {
      unfinished.set(thread, rest.slice(0, -'<unfinished ...>'.length).trimEnd());
      continue;
    }
    const text = resumed ? `${unfinished.get(thread)}${rest.slice(resumed[0].length)}` : rest;
    const call = /^\w+\((.*)\)\s+= (\d+)/.exec(text);
    if (!call) continue;
    const action = read(name, call[1]!.split(/,\s*/), Number(call[2]), root);
    if (action === 'said') reported ??= steps.length;
    else if (action) steps.push({ ...action, call: { name, when } });
  }
  assert.ok(reported !== undefined, 'the command said nothing on standard output');
  return { steps, reported };
}

/** A string as strace writes it with -xx. */
function decode(text: string): string {
  return unhex(text).toString('utf8');
}

function unhex(text: string): Buffer {
  assert.ok(!text.endsWith('...'), 'strace cut a string short');
  return Buffer.from(text.replace(/^"|"$/g, '').replaceAll('\\x', ''), 'hex');
}

/** Number and path of a descriptor, `27</a/b>`; only if it is of a file or folder in `root`. */
function descriptor(text: string, root: string): { fd: number; path: string } | undefined {
  const m = /^(\d+|AT_FDCWD)<([^>]*)>/.exec(text);
  if (!m) return undefined;
  const at = m[2]!.startsWith('\\x') ? decode(m[2]!) : m[2]!;
  return isInside(at, root) ? { fd: Number(m[1]), path: at } : undefined;
}

function isInside(at: string, root: string): boolean {
  // Shared memory is no state on a disk: SQLite makes it anew from the WAL.
  return (at === root || at.startsWith(root + path.sep)) && !at.endsWith('-shm');
}

function read(name: string, args: string[], result: number, root: string): Action | 'said' | undefined {
  /** The path that is argument `i`, below the folder that argument `i - 1` is. */
  const pathAt = (i: number): string => {
    const folder = /^(?:\d+|AT_FDCWD)<([^>]*)>/.exec(args[i - 1] ?? '')?.[1];
    return path.resolve(folder ? decode(folder) : root, decode(args[i]!));
  };
  const inside = (step: Action & { path: string; to?: string }): Action | undefined => {
    const touched = [step.path, step.to ?? step.path].map((p) => isInside(p, root));
    assert.equal(touched[0], touched[1], `${step.path} was renamed out of the project or into it`);
    return touched[0] ? step : undefined;
  };
  const on = <T>(i: number, make: (fd: number) => T): T | undefined => {
    const d = descriptor(args[i]!, root);
    return d && make(d.fd);
  };
  const opened = (i: number, flags: string): Action | undefined => inside({ do: 'open', fd: result, path: pathAt(i), create: flags.includes('O_CREAT'), truncate: flags.includes('O_TRUNC'), append: flags.includes('O_APPEND') });
  switch (name) {
    case 'open':
      return opened(0, args[1]!);
    case 'openat':
      return opened(1, args[2]!);
    case 'creat':
      return opened(0, 'O_CREAT|O_TRUNC');
    case 'write':
      if (/^1</.test(args[0]!)) return 'said';
      return on(0, (fd) => ({ do: 'write', fd, bytes: unhex(args[1]!).subarray(0, result) }));
    case 'pwrite64':
      return on(0, (fd) => ({ do: 'write', fd, bytes: unhex(args[1]!).subarray(0, result), at: Number(args[3]) }));
    case 'ftruncate':
      return on(0, (fd) => ({ do: 'resize', fd, size: Number(args[1]) }));
    case 'lseek':
      return on(0, (fd) => ({ do: 'seek', fd, at: result }));
    case 'fsync':
    case 'fdatasync':
      return on(0, (fd) => ({ do: 'sync', fd }));
    case 'rename':
      return inside({ do: 'rename', path: pathAt(0), to: pathAt(1) });
    case 'renameat':
    case 'renameat2':
      return inside({ do: 'rename', path: pathAt(1), to: pathAt(3) });
    case 'link':
      return inside({ do: 'link', path: pathAt(0), to: pathAt(1) });
    case 'linkat':
      return inside({ do: 'link', path: pathAt(1), to: pathAt(3) });
    case 'unlink':
      return inside({ do: 'unlink', path: pathAt(0) });
    case 'unlinkat':
      return inside({ do: args[2]!.includes('AT_REMOVEDIR') ? 'rmdir' : 'unlink', path: pathAt(1) });
    case 'mkdir':
      return inside({ do: 'mkdir', path: pathAt(0) });
    case 'mkdirat':
      return inside({ do: 'mkdir', path: pathAt(1) });
    case 'rmdir':
      return inside({ do: 'rmdir', path: pathAt(0) });
    case 'copy_file_range':
      assert.deepEqual([args[1], args[3]], ['NULL', 'NULL'], 'copy_file_range with offsets is not understood here');
      return on(2, (fd) => ({ do: 'copy', from: parseInt(args[0]!, 10), fd, count: result }));
    case 'sendfile':
      assert.equal(args[2], 'NULL', 'sendfile with an offset is not understood here');
      return on(0, (fd) => ({ do: 'copy', from: parseInt(args[1]!, 10), fd, count: result }));
    default:
      // writev, fallocate, …: nothing uses them on files of a project. If something did, the disk would be another one.
      return on(0, () => assert.fail(`${name} on a file of the project is not understood here`));
  }
}
