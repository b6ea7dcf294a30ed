// Projects that have the package: its scripts linked in, or all of it installed as npm does.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { cleanEnv, exec, packageRoot, tempFolder, type Context, type Run } from './project';

export const scriptsFolder = path.join(packageRoot, 'scripts');
export const scriptNames = ['backup-databases.sh', 'restore-databases.sh', 'manage-backups.sh'];

/** Makes the scripts reachable as `./scripts/*.sh`. */
export function linkScripts(root: string): void {
  fs.symlinkSync(scriptsFolder, path.join(root, 'scripts'));
}

/** Runs a script file with a shell, in `cwd`. */
export function runScriptFile(file: string, args: string[], cwd: string, env: Record<string, string> = {}, shell?: string): Promise<Run> {
  return shell === undefined ? exec(file, args, { cwd, env: cleanEnv(env) }) : exec(shell, [file, ...args], { cwd, env: cleanEnv(env) });
}

/** What a run says the new set is called. */
export function timestampIn(run: Run): string {
  assert.equal(run.status, 0, run.stderr + run.stdout);
  const timestamp = /^Timestamp: (\d{8}-\d{6})$/m.exec(run.stdout)?.[1];
  assert.ok(timestamp, run.stdout);
  return timestamp;
}

/** What would be published, as one file. */
export async function packPackage(t: Context): Promise<string> {
  const folder = tempFolder(t, 'packed');
  const run = await exec('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: packageRoot });
  assert.equal(run.status, 0, run.stderr);
  const [name] = fs.readdirSync(folder);
  assert.ok(name !== undefined && name.endsWith('.tgz'), run.stdout);
  return path.join(folder, name);
}

/** Installs what would be published, and the package of this platform, which carries the addon. */
export async function installPackage(t: Context, root: string): Promise<void> {
  const tarball = await packPackage(t);
  fs.writeFileSync(path.join(root, 'package.json'), '{"name": "a-project", "version": "1.0.0", "private": true}\n');
  const run = await exec('npm', ['install', '--offline', '--no-audit', '--no-fund', '--ignore-scripts', tarball], { cwd: root });
  assert.equal(run.status, 0, run.stderr);
  placeAddon(root);
}

/** Lays down the platform's own package: npm takes it from the registry when there is a release. */
export function placeAddon(root: string): void {
  const file = fs.readdirSync(packageRoot).find((n) => n.endsWith('.node'));
  const platform = file?.split('.')[1];
  assert.ok(file && platform, 'the addon is not built');
  const folder = path.join(root, 'node_modules', '@agentic-qe', `backup-${platform}`);
  fs.mkdirSync(folder, { recursive: true });
  fs.copyFileSync(path.join(packageRoot, 'npm', platform, 'package.json'), path.join(folder, 'package.json'));
  fs.symlinkSync(path.join(packageRoot, file), path.join(folder, file));
}
