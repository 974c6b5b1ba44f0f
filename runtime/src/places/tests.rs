use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

/// A machine of its own: roots, a home, and the uid of whoever runs the test.
struct Machine {
    dir: tempfile::TempDir,
    roots: Roots,
    uid: u32,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        let roots = Roots { run_user: base.join("run"), tmp: base.join("tmp") };
        fs::create_dir(&roots.run_user).unwrap();
        fs::create_dir(&roots.tmp).unwrap();
        let uid = dir.path().metadata().unwrap().uid();
        Self { dir, roots, uid }
    }

    fn path(&self, below: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(below)
    }

    fn make(&self, below: &str, mode: u32) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn input(&self) -> PlacesInput {
        PlacesInput {
            uid: self.uid,
            session: name("default"),
            runtime_dir: None,
            state_home: self.path("state"),
            state_override: None,
        }
    }

    fn resolve(&self, input: &PlacesInput) -> Result<Places, PlacesError> {
        Places::resolve_in(input, &self.roots)
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn the_given_runtime_directory_is_used_if_it_is_private() {
    let machine = Machine::new();
    let given = machine.make("xdg", 0o700);
    let places = machine.resolve(&PlacesInput { runtime_dir: Some(given.clone()), ..machine.input() }).unwrap();
    assert_eq!(places.runtime_dir(), given.join("envctl/default"));
    assert_eq!(places.notices(), &[] as &[String]);
    assert_eq!(places.runtime_dir().metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(places.state_dir(), machine.path("state/envctl/default"));
    assert_eq!(places.socket().unwrap(), given.join("envctl/default/ctl.sock"));
}

#[test]
fn a_runtime_directory_open_to_others_relative_missing_or_linked_is_passed_over_with_a_notice() {
    let machine = Machine::new();
    machine.make("real", 0o700);
    symlink(machine.path("real"), machine.path("link")).unwrap();
    let bad = [machine.make("open", 0o750), PathBuf::from("xdg"), machine.path("missing"), machine.path("link")];
    for given in bad {
        let places = machine.resolve(&PlacesInput { runtime_dir: Some(given.clone()), ..machine.input() }).unwrap();
        assert!(places.runtime_dir().starts_with(&machine.roots.tmp), "{} was used", given.display());
        assert_eq!(places.notices().len(), 2, "{:?}", places.notices());
    }
}

#[test]
fn the_login_directory_comes_before_the_temporary_one() {
    let machine = Machine::new();
    let login = machine.make(&format!("run/{}", machine.uid), 0o700);
    let places = machine.resolve(&machine.input()).unwrap();
    assert_eq!(places.runtime_dir(), login.join("envctl/default"));
}

#[test]
fn a_temporary_directory_that_is_a_link_open_or_foreign_is_refused() {
    let machine = Machine::new();
    let fallback = format!("tmp/envctl-{}", machine.uid);
    machine.make("elsewhere", 0o700);
    symlink(machine.path("elsewhere"), machine.path(&fallback)).unwrap();
    let error = machine.resolve(&machine.input()).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");

    fs::remove_file(machine.path(&fallback)).unwrap();
    machine.make(&fallback, 0o777);
    let error = machine.resolve(&machine.input()).unwrap_err();
    assert!(error.to_string().contains("lets others in"), "{error}");

    machine.make(&format!("tmp/envctl-{}", machine.uid + 1), 0o700);
    let error = machine.resolve(&PlacesInput { uid: machine.uid + 1, ..machine.input() }).unwrap_err();
    assert!(error.to_string().contains("belongs to uid"), "{error}");
}

#[test]
fn a_socket_path_that_is_too_long_is_an_error_with_the_numbers() {
    let machine = Machine::new();
    let given = machine.make(&"x".repeat(120), 0o700);
    let places = machine.resolve(&PlacesInput { runtime_dir: Some(given), ..machine.input() }).unwrap();
    let text = places.socket().unwrap_err().to_string();
    assert!(text.contains("107") && text.contains("this one has"), "{text}");
}

#[test]
fn leases_do_not_follow_the_runtime_directory_of_the_caller() {
    let machine = Machine::new();
    let at_login = |uid: u32| leases_dir_in(uid, &machine.roots).unwrap();
    assert_eq!(at_login(machine.uid), machine.path(&format!("tmp/envctl-{}/leases", machine.uid)));
    machine.make(&format!("run/{}", machine.uid), 0o700);
    assert_eq!(at_login(machine.uid), machine.path(&format!("run/{}/envctl/leases", machine.uid)));
}

#[test]
fn a_state_override_moves_the_root_only_if_it_passes_the_checks() {
    let machine = Machine::new();
    let wanted = machine.path("over/ride");
    let places = machine.resolve(&PlacesInput { state_override: Some(wanted.clone()), ..machine.input() }).unwrap();
    assert_eq!(places.state_dir(), wanted.join("default"));

    symlink(&wanted, machine.path("linked")).unwrap();
    let refused = [PathBuf::from("rel"), machine.path("a/../b"), machine.make("w", 0o770), machine.path("linked")];
    for path in refused {
        let input = PlacesInput { state_override: Some(path.clone()), ..machine.input() };
        let places = machine.resolve(&input).unwrap();
        assert_eq!(places.state_dir(), machine.path("state/envctl/default"), "{} was used", path.display());
        let told = places.notices().iter().any(|notice| notice.contains("RUN_SH_RUNTIME_DIR"));
        assert!(told, "{:?}", places.notices());
    }
}

/// A main checkout `repo` and a linked worktree as git lays them out.
fn worktree(machine: &Machine, dir: &str, admin: &str) -> PathBuf {
    machine.make("repo/.git", 0o700);
    let git = machine.make(&format!("repo/.git/worktrees/{admin}"), 0o700);
    let tree = machine.make(dir, 0o700);
    write(&tree.join(".git"), &format!("gitdir: {}\n", git.display()));
    write(&git.join("gitdir"), &format!("{}\n", tree.join(".git").display()));
    write(&git.join("commondir"), "../..\n");
    tree
}

#[expect(clippy::disallowed_methods, reason = "a fixture of the test, not state")]
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

#[test]
fn a_linked_worktree_shares_its_main_checkouts_scope_and_has_its_own_folder() {
    let machine = Machine::new();
    let places = machine.resolve(&machine.input()).unwrap();
    let tree = worktree(&machine, "trees/feature-a", "feature-a");
    let main = places.for_project(&machine.path("repo"), &name("shop")).unwrap();
    let linked = places.for_project(&tree, &name("shop")).unwrap();
    assert_eq!(linked.scope(), main.scope());
    assert_eq!((main.folder(), linked.folder()), (MAIN_FOLDER, "feature-a"));
    assert_eq!(linked.control_root(), machine.path("repo"));
    assert_ne!(main.short(), linked.short());

    // A project in a folder of the checkout keeps its place, and is apart from the one at the top.
    let sub = places.for_project(&machine.make("trees/feature-a/web", 0o700), &name("web")).unwrap();
    assert_eq!(sub.control_root(), machine.path("repo/web"));
    assert_ne!(sub.scope(), main.scope());
}

#[test]
fn a_checkout_that_the_repository_does_not_know_has_a_scope_of_its_own() {
    let machine = Machine::new();
    let places = machine.resolve(&machine.input()).unwrap();
    worktree(&machine, "trees/feature-a", "feature-a");
    let thief = machine.make("trees/thief", 0o700);
    fs::copy(machine.path("trees/feature-a/.git"), thief.join(".git")).unwrap();
    let thief = places.for_project(&thief, &name("shop")).unwrap();
    let main = places.for_project(&machine.path("repo"), &name("shop")).unwrap();
    assert_ne!(thief.scope(), main.scope());
    assert_eq!(thief.folder(), MAIN_FOLDER);
}

#[test]
fn worktree_names_become_folders_that_are_names_and_never_meet() {
    let machine = Machine::new();
    let places = machine.resolve(&machine.input()).unwrap();
    let mut folders = Vec::new();
    for (at, admin) in ["main", "Feature", "feature", "a b", "a.b", "..x", &"l".repeat(90)].iter().enumerate() {
        let tree = worktree(&machine, &format!("trees/{at}"), admin);
        let folder = places.for_project(&tree, &name("shop")).unwrap().folder().to_owned();
        assert!(Name::new(&folder).is_ok(), "{folder:?}");
        folders.push(folder);
    }
    folders.push(MAIN_FOLDER.to_owned());
    let distinct: std::collections::BTreeSet<_> = folders.iter().collect();
    assert_eq!(distinct.len(), folders.len(), "{folders:?}");
}

#[test]
fn the_same_checkout_through_a_link_is_the_same_project() {
    let machine = Machine::new();
    let places = machine.resolve(&machine.input()).unwrap();
    machine.make("repo", 0o700);
    symlink(machine.path("repo"), machine.path("alias")).unwrap();
    let real = places.for_project(&machine.path("repo"), &name("shop")).unwrap();
    assert_eq!(places.for_project(&machine.path("alias"), &name("shop")).unwrap(), real);
    assert!(real.scope().len() == "repo-".len() + 12, "{}", real.scope());
}

#[test]
fn a_runs_id_never_leaves_the_runs_folder() {
    let machine = Machine::new();
    let places = machine.resolve(&machine.input()).unwrap();
    let project = places.for_project(&machine.make("repo", 0o700), &name("shop")).unwrap();
    let runs = project.dir().join("runs");
    assert_eq!(project.run_dir("20261121T102030Z-3f9a"), runs.join("20261121T102030Z-3f9a"));
    for bad in ["..", "a/b", "/etc", "", "a\0b", &"z".repeat(300)] {
        assert_eq!(project.run_dir(bad).parent(), Some(runs.as_path()), "{bad:?}");
        assert!(is_normal(&project.run_dir(bad)), "{bad:?}");
    }
}

#[test]
fn an_isolated_session_has_a_directory_of_its_own_and_is_listed() {
    let machine = Machine::new();
    machine.make(&format!("run/{}", machine.uid), 0o700);
    leases_dir_in(machine.uid, &machine.roots).unwrap();
    let first = Places::isolated_in(&machine.input(), &machine.roots).unwrap();
    let second = Places::isolated_in(&machine.input(), &machine.roots).unwrap();
    assert_ne!(first.runtime_dir(), second.runtime_dir());
    assert_ne!(first.state_dir(), second.state_dir());
    assert_eq!(first.session().as_str().len(), 8);
    let mut expect = vec![first.session().clone(), second.session().clone()];
    expect.sort();
    assert_eq!(Places::sessions_in(&machine.input(), &machine.roots).unwrap(), expect);
}

#[test]
fn no_session_can_sit_in_the_directory_of_leases() {
    let machine = Machine::new();
    let error = machine.resolve(&PlacesInput { session: name("leases"), ..machine.input() }).unwrap_err();
    assert!(error.to_string().contains("cannot have this name"), "{error}");
}
