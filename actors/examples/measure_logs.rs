//! How fast a log is searched: writes a large one as a unit would, then asks it.
//!
//! ```text
//! cargo run --release -p envctl-actors --example measure_logs -- write DIR MIB   lines of 100 bytes, through pump and store
//! … -- grep DIR REGEX [MIB]   lines found, time, GiB/s
//! … -- plain FILE REGEX       the same engine over one file, line by line of what it finds: what a grep program does
//! … -- since DIR FRACTION     time to the first line written after this part of the log's time
//! … -- follow DIR FOLLOWERS   followers of a stream that is written meanwhile at 1 MiB/s
//! ```
#![expect(clippy::print_stdout, reason = "it tells what it has measured")]
#![expect(clippy::disallowed_methods, reason = "it measures the time that passes")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use envctl_actors::log_stream::{Entry, Filter, Limits, Pattern, Position, Pump, Query, Reader, Sources, Store};
use envctl_actors::process::sys::pipe;

type Done = Result<(), Box<dyn Error>>;

const LINE_BYTES: u64 = 100;
const MIB: u64 = 1 << 20;
/// Written at once, as a busy program's buffer would be.
const WRITE_BYTES: usize = 64 << 10;

fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", dir, mib] => write(Path::new(dir), mib.parse()?),
        ["grep", dir, pattern] => grep(Path::new(dir), pattern),
        ["plain", file, pattern] => plain(Path::new(file), pattern),
        ["since", dir, fraction] => since(Path::new(dir), fraction.parse()?),
        ["follow", dir, followers] => follow(Path::new(dir), followers.parse()?),
        _ => Err("see the top of the source".into()),
    }
}

/// A pump that moves what is written to the file it returns into the log.
fn pumping(dir: &Path) -> Result<(Pump, File), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let open = |name: &str| -> Result<(OwnedFd, File), Box<dyn Error>> {
        let path: PathBuf = dir.join(name);
        drop(fs::remove_file(&path));
        pipe::mkfifo(&path)?;
        let ours = pipe::open_fifo(&path)?;
        Ok((ours, OpenOptions::new().read(true).write(true).custom_flags(0).open(path)?))
    };
    let ((out, unit), (err, _)) = (open("fifo.out")?, open("fifo.err")?);
    let pump = Pump::start()?;
    let limits = Limits {
        segment_bytes: 64 * MIB,
        max_bytes: 1 << 40,
        max_segments: 100_000,
        compress: false,
        ..Limits::default()
    };
    pump.handle().add(pump.handle().new_id(), Sources { out, err }, Store::open(dir, limits)?)?;
    Ok((pump, unit))
}

fn numbered(line: u64) -> String {
    format!(
        "{line:>10} 2026-11-21T10:20:30.000Z INFO request GET /items/{:<8} took {:>4} ms by a client nobody knows\n",
        line % 9973,
        line % 307
    )
}

fn write(dir: &Path, mib: u64) -> Done {
    let (pump, mut unit) = pumping(dir)?;
    let mut buffer = Vec::with_capacity(WRITE_BYTES + 128);
    let begun = Instant::now();
    for line in 0..mib * MIB / LINE_BYTES {
        let text = numbered(line);
        buffer.extend_from_slice(&text.as_bytes()[..text.len().min(LINE_BYTES as usize - 1)]);
        buffer.resize(buffer.len().next_multiple_of(LINE_BYTES as usize).max(buffer.len()) - 1, b' ');
        buffer.push(b'\n');
        if buffer.len() >= WRITE_BYTES {
            unit.write_all(&buffer)?;
            buffer.clear();
        }
    }
    unit.write_all(&buffer)?;
    pump.stop();
    println!("{mib} MiB written in {:?}", begun.elapsed());
    Ok(())
}

fn filter(pattern: &str) -> Result<Filter, Box<dyn Error>> {
    Ok(Filter { pattern: Some(Pattern::new(&[pattern], false)?), ..Filter::default() })
}

fn grep(dir: &Path, pattern: &str) -> Done {
    let bytes = envctl_actors::log_stream::bytes_on_disk(dir)?;
    let begun = Instant::now();
    let mut lines = 0u64;
    for entry in Reader::open(dir).only(filter(pattern)?).lines(Query::default())? {
        lines += u64::from(matches!(entry?, Entry::Line(_)));
    }
    tell(pattern, lines, bytes, begun);
    Ok(())
}

fn plain(file: &Path, pattern: &str) -> Done {
    let regex = regex::bytes::RegexBuilder::new(pattern).multi_line(true).build()?;
    let mut file = File::open(file)?;
    let (mut block, mut kept) = (vec![0; 256 << 10], 0);
    let (begun, mut lines, mut bytes) = (Instant::now(), 0u64, 0u64);
    loop {
        let got = file.read(&mut block[kept..])?;
        if got == 0 {
            break;
        }
        bytes += got as u64;
        let end = memchr::memrchr(b'\n', &block[..kept + got]).map_or(0, |at| at + 1);
        let mut from = 0;
        while let Some(found) = regex.find_at(&block[..end], from) {
            lines += 1;
            from = memchr::memchr(b'\n', &block[found.end()..end]).map_or(end, |at| found.end() + at + 1);
            if from >= end {
                break;
            }
        }
        block.copy_within(end..kept + got, 0);
        kept = kept + got - end;
    }
    tell(pattern, lines, bytes, begun);
    Ok(())
}

fn tell(pattern: &str, lines: u64, bytes: u64, begun: Instant) {
    let took = begun.elapsed();
    println!(
        "{pattern:?}: {lines} lines in {took:?}, {:.2} GiB/s",
        bytes as f64 / (1u64 << 30) as f64 / took.as_secs_f64()
    );
}

fn since(dir: &Path, fraction: f64) -> Done {
    let reader = Reader::open(dir);
    let time = |entry: Option<Entry>| match entry {
        Some(Entry::Line(line)) => line.time_ns,
        _ => 0,
    };
    let first = reader.lines(Query::default())?.filter_map(Result::ok).find(|entry| matches!(entry, Entry::Line(_)));
    let last = reader.tail(1, Query::default())?.into_lines().filter_map(Result::ok).last();
    let (first, last) = (time(first), time(last));
    let since_ns = first + ((last - first) as f64 * fraction) as u64;
    for _ in 0..3 {
        let begun = Instant::now();
        let found = reader.lines(Query { since_ns: Some(since_ns), ..Query::default() })?.next().transpose()?;
        let place = match found {
            Some(Entry::Line(line)) => line.written_before / MIB,
            _ => 0,
        };
        println!("{fraction} of the time: at {place} MiB, found in {:?}", begun.elapsed());
    }
    Ok(())
}

/// Every follower reads for itself; one of them stands still until the end.
fn follow(dir: &Path, followers: usize) -> Done {
    let (pump, mut unit) = pumping(dir)?;
    let lines = 4 * MIB / LINE_BYTES;
    let mut all: Vec<_> = (0..followers)
        .map(|_| Reader::open(dir).follow(Position::Start, Query::default()))
        .collect::<Result<_, _>>()?;
    let mut seen = vec![0u64; followers];
    let mut writing = std::time::Duration::ZERO;
    for first in (0..lines).step_by(1000) {
        let text: String = (first..lines.min(first + 1000)).map(numbered).collect();
        let begun = Instant::now();
        unit.write_all(text.as_bytes())?;
        writing += begun.elapsed();
        for (follower, seen) in all.iter_mut().zip(&mut seen).skip(1) {
            *seen += read_on(follower, *seen)?;
        }
    }
    pump.stop();
    for (follower, seen) in all.iter_mut().zip(&mut seen) {
        *seen += read_on(follower, *seen)?;
    }
    let whole = seen.iter().filter(|&&seen| seen == lines).count();
    let status = fs::read_to_string("/proc/self/status")?;
    let rss = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{whole} of {followers} followers saw 1..{lines}; writes took {writing:?} in all; {rss}");
    Ok(())
}

fn read_on(follower: &mut envctl_actors::log_stream::Follower, expect: u64) -> Result<u64, Box<dyn Error>> {
    let mut read = 0;
    while let Some(entry) = follower.next()? {
        let Entry::Line(line) = entry else { continue };
        let number = std::str::from_utf8(&line.bytes)?.split_whitespace().next().and_then(|word| word.parse().ok());
        if number != Some(expect + read) {
            return Err(format!("line {:?} instead of {}", number, expect + read).into());
        }
        read += 1;
    }
    Ok(read)
}
