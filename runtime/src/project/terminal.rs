//! A unit's terminal, as the gateway uses it: found by the project, worked without it.

use envctl_actors::process::typing::Sent;
use envctl_actors::process::{Processes, Role, Tag, WindowSize};
use envctl_supervisors::Name;

use super::operate::check_names;
use super::state::Project;
use crate::control::wire::Refusal;

/// The terminal of one life of a unit.
#[derive(Debug)]
pub struct Terminal {
    processes: Processes,
    tag: Tag,
    /// The run's number in the log's records.
    pub run: u32,
}

// === impl Project ===

impl Project {
    /// The terminal of a unit's present life, or why it has none.
    pub fn terminal(&self, unit: &str) -> Result<Terminal, Refusal> {
        let id = check_names(&self.spec, &[unit.to_owned()])?.remove(0);
        if self.spec.units[&id].kind.tty().is_none() {
            return Err(self.no_terminal(&id));
        }
        let child = self.is_running().then(|| self.engine.child(id.as_str())).flatten();
        let lives = child.as_ref().filter(|child| child.state.is_alive() && self.units[&id].pid.is_some());
        let (Some(incarnation), Some(run)) = (lives.and_then(|child| child.incarnation), &self.run) else {
            return Err(not_running(&id));
        };
        let tag = Tag { project: self.places.key(), unit: id, incarnation: incarnation.0, role: Role::Main };
        Ok(Terminal { processes: self.session.processes.clone(), tag, run: run.number })
    }

    fn no_terminal(&self, id: &Name) -> Refusal {
        let kind = self.spec.units[id].kind.as_str();
        let hint = match kind {
            "requirement" => format!("a requirement has none; `envctl logs -f {id}` shows what it writes"),
            _ => format!(
                "set `tty = true` in [{kind}s.{id}], then `envctl up -d`; `envctl logs -f {id}` shows what it writes"
            ),
        };
        Refusal { code: "no-terminal".to_owned(), message: format!("{id} has no terminal"), hint: Some(hint) }
    }
}

// === impl Terminal ===

impl Terminal {
    /// The life it belongs to.
    pub fn incarnation(&self) -> u32 {
        self.tag.incarnation
    }

    /// Gives it another size.
    pub async fn resize(&self, size: WindowSize) -> Result<(), Refusal> {
        let done = self.processes.resize(self.tag.clone(), size).await.map_err(|_| crate::root::shutting_down())?;
        if done { Ok(()) } else { Err(started_without(&self.tag.unit)) }
    }

    /// Types, if it is still the terminal of this life; waits until the unit has room for it. `false`: the unit does not read.
    pub async fn type_in(&self, incarnation: u32, bytes: Vec<u8>) -> Result<bool, Refusal> {
        if incarnation != self.tag.incarnation {
            return Err(not_running(&self.tag.unit));
        }
        let sent = self.processes.type_in(self.tag.clone(), bytes).await;
        match sent.map_err(|_| crate::root::shutting_down())? {
            Sent::Taken => Ok(true),
            Sent::Refused => Ok(false),
            Sent::NoTerminal => Err(not_running(&self.tag.unit)),
        }
    }
}

fn not_running(id: &Name) -> Refusal {
    let hint = Some(format!("`envctl start {id}` starts it, `envctl why {id}` tells why it is not"));
    Refusal { code: "not-running".to_owned(), message: format!("{id} is not running"), hint }
}

/// Its configuration says so now, but it runs as it was started; or it is ending this very moment.
fn started_without(id: &Name) -> Refusal {
    let message = format!("{id} was started without a terminal");
    let hint = Some(format!("`envctl restart {id}` starts it with one"));
    Refusal { code: "no-terminal".to_owned(), message, hint }
}
