//! What is wrong with a preset that its types allow: names that nothing stands behind, secrets in argument lists, probes
//! that ask nothing. Pure; every mistake names its key and says what to do.

use std::collections::BTreeSet;

use super::model::{AfterReady, Container, Databases, Native, Preset, Probe, Run};
use super::text::Text;

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The dotted key: `native.args`.
    pub key: String,
    /// What is wrong, as in "`key`: message".
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Names that all presets may use: what is known before anything starts.
const EARLY: [&str; 4] = ["host", "project", "unit", "port"];
/// Names that are known when a server of this machine is started.
const NATIVE: [&str; 5] = ["dir", "data", "version", "major", "server"];
/// Names that are known when a container is made.
const CONTAINER: [&str; 3] = ["version", "major", "inside.host"];
/// Names that are known when a database of a shared server is made or dropped.
const SHARE: [&str; 2] = ["bin", "template"];
/// The option that says which database is meant.
pub const DATABASE: &str = "database";
/// Most random bytes of a secret: more than 256 bits are of no use.
const SECRET_BYTES_MAX: u8 = 64;
/// Fewest: 64 bits, which nobody guesses over a loopback socket.
const SECRET_BYTES_MIN: u8 = 8;

struct Check<'a> {
    preset: &'a Preset,
    mistakes: Vec<Mistake>,
}

/// All mistakes of a preset.
pub fn check(preset: &Preset) -> Vec<Mistake> {
    let mut check = Check { preset, mistakes: Vec::new() };
    check.names();
    check.secrets();
    let early = check.known(&EARLY, Vec::new());
    let texts = preset.options.iter().map(|(name, text)| (format!("options.{name}"), text));
    let texts = texts.chain(preset.attributes.iter().map(|(name, text)| (format!("attributes.{name}"), text)));
    for (key, text) in texts.chain(preset.variables.iter().map(|(name, text)| (format!("variables.{name}"), text))) {
        check.text(&key, text, &early);
    }
    check.circles();
    check.probe("probe", &preset.probe, &early);
    let known = check.known(&EARLY, check.tools());
    preset.after_ready.iter().for_each(|step| check.after_ready("after_ready", step, &known));
    check.share();
    check.clients();
    if let Some(native) = &preset.native {
        check.native(native);
    }
    for (name, container) in preset.all_containers() {
        check.container(name, container);
    }
    check.drivers();
    check.mistakes
}

// === impl Check ===

impl Check<'_> {
    fn wrong(&mut self, key: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.mistakes.push(Mistake { key: key.into(), message: message.into(), hint: hint.into() });
    }

    /// One namespace: options, secrets and attributes are told apart by nothing but their names.
    fn names(&mut self) {
        let preset = self.preset;
        let named = [
            ("options", preset.options.keys().collect::<Vec<_>>()),
            ("secrets", preset.secrets.keys().collect()),
            ("attributes", preset.attributes.keys().collect()),
        ];
        let mut seen: BTreeSet<&str> = EARLY.iter().chain(&NATIVE).copied().collect();
        for (table, names) in named {
            for name in names {
                let is_good =
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                if !is_good {
                    self.wrong(format!("{table}.{name}"), format!("`{name}` is no name"), "write a-z, 0-9 and `_`");
                } else if !seen.insert(name) {
                    let message = format!("`{name}` is the name of something else already");
                    self.wrong(format!("{table}.{name}"), message, "rename one of the two");
                }
            }
        }
        if let Some(data) = preset.data.as_ref().filter(|data| !is_file_name(data)) {
            self.wrong("data", format!("`{data}` is no name of a directory"), "write one name, without `/`");
        }
    }

    fn secrets(&mut self) {
        let preset = self.preset;
        for (name, secret) in &preset.secrets {
            let key = format!("secrets.{name}");
            if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.bytes) {
                let message = format!("a secret has from {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes");
                self.wrong(format!("{key}.bytes"), message, "write bytes = 16");
            }
            let Some(jwt) = &secret.jwt else { continue };
            match preset.secrets.get(&jwt.key) {
                Some(signing) if signing.jwt.is_none() => {}
                _ => self.wrong(
                    format!("{key}.jwt.key"),
                    format!("`{}` is no secret to sign with", jwt.key),
                    "name one of `secrets` that is no token itself",
                ),
            }
        }
    }

    /// What a text may name: `extra`, the ports, the options, the secrets, the attributes, and `more`.
    fn known(&self, extra: &[&str], more: Vec<String>) -> BTreeSet<String> {
        let preset = self.preset;
        let own = preset.options.keys().chain(preset.secrets.keys()).chain(preset.attributes.keys()).cloned();
        let ports = preset.ports.keys().map(|port| format!("ports.{port}"));
        extra.iter().map(|name| (*name).to_owned()).chain(own).chain(ports).chain(more).collect()
    }

    fn text(&mut self, key: &str, text: &Text, known: &BTreeSet<String>) {
        for name in text.names() {
            if !known.contains(name) {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                let message = format!("`${{{name}}}` stands for nothing here");
                self.wrong(key, message, format!("there are {}", names.join(", ")));
            }
        }
    }

    /// As [`text`](Self::text), for what everybody on the machine can read.
    fn open_texts<'t>(&mut self, key: &str, texts: impl IntoIterator<Item = &'t Text>, known: &BTreeSet<String>) {
        for text in texts {
            self.text(key, text, known);
            let secret = text.names().find(|name| self.preset.is_secret(name)).map(str::to_owned);
            if let Some(secret) = secret {
                let message = format!("`${{{secret}}}` is secret, and arguments can be read by everybody");
                self.wrong(key, message, "pass it in `env`, or write it into one of `native.files`");
            }
        }
    }

    fn circles(&mut self) {
        let attributes = &self.preset.attributes;
        let reaches_itself = |start: &str| {
            let mut open = vec![start];
            let mut seen = BTreeSet::new();
            while let Some(name) = open.pop() {
                for next in attributes.get(name).into_iter().flat_map(Text::names) {
                    if next == start {
                        return true;
                    }
                    if seen.insert(next) {
                        open.push(next);
                    }
                }
            }
            false
        };
        let circular: Vec<String> = attributes.keys().filter(|name| reaches_itself(name)).cloned().collect();
        for name in circular {
            self.wrong(format!("attributes.{name}"), "it is made of itself", "write out what it stands for");
        }
    }

    fn probe(&mut self, key: &str, probe: &Probe, known: &BTreeSet<String>) {
        let asked = probe.questions().len();
        if asked != 1 {
            let message = format!("a probe asks one question, not {asked}");
            self.wrong(
                key,
                message,
                "write one of postgres, redis, mysql, http, tcp, greeting, memcached, amqp, nats, mqtt, exec",
            );
        }
        for text in [&probe.postgres, &probe.redis, &probe.http].into_iter().flatten() {
            self.text(key, text, known);
        }
        self.open_texts(&format!("{key}.exec"), probe.exec.iter().flatten(), known);
        if !self.preset.ports.contains_key(probe.port()) {
            let message = format!("there is no port `{}`", probe.port());
            self.wrong(format!("{key}.port"), message, "name one of `ports`");
        }
    }

    fn share(&mut self) {
        let Some(share) = &self.preset.share else { return };
        let known = self.known(&[&EARLY[..], &SHARE[..]].concat(), self.tools());
        for (key, steps) in
            [("share.create", &share.create), ("share.clone", &share.clone), ("share.drop", &share.drop)]
        {
            steps.iter().for_each(|step| self.after_ready(key, step, &known));
        }
        if !self.preset.options.contains_key(DATABASE) {
            let message = format!("no option `{DATABASE}` says which database is meant");
            self.wrong("share", message, format!("write options.{DATABASE}, and use it in `attributes`"));
        }
        let unknown = share.server.keys().find(|name| !self.preset.options.contains_key(*name));
        if let Some(name) = unknown.cloned() {
            self.wrong(format!("share.server.{name}"), "there is no such option", "name one of `options`");
        }
        if share.drop.is_empty() {
            self.wrong("share.drop", "nothing says how a database is dropped", "write a list of steps");
        }
        if (share.databases == Databases::Numbers) != share.databases_max.is_some() {
            let message = "`databases_max` goes with numbers, and numbers with it";
            self.wrong("share.databases_max", message, "write databases = \"numbers\" and databases_max = 16");
        }
    }

    fn after_ready(&mut self, key: &str, step: &AfterReady, known: &BTreeSet<String>) {
        self.open_texts(&format!("{key}.what"), [&step.what], known);
        match (&step.postgres, &step.run) {
            (Some(statement), None) => {
                let texts = [
                    Some(&statement.url),
                    statement.unless.as_ref(),
                    Some(&statement.sql),
                    statement.otherwise.as_ref(),
                ];
                let key = format!("{key}.postgres");
                texts.into_iter().flatten().for_each(|text| self.text(&key, text, known));
            }
            (None, Some(run)) => self.run(&format!("{key}.run"), run, known),
            _ => self.wrong(key, format!("\"{}\" does not say what is done", step.what), "write `postgres` or `run`"),
        }
    }

    fn run(&mut self, key: &str, run: &Run, known: &BTreeSet<String>) {
        if run.cmd.is_empty() {
            self.wrong(key, "a command without a program", "write cmd = [\"program\", \"argument\"]");
        }
        self.open_texts(&format!("{key}.cmd"), &run.cmd, known);
        run.env.values().for_each(|text| self.text(&format!("{key}.env"), text, known));
    }

    fn clients(&mut self) {
        let preset = self.preset;
        let known = self.known(&EARLY, self.tools());
        for (name, client) in &preset.clients {
            let key = format!("clients.{name}");
            if client.program.is_empty() {
                self.wrong(&key, "a client without a program", "write program = [\"name\"]");
            }
            self.open_texts(&format!("{key}.args"), &client.args, &known);
            client.env.values().for_each(|text| self.text(&format!("{key}.env"), text, &known));
        }
        match preset.sql.as_ref().map(|sql| (&sql.postgres, &sql.run)) {
            None => {}
            Some((Some(url), None)) => self.text("sql.postgres", url, &known),
            Some((None, Some(run))) => self.run("sql.run", run, &known),
            Some(_) => self.wrong("sql", "it does not say how", "write `postgres` or `run`"),
        }
    }

    /// Names of tools and of written files.
    fn tools(&self) -> Vec<String> {
        let Some(native) = &self.preset.native else { return Vec::new() };
        let tools = native.tools.keys().map(|name| format!("tool.{name}"));
        let files = native.files.keys().map(|name| format!("file.{name}"));
        tools.chain(files).chain(["dir".to_owned(), "data".to_owned()]).collect()
    }

    fn native(&mut self, native: &Native) {
        let known = self.known(&[&EARLY[..], &NATIVE[..]].concat(), self.tools());
        if native.server.is_empty() {
            self.wrong("native.server", "no server", "write server = [\"program\"]");
        }
        for text in native.dir.iter().chain(native.env.values()).chain(native.files.values().map(|file| &file.text)) {
            self.text("native", text, &known);
        }
        self.open_texts("native.args", &native.args, &known);
        for (name, file) in native.files.iter().filter(|(_, file)| !is_file_name(&file.name)) {
            let message = format!("`{}` is no name of a file", file.name);
            self.wrong(format!("native.files.{name}.name"), message, "write one name, without `/`");
        }
        for lock in &native.locks {
            for text in [Some(&lock.file), lock.owner_dir.as_ref()].into_iter().flatten().chain(&lock.with) {
                self.text("native.locks", text, &known);
            }
        }
        self.first_steps(native, known);
    }

    fn first_steps(&mut self, native: &Native, mut known: BTreeSet<String>) {
        known.insert("into".to_owned());
        if !native.first.is_empty() && self.preset.data.is_none() {
            self.wrong("native.first", "there is no data to make", "write data = \"data\"");
        }
        for (at, step) in native.first.iter().enumerate() {
            let run = Run { cmd: step.cmd.clone(), env: step.env.clone() };
            self.run("native.first", &run, &known);
            if !step.cached {
                continue;
            }
            if at > 0 {
                self.wrong("native.first.cached", "only the first step can be kept", "take `cached` away");
            }
            // What is kept must be the same for everybody, and must hold nobody's secret.
            let own = ["dir", "data", "port", "project", "unit", "host"];
            let preset = self.preset;
            let is_own =
                |name: &&str| own.contains(name) || preset.options.contains_key(*name) || preset.is_secret(name);
            let named = step.cmd.iter().chain(step.env.values()).flat_map(Text::names).find(is_own).map(str::to_owned);
            if let Some(name) = named {
                let message = format!("`${{{name}}}` differs from one requirement to the next");
                self.wrong("native.first.cached", message, "do that in a step of its own, or take `cached` away");
            }
        }
    }

    fn container(&mut self, name: &str, container: &Container) {
        let preset = self.preset;
        let key = if preset.container.is_some() { "container".to_owned() } else { format!("containers.{name}") };
        let siblings = preset.containers.keys().map(|name| format!("container.{name}"));
        let inside = preset.ports.keys().map(|port| format!("inside.{port}"));
        let known = self.known(&[&EARLY[..], &CONTAINER[..]].concat(), siblings.chain(inside).collect());
        self.text(&format!("{key}.image"), &container.image, &known);
        self.open_texts(&format!("{key}.command"), container.entrypoint.iter().chain(&container.command), &known);
        for text in container.env.values().chain(container.files.values()) {
            self.text(&key, text, &known);
        }
        for port in container.ports.keys().filter(|port| !preset.ports.contains_key(*port)) {
            self.wrong(format!("{key}.ports.{port}"), "the preset has no such port", "name one of `ports`");
        }
        for other in container.after.iter().filter(|other| !preset.containers.contains_key(*other)) {
            self.wrong(format!("{key}.after"), format!("there is no container `{other}`"), "name one of `containers`");
        }
        if let Some(probe) = &container.probe {
            self.probe(&format!("{key}.probe"), probe, &known);
        }
    }

    fn drivers(&mut self) {
        let preset = self.preset;
        let containers = preset.all_containers().count();
        if preset.container.is_some() && !preset.containers.is_empty() {
            self.wrong("containers", "`container` is there too", "write all of them below `containers`");
        }
        if preset.native.is_none() && preset.external.is_none() && containers == 0 {
            self.wrong("native", "nothing says how it is run", "write `native`, `container` or `external`");
        }
        if preset.external.as_ref().is_some_and(|external| external.schemes.is_empty()) {
            self.wrong("external.schemes", "no scheme", "write schemes = [\"http\"]");
        }
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}
