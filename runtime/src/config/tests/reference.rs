//! `docs/reference/config.md` against the reader: what it accepts is asked of the reader itself, by mistakes that make it
//! list what it knows.

use super::*;

const PAGE: &str = include_str!("../../../../docs/reference/config.md");

/// A key and a word that nobody could have meant: hints then list everything that is known.
const UNKNOWN: &str = "zzzzzzzzzzzz";

/// Each table the reader knows: the headings it is described under, and a file whose only unknown key is in that table.
const TABLES: [(&[&str], &str); 22] = [
    (&["Containers"], "[requirements.redis]\ncontainer.zzzzzzzzzzzz = 1"),
    (&["Top of the file"], "zzzzzzzzzzzz = 1\n[services.a]\ncmd = 'a'"),
    (&["Logs"], "logs.zzzzzzzzzzzz = 1\n[services.a]\ncmd = 'a'"),
    (&["Logs"], "[services.a]\ncmd = 'a'\nlogs.zzzzzzzzzzzz = 1"),
    (&["Every unit", "Services and tasks"], "[services.a]\ncmd = 'a'\nzzzzzzzzzzzz = 1"),
    (&["Every unit", "Services and tasks"], "[tasks.a]\ncmd = 'a'\nzzzzzzzzzzzz = 1"),
    (&["Every unit", "Requirements"], "[requirements.redis]\nzzzzzzzzzzzz = 1"),
    (&["Requirements", "Probes"], "[requirements.redis]\nready.zzzzzzzzzzzz = 1"),
    (&["Backoff"], "[services.a]\ncmd = 'a'\nbackoff.zzzzzzzzzzzz = 1"),
    (&["Stop"], "[services.a]\ncmd = 'a'\nstop.zzzzzzzzzzzz = 1"),
    (&["Limits"], "[services.a]\ncmd = 'a'\nlimits.zzzzzzzzzzzz = 1"),
    (&["Stop"], "[services.a]\ncmd = 'a'\nstop = [{ signal = 'INT', after = '1s', zzzzzzzzzzzz = 1 }]"),
    (&["Stop"], "[requirements.redis]\nstop.zzzzzzzzzzzz = 1"),
    (&["Init"], "[requirements.redis]\ninit = [{ sh = 'x', zzzzzzzzzzzz = 1 }]"),
    (&["Needs"], "[services.a]\ncmd = 'a'\nneeds.b.zzzzzzzzzzzz = 1\n[services.b]\ncmd = 'b'"),
    (&["Probes"], "[services.a]\ncmd = 'a'\nport = 1\nready = { tcp = true, zzzzzzzzzzzz = 1 }"),
    (&["Probes"], "[services.a]\ncmd = 'a'\nport = 1\nalive = { tcp = true, zzzzzzzzzzzz = 1 }"),
    (&["Env files"], "[services.a]\ncmd = 'a'\nenv_file = { path = 'x', optional = true, zzzzzzzzzzzz = 1 }"),
    (&["Terminals"], "[services.a]\ncmd = 'a'\ntty.zzzzzzzzzzzz = 1"),
    (&["Groups"], "[services.a]\ncmd = 'a'\n[groups.g]\nmembers = ['a']\nzzzzzzzzzzzz = 1"),
    (&["Supervision"], "supervision.zzzzzzzzzzzz = 1\n[services.a]\ncmd = 'a'"),
    (&["Probes"], "[services.a]\ncmd = 'a'\nready = { zzzzzzzzzzzz = 1, log = 'x' }"),
];

/// Each key that takes one of a few words, as [`TABLES`].
const WORDS: [(&str, &str); 13] = [
    ("Containers", "[requirements.redis]\ncontainer.network = 'zzzzzzzzzzzz'"),
    ("Every unit", "[services.a]\ncmd = 'a'\nrestart = 'zzzzzzzzzzzz'"),
    ("Every unit", "[services.a]\ncmd = 'a'\nescalate = 'zzzzzzzzzzzz'"),
    ("Stop", "[services.a]\ncmd = 'a'\nstop.scope = 'zzzzzzzzzzzz'"),
    ("Top of the file", "on_daemon_death = 'zzzzzzzzzzzz'\n[services.a]\ncmd = 'a'"),
    ("Needs", "[services.a]\ncmd = 'a'\nneeds.b = 'zzzzzzzzzzzz'\n[services.b]\ncmd = 'b'"),
    ("Needs", "[services.a]\ncmd = 'a'\nneeds.b.then = 'zzzzzzzzzzzz'\n[services.b]\ncmd = 'b'"),
    ("Groups", "[services.a]\ncmd = 'a'\n[groups.g]\nmembers = ['a']\nstrategy = 'zzzzzzzzzzzz'"),
    ("Groups", "[services.a]\ncmd = 'a'\n[groups.g]\nmembers = ['a']\nescalate = 'zzzzzzzzzzzz'"),
    ("Supervision", "supervision.strategy = 'zzzzzzzzzzzz'\n[services.a]\ncmd = 'a'"),
    ("Supervision", "supervision.escalate = 'zzzzzzzzzzzz'\n[services.a]\ncmd = 'a'"),
    ("Requirements", "[requirements.redis]\ndriver = 'zzzzzzzzzzzz'"),
    ("Requirements", "[requirements.a]\npreset = 'zzzzzzzzzzzz'"),
];

/// The text below a heading of the page.
fn section(heading: &str) -> &'static str {
    let found = PAGE.split("\n## ").find_map(|section| section.strip_prefix(heading)?.strip_prefix('\n'));
    found.unwrap_or_else(|| panic!("the page has no section `{heading}`"))
}

/// The list in the hint of `text` that begins with `lead`.
fn listed(text: &str, lead: &str) -> Vec<String> {
    let Err(diagnostics) = Project::new(&[("envctl.toml", text)]).load() else { panic!("accepted: {text}") };
    let hints = hints_of(&diagnostics);
    let list = hints.iter().find_map(|hint| hint.strip_prefix(lead));
    let list = list.unwrap_or_else(|| panic!("nothing is listed for {text}: {hints:?}"));
    list.split(';').next().unwrap_or_default().split(", ").map(str::to_owned).collect()
}

/// The files of the reader with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    files.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_key_the_reader_knows_is_on_the_reference_page() {
    for (headings, text) in TABLES {
        for key in listed(text, "known keys: ") {
            let row = |heading: &&str| {
                let rows = section(heading).lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
                rows.flat_map(|cell| cell.split(", ")).any(|cell| cell == format!("`{key}`"))
            };
            assert!(headings.iter().any(row), "docs/reference/config.md: `{key}` has no row under {headings:?}");
        }
    }
}

#[test]
fn every_table_of_the_reader_is_compared_with_the_page() {
    let made: usize = sources().iter().map(|(_, text)| text.matches("Reader::new(").count()).sum();
    // Units of three kinds share a reader, as do `logs` of both, the two probes and the two forms of `stop`; one probe is asked twice.
    let shared = TABLES.len() - 6;
    assert_eq!(made, shared, "a new table is read: add it to TABLES and to docs/reference/config.md");
}

#[test]
fn every_word_a_key_may_hold_is_on_the_reference_page() {
    for (heading, text) in WORDS {
        let lead = if text.contains("preset") { "presets: " } else { "one of " };
        for word in listed(text, lead) {
            let written = format!("`\"{word}\"`");
            assert!(section(heading).contains(&written), "docs/reference/config.md: {written} is not under {heading}");
        }
    }
}

#[test]
fn the_keys_of_the_users_configuration_are_on_the_reference_page() {
    let project = Project::new(&[("envctl.toml", "[services.a]\ncmd = 'a'"), ("user.toml", "zzzzzzzzzzzz = 1")]);
    let source = Source { user_config: Some(project.root().join("user.toml")), ..project.source() };
    let hints = hints_of(&load(&source).unwrap_err());
    let keys = hints[0].strip_prefix("known keys: ").unwrap();
    for key in keys.split(", ") {
        assert!(section("Files and their precedence").contains(&format!("`{key}`")), "{key} is missing");
    }
}

#[test]
fn every_default_is_in_its_row_of_the_reference_page() {
    let text = "[services.a]\ncmd = 'a'\nport = 1\nready = { tcp = true }\n[tasks.b]\ncmd = 'b'";
    let loaded = good(text);
    let defaults = loaded.effective().into_iter().filter(|value| value.origin_text(Path::new("")) == "default");
    let mut compared = 0;
    for default in defaults.filter(|default| default.key != "name") {
        let key = default.key.rsplit('.').next().unwrap();
        let row = |line: &&str| line.starts_with(&format!("| `{key}` |"));
        let value = format!("`{}`", default.value);
        let found =
            PAGE.lines().filter(row).any(|row| row.split(" | ").nth(2).is_some_and(|cell| cell.contains(&value)));
        assert!(found, "docs/reference/config.md: no row of `{key}` has the default {value}");
        compared += 1;
    }
    assert!(compared > 15, "only {compared} defaults were compared");
}

#[test]
fn every_example_of_the_reference_page_is_accepted_without_a_warning() {
    let examples: Vec<&str> = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 10);
    for example in examples {
        assert!(!example.contains(UNKNOWN));
        let loaded = good(example);
        assert!(loaded.warnings.list.is_empty(), "{example}\n{}", loaded.warnings);
    }
}
