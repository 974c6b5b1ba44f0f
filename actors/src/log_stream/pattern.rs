//! Regular expressions over lines, run over whole blocks of a log.
//!
//! A pattern is rewritten once so that no match of it can hold a line feed: then a search over a block finds what a search of each
//! line would, at the speed of the regex engine. Time is linear in the length of what is searched, whatever the pattern
//! (the `regex` crate's promise; row E16). Never holds more than it is given.

use std::ops::Range;

use memchr::{memchr, memrchr};
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{
    Capture, Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look,
};

use super::display::{ESC, strip_ansi};

/// Most memory of a compiled pattern, and of the automaton that is built while it runs: a hostile one is refused, not obeyed.
const PATTERN_MAX_BYTES: usize = 16 << 20;

/// What lines are searched for: one or more regular expressions, any of which will do.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
}

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// It is no regular expression. The text shows where, with a caret.
    #[error("{0}")]
    Syntax(Box<regex_syntax::Error>),
    /// It asks for a line feed, which no line has.
    #[error("a line feed is in no line, so nothing can match it")]
    LineFeed,
    /// It would take too much memory.
    #[error("the pattern is too large: {0}")]
    TooLarge(regex::Error),
}

// === impl Pattern ===

impl Pattern {
    /// Any of these expressions, in the syntax of the `regex` crate. `^` and `$` are the ends of a line; a carriage return
    /// before its line feed belongs to the end.
    pub fn new(expressions: &[impl AsRef<str>], ignore_case: bool) -> Result<Self, PatternError> {
        let mut parser = ParserBuilder::new();
        parser.utf8(false).multi_line(true).crlf(true).case_insensitive(ignore_case);
        let parse = |text: &str| parser.build().parse(text).map_err(|error| PatternError::Syntax(Box::new(error)));
        let any: Result<Vec<Hir>, _> = expressions.iter().map(|text| within_line(parse(text.as_ref())?)).collect();
        let mut builder = RegexBuilder::new(&Hir::alternation(any?).to_string());
        builder.size_limit(PATTERN_MAX_BYTES).dfa_size_limit(PATTERN_MAX_BYTES);
        Ok(Self { regex: builder.build().map_err(PatternError::TooLarge)? })
    }

    /// Whether a line (without its line feed) has it. Colours and other terminal sequences are looked through.
    pub fn is_in(&self, line: &[u8]) -> bool {
        self.regex.is_match(&strip_ansi(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// The lines of a block that have it, in order, each with its line feed; perhaps a few more, that have it only with their
    /// carriage return. `lines` holds whole lines only.
    pub(super) fn find_lines(&self, lines: &[u8], mut found: impl FnMut(Range<usize>)) {
        if memchr(ESC, lines).is_some() {
            return self.find_one_by_one(lines, found);
        }
        if lines.is_empty() {
            return;
        }
        // Behind the last line feed there is no line, not even an empty one.
        let haystack = lines.strip_suffix(b"\n").unwrap_or(lines);
        let mut from = 0;
        while from <= haystack.len() {
            // The earliest place where a match is known to end is in the first line that has one: no match leaves its line.
            let Some(end) = self.regex.shortest_match_at(haystack, from) else { return };
            let begin = memrchr(b'\n', &lines[..end]).map_or(0, |at| at + 1);
            let next = memchr(b'\n', &lines[end..]).map_or(lines.len(), |at| end + at + 1);
            found(begin..next);
            from = next;
        }
    }

    /// Where terminal sequences are, they may stand in the middle of what is sought.
    fn find_one_by_one(&self, lines: &[u8], mut found: impl FnMut(Range<usize>)) {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', lines) {
            if self.is_in(&lines[begin..end]) {
                found(begin..end + 1);
            }
            begin = end + 1;
        }
    }
}

/// The expression without the possibility to match a line feed; anchors of the text become those of a line.
fn within_line(hir: Hir) -> Result<Hir, PatternError> {
    let all = |hirs: Vec<Hir>| hirs.into_iter().map(within_line).collect::<Result<Vec<_>, _>>();
    Ok(match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) if memchr(b'\n', &literal.0).is_some() => return Err(PatternError::LineFeed),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(Class::Unicode(mut class)) => {
            class.difference(&ClassUnicode::new([ClassUnicodeRange::new('\n', '\n')]));
            Hir::class(Class::Unicode(class))
        }
        HirKind::Class(Class::Bytes(mut class)) => {
            class.difference(&ClassBytes::new([ClassBytesRange::new(b'\n', b'\n')]));
            Hir::class(Class::Bytes(class))
        }
        HirKind::Look(Look::Start) => Hir::look(Look::StartCRLF),
        HirKind::Look(Look::End) => Hir::look(Look::EndCRLF),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Repetition(mut repetition) => {
            repetition.sub = Box::new(within_line(*repetition.sub)?);
            Hir::repetition(repetition)
        }
        HirKind::Capture(Capture { sub, .. }) => within_line(*sub)?,
        HirKind::Concat(hirs) => Hir::concat(all(hirs)?),
        HirKind::Alternation(hirs) => Hir::alternation(all(hirs)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(&[text], false).unwrap()
    }

    /// Both ways of searching find what a search of each line finds.
    fn check(text: &str, block: &str, expect: &[&str]) {
        let pattern = pattern(text);
        let mut found = Vec::new();
        pattern.find_lines(block.as_bytes(), |at| found.push(block[at].trim_end_matches('\n').to_owned()));
        assert_eq!(found, expect, "{text:?} in {block:?}");
        let alone: Vec<&str> = block.split_terminator('\n').filter(|line| pattern.is_in(line.as_bytes())).collect();
        assert_eq!(alone, expect, "{text:?}, line by line");
    }

    #[test]
    fn a_block_is_searched_as_its_lines_are() {
        let block = "one\ntwo\r\n\nthree one\n";
        check("one", block, &["one", "three one"]);
        check("^one$", block, &["one"]);
        check("two$", block, &["two\r"]);
        check("^$", block, &[""]);
        check("", block, &["one", "two\r", "", "three one"]);
        check(r"\Aone\z", block, &["one"]);
        check(r"o\s+o", block, &[]);
        check(r"e[^x]+o", block, &["three one"]);
        check(r"(?s)one.*two", block, &[]);
        check(r"e\W", block, &["three one"]);
        check(r"(?i)ONE|TWO", block, &["one", "two\r", "three one"]);
        check(r"\bö\b", "ö\nxö\n", &["ö"]);
        check("never", "", &[]);
    }

    #[test]
    fn whatever_the_pattern_and_the_block_they_agree() {
        let mut random = fastrand::Rng::with_seed(3);
        for pattern in ["a+b", "a.*b", "^b|a$", r"[^c]\s*a", "(a|b)*c", r"\Wa", "a{2,3}$", "a?", r"\ba\b", "ä|a\\z"] {
            for _ in 0..300 {
                let block: String = (0..random.usize(0..30))
                    .map(|_| *random.choice(&['a', 'b', 'c', '\n', ' ', '\r', 'ä']).unwrap())
                    .collect();
                let block = if block.is_empty() { block } else { block + "\n" };
                let compiled = self::pattern(pattern);
                let lines: Vec<&str> = block.split_terminator('\n').collect();
                let expect: Vec<&str> = lines.into_iter().filter(|line| compiled.is_in(line.as_bytes())).collect();
                check(pattern, &block, &expect);
            }
        }
    }

    #[test]
    fn colours_do_not_hide_what_is_sought() {
        check("^error", "\x1b[31mer\x1b[1mror\x1b[0m: x\nno error\n", &["\x1b[31mer\x1b[1mror\x1b[0m: x"]);
    }

    #[test]
    fn a_broken_pattern_is_shown_with_a_caret() {
        let error = Pattern::new(&["a(b"], false).unwrap_err().to_string();
        assert!(error.contains("a(b\n") && error.contains("    ^") && error.contains("unclosed group"), "{error}");
        assert!(matches!(Pattern::new(&["a\nb"], false), Err(PatternError::LineFeed)));
        assert!(matches!(Pattern::new(&[r"(\w{1000}){1000}"], false), Err(PatternError::TooLarge(_))));
    }

    #[test]
    fn e16_a_hostile_pattern_takes_linear_time() {
        let hostile = pattern("(a+)+$");
        let line = [vec![b'a'; 1 << 20], b"b\n".to_vec()].concat();
        let mut found = 0;
        hostile.find_lines(&line, |_| found += 1);
        assert!(found == 0 && !hostile.is_in(&line[..line.len() - 1]));
    }
}
