//! The words for what the engine only knows as types: as configuration files, events and commands write them.

use envctl_supervisors::spec::{Escalate, Strategy, Then};

/// A strategy.
pub(crate) fn strategy_text(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
    }
}

/// What giving up means.
pub(crate) fn escalate_text(escalate: Escalate) -> &'static str {
    match escalate {
        Escalate::Isolate => "isolate",
        Escalate::Group => "group",
        Escalate::Project => "project",
    }
}

/// What follows for the dependent when an edge's other end is lost.
pub(crate) fn then_text(then: Then) -> &'static str {
    match then {
        Then::Ignore => "ignore",
        Then::Restart => "restart",
        Then::Stop => "stop",
    }
}
