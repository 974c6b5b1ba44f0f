//! The files as one tree of placed values, and how a higher layer lies over a lower one.
//!
//! Tables of the schema merge by key (the project, each unit, `env`, `ports`, `logs`); anything else is replaced whole, so
//! that half a probe of one file never mixes with half a probe of another.

use indexmap::IndexMap;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::Findings;
use super::origin::Place;
use super::syntax;

/// Tables of named units or groups.
pub(super) const NAMED_TABLES: [&str; 4] = ["services", "requirements", "tasks", "groups"];

/// Most syntax errors told of one file: the parser recovers, but later errors are often echoes.
const SYNTAX_ERRORS_MAX: usize = 5;

/// Keys of a unit that say the same thing in different ways: the higher layer's choice removes the lower one's.
const ALTERNATIVES: [(&str, &str); 2] = [("cmd", "sh"), ("sh", "cmd")];

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where the value is; for a table, its header.
    pub(super) at: Place,
    /// The value.
    pub(super) value: Value,
}

/// A TOML value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A string.
    Text(String),
    /// An integer; one that does not fit is the largest.
    Integer(i128),
    /// A float, as written.
    Float(String),
    /// A boolean.
    Boolean(bool),
    /// A date or time, as written.
    Datetime(String),
    /// An array.
    Array(Vec<Node>),
    /// A table.
    Table(Table),
}

/// A table in the order of the file.
pub(super) type Table = IndexMap<String, Entry>;

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Where the key is.
    pub(super) key_at: Place,
    /// The value.
    pub(super) node: Node,
}

/// A table as a file of its own.
pub(super) fn written(table: &Table) -> String {
    let plain =
        toml::Value::Table(table.iter().filter_map(|(key, entry)| Some((key.clone(), plain(&entry.node)?))).collect());
    toml::to_string(&plain).unwrap_or_default()
}

/// The value without its place. Dates and numbers that do not fit stand in no preset.
fn plain(node: &Node) -> Option<toml::Value> {
    Some(match &node.value {
        Value::Text(text) => toml::Value::String(text.clone()),
        Value::Integer(number) => toml::Value::Integer(i64::try_from(*number).ok()?),
        Value::Float(text) => toml::Value::Float(text.parse().ok()?),
        Value::Boolean(flag) => toml::Value::Boolean(*flag),
        Value::Datetime(_) => return None,
        Value::Array(items) => toml::Value::Array(items.iter().filter_map(plain).collect()),
        Value::Table(table) => toml::Value::Table(
            table.iter().filter_map(|(key, entry)| Some((key.clone(), plain(&entry.node)?))).collect(),
        ),
    })
}

/// Reads the file with index `file`; syntax errors are noted.
pub(super) fn parse(findings: &mut Findings, file: usize, text: &str) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
        let at = Place { file, span: error.span().unwrap_or(0..0) };
        let message = error.message().replace('\n', ", ");
        let hint = syntax::hint(&message);
        findings.error("syntax", &at, message).hint(hint);
    }
    convert_table(file, table.into_inner())
}

/// Lays `over` on `base`.
pub(super) fn merge(base: &mut Table, over: Table) {
    merge_at(base, over, &mut Vec::new());
}

// === impl Value ===

impl Value {
    /// The kind of value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date or time",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

fn merge_at(base: &mut Table, over: Table, path: &mut Vec<String>) {
    if path.len() == 2 {
        for (chosen, other) in ALTERNATIVES {
            if over.contains_key(chosen) && !over.contains_key(other) {
                base.shift_remove(other);
            }
        }
    }
    for (key, entry) in over {
        path.push(key);
        match base.get_mut(path.last().map_or("", String::as_str)) {
            Some(below) => lay_over(below, entry, path),
            None => drop(base.insert(path.last().cloned().unwrap_or_default(), entry)),
        }
        path.pop();
    }
}

fn lay_over(below: &mut Entry, entry: Entry, path: &mut Vec<String>) {
    match (&mut below.node.value, entry.node.value) {
        (Value::Table(base), Value::Table(over)) if merges_by_key(path) => merge_at(base, over, path),
        (_, value) => *below = Entry { key_at: entry.key_at, node: Node { at: entry.node.at, value } },
    }
}

fn merges_by_key(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["env" | "logs" | "supervision" | "presets"] => true,
        [kind] | [kind, _] | [kind, _, "env" | "logs" | "ports"] => NAMED_TABLES.contains(&kind),
        _ => false,
    }
}

fn convert_table(file: usize, table: DeTable<'_>) -> Table {
    let mut entries: Vec<(Spanned<DeString<'_>>, Spanned<DeValue<'_>>)> = table.into_iter().collect();
    // The parser sorts by name; people order their files with a purpose.
    entries.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
        let key_at = Place { file, span: key.span() };
        (key.into_inner().into_owned(), Entry { key_at, node: convert(file, value) })
    };
    entries.into_iter().map(entry).collect()
}

fn convert(file: usize, value: Spanned<DeValue<'_>>) -> Node {
    let at = Place { file, span: value.span() };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(digits) => {
            Value::Integer(i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX))
        }
        DeValue::Float(digits) => Value::Float(digits.as_str().to_owned()),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(time) => Value::Datetime(time.to_string()),
        DeValue::Array(items) => Value::Array(items.into_iter().map(|item| convert(file, item)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(file, table)),
    };
    Node { at, value }
}
