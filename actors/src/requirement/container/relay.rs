//! The relay: the process that stands for a unit's containers, as a child of heart like every other main process.
//!
//! ```text
//! container ──output──▶ engine ──attach──▶ relay ──▶ the unit's FIFOs
//! TERM to the relay ──▶ stop of the containers; their end is its end, their code is its code
//! ```
//!
//! It is told ids and names alone, no secret. The driver starts the containers, once it listens; it starts again by itself, a few
//! times, what only stands before others (an auth server, a gateway), so that the database behind stays as it is. While the engine
//! is gone it waits for it: whether the containers live on is not known before the engine is back.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::{AttachContainerOptionsBuilder, LogsOptionsBuilder, WaitContainerOptionsBuilder};
use futures::stream::BoxStream;
use futures::{StreamExt, future};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::engine::Engine;
use super::error::EngineError;
use super::find::Address;

/// The hidden subcommand's name.
pub const SUBCOMMAND: &str = "container-relay";
/// The relay itself failed, as `docker run` has it.
pub const FAILED: u8 = 125;

/// How long a container whose output has ended may take to be over; after that it is taken for one that lives on.
const OVER_WITHIN: Duration = Duration::from_secs(1);
/// Pause before the engine is asked again whether it is back; doubles with each.
const BACK_MIN: Duration = Duration::from_millis(100);
/// Longest such pause.
const BACK_MAX: Duration = Duration::from_secs(2);
/// The engine kills so much later than the life would: whoever looks after the life is to be the one that does.
const GRACE_EXTRA: Duration = Duration::from_secs(1);

/// Pause before a container is started again, times the number of that start.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);

/// What the relay is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Where the engine listens.
    pub address: Address,
    /// Ids of the containers, in the order of their start.
    pub containers: Vec<String>,
    /// Milliseconds the containers have to end when they are asked to.
    pub grace_ms: u64,
    /// What each is called.
    #[serde(default)]
    pub names: Vec<String>,
    /// How often each is started again by itself before its end is the end of all.
    #[serde(default)]
    pub restarts: Vec<u32>,
}

/// The end of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With this code.
    Code(i64),
    /// Somebody removed it.
    Gone,
}

/// The unit's two FIFOs.
#[derive(Debug, Clone)]
struct Outputs {
    out: Arc<Mutex<Sender>>,
    err: Arc<Mutex<Sender>>,
}

/// What it listens to.
struct Signals {
    terminate: Signal,
    others: Vec<(i32, Signal)>,
}

/// All containers, and what is done with them.
struct Relay {
    engine: Engine,
    order: Order,
    outputs: Outputs,
    /// One for each container that has not ended.
    followers: JoinSet<(usize, End)>,
    ends: Vec<Option<End>>,
    /// How often each has been started again.
    restarted: Vec<u32>,
    /// What the engine is asked to do meanwhile.
    errands: JoinSet<Result<(), EngineError>>,
    is_stopping: bool,
    /// Whether somebody asked for the end: then nobody needs to look at what is left.
    was_asked: bool,
}

/// Runs the relay; gives its exit code.
pub fn main(args: &[OsString]) -> u8 {
    let order = args.first().and_then(|arg| arg.to_str()).and_then(|text| serde_json::from_str::<Order>(text).ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Some(order), Ok(runtime)) = (order, runtime) else { return FAILED };
    runtime.block_on(async {
        // From before anything else: a signal that came meanwhile would end the relay and leave the containers.
        let (Ok(signals), Ok(outputs)) = (Signals::new(), Outputs::new()) else { return FAILED };
        match Relay::start(order, outputs.clone()).await {
            Ok(relay) => relay.run(signals).await,
            Err(error) => {
                outputs.say(&format!("failed to {error}")).await;
                FAILED
            }
        }
    })
}

// === impl Relay ===

impl Relay {
    async fn start(order: Order, outputs: Outputs) -> Result<Self, String> {
        let engine = Engine::at(&order.address).map_err(|error| error.to_string())?;
        engine.ping().await.map_err(|error| error.to_string())?;
        let mut followers = JoinSet::new();
        for (at, id) in order.containers.iter().cloned().enumerate() {
            let (engine, outputs) = (engine.clone(), outputs.clone());
            followers.spawn(async move { (at, follow(&engine, &id, &outputs).await) });
        }
        let ends = vec![None; order.containers.len()];
        let errands = JoinSet::new();
        let restarted = vec![0; order.containers.len()];
        Ok(Self { engine, order, outputs, followers, ends, restarted, errands, is_stopping: false, was_asked: false })
    }

    /// Starts a container again that has ended, if it may be; the others stay as they are.
    async fn again(&mut self, at: usize, end: End) -> bool {
        let allowed = self.order.restarts.get(at).copied().unwrap_or_default();
        let (End::Code(code), false, true) = (end, self.is_stopping, self.restarted[at] < allowed) else {
            return false;
        };
        self.restarted[at] += 1;
        let number = self.restarted[at];
        let name = self.order.names.get(at).map_or("a container", String::as_str).to_owned();
        self.outputs
            .say(&format!("{name} has ended with {code}: it alone is started again ({number} of {allowed})"))
            .await;
        let (engine, outputs, id) = (self.engine.clone(), self.outputs.clone(), self.order.containers[at].clone());
        let pause = AGAIN_PAUSE.saturating_mul(number);
        self.followers.spawn(async move {
            sleep(pause).await;
            (at, follow_again(&engine, &id, &outputs).await)
        });
        true
    }

    /// Runs to the end of all containers; gives the exit code.
    async fn run(mut self, mut signals: Signals) -> u8 {
        let relay = &mut self;
        let mut first = None;
        while !(relay.followers.is_empty() && relay.errands.is_empty()) {
            tokio::select! {
                biased;
                Some(signal) = signals.next() => relay.signalled(signal),
                Some(ended) = relay.followers.join_next() => {
                    let Ok((at, end)) = ended else { return FAILED };
                    if relay.again(at, end).await {
                        continue;
                    }
                    relay.ends[at] = Some(end);
                    first.get_or_insert(end);
                    // They live and end together.
                    relay.stop();
                }
                Some(errand) = relay.errands.join_next() => {
                    if let Ok(Err(error)) = errand {
                        relay.outputs.say(&format!("failed to {error}")).await;
                        if relay.is_stopping && error.is_gone() {
                            return FAILED;
                        }
                    }
                }
            }
        }
        if relay.was_asked {
            // Also where no daemon is left to do it; what cannot be removed now is removed at the next start.
            future::join_all(relay.order.containers.iter().map(|id| relay.engine.remove(id))).await;
        }
        code_of(first)
    }

    fn signalled(&mut self, signal: i32) {
        if signal == libc::SIGTERM {
            self.was_asked = true;
            return self.stop();
        }
        // The last is the one that others talk to.
        let Some(id) = self.order.containers.last().cloned() else { return };
        let engine = self.engine.clone();
        self.errands.spawn(async move { engine.kill(&id, signal).await });
    }

    /// Asks all that have not ended to end, once.
    fn stop(&mut self) {
        if std::mem::replace(&mut self.is_stopping, true) {
            return;
        }
        let grace = Duration::from_millis(self.order.grace_ms).saturating_add(GRACE_EXTRA);
        for (id, end) in self.order.containers.iter().zip(&self.ends) {
            if end.is_none() {
                let (engine, id) = (self.engine.clone(), id.clone());
                self.errands.spawn(async move {
                    match engine.stop(&id, grace).await {
                        Err(EngineError::NotFound { .. }) => Ok(()),
                        result => result,
                    }
                });
            }
        }
    }
}

/// The code of the container that ended first is the relay's.
fn code_of(first: Option<End>) -> u8 {
    match first {
        Some(End::Code(code)) => u8::try_from(code & 0xff).unwrap_or(FAILED),
        Some(End::Gone) | None => FAILED,
    }
}

/// Carries a container's output until the container has ended.
async fn follow(engine: &Engine, id: &str, outputs: &Outputs) -> End {
    let stream = attach(engine, id).await;
    carry(engine, id, outputs, stream).await
}

/// Starts a container that has ended, and carries its output until it has again.
async fn follow_again(engine: &Engine, id: &str, outputs: &Outputs) -> End {
    let stream = attach(engine, id).await;
    if let Err(error) = engine.start(id).await {
        outputs.say(&format!("failed to {error}")).await;
        return End::Code(FAILED.into());
    }
    carry(engine, id, outputs, stream).await
}

async fn carry(engine: &Engine, id: &str, outputs: &Outputs, mut stream: Result<Stream, Error>) -> End {
    let (mut pause, mut lost) = (BACK_MIN, None);
    loop {
        if let Ok(stream) = &mut stream {
            while let Some(Ok(output)) = stream.next().await {
                outputs.write(output).await;
                (pause, lost) = (BACK_MIN, None);
            }
        }
        // What it says before we are there again is newer than this, however long that takes.
        let since = *lost.get_or_insert_with(Timestamp::now);
        // Output that ends while the container does not: the connection was cut, or the engine is gone.
        if let Ok(Ok(end)) = timeout(OVER_WITHIN, wait(engine, id)).await {
            return end;
        }
        sleep(pause).await;
        pause = (pause * 2).min(BACK_MAX);
        stream = resume(engine, id, since).await;
    }
}

type Stream = BoxStream<'static, Result<LogOutput, Error>>;

/// All output from now on; a container that has not been started yet gives all it ever says.
async fn attach(engine: &Engine, id: &str) -> Result<Stream, Error> {
    let options = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true).build();
    Ok(engine.docker().attach_container(id, Some(options)).await?.output)
}

/// The output since the connection was lost. The engine keeps a little of it for this.
async fn resume(engine: &Engine, id: &str, lost: Timestamp) -> Result<Stream, Error> {
    let seconds = i32::try_from(lost.as_second()).unwrap_or(i32::MAX);
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).timestamps(true);
    let stream = engine.docker().logs(id, Some(options.since(seconds).tail("all").build()));
    let later = move |output: Result<LogOutput, Error>| {
        let kept = match output {
            Ok(output) => later_than(output, lost).map(Ok),
            Err(error) => Some(Err(error)),
        };
        future::ready(kept)
    };
    Ok(stream.filter_map(later).boxed())
}

/// Takes the time off the front of a record; `None`: it was there before.
fn later_than(output: LogOutput, lost: Timestamp) -> Option<LogOutput> {
    let cut = |message: &bytes::Bytes| {
        let space = memchr::memchr(b' ', message)?;
        let time: Timestamp = std::str::from_utf8(&message[..space]).ok()?.parse().ok()?;
        (time > lost).then(|| message.slice(space + 1..))
    };
    Some(match output {
        LogOutput::StdErr { message } => LogOutput::StdErr { message: cut(&message)? },
        LogOutput::StdOut { message } => LogOutput::StdOut { message: cut(&message)? },
        LogOutput::Console { message } => LogOutput::Console { message: cut(&message)? },
        LogOutput::StdIn { .. } => return None,
    })
}

/// Waits until a container is over.
async fn wait(engine: &Engine, id: &str) -> Result<End, Error> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    match Box::pin(engine.docker().wait_container(id, Some(options))).next().await {
        Some(Ok(answer)) => Ok(End::Code(answer.status_code)),
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(End::Code(code)),
        Some(Err(Error::DockerResponseServerError { status_code: 404, .. })) => Ok(End::Gone),
        Some(Err(error)) => Err(error),
        None => Err(Error::RequestTimeoutError),
    }
}

// === impl Outputs ===

impl Outputs {
    /// The two FIFOs as heart has opened them for us; a copy of each descriptor, so that nothing is closed at the end.
    fn new() -> io::Result<Self> {
        let sender = |fd: std::os::fd::BorrowedFd<'_>| {
            Ok::<_, io::Error>(Arc::new(Mutex::new(Sender::from_owned_fd(fd.try_clone_to_owned()?)?)))
        };
        Ok(Self { out: sender(io::stdout().as_fd())?, err: sender(io::stderr().as_fd())? })
    }

    async fn write(&self, output: LogOutput) {
        let (to, bytes) = match output {
            LogOutput::StdErr { message } => (&self.err, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => (&self.out, message),
            LogOutput::StdIn { .. } => return,
        };
        // A FIFO has no reader's end that could go away: heart and daemon hold it, and so do we.
        let _ = to.lock().await.write_all(&bytes).await;
    }

    /// A word of our own, in the unit's log.
    async fn say(&self, text: &str) {
        let _ = self.err.lock().await.write_all(format!("envctl: {text}\n").as_bytes()).await;
    }
}

// === impl Signals ===

impl Signals {
    fn new() -> io::Result<Self> {
        let passed = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];
        let listen = |number: &i32| Ok::<_, io::Error>((*number, signal(SignalKind::from_raw(*number))?));
        let others = passed.iter().map(listen).collect::<Result<_, _>>()?;
        Ok(Self { terminate: signal(SignalKind::terminate())?, others })
    }

    /// The next one. Cancel-safe.
    async fn next(&mut self) -> Option<i32> {
        let Self { terminate, others } = self;
        let others = future::select_all(
            others.iter_mut().map(|(number, signal)| Box::pin(async move { signal.recv().await.map(|()| *number) })),
        );
        tokio::select! {
            Some(()) = terminate.recv() => Some(libc::SIGTERM),
            (number, ..) = others => number,
        }
    }
}
