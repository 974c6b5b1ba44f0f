//! Carries out what a plan says. Decides nothing, spawns nothing itself: commands go through the caller's runner.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use envctl_supervisors::reason::StartError;
use tokio::task::JoinSet;
use tokio::time::timeout as within;
use tokio_postgres::{Client, NoTls};

use super::locate::matches;
use super::plan::{Action, After, Plan, Step, When, Work};
use super::preset::Preset;
use super::{record, rights, template};
use crate::probe::check::exchange::postgres_text;
use crate::probe::check::shown;
use crate::probe::{ExecOutcome, ExecRunner};
use crate::process::listener::{self, Owner};
use crate::process::{Command, RunAs, identity};

/// Longest time of one preparing command: `initdb` takes 0.5 s, and a minute on a machine that thrashes.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time of one step after readiness: copying the template database.
pub const AFTER_READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time of one way to copy a database: a big one is dumped and restored. How long it may take in all is said by
/// the requirement's `ready.within`.
const COPY_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long whoever listens on our port is given to be gone: a process that was killed takes milliseconds.
const LEFTOVER_GONE_WITHIN: Duration = Duration::from_millis(300);
/// Longest time of the trial of a user namespace.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// What keeps a server from being started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A step failed; its `retry` is `false` where only the user can help.
    Failed(StartError),
    /// Somebody listens on its port already.
    PortTaken {
        /// The port.
        port: u16,
        /// Who, for people.
        owner: String,
    },
    /// Somebody works on its data already.
    DataHeld {
        /// The lock file that says so.
        lock: PathBuf,
        /// Who, for people.
        owner: String,
    },
}

/// Carries out all steps that are due. Safe to repeat after any interruption, with the same plan or another.
///
/// # Errors
/// The first step that failed, or what is in the way.
pub async fn prepare(plan: &Plan, runner: &dyn ExecRunner) -> Result<(), Obstacle> {
    let first_start = plan.marker.as_ref().is_some_and(|marker| !marker.exists());
    for step in &plan.prepare {
        match step.when {
            When::FirstStart if !first_start => {}
            When::FirstStart | When::Always => carry_out(step, runner).await?,
        }
    }
    Ok(())
}

/// Carries out one step.
async fn carry_out(step: &Step, runner: &dyn ExecRunner) -> Result<(), Obstacle> {
    let label = step.label.as_str();
    match &step.action {
        Action::Run(command) => Ok(run(label, command, runner).await?),
        Action::Make { command, into, server, cache } => {
            let kept = cache.as_ref().and_then(|dir| template::place(dir, command, into, server));
            if let Some(kept) = &kept
                && template::copy_out(kept.clone(), into.clone()).await
            {
                return Ok(());
            }
            run(label, command, runner).await?;
            if let Some(kept) = kept {
                template::keep(into.clone(), kept).await;
            }
            Ok(())
        }
        Action::CheckVersion { command, wanted } => Ok(check_version(label, command, wanted, runner).await?),
        Action::CheckReachable { command, path, uid, gid } => {
            let outcome = run_any(label, command, runner).await?;
            if outcome.exit.is_normal() { Ok(()) } else { Err(unreachable(label, path, *uid, *gid).into()) }
        }
        _ => {
            let step = step.clone();
            tokio::task::spawn_blocking(move || touch(&step))
                .await
                .unwrap_or_else(|error| Err(retriable(format!("carry out a step: {error}")).into()))
        }
    }
}

/// Does the work of a plan once the server answers: that of the preset, then the project's own. Gives the failures that leave
/// the requirement usable.
///
/// # Errors
/// What the server or the command said.
pub async fn run_after_ready(items: &[After], runner: &dyn ExecRunner) -> Result<Vec<String>, StartError> {
    let mut soft = Vec::new();
    for item in items {
        let Some(mark) = record::due(&item.due) else { continue };
        let done = match &item.work {
            Work::FirstOf(ways) => first_of(ways, runner).await,
            work => timed(work, AFTER_READY_TIMEOUT, runner).await,
        };
        match done {
            Ok(()) => mark.done().map_err(|error| retriable(format!("{}: {error}", item.label)))?,
            Err(text) if item.soft => soft.push(format!("failed to {}: {text}", item.label)),
            Err(text) => return Err(retriable(format!("{}: {text}", item.label))),
        }
    }
    Ok(soft)
}

/// The version of the data in a requirement's directory, so that the same one is taken when none is wanted.
pub fn data_version(preset: &Preset, data_dir: &Path) -> Option<String> {
    let file = preset.native.as_ref()?.data_version.as_ref()?;
    let path = data_dir.join(preset.data.as_ref()?).join(file);
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Whose rights a server gets that refuses to be root. As root, tries once whether a user namespace can be had; else it is
/// one of `accounts`.
///
/// # Errors
/// If we are root and there is no account to be instead.
pub async fn choose_rights(accounts: &[String], runner: &dyn ExecRunner) -> Result<RunAs, StartError> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(RunAs::Caller);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user_namespaces = match rights::mapped_account(&passwd) {
        Some(account) => user_namespaces(account, runner).await,
        None => false,
    };
    rights::choose(true, user_namespaces, (accounts, &passwd)).map_err(|none| StartError {
        message: none.to_string(),
        hint: Some(match accounts.first() {
            Some(account) => format!("`useradd --system {account}`, or run as an ordinary user"),
            None => "run as an ordinary user".to_owned(),
        }),
        retry: false,
    })
}

async fn user_namespaces((uid, gid): (u32, u32), runner: &dyn ExecRunner) -> bool {
    let command = Command {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), format!("test \"$(id -u)\" = {uid}").into()],
        env: [("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())].into(),
        dir: "/".into(),
        run_as: RunAs::MappedUser { uid, gid },
        limits: crate::process::Limits::default(),
        stdin: None,
    };
    runner.run(command, TRIAL_TIMEOUT).await.is_ok_and(|outcome| outcome.exit.is_normal())
}

// === commands ===

async fn run(label: &str, command: &Command, runner: &dyn ExecRunner) -> Result<(), StartError> {
    let outcome = run_any(label, command, runner).await?;
    if outcome.exit.is_normal() {
        return Ok(());
    }
    Err(retriable(format!("{label}: {}: {}", outcome.exit, shown(&outcome.tail))))
}

async fn run_any(label: &str, command: &Command, runner: &dyn ExecRunner) -> Result<ExecOutcome, StartError> {
    runner.run(command.clone(), STEP_TIMEOUT).await.map_err(|error| retriable(format!("{label}: {error}")))
}

async fn check_version(
    label: &str,
    command: &Command,
    wanted: &str,
    runner: &dyn ExecRunner,
) -> Result<(), StartError> {
    let outcome = run_any(label, command, runner).await?;
    let output = shown(&outcome.tail);
    let program = command.program.to_string_lossy();
    match version_in(&output) {
        Some(found) if matches(wanted, found) => Ok(()),
        Some(found) => Err(StartError {
            message: format!("{label} {wanted}: {program} is {found}"),
            hint: Some(format!("install version {wanted} and put it on the PATH, or change `version`")),
            retry: false,
        }),
        None => Err(retriable(format!("{label} {wanted}: {program} does not say its version: {output}"))),
    }
}

/// `postgres (PostgreSQL) 15.3 (Debian …)`, `Redis server v=7.0.15 sha=…` → the version.
fn version_in(output: &str) -> Option<&str> {
    output
        .split_ascii_whitespace()
        .map(|word| word.trim_start_matches("v="))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

// === files ===

fn touch(step: &Step) -> Result<(), Obstacle> {
    let told = |path: &Path, error: io::Error| {
        Obstacle::Failed(retriable(format!("{}: {}: {error}", step.label, path.display())))
    };
    match &step.action {
        Action::CreateDir { path, mode } => create_dir(path, *mode).map_err(|error| told(path, error)),
        Action::RemoveTree(path) => remove_tree(path).map_err(|error| told(path, error)),
        Action::Rename { from, to } => rename(from, to).map_err(|error| told(to, error)),
        Action::Chown { path, account } => give(path, *account).map_err(|error| told(path, error)),
        Action::Write { path, text, account } => write(path, &text.text, *account).map_err(|error| told(path, error)),
        Action::CheckData { file, version } => Ok(check_data(&step.label, file, version)?),
        Action::CheckPorts(ports) => check_ports(ports),
        Action::RemoveStaleLock { file, dir, with } => {
            match remove_stale_lock(file, dir.as_deref(), with).map_err(|error| told(file, error))? {
                None => Ok(()),
                Some(pid) => Err(Obstacle::DataHeld { lock: file.clone(), owner: listener::describe_pid(pid) }),
            }
        }
        Action::Run(_) | Action::Make { .. } | Action::CheckVersion { .. } | Action::CheckReachable { .. } => Ok(()),
    }
}

/// Whoever listens may be what is left of the life before, killed a moment ago and not gone yet: that is waited for.
fn check_ports(ports: &[u16]) -> Result<(), Obstacle> {
    let mut waited = BTreeSet::new();
    while let Some((port, owner)) = ports.iter().find_map(|port| Some((*port, listener::owner(*port)?))) {
        match owner {
            Owner::Process(pid) if waited.insert(pid) => identity::until_gone(pid, LEFTOVER_GONE_WITHIN),
            owner => return Err(Obstacle::PortTaken { port, owner: owner.to_string() }),
        }
    }
    Ok(())
}

/// Writes a file whole, for its owner alone.
fn write(path: &Path, text: &str, account: Option<(u32, u32)>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(dir)?; // 0600
    file.write_all(text.as_bytes())?;
    if let Some((uid, gid)) = account {
        chown(file.path(), Some(uid), Some(gid))?;
    }
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let there = fs::metadata(path)?.permissions().mode() & 0o7777;
    if there == mode { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(mode)) }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Renames and makes it last: the marker must not outlive a power cut without what it stands for.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn give(path: &Path, account: Option<(u32, u32)>) -> io::Result<()> {
    let (uid, gid) = account.unwrap_or((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    let top = fs::symlink_metadata(path)?;
    if top.uid() == uid {
        return Ok(());
    }
    give_entries(path, uid, gid)?;
    // The top comes last: its owner says that the whole has been given.
    chown(path, Some(uid), Some(gid))
}

fn give_entries(dir: &Path, uid: u32, gid: u32) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give_entries(&entry.path(), uid, gid)?;
        }
        lchown(entry.path(), Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Removes a lock whose owner is provably dead; gives the owner if it lives.
fn remove_stale_lock(file: &Path, dir: Option<&Path>, with: &[PathBuf]) -> io::Result<Option<u32>> {
    let lock = match fs::read_to_string(file) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let pid: Option<u32> = lock.lines().next().and_then(|line| line.trim().parse().ok());
    if let Some(pid) = pid
        && lives(pid, dir)?
    {
        return Ok(Some(pid));
    }
    for file in with.iter().map(PathBuf::as_path).chain([file]) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(None)
}

/// Whether the owner of a lock lives. Its number may be anybody's by now: where it is known where the owner works, a process
/// that works elsewhere is another one.
fn lives(pid: u32, dir: Option<&Path>) -> io::Result<bool> {
    let real = dir.map(fs::canonicalize).transpose()?;
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => Ok(real.is_none_or(|real| cwd == real)),
        // Gone; but without /proc nobody could tell. Any other error (another account's process) is no proof of its death.
        Err(error) => Ok(error.kind() != io::ErrorKind::NotFound || !Path::new("/proc/self/cwd").exists()),
    }
}

fn check_data(label: &str, file: &Path, version: &str) -> Result<(), StartError> {
    let Ok(found) = fs::read_to_string(file) else { return Ok(()) };
    let found = found.trim();
    if matches(found, version) {
        return Ok(());
    }
    Err(StartError {
        message: format!("{label}: {} is of version {found}, not {version}", file.display()),
        hint: Some(format!("set `version = \"{found}\"`, or drop the data: `envctl down --data`")),
        retry: false,
    })
}

/// Names the directory that is closed, where modes tell it, and the way out.
fn unreachable(label: &str, path: &Path, uid: u32, gid: u32) -> StartError {
    let dir = closed_ancestor(path, uid, gid).unwrap_or_else(|| path.to_owned());
    let dir = dir.display();
    StartError {
        message: format!("{label} {}: uid {uid} may not pass through {dir}", path.display()),
        hint: Some(format!(
            "`chmod o+x {dir}`, or set XDG_STATE_HOME to a directory that this account can reach, or run as an ordinary user"
        )),
        retry: false,
    }
}

/// The first directory above `path`, from the root, that does not let this account pass.
fn closed_ancestor(path: &Path, uid: u32, gid: u32) -> Option<PathBuf> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.into_iter().rev().find(|dir| !passable(dir, uid, gid)).map(Path::to_owned)
}

fn passable(dir: &Path, uid: u32, gid: u32) -> bool {
    let Ok(metadata) = fs::metadata(dir) else { return true };
    let bit = match (metadata.uid() == uid, metadata.gid() == gid) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    metadata.mode() & bit != 0
}

// === databases ===

/// The first way that works; if none does, what each of them said.
async fn first_of(ways: &[(String, Work)], runner: &dyn ExecRunner) -> Result<(), String> {
    let mut said = Vec::new();
    for (label, way) in ways {
        match timed(way, COPY_TIMEOUT, runner).await {
            Ok(()) => return Ok(()),
            Err(text) => said.push(format!("{label}: {text}")),
        }
    }
    Err(said.join("; "))
}

async fn timed(item: &Work, limit: Duration, runner: &dyn ExecRunner) -> Result<(), String> {
    within(limit, Box::pin(work(item, limit, runner)))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}

async fn work(work: &Work, limit: Duration, runner: &dyn ExecRunner) -> Result<(), String> {
    match work {
        Work::FirstOf(_) => Err("a way to do something is one piece of work".to_owned()),
        Work::Run(command) => {
            let outcome = runner.run((**command).clone(), limit).await?;
            if outcome.exit.is_normal() { Ok(()) } else { Err(format!("{}: {}", outcome.exit, shown(&outcome.tail))) }
        }
        Work::PostgresFile { url, file } => {
            let text = tokio::fs::read_to_string(file).await.map_err(|error| format!("{}: {error}", file.display()))?;
            statements(url, None, &text, None).await
        }
        Work::Postgres { url, unless, sql, otherwise } => {
            statements(url, unless.as_deref(), sql, otherwise.as_deref()).await
        }
    }
}

async fn statements(url: &str, unless: Option<&str>, sql: &str, otherwise: Option<&str>) -> Result<(), String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|error| postgres_text(&error))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.is_ok() });
    let is_there = match unless {
        Some(query) => has_row(&client, query).await?,
        None => false,
    };
    let due = if is_there { otherwise } else { Some(sql) };
    if let Some(due) = due {
        client.batch_execute(due).await.map_err(|error| postgres_text(&error))?;
    }
    drop(client);
    driver.join_next().await;
    Ok(())
}

async fn has_row(client: &Client, query: &str) -> Result<bool, String> {
    let found = client.simple_query(query).await.map_err(|error| postgres_text(&error))?;
    Ok(found.iter().any(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_))))
}

fn retriable(message: String) -> StartError {
    StartError { message, hint: None, retry: true }
}

// === impl Obstacle ===

impl From<StartError> for Obstacle {
    fn from(error: StartError) -> Self {
        Self::Failed(error)
    }
}

impl From<Obstacle> for StartError {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Failed(error) => error,
            Obstacle::PortTaken { port, owner } => Self {
                message: format!("use port {port}: it is held by {owner}"),
                hint: Some(format!("end {owner}, or set another `port`")),
                retry: true,
            },
            Obstacle::DataHeld { lock, owner } => Self {
                message: format!("use the data: {} says that {owner} works on it", lock.display()),
                hint: Some(format!("end {owner} in order: two servers on one directory would destroy the data")),
                retry: false,
            },
        }
    }
}

#[cfg(test)]
mod tests;
