// What was aimed at, and whether it is reached: judged on 600 MB in WAL mode, from figures of one and the same run.
const judged = 600
const mb = 2 ** 20

const times = (n) => `${n.toFixed(2)} ×`
const millis = (n) => `${n.toFixed(1)} ms`

/** The cell of a task to judge by: 600 MB, else the largest there is. */
function cellOf(cells, task) {
  const those = cells.filter((cell) => cell.task === task && (cell.journal ?? 'wal') === 'wal')
  return those.find((cell) => cell.size === judged) ?? those.toSorted((a, b) => b.size - a.size)[0]
}

const find = (cell, id) => cell?.contenders.find((one) => one.id === id)

/** A target on one task: `value` gets its contenders by their ids. */
function on(task, name, limit, atLeast, show, value) {
  return (cells) => {
    const cell = cellOf(cells, task)
    const measured = cell && value((id, figure) => find(cell, id)?.[figure]?.median, cell)
    return { name, limit, atLeast, show, measured: Number.isFinite(measured) ? measured : undefined, size: cell?.size }
  }
}

const faster = (task, than, id, limit) => on(task, `${task}: faster than ${than}`, limit, true, times, (of) => of(id, 'wall') / of('api', 'wall'))
const within = (task, limit) => on(task, `${task}: time of one cp + fsync`, limit, false, times, (of) => of('api', 'wall') / of('cp', 'wall'))
const quick = (task, name, limit) => on(task, name, limit, false, millis, (of) => of('api', 'wall'))

/** The worst of a figure of ours over every task but loading, which blocks by nature, and those of many sets. */
function worst(name, limit, show, value) {
  return (cells) => {
    const those = cells.filter((cell) => (cell.size || ['list', 'tiny'].includes(cell.task)) && find(cell, 'api')).map((cell) => ({ size: cell.size, n: value(find(cell, 'api'), cell) }))
    const measured = those.filter(({ n }) => Number.isFinite(n))
    const size = measured.some((one) => one.size === judged) ? judged : measured.find((one) => one.size)?.size
    return { name, limit, atLeast: false, show, measured: measured.length > 0 ? Math.max(...measured.map(({ n }) => n)) : undefined, size }
  }
}

const all = [
  faster('create', 'the better-sqlite3 chain', 'chain', 2.5),
  within('create', 1.6),
  faster('archive', 'the tar -czf chain', 'tar', 5),
  faster('archive', 'the pigz chain', 'pigz', 2.5),
  on('archive', "archive: size beside gzip -6's", 1.02, false, (n) => `${n.toFixed(3)} ×`, (of) => of('api', 'result') / of('tar', 'result')),
  within('restore-small', 1),
  within('restore-all', 2.5),
  faster('restore-archive', 'tar -xzf alone', 'unpack', 1.5),
  faster('verify', 'sha256sum -c + quick_check', 'sha256sum', 1.5),
  worst('peak memory above a bare Node, any task and size', 64, (n) => `${n.toFixed(1)} MB`, (one, cell) => (one.rss.max - cell.bare.rss) / mb),
  worst('event-loop delay p99, any task and size', 5, millis, (one) => one.loop?.median),
  on('writer', "a writer's p99 commit latency in WAL mode, beside idle", 2, false, times, (_, cell) => {
    const [idle, ...ours] = ['idle', 'api', 'archive'].map((id) => find(cell, id)?.writer?.p99)
    return Math.max(...ours.filter(Number.isFinite)) / idle
  }),
  quick('list', 'list of 1,000 sets', 50),
  quick('require', 'require', 5),
  quick('tiny', 'a backup of an 8 KB database, archive and all', 15),
]

/** Each target with what was wanted, what was measured and the verdict. */
export function judge(cells) {
  return all.map((target) => {
    const { name, limit, atLeast, show, measured, size } = target(cells)
    const met = measured !== undefined && (atLeast ? measured >= limit : measured <= limit)
    const verdict = measured === undefined ? 'not measured' : size && size !== judged ? `not judged: ${size} MB, not ${judged}` : met ? 'met' : 'NOT met'
    return { name, wanted: `${atLeast ? '≥' : '≤'} ${show(limit)}`, measured: measured === undefined ? '—' : show(measured), verdict }
  })
}
