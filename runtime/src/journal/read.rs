//! Reading `events.jsonl`: tolerant, bounded, and safe beside a writer.
//!
//! A line counts when its newline is there: a half-written one is not an event yet. Damaged lines are counted and passed
//! over, because one bad byte must not hide the rest of the story.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use crate::control::view::{EventView, SCHEMA_VERSION};

/// Longest line that is looked at; a longer one is damage, whatever it says.
pub const LINE_READ_MAX_BYTES: usize = 1024 * 1024;

/// A journal being read, from the start or from where it was left.
#[derive(Debug)]
pub struct EventReader {
    file: BufReader<File>,
    /// Where the line begins that comes next.
    offset: u64,
    corrupt: u64,
}

/// The events of a journal, oldest first, up to its present end.
#[derive(Debug)]
pub struct Events {
    reader: EventReader,
    after: u64,
}

/// As much of an event as is needed to know that it is one, and which. Nothing is copied out of its line: the daemon reads
/// the whole history at its start, and clients wait meanwhile.
#[derive(Debug, Deserialize)]
pub(super) struct Glance<'l> {
    schema_version: u32,
    /// Its number.
    pub(super) seq: u64,
    /// Its kind.
    #[serde(borrow)]
    pub(super) event: Cow<'l, str>,
    #[serde(rename = "time")]
    _time: Text,
    #[serde(rename = "run")]
    _run: Text,
    #[serde(default, rename = "unit")]
    _unit: Option<Text>,
    #[serde(default, rename = "incarnation")]
    _incarnation: Option<u32>,
    #[serde(rename = "message")]
    _message: Text,
    #[serde(default, rename = "cause")]
    _cause: Option<Text>,
    #[serde(default, rename = "hint")]
    _hint: Option<Text>,
    #[serde(default, rename = "details")]
    _details: IgnoredAny,
}

/// A text that is only known to be one.
#[derive(Debug)]
struct Text;

/// What a complete line is.
#[derive(Debug)]
pub(super) enum Line<'l> {
    /// An event.
    Event(Glance<'l>),
    /// An event of a newer build, with the version it claims.
    Newer(u32),
    /// Damage.
    Corrupt,
}

/// One step of reading lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A line with its newline; it may be cut if it was too long.
    Complete {
        /// Its length in the file, newline included.
        bytes: u64,
        /// Whether it is longer than may be looked at.
        oversize: bool,
    },
    /// The end of the file, and this many bytes before it that are no complete line.
    End {
        /// Length of the unfinished line.
        unfinished: u64,
    },
}

/// The events of the journal at `path`.
pub fn events(path: &Path) -> io::Result<Events> {
    Ok(Events { reader: EventReader::open(path)?, after: 0 })
}

// === impl Events ===

impl Events {
    /// Only events after number `seq`.
    #[must_use]
    pub fn after(mut self, seq: u64) -> Self {
        self.after = seq;
        self
    }

    /// Damaged lines passed over so far.
    pub fn corrupt(&self) -> u64 {
        self.reader.corrupt
    }
}

impl Iterator for Events {
    type Item = EventView;

    fn next(&mut self) -> Option<EventView> {
        loop {
            let event = self.reader.next_event().ok()??;
            if event.seq > self.after {
                return Some(event);
            }
        }
    }
}

// === impl EventReader ===

impl EventReader {
    /// Opens the journal at `path`, at its start.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), offset: 0, corrupt: 0 })
    }

    /// The next event; `None` at the present end, from where a later call goes on.
    pub fn next_event(&mut self) -> io::Result<Option<EventView>> {
        let mut line = Vec::new();
        loop {
            match read_line(&mut self.file, &mut line)? {
                Step::Complete { bytes, oversize } => {
                    self.offset += bytes;
                    match parse_line(&line, oversize) {
                        Some(event) => return Ok(Some(event)),
                        None => self.corrupt += 1,
                    }
                }
                Step::End { .. } => {
                    // The unfinished line is read again from its start: its writer may die and the next one cut it off.
                    self.file.seek(SeekFrom::Start(self.offset))?;
                    return Ok(None);
                }
            }
        }
    }

    /// Up to `count` events; fewer mean that the present end was reached.
    pub fn batch(&mut self, count: usize) -> io::Result<Vec<EventView>> {
        let mut batch = Vec::new();
        while batch.len() < count {
            match self.next_event()? {
                Some(event) => batch.push(event),
                None => break,
            }
        }
        Ok(batch)
    }

    /// Damaged lines passed over so far.
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }
}

// === impl Text ===

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(Any)
    }
}

/// For readers a newer event is an event, as long as it has the fields of ours.
fn parse_line(line: &[u8], oversize: bool) -> Option<EventView> {
    if oversize { None } else { serde_json::from_slice(line).ok() }
}

/// For the writer a newer event is a reason to keep its hands off.
pub(super) fn classify(line: &[u8], oversize: bool) -> Line<'_> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    if oversize {
        return Line::Corrupt;
    }
    let found = match serde_json::from_slice::<Glance<'_>>(line) {
        Ok(glance) if glance.schema_version <= SCHEMA_VERSION => return Line::Event(glance),
        Ok(glance) => Some(glance.schema_version),
        // A newer shape may lack what ours has.
        Err(_) => serde_json::from_slice::<Version>(line).ok().map(|found| found.schema_version),
    };
    found.filter(|found| *found > SCHEMA_VERSION).map_or(Line::Corrupt, Line::Newer)
}

/// Reads one line into `line` (without its newline), never keeping more than [`LINE_READ_MAX_BYTES`] of it.
pub(super) fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Step> {
    line.clear();
    let mut bytes = 0_u64;
    let mut oversize = false;
    loop {
        let chunk = match file.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(Step::End { unfinished: bytes });
        }
        let newline = memchr::memchr(b'\n', chunk);
        let text = &chunk[..newline.unwrap_or(chunk.len())];
        if line.len() + text.len() <= LINE_READ_MAX_BYTES {
            line.extend_from_slice(text);
        } else {
            oversize = true;
        }
        let used = text.len() + usize::from(newline.is_some());
        file.consume(used);
        bytes += used as u64;
        if newline.is_some() {
            return Ok(Step::Complete { bytes, oversize });
        }
    }
}
