//! OTP's supervisor in the plainest words: a list of children, a mailbox, no processes, no speed. It stands in for OTP where
//! Erlang is not installed.
//!
//! It does what OTP 25 does, one message after another; `restart.rs` has the rules about restarts, `world.rs` the children
//! and what is seen of them. With a [`BrokenRule`] it is wrong in one place, to prove that the comparison would notice.

mod restart;
mod world;

use self::world::{Message, Pid, World};
use crate::script::{AutoShutdown, Call, Child, Id, Op, Restart, Script};
use crate::trace::Trace;

/// A mistake somebody could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokenRule {
    /// One restart too many is allowed.
    IntensityIsOffByOne,
    /// `rest_for_one` ends the later siblings in the order of their start.
    RestForOneStopsInStartOrder,
    /// A transient child that ends with `shutdown` is restarted.
    TransientIsRestartedAfterShutdown,
    /// `any_significant` waits for the last one, `all_significant` for none.
    AnyAndAllAreSwapped,
    /// Trying a failed start again costs nothing.
    RetriesAreFree,
    /// When a sibling's start fails in a group restart, the child that crashed is tried again instead.
    TheWrongChildIsRetried,
    /// A group restart leaves those alone that an operator stopped.
    StoppedSiblingsStayDown,
    /// The window does not slide.
    RestartsAreNeverForgotten,
}

/// Runs a script on a supervisor with at most one mistake.
pub(crate) fn run(script: &Script, broken: Option<BrokenRule>) -> Trace {
    let mut naive = Naive::new(script, broken);
    naive.init();
    naive.settle();
    for op in &script.ops {
        if naive.has_ended {
            break;
        }
        naive.world.next_step();
        naive.op(op);
        naive.settle();
    }
    naive.world.into_trace()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running(Pid),
    /// Its last restart failed; the process it had, where it had one.
    Restarting(Option<Pid>),
    Undefined,
}

#[derive(Debug, Clone)]
struct Entry {
    spec: Child,
    state: State,
}

struct Naive<'a> {
    script: &'a Script,
    broken: Option<BrokenRule>,
    /// In start order; of a template, its instances.
    children: Vec<Entry>,
    /// When each restart was, in whole seconds.
    restarts: Vec<u64>,
    now_ms: u64,
    world: World,
    has_ended: bool,
}

// === impl Naive ===

impl<'a> Naive<'a> {
    fn new(script: &'a Script, broken: Option<BrokenRule>) -> Self {
        let world = World::new(script);
        Self { script, broken, children: vec![], restarts: vec![], now_ms: 0, world, has_ended: false }
    }

    fn is_broken(&self, rule: BrokenRule) -> bool {
        self.broken == Some(rule)
    }

    /// Starts the children from left to right. The first that fails takes those before it down again: no retry here.
    fn init(&mut self) {
        if self.script.is_simple() {
            return;
        }
        for spec in &self.script.children {
            match self.world.start(spec) {
                Ok(None) if spec.restart == Restart::Temporary => {}
                Ok(process) => self.children.push(Entry { spec: spec.clone(), state: started(process) }),
                Err(_) => {
                    self.terminate_all();
                    return self.end(format!("failed {}", spec.id));
                }
            }
        }
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::One(act) => self.world.act(act),
            Op::Together(acts) => acts.iter().for_each(|act| self.world.act(act)),
            Op::Advance(ms) => self.now_ms += ms,
        }
    }

    /// Handles messages until none is left.
    fn settle(&mut self) {
        while !self.has_ended
            && let Some(message) = self.world.mailbox.pop_front()
        {
            match message {
                Message::Exit(pid, reason) => self.child_exited(pid, reason),
                Message::Call(call, handle) => {
                    let result = self.call(&call, handle);
                    self.world.see(format!("reply {call} {result}"));
                }
                Message::TryAgain(id) => self.try_again(id),
                Message::Stop => self.shutdown(),
            }
        }
    }

    /// The orderly end: what is left is terminated, then nobody is answered any more.
    fn shutdown(&mut self) {
        self.terminate_all();
        self.end("ended shutdown".to_owned());
    }

    fn terminate_all(&mut self) {
        for entry in std::mem::take(&mut self.children).iter().rev() {
            self.terminate(entry);
        }
    }

    fn end(&mut self, how: String) {
        self.has_ended = true;
        self.world.see(how);
        for message in std::mem::take(&mut self.world.mailbox) {
            if let Message::Call(call, _) = message {
                self.world.see(format!("reply {call} gone"));
            }
        }
    }

    /// Ends the child's process, if it has one.
    fn terminate(&mut self, entry: &Entry) {
        if let State::Running(pid) = entry.state {
            self.world.terminate(pid, &entry.spec);
        }
    }

    /// The child has no process any more: temporary children and instances of a template leave no trace.
    fn forget_process(&mut self, at: usize) {
        if self.script.is_simple() || self.children[at].spec.restart == Restart::Temporary {
            self.children.remove(at);
        } else {
            self.children[at].state = State::Undefined;
        }
    }

    /// A child that will not come back is gone. Children that are being restarted count as alive.
    fn after_end_of(&mut self, spec: &Child) {
        let others_live = self.children.iter().any(|entry| entry.spec.significant && entry.state != State::Undefined);
        let is_over = match (self.script.flags.auto_shutdown, self.is_broken(BrokenRule::AnyAndAllAreSwapped)) {
            (AutoShutdown::Never, _) => false,
            (AutoShutdown::AnySignificant, false) | (AutoShutdown::AllSignificant, true) => true,
            (AutoShutdown::AllSignificant, false) | (AutoShutdown::AnySignificant, true) => !others_live,
        };
        if spec.significant && is_over {
            self.shutdown();
        }
    }

    fn position(&self, id: Id) -> Option<usize> {
        self.children.iter().position(|entry| entry.spec.id == id)
    }
}

// === the interface ===

impl Naive<'_> {
    /// What the caller is told. `handle` is the process the caller knew the child by.
    fn call(&mut self, call: &Call, handle: Option<Pid>) -> String {
        let simple = self.script.is_simple();
        match call {
            Call::StartChild(spec) if simple => self.start_instance(spec),
            Call::StartChild(spec) => self.start_child(spec),
            Call::TerminateChild(_) if simple => self.terminate_instance(handle),
            Call::TerminateChild(id) => self.terminate_child(*id),
            Call::RestartChild(_) | Call::DeleteChild(_) if simple => "error simple_one_for_one".to_owned(),
            Call::RestartChild(id) => self.restart_child(*id),
            Call::DeleteChild(id) => self.delete_child(*id),
            Call::WhichChildren => self.which_children(),
            Call::CountChildren => self.count_children(),
            Call::GetChildspec(_) if simple => self.instance_spec(handle),
            Call::GetChildspec(id) => self.position(*id).map_or_else(not_found, |at| told(&self.children[at].spec)),
        }
    }

    /// A start that fails leaves nothing behind.
    fn start_child(&mut self, spec: &Child) -> String {
        if let Some(at) = self.position(spec.id) {
            let known = if self.is_running(at) { "already_started" } else { "already_present" };
            return format!("error {known}");
        }
        match self.world.start(spec) {
            Ok(None) if spec.restart == Restart::Temporary => "ok undefined".to_owned(),
            Ok(process) => {
                self.children.push(Entry { spec: spec.clone(), state: started(process) });
                told_start(process)
            }
            Err(refused) => refused.to_owned(),
        }
    }

    fn start_instance(&mut self, spec: &Child) -> String {
        match self.world.start(spec) {
            Ok(process) => {
                let state = process.map(State::Running);
                self.children.extend(state.map(|state| Entry { spec: spec.clone(), state }));
                told_start(process)
            }
            Err(refused) => refused.to_owned(),
        }
    }

    /// Also ends a loop of failing restarts.
    fn terminate_child(&mut self, id: Id) -> String {
        let Some(at) = self.position(id) else { return not_found() };
        let entry = self.children[at].clone();
        self.terminate(&entry);
        self.forget_process(at);
        "ok".to_owned()
    }

    /// An instance is named by the process it has, or had before its restarts failed. Other dead processes were children
    /// once, for all OTP knows.
    fn terminate_instance(&mut self, handle: Option<Pid>) -> String {
        let Some(pid) = handle else { return not_found() };
        let is = |state| state == State::Running(pid) || state == State::Restarting(Some(pid));
        if let Some(at) = self.children.iter().position(|entry| is(entry.state)) {
            let entry = self.children.remove(at);
            self.terminate(&entry);
        }
        "ok".to_owned()
    }

    /// A start that fails is not tried again.
    fn restart_child(&mut self, id: Id) -> String {
        let Some(at) = self.position(id) else { return not_found() };
        match self.children[at].state {
            State::Running(_) => "error running".to_owned(),
            State::Restarting(_) => "error restarting".to_owned(),
            State::Undefined => {
                let spec = self.children[at].spec.clone();
                match self.world.start(&spec) {
                    Ok(process) => {
                        self.children[at].state = started(process);
                        told_start(process)
                    }
                    Err(refused) => refused.to_owned(),
                }
            }
        }
    }

    fn delete_child(&mut self, id: Id) -> String {
        let Some(at) = self.position(id) else { return not_found() };
        match self.children[at].state {
            State::Running(_) => "error running".to_owned(),
            State::Restarting(_) => "error restarting".to_owned(),
            State::Undefined => {
                self.children.remove(at);
                "ok".to_owned()
            }
        }
    }

    fn which_children(&self) -> String {
        let told = |entry: &Entry| match entry.state {
            State::Running(_) => format!("{}:running", entry.spec.id),
            State::Restarting(_) if self.script.is_simple() => "restarting".to_owned(),
            State::Restarting(_) => format!("{}:restarting", entry.spec.id),
            State::Undefined => format!("{}:undefined", entry.spec.id),
        };
        let mut all = self.children.iter().rev().map(told).collect::<Vec<_>>();
        if self.script.is_simple() {
            all.sort();
        }
        ["of".to_owned()].into_iter().chain(all).collect::<Vec<_>>().join(" ")
    }

    /// `active` are those that live at this moment: the supervisor may not have heard yet.
    fn count_children(&self) -> String {
        let total = self.children.len();
        let lives = |entry: &&Entry| matches!(entry.state, State::Running(pid) if self.world.is_alive(pid));
        match self.script.is_simple() {
            true => format!("specs=1 workers={total}"),
            false => format!("specs={total} active={} workers={total}", self.children.iter().filter(lives).count()),
        }
    }

    fn instance_spec(&self, handle: Option<Pid>) -> String {
        match (handle, self.script.children.first()) {
            (Some(_), Some(template)) => told(template),
            (_, _) => not_found(),
        }
    }

    fn is_running(&self, at: usize) -> bool {
        matches!(self.children[at].state, State::Running(_))
    }
}

fn started(process: Option<Pid>) -> State {
    process.map_or(State::Undefined, State::Running)
}

fn told_start(process: Option<Pid>) -> String {
    if process.is_some() { "ok".to_owned() } else { "ok undefined".to_owned() }
}

fn told(spec: &Child) -> String {
    format!("ok {} {} significant={}", spec.restart, spec.shutdown, spec.significant)
}

fn not_found() -> String {
    "error not_found".to_owned()
}
