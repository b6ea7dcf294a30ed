// Archives, records, notes of a restore and files in a project's place that are made to do harm: refused, with a code, and
// nothing is written where it does not belong.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import * as zlib from 'node:zlib';
import * as backup from '../../index.js';
import { assertNoLeftovers, codeOf, codes, count, editMetadata, makeDatabase, metadataPath, project, readMetadata, runScript, seal, sealPath, sha256, surroundings, tempFolder, withDatabase, type Context, type Metadata, type Project } from '../helpers/project';
import { chosen, report } from '../helpers/proof';
import { bomb, bombBytes, entryBytes, ourBomb, ourGz, paxBody, tarEnd, tarGz, type Entry } from '../helpers/tar';

const archiveName = (ts: string): string => `databases-backup-${ts}.tar.gz`;
const counts = { archives: 0, records: 0 };

interface Base {
  p: Project;
  ts: string;
  /** Files of the set, without its archive. */
  members: Entry[];
}

/** A project with one set whose databases have changed since. */
async function base(t: Context): Promise<Base> {
  const p = project(t, 'inner');
  makeDatabase(p.at('agentdb.db'), { rows: 20, pageSize: 512 });
  fs.writeFileSync(p.at('notes.db'), 'notes, then');
  const made = await backup.createBackup({ root: p.root });
  assert.equal(made.success, true, made.error);
  const ts = made.timestamp;
  const members = fs.readdirSync(p.backups).filter((n) => n.includes(ts) && !n.startsWith('databases-backup-')).map((name) => ({ name, body: fs.readFileSync(path.join(p.backups, name)) }));
  withDatabase(p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
  fs.writeFileSync(p.at('notes.db'), 'notes, now');
  return { p, ts, members };
}

/** Makes `bytes` all that is left of the set, with a checksum file that fits. */
function onlyArchive({ p, ts }: Base, bytes: Buffer): string {
  for (const name of fs.readdirSync(p.backups)) if (name.includes(ts)) fs.rmSync(path.join(p.backups, name));
  const file = path.join(p.backups, archiveName(ts));
  fs.writeFileSync(file, bytes, { mode: 0o600 });
  fs.writeFileSync(`${file}.sha256`, `${sha256(file)}  ${path.basename(file)}\n`, { mode: 0o600 });
  return file;
}

/** Asserts that a set is refused by verify and by restore, forced or not, verified or not, and that nothing comes of it. */
async function assertRefused({ p, ts }: Base, what: string, also: { noVerify?: boolean } = {}): Promise<void> {
  const before = surroundings(p);
  assert.equal(await backup.verifyBackup(ts, { root: p.root }), false, `${what}: verified`);
  const inspection = await backup.inspectBackup(ts, { root: p.root });
  assert.ok(inspection.files.some((f) => f.problems.some((x) => codes.has(x.code) && x.message.length > 20)), `${what}: ${JSON.stringify(inspection)}`);
  await backup.listBackups({ root: p.root, archives: true });
  const tries: backup.RestoreBackupOptions[] = [{}, { force: true }, ...(also.noVerify ? [{ force: true, verify: false }] : [])];
  for (const options of tries) {
    const r = await codeOf(backup.restoreBackup(ts, { root: p.root, ...options }));
    assert.ok(r.code !== undefined && codes.has(r.code) && !r.rejected, `${what}: ${JSON.stringify(options)}: ${r.code} ${r.message}`);
    assert.deepEqual(surroundings(p), before, `${what}: ${JSON.stringify(options)}: something was written`);
  }
  assertNoLeftovers(p.backups);
}

/** Cases by name; the bytes of an archive for each. `hard`: refused with verify off as well. */
function archives({ ts, members }: Base): [what: string, bytes: Buffer, hard: boolean][] {
  const record = members.find((m) => m.name.endsWith('.json'))!;
  const copy = members.find((m) => m.name === `agentdb.db.backup.${ts}`)!;
  const plus = (...more: Entry[]): Buffer => tarGz([...more, ...members]);
  const without = (drop: (name: string) => boolean): Buffer => tarGz(members.filter((m) => !drop(m.name)));
  const changed = (name: string, entry: Entry): Buffer => tarGz(members.map((m) => (m.name === name ? entry : m)));
  const whole = Buffer.concat([...members.map(entryBytes), tarEnd]);
  const evil = (name: string): Entry => ({ name, body: Buffer.from('evil') });
  const kinds = { 'a hard link': '1', 'a symbolic link': '2', 'a character device': '3', 'a block device': '4', 'a folder': '5', 'a fifo': '6', 'a contiguous file': '7', 'a sparse file': 'S', 'a continued file': 'M', 'a label': 'V', 'a global header': 'g', 'nothing known': 'Q' };
  const big = Buffer.from(JSON.stringify({ ...(JSON.parse(record.body!.toString()) as object), filler: 'x'.repeat(1 << 20) }));
  return [
    ...['../evil', `../evil.db.backup.${ts}`, `../../../evil.db.backup.${ts}`, `/tmp/evil.db.backup.${ts}`, `a/../../evil.db.backup.${ts}`, `sub/evil.db.backup.${ts}`, `..`, `./../evil.db.backup.${ts}`, `.lock`, `.restore-intent.json`, `x\u001b[2J\n.db.backup.nothing`].map((name): [string, Buffer, boolean] => [`a member called ${JSON.stringify(name)}`, plus(evil(name)), true]),
    ...Object.entries(kinds).map(([what, type]): [string, Buffer, boolean] => [`a copy that is ${what}`, changed(copy.name, { name: copy.name, type, link: '../../../../outside', body: type === '0' ? copy.body! : Buffer.alloc(0) }), true]),
    ['a path by pax that leaves the folder', plus({ name: 'pax', type: 'x', body: paxBody({ path: `../evil.db.backup.${ts}` }) }, evil(`evil.db.backup.${ts}`)), true],
    ['a long name that leaves the folder', plus({ name: '././@LongLink', type: 'L', body: Buffer.from(`../evil.db.backup.${ts}\0`) }, evil(`evil.db.backup.${ts}`)), true],
    ['a sparse file by pax', tarGz([{ name: 'pax', type: 'x', body: paxBody({ 'GNU.sparse.realsize': '99999999999' }) }, ...members]), true],
    ['a pax header that is broken', plus({ name: 'pax', type: 'x', body: Buffer.from('99 path=x\n') }), true],
    ['a pax size that is not so', tarGz([{ name: 'pax', type: 'x', body: paxBody({ size: '9999999999999' }) }, ...members]), true],
    ['the same member twice', plus(copy), true],
    ['two members that differ in case', plus({ name: copy.name.replace('agentdb', 'AGENTDB'), body: copy.body! }), true],
    ['a member of another set', plus(evil('agentdb.db.backup.20010101-000000')), true],
    ['a copy that its record does not name', plus(evil(`evil.db.backup.${ts}`)), false],
    ['a ._ file of a Mac', plus(evil(`._agentdb.db.backup.${ts}`)), false],
    ['a member of 2^63 bytes', tarGz([{ ...copy, claims: 1n << 63n }], Buffer.alloc(0)), true],
    ['a member of 2^64-1 bytes', tarGz([{ ...copy, claims: (1n << 64n) - 1n }], Buffer.alloc(0)), true],
    ['a member of 8 GiB that is not there', tarGz([{ ...copy, claims: 8n << 30n }, ...members]), true],
    ['a record that is too long', changed(record.name, { name: record.name, body: big }), true],
    ['a checksum file that is too long', changed(`${copy.name}.sha256`, { name: `${copy.name}.sha256`, body: Buffer.alloc(70_000, 'a') }), true],
    ['a checksum file of another file', changed(`${copy.name}.sha256`, { name: `${copy.name}.sha256`, body: Buffer.from(`${'0'.repeat(64)}  ${copy.name}\n`) }), false],
    ['a copy that is another', changed(copy.name, { name: copy.name, body: Buffer.from(copy.body!.map((b, i) => (i === copy.body!.length - 1 ? b ^ 0xff : b))) }), false],
    ['a copy that is longer than its record says', changed(copy.name, { name: copy.name, body: Buffer.concat([copy.body!, Buffer.alloc(512)]) }), true],
    ['no copies', without((n) => n.includes('.backup.')), false],
    ['one copy less than its record names', without((n) => n.startsWith('agentdb.db.backup.')), false],
    ['a record that is gone, and its seal is not', without((n) => n === record.name), false],
    ['no end mark', tarGz(members, Buffer.alloc(0)), true],
    ['half an end mark', tarGz(members, Buffer.alloc(512)), true],
    ['something after its end mark', zlib.gzipSync(Buffer.concat([whole, Buffer.from('evil')])), true],
    ['another archive after its end mark', zlib.gzipSync(Buffer.concat([whole, entryBytes(evil(`evil.db.backup.${ts}`)), tarEnd])), true],
    ['another gzip stream with another archive behind it', Buffer.concat([zlib.gzipSync(whole), tarGz([evil(`evil.db.backup.${ts}`)])]), true],
    ['garbage after the gzip stream', Buffer.concat([zlib.gzipSync(whole), Buffer.from('garbage')]), true],
    ['a gzip stream without its last byte', zlib.gzipSync(whole).subarray(0, -1), true],
    ['a gzip stream with another length in its trailer', Buffer.concat([zlib.gzipSync(whole).subarray(0, -4), Buffer.from([1, 2, 3, 4])]), true],
    ['a header with a wrong checksum', zlib.gzipSync(Buffer.concat([whole.subarray(0, 5), Buffer.from('X'), whole.subarray(6)])), true],
    ['an empty block between its members', zlib.gzipSync(Buffer.concat([entryBytes(members[0]!), Buffer.alloc(512), ...members.slice(1).map(entryBytes), tarEnd])), true],
    ['nothing but an end mark', zlib.gzipSync(tarEnd), true],
    ['nothing in its gzip stream', zlib.gzipSync(Buffer.alloc(0)), true],
    ['no bytes at all', Buffer.alloc(0), true],
    ['no gzip', whole, true],
  ];
}

/** The cases as other tools pack them, and as ours do: those are not unpacked before it is known what is in them. */
function packings(b: Base): [what: string, bytes: Buffer, hard: boolean][] {
  const ours = archives(b).flatMap(([what, bytes, hard]): [string, Buffer, boolean][] => {
    // Node's own gunzip passes over it.
    if (what.startsWith('garbage after')) return [];
    let content;
    try {
      content = zlib.gunzipSync(bytes);
    } catch {
      return [];
    }
    return [[`${what}, packed as ours are`, ourGz(content, 4096), hard]];
  });
  assert.ok(ours.length > 40, `only ${ours.length} of the cases can be packed anew`);
  return [...archives(b), ...ours, ...lies(b)];
}

/** Archives of ours in which one member says that it holds more or less than it does, so that what comes after seems to be elsewhere. */
function lies({ members }: Base): [what: string, bytes: Buffer, hard: boolean][] {
  const content = Buffer.concat([...members.map(entryBytes), tarEnd]);
  const numbers = Array.from({ length: Math.ceil(content.length / 4096) }, (_, i) => i);
  return numbers.flatMap((number) =>
    [-4096, -512, 512, 4096, 1 << 19, 2 ** 32 - 4096].map((more): [string, Buffer, boolean] => [
      `its member ${number} saying that it holds ${more} bytes more`,
      ourGz(content, 4096, (n, length) => (n === number ? Math.max(0, Math.min(2 ** 32 - 1, length + more)) : length)),
      true,
    ]),
  );
}

test('an archive that is made to do harm is refused by verify and restore alike, and nothing is written', { timeout: 1_800_000 }, async (t) => {
  const b = await base(t);
  for (const [what, bytes, hard] of chosen(packings(b), 140)) {
    onlyArchive(b, bytes);
    await assertRefused(b, `an archive with ${what}`, { noVerify: hard });
    counts.archives++;
  }
  for (const good of [tarGz(b.members), ourGz(Buffer.concat([...b.members.map(entryBytes), tarEnd]), 4096)]) {
    onlyArchive(b, good);
    withDatabase(b.p.at('agentdb.db'), (db) => db.exec('DELETE FROM episodes'));
    assert.equal(await backup.verifyBackup(b.ts, { root: b.p.root }), true, 'the archive that all of these were made of is good');
    assert.equal((await backup.restoreBackup(b.ts, { root: b.p.root })).success, true);
    assert.equal(count(b.p.at('agentdb.db')), 20);
  }
});

test('an archive that is not the one its checksum file speaks of is called that, whatever else is wrong with it', { timeout: 1_800_000 }, async (t) => {
  const b = await base(t);
  for (const [what, bytes] of chosen(packings(b), 60)) {
    const file = onlyArchive(b, bytes);
    fs.writeFileSync(`${file}.sha256`, `${'5'.repeat(64)}  ${path.basename(file)}\n`);
    const { files } = await backup.inspectBackup(b.ts, { root: b.p.root });
    assert.deepEqual(files.flatMap((f) => f.problems.map((x) => x.code)), ['CHECKSUM_MISMATCH'], `${what}: ${JSON.stringify(files)}`);
    const r = await backup.restoreBackup(b.ts, { root: b.p.root, force: true });
    assert.equal(r.code, 'CHECKSUM_MISMATCH', `${what}: ${r.error}`);
  }
  assertNoLeftovers(b.p.backups);
});

test('an archive without checksum file or seal of its own needs force, as verify says', { timeout: 1_800_000 }, async (t) => {
  const b = await base(t);
  for (const [drop, what] of [[`agentdb.db.backup.${b.ts}.sha256`, 'checksum'], [path.basename(sealPath('', b.ts)), 'checksum']] as const) {
    onlyArchive(b, tarGz(b.members.filter((m) => m.name !== drop)));
    assert.equal(await backup.verifyBackup(b.ts, { root: b.p.root }), false, drop);
    const r = await codeOf(backup.restoreBackup(b.ts, { root: b.p.root }));
    assert.equal(r.code, 'NEEDS_FORCE', `${drop}: ${r.message}`);
    assert.match(r.message, new RegExp(what));
  }
  assert.equal((await backup.restoreBackup(b.ts, { root: b.p.root, force: true })).success, true);
});

test('restore --archive and its preview refuse the same archives, and show no control character of theirs', { timeout: 600_000 }, async (t) => {
  const b = await base(t);
  const file = path.join(tempFolder(t), 'from-elsewhere.tar.gz');
  const before = surroundings(b.p);
  for (const [what, bytes] of chosen(archives(b), 9)) {
    fs.writeFileSync(file, bytes);
    const run = await b.p.run('restore', '--archive', file, '--force');
    assert.ok(![0, null].includes(run.status), `${what}: ${run.stdout}`);
    assert.ok(!(run.stdout + run.stderr).includes('\u001b['), what);
    assert.deepEqual(surroundings(b.p), before, what);
  }
});

const bombs: [what: string, bytes: (b: Base) => Buffer][] = [
  ['a pax header of 4 GiB', (b) => bomb(entryBytes({ name: 'pax', type: 'x', claims: bombBytes(64) }), 64, Buffer.concat([...b.members.map(entryBytes), tarEnd]))],
  ['a long name of 4 GiB', (b) => bomb(entryBytes({ name: '././@LongLink', type: 'L', claims: bombBytes(64) }), 64, Buffer.concat([...b.members.map(entryBytes), tarEnd]))],
  ['a record of 4 GiB', (b) => bomb(entryBytes({ name: path.basename(metadataPath('', b.ts)), claims: bombBytes(64) }), 64, tarEnd)],
  ['a checksum file of 4 GiB', (b) => bomb(entryBytes({ name: `agentdb.db.backup.${b.ts}.sha256`, claims: bombBytes(64) }), 64, tarEnd)],
  ['a copy of 384 MiB whose record says less', (b) => bomb(entryBytes({ name: `agentdb.db.backup.${b.ts}`, claims: bombBytes(6) }), 6, Buffer.concat([...b.members.filter((m) => m.name !== `agentdb.db.backup.${b.ts}`).map(entryBytes), tarEnd]))],
  ['a copy of 384 MiB whose record says less, packed as ours are', (b) => ourBomb(entryBytes({ name: `agentdb.db.backup.${b.ts}`, claims: bombBytes(6) }), 384, Buffer.concat([...b.members.filter((m) => m.name !== `agentdb.db.backup.${b.ts}`).map(entryBytes), tarEnd]))],
  ['zeroes without end after its end, packed as ours are', (b) => ourBomb(Buffer.concat([...b.members.map(entryBytes), tarEnd]), 512)],
  ['zeroes without end after its end', (b) => bomb(Buffer.concat([...b.members.map(entryBytes), tarEnd]), 64)],
];

for (const [what, bytes] of bombs) {
  test(`an archive with ${what} is refused in little memory and little room`, { timeout: 600_000 }, async (t) => {
    const b = await base(t);
    onlyArchive(b, bytes(b));
    const before = surroundings(b.p);
    const tried = await runScript<{ verified: boolean; codes: (string | null)[]; rss: number; written: number }>(
      `const [root, ts] = args;
       const fs = require('node:fs');
       // Every byte that was ever handed to a file, wherever that was and whether or not it is there still.
       const written = () => (fs.existsSync('/proc/self/io') ? Number(/wchar: (\\d+)/.exec(fs.readFileSync('/proc/self/io', 'utf8'))[1]) : 0);
       const before = written();
       const verified = await backup.verifyBackup(ts, { root });
       const codes = [];
       for (const options of [{ force: true }, { force: true, verify: false }]) codes.push((await backup.restoreBackup(ts, { root, ...options })).code ?? null);
       console.log(JSON.stringify({ verified, codes, rss: process.resourceUsage().maxRSS, written: written() - before }));`,
      [b.p.root, b.ts],
    );
    assert.equal(tried.verified, false);
    for (const code of tried.codes) assert.ok(code !== null && codes.has(code), JSON.stringify(tried));
    assert.ok(tried.written < 8 << 20, `${Math.round(tried.written / 2 ** 20)} MiB were written before it was refused`);
    assert.ok(tried.rss < 300 * 1024, `${Math.round(tried.rss / 1024)} MiB of memory`);
    assert.deepEqual(surroundings(b.p), before);
    assertNoLeftovers(b.p.backups);
    counts.archives++;
  });
}

type Edit = (m: Metadata & Record<string, any>, b: Base) => void;
const db = (m: Metadata): Record<string, any> => m.databases.find((d) => d.source === 'agentdb.db')!;

/** What a record may say that it must not be believed in, though its checksum is right. */
const records: [what: string, edit: Edit][] = [
  ...['../x.db', '/x.db', 'a/../../x.db', '..', '', '.', './agentdb.db', 'agentdb.db/', 'a//b.db', 'x\0y.db', 'x.db-wal', 'x.db-shm', 'X.DB-JOURNAL', '.agentic-qe/backups/x.db', '.agentic-qe/backups/.restore-intent.json', '.agentic-qe/backups/.lock'].map((source): [string, Edit] => [`sends a file to ${JSON.stringify(source)}`, (m) => void (db(m).source = source)]),
  ...['../../outside', '/etc/passwd', '.lock', '', 'agentdb.db', '../agentdb.db.backup.TS', 'sub/agentdb.db.backup.TS', 'agentdb.db.backup.20010101-000000', 'agentdb.db.backup.TS.sha256', 'backup-metadata.TS.json', 'x\0.db.backup.TS'].map((file): [string, Edit] => [`takes a file from ${JSON.stringify(file)}`, (m, b) => void (db(m).file = file.replace('TS', b.ts))]),
  ['takes both files from one copy', (m) => void (m.databases[1]!.file = m.databases[0]!.file)],
  ['sends both files to one place', (m) => void (m.databases[1]!.source = m.databases[0]!.source)],
  ['names no database', (m) => void (m.databases = [])],
  ['calls a database a side file, to have it left out', (m) => void (db(m).side_file_of = 'notes.db')],
  ['calls all of them side files', (m) => m.databases.forEach((d) => void Object.assign(d, { side_file_of: 'x.db' }))],
  ['leaves out a copy', (m) => void m.databases.pop()],
  ['belongs to another set', (m) => void (m.timestamp = '20010101-000000')],
  ['belongs to no set', (m) => void (m.timestamp = '../x')],
  ['has a number for a timestamp', (m) => void (m.timestamp = 5 as never)],
  ['has an object of databases', (m) => void (m.databases = {} as never)],
  ['has a string of databases', (m) => void (m.databases = 'agentdb.db' as never)],
  ['has numbers for databases', (m) => void (m.databases = [1, 2] as never)],
  ['has a negative size', (m) => void (db(m).size = -1)],
  ['has a size beyond all numbers', (m) => void (db(m).size = 1e300)],
  ['has a size in words', (m) => void (db(m).size = 'many')],
  ['has another size', (m) => void (db(m).size += 1)],
  ['has no hash', (m) => void delete db(m).sha256],
  ['has a hash of another file', (m) => void (db(m).sha256 = '0'.repeat(64))],
  ['has a hash that is none', (m) => void (db(m).sha256 = '../../x')],
  ['has a number for SQLite', (m) => void (db(m).sqlite = 5)],
  ['says SQLite of a plain file', (m) => void (m.databases.find((d) => d.source === 'notes.db')!.sqlite = db(m).sqlite)],
  ['has a page size beyond all', (m) => void (db(m).sqlite.page_size = 2 ** 40)],
  ['has another page size', (m) => void (db(m).sqlite.page_size = 4096)],
  ['has another count of pages', (m) => void (db(m).sqlite.page_count += 1)],
  ['has another application id', (m) => void (db(m).sqlite.application_id = 7)],
  ['has another user version', (m) => void (db(m).sqlite.user_version = 7)],
  ['has more rows', (m) => void (db(m).sqlite.tables.episodes += 1)],
  ['has fewer rows than none', (m) => void (db(m).sqlite.tables.episodes = -1)],
  ['has a kind that there is not', (m) => void (m.kind = 'evil')],
  ['is of a format to come', (m) => void (m.format = 99)],
];

/** The same, where no JSON writer would do. */
const texts: [what: string, text: (good: string) => string | Buffer][] = [
  ['is empty', () => ''],
  ['is null', () => 'null'],
  ['is a list', () => '[]'],
  ['is a string', () => '"x"'],
  ['is nested without end', (good) => good.replace('{', `{"x": ${'['.repeat(200_000)}${']'.repeat(200_000)},`)],
  ['is longer than any record', (good) => good.replace('{', `{"x": "${'x'.repeat(1 << 20)}",`)],
  ['has its databases twice', (good) => good.replace('"databases"', '"databases": [], "databases"')],
  ['is not UTF-8', (good) => Buffer.concat([Buffer.from(good.slice(0, -3)), Buffer.from([0xff, 0xfe]), Buffer.from('\n}\n')])],
  ['is UTF-16', (good) => Buffer.from(good, 'utf16le')],
  ['has two documents', (good) => good + good],
  ['has a number that is none', (good) => good.replace(/"size": \d+/, '"size": 1e999')],
];

test('a record that says what can not be is refused by verify and restore alike, though its checksum is right', { timeout: 1_800_000 }, async (t) => {
  const b = await base(t);
  for (const name of [archiveName(b.ts), `${archiveName(b.ts)}.sha256`]) fs.rmSync(path.join(b.p.backups, name));
  const file = metadataPath(b.p.backups, b.ts);
  const good = fs.readFileSync(file, 'utf8');
  const all: [string, () => void][] = [
    ...records.map(([what, edit]): [string, () => void] => [what, () => editMetadata(b.p.backups, b.ts, (m) => edit(m, b))]),
    ...texts.map(([what, text]): [string, () => void] => [what, () => (fs.writeFileSync(file, text(good)), seal(b.p.backups, b.ts))]),
  ];
  for (const [what, spoil] of all) {
    fs.writeFileSync(file, good);
    seal(b.p.backups, b.ts);
    spoil();
    assert.ok((await backup.listBackups({ root: b.p.root })).some((x) => x.timestamp === b.ts), `a record that ${what}: not listed`);
    await assertRefused(b, `a record that ${what}`);
    counts.records++;
  }
  fs.writeFileSync(file, good);
  seal(b.p.backups, b.ts);
  assert.equal(await backup.verifyBackup(b.ts, { root: b.p.root }), true);
  report('hostile-sets', counts);
});

test('with verify off too, no record sends a file out of the project or takes one from outside the set', { timeout: 600_000 }, async (t) => {
  const b = await base(t);
  const file = metadataPath(b.p.backups, b.ts);
  const good = fs.readFileSync(file, 'utf8');
  for (const [what, edit] of records.filter(([what]) => /^(sends a file to|takes a file from)/.test(what))) {
    fs.writeFileSync(file, good);
    editMetadata(b.p.backups, b.ts, (m) => edit(m, b));
    for (const name of [archiveName(b.ts), `${archiveName(b.ts)}.sha256`]) fs.rmSync(path.join(b.p.backups, name), { force: true });
    const before = surroundings(b.p);
    const r = await codeOf(backup.restoreBackup(b.ts, { root: b.p.root, force: true, verify: false }));
    assert.ok(r.code !== undefined && codes.has(r.code), `a record that ${what}: ${r.code} ${r.message}`);
    assert.deepEqual(surroundings(b.p), before, what);
  }
});

test('a record gives no file that is made anew more than permission to read, write and run', { timeout: 600_000 }, async (t) => {
  const b = await base(t);
  editMetadata(b.p.backups, b.ts, (m) => void Object.assign(m.databases[0]!, { mode: '6755' }));
  for (const name of [archiveName(b.ts), `${archiveName(b.ts)}.sha256`]) fs.rmSync(path.join(b.p.backups, name));
  fs.rmSync(b.p.at('agentdb.db'));
  const r = await backup.restoreBackup(b.ts, { root: b.p.root });
  assert.equal(r.success, true, r.error);
  assert.equal(fs.statSync(b.p.at('agentdb.db')).mode & 0o7777, 0o755);
});

test('a file that is no database goes to a hidden place only if it was asked for by name, or by force', { timeout: 600_000 }, async (t) => {
  const b = await base(t);
  for (const name of [archiveName(b.ts), `${archiveName(b.ts)}.sha256`]) fs.rmSync(path.join(b.p.backups, name));
  const hook = '.git/hooks/notes.db';
  editMetadata(b.p.backups, b.ts, (m) => {
    m.databases.find((d) => d.source === 'notes.db')!.source = hook;
    (m.databases.find((d) => d.source === hook) as Record<string, unknown>).mode = '0755';
  });
  const before = surroundings(b.p);
  const r = await codeOf(backup.restoreBackup(b.ts, { root: b.p.root }));
  assert.equal(r.code, 'NEEDS_FORCE', r.message);
  assert.match(r.message, /hidden/);
  assert.deepEqual(surroundings(b.p), before);
  // Nor does it help to call it a database.
  const plain = readMetadata(b.p.backups, b.ts).databases.find((d) => d.source === hook)!;
  const real = readMetadata(b.p.backups, b.ts).databases.find((d) => d.source === 'agentdb.db')!.sqlite;
  editMetadata(b.p.backups, b.ts, (m) => void Object.assign(m.databases.find((d) => d.file === plain.file)!, { sqlite: real }));
  const lied = surroundings(b.p);
  assert.notEqual((await codeOf(backup.restoreBackup(b.ts, { root: b.p.root, verify: false }))).code, undefined);
  assert.deepEqual(surroundings(b.p), lied);
  editMetadata(b.p.backups, b.ts, (m) => void Object.assign(m.databases.find((d) => d.file === plain.file)!, { sqlite: null }));
  assert.equal((await backup.restoreBackup(b.ts, { root: b.p.root, databases: [hook] })).success, true);
  assert.equal(fs.readFileSync(b.p.at(hook), 'utf8'), 'notes, then');
});
