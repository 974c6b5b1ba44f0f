//! A configuration that changes under a run, and one that must not be taken (reliability matrix, H03 to H07 and G06).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{FIXTURE, Project, TestEnvironment, UP_WAIT, proc, until};

/// Rounds of random changes; each ends with a look at everything.
const ROUNDS: u32 = 20;
/// The seed of a run that is to be repeated.
const SEED_VARIABLE: &str = "ENVCTL_TEST_SEED";
/// Longest way to the state that the file describes.
const CONVERGED_WITHIN: Duration = Duration::from_secs(30);
/// Longest that a file nobody can have written by hand may keep a command busy.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);
/// Names of units in random files.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A unit of a file: which version of its command, what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    version: u64,
    needs: BTreeSet<&'static str>,
}

/// The units of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct File(BTreeMap<&'static str, Unit>);

/// What must hold of a run, and who may have a new life.
#[derive(Debug, Default)]
struct Round {
    /// The pids at its beginning.
    pids: BTreeMap<&'static str, u32>,
    /// Units that something was done to.
    touched: BTreeSet<&'static str>,
}

/// SplitMix64: small, and the same everywhere for a seed.
#[derive(Debug)]
struct Random(u64);

// === impl Random ===

impl Random {
    /// A new seed, or that of [`SEED_VARIABLE`]; a failing test shows it.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let given = std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(now.subsec_nanos()) | (now.as_secs() << 32));
        eprintln!("{SEED_VARIABLE}={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        let at = self.below(u64::try_from(list.len()).expect("a length"));
        list[usize::try_from(at).expect("an index")]
    }
}

// === impl File ===

impl File {
    /// Services that take their time to stop, so that changes meet them in every state.
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, Unit { version, needs }) in &self.0 {
            let _ = writeln!(text, "[services.{name}]\ncmd = [\"FX\", \"slow-term\", \"120\", \"v{version}\"]");
            let _ = writeln!(
                text,
                "needs = [{}]",
                needs.iter().map(|need| format!("\"{need}\"")).collect::<Vec<_>>().join(", ")
            );
        }
        text.replace("\"FX\"", &format!("{FIXTURE:?}"))
    }

    fn write(&self, project: &Project<'_>) {
        project.write("envctl.toml", self.text());
    }

    /// Another file: a unit more, a unit less, another command or another need. Never empty, never a cycle.
    fn changed(&self, random: &mut Random) -> Self {
        let mut file = self.clone();
        for _ in 0..=random.below(2) {
            let name = random.one_of(&NAMES);
            match random.below(4) {
                0 if file.0.len() > 1 => file.remove(name),
                1 => file.need(name, random.one_of(&NAMES)),
                _ => {
                    let needs = file.0.get(name).map(|unit| unit.needs.clone()).unwrap_or_default();
                    file.0.insert(name, Unit { version: random.below(1_000_000), needs });
                }
            }
        }
        file
    }

    fn remove(&mut self, name: &str) {
        self.0.remove(name);
        for unit in self.0.values_mut() {
            unit.needs.remove(name);
        }
    }

    /// Needs go from later names to earlier ones, so that there is no cycle.
    fn need(&mut self, one: &'static str, other: &'static str) {
        let (low, high) = (one.min(other), one.max(other));
        if low != high
            && self.0.contains_key(low)
            && let Some(unit) = self.0.get_mut(high)
        {
            unit.needs.insert(low);
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }

    /// `names` and everything that needs them, in this file.
    fn with_dependents(&self, names: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
        let mut all = names.clone();
        // Needs point to earlier names only, so one pass in order finds them all.
        for (name, unit) in &self.0 {
            if unit.needs.iter().any(|need| all.contains(need)) {
                all.insert(name);
            }
        }
        all
    }

    /// Units that differ between two files, with all that depends on them in either.
    fn differing(&self, other: &Self) -> BTreeSet<&'static str> {
        let differs = |name: &&&'static str| self.0.get(**name) != other.0.get(**name);
        let names = self.0.keys().chain(other.0.keys());
        let changed = names.filter(differs).copied().collect();
        other.with_dependents(&self.with_dependents(&changed))
    }
}

/// Waits until exactly the file's units run, each in its file's version, and nothing else is left of any other life.
#[track_caller]
fn converges(env: &TestEnvironment, project: &Project<'_>, file: &File, seed: u64) -> BTreeMap<&'static str, u32> {
    until(CONVERGED_WITHIN, &format!("the state of the file (seed {seed}):\n{}", file.text()), || {
        let ps = project.ps();
        let units = ps["units"].as_array().cloned().unwrap_or_default();
        let name = |unit: &Value| unit["name"].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<String> = units.iter().map(name).collect();
        names.sort();
        let mut pids = BTreeMap::new();
        for (name, Unit { version, .. }) in &file.0 {
            let found = units.iter().find(|unit| unit["name"] == *name && unit["state"] == "running");
            let pid = found.and_then(|unit| u32::try_from(unit["pid"].as_u64()?).ok());
            let processes = env.processes();
            let command = processes.iter().find(|process| Some(process.pid) == pid).map(|process| &process.command);
            if command.is_some_and(|command| command.ends_with(&format!(" v{version}"))) {
                pids.extend(pid.map(|pid| (*name, pid)));
            }
        }
        let mut alive = fixtures(env);
        alive.sort_unstable();
        let mut wanted: Vec<u32> = pids.values().copied().collect();
        wanted.sort_unstable();
        if names == file.names() && pids.len() == file.0.len() && alive == wanted { Ok(pids) } else { Err((ps, alive)) }
    })
}

/// Every process of a unit, whoever knows of it.
fn fixtures(env: &TestEnvironment) -> Vec<u32> {
    let processes = env.processes();
    processes.iter().filter(|process| process.command.starts_with(FIXTURE)).map(|process| process.pid).collect()
}

fn file(units: &[(&'static str, u64, &[&'static str])]) -> File {
    let unit = |version: u64, needs: &[&'static str]| Unit { version, needs: needs.iter().copied().collect() };
    File(units.iter().map(|(name, version, needs)| (*name, unit(*version, needs))).collect())
}

#[test]
fn h03_a_joined_up_takes_the_changed_file_over_and_leaves_the_rest_alone() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    let before = file(&[("same", 1, &[]), ("changed", 1, &[]), ("removed", 1, &[])]);
    before.write(&project);
    project.up();
    let old = converges(&env, &project, &before, 0);

    let after = file(&[("same", 1, &[]), ("changed", 2, &[]), ("added", 1, &["same"])]);
    after.write(&project);
    project.envctl(&["up", "-d"]).ok();
    let new = converges(&env, &project, &after, 0);
    assert_eq!(new["same"], old["same"], "an unchanged unit was restarted");
    assert_ne!(new["changed"], old["changed"]);
    assert!(!proc::alive(old["removed"]), "a removed unit runs on");
    assert_eq!(project.unit("same")["incarnation"], 1);
    project.envctl(&["why", "removed"]).exits(1).complains(&["no unit is called `removed`"]);
}

#[test]
fn h03_lines_that_move_and_comments_restart_nothing() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    let units = file(&[("a", 1, &[]), ("b", 1, &["a"])]);
    units.write(&project);
    project.up();
    let before = converges(&env, &project, &units, 0);
    project.write("envctl.toml", format!("# moved\n\n\n{}\n# end\n", units.text()));
    let joined = project.envctl(UP_WAIT).ok();
    joined.complains(&["up"]);
    assert_eq!(converges(&env, &project, &units, 0), before);
}

#[test]
fn h03_a_file_swapped_while_units_start_is_what_comes_up() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    let gated = |version: u32| {
        format!(
            "[tasks.gate]\ncmd = [{FIXTURE:?}, \"exit\", \"0\", \"400\"]\n[services.late]\n\
             cmd = [{FIXTURE:?}, \"slow-term\", \"100\", \"v{version}\"]\nneeds = {{ gate = \"done\" }}\n"
        )
    };
    project.write("envctl.toml", gated(1));
    project.envctl(&["up", "-d"]).ok();
    project.write("envctl.toml", gated(2));
    project.envctl(UP_WAIT).ok();
    let pid = project.pid("late");
    let command = env.processes().into_iter().find(|process| process.pid == pid).expect("the service").command;
    assert!(command.ends_with(" v2"), "{command}");
    assert_eq!(fixtures(&env), [pid], "a life of the old file is left");
}

#[test]
fn h03_a_unit_that_is_removed_and_comes_back_while_it_stops_has_one_life() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    let with = |version| file(&[("aside", 1, &[]), ("back", version, &[])]);
    let without = file(&[("aside", 1, &[])]);
    with(1).write(&project);
    project.up();
    let before = converges(&env, &project, &with(1), 0);
    without.write(&project);
    project.envctl(&["up", "-d"]).ok();
    with(2).write(&project);
    project.envctl(&["up", "-d"]).ok();
    let after = converges(&env, &project, &with(2), 0);
    assert_eq!(after["aside"], before["aside"]);
    assert_ne!(after["back"], before["back"]);
}

#[test]
fn h03_a_file_swapped_while_the_run_goes_down_is_what_the_next_up_starts() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    let (before, after) = (file(&[("a", 1, &[]), ("b", 1, &["a"])]), file(&[("b", 2, &[]), ("c", 1, &["b"])]));
    before.write(&project);
    project.up();
    let down = project.start(&["down"]);
    project.until("b", "on its way down", |unit| unit["desired"] == "down");
    after.write(&project);
    // Whether the `up` waits for the end of the run or is refused, afterwards one more of them is enough.
    let _ = project.envctl(&["up", "-d"]).without_panic();
    down.wait(CONVERGED_WITHIN).ok();
    project.envctl(&["up", "-d"]).ok();
    converges(&env, &project, &after, 0);
}

#[test]
fn h03_a_file_changed_before_the_daemon_died_is_taken_over_by_the_next_up() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    let (before, after) = (file(&[("a", 1, &[]), ("same", 1, &[])]), file(&[("a", 2, &[]), ("same", 1, &[])]));
    before.write(&project);
    project.up();
    let old = converges(&env, &project, &before, 0);
    after.write(&project);
    proc::kill_hard(env.daemon_pid());
    project.until("same", "taken over", |unit| unit["adopted"] == true);
    assert_eq!(project.pid("a"), old["a"], "a file that nobody brought up changes nothing");
    project.up();
    assert_eq!(converges(&env, &project, &after, 0)["same"], old["same"]);
}

#[test]
fn h03_random_changes_of_the_file_at_random_moments_converge_to_the_last_one() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    let mut random = Random::new();
    let seed = random.0;
    let mut current = file(&[("a", 1, &[]), ("b", 1, &["a"]), ("c", 1, &[])]);
    current.write(&project);
    project.up();
    let mut round = Round { pids: converges(&env, &project, &current, seed), ..Round::default() };
    for _ in 0..ROUNDS {
        for _ in 0..=random.below(3) {
            round.touched.extend(disturb(&project, &mut current, &mut random));
        }
        project.envctl(&["up", "-d"]).ok();
        let pids = converges(&env, &project, &current, seed);
        for (name, pid) in round.pids.iter().filter(|(name, _)| !round.touched.contains(*name)) {
            assert_eq!(pids.get(name), Some(pid), "{name} was left alone and has another life (seed {seed})");
        }
        round = Round { pids, ..Round::default() };
    }
    project.down();
    assert_eq!(fixtures(&env), Vec::<u32>::new());
}

/// One thing that happens to a run, and the units that may have a new life for it. Waits for nothing.
fn disturb(project: &Project<'_>, current: &mut File, random: &mut Random) -> BTreeSet<&'static str> {
    let name = random.one_of(&current.names());
    match random.below(6) {
        0 => {
            project.envctl(&["restart", name]).ok();
        }
        1 => {
            project.envctl(&["stop", name]).ok();
            project.envctl(&["start", name]).ok();
        }
        2 => {
            project.envctl(&["stop", name]).ok();
        }
        _ => {
            let changed = current.changed(random);
            changed.write(project);
            project.envctl(&["up", "-d"]).ok();
            let touched = current.differing(&changed);
            *current = changed;
            return touched;
        }
    }
    current.with_dependents(&BTreeSet::from([name]))
}

#[test]
fn h04_an_invalid_config_changes_nothing() {
    let env = TestEnvironment::new();
    let project = env.empty_project("project");
    let good = file(&[("a", 1, &[]), ("b", 1, &["a"])]);
    good.write(&project);
    project.up();
    let before = converges(&env, &project, &good, 0);
    let run = project.ps()["run"].clone();
    let changed = file(&[("a", 2, &[]), ("b", 2, &["a"]), ("c", 1, &[])]).text();
    let bad = [
        ("syntax", format!("{changed}[services.d\n"), "envctl.toml:"),
        ("type", format!("{changed}[services.d]\ncmd = 7\n"), "envctl.toml:"),
        ("unknown key", format!("{changed}restrat = \"never\"\n"), "restrat"),
        ("duplicate", format!("{changed}[services.a]\ncmd = [\"true\"]\n"), "envctl.toml:"),
        ("missing need", format!("{changed}[services.d]\ncmd = [\"true\"]\nneeds = [\"nobody\"]\n"), "nobody"),
        (
            "cycle",
            format!(
                "{changed}[services.d]\ncmd = [\"true\"]\nneeds = [\"e\"]\n[services.e]\ncmd = [\"true\"]\nneeds = [\"d\"]\n"
            ),
            "d → e → d",
        ),
        ("nothing", String::new(), "no unit"),
    ];
    for (what, text, word) in &bad {
        project.write("envctl.toml", text);
        for command in [["up", "-d"].as_slice(), UP_WAIT, &["up"], &["start", "a"]] {
            project.envctl(command).exits(1).complains(&["error:", word]);
        }
        let (ps, names) = (project.ps(), good.names());
        let pids: Vec<Value> = names.iter().map(|name| project.unit(name)["pid"].clone()).collect();
        assert_eq!(pids, names.iter().map(|name| Value::from(before[name])).collect::<Vec<_>>(), "{what}: {ps:#}");
        assert_eq!(ps["run"], run, "{what}");
        assert_eq!(ps["units"].as_array().map(Vec::len), Some(2), "{what}: {ps:#}");
    }
    good.write(&project);
    project.envctl(UP_WAIT).ok();
    assert_eq!(converges(&env, &project, &good, 0), before, "the old file again is no change");
}

/// Starts are refused, and nothing was made by the canary of the configuration.
#[track_caller]
fn starts_nothing(env: &TestEnvironment, what: &str, toml: &str, words: &[&str]) {
    let project = env.project(toml);
    for command in [["up", "-d"].as_slice(), &["start"], UP_WAIT, &["up"]] {
        let output = project.envctl(command).exits(1);
        output.complains(&["error:", "hint:"]);
        output.complains(words);
        assert!(output.took < REFUSED_WITHIN, "{what}: refused only after {:?}", output.took);
    }
    assert_eq!(project.read("canary"), "", "{what}: something was run");
    assert!(env.sockets().is_empty(), "{what}: a daemon was started");
}

#[test]
fn h05_misspelt_keys_and_bad_durations_never_fall_back_to_a_default() {
    let env = TestEnvironment::new();
    let task = "[tasks.canary]\nsh = \"echo ran > canary\"\n";
    let misspelt = [
        ("top level", "enviroment = { A = \"1\" }\n", "enviroment"),
        ("table", "[service.a]\ncmd = [\"true\"]\n", "service"),
        ("unit", "[services.a]\ncmd = [\"true\"]\nrestrat = \"never\"\n", "restrat"),
        ("a value", "[services.a]\ncmd = [\"true\"]\nrestart = \"nevr\"\n", "nevr"),
        ("nested", "[services.a]\ncmd = [\"true\"]\nstop = { grase = \"1s\" }\n", "grase"),
        ("probe", "[services.a]\ncmd = [\"true\"]\nready = { log = \"up\", witin = \"1s\" }\n", "witin"),
        ("user", "[services.a]\ncmd = [\"true\"]\nuser = \"0day\"\n", "user"),
    ];
    for (what, text, word) in misspelt {
        let toml = if what == "top level" { format!("{text}{task}") } else { format!("{task}{text}") };
        starts_nothing(&env, what, &toml, &[word]);
    }
    for bad in [
        "\"\"",
        "\"soon\"",
        "\"5\"",
        "5",
        "-1",
        "1.5",
        "\"-5s\"",
        "\"1s \"",
        "\"10 s\"",
        "\"5x\"",
        "\"99999999999h\"",
        "true",
    ] {
        for place in ["stop = { grace = DURATION }", "ready = { log = \"up\", within = DURATION }"] {
            let key = place.replace("DURATION", bad);
            let toml = format!("{task}[services.a]\ncmd = [\"true\"]\n{key}\n");
            starts_nothing(&env, &key, &toml, &["envctl.toml:5:"]);
        }
    }
}

#[test]
fn h07_large_and_deep_files_are_refused_at_once() {
    let env = TestEnvironment::new();
    let unit = "[services.a]\ncmd = [\"true\"]\n";
    let deep = 100_000;
    let (mib, twenty) = (1 << 20, 20_000);
    let files = [
        ("1 MiB and a byte", format!("{unit}{}", "#".repeat(mib + 1 - unit.len()))),
        ("10 MiB", format!("{unit}{}", "#".repeat(10 * mib))),
        ("10 MiB of one text", format!("{unit}env = {{ A = \"{}\" }}\n", "x".repeat(10 * mib))),
        ("arrays", format!("{unit}x = {}{}\n", "[".repeat(deep), "]".repeat(deep))),
        ("arrays without an end", format!("{unit}x = {}", "[".repeat(deep))),
        ("inline tables", format!("{unit}x = {}1{}\n", "{a=".repeat(deep), "}".repeat(deep))),
        ("dotted keys", format!("{unit}{}x = 1\n", "a.".repeat(deep))),
        ("a dotted table", format!("{unit}[{}x]\ny = 1\n", "a.".repeat(deep))),
        ("many unknown keys", format!("{unit}{}", (0..twenty).map(|at| format!("k{at} = 1\n")).collect::<String>())),
        ("many unknown needs", format!("{unit}needs = [{}]\n", "\"nobody\",".repeat(twenty))),
    ];
    for (what, text) in &files {
        let project = env.empty_project("project");
        project.write("envctl.toml", text);
        for command in [["config", "check"].as_slice(), &["explain"], &["up", "-d"], &["ps"]] {
            let output = project.envctl(command).without_panic();
            assert!(output.took < REFUSED_WITHIN, "{what}: `{}` took {:?}", output.command, output.took);
            assert_eq!(output.code, Some(1), "{what}: `{}` ended otherwise by {:?}", output.command, output.signal);
            assert!(
                output.stderr.contains("error:"),
                "{what}: {}",
                output.stderr.chars().take(500).collect::<String>()
            );
            assert!(output.stderr.len() < 64 * 1024, "{what}: {} bytes of talk", output.stderr.len());
        }
    }
    assert!(env.sockets().is_empty());
}

#[test]
fn g06_cycles_and_unknown_needs_start_nothing() {
    let env = TestEnvironment::new();
    let unit = |name: &str, needs: &str| {
        format!("[services.{name}]\nsh = \"echo {name} >> canary; exec sleep 60\"\nneeds = {needs}\n")
    };
    let bystander = "[tasks.aside]\nsh = \"echo aside >> canary\"\n";
    let cases: [(&str, String, &[&str]); 8] = [
        ("of one", unit("a", "[\"a\"]"), &["a", "itself"]),
        ("of two", unit("a", "[\"b\"]") + &unit("b", "[\"a\"]"), &["a → b → a"]),
        ("of three", unit("a", "[\"b\"]") + &unit("b", "[\"c\"]") + &unit("c", "[\"a\"]"), &["a → b → c → a"]),
        (
            "with conditions",
            unit("a", "{ b = \"started\" }") + &unit("b", "{ a = { is = \"started\", then = \"restart\" } }"),
            &["a → b → a"],
        ),
        (
            "beside a good chain",
            unit("x", "[]") + &unit("y", "[\"x\"]") + &unit("a", "[\"b\"]") + &unit("b", "[\"a\", \"y\"]"),
            &["a → b → a"],
        ),
        ("unknown", unit("a", "[\"nobody\"]"), &["nobody"]),
        ("nearly known", unit("api", "[]") + &unit("b", "[\"apl\"]"), &["apl", "api"]),
        ("in other letters", unit("api", "[]") + &unit("b", "[\"API\"]"), &["API", "api"]),
    ];
    for (what, toml, words) in &cases {
        starts_nothing(&env, what, &format!("{bystander}{toml}"), words);
    }
}
