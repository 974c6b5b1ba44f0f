//! `envctl requirement`: databases and the like by themselves, and clients that talk to them with the right credentials.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use envctl_runtime::control::view::{SharedView, VariableView};
use envctl_runtime::control::wire::{ClientView, Down, DropData, RequirementInfo, RequirementReply};
use envctl_runtime::project::share::{self, DropLater};
use envctl_runtime::project::{access, containers};
use envctl_runtime::spec::{RequirementSpec, UnitKind};
use envctl_supervisors::Name;
use serde::Serialize;

use super::operate;
use crate::context::{Context, Observed, Target};
use crate::environment;
use crate::error::{CliError, chain};
use crate::exit::Exit;
use crate::output::harmless;
use crate::output::table::{Cell, Table};

/// Look after databases and the like; `envctl requirement psql` talks to one
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the project's requirements
    List,
    /// Show what a requirement offers, and which clients talk to it
    Info(InfoArgs),
    /// Start requirements; without names all of them
    Start(NamesArgs),
    /// Stop requirements; without names all of them
    Stop(NamesArgs),
    /// Stop a requirement, drop its data, and start it again if it was up
    Reset(ResetArgs),
    /// Run a client of a requirement with its credentials: `envctl requirement psql [--of NAME] [-- ARGS]`
    #[command(external_subcommand)]
    Client(Vec<OsString>),
}

/// Which requirements are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct NamesArgs {
    /// The requirements; none: all
    #[arg(value_name = "NAME")]
    units: Vec<String>,
}

/// What `info` is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// The requirement
    #[arg(value_name = "NAME")]
    name: String,

    /// Show secrets
    #[arg(long)]
    reveal: bool,
}

/// What `reset` is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// The requirement
    #[arg(value_name = "NAME")]
    name: String,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    preset: String,
    driver: String,
    state: Option<String>,
    ready: bool,
    clients: Vec<String>,
}

#[derive(Serialize)]
struct List {
    project: String,
    requirements: Vec<Listed>,
}

#[derive(Serialize)]
struct Info<'a> {
    project: &'a str,
    name: &'a str,
    preset: &'a str,
    title: &'a str,
    driver: &'a str,
    data: Option<&'a PathBuf>,
    attributes: BTreeMap<&'a str, &'a str>,
    variables: BTreeMap<&'a str, &'a str>,
    clients: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<&'a SharedView>,
}

#[derive(Serialize)]
struct Reset<'a> {
    name: &'a str,
    restarted: bool,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::List => list(context).await,
        Command::Info(args) => info(context, args).await,
        Command::Start(args) => {
            let units = all_unless_named(context, args.units).await?;
            operate::start(context, operate::StartArgs { units }).await
        }
        Command::Stop(args) => {
            let units = all_unless_named(context, args.units).await?;
            operate::stop(context, operate::StopArgs { units }).await
        }
        Command::Reset(args) => reset(context, args).await,
        Command::Client(words) => client(context, words).await,
    }
}

/// The names given, which must be requirements; without any, those of all requirements.
async fn all_unless_named(context: &Context, units: Vec<String>) -> Result<Vec<String>, CliError> {
    let target = context.locate().await?;
    if !units.is_empty() {
        units.iter().try_for_each(|unit| named(&target, unit).map(drop))?;
        return Ok(units);
    }
    let all: Vec<String> = target
        .project
        .iter()
        .flat_map(|project| project.loaded.spec.units.iter())
        .filter(|(_, unit)| matches!(unit.kind, UnitKind::Requirement(_)))
        .map(|(name, _)| name.to_string())
        .collect();
    if all.is_empty() {
        return Err(CliError::new("not-found", format!("{} has no requirements", target.name))
            .hint("`[requirements.postgres]` in envctl.toml is one"));
    }
    Ok(all)
}

async fn list(context: &Context) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let Observed { view, .. } = context.observe(&target).await?;
    let units = target.project.iter().flat_map(|project| project.loaded.spec.units.iter());
    let mut requirements = Vec::new();
    for (name, unit) in units {
        let UnitKind::Requirement(requirement) = &unit.kind else { continue };
        let seen = view.iter().flat_map(|view| &view.units).find(|seen| seen.name == name.as_str());
        requirements.push(Listed {
            name: name.to_string(),
            preset: requirement.preset.name.clone(),
            driver: requirement.driver.as_str().to_owned(),
            state: seen.map(|seen| seen.state.as_str().to_owned()),
            ready: seen.is_some_and(|seen| seen.ready),
            clients: requirement.preset.preset.clients.keys().cloned().collect(),
        });
    }
    if context.output.json {
        context.output.object("requirements", true, &List { project: target.name, requirements })?;
        return Ok(Exit::Ok);
    }
    if requirements.is_empty() {
        context.output.say(&format!(
            "{} has no requirements; `[requirements.postgres]` in envctl.toml is one",
            harmless(&target.name)
        ));
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["NAME", "PRESET", "DRIVER", "STATE", "CLIENTS"]);
    for one in &requirements {
        let state = one.state.as_deref().unwrap_or("down");
        let clients = one.clients.join(", ");
        let cells = [&one.name, &one.preset, &one.driver, state, &clients];
        table.row(cells.into_iter().map(Cell::from).collect());
    }
    context.output.write(&table.render(context.output.data))?;
    Ok(Exit::Ok)
}

async fn info(context: &Context, args: InfoArgs) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let reply = ask(context, &target, &args.name, args.reveal).await?;
    let pairs = |list: &'_ [VariableView]| -> BTreeMap<String, String> {
        list.iter().map(|one| (one.name.clone(), one.value.clone())).collect()
    };
    if context.output.json {
        let (attributes, variables) = (pairs(&reply.attributes), pairs(&reply.variables));
        fn refs(map: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
            map.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
        }
        let body = Info {
            project: &target.name,
            name: &args.name,
            preset: &reply.preset,
            title: &reply.title,
            driver: &reply.driver,
            data: reply.data.as_ref(),
            attributes: refs(&attributes),
            variables: refs(&variables),
            clients: reply.clients.iter().map(|client| client.name.as_str()).collect(),
            shared: reply.shared.as_ref(),
        };
        context.output.object("requirement", true, &body)?;
        return Ok(Exit::Ok);
    }
    context.output.write(&described(&args.name, &reply))?;
    Ok(Exit::Ok)
}

fn described(name: &str, reply: &RequirementReply) -> String {
    let mut text = format!("{} ({}, driver {})\n", harmless(name), harmless(&reply.title), reply.driver);
    if let Some(data) = &reply.data {
        text.push_str(&format!("data  {}\n", harmless(&data.display().to_string())));
    }
    if let Some(shared) = &reply.shared {
        text.push_str(&described_share(shared));
    }
    for one in &reply.attributes {
        text.push_str(&format!("${{{}.{}}}  {}\n", harmless(name), harmless(&one.name), harmless(&one.value)));
    }
    for one in &reply.variables {
        text.push_str(&format!("{}={}\n", harmless(&one.name), harmless(&one.value)));
    }
    for client in &reply.clients {
        text.push_str(&format!("client  envctl requirement {}\n", harmless(&client.name)));
    }
    text
}

fn described_share(shared: &SharedView) -> String {
    let from = shared.template.as_ref().map(|from| format!(", made from {from}")).unwrap_or_default();
    let mut text =
        format!("shared  database {}{} of {}\n", harmless(&shared.database), harmless(&from), harmless(&shared.server));
    for one in shared.with.iter().filter(|one| one.database != shared.database) {
        let root = one.root.display().to_string();
        text.push_str(&format!(
            "with  {} ({}, {})\n",
            harmless(&one.worktree),
            harmless(&one.database),
            harmless(&root)
        ));
    }
    text
}

async fn reset(context: &Context, args: ResetArgs) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let requirement = named(&target, &args.name)?;
    let question = format!("drop the data of {requirement} for good?");
    confirm(context, args.yes, &question)?;
    let Observed { client, view } = context.observe(&target).await?;
    let was_up = view
        .as_ref()
        .and_then(|view| view.units.iter().find(|unit| unit.name == args.name))
        .is_some_and(|unit| unit.desired == envctl_runtime::control::view::Desired::Up);
    match client.filter(|_| view.as_ref().is_some_and(|view| view.run.is_some())) {
        None => drop_unused(context, &target, &requirement).await?,
        Some(client) => {
            let project = target.reference.clone();
            if was_up {
                let units = vec![args.name.clone()];
                client.request(Down { project: project.clone(), units, timeout_ms: None, kill: false }).await?;
            }
            client.request(DropData { project, units: vec![args.name.clone()] }).await?;
        }
    }
    if was_up {
        operate::start(context, operate::StartArgs { units: vec![args.name.clone()] }).await?;
    }
    if context.output.json {
        context.output.object("requirement-reset", true, &Reset { name: &args.name, restarted: was_up })?;
    } else {
        context.output.say(&format!("the data of {} is gone", harmless(&args.name)));
    }
    Ok(Exit::Ok)
}

/// Drops the data of all requirements of a project that is down: `down --data`.
pub(crate) async fn drop_all(context: &Context, target: &Target) -> Result<(), CliError> {
    let units = target.project.iter().flat_map(|project| project.loaded.spec.units.iter());
    let requirements = units.filter(|(_, unit)| matches!(unit.kind, UnitKind::Requirement(_)));
    for (name, _) in requirements {
        drop_unused(context, target, name).await?;
    }
    Ok(())
}

async fn drop_unused(context: &Context, target: &Target, name: &Name) -> Result<(), CliError> {
    let places = context.target_places(target)?;
    if let Some(requirement) = shared(target, name) {
        return drop_shared(context, target, (name, requirement)).await;
    }
    drop_volumes(context, target, name).await?;
    let dropped = access::drop_data(&places, name).map_err(|error| {
        CliError::new("in-use", format!("failed to {}", chain(&error)))
            .hint("another session runs on this data: `envctl ps --all`; stop it first")
    })?;
    if dropped && !context.output.json {
        context.output.say(&format!("the data of {name} was dropped"));
    }
    Ok(())
}

fn shared<'t>(target: &'t Target, name: &Name) -> Option<&'t RequirementSpec> {
    let unit = target.project.as_ref()?.loaded.spec.units.get(name)?;
    match &unit.kind {
        UnitKind::Requirement(requirement) => requirement.share.is_some().then_some(requirement),
        UnitKind::Service(_) | UnitKind::Task(_) => None,
    }
}

/// Its database on a shared server: the server drops it if it runs. Else that is written down, or the whole server's data goes
/// if nobody else has any.
async fn drop_shared(
    context: &Context,
    target: &Target,
    (name, requirement): (&Name, &RequirementSpec),
) -> Result<(), CliError> {
    let places = context.target_places(target)?;
    if let Some(client) = context.reading_daemon(&places).await? {
        let units = vec![name.to_string()];
        client.request(DropData { project: target.reference.clone(), units }).await?;
        if !context.output.json {
            context.output.say(&format!("the database of {name} was dropped; others on its server stay"));
        }
        return Ok(());
    }
    let failed = |message: String| CliError::new("in-use", format!("failed to {message}"));
    access::drop_data(&places, name).map_err(|error| failed(chain(&error)))?;
    let told = match share::drop_later(&context.places()?, &places, name, requirement).map_err(failed)? {
        DropLater::Nothing => return Ok(()),
        DropLater::Noted => "goes with the next start: its server does not run, and others have data on it",
        DropLater::ServerDropped => "was dropped with the data of its server, which was nobody else's",
    };
    if !context.output.json {
        context.output.say(&format!("the database of {name} {told}"));
    }
    Ok(())
}

/// Data in the volumes of a container engine; without the secrets beside it, it would be worth nothing.
async fn drop_volumes(context: &Context, target: &Target, name: &Name) -> Result<(), CliError> {
    let unit = target.project.as_ref().and_then(|project| project.loaded.spec.units.get(name));
    let Some(UnitKind::Requirement(requirement)) = unit.map(|unit| &unit.kind) else { return Ok(()) };
    let owner = containers::owner(&context.places()?, &context.target_places(target)?);
    let get = |name: &str| environment::whole().find(|(known, _)| known == name).map(|(_, value)| value);
    let dropped = containers::drop_volumes(&owner, name, requirement, get).await;
    dropped.map(drop).map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| "`envctl ps --all` shows who runs on it".to_owned());
        CliError::new("in-use", format!("failed to {error}")).hint(hint)
    })
}

/// Asks whoever sits at the terminal; without one nobody can say yes but by `--yes`.
pub(crate) fn confirm(context: &Context, yes: bool, question: &str) -> Result<(), CliError> {
    use std::io::IsTerminal as _;
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::new("usage", question).hint("nobody can be asked here: `--yes` says yes"));
    }
    context.output.say(&format!("{question} [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(CliError::new("interrupted", "nothing was changed"))
}

/// `NAME [--of REQUIREMENT] [--] [ARGS]`: becomes the client.
async fn client(context: &Context, words: Vec<OsString>) -> Result<Exit, CliError> {
    let (name, of, rest) = parsed(words)?;
    let target = context.locate().await?;
    let (requirement, client) = client_named(context, &target, &name, of.as_deref()).await?;
    let missing = || {
        let programs = client.programs.iter().map(|program| format!("`{program}`")).collect::<Vec<_>>().join(" or ");
        CliError::new("not-found", format!("{name} of {requirement} is not installed: {programs} is not on the PATH"))
            .hint("install it with the package of the server or its client")
    };
    for program in &client.programs {
        #[expect(clippy::disallowed_methods, reason = "the CLI becomes the client: nothing is left to be supervised")]
        let mut command = std::process::Command::new(program);
        let error = command.args(&client.args).args(&rest).envs(client.env.clone()).exec();
        if error.kind() != std::io::ErrorKind::NotFound {
            return Err(CliError::new("io", format!("cannot run {program}: {error}")));
        }
    }
    Err(missing())
}

fn parsed(words: Vec<OsString>) -> Result<(String, Option<String>, Vec<OsString>), CliError> {
    let mut words = words.into_iter().peekable();
    let name = words.next().unwrap_or_default().to_string_lossy().into_owned();
    let mut of = None;
    if words.peek().is_some_and(|word| word == "--of") {
        words.next();
        let Some(requirement) = words.next() else {
            return Err(CliError::new("usage", "`--of` needs the name of a requirement"));
        };
        of = Some(requirement.to_string_lossy().into_owned());
    }
    words.next_if(|word| word == "--");
    Ok((name, of, words.collect()))
}

/// The client of this name, with the requirement it belongs to.
async fn client_named(
    context: &Context,
    target: &Target,
    name: &str,
    of: Option<&str>,
) -> Result<(Name, ClientView), CliError> {
    let units = target.project.iter().flat_map(|project| project.loaded.spec.units.iter());
    let mut owners = Vec::new();
    let mut known = Vec::new();
    for (unit, spec) in units {
        let UnitKind::Requirement(requirement) = &spec.kind else { continue };
        let clients = &requirement.preset.preset.clients;
        known.extend(clients.keys().cloned());
        if clients.contains_key(name) && of.is_none_or(|of| of == unit.as_str()) {
            owners.push(unit.clone());
        }
    }
    match owners.as_slice() {
        [owner] => {
            let reply = ask(context, target, owner.as_str(), true).await?;
            let client = reply.clients.into_iter().find(|client| client.name == name);
            let gone = || CliError::new("not-found", format!("{owner} runs with a preset that has no `{name}`"));
            Ok((owner.clone(), client.ok_or_else(gone)?))
        }
        [] => {
            known.sort();
            known.dedup();
            let hint = match known.is_empty() {
                true => "`envctl requirement list` shows the requirements; `--help` the commands".to_owned(),
                false => format!("clients are {}; `envctl requirement --help` shows the commands", known.join(", ")),
            };
            Err(CliError::new("not-found", format!("no requirement has a client `{name}`")).hint(hint))
        }
        several => {
            let names = several.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
            Err(CliError::new("usage", format!("several requirements have a client `{name}`: {names}"))
                .hint(format!("name one: `envctl requirement {name} --of {}`", several[0])))
        }
    }
}

async fn ask(context: &Context, target: &Target, unit: &str, reveal: bool) -> Result<RequirementReply, CliError> {
    target.check_units(std::slice::from_ref(&unit.to_owned()), None)?;
    let (client, _) = context.running(target).await?;
    let question = RequirementInfo { project: target.reference.clone(), unit: unit.to_owned(), reveal };
    Ok(client.request(question).await?)
}

fn named(target: &Target, unit: &str) -> Result<Name, CliError> {
    target.check_units(std::slice::from_ref(&unit.to_owned()), None)?;
    let units = target.project.iter().flat_map(|project| project.loaded.spec.units.iter());
    let mut found = units.filter(|(name, spec)| name.as_str() == unit && matches!(spec.kind, UnitKind::Requirement(_)));
    found.next().map(|(name, _)| name.clone()).ok_or_else(|| {
        CliError::new("not-found", format!("{unit} is no requirement")).hint("`envctl requirement list` shows them")
    })
}
