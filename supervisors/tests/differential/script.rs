//! What is done to a supervisor, from its first breath to its end: the same words for every system that is compared.
//!
//! A script says how each child behaves at each of its starts ([`Answer`]) and what comes from outside ([`Op`]). Nothing in
//! it depends on when it runs: what must meet in a mailbox is said to meet there ([`Op::Together`], [`Answer::meanwhile`]).
//! Written as Erlang terms in `erlang.rs`, drawn at random in `random.rs`, made smaller in `shrink.rs`.

use std::fmt;

/// Seconds no test lives to see: restarts are never forgotten.
pub(crate) const PERIOD_ENDLESS: u64 = 1_000_000;
/// Restarts no script comes to.
pub(crate) const INTENSITY_ENDLESS: u32 = 1_000_000;
/// Milliseconds a moment must stay away from the edges of a supervisor's period, so that a busy machine cannot move it over.
const EDGE_MARGIN_MS: u64 = 250;

/// A child, or an instance of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    OneForOne,
    OneForAll,
    RestForOne,
    SimpleOneForOne,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoShutdown {
    Never,
    AnySignificant,
    AllSignificant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Permanent,
    Transient,
    Temporary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    BrutalKill,
    /// Milliseconds.
    Timeout(u32),
    Infinity,
}

/// Whether a child ends when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    Obeys,
    /// Must be killed; only with a [`Shutdown`] that does so.
    Deaf,
}

/// How a child ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Normal,
    Shutdown,
    /// OTP's `{shutdown, Term}`.
    ShutdownWith,
    Crash,
    /// Somebody else kills it.
    Kill,
}

/// A child specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) id: Id,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) significant: bool,
    pub(crate) habit: Habit,
}

/// What a start function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Ignore,
    Error,
}

/// One start of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// What happens while the start function runs: it lies in the supervisor's mailbox when the start is over.
    pub(crate) meanwhile: Vec<Act>,
}

/// A request of the supervisor's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    StartChild(Child),
    TerminateChild(Id),
    RestartChild(Id),
    DeleteChild(Id),
    WhichChildren,
    CountChildren,
    GetChildspec(Id),
}

/// One thing that comes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// The child's process ends by itself; nothing happens if it does not run.
    Exit(Id, Reason),
    Call(Call),
    /// The supervisor is told to end in an orderly way.
    Stop,
}

/// One step of a script. Everything that follows from it is over before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    One(Act),
    /// All of this happens before the supervisor sees any of it. Never [`Act::Stop`]: OTP obeys that out of turn.
    Together(Vec<Act>),
    /// Milliseconds pass.
    Advance(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: u32,
    /// Seconds.
    pub(crate) period: u64,
    pub(crate) auto_shutdown: AutoShutdown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// Where it was drawn from; a script made smaller keeps it.
    pub(crate) seed: u64,
    pub(crate) flags: Flags,
    /// In start order. A `simple_one_for_one` supervisor has exactly one, its template, and starts none.
    pub(crate) children: Vec<Child>,
    /// What the next starts of each child answer; after the last, always ok.
    pub(crate) answers: Vec<(Id, Vec<Answer>)>,
    pub(crate) ops: Vec<Op>,
}

// === impl Script ===

impl Script {
    pub(crate) fn is_simple(&self) -> bool {
        self.flags.strategy == Strategy::SimpleOneForOne
    }

    /// Whether it means the same wherever and whenever it runs.
    pub(crate) fn is_sound(&self) -> bool {
        let template = !self.is_simple() || self.children.len() == 1;
        template && self.keeps_away_from_edges() && !self.restarts_an_instance_with_ignore()
    }

    /// OTP counts in whole seconds of a clock whose phase nobody knows: restarts that are `period` apart, or up to a second
    /// more, may or may not be in one window. Ops are never so far apart.
    fn keeps_away_from_edges(&self) -> bool {
        let mut now = 0;
        let mut moments = vec![now];
        for op in &self.ops {
            if let Op::Advance(ms) = op {
                now += ms;
                moments.push(now);
            }
        }
        let inside = self.flags.period * 1_000 - EDGE_MARGIN_MS;
        let outside = (self.flags.period + 1) * 1_000 + EDGE_MARGIN_MS;
        moments.iter().enumerate().all(|(at, later)| {
            moments[..at].iter().map(|earlier| later - earlier).all(|apart| apart <= inside || apart >= outside)
        })
    }

    /// OTP 25 keeps an instance whose restart was answered with ignore as a child without a process, and crashes over it
    /// later. Newer ones do not, so no script asks.
    fn restarts_an_instance_with_ignore(&self) -> bool {
        let late = |answers: &[Answer]| answers.iter().skip(1).any(|answer| answer.outcome == Outcome::Ignore);
        self.is_simple() && self.answers.iter().any(|(_, answers)| late(answers))
    }
}

// === Display: for the reader of a failure ===

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flags { strategy, intensity, period, auto_shutdown } = &self.flags;
        writeln!(
            f,
            "seed {}: {strategy}, {intensity} restarts in {period} s, auto_shutdown {auto_shutdown}",
            self.seed
        )?;
        for child in &self.children {
            writeln!(f, "  child {child}")?;
        }
        for (id, answers) in self.answers.iter().filter(|(_, answers)| !answers.is_empty()) {
            writeln!(f, "  starts of {id}: {}", listed(answers, ", "))?;
        }
        for (at, op) in self.ops.iter().enumerate() {
            writeln!(f, "  {}. {op}", at + 1)?;
        }
        Ok(())
    }
}

fn listed<T: fmt::Display>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, restart, shutdown, significant, habit } = self;
        write!(f, "{id} {restart}, shutdown {shutdown}")?;
        f.write_str(if *significant { ", significant" } else { "" })?;
        f.write_str(if *habit == Habit::Deaf { ", deaf" } else { "" })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meanwhile.as_slice() {
            [] => write!(f, "{}", self.outcome),
            acts => write!(f, "{} (meanwhile {})", self.outcome, listed(acts, "; ")),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(act) => write!(f, "{act}"),
            Self::Together(acts) => write!(f, "together: {}", listed(acts, "; ")),
            Self::Advance(ms) => write!(f, "{ms} ms pass"),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(id, reason) => write!(f, "exit {id} {reason}"),
            Self::Call(Call::StartChild(child)) => write!(f, "start_child {child}"),
            Self::Call(call) => write!(f, "{call}"),
            Self::Stop => f.write_str("stop"),
        }
    }
}

/// As the trace names it: without the whole specification.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartChild(child) => write!(f, "start_child {}", child.id),
            Self::TerminateChild(id) => write!(f, "terminate_child {id}"),
            Self::RestartChild(id) => write!(f, "restart_child {id}"),
            Self::DeleteChild(id) => write!(f, "delete_child {id}"),
            Self::WhichChildren => f.write_str("which_children"),
            Self::CountChildren => f.write_str("count_children"),
            Self::GetChildspec(id) => write!(f, "get_childspec {id}"),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", char::from(b'a' + self.0))
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrutalKill => f.write_str("brutal_kill"),
            Self::Timeout(ms) => write!(f, "{ms}"),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

/// OTP's word for each variant, which is also its Erlang term.
macro_rules! words {
    ($type:ident { $($variant:ident => $word:literal),* $(,)? }) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),* })
            }
        }
    };
}

words!(Strategy {
    OneForOne => "one_for_one",
    OneForAll => "one_for_all",
    RestForOne => "rest_for_one",
    SimpleOneForOne => "simple_one_for_one",
});
words!(AutoShutdown { Never => "never", AnySignificant => "any_significant", AllSignificant => "all_significant" });
words!(Restart { Permanent => "permanent", Transient => "transient", Temporary => "temporary" });
words!(Habit { Obeys => "obeys", Deaf => "deaf" });
words!(Reason {
    Normal => "normal",
    Shutdown => "shutdown",
    ShutdownWith => "{shutdown,x}",
    Crash => "crash",
    Kill => "kill",
});
words!(Outcome { Ok => "ok", Ignore => "ignore", Error => "error" });
