//! The specification of log streams, in sentences. Real FIFOs, real files; no test waits for time to pass.

mod actor;
mod crash;
mod crowd;
mod lines;
mod observe;
mod press;
mod pump;
mod repair;
mod retention;
mod search;
mod store;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::store::Taken;
use super::{
    Entry, Life, Limits, Line, LogError, LogStreamId, Pump, PumpHandle, Query, Reader, Sources, Store, Stream,
};
use crate::process::sys::pipe;

/// Far more than any test writes.
const ROOMY: Limits = limits(1 << 30, 4 << 30);

/// Limits of size alone.
const fn limits(segment_bytes: u64, max_bytes: u64) -> Limits {
    Limits { segment_bytes, max_bytes, max_segments: 100_000, max_age: None, segment_age: None, compress: false }
}

/// A FIFO in `dir`: our end, as the pump has it, and the unit's.
fn fifo(dir: &Path, name: &str) -> (OwnedFd, File) {
    let path = dir.join(name);
    pipe::mkfifo(&path).unwrap();
    let ours = pipe::open_fifo(&path).unwrap();
    (ours, OpenOptions::new().write(true).open(path).unwrap())
}

/// A pump with one stream.
struct Pumped {
    dir: TempDir,
    pump: Pump,
    handle: PumpHandle,
    id: LogStreamId,
    out: File,
    err: File,
}

impl Pumped {
    fn new(limits: Limits) -> Self {
        Self::with(|dir| Store::open(dir, limits).unwrap())
    }

    fn with(open: impl FnOnce(&Path) -> Store) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ((our_out, out), (our_err, err)) = (fifo(dir.path(), "out"), fifo(dir.path(), "err"));
        let pump = Pump::start().unwrap();
        let handle = pump.handle();
        let id = handle.new_id();
        let store = open(&dir.path().join("log"));
        handle.add(id, Sources { out: our_out, err: our_err }, store).unwrap();
        Self { dir, pump, handle, id, out, err }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn begin(&self, incarnation: u32) {
        self.handle.life(self.id, Life { run: 1, incarnation }).unwrap().blocking_recv().unwrap();
    }

    fn drain(&self) {
        self.handle.drain(self.id).unwrap().blocking_recv().unwrap();
    }
}

/// A store with FIFOs and no pump: every step is the test's.
struct Written {
    dir: TempDir,
    store: Option<Store>,
    ours: [OwnedFd; 2],
    theirs: [File; 2],
    scratch: Vec<u8>,
}

impl Written {
    fn new(limits: Limits) -> Self {
        Self::with(|dir| Store::open(dir, limits).unwrap())
    }

    fn with(open: impl FnOnce(&Path) -> Store) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ((our_out, out), (our_err, err)) = (fifo(dir.path(), "out"), fifo(dir.path(), "err"));
        let store = Some(open(&dir.path().join("log")));
        Self { dir, store, ours: [our_out, our_err], theirs: [out, err], scratch: vec![0; 1 << 16] }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.log())
    }

    fn end_life(&mut self) {
        let life = self.store().life();
        self.store().end_life(life);
    }

    /// One write of the unit, stored as one chunk if the segment has room.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Taken {
        self.theirs[stream.index()].write_all(bytes).unwrap();
        let mut left = bytes.len();
        loop {
            let fifo = self.ours[stream.index()].as_fd();
            let taken = self.store.as_mut().unwrap().take(stream, fifo, &mut self.scratch);
            let (Taken::Stored(bytes) | Taken::Dropped(bytes)) = taken else { panic!("{left} bytes are missing") };
            left -= bytes;
            if left == 0 {
                self.store().flush();
                return taken;
            }
        }
    }

    fn reopen(&mut self, limits: Limits) {
        self.store = None;
        self.store = Some(open_again(&self.log(), limits));
    }
}

/// Opens a log that was closed a moment ago. Another test's child may hold a copy of its lock between its fork and its exec.
fn open_again(log: &Path, limits: Limits) -> Store {
    loop {
        match Store::open(log, limits) {
            // Waits for it, and gives it up at once.
            Err(LogError::Locked(_)) => File::open(log).unwrap().lock().unwrap(),
            opened => return opened.unwrap(),
        }
    }
}

fn entries(log: &Path) -> Vec<Entry> {
    Reader::open(log).lines(Query::default()).unwrap().map(Result::unwrap).collect()
}

fn lines(log: &Path) -> Vec<Line> {
    entries(log).into_iter().filter_map(line_of).collect()
}

fn line_of(entry: Entry) -> Option<Line> {
    match entry {
        Entry::Line(line) => Some(line),
        Entry::Started { .. } | Entry::Ended { .. } | Entry::Gap { .. } | Entry::Skipped { .. } => None,
    }
}

fn texts(log: &Path) -> Vec<String> {
    lines(log).iter().map(text).collect()
}

fn text(line: &Line) -> String {
    String::from_utf8_lossy(&line.bytes).into_owned()
}

/// A stream's bytes put together again, as [`Line::partial`] promises.
fn reassemble(lines: &[Line], stream: Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.iter().filter(|line| line.stream == stream) {
        bytes.extend_from_slice(&line.bytes);
        if !line.partial {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
