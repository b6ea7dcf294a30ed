// The shell blocks of a page and what they print, as a person at a terminal would try them.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { bin, cleanEnv, finished, packageRoot, type Context, type Project } from './project';

/** A fenced block, and the one of what it prints, if that follows. */
export interface Block {
  /** Line of the fence in the page. */
  line: number;
  language: string;
  text: string;
  /** The sentence right before the expected output, in which an exit code other than 0 is named. */
  lead: string;
  expected: string | undefined;
  exit: number;
}

export interface Section {
  heading: string;
  blocks: Block[];
}

/** A page's sections that have blocks, in order. */
export function sectionsOf(page: string): Section[] {
  const lines = fs.readFileSync(path.join(packageRoot, page), 'utf8').split('\n');
  const sections: Section[] = [];
  let section: Section = { heading: '', blocks: [] };
  let lead = '';
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    const fence = /^```(\S*)$/.exec(line);
    if (/^#+ /.test(line)) sections.push((section = { heading: line.replace(/^#+ /, ''), blocks: [] }));
    if (fence) {
      const end = lines.indexOf('```', i + 1);
      assert.ok(end > i, `${page}:${i + 1}: the block does not end`);
      add(page, section, { line: i + 1, language: fence[1]!, text: lines.slice(i + 1, end).join('\n'), lead, expected: undefined, exit: 0 });
      i = end;
    }
    if (line.trim() !== '') lead = line;
  }
  return sections.filter((s) => s.blocks.length > 0);
}

/** Text belongs to the command before it. */
function add(page: string, section: Section, block: Block): void {
  if (block.language !== 'text') return void section.blocks.push(block);
  const command = section.blocks.at(-1);
  assert.ok(command?.language === 'sh' && command.expected === undefined, `${page}:${block.line}: there is no command that prints this`);
  command.expected = block.text;
  command.exit = Number(/exit code (\d+)/.exec(block.lead)?.[1] ?? 0);
}

/** Which moment of the page stands for which backup of the sample, both ways, and where the page's project lies. */
export class Names {
  readonly #real = new Map<string, string>();
  constructor(
    private readonly root: string,
    /** The folder that the page speaks of. */
    private readonly shown: string,
    /** Whether the numbers are those of another sample, and any will do. */
    private readonly anyNumber = false,
  ) {}

  bind(shown: string, real: string): void {
    this.#real.set(shown, real);
  }

  /** A command of the page, for the sample. */
  command(text: string, where: string): string {
    return text.replaceAll(this.shown, this.root).replaceAll(/\b\d{8}-\d{6}\b/g, (t) => this.#real.get(t) ?? assert.fail(`${where}: nothing has printed ${t} before it is used`));
  }

  /** Asserts that `printed` is what the page says: … is anything, a new timestamp is any, alignment does not count. */
  match(expected: string | undefined, printed: string, where: string): void {
    if (expected === undefined) return assert.equal(printed, '', `${where}: the page does not say that anything is printed`);
    const fresh: string[] = [];
    const body = expected.replaceAll(this.shown, this.root).split('\n').map((line) => (line.trim() === '…' ? '(?:.*\\n)*?' : this.#line(line, fresh) + '\\n'));
    const actual = squeeze(printed);
    const found = new RegExp(`^${body.join('')}$`).exec(actual);
    assert.ok(found, `${where}: the page says\n${expected}\n--- but this is printed:\n${this.#shownAs(printed)}`);
    fresh.forEach((t, i) => this.bind(t, found[i + 1]!));
  }

  #line(line: string, fresh: string[]): string {
    const parts = squeeze(line).trimEnd().split(/(…|\b\d{8}-\d{6}\b|\b\d[\d,.]*\b)/);
    return parts.map((part) => this.#part(part, fresh)).join('');
  }

  #part(part: string, fresh: string[]): string {
    if (part === '…') return '.*?';
    if (/^\d{8}-\d{6}$/.test(part)) {
      const real = this.#real.get(part);
      if (real !== undefined) return real;
      const known = fresh.indexOf(part);
      return known < 0 ? (fresh.push(part), '(\\d{8}-\\d{6})') : `\\${known + 1}`;
    }
    if (this.anyNumber && /^\d/.test(part)) return '[\\d,.]+';
    if (this.anyNumber && / [KMG]?B\b/.test(part)) return escape(part).replaceAll(/ [KMG]?B\b/g, ' [KMG]?B');
    return escape(part);
  }

  /** What was printed, as it could stand in the page. */
  #shownAs(printed: string): string {
    let text = printed.replaceAll(this.root, this.shown);
    for (const [shown, real] of this.#real) text = text.replaceAll(real, shown);
    return text;
  }
}

const escape = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
const squeeze = (text: string): string => text.replaceAll(/(?<=\S) {2,}/g, ' ').replaceAll(/ +$/gm, '');

export interface Shell {
  /** Runs a block; says yes when asked. */
  run(block: string): Promise<{ exit: number; printed: string; ms: number }>;
  end(): Promise<void>;
}

/** One shell at a terminal in a project, with the command on its PATH; variables and the folder last from block to block. */
export async function shellIn(t: Context, p: Project, options: { prelude?: string; env?: Record<string, string>; wrap?: string[] } = {}): Promise<Shell> {
  // Not a `tempFolder`: that would be gone before the shell is told to end.
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'aqe-backup-shell-'));
  const file = (name: string) => path.join(folder, name);
  fs.writeFileSync(file('aqe-backup'), `#!/bin/sh\nexec '${process.execPath}' '${bin}' "$@"\n`, { mode: 0o755 });
  fs.writeFileSync(file('session'), `stty rows 40 cols 100\n${options.prelude ?? ''}\nn=0\nwhile :; do\n  while [ ! -e "$SESSION/go$n" ]; do sleep 0.02; done\n  . "$SESSION/block$n"\n  printf '\\036%s\\036' "$?"\n  n=$((n + 1))\ndone\n`);
  const [first, ...rest] = [...(options.wrap ?? []), 'script', '-qec', `exec sh '${file('session')}'`, '/dev/null'];
  const env = cleanEnv({ NO_COLOR: '1', TERM: 'xterm', SHELL: '/bin/sh', LC_ALL: 'C.UTF-8', SESSION: folder, PATH: `${folder}:${process.env.PATH}`, ...options.env });
  const child = spawn(first!, rest, { cwd: p.root, env, stdio: ['pipe', 'pipe', 'pipe'] });
  const over = finished(child);
  let n = 0;
  const next = (block: string): void => {
    fs.writeFileSync(file(`block${n}`), block + '\n');
    fs.writeFileSync(file(`go${n++}`), '');
  };
  const end = async (): Promise<void> => {
    if (fs.existsSync(folder) && child.exitCode === null && child.signalCode === null) next('exit 0');
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await over.finally(() => clearTimeout(late));
    fs.rmSync(folder, { recursive: true, force: true });
  };
  t.after(end);
  return {
    end,
    run: (block) =>
      new Promise((resolve, reject) => {
        const begun = performance.now();
        let said = '';
        let asked = 0;
        const hear = (data: Buffer): void => {
          said += data.toString();
          const questions = said.split('[y/N] ').length - 1;
          for (; asked < questions; asked++) child.stdin.write('y\n');
          const done = /\u001e(\d+)\u001e/.exec(said);
          if (!done) return;
          child.stdout.off('data', hear);
          resolve({ exit: Number(done[1]), printed: seen(said.slice(0, done.index)), ms: performance.now() - begun });
        };
        child.stdout.on('data', hear);
        void over.then((run) => reject(new Error(`the shell ended with ${run.status ?? run.signal}: ${run.stdout}${run.stderr}`)), reject);
        next(block);
      }),
  };
}

/** What is left to be read on the screen: progress bars are drawn over and erased. */
function seen(said: string): string {
  return said
    .replaceAll(/\r+\n/g, '\n')
    .split('\n')
    .map((line) => line.replace(/^[^]*(?:\r|\u001b\[2?K)/, ''))
    .join('\n')
    .replaceAll(/\u001b\[[0-9;?]*[A-Za-z]/g, '');
}
