//! The built-in presets are good, and bad ones are told.

use super::model::Claim;
use super::*;

const MINIMAL: &str = "title = 'X'\nports = { port = 7 }\nprobe = { tcp = true }\n[native]\nserver = ['x']\n";

fn mistakes(text: &str) -> Vec<String> {
    match Preset::parse(text) {
        Ok(_) => Vec::new(),
        Err(told) => vec![told],
    }
}

#[track_caller]
fn check_told(more: &str, expect: &str) {
    let told = mistakes(&format!("{MINIMAL}{more}")).join("\n");
    assert!(told.contains(expect), "{more}\n{told}");
}

fn given() -> Given<'static> {
    Given {
        project: "my-shop",
        unit: "db",
        host: HOST,
        ports: BTreeMap::from([(PORT.to_owned(), 5555), ("dist".to_owned(), 1), ("epmd".to_owned(), 2)]),
        secrets: BTreeMap::from([
            ("password".to_owned(), "5ec2e7".to_owned()),
            ("cookie".to_owned(), "c00".to_owned()),
        ]),
        ..Given::default()
    }
}

#[test]
fn every_built_in_preset_is_good_and_has_a_value_for_every_attribute_and_variable() {
    for (name, text) in BUILTIN {
        let preset = Preset::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let given = Given {
            ports: preset.ports.keys().cloned().zip(5000..).collect(),
            secrets: preset.secrets.keys().map(|secret| (secret.clone(), format!("the-{secret}"))).collect(),
            ..given()
        };
        let scope = preset.scope(&given).unwrap_or_else(|none| panic!("{name}: {none}"));
        for (attribute, secret) in preset.attribute_names() {
            let value = scope.get(&attribute).unwrap_or_else(|| panic!("{name} has no {attribute}"));
            assert_eq!(value.secret, secret, "{name}.{attribute}");
        }
        for (variable, text) in &preset.variables {
            text.fill(&scope).unwrap_or_else(|none| panic!("{name}: {variable}: {none}"));
        }
    }
}

#[test]
fn the_url_of_postgres_is_made_of_its_options_and_secret() {
    let preset = builtin("postgres").unwrap();
    let mut given = given();
    let url = |given: &Given<'_>| preset.scope(given).unwrap().get("url").unwrap().clone();
    assert_eq!(url(&given).text, "postgresql://postgres:5ec2e7@127.0.0.1:5555/my_shop");
    given.options.insert("user".to_owned(), "me@home".to_owned());
    given.options.insert("database".to_owned(), "shop".to_owned());
    assert_eq!(url(&given).text, "postgresql://me%40home:5ec2e7@127.0.0.1:5555/shop");
    assert!(url(&given).secret);
}

#[test]
fn no_debug_text_holds_a_secret() {
    let scope = builtin("postgres").unwrap().scope(&given()).unwrap();
    let shown = format!("{:?} {scope:?}", given());
    assert!(!shown.contains("5ec2e7"), "{shown}");
}

#[test]
fn a_secret_in_an_argument_list_is_refused() {
    let more = "args = ['--password', '${password}']\n[secrets.password]\n";
    check_told(more, "`${password}` is secret, and arguments can be read by everybody");
    // Also when it comes through an attribute.
    check_told("args = ['${url}']\n[secrets.password]\n[attributes]\nurl = 'x://${password}'\n", "`${url}` is secret");
}

#[test]
fn a_name_that_stands_for_nothing_is_told_with_those_there_are() {
    check_told("args = ['${prot}']\n", "`${prot}` stands for nothing here; there are data, dir, host, major, port");
    check_told("[attributes]\nurl = 'x://${server}'\n", "`${server}` stands for nothing here");
    check_told("[attributes]\na = '${b}'\nb = '${a}'\n", "made of itself");
    check_told("[options]\nport = '1'\n", "the name of something else");
}

#[test]
fn what_is_kept_for_others_may_not_hold_what_is_ones_own() {
    let step = "[[native.first]]\nwhat = 'x'\ncached = true\ncmd = ['init', '${into}', '${port}']\n";
    let told = mistakes(&format!("data = 'd'\n{MINIMAL}{step}")).join("\n");
    assert!(told.contains("`${port}` differs from one requirement to the next"), "{told}");
}

#[test]
fn a_probe_asks_exactly_one_question() {
    for (probe, number) in [("{}", 0), ("{ tcp = true, nats = true }", 2)] {
        let text = MINIMAL.replace("{ tcp = true }", probe);
        let told = mistakes(&text).join("\n");
        assert!(told.contains(&format!("a probe asks one question, not {number}")), "{told}");
    }
}

#[test]
fn an_unknown_key_and_a_bad_word_are_told_with_their_line() {
    check_told("comand = 'x'\n", "unknown field `comand`");
    check_told("[stop]\nsignal = 'FOO'\n", "`FOO` is no signal");
    check_told("[stop]\ngrace = '5'\n", "`5` is no length of time");
    check_told("args = ['${HOME}']\n", "names nothing");
}

#[test]
fn a_token_is_signed_with_the_secret_it_names() {
    let text = format!(
        "{MINIMAL}[secrets.key]\nbytes = 20\n[secrets.token]\njwt = {{ key = 'key', claims = {{ role = 'anon', exp = 4102444800 }} }}\n"
    );
    let preset = Preset::parse(&text).unwrap();
    let claims = &preset.secrets["token"].jwt.as_ref().unwrap().claims;
    assert_eq!(claims["exp"], Claim::Number(4_102_444_800));
    let dir = tempfile::TempDir::new().unwrap();
    let made = secrets(&preset, dir.path()).unwrap();
    assert_eq!(made["token"].split('.').count(), 3);
    assert!(made["token"].starts_with("eyJ"), "{}", made["token"]);
    assert_eq!(secrets(&preset, dir.path()).unwrap(), made);
    check_told("[secrets.token]\njwt = { key = 'nothing', claims = {} }\n", "`nothing` is no secret to sign with");
}
