//! The project: its root, its databases, its backups folder. Looks, but opens nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::durable;
use crate::error::{Code, Error, IoContext, Result};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Project {
    /// Absolute, symlinks resolved.
    pub root: PathBuf,
    /// Absolute; may not exist yet.
    pub backup_dir: PathBuf,
}

/// A database of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Relative to the root, `/` separated: how sets name it.
    pub source: String,
    /// The regular file itself, symlinks resolved.
    pub path: PathBuf,
}

/// What was found, and what is worth a sentence.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Sorted by source; each file once.
    pub databases: Vec<Database>,
    /// E.g. two names of one file.
    pub warnings: Vec<String>,
}

const HOME: &str = ".agentic-qe";
/// Where sets are, below the root, unless somebody says otherwise.
const BACKUPS: &str = ".agentic-qe/backups";
const PATTERNS: [&str; 2] = ["*.db", ".agentic-qe/*.db"];

impl Project {
    /// The project at `root`, else at `$AQE_PROJECT_ROOT`, else in the current folder. There is no search upwards.
    pub fn open(root: Option<&Path>, backup_dir: Option<&Path>) -> Result<Self> {
        let named =
            root.map(Path::to_path_buf).or_else(|| std::env::var_os("AQE_PROJECT_ROOT").filter(|v| !v.is_empty()).map(PathBuf::from));
        let root = match named {
            Some(path) => path,
            None => std::env::current_dir().context("find", Path::new("the current folder"))?,
        };
        let found = root.canonicalize().map_err(|e| {
            let e = Error::io(e, "open the project folder", &root);
            let code = e.code;
            e.wrap(code, "pass the folder that holds the databases as root (--root, $AQE_PROJECT_ROOT)")
        })?;
        if !found.metadata().context("look at", &found)?.is_dir() {
            return Err(Error::new(
                Code::IoError,
                format!("the project root {} is not a folder; pass the folder that holds the databases as root", root.display()),
            ));
        }
        let is_named = backup_dir.is_some();
        let backup_dir = found.join(backup_dir.unwrap_or(Path::new(BACKUPS)));
        if !is_named {
            require_inside(&found, &backup_dir)?;
        }
        let (given, home) = (backup_dir.canonicalize().unwrap_or_else(|_| backup_dir.clone()), found.join(HOME));
        if found.starts_with(&given) || home == given {
            let message = format!(
                "{} can't be the backups folder: the project's databases are there. Give backupDir (--backup-dir) a folder of its own",
                backup_dir.display()
            );
            return Err(Error::new(Code::InvalidArgValue, message));
        }
        Ok(Project { root: found, backup_dir })
    }

    /// The flags with which the command finds the same project and backups folder from any folder, quoted for a shell, each
    /// after a space.
    pub fn flags(&self) -> String {
        let backup_dir = (self.backup_dir != self.root.join(BACKUPS)).then(|| quoted(&self.backup_dir.display().to_string()));
        let backup_dir = backup_dir.map(|dir| format!(" --backup-dir {dir}")).unwrap_or_default();
        format!(" --root {}{backup_dir}", quoted(&self.root.display().to_string()))
    }

    /// What sets and notes made now say of whose they are: the root, where the backups folder lies outside it, since it may
    /// be that of other projects too. A folder inside the root moves with it, and nothing is said.
    pub fn mark(&self) -> Option<String> {
        let real = self.backup_dir.canonicalize().unwrap_or_else(|_| self.backup_dir.clone());
        (!real.starts_with(&self.root)).then(|| self.root.to_string_lossy().into_owned())
    }

    /// The other project that `mark` names. `None`: it is this one, nothing is said, or nothing is there any more: the
    /// project was moved.
    pub fn stranger<'m>(&self, mark: Option<&'m str>) -> Option<&'m str> {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        let is_another = |root: &Path| match root.canonicalize() {
            Ok(real) => real != self.root,
            Err(e) => !matches!(e.kind(), NotFound | NotADirectory),
        };
        mark.filter(|m| Path::new(m).is_absolute() && is_another(Path::new(m)))
    }

    /// The databases that `patterns` (paths or globs relative to the root) name; without patterns, `*.db` in the root and
    /// in `.agentic-qe/`. A path that names nothing is an error, a glob that matches nothing is not; nothing at all is
    /// `NO_DATABASES`.
    pub fn databases(&self, patterns: Option<&[String]>) -> Result<Discovery> {
        let mut found = BTreeMap::new();
        match patterns {
            None => PATTERNS.iter().try_for_each(|p| self.matches(p, &mut found))?,
            Some(patterns) => patterns.iter().try_for_each(|p| self.named(p, &mut found))?,
        }
        let discovery = one_name_each(found)?;
        if discovery.databases.is_empty() {
            return Err(self.nothing_found(patterns));
        }
        Ok(discovery)
    }

    /// Which databases of a set `patterns` mean; all of them without patterns.
    pub fn select(&self, patterns: Option<&[String]>) -> Result<Selection> {
        let wanted = |pattern: &String| {
            let inside = Path::new(pattern).strip_prefix(&self.root).unwrap_or(Path::new(pattern));
            let source = relative_source(inside).ok_or_else(|| self.outside(pattern))?;
            // What is no valid pattern can still be a name.
            let glob = GlobBuilder::new(&source).literal_separator(true).build().ok().map(|g| g.compile_matcher());
            Ok((source, glob))
        };
        Ok(Selection(patterns.map(|p| p.iter().map(wanted).collect::<Result<Vec<_>>>()).transpose()?))
    }

    fn outside(&self, pattern: &str) -> Error {
        let reason = if pattern.is_empty() { "is no path" } else { "is outside the project root" };
        Error::new(Code::InvalidArgValue, format!("databases: {pattern:?} {reason} ({}); use a path below the root", self.root.display()))
    }

    /// A folder above the root that looks like a project: what somebody may have meant who is in a folder of it.
    pub fn parent_project(&self) -> Option<&Path> {
        self.root.ancestors().skip(1).find(|a| a.join(HOME).is_dir())
    }

    fn nothing_found(&self, patterns: Option<&[String]>) -> Error {
        let looked = patterns.map_or_else(|| "*.db and .agentic-qe/*.db".to_owned(), |p| p.join(", "));
        let hint = match self.parent_project() {
            Some(parent) => format!("; {} has a {HOME} folder: did you mean --root {:?}?", parent.display(), parent.display().to_string()),
            None => "; pass the project's folder as root, or name the files with databases".to_owned(),
        };
        Error::new(Code::NoDatabases, format!("no databases found in {} (looked for {looked}){hint}", self.root.display()))
    }

    fn named(&self, pattern: &str, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
        let relative = Path::new(pattern);
        let inside = relative.strip_prefix(&self.root).unwrap_or(relative);
        let source = relative_source(inside).ok_or_else(|| self.outside(pattern))?;
        // A file of exactly that name wins over reading the name as a pattern.
        if durable::is_there(&self.root.join(&source))? {
            found.insert(source.clone(), regular_file(&self.root.join(&source))?);
            return Ok(());
        }
        if !source.contains(['*', '?', '[', '{']) {
            return Err(Error::new(
                Code::NoDatabases,
                format!("databases: {} does not exist; remove it from the list or correct the path", self.root.join(&source).display()),
            ));
        }
        self.matches(&source, found)
    }

    fn matches(&self, pattern: &str, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        let glob = glob
            .map_err(|e| Error::new(Code::InvalidArgValue, format!("databases: {pattern:?} is not a valid pattern: {e}")).caused_by(e))?;
        let fixed: Vec<&str> = pattern.split('/').take_while(|part| !part.contains(['*', '?', '[', '{'])).collect();
        let deep = pattern.contains("**");
        let depth = pattern.split('/').count() - fixed.len();
        self.walk(&fixed.join("/"), if deep { usize::MAX } else { depth }, &glob.compile_matcher(), found)
    }

    fn walk(&self, folder: &str, depth: usize, glob: &GlobMatcher, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
        let path = self.root.join(folder);
        if path == self.backup_dir {
            return Ok(());
        }
        let entries = match fs::read_dir(&path) {
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(()),
            other => other.context("list", &path)?,
        };
        for entry in entries {
            let entry = entry.context("list", &path)?;
            let name = entry.file_name();
            // As in a shell, a pattern does not match hidden files: temporary files of editors and of ourselves.
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let Some(name) = name.to_str() else {
                if entry.path().extension().is_none_or(|e| e != "db") {
                    continue;
                }
                let message =
                    format!("{} is not valid UTF-8; rename it, or name the databases to back up with databases", entry.path().display());
                return Err(Error::new(Code::IoError, message));
            };
            let source = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if glob.is_match(&source) {
                found.insert(source.clone(), regular_file(&entry.path())?);
            } else if depth > 1 && entry.file_type().context("look at", &entry.path())?.is_dir() {
                self.walk(&source, depth - 1, glob, found)?;
            }
        }
        Ok(())
    }

    /// The path that a set's `source` names, nothing followed; `BACKUP_DAMAGED` where no database can be.
    pub fn place(&self, source: &str) -> Result<PathBuf> {
        let refused = |why: &str| {
            let message = format!("the backup says that a database belongs at {source:?}, {why}; its metadata is not to be trusted");
            Error::new(Code::BackupDamaged, message)
        };
        let clean = relative_source(Path::new(source)).filter(|s| s == source && !s.contains('\0'));
        let path = self.root.join(clean.ok_or_else(|| refused("which is not below the project root"))?);
        let lower = source.to_lowercase();
        let never = ["-wal", "-shm", "-journal"].iter().any(|s| lower.ends_with(s));
        if never || path.starts_with(&self.backup_dir) { Err(refused("where none can be")) } else { Ok(path) }
    }

    /// Where a set's `source` lies: below the root, whatever it says, unless a symlink that is there leads elsewhere (see
    /// [`Project::note_of_link`]). The file may be missing; a symlink is followed to the regular file it names.
    pub fn locate(&self, source: &str) -> Result<PathBuf> {
        let path = self.place(source)?;
        let real = match path.symlink_metadata() {
            Ok(_) => regular_file(&path)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => through_folders(&path),
            Err(e) => return Err(Error::io(e, "look at", &path)),
        };
        if real.starts_with(self.backup_dir.canonicalize().unwrap_or_else(|_| self.backup_dir.clone())) {
            let message = format!("{source:?} leads into the backups folder {}, where no database can be", self.backup_dir.display());
            return Err(Error::new(Code::BackupDamaged, message));
        }
        Ok(real)
    }

    /// Where the database `source`, which is at `real`, is by way of a symlink: relative to the root if it is below it.
    /// `None`: no symlink leads there.
    pub fn note_of_link(&self, source: &str, real: &Path) -> Option<String> {
        if self.root.join(source) == real {
            return None;
        }
        let below = real.strip_prefix(&self.root).ok().and_then(relative_source);
        Some(below.unwrap_or_else(|| real.to_string_lossy().into_owned()))
    }

    /// Whether a file at `source` is found as a database where nobody names any.
    pub fn is_found_by_itself(&self, source: &str) -> bool {
        let is_hidden = source.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
        let matches = |p: &str| GlobBuilder::new(p).literal_separator(true).build().is_ok_and(|g| g.compile_matcher().is_match(source));
        !is_hidden && PATTERNS.iter().any(|p| matches(p))
    }
}

/// `path`, of a file that is not there, with the symlinks among its folders followed, as far as they lead anywhere.
fn through_folders(path: &Path) -> PathBuf {
    let there = path.ancestors().skip(1).find(|a| a.symlink_metadata().is_ok());
    let real = there.and_then(|a| Some((a.canonicalize().ok()?, path.strip_prefix(a).ok()?)));
    real.map_or_else(|| path.to_path_buf(), |(folder, rest)| folder.join(rest))
}

/// The usual backups folder must be in the project: a link in its place, which a checked-out project may bring along,
/// could lead to anybody's files.
fn require_inside(root: &Path, backup_dir: &Path) -> Result<()> {
    let mut there = backup_dir;
    while there != root && !durable::is_there(there)? {
        there = there.parent().unwrap_or(root);
    }
    let leads = match there.canonicalize() {
        Ok(real) if real.starts_with(root) => return Ok(()),
        Ok(real) => format!("out of the project, to {}", real.display()),
        // What leads nowhere yet could be made to lead anywhere.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => "nowhere".to_owned(),
        Err(e) => return Err(Error::io(e, "follow", there)),
    };
    let message = format!(
        "{} is a symbolic link, or is behind one, that leads {leads}; remove it, or name the folder for the backups with backupDir (--backup-dir), which may lie anywhere",
        backup_dir.display()
    );
    Err(Error::new(Code::InvalidArgValue, message))
}

/// Some of the databases of a set, by name or pattern.
pub struct Selection(Option<Vec<(String, Option<GlobMatcher>)>>);

impl Selection {
    /// Whether `source` is among them.
    pub fn has(&self, source: &str) -> bool {
        self.0.is_none() || self.names(source)
    }

    /// Whether `source` was asked for, rather than everything.
    pub fn names(&self, source: &str) -> bool {
        let Some(wanted) = &self.0 else { return false };
        wanted.iter().any(|(name, glob)| name == source || glob.as_ref().is_some_and(|g| g.is_match(source)))
    }
}

/// `text` as one word of a POSIX shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// `path` with `/` between plain components; `None` if it is absolute, empty, climbs, or is not UTF-8.
fn relative_source(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for c in path.components() {
        match c {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn regular_file(path: &Path) -> Result<PathBuf> {
    let real = path.canonicalize().map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound && path.symlink_metadata().is_ok() {
            let message = format!(
                "{} is a symbolic link that leads nowhere; remove it, put back what it leads to, or name the databases to back up with databases",
                path.display()
            );
            return Error::new(Code::IoError, message).caused_by(e);
        }
        Error::io(e, "follow", path)
    })?;
    let kind = real.metadata().context("look at", &real)?;
    if kind.is_file() {
        return Ok(real);
    }
    let what = if kind.is_dir() { "a folder" } else { "not a regular file" };
    Err(Error::new(
        Code::IoError,
        format!("{} is {what}, so it can't be a database; move it away, or name the databases to back up with databases", path.display()),
    ))
}

/// Drops further names of a file that was found already: one database must not be opened twice, nor restored twice.
fn one_name_each(found: BTreeMap<String, PathBuf>) -> Result<Discovery> {
    let mut discovery = Discovery::default();
    let mut by_file: BTreeMap<Identity, String> = BTreeMap::new();
    // Names that are the file itself come before symlinks to it.
    let (own, links): (Vec<_>, Vec<_>) = found.into_iter().partition(|(source, path)| path.ends_with(source));
    for (source, path) in own.into_iter().chain(links) {
        match by_file.entry(identity(&path)?) {
            std::collections::btree_map::Entry::Occupied(first) => {
                discovery.warnings.push(format!("{source} is the same file as {}; it is handled once, as {}", first.get(), first.get()));
            }
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(source.clone());
                discovery.databases.push(Database { source, path });
            }
        }
    }
    discovery.databases.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(discovery)
}

/// Device and inode where there are such; else the path.
type Identity = (u64, u64, PathBuf);

#[cfg(unix)]
fn identity(path: &Path) -> Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    let m = path.metadata().context("look at", path)?;
    Ok((m.dev(), m.ino(), PathBuf::new()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Result<Identity> {
    Ok((0, 0, path.to_path_buf()))
}
