//! What a person is told about every mistake: the text is the contract.

use insta::assert_snapshot;

use super::{Project, codes, told, told_of};
use crate::config::{DIAGNOSTICS_MAX, discover};

#[test]
fn an_unknown_key_is_told_with_the_nearest_one() {
    assert_snapshot!(told(
        "nam = \"shop\"\n\n[services.api]\ncmd = [\"api\"]\nprot = 8000\ndepends_on = [\"db\"]\nfrobnicate = 1\n"
    ));
}

#[test]
fn a_wrong_type_is_told_with_the_right_one() {
    assert_snapshot!(told(
        "[services.api]\ncmd = 7\nport = \"8000\"\nenv = { DEBUG = true, N = 1 }\ncritical = \"yes\"\nneeds = 3\n\n[requirements.postgres]\nversion = 15\n"
    ));
}

#[test]
fn a_missing_unit_is_told_with_the_nearest_one() {
    assert_snapshot!(told(
        "[requirements.postgres]\n[services.api]\ncmd = [\"api\"]\nneeds = [\"postgers\"]\n[services.web]\ncmd = [\"web\"]\nneeds = { nothing = \"ready\" }\n"
    ));
}

#[test]
fn a_unit_that_needs_itself_is_told() {
    assert_snapshot!(told("[services.api]\ncmd = [\"api\"]\nneeds = [\"api\"]\n"));
}

#[test]
fn a_cycle_is_told_with_its_whole_path() {
    assert_snapshot!(told(
        "[services.a]\ncmd = [\"a\"]\nneeds = [\"b\"]\n[services.b]\ncmd = [\"b\"]\nneeds = { c = \"started\" }\n[services.c]\ncmd = [\"c\"]\nneeds = [\"a\"]\n"
    ));
}

#[test]
fn every_cycle_is_told_once() {
    let text = "[services.a]\ncmd = [\"a\"]\nneeds = [\"b\"]\n[services.b]\ncmd = [\"b\"]\nneeds = [\"a\"]\n\
        [services.c]\ncmd = [\"c\"]\nneeds = [\"d\", \"a\"]\n[services.d]\ncmd = [\"d\"]\nneeds = [\"c\"]\n";
    assert_eq!(codes(text), ["cycle", "cycle"]);
}

#[test]
fn a_cycle_of_hundreds_is_told_by_its_ends() {
    let unit = |n: usize| format!("[services.u{n}]\ncmd = [\"u\"]\nneeds = [\"u{}\"]\n", (n + 1) % 500);
    let told = told(&(0..500).map(unit).collect::<String>());
    assert!(
        told.contains("u0 → u1 → ") && told.contains(" → 477 more → ") && told.contains(" → u499 → u0\n"),
        "{told}"
    );
}

#[test]
fn a_long_line_is_shown_round_its_mistake() {
    let long = "ä".repeat(500);
    let told = told(&format!("[tasks.a]\nsh = \"a\"\nenv = {{ A = \"{long}${{HOME}}{long}\" }}\n"));
    let lines: Vec<Vec<char>> = told.lines().map(|line| line.chars().collect()).collect();
    let (source, caret) = (&lines[3], lines[4].iter().position(|c| *c == '^').unwrap());
    assert_eq!(source[caret..caret + 7].iter().collect::<String>(), "${HOME}");
    assert!(source.len() < 200, "{told}");
}

#[test]
fn a_port_that_is_written_twice_is_told_with_both_places() {
    assert_snapshot!(told(
        "[services.api]\ncmd = [\"api\"]\nport = 8000\n[services.web]\ncmd = [\"web\"]\nports = { http = 3000, admin = 8000 }\n"
    ));
}

#[test]
fn a_bad_duration_is_told_with_good_ones() {
    assert_snapshot!(told(
        "[services.api]\ncmd = [\"api\"]\nport = 80\nperiod = 30\nstable_after = \"10\"\nstop = { grace = \"5 s\" }\nready = { http = \"/\", within = \"1m2h\", every = \"0s\" }\n[logs]\nmax_bytes = \"256 megs\"\n"
    ));
}

#[test]
fn a_reference_to_nothing_is_told_with_the_nearest() {
    assert_snapshot!(told(
        "[services.api]\nport = 8000\ncmd = [\"api\", \"${api.prot}\", \"--x=${ap.port}\"]\nenv = { A = \"${x.y}\", B = \"a ${HOME} b\", C = \"${api.port\", D = \"$HOME $$ ${API.port}\" }\n"
    ));
}

#[test]
fn a_directory_outside_the_project_is_told() {
    let project = Project::new(&[(
        "envctl.toml",
        "[services.a]\ncmd = [\"a\"]\ndir = \"../other\"\n[services.b]\ncmd = [\"b\"]\ndir = \"/etc\"\n[services.c]\ncmd = [\"c\"]\ndir = \"out\"\n",
    )]);
    std::os::unix::fs::symlink("/usr", project.root().join("out")).unwrap();
    assert_snapshot!(told_of(&project));
}

#[test]
fn an_empty_file_is_told_how_to_begin() {
    assert_snapshot!(told(""));
}

#[test]
fn a_file_that_is_not_utf_8_is_told_with_its_line() {
    let project = Project::new(&[]);
    project.file("envctl.toml", b"name = \"shop\"\n[services.api]\ncmd = [\"\xff\xfe\"]\n");
    assert_snapshot!(told_of(&project));
}

#[test]
fn a_directory_in_the_place_of_the_file_is_told() {
    let project = Project::new(&[("envctl.toml/x", "")]);
    assert_snapshot!(told_of(&project));
}

#[test]
fn a_name_that_is_used_twice_is_told_with_both_places() {
    assert_snapshot!(told("[services.api]\ncmd = [\"api\"]\n[tasks.api]\nsh = \"true\"\n"));
}

#[test]
fn names_that_differ_only_in_dash_and_underscore_are_told() {
    assert_snapshot!(told("[services.my-api]\ncmd = [\"api\"]\n[services.my_api]\ncmd = [\"api\"]\n"));
}

#[test]
fn a_secret_in_a_command_is_told_with_the_environment_form() {
    assert_snapshot!(told(
        "[requirements.postgres]\n[services.api]\ncmd = [\"api\", \"--db\", \"${postgres.url}\"]\nneeds = [\"postgres\"]\nready = { exec = [\"psql\", \"${postgres.password}\"] }\n"
    ));
}

#[test]
fn a_bad_probe_is_told_with_what_it_may_ask() {
    assert_snapshot!(told(
        "[services.a]\ncmd = [\"a\"]\nready = { within = \"3s\" }\n[services.b]\ncmd = [\"b\"]\nready = { tcp = 80, http = \"/\" }\n\
         [services.c]\ncmd = [\"c\"]\nready = \"/healthz\"\n[services.d]\ncmd = [\"d\"]\nport = 1\nready = \"http://localhost/\"\n\
         [services.e]\ncmd = [\"e\"]\nready = { log = \"(\" }\nalive = { log = \"x\" }\n[services.f]\ncmd = [\"f\"]\nports = { http = 2, admin = 3 }\nready = { tcp = \"htp\" }\n\
         [tasks.g]\nsh = \"true\"\nready = { tcp = 80 }\n"
    ));
}

#[test]
fn a_bad_name_is_told_with_a_good_one() {
    assert_snapshot!(told(
        "name = \"My Shop!\"\n[services.\"Web Server\"]\ncmd = [\"web\"]\n[services.\"../x\"]\ncmd = [\"x\"]\n"
    ));
}

#[test]
fn a_condition_that_cannot_come_is_told() {
    assert_snapshot!(told(
        "[services.worker]\ncmd = [\"worker\"]\n[tasks.migrate]\nsh = \"true\"\n[services.api]\ncmd = [\"api\"]\nneeds = { worker = \"ready\", migrate = \"ready\" }\n[services.web]\ncmd = [\"web\"]\nneeds = { worker = { is = \"done\", then = \"restrt\" } }\n"
    ));
}

#[test]
fn a_unit_without_a_command_or_with_two_is_told() {
    assert_snapshot!(told(
        "[services.a]\nport = 80\n[services.b]\ncmd = \"x\"\nsh = \"y\"\n[tasks.c]\ncmd = []\n[tasks.d]\nsh = \"\"\n"
    ));
}

#[test]
fn a_syntax_error_is_told_with_its_line() {
    assert_snapshot!(told("name = \"shop\"\n[services.api\ncmd = [\"api\"]\n"));
}

#[test]
fn an_unknown_preset_is_told_with_the_known_ones() {
    assert_snapshot!(told("[requirements.sqlite]\n[requirements.db]\npreset = \"postgre\"\n"));
}

#[test]
fn values_out_of_range_are_told() {
    let text = "[services.api]\ncmd = [\"api\"]\nport = 0\nports = { a = 65536 }\nintensity = -1\nstop = { signal = \"TREM\" }\n\
        restart = \"alway\"\nbackoff = { base = \"2s\", max = \"1s\" }\n";
    assert_eq!(codes(text), ["out-of-range", "out-of-range", "out-of-range", "bad-value", "bad-value", "bad-value"]);
}

#[test]
fn a_nul_never_reaches_a_program() {
    assert_eq!(codes("[services.api]\ncmd = [\"a\\u0000b\"]\nenv = { A = \"\\u0000\" }\n"), ["nul", "nul"]);
}

#[test]
fn control_characters_of_a_file_never_reach_the_terminal() {
    let shown = told("[services.\"\\u001b[31m\"]\ncmd = [\"a\"]\n[services.b]\ncmd = [\"b\u{7f}\"]\n");
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn the_mention_of_a_bad_unit_is_no_second_mistake() {
    let text = "[services.a]\ncmd = 3\n[services.b]\ncmd = [\"b\", \"${a.port}\"]\nneeds = [\"a\"]\n";
    assert_eq!(codes(text), ["wrong-type"]);
}

#[test]
fn an_environment_of_one_unit_that_cannot_be_narrowed_is_not_widened_silently() {
    assert_eq!(codes("[services.a]\ncmd = [\"a\"]\ninherit = false\n"), ["unsupported"]);
}

#[test]
fn a_flood_of_mistakes_is_cut_and_counted() {
    let text: String = (0..300).map(|n| format!("key{n} = 1\n")).collect();
    let project = Project::new(&[("envctl.toml", &text)]);
    let diagnostics = project.load().unwrap_err();
    assert_eq!((diagnostics.list.len(), diagnostics.dropped), (DIAGNOSTICS_MAX, 201));
}

#[test]
fn a_file_beyond_the_limit_is_refused_unread() {
    let project = Project::new(&[("envctl.toml", &"# comment\n".repeat(110_000))]);
    assert_snapshot!(told_of(&project));
}

#[test]
fn deep_nesting_is_refused() {
    let bomb = format!("x = {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(codes(&bomb), ["syntax"]);
    let bomb = format!("{}x = 1\n", "a.".repeat(100_000));
    assert!(codes(&bomb).contains(&"syntax"));
}

#[test]
fn a_pipe_in_the_place_of_the_file_does_not_block() {
    let project = Project::new(&[]);
    nix::unistd::mkfifo(&project.root().join("envctl.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let told = told_of(&project);
    assert_eq!(told, "error: `envctl.toml` is not a regular file\n  = hint: put an ordinary file in its place\n");
}

#[test]
fn a_missing_project_names_the_foreign_file_that_is_there() {
    let project = Project::new(&[("Procfile", "web: x\n"), ("sub/x", "")]);
    let told = discover(&project.root().join("sub"), None).unwrap_err().to_string();
    assert_snapshot!(told.replace(&*project.root().to_string_lossy(), "ROOT"));
}

#[test]
fn a_named_file_that_is_missing_is_told() {
    let project = Project::new(&[]);
    let told = || discover(&project.root(), Some("other.toml".as_ref())).unwrap_err().to_string();
    let there_is_none = told().replace(&*project.root().to_string_lossy(), "ROOT");
    assert_eq!(there_is_none, "error: the file `other.toml` is not there\n  = hint: its path is relative to `ROOT`\n");
    project.file("envctl.toml", b"");
    assert!(told().contains("= hint: there is a `envctl.toml`: name it, or leave `--file` out\n"));
}
