//! End to end: the real program, real processes, a machine of its own for every test.
#![expect(
    clippy::disallowed_methods,
    reason = "tests start the program under test, read the clock for deadlines and write projects"
)]
#![expect(clippy::print_stderr, reason = "a failing test tells what was left behind")]

mod clocks;
mod config_errors;
mod confines;
mod containers;
mod crash_points;
mod drivers;
mod exec;
mod exits;
mod fleet;
mod follow;
mod followers;
mod groups;
mod harness;
mod heal;
mod hostile_text;
mod inherit;
mod invariants;
mod library;
mod lifecycle;
mod log_store;
mod logs;
mod newcomer;
mod orphaned;
mod own_records;
mod presets;
mod probes;
mod quickstart;
mod reload;
mod requirements;
mod search;
mod secrets;
mod shared;
mod shop;
mod shortage;
mod singleton;
mod stop;
mod takeover;
mod trust;
mod tty;
mod upgrade;
mod usage;
mod wire;
mod world;
