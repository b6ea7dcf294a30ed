// Runs one task: every contender once, then every contender again, so that whatever else the machine does meets all of them alike.
import { besideWriter, latency, startWriter } from './beside.mjs'
import { packages } from './contenders.mjs'
import { measured, settle, spread } from './measure.mjs'

const round = (n) => (n === undefined ? undefined : Math.round(n * 1000) / 1000)
const figures = ['wall', 'process', 'cpu', 'rss', 'written', 'loop', 'result', 'pages']

/** Why a contender takes no part, or nothing. */
function absent(contender, place, { tools, only }) {
  const lacking = contender.needs.filter((tool) => !tools[tool])
  if (lacking.length > 0) return { missing: lacking.map((tool) => `${tool} is not there: ${packages[tool]}`).join('; ') }
  if (contender.journal && contender.journal !== place.journal) return { leftOut: `only for journal mode ${contender.journal}` }
  if (only && !only.includes(contender.id)) return { leftOut: 'not among --contenders' }
  return undefined
}

function summary({ contender, costs, commits, ...rest }) {
  const { id, name } = contender
  const done = costs.filter((cost) => !cost.unfinished)
  const spreads = figures.flatMap((figure) => {
    const { median, min, max } = spread(done.map((cost) => cost[figure])) ?? {}
    return median === undefined ? [] : [[figure, { median: round(median), min: round(min), max: round(max) }]]
  })
  const unfinished = costs.find((cost) => cost.unfinished)
  return {
    id, name, ...rest, ...Object.fromEntries(spreads),
    ...(done.length > 0 && { walls: done.map((cost) => round(cost.wall)) }),
    ...(unfinished && { unfinished: round(unfinished.wall) }),
    ...(commits.length > 0 && { writer: latency(commits) }),
  }
}

async function once(entry, place, writer) {
  const { contender } = entry
  if (writer) {
    const { costs, commits } = await besideWriter(place, writer, contender.idle ? undefined : contender)
    entry.costs.push(...costs)
    entry.commits.push(...commits)
    return
  }
  await contender.prepare(place)
  await settle(place.folder)
  const cost = await measured(contender.command(place))
  entry.costs.push({ ...cost, result: contender.result(place) })
}

/** Does `step` for each contender that still takes part; one that fails is out, and says why. */
async function each(entries, say, step) {
  for (const entry of entries) {
    const out = entry.missing ?? entry.leftOut ?? entry.failed ?? (entry.costs.some((cost) => cost.unfinished) ? 'unfinished' : undefined)
    if (out !== undefined) continue
    try {
      await step(entry)
    } catch (error) {
      entry.failed = error.why ?? error.message
      say(`${entry.contender.name} FAILED: ${error.message}`)
    }
  }
}

/** The figures of every contender of `task`. `context`: `tools`, `only`, `rounds`, `say`. */
export async function runTask(task, place, context) {
  const { rounds, say } = context
  await task.setup(place)
  const idle = task.writer ? [{ id: 'idle', name: 'no backup', needs: [], idle: true }] : []
  const entries = [...idle, ...task.contenders].map((contender) => ({ contender, costs: [], commits: [], ...(contender.idle ? {} : absent(contender, place, context)) }))
  await each(entries, say, ({ contender }) => contender.setup?.(place))
  if (task.sized) await place.warm(place.live)
  const writer = task.writer && (await startWriter(place.live))
  const count = task.rounds ? Math.max(rounds, task.rounds) : rounds
  for (let n = 1; n <= count; n++) {
    say(`${task.title}${place.size ? `, ${place.size} MB ${place.journal === 'wal' ? 'WAL' : 'rollback'}` : ''}: round ${n} of ${count}`)
    await each(entries, say, (entry) => once(entry, place, writer))
  }
  await writer?.end()
  place.clear()
  return { rounds: count, contenders: entries.map(summary) }
}
