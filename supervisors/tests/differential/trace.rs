//! What could be seen of a supervisor while a script ran: one line of text for each thing, the same from every system.
//!
//! - `start a ok`, `ignore` or `error`: the start function of `a` was called, and what it answered;
//! - `down a REASON`: the process of `a` ended, as a monitor sees it (`normal`, `shutdown`, `{shutdown,x}`, `crash`, `killed`);
//! - `reply CALL RESULT`: what the caller was told; `gone` if there was no supervisor left to tell anything.
//!   `which_children` tells `of` and `ID:running`, `ID:restarting` or `ID:undefined` for each, latest start first;
//! - `ended REASON`: the supervisor ended, after everything it did; `failed a`: it did not come up because of `a`.

use std::fmt;

use crate::script::Script;

/// The lines of each step: of the start, then of each op until the supervisor has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Trace {
    pub(crate) steps: Vec<Vec<String>>,
}

// === impl Trace ===

impl Trace {
    /// The trace as it is compared. The instances of a template end in any order, so `down` lines that follow each other
    /// are sorted there.
    pub(crate) fn comparable(mut self, script: &Script) -> Self {
        let together = |one: &String, other: &String| one.starts_with("down ") && other.starts_with("down ");
        if script.is_simple() {
            for step in &mut self.steps {
                step.chunk_by_mut(together).for_each(<[String]>::sort);
            }
        }
        self
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            let step = if step.is_empty() { "nothing".to_owned() } else { step.join(" | ") };
            writeln!(f, "  {at}. {step}")?;
        }
        Ok(())
    }
}
