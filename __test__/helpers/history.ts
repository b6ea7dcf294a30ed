// What became of every write, told from the sets that were made meanwhile: one line of events must explain them all.
import assert from 'node:assert/strict';

/** Which write each database has seen last, by its `user_version`: every write has a number of its own and notes the one before it. */
export type State = Record<string, number>;

/** A commit that was acknowledged. */
export interface Write {
  source: string;
  token: number;
  before: number;
}

/** A set that was made. */
export interface Made {
  made: string;
  /** What is in it, if it could still be seen. */
  state?: State;
  /** For the safety set of a restore: what was in the set that was put back. */
  restored?: State;
}

/** Before the first write. */
export const start = 1;

/**
 * The states of one database from set to set, in the order of their names, which is that of the lock. Each must follow from the one
 * before by writes alone, or by the restore; and every write must be in the line of a set or of what is there at the `end`.
 */
export function explain(source: string, sets: Made[], before: Map<number, number>, end: number): { links: number; unseen: number } {
  const accounted = new Set<number>();
  /** Where the course of events can't be followed: the set in which it ended was removed before anybody looked. */
  const open = new Set<number>();
  let links = 0;
  let from = start;
  const follow = (to: number, what: string): void => {
    for (let at = to; at !== from; at = before.get(at)!) {
      assert.ok(before.has(at), `${source}, ${what}: it is at write ${to}, which does not come from ${from}, where it was before`);
      accounted.add(at);
    }
    links++;
  };
  for (const e of [...sets].sort((a, b) => (a.made < b.made ? -1 : 1))) {
    const state = e.state?.[source];
    if (state !== undefined) {
      follow(state, e.made);
      from = state;
    } else if (e.restored) open.add(from);
    if (e.restored) from = e.restored[source]!;
  }
  follow(end, 'the end');
  for (const token of before.keys()) {
    let at = token;
    while (before.has(at) && !accounted.has(at) && !open.has(at)) at = before.get(at)!;
    assert.ok(accounted.has(token) || open.has(at), `${source}: the acknowledged write ${token} is in no set and not in the database`);
  }
  return { links, unseen: open.size };
}
