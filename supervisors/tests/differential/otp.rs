//! OTP's own supervisor: one Erlang machine that runs `driver.escript`.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::erlang;
use crate::script::Script;
use crate::system::System;
use crate::trace::Trace;

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/driver.escript");
/// Set by every continuous integration: there, a missing Erlang is a failure.
const CI: &str = "CI";

pub(crate) struct Otp {
    machine: Child,
    answers: BufReader<ChildStdout>,
}

// === impl Otp ===

impl Otp {
    /// A machine that runs up to `at_once` scripts at the same time; none if Erlang is not installed.
    pub(crate) fn start(at_once: usize) -> Option<Self> {
        let mut command = driver(at_once);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut machine = match command.spawn() {
            Ok(machine) => machine,
            Err(error) if error.kind() == ErrorKind::NotFound && std::env::var_os(CI).is_none() => return None,
            Err(error) => panic!("failed to run escript (is Erlang/OTP 25 installed?): {error}"),
        };
        let stdout = machine.stdout.take().expect("invariant: its output is piped");
        Some(Self { machine, answers: BufReader::new(stdout) })
    }

    /// The next trace, and the place of its script.
    fn read(&mut self) -> (usize, Trace) {
        let header = self.read_line();
        let at = header.strip_prefix("= ").and_then(|at| at.parse().ok());
        let at = at.unwrap_or_else(|| panic!("the driver says {header:?} where a trace begins"));
        let mut steps = vec![vec![]];
        loop {
            match self.read_line() {
                line if line == "." => return (at, Trace { steps }),
                line if line == "-" => steps.push(vec![]),
                line => steps.last_mut().expect("invariant: there is a step from the beginning").push(line),
            }
        }
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).expect("invariant: the driver writes text");
        assert!(read > 0, "the Erlang machine has ended in the middle of a run");
        line.truncate(line.trim_end().len());
        line
    }
}

impl System for Otp {
    fn name(&self) -> String {
        "OTP".to_owned()
    }

    /// Writes from a second thread: neither pipe can fill up while nobody reads the other.
    fn run(&mut self, scripts: &[Script]) -> Vec<Trace> {
        let mut traces = vec![Trace::default(); scripts.len()];
        let mut input = self.machine.stdin.take().expect("invariant: its input is piped and always given back");
        let input = std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let mut lines = scripts.iter().enumerate().map(|(at, script)| erlang::line(at, script));
                lines.try_for_each(|line| input.write_all(line.as_bytes())).map(|()| input)
            });
            for _ in scripts {
                let (at, trace) = self.read();
                traces[at] = trace.comparable(&scripts[at]);
            }
            writer.join().expect("invariant: the writer does not panic").expect("the Erlang machine reads to the end")
        });
        self.machine.stdin = Some(input);
        traces
    }
}

/// Without its input the driver ends by itself.
impl Drop for Otp {
    fn drop(&mut self) {
        drop(self.machine.stdin.take());
        if std::thread::panicking() {
            drop(self.machine.kill());
        }
        drop(self.machine.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "the other side of the comparison is not under supervision")]
fn driver(at_once: usize) -> Command {
    let mut command = Command::new("escript");
    command.arg(DRIVER).arg(at_once.to_string());
    command
}
