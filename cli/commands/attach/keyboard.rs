//! What is typed at the caller's terminal, as it comes.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use envctl_actors::process::sys::child;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;

/// Standard input, waited for without a thread that would still read it when we are gone.
pub(super) struct Keyboard {
    terminal: AsyncFd<OwnedFd>,
}

// === impl Keyboard ===

impl Keyboard {
    pub(super) fn open() -> io::Result<Self> {
        let terminal = child::readable(io::stdin().as_fd().try_clone_to_owned()?)?;
        Ok(Self { terminal })
    }

    /// Waits for keys. 0 or an error: the terminal is gone. Cancel-safe.
    pub(super) async fn read(&self, keys: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.terminal.readable().await?;
            let terminal = self.terminal.get_ref();
            // The terminal is shared with whoever started us and stays blocking, so each read is asked for first.
            let waiting = poll(&mut [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)?;
            if waiting > 0 {
                return Ok(nix::unistd::read(terminal, keys)?);
            }
            ready.clear_ready();
        }
    }
}
