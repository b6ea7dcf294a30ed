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
        list.flatten().any(|entry| is_anothers(&entry.path(), identity))
    }

    /// Whether a descriptor is of that file, and was opened by a name that is not one of ours: another run of this process may
    /// be reading the copy, or another hard link of it in a snapshot of the backups folder. Other threads close descriptors and
    /// get the same numbers anew meanwhile, so it is looked at until name and file belong together.
    fn is_anothers(descriptor: &Path, identity: (u64, u64)) -> bool {
        loop {
            let name = opened_as(descriptor);
            if !fs::metadata(descriptor).is_ok_and(|m| m.is_file() && (m.dev(), m.ino()) == identity) {
                return false;
            }
            if opened_as(descriptor) == name {
                // Without a name it was closed before and after; where the system tells no names, it may be anybody's.
                let unnamed = !LISTED.starts_with("/proc");
                return name.map_or(unnamed, |name| names::parse(&name).is_none() && names::parse_in_use(&name).is_none());
            }
        }
    }

    fn opened_as(descriptor: &Path) -> Option<String> {
        let opened = fs::read_link(descriptor).ok()?;
        let name = opened.file_name()?.to_string_lossy();
        // So a name looks that is no more.
        Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
    }
}
