//! A text of a preset with `${name}` in it, filled from a [`Scope`].
//!
//! | written | means |
//! |---|---|
//! | `${port}` | the value |
//! | `${password\|url}` | the value, percent-encoded (RFC 3986) |
//! | `${user\|ident}` | the value in double quotes, those inside doubled: an SQL identifier |
//! | `${password\|sql}` | the value in single quotes, those inside doubled: an SQL string |
//! | `${database\|tick}` | the value in backticks, those inside doubled: an identifier of MySQL |
//! | `${project\|word}` | the value with `-` as `_` |
//! | `$$` | one `$` |
//!
//! Pure. A text that names a secret is a secret itself: [`Value`] carries that along.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer};

/// A text with names in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    pieces: Vec<Piece>,
}

/// What names stand for.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    values: BTreeMap<String, Value>,
}

/// A value, and whether it must not be shown or stand in an argument list.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// The text.
    pub text: String,
    /// Whether a secret went into it.
    pub secret: bool,
}

/// A name that has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`${{{0}}}` has no value")]
pub struct NoValue(pub String);

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// `${` without `}`.
    #[error("`${{` has no `}}`")]
    Unclosed,
    /// `${}` or `${A B}`.
    #[error("`${{{0}}}` names nothing: write a name of a-z, 0-9, `_` and `.`")]
    BadName(String),
    /// `${a|b}` with an unknown `b`.
    #[error("`|{filter}` is no filter: there are {}", Filter::names())]
    BadFilter {
        /// What stands behind the bar.
        filter: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Name { name: String, filter: Option<Filter> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Url,
    Ident,
    Sql,
    Tick,
    Word,
}

// === impl Text ===

impl Text {
    /// Reads a text.
    ///
    /// # Errors
    /// What is wrong with it, in words for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, BadText> {
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix('$') {
                literal.push('$');
                rest = tail;
            } else if let Some(inside) = after.strip_prefix('{') {
                let end = inside.find('}').ok_or(BadText::Unclosed)?;
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(name(&inside[..end])?);
                rest = &inside[end + 1..];
            } else {
                literal.push('$');
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// The names in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Name { name, .. } => Some(name.as_str()),
            Piece::Literal(_) => None,
        })
    }

    /// Fills the names in.
    ///
    /// # Errors
    /// The first name without a value.
    pub fn fill(&self, scope: &Scope) -> Result<Value, NoValue> {
        let mut filled = Value { text: String::new(), secret: false };
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => filled.text.push_str(text),
                Piece::Name { name, filter } => {
                    let value = scope.get(name).ok_or_else(|| NoValue(name.clone()))?;
                    filled.secret |= value.secret;
                    match filter {
                        Some(filter) => filled.text.push_str(&filter.apply(&value.text)),
                        None => filled.text.push_str(&value.text),
                    }
                }
            }
        }
        Ok(filled)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => f.write_str(&text.replace('$', "$$"))?,
                Piece::Name { name, filter: None } => write!(f, "${{{name}}}")?,
                Piece::Name { name, filter: Some(filter) } => write!(f, "${{{name}|{}}}", filter.as_str())?,
            }
        }
        Ok(())
    }
}

// === impl Scope ===

impl Scope {
    /// Gives a name an open value.
    pub fn set(&mut self, name: impl Into<String>, text: impl ToString) {
        self.values.insert(name.into(), Value { text: text.to_string(), secret: false });
    }

    /// Gives a name a value.
    pub fn insert(&mut self, name: impl Into<String>, value: Value) {
        self.values.insert(name.into(), value);
    }

    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// All values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.values.iter()
    }
}

// === impl Value ===

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secret { "(secret)" } else { &self.text })
    }
}

// === impl Filter ===

impl Filter {
    const ALL: [Self; 5] = [Self::Url, Self::Ident, Self::Sql, Self::Tick, Self::Word];

    fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Ident => "ident",
            Self::Sql => "sql",
            Self::Tick => "tick",
            Self::Word => "word",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    fn apply(self, text: &str) -> String {
        match self {
            Self::Url => percent_encoded(text),
            Self::Ident => quoted(text, '"'),
            Self::Sql => quoted(text, '\''),
            Self::Tick => quoted(text, '`'),
            Self::Word => text.replace('-', "_"),
        }
    }
}

fn name(inside: &str) -> Result<Piece, BadText> {
    let (name, filter) = match inside.split_once('|') {
        None => (inside, None),
        Some((name, filter)) => {
            let found = Filter::ALL.into_iter().find(|known| known.as_str() == filter);
            (name, Some(found.ok_or_else(|| BadText::BadFilter { filter: filter.to_owned() })?))
        }
    };
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || !name.chars().all(is_good) {
        return Err(BadText::BadName(inside.to_owned()));
    }
    Ok(Piece::Name { name: name.to_owned(), filter })
}

fn quoted(text: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", text.replace(quote, &doubled))
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let mut scope = Scope::default();
        scope.set("user", "me@home");
        scope.set("name", "a\"b'c");
        scope.insert("password", Value { text: "p/w".to_owned(), secret: true });
        scope
    }

    fn filled(text: &str) -> Value {
        Text::parse(text).unwrap().fill(&scope()).unwrap()
    }

    #[test]
    fn names_are_filled_in_and_filtered() {
        assert_eq!(filled("x://${user|url}@h").text, "x://me%40home@h");
        assert_eq!(filled("${name|ident} ${name|sql}").text, "\"a\"\"b'c\" 'a\"b''c'");
        assert_eq!(filled("$$ $x $").text, "$ $x $");
    }

    #[test]
    fn what_a_secret_goes_into_is_a_secret_and_is_not_shown() {
        let value = filled("x://u:${password|url}@h");
        assert!(value.secret);
        assert_eq!(format!("{value:?}"), "(secret)");
        assert!(!filled("${user}").secret);
    }

    #[test]
    fn a_bad_text_is_told_in_words() {
        let told = |text: &str| Text::parse(text).unwrap_err().to_string();
        assert_eq!(told("${a"), "`${` has no `}`");
        assert!(told("${HOME}").contains("names nothing"));
        assert!(told("${a|shell}").contains("url, ident, sql, tick, word"));
        assert_eq!(Text::parse("${none}").unwrap().fill(&scope()), Err(NoValue("none".to_owned())));
    }

    #[test]
    fn a_text_is_shown_as_it_was_written() {
        for text in ["a ${b} ${c|url}", "$$5", ""] {
            assert_eq!(Text::parse(text).unwrap().to_string(), text);
        }
    }
}
