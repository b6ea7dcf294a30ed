// The document's Migration Integration, as a TypeScript program compiled with `tsc --strict` and run, in every outcome.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as backup from '../index.js';
import { cleanEnv, contents, exec, makeDatabase, packageRoot, project, tempFolder, withDatabase, type Context, type Project, type Run } from './helpers/project';

/** The document's listing, with its two blanks filled: a migration that may fail half-way, and a check of it. */
const program = `// In migrate-to-agentdb.ts
import { backupHelper } from './src/scripts/backup-helper.js';
import Database from 'better-sqlite3';

async function performMigration(): Promise<void> {
  const db = new Database('agentdb.db');
  try {
    db.exec("ALTER TABLE patterns ADD COLUMN migrated INTEGER DEFAULT 1; DELETE FROM episodes WHERE id > 5");
    if (process.env.OUTCOME === 'failure') throw new Error('the migration failed half-way');
    db.exec('PRAGMA user_version = 2');
  } finally {
    db.close();
  }
}

async function verifyMigration(): Promise<void> {
  const db = new Database('agentdb.db', { readonly: true });
  const version = db.pragma('user_version', { simple: true });
  db.close();
  if (version !== 2) throw new Error('not migrated');
  console.log('Migrated.');
}

async function runMigration() {
  // 1. Create safety backup
  console.log('Creating pre-migration backup...');
  const backup = await backupHelper.createSafetyBackup('agentdb-migration');

  if (!backup.success) {
    console.error('Backup failed! Aborting migration.');
    process.exit(1);
  }

  // 2. Run migration
  try {
    await performMigration();
  } catch (error) {
    // 3. Restore on failure
    console.error('Migration failed! Restoring backup...');
    await backupHelper.restoreBackup(backup.timestamp, {
      force: true
    });
    throw error;
  }

  // 4. Verify migration success
  await verifyMigration();
}

void runMigration();
`;

/** The document's list of key methods, with the types that the replaced helper's callers count on. */
const usage = `import { backupHelper, BackupHelper, createBackup, type BackupResult, type RestoreResult, type BackupInfo, type CreateBackupOptions } from '@agentic-qe/backup';

export async function keyMethods(): Promise<void> {
  // Create backup
  const result = await backupHelper.createBackup({
    compress: true,
    verify: true
  });
  const made: { success: boolean; timestamp: string; files: string[]; totalSize: number; compressed: boolean; error?: string | undefined } = result;
  const timestamp: string = made.timestamp;

  // Restore from backup
  const restore = await backupHelper.restoreBackup(timestamp, {
    verify: true,
    force: true
  });
  const restored: { success: boolean; timestamp: string; filesRestored: number; error?: string | undefined } = restore;

  // List backups
  const backups = await backupHelper.listBackups();
  const listed: { timestamp: string; date: string; files: number; size: number; metadata?: unknown }[] = backups;

  // Verify integrity
  const isValid: boolean = await backupHelper.verifyBackup(timestamp);

  // Clean old backups
  const removed: number = await backupHelper.cleanOldBackups(10);

  // Safety backup before dangerous operation
  const safety: BackupResult = await backupHelper.createSafetyBackup('migration');

  const options: CreateBackupOptions = { kind: 'manual', label: 'x', keepLast: null, signal: new AbortController().signal, onProgress: (p) => console.log(p.phase, p.bytesDone / p.bytesTotal) };
  const own: BackupResult = await new BackupHelper({ root: '/' }).createBackup(options);
  const kinds: ('automated' | 'manual' | 'safety')[] = [own.kind, (backups[0] as BackupInfo).kind];
  const action: 'updated' | 'created' | 'unchanged' | undefined = (restore as RestoreResult).databases[0]?.action;
  console.log(restored, listed, isValid, removed, safety, kinds, action);

  // @ts-expect-error an option that nobody knows
  await createBackup({ compres: true });
  // @ts-expect-error a timestamp is a string
  await backupHelper.restoreBackup(20250116);
  // @ts-expect-error a kind is one of three
  await createBackup({ kind: 'weekly' });
  // @ts-expect-error keepLast is a number or null
  await createBackup({ keepLast: '10' });
  // @ts-expect-error a safety backup needs a name
  await backupHelper.createSafetyBackup();
}
`;

/** A program's folder in which the package is installed under its name. */
async function compiled(t: Context, files: Record<string, string>, type: 'commonjs' | 'module'): Promise<string> {
  const folder = tempFolder(t, 'program');
  fs.mkdirSync(path.join(folder, 'node_modules', '@agentic-qe'), { recursive: true });
  fs.symlinkSync(packageRoot, path.join(folder, 'node_modules', '@agentic-qe', 'backup'), 'junction');
  for (const name of ['better-sqlite3', '@types']) fs.symlinkSync(path.join(packageRoot, 'node_modules', name), path.join(folder, 'node_modules', name), 'junction');
  fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ private: true, type }));
  for (const [name, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    fs.writeFileSync(path.join(folder, name), text);
  }
  const tsc = path.join(packageRoot, 'node_modules', 'typescript', 'bin', 'tsc');
  const run = await exec(process.execPath, [tsc, '--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', '--isolatedModules', '--esModuleInterop', '--module', 'nodenext', '--target', 'es2022', '--types', 'node', '--rootDir', '.', '--outDir', 'out', ...Object.keys(files)], { cwd: folder });
  assert.equal(run.status, 0, `tsc --strict: ${run.stdout}${run.stderr}`);
  fs.writeFileSync(path.join(folder, 'out', 'package.json'), JSON.stringify({ private: true, type }));
  return folder;
}

const helper = "export { backupHelper } from '@agentic-qe/backup';\n";

function migrate(folder: string, p: Project, outcome: string): Promise<Run> {
  return exec(process.execPath, [path.join(folder, 'out', 'migrate-to-agentdb.js')], { cwd: p.root, env: cleanEnv({ OUTCOME: outcome }) });
}

for (const type of ['commonjs', 'module'] as const) {
  test(`the migration flow compiles strictly, keeps a success and takes back a failure (${type})`, { timeout: 600_000 }, async (t) => {
    const folder = await compiled(t, { 'migrate-to-agentdb.ts': program, 'src/scripts/backup-helper.ts': helper }, type);

    const good = project(t);
    makeDatabase(good.at('agentdb.db'), { rows: 30, journal: 'wal' });
    const succeeded = await migrate(folder, good, 'success');
    assert.equal(succeeded.status, 0, succeeded.stderr);
    assert.equal(succeeded.stdout, 'Creating pre-migration backup...\nMigrated.\n', 'the library printed something');
    assert.deepEqual(withDatabase(good.at('agentdb.db'), (db) => [db.pragma('user_version', { simple: true }), db.prepare('SELECT count(*) FROM episodes').pluck().get()]), [2, 5]);
    const [safety] = await backup.listBackups({ root: good.root });
    assert.deepEqual([safety?.kind, safety?.metadata?.operation, safety?.compressed], ['safety', 'agentdb-migration', true]);
    assert.equal(await backup.verifyBackup(safety!.timestamp, { root: good.root }), true);

    const bad = project(t);
    makeDatabase(bad.at('agentdb.db'), { rows: 30, journal: 'wal' });
    const then = contents(bad.at('agentdb.db'));
    const failed = await migrate(folder, bad, 'failure');
    assert.notEqual(failed.status, 0);
    assert.equal(failed.stdout, 'Creating pre-migration backup...\n');
    assert.match(failed.stderr, /Migration failed! Restoring backup\.\.\./);
    assert.match(failed.stderr, /the migration failed half-way/);
    assert.equal(contents(bad.at('agentdb.db')), then);

    const none = project(t);
    const aborted = await migrate(folder, none, 'success');
    assert.equal(aborted.status, 1);
    assert.match(aborted.stderr, /Backup failed! Aborting migration\./);
    assert.deepEqual(fs.readdirSync(none.root).filter((n) => n.endsWith('.db')), [], 'it migrated without a backup');
  });
}

test('every key method has the types that its callers count on, and wrong calls do not compile', { timeout: 600_000 }, async (t) => {
  for (const type of ['commonjs', 'module'] as const) await compiled(t, { 'usage.ts': usage }, type);
});
