use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::plan::*;
use super::preset::{Given, HOST, builtin, builtin_names};
use super::*;
use crate::probe::Probe;
use crate::process::{Command, RunAs};

const PASSWORD: &str = "5ec2e7";

fn wanted(name: &str, run_as: RunAs) -> Wanted {
    let preset = Arc::new(builtin(name).unwrap());
    let ports: BTreeMap<String, u16> =
        preset.ports.keys().zip(5555..).map(|(name, port)| (name.clone(), port)).collect();
    let secrets = preset.secrets.keys().map(|secret| (secret.clone(), PASSWORD.to_owned())).collect();
    let options =
        BTreeMap::from([("user".to_owned(), "me@home".to_owned()), ("database".to_owned(), "shop".to_owned())]);
    let given =
        Given { project: "shop", unit: "db", host: HOST, ports: ports.clone(), secrets, options, ..Given::default() };
    Wanted {
        scope: preset.scope(&given).unwrap(),
        preset,
        name: name.to_owned(),
        version: None,
        ports,
        data_dir: "/state/data/db".into(),
        cache: Some("/cache".into()),
        env: base_env(OsStr::new("/bin"), Path::new("/run/x"), None),
        run_as,
        init: Vec::new(),
    }
}

fn binaries(wanted: &Wanted, version: Option<&str>) -> Binaries {
    let tools = wanted.preset.native.as_ref().unwrap().tools.keys();
    Binaries {
        server: "/pg/bin/server".into(),
        tools: tools.map(|tool| (tool.clone(), Path::new("/pg/bin").join(tool))).collect(),
        version: version.map(str::to_owned),
    }
}

fn planned(wanted: &Wanted, version: Option<&str>) -> Plan {
    plan(wanted, &binaries(wanted, version)).unwrap()
}

fn commands(plan: &Plan) -> Vec<&Command> {
    let steps = plan.prepare.iter().filter_map(|step| match &step.action {
        Action::Run(command)
        | Action::Make { command, .. }
        | Action::CheckVersion { command, .. }
        | Action::CheckReachable { command, .. } => Some(&**command),
        _ => None,
    });
    steps.chain([&plan.main]).collect()
}

#[test]
fn no_argument_list_and_no_debug_text_of_any_preset_holds_a_secret() {
    for name in builtin_names().filter(|name| builtin(name).is_some_and(|preset| preset.native.is_some())) {
        let wanted = wanted(name, RunAs::Caller);
        let plan = planned(&wanted, None);
        for command in commands(&plan) {
            assert!(!command.args.iter().any(|arg| arg.to_string_lossy().contains(PASSWORD)), "{name}: {command:?}");
        }
        let texts = format!("{wanted:?} {:?} {:?}", plan.after_ready, plan.probe);
        assert!(!texts.contains(PASSWORD), "{name}: {texts}");
        assert!(!plan.main.env.values().any(|value| value == PASSWORD), "{name}: the server's own environment");
    }
}

#[test]
fn redis_keeps_its_data_and_our_rights() {
    let plan = planned(&wanted("redis", RunAs::Caller), None);
    assert_eq!(plan.main.run_as, RunAs::Caller);
    assert_eq!(plan.main.dir, Path::new("/state/data/db/cluster"));
    assert!(plan.main.args.windows(2).any(|pair| pair == ["--appendonly", "yes"]));
    assert!(plan.main.args.windows(2).any(|pair| pair == ["--port", "5555"]));
    assert!(matches!(plan.probe, Probe::Server { port: 5555, own: true, .. }), "{:?}", plan.probe);
}

#[test]
fn a_cluster_is_initialised_beside_its_place_and_only_once() {
    let plan = planned(&wanted("postgres", RunAs::Caller), Some("15"));
    let first: Vec<&Action> =
        plan.prepare.iter().filter(|step| step.when == When::FirstStart).map(|step| &step.action).collect();
    let (from, to) = ("/state/data/db/cluster.partial".into(), "/state/data/db/cluster".into());
    assert_eq!(first.last(), Some(&&Action::Rename { from, to }));
    assert_eq!(first.first(), Some(&&Action::RemoveTree("/state/data/db/cluster.partial".into())));
    assert_eq!(plan.marker.as_deref(), Some(Path::new("/state/data/db/cluster/PG_VERSION")));
    assert_eq!(plan.stop, (libc::SIGINT, crate::process::Scope::Main));
}

#[test]
fn another_account_gets_the_data_and_must_reach_it_and_a_mapped_user_needs_neither() {
    let reach = |run_as| {
        let plan = planned(&wanted("postgres", run_as), Some("15"));
        assert!(commands(&plan).iter().all(|command| command.run_as == run_as));
        let account = Some((101, 104));
        let given = plan.prepare.iter().any(|s| matches!(&s.action, Action::Chown { account: a, .. } if *a == account));
        let asked = plan.prepare.iter().any(|s| matches!(&s.action, Action::CheckReachable { .. }));
        let kept = plan.prepare.iter().any(|s| matches!(&s.action, Action::Make { cache: Some(_), .. }));
        (given, asked, kept)
    };
    assert_eq!(reach(RunAs::Account { uid: 101, gid: 104 }), (true, true, false));
    assert_eq!(reach(RunAs::MappedUser { uid: 65534, gid: 65534 }), (false, false, true));
}

#[test]
fn a_version_that_no_path_tells_is_asked_for_before_anything_is_made_with_it() {
    for name in ["postgres", "redis"] {
        let mut wanted = wanted(name, RunAs::Caller);
        let asked = |wanted: &Wanted, version| {
            let plan = planned(wanted, version);
            plan.prepare.iter().position(|step| matches!(step.action, Action::CheckVersion { .. }))
        };
        assert_eq!(asked(&wanted, None), None);
        wanted.version = Some("15".to_owned());
        assert_eq!(asked(&wanted, None), Some(1));
        assert_eq!(asked(&wanted, Some("15")), None);
    }
}

#[test]
fn a_file_of_the_project_is_run_through_the_servers_own_protocol_or_client() {
    for (name, by_client) in [("postgres", false), ("mariadb", true)] {
        let wanted = Wanted { init: vec![Init::Sql("/p/schema.sql".into())], ..wanted(name, RunAs::Caller) };
        let plan = planned(&wanted, None);
        let last = &plan.after_ready.last().unwrap().work;
        assert_eq!(matches!(last, Work::Run(command) if command.stdin.is_some()), by_client, "{last:?}");
    }
}

#[test]
fn a_requirement_gets_next_to_nothing_of_an_environment() {
    let env = base_env(OsStr::new("/bin"), Path::new("/run/x"), Some(OsStr::new("Europe/Rome")));
    let names: Vec<_> = env.keys().map(|name| name.to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["HOME", "LANG", "PATH", "TZ"]);
}
