//! envctl as a library.
//!
//! [`config`] turns files into a [`spec::ProjectSpec`]; [`session`] starts a root actor that supervises projects; [`control`]
//! is the protocol between it and its clients. The command line and the tests stand on `Session` and `Client` alone.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod control;
pub mod spec;
