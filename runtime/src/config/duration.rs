//! Durations (`200ms`, `1h30m`) and sizes (`256MiB`) as they are written in files.
//!
//! A number without a unit is refused: whether `10` means seconds or milliseconds is the reader's guess.

use std::time::Duration;

/// Longest duration accepted: ten years. Everything that computes with deadlines can then add without overflow.
pub const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Units of time from the largest, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Why a text is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// A unit without digits before it, or a sign.
    #[error("a number is expected at {0:?}")]
    NoNumber(String),
    /// White space anywhere.
    #[error("it holds a space")]
    Space,
    /// Digits without a unit.
    #[error("`{0}` has no unit")]
    NoUnit(String),
    /// A unit nobody knows.
    #[error("`{0}` is not a unit")]
    UnknownUnit(String),
    /// A unit twice, or a smaller one before a larger one.
    #[error("`{0}` is out of order: larger units come first, each once")]
    Order(String),
    /// More than the largest value.
    #[error("it is too large")]
    TooLarge,
}

/// Reads `200ms`, `10s`, `2m`, `1h30m`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let mut rest = text;
    let mut smallest = usize::MAX;
    let mut total_ms = 0u64;
    if rest.is_empty() {
        return Err(QuantityError::Empty);
    }
    while !rest.is_empty() {
        let (number, unit, tail) = split(rest)?;
        let index = TIME_UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(|| unknown(unit))?;
        if smallest != usize::MAX && index <= smallest {
            return Err(QuantityError::Order(unit.to_owned()));
        }
        smallest = index;
        total_ms = multiply(number, TIME_UNITS[index].1)?.checked_add(total_ms).ok_or(QuantityError::TooLarge)?;
        rest = tail;
    }
    let duration = Duration::from_millis(total_ms);
    if duration > DURATION_MAX { Err(QuantityError::TooLarge) } else { Ok(duration) }
}

/// Writes a duration so that [`parse_duration`] reads it back, down to milliseconds.
pub fn format_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size_ms) in TIME_UNITS {
        if rest_ms >= size_ms {
            text.push_str(&format!("{}{unit}", rest_ms / size_ms));
            rest_ms %= size_ms;
        }
    }
    text
}

/// Reads `512KiB`, `256MiB`, `1GB`, `100B`.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Empty);
    }
    let (number, unit, rest) = split(text)?;
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| unknown(unit))?;
    if rest.is_empty() { multiply(number, *bytes) } else { Err(QuantityError::UnknownUnit(format!("{unit}{rest}"))) }
}

/// Writes a size with the largest binary unit that divides it.
pub fn format_size(bytes: u64) -> String {
    let fitting = SIZE_UNITS[1..5].iter().rev().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    match fitting {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// Digits, the letters after them, and the rest.
fn split(text: &str) -> Result<(&str, &str, &str), QuantityError> {
    if text.contains(char::is_whitespace) {
        return Err(QuantityError::Space);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, tail) = text.split_at(digits);
    if number.is_empty() {
        return Err(QuantityError::NoNumber(text.to_owned()));
    }
    let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
    match tail.split_at(letters) {
        ("", "") => Err(QuantityError::NoUnit(number.to_owned())),
        ("", other) => Err(QuantityError::UnknownUnit(other.to_owned())),
        (unit, rest) => Ok((number, unit, rest)),
    }
}

fn multiply(number: &str, unit: u64) -> Result<u64, QuantityError> {
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or(QuantityError::TooLarge)
}

fn unknown(unit: &str) -> QuantityError {
    QuantityError::UnknownUnit(unit.to_owned())
}
