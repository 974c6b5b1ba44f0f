//! Where things stand in the files: byte places while reading, lines and columns for people.
//!
//! Every value keeps its [`Place`] from the parser to the last check, so that no error is without its line.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::spec::{Origin, Position};

/// Distance between the marks at which characters have been counted. It bounds the cost of a column in a file that is one
/// endless line.
const MARK_BYTES: usize = 1024;

/// A range of bytes in one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Index into [`Files`].
    pub(super) file: usize,
    /// Bytes in that file.
    pub(super) span: Range<usize>,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Its place.
    pub(super) at: Place,
}

/// The files that were read, in order of precedence.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    list: Vec<SourceFile>,
}

/// One file with what is needed to find lines and columns quickly.
#[derive(Debug, Clone)]
pub(super) struct SourceFile {
    /// Its path.
    pub(super) path: PathBuf,
    /// Its text; where it is not UTF-8, with replacement characters from the first bad byte on.
    pub(super) text: String,
    line_starts: Vec<usize>,
    marks: Vec<usize>,
}

// === impl Files ===

impl Files {
    /// Adds a file and returns its index.
    pub(super) fn add(&mut self, path: &Path, text: String) -> usize {
        self.list.push(SourceFile::new(path.to_path_buf(), text));
        self.list.len() - 1
    }

    /// All files.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SourceFile> {
        self.list.iter()
    }

    /// The project's own file: the last one that is no `.env` file.
    pub(super) fn main(&self) -> Option<usize> {
        self.list.iter().rposition(|file| file.path.extension().is_some_and(|ending| ending == "toml"))
    }

    /// The place as people count it.
    pub(super) fn position(&self, place: &Place) -> Position {
        let file = &self.list[place.file];
        let (line, column) = file.line_column(place.span.start);
        Position { file: file.path.clone(), line, column }
    }

    /// The place as the origin of a value.
    pub(super) fn origin(&self, place: &Place) -> Origin {
        Origin::File(self.position(place))
    }

    /// The text at a place, as it was written.
    pub(super) fn slice(&self, place: &Place) -> &str {
        self.list[place.file].text.get(place.span.clone()).unwrap_or_default()
    }

    /// The part of `place` where `needle` is written, or all of it if escapes hide the text.
    pub(super) fn within(&self, place: &Place, needle: &str) -> Place {
        self.find(place, needle).unwrap_or_else(|| place.clone())
    }

    /// The first part of `place` where `needle` is written.
    pub(super) fn find(&self, place: &Place, needle: &str) -> Option<Place> {
        let start = place.span.start + self.slice(place).find(needle)?;
        Some(Place { file: place.file, span: start..start + needle.len() })
    }
}

// === impl SourceFile ===

impl SourceFile {
    fn new(path: PathBuf, text: String) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(ends).collect();
        let mut marks = vec![0];
        for chunk in text.as_bytes().chunks(MARK_BYTES) {
            let before = marks.last().copied().unwrap_or(0);
            marks.push(before + chars(chunk));
        }
        Self { path, text, line_starts, marks }
    }

    /// Line and column of a byte, from 1; the column in characters.
    pub(super) fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = match &self.text.as_bytes()[start..offset] {
            short if short.len() <= MARK_BYTES => chars(short),
            _ => self.chars_before(offset) - self.chars_before(start),
        };
        (line, column + 1)
    }

    fn chars_before(&self, offset: usize) -> usize {
        let mark = offset / MARK_BYTES;
        self.marks[mark] + chars(&self.text.as_bytes()[mark * MARK_BYTES..offset])
    }
}

/// Characters that begin in `bytes` of UTF-8.
fn chars(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}
