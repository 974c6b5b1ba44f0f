//! Lines that are records: JSON objects and logfmt (`key=value key="two words"`). Their level and their fields.
//!
//! A line is looked at only if it holds the name that is sought, so lines of plain text cost a search for a few letters. Never
//! guesses: a line that is neither has no level and no fields (decision 0020).

use std::borrow::Cow;

use memchr::memmem;
use serde_json::{Map, Value};

/// How much a line matters, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Finer than debugging.
    Trace,
    /// For whoever works on the program.
    Debug,
    /// What happens; `notice` too.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// The program cannot go on; `critical`, `alert`, `emerg` and `panic` too.
    Fatal,
}

/// What the level is called in records: pino, zap, logrus, slog, structlog, GCP, ECS, OpenTelemetry.
const LEVEL_KEYS: [&str; 8] =
    ["level", "lvl", "severity", "levelname", "log.level", "loglevel", "severity_text", "SeverityText"];
/// The least that one of them holds, for a first look.
const LEVEL_HINTS: [&[u8]; 3] = [b"lev", b"lvl", b"everity"];

/// A line's fields, as far as they were understood.
#[derive(Debug)]
enum Fields<'l> {
    Json(Map<String, Value>),
    Logfmt(Vec<(&'l str, Cow<'l, str>)>),
}

/// The level of a line, if it is a record that has one.
pub fn level_of(line: &[u8]) -> Option<Level> {
    LEVEL_HINTS.iter().any(|hint| memmem::find(line, hint).is_some()).then_some(())?;
    let fields = Fields::of(line)?;
    LEVEL_KEYS.iter().find_map(|key| Level::parse(&fields.get(key)?))
}

/// Whether a line is a record whose field `key` is `value`. A dot in the key goes into an object (`http.status`), unless there
/// is a field of that whole name. Numbers and booleans are compared as they are written in JSON.
pub fn has_field(line: &[u8], key: &str, value: &str) -> bool {
    let first = key.split('.').next().unwrap_or(key);
    if memmem::find(line, first.as_bytes()).is_none() {
        return false;
    }
    Fields::of(line).and_then(|fields| fields.get(key).map(|found| found == value)).unwrap_or(false)
}

// === impl Level ===

impl Level {
    /// All of them with their names, in rising order.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("trace", Self::Trace),
        ("debug", Self::Debug),
        ("info", Self::Info),
        ("warn", Self::Warn),
        ("error", Self::Error),
        ("fatal", Self::Fatal),
    ];

    /// A level as programs write it: a name in any case, or a number of bunyan and pino (10 is trace, 60 is fatal).
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<u32>() {
            return Self::NAMES.iter().zip(1..).find(|(_, tens)| number == tens * 10).map(|((_, level), _)| *level);
        }
        Some(match text.to_ascii_lowercase().as_str() {
            "trace" | "finest" | "silly" => Self::Trace,
            "debug" | "dbug" | "verbose" | "fine" => Self::Debug,
            "info" | "information" | "notice" | "default" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" | "err" | "eror" | "severe" => Self::Error,
            "fatal" | "critical" | "crit" | "alert" | "emerg" | "emergency" | "panic" | "dpanic" => Self::Fatal,
            _ => return None,
        })
    }
}

// === impl Fields ===

impl<'l> Fields<'l> {
    fn of(line: &'l [u8]) -> Option<Self> {
        let line = line.trim_ascii();
        if line.first() == Some(&b'{') {
            return serde_json::from_slice(line).ok().map(Self::Json);
        }
        let pairs = logfmt(std::str::from_utf8(line).ok()?);
        (!pairs.is_empty()).then_some(Self::Logfmt(pairs))
    }

    fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Json(map) => map.get(key).or_else(|| within(map, key)).map(written),
            Self::Logfmt(pairs) => {
                pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| Cow::Borrowed(&**value))
            }
        }
    }
}

fn within<'m>(map: &'m Map<String, Value>, key: &str) -> Option<&'m Value> {
    let (first, rest) = key.split_once('.')?;
    let inner = map.get(first)?.as_object()?;
    inner.get(rest).or_else(|| within(inner, rest))
}

fn written(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// The pairs of a line; words without `=` are passed over, as most writers of logfmt put a few in front.
fn logfmt(line: &str) -> Vec<(&str, Cow<'_, str>)> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        rest = &rest[start..];
        let end = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(value) = after.strip_prefix('=') else {
            rest = after;
            continue;
        };
        let (value, after) = logfmt_value(value);
        if !key.is_empty() {
            pairs.push((key, value));
        }
        rest = after;
    }
    pairs
}

/// A value, quoted or bare, and what comes after it.
fn logfmt_value(text: &str) -> (Cow<'_, str>, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return (Cow::Borrowed(&text[..end]), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (Cow::Owned(value), &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| if escaped == 'n' { '\n' } else { escaped })),
            c => value.push(c),
        }
    }
    (Cow::Owned(value), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_json_and_logfmt_are_recognised_and_nothing_else_has_one() {
        for (line, expect) in [
            (r#"{"level":"warn","msg":"x"}"#, Some(Level::Warn)),
            (r#"{"level":50,"msg":"pino"}"#, Some(Level::Error)),
            (r#"  {"severity":"CRITICAL"}  "#, Some(Level::Fatal)),
            (r#"{"log":{"level":"debug"}}"#, Some(Level::Debug)),
            (r#"{"levelname":"INFO"}"#, Some(Level::Info)),
            (r#"time=2026-01-01 level=error msg="it broke""#, Some(Level::Error)),
            (r#"INFO started lvl=dbug"#, Some(Level::Debug)),
            (r#"{"message":"level"}"#, None),
            (r#"{"level":"loud"}"#, None),
            ("ERROR plain text at level 3", None),
            (r#"{"level":"error""#, None),
            ("level=", None),
            ("", None),
        ] {
            assert_eq!(level_of(line.as_bytes()), expect, "{line}");
        }
        assert_eq!(level_of(b"level=error \xff"), None);
        assert!(Level::Warn > Level::Info && Level::parse("WARNING") == Some(Level::Warn));
    }

    #[test]
    fn fields_are_compared_as_they_are_written() {
        let json = br#"{"a":"x y","n":7,"b":true,"z":null,"http":{"status":500,"path":{"q":"1"}},"u.v":"w"}"#;
        for (key, value) in [
            ("a", "x y"),
            ("n", "7"),
            ("b", "true"),
            ("z", "null"),
            ("http.status", "500"),
            ("http.path.q", "1"),
            ("u.v", "w"),
        ] {
            assert!(has_field(json, key, value), "{key}={value}");
        }
        assert!(!has_field(json, "a", "x") && !has_field(json, "c", "") && !has_field(json, "http.no", "1"));
        let logfmt = br#"got a=1 b="two \"words\"" c= d=x=y"#;
        for (key, value) in [("a", "1"), ("b", "two \"words\""), ("c", ""), ("d", "x=y")] {
            assert!(has_field(logfmt, key, value), "{key}={value}");
        }
        assert!(!has_field(b"a 1", "a", "1") && !has_field(br#"a="never ends"#, "b", "1"));
    }
}
