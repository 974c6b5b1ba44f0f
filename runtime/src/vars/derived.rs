//! Variables for people and frameworks, derived from what the runtime knows. They are never read back.

use std::collections::BTreeMap;

use envctl_supervisors::Name;
use indexmap::IndexMap;

use crate::spec::{Attribute, Attributes};

/// `PORT`, `ENVCTL_PROJECT` and `ENVCTL_UNIT` of a unit.
///
/// `PORT` is the port named `port`, or else the first one of the unit.
pub fn derived(project: &Name, unit: &Name, ports: &IndexMap<Name, u16>) -> Vec<(String, String)> {
    let mut variables =
        vec![("ENVCTL_PROJECT".to_owned(), project.to_string()), ("ENVCTL_UNIT".to_owned(), unit.to_string())];
    if let Some(port) = ports.get("port").or_else(|| ports.values().next()) {
        variables.push(("PORT".to_owned(), port.to_string()));
    }
    variables
}

/// `<UNIT>_URL` of every unit with a URL that is not secret: the same for all units, so made once for them.
pub fn urls(attributes: &Attributes) -> Vec<(String, String)> {
    let public = |(name, of_unit): (&Name, &BTreeMap<String, Attribute>)| {
        let url = of_unit.get("url").filter(|url| !url.secret)?;
        Some((format!("{}_URL", name.to_variable()), url.value.clone()))
    };
    attributes.iter().filter_map(public).collect()
}
