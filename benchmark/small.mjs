// The small things: listing, loading, a database of two pages; and what many sets cost.
import { readdirSync } from 'node:fs'
import { archive, create, job, ours } from './contenders.mjs'
import { jobs } from './place.mjs'
import { craft, makeTiny } from './sets.mjs'

const still = { needs: [], prepare: () => undefined, result: () => undefined }
const setUp = (count) => (p) => {
  makeTiny(p.live)
  craft(p.project, count)
}

const lists = (count) => [
  { ...still, id: 'api', name: 'listBackups', command: (p) => job('list', p.project, count) },
  { ...still, id: 'command', name: 'aqe-backup list', command: (p) => ours('list', '--root', p.project) },
]

const loads = [
  { ...still, id: 'api', name: "require('@agentic-qe/backup')", command: () => job('load', 'ours') },
  { ...still, id: 'chain', name: "require('better-sqlite3'), without its native part", command: () => job('load', 'better-sqlite3') },
]

const tiny = [
  { ...archive[0], name: 'createBackup()' },
  { ...create[0], id: 'plain' },
  ...create.filter(({ id }) => ['command', 'cp', 'chain', 'sqlite3'].includes(id)),
]

/** Among `count` sets of which one is removed for the one that is made. */
const amongSets = (count) => [{
  ...still, id: 'api', name: 'createBackup({ compress: false, keepLast })',
  command: (p) => job('create', p.project, JSON.stringify({ compress: false, keepLast: count })),
  result: (p) => {
    const left = readdirSync(p.backups).filter((name) => name.endsWith('.json')).length
    if (left !== count) throw new Error(`${left} sets are left, not ${count}`)
  },
}]

/** Their times are so short that they need more rounds. */
const rounds = 15

export const small = [
  { name: 'list', title: 'List 1,000 sets', sets: 1000, rounds, setup: setUp(1000), contenders: lists(1000) },
  { name: 'require', title: 'Load the package', rounds, setup: () => undefined, contenders: loads },
  { name: 'tiny', title: 'Back up a database of 8 KB', rounds, setup: (p) => makeTiny(p.live), contenders: tiny },
]

export const growth = [10, 100, 1000, 5000].flatMap((sets) => [
  { name: 'growth-list', title: `List ${sets} sets`, sets, setup: setUp(sets), contenders: lists(sets).slice(0, 1) },
  { name: 'growth-create', title: `Make one set and remove one, among ${sets}`, sets, setup: setUp(sets), contenders: amongSets(sets) },
])

/** What Node takes when it does nothing. */
export const bare = { file: process.execPath, args: [jobs, 'nothing'], call: true }
