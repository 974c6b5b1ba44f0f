# The tasks of this repository. `just` alone lists them.

default:
    @just --list

# Everything a change must pass.
ci: fmt lint test doc deny

# Formatting, checked.
fmt:
    cargo fmt --all --check

# Lints, with every warning an error.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# All tests; the end-to-end ones need postgresql, redis, node and python3-venv (`.ci/run` installs them).
test:
    cargo test --workspace

# The documentation builds without a warning.
doc:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items

# Licences, banned crates and sources, without the network; skipped where the tool is not installed.
deny:
    if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; else echo "cargo-deny is not installed: skipped"; fi

# How quick the commands are that are typed all day: `--version` and `ps` on a warm daemon, median of 20.
bench:
    cargo build --release
    sh tests/bench/commands.sh target/release/envctl

# Runs one group of end-to-end tests: `just e2e heal`.
e2e GROUP="":
    cargo test --test e2e -- {{GROUP}}
