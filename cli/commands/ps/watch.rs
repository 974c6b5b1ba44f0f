//! `envctl ps --watch`: a look per interval, and every change of state at once.
//!
//! ```text
//! timer ──Due──▶ a look, with what units use ──Seen──▶ shares ──▶ drawn
//! daemon's streams ──Changed──▶ states only, figures kept ──────▶ drawn (on a terminal)
//! ```
//!
//! The daemon measures when it is asked and keeps nothing for us: with the last look ends all measuring. Where output is
//! no terminal, each look is a block (or a line of JSON) of its own, and changes between looks are not shown.

use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use envctl_runtime::control::client::{Client, Subscription};
use envctl_runtime::control::view::{ProjectView, UnitView};
use envctl_runtime::control::wire::{ProjectRef, WatchProject};
use nix::sys::signal::{Signal as Number, raise};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::usage::Shares;
use super::{Look, NOTHING_UP, Scope, Seen, render_all, show_json};
use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::screen::Screen;

/// One thing that happened.
enum Happened {
    /// The interval is over.
    Due,
    Seen(Box<Result<Seen, CliError>>),
    Changed(Box<ProjectView>),
    Keys(io::Result<Vec<u8>>),
    Resized,
    /// Ctrl-Z.
    Suspended,
    /// Somebody ends this process, or its terminal is gone.
    Ended,
}

type Looking<'a> = Pin<Box<dyn Future<Output = Result<Seen, CliError>> + 'a>>;

/// What the loop holds.
struct Watch<'a> {
    context: &'a Context,
    scope: &'a Scope,
    timer: Interval,
    /// The look that is under way.
    looking: Option<Looking<'a>>,
    client: Option<Client>,
    newest: Newest,
    shares: Shares,
    changes: Changes,
    signals: Signals,
    /// None where output is no terminal.
    screen: Option<Screen>,
    /// Whether a block has been written.
    written: bool,
}

/// The newest states, with the figures of the last look.
#[derive(Debug, Default)]
struct Newest {
    projects: Vec<ProjectView>,
}

/// The daemon's streams of states, one per project, on a connection of their own: a look never waits for them.
#[derive(Default)]
struct Changes {
    client: Option<Client>,
    streams: Vec<(PathBuf, Subscription<ProjectView>)>,
}

/// What the terminal and others say. Ctrl-C is dealt with by the caller.
struct Signals {
    terminate: Signal,
    hangup: Signal,
    suspend: Signal,
    resize: Signal,
}

/// Looks until somebody ends it.
pub(super) async fn run(context: &Context, scope: &Scope, every: Duration) -> Result<Exit, CliError> {
    let mut timer = interval(every);
    // After a look that took long, or a suspension, nothing has to be made up for.
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch {
        context,
        scope,
        timer,
        looking: None,
        client: None,
        newest: Newest::default(),
        shares: Shares::default(),
        changes: Changes::default(),
        signals: Signals::new()?,
        screen: None,
        written: false,
    };
    loop {
        let happened = watch.next().await;
        if let Some(exit) = watch.handle(happened).await? {
            return Ok(exit);
        }
    }
}

// === impl Watch ===

impl Watch<'_> {
    async fn next(&mut self) -> Happened {
        let Self { timer, looking, changes, signals, screen, .. } = self;
        let is_looking = looking.is_some();
        let seen = async {
            match looking {
                Some(look) => look.await,
                None => std::future::pending().await,
            }
        };
        let keys = async {
            match screen {
                Some(screen) => screen.keys().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            word = signals.next() => word,
            keys = keys => Happened::Keys(keys),
            seen = seen => Happened::Seen(Box::new(seen)),
            view = changes.next() => Happened::Changed(Box::new(view)),
            _ = timer.tick(), if !is_looking => Happened::Due,
        }
    }

    async fn handle(&mut self, happened: Happened) -> Result<Option<Exit>, CliError> {
        match happened {
            Happened::Due => self.looking = Some(Box::pin(self.scope.look(self.context, self.client.take(), true))),
            Happened::Seen(seen) => self.seen(*seen).await?,
            Happened::Changed(view) => {
                self.newest.change(*view);
                self.draw()?;
            }
            Happened::Resized => self.draw()?,
            Happened::Suspended => self.suspend()?,
            // No keys at all: the terminal is gone.
            Happened::Keys(Ok(keys)) if keys.is_empty() || keys.contains(&b'q') => return Ok(Some(Exit::Interrupted)),
            Happened::Keys(keys) => drop(keys?),
            Happened::Ended => return Ok(Some(Exit::Interrupted)),
        }
        Ok(None)
    }

    async fn seen(&mut self, seen: Result<Seen, CliError>) -> Result<(), CliError> {
        self.looking = None;
        let Seen { client, projects } = seen?;
        self.client = client;
        self.shares.observe(&projects);
        self.newest = Newest { projects };
        if !self.context.output.screen {
            return self.write_block();
        }
        if self.screen.is_none() {
            // Only now: what is wrong from the start is said on the ordinary screen.
            self.screen = Some(Screen::enter()?);
        }
        self.draw()?;
        self.changes.follow(self.context, &self.newest.projects).await;
        Ok(())
    }

    fn write_block(&mut self) -> Result<(), CliError> {
        let output = &self.context.output;
        if output.json {
            return show_json(self.context, true, &self.newest.projects);
        }
        let gap = if std::mem::replace(&mut self.written, true) { "\n" } else { "" };
        output.write(&format!("{gap}{}", self.text()))
    }

    fn draw(&self) -> Result<(), CliError> {
        let Some(screen) = &self.screen else { return Ok(()) };
        let end = if screen.has_keys() { "`q` or Ctrl-C ends" } else { "Ctrl-C ends" };
        let every = format!("every {:?}; {end}", self.timer.period());
        Ok(screen.draw(&format!("{}\n\n{}", self.context.output.data.dim(&every), self.text()))?)
    }

    fn text(&self) -> String {
        if self.newest.projects.is_empty() {
            return format!("{NOTHING_UP}\n");
        }
        let titled = matches!(self.scope, Scope::All);
        let look = Look { titled, usage: true, shares: Some(&self.shares), paint: self.context.output.data };
        render_all(&self.newest.projects, look)
    }

    /// Gives the terminal back, stops as Ctrl-Z wants it, and takes it over again when the shell goes on with us.
    fn suspend(&mut self) -> Result<(), CliError> {
        let taken = self.screen.take().is_some();
        raise(Number::SIGSTOP).map_err(io::Error::from)?;
        if taken {
            self.screen = Some(Screen::enter()?);
        }
        self.draw()
    }
}

// === impl Newest ===

impl Newest {
    /// Takes in a new state. Figures come with looks alone: a life goes on with those it had.
    fn change(&mut self, mut view: ProjectView) {
        let Some(known) = self.projects.iter_mut().find(|known| known.root == view.root) else { return };
        for unit in view.units.iter_mut().filter(|unit| unit.pid.is_some()) {
            let same = |before: &&UnitView| before.name == unit.name && before.pid == unit.pid;
            if let Some(before) = known.units.iter().find(same) {
                (unit.cpu_ms, unit.memory, unit.uptime_ms) = (before.cpu_ms, before.memory, before.uptime_ms);
            }
        }
        *known = view;
    }
}

// === impl Changes ===

impl Changes {
    /// Follows the projects that are up and not followed yet. What cannot be followed is still looked at.
    async fn follow(&mut self, context: &Context, projects: &[ProjectView]) {
        for project in projects.iter().filter(|project| project.run.is_some()) {
            if self.streams.iter().any(|(root, _)| *root == project.root) {
                continue;
            }
            if self.client.is_none() {
                self.client = context.running_daemon().await.ok().flatten();
            }
            let Some(client) = &self.client else { return };
            let root = project.root.clone();
            match client.subscribe(WatchProject { project: ProjectRef { root: root.clone() } }).await {
                Ok(stream) => self.streams.push((root, stream)),
                // The next look finds another daemon, and so do we.
                Err(_) => return self.client = None,
            }
        }
    }

    /// The next state of any project. Streams that have ended are forgotten. Cancel-safe, as each stream is.
    async fn next(&mut self) -> ProjectView {
        poll_fn(|context| {
            let mut at = 0;
            while let Some((_, stream)) = self.streams.get_mut(at) {
                let next = pin!(stream.next()).poll(context);
                match next {
                    Poll::Ready(Some(Ok(view))) => return Poll::Ready(view),
                    Poll::Ready(Some(Err(_)) | None) => drop(self.streams.swap_remove(at)),
                    Poll::Pending => at += 1,
                }
            }
            Poll::Pending
        })
        .await
    }
}

// === impl Signals ===

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            suspend: signal(SignalKind::from_raw(Number::SIGTSTP as i32))?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Happened {
        tokio::select! {
            _ = self.terminate.recv() => Happened::Ended,
            _ = self.hangup.recv() => Happened::Ended,
            _ = self.suspend.recv() => Happened::Suspended,
            _ = self.resize.recv() => Happened::Resized,
        }
    }
}

#[cfg(test)]
mod tests {
    use envctl_runtime::control::view::{ProjectState, UnitState};

    use super::*;
    use crate::output::progress::tests::unit;

    fn project(units: Vec<UnitView>) -> ProjectView {
        let (state, cause, caused_by) = (ProjectState::Up, None, None);
        ProjectView { name: "shop".into(), root: "/p".into(), run: None, state, units, cause, caused_by }
    }

    #[test]
    fn a_change_of_state_keeps_the_figures_of_lives_that_go_on() {
        let api = UnitView { pid: Some(7), cpu_ms: Some(5), memory: Some(6), ..unit("api", UnitState::Running) };
        let web = UnitView { name: "web".to_owned(), pid: Some(8), ..api.clone() };
        let mut newest = Newest { projects: vec![project(vec![api, web])] };
        let ready = UnitView { pid: Some(7), ..unit("api", UnitState::Ready) };
        let again = UnitView { pid: Some(9), ..unit("web", UnitState::Starting) };
        newest.change(project(vec![ready, again]));
        let units = &newest.projects[0].units;
        assert_eq!((units[0].state, units[0].cpu_ms, units[0].memory), (UnitState::Ready, Some(5), Some(6)));
        assert_eq!((units[1].state, units[1].cpu_ms, units[1].memory), (UnitState::Starting, None, None));
        newest.change(ProjectView { root: "/other".into(), ..project(Vec::new()) });
        assert_eq!(newest.projects.len(), 1, "a project that was not asked for");
    }
}
