//! What a requirement is given and offers: its preset's texts filled in with ports, options and secrets.
//!
//! ```text
//! leases ─▶ ports ┐
//! data_dir ─▶ secrets ├─▶ Preset::scope ─▶ attributes (`${…}`) ─▶ variables of the units that need it
//! url, .env, host ┘                    └▶ Wanted ─▶ the requirement's actor
//! ```
//!
//! Secrets are kept in memory and in the requirement's directory, and are handed to nobody but the units that need it: they
//! are attributes marked as such, and no view, event or report is made of those.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use envctl_actors::process::{Command, Limits, RunAs};
use envctl_actors::requirement::actor::Requirement;
use envctl_actors::requirement::preset::{DATABASE, Given, HOST, NoValue, PORT, Scope, Value};
use envctl_actors::requirement::{Elsewhere, Init, Wanted, base_env};
use envctl_supervisors::Name;
use envctl_supervisors::reason::StartError;
use indexmap::IndexMap;

use super::environment::path_of;
use super::share::Shared;
use super::state::Project;
use super::url::Url;
use crate::project::environment::Capture;
use crate::spec::{
    Attribute, Driver, InitSpec, ProjectSpec, RequirementSpec, Sourced, Template, UnitKind, UnitSpec, Whereabouts,
};

/// The folder of kept data in the user's cache directory.
const CACHE_FOLDER: &str = "envctl/requirements";

/// The secrets of a project's requirements: unit, then secret.
pub type Secrets = BTreeMap<Name, BTreeMap<String, String>>;

/// What a requirement's attributes are made of.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The project.
    pub project: &'a ProjectSpec,
    /// The environment of whoever ran `up`.
    pub capture: &'a Capture,
    /// All secrets.
    pub secrets: &'a Secrets,
    /// What requirements have on shared servers.
    pub shared: &'a Shared,
}

/// Why somebody else's server is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    /// No variable holds its URL.
    #[error("find its server: none of {} is set", .0.join(", "))]
    NoVariable(Vec<String>),
    /// What should be a URL is none.
    #[error("find its server: {from} holds no URL such as {scheme}://user@host:{port}")]
    NoUrl {
        /// Where it stands.
        from: String,
        /// The scheme it should have.
        scheme: String,
        /// The usual port.
        port: u16,
    },
    /// It has nothing on a shared server yet.
    #[error("find its server: the one that is shared is not up")]
    NotShared,
    /// A text of the preset names what is not there.
    #[error("fill in its preset: {0}")]
    Preset(#[from] NoValue),
}

/// A requirement's texts, filled in; for somebody else's server also where it is.
pub fn scope(
    sources: Sources<'_>,
    id: &Name,
    unit: &UnitSpec,
    requirement: &RequirementSpec,
    ports: Option<&IndexMap<Name, u16>>,
) -> Result<(Scope, Option<(String, u16)>), Unplaced> {
    let preset = &requirement.preset.preset;
    let leased = ports.into_iter().flatten().map(|(name, port)| (name.to_string(), *port));
    let mut given = Given {
        project: sources.project.name.as_str(),
        unit: id.as_str(),
        host: HOST,
        ports: leased.collect(),
        options: requirement.options.clone(),
        secrets: sources.secrets.get(id).cloned().unwrap_or_default(),
        attributes: BTreeMap::new(),
    };
    match requirement.driver {
        Driver::External => {}
        Driver::Shared => {
            let held = sources.shared.get(id).ok_or(Unplaced::NotShared)?;
            given.ports.clone_from(&held.ports);
            given.options.insert(DATABASE.to_owned(), held.database.clone());
            let port = held.ports.get(preset.probe.port()).copied().ok_or(Unplaced::NotShared)?;
            return Ok((preset.scope(&given)?, Some((HOST.to_owned(), port))));
        }
        Driver::Auto | Driver::Native | Driver::Container => return Ok((preset.scope(&given)?, None)),
    }
    let place = place(sources, unit, requirement)?;
    let at = (place.host.clone(), place.port);
    given.host = &at.0;
    place.give(requirement, &mut given);
    let scope = preset.scope(&given)?;
    Ok((scope, Some(at)))
}

/// A requirement's attributes, for `${…}`: its options and secrets too.
pub fn attributes(requirement: &RequirementSpec, scope: &Scope) -> BTreeMap<String, Attribute> {
    let names = requirement.preset.preset.attribute_names();
    let found = names.into_iter().filter_map(|(name, secret)| {
        let value = scope.get(&name)?;
        // The URL of somebody else's server may hold a password that the preset knows nothing of.
        let secret = secret || value.secret;
        Some((name, Attribute { value: value.text.clone(), secret }))
    });
    found.collect()
}

/// The ready-made variables of what a unit needs itself. A name that two requirements would give different values is left
/// out: nobody knows which one is meant.
pub fn variables(project: &Project, spec: &UnitSpec) -> Vec<(String, Value)> {
    let mut found: BTreeMap<String, Option<Value>> = BTreeMap::new();
    for edge in &spec.child.needs {
        for (name, value) in project.variables_of(&edge.on) {
            found
                .entry(name)
                .and_modify(|there| {
                    if there.as_ref() != Some(&value) {
                        *there = None;
                    }
                })
                .or_insert(Some(value));
        }
    }
    found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Where somebody else's server is: its URL in parts.
struct Place {
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
    path: Option<String>,
    /// The URL as it was given; its query may say what no part does.
    url: Option<String>,
}

fn place(sources: Sources<'_>, unit: &UnitSpec, requirement: &RequirementSpec) -> Result<Place, Unplaced> {
    let preset = &requirement.preset.preset;
    let usual = preset.ports.get(PORT).copied().unwrap_or_default();
    let (url, from) = match &requirement.whereabouts {
        Some(Whereabouts::Parts { host, port, password }) => {
            let (host, port, password) = (host.clone(), port.unwrap_or(usual), password.clone());
            return Ok(Place { host, port, user: None, password, path: None, url: None });
        }
        Some(Whereabouts::Url(url)) => (url.clone(), "`url`".to_owned()),
        Some(Whereabouts::Variable(name)) => variable(sources, unit, std::slice::from_ref(name))?,
        None => {
            let names = preset.external.as_ref().map(|external| external.variables.clone()).unwrap_or_default();
            variable(sources, unit, &names)?
        }
    };
    let schemes = preset.external.as_ref().map(|external| external.schemes.clone()).unwrap_or_default();
    let parsed = Url::parse(&url).filter(|parsed| schemes.iter().any(|scheme| parsed.is_of(scheme)));
    let Some(parsed) = parsed else {
        let scheme = schemes.first().cloned().unwrap_or_default();
        return Err(Unplaced::NoUrl { from, scheme, port: usual });
    };
    let Url { host, port, user, password, path, .. } = parsed;
    Ok(Place { host, port: port.unwrap_or(usual), user, password, path, url: Some(url) })
}

/// The first of `names` that is set: in the unit's own environment (its `.env` files), the project's, then the caller's.
fn variable(sources: Sources<'_>, unit: &UnitSpec, names: &[String]) -> Result<(String, String), Unplaced> {
    let declared = |env: &IndexMap<String, Sourced<Template>>, name: &str| {
        env.get(name).and_then(|value| value.value.fill(&crate::spec::Attributes::new()).ok())
    };
    let found = names.iter().find_map(|name| {
        let value = declared(&unit.env, name)
            .or_else(|| declared(&sources.project.env, name))
            .or_else(|| sources.capture.get(OsStr::new(name)).map(|value| value.to_string_lossy().into_owned()));
        value.filter(|value| !value.is_empty()).map(|value| (value, name.clone()))
    });
    found.ok_or_else(|| Unplaced::NoVariable(names.to_vec()))
}

// === impl Place ===

impl Place {
    /// Puts the parts where the preset's texts look for them.
    fn give(&self, requirement: &RequirementSpec, given: &mut Given<'_>) {
        let preset = &requirement.preset.preset;
        let Some(external) = &preset.external else { return };
        given.ports.insert(PORT.to_owned(), self.port);
        // Ports that only a server of ours would have.
        for name in preset.ports.keys().filter(|name| *name != PORT) {
            given.ports.insert(name.clone(), self.port);
        }
        for (part, name) in
            [(&self.user, &external.user), (&self.path, &external.path), (&self.password, &external.password)]
        {
            let Some(name) = name else { continue };
            if preset.secrets.contains_key(name) {
                given.secrets.insert(name.clone(), part.clone().unwrap_or_default());
            } else if let Some(part) = part {
                given.options.entry(name.clone()).or_insert_with(|| part.clone());
            }
        }
        for name in preset.secrets.keys() {
            given.secrets.entry(name.clone()).or_default();
        }
        if let Some(url) = &self.url {
            let secret = self.password.is_some();
            // A probe and every client go where the URL says; nobody is its superuser but by its own word.
            for name in ["url", "admin_url"].into_iter().filter(|name| preset.attributes.contains_key(*name)) {
                given.attributes.insert(name.to_owned(), Value { text: url.clone(), secret });
            }
        } else if preset.attributes.contains_key("admin_url")
            && let Some(url) = preset.attributes.get("url")
        {
            // In parts: whoever is configured asks, as there is no superuser of ours.
            let scope = preset.scope(given).ok();
            if let Some(value) = scope.and_then(|scope| url.fill(&scope).ok()) {
                given.attributes.insert("admin_url".to_owned(), value);
            }
        }
    }
}

// === impl Project ===

impl Project {
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { project: &self.spec, capture: &self.capture, secrets: &self.secrets, shared: &self.shared }
    }

    /// The ready-made variables of a requirement; none of what is no requirement, or is not known yet.
    fn variables_of(&self, id: &Name) -> Vec<(String, Value)> {
        let Some(unit) = self.spec.units.get(id) else { return Vec::new() };
        let UnitKind::Requirement(requirement) = &unit.kind else { return Vec::new() };
        let ports = self.ports.of_unit(id);
        let Ok((scope, _)) = scope(self.sources(), id, unit, requirement, Some(&ports)) else { return Vec::new() };
        let variables = &requirement.preset.preset.variables;
        variables.iter().filter_map(|(name, text)| Some((name.clone(), text.fill(&scope).ok()?))).collect()
    }

    /// What a requirement's actor is told. `envelope`: the variable that every child carries.
    pub(super) fn requirement(
        &self,
        id: &Name,
        unit: &UnitSpec,
        requirement: &RequirementSpec,
        envelope: (String, String),
    ) -> Result<Requirement, StartError> {
        let ports = self.ports.of_unit(id);
        let (scope, at) = scope(self.sources(), id, unit, requirement, Some(&ports)).map_err(unplaced)?;
        let data_dir = self.places.data(id);
        let path = path_of(&self.capture);
        let timezone = self.capture.get(OsStr::new("TZ"));
        let mut env = base_env(&path, &data_dir, timezone.map(|value| value.as_os_str()));
        env.insert(envelope.0.into(), envelope.1.into());
        let elsewhere = at.map(|(host, port)| Elsewhere { host, port });
        let wanted = Wanted {
            init: self.init_of(unit, requirement, &scope),
            preset: requirement.preset.preset.clone(),
            name: requirement.preset.name.clone(),
            version: requirement.version.clone(),
            scope,
            ports: ports.into_iter().map(|(name, port)| (name.to_string(), port)).collect(),
            data_dir,
            cache: cache_dir(&self.capture),
            env,
            run_as: RunAs::Caller,
        };
        let (limits, part) = (Limits::default(), self.part(id));
        Ok(Requirement { wanted, path, limits, elsewhere, part, contained: None, is_contained: false })
    }

    /// The project's own steps: scripts run in its directory, with what units get that need the requirement.
    fn init_of(&self, unit: &UnitSpec, requirement: &RequirementSpec, scope: &Scope) -> Vec<Init> {
        let variables = &requirement.preset.preset.variables;
        let filled =
            variables.iter().filter_map(|(name, text)| Some((name.into(), text.fill(scope).ok()?.text.into())));
        let mut env: BTreeMap<_, _> = self.capture.clone();
        env.extend(filled);
        let declared = self.spec.env.iter().chain(&unit.env);
        env.extend(
            declared.filter_map(|(name, value)| Some((name.into(), value.value.fill(&self.attributes).ok()?.into()))),
        );
        let step = |init: &InitSpec| match init {
            InitSpec::Sql(file) => Init::Sql(file.clone()),
            InitSpec::Shell { line, inputs } => Init::Run {
                label: line.clone(),
                command: Box::new(Command {
                    program: "/bin/sh".into(),
                    args: vec!["-c".into(), line.into()],
                    env: env.clone(),
                    dir: self.spec.root.clone(),
                    run_as: RunAs::Caller,
                    limits: envctl_actors::process::Limits::default(),
                    stdin: None,
                }),
                inputs: inputs.clone(),
            },
        };
        requirement.init.iter().map(step).collect()
    }
}

/// The caller's cache directory (XDG Base Directory Specification); kept data is nobody's loss.
fn cache_dir(capture: &Capture) -> Option<PathBuf> {
    cache_dir_of(|name| capture.get(OsStr::new(name)).cloned())
}

/// Where data is kept that is the same for every requirement of its kind; `get`: somebody's environment.
pub fn cache_dir_of(get: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join(CACHE_FOLDER))
}

fn unplaced(error: Unplaced) -> StartError {
    let hint = match &error {
        Unplaced::NoVariable(_) => {
            Some("set one of them in `.env` or the environment of `up`, or write `url` or `host`".to_owned())
        }
        Unplaced::NotShared => Some("`envctl up -d` brings it up".to_owned()),
        Unplaced::NoUrl { .. } | Unplaced::Preset(_) => None,
    };
    StartError { message: error.to_string(), hint, retry: false }
}
