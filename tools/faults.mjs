// `npm run test:faults`: the proofs of __test__/faults in full, one after the other; their results go to
// target/faults, from which `npm run reliability` writes the table of docs/reliability.md.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { commit, forget, results } from './results.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = join('__test__', 'faults')
const all = readdirSync(join(root, folder))
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => name.replace('.test.ts', ''))

const usage = `usage: npm run test:faults -- [--shard I/N] [--seconds S] [--seed N] [NAME…]

  --shard I/N    only every N-th point, from the I-th on; default: all
  --seconds S    how long a proof that goes by time runs (live, many-processes); default: their own, an hour and a minute
  --seed N       where random choices start; default: 1
  NAME           ${all.join(', ')}; default: all

The results are kept in target/faults; "npm run reliability" writes them into docs/reliability.md.
`

function read() {
  try {
    return parseArgs({ allowPositionals: true, options: { shard: { type: 'string' }, seconds: { type: 'string' }, seed: { type: 'string' }, help: { type: 'boolean', short: 'h' } } })
  } catch (e) {
    process.stderr.write(`${e.message}\n\n${usage}`)
    process.exit(2)
  }
}

const { values, positionals } = read()
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const unknown = positionals.filter((name) => !all.includes(name))
if (unknown.length > 0) {
  process.stderr.write(`no such proof: ${unknown.join(', ')}\n\n${usage}`)
  process.exit(2)
}

const env = { ...process.env, AQE_FAULTS: 'full', AQE_FAULTS_RESULTS: results, AQE_FAULTS_COMMIT: commit() }
if (values.shard) env.AQE_FAULTS_SHARD = values.shard
if (values.seconds) env.AQE_FAULTS_SECONDS = values.seconds
if (values.seed) env.AQE_FAULTS_SEED = values.seed
let failed = 0
// One at a time: they load the machine by themselves.
for (const name of positionals.length > 0 ? positionals : all) {
  forget(name, values.shard ?? '1/1', Number(values.seed ?? 1))
  const run = spawnSync(process.execPath, ['--import', 'tsx', '--test', join(folder, `${name}.test.ts`)], { cwd: root, stdio: 'inherit', env })
  if (run.status !== 0) failed++
}
process.exit(failed === 0 ? 0 : 1)
