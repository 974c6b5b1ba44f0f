//! Somebody else's server: asked whether it answers, never started, stopped or written to.
//!
//! A life needs a process that heart looks after; here it is a stand-in, `sleep`. It costs next to nothing, and a daemon that
//! dies finds it again like every other. It is no part of the server: ending it ends the asking.

use std::ffi::OsString;
use std::path::PathBuf;

use envctl_supervisors::reason::StartError;

use super::native::{no_value, probe, schedule};
use super::plan::Wanted;
use super::preset::NoValue;
use crate::probe::{Purpose, Schedule};
use crate::process::{Command, RunAs, Scope};
use crate::unit::{Asked, Prepared};

/// Seconds that a stand-in sleeps: 68 years, the longest that every `sleep` takes.
const FOR_EVER: &str = "2147483647";

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What a life of it is.
///
/// # Errors
/// A preset that names something that is not there.
pub fn prepared(elsewhere: &Elsewhere, wanted: &Wanted) -> Result<Prepared, StartError> {
    let command = Command {
        program: OsString::from("sleep"),
        args: vec![OsString::from(FOR_EVER)],
        env: wanted.env.clone(),
        dir: PathBuf::from("/"),
        run_as: RunAs::Caller,
        limits: crate::process::Limits::default(),
        stdin: None,
    };
    let at = (elsewhere.host.as_str(), elsewhere.port);
    let exec = |_: &[_]| Err(NoValue("tool".to_owned()));
    let probe = probe(&wanted.preset.probe, &wanted.scope, at, false, exec).map_err(no_value)?;
    let schedule = Schedule { successes: 1, ..schedule() };
    Ok(Prepared {
        asked: vec![Asked { purpose: Purpose::Ready, probe, schedule }],
        stop: Some((libc::SIGTERM, Scope::Main)),
        ..Prepared::new(command)
    })
}
