//! From a preset to the containers of one unit: texts filled in, parts in order. Pure.

use std::collections::BTreeMap;

use envctl_supervisors::reason::StartError;

use super::spec::{Network, Part, Pod, Publish, Volume};
use crate::process::Limits;
use crate::requirement::native;
use crate::requirement::preset::model::{Container, Preset, Probe};
use crate::requirement::preset::{HOST, NoValue, PORT, Scope, Text};

/// What is wanted of a preset's containers, beside its values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// The version; else the first that the preset knows.
    pub version: Option<String>,
    /// Another image for the preset's one container.
    pub image: Option<String>,
    /// Where they are found.
    pub network: Network,
    /// What they may use, each of them.
    pub limits: Limits,
}

/// Makes the pod of a preset. `scope`: what [`Preset::scope`] has given; `ports`: the leased ones.
///
/// # Errors
/// The preset has no container, or a text of it names something that has no value.
pub fn pod(preset: &Preset, scope: &Scope, ports: &BTreeMap<String, u16>, wish: &Wish) -> Result<Pod, StartError> {
    let ordered = in_order(preset);
    if ordered.is_empty() {
        return Err(StartError {
            message: format!("run {} in a container: its preset has none", preset.title),
            hint: Some("write `driver = \"native\"`, or add `[container]` to a preset of your own".to_owned()),
            retry: false,
        });
    }
    let scope = inner_scope(preset, scope, ports, wish);
    let parts = ordered.into_iter().map(|(name, container)| {
        let filling = Filling { preset, container, scope: &scope, ports, wish };
        filling.part(name).map_err(|NoValue(name)| StartError {
            message: format!("fill in the preset of {}: `${{{name}}}` has no value", preset.title),
            hint: None,
            retry: false,
        })
    });
    Ok(Pod { parts: parts.collect::<Result<_, _>>()?, network: wish.network })
}

/// One container of a preset, and what its texts stand for.
struct Filling<'a> {
    preset: &'a Preset,
    container: &'a Container,
    scope: &'a Scope,
    ports: &'a BTreeMap<String, u16>,
    wish: &'a Wish,
}

// === impl Filling ===

impl Filling<'_> {
    fn part(&self, name: &str) -> Result<Part, NoValue> {
        let Self { container, wish, .. } = self;
        let image = match &wish.image {
            Some(image) if self.preset.containers.is_empty() => image.clone(),
            _ => self.text(&container.image)?,
        };
        Ok(Part {
            entrypoint: self.list(&container.entrypoint)?,
            command: self.list(&container.command)?,
            env: self.table(&container.env)?,
            files: self.table(&container.files)?,
            publish: self.publish(),
            volumes: container
                .volumes
                .iter()
                .map(|(name, path)| Volume { name: name.clone(), path: path.clone() })
                .collect(),
            user: container.user.clone(),
            stop_signal: self.preset.stop.signal.0,
            limits: wish.limits,
            after: container.after.clone(),
            probe: container.probe.as_ref().map(|probe| self.probe(probe)).transpose()?.flatten(),
            ..Part::new(name, &image)
        })
    }

    fn publish(&self) -> Vec<Publish> {
        let published = self.container.ports.iter();
        published.filter_map(|(name, inside)| Some(Publish { port: *self.ports.get(name)?, inside: *inside })).collect()
    }

    /// How others of the pod wait for it; it is asked on its published port.
    fn probe(&self, probe: &Probe) -> Result<Option<crate::probe::Probe>, NoValue> {
        let Some(port) = self.ports.get(probe.port()).copied() else { return Ok(None) };
        let no_command = |_: &[Text]| Err(NoValue("tool".to_owned()));
        native::probe(probe, self.scope, (HOST, port), false, no_command).map(Some)
    }

    fn text(&self, text: &Text) -> Result<String, NoValue> {
        Ok(text.fill(self.scope)?.text)
    }

    fn list(&self, texts: &[Text]) -> Result<Vec<String>, NoValue> {
        texts.iter().map(|text| self.text(text)).collect()
    }

    fn table(&self, texts: &BTreeMap<String, Text>) -> Result<BTreeMap<String, String>, NoValue> {
        texts.iter().map(|(name, text)| Ok((name.clone(), self.text(text)?))).collect()
    }
}

/// Adds what is only known of containers: the version, the ports inside, and where the others are.
fn inner_scope(preset: &Preset, scope: &Scope, ports: &BTreeMap<String, u16>, wish: &Wish) -> Scope {
    let mut scope = scope.clone();
    let version = wish.version.clone().or_else(|| preset.versions.first().cloned());
    let version = version.unwrap_or_else(|| "latest".to_owned());
    scope.set("major", version.split('.').next().unwrap_or_default());
    scope.set("version", &version);
    // On the machine's own network it must not be open to others; elsewhere its ports are published on loopback alone.
    scope.set("inside.host", if wish.network == Network::Host { "127.0.0.1" } else { "0.0.0.0" });
    for (name, container) in preset.all_containers() {
        let host = if wish.network == Network::Host { "127.0.0.1" } else { name };
        scope.set(format!("container.{name}"), host);
        for (port, inside) in &container.ports {
            let leased = ports.get(port).filter(|_| wish.network == Network::Host);
            scope.set(format!("inside.{port}"), leased.unwrap_or(inside));
        }
    }
    scope
}

/// Each after those it waits for; where nothing else decides, the one that others talk to comes last. A ring, which a preset's
/// check refuses, is broken anywhere.
fn in_order(preset: &Preset) -> Vec<(&str, &Container)> {
    let mut left: Vec<(&str, &Container)> = preset.all_containers().collect();
    left.sort_by_key(|(_, container)| container.ports.contains_key(PORT));
    let mut ordered: Vec<(&str, &Container)> = Vec::new();
    while !left.is_empty() {
        let is_free =
            |container: &Container| container.after.iter().all(|name| ordered.iter().any(|(done, _)| done == name));
        let next = left.iter().position(|(_, container)| is_free(container)).unwrap_or_default();
        ordered.push(left.remove(next));
    }
    ordered
}
