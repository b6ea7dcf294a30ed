// Commands on a terminal, which script(1) makes, and somebody who types.
import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';
import { bin, cleanEnv, finished, type Project } from './project';

export interface Seen {
  status: number | null;
  /** All that was to be seen. */
  said: string;
}

/** Runs a shell command on a terminal. `hear` is given all that was to be seen so far, whenever there is more, and may type. */
async function watch(cwd: string, command: string, env: Record<string, string>, hear: (said: string, keys: Writable) => void): Promise<Seen> {
  const child = spawn('script', ['-qec', command, '/dev/null'], { cwd, env: cleanEnv(env), stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  hear(said, child.stdin);
  child.stdout.on('data', (b: Buffer) => hear((said += b.toString()), child.stdin));
  const run = await finished(child);
  child.stdin.destroy();
  return { status: run.status, said };
}

/** Runs a shell command and types `answer` when it asks something. */
export function shellOnTerminal(cwd: string, command: string, answer: string): Promise<Seen> {
  return watch(cwd, command, { TERM: 'dumb', SHELL: '/bin/bash' }, (said, keys) => {
    if (/\?|\[y/i.test(said) && !keys.writableEnded) keys.end(answer);
  });
}

/** Runs the command of the package on a terminal of 80 columns. Its questions are answered in turn; then, unless `keepOpen`, nothing more is typed for good. `under`: what it is started by. */
export function onTerminal(p: Project, args: string[], options: { env?: Record<string, string>; answers?: string[]; keepOpen?: boolean; under?: string[] } = {}): Promise<Seen> {
  const { env, answers = [], keepOpen = false, under = [] } = options;
  const quoted = [...under, process.execPath, bin, ...args].map((a) => `'${a.replaceAll("'", `'\\''`)}'`).join(' ');
  let answered = 0;
  return watch(p.root, `stty cols 80 rows 40; exec ${quoted}`, { TERM: 'xterm-256color', SHELL: '/bin/sh', LC_ALL: 'C.UTF-8', ...env }, (said, keys) => {
    const asked = Math.min(said.split('[y/N]').length - 1, answers.length);
    for (; answered < asked; answered++) keys.write(answers[answered]!);
    if (answered === answers.length && !keepOpen && !keys.writableEnded) keys.end();
  });
}
