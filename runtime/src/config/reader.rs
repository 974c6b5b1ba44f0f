//! Typed access to one table: what is asked for is known, what was never asked for is an error.

use std::time::Duration;

use envctl_supervisors::Name;

use super::diagnostic::Findings;
use super::duration::{QuantityError, parse_duration, parse_size};
use super::nearest::key_hint;
use super::origin::{At, Place};
use super::tree::{Node, Table, Value};

/// One table being read.
pub(super) struct Reader<'a> {
    table: &'a Table,
    what: String,
    known: Vec<&'static str>,
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Reads `table`, called `what` in messages; empty for the file itself.
    pub(super) fn new(what: impl Into<String>, table: &'a Table) -> Self {
        Self { table, what: what.into(), known: Vec::new() }
    }

    /// The value of `key`, whatever it is.
    pub(super) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key).map(|entry| &entry.node)
    }

    /// Where `key` itself stands.
    pub(super) fn key_at(&self, key: &str) -> Option<&'a Place> {
        self.table.get(key).map(|entry| &entry.key_at)
    }

    /// What is read, for messages.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// `key` with the table it stands in, for messages.
    pub(super) fn path(&self, key: &str) -> String {
        if self.what.is_empty() { format!("`{key}`") } else { format!("`{key}` of {}", self.what) }
    }

    /// A string.
    pub(super) fn text(&mut self, findings: &mut Findings, key: &'static str) -> Option<At<&'a str>> {
        let node = self.node(key)?;
        text(findings, node, &self.path(key))
    }

    /// A boolean.
    pub(super) fn boolean(&mut self, findings: &mut Findings, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match node.value {
            Value::Boolean(value) => Some(value),
            _ => wrong_type(findings, node, &self.path(key), &BOOLEAN),
        }
    }

    /// An integer from 0.
    pub(super) fn count(&mut self, findings: &mut Findings, key: &'static str) -> Option<u32> {
        let node = self.node(key)?;
        let Value::Integer(value) = node.value else {
            return wrong_type(findings, node, &self.path(key), &COUNT);
        };
        let fits = u32::try_from(value).ok();
        if fits.is_none() {
            let message = format!("{} must be from 0 to {}", self.path(key), u32::MAX);
            findings.error("out-of-range", &node.at, message).hint(format!("write {}", COUNT.example));
        }
        fits
    }

    /// A duration, zero included.
    pub(super) fn duration(&mut self, findings: &mut Findings, key: &'static str) -> Option<Duration> {
        let node = self.node(key)?;
        quantity(findings, node, &self.path(key), &DURATION)
    }

    /// A duration longer than zero.
    pub(super) fn span(&mut self, findings: &mut Findings, key: &'static str) -> Option<Duration> {
        let duration = self.duration(findings, key)?;
        if duration.is_zero() {
            let at = &self.table.get(key)?.node.at;
            let message = format!("{} must be longer than zero", self.path(key));
            findings.error("out-of-range", at, message).hint(format!("write {}", DURATION.wanted.example));
            return None;
        }
        Some(duration)
    }

    /// A size in bytes.
    pub(super) fn size(&mut self, findings: &mut Findings, key: &'static str) -> Option<u64> {
        let node = self.node(key)?;
        quantity(findings, node, &self.path(key), &SIZE)
    }

    /// A table.
    pub(super) fn table(&mut self, findings: &mut Findings, key: &'static str) -> Option<(&'a Table, &'a Place)> {
        let node = self.node(key)?;
        table(findings, node, &self.path(key))
    }

    /// An array of strings.
    pub(super) fn texts(&mut self, findings: &mut Findings, key: &'static str) -> Option<Vec<At<&'a str>>> {
        let node = self.node(key)?;
        texts(findings, node, &self.path(key))
    }

    /// Reports every key that was never asked for.
    pub(super) fn finish(self, findings: &mut Findings) {
        for (key, entry) in self.table.iter().filter(|(key, _)| !self.known.contains(&key.as_str())) {
            let place = if self.what.is_empty() { String::new() } else { format!(" in {}", self.what) };
            let hint = key_hint(key, &self.known);
            findings.error("unknown-key", &entry.key_at, format!("unknown key `{key}`{place}")).hint(hint);
        }
    }
}

/// What a key may hold, in the words of messages and as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Follows "must be".
    pub(super) what: &'static str,
    /// Follows "write" in the hint.
    pub(super) example: &'static str,
}

const TEXT: Wanted = Wanted { what: "a string", example: "one text in quotes, as in \"text\"" };
const BOOLEAN: Wanted = Wanted { what: "true or false", example: "true or false, without quotes" };
const COUNT: Wanted = Wanted { what: "an integer", example: "a whole number, such as 5" };
const TEXTS: Wanted = Wanted { what: "an array of strings", example: "[\"a\", \"b\"]" };
const TABLE: Wanted =
    Wanted { what: "a table", example: "its keys in braces, { key = value }, or below a header in brackets" };

/// A kind of quantity, with how to write it.
struct Quantity<T> {
    name: &'static str,
    wanted: Wanted,
    unit: &'static str,
    parse: fn(&str) -> Result<T, QuantityError>,
}

const DURATION: Quantity<Duration> = Quantity {
    name: "duration",
    wanted: Wanted { what: "a duration in quotes", example: "\"200ms\", \"10s\", \"2m\" or \"1h30m\"" },
    unit: "s",
    parse: parse_duration,
};
const SIZE: Quantity<u64> = Quantity {
    name: "size",
    wanted: Wanted { what: "a size in quotes", example: "\"512KiB\", \"256MiB\" or \"1GiB\"" },
    unit: "MiB",
    parse: parse_size,
};

fn quantity<T>(findings: &mut Findings, node: &Node, path: &str, kind: &Quantity<T>) -> Option<T> {
    let (name, example) = (kind.name, kind.wanted.example);
    match &node.value {
        Value::Text(text) => match (kind.parse)(text) {
            Ok(value) => Some(value),
            Err(error) => {
                let code = if name == "size" { "bad-size" } else { "bad-duration" };
                let message = format!("{path} is not a {name}: {error}");
                findings.error(code, &node.at, message).hint(format!("write {example}"));
                None
            }
        },
        Value::Integer(number) => {
            let message = format!("{path} needs a unit");
            let hint = format!("write \"{number}{}\"; a {name} is written {example}", kind.unit);
            findings.error("wrong-type", &node.at, message).hint(hint);
            None
        }
        _ => wrong_type(findings, node, path, &kind.wanted),
    }
}

/// Notes that `node` is not what `path` wants.
pub(super) fn wrong_type<T>(findings: &mut Findings, node: &Node, path: &str, wanted: &Wanted) -> Option<T> {
    let message = format!("{path} must be {}, not {}", wanted.what, node.value.kind());
    let hint = same_as(&node.value, wanted).unwrap_or_else(|| format!("write {}", wanted.example));
    findings.error("wrong-type", &node.at, message).hint(hint);
    None
}

/// How to write what `value` seems to mean, where only its notation is wrong.
fn same_as(value: &Value, wanted: &Wanted) -> Option<String> {
    match value {
        Value::Text(text) if text.parse::<i64>().is_ok() && wanted.what.contains("integer") => {
            Some(format!("write {text} without quotes"))
        }
        Value::Text(text) if *wanted == BOOLEAN => match text.as_str() {
            "true" | "yes" | "on" => Some("write true without quotes".to_owned()),
            "false" | "no" | "off" => Some("write false without quotes".to_owned()),
            _ => None,
        },
        Value::Text(text) if wanted.what.starts_with("an array") && Name::new(text).is_ok() => {
            Some(format!("write [\"{text}\"]"))
        }
        Value::Integer(number) if *wanted == TEXT => Some(format!("write \"{number}\" with quotes")),
        Value::Boolean(value) if *wanted == TEXT => Some(format!("write \"{value}\" with quotes")),
        Value::Float(written) | Value::Datetime(written) if *wanted == TEXT => {
            Some(format!("write \"{written}\" with quotes"))
        }
        _ => None,
    }
}

/// `node` as a string. A NUL cannot be passed to a program, so no string may hold one.
pub(super) fn text<'a>(findings: &mut Findings, node: &'a Node, path: &str) -> Option<At<&'a str>> {
    match &node.value {
        Value::Text(text) if text.contains('\0') => {
            findings
                .error("nul", &node.at, format!("{path} contains a NUL character"))
                .hint("take the `\\u0000` out: no program can be given one");
            None
        }
        Value::Text(text) => Some(At { value: text, at: node.at.clone() }),
        _ => wrong_type(findings, node, path, &TEXT),
    }
}

/// `node` as a table.
pub(super) fn table<'a>(findings: &mut Findings, node: &'a Node, path: &str) -> Option<(&'a Table, &'a Place)> {
    match &node.value {
        Value::Table(table) => Some((table, &node.at)),
        _ => wrong_type(findings, node, path, &TABLE),
    }
}

/// `node` as an array of strings; `None` if any of them is something else.
pub(super) fn texts<'a>(findings: &mut Findings, node: &'a Node, path: &str) -> Option<Vec<At<&'a str>>> {
    let Value::Array(items) = &node.value else {
        return wrong_type(findings, node, path, &TEXTS);
    };
    let read: Vec<_> =
        items.iter().filter_map(|item| text(findings, item, &format!("each element of {path}"))).collect();
    (read.len() == items.len()).then_some(read)
}
