//! `envctl exec`: this process becomes the command, beside a unit.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use envctl_actors::process::guest::{self, GuestError};
use envctl_actors::process::{self, Limits, RunAs};
use envctl_runtime::control::wire::{Exec, ExecReply};

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// Run a command in a unit's environment and directory
///
/// The project has to be up, the unit need not run: ports and URLs are the leased ones. The command has this terminal, its
/// input and output, and the rights and limits of whoever types it; it is looked up in the unit's PATH, a relative path from the unit's
/// directory. It is a guest of the unit: `restart`, `stop` and `down` leave it alone, and `envctl` in it talks to this session. The
/// exit code is the command's own; 127 if there is no such command, 126 if it cannot be executed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub(crate) unit: String,

    /// The command and its arguments, best after `--`
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    if context.output.json {
        return Err(CliError::new("usage", "`exec` has no JSON: what is printed is the command's own")
            .hint("`envctl env UNIT --json` shows the environment; give the command its own options after it"));
    }
    let target = context.locate().await?;
    let (client, view) = context.running(&target).await?;
    target.check_units(std::slice::from_ref(&args.unit), Some(&view))?;
    let reply = client.request(Exec { project: target.reference, unit: args.unit.clone() }).await?;
    match guest::become_guest(&command(args.command, reply)) {
        Ok(never) => match never {},
        Err(error) => Err(failure(&args.unit, error)),
    }
}

fn command(words: Vec<OsString>, reply: ExecReply) -> process::Command {
    let text = |bytes: Vec<u8>| OsString::from_vec(bytes);
    let variables = reply.environment.into_iter();
    let env = variables.map(|(name, value)| (text(name.into_vec()), text(value.into_vec()))).collect();
    let mut words = words.into_iter();
    process::Command {
        program: words.next().expect("invariant: clap demands a command"),
        args: words.collect(),
        env,
        dir: reply.dir,
        run_as: RunAs::Caller,
        limits: Limits::default(),
        stdin: None,
    }
}

fn failure(unit: &str, error: GuestError) -> CliError {
    let (exit, error) = match error {
        GuestError::NotFound(error) => (Exit::NoCommand, error),
        GuestError::NotExecutable(error) => (Exit::NotExecutable, error),
        GuestError::Surroundings(error) => (Exit::Act, error),
    };
    let message = format!("beside {unit}: failed to {}", error.message);
    CliError::new("failed", message).hint_if(error.hint).exit(exit)
}
