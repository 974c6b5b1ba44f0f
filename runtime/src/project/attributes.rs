//! What units offer to `${unit.attribute}`: known as soon as ports are leased, before anything starts.

use std::collections::BTreeMap;

use envctl_supervisors::Name;
use indexmap::IndexMap;

use super::requirements::{self, Sources};
use super::state::Project;
use crate::control::view::PortView;
use crate::spec::{Attribute, Attributes, UnitKind, UnitSpec};
use crate::vars::urls;

/// Everything listens on loopback.
pub const HOST: &str = "127.0.0.1";
/// The unnamed port's name.
pub const PORT_NAME: &str = "port";
/// The leased ports of a project: unit → name → port.
pub type Ports = BTreeMap<Name, IndexMap<Name, u16>>;

/// Makes the attributes of all units that have any. What a requirement is made of and is
/// not known yet has none.
fn attributes(sources: Sources<'_>, ports: &Ports) -> Attributes {
    let of_unit = |(name, unit): (&Name, &UnitSpec)| {
        let found = match &unit.kind {
            UnitKind::Service(_) | UnitKind::Task(_) => of_ports(ports.get(name)),
            UnitKind::Requirement(requirement) => {
                requirements::scope(sources, name, unit, requirement, ports.get(name))
                    .map_or_else(|_| BTreeMap::new(), |(scope, _)| requirements::attributes(requirement, &scope))
            }
        };
        (name.clone(), found)
    };
    sources.project.units.iter().map(of_unit).filter(|(_, found)| !found.is_empty()).collect()
}

// === impl Project ===

impl Project {
    /// Ports or servers are others than before.
    pub(super) fn derive_attributes(&mut self) {
        self.attributes = attributes(self.sources(), &self.ports.numbers());
        self.urls = urls(&self.attributes);
    }
}

/// A unit's ports as clients see them.
pub fn port_views(
    ports: Option<&IndexMap<Name, u16>>,
    kind: &UnitKind,
    of_unit: &BTreeMap<String, Attribute>,
) -> Vec<PortView> {
    let url = |name: &Name, port: u16| match kind {
        UnitKind::Requirement(_) => public_url(of_unit).unwrap_or_else(|| format!("{HOST}:{port}")),
        UnitKind::Service(_) | UnitKind::Task(_) => of_unit
            .get(if name.as_str() == PORT_NAME { "url" } else { "" })
            .map_or_else(|| format!("http://{HOST}:{port}"), |url| url.value.clone()),
    };
    let view = |(name, port): (&Name, &u16)| PortView { name: name.to_string(), port: *port, url: url(name, *port) };
    ports.into_iter().flatten().map(view).collect()
}

fn of_ports(ports: Option<&IndexMap<Name, u16>>) -> BTreeMap<String, Attribute> {
    let mut found = BTreeMap::from([("host".to_owned(), open(HOST))]);
    for (name, port) in ports.into_iter().flatten() {
        if name.as_str() == PORT_NAME {
            found.insert("port".to_owned(), open(port));
            found.insert("url".to_owned(), open(format!("http://{HOST}:{port}")));
        }
        found.insert(format!("ports.{name}"), open(port));
    }
    found
}

/// A requirement's URL without what is secret in it.
fn public_url(of_unit: &BTreeMap<String, Attribute>) -> Option<String> {
    let url = of_unit.get("url")?;
    Some(if url.secret { super::environment::mask("url", &url.value, true) } else { url.value.clone() })
}

fn open(value: impl ToString) -> Attribute {
    Attribute { value: value.to_string(), secret: false }
}
