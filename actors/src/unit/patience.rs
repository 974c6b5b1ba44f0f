//! A machine that is short of descriptors, processes or memory: no fault of the unit, so its life waits for better times.
//!
//! Nothing of it is charged to a restart budget, and no number of such failures makes a crash loop.

use std::sync::Arc;
use std::time::Duration;

use envctl_supervisors::reason::StartError;
use tokio::sync::watch;

use super::{UnitArgs, UnitReport};
use crate::process::heart::wire::Ending;
use crate::process::life::Stage;
use crate::process::spawn::SpawnError;
use crate::process::{Command, Order, Spawned};

/// Pause before the first new attempt; doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause. Attempts are cheap and few: the engine starts no more than a handful of lives at a time.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Starts a process; while the machine is short of something, again and again, until the life is not wanted any more.
pub(super) async fn spawn(
    args: &UnitArgs,
    command: Command,
    ending: Ending,
    stage: &mut watch::Receiver<Stage>,
) -> Result<Spawned, StartError> {
    let command = Arc::new(command);
    let mut pause = PAUSE_MIN;
    let mut told = None;
    loop {
        let (out, err) = (args.out.clone(), args.err.clone());
        let order = Order { tag: args.tag.clone(), command: Arc::clone(&command), out, err, ending };
        let error = match args.processes.spawn(order).await {
            Ok(spawned) => return Ok(spawned),
            Err(SpawnError::Start(error)) => return Err(error),
            Err(SpawnError::Shortage(error)) => error,
        };
        // Told once for each kind of shortage: a machine that stays short of something is no news.
        if told.as_ref() != Some(&error) {
            (args.report)(UnitReport::Short(error.clone()));
            told = Some(error);
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => pause = (pause * 2).min(PAUSE_MAX),
            Ok(_) = stage.wait_for(|stage| *stage >= Stage::Ask) => {
                let message = "start: it was stopped while this machine was short of something".to_owned();
                return Err(StartError { message, hint: None, retry: true });
            }
        }
    }
}

/// Down to half of it, so that units that failed together do not try again together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
