//! Log streams: what units write, byte for byte, and how it is read again.
//!
//! ```text
//! unit ──write──▶ FIFO ──splice──▶ logs/<unit>/<n>.out, <n>.err ◀──pread── Reader, Follower (any process)
//!                        pump thread ──then──▶ <n>.idx                        ▲
//!                             └──────── length watch: "there is more" ────────┘
//! ```
//!
//! `layout` is the format on disk, `store` writes it, `keep` says what goes, `repair` mends what a kill left, `press` compresses what
//! is closed (`packed`), `gone` remembers what was deleted, `health` tells how the disk takes it. `pump` is the one thread that moves
//! the bytes (two in a crowd), `declared` the word that tells it whose they are. `reader` reads (with or without a daemon, `raw` without lines; `data` hides whether a file is compressed), `filter` says
//! which lines are wanted (`pattern`, `structured`) and `skip` passes over the others, `display` makes bytes harmless for a terminal,
//! `matcher` finds a ready line, `actor` is the thin shell of one unit's stream, `observe` its lines for a program.
//!
//! Never: a log byte in a mailbox, a byte changed on its way to disk, a service that waits because a reader is slow or a
//! disk is full.

mod actor;
mod chunks;
mod clock;
mod data;
mod declared;
mod display;
mod erase;
mod error;
mod filter;
mod gone;
mod health;
mod keep;
mod layout;
mod matcher;
mod observe;
mod packed;
mod pattern;
mod press;
mod pump;
mod raw;
mod reader;
mod repair;
mod segment;
mod sink;
mod size;
mod skip;
mod splitter;
mod store;
mod structured;
mod terminal_line;
#[cfg(test)]
mod tests;

pub use actor::{
    Arguments, DrainError, Lane, LogStream, LogStreamActor, Message, Opened, Promise, Site, Watched, open_together,
};
pub use display::{is_harmless, sanitize, sanitize_line, sgr_length, strip_ansi};
pub use erase::{Idle, clear, erase, idle};
pub use error::LogError;
pub use filter::Filter;
pub use health::Health;
pub use keep::Limits;
pub use layout::{Life, Stream};
pub use matcher::ReadyMatcher;
pub use observe::Observer;
pub use pattern::{Pattern, PatternError};
pub use pump::{Drained, Length, LogStreamId, Pump, PumpHandle, Sources};
pub use raw::{Raw, RawFollower};
pub use reader::{Follower, Lines, Position, Query, Reader};
pub use size::bytes_on_disk;
pub use splitter::{Entry, LINE_MAX_BYTES, Line};
pub use store::Store;
pub use structured::{Level, has_field, level_of};
