//! Whether this process has a file open under another name. To close any descriptor of a file drops all POSIX locks that the
//! process has on it (sqlite.org/howtocorrupt.html, 2.2): a further name (hard link) of a database that the application has
//! open must not be opened and closed by us, wherever it lies.

use std::fs::Metadata;

/// What is said of such a file, as the end of a sentence that begins with it.
pub const SAID: &str = "is no file of its own, but another name (hard link) of a file that this process has open";

/// Whether the file that `found` was seen of has more than one name, and this process has it open by one that no file of a
/// backups folder has. Costs nothing for files with one name. What is open by a name of ours is a copy that somebody reads.
#[cfg(unix)]
pub fn by_another_name(found: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    found.nlink() > 1 && descriptors::any_of((found.dev(), found.ino()))
}

#[cfg(not(unix))]
pub fn by_another_name(_: &Metadata) -> bool {
    // Windows locks belong to handles: closing another one is harmless.
    false
}

#[cfg(unix)]
mod descriptors {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use crate::backup_set::names;

    /// Where the system shows a process its descriptors. To look at an entry opens nothing.
    const LISTED: &str = if cfg!(any(target_os = "linux", target_os = "android")) { "/proc/self/fd" } else { "/dev/fd" };

    pub fn any_of(identity: (u64, u64)) -> bool {
        // Where nothing is listed (no /proc), nothing is known, and hard links are files like any others.
        let Ok(list) = fs::read_dir(LISTED) else { return false };
        list.flatten().map(|entry| entry.path()).any(|descriptor| {
            fs::metadata(&descriptor).is_ok_and(|m| m.is_file() && (m.dev(), m.ino()) == identity) && !is_ours(&descriptor)
        })
    }

    /// By the name that the file was opened with: another run of this process may be reading the copy, or another hard link
    /// of it in a snapshot of the backups folder. Where the system does not tell that name, it may be anybody's.
    fn is_ours(descriptor: &Path) -> bool {
        let Ok(opened) = fs::read_link(descriptor) else { return false };
        let name = opened.file_name().unwrap_or_default().to_string_lossy();
        // So a name looks that is no more.
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
        names::parse(name).is_some() || names::parse_in_use(name).is_some()
    }
}
