//! The control protocol between a session and its clients.
//!
//! ```text
//! Client ──frame{id,kind,body}──▶ gateway connection task ──message──▶ root / project actor
//!        ◀─frame{id,kind,body}──
//! ```
//!
//! `wire` holds the types, `frame` the codec, `gateway` the daemon's side, `client` the other, `following` streams over
//! the end of a daemon.

pub mod client;
pub mod following;
pub mod frame;
pub mod gateway;
pub mod handlers;
mod logs;
mod room;
mod terminal;
pub mod view;
pub mod wire;
