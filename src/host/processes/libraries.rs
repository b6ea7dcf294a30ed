//! Which SQLite is in the memory of a process.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::proc::{self, Mapping, file_id, id_of, proc_path};
use super::{FileId, Library};
use crate::error::Result;
use crate::host::sqlite_build::{self, Build};
use crate::progress::Monitor;
use crate::sqlite::connection::side_file;

/// The databases and their side files: never opened here.
fn protected(databases: &[PathBuf]) -> HashSet<FileId> {
    let all = databases.iter().flat_map(|d| [d.clone(), side_file(d, "-wal"), side_file(d, "-shm"), side_file(d, "-journal")]);
    all.filter_map(|p| id_of(&p)).collect()
}

/// What tells a file from the one it was.
type Version = (FileId, i64, i64, u64);

/// Reads each program file once, however many processes run it.
pub(super) struct Scanner {
    protected: HashSet<FileId>,
    known: HashMap<Version, Option<Build>>,
}

enum Look {
    Sqlite(Build),
    Other,
    Unread,
}

impl Scanner {
    /// Will not open what could be one of `databases`.
    pub(super) fn new(databases: &[PathBuf]) -> Self {
        Scanner { protected: protected(databases), known: HashMap::new() }
    }

    /// Every SQLite in the process `id`, and how many mapped program files could not be read.
    pub(super) fn libraries(&mut self, id: u32, monitor: &Monitor) -> Result<(Vec<Library>, u32)> {
        let program = proc::program(id);
        let (mut libraries, mut unread) = (Vec::new(), 0);
        let mut seen = HashSet::new();
        for mapping in proc::mappings(id) {
            if !mapping.executable || !seen.insert((mapping.inode, mapping.path.clone())) {
                continue;
            }
            match self.look(id, &mapping, monitor)? {
                Look::Sqlite(build) => {
                    let is_program = mapping.path == program;
                    libraries.push(Library { path: mapping.path, build, is_program });
                }
                Look::Other => {}
                Look::Unread => unread += 1,
            }
        }
        Ok((libraries, unread))
    }

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
