//! The command tree: what can be typed. Each command's own arguments stand with the command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::{
    attach, clear_logs, config, daemon, doctor, down, endpoints, env, errors, events, exec, explain, health, kill,
    list_commands, list_targets, logs, operate, projects, prune, ps, reference, requirement, show_state, trust, up,
    version, wait, why,
};
use crate::exit;
use crate::output::ColorChoice;

/// Erlang/OTP for a developer's machine: brings a project up, keeps it up, explains itself.
#[derive(Debug, Parser)]
#[command(name = "envctl", version, max_term_width = 120, disable_help_subcommand = false)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Config file, instead of the envctl.toml found from here upwards (only before the command)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Work as if started in DIR
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub(crate) directory: Option<PathBuf>,

    /// Ask about this project of the session, wherever it is
    #[arg(short, long, value_name = "NAME", global = true)]
    pub(crate) project: Option<String>,

    /// Talk to this session instead of the default one
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) session: Option<String>,

    /// When to colour
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub(crate) color: ColorChoice,

    /// Print JSON: one object, or one per line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Args),
    Down(down::Args),
    #[command(visible_aliases = ["ls", "list", "status"])]
    Ps(ps::Args),
    Start(operate::StartArgs),
    Stop(operate::StopArgs),
    Restart(operate::RestartArgs),
    Kill(kill::Args),
    Logs(logs::Args),
    ClearLogs(clear_logs::Args),
    Attach(attach::Args),
    Events(events::Args),
    Why(why::Args),
    Wait(wait::Args),
    Endpoints(endpoints::Args),
    Env(env::Args),
    Exec(exec::Args),
    #[command(visible_alias = "explain-startup")]
    Explain(explain::Args),
    #[command(subcommand)]
    Config(config::Command),
    #[command(hide = true)]
    ShowConfig(config::ShowArgs),
    Trust(trust::Args),
    Health(health::Args),
    Errors(errors::Args),
    Projects(projects::Args),
    Doctor(doctor::Args),
    Prune(prune::Args),
    #[command(subcommand)]
    Requirement(requirement::Command),
    #[command(subcommand)]
    Daemon(daemon::Command),
    ListCommands(list_commands::Args),
    ListTargets(list_targets::Args),
    ShowState(show_state::Args),
    Version(version::Args),
    #[command(hide = true)]
    Reference(reference::Args),
}

// === impl Cli ===

impl Cli {
    /// The tree as clap knows it, with the exit codes under the help.
    pub(crate) fn tree() -> clap::Command {
        let codes = exit::TABLE.iter().map(|(exit, meaning)| format!("  {:>3}  {meaning}\n", exit.code()));
        Self::command().after_help(format!("Exit codes:\n{}", codes.collect::<String>()))
    }
}

/// `10s`, `1m 30s`, `500ms`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let wrong = || "a duration such as `10s`, `500ms` or `1m30s` is needed".to_owned();
    let parsed = text.parse::<jiff::SignedDuration>().map_err(|_| wrong())?;
    parsed.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
