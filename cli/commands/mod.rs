//! One file per command; the doc comment of its arguments is its help.

pub(crate) mod attach;
pub(crate) mod clear_logs;
pub(crate) mod config;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod endpoints;
pub(crate) mod env;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod kill;
pub(crate) mod list_commands;
pub(crate) mod list_targets;
pub(crate) mod logs;
pub(crate) mod operate;
pub(crate) mod projects;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod reference;
pub(crate) mod requirement;
pub(crate) mod show_state;
pub(crate) mod trust;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod why;

use tokio::signal::unix::{SignalKind, signal};

use crate::args::Command;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// Carries out a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Up(args) => Box::pin(up::run(context, args)).await,
        Command::Down(args) => down::run(context, args).await,
        Command::Ps(args) if args.watch => interruptible(ps::run(context, args)).await,
        Command::Ps(args) => Box::pin(ps::run(context, args)).await,
        Command::Start(args) => Box::pin(operate::start(context, args)).await,
        Command::Stop(args) => operate::stop(context, args).await,
        Command::Restart(args) => operate::restart(context, args).await,
        Command::Kill(args) => kill::run(context, args).await,
        Command::Attach(args) => Box::pin(attach::run(context, args)).await,
        Command::Logs(args) if args.follow => interruptible(logs::run(context, args)).await,
        Command::Logs(args) => Box::pin(logs::run(context, args)).await,
        Command::ClearLogs(args) => clear_logs::run(context, args).await,
        Command::Events(args) if args.follow => interruptible(events::run(context, args)).await,
        Command::Events(args) => events::run(context, args).await,
        Command::Why(args) => why::run(context, args).await,
        Command::Wait(args) => interruptible(wait::run(context, args)).await,
        Command::Endpoints(args) => endpoints::run(context, args).await,
        Command::Env(args) => env::run(context, args).await,
        Command::Exec(args) => exec::run(context, args).await,
        Command::Explain(args) => explain::run(context, &args),
        Command::Config(config::Command::Check(args)) => config::check(context, &args),
        Command::Config(config::Command::Show(args)) | Command::ShowConfig(args) => config::show(context, &args),
        Command::Health(args) => health::run(context, args).await,
        Command::Errors(args) => errors::run(context, args).await,
        Command::Projects(args) => projects::run(context, args).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Prune(args) => prune::run(context, args).await,
        Command::Daemon(command) => daemon::run(context, command).await,
        Command::Requirement(command) => Box::pin(requirement::run(context, command)).await,
        Command::ListCommands(args) => list_commands::run(context, &args),
        Command::ListTargets(args) => list_targets::run(context, args).await,
        Command::ShowState(args) => show_state::run(context, args).await,
        Command::Trust(args) => trust::run(context, &args),
        Command::Version(args) => version::run(context, &args),
        Command::Reference(args) => reference::run(context, &args),
    }
}

/// A command that waits for as long as it takes: Ctrl-C is its ordinary end, told by the exit code alone.
async fn interruptible(command: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(Exit::Interrupted),
        done = Box::pin(command) => done,
    }
}
