//! `envctl attach`: the caller's terminal and a unit's, joined.
//!
//! ```text
//! keyboard ─▶ detach keys? ─▶ TypeIn requests, one at a time ─▶ daemon ─▶ heart ─▶ the unit's terminal
//! screen   ◀─ its log's files, from this life's last lines on ◀── "it has grown" ◀─────┘
//! ```
//!
//! It holds nothing: whoever detaches, is killed or loses the daemon leaves the unit as it is.

mod ending;
mod keyboard;
mod keys;
mod modes;
mod screen;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envctl_actors::log_stream::{Life, LogError, Raw, RawFollower, Reader};
use envctl_runtime::control::client::{Client, ClientError, Subscription};
use envctl_runtime::control::view::ProjectView;
use envctl_runtime::control::wire::{
    Attach, AttachReply, LogsGrown, ProjectRef, TYPED_MAX_BYTES, TypeIn, TypeInReply, WatchLogs, WatchProject,
};
use envctl_supervisors::Name;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::ending::{Ending, ending};
use self::keyboard::Keyboard;
use self::keys::{DetachKeys, Detector};
use self::screen::Screen;
use crate::context::{Context, Target};
use crate::error::{CliError, chain};
use crate::exit::Exit;

/// Lines of the life so far that are shown at first, so that a prompt that waits is seen.
const BACKLOG_LINES: usize = 10;
/// Keys that wait until the unit has read those before: a paste. More waits in the terminal.
const PENDING_MAX_BYTES: usize = 64 * 1024;
/// A unit that has not read for so long is taken for deaf: further keys are thrown away with a bell, for the detach keys must be heard.
const DEAF_AFTER: Duration = Duration::from_secs(1);
/// Keys taken from the terminal at once.
const KEYS_BYTES: usize = 1024;
/// Daemons tried in a row without hearing a word of the project.
const RECONNECTS_MAX: u32 = 5;
const BELL: &[u8] = b"\x07";

/// Join a unit's terminal: see what it shows, type what it reads
///
/// The unit needs `tty = true`. Several may be attached at once; the window last resized gives the size. Attaching ends with the
/// unit's life or with the detach keys, which leave it running.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub(crate) unit: String,

    /// Keys that detach: characters and `ctrl-` with one, separated by commas
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: DetachKeys,
}

/// One thing that happened.
enum Happened {
    Keys(std::io::Result<usize>),
    Typed(Result<TypeInReply, ClientError>),
    View(Box<ProjectView>),
    Grown,
    Resized,
    /// The unit does not read.
    Deaf,
    /// Somebody wants this command, not the unit, to end.
    Told,
    /// The daemon ended a stream: the project is gone from it.
    Gone,
    Lost(ClientError),
}

/// How it ends.
enum Leave {
    Detached(Exit),
    Ended(Ending),
}

/// A piece on its way to the unit.
struct Typing {
    taken: Pin<Box<dyn Future<Output = Result<TypeInReply, ClientError>>>>,
    bytes: usize,
    deaf_at: Instant,
}

/// The daemon as it is used here; replaced when it dies.
struct Link {
    client: Arc<Client>,
    views: Subscription<ProjectView>,
    grown: Subscription<LogsGrown>,
    typing: Option<Typing>,
    reconnects: u32,
}

/// What is heard on this side.
struct Desk {
    keyboard: Keyboard,
    resized: Signal,
    told: [Signal; 4],
}

/// What the loop holds.
struct Attached<'a> {
    context: &'a Context,
    project: ProjectRef,
    unit: String,
    joined: AttachReply,
    log: RawFollower,
    screen: Screen,
    detector: Detector,
    pending: Vec<u8>,
    /// Whether keys are heard although there is no room for them.
    deaf: bool,
    /// Keys that the unit never got, because it does not read.
    dropped: usize,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    check_terminal(context, &args.unit)?;
    let target = context.locate().await?;
    let (client, view) = context.running(&target).await?;
    target.check_units(std::slice::from_ref(&args.unit), Some(&view))?;
    let joined = client.request(join(&target.reference, &args.unit)).await?;
    let log = open_log(context, &target, &args.unit, &joined)?;
    let (project, unit) = (target.reference, args.unit);
    let mut link = Link::new(Arc::new(client), &project, &unit).await?;
    let mut desk = Desk::new()?;
    context.output.say(&format!("attached to {unit}; {} detaches", args.detach_keys));
    let detector = Detector::new(args.detach_keys);
    let screen = Screen::enter()?;
    let mut attached = Attached {
        context,
        project,
        unit,
        joined,
        log,
        screen,
        detector,
        pending: Vec::new(),
        deaf: false,
        dropped: 0,
    };
    let left = attached.work(&mut link, &mut desk).await;
    let Attached { screen, unit, dropped, .. } = attached;
    // Talk comes after the terminal is as it was.
    drop(screen);
    if dropped > 0 {
        context.output.warn(&format!("{dropped} bytes that were typed never reached {unit}: it does not read"));
    }
    match left? {
        Leave::Detached(exit) => {
            context.output.say(&format!("\ndetached from {unit}, which runs on"));
            Ok(exit)
        }
        Leave::Ended(ending) => {
            context.output.say(&format!("\n{ending}"));
            Ok(Exit::Ok)
        }
    }
}

fn check_terminal(context: &Context, unit: &str) -> Result<(), CliError> {
    use std::io::IsTerminal as _;
    let wrong = |message: &str| {
        Err(CliError::new("usage", message)
            .hint(format!("`envctl logs -f --raw {unit}` shows what it writes, wherever that goes")))
    };
    if context.output.json {
        return wrong("attach joins two terminals and has no JSON");
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return wrong("attach needs a terminal as its input and output");
    }
    Ok(())
}

fn join(project: &ProjectRef, unit: &str) -> Attach {
    let size = screen::size();
    Attach { project: project.clone(), unit: unit.to_owned(), rows: size.rows, columns: size.columns }
}

fn open_log(context: &Context, target: &Target, unit: &str, joined: &AttachReply) -> Result<RawFollower, CliError> {
    let name = Name::new(unit).map_err(|error| CliError::new("not-found", error.to_string()))?;
    let dir = context.target_places(target)?.logs(&name);
    let life = Life { run: joined.run, incarnation: joined.incarnation };
    Reader::open(&dir).follow_raw(life, BACKLOG_LINES).map_err(|error| unreadable(unit, &error))
}

fn unreadable(unit: &str, error: &LogError) -> CliError {
    CliError::new("io", format!("what {unit} shows cannot be read: {}", chain(error)))
}

// === impl Link ===

impl Link {
    async fn new(client: Arc<Client>, project: &ProjectRef, unit: &str) -> Result<Self, ClientError> {
        let grown = WatchLogs { project: project.clone(), units: vec![unit.to_owned()] };
        let grown = client.subscribe(grown).await?;
        let views = client.subscribe(WatchProject { project: project.clone() }).await?;
        Ok(Self { client, views, grown, typing: None, reconnects: 0 })
    }
}

// === impl Desk ===

impl Desk {
    fn new() -> std::io::Result<Self> {
        use SignalKind as Kind;
        Ok(Self {
            keyboard: Keyboard::open()?,
            resized: signal(Kind::window_change())?,
            told: [
                signal(Kind::terminate())?,
                signal(Kind::hangup())?,
                signal(Kind::interrupt())?,
                signal(Kind::quit())?,
            ],
        })
    }
}

/// Any of the signals that ask a program to end.
async fn any(signals: &mut [Signal; 4]) {
    let [one, two, three, four] = signals;
    tokio::select! {
        _ = one.recv() => {}
        _ = two.recv() => {}
        _ = three.recv() => {}
        _ = four.recv() => {}
    }
}

// === impl Attached ===

impl Attached<'_> {
    async fn work(&mut self, link: &mut Link, desk: &mut Desk) -> Result<Leave, CliError> {
        let backlog = self.log.backlog(BACKLOG_LINES).map_err(|error| unreadable(&self.unit, &error))?;
        self.screen.show(&backlog)?;
        let mut keys = [0; KEYS_BYTES];
        loop {
            let hears = self.deaf || self.pending.len() < PENDING_MAX_BYTES;
            let happened = next(link, desk, hears.then_some(&mut keys)).await;
            if let Some(leave) = self.handle(happened, link, &keys).await? {
                return Ok(leave);
            }
            self.go_on_typing(link);
        }
    }

    async fn handle(&mut self, happened: Happened, link: &mut Link, keys: &[u8]) -> Result<Option<Leave>, CliError> {
        match happened {
            Happened::Keys(Ok(count @ 1..)) => return self.press(&keys[..count]),
            // The terminal is gone: so is whoever sat at it.
            Happened::Keys(_) => return Ok(Some(Leave::Detached(Exit::Ok))),
            Happened::Told => return Ok(Some(Leave::Detached(Exit::Interrupted))),
            Happened::Typed(typed) => {
                self.deaf = false;
                let bytes = link.typing.take().map_or(0, |piece| piece.bytes);
                self.typed(typed, bytes)?;
            }
            Happened::Deaf => self.deaf = true,
            Happened::View(view) => {
                link.reconnects = 0;
                return self.look(&view);
            }
            Happened::Grown => self.show()?,
            Happened::Resized => {
                // A unit that has just ended has no size; its end is on its way here.
                let resized = link.client.request(join(&self.project, &self.unit)).await;
                if let Err(error @ ClientError::Wire(_)) = resized {
                    return Err(error.into());
                }
            }
            Happened::Gone => {
                self.show()?;
                return Ok(Some(Leave::Ended(Ending::gone(&self.unit))));
            }
            Happened::Lost(ClientError::Lost) if link.reconnects < RECONNECTS_MAX => return self.rejoin(link).await,
            Happened::Lost(error) => return Err(error.into()),
        }
        Ok(None)
    }

    /// Keys: those of the detach sequence are kept back, the rest waits to be typed.
    fn press(&mut self, keys: &[u8]) -> Result<Option<Leave>, CliError> {
        let mut passed = Vec::new();
        if self.detector.take(keys, &mut passed) {
            return Ok(Some(Leave::Detached(Exit::Ok)));
        }
        if self.deaf {
            self.dropped += passed.len();
            self.screen.show(BELL)?;
        } else {
            self.pending.append(&mut passed);
        }
        Ok(None)
    }

    fn go_on_typing(&mut self, link: &mut Link) {
        if link.typing.is_some() || self.pending.is_empty() {
            return;
        }
        let rest = self.pending.split_off(self.pending.len().min(TYPED_MAX_BYTES));
        let bytes = std::mem::replace(&mut self.pending, rest).into();
        let (client, incarnation) = (Arc::clone(&link.client), self.joined.incarnation);
        let piece = TypeIn { project: self.project.clone(), unit: self.unit.clone(), incarnation, bytes };
        let bytes = piece.bytes.len();
        let taken = Box::pin(async move { client.request(piece).await });
        link.typing = Some(Typing { taken, bytes, deaf_at: Instant::now() + DEAF_AFTER });
    }

    fn typed(&mut self, typed: Result<TypeInReply, ClientError>, bytes: usize) -> Result<(), CliError> {
        match typed {
            Ok(TypeInReply { taken: true }) => Ok(()),
            Ok(TypeInReply { taken: false }) => {
                self.dropped += bytes;
                self.screen.show(BELL)
            }
            // It has ended, or the daemon has: both are told by the streams.
            Err(ClientError::Lost) => Ok(()),
            Err(ClientError::Refused(refusal)) if refusal.code != "unsupported" => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Its life is over when the daemon says so; by then all of its output is in the log.
    fn look(&mut self, view: &ProjectView) -> Result<Option<Leave>, CliError> {
        let over = ending(view, &self.unit, self.joined.incarnation);
        if over.is_some() {
            self.show()?;
        }
        Ok(over.map(Leave::Ended))
    }

    fn show(&mut self) -> Result<(), CliError> {
        while let Some(raw) = self.log.next().map_err(|error| unreadable(&self.unit, &error))? {
            match raw {
                Raw::Bytes(bytes) => self.screen.show(&bytes)?,
                Raw::Lost(bytes) => self.screen.show(format!("\r\n[{bytes} bytes are missing here]\r\n").as_bytes())?,
            }
        }
        Ok(())
    }

    /// The daemon died. Its successor has the same life, or knows that it is over.
    async fn rejoin(&mut self, link: &mut Link) -> Result<Option<Leave>, CliError> {
        let client = Arc::new(self.context.reconnect().await?);
        let reconnects = link.reconnects + 1;
        match client.request(join(&self.project, &self.unit)).await {
            Ok(joined) if joined == self.joined => {}
            // Its end is told by the first view.
            Ok(_) | Err(ClientError::Refused(_) | ClientError::Lost) => {}
            Err(error) => return Err(error.into()),
        }
        *link = Link { reconnects, ..Link::new(client, &self.project, &self.unit).await? };
        self.show()?;
        Ok(None)
    }
}

/// `keys`: where typed keys go; none while there is no room for more.
async fn next(link: &mut Link, desk: &mut Desk, keys: Option<&mut [u8; KEYS_BYTES]>) -> Happened {
    let deaf_at = link.typing.as_ref().map(|piece| piece.deaf_at).filter(|_| keys.is_none());
    let deaf = async {
        match deaf_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let typed = async {
        match &mut link.typing {
            Some(piece) => (&mut piece.taken).await,
            None => std::future::pending().await,
        }
    };
    let keyboard = &desk.keyboard;
    let typed_here = async {
        match keys {
            Some(keys) => keyboard.read(keys).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = any(&mut desk.told) => Happened::Told,
        _ = desk.resized.recv() => Happened::Resized,
        typed = typed => Happened::Typed(typed),
        view = link.views.next() => match view {
            Some(Ok(view)) => Happened::View(Box::new(view)),
            Some(Err(error)) => Happened::Lost(error),
            None => Happened::Gone,
        },
        grown = link.grown.next() => match grown {
            Some(Ok(_)) => Happened::Grown,
            Some(Err(error)) => Happened::Lost(error),
            None => Happened::Gone,
        },
        read = typed_here => Happened::Keys(read),
        () = deaf => Happened::Deaf,
    }
}
