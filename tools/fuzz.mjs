// `npm run fuzz`: looks for bytes that break a property of fuzz/properties.rs, each target for some time. What it finds is
// put into fuzz/corpus, to be tried again by `cargo test`; what only widens coverage stays in target/fuzz.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { forget, note } from './results.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const all = readdirSync(join(root, 'fuzz', 'targets')).map((name) => name.replace('.rs', ''))
const usage = `usage: npm run fuzz -- [--seconds S] [--seed N] [TARGET…]

  --seconds S  for each target; default: 300
  --seed N     where random choices start; default: 1
  TARGET       ${all.join(', ')}; default: all

Needs cargo-fuzz: cargo install cargo-fuzz --locked
`

function fail(message) {
  process.stderr.write(`${message}\n\n${usage}`)
  process.exit(2)
}

function read() {
  try {
    return parseArgs({ allowPositionals: true, options: { seconds: { type: 'string', default: '300' }, seed: { type: 'string', default: '1' }, help: { type: 'boolean', short: 'h' } } })
  } catch (e) {
    return fail(e.message)
  }
}

const { values, positionals } = read()
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}
const unknown = positionals.filter((name) => !all.includes(name))
if (unknown.length > 0) fail(`no such target: ${unknown.join(', ')}`)
if (!/^[1-9]\d*$/.test(values.seconds)) fail(`--seconds ${values.seconds}: a whole number from 1 on`)
if (spawnSync('cargo', ['fuzz', '--version'], { stdio: 'ignore' }).status !== 0) fail('cargo-fuzz is not there')

// The sanitizer is a nightly flag; the stable compiler takes it when told to.
const env = { ...process.env, RUSTC_BOOTSTRAP: '1' }
let failed = 0
for (const name of positionals.length > 0 ? positionals : all) {
  const found = join(root, 'target', 'fuzz', name)
  mkdirSync(found, { recursive: true })
  // 256 KiB: more than any artefact but a database needs to show its worst.
  const options = [`-max_total_time=${values.seconds}`, `-seed=${values.seed}`, '-max_len=262144', '-timeout=60', '-rss_limit_mb=2048', '-print_final_stats=1']
  const args = ['fuzz', 'run', name, '--target-dir', join(root, 'target', 'fuzz-build'), found, join(root, 'fuzz', 'corpus', name), '--', ...options]
  const run = spawnSync('cargo', args, { cwd: root, env, encoding: 'utf8', stdio: ['ignore', 'inherit', 'pipe'], maxBuffer: 1 << 28 })
  const inputs = Number(/stat::number_of_executed_units:\s+(\d+)/.exec(run.stderr)?.[1] ?? 0)
  if (run.status !== 0 || inputs === 0) {
    failed++
    process.stderr.write(run.stderr.split('\n').slice(-60).join('\n'))
    process.stderr.write(`\n${name}: FAILED; copy the input above (fuzz/artifacts/${name}) into fuzz/corpus/${name} and mend\n`)
    continue
  }
  process.stdout.write(`${name}: ${inputs} inputs in ${values.seconds} s, none breaks it\n`)
  forget(`fuzz-${name}`, '1/1', Number(values.seed))
  note(`fuzz-${name}`, Number(values.seed), { inputs, seconds: Number(values.seconds) })
}
process.exit(failed === 0 ? 0 : 1)
