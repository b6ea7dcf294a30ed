// `npm start`: shows a backup and a restore under running writers, and checks every claim it makes on the way.
// `npm start -- --root DIR`: backs up and verifies a project of yours instead.
import { spawn } from 'node:child_process'
import { closeSync, copyFileSync, mkdirSync, mkdtempSync, openSync, readdirSync, readSync, realpathSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const self = fileURLToPath(import.meta.url)
const usage = `Usage: npm start                    a demonstration in a temporary folder, which is removed afterwards
       npm start -- --root DIR      back up the project in DIR, and verify the backup
       npm start -- --help`

let broken = 0
const say = (text = '') => console.log(text)
const step = (text) => say(`\n${text}`)

function check(claim, holds) {
  say(`  ${holds ? 'ok      ' : 'NOT SO  '}${claim}`)
  if (!holds) broken++
}

function must(result, what) {
  if (!result.success) throw new Error(`${what} failed: ${result.error} (${result.code})`)
  for (const warning of result.warnings) say(`  warning: ${warning}`)
  return result
}

function load(name) {
  try {
    return require(name)
  } catch (e) {
    throw new Error(`${name === '../index.js' ? 'the addon' : name} cannot be loaded; run \`npm start\`, which builds it first (${e.message.split('\n')[0]})`)
  }
}

// --- a project of yours -------------------------------------------------------------------------------------------

async function ownProject(root) {
  const { createBackup, inspectBackup } = load('../index.js')
  say(`Project: ${root}`)
  // keepLast: null, so that trying it out removes no backup.
  const made = must(await createBackup({ root, keepLast: null }), 'the backup')
  for (const d of made.databases) say(`  ${d.source}  ${d.size} bytes  ${d.integrity ?? 'plain file'}`)
  say(`Timestamp: ${made.timestamp}   (${made.durationMs} ms, in ${join(made.files[0], '..')})`)
  const found = await inspectBackup(made.timestamp, { root })
  for (const f of found.files) for (const p of f.problems) say(`  ${f.file}: ${p.message} (${p.code})`)
  check('every file of the backup was read back and is sound', found.ok)
}

// --- the sample project -------------------------------------------------------------------------------------------

function makeProject(root, Database) {
  mkdirSync(join(root, '.agentic-qe'), { recursive: true })
  const small = (file, whose) => {
    const db = new Database(join(root, file))
    db.exec(`CREATE TABLE facts(id INTEGER PRIMARY KEY, whose TEXT)`)
    const add = db.prepare('INSERT INTO facts(whose) VALUES (?)')
    db.transaction(() => { for (let i = 0; i < 200; i++) add.run(whose) })()
    db.close()
  }
  small('agentdb.db', 'root')
  small('.agentic-qe/agentdb.db', 'inner')

  const db = new Database(join(root, '.agentic-qe', 'memory.db'), { timeout: 30_000 })
  db.pragma('journal_mode = WAL')
  db.exec(`CREATE TABLE episodes(id INTEGER PRIMARY KEY, task TEXT);
           CREATE TABLE patterns(id INTEGER PRIMARY KEY, content BLOB);
           CREATE TABLE commits(writer TEXT, n INTEGER, PRIMARY KEY (writer, n)) WITHOUT ROWID`)
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.pragma('wal_autocheckpoint = 0')
  const episode = db.prepare('INSERT INTO episodes(task) VALUES (?)')
  const pattern = db.prepare('INSERT INTO patterns(content) VALUES (randomblob(800))')
  db.transaction(() => { for (let i = 0; i < 500; i++) (episode.run(`task ${i}`), pattern.run()) })()
  return db
}

const rows = (db, table) => db.prepare(`SELECT count(*) FROM ${table}`).pluck().get()

/** What a plain copy of the main file holds. In a process of its own: closing the file here would drop the locks of our connection. */
async function rowsInPlainCopy(file, copy) {
  const child = spawn(process.execPath, [self, '--copy-and-count', file, copy], { stdio: ['ignore', 'pipe', 'inherit'] })
  let out = ''
  for await (const chunk of child.stdout) out += chunk
  return Number(out)
}

function copyAndCount(file, copy) {
  copyFileSync(file, copy)
  const db = new (load('better-sqlite3'))(copy)
  say(rows(db, 'episodes'))
  db.close()
}

// --- writers that don't stop ----------------------------------------------------------------------------------------

function committer(db, writer) {
  const insert = db.prepare('INSERT INTO commits VALUES (?, ?)')
  return (n) => insert.run(writer, n)
}

/** Commits in this process, beside the addon: the second SQLite library. */
function writeHere(db) {
  const acknowledged = []
  const commit = committer(db, 'here')
  let n = 0
  let error
  const timer = setInterval(() => {
    try {
      commit(++n)
      acknowledged.push(n)
    } catch (e) {
      error = e
      clearInterval(timer)
    }
  }, 5)
  return { acknowledged, stop: async () => { clearInterval(timer); return error } }
}

/** Commits in another process, which prints each number after its commit has returned. */
function writeThere(file) {
  const child = spawn(process.execPath, [self, '--writer', file], { stdio: ['pipe', 'pipe', 'inherit'] })
  const acknowledged = []
  createInterface({ input: child.stdout }).on('line', (line) => acknowledged.push(Number(line)))
  const end = new Promise((done) => child.on('close', done))
  return {
    acknowledged,
    stop: async () => {
      child.stdin.end()
      const status = await end
      return status === 0 ? undefined : new Error(`the other writer ended with ${status}`)
    },
  }
}

function runWriter(file) {
  const db = new (load('better-sqlite3'))(file, { timeout: 30_000 })
  const commit = committer(db, 'there')
  let n = 0
  const timer = setInterval(() => { commit(++n); say(n) }, 5)
  process.stdin.resume().on('end', () => { clearInterval(timer); db.close() })
}

async function until(holds, what) {
  for (const end = Date.now() + 20_000; !holds(); await sleep(10)) if (Date.now() > end) throw new Error(`waited 20 s for ${what}`)
}

// --- looking --------------------------------------------------------------------------------------------------------

/** The whole of /proc/locks in one read: between two reads others may lock and unlock, and lines come twice or not at all. */
function procLocks() {
  const buffer = Buffer.alloc(1 << 16)
  const fd = openSync('/proc/locks', 'r')
  const length = readSync(fd, buffer)
  closeSync(fd)
  return buffer.toString('latin1', 0, length)
}

/** This process's own POSIX locks on `files`; undefined where there is no /proc/locks. */
function ownLocks(files) {
  if (process.platform !== 'linux') return undefined
  const inodes = files.map((f) => String(statSync(f).ino))
  const mine = procLocks().split('\n').map((line) => line.trim().split(/\s+/).slice(1))
    .filter((f) => f[0] === 'POSIX' && f[3] === String(process.pid) && inodes.includes(f[4]?.split(':')[2]))
  return mine.map((f) => f.join(' ')).sort().join('\n')
}

function watchLocks(files) {
  const before = ownLocks(files)
  if (before === undefined) return { report: () => say('  (no /proc/locks on this system: not checked)') }
  let looks = 0
  let changed = 0
  const timer = setInterval(() => { looks++; if (ownLocks(files) !== before) changed++ }, 2)
  return {
    report: () => {
      clearInterval(timer)
      check(`/proc/locks: the locks of this process's own connection are there (${before.split('\n').filter(Boolean).length})`, before !== '')
      check(`/proc/locks: they never changed (${looks} looks during backup, verify and restore, and one now)`, changed === 0 && ownLocks(files) === before)
    },
  }
}

function showSet(folder, timestamp) {
  for (const name of readdirSync(folder).filter((n) => n.includes(timestamp)).sort()) say(`  ${name}  ${statSync(join(folder, name)).size} bytes`)
}

/** The commits in a copy, `writer n` each. The copy is copied once more, so that SQLite leaves no files beside a backup. */
function commitsIn(copy, scratch, Database) {
  copyFileSync(copy, scratch)
  const db = new Database(scratch)
  const found = commitsOf(db)
  db.close()
  return found
}

const commitsOf = (db) => new Set(db.prepare("SELECT writer || ' ' || n FROM commits").pluck().all())
const acknowledgedBy = (here, there) => [...here.acknowledged.map((n) => `here ${n}`), ...there.acknowledged.map((n) => `there ${n}`)]

function breakThem(root, db, Database) {
  db.exec('DROP TABLE patterns; DELETE FROM episodes WHERE id > 10')
  for (const file of ['agentdb.db', '.agentic-qe/agentdb.db']) {
    const other = new Database(join(root, file), { timeout: 30_000 })
    other.exec(file === 'agentdb.db' ? 'DROP TABLE facts' : 'DELETE FROM facts')
    other.close()
  }
}

function factsOf(root, file, Database) {
  const db = new Database(join(root, file), { readonly: true })
  const found = db.prepare('SELECT whose, count(*) AS n FROM facts GROUP BY whose').all().map((r) => `${r.n} ${r.whose}`).join()
  db.close()
  return found
}

// --- the demonstration ----------------------------------------------------------------------------------------------

async function demonstrate(temp) {
  const { createBackup, restoreBackup, verifyBackup } = load('../index.js')
  const Database = load('better-sqlite3')
  const root = join(temp, 'sample project')
  const memory = join(root, '.agentic-qe', 'memory.db')
  const db = makeProject(root, Database)

  step(`A sample project in ${root}`)
  say('  agentdb.db, .agentic-qe/agentdb.db and .agentic-qe/memory.db (WAL), the last one held open by this process')
  const inCopy = await rowsInPlainCopy(memory, join(temp, 'plain-copy.db'))
  check(`memory.db has 500 episodes, a plain copy of the file ${inCopy}: the rest is in its -wal file`, rows(db, 'episodes') === 500 && inCopy < 500)

  const here = writeHere(db)
  const there = writeThere(memory)
  const both = (more) => {
    const [a, b] = [here.acknowledged.length + more, there.acknowledged.length + more]
    return until(() => here.acknowledged.length >= a && there.acknowledged.length >= b, 'both writers to commit')
  }
  await both(20)
  say('  Two writers commit to memory.db from now on: one in this process (better-sqlite3), one in another process.')
  const locks = watchLocks([memory, `${memory}-shm`])

  step('Backup')
  const before = acknowledgedBy(here, there)
  const made = must(await createBackup({ root, label: 'demonstration' }), 'the backup')
  say(`  ${made.timestamp}, ${made.durationMs} ms`)
  showSet(join(root, '.agentic-qe', 'backups'), made.timestamp)
  check('verifyBackup: checksums, structure and archive are sound', await verifyBackup(made.timestamp, { root }))
  const copies = new Map(made.databases.map((d) => [d.source, d.file]))
  const inBackup = commitsIn(copies.get('.agentic-qe/memory.db'), join(temp, 'look-1.db'), Database)
  check(`all ${before.length} commits acknowledged before it began are in it`, before.every((c) => inBackup.has(c)))
  check('the two databases called agentdb.db are two files', copies.size === 3 && new Set(copies.values()).size === 3)

  step('Damage: tables dropped and rows deleted in all three databases')
  await both(20)
  breakThem(root, db, Database)
  say(`  memory.db has ${rows(db, 'episodes')} episodes left and no patterns`)
  await both(20)

  step('Restore, with both writers running')
  const restored = must(await restoreBackup(made.timestamp, { root }), 'the restore')
  for (const d of restored.databases) say(`  ${d.source}  ${d.action}, ${d.pagesWritten} page(s) written`)
  say(`  ${restored.durationMs} ms; the state before is in the safety backup ${restored.safetyBackup}`)
  await both(20)
  locks.report()
  const errors = [await here.stop(), await there.stop()].filter(Boolean)
  check(`both writers went on, without an error${errors.map((e) => `: ${e.message}`).join('')}`, errors.length === 0)

  step('What is there now')
  check('memory.db has its 500 episodes and 500 patterns again, seen by the connection that was open all the time',
    rows(db, 'episodes') === 500 && rows(db, 'patterns') === 500)
  check('integrity_check says ok', db.pragma('integrity_check', { simple: true }) === 'ok')
  check('agentdb.db has its own 200 facts again', factsOf(root, 'agentdb.db', Database) === '200 root')
  check('.agentic-qe/agentdb.db has its own 200 facts again', factsOf(root, '.agentic-qe/agentdb.db', Database) === '200 inner')
  check('verifyBackup: the safety backup is sound', await verifyBackup(restored.safetyBackup, { root }))

  const all = acknowledgedBy(here, there)
  const safety = join(root, '.agentic-qe', 'backups', `${basename(memory)}.backup.${restored.safetyBackup}`)
  const saved = commitsIn(safety, join(temp, 'look-2.db'), Database)
  const live = commitsOf(db)
  const after = all.filter((c) => !saved.has(c))
  check(`of ${all.length} acknowledged commits ${all.length - after.length} are in the safety backup`, all.length > after.length)
  check(`the other ${after.length} were made after the restore and are in the live database; none is lost`, after.length > 0 && after.every((c) => live.has(c)))
  db.close()
}

async function inTemporaryFolder(work) {
  const temp = realpathSync(mkdtempSync(join(tmpdir(), 'aqe backup demo ')))
  const tidy = () => rmSync(temp, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  process.once('exit', tidy)
  for (const [signal, status] of [['SIGINT', 130], ['SIGTERM', 143]]) process.once(signal, () => process.exit(status))
  await work(temp)
}

function options() {
  try {
    const { values } = parseArgs({ options: { root: { type: 'string' }, help: { type: 'boolean', short: 'h' } } })
    if (values.root === '') throw new Error('--root needs the path of a folder')
    return values
  } catch (e) {
    console.error(`${e.message}\n\n${usage}`)
    process.exit(2)
  }
}

async function main() {
  const { root, help } = options()
  if (help) return say(usage)
  // npm runs scripts in the package's folder and says here where the caller was.
  if (root !== undefined) await ownProject(resolve(process.env.INIT_CWD ?? '.', root))
  else await inTemporaryFolder(demonstrate)
  if (broken > 0) throw new Error(`${broken} of the claims above did not hold`)
  if (root === undefined) {
    say('\nShown: a backup and a restore of databases in use. Nothing had to be stopped, and every commit that was acknowledged')
    say('is in the safety backup or in the live database. The temporary folder is removed.')
  }
}

const [internal, ...files] = process.argv.slice(2)
if (internal === '--writer') runWriter(files[0])
else if (internal === '--copy-and-count') copyAndCount(...files)
else {
  main().catch((e) => {
    console.error(`\nnpm start: ${e.message}`)
    // At once: a writer may still be running, and it ends when this process does.
    process.exit(1)
  })
}
