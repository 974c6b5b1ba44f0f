//! The harness of the end-to-end tests: a machine of one's own in a directory, and proof that nothing of it is left.
//!
//! [`TestEnvironment`] has its own HOME, XDG directories and therefore daemon; [`Project`] is a checkout in it;
//! [`Output`] and [`Background`] are finished and running commands. When an environment is dropped its daemon is
//! stopped, and the test fails if any process, socket or mount of it is still there.
//!
//! Every wait has a deadline and a condition. [`until`] is the only place that polls.

mod background;
mod client;
mod engine;
mod environment;
mod output;
pub(crate) mod proc;
mod project;
mod terminal;
#[cfg(test)]
mod tests;
mod wait;
pub(crate) mod wire;

pub(crate) use background::Background;
pub(crate) use client::{http_get, http_post};
pub(crate) use engine::Engine;
pub(crate) use environment::TestEnvironment;
pub(crate) use output::Output;
pub(crate) use project::{Project, UP_WAIT};
pub(crate) use terminal::Terminal;
pub(crate) use wait::{Stopwatch, until};

/// The program that misbehaves on command; in projects the text `FX` stands for it.
pub(crate) const FIXTURE: &str = env!("CARGO_BIN_EXE_envctl-fixture");
/// The program under test.
pub(crate) const ENVCTL: &str = env!("CARGO_BIN_EXE_envctl");

/// Whether the tests run as root: some of what is promised differs then.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// How often a test that goes in rounds repeats itself: few times, unless `ENVCTL_TEST_ROUNDS` says otherwise.
pub(crate) fn rounds(otherwise: usize) -> usize {
    std::env::var("ENVCTL_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The path of a tool, also of one that only root has in its PATH.
pub(crate) fn find_tool(tool: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|dir| dir.join(tool)).find(|path| path.is_file())
}

/// Says, past the test runner's capture, that a test could not run here: it must not look as if it had.
pub(crate) fn cannot_run(test: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {why}");
}
