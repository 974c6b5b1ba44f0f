//! `envctl list-commands`: the command tree, generated from what clap parses, so that it cannot lie.

use serde::Serialize;

use crate::args::Cli;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::{self, Exit};
use crate::output::table::{Cell, Table};

/// List every command with its options
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// The tree.
#[derive(Debug, Serialize)]
pub(crate) struct Tree {
    pub(crate) commands: Vec<Listed>,
    pub(crate) global_options: Vec<OptionListed>,
    pub(crate) exit_codes: Vec<ExitCode>,
}

/// A command.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    /// As typed: `config show`.
    pub(crate) command: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) about: String,
    pub(crate) details: Option<String>,
    pub(crate) usage: String,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) options: Vec<OptionListed>,
}

/// An argument without a name.
#[derive(Debug, Serialize)]
pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) many: bool,
    pub(crate) help: String,
}

/// An option.
#[derive(Debug, Serialize)]
pub(crate) struct OptionListed {
    pub(crate) long: Option<String>,
    pub(crate) short: Option<char>,
    pub(crate) value: Option<String>,
    pub(crate) values: Vec<String>,
    pub(crate) default: Option<String>,
    pub(crate) help: String,
}

/// An exit code.
#[derive(Debug, Serialize)]
pub(crate) struct ExitCode {
    pub(crate) code: u8,
    pub(crate) meaning: &'static str,
}

pub(crate) fn run(context: &Context, _args: &Args) -> Result<Exit, CliError> {
    let tree = tree();
    if context.output.json {
        context.output.object("list-commands", true, &tree)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["COMMAND", "ALIASES", "DOES"]);
    for listed in tree.commands {
        table.row(vec![Cell::from(listed.command), Cell::from(listed.aliases.join(",")), Cell::from(listed.about)]);
    }
    context.output.write(&table.render(context.output.data))?;
    Ok(Exit::Ok)
}

/// Every command that is not hidden; a group of commands is listed by its members.
pub(crate) fn tree() -> Tree {
    let mut root = Cli::tree();
    root.build();
    let mut commands = Vec::new();
    push_all(&root, "", &mut commands);
    let exit_codes = exit::TABLE.iter().map(|(exit, meaning)| ExitCode { code: exit.code(), meaning }).collect();
    Tree { commands, global_options: options(&root, |_| true), exit_codes }
}

fn push_all(parent: &clap::Command, prefix: &str, commands: &mut Vec<Listed>) {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        let path = format!("{prefix}{}", command.get_name());
        if command.has_subcommands() {
            push_all(command, &format!("{path} "), commands);
        } else {
            commands.push(listed(path, command));
        }
    }
}

fn listed(path: String, command: &clap::Command) -> Listed {
    let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string);
    let positionals = command.get_positionals().map(|argument| Argument {
        name: value_name(argument).unwrap_or_default(),
        required: argument.is_required_set(),
        many: argument.get_num_args().is_some_and(|range| range.max_values() > 1) || appends(argument),
        help: text(argument.get_help()).unwrap_or_default(),
    });
    let usage = command.clone().render_usage().to_string();
    Listed {
        command: path,
        aliases: command.get_visible_aliases().map(str::to_owned).collect(),
        about: text(command.get_about()).unwrap_or_default(),
        details: text(command.get_long_about()).filter(|_| command.get_long_about() != command.get_about()),
        usage: usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned(),
        arguments: positionals.collect(),
        options: options(command, |argument| !argument.is_global_set()),
    }
}

fn appends(argument: &clap::Arg) -> bool {
    matches!(argument.get_action(), clap::ArgAction::Append)
}

fn options(command: &clap::Command, wanted: impl Fn(&clap::Arg) -> bool) -> Vec<OptionListed> {
    let named =
        |argument: &&clap::Arg| !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version");
    let listed = command.get_opts().chain(flags(command)).filter(named).filter(|argument| wanted(argument));
    let mut options: Vec<OptionListed> = listed.map(option).collect();
    options.sort_by(|a, b| a.long.cmp(&b.long));
    options
}

fn flags(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|argument| !argument.is_positional() && !argument.get_action().takes_values())
}

fn option(argument: &clap::Arg) -> OptionListed {
    let takes = argument.get_action().takes_values();
    let values = if takes { argument.get_possible_values() } else { Vec::new() };
    let default =
        argument.get_default_values().first().filter(|_| takes).map(|value| value.to_string_lossy().into_owned());
    OptionListed {
        long: argument.get_long().map(str::to_owned),
        short: argument.get_short(),
        value: if takes { value_name(argument) } else { None },
        values: values.iter().map(|value| value.get_name().to_owned()).collect(),
        default,
        help: argument.get_help().map(ToString::to_string).unwrap_or_default(),
    }
}

fn value_name(argument: &clap::Arg) -> Option<String> {
    Some(argument.get_value_names()?.first()?.to_string())
}
