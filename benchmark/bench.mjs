// `npm run bench`: measures this package beside what people use today. `--help` says how.
import { mkdtempSync, realpathSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { commit } from '../tools/results.mjs'
import { keep } from './keep.mjs'
import { describeMachine, findTools } from './machine.mjs'
import { killAll, measured, spread } from './measure.mjs'
import { help, options } from './options.mjs'
import { Place } from './place.mjs'
import { report } from './report.mjs'
import { runTask } from './rounds.mjs'
import { bare } from './small.mjs'
import { tasks } from './tasks.mjs'

const say = (text) => process.stderr.write(`${text}\n`)

function stop(status, text) {
  process.stderr.write(`bench: ${text}\n`)
  process.exit(status)
}

/** A folder that is gone at the end, also after Ctrl-C. */
function workFolder(dir) {
  const folder = realpathSync(mkdtempSync(join(dir, 'aqe-backup-bench-')))
  process.on('exit', () => {
    killAll()
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130))
  return folder
}

function checkSpace({ dir, sizes, tasks: wanted }) {
  const { bavail, bsize } = statfsSync(dir)
  const need = tasks.some(({ name, sized }) => sized && wanted.has(name)) ? Math.max(...sizes) * 14 : 100
  if ((bavail * bsize) / 2 ** 20 < need) stop(13, `${dir} has not enough free space: ${need} MB are needed; free some, or name another folder with --dir`)
}

/** Memory of a Node that does nothing, measured as everything else is. */
async function bareNode(rounds) {
  const costs = []
  for (let n = 0; n < rounds; n++) costs.push(await measured(bare))
  return { rss: spread(costs.map(({ rss }) => rss)).median, loop: spread(costs.map(({ loop }) => loop)).median }
}

async function runAll(asked, folder) {
  const tools = findTools()
  const context = { tools, only: asked.only, rounds: asked.rounds, say }
  const machine = describeMachine(folder, tools)
  const common = { commit: commit(), date: new Date().toISOString().slice(0, 10), bare: await bareNode(asked.rounds) }
  const cells = []
  const add = async (task, place) => {
    const { name, title, sets } = task
    const { size, journal } = task.sized ? place : {}
    cells.push({ task: name, title, size, journal, sets, ...common, ...(await runTask(task, place, context)) })
  }
  const chosen = tasks.filter(({ name }) => asked.tasks.has(name))
  for (const size of chosen.some(({ sized }) => sized) ? asked.sizes : []) {
    for (const journal of asked.journals) {
      const place = new Place(join(folder, `${size}-${journal}`), size, journal)
      say(`Making a database of ${size} MB`)
      await place.make('base')
      for (const task of chosen.filter(({ sized }) => sized)) {
        if (task.variant) await place.make(task.variant)
        await add(task, place)
      }
      rmSync(place.folder, { recursive: true })
    }
  }
  for (const task of chosen.filter(({ sized }) => !sized)) await add(task, new Place(join(folder, 'small')))
  return { machine, cells }
}

/** Contenders that failed. That another one than ours can't bear a writer is a figure, no failure of the benchmark. */
function failures({ task, title, contenders }) {
  const those = contenders.filter(({ failed, id }) => failed && (task !== 'writer' || ['idle', 'api', 'archive'].includes(id)))
  return those.map(({ name }) => `${title}: ${name}`)
}

async function main() {
  const asked = options(process.argv.slice(2))
  if (asked.usage) stop(2, asked.usage)
  if (asked.help) return void process.stdout.write(help)
  if (process.platform !== 'linux') stop(2, 'the tools that this is measured beside are set up for Linux only')
  checkSpace(asked)
  const results = await runAll(asked, workFolder(asked.dir))
  process.stdout.write(`${report(results)}\n`)
  if (asked.json) writeFileSync(asked.json, `${JSON.stringify(results)}\n`)
  if (asked.write) keep(results, asked.into)
  const failed = results.cells.flatMap(failures)
  if (failed.length > 0) stop(1, `failed: ${failed.join('; ')}`)
}

await main()
