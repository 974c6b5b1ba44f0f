//! Who has come to heart, or will when its parent is killed: what heart did not start itself.

use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::AsFd;

use crate::process::identity::Stat;
use crate::process::procfs;
use crate::process::sys::child;

/// Descendants looked at in one go: more are a fork storm, which the next daemon's rounds end.
const DESCENDANTS_MAX: usize = 4096;

/// The children of one thread, orphans that came to it among them (proc_pid_task(5)).
///
/// The kernel's list is whole when the thread that reaps them reads it: nobody else takes anything out of it.
#[derive(Debug, Default)]
pub struct Offspring {
    /// Kept open: finding the file costs more than reading it, and is on the way of a restart.
    file: OnceCell<Option<File>>,
}

// === impl Offspring ===

impl Offspring {
    /// All of them. `None`: the kernel does not tell (it was built without CONFIG_PROC_CHILDREN).
    ///
    /// To be asked by the thread whose children they are.
    pub fn all(&self) -> Option<Vec<u32>> {
        let file = self.file.get_or_init(|| File::open("/proc/thread-self/children").ok()).as_ref()?;
        let text = procfs::read_open(file).ok()?;
        let pids = text.split(|byte| *byte == b' ').filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
        Some(pids.collect())
    }
}

/// Kills the descendants of a living process, the deepest last: a killed parent's children come to us, and are seen already.
pub(super) fn kill_descendants(of: u32) {
    let mut open = vec![of];
    let mut found = Vec::new();
    while let Some(parent) = open.pop().filter(|_| found.len() < DESCENDANTS_MAX) {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        for pid in children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
            let Ok(pidfd) = child::pidfd_open(pid) else { continue };
            // Checked after opening: from here on the descriptor cannot come to mean another process.
            if Stat::read(pid).is_some_and(|stat| stat.parent == parent) {
                found.push(pidfd);
                open.push(pid);
            }
        }
    }
    for pidfd in found {
        let _ = child::pidfd_signal(pidfd.as_fd(), nix::libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a child of the test's own thread")]
    fn the_open_file_tells_the_children_that_there_are_now() {
        let offspring = Offspring::default();
        assert_eq!(offspring.all(), Some(Vec::new()), "each test has a thread of its own");
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(offspring.all(), Some(vec![child.id()]));
        child.kill().unwrap();
        assert_eq!(offspring.all(), Some(vec![child.id()]), "who has ended is there until it is reaped");
        child.wait().unwrap();
        assert_eq!(offspring.all(), Some(Vec::new()));
    }
}
