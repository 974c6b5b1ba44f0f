//! What units offer to `${unit.attribute}`: known as soon as ports are leased, before anything starts.

use std::collections::BTreeMap;

use envctl_supervisors::Name;
use indexmap::IndexMap;

use super::environment::database_name;
use crate::control::view::PortView;
use crate::spec::{Attribute, Attributes, Preset, ProjectSpec, RequirementSpec, UnitKind, UnitSpec};

/// Everything listens on loopback.
pub const HOST: &str = "127.0.0.1";
/// The unnamed port's name.
pub const PORT_NAME: &str = "port";
/// The user made in PostgreSQL unless another is asked for.
pub const POSTGRES_USER_DEFAULT: &str = "postgres";

/// The leased ports of a project: unit → name → port.
pub type Ports = BTreeMap<Name, IndexMap<Name, u16>>;

/// Makes the attributes of all units. `passwords`: those of requirements that have one.
pub fn attributes(project: &ProjectSpec, ports: &Ports, passwords: &BTreeMap<Name, String>) -> Attributes {
    let of_unit = |(name, unit): (&Name, &UnitSpec)| {
        let mut found = of_ports(ports.get(name));
        if let UnitKind::Requirement(requirement) = &unit.kind {
            let password = passwords.get(name).map(String::as_str);
            found.extend(of_requirement(project, requirement, ports.get(name), password));
        }
        (name.clone(), found)
    };
    project.units.iter().map(of_unit).collect()
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

/// The database and user of a PostgreSQL requirement.
pub fn postgres_names(project: &ProjectSpec, requirement: &RequirementSpec) -> (String, String) {
    let database = requirement.database.clone().unwrap_or_else(|| database_name(&project.name));
    let user = requirement.user.clone().unwrap_or_else(|| POSTGRES_USER_DEFAULT.to_owned());
    (database, user)
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

fn of_requirement(
    project: &ProjectSpec,
    requirement: &RequirementSpec,
    ports: Option<&IndexMap<Name, u16>>,
    password: Option<&str>,
) -> BTreeMap<String, Attribute> {
    let Some(port) = ports.and_then(|ports| ports.get(PORT_NAME)) else { return BTreeMap::new() };
    match requirement.preset {
        Preset::Redis => BTreeMap::from([("url".to_owned(), open(format!("redis://{HOST}:{port}/0")))]),
        Preset::Postgres => {
            let (database, user) = postgres_names(project, requirement);
            let password = password.unwrap_or_default();
            let url = format!("postgresql://{user}:{password}@{HOST}:{port}/{database}");
            BTreeMap::from([
                ("url".to_owned(), Attribute { value: url, secret: true }),
                ("password".to_owned(), Attribute { value: password.to_owned(), secret: true }),
                ("user".to_owned(), open(user)),
                ("database".to_owned(), open(database)),
            ])
        }
    }
}

/// A requirement's URL without what is secret in it.
fn public_url(of_unit: &BTreeMap<String, Attribute>) -> Option<String> {
    let url = of_unit.get("url")?;
    Some(if url.secret { super::environment::mask("url", &url.value, true) } else { url.value.clone() })
}

fn open(value: impl ToString) -> Attribute {
    Attribute { value: value.to_string(), secret: false }
}
