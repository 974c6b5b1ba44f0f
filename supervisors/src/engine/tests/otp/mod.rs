//! OTP's own test suite of its supervisor, case by case, against the strict mode of the engine.
//!
//! Each test's name begins with the case's name. The README's table says where the cases are that need actors, and which
//! do not apply.

mod admin;
mod misc;
mod scale;
mod significant;
mod start;
mod stop;
mod strategies;
mod types;
mod unhurried;

use super::script::{Script, seconds};
use crate::spec::{Flags, Intensity, Strategy};

const ALL_STRATEGIES: [Strategy; 3] = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];

/// OTP's `simple_one_for_one` with `intensity` restarts in five seconds, and these instances.
fn dynamic(line: &str, intensity: u32) -> Script {
    let budget = Some(Intensity { restarts: intensity, period: seconds(5) });
    Script::flagged(line, Flags { intensity: budget, ..Flags::dynamic() })
}
