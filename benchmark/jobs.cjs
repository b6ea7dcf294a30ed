// What runs in a Node process of its own: `jobs.cjs JOB ARGUMENTS` does one thing and prints, as JSON, how many
// milliseconds the call took and how long the event loop was held up meanwhile. Loading is not part of the call.
'use strict'
const { execFile } = require('node:child_process')
const { createHash } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { monitorEventLoopDelay, performance } = require('node:perf_hooks')
const { pipeline } = require('node:stream/promises')
const { setTimeout: sleep } = require('node:timers/promises')
const { promisify } = require('node:util')

const ours = path.join(__dirname, '..', 'index.js')

async function sha256(file) {
  const hash = createHash('sha256')
  await pipeline(fs.createReadStream(file, { highWaterMark: 1 << 20 }), hash)
  return hash.digest('hex')
}

function good(result) {
  if (result === false || result.success === false) throw new Error(`${result.code}: ${result.error}`)
  return result
}

/** What a Node program writes without us: better-sqlite3's backup, a checksum, tar on demand, and a second look at all of it. */
async function chain(Database, source, folder, archive) {
  const name = `${path.basename(source)}.backup`
  const copy = path.join(folder, name)
  const db = new Database(source, { fileMustExist: true })
  await db.backup(copy)
  db.close()
  const hash = await sha256(copy)
  fs.writeFileSync(`${copy}.sha256`, `${hash}  ${name}\n`)
  if (archive) await promisify(execFile)('tar', ['-czf', 'copy.tar.gz', name, `${name}.sha256`], { cwd: folder })
  if ((await sha256(copy)) !== hash) throw new Error('the copy has changed')
  const check = new Database(copy, { readonly: true })
  const verdict = check.pragma('quick_check', { simple: true })
  check.close()
  if (verdict !== 'ok') throw new Error(verdict)
}

/** Each gives the call that is measured; what it resolves with is added to the figures. */
const jobs = {
  nothing: () => () => sleep(300),
  create: (project, options) => {
    const { createBackup } = require(ours)
    return async () => void good(await createBackup({ root: project, keepLast: null, ...JSON.parse(options) }))
  },
  restore: (project, timestamp) => {
    const { restoreBackup } = require(ours)
    return async () => {
      const { databases } = good(await restoreBackup(timestamp, { root: project }))
      return { pages: databases.reduce((sum, one) => sum + one.pagesWritten, 0) }
    }
  },
  verify: (project, timestamp) => {
    const { verifyBackup } = require(ours)
    return async () => void good(await verifyBackup(timestamp, { root: project }))
  },
  list: (project, expected) => {
    const { listBackups } = require(ours)
    return async () => {
      const { length } = await listBackups({ root: project })
      if (length !== Number(expected)) throw new Error(`${length} sets listed, not ${expected}`)
    }
  },
  hash: (file) => async () => void await sha256(file),
  check: (file) => {
    const Database = require('better-sqlite3')
    new Database(':memory:').close()
    return async () => {
      const db = new Database(file, { readonly: true })
      const verdict = db.pragma('quick_check', { simple: true })
      db.close()
      if (verdict !== 'ok') throw new Error(verdict)
    }
  },
  load: (name) => async () => void require(name === 'ours' ? ours : name),
  chain: (source, folder, archive) => {
    const Database = require('better-sqlite3')
    new Database(':memory:').close()
    return () => chain(Database, source, folder, archive === 'archive')
  },
}

async function main([name, ...args]) {
  const call = jobs[name](...args)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  await sleep(20)
  delay.enable()
  const begin = performance.now()
  const more = await call()
  const ms = performance.now() - begin
  await sleep(5)
  delay.disable()
  process.stdout.write(`${JSON.stringify({ ms, loop: delay.percentile(99) / 1e6, ...more })}\n`)
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.stack}\n`)
  process.exitCode = 1
})
