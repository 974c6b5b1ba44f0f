//! Reading a log from its files alone: while a pump writes, and when no daemon runs.
//!
//! ```text
//! segments ──records──▶ chunks ──64 KiB blocks──▶ splitter (one per stream) ──▶ filter ──▶ Entry
//!                          └─256 KiB blocks──▶ skip: what a pattern is not in is never cut into lines
//! ```
//!
//! Everything here blocks on files and belongs on a blocking thread or into a plain program. A reader holds at most one block, one
//! batch of records and one unfinished line per stream. Never writes, never locks, never asks a daemon.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LogError;
use super::chunks::{Chunks, Step};
use super::filter::Filter;
use super::layout::{Kind, Life, Record, Stream};
use super::skip::{Next, Skipper};
use super::splitter::{Entry, LINE_MAX_BYTES, Line, Splitter};

/// Bytes of a chunk held at once.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// What is read first of a line whose end is sought, so that the search for a pattern can go on behind it: few lines are longer.
const LINE_END_BYTES: usize = 512;

/// The log of one unit, opened for reading.
#[derive(Debug, Clone)]
pub struct Reader {
    dir: PathBuf,
    filter: Option<Arc<Filter>>,
}

/// Which lines are wanted; the default is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// Only this stream.
    pub stream: Option<Stream>,
    /// Only this run.
    pub run: Option<u32>,
    /// Only this incarnation.
    pub incarnation: Option<u32>,
    /// Only lines whose first byte came at this wall time or later, nanoseconds since 1970.
    pub since_ns: Option<u64>,
    /// Only lines whose first byte came before this wall time.
    pub until_ns: Option<u64>,
}

/// Where a follower begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At the oldest line kept.
    Start,
    /// After what is there now.
    End,
    /// At the record with this sequence, or at the oldest after it that is kept.
    Sequence(u64),
    /// Where this life began to write, if no other one has written since; else after what is there now.
    Life(Life),
}

/// Entries one by one, for ever: `None` means "nothing more yet". Survives rotation, deletion and the writer's death.
#[derive(Debug)]
pub struct Follower {
    chunks: Chunks,
    query: Query,
    filter: Option<Arc<Filter>>,
    skipper: Option<Skipper>,
    /// The data record in work.
    record: Option<Work>,
    block: Vec<u8>,
    /// Where the block begins in its record, and how much of it has been cut.
    block_from: u64,
    block_at: usize,
    splitters: [Splitter; 2],
    life: Option<Life>,
    queue: VecDeque<Entry>,
    /// Lines still to be left out (the beginning of a tail).
    skip_lines: usize,
}

/// A data record in work.
#[derive(Debug, Clone, Copy)]
struct Work {
    record: Record,
    /// What of it has been read, or passed over.
    done: u64,
    /// Bytes that the unit had written before it.
    written_before: u64,
}

/// All entries up to now, also those that a killed writer left without an index; ends with the unfinished lines.
#[derive(Debug)]
pub struct Lines {
    follower: Follower,
    /// The unfinished lines have been handed out too.
    ended: bool,
    failed: bool,
}

// === impl Reader ===

impl Reader {
    /// The log in `dir`; a directory that is missing (yet) reads as empty.
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), filter: None }
    }

    /// Only the lines that this filter takes; what is told beside lines is told as before.
    pub fn only(self, filter: Filter) -> Self {
        let filter = Some(Arc::new(filter)).filter(|filter| !filter.is_open());
        Self { filter, ..self }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// All entries from the oldest on.
    pub fn lines(&self, query: Query) -> Result<Lines, LogError> {
        Ok(self.begin(query)?.into_lines())
    }

    /// From `position` on, and then what comes.
    pub fn follow(&self, position: Position, query: Query) -> Result<Follower, LogError> {
        let chunks = match position {
            Position::Start => return self.begin(query),
            Position::End => Chunks::end(&self.dir)?,
            Position::Sequence(sequence) => Chunks::at(&self.dir, sequence)?,
            Position::Life(life) => Chunks::life(&self.dir, life)?,
        };
        Ok(self.follower(chunks, query))
    }

    /// From the oldest line that the query can take.
    fn begin(&self, query: Query) -> Result<Follower, LogError> {
        let Some(since_ns) = query.since_ns else { return Ok(self.follower(Chunks::start(&self.dir)?, query)) };
        let (chunks, life, torn) = Chunks::since(&self.dir, since_ns)?;
        let mut follower = self.follower(chunks, query);
        follower.life = life;
        for stream in Stream::BOTH.into_iter().filter(|stream| torn[stream.index()]) {
            follower.splitters[stream.index()].tear();
        }
        Ok(follower)
    }

    fn follower(&self, chunks: Chunks, query: Query) -> Follower {
        Follower {
            filter: self.filter.clone(),
            skipper: self.filter.as_ref().and_then(Skipper::new),
            ..Follower::new(chunks, query)
        }
    }

    /// The last `lines` lines, and then what comes ([`Follower::into_lines`] for just those that are there).
    pub fn tail(&self, lines: usize, query: Query) -> Result<Follower, LogError> {
        if lines == 0 {
            return self.follow(Position::End, query);
        }
        let open = || match &self.filter {
            // Two more than asked: where the count ends, each stream may be in the middle of a line.
            None => Ok(self.follower(Chunks::back(&self.dir, lines.saturating_add(2), &query)?, query)),
            // How far back that many lines are that are wanted can only be found by looking at all.
            Some(_) => self.begin(query),
        };
        let mut count = 0usize;
        for entry in open()?.into_lines() {
            count += usize::from(matches!(entry?, Entry::Line(_)));
        }
        let mut follower = open()?;
        follower.skip_lines = count.saturating_sub(lines);
        Ok(follower)
    }

    /// Every life that left something here, oldest first.
    pub fn lives(&self) -> Result<Vec<Life>, LogError> {
        let mut chunks = Chunks::start(&self.dir)?;
        let mut lives: Vec<Life> = Vec::new();
        while let Some(step) = chunks.next()? {
            match step {
                Step::Record(record) if lives.last() != Some(&record.life) => lives.push(record.life),
                Step::Record(_) | Step::Skipped { .. } => {}
            }
        }
        Ok(lives)
    }
}

// === impl Query ===

impl Query {
    /// Whether a whole record may be left out: lives and streams never share a line.
    pub(super) fn takes(&self, record: &Record) -> bool {
        let Life { run, incarnation } = record.life;
        self.run.is_none_or(|wanted| wanted == run)
            && self.incarnation.is_none_or(|wanted| wanted == incarnation)
            && (record.kind != Kind::Data && record.kind != Kind::Gap || self.stream.is_none_or(|s| s == record.stream))
    }

    fn takes_line(&self, line: &Line) -> bool {
        self.since_ns.is_none_or(|since| line.time_ns >= since)
            && self.until_ns.is_none_or(|until| line.time_ns < until)
    }
}

// === impl Follower ===

impl Follower {
    fn new(chunks: Chunks, query: Query) -> Self {
        Self {
            chunks,
            query,
            filter: None,
            skipper: None,
            record: None,
            block: Vec::new(),
            block_from: 0,
            block_at: 0,
            splitters: Stream::BOTH.map(Splitter::new),
            life: None,
            queue: VecDeque::new(),
            skip_lines: 0,
        }
    }

    /// The next entry; `None`: nothing more yet.
    #[expect(clippy::should_implement_trait, reason = "an iterator that has ended stays so; this one goes on")]
    pub fn next(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            if let Some(entry) = self.queue.pop_front() {
                if self.wants(&entry) {
                    return Ok(Some(entry));
                }
            } else if !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// Sequence of the next record to be read: with [`Position::Sequence`] another follower goes on here, in the middle of a line
    /// if [`Follower::pending`] is not empty.
    pub fn position(&self) -> u64 {
        self.chunks.sequence()
    }

    /// The unfinished line of a stream so far (a prompt, or a line in the making).
    pub fn pending(&self, stream: Stream) -> &[u8] {
        self.splitters[stream.index()].pending()
    }

    /// Only what is there now.
    pub fn into_lines(self) -> Lines {
        Lines { follower: self, ended: false, failed: false }
    }

    fn wants(&mut self, entry: &Entry) -> bool {
        // What comes before the first line of a tail is left out with the lines before it.
        let Entry::Line(line) = entry else { return self.skip_lines == 0 };
        if !self.query.takes_line(line) || self.filter.as_ref().is_some_and(|filter| !filter.takes(line)) {
            return false;
        }
        let skip = self.skip_lines > 0;
        self.skip_lines = self.skip_lines.saturating_sub(1);
        !skip
    }

    /// One step towards the next entry. `false`: at the end.
    fn advance(&mut self) -> Result<bool, LogError> {
        if self.block_at < self.block.len() {
            self.split();
            return Ok(true);
        }
        if self.record.is_some() {
            self.read_block()?;
            return Ok(true);
        }
        match self.chunks.next()? {
            Some(step) => self.accept(step),
            None => return Ok(false),
        }
        Ok(true)
    }

    fn split(&mut self) {
        let Some(work) = &mut self.record else { return };
        let at = self.block_from + self.block_at as u64;
        let splitter = &mut self.splitters[work.record.stream.index()];
        let (taken, line) = splitter.take(&self.block[self.block_at..], &work.record, work.written_before + at);
        self.block_at += taken;
        self.queue.extend(line.map(Entry::Line));
        let at = at + taken as u64;
        if let Some(skipper) = &self.skipper
            && splitter.is_between_lines()
            && skipper.is_beyond(work.record.stream, work.record.offset + at)
            && work.done == self.block_from + self.block.len() as u64
        {
            // A line has ended where nobody has searched yet: what follows it is searched before it is cut.
            work.done -= (self.block.len() - self.block_at) as u64;
            self.block.truncate(self.block_at);
        }
        self.close_record();
    }

    fn close_record(&mut self) {
        let read_all = self.record.as_ref().is_some_and(|work| work.done >= u64::from(work.record.len));
        if read_all && self.block_at >= self.block.len() {
            self.record = None;
        }
    }

    fn read_block(&mut self) -> Result<(), LogError> {
        let Some(want) = self.wanted()? else {
            self.close_record();
            return Ok(());
        };
        let Some(work) = &mut self.record else { return Ok(()) };
        let Record { stream, offset, len, .. } = work.record;
        let left = u64::from(len) - work.done;
        self.block.resize(want, 0);
        (self.block_from, self.block_at) = (work.done, 0);
        let got = self.chunks.read(stream, offset + work.done, &mut self.block)?;
        self.block.truncate(got);
        work.done += got as u64;
        if got < want {
            // Somebody truncated or removed the data under its index.
            let bytes = left - got as u64;
            work.done = u64::from(len);
            let lines = self.chunks.missing_lines(stream, offset);
            self.queue.push_back(Entry::Skipped { bytes, lines });
        }
        self.close_record();
        Ok(())
    }

    /// How much to read next of the record in work; `None`: some of it has been passed over, ask again.
    fn wanted(&mut self) -> Result<Option<usize>, LogError> {
        let Some(work) = &mut self.record else { return Ok(None) };
        let Record { stream, offset, len, .. } = work.record;
        let (from, end) = (offset + work.done, offset + u64::from(len));
        let Some(skipper) = &mut self.skipper else { return Ok(Some(block_length(end - from))) };
        skipper.enter(self.chunks.segment());
        let splitter = &self.splitters[stream.index()];
        match skipper.next(stream, from) {
            Next::Search if splitter.is_between_lines() => {
                let unbroken = self.chunks.unbroken(&work.record);
                skipper.search(stream, (from, unbroken), |at, block| self.chunks.read(stream, at, block))?;
                Ok(None)
            }
            Next::Search => Ok(Some(splitter.pending().len().max(LINE_END_BYTES).min(block_length(end - from)))),
            Next::Read(to) => Ok(Some(block_length(to.min(end) - from))),
            Next::Skip(to) => {
                work.done = to.min(end) - offset;
                Ok(None)
            }
        }
    }

    fn accept(&mut self, step: Step) {
        let record = match step {
            Step::Skipped { bytes, lines } => {
                self.flush();
                self.queue.push_back(Entry::Skipped { bytes, lines });
                return;
            }
            Step::Record(record) => record,
        };
        let (life, time_ns, stream) = (record.life, record.time_ns, record.stream);
        if self.life != Some(life) {
            self.flush();
            self.life = Some(life);
        }
        if !self.query.takes(&record) {
            return;
        }
        match record.kind {
            // Of what comes after the query's end only the rest of a line is wanted that began before it.
            Kind::Data if self.is_late(&record) => {}
            Kind::Data => {
                let written_before = self.chunks.written() - u64::from(record.len);
                self.record = Some(Work { record, done: 0, written_before });
            }
            Kind::Started => self.queue.push_back(Entry::Started { life, time_ns }),
            Kind::Ended => {
                self.flush();
                self.queue.push_back(Entry::Ended { life, time_ns });
            }
            Kind::Gap => {
                self.queue.extend(self.splitters[stream.index()].flush().map(Entry::Line));
                self.queue.push_back(Entry::Gap { stream, bytes: record.offset, lines: record.len.into(), time_ns });
            }
        }
    }

    fn is_late(&self, record: &Record) -> bool {
        let between = || self.splitters[record.stream.index()].is_between_lines();
        self.query.until_ns.is_some_and(|until| record.time_ns >= until) && between()
    }

    /// Hands out unfinished lines: nobody will finish them. Of two, the one begun first comes first.
    fn flush(&mut self) {
        let mut lines: Vec<Line> = self.splitters.iter_mut().filter_map(Splitter::flush).collect();
        lines.sort_by_key(|line| line.sequence);
        self.queue.extend(lines.into_iter().map(Entry::Line));
    }
}

// === impl Lines ===

impl Lines {
    fn step(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            if let Some(entry) = self.follower.next()? {
                return Ok(Some(entry));
            }
            if self.ended {
                return Ok(None);
            }
            match self.follower.chunks.unindexed()? {
                Some(record) => self.follower.accept(Step::Record(record)),
                None => {
                    self.ended = true;
                    self.follower.flush();
                }
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

/// At most one block of what is left.
fn block_length(left: u64) -> usize {
    usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES))
}

/// How many lines a chunk counts for at least, when a tail is counted from the end.
pub(super) fn count_lines(feeds: usize, bytes: u64) -> usize {
    feeds.max(usize::try_from(bytes / LINE_MAX_BYTES as u64).unwrap_or(usize::MAX))
}
