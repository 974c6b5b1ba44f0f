//! The keys that detach: how they are written, and how they are found among what is typed. Pure.

use std::fmt;
use std::str::FromStr;

/// Longest sequence: a longer one is not typed by anybody.
const KEYS_MAX: usize = 8;
/// What `ctrl-` takes with a key that is no letter, in the order of the codes from 0x1b (ASCII; `ctrl-@` is 0).
const CONTROL_MARKS: [char; 5] = ['[', '\\', ']', '^', '_'];

/// A sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    written: String,
}

/// Finds the sequence in a stream of keys.
#[derive(Debug)]
pub(super) struct Detector {
    keys: Vec<u8>,
    /// What has been typed of it, and not passed on yet.
    held: Vec<u8>,
}

// === impl DetachKeys ===

impl FromStr for DetachKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |key: &str| format!("`{key}` is no key: write `ctrl-p,ctrl-q`, or characters, each separated by a comma");
        let keys = text.split(',').map(|key| code(key).ok_or_else(|| wrong(key))).collect::<Result<Vec<u8>, _>>()?;
        if keys.len() > KEYS_MAX {
            return Err(format!("at most {KEYS_MAX} keys can be a sequence"));
        }
        Ok(Self { keys, written: text.replace(',', " ") })
    }
}

impl fmt::Display for DetachKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

fn code(key: &str) -> Option<u8> {
    let one = |text: &str| {
        let mut chars = text.chars();
        chars.next().filter(|_| chars.next().is_none())
    };
    match key.strip_prefix("ctrl-") {
        None => one(key).filter(char::is_ascii_graphic).and_then(|c| u8::try_from(c).ok()),
        Some(key) => match one(key)? {
            '@' => Some(0),
            letter if letter.is_ascii_alphabetic() => {
                u8::try_from(letter.to_ascii_lowercase()).ok().map(|c| c - b'a' + 1)
            }
            mark => CONTROL_MARKS.iter().zip(0x1b..).find(|(known, _)| **known == mark).map(|(_, code)| code),
        },
    }
}

// === impl Detector ===

impl Detector {
    pub(super) fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.keys, held: Vec::new() }
    }

    /// Takes keys in; what cannot be part of the sequence goes to `passed`. `true`: the sequence was typed, the rest is nobody's.
    pub(super) fn take(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        for key in typed {
            self.held.push(*key);
            while !self.keys.starts_with(&self.held) {
                passed.push(self.held.remove(0));
            }
            if self.held == self.keys {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_docker_writes_them() {
        let code = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.keys);
        assert_eq!(code("ctrl-p,ctrl-q"), Ok(vec![0x10, 0x11]));
        assert_eq!(code("ctrl-A,d"), Ok(vec![1, b'd']));
        assert_eq!(code("ctrl-\\,ctrl-],ctrl-@"), Ok(vec![0x1c, 0x1d, 0]));
        assert_eq!("ctrl-p,ctrl-q".parse::<DetachKeys>().unwrap().to_string(), "ctrl-p ctrl-q");
        for bad in ["", "ctrl-", "ctrl-1", "esc", "a,,b", "ä", "ctrl-ä", "a,b,c,d,e,f,g,h,i"] {
            assert!(code(bad).is_err(), "{bad}");
        }
    }

    fn check(keys: &str, typed: &[&[u8]], passed: &[u8], detached: bool) {
        let mut detector = Detector::new(keys.parse().unwrap());
        let mut got = Vec::new();
        let found = typed.iter().any(|typed| detector.take(typed, &mut got));
        assert_eq!((got.as_slice(), found), (passed, detached), "{keys} in {typed:?}");
    }

    #[test]
    fn the_sequence_is_found_wherever_it_is_cut_and_everything_else_passes() {
        check("ctrl-p,ctrl-q", &[b"ab"], b"ab", false);
        check("ctrl-p,ctrl-q", &[b"a\x10\x11b"], b"a", true);
        check("ctrl-p,ctrl-q", &[b"a\x10", b"\x11"], b"a", true);
        check("ctrl-p,ctrl-q", &[b"\x10", b"b"], b"\x10b", false);
        check("ctrl-p,ctrl-q", &[b"\x10\x10\x11"], b"\x10", true);
        check("a,a,b", &[b"aaab"], b"a", true);
        check("a,b,a,c", &[b"ababac"], b"ab", true);
    }
}
