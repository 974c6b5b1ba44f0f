use std::os::unix::fs::{PermissionsExt, symlink};

use envctl_supervisors::Name;

use super::*;

/// A state home and a checkout of the user who runs the tests.
struct Fixture {
    dir: tempfile::TempDir,
    files: Vec<PathBuf>,
}

// === impl Fixture ===

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap().join("checkout");
        fs::create_dir(&root).unwrap();
        fs::create_dir(dir.path().join("state")).unwrap();
        let files = vec![root.join("envctl.toml")];
        File::create(&files[0]).unwrap();
        Self { dir, files }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("checkout")
    }

    /// The file of a user whom nothing here belongs to but the file itself, if `uid` runs the tests.
    fn file(&self) -> TrustFile {
        TrustFile { path: self.dir.path().join("state/envctl/trusted.json"), uid: me() }
    }

    fn check(&self, uid: u32) -> Result<Trust, TrustError> {
        check(&Checkout { root: &self.root(), files: &self.files, uid }, &self.file())
    }

    fn grant(&self, uid: u32) -> Result<(), TrustError> {
        self.file().grant(&Checkout { root: &self.root(), files: &self.files, uid })
    }

    fn needs_trust(&self, uid: u32) -> Option<Foreign> {
        match self.check(uid).unwrap() {
            Trust::Needed(foreign) => Some(foreign),
            Trust::Owned | Trust::Granted => None,
        }
    }

    /// The file with other content, as another program might have left it.
    fn write(&self, text: &str) {
        fs::create_dir_all(self.file().dir()).unwrap();
        atomic_write(self.file().path(), text.as_bytes(), Durability::Unsynced).unwrap();
    }
}

fn me() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// A caller who is neither root nor the owner of what the tests make.
fn somebody() -> u32 {
    me() + 4711
}

/// Gives `path` to another user, if the tests may: the one who now owns it.
fn give_away(path: &Path) -> Option<u32> {
    let other = nix::unistd::Uid::from_raw(65534);
    nix::unistd::chown(path, Some(other), None).is_ok().then_some(65534)
}

#[test]
fn ones_own_checkout_needs_no_trust_and_leaves_no_file() {
    let fixture = Fixture::new();
    assert_eq!(fixture.check(me()).unwrap(), Trust::Owned);
    assert!(!fixture.file().path().exists());
}

#[test]
fn what_belongs_to_root_needs_no_trust_from_anybody() {
    let fixture = Fixture::new();
    let owned = fixture.check(somebody()).unwrap() == Trust::Owned;
    assert_eq!(owned, me() == ROOT, "the checkout belongs to uid {}", me());
    let root = Checkout { root: Path::new("/"), files: &[], uid: somebody() };
    assert_eq!(check(&root, &fixture.file()).unwrap(), Trust::Owned);
}

#[test]
fn a_checkout_of_somebody_else_needs_trust_once() {
    let fixture = Fixture::new();
    let Some(owner) = give_away(&fixture.root()) else { return };
    assert_eq!(fixture.needs_trust(me()), Some(Foreign { path: fixture.root(), owner }));
    fixture.grant(me()).unwrap();
    assert_eq!(fixture.check(me()).unwrap(), Trust::Granted);
    assert_eq!(fixture.file().path().metadata().unwrap().mode() & 0o777, 0o600);
    assert!(fixture.file().revoke(&fixture.root()).unwrap());
    assert!(fixture.needs_trust(me()).is_some());
    assert!(!fixture.file().revoke(&fixture.root()).unwrap(), "it was forgotten already");
}

#[test]
fn one_foreign_file_in_a_directory_of_ones_own_needs_trust() {
    let mut fixture = Fixture::new();
    let local = fixture.root().join("envctl.local.toml");
    File::create(&local).unwrap();
    fixture.files.push(local.clone());
    let Some(owner) = give_away(&local) else { return };
    assert_eq!(fixture.needs_trust(me()), Some(Foreign { path: local, owner }));
    fixture.grant(me()).unwrap();
    assert_eq!(fixture.check(me()).unwrap(), Trust::Granted);
}

#[test]
fn a_file_of_another_owner_than_those_that_were_seen_needs_trust_anew() {
    let fixture = Fixture::new();
    let Some(_) = give_away(&fixture.root()) else { return };
    fixture.grant(me()).unwrap();
    nix::unistd::chown(&fixture.files[0], Some(nix::unistd::Uid::from_raw(65533)), None).unwrap();
    assert!(fixture.needs_trust(me()).is_some());
}

#[test]
fn a_link_counts_as_its_owners_and_as_its_targets() {
    let mut fixture = Fixture::new();
    let (target, link) = (fixture.dir.path().join("elsewhere.toml"), fixture.root().join("link.toml"));
    File::create(&target).unwrap();
    symlink(&target, &link).unwrap();
    fixture.files.push(link.clone());
    assert_eq!(fixture.check(me()).unwrap(), Trust::Owned);
    let Some(owner) = give_away(&target) else { return };
    assert_eq!(fixture.needs_trust(me()), Some(Foreign { path: link, owner }));
}

#[test]
fn another_directory_in_its_place_needs_trust_anew() {
    let fixture = Fixture::new();
    let Some(_) = give_away(&fixture.root()) else { return };
    fixture.grant(me()).unwrap();
    // The old one stays, so that its inode cannot be given to the new one.
    fs::rename(fixture.root(), fixture.dir.path().join("old")).unwrap();
    fs::create_dir(fixture.root()).unwrap();
    File::create(&fixture.files[0]).unwrap();
    give_away(&fixture.root()).unwrap();
    assert!(fixture.needs_trust(me()).is_some());
}

#[test]
fn a_moved_directory_and_another_owner_need_trust_anew() {
    let fixture = Fixture::new();
    let Some(_) = give_away(&fixture.root()) else { return };
    fixture.grant(me()).unwrap();
    nix::unistd::chown(&fixture.root(), Some(nix::unistd::Uid::from_raw(65533)), None).unwrap();
    assert!(fixture.needs_trust(me()).is_some(), "another owner");
    give_away(&fixture.root()).unwrap();
    assert_eq!(fixture.check(me()).unwrap(), Trust::Granted, "as it was");
    let moved = fixture.dir.path().join("moved");
    fs::rename(fixture.root(), &moved).unwrap();
    let checkout = Checkout { root: &moved, files: &[], uid: me() };
    assert!(matches!(check(&checkout, &fixture.file()).unwrap(), Trust::Needed(_)), "another path");
}

#[test]
fn trust_in_one_checkout_is_none_in_another() {
    let (one, other) = (Fixture::new(), Fixture::new());
    if give_away(&one.root()).and(give_away(&other.root())).is_none() {
        return;
    }
    one.grant(me()).unwrap();
    let checkout = Checkout { root: &other.root(), files: &other.files, uid: me() };
    assert!(matches!(check(&checkout, &one.file()).unwrap(), Trust::Needed(_)));
    one.file().grant(&checkout).unwrap();
    assert_eq!(one.check(me()).unwrap(), Trust::Granted, "the first is kept beside the second");
}

#[test]
fn a_file_of_a_newer_build_is_neither_believed_nor_overwritten() {
    let fixture = Fixture::new();
    let newer = r#"{"schema_version": 2, "checkouts": {}}"#;
    fixture.write(newer);
    assert!(matches!(fixture.grant(me()), Err(TrustError::Newer { version: 2, .. })));
    assert!(matches!(fixture.file().revoke(&fixture.root()), Err(TrustError::Newer { .. })));
    assert_eq!(fs::read_to_string(fixture.file().path()).unwrap(), newer);
    if give_away(&fixture.root()).is_some() {
        assert!(matches!(fixture.check(me()), Err(TrustError::Newer { .. })));
    }
}

#[test]
fn a_file_without_sense_is_an_error_and_no_trust() {
    for text in ["", "{}", "[]", "{\"schema_version\":1}", "{\"schema_version\":1,\"trusted\":[{}]}"] {
        let fixture = Fixture::new();
        fixture.write(text);
        assert!(matches!(fixture.grant(me()), Err(TrustError::Malformed { .. })), "{text:?}");
    }
}

#[test]
fn a_file_that_others_could_have_written_is_not_believed() {
    let fixture = Fixture::new();
    fixture.grant(me()).unwrap();
    fs::set_permissions(fixture.file().path(), fs::Permissions::from_mode(0o622)).unwrap();
    assert!(matches!(fixture.file().load(), Err(TrustError::Unsafe { .. })), "the file");

    fs::set_permissions(fixture.file().path(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(fixture.file().dir(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(fixture.file().load(), Err(TrustError::Unsafe { .. })), "its directory");

    fs::set_permissions(fixture.file().dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let strangers = TrustFile { uid: somebody(), ..fixture.file() };
    assert!(matches!(strangers.load(), Err(TrustError::Unsafe { .. })), "another user's");
    assert!(fixture.file().load().is_ok());
}

#[test]
fn a_file_that_is_a_link_is_not_followed() {
    let fixture = Fixture::new();
    let elsewhere = fixture.dir.path().join("elsewhere.json");
    File::create(&elsewhere).unwrap();
    fs::create_dir_all(fixture.file().dir()).unwrap();
    symlink(&elsewhere, fixture.file().path()).unwrap();
    assert!(matches!(fixture.file().load(), Err(TrustError::Io { .. })));
}

#[test]
fn the_file_is_the_same_for_all_sessions() {
    let input = |session: &str| PlacesInput {
        uid: 1000,
        session: Name::new(session).unwrap(),
        runtime_dir: None,
        state_home: PathBuf::from("/home/u/.local/state"),
        state_override: Some(PathBuf::from("/elsewhere")),
    };
    assert_eq!(TrustFile::of(&input("one")), TrustFile::of(&input("two")));
    assert_eq!(TrustFile::of(&input("one")).path(), Path::new("/home/u/.local/state/envctl/trusted.json"));
}
