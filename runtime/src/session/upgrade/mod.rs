//! `daemon upgrade`: this daemon becomes another program, in place.
//!
//! ```text
//! DaemonUpgrade ─▶ Upgrades::prepare ─▶ check: the new program proves that it can read the state ──no──▶ refusal
//!                        │ yes: answered, then ordered
//!                        ▼
//!                 replace: starts and ends come to rest, journal synced, clients cut, heart silent, logs at rest
//!                        ▼ exec, with the connection to heart and the listening socket
//!                 the new program takes everything over as after a death, and says so to heart; else heart rescues
//! ```
//!
//! Nothing of a unit is touched. What is refused has had no effect; what was ordered cannot be taken back.

pub(super) mod check;
pub(super) mod record;
pub(super) mod replace;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use envctl_actors::process::handover::HeartSaid;
use envctl_actors::process::heart::wire::HANDOVER_SINCE;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::serve::Inner;
use crate::control::view::{UpgradeOutcome, UpgradeView};
use crate::control::wire::{DaemonUpgradeReply, Refusal};
use crate::root::Root;

/// Whoever asks for upgrades in a session, and whether one is under way. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Upgrades {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How this process is replaced; none: it is not a daemon's own.
    way: OnceLock<Way>,
    /// The program of the upgrade that is under way.
    under_way: Mutex<Option<PathBuf>>,
}

#[derive(Debug)]
struct Way {
    inner: Inner,
    orders: mpsc::Sender<Order>,
}

/// An upgrade that has been checked and can be carried out.
#[derive(Debug)]
pub(super) struct Order {
    /// What becomes of it, as it is recorded.
    pub(super) upgrade: UpgradeView,
    /// The new program's arguments but for the descriptors.
    pub(super) inner: Inner,
    /// Held until the end of this process.
    _under_way: UnderWay,
}

/// An order that has not been given yet. Dropped, nothing has happened.
#[derive(Debug)]
pub struct Prepared {
    order: Order,
    orders: mpsc::Sender<Order>,
}

/// The place of the one upgrade at a time.
#[derive(Debug)]
struct UnderWay(Arc<Shared>);

/// The descriptors that a new program is handed, as one of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Descriptors {
    /// The connection to heart.
    pub(super) heart: i32,
    /// The listening control socket.
    pub(super) listener: i32,
}

// === impl Upgrades ===

impl Upgrades {
    /// Upgrades are possible from now on; the orders go to whoever runs this process.
    pub(super) fn allow(&self, inner: Inner) -> mpsc::Receiver<Order> {
        // One at a time, and none after it.
        let (orders, ordered) = mpsc::channel(1);
        let _ = self.shared.way.set(Way { inner, orders });
        ordered
    }

    /// Checks that this daemon can become `program`. Everything that can be refused is refused here.
    pub async fn prepare(&self, program: PathBuf, root: &Root) -> Result<Prepared, Refusal> {
        let Some(way) = self.shared.way.get() else { return Err(embedded()) };
        let under_way = self.enter(&program)?;
        let parts = root.parts().await?;
        let heart = parts.processes.heart_said().await.map_err(|_| crate::root::shutting_down())?;
        knows_how(&heart)?;
        let inner = way.inner.for_program(&program);
        let proof = check::ask(&program, &inner, heart.version).await.map_err(|why| refused(&program, &why))?;
        let upgrade = UpgradeView {
            id: crate::journal::new_run_id(),
            at: crate::journal::now(),
            program,
            from: crate::BUILD.to_owned(),
            to: proof.build,
            outcome: UpgradeOutcome::Begun,
            error: None,
        };
        let order = Order { upgrade, inner, _under_way: under_way };
        Ok(Prepared { order, orders: way.orders.clone() })
    }

    fn enter(&self, program: &Path) -> Result<UnderWay, Refusal> {
        let mut under_way = self.shared.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = under_way.as_ref() {
            return Err(Refusal {
                code: "busy".to_owned(),
                message: format!("another upgrade is under way, to {}", other.display()),
                hint: Some("`envctl daemon status` tells what became of it".to_owned()),
            });
        }
        *under_way = Some(program.to_owned());
        Ok(UnderWay(Arc::clone(&self.shared)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

// === impl Prepared ===

impl Prepared {
    /// What the asker is told.
    pub fn reply(&self) -> DaemonUpgradeReply {
        let UpgradeView { id, from, to, .. } = self.order.upgrade.clone();
        DaemonUpgradeReply { id, from, to }
    }

    /// Gives the order. The connection of whoever asked ends soon after.
    pub fn go(self) {
        // A daemon that is ending takes no orders.
        let _ = self.orders.try_send(self.order);
    }
}

fn embedded() -> Refusal {
    Refusal {
        code: "failed".to_owned(),
        message: "this session lives inside another program and cannot be replaced".to_owned(),
        hint: Some("upgrade and restart that program".to_owned()),
    }
}

/// A heart of an older build would take the word for nonsense, and drop the connection.
fn knows_how(heart: &HeartSaid) -> Result<(), Refusal> {
    if heart.version >= HANDOVER_SINCE {
        return Ok(());
    }
    let build = heart.build.as_ref().map(|build| format!(" ({build})")).unwrap_or_default();
    Err(Refusal {
        code: "failed".to_owned(),
        message: format!("heart, the parent of all units, is of an older build{build} that cannot pass the daemon on"),
        hint: Some("`envctl daemon stop` stops the units too; the next command then starts this build".to_owned()),
    })
}

fn refused(program: &Path, why: &str) -> Refusal {
    Refusal {
        code: "failed".to_owned(),
        message: format!("{} cannot take over: {why}", program.display()),
        hint: Some("nothing has happened; `envctl daemon upgrade --to PATH` takes another program".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b14_a_heart_of_an_older_build_is_not_asked_for_what_it_does_not_know() {
        let heart = |version| HeartSaid { version, ..HeartSaid::default() };
        let refusal = knows_how(&heart(HANDOVER_SINCE - 1)).unwrap_err();
        assert!(refusal.message.contains("older build") && refusal.hint.unwrap().contains("daemon stop"));
        assert_eq!(knows_how(&heart(HANDOVER_SINCE)), Ok(()));
    }

    #[test]
    fn b14_one_upgrade_at_a_time_and_the_place_is_free_again_after_it() {
        let upgrades = Upgrades::default();
        let first = upgrades.enter(Path::new("/one")).unwrap();
        let refusal = upgrades.enter(Path::new("/two")).unwrap_err();
        assert!(refusal.code == "busy" && refusal.message.contains("/one"));
        drop(first);
        assert!(upgrades.enter(Path::new("/two")).is_ok());
    }
}
