//! Which lines are wanted by what is in them.

use super::pattern::Pattern;
use super::splitter::Line;
use super::structured::{Level, has_field, level_of};

/// What a line must hold; the default takes every line. All that is given must hold. A line longer than
/// [`super::LINE_MAX_BYTES`] is looked at in pieces of that length, as it is handed out.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The line has the pattern.
    pub pattern: Option<Pattern>,
    /// The line must *not* have the pattern.
    pub invert: bool,
    /// The line is a record of at least this level. A line without a level is not.
    pub level: Option<Level>,
    /// The line is a record with each of these fields. A line that is no record is not.
    pub fields: Vec<(String, String)>,
}

// === impl Filter ===

impl Filter {
    /// Whether every line is taken.
    pub fn is_open(&self) -> bool {
        self.pattern.is_none() && self.level.is_none() && self.fields.is_empty()
    }

    /// Whether this line is wanted.
    pub fn takes(&self, line: &Line) -> bool {
        let bytes = &line.bytes;
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_in(bytes) != self.invert)
            && self.level.is_none_or(|least| level_of(bytes).is_some_and(|level| level >= least))
            && self.fields.iter().all(|(key, value)| has_field(bytes, key, value))
    }

    /// The pattern that every wanted line has.
    pub(super) fn required(&self) -> Option<&Pattern> {
        self.pattern.as_ref().filter(|_| !self.invert)
    }
}
