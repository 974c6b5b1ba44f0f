//! What units use, filled into their views when somebody asks and never otherwise.
//!
//! The look itself is `envctl_actors::process::usage`; this says whose processes are meant and keeps the looking within
//! bounds: one look at a time, however many ask, and an answer without figures rather than none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envctl_actors::process::usage::{Asked, EnvelopeOwner, Usage, measure};
use envctl_supervisors::Name;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::control::view::{ProjectView, UnitView};
use crate::vars::{Role, RtVars};

/// A look takes a few milliseconds. A process stuck in the kernel can make reading its environment hang: then the states
/// are told without figures, before the client gives the daemon up.
const MEASURE_WITHIN: Duration = Duration::from_secs(2);

/// Looks, one at a time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meter {
    session: Name,
    /// Held by the running look itself: one that hangs is not joined by another thread that hangs.
    turn: Arc<Semaphore>,
}

// === impl Meter ===

impl Meter {
    /// For the units of this session.
    pub fn new(session: Name) -> Self {
        Self { session, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Fills in cpu time, memory and age of every unit that runs. `heart`: its pid.
    pub async fn measure(&self, mut projects: Vec<ProjectView>, heart: Option<u32>) -> Vec<ProjectView> {
        let leaders: Vec<u32> = running(&mut projects).filter_map(|unit| unit.pid).collect();
        let asked = Asked { leaders, heart, owner: owner(self.session.clone(), &projects) };
        match timeout(MEASURE_WITHIN, self.look(asked)).await {
            Ok(Some(usages)) => {
                for (unit, usage) in running(&mut projects).zip(usages) {
                    fill(unit, usage);
                }
            }
            Ok(None) => tracing::error!("what units use could not be measured"),
            Err(_) => tracing::warn!("a look at /proc hangs: what units use is not known"),
        }
        projects
    }

    async fn look(&self, asked: Asked) -> Option<Vec<Option<Usage>>> {
        let turn = self.turn.clone().acquire_owned().await.ok()?;
        let look = tokio::task::spawn_blocking(move || {
            let usages = measure(&asked);
            drop(turn);
            usages
        });
        look.await.ok()
    }
}

/// The units with a process, in the order of the views.
fn running(projects: &mut [ProjectView]) -> impl Iterator<Item = &mut UnitView> {
    projects.iter_mut().flat_map(|project| &mut project.units).filter(|unit| unit.pid.is_some())
}

fn fill(unit: &mut UnitView, usage: Option<Usage>) {
    let Some(Usage { cpu, memory_bytes, age }) = usage else { return };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    (unit.cpu_ms, unit.memory, unit.uptime_ms) = (Some(millis(cpu)), Some(memory_bytes), Some(millis(age)));
}

/// Knows which of the running units an envelope names: same session, same project directory, same unit, role `unit`.
fn owner(session: Name, projects: &[ProjectView]) -> EnvelopeOwner {
    let units = projects.iter().flat_map(|project| project.units.iter().map(|unit| (project.root.clone(), unit)));
    let running = units.filter(|(_, unit)| unit.pid.is_some());
    let places: HashMap<_, _> =
        running.enumerate().map(|(place, (root, unit))| ((root, unit.name.clone()), place)).collect();
    Box::new(move |value| {
        let vars = RtVars::load(std::str::from_utf8(value).ok()?).ok()?;
        let meant = vars.role == Role::Unit && vars.sid.0 == session;
        let (project, unit) = (vars.proj.filter(|_| meant)?, vars.unit?);
        places.get(&(project.root, unit.name.0.to_string())).copied()
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use envctl_supervisors::spec::Incarnation;
    use indexmap::IndexMap;

    use super::*;
    use crate::vars::{Patch, ProjectVars, WireName};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// As an older daemon would tell it: without what was added since.
    fn unit(unit: &str, pid: Option<u32>) -> UnitView {
        let told = serde_json::json!({
            "name": unit, "kind": "service", "state": "ready", "desired": "up", "ready": true, "pid": pid,
            "incarnation": 1, "restarts": 0, "since": "", "ports": [], "blocked_by": []
        });
        serde_json::from_value(told).unwrap()
    }

    fn project(root: &str, units: Vec<UnitView>) -> ProjectView {
        let (run, state) = (None, crate::control::view::ProjectState::Up);
        ProjectView { name: "shop".into(), root: root.into(), run, state, units, cause: None, caused_by: None }
    }

    fn envelope(session: &str, root: &str, unit: &str, role: Role) -> Vec<u8> {
        let vars = RtVars::new(name(session), "/run/ctl.sock".into());
        let proj = Some(ProjectVars { name: WireName(name("shop")), root: root.into() });
        let vars = vars.update(Patch { proj, ..Patch::default() });
        let vars = vars.for_child(&name(unit), Incarnation(1), &IndexMap::new());
        vars.update(Patch { role: Some(role), ..Patch::default() }).dump().unwrap().1.into_bytes()
    }

    #[test]
    fn an_envelope_counts_for_the_unit_it_names_and_for_no_other() {
        let up = |name: &str| unit(name, Some(7));
        let projects = [project("/a", vec![up("api"), unit("down", None), up("web")]), project("/b", vec![up("api")])];
        let owner = owner(name("default"), &projects);
        let named = |root, unit| owner(&envelope("default", root, unit, Role::Unit));
        assert_eq!((named("/a", "api"), named("/a", "web"), named("/b", "api")), (Some(0), Some(1), Some(2)));
        assert_eq!((named("/a", "down"), named("/c", "api")), (None, None));
        assert_eq!(owner(&envelope("default", "/a", "api", Role::Guest)), None);
        assert_eq!(owner(&envelope("other", "/a", "api", Role::Unit)), None);
        assert_eq!(owner(b"nonsense"), None);
    }

    /// A process that leads a session of its own: seen to run in it by the line it sends back.
    #[expect(clippy::disallowed_methods, reason = "a test needs a process that is not under supervision")]
    fn leader() -> std::process::Child {
        let mut cat = Command::new("setsid").arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cat.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        cat
    }

    #[tokio::test]
    async fn only_units_that_run_are_measured_and_each_gets_its_own_figures() {
        let mut leader = leader();
        let units = vec![unit("down", None), unit("gone", Some(u32::MAX)), unit("leader", Some(leader.id()))];
        let measured = Meter::new(name("default")).measure(vec![project("/a", units)], None).await;
        drop(leader.stdin.take());
        leader.wait().unwrap();
        let figures = |at: usize| {
            let unit = &measured[0].units[at];
            (unit.cpu_ms.is_some(), unit.memory.is_some(), unit.uptime_ms.is_some())
        };
        assert_eq!(
            (figures(0), figures(1), figures(2)),
            ((false, false, false), (false, false, false), (true, true, true))
        );
    }
}
