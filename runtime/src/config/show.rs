//! Which values are in effect, and where each came from: what `config show` prints.

use std::path::Path;

use envctl_supervisors::spec::{Backoff, Escalate, Intensity, Restart, Shutdown, Strategy};

use super::duration::{format_duration, format_size};
use super::model::{Environment, UNNAMED_PORT};
use super::origin::Files;
use super::tree::{Entry, NAMED_TABLES, Node, Table, Value};
use crate::spec::{Ask, LogSpec, Origin, ProbePort, ProjectSpec, UnitKind, UnitSpec};
use crate::words::{escalate_text, strategy_text};

/// What is shown instead of a secret.
pub const MASK: &str = "•••";

/// Parts of variable names that say their value is secret.
const SECRET_WORDS: [&str; 8] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE", "API_KEY", "APIKEY"];

/// A value that is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveValue {
    /// Its dotted key: `services.api.port`.
    pub key: String,
    /// The value as TOML text, unmasked.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// Whether it is masked unless asked for.
    pub secret: bool,
}

// === impl EffectiveValue ===

impl EffectiveValue {
    fn new(key: String, value: String, origin: Origin) -> Self {
        let secret = is_secret(&key, &value);
        Self { key, value, origin, secret }
    }

    /// The value as it may be shown: the password of a URL, or all of a secret, is masked.
    pub fn masked(&self) -> String {
        match userinfo(&self.value) {
            _ if !self.secret => self.value.clone(),
            Some(password) if !key_is_secret(&self.key) => {
                format!("{}{MASK}{}", &self.value[..password.start], &self.value[password.end..])
            }
            _ => format!("\"{MASK}\""),
        }
    }

    /// The origin for people, with paths relative to `root`.
    pub fn origin_text(&self, root: &Path) -> String {
        match &self.origin {
            Origin::Default => "default".to_owned(),
            Origin::Caller => "caller".to_owned(),
            Origin::Derived => "derived".to_owned(),
            Origin::File(at) => format!("{}:{}", at.file.strip_prefix(root).unwrap_or(&at.file).display(), at.line),
        }
    }
}

/// Every value of the project: its own first, then unit by unit.
pub(super) fn effective(files: &Files, tree: &Table, spec: &ProjectSpec) -> Vec<EffectiveValue> {
    let mut show = Show { files, values: Vec::new() };
    show.or_default("name", tree.get("name"), || literal(spec.name.as_str()));
    show.or_default("inherit", tree.get("inherit"), || "true".to_owned());
    show.or_default("on_daemon_death", tree.get("on_daemon_death"), || literal("keep"));
    let logs = table_of(tree, "logs");
    for (key, value) in log_values(&spec.logs) {
        show.or_default(&format!("logs.{key}"), logs.and_then(|logs| logs.get(key)), || value);
    }
    let shown = ["name", "inherit", "on_daemon_death", "env", "logs", "supervision"];
    show.rest("", tree, |key| shown.contains(&key) || NAMED_TABLES.contains(&key));
    show.environment("env", &spec.env);
    for unit in spec.units.values() {
        show.unit(tree, spec, unit);
    }
    for group in &spec.groups {
        let written = table_of(tree, "groups").and_then(|groups| table_of(groups, group.id.as_str()));
        show.group(&format!("groups.{}", group.id), written, (group.strategy, group.intensity, group.escalate));
    }
    if let Some(intensity) = spec.flags.intensity {
        let written = table_of(tree, "supervision");
        show.group("supervision", written, (spec.flags.strategy, intensity, spec.flags.escalate));
    }
    show.values
}

struct Show<'a> {
    files: &'a Files,
    values: Vec<EffectiveValue>,
}

// === impl Show ===

impl Show<'_> {
    fn unit(&mut self, tree: &Table, spec: &ProjectSpec, unit: &UnitSpec) {
        let kind = match &unit.kind {
            UnitKind::Service(_) => "services",
            UnitKind::Task(_) => "tasks",
            UnitKind::Requirement(_) => "requirements",
        };
        let name = unit.child.id.as_str();
        let prefix = format!("{kind}.{name}");
        let Some(written) = table_of(tree, kind).and_then(|units| table_of(units, name)) else {
            return;
        };
        self.rest(&prefix, written, |key| key == "env");
        let shared = spec.flags.intensity.is_some() || spec.group_of(&unit.child.id).is_some();
        let own = if shared { Vec::new() } else { budget(unit.child.intensity, unit.child.escalate) };
        for (key, value) in defaults(unit).into_iter().chain(own) {
            let mut parts = key.split('.');
            let top = written.get(parts.next().unwrap_or_default());
            // A list says all of it, step by step.
            if key == "stop.grace" && top.is_some_and(|entry| matches!(entry.node.value, Value::Array(_))) {
                continue;
            }
            let inner = parts.next().and_then(|inner| top.and_then(|top| table_in(top)?.get(inner)));
            if top.is_none() || (key.contains('.') && inner.is_none()) {
                self.values.push(EffectiveValue::new(format!("{prefix}.{key}"), value, Origin::Default));
            }
        }
        self.environment(&format!("{prefix}.env"), &unit.env);
    }

    fn group(&mut self, prefix: &str, written: Option<&Table>, kind: (Strategy, Intensity, Escalate)) {
        let Some(written) = written else { return };
        self.rest(prefix, written, |_| false);
        let (strategy, intensity, escalate) = kind;
        let strategy = ("strategy", literal(strategy_text(strategy)));
        for (key, value) in [strategy].into_iter().chain(budget(intensity, escalate)) {
            if !written.contains_key(key) {
                self.values.push(EffectiveValue::new(format!("{prefix}.{key}"), value, Origin::Default));
            }
        }
    }

    fn or_default(&mut self, key: &str, written: Option<&Entry>, default: impl FnOnce() -> String) {
        match written {
            Some(entry) => self.leaves(key, &entry.node),
            None => self.values.push(EffectiveValue::new(key.to_owned(), default(), Origin::Default)),
        }
    }

    fn rest(&mut self, prefix: &str, table: &Table, skip: impl Fn(&str) -> bool) {
        for (key, entry) in table.iter().filter(|(key, _)| !skip(key)) {
            let key = if prefix.is_empty() { bare(key) } else { format!("{prefix}.{}", bare(key)) };
            self.leaves(&key, &entry.node);
        }
    }

    fn leaves(&mut self, key: &str, node: &Node) {
        match &node.value {
            Value::Table(table) => self.rest(key, table, |_| false),
            _ => {
                let origin = self.files.origin(&node.at);
                self.values.push(EffectiveValue::new(key.to_owned(), to_toml(node), origin));
            }
        }
    }

    fn environment(&mut self, prefix: &str, env: &Environment) {
        for (name, value) in env {
            let key = format!("{prefix}.{}", bare(name));
            let value_text = literal(&value.value.to_string());
            self.values.push(EffectiveValue::new(key, value_text, value.origin.clone()));
        }
    }
}

/// A budget where its file says nothing: of a unit only if it shares none.
fn budget(intensity: Intensity, escalate: Escalate) -> Vec<(&'static str, String)> {
    vec![
        ("intensity", intensity.restarts.to_string()),
        ("period", literal(&format_duration(intensity.period))),
        ("escalate", literal(escalate_text(escalate))),
    ]
}

/// The values a unit has where its file says nothing, under their keys, but for its budget.
fn defaults(unit: &UnitSpec) -> Vec<(&'static str, String)> {
    let child = &unit.child;
    let restart = match child.restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    };
    let mut values = vec![
        ("restart", literal(restart)),
        ("unstable", child.unstable_max.unwrap_or(0).to_string()),
        ("stable_after", literal(&format_duration(child.stable_after))),
        ("critical", child.critical.to_string()),
    ];
    if let Backoff::Exponential { base, max } = child.backoff {
        values.push(("backoff.base", literal(&format_duration(base))));
        values.push(("backoff.max", literal(&format_duration(max))));
    }
    if let Shutdown::Timeout(grace) = child.shutdown {
        values.push(("stop.grace", literal(&format_duration(grace))));
    }
    if let (UnitKind::Service(_), Some(probe)) = (&unit.kind, &unit.ready) {
        if let Ask::Tcp(ProbePort::Own(port)) = &probe.ask {
            let tcp = if port.as_str() == UNNAMED_PORT { "true".to_owned() } else { literal(port.as_str()) };
            values.push(("ready", format!("{{ tcp = {tcp} }}")));
        }
        values.push(("ready.within", literal(&format_duration(probe.within))));
    }
    values
}

/// Every limit of logs that is in effect, as TOML.
fn log_values(logs: &LogSpec) -> Vec<(&'static str, String)> {
    let mut values = vec![
        ("max_bytes", size(logs.max_bytes)),
        ("segment_bytes", size(logs.segment_bytes)),
        ("max_segments", logs.max_segments.to_string()),
        ("compress", logs.compress.to_string()),
    ];
    let ages = [("max_age", logs.max_age), ("segment_age", logs.segment_age)];
    values.extend(ages.into_iter().filter_map(|(key, age)| Some((key, literal(&format_duration(age?))))));
    values
}

fn table_of<'t>(tree: &'t Table, key: &str) -> Option<&'t Table> {
    tree.get(key).and_then(table_in)
}

fn table_in(entry: &Entry) -> Option<&Table> {
    match &entry.node.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// A value on one line.
fn to_toml(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => literal(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(text) | Value::Datetime(text) => text.clone(),
        Value::Boolean(value) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(to_toml).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let entries: Vec<String> =
                table.iter().map(|(key, entry)| format!("{} = {}", bare(key), to_toml(&entry.node))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

fn literal(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn size(bytes: u64) -> String {
    literal(&format_size(bytes))
}

fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { key.to_owned() } else { literal(key) }
}

fn is_secret(key: &str, value: &str) -> bool {
    key_is_secret(key) || userinfo(value).is_some()
}

/// By the last part of the key, and only in an environment: `services.token.port` is no secret.
fn key_is_secret(key: &str) -> bool {
    if key.starts_with("requirements.") && key.ends_with(".password") {
        return true;
    }
    let Some((_, name)) = key.rsplit_once("env.") else { return false };
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word)) || name.ends_with("_KEY")
}

/// The password in `scheme://user:password@host`.
fn userinfo(value: &str) -> Option<std::ops::Range<usize>> {
    let scheme = value.find("://")? + 3;
    let end = value[scheme..].find(['/', '?', '#', '"', ' ']).map_or(value.len(), |at| scheme + at);
    let at = scheme + value[scheme..end].rfind('@')?;
    let colon = scheme + value[scheme..at].find(':')?;
    Some(colon + 1..at)
}
