// Measures what reading a live database does to the locks of the application's own SQLite, in the same process.
// Run it in a checkout that is built (`npm start` builds it): node docs/measure/two-libraries.mjs [rounds]
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)
const self = fileURLToPath(import.meta.url)
const Database = require('better-sqlite3')

// What is done to the live database in the application's own process, between two statements of the application.
const deeds = {
  nothing: () => {},
  // What a home-made backup does: read the database and its side files, in whatever way. Each read ends with a close.
  'fs.readFileSync': (file) => {
    for (const each of [file, `${file}-journal`, `${file}-wal`, `${file}-shm`]) if (existsSync(each)) readFileSync(each)
  },
  createBackup: async (file) => {
    const { createBackup } = require('../../index.js')
    const made = await createBackup({ root: join(file, '..') })
    if (!made.success) throw new Error(`${made.error} (${made.code})`)
  },
}

/** Our own POSIX locks on `files`. One read of /proc/locks: between two reads its lines may move. */
function locks(...files) {
  const buffer = Buffer.alloc(1 << 16)
  const fd = openSync('/proc/locks', 'r')
  const lines = buffer.toString('latin1', 0, readSync(fd, buffer)).split('\n')
  closeSync(fd)
  const inodes = files.filter((f) => existsSync(f)).map((f) => String(statSync(f).ino))
  return lines.filter((line) => line.includes('POSIX') && line.includes(` ${process.pid} `) && inodes.some((i) => line.includes(`:${i} `))).length
}

/** Another process: adds a row if it can, and prints what happened. */
function other(file, what) {
  const run = spawnSync(process.execPath, [self, '--other', file, what], { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(run.stderr)
  return run.stdout.trim()
}

function runOther(file, what) {
  const db = new Database(file, { timeout: 0 })
  try {
    if (what === 'insert') db.exec("INSERT INTO t VALUES ('other')")
    console.log(what === 'insert' ? 'committed' : db.prepare('SELECT count(*) FROM t WHERE who = ?').pluck().get(what))
  } catch (e) {
    console.log(e.code)
  }
  db.close()
}

function fresh(journal) {
  const folder = mkdtempSync(join(tmpdir(), 'two-libraries-'))
  const file = join(folder, 'app.db')
  const db = new Database(file, { timeout: 0 })
  db.pragma(`journal_mode = ${journal}`)
  db.exec("CREATE TABLE t(who TEXT); INSERT INTO t VALUES ('first')")
  return { folder, file, db }
}

/** The application is inside BEGIN IMMEDIATE: nobody else may commit until it does. */
async function writeTransaction(deed) {
  const { folder, file, db } = fresh('delete')
  db.exec("BEGIN IMMEDIATE; INSERT INTO t VALUES ('app')")
  const before = locks(file)
  await deed(file)
  const after = locks(file)
  const theirs = other(file, 'insert')
  let ours = 'committed'
  try {
    db.exec('COMMIT')
  } catch (e) {
    ours = e.code
  }
  db.close()
  const fate = (answer, who) => `${answer}, ${other(file, who) === '1' ? 'there' : 'not there'}`
  const result = { locks: `${before} → ${after}`, 'row of the other process': fate(theirs, 'other'), 'row of the application': fate(ours, 'app') }
  rmSync(folder, { recursive: true })
  return result
}

/** The application has a WAL database open, and is idle; another process comes and goes; then the application commits 20 times. */
async function openWal(deed) {
  const { folder, file, db } = fresh('wal')
  const before = locks(file, `${file}-shm`)
  await deed(file)
  const after = locks(file, `${file}-shm`)
  other(file, 'first')
  const wal = existsSync(`${file}-wal`) ? 'there' : 'deleted'
  let acknowledged = 0
  let ours = 'committed'
  try {
    for (; acknowledged < 20; acknowledged++) db.exec("INSERT INTO t VALUES ('app')")
  } catch (e) {
    ours = e.code
  }
  const found = Number(other(file, 'app'))
  db.close()
  rmSync(folder, { recursive: true })
  return { locks: `${before} → ${after}`, '-wal': wal, 'last COMMIT': ours, acknowledged, 'found by others': found }
}

async function measure(title, situation, rounds) {
  console.log(`\n${title}, ${rounds} rounds each`)
  const table = {}
  for (const [name, deed] of Object.entries(deeds)) {
    const seen = new Map()
    for (let i = 0; i < rounds; i++) {
      const key = JSON.stringify(await situation(deed))
      seen.set(key, (seen.get(key) ?? 0) + 1)
    }
    for (const [key, times] of seen) table[seen.size > 1 ? `${name} (${times}×)` : name] = JSON.parse(key)
  }
  console.table(table)
}

if (process.argv[2] === '--other') {
  runOther(process.argv[3], process.argv[4])
} else if (process.platform !== 'linux') {
  console.error('This reads /proc/locks, which only Linux has.')
  process.exitCode = 1
} else {
  const rounds = Number(process.argv[2] ?? 10)
  console.log(`Linux ${release()}, ${cpus().length} CPUs, Node ${process.versions.node}, better-sqlite3 with SQLite ${new Database(':memory:').prepare('SELECT sqlite_version()').pluck().get()}`)
  await measure('Rollback journal: the application is inside BEGIN IMMEDIATE', writeTransaction, rounds)
  await measure('WAL: the application has the database open', openWal, rounds)
}
