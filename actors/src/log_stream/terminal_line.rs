//! What a terminal would be left showing of a line that was written to one.
//!
//! Programs on a terminal go back to the beginning of the line and write over it (progress bars), erase characters (echoed
//! corrections) and move the cursor. Kept bytes are never changed; this is for a person who reads one line. Colours stay in the text,
//! every other sequence is carried out if it is about this line, and left out if not.

use super::display::{ESC, sequence_length};

/// Beyond this column nothing is moved to: a hostile line could otherwise ask for any amount of blanks.
const COLUMN_MAX: usize = 4096;
/// Colours that add up to more than this begin anew: they come from a program that never resets them.
const STYLE_MAX_BYTES: usize = 256;
const RESET: &[u8] = b"\x1b[0m";

/// A character, or a byte that belongs to none, and its colours.
#[derive(Debug, Clone, Copy)]
struct Cell<'a> {
    text: &'a [u8],
    style: usize,
}

/// The line so far.
struct Screen<'a> {
    cells: Vec<Cell<'a>>,
    cursor: usize,
    styles: Vec<Vec<u8>>,
    style: usize,
}

/// Whether anything is to be carried out at all.
pub(super) fn is_plain(line: &[u8]) -> bool {
    memchr::memchr3(ESC, b'\r', b'\x08', line).is_none()
}

/// The line as it is left, with its colours.
pub(super) fn settle(line: &[u8]) -> Vec<u8> {
    let mut screen = Screen { cells: Vec::new(), cursor: 0, styles: vec![Vec::new()], style: 0 };
    for chunk in line.utf8_chunks() {
        let mut text = chunk.valid();
        while let Some(c) = text.chars().next() {
            let length = match c {
                '\x1b' => sequence_length(text.as_bytes()).max(1),
                c => c.len_utf8(),
            };
            // A sequence that is cut by a broken character goes to the end of what is whole.
            let (head, rest) = text.split_at_checked(length).unwrap_or((text, ""));
            screen.take(c, head.as_bytes());
            text = rest;
        }
        for byte in chunk.invalid().chunks(1) {
            screen.put(byte);
        }
    }
    screen.finish()
}

// === impl Screen ===

impl<'a> Screen<'a> {
    fn take(&mut self, c: char, text: &'a [u8]) {
        match c {
            '\r' => self.cursor = 0,
            '\x08' => self.cursor = self.cursor.saturating_sub(1),
            '\x07' => {}
            '\x1b' => self.obey(text),
            _ => self.put(text),
        }
    }

    /// Carries out a sequence that is about this line (ECMA-48, 8.3).
    fn obey(&mut self, sequence: &[u8]) {
        let Some((end, parameters)) = sequence.strip_prefix(b"\x1b[").and_then(<[u8]>::split_last) else { return };
        let number = std::str::from_utf8(parameters).ok().and_then(|text| text.parse::<usize>().ok());
        let count = number.unwrap_or(1).max(1);
        match end {
            b'm' => self.colour(sequence, parameters),
            b'C' => self.cursor = self.cursor.saturating_add(count).min(COLUMN_MAX),
            b'D' => self.cursor = self.cursor.saturating_sub(count),
            b'G' => self.cursor = (count - 1).min(COLUMN_MAX),
            b'K' => match number.unwrap_or(0) {
                0 => self.cells.truncate(self.cursor),
                1 => {
                    let until = self.cursor.saturating_add(1).min(self.cells.len());
                    self.cells[..until].fill(Cell { text: b" ", style: 0 });
                }
                _ => self.cells.clear(),
            },
            _ => {}
        }
    }

    fn colour(&mut self, sequence: &[u8], parameters: &[u8]) {
        if matches!(parameters, b"" | b"0") {
            self.style = 0;
            return;
        }
        let mut style = self.styles[self.style].clone();
        if style.len() + sequence.len() > STYLE_MAX_BYTES {
            style.clear();
        }
        style.extend_from_slice(sequence);
        // Looked for in the newest only: a line of nothing but colours must not cost the square of its length.
        if self.styles.last() != Some(&style) {
            self.styles.push(style);
        }
        self.style = self.styles.len() - 1;
    }

    fn put(&mut self, text: &'a [u8]) {
        let cell = Cell { text, style: self.style };
        if self.cells.len() < self.cursor {
            self.cells.resize(self.cursor, Cell { text: b" ", style: 0 });
        }
        match self.cells.get_mut(self.cursor) {
            Some(under) => *under = cell,
            None => self.cells.push(cell),
        }
        self.cursor += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        // Blanks behind the cursor are what is left of something that was erased by writing over it.
        while self.cells.len() > self.cursor && self.cells.last().is_some_and(|cell| cell.text == b" ") {
            self.cells.pop();
        }
        let (mut line, mut style) = (Vec::new(), 0);
        for cell in &self.cells {
            if cell.style != style {
                if style != 0 {
                    line.extend_from_slice(RESET);
                }
                line.extend_from_slice(&self.styles[cell.style]);
                style = cell.style;
            }
            line.extend_from_slice(cell.text);
        }
        if style != 0 {
            line.extend_from_slice(RESET);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expect: &str) {
        assert_eq!(String::from_utf8_lossy(&settle(line)), expect, "{}", line.escape_ascii());
    }

    #[test]
    fn a_line_is_shown_as_a_terminal_would_be_left_showing_it() {
        check(b"plain", "plain");
        check(b" 10%\r 50%\r100%", "100%");
        check(b"loading\rok", "okading");
        check(b"loading\r\x1b[Kok", "ok");
        check(b"loading\x1b[2K\rok", "ok");
        check(b"lss\x08 \x08", "ls");
        check(b"ab\x1b[1DX", "aX");
        check(b"a\x1b[3Cb", "a   b");
        check(b"abc\x1b[2Gx", "axc");
        check("ä\u{8}ö".as_bytes(), "ö");
        check(b"\x1b[?2004h$ ls\x1b[?2004l\r", "$ ls");
        check(b"\x1b]0;title\x07text\x1b(B\x07", "text");
        check(b"\x1b[31mred\x1b[0m plain", "\x1b[31mred\x1b[0m plain");
        check(b"\x1b[1m\x1b[31mx\x1b[m", "\x1b[1m\x1b[31mx\x1b[0m");
        check(b"\x1b[01;31m\x1b[Kmatch\x1b[m\x1b[K rest", "\x1b[01;31mmatch\x1b[0m rest");
        check(b"ends in \x1b[", "ends in ");
    }

    #[test]
    fn a_hostile_line_stays_small() {
        assert!(settle(b"\x1b[99999999999999999999Cx\x1b[4000000000Cy").len() <= COLUMN_MAX + 1);
        let colours: Vec<u8> = (0..5000).flat_map(|n| format!("\x1b[{}mx", n % 97 + 1).into_bytes()).collect();
        assert!(settle(&colours).len() < colours.len() * STYLE_MAX_BYTES);
    }

    #[test]
    fn whatever_the_bytes_it_ends() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..2000 {
            let line: Vec<u8> =
                (0..60).map(|_| *random.choice(b"\x1b[]0129;KmCDG\r\x08\x07ab \xc3\xa4\xff").unwrap()).collect();
            settle(&line);
        }
    }
}
