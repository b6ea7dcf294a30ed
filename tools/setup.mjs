// Makes a checkout ready to run: dependencies as locked, then the addon. Quiet unless something fails.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const stampFile = join(root, 'node_modules', '.setup-stamp')

// The lock file says what has to be there; the ABI, for which Node better-sqlite3 was built.
function wanted() {
  const hash = createHash('sha256')
  for (const file of ['package.json', 'package-lock.json']) hash.update(readFileSync(join(root, file)))
  return `${hash.digest('hex')} ${process.platform}-${process.arch}-${process.versions.modules}\n`
}

function present() {
  try {
    return readFileSync(stampFile, 'utf8')
  } catch {
    return ''
  }
}

function run(what, args) {
  // npm is a script on Windows and needs the shell; the arguments are all our own.
  const result = spawnSync('npm', args, { cwd: root, encoding: 'utf8', shell: process.platform === 'win32', maxBuffer: 1 << 28 })
  if (result.status === 0) return
  process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}\nsetup: ${what} failed${result.error ? `: ${result.error.message}` : ''}\n`)
  process.exit(result.status || 1)
}

const stamp = wanted()
if (present() !== stamp) {
  run('npm ci', ['ci', '--no-audit', '--no-fund'])
  writeFileSync(stampFile, stamp)
}
// Always: cargo knows what has changed, and takes a moment if nothing has.
run('the build', ['run', '--silent', 'build'])
