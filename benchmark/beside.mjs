// What a backup does to an application that commits every millisecond, and the application to the backup.
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { measured, quantile, settle, start } from './measure.mjs'

const program = fileURLToPath(new URL('writer.mjs', import.meta.url))
/** Commits are counted during at least so many milliseconds a round; a backup that takes longer than the limit is stopped. */
const [least, limit] = [1000, 60_000]

/** Starts a writer; `during(fn)` gives what `fn` resolves with and the microseconds of each commit meanwhile. */
export async function startWriter(file) {
  const child = start(process.execPath, [program, file], { stdio: ['pipe', 'pipe', 'inherit'] })
  const closed = new Promise((resolve) => child.once('close', resolve))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = async () => {
    const { value, done } = await lines.next()
    if (done) throw new Error('the writer has ended; see above')
    return value
  }
  await line()
  return {
    async during(fn) {
      child.stdin.write('mark\n')
      const value = await fn()
      child.stdin.write('stop\n')
      return { value, commits: JSON.parse(await line()) }
    },
    async end() {
      child.stdin.end()
      await closed
    },
  }
}

/** One round of one contender, as often as fits into the least time; without one, of nothing. */
export async function besideWriter(place, writer, contender) {
  const [costs, commits] = [[], []]
  for (let spent = 0; spent < least; ) {
    await contender?.prepare(place)
    await settle(place.folder)
    const begin = performance.now()
    const seen = await writer.during(() => (contender ? measured(contender.command(place), limit) : sleep(least, { wall: least })))
    spent += performance.now() - begin
    costs.push(seen.value)
    commits.push(...seen.commits)
    if (seen.value.unfinished) break
    contender?.result(place)
  }
  return { costs, commits }
}

/** The figures of a writer, in milliseconds. */
export function latency(commits) {
  const at = (share) => quantile(commits, share) / 1000
  return { commits: commits.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}
