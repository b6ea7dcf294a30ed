// Where unsafe code is: docs/unsafe.md lists it all, with reasons.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { packageRoot } from './helpers/project';

function rustFiles(folder: string): string[] {
  return fs.readdirSync(path.join(packageRoot, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = `${folder}/${entry.name}`;
    return entry.isDirectory() ? rustFiles(name) : name.endsWith('.rs') ? [name] : [];
  });
}

/** Whether a file has an unsafe block, function or implementation; attributes and comments speak of it without being it. */
function isUnsafe(file: string): boolean {
  const lines = fs.readFileSync(path.join(packageRoot, file), 'utf8').split('\n');
  return lines.some((line) => /\bunsafe\b/.test(line.replace(/\/\/.*/, '')));
}

test('every file with unsafe code is in docs/unsafe.md, with what it is for, and no other is', () => {
  const rows = fs.readFileSync(path.join(packageRoot, 'docs', 'unsafe.md'), 'utf8').split('\n').filter((line) => line.startsWith('| `'));
  const listed = rows.flatMap((row) => [...row.split('|')[1]!.matchAll(/`([^`]+)`/g)].map((m) => m[1]!));
  const found = rustFiles('src').filter(isUnsafe);
  assert.ok(found.includes('src/sqlite/posix_locks.rs'), 'the search finds nothing');
  assert.deepEqual(listed.sort(), found.sort());
});
