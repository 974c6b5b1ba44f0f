use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use proptest::prelude::*;

use super::*;
use crate::spec::{Attribute, Attributes};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn vars() -> RtVars {
    RtVars::new(name("default"), PathBuf::from("/run/user/1000/envctl/default/ctl.sock"))
}

fn refused(text: &str) -> String {
    RtVars::load(text).expect_err(text).to_string()
}

#[test]
fn an_envelope_is_one_line_of_ascii_and_comes_back_as_it_was() {
    let project = ProjectVars { name: WireName(name("shop")), root: PathBuf::from("/home/zoë/\u{1f980} shop") };
    let ports = IndexMap::from([(name("http"), 8000), (name("admin"), 9000)]);
    let full = vars()
        .update(Patch { proj: Some(project), run: Some("20261121T102030Z-3f9a".to_owned()), ..Patch::default() })
        .for_child(&name("api"), Incarnation(3), &ports);
    let (variable, value) = full.dump().unwrap();
    assert_eq!(variable, "ENVCTL_RT_VARS");
    assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{value}");
    assert_eq!(RtVars::load(&value).unwrap(), full);
    assert_eq!((full.role, full.unit.unwrap().inc), (Role::Unit, 3));
}

#[test]
fn fields_of_a_newer_build_are_handed_on() {
    let text =
        r#"{"v":1,"sid":"default","ctl":"/r/ctl.sock","depth":0,"role":"unit","bs":{"dir":"/x"},"flags":[1,"a"]}"#;
    let loaded = RtVars::load(text).unwrap();
    let child = loaded.for_child(&name("api"), Incarnation(1), &IndexMap::new());
    let again = RtVars::load(&child.dump().unwrap().1).unwrap();
    assert_eq!(again.unknown["bs"], serde_json::json!({"dir": "/x"}));
    assert_eq!(again.unknown["flags"], serde_json::json!([1, "a"]));
}

#[test]
fn a_newer_version_is_told_apart_from_a_malformed_one() {
    assert!(matches!(RtVars::load(r#"{"v":2,"sid":7}"#), Err(VarsError::Newer { found: 2 })));
    assert!(matches!(RtVars::load(r#"{"v":99999999999}"#), Err(VarsError::Newer { found: 99_999_999_999 })));
    assert!(matches!(RtVars::load(r#"{"v":"1"}"#), Err(VarsError::Malformed(_))));
    assert!(matches!(RtVars::load(r#"{"v":0,"sid":"a","ctl":"/c"}"#), Err(VarsError::Field { field: "v", .. })));
}

#[test]
fn an_envelope_of_a_megabyte_is_refused_before_it_is_parsed() {
    let long = format!(r#"{{"v":1,"sid":"default","ctl":"/c","x":"{}"}}"#, "a".repeat(1 << 20));
    assert!(matches!(RtVars::load(&long), Err(VarsError::TooLong { max: LOAD_MAX_BYTES, .. })));
    // Depth is bounded too: it fails, it does not exhaust the stack.
    let deep = format!(r#"{{"v":1,"sid":"default","ctl":"/c","x":{}}}"#, "[".repeat(30_000));
    assert!(matches!(RtVars::load(&deep), Err(VarsError::Malformed(_))));
}

#[test]
fn an_envelope_too_long_for_a_child_is_not_written() {
    let mut large = vars();
    large.unknown.insert("x".to_owned(), Value::from("a".repeat(DUMP_WARN_BYTES)));
    assert!(large.dump().is_ok());
    large.unknown.insert("x".to_owned(), Value::from("a".repeat(DUMP_MAX_BYTES)));
    assert!(matches!(large.dump(), Err(VarsError::TooLong { max: DUMP_MAX_BYTES, .. })));
}

#[test]
fn hostile_names_and_paths_are_refused() {
    for sid in ["", "..", "a/b", "A", "a\\u0000b", "-rf"] {
        refused(&format!(r#"{{"v":1,"sid":"{sid}","ctl":"/c"}}"#));
    }
    for ctl in ["", "c", "./c", "/a/../c", "/a/./c", "/a//c", "/a/c/", "/a\\nb", "/a\\u0000"] {
        let text = refused(&format!(r#"{{"v":1,"sid":"default","ctl":"{ctl}"}}"#));
        assert!(text.contains("`ctl`"), "{text}");
    }
    refused(r#"{"v":1,"sid":"default","ctl":"/c","depth":9}"#);
    refused(r#"{"v":1,"sid":"default","ctl":"/c","role":"root"}"#);
    refused(r#"{"v":1,"sid":"default","ctl":"/c","ports":{"http":70000}}"#);
    refused(r#"{"v":1,"sid":"default","ctl":"/c","proj":{"name":"shop","root":"../x"}}"#);
    refused(r#"{"v":1,"sid":"default","sid":"other","ctl":"/c"}"#);
}

#[test]
fn an_envelope_without_a_role_is_a_guests() {
    // A process is ended with its unit only on clear proof.
    assert_eq!(RtVars::load(r#"{"v":1,"sid":"default","ctl":"/c"}"#).unwrap().role, Role::Guest);
}

#[test]
fn sessions_nest_eight_deep_and_no_deeper() {
    let mut inner = vars();
    for depth in 1..=DEPTH_MAX {
        inner = inner.nested(name("inner"), PathBuf::from("/r/ctl.sock")).unwrap();
        assert_eq!(inner.depth, depth);
        assert!(inner.psid.is_some());
    }
    assert!(inner.nested(name("inner"), PathBuf::from("/r/ctl.sock")).is_err());
}

#[test]
fn only_a_socket_of_this_user_in_a_private_directory_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let base = std::fs::canonicalize(dir.path()).unwrap();
    let uid = base.metadata().unwrap().uid();
    let valid = |file: &str, uid: u32| RtVars::new(name("default"), base.join(file)).validate(uid);
    let private = |mode: u32| std::fs::set_permissions(&base, std::fs::Permissions::from_mode(mode)).unwrap();
    private(0o700);
    let _listener = UnixListener::bind(base.join("ctl.sock")).unwrap();
    std::fs::File::create(base.join("file")).unwrap();
    std::os::unix::fs::symlink(base.join("ctl.sock"), base.join("link")).unwrap();
    assert!(valid("ctl.sock", uid).is_ok());
    assert!(valid("gone.sock", uid).is_err());
    assert!(valid("file", uid).is_err());
    assert!(valid("link", uid).is_err());
    assert!(valid("ctl.sock", uid + 1).is_err());
    private(0o755);
    assert!(valid("ctl.sock", uid).is_err());
}

#[test]
fn a_block_of_environment_is_searched_by_whole_names() {
    let block = b"A=1\0XENVCTL_RT_VARS=no\0ENVCTL_RT_VARS_X=no\0ENVCTL_RT_VARS={\"v\":1}\0B=2\0";
    assert_eq!(process::find(block), Some("{\"v\":1}"));
    assert_eq!(process::find(b"ENVCTL_RT_VARS"), None);
    assert_eq!(process::find(b""), None);
    assert_eq!(process::find(b"ENVCTL_RT_VARS=\xff\0"), None);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a bystander of the test, not a unit")]
fn the_envelope_of_a_running_process_is_found() {
    let sent = vars().for_child(&name("api"), Incarnation(2), &IndexMap::new());
    let (variable, value) = sent.dump().unwrap();
    let spawn = |with: bool| {
        let mut command = std::process::Command::new("cat");
        command.env_remove(RT_VARS).stdin(std::process::Stdio::piped());
        if with {
            command.env(&variable, &value);
        }
        command.spawn().unwrap()
    };
    let (mut with, mut without) = (spawn(true), spawn(false));
    assert_eq!(RtVars::get(with.id()).unwrap(), Some(sent));
    assert_eq!(RtVars::get(without.id()).unwrap(), None);
    let gone = with.id();
    for child in [&mut with, &mut without] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(RtVars::get(gone).unwrap(), None);
}

#[test]
fn derived_variables_never_hold_a_secret() {
    let attribute = |value: &str, secret| Attribute { value: value.to_owned(), secret };
    let of = |url: Attribute| BTreeMap::from([("url".to_owned(), url)]);
    let attributes = Attributes::from([
        (name("postgres"), of(attribute("postgresql://u:hunter2@localhost/db", true))),
        (name("web-ui"), of(attribute("http://localhost:3000", false))),
    ]);
    let ports = IndexMap::from([(name("http"), 8000), (name("admin"), 9000)]);
    let mut variables = derived(&name("shop"), &name("api"), &ports);
    variables.extend(urls(&attributes));
    let expect =
        [("ENVCTL_PROJECT", "shop"), ("ENVCTL_UNIT", "api"), ("PORT", "8000"), ("WEB_UI_URL", "http://localhost:3000")];
    let expect: Vec<_> = expect.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(variables, expect);
}

fn names() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9_-]{0,20}".prop_map(|text| name(&text))
}

fn paths() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec("[^/\\p{Cc}]{1,12}", 1..5)
        .prop_map(|parts| PathBuf::from(format!("/{}", parts.join("/"))))
        .prop_filter("normal", |path| is_normal(path))
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "\\PC{0,200}") {
        let _ = RtVars::load(&text);
    }

    #[test]
    fn no_mangled_envelope_makes_loading_panic(at in 0_usize..200, junk in "\\PC{0,5}") {
        let (_, value) = vars().for_child(&name("api"), Incarnation(1), &IndexMap::new()).dump().unwrap();
        let at = at.min(value.len());
        let _ = RtVars::load(&format!("{}{junk}{}", &value[..at], &value[at..]));
        let _ = RtVars::load(&value[..at]);
    }

    #[test]
    fn every_envelope_comes_back_as_it_was(
        sid in names(), ctl in paths(), unit in names(), inc in 1_u32.., port in any::<u16>(),
        extra in "\\PC{0,30}", ll in prop::option::of("\\PC{0,10}"),
    ) {
        let mut sent = RtVars::new(sid, ctl).for_child(&unit, Incarnation(inc), &IndexMap::from([(unit.clone(), port)]));
        sent.ll = ll;
        sent.unknown.insert("later".to_owned(), Value::from(extra));
        let (_, value) = sent.dump().unwrap();
        prop_assert!(value.is_ascii() && !value.contains('\n'));
        prop_assert_eq!(RtVars::load(&value).unwrap(), sent);
    }
}
