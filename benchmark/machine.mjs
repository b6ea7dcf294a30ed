// What the figures were taken on, and with which versions of what.
import { execFileSync, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { cpus, loadavg, release, totalmem } from 'node:os'
import Database from 'better-sqlite3'
import { packages } from './contenders.mjs'

const firstLine = (text) => text.trim().split('\n')[0]

function version(tool, ...args) {
  const ran = spawnSync(tool, args, { encoding: 'utf8' })
  if (ran.error?.code === 'ENOENT') return undefined
  if (ran.error) throw ran.error
  return firstLine(ran.stdout || ran.stderr)
}

/** The version of each tool that not every machine has; without one where it is not there. */
export function findTools() {
  return Object.fromEntries(Object.keys(packages).map((tool) => [tool, version(tool, ...(['restic', 'litestream'].includes(tool) ? ['version'] : ['--version']))]))
}

function betterSqlite() {
  const db = new Database(':memory:')
  const sqlite = db.prepare('SELECT sqlite_version()').pluck().get()
  db.close()
  return `${createRequire(import.meta.url)('better-sqlite3/package.json').version} (SQLite ${sqlite})`
}

export function describeMachine(folder, tools) {
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memory: `${Math.round(totalmem() / 2 ** 30)} GB`,
    kernel: release(),
    'file system': execFileSync('df', ['--output=fstype', folder], { encoding: 'utf8' }).trim().split('\n').at(-1),
    'load before': loadavg()[0].toFixed(2),
    node: process.versions.node,
    'better-sqlite3': betterSqlite(),
    tar: version('tar', '--version'),
    gzip: version('gzip', '--version'),
    coreutils: version('cp', '--version'),
    ...Object.fromEntries(Object.entries(tools).map(([tool, found]) => [tool, found ?? `not there: ${packages[tool]}`])),
  }
}
