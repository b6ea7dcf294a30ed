// The tasks, in the order in which they are run.
import { archive, beside, create } from './contenders.mjs'
import { fromArchive, parts, restore, setUpArchive, setUpCopy, verify } from './restores.mjs'
import { growth, small } from './small.mjs'

const ownSet = (compress) => async (p) => {
  p.timestamp = await p.ownSet(compress)
  p.archiveOnly = compress
}

/** Those that are done for each size and journal mode. */
const sized = [
  { name: 'parts', title: 'What the parts cost, each alone', setup: (p) => p.putLive('base'), contenders: parts },
  { name: 'create', title: 'Back up, without an archive', setup: (p) => p.putLive('base'), contenders: create },
  { name: 'archive', title: 'Back up, with an archive', setup: (p) => p.putLive('base'), contenders: archive },
  { name: 'verify', title: 'Verify a backup', setup: async (p) => {
    await ownSet(false)(p)
    await setUpCopy(p)
  }, contenders: verify },
  { name: 'restore-small', title: 'Restore after 0.1 % of the rows changed', variant: 'changed', setup: ownSet(false), contenders: restore('changed') },
  { name: 'restore-all', title: 'Restore after everything changed', variant: 'other', setup: ownSet(false), contenders: restore('other') },
  { name: 'restore-archive', title: 'Restore from nothing but the archive, after 0.1 % of the rows changed', variant: 'changed', setup: async (p) => {
    await ownSet(true)(p)
    await setUpArchive(p)
  }, contenders: fromArchive },
  { name: 'writer', title: 'Back up while another process commits every millisecond', writer: true, setup: (p) => p.putLive('base'), contenders: beside },
].map((task) => ({ ...task, sized: true }))

export const tasks = [...sized, ...small, ...growth]
/** What can be asked for by name. */
export const names = [...new Set(tasks.map(({ name }) => name))]
/** Those that are done only when asked for: what many sets cost. */
export const grown = new Set(growth.map(({ name }) => name))
