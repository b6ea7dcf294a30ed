// Who puts a backup back, and who checks one.
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { job, made, ours, restic, secret, shell } from './contenders.mjs'
import { stateOf } from './data.mjs'
import { run } from './measure.mjs'

/** A contender that starts from a live database in the state `from`, and puts `base` back: to `landed`. */
function restorer(from, id, name, needs, command, more = {}) {
  const landed = more.landed ?? ((p) => p.live)
  return {
    id, name, needs, command,
    prepare: async (p) => {
      p.clearOut()
      p.keepOnly(p.timestamp, p.archiveOnly)
      await p.putLive(from)
    },
    result: (p) => {
      if (stateOf(landed(p)) !== 'seed 7') throw new Error(`${landed(p)} is not the database that was backed up`)
      return made(landed(p))
    },
    ...more,
  }
}

/** In `out`, with the backup as $1, the live database as $2, what was set up as $3. */
const inOut = (script, env) => (p) => ({ ...shell(`cd -- "$4"\n${script}`, p.variant('base'), p.live, p.kept, p.out), env })
const own = (p) => job('restore', p.project, p.timestamp)

async function setUpRestic(p) {
  await run('sh', ['-ec', `${restic('repository')} init; cp -- "$1" restored.db; ${restic('repository')} backup restored.db; rm restored.db`, 'sh', p.variant('base')], { cwd: p.kept, env: secret })
}

async function setUpLitestream(p) {
  cpSync(p.variant('base'), join(p.out, 'restored.db'))
  await run('litestream', ['replicate', '-once', '-log-level', 'error', join(p.out, 'restored.db'), `file://${p.kept}/replica`])
}

const others = (from) => [
  restorer(from, 'restic', 'restic restore ‡', ['restic'], inOut(`${restic('"$3/repository"')} restore latest --target .`, secret), {
    setup: setUpRestic,
    landed: (p) => join(p.out, 'restored.db'),
  }),
  restorer(from, 'litestream', 'litestream restore ‡', ['litestream'], inOut('litestream restore -o restored.db "file://$3/replica" >/dev/null'), {
    journal: 'wal',
    setup: setUpLitestream,
    landed: (p) => join(p.out, 'restored.db'),
  }),
]

/** From the copy of a database. */
export const restore = (from) => [
  restorer(from, 'api', 'restoreBackup', [], own),
  restorer(from, 'command', 'aqe-backup restore --force', [], (p) => ours('restore', '--force', '--root', p.project, p.timestamp)),
  restorer(from, 'cp', 'cp + fsync †', [], inOut('cp -- "$1" "$2"\nsync -- "$2"')),
  restorer(from, 'sqlite3', 'sqlite3 .restore', ['sqlite3'], inOut(`ln -s -- "$1" copy.db\nsqlite3 "$2" ".restore copy.db"`)),
  ...others(from),
]

/** From nothing but an archive. */
export const fromArchive = [
  restorer('changed', 'api', 'restoreBackup', [], own),
  restorer('changed', 'tar', 'tar -xzf + sha256sum -c + cp + fsync †', [], inOut('tar -xzf "$3/copy.tar.gz"\nsha256sum --quiet -c copy.db.sha256\ncp -- copy.db "$2"\nsync -- "$2"')),
  restorer('changed', 'unpack', 'tar -xzf alone ‡', [], inOut('tar -xzf "$3/copy.tar.gz"'), { landed: (p) => join(p.out, 'copy.db') }),
]

/** What tar unpacks. */
export async function setUpArchive(p) {
  const script = 'cp -- "$1" copy.db; sha256sum copy.db >copy.db.sha256; tar -czf copy.tar.gz copy.db copy.db.sha256; rm copy.db copy.db.sha256'
  await run('sh', ['-ec', script, 'sh', p.variant('base')], { cwd: p.kept })
}

/** What sha256sum checks. */
export async function setUpCopy(p) {
  await run('sh', ['-ec', 'cp -- "$1" copy.db; sha256sum copy.db >copy.db.sha256', 'sh', p.variant('base')], { cwd: p.kept })
}

const checker = (id, name, needs, command) => ({ id, name, needs, command, prepare: () => undefined, result: (p) => made(p.variant('base')) })

/** What nobody who checks a copy can do without, each by itself. */
export const parts = [
  checker('hash', 'SHA-256 of the database, once: node:crypto', [], (p) => job('hash', p.variant('base'))),
  checker('check', 'quick_check of it, once: better-sqlite3', [], (p) => job('check', p.variant('base'))),
  { ...checker('cp', 'cp + fsync of it †', [], (p) => ({ ...shell('cp -- "$1" copy.db\nsync copy.db', p.variant('base')), cwd: p.out })), prepare: (p) => p.clearOut() },
]

export const verify = [
  checker('api', 'verifyBackup', [], (p) => job('verify', p.project, p.timestamp)),
  checker('command', 'aqe-backup verify', [], (p) => ours('verify', '--root', p.project, p.timestamp)),
  checker('sha256sum', 'sha256sum -c + sqlite3 quick_check', ['sqlite3'], (p) => ({ ...shell(`sha256sum --quiet -c copy.db.sha256\ntest "$(sqlite3 copy.db 'PRAGMA quick_check')" = ok`), cwd: p.kept })),
]
