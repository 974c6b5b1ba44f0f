//! `limits`, `nice`, `umask`, `user`, `stdin`.

use super::*;
use crate::spec::Confines;

fn confines(keys: &str) -> Confines {
    let loaded = good(&format!("[services.a]\ncmd = 'a'\n{keys}"));
    loaded.spec.units["a"].confines.clone()
}

#[test]
fn a_unit_without_limits_is_confined_to_nothing() {
    assert_eq!(confines(""), Confines::default());
    assert_eq!(confines("stdin = 'null'"), Confines::default());
}

#[test]
fn every_limit_is_read_with_its_unit() {
    let read = confines(
        "limits = { memory = '512MiB', cpu = 1.5, processes = 200, open_files = 4096, core = 'unlimited', file_size = '1GB' }\n\
         nice = -5\numask = '027'\nuser = 'www'",
    );
    let limits = read.limits;
    assert_eq!((limits.memory, limits.cpu_milli, limits.processes), (Some(512 << 20), Some(1500), Some(200)));
    assert_eq!((limits.open_files, limits.core, limits.file_size), (Some(4096), Some(u64::MAX), Some(1_000_000_000)));
    assert_eq!((limits.nice, limits.umask, read.user.as_deref()), (Some(-5), Some(0o27), Some("www")));
    assert_eq!(confines("limits.cpu = 2").limits.cpu_milli, Some(2000));
    assert_eq!(confines("limits.core = '0'").limits.core, Some(0));
    assert_eq!(confines("limits.core = '64MiB'").limits.core, Some(64 << 20));
}

#[test]
fn a_file_for_standard_input_is_one_of_the_project() {
    let text = "[services.a]\ncmd = 'a'\nstdin = 'seed.sql'";
    let project = Project::new(&[("envctl.toml", text), ("seed.sql", "")]);
    let loaded = project.load().unwrap();
    assert_eq!(loaded.spec.units["a"].confines.stdin, Some(project.root().join("seed.sql")));
    assert_eq!(codes(text), ["missing-file"], "not there yet: a task may make it");
}

#[test]
fn a_requirement_has_limits_but_keeps_its_own_account() {
    let loaded = good("[requirements.redis]\nlimits.memory = '64MiB'\nnice = 5");
    assert_eq!(loaded.spec.units["redis"].confines.limits.memory, Some(64 << 20));
    assert_eq!(codes("[requirements.redis]\numask = '027'"), ["unknown-key"]);
}

#[test]
fn what_is_no_limit_is_an_error_with_a_hint() {
    for (keys, code) in [
        ("limits.memory = '1KiB'", "out-of-range"),
        ("limits.memory = 512", "wrong-type"),
        ("limits.memory = 'much'", "bad-size"),
        ("limits.cpu = 0", "out-of-range"),
        ("limits.cpu = -1.5", "out-of-range"),
        ("limits.cpu = nan", "out-of-range"),
        ("limits.cpu = '2'", "wrong-type"),
        ("limits.processes = 0", "out-of-range"),
        ("limits.open_files = 3", "out-of-range"),
        ("limits.core = 'much'", "bad-size"),
        ("limits.core = true", "wrong-type"),
        ("limits.mem = '1GiB'", "unknown-key"),
        ("limits = 5", "wrong-type"),
        ("nice = 20", "out-of-range"),
        ("nice = '5'", "wrong-type"),
        ("umask = '888'", "bad-value"),
        ("umask = '7777'", "bad-value"),
        ("umask = '+27'", "bad-value"),
        ("umask = 27", "wrong-type"),
        ("user = ''", "bad-value"),
        ("user = '0day'", "bad-value"),
        ("user = '0'", "bad-value"),
        ("user = 'a b'", "bad-value"),
        ("user = 'root:'", "bad-value"),
        ("stdin = ''", "bad-value"),
    ] {
        assert_eq!(codes(&format!("[services.a]\ncmd = 'a'\n{keys}")), [code], "{keys}");
    }
}
