//! The heap of a process that lives for days and works in bursts.
//!
//! glibc gives each thread an arena of its own, and keeps in each what a burst once needed: with 500 units that was two
//! thirds of the daemon's memory. One arena is enough for threads that mostly wait (mallopt(3), malloc_trim(3)). Does
//! nothing where the C library is another one. Never frees anything that is in use.

/// Larger blocks are mapped, and given back when they are freed; naming a threshold also keeps glibc from raising it.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: i32 = 64 * 1024;
/// So much that is free at the end of the heap is given back at once.
#[cfg(target_env = "gnu")]
const TRIM_FROM: i32 = 256 * 1024;
/// Free memory inside the heap that is not worth a walk through it.
#[cfg(target_env = "gnu")]
const SLACK_BYTES: usize = 1024 * 1024;

/// For a program that prefers little memory to many threads in the allocator. To be called before it has threads.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, TRIM_FROM)]
    {
        // SAFETY: takes two numbers and keeps no pointer; an unknown parameter is refused.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// After a burst: gives back what the heap holds and nobody uses, if that is more than a little.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: both only read and write the allocator's own books, under its lock.
    unsafe {
        if libc::mallinfo2().fordblks > SLACK_BYTES {
            libc::malloc_trim(0);
        }
    }
}
