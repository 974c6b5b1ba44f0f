//! What a project does with the shared servers that its requirements use: it keeps leases, waits for them, and hears when
//! one moves or is down.

use std::collections::BTreeMap;

use envctl_actors::requirement::Part;
use envctl_supervisors::Name;
use envctl_supervisors::engine::Event;
use envctl_supervisors::reason::StartError;
use tokio::sync::watch;

use super::{Granted, Grants, Shared};
use crate::control::view::{ProjectView, UnitState, UnitView};
use crate::journal::events::EventKind;
use crate::project::state::Project;
use crate::project::supervisor::ProjectMessage;

/// What is seen of a shared server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where it listens.
    pub ports: BTreeMap<String, u16>,
    /// Which life of it.
    pub incarnation: u32,
    /// Its state.
    pub state: UnitState,
    /// Why it is so.
    pub cause: Option<String>,
    hint: Option<String>,
}

// === impl Seen ===

impl Seen {
    fn of(view: &ProjectView, unit: &str) -> Option<Self> {
        let UnitView { ports, incarnation, state, cause, hint, .. } = view.units.iter().find(|one| one.name == unit)?;
        let ports = ports.iter().map(|port| (port.name.clone(), port.port)).collect();
        Some(Self { ports, incarnation: *incarnation, state: *state, cause: cause.clone(), hint: hint.clone() })
    }
}

/// Where a shared server listens.
pub(crate) fn ports_of(view: &ProjectView, unit: &str) -> BTreeMap<String, u16> {
    Seen::of(view, unit).map(|seen| seen.ports).unwrap_or_default()
}

/// Whether a shared server can be used now.
pub(crate) fn is_ready(view: &ProjectView, unit: &str) -> bool {
    Seen::of(view, unit).is_some_and(|seen| seen.state == UnitState::Ready)
}

// === impl Project ===

impl Project {
    /// Takes what was given for the shared servers. Gives what it had before, to be let go or taken back.
    pub(in crate::project) fn take_grants(&mut self, grants: Grants) -> Shared {
        let mut shared = Shared::new();
        for (id, Granted { held, view }) in grants {
            self.servers.insert(id.clone(), view);
            shared.insert(id, held);
        }
        std::mem::replace(&mut self.shared, shared)
    }

    /// Gives leases back: a server that nobody has a lease on any more goes down.
    pub(in crate::project) fn let_go(&self, shared: &Shared) {
        let leases: Vec<u64> = shared.values().map(|held| held.lease).collect();
        if !leases.is_empty() {
            (self.session.released)(leases);
        }
    }

    /// Gives back all that the run had.
    pub(in crate::project) fn let_all_go(&mut self) {
        let shared = std::mem::take(&mut self.shared);
        self.let_go(&shared);
        self.servers.clear();
        for (_, attending) in std::mem::take(&mut self.attending) {
            attending.abort();
        }
    }

    /// Tells what the run has on shared servers, and hears of them from now on.
    pub(in crate::project) fn attend_all(&mut self) {
        let known: Vec<(Name, String)> = self
            .shared
            .iter()
            .map(|(id, held)| (id.clone(), format!("{id} has database {} of {}", held.database, held.project)))
            .collect();
        for (id, text) in known {
            self.append(EventKind::RequirementShared.event("", text).unit(&id));
            if let Some(view) = self.servers.get(&id).cloned() {
                self.attend(id, view);
            }
        }
    }

    /// Hears of a shared server's state from now on.
    pub(in crate::project) fn attend(&mut self, id: Name, mut view: watch::Receiver<ProjectView>) {
        let Some(unit) = self.shared.get(&id).map(|held| held.unit.clone()) else { return };
        self.servers.insert(id.clone(), view.clone());
        if let Some(known) = self.units.get_mut(&id) {
            known.server_life = None;
        }
        let (myself, of) = (self.myself.clone(), id.clone());
        let task = self.tasks.spawn(async move {
            let mut last = None;
            loop {
                let seen = Seen::of(&view.borrow_and_update(), &unit);
                if seen != last
                    && let Some(seen) = &seen
                {
                    let _ = myself.cast(ProjectMessage::ServerSeen(of.clone(), seen.clone()));
                }
                last = seen;
                if view.changed().await.is_err() {
                    return;
                }
            }
        });
        if let Some(before) = self.attending.insert(id, task) {
            before.abort();
        }
    }

    /// A shared server has changed: where it listens is told anew, and its end is the end of the lives that need it.
    pub(in crate::project) async fn server_seen(&mut self, id: &Name, seen: Seen) {
        let Some(held) = self.shared.get_mut(id).filter(|_| self.units.contains_key(id)) else { return };
        let server = format!("{} of {}", held.unit, held.project);
        let is_moved = !seen.ports.is_empty() && held.ports != seen.ports;
        if is_moved {
            held.ports.clone_from(&seen.ports);
            self.derive_attributes();
            let text = format!("{id} is told where {server} listens now");
            self.append(EventKind::PortMoved.event("", text).unit(id));
        }
        self.note_server_life(id, &server, &seen).await;
        if is_moved {
            self.tell_dependents(id).await;
        }
    }

    /// A server that was ready and is not, or lives again, has ended: so has what was made of it, as if it were this unit's own.
    async fn note_server_life(&mut self, id: &Name, server: &str, seen: &Seen) {
        let is_ready = seen.state == UnitState::Ready;
        let unit = &mut self.units[id];
        let Some(life) = unit.server_life else {
            unit.server_life = is_ready.then_some(seen.incarnation);
            return;
        };
        if is_ready && life == seen.incarnation {
            return;
        }
        unit.server_life = is_ready.then_some(seen.incarnation);
        let cause = seen.cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = format!("the server that it shares, {server}, has ended{cause}");
        self.append(EventKind::RequirementServerDown.event("", format!("{id}: {text}")).unit(id));
        if let Some(incarnation) = self.engine.child(id.as_str()).and_then(|child| child.incarnation) {
            self.drive(Event::LivenessLost { id: id.clone(), incarnation, detail: text }).await;
        }
    }

    /// What a requirement's life on a shared server begins with.
    pub(in crate::project) fn part(&self, id: &Name) -> Option<Part> {
        let held = self.shared.get(id)?;
        let server = self.servers.get(id).cloned().map(|view| awaited(view, held.unit.clone(), held.project.clone()));
        Some(Part { server, template: held.template.clone(), is_stale: held.is_stale })
    }
}

fn awaited(
    mut view: watch::Receiver<ProjectView>,
    unit: String,
    project: String,
) -> envctl_actors::requirement::share::Server {
    Box::new(move || {
        Box::pin(async move {
            loop {
                let seen = Seen::of(&view.borrow_and_update(), &unit);
                match seen {
                    Some(Seen { state: UnitState::Ready, .. }) => return Ok(()),
                    Some(Seen { state: UnitState::Failed, cause, hint, .. }) => {
                        let cause = cause.unwrap_or_else(|| "it was given up".to_owned());
                        let message = format!("use the server that is shared, {unit} of {project}: {cause}");
                        return Err(StartError { message, hint, retry: false });
                    }
                    Some(_) | None => {}
                }
                // Its project is gone: whether it answers is asked all the same.
                if view.changed().await.is_err() {
                    return Ok(());
                }
            }
        })
    })
}
