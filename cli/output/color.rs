//! Colours: a few, by meaning, and one per unit name. Everything stays readable without them.

use anstyle::{AnsiColor, Color, Style};
use envctl_runtime::control::view::UnitState;

/// Paints, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    on: bool,
}

/// Colours for names. Red stays free for what is wrong.
const NAMES: [AnsiColor; 10] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
    AnsiColor::BrightYellow,
    AnsiColor::BrightGreen,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
];

// === impl Paint ===

impl Paint {
    /// `on`: paints.
    pub(crate) fn new(on: bool) -> Self {
        Self { on }
    }

    /// Whether it paints.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    /// Something failed.
    pub(crate) fn red(self, text: &str) -> String {
        self.with(AnsiColor::Red.on_default().bold(), text)
    }

    /// Something is on its way, or to be noted.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.with(AnsiColor::Yellow.on_default(), text)
    }

    /// Something is well.
    pub(crate) fn green(self, text: &str) -> String {
        self.with(AnsiColor::Green.on_default(), text)
    }

    /// A hint.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.with(AnsiColor::Cyan.on_default(), text)
    }

    /// Less important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    /// A unit's name: always the same colour for the same name.
    pub(crate) fn name(self, name: &str, text: &str) -> String {
        self.with(Style::new().fg_color(Some(Color::Ansi(NAMES[color_of(name)]))), text)
    }

    /// A state, by how well it is.
    pub(crate) fn state(self, state: UnitState, text: &str) -> String {
        match state {
            UnitState::Ready | UnitState::Running | UnitState::Done => self.green(text),
            UnitState::Pending | UnitState::Starting | UnitState::Stopping | UnitState::Backoff => self.yellow(text),
            UnitState::Failed => self.red(text),
            UnitState::Stopped => self.dim(text),
        }
    }

    fn with(self, style: Style, text: &str) -> String {
        if self.on { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// FNV-1a: stable over runs and versions, and no dependency.
fn color_of(name: &str) -> usize {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % NAMES.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_a_text_is_itself() {
        assert_eq!(Paint::new(false).red("x"), "x");
        assert_eq!(Paint::new(true).green("x"), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Paint::new(true).name("api", "api"), Paint::new(true).name("api", "api"));
    }
}
