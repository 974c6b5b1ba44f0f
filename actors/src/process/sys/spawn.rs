//! A process is made: clone(2) as vfork(2) does it, with a stack of its own for the child, and its pidfd at once.
//!
//! The child gets no copy of our descriptors either, only of those below the last that it needs: heart holds three for each
//! unit, and to copy and close them all for each unit was a tenth of the work of starting a thousand.
//!
//! Not posix_spawn(3): for each child that sets all 64 signals one by one, maps and unmaps a stack and asks three times for
//! our limits, 0.05 ms of a restart, and of what went wrong it tells the number but not the step
//! (`docs/decisions/0031-a-child-is-made-by-clone.md`).

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_char, c_int, c_void};

use super::child::reap_blocking;

/// The child's stack until it is its program. It runs [`Plan::carry_out`] and what that calls, no deeper.
const STACK_BYTES: usize = 32 * 1024;
/// What the stack's top must be divisible by, on every processor that is supported.
const STACK_ALIGN: usize = 16;
/// The highest number of a signal, on Linux.
const SIGNAL_MAX: c_int = 64;
/// The highest standard descriptor: what a plan does not mention of them stays as it is.
const STANDARD_MAX: RawFd = 2;
/// Of close_range(2): in a table of the caller's own, made for this.
const CLOSE_RANGE_UNSHARE: libc::c_uint = 2;
/// Of close_range(2): not now, but with the next exec.
const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
/// How long a set of signals is for the kernel.
const SET_BYTES: usize = 8;
/// The code of a child that could not become its program. Nobody sees it: the child is reaped here.
const NO_PROGRAM: c_int = 127;

/// Everything a child is told. All strings are checked for NUL before a child exists.
#[derive(Debug)]
pub struct Spawn {
    /// Absolute path of the program.
    pub program: CString,
    /// Arguments, the program's name first.
    pub argv: Vec<CString>,
    /// `NAME=value` strings; the whole environment.
    pub env: Vec<CString>,
    /// Working directory.
    pub dir: CString,
    /// Files opened in the child, lowest number first: everything else is close-on-exec.
    pub files: Vec<ChildFile>,
    /// Its soft limit of open files, if it is not to be ours; never above the hard one.
    pub open_files: Option<u64>,
    /// Which signals are given their default disposition back.
    pub signals: Signals,
}

/// One descriptor of a child.
#[derive(Debug)]
pub enum ChildFile {
    /// Opened by path in the child.
    Open {
        /// The number in the child.
        fd: RawFd,
        /// The path.
        path: CString,
        /// `O_…` flags.
        flags: c_int,
    },
    /// A copy of one of ours.
    Copy {
        /// The number in the child.
        fd: RawFd,
        /// Ours.
        from: RawFd,
    },
}

/// A set of signals, for their dispositions: ignoring one outlives execve(2), and a handler must not run in a child that
/// still shares our memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signals(u64);

/// A child that is its program, or was killed before it could be.
#[derive(Debug)]
pub struct Spawned {
    /// Its number, ours until it is reaped.
    pub pid: u32,
    /// Readable when it ends.
    pub pidfd: OwnedFd,
}

/// Why there is no child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnError {
    /// What could not be done.
    pub step: Step,
    /// Why not.
    pub errno: i32,
}

/// What is done for a child, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make a process.
    Clone,
    /// Give it a session of its own.
    Session,
    /// Give it descriptors of its own.
    Descriptors,
    /// Give it the file of this place in [`Spawn::files`].
    File(usize),
    /// Set its limit of open files.
    Limit,
    /// Enter its directory.
    Directory,
    /// Become its program.
    Exec,
}

/// What a child works with: read, and its last field written, by both, but never at the same time.
struct Plan<'a> {
    spawn: &'a Spawn,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// The highest of our descriptors that it needs.
    needed: RawFd,
    /// Whether it has our descriptors themselves at first; else it has copies of all of them.
    shares: bool,
    failed: Option<SpawnError>,
}

/// What rt_sigaction(2) takes. Not the C library's call: it refuses the two signals that it keeps for itself, and which a
/// parent's posix_spawn(3) leaves ignored.
#[derive(Default)]
#[repr(C)]
struct KernelAction {
    handler: usize,
    /// Flags, a restorer and a mask, in an order that differs between processors.
    rest: [u64; 3],
}

/// Every signal is blocked while this lives: none is to be handled by a child in our memory.
struct Quiet(libc::sigset_t);

/// Spawns a child in a session of its own, with an empty signal mask. Returns when it is its program, or cannot become it:
/// then there is no child, and no zombie either.
pub fn spawn(spawn: &Spawn) -> Result<Spawned, SpawnError> {
    let mut plan = Plan::new(spawn);
    match plan.make() {
        // Before Linux 5.9, and in containers that do not know close_range(2).
        Err(error) if error.step == Step::Descriptors => Plan { shares: false, ..plan }.make(),
        made => made,
    }
}

// === impl Signals ===

impl Signals {
    /// Every signal: for a program whose dispositions may change at any time.
    pub const ALL: Self = Self(u64::MAX);

    /// Those that are not at their default now: for a program that changes none of them any more.
    pub fn changed() -> Self {
        let is_changed = |signal: &c_int| {
            let mut now = KernelAction::default();
            // SAFETY: asks only, into a struct that is no smaller than the kernel's.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, *signal, ptr::null::<KernelAction>(), &mut now, SET_BYTES) };
            now.handler != libc::SIG_DFL
        };
        Self((1..=SIGNAL_MAX).filter(is_changed).fold(0, |set, signal| set | Self::bit(signal)))
    }

    fn bit(signal: c_int) -> u64 {
        1 << (signal - 1)
    }

    /// Gives them their default. SIGKILL and SIGSTOP, which have no other, are refused by the kernel.
    fn reset(self) {
        for signal in (1..=SIGNAL_MAX).filter(|signal| self.0 & Self::bit(*signal) != 0) {
            let default = KernelAction::default();
            let nowhere = ptr::null_mut::<KernelAction>();
            // SAFETY: all zeros is the default disposition, no handler and no flags, in a struct no smaller than the kernel's.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &default, nowhere, SET_BYTES) };
        }
    }
}

// === impl Plan ===

impl<'a> Plan<'a> {
    fn new(spawn: &'a Spawn) -> Self {
        let needed = spawn.files.iter().filter_map(ChildFile::source).fold(STANDARD_MAX, RawFd::max);
        Self { spawn, argv: pointers(&spawn.argv), env: pointers(&spawn.env), needed, shares: true, failed: None }
    }

    fn make(&mut self) -> Result<Spawned, SpawnError> {
        self.failed = None;
        let (pid, pidfd) = self.start().map_err(|error| Step::Clone.failed(&error))?;
        if let Some(failed) = self.failed {
            let _ = reap_blocking(pid);
            return Err(failed);
        }
        Ok(Spawned { pid, pidfd })
    }

    /// Makes the child and waits until it is its program or has given up.
    fn start(&mut self) -> io::Result<(u32, OwnedFd)> {
        let mut stack = Vec::<u8>::with_capacity(STACK_BYTES);
        let (mut pidfd, plan): (c_int, *mut Self) = (-1, self);
        let files = if self.shares { libc::CLONE_FILES } else { 0 };
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | files;
        let quiet = Quiet::begin()?;
        // SAFETY: the child runs on the upper end of `stack`, which outlives it as a user of our memory: CLONE_VFORK lets us
        // go on only when it has executed its program or ended. So it alone uses the plan meanwhile. Signals are blocked.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(STACK_BYTES);
            let top = top.sub(top.addr() % STACK_ALIGN).cast::<c_void>();
            libc::clone(carry_out, top, flags, plan.cast::<c_void>(), &raw mut pidfd)
        };
        let error = io::Error::last_os_error();
        drop(quiet);
        let Ok(pid) = u32::try_from(pid) else { return Err(error) };
        // SAFETY: the kernel has made this descriptor for us (CLONE_PIDFD), and nobody else knows it.
        Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }

    /// In the child: becomes the program, or says why not.
    ///
    /// It shares our memory and may be one of many threads' child: it must not allocate, lock or panic.
    fn carry_out(&self) -> SpawnError {
        let Spawn { program, dir, files, open_files, signals, .. } = self.spawn;
        signals.reset();
        // SAFETY: no pointers.
        if unsafe { libc::setsid() } < 0 {
            return Step::Session.failed_now();
        }
        // Ours as well until here: nothing may be opened or closed before.
        if self.shares && !own_descriptors(self.needed) {
            return Step::Descriptors.failed_now();
        }
        for (place, file) in files.iter().enumerate() {
            if !file.provide() {
                return Step::File(place).failed_now();
            }
        }
        if open_files.is_some_and(|soft| !limit_open_files(soft)) {
            return Step::Limit.failed_now();
        }
        // SAFETY: NUL-terminated strings, in NULL-terminated arrays, and a signal set of our own; all live until the exec.
        unsafe {
            if libc::chdir(dir.as_ptr()) < 0 {
                return Step::Directory.failed_now();
            }
            let mut none = MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
            libc::execve(program.as_ptr(), self.argv.as_ptr(), self.env.as_ptr());
        }
        Step::Exec.failed_now()
    }
}

extern "C" fn carry_out(plan: *mut c_void) -> c_int {
    // SAFETY: `Plan::start` passes its own plan and does not touch it before this process is gone from its memory.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    plan.failed = Some(plan.carry_out());
    NO_PROGRAM
}

// === impl ChildFile ===

impl ChildFile {
    /// Which of ours it is a copy of.
    fn source(&self) -> Option<RawFd> {
        match self {
            Self::Open { .. } => None,
            Self::Copy { from, .. } => Some(*from),
        }
    }

    /// In the child: puts the file at its number. `false`: errno says why not.
    fn provide(&self) -> bool {
        // SAFETY: the path is NUL-terminated; the numbers are the child's own, of which only those given are closed.
        unsafe {
            match *self {
                Self::Open { fd, ref path, flags } => {
                    // What is held at the number goes first: a full table has room again.
                    libc::close(fd);
                    let opened = libc::open(path.as_ptr(), flags, 0o600);
                    opened == fd || (opened >= 0 && libc::dup2(opened, fd) >= 0 && libc::close(opened) == 0)
                }
                Self::Copy { fd, from } if fd == from => libc::fcntl(fd, libc::F_SETFD, 0) >= 0,
                Self::Copy { fd, from } => libc::dup2(from, fd) >= 0,
            }
        }
    }
}

// === impl Step ===

impl Step {
    fn failed(self, error: &io::Error) -> SpawnError {
        SpawnError { step: self, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
    }

    fn failed_now(self) -> SpawnError {
        self.failed(&io::Error::last_os_error())
    }
}

// === impl SpawnError ===

impl From<SpawnError> for io::Error {
    fn from(error: SpawnError) -> Self {
        Self::from_raw_os_error(error.errno)
    }
}

// === impl Quiet ===

impl Quiet {
    fn begin() -> io::Result<Self> {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are filled by the calls before they are read.
        let failed = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())
        };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        // SAFETY: filled by the call, which succeeded.
        Ok(Self(unsafe { before.assume_init() }))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }
}

/// In the child: from here on its descriptors are not ours any more. It has none above `needed`, and those below end with its
/// exec, but for the standard ones and what it puts at other numbers.
fn own_descriptors(needed: RawFd) -> bool {
    // SAFETY: no pointers. Closes nothing of ours: the table is unshared first (close_range(2)).
    unsafe {
        let unshared = libc::syscall(libc::SYS_close_range, needed + 1, libc::c_uint::MAX, CLOSE_RANGE_UNSHARE) == 0;
        if unshared && needed > STANDARD_MAX {
            // Ours are all so; what a caller's shell or an embedding program has open may not be. Before Linux 5.11 it stays as it is.
            libc::syscall(libc::SYS_close_range, STANDARD_MAX + 1, needed, CLOSE_RANGE_CLOEXEC);
        }
        unshared
    }
}

/// In the child: the soft limit, as far as the hard one allows, which may have been changed from outside (prlimit(1)).
fn limit_open_files(soft: u64) -> bool {
    let mut limit = MaybeUninit::<libc::rlimit>::zeroed();
    // SAFETY: filled by the first call; read by the second.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) < 0 {
            return false;
        }
        let mut limit = limit.assume_init();
        limit.rlim_cur = soft.min(limit.rlim_max);
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
    }
}

/// What execve(2) takes: the strings, then NULL. They must outlive it.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// A command whose output comes back to us.
    fn told_by(command: &str, change: impl FnOnce(&mut Spawn)) -> Result<String, SpawnError> {
        let file = tempfile::tempfile().unwrap();
        let mut plan = Spawn {
            program: c"/bin/sh".into(),
            argv: vec![c"sh".into(), c"-c".into(), CString::new(command).unwrap()],
            env: vec![c"PATH=/usr/bin:/bin".into()],
            dir: c"/".into(),
            files: vec![ChildFile::Copy { fd: 1, from: file.as_raw_fd() }],
            open_files: None,
            signals: Signals::ALL,
        };
        change(&mut plan);
        let Spawned { pid, .. } = spawn(&plan)?;
        reap_blocking(pid).unwrap();
        let mut text = vec![0; 4096];
        let length = std::os::unix::fs::FileExt::read_at(&file, &mut text, 0).unwrap();
        text.truncate(length);
        Ok(String::from_utf8(text).unwrap().trim_end().to_owned())
    }

    fn children() -> String {
        std::fs::read_to_string("/proc/thread-self/children").unwrap()
    }

    #[test]
    fn a_child_leads_a_session_and_ignores_and_blocks_no_signal() {
        // Our own runtime ignores SIGPIPE.
        assert_ne!(Signals::changed(), Signals(0));
        for signals in [Signals::ALL, Signals::changed()] {
            let status = "sed -n 's/^Sig[BI][lg][kn]:.//p' /proc/self/status";
            let told = told_by(status, |plan| plan.signals = signals).unwrap();
            assert_eq!(told, ["0000000000000000"; 2].join("\n"), "{signals:?}");
        }
        let told = told_by(
            "read -r pid _ _ _ group session rest < /proc/self/stat; echo $(($pid - $group)) $(($pid - $session))",
            |_| {},
        );
        assert_eq!(told.unwrap(), "0 0");
    }

    #[test]
    fn what_is_blocked_while_a_child_is_made_is_so_no_more_afterwards() {
        told_by("true", |_| {}).unwrap();
        let mask = nix::sys::signal::SigSet::thread_get_mask().unwrap();
        assert!(!mask.contains(nix::sys::signal::Signal::SIGTERM));
    }

    #[test]
    fn a_child_that_cannot_become_its_program_is_no_child_and_says_at_which_step() {
        let failed = |step, errno| Err(SpawnError { step, errno });
        let program = |plan: &mut Spawn| plan.program = c"/nowhere".into();
        assert_eq!(told_by("", program), failed(Step::Exec, libc::ENOENT));
        assert_eq!(told_by("", |plan| plan.dir = c"/bin/sh".into()), failed(Step::Directory, libc::ENOTDIR));
        let file = |plan: &mut Spawn| {
            plan.files.push(ChildFile::Open { fd: 0, path: c"/nowhere/file".into(), flags: libc::O_RDONLY });
        };
        assert_eq!(told_by("", file), failed(Step::File(1), libc::ENOENT));
        assert_eq!(children(), "", "nobody is left to be reaped");
    }

    #[test]
    fn a_child_has_the_files_and_the_limit_that_it_was_given() {
        let open = ChildFile::Open { fd: 7, path: c"/dev/null".into(), flags: libc::O_RDONLY };
        let told = told_by("readlink /proc/$$/fd/7; ulimit -S -n", |plan| {
            plan.files.push(open);
            plan.open_files = Some(200);
        });
        assert_eq!(told.unwrap(), "/dev/null\n200");
        let told = told_by("ulimit -S -n; ulimit -H -n", |plan| plan.open_files = Some(u64::MAX)).unwrap();
        let (soft, hard) = told.split_once('\n').unwrap();
        assert_eq!(soft, hard, "never above the hard limit");
    }

    #[test]
    fn a_child_has_no_descriptor_of_ours_that_it_was_not_given() {
        let file = tempfile::tempfile().unwrap();
        let open = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(200)).unwrap();
        // No pipeline, whose pipe the shell would have as well; and not the last command, which it would become.
        assert_eq!(told_by("ls /proc/$$/fd; true", |_| {}).unwrap(), "0\n1\n2");
        // SAFETY: it was made here, and nobody else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(open) });
    }

    #[test]
    fn where_descriptors_cannot_be_unshared_the_child_gets_copies() {
        let (program, dir, signals) = (c"/bin/true".into(), c"/".into(), Signals::ALL);
        let files = vec![ChildFile::Open { fd: 0, path: c"/dev/null".into(), flags: libc::O_RDONLY }];
        let plan = Spawn { program, argv: vec![], env: vec![], dir, files, open_files: None, signals };
        let before = std::fs::read_link("/proc/self/fd/0").ok();
        let Spawned { pid, .. } = Plan { shares: false, ..Plan::new(&plan) }.make().unwrap();
        assert_eq!(reap_blocking(pid).unwrap(), Some(super::super::child::WaitStatus::Code(0)));
        assert_eq!(std::fs::read_link("/proc/self/fd/0").ok(), before, "ours is as it was");
    }

    #[test]
    fn many_threads_make_children_at_the_same_time() {
        let make =
            |number: usize| (0..25).all(|_| told_by(&format!("echo {number}"), |_| {}) == Ok(number.to_string()));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || make(number))).collect();
            assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        });
    }
}
