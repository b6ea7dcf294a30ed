//! Which processes have a database open, through which files, with which SQLite. Linux tells it in `/proc`; elsewhere
//! nobody is asked.
//!
//! Files are compared by device and inode as the kernel gives them for each descriptor, never by path: a container or a
//! mount namespace has other paths for the same file. Nothing that could be a database is opened: closing it would drop
//! the locks of whoever has it open in this process.

#[cfg(target_os = "linux")]
mod libraries;
#[cfg(target_os = "linux")]
mod platform;
#[cfg(target_os = "linux")]
mod proc;

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
