//! A unit's surroundings without its life: for people (`env`) and for guests (`exec`).
//!
//! A guest has the unit's environment and directory, and an envelope that says `guest`: whoever ends the unit does not find
//! it. Nothing is started here; the command that asked becomes the guest itself.

use std::path::PathBuf;

use envctl_supervisors::Name;
use envctl_supervisors::reason::StartError;
use envctl_supervisors::spec::Incarnation;
use serde_bytes::ByteBuf;

use super::environment::Environment;
use super::operate::check_names;
use super::state::Project;
use super::supervisor::{environment, project_vars, unsealed};
use crate::control::wire::{ExecReply, Refusal};
use crate::spec::UnitKind;
use crate::vars::{Patch, Role};

// === impl Project ===

impl Project {
    /// What a program beside a unit gets. The unit need not run, but its ports have to be leased: the project must be up.
    pub fn guest(&self, unit: &str) -> Result<ExecReply, Refusal> {
        let id = check_names(&self.spec, &[unit.to_owned()])?.remove(0);
        if self.run.is_none() {
            return Err(self.not_up());
        }
        let mut environment = self.resolve(&id)?;
        environment.seal(self.guest_envelope(&id).map_err(|error| unresolved(&id, &error))?);
        let bytes = |text: std::ffi::OsString| ByteBuf::from(std::os::unix::ffi::OsStringExt::into_vec(text));
        let pairs = environment.into_pairs().into_iter().map(|(name, value)| (bytes(name), bytes(value)));
        Ok(ExecReply { environment: pairs.collect(), dir: self.dir_of(&id) })
    }

    /// A unit's environment as its next life would get it, without an envelope.
    pub(super) fn resolve(&self, id: &Name) -> Result<Environment, Refusal> {
        let ports = self.ports.of_unit(id);
        environment(self, id, &self.spec.units[id], None, &ports).map_err(|error| unresolved(id, &error))
    }

    /// Where a unit works: a program's own directory, a requirement's data.
    pub(super) fn dir_of(&self, id: &Name) -> PathBuf {
        match &self.spec.units[id].kind {
            UnitKind::Service(program) | UnitKind::Task(program) => program.dir.clone(),
            UnitKind::Requirement(_) => self.places.data(id),
        }
    }

    /// Names the unit's newest life, so that whoever asks knows beside what the guest was started; 0: it never had one.
    fn guest_envelope(&self, id: &Name) -> Result<(String, String), StartError> {
        let life = self.engine.child(id.as_str()).and_then(|child| child.incarnation).unwrap_or(Incarnation(0));
        let vars = project_vars(self)?.for_child(id, life, &self.ports.of_unit(id));
        vars.update(Patch { role: Some(Role::Guest), ..Patch::default() }).dump().map_err(unsealed)
    }
}

fn unresolved(id: &Name, error: &StartError) -> Refusal {
    Refusal {
        code: "failed".to_owned(),
        message: format!("failed to resolve the environment of {id}: {error}"),
        hint: Some("ports and URLs are known while the project is up: `envctl up -d`".to_owned()),
    }
}
