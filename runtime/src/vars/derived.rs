//! Variables for people and frameworks, derived from what the runtime knows. They are never read back.

use envctl_supervisors::Name;
use indexmap::IndexMap;

use crate::spec::Attributes;

/// `PORT`, `ENVCTL_PROJECT`, `ENVCTL_UNIT`, and `<UNIT>_URL` of every unit with a URL that is not secret.
///
/// `PORT` is the port named `port`, or else the first one of the unit.
pub fn derived(
    project: &Name,
    unit: &Name,
    ports: &IndexMap<Name, u16>,
    attributes: &Attributes,
) -> Vec<(String, String)> {
    let mut variables =
        vec![("ENVCTL_PROJECT".to_owned(), project.to_string()), ("ENVCTL_UNIT".to_owned(), unit.to_string())];
    if let Some(port) = ports.get("port").or_else(|| ports.values().next()) {
        variables.push(("PORT".to_owned(), port.to_string()));
    }
    for (name, of_unit) in attributes {
        if let Some(url) = of_unit.get("url").filter(|url| !url.secret) {
            variables.push((format!("{}_URL", name.to_variable()), url.value.clone()));
        }
    }
    variables
}
