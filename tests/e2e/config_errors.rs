//! Every mistake in a config, through the program: place, hint, exit code, and nothing started.

use crate::harness::TestEnvironment;

/// One mistake: name, file, where it is reported (empty: no place), words that must be in the message.
type Mistake = (&'static str, &'static str, &'static str, &'static [&'static str]);

const MISTAKES: &[Mistake] = &[
    (
        "unknown key",
        "[services.api]\ncmd = [\"true\"]\nrestrat = \"never\"\n",
        "envctl.toml:3:1",
        &["restrat", "restart"],
    ),
    ("wrong type", "[services.api]\ncmd = 7\n", "envctl.toml:2:7", &["cmd"]),
    (
        "missing unit",
        "[services.api]\ncmd = [\"true\"]\nneeds = [\"databse\"]\n[services.database]\ncmd = [\"true\"]\n",
        "envctl.toml:3:",
        &["databse", "database"],
    ),
    ("self need", "[services.api]\ncmd = [\"true\"]\nneeds = [\"api\"]\n", "envctl.toml:3:", &["api", "itself"]),
    (
        "cycle of three",
        "[services.a]\ncmd = [\"true\"]\nneeds = [\"b\"]\n[services.b]\ncmd = [\"true\"]\nneeds = [\"c\"]\n\
         [services.c]\ncmd = [\"true\"]\nneeds = [\"a\"]\n",
        "envctl.toml:",
        &["a → b → c → a"],
    ),
    (
        "duplicate port",
        "[services.a]\ncmd = [\"true\"]\nport = 8000\n[services.b]\ncmd = [\"true\"]\nport = 8000\n",
        "envctl.toml:6:",
        &["8000", "a"],
    ),
    (
        "bad duration",
        "[services.api]\ncmd = [\"true\"]\nstop = { grace = \"5 fortnights\" }\n",
        "envctl.toml:3:",
        &["5 fortnights"],
    ),
    ("unknown reference", "[services.api]\ncmd = [\"true\"]\nenv = { X = \"${x.y}\" }\n", "envctl.toml:3:", &["x"]),
    (
        "directory outside the project",
        "[services.api]\ncmd = [\"true\"]\ndir = \"../elsewhere\"\n",
        "envctl.toml:3:",
        &["../elsewhere", "outside"],
    ),
    ("empty file", "", "", &["no unit"]),
    (
        "names equal after - and _",
        "[services.a-b]\ncmd = [\"true\"]\n[services.a_b]\ncmd = [\"true\"]\n",
        "envctl.toml:3:",
        &["a-b", "a_b"],
    ),
    ("a name twice", "[services.a]\ncmd = [\"true\"]\n[tasks.a]\ncmd = [\"true\"]\n", "envctl.toml:3:", &["a"]),
    (
        "secret in cmd",
        "[requirements.postgres]\n[services.api]\ncmd = [\"psql\", \"${postgres.url}\"]\nneeds = [\"postgres\"]\n",
        "envctl.toml:3:",
        &["postgres.url", "env"],
    ),
    ("bad name", "[services.\"My Service\"]\ncmd = [\"true\"]\n", "envctl.toml:1:", &["my-service"]),
    (
        "ready without a probe",
        "[services.a]\ncmd = [\"true\"]\n[services.b]\ncmd = [\"true\"]\nneeds = { a = \"ready\" }\n",
        "envctl.toml:5:",
        &["ready"],
    ),
    ("not toml", "[services.api\ncmd = [\"true\"]\n", "envctl.toml:1:", &[]),
];

#[test]
fn every_mistake_has_a_place_a_hint_and_exit_code_1() {
    let env = TestEnvironment::new();
    let mut wrong = Vec::new();
    let mut shown = String::new();
    for (name, toml, place, words) in MISTAKES {
        let project = env.project(toml);
        for command in [["config", "check"].as_slice(), &["up", "-d"], &["explain"]] {
            let output = project.envctl(command).exits(1);
            let told = &output.stderr;
            let missing: Vec<&&str> = words.iter().filter(|word| !told.contains(**word)).collect();
            if !told.starts_with("error:") || !told.contains(place) || !told.contains("hint:") || !missing.is_empty() {
                wrong.push(format!("{name} ({command:?}): place {place}, missing {missing:?}\n{told}"));
            }
            if command[0] == "config" {
                shown.push_str(&format!("# {name}\n{told}\n"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(env.sockets().is_empty(), "a mistake started a daemon");
    insta::with_settings!({ filters => vec![(r"/tmp/ev\w+", "[env]")] }, {
        insta::assert_snapshot!("config_mistakes", shown);
    });
}

#[test]
fn a_config_that_is_no_text_or_no_file_is_refused() {
    let env = TestEnvironment::new();
    let project = env.empty_project("bytes");
    project.write("envctl.toml", b"name = \"a\"\n[services.api]\ncmd = [\"\xff\xfe\"]\n");
    project.envctl(&["up", "-d"]).exits(1).complains(&["error:", "UTF-8", "envctl.toml:3:"]);

    let project = env.empty_project("directory");
    project.write("envctl.toml/file", "");
    project.envctl(&["up", "-d"]).exits(1).complains(&["error:", "directory", "hint:"]);

    let project = env.empty_project("large");
    project.write("envctl.toml", "#".repeat(2 * 1024 * 1024));
    project.envctl(&["up", "-d"]).exits(1).complains(&["error:"]);
    assert!(env.sockets().is_empty());
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = 7\nrestrat = 1\nstop = { grace = \"soon\" }\n");
    project.envctl(&["config", "check"]).exits(1).complains(&["cmd", "restrat", "soon"]);
}

#[test]
fn a_good_config_is_shown_with_origins() {
    let env = TestEnvironment::new();
    let project = env.project("[services.api]\ncmd = [\"FX\", \"run\"]\nenv = { A = \"1\" }\n");
    project.write("envctl.local.toml", "[services.api]\nenv = { A = \"2\" }\n");
    project.envctl(&["config", "check"]).ok();
    let shown = project.envctl(&["config", "show"]).ok();
    shown.says(&["envctl.local.toml:2", "envctl.toml:2", "default"]);
    assert!(env.sockets().is_empty());
}
