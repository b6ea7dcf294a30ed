// Runs the tests that go through Node: the files of __test__ and __test__/faults named on the command line, or all of them.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const folders = ['__test__', join('__test__', 'faults')]
const all = folders.flatMap((folder) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => join(folder, name)),
)

const args = process.argv.slice(2)
const options = args.filter((arg) => arg.startsWith('-'))
const names = args.filter((arg) => !arg.startsWith('-')).map((arg) => basename(arg))
const unknown = names.filter((name) => !all.some((file) => basename(file) === name))
if (unknown.length > 0) {
  process.stderr.write(`no such test: ${unknown.join(', ')}\nthere are: ${all.map((file) => basename(file)).join(', ')}\n`)
  process.exit(2)
}

const files = names.length > 0 ? all.filter((file) => names.includes(basename(file))) : all

// Two files at a time: they run real backups, and more would wait for the disk and for each other.
const command = ['--import', 'tsx', '--test', '--test-concurrency=2', ...options, ...files]
const result = spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit' })
process.exit(result.status ?? 1)
