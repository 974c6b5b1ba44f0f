//! Waits for a line: readiness by output. Colours do not hide a pattern, and neither do writes that cut it.

use regex::bytes::Regex;

use super::LogError;
use super::display::strip_ansi;
use super::layout::Stream;
use super::reader::Follower;
use super::splitter::{Entry, LINE_MAX_BYTES, Line};

/// Stands after an unfinished line while it is matched, so that `$` waits for the line's end.
const UNFINISHED: u8 = 0;

/// Says once that a pattern has been seen. Bounded: a line is matched in pieces of 64 KiB, each with the end of the one before.
#[derive(Debug)]
pub struct ReadyMatcher {
    pattern: Regex,
    /// By stream: the piece of the same line that came before.
    before: [Vec<u8>; 2],
    matched: bool,
}

// === impl ReadyMatcher ===

impl ReadyMatcher {
    /// Waits for `pattern` within one line.
    pub fn new(pattern: Regex) -> Self {
        Self { pattern, before: [Vec::new(), Vec::new()], matched: false }
    }

    /// Takes what the follower has by now, unfinished lines included. `true` once: now the pattern is there.
    pub fn poll(&mut self, follower: &mut Follower) -> Result<bool, LogError> {
        while !self.matched {
            match follower.next()? {
                Some(Entry::Line(line)) if self.feed(&line) => return Ok(true),
                Some(Entry::Started { .. } | Entry::Ended { .. }) => self.before = [Vec::new(), Vec::new()],
                Some(_) => {}
                None => return Ok(self.peek(follower)),
            }
        }
        Ok(false)
    }

    /// Takes one line. `true` once: it has the pattern.
    pub fn feed(&mut self, line: &Line) -> bool {
        let mut before = std::mem::take(&mut self.before[line.stream.index()]);
        before.extend_from_slice(&line.bytes);
        let found = !self.matched && self.finds(&before, line.partial);
        if line.partial {
            let old = before.len().saturating_sub(LINE_MAX_BYTES);
            before.drain(..old);
            self.before[line.stream.index()] = before;
        }
        self.matched |= found;
        found
    }

    fn peek(&mut self, follower: &Follower) -> bool {
        let found = Stream::BOTH.iter().any(|&stream| {
            let pending = follower.pending(stream);
            !pending.is_empty() && self.finds(&[&self.before[stream.index()], pending].concat(), true)
        });
        self.matched |= found;
        found
    }

    fn finds(&self, bytes: &[u8], unfinished: bool) -> bool {
        let mut text = strip_ansi(bytes.strip_suffix(b"\r").unwrap_or(bytes));
        if unfinished {
            text.to_mut().push(UNFINISHED);
        }
        self.pattern.is_match(&text)
    }
}
