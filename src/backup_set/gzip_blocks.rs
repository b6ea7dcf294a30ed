//! Gzip on all cores: a stream cut into blocks, each a gzip member of its own with its length in the header (RFC 1952, 2.3.1.1).
//! `gunzip`, `tar -xzf` and every other reader of gzip reads the members one after the other; [`Reader`] takes several at once.

use std::io::{self, BufReader, Chain, Cursor, Read, Write};

use flate2::bufread::MultiGzDecoder;
use libdeflater::{CompressionLvl, Compressor, Crc, Decompressor};

use super::tar_stream::Skip;
use super::worker_threads::Pool;

/// Bytes of a block before compression. Blocks of a quarter make the archive 0.4 % larger, larger ones take memory.
pub(super) const BLOCK: usize = 1 << 20;

/// libdeflate's level. On embeddings and text (600 MB): 1.5 % larger than `gzip -6`; level 5 is 2.1 % larger and takes an
/// eighth less of the processor, level 7 is 1.2 % larger and takes a fifth more.
const LEVEL: i32 = 6;

/// Our subfield of the gzip header: two letters, then as its data the length of the whole member, 32 bits, little-endian.
const SUBFIELD: [u8; 4] = [b'A', b'Q', 4, 0];
/// Fixed part, length of the extra field, our subfield.
pub(super) const HEADER: usize = 10 + 2 + 8;
/// CRC-32 and length of the content.
const TRAILER: usize = 8;

/// Compresses what is written to it on several threads, and writes the members to `out` in order.
pub struct Writer<W> {
    out: W,
    block: Vec<u8>,
    pool: Pool<Vec<u8>, Vec<u8>>,
    is_empty: bool,
}

impl<W: Write> Writer<W> {
    /// Nothing is written yet.
    pub fn new(out: W) -> Self {
        let pool = Pool::start(|| {
            let mut compressor = CompressionLvl::new(LEVEL).map(Compressor::new);
            Box::new(move |block: Vec<u8>| match &mut compressor {
                Ok(compressor) => member(compressor, &block),
                Err(e) => Err(io::Error::other(format!("libdeflate: {e:?}"))),
            })
        });
        Writer { out, block: Vec::with_capacity(BLOCK), pool, is_empty: true }
    }

    fn hand_in(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.is_empty = false;
        if self.pool.is_full() {
            self.write_oldest()?;
        }
        self.pool.submit(block)
    }

    /// False when there was none.
    fn write_oldest(&mut self) -> io::Result<bool> {
        self.pool.take().map_or(Ok(false), |member| self.out.write_all(&member?).map(|()| true))
    }

    /// Ends the stream and gives `out` back, unflushed.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() || self.is_empty {
            self.hand_in()?;
        }
        while self.write_oldest()? {}
        Ok(self.out)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        if self.block.len() == BLOCK {
            self.hand_in()?;
        }
        Ok(n)
    }

    /// What is not a whole block yet waits for more, or for [`Writer::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `block` as a gzip member.
fn member(compressor: &mut Compressor, block: &[u8]) -> io::Result<Vec<u8>> {
    let mut member = vec![0; HEADER + compressor.deflate_compress_bound(block.len()) + TRAILER];
    let packed = compressor.deflate_compress(block, &mut member[HEADER..]).map_err(|e| io::Error::other(format!("libdeflate: {e:?}")))?;
    let length = HEADER + packed + TRAILER;
    let too_long = |_| io::Error::other("a block is longer than gzip can say");
    // ID, deflate, an extra field; no time, no hint, "unknown" for the system.
    member[..10].copy_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255]);
    member[10..12].copy_from_slice(&8u16.to_le_bytes());
    member[12..16].copy_from_slice(&SUBFIELD);
    member[16..HEADER].copy_from_slice(&u32::try_from(length).map_err(too_long)?.to_le_bytes());
    let mut crc = Crc::new();
    crc.update(block);
    member[HEADER + packed..][..4].copy_from_slice(&crc.sum().to_le_bytes());
    member[HEADER + packed + 4..][..4].copy_from_slice(&u32::try_from(block.len()).map_err(too_long)?.to_le_bytes());
    member.truncate(length);
    Ok(member)
}

/// What was looked at already, and the rest.
type Rest<R> = Chain<Cursor<Vec<u8>>, BufReader<R>>;

/// Unpacks a gzip stream: members of ours on several threads, those of other writers one after the other. The stream ends
/// where a member ends; anything after the last one that does not begin like a member is an error.
pub struct Reader<R: Read> {
    input: Option<BufReader<R>>,
    /// From the first member of ours on.
    pool: Option<Pool<Vec<u8>, Vec<u8>>>,
    block: Vec<u8>,
    offset: usize,
    /// From the first member on that is not ours.
    foreign: Option<MultiGzDecoder<Rest<R>>>,
}

impl<R: Read> Reader<R> {
    /// Nothing is read yet.
    pub fn new(input: R) -> Self {
        let input = Some(BufReader::with_capacity(1 << 18, input));
        Reader { input, pool: None, block: Vec::new(), offset: 0, foreign: None }
    }

    /// Reads ahead as far as there are threads for it.
    fn read_ahead(&mut self) -> io::Result<()> {
        while !self.pool.as_ref().is_some_and(Pool::is_full) {
            let Some(mut input) = self.input.take() else { return Ok(()) };
            let start = read_up_to(&mut input, HEADER)?;
            let Some(length) = length_of(&start)? else {
                if !start.is_empty() {
                    self.foreign = Some(MultiGzDecoder::new(Cursor::new(start).chain(input)));
                }
                return Ok(());
            };
            let member = rest_of_member(&mut input, start, length)?;
            self.input = Some(input);
            let start = || -> Box<dyn FnMut(Vec<u8>) -> io::Result<Vec<u8>>> {
                let mut decompressor = Decompressor::new();
                Box::new(move |member| content(&mut decompressor, &member))
            };
            self.pool.get_or_insert_with(|| Pool::start(start)).submit(member)?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.offset == self.block.len() {
            self.read_ahead()?;
            match (self.pool.as_mut().and_then(Pool::take), &mut self.foreign) {
                (Some(block), _) => (self.block, self.offset) = (block?, 0),
                (None, Some(foreign)) => return foreign.read(buffer),
                (None, None) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.block.len() - self.offset);
        buffer[..n].copy_from_slice(&self.block[self.offset..][..n]);
        self.offset += n;
        Ok(n)
    }
}

impl<R: Read> Skip for Reader<R> {}

/// The whole member that begins with `start` and has `length` bytes.
pub(super) fn rest_of_member(input: &mut impl Read, start: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    let mut member = start;
    member.reserve_exact(length - member.len());
    let left = (length - member.len()) as u64;
    input.take(left).read_to_end(&mut member)?;
    if member.len() == length { Ok(member) } else { Err(cut()) }
}

pub(super) fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the gzip stream ends in the middle of a member")
}

pub(super) fn read_up_to(input: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    input.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The length of the member that begins with `start`, if it is one of ours.
pub(super) fn length_of(start: &[u8]) -> io::Result<Option<usize>> {
    if start.len() < HEADER || !start.starts_with(&[0x1f, 0x8b, 8, 4]) || start[10..12] != [8, 0] || start[12..16] != SUBFIELD {
        return Ok(None);
    }
    let length = word(start, 16) as usize;
    // What a block takes at most, if it can't be compressed at all, and some room.
    let possible = HEADER + TRAILER..=HEADER + BLOCK + BLOCK / 64 + TRAILER;
    if possible.contains(&length) { Ok(Some(length)) } else { Err(invalid("a gzip member has an impossible length")) }
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// What a whole member of ours holds, checked.
pub(super) fn content(decompressor: &mut Decompressor, member: &[u8]) -> io::Result<Vec<u8>> {
    let trailer = member.len() - TRAILER;
    let (crc, length) = (word(member, trailer), word(member, trailer + 4) as usize);
    if length > BLOCK {
        return Err(invalid("a gzip member has more content than a block"));
    }
    let mut block = vec![0; length];
    let unpacked = decompressor.deflate_decompress(&member[HEADER..trailer], &mut block).map_err(|_| invalid("corrupt deflate stream"))?;
    let mut sum = Crc::new();
    sum.update(&block);
    if unpacked == length && sum.sum() == crc { Ok(block) } else { Err(invalid("a gzip member has other content than its trailer says")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(parts: &[Vec<u8>]) -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new());
        for part in parts {
            writer.write_all(part)?;
        }
        writer.finish()
    }

    fn all_of(mut reader: impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    }

    /// As every other tool writes gzip.
    fn foreign(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes)?;
        gzip.finish()
    }

    #[test]
    fn members_of_others_are_read_before_between_and_after_ours() -> io::Result<()> {
        let ours = packed(&[vec![1; BLOCK + 3]])?;
        assert_eq!(all_of(Reader::new(&foreign(b"before")?[..]))?, b"before");
        let mixed = [ours.clone(), foreign(b"between")?, ours, foreign(b"after")?].concat();
        assert!(all_of(Reader::new(&mixed[..]))? == all_of(MultiGzDecoder::new(&mixed[..]))?);
        Ok(())
    }

    #[test]
    fn a_stream_that_is_cut_or_changed_anywhere_is_an_error_or_the_same() -> io::Result<()> {
        let plain: Vec<u8> = (0..2000u32).flat_map(|n| n.to_le_bytes()).collect();
        let sound = packed(std::slice::from_ref(&plain))?;
        for at in 0..sound.len() {
            assert!(at == 0 || all_of(Reader::new(&sound[..at])).is_err(), "cut at {at}");
            let mut changed = sound.clone();
            changed[at] ^= 0x10;
            // Bytes that mean nothing to gzip may change.
            assert!(all_of(Reader::new(&changed[..])).map_or(true, |bytes| bytes == plain), "changed at {at}");
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_reader_of_gzip_gives_back_what_was_written(parts in proptest::collection::vec((any::<u8>(), 0..3usize << 20, any::<bool>()), 0..4)) {
            let parts: Vec<Vec<u8>> = parts.into_iter().map(|(seed, length, is_noise)| {
                let mut state = u32::from(seed) | 1;
                (0..length).map(|_| if is_noise { state ^= state << 13; state ^= state >> 17; state ^= state << 5; state.to_le_bytes()[0] } else { seed }).collect()
            }).collect();
            let packed = packed(&parts)?;
            prop_assert!(all_of(MultiGzDecoder::new(&packed[..]))? == parts.concat());
            prop_assert!(all_of(Reader::new(&packed[..]))? == parts.concat());
        }
    }

    #[test]
    fn nothing_is_a_gzip_stream_too() -> io::Result<()> {
        assert!(all_of(MultiGzDecoder::new(&packed(&[])?[..]))?.is_empty());
        assert!(all_of(Reader::new(&packed(&[])?[..]))?.is_empty());
        Ok(())
    }

    #[test]
    fn each_member_says_its_length() -> io::Result<()> {
        let packed = packed(&[vec![7; 3 * BLOCK + 5]])?;
        let (mut at, mut members) = (0, 0);
        while at < packed.len() {
            assert_eq!(packed[at + 12..at + 16], SUBFIELD);
            at += u32::from_le_bytes([packed[at + 16], packed[at + 17], packed[at + 18], packed[at + 19]]) as usize;
            members += 1;
        }
        assert_eq!((at, members), (packed.len(), 4));
        Ok(())
    }

    #[test]
    fn a_writer_that_fails_says_so_and_leaves_no_thread_waiting() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = Writer::new(Full);
        let outcome = writer.write_all(&vec![1; 40 * BLOCK]).and_then(|()| writer.finish());
        assert_eq!(outcome.err().map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
    }
}
