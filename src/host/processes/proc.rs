//! What `/proc` says of a process: its open files, its mapped files, its flags. Reads, judges nothing.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::FileId;

/// What the kernel adds to the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

/// All processes that are to be seen; none on a system without `/proc`.
pub(super) fn ids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The file of `/proc` that tells `what` of a process.
pub(super) fn proc_path(id: u32, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{id}/{what}"))
}

/// The kernel's own threads have no command line, and no files.
pub(super) fn is_kernel_thread(id: u32) -> bool {
    fs::read(proc_path(id, "cmdline")).is_ok_and(|c| c.is_empty())
}

/// What `ps` calls it; empty for one that has ended.
pub(super) fn name(id: u32) -> String {
    fs::read_to_string(proc_path(id, "comm")).unwrap_or_default().trim_end().to_owned()
}

/// The program that it runs, as it knows it; empty for one that has ended.
pub(super) fn program(id: u32) -> PathBuf {
    fs::read_link(proc_path(id, "exe")).map(|l| parse_name(l.as_os_str()).0).unwrap_or_default()
}

pub(super) fn file_id(m: &Metadata) -> FileId {
    FileId { device: m.dev(), inode: m.ino() }
}

pub(super) fn id_of(path: &Path) -> Option<FileId> {
    path.metadata().ok().map(|m| file_id(&m))
}

/// A regular file that a process has open.
pub(super) struct OpenFile {
    pub descriptor: u32,
    /// The path as the process knows it.
    pub path: PathBuf,
    /// The path leads to it no more.
    pub nameless: bool,
    pub file: FileId,
}

/// The regular files that a process has open, but for those of the system.
pub(super) fn open_files(id: u32) -> io::Result<Vec<OpenFile>> {
    let folder = proc_path(id, "fd");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let Ok(entry) = entry else { continue };
        let Some(descriptor) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        // A descriptor may be closed at any time: then there is nothing to see.
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        // Sockets, pipes and the like have no path; /proc, /sys and /dev have no databases.
        if !link.is_absolute() || ["/proc", "/sys", "/dev/pts"].iter().any(|p| link.starts_with(p)) {
            continue;
        }
        let Ok(m) = fs::metadata(entry.path()) else { continue };
        if m.is_file() {
            let (path, nameless) = parse_name(link.as_os_str());
            found.push(OpenFile { descriptor, path, nameless, file: file_id(&m) });
        }
    }
    Ok(found)
}

/// A name as the kernel gives it, and whether it says that the file has none any more.
fn parse_name(link: &OsStr) -> (PathBuf, bool) {
    let bytes = link.as_bytes();
    let bare = bytes.strip_suffix(DELETED);
    (PathBuf::from(OsString::from_vec(bare.unwrap_or(bytes).to_vec())), bare.is_some())
}

/// Whether a path means the same to it as to this process.
pub(super) fn shares_mounts(id: u32) -> bool {
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
    let theirs = namespace(&id.to_string());
    theirs.is_some() && theirs == namespace("self")
}

/// Whether it has the descriptor open for writing.
pub(super) fn is_writable(id: u32, descriptor: u32) -> bool {
    let info = fs::read_to_string(proc_path(id, &format!("fdinfo/{descriptor}"))).unwrap_or_default();
    let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).and_then(|f| u32::from_str_radix(f.trim(), 8).ok());
    flags.is_some_and(|f| f & 0o3 != 0)
}

/// A line of `maps`.
pub(super) struct Mapping {
    pub range: String,
    pub executable: bool,
    pub inode: u64,
    pub path: PathBuf,
    pub nameless: bool,
}

/// Files that are mapped into a process; none for one that has ended.
pub(super) fn mappings(id: u32) -> Vec<Mapping> {
    let text = fs::read(proc_path(id, "maps")).unwrap_or_default();
    text.split(|b| *b == b'\n').filter_map(parse_mapping).collect()
}

/// `55d0c5a3e000-55d0c5a5f000 r-xp 00002000 fd:01 1835030    /usr/bin/node`
fn parse_mapping(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let start = rest.iter().position(|b| *b != b' ')?;
        let end = rest[start..].iter().position(|b| *b == b' ').map_or(rest.len(), |n| start + n);
        let text = std::str::from_utf8(&rest[start..end]).ok();
        rest = &rest[end..];
        text
    };
    let (range, permissions, _, _, inode) = (field()?, field()?, field()?, field()?, field()?);
    let (range, executable, inode) = (range.to_owned(), permissions.contains('x'), inode.parse().ok()?);
    let path = rest.trim_ascii_start();
    if !path.starts_with(b"/") {
        return None;
    }
    let (path, nameless) = parse_name(&unescaped(path));
    Some(Mapping { range, executable, inode, path, nameless })
}

/// A path as it is: a line feed in it is the one character that the kernel writes otherwise in `maps`.
fn unescaped(path: &[u8]) -> OsString {
    let mut rest = path;
    let mut made = Vec::with_capacity(path.len());
    while let Some((first, others)) = rest.split_first() {
        let (byte, after) = rest.strip_prefix(b"\\012").map_or((*first, others), |after| (b'\n', after));
        made.push(byte);
        rest = after;
    }
    OsString::from_vec(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read_whatever_is_in_the_path() {
        let m = parse_mapping(b"7f0-7f8 r-xp 00002000 fd:01 1835030                    /a b/li\\012b  x.so (deleted)")
            .unwrap_or_else(|| panic!("not read"));
        assert_eq!((m.range.as_str(), m.executable, m.inode, m.nameless), ("7f0-7f8", true, 1_835_030, true));
        assert_eq!(m.path, Path::new("/a b/li\nb  x.so"));
        for other in ["7ffc-7ffd rw-p 00000000 00:00 0          [stack]", "7ffc-7ffd rw-p 00000000 00:00 0 ", ""] {
            assert!(parse_mapping(other.as_bytes()).is_none(), "{other}");
        }
    }
}
