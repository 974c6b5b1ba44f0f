//! Log lines of several units as one stream, `name | line`, in the order they came.
//!
//! The files are read here, in this process: the daemon only says that they have grown. Memory is one entry per unit.

use std::path::PathBuf;

use envctl_actors::log_stream::{
    Entry, Follower, Line, Lines, LogError, Position, Query, Reader, Stream, sanitize_line,
};
use serde::Serialize;

use super::{Output, json};
use crate::error::{CliError, chain};

/// What to show of each unit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Selection {
    /// The last so many lines; none: all.
    pub(crate) tail: Option<usize>,
    /// The life before the present one.
    pub(crate) previous: bool,
    /// Which lines.
    pub(crate) query: Query,
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
    name_width: usize,
}

#[derive(Debug)]
struct Feed {
    unit: String,
    source: Source,
    head: Option<Entry>,
    time_ns: u64,
}

#[derive(Debug)]
enum Source {
    Follow(Box<Follower>),
    Once(Box<Lines>),
}

#[derive(Serialize)]
struct Record<'a> {
    unit: &'a str,
    stream: &'static str,
    time: String,
    incarnation: u32,
    line: std::borrow::Cow<'a, str>,
    partial: bool,
}

// === impl Tail ===

impl Tail {
    /// The logs in these directories as they are now; `follow`: and what comes.
    pub(crate) fn open(logs: &[(String, PathBuf)], selection: Selection, follow: bool) -> Result<Self, CliError> {
        let mut feeds = Vec::new();
        for (unit, dir) in logs {
            let follower = open_one(&Reader::open(dir), selection).map_err(|error| unreadable(unit, &error))?;
            let source =
                if follow { Source::Follow(Box::new(follower)) } else { Source::Once(Box::new(follower.into_lines())) };
            feeds.push(Feed { unit: unit.clone(), source, head: None, time_ns: 0 });
        }
        let name_width = logs.iter().map(|(unit, _)| unit.len()).max().unwrap_or(0);
        Ok(Self { feeds, name_width })
    }

    /// Only what comes from now on.
    pub(crate) fn from_now(logs: &[(String, PathBuf)]) -> Result<Self, CliError> {
        Self::open(logs, Selection { tail: Some(0), ..Selection::default() }, true)
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
        &self,
        output: &Output,
        look: Look,
        at: usize,
        entry: &Entry,
        text: &mut Vec<u8>,
    ) -> Result<(), CliError> {
        let unit = self.feeds[at].unit.as_str();
        match entry {
            Entry::Line(line) if output.json => text.extend(json::line("log", true, &record(unit, line))?.into_bytes()),
            Entry::Line(line) if look.raw => {
                text.extend(&line.bytes);
                text.extend((!line.partial).then_some(b'\n'));
            }
            Entry::Line(line) => {
                let time =
                    if look.timestamps { format!("{} ", output.data.dim(&clock(line.time_ns))) } else { String::new() };
                let shown = sanitize_line(&line.bytes, output.data.is_on());
                text.extend(format!("{time}{} {shown}\n", self.prefix(output, unit)).into_bytes());
            }
            Entry::Gap { bytes, .. } => self.remark(output, unit, &format!("{bytes} bytes could not be stored")),
            Entry::Skipped { bytes, .. } => {
                self.remark(output, unit, &format!("{bytes} older bytes have been deleted"))
            }
            Entry::Started { .. } | Entry::Ended { .. } => {}
        }
        Ok(())
    }

    fn prefix(&self, output: &Output, unit: &str) -> String {
        output.data.name(unit, &format!("{unit:width$} |", width = self.name_width))
    }

    fn remark(&self, output: &Output, unit: &str, text: &str) {
        output.warn(&format!("log of {unit}: {text}"));
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

fn open_one(reader: &Reader, selection: Selection) -> Result<Follower, LogError> {
    let mut query = selection.query;
    if selection.previous {
        let lives = reader.lives()?;
        let Some(previous) = lives.len().checked_sub(2).and_then(|at| lives.get(at)) else {
            return reader.follow(Position::End, query);
        };
        query.run = Some(previous.run);
        query.incarnation = Some(previous.incarnation);
    }
    match selection.tail {
        Some(lines) => reader.tail(lines, query),
        None => reader.follow(Position::Start, query),
    }
}

fn record<'a>(unit: &'a str, line: &'a Line) -> Record<'a> {
    Record {
        unit,
        stream: match line.stream {
            Stream::Out => "out",
            Stream::Err => "err",
        },
        time: clock(line.time_ns),
        incarnation: line.life.incarnation,
        line: String::from_utf8_lossy(&line.bytes),
        partial: line.partial,
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
        let mut tail = Tail::open(&logs, Selection::default(), false).unwrap();
        assert!(tail.next().unwrap().is_none());
        assert!(last_lines(dir.path(), 5, None).is_empty());
    }
}
