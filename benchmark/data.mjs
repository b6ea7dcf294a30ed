// Makes the databases that are backed up: episodes of an agent with text and a vector of 384 floats, from a seed.
// As a program: `data.mjs make FILE MEGABYTES JOURNAL SEED` and `data.mjs change FROM TO`.
import { copyFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'

const dimensions = 384

/** mulberry32: the same numbers on every machine. */
function generator(seed) {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), a | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A long text whose words are as unevenly frequent as those of a language; a row's text is a piece of it. */
function corpus(random, words = 400_000) {
  const [onsets, vowels, ends] = ['b c d f g h l m n p r s t v w st tr pl ch sh'.split(' '), 'a e i o u ea ou io'.split(' '), ['', '', 'n', 'r', 's', 't', 'l', 'ng', 'ck']]
  const pick = (list) => list[Math.floor(random() * list.length)]
  const vocabulary = Array.from({ length: 6000 }, () => Array.from({ length: 1 + Math.floor(random() * 3) }, () => pick(onsets) + pick(vowels) + pick(ends)).join(''))
  const parts = []
  const starts = [0]
  for (let i = 0, length = 0; i < words; i++) {
    const word = vocabulary[Math.floor(vocabulary.length ** random()) - 1] + (i % 11 === 10 ? '. ' : i % 5 === 4 ? ', ' : ' ')
    parts.push(word)
    starts.push((length += word.length))
  }
  const all = parts.join('')
  return (count) => {
    const from = Math.floor(random() * (words - count))
    return all.slice(starts[from], starts[from + count] - 1)
  }
}

function vectors(random) {
  const floats = new Float32Array(dimensions)
  return () => {
    for (let i = 0; i < dimensions; i += 2) {
      const radius = 0.05 * Math.sqrt(-2 * Math.log(1 - random()))
      const angle = 2 * Math.PI * random()
      floats[i] = radius * Math.cos(angle)
      floats[i + 1] = radius * Math.sin(angle)
    }
    return Buffer.from(floats.buffer.slice(0))
  }
}

function fill(db, bytes, seed) {
  const random = generator(seed)
  const [text, vector] = [corpus(random), vectors(random)]
  const hex = () => Math.floor(random() * 2 ** 32).toString(16).padStart(8, '0')
  const episode = db.prepare('INSERT INTO episodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)')
  const pattern = db.prepare('INSERT INTO patterns VALUES (?, ?, ?, ?, ?, ?)')
  const some = () => text(40 + Math.floor(random() * 360))
  let rows = 0
  const batch = db.transaction(() => {
    for (let end = rows + 50; rows < end; rows++) {
      episode.run(`ep-${String(rows).padStart(9, '0')}-${hex()}${hex()}`, `s-${Math.floor(random() * 5000)}`, text(8), some(), some(), random(), rows & 1, 1_700_000_000 + rows, vector())
      if (rows % 12 === 0) pattern.run(`p${rows}`, 't', 'agent', 'general', text(60), random())
    }
  })
  const pages = bytes / db.pragma('page_size', { simple: true })
  while (db.pragma('page_count', { simple: true }) < pages) batch()
  return rows
}

/** A database of about `megabytes`; the same bytes of rows for the same seed. */
export function make(file, megabytes, journal, seed) {
  const db = new Database(file)
  db.pragma('journal_mode = OFF')
  db.pragma('synchronous = OFF')
  db.exec(`CREATE TABLE state(name TEXT);
    CREATE TABLE episodes(id TEXT PRIMARY KEY, session_id TEXT NOT NULL, task TEXT NOT NULL, input TEXT, output TEXT, reward REAL, success INTEGER, created_at INTEGER, embedding BLOB);
    CREATE TABLE patterns(id TEXT PRIMARY KEY, pattern_type TEXT, agent_id TEXT, domain TEXT, content TEXT, success_rate REAL);
    CREATE INDEX episodes_of_session ON episodes(session_id)`)
  db.prepare('INSERT INTO state VALUES (?)').run(`seed ${seed}`)
  const rows = fill(db, megabytes * 2 ** 20, seed)
  db.pragma(`journal_mode = ${journal}`)
  db.close()
  return rows
}

/** A copy in which every thousandth episode, and at least one, has another vector. */
export function change(from, to) {
  copyFileSync(from, to)
  const vector = vectors(generator(99))
  const db = new Database(to)
  const update = db.prepare('UPDATE episodes SET reward = 1 - reward, embedding = ? WHERE rowid = ?')
  const rows = db.prepare('SELECT max(rowid) FROM episodes').pluck().get()
  db.transaction(() => {
    db.exec("UPDATE state SET name = 'changed'")
    for (let id = 1; id <= rows; id += 1000) update.run(vector(), id)
  })()
  db.close()
}

/** Which of the databases a file is. */
export function stateOf(file) {
  const db = new Database(file, { fileMustExist: true })
  try {
    return db.prepare('SELECT name FROM state').pluck().get()
  } finally {
    db.close()
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [verb, ...args] = process.argv.slice(2)
  if (verb === 'make') make(args[0], Number(args[1]), args[2], Number(args[3]))
  else change(args[0], args[1])
}
