//! What operators ask of a project: up, down, start, stop, restart, signals.

use envctl_actors::requirement::preset;
use envctl_actors::unit::UnitMessage;
use envctl_supervisors::Name;
use envctl_supervisors::engine::{ChildState, ChildView, Desired, Event};
use envctl_supervisors::spec::{Condition, Edge};
use tokio::time::Instant;

use super::fingerprint::fingerprint;
use super::ports::Holder;
use super::state::{Hurry, Project, Run, Waiting};
use super::supervisor::{Answer, DownOrder, ProjectMessage, UpOrder};
use crate::control::wire::{Accepted, DownReply, Refusal, UnitEnvReply, UpReply, Verb};
use crate::journal::events::EventKind;
use crate::journal::new_run_id;
use crate::journal::views::Facts;
use crate::leases::lease_dir;
use crate::nearest::nearest;
use crate::spec::{Driver, ProjectSpec, RequirementSpec, UnitKind, UnitSpec};

// === impl Project ===

impl Project {
    /// Starts units; begins a run or joins the one there is.
    pub async fn up(&mut self, mut order: UpOrder) -> Result<UpReply, Refusal> {
        let before = self.take_grants(std::mem::take(&mut order.shared));
        let answer = self.up_with(order).await;
        if answer.is_ok() {
            self.let_go(&before);
        } else {
            let granted = std::mem::replace(&mut self.shared, before);
            self.let_go(&granted);
        }
        answer
    }

    async fn up_with(&mut self, order: UpOrder) -> Result<UpReply, Refusal> {
        let joined = self.is_running();
        let before = self.wanted();
        let changed = if joined { self.changed(&order.spec) } else { Vec::new() };
        let named = check_names(&order.spec, &order.units)?;
        if order.no_deps {
            self.check_needs(&order.spec, &named)?;
        }
        let old = (self.spec.clone(), self.capture.clone(), self.files.clone());
        (self.spec, self.capture, self.files) = (order.spec, order.capture, order.files);
        self.set_units();
        if joined {
            self.append(EventKind::RunJoined.event("", format!("another `up` joined the run of {}", self.spec.name)));
        } else {
            self.begin_run();
        }
        if let Err(refusal) = self.equip().await {
            // A refused `up` changes nothing: what runs goes on with what it was started with.
            (self.spec, self.capture, self.files) = old;
            self.set_units();
            if !joined {
                self.abandon();
            }
            return Err(refusal);
        }
        self.attend_all();
        if joined {
            self.converge(changed, &old.0).await;
        }
        self.drive(Event::Start { ids: named, with_needs: !order.no_deps }).await;
        self.sync_journal();
        let started = self.wanted().into_iter().filter(|id| !before.contains(id)).map(|id| id.to_string()).collect();
        let run = self.run.as_ref().map(|run| run.id.clone()).unwrap_or_default();
        Ok(UpReply { project: self.spec.name.to_string(), run, joined, started })
    }

    /// Stops units, or the whole run. The answer comes when they are down.
    pub async fn down(&mut self, order: DownOrder, reply: Answer<DownReply>) {
        let units = match check_names(&self.spec, &order.units) {
            Ok(units) => units,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        if self.run.is_none() {
            let project = self.spec.name.to_string();
            return drop(reply.send(Ok(DownReply { project, was_up: false, escaped: Vec::new(), killed: Vec::new() })));
        }
        // Stopping the last units that are wanted is stopping the run.
        let all = self.wanted().iter().all(|id| units.contains(id)) || units.is_empty();
        let ids = if all { Vec::new() } else { units };
        self.downs += 1;
        let number = self.downs;
        self.waiting.push(Waiting { number, units: ids.clone(), reply });
        if self.is_closing() {
            return;
        }
        self.drive(Event::Stop { ids: ids.clone() }).await;
        if order.kill {
            self.hurry = Some(Hurry::Asked);
            self.drive(Event::Kill { ids }).await;
        } else if let Some(timeout) = order.timeout {
            let myself = self.myself.clone();
            self.tasks.spawn(async move {
                tokio::time::sleep(timeout).await;
                let _ = myself.cast(ProjectMessage::Overdue(number));
            });
        }
    }

    /// The time given to a `down` is over.
    pub async fn overdue(&mut self, number: u64) {
        let waiting = self.waiting.iter().find(|waiting| waiting.number == number);
        if let Some(ids) = waiting.map(|waiting| waiting.units.clone()) {
            self.hurry.get_or_insert(Hurry::Timeout);
            self.drive(Event::Kill { ids }).await;
        }
    }

    /// Start, stop or restart units of the run.
    pub async fn operate(&mut self, verb: Verb, units: &[String]) -> Result<Accepted, Refusal> {
        let ids = check_names(&self.spec, units)?;
        if self.run.is_none() {
            return Err(self.not_up());
        }
        let (word, event) = match verb {
            Verb::Start => ("start", Event::Start { ids: ids.clone(), with_needs: true }),
            Verb::Stop => ("stop", Event::Stop { ids: ids.clone() }),
            Verb::Restart => ("restart", Event::Restart { ids: ids.clone() }),
        };
        let names: Vec<String> = self.names_or_all(&ids);
        let event_text = format!("somebody asked to {word} {}", names.join(", "));
        self.append(EventKind::OperatorAsked.event("", event_text).detail("verb", word).detail("units", names.clone()));
        self.drive(event).await;
        Ok(Accepted { units: names })
    }

    /// Signals units' main processes.
    pub fn signal(&mut self, signal: i32, units: &[String]) -> Result<Accepted, Refusal> {
        let ids = check_names(&self.spec, units)?;
        let names: Vec<String> = self.names_or_all(&ids);
        let text = format!("somebody asked to signal {}", names.join(", "));
        let event = EventKind::OperatorAsked.event("", text).detail("verb", "kill");
        self.append(event.detail("units", names.clone()).detail("signal", signal));
        for name in &names {
            if let Some((_, actor)) = self.units.get(name.as_str()).and_then(|unit| unit.actor.as_ref()) {
                let _ = actor.cast(UnitMessage::Signal(signal));
            }
        }
        Ok(Accepted { units: names })
    }

    /// A unit's environment as its next life would get it.
    pub fn unit_env(&self, unit: &str, reveal: bool) -> Result<UnitEnvReply, Refusal> {
        let ids = check_names(&self.spec, &[unit.to_owned()])?;
        let id = &ids[0];
        // Without the envelope: whoever takes this environment over is no part of the unit and must not be ended with it.
        Ok(UnitEnvReply { variables: self.resolve(id)?.views(reveal), dir: self.dir_of(id) })
    }

    /// Length watches of units' logs.
    pub fn logs(
        &mut self,
        units: &[String],
        reply: Answer<Vec<tokio::sync::watch::Receiver<envctl_actors::log_stream::Length>>>,
    ) {
        let ids = match check_names(&self.spec, units) {
            Ok(ids) => ids,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        let wanted = |id: &Name| ids.is_empty() || ids.contains(id);
        let logs: Vec<_> =
            self.units.iter().filter(|(id, _)| wanted(id)).filter_map(|(_, unit)| unit.log.clone()).collect();
        self.tasks.spawn(async move {
            let watches = futures::future::join_all(logs.iter().map(|log| log.length())).await;
            let _ = reply.send(Ok(watches.into_iter().flatten().collect()));
        });
    }

    /// Ports, data directories, attributes, logs: everything a run needs before its first process.
    pub(super) async fn equip(&mut self) -> Result<(), Refusal> {
        let facts = Facts::of(&self.spec, &self.places);
        // The derived files name what the configuration says now; that the journal is open already was seen at the start.
        if let Err(error) = self.session.journal.open(&self.places, facts).await {
            tracing::warn!(%error, "the derived files may tell of an older configuration");
        }
        let before = self.last_ports();
        let holder = self.holder();
        let leased = self.ports.lease(&self.spec, &self.session.leases.clone(), &holder, &before);
        if let Err(error) = &leased {
            self.append(EventKind::PortRefused.event("", format!("no run without its ports: {error}")));
        }
        let leased = leased.map_err(|error| {
            refused(error.to_string(), "`ss -ltnp` shows who listens; another base may be given as `port`")
        })?;
        for (unit, name, port) in leased {
            let event = EventKind::PortLeased.event("", format!("{unit} got port {port}")).unit(&unit);
            self.append(event.detail("port_name", name.to_string()).detail("port", port));
        }
        self.lease_data()?;
        self.derive_attributes();
        self.open_logs().await
    }

    fn lease_data(&mut self) -> Result<(), Refusal> {
        let spec = self.spec.clone();
        for (id, unit) in &spec.units {
            let UnitKind::Requirement(requirement) = &unit.kind else { continue };
            if requirement.driver == Driver::Shared {
                // Another server than before has other secrets.
                self.secrets.remove(id);
                self.know_shared(id, requirement)?;
            }
            if self.data_leases.contains_key(id) || requirement.driver == Driver::External {
                continue;
            }
            let dir = self.places.data(id);
            std::fs::create_dir_all(&dir).map_err(|error| {
                refused(format!("make {}: {error}", dir.display()), "check the permissions of the state directory")
            })?;
            let lease = lease_dir(&dir, &self.data_owner(id));
            let lease = lease
                .map_err(|error| refused(error.to_string(), "another session runs on this data: `envctl ps --all`"))?;
            self.data_leases.insert(id.clone(), lease);
            if requirement.driver != Driver::Shared {
                let known = self.know_secrets(id, requirement, &dir);
                known.map_err(|error| keep_secrets(id, &error))?;
            }
        }
        Ok(())
    }

    /// The secrets of a shared server are the server's.
    fn know_shared(&mut self, id: &Name, requirement: &RequirementSpec) -> Result<(), Refusal> {
        let Some(held) = self.shared.get(id).cloned() else { return Ok(()) };
        let named = Name::new(&held.project).ok().zip(Name::new(&held.unit).ok());
        let Some((project, unit)) = named else { return Ok(()) };
        let dir = self.server_data(&held.server, &project, &unit).map_err(|error| {
            refused(format!("find the server that {id} shares: {error}"), "check the state directory")
        })?;
        self.know_secrets(id, requirement, &dir).map_err(|error| keep_secrets(id, &error))
    }

    pub(super) fn know_secrets(
        &mut self,
        id: &Name,
        requirement: &RequirementSpec,
        dir: &std::path::Path,
    ) -> std::io::Result<()> {
        let secrets = preset::secrets(&requirement.preset.preset, dir)?;
        self.secrets.insert(id.clone(), secrets);
        Ok(())
    }

    fn begin_run(&mut self) {
        self.reset_engine();
        let second = u32::try_from(jiff::Timestamp::now().as_second()).unwrap_or(u32::MAX);
        // Two runs within one second must not be taken for one in the logs.
        let number = second.max(self.last_run_number.saturating_add(1));
        self.last_run_number = number;
        self.run = Some(Run { id: new_run_id(), number, started: Instant::now(), closing: false });
        let names: Vec<String> = self.spec.units.keys().map(ToString::to_string).collect();
        let text = format!("{} is being started", self.spec.name);
        self.append(EventKind::RunStarted.event("", text).detail("units", names).detail("log_run", number));
    }

    /// A run that could not begin leaves nothing behind.
    pub(super) fn abandon(&mut self) {
        self.ports.release();
        self.let_all_go();
        self.data_leases.clear();
        for unit in self.units.values_mut() {
            if let Some(log) = unit.log.take() {
                log.actor().stop(None);
            }
        }
        self.run = None;
        self.is_stale = true;
        self.publish();
    }

    /// Units whose present life was started with something else than this specification says.
    fn changed(&self, new: &ProjectSpec) -> Vec<Name> {
        let differs = |(id, unit): (&Name, &UnitSpec)| {
            let started_with = self.units.get(id)?.fingerprint.as_ref()?;
            (*started_with != fingerprint(new, unit)).then(|| id.clone())
        };
        new.units.iter().filter_map(differs).collect()
    }

    /// Without what it needs a unit would wait for ever: that is said instead.
    fn check_needs(&self, spec: &ProjectSpec, named: &[Name]) -> Result<(), Refusal> {
        let holds = |edge: &Edge| {
            let child = self.is_running().then(|| self.engine.child(edge.on.as_str())).flatten();
            let state = child.map(|child| child.state);
            match edge.is {
                Condition::Started => state.is_some_and(|s| matches!(s, ChildState::Running | ChildState::Ready)),
                Condition::Ready => state == Some(ChildState::Ready),
                Condition::Done => state == Some(ChildState::Done),
            }
        };
        let unmet = named.iter().filter_map(|id| spec.units.get(id)).find_map(|unit| {
            let edge = unit.child.needs.iter().find(|edge| !named.contains(&edge.on) && !holds(edge))?;
            Some((&unit.child.id, &edge.on))
        });
        match unmet {
            None => Ok(()),
            Some((id, need)) => Err(Refusal {
                code: "failed".to_owned(),
                message: format!("{id} needs {need}, which is not up: it would wait for ever"),
                hint: Some(format!("start {need} first, or leave out `--no-deps`")),
            }),
        }
    }

    /// Takes a changed configuration over: what has not changed runs on.
    async fn converge(&mut self, changed: Vec<Name>, old: &ProjectSpec) {
        let (specs, groups) = (self.spec.units.values().map(|unit| unit.child.clone()).collect(), &self.spec.groups);
        let (groups, flags) = (groups.clone(), self.spec.flags);
        if groups != old.groups || flags != old.flags {
            let text = format!("the groups and budgets of {} changed", self.spec.name);
            self.append(EventKind::ConfigChanged.event("", text));
        }
        if flags != old.flags {
            self.drive(Event::Reflag { flags }).await;
        }
        self.drive(Event::Replace { specs, groups }).await;
        let alive = |id: &Name| self.engine.child(id.as_str()).is_some_and(|child| child.state.is_alive());
        let ids: Vec<Name> = changed.into_iter().filter(alive).collect();
        if !ids.is_empty() {
            let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let text = format!("the configuration of {} changed", names.join(", "));
            self.append(EventKind::ConfigChanged.event("", text).detail("units", names));
            self.drive(Event::Restart { ids }).await;
        }
    }

    pub(super) fn wanted(&self) -> Vec<Name> {
        let up = |child: ChildView| (child.desired == Desired::Up && self.run.is_some()).then_some(child.id);
        self.engine.children().filter_map(up).collect()
    }

    fn names_or_all(&self, ids: &[Name]) -> Vec<String> {
        match ids {
            [] => self.spec.units.keys().map(ToString::to_string).collect(),
            ids => ids.iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) fn holder(&self) -> Holder {
        Holder { session: self.session.name.to_string(), project: self.places.key() }
    }

    /// The ports of the last run, from its manifest: the same URLs again where they are free.
    fn last_ports(&self) -> super::attributes::Ports {
        let wish = |unit: &Name, port: &Name| Some(self.spec.units.get(unit)?.ports.get(port)?.base);
        crate::journal::views::last_ports(&self.places.ports_manifest(), wish).unwrap_or_default()
    }

    pub(super) fn not_up(&self) -> Refusal {
        Refusal {
            code: "not-found".to_owned(),
            message: format!("{} is not up", self.spec.name),
            hint: Some("`envctl up -d` starts it".to_owned()),
        }
    }
}

/// Checks names against the specification; an unknown one is refused with the nearest.
pub(super) fn check_names(spec: &ProjectSpec, names: &[String]) -> Result<Vec<Name>, Refusal> {
    let check = |name: &String| match spec.units.get_key_value(name.as_str()) {
        Some((id, _)) => Ok(id.clone()),
        None => {
            let hint = match nearest(name, spec.units.keys().map(Name::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("its units are {}", spec.units.keys().map(Name::as_str).collect::<Vec<_>>().join(", ")),
            };
            let message = format!("{} has no unit `{name}`", spec.name);
            Err(Refusal { code: "not-found".to_owned(), message, hint: Some(hint) })
        }
    };
    names.iter().map(check).collect()
}

fn keep_secrets(id: &Name, error: &std::io::Error) -> Refusal {
    refused(format!("keep the secrets of {id}: {error}"), "check the permissions of the state directory")
}

fn refused(message: String, hint: &str) -> Refusal {
    Refusal { code: "failed".to_owned(), message: format!("failed to {message}"), hint: Some(hint.to_owned()) }
}
