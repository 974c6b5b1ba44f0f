//! What commands work with: places, configuration, the daemon. The only file of the CLI that knows where things are.
//!
//! Nothing here prints but notices. Reading commands get a daemon only if one runs, or if a run is recorded as up;
//! [`Context::daemon`] alone starts one.

mod build;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envctl_actors::requirement::container::relay;
use envctl_runtime::config::{self, Diagnostics, Loaded, Severity, Source};
use envctl_runtime::control::client::{Client, ClientError};
use envctl_runtime::control::view::{ProjectState, ProjectView};
use envctl_runtime::control::wire::{ProjectRef, Ps};
use envctl_runtime::nearest::nearest;
use envctl_runtime::places::{Places, PlacesInput, ProjectPlaces};
use envctl_runtime::project::memory::Memory;
use envctl_runtime::session::launch::{self, LaunchOptions};
use envctl_runtime::session::serve;
use envctl_runtime::vars::RtVars;
use envctl_supervisors::Name;

use crate::args::Global;
use crate::daemon_log::log_to_stderr;
use crate::environment::Environment;
use crate::error::{CliError, chain};
use crate::output::Output;

/// Time a running daemon has to greet. It answers in under a millisecond unless it is stopped or swapped out.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Time a new daemon has to come up, also when fifty start at once on a slow machine.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(20);
/// Time the heart has to bring back a daemon that died under us.
const RECONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// The session when nothing says otherwise.
const SESSION_DEFAULT: &str = "default";

/// Where the command works and with what.
#[derive(Debug)]
pub(crate) struct Context {
    /// The command's channels.
    pub(crate) output: Output,
    global: Global,
    file: Option<PathBuf>,
    environment: Environment,
    start: PathBuf,
    session: Name,
    /// It was said that the daemon is of another build.
    build_noted: AtomicBool,
}

/// The project a command is about.
#[derive(Debug)]
pub(crate) struct Project {
    /// Its configuration, checked.
    pub(crate) loaded: Loaded,
    /// Its config file, if `--file` named one.
    pub(crate) file: Option<PathBuf>,
}

/// What a reading command is about.
#[derive(Debug)]
pub(crate) struct Target {
    /// How requests name it.
    pub(crate) reference: ProjectRef,
    /// Its name.
    pub(crate) name: String,
    /// Its configuration, if that was looked at and is sound.
    pub(crate) project: Option<Project>,
}

/// What could be learned about a project: with a daemon, what it says; without, nothing.
#[derive(Debug)]
pub(crate) struct Observed {
    /// The daemon.
    pub(crate) client: Option<Client>,
    /// The project's state, if the daemon knows it.
    pub(crate) view: Option<ProjectView>,
}

/// The arguments of an inner process (the heart, the daemon, the exec stub), which is not the CLI.
pub(crate) fn inner_process(arguments: &[OsString]) -> Option<ExitCode> {
    let rest = || arguments.get(2..).unwrap_or_default().to_vec();
    match arguments.get(1)?.to_str()? {
        "heart" => {
            log_to_stderr();
            Some(serve::heart_main(rest()))
        }
        "daemon-serve" => {
            log_to_stderr();
            Some(serve::daemon_main(rest()))
        }
        "exec-stub" => Some(serve::exec_stub_main(rest())),
        relay::SUBCOMMAND => Some(ExitCode::from(relay::main(&rest()))),
        _ => None,
    }
}

// === impl Context ===

impl Context {
    /// Settles the directory and the session; opens nothing.
    pub(crate) fn new(
        global: Global,
        file: Option<PathBuf>,
        environment: Environment,
        output: Output,
    ) -> Result<Self, CliError> {
        let start = start_directory(global.directory.as_deref())?;
        let session = session(&global, &environment)?;
        let file = file.or_else(|| environment.file.clone()).map(|file| start.join(file));
        let build_noted = AtomicBool::new(false);
        Ok(Self { output, global, file, environment, start, session, build_noted })
    }

    /// The session's name.
    pub(crate) fn session(&self) -> &Name {
        &self.session
    }

    /// The session's paths.
    pub(crate) fn places(&self) -> Result<Places, CliError> {
        let state_home = self.environment.state_home().ok_or_else(|| {
            CliError::new(
                "usage",
                "there is no place for state: neither HOME nor XDG_STATE_HOME is set to an absolute path",
            )
            .hint("set HOME, or XDG_STATE_HOME to a directory of yours")
        })?;
        let input = PlacesInput {
            uid: nix::unistd::geteuid().as_raw(),
            session: self.session.clone(),
            runtime_dir: self.environment.runtime_dir.clone(),
            state_home,
            state_override: self.environment.state_override.clone(),
        };
        Places::resolve(&input).map_err(|error| {
            CliError::new("io", format!("cannot {}", chain(&error)))
                .hint("envctl uses only directories that nobody else can write to; see `docs/reference/environment.md`")
        })
    }

    /// The paths of a project.
    pub(crate) fn project_places(&self, root: &Path, project: &str) -> Result<ProjectPlaces, CliError> {
        let name = Name::new(project).map_err(|error| CliError::new("not-found", error.to_string()))?;
        self.places()?
            .for_project(root, &name)
            .map_err(|error| CliError::new("io", format!("cannot {}", chain(&error))))
    }

    // --- configuration ---

    /// Where the project's configuration is, or why there is none.
    pub(crate) fn source(&self) -> Result<Source, Diagnostics> {
        let source = config::discover(&self.start, self.file.as_deref())?;
        Ok(Source { user_config: self.user_config(), ..source })
    }

    /// The user's own config file, if there is one.
    pub(crate) fn user_config(&self) -> Option<PathBuf> {
        self.environment.user_config().filter(|file| file.exists())
    }

    /// Whether `--project` names a project, wherever it is.
    pub(crate) fn names_a_project(&self) -> bool {
        self.global.project.is_some()
    }

    /// Whether no project is configured here, and none was asked for: nothing is wrong, nothing is there.
    pub(crate) fn is_outside(&self) -> bool {
        let nowhere = |found: &Diagnostics| found.sources.is_empty() && found.list.iter().all(|one| one.at.is_none());
        self.file.is_none() && self.source().is_err_and(|found| nowhere(&found))
    }

    /// The configuration of the project here; its warnings are told.
    pub(crate) fn load(&self) -> Result<Project, CliError> {
        let source = self.source().map_err(config_error)?;
        let loaded = config::load(&source).map_err(config_error)?;
        if !loaded.warnings.is_empty() {
            self.output.say(crate::output::harmless(&loaded.warnings.to_string()).trim_end());
        }
        Ok(Project { loaded, file: self.file.clone() })
    }

    /// The project a command asks about: `--project`, else the one configured here.
    ///
    /// A configuration that is broken now may have a project that runs: its directory is enough to ask about it.
    pub(crate) async fn locate(&self) -> Result<Target, CliError> {
        if let Some(name) = &self.global.project {
            return self.find_running(name).await;
        }
        let source = match self.source() {
            Ok(source) => source,
            Err(found) => return self.locate_gone(found).await,
        };
        match config::load(&source) {
            Ok(loaded) => {
                let project = Project { loaded, file: self.file.clone() };
                Ok(Target { reference: project.reference(), name: project.name().to_owned(), project: Some(project) })
            }
            Err(found) => self.locate_broken(&source.root, found).await,
        }
    }

    async fn locate_broken(&self, root: &Path, found: Diagnostics) -> Result<Target, CliError> {
        let reference = project_ref(root);
        let Some(client) = self.running_daemon().await? else { return Err(config_error(found)) };
        let Some(view) = self.view(&client, &reference).await? else { return Err(config_error(found)) };
        self.output.warn(&format!("the configuration has errors now, asking about what runs:\n{found}"));
        Ok(Target { reference, name: view.name, project: None })
    }

    /// The project that runs here although its config file is gone.
    async fn locate_gone(&self, found: Diagnostics) -> Result<Target, CliError> {
        let Some(client) = self.running_daemon().await? else { return Err(config_error(found)) };
        let projects = client.request(Ps { project: None, usage: false }).await?.projects;
        let start = self.file.as_deref().and_then(Path::parent).unwrap_or(&self.start);
        let up = |root: &Path| projects.iter().find(|one| one.root == root && one.state != ProjectState::Down);
        let Some(view) = start.ancestors().find_map(up) else { return Err(config_error(found)) };
        self.output.warn("the config file is gone, asking about what runs");
        Ok(Target { reference: project_ref(&view.root), name: view.name.clone(), project: None })
    }

    /// A project of the session by its name, or by its directory.
    async fn find_running(&self, name: &str) -> Result<Target, CliError> {
        let unknown = |hint: String| {
            CliError::new("not-found", format!("no project is called `{name}` in this session")).hint(hint)
        };
        let Some(client) = self.running_daemon().await? else {
            return Err(unknown("nothing runs; go to its directory, or name it with -C DIR".to_owned()));
        };
        let projects = client.request(Ps { project: None, usage: false }).await?.projects;
        let root = name.contains('/').then(|| std::fs::canonicalize(self.start.join(name)).ok()).flatten();
        let is = |project: &&ProjectView| project.name == name || root.as_ref() == Some(&project.root);
        let is_up = |project: &&ProjectView| is(project) && project.state != ProjectState::Down;
        // One that is up is meant rather than one that was.
        let mut up = projects.iter().filter(is_up);
        let mut known = projects.iter().filter(is);
        let (first, second) = match up.next() {
            Some(one) => (Some(one), up.next()),
            None => (known.next(), known.next()),
        };
        match (first, second) {
            (Some(one), None) => {
                Ok(Target { reference: project_ref(&one.root), name: one.name.clone(), project: None })
            }
            (Some(one), Some(other)) => {
                Err(CliError::new("not-found", format!("several projects are called `{name}`")).hint(format!(
                    "name one by its directory: -p {} or -p {}",
                    one.root.display(),
                    other.root.display()
                )))
            }
            (None, _) => {
                let names = projects.iter().map(|project| project.name.as_str());
                let near = nearest(name, names).map_or_else(|| "`envctl projects` lists them".to_owned(), did_you_mean);
                Err(unknown(near))
            }
        }
    }

    // --- the daemon ---

    /// The session's daemon, if one runs. Says so if it is of another build.
    pub(crate) async fn running_daemon(&self) -> Result<Option<Client>, CliError> {
        let client = self.connect().await?;
        client.iter().for_each(|client| self.note_build(client));
        Ok(client)
    }

    /// As [`Self::running_daemon`], without a word about its build: for commands that end or replace it.
    pub(crate) async fn connect(&self) -> Result<Option<Client>, CliError> {
        match Client::connect(&self.socket()?, CONNECT_DEADLINE).await {
            Ok(client) => Ok(Some(client)),
            // One that dies while it is greeted does not run either.
            Err(ClientError::NotRunning { .. } | ClientError::Lost) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The session's daemon for a command that only reads: one is started only if a run of the project is remembered, for
    /// then its units may run and somebody must take them over. That memory dies with the boot, as units do.
    pub(crate) async fn reading_daemon(&self, project: &ProjectPlaces) -> Result<Option<Client>, CliError> {
        match self.running_daemon().await? {
            Some(client) => Ok(Some(client)),
            None if Memory::path(self.places()?.runtime_dir(), &project.short()).exists() => {
                self.daemon().await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// The session's daemon, if one runs, and how the project of this directory is named to it: known before its
    /// configuration is read. `None` also where another project is meant.
    pub(crate) async fn daemon_of_here(&self) -> Result<Option<(Client, ProjectRef)>, CliError> {
        let Some(source) = self.source().ok().filter(|_| !self.names_a_project()) else { return Ok(None) };
        Ok(self.running_daemon().await?.map(|client| (client, project_ref(&source.root))))
    }

    /// What the daemon says of the project of this directory, if it knows it: then its configuration need not be read, which
    /// takes longer than the answer.
    pub(crate) async fn view_of_here(&self, usage: bool) -> Result<Option<ProjectView>, CliError> {
        let Some((client, here)) = self.daemon_of_here().await? else { return Ok(None) };
        match view_of(&client, Ps { project: Some(here), usage }).await {
            // Whoever asks on learns whether there is a daemon after this one.
            Err(ClientError::Lost) => Ok(None),
            answer => Ok(answer?),
        }
    }

    /// The session's daemon; one is started if there is none.
    pub(crate) async fn daemon(&self) -> Result<Client, CliError> {
        let places = self.places()?;
        let program = std::env::current_exe()?;
        let options = LaunchOptions { program, deadline: LAUNCH_DEADLINE };
        let launched = launch::ensure_daemon(&places, options).await.map_err(|error| {
            CliError::new("daemon", chain(&error)).hint(format!("its log is {}", places.daemon_log().display()))
        });
        launched.inspect(|client| self.note_build(client))
    }

    /// Says once, to people, that the daemon is of another build, and what to do about it.
    fn note_build(&self, client: &Client) {
        let link = client.peer_pid().and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
        let ours = std::env::current_exe().ok();
        let Some(notice) = build::notice(&client.hello().build, link.as_deref(), ours.as_deref()) else { return };
        if !self.output.json && !self.build_noted.swap(true, Ordering::Relaxed) {
            self.output.say(&crate::output::harmless(&notice));
            self.output.hint("`envctl daemon upgrade` replaces it by this one; units run on");
        }
    }

    /// Where the command works.
    pub(crate) fn start(&self) -> &Path {
        &self.start
    }

    /// The daemon that takes over from one that died under us.
    pub(crate) async fn reconnect(&self) -> Result<Client, CliError> {
        let options = LaunchOptions { program: std::env::current_exe()?, deadline: RECONNECT_DEADLINE };
        launch::ensure_daemon(&self.places()?, options).await.map_err(|error| CliError::new("daemon", chain(&error)))
    }

    /// The state of one project, if the daemon knows it.
    pub(crate) async fn view(&self, client: &Client, project: &ProjectRef) -> Result<Option<ProjectView>, CliError> {
        Ok(view_of(client, Ps { project: Some(project.clone()), usage: false }).await?)
    }

    /// Asks about a project without starting anything that does not run.
    pub(crate) async fn observe(&self, target: &Target) -> Result<Observed, CliError> {
        let Some(client) = self.reading_daemon(&self.target_places(target)?).await? else {
            return Ok(Observed { client: None, view: None });
        };
        let view = self.view(&client, &target.reference).await?;
        Ok(Observed { client: Some(client), view })
    }

    /// The paths of a target.
    pub(crate) fn target_places(&self, target: &Target) -> Result<ProjectPlaces, CliError> {
        self.project_places(&target.reference.root, &target.name)
    }

    /// The daemon and the target's state, or an error that says how to get it up.
    pub(crate) async fn running(&self, target: &Target) -> Result<(Client, ProjectView), CliError> {
        match self.observe(target).await? {
            Observed { client: Some(client), view: Some(view) } => Ok((client, view)),
            Observed { .. } => {
                Err(CliError::new("not-running", format!("{} is not up", target.name)).hint("`envctl up -d` starts it"))
            }
        }
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> Result<PathBuf, CliError> {
        self.places()?.socket().map_err(|error| CliError::new("io", format!("cannot {}", chain(&error))))
    }

    /// Arguments with which a daemon of this session serves in the foreground.
    pub(crate) fn serve_in_foreground(&self) -> Result<ExitCode, CliError> {
        Ok(serve::heart_main(launch::foreground_arguments(&self.places()?, &std::env::current_exe()?)))
    }
}

// === impl Project ===

impl Project {
    /// How requests name it.
    pub(crate) fn reference(&self) -> ProjectRef {
        project_ref(&self.loaded.spec.root)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.loaded.spec.name.as_str()
    }

    /// The names of its units, in the order of the file.
    pub(crate) fn units(&self) -> impl Iterator<Item = &str> + Clone {
        self.loaded.spec.units.keys().map(Name::as_str)
    }

    /// Checks names that were typed.
    pub(crate) fn check_units(&self, typed: &[String]) -> Result<Vec<Name>, CliError> {
        check_units(typed, self.units())?;
        let known = |typed: &String| self.loaded.spec.units.get_key_value(typed.as_str()).map(|(name, _)| name.clone());
        Ok(typed.iter().filter_map(known).collect())
    }
}

// === impl Target ===

impl Target {
    /// Checks names that were typed, against the configuration and what runs.
    pub(crate) fn check_units(&self, typed: &[String], view: Option<&ProjectView>) -> Result<(), CliError> {
        check_units(typed, self.units(view).iter().map(String::as_str))
    }

    /// The units' names: of what runs, then of the configuration.
    pub(crate) fn units(&self, view: Option<&ProjectView>) -> Vec<String> {
        let mut units: Vec<String> =
            view.into_iter().flat_map(|view| &view.units).map(|unit| unit.name.clone()).collect();
        for unit in self.project.iter().flat_map(Project::units) {
            if !units.iter().any(|known| known == unit) {
                units.push(unit.to_owned());
            }
        }
        units
    }
}

/// Every typed name must be a unit's: else nothing is touched and the nearest is named.
pub(crate) fn check_units<'a>(typed: &[String], units: impl Iterator<Item = &'a str> + Clone) -> Result<(), CliError> {
    let Some(unknown) = typed.iter().find(|typed| !units.clone().any(|unit| unit == typed.as_str())) else {
        return Ok(());
    };
    let all = units.clone().collect::<Vec<_>>().join(", ");
    let near = nearest(unknown, units).map(did_you_mean);
    let hint = match near {
        Some(near) => format!("{near} the units are: {all}"),
        None if all.is_empty() => "the project has no units".to_owned(),
        None => format!("the units are: {all}"),
    };
    Err(CliError::new("not-found", format!("no unit is called `{unknown}`")).hint(hint))
}

/// The one project that is asked about, if the daemon knows it.
async fn view_of(client: &Client, question: Ps) -> Result<Option<ProjectView>, ClientError> {
    match client.request(question).await {
        Ok(reply) => Ok(reply.projects.into_iter().next()),
        Err(ClientError::Refused(refusal)) if refusal.code == "not-found" => Ok(None),
        Err(error) => Err(error),
    }
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

fn project_ref(root: &Path) -> ProjectRef {
    ProjectRef { root: root.to_owned() }
}

/// Config errors as they are shown: already rendered, with their places and hints.
pub(crate) fn config_error(found: Diagnostics) -> CliError {
    let errors = found.list.iter().filter(|one| one.severity == Severity::Error).count();
    let details = Vec::new();
    let message = found.to_string();
    CliError { details, rendered: true, ..CliError::new("config", if errors == 0 { String::new() } else { message }) }
}

fn start_directory(named: Option<&Path>) -> Result<PathBuf, CliError> {
    let here = std::env::current_dir().map_err(|error| {
        CliError::new("usage", format!("the current directory cannot be used: {error}"))
            .hint("go to a directory that exists, or use -C DIR")
    });
    let directory = match named {
        Some(named) if named.is_absolute() => named.to_owned(),
        Some(named) => here?.join(named),
        None => here?,
    };
    match std::fs::canonicalize(&directory) {
        Ok(real) if real.is_dir() => Ok(real),
        Ok(real) => Err(CliError::new("usage", format!("{} is not a directory", real.display()))
            .hint("-C takes a directory; a config file goes with -f")),
        Err(error) => Err(CliError::new("usage", format!("cannot work in {}: {error}", directory.display()))
            .hint("-C takes a directory that exists")),
    }
}

/// Flag, then `ENVCTL_SESSION`, then the session whose unit we run in, then the default one.
fn session(global: &Global, environment: &Environment) -> Result<Name, CliError> {
    if let Some(text) = global.session.as_ref().or(environment.session.as_ref()) {
        return Name::new(text).map_err(|error| {
            CliError::new("usage", format!("`{text}` names no session: {error}")).hint("`envctl --session NAME …`")
        });
    }
    Ok(enclosing_session(environment)
        .unwrap_or_else(|| Name::new(SESSION_DEFAULT).expect("invariant: the default is a name")))
}

/// The envelope is a hint, never an authority: one that does not hold is passed over.
fn enclosing_session(environment: &Environment) -> Option<Name> {
    let vars = RtVars::load(environment.rt_vars.as_deref()?).ok()?;
    vars.validate(nix::unistd::geteuid().as_raw()).ok()?;
    Some(vars.sid.0)
}

#[cfg(test)]
mod tests;
