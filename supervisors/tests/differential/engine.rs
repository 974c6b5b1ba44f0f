//! Our engine in its strict mode, driven as OTP drives itself: one message at a time, and nothing else until all that
//! follows from it is done.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use envctl_supervisors::Name;
use envctl_supervisors::engine::{
    AdminError, ChildState, Effect, Ending, Engine, Event, Options, OtpState, TimerKey, TimerKind,
};
use envctl_supervisors::reason::{ExitReason, StartError};
use envctl_supervisors::spec::{self, ChildSpec, Flags, Incarnation, Intensity};

use crate::script::{
    Act, Answer, AutoShutdown, Call, Child, Habit, Id, Op, Outcome, Reason, Restart, Script, Shutdown, Strategy,
};
use crate::trace::Trace;

/// Runs a script on the engine; a budget that is off by this much is a mistake that the comparison must notice.
pub(crate) fn run(script: &Script, too_many: u32) -> Trace {
    let mut world = World::new(script, too_many);
    world.init();
    world.settle();
    for op in &script.ops {
        if world.has_ended {
            break;
        }
        world.trace.steps.push(vec![]);
        match op {
            Op::One(act) => world.act(act),
            Op::Together(acts) => acts.iter().for_each(|act| world.act(act)),
            Op::Advance(ms) => world.now += Duration::from_millis(*ms),
        }
        world.settle();
    }
    world.trace
}

/// One life of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    incarnation: Incarnation,
    number: u64,
}

/// What the supervisor finds in its mailbox.
enum Message {
    Exit(Id, Process, Reason),
    /// A request, with the process the child had when it was sent.
    Call(Call, Option<u64>),
    /// From itself: to try a failed start again, whichever that is when the message is read. OTP's names the child alone.
    TryAgain(Id),
    Stop,
}

struct World<'a> {
    script: &'a Script,
    engine: Engine,
    now: Duration,
    answers: BTreeMap<Id, VecDeque<Answer>>,
    children: BTreeMap<Id, Child>,
    /// What the engine knows as a life, dead or alive.
    lives: BTreeMap<Id, Process>,
    alive: BTreeMap<Id, u64>,
    /// The process of each child's latest start.
    latest: BTreeMap<Id, u64>,
    started: u64,
    /// What the latest start of each child answered.
    outcomes: BTreeMap<Id, Outcome>,
    mailbox: VecDeque<Message>,
    graces: Vec<TimerKey>,
    /// Armed timers of failed starts, all due at once.
    retries: BTreeMap<Id, TimerKey>,
    is_stopping: bool,
    has_ended: bool,
    trace: Trace,
}

// === impl World ===

impl<'a> World<'a> {
    fn new(script: &'a Script, too_many: u32) -> Self {
        let answers = script.answers.iter().map(|(id, answers)| (*id, answers.iter().cloned().collect())).collect();
        let initial = if script.is_simple() { &[] } else { script.children.as_slice() };
        let specs = initial.iter().map(child_spec).collect();
        let options = Options { flags: flags(script, too_many), ..Options::default() };
        Self {
            script,
            engine: Engine::new(specs, Vec::new(), options).expect("scripts are sound"),
            now: Duration::ZERO,
            answers,
            children: initial.iter().map(|child| (child.id, child.clone())).collect(),
            lives: BTreeMap::new(),
            alive: BTreeMap::new(),
            latest: BTreeMap::new(),
            started: 0,
            outcomes: BTreeMap::new(),
            mailbox: VecDeque::new(),
            graces: Vec::new(),
            retries: BTreeMap::new(),
            is_stopping: false,
            has_ended: false,
            trace: Trace { steps: vec![vec![]] },
        }
    }

    fn init(&mut self) {
        self.step(Event::Start { ids: vec![], with_needs: true });
        self.end_if_over();
    }

    fn settle(&mut self) {
        while !self.has_ended
            && let Some(message) = self.mailbox.pop_front()
        {
            match message {
                Message::Exit(id, process, reason) => self.exited(id, process, reason),
                Message::Call(call, handle) => {
                    let result = self.call(&call, handle);
                    self.see(format!("reply {call} {result}"));
                }
                Message::TryAgain(id) => {
                    if let Some(key) = self.retries.remove(&id) {
                        self.step(Event::Timer(key));
                    }
                }
                Message::Stop => {
                    self.is_stopping = true;
                    self.step(Event::Stop { ids: vec![] });
                }
            }
            self.end_if_over();
        }
    }

    fn end_if_over(&mut self) {
        let ending = self.engine.ending().map(|(by, why)| (by.clone(), why.clone()));
        if !self.engine.is_idle() || (ending.is_none() && !self.is_stopping) {
            return;
        }
        self.has_ended = true;
        self.see(match ending {
            Some((by, Ending::FirstStart(_))) => format!("failed {by}"),
            Some((_, Ending::GaveUp | Ending::AutoShutdown)) | None => "ended shutdown".to_owned(),
        });
        for message in std::mem::take(&mut self.mailbox) {
            if let Message::Call(call, _) = message {
                self.see(format!("reply {call} gone"));
            }
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Exit(id, reason) => {
                if let Some(number) = self.alive.remove(id) {
                    let seen = if *reason == Reason::Kill { "killed".to_owned() } else { reason.to_string() };
                    self.see(format!("down {id} {seen}"));
                    let process =
                        self.lives.get(id).copied().unwrap_or(Process { incarnation: Incarnation(0), number });
                    self.mailbox.push_back(Message::Exit(*id, process, *reason));
                }
            }
            Act::Call(call) => self.mailbox.push_back(Message::Call(call.clone(), self.named_in(call))),
            Act::Stop => self.mailbox.push_back(Message::Stop),
        }
    }

    fn named_in(&self, call: &Call) -> Option<u64> {
        match call {
            Call::TerminateChild(id) | Call::RestartChild(id) | Call::DeleteChild(id) | Call::GetChildspec(id) => {
                self.latest.get(id).copied()
            }
            Call::StartChild(_) | Call::WhichChildren | Call::CountChildren => None,
        }
    }

    fn exited(&mut self, id: Id, process: Process, reason: Reason) {
        if self.lives.get(&id) == Some(&process) {
            self.lives.remove(&id);
            let reason = exit_reason(reason);
            self.step(Event::Exited { id: name(id), incarnation: process.incarnation, reason });
        }
    }

    /// One event, and everything that follows from it.
    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        loop {
            while let Some(event) = events.pop_front() {
                for effect in self.engine.step(self.now, event) {
                    events.extend(self.carry_out(effect));
                }
            }
            // Nothing moves: the supervisor waits for a child that does not end.
            match self.graces.pop() {
                Some(key) => events.push_back(Event::Timer(key)),
                None => break,
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Spawn { id, incarnation, .. } => Some(self.start(number(&id), incarnation)),
            Effect::Stop { id, incarnation, .. } => self.terminate(number(&id), incarnation, false),
            Effect::Kill { id, incarnation, .. } => self.terminate(number(&id), incarnation, true),
            Effect::Arm { key, .. } => {
                match key.kind {
                    TimerKind::Backoff => {
                        let child = self.engine.child_of(key.child).expect("it was armed in this step");
                        self.mailbox.push_back(Message::TryAgain(number(&child.id)));
                        self.retries.insert(number(&child.id), key);
                    }
                    TimerKind::Grace => self.graces.push(key),
                    TimerKind::Ready | TimerKind::Stable => {}
                }
                None
            }
            Effect::Cancel { key, .. } => {
                self.graces.retain(|grace| *grace != key);
                self.retries.retain(|_, retry| *retry != key);
                None
            }
            Effect::Dropped { .. } | Effect::Report(_) | Effect::Idle => None,
        }
    }

    fn start(&mut self, id: Id, incarnation: Incarnation) -> Event {
        let next = self.answers.get_mut(&id).and_then(VecDeque::pop_front);
        let Answer { outcome, meanwhile } = next.unwrap_or(Answer { outcome: Outcome::Ok, meanwhile: vec![] });
        self.see(format!("start {id} {outcome}"));
        meanwhile.iter().for_each(|act| self.act(act));
        self.outcomes.insert(id, outcome);
        match outcome {
            Outcome::Ok => {
                self.started += 1;
                self.alive.insert(id, self.started);
                self.latest.insert(id, self.started);
                self.lives.insert(id, Process { incarnation, number: self.started });
                Event::Spawned { id: name(id), incarnation }
            }
            Outcome::Ignore => Event::Ignored { id: name(id), incarnation },
            Outcome::Error => {
                let error = StartError { message: "start: refused".to_owned(), hint: None, retry: true };
                Event::SpawnFailed { id: name(id), incarnation, error }
            }
        }
    }

    fn terminate(&mut self, id: Id, incarnation: Incarnation, is_killed: bool) -> Option<Event> {
        let process = *self.lives.get(&id)?;
        assert_eq!(process.incarnation, incarnation, "{id}: told to end, but that life is not the present one");
        let is_alive = self.alive.get(&id) == Some(&process.number);
        if is_alive {
            if self.children[&id].habit == Habit::Deaf && !is_killed {
                return None;
            }
            self.alive.remove(&id);
            self.see(format!("down {id} {}", if is_killed { "killed" } else { "shutdown" }));
        }
        self.lives.remove(&id);
        self.mailbox.retain(|message| !matches!(message, Message::Exit(_, dead, _) if *dead == process));
        let reason = if is_killed { ExitReason::Killed } else { ExitReason::Normal };
        Some(Event::Exited { id: name(id), incarnation, reason })
    }

    fn see(&mut self, line: String) {
        self.trace.steps.last_mut().expect("invariant: a trace has a step from its beginning").push(line);
    }

    // --- the interface ---

    fn call(&mut self, call: &Call, handle: Option<u64>) -> String {
        let simple = self.script.is_simple();
        match call {
            Call::StartChild(child) => self.start_child(child),
            Call::TerminateChild(id) if simple => self.terminate_instance(*id, handle),
            Call::TerminateChild(id) => self.terminate_child(*id),
            Call::RestartChild(_) | Call::DeleteChild(_) if simple => "error simple_one_for_one".to_owned(),
            Call::RestartChild(id) => match self.engine.check_try(&name(*id)) {
                Ok(()) => {
                    self.step(Event::Try { id: name(*id) });
                    self.told_start(*id)
                }
                Err(error) => refused(&error),
            },
            Call::DeleteChild(id) => match self.engine.check_remove(&name(*id)) {
                Ok(()) => {
                    self.step(Event::Remove { id: name(*id) });
                    "ok".to_owned()
                }
                Err(error) => refused(&error),
            },
            Call::WhichChildren => self.which_children(),
            Call::CountChildren => self.count_children(),
            Call::GetChildspec(_) if simple => match (handle, self.script.children.first()) {
                (Some(_), Some(template)) => told(&child_spec(template)),
                (_, _) => "error not_found".to_owned(),
            },
            Call::GetChildspec(id) => {
                self.engine.spec(name(*id).as_str()).map_or_else(|| "error not_found".to_owned(), told)
            }
        }
    }

    fn start_child(&mut self, child: &Child) -> String {
        let spec = child_spec(child);
        match self.engine.check_add(&spec) {
            Ok(()) => {
                self.children.insert(child.id, child.clone());
                self.step(Event::Add { spec: Box::new(spec) });
                self.told_start(child.id)
            }
            Err(error) => refused(&error),
        }
    }

    fn terminate_child(&mut self, id: Id) -> String {
        if self.engine.otp_state(name(id).as_str()).is_none() {
            return "error not_found".to_owned();
        }
        self.step(Event::Stop { ids: vec![name(id)] });
        "ok".to_owned()
    }

    /// An instance is named by the process it has, or had before its restarts failed.
    fn terminate_instance(&mut self, id: Id, handle: Option<u64>) -> String {
        let Some(handle) = handle else { return "error not_found".to_owned() };
        let is_running = self.lives.get(&id).map(|process| process.number) == Some(handle);
        let is_restarting = self.engine.otp_state(name(id).as_str()) == Some(OtpState::Restarting);
        if is_running || (is_restarting && self.latest.get(&id) == Some(&handle)) {
            self.step(Event::Stop { ids: vec![name(id)] });
        }
        "ok".to_owned()
    }

    fn told_start(&self, id: Id) -> String {
        match self.outcomes.get(&id) {
            Some(Outcome::Ok) => "ok".to_owned(),
            Some(Outcome::Ignore) => "ok undefined".to_owned(),
            Some(Outcome::Error) => "error refused".to_owned(),
            None => "nothing was started".to_owned(),
        }
    }

    fn which_children(&self) -> String {
        let simple = self.script.is_simple();
        let told = |id: &Name| match self.engine.otp_state(id.as_str()) {
            Some(OtpState::Running) => format!("{id}:running"),
            Some(OtpState::Restarting) if simple => "restarting".to_owned(),
            Some(OtpState::Restarting) => format!("{id}:restarting"),
            Some(OtpState::Undefined) | None => format!("{id}:undefined"),
        };
        let mut all: Vec<_> = self.engine.specs().map(|spec| told(&spec.id)).collect();
        all.reverse();
        if simple {
            all.sort();
        }
        ["of".to_owned()].into_iter().chain(all).collect::<Vec<_>>().join(" ")
    }

    fn count_children(&self) -> String {
        let total = self.engine.len();
        let lives = |view: &envctl_supervisors::engine::ChildView| {
            view.state == ChildState::Running && self.alive.contains_key(&number(&view.id))
        };
        match self.script.is_simple() {
            true => format!("specs=1 workers={total}"),
            false => {
                format!("specs={total} active={} workers={total}", self.engine.children().filter(lives).count())
            }
        }
    }
}

// === words ===

fn name(id: Id) -> Name {
    Name::new(&id.to_string()).expect("ids are names")
}

fn number(name: &Name) -> Id {
    Id(name.as_str().as_bytes()[0] - b'a')
}

fn flags(script: &Script, too_many: u32) -> Flags {
    let strategy = match script.flags.strategy {
        Strategy::OneForOne | Strategy::SimpleOneForOne => spec::Strategy::OneForOne,
        Strategy::OneForAll => spec::Strategy::OneForAll,
        Strategy::RestForOne => spec::Strategy::RestForOne,
    };
    let flags = if script.is_simple() { Flags::dynamic() } else { Flags::otp(strategy) };
    let auto_shutdown = match script.flags.auto_shutdown {
        AutoShutdown::Never => spec::AutoShutdown::Never,
        AutoShutdown::AnySignificant => spec::AutoShutdown::AnySignificant,
        AutoShutdown::AllSignificant => spec::AutoShutdown::AllSignificant,
    };
    let period = Duration::from_secs(script.flags.period);
    let intensity = Some(Intensity { restarts: script.flags.intensity + too_many, period });
    Flags { intensity, auto_shutdown, ..flags }
}

fn child_spec(child: &Child) -> ChildSpec {
    ChildSpec {
        restart: match child.restart {
            Restart::Permanent => spec::Restart::Permanent,
            Restart::Transient => spec::Restart::Transient,
            Restart::Temporary => spec::Restart::Temporary,
        },
        shutdown: match child.shutdown {
            Shutdown::BrutalKill => spec::Shutdown::BrutalKill,
            Shutdown::Timeout(ms) => spec::Shutdown::Timeout(Duration::from_millis(u64::from(ms))),
            Shutdown::Infinity => spec::Shutdown::Infinity,
        },
        significant: child.significant,
        ..ChildSpec::otp(name(child.id))
    }
}

fn told(spec: &ChildSpec) -> String {
    let restart = match spec.restart {
        spec::Restart::Permanent => "permanent",
        spec::Restart::Transient => "transient",
        spec::Restart::Temporary => "temporary",
    };
    let shutdown = match spec.shutdown {
        spec::Shutdown::BrutalKill => "brutal_kill".to_owned(),
        spec::Shutdown::Timeout(timeout) => timeout.as_millis().to_string(),
        spec::Shutdown::Infinity => "infinity".to_owned(),
    };
    format!("ok {restart} {shutdown} significant={}", spec.significant)
}

fn exit_reason(reason: Reason) -> ExitReason {
    match reason {
        Reason::Normal => ExitReason::Normal,
        Reason::Shutdown | Reason::ShutdownWith => ExitReason::Shutdown,
        Reason::Crash => ExitReason::Error("crash".to_owned()),
        Reason::Kill => ExitReason::Killed,
    }
}

fn refused(error: &AdminError) -> String {
    let word = match error {
        AdminError::NotFound(_) => "not_found",
        AdminError::AlreadyPresent(_) => "already_present",
        AdminError::AlreadyStarted(_) => "already_started",
        AdminError::Running(_) => "running",
        AdminError::Restarting(_) => "restarting",
        AdminError::Needed(_) => "needed",
        AdminError::Spec(_) => "spec",
    };
    format!("error {word}")
}
