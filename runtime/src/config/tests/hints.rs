//! No error without a hint: every rule is broken once, and all that is told says what to write instead.

use std::collections::BTreeSet;

use super::{Project, hints_of, without_hint};
use crate::config::{Diagnostics, Severity, Source, UNITS_MAX, discover, load};

/// A service that is good, for mistakes beside it.
const API: &str = "[services.api]\ncmd = [\"api\"]\n";

/// Lines below [`API`], each with the code of the mistake that is in it.
const IN_A_SERVICE: &[(&str, &str)] = &[
    ("unknown-key", "frobnicate = 1"),
    ("wrong-type", "critical = \"yes\""),
    ("wrong-type", "critical = \"maybe\""),
    ("wrong-type", "intensity = \"5\""),
    ("wrong-type", "intensity = 1.5"),
    ("wrong-type", "description = 1979-05-27"),
    ("wrong-type", "description = []"),
    ("wrong-type", "period = 30"),
    ("wrong-type", "period = true"),
    ("wrong-type", "port = \"8000\""),
    ("wrong-type", "port = []"),
    ("wrong-type", "stop = 1"),
    ("wrong-type", "needs = \"db\""),
    ("wrong-type", "needs = { db = 1 }"),
    ("wrong-type", "needs = [1]"),
    ("wrong-type", "env = [\"A=1\"]"),
    ("wrong-type", "env_file = 1"),
    ("wrong-type", "backoff = 1"),
    ("wrong-type", "ready = 1"),
    ("wrong-type", "ready = { tcp = [] }"),
    ("out-of-range", "intensity = -1"),
    ("out-of-range", "period = \"0s\""),
    ("out-of-range", "port = 0"),
    ("bad-duration", "period = \"5 fortnights\""),
    ("bad-value", "restart = \"sometimes\""),
    ("bad-value", "stop = { signal = \"TREM\" }"),
    ("bad-value", "backoff = { base = \"2s\", max = \"1s\" }"),
    ("bad-value", "escalate = \"everything\""),
    ("no-group", "escalate = \"group\""),
    ("unsupported", "inherit = false"),
    ("bad-name", "ports = { \"A B\" = 1 }"),
    ("bad-name", "ports = { \"\" = 1 }"),
    ("nul", "description = \"\\u0000\""),
    ("bad-env-name", "env = { \"A=B\" = \"1\" }"),
    ("bad-env-name", "env = { ENVCTL_RT_VARS = \"1\" }"),
    ("bad-template", "env = { A = \"${HOME}\" }"),
    ("unknown-unit", "env = { A = \"${x.y}\" }"),
    ("unknown-attribute", "env = { A = \"${api.port}\" }"),
    ("missing-file", "env_file = \".env\""),
    ("unreadable", "env_file = \".\""),
    ("outside", "dir = \"..\""),
    ("not-a-directory", "dir = \"envctl.toml\""),
    ("two-commands", "sh = \"api\""),
    ("self-need", "needs = [\"api\"]"),
    ("unknown-unit", "needs = [\"databse\"]"),
    ("bad-probe", "ready = { within = \"1s\" }"),
    ("bad-probe", "ready = { tcp = 1, log = \"x\" }"),
    ("bad-probe", "ready = { tcp = 1, port = 1 }"),
    ("bad-probe", "ready = { tcp = true }"),
    ("bad-probe", "ready = { tcp = \"http\" }"),
    ("bad-probe", "ready = \"http://localhost/\""),
    ("bad-probe", "ready = { http = \"/${api.port}\", port = 1 }"),
    ("bad-probe", "alive = { log = \"x\" }"),
    ("bad-regex", "ready = { log = \"(\" }"),
    ("no-command", "ready = { sh = \"\" }"),
    ("no-command", "ready = { exec = [] }"),
    ("bad-value", "ready = { exec = \"don't\" }"),
];

/// Whole files, each with the code of the mistake that is in it.
const FILES: &[(&str, &str)] = &[
    ("no-units", ""),
    ("no-command", "[services.a]\n"),
    ("bad-name", "[services.\"My Service\"]\ncmd = [\"a\"]\n"),
    ("bad-name", "[services.\"!\"]\ncmd = [\"a\"]\n"),
    ("wrong-type", "services = 1\n"),
    ("wrong-type", "[services]\napi = \"x\"\n"),
    ("wrong-type", "[services.api]\ncmd = 7\n"),
    ("wrong-type", "inherit = 1\n"),
    ("name-twice", "[services.a]\ncmd = [\"a\"]\n[tasks.a]\nsh = \"a\"\n"),
    ("name-twice", "[services.a-b]\ncmd = [\"a\"]\n[services.a_b]\ncmd = [\"a\"]\n"),
    ("port-twice", "[services.a]\ncmd = [\"a\"]\nport = 1\n[services.b]\ncmd = [\"b\"]\nport = 1\n"),
    ("cycle", "[services.a]\ncmd = [\"a\"]\nneeds = [\"b\"]\n[services.b]\ncmd = [\"b\"]\nneeds = [\"a\"]\n"),
    ("twice", "[services.a]\ncmd = [\"a\"]\nneeds = [\"b\", \"b\"]\n[services.b]\ncmd = [\"b\"]\n"),
    ("bad-condition", "[services.a]\ncmd = [\"a\"]\n[tasks.b]\nsh = \"b\"\nneeds = { a = \"ready\" }\n"),
    ("bad-condition", "[services.a]\ncmd = [\"a\"]\n[tasks.b]\nsh = \"b\"\nneeds = { a = \"done\" }\n"),
    ("bad-condition", "[tasks.a]\nsh = \"a\"\n[tasks.b]\nsh = \"b\"\nneeds = { a = \"ready\" }\n"),
    ("bad-probe", "[tasks.a]\nsh = \"a\"\nready = { tcp = 80 }\n"),
    ("unknown-preset", "[requirements.sqlite]\n"),
    ("unknown-option", "[requirements.nats]\ndatabase = \"x\"\n"),
    ("bad-requirement", "[requirements.redis]\ndatabase = \"x\"\n"),
    ("bad-requirement", "[requirements.redis]\ndatabase = \"256\"\n"),
    ("bad-requirement", "[requirements.nats]\nshare = \"project\"\n"),
    ("bad-requirement", "[requirements.postgres]\ntemplate = \"main\"\n"),
    ("bad-requirement", "[requirements.postgres]\nshare = \"machine\"\nurl = \"postgres://h/d\"\n"),
    ("bad-requirement", "[requirements.redis]\nshare = \"project\"\ndatabase = \"3\"\n"),
    ("bad-value", "[requirements.postgres]\nshare = \"all\"\n"),
    ("unknown-option", "[requirements.postgres]\noptions = { databse = \"x\" }\n"),
    ("bad-requirement", "[requirements.redis]\ndriver = \"native\"\nurl = \"redis://h\"\n"),
    ("bad-requirement", "[requirements.redis]\nhost = \"h\"\nurl = \"redis://h\"\n"),
    ("bad-requirement", "[requirements.redis]\npassword = \"x\"\n"),
    ("bad-requirement", "[requirements.redis]\nhost = \"h\"\ninit = [\"a.sql\"]\n"),
    (
        "bad-requirement",
        "presets.x = { title = \"X\", probe = { tcp = true }, ports = { port = 1 }, external = { schemes = [\"x\"] } }\n[requirements.x]\ndriver = \"native\"\n",
    ),
    ("bad-init", "[requirements.redis]\ninit = [{ inputs = [\"a\"] }]\n"),
    ("wrong-type", "[requirements.redis]\ninit = \"a.sql\"\n"),
    ("bad-preset", "[presets.x]\ntitle = 1\n"),
    ("bad-preset", "[presets.x]\ntitle = \"X\"\nprobe = { tcp = true }\n"),
    ("bad-preset", "[presets.x]\ntitle = \"X\"\nprobe = { tpc = true }\n"),
    ("bad-value", "[requirements.postgres]\nversion = \"\"\n"),
    (
        "secret-in-cmd",
        "[requirements.postgres]\n[tasks.a]\ncmd = [\"a\", \"${postgres.url}\"]\nneeds = [\"postgres\"]\n",
    ),
    ("out-of-range", "[logs]\nmax_bytes = \"0B\"\n"),
    ("out-of-range", "[logs]\nmax_bytes = \"1MiB\"\nsegment_bytes = \"2MiB\"\n"),
    ("out-of-range", "[logs]\nmax_segments = 1\n"),
    ("out-of-range", "[logs]\nmax_age = \"0s\"\n"),
    ("out-of-range", "[logs]\nmax_age = \"1h\"\nsegment_age = \"2h\"\n"),
    ("out-of-range", "[services.a]\ncmd = [\"a\"]\nlogs = { max_bytes = \"1MiB\", segment_bytes = \"2MiB\" }\n"),
    ("wrong-type", "[logs]\ncompress = \"yes\"\n"),
    ("unknown-key", "[services.a]\ncmd = [\"a\"]\nlogs.max_size = \"1MiB\"\n"),
    ("bad-size", "[logs]\nmax_bytes = \"256 megs\"\n"),
    ("bad-group", "[services.a]\ncmd = [\"a\"]\n[groups.g]\n"),
    ("bad-group", "[services.a]\ncmd = [\"a\"]\n[groups.g]\nmembers = [\"g\"]\n"),
    ("twice", "[services.a]\ncmd = [\"a\"]\n[groups.g]\nmembers = [\"a\", \"a\"]\n"),
    ("unknown-unit", "[services.a]\ncmd = [\"a\"]\n[groups.g]\nmembers = [\"wroker\"]\n"),
    ("bad-group", "[services.a]\ncmd = [\"a\"]\n[groups.g]\nmembers = []\n"),
    ("bad-value", "[services.a]\ncmd = [\"a\"]\n[groups.g]\nmembers = [\"a\"]\nstrategy = \"all_for_one\"\n"),
    ("name-twice", "[services.a]\ncmd = [\"a\"]\n[groups.a]\nmembers = [\"a\"]\n"),
    ("shared-budget", "[services.a]\ncmd = [\"a\"]\nperiod = \"1s\"\n[supervision]\n"),
    ("shared-budget", "[services.a]\ncmd = [\"a\"]\nintensity = 1\n[groups.g]\nmembers = [\"a\"]\n"),
    (
        "group-order",
        "[services.a]\ncmd = [\"a\"]\nneeds = [\"b\"]\n[services.b]\ncmd = [\"b\"]\n[groups.g]\nmembers = [\"a\", \"b\"]\n",
    ),
    (
        "unsupported",
        "[services.a]\ncmd = [\"a\"]\nneeds = [\"g\"]\n[services.b]\ncmd = [\"b\"]\n[groups.g]\nmembers = [\"b\"]\n",
    ),
];

/// Files that are no TOML, each with a part of the hint.
const NO_TOML: &[(&str, &str)] = &[
    ("[services.api\n", "`]`"),
    ("[[services.api\n", "one pair of brackets"),
    ("a = [1\n", "`]`"),
    ("a = { b = 1\n", "`}`"),
    ("a = [\"1\" \"2\"]\n", "`,` between the elements"),
    ("a = { b = 1 c = 2 }\n", "`,` between the pairs"),
    ("a = [1,,2]\n", "take one `,` away"),
    ("a = 1\na = 2\n", "keep one of the two"),
    ("[a]\n[a]\n", "keep one of the two"),
    ("name\n", "write `=` and a value behind it"),
    ("name =\n", "write a value after `=`"),
    ("name = shop\n", "in quotes"),
    ("my key = 1\n", "several words"),
    ("a = \"shop\n", "with the quote it begins with"),
    ("a = 'shop\n", "with the quote it begins with"),
    ("a = \"C:\\users\"\n", "backslash"),
    ("a = 1 b = 2\n", "one pair a line"),
    ("a = 007\n", "leading zeros"),
    ("ä = 1\n", "put the key in quotes"),
    ("%%%\n", "write"),
];

fn refused(name: &str, result: Result<crate::config::Loaded, Diagnostics>) -> Diagnostics {
    match result {
        Ok(_) => panic!("{name} was accepted"),
        Err(diagnostics) => diagnostics,
    }
}

/// What is told of `text`, which must hold the mistake `code`; errors without a hint are added to `wrong`.
fn check(code: &str, text: &str, wrong: &mut Vec<String>) {
    let diagnostics = refused(text, Project::new(&[("envctl.toml", text)]).load());
    if !diagnostics.list.iter().any(|found| found.severity == Severity::Error && found.code == code) {
        wrong.push(format!("{text}is not told as `{code}`:\n{diagnostics}"));
    }
    wrong.extend(without_hint(&diagnostics));
}

#[test]
fn every_error_says_what_to_write_instead() {
    let mut wrong = Vec::new();
    for (code, line) in IN_A_SERVICE {
        check(code, &format!("{API}{line}\n"), &mut wrong);
    }
    for (code, text) in FILES {
        check(code, text, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_error_of_the_notation_says_what_to_write_instead() {
    let mut wrong = Vec::new();
    for (text, part) in NO_TOML {
        let diagnostics = refused(text, Project::new(&[("envctl.toml", text)]).load());
        wrong.extend(without_hint(&diagnostics));
        if !hints_of(&diagnostics).iter().any(|hint| hint.contains(part)) {
            wrong.push(format!("{text}is not told {part}:\n{diagnostics}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_bad_line_of_an_env_file_says_what_to_write_instead() {
    let mut doubling = "A0=0123456789\n".to_owned();
    for n in 1..60 {
        doubling.push_str(&format!("A{n}=$A{0}$A{0}\n", n - 1));
    }
    for lines in ["nonsense\n", "1A=b\n", "A='a\0b'\n", "A='open\n", "A=\"open\n", &doubling] {
        let project = Project::new(&[("envctl.toml", &format!("{API}env_file = \"x.env\"\n")), ("x.env", lines)]);
        let diagnostics = refused(lines, project.load());
        assert_eq!(without_hint(&diagnostics), Vec::<String>::new(), "{lines:?}");
    }
}

#[test]
fn every_file_that_cannot_be_read_says_what_to_do() {
    let mut wrong = Vec::new();
    let mut refuse = |name: &str, project: &Project| wrong.extend(without_hint(&refused(name, project.load())));
    refuse("a directory", &Project::new(&[("envctl.toml/x", "")]));
    refuse("a large file", &Project::new(&[("envctl.toml", &"# comment\n".repeat(110_000))]));
    let project = Project::new(&[]);
    project.file("envctl.toml", b"a = \"\xff\"\n");
    refuse("no text", &project);
    let project = Project::new(&[]);
    std::os::unix::fs::symlink("nothing", project.root().join("envctl.toml")).unwrap();
    refuse("a link to nothing", &project);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_project_that_is_not_there_says_where_to_look() {
    let project = Project::new(&[]);
    let root = project.root();
    for found in [discover(&root, None), discover(&root, Some("x.toml".as_ref())), discover(&root.join("x"), None)] {
        assert_eq!(without_hint(&found.unwrap_err()), Vec::<String>::new());
    }
}

#[test]
fn a_project_that_is_too_large_is_told_how_to_shrink() {
    let units: String = (0..=UNITS_MAX).map(|n| format!("[tasks.t{n}]\nsh = \"a\"\n")).collect();
    let groups: String = (0..=UNITS_MAX).map(|n| format!("[groups.g{n}]\nmembers = []\n")).collect();
    let mut wrong = Vec::new();
    check("too-many", &units, &mut wrong);
    check("too-many", &format!("{API}{groups}"), &mut wrong);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_a_user_may_not_set_for_all_projects_has_a_hint() {
    let project = Project::new(&[("envctl.toml", API), ("user.toml", "[services.x]\nsh = \"x\"\n[bogus]\n")]);
    let source = Source { user_config: Some(project.root().join("user.toml")), ..project.source() };
    assert_eq!(without_hint(&refused("units of a user", load(&source))), Vec::<String>::new());
}

#[test]
fn a_free_name_and_a_free_port_are_proposed() {
    let text = "[services.a]\ncmd = [\"a\"]\nport = 8000\n[services.a-2]\ncmd = [\"a\"]\nport = 8001\n\
        [tasks.a]\nsh = \"a\"\n[services.b]\ncmd = [\"b\"]\nport = 8000\n";
    let hints = hints_of(&refused(text, Project::new(&[("envctl.toml", text)]).load()));
    let hints: BTreeSet<&str> = hints.iter().map(String::as_str).collect();
    let wanted = ["rename one of the two, for example to `a-3`", "write another one, such as 8002"];
    assert_eq!(hints, BTreeSet::from(wanted));
}
