//! Presets: what postgres, redis and the like are, as data.
//!
//! ```text
//! builtin/NAME.toml   [presets.NAME] in envctl.toml   presets/NAME.toml
//!            └────────────────┬──────────────────────────────┘
//!                     model (types, strict) ─▶ check ─▶ Preset ─▶ native, container, external
//! ```
//!
//! A preset says which drivers there are, which programs or images they use, what is written, asked and done, and what
//! units that need it are told. It decides nothing and runs nothing: adding one needs no Rust. Texts in it name values by
//! `${name}` ([`text`]):
//!
//! | name | is | known |
//! |---|---|---|
//! | `host`, `port`, `ports.NAME` | `127.0.0.1` and the leased ports | always |
//! | `project`, `unit` | the names of the project and of the requirement | always |
//! | an option, a secret, an attribute | as the preset declares it | always |
//! | `dir`, `data` | the directory that belongs to the requirement, and that of its data | native |
//! | `server`, `tool.NAME`, `file.NAME` | paths of programs and of written files | native |
//! | `version`, `major` | the wanted version, else that of the data, else the first known | native, container |
//! | `bin` | the directory of the server's programs; empty in a container | `share` |
//! | `template` | the database to be copied | `share.clone` |
//! | `into` | where the data is being made | `native.first` |
//! | `inside.NAME` | the port to listen on inside the container | container |
//! | `inside.host` | the address to listen on there: `0.0.0.0`, or `127.0.0.1` where it has the machine's network | container |
//! | `container.NAME` | the host of another container of the preset | container |

pub mod check;
pub mod model;
pub mod secret;
pub mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use check::{DATABASE, Mistake, check};
pub use model::{Preset, Question};
pub use secret::secrets;
pub use text::{NoValue, Scope, Text, Value};

/// The name of the port that is meant where none is named.
pub const PORT: &str = "port";
/// Everything listens on loopback.
pub const HOST: &str = "127.0.0.1";

/// The built-in presets: name and file.
const BUILTIN: &[(&str, &str)] = &[
    ("mailpit", include_str!("builtin/mailpit.toml")),
    ("mariadb", include_str!("builtin/mariadb.toml")),
    ("memcached", include_str!("builtin/memcached.toml")),
    ("minio", include_str!("builtin/minio.toml")),
    ("mosquitto", include_str!("builtin/mosquitto.toml")),
    ("mysql", include_str!("builtin/mysql.toml")),
    ("n8n", include_str!("builtin/n8n.toml")),
    ("nats", include_str!("builtin/nats.toml")),
    ("postgres", include_str!("builtin/postgres.toml")),
    ("rabbitmq", include_str!("builtin/rabbitmq.toml")),
    ("redis", include_str!("builtin/redis.toml")),
    ("supabase", include_str!("builtin/supabase.toml")),
    ("valkey", include_str!("builtin/valkey.toml")),
];

/// The names of the built-in presets.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// A built-in preset.
pub fn builtin(name: &str) -> Option<Preset> {
    let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name)?;
    Some(Preset::parse(text).expect("invariant: the built-in presets are good, a test reads them all"))
}

/// What the texts of a preset stand for before anything starts.
#[derive(Clone, Default)]
pub struct Given<'a> {
    /// The project's name.
    pub project: &'a str,
    /// The requirement's name.
    pub unit: &'a str,
    /// Where it listens.
    pub host: &'a str,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// Options that are set.
    pub options: BTreeMap<String, String>,
    /// Its secrets.
    pub secrets: BTreeMap<String, String>,
    /// Attributes that are not made from the preset's texts: the URL of somebody else's server.
    pub attributes: BTreeMap<String, Value>,
}

impl Preset {
    /// Everything that is known before anything starts: `host`, ports, options, secrets, attributes.
    ///
    /// # Errors
    /// A name without a value: a port that was not leased, or a secret that was not made.
    pub fn scope(&self, given: &Given<'_>) -> Result<Scope, NoValue> {
        let mut scope = Scope::default();
        scope.set("project", given.project);
        scope.set("unit", given.unit);
        scope.set("host", given.host);
        for (name, port) in &given.ports {
            scope.set(format!("ports.{name}"), port);
            if name == PORT {
                scope.set(PORT, port);
            }
        }
        for (name, secret) in &given.secrets {
            scope.insert(name, Value { text: secret.clone(), secret: true });
        }
        for (name, default) in &self.options {
            let value = match given.options.get(name) {
                Some(set) => Value { text: set.clone(), secret: false },
                None => default.fill(&scope)?,
            };
            scope.insert(name, value);
        }
        for (name, value) in &given.attributes {
            scope.insert(name, value.clone());
        }
        self.add_attributes(&mut scope)?;
        Ok(scope)
    }

    /// Attributes may be made of each other: they are filled in as long as another one can be.
    fn add_attributes(&self, scope: &mut Scope) -> Result<(), NoValue> {
        let mut left: Vec<(&String, &Text)> =
            self.attributes.iter().filter(|(name, _)| scope.get(name).is_none()).collect();
        loop {
            let before = left.len();
            let mut missing = None;
            let mut later = Vec::new();
            for (name, text) in left {
                match text.fill(scope) {
                    Ok(value) => scope.insert(name, value),
                    Err(none) => {
                        missing = Some(none);
                        later.push((name, text));
                    }
                }
            }
            left = later;
            match missing {
                None => return Ok(()),
                Some(none) if left.len() == before => return Err(none),
                Some(_) => {}
            }
        }
    }
}

impl std::fmt::Debug for Given<'_> {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Given({} of {} at {}:{:?})", self.unit, self.project, self.host, self.ports)
    }
}
