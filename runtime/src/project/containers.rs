//! Requirements in containers: what a life in the engine is made of, and what is told of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use envctl_actors::requirement::container::plan::{Wish, pod};
use envctl_actors::requirement::container::{self, Contained, EngineError, Owner, Surroundings, labels};
use envctl_supervisors::Name;
use envctl_supervisors::reason::StartError;
use envctl_supervisors::spec::Incarnation;
use indexmap::IndexMap;

use super::requirements;
use super::state::Project;
use crate::journal::events::EventKind;
use crate::places::{Places, ProjectPlaces};
use crate::spec::{Driver, RequirementSpec, UnitKind, UnitSpec};

/// How long the end of a run may wait for the engine: what it cannot remove now is removed at the next start.
const CLEAR_WITHIN: Duration = Duration::from_secs(20);
/// How many characters of an id tell it from all others, as docker and podman show it.
pub(super) const ID_SHOWN: usize = 12;
/// How a cause begins that is the engine's and not the unit's.
const ENGINE: &str = "the container engine has gone";

/// What a life of this requirement in containers is made of; `None` if it is never run in one.
pub(super) fn contained(
    project: &Project,
    id: &Name,
    spec: &UnitSpec,
    requirement: &RequirementSpec,
    ports: &IndexMap<Name, u16>,
) -> Result<Option<Contained>, StartError> {
    let preset = &requirement.preset.preset;
    match requirement.driver {
        Driver::Container => build(project, id, spec, requirement, ports).map(Some),
        // Perhaps it never comes to that: what is wrong with it must not keep its native server down.
        Driver::Auto if preset.all_containers().next().is_some() => {
            Ok(build(project, id, spec, requirement, ports).ok())
        }
        Driver::Auto | Driver::Native | Driver::External | Driver::Shared => Ok(None),
    }
}

fn build(
    project: &Project,
    id: &Name,
    spec: &UnitSpec,
    requirement: &RequirementSpec,
    ports: &IndexMap<Name, u16>,
) -> Result<Contained, StartError> {
    let refused = |message: String, hint: &str| StartError { message, hint: Some(hint.to_owned()), retry: false };
    let program = project.session.program.clone().ok_or_else(|| {
        refused(
            "run it in a container: this session has no `envctl` program to look after containers".to_owned(),
            "give the session the path of one, or use `driver = \"native\"`",
        )
    })?;
    let filled = requirements::scope(project.sources(), id, spec, requirement, Some(ports));
    let (scope, _) = filled.map_err(|error| refused(error.to_string(), "`envctl config check` tells more"))?;
    let ports: BTreeMap<String, u16> = ports.iter().map(|(name, port)| (name.to_string(), *port)).collect();
    let wish = Wish {
        version: requirement.version.clone(),
        image: requirement.container.image.clone(),
        network: requirement.container.network,
        limits: spec.confines.limits,
    };
    Ok(Contained {
        pod: pod(&requirement.preset.preset, &scope, &ports, &wish)?,
        owner: project.container_owner(),
        around: project.engine_around(requirement),
        program,
        env: super::supervisor::relay_env(project, id)?,
        waits: !project.units[id].containers.is_empty(),
    })
}

/// What of a container's id is shown.
pub(super) fn short_id(id: &str) -> String {
    id.chars().take(ID_SHOWN).collect()
}

/// Whose the containers of a project are.
pub fn owner(places: &Places, project: &ProjectPlaces) -> Owner {
    Owner {
        id: labels::owner_id(places.state_dir(), nix::unistd::geteuid().as_raw()),
        session: places.session().to_string(),
        scope: project.scope().to_owned(),
        project: project.folder().to_owned(),
    }
}

/// Removes the volumes of a requirement that is down, with all data in them; gives how many there were. `get`: the environment
/// that tells where the engine is.
///
/// # Errors
/// The engine refuses, or is not there for a requirement that is run in nothing else.
pub async fn drop_volumes(
    owner: &Owner,
    unit: &Name,
    requirement: &RequirementSpec,
    get: impl Fn(&str) -> Option<OsString>,
) -> Result<usize, EngineError> {
    let has_volumes = requirement.preset.preset.all_containers().any(|(_, container)| !container.volumes.is_empty());
    let around = Surroundings::of(requirement.container.engine.clone(), get);
    match requirement.driver {
        Driver::Container | Driver::Auto if has_volumes => {}
        _ => return Ok(0),
    }
    match container::remove_volumes(&around, owner, unit.as_str()).await {
        Ok(names) => Ok(names.len()),
        // Where no engine answers, what is run natively if it can be has nothing in one.
        Err(_) if requirement.driver == Driver::Auto => Ok(0),
        Err(error) => Err(error),
    }
}

// === impl Project ===

impl Project {
    /// Whose the containers of this project are.
    pub(super) fn container_owner(&self) -> Owner {
        owner(&self.session.places, &self.places)
    }

    fn engine_around(&self, requirement: &RequirementSpec) -> Surroundings {
        let get = |name: &str| self.capture.get(OsStr::new(name)).cloned();
        Surroundings::of(requirement.container.engine.clone(), get)
    }

    /// Removes the volumes of requirements that are down.
    pub(super) fn drop_volumes(
        &self,
        units: &[String],
    ) -> impl Future<Output = Result<(), EngineError>> + Send + use<> {
        let capture = self.capture.clone();
        let wanted = self.spec.units.iter().filter(|(id, _)| units.iter().any(|unit| unit == id.as_str()));
        let requirements: Vec<(Name, RequirementSpec)> = wanted
            .filter_map(|(id, unit)| match &unit.kind {
                UnitKind::Requirement(requirement) => Some((id.clone(), requirement.clone())),
                UnitKind::Service(_) | UnitKind::Task(_) => None,
            })
            .collect();
        let owner = self.container_owner();
        async move {
            for (id, requirement) in requirements {
                let get = |name: &str| capture.get(OsStr::new(name)).cloned();
                drop_volumes(&owner, &id, &requirement, get).await?;
            }
            Ok(())
        }
    }

    /// It takes a while to prepare: shown while it lasts, and kept where it is news.
    pub(super) fn preparing(&mut self, id: &Name, incarnation: Incarnation, text: String, is_news: bool) {
        if is_news {
            let event = EventKind::UnitPreparing.event("", format!("{id}: {text}")).unit(id).incarnation(incarnation);
            self.append(event);
        }
        self.units[id].cause = Some(text);
        self.publish_soon();
    }

    /// The containers of its present life.
    pub(super) fn in_containers(&mut self, id: &Name, incarnation: Incarnation, containers: Vec<String>) {
        // The life that missed it may have ended before it saw it again.
        if self.units[id].engine_gone {
            self.engine(id, incarnation, None);
        }
        let shown: Vec<String> = containers.iter().map(|id| short_id(id)).collect();
        let unit = &mut self.units[id];
        // While they are removed there are none; the last ones stay known for as long as the life does.
        if !shown.is_empty() && unit.containers != shown {
            unit.containers = shown;
            self.publish_soon();
        }
    }

    /// The engine has gone, or is back.
    pub(super) fn engine(&mut self, id: &Name, incarnation: Incarnation, gone: Option<StartError>) {
        let unit = &mut self.units[id];
        unit.engine_gone = gone.is_some();
        let event = match gone {
            Some(error) => {
                unit.cause = Some(format!("{ENGINE}: failed to {error}"));
                unit.hint.clone_from(&error.hint);
                let message = format!("{id}: {ENGINE}; it is looked for again until it is back");
                let event = EventKind::EngineLost.event("", message).detail("error", error.message.as_str());
                match &error.hint {
                    Some(hint) => event.hint(hint.as_str()),
                    None => event,
                }
            }
            None => {
                if unit.cause.as_deref().is_some_and(|cause| cause.starts_with(ENGINE)) {
                    (unit.cause, unit.hint) = (None, None);
                }
                EventKind::EngineBack.event("", format!("{id}: the container engine is back"))
            }
        };
        self.append(event.unit(id).incarnation(incarnation));
        self.publish_soon();
    }

    /// Something of a life is left behind for now.
    pub(super) fn left_behind(&mut self, id: &Name, incarnation: Incarnation, text: &str) {
        let event = EventKind::UnitLeft.event("", format!("{id}: {text}")).unit(id).incarnation(incarnation);
        self.append(event);
    }

    /// Removes what is left in the engine of a run that is over; nothing if no unit is run there.
    pub(super) fn clear_containers(&self) -> impl Future<Output = ()> + Send + use<> {
        let of_unit = |(id, unit): (&Name, &UnitSpec)| match &unit.kind {
            UnitKind::Requirement(requirement) => {
                let was = self.units.get(id).is_some_and(|unit| !unit.containers.is_empty());
                (was || requirement.driver == Driver::Container).then(|| self.engine_around(requirement))
            }
            UnitKind::Service(_) | UnitKind::Task(_) => None,
        };
        let mut engines: Vec<Surroundings> = self.spec.units.iter().filter_map(of_unit).collect();
        engines.dedup();
        let owner = self.container_owner();
        async move {
            for around in engines {
                let cleared = tokio::time::timeout(CLEAR_WITHIN, container::remove_leftovers(&around, &owner)).await;
                match cleared {
                    Ok(Ok(0)) => {}
                    Ok(Ok(count)) => tracing::info!(count, "containers of an earlier life were removed"),
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "containers may be left in the engine until the next start")
                    }
                    Err(_) => tracing::warn!("the engine hangs: containers may be left in it until the next start"),
                }
            }
        }
    }
}

/// The program that looks after containers: this very build, also when its file has been replaced.
pub(crate) fn own_program() -> PathBuf {
    let path = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    if path.is_file() { path } else { PathBuf::from(format!("/proc/{}/exe", std::process::id())) }
}
