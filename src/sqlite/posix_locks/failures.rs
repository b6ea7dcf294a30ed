//! Failed system calls that SQLite does not tell as such: it calls a page that can't be read (EIO) damage, and a journal
//! that can't be looked at absent. Three more system calls of its `unix` VFS only note, per thread, that they failed.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::sync::OnceLock;

use rusqlite::ffi;

type Reason = std::result::Result<(), String>;

thread_local! {
    static FAILED: Cell<c_int> = const { Cell::new(0) };
}

/// The last failure since this was asked, on this thread.
pub fn take() -> Option<io::Error> {
    let errno = FAILED.replace(0);
    (errno != 0).then(|| io::Error::from_raw_os_error(errno))
}

/// Installs the notes into our SQLite, once per process. They change nothing that a call does.
pub fn watch() -> Reason {
    static WATCHED: OnceLock<Reason> = OnceLock::new();
    WATCHED.get_or_init(install).clone()
}

fn install() -> Reason {
    // SAFETY: the VFS is found after initialisation and lives as long as the process; `xSetSystemCall` stores the pointers
    // we give it, and they are functions of exactly the type SQLite calls through each name. A name for which this build of
    // SQLite has no call is not used by it, and stays so.
    unsafe {
        if ffi::sqlite3_initialize() != ffi::SQLITE_OK {
            return Err("SQLite could not be initialised".into());
        }
        let vfs = ffi::sqlite3_vfs_find(c"unix".as_ptr());
        let Some((set, get)) = vfs.as_ref().and_then(|v| Some((v.xSetSystemCall?, v.xGetSystemCall?))) else {
            return Err("SQLite's unix VFS does not take system calls".into());
        };
        let replace = |name: &CStr, call: *const ()| {
            if get(vfs, name.as_ptr()).is_none() {
                return Ok(());
            }
            let call = std::mem::transmute::<*const (), unsafe extern "C" fn()>(call);
            match set(vfs, name.as_ptr(), Some(call)) {
                ffi::SQLITE_OK => Ok(()),
                _ => Err(format!("SQLite refused a system call: {name:?}")),
            }
        };
        replace(c"read", noting_read as *const ())?;
        replace(c"pread", noting_pread as *const ())?;
        replace(c"stat", noting_stat as *const ())
    }
}

/// Notes why a call failed, unless SQLite tries again or the answer is that there is nothing. `errno` stays as it is.
fn note(failed: bool) {
    if !failed {
        return;
    }
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    if !matches!(errno, libc::EINTR | libc::ENOENT | libc::ENOTDIR) {
        FAILED.set(errno);
    }
}

unsafe extern "C" fn noting_read(fd: c_int, buffer: *mut c_void, count: usize) -> isize {
    // SAFETY: SQLite's own arguments, passed on.
    let n = unsafe { libc::read(fd, buffer, count) };
    note(n < 0);
    n
}

unsafe extern "C" fn noting_pread(fd: c_int, buffer: *mut c_void, count: usize, offset: libc::off_t) -> isize {
    // SAFETY: SQLite's own arguments, passed on.
    let n = unsafe { libc::pread(fd, buffer, count, offset) };
    note(n < 0);
    n
}

unsafe extern "C" fn noting_stat(path: *const c_char, found: *mut libc::stat) -> c_int {
    // SAFETY: SQLite's own arguments, passed on.
    let result = unsafe { libc::stat(path, found) };
    note(result != 0);
    result
}
