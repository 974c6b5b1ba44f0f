//! The processes of a script's children, the supervisor's mailbox, and the eye that sees it all.

use std::collections::{BTreeMap, VecDeque};

use crate::script::{Act, Answer, Call, Child, Habit, Id, Outcome, Reason, Script, Shutdown};
use crate::trace::Trace;

/// One life of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pid(u64);

/// What the supervisor finds in its mailbox.
#[derive(Debug)]
pub(super) enum Message {
    Exit(Pid, Reason),
    /// A request, with the process the child had when it was sent.
    Call(Call, Option<Pid>),
    /// From itself.
    TryAgain(Id),
    Stop,
}

#[derive(Default)]
pub(super) struct World {
    answers: BTreeMap<Id, VecDeque<Answer>>,
    alive: BTreeMap<Id, Pid>,
    /// The process of each child's latest start, alive or not.
    latest: BTreeMap<Id, Pid>,
    started: u64,
    pub(super) mailbox: VecDeque<Message>,
    trace: Trace,
}

// === impl World ===

impl World {
    pub(super) fn new(script: &Script) -> Self {
        let answers = script.answers.iter().map(|(id, answers)| (*id, answers.iter().cloned().collect())).collect();
        Self { answers, trace: Trace { steps: vec![vec![]] }, ..Self::default() }
    }

    /// Calls the child's start function: a process, none because it says ignore, or what it says instead.
    pub(super) fn start(&mut self, spec: &Child) -> Result<Option<Pid>, &'static str> {
        let next = self.answers.get_mut(&spec.id).and_then(VecDeque::pop_front);
        let Answer { outcome, meanwhile } = next.unwrap_or(Answer { outcome: Outcome::Ok, meanwhile: vec![] });
        self.see(format!("start {} {outcome}", spec.id));
        meanwhile.iter().for_each(|act| self.act(act));
        match outcome {
            Outcome::Ok => Ok(Some(self.spawn(spec.id))),
            Outcome::Ignore => Ok(None),
            Outcome::Error => Err("error refused"),
        }
    }

    fn spawn(&mut self, id: Id) -> Pid {
        self.started += 1;
        let pid = Pid(self.started);
        self.alive.insert(id, pid);
        self.latest.insert(id, pid);
        pid
    }

    /// Something happens outside; the supervisor learns of it from its mailbox.
    pub(super) fn act(&mut self, act: &Act) {
        match act {
            Act::Exit(id, reason) => {
                if let Some(pid) = self.alive.remove(id) {
                    let seen = if *reason == Reason::Kill { "killed".to_owned() } else { reason.to_string() };
                    self.see(format!("down {id} {seen}"));
                    self.mailbox.push_back(Message::Exit(pid, *reason));
                }
            }
            Act::Call(call) => self.mailbox.push_back(Message::Call(call.clone(), self.named_in(call))),
            Act::Stop => self.mailbox.push_back(Message::Stop),
        }
    }

    fn named_in(&self, call: &Call) -> Option<Pid> {
        match call {
            Call::TerminateChild(id) | Call::RestartChild(id) | Call::DeleteChild(id) | Call::GetChildspec(id) => {
                self.latest.get(id).copied()
            }
            Call::StartChild(_) | Call::WhichChildren | Call::CountChildren => None,
        }
    }

    /// Ends a process and sees it end. If it had ended already, its exit is not news any more.
    pub(super) fn terminate(&mut self, pid: Pid, spec: &Child) {
        if self.is_alive(pid) {
            self.alive.remove(&spec.id);
            let killed = spec.shutdown == Shutdown::BrutalKill || spec.habit == Habit::Deaf;
            self.see(format!("down {} {}", spec.id, if killed { "killed" } else { "shutdown" }));
        }
        self.mailbox.retain(|message| !matches!(message, Message::Exit(dead, _) if *dead == pid));
    }

    pub(super) fn is_alive(&self, pid: Pid) -> bool {
        self.alive.values().any(|alive| *alive == pid)
    }

    pub(super) fn see(&mut self, line: String) {
        self.trace.steps.last_mut().expect("invariant: a trace has a step from its beginning").push(line);
    }

    pub(super) fn next_step(&mut self) {
        self.trace.steps.push(vec![]);
    }

    pub(super) fn into_trace(self) -> Trace {
        self.trace
    }
}
