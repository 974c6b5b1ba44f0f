//! Carries out what a plan says. Decides nothing, spawns nothing itself: commands go through the caller's runner.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use envctl_supervisors::reason::StartError;
use tokio::task::JoinSet;
use tokio::time::timeout as within;
use tokio_postgres::{Client, NoTls};

use super::locate::matches;
use super::plan::{Action, AfterReady, Plan, Step, When};
use super::rights;
use crate::probe::check::exchange::postgres_text;
use crate::probe::check::shown;
use crate::probe::{ExecOutcome, ExecRunner};
use crate::process::{Command, RunAs};

/// Longest time of one preparing command: `initdb` takes 0.5 s, and a minute on a machine that thrashes.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time of one step after readiness: copying the template database.
pub const AFTER_READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time of the trial of a user namespace.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Random bytes of a password; written as hexadecimal.
const PASSWORD_BYTES: usize = 16;

/// Carries out all steps that are due. Safe to repeat after any interruption, with the same plan or another.
///
/// # Errors
/// The first step that failed; `retry` is `false` where only the user can help.
pub async fn prepare(plan: &Plan, runner: &dyn ExecRunner) -> Result<(), StartError> {
    let first_start = !plan.marker.exists();
    for step in &plan.prepare {
        match step.when {
            When::FirstStart if !first_start => {}
            When::FirstStart | When::Always => carry_out(step, runner).await?,
        }
    }
    Ok(())
}

/// Carries out one step.
async fn carry_out(step: &Step, runner: &dyn ExecRunner) -> Result<(), StartError> {
    match &step.action {
        Action::Run(command) => run(step.label, command, runner).await,
        Action::CheckVersion { command, wanted } => check_version(step.label, command, wanted, runner).await,
        Action::CheckReachable { command, path, uid, gid } => {
            let outcome = run_any(step.label, command, runner).await?;
            if outcome.exit.is_normal() { Ok(()) } else { Err(unreachable(step.label, path, *uid, *gid)) }
        }
        _ => {
            let step = step.clone();
            tokio::task::spawn_blocking(move || touch(&step))
                .await
                .unwrap_or_else(|error| Err(retriable(format!("carry out a step: {error}"))))
        }
    }
}

/// Creates the roles and databases of a plan; the store must answer already.
///
/// # Errors
/// What PostgreSQL said.
pub async fn run_after_ready(items: &[AfterReady]) -> Result<(), StartError> {
    for item in items {
        within(AFTER_READY_TIMEOUT, Box::pin(after_ready(item)))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {AFTER_READY_TIMEOUT:?}")))
            .map_err(|text| retriable(format!("{}: {text}", label(item))))?;
    }
    Ok(())
}

/// The password of a requirement: the one in its directory, else a new one, which is kept there (0600) first.
///
/// # Errors
/// With the path in the text.
pub fn password(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join("password");
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::read_to_string(&path) {
        Ok(kept) if !kept.trim().is_empty() => return Ok(kept.trim().to_owned()),
        Ok(_) => fs::remove_file(&path).map_err(named)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(error)),
    }
    make_password(data_dir, &path).map_err(named)
}

/// The version of the data in a requirement's directory, so that the same one is taken when none is wanted.
pub fn data_version(data_dir: &Path) -> Option<String> {
    Some(fs::read_to_string(data_dir.join("cluster/PG_VERSION")).ok()?.trim().to_owned())
}

/// Whose rights PostgreSQL gets. As root, tries once whether a user namespace can be had.
///
/// # Errors
/// If we are root and there is no account to be instead.
pub async fn choose_rights(runner: &dyn ExecRunner) -> Result<RunAs, StartError> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(RunAs::Caller);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user_namespaces = match rights::mapped_account(&passwd) {
        Some(account) => user_namespaces(account, runner).await,
        None => false,
    };
    rights::choose(true, user_namespaces, &passwd).map_err(|none| StartError {
        message: none.to_string(),
        hint: Some("`useradd --system postgres`, or run as an ordinary user".to_owned()),
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

fn touch(step: &Step) -> Result<(), StartError> {
    let told = |path: &Path, error: io::Error| StartError {
        message: format!("{}: {}: {error}", step.label, path.display()),
        hint: None,
        retry: true,
    };
    match &step.action {
        Action::CreateDir { path, mode } => create_dir(path, *mode).map_err(|error| told(path, error)),
        Action::RemoveTree(path) => remove_tree(path).map_err(|error| told(path, error)),
        Action::Rename { from, to } => rename(from, to).map_err(|error| told(to, error)),
        Action::Chown { path, account } => give(path, *account).map_err(|error| told(path, error)),
        Action::RemoveStaleLock { file, dir } => remove_stale_lock(file, dir).map_err(|error| told(file, error)),
        Action::CheckData { file, version } => check_data(step.label, file, version),
        Action::Run(_) | Action::CheckVersion { .. } | Action::CheckReachable { .. } => Ok(()),
    }
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

fn remove_stale_lock(file: &Path, dir: &Path) -> io::Result<()> {
    let lock = match fs::read_to_string(file) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let pid: Option<u32> = lock.lines().next().and_then(|line| line.trim().parse().ok());
    let real = fs::canonicalize(dir)?;
    let is_stale = match pid.map(|pid| fs::read_link(format!("/proc/{pid}/cwd"))) {
        None => true,
        Some(Ok(cwd)) => cwd != real,
        // Gone; but without /proc nobody could tell. Any other error (another account's process) is no proof of its death.
        Some(Err(error)) => error.kind() == io::ErrorKind::NotFound && Path::new("/proc/self/cwd").exists(),
    };
    if is_stale { fs::remove_file(file) } else { Ok(()) }
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

fn make_password(data_dir: &Path, path: &Path) -> io::Result<String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let mut random = [0u8; PASSWORD_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = tempfile::NamedTempFile::new_in(data_dir)?; // 0600
    writeln!(file, "{password}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(password),
        // Somebody else was quicker: one of the two is the password, not one each.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(path)?.trim().to_owned())
        }
        Err(error) => Err(error.error),
    }
}

// === databases ===

async fn after_ready(item: &AfterReady) -> Result<(), String> {
    let (AfterReady::CreateRole { url, .. } | AfterReady::CreateDatabase { url, .. }) = item;
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|error| postgres_text(&error))?;
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.is_ok() });
    let statement = match item {
        AfterReady::CreateRole { name, password, .. } => {
            let verb = if exists(&client, "pg_roles", "rolname", name).await? { "ALTER" } else { "CREATE" };
            format!("{verb} ROLE {} LOGIN SUPERUSER PASSWORD {}", quoted(name, '"'), quoted(password, '\''))
        }
        AfterReady::CreateDatabase { name, .. } if exists(&client, "pg_database", "datname", name).await? => {
            return Ok(());
        }
        AfterReady::CreateDatabase { name, owner, .. } => {
            format!("CREATE DATABASE {} OWNER {}", quoted(name, '"'), quoted(owner, '"'))
        }
    };
    client.batch_execute(&statement).await.map_err(|error| postgres_text(&error))?;
    drop(client);
    driver.join_next().await;
    Ok(())
}

async fn exists(client: &Client, catalog: &str, column: &str, name: &str) -> Result<bool, String> {
    let query = format!("SELECT 1 FROM {catalog} WHERE {column} = $1");
    let found = client.query_opt(&query, &[&name]).await.map_err(|error| postgres_text(&error))?;
    Ok(found.is_some())
}

/// Doubles the quotes inside. A password of ours is hexadecimal, so a backslash needs no care.
fn quoted(text: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", text.replace(quote, &doubled))
}

fn label(item: &AfterReady) -> String {
    match item {
        AfterReady::CreateRole { name, .. } => format!("create role {name}"),
        AfterReady::CreateDatabase { name, .. } => format!("create database {name}"),
    }
}

fn retriable(message: String) -> StartError {
    StartError { message, hint: None, retry: true }
}

#[cfg(test)]
mod tests;
