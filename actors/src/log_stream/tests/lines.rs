//! Reading: lines, tails, filters, the ready line.

use regex::bytes::Regex;

use super::*;
use crate::log_stream::{LINE_MAX_BYTES, Position, ReadyMatcher};

const SMALL: Limits = limits(8 << 10, 1 << 30);

#[test]
fn lines_are_put_together_over_chunks_and_keep_their_stream_and_time() {
    let mut written = Written::new(ROOMY);
    for (stream, bytes) in [
        (Stream::Out, "he"),
        (Stream::Err, "oops\nag"),
        (Stream::Out, "llo\n\nwor"),
        (Stream::Err, "ain\n"),
        (Stream::Out, "ld"),
    ] {
        written.write(stream, bytes.as_bytes());
    }
    let found = lines(&written.log());
    let told: Vec<_> = found.iter().map(|l| (l.stream, text(l), l.sequence, l.partial)).collect();
    // Sequence 0 is the start of the life.
    let expect = [
        (Stream::Err, "oops", 2, false),
        (Stream::Out, "hello", 1, false),
        (Stream::Out, "", 3, false),
        (Stream::Err, "again", 2, false),
        (Stream::Out, "world", 3, true),
    ];
    assert_eq!(told, expect.map(|(stream, text, sequence, partial)| (stream, text.to_owned(), sequence, partial)));
    assert!(found[1].time_ns <= found[2].time_ns);
}

#[test]
fn whatever_is_written_in_whatever_pieces_is_read_as_written() {
    for seed in 0..25 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut written = Written::new(SMALL);
        let mut model = [Vec::new(), Vec::new()];
        for incarnation in 1..4 {
            written.store().set_life(Life { run: 1, incarnation });
            for _ in 0..random.usize(0..40) {
                let stream = if random.bool() { Stream::Out } else { Stream::Err };
                let longest = if random.u8(0..20) == 0 { 60_000 } else { 200 };
                let length = random.usize(1..longest);
                let bytes: Vec<u8> = (0..length).map(|_| *random.choice(b"ab\n\0\xff\r").unwrap()).collect();
                written.write(stream, &bytes);
                model[stream.index()].extend_from_slice(&bytes);
            }
            written.end_life();
            if random.bool() {
                written.reopen(SMALL);
            }
        }
        let found = lines(&written.log());
        for stream in Stream::BOTH {
            assert_eq!(reassemble(&found, stream), model[stream.index()], "seed {seed}");
        }
        assert!(found.iter().filter(|line| !line.partial).all(|line| !line.bytes.contains(&b'\n')), "seed {seed}");
        check_tails(&written, &found, &mut random, seed);
    }
}

fn check_tails(written: &Written, all: &[Line], random: &mut fastrand::Rng, seed: u64) {
    for stream in [None, Some(Stream::Out), Some(Stream::Err)] {
        let wanted: Vec<_> = all.iter().filter(|line| stream.is_none_or(|s| s == line.stream)).collect();
        for count in [1, random.usize(2..50), wanted.len(), wanted.len() + 5] {
            let query = Query { stream, ..Query::default() };
            let tail = written.reader().tail(count, query).unwrap().into_lines();
            let tail: Vec<_> = tail.map(Result::unwrap).filter_map(line_of).collect();
            let expect = &wanted[wanted.len().saturating_sub(count)..];
            assert!(tail.iter().eq(expect.iter().copied()), "seed {seed}, {stream:?}, tail of {count}");
        }
    }
}

#[test]
fn a_life_s_unterminated_line_ends_with_it() {
    let mut written = Written::new(ROOMY);
    for incarnation in 1..=2 {
        written.store().set_life(Life { run: 1, incarnation });
        written.write(Stream::Out, b"killed in the mid");
    }
    let found = lines(&written.log());
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|line| line.partial && line.bytes == b"killed in the mid"));
    assert_eq!(found.iter().map(|line| line.life.incarnation).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(written.reader().lives().unwrap().len(), 2);
}

#[test]
fn a_follower_hands_out_the_last_words_when_a_life_has_ended() {
    let mut written = Written::new(ROOMY);
    let life = Life { run: 1, incarnation: 1 };
    written.store().set_life(life);
    written.write(Stream::Out, b"prompt> ");
    let mut follower = written.reader().follow(Position::Start, Query::default()).unwrap();
    assert!(matches!(follower.next().unwrap(), Some(Entry::Started { .. })));
    assert_eq!(follower.next().unwrap(), None);
    assert_eq!(follower.pending(Stream::Out), b"prompt> ");
    written.end_life();
    written.store().flush();
    let last = follower.next().unwrap().and_then(line_of).unwrap();
    assert!(last.partial && last.bytes == b"prompt> ");
    assert!(matches!(follower.next().unwrap(), Some(Entry::Ended { life: ended, .. }) if ended == life));
    assert_eq!(follower.next().unwrap(), None);
}

#[test]
fn filters_leave_out_other_lives_streams_and_times() {
    let mut written = Written::new(SMALL);
    for (run, incarnation) in [(1, 1), (1, 2), (2, 1)] {
        written.store().set_life(Life { run, incarnation });
        for n in 0..300 {
            written.write(Stream::Out, format!("{run}.{incarnation} out {n}\n").as_bytes());
            written.write(Stream::Err, format!("{run}.{incarnation} err {n}\n").as_bytes());
        }
    }
    let all = lines(&written.log());
    let check = |query: Query, keep: &dyn Fn(&Line) -> bool| {
        let found: Vec<_> = written.reader().lines(query).unwrap().map(Result::unwrap).filter_map(line_of).collect();
        let expect: Vec<_> = all.iter().filter(|line| keep(line)).cloned().collect();
        assert!(!expect.is_empty() && expect.len() < all.len(), "{query:?} tests nothing");
        assert_eq!(found, expect, "{query:?}");
    };
    let none = Query::default();
    check(Query { stream: Some(Stream::Err), ..none }, &|line| line.stream == Stream::Err);
    check(Query { run: Some(2), ..none }, &|line| line.life.run == 2);
    check(Query { run: Some(1), incarnation: Some(2), ..none }, &|line| line.life == Life { run: 1, incarnation: 2 });
    let middle = all[all.len() / 2].time_ns;
    check(Query { since_ns: Some(middle), ..none }, &|line| line.time_ns >= middle);
    check(Query { until_ns: Some(middle), ..none }, &|line| line.time_ns < middle);
}

#[test]
fn a_position_can_be_taken_up_again() {
    let mut written = Written::new(SMALL);
    for n in 0..500 {
        written.write(Stream::Out, format!("{n}\n").as_bytes());
    }
    let mut first = written.reader().follow(Position::Start, Query::default()).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 250 {
        seen.extend(first.next().unwrap().and_then(line_of));
    }
    let mut second = written.reader().follow(Position::Sequence(first.position()), Query::default()).unwrap();
    while let Some(entry) = second.next().unwrap() {
        seen.extend(line_of(entry));
    }
    assert_eq!(seen.iter().map(text).collect::<Vec<_>>(), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    let mut end = written.reader().follow(Position::End, Query::default()).unwrap();
    assert_eq!(end.next().unwrap(), None);
    written.write(Stream::Out, b"new\n");
    assert_eq!(end.next().unwrap().and_then(line_of).map(|line| text(&line)), Some("new".to_owned()));
}

#[test]
fn a_log_that_does_not_exist_yet_is_empty_and_can_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    let reader = Reader::open(&dir.path().join("log"));
    assert_eq!(reader.lines(Query::default()).unwrap().count(), 0);
    assert_eq!(reader.tail(5, Query::default()).unwrap().into_lines().count(), 0);
    assert_eq!(reader.lives().unwrap(), []);
}

#[test]
fn lines_around_the_longest_are_whole_or_in_pieces() {
    for length in [LINE_MAX_BYTES - 1, LINE_MAX_BYTES, LINE_MAX_BYTES + 1, 2 * LINE_MAX_BYTES, 2 * LINE_MAX_BYTES + 1] {
        let mut written = Written::new(ROOMY);
        let mut bytes = vec![b'x'; length];
        bytes.extend_from_slice(b"\nnext\n");
        for part in bytes.chunks(50_000) {
            written.write(Stream::Out, part);
        }
        let found = lines(&written.log());
        assert_eq!(reassemble(&found, Stream::Out), bytes, "{length}");
        assert_eq!(found.len(), length.div_ceil(LINE_MAX_BYTES) + 1, "{length}");
        assert!(found.iter().all(|line| line.bytes.len() <= LINE_MAX_BYTES), "{length}");
    }
}

/// How often the matcher says yes while the unit writes these pieces.
fn matches(pattern: &str, pieces: &[&[u8]]) -> usize {
    let mut written = Written::new(ROOMY);
    let mut follower = written.reader().follow(Position::Start, Query::default()).unwrap();
    let mut matcher = ReadyMatcher::new(Regex::new(pattern).unwrap());
    let mut count = 0;
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        written.write(Stream::Out, piece);
        count += usize::from(matcher.poll(&mut follower).unwrap());
    }
    count
}

#[test]
fn a_ready_line_is_found_once_wherever_writes_cut_it() {
    let line = b"boot\n\x1b[32mLISTENING\x1b[0m on \x1b[1m8080\x1b[22m\nLISTENING on 8080\n";
    for cut in 0..line.len() {
        let (head, tail) = line.split_at(cut);
        assert_eq!(matches("LISTENING on 8080", &[head, tail]), 1, "cut at {cut}");
    }
    assert_eq!(matches("LISTENING on 8080", &[b"LISTENING on 8081\n"]), 0);
}

#[test]
fn a_ready_line_may_lack_its_end_but_an_anchored_one_waits_for_it() {
    assert_eq!(matches("ready", &[b"ready"]), 1);
    assert_eq!(matches("ready$", &[b"ready", b" not\n"]), 0);
    assert_eq!(matches("^ready$", &[b"rea", b"dy", b"\r\n"]), 1);
}

#[test]
fn a_ready_word_is_found_across_the_pieces_of_a_long_line() {
    let mut long = vec![b'x'; LINE_MAX_BYTES - 3];
    long.extend_from_slice(b"ready");
    let pieces: Vec<&[u8]> = long.chunks(40_000).collect();
    assert_eq!(matches("ready", &pieces), 1);
}
