//! The replaced system calls themselves, and the parked descriptors.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io::ErrorKind;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::ffi;

use super::unsafe_platform;
use crate::error::{Code, Error, Result, shortage};

/// A descriptor nobody uses, kept open because closing it could drop another library's locks.
struct Parked {
    device: libc::dev_t,
    inode: libc::ino_t,
    access: c_int,
    descriptor: c_int,
}

static PARKED: Mutex<Vec<Parked>> = Mutex::new(Vec::new());

thread_local! {
    static PRIVATE: Cell<bool> = const { Cell::new(false) };
    static OPEN_ERROR: Cell<c_int> = const { Cell::new(0) };
}

fn parked() -> MutexGuard<'static, Vec<Parked>> {
    PARKED.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn with_private_files<T>(f: impl FnOnce() -> T) -> T {
    struct Reset(bool);
    impl Drop for Reset {
        fn drop(&mut self) {
            PRIVATE.set(self.0);
        }
    }
    let _reset = Reset(PRIVATE.replace(true));
    f()
}

pub fn open_error() -> Option<std::io::Error> {
    let errno = OPEN_ERROR.get();
    (errno != 0).then(|| std::io::Error::from_raw_os_error(errno))
}

pub fn install(own_process: bool) -> Result<()> {
    // Alone in its process, the command does without these locks; but not for a reason that has nothing to do with them.
    let better_locks = match prove_locks() {
        Err(e) if e.code == Code::UnsafePlatform && own_process => false,
        proof => proof.map(|()| true)?,
    };
    // SAFETY: the VFS is found after initialisation and lives as long as the process; `xSetSystemCall` stores the
    // pointers we give it and they are functions of exactly the type SQLite calls through each name.
    unsafe {
        if ffi::sqlite3_initialize() != ffi::SQLITE_OK {
            return Err(unsafe_platform("SQLite could not be initialised"));
        }
        let vfs = ffi::sqlite3_vfs_find(c"unix".as_ptr());
        let Some(set) = vfs.as_ref().and_then(|v| v.xSetSystemCall) else {
            return Err(unsafe_platform("SQLite's unix VFS does not take system calls"));
        };
        let replace = |name: &CStr, call: *const ()| {
            let call = std::mem::transmute::<*const (), unsafe extern "C" fn()>(call);
            if set(vfs, name.as_ptr(), Some(call)) == ffi::SQLITE_OK {
                Ok(())
            } else {
                Err(unsafe_platform(&format!("SQLite refused a system call: {name:?}")))
            }
        };
        if better_locks {
            replace(c"fcntl", ofd_fcntl as *const ())?;
        }
        replace(c"close", parking_close as *const ())?;
        replace(c"open", reusing_open as *const ())
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod ofd {
    pub const SETLK: libc::c_int = libc::F_OFD_SETLK;
    pub const SETLKW: libc::c_int = libc::F_OFD_SETLKW;
    pub const GETLK: libc::c_int = libc::F_OFD_GETLK;

    /// The open-file-description form of a lock command; `None` for every other command.
    pub fn command(command: libc::c_int) -> Option<libc::c_int> {
        match command {
            libc::F_SETLK => Some(SETLK),
            libc::F_SETLKW => Some(SETLKW),
            libc::F_GETLK => Some(GETLK),
            _ => None,
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod ofd {
    pub const SETLK: libc::c_int = libc::F_SETLK;
    pub const GETLK: libc::c_int = libc::F_GETLK;

    pub fn command(_: libc::c_int) -> Option<libc::c_int> {
        None
    }
}

/// `kind`: its type differs between systems.
fn whole_file(kind: impl Into<libc::c_int>) -> libc::flock {
    // SAFETY: `flock` is plain integers, for which zero is a value; `l_pid` must be zero for these locks.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind.into() as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock
}

/// One descriptor takes a POSIX write lock, another asks for it the new way: it must see the conflict.
fn prove_locks() -> Result<()> {
    let file = tempfile::NamedTempFile::new().map_err(|e| Error::io(e, "make a file to try the locks on in", &std::env::temp_dir()))?;
    let proof = || -> std::io::Result<bool> {
        let other = File::options().read(true).write(true).open(file.path())?;
        let (mut posix, mut seen) = (whole_file(libc::F_WRLCK), whole_file(libc::F_WRLCK));
        // SAFETY: both descriptors are open and both locks are valid for the length of the calls.
        let (set, got) = unsafe {
            (libc::fcntl(file.as_file().as_raw_fd(), libc::F_SETLK, &mut posix), libc::fcntl(other.as_raw_fd(), ofd::GETLK, &mut seen))
        };
        if set != 0 || got != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(c_int::from(seen.l_type) != c_int::from(libc::F_UNLCK))
    };
    match proof() {
        Ok(true) => Ok(()),
        Ok(false) => Err(unsafe_platform("open-file-description locks don't see POSIX locks here")),
        Err(e) if e.kind() == ErrorKind::StorageFull || shortage(&e).is_some() => {
            Err(Error::io(e, "try the locks on a temporary file in", &std::env::temp_dir()))
        }
        Err(e) => Err(unsafe_platform(&format!(
            "open-file-description locks don't work here ({e}); they need Linux 3.15 or macOS, and a temporary folder whose file system has locks"
        ))),
    }
}

/// SQLite's `fcntl`. Every lock command becomes its open-file-description form.
///
/// SQLite calls this through a variadic prototype. On most ABIs a variadic pointer arrives where a third
/// parameter does; Apple's arm64 passes it on the stack, behind the eight register slots.
#[cfg(not(all(target_vendor = "apple", target_arch = "aarch64")))]
unsafe extern "C" fn ofd_fcntl(fd: c_int, command: c_int, arg: *mut c_void) -> c_int {
    // SAFETY: SQLite's own arguments, passed on.
    unsafe { forward_fcntl(fd, command, arg) }
}

#[cfg(all(target_vendor = "apple", target_arch = "aarch64"))]
#[allow(clippy::too_many_arguments)]
unsafe extern "C" fn ofd_fcntl(
    fd: c_int,
    command: c_int,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    _: usize,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: SQLite's own arguments, passed on.
    unsafe { forward_fcntl(fd, command, arg) }
}

unsafe fn forward_fcntl(fd: c_int, command: c_int, arg: *mut c_void) -> c_int {
    match ofd::command(command) {
        // SAFETY: for a lock command SQLite passes a pointer to a `flock`; `l_pid` must be zero for these locks.
        Some(command) => unsafe {
            let lock = arg.cast::<libc::flock>();
            (*lock).l_pid = 0;
            libc::fcntl(fd, command, lock)
        },
        // SAFETY: any other command takes an integer or nothing, which the pointer-sized slot carries.
        None => unsafe { libc::fcntl(fd, command, arg) },
    }
}

/// SQLite's `close`.
unsafe extern "C" fn parking_close(fd: c_int) -> c_int {
    if !PRIVATE.get() && park(fd) {
        return 0;
    }
    // SAFETY: SQLite gives up this descriptor.
    unsafe { libc::close(fd) }
}

/// SQLite's `open`.
unsafe extern "C" fn reusing_open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    occupy_standard_descriptors();
    if !PRIVATE.get() && flags & (libc::O_EXCL | libc::O_TRUNC) == 0 {
        // SAFETY: SQLite passes a NUL-terminated path.
        if let Some(fd) = take_parked(unsafe { CStr::from_ptr(path) }, flags & libc::O_ACCMODE) {
            OPEN_ERROR.set(0);
            return fd;
        }
    }
    // SAFETY: SQLite's own arguments, passed on.
    let fd = unsafe { libc::open(path, flags, mode) };
    OPEN_ERROR.set(if fd < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 });
    fd
}

pub fn occupy_standard_descriptors() {
    for standard in 0..=libc::STDERR_FILENO {
        // SAFETY: F_GETFD takes no argument and changes nothing, whatever the number is.
        if unsafe { libc::fcntl(standard, libc::F_GETFD) } >= 0 {
            continue;
        }
        // The lowest free number is this one, unless another thread is faster. If there is no `/dev/null`, SQLite
        // refuses a low descriptor by itself.
        // SAFETY: a NUL-terminated path; a descriptor that came out higher is ours and closed again.
        unsafe {
            let fd = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            if fd > libc::STDERR_FILENO {
                libc::close(fd);
            }
        }
    }
}

fn fstat(fd: c_int) -> Option<libc::stat> {
    // SAFETY: `stat` is plain integers, for which zero is a value; the kernel fills it in.
    unsafe {
        let mut s: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &mut s) == 0).then_some(s)
    }
}

/// Closes parked descriptors whose file has no name left: nothing can lock or reopen it by name any more.
fn drop_nameless(list: &mut Vec<Parked>) {
    list.retain(|p| {
        // What can't be looked at may still be somebody's.
        let keep = fstat(p.descriptor).is_none_or(|s| s.st_nlink > 0);
        if !keep {
            // SAFETY: a parked descriptor has no other owner.
            unsafe { libc::close(p.descriptor) };
        }
        keep
    });
}

pub fn close_nameless() {
    drop_nameless(&mut parked());
}

/// Unlocks `fd` and keeps it open for later; false if it may simply be closed (no regular file, or no name left).
fn park(fd: c_int) -> bool {
    let mut list = parked();
    drop_nameless(&mut list);
    // Nobody can tell whether closing it would take somebody's locks: it stays open for good.
    let Some(s) = fstat(fd) else { return true };
    if s.st_mode & libc::S_IFMT != libc::S_IFREG || s.st_nlink == 0 {
        return false;
    }
    let mut unlock = whole_file(libc::F_UNLCK);
    // SAFETY: the descriptor is open and the lock valid for the call. Only this descriptor's own locks go.
    let access = unsafe {
        libc::fcntl(fd, ofd::SETLK, &mut unlock);
        libc::fcntl(fd, libc::F_GETFL) & libc::O_ACCMODE
    };
    list.push(Parked { device: s.st_dev, inode: s.st_ino, access, descriptor: fd });
    true
}

fn take_parked(path: &CStr, access: c_int) -> Option<c_int> {
    let mut list = parked();
    drop_nameless(&mut list);
    // SAFETY: `stat` is plain integers; the path is NUL-terminated.
    let s = unsafe {
        let mut s: libc::stat = std::mem::zeroed();
        (libc::stat(path.as_ptr(), &mut s) == 0).then_some(s)
    }?;
    // A standard one is of no use to SQLite, which would give it back and ask again for ever.
    let usable = |p: &Parked| p.descriptor > libc::STDERR_FILENO;
    let i = list.iter().position(|p| usable(p) && (p.device, p.inode, p.access) == (s.st_dev, s.st_ino, access))?;
    Some(list.swap_remove(i).descriptor)
}

/// Opens `path` read-only for raw reading, from a parked descriptor where there is one. The caller gives the
/// file back with [`release`] and never closes it otherwise.
pub fn open_parked(path: &Path) -> std::io::Result<ManuallyDrop<File>> {
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    occupy_standard_descriptors();
    let fd = match take_parked(&c_path, libc::O_RDONLY) {
        Some(fd) => fd,
        // O_NONBLOCK: a fifo that took the file's place must not hang us.
        // SAFETY: a NUL-terminated path and flags that need no mode.
        None => unsafe { libc::open(c_path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK) },
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a descriptor we have just come to own; ManuallyDrop keeps std from closing it.
    Ok(ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
}

/// Parks the descriptor of `file`, or closes it where that harms nobody. The file must not be used afterwards.
pub fn release(file: &mut ManuallyDrop<File>) {
    if !park(file.as_raw_fd()) {
        // SAFETY: called once, from the owner's drop; the descriptor was not parked.
        unsafe { ManuallyDrop::drop(file) };
    }
}
