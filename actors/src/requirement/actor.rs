//! The actor of a requirement's one life: prepares its directory, then lives like a service.

use std::ffi::OsString;
use std::sync::Arc;

use envctl_supervisors::reason::StartError;

use super::plan::{Plan, PresetKind, Wanted};
use super::{choose_rights, data_version, execute, locate, plan};
use crate::probe::{ExecRunner, Purpose};
use crate::process::{Command, Limits, Role, Scope};
use crate::unit::{Asked, Begin, Kind, Prepared, UnitActor, UnitArgs};

/// A requirement's one life.
#[derive(Debug)]
pub struct Requirement {
    /// What is wanted; the rights are chosen when it starts.
    pub wanted: Wanted,
    /// Where binaries are looked for: the caller's `PATH`.
    pub path: OsString,
    /// What its server may use. What prepares it is not limited: it is no part of the unit's life.
    pub limits: Limits,
}

/// The actor of a requirement's one life.
pub type RequirementActor = UnitActor<Requirement>;

// === impl Requirement ===

impl Kind for Requirement {
    async fn prepare(self, args: UnitArgs) -> Result<Prepared, StartError> {
        let runner = args.runner.with_role(Role::Step) as Arc<dyn ExecRunner>;
        let limits = self.limits;
        let plan = self.plan(&*runner).await?;
        if args.begin == Begin::Spawn {
            execute::prepare(&plan, &*runner).await?;
        }
        let asked = Asked { purpose: Purpose::Ready, probe: plan.probe, schedule: plan.schedule };
        let after = plan.after_ready;
        let after_ready =
            Box::pin(async move { execute::run_after_ready(&after).await.map_err(|error| error.to_string()) });
        Ok(Prepared {
            command: Command { limits, ..plan.main },
            asked: vec![asked],
            after_ready: Some(after_ready),
            // A server ends its own children in order; a signal to all of them would cut its work short.
            stop: Some((plan.stop_signal, Scope::Main)),
        })
    }
}

impl Requirement {
    async fn plan(mut self, runner: &dyn ExecRunner) -> Result<Plan, StartError> {
        let Wanted { preset, version, data_dir, .. } = &self.wanted;
        // With several versions installed, data that is there decides.
        let version = version.clone().or_else(|| data_version(data_dir));
        let binaries = locate(*preset, version.as_deref(), &self.path).map_err(|missing| StartError {
            message: missing.to_string(),
            hint: Some(missing.hint()),
            retry: false,
        })?;
        if *preset == PresetKind::Postgres {
            self.wanted.run_as = choose_rights(runner).await?;
        }
        Ok(plan(&self.wanted, &binaries))
    }
}
