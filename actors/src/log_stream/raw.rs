//! One life's output as bytes, in the order in which it came: for whoever shows a terminal.
//!
//! A sibling of [`super::Follower`] that knows no lines: an unfinished one (a prompt) comes as soon as it is stored. Blocks on files.

use super::LogError;
use super::chunks::{Chunks, Step};
use super::layout::{Kind, Life, Record};
use super::reader::{BLOCK_BYTES, Query, Reader};

/// Most bytes of what was shown before: a screenful of text with its colours.
const BACKLOG_MAX_BYTES: usize = 8 << 10;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// Bytes, as they were written.
    Bytes(Vec<u8>),
    /// So many bytes could not be stored, or have been deleted.
    Lost(u64),
}

/// The bytes of one life, for ever: `None` means "nothing more yet".
#[derive(Debug)]
pub struct RawFollower {
    chunks: Chunks,
    query: Query,
    /// The data record in work, and what of it has been read.
    record: Option<(Record, u64)>,
}

// === impl Reader ===

impl Reader {
    /// The bytes of a life, from about its last `lines` lines on.
    pub fn follow_raw(&self, life: Life, lines: usize) -> Result<RawFollower, LogError> {
        let query = Query { run: Some(life.run), incarnation: Some(life.incarnation), ..Query::default() };
        let chunks = Chunks::back(self.dir(), lines.max(1), &query)?;
        Ok(RawFollower { chunks, query, record: None })
    }
}

// === impl RawFollower ===

impl RawFollower {
    /// What the life's last lines were when it was opened, the unfinished one included. To be asked first.
    pub fn backlog(&mut self, lines: usize) -> Result<Vec<u8>, LogError> {
        let mut bytes = Vec::new();
        let mut whole = true;
        while let Some(raw) = self.next()? {
            let Raw::Bytes(more) = raw else { continue };
            bytes.extend_from_slice(&more);
            if bytes.len() > BACKLOG_MAX_BYTES {
                whole = false;
                bytes.drain(..bytes.len() - BACKLOG_MAX_BYTES);
            }
        }
        let feeds = memchr::memrchr_iter(b'\n', &bytes);
        let begin = feeds.take(lines + 1).last().map(|at| at + 1);
        let enough = memchr::memchr_iter(b'\n', &bytes).count() > lines;
        Ok(match begin {
            Some(begin) if enough => bytes.split_off(begin),
            // Cut in the middle of a line, perhaps of an escape sequence.
            _ if !whole => bytes.split_off(memchr::memchr(b'\n', &bytes).map_or(0, |at| at + 1)),
            _ => bytes,
        })
    }

    /// The next bytes; `None`: nothing more yet.
    #[expect(clippy::should_implement_trait, reason = "an iterator that has ended stays so; this one goes on")]
    pub fn next(&mut self) -> Result<Option<Raw>, LogError> {
        loop {
            if let Some((record, done)) = self.record.take() {
                if let Some(raw) = self.block(record, done)? {
                    return Ok(Some(raw));
                }
                continue;
            }
            match self.chunks.next()? {
                None => return Ok(None),
                Some(Step::Skipped { bytes, .. }) => return Ok(Some(Raw::Lost(bytes))),
                Some(Step::Record(record)) if !self.query.takes(&record) => {}
                Some(Step::Record(record)) => match record.kind {
                    Kind::Data => self.record = Some((record, 0)),
                    Kind::Gap => return Ok(Some(Raw::Lost(record.offset))),
                    Kind::Started | Kind::Ended => {}
                },
            }
        }
    }

    fn block(&mut self, record: Record, done: u64) -> Result<Option<Raw>, LogError> {
        let left = u64::from(record.len).saturating_sub(done);
        if left == 0 {
            return Ok(None);
        }
        let want = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        let mut bytes = vec![0; want];
        let got = self.chunks.read(record.stream, record.offset + done, &mut bytes)?;
        bytes.truncate(got);
        if got < want {
            // Somebody truncated or removed the data under its index.
            return Ok(Some(if got > 0 { Raw::Bytes(bytes) } else { Raw::Lost(left) }));
        }
        self.record = Some((record, done + got as u64));
        Ok(Some(Raw::Bytes(bytes)))
    }
}
