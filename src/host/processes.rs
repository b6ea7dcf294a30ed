//! Which processes have a database open, through which files, with which SQLite. Linux tells it in `/proc`; elsewhere
//! nobody is asked.
//!
//! Files are compared by device and inode as the kernel gives them for each descriptor, never by path: a container or a
//! mount namespace has other paths for the same file. Nothing that could be a database is opened: closing it would drop
//! the locks of whoever has it open in this process.

use std::path::PathBuf;

use super::sqlite_build::Build;
use crate::error::Result;
use crate::progress::Monitor;

/// What was seen.
#[derive(Debug, Default)]
pub struct Survey {
    /// Those that have one of the databases open.
    pub processes: Vec<Process>,
    /// How many could be looked at.
    pub examined: u32,
    /// How many could not, because they belong to others.
    pub unreadable: u32,
}

/// A process that has at least one of the databases open.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Its name, as `ps` shows it.
    pub name: String,
    /// The databases it has open.
    pub uses: Vec<Use>,
    /// Every SQLite in its memory.
    pub libraries: Vec<Library>,
    /// Mapped program files that could not be read, so nobody knows whether they hold a SQLite.
    pub unread_libraries: u32,
}

/// A database that a process has open.
#[derive(Debug, Clone)]
pub struct Use {
    /// Which of the databases that were asked for.
    pub database: usize,
    /// Descriptors of the database itself.
    pub descriptors: usize,
    /// It has the database's `-wal` open.
    pub wal: bool,
    /// Descriptors of one and the same `-shm`. Connections of one SQLite share one; so two mean two copies of SQLite.
    pub shared_memories: usize,
    /// Files that it takes for the database, its `-wal` or its `-shm`, and that are not the ones at the path.
    pub strays: Vec<Stray>,
}

/// An open file that is not the one it should be.
#[derive(Debug, Clone)]
pub struct Stray {
    /// How it went astray.
    pub kind: StrayKind,
    /// The process's descriptor.
    pub descriptor: u32,
    /// The name by which the process opened it.
    pub name: String,
    /// A connection is using it: the shared memory that belongs to it is mapped.
    pub mapped: bool,
    /// The file.
    pub file: FileId,
}

/// How a file went astray.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrayKind {
    /// The database itself was removed, or another file put in its place.
    NamelessDatabase,
    /// Its `-wal` or `-shm` was removed.
    NamelessSideFile,
    /// It has a name, and it is not the file that has this name here.
    ForeignSideFile,
}

/// A SQLite in a process.
#[derive(Debug, Clone)]
pub struct Library {
    /// The file, as the process knows it.
    pub path: PathBuf,
    /// Which SQLite.
    pub build: Build,
    /// It is in the program itself, not in a library that somebody had loaded.
    pub is_program: bool,
}

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
}

/// Looks at every process that this one may look at. `None` where the system does not tell.
pub fn survey(databases: &[PathBuf], monitor: &Monitor) -> Result<Option<Survey>> {
    platform::survey(databases, monitor)
}

/// Looks once more at the processes with something odd about them, and keeps only what is still so: a connection that is
/// just being closed removes its files before it closes them.
pub fn confirm(survey: &mut Survey, databases: &[PathBuf]) {
    for process in &mut survey.processes {
        let now = platform::uses_of(process.id, databases).unwrap_or_default();
        for then in &mut process.uses {
            let again = now.iter().find(|u| u.database == then.database);
            let is_still = |s: &Stray| {
                again.is_some_and(|u| u.strays.iter().any(|n| (n.kind, n.descriptor, n.file) == (s.kind, s.descriptor, s.file)))
            };
            then.strays.retain(is_still);
            then.shared_memories = then.shared_memories.min(again.map_or(0, |u| u.shared_memories));
        }
    }
}

impl Survey {
    /// Whether anything is worth a second look.
    pub fn is_odd(&self) -> bool {
        self.processes.iter().flat_map(|p| &p.uses).any(|u| !u.strays.is_empty() || u.shared_memories > 1)
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use super::{Monitor, PathBuf, Result, Survey, Use};

    pub fn survey(_: &[PathBuf], _: &Monitor) -> Result<Option<Survey>> {
        Ok(None)
    }

    pub fn uses_of(_: u32, _: &[PathBuf]) -> Option<Vec<Use>> {
        None
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::collections::{BTreeMap, HashMap, HashSet};
    use std::ffi::{OsStr, OsString};
    use std::fs::{self, File, Metadata};
    use std::io::{self, ErrorKind};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use super::{FileId, Library, Process, Stray, StrayKind, Survey, Use};
    use crate::error::Result;
    use crate::host::sqlite_build::{self, Build};
    use crate::progress::Monitor;
    use crate::sqlite::connection::side_file;

    /// What the kernel adds to the name of a file that has none any more.
    const DELETED: &[u8] = b" (deleted)";

    pub fn survey(databases: &[PathBuf], monitor: &Monitor) -> Result<Option<Survey>> {
        // A system without /proc, or with one that shows nothing, is one that does not tell.
        let Ok(entries) = fs::read_dir("/proc") else { return Ok(None) };
        let ids: Vec<u32> = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let mut survey = Survey::default();
        let mut scanner = Scanner { protected: protected(databases), known: HashMap::new() };
        for id in ids {
            monitor.check()?;
            match open_files(id) {
                Ok(files) => {
                    survey.examined += 1;
                    let uses = uses(id, &files, databases);
                    if !uses.is_empty() {
                        survey.processes.push(describe(id, uses, &mut scanner, monitor)?);
                    }
                }
                Err(e) if e.kind() == ErrorKind::PermissionDenied && !is_kernel_thread(id) => survey.unreadable += 1,
                // It has ended meanwhile.
                Err(_) => {}
            }
        }
        Ok(Some(survey))
    }

    pub fn uses_of(id: u32, databases: &[PathBuf]) -> Option<Vec<Use>> {
        open_files(id).ok().map(|files| uses(id, &files, databases))
    }

    fn proc_path(id: u32, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{id}/{what}"))
    }

    /// The kernel's own threads have no command line, and no files.
    fn is_kernel_thread(id: u32) -> bool {
        fs::read(proc_path(id, "cmdline")).is_ok_and(|c| c.is_empty())
    }

    fn file_id(m: &Metadata) -> FileId {
        FileId { device: m.dev(), inode: m.ino() }
    }

    fn id_of(path: &Path) -> Option<FileId> {
        path.metadata().ok().map(|m| file_id(&m))
    }

    /// A regular file that a process has open.
    struct OpenFile {
        descriptor: u32,
        /// The path as the process knows it.
        path: PathBuf,
        /// The path leads to it no more.
        nameless: bool,
        file: FileId,
    }

    fn open_files(id: u32) -> io::Result<Vec<OpenFile>> {
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

    fn parse_name(link: &OsStr) -> (PathBuf, bool) {
        let bytes = link.as_bytes();
        let bare = bytes.strip_suffix(DELETED);
        (PathBuf::from(OsString::from_vec(bare.unwrap_or(bytes).to_vec())), bare.is_some())
    }

    /// What the process `id` has to do with each of the databases.
    fn uses(id: u32, files: &[OpenFile], databases: &[PathBuf]) -> Vec<Use> {
        let mut mapped = None;
        let mut found = Vec::new();
        for (index, path) in databases.iter().enumerate() {
            let Some(file) = id_of(path) else { continue };
            let mut strays = nameless_databases(id, files, path, file);
            let known_as: Option<&Path> = files.iter().find(|f| f.file == file).map(|f| f.path.as_path());
            // One that has only the removed database knows its side files by the same name.
            let Some(known_as) = known_as.or((!strays.is_empty()).then_some(path)) else { continue };
            let [wals, memories] = ["-wal", "-shm"].map(|suffix| side_files(files, known_as, suffix));
            for (suffix, side) in [("-wal", &wals), ("-shm", &memories)] {
                strays.extend(stray_side_files(side, path, suffix, file));
            }
            if !strays.is_empty() {
                let maps: &Vec<Mapping> = mapped.get_or_insert_with(|| mappings(id));
                let memory = side_file(known_as, "-shm");
                for s in &mut strays {
                    let nameless = s.kind != StrayKind::ForeignSideFile;
                    s.mapped = maps.iter().any(|m| m.path == memory && m.nameless == nameless);
                }
            }
            let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
            memories.iter().for_each(|f| *counts.entry(f.file.inode).or_default() += 1);
            let shared_memories = counts.into_values().max().unwrap_or(0);
            let descriptors = files.iter().filter(|f| f.file == file).count();
            found.push(Use { database: index, descriptors, wal: !wals.is_empty(), shared_memories, strays });
        }
        found
    }

    fn side_files<'a>(files: &'a [OpenFile], database: &Path, suffix: &str) -> Vec<&'a OpenFile> {
        let path = side_file(database, suffix);
        files.iter().filter(|f| f.path == path).collect()
    }

    fn stray(kind: StrayKind, f: &OpenFile) -> Stray {
        Stray { kind, descriptor: f.descriptor, name: f.path.display().to_string(), mapped: false, file: f.file }
    }

    /// Those of `files`, which the process takes for a side file of the database at `path`, that are another file.
    fn stray_side_files(files: &[&OpenFile], path: &Path, suffix: &str, database: FileId) -> Vec<Stray> {
        let here = id_of(&side_file(path, suffix));
        let astray = files.iter().filter(|f| Some(f.file) != here);
        astray
            .filter_map(|f| match f.nameless {
                // The name alone could be that of a file in another container.
                true => (f.file.device == database.device).then(|| stray(StrayKind::NamelessSideFile, f)),
                false => Some(stray(StrayKind::ForeignSideFile, f)),
            })
            .collect()
    }

    /// Descriptors, open for writing, of a removed file that had the path of a database. In another mount namespace the
    /// same path may have been another file's, so these are left out.
    fn nameless_databases(id: u32, files: &[OpenFile], path: &Path, now: FileId) -> Vec<Stray> {
        let was = |f: &&OpenFile| f.nameless && f.path == path && f.file != now && f.file.device == now.device;
        let mut candidates = files.iter().filter(was).peekable();
        if candidates.peek().is_none() || !shares_mounts(id) {
            return Vec::new();
        }
        candidates.filter(|f| is_writable(id, f.descriptor)).map(|f| stray(StrayKind::NamelessDatabase, f)).collect()
    }

    fn shares_mounts(id: u32) -> bool {
        let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt")).ok();
        let theirs = namespace(&id.to_string());
        theirs.is_some() && theirs == namespace("self")
    }

    fn is_writable(id: u32, descriptor: u32) -> bool {
        let info = fs::read_to_string(proc_path(id, &format!("fdinfo/{descriptor}"))).unwrap_or_default();
        let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).and_then(|f| u32::from_str_radix(f.trim(), 8).ok());
        flags.is_some_and(|f| f & 0o3 != 0)
    }

    /// A line of `maps`.
    struct Mapping {
        range: String,
        executable: bool,
        inode: u64,
        path: PathBuf,
        nameless: bool,
    }

    /// Files that are mapped into a process; none for one that has ended.
    fn mappings(id: u32) -> Vec<Mapping> {
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

    fn describe(id: u32, uses: Vec<Use>, scanner: &mut Scanner, monitor: &Monitor) -> Result<Process> {
        let name = fs::read_to_string(proc_path(id, "comm")).unwrap_or_default().trim_end().to_owned();
        let program = fs::read_link(proc_path(id, "exe")).map(|l| parse_name(l.as_os_str()).0).unwrap_or_default();
        let mut process = Process { id, name, uses, libraries: Vec::new(), unread_libraries: 0 };
        let mut seen = HashSet::new();
        for mapping in mappings(id) {
            if !mapping.executable || !seen.insert((mapping.inode, mapping.path.clone())) {
                continue;
            }
            match scanner.look(id, &mapping, monitor)? {
                Look::Sqlite(build) => {
                    let is_program = mapping.path == program;
                    process.libraries.push(Library { path: mapping.path, build, is_program });
                }
                Look::Other => {}
                Look::Unread => process.unread_libraries += 1,
            }
        }
        Ok(process)
    }

    /// The databases and their side files: never opened here.
    fn protected(databases: &[PathBuf]) -> HashSet<FileId> {
        let all = databases.iter().flat_map(|d| [d.clone(), side_file(d, "-wal"), side_file(d, "-shm"), side_file(d, "-journal")]);
        all.filter_map(|p| id_of(&p)).collect()
    }

    /// What tells a file from the one it was.
    type Version = (FileId, i64, i64, u64);

    /// Reads each program file once, however many processes run it.
    struct Scanner {
        protected: HashSet<FileId>,
        known: HashMap<Version, Option<Build>>,
    }

    enum Look {
        Sqlite(Build),
        Other,
        Unread,
    }

    impl Scanner {
        fn look(&mut self, id: u32, mapping: &Mapping, monitor: &Monitor) -> Result<Look> {
            // By its path as the process sees it; where that leads elsewhere by now (an upgrade), as the program itself, or
            // through the mapping, for which the kernel wants more rights.
            let inside = mapping.path.strip_prefix("/").unwrap_or(&mapping.path);
            let ways = [proc_path(id, "root").join(inside), proc_path(id, "exe"), proc_path(id, "map_files").join(&mapping.range)];
            for way in ways {
                let Ok(m) = fs::metadata(&way) else { continue };
                // The device in `maps` is not the one that stat gives on some file systems (btrfs, overlays).
                if !m.is_file() || m.ino() != mapping.inode || self.protected.contains(&file_id(&m)) {
                    continue;
                }
                if let Some(build) = self.scan(&way, &m, monitor)? {
                    return Ok(build.map_or(Look::Other, Look::Sqlite));
                }
            }
            Ok(Look::Unread)
        }

        /// `None`: it can't be read.
        fn scan(&mut self, path: &Path, m: &Metadata, monitor: &Monitor) -> Result<Option<Option<Build>>> {
            let version = (file_id(m), m.mtime(), m.mtime_nsec(), m.size());
            if let Some(known) = self.known.get(&version) {
                return Ok(Some(known.clone()));
            }
            let Ok(mut file) = File::open(path) else { return Ok(None) };
            match sqlite_build::find(&mut file, || monitor.check()) {
                Ok(build) => {
                    self.known.insert(version, build.clone());
                    Ok(Some(build))
                }
                Err(e) => monitor.check().map(|()| None).map_err(|_| e),
            }
        }
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
}
