//! `envctl`, the command line: a client of the root actor over a Unix socket.
//!
//! ```text
//! main ─▶ args (clap) ─▶ commands/<one>.rs ─▶ context ─▶ runtime's Client and config
//!                                  └────────▶ output (the only one that prints)
//! ```
//!
//! The same binary is the session's heart, its daemon and the exec stub. Those are told apart by the first argument before
//! anything else is looked at, so that they start in a fraction of a millisecond and never meet the CLI's parser or runtime.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod context;
mod daemon_log;
mod environment;
mod error;
mod exit;
mod output;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use args::{Cli, Command};
use context::Context;
use environment::Environment;
use error::CliError;
use exit::Exit;
use output::{ColorChoice, Output};

// File descriptors 0 to 2 are open here even if the caller closed them: Rust's startup opens /dev/null in their place, so
// no file of ours can become somebody's stdout. The tests hold it (reliability matrix, I06).
fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = context::inner_process(&arguments) {
        return code;
    }
    let environment = Environment::read();
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments, &environment),
    };
    let output = Output::new(cli.global.json, cli.global.color, &environment);
    match execute(cli, environment, output.clone()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.error(&error);
            error.exit.into()
        }
    }
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = Cli::tree().try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// Help and version are answers (0); everything else clap says is a usage error (1, not clap's own 2).
fn refuse(error: &clap::Error, arguments: &[OsString], environment: &Environment) -> ExitCode {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    let exit = match error.kind() {
        DisplayHelp | DisplayVersion => Exit::Ok,
        DisplayHelpOnMissingArgumentOrSubcommand => Exit::Act,
        _ => {
            let json = arguments.iter().any(|argument| argument == "--json");
            Output::new(json, ColorChoice::Auto, environment).error(&CliError::usage(error));
            return Exit::Act.into();
        }
    };
    // A reader that has gone has read enough of the help.
    let _ = error.print();
    exit.into()
}

fn execute(cli: Cli, environment: Environment, output: Output) -> Result<Exit, CliError> {
    let context = Context::new(cli.global, cli.file, environment, output)?;
    // The daemon brings a runtime of its own.
    if let Command::Daemon(commands::daemon::Command::Run(_)) = &cli.command {
        return commands::daemon::run_in_foreground(&context);
    }
    // One thread: the CLI waits for a socket and a terminal, and its start-up counts.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(commands::run(&context, cli.command));
    // A read of stdin or a file that still blocks must not hold the exit up.
    runtime.shutdown_background();
    done
}
