//! A gzip stream of ours with gaps: what is skipped is neither read nor unpacked. Each member says how long it is and how much
//! it holds, so the tar headers, and the small files at the end, are found in the time that it takes to read a few of them.
//! What is skipped is not looked at: whoever relies on the content reads all of it with [`super::gzip_blocks::Reader`].

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};

use libdeflater::Decompressor;

use super::gzip_blocks::{BLOCK, HEADER, content, cut, invalid, length_of, read_up_to, rest_of_member, word};
use super::tar_stream::Skip;

/// Unpacks only the members in which something is read. A member of another writer ends it, and `is_foreign` says so: how long
/// that is, is not known before it is unpacked.
pub struct Reader<'a, F> {
    file: F,
    is_foreign: &'a Cell<bool>,
    decompressor: Decompressor,
    /// Where the next member begins.
    at: u64,
    /// How it begins, once that is known.
    start: Option<Vec<u8>>,
    block: Vec<u8>,
    offset: usize,
}

impl<'a, F: Read + Seek> Reader<'a, F> {
    /// Nothing is read yet.
    pub fn new(file: F, is_foreign: &'a Cell<bool>) -> Self {
        Reader { file, is_foreign, decompressor: Decompressor::new(), at: 0, start: None, block: Vec::new(), offset: 0 }
    }

    /// How the next member begins, and its length; `None` at the end.
    fn next_member(&mut self) -> io::Result<Option<(Vec<u8>, usize)>> {
        let start = match self.start.take() {
            Some(start) => start,
            None => self.bytes_at(self.at, HEADER)?,
        };
        if start.is_empty() {
            return Ok(None);
        }
        match length_of(&start)? {
            Some(length) => Ok(Some((start, length))),
            None => {
                self.is_foreign.set(true);
                Err(invalid("a gzip member is not one of ours"))
            }
        }
    }

    fn bytes_at(&mut self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(at))?;
        read_up_to(&mut self.file, most)
    }

    /// Unpacks the next member; false at the end.
    fn unpack_next(&mut self) -> io::Result<bool> {
        let Some((start, length)) = self.next_member()? else { return Ok(false) };
        self.file.seek(SeekFrom::Start(self.at + HEADER as u64))?;
        let member = rest_of_member(&mut self.file, start, length)?;
        (self.block, self.offset) = (content(&mut self.decompressor, &member)?, 0);
        self.at += length as u64;
        Ok(true)
    }
}

impl<F: Read + Seek> Read for Reader<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.offset == self.block.len() {
            if !self.unpack_next()? {
                return Ok(0);
            }
        }
        let n = buffer.len().min(self.block.len() - self.offset);
        buffer[..n].copy_from_slice(&self.block[self.offset..][..n]);
        self.offset += n;
        Ok(n)
    }
}

impl<F: Read + Seek> Skip for Reader<'_, F> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let mut left = bytes;
        loop {
            let here = left.min((self.block.len() - self.offset) as u64);
            // Less than a block.
            self.offset += here as usize;
            left -= here;
            if left == 0 {
                return Ok(bytes);
            }
            let Some((start, length)) = self.next_member()? else { return Ok(bytes - left) };
            // One read for how much it holds, its last four bytes, and for how the one after it begins.
            let end = self.bytes_at(self.at + length as u64 - 4, 4 + HEADER)?;
            let holds = end.get(..4).map(|size| u64::from(word(size, 0))).ok_or_else(cut)?;
            if holds > BLOCK as u64 {
                return Err(invalid("a gzip member has more content than a block"));
            }
            if holds > left {
                self.start = Some(start);
                self.unpack_next()?;
            } else {
                (self.at, self.start) = (self.at + length as u64, Some(end[4..].to_vec()));
                left -= holds;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;

    use super::super::gzip_blocks::Writer;
    use super::*;

    fn packed(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new());
        writer.write_all(bytes)?;
        writer.finish()
    }

    fn counted(length: usize) -> Vec<u8> {
        (0u32..).flat_map(u32::to_le_bytes).take(length).collect()
    }

    /// Counts the bytes that are read of it.
    struct Counting<'a>(Cursor<&'a [u8]>, &'a Cell<usize>);

    impl Read for Counting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.read(buffer)?;
            self.1.set(self.1.get() + n);
            Ok(n)
        }
    }

    impl Seek for Counting<'_> {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_read_between_gaps_is_what_is_there(length in 0..5 * BLOCK, steps in proptest::collection::vec((0..3 * BLOCK, 0..BLOCK / 2), 0..6)) {
            let (plain, foreign) = (counted(length), Cell::new(false));
            let packed = packed(&plain)?;
            let mut reader = Reader::new(Cursor::new(&packed[..]), &foreign);
            let mut at = 0;
            for (gap, wanted) in steps {
                let skipped = usize::try_from(reader.skip(gap as u64)?)?;
                prop_assert_eq!(skipped, gap.min(length - at));
                at += skipped;
                let mut bytes = Vec::new();
                reader.by_ref().take(wanted as u64).read_to_end(&mut bytes)?;
                prop_assert!(bytes == plain[at..(at + wanted).min(length)]);
                at += bytes.len();
            }
            prop_assert!(!foreign.get());
        }
    }

    #[test]
    fn a_gap_is_not_read() -> io::Result<()> {
        let (foreign, read) = (Cell::new(false), Cell::new(0));
        let packed = packed(&counted(64 * BLOCK))?;
        let mut reader = Reader::new(Counting(Cursor::new(&packed), &read), &foreign);
        assert_eq!(reader.skip(63 * BLOCK as u64 + 5)?, 63 * BLOCK as u64 + 5);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest)?;
        assert_eq!(rest.len(), BLOCK - 5);
        assert!(read.get() < packed.len() / 20, "{} of {} bytes were read", read.get(), packed.len());
        Ok(())
    }

    #[test]
    fn a_member_of_another_writer_ends_it_and_says_so() -> io::Result<()> {
        let mut theirs = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        theirs.write_all(b"theirs")?;
        let mixed = [packed(b"ours")?, theirs.finish()?].concat();
        let foreign = Cell::new(false);
        let mut reader = Reader::new(Cursor::new(&mixed[..]), &foreign);
        assert_eq!(reader.skip(4)?, 4);
        assert!(!foreign.get());
        assert!(reader.skip(1).is_err() && foreign.get());
        Ok(())
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error_or_shorter() -> io::Result<()> {
        let packed = packed(&counted(2 * BLOCK))?;
        for at in [1, HEADER - 1, HEADER, packed.len() / 2, packed.len() - 1] {
            let foreign = Cell::new(false);
            let skipped = Reader::new(Cursor::new(&packed[..at]), &foreign).skip(2 * BLOCK as u64);
            assert!(skipped.is_err(), "cut at {at}: {skipped:?}");
        }
        Ok(())
    }
}
