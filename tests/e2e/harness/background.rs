//! A command that is still running.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Output, Stopwatch};

/// How long output may stay open after the command itself has ended. A daemon that kept its caller's output would hold
/// `x=$(envctl up -d)` for ever, so this is a test in itself.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// Events in flight; readers wait when nobody takes them.
const EVENTS_MAX: usize = 1024;

/// A started command whose output is collected.
#[derive(Debug)]
pub(crate) struct Background {
    command: String,
    pid: Pid,
    clock: Stopwatch,
    events: Receiver<Event>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: usize,
    status: Option<(ExitStatus, Duration)>,
}

#[derive(Debug)]
enum Event {
    Out(Vec<u8>),
    Err(Vec<u8>),
    Closed,
    Exited(ExitStatus),
}

// === impl Background ===

impl Background {
    /// Starts `command`; `name` is how failures call it.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, name: String) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (sender, events) = sync_channel(EVENTS_MAX);
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("invariant: a pid fits"));
        read_into(child.stdout.take(), Event::Out, sender.clone());
        read_into(child.stderr.take(), Event::Err, sender.clone());
        watch_exit(child, sender);
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Self { command: name, pid, clock: Stopwatch::start(), events, stdout, stderr, open: 2, status: None }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Sends it a signal. One that has just ended needs none: whoever waits for it judges how it ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            match kill(self.pid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => panic!("cannot signal {}: {error}", self.command),
            }
        }
    }

    /// Takes in what comes until its output (both streams) contains `text`.
    #[track_caller]
    pub(crate) fn until_says(&mut self, text: &str, deadline: Duration) {
        let clock = Stopwatch::start();
        while !self.said().contains(text) {
            let over = self.open == 0 && self.status.is_some();
            let more = !over && self.take_one(clock.left(deadline));
            assert!(more, "`{}` did not say {text:?} within {deadline:?}:\n{}", self.command, self.said());
        }
    }

    /// Takes in what has come already.
    pub(crate) fn take_in(&mut self) {
        while self.take_one(Duration::ZERO) {}
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self, deadline: Duration) -> Output {
        if let Err(problem) = self.end_within(deadline) {
            panic!("{problem}");
        }
        let closing = Stopwatch::start();
        while self.open > 0 {
            let more = self.take_one(closing.left(CLOSE_WITHIN));
            assert!(more, "`{}` ended, but something still holds its output open:\n{}", self.command, self.said());
        }
        self.output()
    }

    /// Waits for its end without judging it; says what is wrong if it does not come.
    pub(crate) fn end_within(&mut self, deadline: Duration) -> Result<(), String> {
        let clock = Stopwatch::start();
        while self.status.is_none() {
            if !self.take_one(clock.left(deadline)) {
                self.signal(Signal::SIGKILL);
                return Err(format!("`{}` did not end within {deadline:?}: {}", self.command, self.said()));
            }
        }
        Ok(())
    }

    /// Everything it has printed so far, standard output first.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr))
    }

    fn output(&mut self) -> Output {
        let (status, took) = self.status.expect("invariant: it has ended");
        Output {
            command: std::mem::take(&mut self.command),
            code: status.code(),
            signal: status.signal(),
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
            took,
        }
    }

    /// Takes in one event; `false`: none came in time.
    fn take_one(&mut self, deadline: Duration) -> bool {
        let Ok(event) = self.events.recv_timeout(deadline) else { return false };
        match event {
            Event::Out(bytes) => self.stdout.extend(bytes),
            Event::Err(bytes) => self.stderr.extend(bytes),
            Event::Closed => self.open -= 1,
            Event::Exited(status) => self.status = Some((status, self.clock.elapsed())),
        }
        true
    }
}

impl Drop for Background {
    /// A command that a failing test no longer waits for must not go on.
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

fn read_into<R: Read + Send + 'static>(stream: Option<R>, event: fn(Vec<u8>) -> Event, sender: SyncSender<Event>) {
    let mut stream = stream.expect("invariant: the stream is piped");
    std::thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(read @ 1..) = stream.read(&mut chunk) {
            if sender.send(event(chunk[..read].to_vec())).is_err() {
                return;
            }
        }
        let _ = sender.send(Event::Closed);
    });
}

fn watch_exit(mut child: Child, sender: SyncSender<Event>) {
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = sender.send(Event::Exited(status));
        }
    });
}
