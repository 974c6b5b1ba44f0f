//! A terminal taken over for a while: redrawn in place, keys read as they are typed, given back as it was found.
//!
//! The alternate screen keeps what was there before; a frame is written in one piece over the one before and never clears
//! first, so nothing flickers. [`Screen`] gives the terminal back when it is dropped, a panic included; only SIGKILL prevents
//! that. Sequences are those of xterm's control sequences (DECSET 7, 25, 1049; EL, ED), which every terminal of today knows.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;

use envctl_actors::process::sys::child;
use nix::fcntl::OFlag;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use terminal_size::{Height, Width, terminal_size};
use tokio::io::unix::AsyncFd;

/// Alternate screen, no cursor, and no wrapping: a line with wide characters, which count as one here, stays a line.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
/// The opposite, in the opposite order.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Standard input, to be opened once more (proc_pid_fd(5)).
const STDIN: &str = "/proc/self/fd/0";
/// Keys that are taken in at once; more were hardly meant.
const KEYS_AT_ONCE: usize = 256;
/// Columns and rows of a terminal that does not tell: those of the VT100.
const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// The terminal, taken over.
#[derive(Debug)]
pub(crate) struct Screen {
    keyboard: Option<Keyboard>,
}

/// Standard input, if it is a terminal: keys come one by one and are not shown.
#[derive(Debug)]
struct Keyboard {
    input: AsyncFd<OwnedFd>,
    before: Termios,
}

// === impl Screen ===

impl Screen {
    /// Takes over the terminal on standard output.
    pub(crate) fn enter() -> io::Result<Self> {
        let keyboard = if io::stdin().is_terminal() { Some(Keyboard::open()?) } else { None };
        let screen = Self { keyboard };
        put(ENTER)?;
        Ok(screen)
    }

    /// Shows `text` instead of what is shown. Lines are cut at the right; those that do not fit are counted in the last row.
    pub(crate) fn draw(&self, text: &str) -> io::Result<()> {
        let (columns, rows) = terminal_size().map_or(SIZE_DEFAULT, |(Width(columns), Height(rows))| (columns, rows));
        put(&frame(&super::guarded(text), usize::from(columns), usize::from(rows)))
    }

    /// Whether somebody can type.
    pub(crate) fn has_keys(&self) -> bool {
        self.keyboard.is_some()
    }

    /// The keys that are typed next. Never, where nobody can type. Cancel-safe.
    pub(crate) async fn keys(&self) -> io::Result<Vec<u8>> {
        match &self.keyboard {
            Some(keyboard) => keyboard.keys().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = put(LEAVE);
    }
}

// === impl Keyboard ===

impl Keyboard {
    fn open() -> io::Result<Self> {
        // Opened once more: what the shell shares with us must stay blocking, and what we wait for must not block us. Ctrl-C
        // empties the line that is being typed, so that what was announced may be gone when it is read.
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let input = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(STDIN)?;
        let input = child::readable(input.into())?;
        let before = tcgetattr(input.get_ref())?;
        let mut keys = before.clone();
        // Signals stay: Ctrl-C and Ctrl-Z mean what they always mean.
        keys.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(input.get_ref(), SetArg::TCSANOW, &keys)?;
        Ok(Self { input, before })
    }

    async fn keys(&self) -> io::Result<Vec<u8>> {
        let mut keys = [0; KEYS_AT_ONCE];
        loop {
            let mut ready = self.input.readable().await?;
            let read = ready.try_io(|input| Ok(nix::unistd::read(input.get_ref(), &mut keys)?));
            // `Err`: there was nothing after all, and it is waited for again.
            if let Ok(count) = read {
                return Ok(keys[..count?].to_vec());
            }
        }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        let _ = tcsetattr(self.input.get_ref(), SetArg::TCSADRAIN, &self.before);
    }
}

/// From the upper left corner: each line, then nothing up to its end, and nothing below the last.
fn frame(text: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let fits = if lines.len() > rows { rows.saturating_sub(1) } else { lines.len() };
    let mut frame = String::from("\x1b[H");
    for (at, line) in lines[..fits].iter().enumerate() {
        frame.push_str(if at > 0 { "\r\n" } else { "" });
        push_clipped(&mut frame, line, columns);
        frame.push_str("\x1b[K");
    }
    if fits < lines.len() {
        let _ = write!(frame, "\r\n… {} more lines\x1b[K", lines.len() - fits);
    }
    frame.push_str("\x1b[J");
    frame
}

/// As much of a line as is shown in `columns`. Colours take no room, and the last of them must not stay on.
fn push_clipped(frame: &mut String, line: &str, columns: usize) {
    let mut shown = 0;
    let mut in_sequence = false;
    for c in line.chars() {
        let begins = c == '\x1b';
        if begins || in_sequence {
            // A control sequence is ESC, `[`, parameters, and a letter (ECMA-48, 5.4).
            in_sequence = begins || !c.is_ascii_alphabetic();
            frame.push(c);
        } else if shown < columns {
            shown += 1;
            frame.push(c);
        }
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_overwrites_the_one_before_and_never_clears_first() {
        assert_eq!(frame("one\ntwo\n", 80, 24), "\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J");
        assert_eq!(frame("", 80, 24), "\x1b[H\x1b[J");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_never_scrolls() {
        let text = "1\n2\n3\n4\n5\n";
        assert_eq!(frame(text, 80, 5).matches("\r\n").count(), 4);
        assert_eq!(frame(text, 80, 3), "\x1b[H1\x1b[K\r\n2\x1b[K\r\n… 3 more lines\x1b[K\x1b[J");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_its_colours_end() {
        let clipped = |line: &str, columns| {
            let mut text = String::new();
            push_clipped(&mut text, line, columns);
            text
        };
        assert_eq!(clipped("ready and waiting", 5), "ready");
        assert_eq!(clipped("\x1b[1;32mready\x1b[0m and \x1b[2mmore\x1b[0m", 3), "\x1b[1;32mrea\x1b[0m\x1b[2m\x1b[0m");
        assert_eq!(clipped("größe", 4), "größ");
    }
}
