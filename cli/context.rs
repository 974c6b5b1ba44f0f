//! What commands work with: places, configuration, the daemon (`daemon`), the project that is meant (`locate`). Nothing else of
//! the CLI knows where things are.
//!
//! Nothing here prints but notices. Reading commands get a daemon only if one runs, or if a run is recorded as up;
//! [`Context::daemon`] alone starts one.

mod build;
mod daemon;
mod locate;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use envctl_actors::requirement::container::relay;
use envctl_runtime::config::{self, Diagnostics, Loaded, Severity, Source};
use envctl_runtime::control::client::Client;
use envctl_runtime::control::view::ProjectView;
use envctl_runtime::control::wire::ProjectRef;
use envctl_runtime::nearest::nearest;
use envctl_runtime::places::{Places, PlacesInput, ProjectPlaces};
use envctl_runtime::session::serve;
use envctl_runtime::vars::RtVars;
use envctl_supervisors::Name;

use crate::args::Global;
use crate::daemon_log::log_to_stderr;
use crate::environment::Environment;
use crate::error::{CliError, chain};
use crate::output::Output;

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

    /// Where the command works.
    pub(crate) fn start(&self) -> &Path {
        &self.start
    }

    /// The paths of a target.
    pub(crate) fn target_places(&self, target: &Target) -> Result<ProjectPlaces, CliError> {
        self.project_places(&target.reference.root, &target.name)
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
