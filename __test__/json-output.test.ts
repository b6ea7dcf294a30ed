// --json: every document of every verb, good and bad, is what docs/schema/output.v1.json says, and says no more.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import Ajv2020, { type ValidateFunction } from 'ajv/dist/2020.js';
import * as backup from '../index.js';
import { codes, craftSet, daysAgo, flip, copyOf, makeDatabase, packageRoot, parseOne, project, withDatabase, type Context, type Project } from './helpers/project';

type Schema = { [key: string]: unknown; $defs: Record<string, unknown>; anyOf: { $ref: string }[] };
const schema = JSON.parse(fs.readFileSync(path.join(packageRoot, 'docs', 'schema', 'output.v1.json'), 'utf8')) as Schema;

/** The same schema, in which an object may have no key that is not described. */
function strict(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(strict);
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.fromEntries(Object.entries(value).map(([k, v]) => [k, strict(v)]));
  return 'properties' in copy && copy.type === 'object' ? { additionalProperties: false, ...copy } : copy;
}

const ajv = new Ajv2020({ allErrors: true, strictTypes: false });
ajv.addSchema({ ...(strict(schema) as object), $id: 'output' });
const open = new Ajv2020({ strictTypes: false }).compile(schema);

function validator(verb: string): ValidateFunction {
  return ajv.getSchema(`output#/$defs/${verb}`) ?? assert.fail(`the schema knows no ${verb}`);
}

async function check(p: Project, as: string, ...args: string[]): Promise<Record<string, any>> {
  // `exec` takes everything after `--` for its command.
  const run = await p.run(args[0]!, '--json', ...args.slice(1));
  const document = parseOne(run);
  const valid = validator(as);
  assert.ok(valid(document), `${args.join(' ')}: ${JSON.stringify(valid.errors, null, 1)}\n${run.stdout}`);
  assert.ok(open(document), `${args.join(' ')} does not fit the schema as a whole`);
  assert.equal(document.ok, run.status === 0);
  assert.equal(run.stdout.trimEnd().split('\n').length, 1);
  return document;
}

function withData(t: Context): Project {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 20, journal: 'wal' });
  makeDatabase(p.at('.agentic-qe', 'memory.db'), { rows: 30 });
  fs.writeFileSync(p.at('.agentic-qe', 'plain.db'), 'no database');
  return p;
}

test('the schema is valid, and every verb of the command is in it', async (t) => {
  assert.equal(ajv.validateSchema(schema), true);
  const help = (await project(t).run('--help')).stdout;
  const verbs = [...help.matchAll(/^  ([a-z]+)  /gm)].map((m) => m[1]!);
  assert.ok(verbs.length >= 12);
  const known = schema.anyOf.map((r) => r.$ref.replace('#/$defs/', ''));
  assert.deepEqual([...known].sort(), [...verbs, 'failure'].sort());
  assert.deepEqual([...((schema.$defs.code as { enum: string[] }).enum)].sort(), [...codes].sort());
});

test('what each verb prints when it succeeds', { timeout: 600_000 }, async (t) => {
  const p = withData(t);
  await check(p, 'list', 'list');
  await check(p, 'size', 'size');
  const { timestamp: ts } = await check(p, 'create', 'create', '--label', 'x');
  await craftSet(p, daysAgo(3), { legacy: true });
  await craftSet(p, daysAgo(33), { archive: true });
  for (const args of [['list'], ['list', '--archives']]) await check(p, 'list', ...args);
  await check(p, 'verify', 'verify');
  await check(p, 'verify', 'verify', ts as string);
  await check(p, 'info', 'info', ts as string);
  await check(p, 'size', 'size');
  await check(p, 'compare', 'compare', ts as string);
  withDatabase(p.at('agentdb.db'), (db) => db.exec("DELETE FROM episodes WHERE id < 5; UPDATE episodes SET task = 'other' WHERE id > 15; CREATE TABLE more(x); DROP INDEX by_task; INSERT INTO patterns VALUES ('new', x'00ff')"));
  fs.writeFileSync(p.at('.agentic-qe', 'plain.db'), 'something else');
  await check(p, 'compare', 'compare', ts as string);
  await check(p, 'compare', 'compare', ts as string, '--table', 'episodes', '--limit', '3');
  await check(p, 'compare', 'compare', ts as string, '--table', 'patterns');
  await check(p, 'check', 'check');
  await check(p, 'check', 'check', '--quick', '--max-age', '1m', '--max-size', '10KB', '--strict');
  await check(p, 'restore', 'restore', ts as string, '--force');
  await check(p, 'restore', 'restore', ts as string, '--force');
  await check(p, 'recover', 'recover');
  await check(p, 'clean', 'clean', '1', '--dry-run');
  await check(p, 'clean', 'clean', '--policy');
  await check(p, 'exec', 'exec', '--operation', 'o', '--', 'true');
  await check(p, 'exec', 'exec', '--operation', 'o', '--', 'false');
  await check(p, 'exec', 'exec', '--operation', 'o', '--', 'no-such-command-of-ours');
  const [old] = (await backup.listBackups({ root: p.root })).slice(-1);
  await check(p, 'delete', 'delete', old!.timestamp, '--dry-run', '--even-newest');
  await check(p, 'delete', 'delete', old!.timestamp, '--force', '--even-newest');
  await check(p, 'completions', 'completions', 'bash');
});

test('what each verb prints when there is damage', { timeout: 600_000 }, async (t) => {
  const p = withData(t);
  const { timestamp: ts } = await check(p, 'create', 'create');
  flip(copyOf(p.backups, ts as string, 'agentdb.db'), 5000);
  await check(p, 'verify', 'verify');
  await check(p, 'check', 'check');
  fs.truncateSync(p.at('.agentic-qe', 'memory.db'), 5000);
  const damaged = await check(p, 'create', 'create');
  assert.deepEqual([damaged.success, damaged.code], [false, 'SOURCE_DAMAGED']);
  await check(p, 'list', 'list');
  await check(p, 'check', 'check');
});

test('a verb that can’t do its work, and arguments that are none, print a failure with a code', { timeout: 600_000 }, async (t) => {
  const empty = project(t);
  const wrong: [string[], string][] = [
    [['create'], 'NO_DATABASES'],
    [['verify'], 'BACKUP_NOT_FOUND'],
    [['restore', '20200101-000000', '--force'], 'BACKUP_NOT_FOUND'],
    [['restore', '--archive', 'nowhere.tar.gz', '--force'], 'BACKUP_NOT_FOUND'],
    [['compare', '20200101-000000'], 'BACKUP_NOT_FOUND'],
    [['info', '20200101-000000'], 'BACKUP_NOT_FOUND'],
    [['delete', '20200101-000000'], 'BACKUP_NOT_FOUND'],
    [['info', 'yesterday'], 'INVALID_TIMESTAMP'],
    [['exec', '--operation', 'x', '--', 'true'], 'NO_DATABASES'],
    [['list', '--root', 'no-such-folder'], ''],
    [['check'], 'NO_DATABASES'],
  ];
  for (const verb of ['create', 'restore', 'list', 'verify', 'clean', 'compare', 'info', 'size', 'check', 'delete', 'recover', 'exec', 'completions']) wrong.push([[verb, '--no-such-flag'], 'ERR_INVALID_ARG_VALUE']);
  wrong.push([['clean', 'abc'], 'ERR_INVALID_ARG_VALUE'], [['compare'], 'ERR_INVALID_ARG_VALUE'], [['create', '--root'], 'ERR_INVALID_ARG_VALUE']);
  for (const [args, code] of wrong) {
    const document = await check(empty, 'failure', ...args);
    if (code) assert.equal(document.code, code, args.join(' '));
  }
});
