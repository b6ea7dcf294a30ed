// `npm run supply-chain`: licences, duplicates and sources of every crate, then known advisories of crates and of npm
// packages. The first three need no network; what can't be asked is said, and is not called clean.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const call = (command, args) => spawnSync(command, args, { cwd: root, encoding: 'utf8', shell: process.platform === 'win32' })

if (call('cargo', ['deny', '--version']).status !== 0) {
  process.stderr.write('cargo-deny is not there: cargo install cargo-deny --locked\n')
  process.exit(2)
}

let failed = false
const say = (what, verdict, detail = '') => {
  process.stdout.write(`${what}: ${verdict}\n`)
  if (verdict !== 'ok') process.stderr.write(`${detail.trim()}\n`)
  if (verdict === 'FAILED') failed = true
}

const locked = call('cargo', ['deny', '--offline', '--log-level', 'error', 'check', 'bans', 'licenses', 'sources'])
say('crates: licences, duplicates, sources', locked.status === 0 ? 'ok' : 'FAILED', locked.stderr + locked.stdout)

const advisories = call('cargo', ['deny', '--log-level', 'error', 'check', 'advisories'])
const unreachable = /failed to fetch advisory database/.test(advisories.stderr)
say('crates: advisories', advisories.status === 0 ? 'ok' : unreachable ? 'NOT CHECKED' : 'FAILED', advisories.stderr + advisories.stdout)

// Nothing of npm is part of the published package; the development tools are looked at all the same.
const audit = call('npm', ['audit', '--json'])
const report = JSON.parse(audit.stdout || '{}')
const answered = report.metadata?.vulnerabilities !== undefined
say('npm packages: advisories', !answered ? 'NOT CHECKED' : audit.status === 0 ? 'ok' : 'FAILED', answered ? audit.stdout : audit.stderr)

process.exit(failed ? 1 : 0)
