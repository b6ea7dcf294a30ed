// What can be asked for on the command line.
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { grown, names } from './tasks.mjs'

export const help = `npm run bench -- [OPTIONS]

Measures this package beside what people use today: all of them in turn, in one run, on databases that it makes itself.
Build first (npm run build). Linux; python3 has to be there.

  --sizes 20,600      sizes of the databases in MB, whole numbers; 3000 takes about an hour and 45 GB, so it is done only when named
  --rounds 5          how often each is run; small things are run at least 15 times
  --only NAME         one task or several, separated by commas: ${names.filter((name) => !grown.has(name)).join(', ')}
  --journal wal       journal modes: wal, rollback, or wal,rollback
  --contenders IDS    only these, for instance api,cp
  --growth            what many sets cost too: list and create among 10 to 5,000
  --quick             20 MB, 3 rounds, for trying out
  --dir DIR           where the databases are made, and removed at the end; 14 times the largest size has to be free [${tmpdir()}]
  --json FILE         write the figures there as well
  --write             write benchmark/README.md, benchmark/results.json and the plot; tasks that were not run keep their figures
  --into DIR          write them there instead
  --help
`

class Usage extends Error {}

function list(text, name, allowed) {
  const items = text.split(',').map((item) => item.trim()).filter(Boolean)
  const wrong = items.filter((item) => !allowed(item))
  if (items.length === 0 || wrong.length > 0) throw new Usage(`--${name}: ${wrong.join(', ') || 'nothing'} is not possible; see --help`)
  return [...new Set(items)]
}

function number(text, name) {
  if (!whole(text)) throw new Usage(`--${name}: ${text} is not possible; see --help`)
  return Number(text)
}

const whole = (text) => /^[1-9]\d{0,5}$/.test(text)

function parse(args) {
  const text = { type: 'string' }
  const flag = { type: 'boolean', default: false }
  try {
    return parseArgs({ args, options: { sizes: text, rounds: text, only: text, journal: text, contenders: text, dir: text, json: text, into: text, growth: flag, quick: flag, write: flag, help: flag } }).values
  } catch (error) {
    throw new Usage(error.message)
  }
}

/** The options; with `usage`, what is wrong with them. */
export function options(args) {
  try {
    const { sizes, rounds, only, journal = 'wal', contenders, dir, json, into, ...flags } = parse(args)
    const growth = (name) => flags.growth && grown.has(name)
    const asked = only === undefined ? names.filter((name) => !grown.has(name)) : list(only, 'only', (name) => names.includes(name))
    return {
      ...flags, json,
      sizes: list(sizes ?? (flags.quick ? '20' : '20,600'), 'sizes', whole).map(Number).sort((a, b) => a - b),
      rounds: number(rounds ?? (flags.quick ? '3' : '5'), 'rounds'),
      tasks: new Set(names.filter((name) => asked.includes(name) || growth(name))),
      journals: list(journal, 'journal', (mode) => ['wal', 'rollback'].includes(mode)).map((mode) => (mode === 'rollback' ? 'delete' : mode)),
      only: contenders && list(contenders, 'contenders', (id) => /^[a-z0-9]+$/.test(id)),
      dir: resolve(dir ?? tmpdir()),
      into: resolve(into ?? fileURLToPath(new URL('.', import.meta.url))),
    }
  } catch (error) {
    if (error instanceof Usage) return { usage: error.message }
    throw error
  }
}
