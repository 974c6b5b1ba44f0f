//! The exit codes: a published table, so that scripts can rely on it. Nothing else in the CLI writes a number.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Ok,
    /// There is something to act on: a failure, a usage error, a config error.
    Act,
    /// Interrupted, or quit on purpose.
    Interrupted,
    /// The time for waiting was over.
    TimedOut,
    /// The command of `exec` cannot be executed.
    NotExecutable,
    /// There is no such command for `exec`.
    NoCommand,
    /// Told to end by this signal, as process 1 of a container.
    Signalled(u8),
}

/// Every code with its meaning, as help and reference show it.
pub(crate) const TABLE: [(Exit, &str); 6] = [
    (Exit::Ok, "ok"),
    (Exit::Act, "something to act on: a failed unit, a usage error, a config error"),
    (Exit::Interrupted, "interrupted or quit on purpose (Ctrl-C of a foreground `up`, of `wait`, of `logs -f`)"),
    (Exit::TimedOut, "timed out waiting (`--wait-timeout`, `wait --timeout`)"),
    (Exit::NotExecutable, "the command of `exec` cannot be executed; otherwise `exec` has the command's own code"),
    (Exit::NoCommand, "the command of `exec` was not found"),
];

// === impl Exit ===

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Act => 1,
            Self::Interrupted => 2,
            Self::TimedOut => 124,
            Self::NotExecutable => 126,
            Self::NoCommand => 127,
            Self::Signalled(signal) => 128_u8.saturating_add(signal),
        }
    }

    /// [`Exit::Ok`] if so, else [`Exit::Act`].
    pub(crate) fn ok_if(fine: bool) -> Self {
        if fine { Self::Ok } else { Self::Act }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
