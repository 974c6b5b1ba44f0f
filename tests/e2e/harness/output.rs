//! A command that has ended.

use std::time::Duration;

use serde_json::Value;

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// The words after `envctl`.
    pub(crate) command: String,
    /// Exit code, unless a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// From start to exit.
    pub(crate) took: Duration,
}

// === impl Output ===

impl Output {
    /// Fails the test unless the exit code is 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "`{}` ended otherwise:\n{self}", self.command);
        self.without_panic()
    }

    /// Fails the test if the program panicked, whatever it returned.
    #[track_caller]
    pub(crate) fn without_panic(self) -> Self {
        assert!(!self.stderr.contains("panicked at"), "`{}` panicked:\n{self}", self.command);
        self
    }

    /// Standard output as exactly one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("`{}` printed no single JSON document: {error}\n{self}", self.command))
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| {
                    panic!("`{}` printed a line that is no JSON: {error}\n{line}", self.command)
                })
            })
            .collect()
    }

    /// Fails the test unless standard error contains every one of `texts`.
    #[track_caller]
    pub(crate) fn complains(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.stderr.contains(text), "`{}` does not mention {text:?}:\n{self}", self.command);
        }
        self
    }

    /// Fails the test unless standard output contains every one of `texts`.
    #[track_caller]
    pub(crate) fn says(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.stdout.contains(text), "`{}` does not say {text:?}:\n{self}", self.command);
        }
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "code {:?} signal {:?} after {:?}", self.code, self.signal, self.took)?;
        write!(f, "--- stdout\n{}--- stderr\n{}---", self.stdout, self.stderr)
    }
}
