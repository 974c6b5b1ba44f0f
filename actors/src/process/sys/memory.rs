//! The memory of a process that lives for days and works in bursts.
//!
//! glibc gives each thread an arena of its own, and keeps in each what a burst once needed: with 500 units that was two
//! thirds of the daemon's memory. One arena is enough for threads that mostly wait (mallopt(3), malloc_trim(3)). And of a
//! program's code more than half is needed only to start with: it stays mapped until somebody lets go of it, and counts as
//! ours. Does nothing in a program that has not asked for it by [`keep_small`]: an embedding one decides for itself. Never
//! frees anything that is in use.

use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{PF_W, PT_LOAD, c_int, c_void, dl_phdr_info, size_t};

/// Larger blocks are mapped, and given back when they are freed; naming a threshold also keeps glibc from raising it.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: i32 = 64 * 1024;
/// So much that is free at the end of the heap is given back at once.
#[cfg(target_env = "gnu")]
const TRIM_FROM: i32 = 256 * 1024;

/// Whether this program prefers little memory.
static KEEPS_SMALL: AtomicBool = AtomicBool::new(false);

/// A part of this program that is never written to.
struct Part {
    start: usize,
    bytes: usize,
}

/// For a program that prefers little memory to many threads in the allocator. To be called before it has threads.
pub fn keep_small() {
    KEEPS_SMALL.store(true, Ordering::Relaxed);
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, MAPPED_FROM), (libc::M_TRIM_THRESHOLD, TRIM_FROM)]
    {
        // SAFETY: takes two numbers and keeps no pointer; an unknown parameter is refused.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// After a burst: gives back what the heap holds and nobody uses, and lets go of code. What is used next comes back from the
/// page cache, some 0.1 ms for all that a restart of a unit runs through.
pub fn give_back() {
    if !KEEPS_SMALL.load(Ordering::Relaxed) {
        return;
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: only reads and writes the allocator's own books, under its lock.
    unsafe {
        libc::malloc_trim(0);
    }
    for Part { start, bytes } in unwritten_parts() {
        // SAFETY: the range is a whole segment of our own file that is mapped privately and without PROT_WRITE, and that no
        // relocation changes: whatever is read from it next comes from the file again, the same (madvise(2)).
        unsafe { libc::madvise(start as *mut c_void, bytes, libc::MADV_DONTNEED) };
    }
}

/// Code and constants of this program, by its own headers (elf(5)): segments to be loaded that are not for writing.
fn unwritten_parts() -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    // SAFETY: the callback is called before this returns, with our vector, which nobody else has.
    unsafe { libc::dl_iterate_phdr(Some(take_parts), (&raw mut parts).cast()) };
    parts
}

/// Takes the parts of the first object, which is the program itself (dl_iterate_phdr(3)), and asks for no other.
unsafe extern "C" fn take_parts(object: *mut dl_phdr_info, _: size_t, parts: *mut c_void) -> c_int {
    // SAFETY: the C library hands out a valid object for the time of this call, and what `unwritten_parts` gave it.
    let (object, parts) = unsafe { (&*object, &mut *parts.cast::<Vec<Part>>()) };
    // SAFETY: so many headers are there, mapped for as long as the program is.
    let headers = unsafe { slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    let page = page_size();
    for header in headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_flags & PF_W == 0) {
        let from = (object.dlpi_addr + header.p_vaddr) as usize;
        let start = from & !(page - 1);
        parts.push(Part { start, bytes: from + header.p_memsz as usize - start });
    }
    1
}

fn page_size() -> usize {
    // SAFETY: takes a number and gives one.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("invariant: every system has pages")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kilobytes of this program's code that are mapped (proc_pid_smaps(5)).
    fn code_kib() -> u64 {
        let program = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let is_code = |line: &str| line.contains(" r-xp ") && line.ends_with(program.to_str().unwrap());
        let code = maps.lines().skip_while(|line| !is_code(line));
        let resident = code.skip(1).find_map(|line| line.strip_prefix("Rss:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn code_is_let_go_only_where_that_was_asked_for_and_runs_on() {
        let before = code_kib();
        give_back();
        assert!(code_kib() >= before, "an embedding program's code was let go");
        keep_small();
        give_back();
        let after = code_kib();
        assert!(after < before, "{after} of {before} KiB are still mapped");
        assert!(unwritten_parts().len() > 1, "code, and constants");
    }
}
