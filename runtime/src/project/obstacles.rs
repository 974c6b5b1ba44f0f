//! What stands in a requirement's way and is got round: a port that somebody took between its lease and its use, work after
//! the start that failed and can be done without.

use envctl_supervisors::Name;
use envctl_supervisors::engine::Event;
use envctl_supervisors::spec::Incarnation;

use super::state::Project;
use crate::journal::events::EventKind;
use crate::spec::{Piece, Template, UnitSpec};

/// Times a unit gets another port in a row before it has been ready once: somebody who takes every port that is leased is no
/// accident, and the last refusal says who.
pub(super) const PORT_MOVES_MAX: u32 = 3;

// === impl Project ===

impl Project {
    /// Somebody else listens on a port that was leased for a unit: it gets the next one, and whoever was told the old one is
    /// started again with the new one. The start that failed for it is tried again by the engine.
    pub(super) async fn port_taken(&mut self, id: &Name, incarnation: Incarnation, port: u16, owner: &str) {
        self.units[id].failures.bind_conflict += 1;
        let moves = &mut self.units[id].port_moves;
        *moves += 1;
        if *moves > PORT_MOVES_MAX {
            let text = format!("{id} has lost {PORT_MOVES_MAX} ports in a row; {port} is held by {owner}");
            let event = EventKind::PortRefused.event("", text).unit(id).incarnation(incarnation);
            return self.append(event.hint("`ss -ltnp` shows who listens; set another `port`").detail("holder", owner));
        }
        let (spec, leases, holder) = (self.spec.clone(), self.session.leases.clone(), self.holder());
        match self.ports.move_on(&spec, &leases, &holder, (id, port)) {
            Err(error) => {
                let event = EventKind::PortRefused.event("", format!("no other port for {id}: {error}"));
                self.append(event.unit(id).incarnation(incarnation).detail("holder", owner));
            }
            Ok((name, next)) => {
                let text = format!("{id} moves from port {port}, which is held by {owner}, to {next}");
                let event = EventKind::PortMoved.event("", text).unit(id).incarnation(incarnation);
                let event = event.detail("port_name", name.to_string()).detail("port", next);
                self.append(event.detail("wanted", port).detail("holder", owner));
                self.derive_attributes();
                self.tell_dependents(id).await;
            }
        }
    }

    /// The unit is up and less than whole.
    pub(super) fn degraded(&mut self, id: &Name, incarnation: Incarnation, lines: Vec<String>) {
        for line in &lines {
            let text = format!("{id} is usable, and less than whole: {line}");
            self.append(EventKind::RequirementDegraded.event("", text).unit(id).incarnation(incarnation));
        }
        self.units[id].failures.soft += u32::try_from(lines.len()).unwrap_or(u32::MAX);
        self.units[id].degraded = lines;
        self.publish_soon();
    }

    /// Starts anew what lives with an address that is nobody's any more.
    pub(super) async fn tell_dependents(&mut self, id: &Name) {
        let lives = |unit: &Name| self.engine.child(unit.as_str()).is_some_and(|child| child.state.is_alive());
        let told: Vec<Name> = self
            .spec
            .units
            .iter()
            .filter(|(unit, spec)| {
                *unit != id && lives(unit) && (is_told(spec, id) || self.spec.env.values().any(|v| names(&v.value, id)))
            })
            .map(|(unit, _)| unit.clone())
            .collect();
        if !told.is_empty() {
            self.drive(Event::Restart { ids: told }).await;
        }
    }
}

/// Whether a unit knows where another one listens: it needs it, or a text of its own names it.
fn is_told(spec: &UnitSpec, id: &Name) -> bool {
    spec.child.needs.iter().any(|edge| edge.on == *id) || spec.env.values().any(|value| names(&value.value, id))
}

fn names(template: &Template, id: &Name) -> bool {
    template.pieces.iter().any(|piece| matches!(piece, Piece::Attribute { unit, .. } if unit == id))
}
