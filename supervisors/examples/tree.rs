//! A supervisor below a supervisor, and a significant child: what fails inside stays inside, and the inner supervisor
//! ends with its job.
//!
//! ```text
//! app ─┬─ clock
//!      └─ import (a supervisor) ─┬─ cache
//!                                └─ job (significant)
//!
//! cargo run -p envctl-supervisors --example tree
//! ```

mod report;

use std::error::Error;
use std::time::Duration;

use envctl_supervisors::Name;
use envctl_supervisors::engine::What;
use envctl_supervisors::reason::StartError;
use envctl_supervisors::shell::{StartContext, Supervisor, SupervisorHandle, SupervisorSpec};
use envctl_supervisors::spec::{AutoShutdown, ChildSpec, Flags, Incarnation, Restart, Strategy};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use report::Printer;
use tokio::sync::watch;

/// For the stop of everything.
const DEADLINE: Duration = Duration::from_secs(10);

/// An actor that ends as it is told.
struct Worker;

/// How it is to end.
enum End {
    /// With an error.
    Crash,
    /// Normally.
    Finish,
}

/// Where the inner supervisor's handle is found, whichever life it is in.
type Inner = watch::Sender<Option<SupervisorHandle>>;

// === impl Worker ===

impl Actor for Worker {
    type Msg = End;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<End>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, myself: ActorRef<End>, end: End, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match end {
            End::Crash => Err("a malformed line".into()),
            End::Finish => {
                myself.stop(None);
                Ok(())
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (found, inner) = watch::channel(None);
    let app = Supervisor::start(app(found)?, None).await?;
    let import = inner.borrow().clone().ok_or("the inner supervisor does not run")?;
    let (mut outer, mut inner) = (Printer::new(&app), Printer::new(&import));

    report::scene("both supervisors start their children; the outer one waits for the inner");
    inner.until("job", What::Started).await;
    outer.until("import", What::Started).await;

    report::scene("cache crashes: rest_for_one takes job along, and the outer supervisor hears nothing of it");
    tell(&import, "cache", End::Crash).await?;
    inner.until("job", What::Started).await;

    report::scene("job finishes: it is significant, so the inner supervisor ends, and is not started again");
    tell(&import, "job", End::Finish).await?;
    inner.rest().await;
    report::say_why_it_ended(&import).await;
    outer.until("import", What::Done).await;

    report::scene("the outer supervisor is stopped");
    app.stop(DEADLINE).await?;
    outer.rest().await;
    report::say_why_it_ended(&app).await;
    Ok(())
}

/// The outer supervisor. Its child `import` is transient: a supervisor that ended with its significant children ended
/// normally.
fn app(found: Inner) -> Result<SupervisorSpec, Box<dyn Error>> {
    let import = ChildSpec { restart: Restart::Transient, ..ChildSpec::supervisor(Name::new("import")?) };
    let start_import = move |_: Incarnation, context: StartContext| start_import(found.clone(), context);
    Ok(SupervisorSpec::new(Name::new("app")?, Strategy::OneForOne)
        .actor(ChildSpec::otp(Name::new("clock")?), |_| (Worker, ()))
        .child(import, start_import))
}

/// One life of the inner supervisor.
async fn start_import(found: Inner, context: StartContext) -> Result<Option<ActorCell>, StartError> {
    let name = |text| Name::new(text).map_err(|error| failed(error.to_string()));
    let flags = Flags { auto_shutdown: AutoShutdown::AnySignificant, ..Flags::otp(Strategy::RestForOne) };
    let job = ChildSpec { restart: Restart::Transient, significant: true, ..ChildSpec::otp(name("job")?) };
    let spec = SupervisorSpec::new(context.id().clone(), Strategy::RestForOne)
        .flags(flags)
        .actor(ChildSpec::otp(name("cache")?), |_| (Worker, ()))
        .actor(job, |_| (Worker, ()));
    let supervisor = Supervisor::start(spec, Some(context.supervisor())).await;
    let supervisor = supervisor.map_err(|error| failed(error.to_string()))?;
    found.send_replace(Some(supervisor.clone()));
    Ok(Some(supervisor.cell()))
}

fn failed(message: String) -> StartError {
    StartError { message, hint: None, retry: true }
}

async fn tell(supervisor: &SupervisorHandle, id: &str, end: End) -> Result<(), Box<dyn Error>> {
    let child = supervisor.which_child(&Name::new(id)?).await?;
    child.actor.ok_or("it does not run")?.send_message(end)?;
    Ok(())
}
