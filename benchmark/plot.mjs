// Draws time against size, both logarithmic, as an SVG that can be read on light and on dark.
const [width, height, left, right, top, bottom] = [480, 320, 56, 150, 34, 40]
const colours = { api: '#e8590c', cp: '#868e96', chain: '#1c7ed6', sqlite3: '#2f9e44', tar: '#2f9e44', pigz: '#0ca678', sha256sum: '#2f9e44', restic: '#9c36b5', litestream: '#d6336c', unpack: '#0ca678', vacuum: '#f08c00' }
const labels = { api: 'ours', cp: 'cp + fsync', chain: 'better-sqlite3', sqlite3: 'sqlite3', tar: 'tar chain', pigz: 'pigz chain', sha256sum: 'sha256sum + check', restic: 'restic', litestream: 'litestream', unpack: 'tar -xzf', vacuum: 'VACUUM INTO' }
const panels = [['create', 'Back up, no archive'], ['archive', 'Back up, with archive'], ['restore-small', 'Restore, 0.1 % changed'], ['restore-all', 'Restore, everything changed'], ['restore-archive', 'Restore from the archive'], ['verify', 'Verify']]

/** The lines of a panel: by contender, seconds for each size. */
function linesOf(cells, task) {
  const lines = new Map()
  for (const cell of cells.filter((one) => one.task === task && one.journal === 'wal').toSorted((a, b) => a.size - b.size)) {
    for (const { id, wall } of cell.contenders) {
      if (wall && colours[id]) lines.set(id, [...(lines.get(id) ?? []), { size: cell.size, seconds: wall.median / 1000 }])
    }
  }
  return [...lines].filter(([, points]) => points.length > 1)
}

function scale(values, from, to) {
  const [low, high] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))]
  return (value) => Math.round((from + ((Math.log10(value) - low) / (high - low || 1)) * (to - from)) * 10) / 10
}

/** One, two and five times the powers of ten between the least and the most. */
function ticks(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)]
  const powers = Array.from({ length: Math.ceil(Math.log10(most / least)) + 2 }, (_, i) => Math.floor(Math.log10(least)) + i)
  return powers.flatMap((power) => [1, 2, 5].map((n) => n * 10 ** power)).filter((tick) => tick >= least && tick <= most)
}

/** Moves labels apart that would lie on each other. */
function spreadOut(places) {
  const sorted = places.toSorted((a, b) => a.y - b.y)
  sorted.forEach((place, i) => {
    if (i > 0) place.y = Math.max(place.y, sorted[i - 1].y + 13)
  })
  return sorted
}

function axes(sizes, seconds, x, y) {
  const across = sizes.map((size) => `<text class="tick" x="${x(size)}" y="${height - bottom + 16}" text-anchor="middle">${size} MB</text>`)
  const up = ticks(seconds).map((tick) => `<path class="grid" d="M${left} ${y(tick)}H${width - right}"/><text class="tick" x="${left - 6}" y="${y(tick) + 4}" text-anchor="end">${tick < 1 ? `${Math.round(tick * 1e6) / 1000} ms` : `${Math.round(tick)} s`}</text>`)
  return [...up, `<path class="axis" d="M${left} ${top}V${height - bottom}H${width - right}"/>`, ...across]
}

function panel([, title], lines) {
  const sizes = [...new Set(lines.flatMap(([, points]) => points.map(({ size }) => size)))].sort((a, b) => a - b)
  const seconds = lines.flatMap(([, points]) => points.map((point) => point.seconds))
  const x = scale(sizes, left + 16, width - right - 16)
  const y = scale(seconds, height - bottom - 10, top + 10)
  const drawn = lines.map(([id, points]) => {
    const d = points.map((point, i) => `${i ? 'L' : 'M'}${x(point.size)} ${y(point.seconds)}`).join('')
    const dots = points.map((point) => `<circle cx="${x(point.size)}" cy="${y(point.seconds)}" r="3" fill="${colours[id]}"/>`).join('')
    return `<path d="${d}" fill="none" stroke="${colours[id]}" stroke-width="${id === 'api' ? 3 : 1.5}"/>${dots}`
  })
  const names = spreadOut(lines.map(([id, points]) => ({ id, y: y(points.at(-1).seconds) + 4 })))
  const texts = names.map(({ id, y: at }) => `<text x="${width - right + 4}" y="${at}" fill="${colours[id]}"${id === 'api' ? ' font-weight="bold"' : ''}>${labels[id]}</text>`)
  return [`<text class="title" x="${left}" y="20">${title}</text>`, ...axes(sizes, seconds, x, y), ...drawn, ...texts].join('\n')
}

/** The plot, or nothing where no task has two sizes. */
export function plot(cells) {
  const drawn = panels.map((one) => [one, linesOf(cells, one[0])]).filter(([, lines]) => lines.length > 0)
  if (drawn.length === 0) return undefined
  const [columns, lines] = [Math.min(2, drawn.length), Math.ceil(drawn.length / 2)]
  const groups = drawn.map(([one, of], i) => `<g transform="translate(${(i % 2) * width} ${Math.floor(i / 2) * height})">\n${panel(one, of)}\n</g>`)
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${columns * width} ${lines * height}" width="${columns * width}" height="${lines * height}" font-family="sans-serif" font-size="12">
<style>
.back { fill: #fff } .title { fill: #212529; font-size: 14px } .tick { fill: #495057 } .axis { stroke: #495057; fill: none } .grid { stroke: #dee2e6 }
@media (prefers-color-scheme: dark) { .back { fill: #0d1117 } .title { fill: #e9ecef } .tick { fill: #adb5bd } .axis { stroke: #adb5bd } .grid { stroke: #343a40 } }
</style>
<rect class="back" width="100%" height="100%"/>
${groups.join('\n')}
</svg>
`
}
