//! The plan for a server that is run from the binaries of this machine: what its preset says, filled in.
//!
//! Data is made beside its place and renamed into it, so an initialisation that is killed never leaves half of it. Pure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use envctl_supervisors::reason::StartError;

use super::locate::Binaries;
use super::plan::{Action, After, Due, Init, Plan, Step, Wanted, Work};
use super::preset::model::{AfterReady, FirstStep, Native, Run, Statement};
use super::preset::{HOST, NoValue, PORT, Question, Scope, Text, Value, model};
use crate::probe::spec::{EVERY_DEFAULT, FAILURES_DEFAULT, TIMEOUT_DEFAULT};
use crate::probe::{Exchange, Probe, Schedule};
use crate::process::{Command, RunAs};

/// Good answers in a row that make a server ready, all from the same process on the same port: one that answers and dies at
/// once was never up.
const CONFIRMATIONS: u32 = 2;
/// Where is recorded what `init` has done to the data.
pub const INIT_RECORD: &str = "init.json";

/// The schedule of every server: they answer at once or not at all.
pub fn schedule() -> Schedule {
    Schedule { every: EVERY_DEFAULT, timeout: TIMEOUT_DEFAULT, failures: FAILURES_DEFAULT, successes: CONFIRMATIONS }
}

/// Plans. Touches nothing, and the same input gives the same plan.
///
/// # Errors
/// A preset that names something that is not there.
pub fn plan(wanted: &Wanted, binaries: &Binaries) -> Result<Plan, StartError> {
    let native = wanted.preset.native.as_ref().ok_or_else(|| StartError {
        message: format!("run {} natively: its preset says nothing about it", wanted.name),
        hint: Some("set `driver = \"container\"` or `driver = \"external\"`".to_owned()),
        retry: false,
    })?;
    let scope = native_scope(wanted, binaries, native);
    Planner { wanted, binaries, native, scope }.plan().map_err(no_value)
}

/// The probe that a preset's question means.
///
/// # Errors
/// A name without a value.
pub fn probe(
    asked: &model::Probe,
    scope: &Scope,
    at: (&str, u16),
    own: bool,
    command: impl FnOnce(&[Text]) -> Result<Command, NoValue>,
) -> Result<Probe, NoValue> {
    let text = |text: &Text| Ok(text.fill(scope)?.text);
    let ask = match asked.questions().first() {
        Some(Question::Exec(words)) => return Ok(Probe::Exec(Box::new(command(words)?))),
        Some(Question::Postgres(url)) => Exchange::Postgres(text(url)?),
        Some(Question::Redis(url)) => Exchange::Redis(text(url)?),
        Some(Question::Mysql) => Exchange::Mysql,
        Some(Question::Http(path)) => Exchange::Http(text(path)?),
        Some(Question::Greeting(bytes)) => Exchange::Greeting((*bytes).to_owned()),
        Some(Question::Memcached) => Exchange::Memcached,
        Some(Question::Amqp) => Exchange::Amqp,
        Some(Question::Nats) => Exchange::Nats,
        Some(Question::Mqtt) => Exchange::Mqtt,
        Some(Question::Tcp) | None => Exchange::Tcp,
    };
    Ok(Probe::Server { host: at.0.to_owned(), port: at.1, ask, own })
}

/// Work of the preset and of the project once the server answers.
///
/// # Errors
/// A name without a value.
pub fn after_ready(wanted: &Wanted, scope: &Scope) -> Result<Vec<After>, NoValue> {
    let preset = wanted.preset.after_ready.iter().map(|step| step_work(wanted, scope, step));
    let own = wanted.init.iter().map(|init| init_work(wanted, scope, init).map(Some));
    preset.chain(own).filter_map(Result::transpose).collect()
}

/// A step of a preset; `None` if it does nothing.
pub(super) fn step_work(wanted: &Wanted, scope: &Scope, step: &AfterReady) -> Result<Option<After>, NoValue> {
    let work = match (&step.postgres, &step.run) {
        (Some(statement), _) => statement_work(statement, scope)?,
        (None, Some(run)) => Work::Run(Box::new(run_command(wanted, scope, run)?)),
        (None, None) => return Ok(None),
    };
    let label = step.what.fill(scope)?.text;
    Ok(Some(After { label, work, soft: step.soft, due: Due::Always }))
}

struct Planner<'a> {
    wanted: &'a Wanted,
    binaries: &'a Binaries,
    native: &'a Native,
    scope: Scope,
}

// === impl Planner ===

impl Planner<'_> {
    fn plan(&self) -> Result<Plan, NoValue> {
        let wanted = self.wanted;
        let preset = &wanted.preset;
        let port =
            wanted.ports.get(preset.probe.port()).or_else(|| wanted.ports.get(PORT)).copied().unwrap_or_default();
        let exec = |words: &[Text]| self.exec(words);
        Ok(Plan {
            marker: self.marker(),
            prepare: self.prepare()?,
            main: self.main()?,
            stop: (preset.stop.signal.0, preset.stop.scope.into()),
            probe: probe(&preset.probe, &self.scope, (HOST, port), true, exec)?,
            schedule: schedule(),
            after_ready: after_ready(wanted, &self.scope)?,
        })
    }

    /// Data whose version file is there has been made; without one, the directory's place says it.
    fn marker(&self) -> Option<PathBuf> {
        let data = self.wanted.data()?;
        if self.native.first.is_empty() {
            return None;
        }
        Some(self.native.data_version.as_ref().map_or_else(|| data.clone(), |file| data.join(file)))
    }

    fn prepare(&self) -> Result<Vec<Step>, NoValue> {
        let wanted = self.wanted;
        // Another account has to pass through; what is in it is closed by itself.
        let mode = if wanted.account().is_some() { 0o711 } else { 0o700 };
        let make_dir = Action::CreateDir { path: wanted.data_dir.clone(), mode };
        let mut steps = vec![Step::always("make the data directory", make_dir)];
        steps.extend(self.check_version());
        if let Some((uid, gid)) = wanted.account() {
            let path = wanted.data_dir.clone();
            let script = ["-c".into(), r#"cd "$0""#.into(), path.clone().into_os_string()];
            let command = Box::new(wanted.command(Path::new("/bin/sh"), script));
            let action = Action::CheckReachable { command, path, uid, gid };
            steps.push(Step::always("reach the data directory", action));
        }
        steps.extend(self.data_steps()?);
        for (name, file) in &self.native.files {
            let (path, text) = (wanted.data_dir.join(&file.name), file.text.fill(&self.scope)?);
            let action = Action::Write { path, text, account: wanted.account() };
            steps.push(Step::always(format!("write {name}"), action));
        }
        for lock in &self.native.locks {
            let dir = lock.owner_dir.as_ref().map(|dir| self.path(dir)).transpose()?;
            let with = lock.with.iter().map(|file| self.path(file)).collect::<Result<_, _>>()?;
            let action = Action::RemoveStaleLock { file: self.path(&lock.file)?, dir, with };
            steps.push(Step::always("remove a stale lock file", action));
        }
        steps.push(Step::always("use its port", Action::CheckPorts(wanted.ports.values().copied().collect())));
        Ok(steps)
    }

    fn check_version(&self) -> Vec<Step> {
        let Self { wanted, binaries, native, .. } = self;
        let mut steps = Vec::new();
        if let (None, Some(version), false) = (&binaries.version, &wanted.version, native.version_args.is_empty()) {
            let command = Box::new(wanted.command(&binaries.server, &native.version_args));
            let action = Action::CheckVersion { command, wanted: version.clone() };
            steps.push(Step::always("find the wanted version", action));
        }
        let file = native.data_version.as_ref().and_then(|file| Some(wanted.data()?.join(file)));
        if let (Some(file), Some(version)) = (file, binaries.version.as_ref().or(wanted.version.as_ref())) {
            steps.push(Step::always("use the data", Action::CheckData { file, version: version.clone() }));
        }
        steps
    }

    fn data_steps(&self) -> Result<Vec<Step>, NoValue> {
        let wanted = self.wanted;
        let Some(data) = wanted.data() else { return Ok(Vec::new()) };
        let account = wanted.account();
        let mut steps = Vec::new();
        if self.native.first.is_empty() {
            steps.push(Step::always("make the data directory", Action::CreateDir { path: data.clone(), mode: 0o700 }));
        } else {
            let into = partial(&data);
            steps.push(Step::first("clear an unfinished initialisation", Action::RemoveTree(into.clone())));
            let make = Action::CreateDir { path: into.clone(), mode: 0o700 };
            steps.push(Step::first("make the directory of the data", make));
            let give = Action::Chown { path: into.clone(), account };
            steps.push(Step::first("give the data to its account", give));
            for step in &self.native.first {
                steps.push(self.first_step(step, &into)?);
            }
            steps.push(Step::first("put the data in its place", Action::Rename { from: into, to: data.clone() }));
        }
        if self.native.refuses_root {
            // The data may have been made under other rights: those of a user namespace, or of another account.
            steps.push(Step::always("give the data to its account", Action::Chown { path: data, account }));
        }
        Ok(steps)
    }

    fn first_step(&self, step: &FirstStep, into: &Path) -> Result<Step, NoValue> {
        let mut scope = self.scope.clone();
        scope.set("into", into.display());
        let run = Run { cmd: step.cmd.clone(), env: step.env.clone() };
        let command = Box::new(run_command(self.wanted, &scope, &run)?);
        let action = if step.cached {
            // What another account made could not be read by us to be kept.
            let cache = self.wanted.cache.as_ref().filter(|_| self.wanted.account().is_none());
            let cache = cache.map(|dir| dir.join(&self.wanted.name));
            Action::Make { command, into: into.to_owned(), server: self.binaries.server.clone(), cache }
        } else {
            Action::Run(command)
        };
        Ok(Step::first(step.what.as_str(), action))
    }

    fn main(&self) -> Result<Command, NoValue> {
        let Self { wanted, binaries, native, scope } = self;
        let args: Vec<OsString> = fill_all(&native.args, scope)?;
        let mut command = wanted.command(&binaries.server, args);
        command.env.extend(fill_env(&native.env, scope)?);
        command.dir = match &native.dir {
            Some(dir) => self.path(dir)?,
            None => wanted.data().unwrap_or_else(|| wanted.data_dir.clone()),
        };
        Ok(command)
    }

    fn exec(&self, words: &[Text]) -> Result<Command, NoValue> {
        run_command(self.wanted, &self.scope, &Run { cmd: words.to_vec(), env: self.native.env.clone() })
    }

    fn path(&self, text: &Text) -> Result<PathBuf, NoValue> {
        Ok(text.fill(&self.scope)?.text.into())
    }
}

/// Where data is made: beside its place.
fn partial(data: &Path) -> PathBuf {
    data.with_extension("partial")
}

/// Everything that the texts of a native server may name.
pub fn native_scope(wanted: &Wanted, binaries: &Binaries, native: &Native) -> Scope {
    let mut scope = wanted.scope.clone();
    scope.set("dir", wanted.data_dir.display());
    scope.set("data", wanted.data().unwrap_or_else(|| wanted.data_dir.clone()).display());
    let version = wanted.version.as_ref().or(binaries.version.as_ref()).or(wanted.preset.versions.first());
    let version = version.map_or("", String::as_str);
    scope.set("version", version);
    scope.set("major", version.split('.').next().unwrap_or_default());
    scope.set("server", binaries.server.display());
    scope.set("bin", binaries.server.parent().unwrap_or(Path::new("")).display());
    for (name, path) in &binaries.tools {
        scope.set(format!("tool.{name}"), path.display());
    }
    for (name, file) in &native.files {
        scope.set(format!("file.{name}"), wanted.data_dir.join(&file.name).display());
    }
    scope
}

fn statement_work(statement: &Statement, scope: &Scope) -> Result<Work, NoValue> {
    let text = |text: &Text| Ok::<_, NoValue>(text.fill(scope)?.text);
    Ok(Work::Postgres {
        url: text(&statement.url)?,
        unless: statement.unless.as_ref().map(text).transpose()?,
        sql: text(&statement.sql)?,
        otherwise: statement.otherwise.as_ref().map(text).transpose()?,
    })
}

pub(super) fn init_work(wanted: &Wanted, scope: &Scope, init: &Init) -> Result<After, NoValue> {
    let record = wanted.data_dir.join(INIT_RECORD);
    let (name, work, inputs) = match init {
        Init::Run { label, command, inputs } => (label.clone(), Work::Run(command.clone()), inputs.clone()),
        Init::Sql(file) => {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let run = wanted.preset.sql.as_ref().ok_or_else(|| NoValue("sql".to_owned()))?;
            let work = match (&run.postgres, &run.run) {
                (Some(url), _) => Work::PostgresFile { url: url.fill(scope)?.text, file: file.clone() },
                (None, Some(run)) => {
                    let mut command = run_command(wanted, scope, run)?;
                    // A client needs none of the server's rights; and it reads a file of ours.
                    (command.stdin, command.run_as) = (Some(file.clone()), RunAs::Caller);
                    Work::Run(Box::new(command))
                }
                (None, None) => return Err(NoValue("sql".to_owned())),
            };
            (name, work, vec![file.clone()])
        }
    };
    let due = Due::Once { record, name: name.clone(), inputs };
    Ok(After { label: format!("run {name}"), work, soft: false, due })
}

fn run_command(wanted: &Wanted, scope: &Scope, run: &Run) -> Result<Command, NoValue> {
    let mut words: Vec<OsString> = fill_all(&run.cmd, scope)?;
    let program = if words.is_empty() { OsString::new() } else { words.remove(0) };
    let mut command = wanted.command(Path::new(&program), words);
    command.env.extend(fill_env(&run.env, scope)?);
    Ok(command)
}

fn fill_all(texts: &[Text], scope: &Scope) -> Result<Vec<OsString>, NoValue> {
    texts.iter().map(|text| Ok(text.fill(scope)?.text.into())).collect()
}

fn fill_env(env: &BTreeMap<String, Text>, scope: &Scope) -> Result<Vec<(OsString, OsString)>, NoValue> {
    env.iter().map(|(name, text)| Ok((name.into(), text.fill(scope)?.text.into()))).collect()
}

/// A value that a preset names and nobody has.
pub fn no_value(none: NoValue) -> StartError {
    StartError {
        message: format!("fill in its preset: {none}"),
        hint: Some("`envctl requirement info NAME` shows what the preset may name".to_owned()),
        retry: false,
    }
}

/// A text that is no secret.
pub fn open(text: impl Into<String>) -> Value {
    Value { text: text.into(), secret: false }
}
