//! What good files mean.

use std::time::Duration;

use envctl_actors::process::Scope;
use envctl_supervisors::spec::{
    Backoff, Condition, Edge, Escalate, Flags, GroupSpec, Readiness, Restart, Shutdown, Then,
};

use super::{Project, codes, effective, good, group};
use crate::spec::{Ask, Inherit, LogSpec, ProbePort, Run, StopAsk, StopStep, UnitKind, UnitSpec};

/// The example of the guide.
pub(super) const SHOP: &str = r#"
name = "shop"

[requirements.postgres]
version = "15"

[tasks.migrate]
sh = "alembic upgrade head"
needs = { postgres = "ready" }

[services.api]
cmd = ["uvicorn", "app:app", "--port", "${api.port}"]
port = 8000
env = { DATABASE_URL = "${postgres.url}" }
needs = { postgres = { is = "ready", then = "restart" }, migrate = "done" }
ready = { http = "/healthz", within = "30s" }
alive = { http = "/healthz", every = "10s", failures = 3 }
restart = "permanent"
backoff = { base = "200ms", max = "30s" }
stop = { signal = "INT", grace = "5s" }

[services.worker]
cmd = "python -m 'shop.worker'"
needs = ["api", "migrate"]
restart = "on-failure"
backoff = "none"

[groups.core]
members = ["api", "worker"]
strategy = "one_for_one"
escalate = "project"

[logs]
max_bytes = "64MiB"
"#;

fn edge(on: &str, is: Condition, then: Then) -> Edge {
    Edge { on: on.parse().unwrap(), is, then }
}

fn command(unit: &UnitSpec) -> Vec<String> {
    match &unit.kind {
        UnitKind::Service(program) | UnitKind::Task(program) => match &program.run {
            Run::Command(words) => words.iter().map(|word| word.value.to_string()).collect(),
            Run::Shell(line) => vec!["sh".into(), line.clone()],
        },
        UnitKind::Requirement(_) => Vec::new(),
    }
}

#[test]
fn the_example_of_the_guide_is_understood() {
    let loaded = good(SHOP);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let spec = &loaded.spec;
    assert_eq!(spec.name.as_str(), "shop");
    assert_eq!(
        spec.units.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["postgres", "migrate", "api", "worker"]
    );
    assert_eq!(spec.inherit, Inherit::All);
    assert_eq!(spec.logs.max_bytes, 64 << 20);

    let api = &spec.units["api"];
    assert_eq!(command(api), ["uvicorn", "app:app", "--port", "${api.port}"]);
    assert_eq!(
        api.child.needs,
        [edge("postgres", Condition::Ready, Then::Restart), edge("migrate", Condition::Done, Then::Ignore)]
    );
    assert_eq!(api.child.readiness, Readiness::Within(Duration::from_secs(30)));
    assert_eq!(api.child.restart, Restart::Permanent);
    assert_eq!(api.child.shutdown, Shutdown::Timeout(Duration::from_secs(5)));
    assert!(matches!(api.stop[..], [StopStep { ask: StopAsk::Signal(2), scope: Scope::All, .. }]));
    assert_eq!(api.at.line, 11);
    let ready = api.ready.as_ref().unwrap();
    assert!(
        matches!(&ready.ask, Ask::Http { port: ProbePort::Own(port), path } if port.as_str() == "port" && path == "/healthz")
    );
    assert_eq!(api.alive.as_ref().unwrap().failures, 3);

    let worker = &spec.units["worker"];
    assert_eq!(command(worker), ["python", "-m", "shop.worker"]);
    assert_eq!(worker.child.restart, Restart::Transient);
    assert_eq!((worker.child.backoff, worker.child.unstable_max), (Backoff::None, None));
    assert_eq!(worker.child.readiness, Readiness::Unreported);

    let core = GroupSpec { escalate: Escalate::Project, ..group("core", &["api", "worker"]) };
    assert_eq!(spec.groups, [core]);
    assert_eq!(spec.flags, Flags::default());
}

#[test]
fn a_requirement_is_permanent_reports_readiness_and_wishes_its_usual_port() {
    let loaded = good(
        "[requirements.db]\npreset = \"postgres\"\ndatabase = \"x\"\nready = { within = \"2m\" }\n[requirements.redis]\nport = 7000\n",
    );
    let db = &loaded.spec.units["db"];
    assert!(
        matches!(&db.kind, UnitKind::Requirement(spec) if spec.preset.name == "postgres" && spec.options["database"] == "x")
    );
    assert_eq!(db.child.restart, Restart::Permanent);
    assert_eq!(db.child.readiness, Readiness::Within(Duration::from_secs(120)));
    assert_eq!(db.ports["port"].base, 5432);
    assert_eq!(loaded.spec.units["redis"].ports["port"].base, 7000);
}

#[test]
fn a_need_without_a_condition_waits_for_the_most_its_target_reports() {
    let loaded = good(
        "[requirements.redis]\n[tasks.t]\nsh = \"true\"\n[services.silent]\ncmd = [\"s\"]\n[services.port]\ncmd = [\"p\"]\nport = 1\n\
         [services.api]\ncmd = [\"a\"]\nneeds = [\"redis\", \"t\", \"silent\", \"port\"]\n[tasks.u]\nsh = \"true\"\nneeds = { port = { then = \"stop\" } }\n",
    );
    let conditions: Vec<Condition> = loaded.spec.units["api"].child.needs.iter().map(|edge| edge.is).collect();
    assert_eq!(conditions, [Condition::Ready, Condition::Done, Condition::Started, Condition::Ready]);
    assert_eq!(loaded.spec.units["u"].child.needs, [edge("port", Condition::Ready, Then::Stop)]);
    assert_eq!(loaded.spec.units["t"].child.restart, Restart::Temporary);
}

#[test]
fn a_port_without_a_probe_is_asked_over_tcp() {
    let loaded = good(
        "[services.a]\ncmd = [\"a\"]\nport = 80\n[services.b]\ncmd = [\"b\"]\nports = { http = 81, admin = 82 }\n",
    );
    for (unit, port) in [("a", "port"), ("b", "http")] {
        let probe = loaded.spec.units[unit].ready.as_ref().unwrap();
        assert!(matches!(&probe.ask, Ask::Tcp(ProbePort::Own(own)) if own.as_str() == port), "{unit}");
        assert_eq!(loaded.spec.units[unit].child.readiness, Readiness::Within(Duration::from_secs(60)));
    }
}

#[test]
fn a_probe_asks_the_port_it_names_and_its_own_base_is_its_lease() {
    let loaded = good(
        "[services.a]\ncmd = [\"a\"]\nports = { http = 81, admin = 82 }\nready = { http = \"/\", port = \"admin\" }\nalive = { tcp = 81 }\n\
         [services.b]\ncmd = [\"b\"]\nready = { tcp = 9999 }\nalive = { exec = [\"check\", \"$x\"] }\n[services.c]\ncmd = [\"c\"]\nready = { log = 'up \\d+' }\n",
    );
    let ask = |unit: &str| loaded.spec.units[unit].ready.as_ref().map(|probe| probe.ask.clone());
    assert!(matches!(ask("a"), Some(Ask::Http { port: ProbePort::Own(own), .. }) if own.as_str() == "admin"));
    let alive = loaded.spec.units["a"].alive.as_ref().unwrap();
    assert!(matches!(&alive.ask, Ask::Tcp(ProbePort::Own(own)) if own.as_str() == "http"));
    assert!(matches!(ask("b"), Some(Ask::Tcp(ProbePort::Fixed(9999)))));
    assert!(matches!(ask("c"), Some(Ask::Log(pattern)) if pattern.is_match(b"is up 12")));
}

#[test]
fn what_is_not_carried_out_yet_is_told() {
    let text = "[services.a]\ncmd = [\"a\"]\nwatch = [\"*.py\"]\nprepare = { sh = \"x\" }\n";
    assert_eq!(codes(text), ["unsupported"; 2]);
}

#[test]
fn a_unit_keeps_what_it_says_and_else_what_the_project_says() {
    let text = r#"
[logs]
max_bytes = "64MiB"
max_age = "7d"
[services.a]
cmd = ["a"]
[services.b]
cmd = ["b"]
logs = { max_bytes = "8MiB", max_segments = 4, segment_age = "1h", compress = false }
[requirements.redis]
logs.max_bytes = "1MiB"
"#;
    let spec = good(text).spec;
    let of = |unit: &str| spec.logs.with(&spec.units[unit].logs);
    let day = Duration::from_secs(24 * 3600);
    let project = LogSpec { max_bytes: 64 << 20, segment_bytes: 16 << 20, max_age: Some(7 * day), ..LogSpec::DEFAULT };
    assert_eq!((of("a"), of("a").segment_age), (project.clone(), None));
    let own = LogSpec {
        max_bytes: 8 << 20,
        segment_bytes: 8 << 20,
        max_segments: 4,
        segment_age: Some(day / 24),
        compress: false,
        ..project
    };
    assert_eq!(of("b"), own);
    assert_eq!((of("redis").max_bytes, of("redis").segment_bytes), (1 << 20, 1 << 20));
}

#[test]
fn what_looks_like_a_slip_is_told_and_runs() {
    assert_eq!(codes("[services.a]\ncmd = \"make && run\"\n"), ["shell-in-cmd"]);
    assert_eq!(codes("[services.a]\nport = 1\nsh = \"run ${a.port} ${HOME}\"\n"), ["reference-in-sh"]);
    let hidden = "[services.a]\nport = 1\nsh = \"run ${HOME} ./x ${b.x} ${HOME.a} ${a.port}\"\n";
    assert_eq!(codes(hidden), ["reference-in-sh"]);
    assert!(codes("[services.a]\nport = 1\nsh = \"run ${HOME} ./a.b ${b.x} a.port\"\n").is_empty());
    assert_eq!(codes("[services.a]\ncmd = [\"a\"]\ndir = \"nowhere\"\n"), ["missing-file"]);
    let unneeded = "[requirements.postgres]\n[services.a]\ncmd = [\"a\"]\nenv = { U = \"${postgres.url}\" }\n";
    assert_eq!(codes(unneeded), ["not-needed"]);
    assert!(codes(&format!("{unneeded}needs = [\"t\"]\n[tasks.t]\nsh = \"t\"\nneeds = [\"postgres\"]\n")).is_empty());
}

#[test]
fn a_shell_line_is_never_touched() {
    let line = "echo $HOME ${A:-b} $$ '%' > x";
    let loaded = good(&format!("[tasks.t]\nsh = \"{line}\"\n"));
    assert_eq!(command(&loaded.spec.units["t"]), ["sh", line]);
}

#[test]
fn a_directory_is_absolute_and_may_be_a_link_inside_the_project() {
    let project =
        Project::new(&[("envctl.toml", "[services.a]\ncmd = [\"a\"]\ndir = \"x/../link\"\n"), ("real/file", "")]);
    std::os::unix::fs::symlink("real", project.root().join("link")).unwrap();
    let loaded = project.load().unwrap();
    let UnitKind::Service(program) = &loaded.spec.units["a"].kind else { panic!("a service") };
    assert_eq!(program.dir, project.root().join("link"));
}

#[test]
fn a_project_without_a_name_has_that_of_its_directory() {
    let project = Project::new(&[("My App (2)/envctl.toml", "[tasks.t]\nsh = \"true\"\n")]);
    let source = crate::config::discover(&project.root().join("My App (2)"), None).unwrap();
    assert_eq!(crate::config::load(&source).unwrap().spec.name.as_str(), "my-app-2");
}

#[test]
fn secrets_are_masked_by_name_and_in_urls() {
    let project = Project::new(&[(
        "envctl.toml",
        "[env]\nSTRIPE_API_KEY = \"sk\"\nURL = \"http://u:geheim@h/x\"\nPLAIN = \"a@b\"\n[services.token]\ncmd = [\"x\"]\n",
    )]);
    let loaded = project.load().unwrap();
    let shown = |key: &str| loaded.effective().into_iter().find(|value| value.key == key).map(|value| value.masked());
    assert_eq!(shown("env.STRIPE_API_KEY").as_deref(), Some("\"•••\""));
    assert_eq!(shown("env.URL").as_deref(), Some("\"http://u:•••@h/x\""));
    assert_eq!(shown("env.PLAIN").as_deref(), Some("\"a@b\""));
    assert_eq!(shown("services.token.cmd").as_deref(), Some("[\"x\"]"));
    assert_eq!(effective(&loaded, &project.root(), "env.URL").unwrap().1, "envctl.toml:3");
}

#[test]
fn a_file_with_windows_line_ends_and_a_byte_order_mark_is_read() {
    let loaded = good(&format!("\u{feff}{}", SHOP.replace('\n', "\r\n")));
    assert_eq!(loaded.spec.units.len(), 4);
}

#[test]
fn the_examples_of_the_repository_are_good() {
    for example in ["quickstart", "shop"] {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example);
        let source = crate::config::discover(&root, None).unwrap_or_else(|told| panic!("{told}"));
        let loaded = crate::config::load(&source).unwrap_or_else(|told| panic!("{told}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}

#[test]
fn the_client_form_of_a_diagnostic_names_file_line_and_column() {
    let project = Project::new(&[("envctl.toml", "[services.b]\ncmd = [\"ü\", 3]\n")]);
    let told = project.load().unwrap_err();
    let view = serde_json::to_value(told.list[0].view()).unwrap();
    assert_eq!(
        view,
        serde_json::json!({
            "code": "wrong-type",
            "severity": "error",
            "message": "each element of `cmd` of service `b` must be a string, not an integer",
            "file": project.root().join("envctl.toml"),
            "line": 2,
            "column": 13,
            "hint": "write \"3\" with quotes",
        })
    );
}

#[test]
fn a_list_of_stops_is_taken_in_order_and_its_sum_is_the_grace() {
    let text = "on_daemon_death = 'stop'\n[services.a]\ncmd = 'a'\nstop = [{ signal = 'INT', scope = 'main', after = '2s' }, \
                { sh = 'drain', scope = 'group', after = '500ms' }]\n[services.b]\ncmd = 'b'\nstop = { cmd = 'b --quit' }\n";
    let spec = good(text).spec;
    assert!(spec.end_with_daemon);
    let a = &spec.units["a"];
    assert_eq!(a.child.shutdown, Shutdown::Timeout(Duration::from_millis(2500)));
    assert!(matches!(
        &a.stop[..],
        [
            StopStep { ask: StopAsk::Signal(2), scope: Scope::Main, .. },
            StopStep { ask: StopAsk::Run(Run::Shell(line)), scope: Scope::Group, .. },
        ] if line == "drain"
    ));
    let b = &spec.units["b"];
    assert_eq!(b.child.shutdown, Shutdown::Timeout(Duration::from_secs(5)));
    assert!(
        matches!(&b.stop[..], [StopStep { ask: StopAsk::Run(Run::Command(words)), scope: Scope::All, .. }] if words.len() == 2)
    );
}

#[test]
fn a_terminal_has_a_size_and_requirements_have_none() {
    use envctl_actors::process::WindowSize;
    let tty = |text: &str| good(&format!("[tasks.t]\ncmd = 'a'\n{text}")).spec.units["t"].kind.tty();
    assert_eq!(tty(""), None);
    assert_eq!(tty("tty = false"), None);
    assert_eq!(tty("tty = true"), Some(WindowSize { rows: 24, columns: 80 }));
    assert_eq!(tty("tty = { columns = 120 }"), Some(WindowSize { rows: 24, columns: 120 }));
    assert_eq!(codes("[requirements.redis]\ntty = true\n"), ["no-terminal"]);
    assert_eq!(codes("[services.a]\ncmd = 'a'\ntty = 'yes'\n"), ["wrong-type"]);
    assert_eq!(codes("[services.a]\ncmd = 'a'\ntty = { rows = 0 }\n"), ["out-of-range"]);
    assert_eq!(codes("[services.a]\ncmd = 'a'\ntty = { rows = 70000 }\n"), ["out-of-range"]);
    assert_eq!(codes("[services.a]\ncmd = 'a'\ntty = { cols = 80 }\n"), ["unknown-key"]);
}
