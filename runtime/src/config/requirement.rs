//! Reads what only requirements have: their preset, driver, options and `init`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use envctl_actors::requirement::preset::{DATABASE, PORT, Preset};
use envctl_supervisors::Name;
use envctl_supervisors::spec::{ChildSpec, Shutdown};

use super::container;
use super::diagnostic::Findings;
use super::nearest::nearest;
use super::origin::{At, Place};
use super::presets::Catalog;
use super::reader::{Reader, Wanted, text, wrong_type};
use super::share;
use super::supervise::choice;
use super::tree::{Node, Value};
use crate::spec::{Driver, InitSpec, PresetSpec, RequirementSpec, StopStep, Whereabouts};

/// Steps in one `init`.
const INIT_MAX: usize = 100;
/// Somebody else's server may come whenever it likes: there is nothing to be started again meanwhile.
const EXTERNAL_WITHIN: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Options that may stand beside `options`, because so many presets have them.
const SHORT_OPTIONS: [&str; 2] = ["database", "user"];

const INIT: Wanted = Wanted {
    what: "an array of steps",
    example: "[\"db/schema.sql\", { sh = \"python seed.py\", inputs = [\"seed.py\"] }]",
};

/// Reads the keys of one requirement.
pub(super) struct RequirementReader<'a> {
    /// Where mistakes go.
    pub(super) findings: &'a mut Findings,
    /// The presets there are.
    pub(super) presets: &'a Catalog,
    /// The requirement's name.
    pub(super) name: &'a Name,
    /// Where that stands.
    pub(super) at: &'a Place,
}

// === impl RequirementReader ===

impl RequirementReader<'_> {
    /// Reads them; `None` if there is no such preset.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Option<RequirementSpec> {
        let version = self.owned(reader, "version");
        let drivers = [
            ("auto", Driver::Auto),
            ("native", Driver::Native),
            ("container", Driver::Container),
            ("external", Driver::External),
        ];
        let driver = choice(self.findings, reader, "driver", &drivers).unwrap_or_default();
        let whereabouts = self.whereabouts(reader);
        let written = self.options(reader);
        let init = self.init(reader);
        let container = container::read(self.findings, reader);
        let among = share::among(self.findings, reader);
        let template = self.owned(reader, "template");
        let preset = self.preset(reader)?;
        let options = self.checked_options(&preset, written, reader);
        let driver = match (driver, &whereabouts) {
            (Driver::Auto, Some(_)) => Driver::External,
            (driver, _) => driver,
        };
        if let Err(mistake) = share::check_database(&preset.preset, options.get(DATABASE)) {
            self.wrong(reader, mistake.key, &mistake.message, &mistake.hint);
        }
        let wish = share::Wish {
            among,
            template,
            driver,
            preset: &preset.preset,
            has_database: options.contains_key(DATABASE),
        };
        let share = match share::read(reader, wish) {
            Ok(share) => share.map(Box::new),
            Err(mistake) => {
                self.wrong(reader, mistake.key, &mistake.message, &mistake.hint);
                None
            }
        };
        self.check_driver(reader, &preset, driver, whereabouts.is_some());
        if !init.is_empty() && driver == Driver::External {
            self.wrong(reader, "init", "envctl changes nothing in somebody else's server", "take `init` away");
        }
        let driver = if share.is_some() { Driver::Shared } else { driver };
        Some(RequirementSpec { preset, version, options, driver, container, whereabouts, init, share })
    }

    fn preset(&mut self, reader: &mut Reader<'_>) -> Option<PresetSpec> {
        let named = reader.text(self.findings, "preset");
        let wanted = named.unwrap_or(At { value: self.name.as_str(), at: self.at.clone() });
        match self.presets.get(wanted.value) {
            Ok(Some(preset)) => return Some(preset),
            Err(()) => return None,
            Ok(None) => {}
        }
        let known = self.presets.names();
        let hint = match nearest(wanted.value, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("presets: {}; name one with `preset = \"…\"`", known.join(", ")),
        };
        let message = format!("there is no preset \"{}\"", wanted.value);
        self.findings.error("unknown-preset", &wanted.at, message).hint(hint);
        None
    }

    fn check_driver(&mut self, reader: &Reader<'_>, preset: &PresetSpec, driver: Driver, is_placed: bool) {
        let of = |driver: &str| format!("preset \"{}\" has no {driver} driver", preset.name);
        let has_container = preset.preset.all_containers().next().is_some();
        match driver {
            Driver::Native if preset.preset.native.is_none() => {
                self.wrong(reader, "driver", &of("native"), "set `driver = \"container\"` or `\"external\"`");
            }
            Driver::Container if !has_container => {
                self.wrong(reader, "driver", &of("container"), "set `driver = \"native\"` or `\"external\"`");
            }
            Driver::External if preset.preset.external.is_none() => {
                self.wrong(reader, "driver", &of("external"), "take `driver`, `url` and `host` away");
            }
            Driver::Native | Driver::Container if is_placed => {
                let message = "`url`, `url_from` and `host` say where somebody else's server is";
                self.wrong(reader, "driver", message, "set `driver = \"external\"`, or take them away");
            }
            _ => {}
        }
    }

    /// Where somebody else's server is, as far as it is written.
    fn whereabouts(&mut self, reader: &mut Reader<'_>) -> Option<Whereabouts> {
        let url = self.owned(reader, "url");
        let from = self.owned(reader, "url_from");
        let host = self.owned(reader, "host");
        let password = self.owned(reader, "password");
        match (url, from, host) {
            (None, None, None) => {
                if password.is_some() {
                    let message = "a password of ours is generated and kept";
                    self.wrong(
                        reader,
                        "password",
                        message,
                        "take it away; `host` or `url` name somebody else's server",
                    );
                }
                None
            }
            (Some(url), None, None) => Some(Whereabouts::Url(url)),
            (None, Some(variable), None) => Some(Whereabouts::Variable(variable)),
            (None, None, Some(host)) => {
                let port = reader.node("port").and_then(|node| match node.value {
                    Value::Integer(port) => u16::try_from(port).ok(),
                    _ => None,
                });
                Some(Whereabouts::Parts { host, port, password })
            }
            _ => {
                self.wrong(
                    reader,
                    "url",
                    "the server's place is written twice",
                    "keep one of `url`, `url_from` and `host`",
                );
                None
            }
        }
    }

    fn options(&mut self, reader: &mut Reader<'_>) -> Vec<(String, At<String>)> {
        let mut written = Vec::new();
        for key in SHORT_OPTIONS {
            let value = self.owned(reader, key);
            if let (Some(value), Some(at)) = (value, reader.key_at(key)) {
                written.push((key.to_owned(), At { value, at: at.clone() }));
            }
        }
        let path = reader.path("options");
        if let Some((entries, _)) = reader.table(self.findings, "options") {
            for (key, entry) in entries {
                if let Some(value) = text(self.findings, &entry.node, &format!("`{key}` in {path}")) {
                    written.push((key.clone(), At { value: value.value.to_owned(), at: entry.key_at.clone() }));
                }
            }
        }
        written
    }

    fn checked_options(
        &mut self,
        preset: &PresetSpec,
        written: Vec<(String, At<String>)>,
        reader: &Reader<'_>,
    ) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        for (name, At { value, at }) in written {
            if preset.preset.options.contains_key(&name) {
                options.insert(name, value);
                continue;
            }
            let known: Vec<&str> = preset.preset.options.keys().map(String::as_str).collect();
            let hint = match nearest(&name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => format!("preset \"{}\" has no options; take it away", preset.name),
                None => format!("preset \"{}\" has {}", preset.name, known.join(", ")),
            };
            let message = format!("{} has no option `{name}`", reader.what());
            self.findings.error("unknown-option", &at, message).hint(hint);
        }
        options
    }

    fn init(&mut self, reader: &mut Reader<'_>) -> Vec<InitSpec> {
        let path = reader.path("init");
        let Some(node) = reader.node("init") else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            return wrong_type(self.findings, node, &path, &INIT).unwrap_or_default();
        };
        if items.len() > INIT_MAX {
            let message = format!("{path} has {} steps, at most {INIT_MAX} are supported", items.len());
            self.findings.error("too-many", &node.at, message).hint("write a script, and run that in one step");
        }
        items.iter().take(INIT_MAX).filter_map(|item| self.init_step(item, &path)).collect()
    }

    fn init_step(&mut self, node: &Node, path: &str) -> Option<InitSpec> {
        let root = self.findings.root().to_path_buf();
        match &node.value {
            // A task may make it: whether it is there is seen when it is run.
            Value::Text(file) => Some(InitSpec::Sql(root.join(file))),
            Value::Table(keys) => {
                let mut inner = Reader::new(path, keys);
                let line = inner.text(self.findings, "sh").map(|line| line.value.to_owned());
                let inputs = inner.texts(self.findings, "inputs").unwrap_or_default();
                inner.finish(self.findings);
                if line.is_none() {
                    let message = format!("a step of {path} does not say what is run");
                    self.findings.error("bad-init", &node.at, message).hint(format!("write {}", INIT.example));
                }
                let inputs = inputs.into_iter().map(|input| root.join(input.value)).collect();
                Some(InitSpec::Shell { line: line?, inputs })
            }
            _ => wrong_type(self.findings, node, path, &INIT),
        }
    }

    fn owned(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<String> {
        let text = reader.text(self.findings, key)?;
        if text.value.is_empty() {
            self.findings
                .error("bad-value", &text.at, format!("{} is empty", reader.path(key)))
                .hint(format!("write a value, or take `{key}` away for the preset's own"));
            return None;
        }
        Some(text.value.to_owned())
    }

    fn wrong(&mut self, reader: &Reader<'_>, key: &str, message: &str, hint: &str) {
        let at = reader.key_at(key).unwrap_or(self.at).clone();
        self.findings.error("bad-requirement", &at, format!("{}: {message}", reader.path(key))).hint(hint);
    }
}

/// The ports a requirement wishes for beside the one called `port`, which may be written.
pub(super) fn further_ports(preset: &Preset) -> impl Iterator<Item = (Name, u16)> {
    let further = preset.ports.iter().filter(|(name, _)| *name != PORT);
    further.filter_map(|(name, base)| Some((Name::new(name).ok()?, *base)))
}

/// Its preset knows how long it may take to end, unless the requirement says so.
pub(super) fn usual_grace(reader: &Reader<'_>, preset: &Preset, child: &mut ChildSpec, stop: &mut [StopStep]) {
    let (Some(grace), None) = (preset.stop.grace, reader.key_at("stop")) else { return };
    child.shutdown = Shutdown::Timeout(grace.0);
    if let Some(step) = stop.first_mut() {
        step.after = grace.0;
    }
}

/// Time to become ready unless the requirement says otherwise.
pub(super) fn within(preset: &Arc<Preset>, driver: Driver) -> Duration {
    if driver == Driver::External {
        return EXTERNAL_WITHIN;
    }
    preset.probe.within.map_or(envctl_actors::probe::spec::WITHIN_DEFAULT, |within| within.0)
}
