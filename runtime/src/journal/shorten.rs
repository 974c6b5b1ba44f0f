//! Shortening a journal that has become long: the newest events stay, of the old ones only those that began a run.
//!
//! Done when a journal is opened, before anything is written: numbers go on as if nothing had happened, and a reader that has
//! the old file open reads it to its end. The beginnings of runs stay because lines of logs are told by their runs, which may
//! be older. Killed at any moment it leaves the old file or the new one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use super::events::EventKind;
use super::read::{Line, Step, classify, read_line};
use super::write::TEMPORARY_PREFIX;

/// A journal that is longer is shortened when it is opened: some fifty thousand events, which a daemon still reads at its start
/// in the blink of an eye.
pub(super) const JOURNAL_MAX_BYTES: u64 = 16 << 20;
/// What stays of it: half, so that shortening is rare.
const KEPT_BYTES: u64 = JOURNAL_MAX_BYTES / 2;
/// What stays of the beginnings of older runs, the newest first: some thousands.
const RUNS_MAX_BYTES: usize = 1 << 20;

/// Shortens the journal at `path`, which is whole and of this build, if it is too long. Returns how many events have gone.
pub(super) fn shorten(path: &Path) -> io::Result<u64> {
    if path.metadata()?.len() <= JOURNAL_MAX_BYTES {
        return Ok(0);
    }
    let dir = path.parent().ok_or_else(|| io::Error::other("it has no directory"))?;
    let mut file = BufReader::new(File::open(path)?);
    let Old { end, dropped, runs } = Old::read(&mut file)?;
    let mut fresh = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(dir)?;
    for run in runs {
        fresh.write_all(&run)?;
    }
    file.seek(SeekFrom::Start(end))?;
    io::copy(&mut file, &mut fresh)?;
    fresh.as_file().sync_all()?;
    fresh.persist(path).map_err(|failed| failed.error)?;
    File::open(dir)?.sync_all()?;
    Ok(dropped)
}

/// The part that is not kept.
#[derive(Debug, Default)]
struct Old {
    /// Where it ends and the newest events begin.
    end: u64,
    /// Events in it that go.
    dropped: u64,
    /// Lines in it that stay.
    runs: VecDeque<Vec<u8>>,
}

// === impl Old ===

impl Old {
    fn read(file: &mut BufReader<File>) -> io::Result<Self> {
        let length = file.get_ref().metadata()?.len();
        let (mut old, mut line, mut runs_bytes) = (Self::default(), Vec::new(), 0);
        while old.end + KEPT_BYTES < length {
            let Step::Complete { bytes, oversize } = read_line(file, &mut line)? else { break };
            old.end += bytes;
            old.dropped += 1;
            if begins_run(&line, oversize) {
                old.dropped -= 1;
                line.push(b'\n');
                runs_bytes += line.len();
                old.runs.push_back(std::mem::take(&mut line));
            }
            while runs_bytes > RUNS_MAX_BYTES
                && let Some(oldest) = old.runs.pop_front()
            {
                runs_bytes -= oldest.len();
                old.dropped += 1;
            }
        }
        Ok(old)
    }
}

fn begins_run(line: &[u8], oversize: bool) -> bool {
    matches!(classify(line, oversize), Line::Event(glance) if glance.event == EventKind::RunStarted.as_str())
}
