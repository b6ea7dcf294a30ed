//! Linux: what each process has to do with the databases, and where its files are not the ones they should be.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::libraries::Scanner;
use super::proc::{self, Mapping, OpenFile, id_of};
use super::{FileId, Process, Stray, StrayKind, Survey, Use};
use crate::error::Result;
use crate::progress::Monitor;
use crate::sqlite::connection::side_file;

pub fn survey(databases: &[PathBuf], monitor: &Monitor) -> Result<Option<Survey>> {
    // A system without /proc, or with one that shows nothing, is one that does not tell.
    let ids = proc::ids();
    if ids.is_empty() {
        return Ok(None);
    }
    let mut survey = Survey::default();
    let mut scanner = Scanner::new(databases);
    for id in ids {
        monitor.check()?;
        match proc::open_files(id) {
            Ok(files) => {
                survey.examined += 1;
                let uses = uses(id, &files, databases);
                if !uses.is_empty() {
                    let (libraries, unread_libraries) = scanner.libraries(id, monitor)?;
                    survey.processes.push(Process { id, name: proc::name(id), uses, libraries, unread_libraries });
                }
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied && !proc::is_kernel_thread(id) => survey.unreadable += 1,
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    Ok(Some(survey))
}

pub fn uses_of(id: u32, databases: &[PathBuf]) -> Option<Vec<Use>> {
    proc::open_files(id).ok().map(|files| uses(id, &files, databases))
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
            let maps: &Vec<Mapping> = mapped.get_or_insert_with(|| proc::mappings(id));
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
    if candidates.peek().is_none() || !proc::shares_mounts(id) {
        return Vec::new();
    }
    candidates.filter(|f| proc::is_writable(id, f.descriptor)).map(|f| stray(StrayKind::NamelessDatabase, f)).collect()
}
