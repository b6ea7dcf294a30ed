// Projects with many backup sets: each a copy of a small database, its checksum and its metadata.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'

/** A database of two pages. */
export function makeTiny(file) {
  rmSync(file, { force: true })
  const db = new Database(file)
  db.pragma('journal_mode = wal')
  db.exec("CREATE TABLE state(name TEXT); INSERT INTO state VALUES ('tiny')")
  db.close()
  if (statSync(file).size !== 8192) throw new Error(`${file} has ${statSync(file).size} bytes`)
}

function metadata(timestamp, date, file, size, sha256) {
  const sqlite = { page_size: 4096, page_count: size / 4096, journal_mode: 'wal', encoding: 'UTF-8', user_version: 0, application_id: 0, integrity: 'ok', tables: { state: 1 } }
  const surroundings = { hostname: 'benchmark', user: 'benchmark', git_commit: 'N/A', git_branch: 'N/A', compressed: false, format: 1, tool: 'benchmark', sqlite_version: '3.50.0' }
  return { timestamp, date, ...surroundings, kind: 'automated', verified: true, databases: [{ file, source: 'agentdb.db', size, sha256, sqlite }] }
}

/** `count` sets of the project's database, one an hour, the newest an hour ago. */
export function craft(project, count) {
  const folder = join(project, '.agentic-qe', 'backups')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const copy = readFileSync(join(project, 'agentdb.db'))
  const sha256 = createHash('sha256').update(copy).digest('hex')
  const now = Date.now()
  for (let i = 1; i <= count; i++) {
    const date = new Date(now - i * 3_600_000).toISOString().slice(0, 19)
    const timestamp = date.replaceAll(/[-:]/g, '').replace('T', '-')
    const name = `agentdb.db.backup.${timestamp}`
    const write = (file, content) => writeFileSync(join(folder, file), content, { mode: 0o600 })
    write(name, copy)
    write(`${name}.sha256`, `${sha256}  ${name}\n`)
    write(`backup-metadata.${timestamp}.json`, `${JSON.stringify(metadata(timestamp, `${date}Z`, name, copy.length, sha256), null, 2)}\n`)
  }
}
