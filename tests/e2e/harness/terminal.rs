//! A command on a terminal of its own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use super::{Background, Output};

/// A command whose controlling terminal this is.
#[derive(Debug)]
pub(crate) struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    background: Background,
    collector: Collector,
}

/// Takes in what is shown, until it is told to let go of the terminal.
#[derive(Debug)]
struct Collector {
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// How quickly the collector lets go.
const CLOSE_WITHIN_MS: u16 = 20;

// === impl Terminal ===

impl Terminal {
    /// Starts `command` as the leader of a session with a new controlling terminal.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        let (keyboard, slave) = pseudo_terminal();
        // `setsid --ctty` takes the terminal on standard input; its own output is not the terminal but a redirection,
        // so that the collector of `Background` sees only what leaks past the terminal.
        // Whoever runs the tests in the background has Ctrl-C ignored, and what ignores a signal hands that on.
        let mut line = Command::new("env");
        line.args(["--default-signal=INT,QUIT", "setsid", "--ctty", "--wait"]);
        line.args(["/bin/sh", "-c", "stty rows 40 cols 120; exec \"$@\" >&0 2>&0", "terminal"]);
        line.arg(command.get_program()).args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            line.env(name, value.unwrap_or_default());
        }
        line.env("TERM", "xterm");
        if let Some(dir) = command.get_current_dir() {
            line.current_dir(dir);
        }
        line.stdin(slave);
        let background = Background::start(&mut line, format!("{command:?} on a terminal"));
        drop(line);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let collector = collect(keyboard.try_clone().expect("a second handle"), Arc::clone(&shown));
        Self { keyboard, shown, background, collector }
    }

    /// Types.
    pub(crate) fn type_in(&self, keys: &[u8]) {
        (&self.keyboard).write_all(keys).expect("the terminal takes keys");
    }

    /// Everything shown so far.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("the collector lives")).into_owned()
    }

    /// Waits for the end of the command; what was shown counts as standard output.
    #[track_caller]
    pub(crate) fn wait(mut self, deadline: Duration) -> Output {
        if let Err(problem) = self.background.end_within(deadline) {
            panic!("{problem}\n--- shown\n{}", self.shown());
        }
        let shown = self.shown();
        let mut output = self.background.wait(deadline);
        output.stdout = shown;
        output
    }

    /// Closes the terminal, as closing its window does: the kernel tells the session leader with SIGHUP.
    #[track_caller]
    pub(crate) fn hang_up(self, deadline: Duration) -> Output {
        self.collector.closing.store(true, Ordering::Relaxed);
        self.collector.thread.join().expect("the collector ends");
        drop(self.keyboard);
        self.background.wait(deadline)
    }
}

/// Both ends, closed in every child that is not given one: a copy of the first in any process would keep the terminal open.
#[track_caller]
fn pseudo_terminal() -> (File, File) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pseudo terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end");
    let path = ptsname_r(&master).expect("its name");
    let slave = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(path);
    (File::from(OwnedFd::from(master)), slave.expect("its other end"))
}

fn collect(mut master: File, shown: Arc<Mutex<Vec<u8>>>) -> Collector {
    let closing = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&closing);
    let thread = std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while !told.load(Ordering::Relaxed) {
            let ready = poll(&mut [PollFd::new(master.as_fd(), PollFlags::POLLIN)], CLOSE_WITHIN_MS);
            if ready == Ok(0) {
                continue;
            }
            let Ok(read @ 1..) = master.read(&mut chunk) else { return };
            if let Ok(mut all) = shown.lock() {
                all.extend_from_slice(&chunk[..read]);
            }
        }
    });
    Collector { closing, thread }
}
