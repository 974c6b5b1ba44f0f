//! `.env` files: `KEY=value` lines.
//!
//! | written | value |
//! |---|---|
//! | `A=b c # note` | `b c` |
//! | `export A=b` | `b` |
//! | `A='$x \n'` | as it stands, also over several lines |
//! | `A="x\n\$y"` | escapes `\n \r \t \\ \" \$`, also over several lines |
//! | `A=${B}`, `A=$B` | `B` if an earlier line of the same file sets it, else as it stands |
//!
//! Our own reader, because the usual one expands from the environment of this process, which no library here may read.

use std::collections::HashMap;
use std::ops::Range;

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvEntry {
    /// Its name.
    pub(super) key: String,
    /// Its value.
    pub(super) value: String,
    /// Where the name stands.
    pub(super) span: Range<usize>,
}

/// A line that is no variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvFileError {
    /// What is wrong.
    pub(super) message: &'static str,
    /// What to write instead.
    pub(super) hint: &'static str,
    /// Where.
    pub(super) span: Range<usize>,
}

/// Most bytes that expansion may produce in all: `A=$B$B`, `C=$A$A` … doubles with every line.
const EXPANDED_BYTES_MAX: usize = 1 << 20;

/// What can be wrong with a line, and what to write instead.
type Mistake = (&'static str, &'static str);

const NO_PAIR: Mistake = ("a line must be KEY=value", "write KEY=value, or begin a note with `#`");
const BAD_KEY: Mistake = (
    "the name before `=` must be letters, digits and `_`",
    "write a name such as DATABASE_URL; it does not begin with a digit",
);
const NUL: Mistake = ("the value contains a NUL character", "take the NUL out: no variable can hold one");
const OPEN_SINGLE: Mistake = ("the `'` is never closed", "end the value with `'`; one that holds a `'` goes in \"…\"");
const OPEN_DOUBLE: Mistake =
    ("the `\"` is never closed", "end the value with `\"`; inside of it, a quote is written `\\\"`");
const TOO_LARGE: Mistake =
    ("the values grow too large", "name fewer variables with `$` here: all they fill in is kept below 1 MiB");

/// Reads a whole file; a bad line does not hide the next one.
pub(super) fn parse(text: &str) -> (Vec<EnvEntry>, Vec<EnvFileError>) {
    let mut reader = EnvReader { text, at: 0, known: HashMap::new(), expanded_bytes: 0 };
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    while reader.at < text.len() {
        match reader.line() {
            Ok(entry) => entries.extend(entry),
            Err(error) => errors.push(error),
        }
    }
    (entries, errors)
}

struct EnvReader<'a> {
    text: &'a str,
    at: usize,
    known: HashMap<String, String>,
    expanded_bytes: usize,
}

// === impl EnvReader ===

impl<'a> EnvReader<'a> {
    fn line(&mut self) -> Result<Option<EnvEntry>, EnvFileError> {
        let line_start = self.at;
        let line = self.rest().split('\n').next().unwrap_or_default();
        self.at = (line_start + line.len() + 1).min(self.text.len());
        let body = line.trim_start_matches('\u{feff}').trim_start();
        if body.is_empty() || body.starts_with('#') {
            return Ok(None);
        }
        let body = body.strip_prefix("export ").map_or(body, str::trim_start);
        let start = line_start + (line.len() - body.len());
        let whole = start..line_start + line.trim_end().len();
        let Some((key, raw)) = body.split_once('=') else {
            return Err(error(NO_PAIR, whole));
        };
        let key = key.trim_end();
        if !is_key(key) {
            return Err(error(BAD_KEY, start..start + key.len().max(1)));
        }
        let raw = raw.trim_start_matches([' ', '\t']);
        let value = self.value(line_start + line.len() - raw.len(), raw)?;
        if value.contains('\0') {
            return Err(error(NUL, whole));
        }
        self.known.insert(key.to_owned(), value.clone());
        Ok(Some(EnvEntry { key: key.to_owned(), value, span: start..start + key.len() }))
    }

    fn value(&mut self, start: usize, raw: &str) -> Result<String, EnvFileError> {
        match raw.as_bytes().first() {
            Some(b'\'') => {
                let inside = &self.text[start + 1..];
                let end = inside.find('\'').ok_or_else(|| error(OPEN_SINGLE, start..start + 1))?;
                self.skip_line_after(start + 1 + end + 1);
                Ok(inside[..end].to_owned())
            }
            Some(b'"') => {
                let inside = &self.text[start + 1..];
                let (value, length) = unescape(inside).ok_or_else(|| error(OPEN_DOUBLE, start..start + 1))?;
                self.skip_line_after(start + 1 + length);
                self.expand(&value, start)
            }
            _ => {
                let end = raw.find(" #").or_else(|| raw.find("\t#")).unwrap_or(raw.len());
                let bare = if raw.starts_with('#') { "" } else { raw[..end].trim_end() };
                self.expand(&mark(bare), start)
            }
        }
    }

    /// Goes on after the line in which a quoted value ended; what follows the quote there is a comment.
    fn skip_line_after(&mut self, end: usize) {
        let rest = &self.text[end..];
        self.at = rest.find('\n').map_or(self.text.len(), |newline| end + newline + 1);
    }

    /// Fills `$NAME` and `${NAME}` from earlier lines; [`DOLLAR`] marks where one may stand.
    fn expand(&mut self, marked: &str, start: usize) -> Result<String, EnvFileError> {
        let mut value = String::new();
        let mut parts = marked.split(DOLLAR);
        value.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let (name, length) = variable(part);
            match self.known.get(name) {
                Some(known) => {
                    value.push_str(known);
                    self.expanded_bytes += known.len();
                }
                None => value.push_str(&format!("${}", &part[..length])),
            }
            value.push_str(&part[length..]);
            if self.expanded_bytes > EXPANDED_BYTES_MAX {
                return Err(error(TOO_LARGE, start..start + 1));
            }
        }
        Ok(value)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
}

/// Stands for a `$` that may begin a reference, while a value is taken apart.
const DOLLAR: char = '\u{0}';

fn mark(text: &str) -> String {
    // A NUL of the file itself must not turn into a dollar sign.
    text.replace(DOLLAR, "\u{fffd}").replace('$', "\u{0}")
}

/// The name at the start of what follows a `$`, and how many bytes it takes with its braces.
fn variable(part: &str) -> (&str, usize) {
    if let Some(inside) = part.strip_prefix('{') {
        return match inside.find('}') {
            Some(end) if is_key(&inside[..end]) => (&inside[..end], end + 2),
            _ => ("", 0),
        };
    }
    let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
    (&part[..end], end)
}

/// The inside of a double-quoted value up to its end, with references marked, and the bytes it takes with its quote.
fn unescape(inside: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, at + 1)),
            '$' => value.push(DOLLAR),
            DOLLAR => value.push('\u{fffd}'),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                same @ ('\\' | '"' | '$') => value.push(same),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn error((message, hint): Mistake, span: Range<usize>) -> EnvFileError {
    EnvFileError { message, hint, span }
}
