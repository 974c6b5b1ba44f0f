//! What a unit has switched on in the terminal that shows it, so that it can be switched off when somebody leaves. Pure.

use std::collections::BTreeSet;

/// Modes that a program switches on (`CSI ? n h`) and that would be in the way of a shell: cursor keys, mouse, focus, the other
/// screen, pasting in brackets (xterm's control sequences, "DEC Private Mode Set").
const MODES: [u16; 11] = [1, 47, 1000, 1002, 1003, 1004, 1006, 1015, 1047, 1049, 2004];
/// The cursor's visibility, which is on by itself.
const CURSOR: u16 = 25;
/// Parameters of one sequence; none has more.
const PARAMETERS_MAX: usize = 16;

/// The modes that were changed.
#[derive(Debug, Default)]
pub(super) struct Modes {
    state: State,
    on: BTreeSet<u16>,
    cursor_hidden: bool,
    /// Anything was shown that may have set colours.
    touched: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Text,
    Escape,
    Bracket,
    Private(Vec<u16>),
}

// === impl Modes ===

impl Modes {
    /// Looks at what is shown; sequences may be cut anywhere.
    pub(super) fn observe(&mut self, shown: &[u8]) {
        for byte in shown {
            let state = std::mem::take(&mut self.state);
            self.state = match (state, byte) {
                (_, 0x1b) => {
                    self.touched = true;
                    State::Escape
                }
                (State::Escape, b'[') => State::Bracket,
                (State::Bracket, b'?') => State::Private(vec![0]),
                (State::Private(mut numbers), b'0'..=b'9' | b';') if numbers.len() <= PARAMETERS_MAX => {
                    match (byte, numbers.last_mut()) {
                        (b';', _) | (_, None) => numbers.push(0),
                        (digit, Some(number)) => {
                            *number = number.saturating_mul(10).saturating_add(u16::from(digit - b'0'));
                        }
                    }
                    State::Private(numbers)
                }
                (State::Private(numbers), b'h' | b'l') => {
                    numbers.into_iter().for_each(|number| self.set(number, *byte == b'h'));
                    State::Text
                }
                (State::Text | State::Escape | State::Bracket | State::Private(_), _) => State::Text,
            };
        }
    }

    /// What puts the terminal back.
    pub(super) fn undo(&self) -> Vec<u8> {
        let off = self.on.iter().map(|number| format!("\x1b[?{number}l"));
        let cursor = self.cursor_hidden.then(|| format!("\x1b[?{CURSOR}h"));
        let colours = self.touched.then(|| "\x1b[0m".to_owned());
        off.chain(cursor).chain(colours).collect::<String>().into_bytes()
    }

    fn set(&mut self, number: u16, on: bool) {
        if number == CURSOR {
            self.cursor_hidden = !on;
        } else if on && MODES.contains(&number) {
            self.on.insert(number);
        } else {
            self.on.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shown: &[&[u8]], undo: &str) {
        let mut modes = Modes::default();
        shown.iter().for_each(|shown| modes.observe(shown));
        assert_eq!(String::from_utf8(modes.undo()).unwrap(), undo, "{shown:?}");
    }

    #[test]
    fn what_a_unit_has_switched_on_is_switched_off() {
        check(&[b"plain"], "");
        check(&[b"\x1b[31mred"], "\x1b[0m");
        check(&[b"\x1b[?1049h\x1b[?25l"], "\x1b[?1049l\x1b[?25h\x1b[0m");
        check(&[b"\x1b[?1049h", b"\x1b[?1049l"], "\x1b[0m");
        check(&[b"\x1b[?10", b"00;1006", b"h"], "\x1b[?1000l\x1b[?1006l\x1b[0m");
        check(&[b"\x1b[?12345h\x1b[?7l"], "\x1b[0m");
        check(&[b"\x1b[?99999999999h", b"\x1b[?;;;;;;;;;;;;;;;;;;;;;;1h"], "\x1b[0m");
    }
}
