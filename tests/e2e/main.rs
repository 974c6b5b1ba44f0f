//! End to end: the real program, real processes, a machine of its own for every test.
#![expect(
    clippy::disallowed_methods,
    reason = "tests start the program under test, read the clock for deadlines and write projects"
)]
#![expect(clippy::print_stderr, reason = "a failing test tells what was left behind")]

mod config_errors;
mod confines;
mod containers;
mod crash_points;
mod drivers;
mod exits;
mod groups;
mod harness;
mod heal;
mod inherit;
mod invariants;
mod library;
mod lifecycle;
mod logs;
mod newcomer;
mod orphaned;
mod presets;
mod probes;
mod quickstart;
mod reload;
mod requirements;
mod secrets;
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
