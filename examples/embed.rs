//! Brings the quickstart up from Rust: a session of its own, in this process, without a daemon.
//!
//! ```text
//! cargo run --example embed
//! ```
//!
//! The session's directories are temporary, its processes are this program's, and all of it is gone at the end.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use envctl_runtime::control::view::ProjectState;
use envctl_runtime::control::wire::{ProjectRef, Up, WatchProject};
use envctl_runtime::places::{Places, PlacesInput};
use envctl_runtime::session::{Session, SessionOptions, Spawner};
use envctl_supervisors::Name;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart").canonicalize()?;

    // A library reads no environment: the program says where things are and what units inherit.
    let places = Places::isolated(&PlacesInput {
        uid: nix::unistd::geteuid().as_raw(),
        session: Name::new("embedded")?,
        runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").map(Into::into),
        state_home: home.path().to_owned(),
        state_override: None,
    })?;
    let runtime_dir = places.runtime_dir().to_owned();
    let options = SessionOptions { places, spawner: Spawner::Direct { stub: None }, idle_after: None };
    let session = Session::start(options).await?;

    let client = session.client().await?;
    let project = ProjectRef { root };
    let environment = [(b"PATH".to_vec().into(), b"/usr/local/bin:/usr/bin:/bin".to_vec().into())];
    let up = Up {
        project: project.clone(),
        file: None,
        user_config: None,
        units: vec![],
        no_deps: false,
        environment: environment.into(),
    };
    let reply = client.request(up).await?;
    println!("run {} of {} began", reply.run, reply.project);

    let mut states = client.subscribe(WatchProject { project }).await?;
    while let Some(view) = states.next().await {
        let view = view?;
        let units: Vec<String> = view.units.iter().map(|u| format!("{} {}", u.name, u.state.as_str())).collect();
        println!("{}: {}", view.state.as_str(), units.join(", "));
        if matches!(view.state, ProjectState::Up | ProjectState::Failed) {
            break;
        }
    }

    let escaped = session.shutdown().await?;
    println!("down; escaped: {escaped:?}");
    std::fs::remove_dir_all(runtime_dir)?;
    Ok(())
}
