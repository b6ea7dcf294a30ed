// A disk that loses power: replays a recording and builds what the kernel may have left of it at any moment.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Action } from './recording';

/** What is on a disk: for each relative path the bytes of a file, or `null` for a folder. */
export type Image = Map<string, Buffer | null>;

/** One thing that the power failure may have left. */
export interface Remains {
  image: Image;
  /** After how many steps the power failed, and what was lost. */
  what: string;
  /** Whether the command had said by then how it ended. */
  reported: boolean;
}

const nothing: Buffer = Buffer.alloc(0);
/** What a disk writes whole. */
const sector = 512;

class Inode {
  /** As the programs see it. */
  data: Buffer;
  /** As the disk has it for certain: the content at the last fsync. */
  durable: Buffer;
  readonly entries: Map<string, Inode> | undefined;

  constructor(readonly isFolder: boolean, bytes = nothing, durable = nothing) {
    this.data = bytes;
    this.durable = durable;
    this.entries = isFolder ? new Map() : undefined;
  }

  get isSettled(): boolean {
    return this.data === this.durable || this.data.equals(this.durable);
  }
}

/** A name that comes (`inode`) or goes. */
interface Change {
  folder: Inode;
  name: string;
  inode: Inode | undefined;
}

/** A change of names that no fsync of its folder has followed yet. Both halves of a rename happen, or neither. */
interface Pending {
  changes: Change[];
  what: string;
}

/** How much of what was written to a file is there. */
type Kept = 'none' | 'zeros' | 'all' | 'even' | 'odd';

export class Disk {
  private readonly root = new Inode(true);
  /** For each folder the names that are certain. */
  private readonly certain = new Map<Inode, Map<string, Inode>>();
  private pending: Pending[] = [];
  private readonly inodes = new Set<Inode>();
  private readonly open = new Map<number, { inode: Inode; at: number; append: boolean }>();
  /** Breaches of the rule that bytes come before the name, and names before the record. */
  readonly breaches: string[] = [];

  /** A disk on which everything in `image` is certain. */
  constructor(readonly folder: string, image: Image) {
    this.certain.set(this.root, new Map());
    for (const [name, bytes] of [...image].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const inode = bytes === null ? new Inode(true) : new Inode(false, bytes, bytes);
      const parent = this.find(path.dirname(name));
      assert.ok(parent?.entries, `${name} has no folder`);
      parent.entries.set(path.basename(name), inode);
      this.certain.get(parent)!.set(path.basename(name), inode);
      this.know(inode);
    }
  }

  private know(inode: Inode): void {
    if (inode.isFolder) this.certain.set(inode, new Map());
    else this.inodes.add(inode);
  }

  private find(relative: string): Inode | undefined {
    let at: Inode | undefined = this.root;
    for (const part of relative.split(path.sep)) if (part !== '.' && part !== '') at = at?.entries?.get(part);
    return at;
  }

  private place(full: string): { folder: Inode; name: string; inode: Inode | undefined } {
    const relative = path.relative(this.folder, full);
    const folder = this.find(path.dirname(relative));
    assert.ok(folder?.entries, `the recording speaks of ${relative}, whose folder it never made`);
    const name = path.basename(relative);
    return { folder, name, inode: relative === '' ? this.root : folder.entries.get(name) };
  }

  private existing(full: string): { folder: Inode; name: string; inode: Inode } {
    const { inode, ...place } = this.place(full);
    assert.ok(inode, `the recording speaks of ${full}, which it never made`);
    return { ...place, inode };
  }

  /** How a path is called in a message. */
  private name(full: string): string {
    return path.relative(this.folder, full) || '.';
  }

  private change(what: string, ...changes: Change[]): void {
    for (const { folder, name, inode } of changes) {
      if (inode) folder.entries!.set(name, inode);
      else folder.entries!.delete(name);
    }
    this.pending.push({ changes, what });
  }

  private file(fd: number): { inode: Inode; at: number; append: boolean } {
    const file = this.open.get(fd);
    assert.ok(file, `the recording uses descriptor ${fd}, which it never opened`);
    return file;
  }

  /** Does what a step did. */
  apply(step: Action): void {
    switch (step.do) {
      case 'open':
        return this.opened(step);
      case 'write': {
        const file = this.file(step.fd);
        const at = step.at ?? (file.append ? file.inode.data.length : file.at);
        this.write(file.inode, step.bytes, at);
        if (step.at === undefined) file.at = at + step.bytes.length;
        return;
      }
      case 'copy': {
        const [from, to] = [this.file(step.from), this.file(step.fd)];
        this.write(to.inode, from.inode.data.subarray(from.at, from.at + step.count), to.at);
        from.at += step.count;
        to.at += step.count;
        return;
      }
      case 'resize': {
        const { inode } = this.file(step.fd);
        inode.data = resized(inode.data, step.size);
        return;
      }
      case 'seek':
        this.file(step.fd).at = step.at;
        return;
      case 'sync': {
        const { inode } = this.file(step.fd);
        if (inode.isFolder) this.settle(inode);
        else inode.durable = inode.data;
        return;
      }
      case 'mkdir': {
        const { folder, name } = this.place(step.path);
        const inode = new Inode(true);
        this.know(inode);
        return this.change(`mkdir ${this.name(step.path)}`, { folder, name, inode });
      }
      case 'unlink':
      case 'rmdir': {
        const { folder, name } = this.existing(step.path);
        return this.change(`${step.do} ${this.name(step.path)}`, { folder, name, inode: undefined });
      }
      case 'link':
      case 'rename':
        return this.named(step.do, step.path, step.to);
    }
  }

  private opened(step: Action & { do: 'open' }): void {
    const place = this.place(step.path);
    let { inode } = place;
    if (!inode) {
      assert.ok(step.create, `the recording opens ${step.path}, which it never made`);
      inode = new Inode(false);
      this.know(inode);
      this.change(`create ${this.name(step.path)}`, { folder: place.folder, name: place.name, inode });
    } else if (step.truncate) inode.data = nothing;
    this.open.set(step.fd, { inode, at: 0, append: step.append });
  }

  private write(inode: Inode, bytes: Buffer, at: number): void {
    // A new buffer each time: images share those that did not change.
    const data = resized(inode.data, Math.max(inode.data.length, at + bytes.length));
    bytes.copy(data, at);
    inode.data = data;
  }

  private named(how: 'link' | 'rename', from: string, to: string): void {
    const [a, b] = [this.existing(from), this.place(to)];
    if (!a.inode.isFolder && !a.inode.isSettled) this.breaches.push(`${this.name(to)} got its name before its bytes were flushed`);
    const set = /^backup-metadata\.(.*)\.json$/.exec(b.name)?.[1];
    if (set) {
      const comes = (c: Change): boolean => c.folder === b.folder && c.inode !== undefined && !c.inode.isFolder && c.name.includes(set);
      for (const p of this.pending) if (p.changes.some(comes)) this.breaches.push(`${b.name} got its name before "${p.what}" was flushed`);
    }
    const gone: Change[] = how === 'rename' ? [{ folder: a.folder, name: a.name, inode: undefined }] : [];
    this.change(`${how} ${this.name(from)} to ${this.name(to)}`, { folder: b.folder, name: b.name, inode: a.inode }, ...gone);
  }

  /** The names in `folder` are certain from now on. A file that was moved here from elsewhere may still be there too. */
  private settle(folder: Inode): void {
    const left: Pending[] = [];
    for (const p of this.pending) {
      if (p.changes[0]!.folder !== folder) {
        left.push(p);
        continue;
      }
      const [first, ...rest] = p.changes as [Change, ...Change[]];
      const elsewhere = first.inode?.isFolder ? [] : rest.filter((c) => c.folder !== folder);
      for (const c of p.changes) if (!elsewhere.includes(c)) this.assure(c);
      if (elsewhere.length > 0) left.push({ changes: elsewhere, what: `${p.what} (the old name)` });
    }
    this.pending = left;
    this.forget();
  }

  /** Leaves out of account what is pending in folders that are gone for certain. */
  private forget(): void {
    const there = new Set<Inode>([this.root]);
    // Set iteration goes on with what is added meanwhile.
    for (const folder of there) {
      for (const names of [folder.entries!, this.certain.get(folder)!]) for (const inode of names.values()) if (inode.isFolder) there.add(inode);
    }
    for (const p of this.pending) for (const c of p.changes) if (c.inode?.isFolder) there.add(c.inode);
    this.pending = this.pending.filter((p) => p.changes.some((c) => there.has(c.folder)));
  }

  private assure({ folder, name, inode }: Change): void {
    const names = this.certain.get(folder)!;
    if (inode) names.set(name, inode);
    else names.delete(name);
  }

  /** What programs see. */
  get seen(): Image {
    return this.image(this.pending, () => 'all');
  }

  /** A step in words. */
  describe(step: Action | undefined): string {
    if (!step) return 'nothing yet';
    return 'path' in step ? `${step.do} ${this.name(step.path)}` : `${step.do} of descriptor ${step.fd}`;
  }

  private image(happened: Pending[], kept: (inode: Inode) => Kept): Image {
    const names = new Map([...this.certain].map(([folder, entries]) => [folder, new Map(entries)]));
    for (const { folder, name, inode } of happened.flatMap((p) => p.changes)) {
      if (inode) names.get(folder)!.set(name, inode);
      else names.get(folder)!.delete(name);
    }
    const image: Image = new Map();
    const walk = (folder: Inode, prefix: string): void => {
      for (const [name, inode] of names.get(folder)!) {
        const relative = path.join(prefix, name);
        image.set(relative, inode.isFolder ? null : remainsOf(inode, kept(inode)));
        if (inode.isFolder) walk(inode, relative);
      }
    };
    walk(this.root, '');
    return image;
  }

  /** Everything that a power failure may leave now; many of them are alike. */
  *remains(): Generator<{ image: Image; lost: string }> {
    const all = this.pending;
    const names: [string, Pending[]][] = [['no names', all]];
    if (all.length > 0) names.push(['all names', []]);
    for (const [i, p] of all.entries()) {
      if (all.length > 1) names.push([`all names but "${p.what}"`, [p]], [`the name "${p.what}"`, all.filter((q) => q !== p)]);
      if (i > 1) names.push([`names from "${p.what}" on`, all.slice(0, i)]);
    }
    const dirty = [...this.inodes].filter((f) => !f.isSettled);
    const contents: [string, (f: Inode) => Kept][] = [['no bytes', () => 'all']];
    if (dirty.length > 0) {
      for (const k of ['none', 'zeros', 'even', 'odd'] as const) contents.push([{ none: 'all unflushed bytes', zeros: 'all unflushed bytes, which are zeros', even: 'every odd sector', odd: 'every even sector' }[k], () => k]);
      if (dirty.length > 1) for (const d of dirty) contents.push(['the bytes of one file', (f) => (f === d ? 'none' : 'all')], ['the bytes of all files but one', (f) => (f === d ? 'all' : 'none')]);
    }
    for (const [n, [what, happened]] of names.entries()) {
      // What came of the bytes and what came of the names are independent; the extremes of one go with all of the other.
      for (const [c, [bytes, kept]] of contents.entries()) if (n < 2 || c < 3) yield { image: this.image(happened, kept), lost: `${what}, ${bytes}` };
    }
  }
}

function resized(bytes: Buffer, size: number): Buffer {
  const data = Buffer.alloc(size);
  bytes.copy(data, 0, 0, Math.min(size, bytes.length));
  return data;
}

const partial = new WeakMap<Buffer, Map<Buffer, Map<Kept, Buffer>>>();

function remainsOf(inode: Inode, kept: Kept): Buffer {
  const { data, durable } = inode;
  if (kept === 'all' || inode.isSettled) return data;
  if (kept === 'none') return durable;
  // The same buffers give the same result, so that it is hashed once.
  const ofData = partial.get(data) ?? new Map<Buffer, Map<Kept, Buffer>>();
  partial.set(data, ofData);
  const ofBoth = ofData.get(durable) ?? new Map<Kept, Buffer>();
  ofData.set(durable, ofBoth);
  const known = ofBoth.get(kept);
  if (known) return known;
  const mixed = resized(durable, data.length);
  if (kept !== 'zeros') for (let at = kept === 'even' ? 0 : sector; at < data.length; at += 2 * sector) data.copy(mixed, at, at, at + sector);
  ofBoth.set(kept, mixed);
  return mixed;
}

const hashes = new WeakMap<Buffer, string>();

function hashOf(bytes: Buffer): string {
  let hash = hashes.get(bytes);
  if (hash === undefined) hashes.set(bytes, (hash = createHash('sha1').update(bytes).digest('base64')));
  return hash;
}

function identity(image: Image): string {
  return [...image].map(([name, bytes]) => `${name}\0${bytes === null ? 'folder' : hashOf(bytes)}`).sort().join('\n');
}

/**
 * Everything, each once, that a power failure at any moment of a recording may leave; and the breaches of the order.
 * The recording begins on a `disk` on which, after a process that was killed, not everything may be certain.
 */
export function remains(disk: Disk, { steps, reported }: { steps: Action[]; reported: number }): { all: Remains[]; breaches: string[]; end: Image } {
  const all = new Map<string, Remains>();
  const look = (done: number): void => {
    const isOver = done >= reported;
    for (const { image, lost } of disk.remains()) {
      const key = createHash('sha1').update(`${isOver}\n${identity(image)}`).digest('base64');
      if (!all.has(key)) all.set(key, { image, what: `power lost after step ${done} of ${steps.length} (${disk.describe(steps[done - 1])}); lost: ${lost}`, reported: isOver });
    }
  };
  look(0);
  for (const [i, step] of steps.entries()) {
    disk.apply(step);
    // Opening a file that is there leaves nothing new behind, and looking for a place in one neither.
    if (step.do === 'seek') continue;
    if (step.do !== 'open' || step.create || step.truncate || i + 1 === reported) look(i + 1);
  }
  look(steps.length);
  return { all: [...all.values()], breaches: disk.breaches, end: disk.seen };
}

/** What is in a folder now. */
export function imageOf(folder: string): Image {
  const image: Image = new Map();
  const walk = (dir: string): void => {
    for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
      const full = path.join(dir, entry.name);
      if (entry.name.endsWith('-shm')) continue;
      image.set(path.relative(folder, full), entry.isDirectory() ? null : fs.readFileSync(full));
      if (entry.isDirectory()) walk(full);
    }
  };
  walk(folder);
  return image;
}

/** Makes a folder hold just what is in an image. */
export function materialise(folder: string, image: Image): void {
  for (const name of fs.readdirSync(folder)) fs.rmSync(path.join(folder, name), { recursive: true });
  for (const [name, bytes] of [...image].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (bytes === null) fs.mkdirSync(path.join(folder, name), { mode: 0o700 });
    else fs.writeFileSync(path.join(folder, name), bytes, { mode: 0o600 });
  }
}

/** Asserts that two images are the same. */
export function assertSame(actual: Image, expected: Image, message: string): void {
  const of = (image: Image): string[] => [...image].map(([name, bytes]) => `${name}: ${bytes === null ? 'folder' : `${bytes.length} bytes, ${hashOf(bytes)}`}`).sort();
  assert.deepEqual(of(actual), of(expected), message);
}
