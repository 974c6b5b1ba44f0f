//! The specification, in Erlang's way: test names are its sentences. `README.md` maps OTP's cases to them.

mod corners;
mod groups;
mod meetings;
mod needs;
mod otp;
mod property;
mod reload;
mod restart;
mod script;
mod setups;
mod start;
mod stop;
mod worlds;
