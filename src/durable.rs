//! Making files last: exclusive creation, fsync, renaming without replacing, fsync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};
use crate::open_here;

/// Creates `path` with mode 0600 whatever the umask; fails if anything has that name. Nothing is durable yet.
pub fn create_exclusive(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).context("create", path)?;
    set_mode(&file, 0o600).context("set the mode of", path)?;
    Ok(file)
}

/// Sets permission bits exactly; does nothing where there are none.
pub fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    #[cfg(not(unix))]
    let _ = (file, mode);
    Ok(())
}

/// As root, gives a file the owner of `like`, so that the program that uses it, as another user, can go on doing so. Nobody
/// else may give files away.
pub fn set_owner_like(file: &File, like: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::MetadataExt;
        let owner = like.metadata()?;
        std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    #[cfg(not(unix))]
    let _ = (file, like);
    Ok(())
}

/// Creates a folder with mode 0700 whatever the umask; an existing one is an error. Durable after [`sync_dir`] of the
/// folder it is in.
pub fn create_private_dir(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).context("create the folder", path)?;
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).context("set the mode of", path)?;
    Ok(())
}

/// Creates `path` and the folders above it that are missing, with the mode the umask leaves. Durable when it returns.
pub fn create_dir_all(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    create_dir_all(parent)?;
    match fs::create_dir(path) {
        // Another run was faster; its folder is as good as ours once it is durable.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other.context("create the folder", path)?,
    }
    sync_dir(parent)
}

/// The folder that `path` is in.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Writes a new file. Its bytes are durable when this returns, its name is so after [`sync_dir`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create_exclusive(path)?;
    let written = file.write_all(bytes).context("write", path).and_then(|()| file.sync_all().context("flush", path));
    if written.is_err() {
        // Half a file would be taken for a whole one. The failure that matters is the first.
        let _ = fs::remove_file(path);
    }
    written
}

/// Renames `from` to `to`, which must not exist. Durable after [`sync_dir`] of both folders.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let source = tempfile::TempPath::try_from_path(from).context("rename", from)?;
    source
        .persist_noclobber(to)
        .map_err(|e| {
            let cause = e.error;
            // Dropping a TempPath deletes its file; this one is not ours to delete.
            match e.path.keep() {
                Ok(_) => cause,
                Err(kept) => kept.error,
            }
        })
        .context("put in place", to)
}

/// Renames `from` over `to`. Durable after [`sync_dir`].
pub fn rename_over(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).context("put in place", to)
}

/// Moves `path` out of the way, to its own name with `suffix`, or if that is taken with a number after it: what was moved
/// aside before is nobody's to overwrite. Returns where it is. Durable after [`sync_dir`].
pub fn move_aside(path: &Path, suffix: &str) -> Result<PathBuf> {
    let named = |more: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.push(more);
        PathBuf::from(name)
    };
    let mut to = named("");
    for n in 2u32.. {
        match rename_new(path, &to) {
            Err(e) if e.io_kind() == Some(io::ErrorKind::AlreadyExists) => to = named(&format!("~{n}")),
            other => return other.map(|()| to),
        }
    }
    Ok(to)
}

/// Makes the names in `dir` durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(dir).and_then(|d| d.sync_all()).context("flush the folder", dir)?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// Whether anything has the name `path`, be it a link that leads nowhere. A name that can't be looked at is an error, not
/// absent: much is removed, or made anew, because something is not there.
pub fn is_there(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        found => found.context("look at", path).map(|_| true),
    }
}

/// Whether `path` is there and is nothing to be opened: see [`irregularity`].
pub fn is_irregular(path: &Path) -> bool {
    irregularity(path).is_some()
}

/// Why what is called `path` is not to be opened, as the end of a sentence that begins with it: a fifo would never end, a
/// symlink could lead anywhere, and a further name of a file that the application has open would cost it its locks.
pub fn irregularity(path: &Path) -> Option<&'static str> {
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() => Some("is not a regular file"),
        Ok(found) if open_here::by_another_name(&found) => Some(open_here::SAID),
        _ => None,
    }
}

/// Removes a file; one that is not there is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", path),
    }
}

/// Removes a folder and what is in it; one that is not there is fine. If something else has the name, that goes, and nothing
/// that it leads to: a file in the place of a working folder must not stand in the way for good.
pub fn remove_dir_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => remove_file(path),
        other => other.context("remove", path),
    }
}
