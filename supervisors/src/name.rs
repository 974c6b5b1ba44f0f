//! The one type for everything that becomes an address or a path component.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name accepted, in bytes: a DNS label, so that a name can become a host name one day.
pub const NAME_MAX_BYTES: usize = 63;

/// A checked name: `[a-z0-9][a-z0-9_-]{0,62}`.
///
/// Because nothing else is a `Name`, no name can leave its directory, hide a control character or be taken for an option.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name may not be empty")]
    Empty,
    /// The text is longer than [`NAME_MAX_BYTES`].
    #[error("a name has at most {NAME_MAX_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A character is not allowed where it stands.
    #[error("{0:?} is not allowed in a name: use a-z, 0-9, `-` and `_`, starting with a letter or digit")]
    Character(char),
}

// === impl Name ===

impl Name {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_MAX_BYTES {
            return Err(NameError::TooLong(text.len()));
        }
        match text.char_indices().find(|&(at, c)| !allowed(at, c)) {
            Some((_, c)) => Err(NameError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as it stands in a variable name: upper case, `-` as `_`.
    pub fn to_variable(&self) -> String {
        self.0.to_ascii_uppercase().replace('-', "_")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn allowed(at: usize, c: char) -> bool {
    match c {
        'a'..='z' | '0'..='9' => true,
        '-' | '_' => at > 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_directory_or_pose_as_an_option() {
        for bad in ["", ".", "..", "a/b", "/etc", "-rf", "%n", "a\0b", "A", "ä", "a.b", "a ", "_x"] {
            assert!(Name::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(Name::new(&"a".repeat(64)), Err(NameError::TooLong(64)));
        assert!(Name::new(&"a".repeat(63)).is_ok());
        assert_eq!(Name::new("web-1_b").map(|n| n.to_variable()), Ok("WEB_1_B".to_owned()));
    }
}
