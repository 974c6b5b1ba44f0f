//! Why a child ended, and why it could not start. Typed: never derived from an actor library's text.

use std::fmt;

/// How a life of a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// An exit code of a process; 0 is clean.
    Code(i32),
    /// A signal ended the process.
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether a core was dumped.
        core: bool,
    },
    /// An actor ended normally, or because it was asked to.
    Normal,
    /// A supervisor ended by itself, in order (OTP's `shutdown`): it gave up, or its significant children were done.
    Shutdown,
    /// An actor was killed.
    Killed,
    /// An actor returned an error or panicked.
    Error(String),
    /// It is gone and nobody could see how.
    Unknown(String),
}

/// Why a child could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// What failed, naming the path and errno: fits after "failed to".
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// `false`: trying again cannot help (no such program), so it is not a crash loop.
    pub retry: bool,
}

// === impl ExitReason ===

impl ExitReason {
    /// OTP's "normal": `transient` children are not restarted after it.
    pub fn is_normal(&self) -> bool {
        matches!(self, Self::Code(0) | Self::Normal | Self::Shutdown)
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { number, core } => {
                write!(f, "signal {}", signal_name(*number))?;
                if *core { f.write_str(" (core dumped)") } else { Ok(()) }
            }
            Self::Normal => f.write_str("normal end"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::Killed => f.write_str("killed"),
            Self::Error(text) => write!(f, "error: {}", brief(text)),
            Self::Unknown(why) => write!(f, "unknown end ({why})"),
        }
    }
}

/// `SIGKILL` for 9; the number where the name is unknown.
pub fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::try_from(number - 1).ok().and_then(|at| NAMES.get(at)) {
        Some(name) => format!("SIG{name}"),
        None => format!("{number}"),
    }
}

/// The longest text of an error that is shown: a line or two of a terminal, whatever an actor puts into it.
const SHOWN_MAX_CHARS: usize = 400;

/// A text of others on one line, cut if it is long.
pub(crate) fn brief(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= SHOWN_MAX_CHARS && !text.contains(char::is_control) {
        return text.into();
    }
    let mut brief: String = text.chars().take(SHOWN_MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_MAX_CHARS).is_some() {
        brief.push('…');
    }
    brief.into()
}

// === impl StartError ===

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&brief(&self.message))
    }
}

impl std::error::Error for StartError {}
