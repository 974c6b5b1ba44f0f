//! What is to be measured: the arguments of the program, and those of one run.

use std::time::Duration;

/// The first argument of a process that makes one run.
pub(crate) const RUN: &str = "run";

/// The largest number of children, unless told otherwise: what OTP and ractor were measured with before.
const CHILDREN: usize = 100_000;
/// Restarts of the latency run: enough for a percentile of 99 that stands on a hundred of them.
const RESTARTS: usize = 10_000;
/// Restarts among siblings are a fifth: they cost more where a restart is not constant time.
const AMONG_SHARE: usize = 5;
/// Rounds: the median of five forgives two disturbed ones.
const ROUNDS: usize = 5;
/// Longer than any supervisor without a quadratic step needs for the largest run.
const LIMIT: Duration = Duration::from_secs(120);

/// A supervisor that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `envctl_supervisors::shell`.
    Ours,
    /// An actor that starts a successor in its supervision handler, and does no more.
    Ractor,
    /// Erlang's `supervisor`.
    Otp,
}

/// The tokio runtime of our subjects; Erlang has a scheduler where they have a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// One worker for each core.
    Multi,
    /// One thread.
    Current,
}

/// A kind of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Start and stop of children in no order.
    Start,
    /// Start and stop of an ordered list.
    Chain,
    /// Restarts of one child, back to back.
    Restart,
    /// The same with siblings.
    Siblings,
    /// All children are killed at once.
    Burst,
}

/// One workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) kind: Kind,
    /// Children; siblings of the one that is restarted.
    pub(crate) children: usize,
    /// Restarts of one child.
    pub(crate) restarts: usize,
}

/// One workload for one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) subject: Subject,
    pub(crate) workload: Workload,
    pub(crate) flavour: Flavour,
    pub(crate) limit: Duration,
}

/// All that is to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) rounds: usize,
    children: usize,
    restarts: usize,
    only: Vec<Kind>,
    flavour: Flavour,
    limit: Duration,
}

// === impl Subject ===

impl Subject {
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::Ractor, Self::Otp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Ractor => "ractor",
            Self::Otp => "otp",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|subject| subject.name() == text).ok_or_else(|| format!("there is no {text}"))
    }
}

// === impl Flavour ===

impl Flavour {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Multi => "multi",
            Self::Current => "current",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let flavours = [Self::Multi, Self::Current];
        flavours.into_iter().find(|flavour| flavour.name() == text).ok_or_else(|| format!("there is no runtime {text}"))
    }
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 5] = [Self::Start, Self::Chain, Self::Restart, Self::Siblings, Self::Burst];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Chain => "chain",
            Self::Restart => "restart",
            Self::Siblings => "siblings",
            Self::Burst => "burst",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("there is no workload {text}"))
    }
}

// === impl Workload ===

impl Workload {
    /// What a metric of this workload is called in the results, with its size.
    pub(crate) fn metric(&self, bare: &str) -> String {
        let size = short(self.children);
        match self.kind {
            Kind::Start if bare == "mem_per_child" => bare.to_owned(),
            Kind::Start | Kind::Burst => format!("{bare}_{size}"),
            Kind::Chain => format!("{bare}_chain_{size}"),
            Kind::Restart => bare.to_owned(),
            Kind::Siblings => format!("{bare}_among_{size}"),
        }
    }
}

/// `100k` for 100,000.
fn short(n: usize) -> String {
    if n >= 1000 && n.is_multiple_of(1000) { format!("{}k", n / 1000) } else { n.to_string() }
}

// === impl Run ===

impl Run {
    /// Reads what [`Run::arguments`] wrote.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let [subject, kind, children, restarts, flavour, limit] = arguments else {
            return Err("a run has six arguments".to_owned());
        };
        let (children, restarts) = (number(children)?, number(restarts)?);
        let workload = Workload { kind: Kind::parse(kind)?, children, restarts };
        let (subject, flavour) = (Subject::parse(subject)?, Flavour::parse(flavour)?);
        Ok(Self { subject, workload, flavour, limit: seconds(limit)? })
    }

    /// The run as arguments; all but the first and the last but one are those of `measure.erl` too.
    pub(crate) fn arguments(&self) -> [String; 6] {
        let Workload { kind, children, restarts } = self.workload;
        let (subject, kind, flavour) = (self.subject.name(), kind.name(), self.flavour.name());
        [
            subject.to_owned(),
            kind.to_owned(),
            children.to_string(),
            restarts.to_string(),
            flavour.to_owned(),
            self.limit.as_secs().to_string(),
        ]
    }
}

// === impl Plan ===

impl Plan {
    /// Reads the program's arguments.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut plan = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with("--") {
                plan.subjects.push(Subject::parse(argument)?);
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{argument} wants a value"))?;
            plan.set(argument, value)?;
        }
        if plan.subjects.is_empty() {
            plan.subjects = Subject::ALL.to_vec();
        }
        Ok(plan)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "--n" => self.children = number(value)?,
            "--restarts" => self.restarts = number(value)?,
            "--rounds" => self.rounds = number(value)?,
            "--runtime" => self.flavour = Flavour::parse(value)?,
            "--only" => self.only = value.split(',').map(Kind::parse).collect::<Result<_, _>>()?,
            "--limit" => self.limit = seconds(value)?,
            unknown => return Err(format!("there is no option {unknown}")),
        }
        Ok(())
    }

    /// Every workload, the smaller ones of a kind first.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        self.only.iter().flat_map(|&kind| self.sizes(kind)).collect()
    }

    fn sizes(&self, kind: Kind) -> Vec<Workload> {
        let of = |children| Workload { kind, children, restarts: self.restarts };
        match kind {
            Kind::Start => [100, 10, 1].into_iter().map(|part| of((self.children / part).max(1))).collect(),
            Kind::Restart => vec![of(0)],
            Kind::Siblings => {
                vec![Workload { restarts: (self.restarts / AMONG_SHARE).max(1), ..of(self.children) }]
            }
            Kind::Chain | Kind::Burst => vec![of(self.children)],
        }
    }

    /// Whether memory is measured in this one: only the largest start outweighs what the runtime takes for itself.
    pub(crate) fn weighs(&self, workload: &Workload) -> bool {
        workload.children == self.children
    }

    pub(crate) fn run(&self, subject: Subject, workload: Workload) -> Run {
        Run { subject, workload, flavour: self.flavour, limit: self.limit }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            subjects: Vec::new(),
            rounds: ROUNDS,
            children: CHILDREN,
            restarts: RESTARTS,
            only: Kind::ALL.to_vec(),
            flavour: Flavour::Multi,
            limit: LIMIT,
        }
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| format!("{text} is no number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let workload = Workload { kind: Kind::Chain, children: 7, restarts: 3 };
        let limit = Duration::from_secs(9);
        let run = Run { subject: Subject::Ractor, workload, flavour: Flavour::Current, limit };
        assert_eq!(Run::parse(&run.arguments()), Ok(run));
    }

    #[test]
    fn a_metric_carries_the_size_of_its_workload() {
        let of = |kind, children| Workload { kind, children, restarts: 1 };
        assert_eq!(of(Kind::Start, 10_000).metric("start"), "start_10k");
        assert_eq!(of(Kind::Chain, 100).metric("stop"), "stop_chain_100");
        assert_eq!(of(Kind::Siblings, 100_000).metric("restart_p50"), "restart_p50_among_100k");
        assert_eq!(of(Kind::Restart, 0).metric("restart_p50"), "restart_p50");
    }
}
