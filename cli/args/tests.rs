use super::*;
use clap::FromArgMatches as _;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("envctl").chain(line.split_whitespace());
    Cli::from_arg_matches(&Cli::tree().try_get_matches_from(words)?)
}

/// One line per command, with its options: what a script may rely on.
const LINES: [&str; 70] = [
    "up",
    "up -d api web",
    "up --detach --wait --wait-timeout 60s",
    "up -d --wait --strict",
    "up --no-deps api",
    "down",
    "down --timeout 5s",
    "ps",
    "ls",
    "list",
    "status",
    "ps --all --check",
    "ps -w --interval 500ms",
    "start",
    "start api",
    "stop api web",
    "restart",
    "kill -s HUP api",
    "kill api",
    "logs",
    "logs -f api",
    "logs -n 10 --timestamps --stream err",
    "logs --tail 5 --previous --raw api",
    "logs --since 10m --until 2026-01-01T00:00:00Z",
    "logs --grep time(d)?out -g refused -i --invert --incarnation 2",
    "logs --level warn --field user=7 --field http.status=500",
    "clear-logs",
    "clear-logs -y api",
    "doctor",
    "prune --logs --older-than 30d --dry-run",
    "attach api",
    "attach api --detach-keys ctrl-a,d",
    "events",
    "events -f api",
    "events -n 5",
    "why api",
    "why --chain api",
    "wait api",
    "wait api --for done --timeout 10",
    "endpoints",
    "endpoints api",
    "env api",
    "env api --reveal",
    "exec api -- true",
    "explain",
    "explain-startup",
    "explain api --no-deps",
    "config check",
    "config show --reveal",
    "show-config",
    "trust",
    "trust --revoke",
    "health --strict",
    "errors api",
    "projects",
    "requirement list",
    "requirement info db --reveal",
    "requirement start db",
    "requirement stop",
    "requirement reset db --yes",
    "down --data --yes",
    "daemon status",
    "daemon stop",
    "daemon upgrade --to /opt/envctl",
    "daemon run",
    "daemon logs -n 5",
    "list-commands",
    "list-targets",
    "show-state",
    "version",
];

#[test]
fn every_documented_line_parses_with_the_global_options_before_and_after() {
    for line in LINES {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        parse(&format!("-C /tmp -p shop --session s1 --color never {line}"))
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        // What follows the command of `exec` is that command's.
        if !line.contains("--raw") && !line.contains(" -- ") {
            let cli = parse(&format!("{line} --json -C /tmp")).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(cli.global.json && cli.global.directory.is_some(), "{line}");
        }
    }
}

#[test]
fn every_command_has_a_line_that_parses() {
    for listed in crate::commands::list_commands::tree().commands {
        let known =
            LINES.iter().any(|line| line == &listed.command || line.starts_with(&format!("{} ", listed.command)));
        assert!(known, "no parse test for `{}`", listed.command);
    }
}

#[test]
fn file_stands_only_before_the_command_and_f_after_logs_follows() {
    let cli = parse("-f other.toml logs -f").unwrap();
    assert_eq!(cli.file, Some(PathBuf::from("other.toml")));
    assert!(matches!(cli.command, Command::Logs(args) if args.follow));
    assert!(parse("up -f other.toml").is_err());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "",
        "foo",
        "kill",
        "wait",
        "why",
        "env",
        "up --no-deps",
        "wait api --for tea",
        "up --wait-timeout soon",
        "logs -n many",
        "logs -f --previous",
        "logs --invert",
        "logs --level loud",
        "prune",
        "kill -s NOPE api",
        "ps --interval 1s",
        "ps --watch --check",
        "ps --watch --interval 5ms",
    ] {
        assert!(parse(line).is_err(), "{line:?} was accepted");
    }
}

#[test]
fn a_mistyped_command_is_answered_with_the_nearest_one() {
    let error = crate::error::CliError::usage(&parse("staus").unwrap_err());
    assert_eq!(error.message, "unrecognized subcommand 'staus'");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("'status'")), "{error:?}");
    let error = crate::error::CliError::usage(&parse("kill").unwrap_err());
    assert!(error.message.contains("<UNIT>") && error.hint.is_some(), "{error:?}");
}

#[test]
fn durations_are_numbers_with_units_and_bare_numbers_are_seconds() {
    assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
    for bad in ["", "-5s", "soon", "10 parsecs"] {
        assert!(duration(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn the_tree_is_consistent() {
    Cli::tree().debug_assert();
}

#[test]
fn help_says_what_each_command_does() {
    insta::assert_snapshot!("help", Cli::tree().term_width(100).render_help().to_string());
    let mut tree = Cli::tree().term_width(100);
    let up = tree.find_subcommand_mut("up").unwrap();
    insta::assert_snapshot!("help-up", up.render_long_help().to_string());
}

#[test]
fn the_exit_codes_are_those_of_the_contract() {
    let codes: Vec<u8> = exit::TABLE.iter().map(|(exit, _)| exit.code()).collect();
    assert_eq!(codes, [0, 1, 2, 124, 126, 127]);
}

#[test]
fn the_reference_pages_are_current() {
    let pages = [
        (crate::commands::reference::commands(), include_str!("../../docs/reference/commands.md"), "commands"),
        (crate::environment::reference(), include_str!("../../docs/reference/environment.md"), "environment"),
    ];
    for (generated, committed, page) in pages {
        assert!(
            generated == committed,
            "docs/reference/{page}.md is old: `cargo run -- reference {page} > docs/reference/{page}.md`"
        );
    }
}

#[test]
fn what_follows_the_command_of_exec_is_the_commands() {
    let check = |line: &str, words: &[&str]| {
        let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Command::Exec(args) = &cli.command else { panic!("{line}: {cli:?}") };
        assert_eq!(
            (args.unit.as_str(), &args.command[..]),
            ("api", &words.iter().map(std::ffi::OsString::from).collect::<Vec<_>>()[..]),
            "{line}"
        );
        assert!(!cli.global.json, "{line}");
    };
    check("exec api -- sh -c true --json", &["sh", "-c", "true", "--json"]);
    check("exec api ls -l --session x", &["ls", "-l", "--session", "x"]);
    check("--color never exec --session x api ls -- -l", &["ls", "--", "-l"]);
    assert!(parse("exec api").is_err() && parse("exec api --").is_err());
}
