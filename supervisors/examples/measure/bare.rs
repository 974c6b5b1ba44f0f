//! Bare ractor: the floor under any supervisor that is built on it. No specs, no budget, no order, no reports.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorRuntime, RpcReplyPort, SupervisionEvent, call};

use crate::witness::{Probe, Witness};
use crate::workload::{Shape, Supervision};

/// The subject.
pub(crate) struct Bare {
    shape: Shape,
    witness: Arc<Witness>,
    supervisor: ActorRef<Retire>,
    /// The order of the chain.
    children: Vec<ActorCell>,
}

/// Starts a successor for every child that ends, until it is told to retire.
struct Restarter;

struct Restarting {
    witness: Arc<Witness>,
    retired: bool,
}

/// Restart nobody any more.
#[derive(Debug)]
pub(crate) struct Retire(RpcReplyPort<()>);

// === impl Bare ===

impl Supervision for Bare {
    async fn start(shape: Shape, witness: Arc<Witness>) -> Self {
        let started = Restarter::spawn(None, Restarter, witness.clone()).await;
        let (supervisor, _) = started.expect("invariant: its start cannot fail");
        Self { shape, witness, supervisor, children: Vec::new() }
    }

    /// A chain waits for each start. Without one, starts are not even asked of the supervisor: no message is quicker.
    async fn fill(&mut self, more: usize) {
        for _ in 0..more {
            let (witness, supervisor) = (self.witness.clone(), self.supervisor.get_cell());
            let child = match self.shape {
                Shape::Independent => instantly(witness, supervisor),
                Shape::Chain => Probe::spawn_linked(None, Probe, witness, supervisor).await.map(|(child, _)| child),
            };
            self.children.push(child.expect("invariant: the supervisor lives").get_cell());
        }
    }

    fn cell(&self) -> ActorCell {
        self.supervisor.get_cell()
    }

    async fn stop(self) {
        call!(self.supervisor, Retire).expect("invariant: the supervisor lives");
        match self.shape {
            Shape::Independent => {
                self.supervisor.stop_children(None);
                self.witness.gone.reached().await;
            }
            Shape::Chain => {
                for child in self.children.iter().rev() {
                    child.stop_and_wait(None, None).await.expect("invariant: nobody else stops it");
                }
            }
        }
        self.supervisor.stop_and_wait(None, None).await.expect("invariant: nobody else stops it");
    }
}

fn instantly(
    witness: Arc<Witness>,
    supervisor: ActorCell,
) -> Result<ActorRef<<Probe as Actor>::Msg>, ractor::SpawnErr> {
    ActorRuntime::spawn_linked_instant(None, Probe, witness, supervisor).map(|(child, _)| child)
}

// === impl Restarter ===

impl Actor for Restarter {
    type Msg = Retire;
    type State = Restarting;
    type Arguments = Arc<Witness>;

    async fn pre_start(&self, _: ActorRef<Retire>, witness: Arc<Witness>) -> Result<Restarting, ActorProcessingErr> {
        Ok(Restarting { witness, retired: false })
    }

    async fn handle(
        &self,
        _: ActorRef<Retire>,
        Retire(done): Retire,
        state: &mut Restarting,
    ) -> Result<(), ActorProcessingErr> {
        state.retired = true;
        Ok(done.send(())?)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Retire>,
        event: SupervisionEvent,
        state: &mut Restarting,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(..) | SupervisionEvent::ActorFailed(..) if !state.retired => {
                instantly(state.witness.clone(), myself.get_cell())?;
            }
            SupervisionEvent::ActorTerminated(..)
            | SupervisionEvent::ActorFailed(..)
            | SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}
