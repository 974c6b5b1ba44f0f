//! Searching: what a pattern, a level or a time leaves is what a look at every line leaves, only sooner.

use super::*;
use crate::log_stream::{Filter, LINE_MAX_BYTES, Level, Pattern, Position};

const SMALL: Limits = limits(16 << 10, 1 << 30);

fn grep(pattern: &str) -> Filter {
    Filter { pattern: Some(Pattern::new(&[pattern], false).unwrap()), ..Filter::default() }
}

fn found(written: &Written, filter: Filter, query: Query) -> Vec<Line> {
    let lines = written.reader().only(filter).lines(query).unwrap();
    lines.map(Result::unwrap).filter_map(line_of).collect()
}

/// Several lives on both streams over many segments, gaps between them left out: those are the store's tests.
fn some_log(seed: u64) -> Written {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut written = Written::new(SMALL);
    for incarnation in 1..5 {
        written.store().set_life(Life { run: 1, incarnation });
        for _ in 0..random.usize(0..60) {
            let stream = if random.u8(0..4) > 0 { Stream::Out } else { Stream::Err };
            let longest = if random.u8(0..60) == 0 { 60_000 } else { 400 };
            let bytes: Vec<u8> =
                (0..random.usize(1..longest)).map(|_| *random.choice(b"abcdefgh  \n\n\xff\r\x1b").unwrap()).collect();
            written.write(stream, &bytes);
        }
        if random.bool() {
            written.end_life();
        }
        if random.bool() {
            written.reopen(SMALL);
        }
    }
    written
}

#[test]
fn a_search_finds_what_a_look_at_every_line_finds() {
    for seed in 0..6 {
        let written = some_log(seed);
        let all = lines(&written.log());
        for pattern in ["abc", "^a", "h$", "^$", "c.?d", r"a\s*b$", "(?i)ABCD", "z"] {
            for invert in [false, true] {
                let filter = Filter { invert, ..grep(pattern) };
                let expect: Vec<&Line> = all.iter().filter(|line| filter.takes(line)).collect();
                let found = found(&written, filter.clone(), Query::default());
                assert!(
                    found.iter().eq(expect.iter().copied()),
                    "seed {seed}, {pattern:?}, {invert}: {} for {}",
                    found.len(),
                    expect.len()
                );
                let tail = written.reader().only(filter).tail(3, Query::default()).unwrap().into_lines();
                let tail: Vec<Line> = tail.map(Result::unwrap).filter_map(line_of).collect();
                assert!(
                    tail.iter().eq(expect[expect.len().saturating_sub(3)..].iter().copied()),
                    "seed {seed}, {pattern:?}, the tail"
                );
            }
        }
    }
}

#[test]
fn what_is_written_later_is_searched_too() {
    let mut written = Written::new(ROOMY);
    let mut follower = written.reader().only(grep("x$")).follow(Position::Start, Query::default()).unwrap();
    let mut seen = Vec::new();
    for (at, bytes) in ["a\nbx", "\ncx\nd", "x\n", "ex", "f\ngx\nh"].into_iter().enumerate() {
        written.write(if at == 3 { Stream::Err } else { Stream::Out }, bytes.as_bytes());
        while let Some(entry) = follower.next().unwrap() {
            seen.extend(line_of(entry).map(|line| text(&line)));
        }
    }
    assert_eq!(seen, ["bx", "cx", "dx", "gx"]);
}

#[test]
fn a_time_is_found_without_reading_what_lies_before_it() {
    for seed in 100..112 {
        let written = some_log(seed);
        let all = lines(&written.log());
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..8 {
            let Some(line) = random.choice(&all) else { continue };
            let since_ns = line.time_ns + u64::from(random.bool());
            let until_ns = random.bool().then(|| random.choice(&all).map(|line| line.time_ns)).flatten();
            let query = Query { since_ns: Some(since_ns), until_ns, ..Query::default() };
            let expect: Vec<&Line> = all
                .iter()
                .filter(|line| line.time_ns >= since_ns && until_ns.is_none_or(|until| line.time_ns < until))
                .collect();
            let found = found(&written, Filter::default(), query);
            let first = found.iter().zip(&expect).find(|(found, expect)| found != *expect);
            assert!(
                first.is_none() && found.len() == expect.len(),
                "seed {seed}: {} for {}, {first:?}",
                found.len(),
                expect.len()
            );
        }
    }
}

#[test]
fn every_reader_finds_the_same_place_for_a_line() {
    let written = some_log(7);
    let all = lines(&written.log());
    let mut places: Vec<u64> = all.iter().map(|line| line.written_before).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), all.len(), "two lines share their place");
    let middle = &all[all.len() / 2];
    let from = written.reader().follow(Position::Sequence(middle.sequence), Query::default()).unwrap().into_lines();
    let from: Vec<Line> = from.map(Result::unwrap).filter_map(line_of).collect();
    let same = from.iter().filter(|line| all.contains(line)).count();
    // At most one line of each stream is torn where it began in the middle.
    assert!(same + 2 >= from.len() && from.len() > 10, "{same} of {}", from.len());
}

#[test]
fn records_are_chosen_by_level_and_field() {
    let mut written = Written::new(ROOMY);
    written.write(
        Stream::Out,
        b"{\"level\":\"info\",\"user\":7}\nplain error\nlevel=warn user=8\n{\"level\":\"error\",\"user\":8}\n",
    );
    let level = Filter { level: Some(Level::Warn), ..Filter::default() };
    let texts = |filter| found(&written, filter, Query::default()).iter().map(text).collect::<Vec<_>>();
    assert_eq!(texts(level), ["level=warn user=8", "{\"level\":\"error\",\"user\":8}"]);
    let user = Filter { fields: vec![("user".to_owned(), "7".to_owned())], ..Filter::default() };
    assert_eq!(texts(user), ["{\"level\":\"info\",\"user\":7}"]);
    let both = Filter { level: Some(Level::Warn), ..grep("error") };
    assert_eq!(texts(both), ["{\"level\":\"error\",\"user\":8}"]);
}

#[test]
fn e16_a_hostile_pattern_on_a_line_of_a_megabyte_takes_linear_time() {
    let mut written = Written::new(ROOMY);
    let line = [vec![b'a'; 1 << 20], b"b\nshort a\n".to_vec()].concat();
    for piece in line.chunks(50_000) {
        written.write(Stream::Out, piece);
    }
    let found = found(&written, grep("(a+)+$"), Query::default());
    // A long line is looked at in pieces, each of which ends with an `a`.
    assert_eq!(found.iter().filter(|line| line.partial).count(), (1 << 20) / LINE_MAX_BYTES);
    assert_eq!(text(found.last().unwrap()), "short a");
}
