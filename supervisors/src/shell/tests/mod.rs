//! The shell's specification, in virtual time.

mod administration;
mod calls;
mod end;
mod life;
mod otp;
mod quick;
mod simulation;
mod threads;
mod trees;
mod world;
