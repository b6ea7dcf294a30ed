// Keeps the figures: in results.json, one contender a line, and from there in README.md and the plot.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { plot } from './plot.mjs'
import { report } from './report.mjs'
import { tasks } from './tasks.mjs'

const [raw, page, picture] = ['results.json', 'README.md', 'time-against-size.svg']
const [begin, end] = ['<!-- figures: written by npm run bench -- --write -->', '<!-- end of figures -->']

const keyOf = ({ task, size, journal, sets }) => [task, size, journal, sets].join(' ')

/** The figures that were kept from this kind of machine, with those of this run in their place. */
function joined({ machine, cells }, file) {
  const before = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
  const same = before && ['processor', 'cores'].every((what) => before.machine[what] === machine[what])
  const kept = same ? before.cells : []
  const fresh = new Set(cells.map(keyOf))
  const order = (cell) => tasks.findIndex(({ name }) => name === cell.task)
  const all = [...kept.filter((cell) => !fresh.has(keyOf(cell))), ...cells]
  all.sort((a, b) => order(a) - order(b) || (a.size ?? a.sets ?? 0) - (b.size ?? b.sets ?? 0) || String(b.journal).localeCompare(String(a.journal)))
  return { machine, cells: all }
}

function text({ machine, cells }) {
  const lines = cells.map(({ contenders, ...cell }) => `${JSON.stringify({ ...cell, contenders: [] }).slice(0, -2)}\n${contenders.map((one) => JSON.stringify(one)).join(',\n')}]}`)
  return `{"machine":${JSON.stringify(machine)},\n"cells":[${lines.join(',\n')}]}\n`
}

/** The page around the figures; begun where there is none. */
function around(file) {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : `${begin}\n${end}\n`
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`${file} has no place for the figures (${begin} … ${end})`)
  return [text.slice(0, from + begin.length), text.slice(to)]
}

export function keep(results, folder) {
  const all = joined(results, join(folder, raw))
  const drawn = plot(all.cells)
  const [above, below] = around(join(folder, page))
  writeFileSync(join(folder, raw), text(all))
  if (drawn) writeFileSync(join(folder, picture), drawn)
  writeFileSync(join(folder, page), `${above}\n\n${report(all, drawn && picture)}\n\n${below}`)
}
