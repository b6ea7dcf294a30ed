// Bad input: each a coded error that names the thing, with nothing lost and nothing left.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import {
  codeOf, codes, contents, exec, inCI, isRoot, makeDatabase, project, publicPackage, runScript, scriptArgs, sets, tempFolder, tree, unprivileged, withData, withDatabase, type Context, type Project,
} from './helpers/project';

type Call = (...args: never[]) => Promise<unknown>;
const api = backup as unknown as Record<string, Call>;
/** Every function that takes options, with good arguments before them. */
const functions: Record<string, unknown[]> = {
  createBackup: [],
  createSafetyBackup: ['operation'],
  restoreBackup: ['20250116-120000'],
  listBackups: [],
  verifyBackup: ['20250116-120000'],
  cleanOldBackups: [10],
  inspectBackup: ['20250116-120000'],
  compareBackup: ['20250116-120000'],
  storageUsage: [],
  checkHealth: [],
  recover: [],
  withSafetyBackup: ['operation', () => 0],
};
const call = (name: string, ...args: unknown[]): Promise<unknown> => api[name]!(...(args as never[]));

/** Asserts that a call rejects, without throwing, with an argument error about `about`. */
async function refused(name: string, args: unknown[], code: RegExp, about: RegExp): Promise<void> {
  let promise: Promise<unknown>;
  try {
    promise = call(name, ...args);
  } catch (e) {
    return assert.fail(`${name} threw ${String(e)} instead of rejecting`);
  }
  assert.ok(promise instanceof Promise, `${name} returned no promise`);
  await assert.rejects(promise, (e: { code: string; message: string; name: string }) => {
    assert.match(e.code, code, `${name}(${args.map(String).join(', ')}): ${e.code} ${e.message}`);
    assert.match(e.message, about);
    return true;
  });
}

test('options of the wrong type reject with ERR_INVALID_ARG_TYPE in every function, and nothing happens', async (t) => {
  const p = withData(t);
  const before = tree(p.root);
  const wrong: [string, unknown[]][] = [
    ['root', [5, {}, true]],
    ['backupDir', [5, []]],
    ['databases', ['agentdb.db', 5, {}, [5], ['ok.db', null]]],
    ['busyTimeoutMs', ['5', true, {}]],
    ['lockTimeoutMs', ['5', {}]],
    ['signal', [5, 'x', {}, new EventTarget()]],
    ['onProgress', [5, 'x', {}]],
  ];
  for (const [name, good] of Object.entries(functions)) {
    for (const options of [5, 'x', true, Symbol('s')]) await refused(name, [...good, options], /^ERR_INVALID_ARG_TYPE$/, /./);
    for (const [option, values] of wrong) for (const value of values) await refused(name, [...good, { root: p.root, [option]: value }], /^ERR_INVALID_ARG_TYPE$/, new RegExp(option));
  }
  for (const [option, values] of [['compress', ['yes', 1]], ['verify', [0, 'no']], ['kind', [5]], ['label', [5, {}]], ['keepLast', ['5', true, {}]]] as const) {
    for (const value of values) await refused('createBackup', [{ root: p.root, [option]: value }], /^ERR_INVALID_ARG_TYPE$/, new RegExp(option));
  }
  for (const option of ['verify', 'force']) await refused('restoreBackup', ['20250116-120000', { root: p.root, [option]: 1 }], /^ERR_INVALID_ARG_TYPE$/, new RegExp(option));
  await refused('listBackups', [{ root: p.root, archives: 'yes' }], /^ERR_INVALID_ARG_TYPE$/, /archives/);
  assert.deepEqual(tree(p.root), before);
});

test('options whose value cannot be meant reject with ERR_INVALID_ARG_VALUE', async (t) => {
  const p = withData(t);
  const before = tree(p.root);
  for (const [name, good] of Object.entries(functions)) {
    for (const option of ['busyTimeoutMs', 'lockTimeoutMs']) for (const value of [-1, Number.NaN]) await refused(name, [...good, { root: p.root, [option]: value }], /^ERR_INVALID_ARG_VALUE$/, new RegExp(option));
  }
  await refused('createBackup', [{ root: p.root, kind: 'weekly' }], /^ERR_INVALID_ARG_VALUE$/, /kind/);
  assert.deepEqual(tree(p.root), before);
});

test('option names that nobody knows reject, in every function, and are named', async (t) => {
  const p = withData(t);
  const before = tree(p.root);
  for (const [name, good] of Object.entries(functions)) await refused(name, [...good, { root: p.root, compres: true }], /^ERR_INVALID_ARG_/, /compres/);
  await refused('listBackups', [{ root: p.root, force: true }], /^ERR_INVALID_ARG_/, /force/);
  await refused('restoreBackup', ['20250116-120000', { root: p.root, keepLast: 3 }], /^ERR_INVALID_ARG_/, /keepLast/);
  assert.deepEqual(tree(p.root), before);
});

test('undefined and absent options are the same', async (t) => {
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root, backupDir: undefined, databases: undefined, compress: undefined, verify: undefined, label: undefined, keepLast: undefined, signal: undefined, onProgress: undefined } as backup.CreateBackupOptions);
  assert.deepEqual([made.success, made.compressed, made.kind], [true, true, 'automated']);
  assert.equal((await backup.restoreBackup(made.timestamp, { root: p.root, verify: undefined } as backup.RestoreBackupOptions)).success, true);
});

test('timestamps and operation names that are no strings, and functions that are none, reject', async () => {
  for (const name of ['restoreBackup', 'verifyBackup', 'inspectBackup', 'compareBackup', 'createSafetyBackup', 'withSafetyBackup']) {
    for (const value of [undefined, null, 20250116, {}, ['20250116-120000'], Symbol('s')]) await refused(name, [value], /^ERR_INVALID_ARG_TYPE$/, /./);
  }
  for (const fn of [undefined, null, 5, 'x', {}]) await refused('withSafetyBackup', ['operation', fn], /^ERR_INVALID_ARG_TYPE$/, /./);
  for (const value of ['5', null, {}, true]) await refused('cleanOldBackups', [value], /^ERR_INVALID_ARG_TYPE$/, /keepLast/);
});

test('BackupHelper refuses in its methods, or in its constructor, what the functions refuse', async () => {
  for (const options of [5, { rot: '/' }, { root: 5 }]) {
    let code: string | undefined;
    try {
      await new backup.BackupHelper(options as never).listBackups();
    } catch (e) {
      code = (e as { code?: string }).code;
    }
    assert.match(code ?? 'nothing', /^ERR_INVALID_ARG_/);
  }
});

const malformed = ['', '*', '../x', '$(touch pwned)', '`touch pwned`', '20250116', '20250116-12000', '20250116-1200000', '20250116_120000', ' 20250116-120000', '20250116-120000\n', '20250116-120000/..', '20251316-120000', '20250230-120000', '20250116-250000', '20250116-120000\0', '٢٠٢٥٠١١٦-١٢٠٠٠٠', 'latest'];
test('malformed timestamps are INVALID_TIMESTAMP wherever one is taken, and touch nothing', async (t) => {
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  const before = tree(p.root);
  for (const ts of malformed) {
    const r = await codeOf(backup.restoreBackup(ts, { root: p.root, force: true, verify: false }));
    assert.equal(r.code, 'INVALID_TIMESTAMP', JSON.stringify(ts));
    if (ts === '*' || ts === 'latest') assert.ok(r.message.includes(ts), r.message);
    for (const name of ['inspectBackup', 'compareBackup']) await assert.rejects(call(name, ts, { root: p.root }), { code: 'INVALID_TIMESTAMP' }, `${name} ${JSON.stringify(ts)}`);
    const valid = await backup.verifyBackup(ts, { root: p.root }).catch((e: { code: string }) => e.code);
    assert.ok(valid === false || valid === 'INVALID_TIMESTAMP', `verifyBackup(${JSON.stringify(ts)}) gave ${String(valid)}`);
  }
  assert.deepEqual(tree(p.root), before);
});

test('an operation name is only ever text', async (t) => {
  const p = withData(t);
  for (const name of ['$(touch pwned)', '../../x', '"; rm -rf .', 'a/b', '*', 'ünï\n"c"']) {
    const made = await backup.createSafetyBackup(name, { root: p.root, compress: false });
    assert.equal(made.success, true, made.error);
    assert.equal((await backup.listBackups({ root: p.root }))[0]?.metadata?.operation, name);
  }
  assert.deepEqual(fs.readdirSync(p.root).sort(), ['.agentic-qe', 'agentdb.db']);
});

test('a root that is missing, or a file, is a coded error that names it', async (t) => {
  const p = withData(t);
  for (const root of [p.at('missing'), p.at('agentdb.db')]) {
    for (const name of ['createBackup', 'createSafetyBackup']) {
      const r = await codeOf(call(name, ...functions[name]!, { root }));
      assert.ok(codes.has(r.code ?? ''), `${name}: ${r.code}`);
      assert.ok(r.message.includes(root), r.message);
    }
  }
  assert.deepEqual(fs.readdirSync(p.root), ['agentdb.db']);
});

test('a file in the place of the backups folder is a coded error that names it, and stays', async (t) => {
  const p = withData(t);
  fs.mkdirSync(p.at('.agentic-qe'));
  fs.writeFileSync(p.backups, 'a file');
  for (const [name, good] of Object.entries(functions)) {
    const result = codeOf(call(name, ...good, { root: p.root }));
    const r = await result;
    if (name === 'verifyBackup' && r.code === undefined) {
      assert.equal(await backup.verifyBackup('20250116-120000', { root: p.root }), false);
      continue;
    }
    assert.ok(codes.has(r.code ?? ''), `${name}: ${r.code} ${r.message}`);
    assert.ok(r.message.includes(p.backups), `${name}: ${r.message}`);
  }
  assert.equal(fs.readFileSync(p.backups, 'utf8'), 'a file');
  assert.deepEqual(fs.readdirSync(p.root).sort(), ['.agentic-qe', 'agentdb.db']);
});

test('a path with a NUL byte is a coded error', async (t) => {
  const p = withData(t);
  for (const options of [{ root: `${p.root}\0x` }, { root: p.root, backupDir: 'a\0b' }, { root: p.root, databases: ['a\0b.db'] }]) {
    const r = await codeOf(backup.createBackup(options));
    assert.ok(codes.has(r.code ?? ''), `${r.code} ${r.message}`);
  }
  assert.deepEqual(fs.readdirSync(p.root), ['agentdb.db']);
});

test('a glob that cannot be read is a coded error that names it', async (t) => {
  const p = withData(t);
  const r = await codeOf(backup.createBackup({ root: p.root, databases: ['data/[a.db'] }));
  assert.ok(codes.has(r.code ?? ''), `${r.code} ${r.message}`);
  assert.match(r.message, /\[a\.db/);
});

/** Runs `source` as an account that owns nothing in `p`. */
async function asNobody(t: Context, p: Project, source: string): Promise<Record<string, { value?: any; code?: string; message?: string }>> {
  fs.chmodSync(path.dirname(p.root), 0o755);
  return runScript(source, [p.root], { ...unprivileged(), cwd: '/', from: publicPackage(t) });
}

/** What `nobody` cannot read, or we cannot if we are not root. */
function forbid(...files: string[]): void {
  for (const file of files) fs.chmodSync(file, isRoot ? (fs.statSync(file).isDirectory() ? 0o700 : 0o600) : 0);
}

test('a database that may not be read is PERMISSION_DENIED, named, and nothing is left', async (t) => {
  const p = withData(t);
  makeDatabase(p.at('other.db'));
  fs.chmodSync(p.root, 0o777);
  forbid(p.at('agentdb.db'));
  fs.chmodSync(p.at('other.db'), 0o666);
  const { r } = await asNobody(t, p, `console.log(JSON.stringify({ r: await outcome(backup.createBackup({ root: args[0] })) }))`);
  fs.chmodSync(p.at('agentdb.db'), 0o600);
  assert.deepEqual([r?.value?.success, r?.value?.code], [false, 'PERMISSION_DENIED']);
  assert.match(r?.value?.error, /agentdb\.db/);
  assert.deepEqual(sets(p.backups), {});
});

test('a backups folder that may not be written is PERMISSION_DENIED for create, and reading it still works', async (t) => {
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root, compress: false });
  fs.chmodSync(p.root, 0o755);
  fs.chmodSync(p.at('agentdb.db'), 0o644);
  fs.chmodSync(p.at('.agentic-qe'), 0o755);
  for (const name of fs.readdirSync(p.backups)) fs.chmodSync(path.join(p.backups, name), 0o444);
  fs.chmodSync(p.backups, 0o555);
  const before = sets(p.backups);
  const r = await asNobody(
    t,
    p,
    `const root = args[0];
     console.log(JSON.stringify({
       create: await outcome(backup.createBackup({ root })), clean: await outcome(backup.cleanOldBackups(1, { root })),
       list: await outcome(backup.listBackups({ root })), verify: await outcome(backup.verifyBackup(${JSON.stringify(made.timestamp)}, { root })),
     }))`,
  );
  assert.deepEqual(sets(p.backups), before);
  fs.chmodSync(p.backups, 0o700);
  assert.deepEqual([r.create?.value?.success, r.create?.value?.code], [false, 'PERMISSION_DENIED'], JSON.stringify(r.create));
  assert.ok(r.create?.value?.error.includes(p.backups));
  assert.equal(r.clean?.code, 'PERMISSION_DENIED');
  assert.equal(r.list?.value?.length, 1);
  assert.equal(r.verify?.value, true);
});

test('a backups folder, or a copy in it, that may not be read rejects in list, verify and clean: silence would hide it', async (t) => {
  const p = withData(t);
  const made = await backup.createBackup({ root: p.root, compress: false });
  fs.chmodSync(p.root, 0o755);
  fs.chmodSync(p.at('.agentic-qe'), 0o755);
  forbid(p.backups);
  const script = `const root = args[0], ts = ${JSON.stringify(made.timestamp)};
    console.log(JSON.stringify({ list: await outcome(backup.listBackups({ root })), verify: await outcome(backup.verifyBackup(ts, { root })), clean: await outcome(backup.cleanOldBackups(1, { root })) }))`;
  const hidden = await asNobody(t, p, script);
  for (const [name, r] of Object.entries(hidden)) assert.equal(r.code, 'PERMISSION_DENIED', `${name}: ${JSON.stringify(r)}`);

  fs.chmodSync(p.backups, 0o755);
  for (const name of fs.readdirSync(p.backups)) fs.chmodSync(path.join(p.backups, name), 0o444);
  forbid(made.files[0]!);
  const unreadable = await asNobody(t, p, script);
  assert.equal(unreadable.list?.value?.length, 1);
  assert.equal(unreadable.verify?.code, 'PERMISSION_DENIED', JSON.stringify(unreadable.verify));
  assert.ok(unreadable.verify?.message?.includes(made.files[0]!));
  fs.chmodSync(p.backups, 0o700);
});

test('a target that may not be written is PERMISSION_DENIED for restore, and no target is changed', async (t) => {
  const p = withData(t);
  makeDatabase(p.at('other.db'));
  const made = await backup.createBackup({ root: p.root, backupDir: 'kept', compress: false });
  for (const name of ['agentdb.db', 'other.db']) withDatabase(p.at(name), (db) => db.exec('DELETE FROM patterns'));
  const now = [contents(p.at('agentdb.db')), contents(p.at('other.db'))];
  const give = (dir: string): void => {
    fs.chmodSync(dir, 0o777);
    for (const name of fs.readdirSync(dir)) fs.chmodSync(path.join(dir, name), 0o666);
  };
  give(p.at('kept'));
  fs.chmodSync(p.at('agentdb.db'), 0o666);
  fs.chmodSync(p.at('other.db'), 0o444);
  fs.chmodSync(p.root, isRoot ? 0o777 : 0o755);
  const { r } = await asNobody(t, p, `console.log(JSON.stringify({ r: await outcome(backup.restoreBackup(${JSON.stringify(made.timestamp)}, { root: args[0], backupDir: 'kept' })) }))`);
  assert.deepEqual([r?.value?.success, r?.value?.code], [false, 'PERMISSION_DENIED'], JSON.stringify(r));
  assert.match(r?.value?.error, /other\.db/);
  assert.deepEqual([contents(p.at('agentdb.db')), contents(p.at('other.db'))], now);
});

/** Runs a script whose files may not grow beyond `bytes`: writing on fails as on a full disk. */
async function withFileLimit<T>(bytes: number, source: string, args: string[]): Promise<T> {
  const run = await exec('prlimit', [`--fsize=${bytes}`, process.execPath, ...scriptArgs(source, args)]);
  assert.equal(run.status, 0, run.stderr);
  return JSON.parse(run.stdout) as T;
}

test('a backup that cannot be written to its end is NO_SPACE, and leaves nothing', async (t) => {
  const p = withData(t);
  makeDatabase(p.at('big.db'), { rows: 3000 });
  const size = fs.statSync(p.at('big.db')).size;
  const r = await withFileLimit<backup.BackupResult>(Math.floor(size / 2), `console.log(JSON.stringify(await backup.createBackup({ root: args[0] })))`, [p.root]);
  assert.deepEqual([r.success, r.code], [false, 'NO_SPACE'], r.error);
  assert.ok(r.error?.includes('big.db') || r.error?.includes(p.backups), r.error);
  assert.deepEqual(sets(p.backups), {});
});

test('a restore that cannot be written to its end puts everything back', async (t) => {
  const p = project(t);
  for (const name of ['a.db', 'big.db', 'z.db']) makeDatabase(p.at(name), { rows: name === 'big.db' ? 3000 : 30 });
  const made = await backup.createBackup({ root: p.root, compress: false });
  const size = fs.statSync(p.at('big.db')).size;
  for (const name of ['a.db', 'big.db', 'z.db']) withDatabase(p.at(name), (db) => db.exec('DELETE FROM episodes WHERE id > 10; DELETE FROM patterns; VACUUM'));
  const now = ['a.db', 'big.db', 'z.db'].map((name) => contents(p.at(name)));
  const r = await withFileLimit<backup.RestoreResult>(Math.floor(size / 2), `console.log(JSON.stringify(await backup.restoreBackup(args[1], { root: args[0] })))`, [p.root, made.timestamp]);
  assert.equal(r.success, false);
  assert.ok(['RESTORE_ROLLED_BACK', 'NO_SPACE'].includes(r.code ?? ''), `${r.code} ${r.error}`);
  assert.equal(r.filesRestored, 0);
  assert.match(r.error ?? '', /big\.db/);
  assert.deepEqual(['a.db', 'big.db', 'z.db'].map((name) => contents(p.at(name))), now);
  const again = await backup.restoreBackup(made.timestamp, { root: p.root });
  assert.equal(again.success, true, again.error);
});

test('a full disk is NO_SPACE before anything is written, and nothing is lost', async (t) => {
  const p = project(t);
  makeDatabase(p.at('agentdb.db'), { rows: 8000 });
  const disk = tempFolder(t, 'disk');
  // A file system of 2 MiB, seen only by this child, gone with it.
  const script = `
    const root = args[0], backupDir = args[1];
    const made = await outcome(backup.createBackup({ root, backupDir }));
    console.log(JSON.stringify({ made, left: fs.readdirSync(backupDir).filter((n) => n !== '.lock' && n !== '.gitignore') }))`;
  const run = await exec('unshare', [...(isRoot ? [] : ['--map-root-user']), '--mount', 'sh', '-c', 'mount -t tmpfs -o size=2m none "$0" && exec "$@"', disk, process.execPath, ...scriptArgs(script, [p.root, disk])]);
  if (run.status !== 0 && /unshare|mount/.test(run.stderr)) {
    if (inCI) assert.fail(`no small file system can be mounted here: ${run.stderr}`);
    return t.skip('no small file system can be mounted here');
  }
  assert.equal(run.status, 0, run.stderr);
  const { made, left } = JSON.parse(run.stdout) as { made: { value?: backup.BackupResult }; left: string[] };
  assert.deepEqual([made.value?.success, made.value?.code], [false, 'NO_SPACE'], JSON.stringify(made));
  assert.ok(made.value?.error?.includes(disk), made.value?.error);
  assert.deepEqual(left, []);
});

test('an error is an Error with code, name and message, and no stack of ours is needed to tell what to do', async (t) => {
  const p = withData(t);
  const e = await backup.compareBackup('20010101-000000', { root: p.root }).catch((error: unknown) => error);
  assert.ok(e instanceof Error);
  assert.equal((e as Error & { code: string }).code, 'BACKUP_NOT_FOUND');
  assert.match(e.message, /20010101-000000/);
  assert.match(e.message, /list|create/i, 'the message shows no way out');
});
