//! What a failed command says: what happened, what to do next, and how it exits.
//!
//! ```text
//! error: no unit is called `web2`
//! hint: did you mean `web`? the units are api, web
//! ```

use std::fmt;
use std::io;

use envctl_runtime::control::client::ClientError;
use envctl_runtime::control::frame::WireError;

use crate::exit::Exit;

/// A command's failure.
#[derive(Debug)]
pub(crate) struct CliError {
    /// For programs: `usage`, `config`, `not-found`, `not-running`, `daemon`, `timeout`, `failed`, `io`, `untrusted`.
    pub(crate) code: &'static str,
    /// What happened; may have several lines (rendered config errors).
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// More to read, such as the last lines of a log, already harmless.
    pub(crate) details: Vec<String>,
    /// How to exit.
    pub(crate) exit: Exit,
    /// Whether nothing is said: the reader of our output has gone.
    pub(crate) quiet: bool,
    /// Whether `message` already begins with `error:`.
    pub(crate) rendered: bool,
}

// === impl CliError ===

impl CliError {
    /// A failure without a hint.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            details: Vec::new(),
            exit: Exit::Act,
            quiet: false,
            rendered: false,
        }
    }

    /// With what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With what to do next, if anything.
    pub(crate) fn hint_if(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// With another exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The end of a command whose reader has gone.
    pub(crate) fn reader_gone() -> Self {
        Self { quiet: true, exit: Exit::Ok, ..Self::new("io", "the reader of the output has gone") }
    }

    /// A usage error, from clap's own text: its first paragraph is the message, its tip the hint.
    pub(crate) fn usage(error: &clap::Error) -> Self {
        let text = error.to_string();
        let mut paragraphs = text.split("\n\n");
        let first = paragraphs.next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first).split_whitespace().collect::<Vec<_>>().join(" ");
        let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
        let hint = match (tip, usage) {
            (Some(tip), _) => tip.to_owned(),
            (None, Some(usage)) => format!("usage: {usage}; more with --help"),
            (None, None) => "`envctl --help` lists the commands".to_owned(),
        };
        Self::new("usage", message).hint(hint)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::reader_gone();
        }
        Self::new("io", error.to_string())
    }
}

impl From<serde_json::Error> for CliError {
    fn from(error: serde_json::Error) -> Self {
        if error.io_error_kind() == Some(io::ErrorKind::BrokenPipe) {
            return Self::reader_gone();
        }
        Self::new("io", error.to_string())
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let message = chain(&error);
        match error {
            ClientError::NotRunning { .. } => {
                Self::new("not-running", message).hint("`envctl up` starts the project and a daemon for it")
            }
            ClientError::Untrusted { path, .. } => Self::new("daemon", message)
                .hint(format!("nothing was sent; look at {} and remove it if it is not yours", path.display())),
            ClientError::Hung { pid } => Self::new("daemon", message).hint(hung_hint(pid)),
            ClientError::Version { .. } => Self::new("daemon", message)
                .hint("use the envctl that started it, or stop it with that one: `envctl daemon stop`"),
            ClientError::Refused(refusal) => Self::new(refused_code(&refusal.code), refusal.message)
                .hint_if(refusal.hint)
                .exit(if refusal.code == "timeout" { Exit::TimedOut } else { Exit::Act }),
            ClientError::Lost => Self::new("daemon", message)
                .hint("units run on; `envctl daemon logs` tells more, `envctl ps` how they are"),
            ClientError::Wire(WireError::TooLong { .. }) => {
                Self::new("daemon", message).hint("the environment is sent with `up`: is a variable in it very long?")
            }
            ClientError::Wire(_) => {
                Self::new("daemon", message).hint("`envctl version` and `envctl daemon status` show both versions")
            }
            ClientError::Io { .. } => Self::new("daemon", message),
        }
    }
}

/// An error with its sources, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

fn hung_hint(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!(
            "if it is stopped, `kill -CONT {pid}`; if it hangs, `kill -9 {pid}`: units run on and are taken over"
        ),
        None => "another program may hold the socket; `envctl show-state` prints its path".to_owned(),
    }
}

fn refused_code(code: &str) -> &'static str {
    match code {
        "not-found" => "not-found",
        "config" => "config",
        "timeout" => "timeout",
        "unsupported" | "shutting-down" => "daemon",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let error = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(error.quiet && error.exit == Exit::Ok);
        let error = CliError::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!error.quiet && error.exit == Exit::Act);
    }

    #[test]
    fn a_hung_daemon_is_named_with_what_can_be_done() {
        let error = CliError::from(ClientError::Hung { pid: Some(42) });
        assert!(error.message.contains("pid 42"));
        assert!(error.hint.is_some_and(|hint| hint.contains("kill -CONT 42")));
    }
}
