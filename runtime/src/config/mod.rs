//! From files to a [`ProjectSpec`](crate::spec::ProjectSpec).
//!
//! ```text
//! discover ──Source──▶ load: tree (parse, merge) ──▶ project, unit, probe … (read) ──▶ needs, checks ──▶ resolve ──▶ Loaded
//!                                        └──────────── every mistake with its line: Diagnostics ◀────────────┘
//! ```
//!
//! Strict: a key nobody asked for is an error, a number without a unit is an error, and nothing is guessed that would give
//! a unit more than its file says. Files are read and nothing else: no command runs, no environment is looked at, nothing is
//! written.
//!
//! # Keys
//!
//! | where | keys |
//! |---|---|
//! | top | `name` `env` `env_file` `inherit` `logs` `services` `requirements` `tasks` `groups` `supervision` `presets` `on_daemon_death` |
//! | `logs`, also of a unit | `max_bytes` `segment_bytes` `max_segments` `max_age` `segment_age` `compress` |
//! | a unit of any kind | `env` `env_file` `needs` `restart` `backoff` `intensity` `period` `unstable` `stable_after` `stop` `critical` `escalate` `port` `description` `limits` `nice` |
//! | a service or task | `cmd` or `sh`, `dir` `ports` `umask` `user` `stdin` `tty` (`watch` `prepare`: not carried out yet) |
//! | a service | `ready` `alive` |
//! | a requirement | `preset` `version` `driver` `options` `database` `user` `init` `url` `url_from` `host` `password` `ready.within` |
//! | a probe | one of `http` `tcp` `exec` `sh` `log`; `port` with `http`; `within` (ready) `every` `timeout` `failures` |
//! | `limits` | `memory` `cpu` `processes` `open_files` `core` `file_size` |
//! | `stop` | `signal` or `cmd` or `sh`; `scope` `grace` (in a list: `after`); of a requirement `grace` alone |
//! | a group | `members` `strategy` `intensity` `period` `escalate` |
//!
//! `.env` files lie under the `env` table of the same level. Paths are relative to the project's directory.

mod checks;
mod confine;
mod container;
mod diagnostic;
mod discover;
mod duration;
mod env_file;
mod environment;
mod group;
mod load;
mod logs;
mod membership;
mod model;
mod nearest;
mod needs;
mod origin;
mod presets;
mod probe;
mod program;
mod project;
mod reader;
mod requirement;
mod resolve;
mod share;
mod show;
mod stop;
mod supervise;
mod syntax;
pub mod template;
mod terminal;
mod tree;
mod typed;
mod unit;

pub use diagnostic::{DIAGNOSTICS_MAX, Diagnostic, DiagnosticView, Diagnostics, Severity, SourceText};
pub use discover::{Source, discover};
pub use duration::{DURATION_MAX, QuantityError, format_duration, format_size, parse_duration, parse_size};
pub use load::{FILE_BYTES_MAX, Loaded, load};
pub use logs::LOGS_DEFAULT;
pub use project::UNITS_MAX;
pub use show::{EffectiveValue, MASK};

#[cfg(test)]
mod tests;
