//! Bytes made harmless for a terminal. Kept bytes are never changed on disk, only here, on their way to a person.
//!
//! A unit's output can move the cursor, set the title, write the clipboard or turn text round (CVE-2021-25743,
//! CVE-2025-58160, CVE-2021-42574). What passes: printable text, tabs, and colours if they are wanted.

use std::borrow::Cow;
use std::fmt::Write;

use super::terminal_line;

/// Longest colour sequence that is believed to be one.
const SGR_MAX_BYTES: usize = 64;
pub(super) const ESC: u8 = 0x1b;
const SGR_RESET: &str = "\x1b[0m";

/// Text that can be shown: control characters and bytes that are not UTF-8 appear as `\x1b`, invisible and text-turning
/// characters as `\u{202e}`. With `colours`, colour sequences (SGR) pass and are switched off at the end; without, they are
/// left out. Fit for log lines, names and error messages.
pub fn sanitize(bytes: &[u8], colours: bool) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.chars().all(is_harmless)
    {
        return Cow::Borrowed(text);
    }
    let mut shown = Shown { text: String::with_capacity(bytes.len() + 16), colours, coloured: false };
    for chunk in bytes.utf8_chunks() {
        shown.push_text(chunk.valid());
        for byte in chunk.invalid() {
            shown.push_byte(*byte);
        }
    }
    if shown.coloured {
        shown.text.push_str(SGR_RESET);
    }
    Cow::Owned(shown.text)
}

/// [`sanitize`] for a line. One that ends in `\r\n` was written to a terminal (or for one), which ends every line so: it is
/// shown as a terminal would be left showing it, without what was written over.
pub fn sanitize_line(bytes: &[u8], colours: bool) -> Cow<'_, str> {
    match bytes.strip_suffix(b"\r") {
        None => sanitize(bytes, colours),
        Some(line) if terminal_line::is_plain(line) => sanitize(line, colours),
        Some(line) => Cow::Owned(sanitize(&terminal_line::settle(line), colours).into_owned()),
    }
}

/// The bytes without terminal sequences (CSI, OSC, DCS and their kin, two-byte escapes), for matching; all else stays.
pub fn strip_ansi(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(ESC, bytes) else { return Cow::Borrowed(bytes) };
    let mut kept = bytes[..first].to_vec();
    let mut rest = &bytes[first..];
    while let Some(&byte) = rest.first() {
        let length = if byte == ESC { sequence_length(rest) } else { 0 };
        if length == 0 {
            kept.push(byte);
        }
        rest = &rest[length.max(1)..];
    }
    Cow::Owned(kept)
}

/// Length of the sequence that `bytes` begins with (ECMA-48, 5.4 and 5.6); an unfinished one goes to the end.
pub(super) fn sequence_length(bytes: &[u8]) -> usize {
    match bytes.get(1) {
        Some(b'[') => {
            let end = bytes[2..].iter().position(|b| !matches!(b, 0x20..=0x3f));
            end.map_or(bytes.len(), |end| end + 3)
        }
        Some(b']' | b'P' | b'X' | b'^' | b'_') => string_length(bytes),
        Some(0x20..=0x2f) => bytes.len().min(3),
        Some(_) => 2,
        None => 1,
    }
}

/// A control string ends at BEL or ST (`ESC \`).
fn string_length(bytes: &[u8]) -> usize {
    match memchr::memchr2(0x07, ESC, &bytes[2..]) {
        Some(end) if bytes[end + 2] == ESC && bytes.get(end + 3) == Some(&b'\\') => end + 4,
        Some(end) if bytes[end + 2] == ESC => end + 2,
        Some(end) => end + 3,
        None => bytes.len(),
    }
}

/// Length of the colour sequence (SGR: ECMA-48, 8.3.117) that `text` begins with.
pub fn sgr_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.bytes().take(SGR_MAX_BYTES).position(|b| !matches!(b, b'0'..=b'9' | b';' | b':'))?;
    (parameters.as_bytes()[end] == b'm').then_some(end + 3)
}

/// Whether a character can be shown as it is: no control but the tab, nothing invisible that hides or turns text.
pub fn is_harmless(c: char) -> bool {
    match c {
        '\t' => true,
        // Marks and overrides of direction, line and paragraph separators, interlinear marks, tags: they hide or turn text.
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => false,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => false,
        c => !c.is_control(),
    }
}

/// What is shown so far.
struct Shown {
    text: String,
    colours: bool,
    coloured: bool,
}

// === impl Shown ===

impl Shown {
    fn push_text(&mut self, mut text: &str) {
        while let Some(c) = text.chars().next() {
            let mut length = c.len_utf8();
            if let Some(sgr) = sgr_length(text) {
                length = sgr;
                if self.colours {
                    self.text.push_str(&text[..sgr]);
                    self.coloured = !matches!(&text[..sgr], SGR_RESET | "\x1b[m");
                }
            } else if is_harmless(c) {
                self.text.push(c);
            } else {
                self.push_control(c);
            }
            text = &text[length..];
        }
    }

    fn push_control(&mut self, c: char) {
        match u8::try_from(u32::from(c)) {
            Ok(byte) if byte < 0x80 => self.push_byte(byte),
            _ => write!(self.text, "\\u{{{:x}}}", u32::from(c)).expect("invariant: a String takes all writes"),
        }
    }

    fn push_byte(&mut self, byte: u8) {
        write!(self.text, "\\x{byte:02x}").expect("invariant: a String takes all writes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: impl AsRef<[u8]>, expect: &str) {
        assert_eq!(sanitize(input.as_ref(), true), expect, "{:?}", input.as_ref().escape_ascii().to_string());
    }

    #[test]
    fn text_passes_untouched_and_uncopied() {
        for text in ["", "plain", "täb\there", "日本語 🦀", "a\\x1b"] {
            assert!(matches!(sanitize(text.as_bytes(), true), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn nothing_but_colour_reaches_the_terminal() {
        check("\x1b]0;title\x07", "\\x1b]0;title\\x07");
        check("\x1b]52;c;ZXZpbA==\x1b\\", "\\x1b]52;c;ZXZpbA==\\x1b\\");
        check("\x1b]8;;http://evil\x1b\\x", "\\x1b]8;;http://evil\\x1b\\x");
        check("\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H");
        check("\x1bP+q544e\x1b\\", "\\x1bP+q544e\\x1b\\");
        check("\x1bc\x1b(0", "\\x1bc\\x1b(0");
        check(b"\x9b2J\x90q\x9d0;t\x9c", "\\x9b2J\\x90q\\x9d0;t\\x9c");
        check("\u{9b}2J", "\\u{9b}2J");
        check("\x07\x08\x00\x7f", "\\x07\\x08\\x00\\x7f");
        check("ok\rFAILED", "ok\\x0dFAILED");
        check("a\nb", "a\\x0ab");
        check("\u{202e}gpj.exe\u{202c}", "\\u{202e}gpj.exe\\u{202c}");
        check("\u{2066}x\u{2069}\u{200f}\u{61c}", "\\u{2066}x\\u{2069}\\u{200f}\\u{61c}");
        check(b"caf\xe9 \xff\xfe", "caf\\xe9 \\xff\\xfe");
        check("\u{e0041}\u{2028}\u{feff}", "\\u{e0041}\\u{2028}\\u{feff}");
    }

    #[test]
    fn colours_pass_when_wanted_and_end_with_the_text() {
        check("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m");
        check("\x1b[38:5:196mred", "\x1b[38:5:196mred\x1b[0m");
        check("\x1b[>4;2m\x1b[?1049h\x1b[3", "\\x1b[>4;2m\\x1b[?1049h\\x1b[3");
        check(format!("\x1b[{}m", "1;".repeat(40)), &format!("\\x1b[{}m", "1;".repeat(40)));
        assert_eq!(sanitize(b"\x1b[31mred\x1b[m\x1b[2J", false), "red\\x1b[2J");
    }

    #[test]
    fn whatever_the_bytes_no_control_character_is_left() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let bytes: Vec<u8> =
                (0..40).map(|_| *random.choice(b"\x1b[]P;0m\x07\\\x9b\xc2\xe2\x80\xaea\r\n").unwrap()).collect();
            let shown = sanitize(&bytes, false);
            assert!(shown.chars().all(is_harmless), "{:?} became {shown:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_line_may_end_in_carriage_return() {
        assert_eq!(sanitize_line(b"dos\r", true), "dos");
        assert_eq!(sanitize_line(b"a\rb", true), "a\\x0db");
    }

    #[test]
    fn a_terminals_line_is_shown_without_what_was_written_over() {
        assert_eq!(sanitize_line(b" 10%\r\x1b[K100%\r", true), "100%");
        assert_eq!(sanitize_line(b"\x1b[?2004h$ \x1b[32mls\x1b[0m\r\r", true), "$ \x1b[32mls\x1b[0m");
        assert_eq!(sanitize_line(b"\x1b]52;c;ZXZpbA==\x07ok\x9b2J\r", true), "ok\\x9b2J");
    }

    #[test]
    fn sequences_are_stripped_for_matching() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"plain", b"plain"),
            (b"\x1b[32mready\x1b[0m on \x1b[1m80\x1b[22m", b"ready on 80"),
            (b"\x1b]0;t\x07a\x1b]8;;u\x1b\\b\x1b]8;;\x1b\\", b"ab"),
            (b"\x1bPq\x1b\\a\x1b(Bb\x1b7c", b"abc"),
            (b"a\x1b[3", b"a"),
            (b"a\x1b]0;never ends", b"a"),
            (b"a\x1b", b"a"),
            (b"a\x1b]x\x1b[1mb", b"ab"),
        ];
        for (input, expect) in cases {
            assert_eq!(strip_ansi(input).as_ref(), expect, "{:?}", input.escape_ascii().to_string());
        }
    }
}
