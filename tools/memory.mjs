// `npm run test:memory`: the tests that reach the unsafe code and SQLite's C, watched by valgrind and then by the address
// sanitizer. Linux, x86-64 or arm64; needs valgrind.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { forget, note } from './results.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const tests = ['posix_locks', 'page_writer', 'fuzz_properties']
const selected = tests.flatMap((name) => ['--test', name])
const target = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-unknown-linux-gnu`

function run(command, args, env = {}) {
  const ended = spawnSync(command, args, { cwd: root, env: { ...process.env, ...env }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 28 })
  if (ended.error) throw ended.error
  return ended
}

/** The test programs, built. */
function programs(args, env) {
  const built = run('cargo', ['test', '--locked', '--no-run', '--message-format=json', ...selected, ...args], env)
  if (built.status !== 0) process.exit(built.status ?? 1)
  const messages = built.stdout.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  const found = messages.filter((m) => m.reason === 'compiler-artifact' && m.executable && tests.includes(m.target.name))
  if (found.length !== tests.length) throw new Error(`expected ${tests.join(', ')}, cargo built ${found.map((m) => m.target.name).join(', ')}`)
  return found.map((m) => ({ name: m.target.name, file: m.executable }))
}

/** Runs each program under `command`; how many tests passed. */
function watch(what, all, command, env) {
  let passed = 0
  for (const { name, file } of all) {
    const ended = run(command[0] ?? file, [...command.slice(1), ...(command.length > 0 ? [file] : []), '--test-threads=1'], env)
    const count = Number(/test result: ok\. (\d+) passed/.exec(ended.stdout)?.[1] ?? 0)
    if (ended.status !== 0 || count === 0) {
      process.stderr.write(`${ended.stdout}\n${what}: ${name} FAILED (${ended.status ?? ended.signal})\n`)
      process.exit(1)
    }
    passed += count
  }
  process.stdout.write(`${what}: ${passed} tests, no error\n`)
  forget(`memory-${what.replace(' ', '-')}`, '1/1', 0)
  note(`memory-${what.replace(' ', '-')}`, 0, { tests: passed, errors: 0 })
}

if (process.platform !== 'linux') {
  process.stderr.write('valgrind and the sanitizer are set up for Linux only\n')
  process.exit(2)
}
if (spawnSync('valgrind', ['--version'], { stdio: 'ignore' }).status !== 0) {
  process.stderr.write('valgrind is not there: apt-get install valgrind\n')
  process.exit(2)
}
const valgrind = ['valgrind', '--quiet', '--error-exitcode=99', '--leak-check=full', '--errors-for-leak-kinds=definite', '--show-leak-kinds=definite', '--track-fds=no']
watch('valgrind', programs([]), valgrind)

// A flag of the nightly compiler, which the stable one takes when told to. SQLite's C is instrumented too.
const sanitized = { RUSTC_BOOTSTRAP: '1', RUSTFLAGS: '-Zsanitizer=address', CFLAGS: '-fsanitize=address -fno-omit-frame-pointer', ASAN_OPTIONS: 'detect_leaks=1' }
watch('address sanitizer', programs(['--target', target, '--target-dir', join('target', 'asan')], sanitized), [], sanitized)
