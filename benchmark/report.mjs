// Puts the figures into tables, for the terminal and for benchmark/README.md.
import { judge } from './targets.mjs'

const legend = `Time: of the call, in a Node that runs already, for functions; of the whole process for commands. Median of the rounds, least and
most in brackets. × ours: the time beside the first line's. CPU: user and system, of the process and its children, Node's start
included. Memory: the largest process's peak, Node's own included; what takes the meter (13 MB) or less shows as that. Written:
bytes handed to the file system. Loop: p99 of the event loop's delay, a timer's own millisecond included; of a call that takes less
than 100 ms, the longest. The page cache is warm, and everything earlier is on disk before each run; what create and verify read back,\nthey read from the disk all the same.

- † the floor, and no valid way: \`cp\` of a database in use misses what is in its \`-wal\` or tears, and \`cp\` over one damages it.
- ‡ leaves the database in another folder; putting it under a running application is not included.
- ¶ verifies nothing.`

/** A table whose columns line up as text too. */
export function table(head, rows) {
  const widths = head.map((title, i) => Math.max(...[head, ...rows].map((row) => [...row[i]].length), title.length))
  const line = (row) => `| ${row.map((field, i) => field + ' '.repeat(widths[i] - [...field].length)).join(' | ')} |`
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join('\n')
}

const time = (ms) => (ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(ms < 10 ? 2 : 0)} ms`)
const size = (n) => `${(n / 2 ** 20).toFixed(n < 2 ** 20 ? 3 : 1)} MB`
const median = (figure, show) => (figure ? show(figure.median) : '')

/** Why a contender has no figures. */
function gap({ missing, leftOut, failed, unfinished }) {
  if (missing) return missing
  if (leftOut) return `left out: ${leftOut}`
  if (failed) return `FAILED: ${failed.replaceAll('\n', ' ').replaceAll('|', '/').slice(0, 300)}`
  return unfinished ? `stopped after ${time(unfinished)}` : 'no figures'
}

function row(one, ours) {
  const { wall } = one
  if (!wall || one.failed) return [one.name, gap(one), '', '', '', '', '', '']
  const ratio = ours ? `${(wall.median / ours).toFixed(2)}` : ''
  return [one.name, `${time(wall.median)} (${time(wall.min)} – ${time(wall.max)})`, ratio, median(one.cpu, time), median(one.rss, size), median(one.written, size), median(one.result, size), median(one.loop, time)]
}

function writerRow(one, idle) {
  const { writer } = one
  if (!writer || one.failed) return [one.name, gap(one), '', '', '', '', '']
  const took = one.id === 'idle' ? '' : one.wall ? time(one.wall.median) : gap(one)
  return [one.name, took, String(writer.commits), time(writer.p50), time(writer.p99), time(writer.max), idle ? `${(writer.p99 / idle.p99).toFixed(2)}` : '']
}

const heading = ({ title, size, journal, rounds, commit, date }) => `### ${title}${size ? `: ${size} MB, ${journal === 'wal' ? 'WAL' : 'rollback journal'}` : ''}\n\n${rounds === 1 ? 'one round' : `${rounds} rounds`}, commit ${commit}, ${date}.`

function cellTable(cell) {
  const of = (id) => cell.contenders.find((one) => one.id === id)
  if (of('idle')) {
    const head = ['while', 'backup took', 'commits', 'p50', 'p99', 'max', "× idle's p99"]
    return table(head, cell.contenders.map((one) => writerRow(one, of('idle').writer)))
  }
  const head = ['', 'time', '× ours', 'CPU', 'memory', 'written', 'result', 'loop']
  return table(head, cell.contenders.map((one) => row(one, of('api')?.wall?.median)))
}

/** What of ours grows with size and with the number of sets, and how fast: 1 is linear. */
export function growthTable(cells) {
  const lines = new Map()
  for (const cell of cells) {
    const ours = cell.contenders.find(({ id }) => id === 'api')
    const n = cell.size ?? (cell.task.startsWith('growth-') ? cell.sets : undefined)
    if (!n || !ours?.wall || cell.contenders.some(({ id }) => id === 'idle')) continue
    const key = cell.size ? `${cell.task}, ${cell.journal}` : `${cell.task.replace('growth-', '')} among sets`
    lines.set(key, [...(lines.get(key) ?? []), { n, unit: cell.size ? 'MB' : 'sets', ms: ours.wall.median, memory: ours.rss.median - cell.bare.rss }])
  }
  const rows = [...lines].flatMap(([key, points]) => {
    const sorted = points.toSorted((a, b) => a.n - b.n)
    if (sorted.length < 2) return []
    return sorted.map((point, i) => {
      const before = sorted[i - 1]
      // Of what takes a few milliseconds, it would be that of the noise.
      const exponent = before && before.ms >= 20 ? Math.log(point.ms / before.ms) / Math.log(point.n / before.n) : undefined
      return [key, `${point.n.toLocaleString('en-US')} ${point.unit}`, time(point.ms), size(point.memory), exponent === undefined ? '' : `${exponent.toFixed(2)}${exponent > 1.15 ? ' MORE THAN LINEAR' : ''}`]
    })
  })
  return rows.length > 0 ? table(['ours', 'n', 'time', 'memory above a bare Node', 'time grows as n to the'], rows) : undefined
}

function targetTable(cells, machine) {
  const rows = judge(cells).map(({ name, wanted, measured, verdict }) => [name, wanted, measured, verdict])
  return `They are for two cores and 600 MB in WAL mode; this machine has ${machine.cores}.\n\n${table(['target', 'wanted', 'measured', ''], rows)}`
}

/** All of it; `plot` is the plot's file name, if there is one. */
export function report({ machine, cells }, plot) {
  const growth = growthTable(cells)
  return [
    '## Targets', targetTable(cells, machine),
    ...(plot ? ['## Time against size', `![time against size](${plot})`] : []),
    '## Figures', legend,
    ...cells.filter((cell) => !cell.task.startsWith('growth-')).flatMap((cell) => [heading(cell), cellTable(cell)]),
    ...(growth ? ['## How it grows', growth] : []),
    '## Machine', table(['', ''], Object.entries(machine).map(([what, value]) => [what, String(value)])),
  ].join('\n\n')
}
