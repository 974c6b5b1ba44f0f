//! Invariants of absence (docs/ARCHITECTURE.md): what must not be anywhere in the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// A place where something was found.
fn found(dir: &str, texts: &[&str], allowed: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join(dir), &mut files);
    assert!(!files.is_empty(), "no sources in {dir}");
    files.sort();
    let mut places = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        if allowed.iter().any(|allowed| name.starts_with(allowed)) || name.contains("tests") {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a source file");
        for (number, line) in source.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]") {
            let code = line.split("//").next().unwrap_or_default();
            if texts.iter().any(|text| code.contains(text)) {
                places.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    places
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

#[track_caller]
fn assert_absent(what: &str, places: &[String]) {
    assert!(places.is_empty(), "{what}:\n{}", places.join("\n"));
}

#[test]
fn the_engine_knows_no_runtime_no_clock_and_no_files() {
    let texts = ["tokio", "std::fs", "std::net", "std::process", "std::thread", "Instant::now", "SystemTime"];
    assert_absent("the engine reaches outside", &found("supervisors/src/engine", &texts, &[]));
}

#[test]
fn only_one_module_has_unsafe_code() {
    let allowed = ["actors/src/process/sys"];
    for dir in ["supervisors/src", "actors/src", "runtime/src", "cli"] {
        assert_absent("unsafe outside process/sys", &found(dir, &["unsafe {", "unsafe fn", "unsafe impl"], &allowed));
    }
}

#[test]
fn no_library_reads_the_environment_or_writes_to_a_terminal() {
    let texts = ["env::var", "env::vars", "env::home_dir", "env::current_dir", "println!", "eprintln!", "print!("];
    for dir in ["supervisors/src", "actors/src", "runtime/src"] {
        assert_absent("the surroundings are the CLI's", &found(dir, &texts, &[]));
    }
}

#[test]
fn core_types_are_not_serializable() {
    for dir in ["supervisors/src", "actors/src/probe"] {
        assert_absent("a core type on the wire", &found(dir, &["Serialize"], &[]));
    }
    let in_runtime = found("runtime/src", &["Serialize"], &[]);
    let in_spec: Vec<String> =
        in_runtime.into_iter().filter(|place| place.starts_with("runtime/src/spec.rs")).collect();
    assert_absent("the project's spec on the wire", &in_spec);
}

#[test]
fn no_actor_has_a_process_wide_name() {
    let texts = ["ActorRef::where_is", "registry::where_is", "pg::join", "spawn_linked(Some(", "Actor::spawn(Some("];
    for dir in ["supervisors/src", "actors/src", "runtime/src"] {
        assert_absent("a name that two sessions in one process would share", &found(dir, &texts, &[]));
    }
}

#[test]
fn panics_are_not_aborts() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("the manifest");
    let aborts = manifest.lines().any(|line| line.replace(' ', "").starts_with("panic=\"abort\""));
    assert!(!aborts, "panics must become supervision events");
}

#[test]
fn every_file_of_the_house_says_what_it_is_for() {
    for dir in ["supervisors/src", "actors/src", "runtime/src", "cli", "tests"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        collect(&root.join(dir), &mut files);
        let silent: Vec<String> = files
            .iter()
            .filter(|file| !file.to_string_lossy().contains("tests") || dir == "tests")
            .filter(|file| !file.ends_with("tests.rs"))
            .filter(|file| !fs::read_to_string(file).is_ok_and(|text| text.starts_with("//!")))
            .map(|file| file.display().to_string())
            .collect();
        assert_absent("files without module documentation", &silent);
    }
}

/// `cargo run` in the README names no binary, and there are two: the product and the fixture.
#[test]
fn cargo_run_means_envctl() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    assert!(readme.contains("cargo run --release -- -C examples/quickstart up"), "the README's command changed");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    assert!(
        manifest.lines().any(|line| line == "default-run = \"envctl\""),
        "the README's command would not know what to run"
    );
}
