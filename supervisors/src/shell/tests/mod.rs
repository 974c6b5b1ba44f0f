//! The shell's specification, in virtual time.

mod administration;
mod end;
mod life;
mod world;
