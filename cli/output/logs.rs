//! Log lines of several units as one stream, `name | line`, in the order they came.
//!
//! The files are read here, in this process: the daemon only says that they have grown. Memory is one entry per unit.

use std::path::PathBuf;

use envctl_actors::log_stream::{
    Entry, Filter, Follower, LINE_MAX_BYTES, Line, Lines, LogError, Position, Query, Reader, sanitize_line,
};

use super::Output;
use super::log_record::{Dropped, Origin};
use crate::error::{CliError, chain};

/// What to show of each unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// The last so many lines; none: all.
    pub(crate) tail: Option<usize>,
    /// The life before the present one.
    pub(crate) previous: bool,
    /// The life with this number, of the last run that had one.
    pub(crate) incarnation: Option<u32>,
    /// Which lines, by where they come from.
    pub(crate) query: Query,
    /// Which lines, by what is in them.
    pub(crate) filter: Filter,
}

/// How lines look.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    /// The bytes as they are, nothing else.
    pub(crate) raw: bool,
    /// With the time in front.
    pub(crate) timestamps: bool,
}

/// The logs of some units, merged.
#[derive(Debug)]
pub(crate) struct Tail {
    feeds: Vec<Feed>,
    origin: Origin,
    name_width: usize,
}

#[derive(Debug)]
struct Feed {
    unit: String,
    source: Source,
    head: Option<Entry>,
    time_ns: u64,
    /// What was lost since the last line.
    dropped: Dropped,
}

#[derive(Debug)]
enum Source {
    Follow(Box<Follower>),
    Once(Box<Lines>),
}

// === impl Tail ===

impl Tail {
    /// The logs in these directories as they are now; `follow`: and what comes.
    pub(crate) fn open(logs: &[(String, PathBuf)], selection: &Selection, follow: bool) -> Result<Self, CliError> {
        let mut feeds = Vec::new();
        for (unit, dir) in logs {
            let follower = open_one(Reader::open(dir), selection).map_err(|error| unreadable(unit, &error))?;
            let source =
                if follow { Source::Follow(Box::new(follower)) } else { Source::Once(Box::new(follower.into_lines())) };
            feeds.push(Feed { unit: unit.clone(), source, head: None, time_ns: 0, dropped: Dropped::NONE });
        }
        let name_width = logs.iter().map(|(unit, _)| unit.len()).max().unwrap_or(0);
        Ok(Self { feeds, origin: Origin::default(), name_width })
    }

    /// With what JSON tells of each line beside the line.
    pub(crate) fn from(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Only what comes from now on.
    pub(crate) fn from_now(logs: &[(String, PathBuf)]) -> Result<Self, CliError> {
        Self::open(logs, &Selection { tail: Some(0), ..Selection::default() }, true)
    }

    /// Shows at most `max` entries. `true`: there may be more.
    pub(crate) fn show(&mut self, output: &Output, look: Look, max: usize) -> Result<bool, CliError> {
        let mut text = Vec::new();
        let mut shown = 0;
        while shown < max {
            let Some((at, entry)) = self.next()? else { break };
            self.render(output, look, at, &entry, &mut text)?;
            shown += 1;
        }
        if !text.is_empty() {
            output.write_bytes(&text)?;
        }
        Ok(shown == max)
    }

    /// The oldest entry that has not been handed out.
    fn next(&mut self) -> Result<Option<(usize, Entry)>, CliError> {
        for feed in &mut self.feeds {
            feed.fill().map_err(|error| unreadable(&feed.unit, &error))?;
        }
        let ready = self.feeds.iter().enumerate().filter(|(_, feed)| feed.head.is_some());
        let Some((at, _)) = ready.min_by_key(|(_, feed)| feed.time_ns) else { return Ok(None) };
        Ok(self.feeds[at].head.take().map(|entry| (at, entry)))
    }

    fn render(
        &mut self,
        output: &Output,
        look: Look,
        at: usize,
        entry: &Entry,
        text: &mut Vec<u8>,
    ) -> Result<(), CliError> {
        let (bytes, lines, fate) = match entry {
            Entry::Line(line) => return self.render_line(output, look, at, line, text),
            Entry::Gap { bytes, lines, .. } => (*bytes, Some(*lines), "the disk did not take them"),
            Entry::Skipped { bytes, lines } => {
                (*bytes, lines.map(|[out, err]| out + err), "deleted before they were read")
            }
            Entry::Started { .. } | Entry::Ended { .. } => return Ok(()),
        };
        let feed = &mut self.feeds[at];
        feed.dropped = feed.dropped.and(bytes, lines);
        output.warn(&format!("log of {}: {}: {fate}", feed.unit, skipped(bytes, lines)));
        Ok(())
    }

    fn render_line(
        &mut self,
        output: &Output,
        look: Look,
        at: usize,
        line: &Line,
        text: &mut Vec<u8>,
    ) -> Result<(), CliError> {
        let feed = &mut self.feeds[at];
        let dropped = std::mem::replace(&mut feed.dropped, Dropped::NONE);
        if output.json {
            text.extend(self.origin.line(&feed.unit, line, dropped)?.into_bytes());
        } else if look.raw {
            text.extend(&line.bytes);
            text.extend((!line.partial).then_some(b'\n'));
        } else {
            let unit = self.feeds[at].unit.as_str();
            let paint = output.data;
            let time = if look.timestamps { format!("{} ", paint.dim(&clock(line.time_ns))) } else { String::new() };
            let shown = sanitize_line(&line.bytes, paint.is_on());
            // A piece of a line that goes on in the next one.
            let more =
                if line.bytes.len() >= LINE_MAX_BYTES && line.partial { paint.dim(" …") } else { String::new() };
            text.extend(format!("{time}{} {shown}{more}\n", self.prefix(output, unit)).into_bytes());
        }
        Ok(())
    }

    fn prefix(&self, output: &Output, unit: &str) -> String {
        output.data.name(unit, &format!("{unit:width$} |", width = self.name_width))
    }
}

// === impl Feed ===

impl Feed {
    fn fill(&mut self) -> Result<(), LogError> {
        if self.head.is_none() {
            self.head = match &mut self.source {
                Source::Follow(follower) => follower.next()?,
                Source::Once(lines) => lines.next().transpose()?,
            };
            // A remark without a time comes where it was found.
            self.time_ns = self.head.as_ref().and_then(time_of).unwrap_or(self.time_ns);
        }
        Ok(())
    }
}

/// The last lines of a unit's last life, fit for a terminal: what a failure is shown with. None if the last life in the
/// log is another one than `incarnation`: that one never wrote.
pub(crate) fn last_lines(dir: &std::path::Path, count: usize, incarnation: Option<u32>) -> Vec<String> {
    let Ok(follower) = Reader::open(dir).tail(count, Query::default()) else { return Vec::new() };
    let (mut last, mut lines) = (None, Vec::new());
    for entry in follower.into_lines().filter_map(Result::ok) {
        match entry {
            Entry::Line(line) => {
                if last.replace(line.life).is_some_and(|before| before != line.life) {
                    lines.clear();
                }
                lines.push(sanitize_line(&line.bytes, false).into_owned());
            }
            // A life that has written nothing has no last words, not those of the one before.
            Entry::Started { life, .. } => {
                last = Some(life);
                lines.clear();
            }
            Entry::Ended { .. } | Entry::Gap { .. } | Entry::Skipped { .. } => {}
        }
    }
    let is_wanted = last.is_some_and(|life| incarnation.is_none_or(|wanted| wanted == life.incarnation));
    if is_wanted { lines } else { Vec::new() }
}

fn open_one(reader: Reader, selection: &Selection) -> Result<Follower, LogError> {
    let mut query = selection.query;
    if let Some(wanted) = selection.incarnation {
        let life = reader.lives()?.into_iter().rfind(|life| life.incarnation == wanted);
        // A life that is not there has no lines: number 0 has none either.
        query.run = life.map(|life| life.run);
        query.incarnation = Some(life.map_or(0, |life| life.incarnation));
    }
    if selection.previous {
        let lives = reader.lives()?;
        let Some(previous) = lives.len().checked_sub(2).and_then(|at| lives.get(at)) else {
            return reader.follow(Position::End, query);
        };
        query.run = Some(previous.run);
        query.incarnation = Some(previous.incarnation);
    }
    let reader = reader.only(selection.filter.clone());
    match selection.tail {
        Some(lines) => reader.tail(lines, query),
        None => reader.follow(Position::Start, query),
    }
}

fn time_of(entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Line(line) => Some(line.time_ns),
        Entry::Started { time_ns, .. } | Entry::Ended { time_ns, .. } | Entry::Gap { time_ns, .. } => Some(*time_ns),
        Entry::Skipped { .. } => None,
    }
}

/// RFC 3339 with milliseconds.
fn clock(time_ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

/// `… 12 lines skipped (960 bytes)`, or the bytes alone where nobody has counted lines.
fn skipped(bytes: u64, lines: Option<u64>) -> String {
    match lines {
        Some(1) => format!("… 1 line skipped ({bytes} bytes)"),
        Some(lines) => format!("… {lines} lines skipped ({bytes} bytes)"),
        None => format!("… {bytes} bytes skipped"),
    }
}

fn unreadable(unit: &str, error: &LogError) -> CliError {
    CliError::new("io", format!("the log of {unit} cannot be read: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(clock(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123Z");
        assert_eq!(clock(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_unit_that_never_wrote_has_an_empty_log() {
        let dir = tempfile::tempdir().unwrap();
        let logs = [("api".to_owned(), dir.path().join("none"))];
        let mut tail = Tail::open(&logs, &Selection::default(), false).unwrap();
        assert!(tail.next().unwrap().is_none());
        assert!(last_lines(dir.path(), 5, None).is_empty());
    }
}
