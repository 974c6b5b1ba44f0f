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
    leases: BTreeMap<(Name, Name), Held>,
}

/// A lease and the wish it was made for.
#[derive(Debug)]
struct Held {
    lease: PortLease,
    wish: PortWish,
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
            let key = (unit.clone(), name.clone());
            if self.leases.get(&key).is_some_and(|held| held.wish == wish) {
                continue;
            }
            self.leases.remove(&key);
            let preferred = before.get(unit).and_then(|ports| ports.get(name)).copied();
            let lease = leases.lease_port(wish, &owner(holder, unit, name), preferred)?;
            new.push((unit.clone(), name.clone(), lease.port()));
            self.leases.insert(key, Held { lease, wish });
        }
        Ok(new)
    }

    /// Gives a port up that somebody else took, for the next one that is free.
    pub fn move_on(
        &mut self,
        spec: &ProjectSpec,
        leases: &Leases,
        holder: &Holder,
        (unit, port): (&Name, u16),
    ) -> Result<(Name, u16), LeaseError> {
        let found = self.leases.iter().find(|((of, _), held)| of == unit && held.lease.port() == port);
        let name = found.map_or_else(|| unit.clone(), |((_, name), _)| name.clone());
        let wish =
            spec.units.get(unit).and_then(|unit| unit.ports.get(&name)).copied().unwrap_or(PortWish { base: port });
        // The old lease is held until there is a new one: it is not found free again.
        let lease = leases.lease_port(wish, &owner(holder, unit, &name), None)?;
        let next = lease.port();
        self.leases.insert((unit.clone(), name.clone()), Held { lease, wish });
        Ok((name, next))
    }

    /// Takes the ports of a run over from a daemon that died; its units listen on them already.
    pub fn readopt(&mut self, spec: &ProjectSpec, leases: &Leases, holder: &Holder, before: &Ports) {
        for (unit, name, wish) in wishes(spec) {
            let Some(port) = before.get(unit).and_then(|ports| ports.get(name)) else { continue };
            match leases.readopt_port(*port, &owner(holder, unit, name)) {
                Ok(lease) => drop(self.leases.insert((unit.clone(), name.clone()), Held { lease, wish })),
                Err(error) => tracing::warn!(%unit, port, %error, "a port could not be taken over"),
            }
        }
    }

    /// The numbers.
    pub fn numbers(&self) -> Ports {
        let mut ports = Ports::new();
        for ((unit, name), Held { lease, .. }) in &self.leases {
            let of_unit: &mut IndexMap<Name, u16> = ports.entry(unit.clone()).or_default();
            of_unit.insert(name.clone(), lease.port());
        }
        ports
    }

    /// Whether these are the ports, by plain names.
    pub fn are(&self, plain: &BTreeMap<String, BTreeMap<String, u16>>) -> bool {
        let is = |((unit, name), held): (&(Name, Name), &Held)| {
            plain.get(unit.as_str()).and_then(|ports| ports.get(name.as_str())) == Some(&held.lease.port())
        };
        plain.values().map(BTreeMap::len).sum::<usize>() == self.leases.len() && self.leases.iter().all(is)
    }

    /// The numbers of one unit.
    pub fn of_unit(&self, unit: &Name) -> IndexMap<Name, u16> {
        let of_unit = self.leases.iter().filter(|((holder, _), _)| holder == unit);
        of_unit.map(|((_, name), held)| (name.clone(), held.lease.port())).collect()
    }

    /// Gives back what a unit holds.
    pub fn forget(&mut self, unit: &Name) {
        self.leases.retain(|(holder, _), _| holder != unit);
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
