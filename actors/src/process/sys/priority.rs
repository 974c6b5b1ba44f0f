//! The priority of a thread of ours.

/// `IOPRIO_WHO_PROCESS` and the idle class of ioprio_set(2), which the C library does not know.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_IDLE: libc::c_int = 3 << 13;

/// Makes the calling thread run, and use the disk, only when nobody else wants to: SCHED_IDLE (sched(7)) and the idle class of
/// ioprio_set(2). Needs no rights. What the kernel refuses stays as it was: such a thread is a worse neighbour, and no less right.
pub fn become_idle() {
    // SAFETY: `param` is a valid sched_param that lives for the call; 0 is the calling thread.
    unsafe {
        let param: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param);
    }
    // SAFETY: takes three integers and touches no memory; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_idle_thread_is_one_for_the_kernel_and_its_neighbours_are_not() {
        std::thread::spawn(|| {
            super::become_idle();
            let stat = std::fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
            // Not every kernel has this file.
            let policy = stat.lines().find(|line| line.starts_with("policy"));
            assert!(policy.is_none_or(|line| line.trim_end().ends_with(" 5")), "{policy:?}");
        })
        .join()
        .unwrap();
    }
}
