//! Three plain actors that are restarted together: one crashes, then crashes too often, and at last all end in order.
//!
//! ```text
//! cargo run -p envctl-supervisors --example one_for_all
//! ```

mod report;

use std::error::Error;
use std::time::Duration;

use envctl_supervisors::Name;
use envctl_supervisors::engine::What;
use envctl_supervisors::shell::{Supervisor, SupervisorHandle, SupervisorSpec};
use envctl_supervisors::spec::{ChildSpec, Strategy};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use report::Printer;

/// Restarts allowed, and within what time.
const INTENSITY: (u32, Duration) = (1, Duration::from_secs(10));
/// For the stop of everything; each child has its own shutdown time within it.
const DEADLINE: Duration = Duration::from_secs(10);

/// An actor that does nothing but crash when it is told to.
struct Stage;

/// What it is told.
struct Crash;

// === impl Stage ===

impl Actor for Stage {
    type Msg = Crash;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Crash>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Crash>, _: Crash, (): &mut ()) -> Result<(), ActorProcessingErr> {
        Err("a malformed line".into())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (pipeline, mut printer) = start().await?;

    report::scene("filter crashes: the others go down in reverse order, and all come up in order");
    crash(&pipeline, "filter").await?;
    printer.until("sink", What::Started).await;

    report::scene("filter crashes again: that is one restart too many, so the supervisor gives up");
    crash(&pipeline, "filter").await?;
    printer.rest().await;
    report::say_why_it_ended(&pipeline).await;

    let (pipeline, mut printer) = start().await?;
    report::scene("it is stopped: one child after the other, in reverse order");
    let outcomes = pipeline.stop(DEADLINE).await?;
    printer.rest().await;
    let killed = outcomes.iter().filter(|outcome| outcome.killed).count();
    report::say(&format!("{} children ended in time, {killed} had to be killed", outcomes.len() - killed));
    report::say_why_it_ended(&pipeline).await;
    Ok(())
}

/// A supervisor whose children have started.
async fn start() -> Result<(SupervisorHandle, Printer), Box<dyn Error>> {
    report::scene("the supervisor starts its children in order");
    let stage = |id| Ok::<_, Box<dyn Error>>(ChildSpec::otp(Name::new(id)?));
    let spec = SupervisorSpec::new(Name::new("pipeline")?, Strategy::OneForAll)
        .intensity(INTENSITY.0, INTENSITY.1)
        .actor(stage("source")?, |_| (Stage, ()))
        .actor(stage("filter")?, |_| (Stage, ()))
        .actor(stage("sink")?, |_| (Stage, ()));
    let pipeline = Supervisor::start(spec, None).await?;
    let mut printer = Printer::new(&pipeline);
    printer.until("sink", What::Started).await;
    Ok((pipeline, printer))
}

async fn crash(supervisor: &SupervisorHandle, id: &str) -> Result<(), Box<dyn Error>> {
    let child = supervisor.which_child(&Name::new(id)?).await?;
    child.actor.ok_or("it does not run")?.send_message(Crash)?;
    Ok(())
}
