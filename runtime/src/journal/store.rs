//! The one writer of a project's `events.jsonl`.
//!
//! Opening repairs what a killed writer left: an unfinished last line is cut off, damaged lines are set aside in
//! `events.jsonl.bad`, old events go if there are too many (`shorten`), and numbering goes on after the last event that can be
//! read. A journal with events of a newer build is not touched at all. A write that fails (disk full) keeps its line in memory, bounded, until one succeeds.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::read::{Glance, Line, Step, classify, read_line};
use super::shorten::shorten;
use crate::control::view::EventView;

/// Longest line that is written; well below what readers accept.
pub const LINE_MAX_BYTES: usize = 256 * 1024;
/// Longest text that is kept of an event whose line would be too long.
const TEXT_MAX_BYTES: usize = 4096;
/// Most that is kept in memory while the disk takes nothing.
const UNWRITTEN_MAX_BYTES: usize = 1024 * 1024;
/// Read at once when the whole history is looked at.
const SCAN_BYTES: usize = 64 * 1024;

/// An open journal.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: Arc<File>,
    /// Length of the file as far as whole lines were written.
    length: u64,
    seq: u64,
    unwritten: VecDeque<Vec<u8>>,
    unwritten_bytes: usize,
    lost: u64,
    fault: Option<String>,
}

/// What opening found and repaired.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Events that can be read.
    pub events: u64,
    /// Bytes of an unfinished last line that were cut off.
    pub cut_bytes: u64,
    /// Damaged lines.
    pub corrupt_lines: u64,
    /// Where damage was put; `None` if there was none, or no room for it.
    pub set_aside: Option<PathBuf>,
    /// Old events that went because the journal was too long.
    pub dropped: u64,
}

/// Why a journal cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It was written by a newer build: it can be read, not written.
    #[error("write {path}: it has events of schema version {found}, newer than this build's", path = path.display())]
    Newer {
        /// The journal.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The file system said no.
    #[error("open {path}", path = path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Events or derived files are not on disk.
    #[error("write the journal of {project}: {reason}")]
    Unwritten {
        /// The project's key.
        project: String,
        /// Why not.
        reason: String,
    },
    /// No such project is open.
    #[error("use the journal of {project}: it is not open")]
    NotOpen {
        /// The project's key.
        project: String,
    },
    /// The journal's actor has ended.
    #[error("reach the journal: it has ended")]
    Gone,
}

/// What a scan of the file found.
#[derive(Debug, Default)]
struct Scan {
    events: u64,
    seq: u64,
    newer: Option<u32>,
    /// Where damaged lines stand: offset and length.
    damage: Vec<(u64, u64)>,
    /// Where the unfinished last line begins, and its length.
    tail: (u64, u64),
    /// Whether the unfinished line is a whole event that only lacks its newline.
    tail_is_event: bool,
}

// === impl EventLog ===

impl EventLog {
    /// Opens the journal at `path`, made if it is not there. Its directory must exist.
    pub fn open(path: &Path) -> Result<(Self, Recovery), JournalError> {
        Self::open_with(path, |_| false, |_| {})
    }

    /// Whether [`Self::open`] would succeed, as far as reading tells. Changes nothing; a journal that is not there is fine.
    pub fn check(path: &Path) -> Result<(), JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        match Scan::read(&mut file, |_| false, |_| {}).map_err(failed)?.newer {
            Some(found) => Err(JournalError::Newer { path: path.to_owned(), found }),
            None => Ok(()),
        }
    }

    /// As [`Self::open`], showing the events of every kind that `is_wanted` to `visit`, oldest first.
    pub fn open_with(
        path: &Path,
        is_wanted: impl Fn(&str) -> bool,
        visit: impl FnMut(EventView),
    ) -> Result<(Self, Recovery), JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file = open_file(path).map_err(failed)?;
        let scan = Scan::read(&mut file, is_wanted, visit).map_err(failed)?;
        if let Some(found) = scan.newer {
            return Err(JournalError::Newer { path: path.to_owned(), found });
        }
        let mut recovery = repair(path, &mut file, &scan).map_err(failed)?;
        recovery.dropped = shorten(path).unwrap_or_else(|error| {
            // It serves as it is; the next daemon tries again.
            tracing::warn!(path = %path.display(), %error, "the journal is long and cannot be shortened");
            0
        });
        // Both may have replaced the file.
        let file = open_file(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let log = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            length,
            seq: scan.seq,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            lost: 0,
            fault: None,
        };
        Ok((log, recovery))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of the last event.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Why the last write failed; `None` when everything is written.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Events that were dropped since the last call because nothing could be written for too long.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Gives `event` its number (and its time, if it has none) and writes its line. A failing write is not an error here:
    /// the line is kept and tried again, and [`Self::fault`] says so.
    pub fn append(&mut self, mut event: EventView) -> EventView {
        self.seq += 1;
        event.seq = self.seq;
        if event.time.is_empty() {
            event.time = super::clock::now();
        }
        let (event, line) = fitted(event);
        self.unwritten_bytes += line.len();
        self.unwritten.push_back(line);
        self.retry();
        while self.unwritten_bytes > UNWRITTEN_MAX_BYTES {
            self.drop_oldest();
        }
        event
    }

    /// Tries to write what is still in memory.
    pub fn retry(&mut self) {
        while let Some(line) = self.unwritten.front() {
            match write_line(&self.file, line) {
                Ok(()) => {
                    self.length += line.len() as u64;
                    self.unwritten_bytes -= line.len();
                    self.unwritten.pop_front();
                }
                Err(error) => {
                    // Half a line may be there; shortening a file needs no room.
                    let cut = self.file.set_len(self.length);
                    tracing::warn!(path = %self.path.display(), %error, ?cut, "the journal cannot be written");
                    self.fault = Some(error.to_string());
                    return;
                }
            }
        }
        self.fault = None;
    }

    /// Waits until everything written is on disk. Slow: not for a handler, see [`Self::handle`].
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The file, to be synced elsewhere.
    pub fn handle(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Puts another file in the journal's place, to see what a failing disk does.
    #[cfg(test)]
    pub(super) fn swap_file(&mut self, file: Arc<File>) -> Arc<File> {
        std::mem::replace(&mut self.file, file)
    }

    fn drop_oldest(&mut self) {
        if let Some(line) = self.unwritten.pop_front() {
            self.unwritten_bytes -= line.len();
            self.lost += 1;
        }
    }
}

fn write_line(mut file: &File, line: &[u8]) -> io::Result<()> {
    file.write_all(line)
}

fn open_file(path: &Path) -> io::Result<File> {
    let options = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(options).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

/// The event and its line, cut to fit if need be.
fn fitted(mut event: EventView) -> (EventView, Vec<u8>) {
    let line = to_line(&event);
    if line.len() <= LINE_MAX_BYTES {
        return (event, line);
    }
    for text in [Some(&mut event.message), event.cause.as_mut(), event.hint.as_mut()].into_iter().flatten() {
        cut(text, TEXT_MAX_BYTES);
    }
    event.details.clear();
    event.details.insert("cut_bytes".to_owned(), Value::from(line.len()));
    // What is left are names, which their type bounds, and a kind and a run of our own making.
    let line = to_line(&event);
    (event, line)
}

/// Shortens `text` to at most `max` bytes, between characters.
fn cut(text: &mut String, max: usize) {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
}

fn to_line(event: &EventView) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("invariant: an event has string keys and no custom serializer");
    line.push(b'\n');
    line
}

// === impl Scan ===

impl Scan {
    fn read(file: &mut File, is_wanted: impl Fn(&str) -> bool, mut visit: impl FnMut(EventView)) -> io::Result<Self> {
        let mut scan = Self::default();
        let mut reader = BufReader::with_capacity(SCAN_BYTES, file);
        let mut saw = |scan: &mut Self, glance: &Glance<'_>, line: &[u8]| {
            scan.events += 1;
            scan.seq = scan.seq.max(glance.seq);
            let wanted = is_wanted(&glance.event).then(|| serde_json::from_slice(line).ok()).flatten();
            wanted.into_iter().for_each(&mut visit);
        };
        reader.seek(SeekFrom::Start(0))?;
        let (mut line, mut offset) = (Vec::new(), 0);
        loop {
            match read_line(&mut reader, &mut line)? {
                Step::Complete { bytes, oversize } => {
                    match classify(&line, oversize) {
                        Line::Event(glance) => saw(&mut scan, &glance, &line),
                        Line::Newer(version) => scan.newer = Some(version),
                        Line::Corrupt => scan.damage.push((offset, bytes)),
                    }
                    offset += bytes;
                }
                Step::End { unfinished } => {
                    scan.tail = (offset, unfinished);
                    if let Line::Event(glance) = classify(&line, unfinished > line.len() as u64) {
                        scan.tail_is_event = true;
                        saw(&mut scan, &glance, &line);
                    }
                    return Ok(scan);
                }
            }
        }
    }
}

/// Brings the file into order. Damage that cannot be set aside stays where it is: readers pass over it.
fn repair(path: &Path, file: &mut File, scan: &Scan) -> io::Result<Recovery> {
    let mut recovery = Recovery { events: scan.events, corrupt_lines: scan.damage.len() as u64, ..Recovery::default() };
    let (tail, unfinished) = scan.tail;
    let mut damage = scan.damage.clone();
    if unfinished > 0 && scan.tail_is_event {
        file.write_all(b"\n")?;
    } else if unfinished > 0 {
        recovery.cut_bytes = unfinished;
        damage.push((tail, unfinished));
    }
    if damage.is_empty() {
        return Ok(recovery);
    }
    recovery.set_aside = set_aside(path, file, &damage).ok();
    if recovery.cut_bytes > 0 {
        file.set_len(tail)?;
    }
    if let Some(aside) = recovery.set_aside.as_ref().filter(|_| !scan.damage.is_empty()) {
        // What is taken out of the journal must be safe elsewhere first. A cut line is not worth the wait.
        File::open(aside)?.sync_all()?;
        rewrite_without(path, file, &scan.damage)?;
    }
    Ok(recovery)
}

/// Copies the damaged ranges to the end of `events.jsonl.bad`, one line each.
fn set_aside(path: &Path, file: &mut File, damage: &[(u64, u64)]) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    let aside = PathBuf::from(name);
    let mut into = open_file(&aside)?;
    for (offset, bytes) in damage {
        file.seek(SeekFrom::Start(*offset))?;
        io::copy(&mut Read::take(&*file, *bytes), &mut into)?;
    }
    into.write_all(b"\n")?;
    Ok(aside)
}

/// Writes the journal anew without the damaged ranges, and puts it in the old one's place.
fn rewrite_without(path: &Path, file: &mut File, damage: &[(u64, u64)]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("it has no directory"))?;
    let mut fresh = tempfile::Builder::new().prefix(super::write::TEMPORARY_PREFIX).tempfile_in(dir)?;
    let mut at = 0;
    let end = file.metadata()?.len();
    for (offset, bytes) in damage.iter().copied().chain([(end, 0)]) {
        file.seek(SeekFrom::Start(at))?;
        io::copy(&mut Read::take(&*file, offset - at), &mut fresh)?;
        at = offset + bytes;
    }
    fresh.as_file().sync_all()?;
    fresh.persist(path).map_err(|failed| failed.error)?;
    File::open(dir)?.sync_all()
}
