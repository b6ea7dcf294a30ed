// An application: commits a row every millisecond until it is told to end, and says how long its commits took.
// `writer.mjs DATABASE`; the lines it reads are `mark` and `stop`; it answers `stop` with the microseconds of each commit since `mark`.
import { performance } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'

const db = new Database(process.argv[2], { fileMustExist: true, timeout: 600_000 })
db.exec('CREATE TABLE IF NOT EXISTS ticks(id INTEGER PRIMARY KEY, at REAL)')
const insert = db.prepare('INSERT INTO ticks(at) VALUES (?)')

let taken
let over = false

function commit() {
  const begin = performance.now()
  insert.run(begin)
  taken?.push(Math.round((performance.now() - begin) * 1000))
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'mark') taken = []
    else {
      process.stdout.write(`${JSON.stringify(taken)}\n`)
      taken = undefined
    }
  })
  .on('close', () => {
    over = true
  })

process.stdout.write('writing\n')
while (!over) {
  commit()
  await sleep(1)
}
db.close()
