//! Making files last: exclusive creation, fsync, renaming without replacing, fsync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::error::{IoContext, Result};

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

/// Creates a folder with mode 0700 whatever the umask; an existing one is an error.
pub fn create_private_dir(path: &Path) -> Result<()> {
    fs::create_dir(path).context("create the folder", path)?;
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).context("set the mode of", path)?;
    Ok(())
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

/// Whether `path` is there and is no regular file: a fifo would never end, a symlink could lead anywhere.
pub fn is_irregular(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| !m.is_file())
}

/// Removes a file; one that is not there is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", path),
    }
}

/// Removes a folder and what is in it; one that is not there is fine.
pub fn remove_dir_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.context("remove", path),
    }
}
