use std::ffi::OsStr;
use std::path::Path;

use super::plan::*;
use super::*;
use crate::probe::Probe;
use crate::process::{Command, RunAs};

const PASSWORD: &str = "5ec2e7";

fn wanted(preset: PresetKind, run_as: RunAs) -> Wanted {
    Wanted {
        preset,
        version: None,
        database: "shop".to_owned(),
        user: "me@home".to_owned(),
        password: PASSWORD.to_owned(),
        port: 5555,
        data_dir: "/state/data/db".into(),
        env: base_env(OsStr::new("/bin"), Path::new("/run/x"), None),
        run_as,
    }
}

fn binaries(version: Option<&str>) -> Binaries {
    Binaries {
        server: "/pg/bin/server".into(),
        initdb: Some("/pg/bin/initdb".into()),
        version: version.map(str::to_owned),
    }
}

fn commands(plan: &Plan) -> Vec<&Command> {
    let steps = plan.prepare.iter().filter_map(|step| match &step.action {
        Action::Run(command) | Action::CheckVersion { command, .. } | Action::CheckReachable { command, .. } => {
            Some(&**command)
        }
        _ => None,
    });
    steps.chain([&plan.main]).collect()
}

fn value(plan: &Plan, name: &str) -> String {
    plan.attributes[name].value.clone()
}

#[test]
fn no_argument_list_and_no_debug_text_holds_a_password() {
    let wanted = wanted(PresetKind::Postgres, RunAs::Caller);
    let plan = plan(&wanted, &binaries(Some("15")));
    for command in commands(&plan) {
        assert!(!command.args.iter().any(|arg| arg.to_string_lossy().contains(PASSWORD)), "{command:?}");
    }
    let texts = format!("{wanted:?} {:?} {:?}", plan.after_ready, plan.attributes);
    assert!(!texts.contains(PASSWORD), "{texts}");
    assert!(!plan.main.env.values().any(|value| value == PASSWORD), "the server needs no password in its environment");
}

#[test]
fn the_secret_attributes_of_postgres_are_its_url_and_password() {
    let plan = plan(&wanted(PresetKind::Postgres, RunAs::Caller), &binaries(None));
    let secret: Vec<&str> = plan.attributes.iter().filter(|(_, a)| a.secret).map(|(name, _)| name.as_str()).collect();
    assert_eq!(secret, ["password", "url"]);
    assert_eq!(value(&plan, "url"), "postgresql://me%40home:5ec2e7@127.0.0.1:5555/shop");
    assert_eq!([value(&plan, "host"), value(&plan, "port")], ["127.0.0.1", "5555"]);
    assert_eq!([value(&plan, "user"), value(&plan, "database")], ["me@home", "shop"]);
}

#[test]
fn redis_has_no_secrets_and_keeps_its_data() {
    let plan = plan(&wanted(PresetKind::Redis, RunAs::Account { uid: 1, gid: 1 }), &binaries(None));
    assert!(plan.attributes.values().all(|attribute| !attribute.secret));
    assert_eq!(value(&plan, "url"), "redis://127.0.0.1:5555");
    assert_eq!(plan.main.run_as, RunAs::Caller);
    assert_eq!(plan.main.dir, Path::new("/state/data/db/cluster"));
    assert!(plan.main.args.windows(2).any(|pair| pair == ["--appendonly", "yes"]));
    assert!(matches!(plan.probe, Probe::Redis { .. }));
}

#[test]
fn a_cluster_is_initialised_beside_its_place_and_only_once() {
    let plan = plan(&wanted(PresetKind::Postgres, RunAs::Caller), &binaries(Some("15")));
    let first: Vec<&Action> =
        plan.prepare.iter().filter(|step| step.when == When::FirstStart).map(|step| &step.action).collect();
    let (from, to) = ("/state/data/db/cluster.partial".into(), "/state/data/db/cluster".into());
    assert_eq!(first.last(), Some(&&Action::Rename { from, to }));
    assert_eq!(first.first(), Some(&&Action::RemoveTree("/state/data/db/cluster.partial".into())));
    assert_eq!(plan.marker, Path::new("/state/data/db/cluster/PG_VERSION"));
    assert_eq!(plan.stop_signal, libc::SIGINT);
}

#[test]
fn another_account_gets_the_data_and_must_reach_it_and_a_mapped_user_needs_neither() {
    let reach = |run_as| {
        let plan = plan(&wanted(PresetKind::Postgres, run_as), &binaries(Some("15")));
        assert!(commands(&plan).iter().all(|command| command.run_as == run_as));
        let account = Some((101, 104));
        let given = plan.prepare.iter().any(|s| matches!(&s.action, Action::Chown { account: a, .. } if *a == account));
        let asked = plan.prepare.iter().any(|s| matches!(&s.action, Action::CheckReachable { .. }));
        (given, asked)
    };
    assert_eq!(reach(RunAs::Account { uid: 101, gid: 104 }), (true, true));
    assert_eq!(reach(RunAs::MappedUser { uid: 65534, gid: 65534 }), (false, false));
}

#[test]
fn a_version_that_no_path_tells_is_asked_for_before_anything_is_made_with_it() {
    for preset in [PresetKind::Postgres, PresetKind::Redis] {
        let mut wanted = wanted(preset, RunAs::Caller);
        let asked = |wanted: &Wanted, version| {
            let plan = plan(wanted, &binaries(version));
            plan.prepare.iter().position(|step| matches!(step.action, Action::CheckVersion { .. }))
        };
        assert_eq!(asked(&wanted, None), None);
        wanted.version = Some("15".to_owned());
        assert_eq!(asked(&wanted, None), Some(1));
        assert_eq!(asked(&wanted, Some("15")), None);
    }
}

#[test]
fn the_superuser_needs_no_role_and_its_own_database_no_creation() {
    let mut wanted = wanted(PresetKind::Postgres, RunAs::Caller);
    assert_eq!(plan(&wanted, &binaries(None)).after_ready.len(), 2);
    wanted.user = "postgres".to_owned();
    wanted.database = "postgres".to_owned();
    assert_eq!(plan(&wanted, &binaries(None)).after_ready, []);
}

#[test]
fn a_requirement_gets_next_to_nothing_of_an_environment() {
    let env = base_env(OsStr::new("/bin"), Path::new("/run/x"), Some(OsStr::new("Europe/Rome")));
    let names: Vec<_> = env.keys().map(|name| name.to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["HOME", "LANG", "PATH", "TZ"]);
}
