//! What is to run in containers: fully resolved, so that the driver decides nothing. Holds secrets; they are not shown.

use std::collections::BTreeMap;
use std::fmt;

use crate::probe::Probe;
use crate::process::Limits;

/// All containers of one unit. They live and end together: when one ends, the life is over.
#[derive(Debug, Clone)]
pub struct Pod {
    /// In the order they are started. The first to end gives its code; the last is the one that others talk to.
    pub parts: Vec<Part>,
    /// Where they are found.
    pub network: Network,
}

/// One container.
#[derive(Clone)]
pub struct Part {
    /// Its name in the unit; `main` where there is one alone.
    pub name: String,
    /// The image with its tag.
    pub image: String,
    /// Replaces the image's entry point, if not empty.
    pub entrypoint: Vec<String>,
    /// Replaces the image's command, if not empty.
    pub command: Vec<String>,
    /// Its environment; given through the API, so that no argument list holds it.
    pub env: BTreeMap<String, String>,
    /// Ports that are published.
    pub publish: Vec<Publish>,
    /// Where data is kept.
    pub volumes: Vec<Volume>,
    /// Files put into it before it starts: absolute path and text.
    pub files: BTreeMap<String, String>,
    /// The account inside.
    pub user: Option<String>,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// What it may use.
    pub limits: Limits,
    /// Parts that must answer before it is started.
    pub after: Vec<String>,
    /// How it is asked whether it answers.
    pub probe: Option<Probe>,
}

/// A port of a container that is to be reached from this machine, on loopback alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// The leased port.
    pub port: u16,
    /// The port it listens on inside.
    pub inside: u16,
}

/// A named volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the preset.
    pub name: String,
    /// Where it is mounted.
    pub path: String,
}

/// Where a unit's containers are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// A network of the engine; ports are published on loopback.
    #[default]
    Bridge,
    /// The machine's own: nothing is published, the server listens on the leased port itself.
    Host,
}

// === impl Part ===

impl Part {
    /// A container of an image with nothing else said.
    pub fn new(name: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            env: BTreeMap::new(),
            publish: Vec::new(),
            volumes: Vec::new(),
            files: BTreeMap::new(),
            user: None,
            stop_signal: libc::SIGTERM,
            limits: Limits::default(),
            after: Vec::new(),
            probe: None,
        }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, image, publish, volumes, .. } = self;
        write!(f, "Part({name}: {image}, {publish:?}, {volumes:?}, {} variables)", self.env.len())
    }
}
