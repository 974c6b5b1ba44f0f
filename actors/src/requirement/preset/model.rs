//! What stands in a preset: the types of the file, one field for each key.
//!
//! These are types of configuration: strict (an unknown key is an error), and the words here are the words of the file.
//! [`check`](super::check()) says what cannot be said by a type.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::text::Text;
use crate::process::Scope as StopScope;

/// A preset.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What it is called for people: `PostgreSQL`.
    pub title: String,
    /// The versions it is known to work with, newest first; the first is the container's unless another is wanted.
    #[serde(default)]
    pub versions: Vec<String>,
    /// The ports it wishes for, by name. The one that is meant where none is named is called `port`.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Name of the directory of its data, inside the one that belongs to the requirement; `None`: it keeps nothing.
    #[serde(default)]
    pub data: Option<String>,
    /// What may be set in `[requirements.NAME]`, with its default.
    #[serde(default)]
    pub options: BTreeMap<String, Text>,
    /// What is generated once for each requirement and kept in a file of its own, 0600.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// What it offers to `${unit.attribute}`, beside `host`, `port` and `ports.NAME`, which all have.
    #[serde(default)]
    pub attributes: BTreeMap<String, Text>,
    /// Variables that units get which need it.
    #[serde(default)]
    pub variables: BTreeMap<String, Text>,
    /// How its readiness is asked.
    pub probe: Probe,
    /// How it is asked to end.
    #[serde(default)]
    pub stop: Stop,
    /// What is done once it answers, before it may be called ready. At every start: each must be idempotent.
    #[serde(default)]
    pub after_ready: Vec<AfterReady>,
    /// How a file of SQL statements is run, for `init` of a requirement.
    #[serde(default)]
    pub sql: Option<SqlRunner>,
    /// Programs that talk to it, for `envctl requirement NAME`.
    #[serde(default)]
    pub clients: BTreeMap<String, Client>,
    /// From the binaries of this machine.
    #[serde(default)]
    pub native: Option<Native>,
    /// In one container.
    #[serde(default)]
    pub container: Option<Container>,
    /// In several containers, by name.
    #[serde(default)]
    pub containers: BTreeMap<String, Container>,
    /// Somebody else's server.
    #[serde(default)]
    pub external: Option<External>,
    /// How one server has a database for each of several requirements; `None`: it cannot be shared.
    #[serde(default)]
    pub share: Option<Share>,
}

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Random bytes; written as hexadecimal.
    #[serde(default = "secret_bytes")]
    pub bytes: u8,
    /// A signed token (RFC 7519, HS256) instead of random bytes.
    #[serde(default)]
    pub jwt: Option<Jwt>,
}

/// A token made from another secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The secret it is signed with.
    pub key: String,
    /// Its claims.
    pub claims: BTreeMap<String, Claim>,
}

/// The value of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Claim {
    /// A number, such as a time in seconds.
    Number(i64),
    /// A text.
    Text(String),
}

/// How readiness is asked: exactly one question.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// `SELECT 1` through this `postgresql://` URL.
    pub postgres: Option<Text>,
    /// `PING` through this `redis://` URL.
    pub redis: Option<Text>,
    /// The handshake of MySQL and MariaDB (protocol 10).
    pub mysql: bool,
    /// `GET` of this path answers 200 to 399.
    pub http: Option<Text>,
    /// A connection is accepted.
    pub tcp: bool,
    /// The first bytes that the server sends are these.
    pub greeting: Option<String>,
    /// `version` is answered with `VERSION`.
    pub memcached: bool,
    /// The protocol header of AMQP 0-9-1 is answered with `Connection.Start`.
    pub amqp: bool,
    /// The server says `INFO {…}` and answers `PING`.
    pub nats: bool,
    /// `CONNECT` (MQTT 3.1.1) is answered with `CONNACK`, accepted.
    pub mqtt: bool,
    /// A command ends with code 0.
    pub exec: Option<Vec<Text>>,
    /// Name of the port that is asked.
    pub port: Option<String>,
    /// Time to become ready, unless the requirement says otherwise.
    pub within: Option<Span>,
}

/// How it is asked to end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The signal.
    pub signal: SignalName,
    /// Time until it is killed, unless the requirement says otherwise.
    pub grace: Option<Span>,
    /// Who gets the signal.
    pub scope: StopReach,
}

/// A signal by its name, with or without `SIG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalName(pub i32);

/// Who gets the signal of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReach {
    /// The main process alone: a server ends its own children in order.
    #[default]
    Main,
    /// Everything that belongs to it: for servers that start daemons of their own.
    All,
}

/// A length of time: `"250ms"`, `"5s"`, `"2m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Something to be done once the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AfterReady {
    /// What it does, as in "failed to …"; no secrets.
    pub what: Text,
    /// Statements for PostgreSQL.
    #[serde(default)]
    pub postgres: Option<Statement>,
    /// A command that must end with code 0.
    #[serde(default)]
    pub run: Option<Run>,
    /// Whether the requirement is usable without it: a failure is then told, and the requirement is degraded.
    #[serde(default)]
    pub soft: bool,
}

/// A statement for PostgreSQL, and when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The `postgresql://` URL.
    pub url: Text,
    /// Not due if this query gives a row.
    #[serde(default)]
    pub unless: Option<Text>,
    /// What is executed.
    pub sql: Text,
    /// What is executed if it is not due.
    #[serde(default)]
    pub otherwise: Option<Text>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The program and its arguments; no secrets, which belong in `env`.
    pub cmd: Vec<Text>,
    /// Its environment, beside that of the server.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
}

/// How a file of SQL is run: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlRunner {
    /// Through PostgreSQL's protocol, at this URL, in one go.
    #[serde(default)]
    pub postgres: Option<Text>,
    /// By a command that reads the file as its standard input.
    #[serde(default)]
    pub run: Option<Run>,
}

/// A program that talks to the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Names of the program, the first that is there.
    pub program: Vec<String>,
    /// Its arguments before those of whoever calls it; no secrets.
    #[serde(default)]
    pub args: Vec<Text>,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
}

/// How it is run from the binaries of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Native {
    /// Names of the server's program, the first that is there.
    pub server: Vec<String>,
    /// Further programs it cannot do without, by the name they have in `${tool.NAME}`: beside the server, or on the PATH.
    #[serde(default)]
    pub tools: BTreeMap<String, Vec<String>>,
    /// Directories looked into before the PATH; `*` stands for any name.
    #[serde(default)]
    pub search_first: Vec<String>,
    /// Directories looked into after the PATH.
    #[serde(default)]
    pub search: Vec<String>,
    /// Whether the place a link leads to counts, not the link's: for servers that find their companions from there.
    #[serde(default)]
    pub real_path: bool,
    /// Words before a version in the name of the directory above the server's `bin`: there the version is known unasked.
    #[serde(default)]
    pub version_in_path: Vec<String>,
    /// Arguments that make the server print its version.
    #[serde(default = "version_args")]
    pub version_args: Vec<String>,
    /// Packages by package manager: `apt`, `dnf`, `pacman`, `apk`, `brew`.
    #[serde(default)]
    pub install: BTreeMap<String, String>,
    /// The same where a version is wanted; `${major}` is it.
    #[serde(default)]
    pub install_version: BTreeMap<String, Text>,
    /// Whether it refuses to run as root: then it gets a user namespace, or one of `accounts`.
    #[serde(default)]
    pub refuses_root: bool,
    /// Accounts to be where there are no user namespaces, best first.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Its working directory; default: the data directory, or that of the requirement.
    #[serde(default)]
    pub dir: Option<Text>,
    /// The server's arguments; no secrets.
    #[serde(default)]
    pub args: Vec<Text>,
    /// Its environment, which is otherwise next to empty.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
    /// Files written before every start, by the name they have in `${file.NAME}`; kept in the requirement's directory.
    #[serde(default)]
    pub files: BTreeMap<String, File>,
    /// What makes the data at the first start; each works in `${into}`, which is put in its place when all are done.
    #[serde(default)]
    pub first: Vec<FirstStep>,
    /// The file in the data directory that says of which version the data is.
    #[serde(default)]
    pub data_version: Option<String>,
    /// Lock files that a killed server leaves.
    #[serde(default)]
    pub locks: Vec<Lock>,
}

/// A file that is written before every start. 0600.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name in the requirement's directory.
    pub name: String,
    /// What stands in it.
    pub text: Text,
}

/// A step of making the data.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstStep {
    /// What it does, as in "failed to …".
    pub what: String,
    /// The command and its arguments; no secrets.
    pub cmd: Vec<Text>,
    /// Its environment, beside that of the server.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
    /// Whether its result is the same for every requirement of this version, and may be kept and copied for the next one.
    /// Only the first step may be so.
    #[serde(default)]
    pub cached: bool,
}

/// A lock file whose first line is the pid of its owner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The file.
    pub file: Text,
    /// Where its owner works, if that tells it from another process with its number.
    #[serde(default)]
    pub owner_dir: Option<Text>,
    /// Files that go with it.
    #[serde(default)]
    pub with: Vec<Text>,
}

/// How it is run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The image with its tag; `${version}` is the wanted version, or the first of `versions`.
    pub image: Text,
    /// Replaces the image's entry point, if not empty.
    #[serde(default)]
    pub entrypoint: Vec<Text>,
    /// Replaces the image's command, if not empty; no secrets.
    #[serde(default)]
    pub command: Vec<Text>,
    /// Environment; secrets are given through the engine's API.
    #[serde(default)]
    pub env: BTreeMap<String, Text>,
    /// Ports inside the container, by the names of the preset's ports. `${inside.NAME}` is the number it must listen on: this
    /// one, or the leased port where the container has the machine's network.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Named volumes: name and where it is mounted.
    #[serde(default)]
    pub volumes: BTreeMap<String, String>,
    /// Files put into the container before it starts: path and text.
    #[serde(default)]
    pub files: BTreeMap<String, Text>,
    /// The account inside.
    #[serde(default)]
    pub user: Option<String>,
    /// Containers of the same preset that must be ready before; their hosts are `${container.NAME}`.
    #[serde(default)]
    pub after: Vec<String>,
    /// How the readiness of this container is asked, in a preset with several.
    #[serde(default)]
    pub probe: Option<Probe>,
}

/// Where somebody else's server is found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// Schemes of its URL, the usual first.
    pub schemes: Vec<String>,
    /// Variables that may hold its URL, best first: looked for with `driver = "external"` alone.
    #[serde(default)]
    pub variables: Vec<String>,
    /// Which option is the path of the URL: `database`.
    #[serde(default)]
    pub path: Option<String>,
    /// Which option or secret is the URL's user.
    #[serde(default)]
    pub user: Option<String>,
    /// Which option or secret is the URL's password.
    #[serde(default)]
    pub password: Option<String>,
}

/// How one server has a database for each of several requirements. The option `database` says which one is meant;
/// `${template}` is the one to be copied.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// How databases are told apart.
    pub databases: Databases,
    /// Most databases, where they have numbers.
    #[serde(default)]
    pub databases_max: Option<u32>,
    /// Options of the server itself, which has a database of nobody's.
    #[serde(default)]
    pub server: BTreeMap<String, String>,
    /// Makes a database that is not there yet. At every start: each must be idempotent.
    #[serde(default)]
    pub create: Vec<AfterReady>,
    /// Ways to make a database as a copy of another one, best first: the first that works is enough.
    #[serde(default)]
    pub clone: Vec<AfterReady>,
    /// Drops a database. Must be idempotent.
    #[serde(default)]
    pub drop: Vec<AfterReady>,
}

/// How the databases of a server are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Databases {
    /// By names.
    Names,
    /// By numbers from 0.
    Numbers,
}

/// A probe's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// `SELECT 1`.
    Postgres(&'a Text),
    /// `PING`.
    Redis(&'a Text),
    /// A handshake of MySQL.
    Mysql,
    /// `GET`.
    Http(&'a Text),
    /// A connection.
    Tcp,
    /// First bytes.
    Greeting(&'a str),
    /// `version`.
    Memcached,
    /// AMQP's header.
    Amqp,
    /// `INFO` and `PING`.
    Nats,
    /// `CONNECT`.
    Mqtt,
    /// A command.
    Exec(&'a [Text]),
}

fn secret_bytes() -> u8 {
    16
}

fn version_args() -> Vec<String> {
    vec!["--version".to_owned()]
}

// === impl Preset ===

impl Preset {
    /// Reads the text of a preset file and checks it.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let preset: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        match super::check::check(&preset).into_iter().next() {
            None => Ok(preset),
            Some(mistake) => Err(format!("{}: {}; {}", mistake.key, mistake.message, mistake.hint)),
        }
    }

    /// Whether an attribute is secret: because it names a secret, directly or through other attributes.
    pub fn is_secret(&self, attribute: &str) -> bool {
        self.secrets.contains_key(attribute)
            || self.attributes.get(attribute).is_some_and(|text| text.names().any(|name| self.is_secret(name)))
    }

    /// Its attributes and whether they are secret: those every requirement has, its options and secrets, and its own.
    pub fn attribute_names(&self) -> Vec<(String, bool)> {
        let mut names = vec![("host".to_owned(), false)];
        for port in self.ports.keys() {
            names.push(if port == super::PORT { (port.clone(), false) } else { (format!("ports.{port}"), false) });
        }
        names.extend(self.options.keys().map(|name| (name.clone(), false)));
        let own = self.secrets.keys().chain(self.attributes.keys());
        names.extend(own.map(|name| (name.clone(), self.is_secret(name))));
        names
    }

    /// All its containers: the one called `main`, or the several ones.
    pub fn all_containers(&self) -> impl Iterator<Item = (&str, &Container)> {
        let one = self.container.iter().map(|container| ("main", container));
        one.chain(self.containers.iter().map(|(name, container)| (name.as_str(), container)))
    }
}

// === impl Probe ===

impl Probe {
    /// All questions that are asked; a good probe has exactly one.
    pub fn questions(&self) -> Vec<Question<'_>> {
        let flag = |is_set: bool, question| is_set.then_some(question);
        [
            self.postgres.as_ref().map(Question::Postgres),
            self.redis.as_ref().map(Question::Redis),
            flag(self.mysql, Question::Mysql),
            self.http.as_ref().map(Question::Http),
            flag(self.tcp, Question::Tcp),
            self.greeting.as_deref().map(Question::Greeting),
            flag(self.memcached, Question::Memcached),
            flag(self.amqp, Question::Amqp),
            flag(self.nats, Question::Nats),
            flag(self.mqtt, Question::Mqtt),
            self.exec.as_deref().map(Question::Exec),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Name of the port that is asked.
    pub fn port(&self) -> &str {
        self.port.as_deref().unwrap_or(super::PORT)
    }
}

// === impl Stop ===

impl Default for Stop {
    fn default() -> Self {
        Self { signal: SignalName(libc::SIGTERM), grace: None, scope: StopReach::Main }
    }
}

// === impl StopReach ===

impl From<StopReach> for StopScope {
    fn from(reach: StopReach) -> Self {
        match reach {
            StopReach::Main => Self::Main,
            StopReach::All => Self::All,
        }
    }
}

// === impl SignalName ===

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let full = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
        let signal: nix::sys::signal::Signal = full
            .parse()
            .map_err(|_| de::Error::custom(format!("`{name}` is no signal; write one such as \"TERM\"")))?;
        Ok(Self(signal as i32))
    }
}

// === impl Span ===

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let number: Option<u64> = digits.parse().ok();
        let length = match (number, unit) {
            (Some(number), "ms") => Some(Duration::from_millis(number)),
            (Some(number), "s") => Some(Duration::from_secs(number)),
            (Some(number), "m") => number.checked_mul(60).map(Duration::from_secs),
            _ => None,
        };
        length.map(Self).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no length of time; write one such as \"250ms\", \"5s\" or \"2m\""))
        })
    }
}
