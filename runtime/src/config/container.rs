//! Reads what is wanted of a requirement's container: `container`.

use envctl_actors::requirement::container::Network;

use super::diagnostic::Findings;
use super::reader::Reader;
use super::supervise::choice;
use crate::spec::ContainerWish;

/// Reads `container`.
pub(super) fn read(findings: &mut Findings, reader: &mut Reader<'_>) -> ContainerWish {
    let path = reader.path("container");
    let Some((keys, _)) = reader.table(findings, "container") else { return ContainerWish::default() };
    let mut inner = Reader::new(path, keys);
    let networks = [("bridge", Network::Bridge), ("host", Network::Host)];
    let wish = ContainerWish {
        image: text(findings, &mut inner, "image"),
        network: choice(findings, &mut inner, "network", &networks).unwrap_or_default(),
        engine: text(findings, &mut inner, "engine"),
    };
    inner.finish(findings);
    wish
}

fn text(findings: &mut Findings, reader: &mut Reader<'_>, key: &'static str) -> Option<String> {
    let text = reader.text(findings, key)?;
    if text.value.is_empty() {
        findings
            .error("bad-value", &text.at, format!("{} is empty", reader.path(key)))
            .hint(format!("write a value, or take `{key}` away"));
        return None;
    }
    Some(text.value.to_owned())
}
