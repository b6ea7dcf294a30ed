// How much of a proof is run: a fixed sample within `npm test`; all of it, or a shard, with `npm run test:faults`.
import * as fs from 'node:fs';
import * as path from 'node:path';

/** Whether everything is to be tried, not just the sample. */
export const full = process.env.AQE_FAULTS === 'full';
/** Where the random choices of a run start, so that it can be repeated. */
export const seed = Number(process.env.AQE_FAULTS_SEED ?? 1);
/** The part of all points that this run tries, `I/N` with I from 1; all of them unless told. */
export const shard = parseShard(process.env.AQE_FAULTS_SHARD ?? '1/1');

function parseShard(text: string): { index: number; of: number } {
  const m = /^(\d+)\/(\d+)$/.exec(text);
  const [index, of] = [Number(m?.[1]), Number(m?.[2])];
  if (!m || index < 1 || index > of) throw new Error(`AQE_FAULTS_SHARD is ${text}; it has to be I/N with I from 1 to N`);
  return { index, of };
}

/** How long a proof that goes by time runs. */
export function seconds(sample: number, whole: number): number {
  return full ? Number(process.env.AQE_FAULTS_SECONDS ?? whole) : sample;
}

/** The points to try: this shard's of all of them, or `sample` of them, evenly spread, the first and the last included. */
export function chosen<T>(points: readonly T[], sample: number): T[] {
  if (full) return points.filter((_, i) => i % shard.of === shard.index - 1);
  const k = Math.min(points.length, sample);
  const at = new Set(Array.from({ length: k }, (_, i) => (k === 1 ? 0 : Math.round((i * (points.length - 1)) / (k - 1)))));
  return [...at].map((i) => points[i]!);
}

/** Numbers that look random and are the same for the same seed (mulberry32); each in [0, 1). */
export function random(from = seed): () => number {
  let state = from >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Notes what a proof tried and found, for the table of docs/reliability.md; a sample is not noted. */
export function report(name: string, counts: Record<string, number | string>): void {
  const folder = process.env.AQE_FAULTS_RESULTS;
  if (!full || !folder) return;
  fs.mkdirSync(folder, { recursive: true });
  const run = { name, shard: `${shard.index}/${shard.of}`, seed, commit: process.env.AQE_FAULTS_COMMIT ?? 'unknown', node: process.versions.node, counts };
  fs.appendFileSync(path.join(folder, `${name}.jsonl`), `${JSON.stringify(run)}\n`);
}
