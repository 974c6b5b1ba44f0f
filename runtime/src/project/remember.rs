//! What of a project is remembered for the next daemon, and what has changed in it since it was written.
//!
//! Written with every change that others are told, before they are: written later, it would name a process that is dead while
//! its successor runs, and the next daemon would start another one. And it is written before a process of a unit that the next
//! daemon would not look for is asked for: heart may start it and die with us.

use std::io;
use std::path::PathBuf;

use envctl_supervisors::Name;
use envctl_supervisors::engine::{ChildGlance, ChildState, Desired, Effect};

use super::memory::{Memory, Of, ProcessMemory, UnitMemory};
use super::memory_file::MemoryFile;
use super::state::{Project, Run};
use super::units::Unit;

/// What is remembered of a unit beside texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    wanted: bool,
    incarnation: u32,
    restarts: u32,
    ready: bool,
    done: bool,
    failed: bool,
    process: Option<ProcessMemory>,
}

// === impl Project ===

impl Project {
    pub(super) fn memory_path(&self) -> PathBuf {
        Memory::path(self.session.places.runtime_dir(), &self.places.short())
    }

    /// Keeps what the next daemon must know, as far as it has changed.
    pub(super) fn remember(&mut self) {
        if self.run.as_ref().is_none_or(|run| run.closing) {
            return;
        }
        let changed = self.memory_file.as_ref().and_then(|file| self.changed_since(file));
        let written = match (changed, &mut self.memory_file) {
            (Some(changed), Some(_)) if changed.is_empty() => return,
            (Some(changed), Some(file)) => file.add(changed).or_else(|_| self.remember_all()),
            _ => self.remember_all(),
        };
        if let Err(error) = written {
            tracing::error!(%error, "the run cannot be remembered for the next daemon");
        }
    }

    /// Remembers units before these effects start them, if the next daemon would not look for them as it is.
    pub(super) fn announce(&mut self, effects: &[Effect]) {
        let is_news = |effect: &Effect| matches!(effect, Effect::Spawn { id, .. } if !self.is_looked_for(id));
        if effects.iter().any(is_news) {
            self.remember();
        }
    }

    /// Whether the next daemon would look for processes of this unit: it does for all that it knows of and that are not done.
    fn is_looked_for(&self, id: &Name) -> bool {
        let Some(file) = &self.memory_file else { return false };
        let units = &file.memory().units;
        let in_place = self.units.get_index_of(id).and_then(|at| units.get(at)).filter(|unit| unit.name == id.as_str());
        let known = in_place.or_else(|| units.iter().find(|unit| unit.name == id.as_str()));
        known.is_some_and(|unit| !unit.done)
    }

    /// Writes all of it down anew: what stood there may be gone.
    pub(super) fn remember_all(&mut self) -> io::Result<()> {
        self.memory_file = None;
        let Some(run) = &self.run else { return Ok(()) };
        self.memory_file = Some(MemoryFile::create(&self.memory_path(), self.memory(run))?);
        Ok(())
    }

    /// Nothing is left that a next daemon would have to know.
    pub(super) fn forget_memory(&mut self) {
        self.memory_file = None;
        let _ = std::fs::remove_file(self.memory_path());
    }

    /// Units that are not as this file says, with their places in it. `None`: it is to be written anew.
    fn changed_since(&self, file: &MemoryFile) -> Option<Vec<(usize, UnitMemory)>> {
        let memory = file.memory();
        if !file.is_open() || !self.is_run_of(memory) || memory.units.len() != self.engine.len() {
            return None;
        }
        let mut changed = Vec::new();
        for (at, (child, known)) in self.engine.glances().zip(&memory.units).enumerate() {
            if known.name != child.id.as_str() {
                return None;
            }
            let unit = self.unit_at(at, &child);
            if !is_same(known, &child, unit) {
                changed.push((at, unit_memory(&child, unit)));
            }
        }
        Some(changed)
    }

    /// Whether all but the units is as this memory says.
    fn is_run_of(&self, memory: &Memory) -> bool {
        self.run.as_ref().is_some_and(|run| run.id == memory.run)
            && memory.failure == self.failure
            && memory.end_with_daemon == self.ends_with_daemon()
            && memory.is_of_files(&self.files)
            && memory.is_of_capture(&self.capture)
            && self.ports.are(&memory.ports)
            && memory.shared.len() == self.shared.len()
            && self.shared.iter().all(|(unit, held)| memory.shared.get(unit.as_str()) == Some(held))
    }

    fn memory(&self, run: &Run) -> Memory {
        let of = Of { key: self.places.key(), root: &self.spec.root, files: &self.files };
        let mut memory = Memory::new(of, run.id.clone(), run.number, &self.capture);
        memory.set_ports(&self.ports.numbers());
        memory.shared = self.shared.iter().map(|(unit, held)| (unit.to_string(), held.clone())).collect();
        memory.failure.clone_from(&self.failure);
        memory.end_with_daemon = self.ends_with_daemon();
        let glances = self.engine.glances().enumerate();
        memory.units = glances.map(|(at, child)| unit_memory(&child, self.unit_at(at, &child))).collect();
        memory
    }

    fn ends_with_daemon(&self) -> bool {
        self.spec.end_with_daemon || self.ended_with_daemon
    }

    /// The unit of a child: as a rule both have the same place.
    fn unit_at(&self, at: usize, child: &ChildGlance<'_>) -> Option<&Unit> {
        let in_place = self.units.get_index(at).filter(|(id, _)| *id == child.id).map(|(_, unit)| unit);
        in_place.or_else(|| self.units.get(child.id))
    }
}

// === impl Facts ===

impl Facts {
    fn of(child: &ChildGlance<'_>, unit: Option<&Unit>) -> Self {
        let identity = unit.and_then(|unit| unit.identity.as_ref()).filter(|_| child.state.is_alive());
        Self {
            wanted: child.desired == Desired::Up,
            incarnation: child.incarnation.map_or(0, |incarnation| incarnation.0),
            restarts: child.restarts,
            ready: child.state == ChildState::Ready,
            done: child.state == ChildState::Done,
            failed: child.state == ChildState::Failed,
            process: identity.map(|identity| ProcessMemory { pid: identity.pid, start_time: identity.start_time }),
        }
    }
}

fn unit_memory(child: &ChildGlance<'_>, unit: Option<&Unit>) -> UnitMemory {
    let Facts { wanted, incarnation, restarts, ready, done, failed, process } = Facts::of(child, unit);
    let fingerprint = unit.and_then(|unit| unit.fingerprint.clone());
    UnitMemory { name: child.id.to_string(), wanted, incarnation, restarts, fingerprint, ready, done, failed, process }
}

fn is_same(known: &UnitMemory, child: &ChildGlance<'_>, unit: Option<&Unit>) -> bool {
    let UnitMemory { name: _, wanted, incarnation, restarts, ref fingerprint, ready, done, failed, process } = *known;
    let facts = Facts { wanted, incarnation, restarts, ready, done, failed, process };
    facts == Facts::of(child, unit) && fingerprint.as_deref() == unit.and_then(|unit| unit.fingerprint.as_deref())
}
