// Installs the programs of tools/hosts (Jest, Vitest, Bun, Deno: some 400 MB) as locked, into node_modules/.cache/hosts, and prints where.
// Only the proof in full needs them. Their own scripts are not run: the binaries of Bun and Deno lie in packages of their own.
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const from = fileURLToPath(new URL('hosts/', import.meta.url))
const folder = fileURLToPath(new URL('../node_modules/.cache/hosts/', import.meta.url))
const stampFile = join(folder, '.stamp')
const wanted = `${readFileSync(join(from, 'package-lock.json'), 'utf8')}${process.platform}-${process.arch}\n`

if (!existsSync(stampFile) || readFileSync(stampFile, 'utf8') !== wanted) {
  mkdirSync(folder, { recursive: true })
  for (const file of ['package.json', 'package-lock.json']) copyFileSync(join(from, file), join(folder, file))
  // npm is a script on Windows and needs the shell; the arguments are all our own.
  const result = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: folder, encoding: 'utf8', shell: process.platform === 'win32', maxBuffer: 1 << 28 })
  if (result.status !== 0) {
    process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}\nhosts: npm ci failed${result.error ? `: ${result.error.message}` : ''}\n`)
    process.exit(result.status || 1)
  }
  writeFileSync(stampFile, wanted)
}
process.stdout.write(`${folder}\n`)
