// The package itself: what it exports, to whom, with which types, for which platforms, and what does not leak out of it.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { exec, hasTool, packageRoot, tempFolder } from './helpers/project';

interface Manifest {
  name: string;
  version: string;
  type?: string;
  main?: string;
  types?: string;
  exports?: Record<string, unknown>;
  files?: string[];
  bin?: Record<string, string>;
  engines?: { node?: string };
  os?: string[];
  cpu?: string[];
  libc?: string[];
  scripts?: Record<string, string>;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  napi?: { binaryName?: string; targets?: string[] };
}
const read = (...parts: string[]): Manifest => JSON.parse(fs.readFileSync(path.join(packageRoot, ...parts), 'utf8')) as Manifest;
const manifest = read('package.json');
const names = ['createBackup', 'createSafetyBackup', 'restoreBackup', 'listBackups', 'verifyBackup', 'cleanOldBackups', 'BackupHelper', 'backupHelper', 'withSafetyBackup', 'inspectBackup', 'compareBackup', 'storageUsage', 'checkHealth', 'recover'];

const platforms: Record<string, { target: string; os: string; cpu: string; libc?: string }> = {
  'darwin-x64': { target: 'x86_64-apple-darwin', os: 'darwin', cpu: 'x64' },
  'darwin-arm64': { target: 'aarch64-apple-darwin', os: 'darwin', cpu: 'arm64' },
  'win32-x64-msvc': { target: 'x86_64-pc-windows-msvc', os: 'win32', cpu: 'x64' },
  'win32-arm64-msvc': { target: 'aarch64-pc-windows-msvc', os: 'win32', cpu: 'arm64' },
  'linux-x64-gnu': { target: 'x86_64-unknown-linux-gnu', os: 'linux', cpu: 'x64', libc: 'glibc' },
  'linux-arm64-gnu': { target: 'aarch64-unknown-linux-gnu', os: 'linux', cpu: 'arm64', libc: 'glibc' },
  'linux-x64-musl': { target: 'x86_64-unknown-linux-musl', os: 'linux', cpu: 'x64', libc: 'musl' },
  'linux-arm64-musl': { target: 'aarch64-unknown-linux-musl', os: 'linux', cpu: 'arm64', libc: 'musl' },
};

test('every promised name is exported, and is what it should be', () => {
  for (const name of names) {
    const value = (backup as unknown as Record<string, unknown>)[name];
    assert.equal(typeof value, name === 'backupHelper' ? 'object' : 'function', name);
  }
  assert.ok(backup.backupHelper instanceof backup.BackupHelper);
  for (const method of ['createBackup', 'createSafetyBackup', 'restoreBackup', 'listBackups', 'verifyBackup', 'cleanOldBackups']) {
    assert.equal(typeof (backup.backupHelper as unknown as Record<string, unknown>)[method], 'function', method);
  }
});

test('the methods of the singleton may be taken off it', async (t) => {
  const folder = tempFolder(t);
  const { listBackups } = backup.backupHelper;
  const list = await listBackups.call(backup.backupHelper, { root: folder });
  assert.deepEqual(list, []);
});

test('index.d.ts declares every promised name, and no const enum', () => {
  const types = fs.readFileSync(path.join(packageRoot, 'index.d.ts'), 'utf8');
  for (const name of names) assert.match(types, new RegExp(`export .*\\b${name}\\b`), name);
  assert.doesNotMatch(types, /const enum/);
  assert.doesNotMatch(types, /\bbigint\b/);
});

test('it loads by name with require and with named ESM imports', async () => {
  const required = await exec(process.execPath, ['-e', `const b = require('@agentic-qe/backup'); console.log(JSON.stringify(Object.keys(b)))`], { cwd: packageRoot });
  assert.equal(required.status, 0, required.stderr);
  for (const name of names) assert.ok((JSON.parse(required.stdout) as string[]).includes(name), name);
  const imported = await exec(process.execPath, ['--input-type=module', '-e', `import { ${names.join(', ')} } from '@agentic-qe/backup'; import all from '@agentic-qe/backup'; console.log([${names.join(', ')}].every(Boolean) && all.createBackup === createBackup)`], { cwd: packageRoot });
  assert.equal(imported.status, 0, imported.stderr);
  assert.equal(imported.stdout.trim(), 'true');
});

test('loading prints nothing, and keeps no process alive', async () => {
  const run = await exec(process.execPath, ['-e', `require('./index.js')`], { cwd: packageRoot });
  assert.deepEqual([run.status, run.stdout, run.stderr], [0, '', '']);
});

test('the manifest says commonjs, the generated entry, types first, Node 20 and up, and the command', () => {
  assert.equal(manifest.name, '@agentic-qe/backup');
  assert.equal(manifest.type ?? 'commonjs', 'commonjs');
  assert.equal(manifest.main?.replace('./', ''), 'index.js');
  assert.equal(manifest.types?.replace('./', ''), 'index.d.ts');
  const main = manifest.exports?.['.'] as Record<string, string>;
  assert.equal(Object.keys(main)[0], 'types');
  assert.match(manifest.engines?.node ?? '', /^>=\s*20(\.\d+)*$/);
  assert.equal(manifest.bin?.['aqe-backup']?.replace('./', ''), 'bin/aqe-backup.js');
  const command = path.join(packageRoot, 'bin', 'aqe-backup.js');
  assert.match(fs.readFileSync(command, 'utf8'), /^#!\/usr\/bin\/env node\n/);
  assert.ok(fs.statSync(command).mode & 0o100, 'the command is not executable');
});

test('nothing runs at install, and nothing else is installed', () => {
  for (const script of ['preinstall', 'install', 'postinstall']) assert.equal(manifest.scripts?.[script], undefined, script);
  assert.deepEqual(manifest.dependencies ?? {}, {});
  assert.equal(manifest.optionalDependencies, undefined, 'platform packages are written at publish, not committed');
});

test('the eight platforms are targets, and each has its own manifest', () => {
  assert.ok(manifest.napi?.binaryName);
  assert.deepEqual([...(manifest.napi?.targets ?? [])].sort(), Object.values(platforms).map((p) => p.target).sort());
  assert.deepEqual(fs.readdirSync(path.join(packageRoot, 'npm')).sort(), Object.keys(platforms).sort());
  for (const [name, p] of Object.entries(platforms)) {
    const own = read('npm', name, 'package.json');
    const file: string = `${manifest.napi?.binaryName}.${name}.node`;
    assert.deepEqual([own.name, own.version, own.os, own.cpu, own.libc], [`${manifest.name}-${name}`, manifest.version, [p.os], [p.cpu], p.libc ? [p.libc] : undefined], name);
    assert.deepEqual([own.main, own.files, own.engines?.node], [file, [file], manifest.engines?.node], name);
  }
});

test('the published files are the entry, its types, the command, the scripts and what npm always takes', async () => {
  const run = await exec('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: packageRoot });
  assert.equal(run.status, 0, run.stderr);
  const [packed] = JSON.parse(run.stdout) as [{ files: { path: string }[] }];
  const files = packed.files.map((f) => f.path);
  for (const needed of ['index.js', 'index.d.ts', 'package.json', 'bin/aqe-backup.js', 'scripts/aqe-backup.sh', 'scripts/backup-databases.sh', 'scripts/restore-databases.sh', 'scripts/manage-backups.sh']) assert.ok(files.includes(needed), `${needed} is not published`);
  for (const file of files) assert.doesNotMatch(file, /^(src|__test__|target|npm|benchmark|node_modules|\.)|Cargo|\.rs$|\.test\./, `${file} is published`);
});

test('no symbol of its SQLite leaves the binary, and none comes from outside', async (t) => {
  if (process.platform !== 'linux') return t.skip('ELF only');
  if (!(await hasTool('nm'))) return t.skip('no nm here');
  const binaries = fs.readdirSync(packageRoot).filter((n) => n.endsWith('.node'));
  assert.ok(binaries.length > 0, 'the addon is not built');
  for (const file of binaries) {
    const run = await exec('nm', ['-D', path.join(packageRoot, file)]);
    assert.equal(run.status, 0, run.stderr);
    const symbols = run.stdout.split('\n').map((line) => line.trim().split(/\s+/).slice(-2));
    assert.ok(symbols.some(([, name]) => name === 'napi_register_module_v1'), `${file} is no addon`);
    assert.deepEqual(symbols.filter(([, name]) => /^sqlite3/.test(name ?? '')), [], file);
  }
});
