//! The actor of a requirement's one life: prepares its directory, then lives like a service.
//!
//! ```text
//! native     locate ─▶ plan ─▶ prepare ─▶ the server
//! container  a relay of ours, and containers that it stands for: see `container`
//! external   a stand-in that waits for its end ─▶ the server elsewhere is asked
//! ```

use std::ffi::OsString;
use std::sync::Arc;

use envctl_supervisors::reason::StartError;

use super::container::{self, Contained};
use super::execute::Obstacle;
use super::external::Elsewhere;
use super::plan::{After, Plan, Wanted};
use super::preset::{HOST, NoValue};
use super::share::{self, Part};
use super::{choose_rights, data_version, execute, external, locate, native};
use crate::probe::{ExecRunner, Purpose};
use crate::process::life::{end_strays, sweep};
use crate::process::{Command, Limits, Role, Scope};
use crate::unit::{Asked, Begin, Kind, Prepared, UnitActor, UnitArgs, UnitReport};

/// A requirement's one life.
pub struct Requirement {
    /// What is wanted; the rights are chosen when it starts.
    pub wanted: Wanted,
    /// Where binaries are looked for: the caller's `PATH`.
    pub path: OsString,
    /// What its server may use. What prepares it is not limited: it is no part of the unit's life.
    pub limits: Limits,
    /// The server somewhere else, if it is one.
    pub elsewhere: Option<Elsewhere>,
    /// Its database there, if that server is one of ours which is shared.
    pub part: Option<Part>,
    /// Its containers, if it may be run in some.
    pub contained: Option<Contained>,
    /// Whether it is run in nothing else; else in them where its programs are not on this machine.
    pub is_contained: bool,
}

/// The actor of a requirement's one life.
pub type RequirementActor = UnitActor<Requirement>;

// === impl Requirement ===

impl Kind for Requirement {
    async fn prepare(mut self, args: Arc<UnitArgs>) -> Result<Prepared, StartError> {
        let runner = args.runner.with_role(Role::Step) as Arc<dyn ExecRunner>;
        if let Some(elsewhere) = &self.elsewhere {
            let prepared = external::prepared(elsewhere, &self.wanted)?;
            return match self.part.take() {
                None => Ok(prepared),
                Some(part) => on_shared(part, (self.wanted, &self.path), prepared, (runner, args)).await,
            };
        }
        let limits = self.limits;
        let plan = match self.plan(&*runner, args.begin).await? {
            Way::Native(plan) => *plan,
            Way::Contained(contained, wanted) => return in_containers(*contained, &wanted, runner, args).await,
        };
        if args.begin == Begin::Spawn {
            prepare(&plan, &*runner, &args).await?;
        }
        let asked = Asked { purpose: Purpose::Ready, probe: plan.probe, schedule: plan.schedule };
        let after_ready = after_ready(plan.after_ready, runner, args);
        Ok(Prepared {
            asked: vec![asked],
            after_ready: Some(after_ready),
            stop: Some(plan.stop),
            ..Prepared::new(Command { limits, ..plan.main })
        })
    }
}

/// How a requirement is run, once that is settled.
enum Way {
    /// By programs of this machine.
    Native(Box<Plan>),
    /// In containers.
    Contained(Box<Contained>, Box<Wanted>),
}

impl Requirement {
    async fn plan(mut self, runner: &dyn ExecRunner, begin: Begin) -> Result<Way, StartError> {
        let contained = self.contained.take().map(Box::new);
        if self.is_contained {
            let none = || native::no_value(NoValue("container".to_owned()));
            return Ok(Way::Contained(contained.ok_or_else(none)?, Box::new(self.wanted)));
        }
        let Wanted { preset, version, data_dir, .. } = &self.wanted;
        // With several versions installed, data that is there decides.
        let version = version.clone().or_else(|| data_version(preset, data_dir));
        let binaries = match (locate(preset, version.as_deref(), &self.path), contained) {
            (Ok(binaries), _) => binaries,
            // What is not on this machine is run in a container, if there is an engine; else the first word stands. What runs
            // already can be nothing else.
            (Err(_), Some(contained)) if begin == Begin::Attach || contained.has_engine().await => {
                return Ok(Way::Contained(contained, Box::new(self.wanted)));
            }
            (Err(missing), _) => return Err(missing.into()),
        };
        if let Some(native) = preset.native.as_ref().filter(|native| native.refuses_root) {
            self.wanted.run_as = choose_rights(&native.accounts, runner).await?;
        }
        native::plan(&self.wanted, &binaries).map(|plan| Way::Native(Box::new(plan)))
    }
}

/// A life on a shared server: once that is up, its database is made before it may be called ready.
async fn on_shared(
    part: Part,
    (wanted, path): (Wanted, &OsString),
    prepared: Prepared,
    (runner, args): (Arc<dyn ExecRunner>, Arc<UnitArgs>),
) -> Result<Prepared, StartError> {
    let work = share::works(&wanted, &part, path).map_err(native::no_value)?;
    if args.begin == Begin::Spawn
        && let Some(server) = part.server
    {
        let text = "waiting for the server that is shared".to_owned();
        (args.report)(UnitReport::Preparing { text, is_news: false });
        server().await?;
    }
    // Only what has been done to the database is kept there; it may have been dropped with that.
    let made = tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(&wanted.data_dir).await;
    made.map_err(|error| StartError {
        message: format!("make {}: {error}", wanted.data_dir.display()),
        hint: Some("check the permissions of the state directory".to_owned()),
        retry: true,
    })?;
    Ok(Prepared { after_ready: Some(after_ready(work, runner, args)), ..prepared })
}

/// A life in containers is asked and finished in the words of its preset, like one of this machine.
async fn in_containers(
    contained: Contained,
    wanted: &Wanted,
    runner: Arc<dyn ExecRunner>,
    args: Arc<UnitArgs>,
) -> Result<Prepared, StartError> {
    let asked = &wanted.preset.probe;
    let port = wanted.ports.get(asked.port()).copied().unwrap_or_default();
    let no_command = |_: &[_]| Err(NoValue("tool".to_owned()));
    let probe = native::probe(asked, &wanted.scope, (HOST, port), false, no_command).map_err(native::no_value)?;
    let work = native::after_ready(wanted, &wanted.scope).map_err(native::no_value)?;
    let asked = vec![Asked { purpose: Purpose::Ready, probe, schedule: native::schedule() }];
    let after_ready = after_ready(work, runner, Arc::clone(&args));
    container::prepare(contained, &args, asked, Some(after_ready)).await
}

/// Prepares. What is in the way and provably of this unit (a server that an earlier daemon left) is ended in order first;
/// anybody else is named.
async fn prepare(plan: &Plan, runner: &dyn ExecRunner, args: &UnitArgs) -> Result<(), StartError> {
    let obstacle = match execute::prepare(plan, runner).await {
        Ok(()) => return Ok(()),
        Err(Obstacle::Failed(error)) => return Err(error),
        Err(obstacle) => obstacle,
    };
    let (processes, proof) = (&args.processes, &args.manners.proof);
    tracing::info!(unit = %args.tag.unit, ?obstacle, "something is in the way");
    end_strays(processes, proof).await;
    sweep(processes, proof, Scope::All).await;
    let Err(obstacle) = execute::prepare(plan, runner).await else { return Ok(()) };
    if let Obstacle::PortTaken { port, owner } = &obstacle {
        (args.report)(UnitReport::PortTaken { port: *port, owner: owner.clone() });
    }
    Err(obstacle.into())
}

/// What comes after the first good answer; failures that leave the server usable are told.
fn after_ready(work: Vec<After>, runner: Arc<dyn ExecRunner>, args: Arc<UnitArgs>) -> crate::unit::AfterReady {
    Box::pin(async move {
        let soft = execute::run_after_ready(&work, &*runner).await.map_err(|error| error.to_string())?;
        if !soft.is_empty() {
            (args.report)(UnitReport::Degraded(soft));
        }
        Ok(())
    })
}
