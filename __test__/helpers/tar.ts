// Archives put together byte by byte, so that they can hold what no honest tar writes.
import * as zlib from 'node:zlib';

/** One entry, as it is claimed to be. */
export interface Entry {
  name: string;
  body?: Buffer;
  /** The type flag; a regular file unless told. */
  type?: string;
  /** The size in the header, if not that of the body. */
  claims?: bigint;
  link?: string;
}

const block = 512;

/** `entry` with its body, filled up to whole blocks. */
export function entryBytes(entry: Entry): Buffer {
  const { name, body = Buffer.alloc(0), type = '0', claims = BigInt(body.length), link = '' } = entry;
  const header = Buffer.alloc(block);
  header.write(name, 0, 100);
  header.write('0000600\0', 100);
  header.write('0000000\0', 108);
  header.write('0000000\0', 116);
  if (claims < 8n ** 11n) header.write(`${claims.toString(8).padStart(11, '0')}\0`, 124);
  else {
    header.writeUInt32BE(0x80000000, 124);
    header.writeBigUInt64BE(claims, 128);
  }
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write(type, 156);
  header.write(link, 157, 100);
  header.write('ustar\0' + '00', 257);
  const sum = header.reduce((a, b) => a + b, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, body, Buffer.alloc((block - (body.length % block)) % block)]);
}

/** The end mark of an archive. */
export const tarEnd = Buffer.alloc(2 * block);

/** Pax records as the body of an `x` entry. */
export function paxBody(records: Record<string, string>): Buffer {
  return Buffer.concat(
    Object.entries(records).map(([key, value]) => {
      const rest = Buffer.byteLength(` ${key}=${value}\n`);
      let length = rest + String(rest).length;
      if (rest + String(length).length !== length) length = rest + String(length).length;
      return Buffer.from(`${length} ${key}=${value}\n`);
    }),
  );
}

/** A whole archive of `entries`. */
export function tarGz(entries: Entry[], end: Buffer = tarEnd): Buffer {
  return zlib.gzipSync(Buffer.concat([...entries.map(entryBytes), end]));
}

/** One gzip member of the sort that our archives are made of: its length is in its header (docs/file-format.md). */
function ourMember(content: Buffer, holds = content.length): Buffer {
  const packed = zlib.deflateRawSync(content);
  const member = Buffer.alloc(20 + packed.length + 8);
  member.set([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 8, 0, 0x41, 0x51, 4, 0]);
  member.writeUInt32LE(member.length, 16);
  packed.copy(member, 20);
  member.writeUInt32LE(crc32(content), member.length - 8);
  member.writeUInt32LE(holds, member.length - 4);
  return member;
}

const crcs = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** Node has one of its own only from 22.2 on. */
function crc32(bytes: Buffer): number {
  let c = 0xffffffff;
  for (const b of bytes) c = crcs[(c ^ b) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** `content` as members of ours, of `size` bytes each. `holds`: what the member of that number says that it holds. */
export function ourGz(content: Buffer, size = 1 << 20, holds: (number: number, length: number) => number = (_, length) => length): Buffer {
  const parts = Array.from({ length: Math.max(1, Math.ceil(content.length / size)) }, (_, i) => content.subarray(i * size, (i + 1) * size));
  return Buffer.concat(parts.map((part, i) => ourMember(part, holds(i, part.length))));
}

/** `head`, `mebibytes` of zeroes, and `tail`, as members of ours. */
export function ourBomb(head: Buffer, mebibytes: number, tail: Buffer = Buffer.alloc(0)): Buffer {
  const zero = ourMember(Buffer.alloc(1 << 20));
  return Buffer.concat([ourMember(head), ...Array.from({ length: mebibytes }, () => zero), ourMember(tail)]);
}

const zeroes = 64 << 20;
let packedZeroes: Buffer | undefined;

/** A gzip stream that starts with `head` and goes on with `times` × 64 MiB of zeroes, then `tail`. */
export function bomb(head: Buffer, times: number, tail: Buffer = Buffer.alloc(0)): Buffer {
  packedZeroes ??= zlib.gzipSync(Buffer.alloc(zeroes));
  return Buffer.concat([zlib.gzipSync(head), ...Array.from({ length: times }, () => packedZeroes!), zlib.gzipSync(tail)]);
}

/** Zeroes in such a stream. */
export const bombBytes = (times: number): bigint => BigInt(zeroes) * BigInt(times);
