//! The plan for PostgreSQL.
//!
//! The cluster is initialised beside its place and renamed into it, so a killed `initdb` never leaves half a cluster. The
//! superuser is always `postgres`; the wanted user is a role made after the start, so that a changed configuration finds
//! its user in an old cluster too. TCP on 127.0.0.1 with a password, no Unix socket (its path is short of room, and a
//! mapped or other account could not use one of ours), never peer authentication.

use std::collections::BTreeMap;
use std::path::Path;

use super::locate::Binaries;
use super::plan::{Action, AfterReady, Attribute, Plan, Step, Wanted};
use crate::probe::spec::{EVERY_DEFAULT, FAILURES_DEFAULT, Probe, Schedule, TIMEOUT_DEFAULT};
use crate::process::{Command, RunAs};

/// The superuser of every cluster.
const SUPERUSER: &str = "postgres";
/// The database that exists in every cluster.
const MAINTENANCE: &str = "postgres";
/// Fast shutdown: clients are cut off, the data is written (server-shutdown.html). TERM would wait for clients for ever.
const FAST_SHUTDOWN: i32 = libc::SIGINT;
/// Hands the password over without a file (it would need an owner and a place that the account can reach) and without
/// an argument (those are public): `initdb` reads it from the pipe.
const INITDB_SCRIPT: &str = r#"printf '%s\n' "$PGPASSWORD" | "$0" "$@" --pwfile=/dev/stdin"#;

pub(super) fn plan(wanted: &Wanted, binaries: &Binaries) -> Plan {
    Plan {
        marker: wanted.cluster().join("PG_VERSION"),
        prepare: prepare(wanted, binaries),
        main: main(wanted, binaries),
        stop_signal: FAST_SHUTDOWN,
        probe: Probe::Postgres { url: url(wanted, SUPERUSER, MAINTENANCE) },
        schedule: schedule(),
        after_ready: after_ready(wanted),
        attributes: attributes(wanted),
    }
}

/// The schedule of either store: stores answer at once or not at all.
pub(super) fn schedule() -> Schedule {
    Schedule { every: EVERY_DEFAULT, timeout: TIMEOUT_DEFAULT, failures: FAILURES_DEFAULT, successes: 1 }
}

fn prepare(wanted: &Wanted, binaries: &Binaries) -> Vec<Step> {
    let cluster = wanted.cluster();
    let partial = wanted.data_dir.join("cluster.partial");
    let mut steps = vec![Step::always(
        "make the data directory",
        // Another account has to pass through; what is in it is closed by itself.
        Action::CreateDir {
            path: wanted.data_dir.clone(),
            mode: if account(wanted).is_some() { 0o711 } else { 0o700 },
        },
    )];
    steps.extend(check_version(wanted, binaries));
    if let Some((uid, gid)) = account(wanted) {
        let path = wanted.data_dir.clone();
        let script = ["-c".into(), r#"cd "$0""#.into(), path.clone().into_os_string()];
        let command = Box::new(wanted.command(Path::new("/bin/sh"), script));
        let action = Action::CheckReachable { command, path, uid, gid };
        steps.push(Step::always("reach the data directory", action));
    }
    steps.extend(initialise(wanted, binaries, &partial));
    // The data may have been made under other rights: those of a user namespace, or of another account.
    let action = Action::Chown { path: cluster.clone(), account: account(wanted) };
    steps.push(Step::always("give the data to its account", action));
    steps.push(Step::always(
        "remove a stale lock file",
        Action::RemoveStaleLock { file: cluster.join("postmaster.pid"), dir: cluster },
    ));
    steps
}

fn check_version(wanted: &Wanted, binaries: &Binaries) -> Vec<Step> {
    let mut steps = Vec::new();
    if let (None, Some(version)) = (&binaries.version, &wanted.version) {
        let command = Box::new(wanted.command(&binaries.server, ["--version"]));
        let action = Action::CheckVersion { command, wanted: version.clone() };
        steps.push(Step::always("find the wanted version", action));
    }
    if let Some(version) = binaries.version.as_ref().or(wanted.version.as_ref()) {
        let file = wanted.cluster().join("PG_VERSION");
        steps.push(Step::always("use the data", Action::CheckData { file, version: version.clone() }));
    }
    steps
}

fn initialise(wanted: &Wanted, binaries: &Binaries, partial: &Path) -> Vec<Step> {
    let mut steps = vec![
        Step::first("clear an unfinished initialisation", Action::RemoveTree(partial.to_owned())),
        Step::first("make the cluster's directory", Action::CreateDir { path: partial.to_owned(), mode: 0o700 }),
    ];
    let action = Action::Chown { path: partial.to_owned(), account: account(wanted) };
    steps.push(Step::first("give the data to its account", action));
    steps.push(Step::first("initialise the cluster", Action::Run(Box::new(initdb(wanted, binaries, partial)))));
    let (from, to) = (partial.to_owned(), wanted.cluster());
    steps.push(Step::first("put the cluster in its place", Action::Rename { from, to }));
    steps
}

fn initdb(wanted: &Wanted, binaries: &Binaries, into: &Path) -> Command {
    let program = binaries.initdb.as_deref().unwrap_or(Path::new("initdb"));
    let mut args = vec!["-c".into(), INITDB_SCRIPT.into(), program.as_os_str().to_owned()];
    args.extend(["-D".into(), into.as_os_str().to_owned()]);
    // Synced by nobody: after a power cut in this very second the cluster is made anew by hand, not worth 0.5 s each time.
    let options =
        ["-U", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", LOCALE, "--no-sync", "--no-instructions"];
    args.extend(options.map(Into::into));
    let mut command = wanted.command(Path::new("/bin/sh"), args);
    command.env.insert("PGPASSWORD".into(), wanted.password.clone().into());
    command
}

/// UTF-8 with the rules of no country: the same order on every machine. Other systems have no such locale.
const LOCALE: &str = if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--no-locale" };

fn main(wanted: &Wanted, binaries: &Binaries) -> Command {
    let mut args = vec!["-D".into(), wanted.cluster().into_os_string(), "-p".into(), wanted.port.to_string().into()];
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        // Whatever a distribution's sample configuration says: what it has to say goes to our log stream.
        "logging_collector=off",
        "log_destination=stderr",
    ] {
        args.extend(["-c".into(), setting.into()]);
    }
    wanted.command(&binaries.server, args)
}

fn after_ready(wanted: &Wanted) -> Vec<AfterReady> {
    let admin = url(wanted, SUPERUSER, MAINTENANCE);
    let mut after = Vec::new();
    if wanted.user != SUPERUSER {
        let (name, password) = (wanted.user.clone(), wanted.password.clone());
        after.push(AfterReady::CreateRole { url: admin.clone(), name, password });
    }
    if wanted.database != MAINTENANCE {
        let (name, owner) = (wanted.database.clone(), wanted.user.clone());
        after.push(AfterReady::CreateDatabase { url: admin, name, owner });
    }
    after
}

fn attributes(wanted: &Wanted) -> BTreeMap<String, Attribute> {
    [
        ("url", Attribute::secret(url(wanted, &wanted.user, &wanted.database))),
        ("host", Attribute::open("127.0.0.1")),
        ("port", Attribute::open(wanted.port.to_string())),
        ("user", Attribute::open(&*wanted.user)),
        ("password", Attribute::secret(&*wanted.password)),
        ("database", Attribute::open(&*wanted.database)),
    ]
    .map(|(name, attribute)| (name.to_owned(), attribute))
    .into()
}

fn url(wanted: &Wanted, user: &str, database: &str) -> String {
    let (user, password, database) = (encode(user), encode(&wanted.password), encode(database));
    format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", wanted.port)
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn account(wanted: &Wanted) -> Option<(u32, u32)> {
    match wanted.run_as {
        RunAs::Account { uid, gid } => Some((uid, gid)),
        RunAs::Caller | RunAs::MappedUser { .. } | RunAs::User { .. } => None,
    }
}
