//! Our supervisor as a subject: all that touches the shell's interface.

use std::sync::Arc;
use std::time::Duration;

use envctl_supervisors::Name;
use envctl_supervisors::engine::Options;
use envctl_supervisors::shell::{Children, Supervisor, SupervisorHandle, SupervisorSpec};
use envctl_supervisors::spec::{ChildSpec, Flags, Intensity, Shutdown, Strategy};
use ractor::ActorCell;

use crate::witness::{Probe, Witness};
use crate::workload::{Shape, Supervision};

/// Never used up.
const INTENSITY: Intensity = Intensity { restarts: u32::MAX, period: Duration::from_secs(1) };
/// No start waits for another: neither OTP's dynamic children nor bare ractor's do.
const START_PARALLEL_MAX: usize = usize::MAX;
/// The grace of every child, as in `measure.erl`. None uses it up.
const GRACE: Duration = Duration::from_secs(5);
/// Longer than a run may take.
const DEADLINE: Duration = Duration::from_secs(3600);

/// The subject.
pub(crate) struct Ours {
    witness: Arc<Witness>,
    supervisor: SupervisorHandle,
    children: usize,
}

// === impl Ours ===

impl Ours {
    fn spec(&self) -> ChildSpec {
        ChildSpec { shutdown: Shutdown::Timeout(GRACE), ..ChildSpec::otp(name(self.children)) }
    }
}

impl Supervision for Ours {
    async fn start(shape: Shape, witness: Arc<Witness>) -> Self {
        let flags = match shape {
            Shape::Independent => Flags::dynamic(),
            Shape::Chain => Flags::otp(Strategy::OneForOne),
        };
        let flags = Flags { intensity: Some(INTENSITY), ..flags };
        let options = Options { flags, start_parallel_max: START_PARALLEL_MAX, ..Options::default() };
        let spec = SupervisorSpec::new(name(0), Strategy::OneForOne).options(options);
        let supervisor = Supervisor::start(spec, None).await.expect("invariant: no child, no fault");
        Self { witness, supervisor, children: 0 }
    }

    async fn fill(&mut self, more: usize) {
        let mut batch = Children::new();
        for _ in 0..more {
            let witness = self.witness.clone();
            batch = batch.actor(self.spec(), move |_| (Probe, witness.clone()));
            self.children += 1;
        }
        for started in self.supervisor.start_children(batch).await.expect("invariant: it runs") {
            started.expect("invariant: the specs are sound");
        }
    }

    fn cell(&self) -> ActorCell {
        self.supervisor.cell()
    }

    async fn stop(self) {
        self.supervisor.stop(DEADLINE).await.expect("invariant: nobody else stops it");
    }
}

fn name(nth: usize) -> Name {
    Name::new(&format!("child-{nth}")).expect("invariant: a word and a number are a name")
}
