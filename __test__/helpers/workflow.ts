// As much of a GitHub runner as our workflows need: expressions, `run` steps with their files, jobs in order. `uses` steps only succeed.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { parse } from 'yaml';
import { cleanEnv, exec, packageRoot } from './project';

export interface Step {
  id?: string;
  name?: string;
  if?: string;
  uses?: string;
  with?: Record<string, unknown>;
  env?: Record<string, unknown>;
  run?: string;
  shell?: string;
}
export interface Job {
  if?: string;
  needs?: string | string[];
  permissions?: Record<string, string>;
  'timeout-minutes'?: number;
  outputs?: Record<string, string>;
  env?: Record<string, unknown>;
  strategy?: { matrix: Record<string, unknown[]> };
  steps: Step[];
}
export interface Workflow {
  name: string;
  on: { schedule?: { cron: string }[]; workflow_dispatch?: { inputs: Record<string, { type: string; default: unknown }> } } & Record<string, unknown>;
  permissions?: Record<string, string>;
  concurrency?: { group: string; 'cancel-in-progress': boolean };
  defaults?: { run: { shell: string } };
  jobs: Record<string, Job>;
}

export const workflowsFolder = path.join(packageRoot, '.github', 'workflows');
export const readWorkflow = (name: string): Workflow => parse(fs.readFileSync(path.join(workflowsFolder, name), 'utf8')) as Workflow;

// --- expressions --------------------------------------------------------------------------------------------------------

type Value = string | number | boolean | null | Values;
interface Values {
  [name: string]: Value;
}
export interface Scope {
  contexts: Values;
  /** Whether an earlier step of the job, or a job that this one needs, has failed. */
  failed: boolean;
  cancelled?: boolean;
}

/** What `==` compares when the types differ: numbers, of which an absent value is 0. */
const number = (v: Value): number => (v === null || v === '' || v === false ? 0 : v === true ? 1 : Number(v));
function equal(a: Value, b: Value): boolean {
  if (typeof a === 'string' && typeof b === 'string') return a.toLowerCase() === b.toLowerCase();
  return a === b || number(a) === number(b);
}
const truthy = (v: Value): boolean => v !== null && v !== false && v !== '' && v !== 0;
const text = (v: Value): string => (v === null ? '' : String(v));

/** Evaluates what stands in `${{ }}`: literals, contexts, status functions, `!`, `==`, `!=`, `&&`, `||` and parentheses. Anything else is an error. */
export function evaluate(expression: string, scope: Scope): Value {
  const tokens = expression.match(/'(?:[^']|'')*'|&&|\|\||==|!=|[!()]|[A-Za-z_][\w-]*(?:\.[\w-]+)*|\d+|\S/g) ?? [];
  const take = (...expected: string[]): string | undefined => (expected.includes(tokens[0] ?? '') ? tokens.shift() : undefined);
  const either = (): Value => {
    let left = both();
    while (take('||')) {
      const right = both();
      left = truthy(left) ? left : right;
    }
    return left;
  };
  const both = (): Value => {
    let left = comparison();
    while (take('&&')) {
      const right = comparison();
      left = truthy(left) ? right : left;
    }
    return left;
  };
  const comparison = (): Value => {
    const left = unary();
    const operator = take('==', '!=');
    return operator ? equal(left, unary()) === (operator === '==') : left;
  };
  const unary = (): Value => (take('!') ? !truthy(unary()) : primary());
  const primary = (): Value => {
    const token = tokens.shift();
    assert.ok(token, `${expression}: ends too early`);
    if (token === '(') {
      const inner = either();
      assert.ok(take(')'), `${expression}: a parenthesis is open`);
      return inner;
    }
    if (token.startsWith("'")) return token.slice(1, -1).replaceAll("''", "'");
    if (/^\d+$/.test(token)) return Number(token);
    if (token === 'true' || token === 'false') return token === 'true';
    if (take('(')) {
      assert.ok(take(')'), `${expression}: ${token} has arguments`);
      if (token === 'always') return true;
      if (token === 'success') return !scope.failed && !scope.cancelled;
      if (token === 'failure') return scope.failed && !scope.cancelled;
      if (token === 'cancelled') return scope.cancelled ?? false;
      assert.fail(`${expression}: unknown function ${token}`);
    }
    const [context = '', ...rest] = token.split('.');
    assert.ok(context in scope.contexts, `${expression}: unknown context ${context}`);
    return rest.reduce<Value>((v, key) => (v !== null && typeof v === 'object' ? (v[key] ?? null) : null), scope.contexts[context] ?? null);
  };
  const value = either();
  assert.equal(tokens.length, 0, `${expression}: cannot read ${tokens.join(' ')}`);
  return value;
}

const interpolate = (value: unknown, scope: Scope): string => String(value ?? '').replace(/\$\{\{(.*?)\}\}/gs, (_, e: string) => text(evaluate(e, scope)));

/** Whether a step or job with this condition runs: without a status function, only if nothing has failed. */
export function runs(condition: string | undefined, scope: Scope): boolean {
  const bare = (condition ?? 'success()').replace(/^\s*\$\{\{(.*)\}\}\s*$/s, '$1');
  const wanted = truthy(evaluate(bare, scope));
  return /\b(always|success|failure|cancelled)\(\)/.test(bare) ? wanted : wanted && !scope.failed && !scope.cancelled;
}

// --- running --------------------------------------------------------------------------------------------------------------

export interface StepResult {
  outcome: 'success' | 'failure' | 'skipped';
  outputs: Record<string, string>;
  log: string;
  /** What a `uses` step was given. */
  given: Record<string, string>;
}
export interface JobResult {
  result: 'success' | 'failure' | 'skipped';
  outputs: Record<string, string>;
  /** By id, else by name. */
  steps: Record<string, StepResult>;
  summary: string;
}
export interface Runner {
  /** Where `run` steps start. */
  workspace: string;
  /** For the files that a runner hands to a step. */
  temp: string;
  /** More environment: PATH with fakes, for one. */
  env: Record<string, string>;
  github?: Values;
  inputs?: Values;
  vars?: Values;
}

/** `name=value` lines, and values of several lines between delimiters. */
function readCommands(file: string): Record<string, string> {
  const found: Record<string, string> = {};
  const lines = fs.readFileSync(file, 'utf8').split('\n');
  for (let line = lines.shift(); line !== undefined; line = lines.shift()) {
    const [, name = '', operator = '', value = ''] = /^([\w-]+)(=|<<)(.*)$/.exec(line) ?? [];
    if (operator === '<<') found[name] = lines.splice(0, lines.indexOf(value) + 1).slice(0, -1).join('\n');
    else if (operator === '=') found[name] = value;
    else assert.equal(line, '', `a runner would not understand ${line}`);
  }
  return found;
}

async function runStep(step: Step, workflow: Workflow, env: Record<string, string>, runner: Runner): Promise<StepResult> {
  const files = fs.mkdtempSync(path.join(runner.temp, 'step-'));
  const at = (name: string): string => path.join(files, name);
  for (const name of ['env', 'output', 'summary']) fs.writeFileSync(at(name), '');
  fs.writeFileSync(at('script.sh'), step.run ?? '');
  // What GitHub starts for `shell: bash`, and for no shell at all.
  const shell = step.shell ?? workflow.defaults?.run.shell;
  assert.ok(shell === undefined || shell === 'bash', `${shell} is not for this runner`);
  const options = shell === 'bash' ? ['--noprofile', '--norc', '-eo', 'pipefail'] : ['-e'];
  const run = await exec('bash', [...options, at('script.sh')], {
    cwd: runner.workspace,
    env: cleanEnv({ ...runner.env, CI: 'true', GITHUB_ACTIONS: 'true', GITHUB_WORKSPACE: runner.workspace, RUNNER_TEMP: files, GITHUB_ENV: at('env'), GITHUB_OUTPUT: at('output'), GITHUB_STEP_SUMMARY: at('summary'), ...env }),
  });
  Object.assign(env, readCommands(at('env')));
  fs.appendFileSync(path.join(runner.temp, 'summary'), fs.readFileSync(at('summary')));
  return { outcome: run.status === 0 ? 'success' : 'failure', outputs: readCommands(at('output')), log: run.stdout + run.stderr, given: {} };
}

async function runJob(workflow: Workflow, job: Job, scope: Scope, runner: Runner): Promise<JobResult> {
  const done: JobResult = { result: 'success', outputs: {}, steps: {}, summary: '' };
  if (!runs(job.if, scope)) return { ...done, result: 'skipped' };
  const steps: Values = {};
  const inside: Scope = { contexts: { ...scope.contexts, steps }, failed: false };
  const env: Record<string, string> = {};
  fs.writeFileSync(path.join(runner.temp, 'summary'), '');
  for (const step of job.steps) {
    const fill = (values: Record<string, unknown> = {}) => Object.fromEntries(Object.entries(values).map(([k, v]) => [k, interpolate(v, inside)]));
    let result: StepResult = { outcome: 'skipped', outputs: {}, log: '', given: {} };
    if (runs(step.if, inside)) {
      if (step.run === undefined) result = { ...result, outcome: 'success', given: fill(step.with) };
      else {
        const own = { ...env, ...fill(job.env), ...fill(step.env) };
        result = await runStep(step, workflow, own, runner);
      }
    }
    if (result.outcome === 'failure') inside.failed = true;
    done.steps[step.id ?? step.name ?? step.uses ?? ''] = result;
    if (step.id) steps[step.id] = { outcome: result.outcome, outputs: result.outputs };
  }
  for (const [name, value] of Object.entries(job.outputs ?? {})) done.outputs[name] = interpolate(value, inside);
  return { ...done, result: inside.failed ? 'failure' : 'success', summary: fs.readFileSync(path.join(runner.temp, 'summary'), 'utf8') };
}

/** Runs all jobs, each after those it needs. */
export async function runWorkflow(workflow: Workflow, runner: Runner): Promise<Record<string, JobResult>> {
  const github: Values = { event_name: 'schedule', repository: 'owner/project', server_url: 'https://github.com', run_id: '42', token: 'a-token', ...runner.github };
  const results: Record<string, JobResult> = {};
  const left = Object.entries(workflow.jobs);
  while (left.length > 0) {
    const next = left.findIndex(([, job]) => [job.needs ?? []].flat().every((name) => name in results));
    assert.notEqual(next, -1, 'jobs need each other');
    const [name, job] = left.splice(next, 1)[0]!;
    const needed = [job.needs ?? []].flat().map((n) => [n, results[n]!] as const);
    const needs: Values = Object.fromEntries(needed.map(([n, r]) => [n, { result: r.result, outputs: r.outputs }]));
    // A skipped job makes those that need it skip too, unless they ask for their turn.
    const scope: Scope = { contexts: { github, inputs: runner.inputs ?? {}, vars: runner.vars ?? {}, needs }, failed: needed.some(([, r]) => r.result !== 'success') };
    results[name] = await runJob(workflow, job, scope, runner);
  }
  return results;
}
