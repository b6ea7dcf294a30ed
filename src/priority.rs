//! Threads that give way: what they do can wait, and the application's threads and whoever holds a database still can't.

/// A third of the processor's time, beside one that does not give way.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// From here on, the calling thread gives way to others where there are fewer cores than work. It stays so: only for threads
/// that are ours and end with their work.
pub fn give_way() {
    // Being refused makes nothing wrong. On Linux this is about the calling thread, not about the process (nice(2)).
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICENESS);
}
