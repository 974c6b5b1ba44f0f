//! Everything that reaches the terminal: data on stdout, talk on stderr.
//!
//! The only place that knows whether there is a terminal and whether it wants colours. Texts from units or daemons go
//! through [`harmless`] first, so that none of them can drive the terminal; what was forgotten is caught by [`guarded`] on the way out.

pub(crate) mod color;
pub(crate) mod confirm;
pub(crate) mod json;
pub(crate) mod log_record;
pub(crate) mod logs;
pub(crate) mod progress;
pub(crate) mod screen;
pub(crate) mod table;

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use envctl_actors::log_stream::{is_harmless, sgr_length};
use serde::Serialize;

use crate::environment::Environment;
use crate::error::CliError;
use color::Paint;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal that can.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The command's two channels.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Whether stdout carries JSON.
    pub(crate) json: bool,
    /// How data is painted.
    pub(crate) data: Paint,
    /// How talk is painted.
    pub(crate) talk: Paint,
    /// Whether stderr is a terminal that can show a live block.
    pub(crate) live: bool,
    /// Whether stdout is a terminal that can be redrawn in place.
    pub(crate) screen: bool,
}

// === impl Output ===

impl Output {
    /// Looks at the terminal once.
    pub(crate) fn new(json: bool, choice: ColorChoice, environment: &Environment) -> Self {
        let terminal = io::stderr().is_terminal();
        let redraws = !json && !environment.ci && !environment.dumb;
        Self {
            json,
            data: paint(choice, io::stdout().is_terminal(), environment),
            talk: paint(choice, terminal, environment),
            live: terminal && redraws,
            screen: io::stdout().is_terminal() && redraws,
        }
    }

    /// Writes data to stdout.
    pub(crate) fn write(&self, text: &str) -> Result<(), CliError> {
        self.write_bytes(guarded(text).as_bytes())
    }

    /// Writes data to stdout as it is: the caller has made it harmless, or was asked not to.
    pub(crate) fn write_bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Writes one line of data to stdout.
    pub(crate) fn line(&self, text: &str) -> Result<(), CliError> {
        self.write(&format!("{text}\n"))
    }

    /// Writes a JSON object, or a line of a JSON stream, to stdout.
    pub(crate) fn object(&self, kind: &str, ok: bool, body: &impl Serialize) -> Result<(), CliError> {
        self.write(&json::line(kind, ok, body)?)
    }

    /// Says something on stderr. A closed stderr is nobody's problem.
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", guarded(text));
    }

    /// Warns on stderr.
    pub(crate) fn warn(&self, text: &str) {
        self.say(&format!("{} {text}", self.talk.yellow("warning:")));
    }

    /// Hints on stderr.
    pub(crate) fn hint(&self, text: &str) {
        self.say(&format!("{} {text}", self.talk.cyan("hint:")));
    }

    /// Tells a failure: people read stderr, programs the object on stdout.
    pub(crate) fn error(&self, error: &CliError) {
        if error.quiet {
            return;
        }
        if self.json {
            // Nothing more can be done if this cannot be written either.
            let _ = self.object("error", false, &json::ErrorBody::from(error));
        }
        let message = harmless(&error.message);
        if error.rendered {
            self.say(message.trim_end());
        } else {
            self.say(&format!("{} {message}", self.talk.red("error:")));
        }
        for detail in &error.details {
            self.say(&format!("  {detail}"));
        }
        if let Some(hint) = &error.hint {
            self.hint(&harmless(hint));
        }
    }
}

fn paint(choice: ColorChoice, terminal: bool, environment: &Environment) -> Paint {
    Paint::new(match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if environment.no_color => false,
        ColorChoice::Auto => environment.color_forced || (terminal && !environment.dumb),
    })
}

/// A text that cannot drive a terminal: control characters but newline and tab become visible, bidi overrides too.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(drives) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| if drives(c) { c.escape_unicode().to_string() } else { c.to_string() });
    Cow::Owned(escaped.collect())
}

/// As [`harmless`], but with colours, which are our own: the last look at everything that is written.
pub(crate) fn guarded(text: &str) -> Cow<'_, str> {
    let coloured = |at: usize| sgr_length(&text[at..]);
    if text.char_indices().all(|(at, c)| !drives(c) || coloured(at).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut guarded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if drives(c) { sgr_length(rest) } else { Some(c.len_utf8()) };
        match length {
            Some(length) => guarded.push_str(&rest[..length]),
            None => guarded.extend(c.escape_unicode()),
        }
        rest = &rest[length.unwrap_or(c.len_utf8())..];
    }
    Cow::Owned(guarded)
}

/// A cause, unless it says nothing that the reader did not do.
pub(crate) fn told(cause: Option<&str>) -> Option<&str> {
    cause.filter(|cause| *cause != "asked for")
}

fn drives(c: char) -> bool {
    c != '\n' && !is_harmless(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_cannot_drive_the_terminal() {
        let hostile = "a\u{1b}]0;title\u{7}\u{9b}2J\u{202e}b\tc\n";
        let text = harmless(hostile);
        assert!(!text.chars().any(drives), "{text:?}");
        assert!(text.ends_with("b\tc\n"));
        assert!(matches!(harmless("plain ä"), Cow::Borrowed("plain ä")));
    }

    #[test]
    fn what_is_written_keeps_its_colours_and_nothing_else_that_drives() {
        let ours = Paint::new(true).red("bad\tnews\n");
        assert!(matches!(guarded(&ours), Cow::Borrowed(_)));
        assert_eq!(
            guarded("\u{1b}[1mb\u{1b}[0m\u{1b}[2J\u{9b}1m\r\u{200b}"),
            "\u{1b}[1mb\u{1b}[0m\\u{1b}[2J\\u{9b}1m\\u{d}\\u{200b}"
        );
    }

    #[test]
    fn a_cause_that_says_nothing_is_not_told() {
        assert_eq!((told(Some("asked for")), told(Some("exited")), told(None)), (None, Some("exited"), None));
    }

    #[test]
    fn no_color_wins_over_the_terminal_and_the_option_over_both() {
        let environment = Environment { no_color: true, color_forced: true, ..Environment::default() };
        assert_eq!(paint(ColorChoice::Auto, true, &environment), Paint::new(false));
        assert_eq!(paint(ColorChoice::Always, false, &environment), Paint::new(true));
        let dumb = Environment { dumb: true, ..Environment::default() };
        assert_eq!(paint(ColorChoice::Auto, true, &dumb), Paint::new(false));
        assert_eq!(paint(ColorChoice::Auto, true, &Environment::default()), Paint::new(true));
        assert_eq!(paint(ColorChoice::Auto, false, &Environment::default()), Paint::new(false));
    }
}
