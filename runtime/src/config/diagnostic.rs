//! What is wrong with a configuration, where, and what to do about it.
//!
//! [`Findings`] collects while the files are read, so that one run shows every mistake; [`Diagnostics`] is what callers
//! get. The renderer writes plain text without colour and never lets a control character of the file reach a terminal.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::origin::{Files, Place};
use crate::spec::Position;

/// Most diagnostics kept: a person reads the first few, a hostile file must not fill memory.
pub const DIAGNOSTICS_MAX: usize = 100;

/// Longest part of a source line shown, in characters.
const LINE_CHARS_MAX: usize = 140;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is started.
    Error,
    /// It is told, and the project runs.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable name of the rule, for scripts: `unknown-key`, `cycle` …
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// Where it is.
    pub at: Option<Position>,
    /// The bytes it is about, in the file of `at`.
    pub span: Option<Range<usize>>,
    /// The other place, when two places contradict each other.
    pub first: Option<Position>,
    /// What to do; several lines if there is something to copy.
    pub hint: Option<String>,
}

/// A [`Diagnostic`] as clients see it. Additive only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiagnosticView {
    /// Name of the rule.
    pub code: String,
    /// `error` or `warning`.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The file.
    pub file: Option<PathBuf>,
    /// Line, from 1.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// What to do.
    pub hint: Option<String>,
}

/// The text of a file that diagnostics point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// Its path.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// Everything found, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// The findings.
    pub list: Vec<Diagnostic>,
    /// The files they point into.
    pub sources: Vec<SourceText>,
    /// Paths are shown relative to this directory.
    pub root: PathBuf,
    /// Findings left out because there were more than [`DIAGNOSTICS_MAX`].
    pub dropped: usize,
}

/// The collector.
#[derive(Debug)]
pub(super) struct Findings {
    /// The files read so far.
    pub(super) files: Files,
    root: PathBuf,
    list: Vec<Diagnostic>,
    errors: usize,
    dropped: usize,
    overflow: Diagnostic,
}

// === impl Diagnostic ===

impl Diagnostic {
    /// A finding without a place.
    pub(super) fn new(code: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        Self { code, severity, message: message.into(), at: None, span: None, first: None, hint: None }
    }

    /// Adds what to do.
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// The form for clients.
    pub fn view(&self) -> DiagnosticView {
        DiagnosticView {
            code: self.code.to_owned(),
            severity: self.severity,
            message: self.message.clone(),
            file: self.at.as_ref().map(|at| at.file.clone()),
            line: self.at.as_ref().map(|at| at.line),
            column: self.at.as_ref().map(|at| at.column),
            hint: self.hint.clone(),
        }
    }
}

// === impl Diagnostics ===

impl Diagnostics {
    /// One finding without any file.
    pub(super) fn single(root: &Path, diagnostic: Diagnostic) -> Self {
        Self { list: vec![diagnostic], sources: Vec::new(), root: root.to_path_buf(), dropped: 0 }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn shown(&self, position: &Position) -> String {
        let file = position.file.strip_prefix(&self.root).unwrap_or(&position.file);
        visible(&format!("{}:{}:{}", file.display(), position.line, position.column))
    }

    fn render(&self, f: &mut fmt::Formatter<'_>, diagnostic: &Diagnostic) -> fmt::Result {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", visible(&diagnostic.message))?;
        let width = diagnostic.at.as_ref().map_or(1, |at| at.line.to_string().len());
        if let Some(at) = &diagnostic.at {
            writeln!(f, "{:width$}--> {}", "", self.shown(at))?;
            self.render_line(f, at, diagnostic.span.as_ref(), width)?;
        }
        if let Some(first) = &diagnostic.first {
            writeln!(f, "{:width$} = first: {}", "", self.shown(first))?;
        }
        if let Some(hint) = &diagnostic.hint {
            for (index, line) in hint.lines().enumerate() {
                let label = if index == 0 { "= hint:" } else { "       " };
                writeln!(f, "{:width$} {label} {}", "", visible(line))?;
            }
        }
        Ok(())
    }

    fn render_line(
        &self,
        f: &mut fmt::Formatter<'_>,
        at: &Position,
        span: Option<&Range<usize>>,
        width: usize,
    ) -> fmt::Result {
        let source = self.sources.iter().find(|source| source.path == at.file);
        let (Some(span), Some(line)) = (span, source.and_then(|source| source.text.split('\n').nth(at.line - 1)))
        else {
            return Ok(());
        };
        let source = source.map_or("", |source| source.text.as_str());
        let marked = source.get(span.clone()).unwrap_or_default().split('\n').next().unwrap_or_default();
        let marked = marked.trim_end().chars().count().max(1);
        let window = Window::of(line.trim_end_matches('\r'), at.column - 1, marked);
        writeln!(f, "{:width$} |", "")?;
        writeln!(f, "{} | {}", at.line, window.text)?;
        writeln!(f, "{:width$} | {:indent$}{}", "", "", "^".repeat(window.marked), indent = window.indent)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.render(f, diagnostic)?;
        }
        if self.dropped > 0 {
            writeln!(f, "\nand {} more", self.dropped)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

// === impl Findings ===

impl Findings {
    /// An empty collection for a project in `root`.
    pub(super) fn new(root: &Path) -> Self {
        let overflow = Diagnostic::new("", Severity::Error, "");
        Self { files: Files::default(), root: root.to_path_buf(), list: Vec::new(), errors: 0, dropped: 0, overflow }
    }

    /// The project's directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Notes an error at a place; the result takes a hint, and no error goes without.
    #[must_use = "an error is told with what to write instead: add a hint"]
    pub(super) fn error(&mut self, code: &'static str, at: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, code, at, message.into())
    }

    /// Notes a warning at a place.
    pub(super) fn warning(&mut self, code: &'static str, at: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, code, at, message.into())
    }

    /// Notes an error about two places; the later one is shown with its line. The result takes a hint.
    #[must_use = "an error is told with what to write instead: add a hint"]
    pub(super) fn conflict(
        &mut self,
        code: &'static str,
        first: &Place,
        at: &Place,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let first = self.files.position(first);
        let diagnostic = self.error(code, at, message);
        diagnostic.first = Some(first);
        diagnostic
    }

    /// Notes a finding that has no place.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.errors += usize::from(diagnostic.severity == Severity::Error);
        if self.list.len() == DIAGNOSTICS_MAX {
            self.dropped += 1;
            self.overflow = diagnostic;
            return &mut self.overflow;
        }
        self.list.push(diagnostic);
        self.list.last_mut().expect("invariant: just pushed")
    }

    /// Whether anything is an error.
    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether more would only be counted. Loops that search for hints stop here, or a hostile file buys minutes.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() == DIAGNOSTICS_MAX
    }

    /// What callers get.
    pub(super) fn finish(self) -> Diagnostics {
        self.finish_with_files().0
    }

    /// What callers get, and the files that were read.
    pub(super) fn finish_with_files(mut self) -> (Diagnostics, Files) {
        let order: Vec<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        let rank = |at: &Position| order.iter().position(|path| *path == at.file);
        self.list.sort_by_key(|found| found.at.as_ref().map(|at| (rank(at), at.line, at.column)));
        let sources =
            self.files.iter().map(|file| SourceText { path: file.path.clone(), text: file.text.clone() }).collect();
        let diagnostics = Diagnostics { list: self.list, sources, root: self.root, dropped: self.dropped };
        (diagnostics, self.files)
    }

    fn add(&mut self, severity: Severity, code: &'static str, at: &Place, message: String) -> &mut Diagnostic {
        let mut diagnostic = Diagnostic::new(code, severity, message);
        diagnostic.at = Some(self.files.position(at));
        diagnostic.span = Some(at.span.clone());
        self.push(diagnostic)
    }
}

/// The part of a source line that is shown.
struct Window {
    text: String,
    indent: usize,
    marked: usize,
}

// === impl Window ===

impl Window {
    fn of(line: &str, column: usize, marked: usize) -> Self {
        let length = line.chars().count();
        let skip = if length <= LINE_CHARS_MAX { 0 } else { column.saturating_sub(LINE_CHARS_MAX / 3) };
        let shown: String = line.chars().skip(skip).take(LINE_CHARS_MAX).map(one_column).collect();
        let room = (skip + shown.chars().count()).saturating_sub(column).max(1);
        let before = if skip > 0 { "… " } else { "" };
        let after = if length > skip + LINE_CHARS_MAX { " …" } else { "" };
        Self {
            text: format!("{before}{shown}{after}"),
            indent: column - skip + before.chars().count(),
            marked: marked.min(room),
        }
    }
}

/// A character of the file as one harmless column.
fn one_column(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// `text` with its control characters escaped.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}
