//! The caller's terminal while it belongs to a unit: raw, and as it was afterwards, in every way there is to leave.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use envctl_actors::process::WindowSize;
use envctl_actors::process::sys::terminal;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::modes::Modes;
use crate::error::CliError;

/// A terminal in raw mode; dropping it, also by a panic, puts it back.
pub(super) struct Screen {
    before: Termios,
    modes: Modes,
}

/// The terminal's size, or what is assumed of one that does not say.
pub(super) fn size() -> WindowSize {
    terminal::size_of(io::stdout().as_fd()).unwrap_or_default()
}

// === impl Screen ===

impl Screen {
    /// Every key goes to the unit from now on, Ctrl-C included.
    pub(super) fn enter() -> Result<Self, CliError> {
        let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).map_err(io::Error::from)?;
        Ok(Self { before, modes: Modes::default() })
    }

    /// Shows what the unit has written, as it is: it has been given this terminal.
    pub(super) fn show(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.modes.observe(bytes);
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing put back.
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(&self.modes.undo()).and_then(|()| stdout.flush());
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}
