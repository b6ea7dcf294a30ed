// The folder of one size and journal mode: the databases that are backed up, the project that is ours, and the place for what the contenders make.
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run, settle } from './measure.mjs'

const at = (name) => fileURLToPath(new URL(name, import.meta.url))
export const command = at('../bin/aqe-backup.js')
export const jobs = at('jobs.cjs')
const data = at('data.mjs')

/** Bytes of a file or of everything in a folder. */
export function bytes(path) {
  const stat = statSync(path)
  return stat.isDirectory() ? readdirSync(path).reduce((sum, name) => sum + bytes(join(path, name)), 0) : stat.size
}

export class Place {
  /** @param folder is made */
  constructor(folder, size, journal) {
    Object.assign(this, { folder, size, journal })
    this.project = join(folder, 'project')
    this.live = join(this.project, 'agentdb.db')
    this.backups = join(this.project, '.agentic-qe', 'backups')
    this.out = join(folder, 'out')
    /** What the contenders of a task share and only read. */
    this.kept = join(folder, 'kept')
    for (const made of [this.project, this.out, this.kept]) mkdirSync(made, { recursive: true })
  }

  variant(name) {
    return join(this.folder, `${name}.db`)
  }

  /** Makes a variant of the database, unless it is there: `base`, `changed` (0.1 % of its rows) or `other` (all of it). */
  async make(name) {
    const file = this.variant(name)
    if (existsSync(file)) return file
    if (name === 'changed') await run(process.execPath, [data, 'change', await this.make('base'), file])
    else await run(process.execPath, [data, 'make', file, String(this.size), this.journal, name === 'base' ? '7' : '8'])
    return file
  }

  /** Puts a variant where the application has its database. */
  async putLive(name) {
    const file = await this.make(name)
    for (const suffix of ['-wal', '-shm', '-journal']) rmSync(this.live + suffix, { force: true })
    cpSync(file, this.live)
  }

  clearOut() {
    rmSync(this.out, { recursive: true, force: true })
    mkdirSync(this.out)
  }

  /** Leaves nothing but the variants of the database. */
  clear() {
    this.clearOut()
    this.clearBackups()
    rmSync(this.kept, { recursive: true, force: true })
    mkdirSync(this.kept)
  }

  clearBackups() {
    rmSync(this.backups, { recursive: true, force: true })
  }

  /** A set of ours of `base`; its timestamp. */
  async ownSet(compress) {
    this.clearBackups()
    await this.putLive('base')
    const made = await run(process.execPath, [command, 'create', '--json', '--root', this.project, compress ? '--compress' : '--no-compress'])
    return JSON.parse(made).timestamp
  }

  /** Removes all sets but one; of that one all but the archive, if so. */
  keepOnly(timestamp, archiveOnly = false) {
    for (const name of readdirSync(this.backups)) {
      const kept = archiveOnly ? name.startsWith(`databases-backup-${timestamp}`) : name.includes(timestamp)
      if (!kept && name !== '.lock' && name !== '.gitignore') rmSync(join(this.backups, name), { recursive: true })
    }
  }

  /** Reads a file, so that it is in the page cache, and has everything written to disk. */
  async warm(file) {
    await run('sh', ['-c', 'cat -- "$1" >/dev/null', 'sh', file])
    await settle(this.folder)
  }
}
