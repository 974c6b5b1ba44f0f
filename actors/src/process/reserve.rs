//! Descriptors kept back for the moment when there are no others: for a client that asks what is wrong, for a daemon that
//! must be started again.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, fcntl};

use super::sys::child;

/// They have numbers that a child is never promised: copies for children are made up there.
const FLOOR: i32 = 16;

/// Descriptors kept back. They lead to /dev/null; only their numbers matter.
#[derive(Debug)]
pub struct Reserve {
    size: usize,
    kept: Vec<OwnedFd>,
}

// === impl Reserve ===

impl Reserve {
    /// Keeps back as many as it can get, at most `size`.
    pub fn new(size: usize) -> Self {
        let mut this = Self { size, kept: Vec::new() };
        this.refill();
        this
    }

    /// Gives one up, so that whoever opens something next gets it. `false`: none is left.
    pub fn give_one(&mut self) -> bool {
        self.kept.pop().is_some()
    }

    /// Gives all up.
    pub fn give_all(&mut self) {
        self.kept.clear();
    }

    /// Keeps back again what can be got.
    pub fn refill(&mut self) {
        while self.kept.len() < self.size {
            let Ok(file) = File::open("/dev/null") else { return };
            let Ok(high) = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(FLOOR)) else { return };
            self.kept.extend(child::inherited(high));
        }
    }
}

/// Whether an error says that there are no descriptors left, in this process (`EMFILE`) or on this machine (`ENFILE`).
pub fn is_exhausted(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_can_be_kept_back_again() {
        let mut reserve = Reserve::new(2);
        assert!(reserve.give_one() && reserve.give_one());
        assert!(!reserve.give_one());
        reserve.refill();
        assert!(reserve.give_one());
    }
}
