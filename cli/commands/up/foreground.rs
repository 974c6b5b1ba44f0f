//! A foreground `up`: progress and logs until everything ended by itself, or Ctrl-C.
//!
//! ```text
//! views, grown logs, signals, the reply to Down ──select!──▶ Happened ──▶ one decision each
//! ```

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use envctl_runtime::control::client::{Client, ClientError, Subscription};
use envctl_runtime::control::view::{Desired, ProjectView, UnitState, UnitView};
use envctl_runtime::control::wire::{Down, DownReply, LogsGrown, WatchLogs, WatchProject};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::settle::{Settled, ended, settle};
use super::waiting::{failure, over};
use super::{Started, said};
use crate::commands::down;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::logs::{Look, Tail};
use crate::output::progress::Progress;

/// Log entries shown before signals and progress are looked at again.
const SHOWN_AT_ONCE: usize = 500;
/// Daemons tried in a row without hearing a word of the project.
const RECONNECTS_MAX: u32 = 5;

/// Ctrl-C, a request to end, and a terminal that closed.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// What came while nobody could act on it yet.
    early: VecDeque<Word>,
    /// The first that came, for a process 1 to say.
    first: Option<u8>,
}

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Somebody wants it to end; a second time: at once.
    Stop,
    /// The terminal is gone. Shell and kernel both say so, and none of them is impatient.
    HungUp,
}

/// One thing that happened.
enum Happened {
    View(Box<ProjectView>),
    Grown,
    MoreLogs,
    Signal(Word),
    Down(Box<Result<DownReply, ClientError>>),
    /// The daemon ended a stream: the project is gone from it.
    Ended,
    /// A stream broke.
    Lost(ClientError),
}

type Stopping = Pin<Box<dyn Future<Output = Result<DownReply, ClientError>>>>;

/// What the loop holds.
struct Foreground<'a> {
    context: &'a Context,
    started: Started,
    tail: Tail,
    progress: Progress,
    newest: Option<ProjectView>,
    /// The stop that is under way, and whether it kills.
    stopping: Option<Stopping>,
    killing: bool,
    more_logs: bool,
    settled: bool,
    /// It was said that the run ends by itself.
    ending_told: bool,
    /// Nothing more comes from the daemon but the reply to the stop.
    streams_ended: bool,
    /// Since the last state that came.
    reconnects: u32,
}

/// The daemon's two streams.
struct Streams {
    views: Subscription<ProjectView>,
    grown: Subscription<LogsGrown>,
}

/// Follows a start to its end.
pub(super) async fn follow(
    context: &Context,
    started: Started,
    tail: Tail,
    signals: &mut Signals,
) -> Result<Exit, CliError> {
    context.output.say(&said(&started.reply));
    let progress = Progress::new(&context.output, &started.scope);
    let mut foreground = Foreground {
        context,
        started,
        tail,
        progress,
        newest: None,
        stopping: None,
        killing: false,
        more_logs: false,
        settled: false,
        ending_told: false,
        streams_ended: false,
        reconnects: 0,
    };
    let mut streams = foreground.subscribe().await?;
    loop {
        let happened = foreground.next(&mut streams, signals).await;
        if let Some(exit) = Box::pin(foreground.handle(happened, &mut streams)).await? {
            foreground.progress.settle();
            foreground.show_rest()?;
            return Ok(exit);
        }
    }
}

// === impl Foreground ===

impl Foreground<'_> {
    async fn subscribe(&self) -> Result<Streams, CliError> {
        subscribe(&self.started.client, &self.started).await.map_err(CliError::from)
    }

    async fn next(&mut self, streams: &mut Streams, signals: &mut Signals) -> Happened {
        let (more_logs, streams_ended, stopping) = (self.more_logs, self.streams_ended, &mut self.stopping);
        let stopped = async {
            match stopping {
                Some(reply) => reply.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            word = signals.next() => Happened::Signal(word),
            reply = stopped => Happened::Down(Box::new(reply)),
            view = streams.views.next(), if !streams_ended => match view {
                Some(Ok(view)) => Happened::View(Box::new(view)),
                Some(Err(error)) => Happened::Lost(error),
                None => Happened::Ended,
            },
            grown = streams.grown.next(), if !streams_ended => match grown {
                Some(Ok(_)) => Happened::Grown,
                Some(Err(error)) => Happened::Lost(error),
                None => Happened::Ended,
            },
            () = std::future::ready(()), if more_logs => Happened::MoreLogs,
        }
    }

    async fn handle(&mut self, happened: Happened, streams: &mut Streams) -> Result<Option<Exit>, CliError> {
        match happened {
            Happened::View(view) => Ok(self.take_view(*view)),
            Happened::Grown | Happened::MoreLogs => self.show_logs().await,
            Happened::Signal(word) => self.interrupt(word).await,
            Happened::Down(reply) => self.stopped(*reply).map(Some),
            // What was asked to stop has stopped; the reply to that is the last word.
            Happened::Ended | Happened::Lost(_) if self.stopping.is_some() => {
                self.streams_ended = true;
                Ok(None)
            }
            Happened::Ended => Ok(Some(self.exit())),
            Happened::Lost(ClientError::Lost) if self.reconnects < RECONNECTS_MAX => {
                self.reconnect(streams).await?;
                Ok(None)
            }
            Happened::Lost(error) => Err(error.into()),
        }
    }

    fn take_view(&mut self, view: ProjectView) -> Option<Exit> {
        self.progress.observe(&view, &self.started.scope);
        self.tell_settled(&view);
        let over = self.stopping.is_none() && ended(&view, &self.started.scope);
        self.newest = Some(view);
        self.reconnects = 0;
        over.then(|| self.exit())
    }

    /// Says once where the start has come to, and once more if the run then ends by itself.
    fn tell_settled(&mut self, view: &ProjectView) {
        let settled = settle(view, &self.started.scope, self.started.counts);
        let ends = matches!(settled, Settled::Over(_));
        if matches!(settled, Settled::Waiting(_)) || (self.settled && !ends) || self.ending_told {
            return;
        }
        self.settled = true;
        self.ending_told = ends;
        self.progress.settle();
        match settled {
            Settled::Failed(unit) => self.context.output.error(&failure(unit, &self.started)),
            Settled::Over(cause) => self.context.output.error(&over(cause, view)),
            Settled::Up | Settled::Waiting(_) => {}
        }
    }

    /// How a run ended that nobody interrupted.
    fn exit(&self) -> Exit {
        let up = |view: &ProjectView| matches!(settle(view, &self.started.scope, self.started.counts), Settled::Up);
        Exit::ok_if(self.newest.as_ref().is_none_or(up))
    }

    async fn show_logs(&mut self) -> Result<Option<Exit>, CliError> {
        let output = &self.context.output;
        let tail = &mut self.tail;
        match self.progress.aside(|| tail.show(output, Look::default(), SHOWN_AT_ONCE)) {
            Ok(more) => {
                self.more_logs = more;
                Ok(None)
            }
            // Nobody reads any more: as a closed terminal. A stop that is under way is seen through in any case.
            Err(error) if error.quiet || self.stopping.is_some() => {
                self.more_logs = false;
                self.interrupt(Word::HungUp).await
            }
            Err(error) => Err(error),
        }
    }

    /// What came while the last decision was made; its reader may have gone.
    fn show_rest(&mut self) -> Result<(), CliError> {
        loop {
            match self.tail.show(&self.context.output, Look::default(), SHOWN_AT_ONCE) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.quiet => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The first word stops what this `up` started, the second kills it, the third leaves.
    async fn interrupt(&mut self, word: Word) -> Result<Option<Exit>, CliError> {
        if word == Word::HungUp && self.stopping.is_some() {
            return Ok(None);
        }
        let output = &self.context.output;
        if self.started.reply.started.is_empty() {
            self.progress.aside(|| output.say("the run goes on; `envctl down` stops it"));
            return Ok(Some(Exit::Interrupted));
        }
        match (self.stopping.is_some(), self.killing) {
            (false, _) => self.progress.aside(|| output.say("stopping; Ctrl-C again kills")),
            (true, false) => {
                self.killing = true;
                self.progress.aside(|| output.say("killing"));
            }
            (true, true) => return Ok(Some(Exit::Interrupted)),
        }
        let client = self.context.daemon().await?;
        self.stopping = Some(Box::pin(stop(client, self.down())));
        Ok(None)
    }

    /// Whether the whole run is this command's.
    fn owns_all(&self) -> bool {
        !self.started.reply.joined && self.started.scope.len() == self.started.project.units().count()
    }

    fn down(&self) -> Down {
        let started = &self.started;
        let everything = self.owns_all();
        Down {
            project: started.project.reference(),
            units: if everything { Vec::new() } else { started.reply.started.clone() },
            timeout_ms: None,
            kill: self.killing,
        }
    }

    fn stopped(&mut self, reply: Result<DownReply, ClientError>) -> Result<Exit, CliError> {
        self.stopping = None;
        self.progress.settle();
        let reply = reply?;
        down::tell_killed(self.context, &reply.killed);
        match down::escaped(&reply.escaped) {
            Some(error) => Err(error),
            None => {
                self.tell_stopped(&reply.project);
                Ok(Exit::Interrupted)
            }
        }
    }

    fn tell_stopped(&self, project: &str) {
        let output = &self.context.output;
        let stopped = &self.started.reply.started;
        let runs_on = |unit: &UnitView| !stopped.contains(&unit.name) && !ended_by_itself(unit);
        if !self.owns_all() && self.newest.as_ref().is_some_and(|view| view.units.iter().any(runs_on)) {
            output.say(&format!("stopped {}; the rest of {project} runs on", stopped.join(", ")));
            output.hint("`envctl down` stops it");
        } else {
            output.say(&format!("{project} is down"));
        }
    }

    /// The daemon died or was replaced; units run on and so do we.
    async fn reconnect(&mut self, streams: &mut Streams) -> Result<(), CliError> {
        self.progress.aside(|| self.context.output.say("the daemon went away; taking up with the next one"));
        self.reconnects += 1;
        self.started.client = self.context.reconnect().await?;
        *streams = self.subscribe().await?;
        Ok(())
    }
}

/// Whether nothing of the unit runs or will run.
fn ended_by_itself(unit: &UnitView) -> bool {
    match unit.state {
        UnitState::Stopped | UnitState::Done | UnitState::Failed => true,
        UnitState::Pending => unit.desired == Desired::Down,
        UnitState::Starting | UnitState::Running | UnitState::Ready | UnitState::Stopping | UnitState::Backoff => false,
    }
}

/// A connection of its own, so that a long stop is not held up by the streams nor they by it.
async fn stop(client: Client, down: Down) -> Result<DownReply, ClientError> {
    client.request(down).await
}

async fn subscribe(client: &Client, started: &Started) -> Result<Streams, ClientError> {
    let project = started.project.reference();
    let views = client.subscribe(WatchProject { project: project.clone() }).await?;
    let grown = client.subscribe(WatchLogs { project, units: started.scope.iter().cloned().collect() }).await?;
    Ok(Streams { views, grown })
}

// === impl Signals ===

impl Signals {
    /// Listens from now on; without it these signals would end the process.
    pub(crate) fn new() -> Result<Self, CliError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            early: VecDeque::new(),
            first: None,
        })
    }

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Word {
        match self.early.pop_front() {
            Some(word) => word,
            None => self.receive().await,
        }
    }

    /// The number of the first signal that came, if one did.
    pub(crate) fn first(&self) -> Option<u8> {
        self.first
    }

    /// A second one after a first: somebody means it. What comes alone is kept for [`Signals::next`].
    pub(crate) async fn twice(&mut self) {
        loop {
            let word = self.receive().await;
            match (self.early.is_empty(), word) {
                (true, word) => self.early.push_back(word),
                (false, Word::Stop) => return,
                (false, Word::HungUp) => {}
            }
        }
    }

    async fn receive(&mut self) -> Word {
        let (word, kind) = tokio::select! {
            _ = self.interrupt.recv() => (Word::Stop, SignalKind::interrupt()),
            _ = self.terminate.recv() => (Word::Stop, SignalKind::terminate()),
            _ = self.hangup.recv() => (Word::HungUp, SignalKind::hangup()),
        };
        self.first = self.first.or(u8::try_from(kind.as_raw_value()).ok());
        word
    }
}
