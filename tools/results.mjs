// What the proofs in full, fuzzing and the memory checks found, kept in target/faults, one line of JSON a run. Run as a
// program (`npm run reliability`) it writes the table of docs/reliability.md from them.
import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
/** Where they are. */
export const results = join(root, 'target', 'faults')
const page = join(root, 'docs', 'reliability.md')
const [begin, end] = ['<!-- table: written by npm run reliability -->', '<!-- end of table -->']

/** The commit that is tried, marked where the checkout has been changed since. */
export function commit() {
  const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()
  return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') ? '+' : '')
}

/** Keeps the outcome of a run that found nothing. */
export function note(name, seed, counts) {
  mkdirSync(results, { recursive: true })
  const run = { name, shard: '1/1', seed, commit: commit(), node: process.versions.node, counts }
  appendFileSync(join(results, `${name}.jsonl`), `${JSON.stringify(run)}\n`)
}

function runs() {
  const files = existsSync(results) ? readdirSync(results).filter((name) => name.endsWith('.jsonl')) : []
  return files.flatMap((file) => readFileSync(join(results, file), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)))
}

/** Takes out what an earlier run of the same part of a proof has left, so that nothing counts twice. */
export function forget(name, shard, seed) {
  const file = join(results, `${name}.jsonl`)
  if (!existsSync(file)) return
  const others = readFileSync(file, 'utf8').split('\n').filter(Boolean).filter((line) => {
    const run = JSON.parse(line)
    return run.shard !== shard || run.seed !== seed
  })
  writeFileSync(file, others.map((line) => `${line}\n`).join(''))
}

/** One row for each proof, or named part of one (`what`), commit, seed and way of sharding: all its numbers added up. */
function rows() {
  const rows = new Map()
  for (const run of runs()) {
    const [index, of] = run.shard.split('/').map(Number)
    const { what, ...counts } = run.counts
    const name = what ? `${run.name}: ${what}` : run.name
    const key = JSON.stringify([name, run.commit, run.seed, of])
    const row = rows.get(key) ?? { ...run, name, of, shards: new Set(), sum: {} }
    row.shards.add(index)
    for (const [figure, n] of Object.entries(counts)) if (typeof n === 'number') row.sum[figure] = (row.sum[figure] ?? 0) + n
    rows.set(key, row)
  }
  return [...rows.values()].sort((a, b) => a.name.localeCompare(b.name) || b.shards.size / b.of - a.shards.size / a.of)
}

function total(sum) {
  return Object.entries(sum).map(([figure, n]) => `${n.toLocaleString('en-US')} ${figure}`).join(', ')
}

function table() {
  const lines = rows().map((row) => {
    const part = row.of === 1 ? 'all' : row.shards.size === row.of ? `all, in ${row.of} shards` : `${row.shards.size} of ${row.of} shards`
    return `| ${row.name} | ${part} | ${total(row.sum)} | ${row.seed} | ${row.commit} | ${row.node} |`
  })
  return ['| proof | how much of it | what was tried, and what was seen | seed | commit | Node |', '|---|---|---|---|---|---|', ...lines].join('\n')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = readFileSync(page, 'utf8')
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`${page} has no place for the table (${begin} … ${end})`)
  writeFileSync(page, `${text.slice(0, from + begin.length)}\n\n${table()}\n\n${text.slice(to)}`)
  process.stdout.write(`${rows().length} rows written to docs/reliability.md\n`)
}
