//! A tar stream read entry by entry, in bounded memory and to its very end. What an entry claims of itself costs nothing:
//! long names are read up to a limit, sizes are only counted down.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// A stream of which parts can be left out, be it without having them.
pub trait Skip: Read {
    /// Leaves out `bytes` bytes, or as many as there are; how many.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>
    where
        Self: Sized,
    {
        io::copy(&mut self.by_ref().take(bytes), &mut io::sink())
    }
}

const BLOCK: usize = 512;
/// A long name, or a pax header, may have so many bytes.
const NAME_LIMIT: u64 = 64 << 10;
/// Zeroes after the end mark: writers fill up to a record, of which the largest known has a mebibyte.
const PADDING_LIMIT: u64 = 1 << 20;

/// What a header says of an entry.
pub struct Entry {
    /// As it stands there.
    pub name: String,
    /// Regular, directory, …
    pub kind: EntryType,
    /// Bytes of its body.
    pub size: u64,
}

/// Entries out of a stream; as a reader, the body of the current one.
pub struct TarStream<R> {
    inner: R,
    /// Of the current body.
    left: u64,
    /// After it, up to the next block.
    padding: u64,
}

/// What a pax header says of the next entry.
#[derive(Default)]
struct Pax {
    name: Option<String>,
    size: Option<u64>,
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl<R: Skip> TarStream<R> {
    /// Nothing is read yet.
    pub fn new(inner: R) -> Self {
        TarStream { inner, left: 0, padding: 0 }
    }

    /// The next entry; `None` after the end mark, behind which there is nothing.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut pax = Pax::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            self.expect(size)?;
            match header.entry_type() {
                EntryType::GNULongName => pax.name = Some(long_name(&self.text(size)?)?),
                EntryType::XHeader => pax = parse_pax(&self.text(size)?)?,
                kind => {
                    let name = match pax.name {
                        Some(name) => name,
                        None => utf8(header.path_bytes().into_owned())?,
                    };
                    let size = pax.size.unwrap_or(size);
                    self.expect(size)?;
                    return Ok(Some(Entry { name, kind, size }));
                }
            }
        }
    }

    fn expect(&mut self, size: u64) -> io::Result<()> {
        let over = size % BLOCK as u64;
        self.padding = if over == 0 { 0 } else { BLOCK as u64 - over };
        self.left = size;
        size.checked_add(self.padding).map(drop).ok_or_else(|| bad(format!("an entry claims to have {size} bytes")))
    }

    /// The rest of the current entry.
    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let skipped = self.inner.skip(rest)?;
        if skipped == rest { Ok(()) } else { Err(cut()) }
    }

    fn block(&mut self) -> io::Result<[u8; BLOCK]> {
        let mut block = [0u8; BLOCK];
        self.inner.read_exact(&mut block).map_err(|e| if e.kind() == io::ErrorKind::UnexpectedEof { cut() } else { e })?;
        Ok(block)
    }

    /// `None`: the end mark, two empty blocks, and after it nothing but padding.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let block = self.block()?;
        if block == [0; BLOCK] {
            if self.block()? != [0; BLOCK] {
                return Err(bad("there is an empty block between its members"));
            }
            return self.end().map(|()| None);
        }
        let mut header = Header::new_old();
        *header.as_mut_bytes() = block;
        let sum: u32 = block.iter().enumerate().map(|(i, b)| u32::from(if (148..156).contains(&i) { b' ' } else { *b })).sum();
        if header.cksum()? == sum { Ok(Some(header)) } else { Err(bad("the checksum of a header is wrong")) }
    }

    fn end(&mut self) -> io::Result<()> {
        let mut rest = self.inner.by_ref().take(PADDING_LIMIT + 1);
        let (mut total, mut buffer) = (0, vec![0u8; 1 << 16]);
        loop {
            match rest.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) if buffer[..n].iter().any(|b| *b != 0) => return Err(bad("there is something after its end")),
                Ok(n) => total += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if total <= PADDING_LIMIT { Ok(()) } else { Err(bad("it goes on and on after its end")) }
    }

    /// A body that is read as a whole.
    fn text(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > NAME_LIMIT {
            return Err(bad(format!("a name in it claims to have {size} bytes")));
        }
        let mut bytes = Vec::new();
        self.by_ref().take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(&mut buffer[..most])?;
        if n == 0 && most > 0 {
            return Err(cut());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends early")
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|e| bad(format!("a name in it is not UTF-8: {e}")))
}

fn long_name(bytes: &[u8]) -> io::Result<String> {
    utf8(bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec())
}

/// Records of the form `LENGTH KEY=VALUE\n`.
fn parse_pax(bytes: &[u8]) -> io::Result<Pax> {
    let broken = || bad("a pax header in it is broken");
    let mut pax = Pax::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(broken)?;
        let length: usize = std::str::from_utf8(&rest[..space]).ok().and_then(|n| n.parse().ok()).ok_or_else(broken)?;
        let record = rest.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(broken)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(broken)?;
        let (key, value) = (&record[..equals], record[equals + 1..].to_vec());
        match key {
            b"path" => pax.name = Some(utf8(value)?),
            b"size" => pax.size = Some(utf8(value)?.parse().map_err(|_| broken())?),
            _ if key.starts_with(b"GNU.sparse") => return Err(bad("it has a sparse member; pack it without --sparse")),
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(pax)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Skip for &[u8] {}

    fn read_all(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut stream = TarStream::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = stream.next_entry()? {
            let mut body = Vec::new();
            stream.read_to_end(&mut body)?;
            found.push((entry.name, body));
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn what_the_tar_crate_writes_is_read_back_and_no_shorter_stream_is(members in proptest::collection::vec(("[a-zäß☃]{1,150}", proptest::collection::vec(any::<u8>(), 0..1200)), 0..4), cut in any::<proptest::sample::Index>()) {
            let mut tar = tar::Builder::new(Vec::new());
            for (name, body) in &members {
                let mut header = Header::new_gnu();
                header.set_size(body.len() as u64);
                tar.append_data(&mut header, name, body.as_slice())?;
            }
            let bytes = tar.into_inner()?;
            prop_assert_eq!(read_all(&bytes)?, members);
            prop_assert!(read_all(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), whole in any::<bool>()) {
            // With a right checksum the fields themselves are read.
            if whole && bytes.len() >= BLOCK {
                let sum: u32 = bytes[..BLOCK].iter().enumerate().map(|(i, b)| u32::from(if (148..156).contains(&i) { b' ' } else { *b })).sum();
                bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            let _ = read_all(&bytes);
        }

        #[test]
        fn arbitrary_pax_records_never_panic(bytes in "[0-9]{1,3} (path|size|GNU.sparse.x|y)=.{0,9}\n?.{0,9}") {
            let _ = parse_pax(bytes.as_bytes());
        }
    }
}
