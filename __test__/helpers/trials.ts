// What is done again and again to copies of a project, two at a time, and the processes that die in them.
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { companion, exec, projectAt, tempFolder, type Context, type Project } from './project';

/** Copies a folder, all that is in it, to `to`, which is not there yet. */
export async function copyFolder(from: string, to: string): Promise<void> {
  const run = await exec('cp', ['-a', from, to]);
  assert.equal(run.status, 0, run.stderr);
}

/** A copy of a project that is gone when the test is over. */
export async function copyOfProject(t: Context, p: Project): Promise<Project> {
  const root = path.join(tempFolder(t), 'copy');
  await copyFolder(p.root, root);
  return projectAt(root);
}

/** Does `work` for each of `all`, two at a time. */
export async function twoAtATime<T>(all: readonly T[], work: (point: T, i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let i; (i = next++) < all.length; ) await work(all[i]!, i);
  };
  await Promise.all([lane(), lane()]);
}

/** A process changes a database and is killed before it has closed it: with a WAL, the commits are there only. */
export async function died(t: Context, file: string, sql: string): Promise<void> {
  const dead = companion(t, `const db = new Database(args[0]); db.exec(args[1]); console.log('done'); process.kill(process.pid, 'SIGKILL');`, [file, sql]);
  assert.equal(await dead.line(), 'done');
  await dead.end();
}
