//! Later layers win, key by key, and every value knows its file.

use super::{Project, effective, told_of};
use crate::config::{Source, discover, load};
use crate::spec::Run;

const BASE: &str = "[services.api]\ncmd = [\"api\"]\nport = 8000\nenv = { A = \"base\", B = \"base\" }\n";

fn layered() -> (Project, Source) {
    let project = Project::new(&[
        ("envctl.toml", BASE),
        ("envctl.local.toml", "[services.api]\nport = 9000\nenv = { B = \"local\" }\n"),
        ("user.toml", "[logs]\nmax_bytes = \"1GiB\"\n[env]\nEDITOR = \"vi\"\n"),
    ]);
    let user_config = Some(project.root().join("user.toml"));
    let source = Source { user_config, ..project.source() };
    (project, source)
}

#[test]
fn every_value_comes_from_the_highest_layer_that_has_it() {
    let (project, source) = layered();
    let loaded = load(&source).unwrap();
    let at = |key: &str| effective(&loaded, &project.root(), key);
    assert_eq!(at("services.api.port"), Some(("9000".into(), "envctl.local.toml:2".into())));
    assert_eq!(at("services.api.env.A"), Some(("\"base\"".into(), "envctl.toml:4".into())));
    assert_eq!(at("services.api.env.B"), Some(("\"local\"".into(), "envctl.local.toml:3".into())));
    assert_eq!(at("services.api.cmd"), Some(("[\"api\"]".into(), "envctl.toml:2".into())));
    assert_eq!(at("services.api.restart"), Some(("\"permanent\"".into(), "default".into())));
    assert_eq!(at("logs.max_bytes"), Some(("\"1GiB\"".into(), "user.toml:2".into())));
    assert_eq!(at("env.EDITOR"), Some(("\"vi\"".into(), "user.toml:4".into())));
    assert_eq!(at("name"), Some(("\"shop\"".into(), "default".into())));
    assert_eq!(loaded.spec.files.len(), 3);
}

#[test]
fn a_higher_layer_that_says_sh_removes_the_lower_cmd() {
    let project = Project::new(&[("envctl.toml", BASE), ("envctl.local.toml", "[services.api]\nsh = \"./debug\"\n")]);
    let loaded = project.load().unwrap();
    let crate::spec::UnitKind::Service(program) = &loaded.spec.units["api"].kind else { panic!("a service") };
    assert!(matches!(&program.run, Run::Shell(line) if line == "./debug"));
}

#[test]
fn a_mistake_is_told_in_the_file_it_stands_in() {
    let project = Project::new(&[("envctl.toml", BASE), ("envctl.local.toml", "[services.api]\nport = \"x\"\n")]);
    insta::assert_snapshot!(told_of(&project));
}

#[test]
fn the_configuration_of_a_user_brings_no_units() {
    let (project, source) = layered();
    project.file("user.toml", b"[services.evil]\ncmd = [\"x\"]\n");
    insta::assert_snapshot!(load(&source).unwrap_err());
}

#[test]
fn a_user_configuration_that_is_not_there_is_no_mistake() {
    let (project, source) = layered();
    let source = Source { user_config: Some(project.root().join("nothing.toml")), ..source };
    assert!(load(&source).is_ok());
}

#[test]
fn a_project_without_a_file_has_no_units() {
    let project = Project::new(&[]);
    let loaded = load(&Source { root: project.root(), file: None, user_config: None }).unwrap();
    assert!(loaded.spec.units.is_empty());
}

#[test]
fn a_project_is_found_from_below_and_in_dot_config() {
    let project =
        Project::new(&[("envctl.toml", BASE), ("a/b/c", ""), ("other/.config/envctl.toml", BASE), ("other/x/y", "")]);
    let root = project.root();
    let found = discover(&root.join("a/b"), None).unwrap();
    assert_eq!((found.root.clone(), found.file), (root.clone(), Some(root.join("envctl.toml"))));
    let found = discover(&root.join("other/x"), None).unwrap();
    assert_eq!((found.root, found.file), (root.join("other"), Some(root.join("other/.config/envctl.toml"))));
    let found = discover(&root, Some("other/.config/envctl.toml".as_ref())).unwrap();
    assert_eq!(found.root, root.join("other"));
}
