//! The leases of a project's run.

use std::collections::BTreeMap;

use envctl_supervisors::Name;
use indexmap::IndexMap;

use super::attributes::Ports;
use crate::leases::{LeaseError, LeaseOwner, Leases, PortLease};
use crate::spec::{PortWish, ProjectSpec};

/// The ports a run holds. Dropping it gives them back.
#[derive(Debug, Default)]
pub struct HeldPorts {
    leases: BTreeMap<(Name, Name), PortLease>,
}

/// Whose leases they are.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The session.
    pub session: String,
    /// The project's key.
    pub project: String,
}

// === impl HeldPorts ===

impl HeldPorts {
    /// Leases what is not leased yet. `before`: the ports of the last run, tried first so that URLs stay the same.
    pub fn lease(
        &mut self,
        spec: &ProjectSpec,
        leases: &Leases,
        holder: &Holder,
        before: &Ports,
    ) -> Result<Vec<(Name, Name, u16)>, LeaseError> {
        let mut new = Vec::new();
        for (unit, name, wish) in wishes(spec) {
            if self.leases.contains_key(&(unit.clone(), name.clone())) {
                continue;
            }
            let preferred = before.get(unit).and_then(|ports| ports.get(name)).copied();
            let lease = leases.lease_port(wish, &owner(holder, unit, name), preferred)?;
            new.push((unit.clone(), name.clone(), lease.port()));
            self.leases.insert((unit.clone(), name.clone()), lease);
        }
        Ok(new)
    }

    /// Takes the ports of a run over from a daemon that died; its units listen on them already.
    pub fn readopt(&mut self, spec: &ProjectSpec, leases: &Leases, holder: &Holder, before: &Ports) {
        for (unit, name, _) in wishes(spec) {
            let Some(port) = before.get(unit).and_then(|ports| ports.get(name)) else { continue };
            match leases.readopt_port(*port, &owner(holder, unit, name)) {
                Ok(lease) => drop(self.leases.insert((unit.clone(), name.clone()), lease)),
                Err(error) => tracing::warn!(%unit, port, %error, "a port could not be taken over"),
            }
        }
    }

    /// The numbers.
    pub fn numbers(&self) -> Ports {
        let mut ports = Ports::new();
        for ((unit, name), lease) in &self.leases {
            let of_unit: &mut IndexMap<Name, u16> = ports.entry(unit.clone()).or_default();
            of_unit.insert(name.clone(), lease.port());
        }
        ports
    }

    /// Gives everything back.
    pub fn release(&mut self) {
        self.leases.clear();
    }
}

fn wishes(spec: &ProjectSpec) -> impl Iterator<Item = (&Name, &Name, PortWish)> {
    spec.units.iter().flat_map(|(unit, spec)| spec.ports.iter().map(move |(name, wish)| (unit, name, *wish)))
}

fn owner(holder: &Holder, unit: &Name, name: &Name) -> LeaseOwner {
    LeaseOwner {
        session: holder.session.clone(),
        project: holder.project.clone(),
        unit: unit.to_string(),
        name: name.to_string(),
    }
}
