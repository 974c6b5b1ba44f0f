//! The systems that are compared, and the comparison.

use crate::script::Script;
use crate::shrink::shrink;
use crate::trace::Trace;

/// Something that supervises as scripts say. OTP is one, the naive model another.
pub(crate) trait System {
    /// What it is called in a failure.
    fn name(&self) -> String;

    /// One trace for each script, comparable.
    fn run(&mut self, scripts: &[Script]) -> Vec<Trace>;
}

/// A system that is a function of one script; its traces are made comparable here.
pub(crate) struct Function<F> {
    pub(crate) name: String,
    pub(crate) run: F,
}

impl<F: FnMut(&Script) -> Trace> System for Function<F> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn run(&mut self, scripts: &[Script]) -> Vec<Trace> {
        scripts.iter().map(|script| (self.run)(script).comparable(script)).collect()
    }
}

/// The place of the first script that two systems do not agree on.
pub(crate) fn first_difference(left: &mut dyn System, right: &mut dyn System, scripts: &[Script]) -> Option<usize> {
    let (left, right) = (left.run(scripts), right.run(scripts));
    assert_eq!(left.len(), right.len(), "every script has a trace in both systems");
    left.iter().zip(&right).position(|(left, right)| left != right)
}

/// Nothing if two systems agree on all scripts; else the first difference, told with the smallest script that shows one.
pub(crate) fn disagreement(left: &mut dyn System, right: &mut dyn System, scripts: &[Script]) -> Option<String> {
    let first = &scripts[first_difference(left, right, scripts)?];
    let smallest = shrink(first.clone(), |candidates| first_difference(left, right, candidates));
    let mut told = format!("{} and {} disagree on seed {}", left.name(), right.name(), first.seed);
    for (title, script) in [("made smaller:", &smallest), ("as drawn:", first)] {
        told += &format!("\n\n{title}\n{script}");
        told += &observed(left, script);
        told += &observed(right, script);
    }
    Some(told)
}

fn observed(system: &mut dyn System, script: &Script) -> String {
    let trace = system.run(std::slice::from_ref(script)).remove(0);
    format!("{}:\n{trace}", system.name())
}
