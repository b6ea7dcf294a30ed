// Runs commands, alone or measured: wall time, processor time, peak memory, bytes written, of the command and its children.
import { spawn } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'

const meter = fileURLToPath(new URL('run.py', import.meta.url))
const running = new Set()

/** Nothing of the caller's that would change what is measured. */
function environment(more = {}) {
  const env = { ...process.env, LC_ALL: 'C', ...more }
  for (const name of ['AQE_PROJECT_ROOT', 'GITHUB_ENV', 'GITHUB_OUTPUT', 'NODE_OPTIONS', 'NODE_TEST_CONTEXT', 'GZIP', 'TAR_OPTIONS']) delete env[name]
  return env
}

/** Starts a command in a process group of its own, so that all of it can be ended. */
export function start(file, args, options = {}) {
  const { env, ...rest } = options
  const child = spawn(file, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'], ...rest, env: environment(env) })
  running.add(child)
  child.once('close', () => running.delete(child))
  return child
}

export function killGroup(child) {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

/** Ends whatever still runs. */
export function killAll() {
  for (const child of running) killGroup(child)
}

/** What a child says until it ends. */
export function ended(child) {
  return new Promise((resolve, reject) => {
    const said = child.stdio.map(() => [])
    child.stdio.forEach((stream, i) => stream?.on('data', (data) => said[i].push(data)))
    child.once('error', reject)
    child.once('close', (status, signal) => resolve({ status, signal, said: said.map((parts) => Buffer.concat(parts).toString()) }))
  })
}

function failure(file, args, { status, signal, said }) {
  const why = (said[2] || said[1]).trim().slice(0, 2000) || `ended with ${status ?? signal}`
  return Object.assign(new Error(`${file} ${args.join(' ').replaceAll('\n', '; ')} ended with ${status ?? signal}: ${why}`), { why })
}

/** Runs a command that has to succeed; what it prints. */
export async function run(file, args, options) {
  const end = await ended(start(file, args, options))
  if (end.status !== 0) throw failure(file, args, end)
  return end.said[1]
}

/** Runs `command`, measured. A command that is stopped after `limit` milliseconds is `unfinished`; one that fails throws. */
export async function measured({ file, args, cwd, env, call = false }, limit) {
  const begin = performance.now()
  const child = start('python3', ['-I', meter, file, ...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] })
  let late = false
  const timer = limit && setTimeout(() => {
    late = true
    killGroup(child)
  }, limit)
  const end = await ended(child)
  clearTimeout(timer)
  if (late) return { unfinished: true, wall: performance.now() - begin }
  if (end.status !== 0) throw failure(file, args, end)
  const cost = JSON.parse(end.said[3])
  if (!call) return cost
  const { ms, loop, ...more } = JSON.parse(end.said[1].trim().split('\n').at(-1))
  return { ...cost, process: cost.wall, wall: ms, loop, ...more }
}

/** Lets everything that earlier runs wrote reach the disk, so that it isn't charged to the next one. */
export const settle = (folder) => run('sync', ['-f', folder])

/** Median, least and most. */
export function spread(values) {
  const sorted = values.filter((v) => v !== undefined).sort((a, b) => a - b)
  if (sorted.length === 0) return undefined
  const middle = sorted.length >> 1
  const median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  return { median, min: sorted[0], max: sorted.at(-1) }
}

/** The smallest value that `share` of all values don't exceed. */
export function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
}
