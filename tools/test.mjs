// Runs the tests that go through Node: the files of __test__ named on the command line, or all of them.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = '__test__'
const isTest = (name) => name.endsWith('.test.ts')
const all = existsSync(join(root, folder)) ? readdirSync(join(root, folder)).filter(isTest).sort() : []

const args = process.argv.slice(2)
const options = args.filter((arg) => arg.startsWith('-'))
const names = args.filter((arg) => !arg.startsWith('-')).map((arg) => basename(arg))
const unknown = names.filter((name) => !all.includes(name))
if (unknown.length > 0) {
  process.stderr.write(`no such test: ${unknown.join(', ')}\nthere are: ${all.join(', ') || 'none'}\n`)
  process.exit(2)
}

const files = (names.length > 0 ? names : all).map((name) => join(folder, name))
if (files.length === 0) {
  process.stderr.write(`no tests in ${folder}\n`)
  process.exit(0)
}

// Two files at a time: they run real backups, and more would wait for the disk and for each other.
const command = ['--import', 'tsx', '--test', '--test-concurrency=2', ...options, ...files]
const result = spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit' })
process.exit(result.status ?? 1)
